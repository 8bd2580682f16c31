/* SPDX-License-Identifier: Apache-2.0 */
/* The loader of VM state on any bytes, as they are and with the sections' checksums put
 * right. */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/state_io.h"
#include "tests/fuzz/fuzz.h"

/* A device whose fields depend on what it read, as lists do. */
struct device {
    bool flag;
    uint8_t count;
    uint16_t half;
    uint32_t word;
    uint64_t wide;
    uint8_t bytes[255];
};

static int device_xfer(struct device *d, struct state_io *io)
{
    state_bool(io, &d->flag);
    state_u16(io, &d->half);
    state_u32(io, &d->word);
    state_u64(io, &d->wide);
    state_u8(io, &d->count);
    if (d->count > 200) {
        state_refuse(io, "count");
    } else {
        state_bytes(io, d->bytes, d->count);
    }
    return state_end(io);
}

static void load(const uint8_t *bytes, size_t len)
{
    struct state_io io;
    unsigned sections = 0;

    state_load_init(&io, bytes, len);
    while (state_section_next(&io)) {
        struct device d = {0};
        uint8_t out[512];
        struct state_io save;

        BUG_ON(++sections > STATE_SECTIONS_MAX);
        BUG_ON(memchr(io.section.name, 0, sizeof io.section.name) == NULL);
        if (!state_section_accept(&io, 3) || device_xfer(&d, &io) < 0) {
            BUG_ON(io.error == STATE_OK);
            continue;
        }
        BUG_ON(d.count > 200);
        /* What was loaded can be saved. */
        state_save_init(&save, out, sizeof out);
        state_section_begin(&save, io.section.name, io.section.instance, 3, 1);
        BUG_ON(device_xfer(&d, &save) < 0);
        state_section_end(&save);
        BUG_ON(state_save_finish(&save) == 0);
    }
    BUG_ON(io.error == STATE_OK && !io.ended);
    BUG_ON(state_section_next(&io)); /* the end and an error are both final */
}

/* Walks the sections as the reader will, and corrects each crc that lies inside. */
static void put_checksums_right(uint8_t *bytes, size_t len)
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

FUZZ_ONE(data, len)
{
    uint8_t *copy;

    load(data, len);
    if (len < 8) {
        return 0;
    }
    copy = malloc(len);
    memcpy(copy, data, len);
    put_checksums_right(copy, len);
    load(copy, len);
    free(copy);
    return 0;
}
