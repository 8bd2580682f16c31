/* SPDX-License-Identifier: Apache-2.0 */
#include "ha/ha_view.h"
#include "base/uuid.h"

#include <string.h>

bool ha_vm_upgrading(const struct ha_vm *vm)
{
    return vm->move.to != 0 && vm->move.to == vm->owner;
}

bool ha_vm_protected(const struct ha_vm *vm)
{
    return vm->twin.to != 0 && vm->twin.step == HA_TWIN_ON;
}

/* Whatever is being tried. */
bool ha_vm_is_bare(const struct ha_vm *vm)
{
    return vm->state == HA_VM_RUNNING && vm->desired == HA_DESIRED_RUNNING &&
           !ha_vm_protected(vm);
}

const struct conf_vm *ha_vm_runs_as(const struct ha_vm *vm)
{
    return vm->runs_conf != NULL ? vm->runs_conf : vm->conf;
}

bool ha_vm_holds(const struct ha_vm *vm)
{
    return vm->held.node != 0 && uuid_equal(vm->held.instance, vm->instance) &&
           !ha_vm_rests(vm);
}

bool ha_vm_rests(const struct ha_vm *vm)
{
    return vm->state == HA_VM_STOPPED || vm->state == HA_VM_FAILED ||
           vm->state == HA_VM_HELD || vm->state == HA_VM_SUSPENDED;
}

bool ha_vm_paused(const struct ha_vm *vm)
{
    return (vm->state == HA_VM_FROZEN || vm->state == HA_VM_STARTING) &&
           strncmp(vm->reason, HA_PAUSED, sizeof HA_PAUSED - 1) == 0;
}

const char *ha_vm_state_str(enum ha_vm_state state)
{
    static const char *const text[HA_VM_STATE_COUNT] = {[HA_VM_INVALID] = "invalid",
#define X(name, word) [HA_VM_##name] = word,
                                                        HA_VM_STATES(X)
#undef X
    };

    return (unsigned)state < HA_VM_STATE_COUNT ? text[state] : "invalid";
}

bool ha_ring_equal(struct ha_ring a, struct ha_ring b)
{
    return a.nodeid == b.nodeid && a.seq == b.seq;
}

bool ha_view_has(const struct ha_view *view, uint32_t nodeid)
{
    for (unsigned i = 0; i < view->member_count; i++) {
        if (view->member[i] == nodeid) {
            return true;
        }
    }
    return false;
}

bool ha_view_away(const struct ha_view *view, uint32_t nodeid)
{
    for (unsigned i = 0; i < view->away_count; i++) {
        if (view->away[i] == nodeid) {
            return true;
        }
    }
    return false;
}

static bool list_has(const uint32_t *list, unsigned count, uint32_t nodeid)
{
    for (unsigned i = 0; i < count; i++) {
        if (list[i] == nodeid) {
            return true;
        }
    }
    return false;
}

static unsigned list_take(uint32_t *dst, unsigned cap, const uint32_t *src,
                          unsigned count)
{
    unsigned kept = 0;

    for (unsigned i = 0; i < count && kept < cap; i++) {
        if (!list_has(dst, kept, src[i])) {
            dst[kept++] = src[i];
        }
    }
    return kept;
}

static void members_insert(struct ha_view *view, uint32_t nodeid)
{
    unsigned at = view->member_count;

    while (at > 0 && view->member[at - 1] > nodeid) {
        view->member[at] = view->member[at - 1];
        at--;
    }
    view->member[at] = nodeid;
    view->member_count++;
}

static bool recompute(struct ha_view_tracker *t)
{
    struct ha_view next;
    bool changed;

    memset(&next, 0, sizeof next);
    next.ring = t->totem_ring;
    next.votes_needed = t->votes_needed;
    next.agreed = t->have_group && t->have_totem && t->have_nodelist && t->have_quorum &&
                  ha_ring_equal(t->totem_ring, t->nodelist_ring) &&
                  ha_ring_equal(t->totem_ring, t->quorum_ring);
    next.quorate = next.agreed && t->quorate;
    for (unsigned i = 0; next.agreed && i < t->group_count; i++) {
        uint32_t nodeid = t->group[i];

        if (list_has(t->totem, t->totem_count, nodeid) &&
            list_has(t->nodelist, t->nodelist_count, nodeid)) {
            if (next.member_count == NODES_MAX) {
                next.agreed = next.quorate = false;
                break;
            }
            members_insert(&next, nodeid);
        }
    }
    for (unsigned i = 0; next.agreed && i < t->totem_count; i++) {
        uint32_t nodeid = t->totem[i];

        if (list_has(t->nodelist, t->nodelist_count, nodeid) &&
            !list_has(t->group, t->group_count, nodeid) && next.away_count < NODES_MAX) {
            next.away[next.away_count++] = nodeid;
        }
    }
    changed = memcmp(&next, &t->view, sizeof next) != 0;
    memcpy(&t->view, &next, sizeof next);
    return changed;
}

bool ha_view_group(struct ha_view_tracker *t, const uint32_t *nodeids, unsigned count)
{
    t->have_group = true;
    t->group_count = list_take(t->group, ARRAY_SIZE(t->group), nodeids, count);
    return recompute(t);
}

bool ha_view_totem(struct ha_view_tracker *t, struct ha_ring ring,
                   const uint32_t *nodeids, unsigned count)
{
    t->have_totem = true;
    t->totem_ring = ring;
    t->totem_count = list_take(t->totem, ARRAY_SIZE(t->totem), nodeids, count);
    return recompute(t);
}

bool ha_view_nodelist(struct ha_view_tracker *t, struct ha_ring ring,
                      const uint32_t *nodeids, unsigned count)
{
    t->have_nodelist = true;
    t->nodelist_ring = ring;
    t->nodelist_count = list_take(t->nodelist, ARRAY_SIZE(t->nodelist), nodeids, count);
    return recompute(t);
}

bool ha_view_quorum(struct ha_view_tracker *t, struct ha_ring ring, bool quorate,
                    unsigned votes_needed)
{
    t->have_quorum = true;
    t->quorum_ring = ring;
    t->quorate = quorate;
    t->votes_needed = votes_needed;
    return recompute(t);
}

bool ha_view_lost(struct ha_view_tracker *t)
{
    t->have_group = t->have_totem = t->have_nodelist = t->have_quorum = false;
    return recompute(t);
}
