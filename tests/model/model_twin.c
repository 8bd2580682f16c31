/* SPDX-License-Identifier: Apache-2.0 */
/* An instance and its other one: migration, twins, and what a guest may show. */

#include "tests/model/model_gen.h"

static void gen_release(struct gen *g, unsigned k)
{
    const struct state *s = g->s;
    const struct inst *in = &s->in[k];
    bool to_instance = in->dest != 0 && !in->stopping;

    if ((in->st != FROZEN && in->st != RUN) || in->link != LINK_NONE || !in->won ||
        in->rel == in->won || !world_agent_sees(s, k) ||
        (!to_instance && !in->stopping)) {
        return;
    }
    if (!rules_may_release(s, k, to_instance,
                           to_instance && s->in[in->dest - 1].mem == MEM_COMPLETE)) {
        return;
    }

    struct state *n = gen_begin(g, ACT_RELEASE, k, 0);

    n->in[k].rel = in->won;
    n->in[k].rel_sent = 1;
    n->in[k].relto = to_instance ? REL_TO(in->dest - 1) : REL_ANYONE;
    gen_done(g);
}

static void gen_migrate_to(struct gen *g, unsigned k)
{
    const struct state *s = g->s;

    for (unsigned d = 0; d < NODES; d++) {
        if (d == s->in[k].node || !has(s->agent, d)) {
            continue;
        }

        int slot = gen_free_slot(g);

        if (slot < 0) {
            return;
        }

        struct state *n = gen_begin(g, ACT_MIGRATE, k, d);

        n->n_migrate--;
        n->in[slot] = gen_fresh(s, d, INCOMING);
        n->in[slot].mem = MEM_STALE;
        n->in[k].dest = (uint8_t)(slot + 1);
        gen_done_fault(g);
    }
}

void gen_migration(struct gen *g)
{
    const struct state *s = g->s;

    for (unsigned k = 0; k < INSTS; k++) {
        const struct inst *in = &s->in[k];

        if (in->st == RUN && in->won && s->n_migrate && !in->twin && !in->dest) {
            gen_migrate_to(g, k);
        }
        if (in->st == RUN && (in->dest || in->stopping)) {
            gen_begin(g, ACT_PAUSE_SOURCE, k, 0)->in[k].st = FROZEN;
            gen_done(g);
        }
        if (in->st == FROZEN && in->dest && s->in[in->dest - 1].st == INCOMING &&
            s->in[in->dest - 1].mem == MEM_STALE) {
            gen_begin(g, ACT_FINAL_COPY, k, 0)->in[in->dest - 1].mem = MEM_COMPLETE;
            gen_done(g);
        }
        if (in->st == RUN && in->won && s->n_stop) {
            struct state *n = gen_begin(g, ACT_STOP, k, 0);

            n->n_stop--;
            n->in[k].stopping = 1;
            gen_done_fault(g);
        }
        gen_release(g, k);
        if (in->rel_sent && s->top_epoch == in->rel && s->top_owner == k + 1) {
            struct state *n = gen_begin(g, ACT_RELEASE_LANDS, k, 0);

            n->in[k].rel_sent = 0;
            n->top_rel = in->relto;
            gen_done(g);
        }
    }
}

/* Fault tolerance */

static void gen_protect_on(struct gen *g, unsigned k)
{
    const struct state *s = g->s;

    for (unsigned d = 0; d < NODES; d++) {
        if (d == s->in[k].node || !has(s->agent, d)) {
            continue;
        }

        int slot = gen_free_slot(g);

        if (slot < 0) {
            return;
        }

        struct state *n = gen_begin(g, ACT_PROTECT_BEGIN, k, d);

        n->n_protect--;
        n->in[slot] = gen_fresh(s, d, TWIN);
        n->in[k].twin = (uint8_t)(slot + 1);
        gen_done_fault(g);
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

    struct state *n = gen_begin(g, ACT_RECEIVE, k, 0);

    if (in->out == OUT_HELD) {
        n->in[k].out = submitted ? OUT_LATE : OUT_KNOWN;
    }
    if (!submitted) {
        n->in[k].ahead = 0;
        n->mirrors |= (uint8_t)(1u << twin->node);
    }
    gen_done(g);
}

void gen_twins(struct gen *g)
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
            struct state *n = gen_begin(g, ACT_SYNC, k, 0);

            n->in[in->twin - 1].synced = 1;
            n->in[k].ahead = 0;
            if (has(s->mirrors, in->node)) {
                n->mirrors |= (uint8_t)(1u << twin->node);
            }
            gen_done(g);
        }
        if (in->st == RUN && twin->st == TWIN && !in->commit) {
            gen_begin(g, ACT_COMMIT_ON, k, 0)->in[k].commit = 1;
            gen_done(g);
        }
        if (s->top_twin != in->twin && s->top_owner == k + 1 &&
            (!pending || !MODEL_CLAUSE(M_R5_UNKNOWN_COMMIT))) {
            struct state *n = gen_begin(g, ACT_TWIN_DROPPED, k, 0);

            n->in[k].twin = n->in[k].commit = 0;
            n->in[k].out = OUT_NONE;
            gen_done(g);
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
    struct state *n = gen_begin(g, ACT_OUTPUT, k, in->out);
    bool known = in->commit && in->out == OUT_KNOWN;

    /* A superseded instance may still finish what its twin had before it took over;
     * nothing else. */
    gen_check(g, INV_NO_STALE_OUTPUT, s->live == k + 1 || known);
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
    gen_done(g);
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

void gen_guest(struct gen *g)
{
    const struct state *s = g->s;

    for (unsigned k = 0; k < INSTS; k++) {
        const struct inst *in = &s->in[k];

        if (in->st == RUN && in->commit && in->out == OUT_NONE) {
            gen_begin(g, ACT_PRODUCE, k, 0)->in[k].out = OUT_HELD;
            gen_done(g);
        }
        if (in->st == RUN &&
            (!in->commit || in->out >= OUT_KNOWN ||
             (in->out == OUT_HELD && !MODEL_CLAUSE(M_R5_OUTPUT_WAITS)))) {
            output(g, k);
        }
        if (in->write) {
            struct state *n = gen_begin(g, ACT_LAND, k, 0);

            n->in[k].write = 0;
            gen_check(g, INV_NO_OLD_WRITE,
                      g->sc->mirrored ? !copy_has_newer_user(s, k)
                                      : s->disk_owner == k + 1);
            gen_done(g);
        }
    }
}
