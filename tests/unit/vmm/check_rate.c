/* SPDX-License-Identifier: Apache-2.0 */
/* The rate limit: long-term rate, burst, large grants, no limit, numbers at the ends. */
#include "vmm/rate.h"

#include "tests/unit/unit.h"

#define SEC UINT64_C(1000000000)

/* Grants as fast as it may for so long; returns the sum. */
static uint64_t run(struct rate *rate, uint64_t cost, uint64_t from_ns, uint64_t ns)
{
    uint64_t now = from_ns, sum = 0;

    while (now < from_ns + ns) {
        if (rate_ready(rate, now)) {
            rate_charge(rate, now, cost);
            sum += cost;
        } else {
            uint64_t at = rate_ready_at(rate);

            if (at <= now) {
                ck_abort_msg("not ready, and never will be");
            }
            now = at;
        }
    }
    return sum;
}

START_TEST(long_term_rate)
{
    static const struct {
        uint64_t per_s, cost;
    } cases[] = {
        {1000, 1}, {1000000, 4096}, {1000000, 131072}, {7, 1}, {999999937, 65536}};

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct rate rate = rate_make(cases[i].per_s);
        uint64_t sum = run(&rate, cases[i].cost, 5 * SEC, 100 * SEC);
        uint64_t want = 100 * cases[i].per_s;

        ck_assert_uint_ge(sum, want - want / 1000 - cases[i].cost);
        ck_assert_uint_le(sum, want + want / 500 + 2 * cases[i].cost);
    }
}
END_TEST

START_TEST(burst)
{
    struct rate rate = rate_make(1000);
    unsigned count = 0;

    for (; rate_ready(&rate, 10 * SEC); count++) {
        rate_charge(&rate, 10 * SEC, 1);
    }
    ck_assert_uint_eq(count, 101); /* 100 ms, and the one that overdraws */
    ck_assert(!rate_ready(&rate, rate_ready_at(&rate) - 1));
    ck_assert(rate_ready(&rate, rate_ready_at(&rate)));
    ck_assert(rate_ready(&rate, 1000 * SEC)); /* a long pause earns no more than that */
    for (count = 0; rate_ready(&rate, 1000 * SEC); count++) {
        rate_charge(&rate, 1000 * SEC, 1);
    }
    ck_assert_uint_eq(count, 101);
}
END_TEST

START_TEST(ends)
{
    struct rate none = rate_make(0), slow = rate_make(1), fast = rate_make(UINT64_MAX);

    rate_charge(&none, 5, UINT64_MAX);
    ck_assert(rate_ready(&none, 0));
    rate_charge(&slow, 5, UINT64_MAX);
    ck_assert_uint_eq(rate_ready_at(&slow), 5 + RATE_COST_MAX * SEC - RATE_BURST_NS);
    rate_charge(&slow, UINT64_MAX - 1, UINT64_MAX);
    ck_assert_uint_eq(rate_ready_at(&slow), UINT64_MAX - RATE_BURST_NS);
    rate_charge(&fast, 5, UINT64_MAX);
    ck_assert(rate_ready(&fast, 5));
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("rate");
    TCase *t = tcase_create("rate");

    tcase_add_test(t, long_term_rate);
    tcase_add_test(t, burst);
    tcase_add_test(t, ends);
    suite_add_tcase(s, t);
    return s;
}

UNIT_MAIN(suite)
