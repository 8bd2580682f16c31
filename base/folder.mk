# SPDX-License-Identifier: Apache-2.0
# libbase_core.la is pure; libbase_io.la is the only user of libqb, sockets, files and clocks. It contains the core, so
# that it may stand last on a link line (the cores call base_panic, which lives in it).
noinst_LTLIBRARIES += libbase_core.la libbase_io.la

libbase_core_la_CFLAGS = $(CORE_CFLAGS)
libbase_core_la_SOURCES = \
	base/bug.h base/le.h base/limits.h base/units.h base/version.h \
	base/bytes.c base/bytes.h \
	base/crc32c.c base/crc32c.h \
	base/frame.c base/frame.h \
	base/state_io.c base/state_io.h \
	base/uuid.c base/uuid.h

libbase_io_la_CFLAGS = $(AM_CFLAGS)
libbase_io_la_SOURCES = \
	base/bug.c \
	base/log.h base/log_qb.c \
	base/loop.h base/loop_qb.c \
	base/os.h base/os_file.c base/os_proc.c base/os_sock.c \
	base/proto_ctl.c base/proto_ctl.h
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
