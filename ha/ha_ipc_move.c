/* SPDX-License-Identifier: Apache-2.0 */
/* Migrations and drains, as those hear of them who wait for their end. */
#include "ha/ha_ipc_priv.h"

#include <string.h>

#include "ha/ha_drain_tell.h"
#include "ha/ha_moved.h"
#include "ha/ha_text.h"

#define TELL_NS (500 * NSEC_PER_MSEC)

/* What is not gone from the node yet, or not back. */
static void left_of(struct ha_ipc *ipc, const struct ha_node *node,
                    struct ha_drain_left *ret)
{
    const struct ha_state *s = &ipc->daemon->agent.state;

    if (node->maintenance) {
        ha_drain_leaving(s, node->nodeid, ret);
    } else {
        ha_drain_returning(s, node->nodeid, ret);
    }
}

/* The first VM that holds it up, and why; NULL: none does. */
static const struct ha_vm *first_stuck(struct ha_ipc *ipc, const struct ha_node *node,
                                       char why[static REASON_LEN_MAX + 1])
{
    const struct ha_agent *a = &ipc->daemon->agent;
    uint32_t participant[NODES_MAX];
    struct ha_policy_in in;
    struct ha_place place;

    ha_place_now(a, loop_now_ns(), &in, participant, &place);
    for (unsigned i = 0; i < a->state.vm_count; i++) {
        const struct ha_vm *vm = a->state.vm[i];

        if ((node->maintenance ? vm->owner : vm->home) == node->nodeid &&
            ha_drain_stuck(&place, vm, why)) {
            return vm;
        }
    }
    return NULL;
}

bool ha_ipc_drain_goal(struct ha_ipc *ipc, struct ha_ipc_waiting *w)
{
    const struct ha_node *node =
        ha_state_node_by_name(&ipc->daemon->agent.state, w->object);
    struct ha_drain_left left = {0};
    char text[512];

    if (node != NULL && node->maintenance != w->on) {
        ha_text_set(text, sizeof text, w->object,
                    w->on ? ": maintenance was ended by somebody else meanwhile; what "
                            "has not left stays"
                          : ": was put into maintenance again by somebody else "
                            "meanwhile; its VMs leave",
                    "; gemel events tells who", NULL);
        ha_ipc_done(ipc, w, EXIT_FAILED, text);
        return true;
    }
    if (node != NULL) {
        left_of(ipc, node, &left);
        w->drain_total = left.count > w->drain_total ? left.count : w->drain_total;
        if (left.count > 0) {
            return false;
        }
    }
    ha_text_set(text, sizeof text, w->object,
                node == NULL          ? ": is not in the cluster any more"
                : node->maintenance   ? ": in maintenance; nothing runs there"
                : w->drain_total == 0 ? ": maintenance is over; no VM was away"
                                      : ": maintenance is over; its VMs are back",
                NULL);
    ha_ipc_done(ipc, w, EXIT_DONE, text);
    return true;
}

/* Who has not left yet, or not come back, and why. */
void ha_ipc_drain_text(struct ha_ipc *ipc, struct ha_ipc_waiting *w, char *text,
                       size_t cap)
{
    const struct ha_node *node =
        ha_state_node_by_name(&ipc->daemon->agent.state, w->object);
    struct ha_drain_left left = {0};
    char why[REASON_LEN_MAX + 1];
    const struct ha_vm *stuck;

    if (node == NULL) {
        ha_text_set(text, cap, w->object, ": is not in the cluster any more", NULL);
        return;
    }
    left_of(ipc, node, &left);
    stuck = first_stuck(ipc, node, why);
    ha_text_set(text, cap, w->object,
                node->maintenance ? ": in maintenance, but "
                                  : ": maintenance is over, but ",
                NULL);
    ha_text_add_u64(text, cap, left.count);
    ha_text_add(text, cap, left.count == 1 ? " VM has not " : " VMs have not ");
    ha_text_add(text, cap, node->maintenance ? "left: " : "come back: ");
    ha_text_add(text, cap, left.names);
    if (stuck != NULL) {
        ha_text_add(text, cap, left.count == 1 ? "" : "; ");
        ha_text_add(text, cap, left.count == 1 ? "" : stuck->name);
        ha_text_add(text, cap, ": ");
        ha_text_add(text, cap, why);
    }
    ha_text_add(text, cap, "; it goes on: gemel explain ");
    ha_text_add(text, cap, w->object);
}

/* "42 % web1: n1 -> n2, round 3, 310 MiB/s, dirty 12 MiB/s, about 4 s left" */
static void move_text(struct ha_ipc *ipc, const struct ha_vm *vm, char *text, size_t cap)
{
    struct ha_daemon *d = ipc->daemon;
    const struct ha_move_progress *p =
        ha_agent_progress_of(&d->agent, vm->uuid, loop_now_ns());
    char how[256];

    ha_moving_text(&d->agent.state, vm, p, how, sizeof how);
    text[0] = '\0';
    if (ha_vm_upgrading(vm)) {
        return; /* over before there is anything to say */
    }
    ha_text_add_u64(text, cap, p != NULL ? p->percent : 0);
    ha_text_add(text, cap, " % ");
    ha_text_add(text, cap, vm->name);
    ha_text_add(text, cap, ": ");
    ha_text_add(text, cap, how);
}

/* "99 % web1: n1 -> n2, post-copy: 42 MiB to come, 310 faults" */
static void fill_text(struct ha_ipc *ipc, const struct ha_vm *vm, char *text, size_t cap)
{
    struct ha_daemon *d = ipc->daemon;
    const struct ha_move_progress *p =
        ha_agent_progress_of(&d->agent, vm->uuid, loop_now_ns());
    const struct ha_node *from = ha_state_node(&d->agent.state, vm->memory_from);
    const struct ha_node *to = ha_state_node(&d->agent.state, vm->owner);

    ha_text_set(text, cap, "99 % ", vm->name, ": ", from != NULL ? from->name : "?",
                " -> ", to != NULL ? to->name : "?", ", post-copy", NULL);
    if (p != NULL && p->missing != 0) {
        ha_text_add(text, cap, ": ");
        ha_text_add_u64(text, cap, (p->missing + (1u << 20) - 1) >> 20);
        ha_text_add(text, cap, " MiB to come, ");
        ha_text_add_u64(text, cap, p->faults);
        ha_text_add(text, cap, " faults");
    }
}

/* Of all that has to move, in percent: those that moved, and a part of those that do. */
static unsigned drain_percent(struct ha_ipc *ipc, const struct ha_ipc_waiting *w,
                              uint32_t nodeid, unsigned left)
{
    struct ha_daemon *d = ipc->daemon;
    const struct ha_state *s = &d->agent.state;
    unsigned done = (w->drain_total - left) * 100;

    for (unsigned i = 0; i < s->vm_count; i++) {
        const struct ha_vm *vm = s->vm[i];
        const struct ha_move_progress *p =
            ha_agent_progress_of(&d->agent, vm->uuid, loop_now_ns());

        if (vm->move.to != 0 && p != NULL &&
            (vm->owner == nodeid || vm->move.to == nodeid)) {
            done += p->percent;
        }
    }
    return w->drain_total == 0 ? 0 : done / w->drain_total;
}

/* "62 % n1: 3 of 5 VMs left; web1: n1 -> n2, ..." */
static void drain_progress(struct ha_ipc *ipc, struct ha_ipc_waiting *w, char *text,
                           size_t cap)
{
    const struct ha_state *s = &ipc->daemon->agent.state;
    const struct ha_node *node = ha_state_node_by_name(s, w->object);
    const struct ha_vm *stuck;
    struct ha_drain_left left;
    char one[512] = "", why[REASON_LEN_MAX + 1];
    unsigned percent;

    text[0] = '\0';
    if (node == NULL) {
        return;
    }
    left_of(ipc, node, &left);
    if (left.count > w->drain_total) {
        w->drain_total = left.count;
    }
    percent = drain_percent(ipc, w, node->nodeid, left.count);
    percent = percent > 99 ? 99 : percent;
    w->drain_percent = percent > w->drain_percent ? percent : w->drain_percent;
    ha_text_add_u64(text, cap, w->drain_percent);
    ha_text_add(text, cap, " % ");
    ha_text_add(text, cap, w->object);
    ha_text_add(text, cap, ": ");
    ha_text_add_u64(text, cap, w->drain_total - left.count);
    ha_text_add(text, cap, " of ");
    ha_text_add_u64(text, cap, w->drain_total);
    ha_text_add(text, cap, w->drain_total == 1 ? " VM " : " VMs ");
    ha_text_add(text, cap, node->maintenance ? "gone" : "back");
    for (unsigned i = 0; i < s->vm_count; i++) {
        const struct ha_vm *vm = s->vm[i];

        if (vm->move.to != 0 &&
            (node->maintenance ? vm->owner : vm->home) == node->nodeid) {
            const char *bar;

            move_text(ipc, vm, one, sizeof one);
            bar = strstr(one, " % ");
            ha_text_add(text, cap, "; ");
            ha_text_add(text, cap, bar != NULL ? bar + 3 : one);
            return;
        }
    }
    stuck = first_stuck(ipc, node, why);
    if (stuck != NULL) {
        ha_text_add(text, cap, "; ");
        ha_text_add(text, cap, stuck->name);
        ha_text_add(text, cap, " waits: ");
        ha_text_add(text, cap, why);
    }
}

/* "42 % web1: its memory goes to n2" */
static void twin_text(struct ha_ipc *ipc, const struct ha_vm *vm, char *text, size_t cap)
{
    const struct ha_agent *a = &ipc->daemon->agent;
    const struct ha_move_progress *p = ha_agent_progress_of(a, vm->uuid, loop_now_ns());
    const struct ha_node *node = ha_state_node(&a->state, vm->twin.to);

    text[0] = '\0';
    ha_text_add_u64(text, cap,
                    vm->twin.step > HA_TWIN_SYNC ? 99
                    : p != NULL                  ? p->percent
                                                 : 0);
    ha_text_add(text, cap, " % ");
    ha_text_add(text, cap, vm->name);
    ha_text_add(text, cap,
                vm->twin.step > HA_TWIN_SYNC ? ": its twin joins on "
                                             : ": its memory is copied to ");
    ha_text_add(text, cap, node != NULL ? node->name : "?");
}

void ha_ipc_tell_progress(struct ha_ipc *ipc, struct ha_ipc_waiting *w, uint64_t now_ns)
{
    const struct ha_vm *vm = ha_state_vm_by_name(&ipc->daemon->agent.state, w->object);
    char text[512] = "";

    if (now_ns - w->told_ns < TELL_NS) {
        return;
    }
    w->told_ns = now_ns;
    if (w->goal == GOAL_DRAINED) {
        drain_progress(ipc, w, text, sizeof text);
    } else if (w->goal == GOAL_VM_MIGRATED && vm != NULL && vm->memory_from != 0) {
        fill_text(ipc, vm, text, sizeof text);
    } else if (w->goal == GOAL_VM_MIGRATED && vm != NULL && vm->move.to != 0) {
        move_text(ipc, vm, text, sizeof text);
    } else if (w->goal == GOAL_VM_PROTECTED && vm != NULL && vm->twin.to != 0) {
        twin_text(ipc, vm, text, sizeof text);
    }
    if (text[0] != '\0') {
        cli_sender_progress(ipc->sender, w->connection, text);
    }
}
