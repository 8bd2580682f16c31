/* SPDX-License-Identifier: Apache-2.0 */
#include "base/text.h"

#include <string.h>

#include "tests/unit/unit.h"

START_TEST(copies_are_bounded_and_terminated)
{
    char buf[5] = "zzzz";

    ck_assert(text_copy(buf, 4, "abc"));
    ck_assert_str_eq(buf, "abc");
    ck_assert(!text_copy(buf, 4, "wxyz"));
    ck_assert_str_eq(buf, "wxy");
    ck_assert(text_copy(buf, 4, ""));
    ck_assert_str_eq(buf, "");
    ck_assert(!text_copy(buf, 1, "a"));
    ck_assert_str_eq(buf, "");
    ck_assert_int_eq(buf[4], '\0'); /* nothing beyond cap was touched */
    ck_assert(text_copy(buf, 1, ""));
}
END_TEST

START_TEST(numbers_are_strict)
{
    static const char *const bad[] = {"",
                                      " 1",
                                      "1 ",
                                      "+1",
                                      "-1",
                                      "0x1",
                                      "1a",
                                      "1.0",
                                      "10k",
                                      "١",
                                      "18446744073709551616",
                                      "99999999999999999999999999"};
    uint64_t v = 42;

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ck_assert_msg(!text_u64(bad[i], 0, UINT64_MAX, &v), "accepted '%s'", bad[i]);
    }
    ck_assert(!text_u64("9", 10, 20, &v));
    ck_assert(!text_u64("21", 10, 20, &v));
    ck_assert_uint_eq(v, 42);
    ck_assert(text_u64("10", 10, 20, &v));
    ck_assert_uint_eq(v, 10);
    ck_assert(text_u64("20", 10, 20, &v));
    ck_assert(text_u64("0007", 0, 20, &v));
    ck_assert_uint_eq(v, 7);
    ck_assert(text_u64("18446744073709551615", 0, UINT64_MAX, &v));
    ck_assert_uint_eq(v, UINT64_MAX);
}
END_TEST

START_TEST(bytes_as_hex)
{
    char text[7];

    text_hex(text, "\x00\x7f\xff", 3);
    ck_assert_str_eq(text, "007fff");
    text_hex(text, "", 0);
    ck_assert_str_eq(text, "");
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("text");
    TCase *tc = tcase_create("text");

    tcase_add_test(tc, copies_are_bounded_and_terminated);
    tcase_add_test(tc, numbers_are_strict);
    tcase_add_test(tc, bytes_as_hex);
    suite_add_tcase(s, tc);
    return s;
}

UNIT_MAIN(suite)
