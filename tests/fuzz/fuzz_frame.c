/* SPDX-License-Identifier: Apache-2.0 */
/* frame_check on any bytes, as they are and with checksums put right, so that the rules
 * behind them are reached too. */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/frame.h"
#include "tests/fuzz/fuzz.h"

#define MAGIC    UINT32_C(0x4c4d4547)
#define BODY_MAX 4096

static void check(const uint8_t *bytes, size_t len)
{
    struct frame f;
    enum frame_reason reason = frame_check(bytes, len, MAGIC, BODY_MAX, &f);
    uint8_t again[FRAME_HEADER_LEN + BODY_MAX];

    if (reason != FRAME_OK) {
        return;
    }
    BUG_ON(f.body_len > BODY_MAX || FRAME_HEADER_LEN + (size_t)f.body_len > len);
    BUG_ON(f.version == 0 || f.type == 0);
    BUG_ON(frame_encode(&f, MAGIC, again, sizeof again) != FRAME_HEADER_LEN + f.body_len);
    BUG_ON(memcmp(again, bytes, FRAME_HEADER_LEN + f.body_len) != 0);
    /* One byte less is never a whole frame. */
    BUG_ON(frame_check(bytes, FRAME_HEADER_LEN + f.body_len - 1, MAGIC, BODY_MAX, &f) !=
           FRAME_NEED_MORE);
}

static void put_checksums_right(uint8_t *bytes, size_t len)
{
    struct bytes_rd rd = bytes_rd_make(bytes + 16, 4);
    struct bytes_wr wr;
    size_t body_len = bytes_rd_u32(&rd);

    wr = bytes_wr_make(bytes, 4);
    bytes_wr_u32(&wr, MAGIC);
    if (body_len <= len - FRAME_HEADER_LEN) {
        wr = bytes_wr_make(bytes + 24, 4);
        bytes_wr_u32(&wr, crc32c(0, bytes + FRAME_HEADER_LEN, body_len));
    }
    wr = bytes_wr_make(bytes + 28, 4);
    bytes_wr_u32(&wr, crc32c(0, bytes, 28));
}

FUZZ_ONE(data, len)
{
    uint8_t *copy;

    check(data, len);
    if (len < FRAME_HEADER_LEN) {
        return 0;
    }
    copy = malloc(len);
    memcpy(copy, data, len);
    put_checksums_right(copy, len);
    check(copy, len);
    free(copy);
    return 0;
}
