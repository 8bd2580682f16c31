/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/mig_dst.h"

#include "base/bug.h"
#include "base/text.h"

#define ABORT MIG_DST_DO_SEND_ABORT
#define QUIT  (MIG_DST_DO_CLOSE | MIG_DST_DO_TELL_END | MIG_DST_DO_DISCARD)

#define TO(state, actions)                                                               \
    {                                                                                    \
        .next = MIG_DST_##state + 1, .bits = (actions)                                   \
    }
#define STAY(actions)                                                                    \
    {                                                                                    \
        .bits = (actions)                                                                \
    }
#define ACCEPT STAY(MIG_DST_DO_ACCEPT)
#define REFUSE STAY(MIG_DST_DO_REFUSE)

/* An event that ends it, in one state; `also`: what is done besides. */
#define IN(state, also) [MIG_DST_##state] = TO(FAILED, QUIT | (also))
/* While somebody is connected and nobody was promised anything. */
#define ENDS(also) IN(HELLO, also), IN(RECEIVING, also), IN(CHECKING, also)
/* While pages are missing. */
#define OWED(also) IN(HOLES, also), IN(FILLING, also)

static const struct mig_cell table[MIG_DST_EVENTS][MIG_DST_STATES] = {
    [MIG_DST_CONNECTED] = {[MIG_DST_LISTENING] = TO(HELLO, 0)},
    [MIG_DST_LOST] = {IN(LISTENING, 0), ENDS(0), OWED(0)},
    [MIG_DST_HELLO_FITS] = {[MIG_DST_HELLO] =
                                TO(RECEIVING, MIG_DST_DO_SEND_ACK | MIG_DST_DO_RECEIVE),
                            IN(RECEIVING, ABORT),
                            IN(CHECKING, ABORT)},
    [MIG_DST_HELLO_BLOCKED] = {IN(HELLO, MIG_DST_DO_SEND_ACK), IN(RECEIVING, ABORT),
                               IN(CHECKING, ABORT)},
    [MIG_DST_GOT_FINISH] =
        {IN(HELLO, ABORT), [MIG_DST_RECEIVING] = TO(CHECKING, MIG_DST_DO_CHECK),
         IN(CHECKING, ABORT)},
    [MIG_DST_CHECK_OK] = {[MIG_DST_CHECKING] =
                              TO(READY, MIG_DST_DO_SEND_READY | MIG_DST_DO_TELL_READY)},
    [MIG_DST_CHECK_HOLES] = {[MIG_DST_CHECKING] = TO(HOLES, MIG_DST_DO_SEND_READY |
                                                                MIG_DST_DO_TELL_READY)},
    [MIG_DST_ALL_HERE] = {[MIG_DST_FILLING] =
                              TO(RUNNING, MIG_DST_DO_SEND_ALL | MIG_DST_DO_TELL_ALL |
                                              MIG_DST_DO_CLOSE)},
    [MIG_DST_CHECK_BAD] = {IN(CHECKING, ABORT)},
    /* READY: the source aborts only while it may run the guest itself. */
    [MIG_DST_GOT_ABORT] = {ENDS(0), IN(READY, 0), OWED(0)},
    /* With an epoch; else refused (mig_dst_step). */
    [MIG_DST_START] = {[MIG_DST_LISTENING] = REFUSE,
                       [MIG_DST_HELLO] = REFUSE,
                       [MIG_DST_RECEIVING] = REFUSE,
                       [MIG_DST_CHECKING] = REFUSE,
                       [MIG_DST_READY] =
                           TO(RUNNING, MIG_DST_DO_RUN | MIG_DST_DO_ANNOUNCE |
                                           MIG_DST_DO_CLOSE | MIG_DST_DO_ACCEPT),
                       [MIG_DST_HOLES] =
                           TO(FILLING, MIG_DST_DO_RUN | MIG_DST_DO_ANNOUNCE |
                                           MIG_DST_DO_SEND_RUNS | MIG_DST_DO_ACCEPT),
                       [MIG_DST_FILLING] = REFUSE,
                       [MIG_DST_RUNNING] = REFUSE,
                       [MIG_DST_FAILED] = REFUSE},
    [MIG_DST_CANCEL] = {IN(LISTENING, MIG_DST_DO_ACCEPT), ENDS(ABORT | MIG_DST_DO_ACCEPT),
                        IN(READY, ABORT | MIG_DST_DO_ACCEPT),
                        IN(HOLES, ABORT | MIG_DST_DO_ACCEPT), [MIG_DST_FILLING] = REFUSE,
                        [MIG_DST_RUNNING] = REFUSE, [MIG_DST_FAILED] = ACCEPT},
    [MIG_DST_GUEST_OFF] = {IN(LISTENING, 0), ENDS(ABORT), IN(READY, ABORT), OWED(ABORT)},
    [MIG_DST_HANDSHAKE_OVER] = {IN(LISTENING, 0), IN(HELLO, ABORT)},
    [MIG_DST_SILENT] = {IN(RECEIVING, ABORT), IN(FILLING, ABORT)},
    [MIG_DST_HANDOVER_OVER] = {IN(CHECKING, ABORT)},
    [MIG_DST_TIME_OVER] = {IN(LISTENING, 0), ENDS(ABORT)},
    [MIG_DST_BAD_PEER] = {IN(LISTENING, ABORT), ENDS(ABORT), OWED(ABORT)},
    [MIG_DST_HOST_ERROR] = {IN(LISTENING, 0), ENDS(ABORT), OWED(ABORT)},
};

static const enum mig_code event_code[MIG_DST_EVENTS] = {
    [MIG_DST_LOST] = MIG_END_LOST,
    [MIG_DST_HELLO_FITS] = MIG_END_PROTOCOL, /* where it ends anything */
    [MIG_DST_HELLO_BLOCKED] = MIG_END_BLOCKED,
    [MIG_DST_GOT_FINISH] = MIG_END_PROTOCOL,
    [MIG_DST_CHECK_BAD] = MIG_END_STATE,
    [MIG_DST_GOT_ABORT] = MIG_END_PEER,
    [MIG_DST_CANCEL] = MIG_END_AGENT,
    [MIG_DST_GUEST_OFF] = MIG_END_GUEST_OFF,
    [MIG_DST_HANDSHAKE_OVER] = MIG_END_HANDSHAKE,
    [MIG_DST_SILENT] = MIG_END_SILENCE,
    [MIG_DST_HANDOVER_OVER] = MIG_END_HANDOVER,
    [MIG_DST_TIME_OVER] = MIG_END_TIMEOUT,
    [MIG_DST_BAD_PEER] = MIG_END_PROTOCOL,
    [MIG_DST_HOST_ERROR] = MIG_END_HOST,
};

static const char *const state_name[MIG_DST_STATES] = {
    "listening", "hello",   "receiving", "checking", "ready",
    "holes",     "filling", "running",   "failed",
};

static const char *const event_name[MIG_DST_EVENTS] = {
    "connected",     "lost",        "hello-fits", "hello-blocked",  "got-finish",
    "check-ok",      "check-holes", "all-here",   "check-bad",      "got-abort",
    "start",         "cancel",      "guest-off",  "handshake-over", "silent",
    "handover-over", "time-over",   "bad-peer",   "host-error",
};

static const char *const verb[MIG_DST_DO_COUNT] = {
    "send HelloAck", "receive",   "check",    "tell ready",    "send Ready", "run",
    "announce",      "send Runs", "send All", "tell all here", "send Abort", "close",
    "accept",        "refuse",    "tell end", "discard",
};

void mig_dst_init(struct mig_dst *dst, const struct mig_times *times, uint64_t now_ns)
{
    *dst = (struct mig_dst){
        .times = *times, .start_ns = now_ns, .state_ns = now_ns, .heard_ns = now_ns};
}

static void refuse(const struct mig_dst *dst, struct mig_acts *ret)
{
    ret->bits = MIG_DST_DO_REFUSE;
    ret->code = dst->code;
    text_copy(ret->text, sizeof ret->text,
              dst->state == MIG_DST_RUNNING || dst->state == MIG_DST_FILLING
                  ? "the guest runs here already"
              : dst->state == MIG_DST_FAILED ? "the migration failed: this instance has "
                                               "no guest and never will"
              : dst->state == MIG_DST_READY || dst->state == MIG_DST_HOLES
                  ? "START must name a claim"
                  : "the guest is not here yet");
}

void mig_dst_step(struct mig_dst *dst, const struct mig_input *in, struct mig_acts *ret)
{
    const struct mig_cell *cell;

    BUG_ON(in->event >= MIG_DST_EVENTS);
    cell = &table[in->event][dst->state];
    *ret = (struct mig_acts){.bits = cell->bits};
    if ((cell->bits & MIG_DST_DO_REFUSE) != 0 ||
        ((cell->bits & MIG_DST_DO_RUN) != 0 && in->epoch == 0)) {
        refuse(dst, ret);
        return;
    }
    if ((cell->bits & MIG_DST_DO_TELL_END) != 0) {
        mig_acts_end(ret, in, event_code[in->event]);
        dst->code = ret->code;
        text_copy(dst->text, sizeof dst->text, ret->text);
    }
    if ((cell->bits & MIG_DST_DO_RUN) != 0) {
        dst->epoch = ret->epoch = in->epoch;
    }
    if (cell->next != 0) {
        dst->state = (enum mig_dst_state)(cell->next - 1);
        dst->state_ns = in->now_ns;
    }
}

void mig_dst_heard(struct mig_dst *dst, uint64_t now_ns)
{
    dst->heard_ns = now_ns;
}

enum mig_dst_event mig_dst_due(const struct mig_dst *dst, uint64_t now_ns,
                               uint64_t *ret_next_ns)
{
    struct mig_deadline d = {UINT64_MAX, MIG_DST_EVENTS};
    const struct mig_times *t = &dst->times;

    if (dst->state < MIG_DST_READY) {
        mig_deadline_add(&d, dst->start_ns, t->timeout_ns, MIG_DST_TIME_OVER);
    }
    switch (dst->state) {
    case MIG_DST_LISTENING:
    case MIG_DST_HELLO:
        mig_deadline_add(&d, dst->state_ns, t->handshake_ns, MIG_DST_HANDSHAKE_OVER);
        break;
    case MIG_DST_RECEIVING:
        mig_deadline_add(&d, dst->heard_ns, t->silence_ns, MIG_DST_SILENT);
        break;
    case MIG_DST_CHECKING:
        mig_deadline_add(&d, dst->state_ns, t->handover_ns, MIG_DST_HANDOVER_OVER);
        break;
    case MIG_DST_FILLING:
        mig_deadline_add(&d,
                         dst->heard_ns > dst->state_ns ? dst->heard_ns : dst->state_ns,
                         t->holes_ns, MIG_DST_SILENT);
        break;
    default:
        break;
    }
    *ret_next_ns = d.at_ns;
    return now_ns >= d.at_ns ? (enum mig_dst_event)d.event : MIG_DST_EVENTS;
}

bool mig_dst_over(const struct mig_dst *dst)
{
    return dst->state >= MIG_DST_RUNNING;
}

const char *mig_dst_state_str(enum mig_dst_state state)
{
    return (unsigned)state < MIG_DST_STATES ? state_name[state] : "unknown";
}

const char *mig_dst_event_str(enum mig_dst_event event)
{
    return (unsigned)event < MIG_DST_EVENTS ? event_name[event] : "unknown";
}

size_t mig_dst_cell(enum mig_dst_state state, enum mig_dst_event event, char *buf,
                    size_t cap)
{
    return mig_cell_print(&table[event][state], state_name, verb, buf, cap);
}
