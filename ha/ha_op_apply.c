/* SPDX-License-Identifier: Apache-2.0 */
/* Definitions that an operator applies: checked whole, told with what they change. */
#include <string.h>

#include "base/uuid.h"
#include "ha/ha_op_priv.h"
#include "ha/ha_pending.h"
#include "ha/ha_text.h"
#include "ha/ha_twin.h"

/* Next line of a text, without its end; false: there is none. */
static bool next_line(const char **text, size_t *left, const char **ret_line,
                      size_t *ret_len)
{
    const char *end;

    if (*left == 0) {
        return false;
    }
    end = memchr(*text, '\n', *left);
    *ret_line = *text;
    *ret_len = end != NULL ? (size_t)(end - *text) : *left;
    *left -= *ret_len + (end != NULL);
    *text += *ret_len + (end != NULL);
    return true;
}

static bool has_line(const char *text, size_t left, const char *wanted, size_t len)
{
    const char *line;
    size_t line_len;

    while (next_line(&text, &left, &line, &line_len)) {
        if (line_len == len && memcmp(line, wanted, len) == 0) {
            return true;
        }
    }
    return false;
}

static bool same_text(const char *a, size_t a_len, const char *b, size_t b_len)
{
    return a_len == b_len && memcmp(a, b, a_len) == 0;
}

/* The lines of `a` that `b` has not, each with the sign before it, as many as the answer
 * holds. Definitions of many lines are not compared: this runs on the loop. */
static void list_lines(struct op_run *run, const char *sign, const char *a, size_t a_len,
                       const char *b, size_t b_len)
{
    const char *line;
    size_t len;

    while (next_line(&a, &a_len, &line, &len)) {
        size_t have = strlen(run->result.text);

        if (has_line(b, b_len, line, len)) {
            continue;
        }
        if (have + len + sizeof "\n  + \n  ..." > sizeof run->result.text) {
            ha_text_add(run->result.text, sizeof run->result.text, "\n  ...");
            return;
        }
        ha_text_add(run->result.text, sizeof run->result.text, sign);
        have = strlen(run->result.text);
        memcpy(run->result.text + have, line, len);
        run->result.text[have + len] = '\0';
    }
}

static void list_changes(struct op_run *run, const char *old, size_t old_len)
{
    enum { COMPARED_MAX = 8192 };

    if (old_len > COMPARED_MAX || run->op->body_len > COMPARED_MAX) {
        return;
    }
    list_lines(run, "\n  - ", old, old_len, run->op->body, run->op->body_len);
    list_lines(run, "\n  + ", run->op->body, run->op->body_len, old, old_len);
}

void ha_op_cluster_apply(struct op_run *run)
{
    struct ha_agent *agent = run->agent;
    struct ha_cluster next = agent->state.cluster;
    struct conf_cluster *conf = agent->state.mem->alloc(sizeof *conf);
    const char *old = agent->state.cluster.definition;
    size_t old_len = agent->state.cluster.definition_len, len;

    if (conf == NULL) {
        ha_op_answer(run, EXIT_FAILED, "cluster apply: out of memory", "", "");
        return;
    }
    if (!agent->ops->check_cluster(agent->ctx, run->op->body, run->op->body_len, conf,
                                   run->result.text, sizeof run->result.text)) {
        run->result.exit_code = EXIT_FAILED;
        goto out;
    }
    next.stopped = false;
    next.definition = (char *)run->op->body;
    next.definition_len = run->op->body_len;
    if (!ha_op_dry_run(run)) {
        char event[REASON_LEN_MAX + 1];

        len = ha_item_put_cluster(&next, agent->scratch, sizeof agent->scratch);
        ha_coord_emit(agent, HA_ITEM_CLUSTER, agent->scratch, len, run->op->uid,
                      ha_op_by(run, event, sizeof event, "cluster definition applied"));
        for (unsigned i = 0; i < conf->node_count; i++) {
            struct ha_node node = {.nodeid = conf->node[i].nodeid};

            if (ha_state_node(&agent->state, node.nodeid) == NULL) {
                ha_text_set(node.name, sizeof node.name, conf->node[i].name, NULL);
                ha_coord_emit_node(agent, &node, run->op->uid, "");
            }
        }
    }
    ha_op_answer(run, EXIT_DONE, "cluster ", conf->name, ": definition applied");
    if (old != NULL) {
        list_changes(run, old, old_len);
    }
out:
    agent->state.mem->free(conf);
}

/* It runs, as it was defined when it started: that is kept beside the new definition,
 * while both fit a record. */
static void keep_what_runs(struct ha_vm *vm, const struct ha_vm *old, const char *body,
                           uint32_t len)
{
    if (ha_vm_rests(old) || vm->runs != NULL) {
        if (vm->runs != NULL && same_text(vm->runs, vm->runs_len, body, len)) {
            vm->runs = NULL; /* that is defined again */
            vm->runs_len = 0;
        }
    } else {
        vm->runs = old->definition;
        vm->runs_len = old->definition_len;
    }
    if (vm->runs != NULL && vm->runs_len + len > DEFINITION_MAX) {
        vm->runs = NULL;
        vm->runs_len = 0;
    }
}

/* `conf`: parsed from the new definition. */
static void say_pending(struct op_run *run, const struct ha_vm *vm, struct conf_vm *conf)
{
    const struct ha_vm *record = ha_state_vm(&run->agent->state, vm->uuid);
    struct ha_vm next = *vm;
    char what[REASON_LEN_MAX + 1];

    if (vm->runs == NULL || record == NULL) {
        return;
    }
    next.conf = conf;
    next.runs_conf = record->runs_conf != NULL ? record->runs_conf : record->conf;
    if (ha_pending(&next, what, sizeof what)) {
        ha_text_add(run->result.text, sizeof run->result.text,
                    "; it runs as it was started, from the next start hold: ");
        ha_text_add(run->result.text, sizeof run->result.text, what);
    }
}

static void say_ft(struct op_run *run, const struct ha_vm *vm, const struct conf_vm *conf)
{
    char what[REASON_LEN_MAX * 3];

    if (ha_pending_ft(vm, conf, what, sizeof what)) {
        ha_text_add(run->result.text, sizeof run->result.text, "; ");
        ha_text_add(run->result.text, sizeof run->result.text, what);
    }
}

void ha_op_vm_apply(struct op_run *run)
{
    struct ha_agent *agent = run->agent;
    struct conf_vm *conf = agent->state.mem->alloc(sizeof *conf);
    const struct ha_vm *old;
    struct ha_vm vm = {0};

    if (conf == NULL) {
        ha_op_answer(run, EXIT_FAILED, "vm apply: out of memory", "", "");
        return;
    }
    if (!agent->ops->check_vm(agent->ctx, &agent->state, run->op->body, run->op->body_len,
                              conf, run->result.text, sizeof run->result.text)) {
        run->result.exit_code = EXIT_FAILED;
        goto out;
    }
    old = ha_state_vm_by_name(&agent->state, conf->name);
    if (old != NULL) {
        vm = *old;
        if (same_text(old->definition, old->definition_len, run->op->body,
                      run->op->body_len)) {
            ha_op_answer(run, EXIT_DONE, conf->name,
                         ": already defined like this; unchanged", "");
            goto out;
        }
        if (old->move.to != 0) {
            ha_op_busy(run, old);
            goto out;
        }
    } else {
        vm.uuid =
            uuid_is_none(conf->uuid) ? agent->ops->new_uuid(agent->ctx) : conf->uuid;
        ha_text_set(vm.name, sizeof vm.name, conf->name, NULL);
        vm.desired = HA_DESIRED_STOPPED;
        vm.state = HA_VM_STOPPED;
        ha_text_set(vm.reason, sizeof vm.reason, "defined, not started yet", NULL);
    }
    if (old != NULL) {
        keep_what_runs(&vm, old, run->op->body, run->op->body_len);
        ha_twin_step_up(&vm);
        ha_pending_ft_changed(&vm, old->conf, conf);
    }
    vm.definition = (char *)run->op->body;
    vm.definition_len = run->op->body_len;
    ha_op_emit_vm(run, &vm, old != NULL ? "definition changed" : "defined");
    ha_op_answer(run, EXIT_DONE, conf->name,
                 old == NULL ? ": defined" : ": definition changed", "");
    if (old != NULL) {
        say_pending(run, &vm, conf);
        say_ft(run, &vm, conf);
        list_changes(run, old->definition, old->definition_len);
    }
out:
    agent->state.mem->free(conf);
}
