/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/mig_holes.h"

#include "base/le.h"

#define WORD_BITS 64u

struct frame_body {
    struct le64 first;
    struct le32 words, reserved;
    struct le64 word[];
} __attribute__((packed));

size_t mig_holes_encode(const struct mig_bitmap *bm, uint64_t *at,
                        uint8_t body[static MIG_HOLES_LEN_MAX])
{
    uint64_t first = *at / WORD_BITS, left = mig_bitmap_words(bm->page_count) - first;
    struct frame_body *f = (struct frame_body *)body;
    uint32_t words = left < MIG_HOLES_WORDS_MAX ? (uint32_t)left : MIG_HOLES_WORDS_MAX;

    if (*at >= bm->page_count) {
        return 0;
    }
    f->first = le64_make(*at);
    f->words = le32_make(words);
    f->reserved = le32_make(0);
    for (uint32_t i = 0; i < words; i++) {
        f->word[i] = le64_make(bm->word[first + i]);
    }
    *at += (uint64_t)words * WORD_BITS;
    return MIG_HOLES_FIXED_LEN + words * 8u;
}

/* The bits of a word that are pages. */
static uint64_t pages_of(const struct mig_bitmap *bm, uint64_t first)
{
    uint64_t left = bm->page_count - first;

    return left >= WORD_BITS ? UINT64_MAX : (UINT64_C(1) << left) - 1;
}

enum mig_holes_reason mig_holes_decode(const void *body, size_t len, uint64_t *at,
                                       struct mig_bitmap *bm)
{
    const struct frame_body *f = body;
    uint64_t words_left, last;
    uint32_t words;

    if (len < MIG_HOLES_FIXED_LEN) {
        return MIG_HOLES_BAD_LENGTH;
    }
    words = le32_get(f->words);
    if (le32_get(f->reserved) != 0) {
        return MIG_HOLES_BAD_RESERVED;
    }
    if (le64_get(f->first) != *at || *at >= bm->page_count) {
        return MIG_HOLES_BAD_ORDER;
    }
    words_left = mig_bitmap_words(bm->page_count) - *at / WORD_BITS;
    if (words == 0 || words > MIG_HOLES_WORDS_MAX || words > words_left) {
        return MIG_HOLES_BAD_COUNT;
    }
    if (len != MIG_HOLES_FIXED_LEN + words * 8u) {
        return MIG_HOLES_BAD_LENGTH;
    }
    last = *at + (uint64_t)(words - 1) * WORD_BITS;
    if ((le64_get(f->word[words - 1]) & ~pages_of(bm, last)) != 0) {
        return MIG_HOLES_BAD_PAGE;
    }
    for (uint32_t i = 0; i < words; i++) {
        uint64_t word = le64_get(f->word[i]);

        uint64_t page = *at + (uint64_t)i * WORD_BITS, left = bm->page_count - page;

        mig_bitmap_merge(bm, page, &word, left < WORD_BITS ? left : WORD_BITS);
    }
    *at += (uint64_t)words * WORD_BITS;
    return MIG_HOLES_OK;
}

const char *mig_holes_reason_str(enum mig_holes_reason reason)
{
    static const char *const text[] = {
        [MIG_HOLES_OK] = "ok",
        [MIG_HOLES_BAD_LENGTH] =
            "a list of missing pages has another length than it says",
        [MIG_HOLES_BAD_COUNT] = "a list of missing pages is empty or too long",
        [MIG_HOLES_BAD_RESERVED] = "a reserved field of a list of missing pages is not 0",
        [MIG_HOLES_BAD_ORDER] =
            "a list of missing pages does not go on where the last ended",
        [MIG_HOLES_BAD_PAGE] = "a page behind the end of memory is said to be missing",
    };

    return (size_t)reason < sizeof text / sizeof text[0] ? text[reason]
                                                         : "unknown reason";
}
