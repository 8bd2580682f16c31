/* SPDX-License-Identifier: Apache-2.0 */
/* Where a VM can run: hard limits first (memory, anti-affinity), then preference, then
 * the most free memory; ties by node id. Pure. */
#pragma once

#include "ha/ha_policy.h"

#define HA_PLACE_GIVEN_MAX 256

struct ha_place {
    const struct ha_policy_in *in;
    unsigned node_count;
    bool any_anti_affinity; /* else nobody has to be looked at */
    /* The cluster's CPU models, in its order, if a VM names one. */
    unsigned cpu_model_count;
    struct cpu_model cpu_model[CONF_CPU_MODELS_MAX];
    struct {
        uint32_t nodeid;
        bool eligible;
        uint64_t memory_free;
    } node[NODES_MAX];
    /* What this decision has given to nodes so far: not more than it may act on. */
    unsigned given_count;
    struct {
        const struct ha_vm *vm;
        uint32_t nodeid;
    } given[HA_PLACE_GIVEN_MAX];
};

/* Accounts every VM that is or may be running. */
void ha_place_init(struct ha_place *place, const struct ha_policy_in *in);
/* As things are now, where this agent is: `in` and `participant` are what *ret_place
 * stands on. */
struct ha_agent;
void ha_place_now(const struct ha_agent *agent, uint64_t now_ns, struct ha_policy_in *in,
                  uint32_t participant[static NODES_MAX], struct ha_place *ret_place);
/* The node, or 0 and *reason says why there is none. `avoid`: only if there is no other.
 */
uint32_t ha_place_choose(const struct ha_place *place, const struct ha_vm *vm,
                         uint32_t avoid, char reason[static REASON_LEN_MAX + 1]);
/* The next one to try, but its own, after `failed` could not take it: every other one in
 * turn, by preference and node id, then `failed` again. */
uint32_t ha_place_next(const struct ha_place *place, const struct ha_vm *vm,
                       uint32_t failed, char reason[static REASON_LEN_MAX + 1]);
/* This node can take it, as far as all of the hard limits go. */
bool ha_place_may(const struct ha_place *place, const struct ha_vm *vm, uint32_t nodeid);
/* Why a node cannot take a VM: a hard limit, in the order in which they are looked at. */
enum ha_place_reason {
    HA_PLACE_FITS = 0,
    HA_PLACE_NOT_READY,
    HA_PLACE_MEMORY,
    HA_PLACE_CPU,
    HA_PLACE_MIRROR,        /* mirrored disks, and none here that is in sync */
    HA_PLACE_ANTI_AFFINITY, /* that alone: an operator may override it */
};
/* `why` says it, to be read behind the node's name: "is in maintenance". */
enum ha_place_reason ha_place_why(const struct ha_place *place, const struct ha_vm *vm,
                                  uint32_t nodeid, char why[static REASON_LEN_MAX + 1]);
/* This node's copy of its mirrored disks has every completed FLUSH; true as well where
 * nobody knows, or there are none: claims decide. */
bool ha_vm_copy_counts(const struct ha_vm *vm, uint32_t nodeid);
/* Nothing stands in its way but that its copies of the VM's disks do not count. */
bool ha_place_copy(const struct ha_place *place, const struct ha_vm *vm, uint32_t nodeid);
/* Nodes whose copies count: "n1, n2". */
void ha_place_copies(const struct ha_state *state, const struct ha_vm *vm,
                     char text[static REASON_LEN_MAX + 1]);
/* The same for a twin, which brings its disks along. */
enum ha_place_reason ha_place_twin(const struct ha_place *place, const struct ha_vm *vm,
                                   uint32_t nodeid, char why[static REASON_LEN_MAX + 1]);
/* The same, but all of them: "has 16 MiB free, and it needs 32 MiB, has web2, with ...".
 * How many. */
unsigned ha_place_twin_all(const struct ha_place *place, const struct ha_vm *vm,
                           uint32_t nodeid, char why[static REASON_LEN_MAX + 1]);
/* Why no node but its own takes it, one after the other: "n2 is in maintenance; ...". */
void ha_place_others(const struct ha_place *place, const struct ha_vm *vm,
                     char why[static REASON_LEN_MAX + 1]);
/* Can the node's processor be what the VM's definition names? If not, `why` says what is
 * missing: "lacks avx2, bmi2". */
bool ha_place_cpu(const struct ha_place *place, const struct ha_vm *vm, uint32_t nodeid,
                  char why[static REASON_LEN_MAX + 1]);
/* No node of the cluster will ever do, as far as all of them are known: `why` says it. A
 * node that is not known yet might. */
bool ha_place_never(const struct ha_place *place, const struct ha_vm *vm,
                    char why[static REASON_LEN_MAX + 1]);
/* The VM was given to the node: later choices of the same decision see it. */
void ha_place_take(struct ha_place *place, uint32_t nodeid, const struct ha_vm *vm);
