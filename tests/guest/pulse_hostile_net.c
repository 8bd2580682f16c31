/* SPDX-License-Identifier: Apache-2.0 */
/* pulse: attacks on the network device. Most spoil a sound frame to send; some the
 * buffers to receive in. */
#include "tests/guest/pulse_hostile.h"
#include "tests/guest/pulse_hw.h"
#include "tests/guest/pulse_virtio.h"

#define FRAME_LEN 72 /* header of 12 and a frame of 60 */

static struct virtq rx, tx;
static uint8_t data[4096] __attribute__((aligned(4096), section(".bss.noinit")));

static struct virtio_device *device(void)
{
    return virtio_find(VIRTIO_ID_NET, 0);
}

static bool start(void)
{
    uint32_t features;

    if (!virtio_start(device(), 0, &features) || !virtio_queue_start(device(), &rx, 0) ||
        !virtio_queue_start(device(), &tx, 1)) {
        return false;
    }
    virtio_driver_ok(device());
    /* A broadcast of a local experimental type: no one takes it for anything. */
    fill64(data, 0, sizeof(data) / 8);
    fill64(data + 12, ~UINT64_C(0), 1);
    data[20] = 0x52;
    data[24] = 0x88;
    data[25] = 0xb5;
    tx.desc[0] = (struct virtq_desc){(uintptr_t)data, FRAME_LEN, 0, 0};
    return true;
}

static void push(void)
{
    virtq_push(&tx, 0);
    virtq_notify(&tx);
}

static uint32_t consequence(void)
{
    return virtq_pending(&tx) || virtq_pending(&rx) ? MAY_DO : 0;
}

static bool works(void)
{
    uint32_t begin = pulse_ticks;

    if (!start()) {
        return false;
    }
    push();
    while (!virtq_pending(&tx)) {
        uint32_t wakes = pulse_wakes;

        if (pulse_ticks - begin > pulse_hz) {
            return false;
        }
        hw_idle(wakes);
    }
    return true;
}

static void attack_loop(void)
{
    tx.desc[0].flags = VQ_NEXT;
    push();
}

static void attack_next(void)
{
    tx.desc[0].flags = VQ_NEXT;
    tx.desc[0].next = VQ_SIZE + 7;
    push();
}

static void attack_head(void)
{
    virtq_push(&tx, VQ_SIZE);
    virtq_notify(&tx);
}

static void attack_jump(void)
{
    tx.avail_idx = (uint16_t)(tx.avail_idx + 0x7fff);
    push();
}

static void attack_address(void)
{
    tx.desc[0].addr = UINT64_C(0x7f00000000);
    push();
}

static void attack_wrap(void)
{
    tx.desc[0].addr = ~UINT64_C(0) - 15;
    push();
}

static void attack_length(void)
{
    tx.desc[0].len = ~UINT32_C(0);
    push();
}

static void attack_mmio(void)
{
    tx.desc[0].addr = device()->base;
    push();
}

static void attack_writable(void)
{
    tx.desc[0].flags = VQ_WRITE;
    push();
}

static void attack_indirect(void)
{
    tx.desc[0].flags = 4;
    push();
}

static void attack_short(void)
{
    tx.desc[0].len = 4; /* not even its header */
    push();
}

static void attack_header_only(void)
{
    tx.desc[0].len = 12;
    push();
}

static void attack_empty(void)
{
    tx.desc[0].len = 0;
    push();
}

/* Larger than any frame, but all in memory. */
static void attack_big(void)
{
    tx.desc[0].len = 1u << 20;
    push();
}

/* 15 times 64 KiB in one chain. */
static void attack_big_chain(void)
{
    for (uint16_t i = 0; i < VQ_SIZE - 1; i++) {
        tx.desc[i] =
            (struct virtq_desc){(uintptr_t)data, 65536, VQ_NEXT, (uint16_t)(i + 1)};
    }
    tx.desc[VQ_SIZE - 1] = (struct virtq_desc){(uintptr_t)data, 1, 0, 0};
    push();
}

/* Headers that ask for work that was not negotiated: checksums, segments, offsets beyond
 * the frame. */
static void attack_offload(void)
{
    data[0] = 0xff;
    data[1] = 0xff;
    fill64(data + 2, ~UINT64_C(0), 1);
    push();
}

/* The same descriptor in every place of the ring. */
static void attack_same(void)
{
    for (uint16_t i = 0; i < VQ_SIZE; i++) {
        virtq_push(&tx, 0);
    }
    virtq_notify(&tx);
}

/* Receive buffers: a frame must come for the device to touch them, which a quiet network
 * does not send. */
static void push_rx(uint64_t addr, uint32_t len, uint16_t flags)
{
    rx.desc[0] = (struct virtq_desc){addr, len, flags, 0};
    virtq_push(&rx, 0);
    virtq_notify(&rx);
}

static void attack_rx_readonly(void)
{
    push_rx((uintptr_t)data, 2048, 0);
}

static void attack_rx_small(void)
{
    push_rx((uintptr_t)data, 13, VQ_WRITE);
}

static void attack_rx_rom(void)
{
    push_rx(0xffff0000u, 2048, VQ_WRITE);
}

static void attack_rx_address(void)
{
    push_rx(UINT64_C(0x7f00000000), 2048, VQ_WRITE);
}

static void attack_rx_loop(void)
{
    push_rx((uintptr_t)data, 16, VQ_WRITE | VQ_NEXT);
}

static void attack_queue_2(void)
{
    mmio_write32(device()->base + REG_QUEUE_SELECT, 2);
    mmio_write32(device()->base + REG_QUEUE_READY, 1);
    mmio_write32(tx.notify_reg, 2);
}

#define MAY_RX (MAY_RESET | MAY_IGNORE | MAY_DO)

static const struct attack attacks[] = {
    {"loop", attack_loop, MAY_RESET},
    {"next", attack_next, MAY_RESET},
    {"head", attack_head, MAY_RESET},
    {"jump", attack_jump, MAY_RESET},
    {"address", attack_address, MAY_RESET},
    {"wrap", attack_wrap, MAY_RESET},
    {"length", attack_length, MAY_RESET},
    {"mmio", attack_mmio, MAY_RESET},
    {"writable", attack_writable, MAY_RESET | MAY_DO},
    {"indirect", attack_indirect, MAY_RESET},
    {"short", attack_short, MAY_RESET | MAY_DO},
    {"header-only", attack_header_only, MAY_RESET | MAY_DO},
    {"empty", attack_empty, MAY_RESET | MAY_DO},
    {"big", attack_big, MAY_RESET | MAY_DO},
    {"big-chain", attack_big_chain, MAY_RESET | MAY_DO},
    {"offload", attack_offload, MAY_RESET | MAY_DO},
    {"same", attack_same, MAY_RESET | MAY_DO},
    {"rx-readonly", attack_rx_readonly, MAY_RX},
    {"rx-small", attack_rx_small, MAY_RX},
    {"rx-rom", attack_rx_rom, MAY_RX},
    {"rx-address", attack_rx_address, MAY_RX},
    {"rx-loop", attack_rx_loop, MAY_RX},
    {"queue-2", attack_queue_2, MAY_RESET | MAY_IGNORE},
};

const struct hostile_target hostile_net = {
    .name = "net",
    .attacks = attacks,
    .attack_count = sizeof(attacks) / sizeof(attacks[0]),
    .start = start,
    .consequence = consequence,
    .works = works,
};
