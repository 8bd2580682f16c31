/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Text built into a caller's buffer, without stdio (cores are pure). What does not fit is
 * cut off and `truncated` is set; the result is always NUL-terminated. Anyone in the
 * cluster tower may include this.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct conf_text {
    char *buf;
    size_t cap, len;
    bool truncated;
};

/* cap >= 1. */
struct conf_text conf_text_make(char *buf, size_t cap);
void conf_text_bytes(struct conf_text *text, const char *bytes, size_t len);
void conf_text_str(struct conf_text *text, const char *str);
void conf_text_u64(struct conf_text *text, uint64_t value);
/* Every string up to a NULL. */
void conf_text_strs(struct conf_text *text, ...) __attribute__((sentinel));
/* Goes back to an earlier length. */
void conf_text_cut(struct conf_text *text, size_t len);
/* Shows text that somebody else wrote: control bytes become '?', at most 40 bytes, then
 * "...". */
void conf_text_quoted(struct conf_text *text, const char *str);
