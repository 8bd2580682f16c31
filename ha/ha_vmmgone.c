/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The node of an old owner whose twin went live: its agent says that the process is gone
 * and what it wrote is out, by the release of that owner's claim, which nobody else can
 * make. It is tried until it works, or nobody waits for it any more.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/uuid.h"
#include "fencing/claim_store.h"
#include "ha/ha_text.h"
#include "ha/ha_vmm_priv.h"

#define AGAIN_NS      NSEC_PER_SEC
#define AGAIN_TRIES   60u /* then less often */
#define AGAIN_LATE_NS (10 * NSEC_PER_SEC)

/* What an instance that ended here could write to, for as long as somebody may ask. */
struct gone_left {
    struct gone_left *next;
    struct uuid vm;
    struct ha_disk_list disks;
    bool settles;
};

static struct gone_left *left_of(const struct ha_vmm *vmm, struct uuid vm)
{
    struct gone_left *left = vmm->left;

    while (left != NULL && !uuid_equal(left->vm, vm)) {
        left = left->next;
    }
    return left;
}

void ha_vmmgone_note(const struct ha_local *l)
{
    struct ha_vmm *vmm = l->vmm;
    struct gone_left *left = left_of(vmm, l->vm);

    if (left == NULL) {
        left = calloc(1, sizeof *left);
        if (left == NULL) {
            return; /* then it is asked by its record */
        }
        left->vm = l->vm;
        left->next = vmm->left;
        vmm->left = left;
    }
    ha_local_disks(l, &left->disks);
    left->settles = ha_local_settles(l) || (!l->ended_well && left->disks.count > 0);
}

static void forget(struct ha_vmm *vmm, struct uuid vm)
{
    struct gone_left *left = left_of(vmm, vm), **at = &vmm->left;

    if (left == NULL) {
        return;
    }
    while (*at != left) {
        at = &(*at)->next;
    }
    *at = left->next;
    free(left);
}

struct gone_job {
    struct gone_job *next;
    struct ha_vmm *vmm;
    uint64_t id;
    struct uuid vm;
    char name[VM_NAME_MAX + 1], dir[PATH_LEN_MAX * 2];
    struct ha_disk_list disks;
    bool settles; /* what the process asked its storage for may still be carried out */
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

static void job_end(struct gone_job *job)
{
    struct gone_job **at = &job->vmm->gone;

    while (*at != job) {
        at = &(*at)->next;
    }
    *at = job->next;
    free(job);
}

/* Somebody may wait for it for ever, so it is tried for ever; less often, later. */
static void gone_later(struct gone_job *job)
{
    struct ha_vmm *vmm = job->vmm;
    const struct ha_vm *vm = vmm->ops->record(vmm->ctx, job->vm);

    if (job->tries % AGAIN_TRIES == 0) {
        log_warn("vm %s: its end here cannot be acknowledged: %s; tried again", job->name,
                 job->text);
    }
    if (vm == NULL ||
        loop_timer_add(vmm->loop, ++job->tries < AGAIN_TRIES ? AGAIN_NS : AGAIN_LATE_NS,
                       gone_again_fn, job, &job->timer) < 0) {
        job_end(job);
    }
}

/* Of a VM that holds no more its owner would not speak. */
static void tell(const struct gone_job *job)
{
    struct ha_vmm *vmm = job->vmm;
    const struct ha_vm *vm = vmm->ops->record(vmm->ctx, job->vm);
    struct ha_vm_report r = {.vm = job->vm, .outcome = HA_OUTCOME_EXCLUDED};

    if (vm == NULL || vm->held.node != vmm->self.nodeid ||
        (ha_vm_holds(vm) && vm->state != HA_VM_STARTING)) {
        return;
    }
    r.attempt = vm->attempt;
    r.instance = vm->held.instance;
    r.epoch = vm->epoch;
    ha_text_set(r.text, sizeof r.text, "nothing of it is left on its old host", NULL);
    vmm->ops->report(vmm->ctx, &r);
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
    forget(job->vmm, job->vm);
    tell(job);
    job_end(job);
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

/* Nothing tells when a server without epochs is done, or a path that failed under a
 * process that did not end by itself: as after a proof of death, time does. */
static void settle(struct gone_job *job)
{
    uint64_t ns = job->settles ? job->vmm->ops->settle_ns(job->vmm->ctx) : 0;

    if (ns == 0) {
        settled_fn(job);
    } else if (ns == UINT64_MAX ||
               loop_timer_add(job->vmm->loop, ns, settled_fn, job, &job->timer) < 0) {
        job_end(job); /* a proof of death it is, then */
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
        tell(job);
        job_end(job);
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

/* How it ended nobody here knows: by the definition that it ran with, as on record. */
static void list_disks(struct gone_job *job, const struct conf_vm *conf)
{
    job->settles = conf_vm_unguarded_disks(conf) != 0;
    for (unsigned i = 0; i < conf->disk_count && job->disks.count < VM_DISKS_MAX; i++) {
        const struct conf_disk *d = &conf->disk[i];

        if (!d->read_only && !conf_disk_is_nbd(d)) {
            bool absolute = d->path[0] == '/';

            snprintf(job->disks.path[job->disks.count++], sizeof job->disks.path[0],
                     "%s%s%s", absolute ? "" : job->dir, absolute ? "" : "/", d->path);
        }
    }
}

static bool under_way(const struct ha_vmm *vmm, struct uuid vm)
{
    for (const struct gone_job *job = vmm->gone; job != NULL; job = job->next) {
        if (uuid_equal(job->vm, vm)) {
            return true;
        }
    }
    return false;
}

static void acknowledge_end(struct ha_vmm *vmm, const struct ha_vm *vm)
{
    const struct gone_left *left = left_of(vmm, vm->uuid);
    const struct conf_vm *conf = ha_vm_runs_as(vm);
    struct gone_job *job = conf != NULL || left != NULL ? calloc(1, sizeof *job) : NULL;

    if (job == NULL) {
        return; /* a proof of death does as well */
    }
    job->vmm = vmm;
    job->id = ++vmm->next_id;
    job->vm = vm->uuid;
    ha_text_set(job->name, sizeof job->name, vm->name, NULL);
    snprintf(job->dir, sizeof job->dir, "%s/%s", vmm->node.vmroot, vm->name);
    if (left != NULL) {
        job->disks = left->disks;
        job->settles = left->settles;
    } else {
        list_disks(job, conf);
    }
    job->next = vmm->gone;
    vmm->gone = job;
    gone_read(job);
}

void ha_vmmgone_told(struct ha_vmm *vmm, const struct ha_vm *vm)
{
    if (vm->held.node == vmm->self.nodeid &&
        incarnation_equal(&vm->held.incarnation, &vmm->self.incarnation) &&
        ha_local_find(vmm, vm->uuid) == NULL && !under_way(vmm, vm->uuid)) {
        acknowledge_end(vmm, vm);
    }
}

void ha_vmmgone_free(struct ha_vmm *vmm)
{
    while (vmm->gone != NULL) {
        struct gone_job *job = vmm->gone;

        vmm->gone = job->next;
        loop_timer_del(vmm->loop, &job->timer);
        free(job);
    }
    while (vmm->left != NULL) {
        forget(vmm, vmm->left->vm);
    }
}
