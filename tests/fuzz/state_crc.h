/* SPDX-License-Identifier: Apache-2.0 */
/* Checksums that a fuzzer would not guess, for targets that read state_io streams. */
#pragma once

#include <string.h>

#include "base/bytes.h"
#include "base/crc32c.h"

/* Walks the sections as the reader will, and corrects each crc that lies inside. */
static inline void state_crc_right(uint8_t *bytes, size_t len)
{
    size_t pos = 8;

    memcpy(bytes, "GMST\1\0\0\0", 8);
    while (pos < len) {
        size_t covered = 1 + (size_t)bytes[pos] + 12;
        struct bytes_rd rd;
        struct bytes_wr wr;
        size_t body_len;

        if (len - pos < covered + 4) {
            return;
        }
        rd = bytes_rd_make(bytes + pos + covered - 4, 4);
        body_len = bytes_rd_u32(&rd);
        if (body_len > len - pos - covered - 4) {
            return;
        }
        wr = bytes_wr_make(bytes + pos + covered, 4);
        bytes_wr_u32(&wr, crc32c(crc32c(0, bytes + pos, covered),
                                 bytes + pos + covered + 4, body_len));
        pos += covered + 4 + body_len;
    }
}
