/* SPDX-License-Identifier: Apache-2.0 */
/* Isolation (R6): what becomes of the VMs here while this node has no quorum. */
#include <string.h>

#include "ha/ha_daemon_priv.h"

/* No agreed view for so long counts as no quorum. */
#define UNSETTLED_MAX_NS (1 * NSEC_PER_SEC)

static bool guarded(struct ha_daemon *d)
{
    const struct conf_cluster *conf = d->agent.state.cluster.conf;

    for (unsigned i = 0; conf != NULL && i < conf->device_count; i++) {
        if (strcmp(conf->device[i].node, d->node.name) == 0) {
            return true;
        }
    }
    return false;
}

static enum conf_isolation isolation_of(struct ha_daemon *d, const struct ha_vm *vm)
{
    const struct conf_cluster *conf = d->agent.state.cluster.conf;
    enum conf_isolation want =
        vm->conf != NULL ? vm->conf->isolation : CONF_ISOLATION_DEFAULT;

    if (want == CONF_ISOLATION_DEFAULT && conf != NULL) {
        want = conf->isolation;
    }
    if (want == CONF_ISOLATION_DEFAULT) {
        want = guarded(d) ? CONF_ISOLATION_RUN : CONF_ISOLATION_FREEZE;
    }
    return want;
}

static bool freezes(struct ha_daemon *d, const struct ha_local_vm *local)
{
    const struct ha_vm *vm = ha_state_vm(&d->agent.state, local->vm);

    return vm != NULL && isolation_of(d, vm) == CONF_ISOLATION_FREEZE;
}

void ha_isolation_want_lease(struct ha_daemon *d)
{
    bool wanted = false;

    for (unsigned i = 0; i < d->agent.local_vm_count; i++) {
        wanted = wanted || freezes(d, &d->agent.local_vm[i]);
    }
    ha_agent_lease_want(&d->agent, wanted);
}

void ha_isolation_lease_renewed(void *ctx, uint64_t from_ns)
{
    struct ha_daemon *d = ctx;
    uint32_t lease_ms = (uint32_t)(d->agent.times.lease_ns / NSEC_PER_MSEC);

    for (unsigned i = 0; i < d->agent.local_vm_count; i++) {
        const struct ha_local_vm *local = &d->agent.local_vm[i];

        ha_vmm_lease(d->vmm, local->vm, freezes(d, local) ? lease_ms : 0, from_ns);
    }
}

/* Again with each tick: a VMM may not have been within reach, or was found only now. */
static void isolate(struct ha_daemon *d)
{
    d->isolated = true;
    for (unsigned i = 0; i < d->agent.local_vm_count; i++) {
        const struct ha_vm *vm = ha_state_vm(&d->agent.state, d->agent.local_vm[i].vm);

        if (vm == NULL || d->agent.local_vm[i].state == HA_LOCAL_STOPPING) {
            continue;
        }
        switch (isolation_of(d, vm)) {
        case CONF_ISOLATION_FREEZE:
            ha_vmm_freeze(d->vmm, vm->uuid, "no quorum (ha.isolation: freeze)");
            break;
        case CONF_ISOLATION_STOP:
            ha_vmm_stop(d->vmm, vm);
            break;
        case CONF_ISOLATION_RUN:
        case CONF_ISOLATION_DEFAULT:
        default:
            break;
        }
    }
}

void ha_isolation_watch(struct ha_daemon *d, uint64_t now_ns)
{
    const struct ha_view *view = &d->agent.view;

    if (view->quorate) {
        d->not_quorate_since_ns = 0;
        d->isolated = false;
        return;
    }
    if (d->not_quorate_since_ns == 0) {
        d->not_quorate_since_ns = now_ns;
    }
    if (d->isolated || view->agreed ||
        now_ns - d->not_quorate_since_ns >= UNSETTLED_MAX_NS) {
        isolate(d);
    }
}
