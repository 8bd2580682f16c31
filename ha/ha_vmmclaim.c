/* SPDX-License-Identifier: Apache-2.0 */
/* The claims of a local VM: the highest is read, judged and followed by the next, on a
 * worker; ha_vmm.c has its life around them. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/uuid.h"
#include "fencing/claim_store.h"
#include "ha/ha_text.h"
#include "ha/ha_vmdir.h"
#include "ha/ha_vmm_priv.h"

#define LINK_TRIES 5

struct claim_job {
    struct ha_vmm *vmm;
    uint64_t local_id;
    char dir[PATH_LEN_MAX * 2];
    struct uuid vm;
    struct claim_found found;
    struct claim_halt gave_up[CLAIM_UNEXCLUDED_MAX]; /* of those displaced before */
    uint32_t gave_up_count;
    struct claim claim; /* link: what to make */
    bool inherits;      /* `found` is of another VM, whose directory it was */
    bool cold;          /* its guest begins anew */
    bool keep_state;    /* resume, if it was suspended */
    int state_fd;       /* of suspend.gms; -1 */
    uint8_t digest[CLAIM_DIGEST_LEN];
    char state_text[REASON_LEN_MAX + 1]; /* why it cannot be read */
    enum claim_outcome outcome;
    char text[REASON_LEN_MAX + 1];
    int tries;
    int r;
};

struct claim_evidence ha_local_evidence(struct ha_local *l)
{
    struct ha_vmm *vmm = l->vmm;
    uint32_t kept_away = 0;

    /* It runs on disks whose storage let it in, and nobody of an earlier epoch since. */
    if (l->conf != NULL && conf_vm_is_guarded(l->conf) &&
        (l->phase == LOCAL_RUNNING || l->phase == LOCAL_FROZEN)) {
        while (kept_away < l->claim.unexcluded_count) {
            l->kept_away[kept_away] = l->claim.unexcluded[kept_away].who.instance;
            kept_away++;
        }
    }
    return (struct claim_evidence){
        .fenced_by_storage = l->kept_away,
        .fenced_by_storage_count = kept_away,
        .proofs = vmm->ops->proofs(vmm->ctx),
        .halts = l->halts,
        .halt_count = l->halt_count,
        .now_ns = loop_now_ns(),
        .settle_ns = vmm->ops->settle_ns(vmm->ctx),
    };
}

/* Frees the job; its open state, if it has one, becomes the VM's. */
static void claim_job_free(struct claim_job *job, struct ha_local *l)
{
    if (job->state_fd >= 0 && l != NULL && l->state_fd < 0) {
        l->state_fd = job->state_fd;
    } else if (job->state_fd >= 0) {
        close(job->state_fd);
    }
    free(job);
}

static void link_work(void *data)
{
    struct claim_job *job = data;

    job->r = -EIO;
    for (int i = 0; i < LINK_TRIES && job->r < 0; i++) {
        job->r = claim_store_link(job->dir, &job->claim, &job->outcome, job->text,
                                  sizeof job->text);
    }
}

/* Somebody else has it: this one ends without another instruction. */
static void lost(struct ha_local *l)
{
    if (l->task == LOCAL_MIGRATE) {
        ha_local_report(l, HA_OUTCOME_MOVED, "the destination has its claim");
    }
    l->discarded = true;
}

static void link_done(void *data)
{
    struct claim_job *job = data;
    struct ha_local *l = ha_local_by_id(job->vmm, job->local_id);
    bool enter = false;
    int saved = 0;

    if (l != NULL) {
        l->claim_pending = false;
        if (job->r == 0 && job->outcome == CLAIM_OUTCOME_WON) {
            l->claim_won = true;
            l->claim_unsure = false;
            l->claim = job->claim;
            l->take_back = false;
            l->epoch = job->claim.epoch;
            ha_vmmupgrade_won(l);
            if (!l->paused) {
                l->vmm->ops->step(l->vmm->ctx, l->name, "claim taken");
            }
            saved = ha_local_save(l);
        } else if (job->r == 0) {
            ha_text_set(l->outcome_text, sizeof l->outcome_text, "claim ", NULL);
            ha_text_add_u64(l->outcome_text, sizeof l->outcome_text, job->claim.epoch);
            ha_text_add(l->outcome_text, sizeof l->outcome_text,
                        " was taken by another instance");
        } else {
            /* Not known: the link may still appear, so it is treated as won when it comes
             * to releasing it. */
            l->claim_won = l->claim_unsure = true;
            l->epoch = job->claim.epoch;
            ha_text_set(l->outcome_text, sizeof l->outcome_text,
                        "claim not made: ", job->text, NULL);
        }
        if (l->ended) {
            ha_vmmupgrade_ended(l);
            ha_local_gone(l);
        } else if (l->stopping && l->moving != NULL && l->moving->upgrade) {
            ha_local_kill(l); /* told before it had the claim: now it releases it */
        } else if (job->r < 0 || job->outcome != CLAIM_OUTCOME_WON) {
            if (l->thawing && job->r == 0) {
                lost(l);
            }
            if (!l->discarded || !ha_vmmmove_serves(l)) {
                ha_local_fail(l, l->outcome_text);
            }
        } else if (saved < 0) {
            ha_local_fail(l, HA_NOT_ON_RECORD);
        } else {
            enter = true;
        }
    }
    claim_job_free(job, enter ? l : NULL);
    if (enter) {
        ha_local_enter(l);
    }
}

static bool is_here(const struct ha_vmm *vmm, struct uuid instance)
{
    for (const struct ha_local *l = vmm->head; l != NULL; l = l->next) {
        if (uuid_equal(l->instance, instance)) {
            return true;
        }
    }
    return false;
}

uint32_t ha_local_gone_here(const struct ha_vmm *vmm, const struct claim *claim,
                            struct claim_halt ret[static CLAIM_UNEXCLUDED_MAX])
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < claim->unexcluded_count; i++) {
        const struct claim_displaced *d = &claim->unexcluded[i];

        if (d->who.node_id == vmm->self.nodeid &&
            incarnation_equal(&d->who.inc, &vmm->self.incarnation) &&
            !is_here(vmm, d->who.instance)) {
            ret[count++] = (struct claim_halt){.vm = claim->vm,
                                               .epoch = d->epoch,
                                               .instance = d->who.instance,
                                               .kind = CLAIM_HALT_GONE};
        }
    }
    return count;
}

/* This node's own earlier instances are known to be gone when they are no more in the
 * local table: every process of theirs is there until it ended. */
static void note_own_halt(struct ha_local *l, const struct claim *highest)
{
    const struct ha_agent_self *self = &l->vmm->self;

    l->halt_count = 0;
    if (highest == NULL || highest->owner.node_id != self->nodeid ||
        !incarnation_equal(&highest->owner.inc, &self->incarnation) ||
        (!uuid_equal(highest->owner.instance, l->instance) &&
         is_here(l->vmm, highest->owner.instance))) {
        return;
    }
    l->halts[l->halt_count++] = (struct claim_halt){
        .vm = l->vm,
        .epoch = highest->epoch,
        .instance = highest->owner.instance,
        .kind = uuid_equal(highest->owner.instance, l->instance) ? CLAIM_HALT_FROZEN
                                                                 : CLAIM_HALT_GONE};
}

/* Digested by the very descriptor that the VMM is going to read. */
static void read_state(struct claim_job *job)
{
    char path[sizeof job->dir + sizeof VMDIR_STATE + 1];
    int r = 0;

    snprintf(path, sizeof path, "%s/" VMDIR_STATE, job->dir);
    job->state_fd = open(path, O_RDONLY | O_CLOEXEC);
    r = job->state_fd < 0 ? -errno : ha_vmdir_digest(job->state_fd, job->digest);
    if (r < 0) {
        ha_text_set(job->state_text, sizeof job->state_text, path, ": ", strerror(-r),
                    "; bring it back, or give that state up: gemel vm start "
                    "--discard-state",
                    NULL);
    }
}

static void read_work(void *data)
{
    struct claim_job *job = data;

    job->r =
        claim_store_read(job->dir, job->vm, &job->found, job->text, sizeof job->text);
    if (job->r == -EBADMSG && job->cold) {
        char text[sizeof job->text];

        job->inherits =
            claim_store_former(job->dir, job->vm, &job->found, text, sizeof text) == 0;
        job->r = job->inherits ? 0 : job->r;
    }
    if (job->r == 0 && !job->inherits) {
        job->gave_up_count =
            claim_store_gave_up(job->dir, &job->found.claim, job->gave_up);
    }
    if (job->r == 0 && !job->inherits && job->keep_state && job->found.have_release &&
        job->found.release.suspended) {
        read_state(job);
    }
}

/* Its thaw has no claim: it stays as it is, under the claim it was frozen under, and
 * waits. */
static void refreeze(struct ha_local *l, const char *why)
{
    l->thawing = false;
    ha_vmmmove_free(l);
    l->claim_won = true;
    l->outcome_text[0] = '\0';
    ha_local_frozen(l, why);
}

/* Its storage does not answer, which may pass: nobody else can take it either. */
static void unreadable(struct ha_local *l, const char *text)
{
    char why[REASON_LEN_MAX + 1];

    ha_text_set(why, sizeof why, "claims: ", text, "; the VM is paused", NULL);
    l->ran_since_ns = loop_now_ns(); /* tried less and less often */
    refreeze(l, why);
}

/* This instance released it: it says so, or its agent was restarted meanwhile and the
 * release says so. */
static bool take_back(const struct ha_local *l, const struct claim_job *job)
{
    return l->take_back || (job->found.have_release &&
                            uuid_equal(job->found.release.instance, l->instance));
}

/* The claims in its directory are of a VM that was deleted, or so it seems. */
static void judge_inherited(struct ha_local *l, const struct claim_job *job,
                            const struct claim_view *view,
                            struct claim_verdict *ret_verdict)
{
    const struct ha_vm *former = l->vmm->ops->record(l->vmm->ctx, view->vm);
    char why[REASON_LEN_MAX + 1];

    claim_may_inherit(view, l->vm, former != NULL, ret_verdict);
    if (ret_verdict->may) {
        log_info("vm %s: %s: goes on from the claims of a deleted VM, at epoch %" PRIu64,
                 l->name, job->dir, ret_verdict->claim.epoch);
    } else if (former != NULL) {
        ha_text_set(l->outcome_text, sizeof l->outcome_text, job->text,
                    "; that VM is defined: ", former->name, NULL);
    } else {
        claim_explain(view, ret_verdict, why);
        ha_text_set(l->outcome_text, sizeof l->outcome_text,
                    "its directory was a deleted VM's: ", why, NULL);
    }
}

/* A live upgrade had come so far when the agent was restarted that the new instance had
 * the claim; that was ended since, and this one's memory is not the VM's any more. */
static bool is_nobodys(const struct ha_local *l, const struct claim *highest)
{
    const struct ha_agent_self *self = &l->vmm->self;

    if (highest == NULL || highest->owner.node_id != self->nodeid ||
        !incarnation_equal(&highest->owner.inc, &self->incarnation)) {
        return false;
    }
    for (const struct ha_local *o = l->vmm->head; o != NULL; o = o->next) {
        if (uuid_equal(o->instance, highest->owner.instance)) {
            return o->superseded;
        }
    }
    return true;
}

/* Claims that do not say which copies hold would let any of them be started. */
static bool shared_before(const struct claim_view *view)
{
    return view->mirrored && view->highest != NULL && view->highest->mirror_count == 0;
}

/* Owners that were displaced before, and are gone. */
static void note_others(struct ha_local *l, const struct claim_job *job)
{
    if (!job->inherits && job->found.have_claim) {
        l->halt_count +=
            ha_local_gone_here(l->vmm, &job->found.claim, l->halts + l->halt_count);
        memcpy(l->halts + l->halt_count, job->gave_up,
               job->gave_up_count * sizeof job->gave_up[0]);
        l->halt_count += job->gave_up_count;
    }
}

/* It may not be taken: why, and what becomes of the VM here. */
static void no_claim(struct ha_local *l, struct claim_job *job,
                     const struct claim_view *view, const struct claim_verdict *verdict)
{
    if (!job->inherits && view->highest != NULL) {
        ha_local_copies(l, view->highest);
    }
    if (shared_before(view)) {
        ha_text_set(l->outcome_text, sizeof l->outcome_text,
                    "its disks are mirrored now, and its claims are from when they "
                    "were not: define it as a VM of another name",
                    NULL);
    } else if (!job->inherits) {
        claim_explain(view, verdict, l->outcome_text);
    }
    if (verdict->reason == CLAIM_NO_DIGEST_DIFFERS) {
        l->resume_refused = true;
        if (job->state_text[0] != '\0') {
            ha_text_set(l->outcome_text, sizeof l->outcome_text, job->state_text, NULL);
        }
    }
    l->claim_pending = false;
    if (l->thawing && verdict->reason == CLAIM_NO_NOT_OWNER &&
        is_nobodys(l, view->highest)) {
        l->phase = LOCAL_FROZEN; /* it ends, which is reported */
    } else if (l->thawing && verdict->reason == CLAIM_NO_NOT_OWNER) {
        lost(l);
    } else if (l->thawing) {
        l->claim_won = true; /* the one it was frozen under, to be released */
    }
    claim_job_free(job, NULL);
    if (ha_vmmmove_not_yet(l, verdict->reason)) {
        l->outcome_text[0] = '\0';
        return;
    }
    if (l->ended) {
        ha_vmmupgrade_ended(l);
        ha_local_gone(l);
    } else if (l->thawing && verdict->reason == CLAIM_NO_QUORUM) {
        refreeze(l, "frozen: quorum was lost before it could be thawed");
    } else {
        ha_local_fail(l, l->outcome_text);
    }
}

static void take_claim(struct ha_local *l, struct claim_job *job)
{
    struct ha_vmm *vmm = l->vmm;
    bool suspended =
        job->found.have_release && job->found.release.suspended && !job->inherits;
    struct claim_view view = {
        .vm = job->inherits ? job->found.claim.vm : l->vm,
        .kind = l->moving != NULL && l->moving->incoming ? CLAIM_MIGRATE_IN
                : l->thawing ? take_back(l, job) ? CLAIM_TAKE_BACK : CLAIM_THAW
                : suspended && job->keep_state ? CLAIM_RESUME
                : l->restart                   ? CLAIM_RESTART
                                               : CLAIM_START,
        .me = {.node_id = vmm->self.nodeid,
               .inc = vmm->self.incarnation,
               .instance = l->instance},
        .node_name = vmm->self.name,
        .attempt = uuid_random(),
        .highest = job->found.have_claim ? &job->found.claim : NULL,
        .release = job->found.have_release ? &job->found.release : NULL,
        .quorate = vmm->ops->quorate(vmm->ctx),
        .mirrored = l->conf != NULL && conf_vm_has_mirrors(l->conf),
        .mirror_override = l->accept,
        .discard_suspended = l->discard,
        .suspend_digest = job->state_text[0] == '\0' ? job->digest : NULL,
    };
    struct claim_verdict verdict;

    /* Of a former VM's processes here nothing is known. */
    note_own_halt(l, job->inherits ? NULL : view.highest);
    note_others(l, job);
    view.evidence = ha_local_evidence(l);
    if (job->inherits) {
        judge_inherited(l, job, &view, &verdict);
    } else if (shared_before(&view)) {
        memset(&verdict, 0, sizeof verdict);
        verdict.reason = CLAIM_NO_MIRROR_STALE;
    } else {
        claim_may_take(&view, &verdict);
    }
#ifdef MUT_NO_FENCE_WAIT
    if (verdict.reason == CLAIM_NO_OWNER_NOT_PROVEN_DEAD) {
        verdict.may = true;
        verdict.claim = *view.highest;
        verdict.claim.epoch++;
        verdict.claim.attempt = view.attempt;
        verdict.claim.owner = view.me;
    }
#endif
    if (!verdict.may) {
        no_claim(l, job, &view, &verdict);
        return;
    }
    job->claim = verdict.claim;
    l->resume = view.kind == CLAIM_RESUME;
    if (suspended) {
        memcpy(l->digest, job->found.release.digest, sizeof l->digest);
    }
    l->reverted_state = suspended; /* until the revert has put another one there */
    if (worker_submit(vmm->worker, l->id, link_work, link_done, job) < 0) {
        claim_job_free(job, NULL);
        l->claim_pending = false;
        ha_local_fail(l, "out of memory");
    }
}

static void read_done(void *data)
{
    struct claim_job *job = data;
    struct ha_local *l = ha_local_by_id(job->vmm, job->local_id);

    if (l == NULL) {
        claim_job_free(job, NULL);
        return;
    }
    if (job->r < 0 || l->ended) {
        l->claim_pending = false;
        ha_text_set(l->outcome_text, sizeof l->outcome_text,
                    job->r < 0 ? job->text : l->outcome_text, NULL);
        claim_job_free(job, NULL);
        if (l->ended) {
            ha_vmmupgrade_ended(l);
            ha_local_gone(l);
        } else if (l->thawing && !l->stopping) {
            char text[REASON_LEN_MAX + 1];

            ha_text_set(text, sizeof text, l->outcome_text, NULL);
            unreadable(l, text);
        } else {
            l->claim_won = l->claim_won || l->thawing;
            ha_local_fail(l, l->outcome_text);
        }
        return;
    }
    take_claim(l, job);
}

int ha_local_begin_claim(struct ha_local *l)
{
    struct claim_job *job = calloc(1, sizeof *job);
    int r;

    if (job == NULL) {
        return -ENOMEM;
    }
    job->vmm = l->vmm;
    job->local_id = l->id;
    job->vm = l->vm;
    job->cold = !l->thawing && l->moving == NULL;
    job->keep_state = !l->discard && !l->thawing;
    job->state_fd = -1;
    snprintf(job->dir, sizeof job->dir, "%s", l->dir);
    l->claim_pending = true;
    r = worker_submit(l->vmm->worker, l->id, read_work, read_done, job);
    if (r < 0) {
        l->claim_pending = false;
        free(job);
    }
    return r;
}
