/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a schema cannot say: duplicates, references, values that exclude each other. Pure.
 * Each returns 0, or -EINVAL with ret_error's key, what and text filled (no line: see
 * conf_error_locate). conf_load calls the first three by itself.
 */
#pragma once

#include <stddef.h>

#include "cluster-conf/conf_model.h"

int conf_node_check(const struct conf_node *node, struct conf_error *ret_error);
int conf_cluster_check(const struct conf_cluster *cluster, struct conf_error *ret_error);
int conf_vm_check(const struct conf_vm *vm, struct conf_error *ret_error);

/* What a node offers to VMs; memory 0: not known. */
struct conf_capacity {
    const char *node;
    uint64_t memory_bytes;
};

/*
 * A VM against the rest of the cluster: name, uuid, MAC, disks,
 * memory beyond every node.
 * `others` are the definitions that are there; one with the same name and no other uuid
 * is the same VM, being changed.
 */
int conf_vm_check_against(const struct conf_vm *vm, const struct conf_vm *const others[],
                          size_t other_count, const struct conf_capacity nodes[],
                          size_t node_count, struct conf_error *ret_error);

/* What is refused when it is applied. Definitions of before this was so may say it, and
 * are read as ever. */
int conf_vm_check_applied(const struct conf_vm *vm, struct conf_error *ret_error);

/* What it names of the cluster is there: its CPU model, nodes. */
int conf_vm_check_cluster(const struct conf_vm *vm, const struct conf_cluster *cluster,
                          struct conf_error *ret_error);
