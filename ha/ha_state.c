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

/* Item bodies
 * ---------------------------------------------------------------------------- */

void ha_put_incarnation(struct bytes_wr *wr, struct incarnation inc)
{
    bytes_wr_uuid(wr, inc.boot_id);
    bytes_wr_u64(wr, inc.join);
}

struct incarnation ha_get_incarnation(struct bytes_rd *rd)
{
    struct incarnation inc;

    inc.boot_id = bytes_rd_uuid(rd);
    inc.join = bytes_rd_u64(rd);
    return inc;
}

static size_t finish(const struct bytes_wr *wr)
{
    return wr->failed ? 0 : wr->pos;
}

size_t ha_item_put_cluster(const struct ha_cluster *cluster, void *buf, size_t cap)
{
    struct bytes_wr wr = bytes_wr_make(buf, cap);

    bytes_wr_uuid(&wr, cluster->generation);
    bytes_wr_u8(&wr, cluster->stopped);
    bytes_wr_u32(&wr, cluster->definition_len);
    bytes_wr_copy(&wr, cluster->definition, cluster->definition_len);
    return finish(&wr);
}

size_t ha_item_put_node(const struct ha_node *node, void *buf, size_t cap)
{
    struct bytes_wr wr = bytes_wr_make(buf, cap);

    bytes_wr_u32(&wr, node->nodeid);
    bytes_wr_str(&wr, node->name);
    ha_put_incarnation(&wr, node->incarnation);
    bytes_wr_u8(&wr, (uint8_t)(node->seen | node->clean_stopped << 1 | node->lost << 2 |
                               node->maintenance << 3));
    bytes_wr_u8(&wr, (uint8_t)node->fence);
    ha_put_incarnation(&wr, node->fence_incarnation);
    bytes_wr_uuid(&wr, node->fence_uid);
    bytes_wr_u32(&wr, node->fence_executor);
    bytes_wr_u32(&wr, node->fence_attempts);
    bytes_wr_str(&wr, node->fence_detail);
    bytes_wr_u64(&wr, node->memory_bytes);
    return finish(&wr);
}

/* Bits of the byte that holds last_failed; older agents read any of them as true. */
enum {
    LAST_FAILED = 1,
    BACK_TO_STOPPED = 2,
    BACK_TO_SUSPENDED = 4,
    ACCEPT_COPY = 8, /* with one of these */
    LAST_ALL = 15
};

static uint8_t last_bits(const struct ha_vm *vm)
{
    bool on_its_way = vm->state == HA_VM_STARTING || vm->state == HA_VM_STOPPING ||
                      vm->state == HA_VM_UNKNOWN;
    uint8_t bits = vm->last_failed ? LAST_FAILED : 0;

    if (on_its_way && vm->back_to != HA_VM_INVALID) {
        bits |= vm->back_to == HA_VM_SUSPENDED ? BACK_TO_SUSPENDED : BACK_TO_STOPPED;
        bits |= vm->accept_copy ? ACCEPT_COPY : 0;
    }
    return bits;
}

static bool get_last_bits(struct ha_vm *vm, uint8_t bits)
{
    vm->last_failed = (bits & LAST_FAILED) != 0;
    vm->back_to = (bits & BACK_TO_SUSPENDED) != 0 ? HA_VM_SUSPENDED
                  : (bits & BACK_TO_STOPPED) != 0 ? HA_VM_STOPPED
                                                  : HA_VM_INVALID;
    vm->accept_copy = (bits & ACCEPT_COPY) != 0;
    return (bits & ~LAST_ALL) == 0 && (!vm->accept_copy || vm->back_to != HA_VM_INVALID);
}

void ha_put_move_end(struct bytes_wr *wr, const struct ha_move_end *end)
{
    bytes_wr_copy(wr, end->key, sizeof end->key);
    bytes_wr_copy(wr, end->token, sizeof end->token);
    bytes_wr_str(wr, end->address);
    bytes_wr_u16(wr, end->port);
}

struct ha_move_end ha_get_move_end(struct bytes_rd *rd)
{
    struct ha_move_end end = {0};

    bytes_rd_copy(rd, end.key, sizeof end.key);
    bytes_rd_copy(rd, end.token, sizeof end.token);
    bytes_rd_str(rd, end.address, sizeof end.address);
    end.port = bytes_rd_u16(rd);
    return end;
}

static void put_move(struct bytes_wr *wr, const struct ha_move *move)
{
    bytes_wr_u32(wr, move->to);
    ha_put_incarnation(wr, move->to_incarnation);
    bytes_wr_uuid(wr, move->instance);
    ha_put_move_end(wr, &move->source);
    ha_put_move_end(wr, &move->dest);
    bytes_wr_u8(wr, (uint8_t)(move->called_off | move->verify << 1 |
                              move->no_compress << 2 | move->postcopy << 3));
    bytes_wr_u32(wr, move->timeout_ms);
    bytes_wr_u32(wr, move->downtime_ms);
    bytes_wr_u32(wr, move->slowdown);
    bytes_wr_u64(wr, move->rate_bps);
}

static bool get_move(struct bytes_rd *rd, struct ha_move *move)
{
    uint8_t flags;

    move->to = bytes_rd_u32(rd);
    move->to_incarnation = ha_get_incarnation(rd);
    move->instance = bytes_rd_uuid(rd);
    move->source = ha_get_move_end(rd);
    move->dest = ha_get_move_end(rd);
    flags = bytes_rd_u8(rd);
    move->called_off = (flags & 1) != 0;
    move->verify = (flags & 2) != 0;
    move->no_compress = (flags & 4) != 0;
    move->postcopy = (flags & 8) != 0;
    move->timeout_ms = bytes_rd_u32(rd);
    move->downtime_ms = bytes_rd_u32(rd);
    move->slowdown = bytes_rd_u32(rd);
    move->rate_bps = bytes_rd_u64(rd);
    return move->to != 0 && (flags & ~15) == 0 && move->slowdown <= 100;
}

static unsigned disk_count(const struct ha_twin_disk disk[static VM_DISKS_MAX])
{
    unsigned count = VM_DISKS_MAX;

    while (count > 0 && disk[count - 1].bytes == 0) {
        count--;
    }
    return count;
}

bool ha_twin_has_disks(const struct ha_twin_disk disk[static VM_DISKS_MAX])
{
    return disk_count(disk) > 0;
}

void ha_put_twin_disks(struct bytes_wr *wr,
                       const struct ha_twin_disk disk[static VM_DISKS_MAX])
{
    unsigned count = disk_count(disk);

    bytes_wr_u8(wr, (uint8_t)count);
    for (unsigned i = 0; i < count; i++) {
        bytes_wr_u64(wr, disk[i].bytes);
        bytes_wr_u64(wr, disk[i].used);
    }
}

bool ha_get_twin_disks(struct bytes_rd *rd, struct ha_twin_disk disk[static VM_DISKS_MAX])
{
    unsigned count = bytes_rd_u8(rd);

    if (count == 0 || count > VM_DISKS_MAX) {
        return false;
    }
    for (unsigned i = 0; i < count; i++) {
        disk[i].bytes = bytes_rd_u64(rd);
        disk[i].used = bytes_rd_u64(rd);
    }
    return disk[count - 1].bytes != 0;
}

static void put_twin(struct bytes_wr *wr, const struct ha_twin *twin)
{
    bytes_wr_u32(wr, twin->to);
    ha_put_incarnation(wr, twin->to_incarnation);
    bytes_wr_uuid(wr, twin->id);
    bytes_wr_uuid(wr, twin->instance);
    ha_put_move_end(wr, &twin->source);
    ha_put_move_end(wr, &twin->dest);
    bytes_wr_u8(wr, (uint8_t)twin->step);
    bytes_wr_u8(wr, twin->commit);
    bytes_wr_u8(wr, (uint8_t)(twin->ending | twin->switchover << 1));
    bytes_wr_u64(wr, twin->epoch);
}

static bool get_twin(struct bytes_rd *rd, struct ha_twin *twin)
{
    uint8_t flags;

    twin->to = bytes_rd_u32(rd);
    twin->to_incarnation = ha_get_incarnation(rd);
    twin->id = bytes_rd_uuid(rd);
    twin->instance = bytes_rd_uuid(rd);
    twin->source = ha_get_move_end(rd);
    twin->dest = ha_get_move_end(rd);
    twin->step = (enum ha_twin_step)bytes_rd_u8(rd);
    twin->commit = bytes_rd_u8(rd);
    flags = bytes_rd_u8(rd);
    twin->ending = (flags & 1) != 0;
    twin->switchover = (flags & 2) != 0;
    twin->epoch = bytes_rd_u64(rd);
    return twin->to != 0 && twin->step < HA_TWIN_STEP_COUNT && (flags & ~3) == 0 &&
           twin->commit <= CONF_FT_EPOCHS;
}

/* Of protection: what outlives a twin. */
static bool has_ft_fields(const struct ha_vm *vm)
{
    return vm->twin_off || vm->twin_tries != 0 || vm->twin_avoid != 0 ||
           vm->mirror[0] != 0;
}

static void put_ft(struct bytes_wr *wr, const struct ha_vm *vm)
{
    bytes_wr_u8(wr, vm->twin_off);
    bytes_wr_u32(wr, vm->twin_tries);
    bytes_wr_u32(wr, vm->twin_avoid);
    for (unsigned i = 0; i < CLAIM_MIRRORS_MAX; i++) {
        bytes_wr_u32(wr, vm->mirror[i]);
    }
}

static bool get_ft(struct bytes_rd *rd, struct ha_vm *vm)
{
    uint8_t off = bytes_rd_u8(rd);

    vm->twin_off = off != 0;
    vm->twin_tries = bytes_rd_u32(rd);
    vm->twin_avoid = bytes_rd_u32(rd);
    for (unsigned i = 0; i < CLAIM_MIRRORS_MAX; i++) {
        vm->mirror[i] = bytes_rd_u32(rd);
    }
    return off <= 1;
}

static bool has_diverged(const struct ha_vm *vm)
{
    return vm->diverged.count != 0 || vm->twin_at_once;
}

static void put_diverged(struct bytes_wr *wr, const struct ha_vm *vm)
{
    bytes_wr_u8(wr, (uint8_t)(vm->diverged.down | vm->twin_at_once << 1));
    bytes_wr_u32(wr, vm->diverged.count);
    bytes_wr_u32(wr, vm->diverged.row);
    bytes_wr_u64(wr, vm->diverged.at_ms);
    bytes_wr_str(wr, vm->diverged.why);
}

static bool get_diverged(struct bytes_rd *rd, struct ha_vm *vm)
{
    uint8_t flags = bytes_rd_u8(rd);

    vm->diverged.down = (flags & 1) != 0;
    vm->twin_at_once = (flags & 2) != 0;
    vm->diverged.count = bytes_rd_u32(rd);
    vm->diverged.row = bytes_rd_u32(rd);
    vm->diverged.at_ms = bytes_rd_u64(rd);
    bytes_rd_str(rd, vm->diverged.why, sizeof vm->diverged.why);
    return (flags & ~3) == 0 && vm->diverged.row <= vm->diverged.count &&
           (vm->diverged.count != 0 || !vm->diverged.down) && has_diverged(vm);
}

static bool get_held(struct bytes_rd *rd, struct ha_held *held)
{
    held->node = bytes_rd_u32(rd);
    held->incarnation = ha_get_incarnation(rd);
    held->instance = bytes_rd_uuid(rd);
    return held->node != 0;
}

/* What else a record may have behind its task fields, each with its number. */
enum {
    EXTRA_MOVE = 1,
    EXTRA_HOME = 2,
    EXTRA_MOVE_AVOID = 3,
    EXTRA_RUNS = 4,
    EXTRA_MEMORY_FROM = 5,
    EXTRA_TWIN = 6,
    EXTRA_FT = 7,
    EXTRA_TWIN_DISKS = 8,
    EXTRA_HELD = 9,
    EXTRA_DIVERGED = 10
};

static bool get_extras(struct bytes_rd *rd, struct ha_vm *vm, const uint8_t **ret_runs)
{
    *ret_runs = NULL;
    while (!rd->failed && rd->pos < rd->len) {
        uint8_t kind = bytes_rd_u8(rd);

        if (kind == EXTRA_MOVE && vm->move.to == 0) {
            if (!get_move(rd, &vm->move)) {
                return false;
            }
        } else if (kind == EXTRA_HOME && vm->home == 0) {
            vm->home = bytes_rd_u32(rd);
        } else if (kind == EXTRA_MOVE_AVOID && vm->move_avoid == 0) {
            vm->move_avoid = bytes_rd_u32(rd);
        } else if (kind == EXTRA_RUNS && *ret_runs == NULL) {
            vm->runs_len = bytes_rd_u32(rd);
            *ret_runs = bytes_rd_view(rd, vm->runs_len);
        } else if (kind == EXTRA_MEMORY_FROM && vm->memory_from == 0) {
            vm->memory_from = bytes_rd_u32(rd);
        } else if (kind == EXTRA_TWIN && vm->twin.to == 0) {
            if (!get_twin(rd, &vm->twin)) {
                return false;
            }
        } else if (kind == EXTRA_TWIN_DISKS && vm->twin.to != 0 &&
                   !ha_twin_has_disks(vm->twin.disk)) {
            if (!ha_get_twin_disks(rd, vm->twin.disk)) {
                return false;
            }
        } else if (kind == EXTRA_FT && !has_ft_fields(vm)) {
            if (!get_ft(rd, vm)) {
                return false;
            }
        } else if (kind == EXTRA_HELD && vm->held.node == 0) {
            if (!get_held(rd, &vm->held)) {
                return false;
            }
        } else if (kind == EXTRA_DIVERGED && !has_diverged(vm)) {
            if (!get_diverged(rd, vm)) {
                return false;
            }
        } else {
            return false; /* of a later version, or twice */
        }
    }
    return true;
}

/* They came later, and stand at the end: records without them are as they always were. */
static bool has_task_fields(const struct ha_vm *vm)
{
    return vm->task != HA_TASK_NONE || vm->snapshot[0] != '\0' || vm->last[0] != '\0' ||
           (last_bits(vm) & ~LAST_FAILED) != 0 || vm->move.to != 0 || vm->home != 0 ||
           vm->move_avoid != 0 || vm->runs != NULL || vm->memory_from != 0 ||
           vm->twin.to != 0 || has_ft_fields(vm) || has_diverged(vm) ||
           vm->held.node != 0;
}

size_t ha_item_put_vm(const struct ha_vm *vm, void *buf, size_t cap)
{
    struct bytes_wr wr = bytes_wr_make(buf, cap);

    bytes_wr_uuid(&wr, vm->uuid);
    bytes_wr_str(&wr, vm->name);
    bytes_wr_u8(&wr, (uint8_t)vm->desired);
    bytes_wr_u8(&wr, (uint8_t)vm->state);
    bytes_wr_u32(&wr, vm->owner);
    ha_put_incarnation(&wr, vm->owner_incarnation);
    bytes_wr_uuid(&wr, vm->instance);
    bytes_wr_uuid(&wr, vm->attempt);
    bytes_wr_u64(&wr, vm->epoch);
    bytes_wr_u32(&wr, vm->failures);
    bytes_wr_u32(&wr, vm->restarts);
    bytes_wr_u32(&wr, vm->avoid);
    bytes_wr_u8(&wr, vm->kill);
    bytes_wr_str(&wr, vm->reason);
    bytes_wr_u32(&wr, vm->definition_len);
    bytes_wr_copy(&wr, vm->definition, vm->definition_len);
    if (has_task_fields(vm)) {
        bytes_wr_u8(&wr, (uint8_t)vm->task);
        bytes_wr_str(&wr, vm->snapshot);
        bytes_wr_u8(&wr, last_bits(vm));
        bytes_wr_str(&wr, vm->last);
    }
    if (vm->move.to != 0) {
        bytes_wr_u8(&wr, EXTRA_MOVE);
        put_move(&wr, &vm->move);
    }
    if (vm->home != 0) {
        bytes_wr_u8(&wr, EXTRA_HOME);
        bytes_wr_u32(&wr, vm->home);
    }
    if (vm->move_avoid != 0) {
        bytes_wr_u8(&wr, EXTRA_MOVE_AVOID);
        bytes_wr_u32(&wr, vm->move_avoid);
    }
    if (vm->runs != NULL) {
        bytes_wr_u8(&wr, EXTRA_RUNS);
        bytes_wr_u32(&wr, vm->runs_len);
        bytes_wr_copy(&wr, vm->runs, vm->runs_len);
    }
    if (vm->memory_from != 0) {
        bytes_wr_u8(&wr, EXTRA_MEMORY_FROM);
        bytes_wr_u32(&wr, vm->memory_from);
    }
    if (vm->twin.to != 0) {
        bytes_wr_u8(&wr, EXTRA_TWIN);
        put_twin(&wr, &vm->twin);
    }
    if (vm->twin.to != 0 && ha_twin_has_disks(vm->twin.disk)) {
        bytes_wr_u8(&wr, EXTRA_TWIN_DISKS);
        ha_put_twin_disks(&wr, vm->twin.disk);
    }
    if (has_ft_fields(vm)) {
        bytes_wr_u8(&wr, EXTRA_FT);
        put_ft(&wr, vm);
    }
    if (vm->held.node != 0) {
        bytes_wr_u8(&wr, EXTRA_HELD);
        bytes_wr_u32(&wr, vm->held.node);
        ha_put_incarnation(&wr, vm->held.incarnation);
        bytes_wr_uuid(&wr, vm->held.instance);
    }
    if (has_diverged(vm)) {
        bytes_wr_u8(&wr, EXTRA_DIVERGED);
        put_diverged(&wr, vm);
    }
    return finish(&wr);
}

size_t ha_item_put_proof(const struct proof *proof, const struct proof_stopped *stopped,
                         void *buf, size_t cap)
{
    return proof_encode(proof, stopped, buf, cap);
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

    next.generation = bytes_rd_uuid(rd);
    next.stopped = bytes_rd_u8(rd) != 0;
    next.definition_len = bytes_rd_u32(rd);
    next.version = version;
    text = bytes_rd_view(rd, next.definition_len);
    if (!bytes_rd_done(rd) || next.definition_len > DEFINITION_MAX) {
        return -EBADMSG;
    }
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
    uint8_t flags;

    next.nodeid = bytes_rd_u32(rd);
    bytes_rd_str(rd, next.name, sizeof next.name);
    next.incarnation = ha_get_incarnation(rd);
    flags = bytes_rd_u8(rd);
    next.seen = flags & 1;
    next.clean_stopped = flags >> 1 & 1;
    next.lost = flags >> 2 & 1;
    next.maintenance = flags >> 3 & 1;
    next.fence = (enum ha_fence_state)bytes_rd_u8(rd);
    next.fence_incarnation = ha_get_incarnation(rd);
    next.fence_uid = bytes_rd_uuid(rd);
    next.fence_executor = bytes_rd_u32(rd);
    next.fence_attempts = bytes_rd_u32(rd);
    bytes_rd_str(rd, next.fence_detail, sizeof next.fence_detail);
    next.memory_bytes = bytes_rd_u64(rd);
    next.version = version;
    next.changed_ns = now_ns;
    if (!bytes_rd_done(rd) || next.nodeid == 0 || next.fence > HA_FENCE_CANCELLING) {
        return -EBADMSG;
    }
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

/* `text`, `runs`: the definitions' bytes, not yet owned; runs NULL: none. */
static bool vm_read(struct bytes_rd *rd, struct ha_vm *vm, const uint8_t **ret_text,
                    const uint8_t **ret_runs)
{
    vm->uuid = bytes_rd_uuid(rd);
    bytes_rd_str(rd, vm->name, sizeof vm->name);
    vm->desired = (enum ha_desired)bytes_rd_u8(rd);
    vm->state = (enum ha_vm_state)bytes_rd_u8(rd);
    vm->owner = bytes_rd_u32(rd);
    vm->owner_incarnation = ha_get_incarnation(rd);
    vm->instance = bytes_rd_uuid(rd);
    vm->attempt = bytes_rd_uuid(rd);
    vm->epoch = bytes_rd_u64(rd);
    vm->failures = bytes_rd_u32(rd);
    vm->restarts = bytes_rd_u32(rd);
    vm->avoid = bytes_rd_u32(rd);
    vm->kill = bytes_rd_u8(rd) != 0;
    bytes_rd_str(rd, vm->reason, sizeof vm->reason);
    vm->definition_len = bytes_rd_u32(rd);
    *ret_text = bytes_rd_view(rd, vm->definition_len);
    if (!rd->failed && rd->pos < rd->len) {
        vm->task = (enum ha_task)bytes_rd_u8(rd);
        bytes_rd_str(rd, vm->snapshot, sizeof vm->snapshot);
        if (!get_last_bits(vm, bytes_rd_u8(rd))) {
            return false;
        }
        bytes_rd_str(rd, vm->last, sizeof vm->last);
    }
    if (!get_extras(rd, vm, ret_runs)) {
        return false;
    }
    return bytes_rd_done(rd) && !uuid_is_none(vm->uuid) && vm->name[0] != '\0' &&
           vm->state > HA_VM_INVALID && vm->state < HA_VM_STATE_COUNT &&
           vm->desired >= HA_DESIRED_STOPPED && vm->desired <= HA_DESIRED_SUSPENDED &&
           vm->task < HA_TASK_COUNT && vm->definition_len <= DEFINITION_MAX &&
           vm->runs_len <= DEFINITION_MAX;
}

static int apply_vm(struct ha_state *state, struct bytes_rd *rd, uint64_t version,
                    uint64_t now_ns)
{
    struct ha_vm next = {0}, *vm, *other;
    const uint8_t *text, *runs;
    int r;

    if (!vm_read(rd, &next, &text, &runs)) {
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
        *ret_len = finish(&wr);
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
