/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/mig_zero.h"

#include <stdlib.h>
#include <string.h>

#include "tests/unit/migrate/mig_rand.h"
#include "tests/unit/unit.h"

#define PAGES 1024u

static uint8_t *ram;

static void setup(void)
{
    ram = aligned_alloc(MIG_PAGE, PAGES * MIG_PAGE);
    ck_assert_ptr_nonnull(ram);
    memset(ram, 0, PAGES * MIG_PAGE);
}

static void teardown(void)
{
    free(ram);
}

/* Each bit of a page, by each way. */
START_TEST(one_bit_makes_a_page)
{
    enum mig_zero_way way = (enum mig_zero_way)_i;
    uint8_t *page = ram + 3 * MIG_PAGE;

    if (!mig_zero_has(way)) {
        return;
    }
    memset(ram, 0xff, 3 * MIG_PAGE);
    memset(page + MIG_PAGE, 0xff, MIG_PAGE);
    ck_assert(mig_page_is_zero_by(way, page));
    ck_assert(mig_page_is_zero(page));
    for (unsigned bit = 0; bit < MIG_PAGE * 8; bit++) {
        page[bit / 8] = (uint8_t)(1u << bit % 8);
        ck_assert_msg(!mig_page_is_zero_by(way, page), "bit %u", bit);
        ck_assert(!mig_page_is_zero(page));
        page[bit / 8] = 0;
    }
    ck_assert(mig_page_is_zero_by(way, page));
}
END_TEST

START_TEST(a_span_becomes_runs)
{
    static struct mig_ram frame;
    uint64_t seed = 5;

    for (int round = 0; round < 200; round++) {
        struct mig_run run = {.first = mig_rand_below(&seed, 512)};
        unsigned mask = (1u << mig_rand_below(&seed, 7)) - 1;
        uint64_t page, raw = 0;

        run.count = 1 + mig_rand_below(&seed, 512 - run.first);
        for (page = 0; page < 512; page++) {
            ram[page * MIG_PAGE + 4095] = (mig_rand(&seed) & mask) != 0;
        }
        mig_ram_begin(&frame, 1);
        mig_zero_classify(&frame, ram, &run);
        page = run.first;
        for (uint32_t i = 0; i < frame.run_count; i++) {
            ck_assert_uint_eq(frame.run[i].first, page);
            ck_assert(i == 0 || frame.run[i].kind != frame.run[i - 1].kind);
            for (uint32_t n = 0; n < frame.run[i].count; n++, page++) {
                bool zero = mig_page_is_zero(ram + page * MIG_PAGE);

                ck_assert_int_eq(frame.run[i].kind, zero ? MIG_RAM_ZERO : MIG_RAM_RAW);
                raw += !zero;
            }
        }
        ck_assert_uint_eq(page, run.first + run.count);
        ck_assert_uint_eq(frame.raw_pages, raw);
        ck_assert_uint_eq(frame.pages, run.count);
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("mig_zero");
    TCase *tc = tcase_create("zero");

    tcase_set_timeout(tc, 60);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_loop_test(tc, one_bit_makes_a_page, 0, MIG_ZERO_WAYS);
    tcase_add_test(tc, a_span_becomes_runs);
    suite_add_tcase(s, tc);
    return s;
}

UNIT_MAIN(suite)
