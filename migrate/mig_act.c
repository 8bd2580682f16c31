/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/mig_act.h"

#include "base/text.h"
#include "migrate/mig_text.h"

const char *mig_code_text(enum mig_code code)
{
    switch (code) {
    case MIG_OK:
        return "done";
    case MIG_END_BLOCKED:
        return "the destination cannot take the VM";
    case MIG_END_CANCELLED:
        return "cancelled";
    case MIG_END_HANDSHAKE:
        return "no connection to the other side within its time: are the migration "
               "addresses reachable?";
    case MIG_END_SILENCE:
        return "the other side said nothing for too long";
    case MIG_END_TIMEOUT:
        return "the time for it is over (--timeout)";
    case MIG_END_LOST:
        return "the connection to the other side broke";
    case MIG_END_PEER:
        return "the other side gave up";
    case MIG_END_PROTOCOL:
        return "the other side broke the protocol";
    case MIG_END_FREEZE:
        return "the guest could not be stopped, or its disks not drained";
    case MIG_END_GUEST_OFF:
        return "the guest powered off";
    case MIG_END_CONVERGE:
        return "the guest writes faster than its memory can be copied";
    case MIG_END_STATE:
        return "the state cannot be loaded at the destination";
    case MIG_END_VERIFY:
        return "memory differs between source and destination";
    case MIG_END_HOST:
        return "an error of the host";
    case MIG_END_AGENT:
        return "the agent ended this instance";
    case MIG_END_HANDOVER:
        return "freeze, last pages and check took too long";
    default:
        return "a reason that is not known here";
    }
}

size_t mig_cell_print(const struct mig_cell *cell, const char *const *state,
                      const char *const *verb, char *buf, size_t cap)
{
    struct mig_text t = mig_text_make(buf, cap);
    const char *before = "";

    if (cell->next != 0) {
        mig_text_add(&t, "-> %s", state[cell->next - 1]);
        before = ": ";
    }
    for (unsigned bit = 0; bit < 32; bit++) {
        if ((cell->bits >> bit & 1) != 0) {
            mig_text_add(&t, "%s%s", before, verb[bit]);
            before = ", ";
        }
    }
    return t.len;
}

void mig_acts_end(struct mig_acts *acts, const struct mig_input *in, enum mig_code code)
{
    acts->code = in->code != MIG_OK ? in->code : code;
    text_copy(acts->text, sizeof acts->text,
              in->text != NULL ? in->text : mig_code_text(acts->code));
}

void mig_deadline_add(struct mig_deadline *deadline, uint64_t from_ns, uint64_t after_ns,
                      unsigned event)
{
    if (after_ns != 0 && from_ns + after_ns < deadline->at_ns) {
        *deadline = (struct mig_deadline){from_ns + after_ns, event};
    }
}
