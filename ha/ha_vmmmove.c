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
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/os.h"
#include "base/tcp_dial.h"
#include "base/uuid.h"
#include "fencing/claim_store.h"
#include "ha/ha_moveend.h"
#include "ha/ha_pending.h"
#include "ha/ha_storage.h"
#include "ha/ha_text.h"
#include "ha/ha_vmmmove_priv.h"

#define OFFER_NS    (20 * NSEC_PER_SEC)
#define HANDOVER_NS (10 * NSEC_PER_SEC) /* released, and nobody says that it runs */
#define CANCEL_NS   (5 * NSEC_PER_SEC)
#define LOOK_NS     (10 * NSEC_PER_MSEC)
#define ORPHAN_NS   (3 * NSEC_PER_SEC)
#define DIAL_MS     5000
#define LOST_MS     5000

/* Post-copy: a page that is waited for must not queue behind many that are not; and a
 * link that comes back is worth more than to know soon that it is gone. */
#define HOLES_LOST_MS 10000
#define HOLES_UNSENT  (128 * 1024)
#define HOLES_RECV    (256 * 1024)
#define SERVE_LOOK_NS (5 * NSEC_PER_SEC)

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

static void start_timer(struct ha_local *l, uint64_t ns, void (*fn)(void *data))
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

/* The source goes on
 * ---------------------------------------------------------------------------------- */

/* As it is, or by the next claim. `why` may be l's own. */
void ha_vmmmove_go_on(struct ha_local *l, const char *why)
{
    struct ha_moving *m = l->moving;
    char because[REASON_LEN_MAX + 1];

    if (m->step == MOVE_BACK) {
        return;
    }
    ha_text_set(because, sizeof because, why, NULL);
    ha_text_set(m->why, sizeof m->why,
                m->upgrade ? "not upgraded: " : "not migrated: ", because, NULL);
    log_warn("vm %s: %s", l->name, m->why);
    ha_vmmmove_stop_timer(l);
    tcp_dial_cancel(m->dial);
    m->dial = NULL;
    m->step = MOVE_BACK;
    ha_vmmupgrade_drop(l, m->why);
    if (l->phase == LOCAL_RUNNING) {
        char text[REASON_LEN_MAX + 1];

        ha_text_set(text, sizeof text, m->why, NULL);
        ha_vmmmove_free(l);
        ha_local_publish(l, false);
        ha_local_report(l, HA_OUTCOME_RUNNING, text);
        return;
    }
    l->phase = LOCAL_STARTING;
    l->thawing = true;
    l->entered = false;
    l->claim_won = false;
    if (ha_local_begin_claim(l) < 0) {
        ha_local_fail(l, "out of memory");
    }
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

/* It may answer later: it is told again then. */
static void cancel_timer_fn(void *data)
{
    struct ha_local *l = data;
    char why[REASON_LEN_MAX + 1];

    l->moving->timer = 0;
    ha_text_set(why, sizeof why, l->moving->why, "; its gemel-vmm does not answer", NULL);
    ha_vmmmove_go_on(l, why);
}

/* Called off by the agent: the VMM says what that led to. */
void ha_vmmmove_cancel(struct ha_local *l, const char *why)
{
    struct ha_moving *m = l->moving;

    switch (m->step) {
    case MOVE_SENDING:
    case MOVE_RELEASING:
        if (!m->cancelled) {
            m->cancelled = true;
            ha_text_set(m->why, sizeof m->why, why, NULL);
            ha_vmmlink_request(l, GEMEL__VMM_REQUEST__KIND__MIGRATE_CANCEL);
            start_timer(l, CANCEL_NS, cancel_timer_fn);
        }
        break;
    case MOVE_STORAGE:
    case MOVE_RELEASE:
        m->cancelled = true; /* when the worker is done: the claim decides */
        ha_text_set(m->why, sizeof m->why, why, NULL);
        break;
    case MOVE_HANDED_OVER:
        ha_vmmmove_go_on(l, why);
        break;
    case MOVE_PREPARE:
    case MOVE_OFFERED:
    case MOVE_DIAL:
    case MOVE_RECEIVING:
    case MOVE_READY:
        ha_vmmmove_go_on(l, why);
        break;
    case MOVE_BACK:
    default:
        break;
    }
}

static void offer_timer_fn(void *data)
{
    struct ha_local *l = data;

    l->moving->timer = 0;
    ha_vmmmove_cancel(l, "the other node did not answer in time");
}

static void handover_timer_fn(void *data)
{
    struct ha_local *l = data;

    l->moving->timer = 0;
    ha_vmmmove_go_on(l, "the destination did not take it over in time");
}

/* Release
 * ---------------------------------------------------------------------------------- */

struct handover_job {
    struct ha_vmm *vmm;
    uint64_t local_id;
    char dir[PATH_LEN_MAX * 2];
    struct ha_disk_list disks;
    struct claim_release release;
    enum claim_outcome outcome;
    bool submitted;
    char why[REASON_LEN_MAX + 1];
    int r;
};

static void handover_work(void *data)
{
    struct handover_job *job = data;

    job->r = ha_disks_drain(&job->disks, job->why, sizeof job->why);
    if (job->r < 0) {
        return;
    }
    job->submitted = true;
    job->r = claim_store_release(job->dir, &job->release, &job->outcome, job->why,
                                 sizeof job->why);
    if (job->r == 0 && job->outcome != CLAIM_OUTCOME_WON) {
        job->r = -EALREADY;
        ha_text_set(job->why, sizeof job->why, "its claim is released already", NULL);
    }
}

static void handover_done(void *data)
{
    struct handover_job *job = data;
    struct ha_local *l = ha_local_by_id(job->vmm, job->local_id);

    if (l != NULL && l->moving != NULL) {
        l->take_back = l->take_back || job->submitted;
        l->moving->step = MOVE_HANDED_OVER;
        l->moving->busy = false;
        if (l->ended) {
            l->outcome = l->take_back ? HA_OUTCOME_MOVED : l->outcome;
            ha_vmmupgrade_ended(l);
            ha_local_gone(l);
        } else if (job->r < 0) {
            ha_vmmmove_go_on(l, job->why);
        } else if (l->moving->cancelled) {
            ha_vmmmove_go_on(l, l->moving->why);
        } else {
            l->vmm->ops->step(l->vmm->ctx, l->name, "released to the destination");
            start_timer(l, HANDOVER_NS, handover_timer_fn);
            if (l->successor != NULL) {
                ha_vmmmove_look(l->successor);
            }
        }
    }
    free(job);
}

static void release(struct ha_local *l)
{
    struct handover_job *job = calloc(1, sizeof *job);

    l->moving->step = MOVE_RELEASE;
    if (job != NULL) {
        job->vmm = l->vmm;
        job->local_id = l->id;
        ha_text_set(job->dir, sizeof job->dir, l->dir, NULL);
        ha_local_disks(l, &job->disks);
        job->release = (struct claim_release){.vm = l->vm,
                                              .epoch = l->epoch,
                                              .instance = l->instance,
                                              .to = l->moving->move.instance};
    }
    if (job == NULL ||
        worker_submit(l->vmm->worker, l->id, handover_work, handover_done, job) < 0) {
        free(job);
        ha_vmmmove_go_on(l, "out of memory");
        return;
    }
    l->moving->busy = true;
}

void ha_vmmmove_storage_gone(struct ha_local *l)
{
    release(l);
}

/* The VMM moves no more by itself: whatever it has to do with its disks is done. */
static void let_go(struct ha_local *l)
{
    if (l->moving->cancelled) {
        ha_vmmmove_go_on(l, l->moving->why);
    } else if (ha_storage_up(l)) {
        l->moving->step = MOVE_STORAGE;
        ha_storage_quit(l); /* a thaw brings another one */
    } else {
        release(l);
    }
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
    start_timer(l, OFFER_NS, offer_timer_fn);
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
            let_go(l);
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
    start_timer(l, LOOK_NS, look_timer_fn);
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
        start_timer(l, ORPHAN_NS, answer_timer_fn);
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
        start_timer(l, OFFER_NS, answer_timer_fn);
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
static void report_of_holes(struct ha_local *l, const Gemel__VmmReport *r)
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

void ha_vmmmove_report(struct ha_local *l, const Gemel__VmmReport *r)
{
    struct ha_moving *m = l->moving;

    if (l->discarded || m == NULL) {
        report_of_holes(l, r);
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
