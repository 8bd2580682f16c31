/* SPDX-License-Identifier: Apache-2.0 */
/* A protected VM at its primary (ha_vmmtwin.c has both sides). */
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/os.h"
#include "base/uuid.h"
#include "ha/ha_moveend.h"
#include "ha/ha_text.h"
#include "ha/ha_vmmtwin_priv.h"

#define SWITCH_NS (5 * NSEC_PER_SEC) /* the twin has not taken over: as it was */
#define PAUSED_NS NSEC_PER_SEC       /* by a disk: so long it keeps its twin */
#define GONE_NS   NSEC_PER_SEC       /* the twin, as the record says */
#define DIAL_MS   5000

/* The primary goes on as it was
 * ---------------------------------------------------------------------------- */

static void thaw(struct ha_local *l)
{
    l->phase = LOCAL_STARTING;
    l->thawing = true;
    l->entered = false;
    l->claim_won = false;
    if (ha_local_begin_claim(l) < 0) {
        ha_local_fail(l, "out of memory");
    }
}

/* There is no session, and none will be: it runs on, or by the next claim if its guest
 * stood still. */
static void back(struct ha_local *l)
{
    char why[REASON_LEN_MAX + 1];

    if (l->phase == LOCAL_FROZEN) {
        thaw(l); /* ha_vmmtwin_entered says the rest */
        return;
    }
    ha_text_set(why, sizeof why, l->twin->why, NULL);
    ha_vmmtwin_tell(l, HA_OUTCOME_TWIN_OFF, why);
    ha_vmmtwin_free(l);
    ha_local_publish(l, false);
    (void)ha_local_save(l);
}

static void back_timer_fn(void *data)
{
    struct ha_local *l = data;

    l->twin->timer = 0;
    back(l);
}

static bool has_session(const struct ha_local *l)
{
    return l->twin->state[0] != '\0' && strcmp(l->twin->state, "none") != 0 &&
           strcmp(l->twin->state, "alone") != 0;
}

/* Nothing came of it. Its record says so, and the twin goes; what the VMM has of it ends
 * by that, or by a claim without a twin. */
void ha_vmmpri_give_up(struct ha_local *l, const char *why)
{
    struct ha_twinning *t = l->twin;

    if (t->step == TWIN_BACK) {
        return;
    }
    ha_text_set(t->why, sizeof t->why, why, NULL);
    log_warn("vm %s: not protected: %s", l->name, t->why);
    tcp_dial_cancel(t->dial);
    t->dial = NULL;
    ha_vmmtwin_stop_timer(l);
    ha_vmmtwin_tell(l, HA_OUTCOME_TWIN_OFF, t->why);
    if (t->step >= TWIN_COPYING && t->step < TWIN_JOINING) {
        ha_vmmlink_request(l, GEMEL__VMM_REQUEST__KIND__MIGRATE_CANCEL);
    }
    if (t->step == TWIN_COPYING) {
        t->step = TWIN_BACK;
        ha_vmmtwin_start_timer(l, TWIN_JOIN_NS,
                               back_timer_fn); /* MIG_FAILED comes before */
    } else if (has_session(l)) {
        t->step = TWIN_BACK;
        if (strcmp(t->state, "sync") != 0) {
            ha_vmmtwin_claim(l, CLAIM_GO_ALONE);
        }
    } else {
        t->step = TWIN_BACK;
        back(l);
    }
}

static void paused_timer_fn(void *data)
{
    struct ha_local *l = data;

    l->twin->timer = 0;
    if (l->phase == LOCAL_FROZEN) {
        l->twin->step = TWIN_BACK;
        ha_vmmtwin_claim(l, CLAIM_UNPROTECT);
    }
}

/* A VM goes on after a pause by a claim and with new connections, as one without a twin
 * does; the next twin comes when it runs. Not at once: where its storage fails, its node
 * may be about to. */
void ha_vmmpri_paused(struct ha_local *l, const char *reason)
{
    struct ha_twinning *t = l->twin;

    if (t->step == TWIN_BACK) {
        return;
    }
    l->phase = LOCAL_FROZEN;
    if (t->step != TWIN_ON) {
        ha_vmmpri_give_up(l, reason);
        return;
    }
    ha_text_set(t->why, sizeof t->why, reason, NULL);
    ha_vmmtwin_start_timer(l, PAUSED_NS, paused_timer_fn);
}

static void late_timer_fn(void *data)
{
    struct ha_local *l = data;

    l->twin->timer = 0;
    ha_vmmpri_give_up(l, l->twin->step <= TWIN_OFFERED
                             ? "the other node did not answer in time"
                         : l->twin->step < TWIN_JOINING
                             ? "the other node was not ready to follow in time"
                             : "the two gemel-vmm did not find each other in time");
}

/* Primary: before it is protected
 * -------------------------------------------------------------------------- */

static void dialled(int error, const int *fds, size_t count, void *data)
{
    struct ha_local *l = data;
    struct ha_twinning *t = l->twin;
    char why[REASON_LEN_MAX + 1];

    t->dial = NULL;
    if (error < 0) {
        ha_text_set(why, sizeof why, "no connection to ", t->record.dest.address, ": ",
                    strerror(-error), NULL);
        ha_vmmpri_give_up(l, why);
        return;
    }
    if (t->step == TWIN_DIAL) {
        t->step = TWIN_COPYING;
        ha_vmmtwin_hand_over(l, GEMEL__VMM_REQUEST__KIND__MIGRATE_OUT, fds, count);
    } else {
        t->step = TWIN_JOINING;
        ha_vmmtwin_start_timer(l, TWIN_JOIN_NS, late_timer_fn);
        ha_vmmtwin_hand_over(l, GEMEL__VMM_REQUEST__KIND__FT_PROTECT, fds, count);
    }
    for (size_t i = 0; i < count; i++) {
        close(fds[i]);
    }
}

static void dial(struct ha_local *l, size_t count)
{
    const struct ha_move_end *dest = &l->twin->record.dest;
    int r;

    ha_vmmtwin_stop_timer(l);
    r = tcp_dial_start(l->vmm->loop, dest->address, dest->port, count, &ha_vmmtwin_tcp,
                       DIAL_MS, dialled, l, &l->twin->dial);
    if (r < 0) {
        ha_vmmpri_give_up(l, strerror(-r));
    }
}

static void dial_memory(struct ha_local *l)
{
    l->twin->step = TWIN_DIAL;
    dial(l, 1 + ha_moveend_streams());
}

void ha_vmmpri_begin(struct ha_local *l, const struct ha_vm *vm)
{
    char why[REASON_LEN_MAX + 1] = "";
    Gemel__VmmRequest m = GEMEL__VMM_REQUEST__INIT;

    if (ha_vmmtwin_new(l, &vm->twin, false) == NULL) {
        return; /* the other one does not wait for ever */
    }
    if (l->phase != LOCAL_RUNNING || l->stopping || !l->linked || l->freezing ||
        l->task != LOCAL_TASK_NONE || l->moving != NULL || l->successor != NULL) {
        ha_text_set(why, sizeof why,
                    l->phase == LOCAL_FROZEN ? "it is frozen"
                                             : "its gemel-vmm cannot be reached now",
                    NULL);
    } else if (l->conf == NULL) {
        ha_text_set(why, sizeof why, "its agent does not know what it was started with",
                    NULL);
    }
    if (why[0] != '\0') {
        ha_vmmtwin_tell(l, HA_OUTCOME_TWIN_OFF, why);
        ha_vmmtwin_free(l);
        return;
    }
    l->task = LOCAL_PROTECT;
    ha_local_publish(l, false);
    (void)ha_local_save(l);
    ha_vmmtwin_start_timer(l, TWIN_DISKS_NS, late_timer_fn);
    m.kind = GEMEL__VMM_REQUEST__KIND__MIGRATE_PREPARE;
    ha_vmmtwin_send(l, &m, NULL, 0);
}

void ha_vmmpri_memory(struct ha_local *l, const Gemel__VmmReport *r)
{
    struct ha_twinning *t = l->twin;
    struct ha_move_progress p = {.percent = r->mig_percent,
                                 .round = r->mig_round,
                                 .bps = r->mig_rate,
                                 .dirty_bps = r->mig_dirty_rate,
                                 .eta_ms = r->mig_eta_ms,
                                 .sent = r->mig_sent};

    if (r->mig_state == GEMEL__MIG_STATE__MIG_PREPARED && t->step == TWIN_PREPARE) {
        memcpy(t->offer.key, r->mig_key.data, r->mig_key.len);
        t->step = TWIN_FIRST;
        ha_vmmtwin_look_at_disks(l);
    } else if (r->mig_state == GEMEL__MIG_STATE__MIG_COPYING && t->step == TWIN_COPYING) {
        l->vmm->ops->progress(l->vmm->ctx, l->vm, &p);
    } else if (r->mig_state == GEMEL__MIG_STATE__MIG_READY && t->step == TWIN_COPYING) {
        t->step = TWIN_COPIED;
        t->stood_ns = loop_now_ns() - r->mig_frozen_ms * NSEC_PER_MSEC;
        t->disk_sent = r->mig_disk_sent;
        dial(l, 1);
    } else if (r->mig_state == GEMEL__MIG_STATE__MIG_FAILED && t->step == TWIN_BACK) {
        ha_vmmtwin_stop_timer(l);
        back(l);
    } else if (r->mig_state == GEMEL__MIG_STATE__MIG_FAILED && t->step >= TWIN_COPYING &&
               t->step < TWIN_JOINING) {
        ha_text_set(t->why, sizeof t->why, r->mig_text, NULL);
        t->step = TWIN_COPIED; /* it is over there */
        ha_vmmpri_give_up(l, r->mig_text);
    }
}

void ha_vmmpri_offers(struct ha_local *l)
{
    l->twin->step = TWIN_OFFERED;
    ha_vmmtwin_start_timer(l, TWIN_DISKS_NS, late_timer_fn);
    ha_vmmtwin_tell(l, HA_OUTCOME_TWIN_OFFER, "");
    if (ha_moveend_known(&l->twin->record.dest)) {
        dial_memory(l);
    }
}

/* Primary: protected
 * -------------------------------------------------------------------------------------
 */

static void is_on(struct ha_local *l)
{
    struct ha_twinning *t = l->twin;
    char text[REASON_LEN_MAX + 1] = "its guest stood still for ";

    ha_vmmtwin_stop_timer(l);
    t->step = TWIN_ON;
    l->task = LOCAL_TASK_NONE;
    l->phase = LOCAL_RUNNING;
    (void)ha_local_save(l);
    ha_local_publish(l, false);
    ha_text_add_u64(text, sizeof text, (loop_now_ns() - t->stood_ns) / NSEC_PER_MSEC);
    ha_text_add(text, sizeof text, " ms");
    for (unsigned i = 0; i < l->disk_count; i++) {
        if (l->disk[i].mirrored) {
            ha_text_add(text, sizeof text, ", ");
            ha_text_add_u64(text, sizeof text, t->disk_sent >> 10);
            ha_text_add(text, sizeof text, " KiB of its disks were sent");
            break;
        }
    }
    ha_vmmtwin_step(l, "protected");
    ha_vmmtwin_tell(l, HA_OUTCOME_TWIN_ON, text);
    ha_vmmtwin_ask(l);
}

/* It runs without a twin from now on. */
static void is_alone(struct ha_local *l, const Gemel__VmmReport *r)
{
    char why[REASON_LEN_MAX + 1];

    if (r->ft_reason == GEMEL__FT_REASON__FT_REASON_DIVERGES) {
        l->diverged_id = l->twin->record.id;
        l->diverged_ms = os_wall_ns() / NSEC_PER_MSEC;
    }
    ha_text_set(why, sizeof why,
                l->twin->why[0] != '\0'  ? l->twin->why
                : l->twin->record.ending ? "as it was asked for"
                                         : "its twin is not heard any more",
                NULL);
    ha_vmmtwin_stop_timer(l);
    l->task = LOCAL_TASK_NONE;
    l->phase = LOCAL_RUNNING;
    ha_vmmtwin_step(l, "goes on without its twin");
    ha_vmmtwin_tell(l, HA_OUTCOME_TWIN_OFF, why);
    ha_vmmtwin_free(l);
    (void)ha_local_save(l);
    ha_local_publish(l, false);
}

/* Its VMM has not noticed. */
static void gone_timer_fn(void *data)
{
    struct ha_local *l = data;

    l->twin->timer = 0;
    ha_vmmtwin_claim(l, CLAIM_GO_ALONE);
}

static void switch_timer_fn(void *data)
{
    struct ha_local *l = data;

    l->twin->timer = 0;
    ha_text_set(l->twin->why, sizeof l->twin->why, "its twin did not take over in time",
                NULL);
    ha_vmmtwin_claim(l, CLAIM_GO_ALONE);
}

bool ha_vmmpri_holds(const struct ha_local *l)
{
    return ha_vmmtwin_is(l, "hold") || ha_vmmtwin_is(l, "hold-barrier");
}

void ha_vmmpri_session(struct ha_local *l, const Gemel__VmmReport *r)
{
    struct ha_twinning *t = l->twin;

    if (ha_vmmtwin_is(l, "arm") && t->step == TWIN_JOINING) {
        ha_vmmtwin_stop_timer(l);
        t->step = TWIN_ARMED;
        ha_vmmtwin_claim(l, CLAIM_PROTECT);
    } else if (t->step == TWIN_ARMED && t->claimed &&
               r->state == GEMEL__VMM_STATE__VMM_STATE_RUNNING && r->epoch == l->epoch &&
               (ha_vmmtwin_is(l, "on") || ha_vmmtwin_is(l, "barrier"))) {
        is_on(l);
    } else if (ha_vmmpri_holds(l) && t->step == TWIN_BACK) {
        ha_vmmtwin_claim(l, CLAIM_GO_ALONE); /* whatever is heard: it goes without */
    } else if (ha_vmmpri_holds(l)) {
        if (strstr(r->ft_text, "heard again") != NULL) {
            ha_vmmtwin_heard_again(l);
        } else {
            if (r->ft_text[0] != '\0') {
                ha_text_set(t->why, sizeof t->why, r->ft_text, NULL);
            }
            ha_vmmtwin_claim(l, CLAIM_GO_ALONE);
        }
    } else if (ha_vmmtwin_is(l, "arm") && t->step == TWIN_BACK) {
        ha_vmmtwin_claim(l, CLAIM_GO_ALONE);
    } else if (ha_vmmtwin_is(l, "alone") && !l->claim_pending) {
        /* In sync it never was in a claim: frozen, it goes on by the next one. */
        if (r->state == GEMEL__VMM_STATE__VMM_STATE_RUNNING) {
            is_alone(l, r);
        } else if ((t->step == TWIN_BACK || t->step == TWIN_ON) &&
                   l->phase == LOCAL_FROZEN) {
            back(l);
        } else if (t->step == TWIN_JOINING) {
            ha_vmmpri_give_up(l, r->ft_text);
        }
    }
}

/* What was said while there was no view was not heard. */
static void primary_says_again(struct ha_local *l)
{
    const struct ha_twinning *t = l->twin;

    if (t->step == TWIN_OFFERED && !ha_moveend_known(&t->record.source)) {
        ha_vmmtwin_tell(l, HA_OUTCOME_TWIN_OFFER, "");
    } else if (t->step == TWIN_ON && t->record.step != HA_TWIN_ON) {
        ha_vmmtwin_tell(l, HA_OUTCOME_TWIN_ON, "");
    }
}

void ha_vmmpri_told(struct ha_local *l, const struct ha_vm *vm)
{
    struct ha_twinning *t = l->twin;
    bool over = vm->twin.to == 0 || !uuid_equal(vm->twin.id, t->record.id);

    if (t->step == TWIN_BACK) {
        return; /* it goes on as it was: that is under way */
    }
    if (vm->owner != l->vmm->self.nodeid) {
        return; /* who has the later claim runs it: this one is discarded */
    }
    if (over && t->step >= TWIN_ARMED) {
        if (t->step == TWIN_ON && t->why[0] == '\0') {
            ha_text_set(t->why, sizeof t->why, vm->last, NULL);
        }
        /* Its VMM says so (hold) as soon as it can go on without; or it is at its end, of
         * which the twin heard first, and then both copies count. */
        ha_vmmtwin_start_timer(l, GONE_NS, gone_timer_fn);
        return;
    }
    if (over) {
        ha_vmmpri_give_up(l, vm->last[0] != '\0' ? vm->last : "it was given up");
        return;
    }
    t->record = vm->twin;
    if (vm->twin.ending && t->step < TWIN_ARMED) {
        ha_vmmpri_give_up(l, "as it was asked for");
    } else if (vm->twin.ending && t->step == TWIN_ON) {
        ha_text_set(t->why, sizeof t->why, vm->reason, NULL);
        ha_vmmtwin_claim(l, CLAIM_UNPROTECT);
    } else if (vm->twin.switchover && t->step == TWIN_ON && !t->ordered) {
        t->ordered = true;
        ha_vmmtwin_start_timer(l, SWITCH_NS, switch_timer_fn);
        ha_vmmtwin_order(l, GEMEL__VMM_REQUEST__KIND__FT_SWITCHOVER);
    } else if (t->step == TWIN_OFFERED && ha_moveend_known(&t->record.dest)) {
        dial_memory(l);
    } else {
        primary_says_again(l);
    }
}

/* It never runs again. Its end is told as any other, so that somebody looks after the VM
 * if its twin died before it could say that it runs. */
static void is_over(struct ha_local *l, const char *text)
{
    ha_text_set(l->outcome_text, sizeof l->outcome_text, "its twin has the VM: ", text,
                NULL);
    ha_local_kill(l);
}

void ha_vmmpri_claimed(struct ha_local *l, enum claim_kind kind, enum twin_claimed what,
                       const char *text)
{
    struct ha_twinning *t = l->twin;

    if (what == TWIN_CLAIM_LOST) {
        log_warn("vm %s: %s", l->name, text);
        ha_vmmtwin_order(l, GEMEL__VMM_REQUEST__KIND__FT_CLAIM_LOST);
        is_over(l, text);
        return;
    }
    if (what == TWIN_CLAIM_REFUSED) {
        log_warn("vm %s: %s: %s", l->name, claim_kind_str(kind), text);
        if (kind == CLAIM_PROTECT) {
            ha_vmmpri_give_up(l, text);
        } else if (t->step == TWIN_BACK) { /* paused: nobody else would ask again */
            ha_vmmtwin_start_timer(l, GONE_NS, gone_timer_fn);
        }
        return;
    }
    if (kind == CLAIM_PROTECT) {
        t->claimed = true;
        ha_vmmtwin_order(l, GEMEL__VMM_REQUEST__KIND__FT_TWIN_WON);
    } else {
        ha_vmmtwin_order(l, GEMEL__VMM_REQUEST__KIND__FT_ALONE_WON);
    }
}

/* Found in the middle of what was to make it protected: it goes on as it was. True: that
 * is all there is to it. */
bool ha_vmmpri_found(struct ha_local *l, const Gemel__VmmReport *r)
{
    struct ha_twinning *t = l->twin;

    t->found = false;
    if (t->twin || t->step != TWIN_BACK) {
        return false;
    }
    if (r->state == GEMEL__VMM_STATE__VMM_STATE_FROZEN) {
        l->phase = LOCAL_FROZEN;
    }
    ha_vmmtwin_tell(l, HA_OUTCOME_TWIN_OFF, t->why);
    if (has_session(l)) {
        return false; /* its twin goes, or a claim without one ends it */
    }
    ha_vmmlink_request(l, GEMEL__VMM_REQUEST__KIND__MIGRATE_CANCEL);
    back(l);
    return true;
}
