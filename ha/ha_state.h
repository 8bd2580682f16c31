/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The replicated state: cluster, nodes, VMs, proofs. It changes only by items, and every
 * node applies the same items in the same order; so it is also what the record log holds
 * and what a state transfer sends. Position: (term, version); a term begins with each
 * synced view, a version with each item. Pure: memory comes from the caller's functions.
 */
#pragma once

#include "ha/ha_item.h"

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
