/* SPDX-License-Identifier: Apache-2.0 */
#include "ft/ft_stage.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "migrate/mig_zero.h"
#include "vmm/gmem.h"

#define WORD_PAGES UINT64_C(64)

static uint64_t words_of(const struct ft_stage *st)
{
    return st->page_count / WORD_PAGES + 1;
}

bool ft_stage_init(struct ft_stage *st, uint64_t page_count)
{
    st->page_count = page_count;
    st->have = calloc(words_of(st), sizeof *st->have);
    st->pending = calloc(words_of(st), sizeof *st->pending);
    st->slot = calloc(page_count + 1, sizeof *st->slot); /* touched where pages are */
    return st->have != NULL && st->pending != NULL && st->slot != NULL;
}

void ft_stage_free(struct ft_stage *st)
{
    free(st->have);
    free(st->pending);
    free(st->slot);
    free(st->bytes);
    memset(st, 0, sizeof *st);
}

void ft_stage_clear(struct ft_stage *st)
{
    memset(st->have, 0, words_of(st) * sizeof *st->have);
    st->count = st->slots = 0;
}

static bool grow(struct ft_stage *st, uint64_t slots)
{
    uint8_t *bytes;

    if (slots <= st->slots_cap) {
        return true;
    }
    bytes = realloc(st->bytes, slots * GMEM_PAGE_SIZE);
    if (bytes == NULL) {
        return false;
    }
    st->bytes = bytes;
    st->slots_cap = slots;
    return true;
}

bool ft_stage_room(struct ft_stage *st, uint64_t slots)
{
    uint64_t had = st->slots_cap;

    if (!grow(st, slots)) {
        return false;
    }
    for (uint64_t i = had; i < st->slots_cap; i++) {
        st->bytes[i * GMEM_PAGE_SIZE] = 0;
    }
    return true;
}

/* A page that was not zeros keeps its place while it is zeros: there are never more
 * places than pages. */
static bool put(struct ft_stage *st, uint64_t page, const uint8_t *host)
{
    uint64_t bit = UINT64_C(1) << page % WORD_PAGES;
    bool here = (st->have[page / WORD_PAGES] & bit) != 0;
    bool zero = mig_page_is_zero(host);

    if (!here) {
        st->slot[page] = FT_STAGE_ZERO;
    }
    if (!zero && st->slot[page] == FT_STAGE_ZERO) {
        if (!grow(st, st->slots < st->slots_cap ? 0 : st->slots + st->slots / 2 + 64)) {
            return false;
        }
        st->slot[page] = (uint32_t)st->slots++;
    }
    if (st->slot[page] != FT_STAGE_ZERO) {
        memcpy(st->bytes + st->slot[page] * GMEM_PAGE_SIZE, host, GMEM_PAGE_SIZE);
    }
    st->have[page / WORD_PAGES] |= bit;
    st->count += !here;
    return true;
}

static bool put_word(struct ft_stage *st, const uint8_t *ram, uint64_t word,
                     uint64_t bits)
{
    for (; bits != 0; bits &= bits - 1) {
        uint64_t page = word * WORD_PAGES + (uint64_t)__builtin_ctzll(bits);

        if (page < st->page_count && !put(st, page, ram + page * GMEM_PAGE_SIZE)) {
            return false;
        }
    }
    return true;
}

int ft_stage_harvest(struct ft_stage *st, const struct ft_stage_source *from)
{
    uint64_t pages = 0;
    int r = from->harvest(from->ctx, st->pending, &pages);

    if (r == 0) {
        st->marked += pages;
        st->from = 0;
    }
    return r;
}

/* Words [st->from, end) of what is pending have about `max` pages. */
static uint64_t end_of(const struct ft_stage *st, uint64_t max)
{
    uint64_t end = st->from, pages = 0;

    while (end < words_of(st) && pages < max) {
        pages += (uint64_t)__builtin_popcountll(st->pending[end++]);
    }
    return end;
}

int ft_stage_copy(struct ft_stage *st, const struct ft_stage_source *from, uint64_t max)
{
    uint64_t end, first;
    int r;

    while (st->from < words_of(st) && st->pending[st->from] == 0) {
        st->from++;
    }
    end = end_of(st, max);
    first = st->from * WORD_PAGES;
    if (first >= st->page_count) {
        st->marked = 0;
        return 0;
    }
    r = from->protect(from->ctx, first,
                      end * WORD_PAGES < st->page_count ? end * WORD_PAGES - first
                                                        : st->page_count - first);
    for (; r == 0 && st->from < end; st->from++) {
        uint64_t bits = st->pending[st->from];

        if (!put_word(st, from->ram, st->from, bits)) {
            return -ENOMEM;
        }
        st->pending[st->from] = 0;
        st->marked -= (uint64_t)__builtin_popcountll(bits);
    }
    return r;
}

bool ft_stage_rest(struct ft_stage *st, const uint8_t *ram, const uint64_t *dirty,
                   uint64_t *ret_stood)
{
    uint64_t stood = 0;

    for (uint64_t w = 0; w < words_of(st); w++) {
        uint64_t bits = dirty[w] | st->pending[w];

        if (bits == 0) {
            continue;
        }
        if (!put_word(st, ram, w, bits)) {
            return false;
        }
        st->pending[w] = 0;
        stood += (uint64_t)__builtin_popcountll(bits);
    }
    st->marked = 0;
    *ret_stood = stood;
    return true;
}

bool ft_stage_next(const struct ft_stage *st, uint64_t *page, const uint8_t **ret_bytes)
{
    uint64_t w = *page / WORD_PAGES, bits;

    if (*page >= st->page_count) {
        return false;
    }
    bits = st->have[w] & (~UINT64_C(0) << *page % WORD_PAGES);
    while (bits == 0 && ++w < words_of(st)) {
        bits = st->have[w];
    }
    if (bits == 0) {
        return false;
    }
    *page = w * WORD_PAGES + (uint64_t)__builtin_ctzll(bits);
    *ret_bytes = NULL;
    if (st->slot[*page] != FT_STAGE_ZERO) {
        *ret_bytes = st->bytes + st->slot[*page] * GMEM_PAGE_SIZE;
    }
    return true;
}
