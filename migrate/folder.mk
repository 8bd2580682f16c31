# SPDX-License-Identifier: Apache-2.0
# libmigrate_core.la is pure. libmigrate_io.la: the protobuf codec, and what talks to the outside.
noinst_LTLIBRARIES += libmigrate_core.la libmigrate_io.la
libmigrate_core_la_CFLAGS = $(CORE_CFLAGS)
libmigrate_core_la_SOURCES = \
	migrate/mig_wire.h \
	migrate/mig_act.c migrate/mig_act.h \
	migrate/mig_bitmap.c migrate/mig_bitmap.h \
	migrate/mig_fit.c migrate/mig_fit.h \
	migrate/mig_disk.c migrate/mig_disk.h \
	migrate/mig_dst.c migrate/mig_dst.h \
	migrate/mig_holes.c migrate/mig_holes.h \
	migrate/mig_policy.c migrate/mig_policy.h migrate/mig_remedy.c migrate/mig_remedy.h \
	migrate/mig_ram.c migrate/mig_ram.h \
	migrate/mig_squeeze.c migrate/mig_squeeze.h \
	migrate/mig_src.c migrate/mig_src.h \
	migrate/mig_text.c migrate/mig_text.h \
	migrate/mig_types.c migrate/mig_types.h \
	migrate/mig_zero.c migrate/mig_zero.h
libmigrate_io_la_CFLAGS = $(AM_CFLAGS)
libmigrate_io_la_SOURCES = \
	migrate/mig_msg.c migrate/mig_msg.h
libmigrate_io_la_LIBADD = libmigrate_core.la libmigrate_pb.la libvmm_io.la $(GNUTLS_LIBS) $(ZSTD_LIBS)

# Generated code, as in base/folder.mk.
noinst_LTLIBRARIES += libmigrate_pb.la
nodist_libmigrate_pb_la_SOURCES = migrate/proto_mig.pb-c.c migrate/proto_mig.pb-c.h
libmigrate_pb_la_CFLAGS = -std=gnu17 -g $(HARDEN_CFLAGS) $(SAN_CFLAGS)
EXTRA_DIST += migrate/proto_mig.proto
BUILT_SOURCES += migrate/proto_mig.pb-c.h
CLEANFILES += migrate/proto_mig.pb-c.c migrate/proto_mig.pb-c.h
migrate/proto_mig.pb-c.c: migrate/proto_mig.proto
	$(AM_V_GEN)$(MKDIR_P) migrate && \
	$(PROTOC_C) --proto_path=$(srcdir) --c_out=. $(srcdir)/migrate/proto_mig.proto
migrate/proto_mig.pb-c.h: migrate/proto_mig.pb-c.c
	@test -f $@ || { rm -f migrate/proto_mig.pb-c.c; $(MAKE) migrate/proto_mig.pb-c.c; }
$(libmigrate_io_la_OBJECTS) $(libmigrate_pb_la_OBJECTS): migrate/proto_mig.pb-c.h

EXTRA_DIST += tests/golden/wire/v1/mig_ram.bin tests/golden/wire/v1/mig_hello.bin tests/golden/wire/v1/mig_hello_ack.bin tests/golden/wire/v1/mig_round.bin tests/golden/wire/v1/mig_stats.bin \
	tests/golden/wire/v1/mig_verify.bin tests/golden/wire/v1/mig_finish.bin tests/golden/wire/v1/mig_ready.bin tests/golden/wire/v1/mig_abort.bin \
	tests/golden/wire/v1/mig_want.bin tests/golden/wire/v1/mig_runs.bin tests/golden/wire/v1/mig_all.bin tests/golden/wire/v1/mig_missing.bin tests/golden/wire/v1/mig_disk.bin
MIGRATE_UNIT_COMMON = tests/unit/unit.h tests/unit/golden.h tests/unit/migrate/mig_rand.h tests/unit/table_doc.h
MIGRATE_UNIT_LIBS = libmigrate_io.la libmigrate_core.la libvmm_core.la libbase_io.la $(UNIT_LIBS)

UNIT_TESTS += tests/unit/migrate/check_mig_bitmap
tests_unit_migrate_check_mig_bitmap_SOURCES = tests/unit/migrate/check_mig_bitmap.c $(MIGRATE_UNIT_COMMON)
tests_unit_migrate_check_mig_bitmap_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_migrate_check_mig_bitmap_LDADD = $(MIGRATE_UNIT_LIBS)

UNIT_TESTS += tests/unit/migrate/check_mig_ram
tests_unit_migrate_check_mig_ram_SOURCES = tests/unit/migrate/check_mig_ram.c $(MIGRATE_UNIT_COMMON)
tests_unit_migrate_check_mig_ram_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_migrate_check_mig_ram_LDADD = $(MIGRATE_UNIT_LIBS)

UNIT_TESTS += tests/unit/migrate/check_mig_holes
tests_unit_migrate_check_mig_holes_SOURCES = tests/unit/migrate/check_mig_holes.c $(MIGRATE_UNIT_COMMON)
tests_unit_migrate_check_mig_holes_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_migrate_check_mig_holes_LDADD = $(MIGRATE_UNIT_LIBS)

UNIT_TESTS += tests/unit/migrate/check_mig_disk
tests_unit_migrate_check_mig_disk_SOURCES = tests/unit/migrate/check_mig_disk.c $(MIGRATE_UNIT_COMMON)
tests_unit_migrate_check_mig_disk_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_migrate_check_mig_disk_LDADD = $(MIGRATE_UNIT_LIBS)
UNIT_TESTS += tests/unit/migrate/check_mig_extent
tests_unit_migrate_check_mig_extent_SOURCES = tests/unit/migrate/check_mig_extent.c $(MIGRATE_UNIT_COMMON)
tests_unit_migrate_check_mig_extent_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_migrate_check_mig_extent_LDADD = $(MIGRATE_UNIT_LIBS)

UNIT_TESTS += tests/unit/migrate/check_mig_zero
tests_unit_migrate_check_mig_zero_SOURCES = tests/unit/migrate/check_mig_zero.c $(MIGRATE_UNIT_COMMON)
tests_unit_migrate_check_mig_zero_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_migrate_check_mig_zero_LDADD = $(MIGRATE_UNIT_LIBS)
UNIT_TESTS += tests/unit/migrate/check_mig_squeeze
tests_unit_migrate_check_mig_squeeze_SOURCES = tests/unit/migrate/check_mig_squeeze.c $(MIGRATE_UNIT_COMMON)
tests_unit_migrate_check_mig_squeeze_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_migrate_check_mig_squeeze_LDADD = $(MIGRATE_UNIT_LIBS)
UNIT_TESTS += tests/unit/migrate/check_mig_zstd
tests_unit_migrate_check_mig_zstd_SOURCES = tests/unit/migrate/check_mig_zstd.c $(MIGRATE_UNIT_COMMON)
tests_unit_migrate_check_mig_zstd_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_migrate_check_mig_zstd_LDADD = $(MIGRATE_UNIT_LIBS)
UNIT_TESTS += tests/unit/migrate/check_mig_first
tests_unit_migrate_check_mig_first_SOURCES = tests/unit/migrate/check_mig_first.c $(MIGRATE_UNIT_COMMON)
tests_unit_migrate_check_mig_first_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_migrate_check_mig_first_LDADD = $(MIGRATE_UNIT_LIBS)
UNIT_TESTS += tests/unit/migrate/check_mig_verify
tests_unit_migrate_check_mig_verify_SOURCES = tests/unit/migrate/check_mig_verify.c $(MIGRATE_UNIT_COMMON)
tests_unit_migrate_check_mig_verify_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_migrate_check_mig_verify_LDADD = $(MIGRATE_UNIT_LIBS)

UNIT_TESTS += tests/unit/migrate/check_mig_msg
tests_unit_migrate_check_mig_msg_SOURCES = tests/unit/migrate/check_mig_msg.c $(MIGRATE_UNIT_COMMON)
tests_unit_migrate_check_mig_msg_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_migrate_check_mig_msg_LDADD = $(MIGRATE_UNIT_LIBS)

UNIT_TESTS += tests/unit/migrate/check_mig_fit
tests_unit_migrate_check_mig_fit_SOURCES = tests/unit/migrate/check_mig_fit.c $(MIGRATE_UNIT_COMMON)
tests_unit_migrate_check_mig_fit_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_migrate_check_mig_fit_LDADD = $(MIGRATE_UNIT_LIBS)

UNIT_TESTS += tests/unit/migrate/check_mig_policy
tests_unit_migrate_check_mig_policy_SOURCES = tests/unit/migrate/check_mig_policy.c $(MIGRATE_UNIT_COMMON)
tests_unit_migrate_check_mig_policy_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_migrate_check_mig_policy_LDADD = $(MIGRATE_UNIT_LIBS)

UNIT_TESTS += tests/unit/migrate/check_mig_states
tests_unit_migrate_check_mig_states_SOURCES = tests/unit/migrate/check_mig_states.c $(MIGRATE_UNIT_COMMON)
tests_unit_migrate_check_mig_states_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_migrate_check_mig_states_LDADD = $(MIGRATE_UNIT_LIBS)

UNIT_TESTS += tests/unit/migrate/check_mig_model
tests_unit_migrate_check_mig_model_SOURCES = tests/unit/migrate/check_mig_model.c $(MIGRATE_UNIT_COMMON)
tests_unit_migrate_check_mig_model_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_migrate_check_mig_model_LDADD = $(MIGRATE_UNIT_LIBS)

check_PROGRAMS += tests/bench/bench_mig_core
tests_bench_bench_mig_core_SOURCES = tests/bench/bench_mig_core.c
tests_bench_bench_mig_core_LDADD = libmigrate_core.la libvmm_core.la libbase_io.la

# The channel ----------------------------------------------------------------------------------------------------------
libmigrate_core_la_SOURCES += migrate/mig_open_msg.c migrate/mig_open_msg.h
libmigrate_io_la_SOURCES += \
	migrate/mig_stop.c migrate/mig_stop.h \
	migrate/mig_conn.c migrate/mig_conn.h migrate/mig_conn_priv.h \
	migrate/mig_key.c migrate/mig_key.h \
	migrate/mig_listen.c migrate/mig_listen.h migrate/mig_listen_priv.h migrate/mig_open.c \
	migrate/mig_pipe.c migrate/mig_pipe.h \
	migrate/mig_tls.c migrate/mig_tls.h

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

# What ties them together, for programs/gemel_vmm ----------------------------------------------------------------------
libmigrate_io_la_SOURCES += \
	migrate/mig_describe.c migrate/mig_first.c migrate/mig_first.h \
	migrate/mig_in.c migrate/mig_in_priv.h migrate/mig_in_holes.c migrate/mig_in_pages.c migrate/mig_memfd.c migrate/mig_memfd.h \
	migrate/mig_extent.c migrate/mig_extent.h migrate/mig_in_disk.c migrate/mig_out_disk.c \
	migrate/mig_out.c migrate/mig_out_data.c migrate/mig_out_holes.c migrate/mig_out_priv.h \
	migrate/mig_pool.c migrate/mig_pool.h \
	migrate/mig_transfer.c migrate/mig_transfer.h migrate/mig_transfer_priv.h \
	migrate/mig_verify.c migrate/mig_verify.h \
	migrate/mig_zstd.c migrate/mig_zstd.h
