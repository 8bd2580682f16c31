/* SPDX-License-Identifier: Apache-2.0 */
/* A protected VM at its twin (ha_vmmtwin.c has both sides). */
#include <string.h>
#include <unistd.h>

#include "base/uuid.h"
#include "ha/ha_moveend.h"
#include "ha/ha_pending.h"
#include "ha/ha_text.h"
#include "ha/ha_vmmtwin_priv.h"

#define OFFER_NS (20 * NSEC_PER_SEC)

/* Twin
 * ----------------------------------------------------------------------------------------
 */

void ha_vmmsec_fail(struct ha_local *l, const char *why)
{
    ha_text_set(l->outcome_text, sizeof l->outcome_text, why, NULL);
    ha_vmmtwin_stop_timer(l);
    ha_local_fail(l, why);
}

void ha_vmmsec_late_fn(void *data)
{
    struct ha_local *l = data;

    l->twin->timer = 0;
    ha_vmmsec_fail(l, "its primary did not answer in time");
}

/* A request with its listening socket and disks; it keeps none of these. */
static void hand_over(struct ha_local *l, Gemel__VmmRequest__Kind kind, int *disk)
{
    int fds[1 + VM_DISKS_MAX];
    size_t count = 0;

    fds[count++] = l->twin->listen_fd;
    for (unsigned i = 0; i < VM_DISKS_MAX; i++) {
        if (disk[i] >= 0) {
            fds[count++] = disk[i];
        }
    }
    ha_vmmtwin_hand_over(l, kind, fds, count);
    for (unsigned i = 0; i < VM_DISKS_MAX; i++) {
        if (disk[i] >= 0) {
            close(disk[i]);
        }
        disk[i] = -1;
    }
}

static void twin_listen(struct ha_local *l)
{
    struct ha_twinning *t = l->twin;

    ha_vmmtwin_stop_timer(l);
    t->step = TWIN_COPYING;
    /* The same socket serves the log afterwards. */
    hand_over(l, GEMEL__VMM_REQUEST__KIND__MIGRATE_IN, t->copies.fill_fd);
}

/* All of its memory and its disks is here: its primary connects, or has. */
static void twin_follows(struct ha_local *l)
{
    struct ha_twinning *t = l->twin;

    t->step = TWIN_JOINING;
    ha_vmmtwin_start_timer(l, TWIN_JOIN_NS, ha_vmmsec_late_fn);
    hand_over(l, GEMEL__VMM_REQUEST__KIND__FT_FOLLOW, t->copies.follow_fd);
    close(t->listen_fd);
    t->listen_fd = -1;
    t->equal = true;
}

void ha_vmmsec_memory(struct ha_local *l, const Gemel__VmmReport *r)
{
    struct ha_twinning *t = l->twin;
    char why[REASON_LEN_MAX + 1];

    if (r->mig_state == GEMEL__MIG_STATE__MIG_PREPARED && t->step == TWIN_PREPARE) {
        if (ha_moveend_listen(l->vmm, r, &ha_vmmtwin_tcp, &t->offer, &t->listen_fd, why) <
            0) {
            ha_vmmsec_fail(l, why);
            return;
        }
        t->step = TWIN_OFFERED;
        ha_vmmtwin_tell(l, HA_OUTCOME_TWIN_OFFER, "");
        if (ha_moveend_known(&t->record.source)) {
            twin_listen(l);
        }
    } else if (r->mig_state == GEMEL__MIG_STATE__MIG_READY && t->step == TWIN_COPYING) {
        twin_follows(l);
    } else if (r->mig_state == GEMEL__MIG_STATE__MIG_FAILED && t->step < TWIN_JOINING) {
        ha_vmmsec_fail(l, r->mig_text);
    }
}

bool ha_vmmsec_may_take_over(const struct ha_local *l)
{
    return ha_vmmtwin_is(l, "drained") || ha_vmmtwin_is(l, "quiet-ready") ||
           ha_vmmtwin_is(l, "quiet-barrier") || ha_vmmtwin_is(l, "quiet-diverged");
}

void ha_vmmsec_take_over(struct ha_local *l, const char *why)
{
    if (l->twin->claiming == CLAIM_KIND_NONE) {
        ha_vmmtwin_step(l, why);
        l->twin->began_ns = loop_now_ns();
        ha_vmmtwin_claim(l, CLAIM_GO_LIVE);
    }
}

void ha_vmmsec_session(struct ha_local *l, const Gemel__VmmReport *r)
{
    struct ha_twinning *t = l->twin;

    l->adopted = false; /* it follows; when it runs, it is as every twin that went live */
    if (t->step == TWIN_JOINING) {
        ha_vmmtwin_stop_timer(l);
        t->step = TWIN_ON;
        (void)ha_local_save(l);
        ha_vmmtwin_tell(l, HA_OUTCOME_TWIN_FOLLOWS, "");
        if (t->ask_timer == 0) {
            ha_vmmtwin_ask(l);
        }
    }
    if (t->step == TWIN_LIVE) {
        return;
    }
    if (ha_vmmsec_may_take_over(l)) {
        if (t->winding && !t->submitted) {
            ha_vmmsec_fail(l, "not wanted any more");
        } else if (strstr(r->ft_text, "heard again") != NULL) {
            ha_vmmtwin_heard_again(l);
        } else {
            ha_vmmsec_take_over(l, r->ft_text);
        }
    } else if (ha_vmmtwin_is(l, "gone") && !l->claim_pending) {
        ha_vmmsec_fail(l, r->ft_text);
    }
}

void ha_vmmsec_claimed(struct ha_local *l, enum twin_claimed what, const char *text)
{
    if (what != TWIN_CLAIM_WON) {
        ha_vmmsec_fail(l, text);
        return;
    }
    l->twin->step = TWIN_LIVE;
    l->entered = true;
    ha_vmmhold_go_live(l);
}

/* It is being stopped: its twin gets all of that, and does not go live any more. */
static bool winds_up(const struct ha_vm *vm)
{
    return ha_vm_protected(vm) &&
           (vm->state == HA_VM_STOPPING ||
            (vm->desired == HA_DESIRED_STOPPED &&
             (vm->state == HA_VM_RUNNING || vm->state == HA_VM_FROZEN)));
}

static bool is_wanted(const struct ha_vm *vm)
{
    return winds_up(vm) || (vm->desired == HA_DESIRED_RUNNING &&
                            (vm->state == HA_VM_RUNNING || vm->state == HA_VM_UNKNOWN ||
                             vm->state == HA_VM_FROZEN || vm->state == HA_VM_STARTING));
}

void ha_vmmsec_told(struct ha_local *l, const struct ha_vm *vm)
{
    struct ha_twinning *t = l->twin;
    bool over = vm->twin.to != l->vmm->self.nodeid ||
                !uuid_equal(vm->twin.id, t->record.id) || !is_wanted(vm);

    if (t->step == TWIN_LIVE || t->submitted) {
        return; /* the claim decides */
    }
    if (over && t->inherited && t->step == TWIN_ON) {
        /* An agent before this one may have won the claim: its storage knows. */
        t->unwanted = true;
        (void)ha_vmmtwin_unclaim(l);
        ha_vmmtwin_claim(l, CLAIM_GO_LIVE);
        return;
    }
    if (over) {
        ha_vmmsec_fail(l, "not wanted any more");
        return;
    }
    t->record = vm->twin;
    t->unwanted = false;
    t->winding = winds_up(vm);
    if (t->winding && t->claiming != CLAIM_KIND_NONE && !t->inherited) {
        ha_vmmsec_fail(l, "not wanted any more"); /* its claim was not tried yet */
    } else if (vm->state == HA_VM_UNKNOWN && t->step == TWIN_ON && !t->ordered) {
        t->ordered = true;
        ha_vmmtwin_order(l, GEMEL__VMM_REQUEST__KIND__FT_PEER_DEAD);
    } else if (t->step == TWIN_OFFERED && ha_moveend_known(&t->record.source)) {
        twin_listen(l);
    } else if (t->step == TWIN_OFFERED && !ha_moveend_known(&t->record.dest)) {
        ha_vmmtwin_tell(l, HA_OUTCOME_TWIN_OFFER, "");
    } else if (t->step == TWIN_ON && t->record.step < HA_TWIN_FOLLOWS) {
        ha_vmmtwin_tell(l, HA_OUTCOME_TWIN_FOLLOWS, "");
    }
}

void ha_vmmsec_begin(struct ha_vmm *vmm, const struct ha_vm *vm)
{
    struct ha_vm_report r = {
        .vm = vm->uuid, .attempt = vm->twin.id, .outcome = HA_OUTCOME_TWIN_OFF};
    struct ha_local *l = ha_local_find(vmm, vm->uuid);
    struct ha_vm runs = *vm;
    struct conf_vm conf;

    if (l != NULL && (l->phase == LOCAL_ENDING || l->discarded || l->ended)) {
        return; /* when that one is gone */
    }
    if (l != NULL) {
        ha_text_set(r.text, sizeof r.text, "an earlier instance of it is still here",
                    NULL);
        vmm->ops->report(vmm->ctx, &r);
        return;
    }
    runs.conf = ha_pending_goes_on(vm, &conf) ? &conf : NULL;
    runs.attempt = vm->twin.id;
    l = ha_local_create(vmm, &runs, NULL);
    if (l == NULL) {
        return;
    }
    if (ha_vmmtwin_new(l, &vm->twin, true) == NULL) {
        ha_local_fail(l, "out of memory");
        return;
    }
    l->twin->step = TWIN_FIRST;
    ha_vmmtwin_look_at_disks(l);
}

void ha_vmmsec_launch(struct ha_local *l)
{
    l->twin->step = TWIN_PREPARE;
    if (ha_local_launch(l)) {
        ha_vmmtwin_start_timer(l, OFFER_NS, ha_vmmsec_late_fn);
    }
}
