# SPDX-License-Identifier: Apache-2.0
# libstorage_io.la: who may use an export. The nbdkit filter around it is a shared object; libtool makes none here
# (disable-shared), so it is linked as a program with a link line of its own. No sanitizers in it: nbdkit has none.
noinst_LTLIBRARIES += libstorage_io.la
libstorage_io_la_CFLAGS = $(AM_CFLAGS)
libstorage_io_la_SOURCES = \
	storage/epoch_gate.c storage/epoch_gate.h \
	storage/epoch_name.c storage/epoch_name.h

nbdkitfilter_PROGRAMS = storage/nbdkit-gemel-epoch-filter.so
storage_nbdkit_gemel_epoch_filter_so_SOURCES = storage/epoch_filter.c \
	storage/epoch_gate.c storage/epoch_gate.h storage/epoch_name.c storage/epoch_name.h \
	base/bug.c base/bug.h base/os.h base/os_file.c base/text.c base/text.h base/units.h
storage_nbdkit_gemel_epoch_filter_so_CFLAGS = -std=gnu17 -g -fPIC -fvisibility=hidden $(WARN_CFLAGS) $(NBDKIT_CFLAGS)
storage_nbdkit_gemel_epoch_filter_so_LINK = $(CC) -shared -fPIC $(CFLAGS) -Wl,-z,relro,-z,now,-z,noexecstack -Wl,--as-needed \
	-Wl,--build-id=sha1 $(LDFLAGS) -o $@

UNIT_TESTS += tests/unit/storage/check_epoch_name tests/unit/storage/check_epoch_gate
tests_unit_storage_check_epoch_name_SOURCES = tests/unit/storage/check_epoch_name.c tests/unit/unit.h
tests_unit_storage_check_epoch_name_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_storage_check_epoch_name_LDADD = libstorage_io.la libbase_io.la $(UNIT_LIBS)
tests_unit_storage_check_epoch_gate_SOURCES = tests/unit/storage/check_epoch_gate.c tests/unit/scratch.h tests/unit/unit.h
tests_unit_storage_check_epoch_gate_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_unit_storage_check_epoch_gate_LDADD = libstorage_io.la libbase_io.la $(UNIT_LIBS)

# A real nbdkit with real clients.
check_PROGRAMS += tests/unit/storage/nbd_owner
tests_unit_storage_nbd_owner_SOURCES = tests/unit/storage/nbd_owner.c
tests_unit_storage_nbd_owner_CPPFLAGS = $(AM_CPPFLAGS) $(NBD_CFLAGS)
tests_unit_storage_nbd_owner_LDADD = $(NBD_LIBS)
GOLDEN_TESTS += tests/unit/storage/epoch_filter.sh
