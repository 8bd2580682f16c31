/* SPDX-License-Identifier: Apache-2.0 */
/* What can happen next, and what must never have happened. */
#include <string.h>

#include "tests/model/model.h"

#define HEARD_MAX 5

struct gen {
    const struct scenario *sc;
    const struct state *s;
    struct state n; /* the successor under construction */
    struct step step;
    struct model_stats *stats;
    model_emit_fn emit;
    void *ctx;
};

static struct state *begin(struct gen *g, enum action act, unsigned a, unsigned b)
{
    g->n = *g->s;
    g->step = (struct step){.act = (uint8_t)act, .a = (uint8_t)a, .b = (uint8_t)b};
    return &g->n;
}

static void check(struct gen *g, enum invariant inv, bool holds)
{
    g->stats->inv_evaluated[inv]++;
    if (!holds && !g->step.broken) {
        g->step.broken = true;
        g->step.inv = (uint8_t)inv;
    }
}

/* World ------------------------------------------------------------------------------ */

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

static void update_views(struct state *n)
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

/* An agent that can look at this instance's process: same boot. */
static bool agent_sees(const struct state *s, unsigned k)
{
    unsigned node = s->in[k].node;

    return has(s->agent, node) &&
           boot_of(s, node, s->in[k].inc) == boot_of(s, node, s->inc[node]);
}

static int free_slot(struct gen *g)
{
    for (int k = 0; k < INSTS; k++) {
        if (g->s->in[k].st == FREE) {
            return k;
        }
    }
    g->stats->no_slot++;
    return -1;
}

static struct inst fresh(const struct state *s, unsigned node, enum inst_state st)
{
    return (struct inst){.st = (uint8_t)st, .node = (uint8_t)node, .inc = s->inc[node]};
}

/* Can this instance execute and let something out? With commit on only while its twin
 * acknowledges. */
static bool is_able(const struct state *s, unsigned k)
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

static void done(struct gen *g)
{
    unsigned able = 0;

    if (!g->sc->lagging_views && !g->sc->watchdog) {
        update_views(&g->n);
    }
    for (unsigned k = 0; k < INSTS; k++) {
        able += is_able(&g->n, k);
    }
    check(g, INV_ONE_ABLE, able <= 1);
    model_collect(&g->n);
    g->stats->act_taken[g->step.act]++;
    g->emit(g->ctx, &g->n, &g->step);
}

static void done_fault(struct gen *g)
{
    g->step.fault = true;
    done(g);
}

/* Nodes, views, proofs ----------------------------------------------------------------
 */

static void gen_nodes(struct gen *g)
{
    const struct state *s = g->s;

    for (unsigned j = 0; j < NODES; j++) {
        if (has(s->up, j) && s->n_crash) {
            struct state *n = begin(g, ACT_CRASH, j, 0);

            n->n_crash--;
            node_off(n, j);
            done_fault(g);
        }
        if (!has(s->up, j) && s->cut != j + 1 && s->inc[j] + 1 < INCS) {
            struct state *n = begin(g, ACT_REBOOT, j, 0);

            n->up |= (uint8_t)(1u << j);
            n->agent |= (uint8_t)(1u << j);
            n->inc[j]++;
            n->wd[j] = 0; /* armed when it has quorum */
            n->proven[j] |= rules_lives_proven_by_return(n, j, n->inc[j]);
            done(g);
        } else if (!has(s->up, j) && s->cut != j + 1) {
            g->stats->no_life++;
        }
        if (has(s->up, j) && !s->cut && s->n_cut) {
            struct state *n = begin(g, ACT_CUT, j, 0);

            n->n_cut--;
            n->cut = (uint8_t)(j + 1);
            done_fault(g);
        }
        if (g->sc->lagging_views && has(s->up, j) &&
            has(s->quorate, j) != truly_quorate(s, j)) {
            struct state *n = begin(g, ACT_VIEW, j, 0);

            n->quorate ^= (uint8_t)(1u << j);
            done(g);
        }
    }
    if (s->cut) {
        begin(g, ACT_HEAL, s->cut - 1u, 0)->cut = 0;
        done(g);
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

static void gen_proofs(struct gen *g)
{
    const struct state *s = g->s;

    for (unsigned j = 0; j < NODES; j++) {
        uint8_t mask = lives_to(s->inc[j]);
        bool fence = has(s->up, j) && !g->sc->watchdog && may_fence(s, j);

        /* Off already: a fence device or an operator says so. Late and repeated results
         * are this bit, used later or again. */
        if ((!has(s->up, j) && (s->proven[j] & mask) != mask) || fence) {
            struct state *n = begin(g, ACT_PROVE, j, fence);

            node_off(n, j);
            n->proven[j] |= mask;
            done(g);
        }
        if (fence && !MODEL_CLAUSE(M_R3_TIMEOUT_UNKNOWN)) {
            begin(g, ACT_FENCE_TIMEOUT, j, 0)->proven[j] |= mask;
            done(g);
        }
        for (unsigned c = 0; c <= s->inc[j]; c++) {
            bool under_way = false;

            for (unsigned k = 0; k < INSTS; k++) {
                under_way |= s->in[k].st == GONE && s->in[k].node == j &&
                             s->in[k].inc == c && s->in[k].write;
            }
            /* storage.settle is long enough for what a dead node had under way. */
            if (has(s->proven[j], c) && !has(s->settled[j], c) && !under_way) {
                begin(g, ACT_SETTLE, j, c)->settled[j] |= (uint8_t)(1u << c);
                done(g);
            }
        }
    }
}

static void tick(struct state *n)
{
    update_views(n);
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

static void gen_watchdog(struct gen *g)
{
    const struct state *s = g->s;

    if (!g->sc->watchdog) {
        return;
    }
    begin(g, ACT_TICK, 0, 0);
    tick(&g->n);
    done(g);
    for (unsigned j = 0; j < NODES; j++) {
        for (unsigned i = 0; i < NODES; i++) {
            if (i != j && has(s->agent, i) && !has(s->proven[j], s->seen[j]) &&
                rules_wdog_proof(s, i, j)) {
                begin(g, ACT_WDOG_PROOF, j, i)->proven[j] |= lives_to(s->seen[j]);
                done(g);
            }
        }
        if (s->n_policy && has(s->up, j) && !has(s->feeds_always, j) &&
            truly_quorate(s, j)) {
            struct state *n = begin(g, ACT_POLICY, j, 0);

            n->n_policy--;
            n->withdrawn |= (uint8_t)(1u << j);
            n->feeds_always |= (uint8_t)(1u << j);
            done_fault(g);
        }
    }
}

static void gen_agents(struct gen *g)
{
    const struct state *s = g->s;

    for (unsigned j = 0; j < NODES; j++) {
        if (s->n_agent && has(s->agent, j) && s->inc[j] + 1 < INCS) {
            struct state *n = begin(g, ACT_AGENT_STOP, j, 0);
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
            done_fault(g);
        }
        if (has(s->up, j) && !has(s->agent, j)) {
            struct state *n = begin(g, ACT_REJOIN, j, 0);

            n->agent |= (uint8_t)(1u << j);
            n->rejoined[j] |= (uint8_t)(1u << s->inc[j]);
            n->inc[j]++;
            n->proven[j] |= rules_lives_proven_by_return(n, j, n->inc[j]);
            done(g);
        }
    }
}

/* Claims --------------------------------------------------------------------------------
 */

static void submit(struct gen *g, unsigned k, enum claim_kind kind)
{
    struct inst taken;

    if (!has(g->s->agent, g->s->in[k].node) ||
        !rules_take(g->sc, g->s, k, kind, &taken)) {
        return;
    }

    struct state *n = begin(g, ACT_SUBMIT, k, kind);

    n->in[k] = taken;
    if ((kind == CLAIM_GO_ALONE || kind == CLAIM_UNPROTECT) &&
        !MODEL_CLAUSE(M_R5_COMMIT_OFF_LATE)) {
        n->in[k].commit = 0;
    }
    if (kind == CLAIM_UNPROTECT) {
        n->n_unprotect--;
        done_fault(g);
        return;
    }
    done(g);
}

/* Nothing failed, nobody asked for a halt. */
static bool is_undisturbed(const struct gen *g)
{
    const struct scenario *sc = g->sc;
    const struct state *s = g->s;

    return !sc->empty && s->n_crash == sc->crash && s->n_kill == sc->kill &&
           s->n_cut == sc->cut && s->n_ack == sc->ack && s->n_stop == sc->stop &&
           s->n_agent == sc->agent;
}

static void submit_cold(struct gen *g, unsigned node)
{
    const struct state *s = g->s;
    int k;

    if (!has(s->agent, node)) {
        return;
    }
    for (unsigned i = 0; i < INSTS; i++) {
        if (s->in[i].st == COLD && s->in[i].node == node) {
            return; /* an agent tries one at a time */
        }
    }
    k = free_slot(g);
    if (k < 0) {
        return;
    }

    struct state with = *s;
    struct inst taken;

    with.in[k] = fresh(s, node, COLD);
    if (!rules_take(g->sc, &with, (unsigned)k, s->top_epoch ? CLAIM_RESTART : CLAIM_START,
                    &taken)) {
        return;
    }

    struct state *n = begin(g, ACT_SUBMIT, (unsigned)k, taken.kind);

    n->in[k] = taken;
    check(g, INV_START_QUORATE, has(s->quorate, node));
    check(g, INV_KEPT, s->top_epoch == 0 || !is_undisturbed(g));
    done(g);
}

static void gen_submit(struct gen *g)
{
    const struct state *s = g->s;

    for (unsigned node = 0; node < NODES; node++) {
        submit_cold(g, node);
    }
    for (unsigned k = 0; k < INSTS; k++) {
        const struct inst *in = &s->in[k];
        bool owns = in->won > 0 && in->won == s->top_epoch;

        if (in->link != LINK_NONE) {
            continue;
        }
        if (in->st == INCOMING && !in->won) {
            submit(g, k, CLAIM_MIGRATE_IN);
        }
        if ((in->st == TWIN && !in->won) || (in->st == RUN && s->top_twin == k + 1)) {
            submit(g, k, CLAIM_GO_LIVE);
        }
        if (in->st == FROZEN && owns && in->rel == in->won) {
            submit(g, k, CLAIM_TAKE_BACK);
        } else if (in->st == FROZEN && owns && in->halt_frozen == in->won) {
            submit(g, k, CLAIM_THAW);
        }
        if (in->st == RUN && owns && in->twin && s->top_twin != in->twin) {
            submit(g, k, CLAIM_PROTECT);
        }
        if (in->st == RUN && owns && s->top_twin) {
            submit(g, k, CLAIM_GO_ALONE);
            if (s->n_unprotect) {
                submit(g, k, CLAIM_UNPROTECT);
            }
        }
    }
}

static void install(struct state *n, unsigned k)
{
    struct inst *in = &n->in[k];

    n->top_epoch = in->target;
    n->top_owner = (uint8_t)(k + 1);
    n->top_twin = in->c_twin;
    n->top_unex = in->c_unex;
    n->top_mir = in->c_mir;
    n->top_rel = REL_NONE;
    in->dirh = in->target;
    in->link = LINK_DONE;
}

/* The server executes a link(2) whenever it gets to it, even after the caller is gone. */
static void gen_links(struct gen *g)
{
    const struct state *s = g->s;

    for (unsigned k = 0; k < INSTS; k++) {
        const struct inst *in = &s->in[k];

        if (in->link != LINK_SENT) {
            continue;
        }
        if (in->target == s->top_epoch + 1 ||
            (in->target == s->top_epoch && !MODEL_CLAUSE(M_R1_LINK_ATOMIC))) {
            begin(g, ACT_LINK, k, in->target);
            install(&g->n, k);
            done(g);
        } else if (in->target < s->top_epoch && !MODEL_CLAUSE(M_R1_NEVER_PRUNED)) {
            begin(g, ACT_LINK, k, in->target)->in[k].link = LINK_DONE;
            done(g);
        }
    }
}

static void on_won(struct state *n, unsigned k)
{
    struct inst *in = &n->in[k];

    in->won = in->target;
    if (in->kind == CLAIM_GO_ALONE || in->kind == CLAIM_UNPROTECT ||
        in->kind == CLAIM_TAKE_BACK) {
        in->commit = in->twin = in->ahead = 0;
        in->out = OUT_NONE; /* what was held goes out as ordinary output */
    }
    if (in->kind == CLAIM_GO_LIVE && in->st == RUN) {
        in->commit = in->twin = 0; /* a primary that was named as its own twin's twin */
    }
    if (in->kind == CLAIM_TAKE_BACK) {
        in->dest = in->stopping = 0;
    }
    in->link = LINK_NONE;
    in->target = 0;
}

static void gen_read_back(struct gen *g)
{
    const struct state *s = g->s;

    for (unsigned k = 0; k < INSTS; k++) {
        if (s->in[k].link == LINK_NONE || !alive(&s->in[k]) || !agent_sees(s, k)) {
            continue;
        }

        enum claim_outcome outcome = rules_outcome(s, k);

        if (outcome == CLAIM_OUTCOME_UNKNOWN) {
            continue; /* it links again with the same attempt: the same request */
        }

        struct state *n = begin(g, ACT_READ_BACK, k, outcome);

        if (outcome == CLAIM_OUTCOME_WON) {
            on_won(n, k);
        } else {
            n->in[k].st =
                GONE; /* a request that is still under way may yet be executed */
        }
        done(g);
    }
}

/* Entering the guest, leaving it
 * ---------------------------------------------------------- */

static void touch_disk(struct state *n, unsigned k)
{
    n->in[k].disk = 1;
    n->disk_owner = (uint8_t)(k + 1);
}

static bool someone_is_ahead_of(const struct state *s, unsigned twin)
{
    for (unsigned k = 0; k < INSTS; k++) {
        if (k != twin && s->in[k].ahead) {
            return true;
        }
    }
    return false;
}

static void enter(struct gen *g, unsigned k)
{
    const struct state *s = g->s;
    struct state *n = begin(g, ACT_ENTER, k, s->in[k].st);
    struct inst *in = &n->in[k];

    switch (s->in[k].st) {
    case COLD:
        if (g->sc->mirrored) {
            check(g, INV_FLUSH_KEPT, has(s->mirrors, in->node));
            n->mirrors = (uint8_t)(1u << in->node);
        }
        touch_disk(n, k);
        break;
    case INCOMING:
        check(g, INV_MEMORY, in->mem == MEM_COMPLETE);
        in->mem = MEM_NONE;
        break;
    case TWIN:
        check(g, INV_GO_LIVE_KNOWS, in->synced && !someone_is_ahead_of(s, k));
        if (g->sc->mirrored) {
            check(g, INV_FLUSH_KEPT, has(s->mirrors, in->node));
        }
        in->synced = 0;
        break;
    default:
        if (in->dest) {
            n->in[in->dest - 1].mem = MEM_STALE; /* it runs on: the copy is old again */
        }
        in->stopping = 0;
        break;
    }
    in->st = RUN;
    if (in->won >= n->live_epoch) {
        n->live = (uint8_t)(k + 1);
        n->live_epoch = in->won;
    }
    if (in->disk) {
        touch_disk(n, k);
    } else if (rules_may_touch_disk(s, k) ||
               (s->in[k].st == TWIN && !MODEL_CLAUSE(M_R5_HOLD_WRITES))) {
        touch_disk(n, k);
    }
    done(g);
}

static void gen_enter(struct gen *g)
{
    const struct state *s = g->s;

    for (unsigned k = 0; k < INSTS; k++) {
        const struct inst *in = &s->in[k];
        bool waiting =
            in->st == COLD || in->st == INCOMING || in->st == TWIN || in->st == FROZEN;
        bool early =
            in->st == COLD && in->link != LINK_NONE && !MODEL_CLAUSE(M_R1_CLAIM_FIRST);

        if (waiting && agent_sees(s, k) && !early && in->won && in->link == LINK_NONE &&
            rules_may_enter(s, k) && (in->st != COLD || rules_may_touch_disk(s, k))) {
            enter(g, k);
        }
        if (early) {
            enter(g, k);
        }
        if (in->st == RUN && !in->disk && in->won && agent_sees(s, k) &&
            rules_may_touch_disk(s, k)) {
            begin(g, ACT_LET_GO, k, 0);
            touch_disk(&g->n, k);
            done(g);
        }
    }
}

static bool is_wanted(const struct state *s, unsigned k)
{
    if (s->top_twin == k + 1 || s->top_rel == REL_TO(k)) {
        return true;
    }
    for (unsigned i = 0; i < INSTS; i++) {
        const struct inst *in = &s->in[i];

        if (alive(in) && (in->twin == k + 1 || in->dest == k + 1)) {
            return true;
        }
        if (in->rel_sent && in->relto == REL_TO(k)) {
            return true;
        }
        if (in->link == LINK_SENT && in->target > s->top_epoch && in->c_twin == k + 1) {
            return true;
        }
    }
    return false;
}

/* An agent reads the highest claim and ends what has no part in it. */
static bool is_discardable(const struct state *s, unsigned k)
{
    const struct inst *in = &s->in[k];

    if (!agent_sees(s, k)) {
        return false;
    }
    switch (in->st) {
    case RUN:
    case COLD:
    case FROZEN:
        if (in->stopping && in->rel == in->won) {
            return true;
        }
        return in->link == LINK_NONE && s->top_owner != k + 1 && in->won < s->top_epoch;
    case TWIN:
    case INCOMING:
        if (in->link != LINK_NONE) {
            return false;
        }
        return in->won ? s->top_owner != k + 1 : !is_wanted(s, k);
    default:
        return false;
    }
}

static void gen_end(struct gen *g)
{
    const struct state *s = g->s;

    for (unsigned k = 0; k < INSTS; k++) {
        const struct inst *in = &s->in[k];
        bool matters = s->top_owner == k + 1 || has(s->top_unex, k);
        bool drained = !in->write || !MODEL_CLAUSE(M_R2_ACK_DRAINED);

        if (is_discardable(s, k)) {
            begin(g, ACT_DISCARD, k, 0)->in[k].st = GONE;
            done(g);
        }
        if (alive(in) && s->n_kill) {
            struct state *n = begin(g, ACT_KILL, k, 0);

            n->n_kill--;
            n->in[k].st = GONE;
            done_fault(g);
        }
        if (in->st == RUN && s->n_freeze) {
            struct state *n = begin(g, ACT_FREEZE, k, 0);

            n->n_freeze--;
            n->in[k].st = FROZEN;
            done_fault(g);
        }
        /* Asked for a limited number of times, or freezing and thawing would never end.
         */
        if (in->st == FROZEN && matters && drained && agent_sees(s, k) && in->won &&
            in->halt_frozen != in->won && s->n_ack) {
            struct state *n = begin(g, ACT_ACK_FROZEN, k, 0);

            n->n_ack--;
            n->in[k].halt_frozen = in->won;
            done(g);
        }
        if (in->st == GONE && matters && drained && agent_sees(s, k) &&
            in->halt_gone != in->dirh) {
            begin(g, ACT_ACK_GONE, k, 0)->in[k].halt_gone = in->dirh;
            done(g);
        }
        if (g->sc->storage_fence && has(s->top_unex, k) && !has(s->storage_fenced, k)) {
            struct state *n = begin(g, ACT_STORAGE_FENCE, k, 0);

            n->storage_fenced |= (uint8_t)(1u << k);
            n->in[k].write = 0;
            done(g);
        }
    }
}

/* Migration, clean stop
 * --------------------------------------------------------------------- */

static void gen_release(struct gen *g, unsigned k)
{
    const struct state *s = g->s;
    const struct inst *in = &s->in[k];
    bool to_instance = in->dest != 0 && !in->stopping;

    if ((in->st != FROZEN && in->st != RUN) || in->link != LINK_NONE || !in->won ||
        in->rel == in->won || !agent_sees(s, k) || (!to_instance && !in->stopping)) {
        return;
    }
    if (!rules_may_release(s, k, to_instance,
                           to_instance && s->in[in->dest - 1].mem == MEM_COMPLETE)) {
        return;
    }

    struct state *n = begin(g, ACT_RELEASE, k, 0);

    n->in[k].rel = in->won;
    n->in[k].rel_sent = 1;
    n->in[k].relto = to_instance ? REL_TO(in->dest - 1) : REL_ANYONE;
    done(g);
}

static void gen_migrate_to(struct gen *g, unsigned k)
{
    const struct state *s = g->s;

    for (unsigned d = 0; d < NODES; d++) {
        if (d == s->in[k].node || !has(s->agent, d)) {
            continue;
        }

        int slot = free_slot(g);

        if (slot < 0) {
            return;
        }

        struct state *n = begin(g, ACT_MIGRATE, k, d);

        n->n_migrate--;
        n->in[slot] = fresh(s, d, INCOMING);
        n->in[slot].mem = MEM_STALE;
        n->in[k].dest = (uint8_t)(slot + 1);
        done_fault(g);
    }
}

static void gen_migration(struct gen *g)
{
    const struct state *s = g->s;

    for (unsigned k = 0; k < INSTS; k++) {
        const struct inst *in = &s->in[k];

        if (in->st == RUN && in->won && s->n_migrate && !in->twin && !in->dest) {
            gen_migrate_to(g, k);
        }
        if (in->st == RUN && (in->dest || in->stopping)) {
            begin(g, ACT_PAUSE_SOURCE, k, 0)->in[k].st = FROZEN;
            done(g);
        }
        if (in->st == FROZEN && in->dest && s->in[in->dest - 1].st == INCOMING &&
            s->in[in->dest - 1].mem == MEM_STALE) {
            begin(g, ACT_FINAL_COPY, k, 0)->in[in->dest - 1].mem = MEM_COMPLETE;
            done(g);
        }
        if (in->st == RUN && in->won && s->n_stop) {
            struct state *n = begin(g, ACT_STOP, k, 0);

            n->n_stop--;
            n->in[k].stopping = 1;
            done_fault(g);
        }
        gen_release(g, k);
        if (in->rel_sent && s->top_epoch == in->rel && s->top_owner == k + 1) {
            struct state *n = begin(g, ACT_RELEASE_LANDS, k, 0);

            n->in[k].rel_sent = 0;
            n->top_rel = in->relto;
            done(g);
        }
    }
}

/* Fault tolerance
 * ------------------------------------------------------------------------------ */

static void gen_protect_on(struct gen *g, unsigned k)
{
    const struct state *s = g->s;

    for (unsigned d = 0; d < NODES; d++) {
        if (d == s->in[k].node || !has(s->agent, d)) {
            continue;
        }

        int slot = free_slot(g);

        if (slot < 0) {
            return;
        }

        struct state *n = begin(g, ACT_PROTECT_BEGIN, k, d);

        n->n_protect--;
        n->in[slot] = fresh(s, d, TWIN);
        n->in[k].twin = (uint8_t)(slot + 1);
        done_fault(g);
    }
}

static void gen_receive(struct gen *g, unsigned k)
{
    const struct inst *in = &g->s->in[k];
    const struct inst *twin = &g->s->in[in->twin - 1];
    bool submitted = twin->link != LINK_NONE || twin->won;

    if (!in->ahead && in->out != OUT_HELD) {
        return;
    }
    if (submitted ? MODEL_CLAUSE(M_R5_NO_ACK_SUBMITTED) || !alive(twin)
                  : twin->st != TWIN || !twin->synced) {
        return;
    }

    struct state *n = begin(g, ACT_RECEIVE, k, 0);

    if (in->out == OUT_HELD) {
        n->in[k].out = submitted ? OUT_LATE : OUT_KNOWN;
    }
    if (!submitted) {
        n->in[k].ahead = 0;
        n->mirrors |= (uint8_t)(1u << twin->node);
    }
    done(g);
}

static void gen_twins(struct gen *g)
{
    const struct state *s = g->s;

    for (unsigned k = 0; k < INSTS; k++) {
        const struct inst *in = &s->in[k];

        if (in->st != RUN && in->st != FROZEN) {
            continue;
        }
        if (in->st == RUN && in->won && s->n_protect && !in->twin && !in->dest) {
            gen_protect_on(g, k);
        }
        if (!in->twin) {
            continue;
        }

        const struct inst *twin = &s->in[in->twin - 1];
        bool pending = in->link != LINK_NONE && in->c_twin == in->twin;

        if (in->st == RUN && twin->st == TWIN && !twin->synced && in->out == OUT_NONE &&
            (!g->sc->mirrored || rules_may_open_mirror(s, k, in->twin - 1u))) {
            struct state *n = begin(g, ACT_SYNC, k, 0);

            n->in[in->twin - 1].synced = 1;
            n->in[k].ahead = 0;
            if (has(s->mirrors, in->node)) {
                n->mirrors |= (uint8_t)(1u << twin->node);
            }
            done(g);
        }
        if (in->st == RUN && twin->st == TWIN && !in->commit) {
            begin(g, ACT_COMMIT_ON, k, 0)->in[k].commit = 1;
            done(g);
        }
        if (s->top_twin != in->twin && s->top_owner == k + 1 &&
            (!pending || !MODEL_CLAUSE(M_R5_UNKNOWN_COMMIT))) {
            struct state *n = begin(g, ACT_TWIN_DROPPED, k, 0);

            n->in[k].twin = n->in[k].commit = 0;
            n->in[k].out = OUT_NONE;
            done(g);
        }
        gen_receive(g, k);
    }
}

static bool has_synced_twin(const struct state *s)
{
    for (unsigned k = 0; k < INSTS; k++) {
        if (s->in[k].st == TWIN && s->in[k].synced) {
            return true;
        }
    }
    return false;
}

static void output(struct gen *g, unsigned k)
{
    const struct state *s = g->s;
    const struct inst *in = &s->in[k];
    struct state *n = begin(g, ACT_OUTPUT, k, in->out);
    bool known = in->commit && in->out == OUT_KNOWN;

    /* A superseded instance may still finish what its twin had before it took over;
     * nothing else. */
    check(g, INV_NO_STALE_OUTPUT, s->live == k + 1 || known);
    if (in->disk && !has(s->storage_fenced, k)) {
        n->in[k].write = 1;
    }
    if (!known) {
        n->in[k].ahead = has_synced_twin(s);
        if (g->sc->mirrored && s->live == k + 1) {
            n->mirrors = (uint8_t)(1u << in->node); /* FLUSH completed here only */
        }
    }
    n->in[k].out = OUT_NONE;
    done(g);
}

/* Mirrored: a newer owner's copy is on this node, its own or its twin's. */
static bool copy_has_newer_user(const struct state *s, unsigned k)
{
    for (unsigned i = 0; i < INSTS; i++) {
        const struct inst *in = &s->in[i];
        const struct inst *twin = in->twin ? &s->in[in->twin - 1] : NULL;

        if (i == k || in->st != RUN || in->won <= s->in[k].dirh) {
            continue;
        }
        if ((in->disk && in->node == s->in[k].node) ||
            (twin && twin->st == TWIN && twin->synced && twin->node == s->in[k].node)) {
            return true;
        }
    }
    return false;
}

static void gen_guest(struct gen *g)
{
    const struct state *s = g->s;

    for (unsigned k = 0; k < INSTS; k++) {
        const struct inst *in = &s->in[k];

        if (in->st == RUN && in->commit && in->out == OUT_NONE) {
            begin(g, ACT_PRODUCE, k, 0)->in[k].out = OUT_HELD;
            done(g);
        }
        if (in->st == RUN &&
            (!in->commit || in->out >= OUT_KNOWN ||
             (in->out == OUT_HELD && !MODEL_CLAUSE(M_R5_OUTPUT_WAITS)))) {
            output(g, k);
        }
        if (in->write) {
            struct state *n = begin(g, ACT_LAND, k, 0);

            n->in[k].write = 0;
            check(g, INV_NO_OLD_WRITE,
                  g->sc->mirrored ? !copy_has_newer_user(s, k) : s->disk_owner == k + 1);
            done(g);
        }
    }
}

/* ------------------------------------------------------------------------------------------------
 */

void model_initial(const struct scenario *sc, struct state *ret_state)
{
    struct state s;

    memset(&s, 0, sizeof(s));
    s.up = s.agent = s.quorate = (1u << NODES) - 1;
    s.n_crash = sc->crash;
    s.n_kill = sc->kill;
    s.n_cut = sc->cut;
    s.n_freeze = sc->freeze;
    s.n_ack = sc->ack;
    s.n_migrate = sc->migrate;
    s.n_protect = sc->protect;
    s.n_unprotect = sc->unprotect;
    s.n_stop = sc->stop;
    s.n_agent = sc->agent;
    s.n_policy = sc->policy;
    if (sc->watchdog) {
        memset(s.wd, WDOG_TICKS, sizeof(s.wd));
        s.feeds_always =
            1u << (NODES - 1); /* one node never published its watchdog as a proof */
    }
    s.mirrors = 1;
    if (!sc->empty) {
        s.in[0] = (struct inst){
            .st = RUN, .won = 1, .dirh = 1, .disk = 1, .c_mir = sc->mirrored ? 1 : 0};
        s.top_epoch = 1;
        s.top_owner = 1;
        s.top_mir = s.in[0].c_mir;
        s.live = s.live_epoch = s.disk_owner = 1;
    }
    *ret_state = s;
}

void model_expand(const struct scenario *sc, const struct state *s,
                  struct model_stats *stats, model_emit_fn emit, void *ctx)
{
    struct gen g = {.sc = sc, .s = s, .stats = stats, .emit = emit, .ctx = ctx};

    gen_nodes(&g);
    gen_proofs(&g);
    gen_watchdog(&g);
    gen_agents(&g);
    gen_submit(&g);
    gen_links(&g);
    gen_read_back(&g);
    gen_enter(&g);
    gen_end(&g);
    gen_migration(&g);
    gen_twins(&g);
    gen_guest(&g);
}

bool model_is_good(const struct state *s)
{
    unsigned running = 0;
    bool good = false;

    for (unsigned k = 0; k < INSTS; k++) {
        const struct inst *in = &s->in[k];

        if (in->st != RUN) {
            continue;
        }
        running++;
        good |= s->top_owner == k + 1 && in->won == s->top_epoch && in->disk &&
                in->link == LINK_NONE && is_able(s, k);
    }
    return good && running == 1;
}
