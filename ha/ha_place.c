/* SPDX-License-Identifier: Apache-2.0 */
#include "ha/ha_place.h"

#include <string.h>

#include "ha/ha_text.h"

static bool is_participant(const struct ha_policy_in *in, uint32_t nodeid)
{
    for (unsigned i = 0; i < in->participant_count; i++) {
        if (in->participant[i] == nodeid) {
            return ha_view_has(in->view, nodeid);
        }
    }
    return false;
}

static uint64_t vm_memory(const struct ha_vm *vm)
{
    return vm->conf != NULL ? vm->conf->memory_bytes : 0;
}

static bool occupies(const struct ha_vm *vm)
{
    return vm->owner != 0 && !ha_vm_rests(vm);
}

static bool names_cpu(const struct ha_vm *vm)
{
    return vm->conf != NULL && vm->conf->cpu[0] != '\0' &&
           strcmp(vm->conf->cpu, "host") != 0;
}

/* Reading them takes a while: only if somebody asks. */
static void read_models(struct ha_place *place)
{
    const struct conf_cluster *conf = place->in->state->cluster.conf;
    struct cpu_model_error why;

    for (unsigned i = 0; conf != NULL && i < conf->cpu_model_count; i++) {
        if (!cpu_model_parse(conf->cpu_model[i].text, &place->cpu_model[i], &why)) {
            return; /* checked when it was applied */
        }
        place->cpu_model_count++;
    }
}

/* NULL: the cluster definition has none of this name. */
static const struct cpu_model *model_named(const struct ha_place *place, const char *name)
{
    const struct conf_cluster *conf = place->in->state->cluster.conf;

    for (unsigned i = 0; i < place->cpu_model_count; i++) {
        if (strcmp(conf->cpu_model[i].name, name) == 0) {
            return &place->cpu_model[i];
        }
    }
    return NULL;
}

static void say_undefined(const struct ha_vm *vm, char *text)
{
    ha_text_add(text, REASON_LEN_MAX + 1, "CPU model ");
    ha_text_add(text, REASON_LEN_MAX + 1, vm->conf->cpu);
    ha_text_add(text, REASON_LEN_MAX + 1,
                " is not in the cluster definition (cpu_models)");
}

bool ha_place_cpu(const struct ha_place *place, const struct ha_vm *vm, uint32_t nodeid,
                  char why[static REASON_LEN_MAX + 1])
{
    const struct cpu_model *host =
        place->in->cpus != NULL ? ha_cpus_get(place->in->cpus, nodeid) : NULL;
    const size_t cap = REASON_LEN_MAX + 1;
    const struct cpu_model *model;
    size_t len;

    why[0] = '\0';
    if (!names_cpu(vm)) {
        return true;
    }
    model = model_named(place, vm->conf->cpu);
    if (model == NULL) {
        say_undefined(vm, why);
        return false;
    }
    if (host == NULL) {
        ha_text_set(why, cap, "has not told its CPU model", NULL);
        return false;
    }
    ha_text_set(why, cap, "lacks ", NULL);
    len = strlen(why);
    return cpu_model_missing(model, host, why + len, cap - len) == 0;
}

static void take_memory(struct ha_place *place, uint32_t nodeid, const struct ha_vm *vm)
{
    for (unsigned i = 0; i < place->node_count; i++) {
        if (place->node[i].nodeid == nodeid) {
            uint64_t need = vm_memory(vm);

            place->node[i].memory_free -=
                need < place->node[i].memory_free ? need : place->node[i].memory_free;
        }
    }
}

void ha_place_init(struct ha_place *place, const struct ha_policy_in *in)
{
    struct proof_answer answer;
    const struct ha_state *state = in->state;

    place->in = in;
    place->node_count = state->node_count;
    for (unsigned i = 0; i < state->node_count; i++) {
        const struct ha_node *node = &state->node[i];

        place->node[i].nodeid = node->nodeid;
        /* A node whose fence request is not settled could still be shot: nothing is
         * placed there (R7). Nor on one whose proof of death is there already: the next
         * claimant would not wait for another. */
        place->node[i].eligible =
            is_participant(in, node->nodeid) &&
            !proof_is_dead(&state->proofs, node->nodeid, &node->incarnation, &answer) &&
            node->fence != HA_FENCE_PENDING && node->fence != HA_FENCE_CANCELLING &&
            !node->maintenance;
        place->node[i].memory_free = node->memory_bytes;
    }
    place->given_count = 0;
    place->any_anti_affinity = false;
    place->cpu_model_count = 0;
    for (unsigned i = 0; place->cpu_model_count == 0 && i < state->vm_count; i++) {
        if (names_cpu(state->vm[i])) {
            read_models(place);
            break;
        }
    }
    for (unsigned i = 0; i < state->vm_count; i++) {
        const struct conf_vm *conf = state->vm[i]->conf;

        place->any_anti_affinity |= conf != NULL && conf->anti_affinity_count != 0;
        if (occupies(state->vm[i])) {
            take_memory(place, state->vm[i]->owner, state->vm[i]);
            if (state->vm[i]->move.to != 0 && !ha_vm_upgrading(state->vm[i])) {
                take_memory(place, state->vm[i]->move.to, state->vm[i]);
            }
            if (state->vm[i]->twin.to != 0) {
                take_memory(place, state->vm[i]->twin.to, state->vm[i]);
            }
        }
    }
}

void ha_place_take(struct ha_place *place, uint32_t nodeid, const struct ha_vm *vm)
{
    take_memory(place, nodeid, vm);
    if (place->given_count < HA_PLACE_GIVEN_MAX) {
        place->given[place->given_count].vm = vm;
        place->given[place->given_count++].nodeid = nodeid;
    }
}

static bool names(const struct ha_vm *vm, const char *other)
{
    for (unsigned i = 0; vm->conf != NULL && i < vm->conf->anti_affinity_count; i++) {
        if (strcmp(vm->conf->anti_affinity[i], other) == 0) {
            return true;
        }
    }
    return false;
}

static bool exclude(const struct ha_vm *a, const struct ha_vm *b)
{
    return a != b && (names(a, b->name) || names(b, a->name));
}

/* The first VM that must not share a host with this one, and is on `nodeid`, on its way
 * there, or has just been given to it; NULL: none. Either may name the other. */
static const struct ha_vm *conflict_with(const struct ha_place *place,
                                         const struct ha_vm *vm, uint32_t nodeid)
{
    const struct ha_state *state = place->in->state;

    for (unsigned i = 0; place->any_anti_affinity && i < state->vm_count; i++) {
        const struct ha_vm *other = state->vm[i];

        if (occupies(other) &&
            (other->owner == nodeid || other->move.to == nodeid ||
             other->twin.to == nodeid) &&
            exclude(vm, other)) {
            return other;
        }
    }
    for (unsigned i = 0; place->any_anti_affinity && i < place->given_count; i++) {
        if (place->given[i].nodeid == nodeid && exclude(vm, place->given[i].vm)) {
            return place->given[i].vm;
        }
    }
    return NULL;
}

bool ha_vm_copy_counts(const struct ha_vm *vm, uint32_t nodeid)
{
    if (vm->conf == NULL || !conf_vm_has_mirrors(vm->conf) || vm->mirror[0] == 0) {
        return true;
    }
    for (unsigned i = 0; i < CLAIM_MIRRORS_MAX; i++) {
        if (vm->mirror[i] == nodeid && nodeid != 0) {
            return true;
        }
    }
    return false;
}

static bool may_on(const struct ha_place *place, const struct ha_vm *vm, unsigned i)
{
    char why[REASON_LEN_MAX + 1];

    return place->node[i].eligible && place->node[i].memory_free >= vm_memory(vm) &&
           conflict_with(place, vm, place->node[i].nodeid) == NULL &&
           ha_vm_copy_counts(vm, place->node[i].nodeid) &&
           ha_place_cpu(place, vm, place->node[i].nodeid, why);
}

/* Why nothing is placed on a node at all. */
static void say_not_eligible(const struct ha_place *place, const struct ha_node *node,
                             char *why)
{
    const size_t cap = REASON_LEN_MAX + 1;
    struct proof_answer answer;

    if (!ha_view_has(place->in->view, node->nodeid)) {
        ha_text_set(why, cap,
                    node->clean_stopped || !node->seen ? "is down" : "is not in the view",
                    NULL);
    } else if (node->maintenance) {
        ha_text_set(why, cap, "is in maintenance", NULL);
    } else if (node->fence == HA_FENCE_PENDING || node->fence == HA_FENCE_CANCELLING) {
        ha_text_set(why, cap, "has a fence request against it that is not settled", NULL);
    } else if (proof_is_dead(&place->in->state->proofs, node->nodeid, &node->incarnation,
                             &answer)) {
        ha_text_set(why, cap, "was proven dead, and has not joined anew", NULL);
    } else {
        ha_text_set(why, cap, "is joining", NULL);
    }
}

enum ha_place_reason ha_place_why(const struct ha_place *place, const struct ha_vm *vm,
                                  uint32_t nodeid, char why[static REASON_LEN_MAX + 1])
{
    enum ha_place_reason reason = ha_place_twin(place, vm, nodeid, why);

    if (reason == HA_PLACE_FITS && !ha_vm_copy_counts(vm, nodeid)) {
        ha_text_set(why, REASON_LEN_MAX + 1,
                    "has no copy of its mirrored disks that is known to be in sync",
                    NULL);
        return HA_PLACE_MIRROR;
    }
    return reason;
}

bool ha_place_copy(const struct ha_place *place, const struct ha_vm *vm, uint32_t nodeid)
{
    char why[REASON_LEN_MAX + 1];

    return ha_place_why(place, vm, nodeid, why) == HA_PLACE_MIRROR;
}

void ha_place_copies(const struct ha_state *state, const struct ha_vm *vm,
                     char text[static REASON_LEN_MAX + 1])
{
    text[0] = '\0';
    for (unsigned i = 0; i < CLAIM_MIRRORS_MAX && vm->mirror[i] != 0; i++) {
        const struct ha_node *node = ha_state_node(state, vm->mirror[i]);

        ha_text_add(text, REASON_LEN_MAX + 1, i > 0 ? ", " : "");
        ha_text_add(text, REASON_LEN_MAX + 1,
                    node != NULL ? node->name : "a node that is gone");
    }
}

/* Hard limits, in the order in which they are looked at. False: `why` says what stands in
 * the way; `i`: of place->node. */
static bool is_ready(const struct ha_place *place, const struct ha_vm *vm, unsigned i,
                     char *why)
{
    (void)vm;
    if (!place->node[i].eligible) {
        say_not_eligible(place, ha_state_node(place->in->state, place->node[i].nodeid),
                         why);
    }
    return place->node[i].eligible;
}

static bool has_memory(const struct ha_place *place, const struct ha_vm *vm, unsigned i,
                       char *why)
{
    const size_t cap = REASON_LEN_MAX + 1;

    if (place->node[i].memory_free >= vm_memory(vm)) {
        return true;
    }
    ha_text_set(why, cap, "has ", NULL);
    ha_text_add_u64(why, cap, place->node[i].memory_free >> 20);
    ha_text_add(why, cap, " MiB free, and it needs ");
    ha_text_add_u64(why, cap, vm_memory(vm) >> 20);
    ha_text_add(why, cap, " MiB");
    return false;
}

static bool has_processor(const struct ha_place *place, const struct ha_vm *vm,
                          unsigned i, char *why)
{
    char cpu[REASON_LEN_MAX + 1];

    if (ha_place_cpu(place, vm, place->node[i].nodeid, cpu)) {
        return true;
    }
    ha_text_set(why, REASON_LEN_MAX + 1, "cannot be CPU model ", vm->conf->cpu, ": ", cpu,
                NULL);
    return false;
}

static bool shares_with_all(const struct ha_place *place, const struct ha_vm *vm,
                            unsigned i, char *why)
{
    const struct ha_vm *other = conflict_with(place, vm, place->node[i].nodeid);

    if (other == NULL) {
        return true;
    }
    ha_text_set(why, REASON_LEN_MAX + 1, "has ", other->name,
                ", with which it must not share a node (anti_affinity)", NULL);
    return false;
}

static const struct {
    enum ha_place_reason reason;
    bool (*holds)(const struct ha_place *place, const struct ha_vm *vm, unsigned i,
                  char *why);
} limits[] = {{HA_PLACE_NOT_READY, is_ready},
              {HA_PLACE_MEMORY, has_memory},
              {HA_PLACE_CPU, has_processor},
              {HA_PLACE_ANTI_AFFINITY, shares_with_all}};

static unsigned index_of(const struct ha_place *place, uint32_t nodeid)
{
    unsigned i = 0;

    while (i < place->node_count && place->node[i].nodeid != nodeid) {
        i++;
    }
    return i;
}

enum ha_place_reason ha_place_twin(const struct ha_place *place, const struct ha_vm *vm,
                                   uint32_t nodeid, char why[static REASON_LEN_MAX + 1])
{
    unsigned i = index_of(place, nodeid);

    why[0] = '\0';
    if (i == place->node_count) {
        ha_text_set(why, REASON_LEN_MAX + 1, "is not in the cluster definition", NULL);
        return HA_PLACE_NOT_READY;
    }
    for (unsigned k = 0; k < ARRAY_SIZE(limits); k++) {
        if (!limits[k].holds(place, vm, i, why)) {
            return limits[k].reason;
        }
    }
    return HA_PLACE_FITS;
}

unsigned ha_place_twin_all(const struct ha_place *place, const struct ha_vm *vm,
                           uint32_t nodeid, char why[static REASON_LEN_MAX + 1])
{
    const size_t cap = REASON_LEN_MAX + 1;
    unsigned i = index_of(place, nodeid), count = 0;
    char one[REASON_LEN_MAX + 1];

    if (i == place->node_count) {
        return ha_place_twin(place, vm, nodeid, why) != HA_PLACE_FITS;
    }
    why[0] = '\0';
    for (unsigned k = 0; k < ARRAY_SIZE(limits); k++) {
        if (!limits[k].holds(place, vm, i, one)) {
            ha_text_add(why, cap, count++ > 0 ? ", " : "");
            ha_text_add(why, cap, one);
            if (k == 0 && !ha_view_has(place->in->view, nodeid)) {
                return count; /* the rest is not known of a node that is not here */
            }
        }
    }
    return count;
}

void ha_place_others(const struct ha_place *place, const struct ha_vm *vm,
                     char why[static REASON_LEN_MAX + 1])
{
    const size_t cap = REASON_LEN_MAX + 1;
    char one[REASON_LEN_MAX + 1];

    why[0] = '\0';
    for (unsigned i = 0; i < place->node_count; i++) {
        uint32_t nodeid = place->node[i].nodeid;

        if (nodeid == vm->owner ||
            ha_place_why(place, vm, nodeid, one) == HA_PLACE_FITS) {
            continue;
        }
        ha_text_add(why, cap, why[0] != '\0' ? "; " : "");
        ha_text_add(why, cap, ha_state_node(place->in->state, nodeid)->name);
        ha_text_add(why, cap, " ");
        ha_text_add(why, cap, one);
    }
    if (why[0] == '\0') {
        ha_text_set(why, cap, "there is no other node", NULL);
    }
}

bool ha_place_may(const struct ha_place *place, const struct ha_vm *vm, uint32_t nodeid)
{
    for (unsigned i = 0; i < place->node_count; i++) {
        if (place->node[i].nodeid == nodeid) {
            return may_on(place, vm, i);
        }
    }
    return false;
}

static unsigned preference(const struct ha_place *place, const struct ha_vm *vm,
                           uint32_t nodeid)
{
    const struct ha_node *node = ha_state_node(place->in->state, nodeid);

    for (unsigned i = 0;
         node != NULL && vm->conf != NULL && i < vm->conf->preferred_count; i++) {
        if (strcmp(vm->conf->preferred[i], node->name) == 0) {
            return i;
        }
    }
    return NODES_MAX;
}

/* Nodes that could, but for their processor. */
static bool say_cpu(const struct ha_place *place, const struct ha_vm *vm, char *reason)
{
    const size_t cap = REASON_LEN_MAX + 1;
    char why[REASON_LEN_MAX + 1];
    bool any = false;

    if (names_cpu(vm) && model_named(place, vm->conf->cpu) == NULL) {
        ha_text_set(reason, cap, "no node can take it: ", NULL);
        say_undefined(vm, reason);
        return true;
    }

    for (unsigned i = 0; i < place->node_count; i++) {
        if (!place->node[i].eligible || place->node[i].memory_free < vm_memory(vm) ||
            ha_place_cpu(place, vm, place->node[i].nodeid, why)) {
            continue;
        }
        if (!any) {
            ha_text_set(reason, cap, "no node can take it: CPU model ", vm->conf->cpu,
                        NULL);
        }
        ha_text_add(reason, cap, any ? "; " : ": ");
        ha_text_add(reason, cap,
                    ha_state_node(place->in->state, place->node[i].nodeid)->name);
        ha_text_add(reason, cap, " ");
        ha_text_add(reason, cap, why);
        any = true;
    }
    return any;
}

/* In `text`: what this node will never be for the VM. */
static bool never_on(const struct ha_place *place, const struct ha_vm *vm,
                     const struct ha_node *node, char *text)
{
    char why[REASON_LEN_MAX + 1];

    if (node->memory_bytes != 0 && node->memory_bytes < vm_memory(vm)) {
        ha_text_set(text, REASON_LEN_MAX + 1, node->name, " has only ", NULL);
        ha_text_add_u64(text, REASON_LEN_MAX + 1, node->memory_bytes >> 20);
        ha_text_add(text, REASON_LEN_MAX + 1, " MiB for VMs");
        return true;
    }
    if (place->in->cpus != NULL && ha_cpus_get(place->in->cpus, node->nodeid) != NULL &&
        !ha_place_cpu(place, vm, node->nodeid, why)) {
        ha_text_set(text, REASON_LEN_MAX + 1, node->name, " ", why, NULL);
        return true;
    }
    return false;
}

bool ha_place_never(const struct ha_place *place, const struct ha_vm *vm,
                    char why[static REASON_LEN_MAX + 1])
{
    const struct ha_state *state = place->in->state;
    const size_t cap = REASON_LEN_MAX + 1;
    char text[REASON_LEN_MAX + 1];

    if (names_cpu(vm) && model_named(place, vm->conf->cpu) == NULL) {
        why[0] = '\0';
        say_undefined(vm, why);
        return true;
    }
    ha_text_set(why, cap, "no node can take it: ", NULL);
    if (names_cpu(vm)) {
        ha_text_add(why, cap, "CPU model ");
        ha_text_add(why, cap, vm->conf->cpu);
        ha_text_add(why, cap, ": ");
    }
    for (unsigned i = 0; i < state->node_count; i++) {
        if (!never_on(place, vm, &state->node[i], text)) {
            return false;
        }
        ha_text_add(why, cap, i > 0 ? "; " : "");
        ha_text_add(why, cap, text);
    }
    return state->node_count > 0;
}

/* Of mirrored disks only some nodes' copies hold, and what stands in the way of those. */
static bool say_mirrors(const struct ha_place *place, const struct ha_vm *vm,
                        char *reason)
{
    const size_t cap = REASON_LEN_MAX + 1;
    char why[REASON_LEN_MAX + 1];

    if (ha_vm_copy_counts(vm, 0)) {
        return false;
    }
    ha_text_set(reason, cap,
                "no node can take it: its mirrored disks are in sync only on ", NULL);
    for (unsigned i = 0; i < CLAIM_MIRRORS_MAX && vm->mirror[i] != 0; i++) {
        const struct ha_node *node = ha_state_node(place->in->state, vm->mirror[i]);

        ha_text_add(reason, cap, i > 0 ? "; " : "");
        ha_text_add(reason, cap, node != NULL ? node->name : "a node that is gone");
        if (node != NULL &&
            ha_place_twin(place, vm, node->nodeid, why) != HA_PLACE_FITS) {
            ha_text_add(reason, cap, ", which ");
            ha_text_add(reason, cap, why);
        }
    }
    return true;
}

static void say_none(const struct ha_place *place, const struct ha_vm *vm, char *reason)
{
    uint64_t best = 0;
    unsigned eligible = 0;

    for (unsigned i = 0; i < place->node_count; i++) {
        if (place->node[i].eligible) {
            eligible++;
            best = place->node[i].memory_free > best ? place->node[i].memory_free : best;
        }
    }
    if (eligible == 0) {
        ha_text_set(reason, REASON_LEN_MAX + 1, "no node is ready to take it", NULL);
        return;
    }
    if (say_mirrors(place, vm, reason) || say_cpu(place, vm, reason)) {
        return;
    }
    ha_text_set(reason, REASON_LEN_MAX + 1, "no node can take it: it needs ", NULL);
    ha_text_add_u64(reason, REASON_LEN_MAX + 1, vm_memory(vm) >> 20);
    ha_text_add(reason, REASON_LEN_MAX + 1, " MiB, the most free is ");
    ha_text_add_u64(reason, REASON_LEN_MAX + 1, best >> 20);
    ha_text_add(reason, REASON_LEN_MAX + 1, " MiB, or anti-affinity forbids the rest");
}

uint32_t ha_place_choose(const struct ha_place *place, const struct ha_vm *vm,
                         uint32_t avoid, char reason[static REASON_LEN_MAX + 1])
{
    unsigned chosen = NODES_MAX, chosen_rank = 0;

    for (unsigned i = 0; i < place->node_count; i++) {
        unsigned rank;

        if (!may_on(place, vm, i)) {
            continue;
        }
        rank = preference(place, vm, place->node[i].nodeid) +
               (place->node[i].nodeid == avoid ? 2 * NODES_MAX : 0);
        if (chosen == NODES_MAX || rank < chosen_rank ||
            (rank == chosen_rank &&
             (place->node[i].memory_free > place->node[chosen].memory_free ||
              (place->node[i].memory_free == place->node[chosen].memory_free &&
               place->node[i].nodeid < place->node[chosen].nodeid)))) {
            chosen = i;
            chosen_rank = rank;
        }
    }
    if (chosen == NODES_MAX) {
        say_none(place, vm, reason);
        return 0;
    }
    return place->node[chosen].nodeid;
}

/* Of two nodes, which is tried first: an order that does not change meanwhile. */
static uint64_t turn(const struct ha_place *place, const struct ha_vm *vm,
                     uint32_t nodeid)
{
    return (uint64_t)preference(place, vm, nodeid) << 32 | nodeid;
}

uint32_t ha_place_next(const struct ha_place *place, const struct ha_vm *vm,
                       uint32_t failed, char reason[static REASON_LEN_MAX + 1])
{
    uint64_t after = turn(place, vm, failed), first = UINT64_MAX, next = UINT64_MAX;

    for (unsigned i = 0; i < place->node_count; i++) {
        uint64_t at = turn(place, vm, place->node[i].nodeid);

        if (place->node[i].nodeid == vm->owner || !may_on(place, vm, i)) {
            continue;
        }
        first = at < first ? at : first;
        next = at > after && at < next ? at : next;
    }
    if (first == UINT64_MAX) {
        say_none(place, vm, reason);
        return 0;
    }
    return (uint32_t)(next != UINT64_MAX ? next : first);
}
