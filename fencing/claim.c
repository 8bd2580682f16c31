/* SPDX-License-Identifier: Apache-2.0 */
#include "fencing/claim.h"

#include <string.h>

#include "base/uuid.h"
#include "fencing/clause.h"

/* Evidence -------------------------------------------------------------------------- */

static bool is_halted(const struct claim_evidence *ev, struct uuid vm, uint64_t epoch,
                      struct uuid instance)
{
    for (uint32_t i = 0; i < ev->halt_count; i++) {
        const struct claim_halt *h = &ev->halts[i];

        if (h->kind == CLAIM_HALT_NONE || !uuid_equal(h->vm, vm) ||
            !uuid_equal(h->instance, instance)) {
            continue;
        }
        if (h->epoch == epoch || !CLAUSE(R2_HALT_THAT_EPOCH)) {
            return true;
        }
    }
    return false;
}

/* An instance is one process: once it is gone its I/O is over, whatever it owned last. */
static bool is_gone(const struct claim_evidence *ev, struct uuid instance)
{
    for (uint32_t i = 0; i < ev->halt_count; i++) {
        if (ev->halts[i].kind == CLAIM_HALT_GONE &&
            uuid_equal(ev->halts[i].instance, instance)) {
            return true;
        }
    }
    return false;
}

static bool is_fenced_by_storage(const struct claim_evidence *ev, struct uuid instance)
{
    for (uint32_t i = 0; i < ev->fenced_by_storage_count; i++) {
        if (uuid_equal(ev->fenced_by_storage[i], instance)) {
            return true;
        }
    }
    return false;
}

bool claim_is_excluded(const struct claim_displaced *who, struct uuid vm,
                       const struct claim_evidence *ev, uint64_t *ret_until_ns)
{
    struct proof_answer answer;
    uint64_t until_ns;

    if (is_fenced_by_storage(ev, who->who.instance) || is_gone(ev, who->who.instance) ||
        is_halted(ev, vm, who->epoch, who->who.instance)) {
        *ret_until_ns = 0;
        return true;
    }
    if (!proof_covers(ev->proofs, who->who.node_id, &who->who.inc, vm, who->epoch,
                      who->who.instance, &answer)) {
        *ret_until_ns = UINT64_MAX;
        return false;
    }
    if (answer.drained || !CLAUSE(R2_SETTLE)) {
        *ret_until_ns = 0;
        return true;
    }
    if (__builtin_add_overflow(answer.known_ns, ev->settle_ns, &until_ns)) {
        until_ns = UINT64_MAX;
    }
    *ret_until_ns = until_ns;
    return until_ns != UINT64_MAX && ev->now_ns >= until_ns;
}

static bool is_proven(const struct claim_displaced *who, struct uuid vm,
                      const struct claim_evidence *ev)
{
    struct proof_answer answer;

    return proof_covers(ev->proofs, who->who.node_id, &who->who.inc, vm, who->epoch,
                        who->who.instance, &answer);
}

static void wait_for_writers(const struct claim *claim, uint32_t node_id,
                             const struct claim_evidence *ev,
                             struct claim_disk_verdict *ret_verdict)
{
    struct claim_disk_verdict v = {.reason = CLAIM_DISK_OK};

    for (uint32_t i = 0; i < claim->unexcluded_count; i++) {
        const struct claim_displaced *who = &claim->unexcluded[i];
        uint64_t until_ns;

        if (claim_is_excluded(who, claim->vm, ev, &until_ns)) {
            continue;
        }
        /* A mirror is reached by the instances of its own node only. */
        if (claim->mirror_count > 0 && who->who.node_id != node_id) {
            continue;
        }
        /* The one that takes longest is the one to name; one without a proof has no time
         * at all. */
        if (!is_proven(who, claim->vm, ev)) {
            v = (struct claim_disk_verdict){CLAIM_DISK_UNPROVEN, UINT64_MAX, *who};
            break;
        }
        if (v.reason == CLAIM_DISK_OK || until_ns > v.until_ns) {
            v = (struct claim_disk_verdict){CLAIM_DISK_SETTLING, until_ns, *who};
        }
    }
    *ret_verdict = v;
}

void claim_may_touch_disk(const struct claim *claim, const struct claim_evidence *ev,
                          struct claim_disk_verdict *ret_verdict)
{
    if (!CLAUSE(R2_EXCLUDE)) {
        *ret_verdict = (struct claim_disk_verdict){.reason = CLAIM_DISK_OK};
        return;
    }
    wait_for_writers(claim, claim->owner.node_id, ev, ret_verdict);
}

void claim_may_open_mirror(const struct claim *claim, uint32_t node_id,
                           const struct claim_evidence *ev,
                           struct claim_disk_verdict *ret_verdict)
{
    if (!CLAUSE(R5_MIRROR_OPEN)) {
        *ret_verdict = (struct claim_disk_verdict){.reason = CLAIM_DISK_OK};
        return;
    }
    wait_for_writers(claim, node_id, ev, ret_verdict);
}

/* Who may take the next claim ------------------------------------------------------- */

static bool kind_is_cold(enum claim_kind kind)
{
    return kind == CLAIM_START || kind == CLAIM_RESTART || kind == CLAIM_RESUME;
}

/* R6: what a node without quorum may still do for VMs that are already here. */
static bool kind_needs_quorum(enum claim_kind kind)
{
    return kind_is_cold(kind) || kind == CLAIM_THAW || kind == CLAIM_PROTECT;
}

static bool who_is_none(const struct claim_who *who)
{
    return uuid_is_none(who->instance);
}

static bool view_is_sane(const struct claim_view *v)
{
    const struct claim *top = v->highest;

    if (uuid_is_none(v->vm) || uuid_is_none(v->attempt) || who_is_none(&v->me) ||
        v->me.node_id == 0 || incarnation_is_none(&v->me.inc) || !v->node_name ||
        v->node_name[0] == '\0' || strlen(v->node_name) > NODE_NAME_MAX) {
        return false;
    }
    if (v->kind == CLAIM_KIND_NONE || (unsigned)v->kind >= CLAIM_KIND_COUNT) {
        return false;
    }
    if (!top) {
        return v->release == NULL;
    }
    if (!uuid_equal(top->vm, v->vm) || top->epoch == 0 || top->epoch == UINT64_MAX ||
        top->unexcluded_count > CLAIM_UNEXCLUDED_MAX ||
        top->mirror_count > CLAIM_MIRRORS_MAX) {
        return false;
    }
    /* A displaced instance never comes back; the caller should have killed it. */
    for (uint32_t i = 0; i < top->unexcluded_count && CLAUSE(R1_DISPLACED_STAYS); i++) {
        if (uuid_equal(top->unexcluded[i].who.instance, v->me.instance)) {
            return false;
        }
    }
    return true;
}

/* The release counts only if the owner of the highest claim made it, for that epoch. */
static const struct claim_release *release_of_highest(const struct claim_view *v)
{
    const struct claim_release *rel = v->release;

    if (!rel || !v->highest || !uuid_equal(rel->vm, v->vm) ||
        rel->epoch != v->highest->epoch ||
        !uuid_equal(rel->instance, v->highest->owner.instance)) {
        return NULL;
    }
    return rel;
}

/* R2: what permits a cold boot over a foreign claim; CLAIM_BASIS_NONE if nothing does. */
static enum claim_basis cold_basis(const struct claim_view *v, enum proof_kind *ret_proof)
{
    const struct claim *top = v->highest;
    const struct claim_release *rel = release_of_highest(v);
    struct proof_answer answer;

    if (!top) {
        return CLAIM_BASIS_FIRST;
    }
    if (rel && (uuid_is_none(rel->to) || uuid_equal(rel->to, v->me.instance) ||
                !CLAUSE(R2_RELEASE_NAMES))) {
        return CLAIM_BASIS_RELEASED;
    }
    if (is_halted(&v->evidence, v->vm, top->epoch, top->owner.instance)) {
        return CLAIM_BASIS_HALTED;
    }
    if (proof_covers(v->evidence.proofs, top->owner.node_id, &top->owner.inc, v->vm,
                     top->epoch, top->owner.instance, &answer)) {
        *ret_proof = answer.kind;
        return CLAIM_BASIS_PROOF;
    }
    return CLAUSE(R2_BASIS) ? CLAIM_BASIS_NONE : CLAIM_BASIS_PROOF;
}

static bool mirror_has(const struct claim *claim, uint32_t node_id)
{
    for (uint32_t i = 0; i < claim->mirror_count; i++) {
        if (claim->mirror_nodes[i] == node_id) {
            return true;
        }
    }
    return false;
}

/* R5: FLUSH is durable on every mirror named, and on no other. */
static bool mirror_is_in_sync(const struct claim_view *v)
{
    const struct claim *top = v->highest;

    /* A memory belongs to the disks that it ran on: only a boot may take others. */
    bool boots = v->kind == CLAIM_START || v->kind == CLAIM_RESTART;

    if (!top || top->mirror_count == 0 || (v->mirror_override && boots)) {
        return true;
    }
    return mirror_has(top, v->me.node_id) || !CLAUSE(R5_MIRROR_IN_SYNC);
}

static enum claim_reason suspended_state_reason(const struct claim_view *v)
{
    const struct claim_release *rel = release_of_highest(v);
    bool suspended = rel && rel->suspended;

    if (v->kind != CLAIM_RESUME) {
        return suspended && !v->discard_suspended ? CLAIM_NO_SUSPENDED : CLAIM_OK;
    }
    if (!suspended) {
        return CLAIM_NO_NOT_SUSPENDED;
    }
    if (!v->suspend_digest ||
        memcmp(rel->digest, v->suspend_digest, CLAIM_DIGEST_LEN) != 0) {
        return CLAIM_NO_DIGEST_DIFFERS;
    }
    return CLAIM_OK;
}

static enum claim_reason judge_cold(const struct claim_view *v, struct claim_verdict *out)
{
    const struct claim *top = v->highest;

    if (top && uuid_equal(top->owner.instance, v->me.instance)) {
        return CLAIM_NO_INSTANCE_USED;
    }
    out->basis = cold_basis(v, &out->proof);
    if (out->basis == CLAIM_BASIS_NONE) {
        return CLAIM_NO_OWNER_NOT_PROVEN_DEAD;
    }
    enum claim_reason r = suspended_state_reason(v);
    if (r != CLAIM_OK) {
        return r;
    }
    return mirror_is_in_sync(v) ? CLAIM_OK : CLAIM_NO_MIRROR_STALE;
}

static enum claim_reason judge_migrate_in(const struct claim_view *v,
                                          struct claim_verdict *out)
{
    const struct claim_release *rel = release_of_highest(v);

    if (!v->highest) {
        return CLAIM_NO_NOT_RELEASED_TO_ME;
    }
    if (uuid_equal(v->highest->owner.instance, v->me.instance)) {
        return CLAIM_NO_INSTANCE_USED;
    }
    /* "Anyone" is a clean stop: nobody's memory goes on from it. */
    if ((!rel || !uuid_equal(rel->to, v->me.instance)) && CLAUSE(R4_RELEASED_TO_ME)) {
        return CLAIM_NO_NOT_RELEASED_TO_ME;
    }
    out->basis = CLAIM_BASIS_RELEASED;
    return mirror_is_in_sync(v) ? CLAIM_OK : CLAIM_NO_MIRROR_STALE;
}

static enum claim_reason judge_go_live(const struct claim_view *v,
                                       struct claim_verdict *out)
{
    const struct claim_release *rel = release_of_highest(v);

    if (!v->highest) {
        return CLAIM_NO_NOT_TWIN;
    }
    if (!uuid_equal(v->highest->twin.instance, v->me.instance) && CLAUSE(R5_TWIN_NAMED)) {
        return CLAIM_NO_NOT_TWIN;
    }
    if (rel && uuid_is_none(rel->to)) {
        return CLAIM_NO_RELEASED; /* stopped or suspended on purpose */
    }
    if (v->links_down) {
        return CLAIM_NO_LINKS_DOWN;
    }
    out->basis = CLAIM_BASIS_TWIN;
    return CLAIM_OK;
}

static enum claim_reason judge_protect(const struct claim_view *v)
{
    if (who_is_none(&v->twin) || v->twin.node_id == 0 ||
        uuid_equal(v->twin.instance, v->me.instance)) {
        return CLAIM_NO_BAD_VIEW;
    }
    if (v->twin.node_id == v->me.node_id) {
        return CLAIM_NO_TWIN_SAME_NODE;
    }
    if (!v->twin_synced && CLAUSE(R5_TWIN_SYNCED)) {
        return CLAIM_NO_TWIN_NOT_SYNCED;
    }
    if (!v->commit_on && CLAUSE(R5_COMMIT_ON_FIRST)) {
        return CLAIM_NO_COMMIT_OFF;
    }
    if (!v->older_drained && CLAUSE(R5_OLDER_DRAINED)) {
        return CLAIM_NO_NOT_DRAINED;
    }
    return CLAIM_OK;
}

/* The kinds by which the owner itself goes on. */
static enum claim_reason judge_own(const struct claim_view *v, struct claim_verdict *out)
{
    if (!v->highest || !uuid_equal(v->highest->owner.instance, v->me.instance)) {
        return CLAIM_NO_NOT_OWNER;
    }
    out->basis = CLAIM_BASIS_OWN;
    if (v->kind != CLAIM_TAKE_BACK && release_of_highest(v)) {
        return CLAIM_NO_RELEASED;
    }
    if (v->kind == CLAIM_PROTECT) {
        return judge_protect(v);
    }
    if ((v->kind == CLAIM_GO_ALONE || v->kind == CLAIM_UNPROTECT) &&
        who_is_none(&v->highest->twin)) {
        return CLAIM_NO_NO_TWIN;
    }
    return CLAIM_OK;
}

static enum claim_reason judge(const struct claim_view *v, struct claim_verdict *out)
{
    if (!view_is_sane(v)) {
        return CLAIM_NO_BAD_VIEW;
    }
    if (kind_needs_quorum(v->kind) && !v->quorate && CLAUSE(R6_QUORUM)) {
        return CLAIM_NO_QUORUM;
    }
    switch (v->kind) {
    case CLAIM_START:
    case CLAIM_RESTART:
    case CLAIM_RESUME:
        return judge_cold(v, out);
    case CLAIM_MIGRATE_IN:
        return judge_migrate_in(v, out);
    case CLAIM_GO_LIVE:
        return judge_go_live(v, out);
    case CLAIM_THAW:
    case CLAIM_TAKE_BACK:
    case CLAIM_GO_ALONE:
    case CLAIM_PROTECT:
    case CLAIM_UNPROTECT:
        return judge_own(v, out);
    case CLAIM_KIND_NONE:
    case CLAIM_KIND_COUNT:
        break;
    }
    return CLAIM_NO_BAD_VIEW;
}

/* The claim to write ---------------------------------------------------------------- */

static bool list_add(struct claim *claim, const struct claim_displaced *who)
{
    if (claim->unexcluded_count >= CLAIM_UNEXCLUDED_MAX) {
        return false;
    }
    claim->unexcluded[claim->unexcluded_count++] = *who;
    return true;
}

/*
 * R2: whoever was displaced stays listed until it is *excluded*, not merely proven dead.
 * A restart that dies before storage.settle is over, and whose own end is then
 * acknowledged, would otherwise let the next owner read a disk that an older one still
 * writes to.
 */
static bool inherits(const struct claim_displaced *who, const struct claim_view *v)
{
    uint64_t until_ns;

    if (claim_is_excluded(who, v->vm, &v->evidence, &until_ns)) {
        return false;
    }
    return CLAUSE(R2_INHERIT_PROVEN) || !is_proven(who, v->vm, &v->evidence);
}

static bool fill_unexcluded(const struct claim_view *v, enum claim_basis basis,
                            struct claim *claim)
{
    const struct claim *top = v->highest;
    uint64_t until_ns;

    if (!top) {
        return true;
    }
    for (uint32_t i = 0; i < top->unexcluded_count && CLAUSE(R2_INHERIT); i++) {
        if (inherits(&top->unexcluded[i], v) && !list_add(claim, &top->unexcluded[i])) {
            return false;
        }
    }
    if (basis == CLAIM_BASIS_OWN || basis == CLAIM_BASIS_RELEASED) {
        return true; /* its own writes; or drained before the release */
    }
    if (basis == CLAIM_BASIS_TWIN && !CLAUSE(R2_LIST_UNPROVEN)) {
        return true;
    }

    const struct claim_displaced owner = {.who = top->owner, .epoch = top->epoch};

    return claim_is_excluded(&owner, v->vm, &v->evidence, &until_ns) ||
           list_add(claim, &owner);
}

static void fill_mirrors(const struct claim_view *v, struct claim *claim)
{
    const struct claim *top = v->highest;

    if (top ? top->mirror_count == 0 : !v->mirrored) {
        return;
    }
    if (top && !CLAUSE(R5_MIRROR_DROPPED)) {
        claim->mirror_count = top->mirror_count;
        memcpy(claim->mirror_nodes, top->mirror_nodes, sizeof(top->mirror_nodes));
        return;
    }
    claim->mirror_nodes[claim->mirror_count++] = v->me.node_id;
    if (!who_is_none(&claim->twin)) {
        claim->mirror_nodes[claim->mirror_count++] = claim->twin.node_id;
    }
}

static void fill_twin(const struct claim_view *v, struct claim *claim)
{
    if (v->kind == CLAIM_PROTECT) {
        claim->twin = v->twin;
    } else if (v->kind == CLAIM_THAW) {
        claim->twin = v->highest->twin; /* still acknowledging; commit was never off */
    } else if (v->kind == CLAIM_GO_LIVE && !CLAUSE(R5_GO_LIVE_NAMES_NONE)) {
        claim->twin = v->highest->owner;
    }
}

void claim_may_take(const struct claim_view *v, struct claim_verdict *ret_verdict)
{
    struct claim_verdict *out = ret_verdict;

    memset(out, 0, sizeof(*out));
    out->reason = judge(v, out);
    if (out->reason != CLAIM_OK) {
        return;
    }

    struct claim *claim = &out->claim;

    claim->vm = v->vm;
    claim->epoch = v->highest ? v->highest->epoch + 1 : 1;
    claim->attempt = v->attempt;
    memcpy(claim->node_name, v->node_name, strlen(v->node_name));
    claim->owner = v->me;
    fill_twin(v, claim);
    fill_mirrors(v, claim);
    if (!fill_unexcluded(v, out->basis, claim)) {
        memset(claim, 0, sizeof(*claim));
        out->reason = CLAIM_NO_LIST_FULL;
        return;
    }
    out->may = true;
}

void claim_may_inherit(const struct claim_view *v, struct uuid vm, bool former_defined,
                       struct claim_verdict *ret_verdict)
{
    bool cold = v->kind == CLAIM_START || v->kind == CLAIM_RESTART;

    memset(ret_verdict, 0, sizeof *ret_verdict);
    if (!cold || v->highest == NULL || uuid_is_none(vm) || uuid_equal(vm, v->vm)) {
        ret_verdict->reason = CLAIM_NO_BAD_VIEW;
        return;
    }
    if (former_defined) {
        ret_verdict->reason = CLAIM_NO_NOT_OWNER;
        return;
    }
    claim_may_take(v, ret_verdict);
    if (ret_verdict->may) {
        ret_verdict->claim.vm = vm;
    }
}

/* After the link -------------------------------------------------------------------- */

enum claim_outcome claim_outcome_of(const struct claim *tried,
                                    const struct claim *read_back)
{
    if (!read_back) {
        return CLAUSE(R1_CONTENT_DECIDES) ? CLAIM_OUTCOME_UNKNOWN : CLAIM_OUTCOME_LOST;
    }
    if (read_back->epoch == tried->epoch && uuid_equal(read_back->vm, tried->vm) &&
        uuid_equal(read_back->attempt, tried->attempt)) {
        return CLAIM_OUTCOME_WON;
    }
    return CLAIM_OUTCOME_LOST;
}

enum claim_enter_reason claim_may_enter(const struct claim_enter *e)
{
    if (!e->won || !uuid_equal(e->won->owner.instance, e->me)) {
        return CLAIM_ENTER_NOT_MINE;
    }
    if (e->highest && e->highest->epoch > e->won->epoch) {
        return CLAIM_ENTER_SUPERSEDED;
    }
    if (e->release_submitted_epoch >= e->won->epoch && CLAUSE(R4_SUBMITTED_IS_GONE)) {
        return CLAIM_ENTER_RELEASE_SUBMITTED;
    }
    for (uint32_t i = 0; i < e->halt_count && CLAUSE(R8_ACK_IS_FINAL); i++) {
        const struct claim_halt *h = &e->halts[i];

        if (uuid_equal(h->instance, e->me) && uuid_equal(h->vm, e->won->vm) &&
            (h->kind == CLAIM_HALT_GONE || h->epoch >= e->won->epoch)) {
            return CLAIM_ENTER_HALTED;
        }
    }
    return CLAIM_ENTER_OK;
}

bool claim_may_release(const struct claim_give_up *facts, bool to_instance)
{
    if (!facts->frozen && CLAUSE(R4_FROZEN_FIRST)) {
        return false;
    }
    if ((!facts->drained || !facts->flushed) && CLAUSE(R4_DRAINED_FIRST)) {
        return false;
    }
    return !to_instance || facts->memory_complete || !CLAUSE(R4_MEMORY_FIRST);
}
