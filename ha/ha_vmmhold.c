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
#define GONE_TRIES  60u

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

/* The claim says that nothing of an earlier owner can come any more. */
static bool is_free(struct ha_local *l, const struct claim *claim,
                    const struct claim_halt *halts, uint32_t halt_count)
{
    struct claim_evidence known = ha_local_evidence(l);
    struct claim_disk_verdict verdict;

    known.halts = halts;
    known.halt_count = halt_count;
    ha_vmmhold_verdict(l, claim, &known, &verdict);
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

    m.kind = GEMEL__VMM_REQUEST__KIND__FT_CLAIM_WON;
    m.ft_hold = is_free(l, &l->claim, NULL, 0) ? 0 : ha_vmmhold_unguarded(l);
    ha_vmmtwin_send(l, &m, fds, count);
}

static void open_done(void *data)
{
    struct open_job *job = data;
    struct ha_local *l = ha_local_by_id(job->vmm, job->local_id);

    if (l == NULL || l->twin == NULL || l->ended || l->stopping) {
        goto out;
    }
    if (job->opened == job->count) {
        send_live(l, job->fd, job->count);
    } else if (loop_now_ns() - l->twin->began_ns < OPEN_MAX_NS) {
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
    } else if (worker_submit(l->vmm->disk_worker, l->id, open_work, open_done, job) < 0) {
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

static void look_done(void *data)
{
    struct look_job *job = data;
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
        if (is_free(l, claim, job->halts, job->halt_count)) {
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

    if (vm == NULL || !ha_vm_holds(vm) || !uuid_equal(vm->instance, l->instance) ||
        l->phase != LOCAL_RUNNING) {
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

    l->held = m->ft_held;
    l->held_bytes = m->ft_held_bytes;
    if (before != l->held) {
        loop_timer_del(l->vmm->loop, &l->hold_timer);
        kick(l);
    }
}

/* The old owner's node
 * ------------------------------------------------------------------------------ */

struct gone_job {
    struct ha_vmm *vmm;
    uint64_t id;
    struct uuid vm;
    char name[VM_NAME_MAX + 1], dir[PATH_LEN_MAX * 2];
    struct ha_disk_list disks;
    bool settles; /* a server may still carry out what the process asked it for */
    struct claim_found found;
    struct claim_halt gone[CLAIM_UNEXCLUDED_MAX];
    uint32_t gone_count;
    unsigned tries;
    loop_timer timer;
    char text[REASON_LEN_MAX + 1];
    int r;
};

static void gone_read(struct gone_job *job);

static void gone_again_fn(void *data)
{
    struct gone_job *job = data;

    job->timer = 0;
    gone_read(job);
}

static void gone_later(struct gone_job *job)
{
    log_warn("vm %s: its end here cannot be acknowledged: %s", job->name, job->text);
    if (++job->tries >= GONE_TRIES ||
        loop_timer_add(job->vmm->loop, NSEC_PER_SEC, gone_again_fn, job, &job->timer) <
            0) {
        free(job);
    }
}

static void drain_work(void *data)
{
    struct gone_job *job = data;
    enum claim_outcome outcome;

    job->r = ha_disks_drain(&job->disks, job->text, sizeof job->text);
    for (uint32_t i = 0; i < job->gone_count && job->r == 0; i++) {
        struct claim_release release = {.vm = job->vm,
                                        .epoch = job->gone[i].epoch,
                                        .instance = job->gone[i].instance};

        job->r = claim_store_release(job->dir, &release, &outcome, job->text,
                                     sizeof job->text);
    }
}

static void drain_done(void *data)
{
    struct gone_job *job = data;

    if (job->r < 0) {
        gone_later(job);
        return;
    }
    log_info("vm %s: nothing of it is left here, and what it wrote is out", job->name);
    free(job);
}

static void gone_work(void *data)
{
    struct gone_job *job = data;

    job->r =
        claim_store_read(job->dir, job->vm, &job->found, job->text, sizeof job->text);
}

static void settled_fn(void *data)
{
    struct gone_job *job = data;

    job->timer = 0;
    if (worker_submit(job->vmm->disk_worker, job->id, drain_work, drain_done, job) < 0) {
        ha_text_set(job->text, sizeof job->text, "out of memory", NULL);
        gone_later(job);
    }
}

/* Nothing tells when a server without epochs is done: as after a proof of death, time
 * does. */
static void settle(struct gone_job *job)
{
    uint64_t ns = job->settles ? job->vmm->ops->settle_ns(job->vmm->ctx) : 0;

    if (ns == 0) {
        settled_fn(job);
    } else if (ns == UINT64_MAX ||
               loop_timer_add(job->vmm->loop, ns, settled_fn, job, &job->timer) < 0) {
        free(job); /* a proof of death it is, then */
    }
}

static void gone_done(void *data)
{
    struct gone_job *job = data;

    if (job->r < 0) {
        gone_later(job);
        return;
    }
    job->gone_count = job->found.have_claim
                          ? ha_local_gone_here(job->vmm, &job->found.claim, job->gone)
                          : 0;
    if (job->gone_count == 0) {
        free(job);
    } else {
        settle(job);
    }
}

static void gone_read(struct gone_job *job)
{
    if (worker_submit(job->vmm->worker, job->id, gone_work, gone_done, job) < 0) {
        ha_text_set(job->text, sizeof job->text, "out of memory", NULL);
        gone_later(job);
    }
}

/* All that it could write to: its definition now, or the one it ran with. */
static void list_disks(struct gone_job *job, const struct conf_vm *conf)
{
    for (unsigned i = 0; i < conf->disk_count && job->disks.count < VM_DISKS_MAX; i++) {
        const struct conf_disk *d = &conf->disk[i];

        job->settles = job->settles || (conf_disk_is_nbd(d) && !d->read_only &&
                                        d->exclusion != CONF_EXCLUDE_BY_EPOCH);
        if (!d->read_only && !conf_disk_is_nbd(d)) {
            bool absolute = d->path[0] == '/';

            snprintf(job->disks.path[job->disks.count++], sizeof job->disks.path[0],
                     "%s%s%s", absolute ? "" : job->dir, absolute ? "" : "/", d->path);
        }
    }
}

static void acknowledge_end(struct ha_vmm *vmm, const struct ha_vm *vm)
{
    const struct conf_vm *conf = vm->runs_conf != NULL ? vm->runs_conf : vm->conf;
    struct gone_job *job = conf != NULL ? calloc(1, sizeof *job) : NULL;

    if (job == NULL) {
        return; /* a proof of death does as well */
    }
    job->vmm = vmm;
    job->id = ++vmm->next_id;
    job->vm = vm->uuid;
    ha_text_set(job->name, sizeof job->name, vm->name, NULL);
    snprintf(job->dir, sizeof job->dir, "%s/%s", vmm->node.vmroot, vm->name);
    list_disks(job, conf);
    gone_read(job);
}

void ha_vmmhold_told(struct ha_vmm *vmm, const struct ha_vm *vm)
{
    struct ha_local *l = ha_local_find(vmm, vm->uuid);

    if (!ha_vm_holds(vm)) {
        return;
    }
    if (vm->owner == vmm->self.nodeid && l != NULL &&
        uuid_equal(l->instance, vm->instance)) {
        kick(l);
    }
    if (vm->held.node == vmm->self.nodeid && vm->owner != vmm->self.nodeid && l == NULL &&
        incarnation_equal(&vm->held.incarnation, &vmm->self.incarnation)) {
        acknowledge_end(vmm, vm);
    }
}
