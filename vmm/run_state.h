/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether the guest may run: one state, one step function, one table (design R1, R6, R8).
 * Pure: the shell carries out what the state says and reports what happened. Time comes
 * in as CLOCK_MONOTONIC ns of the host.
 *
 *   CREATED -START-> STARTING -STARTED-> RUNNING -FREEZE-> FREEZING -DRAINED-> FROZEN
 * -THAW-> RUNNING any -END-> ENDING -DRAINED-> ENDED
 *
 * RUNNING -FREEZE_TRY-> FREEZING -UNFREEZE-> RUNNING: the disk of a VM that is to migrate
 * does not answer.
 *
 * CREATED -FOLLOW-> FOLLOWING -LIVE-> RUNNING: the twin of a protected VM (ft/). LIVE
 * brings a claim, as START does.
 *
 * An epoch is never used twice: THAW needs a greater one than was ever seen here, START
 * one that is not older. The lease is an isolation aid: once it has run out it stays lost
 * until the next LEASE, and the guest needs THAW to run again.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/limits.h"

enum run_state {
    RUN_CREATED = 0, /* disks not opened for writing, guest never entered */
    RUN_STARTING,    /* the vCPU thread opens the disks */
    RUN_RUNNING,
    RUN_FREEZING, /* vCPU stopped, I/O in flight */
    RUN_FROZEN,   /* vCPU stopped, no I/O in flight, disks flushed */
    RUN_ENDING,   /* vCPU stopped for good, I/O in flight */
    RUN_ENDED,
    RUN_FOLLOWING, /* executes what another instance has executed; nothing leaves */
    RUN_STATE_COUNT,
};

enum run_event {
    RUN_EV_START = 0, /* requests */
    RUN_EV_THAW,
    RUN_EV_FREEZE,
    RUN_EV_FREEZE_TRY, /* a freeze that may be taken back until it is FROZEN */
    RUN_EV_UNFREEZE,   /* takes it back: nobody was told FROZEN, so the epoch stays */
    RUN_EV_END,
    RUN_EV_STARTED, /* what the vCPU thread found */
    RUN_EV_DRAINED,
    RUN_EV_FOLLOW, /* requests */
    RUN_EV_LIVE,
    RUN_EVENT_COUNT,
};

enum run_end {
    RUN_END_NONE = 0,
    RUN_END_SHUTDOWN,
    RUN_END_KILLED,
    RUN_END_CRASH,
    RUN_END_HOST
};

struct run_ctl {
    enum run_state state;
    enum run_end end;
    uint64_t epoch;             /* at which the guest runs, or ran last */
    uint64_t epoch_seen;        /* the greatest one ever accepted */
    uint64_t lease_deadline_ns; /* 0: no lease */
    bool lease_lost;
    bool trial;                      /* FREEZING by FREEZE_TRY, and by nothing else */
    char reason[REASON_LEN_MAX + 1]; /* of the latest change, for people */
};

enum run_answer {
    RUN_DONE = 0,   /* the state changed */
    RUN_ALREADY,    /* nothing to do: that is how it is */
    RUN_BAD_STATE,  /* not possible in this state */
    RUN_OLD_EPOCH,  /* older than, or (THAW) equal to one already used */
    RUN_LEASE_LOST, /* the lease has run out: LEASE first */
    RUN_ANSWER_COUNT,
};

/* epoch: START and THAW only. end: END only. reason may be NULL. */
enum run_answer run_step(struct run_ctl *run, enum run_event event, uint64_t epoch,
                         enum run_end end, const char *reason, uint64_t now_ns);
/* A lease of `lease_ms` counted from `from_ns` (0 ms: no lease from now on). A lease that
 * already ran out is latched first, so that a renewal that waited in a socket cannot undo
 * the gap. False: it came too late to be of use. */
bool run_lease(struct run_ctl *run, uint32_t lease_ms, uint64_t from_ns, uint64_t now_ns);
/* Freezes if the lease has run out. True when it did so now. */
bool run_lease_check(struct run_ctl *run, uint64_t now_ns);
const char *run_state_str(enum run_state state);
const char *run_answer_str(enum run_answer answer);
const char *run_end_str(enum run_end end);
