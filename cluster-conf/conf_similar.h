/* SPDX-License-Identifier: Apache-2.0 */
/* "Did you mean ...?": how much two words differ. Pure. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define CONF_SIMILAR_MAX                                                                 \
    32 /* bytes of a word that is compared; longer ones resemble nothing */

/* Insertions, deletions, replacements and swaps of neighbours (optimal string alignment
 * distance). */
size_t conf_similar_distance(const char *a, const char *b);
/* Near enough to be a slip of the keyboard? */
bool conf_similar(const char *written, const char *known);
