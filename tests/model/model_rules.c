/* SPDX-License-Identifier: Apache-2.0 */
/* Between the model's compact state and the real functions of fencing/. No decision is
 * taken here. */
#include <string.h>

#include "base/uuid.h"
#include "tests/model/model.h"

uint64_t claim_clauses_off;

#define NOW_NS    1000
#define SETTLE_NS 100

static struct uuid id(uint8_t what, unsigned n)
{
    struct uuid u = {{0}};

    u.b[0] = what;
    u.b[1] = (uint8_t)(n + 1);
    return u;
}

static struct uuid vm_id(void)
{
    return id('V', 0);
}

static struct uuid inst_id(unsigned k)
{
    return id('I', k);
}

/* Life `life` of a node as (boot id, join): a rejoin keeps the boot id. */
static struct incarnation life(const struct state *s, unsigned node, unsigned n)
{
    unsigned boots = 0;

    for (unsigned c = 0; c < n; c++) {
        boots += !(s->rejoined[node] >> c & 1);
    }
    return (struct incarnation){.boot_id = id((uint8_t)('A' + node), boots),
                                .join = n + 1};
}

static struct claim_who who(const struct state *s, unsigned k)
{
    return (struct claim_who){
        .node_id = s->in[k].node + 1u,
        .inc = life(s, s->in[k].node, s->in[k].inc),
        .instance = inst_id(k),
    };
}

static void fill_claim(const struct state *s, unsigned owner, uint8_t epoch, uint8_t twin,
                       uint8_t unex, uint8_t mir, struct claim *c)
{
    c->vm = vm_id();
    c->epoch = epoch;
    c->attempt = id('T', owner * 16u + epoch);
    strcpy(c->node_name, "n");
    c->owner = who(s, owner);
    c->twin = twin ? who(s, twin - 1u) : (struct claim_who){0};
    c->mirror_count = 0;
    for (unsigned n = 0; n < NODES; n++) {
        if (mir >> n & 1) {
            c->mirror_nodes[c->mirror_count++] = n + 1;
        }
    }
    c->unexcluded_count = 0;
    for (unsigned k = 0; k < INSTS; k++) {
        if (unex >> k & 1) {
            struct claim_displaced *d = &c->unexcluded[c->unexcluded_count++];

            d->who = who(s, k);
            d->epoch = s->in[k].dirh;
        }
    }
}

struct facts {
    struct proof proofs[NODES * INCS * 2];
    struct proof_stopped stopped[NODES];
    struct proof_table table;
    struct claim_halt halts[INSTS * 2];
    struct uuid fenced[INSTS];
    struct claim_evidence ev;
};

static void add_proofs(const struct state *s, unsigned node, struct facts *f)
{
    for (unsigned c = 0; c <= s->inc[node]; c++) {
        struct proof *p = &f->proofs[f->table.count];

        if (s->proven[node] >> c & 1) {
            p->kind = PROOF_FENCED_OFF;
            p->node_id = node + 1;
            p->inc = life(s, node, c);
            p->known_ns = s->settled[node] >> c & 1 ? 0 : NOW_NS;
            p->stopped_count = 0;
            f->table.count++;
            p++;
        }
        if (s->clean[node] >> c & 1) {
            p->kind = PROOF_CLEAN_STOP;
            p->node_id = node + 1;
            p->inc = life(s, node, c);
            p->known_ns = 0;
            p->stopped_first = f->table.stopped_count;
            p->stopped_count = s->clean_inst[node] ? 1 : 0;
            if (s->clean_inst[node]) {
                f->stopped[f->table.stopped_count++] = (struct proof_stopped){
                    .vm = vm_id(),
                    .epoch = s->clean_epoch[node],
                    .instance = inst_id(s->clean_inst[node] - 1u),
                };
            }
            f->table.count++;
        }
    }
}

static void gather(const struct state *s, struct facts *f)
{
    f->table = (struct proof_table){
        .proofs = f->proofs,
        .cap = NODES * INCS * 2,
        .stopped = f->stopped,
        .stopped_cap = NODES,
    };
    f->ev = (struct claim_evidence){
        .proofs = &f->table,
        .halts = f->halts,
        .fenced_by_storage = f->fenced,
        .now_ns = NOW_NS,
        .settle_ns = SETTLE_NS,
    };
    for (unsigned n = 0; n < NODES; n++) {
        add_proofs(s, n, f);
    }
    for (unsigned k = 0; k < INSTS; k++) {
        const struct inst *in = &s->in[k];

        if (in->halt_frozen) {
            f->halts[f->ev.halt_count++] = (struct claim_halt){
                vm_id(), in->halt_frozen, inst_id(k), CLAIM_HALT_FROZEN};
        }
        if (in->halt_gone) {
            f->halts[f->ev.halt_count++] =
                (struct claim_halt){vm_id(), in->halt_gone, inst_id(k), CLAIM_HALT_GONE};
        }
        if (s->storage_fenced >> k & 1) {
            f->fenced[f->ev.fenced_by_storage_count++] = inst_id(k);
        }
    }
}

static uint8_t index_of(struct uuid instance)
{
    return instance.b[0] == 'I' ? instance.b[1] : 0; /* index + 1 */
}

bool rules_take(const struct scenario *sc, const struct state *s, unsigned k,
                enum claim_kind kind, struct inst *ret_inst)
{
    const struct inst *in = &s->in[k];
    struct claim top;
    struct claim_release rel;
    struct facts f;
    struct claim_verdict verdict;
    struct claim_view v = {
        .vm = vm_id(),
        .kind = kind,
        .me = who(s, k),
        .node_name = "n",
        .attempt = id('T', k * 16u + s->top_epoch + 1u),
        .quorate = s->quorate >> in->node & 1,
        .mirrored = sc->mirrored,
    };

    gather(s, &f);
    v.evidence = f.ev;
    if (s->top_epoch > 0) {
        fill_claim(s, s->top_owner - 1u, s->top_epoch, s->top_twin, s->top_unex,
                   s->top_mir, &top);
        v.highest = &top;
        if (s->top_rel != REL_NONE) {
            memset(&rel, 0, sizeof(rel));
            rel.vm = vm_id();
            rel.epoch = s->top_epoch;
            rel.instance = top.owner.instance;
            rel.to =
                s->top_rel == REL_ANYONE ? (struct uuid){{0}} : inst_id(s->top_rel - 2u);
            v.release = &rel;
        }
    }
    if (kind == CLAIM_PROTECT) {
        const struct inst *twin = &s->in[in->twin - 1];

        v.twin = who(s, in->twin - 1u);
        v.twin_synced = twin->synced;
        v.commit_on = in->commit;
        v.older_drained = !in->ahead && !in->write;
    }
    claim_may_take(&v, &verdict);
    if (!verdict.may) {
        return false;
    }

    const struct claim *c = &verdict.claim;

    *ret_inst = *in;
    ret_inst->link = LINK_SENT;
    ret_inst->kind = (uint8_t)kind;
    ret_inst->target = (uint8_t)c->epoch;
    ret_inst->c_twin = index_of(c->twin.instance);
    ret_inst->c_unex = ret_inst->c_mir = 0;
    for (uint32_t i = 0; i < c->unexcluded_count; i++) {
        ret_inst->c_unex |=
            (uint8_t)(1u << (index_of(c->unexcluded[i].who.instance) - 1));
    }
    for (uint32_t i = 0; i < c->mirror_count; i++) {
        ret_inst->c_mir |= (uint8_t)(1u << (c->mirror_nodes[i] - 1));
    }
    return true;
}

enum claim_outcome rules_outcome(const struct state *s, unsigned k)
{
    const struct inst *in = &s->in[k];
    struct claim tried = {
        .vm = vm_id(), .epoch = in->target, .attempt = id('T', k * 16u + in->target)};
    struct claim read_back = tried;

    if (in->link == LINK_DONE) {
        return claim_outcome_of(&tried, &read_back);
    }
    if (s->top_epoch >= in->target) {
        read_back.attempt = id('X', 0);
        return claim_outcome_of(&tried, &read_back);
    }
    return claim_outcome_of(&tried, NULL);
}

bool rules_may_enter(const struct state *s, unsigned k)
{
    const struct inst *in = &s->in[k];
    struct claim won;
    struct facts f;

    gather(s, &f);
    memset(&won, 0, sizeof(won));
    fill_claim(s, k, in->won, 0, 0, 0, &won);

    /* highest NULL: safety must not rest on a second look, which may be stale by the time
     * the guest is entered. */
    const struct claim_enter enter = {
        .won = &won,
        .me = inst_id(k),
        .release_submitted_epoch = in->rel,
        .halts = f.halts,
        .halt_count = f.ev.halt_count,
    };

    return claim_may_enter(&enter) == CLAIM_ENTER_OK;
}

bool rules_may_touch_disk(const struct state *s, unsigned k)
{
    const struct inst *in = &s->in[k];
    struct claim own;
    struct facts f;
    struct claim_disk_verdict verdict;

    gather(s, &f);
    fill_claim(s, k, in->won, in->c_twin, in->c_unex, in->c_mir, &own);
    claim_may_touch_disk(&own, &f.ev, &verdict);
    return verdict.reason == CLAIM_DISK_OK;
}

bool rules_may_open_mirror(const struct state *s, unsigned k, unsigned twin)
{
    struct claim own;
    struct facts f;
    struct claim_disk_verdict verdict;

    gather(s, &f);
    fill_claim(s, k, s->in[k].won, 0, s->top_unex, s->top_mir, &own);
    claim_may_open_mirror(&own, s->in[twin].node + 1u, &f.ev, &verdict);
    return verdict.reason == CLAIM_DISK_OK;
}

bool rules_may_release(const struct state *s, unsigned k, bool to_instance,
                       bool memory_complete)
{
    const struct claim_give_up facts = {
        .frozen = s->in[k].st == FROZEN,
        .drained = !s->in[k].write,
        .flushed = !s->in[k].write,
        .memory_complete = memory_complete,
    };

    return claim_may_release(&facts, to_instance);
}

uint8_t rules_lives_proven_by_return(const struct state *s, unsigned node,
                                     unsigned new_inc)
{
    const struct incarnation now = life(s, node, new_inc);
    uint8_t mask = 0;

    for (unsigned c = 0; c < new_inc; c++) {
        const struct incarnation old = life(s, node, c);

        if (proof_return_is_death(&old, &now)) {
            mask |= (uint8_t)(1u << c);
        }
    }
    return mask;
}

/* Members of `by`'s view: everybody it can talk to. */
static bool in_view(const struct state *s, unsigned by, unsigned n)
{
    if (!(s->up >> n & 1)) {
        return false;
    }
    return n == by || (s->cut != n + 1 && s->cut != by + 1);
}

bool rules_wdog_proof(const struct state *s, unsigned by, unsigned target)
{
    unsigned members = 0, silent = 255;
    uint64_t due_ns;

    for (unsigned n = 0; n < NODES; n++) {
        if (n != target && in_view(s, by, n)) {
            members++;
            silent = s->heard[n][target] < silent ? s->heard[n][target] : silent;
        }
    }

    const uint64_t tick_ns = 10, now_ns = 1000;
    const struct proof_wdog w = {
        .hardware = true,
        .published_as_proof =
            !(s->feeds_always >> target & 1) || s->withdrawn >> target & 1,
        .withdrawn = s->withdrawn >> target & 1,
        .view_quorate = members * 2 > NODES,
        .view_has_target = in_view(s, by, target),
        .expected_votes = NODES,
        .bound_ns = WDOG_TICKS * tick_ns,
        .margin_ns = tick_ns,
        .last_receipt_ns = now_ns - silent * tick_ns,
    };

    return proof_wdog_elapsed(&w, now_ns, &due_ns) == PROOF_WDOG_ELAPSED;
}
