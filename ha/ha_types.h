/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the agents of a cluster share: VM, node, fence and cluster records, and the view.
 * Plain values; the replicated state (ha_state) is a table of them. Included by
 * everything in ha/.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/limits.h"
#include "base/units.h"
#include "cluster-conf/conf_model.h"
#include "fencing/claim.h"
#include "fencing/proof.h"

#define HA_GROUP_NAME "gemel"

/* Corosync's name of one membership. */
struct ha_ring {
    uint32_t nodeid;
    uint64_t seq;
};

enum ha_desired {
    HA_DESIRED_STOPPED = 1,
    HA_DESIRED_RUNNING,
    HA_DESIRED_DELETED,
    HA_DESIRED_SUSPENDED,
};

/* The states of a VM record; ha/README.md has the table state x who moves it x timeout x
 * manual exit. */
#define HA_VM_STATES(X)                                                                  \
    X(STOPPED, "stopped")   /* nobody runs it; the highest claim is released */          \
    X(STARTING, "starting") /* owner was told: take the next claim and start */          \
    X(RUNNING, "running")   /* owner reported it running under `epoch` */                \
    X(STOPPING, "stopping") /* owner was told to stop it */                              \
    X(UNKNOWN, "unknown")   /* owner left the view: nothing starts before a proof */     \
    X(FAILED, "failed")     /* ended or did not start; tried again after a pause */      \
    X(FROZEN, "frozen")     /* owner froze it (isolation); thawed by the next claim */   \
    X(HELD, "held")         /* needs an operator: `gemel vm retry` */                    \
    X(SUSPENDING, "suspending")     /* owner was told: freeze, save, release */          \
    X(SUSPENDED, "suspended")       /* nobody runs it; suspend.gms is what it goes on    \
                                       from */                                           \
    X(SNAPSHOTTING, "snapshotting") /* owner was told: freeze, save and copy; thawed by  \
                                       the next claim */                                 \
    X(REVERTING, "reverting")       /* owner was told: take the next claim, copy the     \
                                       snapshot back, release */                         \
    X(MIGRATING, "migrating")       /* it runs at its owner, until `move.to` has the     \
                                       next claim */

enum ha_vm_state {
    HA_VM_INVALID = 0,
#define X(name, text) HA_VM_##name,
    HA_VM_STATES(X)
#undef X
        HA_VM_STATE_COUNT,
};

/* What is to be done with a VM besides running or not. Numbers are stable. */
enum ha_task {
    HA_TASK_NONE = 0,
    HA_TASK_SNAPSHOT, /* take `snapshot` while it runs */
    HA_TASK_REVERT,   /* to `snapshot`, before it runs again */
    HA_TASK_DISCARD,  /* the next start gives up a suspended state */
    HA_TASK_COUNT,
};

#define HA_MOVE_KEY_LEN   32
#define HA_MOVE_TOKEN_LEN 16
#define HA_MOVE_ADDR_MAX  63

/* Where the destination of a migration listens, and what both ends must show (design 8).
 * Of the owner: the key alone. */
struct ha_move_end {
    uint8_t key[HA_MOVE_KEY_LEN]; /* SHA-256 of the ephemeral public key; all zero: not
                                     offered yet */
    uint8_t token[HA_MOVE_TOKEN_LEN];
    char address[HA_MOVE_ADDR_MAX + 1];
    uint16_t port;
};

/* How far a migration is, as its source says now and then. */
struct ha_move_progress {
    uint32_t percent, round, throttle; /* throttle: permille */
    uint64_t bps, dirty_bps, sent;     /* bytes */
    uint64_t eta_ms;          /* UINT64_MAX: it does not converge as things are */
    uint64_t missing, faults; /* post-copy: bytes still at the source (0: it is none), and
                                 how often the guest waited for some */
};

/* A live migration. `to` 0: none; it outlives its state only until the destination has
 * said what became of it. */
struct ha_move {
    uint32_t to; /* the owner itself: a live upgrade of its gemel-vmm */
    struct incarnation to_incarnation;
    struct uuid instance; /* the destination's gemel-vmm */
    struct ha_move_end source, dest;
    bool called_off;      /* by an operator, or by the destination: `why` */
    bool postcopy;        /* rather than give up */
    bool verify;          /* compare all of its memory before it runs there */
    bool no_compress;     /* pages go as they are, also over a slow link */
    uint32_t timeout_ms;  /* of all of it; 0: none */
    uint32_t downtime_ms; /* wanted at most; 0: the default */
    uint32_t slowdown;    /* percent that its vCPUs may be held back at most */
    uint64_t rate_bps;    /* bytes per second; 0: no limit */
};

/* How far the protection of a VM is (ha_twin.h). Numbers are stable. */
enum ha_twin_step {
    HA_TWIN_SYNC = 0, /* its memory is copied; the primary still runs by itself */
    HA_TWIN_COPIED,   /* was used for disks that were copied through files */
    HA_TWIN_FOLLOWS,  /* the twin waits for the primary's log */
    HA_TWIN_ON,       /* a claim names the twin */
    HA_TWIN_STEP_COUNT,
};

/* A mirrored disk, as its primary's node has it. */
struct ha_twin_disk {
    uint64_t bytes, used; /* its size (0: it is not mirrored), and what of it has data */
};

/* A twin in another gemel-vmm. `to` 0: none. */
/* `ft:` of the definition that a twin was made with, if it is another one by now. */
struct ha_twin_ft {
    bool kept;
    uint8_t mode, commit, domains; /* enums of conf_vm */
    uint32_t suspect_ms;
    uint8_t on_count;
    char on[8][NODE_NAME_MAX + 1];
};

struct ha_twin {
    uint32_t to;
    struct incarnation to_incarnation;
    struct uuid id;       /* of this protection: reports about it carry it as attempt */
    struct uuid instance; /* the twin's gemel-vmm */
    struct ha_move_end source, dest;
    struct ha_twin_disk disk[VM_DISKS_MAX]; /* with `source` */
    enum ha_twin_step step;
    uint8_t commit;  /* enum conf_ft_commit */
    bool ending;     /* an operator's, or a drain's: the primary goes on without it */
    bool switchover; /* the twin is to take over, whatever works */
    uint64_t epoch;  /* ON: of the claim that names it */
    struct ha_twin_ft ft;
};

/* Sessions in lockstep that ended because the twin went another way too often. `count` 0:
 * none, and the rest is zero. */
struct ha_diverged {
    bool down;      /* since then in checkpoint mode, unless the definition asks for
                       lockstep; an operator's word or another definition ends that */
    uint32_t count; /* so far */
    uint32_t row;   /* in a row, not more than an hour apart */
    uint64_t at_ms; /* the newest: UTC since 1970, by the clock of its node */
    char why[REASON_LEN_MAX + 1];
};

/* Its twin went live, and what it writes to disks that both hosts reach is kept in its
 * memory until nothing of the old host's can reach them any more. `node` 0: nothing is.
 */
struct ha_held {
    uint32_t node; /* the old owner's */
    struct incarnation incarnation;
    struct uuid instance; /* that holds them: another one has nothing in its memory */
};

/* One per VM, replicated and persisted: what is wanted, what is believed, why. Safety
 * does not rest on it. */
struct ha_vm {
    struct uuid uuid;
    char name[VM_NAME_MAX + 1];
    enum ha_desired desired;
    enum ha_vm_state state;
    uint32_t owner; /* nodeid; 0: none */
    struct incarnation owner_incarnation;
    struct uuid instance; /* as the owner reported it */
    struct uuid attempt;  /* uid of the start, stop or thaw under way: results carry it, a
                             duplicate has no effect */
    uint64_t epoch;       /* highest reported */
    uint32_t failures;    /* in a row, for the backoff */
    uint32_t restarts;    /* in place within the window */
    uint32_t avoid;       /* nodeid where the last start failed; 0: none */
    bool kill;            /* stop at once, do not ask the guest */
    /* Its start was ordered with --node: what it is again if it does not start there,
     * STOPPED or SUSPENDED. INVALID: another node is tried. Only kept while STARTING,
     * STOPPING or UNKNOWN. */
    enum ha_vm_state back_to;
    /* With back_to: an operator takes the copy of its mirrored disks that is there,
     * whether it counts or not. */
    bool accept_copy;
    bool was_wanted; /* with back_to: it waited for a node, wanted running, before that */
    char reason[REASON_LEN_MAX + 1];
    enum ha_task task;
    char snapshot[SNAPSHOT_ID_MAX + 1]; /* that the task is about */
    struct ha_move move;
    struct ha_twin twin;
    struct ha_held held;
    bool twin_off;       /* an operator does not want one, whatever its definition says */
    uint32_t twin_tries; /* that came to nothing, in a row */
    uint32_t twin_avoid; /* node of the last one of these; 0: none */
    bool twin_at_once;   /* nothing was lost: the next one is not waited for */
    struct ha_diverged diverged;
    /* Nodes whose copies of its mirrored disks have every completed FLUSH; 0: unused. */
    uint32_t mirror[CLAIM_MIRRORS_MAX];
    uint32_t memory_from; /* node where a part of its memory still is (post-copy); 0: all
                             of it is where it runs */
    uint32_t home; /* node that it left for maintenance, and goes back to; 0: none */
    uint32_t move_avoid; /* where its last move for maintenance came to nothing: others
                            first; 0: none */
    /* How the last suspend, resume, snapshot, revert or migration ended; "": there was
     * none. */
    bool last_failed;
    char last[REASON_LEN_MAX + 1];
    /* The definition as YAML, NUL-terminated, owned by the state. */
    char *definition;
    uint32_t definition_len;
    /* The one that it was started with, as `definition`, if another one was applied
     * since; NULL: the same, or it does not run, or both do not fit one record. */
    char *runs;
    uint32_t runs_len;
    /* Not replicated: */
    struct conf_vm
        *conf; /* parsed definition, owned by the state; NULL if it did not parse here */
    struct conf_vm *runs_conf; /* of `runs` */
    uint64_t changed_ns;       /* local monotonic time of the last change of state */
    uint64_t twin_changed_ns;  /* of the last change of its twin, or of the want of one */
    struct uuid twin_was;      /* while it has no twin: the last one */
    uint32_t twin_was_on;      /* its node */
    uint64_t bare_since_ns;    /* since when it runs here and there without a twin */
    uint64_t version;          /* of the update that wrote it */
    uint64_t sent; /* coordinator: version of its last update; above the state's: it
                      is under way */
};

enum ha_fence_state {
    HA_FENCE_NONE = 0,
    HA_FENCE_PENDING, /* intent replicated; the executor works on it */
    HA_FENCE_OK,
    HA_FENCE_FAILED,     /* tried again after a pause */
    HA_FENCE_CANCELLING, /* the node came back; settled when the executor says so */
};

/* One per configured node. */
struct ha_node {
    uint32_t nodeid;
    char name[NODE_NAME_MAX + 1];
    struct incarnation incarnation; /* last one seen in a synced view */
    bool seen;                      /* ever */
    bool clean_stopped;             /* left by a clean stop: nothing of it runs */
    bool maintenance;               /* an operator's: its VMs leave, none comes */
    bool lost; /* was in the view and is not: its VMs wait for a proof */
    enum ha_fence_state fence;
    struct incarnation fence_incarnation;
    struct uuid fence_uid;
    uint32_t fence_executor;
    uint32_t fence_attempts;
    char fence_detail[REASON_LEN_MAX + 1];
    uint64_t memory_bytes; /* for VMs, as it said in its summary */
    /* Not replicated: */
    uint64_t changed_ns;
    uint64_t version;
    uint64_t sent; /* as in struct ha_vm */
};

/* The cluster definition and what must be remembered of the cluster as a whole. */
struct ha_cluster {
    struct uuid generation; /* made when the cluster was first set up: another one is
                               another cluster */
    bool stopped; /* `gemel cluster stop`: everything is wanted stopped, and a later start
                     fences nobody */
    char *definition;
    uint32_t definition_len;
    struct conf_cluster *conf; /* not replicated */
    uint64_t version;
};

/* A view (R0): CPG, quorum nodelist and quorum callback agree on one ring; members =
 * their intersection. */
struct ha_view {
    bool agreed;
    bool quorate;
    struct ha_ring ring;
    unsigned member_count;
    uint32_t member[NODES_MAX]; /* ascending */
    unsigned away_count;
    uint32_t away[NODES_MAX]; /* in the ring, but their agent is not in the group (R8) */
    unsigned votes_needed;    /* strict majority of expected votes (1 with two_node) */
};

const char *ha_vm_state_str(enum ha_vm_state state);
/* It goes on in a new gemel-vmm of the same node, or is about to: a move that leads
 * nowhere else. */
bool ha_vm_upgrading(const struct ha_vm *vm);
/* No process of it is anywhere, and no node is needed to know that. */
bool ha_vm_rests(const struct ha_vm *vm);
/* It has a twin, which may take the next claim without a proof (R5). */
bool ha_vm_protected(const struct ha_vm *vm);
/* The definition that its process was made of; NULL: none that can be read here. */
const struct conf_vm *ha_vm_runs_as(const struct ha_vm *vm);
/* Its writes are held: see struct ha_held. */
bool ha_vm_holds(const struct ha_vm *vm);
/* It runs, and has no twin that would go on. */
bool ha_vm_is_bare(const struct ha_vm *vm);

/* Begins the reason of a VM that a disk of it paused (`on_error: pause`): its owner thaws
 * it until that works. The owner's report says so, operators' reasons begin otherwise. */
#define HA_PAUSED "paused: "

/* Begins the words of a migration that one of its ends refused: nothing was tried. */
#define HA_REFUSED "refused: "

/* FROZEN, or STARTING (a thaw waits or is tried), for such a reason: it is neither hung
 * nor late. */
bool ha_vm_paused(const struct ha_vm *vm);
bool ha_view_has(const struct ha_view *view, uint32_t nodeid);
bool ha_view_away(const struct ha_view *view, uint32_t nodeid);
bool ha_ring_equal(struct ha_ring a, struct ha_ring b);
