/* SPDX-License-Identifier: Apache-2.0 */
#include "base/units.h"
#include "ha/ha_link.h"
#include "ha/ha_times.h"
#include "tests/unit/unit.h"

#define MS    NSEC_PER_MSEC
#define QUIET (500 * MS)
#define POLL  (50 * MS)

static uint64_t now_ns;

/* A link that is up, with 100 packets received, at a fresh time. */
static struct ha_link young(void)
{
    struct ha_link link = {0};

    now_ns = NSEC_PER_SEC;
    ck_assert(!ha_link_read(&link, true, 100, now_ns, QUIET));
    ck_assert(link.up);
    return link;
}

/* Polls until it changes; returns the ms that took, or -1 after `limit_ms`. */
static int poll_until_change(struct ha_link *link, bool connected, uint64_t received,
                             int limit_ms)
{
    for (int ms = 50; ms <= limit_ms; ms += 50) {
        now_ns += POLL;
        if (ha_link_read(link, connected, received, now_ns, QUIET)) {
            return ms;
        }
    }
    return -1;
}

START_TEST(a_silent_node_is_suspected_although_knet_still_hopes)
{
    struct ha_link link = young();

    ck_assert_int_eq(poll_until_change(&link, true, 100, 5000), 500);
    ck_assert(!link.up);
    /* once */
    ck_assert_int_eq(poll_until_change(&link, true, 100, 5000), -1);
}
END_TEST

START_TEST(a_node_that_is_heard_is_not)
{
    struct ha_link link = young();

    for (uint64_t i = 1; i <= 100; i++) {
        ck_assert_int_eq(poll_until_change(&link, true, 100 + i, 450), -1);
    }
    ck_assert(link.up);
}
END_TEST

START_TEST(knets_verdict_counts_at_once)
{
    struct ha_link link = young();

    ck_assert_int_eq(poll_until_change(&link, false, 101, 1000), 50);
    ck_assert(!link.up);
    /* It hears the node, the node does not hear us. */
    for (uint64_t i = 0; i < 20; i++) {
        ck_assert_int_eq(poll_until_change(&link, false, 102 + i, 50), -1);
    }
}
END_TEST

START_TEST(back_only_when_heard)
{
    struct ha_link link = young();

    ck_assert_int_eq(poll_until_change(&link, true, 100, 1000), 500);
    ck_assert_int_eq(poll_until_change(&link, false, 100, 1000), -1);
    ck_assert_int_eq(poll_until_change(&link, true, 100, 1000), -1);
    ck_assert_int_eq(poll_until_change(&link, true, 101, 1000), 50);
    ck_assert(link.up);
}
END_TEST

START_TEST(time_when_nobody_looked_does_not_count)
{
    struct ha_link link = young();

    now_ns += 20 * NSEC_PER_SEC;
    ck_assert(!ha_link_read(&link, true, 100, now_ns, QUIET));
    ck_assert_int_eq(poll_until_change(&link, true, 100, 5000), 500);
}
END_TEST

START_TEST(a_node_never_seen_is_no_news)
{
    struct ha_link link = {0};

    now_ns = NSEC_PER_SEC;
    ck_assert(!ha_link_read(&link, false, 0, now_ns, QUIET));
    ck_assert_int_eq(poll_until_change(&link, false, 0, 5000), -1);
    ck_assert_int_eq(poll_until_change(&link, true, 1, 100), 50); /* it boots */
    ck_assert(link.up);
}
END_TEST

START_TEST(half_a_token_but_not_less_than_two_pings)
{
    ck_assert_uint_eq(ha_times_quiet_ns(1000), 500 * MS);
    ck_assert_uint_eq(ha_times_quiet_ns(300), 250 * MS);
    ck_assert_uint_eq(ha_times_quiet_ns(0), 250 * MS);
    ck_assert_uint_eq(ha_times_quiet_ns(UINT32_MAX), UINT64_C(2147483647500000));
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("ha_link");
    TCase *t = tcase_create("link");

    tcase_add_test(t, a_silent_node_is_suspected_although_knet_still_hopes);
    tcase_add_test(t, a_node_that_is_heard_is_not);
    tcase_add_test(t, knets_verdict_counts_at_once);
    tcase_add_test(t, back_only_when_heard);
    tcase_add_test(t, time_when_nobody_looked_does_not_count);
    tcase_add_test(t, a_node_never_seen_is_no_news);
    tcase_add_test(t, half_a_token_but_not_less_than_two_pings);
    suite_add_tcase(s, t);
    return s;
}

UNIT_MAIN(suite)
