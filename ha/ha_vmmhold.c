/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disks that both nodes of a protected VM reach, when its twin goes live (design 5
 * R2, 7.5). The twin opens them with its claim, not before, and what it writes is held by
 * its gemel-vmm until nothing of the old host can come any more: that node is proven dead
 * and has settled, or its agent says that the process is gone and what it wrote is out.
 * It says so by the release of the old claim, which nobody else can make, and which
 * stands for later owners as well.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/nbd_uri.h"
#include "base/uuid.h"
#include "fencing/claim_store.h"
#include "ha/ha_text.h"
#include "ha/ha_vmmtwin_priv.h"

#define LOOK_NS     (100 * NSEC_PER_MSEC)
#define LOOK_SLOW   50u /* looks, then less often */
#define LOOK_LATE   (500 * NSEC_PER_MSEC)
#define SAY_NS      NSEC_PER_SEC
#define OPEN_AGAIN  (200 * NSEC_PER_MSEC)
#define OPEN_MAX_NS (30 * NSEC_PER_SEC)

uint32_t ha_vmmhold_unguarded(const struct ha_local *l)
{
    uint32_t mask = 0;

    for (unsigned i = 0; i < l->disk_count; i++) {
        const struct conf_disk *d = &l->disk[i];

        if (!d->read_only && !d->mirrored && d->exclusion != CONF_EXCLUDE_BY_EPOCH) {
            mask |= UINT32_C(1) << i;
        }
    }
    return mask;
}

void ha_vmmhold_verdict(const struct ha_local *l, const struct claim *claim,
                        const struct claim_evidence *known,
                        struct claim_disk_verdict *ret_verdict)
{
    struct claim shared = *claim;

    if (ha_vmmhold_unguarded(l) != 0) {
        shared.mirror_count = 0; /* others reach them as well */
    }
    claim_may_touch_disk(&shared, known, ret_verdict);
}

/* The claim says that nothing of an earlier owner can come any more; if not, of whom. */
static bool is_free(struct ha_local *l, const struct claim *claim,
                    const struct claim_halt *halts, uint32_t halt_count,
                    struct claim_who *ret_waits_for)
{
    struct claim_evidence known = ha_local_evidence(l);
    struct claim_disk_verdict verdict;

    known.halts = halts;
    known.halt_count = halt_count;
    ha_vmmhold_verdict(l, claim, &known, &verdict);
    *ret_waits_for = verdict.who.who;
    return verdict.reason == CLAIM_DISK_OK;
}

/* The twin opens them
 * ------------------------------------------------------------------------------- */

struct open_job {
    struct ha_vmm *vmm;
    uint64_t local_id;
    unsigned count;
    struct {
        char path[PATH_LEN_MAX * 3];
        bool read_only, nbd;
    } disk[VM_DISKS_MAX];
    int fd[VM_DISKS_MAX];
    unsigned opened;
    uint64_t began_ns;
    char why[REASON_LEN_MAX + 1];
};

static int open_one(struct open_job *job, unsigned i)
{
    struct nbd_uri uri;
    int fd;

    if (job->disk[i].nbd) {
        return nbd_uri_parse(job->disk[i].path, &uri) != NULL
                   ? -EINVAL
                   : nbd_uri_connect(&uri, NBD_CONNECT_MS, &job->fd[i]);
    }
    fd =
        open(job->disk[i].path, (job->disk[i].read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC);
    job->fd[i] = fd;
    return fd < 0 ? -errno : 0;
}

static void open_work(void *data)
{
    struct open_job *job = data;

    job->began_ns = loop_now_ns(); /* not when it was put in the queue */
    while (job->opened < job->count) {
        int r = open_one(job, job->opened);

        if (r < 0) {
            ha_text_set(job->why, sizeof job->why, "its shared disk ",
                        job->disk[job->opened].path,
                        " cannot be opened here: ", strerror(-r), NULL);
            return;
        }
        job->opened++;
    }
}

static void open_again_fn(void *data)
{
    struct ha_local *l = data;

    l->twin->timer = 0;
    ha_vmmhold_go_live(l);
}

static void send_live(struct ha_local *l, const int *fds, unsigned count)
{
    Gemel__VmmRequest m = GEMEL__VMM_REQUEST__INIT;
    struct claim_who who;

    m.kind = GEMEL__VMM_REQUEST__KIND__FT_CLAIM_WON;
    m.ft_hold = is_free(l, &l->claim, NULL, 0, &who) ? 0 : ha_vmmhold_unguarded(l);
    ha_vmmtwin_send(l, &m, fds, count);
}

static void open_done(void *data)
{
    struct open_job *job = data;
    struct ha_local *l = ha_local_by_id(job->vmm, job->local_id);

    if (l == NULL || l->twin == NULL || l->ended || l->stopping) {
        goto out;
    }
    if (l->twin->opens_ns == 0) {
        l->twin->opens_ns = job->began_ns;
    }
    if (job->opened == job->count) {
        send_live(l, job->fd, job->count);
    } else if (loop_now_ns() - l->twin->opens_ns < OPEN_MAX_NS) {
        log_warn("vm %s: %s", l->name, job->why); /* its outputs wait as well */
        ha_vmmtwin_start_timer(l, OPEN_AGAIN, open_again_fn);
    } else {
        ha_vmmsec_fail(l, job->why);
    }
out:
    for (unsigned i = 0; i < job->opened; i++) {
        close(job->fd[i]);
    }
    free(job);
}

void ha_vmmhold_go_live(struct ha_local *l)
{
    uint32_t follow = ha_vmmtwin_mirrors(l);
    struct open_job *job = calloc(1, sizeof *job);

    if (job == NULL) {
        ha_vmmsec_fail(l, "out of memory");
        return;
    }
    job->vmm = l->vmm;
    job->local_id = l->id;
    for (unsigned i = 0; i < l->disk_count; i++) {
        if ((follow >> i & 1) == 0) {
            unsigned n = job->count++;

            ha_local_disk_path(l, &l->disk[i], job->disk[n].path,
                               sizeof job->disk[n].path);
            job->disk[n].read_only = l->disk[i].read_only;
            job->disk[n].nbd = conf_disk_is_nbd(&l->disk[i]);
        }
    }
    if (job->count == 0) {
        send_live(l, NULL, 0);
        free(job);
    } else if (worker_submit(l->vmm->disk_worker, ha_local_open_key(l), open_work,
                             open_done, job) < 0) {
        free(job);
        ha_vmmsec_fail(l, "out of memory");
    }
}

/* Its writes are held
 * ------------------------------------------------------------------------------- */

struct look_job {
    struct ha_vmm *vmm;
    uint64_t local_id;
    struct uuid vm;
    char dir[PATH_LEN_MAX * 2];
    struct claim_found found;
    struct claim_halt halts[2 * CLAIM_UNEXCLUDED_MAX];
    uint32_t halt_count;
    char text[REASON_LEN_MAX + 1];
    int r;
};

static void look_work(void *data)
{
    struct look_job *job = data;

    job->r =
        claim_store_read(job->dir, job->vm, &job->found, job->text, sizeof job->text);
    if (job->r == 0) {
        job->halt_count = claim_store_gave_up(job->dir, &job->found.claim, job->halts);
    }
}

static void look_fn(void *data);

static void look_later(struct ha_local *l, uint64_t ns)
{
    loop_timer_del(l->vmm->loop, &l->hold_timer);
    (void)loop_timer_add(l->vmm->loop, ns, look_fn, l, &l->hold_timer);
}

/* Once a second: a report may be lost with its view. */
static void tell_that_it_holds(struct ha_local *l, const struct claim_who *who)
{
    const struct ha_vm *vm = l->vmm->ops->record(l->vmm->ctx, l->vm);
    struct ha_vm_report r = {.vm = l->vm,
                             .attempt = l->attempt,
                             .instance = l->instance,
                             .outcome = HA_OUTCOME_HOLDS,
                             .epoch = l->epoch,
                             .held = *who};
    uint64_t now_ns = loop_now_ns();

    if (vm == NULL || vm->owner != l->vmm->self.nodeid ||
        !uuid_equal(vm->instance, l->instance) || l->phase != LOCAL_RUNNING ||
        (ha_vm_holds(vm) && vm->held.node == who->node_id &&
         incarnation_equal(&vm->held.incarnation, &who->inc)) ||
        (l->hold_told_ns != 0 && now_ns - l->hold_told_ns < SAY_NS)) {
        return;
    }
    l->hold_told_ns = now_ns;
    l->vmm->ops->report(l->vmm->ctx, &r);
}

static void look_done(void *data)
{
    struct look_job *job = data;
    struct claim_who who;
    struct ha_local *l = ha_local_by_id(job->vmm, job->local_id);
    const struct claim *claim = &job->found.claim;

    if (l == NULL) {
        free(job);
        return;
    }
    l->hold_busy = false;
    if (job->r == 0 && job->found.have_claim && l->held != 0 &&
        uuid_equal(claim->owner.instance, l->instance)) {
        job->halt_count +=
            ha_local_gone_here(l->vmm, claim, job->halts + job->halt_count);
        if (!is_free(l, claim, job->halts, job->halt_count, &who)) {
            tell_that_it_holds(l, &who);
        } else {
            Gemel__VmmRequest m = GEMEL__VMM_REQUEST__INIT;

            m.kind = GEMEL__VMM_REQUEST__KIND__FT_EXCLUDED;
            m.ft_hold = l->held;
            l->vmm->ops->step(l->vmm->ctx, l->name, "its old host writes no more");
            ha_vmmlink_send(l, &m, NULL, 0);
        }
    }
    look_later(l, l->hold_looks < LOOK_SLOW ? LOOK_NS : LOOK_LATE);
    free(job);
}

static void look(struct ha_local *l)
{
    struct look_job *job = calloc(1, sizeof *job);

    if (job == NULL) {
        return;
    }
    job->vmm = l->vmm;
    job->local_id = l->id;
    job->vm = l->vm;
    ha_text_set(job->dir, sizeof job->dir, l->dir, NULL);
    l->hold_looks++;
    l->hold_busy = worker_submit(l->vmm->worker, l->id, look_work, look_done, job) == 0;
    if (!l->hold_busy) {
        free(job);
    }
}

/* The record says it until it has heard. */
static bool says(struct ha_local *l)
{
    const struct ha_vm *vm = l->vmm->ops->record(l->vmm->ctx, l->vm);
    struct ha_vm_report r = {.vm = l->vm,
                             .attempt = l->attempt,
                             .instance = l->instance,
                             .outcome = HA_OUTCOME_EXCLUDED,
                             .epoch = l->epoch};

    /* After an agent restart its VMM speaks first. */
    if (!l->hold_heard || vm == NULL || !ha_vm_holds(vm) ||
        !uuid_equal(vm->instance, l->instance) || l->phase != LOCAL_RUNNING) {
        return false;
    }
    ha_text_set(r.text, sizeof r.text, "its old host writes no more", NULL);
    l->vmm->ops->report(l->vmm->ctx, &r);
    return true;
}

static void look_fn(void *data)
{
    struct ha_local *l = data;

    l->hold_timer = 0;
    if (l->ended || l->discarded) {
        return;
    }
    if (l->held != 0 && !l->hold_busy) {
        look(l);
        if (!l->hold_busy) {
            look_later(l, LOOK_LATE);
        }
    } else if (l->held == 0 && says(l)) {
        look_later(l, SAY_NS);
    }
}

static void kick(struct ha_local *l)
{
    if (l->hold_timer == 0 && !l->hold_busy) {
        l->hold_looks = 0;
        look_later(l, 0);
    }
}

void ha_vmmhold_report(struct ha_local *l, const Gemel__VmmReport *m)
{
    uint32_t before = l->held;

    bool first = !l->hold_heard;

    l->held = m->ft_held;
    l->held_bytes = m->ft_held_bytes;
    l->hold_heard = true;
    if (before != l->held || first) {
        loop_timer_del(l->vmm->loop, &l->hold_timer);
        kick(l);
    }
}

void ha_vmmhold_told(struct ha_vmm *vmm, const struct ha_vm *vm)
{
    struct ha_local *l = ha_local_find(vmm, vm->uuid);

    if (ha_vm_holds(vm) && vm->owner == vmm->self.nodeid && l != NULL &&
        uuid_equal(l->instance, vm->instance)) {
        kick(l);
    }
    ha_vmmgone_told(vmm, vm);
}
