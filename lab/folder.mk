# SPDX-License-Identifier: Apache-2.0
# gemel-lab: a whole cluster on one machine. The core is pure; the io library needs root and namespaces to run.
noinst_LTLIBRARIES += liblab_core.la liblab_io.la

liblab_core_la_CFLAGS = $(CORE_CFLAGS)
liblab_core_la_SOURCES = \
	lab/lab_fault.c lab/lab_fault.h \
	lab/labfs_dirty.c lab/labfs_dirty.h

liblab_io_la_CFLAGS = $(AM_CFLAGS) $(FUSE_CFLAGS)
liblab_io_la_SOURCES = \
	lab/lab_cli.c lab/lab_cli.h \
	lab/lab_conf.c lab/lab_conf.h \
	lab/lab_exec.c lab/lab_exec.h \
	lab/lab_init.c \
	lab/lab_ipc.c lab/lab_ipc.h \
	lab/lab_node.c lab/lab_node.h \
	lab/lab_super.c lab/lab_super.h lab/lab_super_priv.h \
	lab/lab_super_power.c \
	lab/lab_super_verbs.c \
	lab/lab_util.c lab/lab_util.h \
	lab/labfs.c lab/labfs.h lab/labfs_priv.h \
	lab/labfs_data.c \
	lab/labfs_fault.c lab/labfs_fault.h \
	lab/labfs_inode.c \
	lab/labfs_log.c lab/labfs_log.h \
	lab/labfs_names.c \
	lab/labfs_undo.c lab/labfs_undo.h
liblab_io_la_LIBADD = liblab_core.la libbase_io.la $(JSONC_LIBS) $(FUSE_LIBS) -lpthread

sbin_PROGRAMS += gemel-lab
gemel_lab_SOURCES = programs/gemel_lab.c
gemel_lab_LDADD = liblab_io.la
dist_man8_MANS += doc/gemel-lab.8

EXTRA_DIST += lab/README.md tests/lab/run tests/lab/lib.sh tests/lab/t_lab_basic.sh tests/lab/t_lab_faults.sh \
	tests/lab/t_lab_storage.sh

UNIT_TESTS += tests/unit/lab/check_lab_fault
tests_unit_lab_check_lab_fault_SOURCES = tests/unit/lab/check_lab_fault.c tests/unit/unit.h
tests_unit_lab_check_lab_fault_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_lab_check_lab_fault_LDADD = liblab_core.la $(UNIT_LIBS)

UNIT_TESTS += tests/unit/lab/check_labfs_dirty
tests_unit_lab_check_labfs_dirty_SOURCES = tests/unit/lab/check_labfs_dirty.c tests/unit/unit.h
tests_unit_lab_check_labfs_dirty_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_lab_check_labfs_dirty_LDADD = liblab_core.la $(UNIT_LIBS)

UNIT_TESTS += tests/unit/lab/check_lab_conf
tests_unit_lab_check_lab_conf_SOURCES = tests/unit/lab/check_lab_conf.c tests/unit/unit.h tests/unit/scratch.h
tests_unit_lab_check_lab_conf_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_lab_check_lab_conf_LDADD = liblab_io.la libcluster_conf_io.la libbase_io.la $(UNIT_LIBS)

UNIT_TESTS += tests/unit/lab/check_labfs_undo
tests_unit_lab_check_labfs_undo_SOURCES = tests/unit/lab/check_labfs_undo.c tests/unit/unit.h tests/unit/scratch.h
tests_unit_lab_check_labfs_undo_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_lab_check_labfs_undo_LDADD = liblab_io.la $(UNIT_LIBS)
