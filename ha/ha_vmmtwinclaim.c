/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The claims of a protected VM (design 5, R5). Unlike those of a start they are asked for
 * until their outcome is known: meanwhile nobody moves, the primary holds its outputs and
 * the twin stays drained. The same attempt is linked again and again, what is read back
 * decides.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/uuid.h"
#include "fencing/claim_store.h"
#include "ha/ha_reach.h"
#include "ha/ha_text.h"
#include "ha/ha_vmmtwin_priv.h"

#define AGAIN_NS (50 * NSEC_PER_MSEC)
#define REACH_NS (40 * NSEC_PER_MSEC) /* nobody answers this node */
/* Whose links are down delays (R5). By then the other side has the claim, or nobody will.
 */
#define DELAY_NS (10 * NSEC_PER_SEC)

struct twin_claim {
    struct ha_vmm *vmm;
    uint64_t local_id, number; /* of the asking: one that is called off has another */
    char dir[PATH_LEN_MAX * 2];
    struct uuid vm;
    enum claim_kind kind;
    struct claim_found found;
    struct claim_halt gave_up[CLAIM_UNEXCLUDED_MAX];
    uint32_t gave_up_count;
    struct claim claim;
    enum claim_outcome outcome;
    loop_timer timer;
    void (*next)(struct twin_claim *job); /* of timer */
    bool told, heard;                     /* heard: another node has answered this one */
    uint64_t began_ns;
    int r;
    char text[REASON_LEN_MAX + 1];
};

static void read_again(struct twin_claim *job);
static void link_again(struct twin_claim *job);

/* NULL: its VM is gone, or it is not wanted any more; the job goes. */
static struct ha_local *local_of(struct twin_claim *job)
{
    struct ha_local *l = ha_local_by_id(job->vmm, job->local_id);

    if (l == NULL || l->twin == NULL || l->twin_claims != job->number) {
        free(job);
        return NULL;
    }
    return l;
}

/* Its process has ended meanwhile: that goes on now. */
static void end(struct ha_local *l)
{
    l->claim_pending = false;
    l->twin->claiming = CLAIM_KIND_NONE;
    if (l->ended) {
        ha_local_gone(l);
    }
}

static void give(struct ha_local *l, struct twin_claim *job, enum twin_claimed what)
{
    enum claim_kind kind = job->kind;
    char text[REASON_LEN_MAX + 1];

    ha_text_set(text, sizeof text, job->text, NULL);
    if (what == TWIN_CLAIM_WON) {
        l->claim_won = true;
        l->claim_unsure = false;
        l->claim = job->claim;
        l->epoch = job->claim.epoch;
    }
    free(job);
    if (l->ended) {
        end(l);
        return;
    }
    l->claim_pending = false;
    l->twin->claiming = CLAIM_KIND_NONE;
    l->twin->submitted = false;
    if (what == TWIN_CLAIM_WON) {
        l->vmm->ops->step(l->vmm->ctx, l->name, "claim taken");
        (void)ha_local_save(l);
    }
    ha_vmmtwin_claimed(l, kind, what, text);
}

static void again_fn(void *data)
{
    struct twin_claim *job = data;

    job->timer = 0;
    if (local_of(job) != NULL) {
        job->next(job);
    }
}

/* Its text is why. */
static void again(struct ha_local *l, struct twin_claim *job,
                  void (*next)(struct twin_claim *job))
{
    if (!job->told) {
        log_warn("vm %s: %s: not yet: %s", l->name, claim_kind_str(job->kind), job->text);
        job->told = true;
    }
    job->next = next;
    if (loop_timer_add(l->vmm->loop, AGAIN_NS, again_fn, job, &job->timer) < 0) {
        give(l, job, TWIN_CLAIM_REFUSED);
    }
}

static void link_work(void *data)
{
    struct twin_claim *job = data;

    job->r = claim_store_link(job->dir, &job->claim, &job->outcome, job->text,
                              sizeof job->text);
}

static void link_done(void *data)
{
    struct twin_claim *job = data;
    struct ha_local *l = local_of(job);

    if (l == NULL) {
        return;
    }
    if (job->r < 0) {
        again(l, job, link_again);
        return;
    }
    ha_text_set(job->text, sizeof job->text, "claim ", NULL);
    ha_text_add_u64(job->text, sizeof job->text, job->claim.epoch);
    ha_text_add(job->text, sizeof job->text, " was taken by another instance");
    give(l, job, job->outcome == CLAIM_OUTCOME_WON ? TWIN_CLAIM_WON : TWIN_CLAIM_LOST);
}

static void link_again(struct twin_claim *job)
{
    struct ha_local *l = ha_local_by_id(job->vmm, job->local_id);

    l->twin->submitted = true;
    if (worker_submit(job->vmm->worker, l->id, link_work, link_done, job) < 0) {
        ha_text_set(job->text, sizeof job->text, "out of memory", NULL);
        again(l, job, link_again);
    }
}

static struct claim_view view_of(struct ha_local *l, struct twin_claim *job)
{
    struct ha_vmm *vmm = l->vmm;
    const struct claim *top = job->found.have_claim ? &job->found.claim : NULL;
    bool named = top != NULL && !uuid_is_none(top->twin.instance);

    return (struct claim_view){
        .vm = l->vm,
        /* Without a twin in the claim there is none to leave: the owner goes on. */
        .kind = job->kind == CLAIM_GO_ALONE && !named ? CLAIM_THAW : job->kind,
        .me = {.node_id = vmm->self.nodeid,
               .inc = vmm->self.incarnation,
               .instance = l->instance},
        .node_name = vmm->self.name,
        .attempt = uuid_random(),
        .highest = top,
        .release = job->found.have_release ? &job->found.release : NULL,
        .quorate = vmm->ops->quorate(vmm->ctx),
        .links_down = !job->heard && vmm->ops->links_down(vmm->ctx) &&
                      loop_now_ns() - job->began_ns < DELAY_NS,
        .mirrored = l->conf != NULL && conf_vm_has_mirrors(l->conf),
        .twin = {.node_id = l->twin->record.to,
                 .inc = l->twin->record.to_incarnation,
                 .instance = l->twin->record.instance},
        .twin_synced = true, /* its VMM told `arm` */
        .commit_on = true,
        .older_drained = true,
    };
}

/* Who may not now may later: the quorum comes back, the links do. */
static bool passes(enum claim_reason reason)
{
    return reason == CLAIM_NO_QUORUM || reason == CLAIM_NO_LINKS_DOWN;
}

static void judge(struct ha_local *l, struct twin_claim *job)
{
    struct claim_view view = view_of(l, job);
    struct claim_halt gone[2 * CLAIM_UNEXCLUDED_MAX];
    struct claim_verdict verdict;

    l->halt_count = 0;
    view.evidence = ha_local_evidence(l);
    if (view.highest != NULL) {
        view.evidence.halts = gone;
        view.evidence.halt_count = ha_local_gone_here(l->vmm, view.highest, gone);
        memcpy(gone + view.evidence.halt_count, job->gave_up,
               job->gave_up_count * sizeof gone[0]);
        view.evidence.halt_count += job->gave_up_count;
    }
    /* A primary whose own links are down is not seen by anybody: its twin goes first. */
    if (job->kind == CLAIM_GO_ALONE && view.links_down) {
        ha_text_set(job->text, sizeof job->text, "this node's own links are down", NULL);
        again(l, job, read_again);
        return;
    }
    if (view.highest == NULL) { /* it runs by a claim: this is not its directory */
        ha_text_set(job->text, sizeof job->text,
                    "no claim is in the VM's directory: is the shared storage mounted?",
                    NULL);
        again(l, job, read_again);
        return;
    }
    claim_may_take(&view, &verdict);
    if (!verdict.may) {
        claim_explain(&view, &verdict, job->text);
        if (passes(verdict.reason)) {
            again(l, job, read_again);
        } else {
            give(l, job,
                 verdict.reason == CLAIM_NO_NOT_OWNER ||
                         verdict.reason == CLAIM_NO_NOT_TWIN
                     ? TWIN_CLAIM_LOST
                     : TWIN_CLAIM_REFUSED);
        }
        return;
    }
    job->claim = verdict.claim;
    link_again(job);
}

/* The primary is not the owner any more: its twin has gone live. */
static bool is_lost(const struct ha_local *l, struct twin_claim *job)
{
    if (l->twin->twin || !job->found.have_claim || job->found.claim.epoch <= l->epoch ||
        uuid_equal(job->found.claim.owner.instance, l->instance)) {
        return false;
    }
    ha_text_set(job->text, sizeof job->text, "claim ", NULL);
    ha_text_add_u64(job->text, sizeof job->text, job->found.claim.epoch);
    ha_text_add(job->text, sizeof job->text, " is another instance's");
    return true;
}

static void on_reach(bool heard, void *data)
{
    struct twin_claim *job = data;
    struct ha_local *l = local_of(job);

    if (l == NULL) {
        return;
    }
    job->heard = heard;
    if (l->ended) {
        free(job);
        end(l);
    } else if (heard || loop_now_ns() - job->began_ns >= DELAY_NS) {
        judge(l, job);
    } else {
        ha_text_set(job->text, sizeof job->text, "no other node answers this one", NULL);
        again(l, job, read_again);
    }
}

/* Who goes on without the other side asks first whether it is not itself that is cut off.
 * Of two nodes there is nobody else to ask. */
static void look_around(struct ha_local *l, struct twin_claim *job)
{
    const struct conf_cluster *conf = l->vmm->ops->cluster(l->vmm->ctx);
    const char *address[NODES_MAX];
    unsigned count = 0;

    for (unsigned i = 0; conf != NULL && i < conf->node_count; i++) {
        if (conf->node[i].nodeid != l->vmm->self.nodeid) {
            address[count++] = conf->node[i].addr;
        }
    }
    if ((job->kind != CLAIM_GO_LIVE && job->kind != CLAIM_GO_ALONE) || count < 2 ||
        ha_reach_ask(l->vmm->loop, address, count, REACH_NS, on_reach, job) < 0) {
        judge(l, job);
    }
}

static void read_work(void *data)
{
    struct twin_claim *job = data;

    job->r =
        claim_store_read(job->dir, job->vm, &job->found, job->text, sizeof job->text);
    if (job->r == 0) {
        job->gave_up_count =
            claim_store_gave_up(job->dir, &job->found.claim, job->gave_up);
    }
}

/* The twin's claim is made: by an agent that was restarted before it could say so. */
static bool has_it(const struct ha_local *l, const struct twin_claim *job)
{
    return job->kind == CLAIM_GO_LIVE && job->found.have_claim &&
           !job->found.have_release &&
           uuid_equal(job->found.claim.owner.instance, l->instance);
}

static void read_done(void *data)
{
    struct twin_claim *job = data;
    struct ha_local *l = local_of(job);

    if (l == NULL) {
        return;
    }
    if (l->ended) {
        free(job);
        end(l);
    } else if (job->r < 0) {
        again(l, job, read_again);
    } else if (has_it(l, job)) {
        job->claim = job->found.claim;
        give(l, job, TWIN_CLAIM_WON);
    } else if (l->twin->unwanted) {
        ha_text_set(job->text, sizeof job->text, "not wanted any more", NULL);
        give(l, job, TWIN_CLAIM_REFUSED);
    } else if (is_lost(l, job)) {
        give(l, job, TWIN_CLAIM_LOST);
    } else {
        look_around(l, job);
    }
}

static void read_again(struct twin_claim *job)
{
    struct ha_local *l = ha_local_by_id(job->vmm, job->local_id);

    if (l->ended) {
        free(job);
        end(l);
    } else if (worker_submit(job->vmm->worker, l->id, read_work, read_done, job) < 0) {
        ha_text_set(job->text, sizeof job->text, "out of memory", NULL);
        again(l, job, read_again);
    }
}

bool ha_vmmtwin_unclaim(struct ha_local *l)
{
    if (l->twin->claiming == CLAIM_KIND_NONE || l->twin->submitted) {
        return false;
    }
    l->twin_claims++;
    l->twin->claiming = CLAIM_KIND_NONE;
    l->claim_pending = false;
    return true;
}

void ha_vmmtwin_claim(struct ha_local *l, enum claim_kind kind)
{
    struct twin_claim *job;

    if (l->claim_pending || l->ended) {
        return;
    }
    job = calloc(1, sizeof *job);
    if (job == NULL) {
        ha_vmmtwin_claimed(l, kind, TWIN_CLAIM_REFUSED, "out of memory");
        return;
    }
    job->vmm = l->vmm;
    job->local_id = l->id;
    job->vm = l->vm;
    job->kind = kind;
    job->began_ns = loop_now_ns();
    job->number = ++l->twin_claims;
    ha_text_set(job->dir, sizeof job->dir, l->dir, NULL);
    l->claim_pending = true;
    l->twin->claiming = kind;
    l->twin->submitted = false;
    read_again(job);
}
