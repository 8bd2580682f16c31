/* SPDX-License-Identifier: Apache-2.0 */
/* `gemel vm migrate`: an operator's wish becomes a MIGRATING record (ha_move.h), or is
 * called off. The body has a line "KEY=VALUE" for each option. */
#include <string.h>

#include "base/limits.h"
#include "cluster-conf/conf_scalar.h"
#include "ha/ha_op_priv.h"
#include "ha/ha_pending.h"
#include "ha/ha_text.h"

#define LINE_MAX_LEN 128

struct wish {
    char node[NODE_NAME_MAX + 1];
    bool cancel, force;
    struct ha_move move;
};

/* NULL, or what would do. The command line has looked at it before; it may be another
 * version's. */
static const char *read_line(struct wish *wish, const char *key, const char *value)
{
    struct ha_move *move = &wish->move;
    uint64_t number = 0;

    if (strcmp(key, "node") == 0) {
        ha_text_set(wish->node, sizeof wish->node, value, NULL);
        return strlen(value) < sizeof wish->node ? NULL : "the name of a node";
    }
    if (strcmp(key, "cancel") == 0) {
        return conf_scalar_bool(value, &wish->cancel) == CONF_SCALAR_OK ? NULL : "true";
    }
    if (strcmp(key, "force") == 0) {
        return conf_scalar_bool(value, &wish->force) == CONF_SCALAR_OK ? NULL : "true";
    }
    if (strcmp(key, "verify") == 0) {
        return conf_scalar_bool(value, &move->verify) == CONF_SCALAR_OK ? NULL : "true";
    }
    if (strcmp(key, "no-compress") == 0) {
        return conf_scalar_bool(value, &move->no_compress) == CONF_SCALAR_OK ? NULL
                                                                             : "true";
    }
    if (strcmp(key, "allow-postcopy") == 0) {
        return conf_scalar_bool(value, &move->postcopy) == CONF_SCALAR_OK ? NULL : "true";
    }
    if (strcmp(key, "timeout") == 0) {
        return conf_scalar_duration(value, &move->timeout_ms) == CONF_SCALAR_OK
                   ? NULL
                   : "a duration, for example 5m";
    }
    if (strcmp(key, "downtime") == 0) {
        return conf_scalar_duration(value, &move->downtime_ms) == CONF_SCALAR_OK &&
                       move->downtime_ms >= MIGRATE_DOWNTIME_MIN_MS &&
                       move->downtime_ms <= MIGRATE_DOWNTIME_MAX_MS
                   ? NULL
                   : "from 21ms to 1m (default 300ms)";
    }
    if (strcmp(key, "rate") == 0) {
        return conf_scalar_size(value, &move->rate_bps) == CONF_SCALAR_OK &&
                       move->rate_bps >= MIGRATE_RATE_MIN
                   ? NULL
                   : "64KiB per second or more (default: no limit)";
    }
    if (strcmp(key, "max-slowdown") == 0) {
        if (conf_scalar_count(value, &number) != CONF_SCALAR_OK ||
            number > MIGRATE_SLOWDOWN_MAX) {
            return "percent from 0 to 90 (default 0)";
        }
        move->slowdown = (uint32_t)number;
        return NULL;
    }
    return "nothing: this option is not known to the coordinator";
}

/* False: answered. */
static bool read_wish(struct op_run *run, struct wish *ret_wish)
{
    const char *at = run->op->body, *end = at + run->op->body_len;
    char line[LINE_MAX_LEN];

    memset(ret_wish, 0, sizeof *ret_wish);
    while (at < end) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        size_t len = (size_t)((newline != NULL ? newline : end) - at);
        const char *wanted = "KEY=VALUE";
        char *equals;

        if (len >= sizeof line) {
            ha_op_answer(run, EXIT_USAGE, "vm migrate: an option is too long", "", "");
            return false;
        }
        memcpy(line, at, len);
        line[len] = '\0';
        equals = strchr(line, '=');
        if (equals != NULL) {
            *equals = '\0';
            wanted = read_line(ret_wish, line, equals + 1);
        }
        if (wanted != NULL) {
            ha_op_answer(run, EXIT_USAGE, "vm migrate: --", line, ": ");
            ha_text_add(run->result.text, sizeof run->result.text,
                        equals != NULL ? equals + 1 : "no value");
            ha_text_add(run->result.text, sizeof run->result.text,
                        " will not do; would do: ");
            ha_text_add(run->result.text, sizeof run->result.text, wanted);
            return false;
        }
        at += len + 1;
    }
    return true;
}

static void cancel(struct op_run *run, const struct ha_vm *record)
{
    struct ha_vm vm = *record;

    if (vm.state != HA_VM_MIGRATING) {
        ha_op_answer(run, EXIT_REFUSED, vm.name, ": is not being migrated; it is ",
                     ha_vm_state_str(vm.state));
        return;
    }
    if (!vm.move.called_off) {
        vm.move.called_off = true;
        ha_op_by(run, vm.reason, sizeof vm.reason, "migration cancelled");
        ha_op_emit_vm(run, &vm, vm.reason);
    }
    ha_op_answer(run, EXIT_DONE, vm.name, ": migration cancelled", "");
}

/* The node that was named, or the best one but its own; NULL: answered. */
static const struct ha_node *destination(struct op_run *run, const struct ha_vm *vm,
                                         const struct wish *wish)
{
    const struct ha_state *state = &run->agent->state;
    uint32_t participant[NODES_MAX];
    char why[REASON_LEN_MAX + 1] = "";
    const struct ha_node *node;
    struct ha_policy_in in;
    struct ha_place place;

    ha_place_now(run->agent, run->now_ns, &in, participant, &place);
    if (wish->node[0] == '\0') {
        node = ha_state_node(state, ha_place_choose(&place, vm, vm->owner, why));
        if (node == NULL || node->nodeid == vm->owner) {
            ha_place_others(&place, vm, why);
            ha_op_answer(run, EXIT_REFUSED, vm->name,
                         ": no other node can take it: ", why);
            return NULL;
        }
        return node;
    }
    node = ha_state_node_by_name(state, wish->node);
    if (node == NULL) {
        ha_op_answer(run, EXIT_NOT_FOUND, "no node is named ", wish->node,
                     "; see gemel node list");
        return NULL;
    }
    if (node->nodeid == vm->owner) {
        ha_op_answer(run, EXIT_DONE, vm->name, ": runs there already: ", wish->node);
        return NULL;
    }
    return ha_op_fits(run, &place, vm, node, wish->force) ? node : NULL;
}

/* The destination makes it as it runs. */
static bool as_it_runs(struct op_run *run, const struct ha_vm *vm, struct conf_vm *ret)
{
    if (!ha_pending_goes_on(vm, ret)) {
        ha_op_answer(run, EXIT_REFUSED, vm->name,
                     ": its definition cannot be read by this version: apply it again",
                     "");
        return false;
    }
    return true;
}

static void say_migrating(struct op_run *run, const struct ha_vm *vm,
                          const struct ha_node *node)
{
    const struct ha_node *from = ha_state_node(&run->agent->state, vm->owner);
    char *text = run->result.text;
    const size_t cap = sizeof run->result.text;

    ha_op_answer(run, EXIT_DONE, vm->name, ": migrating from ",
                 from != NULL ? from->name : "its node");
    ha_text_add(text, cap, " to ");
    ha_text_add(text, cap, node->name);
    ha_text_add(text, cap, " (");
    ha_text_add_u64(text, cap, vm->conf->memory_bytes >> 20);
    ha_text_add(text, cap, " MiB of memory, downtime at most ");
    ha_text_add_u64(text, cap,
                    vm->move.downtime_ms != 0 ? vm->move.downtime_ms
                                              : MIGRATE_DOWNTIME_MS);
    ha_text_add(text, cap, " ms)");
}

/* Its price is not taken from those whom HA protects without their word. */
static bool may_postcopy(struct op_run *run, const struct ha_vm *vm,
                         const struct ha_move *move)
{
    if (move->verify) {
        ha_op_answer(run, EXIT_USAGE, "vm migrate: --verify compares memory before it ",
                     "runs there, --allow-postcopy lets it run before its memory is "
                     "there: ",
                     "choose one of them");
        return false;
    }
    if (vm->conf->hugepages) {
        ha_op_answer(run, EXIT_REFUSED, vm->name,
                     ": post-copy is not possible with hugepages: true; migrate without ",
                     "--allow-postcopy");
        return false;
    }
    if (vm->conf->protect && run->op->reason[0] == '\0') {
        ha_op_answer(run, EXIT_REFUSED, vm->name,
                     ": is protected by HA (ha.protect), and with post-copy the loss of "
                     "either node or of the link between them costs a restart from its "
                     "disks; to allow that, say why: ",
                     "--allow-postcopy --reason TEXT");
        return false;
    }
    return true;
}

void ha_op_vm_migrate(struct op_run *run)
{
    const struct ha_vm *record = ha_op_find_vm(run);
    char what[REASON_LEN_MAX + 1];
    const struct ha_node *node;
    struct conf_vm conf;
    struct wish wish;
    struct ha_vm vm;

    if (record == NULL || !read_wish(run, &wish)) {
        return;
    }
    if (wish.cancel) {
        cancel(run, record);
        return;
    }
    if (!ha_op_runs(run, record, "migrated")) {
        return;
    }
    if (!as_it_runs(run, record, &conf)) {
        return;
    }
    if (conf_vm_has_mirrors(&conf)) {
        ha_op_answer(run, EXIT_REFUSED, record->name,
                     ": its disks are mirrored, so another node has other copies; gemel "
                     "vm protect --node, then gemel vm switchover ",
                     record->name);
        return;
    }
    vm = *record;
    vm.conf = &conf;
    if (wish.move.postcopy && !may_postcopy(run, &vm, &wish.move)) {
        return;
    }
    node = destination(run, &vm, &wish);
    if (node == NULL) {
        return;
    }
    vm.state = HA_VM_MIGRATING;
    vm.attempt = run->agent->ops->new_uuid(run->agent->ctx);
    vm.home = 0; /* where an operator wants it, it stays */
    vm.move = wish.move;
    vm.move.to = node->nodeid;
    vm.move.to_incarnation = node->incarnation;
    vm.last[0] = '\0';
    ha_text_set(what, sizeof what, "migrating to ", node->name, NULL);
    ha_op_by(run, vm.reason, sizeof vm.reason, what);
    ha_op_emit_vm(run, &vm, vm.reason);
    say_migrating(run, &vm, node);
}

/* A dry run: which of its VMs would go where, and what would hold up the others. */
static void say_drain(struct op_run *run, const struct ha_node *node)
{
    const struct ha_state *state = &run->agent->state;
    char *text = run->result.text, why[REASON_LEN_MAX + 1];
    const size_t cap = sizeof run->result.text;
    uint32_t participant[NODES_MAX];
    struct ha_policy_in in;
    struct ha_place place;
    unsigned count = 0;

    ha_place_now(run->agent, run->now_ns, &in, participant, &place);
    for (unsigned i = 0; i < state->vm_count; i++) {
        const struct ha_vm *vm = state->vm[i];
        struct ha_vm runs = *vm;
        const struct ha_node *to;
        struct conf_vm conf;

        if (vm->owner != node->nodeid || ha_vm_rests(vm) ||
            !ha_pending_goes_on(vm, &conf)) {
            continue;
        }
        runs.conf = &conf;
        ha_text_add(text, cap, count++ == 0 ? ": " : "; ");
        ha_text_add(text, cap, vm->name);
        to = ha_state_node(state, ha_place_choose(&place, &runs, vm->owner, why));
        if (to == NULL || to == node) {
            ha_place_others(&place, &runs, why);
            ha_text_add(text, cap, " cannot: ");
            ha_text_add(text, cap, why);
        } else {
            ha_text_add(text, cap, " to ");
            ha_text_add(text, cap, to->name);
            ha_place_take(&place, to->nodeid, vm);
        }
    }
}

/* The same, and nowhere else. */
void ha_op_vm_upgrade(struct op_run *run)
{
    const struct ha_vm *record = ha_op_find_vm(run);
    struct wish wish;
    struct ha_vm vm;

    if (record == NULL || !read_wish(run, &wish) ||
        !ha_op_runs(run, record, "upgraded")) {
        return;
    }
    vm = *record;
    vm.state = HA_VM_MIGRATING;
    vm.attempt = run->agent->ops->new_uuid(run->agent->ctx);
    memset(&vm.move, 0, sizeof vm.move);
    vm.move.verify = wish.move.verify;
    vm.move.timeout_ms = wish.move.timeout_ms;
    vm.move.to = vm.owner;
    vm.move.to_incarnation = vm.owner_incarnation;
    vm.last[0] = '\0';
    ha_op_by(run, vm.reason, sizeof vm.reason, "its gemel-vmm is being upgraded");
    ha_op_emit_vm(run, &vm, vm.reason);
    ha_op_answer(run, EXIT_DONE, vm.name, ": its gemel-vmm is being upgraded", "");
}

void ha_op_node_maintenance(struct op_run *run)
{
    const struct ha_node *record =
        ha_state_node_by_name(&run->agent->state, run->op->object);
    bool on = run->op->body_len == 2 && memcmp(run->op->body, "on", 2) == 0;
    bool off = run->op->body_len == 3 && memcmp(run->op->body, "off", 3) == 0;
    char event[REASON_LEN_MAX + 1], what[REASON_LEN_MAX + 1];
    struct ha_node node;

    if (record == NULL) {
        ha_op_answer(run, EXIT_NOT_FOUND, "no node is named ", run->op->object,
                     "; see gemel node list");
        return;
    }
    if (!on && !off) {
        ha_op_answer(run, EXIT_USAGE, "node maintenance: on or off, for example: gemel ",
                     "node maintenance n1 on", "");
        return;
    }
    if (record->maintenance == on) {
        ha_op_answer(run, EXIT_DONE, record->name,
                     on ? ": is in maintenance already" : ": is not in maintenance", "");
        return;
    }
    node = *record;
    node.maintenance = on;
    ha_text_set(event, sizeof event, node.name, ": ",
                ha_op_by(run, what, sizeof what,
                         on ? "maintenance, its VMs leave," : "maintenance is over"),
                NULL);
    if ((run->op->flags & HA_OP_DRY_RUN) == 0) {
        ha_coord_emit_node(run->agent, &node, run->op->uid, event);
    }
    ha_op_answer(run, EXIT_DONE, node.name,
                 on ? ": in maintenance; its VMs leave"
                    : ": maintenance is over; its VMs come back",
                 "");
    if (on && (run->op->flags & HA_OP_DRY_RUN) != 0) {
        say_drain(run, record);
    }
}
