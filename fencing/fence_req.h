/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine of one fence request: which agent to run next, what its answers are worth,
 * and when the request is settled. Pure: events in, acts out; the clock comes with the
 * event. The shell (fencing/fenced) runs agents and keeps timers.
 *
 * The rule it exists for (design R3): OFF is OK only when, on every device of one level,
 * a reading says off and the answer just before it from the same device was positive too
 * (the agent reported off done, or an earlier reading said off). A timeout is UNKNOWN,
 * never off. Levels are alternatives.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/limits.h"

#define FENCE_LEVELS_MAX    4
#define FENCE_PER_LEVEL_MAX 4
#define FENCE_LEGS_MAX      (FENCE_LEVELS_MAX * FENCE_PER_LEVEL_MAX)

/* What an agent is asked to do. Never reboot or cycle: neither proves that the node was
 * off. */
enum fence_action {
    FENCE_ACTION_NONE = 0,
    FENCE_ACTION_STATUS,
    FENCE_ACTION_OFF,
    FENCE_ACTION_ON,
    FENCE_ACTION_MONITOR,
    FENCE_ACTION_COUNT,
};

/* What one run of an agent said, after fence_answer_of(). */
enum fence_answer {
    FENCE_ANSWER_NONE = 0,
    FENCE_ANSWER_DONE,    /* off, on, monitor: exit 0 */
    FENCE_ANSWER_REFUSED, /* off, on, monitor: exit 1; also what could not be started */
    FENCE_ANSWER_ON,      /* status: exit 0 */
    FENCE_ANSWER_OFF,     /* status: exit 2 */
    FENCE_ANSWER_UNCLEAR, /* any other exit code, a signal */
    FENCE_ANSWER_TIMEOUT,
    FENCE_ANSWER_COUNT,
};

/* How a run ended, as the shell sees it. */
enum fence_end {
    FENCE_END_EXITED = 1, /* code: exit code */
    FENCE_END_SIGNALLED,  /* code: signal */
    FENCE_END_TIMEOUT,    /* killed by us after its time */
    FENCE_END_NOT_RUN, /* refused or failed before exec: bad secret file, no such agent */
    FENCE_END_PREEMPTED, /* killed by us for a more important action on the same device */
};

struct fence_leg_conf {
    unsigned level;      /* 1..FENCE_LEVELS_MAX */
    uint32_t timeout_ms; /* of one run of the agent */
};

struct fence_req_conf {
    enum fence_action action;
    bool levels_parallel; /* all levels at once; else in order */
    bool read_only; /* OFF, ON: do not act, only read (after a restart of fenced, when it
                       is unknown what was done) */
    uint32_t timeout_ms; /* of the whole request, all retries included */
    uint32_t retry_ms;   /* pause before all levels are tried again */
    uint32_t reread_ms;  /* pause before a reading is repeated while the device still says
                            the old state */
    unsigned rereads_max; /* per attempt */
    unsigned rounds_max;  /* 0: until the time is over */
    unsigned leg_count;
    struct fence_leg_conf leg[FENCE_LEGS_MAX];
};

enum fence_leg_state {
    FENCE_LEG_IDLE = 0,
    FENCE_LEG_ACTING,  /* off, on or monitor is running */
    FENCE_LEG_READING, /* status is running */
    FENCE_LEG_PAUSING, /* before the reading is repeated */
    FENCE_LEG_GOOD,    /* confirmed in this round */
    FENCE_LEG_BAD,     /* this round gave no confirmation */
    FENCE_LEG_STATE_COUNT,
};

/* What happens to one leg; the columns of the table in fence_req.c. */
enum fence_leg_event {
    FENCE_LEG_BEGIN = 0,
    FENCE_LEG_DONE,   /* the action's agent reports success */
    FENCE_LEG_NOT,    /* it reports failure, dies or times out: nothing known */
    FENCE_LEG_WANTED, /* a reading says what is wanted (off for OFF and STATUS, on for ON)
                       */
    FENCE_LEG_OTHER,  /* a reading says the opposite */
    FENCE_LEG_UNCLEAR, /* a reading says nothing */
    FENCE_LEG_WAKE,    /* the pause is over */
    FENCE_LEG_STOP,    /* the request is settled */
    FENCE_LEG_EVENT_COUNT,
};

/* How the request stands. Values of the wire (FenceResult) are mapped in fenced. */
enum fence_result {
    FENCE_RESULT_NONE = 0, /* not begun */
    FENCE_RESULT_PENDING,
    FENCE_RESULT_OK,
    FENCE_RESULT_FAILED,
    FENCE_RESULT_UNKNOWN,
};

enum fence_cause {
    FENCE_CAUSE_NONE = 0,
    FENCE_CAUSE_CONFIRMED, /* OK */
    FENCE_CAUSE_CONTRARY,  /* FAILED: a device positively says the opposite; MONITOR: a
                              device refused */
    FENCE_CAUSE_NO_ANSWER, /* UNKNOWN: all rounds tried, nothing clear */
    FENCE_CAUSE_TIME_OVER, /* UNKNOWN: the request's time */
    FENCE_CAUSE_CANCELLED, /* UNKNOWN: by the requester */
    FENCE_CAUSE_NO_DEVICE, /* UNKNOWN: nothing configured for the node */
};

struct fence_leg {
    enum fence_leg_state state;
    uint32_t run;      /* of the agent under way; an answer to another run is ignored */
    uint32_t attempts; /* runs of the action (of status, when that is all) */
    unsigned rereads;  /* in this attempt */
    unsigned evidence; /* positive answers in a row, the latest included */
    bool contrary;     /* the latest reading of this round said the opposite */
    uint64_t wake_ns;  /* PAUSING */
    enum fence_answer last;
};

struct fence_req {
    struct fence_req_conf conf;
    enum fence_result result;
    enum fence_cause cause;
    unsigned level;   /* under way; 0: all (parallel), or pausing between rounds */
    unsigned round;   /* from 1 */
    unsigned decider; /* leg that settled it (OK, CONTRARY) */
    uint32_t run_last;
    uint64_t begin_ns, deadline_ns, round_wake_ns;
    struct fence_leg leg[FENCE_LEGS_MAX];
};

enum fence_event_kind {
    FENCE_EVENT_BEGIN = 1,
    FENCE_EVENT_ANSWER, /* leg, run, answer */
    FENCE_EVENT_TICK,   /* time passed: retries and the deadline */
    FENCE_EVENT_CANCEL,
};

struct fence_event {
    enum fence_event_kind kind;
    uint64_t now_ns;
    unsigned leg;
    uint32_t run;
    enum fence_answer answer;
};

enum fence_do { FENCE_DO_RUN = 1, FENCE_DO_KILL };

struct fence_act {
    enum fence_do what;
    unsigned leg;
    uint32_t run;
    enum fence_action action; /* RUN */
    uint32_t timeout_ms;      /* RUN: from the moment the agent is really started */
};

/* Effects of one step. At most one RUN and one KILL per leg. */
struct fence_acts {
    unsigned count;
    struct fence_act act[FENCE_LEGS_MAX * 2];
    uint64_t wake_ns; /* next TICK wanted; 0: none (settled) */
    bool settled;     /* this step settled the request */
};

/* Prepares `req`; nothing runs before FENCE_EVENT_BEGIN. Values out of range are clamped;
 * legs with a bad level are dropped. */
void fence_req_init(struct fence_req *req, const struct fence_req_conf *conf);
/* Any event in any state is allowed; what does not fit is ignored. */
void fence_req_step(struct fence_req *req, const struct fence_event *event,
                    struct fence_acts *ret_acts);
bool fence_req_settled(const struct fence_req *req);
/* Runs of agents so far that tried the action, over all legs. */
uint32_t fence_req_attempts(const struct fence_req *req);

/* The contract of exit codes (FenceAgentAPI): the only place that knows it. */
enum fence_answer fence_answer_of(enum fence_action action, enum fence_end end, int code);

const char *fence_action_str(enum fence_action action); /* the word an agent takes */
const char *fence_answer_str(enum fence_answer answer);
const char *fence_result_str(enum fence_result result);
const char *fence_cause_str(enum fence_cause cause);
