# SPDX-License-Identifier: Apache-2.0
noinst_LTLIBRARIES += libcluster_conf_core.la libcluster_conf_io.la

libcluster_conf_core_la_CFLAGS = $(CORE_CFLAGS)
libcluster_conf_core_la_SOURCES = \
	cluster-conf/conf_bind.c cluster-conf/conf_bind.h \
	cluster-conf/conf_check.c cluster-conf/conf_check.h \
	cluster-conf/conf_model.h \
	cluster-conf/conf_scalar.c cluster-conf/conf_scalar.h \
	cluster-conf/conf_schema.c cluster-conf/conf_schema.h \
	cluster-conf/conf_text.c cluster-conf/conf_text.h \
	cluster-conf/conf_tree.c cluster-conf/conf_tree.h

# libyaml allocates; files are looked at.
libcluster_conf_io_la_SOURCES = \
	cluster-conf/conf_files.c \
	cluster-conf/conf_load.c cluster-conf/conf_load.h \
	cluster-conf/conf_parse.c cluster-conf/conf_parse.h
libcluster_conf_io_la_LIBADD = libcluster_conf_core.la $(CYAML_LIBS)

UNIT_TESTS += tests/unit/cluster-conf/check_conf_load
tests_unit_cluster_conf_check_conf_load_SOURCES = tests/unit/cluster-conf/check_conf_load.c tests/unit/unit.h
tests_unit_cluster_conf_check_conf_load_CPPFLAGS = $(UNIT_CPPFLAGS) -DEXAMPLES='"$(abs_srcdir)/cluster-conf/examples"'
tests_unit_cluster_conf_check_conf_load_LDADD = libcluster_conf_io.la libbase_core.la $(UNIT_LIBS)

EXTRA_DIST += cluster-conf/examples/cluster.yaml cluster-conf/examples/node.yaml cluster-conf/examples/vm.yaml
