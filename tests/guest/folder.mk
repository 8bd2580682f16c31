# SPDX-License-Identifier: Apache-2.0
# pulse.rom: freestanding, so neither the hardening nor the sanitizer flags of the rest. General registers only.
PULSE_CFLAGS = -std=gnu17 -O2 -g $(WARN_CFLAGS) -I$(top_srcdir) -ffreestanding -fno-pic -fno-pie -mcmodel=small -m64 \
	-mgeneral-regs-only -mno-red-zone -fno-stack-protector -fno-asynchronous-unwind-tables -fcf-protection=none \
	-fno-strict-aliasing -fno-delete-null-pointer-checks -U_FORTIFY_SOURCE
PULSE_DEPS = tests/guest/pulse_hw.h tests/guest/pulse_virtio.h tests/guest/pulse_blk.h tests/guest/pulse_net.h \
	tests/guest/pulse_hostile.h tests/guest/pulse_knobs.h tests/guest/record.h
PULSE_OBJECTS = tests/guest/pulse-start.o tests/guest/pulse-main.o tests/guest/pulse-hw.o \
	tests/guest/pulse-virtio.o tests/guest/pulse-blk.o tests/guest/pulse-net.o \
	tests/guest/pulse-hostile.o tests/guest/pulse-hostile_blk.o tests/guest/pulse-hostile_net.o tests/guest/pulse-knobs.o

tests/guest/pulse-start.o: tests/guest/pulse_start.S
	$(AM_V_CC)$(MKDIR_P) tests/guest && $(CC) $(PULSE_CFLAGS) -c -o $@ $(srcdir)/tests/guest/pulse_start.S
tests/guest/pulse-%.o: tests/guest/pulse_%.c $(PULSE_DEPS)
	$(AM_V_CC)$(MKDIR_P) tests/guest && $(CC) $(PULSE_CFLAGS) -c -o $@ $<
tests/guest/pulse.elf: $(PULSE_OBJECTS) tests/guest/pulse.ld
	$(AM_V_CCLD)$(CC) -static -nostdlib -Wl,--build-id=none,-z,noexecstack \
		-Wl,-T,$(srcdir)/tests/guest/pulse.ld -o $@ $(PULSE_OBJECTS)
tests/guest/pulse.rom: tests/guest/pulse.elf
	$(AM_V_GEN)$(OBJCOPY) -O binary -j .rom tests/guest/pulse.elf $@

pkgdata_DATA += tests/guest/pulse.rom
CLEANFILES += $(PULSE_OBJECTS) tests/guest/pulse.elf tests/guest/pulse.rom
EXTRA_DIST += tests/kvm/two_copies.sh tests/guest/README.md tests/guest/pulse_start.S tests/guest/pulse.ld $(PULSE_DEPS) \
	tests/guest/pulse_main.c tests/guest/pulse_hw.c tests/guest/pulse_virtio.c tests/guest/pulse_blk.c \
	tests/guest/pulse_net.c tests/guest/pulse_hostile.c tests/guest/pulse_hostile_blk.c \
	tests/guest/pulse_hostile_net.c tests/guest/pulse_knobs.c

# The outside oracles. Nothing of Gemel but the record format: what judges must not share code with what is judged.
noinst_PROGRAMS += tests/guest/witness
tests_guest_witness_CFLAGS = $(CORE_CFLAGS)
tests_guest_witness_SOURCES = tests/guest/record.h \
	tests/guest/witness_checks.c tests/guest/witness_checks.h \
	tests/guest/witness_taps.c tests/guest/witness_taps.h tests/guest/witness_main.c

UNIT_TESTS += tests/guest/check_witness
tests_guest_check_witness_SOURCES = tests/guest/check_witness.c tests/guest/witness_checks.c tests/guest/witness_checks.h
tests_guest_check_witness_CPPFLAGS = $(UNIT_CPPFLAGS)
tests_guest_check_witness_CFLAGS = $(AM_CFLAGS)
tests_guest_check_witness_LDADD = $(UNIT_LIBS)
GOLDEN_TESTS += tests/guest/check_witness_program.sh tests/guest/check_pulse.sh tests/guest/check_taps.sh
