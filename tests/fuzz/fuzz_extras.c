/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rng, console and balloon of machine standard against a driver that offers any chain on
 * any queue, inputs at any time, and damaged states. Whatever happens: no crash, only
 * whole pages of RAM are given back (the rig checks), and a state that can be saved and
 * loaded and gives the same bytes again.
 */
#include "tests/fuzz/fuzz_rig.h"

#include <string.h>

#include "vmm/dev_vcon.h"

#define BUFFERS 0x8000

static const struct machine_conf standard = {
    .type = MACHINE_STANDARD,
    .ram_len = RIG_RAM_LEN,
    .extras = MACHINE_EXTRAS_ALL,
};

static struct rig_ring rings[MACHINE_EXTRA_COUNT][VCON_QUEUES];
static const unsigned queue_count[MACHINE_EXTRA_COUNT] = {1, VCON_QUEUES, 3};

static void op_start(struct bytes_rd *in)
{
    uint8_t what = bytes_rd_u8(in);
    unsigned slot = what % MACHINE_EXTRA_COUNT;

    rig_virtio_start(&fuzz_rig, slot,
                     VIRTIO_F_VERSION_1 | (what & 8 ? 0 : 6) |
                         (what & 16 ? VIRTIO_F_EVENT_IDX : 0),
                     rings[slot], queue_count[slot], 0x1000 + slot * 0x2000u);
}

static void op_chain(struct bytes_rd *in)
{
    uint8_t what = bytes_rd_u8(in);
    unsigned slot = what % MACHINE_EXTRA_COUNT;
    struct rig_ring *ring = &rings[slot][what / 4 % queue_count[slot]];
    uint16_t head = bytes_rd_u8(in) % RIG_QUEUE_SIZE, next = bytes_rd_u8(in);
    uint32_t addr = BUFFERS + bytes_rd_u16(in), len = bytes_rd_u16(in);

    if (ring->desc == 0) {
        return;
    }
    rig_desc(&fuzz_rig, ring, head, addr, what & 0x80 ? len : len % 512, what >> 5 & 3,
             next % RIG_QUEUE_SIZE);
    rig_offer(&fuzz_rig, ring, head);
    rig_notify(&fuzz_rig, ring);
}

/* A well-formed control message: the way into the console's states. */
static void op_control(struct bytes_rd *in)
{
    struct rig_ring *ring = &rings[MACHINE_EXTRA_CONSOLE][VCON_QUEUE_CONTROL_TX];
    uint8_t message[8] = {bytes_rd_u8(in) % 3, 0, 0, 0, bytes_rd_u8(in) % 9, 0,
                          bytes_rd_u8(in) % 3, 0};

    if (ring->desc == 0) {
        return;
    }
    gmem_write(&fuzz_rig.gm, (struct gpa){BUFFERS}, message, sizeof message);
    rig_desc(&fuzz_rig, ring, 0, BUFFERS, sizeof message, 0, 0);
    rig_offer(&fuzz_rig, ring, 0);
    rig_notify(&fuzz_rig, ring);
}

static void op_buffer_store(struct bytes_rd *in)
{
    uint16_t addr = bytes_rd_u16(in);
    uint8_t bytes[16];

    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = bytes_rd_u8(in);
    }
    gmem_write(&fuzz_rig.gm, (struct gpa){BUFFERS + addr % 0x1000u}, bytes, sizeof bytes);
}

static void op_register(struct bytes_rd *in)
{
    uint8_t what = bytes_rd_u8(in), reg = bytes_rd_u8(in);
    unsigned len = 1u << (what / 4 % 4);

    rig_mmio_out(&fuzz_rig,
                 MACHINE_MMIO_BASE + what % MACHINE_EXTRA_COUNT * MACHINE_MMIO_STRIDE +
                     (what & 0x80 ? 0x100u : 0) + (reg & ~(len - 1)),
                 len, bytes_rd_u32(in));
}

static void op_input(struct bytes_rd *in)
{
    static const enum input_type types[] = {INPUT_ENTROPY, INPUT_PORT_RX, INPUT_BALLOON,
                                            INPUT_BALLOON_POLL};
    static uint8_t bulk[PORT_RX_MAX];
    uint8_t what = bytes_rd_u8(in);
    struct dev_input input = {.type = types[what % 4], .data = bulk};

    input.value = bytes_rd_u8(in);
    if (what % 4 < 2) {
        input.len = bytes_rd_u16(in) % (PORT_RX_MAX + 1);
    }
    machine_input(fuzz_rig.m, MACHINE_DEV_VIRTIO0 + what / 4 % MACHINE_EXTRA_COUNT,
                  &input);
}

static void one_op(struct bytes_rd *in)
{
    switch (bytes_rd_u8(in) % 16) {
    case 0:
    case 1:
        op_start(in);
        break;
    case 2:
    case 3:
    case 4:
    case 5:
        op_chain(in);
        break;
    case 6:
    case 7:
        op_control(in);
        break;
    case 8:
    case 9:
        op_input(in);
        break;
    case 10:
        op_buffer_store(in);
        break;
    case 11:
        fuzz_store(in);
        break;
    case 12:
        op_register(in);
        break;
    case 13:
        fuzz_save_load();
        break;
    case 14:
        fuzz_load_damaged(in);
        break;
    default:
        fuzz_input(in);
        break;
    }
}

FUZZ_ONE(data, len)
{
    struct bytes_rd in = bytes_rd_make(data, len < 4096 ? len : 4096);
    struct machine_balloon balloon;

    if (fuzz_rig.m == NULL) {
        rig_init(&fuzz_rig, &standard);
    }
    rig_restart(&fuzz_rig);
    memset(rings, 0, sizeof rings);
    while (bytes_rd_left(&in) > 0) {
        one_op(&in);
    }
    fuzz_save_load();
    BUG_ON(!machine_balloon(fuzz_rig.m, &balloon));
    BUG_ON(balloon.target > RIG_RAM_LEN);
    return 0;
}
