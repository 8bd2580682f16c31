/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent of one node as a machine: events in, calls of ha_agent_ops out. The same core
 * runs in gemeld, in tests and in a simulator; it reads no clock (every event brings its
 * time) and makes no id (ops do). One thread owns it.
 *
 * Life of a view: ALONE (no agreed view) -> EXCHANGING (summaries) -> TRANSFER (the
 * source sends its state) -> SYNCED. Only in SYNCED, quorate, does the coordinator
 * decide, and only updates of this ring, this term and the next version apply (R0).
 */
#pragma once

#include "ha/ha_msg.h"
#include "ha/ha_policy.h"

enum ha_phase {
    HA_PHASE_ALONE = 0,
    HA_PHASE_EXCHANGING,
    HA_PHASE_TRANSFER,
    HA_PHASE_SYNCED
};

struct ha_agent_ops {
    /* To the CPG group, in this order; own delivery is the only proof that it was sent.
     */
    void (*mcast)(void *ctx, const void *frame, size_t len);
    /* Appends an applied item to the record log; ha_agent_persisted(version) follows when
     * it is durable. */
    void (*persist)(void *ctx, enum ha_item_kind kind, const void *body, size_t len,
                    uint64_t version);
    /* Writes the whole state anew (after a transfer); ha_agent_persisted(state.version)
     * follows. */
    void (*persist_all)(void *ctx);
    /* Local VMs. Each answers later through ha_agent_vm_report, once per attempt. */
    void (*vm_start)(void *ctx, const struct ha_vm *vm);
    void (*vm_stop)(void *ctx, const struct ha_vm *vm);
    /* SUSPENDING: save it, release, end. SNAPSHOTTING: freeze, save, copy. REVERTING:
     * claim, copy back, release. */
    void (*vm_save)(void *ctx, const struct ha_vm *vm);
    /* This node is an end of a migration of it, or was: the record has changed. */
    void (*vm_move)(void *ctx, const struct ha_vm *vm);
    /* The same of a protection: this node is a side of it, or was. */
    void (*vm_twin)(void *ctx, const struct ha_vm *vm);
    /* A step of a look at what a twin would meet, perhaps this node's turn. May be NULL.
     */
    void (*twin_look)(void *ctx, const struct ha_twin_look *look);
    /* Post-copy: `node`, where the rest of its memory was, has left and is proven dead.
     * May come more than once. */
    void (*vm_holder_dead)(void *ctx, struct uuid vm, const char *node);
    /* Ownership moved: end it without another instruction; nothing is reported. */
    void (*vm_discard)(void *ctx, struct uuid vm, const char *why);
    /* Switch a node off (the intent is persisted by a majority), or settle the request.
     * Answers through ha_agent_fence_report. */
    void (*fence_off)(void *ctx, const struct ha_node *node);
    void (*fence_cancel)(void *ctx, const struct ha_node *node);
    void (*fence_on)(void *ctx, const struct ha_node *node);
    /* A power reading of this node that said "off" before the view was made (R7: an off
     * reading is a proof already). It is asked for once, when the node has left; true
     * fills *ret_report. May be NULL. */
    bool (*early_off)(void *ctx, const struct ha_node *node,
                      struct ha_fence_report *ret_report);
    /* A proof says that this incarnation is dead, and it is not: everything of it is
     * being discarded; when it is gone, the agent begins a new life under another join
     * counter. Until then nothing is placed here. */
    void (*reincarnate)(void *ctx);
    /* R6: a strict majority of this ring echoed a renewal that was sent at from_ns. May
     * be NULL. */
    void (*lease_renewed)(void *ctx, uint64_t from_ns);
    void (*op_done)(void *ctx, const struct ha_op_result *result);
    /* An applied item with something to tell: the cluster-wide event log. */
    void (*event)(void *ctx, uint64_t version, const char *text);
    void (*trace)(void *ctx, const char *text);
    struct uuid (*new_uuid)(void *ctx);
    /* Checks an applied definition against the cluster; text says what is wrong. NULL:
     * anything goes. */
    bool (*check_vm)(void *ctx, const struct ha_state *state, const char *yaml,
                     size_t len, struct conf_vm *ret_conf, char *text, size_t cap);
    bool (*check_cluster)(void *ctx, const char *yaml, size_t len,
                          struct conf_cluster *ret_conf, char *text, size_t cap);
};

struct ha_agent_self {
    uint32_t nodeid;
    char name[NODE_NAME_MAX + 1];
    struct incarnation incarnation;
    uint64_t memory_bytes;
    bool cpu_known; /* false: its VMM could not tell */
    struct cpu_model cpu;
    bool kvm_known; /* the same */
    uint32_t kvm_can;
};

#define HA_LOCAL_VMS_MAX HA_SUMMARY_VMS_MAX
#define HA_OPS_MAX       64
#define HA_PLAN_MAX      256

/* What a member said in the exchange of this view. */
struct ha_member {
    bool present;
    uint32_t nodeid;
    struct incarnation incarnation;
    uint64_t term, version;
    struct uuid generation;
    bool alone;
    uint32_t coordinator;
    uint64_t memory_bytes;
    uint64_t persisted; /* highest version it reported durable in this term */
    unsigned vm_count;
    struct ha_local_vm *vm; /* of ha_mem */
};

struct ha_waiting_op {
    struct ha_op_result result; /* uid none: free slot */
};

/* A message of a ring that is younger than the view: CPG may deliver it before quorum has
 * spoken. */
struct ha_early_message {
    uint32_t nodeid;
    size_t len;
    uint8_t *bytes; /* of ha_mem */
};
#define HA_EARLY_MAX 64
#define HA_HELD_MAX  1024

/* Not part of the state: what the source of a migration said last. */
#define HA_PROGRESS_MAX 32
struct ha_progress {
    struct uuid vm; /* none: free */
    uint64_t at_ns;
    struct ha_move_progress move;
};

struct ha_agent {
    struct ha_agent_self self;
    const struct ha_agent_ops *ops;
    void *ctx;
    struct ha_state state;
    bool alone_allowed; /* see ha_summary.alone */
    struct ha_view view;
    enum ha_phase phase;
    uint64_t phase_since_ns;
    char waiting[REASON_LEN_MAX + 1]; /* what an unsynced agent waits for, for `status` */
    struct ha_member member[NODES_MAX];
    struct ha_cpus cpus; /* what the nodes said; not part of the state */
    struct ha_progress progress[HA_PROGRESS_MAX];
    struct ha_sync sync; /* accepted for this ring; term 0: none */
    uint64_t sync_proposed_ns;
    struct ha_state incoming; /* during TRANSFER, on a node that is behind */
    bool receiving;
    uint32_t snap_count;
    uint64_t send_seq;
    uint64_t sent_version; /* coordinator: of the last update multicast */
    bool decide_wanted;
    uint64_t next_due_ns;
    struct ha_times times;
    unsigned early_count;
    struct ha_early_message early[HA_EARLY_MAX];
    /* Coordinator: what may only be judged when updates under way have been delivered */
    unsigned held_count;
    struct ha_early_message held[HA_HELD_MAX];
    uint64_t summary_sent_ns;
    /* R6, the isolation lease */
    bool lease_wanted; /* a VM here is to freeze when this node is alone */
    bool renew_done;   /* the renewal under way was echoed by a majority */
    uint64_t renew_seq, renew_sent_ns;
    unsigned renew_echo_count;
    uint32_t renew_echo[NODES_MAX];
    unsigned local_vm_count;
    struct ha_local_vm local_vm[HA_LOCAL_VMS_MAX];
    unsigned deferred_count; /* reports made while not synced */
    struct ha_vm_report deferred[64];
    struct ha_waiting_op waiting_op[HA_OPS_MAX];
    bool fence_wait; /* this node is to execute a fence request once its intent is
                        persisted by a majority */
    uint64_t fence_wait_version;
    uint64_t fences_at_ns[NODES_MAX]; /* requests made by this coordinator: the budget's
                                         window */
    unsigned fences_count;
    struct {
        uint64_t dropped_ring, dropped_sender, dropped_version, dropped_malformed,
            applied;
    } count;
    uint8_t scratch[CPG_MSG_MAX];
    uint8_t frame[CPG_MSG_MAX];
    struct ha_action action[HA_PLAN_MAX];
};

/* `state` comes from the record log (ha_agent_load_item before the first event), or stays
 * blank. */
void ha_agent_init(struct ha_agent *agent, const struct ha_agent_self *self,
                   const struct ha_mem *mem, const struct ha_agent_ops *ops, void *ctx);
void ha_agent_free(struct ha_agent *agent);
int ha_agent_load_item(struct ha_agent *agent, enum ha_item_kind kind, const void *body,
                       size_t len, uint64_t version, uint64_t now_ns);

/* Events */
void ha_agent_view(struct ha_agent *agent, const struct ha_view *view, uint64_t now_ns);
void ha_agent_deliver(struct ha_agent *agent, uint32_t nodeid, const void *buf,
                      size_t len, uint64_t now_ns);
void ha_agent_tick(struct ha_agent *agent, uint64_t now_ns);
void ha_agent_persisted(struct ha_agent *agent, uint64_t version, uint64_t now_ns);
/* The local table of VMs, as it changes: ha_local_state 0 removes. */
void ha_agent_local_vm(struct ha_agent *agent, const struct ha_local_vm *vm, bool gone);
void ha_agent_vm_report(struct ha_agent *agent, const struct ha_vm_report *report,
                        uint64_t now_ns);
void ha_agent_fence_report(struct ha_agent *agent, const struct ha_fence_report *report,
                           uint64_t now_ns);
/* R6: renew the isolation lease from now on, or no more. */
void ha_agent_lease_want(struct ha_agent *agent, bool wanted);
/* An operator's change asked for at this node: answered through op_done, perhaps at once.
 */
void ha_agent_op(struct ha_agent *agent, const struct ha_op *op, uint64_t now_ns);
/* A VM that leaves this node is so far: told to the others, who show it. */
void ha_agent_progress(struct ha_agent *agent, struct uuid vm,
                       const struct ha_move_progress *progress);
/* To all: the next step of a look. */
void ha_agent_twin_look(struct ha_agent *agent, const struct ha_twin_look *look);
/* NULL: nothing was said of it lately. */
const struct ha_move_progress *ha_agent_progress_of(const struct ha_agent *agent,
                                                    struct uuid vm, uint64_t now_ns);
/* When ha_agent_tick is wanted at the latest. */
uint64_t ha_agent_due_ns(const struct ha_agent *agent);

bool ha_agent_is_coordinator(const struct ha_agent *agent);
bool ha_agent_is_participant(const struct ha_agent *agent, uint32_t nodeid);

/* Between the files of the core only
 * -------------------------------------------------------- */
void ha_agent_send(struct ha_agent *agent, struct ha_msg *msg,
                   const struct ha_local_vm *vms);
void ha_agent_times_refresh(struct ha_agent *agent);
/* Is this version on the disks of a majority? */
bool ha_agent_is_persisted(const struct ha_agent *agent, uint64_t version);
/* Goes on with what waits for a majority: fences, orders. */
void ha_agent_check_persisted(struct ha_agent *agent);
void ha_agent_discard_superseded(struct ha_agent *agent);
void ha_agent_held_clear(struct ha_agent *agent);
void ha_agent_trace(struct ha_agent *agent, const char *a, const char *b, const char *c);
struct ha_member *ha_agent_member(struct ha_agent *agent, uint32_t nodeid);
/* What its summary says of this VM; NULL: nothing of it is there. */
const struct ha_local_vm *ha_member_vm(const struct ha_member *m, struct uuid vm);
void ha_sync_summary_send(struct ha_agent *agent);
void ha_sync_begin(struct ha_agent *agent, uint64_t now_ns);
void ha_sync_summary(struct ha_agent *agent, const struct ha_msg *msg, uint64_t now_ns);
void ha_sync_cpu(struct ha_agent *agent, const struct ha_msg *msg);
void ha_sync_kvm(struct ha_agent *agent, const struct ha_msg *msg);
void ha_sync_proposed(struct ha_agent *agent, const struct ha_msg *msg, uint64_t now_ns);
void ha_sync_snap_item(struct ha_agent *agent, const struct ha_msg *msg, uint64_t now_ns);
void ha_sync_snap_end(struct ha_agent *agent, const struct ha_msg *msg, uint64_t now_ns);
void ha_sync_consider(struct ha_agent *agent, uint64_t now_ns);
/* ha_update.c, ha_order.c */
void ha_update_deliver(struct ha_agent *agent, const struct ha_msg *msg, uint64_t now_ns);
void ha_order_persisted(struct ha_agent *agent);
void ha_order_result(struct ha_agent *agent, const struct ha_op_result *result);
/* Coordinator */
void ha_coord_synced(struct ha_agent *agent, uint64_t now_ns);
void ha_coord_vm_report(struct ha_agent *agent, uint32_t from,
                        const struct ha_vm_report *report, uint64_t now_ns);
void ha_coord_fence_report(struct ha_agent *agent, uint32_t from,
                           const struct ha_fence_report *report, uint64_t now_ns);
void ha_coord_op(struct ha_agent *agent, const struct ha_op *op, uint64_t now_ns);
void ha_coord_decide(struct ha_agent *agent, uint64_t now_ns);
void ha_coord_emit(struct ha_agent *agent, enum ha_item_kind kind, const void *body,
                   size_t len, struct uuid op, const char *event);
void ha_coord_emit_vm(struct ha_agent *agent, const struct ha_vm *vm, struct uuid op,
                      const char *event);
void ha_coord_emit_node(struct ha_agent *agent, const struct ha_node *node,
                        struct uuid op, const char *event);
