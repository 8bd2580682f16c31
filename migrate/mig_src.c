/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/mig_src.h"

#include "base/bug.h"
#include "base/text.h"

#define ABORT MIG_SRC_DO_SEND_ABORT
/* Endings, by what the guest does when they come. */
#define QUIT     (MIG_SRC_DO_CLOSE | MIG_SRC_DO_TELL_END)
#define UNCOPY   (QUIT | MIG_SRC_DO_UNTRACK)
#define UNFREEZE (UNCOPY | MIG_SRC_DO_THAW | MIG_SRC_DO_ANNOUNCE)
#define BACK     (MIG_SRC_DO_RUN | MIG_SRC_DO_ANNOUNCE)

#define TO(state, actions)                                                               \
    {                                                                                    \
        .next = MIG_SRC_##state + 1, .bits = (actions)                                   \
    }
#define STAY(actions)                                                                    \
    {                                                                                    \
        .bits = (actions)                                                                \
    }
#define ACCEPT STAY(MIG_SRC_DO_ACCEPT)
#define REFUSE STAY(MIG_SRC_DO_REFUSE)

/* An event that ends the transfer before READY; `also`: what is done besides. While
 * connecting there is nobody to send an Abort to. */
#define CONNECTING_ENDS(also) [MIG_SRC_CONNECTING] = TO(FAILED, QUIT | ((also) & ~ABORT))
#define HELLO_ENDS(also)      [MIG_SRC_HELLO] = TO(FAILED, QUIT | (also))
#define COPY_ENDS(also)                                                                  \
    [MIG_SRC_PRECOPY] = TO(FAILED, UNCOPY | (also)),                                     \
    [MIG_SRC_FREEZING] = TO(FAILED, UNFREEZE | (also)),                                  \
    [MIG_SRC_UNFREEZING] = TO(FAILED, UNFREEZE | (also)),                                \
    [MIG_SRC_LAST] = TO(FAILED, UNFREEZE | (also))
#define SENT_ENDS(also) [MIG_SRC_STATE_SENT] = TO(FAILED, UNFREEZE | (also))
#define ENDS(also)                                                                       \
    CONNECTING_ENDS(also), HELLO_ENDS(also), COPY_ENDS(also), SENT_ENDS(also)

/* The agent has the word. */
#define TURN(...) [MIG_SRC_READY] = __VA_ARGS__, [MIG_SRC_RELEASED] = __VA_ARGS__
/* Post-copy: the guest runs there, or did. What is here is of no use any more. */
#define GONE            MIG_SRC_DO_DISCARD
#define OWED_ENDS(also) [MIG_SRC_SERVING] = TO(ENDED, UNCOPY | GONE | (also))

/* The guest is gone: nothing to thaw. */
#define GUEST_ENDS(also)                                                                 \
    [MIG_SRC_CONNECTING] = TO(ENDED, QUIT | (also)),                                     \
    [MIG_SRC_HELLO] = TO(ENDED, QUIT | ABORT | (also)),                                  \
    [MIG_SRC_PRECOPY] = TO(ENDED, UNCOPY | ABORT | (also)),                              \
    [MIG_SRC_FREEZING] = TO(ENDED, UNCOPY | ABORT | (also)),                             \
    [MIG_SRC_UNFREEZING] = TO(ENDED, UNCOPY | ABORT | (also)),                           \
    [MIG_SRC_LAST] = TO(ENDED, UNCOPY | ABORT | (also)),                                 \
    [MIG_SRC_STATE_SENT] = TO(ENDED, UNCOPY | ABORT | (also))

#define REFUSE_BEFORE_READY                                                              \
    [MIG_SRC_CONNECTING] = REFUSE, [MIG_SRC_HELLO] = REFUSE, [MIG_SRC_PRECOPY] = REFUSE, \
    [MIG_SRC_FREEZING] = REFUSE, [MIG_SRC_UNFREEZING] = REFUSE, [MIG_SRC_LAST] = REFUSE, \
    [MIG_SRC_STATE_SENT] = REFUSE
#define REFUSE_WHEN_OVER                                                                 \
    [MIG_SRC_DONE] = REFUSE, [MIG_SRC_TAKEN_BACK] = REFUSE, [MIG_SRC_FAILED] = REFUSE,   \
    [MIG_SRC_ENDED] = REFUSE

/* Event by event, so that what READY and RELEASED do not have is seen. */
static const struct mig_cell table[MIG_SRC_EVENTS][MIG_SRC_STATES] = {
    [MIG_SRC_CONNECTED] = {[MIG_SRC_CONNECTING] = TO(HELLO, MIG_SRC_DO_SEND_HELLO)},
    /* READY, RELEASED: told only when pages are owed (mig_src_step). */
    [MIG_SRC_LOST] = {ENDS(0), TURN(STAY(MIG_SRC_DO_TELL_ABORT)), OWED_ENDS(0)},
    [MIG_SRC_ACK_OK] =
        {CONNECTING_ENDS(0), [MIG_SRC_HELLO] = TO(PRECOPY, MIG_SRC_DO_TRACK),
         COPY_ENDS(ABORT), SENT_ENDS(ABORT)},
    [MIG_SRC_ACK_BLOCKED] = {CONNECTING_ENDS(0), HELLO_ENDS(0), COPY_ENDS(ABORT),
                             SENT_ENDS(ABORT)},
    [MIG_SRC_ROUND_AGAIN] = {[MIG_SRC_PRECOPY] = STAY(MIG_SRC_DO_NEXT_ROUND)},
    [MIG_SRC_ROUND_SWITCH] = {[MIG_SRC_PRECOPY] = TO(FREEZING, MIG_SRC_DO_FREEZE)},
    [MIG_SRC_ROUND_GIVE_UP] = {[MIG_SRC_PRECOPY] = TO(FAILED, UNCOPY | ABORT)},
    [MIG_SRC_ROUND_HOLES] = {[MIG_SRC_PRECOPY] = TO(FREEZING, MIG_SRC_DO_FREEZE)},
    /* FAILED: a freeze that was under way when the transfer ended. */
    [MIG_SRC_FROZEN] = {[MIG_SRC_FREEZING] = TO(LAST, MIG_SRC_DO_SEND_LAST),
                        [MIG_SRC_UNFREEZING] =
                            TO(PRECOPY, MIG_SRC_DO_THAW | MIG_SRC_DO_ANNOUNCE |
                                            MIG_SRC_DO_NEXT_ROUND),
                        [MIG_SRC_FAILED] = STAY(MIG_SRC_DO_THAW | MIG_SRC_DO_ANNOUNCE)},
    [MIG_SRC_FREEZE_REFUSED] = {[MIG_SRC_FREEZING] = TO(FAILED, UNFREEZE | ABORT),
                                [MIG_SRC_UNFREEZING] = TO(FAILED, UNFREEZE | ABORT)},
    [MIG_SRC_LAST_SENT] = {[MIG_SRC_LAST] = TO(STATE_SENT, MIG_SRC_DO_SEND_STATE)},
    [MIG_SRC_GOT_READY] =
        {CONNECTING_ENDS(0), HELLO_ENDS(ABORT),
         COPY_ENDS(ABORT), [MIG_SRC_STATE_SENT] = TO(READY, MIG_SRC_DO_TELL_READY)},
    /* Nothing if no pages are owed (mig_src_step). */
    [MIG_SRC_GOT_RUNS] = {ENDS(ABORT), TURN(TO(SERVING, MIG_SRC_DO_TELL_SERVING))},
    [MIG_SRC_GOT_ALL] = {ENDS(ABORT), [MIG_SRC_SERVING] = TO(DONE, UNCOPY | GONE)},
    [MIG_SRC_GOT_ABORT] = {ENDS(0), TURN(STAY(MIG_SRC_DO_TELL_ABORT)), OWED_ENDS(0)},
    [MIG_SRC_GUEST_RESET] = {[MIG_SRC_PRECOPY] = STAY(MIG_SRC_DO_MARK_ALL),
                             [MIG_SRC_FREEZING] = TO(UNFREEZING, MIG_SRC_DO_MARK_ALL),
                             [MIG_SRC_UNFREEZING] = STAY(MIG_SRC_DO_MARK_ALL)},
    [MIG_SRC_GUEST_OFF] = {GUEST_ENDS(0)},
    [MIG_SRC_CANCEL] = {ENDS(ABORT | MIG_SRC_DO_ACCEPT), [MIG_SRC_READY] = REFUSE,
                        [MIG_SRC_RELEASED] = REFUSE, [MIG_SRC_SERVING] = REFUSE,
                        [MIG_SRC_DONE] = REFUSE, [MIG_SRC_TAKEN_BACK] = REFUSE,
                        [MIG_SRC_FAILED] = ACCEPT, [MIG_SRC_ENDED] = REFUSE},
    [MIG_SRC_RELEASING] =
        {REFUSE_BEFORE_READY, [MIG_SRC_READY] = TO(RELEASED, MIG_SRC_DO_ACCEPT),
         [MIG_SRC_RELEASED] = ACCEPT, [MIG_SRC_SERVING] = ACCEPT, REFUSE_WHEN_OVER},
    /* With a later epoch than the guest had; else refused (mig_src_step). */
    [MIG_SRC_THAW] = {REFUSE_BEFORE_READY,
                      [MIG_SRC_READY] =
                          TO(TAKEN_BACK, UNCOPY | ABORT | BACK | MIG_SRC_DO_ACCEPT),
                      [MIG_SRC_RELEASED] =
                          TO(TAKEN_BACK, UNCOPY | ABORT | BACK | MIG_SRC_DO_ACCEPT),
                      [MIG_SRC_SERVING] = REFUSE, REFUSE_WHEN_OVER},
    [MIG_SRC_END] =
        {GUEST_ENDS(MIG_SRC_DO_ACCEPT | MIG_SRC_DO_DISCARD),
         [MIG_SRC_READY] = TO(DONE, UNCOPY | MIG_SRC_DO_ACCEPT | MIG_SRC_DO_DISCARD),
         [MIG_SRC_RELEASED] = TO(DONE, UNCOPY | MIG_SRC_DO_ACCEPT | MIG_SRC_DO_DISCARD),
         [MIG_SRC_SERVING] = TO(DONE, UNCOPY | MIG_SRC_DO_ACCEPT | MIG_SRC_DO_DISCARD),
         [MIG_SRC_DONE] = ACCEPT,
         [MIG_SRC_TAKEN_BACK] = TO(ENDED, MIG_SRC_DO_ACCEPT | MIG_SRC_DO_DISCARD),
         [MIG_SRC_FAILED] = TO(ENDED, MIG_SRC_DO_ACCEPT | MIG_SRC_DO_DISCARD),
         [MIG_SRC_ENDED] = ACCEPT},
    [MIG_SRC_HANDSHAKE_OVER] = {CONNECTING_ENDS(0), HELLO_ENDS(ABORT)},
    [MIG_SRC_SILENT] = {ENDS(ABORT), OWED_ENDS(ABORT)},
    [MIG_SRC_HANDOVER_OVER] = {ENDS(ABORT)},
    [MIG_SRC_TIME_OVER] = {ENDS(ABORT)},
    [MIG_SRC_BAD_PEER] = {ENDS(ABORT), OWED_ENDS(ABORT)},
    [MIG_SRC_HOST_ERROR] = {ENDS(ABORT), OWED_ENDS(ABORT)},
};

/* What an end by this event is called, if the input does not say. */
static const enum mig_code event_code[MIG_SRC_EVENTS] = {
    [MIG_SRC_LOST] = MIG_END_LOST,
    [MIG_SRC_ACK_OK] = MIG_END_PROTOCOL, /* where it ends anything */
    [MIG_SRC_ACK_BLOCKED] = MIG_END_BLOCKED,
    [MIG_SRC_ROUND_GIVE_UP] = MIG_END_CONVERGE,
    [MIG_SRC_FREEZE_REFUSED] = MIG_END_FREEZE,
    [MIG_SRC_GOT_READY] = MIG_END_PROTOCOL,
    [MIG_SRC_GOT_RUNS] = MIG_END_PROTOCOL,
    [MIG_SRC_GOT_ALL] = MIG_END_PROTOCOL,
    [MIG_SRC_GOT_ABORT] = MIG_END_PEER,
    [MIG_SRC_GUEST_OFF] = MIG_END_GUEST_OFF,
    [MIG_SRC_CANCEL] = MIG_END_CANCELLED,
    [MIG_SRC_END] = MIG_END_AGENT,
    [MIG_SRC_THAW] = MIG_END_CANCELLED,
    [MIG_SRC_HANDSHAKE_OVER] = MIG_END_HANDSHAKE,
    [MIG_SRC_SILENT] = MIG_END_SILENCE,
    [MIG_SRC_HANDOVER_OVER] = MIG_END_HANDOVER,
    [MIG_SRC_TIME_OVER] = MIG_END_TIMEOUT,
    [MIG_SRC_BAD_PEER] = MIG_END_PROTOCOL,
    [MIG_SRC_HOST_ERROR] = MIG_END_HOST,
};

static const char *const state_name[MIG_SRC_STATES] = {
    "connecting", "hello",    "precopy", "freezing", "unfreezing", "last",   "state-sent",
    "ready",      "released", "serving", "done",     "taken-back", "failed", "ended",
};

static const char *const event_name[MIG_SRC_EVENTS] = {
    "connected",    "lost",           "ack-ok",      "ack-blocked",   "round-again",
    "round-switch", "round-give-up",  "round-holes", "frozen",        "freeze-refused",
    "last-sent",    "got-ready",      "got-runs",    "got-all",       "got-abort",
    "guest-reset",  "guest-off",      "cancel",      "releasing",     "thaw",
    "end",          "handshake-over", "silent",      "handover-over", "time-over",
    "bad-peer",     "host-error",
};

static const char *const verb[MIG_SRC_DO_COUNT] = {
    "send Hello", "track",      "mark all",   "freeze",       "send last round",
    "send state", "tell ready", "tell abort", "tell serving", "thaw",
    "run",        "announce",   "next round", "send Abort",   "close",
    "untrack",    "accept",     "refuse",     "tell end",     "discard",
};

void mig_src_init(struct mig_src *src, const struct mig_times *times, uint64_t epoch,
                  uint64_t now_ns)
{
    *src = (struct mig_src){.times = *times,
                            .epoch = epoch,
                            .start_ns = now_ns,
                            .state_ns = now_ns,
                            .heard_ns = now_ns};
}

static const char *refusal(const struct mig_src *src, unsigned event)
{
    if (src->state >= MIG_SRC_DONE) {
        return "the migration is over";
    }
    if (src->state < MIG_SRC_READY) {
        return "the migration is not that far: only CANCEL and END are possible";
    }
    if (src->state == MIG_SRC_SERVING) {
        return "the guest runs at the destination, and a part of its memory is only here";
    }
    return event == MIG_SRC_THAW
               ? "THAW must name a later claim: the one before may be released"
               : "the claim may be released: only THAW by the next claim, or END";
}

static void refuse(const struct mig_src *src, unsigned event, struct mig_acts *ret)
{
    ret->bits = MIG_SRC_DO_REFUSE;
    ret->code = src->code;
    text_copy(ret->text, sizeof ret->text, refusal(src, event));
}

/* With everything over there, a broken connection is no news, and no word is awaited. */
static bool only_with_holes(const struct mig_src *src, unsigned event)
{
    bool turn = src->state == MIG_SRC_READY || src->state == MIG_SRC_RELEASED;

    return turn && (event == MIG_SRC_LOST || event == MIG_SRC_GOT_RUNS);
}

void mig_src_step(struct mig_src *src, const struct mig_input *in, struct mig_acts *ret)
{
    static const struct mig_cell nothing;
    const struct mig_cell *cell;

    BUG_ON(in->event >= MIG_SRC_EVENTS);
    cell = &table[in->event][src->state];
    if (!src->holes && only_with_holes(src, in->event)) {
        cell = &nothing;
    }
    *ret = (struct mig_acts){.bits = cell->bits};
    if ((cell->bits & MIG_SRC_DO_REFUSE) != 0 ||
        ((cell->bits & MIG_SRC_DO_RUN) != 0 && in->epoch <= src->epoch)) {
        refuse(src, in->event, ret);
        return;
    }
    if ((cell->bits & (MIG_SRC_DO_TELL_END | MIG_SRC_DO_TELL_ABORT)) != 0) {
        mig_acts_end(ret, in, event_code[in->event]);
    }
    if (cell->next == MIG_SRC_DONE + 1) {
        mig_acts_end(ret, &(struct mig_input){0}, MIG_OK);
    }
    if ((cell->bits & MIG_SRC_DO_RUN) != 0) {
        src->epoch = ret->epoch = in->epoch;
    }
    if (cell->next == 0) {
        return;
    }
    src->state = (enum mig_src_state)(cell->next - 1);
    src->state_ns = in->now_ns;
    src->holes =
        in->event == MIG_SRC_ROUND_HOLES || (src->holes && src->state != MIG_SRC_PRECOPY);
    if (src->state >= MIG_SRC_DONE && (cell->bits & MIG_SRC_DO_TELL_END) != 0) {
        src->code = ret->code;
        text_copy(src->text, sizeof src->text, ret->text);
    }
}

void mig_src_heard(struct mig_src *src, uint64_t now_ns)
{
    src->heard_ns = now_ns;
}

enum mig_src_event mig_src_due(const struct mig_src *src, uint64_t now_ns,
                               uint64_t *ret_next_ns)
{
    struct mig_deadline d = {UINT64_MAX, MIG_SRC_EVENTS};
    const struct mig_times *t = &src->times;

    if (src->state < MIG_SRC_READY) {
        mig_deadline_add(&d, src->start_ns, t->timeout_ns, MIG_SRC_TIME_OVER);
        if (src->state <= MIG_SRC_HELLO) {
            mig_deadline_add(&d, src->state_ns, t->handshake_ns, MIG_SRC_HANDSHAKE_OVER);
        } else {
            mig_deadline_add(&d, src->heard_ns, t->silence_ns, MIG_SRC_SILENT);
        }
        if (src->state >= MIG_SRC_FREEZING) {
            mig_deadline_add(&d, src->state_ns, t->handover_ns, MIG_SRC_HANDOVER_OVER);
        }
    }
    if (src->state == MIG_SRC_SERVING) {
        mig_deadline_add(&d,
                         src->heard_ns > src->state_ns ? src->heard_ns : src->state_ns,
                         t->holes_ns, MIG_SRC_SILENT);
    }
    *ret_next_ns = d.at_ns;
    return now_ns >= d.at_ns ? (enum mig_src_event)d.event : MIG_SRC_EVENTS;
}

bool mig_src_over(const struct mig_src *src)
{
    return src->state >= MIG_SRC_DONE;
}

const char *mig_src_state_str(enum mig_src_state state)
{
    return (unsigned)state < MIG_SRC_STATES ? state_name[state] : "unknown";
}

const char *mig_src_event_str(enum mig_src_event event)
{
    return (unsigned)event < MIG_SRC_EVENTS ? event_name[event] : "unknown";
}

size_t mig_src_cell(enum mig_src_state state, enum mig_src_event event, char *buf,
                    size_t cap)
{
    return mig_cell_print(&table[event][state], state_name, verb, buf, cap);
}
