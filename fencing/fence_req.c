/* SPDX-License-Identifier: Apache-2.0 */
#include "fencing/fence_req.h"

#include <string.h>

#include "base/units.h"

/* An agent is not started with less time than this: it could not finish, and killing it
 * proves nothing. */
#define RUN_MS_MIN 200

/* One step's context: handlers append to acts. */
struct step {
    struct fence_req *req;
    struct fence_acts *acts;
    uint64_t now_ns;
};

typedef void leg_fn(struct step *s, unsigned leg);

static const char *const action_name[FENCE_ACTION_COUNT] = {
    [FENCE_ACTION_NONE] = "none",       [FENCE_ACTION_STATUS] = "status",
    [FENCE_ACTION_OFF] = "off",         [FENCE_ACTION_ON] = "on",
    [FENCE_ACTION_MONITOR] = "monitor",
};

static const char *const answer_name[FENCE_ANSWER_COUNT] = {
    [FENCE_ANSWER_NONE] = "not asked",
    [FENCE_ANSWER_DONE] = "reports success",
    [FENCE_ANSWER_REFUSED] = "reports failure",
    [FENCE_ANSWER_ON] = "says on",
    [FENCE_ANSWER_OFF] = "says off",
    [FENCE_ANSWER_UNCLEAR] = "gives no clear answer",
    [FENCE_ANSWER_TIMEOUT] = "does not answer in time",
};

enum fence_answer fence_answer_of(enum fence_action action, enum fence_end end, int code)
{
    if (end == FENCE_END_TIMEOUT) {
#ifdef MUT_TIMEOUT_IS_OFF
        return action == FENCE_ACTION_STATUS ? FENCE_ANSWER_OFF : FENCE_ANSWER_DONE;
#else
        return FENCE_ANSWER_TIMEOUT;
#endif
    }
    if (end == FENCE_END_NOT_RUN && action != FENCE_ACTION_STATUS) {
        return FENCE_ANSWER_REFUSED;
    }
    if (end != FENCE_END_EXITED) {
        return FENCE_ANSWER_UNCLEAR;
    }
    switch (action) {
    case FENCE_ACTION_STATUS:
        return code == 0   ? FENCE_ANSWER_ON
               : code == 2 ? FENCE_ANSWER_OFF
                           : FENCE_ANSWER_UNCLEAR;
    case FENCE_ACTION_MONITOR:
        /* 2: a device of one port that is off; it did answer. */
        return code == 0 || code == 2 ? FENCE_ANSWER_DONE
               : code == 1            ? FENCE_ANSWER_REFUSED
                                      : FENCE_ANSWER_UNCLEAR;
    case FENCE_ACTION_OFF:
    case FENCE_ACTION_ON:
        return code == 0   ? FENCE_ANSWER_DONE
               : code == 1 ? FENCE_ANSWER_REFUSED
                           : FENCE_ANSWER_UNCLEAR;
    case FENCE_ACTION_NONE:
    case FENCE_ACTION_COUNT:
        break;
    }
    return FENCE_ANSWER_UNCLEAR;
}

static unsigned evidence_needed(const struct fence_req *req)
{
    /* A reading of off is proof by itself (design R7); after an action it must be the
     * second word (R3). */
#ifdef MUT_NO_SECOND_READING
    (void)req;
    return 1;
#else
    return req->conf.action == FENCE_ACTION_STATUS ? 1 : 2;
#endif
}

static uint32_t ms_until(uint64_t now_ns, uint64_t then_ns)
{
    return then_ns <= now_ns ? 0 : (uint32_t)((then_ns - now_ns) / NSEC_PER_MSEC);
}

static unsigned levels_from(const struct fence_req *req, unsigned level)
{
    unsigned count = 0;

    for (unsigned l = level; l <= FENCE_LEVELS_MAX; l++) {
        for (unsigned i = 0; i < req->conf.leg_count; i++) {
            if (req->conf.leg[i].level == l) {
                count++;
                break;
            }
        }
    }
    return count;
}

/* The level after `level` that has legs; 0: none. */
static unsigned level_after(const struct fence_req *req, unsigned level)
{
    for (unsigned l = level + 1; l <= FENCE_LEVELS_MAX; l++) {
        if (levels_from(req, l) != levels_from(req, l + 1)) {
            return l;
        }
    }
    return 0;
}

/*
 * A level may use its share of what is left, so that a device that hangs cannot eat the
 * time of its alternatives; and an action leaves a third of that for the reading, without
 * which it is worth nothing.
 */
static uint32_t run_ms(const struct step *s, unsigned leg, bool acting)
{
    const struct fence_req *req = s->req;
    uint32_t left_ms = ms_until(s->now_ns, req->deadline_ns);
    uint32_t device_ms = req->conf.leg[leg].timeout_ms;

    if (!req->conf.levels_parallel && req->conf.action != FENCE_ACTION_MONITOR) {
        left_ms /= levels_from(req, req->conf.leg[leg].level);
    }
    if (acting && req->conf.action != FENCE_ACTION_MONITOR) {
        left_ms = left_ms / 3 * 2;
    }
    return left_ms < device_ms ? left_ms : device_ms;
}

/* Starts an agent on this leg, or gives the leg up when there is no time for it. */
static void leg_run(struct step *s, unsigned leg, enum fence_action action,
                    enum fence_leg_state state)
{
    struct fence_leg *l = &s->req->leg[leg];
    uint32_t timeout_ms = run_ms(s, leg, state == FENCE_LEG_ACTING);

    if (timeout_ms < RUN_MS_MIN) {
        l->state = FENCE_LEG_BAD;
        return;
    }
    l->state = state;
    l->run = ++s->req->run_last;
    s->acts->act[s->acts->count++] = (struct fence_act){
        .what = FENCE_DO_RUN,
        .leg = leg,
        .run = l->run,
        .action = action,
        .timeout_ms = timeout_ms,
    };
}

static void leg_read(struct step *s, unsigned leg)
{
    leg_run(s, leg, FENCE_ACTION_STATUS, FENCE_LEG_READING);
}

static void leg_begin(struct step *s, unsigned leg)
{
    struct fence_leg *l = &s->req->leg[leg];
    enum fence_action action = s->req->conf.action;

    l->attempts++;
    l->rereads = 0;
    l->evidence = 0;
    l->contrary = false;
    if (action == FENCE_ACTION_STATUS || s->req->conf.read_only) {
        leg_read(s, leg);
    } else {
        leg_run(s, leg, action, FENCE_LEG_ACTING);
    }
}

static void leg_done(struct step *s, unsigned leg)
{
    struct fence_leg *l = &s->req->leg[leg];

    if (s->req->conf.action == FENCE_ACTION_MONITOR) {
        l->state = FENCE_LEG_GOOD;
        return;
    }
    l->evidence = 1;
#ifdef MUT_NO_READING
    l->state = FENCE_LEG_GOOD;
#else
    leg_read(s, leg);
#endif
}

/* The action failed or got lost: it may have worked all the same, so look; but that alone
 * is one positive answer only. */
static void leg_not(struct step *s, unsigned leg)
{
    struct fence_leg *l = &s->req->leg[leg];

    l->evidence = 0;
    if (s->req->conf.action == FENCE_ACTION_MONITOR) {
        l->contrary = l->last == FENCE_ANSWER_REFUSED;
        l->state = FENCE_LEG_BAD;
        return;
    }
    /* It did not even answer: where there is an alternative, that is asked before this
     * one is waited for again. */
    if (l->last == FENCE_ANSWER_TIMEOUT && s->req->level != 0 &&
        level_after(s->req, s->req->level) != 0) {
        l->state = FENCE_LEG_BAD;
        return;
    }
    leg_read(s, leg);
}

static void leg_wanted(struct step *s, unsigned leg)
{
    struct fence_leg *l = &s->req->leg[leg];

    l->contrary = false;
    l->evidence++;
    if (l->evidence >= evidence_needed(s->req)) {
        l->state = FENCE_LEG_GOOD;
    } else {
        leg_read(s, leg);
    }
}

static void leg_other(struct step *s, unsigned leg)
{
    struct fence_leg *l = &s->req->leg[leg];

    l->contrary = true;
    l->evidence = 0;
    if (s->req->conf.action == FENCE_ACTION_STATUS ||
        l->rereads >= s->req->conf.rereads_max) {
        l->state = FENCE_LEG_BAD;
        return;
    }
    l->rereads++;
    l->state = FENCE_LEG_PAUSING;
    l->wake_ns = s->now_ns + s->req->conf.reread_ms * NSEC_PER_MSEC;
}

static void leg_unclear(struct step *s, unsigned leg)
{
    struct fence_leg *l = &s->req->leg[leg];

    l->contrary = false;
    l->evidence = 0;
    l->state = FENCE_LEG_BAD;
}

static void leg_kill(struct step *s, unsigned leg)
{
    struct fence_leg *l = &s->req->leg[leg];

    s->acts->act[s->acts->count++] =
        (struct fence_act){.what = FENCE_DO_KILL, .leg = leg, .run = l->run};
    l->state = FENCE_LEG_BAD;
}

static void leg_drop(struct step *s, unsigned leg)
{
    s->req->leg[leg].state = FENCE_LEG_BAD;
}

/* State x event of one leg. What is not here is ignored. */
static leg_fn *const leg_table[FENCE_LEG_STATE_COUNT][FENCE_LEG_EVENT_COUNT] = {
    [FENCE_LEG_IDLE] =
        {
            [FENCE_LEG_BEGIN] = leg_begin,
        },
    [FENCE_LEG_ACTING] =
        {
            [FENCE_LEG_DONE] = leg_done,
            [FENCE_LEG_NOT] = leg_not,
            [FENCE_LEG_STOP] = leg_kill,
        },
    [FENCE_LEG_READING] =
        {
            [FENCE_LEG_WANTED] = leg_wanted,
            [FENCE_LEG_OTHER] = leg_other,
            [FENCE_LEG_UNCLEAR] = leg_unclear,
            [FENCE_LEG_STOP] = leg_kill,
        },
    [FENCE_LEG_PAUSING] =
        {
            [FENCE_LEG_WAKE] = leg_read,
            [FENCE_LEG_STOP] = leg_drop,
        },
    /* A new round asks again: an old confirmation is not one. */
    [FENCE_LEG_GOOD] =
        {
            [FENCE_LEG_BEGIN] = leg_begin,
        },
    [FENCE_LEG_BAD] =
        {
            [FENCE_LEG_BEGIN] = leg_begin,
        },
};

static void leg_step(struct step *s, unsigned leg, enum fence_leg_event event)
{
    leg_fn *fn = leg_table[s->req->leg[leg].state][event];

    if (fn != NULL) {
        fn(s, leg);
    }
}

/* What an answer means depends on what was asked: success of an action is not a reading,
 * a reading is not success. */
static enum fence_leg_event leg_event_of(const struct fence_req *req, unsigned leg,
                                         enum fence_answer answer)
{
    enum fence_answer wanted =
        req->conf.action == FENCE_ACTION_ON ? FENCE_ANSWER_ON : FENCE_ANSWER_OFF;
    enum fence_answer other =
        req->conf.action == FENCE_ACTION_ON ? FENCE_ANSWER_OFF : FENCE_ANSWER_ON;

    if (req->leg[leg].state == FENCE_LEG_ACTING) {
        return answer == FENCE_ANSWER_DONE ? FENCE_LEG_DONE : FENCE_LEG_NOT;
    }
    return answer == wanted  ? FENCE_LEG_WANTED
           : answer == other ? FENCE_LEG_OTHER
                             : FENCE_LEG_UNCLEAR;
}

static bool leg_settled(const struct fence_leg *l)
{
    return l->state == FENCE_LEG_GOOD || l->state == FENCE_LEG_BAD;
}

static void req_settle(struct step *s, enum fence_result result, enum fence_cause cause,
                       unsigned decider)
{
    for (unsigned i = 0; i < s->req->conf.leg_count; i++) {
        leg_step(s, i, FENCE_LEG_STOP);
    }
    s->req->result = result;
    s->req->cause = cause;
    s->req->decider = decider;
    s->acts->settled = true;
}

/* Not confirmed, and no more tries: FAILED only if a device positively says the opposite.
 */
static void req_give_up(struct step *s, enum fence_cause cause)
{
    for (unsigned i = 0; i < s->req->conf.leg_count; i++) {
        if (s->req->leg[i].contrary) {
            req_settle(s, FENCE_RESULT_FAILED, FENCE_CAUSE_CONTRARY, i);
            return;
        }
    }
    req_settle(s, FENCE_RESULT_UNKNOWN, cause, 0);
}

static void level_begin(struct step *s, unsigned level)
{
    s->req->level = level;
    for (unsigned i = 0; i < s->req->conf.leg_count; i++) {
        if (level == 0 || s->req->conf.leg[i].level == level) {
            leg_step(s, i, FENCE_LEG_BEGIN);
        }
    }
}

static void round_begin(struct step *s)
{
    struct fence_req *req = s->req;
    bool at_once = req->conf.levels_parallel || req->conf.action == FENCE_ACTION_MONITOR;

    req->round++;
    req->round_wake_ns = 0;
    for (unsigned i = 0; i < req->conf.leg_count; i++) {
        req->leg[i].contrary = false;
        req->leg[i].state = FENCE_LEG_IDLE;
    }
    level_begin(s, at_once ? 0 : level_after(req, 0));
}

static void round_end(struct step *s)
{
    struct fence_req *req = s->req;
    bool asks_only = req->conf.action == FENCE_ACTION_STATUS ||
                     req->conf.action == FENCE_ACTION_MONITOR;
    uint64_t next_ns = s->now_ns + req->conf.retry_ms * NSEC_PER_MSEC;
    bool contrary = false;

    for (unsigned i = 0; i < req->conf.leg_count; i++) {
        contrary = contrary || req->leg[i].contrary;
    }
    if ((asks_only && contrary) ||
        (req->conf.rounds_max != 0 && req->round >= req->conf.rounds_max)) {
        req_give_up(s, FENCE_CAUSE_NO_ANSWER);
    } else if (next_ns + RUN_MS_MIN * NSEC_PER_MSEC >= req->deadline_ns) {
        req_give_up(s, FENCE_CAUSE_TIME_OVER);
    } else {
        req->level = 0;
        req->round_wake_ns = next_ns;
    }
}

/* True when the level (0: every leg) is settled; *ret_bad: the first leg that is not
 * good, or FENCE_LEGS_MAX. */
static bool level_settled(const struct fence_req *req, unsigned level, unsigned *ret_bad)
{
    *ret_bad = FENCE_LEGS_MAX;
    for (unsigned i = 0; i < req->conf.leg_count; i++) {
        if (level != 0 && req->conf.leg[i].level != level) {
            continue;
        }
        if (!leg_settled(&req->leg[i])) {
            *ret_bad = i;
            return false;
        }
        if (req->leg[i].state != FENCE_LEG_GOOD && *ret_bad == FENCE_LEGS_MAX) {
            *ret_bad = i;
        }
    }
    return true;
}

/* All devices of one level (MONITOR: of all levels) are good. Returns that level's last
 * leg, or FENCE_LEGS_MAX. */
static unsigned req_good_leg(const struct fence_req *req)
{
    bool all = req->conf.action == FENCE_ACTION_MONITOR;
    unsigned bad, found = FENCE_LEGS_MAX;

    for (unsigned level = all ? 0 : 1; level <= (all ? 0 : FENCE_LEVELS_MAX); level++) {
        if (!level_settled(req, level, &bad) || bad != FENCE_LEGS_MAX) {
            continue;
        }
        for (unsigned i = 0; i < req->conf.leg_count; i++) {
            if (all || req->conf.leg[i].level == level) {
                found = i;
            }
        }
        if (found != FENCE_LEGS_MAX) {
            break;
        }
    }
    return found;
}

/* After the legs moved: settled, next level, end of the round, or wait. A level that
 * could not start at all is passed at once. */
static void req_advance(struct step *s)
{
    struct fence_req *req = s->req;

    for (unsigned n = 0; n <= FENCE_LEVELS_MAX; n++) {
        unsigned good = req_good_leg(req), bad, next;

        if (good != FENCE_LEGS_MAX) {
            req_settle(s, FENCE_RESULT_OK, FENCE_CAUSE_CONFIRMED, good);
            return;
        }
        if (!level_settled(req, req->level, &bad)) {
            return;
        }
        next = req->level == 0 ? 0 : level_after(req, req->level);
        if (next == 0) {
            round_end(s);
            return;
        }
        level_begin(s, next);
    }
}

static void req_tick(struct step *s)
{
    struct fence_req *req = s->req;

    for (unsigned i = 0; i < req->conf.leg_count; i++) {
        if (req->leg[i].state == FENCE_LEG_PAUSING && s->now_ns >= req->leg[i].wake_ns) {
            leg_step(s, i, FENCE_LEG_WAKE);
        }
    }
    if (req->round_wake_ns != 0) {
        if (s->now_ns < req->round_wake_ns) {
            return;
        }
        round_begin(s);
    }
    req_advance(s);
}

static void req_begin(struct step *s)
{
    struct fence_req *req = s->req;

    if (req->result != FENCE_RESULT_NONE) {
        return;
    }
    req->result = FENCE_RESULT_PENDING;
    req->begin_ns = s->now_ns;
    req->deadline_ns = s->now_ns + req->conf.timeout_ms * NSEC_PER_MSEC;
    if (req->conf.leg_count == 0 || req->conf.action == FENCE_ACTION_NONE) {
        req_settle(s, FENCE_RESULT_UNKNOWN, FENCE_CAUSE_NO_DEVICE, 0);
        return;
    }
    round_begin(s);
    req_advance(s);
}

static void req_answer(struct step *s, const struct fence_event *event)
{
    struct fence_leg *l;

    if (event->leg >= s->req->conf.leg_count) {
        return;
    }
    l = &s->req->leg[event->leg];
    if (event->run != l->run ||
        (l->state != FENCE_LEG_ACTING && l->state != FENCE_LEG_READING)) {
        return;
    }
    l->last = event->answer;
    leg_step(s, event->leg, leg_event_of(s->req, event->leg, event->answer));
    req_advance(s);
}

static uint64_t req_wake_ns(const struct fence_req *req)
{
    uint64_t wake_ns = req->deadline_ns;

    if (req->round_wake_ns != 0 && req->round_wake_ns < wake_ns) {
        wake_ns = req->round_wake_ns;
    }
    for (unsigned i = 0; i < req->conf.leg_count; i++) {
        if (req->leg[i].state == FENCE_LEG_PAUSING && req->leg[i].wake_ns < wake_ns) {
            wake_ns = req->leg[i].wake_ns;
        }
    }
    return wake_ns;
}

void fence_req_step(struct fence_req *req, const struct fence_event *event,
                    struct fence_acts *ret_acts)
{
    struct step s = {.req = req, .acts = ret_acts, .now_ns = event->now_ns};

    ret_acts->count = 0;
    ret_acts->wake_ns = 0;
    ret_acts->settled = false;
    if (event->kind == FENCE_EVENT_BEGIN) {
        req_begin(&s);
    } else if (req->result == FENCE_RESULT_PENDING) {
        switch (event->kind) {
        case FENCE_EVENT_ANSWER:
            req_answer(&s, event);
            break;
        case FENCE_EVENT_TICK:
            /* At the deadline nothing new is started. */
            if (s.now_ns < req->deadline_ns) {
                req_tick(&s);
            }
            break;
        case FENCE_EVENT_CANCEL:
            req_settle(&s, FENCE_RESULT_UNKNOWN, FENCE_CAUSE_CANCELLED, 0);
            break;
        case FENCE_EVENT_BEGIN:
            break;
        }
    }
    if (req->result == FENCE_RESULT_PENDING) {
        /* An answer that arrives with the deadline still counts: it was looked at above.
         */
        if (s.now_ns >= req->deadline_ns) {
            req_give_up(&s, FENCE_CAUSE_TIME_OVER);
        } else {
            ret_acts->wake_ns = req_wake_ns(req);
        }
    }
}

void fence_req_init(struct fence_req *req, const struct fence_req_conf *conf)
{
    unsigned count = 0;

    memset(req, 0, sizeof(*req));
    req->conf = *conf;
    if ((unsigned)conf->action >= FENCE_ACTION_COUNT) {
        req->conf.action = FENCE_ACTION_NONE;
    }
    for (unsigned i = 0; i < conf->leg_count && i < FENCE_LEGS_MAX; i++) {
        if (conf->leg[i].level >= 1 && conf->leg[i].level <= FENCE_LEVELS_MAX) {
            req->conf.leg[count++] = conf->leg[i];
        }
    }
    req->conf.leg_count = count;
}

bool fence_req_settled(const struct fence_req *req)
{
    return req->result > FENCE_RESULT_PENDING;
}

uint32_t fence_req_attempts(const struct fence_req *req)
{
    uint32_t sum = 0;

    for (unsigned i = 0; i < req->conf.leg_count; i++) {
        sum += req->leg[i].attempts;
    }
    return sum;
}

const char *fence_action_str(enum fence_action action)
{
    return (unsigned)action < FENCE_ACTION_COUNT ? action_name[action] : "invalid";
}

const char *fence_answer_str(enum fence_answer answer)
{
    return (unsigned)answer < FENCE_ANSWER_COUNT ? answer_name[answer] : "invalid";
}

const char *fence_result_str(enum fence_result result)
{
    switch (result) {
    case FENCE_RESULT_NONE:
        return "not begun";
    case FENCE_RESULT_PENDING:
        return "pending";
    case FENCE_RESULT_OK:
        return "ok";
    case FENCE_RESULT_FAILED:
        return "failed";
    case FENCE_RESULT_UNKNOWN:
        return "unknown";
    }
    return "invalid";
}

const char *fence_cause_str(enum fence_cause cause)
{
    switch (cause) {
    case FENCE_CAUSE_NONE:
        return "none";
    case FENCE_CAUSE_CONFIRMED:
        return "confirmed by a reading";
    case FENCE_CAUSE_CONTRARY:
        return "the device says the opposite";
    case FENCE_CAUSE_NO_ANSWER:
        return "no device gave a clear answer";
    case FENCE_CAUSE_TIME_OVER:
        return "no confirmation within the time of the request";
    case FENCE_CAUSE_CANCELLED:
        return "cancelled";
    case FENCE_CAUSE_NO_DEVICE:
        return "no fence device is configured for this node";
    }
    return "invalid";
}
