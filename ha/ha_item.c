/* SPDX-License-Identifier: Apache-2.0 */
#include "ha/ha_item.h"

#include <string.h>

#include "base/bug.h"
#include "base/uuid.h"
#include "ha/ha_twinft.h"

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

bool ha_item_get_cluster(struct bytes_rd *rd, struct ha_cluster *cluster,
                         const uint8_t **ret_text)
{
    cluster->generation = bytes_rd_uuid(rd);
    cluster->stopped = bytes_rd_u8(rd) != 0;
    cluster->definition_len = bytes_rd_u32(rd);
    *ret_text = bytes_rd_view(rd, cluster->definition_len);
    return bytes_rd_done(rd) && cluster->definition_len <= DEFINITION_MAX;
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

bool ha_item_get_node(struct bytes_rd *rd, struct ha_node *node)
{
    uint8_t flags;

    node->nodeid = bytes_rd_u32(rd);
    bytes_rd_str(rd, node->name, sizeof node->name);
    node->incarnation = ha_get_incarnation(rd);
    flags = bytes_rd_u8(rd);
    node->seen = flags & 1;
    node->clean_stopped = flags >> 1 & 1;
    node->lost = flags >> 2 & 1;
    node->maintenance = flags >> 3 & 1;
    node->fence = (enum ha_fence_state)bytes_rd_u8(rd);
    node->fence_incarnation = ha_get_incarnation(rd);
    node->fence_uid = bytes_rd_uuid(rd);
    node->fence_executor = bytes_rd_u32(rd);
    node->fence_attempts = bytes_rd_u32(rd);
    bytes_rd_str(rd, node->fence_detail, sizeof node->fence_detail);
    node->memory_bytes = bytes_rd_u64(rd);
    return bytes_rd_done(rd) && node->nodeid != 0 && node->fence <= HA_FENCE_CANCELLING;
}

/* Bits of the byte that holds last_failed; older agents read any of them as true. */
enum {
    LAST_FAILED = 1,
    BACK_TO_STOPPED = 2,
    BACK_TO_SUSPENDED = 4,
    ACCEPT_COPY = 8, /* with one of these */
    WAS_WANTED = 16, /* the same */
    LAST_ALL = 31
};

static uint8_t last_bits(const struct ha_vm *vm)
{
    bool on_its_way = vm->state == HA_VM_STARTING || vm->state == HA_VM_STOPPING ||
                      vm->state == HA_VM_UNKNOWN;
    uint8_t bits = vm->last_failed ? LAST_FAILED : 0;

    if (on_its_way && vm->back_to != HA_VM_INVALID) {
        bits |= vm->back_to == HA_VM_SUSPENDED ? BACK_TO_SUSPENDED : BACK_TO_STOPPED;
        bits |= vm->accept_copy ? ACCEPT_COPY : 0;
        bits |= vm->was_wanted ? WAS_WANTED : 0;
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
    vm->was_wanted = (bits & WAS_WANTED) != 0;
    return (bits & ~LAST_ALL) == 0 &&
           ((!vm->accept_copy && !vm->was_wanted) || vm->back_to != HA_VM_INVALID);
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
    EXTRA_DIVERGED = 10,
    EXTRA_TWIN_FT = 11
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
        } else if (kind == EXTRA_TWIN_FT && vm->twin.to != 0 && !vm->twin.ft.kept) {
            if (!ha_get_twinft(rd, &vm->twin.ft)) {
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
    if (vm->twin.to != 0 && vm->twin.ft.kept) {
        bytes_wr_u8(&wr, EXTRA_TWIN_FT);
        ha_put_twinft(&wr, &vm->twin.ft);
    }
    return finish(&wr);
}

bool ha_item_get_vm(struct bytes_rd *rd, struct ha_vm *vm, const uint8_t **ret_text,
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

size_t ha_item_put_proof(const struct proof *proof, const struct proof_stopped *stopped,
                         void *buf, size_t cap)
{
    return proof_encode(proof, stopped, buf, cap);
}
