/* SPDX-License-Identifier: Apache-2.0 */
/* Copies of mirrored disks, for people: which count, and what that means for a start. */
#include "ha/ha_json_priv.h"
#include "ha/ha_place.h"
#include "ha/ha_text.h"

static bool has_copies(const struct ha_vm *vm)
{
    return vm->conf != NULL && conf_vm_has_mirrors(vm->conf) && vm->mirror[0] != 0;
}

void ha_json_copies(struct ha_daemon *d, json_object *o, const struct ha_vm *vm)
{
    json_object *list;

    if (!has_copies(vm)) {
        return;
    }
    list = json_object_new_array();
    for (unsigned i = 0; i < d->agent.state.node_count; i++) {
        const struct ha_node *node = &d->agent.state.node[i];
        json_object *copy = json_object_new_object();

        ha_json_put_str(copy, "node", node->name);
        json_object_object_add(
            copy, "counts", json_object_new_boolean(ha_vm_copy_counts(vm, node->nodeid)));
        json_object_array_add(list, copy);
    }
    json_object_object_add(o, "copies", list);
}

/* It starts where a copy counts: is any of these nodes there? */
static bool any_is_here(struct ha_daemon *d, const struct ha_vm *vm)
{
    for (unsigned i = 0; i < CLAIM_MIRRORS_MAX; i++) {
        if (vm->mirror[i] != 0 && ha_view_has(&d->agent.view, vm->mirror[i])) {
            return true;
        }
    }
    return false;
}

void ha_json_explain_copies(struct ha_daemon *d, const struct ha_vm *vm, json_object *a)
{
    char copies[REASON_LEN_MAX + 1], text[REASON_LEN_MAX * 2];

    if (!has_copies(vm)) {
        return;
    }
    ha_place_copies(&d->agent.state, vm, copies);
    ha_json_add_line(a, "its copies of mirrored disks that count: ", copies,
                     "; it starts only there");
    if (vm->state == HA_VM_RUNNING || any_is_here(d, vm)) {
        return;
    }
    ha_text_set(text, sizeof text, "gemel vm start ", vm->name, " --node NODE ", NULL);
    ha_json_add_line(a,
                     "none of these nodes is here; to give up what was written since "
                     "another node's copy was in sync: ",
                     text, "--accept-copy");
}
