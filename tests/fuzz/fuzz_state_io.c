/* SPDX-License-Identifier: Apache-2.0 */
/* The loader of VM state on any bytes, as they are and with the sections' checksums put
 * right. */
#include <stdlib.h>
#include <string.h>

#include "base/state_io.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/state_crc.h"

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

FUZZ_ONE(data, len)
{
    uint8_t *copy;

    load(data, len);
    if (len < 8) {
        return 0;
    }
    copy = malloc(len);
    memcpy(copy, data, len);
    state_crc_right(copy, len);
    load(copy, len);
    free(copy);
    return 0;
}
