/* SPDX-License-Identifier: Apache-2.0 */
/* Ids as text and as bytes; pure but for uuid_random (base/os_proc.c). */
#pragma once

#include <stdbool.h>

#include "base/units.h"

bool uuid_is_none(struct uuid u);
bool uuid_equal(struct uuid a, struct uuid b);
/* 36 characters and a NUL. */
void uuid_format(struct uuid u, char text[static UUID_STR_LEN + 1]);
/* Exactly the canonical form (lower or upper case); false otherwise. */
bool uuid_parse(const char *text, struct uuid *ret_uuid);
/* Version 4, from getrandom(2). In the io library. */
struct uuid uuid_random(void);
