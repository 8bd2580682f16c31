/* SPDX-License-Identifier: Apache-2.0 */
/* vmm/cpu_state: save, load, save gives equal bytes, whatever is in the registers; what
 * may not be set is refused by name. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/units.h"
#include "tests/unit/unit.h"
#include "vmm/cpu_state.h"

static uint8_t first[32 * 1024], second[32 * 1024];
static struct vcpu_state cpu, back;
static struct irqchip_state chip, chip_back;

static uint64_t next(uint64_t *seed)
{
    *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return *seed >> 33;
}

static void scramble(void *p, size_t len, uint64_t seed)
{
    for (size_t i = 0; i < len; i++) {
        ((uint8_t *)p)[i] = (uint8_t)next(&seed);
    }
}

static uint32_t must(bool standard)
{
    return VCPU_PARTS_ALWAYS | (standard ? VCPU_PARTS_STANDARD : 0);
}

/* Every bit of every field is random, but for what a load looks at. */
static void make_cpu(bool standard, uint64_t seed)
{
    uint32_t n = 0;

    scramble(&cpu, sizeof cpu, seed);
    scramble(&back, sizeof back, seed + 1);
    cpu.parts = must(standard) | VCPU_PARTS_MAYBE;
    cpu.xcrs.nr_xcrs = (uint32_t)(seed % (KVM_MAX_XCRS + 1));
    for (size_t i = 0; i < msr_guest_count + msr_standard_count; i++) {
        uint32_t index =
            i < msr_guest_count ? msr_guest[i] : msr_standard[i - msr_guest_count];

        if (msr_known(index, standard)) {
            cpu.msrs.list.entries[n++].index = index;
        }
    }
    cpu.msrs.list.nmsrs = n;
}

static size_t save_cpu(struct vcpu_state *state, bool standard, uint8_t *buf)
{
    struct state_io io;

    state_save_init(&io, buf, sizeof first);
    state_section_begin(&io, "vcpu", 0, CPU_SECTION_VERSION, 1);
    ck_assert_int_eq(cpu_state_xfer(state, standard, &io), 0);
    ck_assert_uint_lt(io.wr.pos, CPU_SECTION_MAX);
    state_section_end(&io);
    return state_save_finish(&io);
}

/* Of a state that was saved although it may not be loaded. */
static int load_cpu(const uint8_t *buf, size_t len, bool standard, struct state_io *io)
{
    state_load_init(io, buf, len);
    ck_assert(state_section_next(io));
    ck_assert(state_section_accept(io, CPU_SECTION_VERSION));
    return cpu_state_xfer(&back, standard, io);
}

START_TEST(vcpu_equal_bytes)
{
    for (uint64_t seed = 1; seed < 40; seed++) {
        bool standard = seed % 2;
        struct state_io io;
        size_t len;

        make_cpu(standard, seed);
        len = save_cpu(&cpu, standard, first);
        ck_assert_uint_gt(len, 4096);
        ck_assert_int_eq(load_cpu(first, len, standard, &io), 0);
        ck_assert(!state_section_next(&io) && io.error == STATE_OK);
        ck_assert_uint_eq(save_cpu(&back, standard, second), len);
        ck_assert_mem_eq(first, second, len);
        ck_assert_mem_eq(&cpu.regs, &back.regs, sizeof cpu.regs);
        ck_assert_mem_eq(cpu.xsave, back.xsave, sizeof cpu.xsave);
    }
}
END_TEST

START_TEST(parts_in_use_are_those_of_xcr0)
{
    uint64_t bits;

    make_cpu(false, 5);
    back = cpu;
    memset(cpu.xsave + 512, 0, 8);
    cpu.xcrs = (struct kvm_xcrs){.nr_xcrs = 1, .xcrs = {{.xcr = 0, .value = 7}}};
    cpu_state_canonical(&cpu);
    memcpy(&bits, cpu.xsave + 512, 8);
    ck_assert_uint_eq(bits, 7);
    memcpy(back.xsave + 512, &bits, 8);
    ck_assert_mem_eq(cpu.xsave, back.xsave, sizeof cpu.xsave);
    cpu.xcrs.nr_xcrs = 0;
    memset(cpu.xsave + 512, 0, 8);
    cpu_state_canonical(&cpu);
    memcpy(&bits, cpu.xsave + 512, 8);
    ck_assert_uint_eq(bits,
                      3); /* kvm_pvm: SSE is now in use, now not, without XCR0's leave */
}
END_TEST

/* A section of one kind of machine is not one of the other. */
START_TEST(vcpu_of_the_other_machine)
{
    struct state_io io;

    make_cpu(true, 3);
    ck_assert_int_eq(load_cpu(first, save_cpu(&cpu, true, first), false, &io), -EBADMSG);
    make_cpu(false, 3);
    ck_assert_int_eq(load_cpu(first, save_cpu(&cpu, false, first), true, &io), -EBADMSG);
}
END_TEST

static void refused(bool standard, const char *field)
{
    struct state_io io;
    size_t len;

    /* Saving does not judge; state_refuse would. */
    state_save_init(&io, first, sizeof first);
    state_section_begin(&io, "vcpu", 0, CPU_SECTION_VERSION, 1);
    (void)cpu_state_xfer(&cpu, standard, &io);
    io.error = STATE_OK;
    state_section_end(&io);
    len = state_save_finish(&io);
    ck_assert_uint_gt(len, 0);
    ck_assert_int_eq(load_cpu(first, len, standard, &io), -EBADMSG);
    ck_assert_int_eq(io.error, STATE_BAD_VALUE);
    ck_assert_ptr_nonnull(io.refused_field);
    ck_assert_str_eq(io.refused_field, field);
}

START_TEST(msrs_outside_the_table)
{
    static const uint32_t index[] = {
        0x10,       /* TSC: not in this list */
        0x1B,       /* APIC base */
        0xFE,       /* MTRRcap: read-only */
        0xC0000080, /* EFER: in sregs */
        0x8B,
        0x3FFFFFFF,
        0xC0010117 /* VM_HSAVE_PA */,
        0xC0010114 /* VM_CR */,
        0x480 /* VMX */,
        0,
        UINT32_MAX,
    };

    for (size_t i = 0; i < ARRAY_SIZE(index); i++) {
        make_cpu(i % 2, i);
        cpu.msrs.list.entries[i].index = index[i];
        refused(i % 2, "msr_index");
    }
    make_cpu(false, 1);
    cpu.msrs.list.entries[0].index = 0x4B564D01; /* kvm-clock: not on lockstep */
    refused(false, "msr_index");
}
END_TEST

START_TEST(parts)
{
    for (unsigned bit = 0; bit < 32; bit++) {
        struct state_io io;

        make_cpu(true, bit);
        cpu.parts ^= UINT32_C(1) << bit;
        if (UINT32_C(1) << bit & VCPU_PARTS_MAYBE) {
            ck_assert_int_eq(load_cpu(first, save_cpu(&cpu, true, first), true, &io), 0);
        } else {
            refused(true, "parts");
        }
    }
    make_cpu(false, 1);
    cpu.parts |= VCPU_PARTS_STANDARD;
    refused(false, "parts");
}
END_TEST

START_TEST(truncated_anywhere)
{
    struct state_io io, whole;
    size_t len;

    make_cpu(true, 5);
    len = save_cpu(&cpu, true, first);
    state_load_init(&whole, first, len);
    ck_assert(state_section_next(&whole));
    for (size_t cut = 0; cut < whole.rd.len; cut += cut < 900 ? 1 : 97) {
        state_save_init(&io, second, sizeof second);
        state_section_begin(&io, "vcpu", 0, CPU_SECTION_VERSION, 1);
        bytes_wr_copy(&io.wr, whole.rd.buf, cut);
        state_section_end(&io);
        len = state_save_finish(&io);
        ck_assert_int_eq(load_cpu(second, len, true, &io), -EBADMSG);
    }
}
END_TEST

/* Any 32 bits anywhere: refused or accepted, but never out of bounds (for ASan), and what
 * was accepted saves to what was loaded. */
START_TEST(any_word)
{
    struct state_io whole, io;
    uint64_t seed = 9;
    size_t len, body_len;
    static uint8_t body[16 * 1024];
    unsigned counts_refused = 0;

    make_cpu(true, 11);
    len = save_cpu(&cpu, true, first);
    state_load_init(&whole, first, len);
    ck_assert(state_section_next(&whole));
    body_len = whole.rd.len;
    for (size_t at = 0; at + 4 <= body_len; at += at < 1000 ? 1 : 31) {
        uint32_t value = next(&seed) % 2 ? UINT32_MAX : (uint32_t)(next(&seed) % 100);

        memcpy(body, whole.rd.buf, body_len);
        memcpy(body + at, &value, 4);
        state_save_init(&io, second, sizeof second);
        state_section_begin(&io, "vcpu", 0, CPU_SECTION_VERSION, 1);
        bytes_wr_copy(&io.wr, body, body_len);
        state_section_end(&io);
        len = state_save_finish(&io);
        if (load_cpu(second, len, true, &io) == 0) {
            ck_assert_uint_eq(save_cpu(&back, true, first), len);
            ck_assert_mem_eq(first, second, len);
            (void)save_cpu(&cpu, true, first); /* whole.rd points there */
        } else if (io.refused_field && (strcmp(io.refused_field, "xcrs") == 0 ||
                                        strcmp(io.refused_field, "msr_count") == 0)) {
            counts_refused++;
        }
    }
    ck_assert_uint_ge(counts_refused, 2);
}
END_TEST

static size_t save_chip(struct irqchip_state *state, uint8_t *buf)
{
    struct state_io io;

    state_save_init(&io, buf, sizeof first);
    state_section_begin(&io, "irqchip", 0, IRQCHIP_SECTION_VERSION, 1);
    ck_assert_int_eq(irqchip_state_xfer(state, &io), 0);
    ck_assert_uint_lt(io.wr.pos, IRQCHIP_SECTION_MAX);
    state_section_end(&io);
    return state_save_finish(&io);
}

START_TEST(irqchip_equal_bytes)
{
    struct state_io io;
    size_t len;

    scramble(&chip, sizeof chip, 1);
    scramble(&chip_back, sizeof chip_back, 2);
    len = save_chip(&chip, first);
    state_load_init(&io, first, len);
    ck_assert(state_section_next(&io));
    ck_assert_int_eq(irqchip_state_xfer(&chip_back, &io), 0);
    ck_assert_uint_eq(save_chip(&chip_back, second), len);
    ck_assert_mem_eq(first, second, len);
    for (unsigned i = 0; i < IRQCHIP_PARTS; i++) { /* not from the file */
        ck_assert_uint_eq(chip_back.chip[i].chip_id, i);
        ck_assert_mem_eq(chip.chip[i].chip.dummy, chip_back.chip[i].chip.dummy, 512);
    }
    ck_assert_int_eq(chip.pit.channels[2].count_load_time,
                     chip_back.pit.channels[2].count_load_time);
}
END_TEST

static int clock_there_and_back(struct vm_clock_state *state)
{
    struct vm_clock_state in = *state;
    struct state_io io;
    size_t len;

    state_save_init(&io, first, sizeof first);
    state_section_begin(&io, "clock", 0, CLOCK_SECTION_VERSION, 1);
    (void)clock_state_xfer(&in, &io);
    io.error = STATE_OK;
    state_section_end(&io);
    len = state_save_finish(&io);
    memset(state, 0x55, sizeof *state);
    state->halted = false;
    state_load_init(&io, first, len);
    ck_assert(state_section_next(&io));
    return clock_state_xfer(state, &io);
}

START_TEST(clocks)
{
    struct vm_clock_state c = {
        .machine_ns = INT64_MAX, .kvm_ns = 77, .halted = true, .wall_ns = 99};

    ck_assert_int_eq(clock_there_and_back(&c), 0);
    ck_assert_uint_eq(c.machine_ns, INT64_MAX);
    ck_assert_uint_eq(c.kvm_ns, 77);
    ck_assert(c.halted);
    ck_assert_uint_eq(c.wall_ns, 99);
    c.machine_ns = UINT64_C(1) << 63;
    ck_assert_int_eq(clock_there_and_back(&c), -EBADMSG);
    c = (struct vm_clock_state){.kvm_ns = UINT64_MAX};
    ck_assert_int_eq(clock_there_and_back(&c), -EBADMSG);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("cpu_state");
    TCase *t = tcase_create("cpu_state");

    tcase_set_timeout(t, 60);
    tcase_add_test(t, vcpu_equal_bytes);
    tcase_add_test(t, parts_in_use_are_those_of_xcr0);
    tcase_add_test(t, vcpu_of_the_other_machine);
    tcase_add_test(t, msrs_outside_the_table);
    tcase_add_test(t, parts);
    tcase_add_test(t, truncated_anywhere);
    tcase_add_test(t, any_word);
    tcase_add_test(t, irqchip_equal_bytes);
    tcase_add_test(t, clocks);
    suite_add_tcase(s, t);
    return s;
}

UNIT_MAIN(suite)
