/* SPDX-License-Identifier: Apache-2.0 */
/* Applying an update: the one place where the shared state changes, and what this node
 * does because of it. */
#include <string.h>

#include "base/uuid.h"
#include "ha/ha_agent.h"

static void act_on_vm(struct ha_agent *agent, const struct ha_vm *vm,
                      struct uuid attempt_before)
{
    if (vm->owner != agent->self.nodeid ||
        !incarnation_equal(&vm->owner_incarnation, &agent->self.incarnation) ||
        uuid_is_none(vm->attempt) || uuid_equal(vm->attempt, attempt_before)) {
        return;
    }
    if (vm->state == HA_VM_STARTING) {
        agent->ops->vm_start(agent->ctx, vm);
    } else if (vm->state == HA_VM_STOPPING) {
        agent->ops->vm_stop(agent->ctx, vm);
    } else if (vm->state == HA_VM_SUSPENDING || vm->state == HA_VM_SNAPSHOTTING ||
               vm->state == HA_VM_REVERTING) {
        agent->ops->vm_save(agent->ctx, vm);
    }
}

static bool is_end_of(const struct ha_agent *agent, uint32_t owner, uint32_t to)
{
    return to != 0 && (owner == agent->self.nodeid || to == agent->self.nodeid);
}

/* A copy here that the record gives to somebody else, or to a later epoch of another
 * instance. */
static void discard_superseded(struct ha_agent *agent, const struct ha_vm *vm)
{
    for (unsigned i = 0; i < agent->local_vm_count; i++) {
        const struct ha_local_vm *local = &agent->local_vm[i];

        if (uuid_equal(local->vm, vm->uuid) && local->epoch != 0 &&
            vm->epoch > local->epoch && !uuid_equal(vm->instance, local->instance)) {
            agent->ops->vm_discard(agent->ctx, vm->uuid,
                                   "a later claim names another instance");
            return;
        }
    }
}

static bool is_local(const struct ha_agent *agent, struct uuid vm)
{
    for (unsigned i = 0; i < agent->local_vm_count; i++) {
        if (uuid_equal(agent->local_vm[i].vm, vm)) {
            return true;
        }
    }
    return false;
}

/*
 * After a state transfer no update says what became of the VMs here while this node was
 * away. One whose record is gone, or that a later claim has, runs no further instruction;
 * and all of them where this very life of the node is held for dead: others may have
 * taken them on the strength of that proof.
 */
void ha_agent_discard_superseded(struct ha_agent *agent)
{
    struct proof_answer answer;
    bool dead = proof_is_dead(&agent->state.proofs, agent->self.nodeid,
                              &agent->self.incarnation, &answer);

    for (unsigned i = agent->local_vm_count; i-- > 0;) {
        struct uuid uuid = agent->local_vm[i].vm;
        const struct ha_vm *vm = ha_state_vm(&agent->state, uuid);

        if (dead || vm == NULL) {
            agent->ops->vm_discard(agent->ctx, uuid,
                                   dead ? "this node is held for dead, others may have it"
                                        : "it has been deleted");
        } else {
            agent->ops->vm_move(agent->ctx, vm);
            agent->ops->vm_twin(agent->ctx, vm);
            discard_superseded(agent, vm);
        }
    }
    for (unsigned i = 0; i < agent->state.vm_count && !dead; i++) {
        const struct ha_vm *vm = agent->state.vm[i];

        if (vm->held.node == agent->self.nodeid && !is_local(agent, vm->uuid)) {
            agent->ops->vm_twin(agent->ctx, vm); /* somebody waits for its word */
        }
    }
    if (dead) {
        ha_agent_trace(agent, "this life of the node is held for dead (",
                       proof_kind_str(answer.kind), "): it begins another one");
        agent->ops->reincarnate(agent->ctx);
    }
}

static void act_on_node(struct ha_agent *agent, const struct ha_node *node,
                        enum ha_fence_state before, struct uuid uid_before)
{
    if (node->fence_executor != agent->self.nodeid) {
        return;
    }
    if (node->fence == HA_FENCE_PENDING &&
        (before != HA_FENCE_PENDING || !uuid_equal(uid_before, node->fence_uid))) {
        /* R7: the intent is on the disks of a majority before anything is switched off.
         */
        agent->fence_wait = true;
        agent->fence_wait_version = node->version;
    } else if (node->fence == HA_FENCE_CANCELLING && before != HA_FENCE_CANCELLING) {
        agent->ops->fence_cancel(agent->ctx, node);
    } else if (node->fence == HA_FENCE_OK && before == HA_FENCE_PENDING &&
               agent->state.cluster.conf != NULL &&
               agent->state.cluster.conf->after_fence == CONF_AFTER_FENCE_ON) {
        agent->ops->fence_on(agent->ctx, node);
    }
}

/* Post-copy: who runs here and waits for memory of a node that is proven dead, waits for
 * nothing. Silence proves nothing: that is for the two processes to judge. */
static void tell_of_dead_holders(struct ha_agent *agent)
{
    for (unsigned i = 0; i < agent->state.vm_count; i++) {
        const struct ha_vm *vm = agent->state.vm[i];
        const struct ha_node *node;
        struct proof_answer answer;

        if (vm->memory_from == 0 || vm->owner != agent->self.nodeid ||
            ha_view_has(&agent->view, vm->memory_from)) {
            continue;
        }
        node = ha_state_node(&agent->state, vm->memory_from);
        if (node != NULL && proof_is_dead(&agent->state.proofs, node->nodeid,
                                          &node->incarnation, &answer)) {
            agent->ops->vm_holder_dead(agent->ctx, vm->uuid, node->name);
        }
    }
}

static struct uuid body_uuid(const struct ha_item_msg *item)
{
    struct uuid uuid = {{0}};

    if (item->body_len >= sizeof uuid) {
        memcpy(&uuid, item->body, sizeof uuid);
    }
    return uuid;
}

static uint32_t body_nodeid(const struct ha_item_msg *item)
{
    struct bytes_rd rd = bytes_rd_make(item->body, item->body_len);

    return bytes_rd_u32(&rd);
}

/* In the log stands only what can be read again: of a refused item, its position. */
static void persist_position(struct ha_agent *agent)
{
    struct bytes_wr wr = bytes_wr_make(agent->scratch, sizeof agent->scratch);

    bytes_wr_u64(&wr, agent->state.term);
    bytes_wr_u32(&wr, agent->state.coordinator);
    agent->ops->persist(agent->ctx, HA_ITEM_TERM, wr.buf, wr.pos, agent->state.version);
}

static void apply_update(struct ha_agent *agent, const struct ha_item_msg *item,
                         uint64_t now_ns)
{
    struct uuid attempt = {{0}}, fence_uid = {{0}};
    enum ha_fence_state fence = HA_FENCE_NONE;
    bool moving = false, twin = false;
    const struct ha_node *node = NULL;
    const struct ha_vm *vm = NULL;

    if (item->kind == HA_ITEM_VM) {
        vm = ha_state_vm(&agent->state, body_uuid(item));
        attempt = vm != NULL ? vm->attempt : attempt;
        moving = vm != NULL && is_end_of(agent, vm->owner, vm->move.to);
        twin = vm != NULL && is_end_of(agent, vm->owner, vm->twin.to);
    } else if (item->kind == HA_ITEM_NODE) {
        node = ha_state_node(&agent->state, body_nodeid(item));
        if (node != NULL) {
            fence = node->fence;
            fence_uid = node->fence_uid;
        }
    }
    if (ha_state_apply(&agent->state, item->kind, item->body, item->body_len,
                       item->version, now_ns) < 0) {
        /* The same everywhere: the position advances, so that the others' next update
         * fits. */
        agent->state.version = item->version;
        ha_agent_trace(agent, "an update was refused by the state", "", "");
        persist_position(agent);
    } else {
        agent->ops->persist(agent->ctx, item->kind, item->body, item->body_len,
                            item->version);
    }
    agent->count.applied++;
    if (item->event[0] != '\0') {
        agent->ops->event(agent->ctx, item->version, item->event);
    }
    if (item->kind == HA_ITEM_VM) {
        vm = ha_state_vm(&agent->state, body_uuid(item));
        if (vm != NULL) {
            act_on_vm(agent, vm, attempt);
            if (moving || is_end_of(agent, vm->owner, vm->move.to)) {
                agent->ops->vm_move(agent->ctx, vm);
            }
            if (twin || is_end_of(agent, vm->owner, vm->twin.to) ||
                is_end_of(agent, vm->owner, vm->held.node)) {
                agent->ops->vm_twin(agent->ctx, vm);
            }
            discard_superseded(agent, vm);
        }
    } else if (item->kind == HA_ITEM_NODE) {
        node = ha_state_node(&agent->state, body_nodeid(item));
        if (node != NULL) {
            act_on_node(agent, node, fence, fence_uid);
        }
    } else if (item->kind == HA_ITEM_CLUSTER) {
        ha_agent_times_refresh(agent);
    }
    tell_of_dead_holders(agent);
}

void ha_update_deliver(struct ha_agent *agent, const struct ha_msg *msg, uint64_t now_ns)
{
    if (agent->phase != HA_PHASE_SYNCED || msg->from.nodeid != agent->sync.coordinator) {
        agent->count.dropped_sender++;
        ha_agent_trace(agent, "update dropped: its sender does not coordinate this term",
                       "", "");
        return;
    }
    if (msg->from.term != agent->state.term ||
        msg->from.version != agent->state.version ||
        msg->item.version != agent->state.version + 1) {
        agent->count.dropped_version++;
        ha_agent_trace(agent, "update dropped: decided on another version", "", "");
        return;
    }
    apply_update(agent, &msg->item, now_ns);
    agent->decide_wanted = true;
}
