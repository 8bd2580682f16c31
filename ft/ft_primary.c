/* SPDX-License-Identifier: Apache-2.0 */
#include "ft/ft_primary.h"

#include "base/bug.h"
#include "base/text.h"

#define TO(state, actions)                                                               \
    {                                                                                    \
        .next = FT_PRI_##state + 1, .bits = (actions)                                    \
    }
#define STAY(actions)                                                                    \
    {                                                                                    \
        .bits = (actions)                                                                \
    }
#define ACCEPT     FT_PRI_DO_ACCEPT
#define REFUSE     STAY(FT_PRI_DO_REFUSE)
#define END_QUIET  (FT_PRI_DO_CLOSE | FT_PRI_DO_TELL_END)
#define GO_ALONE   (FT_PRI_DO_RELEASE | FT_PRI_DO_RUN | FT_PRI_DO_SEND_END | END_QUIET)
#define STAND_LOST (FT_PRI_DO_STOP | FT_PRI_DO_TELL_LOST)
#define KILLED     (ACCEPT | FT_PRI_DO_DISCARD | END_QUIET)

/* Every state in which there is a session and a claim may name, or have named, the twin.
 */
#define WITH_TWIN(...)                                                                   \
    [FT_PRI_ARM] = __VA_ARGS__, [FT_PRI_ON] = __VA_ARGS__,                               \
    [FT_PRI_BARRIER] = __VA_ARGS__, [FT_PRI_HOLD] = __VA_ARGS__,                         \
    [FT_PRI_HOLD_BARRIER] = __VA_ARGS__, [FT_PRI_SWITCHING] = __VA_ARGS__
#define REFUSE_WHEN_OVER                                                                 \
    [FT_PRI_LOST] = REFUSE, [FT_PRI_ALONE] = REFUSE, [FT_PRI_ENDED] = REFUSE
/* The secondary may be gone. */
#define SUSPECTS                                                                         \
    [FT_PRI_ARM] = STAY(FT_PRI_DO_TELL_HOLD),                                            \
    [FT_PRI_ON] = TO(HOLD, FT_PRI_DO_TELL_HOLD),                                         \
    [FT_PRI_BARRIER] = TO(HOLD_BARRIER, FT_PRI_DO_TELL_HOLD),                            \
    [FT_PRI_SWITCHING] = TO(HOLD_BARRIER, FT_PRI_DO_TELL_HOLD)

static const struct mig_cell table[FT_PRI_EVENTS][FT_PRI_STATES] = {
    [FT_PRI_SYNCED] = {[FT_PRI_SYNC] = TO(ARM, FT_PRI_DO_HOLD | FT_PRI_DO_TELL_ARMED)},
    [FT_PRI_BROKEN] = {[FT_PRI_SYNC] = TO(ALONE, END_QUIET), SUSPECTS},
    [FT_PRI_SILENT] = {[FT_PRI_SYNC] = TO(ALONE, END_QUIET), SUSPECTS},
    [FT_PRI_HEARD] = {[FT_PRI_HOLD] = STAY(FT_PRI_DO_TELL_HEARD),
                      [FT_PRI_HOLD_BARRIER] = STAY(FT_PRI_DO_TELL_HEARD)},
    [FT_PRI_BARRIER_DUE] = {[FT_PRI_ON] =
                                TO(BARRIER, FT_PRI_DO_STOP | FT_PRI_DO_SEND_BARRIER)},
    [FT_PRI_DIVERGED] = {[FT_PRI_ON] =
                             TO(BARRIER, FT_PRI_DO_STOP | FT_PRI_DO_SEND_BARRIER),
                         [FT_PRI_HOLD] =
                             TO(HOLD_BARRIER, FT_PRI_DO_STOP | FT_PRI_DO_SEND_BARRIER)},
    [FT_PRI_BARRIER_DONE] = {[FT_PRI_BARRIER] = TO(ON, FT_PRI_DO_RUN),
                             [FT_PRI_HOLD_BARRIER] = TO(HOLD, FT_PRI_DO_RUN),
                             [FT_PRI_SWITCHING] = TO(SWITCH, FT_PRI_DO_SEND_TAKEOVER |
                                                                 FT_PRI_DO_TELL_SWITCH)},
    [FT_PRI_GUEST_OFF] = {[FT_PRI_SYNC] = TO(ENDED, END_QUIET),
                          [FT_PRI_ON] = TO(ENDED, FT_PRI_DO_SEND_END | END_QUIET)},
    [FT_PRI_HOST_ERROR] = {[FT_PRI_SYNC] = TO(ALONE, END_QUIET), SUSPECTS},
    /* With a later epoch than the one before; else refused (ft_primary_step). */
    [FT_PRI_TWIN_WON] = {[FT_PRI_SYNC] = REFUSE,
                         [FT_PRI_ARM] =
                             TO(ON, FT_PRI_DO_RUN | FT_PRI_DO_SEND_START | ACCEPT),
                         [FT_PRI_ON] =
                             STAY(FT_PRI_DO_RUN | FT_PRI_DO_SEND_START | ACCEPT),
                         [FT_PRI_BARRIER] = REFUSE,
                         [FT_PRI_HOLD] = REFUSE,
                         [FT_PRI_HOLD_BARRIER] = REFUSE,
                         [FT_PRI_SWITCHING] = REFUSE,
                         [FT_PRI_SWITCH] = REFUSE,
                         REFUSE_WHEN_OVER},
    [FT_PRI_ALONE_WON] = {[FT_PRI_SYNC] = REFUSE,
                          WITH_TWIN(TO(ALONE, GO_ALONE | ACCEPT)),
                          [FT_PRI_SWITCH] = TO(ALONE, GO_ALONE | ACCEPT),
                          REFUSE_WHEN_OVER},
    [FT_PRI_CLAIM_LOST] = {[FT_PRI_SYNC] = REFUSE,
                           WITH_TWIN(TO(LOST, STAND_LOST | ACCEPT)),
                           [FT_PRI_SWITCH] = TO(LOST, STAND_LOST | ACCEPT),
                           [FT_PRI_LOST] = STAY(ACCEPT),
                           [FT_PRI_ALONE] = REFUSE,
                           [FT_PRI_ENDED] = REFUSE},
    [FT_PRI_GO_ON] = {[FT_PRI_SYNC] = REFUSE,
                      [FT_PRI_ARM] = STAY(ACCEPT),
                      [FT_PRI_ON] = STAY(ACCEPT),
                      [FT_PRI_BARRIER] = STAY(ACCEPT),
                      [FT_PRI_HOLD] = TO(ON, ACCEPT),
                      [FT_PRI_HOLD_BARRIER] = TO(BARRIER, ACCEPT),
                      [FT_PRI_SWITCHING] = STAY(ACCEPT),
                      [FT_PRI_SWITCH] = REFUSE,
                      REFUSE_WHEN_OVER},
    [FT_PRI_SWITCHOVER] = {[FT_PRI_SYNC] = REFUSE,
                           [FT_PRI_ARM] = REFUSE,
                           [FT_PRI_ON] =
                               TO(SWITCHING,
                                  FT_PRI_DO_STOP | FT_PRI_DO_SEND_BARRIER | ACCEPT),
                           /* The one under way serves. */
                           [FT_PRI_BARRIER] = TO(SWITCHING, ACCEPT),
                           [FT_PRI_HOLD] = REFUSE,
                           [FT_PRI_HOLD_BARRIER] = REFUSE,
                           [FT_PRI_SWITCHING] = STAY(ACCEPT),
                           [FT_PRI_SWITCH] = STAY(ACCEPT),
                           REFUSE_WHEN_OVER},
    [FT_PRI_WINNER_RUNS] = {[FT_PRI_SYNC] = REFUSE,
                            WITH_TWIN(REFUSE),
                            [FT_PRI_SWITCH] = REFUSE,
                            [FT_PRI_LOST] = TO(ENDED, KILLED),
                            [FT_PRI_ALONE] = REFUSE,
                            [FT_PRI_ENDED] = STAY(ACCEPT)},
    /* SWITCH, LOST: the twin may run, and is not told to end. */
    [FT_PRI_END] = {[FT_PRI_SYNC] = TO(ENDED, KILLED),
                    WITH_TWIN(TO(ENDED, KILLED | FT_PRI_DO_SEND_END)),
                    [FT_PRI_SWITCH] = TO(ENDED, KILLED),
                    [FT_PRI_LOST] = TO(ENDED, KILLED),
                    [FT_PRI_ALONE] = TO(ENDED, ACCEPT | FT_PRI_DO_DISCARD),
                    [FT_PRI_ENDED] = STAY(ACCEPT)},
};

static const char *const state_name[FT_PRI_STATES] = {
    "sync",      "arm",    "on",   "barrier", "hold",  "hold-barrier",
    "switching", "switch", "lost", "alone",   "ended",
};

static const char *const event_name[FT_PRI_EVENTS] = {
    "synced",       "broken",     "silent",      "heard",    "barrier-due", "diverged",
    "barrier-done", "guest-off",  "host-error",  "twin-won", "alone-won",   "claim-lost",
    "go-on",        "switchover", "winner-runs", "end",
};

static const char *const verb[FT_PRI_DO_COUNT] = {
    "stop",      "hold",       "send START",  "send BARRIER", "send TAKEOVER",
    "send END",  "release",    "run",         "close",        "tell armed",
    "tell hold", "tell heard", "tell switch", "tell lost",    "tell end",
    "accept",    "refuse",     "discard",
};

/* Why the agent is told something. */
static const char *const event_text[FT_PRI_EVENTS] = {
    [FT_PRI_SYNCED] = "the secondary has everything",
    [FT_PRI_BROKEN] = "the channel to the secondary broke",
    [FT_PRI_SILENT] = "nothing is heard of the secondary",
    [FT_PRI_HEARD] = "the secondary is heard again",
    [FT_PRI_BARRIER_DONE] = "the secondary stands at the same position",
    [FT_PRI_GUEST_OFF] = "the guest powered off",
    [FT_PRI_HOST_ERROR] = "an error of the host",
    [FT_PRI_ALONE_WON] = "it goes on without a twin",
    [FT_PRI_CLAIM_LOST] = "another instance has the claim",
    [FT_PRI_WINNER_RUNS] = "the VM runs elsewhere",
    [FT_PRI_END] = "the agent ended this instance",
};

void ft_primary_init(struct ft_primary *p, uint64_t epoch)
{
    *p = (struct ft_primary){.state = FT_PRI_SYNC, .epoch = epoch};
}

static const char *refusal(const struct ft_primary *p, unsigned event)
{
    if (p->state == FT_PRI_LOST) {
        return "another instance has the claim; this one stands until that runs";
    }
    if (p->state >= FT_PRI_ALONE) {
        return "this instance has no twin any more";
    }
    if (p->state == FT_PRI_SYNC) {
        return "the VM is not protected yet: its memory is being copied";
    }
    if (event == FT_PRI_TWIN_WON || event == FT_PRI_ALONE_WON) {
        return "this claim is not a later one, or not what this state waits for";
    }
    if (event == FT_PRI_GO_ON) {
        return "there is no way back: the channel is broken, or the twin may have taken "
               "over";
    }
    return "not in this state of the protection";
}

static bool refused(const struct ft_primary *p, const struct ft_input *in,
                    const struct mig_cell *cell)
{
    bool claims = in->event == FT_PRI_TWIN_WON || in->event == FT_PRI_ALONE_WON;
    bool back = in->event == FT_PRI_GO_ON && cell->next != 0;

    return (cell->bits & FT_PRI_DO_REFUSE) != 0 || (claims && in->epoch <= p->epoch) ||
           (back && p->broken);
}

#define TELLS                                                                            \
    (FT_PRI_DO_TELL_ARMED | FT_PRI_DO_TELL_HOLD | FT_PRI_DO_TELL_HEARD |                 \
     FT_PRI_DO_TELL_SWITCH | FT_PRI_DO_TELL_LOST | FT_PRI_DO_TELL_END)

void ft_primary_step(struct ft_primary *p, const struct ft_input *in, struct ft_acts *ret)
{
    const struct mig_cell *cell;

    BUG_ON(in->event >= FT_PRI_EVENTS);
    cell = &table[in->event][p->state];
    *ret = (struct ft_acts){.bits = cell->bits};
    if (in->event == FT_PRI_HEARD && p->broken) {
        ret->bits = 0; /* what was on its way when the channel broke */
        return;
    }
    if (refused(p, in, cell)) {
        ret->bits = FT_PRI_DO_REFUSE;
        text_copy(ret->text, sizeof ret->text, refusal(p, in->event));
        return;
    }
    p->broken = p->broken || in->event == FT_PRI_BROKEN || in->event == FT_PRI_HOST_ERROR;
    if (in->event == FT_PRI_TWIN_WON || in->event == FT_PRI_ALONE_WON) {
        p->epoch = ret->epoch = in->epoch;
    }
    if ((cell->bits & TELLS) != 0) {
        text_copy(ret->text, sizeof ret->text,
                  in->text != NULL ? in->text : event_text[in->event]);
    }
    if (cell->next != 0) {
        p->state = (enum ft_primary_state)(cell->next - 1);
    }
    /* Armed, but the channel broke meanwhile: there is no log to be on with. */
    if (p->state == FT_PRI_ON && p->broken) {
        p->state = FT_PRI_HOLD;
        ret->bits |= FT_PRI_DO_TELL_HOLD;
        text_copy(ret->text, sizeof ret->text, event_text[FT_PRI_BROKEN]);
    }
}

bool ft_primary_may_release(const struct ft_primary *p)
{
    return p->state >= FT_PRI_ON && p->state <= FT_PRI_SWITCHING;
}

const char *ft_primary_state_str(enum ft_primary_state state)
{
    return (unsigned)state < FT_PRI_STATES ? state_name[state] : "unknown";
}

const char *ft_primary_event_str(enum ft_primary_event event)
{
    return (unsigned)event < FT_PRI_EVENTS ? event_name[event] : "unknown";
}

size_t ft_primary_cell(enum ft_primary_state state, enum ft_primary_event event,
                       char *buf, size_t cap)
{
    return mig_cell_print(&table[event][state], state_name, verb, buf, cap);
}
