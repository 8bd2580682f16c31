/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A protected VM as its two nodes see it (ha_twin.h has the coordinator's part, ft/ what
 * the two gemel-vmm do). Both sides are told by the record, offer what the other one must
 * know, and hand sockets to their gemel-vmm.
 *
 *   primary  prepare -> offered -> dial -> memory -> (frozen) disks -> waiting: the twin
 *            follows -> dial -> joining -> armed: the claim that names the twin -> on
 *   twin     prepare -> offered -> memory -> waiting: disks are staged -> disks ->
 *            joining -> on -> (drained) its claim -> live
 *
 * Who does not hear the other one any more asks for the next claim at once; the link
 * decides, nobody waits for a fence (R5). The record follows.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/uuid.h"
#include "ha/ha_moveend.h"
#include "ha/ha_pending.h"
#include "ha/ha_text.h"
#include "ha/ha_twin.h"
#include "ha/ha_vmmtwin_priv.h"

#define OFFER_NS  (20 * NSEC_PER_SEC)
#define DISKS_NS  (60 * NSEC_PER_SEC)
#define STAND_NS  (10 * NSEC_PER_SEC) /* a guest stands still at most so long for it */
#define JOIN_NS   (10 * NSEC_PER_SEC)
#define SWITCH_NS (5 * NSEC_PER_SEC) /* the twin has not taken over: as it was */
#define ASK_NS    NSEC_PER_SEC
#define DIAL_MS   5000
#define LOST_MS   5000

static const struct os_tcp_opts tcp_opts = {.lost_ms = LOST_MS};

/* Parts of both
 * ------------------------------------------------------------------------------ */

static void stop_timer(struct ha_local *l)
{
    loop_timer_del(l->vmm->loop, &l->twin->timer);
}

static void start_timer(struct ha_local *l, uint64_t ns, void (*fn)(void *data))
{
    stop_timer(l);
    (void)loop_timer_add(l->vmm->loop, ns, fn, l, &l->twin->timer);
}

static struct ha_twinning *twinning_new(struct ha_local *l, const struct ha_twin *record,
                                        bool twin)
{
    l->twin = calloc(1, sizeof *l->twin);
    if (l->twin != NULL) {
        l->twin->twin = twin;
        l->twin->record = *record;
        l->twin->listen_fd = -1;
        l->twin->began_ns = loop_now_ns();
    }
    return l->twin;
}

void ha_vmmtwin_free(struct ha_local *l)
{
    struct ha_twinning *t = l->twin;

    if (t == NULL) {
        return;
    }
    stop_timer(l);
    loop_timer_del(l->vmm->loop, &t->ask_timer);
    (void)ha_vmmtwin_unclaim(l);
    tcp_dial_cancel(t->dial);
    if (t->listen_fd >= 0) {
        close(t->listen_fd);
    }
    free(t);
    l->twin = NULL;
    if (l->task == LOCAL_PROTECT) {
        l->task = LOCAL_TASK_NONE;
    }
}

static void report(struct ha_local *l, enum ha_vm_outcome outcome, const char *text)
{
    struct ha_vm_report r = {.vm = l->vm,
                             .attempt = l->twin->record.id,
                             .instance = l->instance,
                             .outcome = outcome,
                             .epoch = l->epoch,
                             .offer = l->twin->offer};

    ha_text_set(r.text, sizeof r.text, text, NULL);
    l->vmm->ops->report(l->vmm->ctx, &r);
}

static void send(struct ha_local *l, Gemel__VmmRequest *m, const int *fds, size_t count)
{
    l->twin->seq = l->seq + 1;
    ha_vmmlink_send(l, m, fds, count);
}

static void order(struct ha_local *l, Gemel__VmmRequest__Kind kind)
{
    Gemel__VmmRequest m = GEMEL__VMM_REQUEST__INIT;

    m.kind = kind;
    send(l, &m, NULL, 0);
}

/* Every disk that is not shared and written to: one that nobody writes is alike. */
static uint32_t mirrors(const struct ha_local *l)
{
    uint32_t mask = 0;

    for (unsigned i = 0; i < l->disk_count; i++) {
        mask |= l->disk[i].mirrored || l->disk[i].read_only ? 1u << i : 0;
    }
    return mask;
}

/* MIGRATE_OUT, MIGRATE_IN, FT_PROTECT, FT_FOLLOW. The files stay the caller's. */
static void hand_over(struct ha_local *l, Gemel__VmmRequest__Kind kind, const int *fds,
                      size_t count)
{
    Gemel__VmmRequest m = GEMEL__VMM_REQUEST__INIT;
    struct ha_twinning *t = l->twin;
    const struct ha_move_end *peer = t->twin ? &t->record.source : &t->record.dest;

    m.kind = kind;
    m.mig_transfer = (ProtobufCBinaryData){sizeof t->record.id.b, t->record.id.b};
    m.mig_token.len = HA_MOVE_TOKEN_LEN;
    m.mig_token.data = t->twin ? t->offer.token : t->record.dest.token;
    if (!ha_moveend_plaintext(l->vmm)) {
        m.mig_peer_key.data = (uint8_t *)peer->key;
        m.mig_peer_key.len = sizeof peer->key;
    }
    m.mig_verify = true;
    m.ft_commit = t->record.commit;
    m.ft_suspect_ms = l->conf != NULL ? l->conf->ft_suspect_ms : 0;
    m.ft_mirror = mirrors(l);
    if (kind == GEMEL__VMM_REQUEST__KIND__FT_FOLLOW) {
        m.disk_count = (uint32_t)count - 1;
    }
    send(l, &m, fds, count);
}

/* What its VMM says of itself is heard now and then, for people. */
static void ask_timer_fn(void *data)
{
    struct ha_local *l = data;

    l->twin->ask_timer = 0;
    ha_vmmlink_request(l, GEMEL__VMM_REQUEST__KIND__STATUS);
    (void)loop_timer_add(l->vmm->loop, ASK_NS, ask_timer_fn, l, &l->twin->ask_timer);
}

static void step_event(struct ha_local *l, const char *what)
{
    l->vmm->ops->step(l->vmm->ctx, l->name, what);
}

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
    report(l, HA_OUTCOME_TWIN_OFF, why);
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
static void give_up(struct ha_local *l, const char *why)
{
    struct ha_twinning *t = l->twin;

    if (t->step == TWIN_BACK) {
        return;
    }
    ha_text_set(t->why, sizeof t->why, why, NULL);
    log_warn("vm %s: not protected: %s", l->name, t->why);
    tcp_dial_cancel(t->dial);
    t->dial = NULL;
    stop_timer(l);
    report(l, HA_OUTCOME_TWIN_OFF, t->why);
    ha_vmmtwin_unstage(l);
    if (t->step >= TWIN_COPYING && t->step < TWIN_JOINING) {
        ha_vmmlink_request(l, GEMEL__VMM_REQUEST__KIND__MIGRATE_CANCEL);
    }
    if (t->step == TWIN_COPYING) {
        t->step = TWIN_BACK;
        start_timer(l, JOIN_NS, back_timer_fn); /* MIG_FAILED comes before */
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

static void late_timer_fn(void *data)
{
    struct ha_local *l = data;

    l->twin->timer = 0;
    give_up(l, l->twin->step <= TWIN_OFFERED ? "the other node did not answer in time"
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
        give_up(l, why);
        return;
    }
    if (t->step == TWIN_DIAL) {
        t->step = TWIN_COPYING;
        hand_over(l, GEMEL__VMM_REQUEST__KIND__MIGRATE_OUT, fds, count);
    } else {
        t->step = TWIN_JOINING;
        start_timer(l, JOIN_NS, late_timer_fn);
        hand_over(l, GEMEL__VMM_REQUEST__KIND__FT_PROTECT, fds, count);
    }
    for (size_t i = 0; i < count; i++) {
        close(fds[i]);
    }
}

static void dial(struct ha_local *l, size_t count)
{
    const struct ha_move_end *dest = &l->twin->record.dest;
    int r;

    stop_timer(l);
    r = tcp_dial_start(l->vmm->loop, dest->address, dest->port, count, &tcp_opts, DIAL_MS,
                       dialled, l, &l->twin->dial);
    if (r < 0) {
        give_up(l, strerror(-r));
    }
}

static void dial_memory(struct ha_local *l)
{
    l->twin->step = TWIN_DIAL;
    dial(l, 1 + ha_moveend_streams());
}

static void primary_begin(struct ha_local *l, const struct ha_vm *vm)
{
    char why[REASON_LEN_MAX + 1] = "";
    Gemel__VmmRequest m = GEMEL__VMM_REQUEST__INIT;

    if (twinning_new(l, &vm->twin, false) == NULL) {
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
    } else {
        (void)ha_vmmtwin_cannot_copy(l, why);
    }
    if (why[0] != '\0') {
        report(l, HA_OUTCOME_TWIN_OFF, why);
        ha_vmmtwin_free(l);
        return;
    }
    l->task = LOCAL_PROTECT;
    ha_local_publish(l, false);
    (void)ha_local_save(l);
    start_timer(l, DISKS_NS, late_timer_fn);
    m.kind = GEMEL__VMM_REQUEST__KIND__MIGRATE_PREPARE;
    send(l, &m, NULL, 0);
}

static void primary_memory(struct ha_local *l, const Gemel__VmmReport *r)
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
        ha_vmmtwin_copy_first(l);
    } else if (r->mig_state == GEMEL__MIG_STATE__MIG_COPYING && t->step == TWIN_COPYING) {
        l->vmm->ops->progress(l->vmm->ctx, l->vm, &p);
    } else if (r->mig_state == GEMEL__MIG_STATE__MIG_READY && t->step == TWIN_COPYING) {
        t->step = TWIN_DISKS;
        t->stood_ns = loop_now_ns() - r->mig_frozen_ms * NSEC_PER_MSEC;
        start_timer(l, STAND_NS, late_timer_fn);
        ha_vmmtwin_copy(l);
    } else if (r->mig_state == GEMEL__MIG_STATE__MIG_FAILED && t->step == TWIN_BACK) {
        stop_timer(l);
        back(l);
    } else if (r->mig_state == GEMEL__MIG_STATE__MIG_FAILED && t->step >= TWIN_COPYING &&
               t->step < TWIN_JOINING) {
        ha_text_set(t->why, sizeof t->why, r->mig_text, NULL);
        t->step = t->step == TWIN_COPYING ? TWIN_DISKS : t->step; /* it is over there */
        give_up(l, r->mig_text);
    }
}

/* Primary: protected
 * -------------------------------------------------------------------------------------
 */

static void is_on(struct ha_local *l)
{
    struct ha_twinning *t = l->twin;
    char text[REASON_LEN_MAX + 1] = "its guest stood still for ";

    stop_timer(l);
    t->step = TWIN_ON;
    l->task = LOCAL_TASK_NONE;
    l->phase = LOCAL_RUNNING;
    ha_vmmtwin_unstage(l);
    (void)ha_local_save(l);
    ha_local_publish(l, false);
    ha_text_add_u64(text, sizeof text, (loop_now_ns() - t->stood_ns) / NSEC_PER_MSEC);
    ha_text_add(text, sizeof text, " ms");
    step_event(l, "protected");
    report(l, HA_OUTCOME_TWIN_ON, text);
    ask_timer_fn(l);
}

/* It runs without a twin from now on. */
static void is_alone(struct ha_local *l)
{
    char why[REASON_LEN_MAX + 1];

    ha_text_set(why, sizeof why,
                l->twin->record.ending    ? "as it was asked for"
                : l->twin->why[0] != '\0' ? l->twin->why
                                          : "its twin is not heard any more",
                NULL);
    stop_timer(l);
    l->task = LOCAL_TASK_NONE;
    l->phase = LOCAL_RUNNING;
    step_event(l, "goes on without its twin");
    report(l, HA_OUTCOME_TWIN_OFF, why);
    ha_vmmtwin_free(l);
    (void)ha_local_save(l);
    ha_local_publish(l, false);
}

static void switch_timer_fn(void *data)
{
    struct ha_local *l = data;

    l->twin->timer = 0;
    ha_text_set(l->twin->why, sizeof l->twin->why, "its twin did not take over in time",
                NULL);
    ha_vmmtwin_claim(l, CLAIM_GO_ALONE);
}

/* Its twin is heard again, and no claim of ours was tried meanwhile: as before. */
static void heard_again(struct ha_local *l)
{
    if (ha_vmmtwin_unclaim(l)) {
        order(l, GEMEL__VMM_REQUEST__KIND__FT_GO_ON);
    }
}

static bool is(const struct ha_local *l, const char *state)
{
    return strcmp(l->twin->state, state) == 0;
}

static void primary_session(struct ha_local *l, const Gemel__VmmReport *r)
{
    struct ha_twinning *t = l->twin;

    if (is(l, "arm") && t->step == TWIN_JOINING) {
        stop_timer(l);
        t->step = TWIN_ARMED;
        ha_vmmtwin_claim(l, CLAIM_PROTECT);
    } else if (t->step == TWIN_ARMED && t->claimed &&
               r->state == GEMEL__VMM_STATE__VMM_STATE_RUNNING && r->epoch == l->epoch &&
               (is(l, "on") || is(l, "barrier"))) {
        is_on(l);
    } else if (is(l, "hold") || is(l, "hold-barrier")) {
        if (strstr(r->ft_text, "heard again") != NULL) {
            heard_again(l);
        } else {
            ha_text_set(t->why, sizeof t->why, r->ft_text, NULL);
            ha_vmmtwin_claim(l, CLAIM_GO_ALONE);
        }
    } else if (is(l, "arm") && t->step == TWIN_BACK) {
        ha_vmmtwin_claim(l, CLAIM_GO_ALONE);
    } else if (is(l, "alone") && !l->claim_pending) {
        /* In sync it never was in a claim: frozen, it goes on by the next one. */
        if (r->state == GEMEL__VMM_STATE__VMM_STATE_RUNNING) {
            is_alone(l);
        } else if (t->step == TWIN_BACK && l->phase == LOCAL_FROZEN) {
            back(l);
        } else if (t->step == TWIN_JOINING) {
            give_up(l, r->ft_text);
        }
    }
}

/* What was said while there was no view was not heard. */
static void primary_says_again(struct ha_local *l)
{
    const struct ha_twinning *t = l->twin;

    if (t->step == TWIN_OFFERED && !ha_moveend_known(&t->record.source)) {
        report(l, HA_OUTCOME_TWIN_OFFER, "");
    } else if (t->step == TWIN_WAITING && t->record.step == HA_TWIN_SYNC) {
        report(l, HA_OUTCOME_TWIN_COPIED, "");
    } else if (t->step == TWIN_ON && t->record.step != HA_TWIN_ON) {
        report(l, HA_OUTCOME_TWIN_ON, "");
    }
}

static void primary_told(struct ha_local *l, const struct ha_vm *vm)
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
        ha_vmmtwin_claim(l, CLAIM_GO_ALONE);
        return;
    }
    if (over) {
        give_up(l, vm->last[0] != '\0' ? vm->last : "it was given up");
        return;
    }
    t->record = vm->twin;
    if (vm->twin.ending && t->step < TWIN_ARMED) {
        give_up(l, "as it was asked for");
    } else if (vm->twin.ending && t->step == TWIN_ON) {
        ha_vmmtwin_claim(l, CLAIM_UNPROTECT);
    } else if (vm->twin.switchover && t->step == TWIN_ON && !t->ordered) {
        t->ordered = true;
        start_timer(l, SWITCH_NS, switch_timer_fn);
        order(l, GEMEL__VMM_REQUEST__KIND__FT_SWITCHOVER);
    } else if (t->step == TWIN_OFFERED && ha_moveend_known(&t->record.dest)) {
        dial_memory(l);
    } else if (t->step == TWIN_WAITING && vm->twin.step == HA_TWIN_FOLLOWS &&
               t->dial == NULL) {
        dial(l, 1);
    } else {
        primary_says_again(l);
    }
}

static void primary_claimed(struct ha_local *l, enum claim_kind kind,
                            enum twin_claimed what, const char *text)
{
    struct ha_twinning *t = l->twin;

    if (what == TWIN_CLAIM_LOST) {
        log_warn("vm %s: %s", l->name, text);
        order(l, GEMEL__VMM_REQUEST__KIND__FT_CLAIM_LOST);
        return; /* it stands until the record says who runs it */
    }
    if (what == TWIN_CLAIM_REFUSED) {
        log_warn("vm %s: %s: %s", l->name, claim_kind_str(kind), text);
        if (kind == CLAIM_PROTECT) {
            give_up(l, text);
        }
        return;
    }
    if (kind == CLAIM_PROTECT) {
        t->claimed = true;
        order(l, GEMEL__VMM_REQUEST__KIND__FT_TWIN_WON);
    } else {
        order(l, GEMEL__VMM_REQUEST__KIND__FT_ALONE_WON);
    }
}

/* Twin
 * ----------------------------------------------------------------------------------------
 */

static void twin_fail(struct ha_local *l, const char *why)
{
    ha_text_set(l->outcome_text, sizeof l->outcome_text, why, NULL);
    stop_timer(l);
    ha_vmmtwin_unstage(l);
    ha_local_fail(l, why);
}

static void twin_late_fn(void *data)
{
    struct ha_local *l = data;

    l->twin->timer = 0;
    twin_fail(l, "its primary did not answer in time");
}

static void twin_listen(struct ha_local *l)
{
    struct ha_twinning *t = l->twin;

    stop_timer(l);
    t->step = TWIN_COPYING;
    /* The same socket serves the log afterwards. */
    hand_over(l, GEMEL__VMM_REQUEST__KIND__MIGRATE_IN, &t->listen_fd, 1);
}

static void twin_copy_disks(struct ha_local *l)
{
    l->twin->step = TWIN_DISKS;
    start_timer(l, DISKS_NS, twin_late_fn);
    ha_vmmtwin_copy(l);
}

static void twin_memory(struct ha_local *l, const Gemel__VmmReport *r)
{
    struct ha_twinning *t = l->twin;
    char why[REASON_LEN_MAX + 1];

    if (r->mig_state == GEMEL__MIG_STATE__MIG_PREPARED && t->step == TWIN_PREPARE) {
        if (ha_moveend_listen(l->vmm, r, &tcp_opts, &t->offer, &t->listen_fd, why) < 0) {
            twin_fail(l, why);
            return;
        }
        t->step = TWIN_OFFERED;
        report(l, HA_OUTCOME_TWIN_OFFER, "");
        if (ha_moveend_known(&t->record.source)) {
            twin_listen(l);
        }
    } else if (r->mig_state == GEMEL__MIG_STATE__MIG_READY && t->step == TWIN_COPYING) {
        t->step = TWIN_WAITING;
        start_timer(l, DISKS_NS, twin_late_fn);
        if (t->record.step == HA_TWIN_COPIED) {
            twin_copy_disks(l);
        }
    } else if (r->mig_state == GEMEL__MIG_STATE__MIG_FAILED && t->step < TWIN_JOINING) {
        twin_fail(l, r->mig_text);
    }
}

/* All of its primary's log is replayed, or as much as can be. */
static bool may_take_over(const struct ha_local *l)
{
    return is(l, "drained") || is(l, "quiet-ready") || is(l, "quiet-barrier") ||
           is(l, "quiet-diverged");
}

static void twin_session(struct ha_local *l, const Gemel__VmmReport *r)
{
    struct ha_twinning *t = l->twin;

    if (t->step == TWIN_JOINING) {
        stop_timer(l);
        t->step = TWIN_ON;
        (void)ha_local_save(l);
        report(l, HA_OUTCOME_TWIN_FOLLOWS, "");
        if (t->ask_timer == 0) {
            ask_timer_fn(l);
        }
    }
    if (t->step == TWIN_LIVE) {
        return;
    }
    if (may_take_over(l)) {
        if (strstr(r->ft_text, "heard again") != NULL) {
            heard_again(l);
        } else if (t->claiming == CLAIM_KIND_NONE) {
            step_event(l, r->ft_text);
            t->began_ns = loop_now_ns();
            ha_vmmtwin_claim(l, CLAIM_GO_LIVE);
        }
    } else if (is(l, "gone") && !l->claim_pending) {
        twin_fail(l, r->ft_text);
    }
}

static void twin_claimed(struct ha_local *l, enum twin_claimed what, const char *text)
{
    if (what != TWIN_CLAIM_WON) {
        twin_fail(l, text);
        return;
    }
    l->twin->step = TWIN_LIVE;
    l->entered = true;
    order(l, GEMEL__VMM_REQUEST__KIND__FT_CLAIM_WON);
}

static void twin_told(struct ha_local *l, const struct ha_vm *vm)
{
    struct ha_twinning *t = l->twin;
    bool over = vm->twin.to != l->vmm->self.nodeid ||
                !uuid_equal(vm->twin.id, t->record.id) ||
                vm->desired != HA_DESIRED_RUNNING ||
                (vm->state != HA_VM_RUNNING && vm->state != HA_VM_UNKNOWN &&
                 vm->state != HA_VM_FROZEN && vm->state != HA_VM_STARTING);

    if (t->step == TWIN_LIVE || t->submitted) {
        return; /* the claim decides */
    }
    if (over) {
        twin_fail(l, "not wanted any more");
        return;
    }
    t->record = vm->twin;
    if (vm->state == HA_VM_UNKNOWN && t->step == TWIN_ON && !t->ordered) {
        t->ordered = true;
        order(l, GEMEL__VMM_REQUEST__KIND__FT_PEER_DEAD);
    } else if (t->step == TWIN_OFFERED && ha_moveend_known(&t->record.source)) {
        twin_listen(l);
    } else if (t->step == TWIN_WAITING && vm->twin.step == HA_TWIN_COPIED) {
        twin_copy_disks(l);
    } else if (t->step == TWIN_OFFERED && !ha_moveend_known(&t->record.dest)) {
        report(l, HA_OUTCOME_TWIN_OFFER, "");
    } else if (t->step == TWIN_ON && t->record.step < HA_TWIN_FOLLOWS) {
        report(l, HA_OUTCOME_TWIN_FOLLOWS, "");
    }
}

static void twin_begin(struct ha_vmm *vmm, const struct ha_vm *vm)
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
    if (twinning_new(l, &vm->twin, true) == NULL) {
        ha_local_fail(l, "out of memory");
        return;
    }
    l->twin->step = TWIN_FIRST;
    ha_vmmtwin_copy_first(l);
}

/* Both
 * ----------------------------------------------------------------------------------------
 */

static void primary_offers(struct ha_local *l)
{
    l->twin->step = TWIN_OFFERED;
    start_timer(l, DISKS_NS, late_timer_fn); /* the twin copies what is staged, too */
    report(l, HA_OUTCOME_TWIN_OFFER, "");
    if (ha_moveend_known(&l->twin->record.dest)) {
        dial_memory(l);
    }
}

static void twin_launch(struct ha_local *l)
{
    l->twin->step = TWIN_PREPARE;
    if (ha_local_launch(l)) {
        start_timer(l, OFFER_NS, twin_late_fn);
    }
}

void ha_vmmtwin_disks(struct ha_local *l, const int *fds, unsigned count, const char *why)
{
    struct ha_twinning *t = l->twin;
    int all[VM_DISKS_MAX + 1];

    if (t->step == TWIN_FIRST && why == NULL) {
        if (t->twin) {
            twin_launch(l);
        } else {
            primary_offers(l);
        }
        return;
    }
    if (t->step != TWIN_DISKS || why != NULL) {
        for (unsigned i = 0; i < count; i++) {
            close(fds[i]);
        }
        if (why != NULL && t->twin) {
            twin_fail(l, why);
        } else if (why != NULL && t->step != TWIN_BACK) {
            give_up(l, why);
        }
        return;
    }
    if (!t->twin) {
        t->step = TWIN_WAITING;
        report(l, HA_OUTCOME_TWIN_COPIED, "");
        return;
    }
    t->step = TWIN_JOINING;
    all[0] = t->listen_fd;
    if (count > 0) {
        memcpy(all + 1, fds, count * sizeof fds[0]);
    }
    start_timer(l, JOIN_NS, twin_late_fn);
    hand_over(l, GEMEL__VMM_REQUEST__KIND__FT_FOLLOW, all, 1 + count);
    for (unsigned i = 0; i <= count; i++) {
        close(all[i]);
    }
    t->listen_fd = -1;
}

void ha_vmmtwin_claimed(struct ha_local *l, enum claim_kind kind, enum twin_claimed what,
                        const char *text)
{
    if (l->twin->twin) {
        twin_claimed(l, what, text);
    } else {
        primary_claimed(l, kind, what, text);
    }
}

void ha_vmmtwin_linked(struct ha_local *l)
{
    Gemel__VmmRequest m = GEMEL__VMM_REQUEST__INIT;

    m.kind = l->twin->step == TWIN_PREPARE ? GEMEL__VMM_REQUEST__KIND__MIGRATE_PREPARE
                                           : GEMEL__VMM_REQUEST__KIND__STATUS;
    send(l, &m, NULL, 0);
}

/* Found in the middle of what was to make it protected: it goes on as it was. True: that
 * is all there is to it. */
static bool primary_found(struct ha_local *l, const Gemel__VmmReport *r)
{
    struct ha_twinning *t = l->twin;

    t->found = false;
    if (t->twin || t->step != TWIN_BACK) {
        return false;
    }
    if (r->state == GEMEL__VMM_STATE__VMM_STATE_FROZEN) {
        l->phase = LOCAL_FROZEN;
    }
    report(l, HA_OUTCOME_TWIN_OFF, t->why);
    if (has_session(l)) {
        return false; /* its twin goes, or a claim without one ends it */
    }
    ha_vmmlink_request(l, GEMEL__VMM_REQUEST__KIND__MIGRATE_CANCEL);
    back(l);
    return true;
}

static void refused(struct ha_local *l, const char *why)
{
    struct ha_twinning *t = l->twin;

    log_warn("vm %s: refused: %s", l->name, why);
    if (t->twin) {
        twin_fail(l, why);
    } else if (t->step < TWIN_ON && t->step != TWIN_BACK) {
        give_up(l, why);
    }
}

void ha_vmmtwin_report(struct ha_local *l, const Gemel__VmmReport *r)
{
    struct ha_twinning *t = l->twin;

    if (l->discarded || l->ended) {
        return;
    }
    if (r->seq != 0 && r->seq == t->seq && !r->ok) {
        refused(l, r->error);
        return;
    }
    /* Until it has answered, its VMM speaks of an earlier session. */
    t->joined = t->joined || t->twin || (t->step == TWIN_JOINING && r->seq == t->seq);
    if (!t->joined) {
        primary_memory(l, r);
        return;
    }
    ha_text_set(t->state, sizeof t->state, r->ft_state, NULL);
    t->lag_us = r->ft_lag_us;
    t->log_bytes = r->ft_log_bytes;
    t->diverged = r->ft_diverged;
    t->exits = r->ft_exits;
    t->replayed = r->ft_replayed;
    if (t->found && primary_found(l, r)) {
        return;
    }
    if (r->ft_role == 0 && t->twin) {
        twin_memory(l, r);
    } else if (t->twin) {
        twin_session(l, r);
    } else {
        primary_session(l, r);
    }
}

const char *ha_vmmtwin_entered(struct ha_local *l, char text[REASON_LEN_MAX + 1])
{
    if (l->twin == NULL) {
        return NULL;
    }
    if (l->twin->twin) {
        ha_text_set(text, REASON_LEN_MAX + 1, "from the claim to the guest in ", NULL);
        ha_text_add_u64(text, REASON_LEN_MAX + 1,
                        (loop_now_ns() - l->twin->began_ns) / NSEC_PER_MSEC);
        ha_text_add(text, REASON_LEN_MAX + 1, " ms");
    } else {
        ha_text_set(text, REASON_LEN_MAX + 1, l->twin->why, NULL);
    }
    ha_vmmtwin_free(l);
    return text;
}

bool ha_vmmtwin_leaves_claim(const struct ha_local *l)
{
    return l->twin != NULL && !l->twin->twin && l->twin->step == TWIN_ON &&
           !l->stopping && !l->guest_shutdown && !l->discarded;
}

void ha_vmm_twin(struct ha_vmm *vmm, const struct ha_vm *vm)
{
    struct ha_local *l = ha_local_find(vmm, vm->uuid);
    bool begins = vm->twin.to != 0 && vm->twin.step == HA_TWIN_SYNC && !vm->twin.ending &&
                  vm->state == HA_VM_RUNNING;

    if (l != NULL && l->twin != NULL) {
        if (l->twin->twin) {
            twin_told(l, vm);
        } else {
            primary_told(l, vm);
        }
    } else if (begins && vm->twin.to == vmm->self.nodeid) {
        /* Its primary's offer says that the first copy of its disks lies there. */
        if (ha_moveend_known(&vm->twin.source) && !ha_moveend_known(&vm->twin.dest)) {
            twin_begin(vmm, vm);
        }
    } else if (begins && vm->owner == vmm->self.nodeid && l != NULL && !l->discarded &&
               !l->superseded && !ha_moveend_known(&vm->twin.source)) {
        primary_begin(l, vm);
    } else if (vm->twin.to != 0 && (vm->twin.ending || ha_vm_protected(vm)) &&
               vm->owner == vmm->self.nodeid && l != NULL && l->phase == LOCAL_RUNNING &&
               uuid_equal(l->instance, vm->instance)) {
        struct ha_vm_report r = {.vm = vm->uuid,
                                 .attempt = vm->twin.id,
                                 .instance = l->instance,
                                 .epoch = l->epoch,
                                 .outcome = HA_OUTCOME_TWIN_OFF,
                                 .text = "its twin is not heard any more"};

        vmm->ops->report(vmm->ctx, &r);
    }
}

bool ha_vmm_twin_state(const struct ha_vmm *vmm, struct uuid vm,
                       struct ha_vmm_twin_state *ret)
{
    const struct ha_local *l = ha_local_find((struct ha_vmm *)vmm, vm);

    if (l == NULL || l->twin == NULL) {
        return false;
    }
    *ret = (struct ha_vmm_twin_state){.twin = l->twin->twin,
                                      .lag_us = l->twin->lag_us,
                                      .log_bytes = l->twin->log_bytes,
                                      .diverged = l->twin->diverged,
                                      .exits = l->twin->exits,
                                      .replayed = l->twin->replayed};
    ha_text_set(ret->state, sizeof ret->state, l->twin->state, NULL);
    return true;
}

/* After an agent restart
 * ---------------------------------------------------------------------------------- */

void ha_vmmtwin_put(const struct ha_local *l, json_object *doc)
{
    const struct ha_twinning *t = l->twin;

    if (t == NULL) {
        return;
    }
    ha_record_put_number(doc, "twin_role", t->twin ? 2 : 1);
    ha_record_put_number(doc, "twin_on", t->step == TWIN_ON);
    ha_record_put_number(doc, "twin_commit", t->record.commit);
    ha_record_put_number(doc, "twin_node", t->record.to);
    ha_record_put_number(doc, "twin_join", t->record.to_incarnation.join);
    ha_record_put_uuid(doc, "twin_boot", t->record.to_incarnation.boot_id);
    ha_record_put_uuid(doc, "twin_id", t->record.id);
    ha_record_put_uuid(doc, "twin_instance", t->record.instance);
}

/* Its VMM goes on as it is, and says what it is when it is asked; before it was protected
 * nothing of it is kept. */
void ha_vmmtwin_adopt(struct ha_local *l, json_object *doc)
{
    struct ha_twin record = {.to = (uint32_t)ha_record_number(doc, "twin_node"),
                             .commit = (uint8_t)ha_record_number(doc, "twin_commit"),
                             .step = HA_TWIN_ON};
    uint64_t role = ha_record_number(doc, "twin_role");
    bool on = ha_record_number(doc, "twin_on") != 0;

    record.to_incarnation.join = ha_record_number(doc, "twin_join");
    if (role == 0 || !ha_record_uuid(doc, "twin_boot", &record.to_incarnation.boot_id) ||
        !ha_record_uuid(doc, "twin_id", &record.id) ||
        !ha_record_uuid(doc, "twin_instance", &record.instance) ||
        twinning_new(l, &record, role == 2) == NULL) {
        return;
    }
    l->twin->joined = l->twin->found = true;
    l->twin->step = on ? TWIN_ON : l->twin->twin ? TWIN_JOINING : TWIN_BACK;
    if (!on) {
        ha_text_set(l->twin->why, sizeof l->twin->why, "its agent was restarted", NULL);
    }
    if (l->twin->twin) {
        l->phase = LOCAL_STARTING;
        l->claim_won = false;
    }
    (void)loop_timer_add(l->vmm->loop, ASK_NS, ask_timer_fn, l, &l->twin->ask_timer);
}
