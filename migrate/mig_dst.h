/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The destination of a transfer as a state machine: one table, state x event, in
 * migrate/README.md and in mig_dst.c (a test compares them). Pure.
 *
 * It enters the guest only by its agent's START, whose claim names this instance, and
 * only from READY. After Ready a lost connection changes nothing.
 *
 * Post-copy: with pages still at the source (HOLES, FILLING), to lose the source is to
 * lose the guest's memory: this instance ends, and HA starts the VM from its disks.
 */
#pragma once

#include "migrate/mig_act.h"

enum mig_dst_state {
    MIG_DST_LISTENING = 0,
    MIG_DST_HELLO, /* every stream is open; Hello must come */
    MIG_DST_RECEIVING,
    MIG_DST_CHECKING, /* Finish came: counts, hashes, the state decoded and judged */
    MIG_DST_READY,    /* the agent's turn */
    MIG_DST_HOLES,    /* post-copy: as READY, and pages are to come from the source */
    MIG_DST_FILLING,  /* it runs, and they come */
    MIG_DST_RUNNING,  /* all of it is here */
    MIG_DST_FAILED,
    MIG_DST_STATES,
};

enum mig_dst_event {
    MIG_DST_CONNECTED = 0,
    MIG_DST_LOST,
    MIG_DST_HELLO_FITS, /* mig_fit of the Hello that came */
    MIG_DST_HELLO_BLOCKED,
    MIG_DST_GOT_FINISH, /* and every stream's last ROUND_END, and STATE */
    MIG_DST_CHECK_OK,
    MIG_DST_CHECK_HOLES, /* as OK, for post-copy */
    MIG_DST_ALL_HERE,    /* no page is missing any more */
    MIG_DST_CHECK_BAD,   /* input->code: MIG_END_STATE or MIG_END_VERIFY */
    MIG_DST_GOT_ABORT,
    MIG_DST_START,     /* the agent's: the claim of input->epoch names this instance */
    MIG_DST_CANCEL,    /* the agent's: this instance is not wanted */
    MIG_DST_GUEST_OFF, /* or its VMM ends for another reason */
    MIG_DST_HANDSHAKE_OVER,
    MIG_DST_SILENT,
    MIG_DST_HANDOVER_OVER, /* checking took too long */
    MIG_DST_TIME_OVER,
    MIG_DST_BAD_PEER,
    MIG_DST_HOST_ERROR,
    MIG_DST_EVENTS,
};

/* In the order in which they are done. */
#define MIG_DST_DO_SEND_ACK   (1u << 0) /* HelloAck, with its blockers if any */
#define MIG_DST_DO_RECEIVE    (1u << 1) /* populate RAM, read the data streams */
#define MIG_DST_DO_CHECK      (1u << 2)
#define MIG_DST_DO_TELL_READY (1u << 3) /* the agent */
#define MIG_DST_DO_SEND_READY (1u << 4)
#define MIG_DST_DO_RUN        (1u << 5) /* enter the guest under acts->epoch */
#define MIG_DST_DO_ANNOUNCE   (1u << 6)
#define MIG_DST_DO_SEND_RUNS  (1u << 7) /* post-copy: the source is to serve */
#define MIG_DST_DO_SEND_ALL   (1u << 8) /* and is needed no more */
#define MIG_DST_DO_TELL_ALL   (1u << 9) /* the agent */
#define MIG_DST_DO_SEND_ABORT (1u << 10)
#define MIG_DST_DO_CLOSE      (1u << 11)
#define MIG_DST_DO_ACCEPT     (1u << 12)
#define MIG_DST_DO_REFUSE     (1u << 13)
#define MIG_DST_DO_TELL_END   (1u << 14)
#define MIG_DST_DO_DISCARD    (1u << 15) /* memory; the process ends */
#define MIG_DST_DO_COUNT      16

struct mig_dst {
    struct mig_times times;
    enum mig_dst_state state;
    uint64_t epoch; /* RUNNING: under this claim */
    uint64_t start_ns, state_ns, heard_ns;
    enum mig_code code;
    char text[MIG_TEXT_MAX + 1];
};

void mig_dst_init(struct mig_dst *dst, const struct mig_times *times, uint64_t now_ns);
void mig_dst_step(struct mig_dst *dst, const struct mig_input *in, struct mig_acts *ret);
void mig_dst_heard(struct mig_dst *dst, uint64_t now_ns);
enum mig_dst_event mig_dst_due(const struct mig_dst *dst, uint64_t now_ns,
                               uint64_t *ret_next_ns);
bool mig_dst_over(const struct mig_dst *dst); /* RUNNING or FAILED */

const char *mig_dst_state_str(enum mig_dst_state state);
const char *mig_dst_event_str(enum mig_dst_event event);
size_t mig_dst_cell(enum mig_dst_state state, enum mig_dst_event event, char *buf,
                    size_t cap);
