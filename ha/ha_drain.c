/* SPDX-License-Identifier: Apache-2.0 */
#include "ha/ha_drain.h"

#include <string.h>

#include "ha/ha_pending.h"
#include "ha/ha_text.h"

static int index_of(const struct ha_place *place, uint32_t nodeid)
{
    for (unsigned i = 0; i < place->node_count; i++) {
        if (place->node[i].nodeid == nodeid) {
            return (int)i;
        }
    }
    return -1;
}

static void count(struct ha_drain *drain, const struct ha_place *place, uint32_t nodeid)
{
    int i = index_of(place, nodeid);

    if (i >= 0) {
        drain->moves[i]++;
    }
}

void ha_drain_init(struct ha_drain *drain, const struct ha_place *place)
{
    const struct ha_state *state = place->in->state;

    memset(drain, 0, sizeof *drain);
    for (unsigned i = 0; i < state->vm_count; i++) {
        if (state->vm[i]->move.to != 0) {
            count(drain, place, state->vm[i]->owner);
            count(drain, place, state->vm[i]->move.to);
        }
    }
}

static bool is_full(const struct ha_drain *drain, const struct ha_place *place,
                    uint32_t nodeid)
{
    int i = index_of(place, nodeid);

    return i < 0 || drain->moves[i] >= HA_MOVES_PER_NODE;
}

static bool in_maintenance(const struct ha_state *state, uint32_t nodeid)
{
    const struct ha_node *node = ha_state_node(state, nodeid);

    return node != NULL && node->maintenance;
}

enum ha_drain_verdict ha_drain_vm(struct ha_drain *drain, struct ha_place *place,
                                  const struct ha_vm *vm, uint32_t *ret_to,
                                  char why[static REASON_LEN_MAX + 1],
                                  uint64_t *ret_due_ns)
{
    bool leaves = in_maintenance(place->in->state, vm->owner);
    uint64_t again_ns = vm->changed_ns + HA_MOVE_RETRY_NS;
    struct ha_vm runs = *vm; /* as it runs, it moves */
    uint32_t to = vm->home;
    struct conf_vm conf;

    *ret_due_ns = UINT64_MAX;
    if (!ha_pending_goes_on(vm, &conf) || vm->state != HA_VM_RUNNING ||
        vm->task != HA_TASK_NONE || vm->desired != HA_DESIRED_RUNNING) {
        return HA_DRAIN_STAY;
    }
    runs.conf = &conf;
    if (vm->twin.to != 0 || (!leaves && conf_vm_has_mirrors(&conf))) {
        return HA_DRAIN_STAY; /* its twin takes over */
    }
    if (conf_vm_has_mirrors(&conf)) {
        ha_text_set(why, REASON_LEN_MAX + 1,
                    "its disks are mirrored, so it leaves only by its twin: gemel vm "
                    "protect, then gemel vm switchover",
                    NULL);
        return HA_DRAIN_NOWHERE;
    }
    if (!leaves && (to == 0 || to == vm->owner || !ha_place_may(place, &runs, to))) {
        return HA_DRAIN_STAY;
    }
    if (ha_vm_holds(vm)) {
        return HA_DRAIN_STAY; /* until its writes are let go */
    }
    if (vm->memory_from != 0) {
        return HA_DRAIN_LATER; /* when all of it is here */
    }
    if (vm->last_failed && place->in->now_ns < again_ns) {
        *ret_due_ns = again_ns;
        return HA_DRAIN_LATER;
    }
    if (leaves) {
        to = vm->move_avoid != 0 ? ha_place_next(place, &runs, vm->move_avoid, why)
                                 : ha_place_choose(place, &runs, vm->owner, why);
        if (to == 0 || to == vm->owner) {
            char others[REASON_LEN_MAX + 1];

            ha_place_others(place, &runs, others);
            ha_text_set(why, REASON_LEN_MAX + 1, "no other node takes it: ", others,
                        NULL);
            return HA_DRAIN_NOWHERE;
        }
    }
    if (is_full(drain, place, vm->owner) || is_full(drain, place, to)) {
        return HA_DRAIN_LATER;
    }
    count(drain, place, vm->owner);
    count(drain, place, to);
    ha_place_take(place, to, vm);
    *ret_to = to;
    return HA_DRAIN_MOVE;
}

/* It runs at its owner as it did, and does not start anew there. */
static bool goes_on(const struct ha_vm *vm)
{
    switch (vm->state) {
    case HA_VM_RUNNING:
    case HA_VM_FROZEN:
    case HA_VM_STARTING: /* thaws */
    case HA_VM_UNKNOWN:
    case HA_VM_SUSPENDING:
    case HA_VM_SNAPSHOTTING:
    case HA_VM_MIGRATING:
        return true;
    case HA_VM_STOPPED:
    case HA_VM_STOPPING:
    case HA_VM_FAILED:
    case HA_VM_HELD:
    case HA_VM_SUSPENDED:
    case HA_VM_REVERTING:
    case HA_VM_INVALID:
    case HA_VM_STATE_COUNT:
    default:
        return false;
    }
}

void ha_drain_forget(struct ha_vm *vm, bool starts_anew)
{
    bool anew = starts_anew || !goes_on(vm);

    if (anew) {
        vm->move_avoid = 0;
        if (vm->state != HA_VM_STOPPING || !ha_vm_protected(vm)) {
            memset(&vm->twin, 0, sizeof vm->twin); /* else it follows to the end */
        }
        vm->runs = NULL; /* from now on, or when it starts: its definition */
        vm->runs_len = 0;
    }
    if (anew && vm->memory_from != 0) {
        vm->memory_from = 0;
        vm->last_failed = true;
        ha_text_set(vm->last, sizeof vm->last, vm->reason, NULL);
    }
    if (anew || (vm->move.to == 0 && vm->home == vm->owner)) {
        vm->home = 0;
    }
}
