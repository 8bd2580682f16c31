/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames of a twin's channel: sums of pages, acknowledgements, words. First byte: which;
 * sums: the second one: pages of the VM. What is accepted encodes to the same bytes.
 */
#include <stdlib.h>
#include <string.h>

#include "ft/ft_wire.h"
#include "tests/fuzz/fuzz.h"

FUZZ_GOALS("sums", "sums of several pages", "no sums", "bad sums", "an acknowledgement",
           "a word", "a bad word")

static void sums(const uint8_t *body, size_t len, uint64_t page_count)
{
    uint8_t head[FT_HASHES_HEAD_LEN], entry[FT_HASH_LEN];
    struct ft_hashes h;
    struct ft_hash hash;
    uint64_t last = 0;

    if (!ft_hashes_get(body, len, page_count, &h)) {
        fuzz_reach(3, true);
        return;
    }
    fuzz_reach(0, h.count > 0);
    fuzz_reach(1, h.count > 1);
    fuzz_reach(2, h.count == 0);
    ft_hashes_put(&h, head);
    BUG_ON(memcmp(head, body, sizeof head) != 0);
    BUG_ON(h.first + h.count > h.total || h.total > page_count);
    for (uint32_t i = 0; i < h.count; i++) {
        ft_hash_get(h.entries + i * FT_HASH_LEN, &hash);
        BUG_ON(hash.page >= page_count || (i > 0 && hash.page <= last));
        last = hash.page;
        ft_hash_put(&hash, entry);
        BUG_ON(memcmp(entry, h.entries + i * FT_HASH_LEN, sizeof entry) != 0);
    }
}

static void other(const uint8_t *body, size_t len, bool word)
{
    uint8_t again[FT_ACK_LEN];
    struct ft_word w;
    struct ft_ack ack;

    if (word && ft_word_get(body, len, &w)) {
        ft_word_put(&w, again);
        BUG_ON(memcmp(again, body, FT_WORD_LEN) != 0);
        fuzz_reach(5, true);
    } else if (word) {
        fuzz_reach(6, true);
    } else if (ft_ack_get(body, len, &ack)) {
        ft_ack_put(&ack, again);
        BUG_ON(memcmp(again, body, FT_ACK_LEN) != 0);
        fuzz_reach(4, true);
    }
}

FUZZ_ONE(data, len)
{
    uint8_t *copy;

    if (len < 3) {
        return 0;
    }
    copy = malloc(len - 2);
    memcpy(copy, data + 2, len - 2);
    if (data[0] % 3 == 0) {
        sums(copy, len - 2, data[1]);
    } else {
        other(copy, len - 2, data[0] % 3 == 1);
    }
    free(copy);
    return 0;
}
