/* SPDX-License-Identifier: Apache-2.0 */
/* Claims: submitted, executed, read back; entering the guest with one, leaving it. */

#include "tests/model/model_gen.h"

static void submit(struct gen *g, unsigned k, enum claim_kind kind)
{
    struct inst taken;

    if (!has(g->s->agent, g->s->in[k].node) ||
        !rules_take(g->sc, g->s, k, kind, &taken)) {
        return;
    }

    struct state *n = gen_begin(g, ACT_SUBMIT, k, kind);

    n->in[k] = taken;
    if ((kind == CLAIM_GO_ALONE || kind == CLAIM_UNPROTECT) &&
        !MODEL_CLAUSE(M_R5_COMMIT_OFF_LATE)) {
        n->in[k].commit = 0;
    }
    if (kind == CLAIM_UNPROTECT) {
        n->n_unprotect--;
        gen_done_fault(g);
        return;
    }
    gen_done(g);
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
    k = gen_free_slot(g);
    if (k < 0) {
        return;
    }

    struct state with = *s;
    struct inst taken;

    with.in[k] = gen_fresh(s, node, COLD);
    if (!rules_take(g->sc, &with, (unsigned)k, s->top_epoch ? CLAIM_RESTART : CLAIM_START,
                    &taken)) {
        return;
    }

    struct state *n = gen_begin(g, ACT_SUBMIT, (unsigned)k, taken.kind);

    n->in[k] = taken;
    gen_check(g, INV_START_QUORATE, has(s->quorate, node));
    gen_check(g, INV_KEPT, s->top_epoch == 0 || !is_undisturbed(g));
    gen_done(g);
}

void gen_submit(struct gen *g)
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
void gen_links(struct gen *g)
{
    const struct state *s = g->s;

    for (unsigned k = 0; k < INSTS; k++) {
        const struct inst *in = &s->in[k];

        if (in->link != LINK_SENT) {
            continue;
        }
        if (in->target == s->top_epoch + 1 ||
            (in->target == s->top_epoch && !MODEL_CLAUSE(M_R1_LINK_ATOMIC))) {
            gen_begin(g, ACT_LINK, k, in->target);
            install(&g->n, k);
            gen_done(g);
        } else if (in->target < s->top_epoch && !MODEL_CLAUSE(M_R1_NEVER_PRUNED)) {
            gen_begin(g, ACT_LINK, k, in->target)->in[k].link = LINK_DONE;
            gen_done(g);
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

void gen_read_back(struct gen *g)
{
    const struct state *s = g->s;

    for (unsigned k = 0; k < INSTS; k++) {
        if (s->in[k].link == LINK_NONE || !alive(&s->in[k]) || !world_agent_sees(s, k)) {
            continue;
        }

        enum claim_outcome outcome = rules_outcome(s, k);

        if (outcome == CLAIM_OUTCOME_UNKNOWN) {
            continue; /* it links again with the same attempt: the same request */
        }

        struct state *n = gen_begin(g, ACT_READ_BACK, k, outcome);

        if (outcome == CLAIM_OUTCOME_WON) {
            on_won(n, k);
        } else {
            n->in[k].st =
                GONE; /* a request that is still under way may yet be executed */
        }
        gen_done(g);
    }
}

/* Entering the guest, leaving it */

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
    struct state *n = gen_begin(g, ACT_ENTER, k, s->in[k].st);
    struct inst *in = &n->in[k];

    switch (s->in[k].st) {
    case COLD:
        if (g->sc->mirrored) {
            gen_check(g, INV_FLUSH_KEPT, has(s->mirrors, in->node));
            n->mirrors = (uint8_t)(1u << in->node);
        }
        touch_disk(n, k);
        break;
    case INCOMING:
        gen_check(g, INV_MEMORY, in->mem == MEM_COMPLETE);
        in->mem = MEM_NONE;
        break;
    case TWIN:
        gen_check(g, INV_GO_LIVE_KNOWS, in->synced && !someone_is_ahead_of(s, k));
        if (g->sc->mirrored) {
            gen_check(g, INV_FLUSH_KEPT, has(s->mirrors, in->node));
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
    gen_done(g);
}

void gen_enter(struct gen *g)
{
    const struct state *s = g->s;

    for (unsigned k = 0; k < INSTS; k++) {
        const struct inst *in = &s->in[k];
        bool waiting =
            in->st == COLD || in->st == INCOMING || in->st == TWIN || in->st == FROZEN;
        bool early =
            in->st == COLD && in->link != LINK_NONE && !MODEL_CLAUSE(M_R1_CLAIM_FIRST);

        if (waiting && world_agent_sees(s, k) && !early && in->won &&
            in->link == LINK_NONE && rules_may_enter(s, k) &&
            (in->st != COLD || rules_may_touch_disk(s, k))) {
            enter(g, k);
        }
        if (early) {
            enter(g, k);
        }
        if (in->st == RUN && !in->disk && in->won && world_agent_sees(s, k) &&
            rules_may_touch_disk(s, k)) {
            gen_begin(g, ACT_LET_GO, k, 0);
            touch_disk(&g->n, k);
            gen_done(g);
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

    if (!world_agent_sees(s, k)) {
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

void gen_end(struct gen *g)
{
    const struct state *s = g->s;

    for (unsigned k = 0; k < INSTS; k++) {
        const struct inst *in = &s->in[k];
        bool matters = s->top_owner == k + 1 || has(s->top_unex, k);
        bool drained = !in->write || !MODEL_CLAUSE(M_R2_ACK_DRAINED);

        if (is_discardable(s, k)) {
            gen_begin(g, ACT_DISCARD, k, 0)->in[k].st = GONE;
            gen_done(g);
        }
        if (alive(in) && s->n_kill) {
            struct state *n = gen_begin(g, ACT_KILL, k, 0);

            n->n_kill--;
            n->in[k].st = GONE;
            gen_done_fault(g);
        }
        if (in->st == RUN && s->n_freeze) {
            struct state *n = gen_begin(g, ACT_FREEZE, k, 0);

            n->n_freeze--;
            n->in[k].st = FROZEN;
            gen_done_fault(g);
        }
        /* Asked for a limited number of times, or freezing and thawing would never end.
         */
        if (in->st == FROZEN && matters && drained && world_agent_sees(s, k) && in->won &&
            in->halt_frozen != in->won && s->n_ack) {
            struct state *n = gen_begin(g, ACT_ACK_FROZEN, k, 0);

            n->n_ack--;
            n->in[k].halt_frozen = in->won;
            gen_done(g);
        }
        if (in->st == GONE && matters && drained && world_agent_sees(s, k) &&
            in->halt_gone != in->dirh) {
            gen_begin(g, ACT_ACK_GONE, k, 0)->in[k].halt_gone = in->dirh;
            gen_done(g);
        }
        if (g->sc->storage_fence && has(s->top_unex, k) && !has(s->storage_fenced, k)) {
            struct state *n = gen_begin(g, ACT_STORAGE_FENCE, k, 0);

            n->storage_fenced |= (uint8_t)(1u << k);
            n->in[k].write = 0;
            gen_done(g);
        }
    }
}
