/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The VMs of this node: takes claims (on worker threads), starts gemel-vmm processes,
 * talks to them, and finds them again after an agent restart (R8). Nothing here decides
 * who may run: claim_may_take does, and the link. Loop thread only.
 *
 * What must outlive the agent lies in RUN_DIR/vm/UUID.json: instance, attempt, epoch, pid
 * and start time.
 */
#pragma once

#include "base/elf_build_id.h"
#include "base/loop.h"
#include "ha/ha_agent.h"

struct ha_vmm;

struct ha_vmm_ops {
    void (*local_vm)(void *ctx, const struct ha_local_vm *vm, bool gone);
    void (*report)(void *ctx, const struct ha_vm_report *report);
    const struct proof_table *(*proofs)(void *ctx);
    bool (*quorate)(void *ctx); /* synced in a quorate view */
    /* R5: this node's own links are down, as far as it can tell. */
    bool (*links_down)(void *ctx);
    uint64_t (*settle_ns)(void *ctx);
    /* The definition on record; NULL: none. */
    const struct ha_vm *(*record)(void *ctx, struct uuid vm);
    /* How far a VM is that leaves this node. */
    void (*progress)(void *ctx, struct uuid vm, const struct ha_move_progress *progress);
    /* NULL: there is none yet. */
    const struct conf_cluster *(*cluster)(void *ctx);
    /* Text of a CPU model of the cluster definition; NULL: there is none of this name. */
    const char *(*cpu_model)(void *ctx, const char *name);
    /* The next step of a look at what a twin would meet. */
    void (*twin_looked)(void *ctx, const struct ha_twin_look *look);
    /* A step of a start, for the timeline: "claim taken", "VMM started". */
    void (*step)(void *ctx, const char *vm, const char *what);
};

int ha_vmm_new(struct loop *loop, const struct conf_node *node,
               const struct ha_agent_self *self, uint64_t agent_start_ns,
               const struct ha_vmm_ops *ops, void *ctx, struct ha_vmm **ret_vmm);
/* Leaves the VMs running. */
void ha_vmm_free(struct ha_vmm *vmm);
/* Finds the VMs that an earlier agent of this boot left running. Before the first view.
 */
int ha_vmm_adopt(struct ha_vmm *vmm);
void ha_vmm_start(struct ha_vmm *vmm, const struct ha_vm *vm);
/* What the record's state says: SUSPENDING, SNAPSHOTTING or REVERTING. */
void ha_vmm_save(struct ha_vmm *vmm, const struct ha_vm *vm);
/* This node is an end of a migration of it, or was: the record was changed. */
void ha_vmm_move(struct ha_vmm *vmm, const struct ha_vm *vm);
/* The same of a protection (ha_vmmtwin.c). */
void ha_vmm_twin(struct ha_vmm *vmm, const struct ha_vm *vm);
/* `vm protect --dry-run`: this node's turn, if it is. ops->twin_looked is called then. */
void ha_vmm_twin_look(struct ha_vmm *vmm, const struct ha_vm *vm,
                      const struct ha_twin_look *look);
void ha_vmm_stop(struct ha_vmm *vmm, const struct ha_vm *vm);
/* Post-copy: what of its memory is not here yet was at a node that is proven dead. If its
 * VMM says that some is missing, it is ended, and reported as one that ended by itself.
 */
void ha_vmm_holder_dead(struct ha_vmm *vmm, struct uuid vm, const char *node);
void ha_vmm_discard(struct ha_vmm *vmm, struct uuid vm, const char *why);
/* R6: quorum lost (the policy says freeze or stop). Every running VM for which `which`
 * says so. */
void ha_vmm_freeze(struct ha_vmm *vmm, struct uuid vm, const char *why);
/* R6: this VM freezes by itself lease_ms after from_ns unless it is renewed. lease_ms 0:
 * no lease. */
void ha_vmm_lease(struct ha_vmm *vmm, struct uuid vm, uint32_t lease_ms,
                  uint64_t from_ns);
unsigned ha_vmm_count(const struct ha_vmm *vmm);
/* Whether the guest agent of a VM of this node answers: "none", "connected", "answers";
 * NULL: not known here. */
const char *ha_vmm_guest_agent(const struct ha_vmm *vmm, struct uuid vm);
/* What the guest did last that somebody should know ("guest panicked", "watchdog
 * expired"), and when (UTC since 1970); NULL: nothing that is known here. */
const char *ha_vmm_guest_event(const struct ha_vmm *vmm, struct uuid vm,
                               uint64_t *ret_ms);
/* How a side of a protected VM is, on this node. */
struct ha_vmm_twin_state {
    bool twin;      /* this is the twin; else the primary */
    char state[24]; /* as ft/README.md has it */
    uint64_t lag_us, log_bytes, diverged, exits, replayed;
};
/* False: there is none here. */
bool ha_vmm_twin_state(const struct ha_vmm *vmm, struct uuid vm,
                       struct ha_vmm_twin_state *ret);
/* When a paused VM of this node is thawed next, on loop_now_ns's clock; 0: that is being
 * done. False: it is not paused here. */
bool ha_vmm_next_thaw(const struct ha_vmm *vmm, struct uuid vm, uint64_t *ret_at_ns);
/* The guest's balloon, in bytes: what it should do without, and what it does without.
 * False: it has none, or the VM is not here. */
bool ha_vmm_balloon(const struct ha_vmm *vmm, struct uuid vm, uint64_t *ret_target,
                    uint64_t *ret_actual);
/* NULL: the VMM was told; else why not. */
const char *ha_vmm_balloon_set(struct ha_vmm *vmm, struct uuid vm, uint64_t bytes);
/* Which gemel-vmm runs a VM of this node, and which one is installed. */
struct ha_vmm_build {
    char version[32];
    char running[BUILD_ID_LEN + 1], installed[BUILD_ID_LEN + 1]; /* "": not known */
    bool outdated; /* both are known, and differ: `gemel vm upgrade` */
};
/* False: it is not here. */
bool ha_vmm_build(const struct ha_vmm *vmm, struct uuid vm,
                  struct ha_vmm_build *ret_build);
/* How many VMs of this node run in another gemel-vmm than the one that is installed. */
unsigned ha_vmm_outdated(const struct ha_vmm *vmm);
/* Path of the console socket; false when the VM is not here. */
bool ha_vmm_console(const struct ha_vmm *vmm, struct uuid vm, char *ret_path, size_t cap);
