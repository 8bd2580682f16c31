/* SPDX-License-Identifier: Apache-2.0 */
/*
 * RAM and ROUND_END bodies. First byte: what was agreed on (bits 0-1 streams - 1, 2
 * discard, 3 crc, 4-5 which stream, 6 zstd); then a head. An accepted frame lies in RAM
 * without overlap, and encodes to the same bytes.
 */
#include <stdlib.h>
#include <string.h>

#include "migrate/mig_ram.h"
#include "tests/fuzz/fuzz.h"

#define PAGES 5000u

FUZZ_GOALS("a frame", "several runs", "zero", "discard", "a crc", "another stream",
           "refused range", "refused order", "refused sum", "round end", "compressed")

static void accepted(const struct mig_ram *ram, const uint8_t *head, size_t len)
{
    static uint8_t again[MIG_RAM_HEAD_MAX], memory[1];
    static bool seen[PAGES];
    static struct iovec iov[MIG_RAM_RUNS_MAX];
    size_t count = mig_ram_iov(ram, memory, iov), bytes = 0;

    memset(seen, 0, sizeof seen);
    for (uint32_t i = 0; i < ram->run_count; i++) {
        BUG_ON(ram->run[i].first + ram->run[i].count > PAGES);
        for (uint32_t p = 0; p < ram->run[i].count; p++) {
            BUG_ON(seen[ram->run[i].first + p]);
            seen[ram->run[i].first + p] = true;
        }
        fuzz_reach(2, ram->run[i].kind == MIG_RAM_ZERO);
        fuzz_reach(3, ram->run[i].kind == MIG_RAM_DISCARD);
    }
    for (size_t i = 0; i < count; i++) {
        size_t at = (size_t)((uint8_t *)iov[i].iov_base - memory);

        BUG_ON(at % MIG_PAGE != 0 || at + iov[i].iov_len > PAGES * MIG_PAGE);
        bytes += iov[i].iov_len;
    }
    BUG_ON(bytes != ram->raw_pages * MIG_PAGE);
    BUG_ON(mig_ram_encode(ram, again) != len || memcmp(again, head, len) != 0);
    fuzz_reach(0, true);
    fuzz_reach(1, ram->run_count > 1);
    fuzz_reach(4, ram->has_crc);
    fuzz_reach(10, ram->packed != 0);
}

FUZZ_ONE(data, len)
{
    static struct mig_ram ram;
    struct mig_ram_conf conf = {.page_count = PAGES};
    struct mig_round_end end;
    enum mig_ram_reason reason;
    uint64_t body_len;
    size_t head_len;

    if (len < 1 + MIG_RAM_FIXED_LEN) {
        return 0;
    }
    conf.n_streams = 1 + (data[0] & 3);
    conf.discard = (data[0] & 4) != 0;
    conf.crc = (data[0] & 8) != 0;
    conf.zstd = (data[0] & 64) != 0;
    conf.stream = (data[0] >> 4 & 3u) % conf.n_streams;
    data++;
    len--;
    fuzz_reach(9, mig_round_end_decode(data, len, &end));
    /* The payload is not there: its length is what the head says, or one page more. */
    body_len = len + (uint64_t)(data[4] | data[5] << 8 | data[6] << 16);
    head_len = mig_ram_head_len(data, body_len, &reason);
    if (head_len == 0 || head_len > len) {
        return 0;
    }
    body_len -= len - head_len;
    reason = mig_ram_decode(&conf, data, head_len, body_len, &ram);
    fuzz_reach(5, reason == MIG_RAM_BAD_STREAM);
    fuzz_reach(6, reason == MIG_RAM_BAD_RANGE);
    fuzz_reach(7, reason == MIG_RAM_BAD_ORDER);
    fuzz_reach(8, reason == MIG_RAM_BAD_SUM);
    if (reason == MIG_RAM_OK) {
        accepted(&ram, data, head_len);
        BUG_ON(mig_ram_decode(&conf, data, head_len, body_len + MIG_PAGE, &ram) !=
               MIG_RAM_BAD_SUM);
    }
    return 0;
}
