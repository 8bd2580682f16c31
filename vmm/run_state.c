/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/run_state.h"

#include <string.h>

#include "base/units.h"

#define STAY (-1) /* accepted, nothing changes */
#define BAD  (-2)

/* What each event does in each state. BAD is an answer for the agent, never an assertion:
 * requests come from outside. */
static const signed char next_state[RUN_STATE_COUNT][RUN_EVENT_COUNT] = {
    [RUN_CREATED] = {[RUN_EV_START] = RUN_STARTING,
                     [RUN_EV_THAW] = BAD,
                     [RUN_EV_FREEZE] = BAD,
                     [RUN_EV_FREEZE_TRY] = BAD,
                     [RUN_EV_UNFREEZE] = BAD,
                     [RUN_EV_END] = RUN_ENDING,
                     [RUN_EV_STARTED] = BAD,
                     [RUN_EV_DRAINED] = BAD,
                     [RUN_EV_FOLLOW] = RUN_FOLLOWING,
                     [RUN_EV_LIVE] = BAD},
    [RUN_STARTING] = {[RUN_EV_START] = STAY,
                      [RUN_EV_THAW] = BAD,
                      [RUN_EV_FREEZE] = RUN_FREEZING,
                      [RUN_EV_FREEZE_TRY] = BAD,
                      [RUN_EV_UNFREEZE] = BAD,
                      [RUN_EV_END] = RUN_ENDING,
                      [RUN_EV_STARTED] = RUN_RUNNING,
                      [RUN_EV_DRAINED] = BAD,
                      [RUN_EV_FOLLOW] = BAD,
                      [RUN_EV_LIVE] = BAD},
    [RUN_RUNNING] = {[RUN_EV_START] = STAY,
                     [RUN_EV_THAW] = STAY,
                     [RUN_EV_FREEZE] = RUN_FREEZING,
                     [RUN_EV_FREEZE_TRY] = RUN_FREEZING,
                     [RUN_EV_UNFREEZE] = STAY,
                     [RUN_EV_END] = RUN_ENDING,
                     [RUN_EV_STARTED] = BAD,
                     [RUN_EV_DRAINED] = BAD,
                     [RUN_EV_FOLLOW] = BAD,
                     [RUN_EV_LIVE] = STAY},
    [RUN_FREEZING] = {[RUN_EV_START] = BAD,
                      [RUN_EV_THAW] = BAD,
                      [RUN_EV_FREEZE] = STAY,
                      [RUN_EV_FREEZE_TRY] = STAY,
                      [RUN_EV_UNFREEZE] = RUN_RUNNING,
                      [RUN_EV_END] = RUN_ENDING,
                      [RUN_EV_STARTED] = STAY,
                      [RUN_EV_DRAINED] = RUN_FROZEN,
                      [RUN_EV_FOLLOW] = BAD,
                      [RUN_EV_LIVE] = BAD},
    [RUN_FROZEN] = {[RUN_EV_START] = BAD,
                    [RUN_EV_THAW] = RUN_RUNNING,
                    [RUN_EV_FREEZE] = STAY,
                    [RUN_EV_FREEZE_TRY] = STAY,
                    [RUN_EV_UNFREEZE] = BAD,
                    [RUN_EV_END] = RUN_ENDING,
                    [RUN_EV_STARTED] = BAD,
                    [RUN_EV_DRAINED] = STAY,
                    [RUN_EV_FOLLOW] = BAD,
                    [RUN_EV_LIVE] = BAD},
    [RUN_ENDING] = {[RUN_EV_START] = BAD,
                    [RUN_EV_THAW] = BAD,
                    [RUN_EV_FREEZE] = BAD,
                    [RUN_EV_FREEZE_TRY] = BAD,
                    [RUN_EV_UNFREEZE] = BAD,
                    [RUN_EV_END] = STAY,
                    [RUN_EV_STARTED] = STAY,
                    [RUN_EV_DRAINED] = RUN_ENDED,
                    [RUN_EV_FOLLOW] = BAD,
                    [RUN_EV_LIVE] = BAD},
    [RUN_ENDED] = {[RUN_EV_START] = BAD,
                   [RUN_EV_THAW] = BAD,
                   [RUN_EV_FREEZE] = BAD,
                   [RUN_EV_FREEZE_TRY] = BAD,
                   [RUN_EV_UNFREEZE] = BAD,
                   [RUN_EV_END] = STAY,
                   [RUN_EV_STARTED] = BAD,
                   [RUN_EV_DRAINED] = STAY,
                   [RUN_EV_FOLLOW] = BAD,
                   [RUN_EV_LIVE] = BAD},
    [RUN_FOLLOWING] = {[RUN_EV_START] = BAD,
                       [RUN_EV_THAW] = BAD,
                       [RUN_EV_FREEZE] = BAD,
                       [RUN_EV_FREEZE_TRY] = BAD,
                       [RUN_EV_UNFREEZE] = BAD,
                       [RUN_EV_END] = RUN_ENDING,
                       [RUN_EV_STARTED] = BAD,
                       [RUN_EV_DRAINED] = BAD,
                       [RUN_EV_FOLLOW] = STAY,
                       [RUN_EV_LIVE] = RUN_RUNNING},
};

static void set_reason(struct run_ctl *run, const char *reason)
{
    size_t len = reason ? strlen(reason) : 0;

    if (len > REASON_LEN_MAX) {
        len = REASON_LEN_MAX;
    }
    if (len > 0) {
        memcpy(run->reason, reason, len);
    }
    run->reason[len] = '\0';
}

/* The guest is entered only at an epoch that nobody has used: START may repeat the one it
 * was created for. */
static enum run_answer check_entry(const struct run_ctl *run, enum run_event event,
                                   uint64_t epoch, bool stay)
{
    if (stay) {
        return epoch == run->epoch ? RUN_ALREADY : RUN_BAD_STATE;
    }
    if (run->lease_lost) {
        return RUN_LEASE_LOST;
    }
#ifndef MUT_OLD_EPOCH
    if (epoch < run->epoch_seen || (event == RUN_EV_THAW && epoch == run->epoch_seen)) {
        return RUN_OLD_EPOCH;
    }
#endif
    return RUN_DONE;
}

enum run_answer run_step(struct run_ctl *run, enum run_event event, uint64_t epoch,
                         enum run_end end, const char *reason, uint64_t now_ns)
{
    int next;

    (void)run_lease_check(run, now_ns);
    next = next_state[run->state][event];
    if (next == BAD) {
        return RUN_BAD_STATE;
    }
    if (event == RUN_EV_START || event == RUN_EV_THAW || event == RUN_EV_LIVE) {
        enum run_answer answer = check_entry(run, event, epoch, next == STAY);

        if (answer != RUN_DONE) {
            return answer;
        }
        run->epoch = epoch;
        if (epoch > run->epoch_seen) {
            run->epoch_seen = epoch;
        }
    }
    if (event == RUN_EV_FREEZE) {
        run->trial = false; /* somebody relies on it, also if it was one until now */
    }
    if (next == STAY) {
        return RUN_ALREADY;
    }
    if (event == RUN_EV_UNFREEZE && (run->lease_lost || !run->trial)) {
        return run->lease_lost ? RUN_LEASE_LOST : RUN_BAD_STATE;
    }
    if (event == RUN_EV_FREEZE_TRY) {
        run->trial = true;
    }
    if (event == RUN_EV_END) {
        run->end = end;
    }
    if (event != RUN_EV_DRAINED && event != RUN_EV_STARTED) {
        set_reason(run, reason);
    }
    run->state = (enum run_state)next;
    return RUN_DONE;
}

bool run_lease_check(struct run_ctl *run, uint64_t now_ns)
{
    if (run->lease_deadline_ns == 0 || now_ns < run->lease_deadline_ns) {
        return false;
    }
    run->lease_deadline_ns = 0;
    run->lease_lost = true;
    run->trial = false;
    if (run->state != RUN_RUNNING && run->state != RUN_STARTING) {
        return false;
    }
    run->state = RUN_FREEZING;
    set_reason(run, "the lease ran out: no word from an agent with quorum in time");
    return true;
}

bool run_lease(struct run_ctl *run, uint32_t lease_ms, uint64_t from_ns, uint64_t now_ns)
{
    (void)run_lease_check(run, now_ns);
    if (lease_ms == 0) {
        run->lease_deadline_ns = 0;
        run->lease_lost = false;
        return true;
    }
    if (from_ns == 0 || from_ns > now_ns) {
        from_ns = now_ns;
    }
    if (now_ns - from_ns >= lease_ms * NSEC_PER_MSEC) {
        return false;
    }
    run->lease_deadline_ns = from_ns + lease_ms * NSEC_PER_MSEC;
    run->lease_lost = false;
    return true;
}

const char *run_state_str(enum run_state state)
{
    static const char *const name[RUN_STATE_COUNT] = {
        [RUN_CREATED] = "created", [RUN_STARTING] = "starting",
        [RUN_RUNNING] = "running", [RUN_FREEZING] = "freezing",
        [RUN_FROZEN] = "frozen",   [RUN_ENDING] = "ending",
        [RUN_ENDED] = "ended",     [RUN_FOLLOWING] = "following",
    };

    return state < RUN_STATE_COUNT ? name[state] : "?";
}

const char *run_answer_str(enum run_answer answer)
{
    static const char *const text[RUN_ANSWER_COUNT] = {
        [RUN_DONE] = "done",
        [RUN_ALREADY] = "already so",
        [RUN_BAD_STATE] = "not possible in this state",
        [RUN_OLD_EPOCH] =
            "this epoch was already used here or is older; take the next claim",
        [RUN_LEASE_LOST] = "the lease ran out; send a new lease first",
    };

    return answer < RUN_ANSWER_COUNT ? text[answer] : "?";
}

const char *run_end_str(enum run_end end)
{
    static const char *const name[] = {
        [RUN_END_NONE] = "none",       [RUN_END_SHUTDOWN] = "guest-shutdown",
        [RUN_END_KILLED] = "killed",   [RUN_END_CRASH] = "guest-crash",
        [RUN_END_HOST] = "host-error",
    };

    return end <= RUN_END_HOST ? name[end] : "?";
}
