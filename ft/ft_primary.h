/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The primary of a protected VM as a state machine: one table, state x event, in
 * ft/README.md and in ft_primary.c (a test compares them). The shell feeds events and
 * carries out what comes back; acknowledgements go to ft_commit, whatever the state.
 * Pure.
 *
 * Outputs are held from ARM on. They leave by the rule (ft_commit), or all at once when a
 * claim without a twin was won. From the moment in which somebody else's claim is seen
 * nothing leaves and nothing runs.
 */
#pragma once

#include "ft/ft_act.h"

enum ft_primary_state {
    FT_PRI_SYNC = 0, /* memory is copied to the secondary; the guest runs */
    FT_PRI_ARM,      /* stands at position 0: the agent takes the claim with the twin */
    FT_PRI_ON,
    FT_PRI_BARRIER,      /* stands until the secondary has the same memory */
    FT_PRI_HOLD,         /* the secondary is not heard: the agent decides */
    FT_PRI_HOLD_BARRIER, /* the same, at a barrier */
    FT_PRI_SWITCHING,    /* stands, drained: the barrier before a switchover */
    FT_PRI_SWITCH, /* stands: the twin takes the claim, or the agent takes it back */
    FT_PRI_LOST,   /* somebody else has the claim: stands until that one runs */
    FT_PRI_ALONE,  /* over: runs without a twin */
    FT_PRI_ENDED,  /* over: the guest is gone */
    FT_PRI_STATES,
};

enum ft_primary_event {
    FT_PRI_SYNCED = 0,   /* the secondary has memory, state and disks of position 0 */
    FT_PRI_BROKEN,       /* the channel, for good */
    FT_PRI_SILENT,       /* nothing heard for suspect_ms */
    FT_PRI_HEARD,        /* the first word after that */
    FT_PRI_BARRIER_DUE,  /* its time, exit_gap_ms, or an output that differs */
    FT_PRI_DIVERGED,     /* the secondary asks for a barrier */
    FT_PRI_BARRIER_DONE, /* the secondary acknowledged it */
    FT_PRI_GUEST_OFF,    /* powered off; all that was before has left */
    FT_PRI_HOST_ERROR,   /* of this side's part of the session */
    FT_PRI_TWIN_WON,     /* the agent's: input->epoch is this instance's, with the twin */
    FT_PRI_ALONE_WON,    /* the agent's: the same without one */
    FT_PRI_CLAIM_LOST,   /* the agent's: somebody else has the next one */
    FT_PRI_GO_ON,        /* the agent's: no claim was submitted; as before */
    FT_PRI_SWITCHOVER,   /* the agent's: let the twin take over */
    FT_PRI_WINNER_RUNS,  /* the agent's: memory is of no more use */
    FT_PRI_END,          /* the agent's: end the instance */
    FT_PRI_EVENTS,
};

/* In the order in which they are done. */
#define FT_PRI_DO_STOP          (1u << 0) /* the vCPU, at a position */
#define FT_PRI_DO_HOLD          (1u << 1) /* outputs, from position 0 on */
#define FT_PRI_DO_SEND_START    (1u << 2) /* the log's first record, or a new epoch */
#define FT_PRI_DO_SEND_BARRIER  (1u << 3)
#define FT_PRI_DO_SEND_TAKEOVER (1u << 4) /* its last record: the twin may claim */
#define FT_PRI_DO_SEND_END      (1u << 5) /* the twin is not needed any more */
#define FT_PRI_DO_RELEASE       (1u << 6) /* everything held; nothing is held from now on */
#define FT_PRI_DO_RUN           (1u << 7)
#define FT_PRI_DO_CLOSE         (1u << 8)  /* the channel, after what is queued */
#define FT_PRI_DO_TELL_ARMED    (1u << 9)  /* the agent: claim it with the twin */
#define FT_PRI_DO_TELL_HOLD     (1u << 10) /* the agent: alone? */
#define FT_PRI_DO_TELL_HEARD    (1u << 11) /* the agent: not any more */
#define FT_PRI_DO_TELL_SWITCH   (1u << 12) /* the agent: the twin may take over */
#define FT_PRI_DO_TELL_LOST     (1u << 13)
#define FT_PRI_DO_TELL_END      (1u << 14) /* the agent: the session is over, and why */
#define FT_PRI_DO_ACCEPT        (1u << 15) /* answer the agent: done */
#define FT_PRI_DO_REFUSE        (1u << 16) /* answer the agent: not now, and why */
#define FT_PRI_DO_DISCARD       (1u << 17) /* memory; the process ends */
#define FT_PRI_DO_COUNT         18

struct ft_primary {
    enum ft_primary_state state;
    uint64_t epoch; /* of the newest claim that is known to be this instance's */
    bool broken;    /* the channel: there is no way back to ON */
};

/* `epoch`: under which the guest runs now, without a twin. */
void ft_primary_init(struct ft_primary *p, uint64_t epoch);
/* Any event in any state; what has no place does nothing, or is refused. */
void ft_primary_step(struct ft_primary *p, const struct ft_input *in,
                     struct ft_acts *ret);
/* May outputs leave by the rule? Not once another claim was seen, or the twin was told
 * that it may take over. */
bool ft_primary_may_release(const struct ft_primary *p);
const char *ft_primary_state_str(enum ft_primary_state state);
const char *ft_primary_event_str(enum ft_primary_event event);
/* One cell in words, as README.md has it; empty: nothing happens. Length. */
size_t ft_primary_cell(enum ft_primary_state state, enum ft_primary_event event,
                       char *buf, size_t cap);
