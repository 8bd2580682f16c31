/* SPDX-License-Identifier: Apache-2.0 */
/* A silent link: R7 allows a status reading, and an `off` reading is a proof already.
 * What gemel-fenced says comes here. */
#include "base/uuid.h"
#include "ha/ha_daemon_priv.h"
#include "ha/ha_text.h"

static int node_index(struct ha_daemon *d, uint32_t nodeid)
{
    for (unsigned i = 0; i < d->agent.state.node_count; i++) {
        if (d->agent.state.node[i].nodeid == nodeid) {
            return (int)i;
        }
    }
    return -1;
}

bool ha_suspect_early_off(void *ctx, const struct ha_node *node,
                          struct ha_fence_report *ret_report)
{
    struct ha_daemon *d = ctx;
    int i = node_index(d, node->nodeid);

    if (i < 0 || !d->early[i].have ||
        !incarnation_equal(&d->early[i].report.incarnation, &node->incarnation)) {
        return false;
    }
    d->early[i].have = false;
    *ret_report = d->early[i].report;
    return true;
}

/* Or has what a VM elsewhere still needs (post-copy). */
static bool owns_vms(struct ha_daemon *d, uint32_t nodeid)
{
    for (unsigned i = 0; i < d->agent.state.vm_count; i++) {
        const struct ha_vm *vm = d->agent.state.vm[i];

        if ((vm->owner == nodeid && !ha_vm_rests(vm)) || vm->memory_from == nodeid) {
            return true;
        }
    }
    return false;
}

/* One node asks: the coordinator, or when that is the suspect the lowest of the others.
 */
static bool asks(struct ha_daemon *d, uint32_t suspect)
{
    const struct ha_agent *a = &d->agent;

    if (a->phase != HA_PHASE_SYNCED || !a->view.quorate) {
        return false;
    }
    if (a->sync.coordinator != suspect) {
        return a->sync.coordinator == a->self.nodeid;
    }
    for (unsigned i = 0; i < a->view.member_count; i++) {
        if (a->view.member[i] != suspect) {
            return a->view.member[i] == a->self.nodeid;
        }
    }
    return false;
}

void ha_suspect_link(void *ctx, uint32_t nodeid, bool up)
{
    struct ha_daemon *d = ctx;
    int i = node_index(d, nodeid);

    if (i < 0 || d->suspected[i] == !up) {
        return;
    }
    d->suspected[i] = !up;
    if (up) {
        d->early[i].have = false; /* it lives: what its device said was wrong */
    }
    ha_daemon_local_event(d, d->agent.state.node[i].name,
                          up ? ": its link answers again" : ": its link is silent", "");
    if (!up && asks(d, nodeid) && owns_vms(d, nodeid)) {
        ha_daemon_local_event(d, d->agent.state.node[i].name, ": power state asked", "");
        ha_fencelink_status(d->fencelink, &d->agent.state.node[i], uuid_random());
    }
}

void ha_suspect_send_proofs(struct ha_daemon *d)
{
    for (unsigned i = 0; i < d->agent.state.node_count; i++) {
        struct ha_early_proof *early = &d->early[i];
        const struct ha_node *node = &d->agent.state.node[i];

        if (!early->have || d->agent.phase != HA_PHASE_SYNCED || !d->agent.view.quorate ||
            ha_view_has(&d->agent.view, node->nodeid)) {
            continue;
        }
        early->have = false;
        if (incarnation_equal(&early->report.incarnation, &node->incarnation)) {
            ha_agent_fence_report(&d->agent, &early->report, loop_now_ns());
        }
    }
}

static void on_fence_report(void *ctx, const struct ha_fence_report *report)
{
    struct ha_daemon *d = ctx;
    int i = node_index(d, report->target);

    if (i < 0) {
        return;
    }
    d->fence_progress[i][0] = '\0';
    ha_daemon_local_event(d, d->agent.state.node[i].name,
                          report->result == HA_FENCE_OK ? ": its fence device says off: "
                                                        : ": not confirmed off: ",
                          report->detail);
    if (report->result == HA_FENCE_OK && (d->suspected[i] || !report->suspicion)) {
        d->early[i] = (struct ha_early_proof){.have = true, .report = *report};
    }
    if (!report->suspicion) {
        d->early[i].have = false;
        ha_agent_fence_report(&d->agent, report, loop_now_ns());
    }
    ha_suspect_send_proofs(d);
}

static void on_fence_progress(void *ctx, uint32_t target, const char *detail)
{
    struct ha_daemon *d = ctx;
    int i = node_index(d, target);

    if (i >= 0) {
        ha_text_set(d->fence_progress[i], sizeof d->fence_progress[i], detail, NULL);
    }
}

static void on_fenced_connected(void *ctx, bool connected)
{
    ((struct ha_daemon *)ctx)->fenced_connected = connected;
}

const struct ha_fencelink_ops ha_suspect_fence_ops = {.report = on_fence_report,
                                                      .progress = on_fence_progress,
                                                      .connected = on_fenced_connected};
