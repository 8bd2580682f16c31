/* SPDX-License-Identifier: Apache-2.0 */
/* A guest that is off: its process waits for its twin's copies. */
#include "tests/unit/unit.h"

#include "ft/ft_alike.h"

START_TEST(without_mirrored_disks_nothing_waits)
{
    struct ft_alike a = {0};

    ck_assert_int_eq(ft_alike_next(&a, false, true, 7), FT_ALIKE_MAY_END);
    ck_assert_uint_eq(a.number, 0);
    ck_assert(!a.done); /* nobody may say that copies are alike */
}
END_TEST

START_TEST(one_more_and_its_acknowledgement)
{
    struct ft_alike a = {0};

    ck_assert_int_eq(ft_alike_next(&a, true, true, 7), FT_ALIKE_BEGIN);
    ck_assert_uint_eq(a.number, 8);
    ck_assert_int_eq(ft_alike_next(&a, true, true, 8), FT_ALIKE_WAIT); /* once */
    ck_assert_uint_eq(a.number, 8);
    ft_alike_acked(&a, 7); /* of what was before the guest was off */
    ck_assert_int_eq(ft_alike_next(&a, true, true, 8), FT_ALIKE_WAIT);
    ft_alike_acked(&a, 8);
    ck_assert(a.done);
    ck_assert_int_eq(ft_alike_next(&a, true, true, 8), FT_ALIKE_MAY_END);
    ft_alike_acked(&a, 8);
    ck_assert(a.done);
}
END_TEST

/* The twin is not heard: what is begun now would not be the last. */
START_TEST(not_while_none_can_begin)
{
    struct ft_alike a = {0};

    ck_assert_int_eq(ft_alike_next(&a, true, false, 7), FT_ALIKE_WAIT);
    ck_assert_uint_eq(a.number, 0);
    ft_alike_acked(&a, 7);
    ck_assert(!a.done);
    ck_assert_int_eq(ft_alike_next(&a, true, true, 9), FT_ALIKE_BEGIN);
    ck_assert_uint_eq(a.number, 10);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("ft_alike");
    TCase *tc = tcase_create("alike");

    tcase_add_test(tc, without_mirrored_disks_nothing_waits);
    tcase_add_test(tc, one_more_and_its_acknowledgement);
    tcase_add_test(tc, not_while_none_can_begin);
    suite_add_tcase(s, tc);
    return s;
}

UNIT_MAIN(suite)
