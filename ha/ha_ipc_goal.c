/* SPDX-License-Identifier: Apache-2.0 */
/* What a client that waits is waiting for: reached, failed for good, or not in time. */
#include "ha/ha_ipc_priv.h"

#include <stdlib.h>
#include <string.h>

#include "base/uuid.h"
#include "ha/ha_text.h"

/* How long a migration whose node was lost waits for the word where its VM starts. */
#define RESTART_NS (30 * NSEC_PER_SEC)

/* It rests, and is wanted so: the order ended, or another one came. */
static bool gave_up_start(struct ha_ipc *ipc, struct ha_ipc_waiting *w,
                          const struct ha_vm *vm)
{
    bool suspended = vm->state == HA_VM_SUSPENDED && vm->desired == HA_DESIRED_SUSPENDED;
    bool said = strncmp(vm->reason, "not ", 4) == 0;
    char text[512];

    if (!suspended && (vm->state != HA_VM_STOPPED || vm->desired != HA_DESIRED_STOPPED)) {
        return false;
    }
    ha_text_set(text, sizeof text, vm->name, ": ",
                said        ? ""
                : suspended ? "not resumed: "
                            : "not started: ",
                vm->reason, NULL);
    ha_ipc_done(ipc, w, EXIT_FAILED, text);
    return true;
}

/* True: reached or failed for good, and answered. */
static bool vm_goal(struct ha_ipc *ipc, struct ha_ipc_waiting *w)
{
    struct ha_state *s = &ipc->daemon->agent.state;
    const struct ha_vm *vm = ha_state_vm_by_name(s, w->object);
    char text[512];

    if (vm == NULL) {
        ha_text_set(text, sizeof text, w->object,
                    w->goal == GOAL_VM_GONE ? ": deleted" : ": was deleted", NULL);
        ha_ipc_done(ipc, w, w->goal == GOAL_VM_GONE ? EXIT_DONE : EXIT_NOT_FOUND, text);
        return true;
    }
    if (w->goal == GOAL_VM_RUNNING && vm->state == HA_VM_RUNNING) {
        const struct ha_node *owner = ha_state_node(s, vm->owner);
        bool no_sse = vm->conf != NULL && vm->conf->machine == CONF_MACHINE_STANDARD &&
                      ha_cpus_lacks_sse(&ipc->daemon->agent.cpus, vm->owner);

        ha_text_set(text, sizeof text, vm->name, ": running on ",
                    owner != NULL ? owner->name : "?", no_sse ? ", which" HA_NO_SSE : "",
                    NULL);
        ha_ipc_done(ipc, w, EXIT_DONE, text);
        return true;
    }
    if (w->goal == GOAL_VM_RUNNING && vm->version > w->since_version &&
        (vm->state == HA_VM_HELD || (vm->state == HA_VM_FAILED && vm->failures >= 2))) {
        ha_text_set(text, sizeof text, vm->name, ": not started: ", vm->reason, NULL);
        ha_ipc_done(ipc, w, EXIT_FAILED, text);
        return true;
    }
    if (!uuid_is_none(w->thaw) && ha_vm_paused(vm) && !uuid_equal(w->thaw, vm->attempt)) {
        ha_text_set(text, sizeof text, vm->name, ": still ", vm->reason, NULL);
        ha_ipc_done(ipc, w, EXIT_FAILED, text);
        return true;
    }
    if (w->goal == GOAL_VM_RUNNING && vm->version > w->since_version &&
        gave_up_start(ipc, w, vm)) {
        return true;
    }
    if (w->goal == GOAL_VM_STOPPED && vm->state == HA_VM_STOPPED) {
        ha_text_set(text, sizeof text, vm->name, ": stopped: ", vm->reason, NULL);
        ha_ipc_done(ipc, w, EXIT_DONE, text);
        return true;
    }
    return false;
}

/* One of its ends would not, whatever else was said around it. */
static bool was_refused(const char *last)
{
    return strncmp(last, HA_REFUSED, sizeof HA_REFUSED - 1) == 0 ||
           strstr(last, ": " HA_REFUSED) != NULL;
}

/* A migration came to its end because its VM did not go on at either node: HA starts it
 * anew. True: where is not known yet, and worth a moment's waiting. */
static bool restart_decided_later(const struct ha_vm *vm, struct ha_ipc_waiting *w,
                                  uint64_t now_ns)
{
    if (vm->desired != HA_DESIRED_RUNNING ||
        (vm->state != HA_VM_UNKNOWN && vm->state != HA_VM_FAILED)) {
        return false;
    }
    if (w->lost_ns == 0) {
        w->lost_ns = now_ns;
    }
    return now_ns - w->lost_ns < RESTART_NS && now_ns < w->deadline_ns;
}

/* Appends what HA makes of it. */
static void add_restart(const struct ha_state *s, const struct ha_ipc_waiting *w,
                        const struct ha_vm *vm, char *text, size_t cap)
{
    const struct ha_node *owner = ha_state_node(s, vm->owner);

    if (w->lost_ns == 0) {
        return;
    }
    if (vm->state == HA_VM_RUNNING) {
        ha_text_add(text, cap, "; HA has restarted it on ");
        ha_text_add(text, cap, owner != NULL ? owner->name : "another node");
    } else {
        ha_text_add(text, cap,
                    vm->state == HA_VM_STARTING ? "; HA restarts it: "
                                                : "; HA restarts it, but not yet: ");
        ha_text_add(text, cap, vm->reason);
    }
}

/* A migration, or its call-off, came to its end. */
static void move_ended(struct ha_ipc *ipc, struct ha_ipc_waiting *w,
                       const struct ha_vm *vm, bool good)
{
    char text[512], *doc = NULL;
    bool late = w->goal == GOAL_VM_STAYS && !good && !vm->last_failed;

    ha_text_set(text, sizeof text, vm->name, ": ",
                late ? "too late, it was "
                : good || strncmp(vm->last, "not ", 4) == 0 || vm->last[0] == '\0'
                    ? ""
                    : "not migrated: ",
                vm->last[0] != '\0' ? vm->last : vm->reason, NULL);
    add_restart(&ipc->daemon->agent.state, w, vm, text, sizeof text);
    if (good && w->goal == GOAL_VM_MIGRATED) {
        doc = ha_json_moved(vm);
    }
    ha_ipc_done_doc(ipc, w,
                    good                    ? EXIT_DONE
                    : was_refused(vm->last) ? EXIT_REFUSED
                                            : EXIT_FAILED,
                    text, doc);
    free(doc);
}

/* What ends with a word in the record: vm->last. */
static bool task_goal(struct ha_ipc *ipc, struct ha_ipc_waiting *w)
{
    const struct ha_vm *vm = ha_state_vm_by_name(&ipc->daemon->agent.state, w->object);
    bool ended, good;
    char text[512];

    if (vm == NULL) {
        return vm_goal(ipc, w);
    }
    if (w->goal == GOAL_VM_MIGRATED || w->goal == GOAL_VM_STAYS) {
        ended = vm->move.to == 0 && vm->memory_from == 0;
        good = ended && vm->last_failed == (w->goal == GOAL_VM_STAYS);
    } else if (w->goal == GOAL_VM_SUSPENDED) {
        good = vm->state == HA_VM_SUSPENDED;
        ended = good || vm->desired != HA_DESIRED_SUSPENDED ||
                vm->state == HA_VM_STOPPED || vm->state == HA_VM_HELD;
    } else {
        ended =
            vm->task != (w->goal == GOAL_VM_SNAPSHOT ? HA_TASK_SNAPSHOT : HA_TASK_REVERT);
        good = ended && !vm->last_failed;
        ended =
            ended && (!good || vm->state == HA_VM_RUNNING || ha_vm_rests(vm)) &&
            !(good && vm->state == HA_VM_SUSPENDED && vm->desired == HA_DESIRED_RUNNING);
        good = good && vm->state != HA_VM_FAILED && vm->state != HA_VM_HELD;
    }
    if (!ended) {
        return false;
    }
    if (w->goal == GOAL_VM_MIGRATED && !good &&
        restart_decided_later(vm, w, loop_now_ns())) {
        return false;
    }
    if (w->goal == GOAL_VM_MIGRATED || w->goal == GOAL_VM_STAYS) {
        move_ended(ipc, w, vm, good);
        return true;
    }
    ha_text_set(text, sizeof text, vm->name, ": ",
                vm->last[0] != '\0' ? vm->last : vm->reason, NULL);
    ha_ipc_done(ipc, w, good ? EXIT_DONE : EXIT_FAILED, text);
    return true;
}

/* A protection began, ended, or its twin took over: what the record says of it. */
static bool twin_goal(struct ha_ipc *ipc, struct ha_ipc_waiting *w)
{
    const struct ha_vm *vm = ha_state_vm_by_name(&ipc->daemon->agent.state, w->object);
    bool good = false, ended;
    char text[512];

    if (vm == NULL) {
        return vm_goal(ipc, w);
    }
    ended = vm->twin.to == 0;
    if (w->goal == GOAL_VM_PROTECTED) {
        good = ha_vm_protected(vm) && !vm->twin.ending;
        /* Another one is about to be made. */
        ended = ended && !(vm->twin_at_once && vm->state == HA_VM_RUNNING);
    } else if (w->goal == GOAL_VM_UNPROTECTED) {
        good = ended;
    } else {
        good = vm->owner != w->since_owner && vm->state == HA_VM_RUNNING;
    }
    if (!good && !ended) {
        return false;
    }
    ha_text_set(text, sizeof text, vm->name, ": ",
                w->goal == GOAL_VM_UNPROTECTED && w->had_none
                    ? "has no twin, so nothing was protected; it gets none until gemel "
                      "vm protect"
                : vm->last[0] != '\0' ? vm->last
                                      : vm->reason,
                NULL);
    ha_ipc_done(ipc, w, good ? EXIT_DONE : EXIT_FAILED, text);
    return true;
}

/* A dry run of vm protect
 * ---------------------------------------------------------------------------- */

static const char *node_name(const struct ha_ipc *ipc, uint32_t nodeid)
{
    const struct ha_node *node = ha_state_node(&ipc->daemon->agent.state, nodeid);

    return node != NULL ? node->name : "its node";
}

static void add_look(struct ha_ipc *ipc, struct ha_ipc_waiting *w, uint32_t nodeid,
                     const char *text)
{
    if (text[0] != '\0') {
        ha_text_add(w->look_text, sizeof w->look_text,
                    w->look_text[0] != '\0' ? "; " : "");
        ha_text_add(w->look_text, sizeof w->look_text, node_name(ipc, nodeid));
        ha_text_add(w->look_text, sizeof w->look_text, ": ");
        ha_text_add(w->look_text, sizeof w->look_text, text);
    }
}

void ha_ipc_twin_look(struct ha_ipc *ipc, const struct ha_twin_look *look)
{
    const struct ha_vm *vm = ha_state_vm(&ipc->daemon->agent.state, look->vm);

    for (unsigned i = 0; i < ARRAY_SIZE(ipc->waiting) && vm != NULL; i++) {
        struct ha_ipc_waiting *w = &ipc->waiting[i];

        if (w->connection == NULL || !w->dry_run || !uuid_equal(w->op, look->op)) {
            continue;
        }
        if (look->step == HA_TWIN_LOOK_ASK) {
            w->look_to = look->to; /* before the answer to the dry run itself */
        } else if (look->step == HA_TWIN_LOOK_SIZES && !w->look_sized) {
            w->look_sized = true;
            add_look(ipc, w, vm->owner, look->text);
        } else if (look->step == HA_TWIN_LOOK_FOUND && !w->look_found) {
            w->look_found = true;
            add_look(ipc, w, look->to, look->text);
        }
        ha_ipc_look(ipc);
        return;
    }
}

/* Both have answered, or one will not. */
static bool look_goal(struct ha_ipc *ipc, struct ha_ipc_waiting *w, bool late)
{
    const struct ha_vm *vm = ha_state_vm_by_name(&ipc->daemon->agent.state, w->object);
    char text[sizeof w->text + sizeof w->look_text + 256];
    bool good = w->look_text[0] == '\0';

    if (vm == NULL) {
        return vm_goal(ipc, w);
    }
    if (!w->look_found && !late) {
        return false;
    }
    if (good) {
        ha_text_set(text, sizeof text, w->text, NULL);
    } else {
        ha_text_set(text, sizeof text, "dry run: ", vm->name, ": would get no twin on ",
                    node_name(ipc, w->look_to), ": ", w->look_text, NULL);
    }
    if (!w->look_found) {
        ha_text_add(text, sizeof text, "; not looked at: what only ");
        ha_text_add(text, sizeof text,
                    node_name(ipc, w->look_sized ? w->look_to : vm->owner));
        ha_text_add(text, sizeof text,
                    " can see (its disks there): it has not answered in time");
    }
    ha_ipc_done(ipc, w, good ? EXIT_DONE : EXIT_REFUSED, text);
    return true;
}

static bool fence_goal(struct ha_ipc *ipc, struct ha_ipc_waiting *w)
{
    const struct ha_node *node =
        ha_state_node_by_name(&ipc->daemon->agent.state, w->object);
    char text[512];

    if (node == NULL || node->version <= w->since_version ||
        node->fence == HA_FENCE_PENDING) {
        return false;
    }
    ha_text_set(text, sizeof text, node->name,
                node->fence == HA_FENCE_OK ? ": off: " : ": not fenced: ",
                node->fence_detail, NULL);
    ha_ipc_done(ipc, w, node->fence == HA_FENCE_OK ? EXIT_DONE : EXIT_FAILED, text);
    return true;
}

static bool all_stopped(struct ha_ipc *ipc, struct ha_ipc_waiting *w)
{
    const struct ha_state *s = &ipc->daemon->agent.state;

    for (unsigned i = 0; i < s->vm_count; i++) {
        if (s->vm[i]->state != HA_VM_STOPPED && s->vm[i]->state != HA_VM_SUSPENDED) {
            return false;
        }
    }
    ha_ipc_done(ipc, w, EXIT_DONE, "cluster stop: every VM is stopped and released");
    return true;
}

static void timed_out(struct ha_ipc *ipc, struct ha_ipc_waiting *w)
{
    const struct ha_vm *vm =
        w->goal == GOAL_VM_RUNNING
            ? ha_state_vm_by_name(&ipc->daemon->agent.state, w->object)
            : NULL;
    char text[512];

    if (!w->accepted) {
        ha_text_set(text, sizeof text, w->object,
                    ": no majority has said in time that it is accepted; it may still "
                    "be done: gemel status",
                    NULL);
    } else if (w->goal == GOAL_DRAINED) {
        ha_ipc_drain_text(ipc, w, text, sizeof text);
    } else {
        ha_text_set(text, sizeof text, w->object, ": accepted, but not done in time",
                    vm != NULL ? ": " : "", vm != NULL ? vm->reason : "",
                    "; it goes on: gemel explain ", w->object, NULL);
    }
    ha_ipc_done(ipc, w, EXIT_TIMED_OUT, text);
}

void ha_ipc_look(struct ha_ipc *ipc)
{
    uint64_t now_ns = loop_now_ns();

    for (unsigned i = 0; i < ARRAY_SIZE(ipc->waiting); i++) {
        struct ha_ipc_waiting *w = &ipc->waiting[i];
        bool answered = false;

        if (w->connection == NULL) {
            continue;
        }
        if (w->accepted) {
            switch (w->goal) {
            case GOAL_FENCED:
                answered = fence_goal(ipc, w);
                break;
            case GOAL_DRAINED:
                answered = ha_ipc_drain_goal(ipc, w);
                break;
            case GOAL_ALL_STOPPED:
                answered = all_stopped(ipc, w);
                break;
            case GOAL_VM_RUNNING:
            case GOAL_VM_STOPPED:
            case GOAL_VM_GONE:
                answered = vm_goal(ipc, w);
                break;
            case GOAL_VM_SUSPENDED:
            case GOAL_VM_SNAPSHOT:
            case GOAL_VM_REVERTED:
            case GOAL_VM_MIGRATED:
            case GOAL_VM_STAYS:
                answered = task_goal(ipc, w);
                break;
            case GOAL_VM_PROTECTED:
            case GOAL_VM_UNPROTECTED:
            case GOAL_VM_SWITCHED:
                answered = twin_goal(ipc, w);
                break;
            case GOAL_TWIN_LOOKED:
                answered = look_goal(ipc, w, now_ns >= w->deadline_ns);
                break;
            case GOAL_NONE:
            default:
                break;
            }
        }
        if (!answered && now_ns >= w->deadline_ns) {
            timed_out(ipc, w);
        } else if (!answered && w->accepted) {
            ha_ipc_tell_progress(ipc, w, now_ns);
        }
    }
}
