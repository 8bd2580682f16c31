/* SPDX-License-Identifier: Apache-2.0 */
#include "ft/ft_secondary.h"

#include "base/bug.h"
#include "base/text.h"

#define TO(state, actions)                                                               \
    {                                                                                    \
        .next = FT_SEC_##state + 1, .bits = (actions)                                    \
    }
#define STAY(actions)                                                                    \
    {                                                                                    \
        .bits = (actions)                                                                \
    }
#define ACCEPT  FT_SEC_DO_ACCEPT
#define REFUSE  STAY(FT_SEC_DO_REFUSE)
#define QUIT    (FT_SEC_DO_CLOSE | FT_SEC_DO_TELL_END | FT_SEC_DO_DISCARD)
#define TELL    FT_SEC_DO_TELL_DRAINED
#define SILENCE FT_SEC_DO_ACKS_OFF

#define FOLLOWS(...)                                                                     \
    [FT_SEC_READY] = __VA_ARGS__, [FT_SEC_REPLAY] = __VA_ARGS__,                         \
    [FT_SEC_BARRIER] = __VA_ARGS__, [FT_SEC_DIVERGED] = __VA_ARGS__
#define WAITS(...)                                                                       \
    [FT_SEC_DRAINED] = __VA_ARGS__, [FT_SEC_QUIET_READY] = __VA_ARGS__,                  \
    [FT_SEC_QUIET_BARRIER] = __VA_ARGS__, [FT_SEC_QUIET_DIVERGED] = __VA_ARGS__
#define BEFORE_LIVE(...)                                                                 \
    [FT_SEC_SYNC] = __VA_ARGS__, FOLLOWS(__VA_ARGS__), [FT_SEC_QUIET] = __VA_ARGS__,     \
    WAITS(__VA_ARGS__)
/* The primary may be gone. */
#define SUSPECTS                                                                         \
    [FT_SEC_SYNC] = TO(GONE, QUIT), [FT_SEC_READY] = TO(QUIET_READY, TELL),              \
    [FT_SEC_REPLAY] = TO(QUIET, SILENCE),                                                \
    [FT_SEC_BARRIER] = TO(QUIET_BARRIER, SILENCE | TELL),                                \
    [FT_SEC_DIVERGED] = TO(QUIET_DIVERGED, SILENCE | TELL)

static const struct mig_cell table[FT_SEC_EVENTS][FT_SEC_STATES] = {
    [FT_SEC_SYNCED] = {[FT_SEC_SYNC] =
                           TO(READY, FT_SEC_DO_SEND_READY | FT_SEC_DO_TELL_READY)},
    [FT_SEC_START] = {[FT_SEC_READY] = TO(REPLAY, FT_SEC_DO_ACKS_ON | FT_SEC_DO_REPLAY)},
    [FT_SEC_AT_BARRIER] = {[FT_SEC_REPLAY] =
                               TO(BARRIER, FT_SEC_DO_HALT | FT_SEC_DO_SEND_HASHES),
                           [FT_SEC_QUIET] = TO(QUIET_BARRIER, FT_SEC_DO_HALT | TELL)},
    [FT_SEC_SET_COMPLETE] = {[FT_SEC_BARRIER] =
                                 TO(REPLAY, FT_SEC_DO_APPLY | FT_SEC_DO_REPLAY),
                             [FT_SEC_DIVERGED] =
                                 TO(REPLAY, FT_SEC_DO_APPLY | FT_SEC_DO_REPLAY)},
    [FT_SEC_DIFFERS] = {[FT_SEC_REPLAY] =
                            TO(DIVERGED, FT_SEC_DO_HALT | FT_SEC_DO_SEND_DIVERGED),
                        [FT_SEC_QUIET] = TO(QUIET_DIVERGED, FT_SEC_DO_HALT | TELL)},
    [FT_SEC_CAUGHT_UP] = {[FT_SEC_QUIET] = TO(DRAINED, FT_SEC_DO_HALT | TELL)},
    [FT_SEC_AT_TAKEOVER] = {[FT_SEC_REPLAY] =
                                TO(DRAINED, FT_SEC_DO_HALT | SILENCE | TELL),
                            [FT_SEC_QUIET] = TO(DRAINED, FT_SEC_DO_HALT | TELL)},
    [FT_SEC_SILENT] = {SUSPECTS},
    [FT_SEC_BROKEN] = {SUSPECTS},
    [FT_SEC_PEER_DEAD] = {[FT_SEC_SYNC] = TO(GONE, QUIT | ACCEPT),
                          [FT_SEC_READY] = TO(QUIET_READY, TELL | ACCEPT),
                          [FT_SEC_REPLAY] = TO(QUIET, SILENCE | ACCEPT),
                          [FT_SEC_BARRIER] = TO(QUIET_BARRIER, SILENCE | TELL | ACCEPT),
                          [FT_SEC_DIVERGED] = TO(QUIET_DIVERGED, SILENCE | TELL | ACCEPT),
                          [FT_SEC_QUIET] = STAY(ACCEPT),
                          WAITS(STAY(ACCEPT)),
                          [FT_SEC_LIVE] = STAY(ACCEPT),
                          [FT_SEC_GONE] = STAY(ACCEPT)},
    [FT_SEC_HEARD] = {[FT_SEC_QUIET] = TO(REPLAY, FT_SEC_DO_ACKS_ON),
                      WAITS(STAY(FT_SEC_DO_TELL_HEARD))},
    [FT_SEC_GOT_END] = {BEFORE_LIVE(TO(GONE, QUIT))},
    [FT_SEC_HOST_ERROR] = {BEFORE_LIVE(TO(GONE, QUIT))},
    /* What came of a set is dropped with the word to go on: the primary sends it anew. */
    [FT_SEC_GO_ON] = {[FT_SEC_SYNC] = REFUSE,
                      FOLLOWS(STAY(ACCEPT)),
                      [FT_SEC_QUIET] = REFUSE,
                      [FT_SEC_DRAINED] =
                          TO(REPLAY, FT_SEC_DO_ACKS_ON | FT_SEC_DO_REPLAY | ACCEPT),
                      [FT_SEC_QUIET_READY] = TO(READY, ACCEPT),
                      [FT_SEC_QUIET_BARRIER] =
                          TO(BARRIER, FT_SEC_DO_ACKS_ON | FT_SEC_DO_DROP_SET |
                                          FT_SEC_DO_SEND_HASHES | ACCEPT),
                      [FT_SEC_QUIET_DIVERGED] =
                          TO(DIVERGED, FT_SEC_DO_ACKS_ON | FT_SEC_DO_DROP_SET |
                                           FT_SEC_DO_SEND_DIVERGED | ACCEPT),
                      [FT_SEC_LIVE] = REFUSE,
                      [FT_SEC_GONE] = REFUSE},
    /* With a later epoch than the one that named it; else refused. */
    [FT_SEC_CLAIM_WON] = {[FT_SEC_SYNC] = REFUSE,
                          FOLLOWS(REFUSE),
                          [FT_SEC_QUIET] = REFUSE,
                          WAITS(TO(LIVE, FT_SEC_DO_DROP_SET | FT_SEC_DO_GO_LIVE |
                                             FT_SEC_DO_ANNOUNCE |
                                             FT_SEC_DO_CLOSE | FT_SEC_DO_TELL_END |
                                             ACCEPT)),
                          [FT_SEC_LIVE] = REFUSE,
                          [FT_SEC_GONE] = REFUSE},
    [FT_SEC_DISCARD] = {BEFORE_LIVE(TO(GONE, QUIT | ACCEPT)), [FT_SEC_LIVE] = REFUSE,
                        [FT_SEC_GONE] = STAY(ACCEPT)},
};

static const char *const state_name[FT_SEC_STATES] = {
    "sync",    "ready",       "replay",        "barrier",        "diverged", "quiet",
    "drained", "quiet-ready", "quiet-barrier", "quiet-diverged", "live",     "gone",
};

static const char *const event_name[FT_SEC_EVENTS] = {
    "synced",      "start",  "at-barrier", "set-complete", "differs", "caught-up",
    "at-takeover", "silent", "broken",     "peer-dead",    "heard",   "got-end",
    "host-error",  "go-on",  "claim-won",  "discard",
};

static const char *const verb[FT_SEC_DO_COUNT] = {
    "halt",       "acks off",    "acks on",       "apply",        "drop set",
    "send READY", "send hashes", "send DIVERGED", "replay",       "go live",
    "announce",   "close",       "tell ready",    "tell drained", "tell heard",
    "tell end",   "accept",      "refuse",        "discard",
};

static const char *const event_text[FT_SEC_EVENTS] = {
    [FT_SEC_SYNCED] = "memory, state and disks are here",
    [FT_SEC_AT_BARRIER] =
        "the primary is not heard; all of its log but a barrier is replayed",
    [FT_SEC_DIFFERS] = "the primary is not heard; its log cannot be followed further",
    [FT_SEC_CAUGHT_UP] = "the primary is not heard; all of its log is replayed",
    [FT_SEC_AT_TAKEOVER] = "the primary stands and lets this twin take over",
    [FT_SEC_SILENT] = "nothing is heard of the primary",
    [FT_SEC_BROKEN] = "the channel to the primary broke",
    [FT_SEC_PEER_DEAD] = "the primary's node is away",
    [FT_SEC_HEARD] = "the primary is heard again",
    [FT_SEC_GOT_END] = "the primary needs no twin any more",
    [FT_SEC_HOST_ERROR] = "an error of the host",
    [FT_SEC_CLAIM_WON] = "the twin has taken over",
    [FT_SEC_DISCARD] = "the agent ended this twin",
};

void ft_secondary_init(struct ft_secondary *s)
{
    *s = (struct ft_secondary){.state = FT_SEC_SYNC};
}

static const char *refusal(const struct ft_secondary *s, unsigned event)
{
    if (s->state == FT_SEC_LIVE) {
        return "the guest runs here; this was its twin";
    }
    if (s->state == FT_SEC_GONE) {
        return "this twin is gone";
    }
    if (event == FT_SEC_GO_ON) {
        return "there is nothing to go on with: the channel is broken, or it was not "
               "asked";
    }
    if (s->state == FT_SEC_QUIET) {
        return "it still replays what it has acknowledged";
    }
    return s->state <= FT_SEC_DIVERGED
               ? "it still acknowledges: it takes over only after it has stopped"
               : "this claim is not later than the one that named the twin";
}

static bool refused(const struct ft_secondary *s, const struct ft_input *in,
                    const struct mig_cell *cell)
{
    return (cell->bits & FT_SEC_DO_REFUSE) != 0 ||
           (in->event == FT_SEC_CLAIM_WON && in->epoch <= s->epoch) ||
           (in->event == FT_SEC_GO_ON && cell->next != 0 && s->broken);
}

#define TELLS                                                                            \
    (FT_SEC_DO_TELL_READY | FT_SEC_DO_TELL_DRAINED | FT_SEC_DO_TELL_HEARD |              \
     FT_SEC_DO_TELL_END)

void ft_secondary_step(struct ft_secondary *s, const struct ft_input *in,
                       struct ft_acts *ret)
{
    const struct mig_cell *cell;

    BUG_ON(in->event >= FT_SEC_EVENTS);
    cell = &table[in->event][s->state];
    *ret = (struct ft_acts){.bits = cell->bits};
    if (in->event == FT_SEC_HEARD && s->broken) {
        ret->bits = 0; /* what was on its way when the channel broke */
        return;
    }
    if (refused(s, in, cell)) {
        ret->bits = FT_SEC_DO_REFUSE;
        text_copy(ret->text, sizeof ret->text, refusal(s, in->event));
        return;
    }
    s->broken = s->broken || in->event == FT_SEC_BROKEN;
    if (in->event == FT_SEC_START || in->event == FT_SEC_CLAIM_WON) {
        s->epoch = in->epoch > s->epoch ? in->epoch : s->epoch;
        ret->epoch = s->epoch;
    }
    if ((cell->bits & TELLS) != 0) {
        text_copy(ret->text, sizeof ret->text,
                  in->text != NULL ? in->text : event_text[in->event]);
    }
    if (cell->next != 0) {
        s->state = (enum ft_secondary_state)(cell->next - 1);
    }
}

bool ft_secondary_may_ack(const struct ft_secondary *s)
{
    return s->state >= FT_SEC_REPLAY && s->state <= FT_SEC_DIVERGED;
}

bool ft_secondary_has_begun(const struct ft_secondary *s)
{
    return s->epoch != 0;
}

const char *ft_secondary_state_str(enum ft_secondary_state state)
{
    return (unsigned)state < FT_SEC_STATES ? state_name[state] : "unknown";
}

const char *ft_secondary_event_str(enum ft_secondary_event event)
{
    return (unsigned)event < FT_SEC_EVENTS ? event_name[event] : "unknown";
}

size_t ft_secondary_cell(enum ft_secondary_state state, enum ft_secondary_event event,
                         char *buf, size_t cap)
{
    return mig_cell_print(&table[event][state], state_name, verb, buf, cap);
}
