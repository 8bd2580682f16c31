/* SPDX-License-Identifier: Apache-2.0 */
/* The port by which a guest says that it has crashed. */
#include "tests/unit/unit.h"
#include "tests/unit/vmm/machine_rig.h"
#include "vmm/dev_pvpanic.h"

static struct rig rig;

START_TEST(says_what_it_was_told)
{
    const struct machine_conf conf = {.type = MACHINE_STANDARD, .ram_len = RIG_RAM_LEN};

    rig_init(&rig, &conf);
    ck_assert_uint_eq(rig_in(&rig, BOARD_PVPANIC_PORT, 1), 3);
    for (unsigned value = 0; value < 256; value++) {
        unsigned before = rig.panics;

        rig.panic_value = 0;
        rig_out(&rig, BOARD_PVPANIC_PORT, 1, value);
        ck_assert_uint_eq(rig.panics - before, (value & 3) != 0);
        ck_assert_uint_eq(rig.panic_value, value & 3);
    }
    ck_assert_uint_eq(rig.resets, 0);
    rig_free(&rig);
}
END_TEST

START_TEST(lockstep_has_none)
{
    rig_init(&rig, NULL);
    ck_assert_uint_eq(rig_in(&rig, BOARD_PVPANIC_PORT, 1), 0xFF);
    rig_out(&rig, BOARD_PVPANIC_PORT, 1, PVPANIC_PANICKED);
    ck_assert_uint_eq(rig.panics, 0);
    ck_assert_uint_eq(rig_in(&rig, 0xCF8, 4), 0xFFFF00FF); /* nor PCI; 0xCF9 is there */
    rig_free(&rig);
}
END_TEST

static Suite *pvpanic_suite(void)
{
    Suite *suite = suite_create("pvpanic");
    TCase *tc = tcase_create("pvpanic");

    tcase_add_test(tc, says_what_it_was_told);
    tcase_add_test(tc, lockstep_has_none);
    suite_add_tcase(suite, tc);
    return suite;
}

UNIT_MAIN(pvpanic_suite)
