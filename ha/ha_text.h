/* SPDX-License-Identifier: Apache-2.0 */
/* Bounded text for reasons, without stdio: the cores are pure. A text that does not fit
 * is cut. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Appends to the NUL-terminated text in buf[cap]; returns buf. */
char *ha_text_add(char *buf, size_t cap, const char *s);
char *ha_text_add_u64(char *buf, size_t cap, uint64_t v);
/* buf = the pieces up to a NULL. The first may be buf itself; the others may not. */
char *ha_text_set(char *buf, size_t cap, ...);
