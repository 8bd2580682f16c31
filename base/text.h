/* SPDX-License-Identifier: Apache-2.0 */
/* Bounded strings and strict numbers, in place of strcpy and atoi. Pure; anyone may
 * include this. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Copies `src` into `dst` of `cap` bytes, always terminated. False when it did not fit:
 * dst then holds the beginning.
 */
bool text_copy(char *dst, size_t cap, const char *src);
/* A decimal number from min to max and nothing else: no sign, no blank, no trailing text.
 */
bool text_u64(const char *text, uint64_t min, uint64_t max, uint64_t *ret_value);
/* The bytes as 2 * len lower-case digits and a NUL. */
void text_hex(char *dst, const void *bytes, size_t len);
/* UTF-8 as RFC 3629 has it: no overlong form, no surrogate, nothing beyond U+10FFFF. */
bool text_utf8_ok(const char *s);
