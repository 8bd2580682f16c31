/* SPDX-License-Identifier: Apache-2.0 */
/* One value of a definition, by its row of the schema: shared by the writer and the
 * comparison. Pure. */
#pragma once

#include <stdbool.h>

#include "cluster-conf/conf_schema.h"
#include "cluster-conf/conf_text.h"

/* Is there anything to write? Zero without a fallback means "not set". */
bool conf_field_is_set(const struct conf_field *field, const char *base);
/* A scalar as one would write it, unquoted. */
void conf_field_format(struct conf_text *text, const struct conf_field *field,
                       const char *base);
/* Number of items of RECORDS, NAMES, PARAMS. */
unsigned conf_field_count(const struct conf_field *field, const char *base);
const char *conf_field_item(const struct conf_field *field, const char *base,
                            unsigned index);
