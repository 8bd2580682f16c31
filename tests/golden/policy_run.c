/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads a situation as text and prints what ha_policy_decide wants. One line each, in
 * this order of things: self NODE | now MS | budget N | votes N node NAME [boot=N]
 * [memory=MIB] [cpu=FEATURES] [lost] [fence=pending|failed|ok|cancelling] [executor=NODE]
 * [attempts=N] [age=MS] view NODE... [noquorum]        joining NODE...  (in view, but no
 * participant) proof NODE boot=N vm NAME STATE [wanted=stopped|deleted|suspended]
 * [task=snapshot|revert] [owner=NODE] [boot=N] [memory=MIB] [age=MS] [failures=N]
 * [restarts=N] [avoid=NODE] [priority=N] [apart=VM] [prefers=NODE] [cpu=NAME]
 * [unprotected] cpu NAME FEATURES (a model of the cluster definition)
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ha/ha_policy.h"

static struct ha_state state;
static struct ha_view view;
static uint32_t participant[NODES_MAX];
static struct ha_vm vms[64];
static struct conf_vm confs[64];
static struct ha_vm *vm_index[64];
static struct ha_policy_in in;
static struct ha_times times;
static struct ha_cpus cpus;
static struct conf_cluster cluster;
static const struct ha_mem mem = {.alloc = malloc, .free = free};

static uint32_t node_id(const char *name)
{
    const struct ha_node *node = ha_state_node_by_name(&state, name);

    if (node == NULL) {
        fprintf(stderr, "no node %s\n", name);
        exit(2);
    }
    return node->nodeid;
}

static const char *value_of(char *word, const char *key)
{
    size_t len = strlen(key);

    return strncmp(word, key, len) == 0 && word[len] == '=' ? word + len + 1 : NULL;
}

static struct incarnation life(uint32_t nodeid, int boot)
{
    struct incarnation inc = {.join = 1};

    inc.boot_id.b[0] = (uint8_t)nodeid;
    inc.boot_id.b[1] = (uint8_t)boot;
    return inc;
}

static uint64_t ago(const char *ms)
{
    return in.now_ns - strtoull(ms, NULL, 10) * NSEC_PER_MSEC;
}

static enum ha_fence_state fence_of(const char *word)
{
    return strcmp(word, "pending") == 0      ? HA_FENCE_PENDING
           : strcmp(word, "failed") == 0     ? HA_FENCE_FAILED
           : strcmp(word, "cancelling") == 0 ? HA_FENCE_CANCELLING
                                             : HA_FENCE_OK;
}

static struct cpu_model model_of(const char *features)
{
    struct cpu_model_error why;
    struct cpu_model model;
    char text[256];

    snprintf(text, sizeof text, "vendor=X features=%s", features);
    if (!cpu_model_parse(text, &model, &why)) {
        fprintf(stderr, "%s: %s\n", features, why.text);
        exit(2);
    }
    return model;
}

/* cpu NAME FEATURE,FEATURE...: of the cluster definition */
static void do_cpu(char **word)
{
    struct conf_cpu_model *m = &cluster.cpu_model[cluster.cpu_model_count++];

    snprintf(m->name, sizeof m->name, "%s", word[0]);
    snprintf(m->text, sizeof m->text, "vendor=X features=%s", word[1]);
    state.cluster.conf = &cluster;
}

static void do_node(char **word, int count)
{
    struct ha_node *node = &state.node[state.node_count];
    const char *v;
    int boot = 1;

    node->nodeid = ++state.node_count;
    snprintf(node->name, sizeof node->name, "%s", word[0]);
    node->seen = true;
    node->memory_bytes = 4096ull << 20;
    for (int i = 1; i < count; i++) {
        if ((v = value_of(word[i], "boot")) != NULL) {
            boot = atoi(v);
        } else if ((v = value_of(word[i], "memory")) != NULL) {
            node->memory_bytes = strtoull(v, NULL, 10) << 20;
        } else if ((v = value_of(word[i], "fence")) != NULL) {
            node->fence = fence_of(v);
        } else if ((v = value_of(word[i], "executor")) != NULL) {
            node->fence_executor = (uint32_t)strtoul(v + 1, NULL, 10);
        } else if ((v = value_of(word[i], "attempts")) != NULL) {
            node->fence_attempts = (uint32_t)strtoul(v, NULL, 10);
        } else if ((v = value_of(word[i], "age")) != NULL) {
            node->changed_ns = ago(v);
        } else if ((v = value_of(word[i], "cpu")) != NULL) {
            struct cpu_model model = model_of(v);

            ha_cpus_put(&cpus, node->nodeid, &model);
        } else if (strcmp(word[i], "lost") == 0) {
            node->lost = true;
        }
    }
    node->incarnation = life(node->nodeid, boot);
    if (node->fence != HA_FENCE_NONE) {
        node->fence_incarnation = node->incarnation;
    }
}

static enum ha_vm_state state_of(const char *word)
{
    for (int s = 1; s < HA_VM_STATE_COUNT; s++) {
        if (strcmp(ha_vm_state_str((enum ha_vm_state)s), word) == 0) {
            return (enum ha_vm_state)s;
        }
    }
    fprintf(stderr, "no state %s\n", word);
    exit(2);
}

static bool do_vm_limits(struct ha_vm *vm, char *word)
{
    const char *v;

    if ((v = value_of(word, "memory")) != NULL) {
        vm->conf->memory_bytes = strtoull(v, NULL, 10) << 20;
    } else if ((v = value_of(word, "cpu")) != NULL) {
        snprintf(vm->conf->cpu, sizeof vm->conf->cpu, "%s", v);
    } else if ((v = value_of(word, "priority")) != NULL) {
        vm->conf->priority = (unsigned)atoi(v);
    } else if ((v = value_of(word, "apart")) != NULL) {
        snprintf(vm->conf->anti_affinity[vm->conf->anti_affinity_count++], VM_NAME_MAX,
                 "%s", v);
    } else if ((v = value_of(word, "prefers")) != NULL) {
        snprintf(vm->conf->preferred[vm->conf->preferred_count++], NODE_NAME_MAX, "%s",
                 v);
    } else if ((v = value_of(word, "mirror")) != NULL) { /* a copy that counts */
        vm->conf->disk_count = 1;
        vm->conf->disk[0].mirrored = true;
        vm->mirror[vm->mirror[0] != 0] = node_id(v);
    } else if (strcmp(word, "unprotected") == 0) {
        vm->conf->protect = false;
    } else {
        return false;
    }
    return true;
}

static void do_vm(char **word, int count)
{
    unsigned n = state.vm_count++;
    struct ha_vm *vm = &vms[n];
    const char *v;
    int boot = 1;

    vm_index[n] = vm;
    state.vm = vm_index;
    vm->uuid.b[0] = (uint8_t)(n + 1);
    snprintf(vm->name, sizeof vm->name, "%s", word[0]);
    vm->state = state_of(word[1]);
    vm->desired = HA_DESIRED_RUNNING;
    vm->conf = &confs[n];
    *vm->conf = (struct conf_vm){.memory_bytes = 512ull << 20,
                                 .protect = true,
                                 .priority = 2,
                                 .restart_max = 3,
                                 .restart_window_ms = 600000,
                                 .backoff_ms = 1000,
                                 .backoff_max_ms = 300000,
                                 .start_timeout_ms = 60000};
    vm->changed_ns = in.now_ns;
    for (int i = 2; i < count; i++) {
        if ((v = value_of(word[i], "wanted")) != NULL) {
            vm->desired = strcmp(v, "deleted") == 0     ? HA_DESIRED_DELETED
                          : strcmp(v, "suspended") == 0 ? HA_DESIRED_SUSPENDED
                          : strcmp(v, "running") == 0   ? HA_DESIRED_RUNNING
                                                        : HA_DESIRED_STOPPED;
        } else if (strcmp(word[i], "kill") == 0) {
            vm->kill = true;
        } else if ((v = value_of(word[i], "task")) != NULL) {
            vm->task = strcmp(v, "revert") == 0 ? HA_TASK_REVERT : HA_TASK_SNAPSHOT;
        } else if ((v = value_of(word[i], "ended")) != NULL) { /* a task, in a word */
            snprintf(vm->last, sizeof vm->last, "%s", v);
            snprintf(vm->reason, sizeof vm->reason, "%s", v);
        } else if ((v = value_of(word[i], "back-to")) != NULL) {
            vm->back_to = state_of(v);
        } else if ((v = value_of(word[i], "owner")) != NULL) {
            vm->owner = node_id(v);
        } else if ((v = value_of(word[i], "boot")) != NULL) {
            boot = atoi(v);
        } else if ((v = value_of(word[i], "age")) != NULL) {
            vm->changed_ns = ago(v);
        } else if ((v = value_of(word[i], "failures")) != NULL) {
            vm->failures = (uint32_t)atoi(v);
        } else if ((v = value_of(word[i], "restarts")) != NULL) {
            vm->restarts = (uint32_t)atoi(v);
        } else if ((v = value_of(word[i], "avoid")) != NULL) {
            vm->avoid = node_id(v);
        } else if (!do_vm_limits(vm, word[i])) {
            fprintf(stderr, "vm: %s is not understood\n", word[i]);
            exit(2);
        }
    }
    vm->owner_incarnation = life(vm->owner, boot);
}

static void do_view(char **word, int count)
{
    view.agreed = view.quorate = true;
    for (int i = 0; i < count; i++) {
        if (strcmp(word[i], "noquorum") == 0) {
            view.quorate = false;
        } else {
            view.member[view.member_count++] = node_id(word[i]);
            participant[in.participant_count++] = node_id(word[i]);
        }
    }
}

static void do_joining(char **word, int count)
{
    for (int i = 0; i < count; i++) {
        view.member[view.member_count++] = node_id(word[i]);
    }
}

static void do_proof(char **word)
{
    struct proof proof = {.kind = PROOF_FENCED_OFF,
                          .node_id = node_id(word[0]),
                          .source = "test",
                          .reason = "off",
                          .known_ns = in.now_ns};

    proof.inc = life(proof.node_id, atoi(value_of(word[1], "boot")));
    if (proof_table_add(&state.proofs, &proof, NULL, 0) < 0) {
        fprintf(stderr, "the proof is refused\n");
        exit(2);
    }
}

static void read_line(char *line)
{
    char *word[32], *save = NULL;
    int count = 0;

    for (char *t = strtok_r(line, " \n", &save); t != NULL && count < 32;
         t = strtok_r(NULL, " \n", &save)) {
        word[count++] = t;
    }
    if (count == 0 || word[0][0] == '#') {
        return;
    }
    if (strcmp(word[0], "self") == 0) {
        in.self = (uint32_t)strtoul(word[1] + 1, NULL, 10);
    } else if (strcmp(word[0], "now") == 0) {
        in.now_ns = strtoull(word[1], NULL, 10) * NSEC_PER_MSEC;
    } else if (strcmp(word[0], "budget") == 0) {
        in.fence_budget_left = (unsigned)atoi(word[1]);
    } else if (strcmp(word[0], "votes") == 0) {
        view.votes_needed = (unsigned)atoi(word[1]);
    } else if (strcmp(word[0], "node") == 0) {
        do_node(word + 1, count - 1);
    } else if (strcmp(word[0], "view") == 0) {
        do_view(word + 1, count - 1);
    } else if (strcmp(word[0], "joining") == 0) {
        do_joining(word + 1, count - 1);
    } else if (strcmp(word[0], "proof") == 0) {
        do_proof(word + 1);
    } else if (strcmp(word[0], "cpu") == 0) {
        do_cpu(word + 1);
    } else if (strcmp(word[0], "vm") == 0) {
        do_vm(word + 1, count - 1);
    } else {
        fprintf(stderr, "%s is not understood\n", word[0]);
        exit(2);
    }
}

static const char *name_of(uint32_t nodeid)
{
    const struct ha_node *node = ha_state_node(&state, nodeid);

    return node != NULL ? node->name : "-";
}

static void print_action(const struct ha_action *a)
{
    switch (a->kind) {
    case HA_ACTION_VM:
        printf("vm %s: %s on %s%s%s: %s\n", state.vm[a->index]->name,
               ha_vm_state_str(a->state), name_of(a->owner), a->kill ? " kill" : "",
               a->new_attempt ? " (told)" : "", a->reason);
        break;
    case HA_ACTION_TWIN:
    case HA_ACTION_TWIN_END:
    case HA_ACTION_TWIN_SWITCH:
        printf("vm %s: %s\n", state.vm[a->index]->name, a->reason);
        break;
    case HA_ACTION_VM_GONE:
        printf("vm %s: forgotten\n", state.vm[a->index]->name);
        break;
    case HA_ACTION_FENCE:
        printf("fence %s by %s: %s\n", state.node[a->index].name, name_of(a->owner),
               a->reason);
        break;
    case HA_ACTION_FENCE_CANCEL:
        printf("cancel the fencing of %s: %s\n", state.node[a->index].name, a->reason);
        break;
    case HA_ACTION_FENCE_SETTLED:
        printf("the fencing of %s is settled: %s\n", state.node[a->index].name,
               a->reason);
        break;
    }
}

int main(void)
{
    static struct ha_action action[64];
    struct ha_plan plan = {.action = action, .cap = 64};
    const struct ha_times_in times_in = {.token_ms = 1000,
                                         .node_count = 3,
                                         .fence_retry_ms = 2000,
                                         .fence_timeout_ms = 20000};
    char line[512];

    ha_state_init(&state, &mem);
    state.cluster.generation.b[0] = 1;
    in = (struct ha_policy_in){.state = &state,
                               .cpus = &cpus,
                               .view = &view,
                               .participant = participant,
                               .self = 1,
                               .fence_budget_left = 1,
                               .times = &times,
                               .now_ns = 1000 * NSEC_PER_SEC};
    view.votes_needed = 2;
    if (!ha_times_derive(&times_in, &times)) {
        return 2;
    }
    while (fgets(line, sizeof line, stdin) != NULL) {
        read_line(line);
    }
    ha_policy_decide(&in, &plan);
    for (unsigned i = 0; i < plan.count; i++) {
        print_action(&plan.action[i]);
    }
    if (plan.next_due_ns != UINT64_MAX) {
        printf("again in %llu ms\n",
               (unsigned long long)((plan.next_due_ns - in.now_ns) / NSEC_PER_MSEC));
    }
    return 0;
}
