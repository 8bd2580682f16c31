/* SPDX-License-Identifier: Apache-2.0 */
/* vmm/run_state: the guest runs only from START or THAW with an epoch nobody has used,
 * and not past its lease. */
#include <string.h>

#include "base/units.h"
#include "tests/unit/unit.h"
#include "vmm/run_state.h"

static struct run_ctl run;

static void setup(void)
{
    memset(&run, 0, sizeof run);
}

static enum run_answer step(enum run_event event, uint64_t epoch)
{
    return run_step(&run, event, epoch, RUN_END_KILLED, "test", 1);
}

static void start(uint64_t epoch)
{
    ck_assert_int_eq(step(RUN_EV_START, epoch), RUN_DONE);
    ck_assert_int_eq(run.state, RUN_STARTING);
    ck_assert_int_eq(step(RUN_EV_STARTED, 0), RUN_DONE);
    ck_assert_int_eq(run.state, RUN_RUNNING);
}

static void freeze(void)
{
    ck_assert_int_eq(step(RUN_EV_FREEZE, 0), RUN_DONE);
    ck_assert_int_eq(run.state, RUN_FREEZING);
    ck_assert_int_eq(step(RUN_EV_DRAINED, 0), RUN_DONE);
    ck_assert_int_eq(run.state, RUN_FROZEN);
}

START_TEST(a_life)
{
    start(5);
    ck_assert_int_eq(step(RUN_EV_START, 5), RUN_ALREADY);
    freeze();
    ck_assert_int_eq(step(RUN_EV_FREEZE, 0), RUN_ALREADY);
    ck_assert_int_eq(step(RUN_EV_THAW, 6), RUN_DONE);
    ck_assert_int_eq(run.state, RUN_RUNNING);
    ck_assert_uint_eq(run.epoch, 6);
    ck_assert_int_eq(step(RUN_EV_END, 0), RUN_DONE);
    ck_assert_int_eq(step(RUN_EV_DRAINED, 0), RUN_DONE);
    ck_assert_int_eq(run.state, RUN_ENDED);
    ck_assert_int_eq(run.end, RUN_END_KILLED);
}
END_TEST

START_TEST(epochs_are_used_once)
{
    start(5);
    ck_assert_int_eq(step(RUN_EV_START, 6),
                     RUN_BAD_STATE); /* it already runs, at another */
    freeze();
    ck_assert_int_eq(step(RUN_EV_THAW, 4), RUN_OLD_EPOCH);
    ck_assert_int_eq(step(RUN_EV_THAW, 5), RUN_OLD_EPOCH);
    ck_assert_int_eq(run.state, RUN_FROZEN);
    ck_assert_uint_eq(run.epoch, 5);
    ck_assert_int_eq(step(RUN_EV_THAW, 9), RUN_DONE);
    freeze();
    ck_assert_int_eq(step(RUN_EV_THAW, 8), RUN_OLD_EPOCH);
    ck_assert_int_eq(step(RUN_EV_START, 10), RUN_BAD_STATE);
}
END_TEST

/* No event in any state leads to RUNNING but STARTED (from STARTING), THAW (from FROZEN)
 * and LIVE (from FOLLOWING). */
START_TEST(no_other_way_in)
{
    for (int s = 0; s < RUN_STATE_COUNT; s++) {
        for (int e = 0; e < RUN_EVENT_COUNT; e++) {
            bool may = (s == RUN_STARTING && e == RUN_EV_STARTED) ||
                       (s == RUN_FROZEN && e == RUN_EV_THAW) ||
                       (s == RUN_FOLLOWING && e == RUN_EV_LIVE) || s == RUN_RUNNING;

            run = (struct run_ctl){.state = (enum run_state)s};
            (void)step((enum run_event)e, 1);
            ck_assert_msg(may || run.state != RUN_RUNNING, "state %s, event %d",
                          run_state_str((enum run_state)s), e);
        }
    }
}
END_TEST

#define MS NSEC_PER_MSEC

/* A twin is entered by nothing but LIVE, which brings a claim that nobody has used. */
START_TEST(a_twin_goes_live_by_a_claim)
{
    ck_assert_int_eq(step(RUN_EV_LIVE, 3), RUN_BAD_STATE);
    ck_assert_int_eq(step(RUN_EV_FOLLOW, 0), RUN_DONE);
    ck_assert_int_eq(run.state, RUN_FOLLOWING);
    ck_assert_int_eq(step(RUN_EV_START, 3), RUN_BAD_STATE);
    ck_assert_int_eq(step(RUN_EV_THAW, 3), RUN_BAD_STATE);
    ck_assert_int_eq(step(RUN_EV_FREEZE, 0), RUN_BAD_STATE);
    ck_assert_int_eq(step(RUN_EV_LIVE, 3), RUN_DONE);
    ck_assert_int_eq(run.state, RUN_RUNNING);
    ck_assert_uint_eq(run.epoch, 3);
    freeze();
    ck_assert_int_eq(step(RUN_EV_THAW, 3), RUN_OLD_EPOCH);
    ck_assert_int_eq(step(RUN_EV_FOLLOW, 0), RUN_BAD_STATE);
}
END_TEST

START_TEST(a_twin_without_lease_does_not_go_live)
{
    ck_assert(run_lease(&run, 100, 0, 1000 * MS));
    ck_assert_int_eq(step(RUN_EV_FOLLOW, 0), RUN_DONE);
    ck_assert(!run_lease_check(&run, 1200 * MS)); /* nothing to freeze */
    ck_assert_int_eq(run.state, RUN_FOLLOWING);
    ck_assert_int_eq(step(RUN_EV_LIVE, 3), RUN_LEASE_LOST);
    ck_assert(run_lease(&run, 100, 0, 2000 * MS));
    ck_assert_int_eq(step(RUN_EV_LIVE, 3), RUN_DONE);
}
END_TEST

START_TEST(ended_stays_ended)
{
    run.state = RUN_ENDED;
    for (int e = 0; e < RUN_EVENT_COUNT; e++) {
        (void)step((enum run_event)e, 99);
        ck_assert_int_eq(run.state, RUN_ENDED);
    }
}
END_TEST

START_TEST(lease_freezes)
{
    ck_assert(run_lease(&run, 100, 0, 1000 * MS));
    start(1);
    ck_assert(!run_lease_check(&run, 1099 * MS));
    ck_assert_int_eq(run.state, RUN_RUNNING);
    ck_assert(run_lease_check(&run, 1100 * MS));
    ck_assert_int_eq(run.state, RUN_FREEZING);
    ck_assert(!run_lease_check(&run, 1200 * MS)); /* once */
    ck_assert_int_eq(step(RUN_EV_DRAINED, 0), RUN_DONE);
    ck_assert_int_eq(step(RUN_EV_THAW, 2), RUN_LEASE_LOST);
    ck_assert(run_lease(&run, 100, 0, 2000 * MS));
    ck_assert_int_eq(run.state, RUN_FROZEN); /* a lease alone thaws nothing */
    ck_assert_int_eq(step(RUN_EV_THAW, 2), RUN_DONE);
}
END_TEST

/* The process was stopped; the renewal waited in its socket. It must not undo what was
 * missed. */
START_TEST(late_renewal_does_not_undo)
{
    ck_assert(run_lease(&run, 100, 0, 1000 * MS));
    start(1);
    ck_assert(!run_lease(&run, 100, 1050 * MS, 5000 * MS)); /* over before it was read */
    ck_assert_int_eq(run.state, RUN_FREEZING);
    ck_assert(run.lease_lost);
    (void)run_lease(&run, 100, 5000 * MS, 5000 * MS);
    ck_assert_int_eq(run.state, RUN_FREEZING);
}
END_TEST

START_TEST(renewal_counts_from_when_it_was_sent)
{
    ck_assert(run_lease(&run, 100, 0, 1000 * MS));
    start(1);
    ck_assert(run_lease(&run, 100, 1010 * MS, 1090 * MS));
    ck_assert(!run_lease_check(&run, 1109 * MS));
    ck_assert(run_lease_check(&run, 1110 * MS));
}
END_TEST

START_TEST(no_lease_never_freezes)
{
    ck_assert(run_lease(&run, 100, 0, 1000 * MS));
    ck_assert(run_lease(&run, 0, 0, 1010 * MS));
    start(1);
    ck_assert(!run_lease_check(&run, UINT64_MAX));
    ck_assert_int_eq(run.state, RUN_RUNNING);
}
END_TEST

START_TEST(long_reason_is_cut)
{
    char text[2 * REASON_LEN_MAX];

    memset(text, 'r', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    (void)run_step(&run, RUN_EV_END, 0, RUN_END_HOST, text, 1);
    ck_assert_uint_eq(strlen(run.reason), REASON_LEN_MAX);
}
END_TEST

/* A freeze on trial: back until FROZEN, unless somebody else relies on it. */
START_TEST(freeze_on_trial)
{
    start(5);
    ck_assert_int_eq(step(RUN_EV_UNFREEZE, 0), RUN_ALREADY);
    ck_assert_int_eq(step(RUN_EV_FREEZE_TRY, 0), RUN_DONE);
    ck_assert_int_eq(step(RUN_EV_FREEZE_TRY, 0), RUN_ALREADY);
    ck_assert_int_eq(step(RUN_EV_UNFREEZE, 0), RUN_DONE);
    ck_assert_int_eq(run.state, RUN_RUNNING);
    ck_assert_uint_eq(run.epoch, 5);
    ck_assert_int_eq(step(RUN_EV_FREEZE_TRY, 0), RUN_DONE);
    ck_assert_int_eq(step(RUN_EV_FREEZE, 0), RUN_ALREADY);
    ck_assert_int_eq(step(RUN_EV_UNFREEZE, 0), RUN_BAD_STATE);
    ck_assert_int_eq(step(RUN_EV_DRAINED, 0), RUN_DONE);
    ck_assert_int_eq(step(RUN_EV_THAW, 6), RUN_DONE);
    ck_assert_int_eq(step(RUN_EV_FREEZE_TRY, 0), RUN_DONE);
    ck_assert_int_eq(step(RUN_EV_DRAINED, 0), RUN_DONE);
    ck_assert_int_eq(step(RUN_EV_UNFREEZE, 0), RUN_BAD_STATE);
    ck_assert_int_eq(step(RUN_EV_THAW, 7), RUN_DONE);
    ck_assert_int_eq(step(RUN_EV_FREEZE, 0), RUN_DONE);
    ck_assert_int_eq(step(RUN_EV_UNFREEZE, 0), RUN_BAD_STATE);
}
END_TEST

/* A lease that runs out meanwhile freezes for good, also if another one comes. */
START_TEST(trial_and_lease)
{
    ck_assert(run_lease(&run, 100, 0, 1000 * MS));
    start(1);
    ck_assert_int_eq(step(RUN_EV_FREEZE_TRY, 0), RUN_DONE);
    ck_assert_int_eq(run_step(&run, RUN_EV_UNFREEZE, 0, RUN_END_NONE, NULL, 1100 * MS),
                     RUN_LEASE_LOST);
    ck_assert(run_lease(&run, 100, 0, 1110 * MS));
    ck_assert_int_eq(run_step(&run, RUN_EV_UNFREEZE, 0, RUN_END_NONE, NULL, 1120 * MS),
                     RUN_BAD_STATE);
    ck_assert_int_eq(run.state, RUN_FREEZING);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("run_state");
    TCase *t = tcase_create("run_state");

    tcase_add_checked_fixture(t, setup, NULL);
    tcase_add_test(t, a_life);
    tcase_add_test(t, epochs_are_used_once);
    tcase_add_test(t, no_other_way_in);
    tcase_add_test(t, a_twin_goes_live_by_a_claim);
    tcase_add_test(t, a_twin_without_lease_does_not_go_live);
    tcase_add_test(t, ended_stays_ended);
    tcase_add_test(t, lease_freezes);
    tcase_add_test(t, late_renewal_does_not_undo);
    tcase_add_test(t, renewal_counts_from_when_it_was_sent);
    tcase_add_test(t, no_lease_never_freezes);
    tcase_add_test(t, long_reason_is_cut);
    tcase_add_test(t, freeze_on_trial);
    tcase_add_test(t, trial_and_lease);
    suite_add_tcase(s, t);
    return s;
}

UNIT_MAIN(suite)
