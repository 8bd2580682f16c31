/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ownership rules, explored: every scenario must hold, every mutant must break. TAP
 * on stdout. usage: check_claims [--deep] [--trace] [SCENARIO | CLAUSE]
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/units.h"
#include "tests/model/model.h"

#define STATES_MAX      (4u << 20)
#define STATES_MAX_DEEP (20u << 20)

static const struct scenario SCENARIOS[] = {
    {.name = "start",
     .what = "first start raced by three nodes",
     .empty = true,
     .crash = 1,
     .kill = 1},
    {.name = "restart",
     .what = "power loss, reboot, slow writes, a dead process",
     .crash = 2,
     .kill = 1},
    {.name = "halt",
     .what = "dead processes, freeze and thaw, acknowledged halts",
     .kill = 1,
     .freeze = 1,
     .ack = 2,
     .crash = 1},
    {.name = "partition",
     .what = "cut off nodes, lagging views, fencing",
     .cut = 1,
     .crash = 1,
     .freeze = 1,
     .ack = 1,
     .lagging_views = true},
    {.name = "migrate",
     .what = "release, take back, late links",
     .migrate = 1,
     .ack = 1,
     .kill = 1,
     .crash = 1},
    {.name = "migrate-again",
     .what = "release, take back, late links",
     .migrate = 2,
     .kill = 1},
    {.name = "stop",
     .what = "clean stop of the VM",
     .stop = 1,
     .agent = 1,
     .kill = 1,
     .ack = 1},
    {.name = "agent", .what = "clean stops of agents", .agent = 1, .kill = 1, .crash = 1},
    {.name = "twin",
     .what = "lockstep on a shared disk",
     .protect = 1,
     .unprotect = 1,
     .crash = 1,
     .kill = 1},
    {.name = "twin-storage",
     .what = "the same, and the storage can refuse writers",
     .protect = 1,
     .kill = 1,
     .crash = 1,
     .storage_fence = true},
    {.name = "twin-mirror",
     .what = "lockstep on mirrored disks",
     .protect = 1,
     .unprotect = 1,
     .crash = 1,
     .kill = 1,
     .mirrored = true},
    {.name = "mirror-again",
     .what = "mirrors, protected twice",
     .protect = 2,
     .mirrored = true},
    {.name = "mirror-stop",
     .what = "clean stop of a protected VM, mirrors",
     .protect = 1,
     .unprotect = 1,
     .stop = 1,
     .kill = 1,
     .crash = 1,
     .mirrored = true},
    {.name = "watchdog",
     .what = "time as the proof",
     .cut = 2,
     .policy = 1,
     .watchdog = true},
    {.name = "deep-restart",
     .what = "two power losses, two dead processes, a freeze",
     .crash = 2,
     .kill = 2,
     .freeze = 1,
     .ack = 1,
     .deep = true},
    {.name = "deep-partition",
     .what = "two cuts, a power loss, a dead process",
     .cut = 2,
     .crash = 1,
     .kill = 1,
     .lagging_views = true,
     .deep = true},
    {.name = "deep-migrate",
     .what = "two migrations under faults",
     .migrate = 2,
     .kill = 1,
     .crash = 1,
     .deep = true},
    {.name = "deep-stop",
     .what = "clean stops under faults",
     .stop = 1,
     .agent = 1,
     .kill = 1,
     .crash = 1,
     .ack = 1,
     .deep = true},
    {.name = "deep-twin",
     .what = "protected twice",
     .protect = 2,
     .crash = 1,
     .kill = 1,
     .deep = true},
    {.name = "deep-twin-freeze",
     .what = "lockstep and freezing",
     .protect = 1,
     .unprotect = 1,
     .crash = 1,
     .kill = 1,
     .freeze = 1,
     .ack = 1,
     .deep = true},
    {.name = "deep-twin-migrate",
     .what = "lockstep and migration",
     .protect = 1,
     .migrate = 1,
     .kill = 1,
     .crash = 1,
     .deep = true},
    {.name = "deep-mirror",
     .what = "mirrors, protected twice",
     .protect = 2,
     .unprotect = 1,
     .crash = 2,
     .kill = 1,
     .mirrored = true,
     .deep = true},
    {.name = "deep-watchdog",
     .what = "time as the proof, and power losses",
     .cut = 2,
     .policy = 1,
     .crash = 1,
     .watchdog = true,
     .deep = true},
};

#define CLAUSE_BIT(c) (UINT64_C(1) << (c))

/* A clause taken out (with another, which guards the same thing), and the scenario that
 * must notice it. */
struct mutant {
    unsigned clause, with;
    const char *scenario;
    const char *redundant; /* not NULL: it must survive, for this reason */
};

#define ALONE MODEL_CLAUSE_COUNT
#define LOCKS "a second clause guards the same thing (see the pair)"

static const struct mutant MUTANTS[] = {
    {R1_CONTENT_DECIDES, ALONE, "migrate", NULL},
    {R2_BASIS, ALONE, "restart", NULL},
    {R2_RELEASE_NAMES, ALONE, "migrate", NULL},
    {R2_HALT_THAT_EPOCH, ALONE, "halt", NULL},
    {R2_EXCLUDE, ALONE, "restart", NULL},
    {R2_SETTLE, ALONE, "restart", NULL},
    {R2_LIST_UNPROVEN, ALONE, "twin", NULL},
    {R2_INHERIT_PROVEN, ALONE, "restart", NULL},
    {R2_INHERIT, ALONE, "twin", NULL},
    {R3_THAT_INCARNATION, ALONE, "restart", NULL},
    {R3_CLEAN_STOP_LISTED, ALONE, "agent", NULL},
    {R3_RETURN_NEW_BOOT, ALONE, "agent", NULL},
    {R3_WDOG_PUBLISHED, ALONE, "watchdog", NULL},
    {R3_WDOG_WITHDRAWN, ALONE, "watchdog", NULL},
    {R3_WDOG_QUORUM, ALONE, "watchdog", NULL},
    {R3_WDOG_ELAPSED, ALONE, "watchdog", NULL},
    {R4_RELEASED_TO_ME, ALONE, "migrate", NULL},
    {R4_FROZEN_FIRST, ALONE, "stop", NULL},
    {R4_DRAINED_FIRST, ALONE, "migrate", NULL},
    {R4_MEMORY_FIRST, ALONE, "migrate", NULL},
    {R4_SUBMITTED_IS_GONE, ALONE, "migrate", NULL},
    {R5_TWIN_NAMED, ALONE, "twin", NULL},
    {R5_GO_LIVE_NAMES_NONE, ALONE, "twin", LOCKS},
    {R1_DISPLACED_STAYS, ALONE, "twin", LOCKS},
    {R5_GO_LIVE_NAMES_NONE, R1_DISPLACED_STAYS, "twin", NULL},
    {R5_TWIN_SYNCED, ALONE, "twin", NULL},
    {R5_COMMIT_ON_FIRST, ALONE, "twin", NULL},
    {R5_OLDER_DRAINED, ALONE, "twin", NULL},
    {R5_MIRROR_OPEN, ALONE, "mirror-again", NULL},
    {R5_MIRROR_IN_SYNC, ALONE, "twin-mirror", NULL},
    {R5_MIRROR_DROPPED, ALONE, "twin-mirror", NULL},
    {R5_MIRROR_IN_SYNC, ALONE, "mirror-stop", NULL},
    {R5_MIRROR_DROPPED, ALONE, "mirror-stop", NULL},
    {R4_DRAINED_FIRST, ALONE, "mirror-stop", NULL},
    {R6_QUORUM, ALONE, "partition", NULL},
    {R8_ACK_IS_FINAL, ALONE, "halt", NULL},
    {M_R1_CLAIM_FIRST, ALONE, "start", NULL},
    {M_R1_NEVER_PRUNED, ALONE, "start", NULL},
    {M_R1_LINK_ATOMIC, ALONE, "start", NULL},
    {M_R2_ACK_DRAINED, ALONE, "restart", NULL},
    {M_R3_TIMEOUT_UNKNOWN, ALONE, "partition", NULL},
    {M_R5_OUTPUT_WAITS, ALONE, "twin", NULL},
    {M_R5_COMMIT_OFF_LATE, ALONE, "twin", NULL},
    {M_R5_UNKNOWN_COMMIT, ALONE, "twin", NULL},
    {M_R5_NO_ACK_SUBMITTED, ALONE, "twin", NULL},
    {M_R5_HOLD_WRITES, ALONE, "twin", NULL},
};

struct tally {
    unsigned test, failed;
    double seconds;
    uint64_t states, transitions;
    struct model_stats stats; /* of the scenarios as they are, not of the mutants */
};

static void verdict(struct tally *t, bool ok)
{
    t->failed += !ok;
    printf("%s %u - ", ok ? "ok" : "not ok", ++t->test);
}

static void add_stats(struct model_stats *sum, const struct model_stats *add)
{
    for (unsigned i = 0; i < INV_COUNT; i++) {
        sum->inv_evaluated[i] += add->inv_evaluated[i];
    }
    for (unsigned a = 0; a < ACT_COUNT; a++) {
        sum->act_taken[a] += add->act_taken[a];
    }
    sum->no_slot += add->no_slot;
    sum->no_life += add->no_life;
}

static void run_scenario(const struct scenario *sc, uint32_t states_max, struct tally *t)
{
    struct model_stats stats = {0};
    struct explore_result r;

    explore(sc, true, states_max, true, &stats, &r);
    verdict(t, !r.broken && !r.out_of_room);
    printf("%s: %s: %llu states, %llu transitions, depth %u, %.1f s, no slot %llu, no "
           "life %llu%s%s\n",
           sc->name, sc->what, (unsigned long long)r.states,
           (unsigned long long)r.transitions, r.depth, r.seconds,
           (unsigned long long)stats.no_slot, (unsigned long long)stats.no_life,
           r.out_of_room ? " NOT FINISHED: out of room" : "",
           r.broken ? " VIOLATED: " : "");
    if (r.broken) {
        printf("# violated: %s\n", model_invariant_str(r.inv));
    }
    fflush(stdout);
    add_stats(&t->stats, &stats);
    t->states += r.states;
    t->transitions += r.transitions;
    t->seconds += r.seconds;
}

static const struct scenario *scenario_named(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(SCENARIOS); i++) {
        if (strcmp(SCENARIOS[i].name, name) == 0) {
            return &SCENARIOS[i];
        }
    }
    return NULL;
}

static void run_mutant(const struct mutant *m, uint32_t states_max, bool trace,
                       struct tally *t)
{
    struct model_stats stats = {0};
    struct explore_result r;

    claim_clauses_off = CLAUSE_BIT(m->clause);
    if (m->with != ALONE) {
        claim_clauses_off |= CLAUSE_BIT(m->with);
    }
    explore(scenario_named(m->scenario), true, states_max, trace, &stats, &r);
    claim_clauses_off = 0;
    verdict(t, m->redundant ? !r.broken && !r.out_of_room : r.broken);
    printf("without %s%s%s: %s in %s after %llu states (%.1f s): %s\n",
           model_clause_str(m->clause), m->with != ALONE ? " and " : "",
           m->with != ALONE ? model_clause_str(m->with) : "",
           r.broken ? "breaks" : "SURVIVES", m->scenario, (unsigned long long)r.states,
           r.seconds,
           r.broken       ? model_invariant_str(r.inv)
           : m->redundant ? m->redundant
                          : "no clause may be idle");
    fflush(stdout);
    t->seconds += r.seconds;
}

/* No clause without a mutant. */
static void check_mutants(struct tally *t)
{
    bool ok = true;

    for (unsigned c = 0; c < MODEL_CLAUSE_COUNT; c++) {
        bool broken_by = false;

        for (size_t i = 0; i < ARRAY_SIZE(MUTANTS); i++) {
            broken_by |=
                !MUTANTS[i].redundant && (MUTANTS[i].clause == c || MUTANTS[i].with == c);
        }
        if (!broken_by) {
            printf("# no mutant takes out %s\n", model_clause_str(c));
            ok = false;
        }
    }
    verdict(t, ok);
    printf("each of the %u clauses is taken out by a mutant that must break\n",
           (unsigned)MODEL_CLAUSE_COUNT);
}

static void check_coverage(struct tally *t)
{
    bool ok = true;

    for (unsigned i = 0; i < INV_COUNT; i++) {
        printf("# evaluated %llu times: %s\n",
               (unsigned long long)t->stats.inv_evaluated[i],
               model_invariant_str((enum invariant)i));
        ok &= t->stats.inv_evaluated[i] > 0;
    }
    for (unsigned a = 1; a < ACT_COUNT; a++) {
        if (t->stats.act_taken[a] == 0 && a != ACT_FENCE_TIMEOUT) {
            printf("# never taken: %s\n", model_action_str((enum action)a));
            ok = false;
        }
    }
    verdict(t, ok);
    printf("every invariant was evaluated and every action taken\n");
}

int main(int argc, char **argv)
{
    struct tally t = {0};
    bool deep = false, trace = false;
    const char *only = NULL;

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--deep") == 0) {
            deep = true;
        } else if (strcmp(argv[i], "--trace") == 0) {
            trace = true;
        } else {
            only = argv[i];
        }
    }

    const uint32_t states_max = deep ? STATES_MAX_DEEP : STATES_MAX;

    for (size_t i = 0; i < ARRAY_SIZE(SCENARIOS); i++) {
        if ((!SCENARIOS[i].deep || deep) &&
            (!only || strcmp(only, SCENARIOS[i].name) == 0)) {
            run_scenario(&SCENARIOS[i], states_max, &t);
        }
    }
    for (size_t i = 0; i < ARRAY_SIZE(MUTANTS); i++) {
        if (!only || strcmp(only, model_clause_str(MUTANTS[i].clause)) == 0) {
            run_mutant(&MUTANTS[i], states_max, trace, &t);
        }
    }
    if (!only) {
        check_mutants(&t);
        check_coverage(&t);
    }
    printf(
        "# %zu bytes per state; scenarios: %llu states, %llu transitions; all: %.1f s\n",
        sizeof(struct state), (unsigned long long)t.states,
        (unsigned long long)t.transitions, t.seconds);
    if (t.test == 0) {
        printf("Bail out! no such scenario or clause: %s\n", only);
    }
    printf("1..%u\n", t.test);
    return t.failed == 0 && t.test > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
