/* SPDX-License-Identifier: Apache-2.0 */
/* `gemel vm start`, `resume`, `retry`: where, and of mirrored disks from which copy. */
#include <string.h>

#include "ha/ha_op_priv.h"
#include "ha/ha_text.h"

/* Refuses what would wait for ever. */
static bool may_run_somewhere(struct op_run *run, const struct ha_vm *vm)
{
    uint32_t participant[NODES_MAX];
    char why[REASON_LEN_MAX + 1];
    struct ha_policy_in in;
    struct ha_place place;

    ha_place_now(run->agent, run->now_ns, &in, participant, &place);
    if (!ha_vm_rests(vm) || vm->conf == NULL || !ha_place_never(&place, vm, why)) {
        return true;
    }
    ha_op_answer(run, EXIT_REFUSED, vm->name, ": ", why);
    return false;
}

/* Its last owner is dead, and waits for nothing but a node that may take it. */
static bool only_lacks_node(const struct op_run *run, const struct ha_vm *vm)
{
    const struct proof_table *proofs = &run->agent->state.proofs;
    struct proof_answer answer;

    return vm->state == HA_VM_UNKNOWN && vm->move.to == 0 &&
           (vm->twin.to == 0 ||
            proof_is_dead(proofs, vm->twin.to, &vm->twin.to_incarnation, &answer)) &&
           proof_covers(proofs, vm->owner, &vm->owner_incarnation, vm->uuid, vm->epoch,
                        vm->instance, &answer);
}

/* Where it ran last, and may still run. */
static void not_proven_dead(struct op_run *run, const struct ha_vm *vm)
{
    const struct ha_node *owner = ha_state_node(&run->agent->state, vm->owner);
    const char *name = owner != NULL ? owner->name : "its last node";
    char *text = run->result.text;
    const size_t cap = sizeof run->result.text;

    ha_op_answer(run, EXIT_REFUSED, vm->name, ": may still run on ", name);
    ha_text_add(text, cap, ", which left the view and is not proven dead");
    ha_text_add(text, cap,
                owner != NULL && owner->fence == HA_FENCE_PENDING
                    ? ": it is being fenced; "
                    : "; ");
    ha_text_add(text, cap, "see gemel explain ");
    ha_text_add(text, cap, vm->name);
    ha_text_add(text, cap,
                "; when you have seen that it is off: gemel node confirm-off ");
    ha_text_add(text, cap, name);
    ha_text_add(text, cap, " --reason TEXT");
}

static void is_elsewhere(struct op_run *run, const struct ha_vm *vm, const char *name)
{
    bool runs = vm->state == HA_VM_RUNNING;
    char *text = run->result.text;
    const size_t cap = sizeof run->result.text;

    ha_op_answer(run, EXIT_REFUSED, vm->name, ": is ", ha_vm_state_str(vm->state));
    ha_text_add(text, cap, runs ? "; to move it to " : "; to start it on ");
    ha_text_add(text, cap, name);
    ha_text_add(text, cap,
                runs ? ": gemel vm migrate " : ", stop it first: gemel vm stop ");
    ha_text_add(text, cap, vm->name);
    if (runs) {
        ha_text_add(text, cap, " ");
        ha_text_add(text, cap, name);
    }
}

/* The operator names the node: this one, or none. `accepts`: its copy of mirrored disks
 * as it is. */
static const struct ha_node *node_for(struct op_run *run, const struct ha_vm *vm,
                                      const char *name, bool accepts)
{
    struct ha_agent *agent = run->agent;
    const struct ha_node *node = ha_state_node_by_name(&agent->state, name);
    uint32_t participant[NODES_MAX];
    struct ha_policy_in in;
    struct ha_place place;

    if (node == NULL) {
        ha_op_answer(run, EXIT_NOT_FOUND, "no node is named ", name,
                     "; see gemel node list");
        return NULL;
    }
    if (vm->state == HA_VM_UNKNOWN && !only_lacks_node(run, vm)) {
        not_proven_dead(run, vm);
        return NULL;
    }
    if (vm->state != HA_VM_STOPPED && vm->state != HA_VM_SUSPENDED &&
        vm->state != HA_VM_UNKNOWN) {
        is_elsewhere(run, vm, name);
        return NULL;
    }
    ha_place_now(run->agent, run->now_ns, &in, participant, &place);
    if (accepts && ha_place_copy(&place, vm, node->nodeid)) {
        return node;
    }
    return ha_op_fits(run, &place, vm, node, (run->op->flags & HA_OP_FORCE) != 0) ? node
                                                                                  : NULL;
}

/* False: answered; there is no copy to be accepted. */
static bool may_accept(struct op_run *run, const struct ha_vm *vm, const char *node)
{
    if (node[0] == '\0') {
        ha_op_answer(run, EXIT_USAGE,
                     "vm start --accept-copy needs --node NODE: the one "
                     "whose copy is to be taken; gemel vm show ",
                     vm->name, " lists those that count");
        return false;
    }
    if (vm->conf == NULL || !conf_vm_has_mirrors(vm->conf)) {
        ha_op_answer(run, EXIT_REFUSED, vm->name,
                     ": has no mirrored disks, so there is no copy to be accepted", "");
        return false;
    }
    if (vm->state == HA_VM_SUSPENDED && (run->op->flags & HA_OP_DISCARD) == 0) {
        ha_op_answer(run, EXIT_REFUSED, vm->name,
                     ": is suspended, and its state belongs to the copies that count; "
                     "another one only with --discard-state as well",
                     "");
        return false;
    }
    return true;
}

/* Its owner thaws a paused VM by itself, from time to time; this is now. */
static void thaw_now(struct op_run *run, const struct ha_vm *record)
{
    struct ha_vm vm = *record;
    char event[REASON_LEN_MAX + 1];

    vm.state = HA_VM_STARTING;
    vm.attempt = run->agent->ops->new_uuid(run->agent->ctx);
    ha_op_emit_vm(run, &vm, ha_op_by(run, event, sizeof event, "paused, tried again"));
    ha_op_answer(run, EXIT_DONE, vm.name, ": is paused, and tried again now", "");
}

/* There, or not at all. */
static void order_on(const struct op_run *run, struct ha_vm *vm,
                     const struct ha_node *node, bool accepts, bool was_wanted,
                     char reason[static REASON_LEN_MAX + 1])
{
    vm->accept_copy = accepts; /* claims may know more of copies than the record */
    vm->back_to = vm->state == HA_VM_SUSPENDED ? HA_VM_SUSPENDED : HA_VM_STOPPED;
    vm->was_wanted = was_wanted;
    vm->state = HA_VM_STARTING;
    vm->owner = node->nodeid;
    vm->owner_incarnation = node->incarnation;
    vm->attempt = run->agent->ops->new_uuid(run->agent->ctx);
    ha_text_add(reason, REASON_LEN_MAX + 1, "; starting on ");
    ha_text_add(reason, REASON_LEN_MAX + 1, node->name);
    if (vm->accept_copy) {
        ha_text_add(reason, REASON_LEN_MAX + 1,
                    " from its copy of the disks, which is not known to be in sync: what "
                    "was written since it was is given up (--accept-copy)");
    }
}

void ha_op_vm_start(struct op_run *run)
{
    const struct ha_vm *record = ha_op_find_vm(run);
    const struct ha_node *node = NULL;
    char node_name[NODE_NAME_MAX + 1] = "", reason[REASON_LEN_MAX + 1];
    bool accepts = (run->op->flags & HA_OP_ACCEPT) != 0;
    struct ha_vm vm;

    if (record == NULL) {
        return;
    }
    if (run->op->body_len >= sizeof node_name) {
        ha_op_answer(run, EXIT_NOT_FOUND, "no node has such a name; see gemel node list",
                     "", "");
        return;
    }
    memcpy(node_name, run->op->body, run->op->body_len);
    node_name[run->op->body_len] = '\0';
    vm = *record;
    if (vm.move.to != 0) {
        ha_op_busy(run, &vm);
        return;
    }
    node = ha_state_node(&run->agent->state, vm.owner);
    if (vm.desired == HA_DESIRED_RUNNING && vm.state == HA_VM_RUNNING &&
        (node_name[0] == '\0' || (node != NULL && strcmp(node->name, node_name) == 0))) {
        ha_op_answer(run, EXIT_DONE, vm.name, ": runs already", "");
        return;
    }
    if (vm.desired == HA_DESIRED_RUNNING && vm.task == HA_TASK_NONE &&
        ha_vm_paused(&vm) &&
        (node_name[0] == '\0' || (node != NULL && strcmp(node->name, node_name) == 0))) {
        thaw_now(run, &vm);
        return;
    }
    if (vm.task == HA_TASK_NONE || vm.task == HA_TASK_DISCARD) {
        vm.task = (run->op->flags & HA_OP_DISCARD) != 0 ? HA_TASK_DISCARD : HA_TASK_NONE;
    } else if (node_name[0] != '\0') {
        ha_op_busy(run, &vm);
        return;
    }
    if (accepts && !may_accept(run, &vm, node_name)) {
        return;
    }
    vm.desired = HA_DESIRED_RUNNING;
    vm.back_to = HA_VM_INVALID;
    vm.failures = vm.restarts = 0;
    vm.avoid = 0;
    vm.kill = false;
    if (vm.state == HA_VM_HELD || vm.state == HA_VM_FAILED) {
        vm.state = HA_VM_STOPPED;
    }
    ha_op_by(run, reason, sizeof reason,
             vm.state != HA_VM_SUSPENDED  ? "started"
             : vm.task == HA_TASK_DISCARD ? "started, its suspended state given up"
                                          : "resumed");
    if (node_name[0] == '\0' && !may_run_somewhere(run, &vm)) {
        return;
    }
    if (node_name[0] != '\0') {
        node = node_for(run, &vm, node_name, accepts);
        if (node == NULL) {
            return;
        }
        order_on(run, &vm, node, accepts,
                 record->desired == HA_DESIRED_RUNNING && record->state == HA_VM_UNKNOWN,
                 reason);
    }
    ha_text_set(vm.reason, sizeof vm.reason, reason, NULL);
    ha_op_emit_vm(run, &vm, vm.reason);
    ha_op_answer(run, EXIT_DONE, vm.name, ": wanted running", "");
}
