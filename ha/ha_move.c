/* SPDX-License-Identifier: Apache-2.0 */
#include "ha/ha_move.h"

#include <string.h>

#include "base/uuid.h"
#include "ha/ha_text.h"

static const struct uuid no_op = {{0}};

static const char *node_name(const struct ha_agent *agent, uint32_t nodeid)
{
    const struct ha_node *node = ha_state_node(&agent->state, nodeid);

    return node != NULL ? node->name : "a node that is not in the cluster definition";
}

static void emit(struct ha_agent *agent, const struct ha_vm *vm, const char *what)
{
    char event[REASON_LEN_MAX + 1] = "";

    if (what[0] != '\0') {
        ha_text_set(event, sizeof event, vm->name, ": ", what, NULL);
    }
    ha_coord_emit_vm(agent, vm, no_op, event);
}

void ha_move_over(struct ha_vm *vm, bool failed, const char *how)
{
    char text[REASON_LEN_MAX + 1];

    ha_text_set(text, sizeof text, how, NULL); /* may be vm's own */
    vm->move_avoid = failed && vm->home != 0 ? vm->move.to : 0;
    memset(&vm->move, 0, sizeof vm->move);
    vm->last_failed = failed;
    ha_text_set(vm->last, sizeof vm->last, text, NULL);
}

/* It is called off, and its owner is told by the record. */
static void call_off(struct ha_agent *agent, struct ha_vm *vm, const char *why)
{
    if (vm->move.called_off) {
        return;
    }
    vm->move.called_off = true;
    ha_text_set(vm->reason, sizeof vm->reason, "not migrated: ", why, NULL);
    emit(agent, vm, vm->reason);
}

/* The destination
 * ------------------------------------------------------------------------------- */

static void runs_there(struct ha_agent *agent, struct ha_vm *vm,
                       const struct ha_vm_report *report)
{
    char how[REASON_LEN_MAX + 1];

    ha_text_set(how, sizeof how, "migrated from ", node_name(agent, vm->owner), " to ",
                node_name(agent, vm->move.to), NULL);
    if (report->text[0] != '\0') {
        ha_text_add(how, sizeof how, ": ");
        ha_text_add(how, sizeof how, report->text);
    }
    vm->memory_from = report->filling ? vm->owner : 0;
    ha_text_set(vm->reason, sizeof vm->reason, how,
                report->filling ? "; a part of its memory is still coming from " : "",
                report->filling ? node_name(agent, vm->owner) : "", NULL);
    vm->owner = vm->move.to;
    vm->home = vm->home == vm->owner ? 0 : vm->home;
    vm->owner_incarnation = vm->move.to_incarnation;
    vm->instance = report->instance;
    vm->epoch = report->epoch;
    vm->state = HA_VM_RUNNING;
    vm->failures = vm->restarts = 0;
    vm->avoid = 0;
    ha_move_over(vm, false, how);
    emit(agent, vm, vm->reason);
}

/* Its process there had the claim, and is no more: the owner's memory is void. */
static void failed_with_claim(struct ha_agent *agent, struct ha_vm *vm,
                              const struct ha_vm_report *report)
{
    vm->owner = vm->move.to;
    vm->owner_incarnation = vm->move.to_incarnation;
    vm->instance = report->instance;
    vm->epoch = report->epoch;
    vm->state = HA_VM_FAILED;
    vm->failures++;
    ha_text_set(vm->reason, sizeof vm->reason, report->text, NULL);
    ha_move_over(vm, true, report->text);
    emit(agent, vm, report->text);
}

/* Nothing of it will be there. The owner goes on; if that is gone as well, others may. */
static void not_there(struct ha_agent *agent, struct ha_vm *vm, const char *why)
{
    char how[REASON_LEN_MAX + 1];

    ha_text_set(how, sizeof how, node_name(agent, vm->move.to), ": ", why, NULL);
    if (vm->state == HA_VM_MIGRATING && ha_agent_is_participant(agent, vm->owner)) {
        call_off(agent, vm, how);
        return;
    }
    vm->state = HA_VM_UNKNOWN;
    if (uuid_is_none(vm->instance)) { /* its owner has said that it is gone there */
        vm->state = HA_VM_FAILED;
        vm->failures++;
        ha_text_set(vm->reason, sizeof vm->reason, how, NULL);
    }
    ha_move_over(vm, true, how);
    emit(agent, vm, how);
}

static void report_of_dest(struct ha_agent *agent, struct ha_vm *vm,
                           const struct ha_vm_report *report)
{
    switch (report->outcome) {
    case HA_OUTCOME_MOVE_OFFER:
        vm->move.dest = report->offer;
        vm->move.instance = report->instance;
        emit(agent, vm, "");
        break;
    case HA_OUTCOME_RUNNING:
        runs_there(agent, vm, report);
        break;
    case HA_OUTCOME_MOVE_FAILED:
    case HA_OUTCOME_START_FAILED:
    case HA_OUTCOME_ENDED:
    case HA_OUTCOME_STOPPED:
        if (report->epoch > vm->epoch) {
            failed_with_claim(agent, vm, report);
        } else {
            not_there(agent, vm, report->text);
        }
        break;
    case HA_OUTCOME_INVALID:
    case HA_OUTCOME_FROZEN:
    case HA_OUTCOME_SUSPENDED:
    case HA_OUTCOME_NOT_RESUMED:
    case HA_OUTCOME_SNAPSHOT:
    case HA_OUTCOME_REVERTED:
    case HA_OUTCOME_MOVED:
    case HA_OUTCOME_EXCLUDED:
    case HA_OUTCOME_HOLDS:
    case HA_OUTCOME_COUNT:
    default:
        break;
    }
}

/* The owner
 * -------------------------------------------------------------------------------------
 */

/* It is not here any more, and may be there: who has the claim, says so, or is dead. */
static void moved(struct ha_agent *agent, struct ha_vm *vm, const char *text)
{
    vm->state = HA_VM_UNKNOWN;
    vm->instance = (struct uuid){{0}};
    ha_text_set(vm->reason, sizeof vm->reason, text, NULL);
    if (!ha_agent_is_participant(agent, vm->move.to)) {
        vm->owner = vm->move.to;
        vm->owner_incarnation = vm->move.to_incarnation;
        vm->instance = vm->move.instance;
        ha_move_over(vm, true, text);
    }
    emit(agent, vm, text);
}

static void goes_on_here(struct ha_agent *agent, struct ha_vm *vm,
                         const struct ha_vm_report *report)
{
    char how[REASON_LEN_MAX + 1];
    bool told;

    vm->state = report->outcome == HA_OUTCOME_FROZEN ? HA_VM_FROZEN : HA_VM_RUNNING;
    vm->epoch = report->epoch > vm->epoch ? report->epoch : vm->epoch;
    ha_text_set(how, sizeof how, vm->move.called_off ? vm->reason : report->text, NULL);
    ha_text_set(vm->reason, sizeof vm->reason,
                vm->state == HA_VM_FROZEN ? report->text : how, NULL);
    told = vm->move.called_off;
    ha_move_over(vm, true, how);
    emit(agent, vm, told ? "" : how);
}

/* False: its process has ended, which is judged as at any other time. */
static bool report_of_owner(struct ha_agent *agent, struct ha_vm *vm,
                            const struct ha_vm_report *report)
{
    switch (report->outcome) {
    case HA_OUTCOME_MOVE_OFFER:
        vm->move.source = report->offer;
        emit(agent, vm, "");
        return true;
    case HA_OUTCOME_RUNNING:
    case HA_OUTCOME_FROZEN:
        goes_on_here(agent, vm, report);
        return true;
    case HA_OUTCOME_MOVED:
        moved(agent, vm, report->text);
        return true;
    case HA_OUTCOME_ENDED:
    case HA_OUTCOME_STOPPED:
    case HA_OUTCOME_START_FAILED:
        vm->state = HA_VM_RUNNING;
        ha_move_over(vm, true, report->text);
        return false;
    case HA_OUTCOME_INVALID:
    case HA_OUTCOME_SUSPENDED:
    case HA_OUTCOME_NOT_RESUMED:
    case HA_OUTCOME_SNAPSHOT:
    case HA_OUTCOME_REVERTED:
    case HA_OUTCOME_MOVE_FAILED:
    case HA_OUTCOME_EXCLUDED:
    case HA_OUTCOME_HOLDS:
    case HA_OUTCOME_COUNT:
    default:
        return false;
    }
}

/* Upgrade: one node has both ends, and says what became of the VM
 * ------------------------------- */

static void upgraded(struct ha_agent *agent, struct ha_vm *vm, struct uuid instance,
                     uint64_t epoch, const char *text)
{
    char how[REASON_LEN_MAX + 1];

    ha_text_set(how, sizeof how, "upgraded on ", node_name(agent, vm->owner),
                text[0] != '\0' ? ": " : "", text, NULL);
    vm->instance = instance;
    vm->epoch = epoch;
    vm->state = HA_VM_RUNNING;
    ha_text_set(vm->reason, sizeof vm->reason, how, NULL);
    ha_move_over(vm, false, how);
    emit(agent, vm, how);
}

/* False: its process has ended, which is judged as at any other time. */
static bool report_of_both(struct ha_agent *agent, struct ha_vm *vm,
                           const struct ha_vm_report *report)
{
    switch (report->outcome) {
    case HA_OUTCOME_RUNNING:
        if (!uuid_equal(report->instance, vm->instance) && report->epoch > vm->epoch) {
            upgraded(agent, vm, report->instance, report->epoch, report->text);
            return true;
        }
        goes_on_here(agent, vm, report);
        return true;
    case HA_OUTCOME_FROZEN:
        vm->instance = report->instance;
        goes_on_here(agent, vm, report);
        return true;
    case HA_OUTCOME_ENDED:
    case HA_OUTCOME_STOPPED:
    case HA_OUTCOME_START_FAILED:
        vm->state = HA_VM_RUNNING;
        ha_move_over(vm, true, report->text);
        return false;
    case HA_OUTCOME_MOVED: /* its successor speaks */
        return true;
    case HA_OUTCOME_INVALID:
    case HA_OUTCOME_SUSPENDED:
    case HA_OUTCOME_NOT_RESUMED:
    case HA_OUTCOME_SNAPSHOT:
    case HA_OUTCOME_REVERTED:
    case HA_OUTCOME_MOVE_OFFER:
    case HA_OUTCOME_MOVE_FAILED:
    case HA_OUTCOME_EXCLUDED:
    case HA_OUTCOME_HOLDS:
    case HA_OUTCOME_COUNT:
    default:
        return false;
    }
}

static bool is_of_this(const struct ha_vm *vm, const struct ha_vm_report *report)
{
    return (vm->state == HA_VM_MIGRATING || vm->state == HA_VM_UNKNOWN) &&
           (uuid_equal(report->attempt, vm->attempt) ||
            uuid_equal(report->instance, vm->instance));
}

bool ha_move_report(struct ha_agent *agent, uint32_t from,
                    const struct ha_vm_report *report, struct ha_vm *vm)
{
    if (vm->move.to == 0) {
        return false;
    }
    if (ha_vm_upgrading(vm)) {
        return from == vm->owner && is_of_this(vm, report) &&
               report_of_both(agent, vm, report);
    }
    if (from == vm->move.to) {
        if (uuid_equal(report->attempt, vm->attempt)) {
            report_of_dest(agent, vm, report);
        }
        return true;
    }
    return from == vm->owner && is_of_this(vm, report) &&
           report_of_owner(agent, vm, report);
}

bool ha_move_filled(struct ha_agent *agent, const struct ha_vm_report *report,
                    struct ha_vm *vm)
{
    char how[REASON_LEN_MAX + 1];

    if (vm->memory_from == 0 || report->filling || vm->state != HA_VM_RUNNING ||
        !uuid_equal(report->instance, vm->instance)) {
        return false;
    }
    ha_text_set(how, sizeof how, vm->last, "; ", report->text, NULL);
    vm->memory_from = 0;
    ha_text_set(vm->reason, sizeof vm->reason, how, NULL);
    ha_move_over(vm, false, how);
    emit(agent, vm, report->text);
    return true;
}

/* A new term
 * ------------------------------------------------------------------------------------ */

enum end_state { END_AWAY, END_EMPTY, END_HAS_IT };

/* What a node says of its end: nothing, for it is not here (any more), that it has no
 * process of it, or that it has one. */
static enum end_state end_of(struct ha_agent *agent, uint32_t nodeid,
                             const struct incarnation *inc, const struct ha_vm *vm)
{
    const struct ha_member *m = ha_agent_member(agent, nodeid);

    if (m == NULL || !ha_agent_is_participant(agent, nodeid)) {
        return END_AWAY;
    }
    return incarnation_equal(&m->incarnation, inc) && ha_member_vm(m, vm->uuid) != NULL
               ? END_HAS_IT
               : END_EMPTY;
}

/* Its owner went on, and that it said so may not have been heard. */
static bool went_on(struct ha_agent *agent, const struct ha_vm *vm)
{
    const struct ha_member *m = ha_agent_member(agent, vm->owner);
    const struct ha_local_vm *local = m != NULL ? ha_member_vm(m, vm->uuid) : NULL;

    return vm->state == HA_VM_MIGRATING && local != NULL &&
           (local->state == HA_LOCAL_RUNNING || local->state == HA_LOCAL_FROZEN) &&
           (vm->move.called_off || uuid_equal(local->attempt, vm->attempt));
}

/* That it was done may not have been heard. All else is judged as of any VM there. */
static bool review_upgrade(struct ha_agent *agent, struct ha_vm *vm)
{
    const struct ha_member *m = ha_agent_member(agent, vm->owner);
    const struct ha_local_vm *local = m != NULL ? ha_member_vm(m, vm->uuid) : NULL;

    if (local == NULL || local->state != HA_LOCAL_RUNNING || local->epoch <= vm->epoch ||
        uuid_equal(local->instance, vm->instance) ||
        end_of(agent, vm->owner, &vm->owner_incarnation, vm) != END_HAS_IT) {
        return false;
    }
    upgraded(agent, vm, local->instance, local->epoch, "");
    return true;
}

bool ha_move_review(struct ha_agent *agent, const struct ha_vm *record)
{
    struct ha_vm vm = *record;
    enum end_state owner, dest;

    if (vm.move.to == 0) {
        return false;
    }
    if (ha_vm_upgrading(&vm)) {
        return review_upgrade(agent, &vm);
    }
    owner = end_of(agent, vm.owner, &vm.owner_incarnation, &vm);
    dest = end_of(agent, vm.move.to, &vm.move.to_incarnation, &vm);
    if (owner == END_EMPTY && !(vm.state == HA_VM_UNKNOWN && dest == END_HAS_IT)) {
        moved(agent, &vm, "its node says that it runs no more");
        if (dest == END_EMPTY) {
            not_there(agent, &vm, "nothing of it is there any more");
        }
        return true;
    }
    if (owner == END_HAS_IT && went_on(agent, &vm)) {
        return false; /* judged as any other VM that runs there */
    }
    if (dest == END_HAS_IT || (dest == END_AWAY && owner == END_AWAY)) {
        return false; /* it will say; or its death must be proven: policy */
    }
    if (vm.state == HA_VM_MIGRATING && vm.move.called_off) {
        return false;
    }
    not_there(agent, &vm,
              dest == END_AWAY ? "left the view" : "nothing of it is there any more");
    return true;
}
