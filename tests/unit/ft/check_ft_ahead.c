/* SPDX-License-Identifier: Apache-2.0 */
#include "ft/ft_ahead.h"

#include "tests/unit/migrate/mig_rand.h"
#include "tests/unit/unit.h"

struct epoch {
    uint64_t stood, copied; /* pages: while it stood; ahead, each time */
    unsigned passes;
};

/* `pages` were written to; what a pass copies is written to again as far as `again` of
 * 1000 says. */
static struct epoch one(struct ft_ahead *a, uint64_t pages, uint64_t again)
{
    struct epoch e = {.stood = pages};

    while (ft_ahead_next(a, e.stood) == FT_AHEAD_COPY) {
        e.passes++;
        e.copied += e.stood;
        e.stood = e.stood * again / 1000;
    }
    ft_ahead_stopped(a, pages, e.stood);
    return e;
}

START_TEST(few_pages_stop_at_once)
{
    struct ft_ahead a = {0};

    ck_assert_uint_eq(one(&a, 0, 0).passes, 0);
    ck_assert_uint_eq(one(&a, FT_AHEAD_PAGES - 1, 0).passes, 0);
    ck_assert_uint_eq(one(&a, FT_AHEAD_PAGES, 0).passes, 1);
}
END_TEST

START_TEST(passes_while_the_rest_shrinks)
{
    struct ft_ahead a = {0};
    struct epoch e = one(&a, 10000, 200); /* 2000, 400: too few for a third */

    ck_assert_uint_eq(e.passes, 2);
    ck_assert_uint_eq(e.stood, 400);
    e = one(&a, 1000000, 500); /* shrinks, but for ever */
    ck_assert_uint_eq(e.passes, FT_AHEAD_PASSES);
    e = one(&a, 10000, 501); /* not by half */
    ck_assert_uint_eq(e.passes, 1);
}
END_TEST

START_TEST(a_guest_that_writes_all_again_is_let_alone)
{
    struct ft_ahead a = {0};
    uint64_t pages = 0, copied = 0, epochs = 1000;

    for (uint64_t i = 0; i < epochs; i++) {
        struct epoch e = one(&a, 10000, 990);

        pages += 10000;
        copied += e.copied;
    }
    ck_assert_uint_le(copied * 100, pages * 3); /* at most 3 % for nothing */
    ck_assert_uint_gt(copied, 0);
    for (unsigned i = 0; i <= FT_AHEAD_REST; i++) { /* it has become calm: soon seen */
        (void)one(&a, 10000, 10);
    }
    for (unsigned i = 0; i < 100; i++) {
        ck_assert_uint_eq(one(&a, 10000, 10).stood, 100);
    }
}
END_TEST

/* Whatever comes: the guest does not stand for more than was there, and passes end. */
START_TEST(any_guest)
{
    uint64_t seed = (uint64_t)_i;
    struct ft_ahead a = {0};

    for (unsigned i = 0; i < 2000; i++) {
        uint64_t pages = mig_rand_below(&seed, 40000);
        struct epoch e = one(&a, pages, mig_rand_below(&seed, 1001));

        ck_assert_uint_le(e.stood, pages);
        ck_assert_uint_le(e.passes, FT_AHEAD_PASSES);
        ck_assert_uint_le(e.copied, 2 * pages);
        ck_assert_uint_le(a.rest, FT_AHEAD_REST);
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("ft_ahead");
    TCase *tc = tcase_create("ahead");

    tcase_add_test(tc, few_pages_stop_at_once);
    tcase_add_test(tc, passes_while_the_rest_shrinks);
    tcase_add_test(tc, a_guest_that_writes_all_again_is_let_alone);
    tcase_add_loop_test(tc, any_guest, 0, 50);
    suite_add_tcase(s, tc);
    return s;
}

UNIT_MAIN(suite)
