/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fewer states without fewer behaviours: slots are freed, nodes and slots are put into
 * one order, lives and epochs are renumbered, and fields that no rule reads again are
 * cleared. What a removed clause would read is kept while that clause is off.
 */
#include <string.h>

#include "tests/model/model.h"

static bool link_is_open(const struct state *n, const struct inst *in)
{
    return in->link == LINK_SENT && in->target > n->top_epoch;
}

static bool is_referred(const struct state *n, unsigned k)
{
    if (n->top_owner == k + 1 || n->top_twin == k + 1 || has(n->top_unex, k) ||
        n->top_rel == REL_TO(k)) {
        return true;
    }
    for (unsigned i = 0; i < INSTS; i++) {
        const struct inst *in = &n->in[i];

        if (in->st == FREE || i == k) {
            continue;
        }
        if (in->rel_sent && in->relto == REL_TO(k)) {
            return true;
        }
        if ((link_is_open(n, in) || alive(in)) &&
            (in->c_twin == k + 1 || has(in->c_unex, k))) {
            return true;
        }
        if (alive(in) && in->twin == k + 1) {
            return true;
        }
    }
    return false;
}

static void forget(struct state *n, unsigned k)
{
    memset(&n->in[k], 0, sizeof(n->in[k]));
    n->storage_fenced &= (uint8_t) ~(1u << k);
    n->live = n->live == k + 1 ? ANYBODY_GONE : n->live;
    n->disk_owner = n->disk_owner == k + 1 ? ANYBODY_GONE : n->disk_owner;
    for (unsigned i = 0; i < NODES; i++) {
        if (n->clean_inst[i] == k + 1) {
            n->clean_inst[i] = n->clean_epoch[i] = 0;
        }
    }
}

static void clear_gone(const struct state *n, struct inst *in)
{
    in->out = in->commit = in->twin = in->dest = in->mem = in->synced = 0;
    in->ahead = in->stopping = in->disk = in->won = 0;
    if (in->link == LINK_DONE ||
        (!link_is_open(n, in) && MODEL_CLAUSE(M_R1_LINK_ATOMIC))) {
        in->link = LINK_NONE; /* nobody is left to read it back */
    }
    if (!in->rel_sent) {
        in->rel = in->relto = 0;
    }
}

void model_collect(struct state *n)
{
    for (unsigned k = 0; k < INSTS; k++) {
        struct inst *in = &n->in[k];

        if (in->st == FREE) {
            continue;
        }
        if (in->rel_sent && n->top_epoch > in->rel) {
            in->rel_sent = 0; /* a release of an older epoch means nothing any more */
        }
        if (in->dest && !alive(&n->in[in->dest - 1])) {
            in->dest = 0;
        }
        if (in->st == GONE) {
            clear_gone(n, in);
        }
        if (in->link == LINK_NONE) {
            in->target = in->kind = in->c_twin = in->c_mir = 0;
            in->c_unex = in->disk || in->st == GONE ? 0 : in->c_unex;
        }
        if (in->rel < in->won && !in->rel_sent) {
            in->rel = in->relto = 0;
        }
        if (in->halt_frozen < in->dirh && CLAUSE(R2_HALT_THAT_EPOCH)) {
            in->halt_frozen = 0;
        }
    }
    for (unsigned k = 0; k < INSTS; k++) {
        const struct inst *in = &n->in[k];

        if (in->st == GONE && !in->write && in->link == LINK_NONE && !in->rel_sent &&
            !is_referred(n, k)) {
            forget(n, k);
        }
    }
}

/* Lives and epochs
 * ------------------------------------------------------------------------ */

static void renumber_lives(struct state *n, unsigned j)
{
    unsigned first = n->inc[j];
    uint8_t used = 0;

    if (!CLAUSE(R3_THAT_INCARNATION)) {
        return; /* a proof about any life then matters to all of them */
    }
    for (unsigned k = 0; k < INSTS; k++) {
        if (n->in[k].st != FREE && n->in[k].node == j) {
            first = n->in[k].inc < first ? n->in[k].inc : first;
            used |= (uint8_t)(1u << n->in[k].inc);
        }
    }
    n->proven[j] &= used;
    n->settled[j] &= used;
    n->clean[j] &= used;
    n->proven[j] = (uint8_t)(n->proven[j] >> first);
    n->settled[j] = (uint8_t)(n->settled[j] >> first);
    n->clean[j] = (uint8_t)(n->clean[j] >> first);
    n->rejoined[j] = (uint8_t)(n->rejoined[j] >> first);
    n->inc[j] = (uint8_t)(n->inc[j] - first);
    n->seen[j] = (uint8_t)(n->seen[j] > first ? n->seen[j] - first : 0);
    for (unsigned k = 0; k < INSTS; k++) {
        if (n->in[k].st != FREE && n->in[k].node == j) {
            n->in[k].inc = (uint8_t)(n->in[k].inc - first);
        }
    }
}

static void each_epoch(struct state *n, void (*fn)(uint8_t *epoch, uint8_t *arg),
                       uint8_t *arg)
{
    fn(&n->top_epoch, arg);
    fn(&n->live_epoch, arg);
    for (unsigned k = 0; k < INSTS; k++) {
        struct inst *in = &n->in[k];

        fn(&in->target, arg);
        fn(&in->won, arg);
        fn(&in->dirh, arg);
        fn(&in->rel, arg);
        fn(&in->halt_frozen, arg);
        fn(&in->halt_gone, arg);
    }
    for (unsigned j = 0; j < NODES; j++) {
        fn(&n->clean_epoch[j], arg);
    }
}

static void find_least(uint8_t *epoch, uint8_t *least)
{
    *least = *epoch && *epoch < *least ? *epoch : *least;
}

static void lower(uint8_t *epoch, uint8_t *by)
{
    *epoch = *epoch ? (uint8_t)(*epoch - *by) : 0;
}

static void renumber_epochs(struct state *n)
{
    uint8_t least = UINT8_MAX;

    if (n->top_epoch == 0) {
        return; /* targets are 1 then, and not 1 later */
    }
    each_epoch(n, find_least, &least);
    least--;
    each_epoch(n, lower, &least);
}

/* Nodes
 * ----------------------------------------------------------------------------------------
 */

static uint64_t mix(uint64_t h, uint64_t v)
{
    h = (h ^ v) * UINT64_C(0xFF51AFD7ED558CCD);
    return h ^ h >> 29;
}

static uint64_t inst_signature(const struct state *n, unsigned k)
{
    const struct inst *in = &n->in[k];
    const uint8_t local[] = {in->st,     in->inc,         in->link,      in->kind,
                             in->target, in->won,         in->dirh,      in->rel,
                             in->write,  in->halt_frozen, in->halt_gone, in->disk,
                             in->commit, in->synced,      in->ahead,     in->out,
                             in->mem,    in->stopping,    in->rel_sent};
    uint64_t h = 1;

    for (size_t i = 0; i < sizeof(local); i++) {
        h = mix(h, local[i]);
    }
    h = mix(h, (uint64_t)(n->top_owner == k + 1) | (uint64_t)(n->top_twin == k + 1) << 1 |
                   (uint64_t)has(n->top_unex, k) << 2 |
                   (uint64_t)(n->live == k + 1) << 3 |
                   (uint64_t)(n->disk_owner == k + 1) << 4 |
                   (uint64_t)(n->top_rel == REL_TO(k)) << 5);
    return h;
}

static uint64_t node_signature(const struct state *n, unsigned j)
{
    const uint8_t local[] = {
        has(n->up, j), has(n->agent, j),        has(n->quorate, j),   n->cut == j + 1,
        n->inc[j],     n->rejoined[j],          n->proven[j],         n->settled[j],
        n->clean[j],   n->clean_epoch[j],       has(n->mirrors, j),   has(n->top_mir, j),
        n->wd[j],      has(n->feeds_always, j), has(n->withdrawn, j), n->seen[j]};
    uint64_t h = 2, sum = 0;

    for (size_t i = 0; i < sizeof(local); i++) {
        h = mix(h, local[i]);
    }
    for (unsigned k = 0; k < INSTS; k++) {
        if (n->in[k].st != FREE && n->in[k].node == j) {
            sum += inst_signature(n, k);
        }
    }
    return mix(h, sum);
}

static uint8_t move_bits(const uint8_t *to, uint8_t mask, unsigned count)
{
    uint8_t moved = 0;

    for (unsigned i = 0; i < count; i++) {
        moved |= (uint8_t)((unsigned)has(mask, i) << to[i]);
    }
    return moved;
}

static uint8_t move_index(const uint8_t *to, uint8_t index1)
{
    return index1 == 0 || index1 == ANYBODY_GONE ? index1 : (uint8_t)(to[index1 - 1] + 1);
}

static void move_nodes(struct state *n, const uint8_t *to)
{
    const struct state old = *n;

    n->up = move_bits(to, old.up, NODES);
    n->agent = move_bits(to, old.agent, NODES);
    n->quorate = move_bits(to, old.quorate, NODES);
    n->mirrors = move_bits(to, old.mirrors, NODES);
    n->top_mir = move_bits(to, old.top_mir, NODES);
    n->feeds_always = move_bits(to, old.feeds_always, NODES);
    n->withdrawn = move_bits(to, old.withdrawn, NODES);
    n->cut = move_index(to, old.cut);
    for (unsigned j = 0; j < NODES; j++) {
        n->inc[to[j]] = old.inc[j];
        n->rejoined[to[j]] = old.rejoined[j];
        n->proven[to[j]] = old.proven[j];
        n->settled[to[j]] = old.settled[j];
        n->clean[to[j]] = old.clean[j];
        n->clean_inst[to[j]] = old.clean_inst[j];
        n->clean_epoch[to[j]] = old.clean_epoch[j];
        n->wd[to[j]] = old.wd[j];
        n->seen[to[j]] = old.seen[j];
        for (unsigned i = 0; i < NODES; i++) {
            n->heard[to[j]][to[i]] = old.heard[j][i];
        }
    }
    for (unsigned k = 0; k < INSTS; k++) {
        if (n->in[k].st != FREE) {
            n->in[k].node = to[old.in[k].node];
            n->in[k].c_mir = move_bits(to, old.in[k].c_mir, NODES);
        }
    }
}

static void order_nodes(struct state *n)
{
    uint64_t sig[NODES];
    uint8_t to[NODES];
    bool moved = false;

    for (unsigned j = 0; j < NODES; j++) {
        sig[j] = node_signature(n, j);
    }
    for (unsigned j = 0; j < NODES; j++) {
        unsigned rank = 0;

        for (unsigned i = 0; i < NODES; i++) {
            rank += sig[i] < sig[j] || (sig[i] == sig[j] && i < j);
        }
        to[j] = (uint8_t)rank;
        moved |= rank != j;
    }
    if (moved) {
        move_nodes(n, to);
    }
}

/* Slots
 * -----------------------------------------------------------------------------------------
 */

static void move_slots(struct state *n, const uint8_t *to)
{
    const struct state old = *n;

    for (unsigned k = 0; k < INSTS; k++) {
        struct inst *in = &n->in[to[k]];

        *in = old.in[k];
        in->c_twin = move_index(to, in->c_twin);
        in->c_unex = move_bits(to, in->c_unex, INSTS);
        in->relto = in->relto < 2 ? in->relto : REL_TO(to[in->relto - 2]);
        in->twin = move_index(to, in->twin);
        in->dest = move_index(to, in->dest);
    }
    n->top_owner = move_index(to, old.top_owner);
    n->top_twin = move_index(to, old.top_twin);
    n->top_unex = move_bits(to, old.top_unex, INSTS);
    n->top_rel = old.top_rel < 2 ? old.top_rel : REL_TO(to[old.top_rel - 2]);
    n->storage_fenced = move_bits(to, old.storage_fenced, INSTS);
    n->live = move_index(to, old.live);
    n->disk_owner = move_index(to, old.disk_owner);
    for (unsigned i = 0; i < NODES; i++) {
        n->clean_inst[i] = move_index(to, old.clean_inst[i]);
    }
}

static void order_slots(struct state *n)
{
    uint64_t sig[INSTS];
    uint8_t to[INSTS];
    bool moved = false;

    for (unsigned k = 0; k < INSTS; k++) {
        /* Free ones last, then by node; ties are broken by position, which costs states
         * but no truth. */
        sig[k] = n->in[k].st == FREE
                     ? UINT64_MAX
                     : (uint64_t)n->in[k].node << 60 | inst_signature(n, k) >> 4;
    }
    for (unsigned k = 0; k < INSTS; k++) {
        unsigned rank = 0;

        for (unsigned i = 0; i < INSTS; i++) {
            rank += sig[i] < sig[k] || (sig[i] == sig[k] && i < k);
        }
        to[k] = (uint8_t)rank;
        moved |= rank != k;
    }
    if (moved) {
        move_slots(n, to);
    }
}

void model_canonical(struct state *n)
{
    for (unsigned j = 0; j < NODES; j++) {
        renumber_lives(n, j);
    }
    renumber_epochs(n);
    order_nodes(n);
    order_slots(n);
}
