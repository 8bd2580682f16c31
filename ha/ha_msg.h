/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What agents say to each other through CPG: one frame (base/frame) per message, at most
 * CPG_MSG_MAX bytes. Every message carries the ring it was sent in and the position of
 * the state it was decided on (R0). Pure.
 */
#pragma once

#include "base/frame.h"
#include "ha/ha_state.h"

#define HA_MSG_MAGIC UINT32_C(0x50434d47) /* "GMCP" */

enum ha_msg_type {
    HA_MSG_INVALID = 0,
    HA_MSG_SUMMARY =
        1, /* each member after a new view: who I am, what state I have, what runs here */
    HA_MSG_SYNC = 2, /* lowest member: a term begins; coordinator, participants, source of
                        the state */
    HA_MSG_SNAP_ITEM = 3, /* from the source: one item of the whole state */
    HA_MSG_SNAP_END = 4,
    HA_MSG_UPDATE = 5,    /* from the coordinator: one item */
    HA_MSG_PERSISTED = 6, /* version is on this node's disk */
    HA_MSG_VM_REPORT = 7, /* from an owner */
    HA_MSG_FENCE_REPORT = 8,
    HA_MSG_OP = 9, /* an operator's change, to the coordinator */
    HA_MSG_OP_RESULT = 10,
    HA_MSG_RENEW = 11, /* isolation lease: request */
    HA_MSG_RENEW_ECHO = 12,
    /* Beside each summary: what processor this node has. Agents that do not know it drop
     * it, and place no VM with a named CPU model. */
    HA_MSG_NODE_CPU = 13,
    HA_MSG_PROGRESS = 14,  /* of a migration, from its source: for people only */
    HA_MSG_NODE_KVM = 15,  /* as NODE_CPU: what its KVM can (base/kvm_can) */
    HA_MSG_TWIN_LOOK = 16, /* vm protect --dry-run: what only its two nodes can see.
                              Agents that do not know it drop it, and do not look */
};

/* On every message. */
struct ha_msg_from {
    struct ha_ring ring;
    uint32_t nodeid;
    struct incarnation incarnation;
    uint64_t term, version; /* of the sender's state */
};

/* A VM as the agent of its node sees it. */
enum ha_local_state {
    HA_LOCAL_STARTING = 1,
    HA_LOCAL_RUNNING,
    HA_LOCAL_FROZEN,
    HA_LOCAL_STOPPING
};

struct ha_local_vm {
    struct uuid vm, instance, attempt;
    uint64_t epoch;
    enum ha_local_state state;
};

#define HA_SUMMARY_VMS_MAX 1024

struct ha_summary {
    char name[NODE_NAME_MAX + 1];
    uint32_t proto_version;
    uint64_t features;
    struct uuid generation; /* none: blank, whether new or amnesiac (lost or torn): it
                               receives state before it counts */
    bool alone; /* an operator said that this state may begin without a majority of others
                   (set up, recover) */
    uint32_t coordinator; /* of its state's term */
    uint64_t memory_bytes;
    uint32_t vm_count;
    const uint8_t *vms; /* encoded; ha_summary_vm reads them */
};

struct ha_participant {
    uint32_t nodeid;
    struct incarnation incarnation;
};

struct ha_sync {
    uint64_t term;
    uint32_t coordinator, source;
    bool transfer;
    unsigned participant_count;
    struct ha_participant participant[NODES_MAX];
};

struct ha_item_msg { /* SNAP_ITEM, UPDATE */
    enum ha_item_kind kind;
    uint64_t version;
    struct uuid op; /* the operator's change it belongs to, or none */
    bool want_persisted;
    char event[REASON_LEN_MAX + 1]; /* one line for the event log, or empty */
    const uint8_t *body;
    uint32_t body_len;
};

enum ha_vm_outcome {
    HA_OUTCOME_INVALID = 0,
    HA_OUTCOME_RUNNING,      /* entered the guest under `epoch` */
    HA_OUTCOME_START_FAILED, /* nothing of it runs: claim refused or VMM failed; see text
                              */
    HA_OUTCOME_ENDED,        /* the guest or VMM ended by itself; nothing of it runs */
    HA_OUTCOME_STOPPED,      /* stopped as told; claim released */
    HA_OUTCOME_FROZEN,
    HA_OUTCOME_SUSPENDED,   /* nothing of it runs; released with the digest of suspend.gms
                             */
    HA_OUTCOME_NOT_RESUMED, /* refused: nothing of it ran, suspend.gms is as it was */
    HA_OUTCOME_SNAPSHOT,    /* taken; FROZEN */
    HA_OUTCOME_REVERTED,    /* to a snapshot without a running state; released */
    /* Of a migration. Its owner says RUNNING or FROZEN when it goes on there. */
    HA_OUTCOME_MOVE_OFFER,  /* either end: ready to begin; see `offer` */
    HA_OUTCOME_MOVE_FAILED, /* destination: nothing of it is or will be there */
    HA_OUTCOME_MOVED, /* owner: nothing of it runs there, and its claim was released to
                       * the destination, which may have the next one */
    /* Of a protection: `attempt` is the twin's id in the record. */
    HA_OUTCOME_TWIN_OFFER,   /* either end: ready to begin; see `offer` */
    HA_OUTCOME_TWIN_COPIED,  /* was used for disks that were copied through files */
    HA_OUTCOME_TWIN_FOLLOWS, /* twin: it waits for the log */
    HA_OUTCOME_TWIN_ON,      /* owner: the claim of `epoch` names the twin */
    HA_OUTCOME_TWIN_OFF, /* owner: it goes on without a twin. Twin: nothing of it is there
                            any more */
    HA_OUTCOME_EXCLUDED, /* owner: `instance` holds no writes any more (struct ha_held).
                            The old host's node: nothing of that is left there */
    HA_OUTCOME_HOLDS,    /* owner: `instance` holds writes, until `held` has ended */
    HA_OUTCOME_COUNT,
};

struct ha_vm_report {
    struct uuid vm, attempt, instance;
    enum ha_vm_outcome outcome;
    uint64_t epoch;
    bool guest_shutdown;  /* ENDED: by the guest's own wish */
    bool filling;         /* RUNNING: a part of its memory is still at the source */
    uint64_t diverged_ms; /* TWIN_OFF: its twin went another way too often, and that is
                             why; when (UTC since 1970). 0: not why */
    struct ha_move_end offer;               /* MOVE_OFFER, TWIN_OFFER */
    struct ha_twin_disk disk[VM_DISKS_MAX]; /* TWIN_OFFER of an owner */
    struct claim_who held;                  /* HOLDS: whose end is waited for */
    /* START_FAILED, ENDED, STOPPED: nodes whose copies of its mirrored disks count, as
     * its claims say; all 0: not known. */
    uint32_t mirror[CLAIM_MIRRORS_MAX];
    char text[REASON_LEN_MAX + 1];
};

struct ha_fence_report {
    struct uuid uid;
    uint32_t target;
    struct incarnation incarnation;
    enum ha_fence_state result; /* OK, FAILED, NONE (cancelled: settled) */
    bool suspicion; /* a status reading on suspicion, not a request's result */
    char detail[REASON_LEN_MAX + 1];
};

/* One of each step: the coordinator asks, the VM's own node says how large its disks
 * are, which is the word for the twin's node. */
enum ha_twin_look_step {
    HA_TWIN_LOOK_ASK = 1,
    HA_TWIN_LOOK_SIZES,
    HA_TWIN_LOOK_FOUND,
    HA_TWIN_LOOK_COUNT
};

struct ha_twin_look {
    struct uuid op; /* the dry run's */
    struct uuid vm;
    uint32_t to; /* where the twin would be */
    enum ha_twin_look_step step;
    struct ha_twin_disk disk[VM_DISKS_MAX]; /* SIZES */
    char text[512]; /* SIZES, FOUND: what stands in its way there; "": nothing */
};

#define HA_OP_VERB_MAX 32

struct ha_op {
    struct uuid uid;
    char verb[HA_OP_VERB_MAX];
    char object[VM_NAME_MAX + 1];
    char actor[32];
    char reason[REASON_LEN_MAX + 1];
    uint32_t flags;   /* HA_OP_* */
    const char *body; /* YAML, not NUL-terminated */
    uint32_t body_len;
};

#define HA_OP_DRY_RUN 1u
#define HA_OP_KILL    2u
#define HA_OP_FORCE   8u  /* vm start, vm migrate: against anti_affinity */
#define HA_OP_DISCARD 4u  /* vm start: give up a suspended state */
#define HA_OP_ACCEPT  16u /* vm start: mirrored disks from this node's copy as it is */

struct ha_op_result {
    struct uuid uid;
    uint32_t exit_code;
    uint64_t
        version; /* answered when this version is persisted by a majority; 0: at once */
    char text[512];
};

struct ha_msg {
    enum ha_msg_type type;
    struct ha_msg_from from;
    union {
        struct ha_summary summary;
        struct ha_sync sync;
        struct ha_item_msg item;
        uint64_t
            number; /* SNAP_END: items; PERSISTED: version; RENEW, RENEW_ECHO: sequence */
        struct ha_vm_report vm_report;
        struct ha_fence_report fence_report;
        struct ha_op op;
        struct ha_op_result op_result;
        struct ha_twin_look twin_look;
        struct {
            const char *text; /* of base/cpu_model, base/kvm_can; not NUL-terminated */
            uint32_t len;
        } cpu; /* NODE_CPU, NODE_KVM */
        struct {
            struct uuid vm;
            struct ha_move_progress move;
        } progress;
    };
    uint32_t echo_to; /* RENEW_ECHO */
};

/* Length of the frame, or 0 when it does not fit. vms: `summary.vm_count` entries, for
 * SUMMARY only. */
size_t ha_msg_encode(const struct ha_msg *msg, const struct ha_local_vm *vms,
                     uint64_t seq, void *buf, size_t cap);
/* The one validator; views in *ret_msg point into buf. The text says what is wrong, NULL:
 * fine. */
const char *ha_msg_decode(const void *buf, size_t len, struct ha_msg *ret_msg);
/* Entry i < vm_count of a decoded summary. */
struct ha_local_vm ha_summary_vm(const struct ha_summary *summary, uint32_t i);
