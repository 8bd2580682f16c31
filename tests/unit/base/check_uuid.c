/* SPDX-License-Identifier: Apache-2.0 */
#include "base/uuid.h"

#include <string.h>

#include "tests/unit/unit.h"

static const char sample[] = "00112233-4455-6677-8899-aabbccddeeff";

START_TEST(text_goes_round)
{
    char text[UUID_STR_LEN + 1];
    struct uuid u, upper;

    ck_assert(uuid_parse(sample, &u));
    ck_assert_mem_eq(
        u.b, "\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff", 16);
    uuid_format(u, text);
    ck_assert_str_eq(text, sample);
    ck_assert(uuid_parse("00112233-4455-6677-8899-AABBCCDDEEFF", &upper));
    ck_assert(uuid_equal(u, upper));
    ck_assert(!uuid_is_none(u));
    ck_assert(uuid_is_none((struct uuid){{0}}));
}
END_TEST

START_TEST(only_the_canonical_form)
{
    static const char *const bad[] = {
        "",
        "0",
        "00112233-4455-6677-8899-aabbccddeef",
        "00112233-4455-6677-8899-aabbccddeefff",
        "00112233-4455-6677-8899-aabbccddeeff ",
        " 00112233-4455-6677-8899-aabbccddeeff",
        "{00112233-4455-6677-8899-aabbccddeeff}",
        "00112233445566778899aabbccddeeff",
        "0011223-34455-6677-8899-aabbccddeeff",
        "00112233_4455_6677_8899_aabbccddeeff",
        "0011223g-4455-6677-8899-aabbccddeeff",
    };
    struct uuid u = {{42}};

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        ck_assert_msg(!uuid_parse(bad[i], &u), "accepted '%s'", bad[i]);
    }
    /* Every prefix and every replaced character, in memory of exactly that size. */
    for (size_t len = 0; len < UUID_STR_LEN; len++) {
        char *prefix = strndup(sample, len);
        char *changed = strdup(sample);

        ck_assert(!uuid_parse(prefix, &u));
        changed[len] = changed[len] == '-' ? '0' : '-';
        ck_assert(!uuid_parse(changed, &u));
        free(prefix);
        free(changed);
    }
    ck_assert_uint_eq(u.b[0], 42); /* untouched */
}
END_TEST

START_TEST(random_ones_differ)
{
    struct uuid a = uuid_random(), b = uuid_random();

    ck_assert(!uuid_equal(a, b));
    ck_assert_uint_eq(a.b[6] >> 4, 4); /* version 4 */
    ck_assert_uint_eq(a.b[8] >> 6, 2); /* the RFC's variant */
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("uuid");
    TCase *tc = tcase_create("uuid");

    tcase_add_test(tc, text_goes_round);
    tcase_add_test(tc, only_the_canonical_form);
    tcase_add_test(tc, random_ones_differ);
    suite_add_tcase(s, tc);
    return s;
}

UNIT_MAIN(suite)
