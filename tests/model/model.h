/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The explicit-state model of the ownership rules (README.md): one VM, three nodes. A
 * state is a flat struct; every decision in a transition is taken by the functions of
 * fencing/claim.h and fencing/proof.h, built with CLAIM_MUTANTS.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fencing/claim.h"
#include "fencing/clause.h"

#define NODES      3
#define INSTS      5
#define INCS       4 /* lives of one node */
#define WDOG_TICKS 2

/* Clauses that live outside fencing/ (the VMM, the FT engine, the store, the fence
 * device), taken out by the same mask. */
enum model_clause {
    M_R1_CLAIM_FIRST =
        CLAIM_CLAUSE_COUNT, /* no entry before the claim is read back as won */
    M_R1_NEVER_PRUNED,      /* no claim is removed while the VM exists */
    M_R1_LINK_ATOMIC,       /* link(2) does not replace what is there */
    M_R2_ACK_DRAINED,       /* a halt is acknowledged only when its I/O is drained */
    M_R3_TIMEOUT_UNKNOWN,   /* a fence timeout is not an "off" */
    M_R5_OUTPUT_WAITS,    /* commit on: no output before the twin has what leads to it */
    M_R5_COMMIT_OFF_LATE, /* commit goes off only after the claim without a twin is won */
    M_R5_UNKNOWN_COMMIT,  /* while the outcome of a protect is unknown commit stays on */
    M_R5_NO_ACK_SUBMITTED, /* a twin that submitted a claim never acknowledges again */
    M_R5_HOLD_WRITES, /* after go-live on a shared disk, writes are held until the old
                         ones are excluded */
    MODEL_CLAUSE_COUNT,
};
_Static_assert(MODEL_CLAUSE_COUNT <= 64, "one bit per clause");
const char *model_clause_str(unsigned clause);
#define MODEL_CLAUSE(name) (!(claim_clauses_off & (UINT64_C(1) << (name))))

enum inst_state {
    FREE = 0,
    COLD,     /* a fresh process, for a cold boot */
    INCOMING, /* destination of a migration */
    TWIN,
    RUN,
    FROZEN,
    GONE,
};

enum link_state {
    LINK_NONE = 0,
    LINK_SENT,
    LINK_DONE
}; /* DONE: the file is there, not read back yet */
enum out_state {
    OUT_NONE = 0,
    OUT_HELD,
    OUT_KNOWN,
    OUT_LATE
}; /* KNOWN: the twin has it */
enum mem_state { MEM_NONE = 0, MEM_STALE, MEM_COMPLETE };

#define REL_NONE   0
#define REL_ANYONE 1
#define REL_TO(k)  ((uint8_t)(2 + (k)))

struct inst {
    uint8_t st, node, inc;
    uint8_t link, kind, target;    /* the claim under way */
    uint8_t c_twin, c_unex, c_mir; /* its contents, and after it is won those of the own
                                      claim; twin is index + 1 */
    uint8_t won;                   /* the epoch read back as ours */
    uint8_t dirh; /* the last epoch the directory gives us, whether we know it or not */
    uint8_t rel, relto, rel_sent; /* release: epoch submitted, to whom, still under way */
    uint8_t halt_frozen, halt_gone; /* epoch acknowledged */
    uint8_t write;                  /* a write is under way in kernel, network or array */
    uint8_t disk;                   /* may touch the disk */
    uint8_t commit;                 /* output commit is on */
    uint8_t twin;                   /* index + 1 of the instance that replays */
    uint8_t synced, ahead; /* of a twin: fully synced; of a primary: the outside saw what
                              its twin does not know */
    uint8_t out, mem, dest, stopping;
};

struct state {
    struct inst in[INSTS];
    uint8_t up, agent, quorate; /* masks of nodes; quorate is what each believes */
    uint8_t cut;                /* node + 1 that is isolated */
    uint8_t inc[NODES],
        rejoined[NODES]; /* rejoined: bit c: life c + 1 began without a boot */
    uint8_t proven[NODES], settled[NODES], clean[NODES]; /* bit per life */
    uint8_t clean_inst[NODES],
        clean_epoch[NODES]; /* what the latest clean-stop record lists */
    uint8_t storage_fenced; /* mask of instances */
    uint8_t top_epoch, top_owner, top_twin, top_unex, top_mir,
        top_rel; /* owner, twin: index + 1 */
    /* What the outside has seen */
    uint8_t live;       /* index + 1 of the instance that entered last */
    uint8_t live_epoch; /* the epoch under which it entered */
    uint8_t disk_owner; /* the newest owner that touched the shared disk: index + 1 */
    uint8_t mirrors;    /* nodes whose copy has every completed FLUSH */
    /* What may still go wrong or be asked for */
    uint8_t n_crash, n_kill, n_cut, n_freeze, n_ack, n_migrate, n_protect, n_unprotect,
        n_stop, n_agent, n_policy;
    /* Watchdog */
    uint8_t wd[NODES], feeds_always, withdrawn, heard[NODES][NODES], seen[NODES];
};

struct scenario {
    const char *name, *what;
    uint8_t crash, kill, cut, freeze, ack, migrate, protect, unprotect, stop, agent,
        policy;
    bool mirrored, storage_fence, watchdog, lagging_views;
    bool empty; /* begins without a claim: the first start, raced by every node */
    bool deep;  /* only with --deep */
};

/* Actions, for traces and coverage. */
enum action {
    ACT_NONE = 0,
    ACT_CRASH,
    ACT_REBOOT,
    ACT_CUT,
    ACT_HEAL,
    ACT_VIEW,
    ACT_PROVE,
    ACT_FENCE_TIMEOUT,
    ACT_SETTLE,
    ACT_TICK,
    ACT_WDOG_PROOF,
    ACT_POLICY,
    ACT_AGENT_STOP,
    ACT_REJOIN,
    ACT_STORAGE_FENCE,
    ACT_SUBMIT,
    ACT_LINK,
    ACT_READ_BACK,
    ACT_ENTER,
    ACT_LET_GO,
    ACT_DISCARD,
    ACT_FREEZE,
    ACT_ACK_FROZEN,
    ACT_ACK_GONE,
    ACT_KILL,
    ACT_MIGRATE,
    ACT_PAUSE_SOURCE,
    ACT_FINAL_COPY,
    ACT_RELEASE,
    ACT_RELEASE_LANDS,
    ACT_STOP,
    ACT_PROTECT_BEGIN,
    ACT_SYNC,
    ACT_COMMIT_ON,
    ACT_TWIN_DROPPED,
    ACT_RECEIVE,
    ACT_PRODUCE,
    ACT_OUTPUT,
    ACT_LAND,
    ACT_COUNT,
};
const char *model_action_str(enum action act);

/* Invariants; 0 evaluations of one that the scenario can reach fails the test. */
enum invariant {
    INV_ONE_ABLE = 0,    /* never two instances that can execute and externalise */
    INV_NO_STALE_OUTPUT, /* a superseded instance shows nothing that its successor does
                            not know */
    INV_NO_OLD_WRITE,    /* no old write lands after a newer owner's first access */
    INV_GO_LIVE_KNOWS,   /* a twin goes live knowing all that was seen */
    INV_MEMORY,          /* a migrated guest goes on with all of its memory */
    INV_FLUSH_KEPT,      /* a cold boot finds every completed FLUSH */
    INV_START_QUORATE,   /* a recovery is decided with quorum */
    INV_KEPT, /* while nothing failed, the guest is not thrown away for a cold boot */
    INV_WAY_BACK,
    INV_COUNT,
};
const char *model_invariant_str(enum invariant inv);

static inline bool has(unsigned mask, unsigned bit)
{
    return mask >> bit & 1;
}

static inline bool alive(const struct inst *in)
{
    return in->st != FREE && in->st != GONE;
}

#define ANYBODY_GONE 255 /* live, disk_owner: an instance whose slot is free again */

struct step {
    uint8_t act, a, b;
    bool fault;
    bool broken;
    uint8_t inv; /* with broken */
};

struct model_stats {
    uint64_t inv_evaluated[INV_COUNT];
    uint64_t act_taken[ACT_COUNT];
    uint64_t no_slot, no_life;
};

typedef void (*model_emit_fn)(void *ctx, const struct state *next,
                              const struct step *step);

/* After each transition: frees what nothing refers to any more. */
void model_collect(struct state *s);
/* The representative of all states that differ only in names (of nodes, slots, lives,
 * epochs) and in what no rule reads again. */
void model_canonical(struct state *s);
void model_initial(const struct scenario *sc, struct state *ret_state);
/* Calls emit for every transition out of s. */
/* Successors are collected, not canonical. */
void model_expand(const struct scenario *sc, const struct state *s,
                  struct model_stats *stats, model_emit_fn emit, void *ctx);
/* The VM runs, with exactly one owner, which may use its disk. */
bool model_is_good(const struct state *s);
void model_print_step(const struct state *before, const struct step *step,
                      const struct state *after);

/* The bridge to fencing/ (model_rules.c). */
bool rules_take(const struct scenario *sc, const struct state *s, unsigned k,
                enum claim_kind kind, struct inst *ret_inst);
enum claim_outcome rules_outcome(const struct state *s, unsigned k);
bool rules_may_enter(const struct state *s, unsigned k);
bool rules_may_touch_disk(const struct state *s, unsigned k);
bool rules_may_open_mirror(const struct state *s, unsigned k, unsigned twin);
bool rules_may_release(const struct state *s, unsigned k, bool to_instance,
                       bool memory_complete);
uint8_t rules_lives_proven_by_return(const struct state *s, unsigned node,
                                     unsigned new_inc);
bool rules_wdog_proof(const struct state *s, unsigned by, unsigned target);

/* explore.c */
struct explore_result {
    uint64_t states, transitions, edges;
    uint32_t depth;
    bool broken, out_of_room;
    enum invariant inv;
    double seconds;
};
void explore(const struct scenario *sc, bool check_way_back, uint32_t states_max,
             bool print_trace, struct model_stats *stats,
             struct explore_result *ret_result);
