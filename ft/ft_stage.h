/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checkpoint mode: pages of guest memory, copied aside. A page has one place: copied
 * again, it overwrites itself. Filled while the guest runs (ft_stage_harvest,
 * ft_stage_copy, one thread), then while it stands (ft_stage_rest), then sent.
 *
 * What loses nothing: a page's mark is taken, the page protected, then copied. What is
 * written to it from the protection on, also while it is copied, is in the next harvest,
 * and the last one comes when the guest stands.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ft_stage {
    uint64_t page_count;
    uint64_t *have;    /* a bit per page: it is here */
    uint64_t *pending; /* marks that were taken: to be copied */
    uint32_t *slot;    /* of pages that are here: place in bytes, or FT_STAGE_ZERO */
    uint8_t *bytes;    /* 4 KiB each */
    uint64_t count, slots, slots_cap;
    uint64_t marked; /* bits of pending */
    uint64_t from;   /* word of pending: none before it is set */
};

#define FT_STAGE_ZERO UINT32_MAX /* its bytes are zeros */

/* Guest memory and its log (vmm/dirty_log.h). 0 or -errno. */
struct ft_stage_source {
    const uint8_t *ram;
    int (*harvest)(void *ctx, uint64_t *bitmap, uint64_t *ret_pages);
    int (*protect)(void *ctx, uint64_t first, uint64_t count);
    void *ctx;
};

/* Zeros before; false: no memory, to be freed all the same. */
bool ft_stage_init(struct ft_stage *st, uint64_t page_count);
void ft_stage_free(struct ft_stage *st);
/* Nothing is here any more; what is pending stays. */
void ft_stage_clear(struct ft_stage *st);
/* Has places for so many pages; memory that is new is touched: that costs several times
 * what copying a page costs, and belongs where the guest runs. False: no memory. */
bool ft_stage_room(struct ft_stage *st, uint64_t slots);

/* While the guest runs: takes marks. */
int ft_stage_harvest(struct ft_stage *st, const struct ft_stage_source *from);
/* While the guest runs: copies about `max` of what is pending. 0 or -errno (-ENOMEM). */
int ft_stage_copy(struct ft_stage *st, const struct ft_stage_source *from, uint64_t max);
/* The guest stands still, all its pages are protected: copies what is pending, and these
 * (`dirty`: a bit per page, whole words). *ret_stood: how many. False: no memory. */
bool ft_stage_rest(struct ft_stage *st, const uint8_t *ram, const uint64_t *dirty,
                   uint64_t *ret_stood);

/* The first page at or after *page that is here; NULL in *ret_bytes: zeros. False: none.
 */
bool ft_stage_next(const struct ft_stage *st, uint64_t *page, const uint8_t **ret_bytes);
