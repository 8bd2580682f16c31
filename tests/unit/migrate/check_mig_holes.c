/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "migrate/mig_holes.h"
#include "tests/unit/golden.h"
#include "tests/unit/migrate/mig_rand.h"
#include "tests/unit/unit.h"

#define PAGES_MAX (3 * MIG_HOLES_WORDS_MAX * 64)

static uint64_t words[PAGES_MAX / 64], others[PAGES_MAX / 64];
static uint8_t body[MIG_HOLES_LEN_MAX];
static struct mig_bitmap from, to;

static void begin(uint64_t page_count)
{
    mig_bitmap_init(&from, words, page_count);
    mig_bitmap_init(&to, others, page_count);
}

static enum mig_holes_reason decode(size_t len, uint64_t at)
{
    uint64_t was = at;
    enum mig_holes_reason reason = mig_holes_decode(body, len, &at, &to);

    ck_assert(reason == MIG_HOLES_OK || at == was);
    return reason;
}

/* Any size, any pages: frame by frame the same at the other end. */
START_TEST(lists_go_round)
{
    static const uint64_t sizes[] = {1,
                                     63,
                                     64,
                                     65,
                                     8192,
                                     MIG_HOLES_WORDS_MAX * 64,
                                     MIG_HOLES_WORDS_MAX * 64 + 1,
                                     PAGES_MAX - 3};
    uint64_t seed = 11;

    for (unsigned i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        uint64_t at = 0, read_at = 0;
        unsigned frames = 0;
        size_t len;

        begin(sizes[i]);
        for (unsigned n = 0; n < 1000; n++) {
            mig_bitmap_set(&from, mig_rand_below(&seed, (uint32_t)sizes[i]), 1);
        }
        mig_bitmap_set(&from, sizes[i] - 1, 1);
        while ((len = mig_holes_encode(&from, &at, body)) > 0) {
            ck_assert_uint_le(len, MIG_HOLES_LEN_MAX);
            ck_assert_int_eq(mig_holes_decode(body, len, &read_at, &to), MIG_HOLES_OK);
            ck_assert_uint_eq(read_at, at);
            frames++;
        }
        ck_assert_uint_ge(read_at, sizes[i]);
        ck_assert_uint_eq(frames, (sizes[i] + MIG_HOLES_WORDS_MAX * 64 - 1) /
                                      (MIG_HOLES_WORDS_MAX * 64));
        ck_assert_mem_eq(words, others, mig_bitmap_words(sizes[i]) * sizeof words[0]);
    }
}
END_TEST

START_TEST(what_is_wrong_is_said)
{
    uint64_t at = 0;
    size_t len;

    begin(100);
    mig_bitmap_set(&from, 99, 1);
    len = mig_holes_encode(&from, &at, body);
    ck_assert_uint_eq(len, 16 + 2 * 8);
    ck_assert_int_eq(decode(len - 1, 0), MIG_HOLES_BAD_LENGTH);
    ck_assert_int_eq(decode(15, 0), MIG_HOLES_BAD_LENGTH);
    ck_assert_int_eq(decode(len, 64), MIG_HOLES_BAD_ORDER);
    ck_assert_int_eq(decode(len, 128), MIG_HOLES_BAD_ORDER); /* RAM is over */
    body[12] = 1;
    ck_assert_int_eq(decode(len, 0), MIG_HOLES_BAD_RESERVED);
    body[12] = 0;
    body[8] = 3;
    ck_assert_int_eq(decode(len + 8, 0), MIG_HOLES_BAD_COUNT); /* beyond RAM */
    body[8] = 0;
    ck_assert_int_eq(decode(16, 0), MIG_HOLES_BAD_COUNT);
    body[8] = 2;
    body[16 + 8 + 4] |= 0x10; /* page 100 */
    ck_assert_int_eq(decode(len, 0), MIG_HOLES_BAD_PAGE);
    ck_assert_uint_eq(mig_bitmap_count(&to), 0); /* nothing of all that was taken */
    body[16 + 8 + 4] &= 0x0f;
    ck_assert_int_eq(decode(len, 0), MIG_HOLES_OK);
    ck_assert_uint_eq(mig_bitmap_count(&to), 1);
    ck_assert(mig_bitmap_test(&to, 99));
    for (unsigned reason = 0; reason <= MIG_HOLES_BAD_PAGE; reason++) {
        ck_assert_str_ne(mig_holes_reason_str((enum mig_holes_reason)reason),
                         mig_holes_reason_str((enum mig_holes_reason)99));
    }
}
END_TEST

/* Pages 0, 63, 64 and 129 of 130. */
START_TEST(golden_bytes)
{
    size_t golden_len;
    unsigned char *golden = golden_load("wire/v1/mig_missing.bin", &golden_len);
    uint64_t at = 0;

    begin(130);
    mig_bitmap_set(&from, 0, 1);
    mig_bitmap_set(&from, 63, 2);
    mig_bitmap_set(&from, 129, 1);
    ck_assert_uint_eq(mig_holes_encode(&from, &at, body), golden_len);
    ck_assert_mem_eq(body, golden, golden_len);
    ck_assert_uint_eq(mig_holes_encode(&from, &at, body), 0);
    free(golden);
}
END_TEST

START_TEST(one_of_two_claims_a_page)
{
    begin(70);
    mig_bitmap_set(&from, 69, 1);
    ck_assert(!mig_bitmap_claim(&from, 68));
    ck_assert(mig_bitmap_claim(&from, 69));
    ck_assert(!mig_bitmap_claim(&from, 69));
    ck_assert_uint_eq(mig_bitmap_count(&from), 0);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("mig_holes");
    TCase *tc = tcase_create("holes");

    tcase_add_test(tc, lists_go_round);
    tcase_add_test(tc, what_is_wrong_is_said);
    tcase_add_test(tc, golden_bytes);
    tcase_add_test(tc, one_of_two_claims_a_page);
    suite_add_tcase(s, tc);
    return s;
}

UNIT_MAIN(suite)
