/* SPDX-License-Identifier: Apache-2.0 */
#include "ha/ha_cpu.h"

#include <string.h>

#include "base/kvm_can.h"

const struct cpu_model *ha_cpus_get(const struct ha_cpus *cpus, uint32_t nodeid)
{
    for (unsigned i = 0; i < cpus->count; i++) {
        if (cpus->node[i].nodeid == nodeid) {
            return &cpus->node[i].model;
        }
    }
    return NULL;
}

void ha_cpus_drop(struct ha_cpus *cpus, uint32_t nodeid)
{
    for (unsigned i = 0; i < cpus->count; i++) {
        if (cpus->node[i].nodeid == nodeid) {
            cpus->node[i] = cpus->node[--cpus->count];
            return;
        }
    }
}

void ha_cpus_put(struct ha_cpus *cpus, uint32_t nodeid, const struct cpu_model *model)
{
    ha_cpus_drop(cpus, nodeid);
    if (cpus->count < NODES_MAX) {
        cpus->node[cpus->count].nodeid = nodeid;
        cpus->node[cpus->count++].model = *model;
    }
}

bool ha_cpus_kvm(const struct ha_cpus *cpus, uint32_t nodeid, uint32_t *ret_can)
{
    for (unsigned i = 0; i < cpus->kvm_count; i++) {
        if (cpus->kvm[i].nodeid == nodeid) {
            *ret_can = cpus->kvm[i].can;
            return true;
        }
    }
    return false;
}

void ha_cpus_put_kvm(struct ha_cpus *cpus, uint32_t nodeid, uint32_t can)
{
    unsigned i = 0;

    while (i < cpus->kvm_count && cpus->kvm[i].nodeid != nodeid) {
        i++;
    }
    if (i < NODES_MAX) {
        cpus->kvm[i].nodeid = nodeid;
        cpus->kvm[i].can = can;
        cpus->kvm_count += i == cpus->kvm_count;
    }
}

bool ha_cpus_lacks_sse(const struct ha_cpus *cpus, uint32_t nodeid)
{
    uint32_t can;

    return ha_cpus_kvm(cpus, nodeid, &can) && (can >> KVM_CAN_NOT_SSE & 1) != 0;
}
