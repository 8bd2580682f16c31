/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The secondary of a protected VM as a state machine: one table, state x event, in
 * ft/README.md and in ft_secondary.c (a test compares them). Pure.
 *
 * It stops acknowledging before its agent is told that it could take over, and begins
 * again only by the agent's word that no claim was submitted. It goes live by the
 * agent's claim alone, and only from the end of all that it has acknowledged.
 */
#pragma once

#include "ft/ft_act.h"

enum ft_secondary_state {
    FT_SEC_SYNC = 0, /* memory comes */
    FT_SEC_READY,    /* stands at position 0; acknowledges nothing before START */
    FT_SEC_REPLAY,
    FT_SEC_BARRIER,  /* stands at one: waits for what differs */
    FT_SEC_DIVERGED, /* went another way: waits for the barrier that it asked for */
    FT_SEC_QUIET,   /* the primary is not heard: replays the rest, acknowledges nothing */
    FT_SEC_DRAINED, /* the rest is replayed: the agent decides */
    FT_SEC_QUIET_READY, /* the same, from READY, BARRIER, DIVERGED */
    FT_SEC_QUIET_BARRIER,
    FT_SEC_QUIET_DIVERGED,
    FT_SEC_LIVE, /* over: the guest runs here */
    FT_SEC_GONE, /* over */
    FT_SEC_STATES,
};

enum ft_secondary_event {
    FT_SEC_SYNCED = 0,   /* memory, state and disks of position 0 are here and valid */
    FT_SEC_START,        /* the log's START: the claim names this instance */
    FT_SEC_AT_BARRIER,   /* replayed up to a BARRIER */
    FT_SEC_SET_COMPLETE, /* all of what differs is here, its sums are right */
    FT_SEC_DIFFERS,      /* the chain is another: it cannot follow */
    FT_SEC_CAUGHT_UP,    /* nothing whole is left to replay */
    FT_SEC_AT_TAKEOVER,  /* replayed up to a TAKEOVER */
    FT_SEC_SILENT,       /* nothing heard for suspect_ms */
    FT_SEC_BROKEN,       /* the channel, for good; also a gap, a wrong crc */
    FT_SEC_PEER_DEAD,    /* the agent's: do not wait for suspect_ms */
    FT_SEC_HEARD,        /* the first word after that */
    FT_SEC_GOT_END,      /* the primary needs no twin any more */
    FT_SEC_HOST_ERROR,   /* it cannot replay, or not go on */
    FT_SEC_GO_ON,        /* the agent's: no claim was submitted; as before */
    FT_SEC_CLAIM_WON,    /* the agent's: input->epoch is this instance's */
    FT_SEC_DISCARD,      /* the agent's: the claim was lost, or the twin is not wanted */
    FT_SEC_EVENTS,
};

/* In the order in which they are done. */
#define FT_SEC_DO_HALT          (1u << 0) /* the replay, where it stands */
#define FT_SEC_DO_ACKS_OFF      (1u << 1) /* none is sent from here on, queued ones too */
#define FT_SEC_DO_ACKS_ON       (1u << 2)
#define FT_SEC_DO_APPLY         (1u << 3) /* what differs, as a whole */
#define FT_SEC_DO_DROP_SET      (1u << 4) /* what came of it so far */
#define FT_SEC_DO_SEND_READY    (1u << 5)
#define FT_SEC_DO_SEND_HASHES   (1u << 6) /* of the pages written to since the last one */
#define FT_SEC_DO_SEND_DIVERGED (1u << 7)
#define FT_SEC_DO_REPLAY        (1u << 8)
#define FT_SEC_DO_GO_LIVE       (1u << 9)  /* requests again, frames, clock, run */
#define FT_SEC_DO_ANNOUNCE      (1u << 10) /* the guest's addresses, from here */
#define FT_SEC_DO_CLOSE         (1u << 11)
#define FT_SEC_DO_TELL_READY    (1u << 12) /* the agent: the claim may name it */
#define FT_SEC_DO_TELL_DRAINED  (1u << 13) /* the agent: it could take over */
#define FT_SEC_DO_TELL_HEARD    (1u << 14) /* the agent: the primary is there again */
#define FT_SEC_DO_TELL_END      (1u << 15)
#define FT_SEC_DO_ACCEPT        (1u << 16)
#define FT_SEC_DO_REFUSE        (1u << 17)
#define FT_SEC_DO_DISCARD       (1u << 18) /* memory; the process ends */
#define FT_SEC_DO_COUNT         19

struct ft_secondary {
    enum ft_secondary_state state;
    uint64_t epoch; /* of the claim that named it, 0: none is known */
    bool broken;
};

void ft_secondary_init(struct ft_secondary *s);
/* Any event in any state; what has no place does nothing, or is refused. */
void ft_secondary_step(struct ft_secondary *s, const struct ft_input *in,
                       struct ft_acts *ret);
/* May anything be acknowledged? */
bool ft_secondary_may_ack(const struct ft_secondary *s);
/* Was START heard? Nothing of a log comes before it. */
bool ft_secondary_has_begun(const struct ft_secondary *s);
const char *ft_secondary_state_str(enum ft_secondary_state state);
const char *ft_secondary_event_str(enum ft_secondary_event event);
size_t ft_secondary_cell(enum ft_secondary_state state, enum ft_secondary_event event,
                         char *buf, size_t cap);
