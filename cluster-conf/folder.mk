# SPDX-License-Identifier: Apache-2.0
noinst_LTLIBRARIES += libcluster_conf_core.la libcluster_conf_io.la

libcluster_conf_core_la_CFLAGS = $(CORE_CFLAGS)
libcluster_conf_core_la_SOURCES = \
	cluster-conf/conf_bind.c cluster-conf/conf_bind.h \
	cluster-conf/conf_check.c cluster-conf/conf_check.h \
	cluster-conf/conf_corosync.c cluster-conf/conf_corosync.h \
	cluster-conf/conf_diff.c \
	cluster-conf/conf_field.c cluster-conf/conf_field.h \
	cluster-conf/conf_model.h \
	cluster-conf/conf_scalar.c cluster-conf/conf_scalar.h \
	cluster-conf/conf_schema.c cluster-conf/conf_schema.h \
	cluster-conf/conf_similar.c cluster-conf/conf_similar.h \
	cluster-conf/conf_text.c cluster-conf/conf_text.h \
	cluster-conf/conf_tree.c cluster-conf/conf_tree.h \
	cluster-conf/conf_write.h cluster-conf/conf_yaml.c

# libyaml allocates; files are looked at.
libcluster_conf_io_la_SOURCES = \
	cluster-conf/conf_files.c \
	cluster-conf/conf_load.c cluster-conf/conf_load.h \
	cluster-conf/conf_parse.c cluster-conf/conf_parse.h
libcluster_conf_io_la_LIBADD = libcluster_conf_core.la $(YAML_LIBS)

CONF_TESTS = \
	tests/unit/cluster-conf/check_conf_corosync \
	tests/unit/cluster-conf/check_conf_load \
	tests/unit/cluster-conf/check_conf_scalar \
	tests/unit/cluster-conf/check_conf_write
UNIT_TESTS += $(CONF_TESTS)
CONF_TEST_CPPFLAGS = $(UNIT_CPPFLAGS) -DEXAMPLES='"$(abs_srcdir)/cluster-conf/examples"' \
	-DSCHEMA_MD='"$(abs_srcdir)/cluster-conf/schema.md"' -DGOLDEN='"$(abs_srcdir)/tests/golden/corosync"'
CONF_TEST_LIBS = libcluster_conf_io.la libbase_io.la $(UNIT_LIBS)

tests_unit_cluster_conf_check_conf_corosync_SOURCES = tests/unit/cluster-conf/check_conf_corosync.c tests/unit/unit.h
tests_unit_cluster_conf_check_conf_corosync_CPPFLAGS = $(CONF_TEST_CPPFLAGS)
tests_unit_cluster_conf_check_conf_corosync_LDADD = $(CONF_TEST_LIBS)
tests_unit_cluster_conf_check_conf_load_SOURCES = tests/unit/cluster-conf/check_conf_load.c tests/unit/unit.h
tests_unit_cluster_conf_check_conf_load_CPPFLAGS = $(CONF_TEST_CPPFLAGS)
tests_unit_cluster_conf_check_conf_load_LDADD = $(CONF_TEST_LIBS)
tests_unit_cluster_conf_check_conf_scalar_SOURCES = tests/unit/cluster-conf/check_conf_scalar.c tests/unit/unit.h
tests_unit_cluster_conf_check_conf_scalar_CPPFLAGS = $(CONF_TEST_CPPFLAGS)
tests_unit_cluster_conf_check_conf_scalar_LDADD = $(CONF_TEST_LIBS)
tests_unit_cluster_conf_check_conf_write_SOURCES = tests/unit/cluster-conf/check_conf_write.c tests/unit/unit.h
tests_unit_cluster_conf_check_conf_write_CPPFLAGS = $(CONF_TEST_CPPFLAGS)
tests_unit_cluster_conf_check_conf_write_LDADD = $(CONF_TEST_LIBS)

EXTRA_DIST += cluster-conf/README.md cluster-conf/schema.md \
	cluster-conf/examples/cluster.yaml cluster-conf/examples/node.yaml cluster-conf/examples/vm.yaml \
	tests/golden/corosync/three.yaml tests/golden/corosync/three.conf \
	tests/golden/corosync/two.yaml tests/golden/corosync/two.conf \
	tests/golden/corosync/lab.yaml tests/golden/corosync/lab.conf

if FUZZ
FUZZ_TARGETS += tests/fuzz/fuzz_conf
tests_fuzz_fuzz_conf_SOURCES = tests/fuzz/fuzz_conf.c tests/fuzz/fuzz.h
tests_fuzz_fuzz_conf_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
tests_fuzz_fuzz_conf_LDADD = libcluster_conf_io.la libbase_io.la
endif
