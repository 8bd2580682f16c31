/* SPDX-License-Identifier: Apache-2.0 */
#include "ha/ha_vmm.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <json-c/json.h>

#include "base/log.h"
#include "base/os.h"
#include "base/uuid.h"
#include "fencing/claim_store.h"
#include "ha/ha_storage.h"
#include "ha/ha_text.h"
#include "ha/ha_vmdir.h"
#include "ha/ha_vmm_priv.h"

#define CLAIM_WORKERS      4
#define DISK_WORKERS       4
#define CONNECT_TIMEOUT_NS (10 * NSEC_PER_SEC)
#define KILL_GRACE_NS      (5 * NSEC_PER_SEC)
/* A VM that freezes by itself so soon after it was entered waits before its next thaw:
 * 0.5 s, then twice as long each time, at most 16 s. */
#define QUICK_FREEZE_NS (10 * NSEC_PER_SEC)
#define THAW_FIRST_NS   (NSEC_PER_SEC / 2)
#define THAW_DOUBLINGS  6u
/* A paused VM goes on when it has run for so long: a disk that is still away freezes it
 * within milliseconds. */
#define STEADY_NS NSEC_PER_SEC
/* A release that its storage refuses. */
#define RELEASE_AGAIN_NS NSEC_PER_SEC
#define RELEASE_TRIES    60u

/* Local table
 * ---------------------------------------------------------------------------------- */

struct ha_local *ha_local_find(struct ha_vmm *vmm, struct uuid vm)
{
    for (struct ha_local *l = vmm->head; l != NULL; l = l->next) {
        if (uuid_equal(l->vm, vm)) {
            return l;
        }
    }
    return NULL;
}

static void local_paths(struct ha_vmm *vmm, struct ha_local *l)
{
    char id[UUID_STR_LEN + 1];

    uuid_format(l->vm, id);
    snprintf(l->dir, sizeof l->dir, "%s/%s", vmm->node.vmroot, l->name);
    snprintf(l->json_path, sizeof l->json_path, "%s/vm/%s.json", vmm->node.run_dir, id);
    snprintf(l->socket_path, sizeof l->socket_path, "%s/vm/%s.sock", vmm->node.run_dir,
             id);
    snprintf(l->console_path, sizeof l->console_path, "%s/vm/%s.console",
             vmm->node.run_dir, id);
    snprintf(l->storage_path, sizeof l->storage_path, "%s/vm/%s.nbd", vmm->node.run_dir,
             id);
    snprintf(l->exit_path, sizeof l->exit_path, "%s/vm/%s.exit", vmm->node.run_dir, id);
}

void ha_local_disk_path(const struct ha_local *l, const struct conf_disk *disk,
                        char *ret_path, size_t cap)
{
    bool absolute = disk->path[0] == '/' || conf_disk_is_nbd(disk);

    snprintf(ret_path, cap, "%s%s%s", absolute ? "" : l->dir, absolute ? "" : "/",
             disk->path);
}

struct ha_local *ha_local_new(struct ha_vmm *vmm, struct uuid vm, const char *name)
{
    struct ha_local *l = calloc(1, sizeof *l);

    if (l == NULL) {
        return NULL;
    }
    l->vmm = vmm;
    l->vm = vm;
    l->id = ++vmm->next_id;
    l->fd = l->state_fd = -1;
    l->child.pidfd = l->storage.pidfd = -1;
    ha_text_set(l->name, sizeof l->name, name, NULL);
    local_paths(vmm, l);
    l->next = vmm->head;
    vmm->head = l;
    return l;
}

static void local_free(struct ha_local *l)
{
    struct ha_vmm *vmm = l->vmm;

    for (struct ha_local **at = &vmm->head; *at != NULL; at = &(*at)->next) {
        if (*at == l) {
            *at = l->next;
            break;
        }
    }
    ha_vmmlink_close(l);
    if (l->child.pidfd >= 0) {
        loop_fd_del(vmm->loop, l->child.pidfd);
        os_child_close(&l->child);
    }
    ha_storage_forget(l);
    loop_timer_del(vmm->loop, &l->timer);
    loop_timer_del(vmm->loop, &l->thaw_timer);
    loop_timer_del(vmm->loop, &l->steady_timer);
    loop_timer_del(vmm->loop, &l->release_timer);
    if (l->state_fd >= 0) {
        close(l->state_fd);
    }
    ha_vmmsave_free(l);
    ha_vmmmove_free(l);
    ha_announce_end(l);
    free(l->conf);
    free(l);
}

static enum ha_local_state public_state(const struct ha_local *l)
{
    if (l->stopping || l->task == LOCAL_SUSPEND) {
        return HA_LOCAL_STOPPING;
    }
    if (l->adopted || l->task != LOCAL_TASK_NONE) {
        return HA_LOCAL_STARTING; /* until its VMM has said what it is */
    }
    switch (l->phase) {
    case LOCAL_RUNNING:
        return HA_LOCAL_RUNNING;
    case LOCAL_FROZEN:
        return HA_LOCAL_FROZEN;
    case LOCAL_STARTING:
    case LOCAL_ENDING:
    default:
        return HA_LOCAL_STARTING;
    }
}

void ha_local_publish(struct ha_local *l, bool gone)
{
    struct ha_local_vm vm = {.vm = l->vm,
                             .instance = l->instance,
                             .attempt = l->attempt,
                             .epoch = l->epoch,
                             .state = public_state(l)};

    if (!l->discarded) {
        l->vmm->ops->local_vm(l->vmm->ctx, &vm, gone);
    }
}

void ha_local_report(struct ha_local *l, enum ha_vm_outcome outcome, const char *text)
{
    struct ha_vm_report r = {.vm = l->vm,
                             .attempt = l->attempt,
                             .instance = l->instance,
                             .outcome = outcome,
                             .epoch = l->epoch,
                             .guest_shutdown = l->guest_shutdown};

    if (l->discarded) {
        return;
    }
    ha_text_set(r.text, sizeof r.text, text, NULL);
    l->vmm->ops->report(l->vmm->ctx, &r);
}

/* What it waited for is back. */
static void goes_on(struct ha_local *l)
{
    loop_timer_del(l->vmm->loop, &l->steady_timer);
    l->paused = false;
    ha_local_report(l, HA_OUTCOME_RUNNING, "goes on after a pause");
}

static void steady_timer_fn(void *data)
{
    struct ha_local *l = data;

    l->steady_timer = 0;
    if (l->phase == LOCAL_RUNNING && !l->stopping) {
        goes_on(l);
    }
}

void ha_local_running(struct ha_local *l)
{
    bool thawed = l->thawing, came = l->moving != NULL && l->moving->incoming;
    char text[REASON_LEN_MAX + 1];
    const char *moved = ha_vmmmove_thawed(l, text);

    loop_timer_del(l->vmm->loop, &l->timer);
    l->phase = LOCAL_RUNNING;
    l->thawing = false;
    l->ran_since_ns = loop_now_ns();
    ha_local_save(l);
    ha_local_publish(l, false);
    if (l->paused) {
        loop_timer_del(l->vmm->loop, &l->steady_timer);
        if (loop_timer_add(l->vmm->loop, STEADY_NS, steady_timer_fn, l,
                           &l->steady_timer) < 0) {
            goes_on(l);
        }
        return;
    }
    l->vmm->ops->step(l->vmm->ctx, l->name,
                      thawed      ? "guest thawed"
                      : came      ? "guest entered, from the other node"
                      : l->resume ? "guest entered, from its suspended state"
                                  : "guest entered");
    ha_local_report(l, HA_OUTCOME_RUNNING,
                    moved != NULL ? moved
                    : thawed      ? "thawed"
                    : l->resume   ? "resumed"
                                  : "started");
    ha_vmmsave_sweep(l);
    if (l->resume && !thawed) {
        ha_vmmsave_forget_state(l);
        ha_announce_begin(l);
    } else if (came) {
        ha_announce_begin(l);
    } else {
        ha_announce_end(l);
    }
}

void ha_local_found(struct ha_local *l)
{
    l->phase = LOCAL_RUNNING;
    l->claim_won = true;
    ha_vmmsave_sweep(l);
    ha_local_publish(l, false);
    ha_local_report(l, HA_OUTCOME_RUNNING,
                    "found running by its agent, which was restarted");
}

void ha_local_frozen(struct ha_local *l, const char *why)
{
    bool quick = loop_now_ns() - l->ran_since_ns < QUICK_FREEZE_NS;
    const char *pause = strstr(why, "; the VM is paused");
    char text[REASON_LEN_MAX + 1];

    loop_timer_del(l->vmm->loop, &l->steady_timer);
    l->paused = pause != NULL;
    if (pause != NULL) {
        ha_text_set(text, sizeof text, HA_PAUSED, why, NULL);
        text[sizeof HA_PAUSED - 1 + (size_t)(pause - why)] = '\0';
        why = text;
    }
    l->phase = LOCAL_FROZEN;
    l->quick_freezes = quick && !l->freezing ? l->quick_freezes + 1 : 0;
    l->freezing = false;
    ha_local_publish(l, false);
    ha_local_report(l, HA_OUTCOME_FROZEN, why);
}

/* The end: release, tell, forget
 * ------------------------------------------------------------------ */

struct release_job {
    struct ha_vmm *vmm;
    uint64_t local_id;
    char dir[PATH_LEN_MAX * 2];
    struct ha_disk_list disks;
    struct claim_release release;
    enum claim_outcome outcome;
    char text[REASON_LEN_MAX + 1];
    int r;
};

struct ha_local *ha_local_by_id(struct ha_vmm *vmm, uint64_t id)
{
    for (struct ha_local *l = vmm->head; l != NULL; l = l->next) {
        if (l->id == id) {
            return l;
        }
    }
    return NULL;
}

/* It may have been on its way back before its last instance here was gone. */
static void comes_again(struct ha_vmm *vmm, struct uuid id, struct uuid attempt)
{
    const struct ha_vm *vm = vmm->ops->record(vmm->ctx, id);

    if (vm != NULL && vm->state == HA_VM_MIGRATING && vm->move.to == vmm->self.nodeid &&
        !uuid_equal(vm->attempt, attempt)) {
        ha_vmm_move(vmm, vm);
    }
}

static void finish(struct ha_local *l)
{
    struct uuid vm = l->vm, attempt = l->attempt;
    struct ha_vmm *vmm = l->vmm;

    (void)unlink(l->json_path);
    (void)unlink(l->socket_path);
    (void)unlink(l->exit_path);
    (void)unlink(l->console_path); /* its maker cannot: the name is out of its reach */
    ha_local_publish(l, true);
    ha_local_report(l, l->outcome, l->outcome_text);
    log_info("vm %s: %s", l->name, l->outcome_text);
    local_free(l);
    comes_again(vmm, vm, attempt);
}

/*
 * Dead is not drained: what the process wrote without a flush may still lie in a cache of
 * this node, unseen by the others, and would go over the next owner's data when it is
 * written back one day. So it goes out before the claim does.
 */
int ha_disks_drain(const struct ha_disk_list *disks, char *text, size_t cap)
{
    for (unsigned i = 0; i < disks->count; i++) {
        int fd = open(disks->path[i], O_RDWR | O_CLOEXEC), r = 0;

        if (fd < 0 && errno == ENOENT) {
            continue;
        }
        if (fd < 0 || fdatasync(fd) < 0) {
            r = -errno;
            snprintf(text, cap, "%.*s: its writes are not out: %s", REASON_LEN_MAX / 2,
                     disks->path[i], strerror(errno));
        }
        if (fd >= 0) {
            close(fd);
        }
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

static void release_work(void *data)
{
    struct release_job *job = data;

    job->r = ha_disks_drain(&job->disks, job->text, sizeof job->text);
    if (job->r < 0) {
        return;
    }
    job->r = claim_store_release(job->dir, &job->release, &job->outcome, job->text,
                                 sizeof job->text);
}

static void release_timer_fn(void *data)
{
    struct ha_local *l = data;

    l->release_timer = 0;
    ha_local_gone(l);
}

/* While its storage does not answer, nobody else could start it either; and without the
 * release nobody but this node may. */
static bool release_again(struct ha_local *l, const struct release_job *job)
{
    if (job->r >= 0 || l == NULL || l->release_tries >= RELEASE_TRIES) {
        return false;
    }
    if (l->release_tries++ == 0) {
        log_warn("vm %s: release of epoch %" PRIu64 ": %s; tried again", l->name,
                 job->release.epoch, job->text);
    }
    return loop_timer_add(l->vmm->loop, RELEASE_AGAIN_NS, release_timer_fn, l,
                          &l->release_timer) == 0;
}

static void release_done(void *data)
{
    struct release_job *job = data;
    struct ha_local *l = ha_local_by_id(job->vmm, job->local_id);

    if (!release_again(l, job)) {
        if (job->r < 0) {
            log_warn("release of epoch %" PRIu64
                     ": %s; elsewhere it starts only after a proof",
                     job->release.epoch, job->text);
        }
        if (l != NULL) {
            finish(l);
        }
    }
    free(job);
}

/* The process is gone, and with it every request it had in the kernel (its exit waits for
 * its io_uring). */
void ha_local_disks(const struct ha_local *l, struct ha_disk_list *ret_disks)
{
    ret_disks->count = 0;
    for (unsigned i = 0; i < l->disk_count; i++) {
        if (!l->disk[i].read_only && !conf_disk_is_nbd(&l->disk[i])) {
            ha_local_disk_path(l, &l->disk[i], ret_disks->path[ret_disks->count++],
                               sizeof ret_disks->path[0]);
        }
    }
}

/* Under this claim no guest ran: the state that the release before it named, or that a
 * revert has put there, is still what the VM goes on from. */
static bool state_is_left(const struct ha_local *l)
{
    if (l->task == LOCAL_REVERT) {
        return l->reverted_state;
    }
    return l->resume && (l->start_seq == 0 || l->refused);
}

void ha_local_gone(struct ha_local *l)
{
    struct release_job *job;

    if (ha_storage_up(l)) {
        ha_storage_end(l); /* and comes back here: the instance is both processes */
        return;
    }
    if (!l->claim_won || l->discarded || l->released) {
        finish(l);
        return;
    }
    job = calloc(1, sizeof *job);
    if (job == NULL) {
        finish(l);
        return;
    }
    job->vmm = l->vmm;
    job->local_id = l->id;
    snprintf(job->dir, sizeof job->dir, "%s", l->dir);
    ha_local_disks(l, &job->disks);
    job->release =
        (struct claim_release){.vm = l->vm, .epoch = l->epoch, .instance = l->instance};
    if (state_is_left(l)) {
        job->release.suspended = true;
        memcpy(job->release.digest, l->digest, sizeof l->digest);
    }
    l->phase = LOCAL_ENDING;
    if (worker_submit(l->vmm->worker, l->id, release_work, release_done, job) < 0) {
        free(job);
        finish(l);
    }
}

void ha_local_read_exit(struct ha_local *l)
{
    char text[1024];
    const char *reason = "", *detail = "";
    json_object *doc, *value;
    size_t len;

    if (os_file_read(l->exit_path, text, sizeof text - 1, &len) < 0) {
        return;
    }
    doc = json_tokener_parse(text);
    if (doc != NULL && json_object_object_get_ex(doc, "reason", &value)) {
        reason = json_object_get_string(value);
    }
    if (doc != NULL && json_object_object_get_ex(doc, "text", &value)) {
        detail = json_object_get_string(value);
    }
    l->guest_shutdown = strcmp(reason, "guest-shutdown") == 0;
    if (l->outcome_text[0] == '\0') {
        ha_text_set(l->outcome_text, sizeof l->outcome_text, reason,
                    detail[0] != '\0' ? ": " : "", detail, NULL);
    }
    json_object_put(doc);
}

static void describe_status(struct ha_local *l, int status)
{
    if (l->outcome_text[0] != '\0') {
        return;
    }
    if (status >= 0 && WIFSIGNALED(status)) {
        ha_text_set(l->outcome_text, sizeof l->outcome_text,
                    "gemel-vmm was killed by signal ", NULL);
        ha_text_add_u64(l->outcome_text, sizeof l->outcome_text,
                        (uint64_t)WTERMSIG(status));
        if (WTERMSIG(status) == SIGSYS) {
            ha_text_add(l->outcome_text, sizeof l->outcome_text,
                        ": it called what its sandbox forbids; the guest may have broken "
                        "into it");
        }
    } else {
        ha_text_set(l->outcome_text, sizeof l->outcome_text,
                    "gemel-vmm ended; see the log of this VM on its node", NULL);
    }
}

static int on_child_end(int fd, int revents, void *data)
{
    struct ha_local *l = data;
    int status = -1, r;

    (void)revents;
    ha_vmmlink_hear(l); /* why it ends may be in its last words */
    (void)os_child_kill_group(&l->child, SIGKILL);
    r = os_child_reap(&l->child, &status);
    if (r == -EAGAIN) {
        return 0;
    }
    if (r < 0) {
        status = -1;
    }
    loop_fd_del(l->vmm->loop, fd);
    os_child_close(&l->child);
    l->child.pidfd = -1;
    ha_announce_end(l);
    ha_vmmlink_close(l);
    loop_timer_del(l->vmm->loop, &l->timer);
    ha_local_read_exit(l);
    describe_status(l, status);
    if (l->released) {
        l->outcome = HA_OUTCOME_SUSPENDED;
    } else if (l->task == LOCAL_MIGRATE && l->take_back) {
        l->outcome = HA_OUTCOME_MOVED;
    } else if (l->stopping) {
        l->outcome = HA_OUTCOME_STOPPED;
    } else if (l->resume_refused) {
        l->outcome = HA_OUTCOME_NOT_RESUMED;
    } else if (l->phase == LOCAL_STARTING) {
        l->outcome = HA_OUTCOME_START_FAILED;
    } else {
        l->outcome = HA_OUTCOME_ENDED;
    }
    if (l->claim_pending || l->save_step == SAVE_COMMIT ||
        (l->moving != NULL && l->moving->busy)) {
        l->ended = true; /* the claim's outcome comes first: it may have to be released */
    } else {
        ha_local_gone(l);
    }
    return 0;
}

void ha_local_kill(struct ha_local *l)
{
    if (l->child.pidfd >= 0) {
        (void)os_child_kill_group(&l->child, SIGKILL);
    }
}

void ha_local_fail(struct ha_local *l, const char *why)
{
    if (l->outcome_text[0] == '\0') {
        ha_text_set(l->outcome_text, sizeof l->outcome_text, why, NULL);
    }
    l->outcome = l->resume_refused ? HA_OUTCOME_NOT_RESUMED : HA_OUTCOME_START_FAILED;
    if (l->child.pidfd >= 0) {
        ha_local_kill(l); /* goes on in on_child_end */
    } else if (!l->claim_pending) {
        ha_local_gone(l);
    } else {
        l->ended = true;
    }
}

/* Start
 * -----------------------------------------------------------------------------------------
 */

static void settle_timer_fn(void *data)
{
    struct ha_local *l = data;

    l->timer = 0;
    ha_local_enter(l);
}

static void start_timer_fn(void *data)
{
    struct ha_local *l = data;

    l->timer = 0;
    ha_local_fail(l, "gemel-vmm did not answer in time");
}

void ha_local_enter(struct ha_local *l)
{
    struct claim_evidence known = ha_local_evidence(l);
    struct claim_disk_verdict verdict;
    uint64_t now_ns = known.now_ns;

    if (!l->claim_won || l->claim_pending || l->entered || l->stopping ||
        (!l->linked && l->task != LOCAL_REVERT)) {
        return;
    }
    if (!l->thawing) {
        claim_may_touch_disk(&l->claim, &known, &verdict);
        if (verdict.reason == CLAIM_DISK_UNPROVEN || verdict.until_ns == UINT64_MAX) {
            ha_local_fail(l, "an earlier owner's writes are not excluded and no time is "
                             "known when they will be");
            return;
        }
        if (verdict.reason == CLAIM_DISK_SETTLING && verdict.until_ns > now_ns) {
            loop_timer_del(l->vmm->loop, &l->timer);
            loop_timer_add(l->vmm->loop, verdict.until_ns - now_ns, settle_timer_fn, l,
                           &l->timer);
            return;
        }
    }
    if (l->thawing) {
        /* A lease that ran out stays lost until the next one. The claim was just taken in
         * a quorate view: the last renewal if it still holds, else none until the next.
         */
        bool holds =
            l->lease_ms != 0 && now_ns - l->lease_from_ns < l->lease_ms * NSEC_PER_MSEC;

        ha_vmmlink_lease(l, holds ? l->lease_ms : 0, l->lease_from_ns);
    }
    l->entered = true;
    loop_timer_del(l->vmm->loop, &l->timer);
    if (l->task == LOCAL_REVERT) {
        ha_vmmsave_revert(l);
        return;
    }
    loop_timer_add(l->vmm->loop,
                   (l->conf != NULL ? l->conf->start_timeout_ms * NSEC_PER_MSEC
                                    : CONNECT_TIMEOUT_NS) +
                       (l->paused ? l->disk_count * NBD_CONNECT_MS * NSEC_PER_MSEC : 0),
                   start_timer_fn, l, &l->timer);
    if (l->thawing && !ha_vmmfiles_connects(l)) {
        ha_vmmlink_request(l, GEMEL__VMM_REQUEST__KIND__THAW);
    } else if (ha_vmmfiles_start(l) < 0) {
        ha_local_fail(l, "out of memory");
    }
}

void ha_local_linked(struct ha_local *l)
{
    l->linked = true;
    if (l->moving != NULL && !l->claim_won) {
        loop_timer_del(l->vmm->loop, &l->timer); /* its own ones count */
        ha_vmmmove_linked(l);
    } else if (l->phase == LOCAL_STARTING) {
        ha_local_enter(l);
    }
}

int ha_local_watch(struct ha_local *l)
{
    return loop_fd_add(l->vmm->loop, l->child.pidfd, POLLIN, on_child_end, l);
}

struct ha_local *ha_local_create(struct ha_vmm *vmm, const struct ha_vm *vm)
{
    struct ha_local *l = ha_local_new(vmm, vm->uuid, vm->name);

    if (l == NULL) {
        return NULL;
    }
    l->attempt = vm->attempt;
    l->instance = uuid_random();
    l->uid = ha_vmmfiles_uid(vmm);
    l->phase = LOCAL_STARTING;
    l->conf = malloc(sizeof *l->conf);
    if (l->conf == NULL || vm->conf == NULL) {
        ha_local_publish(l, false);
        ha_local_fail(l, "its definition cannot be read here");
        return NULL;
    }
    *l->conf = *vm->conf;
    l->disk_count = l->conf->disk_count;
    memcpy(l->disk, l->conf->disk, sizeof l->disk);
    ha_local_publish(l, false);
    if (ha_storage_wanted(l)) {
        l->storage_uid = ha_vmmfiles_uid(vmm);
        if (ha_storage_missing() != NULL) {
            ha_local_fail(l, ha_storage_missing());
            return NULL;
        }
    }
    return l;
}

bool ha_local_launch(struct ha_local *l)
{
    struct ha_vmm *vmm = l->vmm;
    char why[REASON_LEN_MAX + 1] = "";
    int r = ha_local_save(l);

    /* The claim and the process are made side by side: a VMM that was not told START has
     * opened no disk. A migration's destination takes its claim last. */
    if (r == 0 && l->moving == NULL) {
        r = ha_local_begin_claim(l);
    }
    if (r == 0) {
        r = ha_vmmlink_spawn(l, why);
    }
    if (r < 0) {
        ha_local_fail(l, why[0] != '\0' ? why : strerror(-r));
        return false;
    }
    r = l->child.start_time != 0 ? ha_local_watch(l) : -ESRCH;
    if (r < 0 || ha_local_save(l) < 0) {
        ha_local_fail(l, HA_NOT_ON_RECORD);
        return false;
    }
    vmm->ops->step(vmm->ctx, l->name, "VMM started");
    loop_timer_add(vmm->loop, CONNECT_TIMEOUT_NS, start_timer_fn, l, &l->timer);
    ha_vmmlink_connect(l);
    return true;
}

static void start_new(struct ha_vmm *vmm, const struct ha_vm *vm)
{
    struct ha_local *l = ha_local_create(vmm, vm);

    if (l == NULL) {
        return; /* reported; or not, and the coordinator's start timeout moves it */
    }
    l->restart = vm->epoch != 0;
    l->discard = vm->task == HA_TASK_DISCARD;
    (void)ha_local_launch(l);
}

static void thaw_timer_fn(void *data)
{
    struct ha_local *l = data;

    l->thaw_timer = 0;
    l->thaw_at_ns = 0;
    if (l->phase == LOCAL_STARTING && l->thawing && !l->stopping && !l->claim_pending &&
        ha_local_begin_claim(l) < 0) {
        l->phase = LOCAL_FROZEN;
    }
}

/* At once the first time; a VM that freezes again and again, because a disk of it does
 * not come back, waits longer each time: each thaw is a claim. */
static void begin_thaw(struct ha_local *l)
{
    unsigned n = l->quick_freezes < THAW_DOUBLINGS ? l->quick_freezes : THAW_DOUBLINGS;

    if (n == 0) {
        thaw_timer_fn(l);
        return;
    }
    loop_timer_del(l->vmm->loop, &l->thaw_timer);
    l->thaw_at_ns = loop_now_ns() + (THAW_FIRST_NS << (n - 1));
    loop_timer_add(l->vmm->loop, THAW_FIRST_NS << (n - 1), thaw_timer_fn, l,
                   &l->thaw_timer);
}

void ha_vmm_start(struct ha_vmm *vmm, const struct ha_vm *vm)
{
    struct ha_local *l = ha_local_find(vmm, vm->uuid);

    if (l == NULL) {
        start_new(vmm, vm);
        return;
    }
    if (l->task != LOCAL_TASK_NONE || l->released) {
        log_warn("vm %s: told to start, but it is not done with what it does", vm->name);
        return;
    }
    if (l->phase == LOCAL_FROZEN && !l->stopping) {
        l->attempt = vm->attempt;
        l->phase = LOCAL_STARTING;
        l->thawing = true;
        l->entered = false;
        l->claim_won = false;
        ha_local_publish(l, false);
        begin_thaw(l);
        return;
    }
    if (l->phase == LOCAL_STARTING && l->thawing && !l->stopping) {
        l->attempt = vm->attempt; /* an operator's: it waits no longer */
        if (l->thaw_timer) {
            loop_timer_del(vmm->loop, &l->thaw_timer);
            thaw_timer_fn(l);
        }
        return;
    }
    log_warn("vm %s: told to start, but an instance is still here (%s)", vm->name,
             l->stopping ? "stopping" : "running");
    l->attempt = vm->attempt;
    if (l->phase == LOCAL_RUNNING && !l->stopping && l->paused) {
        goes_on(l);
    } else if (l->phase == LOCAL_RUNNING && !l->stopping) {
        ha_local_report(l, HA_OUTCOME_RUNNING, "it runs here already");
    }
}

/* Stop
 * ------------------------------------------------------------------------------------------
 */

static void last_resort_fn(void *data)
{
    struct ha_local *l = data;

    l->timer = 0;
    log_warn("vm %s: gemel-vmm does not end; killed", l->name);
    ha_local_kill(l);
}

static void kill_timer_fn(void *data)
{
    struct ha_local *l = data;

    l->timer = 0;
    log_warn("vm %s: the guest did not power off in time", l->name);
    ha_text_set(l->outcome_text, sizeof l->outcome_text,
                "the guest did not power off within stop_timeout; killed", NULL);
    ha_vmmlink_request(l, GEMEL__VMM_REQUEST__KIND__KILL);
    loop_timer_add(l->vmm->loop, KILL_GRACE_NS, last_resort_fn, l, &l->timer);
}

void ha_vmm_stop(struct ha_vmm *vmm, const struct ha_vm *vm)
{
    struct ha_local *l = ha_local_find(vmm, vm->uuid);
    struct ha_vm_report gone = {.vm = vm->uuid,
                                .attempt = vm->attempt,
                                .outcome = HA_OUTCOME_STOPPED,
                                .epoch = vm->epoch};

    if (l == NULL) {
        ha_text_set(gone.text, sizeof gone.text, "nothing of it ran here", NULL);
        vmm->ops->report(vmm->ctx, &gone);
        return;
    }
    l->attempt = vm->attempt;
    if (l->save_step == SAVE_COMMIT || l->released) {
        return; /* too late: it says itself what became of it */
    }
    l->stopping = true;
    ha_local_publish(l, false);
    ha_local_save(l);
    loop_timer_del(vmm->loop, &l->timer);
    ha_vmmsave_cancel(l);
    if (l->save != NULL && l->task == LOCAL_REVERT) {
        return; /* goes on when its copies have ended */
    }
    if (l->phase != LOCAL_RUNNING || !l->linked) {
        ha_local_kill(l);
        if (l->child.pidfd < 0 && !l->claim_pending && l->phase != LOCAL_ENDING) {
            l->outcome = HA_OUTCOME_STOPPED;
            ha_local_gone(l);
        }
        return;
    }
    ha_text_set(l->outcome_text, sizeof l->outcome_text, vm->kill ? "killed as told" : "",
                NULL);
    if (vm->kill) {
        ha_vmmlink_request(l, GEMEL__VMM_REQUEST__KIND__KILL);
        loop_timer_add(vmm->loop, KILL_GRACE_NS, last_resort_fn, l, &l->timer);
    } else {
        ha_vmmlink_request(l, GEMEL__VMM_REQUEST__KIND__POWERDOWN);
        loop_timer_add(vmm->loop,
                       (l->conf != NULL ? l->conf->stop_timeout_ms : 60000) *
                           NSEC_PER_MSEC,
                       kill_timer_fn, l, &l->timer);
    }
}

void ha_vmm_discard(struct ha_vmm *vmm, struct uuid vm, const char *why)
{
    struct ha_local *l = ha_local_find(vmm, vm);

    if (l == NULL || l->discarded) {
        return;
    }
    log_warn("vm %s: discarded: %s", l->name, why);
    ha_local_publish(l, true);
    l->discarded = true;
    l->stopping = true;
    ha_text_set(l->outcome_text, sizeof l->outcome_text, "discarded: ", why, NULL);
    ha_vmmsave_cancel(l);
    ha_local_kill(l);
}

void ha_vmm_freeze(struct ha_vmm *vmm, struct uuid vm, const char *why)
{
    struct ha_local *l = ha_local_find(vmm, vm);

    if (l != NULL && l->phase == LOCAL_RUNNING && !l->stopping && l->linked &&
        !l->freezing) {
        log_warn("vm %s: freezing: %s", l->name, why);
        l->freezing = true; /* until it says so, or the connection is made anew */
        ha_vmmlink_request(l, GEMEL__VMM_REQUEST__KIND__FREEZE);
    }
}

void ha_vmm_lease(struct ha_vmm *vmm, struct uuid vm, uint32_t lease_ms, uint64_t from_ns)
{
    struct ha_local *l = ha_local_find(vmm, vm);

    if (l == NULL) {
        return;
    }
    l->lease_ms = lease_ms;
    l->lease_from_ns = from_ns;
    if (l->phase == LOCAL_RUNNING && l->linked && !l->stopping) {
        ha_vmmlink_lease(l, lease_ms, from_ns);
    }
}

unsigned ha_vmm_count(const struct ha_vmm *vmm)
{
    unsigned count = 0;

    for (const struct ha_local *l = vmm->head; l != NULL; l = l->next) {
        count++;
    }
    return count;
}

const char *ha_vmm_guest_agent(const struct ha_vmm *vmm, struct uuid vm)
{
    const struct ha_local *l = ha_local_find((struct ha_vmm *)vmm, vm);

    return l == NULL || l->guest_agent[0] == '\0' ? NULL : l->guest_agent;
}

const char *ha_vmm_guest_event(const struct ha_vmm *vmm, struct uuid vm, uint64_t *ret_ms)
{
    const struct ha_local *l = ha_local_find((struct ha_vmm *)vmm, vm);

    if (l == NULL || l->guest_event == NULL) {
        return NULL;
    }
    *ret_ms = l->guest_event_ms;
    return l->guest_event;
}

bool ha_vmm_next_thaw(const struct ha_vmm *vmm, struct uuid vm, uint64_t *ret_at_ns)
{
    const struct ha_local *l = ha_local_find((struct ha_vmm *)vmm, vm);

    if (l == NULL || !l->paused) {
        return false;
    }
    *ret_at_ns = l->thaw_at_ns;
    return true;
}

bool ha_vmm_balloon(const struct ha_vmm *vmm, struct uuid vm, uint64_t *ret_target,
                    uint64_t *ret_actual)
{
    const struct ha_local *l = ha_local_find((struct ha_vmm *)vmm, vm);

    if (l == NULL || !l->balloon) {
        return false;
    }
    *ret_target = l->balloon_target;
    *ret_actual = l->balloon_actual;
    return true;
}

const char *ha_vmm_balloon_set(struct ha_vmm *vmm, struct uuid vm, uint64_t bytes)
{
    struct ha_local *l = ha_local_find(vmm, vm);

    if (l == NULL || l->phase != LOCAL_RUNNING || l->stopping) {
        return "it does not run on this node";
    }
    if (!l->balloon) {
        return "its machine has no balloon; machine: standard has one";
    }
    if (l->conf != NULL && bytes >= l->conf->memory_bytes) {
        return "that is all the memory it has";
    }
    ha_vmmlink_balloon(l, bytes);
    return NULL;
}

bool ha_vmm_console(const struct ha_vmm *vmm, struct uuid vm, char *ret_path, size_t cap)
{
    const struct ha_local *l = ha_local_find((struct ha_vmm *)vmm, vm);

    if (l == NULL) {
        return false;
    }
    snprintf(ret_path, cap, "%s", l->console_path);
    return true;
}

/* Making
 * ----------------------------------------------------------------------------------
 */

int ha_vmm_new(struct loop *loop, const struct conf_node *node,
               const struct ha_agent_self *self, uint64_t agent_start_ns,
               const struct ha_vmm_ops *ops, void *ctx, struct ha_vmm **ret_vmm)
{
    struct ha_vmm *vmm = calloc(1, sizeof *vmm);
    int r;

    if (vmm == NULL) {
        return -ENOMEM;
    }
    vmm->loop = loop;
    vmm->node = *node;
    vmm->self = *self;
    vmm->agent_start_ns = agent_start_ns;
    vmm->ops = ops;
    vmm->ctx = ctx;
    r = worker_new(loop, CLAIM_WORKERS, &vmm->worker);
    if (r == 0) {
        r = worker_new(loop, DISK_WORKERS, &vmm->disk_worker);
    }
    if (r < 0) {
        ha_vmm_free(vmm);
        return r;
    }
    *ret_vmm = vmm;
    return 0;
}

void ha_vmm_free(struct ha_vmm *vmm)
{
    if (vmm == NULL) {
        return;
    }
    worker_free(vmm->worker);
    worker_free(vmm->disk_worker);
    while (vmm->head != NULL) {
        local_free(vmm->head);
    }
    free(vmm);
}
