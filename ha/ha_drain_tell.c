/* SPDX-License-Identifier: Apache-2.0 */
#include "ha/ha_drain_tell.h"

#include <string.h>

#include "ha/ha_drain.h"
#include "ha/ha_pending.h"
#include "ha/ha_text.h"

#define NAMED_MAX 4u

static void add(struct ha_drain_left *left, const char *name)
{
    if (left->count < NAMED_MAX) {
        ha_text_add(left->names, sizeof left->names, left->count > 0 ? ", " : "");
        ha_text_add(left->names, sizeof left->names, name);
    }
    left->count++;
}

static void say_more(struct ha_drain_left *left)
{
    if (left->count > NAMED_MAX) {
        ha_text_add(left->names, sizeof left->names, " and ");
        ha_text_add_u64(left->names, sizeof left->names, left->count - NAMED_MAX);
        ha_text_add(left->names, sizeof left->names, " more");
    }
}

void ha_drain_leaving(const struct ha_state *state, uint32_t nodeid,
                      struct ha_drain_left *ret)
{
    *ret = (struct ha_drain_left){0};
    for (unsigned i = 0; i < state->vm_count; i++) {
        const struct ha_vm *vm = state->vm[i];

        /* One on its way there since before arrives, and leaves. */
        if ((vm->owner == nodeid && !ha_vm_rests(vm)) || vm->move.to == nodeid) {
            add(ret, vm->name);
        }
    }
    say_more(ret);
}

void ha_drain_returning(const struct ha_state *state, uint32_t nodeid,
                        struct ha_drain_left *ret)
{
    *ret = (struct ha_drain_left){0};
    for (unsigned i = 0; i < state->vm_count; i++) {
        const struct ha_vm *vm = state->vm[i];

        /* One that is leaving still comes back as well. */
        if (vm->home == nodeid && (vm->owner != nodeid || vm->move.to != 0)) {
            add(ret, vm->name);
        }
    }
    say_more(ret);
}

static bool last_try(const struct ha_vm *vm, char *why)
{
    if (!vm->last_failed || vm->last[0] == '\0') {
        return false;
    }
    ha_text_set(why, REASON_LEN_MAX + 1, "its last try: ", vm->last, NULL);
    return true;
}

static bool cannot_leave(const struct ha_vm *vm, char *why)
{
    const char *at = vm->reason;

    if (ha_vm_paused(vm)) {
        ha_text_set(why, REASON_LEN_MAX + 1, "it is ", vm->reason, NULL);
        return true;
    }
    if (vm->state != HA_VM_RUNNING) {
        return false; /* under way, to somewhere */
    }
    if (strncmp(at, HA_CANNOT_LEAVE, sizeof HA_CANNOT_LEAVE - 1) == 0) {
        at = strstr(at, ": ");
        ha_text_set(why, REASON_LEN_MAX + 1, at != NULL ? at + 2 : vm->reason, NULL);
        return true;
    }
    return last_try(vm, why);
}

bool ha_drain_stuck(const struct ha_place *place, const struct ha_vm *vm,
                    char why[static REASON_LEN_MAX + 1])
{
    const struct ha_node *owner = ha_state_node(place->in->state, vm->owner);
    const struct ha_node *home = ha_state_node(place->in->state, vm->home);

    why[0] = '\0';
    if (ha_vm_rests(vm) || vm->move.to != 0) {
        return false;
    }
    if (owner != NULL && owner->maintenance) {
        return cannot_leave(vm, why);
    }
    if (home != NULL && home != owner && !home->maintenance) {
        char one[REASON_LEN_MAX + 1];
        struct ha_vm runs = *vm;
        struct conf_vm conf;

        runs.conf = ha_pending_goes_on(vm, &conf) ? &conf : NULL;
        if (ha_place_why(place, &runs, vm->home, one) != HA_PLACE_FITS) {
            ha_text_set(why, REASON_LEN_MAX + 1, home->name, " ", one, NULL);
            return true;
        }
        return last_try(vm, why);
    }
    return false;
}

void ha_drain_problem(const struct ha_state *state, const struct ha_vm *vm,
                      const char *why, char *text, size_t cap)
{
    const struct ha_node *owner = ha_state_node(state, vm->owner);
    const char *name = owner != NULL ? owner->name : "its node";

    ha_text_set(text, cap, vm->name, " cannot leave ", name,
                ", which is in maintenance: ", why,
                "; it is tried again. Else: gemel vm stop ", vm->name,
                ", or gemel node maintenance ", name, " off", NULL);
}
