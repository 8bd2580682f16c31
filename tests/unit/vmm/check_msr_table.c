/* SPDX-License-Identifier: Apache-2.0 */
/* vmm/msr_table: what is an MSR of the guest, and what is not. */
#include "base/units.h"
#include "tests/unit/unit.h"
#include "vmm/msr_table.h"

START_TEST(no_msr_twice)
{
    uint32_t all[MSR_TABLE_MAX];
    size_t n = 0;

    for (size_t i = 0; i < msr_guest_count; i++) {
        all[n++] = msr_guest[i];
    }
    for (size_t i = 0; i < msr_standard_count; i++) {
        all[n++] = msr_standard[i];
    }
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < i; k++) {
            ck_assert_msg(all[i] != all[k], "MSR %#x", all[i]);
        }
    }
}
END_TEST

/* All of them, and no other of the ranges that processors use. */
START_TEST(known)
{
    static const struct {
        uint32_t from, to;
    } range[] = {{0, 0x2000},
                 {0xC0000000, 0xC0002000},
                 {0xC0010000, 0xC0012000},
                 {0x40000000, 0x40000200},
                 {0x4B564D00, 0x4B564E00}};
    unsigned lockstep = 0, standard = 0;

    for (size_t r = 0; r < ARRAY_SIZE(range); r++) {
        for (uint32_t i = range[r].from; i < range[r].to; i++) {
            bool in_lockstep = msr_known(i, false), in_standard = msr_known(i, true);

            ck_assert(in_standard || !in_lockstep);
            lockstep += in_lockstep;
            standard += in_standard;
        }
    }
    /* but for MTRRcap and EFER */
    ck_assert_uint_eq(lockstep, msr_guest_count - 2);
    ck_assert_uint_eq(standard, msr_guest_count - 2 + msr_standard_count);
}
END_TEST

/* What must never come from a file, or has its own place in a state. */
START_TEST(not_from_a_file)
{
    static const uint32_t never[] = {
        MSR_TSC,    0x1B,       0xFE,       0x79,       0x8B,       0xC0000080,
        0xC0010114, 0xC0010117, 0xC0010130, 0x480,      0x345,      0x38F,
        0x186,      0xC0010000, 0x40000000, 0x40000001, 0x40000020, 0x570};

    for (size_t i = 0; i < ARRAY_SIZE(never); i++) {
        ck_assert_msg(!msr_known(never[i], true), "MSR %#x", never[i]);
        ck_assert_msg(!msr_known(never[i], false), "MSR %#x", never[i]);
    }
    ck_assert(msr_known(MSR_TSC_DEADLINE, true));
    ck_assert(!msr_known(MSR_TSC_DEADLINE, false));
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("msr_table");
    TCase *t = tcase_create("msr_table");

    tcase_add_test(t, no_msr_twice);
    tcase_add_test(t, known);
    tcase_add_test(t, not_from_a_file);
    suite_add_tcase(s, t);
    return s;
}

UNIT_MAIN(suite)
