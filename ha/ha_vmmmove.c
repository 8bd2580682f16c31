/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A live migration as its two nodes see it (ha_move.h has the coordinator's part). Both
 * ends are told by the record, offer what the other end must know, and hand sockets to
 * their gemel-vmm, which do the work.
 *
 *   source       prepare -> offered -> dial -> sending -> (ready) releasing -> storage
 *                -> release -> handed over, until the record says who runs it
 *   destination  prepare -> offered -> receiving -> ready: looks for the release, takes
 *                the next claim, START
 *
 * Until the release is submitted the source goes on, by itself if its guest never stood
 * still, else by the next claim. From then on the link decides (R4): the source runs
 * again only if it wins that claim itself.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/os.h"
#include "base/tcp_dial.h"
#include "base/uuid.h"
#include "ha/ha_moveend.h"
#include "ha/ha_pending.h"
#include "ha/ha_text.h"
#include "ha/ha_vmmmove_priv.h"

#define OFFER_NS  (20 * NSEC_PER_SEC)
#define LOOK_NS   (10 * NSEC_PER_MSEC)
#define ORPHAN_NS (3 * NSEC_PER_SEC)
#define DIAL_MS   5000
#define LOST_MS   5000

/* Post-copy: a page that is waited for must not queue behind many that are not; and a
 * link that comes back is worth more than to know soon that it is gone. */
#define HOLES_LOST_MS 10000
#define HOLES_UNSENT  (128 * 1024)
#define HOLES_RECV    (256 * 1024)

static const struct os_tcp_opts tcp_opts = {.lost_ms = LOST_MS};
static const struct os_tcp_opts holes_opts = {
    .lost_ms = HOLES_LOST_MS, .recv_buf = HOLES_RECV, .unsent = HOLES_UNSENT};

static const struct os_tcp_opts *opts_of(const struct ha_local *l)
{
    return l->moving->move.postcopy ? &holes_opts : &tcp_opts;
}

void ha_vmmmove_stop_timer(struct ha_local *l)
{
    loop_timer_del(l->vmm->loop, &l->moving->timer);
}

void ha_vmmmove_start_timer(struct ha_local *l, uint64_t ns, void (*fn)(void *data))
{
    ha_vmmmove_stop_timer(l);
    (void)loop_timer_add(l->vmm->loop, ns, fn, l, &l->moving->timer);
}

struct ha_moving *ha_vmmmove_new(struct ha_local *l, const struct ha_vm *vm,
                                 bool incoming)
{
    l->moving = calloc(1, sizeof *l->moving);
    if (l->moving != NULL) {
        l->moving->incoming = incoming;
        l->moving->move = vm->move;
        l->moving->listen_fd = l->moving->memory_fd = -1;
        l->moving->upgrade = vm->move.to == vm->owner;
        l->moving->began_ns = loop_now_ns();
    }
    return l->moving;
}

void ha_vmmmove_free(struct ha_local *l)
{
    struct ha_moving *m = l->moving;

    if (m == NULL) {
        return;
    }
    ha_vmmmove_stop_timer(l);
    tcp_dial_cancel(m->dial);
    if (m->listen_fd >= 0) {
        close(m->listen_fd);
    }
    if (m->memory_fd >= 0) {
        close(m->memory_fd);
    }
    free(m);
    l->moving = NULL;
    if (l->task == LOCAL_MIGRATE) {
        l->task = LOCAL_TASK_NONE;
    }
}

static void send_offer(struct ha_local *l)
{
    struct ha_vm_report r = {.vm = l->vm,
                             .attempt = l->attempt,
                             .instance = l->instance,
                             .outcome = HA_OUTCOME_MOVE_OFFER,
                             .epoch = l->epoch,
                             .offer = l->moving->offer};

    l->moving->step = MOVE_OFFERED;
    l->vmm->ops->report(l->vmm->ctx, &r);
}

static void ask(struct ha_local *l, Gemel__VmmRequest__Kind kind)
{
    l->moving->seq = l->seq + 1;
    ha_vmmlink_request(l, kind);
}

static void ask_prepare(struct ha_local *l)
{
    Gemel__VmmRequest m = GEMEL__VMM_REQUEST__INIT;

    m.kind = GEMEL__VMM_REQUEST__KIND__MIGRATE_PREPARE;
    m.mig_memory = l->moving->upgrade && !l->moving->incoming;
    l->moving->seq = l->seq + 1;
    ha_vmmlink_send(l, &m, NULL, 0);
}

void ha_vmmmove_hand_sockets(struct ha_local *l, const int *fds, size_t count,
                             const struct ha_move_end *peer)
{
    struct ha_move *move = &l->moving->move;
    Gemel__VmmRequest m = GEMEL__VMM_REQUEST__INIT;

    m.kind = l->moving->incoming ? GEMEL__VMM_REQUEST__KIND__MIGRATE_IN
                                 : GEMEL__VMM_REQUEST__KIND__MIGRATE_OUT;
    m.mig_transfer.data = l->attempt.b;
    m.mig_transfer.len = sizeof l->attempt.b;
    m.mig_token.data = move->dest.token;
    m.mig_token.len = sizeof move->dest.token;
    if (l->moving->incoming) {
        m.mig_token.data = l->moving->offer.token;
    }
    m.mig_memory = l->moving->upgrade && !l->moving->incoming;
    if (peer != NULL && !ha_moveend_plaintext(l->vmm)) {
        m.mig_peer_key.data = (uint8_t *)peer->key;
        m.mig_peer_key.len = sizeof peer->key;
    }
    m.mig_verify = move->verify;
    m.mig_no_compress = move->no_compress;
    m.mig_postcopy = move->postcopy;
    m.mig_timeout_ms = move->timeout_ms;
    m.mig_downtime_ms = move->downtime_ms;
    m.mig_slowdown = move->slowdown;
    m.mig_rate = move->rate_bps;
    l->moving->seq = l->seq + 1;
    ha_vmmlink_send(l, &m, fds, count);
}

const char *ha_vmmmove_thawed(struct ha_local *l, char text[REASON_LEN_MAX + 1])
{
    if (l->moving == NULL) {
        return NULL;
    }
    if (l->moving->incoming) {
        const struct ha_moving *m = l->moving;

        ha_text_set(text, REASON_LEN_MAX + 1, m->summary, "; stood still for about ",
                    NULL);
        ha_text_add_u64(text, REASON_LEN_MAX + 1,
                        m->frozen_ms + (loop_now_ns() - m->ready_ns) / NSEC_PER_MSEC);
        ha_text_add(text, REASON_LEN_MAX + 1, " ms");
    } else {
        ha_text_set(text, REASON_LEN_MAX + 1, l->moving->why, NULL);
        l->owes = false; /* its guest runs here */
    }
    ha_vmmmove_free(l);
    return text;
}

static void offer_timer_fn(void *data)
{
    struct ha_local *l = data;

    l->moving->timer = 0;
    ha_vmmmove_cancel(l, "the other node did not answer in time");
}

/* Source
 * ---------------------------------------------------------------------------------- */

static void dialled(int error, const int *fds, size_t count, void *data)
{
    struct ha_local *l = data;
    char why[REASON_LEN_MAX + 1];

    l->moving->dial = NULL;
    if (error < 0) {
        ha_text_set(why, sizeof why, "no connection to ", l->moving->move.dest.address,
                    ": ", strerror(-error), NULL);
        ha_vmmmove_go_on(l, why);
        return;
    }
    l->moving->step = MOVE_SENDING;
    ha_vmmmove_hand_sockets(l, fds, count, &l->moving->move.dest);
    for (size_t i = 0; i < count; i++) {
        close(fds[i]);
    }
}

static void dial(struct ha_local *l)
{
    const struct ha_move_end *dest = &l->moving->move.dest;
    int r;

    ha_vmmmove_stop_timer(l);
    l->moving->step = MOVE_DIAL;
    r = tcp_dial_start(l->vmm->loop, dest->address, dest->port, 1 + ha_moveend_streams(),
                       opts_of(l), DIAL_MS, dialled, l, &l->moving->dial);
    if (r < 0) {
        ha_vmmmove_go_on(l, strerror(-r));
    }
}

/* The record was changed: by the other end's offer, by an operator, by what is decided.
 */
static void source_told(struct ha_local *l, const struct ha_vm *vm)
{
    struct ha_moving *m = l->moving;

    if (!uuid_equal(vm->attempt, l->attempt)) {
        ha_vmmmove_cancel(l, "another order came");
        return;
    }
    if (!m->upgrade) {
        m->move = vm->move;
    }
    if (vm->state != HA_VM_MIGRATING && vm->move.to == 0) {
        return; /* over: it runs there, and this one is superseded; or here, as reported
                 */
    }
    if (vm->move.called_off && m->upgrade && m->step >= MOVE_STORAGE) {
        return; /* too late: the other one is about to take the claim */
    }
    if (vm->move.called_off) {
        ha_vmmmove_cancel(l, strncmp(vm->reason, "not migrated: ", 14) == 0
                                 ? vm->reason + 14
                                 : vm->reason);
    } else if (m->step == MOVE_OFFERED && ha_moveend_known(&m->move.dest)) {
        dial(l);
    }
}

/* The other end makes it of what the record says that runs; this node knows. */
static bool same_machine(const struct ha_local *l, const struct ha_vm *vm, char *why)
{
    struct conf_vm made, *now = &made;
    char changes[REASON_LEN_MAX / 2] = "disks";
    bool same = true;

    if (!ha_pending_goes_on(vm, &made)) {
        return true; /* nothing is made of it */
    }
    if (l->conf != NULL) {
        same = !ha_pending_machine(l->conf, now, changes, sizeof changes);
    } else {
        same = l->disk_count == now->disk_count;
        for (unsigned i = 0; same && i < l->disk_count; i++) {
            same = strcmp(l->disk[i].path, now->disk[i].path) == 0 &&
                   l->disk[i].format == now->disk[i].format;
        }
    }
    if (!same) {
        char text[REASON_LEN_MAX + 1];

        ha_pending_refusal(changes, text, sizeof text);
        ha_text_set(why, REASON_LEN_MAX + 1, "not migrated: " HA_REFUSED, text, NULL);
    }
    return same;
}

static void stays(struct ha_local *l, const char *why)
{
    ha_local_report(l, l->phase == LOCAL_FROZEN ? HA_OUTCOME_FROZEN : HA_OUTCOME_RUNNING,
                    why);
}

static void source_begin(struct ha_local *l, const struct ha_vm *vm)
{
    char why[REASON_LEN_MAX + 1];

    l->attempt = vm->attempt;
    /* The new process of an upgrade is made of what this one was made of. */
    if ((vm->move.to != vm->owner || l->conf == NULL) && !same_machine(l, vm, why)) {
        stays(l, why);
        return;
    }
    if (l->phase != LOCAL_RUNNING || l->stopping || !l->linked ||
        l->task != LOCAL_TASK_NONE || l->successor != NULL ||
        ha_vmmmove_new(l, vm, false) == NULL) {
        ha_text_set(why, sizeof why,
                    vm->move.to == vm->owner ? "not upgraded: " : "not migrated: ",
                    l->phase == LOCAL_FROZEN ? HA_REFUSED "it is frozen"
                                             : "its gemel-vmm cannot be reached now",
                    NULL);
        stays(l, why);
        return;
    }
    l->task = LOCAL_MIGRATE;
    ha_announce_end(l); /* soon it is to be heard of elsewhere */
    ha_local_publish(l, false);
    if (ha_local_save(l) < 0) {
        ha_vmmmove_go_on(l, HA_NOT_ON_RECORD);
        return;
    }
    ha_vmmmove_start_timer(l, OFFER_NS, offer_timer_fn);
    ask_prepare(l);
}

static void source_report(struct ha_local *l, const Gemel__VmmReport *r)
{
    struct ha_moving *m = l->moving;

    switch (r->mig_state) {
    case GEMEL__MIG_STATE__MIG_PREPARED:
        if (m->step == MOVE_PREPARE) {
            memcpy(m->offer.key, r->mig_key.data, r->mig_key.len);
            if (m->upgrade) {
                ha_vmmupgrade_prepared(l);
                break;
            }
            send_offer(l);
            if (ha_moveend_known(&m->move.dest)) {
                dial(l);
            }
        }
        break;
    case GEMEL__MIG_STATE__MIG_READY:
        if (m->step == MOVE_SENDING) {
            ha_text_set(m->summary, sizeof m->summary, r->mig_text, NULL);
            m->ready_ns = loop_now_ns();
            m->frozen_ms = r->mig_frozen_ms;
            m->step = MOVE_RELEASING;
            l->owes = r->mig_missing != 0;
            ha_local_save(l); /* also an agent that is restarted lets it serve */
            ask(l, GEMEL__VMM_REQUEST__KIND__MIGRATE_RELEASING);
        }
        break;
    case GEMEL__MIG_STATE__MIG_RELEASED:
        if (m->step == MOVE_RELEASING) {
            ha_vmmmove_let_go(l);
        }
        break;
    case GEMEL__MIG_STATE__MIG_FAILED:
        l->owes = false; /* to nobody any more */
        if (m->step == MOVE_SENDING || m->step == MOVE_RELEASING ||
            m->step == MOVE_HANDED_OVER) {
            ha_vmmmove_go_on(l, m->cancelled ? m->why : r->mig_text);
        } else if (m->step == MOVE_STORAGE || m->step == MOVE_RELEASE) {
            m->cancelled = true; /* when the worker is done: the claim decides */
            ha_text_set(m->why, sizeof m->why, r->mig_text, NULL);
        }
        break;
    case GEMEL__MIG_STATE__MIG_COPYING:
        if (r->mig_text[0] != '\0' && strcmp(r->mig_text, m->summary) != 0) {
            ha_text_set(m->summary, sizeof m->summary, r->mig_text, NULL);
            l->vmm->ops->step(l->vmm->ctx, l->name, m->summary); /* a prediction */
        }
        break;
    case GEMEL__MIG_STATE__MIG_SERVING:
        if (m->step == MOVE_HANDED_OVER) {
            ha_vmmmove_stop_timer(l); /* it runs there: never again here */
        }
        break;
    case GEMEL__MIG_STATE__MIG_CONNECTING:
    case GEMEL__MIG_STATE__MIG_FILLING:
    case GEMEL__MIG_STATE__MIG_DONE:
    case GEMEL__MIG_STATE__MIG_NONE:
    default:
        break;
    }
}

/* Destination
 * ---------------------------------------------------------------------------------- */

void ha_vmmmove_dest_fail(struct ha_local *l, const char *why)
{
    ha_text_set(l->outcome_text, sizeof l->outcome_text, why, NULL);
    ha_vmmmove_stop_timer(l);
    ha_local_fail(l, why);
}

static void answer_timer_fn(void *data)
{
    struct ha_local *l = data;

    l->moving->timer = 0;
    ha_vmmmove_dest_fail(l, "its source did not answer in time");
}

static void look_timer_fn(void *data)
{
    struct ha_local *l = data;

    l->moving->timer = 0;
    if (l->moving->orphan_ns != 0 && loop_now_ns() > l->moving->orphan_ns) {
        ha_vmmmove_dest_fail(l, "its source is gone and has not released it");
    } else if (ha_local_begin_claim(l) < 0) {
        ha_vmmmove_dest_fail(l, "out of memory");
    }
}

bool ha_vmmmove_not_yet(struct ha_local *l, enum claim_reason reason)
{
    if (l->moving == NULL || !l->moving->incoming || l->moving->step != MOVE_READY ||
        l->ended || reason == CLAIM_NO_BAD_VIEW || reason == CLAIM_NO_INSTANCE_USED) {
        return false;
    }
    ha_vmmmove_start_timer(l, LOOK_NS, look_timer_fn);
    return true;
}

/* Its source cannot say any more that it has released it; what it did, shows soon. */
static void hurry(struct ha_local *l)
{
    if (l->moving->step != MOVE_READY && !l->claim_won) {
        ha_vmmmove_dest_fail(l, "its source left before all of it was here");
    } else if (l->moving->orphan_ns == 0) {
        l->moving->orphan_ns = loop_now_ns() + ORPHAN_NS;
    }
}

static void listen_to_source(struct ha_local *l)
{
    struct ha_moving *m = l->moving;

    m->step = MOVE_RECEIVING;
    ha_vmmmove_stop_timer(l);
    ha_vmmmove_hand_sockets(l, &m->listen_fd, 1, &m->move.source);
    close(m->listen_fd);
    m->listen_fd = -1;
}

static void dest_told(struct ha_local *l, const struct ha_vm *vm)
{
    struct ha_moving *m = l->moving;
    bool over =
        !uuid_equal(vm->attempt, l->attempt) || vm->move.to == 0 || vm->move.called_off;

    if (over && !l->claim_pending && !l->claim_won) {
        ha_vmmmove_dest_fail(l, "the migration was given up");
        return;
    }
    if (over) {
        return; /* the claim decides */
    }
    m->move = vm->move;
    if (vm->state == HA_VM_UNKNOWN) {
        hurry(l);
    } else if (m->step == MOVE_OFFERED && ha_moveend_known(&m->move.source)) {
        listen_to_source(l);
    }
}

void ha_vmmmove_look(struct ha_local *l)
{
    if (l->moving->step == MOVE_READY && !l->claim_pending && !l->claim_won) {
        ha_vmmmove_stop_timer(l);
        look_timer_fn(l);
    }
}

void ha_vmmmove_orphan(struct ha_local *l)
{
    if (l->moving->orphan_ns == 0) {
        l->moving->orphan_ns = loop_now_ns() + ORPHAN_NS;
    }
    if (l->moving->step != MOVE_READY) {
        ha_vmmmove_start_timer(l, ORPHAN_NS, answer_timer_fn);
    }
}

static void offer_port(struct ha_local *l, const Gemel__VmmReport *r)
{
    struct ha_moving *m = l->moving;
    char why[REASON_LEN_MAX + 1];

    if (m->upgrade) {
        memcpy(m->offer.key, r->mig_key.data, r->mig_key.len);
        memcpy(m->offer.token, r->mig_token.data, r->mig_token.len);
        ha_vmmupgrade_connect(l);
        return;
    }
    if (ha_moveend_listen(l->vmm, r, opts_of(l), &m->offer, &m->listen_fd, why) < 0) {
        ha_vmmmove_dest_fail(l, why);
        return;
    }
    send_offer(l);
    if (ha_moveend_known(&m->move.source)) {
        listen_to_source(l);
    }
}

static void dest_report(struct ha_local *l, const Gemel__VmmReport *r)
{
    struct ha_moving *m = l->moving;

    switch (r->mig_state) {
    case GEMEL__MIG_STATE__MIG_PREPARED:
        if (m->step == MOVE_PREPARE) {
            offer_port(l, r);
        }
        break;
    case GEMEL__MIG_STATE__MIG_READY:
        if (m->step == MOVE_RECEIVING) {
            ha_vmmmove_stop_timer(l);
            m->step = MOVE_READY;
            m->ready_ns = loop_now_ns();
            m->frozen_ms = r->mig_frozen_ms;
            l->filling = r->mig_missing != 0;
            ha_text_set(m->summary, sizeof m->summary, r->mig_text, NULL);
            look_timer_fn(l);
        }
        break;
    case GEMEL__MIG_STATE__MIG_FAILED:
        if (!l->claim_won) {
            ha_vmmmove_dest_fail(l, r->mig_text);
        }
        break;
    case GEMEL__MIG_STATE__MIG_CONNECTING:
    case GEMEL__MIG_STATE__MIG_COPYING:
    case GEMEL__MIG_STATE__MIG_RELEASED:
    case GEMEL__MIG_STATE__MIG_FILLING:
    case GEMEL__MIG_STATE__MIG_SERVING:
    case GEMEL__MIG_STATE__MIG_DONE:
    case GEMEL__MIG_STATE__MIG_NONE:
    default:
        break;
    }
}

static void dest_begin(struct ha_vmm *vmm, const struct ha_vm *vm)
{
    struct ha_vm_report r = {
        .vm = vm->uuid, .attempt = vm->attempt, .outcome = HA_OUTCOME_MOVE_FAILED};
    struct ha_local *l = ha_local_find(vmm, vm->uuid);
    struct ha_vm runs = *vm; /* never what its next start is made of */
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
    l = ha_local_create(vmm, &runs, NULL);
    if (l == NULL) {
        return; /* the source waits for an offer */
    }
    if (ha_vmmmove_new(l, vm, true) == NULL) {
        ha_local_fail(l, "out of memory");
        return;
    }
    if (ha_local_launch(l)) {
        ha_vmmmove_start_timer(l, OFFER_NS, answer_timer_fn);
    }
}

/* Both
 * ---------------------------------------------------------------------------------- */

void ha_vmmmove_linked(struct ha_local *l)
{
    if (l->moving->step == MOVE_PREPARE) {
        ask_prepare(l);
    } else {
        ha_vmmlink_request(l, GEMEL__VMM_REQUEST__KIND__STATUS);
    }
}

void ha_vmmmove_report(struct ha_local *l, const Gemel__VmmReport *r)
{
    struct ha_moving *m = l->moving;

    if (l->discarded || m == NULL) {
        ha_vmmmove_report_of_holes(l, r);
    }
    if (l->discarded) {
        return;
    }
    if (m == NULL) {
        /* An agent that was restarted does not know of it, or it was slow to answer. */
        if (r->seq == 0 && r->ft_role == 0 &&
            (r->mig_state == GEMEL__MIG_STATE__MIG_COPYING ||
             r->mig_state == GEMEL__MIG_STATE__MIG_READY ||
             r->mig_state == GEMEL__MIG_STATE__MIG_RELEASED)) {
            ha_vmmlink_request(l, GEMEL__VMM_REQUEST__KIND__MIGRATE_CANCEL);
        }
        return;
    }
    if (!m->incoming && r->mig_state == GEMEL__MIG_STATE__MIG_COPYING) {
        struct ha_move_progress p = {
            .percent = r->mig_percent,
            .round = r->mig_round,
            .bps = r->mig_rate,
            .dirty_bps = r->mig_dirty_rate,
            .eta_ms = r->mig_eta_ms,
            .sent = r->mig_sent,
            .throttle = r->mig_throttle,
        };

        l->vmm->ops->progress(l->vmm->ctx, l->vm, &p);
    }
    if (r->seq != 0 && r->seq == m->seq && !r->ok) {
        if (m->incoming) {
            ha_vmmmove_dest_fail(l, r->error);
        } else {
            ha_vmmmove_go_on(l, r->error);
        }
    } else if (m->incoming) {
        dest_report(l, r);
    } else {
        source_report(l, r);
    }
}

void ha_vmm_move(struct ha_vmm *vmm, const struct ha_vm *vm)
{
    struct ha_local *l = ha_local_find(vmm, vm->uuid);
    bool begin = vm->state == HA_VM_MIGRATING && !vm->move.called_off;
    struct ha_vm_report gone = {.vm = vm->uuid,
                                .attempt = vm->attempt,
                                .outcome = HA_OUTCOME_ENDED,
                                .epoch = vm->epoch};

    if (l != NULL && l->moving != NULL) {
        if (l->moving->incoming) {
            dest_told(l, vm);
        } else {
            source_told(l, vm);
        }
    } else if (!begin && l == NULL && vm->move.to == vmm->self.nodeid) {
        /* What was here has ended, and that it did may not have been heard. */
        gone.outcome = HA_OUTCOME_MOVE_FAILED;
        gone.epoch = 0;
        ha_text_set(gone.text, sizeof gone.text, "nothing of it is there", NULL);
        vmm->ops->report(vmm->ctx, &gone);
    } else if (begin && vm->move.to == vmm->self.nodeid && vm->move.to != vm->owner) {
        if (l == NULL || !uuid_equal(l->attempt, vm->attempt)) {
            dest_begin(vmm, vm);
        }
    } else if (begin && vm->owner == vmm->self.nodeid && l != NULL) {
        if (!uuid_equal(l->attempt, vm->attempt)) {
            source_begin(l, vm);
        }
    } else if (begin && vm->owner == vmm->self.nodeid) {
        ha_text_set(gone.text, sizeof gone.text, "it does not run here", NULL);
        vmm->ops->report(vmm->ctx, &gone);
    } else if (vm->state == HA_VM_MIGRATING && vm->owner == vmm->self.nodeid &&
               l != NULL && !l->adopted &&
               (l->phase == LOCAL_RUNNING || l->phase == LOCAL_FROZEN)) {
        /* It goes on here, and that may not have been heard; or it never began. */
        l->attempt = vm->attempt;
        stays(l, vm->reason);
    }
}
