/* SPDX-License-Identifier: Apache-2.0 */
/* HASHES frames: their bytes for ever, and what is not one. */
#include "ft/ft_wire.h"

#include <stdlib.h>
#include <string.h>

#include "tests/unit/golden.h"
#include "tests/unit/unit.h"

#define PAGES 1000u

static uint8_t body[FT_HASHES_HEAD_LEN + 3 * FT_HASH_LEN];

/* Pages 3, 4 and 999 of 5, two having come before: tests/golden/wire/v1/ft_hashes.bin. */
static size_t example(void)
{
    static const uint64_t page[] = {3, 4, 999};
    struct ft_hashes h = {.barrier = 7,
                          .verified = 8,
                          .total = 5,
                          .first = 2,
                          .count = 3,
                          .diverged = true,
                          .state.b = {1, 2, 3}};

    ft_hashes_put(&h, body);
    for (unsigned i = 0; i < 3; i++) {
        struct ft_hash hash = {.page = page[i], .sum.b = {(uint8_t)(i + 10)}};

        ft_hash_put(&hash, body + FT_HASHES_HEAD_LEN + i * FT_HASH_LEN);
    }
    return sizeof body;
}

/* With one byte changed, in memory of exactly its size. */
static bool poked(size_t at, uint8_t value, size_t len)
{
    struct ft_hashes h;
    uint8_t *copy = malloc(len);
    bool good;

    (void)example();
    body[at] = value;
    memcpy(copy, body, len);
    good = ft_hashes_get(copy, len, PAGES, &h);
    free(copy);
    return good;
}

START_TEST(hashes_come_back)
{
    size_t len;
    unsigned char *want = golden_load("wire/v1/ft_hashes.bin", &len);
    struct ft_hashes h;
    struct ft_hash hash;

    ck_assert_uint_eq(example(), len);
    ck_assert_mem_eq(body, want, len);
    ck_assert(ft_hashes_get(want, len, PAGES, &h));
    ck_assert_uint_eq(h.barrier, 7);
    ck_assert_uint_eq(h.verified, 8);
    ck_assert_uint_eq(h.total, 5);
    ck_assert_uint_eq(h.first, 2);
    ck_assert_uint_eq(h.count, 3);
    ck_assert(h.diverged);
    ck_assert_uint_eq(h.state.b[2], 3);
    ft_hash_get(h.entries + 2 * FT_HASH_LEN, &hash);
    ck_assert_uint_eq(hash.page, 999);
    ck_assert_uint_eq(hash.sum.b[0], 12);
    free(want);
}
END_TEST

START_TEST(hashes_are_judged)
{
    struct ft_hashes h = {.barrier = 1};
    size_t entry = FT_HASHES_HEAD_LEN;

    ck_assert(poked(0, 7, sizeof body)); /* as it is */
    for (size_t len = 0; len < sizeof body; len++) {
        ck_assert(!poked(0, 7, len));
    }
    ck_assert(!poked(0, 0, sizeof body));         /* no barrier */
    ck_assert(!poked(16, 4, sizeof body));        /* more than there are */
    ck_assert(!poked(16 + 2, 1, sizeof body));    /* more than the VM has */
    ck_assert(!poked(24, 3, sizeof body));        /* behind the last */
    ck_assert(!poked(24 + 7, 0x80, sizeof body)); /* far behind */
    ck_assert(!poked(32, 2, sizeof body));        /* more than it says */
    ck_assert(!poked(32, 4, sizeof body));        /* fewer */
    ck_assert(!poked(36, 2, sizeof body));        /* a flag that is none */
    ck_assert(poked(36, 0, sizeof body));
    ck_assert(!poked(56, 1, sizeof body));    /* reserved */
    ck_assert(!poked(entry, 1, sizeof body)); /* two smaller ones came before */
    ck_assert(!poked(entry, 4, sizeof body)); /* twice */
    ck_assert(!poked(entry, 5, sizeof body)); /* out of order */
    ck_assert(!poked(entry + 2 * FT_HASH_LEN, 0xE8, sizeof body)); /* page 1000 */
    ck_assert(!poked(entry + 2 * FT_HASH_LEN + 7, 1, sizeof body));
    ft_hashes_put(&h, body); /* none: an answer as well */
    ck_assert(ft_hashes_get(body, FT_HASHES_HEAD_LEN, PAGES, &h));
    h.total = 1; /* none of one: not */
    ft_hashes_put(&h, body);
    ck_assert(!ft_hashes_get(body, FT_HASHES_HEAD_LEN, PAGES, &h));
}
END_TEST

static Suite *ft_hashes_suite(void)
{
    Suite *suite = suite_create("ft_hashes");
    TCase *tc = tcase_create("ft_hashes");

    tcase_add_test(tc, hashes_come_back);
    tcase_add_test(tc, hashes_are_judged);
    suite_add_tcase(suite, tc);
    return suite;
}

UNIT_MAIN(ft_hashes_suite)
