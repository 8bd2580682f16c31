/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A whole machine against a guest, a back end and a state stream that send anything. The
 * input is a program: a byte chooses an operation, the bytes after it are its operands.
 * Whatever happens: no crash, the state can be saved, a saved state can be loaded and
 * gives the same bytes again, and a damaged one is refused or leaves a machine for which
 * all this still holds.
 */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "tests/fuzz/fuzz.h"
#include "tests/unit/vmm/machine_rig.h"

static struct rig rig;
static struct rig_ring ring[3]; /* blk, net rx, net tx */

static void op_port(struct bytes_rd *in, bool write)
{
    static const uint16_t ports[] = {
        0x20,  0x21,  0xA0,  0xA1,  0x4D0, 0x4D1, 0x40,  0x41,  0x42,  0x43,  0x61,
        0x70,  0x71,  0x3F8, 0x3F9, 0x3FA, 0x3FB, 0x3FC, 0x3FD, 0x3FE, 0x3FF, 0x402,
        0x600, 0x601, 0x602, 0x604, 0x605, 0x608, 0x60A, 0x510, 0x511, 0xCF9, 0x64};
    uint8_t which = bytes_rd_u8(in);
    uint16_t port = which < 0xF0 ? ports[which % ARRAY_SIZE(ports)] : bytes_rd_u16(in);
    unsigned len = which / ARRAY_SIZE(ports) % 3;

    if (write) {
        rig_out(&rig, port, 1u << len, bytes_rd_u32(in));
    } else {
        rig_in(&rig, port, 1u << len);
    }
}

static void op_mmio(struct bytes_rd *in, bool write)
{
    uint16_t where = bytes_rd_u16(in);
    uint64_t addr = MACHINE_MMIO_BASE + where % 0x600;
    unsigned len = where < 0x8000 ? 4 : 1u << (where >> 12 & 3);

    if (len == 4) {
        addr &= ~UINT64_C(3);
    }
    if (write) {
        rig_mmio_out(&rig, addr, len, bytes_rd_u32(in));
    } else {
        rig_mmio_in(&rig, addr, len);
    }
}

static void op_store(struct bytes_rd *in)
{
    uint16_t addr = bytes_rd_u16(in);
    size_t len = 1 + bytes_rd_u8(in) % 32, left = bytes_rd_left(in);
    const uint8_t *data = bytes_rd_view(in, len < left ? len : left);

    if (data != NULL) {
        gmem_write(&rig.gm, (struct gpa){addr}, data, len < left ? len : left);
    }
}

static void op_driver(struct bytes_rd *in)
{
    uint8_t what = bytes_rd_u8(in);
    uint64_t features = VIRTIO_F_VERSION_1 | (what & 2 ? VIRTIO_F_EVENT_IDX : 0);

    if ((what & 1) == 0) {
        rig_virtio_start(&rig, 0, features | (what & 4 ? 1u << 9 : 0), ring, 1, 0x1000);
    } else {
        rig_virtio_start(&rig, 1, features | (what & 4 ? 1u << 16 : 0), ring + 1, 2,
                         0x2000);
    }
}

/* A whole disk request, each part of which may be wrong. */
static void op_blk(struct bytes_rd *in)
{
    uint16_t head = bytes_rd_u8(in) % RIG_QUEUE_SIZE;
    uint64_t header[2] = {bytes_rd_u8(in), bytes_rd_u8(in)};
    uint16_t data_flags = bytes_rd_u8(in), addr = bytes_rd_u16(in),
             len = bytes_rd_u16(in);

    if (ring[0].desc == 0) {
        return;
    }
    gmem_write(&rig.gm, (struct gpa){0x4000 + head * 32u}, header, sizeof header);
    rig_desc(&rig, &ring[0], head, 0x4000 + head * 32u, 16, 1,
             (head + 1) % RIG_QUEUE_SIZE);
    rig_desc(&rig, &ring[0], (head + 1u) % RIG_QUEUE_SIZE, addr, len, data_flags & 3,
             (head + 2) % RIG_QUEUE_SIZE);
    rig_desc(&rig, &ring[0], (head + 2u) % RIG_QUEUE_SIZE, 0x5000, 1, 2, 0);
    rig_offer(&rig, &ring[0], head);
    rig_notify(&rig, &ring[0]);
}

static void op_net(struct bytes_rd *in)
{
    unsigned which = 1 + bytes_rd_u8(in) % 2;
    uint16_t head = bytes_rd_u8(in) % RIG_QUEUE_SIZE;
    uint16_t addr = bytes_rd_u16(in), len = bytes_rd_u16(in);

    if (ring[which].desc == 0) {
        return;
    }
    rig_desc(&rig, &ring[which], head, addr, len, which == 1 ? 2 : 0, 0);
    rig_offer(&rig, &ring[which], head);
    rig_notify(&rig, &ring[which]);
}

static void op_input(struct bytes_rd *in)
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
    machine_input(rig.m, dev_index % (MACHINE_DEV_COUNT + 1), &input);
}

/* What was saved loads, and saves the same. */
static void op_save_load(void)
{
    uint8_t *first, *second;
    size_t len = rig_save(&rig, &first), again;
    struct state_io io;

    BUG_ON(rig_load(&rig, first, len, &io) != 0);
    again = rig_save(&rig, &second);
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

static void op_load_damaged(struct bytes_rd *in)
{
    uint8_t *state;
    size_t len = rig_save(&rig, &state);
    struct state_io io;

    for (unsigned n = 1 + bytes_rd_u8(in) % 4; n > 0; n--) {
        size_t at = bytes_rd_u16(in) % len;

        state[at] = bytes_rd_u8(in);
    }
    put_checksums_right(state, len);
    if (rig_load(&rig, state, len, &io) != 0) {
        BUG_ON(io.error == STATE_OK);
    }
    rig.pending_count = 0; /* the stream's requests are not this back end's */
    free(state);
    op_save_load();
}

static void one_op(struct bytes_rd *in)
{
    uint8_t op = bytes_rd_u8(in);

    switch (op % 20) {
    case 0:
    case 1:
    case 2:
        op_port(in, true);
        break;
    case 3:
        op_port(in, false);
        break;
    case 4:
    case 5:
        op_mmio(in, true);
        break;
    case 6:
        op_mmio(in, false);
        break;
    case 7:
        op_store(in);
        break;
    case 8:
        op_driver(in);
        break;
    case 9:
    case 10:
        op_blk(in);
        break;
    case 11:
        op_net(in);
        break;
    case 12:
        op_input(in);
        break;
    case 13:
        if (rig.pending_count > 0) {
            uint8_t which = bytes_rd_u8(in);

            rig_blk_done(&rig, which % rig.pending_count, which >> 6 == 3 ? 5 : 0);
        }
        break;
    case 14:
        rig.now_ns += (uint64_t)bytes_rd_u16(in) << (bytes_rd_u8(in) % 24);
        machine_wake(rig.m, rig.now_ns);
        break;
    case 15:
        if (machine_irq_pending(rig.m)) {
            machine_irq_ack(rig.m);
        }
        break;
    case 16:
        op_save_load();
        break;
    case 17:
        op_load_damaged(in);
        break;
    case 18:
        rig_pic_init(&rig);
        break;
    default:
        if (op < 128) {
            rig.pending_count = 0;
            machine_reissue(rig.m);
        } else {
            machine_reset(rig.m);
        }
        break;
    }
}

FUZZ_ONE(data, len)
{
    struct bytes_rd in = bytes_rd_make(data, len < 4096 ? len : 4096);

    if (rig.m == NULL) {
        rig_init(&rig, NULL);
        rig.forgetful = true;
    }
    rig_restart(&rig);
    memset(ring, 0, sizeof ring);
    while (bytes_rd_left(&in) > 0) {
        one_op(&in);
    }
    op_save_load();
    BUG_ON(machine_io_in_flight(rig.m) > 32);
    return 0;
}
