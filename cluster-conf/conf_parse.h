/* SPDX-License-Identifier: Apache-2.0 */
/* YAML text to a conf_tree, by libyaml's events. Shell: libyaml allocates. */
#pragma once

#include <stddef.h>

#include "cluster-conf/conf_model.h"
#include "cluster-conf/conf_tree.h"

/* 0 or -EINVAL/-ENOMEM with *ret_error filled. Free with conf_tree_free. */
int conf_parse(const char *yaml, size_t len, const char *origin,
               struct conf_tree *ret_tree, struct conf_error *ret_error);
void conf_tree_free(struct conf_tree *tree); /* an empty one is fine */
