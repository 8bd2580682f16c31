/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fuzz/fuzz_rig.h"

#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"

struct rig fuzz_rig;
struct rig_ring fuzz_ring[3];

void fuzz_store(struct bytes_rd *in)
{
    uint16_t addr = bytes_rd_u16(in);
    size_t len = 1 + bytes_rd_u8(in) % 32, left = bytes_rd_left(in);
    const uint8_t *data = bytes_rd_view(in, len < left ? len : left);

    if (data != NULL) {
        gmem_write(&fuzz_rig.gm, (struct gpa){addr}, data, len < left ? len : left);
    }
}

/* A whole disk request, each part of which may be wrong. */
void fuzz_blk(struct bytes_rd *in)
{
    uint16_t head = bytes_rd_u8(in) % RIG_QUEUE_SIZE;
    uint64_t header[2] = {bytes_rd_u8(in), bytes_rd_u8(in)};
    uint16_t data_flags = bytes_rd_u8(in), addr = bytes_rd_u16(in),
             len = bytes_rd_u16(in);

    if (fuzz_ring[0].desc == 0) {
        return;
    }
    gmem_write(&fuzz_rig.gm, (struct gpa){0x4000 + head * 32u}, header, sizeof header);
    rig_desc(&fuzz_rig, &fuzz_ring[0], head, 0x4000 + head * 32u, 16, 1,
             (head + 1) % RIG_QUEUE_SIZE);
    rig_desc(&fuzz_rig, &fuzz_ring[0], (head + 1u) % RIG_QUEUE_SIZE, addr, len,
             data_flags & 3, (head + 2) % RIG_QUEUE_SIZE);
    rig_desc(&fuzz_rig, &fuzz_ring[0], (head + 2u) % RIG_QUEUE_SIZE, 0x5000, 1, 2, 0);
    rig_offer(&fuzz_rig, &fuzz_ring[0], head);
    rig_notify(&fuzz_rig, &fuzz_ring[0]);
}

void fuzz_net(struct bytes_rd *in)
{
    unsigned which = 1 + bytes_rd_u8(in) % 2;
    uint16_t head = bytes_rd_u8(in) % RIG_QUEUE_SIZE;
    uint16_t addr = bytes_rd_u16(in), len = bytes_rd_u16(in);

    if (fuzz_ring[which].desc == 0) {
        return;
    }
    rig_desc(&fuzz_rig, &fuzz_ring[which], head, addr, len, which == 1 ? 2 : 0, 0);
    rig_offer(&fuzz_rig, &fuzz_ring[which], head);
    rig_notify(&fuzz_rig, &fuzz_ring[which]);
}

void fuzz_input(struct bytes_rd *in)
{
    static uint8_t bulk[0x20000];
    struct dev_input input = {0};
    unsigned dev_index = bytes_rd_u8(in);

    input.type = (enum input_type)bytes_rd_u8(in);
    input.now_ns = bytes_rd_u64(in);
    input.slot = bytes_rd_u8(in);
    input.generation = bytes_rd_u8(in);
    input.status = bytes_rd_u8(in);
    input.value = bytes_rd_u8(in);
    input.len = bytes_rd_u16(in) * 2u;
    input.data = bulk;
    if (input.type == INPUT_SERIAL_RX) {
        input.len %= SERIAL_RX_MAX + 2;
    }
    machine_input(fuzz_rig.m, dev_index % (MACHINE_DEV_COUNT + 1), &input);
}

bool fuzz_ring_used(const struct rig_ring *ring)
{
    uint16_t idx = 0;

    return ring->desc != 0 &&
           gmem_load16(&fuzz_rig.gm, (struct gpa){ring->used + 2}, &idx) && idx != 0;
}

/* What was saved loads, and saves the same. */
void fuzz_save_load(void)
{
    uint8_t *first, *second;
    size_t len = rig_save(&fuzz_rig, &first), again;
    struct state_io io;

    BUG_ON(rig_load(&fuzz_rig, first, len, &io) != 0);
    again = rig_save(&fuzz_rig, &second);
    BUG_ON(again != len || memcmp(first, second, len) != 0);
    free(first);
    free(second);
}

static void put_checksums_right(uint8_t *bytes, size_t len)
{
    size_t pos = 8;

    while (pos < len) {
        size_t covered = 1 + (size_t)bytes[pos] + 12;
        uint32_t body_len, crc;

        if (len - pos < covered + 4) {
            return;
        }
        memcpy(&body_len, bytes + pos + covered - 4, 4);
        if (body_len > len - pos - covered - 4) {
            return;
        }
        crc =
            crc32c(crc32c(0, bytes + pos, covered), bytes + pos + covered + 4, body_len);
        memcpy(bytes + pos + covered, &crc, 4);
        pos += covered + 4 + body_len;
    }
}

void fuzz_load_damaged(struct bytes_rd *in)
{
    uint8_t *state;
    size_t len = rig_save(&fuzz_rig, &state);
    struct state_io io;

    for (unsigned n = 1 + bytes_rd_u8(in) % 4; n > 0; n--) {
        size_t at = bytes_rd_u16(in) % len;

        state[at] = bytes_rd_u8(in);
    }
    put_checksums_right(state, len);
    if (rig_load(&fuzz_rig, state, len, &io) != 0) {
        BUG_ON(io.error == STATE_OK);
    }
    fuzz_rig.pending_count = 0; /* the stream's requests are not this back end's */
    free(state);
    fuzz_save_load();
}
