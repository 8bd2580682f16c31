# SPDX-License-Identifier: Apache-2.0
# libmigrate_core.la is pure. Each part appends its own files.
noinst_LTLIBRARIES += libmigrate_core.la
libmigrate_core_la_CFLAGS = $(CORE_CFLAGS)
libmigrate_core_la_SOURCES =

# The channel ----------------------------------------------------------------------------------------------------------
libmigrate_core_la_SOURCES += migrate/mig_open_msg.c migrate/mig_open_msg.h

noinst_LTLIBRARIES += libmigrate_io.la
libmigrate_io_la_CFLAGS = $(AM_CFLAGS)
libmigrate_io_la_SOURCES = \
	migrate/mig_abort.c migrate/mig_abort.h \
	migrate/mig_conn.c migrate/mig_conn.h migrate/mig_conn_priv.h \
	migrate/mig_key.c migrate/mig_key.h \
	migrate/mig_listen.c migrate/mig_listen.h migrate/mig_listen_priv.h migrate/mig_open.c \
	migrate/mig_pipe.c migrate/mig_pipe.h \
	migrate/mig_tls.c migrate/mig_tls.h
libmigrate_io_la_LIBADD = libmigrate_core.la libvmm_io.la $(GNUTLS_LIBS)

MIG_CHAN_RIG = tests/unit/migrate/mig_rig.c tests/unit/migrate/mig_rig.h tests/unit/unit.h
UNIT_TESTS += tests/unit/migrate/check_mig_open_msg
tests_unit_migrate_check_mig_open_msg_SOURCES = tests/unit/migrate/check_mig_open_msg.c tests/unit/unit.h
tests_unit_migrate_check_mig_open_msg_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_migrate_check_mig_open_msg_LDADD = libmigrate_core.la libbase_io.la $(UNIT_LIBS)
UNIT_TESTS += tests/unit/migrate/check_mig_key
tests_unit_migrate_check_mig_key_SOURCES = tests/unit/migrate/check_mig_key.c $(MIG_CHAN_RIG)
tests_unit_migrate_check_mig_key_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_migrate_check_mig_key_LDADD = libmigrate_io.la $(UNIT_LIBS)
UNIT_TESTS += tests/unit/migrate/check_mig_conn
tests_unit_migrate_check_mig_conn_SOURCES = tests/unit/migrate/check_mig_conn.c $(MIG_CHAN_RIG)
tests_unit_migrate_check_mig_conn_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_migrate_check_mig_conn_LDADD = libmigrate_io.la $(UNIT_LIBS)
UNIT_TESTS += tests/unit/migrate/check_mig_listen
tests_unit_migrate_check_mig_listen_SOURCES = tests/unit/migrate/check_mig_listen.c $(MIG_CHAN_RIG)
tests_unit_migrate_check_mig_listen_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_migrate_check_mig_listen_LDADD = libmigrate_io.la $(UNIT_LIBS)
check_PROGRAMS += tests/bench/bench_mig_chan
tests_bench_bench_mig_chan_SOURCES = tests/bench/bench_mig_chan.c
tests_bench_bench_mig_chan_LDADD = libmigrate_io.la
