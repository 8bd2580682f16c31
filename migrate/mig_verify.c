/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/mig_verify.h"

#include <string.h>

#include "migrate/mig_extent.h"
#include "migrate/mig_wire.h"
#include "migrate/mig_zero.h"

#define PRIME_A UINT64_C(0x9e3779b185ebca87)
#define PRIME_B UINT64_C(0xc2b2ae3d27d4eb4f)

static uint64_t turn(uint64_t x, unsigned bits)
{
    return x << bits | x >> (64 - bits);
}

/* Four lanes, so that the multiplications overlap. */
static uint64_t page_hash(uint64_t seed, const uint8_t *page)
{
    uint64_t lane[4] = {seed, seed ^ PRIME_A, seed + PRIME_B, ~seed}, word[4];

    for (size_t at = 0; at < MIG_PAGE; at += sizeof word) {
        memcpy(word, page + at, sizeof word);
        for (unsigned i = 0; i < 4; i++) {
            lane[i] = turn(lane[i] + word[i] * PRIME_B, 31) * PRIME_A;
        }
    }
    return turn(lane[0], 1) + turn(lane[1], 7) + turn(lane[2], 12) + turn(lane[3], 18);
}

/* The first pages that exist at or after `page`: *seen ends behind it. */
static void see(const struct engine_ram *ram, struct mig_verify_seen *seen, uint64_t page)
{
    if (page < seen->end) {
        return;
    }
    seen->begin = page;
    if (!engine_ram_data(ram, &seen->begin, &seen->end)) {
        seen->begin = seen->end = UINT64_MAX;
    }
}

uint64_t mig_verify_hash(const struct engine_ram *ram, struct mig_verify_seen *seen,
                         uint64_t block)
{
    uint64_t at = block * MIG_BLOCK_PAGES, end = at + MIG_BLOCK_PAGES;
    uint64_t hash = block * PRIME_A;

    end = end < ram->page_count ? end : ram->page_count;
    for (; at < end; at = seen->end < end ? seen->end : end) {
        see(ram, seen, at);
        for (uint64_t page = at > seen->begin ? at : seen->begin;
             page < seen->end && page < end; page++) {
            const uint8_t *bytes = ram->host + page * MIG_PAGE;

            /* Zeros are as if they were not there: only one end may have them. */
            if (!mig_page_is_zero(bytes)) {
                hash = turn(hash, 27) + page_hash(page * PRIME_B, bytes);
            }
        }
    }
    return hash;
}

uint64_t mig_verify_disk_blocks(uint64_t bytes)
{
    return (bytes + MIG_BLOCK_BYTES - 1) / MIG_BLOCK_BYTES;
}

int mig_verify_disk(int fd, uint64_t bytes, uint64_t block, uint8_t *buffer,
                    uint64_t *ret_hash)
{
    uint64_t at = block * MIG_BLOCK_BYTES, begin, end, hash = block * PRIME_A;
    uint64_t len = bytes - at < MIG_BLOCK_BYTES ? bytes - at : MIG_BLOCK_BYTES;
    int r = 0;

    mig_extent_data(fd, at, at + len, &begin, &end);
    if (begin < end) {
        r = mig_extent_read(fd, buffer, len, at);
        memset(buffer + len, 0, MIG_BLOCK_BYTES - len);
        for (uint64_t p = 0; r == 0 && p < MIG_BLOCK_BYTES; p += MIG_PAGE) {
            if (!mig_page_is_zero(buffer + p)) {
                hash =
                    turn(hash, 27) + page_hash((at + p) / MIG_PAGE * PRIME_B, buffer + p);
            }
        }
    }
    *ret_hash = hash;
    return r;
}
