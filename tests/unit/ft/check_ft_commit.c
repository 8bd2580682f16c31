/* SPDX-License-Identifier: Apache-2.0 */
#include "ft/ft_commit.h"

#include "base/units.h"
#include "tests/unit/unit.h"

#define MS NSEC_PER_MSEC

static struct ft_commit c;

/* Output n of the guest, at `now`: records 2n - 1 (an input) and 2n. Its cookie: n. */
static void make(uint64_t now)
{
    uint64_t n = c.made + 1;

    ft_commit_logged(&c, 2 * n - 1, n);
    ft_commit_logged(&c, 2 * n, n);
    ck_assert_uint_eq(ft_commit_hold(&c, 2 * n, now, n, false), n);
}

static void acked(uint64_t received, uint64_t verified)
{
    struct ft_ack ack = {.received = received, .verified = verified};

    ck_assert(ft_commit_acked(&c, &ack));
}

static unsigned leave(uint64_t now)
{
    uint64_t cookie;
    unsigned count = 0;

    while (ft_commit_next(&c, now, &cookie)) {
        count++;
        ck_assert_uint_eq(cookie, c.left); /* in their order, each once */
    }
    return count;
}

START_TEST(received_or_verified)
{
    ft_commit_init(&c, _i == 0 ? FT_COMMIT_RECEIVED : FT_COMMIT_VERIFIED, 0);
    make(1);
    make(2);
    make(3);
    ck_assert_uint_eq(leave(4), 0);
    acked(3, 0); /* the second's record did not come */
    ck_assert_uint_eq(leave(5), _i == 0 ? 1 : 0);
    acked(6, 0);
    ck_assert_uint_eq(leave(6), _i == 0 ? 2 : 0);
    acked(6, 2);
    ck_assert_uint_eq(leave(7), _i == 0 ? 0 : 2);
    acked(6, 3);
    ck_assert_uint_eq(leave(8), _i == 0 ? 0 : 1);
    ck_assert_uint_eq(c.left, 3);
}
END_TEST

START_TEST(hybrid_waits_for_what_lags_or_differs)
{
    ft_commit_init(&c, FT_COMMIT_HYBRID, 20 * MS);
    make(100 * MS);
    acked(2, 0);
    ck_assert_uint_eq(leave(101 * MS), 1);
    make(110 * MS);
    acked(4, 0);
    ck_assert_uint_eq(leave(121 * MS), 0); /* the first was not verified in 20 ms */
    acked(4, 1);
    ck_assert_uint_eq(leave(121 * MS), 1);
    ft_commit_differs(&c);
    make(122 * MS);
    acked(6, 2);
    ck_assert_uint_eq(leave(123 * MS), 0);
    ft_commit_barrier_done(&c);
    ck_assert_uint_eq(leave(123 * MS), 1);
}
END_TEST

START_TEST(a_flush_waits_for_every_mirror)
{
    struct ft_ack ack = {.received = 2, .verified = 2};

    ft_commit_init(&c, FT_COMMIT_VERIFIED, 0);
    ft_commit_logged(&c, 1, 1);
    ft_commit_hold(&c, 1, 0, 1, true);
    ft_commit_logged(&c, 2, 2);
    ft_commit_hold(&c, 2, 0, 2, false);
    ck_assert(ft_commit_acked(&c, &ack));
    ck_assert_uint_eq(leave(1), 0);
    ack.flushed = 1;
    ck_assert(ft_commit_acked(&c, &ack));
    ck_assert_uint_eq(leave(1), 2);
}
END_TEST

/* A secondary that says what cannot be is broken; what it said is not used. */
START_TEST(impossible_acknowledgements)
{
    struct ft_ack good = {.received = 4, .replayed = 1, .verified = 1}, bad;

    ft_commit_init(&c, FT_COMMIT_RECEIVED, 0);
    make(1);
    make(1);
    ck_assert(ft_commit_acked(&c, &good));
    bad = good, bad.received = 5;
    ck_assert(!ft_commit_acked(&c, &bad));
    bad = good, bad.received = 3;
    ck_assert(!ft_commit_acked(&c, &bad));
    bad = good, bad.verified = 3;
    ck_assert(!ft_commit_acked(&c, &bad));
    bad = good, bad.verified = 0;
    ck_assert(!ft_commit_acked(&c, &bad));
    bad = good, bad.replayed = 3;
    ck_assert(!ft_commit_acked(&c, &bad));
    bad = good, bad.flushed = 3;
    ck_assert(!ft_commit_acked(&c, &bad));
    bad = good, bad.replayed = 0;
    ck_assert(!ft_commit_acked(&c, &bad));
    ck_assert_mem_eq(&c.ack, &good, sizeof good);
}
END_TEST

START_TEST(a_full_list_stops_and_goes_round)
{
    uint64_t cookie;

    ft_commit_init(&c, FT_COMMIT_RECEIVED, 0);
    for (unsigned i = 0; i < 3 * FT_HELD_MAX; i++) {
        make(i);
        if (ft_commit_full(&c)) {
            ck_assert_uint_eq(ft_commit_age_ns(&c, i), FT_HELD_MAX - 1);
            acked(2 * c.made, 0);
            ck_assert_uint_eq(leave(i), FT_HELD_MAX);
            ck_assert_uint_eq(ft_commit_age_ns(&c, i), 0);
        }
    }
    make(1);
    ck_assert(!ft_commit_next(&c, 1, &cookie));
    ck_assert(ft_commit_next_free(&c, &cookie));
    ck_assert(!ft_commit_next_free(&c, &cookie));
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("ft_commit");
    TCase *tc = tcase_create("commit");

    tcase_add_loop_test(tc, received_or_verified, 0, 2);
    tcase_add_test(tc, hybrid_waits_for_what_lags_or_differs);
    tcase_add_test(tc, a_flush_waits_for_every_mirror);
    tcase_add_test(tc, impossible_acknowledgements);
    tcase_add_test(tc, a_full_list_stops_and_goes_round);
    suite_add_tcase(s, tc);
    return s;
}

UNIT_MAIN(suite)
