/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lists of missing pages. First byte: how many pages RAM has (1 to 256, times 17); then
 * u16 lengths, each with a body, one after the other as they would come. What is accepted
 * marks only pages of RAM, moves on, and encodes to the same words.
 */
#include <string.h>

#include "migrate/mig_holes.h"
#include "tests/fuzz/fuzz.h"

#define PAGES_MAX (256u * 17u)

FUZZ_GOALS("a list", "all of RAM", "refused length", "refused count", "refused order",
           "refused page")

FUZZ_ONE(data, len)
{
    static uint64_t word[(PAGES_MAX + 63) / 64], before[(PAGES_MAX + 63) / 64];
    static uint8_t again[MIG_HOLES_LEN_MAX];
    struct mig_bitmap bm;
    uint64_t at = 0, was, encode_at = 0;

    if (len < 1) {
        return 0;
    }
    mig_bitmap_init(&bm, word, (1 + (uint64_t)data[0]) * 17);
    data++;
    len--;
    while (len >= 2) {
        size_t body_len = (size_t)(data[0] | data[1] << 8);
        enum mig_holes_reason reason;

        data += 2;
        len -= 2;
        body_len = body_len < len ? body_len : len;
        was = at;
        memcpy(before, word, sizeof word);
        reason = mig_holes_decode(data, body_len, &at, &bm);
        fuzz_reach(0, reason == MIG_HOLES_OK);
        fuzz_reach(2, reason == MIG_HOLES_BAD_LENGTH);
        fuzz_reach(3, reason == MIG_HOLES_BAD_COUNT);
        fuzz_reach(4, reason == MIG_HOLES_BAD_ORDER);
        fuzz_reach(5, reason == MIG_HOLES_BAD_PAGE);
        if (reason == MIG_HOLES_OK) {
            BUG_ON(at <= was);
            for (uint64_t p = bm.page_count; p < mig_bitmap_words(bm.page_count) * 64;
                 p++) {
                BUG_ON((word[p / 64] >> p % 64 & 1) != 0);
            }
        } else {
            BUG_ON(at != was || memcmp(before, word, sizeof word) != 0);
        }
        data += body_len;
        len -= body_len;
    }
    if (at >= bm.page_count) {
        size_t all = mig_holes_encode(&bm, &encode_at, again);

        fuzz_reach(1, true);
        BUG_ON(all != MIG_HOLES_FIXED_LEN + mig_bitmap_words(bm.page_count) * 8);
        BUG_ON(memcmp(again + MIG_HOLES_FIXED_LEN, word, all - MIG_HOLES_FIXED_LEN) != 0);
    }
    return 0;
}
