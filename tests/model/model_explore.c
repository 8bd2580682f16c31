/* SPDX-License-Identifier: Apache-2.0 */
/* Breadth first over all states, so that a counterexample is a shortest one; then
 * backwards from the good states. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "base/bug.h"
#include "tests/model/model.h"

struct node {
    uint32_t parent;
    struct step step;
};

struct space {
    const struct scenario *sc;
    struct state *states;
    struct node *nodes;
    uint64_t *edge_first; /* of state i: edges edge_first[i] .. edge_first[i + 1] */
    uint32_t *edges;      /* targets of transitions that are no faults */
    uint32_t *table;      /* open addressing: state index + 1 */
    uint32_t count, max, mask;
    uint64_t edge_count, edge_max, transitions;
    uint32_t now;
    bool out_of_room, broken;
    struct step broken_step;
};

/* Address space only; pages cost memory when they are touched. */
static void *reserve(size_t len)
{
    void *p = mmap(NULL, len, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    BUG_ON(p == MAP_FAILED);
    return p;
}

static uint64_t hash(const struct state *s)
{
    const uint8_t *p = (const uint8_t *)s;
    uint64_t h = UINT64_C(0x9E3779B97F4A7C15), w;
    size_t i = 0;

    for (; i + 8 <= sizeof(*s); i += 8) {
        memcpy(&w, p + i, 8);
        h = (h ^ w) * UINT64_C(0xFF51AFD7ED558CCD);
        h ^= h >> 32;
    }
    for (; i < sizeof(*s); i++) {
        h = (h ^ p[i]) * UINT64_C(0xC4CEB9FE1A85EC53);
        h ^= h >> 29;
    }
    return h;
}

/* The index of s, added if it is new; UINT32_MAX when there is no room. */
static uint32_t intern(struct space *sp, const struct state *s, const struct step *step)
{
    uint32_t at = (uint32_t)hash(s) & sp->mask;

    for (; sp->table[at]; at = (at + 1) & sp->mask) {
        if (memcmp(&sp->states[sp->table[at] - 1], s, sizeof(*s)) == 0) {
            return sp->table[at] - 1;
        }
    }
    if (sp->count >= sp->max) {
        sp->out_of_room = true;
        return UINT32_MAX;
    }
    sp->states[sp->count] = *s;
    sp->nodes[sp->count] = (struct node){.parent = sp->now, .step = *step};
    sp->table[at] = ++sp->count;
    return sp->count - 1;
}

static void on_transition(void *ctx, const struct state *next, const struct step *step)
{
    struct space *sp = ctx;

    sp->transitions++;
    if (sp->broken || sp->out_of_room) {
        return;
    }
    if (step->broken) {
        sp->broken = true;
        sp->broken_step = *step;
        return;
    }

    struct state canon = *next;

    model_canonical(&canon);

    uint32_t to = intern(sp, &canon, step);

    if (step->fault || to == UINT32_MAX || to == sp->now) {
        return;
    }
    if (sp->edge_count >= sp->edge_max) {
        sp->out_of_room = true;
        return;
    }
    sp->edges[sp->edge_count++] = to;
}

static uint32_t depth_of(const struct space *sp, uint32_t i)
{
    uint32_t depth = 0;

    for (; i != 0; i = sp->nodes[i].parent) {
        depth++;
    }
    return depth;
}

/* Follows one concrete run along canonical states, so that a trace keeps its names. */
struct follow {
    const struct state *wanted; /* canonical; NULL: the violation itself */
    struct state found;
    struct step step;
    bool done;
};

static void on_follow(void *ctx, const struct state *next, const struct step *step)
{
    struct follow *f = ctx;
    struct state canon = *next;

    model_canonical(&canon);
    if (f->done || step->broken != !f->wanted ||
        (f->wanted && memcmp(&canon, f->wanted, sizeof(canon)) != 0)) {
        return;
    }
    f->found = *next;
    f->step = *step;
    f->done = true;
}

static void print_trace(const struct space *sp, uint32_t last)
{
    uint32_t depth = depth_of(sp, last), *path = calloc(depth + 1, sizeof(*path));
    struct model_stats ignored = {0};
    struct state at;

    BUG_ON(!path);
    for (uint32_t i = last, d = depth; i != 0; i = sp->nodes[i].parent) {
        path[--d] = i;
    }
    model_initial(sp->sc, &at);
    for (uint32_t d = 0; d < depth + sp->broken; d++) {
        struct follow f = {.wanted = d < depth ? &sp->states[path[d]] : NULL};

        model_expand(sp->sc, &at, &ignored, on_follow, &f);
        if (!f.done) {
            printf("# (the rest of the run has no concrete names)\n");
            break;
        }
        printf("# %3u ", d + 1);
        model_print_step(&at, &f.step, &f.found);
        at = f.found;
    }
    free(path);
}

/* A state from which no continuation without further faults leads to a good one, or
 * UINT32_MAX. */
static uint32_t find_trap(struct space *sp, struct model_stats *stats)
{
    uint8_t *good = reserve(sp->count);
    uint32_t trap = UINT32_MAX;
    bool changed = true;

    for (uint32_t i = 0; i < sp->count; i++) {
        good[i] = model_is_good(&sp->states[i]);
    }
    while (changed) {
        changed = false;
        for (uint32_t i = sp->count; i-- > 0;) {
            for (uint64_t e = sp->edge_first[i]; !good[i] && e < sp->edge_first[i + 1];
                 e++) {
                good[i] = good[sp->edges[e]];
                changed |= good[i];
            }
        }
    }
    for (uint32_t i = 0; i < sp->count && trap == UINT32_MAX; i++) {
        stats->inv_evaluated[INV_WAY_BACK]++;
        if (!good[i]) {
            trap = i;
        }
    }
    munmap(good, sp->count);
    return trap;
}

static void search(struct space *sp, struct model_stats *stats)
{
    struct state first;
    const struct step none = {0};

    model_initial(sp->sc, &first);
    model_canonical(&first);
    (void)intern(sp, &first, &none);
    for (sp->now = 0; sp->now < sp->count && !sp->broken && !sp->out_of_room; sp->now++) {
        sp->edge_first[sp->now] = sp->edge_count;
        model_expand(sp->sc, &sp->states[sp->now], stats, on_transition, sp);
    }
    sp->edge_first[sp->now] = sp->edge_count;
}

static double now_s(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

void explore(const struct scenario *sc, bool check_way_back, uint32_t states_max,
             bool trace, struct model_stats *stats, struct explore_result *ret_result)
{
    struct space sp = {
        .sc = sc, .max = states_max, .edge_max = (uint64_t)states_max * 24};
    uint32_t slots = 1;
    double start = now_s();

    while (slots < states_max * 2) {
        slots *= 2;
    }
    sp.mask = slots - 1;

    const size_t states_len = sizeof(*sp.states) * states_max;
    const size_t nodes_len = sizeof(*sp.nodes) * states_max;
    const size_t first_len = sizeof(*sp.edge_first) * ((size_t)states_max + 1);
    const size_t edges_len = sizeof(*sp.edges) * sp.edge_max;
    const size_t table_len = sizeof(*sp.table) * slots;

    sp.states = reserve(states_len);
    sp.nodes = reserve(nodes_len);
    sp.edge_first = reserve(first_len);
    sp.edges = reserve(edges_len);
    sp.table = reserve(table_len);
    search(&sp, stats);
    *ret_result = (struct explore_result){
        .states = sp.count,
        .transitions = sp.transitions,
        .edges = sp.edge_count,
        .depth = depth_of(&sp, sp.count - 1),
        .broken = sp.broken,
        .out_of_room = sp.out_of_room,
        .inv = sp.broken_step.inv,
    };
    if (sp.broken && trace) {
        print_trace(&sp, sp.now - 1); /* the loop stepped past the state it broke in */
    } else if (!sp.broken && !sp.out_of_room && check_way_back) {
        uint32_t trap = find_trap(&sp, stats);

        if (trap != UINT32_MAX) {
            ret_result->broken = true;
            ret_result->inv = INV_WAY_BACK;
            if (trace) {
                print_trace(&sp, trap);
            }
        }
    }
    ret_result->seconds = now_s() - start;
    munmap(sp.states, states_len);
    munmap(sp.nodes, nodes_len);
    munmap(sp.edge_first, first_len);
    munmap(sp.edges, edges_len);
    munmap(sp.table, table_len);
}
