/* SPDX-License-Identifier: Apache-2.0 */
/* What can happen next, and what must never have happened. */
#include <string.h>

#include "tests/model/model_gen.h"

struct state *gen_begin(struct gen *g, enum action act, unsigned a, unsigned b)
{
    g->n = *g->s;
    g->step = (struct step){.act = (uint8_t)act, .a = (uint8_t)a, .b = (uint8_t)b};
    return &g->n;
}

void gen_check(struct gen *g, enum invariant inv, bool holds)
{
    g->stats->inv_evaluated[inv]++;
    if (!holds && !g->step.broken) {
        g->step.broken = true;
        g->step.inv = (uint8_t)inv;
    }
}

int gen_free_slot(struct gen *g)
{
    for (int k = 0; k < INSTS; k++) {
        if (g->s->in[k].st == FREE) {
            return k;
        }
    }
    g->stats->no_slot++;
    return -1;
}

struct inst gen_fresh(const struct state *s, unsigned node, enum inst_state st)
{
    return (struct inst){.st = (uint8_t)st, .node = (uint8_t)node, .inc = s->inc[node]};
}

void gen_done(struct gen *g)
{
    unsigned able = 0;

    if (!g->sc->lagging_views && !g->sc->watchdog) {
        world_update_views(&g->n);
    }
    for (unsigned k = 0; k < INSTS; k++) {
        able += world_is_able(&g->n, k);
    }
    gen_check(g, INV_ONE_ABLE, able <= 1);
    model_collect(&g->n);
    g->stats->act_taken[g->step.act]++;
    g->emit(g->ctx, &g->n, &g->step);
}

void gen_done_fault(struct gen *g)
{
    g->step.fault = true;
    gen_done(g);
}

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
                in->link == LINK_NONE && world_is_able(s, k);
    }
    return good && running == 1;
}
