/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/epoch_name.h"

#include <string.h>

#include "tests/unit/unit.h"

START_TEST(good)
{
    static const struct {
        const char *text, *name, *shown;
        bool has_epoch;
        uint64_t epoch;
    } rows[] = {
        {"disk0@7", "disk0", "disk0", true, 7},
        {"disk0@0", "disk0", "disk0", true, 0},
        {"disk0", "disk0", "disk0", false, 0},
        {"", "", "", false, 0},
        {"@1", "", "", true, 1},
        {"a/../b@18446744073709551615", "a/../b", "a%2f..%2fb", true, UINT64_MAX},
        {"\x01 %@2", "\x01 %", "%01%20%25", true, 2},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct epoch_name n;

        ck_assert_ptr_null(epoch_name_parse(rows[i].text, &n));
        ck_assert_str_eq(n.export_name, rows[i].name);
        ck_assert_str_eq(n.shown, rows[i].shown);
        ck_assert_int_eq(n.has_epoch, rows[i].has_epoch);
        ck_assert_uint_eq(n.epoch, rows[i].epoch);
    }
}
END_TEST

START_TEST(bad)
{
    static const char *const texts[] = {
        "disk@",     "disk@x",   "disk@-1",   "disk@+1", "disk@ 1",
        "disk@1 ",   "d@1@2",    "disk@0001", "disk@00", "disk@1x",
        "disk@0x10", "disk@1.0", "@",         "@@1",     "disk@18446744073709551616",
    };
    char longest[2 * EPOCH_SHOWN_MAX];
    struct epoch_name n;

    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        ck_assert_msg(epoch_name_parse(texts[i], &n) != NULL, "%s", texts[i]);
    }
    memset(longest, 'a', sizeof longest);
    longest[sizeof longest - 1] = '\0';
    ck_assert_ptr_nonnull(epoch_name_parse(longest, &n));
    memset(longest, '/', EPOCH_SHOWN_MAX / 3 + 1); /* three bytes each */
    longest[EPOCH_SHOWN_MAX / 3 + 1] = '\0';
    ck_assert_ptr_nonnull(epoch_name_parse(longest, &n));
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("storage/epoch_name");
    TCase *tc = tcase_create("all");

    tcase_add_test(tc, good);
    tcase_add_test(tc, bad);
    suite_add_tcase(s, tc);
    return s;
}

UNIT_MAIN(suite)
