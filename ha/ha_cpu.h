/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which processors the nodes have, and what their KVM can, as each of them said in its
 * last message: no part of the replicated state, because a node that is here says it
 * again in each view. Pure.
 */
#pragma once

#include <stdbool.h>

#include "base/cpu_model.h"
#include "base/limits.h"

struct ha_cpus {
    unsigned count;
    struct {
        uint32_t nodeid;
        struct cpu_model model;
    } node[NODES_MAX];
    /* What their KVM can (base/kvm_can). */
    unsigned kvm_count;
    struct {
        uint32_t nodeid, can;
    } kvm[NODES_MAX];
};

/* Replaces what was known of the node. One too many is dropped. */
void ha_cpus_put(struct ha_cpus *cpus, uint32_t nodeid, const struct cpu_model *model);
void ha_cpus_drop(struct ha_cpus *cpus, uint32_t nodeid);
/* NULL: it has not said. */
const struct cpu_model *ha_cpus_get(const struct ha_cpus *cpus, uint32_t nodeid);
/* The same of what their KVM can; false: it has not said. */
void ha_cpus_put_kvm(struct ha_cpus *cpus, uint32_t nodeid, uint32_t can);
/* Its KVM was tried, and cannot run SSE instructions: a guest of machine: standard that
 * uses them will not get far there. */
#define HA_NO_SSE                                                                        \
    " lacks SSE instructions, so no stock kernel runs in machine: standard there "       \
    "(gemel-vmm --probe)"
bool ha_cpus_lacks_sse(const struct ha_cpus *cpus, uint32_t nodeid);
bool ha_cpus_kvm(const struct ha_cpus *cpus, uint32_t nodeid, uint32_t *ret_can);
