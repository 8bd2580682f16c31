/* SPDX-License-Identifier: Apache-2.0 */
/* A parsed document to a struct, by schema. Pure. */
#pragma once

#include "cluster-conf/conf_model.h"
#include "cluster-conf/conf_schema.h"
#include "cluster-conf/conf_tree.h"

/*
 * Fills the zeroed struct at `base`, defaults included. 0, or -EINVAL with *ret_error
 * filled (the struct is then worth nothing). `origin` is the file name for messages.
 */
int conf_bind(const struct conf_tree *tree, const struct conf_field *schema,
              const char *origin, void *base, struct conf_error *ret_error);

/* Composes error->text from its parts; origin may be NULL. */
void conf_error_compose(struct conf_error *error, const char *origin);
/* Fills in the line of error->key in a document, and composes again. */
void conf_error_locate(struct conf_error *error, const struct conf_tree *tree,
                       const char *origin);
