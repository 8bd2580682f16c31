/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The first round looks at no page that does not exist, which would make it. What exists
 * is asked of the memory's file (SEEK_DATA), extent by extent. A page may come into being
 * at any moment, and that it was written to is known again only from when its block was
 * protected on: a hole that was seen before that is none any more.
 */
#pragma once

#include <stdbool.h>

#include "vmm/engine_ram.h"

/* Pages; begins with zeros: nothing is known. [begin, end) exists, before it is a hole
 * from where was asked on. */
struct mig_first {
    uint64_t begin, end;
};

/* The block that begins with this page was protected. */
void mig_first_protected(struct mig_first *seen, uint64_t page);
/* How many pages from `at` on, at most to `end`, are alike; whether they exist. Of a
 * block that was told by mig_first_protected, in ascending order. */
uint64_t mig_first_part(struct mig_first *seen, const struct engine_ram *ram, uint64_t at,
                        uint64_t end, bool *ret_exists);
