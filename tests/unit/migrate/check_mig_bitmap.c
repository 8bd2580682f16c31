/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/mig_bitmap.h"

#include <pthread.h>
#include <string.h>

#include "tests/unit/migrate/mig_rand.h"
#include "tests/unit/unit.h"

#define PAGES 5000u /* nine blocks and a piece, no multiple of 64 */

static uint64_t words[(PAGES + 63) / 64 + 2];
static struct mig_bitmap bm;
static bool expected[PAGES];

static void setup(void)
{
    memset(words, 0xff, sizeof words);
    mig_bitmap_init(&bm, words, PAGES);
    memset(expected, 0, sizeof expected);
}

/* The first page of which the bitmap says otherwise than `want`, else PAGES. */
static unsigned first_difference(const bool *want)
{
    unsigned p = 0;

    while (p < PAGES && mig_bitmap_test(&bm, p) == want[p]) {
        p++;
    }
    return p;
}

static void compare(void)
{
    uint64_t count = 0;

    ck_assert_uint_eq(first_difference(expected), PAGES);
    for (unsigned p = 0; p < PAGES; p++) {
        count += expected[p];
    }
    ck_assert_uint_eq(mig_bitmap_count(&bm), count);
    /* Nothing beyond the end, in the last word or behind it. */
    ck_assert_uint_eq(words[PAGES / 64] >> PAGES % 64, 0);
    ck_assert_uint_eq(words[(PAGES + 63) / 64], UINT64_MAX);
}

START_TEST(ranges_are_set_and_cleared)
{
    uint64_t seed = 1;

    for (int i = 0; i < 400; i++) {
        uint64_t first = mig_rand_below(&seed, PAGES + 1);
        uint64_t count =
            mig_rand_below(&seed, PAGES - first + 1) >> mig_rand_below(&seed, 12);
        bool set = (mig_rand(&seed) & 1) != 0;

        (set ? mig_bitmap_set : mig_bitmap_clear)(&bm, first, count);
        for (uint64_t p = first; p < first + count; p++) {
            expected[p] = set;
        }
        compare();
    }
    mig_bitmap_set_all(&bm);
    ck_assert_uint_eq(mig_bitmap_count(&bm), PAGES);
}
END_TEST

START_TEST(logs_of_slots_are_merged_at_any_page)
{
    uint64_t seed = 2;

    for (int i = 0; i < 300; i++) {
        uint64_t src[(PAGES + 63) / 64];
        uint64_t first = mig_rand_below(&seed, PAGES);
        uint64_t count = mig_rand_below(&seed, PAGES - first + 1);

        for (unsigned w = 0; w < sizeof src / sizeof src[0]; w++) {
            /* Also bits beyond `count`: they are nobody's. */
            src[w] = mig_rand(&seed) & mig_rand(&seed) & mig_rand(&seed);
        }
        mig_bitmap_merge(&bm, first, src, count);
        for (uint64_t p = 0; p < count; p++) {
            expected[first + p] |= (src[p / 64] >> p % 64 & 1) != 0;
        }
        compare();
        if (i % 10 == 9) {
            mig_bitmap_clear(&bm, 0, PAGES);
            memset(expected, 0, sizeof expected);
        }
    }
}
END_TEST

START_TEST(runs_are_found_in_order)
{
    static const struct {
        uint64_t first, count;
    } run[] = {{0, 1}, {63, 2}, {100, 28}, {130, 512}, {4096, 904}};
    struct mig_run got;
    uint64_t from = 0;

    ck_assert(!mig_bitmap_next(&bm, 0, 0, &got));
    for (unsigned i = 0; i < 5; i++) {
        mig_bitmap_set(&bm, run[i].first, run[i].count);
    }
    for (unsigned i = 0; i < 5; i++) {
        ck_assert(mig_bitmap_next(&bm, from, 0, &got));
        ck_assert_uint_eq(got.first, run[i].first);
        ck_assert_uint_eq(got.count, run[i].count);
        from = got.first + got.count;
    }
    ck_assert(!mig_bitmap_next(&bm, from, 0, &got));
    ck_assert(mig_bitmap_next(&bm, 135, 100, &got));
    ck_assert_uint_eq(got.first, 135);
    ck_assert_uint_eq(got.count, 100);
}
END_TEST

START_TEST(every_page_has_one_stream)
{
    for (unsigned n = 1; n <= MIG_STREAMS_MAX; n++) {
        uint64_t count[MIG_STREAMS_MAX] = {0};

        for (uint64_t page = 0; page < UINT64_C(4096) * MIG_BLOCK_PAGES;
             page += MIG_BLOCK_PAGES) {
            unsigned stream = mig_stream_of(page, n);

            ck_assert_uint_lt(stream, n);
            ck_assert_uint_eq(mig_stream_of(page + MIG_BLOCK_PAGES - 1, n), stream);
            count[stream]++;
        }
        for (unsigned s = 0; s < n; s++) { /* within a tenth of its share */
            ck_assert_uint_gt(count[s] * n * 10, 4096u * 9);
            ck_assert_uint_lt(count[s] * n * 10, 4096u * 11);
        }
    }
    /* Part of the protocol: never changes. */
    ck_assert_uint_eq(mig_stream_of(512, 4), 2);
    ck_assert_uint_eq(mig_stream_of(1024, 4), 0);
    ck_assert_uint_eq(mig_stream_of(UINT64_C(1) << 30, 16), 3);
}
END_TEST

START_TEST(blocks_of_all_streams_are_all_of_ram)
{
    for (unsigned n = 1; n <= 5; n++) {
        for (unsigned s = 0; s < n; s++) {
            struct mig_cursor cursor = mig_cursor_make(s, n);
            struct mig_run block;
            uint64_t behind = 0;

            while (mig_cursor_block(&cursor, PAGES, &block)) {
                ck_assert_uint_ge(block.first, behind);
                ck_assert_uint_eq(block.first % MIG_BLOCK_PAGES, 0);
                ck_assert_uint_le(block.count, MIG_BLOCK_PAGES);
                mig_bitmap_set(&bm, block.first, block.count);
                behind = block.first + block.count;
                ck_assert_uint_le(behind, PAGES);
            }
        }
        ck_assert_uint_eq(mig_bitmap_count(&bm), PAGES);
        mig_bitmap_clear(&bm, 0, PAGES);
    }
}
END_TEST

/* Whatever the limits, each dirty page is handed out once and on its stream; what is
 * given back comes again. */
START_TEST(what_is_taken_is_gone_until_given_back)
{
    uint64_t seed = 3;

    for (int round = 0; round < 200; round++) {
        unsigned n = 1 + (unsigned)mig_rand_below(&seed, 6);
        bool back[PAGES] = {false}, still_set = false;
        uint64_t given_back = 0, taken = 0, dirty;

        for (int i = 0; i < 60; i++) {
            uint64_t first = mig_rand_below(&seed, PAGES);

            mig_bitmap_set(&bm, first, mig_rand_below(&seed, PAGES - first) >> (i % 12));
        }
        dirty = mig_bitmap_count(&bm);
        for (unsigned s = 0; s < n; s++) {
            struct mig_cursor cursor = mig_cursor_make(s, n);
            uint64_t behind = 0;

            for (;;) {
                struct mig_run run[64];
                size_t run_max = 1 + mig_rand_below(&seed, 64);
                uint64_t page_max = 1 + mig_rand_below(&seed, 700), pages = 0;
                size_t count = mig_bitmap_take(&bm, &cursor, run, run_max, page_max);

                ck_assert_uint_le(count, run_max);
                for (size_t i = 0; i < count; i++) {
                    ck_assert_uint_gt(run[i].count, 0);
                    ck_assert_uint_ge(run[i].first, behind);
                    behind = run[i].first + run[i].count;
                    ck_assert_uint_le(behind, PAGES);
                    ck_assert_uint_eq(run[i].first / MIG_BLOCK_PAGES,
                                      (behind - 1) / MIG_BLOCK_PAGES);
                    ck_assert_uint_eq(mig_stream_of(run[i].first, n), s);
                    pages += run[i].count;
                    for (uint64_t p = run[i].first; p < behind; p++) {
                        still_set |= mig_bitmap_test(&bm, p);
                    }
                }
                ck_assert_uint_le(pages, page_max);
                taken += pages;
                if (mig_rand_below(&seed, 8) == 0) {
                    mig_bitmap_give_back(&bm, run, count);
                    for (size_t i = 0; i < count; i++) {
                        for (uint64_t p = 0; p < run[i].count; p++) {
                            back[run[i].first + p] = true;
                        }
                    }
                    given_back += pages;
                }
                if (count < run_max && pages < page_max) {
                    break;
                }
            }
        }
        ck_assert_uint_eq(taken, dirty);
        ck_assert_uint_eq(mig_bitmap_count(&bm), given_back);
        ck_assert(!still_set);
        ck_assert_uint_eq(first_difference(back), PAGES);
        mig_bitmap_clear(&bm, 0, PAGES);
    }
}
END_TEST

/* One thread marks, two take: no mark is lost. */
#define MARKS 200000u
static unsigned seen[PAGES], marked[PAGES];
static bool stop;

static void *marks(void *arg)
{
    uint64_t seed = 4;

    (void)arg;
    for (unsigned i = 0; i < MARKS; i++) {
        uint64_t page = mig_rand_below(&seed, PAGES);

        __atomic_fetch_add(&marked[page], 1, __ATOMIC_RELAXED);
        mig_bitmap_set(&bm, page, 1);
    }
    __atomic_store_n(&stop, true, __ATOMIC_RELEASE);
    return NULL;
}

static void *takes(void *arg)
{
    unsigned stream = *(unsigned *)arg;
    bool last;

    do {
        struct mig_cursor cursor = mig_cursor_make(stream, 2);
        struct mig_run run[8];
        size_t count;

        last = __atomic_load_n(&stop, __ATOMIC_ACQUIRE);
        while ((count = mig_bitmap_take(&bm, &cursor, run, 8, 100)) > 0) {
            for (size_t i = 0; i < count; i++) {
                for (uint64_t p = 0; p < run[i].count; p++) {
                    seen[run[i].first + p] =
                        __atomic_load_n(&marked[run[i].first + p], __ATOMIC_RELAXED);
                }
            }
        }
    } while (!last);
    return NULL;
}

START_TEST(no_mark_is_lost_between_threads)
{
    pthread_t thread[3];
    unsigned stream[2] = {0, 1};

    ck_assert_int_eq(pthread_create(&thread[0], NULL, marks, NULL), 0);
    ck_assert_int_eq(pthread_create(&thread[1], NULL, takes, &stream[0]), 0);
    ck_assert_int_eq(pthread_create(&thread[2], NULL, takes, &stream[1]), 0);
    for (int i = 0; i < 3; i++) {
        pthread_join(thread[i], NULL);
    }
    ck_assert_uint_eq(mig_bitmap_count(&bm), 0);
    for (unsigned p = 0; p < PAGES; p++) {
        ck_assert_uint_eq(seen[p], marked[p]);
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("mig_bitmap");
    TCase *tc = tcase_create("bitmap");

    tcase_set_timeout(tc, 60);
    tcase_add_checked_fixture(tc, setup, NULL);
    tcase_add_test(tc, ranges_are_set_and_cleared);
    tcase_add_test(tc, logs_of_slots_are_merged_at_any_page);
    tcase_add_test(tc, runs_are_found_in_order);
    tcase_add_test(tc, every_page_has_one_stream);
    tcase_add_test(tc, blocks_of_all_streams_are_all_of_ram);
    tcase_add_test(tc, what_is_taken_is_gone_until_given_back);
    tcase_add_test(tc, no_mark_is_lost_between_threads);
    suite_add_tcase(s, tc);
    return s;
}

UNIT_MAIN(suite)
