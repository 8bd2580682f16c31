/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The fence request machine: every sequence of up to 7 events against an oracle that
 * shares no code with it, and the scenarios that people ask about.
 */
#include "fencing/fence_req.h"

#include <stdlib.h>
#include <string.h>

#include "base/units.h"
#include "tests/unit/unit.h"

#define DEPTH_MAX 7

/* ck_assert marks a point on every call (a write to a pipe); millions of them are most of
 * the run. */
#define NEED(condition)                                                                  \
    do {                                                                                 \
        if (!(condition)) {                                                              \
            ck_abort_msg("%s", #condition);                                              \
        }                                                                                \
    } while (0)

/* What the oracle keeps per leg: the last two answers, as given, with what they answered.
 */
struct seen {
    enum fence_action running; /* NONE: idle */
    uint32_t run;
    enum fence_action asked[2]; /* [0] the latest */
    enum fence_answer answer[2];
};

struct world {
    struct fence_req req;
    struct seen seen[FENCE_LEGS_MAX];
    uint64_t now_ns;
    bool began;
};

static uint64_t steps, settled_count[FENCE_RESULT_UNKNOWN + 1];

static bool positive(enum fence_action wanted, enum fence_action asked,
                     enum fence_answer answer)
{
    if (asked == wanted && asked != FENCE_ACTION_STATUS) {
        return answer == FENCE_ANSWER_DONE;
    }
    return asked == FENCE_ACTION_STATUS &&
           answer == (wanted == FENCE_ACTION_ON ? FENCE_ANSWER_ON : FENCE_ANSWER_OFF);
}

/* The rule in its own words: the last answer is a reading of what is wanted, the one
 * before it was positive too. */
static bool leg_confirmed(const struct world *w, unsigned leg)
{
    enum fence_action wanted = w->req.conf.action;
    const struct seen *seen = &w->seen[leg];

    if (wanted == FENCE_ACTION_MONITOR) {
        return seen->asked[0] == wanted && seen->answer[0] == FENCE_ANSWER_DONE;
    }
    if (seen->asked[0] != FENCE_ACTION_STATUS ||
        !positive(wanted, seen->asked[0], seen->answer[0])) {
        return false;
    }
    return wanted == FENCE_ACTION_STATUS ||
           positive(wanted, seen->asked[1], seen->answer[1]);
}

static bool oracle_ok(const struct world *w)
{
    const struct fence_req_conf *conf = &w->req.conf;
    bool monitor = conf->action == FENCE_ACTION_MONITOR, all = true;

    for (unsigned i = 0; monitor && i < conf->leg_count; i++) {
        all = all && leg_confirmed(w, i);
    }
    if (monitor) {
        return all;
    }
    for (unsigned level = 1; level <= FENCE_LEVELS_MAX; level++) {
        unsigned legs = 0, good = 0;

        for (unsigned i = 0; i < conf->leg_count; i++) {
            legs += conf->leg[i].level == level;
            good += conf->leg[i].level == level && leg_confirmed(w, i);
        }
        if (legs > 0 && legs == good) {
            return true;
        }
    }
    return false;
}

static void check_acts(struct world *w, const struct fence_acts *acts)
{
    for (unsigned i = 0; i < acts->count; i++) {
        const struct fence_act *act = &acts->act[i];
        struct seen *seen;

        NEED(act->leg < w->req.conf.leg_count);
        seen = &w->seen[act->leg];
        if (act->what == FENCE_DO_KILL) {
            NEED(seen->running != FENCE_ACTION_NONE);
            NEED(act->run == seen->run);
            seen->running = FENCE_ACTION_NONE;
            continue;
        }
        /* One agent per device; only the action asked for, or a reading; never an action
         * where only reading is allowed. */
        NEED(seen->running == FENCE_ACTION_NONE);
        NEED(act->action == FENCE_ACTION_STATUS || act->action == w->req.conf.action);
        NEED(!w->req.conf.read_only || act->action == FENCE_ACTION_STATUS);
        NEED(act->timeout_ms > 0);
        NEED(act->timeout_ms <= w->req.conf.leg[act->leg].timeout_ms);
        NEED(w->now_ns + act->timeout_ms * NSEC_PER_MSEC <= w->req.deadline_ns);
        seen->running = act->action;
        seen->run = act->run;
    }
}

static void check_state(const struct world *w, const struct fence_acts *acts)
{
    bool running = false;

    for (unsigned i = 0; i < w->req.conf.leg_count; i++) {
        running = running || w->seen[i].running != FENCE_ACTION_NONE;
    }
    if (fence_req_settled(&w->req)) {
        NEED(!running);
        NEED(acts->wake_ns == 0);
    } else if (w->began) {
        NEED(acts->wake_ns > w->now_ns); /* there is always a way out */
        NEED(acts->wake_ns <= w->req.deadline_ns);
    }
    if (acts->settled) {
        settled_count[w->req.result]++;
        if (w->req.result == FENCE_RESULT_OK) {
            NEED(oracle_ok(
                w)); /* OK without a positive confirmation by a second reading */
        }
        if (w->req.result == FENCE_RESULT_FAILED) {
            NEED(w->req.cause == FENCE_CAUSE_CONTRARY);
        }
    }
    if (w->began && w->now_ns >= w->req.deadline_ns) {
        NEED(fence_req_settled(&w->req));
    }
}

/* One event, whatever it is, with all checks. */
static void world_step(struct world *w, struct fence_event event,
                       struct fence_acts *ret_acts)
{
    enum fence_result before = w->req.result;
    struct seen *seen = &w->seen[event.leg];

    event.now_ns = w->now_ns;
    if (event.kind == FENCE_EVENT_BEGIN) {
        w->began = true;
    }
    if (event.kind == FENCE_EVENT_ANSWER && seen->running != FENCE_ACTION_NONE &&
        event.run == seen->run && before == FENCE_RESULT_PENDING) {
        seen->asked[1] = seen->asked[0];
        seen->answer[1] = seen->answer[0];
        seen->asked[0] = seen->running;
        seen->answer[0] = event.answer;
        seen->running = FENCE_ACTION_NONE;
    }
    fence_req_step(&w->req, &event, ret_acts);
    steps++;
    if (before > FENCE_RESULT_PENDING) { /* a settled request never changes */
        NEED(w->req.result == before);
        NEED(ret_acts->count == 0);
        NEED(!ret_acts->settled);
    }
    check_acts(w, ret_acts);
    check_state(w, ret_acts);
}

/* How a run may end, as raw exits: so the mapping is under test too. */
static const struct ending {
    enum fence_end end;
    int code;
} endings[] = {
    {FENCE_END_EXITED, 0},     {FENCE_END_EXITED, 1},  {FENCE_END_EXITED, 2},
    {FENCE_END_SIGNALLED, 11}, {FENCE_END_TIMEOUT, 0},
};

static void explore(const struct world *from, unsigned depth)
{
    static const struct {
        enum fence_event_kind kind;
        unsigned ms;
    } other[] = {
        {FENCE_EVENT_BEGIN, 0},     {FENCE_EVENT_TICK, 100}, {FENCE_EVENT_TICK, 1000},
        {FENCE_EVENT_TICK, 100000}, {FENCE_EVENT_CANCEL, 0},
    };
    struct fence_acts acts;

    if (depth == 0) {
        return;
    }
    for (unsigned i = 0; i < ARRAY_SIZE(other); i++) {
        struct world w = *from;

        w.now_ns += other[i].ms * NSEC_PER_MSEC;
        world_step(&w, (struct fence_event){.kind = other[i].kind}, &acts);
        if (memcmp(&w, from, sizeof(w)) != 0 && !fence_req_settled(&w.req)) {
            explore(&w, depth - 1);
        }
    }
    for (unsigned leg = 0; leg < from->req.conf.leg_count; leg++) {
        for (unsigned i = 0; i < ARRAY_SIZE(endings); i++) {
            struct world w = *from;
            /* An answer nobody waits for, and one to an older run, must change nothing.
             */
            enum fence_action asked = w.seen[leg].running == FENCE_ACTION_NONE
                                          ? FENCE_ACTION_STATUS
                                          : w.seen[leg].running;
            struct fence_event event = {
                .kind = FENCE_EVENT_ANSWER,
                .leg = leg,
                .run = w.seen[leg].run - 1,
                .answer = fence_answer_of(asked, endings[i].end, endings[i].code),
            };

            /* The test's own reading of the contract: what is not a clear yes must never
             * count as one. */
            if (endings[i].end != FENCE_END_EXITED) {
                NEED(event.answer != FENCE_ANSWER_OFF);
                NEED(event.answer != FENCE_ANSWER_DONE);
            }
            world_step(&w, event, &acts);
            NEED(memcmp(&w.req, &from->req, sizeof(w.req)) == 0);
            event.run = w.seen[leg].run;
            world_step(&w, event, &acts);
            if (from->seen[leg].running == FENCE_ACTION_NONE) {
                NEED(memcmp(&w.req, &from->req, sizeof(w.req)) == 0);
            } else if (!fence_req_settled(&w.req)) {
                explore(&w, depth - 1);
            }
        }
    }
}

static struct fence_req_conf conf_of(enum fence_action action, unsigned leg_count,
                                     const unsigned *level)
{
    struct fence_req_conf conf = {
        .action = action,
        .timeout_ms = 30000,
        .retry_ms = 1000,
        .reread_ms = 100,
        .rereads_max = 2,
        .leg_count = leg_count,
    };

    for (unsigned i = 0; i < leg_count; i++) {
        conf.leg[i] = (struct fence_leg_conf){.level = level[i], .timeout_ms = 10000};
    }
    return conf;
}

static const struct shape {
    const char *name;
    enum fence_action action;
    unsigned leg_count;
    unsigned level[4];
    bool parallel, read_only;
    bool may_fail; /* a contrary result is reachable within the depth */
} shapes[] = {
    {"off, one device", FENCE_ACTION_OFF, 1, {1}, false, false, true},
    {"off, two devices of one level", FENCE_ACTION_OFF, 2, {1, 1}, false, false, true},
    {"off, two levels in order", FENCE_ACTION_OFF, 2, {1, 3}, false, false, true},
    {"off, two levels at once", FENCE_ACTION_OFF, 2, {2, 4}, true, false, true},
    {"off, reading only", FENCE_ACTION_OFF, 1, {1}, false, true, true},
    {"status, two levels", FENCE_ACTION_STATUS, 2, {1, 2}, false, false, true},
    {"status, two devices", FENCE_ACTION_STATUS, 2, {1, 1}, false, false, true},
    {"status, two levels at once", FENCE_ACTION_STATUS, 2, {1, 2}, true, false, true},
    {"on, one device", FENCE_ACTION_ON, 1, {1}, false, false, true},
    {"monitor, two levels", FENCE_ACTION_MONITOR, 2, {1, 2}, false, false, true},
};

START_TEST(every_sequence)
{
    const struct shape *shape = &shapes[_i];
    struct fence_req_conf conf = conf_of(shape->action, shape->leg_count, shape->level);
    struct world w;

    conf.levels_parallel = shape->parallel;
    conf.read_only = shape->read_only;
    memset(&w, 0, sizeof(w));
    memset(settled_count, 0, sizeof(settled_count));
    steps = 0;
    w.now_ns = NSEC_PER_SEC;
    fence_req_init(&w.req, &conf);
    explore(&w, DEPTH_MAX);
    /* A checker that never saw a result checked nothing. */
    ck_assert_uint_gt(steps, 1000);
    ck_assert_uint_gt(settled_count[FENCE_RESULT_OK], 0);
    ck_assert_uint_gt(settled_count[FENCE_RESULT_UNKNOWN], 0);
    ck_assert(!shape->may_fail || settled_count[FENCE_RESULT_FAILED] > 0);
}
END_TEST

/* Scenarios
 * ------------------------------------------------------------------------------------------------------
 */

static struct world w0;
static struct fence_acts a0;

static void begin(enum fence_action action, unsigned leg_count, const unsigned *level)
{
    struct fence_req_conf conf = conf_of(action, leg_count, level);

    memset(&w0, 0, sizeof(w0));
    w0.now_ns = NSEC_PER_SEC;
    fence_req_init(&w0.req, &conf);
    world_step(&w0, (struct fence_event){.kind = FENCE_EVENT_BEGIN}, &a0);
}

static void answer(unsigned leg, enum fence_answer what)
{
    world_step(&w0,
               (struct fence_event){.kind = FENCE_EVENT_ANSWER,
                                    .leg = leg,
                                    .run = w0.seen[leg].run,
                                    .answer = what},
               &a0);
}

static void tick(unsigned ms)
{
    w0.now_ns += ms * NSEC_PER_MSEC;
    world_step(&w0, (struct fence_event){.kind = FENCE_EVENT_TICK}, &a0);
}

#define ck_running(leg_, action_) ck_assert_int_eq(w0.seen[leg_].running, action_)
#define ck_result(result_)        ck_assert_int_eq(w0.req.result, FENCE_RESULT_##result_)
#define ONE_LEVEL                 ((const unsigned[]){1, 1})
#define TWO_LEVELS                ((const unsigned[]){1, 2})

START_TEST(off_is_read_again_at_once)
{
    begin(FENCE_ACTION_OFF, 1, ONE_LEVEL);
    ck_running(0, FENCE_ACTION_OFF);
    answer(0, FENCE_ANSWER_DONE);
    ck_result(PENDING);
    ck_running(0, FENCE_ACTION_STATUS);
    answer(0, FENCE_ANSWER_OFF);
    ck_result(OK);
    ck_assert_uint_eq(w0.req.decider, 0);
}
END_TEST

START_TEST(lost_action_needs_two_readings)
{
    begin(FENCE_ACTION_OFF, 1, ONE_LEVEL);
    answer(0, FENCE_ANSWER_TIMEOUT);
    ck_running(0, FENCE_ACTION_STATUS);
    answer(0, FENCE_ANSWER_OFF);
    ck_result(PENDING);
    answer(0, FENCE_ANSWER_OFF);
    ck_result(OK);
}
END_TEST

START_TEST(lying_device_is_failed_not_ok)
{
    begin(FENCE_ACTION_OFF, 1, ONE_LEVEL);
    for (unsigned n = 0; n < 100 && !fence_req_settled(&w0.req); n++) {
        if (w0.seen[0].running == FENCE_ACTION_OFF) {
            answer(0, FENCE_ANSWER_DONE);
        } else if (w0.seen[0].running == FENCE_ACTION_STATUS) {
            answer(0, FENCE_ANSWER_ON);
        } else {
            tick(1000);
        }
    }
    ck_result(FAILED);
    ck_assert_uint_gt(fence_req_attempts(&w0.req), 9);
}
END_TEST

START_TEST(hang_leaves_time_for_the_next_level)
{
    begin(FENCE_ACTION_OFF, 2, TWO_LEVELS);
    ck_running(1, FENCE_ACTION_NONE);
    tick(9000);
    answer(0, FENCE_ANSWER_TIMEOUT); /* no second wait on it while there is another way */
    ck_running(0, FENCE_ACTION_NONE);
    ck_running(1, FENCE_ACTION_OFF);
    answer(1, FENCE_ANSWER_DONE);
    answer(1, FENCE_ANSWER_OFF);
    ck_result(OK);
    ck_assert_uint_eq(w0.req.decider, 1);
}
END_TEST

START_TEST(one_of_two_supplies_is_not_enough)
{
    begin(FENCE_ACTION_OFF, 2, ONE_LEVEL);
    ck_running(0, FENCE_ACTION_OFF);
    ck_running(1, FENCE_ACTION_OFF);
    answer(0, FENCE_ANSWER_DONE);
    answer(0, FENCE_ANSWER_OFF);
    ck_result(PENDING);
    answer(1, FENCE_ANSWER_REFUSED);
    answer(1, FENCE_ANSWER_UNCLEAR);
    ck_result(PENDING);
    tick(1000); /* a new round asks both again */
    ck_running(0, FENCE_ACTION_OFF);
    ck_running(1, FENCE_ACTION_OFF);
    tick(30000);
    ck_result(UNKNOWN);
    ck_assert_int_eq(w0.req.cause, FENCE_CAUSE_TIME_OVER);
}
END_TEST

START_TEST(status_off_on_any_level_is_proof)
{
    begin(FENCE_ACTION_STATUS, 2, TWO_LEVELS);
    answer(0, FENCE_ANSWER_ON); /* a PDU outlet that is on says little about the machine
                                   behind it */
    ck_result(PENDING);
    answer(1, FENCE_ANSWER_OFF);
    ck_result(OK);
    begin(FENCE_ACTION_STATUS, 2, TWO_LEVELS);
    answer(0, FENCE_ANSWER_ON);
    answer(1, FENCE_ANSWER_UNCLEAR);
    ck_result(FAILED);
    ck_assert_uint_eq(w0.req.decider, 0);
}
END_TEST

START_TEST(no_device_is_unknown)
{
    begin(FENCE_ACTION_OFF, 0, ONE_LEVEL);
    ck_result(UNKNOWN);
    ck_assert_int_eq(w0.req.cause, FENCE_CAUSE_NO_DEVICE);
}
END_TEST

START_TEST(cancel_kills)
{
    begin(FENCE_ACTION_OFF, 2, ONE_LEVEL);
    world_step(&w0, (struct fence_event){.kind = FENCE_EVENT_CANCEL}, &a0);
    ck_result(UNKNOWN);
    ck_assert_uint_eq(a0.count, 2);
    ck_assert_int_eq(a0.act[0].what, FENCE_DO_KILL);
    answer(0, FENCE_ANSWER_DONE);
    ck_result(UNKNOWN);
}
END_TEST

START_TEST(exit_codes)
{
    ck_assert_int_eq(fence_answer_of(FENCE_ACTION_STATUS, FENCE_END_EXITED, 0),
                     FENCE_ANSWER_ON);
    ck_assert_int_eq(fence_answer_of(FENCE_ACTION_STATUS, FENCE_END_EXITED, 2),
                     FENCE_ANSWER_OFF);
    for (int code = 0; code < 256; code++) {
        if (code != 2) {
            ck_assert_int_ne(fence_answer_of(FENCE_ACTION_STATUS, FENCE_END_EXITED, code),
                             FENCE_ANSWER_OFF);
        }
        if (code != 0) {
            ck_assert_int_ne(fence_answer_of(FENCE_ACTION_OFF, FENCE_END_EXITED, code),
                             FENCE_ANSWER_DONE);
        }
    }
    for (enum fence_action a = FENCE_ACTION_NONE; a <= FENCE_ACTION_COUNT; a++) {
        for (enum fence_end end = FENCE_END_SIGNALLED; end <= FENCE_END_PREEMPTED;
             end++) {
            enum fence_answer got = fence_answer_of(a, end, 0);

            ck_assert(got == FENCE_ANSWER_UNCLEAR || got == FENCE_ANSWER_REFUSED ||
                      got == FENCE_ANSWER_TIMEOUT);
        }
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("fence_req");
    TCase *all = tcase_create("every sequence"), *one = tcase_create("scenarios");

    tcase_set_timeout(all, 120);
    tcase_add_loop_test(all, every_sequence, 0, ARRAY_SIZE(shapes));
    tcase_add_test(one, off_is_read_again_at_once);
    tcase_add_test(one, lost_action_needs_two_readings);
    tcase_add_test(one, lying_device_is_failed_not_ok);
    tcase_add_test(one, hang_leaves_time_for_the_next_level);
    tcase_add_test(one, one_of_two_supplies_is_not_enough);
    tcase_add_test(one, status_off_on_any_level_is_proof);
    tcase_add_test(one, no_device_is_unknown);
    tcase_add_test(one, cancel_kills);
    tcase_add_test(one, exit_codes);
    suite_add_tcase(s, all);
    suite_add_tcase(s, one);
    return s;
}

UNIT_MAIN(suite)
