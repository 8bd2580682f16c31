# SPDX-License-Identifier: Apache-2.0
# libbase_core.la is pure; libbase_io.la is the only user of libqb, sockets, files and clocks. It contains the core, so
# that it may stand last on a link line (the cores call base_panic, which lives in it).
noinst_LTLIBRARIES += libbase_core.la libbase_io.la

libbase_core_la_CFLAGS = $(CORE_CFLAGS)
libbase_core_la_SOURCES = \
	base/bug.h base/le.h base/limits.h base/units.h base/version.h \
	base/bytes.c base/bytes.h \
	base/cpu_model.c base/cpu_model.h base/cpu_names.c base/cpu_names.h base/kvm_can.c base/kvm_can.h \
	base/crc32c.c base/crc32c.h \
	base/elf_build_id.c base/elf_build_id.h \
	base/frame.c base/frame.h \
	base/nbd_uri.c base/nbd_uri.h base/qcow2_head.c base/qcow2_head.h \
	base/state_io.c base/state_io.h \
	base/text.c base/text.h \
	base/uuid.c base/uuid.h

libbase_io_la_CFLAGS = $(AM_CFLAGS)
libbase_io_la_SOURCES = \
	base/cli_send.c base/cli_send.h \
	base/bug.c \
	base/log.h base/log_qb.c \
	base/nbd_connect.c \
	base/loop.h base/loop_qb.c \
	base/os.h base/os_file.c base/os_proc.c base/os_sock.c base/os_tcp.c base/os_wall.c \
	base/tcp_dial.c base/tcp_dial.h \
	base/cli_wire.h base/worker.c base/worker.h \
	base/proto_ctl.c base/proto_ctl.h \
	base/proto_limits.c base/proto_limits.h
libbase_io_la_LIBADD = libbase_core.la libbase_pb.la $(QB_LIBS) $(PROTOBUFC_LIBS) -lpthread

# Generated code, with the warnings of nobody's style guide.
noinst_LTLIBRARIES += libbase_pb.la
nodist_libbase_pb_la_SOURCES = base/proto_ctl.pb-c.c base/proto_ctl.pb-c.h
libbase_pb_la_CFLAGS = -std=gnu17 -g $(HARDEN_CFLAGS) $(SAN_CFLAGS)
EXTRA_DIST += base/proto_ctl.proto
BUILT_SOURCES += base/proto_ctl.pb-c.h
CLEANFILES += base/proto_ctl.pb-c.c base/proto_ctl.pb-c.h

base/proto_ctl.pb-c.c: base/proto_ctl.proto
	$(AM_V_GEN)$(MKDIR_P) base && \
	$(PROTOC_C) --proto_path=$(srcdir) --c_out=. $(srcdir)/base/proto_ctl.proto
base/proto_ctl.pb-c.h: base/proto_ctl.pb-c.c
	@test -f $@ || { rm -f base/proto_ctl.pb-c.c; $(MAKE) base/proto_ctl.pb-c.c; }
# BUILT_SOURCES covers `make` and `make check` only: a folder that includes base/proto_ctl.h repeats this line
# for its own objects, so that `make libX_io.la` works from the first.
$(libbase_io_la_OBJECTS) $(libbase_pb_la_OBJECTS): base/proto_ctl.pb-c.h

# Unit tests: one program per source file.
EXTRA_DIST += tests/golden/wire/v1/README.md tests/golden/wire/v1/frame.bin tests/golden/wire/v1/state.bin
BASE_UNIT_COMMON = tests/unit/unit.h tests/unit/golden.h tests/unit/scratch.h
BASE_UNIT_LIBS = libbase_core.la libbase_io.la $(UNIT_LIBS)

UNIT_TESTS += tests/unit/base/check_bug
tests_unit_base_check_bug_SOURCES = tests/unit/base/check_bug.c $(BASE_UNIT_COMMON)
tests_unit_base_check_bug_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_base_check_bug_LDADD = $(BASE_UNIT_LIBS)

UNIT_TESTS += tests/unit/base/check_bytes
tests_unit_base_check_bytes_SOURCES = tests/unit/base/check_bytes.c $(BASE_UNIT_COMMON)
tests_unit_base_check_bytes_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_base_check_bytes_LDADD = $(BASE_UNIT_LIBS)

UNIT_TESTS += tests/unit/base/check_kvm_can
tests_unit_base_check_kvm_can_SOURCES = tests/unit/base/check_kvm_can.c $(BASE_UNIT_COMMON)
tests_unit_base_check_kvm_can_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_base_check_kvm_can_LDADD = $(BASE_UNIT_LIBS)
UNIT_TESTS += tests/unit/base/check_cpu_model
tests_unit_base_check_cpu_model_SOURCES = tests/unit/base/check_cpu_model.c $(BASE_UNIT_COMMON)
tests_unit_base_check_cpu_model_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_base_check_cpu_model_LDADD = $(BASE_UNIT_LIBS)

UNIT_TESTS += tests/unit/base/check_crc32c
tests_unit_base_check_crc32c_SOURCES = tests/unit/base/check_crc32c.c $(BASE_UNIT_COMMON)
tests_unit_base_check_crc32c_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_base_check_crc32c_LDADD = $(BASE_UNIT_LIBS)

UNIT_TESTS += tests/unit/base/check_frame
tests_unit_base_check_frame_SOURCES = tests/unit/base/check_frame.c $(BASE_UNIT_COMMON)
tests_unit_base_check_frame_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_base_check_frame_LDADD = $(BASE_UNIT_LIBS)

UNIT_TESTS += tests/unit/base/check_nbd_uri
tests_unit_base_check_nbd_uri_SOURCES = tests/unit/base/check_nbd_uri.c $(BASE_UNIT_COMMON)
tests_unit_base_check_nbd_uri_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_base_check_nbd_uri_LDADD = $(BASE_UNIT_LIBS)

UNIT_TESTS += tests/unit/base/check_qcow2_head
tests_unit_base_check_qcow2_head_SOURCES = tests/unit/base/check_qcow2_head.c $(BASE_UNIT_COMMON)
tests_unit_base_check_qcow2_head_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_base_check_qcow2_head_LDADD = $(BASE_UNIT_LIBS)

UNIT_TESTS += tests/unit/base/check_log_qb
tests_unit_base_check_log_qb_SOURCES = tests/unit/base/check_log_qb.c $(BASE_UNIT_COMMON)
tests_unit_base_check_log_qb_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_base_check_log_qb_LDADD = $(BASE_UNIT_LIBS)

UNIT_TESTS += tests/unit/base/check_loop_qb
tests_unit_base_check_loop_qb_SOURCES = tests/unit/base/check_loop_qb.c $(BASE_UNIT_COMMON)
tests_unit_base_check_loop_qb_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_base_check_loop_qb_LDADD = $(BASE_UNIT_LIBS)

UNIT_TESTS += tests/unit/base/check_os_file
tests_unit_base_check_os_file_SOURCES = tests/unit/base/check_os_file.c $(BASE_UNIT_COMMON)
tests_unit_base_check_os_file_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_base_check_os_file_LDADD = $(BASE_UNIT_LIBS)

UNIT_TESTS += tests/unit/base/check_os_proc
tests_unit_base_check_os_proc_SOURCES = tests/unit/base/check_os_proc.c $(BASE_UNIT_COMMON)
tests_unit_base_check_os_proc_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_base_check_os_proc_LDADD = $(BASE_UNIT_LIBS)

UNIT_TESTS += tests/unit/base/check_os_sock
tests_unit_base_check_os_sock_SOURCES = tests/unit/base/check_os_sock.c $(BASE_UNIT_COMMON)
tests_unit_base_check_os_sock_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_base_check_os_sock_LDADD = $(BASE_UNIT_LIBS)

UNIT_TESTS += tests/unit/base/check_os_tcp
tests_unit_base_check_os_tcp_SOURCES = tests/unit/base/check_os_tcp.c $(BASE_UNIT_COMMON)
tests_unit_base_check_os_tcp_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_base_check_os_tcp_LDADD = $(BASE_UNIT_LIBS)

UNIT_TESTS += tests/unit/base/check_tcp_dial
tests_unit_base_check_tcp_dial_SOURCES = tests/unit/base/check_tcp_dial.c $(BASE_UNIT_COMMON)
tests_unit_base_check_tcp_dial_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_base_check_tcp_dial_LDADD = $(BASE_UNIT_LIBS)

UNIT_TESTS += tests/unit/base/check_proto_ctl
tests_unit_base_check_proto_ctl_SOURCES = tests/unit/base/check_proto_ctl.c $(BASE_UNIT_COMMON)
tests_unit_base_check_proto_ctl_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_base_check_proto_ctl_LDADD = $(BASE_UNIT_LIBS)

UNIT_TESTS += tests/unit/base/check_state_io
tests_unit_base_check_state_io_SOURCES = tests/unit/base/check_state_io.c $(BASE_UNIT_COMMON)
tests_unit_base_check_state_io_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_base_check_state_io_LDADD = $(BASE_UNIT_LIBS)

UNIT_TESTS += tests/unit/base/check_elf_build_id
tests_unit_base_check_elf_build_id_SOURCES = tests/unit/base/check_elf_build_id.c $(BASE_UNIT_COMMON)
tests_unit_base_check_elf_build_id_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_base_check_elf_build_id_LDADD = $(BASE_UNIT_LIBS)

UNIT_TESTS += tests/unit/base/check_text
tests_unit_base_check_text_SOURCES = tests/unit/base/check_text.c $(BASE_UNIT_COMMON)
tests_unit_base_check_text_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_base_check_text_LDADD = $(BASE_UNIT_LIBS)

UNIT_TESTS += tests/unit/base/check_uuid
tests_unit_base_check_uuid_SOURCES = tests/unit/base/check_uuid.c $(BASE_UNIT_COMMON)
tests_unit_base_check_uuid_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_base_check_uuid_LDADD = $(BASE_UNIT_LIBS)

$(tests_unit_base_check_proto_ctl_OBJECTS): base/proto_ctl.pb-c.h
