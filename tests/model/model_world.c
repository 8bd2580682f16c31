/* SPDX-License-Identifier: Apache-2.0 */
/* Nodes and what the others can know of them: views, proofs, watchdogs, agents. */

#include "tests/model/model_gen.h"

#define HEARD_MAX 5

static bool connected(const struct state *s, unsigned i, unsigned k)
{
    return has(s->up, i) && has(s->up, k) &&
           (i == k || (s->cut != i + 1 && s->cut != k + 1));
}

static bool truly_quorate(const struct state *s, unsigned i)
{
    unsigned count = 0;

    for (unsigned k = 0; k < NODES; k++) {
        count += connected(s, i, k);
    }
    return count * 2 > NODES;
}

void world_update_views(struct state *n)
{
    for (unsigned i = 0; i < NODES; i++) {
        n->quorate = (uint8_t)(n->quorate & ~(1u << i));
        n->quorate |= (uint8_t)((unsigned)truly_quorate(n, i) << i);
    }
}

static void node_off(struct state *n, unsigned j)
{
    n->up &= (uint8_t) ~(1u << j);
    n->agent &= (uint8_t) ~(1u << j);
    n->quorate &= (uint8_t) ~(1u << j);
    for (unsigned k = 0; k < INSTS; k++) {
        if (n->in[k].node == j && n->in[k].st != FREE) {
            n->in[k].st = GONE;
        }
    }
}

static uint8_t lives_to(unsigned inc)
{
    return (uint8_t)((2u << inc) - 1);
}

static unsigned boot_of(const struct state *s, unsigned node, unsigned inc)
{
    unsigned boots = 0;

    for (unsigned c = 0; c < inc; c++) {
        boots += !has(s->rejoined[node], c);
    }
    return boots;
}

bool world_agent_sees(const struct state *s, unsigned k)
{
    unsigned node = s->in[k].node;

    return has(s->agent, node) &&
           boot_of(s, node, s->in[k].inc) == boot_of(s, node, s->inc[node]);
}

bool world_is_able(const struct state *s, unsigned k)
{
    const struct inst *in = &s->in[k];

    if (in->st != RUN) {
        return false;
    }
    if (!in->commit) {
        return true;
    }
    if (!in->twin) {
        return false;
    }

    const struct inst *twin = &s->in[in->twin - 1];

    return twin->st == TWIN && twin->synced && twin->link == LINK_NONE;
}

void gen_nodes(struct gen *g)
{
    const struct state *s = g->s;

    for (unsigned j = 0; j < NODES; j++) {
        if (has(s->up, j) && s->n_crash) {
            struct state *n = gen_begin(g, ACT_CRASH, j, 0);

            n->n_crash--;
            node_off(n, j);
            gen_done_fault(g);
        }
        if (!has(s->up, j) && s->cut != j + 1 && s->inc[j] + 1 < INCS) {
            struct state *n = gen_begin(g, ACT_REBOOT, j, 0);

            n->up |= (uint8_t)(1u << j);
            n->agent |= (uint8_t)(1u << j);
            n->inc[j]++;
            n->wd[j] = 0; /* armed when it has quorum */
            n->proven[j] |= rules_lives_proven_by_return(n, j, n->inc[j]);
            gen_done(g);
        } else if (!has(s->up, j) && s->cut != j + 1) {
            g->stats->no_life++;
        }
        if (has(s->up, j) && !s->cut && s->n_cut) {
            struct state *n = gen_begin(g, ACT_CUT, j, 0);

            n->n_cut--;
            n->cut = (uint8_t)(j + 1);
            gen_done_fault(g);
        }
        if (g->sc->lagging_views && has(s->up, j) &&
            has(s->quorate, j) != truly_quorate(s, j)) {
            struct state *n = gen_begin(g, ACT_VIEW, j, 0);

            n->quorate ^= (uint8_t)(1u << j);
            gen_done(g);
        }
    }
    if (s->cut) {
        gen_begin(g, ACT_HEAL, s->cut - 1u, 0)->cut = 0;
        gen_done(g);
    }
}

/* R7: `off` is decided by a quorate view without the target. */
static bool may_fence(const struct state *s, unsigned j)
{
    for (unsigned i = 0; i < NODES; i++) {
        if (i != j && has(s->agent, i) && has(s->quorate, i) && truly_quorate(s, i) &&
            !connected(s, i, j)) {
            return true;
        }
    }
    return false;
}

void gen_proofs(struct gen *g)
{
    const struct state *s = g->s;

    for (unsigned j = 0; j < NODES; j++) {
        uint8_t mask = lives_to(s->inc[j]);
        bool fence = has(s->up, j) && !g->sc->watchdog && may_fence(s, j);

        /* Off already: a fence device or an operator says so. Late and repeated results
         * are this bit, used later or again. */
        if ((!has(s->up, j) && (s->proven[j] & mask) != mask) || fence) {
            struct state *n = gen_begin(g, ACT_PROVE, j, fence);

            node_off(n, j);
            n->proven[j] |= mask;
            gen_done(g);
        }
        if (fence && !MODEL_CLAUSE(M_R3_TIMEOUT_UNKNOWN)) {
            gen_begin(g, ACT_FENCE_TIMEOUT, j, 0)->proven[j] |= mask;
            gen_done(g);
        }
        for (unsigned c = 0; c <= s->inc[j]; c++) {
            bool under_way = false;

            for (unsigned k = 0; k < INSTS; k++) {
                under_way |= s->in[k].st == GONE && s->in[k].node == j &&
                             s->in[k].inc == c && s->in[k].write;
            }
            /* storage.settle is long enough for what a dead node had under way. */
            if (has(s->proven[j], c) && !has(s->settled[j], c) && !under_way) {
                gen_begin(g, ACT_SETTLE, j, c)->settled[j] |= (uint8_t)(1u << c);
                gen_done(g);
            }
        }
    }
}

static void tick(struct state *n)
{
    world_update_views(n);
    for (unsigned i = 0; i < NODES; i++) {
        for (unsigned k = 0; k < NODES; k++) {
            if (i == k || connected(n, i, k)) {
                n->heard[i][k] = 0;
                n->seen[k] = i == k ? n->seen[k] : n->inc[k];
            } else if (n->heard[i][k] < HEARD_MAX) {
                n->heard[i][k]++;
            }
        }
    }
    for (unsigned j = 0; j < NODES; j++) {
        if (!has(n->up, j)) {
            continue;
        }
        if (has(n->quorate, j) || has(n->feeds_always, j)) {
            n->wd[j] = WDOG_TICKS;
        } else if (n->wd[j] > 0 && --n->wd[j] == 0) {
            node_off(n, j);
        }
    }
}

void gen_watchdog(struct gen *g)
{
    const struct state *s = g->s;

    if (!g->sc->watchdog) {
        return;
    }
    gen_begin(g, ACT_TICK, 0, 0);
    tick(&g->n);
    gen_done(g);
    for (unsigned j = 0; j < NODES; j++) {
        for (unsigned i = 0; i < NODES; i++) {
            if (i != j && has(s->agent, i) && !has(s->proven[j], s->seen[j]) &&
                rules_wdog_proof(s, i, j)) {
                gen_begin(g, ACT_WDOG_PROOF, j, i)->proven[j] |= lives_to(s->seen[j]);
                gen_done(g);
            }
        }
        if (s->n_policy && has(s->up, j) && !has(s->feeds_always, j) &&
            truly_quorate(s, j)) {
            struct state *n = gen_begin(g, ACT_POLICY, j, 0);

            n->n_policy--;
            n->withdrawn |= (uint8_t)(1u << j);
            n->feeds_always |= (uint8_t)(1u << j);
            gen_done_fault(g);
        }
    }
}

void gen_agents(struct gen *g)
{
    const struct state *s = g->s;

    for (unsigned j = 0; j < NODES; j++) {
        if (s->n_agent && has(s->agent, j) && s->inc[j] + 1 < INCS) {
            struct state *n = gen_begin(g, ACT_AGENT_STOP, j, 0);
            unsigned k = s->top_owner ? s->top_owner - 1u : INSTS;

            n->n_agent--;
            n->agent &= (uint8_t) ~(1u << j);
            n->clean[j] |= (uint8_t)(1u << s->inc[j]);
            n->clean_inst[j] = 0;
            if (k < INSTS && s->in[k].node == j && s->in[k].inc == s->inc[j] &&
                s->in[k].st == GONE && !s->in[k].write) {
                n->clean_inst[j] = (uint8_t)(k + 1);
                n->clean_epoch[j] = s->top_epoch;
            }
            gen_done_fault(g);
        }
        if (has(s->up, j) && !has(s->agent, j)) {
            struct state *n = gen_begin(g, ACT_REJOIN, j, 0);

            n->agent |= (uint8_t)(1u << j);
            n->rejoined[j] |= (uint8_t)(1u << s->inc[j]);
            n->inc[j]++;
            n->proven[j] |= rules_lives_proven_by_return(n, j, n->inc[j]);
            gen_done(g);
        }
    }
}
