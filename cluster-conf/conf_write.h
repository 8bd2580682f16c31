/* SPDX-License-Identifier: Apache-2.0 */
/* Definitions back to text: YAML that loads as the same value, and the list of changes
 * between two. Pure. */
#pragma once

#include <stddef.h>

#include "cluster-conf/conf_model.h"
#include "cluster-conf/conf_schema.h"

/*
 * YAML of the struct at `base`, defaults written out, what is not set left out. Length
 * without the NUL, or 0 if it does not fit `cap` (64 KiB always suffices for a VM).
 */
size_t conf_yaml_write(const struct conf_field *schema, const void *base, char *buf,
                       size_t cap);
size_t conf_node_write(const struct conf_node *node, char *buf, size_t cap);
size_t conf_cluster_write(const struct conf_cluster *cluster, char *buf, size_t cap);
size_t conf_vm_write(const struct conf_vm *vm, char *buf, size_t cap);

/*
 * One line for each difference, such as "memory: 64MiB -> 128MiB", "disks[b.img]: added"
 * or "fence.devices[ipmi-n1].params.ip: 10.0.1.1 -> 10.0.1.9". List items are matched by
 * their first field. Returns the number of changes; text that does not fit is cut off.
 */
unsigned conf_diff(const struct conf_field *schema, const void *old_base,
                   const void *new_base, char *buf, size_t cap);
unsigned conf_cluster_diff(const struct conf_cluster *old, const struct conf_cluster *now,
                           char *buf, size_t cap);
unsigned conf_vm_diff(const struct conf_vm *old, const struct conf_vm *now, char *buf,
                      size_t cap);
