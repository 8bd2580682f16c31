/* SPDX-License-Identifier: Apache-2.0 */
/* Between the files that say what can happen next: each gen_NAME emits the steps of its
 * kind that are possible in g->s. */
#pragma once

#include "tests/model/model.h"

struct gen {
    const struct scenario *sc;
    const struct state *s;
    struct state n; /* the successor under construction */
    struct step step;
    struct model_stats *stats;
    model_emit_fn emit;
    void *ctx;
};

/* A step begins as a copy of the state, which its writer changes; gen_done emits it. */
struct state *gen_begin(struct gen *g, enum action act, unsigned a, unsigned b);
void gen_check(struct gen *g, enum invariant inv, bool holds);
void gen_done(struct gen *g);
void gen_done_fault(struct gen *g);
/* A slot for one more instance, or -1. */
int gen_free_slot(struct gen *g);
struct inst gen_fresh(const struct state *s, unsigned node, enum inst_state st);

/* model_world.c: nodes, views, proofs, agents. */
void world_update_views(struct state *n);
/* An agent that can look at this instance's process: same boot. */
bool world_agent_sees(const struct state *s, unsigned k);
/* Can this instance execute and let something out? With commit on only while its twin
 * acknowledges. */
bool world_is_able(const struct state *s, unsigned k);
void gen_nodes(struct gen *g);
void gen_proofs(struct gen *g);
void gen_watchdog(struct gen *g);
void gen_agents(struct gen *g);

/* model_claim.c: claims, and what an instance does with one. */
void gen_submit(struct gen *g);
void gen_links(struct gen *g);
void gen_read_back(struct gen *g);
void gen_enter(struct gen *g);
void gen_end(struct gen *g);

/* model_twin.c: migration, twins, what a guest shows. */
void gen_migration(struct gen *g);
void gen_twins(struct gen *g);
void gen_guest(struct gen *g);
