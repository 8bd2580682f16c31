/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Post-copy, once the guest was entered at the destination: the source serves what is
 * missing there until nobody needs it, and the destination's guest ends with its source.
 */
#include "base/log.h"
#include "ha/ha_text.h"
#include "ha/ha_vmmmove_priv.h"

#define SERVE_LOOK_NS (5 * NSEC_PER_SEC)

/* It ends by itself when all is there, or who runs is lost; unless it hangs. */
static void serve_timer_fn(void *data)
{
    struct ha_local *l = data;
    const struct ha_vm *vm = l->vmm->ops->record(l->vmm->ctx, l->vm);
    bool needed = vm != NULL && vm->memory_from == l->vmm->self.nodeid;

    l->timer = 0;
    l->unneeded = needed ? 0 : l->unneeded + 1;
    if (l->unneeded >= 2) {
        log_warn("vm %s: nobody needs its memory any more, and its gemel-vmm does not "
                 "end; killed",
                 l->name);
        ha_local_kill(l);
        return;
    }
    (void)loop_timer_add(l->vmm->loop, SERVE_LOOK_NS, serve_timer_fn, l, &l->timer);
}

bool ha_vmmmove_serves(struct ha_local *l)
{
    if (!l->owes || l->child.pidfd < 0) {
        return false;
    }
    if (l->moving != NULL) {
        ha_vmmmove_stop_timer(l);
    }
    loop_timer_del(l->vmm->loop, &l->timer);
    (void)loop_timer_add(l->vmm->loop, SERVE_LOOK_NS, serve_timer_fn, l, &l->timer);
    log_info("vm %s: it runs elsewhere, and a part of its memory is still here", l->name);
    return true;
}

void ha_vmm_holder_dead(struct ha_vmm *vmm, struct uuid vm, const char *node)
{
    struct ha_local *l = ha_local_find(vmm, vm);

    if (l != NULL && l->filling && !l->discarded && l->dead_holder[0] == '\0') {
        ha_text_set(l->dead_holder, sizeof l->dead_holder, node, NULL);
        ha_vmmlink_request(l, GEMEL__VMM_REQUEST__KIND__STATUS);
    }
}

/* It has just said that some of its memory is not here, and no more of it will come. */
static void end_with_holder(struct ha_local *l, uint64_t missing)
{
    char *text = l->outcome_text;

    ha_text_set(text, sizeof l->outcome_text, "post-copy: the source was lost while ",
                NULL);
    ha_text_add_u64(text, sizeof l->outcome_text, missing >> 20);
    ha_text_add(text, sizeof l->outcome_text, " MiB were still there: ");
    ha_text_add(text, sizeof l->outcome_text, l->dead_holder);
    ha_text_add(text, sizeof l->outcome_text, " is proven dead");
    ha_local_kill(l);
}

/* Post-copy, after it was entered at the one end and discarded at the other. */
void ha_vmmmove_report_of_holes(struct ha_local *l, const Gemel__VmmReport *r)
{
    struct ha_move_progress p = {
        .percent = 99, .missing = r->mig_missing, .faults = r->mig_faults};

    if (l->owes && (r->mig_state == GEMEL__MIG_STATE__MIG_DONE ||
                    r->mig_state == GEMEL__MIG_STATE__MIG_FAILED)) {
        l->owes = false;
        if (l->discarded) {
            ha_local_kill(l); /* it ends by itself, and this is sooner */
        }
    } else if (r->mig_state == GEMEL__MIG_STATE__MIG_FILLING) {
        l->filling = true; /* also when this agent was restarted */
        l->vmm->ops->progress(l->vmm->ctx, l->vm, &p);
        if (l->dead_holder[0] != '\0') {
            end_with_holder(l, r->mig_missing);
        }
    } else if (r->mig_state == GEMEL__MIG_STATE__MIG_DONE && l->filling) {
        l->filling = false;
        ha_local_report(l, HA_OUTCOME_RUNNING, r->mig_text);
    }
}
