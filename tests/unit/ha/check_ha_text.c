/* SPDX-License-Identifier: Apache-2.0 */
#include "ha/ha_text.h"

#include "tests/unit/unit.h"

START_TEST(pieces_are_joined_and_cut)
{
    char buf[8];

    ck_assert_str_eq(ha_text_set(buf, sizeof buf, "ab", "cd", NULL), "abcd");
    ck_assert_str_eq(ha_text_set(buf, sizeof buf, "abcdef", "ghij", NULL), "abcdefg");
    ck_assert_str_eq(ha_text_set(buf, sizeof buf, NULL), "");
}
END_TEST

/* A reason that is set to itself stays (it was lost once: a VM failed for no reason). */
START_TEST(a_text_may_be_set_to_itself)
{
    char buf[16];

    ha_text_set(buf, sizeof buf, "why", NULL);
    ck_assert_str_eq(ha_text_set(buf, sizeof buf, buf, NULL), "why");
    ck_assert_str_eq(ha_text_set(buf, sizeof buf, buf, " not", NULL), "why not");
}
END_TEST

START_TEST(numbers)
{
    char buf[32] = "";

    ck_assert_str_eq(ha_text_add_u64(buf, sizeof buf, 0), "0");
    ck_assert_str_eq(ha_text_add_u64(buf, sizeof buf, UINT64_MAX),
                     "018446744073709551615");
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("ha_text");
    TCase *tc = tcase_create("text");

    tcase_add_test(tc, pieces_are_joined_and_cut);
    tcase_add_test(tc, a_text_may_be_set_to_itself);
    tcase_add_test(tc, numbers);
    suite_add_tcase(s, tc);
    return s;
}

UNIT_MAIN(suite)
