/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Suspend, snapshot, revert of a VM here. What blocks is done by workers, one step after
 * the other; between two steps the loop looks whether it is still wanted. Until the last
 * one of a suspend submits the release, whatever fails leaves a frozen VM, which is
 * reported as FROZEN and thaws by the next claim (R1).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/os.h"
#include "base/uuid.h"
#include "fencing/claim_store.h"
#include "ha/ha_leftovers.h"
#include "ha/ha_snapshot.h"
#include "ha/ha_storage.h"
#include "ha/ha_text.h"
#include "ha/ha_vmm_priv.h"

struct save_job {
    struct ha_vmm *vmm;
    uint64_t local_id;
    enum local_task task;
    enum save_step step;
    atomic_bool cancel;
    struct ha_snapshot snapshot; /* and the directory */
    struct ha_snapshot_info info;
    struct ha_disk_list disks; /* SUSPEND: to be drained */
    int fd;                    /* of the state; -1 */
    struct claim_release release;
    bool submitted; /* the release: from then on only a claim lets it run (R4) */
    enum claim_outcome outcome;
    bool undone; /* REVERT failed, and all is as it was */
    char why[REASON_LEN_MAX + 1];
    int r;
};

static const char *word_of(enum local_task task)
{
    return task == LOCAL_SUSPEND    ? "not suspended: "
           : task == LOCAL_SNAPSHOT ? "no snapshot: "
                                    : "not reverted: ";
}

/* On a worker: what an unfinished job has left on the shared file system. */
static void drop_work(void *data)
{
    struct save_job *job = data;
    char path[sizeof job->snapshot.dir + sizeof VMDIR_STATE_TMP + 1];

    if (job->fd >= 0) {
        close(job->fd);
    }
    if (job->task == LOCAL_SUSPEND) {
        snprintf(path, sizeof path, "%s/" VMDIR_STATE_TMP, job->snapshot.dir);
        (void)unlink(path);
    } else if (job->task == LOCAL_SNAPSHOT && job->step != SAVE_PREPARE) {
        ha_snapshot_abort(&job->snapshot);
    }
}

static void drop_done(void *data)
{
    free(data);
}

static void job_drop(struct save_job *job)
{
    if (worker_submit(job->vmm->disk_worker, job->local_id, drop_work, drop_done, job) <
        0) {
        if (job->fd >= 0) {
            close(job->fd);
        }
        free(job); /* the next one tidies up */
    }
}

static void task_over(struct ha_local *l)
{
    l->task = LOCAL_TASK_NONE;
    l->save_step = SAVE_NONE;
    l->save = NULL;
    l->save_seq = 0;
}

/* It goes on: as it is, or by a thaw. The job, if any, is not out with a worker. */
static void task_fail(struct ha_local *l, const char *why)
{
    char text[REASON_LEN_MAX + 1];
    struct save_job *job = l->save;

    ha_text_set(text, sizeof text, word_of(l->task), why, NULL);
    log_warn("vm %s: %s", l->name, text);
    task_over(l);
    if (job != NULL) {
        job_drop(job);
    }
    ha_local_publish(l, false);
    ha_local_report(l, l->phase == LOCAL_FROZEN ? HA_OUTCOME_FROZEN : HA_OUTCOME_RUNNING,
                    text);
}

/* The VM of a step that has ended, if its task is to go on. Else the job is dropped. */
static struct ha_local *still_wanted(struct save_job *job)
{
    struct ha_local *l = ha_local_by_id(job->vmm, job->local_id);

    if (l == NULL || l->save != job || l->stopping || l->discarded ||
        l->child.pidfd < 0) {
        if (l != NULL && l->save == job) {
            task_over(l);
        }
        job_drop(job);
        return NULL;
    }
    if (job->r < 0) {
        task_fail(l, job->why);
        return NULL;
    }
    return l;
}

static void submit(struct ha_local *l, struct worker *worker, enum save_step step,
                   worker_fn work, worker_fn done)
{
    l->save_step = l->save->step = step;
    if (worker_submit(worker, l->id, work, done, l->save) < 0) {
        task_fail(l, "out of memory");
    }
}

/* Freeze and save
 * ---------------------------------------------------------------------------------- */

static void prepare_work(void *data)
{
    struct save_job *job = data;
    char path[sizeof job->snapshot.dir + sizeof VMDIR_STATE_TMP + 1];

    ha_leftovers_owned(job->snapshot.dir, job->release.vm, job->release.instance);
    if (job->task == LOCAL_SNAPSHOT) {
        job->r = ha_snapshot_begin(&job->snapshot, job->why);
        if (job->r == 0) {
            job->step = SAVE_FREEZE; /* there is something to tidy up */
            job->r = ha_snapshot_open_state(&job->snapshot, &job->fd, job->why);
        }
        return;
    }
    snprintf(path, sizeof path, "%s/" VMDIR_STATE_TMP, job->snapshot.dir);
    job->fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (job->fd < 0) {
        job->r = -errno;
        ha_text_set(job->why, sizeof job->why, path, ": ", strerror(errno), NULL);
    }
}

static void prepare_done(void *data)
{
    struct ha_local *l = still_wanted(data);

    if (l == NULL) {
        return;
    }
    if (!l->linked) {
        task_fail(l, "its gemel-vmm cannot be reached");
        return;
    }
    l->save_step = l->save->step = SAVE_FREEZE;
    ha_vmmlink_request(l, GEMEL__VMM_REQUEST__KIND__FREEZE);
}

void ha_vmmsave_frozen(struct ha_local *l)
{
    if (l->phase == LOCAL_RUNNING) {
        l->phase = LOCAL_FROZEN;
        l->freezing = false;
        ha_local_publish(l, false);
    }
    if (l->save_step == SAVE_FREEZE) {
        l->save_step = l->save->step = SAVE_WRITE;
        ha_vmmlink_save(l, l->save->fd);
    }
}

static void finish_work(void *data)
{
    struct save_job *job = data;

    if (job->task == LOCAL_SNAPSHOT) {
        job->info.state = true;
        job->r = ha_snapshot_fill(&job->snapshot, &job->info, &job->cancel, job->why);
        return;
    }
    job->r = ha_vmdir_digest(job->fd, job->release.digest);
    if (job->r == 0 && fsync(job->fd) < 0) {
        job->r = -errno;
    }
    if (job->r < 0) {
        ha_text_set(job->why, sizeof job->why, VMDIR_STATE_TMP ": ", strerror(-job->r),
                    NULL);
        return;
    }
    job->r = ha_disks_drain(&job->disks, job->why, sizeof job->why);
}

static void commit_work(void *data);
static void commit_done(void *data);

static void finish_done(void *data)
{
    struct ha_local *l = still_wanted(data);

    if (l != NULL) {
        submit(l, l->vmm->worker, SAVE_COMMIT, commit_work, commit_done);
    }
}

void ha_vmmsave_saved(struct ha_local *l, const char *error)
{
    l->save_seq = 0;
    if (l->save_step != SAVE_WRITE) {
        return;
    }
    if (error != NULL) {
        task_fail(l, error);
        return;
    }
    ha_local_disks(l, &l->save->disks);
    if (ha_storage_up(l)) {
        l->save_step = SAVE_STORAGE;
        ha_storage_quit(l); /* a thaw brings another one */
        return;
    }
    submit(l, l->vmm->disk_worker, SAVE_FINISH, finish_work, finish_done);
}

void ha_vmmsave_storage_gone(struct ha_local *l)
{
    submit(l, l->vmm->disk_worker, SAVE_FINISH, finish_work, finish_done);
}

/* An answer that was under way is lost. Frozen or not: the VMM says so when it is reached
 * again. */
void ha_vmmsave_lost(struct ha_local *l)
{
    if (l->task != LOCAL_TASK_NONE &&
        (l->save_step == SAVE_FREEZE || l->save_step == SAVE_WRITE ||
         l->save_step == SAVE_STORAGE)) {
        struct save_job *job = l->save;

        if (l->child.pidfd >= 0 && !l->stopping) {
            task_fail(l, "the connection to its gemel-vmm was lost");
        } else {
            task_over(l);
            job_drop(job);
        }
    }
}

/* Commit
 * ---------------------------------------------------------------------------------- */

static int put_state(const char *dir, char *why)
{
    char from[PATH_LEN_MAX * 2 + 32], to[PATH_LEN_MAX * 2 + 32];
    int r = 0;

    snprintf(from, sizeof from, "%s/" VMDIR_STATE_TMP, dir);
    snprintf(to, sizeof to, "%s/" VMDIR_STATE, dir);
    if (rename(from, to) < 0) {
        r = -errno;
    } else {
        r = os_dir_fsync(dir);
    }
    if (r < 0) {
        ha_text_set(why, REASON_LEN_MAX + 1, to, ": ", strerror(-r), NULL);
    }
    return r;
}

static void commit_work(void *data)
{
    struct save_job *job = data;
    char text[REASON_LEN_MAX + 1];

    if (job->task == LOCAL_SNAPSHOT) {
        job->r = ha_snapshot_commit(&job->snapshot, job->why);
        return;
    }
    job->r = put_state(job->snapshot.dir, job->why);
    if (job->r < 0) {
        return;
    }
    job->submitted = true;
    job->r = claim_store_release(job->snapshot.dir, &job->release, &job->outcome, text,
                                 sizeof text);
    if (job->r == 0 && job->outcome != CLAIM_OUTCOME_WON) {
        job->r = -EALREADY;
        ha_text_set(text, sizeof text, "its claim is released already", NULL);
    }
    if (job->r < 0) {
        ha_text_set(job->why, sizeof job->why, text, NULL);
    }
}

static void close_job(struct save_job *job)
{
    if (job->fd >= 0) {
        close(job->fd);
    }
    free(job);
}

static void suspended(struct ha_local *l)
{
    task_over(l);
    l->released = true;
    l->stopping = true;
    l->outcome = HA_OUTCOME_SUSPENDED;
    ha_text_set(l->outcome_text, sizeof l->outcome_text, "its state is in " VMDIR_STATE,
                NULL);
    l->vmm->ops->step(l->vmm->ctx, l->name, "state saved, claim released");
    if (l->ended) {
        ha_local_gone(l);
    } else {
        ha_local_kill(l); /* goes on in on_child_end */
    }
}

static void snapshot_taken(struct ha_local *l)
{
    char text[REASON_LEN_MAX + 1];

    ha_text_set(text, sizeof text, "snapshot ", l->snapshot, " taken", NULL);
    task_over(l);
    ha_local_publish(l, false);
    ha_local_report(l, HA_OUTCOME_SNAPSHOT, text);
}

static void commit_done(void *data)
{
    struct save_job *job = data;
    struct ha_local *l = ha_local_by_id(job->vmm, job->local_id);
    bool ended = l != NULL && l->ended;

    if (l == NULL) {
        job_drop(job);
        return;
    }
    if (job->r < 0) {
        l->take_back = l->take_back || job->submitted;
        if (ended) {
            task_over(l);
            job_drop(job);
        } else {
            task_fail(l, job->why);
        }
    } else if (job->task == LOCAL_SUSPEND) {
        suspended(l); /* gone, if its process is */
        close_job(job);
        return;
    } else {
        if (ended) {
            task_over(l);
        } else {
            snapshot_taken(l);
        }
        close_job(job);
    }
    if (ended) {
        ha_local_gone(l);
    }
}

/* Revert
 * ---------------------------------------------------------------------------------- */

static void revert_end(struct ha_local *l, enum ha_vm_outcome outcome, const char *text)
{
    l->save = NULL;
    l->save_step = SAVE_NONE;
    l->outcome = l->stopping ? HA_OUTCOME_STOPPED : outcome;
    if (!l->discarded) {
        ha_text_set(l->outcome_text, sizeof l->outcome_text, text, NULL);
    }
    ha_local_gone(l);
}

static void put_back_work(void *data)
{
    struct save_job *job = data;

    job->r = ha_snapshot_put_back(&job->snapshot, &job->info, &job->undone, job->why);
}

static void put_back_done(void *data)
{
    struct save_job *job = data;
    struct ha_local *l = ha_local_by_id(job->vmm, job->local_id);
    char text[REASON_LEN_MAX + 1];

    if (l != NULL) {
        if (job->r == 0 || !job->undone) { /* else the state it had is still named */
            l->reverted_state = job->r == 0 && job->info.state;
            memcpy(l->digest, job->info.digest, sizeof l->digest);
        }
        ha_text_set(text, sizeof text,
                    job->r == 0   ? "reverted to "
                    : job->undone ? "not reverted yet: "
                                  : "half reverted: ",
                    job->r < 0 ? job->why : job->snapshot.id, NULL);
        revert_end(l,
                   job->r < 0        ? HA_OUTCOME_ENDED /* to be done again */
                   : job->info.state ? HA_OUTCOME_SUSPENDED
                                     : HA_OUTCOME_REVERTED,
                   text);
    }
    free(job);
}

static void copy_back_work(void *data)
{
    struct save_job *job = data;

    job->r = ha_snapshot_copy_back(&job->snapshot, &job->info, &job->cancel, job->why);
}

static void copy_back_done(void *data)
{
    struct save_job *job = data;
    struct ha_local *l = ha_local_by_id(job->vmm, job->local_id);
    char text[REASON_LEN_MAX + 1];

    if (l == NULL) {
        free(job);
        return;
    }
    if (job->r == 0 && !l->stopping) {
        l->save_step = SAVE_COMMIT;
        if (worker_submit(l->vmm->worker, l->id, put_back_work, put_back_done, job) ==
            0) {
            return;
        }
        job->r = -ENOMEM;
    }
    /* What counts is as it was: a suspended state still names these disks. */
    ha_text_set(text, sizeof text, word_of(LOCAL_REVERT),
                job->r < 0 ? job->why : "stopped before it was", NULL);
    revert_end(l, l->reverted_state ? HA_OUTCOME_NOT_RESUMED : HA_OUTCOME_START_FAILED,
               text);
    free(job);
}

void ha_vmmsave_revert(struct ha_local *l)
{
    if (worker_submit(l->vmm->disk_worker, l->id, copy_back_work, copy_back_done,
                      l->save) < 0) {
        ha_local_fail(l, "out of memory");
        return;
    }
    l->save_step = SAVE_FINISH;
}

void ha_vmmsave_cancel(struct ha_local *l)
{
    if (l->save != NULL) {
        atomic_store(&l->save->cancel, true);
    }
}

void ha_vmmsave_free(struct ha_local *l)
{
    if (l->save != NULL && (l->save_step == SAVE_NONE || l->save_step == SAVE_FREEZE ||
                            l->save_step == SAVE_WRITE)) {
        close_job(l->save); /* else a worker has it */
    }
}

/* Begin
 * ---------------------------------------------------------------------------------- */

static struct save_job *job_new(struct ha_local *l, enum local_task task,
                                const struct conf_vm *conf, char *why)
{
    struct save_job *job = calloc(1, sizeof *job);

    if (job == NULL || conf == NULL) {
        ha_text_set(why, REASON_LEN_MAX + 1,
                    job == NULL ? "out of memory" : "its definition cannot be read here",
                    NULL);
        free(job);
        return NULL;
    }
    job->vmm = l->vmm;
    job->local_id = l->id;
    job->task = task;
    job->fd = -1;
    ha_text_set(job->snapshot.dir, sizeof job->snapshot.dir, l->dir, NULL);
    ha_text_set(job->snapshot.id, sizeof job->snapshot.id, l->snapshot, NULL);
    ha_text_set(job->snapshot.node, sizeof job->snapshot.node, l->vmm->node.name, NULL);
    if (task == LOCAL_REVERT) {
        ha_fit_of_conf(conf, l->vmm->ops->cpu_model(l->vmm->ctx, conf->cpu),
                       &job->snapshot.fit);
    } else if (l->conf != NULL) { /* how it was booted; the state says the rest */
        ha_fit_of_conf(l->conf, NULL, &job->snapshot.fit);
    }
    ha_text_set(job->info.vm, sizeof job->info.vm, l->name, NULL);
    job->info.epoch = l->epoch;
    job->release = (struct claim_release){
        .vm = l->vm, .epoch = l->epoch, .instance = l->instance, .suspended = true};
    if (task != LOCAL_SUSPEND && !ha_vmdir_disks_of(conf, &job->snapshot.disks, why)) {
        free(job);
        return NULL;
    }
    return job;
}

/* On record before anything begins: after an agent restart the attempt is answered. */
static void save_begin(struct ha_local *l, const struct ha_vm *vm, enum local_task task)
{
    char why[REASON_LEN_MAX + 1] = "";

    l->attempt = vm->attempt;
    l->task = task;
    ha_text_set(l->snapshot, sizeof l->snapshot, vm->snapshot, NULL);
    if (l->phase != LOCAL_RUNNING || l->stopping || !l->linked) {
        task_fail(l, l->phase == LOCAL_FROZEN ? "it is frozen"
                                              : "its gemel-vmm cannot be reached");
        return;
    }
    l->save = job_new(l, task, vm->conf, why);
    if (l->save == NULL) {
        task_fail(l, why);
        return;
    }
    ha_local_publish(l, false);
    if (ha_local_save(l) < 0) {
        task_fail(l, "it cannot be written to run_dir");
        return;
    }
    submit(l, l->vmm->disk_worker, SAVE_PREPARE, prepare_work, prepare_done);
}

static void revert_begin(struct ha_vmm *vmm, const struct ha_vm *vm)
{
    struct ha_local *l = ha_local_new(vmm, vm->uuid, vm->name);
    char why[REASON_LEN_MAX + 1] = "";

    if (l == NULL) {
        return;
    }
    l->attempt = vm->attempt;
    l->instance = uuid_random();
    l->phase = LOCAL_STARTING;
    l->task = LOCAL_REVERT;
    l->restart = vm->epoch != 0;
    l->discard = true; /* the snapshot takes its place */
    ha_text_set(l->snapshot, sizeof l->snapshot, vm->snapshot, NULL);
    l->save = job_new(l, LOCAL_REVERT, vm->conf, why);
    ha_local_publish(l, false);
    if (l->save == NULL || ha_local_save(l) < 0 || ha_local_begin_claim(l) < 0) {
        ha_local_fail(l, why[0] != '\0' ? why : "it cannot be written to run_dir");
    }
}

void ha_vmm_save(struct ha_vmm *vmm, const struct ha_vm *vm)
{
    struct ha_local *l = ha_local_find(vmm, vm->uuid);
    struct ha_vm_report gone = {.vm = vm->uuid,
                                .attempt = vm->attempt,
                                .outcome = HA_OUTCOME_ENDED,
                                .epoch = vm->epoch};

    if (l != NULL && (l->task != LOCAL_TASK_NONE || l->released)) {
        log_warn("vm %s: told what it is doing already", vm->name);
        return;
    }
    if (vm->state == HA_VM_REVERTING && l == NULL) {
        revert_begin(vmm, vm);
    } else if (l != NULL && vm->state != HA_VM_REVERTING) {
        save_begin(l, vm, vm->state == HA_VM_SUSPENDING ? LOCAL_SUSPEND : LOCAL_SNAPSHOT);
    } else {
        ha_text_set(
            gone.text, sizeof gone.text,
            l == NULL ? "it does not run here" : "an instance of it is still here", NULL);
        vmm->ops->report(vmm->ctx, &gone);
    }
}

/* Leftovers
 * ---------------------------------------------------------------------------------- */

struct sweep_job {
    char dir[PATH_LEN_MAX * 2];
    struct uuid vm, instance;
};

static void sweep_work(void *data)
{
    struct sweep_job *job = data;

    ha_leftovers_owned(job->dir, job->vm, job->instance);
}

/* Before a later suspend or snapshot of it begins, which are jobs of the same key. */
void ha_vmmsave_sweep(struct ha_local *l)
{
    struct sweep_job *job = malloc(sizeof *job);

    if (job == NULL) {
        return;
    }
    ha_text_set(job->dir, sizeof job->dir, l->dir, NULL);
    job->vm = l->vm;
    job->instance = l->instance;
    if (worker_submit(l->vmm->disk_worker, l->id, sweep_work, drop_done, job) < 0) {
        free(job);
    }
}

/* After a resume
 * ---------------------------------------------------------------------------------- */

struct forget_job {
    char path[PATH_LEN_MAX * 2 + 32];
};

static void forget_work(void *data)
{
    (void)unlink(((struct forget_job *)data)->path);
}

/* The claim that was taken has made it void already: no release names it any more. So
 * this only tidies up, in the order of this VM's jobs: before a later suspend. */
void ha_vmmsave_forget_state(struct ha_local *l)
{
    struct forget_job *job = malloc(sizeof *job);

    close(l->state_fd);
    l->state_fd = -1;
    if (job == NULL) {
        return;
    }
    snprintf(job->path, sizeof job->path, "%s/" VMDIR_STATE, l->dir);
    if (worker_submit(l->vmm->worker, l->id, forget_work, drop_done, job) < 0) {
        free(job);
    }
}
