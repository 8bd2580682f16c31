/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which pages are all zero. The memory may belong to a running guest, which writes while
 * it is read: such a page is in the dirty log again. AVX2 or SSE2 by what the processor
 * has, else words. Pure.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "migrate/mig_ram.h"

/* `page` is aligned to MIG_PAGE. */
bool mig_page_is_zero(const void *page);

/* The ways it can be done, for tests and the bench. */
enum mig_zero_way { MIG_ZERO_WORDS = 0, MIG_ZERO_SSE2, MIG_ZERO_AVX2, MIG_ZERO_WAYS };
bool mig_zero_has(enum mig_zero_way way);
bool mig_page_is_zero_by(enum mig_zero_way way, const void *page);

/* Appends the pages of `run` to the frame as RAW and ZERO runs; at most
 * mig_ram_room(ram) pages, in one block. `base` is the mapping of RAM. */
void mig_zero_classify(struct mig_ram *ram, const uint8_t *base,
                       const struct mig_run *run);
