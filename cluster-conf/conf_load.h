/* SPDX-License-Identifier: Apache-2.0 */
/*
 * YAML to values, with file, line and remedy in every error. Unknown keys, wrong types,
 * trailing junk, duplicate keys, aliases, tags and further documents are errors; the
 * checks of conf_check are made. The outputs are written only on success. `origin` is the
 * file name for messages; may be NULL.
 */
#pragma once

#include <stddef.h>

#include "cluster-conf/conf_model.h"

/* 0; -EINVAL with *ret_error filled; -ENOMEM, also with a text. */
int conf_node_load(const char *yaml, size_t len, const char *origin,
                   struct conf_node *ret_node, struct conf_error *ret_error);
int conf_cluster_load(const char *yaml, size_t len, const char *origin,
                      struct conf_cluster *ret_cluster, struct conf_error *ret_error);
int conf_vm_load(const char *yaml, size_t len, const char *origin, struct conf_vm *ret_vm,
                 struct conf_error *ret_error);

enum conf_kind { CONF_KIND_UNKNOWN = 0, CONF_KIND_NODE, CONF_KIND_CLUSTER, CONF_KIND_VM };

/* Which kind of definition this is, by its top-level keys: `node`, `cluster`, else
 * `name`. */
int conf_kind_of(const char *yaml, size_t len, const char *origin,
                 enum conf_kind *ret_kind, struct conf_error *ret_error);

/* The line of error->key in this file, into error->line and error->text: for errors of
 * conf_vm_check_against. */
void conf_error_locate_in(struct conf_error *error, const char *yaml, size_t len,
                          const char *origin);

/*
 * Do the firmware and the disks of a VM exist, and can they be used? Relative paths are
 * below VMROOT/NAME. Each disk is a regular file of a multiple of 512 bytes, or a block
 * device. 0 or -EINVAL.
 */
int conf_vm_check_files(const struct conf_vm *vm, const char *vmroot,
                        struct conf_error *ret_error);
