/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <json-c/json.h>

#include "base/os.h"
#include "base/uuid.h"
#include "ha/ha_drain_tell.h"
#include "ha/ha_json_priv.h"
#include "ha/ha_moved.h"
#include "ha/ha_pending.h"
#include "ha/ha_text.h"
#include "ha/ha_twin.h"
#include "ha/ha_twinplace.h"

void ha_json_put_str(json_object *o, const char *key, const char *value)
{
    json_object_object_add(o, key, json_object_new_string(value));
}

static void put_u64(json_object *o, const char *key, uint64_t value)
{
    json_object_object_add(o, key, json_object_new_uint64(value));
}

static void put_bool(json_object *o, const char *key, bool value)
{
    json_object_object_add(o, key, json_object_new_boolean(value));
}

char *ha_json_finish(json_object *o)
{
    char *text = strdup(json_object_to_json_string_ext(
        o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));

    json_object_put(o);
    return text;
}

static const char *incarnation_text(const struct incarnation *inc, char *text, size_t cap)
{
    char id[UUID_STR_LEN + 1];

    uuid_format(inc->boot_id, id);
    snprintf(text, cap, "%.8s.%" PRIu64, id, inc->join);
    return text;
}

/* "": there is none. */
const char *ha_json_node_name(struct ha_daemon *d, uint32_t nodeid)
{
    const struct ha_node *node = ha_state_node(&d->agent.state, nodeid);

    return node != NULL ? node->name : "";
}

/* What this node knows of another, in one word. */
const char *ha_json_node_state(struct ha_daemon *d, unsigned index)
{
    const struct ha_agent *a = &d->agent;
    const struct ha_node *node = &a->state.node[index];
    struct proof_answer answer;

    if (ha_view_has(&a->view, node->nodeid) && a->view.agreed) {
        if (a->phase != HA_PHASE_SYNCED || !ha_agent_is_participant(a, node->nodeid)) {
            return "joining";
        }
        if (node->fence == HA_FENCE_PENDING || node->fence == HA_FENCE_CANCELLING) {
            return "joining";
        }
        return d->suspected[index] ? "suspect"
               : node->maintenance ? "maintenance"
                                   : "member";
    }
    if (node->clean_stopped || !node->seen) {
        return "down";
    }
    return proof_is_dead(&a->state.proofs, node->nodeid, &node->incarnation, &answer)
               ? "fenced"
               : "lost";
}

static bool has_device(struct ha_daemon *d, const char *name)
{
    const struct conf_cluster *conf = d->agent.state.cluster.conf;

    for (unsigned i = 0; conf != NULL && i < conf->device_count; i++) {
        if (strcmp(conf->device[i].node, name) == 0) {
            return true;
        }
    }
    return false;
}

/* As long as the proof is kept. */
static bool fence_has_worked(const struct ha_daemon *d, const struct ha_node *node)
{
    const struct proof_table *proofs = &d->agent.state.proofs;

    for (uint32_t i = 0; i < proofs->count; i++) {
        if (proofs->proofs[i].kind == PROOF_FENCED_OFF &&
            proofs->proofs[i].node_id == node->nodeid) {
            return true;
        }
    }
    return false;
}

static const char *fence_word(struct ha_daemon *d, const struct ha_node *node)
{
    if (!has_device(d, node->name)) {
        return "none";
    }
    switch (node->fence) {
    case HA_FENCE_FAILED:
        return "failed";
    case HA_FENCE_PENDING:
    case HA_FENCE_CANCELLING:
        return "pending";
    case HA_FENCE_OK:
        return "ok";
    case HA_FENCE_NONE:
    default:
        return fence_has_worked(d, node) ? "ok" : "untried";
    }
}

/* What the devices have said during this attempt; "": nothing but that it goes on. */
static const char *fence_progress(struct ha_daemon *d, unsigned index)
{
    return strcmp(d->fence_progress[index], "under way") == 0 ? ""
                                                              : d->fence_progress[index];
}

/* Not what was once said of the node's former life: what holds now. */
const char *ha_json_node_reason(struct ha_daemon *d, unsigned index)
{
    const struct ha_node *node = &d->agent.state.node[index];
    struct proof_answer answer;

    if (node->fence == HA_FENCE_PENDING && fence_progress(d, index)[0] != '\0') {
        return fence_progress(d, index);
    }
    if (ha_view_has(&d->agent.view, node->nodeid)) {
        return node->fence == HA_FENCE_NONE || node->fence == HA_FENCE_OK
                   ? ""
                   : node->fence_detail;
    }
    if (ha_view_away(&d->agent.view, node->nodeid)) {
        return "its agent does not answer, the node is in the ring: see its gemeld";
    }
    if (node->fence != HA_FENCE_OK && proof_is_dead(&d->agent.state.proofs, node->nodeid,
                                                    &node->incarnation, &answer)) {
        return proof_kind_str(answer.kind);
    }
    return node->fence_detail;
}

static json_object *node_doc(struct ha_daemon *d, unsigned index)
{
    const struct ha_state *s = &d->agent.state;
    const struct ha_node *node = &s->node[index];
    json_object *o = json_object_new_object();
    uint64_t used = 0;
    unsigned vms = 0, twins = 0;
    char text[64];

    for (unsigned i = 0; i < s->vm_count; i++) {
        const struct ha_vm *vm = s->vm[i];
        bool runs = vm->owner == node->nodeid && !ha_vm_rests(vm);
        bool twin = vm->twin.to == node->nodeid;

        vms += runs;
        twins += twin;
        if (vm->conf != NULL && (runs || twin || vm->move.to == node->nodeid)) {
            used += ha_vm_runs_as(vm)->memory_bytes;
        }
    }
    ha_json_put_str(o, "name", node->name);
    put_u64(o, "id", node->nodeid);
    ha_json_put_str(o, "state", ha_json_node_state(d, index));
    ha_json_put_str(o, "incarnation",
                    incarnation_text(&node->incarnation, text, sizeof text));
    ha_json_put_str(o, "fence", fence_word(d, node));
    put_u64(o, "vms", vms);
    put_u64(o, "twins", twins);
    put_u64(o, "memory_free_mib",
            node->memory_bytes > used ? (node->memory_bytes - used) >> 20 : 0);
    ha_json_put_str(o, "reason", ha_json_node_reason(d, index));
    if (node->nodeid == d->agent.self.nodeid && d->vmm != NULL) {
        put_u64(o, "vms_outdated", ha_vmm_outdated(d->vmm));
    }
    return o;
}

/* Without a majority nobody writes records: that of a VM whose node is not here is what
 * was known last; and one that is here has perhaps gone live on its twin's node. */
static bool may_have_gone(const struct ha_daemon *d, const struct ha_vm *vm)
{
    return ha_vm_protected(vm) && !ha_view_has(&d->agent.view, vm->twin.to);
}

bool ha_json_is_unknown(struct ha_daemon *d, const struct ha_vm *vm)
{
    return vm->owner != 0 && !ha_vm_rests(vm) && d->agent.view.agreed &&
           !d->agent.view.quorate &&
           (!ha_view_has(&d->agent.view, vm->owner) || may_have_gone(d, vm)) &&
           ha_twin_lives_here(&d->agent, vm) == 0;
}

const char *ha_json_vm_state(struct ha_daemon *d, const struct ha_vm *vm)
{
    if (ha_twin_lives_here(&d->agent, vm) != 0) {
        return ha_vm_state_str(HA_VM_RUNNING);
    }
    if (!ha_json_is_unknown(d, vm) && ha_vm_paused(vm)) {
        return "paused";
    }
    if (!ha_json_is_unknown(d, vm) && vm->state == HA_VM_MIGRATING &&
        ha_vm_upgrading(vm)) {
        return "upgrading";
    }
    return ha_vm_state_str(ha_json_is_unknown(d, vm) ? HA_VM_UNKNOWN : vm->state);
}

void ha_json_held(struct ha_daemon *d, const struct ha_vm *vm,
                  char text[static REASON_LEN_MAX + 1])
{
    const size_t cap = REASON_LEN_MAX + 1;
    uint32_t mask = vm->conf != NULL ? conf_vm_unguarded_disks(ha_vm_runs_as(vm)) : 0;
    const char *node = ha_json_node_name(d, vm->held.node);
    bool present = ha_agent_is_participant(&d->agent, vm->held.node);

    ha_text_set(text, cap, "its writes to ", NULL);
    for (unsigned i = 0, n = 0; i < VM_DISKS_MAX; i++) {
        if ((mask >> i & 1) != 0) {
            ha_text_add(text, cap, n++ > 0 ? ", disk" : "disk");
            ha_text_add_u64(text, cap, i);
        }
    }
    ha_text_add(text, cap, mask == 0 ? "its disks" : "");
    ha_text_add(text, cap, present ? " are held until node " : " are held until ");
    ha_text_add(text, cap, node);
    ha_text_add(text, cap,
                present ? " says that nothing of it is left there" : " is fenced");
}

const char *ha_json_vm_reason(struct ha_daemon *d, const struct ha_vm *vm)
{
    return ha_twin_lives_here(&d->agent, vm) != 0
               ? "its twin on this node has taken over; the cluster's record follows"
           : ha_json_is_unknown(d, vm) && ha_view_has(&d->agent.view, vm->owner)
               ? "no quorum, and its twin, which is not heard from here, may have taken "
                 "over"
           : ha_json_is_unknown(d, vm) ? "no quorum, and its node is not heard from here"
           : ha_vm_paused(vm)          ? vm->reason + sizeof HA_PAUSED - 1
                                       : vm->reason;
}

/* The VMM's "disk PATH: what is wrong with it". */
static void put_paused(struct ha_daemon *d, json_object *o, const struct ha_vm *vm)
{
    const char *text = ha_json_vm_reason(d, vm), *colon = strstr(text, ": ");
    char disk[REASON_LEN_MAX + 1], how[VM_NAME_MAX + 32];
    uint64_t at_ns, now_ns = loop_now_ns();

    if (strncmp(text, "disk ", 5) == 0 && colon != NULL) {
        ha_text_set(disk, sizeof disk, text + 5, NULL);
        disk[colon - text - 5] = '\0';
        ha_json_put_str(o, "paused_disk", disk);
        text = colon + 2;
    }
    ha_json_put_str(o, "paused_error", text);
    if (d->vmm != NULL && ha_vmm_next_thaw(d->vmm, vm->uuid, &at_ns)) {
        put_u64(o, "next_try_ms", at_ns > now_ns ? (at_ns - now_ns) / NSEC_PER_MSEC : 0);
    }
    ha_text_set(how, sizeof how, "gemel vm retry ", vm->name, NULL);
    ha_json_put_str(o, "try_now", how);
}

static const char *desired_word(enum ha_desired desired)
{
    return desired == HA_DESIRED_RUNNING     ? "running"
           : desired == HA_DESIRED_SUSPENDED ? "suspended"
                                             : "stopped";
}

static void put_move(struct ha_daemon *d, json_object *o, const struct ha_vm *vm)
{
    json_object *m = json_object_new_object();
    const struct ha_move_progress *p =
        ha_agent_progress_of(&d->agent, vm->uuid, loop_now_ns());
    char text[256];

    ha_json_put_str(m, "from", ha_json_node_name(d, vm->owner));
    ha_json_put_str(m, "to", ha_json_node_name(d, vm->move.to));
    ha_moving_text(&d->agent.state, vm, p, text, sizeof text);
    ha_json_put_str(m, "text", text);
    if (p != NULL) {
        put_u64(m, "percent", p->percent);
        put_u64(m, "round", p->round);
        put_u64(m, "sent_bytes", p->sent);
        put_u64(m, "bytes_per_second", p->bps);
        put_u64(m, "dirty_bytes_per_second", p->dirty_bps);
        put_u64(m, "throttle_permille", p->throttle);
        if (p->eta_ms != UINT64_MAX) {
            put_u64(m, "eta_ms", p->eta_ms);
        }
    }
    json_object_object_add(o, "migration", m);
}

static void put_memory(struct ha_daemon *d, json_object *o, const struct ha_vm *vm)
{
    json_object *m = json_object_new_object();
    const struct ha_move_progress *p =
        ha_agent_progress_of(&d->agent, vm->uuid, loop_now_ns());

    ha_json_put_str(m, "from", ha_json_node_name(d, vm->memory_from));
    if (p != NULL && p->missing != 0) {
        put_u64(m, "missing_bytes", p->missing);
        put_u64(m, "faults", p->faults);
    }
    json_object_object_add(o, "post_copy", m);
}

static const char *commit_word(uint8_t commit)
{
    return commit == CONF_FT_RECEIVED ? "received"
           : commit == CONF_FT_HYBRID ? "hybrid"
           : commit == CONF_FT_EPOCHS ? "epochs"
                                      : "verified";
}

/* Its twin; lag and counters are known on the nodes of the two. */
static void put_twin(struct ha_daemon *d, json_object *o, const struct ha_vm *vm)
{
    json_object *t = json_object_new_object();
    struct ha_vmm_twin_state s;
    char apart[REASON_LEN_MAX + 1];

    ha_json_put_str(t, "node", ha_json_node_name(d, vm->twin.to));
    ha_json_put_str(t, "state",
                    vm->twin.ending       ? "ending"
                    : vm->twin.switchover ? "taking over"
                    : ha_vm_protected(vm) ? "on"
                                          : "syncing");
    ha_json_put_str(t, "mode",
                    vm->twin.commit == CONF_FT_EPOCHS ? "checkpoint" : "lockstep");
    ha_json_put_str(t, "commit", commit_word(vm->twin.commit));
    ha_twin_apart_text(&d->agent.state, vm, apart);
    if (apart[0] != '\0') {
        put_bool(t, "other_domain",
                 ha_twin_apart(&d->agent.state, vm->owner, vm->twin.to));
        ha_json_put_str(t, "failure_domain",
                        ha_twin_domain(&d->agent.state, vm->twin.to));
    }
    if (d->vmm != NULL && ha_vmm_twin_state(d->vmm, vm->uuid, &s)) {
        ha_json_put_str(t, "role_here", s.twin ? "twin" : "primary");
        ha_json_put_str(t, "session", s.state);
        put_u64(t, "lag_us", s.lag_us);
        put_u64(t, "log_bytes", s.log_bytes);
        put_u64(t, "exits", s.exits);
        put_u64(t, "replayed", s.replayed);
        put_u64(t, "diverged", s.diverged);
    }
    json_object_object_add(o, "twin", t);
}

/* Sessions in lockstep that were given up: for people, and to be counted. */
static void put_diverged(json_object *o, const struct ha_vm *vm)
{
    json_object *g = json_object_new_object();

    put_u64(g, "sessions", vm->diverged.count);
    put_u64(g, "last_t_ms", vm->diverged.at_ms);
    ha_json_put_str(g, "why", vm->diverged.why);
    put_bool(g, "stepped_down", vm->diverged.down);
    json_object_object_add(o, "diverged", g);
}

static json_object *vm_doc(struct ha_daemon *d, const struct ha_vm *vm)
{
    json_object *o = json_object_new_object();
    char id[UUID_STR_LEN + 1], pending[REASON_LEN_MAX * 3];
    uint64_t here = ha_twin_lives_here(&d->agent, vm);

    uuid_format(vm->uuid, id);
    ha_json_put_str(o, "name", vm->name);
    ha_json_put_str(o, "uuid", id);
    ha_json_put_str(o, "desired", desired_word(vm->desired));
    ha_json_put_str(o, "state", ha_json_vm_state(d, vm));
    ha_json_put_str(o, "node",
                    vm->state == HA_VM_STOPPED || vm->state == HA_VM_SUSPENDED ? ""
                    : here != 0 ? ha_json_node_name(d, d->agent.self.nodeid)
                                : ha_json_node_name(d, vm->owner));
    put_u64(o, "epoch", here != 0 ? here : vm->epoch);
    ha_json_put_str(o, "reason", ha_json_vm_reason(d, vm));
    put_u64(o, "since_ms", (loop_now_ns() - vm->changed_ns) / NSEC_PER_MSEC);
    if (vm->last[0] != '\0') {
        ha_json_put_str(o, "last", vm->last);
    }
    if (ha_pending(vm, pending, sizeof pending)) {
        ha_json_put_str(o, "pending", pending);
    }
    if (ha_pending_ft(vm, vm->conf, pending, sizeof pending)) {
        ha_json_put_str(o, "pending_ft", pending);
    }
    if (here == 0 && !ha_json_is_unknown(d, vm) && ha_vm_paused(vm)) {
        put_paused(d, o, vm);
    }
    if (vm->move.to != 0 && !ha_vm_upgrading(vm)) {
        put_move(d, o, vm);
    }
    if (vm->memory_from != 0) {
        put_memory(d, o, vm);
    }
    put_bool(o, "protected", here == 0 && ha_vm_protected(vm));
    if (ha_vm_holds(vm)) {
        char text[REASON_LEN_MAX + 1];

        ha_json_held(d, vm, text);
        ha_json_put_str(o, "held", text);
    }
    if (vm->twin.to != 0 && here == 0) {
        put_twin(d, o, vm);
    }
    ha_json_copies(d, o, vm);
    if (vm->diverged.count != 0) {
        put_diverged(o, vm);
    }
    return o;
}

static json_object *nodes_doc(struct ha_daemon *d)
{
    json_object *a = json_object_new_array();

    for (unsigned i = 0; i < d->agent.state.node_count; i++) {
        json_object_array_add(a, node_doc(d, i));
    }
    return a;
}

static json_object *vms_doc(struct ha_daemon *d)
{
    json_object *a = json_object_new_array();

    for (unsigned i = 0; i < d->agent.state.vm_count; i++) {
        json_object_array_add(a, vm_doc(d, d->agent.state.vm[i]));
    }
    return a;
}

static bool waits_for(struct ha_daemon *d, const struct ha_node *node)
{
    struct proof_answer answer;

    if (ha_view_has(&d->agent.view, node->nodeid) || !node->seen ||
        proof_is_dead(&d->agent.state.proofs, node->nodeid, &node->incarnation,
                      &answer)) {
        return false;
    }
    for (unsigned i = 0; i < d->agent.state.vm_count; i++) {
        const struct ha_vm *vm = d->agent.state.vm[i];

        if (vm->owner == node->nodeid && vm->state == HA_VM_UNKNOWN) {
            return true;
        }
    }
    return node->fence == HA_FENCE_PENDING;
}

/* Proofs of death that somebody waits for: deadline, executor, last error, and what would
 * shorten the wait. */
static json_object *proofs_doc(struct ha_daemon *d)
{
    json_object *a = json_object_new_array();

    for (unsigned i = 0; i < d->agent.state.node_count; i++) {
        const struct ha_node *node = &d->agent.state.node[i];
        json_object *o, *what;
        char text[REASON_LEN_MAX + 1];

        if (!waits_for(d, node)) {
            continue;
        }
        o = json_object_new_object();
        what = json_object_new_array();
        ha_json_put_str(o, "node", node->name);
        ha_json_put_str(o, "incarnation",
                        incarnation_text(&node->incarnation, text, sizeof text));
        if (has_device(d, node->name)) {
            json_object_array_add(
                what, json_object_new_string("its fence device to say off, twice"));
        }
        json_object_array_add(what, json_object_new_string("its return after a reboot"));
        json_object_array_add(what, json_object_new_string("an operator's confirm-off"));
        json_object_object_add(o, "waiting_for", what);
        ha_json_put_str(o, "executor",
                        node->fence == HA_FENCE_PENDING
                            ? ha_json_node_name(d, node->fence_executor)
                            : "");
        put_u64(o, "deadline_ms", d->agent.times.fence_total_ns / NSEC_PER_MSEC);
        ha_json_put_str(
            o, "last_error",
            node->fence == HA_FENCE_PENDING ? fence_progress(d, i)
            : node->fence == HA_FENCE_FAILED
                ? node->fence_detail
                : "nobody switches it off: fence.budget may be spent, or its turn "
                  "has not come; gemel node fence overrides");
        ha_text_set(
            text, sizeof text,
            "switch it off by hand, look that it is off, then: gemel node confirm-off ",
            node->name, " --reason TEXT", NULL);
        ha_json_put_str(o, "shorten", text);
        json_object_array_add(a, o);
    }
    return a;
}

void ha_json_add_line(json_object *a, const char *x, const char *y, const char *z)
{
    char text[REASON_LEN_MAX * 2];

    ha_text_set(text, sizeof text, x, y, z, NULL);
    json_object_array_add(a, json_object_new_string(text));
}

/* A VM whose definition asks for a twin gets one within seconds, if it can. */
#define TWIN_LATE_NS (15 * NSEC_PER_SEC)

static void paused_problem(struct ha_daemon *d, json_object *p, const struct ha_vm *vm)
{
    uint64_t at_ns, now_ns = loop_now_ns();
    char text[REASON_LEN_MAX * 2] = " is paused: ";

    ha_text_add(text, sizeof text, ha_json_vm_reason(d, vm));
    if (d->vmm != NULL && ha_vmm_next_thaw(d->vmm, vm->uuid, &at_ns)) {
        ha_text_add(text, sizeof text, "; next try in ");
        ha_text_add_u64(text, sizeof text,
                        at_ns > now_ns ? (at_ns - now_ns) / NSEC_PER_MSEC : 0);
        ha_text_add(text, sizeof text, " ms");
    }
    ha_text_add(text, sizeof text, "; at once: gemel vm retry ");
    ha_json_add_line(p, vm->name, text, vm->name);
}

static bool on_maintenance(struct ha_daemon *d, const struct ha_vm *vm)
{
    const struct ha_node *owner = ha_state_node(&d->agent.state, vm->owner);

    return owner != NULL && owner->maintenance;
}

static json_object *problems_doc(struct ha_daemon *d)
{
    const struct ha_agent *a = &d->agent;
    json_object *p = json_object_new_array();
    char why[REASON_LEN_MAX + 1], text[REASON_LEN_MAX * 2];
    uint32_t participant[NODES_MAX];
    struct ha_policy_in in;
    struct ha_place place;

    if (!d->agent_up) {
        ha_json_add_line(p, "Corosync does not answer on this node", "", "");
        return p;
    }
    ha_place_now(a, loop_now_ns(), &in, participant, &place);
    if (!a->view.agreed) {
        ha_json_add_line(p, "Corosync has not settled on a membership", "", "");
    } else if (!a->view.quorate) {
        ha_json_add_line(p, "no quorum: nothing is started here", "", "");
    }
    if (a->phase != HA_PHASE_SYNCED && a->view.quorate) {
        ha_json_add_line(p, "not ready: ", a->waiting, "");
    }
    if (d->store_failed) {
        ha_json_add_line(p, "this node cannot write its record log; see its log", "", "");
    }
    if (!d->fenced_connected) {
        ha_json_add_line(p, "gemel-fenced does not answer on this node", "", "");
    }
    for (unsigned i = 0; i < a->state.node_count; i++) {
        const char *state = ha_json_node_state(d, i);

        if (strcmp(state, "member") != 0 && strcmp(state, "maintenance") != 0 &&
            (a->view.quorate || strcmp(state, "joining") != 0)) {
            ha_json_add_line(p, a->state.node[i].name, " is ", state);
        }
        if (!has_device(d, a->state.node[i].name)) {
            ha_json_add_line(
                p, a->state.node[i].name,
                " has no fence device: its VMs cannot be taken over by themselves", "");
        }
    }
    for (unsigned i = 0; i < a->state.vm_count; i++) {
        const struct ha_vm *vm = a->state.vm[i];

        if (ha_twin_lives_here(a, vm) != 0) {
            continue;
        }
        if (!ha_json_is_unknown(d, vm) && ha_vm_paused(vm)) {
            paused_problem(d, p, vm);
        } else if (vm->desired == HA_DESIRED_RUNNING &&
                   ((vm->state != HA_VM_RUNNING && vm->state != HA_VM_MIGRATING) ||
                    ha_json_is_unknown(d, vm))) {
            ha_json_add_line(p, vm->name, " is ", ha_json_vm_state(d, vm));
        } else if (ha_vm_holds(vm)) {
            ha_json_held(d, vm, why);
            ha_json_add_line(p, vm->name, " runs; ", why);
        } else if (on_maintenance(d, vm) && ha_drain_stuck(&place, vm, why)) {
            ha_drain_problem(&a->state, vm, why, text, sizeof text);
            ha_json_add_line(p, text, "", "");
        } else if (ha_vm_is_bare(vm) && !vm->twin_off && vm->conf != NULL &&
                   vm->conf->ft_mode > CONF_FT_OFF && ha_twin_cannot(vm) == NULL &&
                   loop_now_ns() - vm->bare_since_ns > TWIN_LATE_NS) {
            ha_json_add_line(p, vm->name,
                             " is not protected, though its definition asks for a twin "
                             "(ft): gemel explain ",
                             vm->name);
        }
    }
    return p;
}

bool ha_json_healthy(struct ha_daemon *d)
{
    json_object *p = problems_doc(d);
    bool healthy = json_object_array_length(p) == 0;

    json_object_put(p);
    return healthy;
}

char *ha_json_changed(bool changed, const char *text)
{
    json_object *o = json_object_new_object();

    put_bool(o, "changed", changed);
    ha_json_put_str(o, "text", text);
    return ha_json_finish(o);
}

char *ha_json_moved(const struct ha_vm *vm)
{
    json_object *o = json_object_new_object();
    struct ha_moved m;

    put_bool(o, "changed", true);
    ha_json_put_str(o, "vm", vm->name);
    if (ha_moved_read(vm->last, &m)) {
        ha_json_put_str(o, "from", m.from);
        ha_json_put_str(o, "to", m.to);
        put_u64(o, "total_ms", m.total_ms);
        put_u64(o, "downtime_ms", m.downtime_ms);
        put_u64(o, "bytes", m.bytes);
        put_u64(o, "rounds", m.rounds);
        put_bool(o, "verified", m.verified);
    }
    ha_json_put_str(o, "text", vm->last);
    return ha_json_finish(o);
}

char *ha_json_status(struct ha_daemon *d)
{
    const struct ha_agent *a = &d->agent;
    json_object *o = json_object_new_object(), *problems = problems_doc(d);
    char ring[48];

    ha_json_put_str(o, "cluster",
                    a->state.cluster.conf != NULL ? a->state.cluster.conf->name : "");
    ha_json_put_str(o, "node", d->node.name);
    put_bool(o, "quorate", a->view.quorate);
    snprintf(ring, sizeof ring, "%x.%" PRIx64, a->view.ring.nodeid, a->view.ring.seq);
    ha_json_put_str(o, "ring", ring);
    ha_json_put_str(o, "coordinator",
                    a->phase == HA_PHASE_SYNCED
                        ? ha_json_node_name(d, a->sync.coordinator)
                        : "unknown");
    put_u64(o, "term", a->state.term);
    put_u64(o, "version", a->state.version);
    ha_json_put_str(o, "phase",
                    a->phase == HA_PHASE_SYNCED       ? "synced"
                    : a->phase == HA_PHASE_TRANSFER   ? "transfer"
                    : a->phase == HA_PHASE_EXCHANGING ? "exchanging"
                                                      : "alone");
    put_bool(o, "degraded", json_object_array_length(problems) != 0);
    json_object_object_add(o, "problems", problems);
    json_object_object_add(o, "nodes", nodes_doc(d));
    json_object_object_add(o, "vms", vms_doc(d));
    json_object_object_add(o, "proofs", proofs_doc(d));
    put_u64(o, "dropped_old_ring", a->count.dropped_ring);
    return ha_json_finish(o);
}

char *ha_json_nodes(struct ha_daemon *d)
{
    json_object *o = json_object_new_object();

    json_object_object_add(o, "nodes", nodes_doc(d));
    return ha_json_finish(o);
}

/* What the nodes that are here have in common, and what each of them has besides. */
char *ha_json_cpu(struct ha_daemon *d)
{
    const struct ha_agent *a = &d->agent;
    const struct cpu_model *host[NODES_MAX], *of[NODES_MAX];
    json_object *o = json_object_new_object(), *nodes = json_object_new_array();
    struct cpu_model_error why;
    struct cpu_model common;
    unsigned count = 0;
    char text[CPU_MODEL_TEXT_MAX];
    bool known;

    for (unsigned i = 0; i < a->state.node_count; i++) {
        of[i] = ha_view_has(&a->view, a->state.node[i].nodeid)
                    ? ha_cpus_get(&a->cpus, a->state.node[i].nodeid)
                    : NULL;
        if (of[i] != NULL) {
            host[count++] = of[i];
        }
    }
    known = cpu_model_common(host, count, &common, &why);
    text[0] = '\0';
    if (known && cpu_model_print(&common, text, sizeof text) == 0) {
        known = false;
    }
    ha_json_put_str(o, "model", text);
    ha_json_put_str(o, "error", known ? "" : why.text);
    for (unsigned i = 0; i < a->state.node_count; i++) {
        json_object *n = json_object_new_object();

        ha_json_put_str(n, "name", a->state.node[i].name);
        if (of[i] != NULL) {
            (void)cpu_model_print(of[i], text, sizeof text);
            ha_json_put_str(n, "model", text);
            if (known) {
                (void)cpu_model_missing(of[i], &common, text, sizeof text);
                ha_json_put_str(n, "loses", text);
            }
        }
        json_object_array_add(nodes, n);
    }
    json_object_object_add(o, "nodes", nodes);
    return ha_json_finish(o);
}

char *ha_json_vms(struct ha_daemon *d)
{
    json_object *o = json_object_new_object();

    json_object_object_add(o, "vms", vms_doc(d));
    return ha_json_finish(o);
}

/* Each disk, and what serves it. */
static void put_disks(json_object *o, const struct conf_vm *conf)
{
    char text[VM_DISKS_MAX * (PATH_LEN_MAX + 64)] = "";

    for (unsigned i = 0; conf != NULL && i < conf->disk_count; i++) {
        const struct conf_disk *disk = &conf->disk[i];

        ha_text_add(text, sizeof text, i > 0 ? ", " : "");
        ha_text_add(text, sizeof text, disk->path);
        ha_text_add(text, sizeof text,
                    disk->exclusion == CONF_EXCLUDE_BY_EPOCH
                        ? " (NBD, keeps old owners away)"
                    : conf_disk_is_nbd(disk)          ? " (NBD)"
                    : disk->format == CONF_DISK_QCOW2 ? " (qcow2, by qemu-storage-daemon)"
                                                      : " (raw)");
    }
    if (text[0] != '\0') {
        ha_json_put_str(o, "disks", text);
    }
}

/* The highest claim, as far as the record knows. */
static void put_claim(struct ha_daemon *d, const struct ha_vm *vm, json_object *o)
{
    bool rests = vm->state == HA_VM_STOPPED || vm->state == HA_VM_SUSPENDED;
    char instance[UUID_STR_LEN + 1], claim[160];
    struct proof_answer dead;

    uuid_format(vm->instance, instance);
    if (vm->epoch == 0) {
        claim[0] = '\0';
    } else if (vm->state == HA_VM_STOPPED &&
               proof_is_dead(&d->agent.state.proofs, vm->owner, &vm->owner_incarnation,
                             &dead)) {
        /* It may have died before it could release it. */
        snprintf(claim, sizeof claim, "owner.%" PRIu64 ": held by nobody, %s is dead",
                 vm->epoch, ha_json_node_name(d, vm->owner));
    } else if (rests) {
        snprintf(claim, sizeof claim, "owner.%" PRIu64 ": released", vm->epoch);
    } else {
        snprintf(claim, sizeof claim, "owner.%" PRIu64 ": %s, instance %s", vm->epoch,
                 ha_json_node_name(d, vm->owner), instance);
    }
    ha_json_put_str(o, "claim", claim);
}

/* On its own node: which gemel-vmm it runs in. */
static void put_vmm(struct ha_daemon *d, const struct ha_vm *vm, json_object *o)
{
    char how[VM_NAME_MAX + 64] = "";
    struct ha_vmm_build build;

    if (d->vmm == NULL || !ha_vmm_build(d->vmm, vm->uuid, &build)) {
        return;
    }
    ha_json_put_str(o, "vmm_version", build.version);
    ha_json_put_str(o, "vmm_build", build.running);
    ha_json_put_str(o, "vmm_installed_build", build.installed);
    if (build.outdated) {
        ha_text_set(how, sizeof how, "another one is installed: gemel vm upgrade ",
                    vm->name, NULL);
    }
    ha_json_put_str(o, "vmm_upgrade", how);
}

char *ha_json_vm(struct ha_daemon *d, const char *name)
{
    const struct ha_vm *vm = ha_state_vm_by_name(&d->agent.state, name);
    uint64_t target, actual, event_ms;
    const char *agent, *event;
    json_object *o;

    if (vm == NULL) {
        return NULL;
    }
    o = vm_doc(d, vm);
    ha_json_put_str(o, "definition", vm->definition);
    if (vm->runs != NULL) {
        ha_json_put_str(o, "running_definition", vm->runs);
    }
    put_claim(d, vm, o);
    put_disks(o, vm->runs_conf != NULL ? vm->runs_conf : vm->conf);
    agent = d->vmm != NULL ? ha_vmm_guest_agent(d->vmm, vm->uuid) : NULL;
    if (agent != NULL) {
        ha_json_put_str(o, "guest_agent", agent);
    }
    put_vmm(d, vm, o);
    event = d->vmm != NULL ? ha_vmm_guest_event(d->vmm, vm->uuid, &event_ms) : NULL;
    if (event != NULL) {
        ha_json_put_str(o, "guest_event", event);
        put_u64(o, "guest_event_t_ms", event_ms);
    }
    if (d->vmm != NULL && ha_vmm_balloon(d->vmm, vm->uuid, &target, &actual)) {
        put_u64(o, "balloon_target_mib", target >> 20);
        put_u64(o, "balloon_actual_mib", actual >> 20);
    }
    return ha_json_finish(o);
}

char *ha_json_events(struct ha_daemon *d, uint64_t since, uint64_t after)
{
    json_object *o = json_object_new_object(), *a = json_object_new_array();

    for (unsigned i = 0; i < d->event_count; i++) {
        const struct ha_event *e =
            &d->event[(d->event_next + EVENTS_KEPT - d->event_count + i) % EVENTS_KEPT];
        const char *colon = strchr(e->text, ':');
        char object[64] = "";
        json_object *doc;

        if ((e->seq <= since && since != 0) || e->n <= after) {
            continue;
        }
        if (colon != NULL && (size_t)(colon - e->text) < sizeof object) {
            memcpy(object, e->text, (size_t)(colon - e->text));
        }
        doc = json_object_new_object();
        put_u64(doc, "n", e->n);
        put_u64(doc, "seq", e->seq);
        put_u64(doc, "t_ms", e->wall_ns / NSEC_PER_MSEC);
        put_u64(doc, "mono_ns", e->mono_ns);
        ha_json_put_str(doc, "kind", e->seq != 0 ? "record" : "local");
        ha_json_put_str(doc, "object", object);
        ha_json_put_str(doc, "text", e->text);
        json_object_array_add(a, doc);
    }
    json_object_object_add(o, "events", a);
    return ha_json_finish(o);
}

char *ha_json_cluster(struct ha_daemon *d)
{
    json_object *o;

    if (!ha_state_set_up(&d->agent.state)) {
        return NULL;
    }
    o = json_object_new_object();
    ha_json_put_str(
        o, "name",
        d->agent.state.cluster.conf != NULL ? d->agent.state.cluster.conf->name : "");
    ha_json_put_str(o, "definition", d->agent.state.cluster.definition);
    return ha_json_finish(o);
}
