/* SPDX-License-Identifier: Apache-2.0 */
/* How a local VM ends: its process is gone, its claim is released. */
#include "ha/ha_vmm_priv.h"

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

#include "base/log.h"
#include "base/os.h"
#include "base/uuid.h"
#include "fencing/claim_store.h"
#include "ha/ha_storage.h"
#include "ha/ha_text.h"

/* A release that its storage refuses. */
#define RELEASE_AGAIN_NS NSEC_PER_SEC
#define RELEASE_TRIES    60u

struct release_job {
    struct ha_vmm *vmm;
    uint64_t local_id;
    char dir[PATH_LEN_MAX * 2];
    struct ha_disk_list disks;
    struct claim_release release;
    enum claim_outcome outcome;
    struct claim_view alone; /* me, node_name, attempt: of a claim without its twin */
    bool mirrored, twin_has_all;
    struct claim claim; /* mirrored: the one that is released; epoch 0: not known */
    bool unsure;
    char text[REASON_LEN_MAX + 1];
    int r;
};

/* It may have been on its way back before its last instance here was gone. */
static void comes_again(struct ha_vmm *vmm, struct uuid id, struct uuid attempt)
{
    const struct ha_vm *vm = vmm->ops->record(vmm->ctx, id);

    if (vm != NULL) {
        ha_vmmhold_told(vmm, vm);
    }
    if (vm == NULL || uuid_equal(vm->attempt, attempt)) {
        return;
    }
    if (vm->state == HA_VM_MIGRATING && vm->move.to == vmm->self.nodeid) {
        ha_vmm_move(vmm, vm);
    } else if (vm->state == HA_VM_STARTING && vm->owner == vmm->self.nodeid) {
        ha_vmm_start(vmm, vm);
    } else if (vm->twin.to == vmm->self.nodeid && !uuid_equal(vm->twin.id, attempt)) {
        ha_vmm_twin(vmm, vm);
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
    ha_vmmupgrade_forget(l);
    ha_local_free(l);
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

/* The release of a claim that is not there would stop every start: an operator would have
 * to look. 1: it is; 0: it is not; or -errno. */
static int is_made(struct release_job *job)
{
    struct claim_found found;
    int r =
        claim_store_read(job->dir, job->release.vm, &found, job->text, sizeof job->text);

    return r < 0 ? r
                 : found.have_claim && found.claim.epoch == job->release.epoch &&
                       uuid_equal(found.claim.owner.instance, job->release.instance);
}

/* R5: a copy counts if the highest claim names its node. The twin's has every FLUSH that
 * was answered while a claim named it; in checkpoint mode the guest is answered before,
 * so there it counts only after an end in order. Else one more claim takes it out. */
static int without_twin(struct release_job *job, const struct claim_found *found)
{
    struct claim_view view = job->alone;
    struct claim_verdict verdict;
    enum claim_outcome outcome;
    int r;

    view.vm = job->release.vm;
    view.kind = CLAIM_GO_ALONE;
    view.highest = &found->claim;
    view.release = found->have_release ? &found->release : NULL;
    view.mirrored = true;
    claim_may_take(&view, &verdict);
    if (!verdict.may) {
        return 0; /* it was released before */
    }
    r = claim_store_link(job->dir, &verdict.claim, &outcome, job->text, sizeof job->text);
    if (r < 0 || outcome == CLAIM_OUTCOME_LOST) {
        job->claim.epoch = 0; /* LOST: its twin has it */
        return r;
    }
    job->claim = verdict.claim;
    job->release.epoch = verdict.claim.epoch;
    return 0;
}

static int settle_copies(struct release_job *job)
{
    struct claim_found found;
    int r =
        claim_store_read(job->dir, job->release.vm, &found, job->text, sizeof job->text);

    if (r < 0 || !found.have_claim ||
        !uuid_equal(found.claim.owner.instance, job->release.instance) ||
        found.claim.epoch < job->release.epoch) {
        return r;
    }
    job->claim = found.claim;
    job->release.epoch = found.claim.epoch; /* a try before may have made one more */
    return uuid_is_none(found.claim.twin.instance) || job->twin_has_all
               ? 0
               : without_twin(job, &found);
}

static void release_work(void *data)
{
    struct release_job *job = data;

    job->r = ha_disks_drain(&job->disks, job->text, sizeof job->text);
    if (job->r == 0 && job->mirrored) {
        job->r = settle_copies(job);
    }
    if (job->r == 0 && job->unsure) {
        job->r = is_made(job);
        if (job->r <= 0) {
            return;
        }
    }
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

static void note_copies(struct ha_local *l, const struct release_job *job)
{
    if (job->claim.epoch != 0) {
        ha_local_copies(l, &job->claim);
        l->epoch = job->claim.epoch;
    }
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
            note_copies(l, job);
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

bool ha_local_settles(const struct ha_local *l)
{
    for (unsigned i = 0; i < l->disk_count && !l->ended_well; i++) {
        const struct conf_disk *d = &l->disk[i];

        if (conf_disk_is_nbd(d) && !d->read_only &&
            d->exclusion != CONF_EXCLUDE_BY_EPOCH) {
            return true;
        }
    }
    return false;
}

static void settled_fn(void *data)
{
    struct ha_local *l = data;

    l->release_timer = 0;
    l->settled = true;
    ha_local_gone(l);
}

/* Its release lets anybody start it: not while its storage may still carry out what was
 * asked for. False: there is nothing to wait for. */
static bool settles_first(struct ha_local *l)
{
    uint64_t ns = l->vmm->ops->settle_ns(l->vmm->ctx);

    if (l->settled || !l->entered || ns == 0 || ns == UINT64_MAX ||
        !ha_local_settles(l)) {
        return false;
    }
    l->phase = LOCAL_ENDING;
    return loop_timer_add(l->vmm->loop, ns, settled_fn, l, &l->release_timer) == 0;
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

static void fill_copies(const struct ha_local *l, struct release_job *job)
{
    for (unsigned i = 0; i < l->disk_count; i++) {
        job->mirrored = job->mirrored || l->disk[i].mirrored;
    }
    job->twin_has_all = ha_vmmtwin_has_all(l);
    job->alone.me = (struct claim_who){.node_id = l->vmm->self.nodeid,
                                       .inc = l->vmm->self.incarnation,
                                       .instance = l->instance};
    job->alone.node_name = l->vmm->self.name;
    job->alone.attempt = uuid_random();
}

void ha_local_gone(struct ha_local *l)
{
    struct release_job *job;

    if (ha_storage_up(l)) {
        ha_storage_end(l); /* and comes back here: the instance is both processes */
        return;
    }
    if (ha_vmmtwin_ended(l)) {
        return;
    }
    if (!l->claim_won || l->discarded || l->released || ha_vmmtwin_leaves_claim(l)) {
        if (l->epoch != 0 && ha_vmmhold_unguarded(l) != 0) {
            ha_vmmgone_note(l); /* its twin may have the claim */
        }
        finish(l);
        return;
    }
    if (settles_first(l)) {
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
    job->unsure = l->claim_unsure;
    fill_copies(l, job);
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
    l->alike = doc != NULL && json_object_object_get_ex(doc, "copies_alike", &value) &&
               json_object_get_boolean(value);
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
    bool killed;

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
    killed = status >= 0 && WIFSIGNALED(status);
    l->ended_well = (l->guest_shutdown || l->stopping) && !killed;
    killed = killed && l->outcome_text[0] == '\0'; /* not by this agent */
    describe_status(l, status);
    if (killed) {
        ha_vmmtwin_killed(l);
    }
    if (l->released) {
        l->outcome = HA_OUTCOME_SUSPENDED;
    } else if (l->task == LOCAL_MIGRATE && l->take_back) {
        l->outcome = HA_OUTCOME_MOVED; /* an upgrade's: its successor speaks */
    } else if (l->stopping) {
        l->outcome = HA_OUTCOME_STOPPED;
    } else if (l->resume_refused) {
        l->outcome = HA_OUTCOME_NOT_RESUMED;
    } else if (l->phase == LOCAL_STARTING &&
               !(l->moving != NULL && l->moving->incoming && l->moving->upgrade)) {
        l->outcome = HA_OUTCOME_START_FAILED;
    } else {
        l->outcome = HA_OUTCOME_ENDED;
    }
    if (l->claim_pending || l->save_step == SAVE_COMMIT ||
        (l->moving != NULL && l->moving->busy)) {
        l->ended = true; /* the claim's outcome comes first: it may have to be released */
    } else {
        ha_vmmupgrade_ended(l);
        ha_local_gone(l);
    }
    return 0;
}

int ha_local_watch(struct ha_local *l)
{
    return loop_fd_add(l->vmm->loop, l->child.pidfd, POLLIN, on_child_end, l);
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
