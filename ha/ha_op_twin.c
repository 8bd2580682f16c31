/* SPDX-License-Identifier: Apache-2.0 */
/* `gemel vm protect`, `unprotect`, `switchover`: an operator's wish becomes a twin in the
 * record, or its end (ha_twin.h). The body has a line "KEY=VALUE" for each option. */
#include <string.h>

#include "ha/ha_op_priv.h"
#include "ha/ha_pending.h"
#include "ha/ha_text.h"
#include "ha/ha_twin.h"
#include "ha/ha_twinplace.h"

#define VALUE_MAX_LEN 128

/* The value of a line of the body; false: there is none. */
static bool option(const struct op_run *run, const char *key, char *ret, size_t cap)
{
    const char *at = run->op->body, *end = at + run->op->body_len;
    size_t key_len = strlen(key);

    while (at < end) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        size_t len = (size_t)((newline != NULL ? newline : end) - at);

        if (len > key_len && memcmp(at, key, key_len) == 0 && at[key_len] == '=' &&
            len - key_len - 1 < cap) {
            memcpy(ret, at + key_len + 1, len - key_len - 1);
            ret[len - key_len - 1] = '\0';
            return true;
        }
        at += len + 1;
    }
    return false;
}

static bool commit_of(struct op_run *run, const struct ha_vm *vm, uint8_t *ret)
{
    static const char *const word[] = {[CONF_FT_RECEIVED] = "received",
                                       [CONF_FT_VERIFIED] = "verified",
                                       [CONF_FT_HYBRID] = "hybrid"};
    char value[VALUE_MAX_LEN];
    bool epochs;

    *ret = ha_twin_rule(vm);
    if (option(run, "mode", value, sizeof value)) {
        if (strcmp(value, "checkpoint") != 0 && strcmp(value, "lockstep") != 0) {
            ha_op_answer(run, EXIT_USAGE, "vm protect: --mode: ", value,
                         " will not do; would do: lockstep or checkpoint");
            return false;
        }
        epochs = strcmp(value, "checkpoint") == 0;
        if (!epochs && vm->conf->machine != CONF_MACHINE_LOCKSTEP) {
            ha_op_answer(run, EXIT_REFUSED, vm->name,
                         ": cannot have a twin in lockstep: it is machine: standard; "
                         "--mode checkpoint does",
                         "");
            return false;
        }
        *ret = epochs ? CONF_FT_EPOCHS : (uint8_t)vm->conf->ft_commit;
    }
    if (!option(run, "commit", value, sizeof value)) {
        return true;
    }
    if (*ret == CONF_FT_EPOCHS) {
        ha_op_answer(run, EXIT_REFUSED, vm->name,
                     ": in checkpoint mode outputs leave with their epoch; leave "
                     "--commit out, or --mode lockstep",
                     "");
        return false;
    }
    for (unsigned i = 0; i < ARRAY_SIZE(word); i++) {
        if (strcmp(word[i], value) == 0) {
            *ret = (uint8_t)i;
            return true;
        }
    }
    ha_op_answer(run, EXIT_USAGE, "vm protect: --commit: ", value,
                 " will not do; would do: received, verified or hybrid");
    return false;
}

static const char *name_of(const struct op_run *run, uint32_t nodeid)
{
    const struct ha_node *node = ha_state_node(&run->agent->state, nodeid);

    return node != NULL ? node->name : "another node";
}

/* NULL: answered. */
static const struct ha_node *node_for(struct op_run *run, const struct ha_vm *vm)
{
    const struct ha_state *state = &run->agent->state;
    uint32_t participant[NODES_MAX];
    char name[VALUE_MAX_LEN], why[REASON_LEN_MAX + 1];
    const struct ha_node *node;
    struct ha_policy_in in;
    struct ha_place place;

    ha_place_now(run->agent, run->now_ns, &in, participant, &place);
    if (!option(run, "node", name, sizeof name)) {
        node = ha_state_node(state, ha_twin_choose(&place, vm, why));
        if (node == NULL) {
            ha_op_answer(run, EXIT_REFUSED, vm->name,
                         ": no node can take its twin: ", why);
        }
        return node;
    }
    node = ha_state_node_by_name(state, name);
    if (node == NULL) {
        ha_op_answer(run, EXIT_NOT_FOUND, "no node is named ", name,
                     "; see gemel node list");
        return NULL;
    }
    if (!ha_twin_fits(&place, vm, node->nodeid, why)) {
        ha_op_answer(run, EXIT_REFUSED, node->name, " ", why);
        return NULL;
    }
    return node;
}

/* False: answered. */
static bool may_be_protected(struct op_run *run, const struct ha_vm *vm)
{
    char changes[REASON_LEN_MAX + 1];
    struct conf_vm runs;

    if (vm->conf == NULL || ha_twin_cannot(vm) != NULL) {
        ha_op_answer(run, EXIT_REFUSED, vm->name, ": ", ha_twin_cannot(vm));
        return false;
    }
    if (!ha_pending_goes_on(vm, &runs)) { /* a twin is made of what it runs with */
        ha_pending_refusal("beyond what fits", changes, sizeof changes);
        ha_op_answer(run, EXIT_REFUSED, vm->name, ": ", changes);
        return false;
    }
    return true;
}

/* It has stepped down, and an operator wants it to go up again: its twin goes, and it
 * gets another one. */
static void to_lockstep(struct op_run *run, const struct ha_vm *record)
{
    struct ha_vm vm = *record;

    ha_twin_step_up(&vm);
    vm.twin.ending = true;
    vm.twin_at_once = true;
    vm.twin_off = false;
    ha_op_by(run, vm.reason, sizeof vm.reason, "goes back to lockstep");
    ha_op_emit_vm(run, &vm, vm.reason);
    ha_op_answer(run, EXIT_DONE, vm.name,
                 ": goes back to lockstep: the checkpoints end, and it gets another twin",
                 "");
}

static void protected_already(struct op_run *run, const struct ha_vm *vm)
{
    bool epochs = vm->twin.commit == CONF_FT_EPOCHS;
    char mode[VALUE_MAX_LEN], node[VALUE_MAX_LEN], waits[REASON_LEN_MAX * 3];
    uint8_t commit = vm->twin.commit;

    if (option(run, "node", node, sizeof node) &&
        strcmp(node, name_of(run, vm->twin.to)) != 0) {
        ha_op_answer(run, EXIT_REFUSED, vm->name, ": is protected, by its twin on ",
                     name_of(run, vm->twin.to));
        ha_text_add(run->result.text, sizeof run->result.text,
                    "; for one on another node: gemel vm unprotect, then protect");
        return;
    }
    if (option(run, "commit", mode, sizeof mode) && vm->conf != NULL) {
        if (!commit_of(run, vm, &commit)) {
            return;
        }
        if (commit != vm->twin.commit) {
            ha_op_answer(run, EXIT_REFUSED, vm->name,
                         ": is protected, and its outputs leave by another rule; for "
                         "this one: gemel vm unprotect, then protect --commit ",
                         mode);
            return;
        }
    }
    if (!option(run, "mode", mode, sizeof mode) ||
        strcmp(mode, epochs ? "checkpoint" : "lockstep") == 0) {
        ha_op_answer(run, EXIT_DONE, vm->name, ": is protected already, by its twin on ",
                     name_of(run, vm->twin.to));
        if (ha_pending_ft(vm, vm->conf, waits, sizeof waits)) {
            ha_text_add(run->result.text, sizeof run->result.text, "; ");
            ha_text_add(run->result.text, sizeof run->result.text, waits);
        }
    } else if (epochs && strcmp(mode, "lockstep") == 0 && vm->diverged.down &&
               vm->conf != NULL && vm->conf->ft_mode == CONF_FT_AUTO) {
        to_lockstep(run, vm);
    } else {
        ha_op_answer(run, EXIT_REFUSED, vm->name,
                     epochs ? ": is protected in checkpoint mode already"
                            : ": is protected in lockstep already",
                     "; for another mode: gemel vm unprotect, then protect");
    }
}

void ha_op_vm_protect(struct op_run *run)
{
    const struct ha_vm *record = ha_op_find_vm(run);
    char what[REASON_LEN_MAX + 1];
    const struct ha_node *node;
    uint8_t commit;
    struct ha_vm vm;

    if (record == NULL) {
        return;
    }
    if (ha_vm_protected(record) && !record->twin.ending) {
        protected_already(run, record);
        return;
    }
    if (record->twin.to != 0 && !record->twin.ending &&
        (!option(run, "node", what, sizeof what) ||
         strcmp(what, name_of(run, record->twin.to)) == 0)) {
        ha_op_answer(run, EXIT_DONE, record->name, ": is getting its twin, on ",
                     name_of(run, record->twin.to));
        return;
    }
    if (!ha_op_runs(run, record, "protected") || !may_be_protected(run, record) ||
        !commit_of(run, record, &commit)) {
        return;
    }
    node = node_for(run, record);
    if (node == NULL) {
        return;
    }
    if (ha_op_dry_run(run)) {
        const struct ha_twin_look look = {.op = run->op->uid,
                                          .vm = record->uuid,
                                          .to = node->nodeid,
                                          .step = HA_TWIN_LOOK_ASK};

        ha_agent_twin_look(run->agent, &look);
    }
    vm = *record;
    vm.twin_off = false;
    vm.twin_tries = vm.twin_avoid = 0;
    if (commit != CONF_FT_EPOCHS) {
        ha_twin_step_up(&vm);
    }
    ha_twin_begin(run->agent, &vm, node, commit);
    ha_text_set(what, sizeof what, "gets a twin on ", node->name, NULL);
    ha_op_by(run, vm.reason, sizeof vm.reason, what);
    ha_op_emit_vm(run, &vm, vm.reason);
    ha_text_set(what, sizeof what, node->name,
                commit == CONF_FT_EPOCHS ? ", in checkpoint mode" : ", in lockstep",
                NULL);
    ha_op_answer(run, EXIT_DONE, vm.name, ": gets a twin on ", what);
}

void ha_op_vm_unprotect(struct op_run *run)
{
    const struct ha_vm *record = ha_op_find_vm(run);
    struct ha_vm vm;

    if (record == NULL) {
        return;
    }
    vm = *record;
    if (vm.twin.to == 0 &&
        (vm.twin_off || vm.conf == NULL || vm.conf->ft_mode == CONF_FT_OFF)) {
        ha_op_answer(run, EXIT_DONE, vm.name, ": is not protected", "");
        return;
    }
    vm.twin_off = true;
    vm.twin.ending = vm.twin.to != 0;
    ha_op_by(run, vm.reason, sizeof vm.reason, "unprotected");
    ha_op_emit_vm(run, &vm, vm.reason);
    ha_op_answer(run, EXIT_DONE, vm.name,
                 vm.twin.to != 0 ? ": goes on without a twin" : ": gets no twin", "");
}

void ha_op_vm_switchover(struct op_run *run)
{
    const struct ha_vm *record = ha_op_find_vm(run);
    struct ha_vm vm;

    if (record == NULL) {
        return;
    }
    vm = *record;
    if (!ha_vm_protected(&vm) || vm.state != HA_VM_RUNNING) {
        ha_op_answer(run, EXIT_REFUSED, vm.name,
                     ": has no twin that could take over: gemel vm protect ", vm.name);
        return;
    }
    if (vm.twin.ending || vm.twin.switchover) {
        ha_op_answer(run, EXIT_REFUSED, vm.name,
                     vm.twin.ending ? ": is being unprotected"
                                    : ": its twin is taking over already",
                     "");
        return;
    }
    vm.twin.switchover = true;
    ha_op_by(run, vm.reason, sizeof vm.reason, "switched over to its twin");
    ha_op_emit_vm(run, &vm, vm.reason);
    ha_op_answer(run, EXIT_DONE, vm.name, ": its twin takes over on ",
                 name_of(run, vm.twin.to));
}
