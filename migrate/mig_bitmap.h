/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cumulative dirty bitmap: a bit per page of RAM that the destination does not have
 * as it is now. The dirty logs of KVM and of the VMM are merged into it; senders take
 * runs out of it and give back what they could not send, so that nothing is forgotten
 * ("read, don't forget").
 *
 * Words change by atomic operations only: one thread may merge while the threads of
 * several streams take, each from its own blocks. A page that is marked while it is taken
 * is either in the run (and read after the mark) or stays marked. Pure; the words are the
 * caller's.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "migrate/mig_wire.h"

struct mig_bitmap {
    uint64_t *word; /* bit p % 64 of word[p / 64] is page p; none beyond page_count */
    uint64_t page_count;
};

struct mig_run {
    uint64_t first, count; /* pages */
};

/* Words for so many pages. */
static inline size_t mig_bitmap_words(uint64_t page_count)
{
    return (size_t)((page_count + 63) / 64);
}

/* Takes mig_bitmap_words(page_count) words; all clear. */
void mig_bitmap_init(struct mig_bitmap *bm, uint64_t *word, uint64_t page_count);
bool mig_bitmap_test(const struct mig_bitmap *bm, uint64_t page);
/* Ranges must lie in the bitmap. */
void mig_bitmap_set(struct mig_bitmap *bm, uint64_t first, uint64_t count);
void mig_bitmap_clear(struct mig_bitmap *bm, uint64_t first, uint64_t count);
/* Clears one; whether it was set. Of several threads one gets true. */
bool mig_bitmap_claim(struct mig_bitmap *bm, uint64_t page);
void mig_bitmap_set_all(struct mig_bitmap *bm);
/* Or-s `count` bits of `src` into the pages from `first`: the log of a memory slot. */
void mig_bitmap_merge(struct mig_bitmap *bm, uint64_t first, const uint64_t *src,
                      uint64_t count);
uint64_t mig_bitmap_count(const struct mig_bitmap *bm);
/* The first run at or after page `from`, cut at `max` pages (0: not cut). False: none. */
bool mig_bitmap_next(const struct mig_bitmap *bm, uint64_t from, uint64_t max,
                     struct mig_run *ret_run);

/* The data stream, 0..n_streams-1, on which a page always travels: by its 2 MiB block.
 * (On the wire it is stream index + 1.) Part of the protocol: both ends compute it. */
unsigned mig_stream_of(uint64_t page, unsigned n_streams);

/* Where the sender of one stream is in a round. */
struct mig_cursor {
    unsigned stream, n_streams;
    uint64_t page;
};
/* From the beginning of RAM. */
struct mig_cursor mig_cursor_make(unsigned stream, unsigned n_streams);
/* The next block of the stream at or after the cursor, whole or cut by the end of RAM;
 * moves behind it. False: no more. */
bool mig_cursor_block(struct mig_cursor *cursor, uint64_t page_count,
                      struct mig_run *ret_block);

/*
 * Takes dirty runs of the cursor's stream, in order, and clears them: at most `run_max`
 * runs and `page_max` pages in all; none crosses a 2 MiB block. Returns how many runs;
 * less than both limits allow: the round is over for this stream.
 */
size_t mig_bitmap_take(struct mig_bitmap *bm, struct mig_cursor *cursor,
                       struct mig_run *run, size_t run_max, uint64_t page_max);
/* What was taken and not sent. */
void mig_bitmap_give_back(struct mig_bitmap *bm, const struct mig_run *run, size_t count);
