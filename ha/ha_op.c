/* SPDX-License-Identifier: Apache-2.0 */
/* An operator's change, carried out by the coordinator: checked whole, then sent as
 * updates; the answer waits at the node where it was asked for until a majority has the
 * last of them on disk (R9). */
#include <string.h>

#include "base/uuid.h"
#include "cluster-conf/conf_scalar.h"
#include "ha/ha_op_priv.h"
#include "ha/ha_pending.h"
#include "ha/ha_text.h"

void ha_op_answer(struct op_run *run, uint32_t exit_code, const char *a, const char *b,
                  const char *c)
{
    run->result.exit_code = exit_code;
    ha_text_set(run->result.text, sizeof run->result.text, a, b, c, NULL);
}

const char *ha_op_by(const struct op_run *run, char *text, size_t cap, const char *what)
{
    ha_text_set(text, cap, what, " by ", run->op->actor, NULL);
    if (run->op->reason[0] != '\0') {
        ha_text_add(text, cap, ": ");
        ha_text_add(text, cap, run->op->reason);
    }
    return text;
}

bool ha_op_dry_run(const struct op_run *run)
{
    return (run->op->flags & HA_OP_DRY_RUN) != 0;
}

void ha_op_emit_vm(struct op_run *run, const struct ha_vm *vm, const char *what)
{
    char event[REASON_LEN_MAX + 1];

    if (ha_op_dry_run(run)) {
        return;
    }
    ha_text_set(event, sizeof event, vm->name, ": ", what, NULL);
    ha_coord_emit_vm(run->agent, vm, run->op->uid, event);
}

const struct ha_vm *ha_op_find_vm(struct op_run *run)
{
    const struct ha_vm *vm = ha_state_vm_by_name(&run->agent->state, run->op->object);

    if (vm == NULL) {
        ha_op_answer(run, EXIT_NOT_FOUND, "no VM is named ", run->op->object,
                     "; see gemel vm list");
    }
    return vm;
}

static void op_cluster_recover(struct op_run *run)
{
    ha_op_answer(
        run, EXIT_REFUSED,
        "cluster recover: there is nothing to recover: a majority has the cluster's "
        "state",
        "", "");
}

static void op_cluster_stop(struct op_run *run)
{
    struct ha_agent *agent = run->agent;
    struct ha_cluster next = agent->state.cluster;
    char event[REASON_LEN_MAX + 1];
    unsigned stopping = 0;
    size_t len;

    for (unsigned i = 0; i < agent->state.vm_count; i++) {
        struct ha_vm vm = *agent->state.vm[i];

        if (vm.desired == HA_DESIRED_RUNNING) {
            stopping++;
            vm.desired = HA_DESIRED_STOPPED;
            ha_op_by(run, vm.reason, sizeof vm.reason, "cluster stop");
            ha_op_emit_vm(run, &vm, "wanted stopped: cluster stop");
        }
    }
    next.stopped = true;
    if (!ha_op_dry_run(run)) {
        len = ha_item_put_cluster(&next, agent->scratch, sizeof agent->scratch);
        ha_coord_emit(agent, HA_ITEM_CLUSTER, agent->scratch, len, run->op->uid,
                      ha_op_by(run, event, sizeof event, "cluster stop"));
    }
    ha_op_answer(run, EXIT_DONE, "cluster stop: ",
                 stopping == 0 ? "no VM was wanted running" : "VMs are stopping", "");
}

/* Where copies count, and how one is taken that does not. */
static void say_copies(struct op_run *run, const struct ha_vm *vm,
                       const struct ha_node *node)
{
    char copies[REASON_LEN_MAX + 1], *text = run->result.text;
    const size_t cap = sizeof run->result.text;

    ha_place_copies(&run->agent->state, vm, copies);
    ha_text_add(text, cap, "; it is on ");
    ha_text_add(text, cap, copies);
    ha_text_add(text, cap,
                "; to give up what was written since this one was in sync: gemel vm "
                "start ");
    ha_text_add(text, cap, vm->name);
    ha_text_add(text, cap, " --node ");
    ha_text_add(text, cap, node->name);
    ha_text_add(text, cap, " --accept-copy");
}

bool ha_op_fits(struct op_run *run, const struct ha_place *place, const struct ha_vm *vm,
                const struct ha_node *node, bool force)
{
    char why[REASON_LEN_MAX + 1];
    enum ha_place_reason reason = ha_place_why(place, vm, node->nodeid, why);

    if (reason == HA_PLACE_FITS || (reason == HA_PLACE_ANTI_AFFINITY && force)) {
        return true;
    }
    ha_op_answer(run, EXIT_REFUSED, node->name, " ", why);
    if (reason == HA_PLACE_MIRROR) {
        say_copies(run, vm, node);
        return false;
    }
    ha_text_add(run->result.text, sizeof run->result.text,
                reason == HA_PLACE_ANTI_AFFINITY ? "; all the same: --force"
                : reason == HA_PLACE_MEMORY      ? "; see gemel node list"
                : reason == HA_PLACE_NOT_READY   ? "; see gemel explain "
                                                 : "");
    ha_text_add(run->result.text, sizeof run->result.text,
                reason == HA_PLACE_NOT_READY ? node->name : "");
    return false;
}

static void busy_moving(struct op_run *run, const struct ha_vm *vm)
{
    const struct ha_node *from = ha_state_node(&run->agent->state, vm->owner);
    const struct ha_node *to = ha_state_node(&run->agent->state, vm->move.to);
    char *text = run->result.text;
    const size_t cap = sizeof run->result.text;

    ha_op_answer(run, EXIT_REFUSED, vm->name, ": is being migrated from ",
                 from != NULL ? from->name : "its node");
    ha_text_add(text, cap, " to ");
    ha_text_add(text, cap, to != NULL ? to->name : "another one");
    ha_text_add(text, cap,
                vm->move.called_off ? ", which is being given up; try again in a moment"
                                    : "; wait until that is done (gemel explain ");
    if (!vm->move.called_off) {
        ha_text_add(text, cap, vm->name);
        ha_text_add(text, cap, "), or give it up: gemel vm migrate ");
        ha_text_add(text, cap, vm->name);
        ha_text_add(text, cap, " --cancel");
    }
}

void ha_op_busy(struct op_run *run, const struct ha_vm *vm)
{
    if (vm->move.to != 0 && !ha_vm_upgrading(vm)) {
        busy_moving(run, vm);
        return;
    }
    ha_op_answer(run, EXIT_REFUSED, vm->name, ": is ",
                 vm->task == HA_TASK_REVERT     ? "being reverted to a snapshot"
                 : vm->task == HA_TASK_SNAPSHOT ? "being saved to a snapshot"
                 : ha_vm_upgrading(vm)          ? "being upgraded"
                                                : ha_vm_state_str(vm->state));
    ha_text_add(run->result.text, sizeof run->result.text,
                "; wait until that is done: gemel explain ");
    ha_text_add(run->result.text, sizeof run->result.text, vm->name);
}

/* True: answered; what is refused while it has a twin. */
static bool has_twin(struct op_run *run, const struct ha_vm *vm)
{
    const struct ha_node *node = ha_state_node(&run->agent->state, vm->twin.to);

    if (vm->twin.to == 0) {
        return false;
    }
    ha_op_answer(run, EXIT_REFUSED, vm->name,
                 vm->twin.ending       ? ": is being unprotected; its twin is on "
                 : ha_vm_protected(vm) ? ": is protected, and its twin is on "
                                       : ": is being protected, by a twin on ",
                 node != NULL ? node->name : "another node");
    ha_text_add(run->result.text, sizeof run->result.text,
                "; first: gemel vm unprotect ");
    ha_text_add(run->result.text, sizeof run->result.text, vm->name);
    return true;
}

/* True: answered; what would lose the writes that are held. */
static bool is_held(struct op_run *run, const struct ha_vm *vm)
{
    const struct ha_node *old;

    if (!ha_vm_holds(vm)) {
        return false;
    }
    old = ha_state_node(&run->agent->state, vm->held.node);
    ha_op_answer(run, EXIT_REFUSED, vm->name,
                 ": its writes are held until nothing can come any more from its old "
                 "host, ",
                 old != NULL ? old->name : "which is in the cluster no more");
    ha_text_add(run->result.text, sizeof run->result.text,
                "; try again then, or: gemel explain ");
    ha_text_add(run->result.text, sizeof run->result.text, vm->name);
    return true;
}

/* Refuses what can only be done to a running VM. */
bool ha_op_runs(struct op_run *run, const struct ha_vm *vm, const char *what)
{
    if (vm->task == HA_TASK_SNAPSHOT || vm->task == HA_TASK_REVERT ||
        vm->state == HA_VM_SUSPENDING || vm->move.to != 0) {
        ha_op_busy(run, vm);
        return false;
    }
    if (has_twin(run, vm)) {
        return false;
    }
    if (is_held(run, vm)) {
        return false;
    }
    if (vm->memory_from != 0) {
        const struct ha_node *from = ha_state_node(&run->agent->state, vm->memory_from);

        ha_op_answer(run, EXIT_REFUSED, vm->name,
                     ": a part of its memory is still coming (post-copy) from ",
                     from != NULL ? from->name : "its last node");
        ha_text_add(run->result.text, sizeof run->result.text,
                    "; try again when that is over, see gemel vm show");
        return false;
    }
    if (vm->state != HA_VM_RUNNING || vm->desired != HA_DESIRED_RUNNING) {
        ha_op_answer(run, EXIT_REFUSED, vm->name, ": is ", ha_vm_state_str(vm->state));
        ha_text_add(run->result.text, sizeof run->result.text,
                    "; only a running VM can be ");
        ha_text_add(run->result.text, sizeof run->result.text, what);
        return false;
    }
    return true;
}

static void op_vm_suspend(struct op_run *run)
{
    const struct ha_vm *record = ha_op_find_vm(run);
    struct ha_vm vm;

    if (record == NULL) {
        return;
    }
    vm = *record;
    if (vm.state == HA_VM_SUSPENDED && vm.desired == HA_DESIRED_SUSPENDED) {
        ha_op_answer(run, EXIT_DONE, vm.name, ": is suspended already", "");
        return;
    }
    if (!ha_op_runs(run, &vm, "suspended")) {
        return;
    }
    vm.desired = HA_DESIRED_SUSPENDED;
    vm.last[0] = '\0';
    ha_op_by(run, vm.reason, sizeof vm.reason, "suspended");
    ha_op_emit_vm(run, &vm, vm.reason);
    ha_op_answer(run, EXIT_DONE, vm.name, ": wanted suspended", "");
}

static void op_vm_resume(struct op_run *run)
{
    const struct ha_vm *record = ha_op_find_vm(run);

    if (record == NULL) {
        return;
    }
    if (record->move.to != 0) {
        ha_op_busy(run, record);
        return;
    }
    if (record->state != HA_VM_SUSPENDED && record->desired != HA_DESIRED_SUSPENDED &&
        record->state != HA_VM_RUNNING && !ha_vm_paused(record)) {
        ha_op_answer(run, EXIT_REFUSED, record->name, ": is ",
                     ha_vm_state_str(record->state));
        ha_text_add(run->result.text, sizeof run->result.text,
                    ", not suspended: gemel vm start ");
        ha_text_add(run->result.text, sizeof run->result.text, record->name);
        return;
    }
    ha_op_vm_start(run);
}

/* The name of a snapshot, from the body. */
static bool snapshot_of(struct op_run *run, char *ret_id)
{
    if (run->op->body_len > 0 && run->op->body_len <= SNAPSHOT_ID_MAX) {
        memcpy(ret_id, run->op->body, run->op->body_len);
        ret_id[run->op->body_len] = '\0';
        if (conf_name_ok(ret_id)) {
            return true;
        }
    }
    ha_op_answer(run, EXIT_USAGE, run->op->verb,
                 ": a snapshot's name is 1 to 63 letters, digits, '.', '_' and '-'", "");
    return false;
}

static void op_vm_snapshot(struct op_run *run)
{
    const struct ha_vm *record = ha_op_find_vm(run);
    char id[SNAPSHOT_ID_MAX + 1];
    struct ha_vm vm;

    if (record == NULL || !snapshot_of(run, id) ||
        !ha_op_runs(run, record, "saved with its state")) {
        return;
    }
    vm = *record;
    vm.task = HA_TASK_SNAPSHOT;
    ha_text_set(vm.snapshot, sizeof vm.snapshot, id, NULL);
    vm.last[0] = '\0';
    ha_op_by(run, vm.reason, sizeof vm.reason, "snapshot asked for");
    ha_op_emit_vm(run, &vm, vm.reason);
    ha_op_answer(run, EXIT_DONE, vm.name, ": snapshot under way: ", id);
}

static void op_vm_revert(struct op_run *run)
{
    const struct ha_vm *record = ha_op_find_vm(run);
    char id[SNAPSHOT_ID_MAX + 1];
    struct ha_vm vm;

    if (record == NULL || !snapshot_of(run, id)) {
        return;
    }
    vm = *record;
    if (has_twin(run, &vm)) {
        return;
    }
    if (vm.task == HA_TASK_SNAPSHOT || vm.task == HA_TASK_REVERT || vm.move.to != 0 ||
        (vm.state != HA_VM_RUNNING && !ha_vm_rests(&vm))) {
        ha_op_busy(run, &vm);
        return;
    }
    if (vm.state == HA_VM_FAILED || vm.state == HA_VM_HELD) {
        vm.state = HA_VM_STOPPED;
    }
    vm.desired = HA_DESIRED_RUNNING;
    vm.task = HA_TASK_REVERT;
    vm.failures = vm.restarts = 0;
    vm.avoid = 0;
    vm.kill = false;
    ha_text_set(vm.snapshot, sizeof vm.snapshot, id, NULL);
    vm.last[0] = '\0';
    ha_op_by(run, vm.reason, sizeof vm.reason, "reverted to a snapshot");
    ha_op_emit_vm(run, &vm, vm.reason);
    ha_op_answer(run, EXIT_DONE, vm.name, ": to be reverted to snapshot ", id);
}

static void op_vm_stop(struct op_run *run)
{
    const struct ha_vm *record = ha_op_find_vm(run);
    struct ha_vm vm;

    if (record == NULL) {
        return;
    }
    vm = *record;
    if (vm.state == HA_VM_SUSPENDED) {
        ha_op_answer(
            run, EXIT_REFUSED, vm.name,
            ": is suspended, nothing of it runs; to give that state up: gemel vm "
            "start --discard-state ",
            vm.name);
        return;
    }
    if ((run->op->flags & HA_OP_KILL) == 0 &&
        (vm.state == HA_VM_SUSPENDING || vm.move.to != 0 || vm.task == HA_TASK_SNAPSHOT ||
         vm.task == HA_TASK_REVERT)) {
        ha_op_busy(run, &vm);
        return;
    }
    if ((run->op->flags & HA_OP_KILL) == 0 && is_held(run, &vm)) {
        ha_text_add(run->result.text, sizeof run->result.text,
                    "; to lose what is held: gemel vm kill ");
        ha_text_add(run->result.text, sizeof run->result.text, vm.name);
        return;
    }
    vm.desired = HA_DESIRED_STOPPED;
    vm.back_to = HA_VM_INVALID;
    vm.kill = (run->op->flags & HA_OP_KILL) != 0;
    vm.move.called_off = vm.move.to != 0;
    if (vm.task != HA_TASK_NONE) {
        vm.task = HA_TASK_NONE; /* killed in the middle of it */
        vm.snapshot[0] = '\0';
        vm.last_failed = true;
        ha_op_by(run, vm.last, sizeof vm.last, "interrupted: killed");
    }
    ha_op_by(run, vm.reason, sizeof vm.reason, vm.kill ? "killed" : "stopped");
    if (vm.state == HA_VM_STOPPING && vm.kill && !record->kill) {
        vm.attempt =
            run->agent->ops->new_uuid(run->agent->ctx); /* the owner is told again */
    }
    ha_op_emit_vm(run, &vm, vm.reason);
    ha_op_answer(run, EXIT_DONE, vm.name, ": wanted stopped", "");
}

static void op_vm_delete(struct op_run *run)
{
    const struct ha_vm *record = ha_op_find_vm(run);
    struct ha_vm vm;

    if (record == NULL) {
        return;
    }
    vm = *record;
    if (vm.move.to != 0) {
        ha_op_busy(run, &vm);
        return;
    }
    if (vm.state != HA_VM_STOPPED && vm.state != HA_VM_SUSPENDED) {
        ha_op_answer(run, EXIT_REFUSED, vm.name, ": is ", ha_vm_state_str(vm.state));
        ha_text_add(run->result.text, sizeof run->result.text,
                    "; stop it first: gemel vm stop ");
        ha_text_add(run->result.text, sizeof run->result.text, vm.name);
        return;
    }
    vm.desired = HA_DESIRED_DELETED;
    ha_op_by(run, vm.reason, sizeof vm.reason, "deleted");
    ha_op_emit_vm(run, &vm, vm.reason);
    ha_op_answer(run, EXIT_DONE, vm.name, ": deleted; its directory with the disks stays",
                 "");
}

static const struct ha_node *find_node(struct op_run *run)
{
    const struct ha_node *node =
        ha_state_node_by_name(&run->agent->state, run->op->object);

    if (node == NULL) {
        ha_op_answer(run, EXIT_NOT_FOUND, "no node is named ", run->op->object,
                     "; see gemel node list");
    }
    return node;
}

static void op_node_fence(struct op_run *run)
{
    const struct ha_node *record = find_node(run);
    char event[REASON_LEN_MAX + 1];
    struct ha_node node;

    if (record == NULL) {
        return;
    }
    node = *record;
    if (ha_view_has(&run->agent->view, node.nodeid)) {
        ha_op_answer(run, EXIT_REFUSED, node.name,
                     ": is in the view and answers; a node is switched off only when "
                     "it is not: stop Corosync there, or use its own power button",
                     "");
        return;
    }
    node.fence = HA_FENCE_PENDING;
    node.fence_incarnation = node.incarnation;
    node.fence_uid = run->agent->ops->new_uuid(run->agent->ctx);
    node.fence_executor = run->agent->self.nodeid;
    node.fence_attempts++;
    ha_op_by(run, node.fence_detail, sizeof node.fence_detail, "asked for");
    ha_text_set(event, sizeof event, node.name, ": fencing, ", node.fence_detail, NULL);
    if (!ha_op_dry_run(run)) {
        ha_coord_emit_node(run->agent, &node, run->op->uid, event);
    }
    ha_op_answer(run, EXIT_DONE, node.name, ": fencing", "");
}

static void op_confirm_off(struct op_run *run)
{
    const struct ha_node *node = find_node(run);
    struct proof proof = {.kind = PROOF_CONFIRM_OFF};
    enum proof_confirm_reason reason;
    char event[REASON_LEN_MAX + 1];
    size_t len;

    if (node == NULL) {
        return;
    }
    reason = proof_confirm_check(node->name, run->op->object, run->op->reason,
                                 ha_view_has(&run->agent->view, node->nodeid) ||
                                     ha_view_away(&run->agent->view, node->nodeid));
    if (reason != PROOF_CONFIRM_OK) {
        ha_op_answer(run, EXIT_REFUSED, node->name,
                     ": not taken: ", proof_confirm_reason_str(reason));
        return;
    }
    if (incarnation_is_none(&node->incarnation)) {
        ha_op_answer(run, EXIT_REFUSED, node->name,
                     ": was never seen; there is nothing to confirm", "");
        return;
    }
    proof.node_id = node->nodeid;
    proof.inc = node->incarnation;
    ha_text_set(proof.source, sizeof proof.source, run->op->actor, NULL);
    ha_text_set(proof.reason, sizeof proof.reason, run->op->reason, NULL);
    ha_text_set(event, sizeof event, node->name, ": confirmed off by ", run->op->actor,
                ": ", run->op->reason, NULL);
    if (!ha_op_dry_run(run)) {
        len = ha_item_put_proof(&proof, NULL, run->agent->scratch,
                                sizeof run->agent->scratch);
        ha_coord_emit(run->agent, HA_ITEM_PROOF, run->agent->scratch, len, run->op->uid,
                      event);
    }
    ha_op_answer(run, EXIT_DONE, node->name, ": confirmed off; its VMs start elsewhere",
                 "");
}

static const struct {
    const char *verb;
    void (*run)(struct op_run *run);
} op_table[] = {
    {"cluster apply", ha_op_cluster_apply},
    {"cluster recover", op_cluster_recover},
    {"cluster stop", op_cluster_stop},
    {"vm apply", ha_op_vm_apply},
    {"vm start", ha_op_vm_start},
    {"vm retry", ha_op_vm_start},
    {"vm suspend", op_vm_suspend},
    {"vm migrate", ha_op_vm_migrate},
    {"vm upgrade", ha_op_vm_upgrade},
    {"vm protect", ha_op_vm_protect},
    {"vm unprotect", ha_op_vm_unprotect},
    {"vm switchover", ha_op_vm_switchover},
    {"vm resume", op_vm_resume},
    {"vm snapshot", op_vm_snapshot},
    {"vm revert", op_vm_revert},
    {"vm stop", op_vm_stop},
    {"vm delete", op_vm_delete},
    {"node fence", op_node_fence},
    {"node maintenance", ha_op_node_maintenance},
    {"node confirm-off", op_confirm_off},
};

void ha_coord_op(struct ha_agent *agent, const struct ha_op *op, uint64_t now_ns)
{
    struct op_run run = {.agent = agent, .op = op, .now_ns = now_ns};
    struct ha_msg msg = {.type = HA_MSG_OP_RESULT};
    uint64_t before = agent->sent_version;

    run.result.uid = op->uid;
    ha_op_answer(&run, EXIT_USAGE, op->verb,
                 ": not known to the coordinator (an older version?)", "");
    for (unsigned i = 0; i < ARRAY_SIZE(op_table); i++) {
        if (strcmp(op_table[i].verb, op->verb) == 0) {
            op_table[i].run(&run);
        }
    }
    if (ha_op_dry_run(&run) && run.result.exit_code == EXIT_DONE) {
        char text[sizeof run.result.text];

        ha_text_set(text, sizeof text, run.result.text, NULL);
        ha_text_set(run.result.text, sizeof run.result.text,
                    "dry run, nothing is changed. Else: ", text, NULL);
    }
    run.result.version = agent->sent_version != before ? agent->sent_version : 0;
    msg.op_result = run.result;
    ha_agent_send(agent, &msg, NULL);
}
