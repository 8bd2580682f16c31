/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Items: what changes the replicated state (ha_state.h), as bytes. Each kind has a pair
 * that writes and reads its body. Pure.
 */
#pragma once

#include "base/bytes.h"
#include "ha/ha_types.h"

enum ha_item_kind {
    HA_ITEM_INVALID = 0,
    HA_ITEM_CLUSTER = 1,
    HA_ITEM_NODE = 2,
    HA_ITEM_VM = 3,
    HA_ITEM_VM_GONE = 4, /* body: uuid */
    HA_ITEM_PROOF = 5,
    HA_ITEM_TERM = 6, /* a synced view begins: body: coordinator u32 */
};

#define HA_ITEM_MAX (DEFINITION_MAX + 4096)

/* Parts of items and messages. */
void ha_put_move_end(struct bytes_wr *wr, const struct ha_move_end *end);
struct ha_move_end ha_get_move_end(struct bytes_rd *rd);
bool ha_twin_has_disks(const struct ha_twin_disk disk[static VM_DISKS_MAX]);
void ha_put_twin_disks(struct bytes_wr *wr,
                       const struct ha_twin_disk disk[static VM_DISKS_MAX]);
/* False: none, or too many. */
bool ha_get_twin_disks(struct bytes_rd *rd,
                       struct ha_twin_disk disk[static VM_DISKS_MAX]);
void ha_put_incarnation(struct bytes_wr *wr, struct incarnation inc);
struct incarnation ha_get_incarnation(struct bytes_rd *rd);

/* Item bodies; 0 when `cap` is too small. */
size_t ha_item_put_cluster(const struct ha_cluster *cluster, void *buf, size_t cap);
size_t ha_item_put_node(const struct ha_node *node, void *buf, size_t cap);
size_t ha_item_put_vm(const struct ha_vm *vm, void *buf, size_t cap);
size_t ha_item_put_proof(const struct proof *proof, const struct proof_stopped *stopped,
                         void *buf, size_t cap);

/* False: it is not one. What is in `ret_` stays in the body's bytes; runs NULL: none. */
bool ha_item_get_cluster(struct bytes_rd *rd, struct ha_cluster *cluster,
                         const uint8_t **ret_text);
bool ha_item_get_node(struct bytes_rd *rd, struct ha_node *node);
bool ha_item_get_vm(struct bytes_rd *rd, struct ha_vm *vm, const uint8_t **ret_text,
                    const uint8_t **ret_runs);
