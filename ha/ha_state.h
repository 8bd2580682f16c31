/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The replicated state: cluster, nodes, VMs, proofs. It changes only by items, and every
 * node applies the same items in the same order; so it is also what the record log holds
 * and what a state transfer sends. Position: (term, version); a term begins with each
 * synced view, a version with each item. Pure: memory comes from the caller's functions.
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

struct ha_mem {
    void *(*alloc)(size_t len); /* NULL on failure */
    void (*free)(void *p);
    /* Parses a definition (cluster-conf does it in its shell); false leaves *ret alone.
     * NULL: definitions stay text. */
    bool (*parse_vm)(const char *yaml, size_t len, struct conf_vm *ret_conf);
    bool (*parse_cluster)(const char *yaml, size_t len, struct conf_cluster *ret_conf);
};

struct ha_state {
    const struct ha_mem *mem;
    uint64_t term, version;
    uint32_t coordinator; /* of `term` */
    struct ha_cluster cluster;
    unsigned node_count;
    struct ha_node node[NODES_MAX];
    unsigned vm_count, vm_cap;
    struct ha_vm **vm;         /* in order of name */
    struct proof_table proofs; /* over the slots below */
    struct proof proof_slots[NODES_MAX * 8];
    struct proof_stopped stopped_slots[4096];
    struct proof_stopped stopped_scratch[PROOF_STOPPED_MAX];
};

void ha_state_init(struct ha_state *state, const struct ha_mem *mem);
void ha_state_clear(struct ha_state *state); /* frees; ready for items again */

struct ha_node *ha_state_node(const struct ha_state *state, uint32_t nodeid);
struct ha_node *ha_state_node_by_name(const struct ha_state *state, const char *name);
struct ha_vm *ha_state_vm(const struct ha_state *state, struct uuid uuid);
struct ha_vm *ha_state_vm_by_name(const struct ha_state *state, const char *name);
/* True once a cluster definition exists: before, this is a blank state, and a blank state
 * never replaces another. */
bool ha_state_set_up(const struct ha_state *state);

/* An incarnation inside an item or a message. */
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

/*
 * Applies one item (already judged valid by R0); `now_ns` only stamps the changed_ns
 * fields. 0, -EBADMSG (refused whole, nothing changed) or -ENOMEM.
 */
int ha_state_apply(struct ha_state *state, enum ha_item_kind kind, const void *body,
                   size_t len, uint64_t version, uint64_t now_ns);

/* Walks the whole state as items, for a state transfer or a compacted log: start with
 * *cursor = 0; false at the end. */
bool ha_state_next_item(const struct ha_state *state, unsigned *cursor,
                        enum ha_item_kind *ret_kind, void *buf, size_t cap,
                        size_t *ret_len);
