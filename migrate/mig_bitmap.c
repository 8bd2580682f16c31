/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/mig_bitmap.h"

#include <string.h>

#include "base/bug.h"

#define WORD_BITS 64u

/* Bits [from, to) of a word; to may be 64. */
static uint64_t bits(unsigned from, unsigned to)
{
    uint64_t below_to = to == WORD_BITS ? UINT64_MAX : (UINT64_C(1) << to) - 1;

    return below_to & ~((UINT64_C(1) << from) - 1);
}

static uint64_t load(const uint64_t *word)
{
    return __atomic_load_n(word, __ATOMIC_RELAXED);
}

static void mark(uint64_t *word, uint64_t mask)
{
    if (mask != 0) {
        __atomic_fetch_or(word, mask, __ATOMIC_RELEASE);
    }
}

/* What the run's pages hold is read after this. */
static void unmark(uint64_t *word, uint64_t mask)
{
    __atomic_fetch_and(word, ~mask, __ATOMIC_ACQ_REL);
}

static void check_range(const struct mig_bitmap *bm, uint64_t first, uint64_t count)
{
    BUG_ON(first > bm->page_count || count > bm->page_count - first);
}

void mig_bitmap_init(struct mig_bitmap *bm, uint64_t *word, uint64_t page_count)
{
    *bm = (struct mig_bitmap){word, page_count};
    memset(word, 0, mig_bitmap_words(page_count) * sizeof *word);
}

bool mig_bitmap_test(const struct mig_bitmap *bm, uint64_t page)
{
    check_range(bm, page, 1);
    return (load(&bm->word[page / WORD_BITS]) >> page % WORD_BITS & 1) != 0;
}

static void for_range(struct mig_bitmap *bm, uint64_t first, uint64_t count,
                      void (*change)(uint64_t *word, uint64_t mask))
{
    uint64_t end = first + count;

    check_range(bm, first, count);
    while (first < end) {
        uint64_t base = first - first % WORD_BITS;
        uint64_t to = end - base < WORD_BITS ? end - base : WORD_BITS;

        change(&bm->word[base / WORD_BITS], bits((unsigned)(first - base), (unsigned)to));
        first = base + to;
    }
}

void mig_bitmap_set(struct mig_bitmap *bm, uint64_t first, uint64_t count)
{
    for_range(bm, first, count, mark);
}

void mig_bitmap_clear(struct mig_bitmap *bm, uint64_t first, uint64_t count)
{
    for_range(bm, first, count, unmark);
}

bool mig_bitmap_claim(struct mig_bitmap *bm, uint64_t page)
{
    uint64_t mask = UINT64_C(1) << page % WORD_BITS;

    check_range(bm, page, 1);
    return (__atomic_fetch_and(&bm->word[page / WORD_BITS], ~mask, __ATOMIC_ACQ_REL) &
            mask) != 0;
}

void mig_bitmap_set_all(struct mig_bitmap *bm)
{
    mig_bitmap_set(bm, 0, bm->page_count);
}

void mig_bitmap_merge(struct mig_bitmap *bm, uint64_t first, const uint64_t *src,
                      uint64_t count)
{
    unsigned shift = (unsigned)(first % WORD_BITS);
    uint64_t *to = bm->word + first / WORD_BITS;

    check_range(bm, first, count);
    for (uint64_t at = 0; at < count; at += WORD_BITS, to++) {
        uint64_t left = count - at;
        uint64_t word = src[at / WORD_BITS];

        if (left < WORD_BITS) {
            word &= bits(0, (unsigned)left);
        }
        if (word == 0) {
            continue;
        }
        mark(to, word << shift);
        if (shift != 0 && word >> (WORD_BITS - shift) != 0) {
            mark(to + 1, word >> (WORD_BITS - shift));
        }
    }
}

uint64_t mig_bitmap_count(const struct mig_bitmap *bm)
{
    uint64_t count = 0;

    for (size_t i = 0; i < mig_bitmap_words(bm->page_count); i++) {
        count += (unsigned)__builtin_popcountll(load(&bm->word[i]));
    }
    return count;
}

/* The first page in [from, end) whose bit is `wanted`, else end. */
static uint64_t find(const struct mig_bitmap *bm, uint64_t from, uint64_t end,
                     bool wanted)
{
    uint64_t invert = wanted ? 0 : UINT64_MAX;

    while (from < end) {
        uint64_t base = from - from % WORD_BITS;
        uint64_t word = (load(&bm->word[base / WORD_BITS]) ^ invert) &
                        bits((unsigned)(from - base), WORD_BITS);

        if (word != 0) {
            from = base + (unsigned)__builtin_ctzll(word);
            break;
        }
        from = base + WORD_BITS;
    }
    return from < end ? from : end;
}

/* The first run in [from, end), cut at `max` pages. */
static bool next_in(const struct mig_bitmap *bm, uint64_t from, uint64_t end,
                    uint64_t max, struct mig_run *ret_run)
{
    uint64_t first = find(bm, from, end, true);

    if (first >= end) {
        return false;
    }
    if (end - first > max) {
        end = first + max;
    }
    /* Never empty, even if another thread took the page since. */
    *ret_run = (struct mig_run){first, find(bm, first + 1, end, false) - first};
    return true;
}

bool mig_bitmap_next(const struct mig_bitmap *bm, uint64_t from, uint64_t max,
                     struct mig_run *ret_run)
{
    return next_in(bm, from, bm->page_count, max == 0 ? UINT64_MAX : max, ret_run);
}

/* Streams ---------------------------------------------------------------------------- */
/* Fibonacci hashing (Knuth, TAOCP 3, 6.4): neighbours go to different streams, strides do
 * not all go to one. */
unsigned mig_stream_of(uint64_t page, unsigned n_streams)
{
    uint64_t hash = (page >> MIG_BLOCK_SHIFT) * UINT64_C(0x9E3779B97F4A7C15);

    BUG_ON(n_streams == 0);
    return (unsigned)((hash >> 32) * n_streams >> 32);
}

struct mig_cursor mig_cursor_make(unsigned stream, unsigned n_streams)
{
    BUG_ON(stream >= n_streams);
    return (struct mig_cursor){.stream = stream, .n_streams = n_streams};
}

/* What is left of the block in which the cursor stands, or of the stream's next one. */
static bool block_at(struct mig_cursor *cursor, uint64_t page_count,
                     struct mig_run *ret_block)
{
    while (cursor->page < page_count) {
        uint64_t end = (cursor->page | (MIG_BLOCK_PAGES - 1)) + 1;

        if (mig_stream_of(cursor->page, cursor->n_streams) == cursor->stream) {
            end = end < page_count ? end : page_count;
            *ret_block = (struct mig_run){cursor->page, end - cursor->page};
            return true;
        }
        cursor->page = end;
    }
    return false;
}

bool mig_cursor_block(struct mig_cursor *cursor, uint64_t page_count,
                      struct mig_run *ret_block)
{
    if (!block_at(cursor, page_count, ret_block)) {
        return false;
    }
    cursor->page += ret_block->count;
    return true;
}

size_t mig_bitmap_take(struct mig_bitmap *bm, struct mig_cursor *cursor,
                       struct mig_run *run, size_t run_max, uint64_t page_max)
{
    size_t count = 0;
    struct mig_run block;

    while (count < run_max && page_max > 0 && block_at(cursor, bm->page_count, &block)) {
        uint64_t end = block.first + block.count;

        if (!next_in(bm, cursor->page, end, page_max, &run[count])) {
            cursor->page = end;
            continue;
        }
        mig_bitmap_clear(bm, run[count].first, run[count].count);
        cursor->page = run[count].first + run[count].count;
        page_max -= run[count].count;
        count++;
    }
    return count;
}

void mig_bitmap_give_back(struct mig_bitmap *bm, const struct mig_run *run, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        mig_bitmap_set(bm, run[i].first, run[i].count);
    }
}
