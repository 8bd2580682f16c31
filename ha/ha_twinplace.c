/* SPDX-License-Identifier: Apache-2.0 */
#include "ha/ha_twinplace.h"

#include <string.h>

#include "base/kvm_can.h"
#include "ha/ha_text.h"

/* Failure domains
 * ------------------------------------------------------------------------------- */

const char *ha_twin_domain(const struct ha_state *state, uint32_t nodeid)
{
    const struct conf_cluster *conf = state->cluster.conf;

    for (unsigned i = 0; conf != NULL && i < conf->node_count; i++) {
        if (conf->node[i].nodeid == nodeid) {
            return conf->node[i].failure_domain;
        }
    }
    return "";
}

bool ha_twin_apart(const struct ha_state *state, uint32_t a, uint32_t b)
{
    const char *one = ha_twin_domain(state, a), *other = ha_twin_domain(state, b);

    return one[0] != '\0' && other[0] != '\0' && strcmp(one, other) != 0;
}

static bool any_domain(const struct ha_state *state)
{
    for (unsigned i = 0; i < state->node_count; i++) {
        if (ha_twin_domain(state, state->node[i].nodeid)[0] != '\0') {
            return true;
        }
    }
    return false;
}

void ha_twin_apart_text(const struct ha_state *state, const struct ha_vm *vm,
                        char text[static REASON_LEN_MAX + 1])
{
    const char *domain = ha_twin_domain(state, vm->twin.to);

    text[0] = '\0';
    if (vm->twin.to == 0 || !any_domain(state)) {
        return;
    }
    ha_text_set(text, REASON_LEN_MAX + 1,
                ha_twin_apart(state, vm->owner, vm->twin.to) ? "other domain: "
                : domain[0] == '\0' || ha_twin_domain(state, vm->owner)[0] == '\0'
                    ? "perhaps the same domain: not both nodes have a failure_domain"
                    : "same domain: ",
                domain, NULL);
}

/* Which nodes
 * ----------------------------------------------------------------------------------- */

static void add(char *why, const char *more)
{
    const size_t cap = REASON_LEN_MAX + 1;

    ha_text_add(why, cap, why[0] != '\0' ? ", " : "");
    ha_text_add(why, cap, more);
}

/* `ft.domains: require`. */
static void say_domain(const struct ha_state *state, const struct ha_vm *vm,
                       uint32_t nodeid, char *why)
{
    const char *here = ha_twin_domain(state, vm->owner);
    const char *there = ha_twin_domain(state, nodeid);
    char text[REASON_LEN_MAX + 1];

    if (vm->conf == NULL || vm->conf->ft_domains != CONF_FT_DOMAINS_REQUIRE ||
        ha_twin_apart(state, vm->owner, nodeid)) {
        return;
    }
    if (here[0] == '\0') {
        ha_text_set(text, sizeof text,
                    "cannot be told apart: the VM's own node has no failure_domain "
                    "(ft.domains is require)",
                    NULL);
    } else if (there[0] == '\0') {
        ha_text_set(text, sizeof text, "has no failure_domain (ft.domains is require)",
                    NULL);
    } else {
        ha_text_set(text, sizeof text, "is in failure domain ", there,
                    " like the VM (ft.domains is require)", NULL);
    }
    add(why, text);
}

/* What the guest sees of the processor where it runs, it needs there; a model by name is
 * placement's matter. */
static void say_processor(const struct ha_place *place, const struct ha_vm *vm,
                          uint32_t nodeid, char *why)
{
    const struct ha_cpus *cpus = place->in->cpus;
    const struct cpu_model *here, *there;
    char text[REASON_LEN_MAX + 1] = "has not the processor that the guest sees, lacks ";
    size_t len = strlen(text);
    struct cpu_model seen;

    if (cpus == NULL || vm->conf == NULL || strcmp(vm->conf->cpu, "host") != 0) {
        return;
    }
    here = ha_cpus_get(cpus, vm->owner);
    there = ha_cpus_get(cpus, nodeid);
    if (here == NULL || there == NULL) {
        return; /* the two gemel-vmm will see */
    }
    seen = *here;
    if (vm->conf->machine == CONF_MACHINE_LOCKSTEP) {
        cpu_model_lockstep(&seen);
    }
    if (cpu_model_missing(&seen, there, text + len, sizeof text - len) != 0) {
        add(why, text);
    }
}

static void say_kvm(const struct ha_place *place, const struct ha_vm *vm, uint32_t nodeid,
                    char *why)
{
    char text[REASON_LEN_MAX + 1] = "has a KVM that lacks ";
    size_t len = strlen(text);
    uint32_t can, lacks;

    if (place->in->cpus == NULL || vm->conf == NULL ||
        !ha_cpus_kvm(place->in->cpus, nodeid, &can)) {
        return;
    }
    lacks = kvm_can_needs(vm->conf->machine == CONF_MACHINE_STANDARD) & ~can;
    if (kvm_can_print(lacks, text + len, sizeof text - len) != 0) {
        add(why, text);
    }
}

bool ha_twin_fits(const struct ha_place *place, const struct ha_vm *vm, uint32_t nodeid,
                  char why[static REASON_LEN_MAX + 1])
{
    if (nodeid == vm->owner) {
        ha_text_set(why, REASON_LEN_MAX + 1,
                    "runs it: a twin there would die together with it", NULL);
        return false;
    }
    (void)ha_place_twin_all(place, vm, nodeid, why);
    say_processor(place, vm, nodeid, why);
    say_kvm(place, vm, nodeid, why);
    say_domain(place->in->state, vm, nodeid, why);
    return why[0] == '\0';
}

/* The lower the sooner: not where the last try came to nothing, in another domain, in the
 * order of ft.on. */
static unsigned rank(const struct ha_place *place, const struct ha_vm *vm,
                     uint32_t nodeid)
{
    const struct ha_node *node = ha_state_node(place->in->state, nodeid);
    unsigned last =
        (nodeid == vm->twin_avoid ? 4u * NODES_MAX : 0u) +
        (ha_twin_apart(place->in->state, vm->owner, nodeid) ? 0u : 2u * NODES_MAX);

    for (unsigned i = 0; i < vm->conf->ft_on_count; i++) {
        if (strcmp(vm->conf->ft_on[i], node->name) == 0) {
            return i + last;
        }
    }
    return NODES_MAX + last;
}

uint32_t ha_twin_choose(const struct ha_place *place, const struct ha_vm *vm,
                        char why[static REASON_LEN_MAX + 1])
{
    const size_t cap = REASON_LEN_MAX + 1;
    char one[REASON_LEN_MAX + 1];
    int best = -1;

    why[0] = '\0';
    for (unsigned i = 0; i < place->node_count; i++) {
        uint32_t nodeid = place->node[i].nodeid;

        if (!ha_twin_fits(place, vm, nodeid, one)) {
            ha_text_add(why, cap, why[0] != '\0' ? "; " : "");
            ha_text_add(why, cap, ha_state_node(place->in->state, nodeid)->name);
            ha_text_add(why, cap, " ");
            ha_text_add(why, cap, one);
        } else if (best < 0 ||
                   rank(place, vm, nodeid) < rank(place, vm, place->node[best].nodeid) ||
                   (rank(place, vm, nodeid) ==
                        rank(place, vm, place->node[best].nodeid) &&
                    place->node[i].memory_free > place->node[best].memory_free)) {
            best = (int)i;
        }
    }
    return best < 0 ? 0 : place->node[best].nodeid;
}
