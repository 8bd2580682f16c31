/* SPDX-License-Identifier: Apache-2.0 */
/* A guest that writes at every moment at which order matters: before and after marks are
 * taken, before and after pages are protected. Its twin must have the same memory. */
#include "ft/ft_stage.h"

#include <errno.h>
#include <string.h>

#include "tests/unit/migrate/mig_rand.h"
#include "tests/unit/unit.h"
#include "vmm/gmem.h"

enum { PAGES = 64 * 5 + 7, WORDS = PAGES / 64 + 1 };

static _Alignas(4096) uint8_t ram[PAGES][GMEM_PAGE_SIZE];
static uint8_t twin[PAGES][GMEM_PAGE_SIZE];

/* The log. A page that is protected is marked by the next write, which unprotects it;
 * `manual`: marks stay, and are told again, until it is protected; only one that was told
 * is (KVM_CLEAR_DIRTY_LOG is given the bitmap). */
static struct {
    uint64_t seed;
    bool manual;
    uint64_t mark[WORDS], told[WORDS];
    bool open[PAGES];
    uint64_t device[WORDS]; /* marks of devices */
    int fail;               /* the call after so many: -EIO */
} log_;

static void guest_writes(unsigned most)
{
    for (uint64_t n = mig_rand_below(&log_.seed, most + 1); n > 0; n--) {
        uint64_t page = mig_rand_below(&log_.seed, PAGES);
        uint64_t bit = UINT64_C(1) << page % 64;

        if (mig_rand_below(&log_.seed, 4) == 0) { /* back to zeros */
            memset(ram[page], 0, GMEM_PAGE_SIZE);
        } else {
            ram[page][mig_rand_below(&log_.seed, GMEM_PAGE_SIZE)]++;
        }
        if (mig_rand_below(&log_.seed, 8) == 0) {
            log_.device[page / 64] |= bit; /* a device wrote it: that is not KVM's */
        } else if (!log_.open[page]) {
            log_.open[page] = true;
            log_.mark[page / 64] |= bit;
        }
    }
}

static void protect_pages(uint64_t first, uint64_t count)
{
    for (uint64_t page = first; page < first + count; page++) {
        uint64_t bit = UINT64_C(1) << page % 64;

        if ((log_.told[page / 64] & bit) != 0) {
            log_.mark[page / 64] &= ~bit;
            log_.told[page / 64] &= ~bit;
            log_.open[page] = false;
        }
    }
}

static int log_harvest(void *ctx, uint64_t *bitmap, uint64_t *ret_pages)
{
    (void)ctx;
    *ret_pages = 0;
    guest_writes(20);
    if (log_.fail > 0 && --log_.fail == 0) {
        return -EIO;
    }
    for (unsigned w = 0; w < WORDS; w++) {
        uint64_t told = log_.mark[w] | log_.device[w];

        *ret_pages += (uint64_t)__builtin_popcountll(told & ~bitmap[w]);
        bitmap[w] |= told;
        log_.device[w] = 0;
        log_.told[w] = log_.mark[w];
    }
    if (!log_.manual) {
        protect_pages(0, PAGES);
    }
    guest_writes(20);
    return 0;
}

static int log_protect(void *ctx, uint64_t first, uint64_t count)
{
    (void)ctx;
    ck_assert_uint_gt(count, 0);
    ck_assert_uint_le(first + count, PAGES);
    ck_assert_uint_eq(first % 64, 0); /* whole words */
    guest_writes(20);
    if (log_.fail > 0 && --log_.fail == 0) {
        return -EIO;
    }
    if (log_.manual) {
        protect_pages(first, count);
    }
    guest_writes(20);
    return 0;
}

static const struct ft_stage_source from = {
    .ram = ram[0], .harvest = log_harvest, .protect = log_protect};

/* The guest stands: as engine_epoch_take does it. */
static uint64_t stop(struct ft_stage *st)
{
    uint64_t dirty[WORDS] = {0}, stood;

    for (unsigned w = 0; w < WORDS; w++) {
        dirty[w] = log_.mark[w] | log_.device[w];
        log_.device[w] = 0;
        log_.told[w] = log_.mark[w];
    }
    protect_pages(0, PAGES);
    ck_assert(ft_stage_rest(st, ram[0], dirty, &stood));
    return stood;
}

static void take(const struct ft_stage *st)
{
    const uint8_t *bytes;
    uint64_t count = 0;

    for (uint64_t page = 0; ft_stage_next(st, &page, &bytes); page++) {
        count++;
        if (bytes != NULL) {
            memcpy(twin[page], bytes, GMEM_PAGE_SIZE);
        } else {
            memset(twin[page], 0, GMEM_PAGE_SIZE);
        }
    }
    ck_assert_uint_eq(count, st->count);
    ck_assert(memcmp(ram, twin, sizeof ram) == 0);
}

static void begin(struct ft_stage *st, uint64_t seed, bool manual)
{
    memset(st, 0, sizeof *st);
    memset(ram, 0, sizeof ram);
    memset(twin, 0, sizeof twin);
    memset(&log_, 0, sizeof log_);
    log_.seed = seed;
    log_.manual = manual;
    ck_assert(ft_stage_init(st, PAGES));
}

/* Epochs with passes that end, are cut short, or fail; every one leaves the same memory.
 */
START_TEST(nothing_is_lost)
{
    struct ft_stage st;

    for (uint64_t seed = 0; seed < 40; seed++) {
        begin(&st, seed, _i == 1);
        for (unsigned epoch = 0; epoch < 8; epoch++) {
            guest_writes(300);
            for (uint64_t turns = mig_rand_below(&log_.seed, 12); turns > 0; turns--) {
                log_.fail = (int)mig_rand_below(&log_.seed, 9);
                if (st.marked == 0 || mig_rand_below(&log_.seed, 4) == 0) {
                    (void)ft_stage_harvest(&st, &from);
                } else {
                    (void)ft_stage_copy(&st, &from, 1 + mig_rand_below(&log_.seed, 99));
                }
            }
            guest_writes(50);
            ck_assert_uint_le(stop(&st), PAGES);
            ck_assert_uint_eq(st.marked, 0);
            take(&st);
            ft_stage_clear(&st);
        }
        ft_stage_free(&st);
    }
}
END_TEST

/* What was copied ahead and not written to since costs nothing at the stop. */
START_TEST(copied_ahead_is_not_copied_again)
{
    struct ft_stage st;
    unsigned turns = 0;

    begin(&st, 7, true);
    for (unsigned i = 0; i < 200; i++) {
        ram[i][5] = 1;
        log_.mark[i / 64] |= UINT64_C(1) << i % 64;
        log_.open[i] = true;
    }
    log_.seed = 0; /* writes some more meanwhile */
    ck_assert_int_eq(ft_stage_harvest(&st, &from), 0);
    while (st.marked > 0) {
        ck_assert_int_eq(ft_stage_copy(&st, &from, 64), 0);
        ck_assert_uint_lt(turns++, 10);
    }
    ck_assert_uint_ge(turns, 3); /* in parts */
    ck_assert_uint_lt(stop(&st), 200);
    ck_assert_uint_ge(st.count, 200);
    take(&st);
    ft_stage_free(&st);
}
END_TEST

START_TEST(a_page_has_one_place)
{
    uint64_t dirty[WORDS] = {0}, stood;
    struct ft_stage st;

    begin(&st, 0, true);
    ck_assert(ft_stage_room(&st, 2));
    ck_assert_uint_eq(st.slots_cap, 2);
    dirty[1] = 2; /* page 65 */
    for (unsigned i = 0; i < 5; i++) {
        ram[65][0] = (uint8_t)i; /* zeros at first */
        ck_assert(ft_stage_rest(&st, ram[0], dirty, &stood));
        ck_assert_uint_eq(stood, 1);
    }
    ck_assert_uint_eq(st.count, 1);
    ck_assert_uint_eq(st.slots, 1);
    ck_assert_uint_eq(st.slots_cap, 2);
    take(&st);
    ft_stage_free(&st);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("ft_stage");
    TCase *tc = tcase_create("stage");

    tcase_add_loop_test(tc, nothing_is_lost, 0, 2);
    tcase_add_test(tc, copied_ahead_is_not_copied_again);
    tcase_add_test(tc, a_page_has_one_place);
    suite_add_tcase(s, tc);
    return s;
}

UNIT_MAIN(suite)
