/* SPDX-License-Identifier: Apache-2.0 */
/*
 * YAML to values (libcyaml), with file, line and remedy in every error. Unknown keys, wrong types, trailing junk, duplicates are
 * errors; nothing is changed on error. `origin` is the file name for messages.
 */
#pragma once

#include <stddef.h>

#include "cluster-conf/conf_model.h"

/* 0, or -EINVAL with *ret_error filled. */
int conf_node_load(const char *yaml, size_t len, const char *origin, struct conf_node *ret_node, struct conf_error *ret_error);
int conf_cluster_load(const char *yaml, size_t len, const char *origin, struct conf_cluster *ret_cluster, struct conf_error *ret_error);
int conf_vm_load(const char *yaml, size_t len, const char *origin, struct conf_vm *ret_vm, struct conf_error *ret_error);
