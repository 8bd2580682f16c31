/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The source of a transfer as a state machine: one table, state x event, in
 * migrate/README.md and in mig_src.c (a test compares them). The shell feeds events and
 * carries out what comes back. Pure.
 *
 * Until READY the source owns the VM under its claim, whatever breaks: it ends the
 * transfer and thaws. With READY the agent is told that the guest is frozen, and may
 * release the claim to the destination (design 5, R4). From then on nothing but the
 * agent's word moves it: THAW with a later claim (R1), or END.
 *
 * Post-copy: some of its memory goes only when the guest runs at the destination. From
 * its word that it does (SERVING), this one never runs again, whatever is lost.
 */
#pragma once

#include "migrate/mig_act.h"

enum mig_src_state {
    MIG_SRC_CONNECTING = 0,
    MIG_SRC_HELLO, /* Hello sent */
    MIG_SRC_PRECOPY,
    MIG_SRC_FREEZING,   /* vCPUs stop, disks drain and flush */
    MIG_SRC_UNFREEZING, /* reset meanwhile: thawed as soon as it is frozen */
    MIG_SRC_LAST,       /* frozen; the last pages go */
    MIG_SRC_STATE_SENT, /* and the state, Finish: the destination checks */
    MIG_SRC_READY,      /* the agent's turn; the guest is frozen */
    MIG_SRC_RELEASED,   /* as READY; the agent said that it submits the release */
    MIG_SRC_SERVING,    /* post-copy: it runs there, and its last pages are here */
    MIG_SRC_DONE,       /* the guest runs elsewhere: memory is discarded */
    MIG_SRC_TAKEN_BACK, /* the guest runs here, under a later claim */
    MIG_SRC_FAILED,     /* the guest runs here, under the claim it had */
    MIG_SRC_ENDED,      /* the agent ended the instance, the guest ended itself, or who
                           runs it was lost before its last pages were there */
    MIG_SRC_STATES,
};

enum mig_src_event {
    MIG_SRC_CONNECTED = 0, /* every stream is open */
    MIG_SRC_LOST,          /* any of them broke */
    MIG_SRC_ACK_OK,
    MIG_SRC_ACK_BLOCKED,
    MIG_SRC_ROUND_AGAIN, /* a round is over; mig_policy says: another */
    MIG_SRC_ROUND_SWITCH,
    MIG_SRC_ROUND_GIVE_UP,
    MIG_SRC_ROUND_HOLES, /* instead of giving up: post-copy */
    MIG_SRC_FROZEN, /* as DO_FREEZE asked: vCPUs stopped, no I/O in flight, flushed, log
                       merged */
    MIG_SRC_FREEZE_REFUSED,
    MIG_SRC_LAST_SENT, /* the last round is out, with its ROUND_ENDs */
    MIG_SRC_GOT_READY,
    MIG_SRC_GOT_RUNS, /* post-copy: it runs there */
    MIG_SRC_GOT_ALL,  /* and has all of its memory */
    MIG_SRC_GOT_ABORT,
    MIG_SRC_GUEST_RESET,
    MIG_SRC_GUEST_OFF,
    MIG_SRC_CANCEL,    /* the agent's: give the transfer up */
    MIG_SRC_RELEASING, /* the agent's: about to submit the release */
    MIG_SRC_THAW,      /* the agent's: the claim of input->epoch is this instance's */
    MIG_SRC_END,       /* the agent's: the guest runs elsewhere, or shall not run */
    MIG_SRC_HANDSHAKE_OVER,
    MIG_SRC_SILENT,
    MIG_SRC_HANDOVER_OVER,
    MIG_SRC_TIME_OVER,
    MIG_SRC_BAD_PEER,   /* a message that may not come now, or is malformed */
    MIG_SRC_HOST_ERROR, /* of this side */
    MIG_SRC_EVENTS,
};

/* In the order in which they are done. */
#define MIG_SRC_DO_SEND_HELLO (1u << 0)
#define MIG_SRC_DO_TRACK      (1u << 1) /* dirty log on, every page marked, first round */
#define MIG_SRC_DO_MARK_ALL   (1u << 2) /* send everything again */
#define MIG_SRC_DO_FREEZE     (1u << 3)
#define MIG_SRC_DO_SEND_LAST  (1u << 4)
#define MIG_SRC_DO_SEND_STATE (1u << 5) /* STATE, Verify if wanted, Finish */
#define MIG_SRC_DO_TELL_READY (1u << 6) /* the agent: frozen, its turn */
#define MIG_SRC_DO_TELL_ABORT                                                            \
    (1u << 7) /* the agent: the destination gave up, or is lost and owed pages; still    \
                 its turn */
#define MIG_SRC_DO_TELL_SERVING                                                          \
    (1u << 8) /* the agent: it runs there, and is not to be ended yet */
#define MIG_SRC_DO_THAW       (1u << 9)  /* the guest goes on; nothing if it runs */
#define MIG_SRC_DO_RUN        (1u << 10) /* the guest goes on under acts->epoch */
#define MIG_SRC_DO_ANNOUNCE   (1u << 11) /* the guest's addresses, from here */
#define MIG_SRC_DO_NEXT_ROUND (1u << 12)
#define MIG_SRC_DO_SEND_ABORT (1u << 13)
#define MIG_SRC_DO_CLOSE      (1u << 14) /* connections, after what is queued */
#define MIG_SRC_DO_UNTRACK    (1u << 15) /* dirty log and throttle off */
#define MIG_SRC_DO_ACCEPT     (1u << 16) /* answer the agent: done */
#define MIG_SRC_DO_REFUSE     (1u << 17) /* answer the agent: not now, and why */
#define MIG_SRC_DO_TELL_END   (1u << 18) /* the agent: code and text */
#define MIG_SRC_DO_DISCARD    (1u << 19) /* memory; the process ends */
#define MIG_SRC_DO_COUNT      20

struct mig_src {
    struct mig_times times;
    enum mig_src_state state;
    bool holes;                            /* post-copy: pages are owed after Ready */
    uint64_t epoch;                        /* of the claim under which the guest ran */
    uint64_t start_ns, state_ns, heard_ns; /* of the last heartbeat of the other side */
    enum mig_code code;                    /* how it ended */
    char text[MIG_TEXT_MAX + 1];
};

void mig_src_init(struct mig_src *src, const struct mig_times *times, uint64_t epoch,
                  uint64_t now_ns);
/* Any event in any state; what has no place does nothing, or is refused. */
void mig_src_step(struct mig_src *src, const struct mig_input *in, struct mig_acts *ret);
/* Any message of the other side: it lives. */
void mig_src_heard(struct mig_src *src, uint64_t now_ns);
/* The deadline that is over, as an event for mig_src_step; MIG_SRC_EVENTS: none.
 * *ret_next_ns: when to ask again, UINT64_MAX: no deadline. */
enum mig_src_event mig_src_due(const struct mig_src *src, uint64_t now_ns,
                               uint64_t *ret_next_ns);
bool mig_src_over(const struct mig_src *src); /* DONE and what follows it */

const char *mig_src_state_str(enum mig_src_state state);
const char *mig_src_event_str(enum mig_src_event event);
/* One cell in words, as README.md has it: "-> FAILED: abort, close, thaw"; empty: nothing
 * happens. Length. */
size_t mig_src_cell(enum mig_src_state state, enum mig_src_event event, char *buf,
                    size_t cap);
