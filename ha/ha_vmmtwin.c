/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A protected VM as its two nodes see it (ha_twin.h has the coordinator's part, ft/ what
 * the two gemel-vmm do). Both sides are told by the record, offer what the other one must
 * know, and hand sockets to their gemel-vmm.
 *
 *   primary  prepare -> offered -> dial -> memory and disks -> (frozen) copied: dial ->
 *            joining -> armed: the claim that names the twin -> on
 *   twin     files -> prepare -> offered -> memory and disks -> joining -> on ->
 *            (drained) its claim -> live
 *
 * While the guest stands nothing goes through the record: the primary connects to the
 * twin's listener at once, and the twin, which was ready before, serves it.
 *
 * Who does not hear the other one any more asks for the next claim at once; the link
 * decides, nobody waits for a fence (R5). The record follows.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/uuid.h"
#include "ha/ha_moveend.h"
#include "ha/ha_text.h"
#include "ha/ha_twin.h"
#include "ha/ha_vmmtwin_priv.h"

#define ASK_NS NSEC_PER_SEC

const struct os_tcp_opts ha_vmmtwin_tcp = {.lost_ms = 5000};

/* Parts of both
 * ------------------------------------------------------------------------------ */

void ha_vmmtwin_stop_timer(struct ha_local *l)
{
    loop_timer_del(l->vmm->loop, &l->twin->timer);
}

void ha_vmmtwin_start_timer(struct ha_local *l, uint64_t ns, void (*fn)(void *data))
{
    ha_vmmtwin_stop_timer(l);
    (void)loop_timer_add(l->vmm->loop, ns, fn, l, &l->twin->timer);
}

struct ha_twinning *ha_vmmtwin_new(struct ha_local *l, const struct ha_twin *record,
                                   bool twin)
{
    l->twin = calloc(1, sizeof *l->twin);
    if (l->twin != NULL) {
        l->twin->twin = twin;
        l->twin->record = *record;
        l->twin->listen_fd = -1;
        for (unsigned i = 0; i < VM_DISKS_MAX; i++) {
            l->twin->copies.fill_fd[i] = l->twin->copies.follow_fd[i] = -1;
        }
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
    ha_vmmtwin_stop_timer(l);
    loop_timer_del(l->vmm->loop, &t->ask_timer);
    (void)ha_vmmtwin_unclaim(l);
    tcp_dial_cancel(t->dial);
    if (t->listen_fd >= 0) {
        close(t->listen_fd);
    }
    ha_vmmtwin_close_copies(t);
    free(t);
    l->twin = NULL;
    if (l->task == LOCAL_PROTECT) {
        l->task = LOCAL_TASK_NONE;
    }
}

/* One that is known to have gone live is as every VM then (ha_vmmtwin_lives), and may
 * pause; this is one that its agent, restarted, found so. */
void ha_vmmtwin_frozen(struct ha_local *l, const char *reason)
{
    if (reason == NULL || strstr(reason, "; the VM is paused") == NULL) {
        return;
    }
    if (l->twin->twin) {
        l->claim_won = l->epoch != 0;
        ha_vmmsec_fail(l, reason);
    } else {
        ha_vmmpri_paused(l, reason);
    }
}

void ha_vmmtwin_lives(struct ha_local *l)
{
    if (l->twin != NULL && l->twin->twin) {
        ha_vmmtwin_free(l);
    }
}

void ha_vmmtwin_tell(struct ha_local *l, enum ha_vm_outcome outcome, const char *text)
{
    struct ha_vm_report r = {.vm = l->vm,
                             .attempt = l->twin->record.id,
                             .instance = l->instance,
                             .outcome = outcome,
                             .epoch = l->epoch,
                             .offer = l->twin->offer};

    if (outcome == HA_OUTCOME_TWIN_OFF && uuid_equal(r.attempt, l->diverged_id)) {
        r.diverged_ms = l->diverged_ms;
    }
    memcpy(r.disk, l->twin->disk, sizeof r.disk);
    ha_text_set(r.text, sizeof r.text, text, NULL);
    l->vmm->ops->report(l->vmm->ctx, &r);
}

void ha_vmmtwin_send(struct ha_local *l, Gemel__VmmRequest *m, const int *fds,
                     size_t count)
{
    l->twin->seq = l->seq + 1;
    ha_vmmlink_send(l, m, fds, count);
}

void ha_vmmtwin_order(struct ha_local *l, Gemel__VmmRequest__Kind kind)
{
    Gemel__VmmRequest m = GEMEL__VMM_REQUEST__INIT;

    m.kind = kind;
    ha_vmmtwin_send(l, &m, NULL, 0);
}

/* One that nobody writes to is alike on both. */
uint32_t ha_vmmtwin_mirrors(const struct ha_local *l)
{
    uint32_t mask = 0;

    for (unsigned i = 0; i < l->disk_count; i++) {
        const struct conf_disk *d = &l->disk[i];

        mask |= d->mirrored || (d->read_only && !conf_disk_is_nbd(d)) ? 1u << i : 0;
    }
    return mask;
}

/* MIGRATE_OUT, MIGRATE_IN, FT_PROTECT, FT_FOLLOW. The files stay the caller's. */
void ha_vmmtwin_hand_over(struct ha_local *l, Gemel__VmmRequest__Kind kind,
                          const int *fds, size_t count)
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
    m.ft_mode = t->record.commit == CONF_FT_EPOCHS;
    m.ft_commit = m.ft_mode != 0 ? CONF_FT_VERIFIED : t->record.commit;
    m.ft_suspect_ms = l->conf != NULL ? l->conf->ft_suspect_ms : 0;
    m.ft_mirror = ha_vmmtwin_mirrors(l);
    if (kind == GEMEL__VMM_REQUEST__KIND__FT_FOLLOW ||
        kind == GEMEL__VMM_REQUEST__KIND__MIGRATE_IN) {
        m.disk_count = (uint32_t)count - 1;
    }
    if (t->twin && !uuid_is_none(t->copies.base)) {
        m.mig_copy_base =
            (ProtobufCBinaryData){sizeof t->copies.base.b, t->copies.base.b};
    }
    ha_vmmtwin_send(l, &m, fds, count);
}

/* What its VMM says of itself is heard now and then, for people. */
void ha_vmmtwin_ask(void *data)
{
    struct ha_local *l = data;

    l->twin->ask_timer = 0;
    ha_vmmlink_request(l, GEMEL__VMM_REQUEST__KIND__STATUS);
    (void)loop_timer_add(l->vmm->loop, ASK_NS, ha_vmmtwin_ask, l, &l->twin->ask_timer);
}

void ha_vmmtwin_step(struct ha_local *l, const char *what)
{
    l->vmm->ops->step(l->vmm->ctx, l->name, what);
}

bool ha_vmmtwin_is(const struct ha_local *l, const char *state)
{
    return strcmp(l->twin->state, state) == 0;
}

/* The other side is heard again, and no claim of ours was tried meanwhile: as before. Its
 * silence may never have been told: what a VMM that was stopped finds in its socket comes
 * in the same report. */
void ha_vmmtwin_heard_again(struct ha_local *l)
{
    struct ha_twinning *t = l->twin;

    if (t->claiming == CLAIM_KIND_NONE && t->inherited) {
        /* An agent before this one may have made the claim: its storage knows. */
        ha_vmmtwin_claim(l, t->twin ? CLAIM_GO_LIVE : CLAIM_GO_ALONE);
    } else if (t->claiming == CLAIM_KIND_NONE || ha_vmmtwin_unclaim(l)) {
        ha_vmmtwin_order(l, GEMEL__VMM_REQUEST__KIND__FT_GO_ON);
    }
}

/* Both
 * ----------------------------------------------------------------------------------------
 */

void ha_vmmtwin_disks(struct ha_local *l, const char *why)
{
    struct ha_twinning *t = l->twin;

    if (why != NULL && t->twin) {
        ha_vmmsec_fail(l, why);
    } else if (why != NULL && t->step != TWIN_BACK) {
        ha_vmmpri_give_up(l, why);
    } else if (t->twin && t->step == TWIN_FIRST) {
        ha_vmmsec_launch(l);
    } else if (!t->twin && t->step == TWIN_FIRST) {
        ha_vmmpri_offers(l);
    }
}

void ha_vmmtwin_claimed(struct ha_local *l, enum claim_kind kind, enum twin_claimed what,
                        const char *text)
{
    if (l->twin->twin) {
        ha_vmmsec_claimed(l, what, text);
    } else {
        ha_vmmpri_claimed(l, kind, what, text);
    }
}

void ha_vmmtwin_linked(struct ha_local *l)
{
    Gemel__VmmRequest m = GEMEL__VMM_REQUEST__INIT;

    m.kind = l->twin->step == TWIN_PREPARE ? GEMEL__VMM_REQUEST__KIND__MIGRATE_PREPARE
                                           : GEMEL__VMM_REQUEST__KIND__STATUS;
    ha_vmmtwin_send(l, &m, NULL, 0);
}

static void refused(struct ha_local *l, const char *why)
{
    struct ha_twinning *t = l->twin;

    log_warn("vm %s: refused: %s", l->name, why);
    if (t->step == TWIN_ON && t->twin && ha_vmmsec_may_take_over(l)) {
        ha_vmmsec_take_over(l, why); /* no way back: its primary is lost after all */
    } else if ((t->step == TWIN_ON || t->step == TWIN_BACK) && !t->twin &&
               ha_vmmpri_holds(l)) {
        ha_vmmtwin_claim(l, CLAIM_GO_ALONE);
    } else if (t->twin) {
        ha_vmmsec_fail(l, why);
    } else if (t->step < TWIN_ON && t->step != TWIN_BACK) {
        ha_vmmpri_give_up(l, why);
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
        ha_vmmpri_memory(l, r);
        return;
    }
    ha_text_set(t->state, sizeof t->state, r->ft_state, NULL);
    t->lag_us = r->ft_lag_us;
    t->log_bytes = r->ft_log_bytes;
    t->diverged = r->ft_diverged;
    t->exits = r->ft_exits;
    t->replayed = r->ft_replayed;
    if (t->found && ha_vmmpri_found(l, r)) {
        return;
    }
    if (r->ft_role == 0 && t->twin) {
        ha_vmmsec_memory(l, r);
    } else if (t->twin) {
        ha_vmmsec_session(l, r);
    } else {
        ha_vmmpri_session(l, r);
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

void ha_vmmtwin_killed(struct ha_local *l)
{
    if (l->twin != NULL && l->twin->twin && l->twin->step == TWIN_ON &&
        !l->twin->submitted && !l->discarded) {
        ha_vmmtwin_tell(l, HA_OUTCOME_TWIN_OFF, l->outcome_text);
    }
}

bool ha_vmmtwin_leaves_claim(const struct ha_local *l)
{
    return l->twin != NULL && !l->twin->twin && l->twin->step == TWIN_ON &&
           !l->stopping && !l->guest_shutdown && !l->discarded;
}

bool ha_vmmtwin_is_one(const struct ha_local *l)
{
    return l->twin != NULL && l->twin->twin;
}

bool ha_vmmtwin_goes_live(const struct ha_local *l)
{
    return ha_vmmtwin_is_one(l) && (l->twin->submitted || l->twin->step == TWIN_LIVE);
}

bool ha_vmmtwin_has_all(const struct ha_local *l)
{
    const struct ha_twinning *t = l->twin;

    return t != NULL && !t->twin && t->step == TWIN_ON &&
           (l->alike || t->record.commit != CONF_FT_EPOCHS);
}

void ha_vmm_twin(struct ha_vmm *vmm, const struct ha_vm *vm)
{
    struct ha_local *l = ha_local_find(vmm, vm->uuid);
    bool begins = vm->twin.to != 0 && vm->twin.step == HA_TWIN_SYNC && !vm->twin.ending &&
                  vm->state == HA_VM_RUNNING;

    ha_vmmhold_told(vmm, vm);
    if (l != NULL && l->twin != NULL) {
        if (l->twin->twin) {
            ha_vmmsec_told(l, vm);
        } else {
            ha_vmmpri_told(l, vm);
        }
    } else if (begins && vm->twin.to == vmm->self.nodeid) {
        /* Its primary's offer says how large its disks are. */
        if (ha_moveend_known(&vm->twin.source) && !ha_moveend_known(&vm->twin.dest)) {
            ha_vmmsec_begin(vmm, vm);
        }
    } else if (begins && vm->owner == vmm->self.nodeid && l != NULL && !l->discarded &&
               !l->superseded && !ha_moveend_known(&vm->twin.source)) {
        ha_vmmpri_begin(l, vm);
    } else if (vm->twin.to != 0 && (vm->twin.ending || ha_vm_protected(vm)) &&
               vm->owner == vmm->self.nodeid && l != NULL && l->phase == LOCAL_RUNNING &&
               uuid_equal(l->instance, vm->instance)) {
        struct ha_vm_report r = {.vm = vm->uuid,
                                 .attempt = vm->twin.id,
                                 .instance = l->instance,
                                 .epoch = l->epoch,
                                 .outcome = HA_OUTCOME_TWIN_OFF,
                                 .text = "its twin is not heard any more"};

        if (uuid_equal(vm->twin.id, l->diverged_id)) {
            r.diverged_ms = l->diverged_ms;
            ha_text_set(r.text, sizeof r.text, "its twin went another way too often",
                        NULL);
        }
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
        ha_vmmtwin_new(l, &record, role == 2) == NULL) {
        return;
    }
    l->twin->joined = l->twin->found = l->twin->inherited = true;
    l->twin->step = on ? TWIN_ON : l->twin->twin ? TWIN_JOINING : TWIN_BACK;
    if (!on) {
        ha_text_set(l->twin->why, sizeof l->twin->why, "its agent was restarted", NULL);
    }
    if (l->twin->twin) {
        l->phase = LOCAL_STARTING;
    }
    (void)loop_timer_add(l->vmm->loop, ASK_NS, ha_vmmtwin_ask, l, &l->twin->ask_timer);
}
