/* SPDX-License-Identifier: Apache-2.0 */
/* Sentences for people, without stdio (cores are pure). What does not fit is cut off; the
 * result is always ASCII and terminated. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct mig_text {
    char *buf;
    size_t cap, len;
};

struct mig_text mig_text_make(char *buf, size_t cap); /* cap >= 1; empties it */
/*
 * Appends. %s: a string of anybody, what is not printable ASCII becomes '?'. The others
 * take a uint64_t: %u a number, %b bytes ("1.5 GiB"), %t nanoseconds ("80 ms"), %p
 * permille ("12.5 %"). %%: a percent sign.
 */
void mig_text_add(struct mig_text *text, const char *fmt, ...);
