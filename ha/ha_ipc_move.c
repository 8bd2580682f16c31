/* SPDX-License-Identifier: Apache-2.0 */
/* Migrations and drains, as those hear of them who wait for their end. */
#include "ha/ha_ipc_priv.h"

#include <string.h>

#include "ha/ha_text.h"

#define TELL_NS        (500 * NSEC_PER_MSEC)
#define LEFT_NAMED_MAX 4u
#define LEFT_TEXT_MAX  (LEFT_NAMED_MAX * (VM_NAME_MAX + 2) + 32)

/* What still runs there: how many VMs, and in `names` what they are called. */
static unsigned drain_left(struct ha_ipc *ipc, uint32_t nodeid, char *names, size_t cap)
{
    const struct ha_state *s = &ipc->daemon->agent.state;
    unsigned left = 0;

    names[0] = '\0';
    for (unsigned i = 0; i < s->vm_count; i++) {
        const struct ha_vm *vm = s->vm[i];

        if (vm->owner != nodeid || ha_vm_rests(vm)) {
            continue;
        }
        if (left < LEFT_NAMED_MAX) {
            ha_text_add(names, cap, left > 0 ? ", " : "");
            ha_text_add(names, cap, vm->name);
        }
        left++;
    }
    if (left > LEFT_NAMED_MAX) {
        ha_text_add(names, cap, " and ");
        ha_text_add_u64(names, cap, left - LEFT_NAMED_MAX);
        ha_text_add(names, cap, " more");
    }
    return left;
}

/* Why the first of them is there still. */
static const char *drain_why(struct ha_ipc *ipc, uint32_t nodeid)
{
    const struct ha_state *s = &ipc->daemon->agent.state;

    for (unsigned i = 0; i < s->vm_count; i++) {
        if (s->vm[i]->owner == nodeid && !ha_vm_rests(s->vm[i])) {
            return s->vm[i]->reason;
        }
    }
    return "";
}

/* A VM is on its way there since before the maintenance: it arrives, and leaves. */
static bool one_comes(struct ha_ipc *ipc, uint32_t nodeid)
{
    const struct ha_state *s = &ipc->daemon->agent.state;

    for (unsigned i = 0; i < s->vm_count; i++) {
        if (s->vm[i]->move.to == nodeid) {
            return true;
        }
    }
    return false;
}

bool ha_ipc_drain_goal(struct ha_ipc *ipc, struct ha_ipc_waiting *w)
{
    const struct ha_node *node =
        ha_state_node_by_name(&ipc->daemon->agent.state, w->object);
    char text[512];

    if (node == NULL ||
        (node->maintenance && (one_comes(ipc, node->nodeid) ||
                               drain_left(ipc, node->nodeid, text, sizeof text) > 0))) {
        return false;
    }
    ha_text_set(text, sizeof text, w->object,
                node->maintenance ? ": in maintenance; nothing runs there"
                                  : ": maintenance is over; its VMs come back",
                NULL);
    ha_ipc_done(ipc, w, EXIT_DONE, text);
    return true;
}

/* Who has not left yet, and why. */
void ha_ipc_drain_text(struct ha_ipc *ipc, struct ha_ipc_waiting *w, char *text,
                       size_t cap)
{
    const struct ha_node *node =
        ha_state_node_by_name(&ipc->daemon->agent.state, w->object);
    char names[LEFT_TEXT_MAX] = "";
    unsigned left = node != NULL ? drain_left(ipc, node->nodeid, names, sizeof names) : 0;

    if (left == 0) {
        ha_text_set(text, cap, w->object,
                    ": in maintenance, but a VM is on its way there; it goes on", NULL);
        return;
    }
    ha_text_set(text, cap, w->object, ": in maintenance, but ", NULL);
    ha_text_add_u64(text, cap, left);
    ha_text_add(text, cap, left == 1 ? " VM has not left: " : " VMs have not left: ");
    ha_text_add(text, cap, names);
    ha_text_add(text, cap, left == 1 ? ": " : "; the first: ");
    ha_text_add(text, cap, node != NULL ? drain_why(ipc, node->nodeid) : "");
    ha_text_add(text, cap, "; it goes on");
}

static void add_rate(char *text, size_t cap, const char *what, uint64_t bps)
{
    ha_text_add(text, cap, what);
    ha_text_add_u64(text, cap, bps >> 20);
    ha_text_add(text, cap, " MiB/s");
}

/* "42 % web1: n1 -> n2, round 3, 310 MiB/s, dirty 12 MiB/s, about 4 s left" */
static void move_text(struct ha_ipc *ipc, const struct ha_vm *vm, char *text, size_t cap)
{
    struct ha_daemon *d = ipc->daemon;
    const struct ha_move_progress *p =
        ha_agent_progress_of(&d->agent, vm->uuid, loop_now_ns());
    const struct ha_node *from = ha_state_node(&d->agent.state, vm->owner);
    const struct ha_node *to = ha_state_node(&d->agent.state, vm->move.to);

    text[0] = '\0';
    ha_text_add_u64(text, cap, p != NULL ? p->percent : 0);
    ha_text_add(text, cap, " % ");
    ha_text_add(text, cap, vm->name);
    ha_text_add(text, cap, ": ");
    ha_text_add(text, cap, from != NULL ? from->name : "?");
    ha_text_add(text, cap, " -> ");
    ha_text_add(text, cap, to != NULL ? to->name : "?");
    if (p == NULL) {
        return;
    }
    ha_text_add(text, cap, ", round ");
    ha_text_add_u64(text, cap, p->round);
    add_rate(text, cap, ", ", p->bps);
    add_rate(text, cap, ", dirty ", p->dirty_bps);
    if (p->throttle > 0) {
        ha_text_add(text, cap, ", vCPUs held back ");
        ha_text_add_u64(text, cap, p->throttle / 10);
        ha_text_add(text, cap, " %");
    }
    if (p->eta_ms == UINT64_MAX) {
        ha_text_add(text, cap, ", does not converge yet");
    } else {
        ha_text_add(text, cap, ", about ");
        ha_text_add_u64(text, cap, (p->eta_ms + 999) / 1000);
        ha_text_add(text, cap, " s left");
    }
}

/* Of a node that is being emptied: how many are left, and the one that moves. */
static void drain_progress(struct ha_ipc *ipc, struct ha_ipc_waiting *w, char *text,
                           size_t cap)
{
    const struct ha_state *s = &ipc->daemon->agent.state;
    const struct ha_node *node = ha_state_node_by_name(s, w->object);
    char names[LEFT_TEXT_MAX];

    ha_text_set(text, cap, "0 % ", NULL);
    if (node == NULL) {
        text[0] = '\0';
        return;
    }
    for (unsigned i = 0; i < s->vm_count; i++) {
        if (s->vm[i]->move.to != 0 && s->vm[i]->owner == node->nodeid) {
            move_text(ipc, s->vm[i], text, cap);
            break;
        }
    }
    ha_text_add(text, cap, strcmp(text, "0 % ") != 0 ? "; " : "");
    ha_text_add_u64(text, cap, drain_left(ipc, node->nodeid, names, sizeof names));
    ha_text_add(text, cap, " left on ");
    ha_text_add(text, cap, w->object);
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
    } else if (w->goal == GOAL_VM_MIGRATED && vm != NULL && vm->move.to != 0) {
        move_text(ipc, vm, text, sizeof text);
    }
    if (text[0] != '\0') {
        cli_sender_progress(ipc->sender, w->connection, text);
    }
}
