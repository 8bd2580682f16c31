/* SPDX-License-Identifier: Apache-2.0 */
/* The coordinator: turns reports and decisions into updates. Updates it sent but that are
 * not delivered yet are counted by sent_version; it decides only when all of them are
 * back, so every decision stands on the state that everybody has. */
#include <string.h>

#include "base/bug.h"
#include "base/uuid.h"
#include "ha/ha_agent.h"
#include "ha/ha_drain.h"
#include "ha/ha_move.h"
#include "ha/ha_place.h"
#include "ha/ha_text.h"
#include "ha/ha_twin.h"

#define FENCE_BUDGET_WINDOW_NS (600 * NSEC_PER_SEC)

static const struct uuid no_op = {{0}};

void ha_coord_emit(struct ha_agent *agent, enum ha_item_kind kind, const void *body,
                   size_t len, struct uuid op, const char *event)
{
    struct ha_msg msg = {.type = HA_MSG_UPDATE};

    if (len == 0) {
        ha_agent_trace(agent, "an item does not fit and was not sent", "", "");
        return;
    }
    msg.from.version = agent->sent_version;
    msg.item.kind = kind;
    msg.item.version = ++agent->sent_version;
    msg.item.op = op;
    msg.item.body = body;
    msg.item.body_len = (uint32_t)len;
    ha_text_set(msg.item.event, sizeof msg.item.event, event, NULL);
    ha_agent_send(agent, &msg, NULL);
}

void ha_coord_emit_vm(struct ha_agent *agent, const struct ha_vm *vm, struct uuid op,
                      const char *event)
{
    struct ha_vm *record = ha_state_vm(&agent->state, vm->uuid), told = *vm;
    size_t len;

    ha_drain_forget(&told, vm->state == HA_VM_STARTING && vm->back_to != HA_VM_INVALID);
    len = ha_item_put_vm(&told, agent->scratch, sizeof agent->scratch);
    ha_coord_emit(agent, HA_ITEM_VM, agent->scratch, len, op, event);
    if (record != NULL) {
        record->sent = agent->sent_version;
    }
}

void ha_coord_emit_node(struct ha_agent *agent, const struct ha_node *node,
                        struct uuid op, const char *event)
{
    size_t len = ha_item_put_node(node, agent->scratch, sizeof agent->scratch);
    struct ha_node *record = ha_state_node(&agent->state, node->nodeid);

    ha_coord_emit(agent, HA_ITEM_NODE, agent->scratch, len, op, event);
    if (record != NULL) {
        record->sent = agent->sent_version;
    }
}

static void emit_proof(struct ha_agent *agent, const struct proof *proof,
                       const char *event)
{
    size_t len = ha_item_put_proof(proof, NULL, agent->scratch, sizeof agent->scratch);

    ha_coord_emit(agent, HA_ITEM_PROOF, agent->scratch, len, no_op, event);
}

/* A new term: who is here, who is not, and what runs where
 * ------------------------------------- */

static void node_came_back(struct ha_agent *agent, struct ha_node *node,
                           const struct ha_member *m)
{
    char event[REASON_LEN_MAX + 1];

    if (node->seen && !incarnation_equal(&node->incarnation, &m->incarnation) &&
        proof_return_is_death(&node->incarnation, &m->incarnation)) {
        struct proof proof = {.kind = PROOF_RETURNED,
                              .node_id = node->nodeid,
                              .inc = node->incarnation,
                              .returned_as = m->incarnation};

        ha_text_set(proof.source, sizeof proof.source, agent->self.name, NULL);
        ha_text_set(proof.reason, sizeof proof.reason, "back under another boot id",
                    NULL);
        ha_text_set(event, sizeof event, node->name,
                    ": back after a reboot: its earlier life is proven dead", NULL);
        emit_proof(agent, &proof, event);
    } else if (node->lost || !node->seen) {
        ha_text_set(event, sizeof event, node->name, ": in the view", NULL);
    } else {
        event[0] = '\0';
    }
    node->incarnation = m->incarnation;
    node->seen = true;
    node->lost = false;
    node->clean_stopped = false;
    node->memory_bytes = m->memory_bytes;
    if (node->fence == HA_FENCE_OK || node->fence == HA_FENCE_FAILED) {
        node->fence = HA_FENCE_NONE; /* that one is history */
    }
    ha_coord_emit_node(agent, node, no_op, event);
}

/* Its power was read while it was only suspected: then nobody has to wait, or to shoot.
 */
static void early_proof(struct ha_agent *agent, const struct ha_node *node)
{
    struct ha_fence_report report;
    char event[REASON_LEN_MAX + 1];

    if (agent->ops->early_off != NULL &&
        agent->ops->early_off(agent->ctx, node, &report)) {
        struct proof proof = {
            .kind = PROOF_FENCED_OFF, .node_id = node->nodeid, .inc = report.incarnation};

        ha_text_set(proof.source, sizeof proof.source, agent->self.name, NULL);
        ha_text_set(proof.reason, sizeof proof.reason, report.detail, NULL);
        ha_text_set(event, sizeof event, node->name, ": off confirmed: ", report.detail,
                    NULL);
        emit_proof(agent, &proof, event);
    }
}

static void review_nodes(struct ha_agent *agent)
{
    char event[REASON_LEN_MAX + 1];

    for (unsigned i = 0; i < agent->state.node_count; i++) {
        struct ha_node node = agent->state.node[i];
        const struct ha_member *m = ha_agent_member(agent, node.nodeid);

        if (m != NULL && ha_agent_is_participant(agent, node.nodeid)) {
            if (!node.seen || node.lost || node.clean_stopped ||
                !incarnation_equal(&node.incarnation, &m->incarnation) ||
                node.memory_bytes != m->memory_bytes) {
                node_came_back(agent, &node, m);
            }
        } else if (!ha_view_has(&agent->view, node.nodeid) && node.seen && !node.lost &&
                   !node.clean_stopped) {
            node.lost = true;
            ha_text_set(event, sizeof event, node.name,
                        ha_view_away(&agent->view, node.nodeid)
                            ? ": its agent is away, the node is in the ring"
                            : ": left the view",
                        NULL);
            ha_coord_emit_node(agent, &node, no_op, event);
            early_proof(agent, &node);
        }
    }
}

/* How a suspend, resume, snapshot or revert ended: for whoever asked for it. */
static void task_ended(struct ha_vm *vm, bool failed, const char *how)
{
    vm->task = HA_TASK_NONE;
    vm->snapshot[0] = '\0';
    vm->last_failed = failed;
    ha_text_set(vm->last, sizeof vm->last, how, NULL);
}

/* Its start was ordered there, or not at all: nobody else tries. */
static void not_started_there(struct ha_agent *agent, struct ha_vm *vm, const char *why)
{
    const struct ha_node *node = ha_state_node(&agent->state, vm->owner);
    bool suspended = vm->back_to == HA_VM_SUSPENDED;
    char reason[REASON_LEN_MAX + 1];

    /* `why` may be vm->reason. */
    ha_text_set(reason, sizeof reason, suspended ? "not resumed on " : "not started on ",
                node != NULL ? node->name : "its node", ": ", why, NULL);
    ha_text_set(vm->reason, sizeof vm->reason, reason, NULL);
    if (suspended) {
        task_ended(vm, true, vm->reason);
    }
    vm->task = HA_TASK_NONE;
    vm->state = vm->back_to;
    vm->desired = suspended        ? HA_DESIRED_SUSPENDED
                  : vm->was_wanted ? HA_DESIRED_RUNNING
                                   : HA_DESIRED_STOPPED;
    vm->back_to = HA_VM_INVALID;
    vm->failures = vm->restarts = 0;
    vm->avoid = 0;
    vm->kill = false;
}

/* It came so far that its suspended state may be used up: to call it suspended would let
 * a resume boot it. */
static void back_to_stopped(struct ha_vm *vm)
{
    if (vm->back_to == HA_VM_SUSPENDED) {
        vm->back_to = HA_VM_STOPPED;
    }
}

/* The news are its state, and why. */
static void emit_state(struct ha_agent *agent, const struct ha_vm *vm)
{
    char event[REASON_LEN_MAX + 1];

    ha_text_set(event, sizeof event, vm->name, ": ", ha_vm_state_str(vm->state), ": ",
                vm->reason, NULL);
    ha_coord_emit_vm(agent, vm, no_op, event);
}

static void vm_failed(struct ha_agent *agent, struct ha_vm *vm, bool in_place_counts,
                      const char *why, uint64_t now_ns)
{
    uint64_t window_ns =
        (vm->conf != NULL ? vm->conf->restart_window_ms : 600000) * NSEC_PER_MSEC;
    char event[REASON_LEN_MAX + 1];

    if (vm->back_to != HA_VM_INVALID) {
        not_started_there(agent, vm, why);
        emit_state(agent, vm);
        return;
    }
    if (vm->state == HA_VM_RUNNING && now_ns - vm->changed_ns > window_ns) {
        vm->failures = vm->restarts = 0; /* it ran well for long */
        vm->avoid = 0;
    }
    vm->failures++;
    vm->restarts += in_place_counts;
    vm->state = HA_VM_FAILED;
    vm->kill = false;
    ha_text_set(vm->reason, sizeof vm->reason, why, NULL);
    ha_text_set(event, sizeof event, vm->name, ": ", why, NULL);
    ha_coord_emit_vm(agent, vm, no_op, event);
}

/* Its owner was at it, and is no more: what it had not reported is not done. A VM that
 * was to be suspended goes on. */
static void task_over(struct ha_vm *vm)
{
    if (vm->state == HA_VM_SUSPENDING) {
        vm->desired =
            vm->desired == HA_DESIRED_SUSPENDED ? HA_DESIRED_RUNNING : vm->desired;
        task_ended(vm, true, "not suspended: its agent or its node was interrupted");
    } else if (vm->state == HA_VM_SNAPSHOTTING) {
        task_ended(vm, true, "no snapshot: its agent or its node was interrupted");
    } else if (vm->state == HA_VM_MIGRATING || ha_vm_upgrading(vm)) {
        ha_move_over(vm, true,
                     vm->move.called_off   ? vm->reason
                     : ha_vm_upgrading(vm) ? "not upgraded: its agent was interrupted"
                                           : "not migrated: its agent was interrupted");
    }
}

/* Whoever has the latest claim has the VM. */
static void is_of_claim(struct ha_vm *vm, const struct ha_member *m, struct uuid instance,
                        uint64_t epoch)
{
    vm->owner = m->nodeid;
    vm->owner_incarnation = m->incarnation;
    vm->instance = instance;
    vm->epoch = epoch;
}

/* The claim decides, the record follows: who runs it under a later claim is its owner,
 * whatever was thought before. */
static void owner_by_claim(struct ha_agent *agent, struct ha_vm *vm, uint32_t nodeid,
                           struct uuid instance, uint64_t epoch)
{
    const struct ha_member *m = ha_agent_member(agent, nodeid);

    if (m == NULL) {
        return;
    }
    if (vm->twin.to == nodeid && ha_vm_protected(vm)) {
        ha_twin_went_live(agent, vm, instance, epoch, "");
        return;
    }
    is_of_claim(vm, m, instance, epoch);
    ha_twin_mirrors(vm, nodeid, 0);
    vm->state = HA_VM_RUNNING;
    vm->attempt = agent->ops->new_uuid(agent->ctx);
    ha_text_set(vm->reason, sizeof vm->reason, "it has the latest claim", NULL);
    if (vm->move.to != 0) {
        ha_move_over(vm, nodeid != vm->move.to, vm->reason);
    }
    if (vm->twin.to != 0) {
        ha_twin_over(vm, nodeid != vm->twin.to, vm->reason);
    }
    emit_state(agent, vm);
}

/* Another node took a later claim, and its instance is no more: whatever the record
 * believed, that was the VM. True: `vm` is its now. */
static bool ended_with_claim(struct ha_agent *agent, uint32_t nodeid,
                             const struct ha_vm_report *report, struct ha_vm *vm)
{
    const struct ha_member *m = ha_agent_member(agent, nodeid);

    if (m == NULL || report->epoch <= vm->epoch ||
        (report->outcome != HA_OUTCOME_ENDED && report->outcome != HA_OUTCOME_STOPPED &&
         report->outcome != HA_OUTCOME_START_FAILED)) {
        return false;
    }
    is_of_claim(vm, m, report->instance, report->epoch);
    if (vm->move.to != 0) {
        ha_move_over(vm, true, report->text);
    }
    return true;
}

/* The owner's word in its summary against the record. */
static void review_vm(struct ha_agent *agent, const struct ha_vm *record, uint64_t now_ns)
{
    struct ha_vm vm = *record;
    const struct ha_member *m = ha_agent_member(agent, vm.owner);
    const struct ha_local_vm *local;

    if (vm.owner == 0 || m == NULL || !ha_agent_is_participant(agent, vm.owner) ||
        !incarnation_equal(&m->incarnation, &vm.owner_incarnation) || ha_vm_rests(&vm)) {
        return;
    }
    local = ha_member_vm(m, vm.uuid);
    if (local == NULL) {
        task_over(&vm);
        back_to_stopped(&vm);
        if (vm.state == HA_VM_STOPPING || vm.desired != HA_DESIRED_RUNNING) {
            vm.state = HA_VM_STOPPED;
            ha_text_set(vm.reason, sizeof vm.reason, "its node says that it runs no more",
                        NULL);
            ha_coord_emit_vm(agent, &vm, no_op, "");
        } else {
            vm_failed(agent, &vm, true, "its node says that it runs no more", now_ns);
        }
        return;
    }
    if (local->state == HA_LOCAL_STARTING || local->state == HA_LOCAL_STOPPING) {
        return; /* under way: the report follows */
    }
    if (vm.state == HA_VM_STOPPING) {
        /* Told to stop, and its agent forgot (it was restarted): told again. */
        vm.attempt = agent->ops->new_uuid(agent->ctx);
        ha_coord_emit_vm(agent, &vm, no_op, "");
        return;
    }
    if (local->state == HA_LOCAL_FROZEN && vm.state != HA_VM_FROZEN) {
        task_over(&vm);
        vm.state = HA_VM_FROZEN;
        ha_text_set(vm.reason, sizeof vm.reason, "frozen by its node", NULL);
    } else if (local->state == HA_LOCAL_RUNNING &&
               (vm.state == HA_VM_UNKNOWN || vm.state == HA_VM_STARTING ||
                vm.state == HA_VM_SUSPENDING || vm.state == HA_VM_SNAPSHOTTING ||
                vm.state == HA_VM_MIGRATING)) {
        task_over(&vm);
        vm.state = HA_VM_RUNNING;
        ha_text_set(vm.reason, sizeof vm.reason,
                    "its node is back and it still runs there", NULL);
    } else {
        return;
    }
    vm.epoch = local->epoch;
    vm.instance = local->instance;
    ha_coord_emit_vm(agent, &vm, no_op, "");
}

/* Somebody runs it under a later claim than the record knows of. */
static bool review_claims(struct ha_agent *agent, const struct ha_vm *record)
{
    for (unsigned i = 0; i < agent->sync.participant_count; i++) {
        uint32_t nodeid = agent->sync.participant[i].nodeid;
        const struct ha_member *m = ha_agent_member(agent, nodeid);
        const struct ha_local_vm *local =
            m != NULL ? ha_member_vm(m, record->uuid) : NULL;
        struct ha_vm vm = *record;

        if (local != NULL && nodeid != vm.owner && local->state == HA_LOCAL_RUNNING &&
            local->epoch > vm.epoch) {
            owner_by_claim(agent, &vm, nodeid, local->instance, local->epoch);
            return true;
        }
    }
    return false;
}

/* Every configured node has a record. */
static void review_nodelist(struct ha_agent *agent)
{
    const struct conf_cluster *conf = agent->state.cluster.conf;

    for (unsigned i = 0; conf != NULL && i < conf->node_count; i++) {
        struct ha_node node = {.nodeid = conf->node[i].nodeid};
        const struct ha_member *m = ha_agent_member(agent, node.nodeid);

        if (ha_state_node(&agent->state, node.nodeid) != NULL) {
            continue;
        }
        ha_text_set(node.name, sizeof node.name, conf->node[i].name, NULL);
        if (m != NULL) {
            node.incarnation = m->incarnation;
            node.seen = true;
            node.memory_bytes = m->memory_bytes;
        }
        ha_coord_emit_node(agent, &node, no_op, "");
    }
}

void ha_coord_synced(struct ha_agent *agent, uint64_t now_ns)
{
    review_nodelist(agent);
    review_nodes(agent);
    for (unsigned i = 0; i < agent->state.vm_count; i++) {
        const struct ha_vm *vm = agent->state.vm[i];

        if (!review_claims(agent, vm) && !ha_move_review(agent, vm) &&
            !ha_twin_review(agent, vm)) {
            review_vm(agent, vm, now_ns);
        }
    }
    agent->decide_wanted = true;
}

static void emit_moved(struct ha_agent *agent, struct ha_vm *vm, const char *text)
{
    vm->kill = false;
    ha_text_set(vm->reason, sizeof vm->reason, text, NULL);
    emit_state(agent, vm);
}

/* It is in `state` again, and goes on from there. */
static void task_failed(struct ha_agent *agent, struct ha_vm *vm, enum ha_vm_state state,
                        const char *why)
{
    if (vm->state == HA_VM_SUSPENDING && vm->desired == HA_DESIRED_SUSPENDED) {
        vm->desired = HA_DESIRED_RUNNING;
    }
    vm->state = state;
    task_ended(vm, true, why);
    emit_moved(agent, vm, why);
}

static void is_reverted(struct ha_agent *agent, struct ha_vm *vm, enum ha_vm_state state,
                        const char *how)
{
    vm->state = state;
    vm->failures = vm->restarts = 0;
    vm->avoid = 0;
    task_ended(vm, false, how);
    emit_moved(agent, vm, how);
}

static void is_suspended(struct ha_agent *agent, struct ha_vm *vm, const char *how)
{
    if (vm->state == HA_VM_REVERTING) {
        vm->desired = HA_DESIRED_RUNNING;
    } else if (vm->desired == HA_DESIRED_STOPPED) {
        vm->desired = HA_DESIRED_SUSPENDED; /* the stop came too late */
    }
    is_reverted(agent, vm, HA_VM_SUSPENDED, how);
}

/* Reports
 * ---------------------------------------------------------------------------------- */

/* What a participant says of a VM, and what the record becomes by it. */
struct told {
    struct ha_agent *agent;
    const struct ha_vm *record;
    const struct ha_vm_report *report;
    uint32_t from;
    uint64_t now_ns;
    bool current; /* it is of the attempt that is under way */
    bool same;    /* it is of the instance on record */
    struct ha_vm vm;
};

static void told_running(struct told *t)
{
    struct ha_vm *vm = &t->vm;

    if (vm->state == HA_VM_STOPPING && t->same) {
        /* Told to stop, and its agent forgot (it was restarted): told again. */
        vm->attempt = t->agent->ops->new_uuid(t->agent->ctx);
        ha_coord_emit_vm(t->agent, vm, no_op, "");
        return;
    }
    if ((vm->state == HA_VM_SUSPENDING || vm->state == HA_VM_SNAPSHOTTING) &&
        (t->current || t->same)) {
        task_failed(t->agent, vm, HA_VM_RUNNING, t->report->text);
        return;
    }
    if (vm->state == HA_VM_RUNNING && t->report->epoch > t->record->epoch && t->same) {
        ha_coord_emit_vm(t->agent, vm, no_op, ""); /* it went on by the next claim */
        return;
    }
    if (ha_move_filled(t->agent, t->report, vm) || !t->current ||
        (vm->state != HA_VM_STARTING && vm->state != HA_VM_UNKNOWN)) {
        return;
    }
    vm->state = HA_VM_RUNNING;
    vm->task = vm->task == HA_TASK_DISCARD ? HA_TASK_NONE : vm->task;
    vm->instance = t->report->instance;
    if (!ha_vm_holds(vm)) {
        memset(&vm->held, 0, sizeof vm->held); /* nobody ran before that had ended */
    }
    ha_twin_mirrors(vm, t->from, 0);
    vm->avoid = 0;
    ha_text_set(vm->reason, sizeof vm->reason, t->report->text, NULL);
    emit_state(t->agent, vm);
}

static void told_start_failed(struct told *t)
{
    struct ha_vm *vm = &t->vm;

    if (!t->current) {
        return;
    }
    if (vm->state == HA_VM_REVERTING) {
        vm->desired = HA_DESIRED_STOPPED;
        task_failed(t->agent, vm, HA_VM_STOPPED, t->report->text);
    } else if (vm->state == HA_VM_STARTING || vm->state == HA_VM_RUNNING ||
               vm->state == HA_VM_UNKNOWN) {
        /* RUNNING, UNKNOWN: what its summary said before it knew better. */
        vm->avoid = t->from;
        vm_failed(t->agent, vm, false, t->report->text, t->now_ns);
    }
}

static void told_ended(struct told *t)
{
    const struct ha_vm_report *report = t->report;
    struct ha_vm *vm = &t->vm;

    back_to_stopped(vm);
    if (vm->state == HA_VM_STOPPED || vm->state == HA_VM_FAILED ||
        vm->state == HA_VM_SUSPENDED || (!t->current && !t->same)) {
        return;
    }
    if (vm->state == HA_VM_REVERTING) {
        vm_failed(t->agent, vm, true, report->text, t->now_ns); /* once more */
        return;
    }
    if (vm->state == HA_VM_SNAPSHOTTING) {
        task_ended(vm, true, report->text);
    }
    /* STOPPING and wanted running: started anew meanwhile, its shutdown was ours. */
    if (vm->desired != HA_DESIRED_RUNNING ||
        (vm->state != HA_VM_STOPPING && report->guest_shutdown && vm->conf != NULL &&
         !vm->conf->restart_on_guest_shutdown)) {
        vm->desired =
            vm->desired == HA_DESIRED_RUNNING ? HA_DESIRED_STOPPED : vm->desired;
        vm->state = HA_VM_STOPPED;
        ha_text_set(vm->reason, sizeof vm->reason, report->text, NULL);
        emit_state(t->agent, vm);
    } else {
        vm_failed(t->agent, vm, true, report->text, t->now_ns);
    }
}

static void told_stopped(struct told *t)
{
    struct ha_vm *vm = &t->vm;

    back_to_stopped(vm);
    if (t->current && vm->state == HA_VM_REVERTING) {
        vm_failed(t->agent, vm, true, t->report->text, t->now_ns);
        return;
    }
    if (!t->current || vm->state != HA_VM_STOPPING) {
        return;
    }
    if (vm->desired == HA_DESIRED_RUNNING && vm->task != HA_TASK_REVERT) {
        vm->avoid = t->from;
        vm_failed(t->agent, vm, false, vm->reason, t->now_ns);
        return;
    }
    vm->state = HA_VM_STOPPED;
    vm->failures = vm->restarts = 0;
    vm->avoid = 0;
    emit_moved(t->agent, vm, t->report->text);
}

/* SNAPSHOT, FROZEN: it stands, in its process. */
static void told_frozen(struct told *t)
{
    const struct ha_vm_report *report = t->report;
    struct ha_vm *vm = &t->vm;
    char event[REASON_LEN_MAX + 1];

    if (vm->state == HA_VM_SUSPENDING ||
        (vm->state == HA_VM_SNAPSHOTTING && report->outcome == HA_OUTCOME_FROZEN)) {
        vm->instance = report->instance;
        task_failed(t->agent, vm, HA_VM_FROZEN, report->text);
        return;
    }
    if (vm->state == HA_VM_SNAPSHOTTING) {
        task_ended(vm, false, report->text);
    }
    vm->state = HA_VM_FROZEN;
    vm->instance = report->instance;
    ha_text_set(vm->reason, sizeof vm->reason, report->text, NULL);
    event[0] = '\0';
    if (ha_vm_paused(vm) && !ha_vm_paused(t->record)) {
        ha_text_set(event, sizeof event, vm->name, ": ", vm->reason, NULL);
    }
    ha_coord_emit_vm(t->agent, vm, no_op, event);
}

static void told_outcome(struct told *t, enum ha_vm_outcome outcome)
{
    struct ha_vm *vm = &t->vm;

    switch (outcome) {
    case HA_OUTCOME_RUNNING:
        told_running(t);
        break;
    case HA_OUTCOME_START_FAILED:
        told_start_failed(t);
        break;
    case HA_OUTCOME_ENDED:
        told_ended(t);
        break;
    case HA_OUTCOME_STOPPED:
        told_stopped(t);
        break;
    case HA_OUTCOME_SUSPENDED:
        if ((t->current || t->same) && vm->state != HA_VM_STOPPED) {
            is_suspended(t->agent, vm, t->report->text);
        }
        break;
    case HA_OUTCOME_NOT_RESUMED:
        if (t->current && (vm->state == HA_VM_STARTING || vm->state == HA_VM_REVERTING)) {
            vm->desired = HA_DESIRED_SUSPENDED;
            task_failed(t->agent, vm, HA_VM_SUSPENDED, t->report->text);
        }
        break;
    case HA_OUTCOME_REVERTED:
        if (t->current && vm->state == HA_VM_REVERTING) {
            vm->desired = HA_DESIRED_STOPPED;
            is_reverted(t->agent, vm, HA_VM_STOPPED, t->report->text);
        }
        break;
    case HA_OUTCOME_SNAPSHOT:
    case HA_OUTCOME_FROZEN:
        told_frozen(t);
        break;
    case HA_OUTCOME_TWIN_OFF: /* that was known, but not its claim */
        if (vm->epoch != t->record->epoch && t->same) {
            ha_twin_mirrors(vm, t->from, 0);
            ha_coord_emit_vm(t->agent, vm, no_op, "");
        }
        break;
    case HA_OUTCOME_TWIN_OFFER: /* of a protection, or a migration, that is over */
    case HA_OUTCOME_TWIN_COPIED:
    case HA_OUTCOME_TWIN_FOLLOWS:
    case HA_OUTCOME_TWIN_ON:
    case HA_OUTCOME_MOVE_OFFER:
    case HA_OUTCOME_MOVE_FAILED:
    case HA_OUTCOME_MOVED:
    case HA_OUTCOME_INVALID:
    case HA_OUTCOME_EXCLUDED:
    case HA_OUTCOME_HOLDS:
    case HA_OUTCOME_COUNT:
    default:
        break;
    }
}

void ha_coord_vm_report(struct ha_agent *agent, uint32_t from,
                        const struct ha_vm_report *report, uint64_t now_ns)
{
    const struct ha_vm *record = ha_state_vm(&agent->state, report->vm);
    struct told t = {.agent = agent,
                     .record = record,
                     .report = report,
                     .from = from,
                     .now_ns = now_ns};

    if (record == NULL) {
        ha_agent_trace(agent, "report dropped: there is no such VM", "", "");
        return;
    }
    t.vm = *record;
    if (ha_move_report(agent, from, report, &t.vm) ||
        ha_twin_report(agent, from, report, &t.vm)) {
        return;
    }
    if (record->owner != from && report->outcome == HA_OUTCOME_RUNNING &&
        report->epoch > record->epoch) {
        owner_by_claim(agent, &t.vm, from, report->instance, report->epoch);
        return;
    }
    if (record->owner != from && !ended_with_claim(agent, from, report, &t.vm)) {
        ha_agent_trace(agent, "report dropped: not from the VM's owner", "", "");
        return;
    }
    t.current = uuid_equal(report->attempt, t.vm.attempt);
    t.same = uuid_equal(report->instance, t.vm.instance);
    if (report->mirror[0] != 0 && (t.current || report->epoch >= t.vm.epoch)) {
        ha_twin_copies(&t.vm, report->mirror);
    }
    t.vm.epoch = report->epoch > t.vm.epoch ? report->epoch : t.vm.epoch;
    told_outcome(&t, record->owner != from ? HA_OUTCOME_ENDED : report->outcome);
}

void ha_coord_fence_report(struct ha_agent *agent, uint32_t from,
                           const struct ha_fence_report *report, uint64_t now_ns)
{
    const struct ha_node *record = ha_state_node(&agent->state, report->target);
    char event[REASON_LEN_MAX + 1];
    struct ha_node node;

    (void)now_ns;
    if (record == NULL) {
        return;
    }
    node = *record;
    if (report->result == HA_FENCE_OK && !incarnation_is_none(&report->incarnation)) {
        struct proof proof = {
            .kind = PROOF_FENCED_OFF, .node_id = node.nodeid, .inc = report->incarnation};
        struct proof_answer answer;

        ha_text_set(proof.source, sizeof proof.source, agent->self.name, NULL);
        ha_text_set(proof.reason, sizeof proof.reason, report->detail, NULL);
        if (!proof_is_dead(&agent->state.proofs, node.nodeid, &report->incarnation,
                           &answer)) {
            ha_text_set(event, sizeof event, node.name,
                        ": off confirmed: ", report->detail, NULL);
            emit_proof(agent, &proof, event);
        }
    }
    if (report->suspicion || !uuid_equal(report->uid, node.fence_uid) ||
        node.fence_executor != from ||
        (node.fence != HA_FENCE_PENDING && node.fence != HA_FENCE_CANCELLING)) {
        return; /* a late result changes nothing but the proof it may be */
    }
    if (node.fence == HA_FENCE_CANCELLING) {
        node.fence = report->result == HA_FENCE_OK ? HA_FENCE_OK : HA_FENCE_NONE;
    } else {
        node.fence = report->result;
    }
    ha_text_set(node.fence_detail, sizeof node.fence_detail, report->detail, NULL);
    event[0] = '\0';
    if (node.fence == HA_FENCE_FAILED) {
        ha_text_set(event, sizeof event, node.name, ": not fenced: ", report->detail,
                    NULL);
    }
    ha_coord_emit_node(agent, &node, no_op, event);
}

/* Decisions
 * ---------------------------------------------------------------------------------- */

static unsigned budget_left(struct ha_agent *agent, uint64_t now_ns)
{
    const struct conf_cluster *conf = agent->state.cluster.conf;
    unsigned budget = conf != NULL ? conf->fence_budget : 1, used = 0;

    if (budget == 0) {
        budget = agent->state.node_count > 2 ? (agent->state.node_count - 1) / 2 : 1;
    }
    for (unsigned i = 0; i < agent->fences_count; i++) {
        used += now_ns - agent->fences_at_ns[i] < FENCE_BUDGET_WINDOW_NS;
    }
    return used < budget ? budget - used : 0;
}

static void budget_use(struct ha_agent *agent, uint64_t now_ns)
{
    if (agent->fences_count == ARRAY_SIZE(agent->fences_at_ns)) {
        memmove(agent->fences_at_ns, agent->fences_at_ns + 1,
                sizeof agent->fences_at_ns - sizeof agent->fences_at_ns[0]);
        agent->fences_count--;
    }
    agent->fences_at_ns[agent->fences_count++] = now_ns;
}

/* For maintenance: it goes back there when that is over. */
static void begin_move(struct ha_agent *agent, struct ha_vm *vm, uint32_t to)
{
    const struct ha_node *node = ha_state_node(&agent->state, to);

    vm->home = vm->home == 0 ? vm->owner : vm->home;
    vm->last[0] = '\0';
    memset(&vm->move, 0, sizeof vm->move);
    vm->move.to = to;
    vm->move.to_incarnation =
        node != NULL ? node->incarnation : (struct incarnation){{{0}}, 0};
}

/* It is frozen in a process that goes on by its next claim. */
static bool thaws(const struct ha_agent *agent, const struct ha_vm *vm, uint32_t nodeid)
{
    const struct ha_node *node = ha_state_node(&agent->state, nodeid);

    return vm->state == HA_VM_FROZEN && vm->owner == nodeid && node != NULL &&
           incarnation_equal(&node->incarnation, &vm->owner_incarnation);
}

static void execute_vm(struct ha_agent *agent, const struct ha_action *action)
{
    struct ha_vm vm = *agent->state.vm[action->index];
    bool moved = action->state != vm.state;
    char event[REASON_LEN_MAX + 1];

    if (moved && vm.state == HA_VM_SNAPSHOTTING) {
        task_ended(&vm, true, action->reason);
    }
    if (vm.move.to != 0 && action->state != HA_VM_MIGRATING &&
        action->state != HA_VM_UNKNOWN) {
        ha_move_over(&vm, true, action->reason);
    }
    ha_drain_forget(&vm,
                    action->state == HA_VM_STARTING && !thaws(agent, &vm, action->owner));
    vm.state = action->state;
    vm.kill = action->kill;
    if (moved && vm.state == HA_VM_STOPPED && vm.back_to != HA_VM_INVALID) {
        vm.desired = vm.was_wanted ? HA_DESIRED_RUNNING : HA_DESIRED_STOPPED;
    }
    if (action->new_attempt) {
        const struct ha_node *owner = ha_state_node(&agent->state, action->owner);

        vm.attempt = agent->ops->new_uuid(agent->ctx);
        if ((action->state == HA_VM_STARTING || action->state == HA_VM_REVERTING) &&
            owner != NULL) {
            vm.owner = action->owner;
            vm.owner_incarnation = owner->incarnation;
        }
    }
    if (action->state == HA_VM_MIGRATING) {
        begin_move(agent, &vm, action->move_to);
    }
    ha_text_set(vm.reason, sizeof vm.reason, action->reason, NULL);
    event[0] = '\0';
    /* The tries of a paused VM are no news, one by one. */
    if ((moved || action->new_attempt) && !ha_vm_paused(&vm)) {
        ha_text_set(event, sizeof event, vm.name, ": ", ha_vm_state_str(vm.state), ": ",
                    action->reason, NULL);
    }
    ha_coord_emit_vm(agent, &vm, no_op, event);
}

static void execute_twin(struct ha_agent *agent, const struct ha_action *action)
{
    struct ha_vm vm = *agent->state.vm[action->index];
    const struct ha_node *node = ha_state_node(&agent->state, action->move_to);
    char event[REASON_LEN_MAX + 1];

    if (action->kind == HA_ACTION_TWIN && node != NULL) {
        ha_twin_begin(agent, &vm, node, ha_twin_rule(&vm));
    } else if (action->kind == HA_ACTION_TWIN_END) {
        vm.twin.ending = true;
    } else if (action->kind == HA_ACTION_TWIN_SWITCH) {
        vm.twin.switchover = true;
    }
    ha_text_set(vm.reason, sizeof vm.reason, action->reason, NULL);
    ha_text_set(event, sizeof event, vm.name, ": ", action->reason, NULL);
    ha_coord_emit_vm(agent, &vm, no_op, event);
}

static void execute_node(struct ha_agent *agent, const struct ha_action *action,
                         uint64_t now_ns)
{
    struct ha_node node = agent->state.node[action->index];
    char event[REASON_LEN_MAX + 1];

    if (action->kind == HA_ACTION_FENCE) {
        if (!incarnation_equal(&node.fence_incarnation, &node.incarnation)) {
            node.fence_attempts = 0;
            budget_use(agent, now_ns);
        }
        node.fence = HA_FENCE_PENDING;
        node.fence_incarnation = node.incarnation;
        node.fence_uid = agent->ops->new_uuid(agent->ctx);
        node.fence_executor = action->owner;
        node.fence_attempts++;
    } else if (action->kind == HA_ACTION_FENCE_CANCEL) {
        node.fence = HA_FENCE_CANCELLING;
    } else {
        node.fence = HA_FENCE_NONE;
    }
    ha_text_set(node.fence_detail, sizeof node.fence_detail, action->reason, NULL);
    ha_text_set(event, sizeof event, node.name, ": ",
                action->kind == HA_ACTION_FENCE ? "fencing: " : "", action->reason, NULL);
    ha_coord_emit_node(agent, &node, no_op, event);
}

static struct ha_policy_in policy_in(const struct ha_agent *agent, uint64_t now_ns,
                                     uint32_t participant[static NODES_MAX])
{
    for (unsigned i = 0; i < agent->sync.participant_count; i++) {
        participant[i] = agent->sync.participant[i].nodeid;
    }
    return (struct ha_policy_in){
        .state = &agent->state,
        .cpus = &agent->cpus,
        .view = &agent->view,
        .participant_count = agent->sync.participant_count,
        .participant = participant,
        .self = agent->self.nodeid,
        .times = &agent->times,
        .now_ns = now_ns,
    };
}

void ha_place_now(const struct ha_agent *agent, uint64_t now_ns, struct ha_policy_in *in,
                  uint32_t participant[static NODES_MAX], struct ha_place *ret_place)
{
    *in = policy_in(agent, now_ns, participant);
    ha_place_init(ret_place, in);
}

void ha_coord_decide(struct ha_agent *agent, uint64_t now_ns)
{
    uint32_t participant[NODES_MAX];
    struct ha_plan plan = {.action = agent->action, .cap = ARRAY_SIZE(agent->action)};
    struct ha_policy_in in;

    if (!ha_agent_is_coordinator(agent)) {
        agent->next_due_ns = UINT64_MAX;
        agent->decide_wanted = false;
        return;
    }
    if (!agent->decide_wanted || agent->sent_version != agent->state.version) {
        return;
    }
    agent->decide_wanted = false;
    in = policy_in(agent, now_ns, participant);
    in.fence_budget_left = budget_left(agent, now_ns);
    ha_policy_decide(&in, &plan);
    agent->next_due_ns = plan.next_due_ns;
    for (unsigned i = 0; i < plan.count; i++) {
        const struct ha_action *action = &plan.action[i];

        if (action->kind == HA_ACTION_VM) {
            execute_vm(agent, action);
        } else if (action->kind == HA_ACTION_TWIN || action->kind == HA_ACTION_TWIN_END ||
                   action->kind == HA_ACTION_TWIN_SWITCH) {
            execute_twin(agent, action);
        } else if (action->kind == HA_ACTION_VM_GONE) {
            const struct ha_vm *vm = agent->state.vm[action->index];
            char event[REASON_LEN_MAX + 1];

            ha_text_set(event, sizeof event, vm->name, ": deleted", NULL);
            ha_coord_emit(agent, HA_ITEM_VM_GONE, vm->uuid.b, sizeof vm->uuid.b, no_op,
                          event);
        } else {
            execute_node(agent, action, now_ns);
        }
    }
    if (plan.more) {
        agent->decide_wanted = true;
    }
}
