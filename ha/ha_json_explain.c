/* SPDX-License-Identifier: Apache-2.0 */
/* `gemel explain`: why a VM or a node is as it is, in sentences. */
#include "ha/ha_json_priv.h"

#include <string.h>
#include <time.h>

#include "ha/ha_drain_tell.h"
#include "ha/ha_moved.h"
#include "ha/ha_pending.h"
#include "ha/ha_text.h"
#include "ha/ha_twin.h"
#include "ha/ha_twinplace.h"

static void explain_paused(struct ha_daemon *d, const struct ha_vm *vm, json_object *a)
{
    uint64_t at_ns, now_ns = loop_now_ns();
    char text[128] = "paused for ";

    ha_text_add_u64(text, sizeof text, (now_ns - vm->changed_ns) / NSEC_PER_MSEC);
    ha_json_add_line(a, text,
                     " ms: its guest stands still, no write of it is lost, and its node "
                     "goes on with it when the disk works again",
                     "");
    if (d->vmm == NULL || !ha_vmm_next_thaw(d->vmm, vm->uuid, &at_ns)) {
        ha_json_add_line(a, "when it is tried next: its node knows (gemel explain there)",
                         "", "");
    } else if (at_ns <= now_ns) {
        ha_json_add_line(a, "it is being tried", "", "");
    } else {
        ha_text_set(text, sizeof text, "next try in ", NULL);
        ha_text_add_u64(text, sizeof text, (at_ns - now_ns) / NSEC_PER_MSEC);
        ha_json_add_line(a, text, " ms", "");
    }
    ha_json_add_line(a, "at once: gemel vm retry ", vm->name, "");
}

static void explain_move(struct ha_daemon *d, const struct ha_vm *vm, json_object *a)
{
    const struct ha_move_progress *p =
        ha_agent_progress_of(&d->agent, vm->uuid, loop_now_ns());
    char text[256], percent[16] = "";

    ha_moving_text(&d->agent.state, vm, p, text, sizeof text);
    if (p != NULL) {
        ha_text_add_u64(percent, sizeof percent, p->percent);
        ha_text_add(percent, sizeof percent, " %: ");
    }
    ha_json_add_line(a, "migration: ", percent, text);
    ha_json_add_line(a, "to give it up: gemel vm migrate ", vm->name, " --cancel");
}

/* It was sent away by a maintenance, and is to go home. */
static void explain_home(struct ha_daemon *d, const struct ha_vm *vm, json_object *a)
{
    const struct ha_node *home = ha_state_node(&d->agent.state, vm->home);
    uint32_t participant[NODES_MAX];
    char why[REASON_LEN_MAX + 1];
    struct ha_policy_in in;
    struct ha_place place;

    ha_place_now(&d->agent, loop_now_ns(), &in, participant, &place);
    if (home != NULL && home->maintenance) {
        ha_json_add_line(a, "it left ", home->name,
                         " for maintenance, and goes back when that is over");
    } else if (home != NULL && ha_drain_stuck(&place, vm, why)) {
        char text[NODE_NAME_MAX + 64];

        ha_text_set(text, sizeof text, "it is to go back to ", home->name,
                    ", but not yet: ", NULL);
        ha_json_add_line(a, text, why, "");
    }
}

/* A line for each node: all that stands in its way may be much. */
static void explain_no_twin(const struct ha_place *place, const struct ha_vm *vm,
                            json_object *a)
{
    char why[REASON_LEN_MAX + 1];

    ha_json_add_line(a, "not protected, though its definition asks for a twin: ",
                     "no node can take it", "");
    for (unsigned i = 0; i < place->node_count; i++) {
        uint32_t nodeid = place->node[i].nodeid;
        const struct ha_node *node = ha_state_node(place->in->state, nodeid);

        if (node != NULL && !ha_twin_fits(place, vm, nodeid, why)) {
            ha_json_add_line(a, node->name, " ", why);
        }
    }
}

/* In which mode, and why it is that one. */
static void explain_mode(const struct ha_vm *vm, json_object *a)
{
    char text[REASON_LEN_MAX * 2], when[32] = "";
    time_t at = (time_t)(vm->diverged.at_ms / 1000);
    struct tm tm;

    if (vm->conf == NULL || (vm->twin.to == 0 && !ha_twin_wanted(vm))) {
        return;
    }
    ha_twin_rule_why(vm, text);
    if (vm->twin.to == 0 ||
        (vm->twin.commit == CONF_FT_EPOCHS) == (ha_twin_rule(vm) == CONF_FT_EPOCHS)) {
        ha_json_add_line(a, vm->twin.to != 0 ? "its twin is " : "its twin will be ", text,
                         "");
    }
    if (vm->diverged.count != 0) {
        gmtime_r(&at, &tm);
        strftime(when, sizeof when, "%Y-%m-%d %H:%M:%S UTC: ", &tm);
        ha_text_set(text, sizeof text, "lockstep was given up ", NULL);
        ha_text_add_u64(text, sizeof text, vm->diverged.count);
        ha_text_add(text, sizeof text, " times, last at ");
        ha_json_add_line(a, text, when, vm->diverged.why);
    }
    if (vm->diverged.down && vm->conf->machine == CONF_MACHINE_LOCKSTEP) {
        ha_json_add_line(a, "back to lockstep: gemel vm protect ", vm->name,
                         " --mode lockstep, or another definition");
    }
}

static void explain_twin(struct ha_daemon *d, const struct ha_vm *vm, json_object *a)
{
    const char *node = ha_json_node_name(d, vm->twin.to);
    uint64_t due_ns = ha_twin_due_ns(vm, &d->agent.times), now_ns = loop_now_ns();
    uint32_t participant[NODES_MAX];
    char why[REASON_LEN_MAX + 1], text[REASON_LEN_MAX * 3];
    struct ha_vmm_twin_state s;
    struct ha_policy_in in;
    struct ha_place place;

    if (ha_vm_protected(vm) && !ha_agent_is_participant(&d->agent, vm->twin.to)) {
        ha_json_add_line(a, "its twin was on ", node, ", which is not in the view");
    } else if (ha_vm_protected(vm)) {
        ha_json_add_line(a,
                         vm->twin.commit == CONF_FT_EPOCHS
                             ? "protected: checkpoints of it go to its twin on "
                             : "protected: its twin follows in lockstep on ",
                         node, ", and goes on within a blink when its node is lost");
    } else if (vm->twin.to != 0) {
        ha_json_add_line(a, "it gets a twin on ", node, "; it is not protected yet");
    } else if (ha_twin_wanted(vm) && now_ns < due_ns) {
        why[0] = '\0';
        ha_text_add_u64(why, sizeof why, (due_ns - now_ns) / NSEC_PER_MSEC);
        ha_json_add_line(a, "not protected; the next try for a twin (ft) is in ", why,
                         " ms");
    } else if (ha_twin_wanted(vm)) {
        ha_place_now(&d->agent, now_ns, &in, participant, &place);
        if (ha_twin_choose(&place, vm, why) == 0) {
            explain_no_twin(&place, vm, a);
        }
    } else if (vm->twin_off && vm->conf != NULL && vm->conf->ft_mode != CONF_FT_OFF) {
        ha_json_add_line(a,
                         "not protected, because of gemel vm unprotect; to change "
                         "that: gemel vm protect ",
                         vm->name, "");
    }
    explain_mode(vm, a);
    if (ha_pending_ft(vm, vm->conf, text, sizeof text)) {
        ha_json_add_line(a, "its definition was changed since it has this twin: ", text,
                         "");
    }
    ha_twin_apart_text(&d->agent.state, vm, why);
    if (why[0] != '\0') {
        ha_text_set(text, sizeof text, "its twin is on ", node, ": ", why, NULL);
        ha_json_add_line(a, text, "", "");
    }
    if (vm->twin.to != 0 && d->vmm != NULL && ha_vmm_twin_state(d->vmm, vm->uuid, &s)) {
        ha_text_set(why, sizeof why,
                    s.twin ? "its twin here is in state " : "its session is in state ",
                    s.state, ", the oldest output that waits is ", NULL);
        ha_text_add_u64(why, sizeof why, s.lag_us);
        ha_text_add(why, sizeof why, " us old, differences so far: ");
        ha_text_add_u64(why, sizeof why, s.diverged);
        ha_json_add_line(a, why, "", "");
    }
}

static void explain_vm(struct ha_daemon *d, const struct ha_vm *vm, json_object *a)
{
    const struct ha_node *owner = ha_state_node(&d->agent.state, vm->owner);
    struct proof_answer answer;

    ha_json_add_line(a, vm->name,
                     vm->desired == HA_DESIRED_RUNNING ? ": wanted running, is "
                                                       : ": wanted stopped, is ",
                     ha_json_vm_state(d, vm));
    if (ha_twin_lives_here(&d->agent, vm) != 0) { /* the record tells of what was */
        ha_json_add_line(a, "node: ", ha_json_node_name(d, d->agent.self.nodeid), "");
        ha_json_add_line(a, "why: ", ha_json_vm_reason(d, vm), "");
        return;
    }
    if (vm->state == HA_VM_RUNNING && owner != NULL) {
        ha_json_add_line(a, "node: ", owner->name, "");
    }
    ha_json_add_line(a, "why: ", ha_json_vm_reason(d, vm), "");
    if (vm->state == HA_VM_RUNNING && owner != NULL && vm->conf != NULL &&
        vm->conf->machine == CONF_MACHINE_STANDARD &&
        ha_cpus_lacks_sse(&d->agent.cpus, vm->owner)) {
        ha_json_add_line(a, owner->name, HA_NO_SSE, "");
    }
    if (vm->state == HA_VM_UNKNOWN && owner != NULL &&
        proof_is_dead(&d->agent.state.proofs, vm->owner, &vm->owner_incarnation,
                      &answer)) {
        ha_json_add_line(a, "its last owner is ", owner->name, ", which is proven dead");
    } else if (vm->state == HA_VM_UNKNOWN && owner != NULL) {
        char text[REASON_LEN_MAX + 1];

        ha_json_add_line(
            a, "its last owner is ", owner->name,
            "; nothing starts before that node is proven dead, is back, or an "
            "operator confirms it off");
        if (owner->fence == HA_FENCE_PENDING) {
            ha_text_set(text, sizeof text, "fencing by ",
                        ha_json_node_name(d, owner->fence_executor), ", attempt ", NULL);
            ha_text_add_u64(text, sizeof text, owner->fence_attempts);
            ha_json_add_line(a, text, ": ", owner->fence_detail);
        } else if (owner->fence == HA_FENCE_FAILED) {
            ha_json_add_line(a,
                             "the last attempt to fence it failed: ", owner->fence_detail,
                             "; it is tried again");
        }
        ha_json_add_line(a, "to shorten it: gemel node confirm-off ", owner->name,
                         " --reason TEXT, when you have seen that it is off");
    }
    if (!ha_json_is_unknown(d, vm) && ha_vm_paused(vm)) {
        explain_paused(d, vm, a);
    }
    if (ha_vm_holds(vm)) {
        char text[REASON_LEN_MAX + 1];

        ha_json_held(d, vm, text);
        ha_json_add_line(a, "it runs; ", text,
                         "; its reads see them, its flushes wait. To shorten it, when "
                         "you have seen that it is off: gemel node confirm-off");
    }
    explain_twin(d, vm, a);
    ha_json_explain_copies(d, vm, a);
    if (vm->move.to != 0 && !ha_vm_upgrading(vm)) {
        explain_move(d, vm, a);
    } else if (vm->home != 0 && vm->home != vm->owner) {
        explain_home(d, vm, a);
    }
    if (vm->state == HA_VM_FAILED) {
        char text[128] = "next try ";

        ha_text_add_u64(text, sizeof text,
                        ha_policy_backoff_ns(vm->conf, vm->failures) / NSEC_PER_MSEC);
        ha_text_add(text, sizeof text, " ms after the failure; at once: gemel vm retry ");
        ha_json_add_line(a, text, vm->name, "");
    }
}

static void line_left(json_object *a, const struct ha_drain_left *left, const char *what)
{
    char text[64] = "";

    ha_text_add_u64(text, sizeof text, left->count);
    ha_text_add(text, sizeof text, left->count == 1 ? " VM " : " VMs ");
    ha_json_add_line(a, text, what, left->names);
}

/* What holds up its drain, or the return of what left it. */
static void explain_maintenance(struct ha_daemon *d, const struct ha_node *node,
                                json_object *a)
{
    const struct ha_state *s = &d->agent.state;
    char why[REASON_LEN_MAX + 1], text[REASON_LEN_MAX * 2];
    uint32_t participant[NODES_MAX];
    struct ha_drain_left left;
    struct ha_policy_in in;
    struct ha_place place;

    ha_place_now(&d->agent, loop_now_ns(), &in, participant, &place);
    if (node->maintenance) {
        ha_drain_leaving(s, node->nodeid, &left);
        if (left.count == 0) {
            ha_json_add_line(
                a, "nothing runs there; when the work is done: gemel node maintenance ",
                node->name, " off");
        } else {
            line_left(a, &left, "to leave it: ");
        }
    } else {
        ha_drain_returning(s, node->nodeid, &left);
        if (left.count > 0) {
            line_left(a, &left, "to come back after its maintenance: ");
        }
    }
    for (unsigned i = 0; i < s->vm_count; i++) {
        const struct ha_vm *vm = s->vm[i];

        if (vm->owner != node->nodeid && vm->home != node->nodeid) {
            continue;
        }
        if (vm->move.to != 0 && !ha_vm_upgrading(vm)) {
            ha_json_add_line(a, vm->name, ": is being migrated to ",
                             ha_json_node_name(d, vm->move.to));
        } else if (ha_drain_stuck(&place, vm, why)) {
            if (vm->owner == node->nodeid) {
                ha_drain_problem(s, vm, why, text, sizeof text);
                ha_json_add_line(a, text, "", "");
            } else {
                ha_json_add_line(a, vm->name, " does not come back yet: ", why);
            }
        }
    }
}

/* The last of what this agent saw of the object: how it came to be so. */
static void explain_events(struct ha_daemon *d, const char *name, json_object *a)
{
    enum { TOLD_MAX = 6 };
    const struct ha_event *told[TOLD_MAX];
    unsigned count = 0;
    size_t len = strlen(name);

    for (unsigned i = 0; i < d->event_count && count < TOLD_MAX; i++) {
        const struct ha_event *e =
            &d->event[(d->event_next + EVENTS_KEPT - 1 - i) % EVENTS_KEPT];

        if (strncmp(e->text, name, len) == 0 && e->text[len] == ':') {
            told[count++] = e;
        }
    }
    if (count > 0) {
        ha_json_add_line(a, "last events, the newest last:", "", "");
    }
    while (count > 0) {
        const struct ha_event *e = told[--count];
        time_t s = (time_t)(e->wall_ns / NSEC_PER_SEC);
        char when[16] = "";
        struct tm local;

        if (localtime_r(&s, &local) != NULL) {
            strftime(when, sizeof when, "%H:%M:%S", &local);
        }
        ha_json_add_line(a, when, "  ", e->text + len + 2);
    }
}

char *ha_json_explain(struct ha_daemon *d, const char *name)
{
    const struct ha_vm *vm = ha_state_vm_by_name(&d->agent.state, name);
    const struct ha_node *node = ha_state_node_by_name(&d->agent.state, name);
    json_object *o, *lines;

    if (vm == NULL && node == NULL) {
        return NULL;
    }
    o = json_object_new_object();
    lines = json_object_new_array();
    ha_json_put_str(o, "object", name);
    if (vm != NULL) {
        explain_vm(d, vm, lines);
    } else {
        const char *state = ha_json_node_state(d, (unsigned)(node - d->agent.state.node));

        ha_json_add_line(lines, node->name,
                         strcmp(state, "maintenance") == 0 ? " is in "
                         : node->maintenance               ? " is in maintenance, "
                                                           : " is ",
                         state);
        if (ha_json_node_reason(d, (unsigned)(node - d->agent.state.node))[0] != '\0') {
            ha_json_add_line(
                lines,
                "why: ", ha_json_node_reason(d, (unsigned)(node - d->agent.state.node)),
                "");
        }
        explain_maintenance(d, node, lines);
    }
    explain_events(d, name, lines);
    json_object_object_add(o, "lines", lines);
    return ha_json_finish(o);
}
