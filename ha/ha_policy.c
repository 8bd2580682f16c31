/* SPDX-License-Identifier: Apache-2.0 */
#include "ha/ha_policy.h"

#include <string.h>

#include "ha/ha_drain.h"
#include "ha/ha_place.h"
#include "ha/ha_text.h"
#include "ha/ha_twin.h"
#include "ha/ha_twinplace.h"

struct decision {
    const struct ha_policy_in *in;
    struct ha_plan *plan;
    struct ha_place place;
    struct ha_drain drain;
    bool
        needs_proof[NODES_MAX]; /* by node index: a VM waits for the proof of its death */
};

static struct ha_action *action_add(struct decision *d, enum ha_action_kind kind,
                                    unsigned index)
{
    struct ha_action *action;

    if (d->plan->count == d->plan->cap) {
        d->plan->more = true;
        return NULL;
    }
    action = &d->plan->action[d->plan->count++];
    memset(action, 0, sizeof *action);
    action->kind = kind;
    action->index = index;
    return action;
}

static void due(struct decision *d, uint64_t at_ns)
{
    if (at_ns < d->plan->next_due_ns) {
        d->plan->next_due_ns = at_ns;
    }
}

static bool participates(const struct ha_policy_in *in, uint32_t nodeid)
{
    if (!ha_view_has(in->view, nodeid)) {
        return false;
    }
    for (unsigned i = 0; i < in->participant_count; i++) {
        if (in->participant[i] == nodeid) {
            return true;
        }
    }
    return false;
}

static const char *node_name(const struct decision *d, uint32_t nodeid)
{
    const struct ha_node *node = ha_state_node(d->in->state, nodeid);

    return node != NULL ? node->name : "a node that is not in the cluster definition";
}

uint64_t ha_policy_backoff_ns(const struct conf_vm *conf, uint32_t failures)
{
    uint64_t first_ms = conf != NULL ? conf->backoff_ms : 1000;
    uint64_t most_ms = conf != NULL ? conf->backoff_max_ms : 300000;
    uint64_t ms;

    if (failures <= 1 || first_ms == 0) {
        return 0;
    }
    ms = failures - 2 >= 20 ? most_ms : first_ms << (failures - 2);
    return (ms < most_ms ? ms : most_ms) * NSEC_PER_MSEC;
}

/* Writes the action only if it changes something: decide(apply(plan)) is empty. */
static void set_vm(struct decision *d, unsigned index, enum ha_vm_state state,
                   uint32_t owner, bool kill, bool new_attempt, const char *reason)
{
    const struct ha_vm *vm = d->in->state->vm[index];
    struct ha_action *action;

    if (!new_attempt && vm->state == state && vm->owner == owner && vm->kill == kill &&
        strcmp(vm->reason, reason) == 0) {
        return;
    }
    action = action_add(d, HA_ACTION_VM, index);
    if (action == NULL) {
        return;
    }
    action->state = state;
    action->owner = owner;
    action->kill = kill;
    action->new_attempt = new_attempt;
    ha_text_set(action->reason, sizeof action->reason, reason, NULL);
}

/* Who held its writes has ended, and what was waited for still is: nobody may touch its
 * disks before. What is there and answers says so by itself (ha_vmmgone.c). */
static const struct ha_node *old_host_away(const struct decision *d,
                                           const struct ha_vm *vm)
{
    const struct ha_node *old = ha_state_node(d->in->state, vm->held.node);
    struct proof_answer answer;

    return old != NULL && !ha_view_has(d->in->view, old->nodeid) &&
                   incarnation_equal(&old->incarnation, &vm->held.incarnation) &&
                   !proof_is_dead(&d->in->state->proofs, old->nodeid,
                                  &vm->held.incarnation, &answer)
               ? old
               : NULL;
}

static void start_somewhere(struct decision *d, unsigned index, uint32_t prefer,
                            uint32_t avoid, const char *why)
{
    const struct ha_vm *vm = d->in->state->vm[index];
    const struct ha_node *old = old_host_away(d, vm);
    char reason[REASON_LEN_MAX + 1];
    uint32_t nodeid = 0;

    if (old != NULL) {
        ha_text_set(reason, sizeof reason, "what it was on ", old->name,
                    " may still write; it starts when that node is proven dead", NULL);
        set_vm(d, index, vm->state == HA_VM_RUNNING ? HA_VM_UNKNOWN : vm->state,
               vm->owner, false, false, reason);
        return;
    }
    if (vm->conf == NULL) {
        set_vm(d, index, vm->state, vm->owner, false, false,
               "its definition cannot be read by this version: apply it again");
        return;
    }
    /* Somebody that it must not share a node with may have come meanwhile. */
    if (prefer != 0 && ha_place_may(&d->place, vm, prefer)) {
        nodeid = prefer;
    }
    if (nodeid == 0) {
        nodeid = ha_place_choose(&d->place, vm, avoid, reason);
    }
    if (nodeid == 0) {
        /* Who was thought to run it does not. */
        set_vm(d, index, vm->state == HA_VM_RUNNING ? HA_VM_UNKNOWN : vm->state,
               vm->owner, false, false, reason);
        return;
    }
    ha_text_set(reason, sizeof reason, why,
                vm->task == HA_TASK_REVERT ? "; reverting on " : "; starting on ",
                node_name(d, nodeid), NULL);
    ha_place_take(&d->place, nodeid, vm);
    set_vm(d, index, vm->task == HA_TASK_REVERT ? HA_VM_REVERTING : HA_VM_STARTING,
           nodeid, false, true, reason);
}

static bool owner_is_dead(const struct decision *d, const struct ha_vm *vm,
                          const char **ret_how)
{
    struct proof_answer answer;

#ifdef MUT_NO_FENCE_WAIT
    *ret_how = "mutant";
    return true;
#endif
    if (proof_covers(&d->in->state->proofs, vm->owner, &vm->owner_incarnation, vm->uuid,
                     vm->epoch, vm->instance, &answer)) {
        *ret_how = proof_kind_str(answer.kind);
        return true;
    }
    return false;
}

/* One that is to be suspended runs first: where its node died meanwhile, it starts again,
 * from suspend.gms if it came that far. */
static bool wants_to_run(const struct ha_vm *vm)
{
    return vm->desired == HA_DESIRED_RUNNING || vm->desired == HA_DESIRED_SUSPENDED;
}

static void wants_proof(struct decision *d, uint32_t nodeid)
{
    for (unsigned i = 0; i < d->in->state->node_count; i++) {
        if (d->in->state->node[i].nodeid == nodeid) {
            d->needs_proof[i] = true;
        }
    }
}

/* It was on its way to another node, which may have the claim: that one speaks first, or
 * is dead. */
static bool dest_decides(struct decision *d, unsigned index)
{
    const struct ha_vm *vm = d->in->state->vm[index];
    char reason[REASON_LEN_MAX + 1];
    struct proof_answer answer;

    if (vm->move.to == 0 || ha_vm_upgrading(vm) ||
        proof_is_dead(&d->in->state->proofs, vm->move.to, &vm->move.to_incarnation,
                      &answer)) {
        return false;
    }
    if (participates(d->in, vm->move.to)) {
        ha_text_set(reason, sizeof reason, node_name(d, vm->owner),
                    " left the view while it migrated; waiting for ",
                    node_name(d, vm->move.to), " to say what is there", NULL);
    } else {
        wants_proof(d, vm->move.to);
        ha_text_set(reason, sizeof reason, "migrated from ", node_name(d, vm->owner),
                    " to ", node_name(d, vm->move.to),
                    " when both left the view; nothing starts before both are proven "
                    "dead",
                    NULL);
    }
    set_vm(d, index, HA_VM_UNKNOWN, vm->owner, vm->kill, false, reason);
    return true;
}

/* Its twin may take the next claim without a proof (R5), and does so at once: for a while
 * it is its matter, and nobody is fenced for it. */
static bool twin_decides(struct decision *d, unsigned index)
{
    const struct ha_vm *vm = d->in->state->vm[index];
    uint64_t until_ns = vm->changed_ns + HA_TWIN_WAIT_NS;
    char reason[REASON_LEN_MAX + 1];
    struct proof_answer answer;

    if (!ha_vm_protected(vm) || !wants_to_run(vm) ||
        proof_is_dead(&d->in->state->proofs, vm->twin.to, &vm->twin.to_incarnation,
                      &answer)) {
        return false;
    }
    if (ha_view_has(d->in->view, vm->twin.to)) {
        if (vm->state == HA_VM_UNKNOWN && d->in->now_ns >= until_ns) {
            return false;
        }
        due(d, vm->state == HA_VM_UNKNOWN ? until_ns : d->in->now_ns + HA_TWIN_WAIT_NS);
        ha_text_set(reason, sizeof reason, node_name(d, vm->owner),
                    " left the view; its twin on ", node_name(d, vm->twin.to),
                    " takes over", NULL);
    } else {
        wants_proof(d, vm->owner);
        wants_proof(d, vm->twin.to);
        ha_text_set(reason, sizeof reason, node_name(d, vm->owner), " and its twin's ",
                    node_name(d, vm->twin.to),
                    " left the view; nothing starts before both are proven dead", NULL);
    }
    set_vm(d, index, HA_VM_UNKNOWN, vm->owner, vm->kill, false, reason);
    return true;
}

/* The owner is not there to act or to report. */
static void owner_away(struct decision *d, unsigned index)
{
    const struct ha_vm *vm = d->in->state->vm[index];
    char reason[REASON_LEN_MAX + 1];
    const char *how;

    if (dest_decides(d, index) || twin_decides(d, index)) {
        return;
    }
    if (owner_is_dead(d, vm, &how)) {
        ha_text_set(reason, sizeof reason, node_name(d, vm->owner), " is dead (", how,
                    ")", NULL);
        if (vm->task == HA_TASK_REVERT) {
            start_somewhere(d, index, 0, 0, reason); /* its disks may be half copied */
        } else if (!wants_to_run(vm)) {
            set_vm(d, index, HA_VM_STOPPED, vm->owner, false, false, reason);
        } else if (vm->back_to != HA_VM_INVALID) {
            ha_text_add(reason, sizeof reason,
                        "; not started elsewhere: it was ordered with --node");
            set_vm(d, index, HA_VM_STOPPED, vm->owner, false, false, reason);
        } else if (vm->conf != NULL && !vm->conf->protect) {
            ha_text_add(reason, sizeof reason,
                        "; not restarted because ha.protect is false: gemel vm retry");
            set_vm(d, index, HA_VM_HELD, vm->owner, false, false, reason);
        } else {
            start_somewhere(d, index, 0, 0, reason);
        }
        return;
    }
    wants_proof(d, vm->owner);
    ha_text_set(reason, sizeof reason, node_name(d, vm->owner),
                " left the view; nothing starts before it is proven dead", NULL);
    set_vm(d, index, HA_VM_UNKNOWN, vm->owner, vm->kill, false, reason);
}

static void after_failure(struct decision *d, unsigned index)
{
    const struct ha_vm *vm = d->in->state->vm[index];
    uint64_t ready_ns = vm->changed_ns + ha_policy_backoff_ns(vm->conf, vm->failures);
    char why[REASON_LEN_MAX + 1];

    if (vm->desired != HA_DESIRED_RUNNING && vm->task != HA_TASK_REVERT) {
        set_vm(d, index, HA_VM_STOPPED, vm->owner, false, false, vm->reason);
        return;
    }
    if (d->in->now_ns < ready_ns) {
        due(d, ready_ns);
        return;
    }
    ha_text_set(why, sizeof why, "was: ", vm->reason, NULL);
    if (strlen(why) > 120) {
        why[120] = '\0';
    }
    if (vm->conf != NULL && vm->restarts <= vm->conf->restart_max && vm->avoid == 0) {
        start_somewhere(d, index, vm->owner, 0, why);
    } else {
        start_somewhere(d, index, 0, vm->avoid != 0 ? vm->avoid : vm->owner, why);
    }
}

/* What its owner does besides running it. True: it has been told, or is told now. */
static bool owner_has_task(struct decision *d, unsigned index)
{
    const struct ha_vm *vm = d->in->state->vm[index];

    if (vm->state == HA_VM_REVERTING) {
        return !vm->kill;
    }
    if (vm->task == HA_TASK_REVERT) {
        if (vm->state != HA_VM_STOPPING) {
            set_vm(d, index, HA_VM_STOPPING, vm->owner, true, true, vm->reason);
        }
        return true;
    }
    if (vm->state == HA_VM_RUNNING && vm->desired == HA_DESIRED_SUSPENDED) {
        set_vm(d, index, HA_VM_SUSPENDING, vm->owner, false, true, vm->reason);
        return true;
    }
    if (vm->state == HA_VM_RUNNING && vm->desired == HA_DESIRED_RUNNING &&
        vm->task == HA_TASK_SNAPSHOT) {
        set_vm(d, index, HA_VM_SNAPSHOTTING, vm->owner, false, true, vm->reason);
        return true;
    }
    return false;
}

/* By the next claim; the reason says what froze it. */
static void thaw(struct decision *d, unsigned index)
{
    static const char how[] = ": thawing by the next claim";
    const struct ha_vm *vm = d->in->state->vm[index];
    char reason[REASON_LEN_MAX + 1];

    if (ha_vm_paused(vm)) {
        ha_text_set(reason, sizeof reason, vm->reason, NULL); /* a disk of it: until that
                                                                 is back */
    } else if (vm->last[0] != '\0' && strcmp(vm->reason, vm->last) == 0) {
        /* A suspend or a snapshot, which ended with these words. */
        ha_text_set(reason, sizeof reason, vm->last, NULL);
        if (strlen(reason) + sizeof how > sizeof reason) {
            reason[sizeof reason - sizeof how] = '\0';
        }
        ha_text_add(reason, sizeof reason, how);
    } else {
        ha_text_set(reason, sizeof reason, "its node is back in a quorate view", how,
                    NULL);
    }
    set_vm(d, index, HA_VM_STARTING, vm->owner, false, true, reason);
}

/* It could not leave, and need not any more. */
static void forget_maintenance(struct decision *d, unsigned index)
{
    const struct ha_vm *vm = d->in->state->vm[index];
    const struct ha_node *owner = ha_state_node(d->in->state, vm->owner);
    char reason[REASON_LEN_MAX + 1];

    if (strncmp(vm->reason, HA_CANNOT_LEAVE, sizeof HA_CANNOT_LEAVE - 1) == 0 &&
        owner != NULL && !owner->maintenance) {
        ha_text_set(reason, sizeof reason, "runs on; the maintenance of ", owner->name,
                    " is over", NULL);
        set_vm(d, index, vm->state, vm->owner, false, false, reason);
    }
}

/* Planned maintenance moves it. */
static void drain(struct decision *d, unsigned index)
{
    const struct ha_vm *vm = d->in->state->vm[index];
    char why[REASON_LEN_MAX + 1], reason[REASON_LEN_MAX + 1];
    struct ha_action *action;
    uint64_t due_ns;
    uint32_t to;

    switch (ha_drain_vm(&d->drain, &d->place, vm, &to, why, &due_ns)) {
    case HA_DRAIN_MOVE:
        action = action_add(d, HA_ACTION_VM, index);
        if (action == NULL) {
            return;
        }
        action->state = HA_VM_MIGRATING;
        action->owner = vm->owner;
        action->new_attempt = true;
        action->move_to = to;
        ha_text_set(action->reason, sizeof action->reason,
                    to == vm->home ? "going home to " : "maintenance: migrating to ",
                    node_name(d, to), NULL);
        break;
    case HA_DRAIN_NOWHERE:
        ha_text_set(reason, sizeof reason, HA_CANNOT_LEAVE, node_name(d, vm->owner),
                    ", which is in maintenance: ", why, NULL);
        set_vm(d, index, vm->state, vm->owner, false, false, reason);
        break;
    case HA_DRAIN_LATER:
        due(d, due_ns);
        break;
    case HA_DRAIN_STAY:
    default:
        forget_maintenance(d, index);
        break;
    }
}

static void twin_action(struct decision *d, unsigned index, enum ha_action_kind kind,
                        uint32_t to, const char *a, const char *b)
{
    struct ha_action *action = action_add(d, kind, index);

    if (action != NULL) {
        action->move_to = to;
        ha_text_set(action->reason, sizeof action->reason, a, b, NULL);
    }
}

static bool in_maintenance(const struct decision *d, uint32_t nodeid)
{
    const struct ha_node *node = ha_state_node(d->in->state, nodeid);

    return node != NULL && node->maintenance;
}

/* Its definition asks for a twin (`ft`), or a node of it is to be emptied. True: that is
 * done, or under way. */
static bool protect(struct decision *d, unsigned index)
{
    const struct ha_vm *vm = d->in->state->vm[index];
    uint64_t due_ns = ha_twin_due_ns(vm, d->in->times);
    char why[REASON_LEN_MAX + 1];
    uint32_t to;

    if (vm->twin.to != 0 && !vm->twin.ending && !vm->twin.switchover) {
        if (in_maintenance(d, vm->twin.to)) {
            twin_action(d, index, HA_ACTION_TWIN_END, vm->twin.to,
                        "maintenance: its twin leaves ", node_name(d, vm->twin.to));
        } else if (in_maintenance(d, vm->owner) && ha_vm_protected(vm)) {
            twin_action(d, index, HA_ACTION_TWIN_SWITCH, vm->twin.to,
                        "maintenance: its twin takes over on ",
                        node_name(d, vm->twin.to));
        }
        return true;
    }
    if (!ha_twin_wanted(vm)) {
        return vm->twin.to != 0;
    }
    if (d->in->now_ns < due_ns) {
        due(d, due_ns);
        return false;
    }
    to = ha_twin_choose(&d->place, vm, why);
    if (to != 0) {
        ha_place_take(&d->place, to, vm);
        twin_action(d, index, HA_ACTION_TWIN, to, "ft: gets a twin on ",
                    node_name(d, to));
    }
    return to != 0;
}

/* Its node is in the ring, so it is only the agent that left, and not for long yet. */
static bool agent_is_away(struct decision *d, const struct ha_node *node)
{
    uint64_t at_ns = node->changed_ns + d->in->times->agent_away_ns;

    if (!node->lost || node->fence != HA_FENCE_NONE ||
        !ha_view_away(d->in->view, node->nodeid) || d->in->now_ns >= at_ns) {
        return false;
    }
    due(d, at_ns);
    return true;
}

/* Its process has ended, and its twin does not take over: it starts anew. A twin whose
 * node is away may have the claim: without that node's death nobody else gets one. */
static void twin_failed(struct decision *d, unsigned index)
{
    const struct ha_vm *vm = d->in->state->vm[index];
    const struct ha_node *node;
    struct proof_answer answer;
    uint64_t until_ns;
    bool away, dead;

    if (!ha_vm_protected(vm)) {
        return;
    }
    away = !ha_view_has(d->in->view, vm->twin.to);
    dead = proof_is_dead(&d->in->state->proofs, vm->twin.to, &vm->twin.to_incarnation,
                         &answer);
    until_ns = vm->changed_ns + (away ? HA_TWIN_AWAY_NS : HA_TWIN_WAIT_NS);
    node = ha_state_node(d->in->state, vm->twin.to);
    if (away && !dead && (node == NULL || !agent_is_away(d, node))) {
        wants_proof(d, vm->twin.to);
    }
    if (!dead && d->in->now_ns < until_ns) {
        due(d, until_ns);
        return;
    }
    set_vm(d, index, HA_VM_FAILED, vm->owner, false, false,
           dead ? "its twin's node is dead as well"
                : "its twin did not take over in time");
}

/* The owner is a participant, the same incarnation that took the VM. */
static void owner_present(struct decision *d, unsigned index)
{
    const struct ha_vm *vm = d->in->state->vm[index];
    uint64_t grace_ns = d->in->times->report_grace_ns;
    uint64_t limit_ns;

    if (vm->state == HA_VM_MIGRATING || owner_has_task(d, index)) {
        return; /* both ends report */
    }
    /* It left here under a claim of the destination's: that one says first what became of
     * it, and is stopped then. */
    if (vm->state == HA_VM_UNKNOWN && vm->move.to != 0) {
        return;
    }
    if (!wants_to_run(vm)) {
        if (vm->state != HA_VM_STOPPING) {
            set_vm(d, index, HA_VM_STOPPING, vm->owner, vm->kill, true, vm->reason);
        }
        return;
    }
    switch (vm->state) {
    case HA_VM_STARTING:
        if (ha_vm_paused(vm)) {
            break; /* its disk decides when; its owner tries until then */
        }
        limit_ns =
            vm->changed_ns + grace_ns +
            (vm->conf != NULL ? vm->conf->start_timeout_ms : 60000) * NSEC_PER_MSEC;
        if (d->in->now_ns >= limit_ns) {
            set_vm(d, index, HA_VM_STOPPING, vm->owner, true, true,
                   vm->back_to != HA_VM_INVALID
                       ? "did not start within start_timeout: stopped"
                       : "did not start within start_timeout: stopped, to be tried "
                         "elsewhere");
        } else {
            due(d, limit_ns);
        }
        break;
    case HA_VM_FROZEN:
        thaw(d, index);
        break;
    case HA_VM_RUNNING:
        if (!protect(d, index)) {
            drain(d, index);
        }
        break;
    case HA_VM_UNKNOWN: /* the owner's report decides, or its twin's */
        twin_failed(d, index);
        break;
    case HA_VM_STOPPING:
    case HA_VM_SUSPENDING:
    case HA_VM_SNAPSHOTTING:
    case HA_VM_MIGRATING:
    default:
        break;
    }
}

static void decide_vm(struct decision *d, unsigned index)
{
    const struct ha_vm *vm = d->in->state->vm[index];
    const struct ha_node *owner;
    struct ha_action *gone;

    switch (vm->state) {
    case HA_VM_STOPPED:
    case HA_VM_SUSPENDED:
        if (vm->task == HA_TASK_REVERT) {
            start_somewhere(d, index, 0, 0, "to be reverted to a snapshot");
        } else if (vm->desired == HA_DESIRED_RUNNING) {
            start_somewhere(d, index, 0, 0,
                            vm->state == HA_VM_SUSPENDED ? "resumed" : "wanted running");
        } else if (vm->desired == HA_DESIRED_DELETED) {
            gone = action_add(d, HA_ACTION_VM_GONE, index);
            if (gone != NULL) {
                ha_text_set(gone->reason, sizeof gone->reason, "deleted", NULL);
            }
        }
        return;
    case HA_VM_FAILED:
        after_failure(d, index);
        return;
    case HA_VM_HELD:
        if (vm->desired != HA_DESIRED_RUNNING) {
            set_vm(d, index, HA_VM_STOPPED, vm->owner, false, false, vm->reason);
        }
        return;
    case HA_VM_INVALID:
    case HA_VM_STATE_COUNT:
        return;
    case HA_VM_STARTING:
    case HA_VM_RUNNING:
    case HA_VM_STOPPING:
    case HA_VM_UNKNOWN:
    case HA_VM_FROZEN:
    case HA_VM_SUSPENDING:
    case HA_VM_SNAPSHOTTING:
    case HA_VM_REVERTING:
    case HA_VM_MIGRATING:
        break;
    }
    owner = ha_state_node(d->in->state, vm->owner);
    if (owner != NULL && agent_is_away(d, owner)) {
        return; /* R8: its VMs go on without it; it may be a restart */
    }
    if (owner != NULL && participates(d->in, vm->owner) &&
        incarnation_equal(&owner->incarnation, &vm->owner_incarnation)) {
        owner_present(d, index);
    } else if (owner != NULL && ha_view_has(d->in->view, vm->owner) &&
               !participates(d->in, vm->owner)) {
        return; /* joining: its summary comes first */
    } else {
        owner_away(d, index);
    }
}

static uint32_t pick_executor(const struct decision *d, const struct ha_node *target)
{
    uint32_t fit[NODES_MAX];
    unsigned count = 0;

    /* The coordinator first, then the others in turn: a device may be out of reach from
     * one of them. */
    fit[count++] = d->in->self;
    for (unsigned i = 0; i < d->in->participant_count && count < NODES_MAX; i++) {
        uint32_t nodeid = d->in->participant[i];

        if (nodeid != target->nodeid && nodeid != d->in->self &&
            ha_view_has(d->in->view, nodeid)) {
            fit[count++] = nodeid;
        }
    }
    return fit[target->fence_attempts % count];
}

static void request_fence(struct decision *d, unsigned index, const char *why)
{
    const struct ha_node *node = &d->in->state->node[index];
    struct ha_action *action = action_add(d, HA_ACTION_FENCE, index);

    if (action == NULL) {
        return;
    }
    action->owner = pick_executor(d, node);
    ha_text_set(action->reason, sizeof action->reason, why, "; ",
                node_name(d, action->owner), " switches it off", NULL);
}

static bool race_delay(struct decision *d, const struct ha_node *node)
{
    uint64_t at_ns = node->changed_ns + d->in->times->race_delay_ns;

    /* Two nodes: both halves are quorate. The lower id shoots first, so that they do not
     * shoot each other. */
    if (d->in->state->node_count != 2 || d->in->view->votes_needed != 1 ||
        d->in->self < node->nodeid || d->in->now_ns >= at_ns) {
        return false;
    }
    due(d, at_ns);
    return true;
}

static void decide_fence_absent(struct decision *d, unsigned index)
{
    const struct ha_node *node = &d->in->state->node[index];
    struct proof_answer answer;

    if (proof_is_dead(&d->in->state->proofs, node->nodeid, &node->incarnation, &answer)) {
        return;
    }
    switch (node->fence) {
    case HA_FENCE_PENDING:
        if (!participates(d->in, node->fence_executor)) {
            request_fence(d, index, "the node that executed the request is gone");
        }
        return;
    case HA_FENCE_FAILED: {
        uint64_t at_ns = node->changed_ns + d->in->times->fence_retry_ns;

        if (d->in->now_ns < at_ns) {
            due(d, at_ns);
            return;
        }
        break;
    }
    case HA_FENCE_NONE:
    case HA_FENCE_OK:
    case HA_FENCE_CANCELLING:
        /* One that was cancelled has been counted. */
        if (d->in->fence_budget_left == 0 &&
            (node->fence_attempts == 0 ||
             !incarnation_equal(&node->fence_incarnation, &node->incarnation))) {
            return; /* `gemel status` says so; gemel node fence overrides */
        }
        break;
    }
    if (d->needs_proof[index] && !race_delay(d, node)) {
        request_fence(d, index, "its VMs wait for the proof of its death");
    }
}

static void decide_fence_present(struct decision *d, unsigned index)
{
    const struct ha_node *node = &d->in->state->node[index];
    struct ha_action *action;

    if (node->fence != HA_FENCE_PENDING && node->fence != HA_FENCE_CANCELLING) {
        return;
    }
    if (!participates(d->in, node->fence_executor)) {
        action = action_add(d, HA_ACTION_FENCE_SETTLED, index);
        if (action != NULL) {
            ha_text_set(action->reason, sizeof action->reason,
                        "back, and the node that executed the request is gone", NULL);
        }
    } else if (node->fence == HA_FENCE_PENDING && !node->lost) {
        action = action_add(d, HA_ACTION_FENCE_CANCEL, index);
        if (action != NULL) {
            ha_text_set(action->reason, sizeof action->reason,
                        "back in the view: the request against it is cancelled", NULL);
        }
    }
}

/* Its writes are held until its old host is off: nobody else waits for that proof. Where
 * that host's agent answers, that one says what is there. */
static void decide_held(struct decision *d, const struct ha_vm *vm)
{
    const struct ha_node *old = ha_state_node(d->in->state, vm->held.node);

    bool wanted =
        vm->held.node != 0 && wants_to_run(vm); /* anew: it is to wait as well */

    if ((ha_vm_holds(vm) || wanted) && old != NULL &&
        !ha_view_has(d->in->view, old->nodeid) && !agent_is_away(d, old) &&
        incarnation_equal(&old->incarnation, &vm->held.incarnation)) {
        wants_proof(d, old->nodeid);
    }
}

static unsigned priority(const struct ha_vm *vm)
{
    return vm->conf != NULL && vm->conf->priority < 5 ? vm->conf->priority : 4;
}

void ha_policy_decide(const struct ha_policy_in *in, struct ha_plan *plan)
{
    struct decision d = {.in = in, .plan = plan};

    plan->count = 0;
    plan->more = false;
    plan->next_due_ns = UINT64_MAX;
    if (!in->view->quorate || !ha_state_set_up(in->state)) {
        return;
    }
    ha_place_init(&d.place, in);
    ha_drain_init(&d.drain, &d.place);
    for (unsigned level = 0; level < 5; level++) {
        for (unsigned i = 0; i < in->state->vm_count; i++) {
            if (priority(in->state->vm[i]) == level) {
                decide_vm(&d, i);
            }
        }
    }
    for (unsigned i = 0; i < in->state->vm_count; i++) {
        decide_held(&d, in->state->vm[i]);
    }
    for (unsigned i = 0; i < in->state->node_count; i++) {
        if (ha_view_has(in->view, in->state->node[i].nodeid)) {
            decide_fence_present(&d, i);
        } else {
            decide_fence_absent(&d, i);
        }
    }
}
