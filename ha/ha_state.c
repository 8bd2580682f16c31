/* SPDX-License-Identifier: Apache-2.0 */
#include "ha/ha_state.h"

#include <errno.h>
#include <string.h>

#include "base/bug.h"
#include "base/uuid.h"

void ha_state_init(struct ha_state *state, const struct ha_mem *mem)
{
    memset(state, 0, sizeof *state);
    state->mem = mem;
    state->proofs = (struct proof_table){
        .proofs = state->proof_slots,
        .cap = ARRAY_SIZE(state->proof_slots),
        .stopped = state->stopped_slots,
        .stopped_cap = ARRAY_SIZE(state->stopped_slots),
    };
}

static void vm_free(struct ha_state *state, struct ha_vm *vm)
{
    if (vm == NULL) {
        return;
    }
    state->mem->free(vm->definition);
    state->mem->free(vm->conf);
    state->mem->free(vm->runs);
    state->mem->free(vm->runs_conf);
    state->mem->free(vm);
}

void ha_state_clear(struct ha_state *state)
{
    const struct ha_mem *mem = state->mem;

    for (unsigned i = 0; i < state->vm_count; i++) {
        vm_free(state, state->vm[i]);
    }
    mem->free(state->vm);
    mem->free(state->cluster.definition);
    mem->free(state->cluster.conf);
    ha_state_init(state, mem);
}

struct ha_node *ha_state_node(const struct ha_state *state, uint32_t nodeid)
{
    for (unsigned i = 0; i < state->node_count; i++) {
        if (state->node[i].nodeid == nodeid) {
            return (struct ha_node *)&state->node[i];
        }
    }
    return NULL;
}

struct ha_node *ha_state_node_by_name(const struct ha_state *state, const char *name)
{
    for (unsigned i = 0; i < state->node_count; i++) {
        if (strcmp(state->node[i].name, name) == 0) {
            return (struct ha_node *)&state->node[i];
        }
    }
    return NULL;
}

struct ha_vm *ha_state_vm(const struct ha_state *state, struct uuid uuid)
{
    for (unsigned i = 0; i < state->vm_count; i++) {
        if (memcmp(&state->vm[i]->uuid, &uuid, sizeof uuid) == 0) {
            return state->vm[i];
        }
    }
    return NULL;
}

/* First index whose name is not below `name`. */
static unsigned vm_lower_bound(const struct ha_state *state, const char *name)
{
    unsigned low = 0, high = state->vm_count;

    while (low < high) {
        unsigned mid = low + (high - low) / 2;

        if (strcmp(state->vm[mid]->name, name) < 0) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

struct ha_vm *ha_state_vm_by_name(const struct ha_state *state, const char *name)
{
    unsigned at = vm_lower_bound(state, name);

    if (at < state->vm_count && strcmp(state->vm[at]->name, name) == 0) {
        return state->vm[at];
    }
    return NULL;
}

bool ha_state_set_up(const struct ha_state *state)
{
    return !uuid_is_none(state->cluster.generation);
}

/* A NUL-terminated copy of `len` bytes; NULL when out of memory. */
static char *text_copy(const struct ha_state *state, const uint8_t *text, uint32_t len)
{
    char *copy = state->mem->alloc((size_t)len + 1);

    if (copy != NULL) {
        memcpy(copy, text, len);
        copy[len] = '\0';
    }
    return copy;
}

static int apply_cluster(struct ha_state *state, struct bytes_rd *rd, uint64_t version)
{
    struct ha_cluster next = {0};
    const uint8_t *text;

    if (!ha_item_get_cluster(rd, &next, &text)) {
        return -EBADMSG;
    }
    next.version = version;
    next.definition = text_copy(state, text, next.definition_len);
    if (next.definition == NULL) {
        return -ENOMEM;
    }
    if (state->mem->parse_cluster != NULL) {
        next.conf = state->mem->alloc(sizeof *next.conf);
        if (next.conf == NULL) {
            state->mem->free(next.definition);
            return -ENOMEM;
        }
        if (!state->mem->parse_cluster(next.definition, next.definition_len, next.conf)) {
            state->mem->free(next.conf);
            next.conf = NULL;
        }
    }
    state->mem->free(state->cluster.definition);
    state->mem->free(state->cluster.conf);
    state->cluster = next;
    return 0;
}

static int apply_node(struct ha_state *state, struct bytes_rd *rd, uint64_t version,
                      uint64_t now_ns)
{
    struct ha_node next = {0}, *node;

    if (!ha_item_get_node(rd, &next)) {
        return -EBADMSG;
    }
    next.version = version;
    next.changed_ns = now_ns;
    node = ha_state_node(state, next.nodeid);
    if (node == NULL) {
        if (state->node_count == NODES_MAX) {
            return -EBADMSG;
        }
        node = &state->node[state->node_count++];
    }
    *node = next;
    return 0;
}

static int vm_insert(struct ha_state *state, struct ha_vm *vm)
{
    unsigned at;

    if (state->vm_count == VMS_MAX) {
        return -EBADMSG;
    }
    if (state->vm_count == state->vm_cap) {
        unsigned cap = state->vm_cap == 0 ? 16 : state->vm_cap * 2;
        struct ha_vm **grown = state->mem->alloc(cap * sizeof *grown);

        if (grown == NULL) {
            return -ENOMEM;
        }
        if (state->vm_count != 0) {
            memcpy(grown, state->vm, state->vm_count * sizeof *grown);
        }
        state->mem->free(state->vm);
        state->vm = grown;
        state->vm_cap = cap;
    }
    at = vm_lower_bound(state, vm->name);
    memmove(&state->vm[at + 1], &state->vm[at],
            (state->vm_count - at) * sizeof(struct ha_vm *));
    state->vm[at] = vm;
    state->vm_count++;
    return 0;
}

static bool same_text(const char *a, uint32_t a_len, const char *b, uint32_t b_len)
{
    return a != NULL && b != NULL && a_len == b_len && memcmp(a, b, a_len) == 0;
}

/* NULL: it does not parse here. */
static struct conf_vm *vm_parse(const struct ha_state *state, const struct ha_vm *vm,
                                const char *text, uint32_t len)
{
    struct conf_vm *conf;

    if (state->mem->parse_vm == NULL || text == NULL) {
        return NULL;
    }
    conf = state->mem->alloc(sizeof *conf);
    if (conf != NULL && !state->mem->parse_vm(text, len, conf)) {
        state->mem->free(conf);
        return NULL;
    }
    if (conf != NULL) {
        conf->uuid = vm->uuid; /* the definition need not name it: checks against it do */
    }
    return conf;
}

/* The parsed definitions of `next`, from those of the record that it replaces (NULL:
 * none) where nothing changed. Frees what is not needed any more. */
static void vm_parse_all(struct ha_state *state, struct ha_vm *next, struct ha_vm *old)
{
    if (old != NULL && same_text(old->definition, old->definition_len, next->definition,
                                 next->definition_len)) {
        next->conf = old->conf;
        old->conf = NULL;
    } else {
        next->conf = vm_parse(state, next, next->definition, next->definition_len);
    }
    if (old != NULL && same_text(old->runs, old->runs_len, next->runs, next->runs_len)) {
        next->runs_conf = old->runs_conf;
        old->runs_conf = NULL;
    } else {
        next->runs_conf = vm_parse(state, next, next->runs, next->runs_len);
    }
    if (old != NULL) {
        state->mem->free(old->conf);
        state->mem->free(old->runs_conf);
        state->mem->free(old->definition);
        state->mem->free(old->runs);
    }
}

static int apply_vm(struct ha_state *state, struct bytes_rd *rd, uint64_t version,
                    uint64_t now_ns)
{
    struct ha_vm next = {0}, *vm, *other;
    const uint8_t *text, *runs;
    int r;

    if (!ha_item_get_vm(rd, &next, &text, &runs)) {
        return -EBADMSG;
    }
    next.version = version;
    next.changed_ns = now_ns;
    other = ha_state_vm_by_name(state, next.name);
    vm = ha_state_vm(state, next.uuid);
    if (other != vm) {
        return -EBADMSG; /* a name names one VM, and a VM keeps its name */
    }
    next.definition = text_copy(state, text, next.definition_len);
    if (runs != NULL) {
        next.runs = text_copy(state, runs, next.runs_len);
    }
    if (next.definition == NULL || (runs != NULL && next.runs == NULL)) {
        state->mem->free(next.definition);
        state->mem->free(next.runs);
        return -ENOMEM;
    }
    next.twin_changed_ns = next.bare_since_ns = now_ns;
    if (vm != NULL) {
        if (ha_vm_is_bare(vm) && ha_vm_is_bare(&next)) {
            next.bare_since_ns = vm->bare_since_ns;
        }
        if (uuid_equal(vm->twin.id, next.twin.id) && vm->twin.step == next.twin.step &&
            vm->twin.to == next.twin.to && vm->owner == next.owner) {
            next.twin_changed_ns = vm->twin_changed_ns;
        }
        if (next.twin.to == 0) {
            next.twin_was = vm->twin.to != 0 ? vm->twin.id : vm->twin_was;
            next.twin_was_on = vm->twin.to != 0 ? vm->twin.to : vm->twin_was_on;
        }
        if (vm->owner == next.owner &&
            (vm->state == next.state || (ha_vm_paused(vm) && ha_vm_paused(&next)))) {
            next.changed_ns = vm->changed_ns;
        }
        vm_parse_all(state, &next, vm);
        *vm = next;
        return 0;
    }
    vm = state->mem->alloc(sizeof *vm);
    if (vm == NULL) {
        state->mem->free(next.definition);
        state->mem->free(next.runs);
        return -ENOMEM;
    }
    vm_parse_all(state, &next, NULL);
    *vm = next;
    r = vm_insert(state, vm);
    if (r < 0) {
        vm_free(state, vm);
    }
    return r;
}

static int apply_vm_gone(struct ha_state *state, struct bytes_rd *rd)
{
    struct uuid uuid = bytes_rd_uuid(rd);

    if (!bytes_rd_done(rd)) {
        return -EBADMSG;
    }
    for (unsigned i = 0; i < state->vm_count; i++) {
        if (uuid_equal(state->vm[i]->uuid, uuid)) {
            vm_free(state, state->vm[i]);
            memmove(&state->vm[i], &state->vm[i + 1],
                    (state->vm_count - i - 1) * sizeof(struct ha_vm *));
            state->vm_count--;
            return 0;
        }
    }
    return 0;
}

static bool is_life(const struct proof *proof, uint32_t node_id,
                    const struct incarnation *inc)
{
    return proof->node_id == node_id && incarnation_equal(&proof->inc, inc);
}

/* A record names that life of the node: somebody may wait for this proof. */
static bool is_needed(const struct ha_state *state, const struct proof *proof)
{
    for (unsigned i = 0; i < state->vm_count; i++) {
        const struct ha_vm *vm = state->vm[i];

        if (is_life(proof, vm->owner, &vm->owner_incarnation) ||
            is_life(proof, vm->held.node, &vm->held.incarnation) ||
            is_life(proof, vm->twin.to, &vm->twin.to_incarnation) ||
            is_life(proof, vm->move.to, &vm->move.to_incarnation)) {
            return true;
        }
    }
    return false;
}

static unsigned proofs_of(const struct ha_state *state, uint32_t node_id)
{
    unsigned count = 0;

    for (uint32_t i = 0; i < state->proofs.count; i++) {
        count += state->proofs.proofs[i].node_id == node_id;
    }
    return count;
}

/* Claims, which are not in here, name earlier owners as well: so proofs are kept as long
 * as there is room. The oldest one that no record needs goes, of the node that has most.
 */
static bool forget_one(struct ha_state *state)
{
    const struct proof *oldest = NULL;
    unsigned most = 0;

    for (uint32_t i = 0; i < state->proofs.count; i++) {
        const struct proof *proof = &state->proofs.proofs[i];
        unsigned n = proofs_of(state, proof->node_id);

        if (n > most && !is_needed(state, proof)) {
            oldest = proof;
            most = n;
        }
    }
    if (oldest != NULL) {
        struct incarnation inc = oldest->inc;

        proof_table_forget(&state->proofs, oldest->node_id, &inc);
    }
    return oldest != NULL;
}

static int apply_proof(struct ha_state *state, struct bytes_rd *rd, uint64_t now_ns)
{
    struct proof proof;
    size_t used;
    int r;

    if (proof_decode(rd->buf, rd->len, &proof, state->stopped_scratch, &used) !=
            PROOF_DECODE_OK ||
        used != rd->len) {
        return -EBADMSG;
    }
    proof.known_ns = now_ns;
    do {
        r = proof_table_add(&state->proofs, &proof, state->stopped_scratch,
                            proof.stopped_count);
    } while (r == -ENOSPC && forget_one(state));
    return r < 0 ? -EBADMSG : 0;
}

int ha_state_apply(struct ha_state *state, enum ha_item_kind kind, const void *body,
                   size_t len, uint64_t version, uint64_t now_ns)
{
    struct bytes_rd rd = bytes_rd_make(body, len);
    int r;

    switch (kind) {
    case HA_ITEM_CLUSTER:
        r = apply_cluster(state, &rd, version);
        break;
    case HA_ITEM_NODE:
        r = apply_node(state, &rd, version, now_ns);
        break;
    case HA_ITEM_VM:
        r = apply_vm(state, &rd, version, now_ns);
        break;
    case HA_ITEM_VM_GONE:
        r = apply_vm_gone(state, &rd);
        break;
    case HA_ITEM_PROOF:
        r = apply_proof(state, &rd, now_ns);
        break;
    case HA_ITEM_TERM: {
        uint64_t term = bytes_rd_u64(&rd);
        uint32_t coordinator = bytes_rd_u32(&rd);

        if (!bytes_rd_done(&rd)) {
            return -EBADMSG;
        }
        state->term = term;
        state->coordinator = coordinator;
        r = 0;
        break;
    }
    case HA_ITEM_INVALID:
    default:
        return -EBADMSG;
    }
    if (r == 0 && version > state->version) {
        state->version = version;
    }
    return r;
}

bool ha_state_next_item(const struct ha_state *state, unsigned *cursor,
                        enum ha_item_kind *ret_kind, void *buf, size_t cap,
                        size_t *ret_len)
{
    unsigned at = (*cursor)++;

    if (at == 0) {
        struct bytes_wr wr = bytes_wr_make(buf, cap);

        bytes_wr_u64(&wr, state->term);
        bytes_wr_u32(&wr, state->coordinator);
        *ret_kind = HA_ITEM_TERM;
        *ret_len = wr.failed ? 0 : wr.pos;
        return true;
    }
    at--;
    if (at == 0) {
        *ret_kind = HA_ITEM_CLUSTER;
        *ret_len = ha_item_put_cluster(&state->cluster, buf, cap);
        return true;
    }
    at--;
    if (at < state->node_count) {
        *ret_kind = HA_ITEM_NODE;
        *ret_len = ha_item_put_node(&state->node[at], buf, cap);
        return true;
    }
    at -= state->node_count;
    if (at < state->vm_count) {
        *ret_kind = HA_ITEM_VM;
        *ret_len = ha_item_put_vm(state->vm[at], buf, cap);
        return true;
    }
    at -= state->vm_count;
    if (at < state->proofs.count) {
        *ret_kind = HA_ITEM_PROOF;
        *ret_len =
            ha_item_put_proof(&state->proofs.proofs[at], state->proofs.stopped, buf, cap);
        return true;
    }
    return false;
}
