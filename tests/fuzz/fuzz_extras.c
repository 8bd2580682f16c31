/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The virtio devices as machine standard has them (disk with two queues and ranges, nic
 * with offloads, both with limits; rng, console, balloon) against a driver that offers
 * any chain on any queue, inputs at any time, and damaged states. Whatever happens: no
 * crash, only whole pages of RAM are given back (the rig checks), and a state that can be
 * saved and loaded and gives the same bytes again.
 */
#include "tests/fuzz/fuzz_rig.h"

#include <string.h>

#include "base/bug.h"
#include "base/units.h"
#include "vmm/dev_vcon.h"

#define BUFFERS 0x8000

static const struct machine_conf standard = {
    .type = MACHINE_STANDARD,
    .cpu_count = 2,
    .ram_len = RIG_RAM_LEN,
    .disk_count = 1,
    .nic_count = 1,
    .disk = {{.sectors = RIG_SECTORS, .bytes_per_s = 1 << 20, .requests_per_s = 100}},
    .nic = {{.mac = {2, 0, 0, 0, 0, 1},
             .offloads = true,
             .queue_pairs = 2,
             .bytes_per_s = 1 << 20,
             .packets_per_s = 100}},
    .extras = MACHINE_EXTRAS_ALL,
};

#define SLOTS        (2 + MACHINE_EXTRA_COUNT)
#define SLOT_CONSOLE (2 + MACHINE_EXTRA_CONSOLE)

#define RINGS_MAX    5 /* of the nic */
_Static_assert(RINGS_MAX >= 5, "rings for all");

static struct rig_ring rings[SLOTS][RINGS_MAX];
static const unsigned queue_count[SLOTS] = {2, 5, 1, VCON_QUEUES, 3};
/* All but VERSION_1 and EVENT_IDX that they offer. */
static const uint64_t features[SLOTS] = {0x7246, 0x639983, 0, 2, 6};

static void op_start(struct bytes_rd *in)
{
    uint8_t what = bytes_rd_u8(in);
    unsigned slot = what % SLOTS;

    rig_virtio_start(&fuzz_rig, slot,
                     VIRTIO_F_VERSION_1 | (what & 8 ? 0 : features[slot]) |
                         (what & 16 ? VIRTIO_F_EVENT_IDX : 0),
                     rings[slot], queue_count[slot], 0x1000 + slot * 0x1800u);
}

static void op_chain(struct bytes_rd *in)
{
    uint8_t what = bytes_rd_u8(in);
    unsigned slot = what % SLOTS;
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
    struct rig_ring *ring = &rings[SLOT_CONSOLE][VCON_QUEUE_CONTROL_TX];
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
                 MACHINE_MMIO_BASE + what % SLOTS * MACHINE_MMIO_STRIDE +
                     (what & 0x80 ? 0x100u : 0) + (reg & ~(len - 1)),
                 len, bytes_rd_u32(in));
}

static void op_input(struct bytes_rd *in)
{
    static const enum input_type types[] = {
        INPUT_ENTROPY, INPUT_PORT_RX,  INPUT_BALLOON, INPUT_BALLOON_POLL,
        INPUT_NET_RX,  INPUT_ANNOUNCE, INPUT_LINK,    INPUT_NOTIFY};
    static uint8_t bulk[NET_HEADER_LEN + NET_FRAME_MAX];
    uint8_t what = bytes_rd_u8(in);
    struct dev_input input = {.type = types[what % 8], .data = bulk};

    input.value = bytes_rd_u8(in);
    if (input.type == INPUT_NET_RX) {
        bulk[0] = (uint8_t)(input.value % 4);
        bulk[1] = (uint8_t)(input.value / 4 % 8);
        input.len = bytes_rd_u16(in);
    } else if (what % 8 < 2) {
        input.len = bytes_rd_u16(in) % (ENTROPY_MAX + 1);
    }
    machine_input(fuzz_rig.m, MACHINE_DEV_VIRTIO0 + what / 8 % SLOTS, &input);
}

/* A disk request that is well formed but for its numbers. */
static void op_disk(struct bytes_rd *in)
{
    static const uint8_t types[] = {0, 1, 4, 8, 11, 13};
    uint8_t what = bytes_rd_u8(in);
    unsigned q = what & 1, type = types[what / 2 % ARRAY_SIZE(types)];
    struct rig_ring *ring = &rings[0][q];
    uint64_t header[2] = {type, bytes_rd_u8(in)};
    uint64_t range[2] = {bytes_rd_u8(in), bytes_rd_u8(in) | (uint64_t)(what >> 6) << 32};
    uint32_t len = type > 8 ? 16 : bytes_rd_u8(in) % 8 * 512;

    if (ring->desc == 0) {
        return;
    }
    gmem_write(&fuzz_rig.gm, (struct gpa){BUFFERS}, header, sizeof header);
    gmem_write(&fuzz_rig.gm, (struct gpa){BUFFERS + 64}, range, sizeof range);
    rig_desc(&fuzz_rig, ring, 0, BUFFERS, 16, 1, 1);
    rig_desc(&fuzz_rig, ring, 1, BUFFERS + 64, len,
             (uint16_t)(type == 0 || type == 8 ? 3 : 1), 2);
    rig_desc(&fuzz_rig, ring, 2, BUFFERS + 32, 1, 2, 0);
    rig_offer(&fuzz_rig, ring, 0);
    rig_notify(&fuzz_rig, ring);
}

static void op_done(struct bytes_rd *in)
{
    static const uint8_t status[] = {0, 0, 5, 95};
    uint8_t which = bytes_rd_u8(in);

    if (fuzz_rig.pending_count > 0) {
        rig_blk_done(&fuzz_rig, which % fuzz_rig.pending_count, status[which >> 6]);
    }
}

static void op_time(struct bytes_rd *in)
{
    fuzz_rig.now_ns += (uint64_t)bytes_rd_u16(in) << (bytes_rd_u8(in) % 20);
    machine_wake(fuzz_rig.m, fuzz_rig.now_ns);
}

static void one_op(struct bytes_rd *in)
{
    switch (bytes_rd_u8(in) % 21) {
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
    case 15:
    case 16:
        op_disk(in);
        break;
    case 17:
    case 18:
        op_done(in);
        break;
    case 19:
        op_time(in);
        break;
    default:
        fuzz_input(in);
        break;
    }
}

enum {
    DISK_ASKED,
    DISK_ANSWERED,
    SECOND_QUEUE,
    FRAME_OUT,
    FRAME_IN,
    NET_CONTROL,
    OFFLOADS,
    ENTROPY,
    PORT_OPEN,
    PORT_IN,
    PORT_OUT,
    DISCARDED,
    STATISTICS,
};
FUZZ_GOALS("disk request submitted", "disk request answered", "disk: second queue",
           "frame sent", "frame received", "net control", "net offloads", "entropy given",
           "port open", "port: bytes in", "port: bytes out", "balloon: pages given back",
           "balloon: statistics")

static void count_goals(void)
{
    const struct rig_ring *net = rings[1], *con = rings[SLOT_CONSOLE],
                          *balloon = rings[4];

    fuzz_reach(DISK_ASKED, fuzz_rig.submitted_count > 0);
    fuzz_reach(DISK_ANSWERED, fuzz_ring_used(&rings[0][0]));
    fuzz_reach(SECOND_QUEUE, fuzz_ring_used(&rings[0][1]));
    fuzz_reach(FRAME_OUT, fuzz_rig.frame_count > 0);
    fuzz_reach(FRAME_IN, fuzz_ring_used(&net[0]));
    fuzz_reach(NET_CONTROL, fuzz_ring_used(&net[4]));
    fuzz_reach(OFFLOADS, fuzz_rig.net_offload != 0);
    fuzz_reach(ENTROPY, fuzz_ring_used(&rings[2][0]));
    fuzz_reach(PORT_OPEN, fuzz_rig.port_is_open);
    fuzz_reach(PORT_IN, fuzz_ring_used(&con[VCON_QUEUE_RX1]));
    fuzz_reach(PORT_OUT, fuzz_ring_used(&con[VCON_QUEUE_TX1]));
    fuzz_reach(DISCARDED, fuzz_rig.range_count > 0);
    fuzz_reach(STATISTICS, fuzz_ring_used(&balloon[2]));
}

FUZZ_ONE(data, len)
{
    struct bytes_rd in = bytes_rd_make(data, len < 4096 ? len : 4096);
    struct machine_balloon balloon;

    if (fuzz_rig.m == NULL) {
        rig_init(&fuzz_rig, &standard);
        fuzz_rig.forgetful = true;
    }
    rig_restart(&fuzz_rig);
    memset(rings, 0, sizeof rings);
    while (bytes_rd_left(&in) > 0) {
        one_op(&in);
    }
    count_goals();
    fuzz_save_load();
    BUG_ON(!machine_balloon(fuzz_rig.m, &balloon));
    BUG_ON(balloon.target > RIG_RAM_LEN);
    BUG_ON(machine_io_in_flight(fuzz_rig.m) > 32);
    return 0;
}
