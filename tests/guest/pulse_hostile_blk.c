/* SPDX-License-Identifier: Apache-2.0 */
/* pulse: attacks on the disk device. Each spoils a sound read of sector 0. */
#include "tests/guest/pulse_blk.h"
#include "tests/guest/pulse_hostile.h"
#include "tests/guest/pulse_hw.h"

static uint8_t data[4096] __attribute__((aligned(4096), section(".bss.noinit")));
static struct {
    uint32_t type, reserved;
    uint64_t sector;
} header;
static volatile uint8_t status;

static struct virtq_desc *const desc = blk_queue.desc;

/* A sound read of sector 0, for an attack to spoil. */
static void set_sound_read(void)
{
    header.type = 0;
    header.sector = 0;
    status = 0xff;
    desc[0] = (struct virtq_desc){(uintptr_t)&header, sizeof(header), VQ_NEXT, 1};
    desc[1] = (struct virtq_desc){(uintptr_t)data, 512, VQ_NEXT | VQ_WRITE, 2};
    desc[2] = (struct virtq_desc){(uintptr_t)&status, 1, VQ_WRITE, 0};
}

static void push(void)
{
    virtq_push(&blk_queue, 0);
    virtq_notify(&blk_queue);
}

static void attack_loop(void)
{
    desc[1].next = 0;
    push();
}

static void attack_loop_self(void)
{
    desc[1].next = 1;
    push();
}

static void attack_next(void)
{
    desc[1].next = VQ_SIZE + 5;
    push();
}

static void attack_next_far(void)
{
    desc[0].next = 0xffff;
    push();
}

static void attack_head(void)
{
    virtq_push(&blk_queue, VQ_SIZE + 3);
    virtq_notify(&blk_queue);
}

static void attack_jump(void)
{
    blk_queue.avail_idx = (uint16_t)(blk_queue.avail_idx + VQ_SIZE + 1);
    push();
}

static void attack_back(void)
{
    blk_queue.avail_idx = (uint16_t)(blk_queue.avail_idx - 2);
    push();
}

static void attack_address(void)
{
    desc[1].addr = UINT64_C(0x7f00000000);
    push();
}

static void attack_wrap(void)
{
    desc[1].addr = ~UINT64_C(0) - 15;
    desc[1].len = 512;
    push();
}

static void attack_length(void)
{
    desc[1].len = 0xfffffe00u;
    push();
}

static void attack_rom(void)
{
    desc[1].addr = 0xffff0000u; /* the device is to write there */
    push();
}

static void attack_mmio(void)
{
    desc[1].addr = blk.device->base; /* the device is to write into its own registers */
    push();
}

static void attack_header_mmio(void)
{
    desc[0].addr = blk.device->base;
    push();
}

static void attack_order(void)
{
    desc[0].flags |= VQ_WRITE;
    header.type = 1;
    desc[1].flags = VQ_NEXT;
    push();
}

static void attack_short(void)
{
    desc[0].len = 8;
    push();
}

static void attack_no_status(void)
{
    desc[1].flags = 0;
    push();
}

static void attack_indirect(void)
{
    desc[0].flags = 4;
    push();
}

static void attack_empty(void)
{
    desc[0].len = 0;
    push();
}

/* Sets a queue register to a bad value while the device still is being set up, when it
 * must take it. */
static void start_with(uint32_t reg, uint32_t value)
{
    uint32_t base = blk.device->base, features;

    virtio_start(blk.device, 0, &features);
    virtio_queue_start(blk.device, &blk_queue, 0);
    mmio_write32(base + REG_QUEUE_READY, 0);
    mmio_write32(base + reg, value);
    mmio_write32(base + REG_QUEUE_READY, 1);
    virtio_driver_ok(blk.device);
    set_sound_read();
    push();
}

static void attack_rings(void)
{
    start_with(REG_QUEUE_DESC + 4, 0x7f);
}

static void attack_rings_mmio(void)
{
    start_with(REG_QUEUE_DEVICE,
               blk.device->base); /* the used ring is the device itself */
}

static void attack_rings_odd(void)
{
    start_with(REG_QUEUE_DESC, (uint32_t)(uintptr_t)desc + 1);
}

static void attack_queue_size(void)
{
    start_with(REG_QUEUE_SIZE, 0x8003);
}

static void attack_unready(void)
{
    mmio_write32(blk.device->base + REG_QUEUE_SELECT, 0);
    mmio_write32(blk.device->base + REG_QUEUE_READY, 0);
    push();
}

static void attack_queue_number(void)
{
    mmio_write32(blk.device->base + REG_QUEUE_SELECT, 0xfffffff0u);
    mmio_write32(blk.device->base + REG_QUEUE_READY, 1);
    mmio_write32(blk_queue.notify_reg, 0xffff);
}

static void attack_beyond(void)
{
    header.sector = ~UINT64_C(0) - 1;
    push();
}

static void attack_capacity(void)
{
    header.sector = blk.slots * 8 + 8;
    push();
}

static void attack_type(void)
{
    header.type = 0x4711;
    push();
}

static void attack_odd(void)
{
    desc[1].len = 513;
    push();
}

static const struct attack attacks[] = {
    {"loop", attack_loop, MAY_RESET},
    {"loop-self", attack_loop_self, MAY_RESET},
    {"next", attack_next, MAY_RESET},
    {"next-far", attack_next_far, MAY_RESET},
    {"head", attack_head, MAY_RESET},
    {"jump", attack_jump, MAY_RESET},
    {"back", attack_back, MAY_RESET},
    {"address", attack_address, MAY_RESET | MAY_ERROR},
    {"wrap", attack_wrap, MAY_RESET | MAY_ERROR},
    {"length", attack_length, MAY_RESET | MAY_ERROR},
    {"rom", attack_rom, MAY_RESET | MAY_ERROR},
    {"mmio", attack_mmio, MAY_RESET | MAY_ERROR},
    {"header-mmio", attack_header_mmio, MAY_RESET | MAY_ERROR},
    {"order", attack_order, MAY_RESET | MAY_ERROR},
    {"short", attack_short, MAY_RESET | MAY_ERROR},
    {"no-status", attack_no_status, MAY_RESET},
    {"indirect", attack_indirect, MAY_RESET},
    {"empty", attack_empty, MAY_RESET | MAY_ERROR},
    {"rings", attack_rings, MAY_RESET | MAY_IGNORE},
    {"rings-mmio", attack_rings_mmio, MAY_RESET | MAY_IGNORE},
    {"rings-odd", attack_rings_odd, MAY_RESET | MAY_IGNORE},
    {"queue-size", attack_queue_size, MAY_RESET | MAY_IGNORE},
    {"unready", attack_unready, MAY_RESET | MAY_IGNORE | MAY_DO},
    {"queue-number", attack_queue_number, MAY_RESET | MAY_IGNORE},
    {"beyond", attack_beyond, MAY_RESET | MAY_ERROR},
    {"capacity", attack_capacity, MAY_ERROR},
    {"type", attack_type, MAY_ERROR},
    {"odd", attack_odd, MAY_RESET | MAY_ERROR},
};

static bool works(void)
{
    if (!blk_device_start()) {
        return false;
    }
    blk_submit(BLK_READ, 0, data, 512);
    return blk_wait(pulse_hz) == 0;
}

static bool start(void)
{
    if (!blk_device_start()) {
        return false;
    }
    set_sound_read();
    return true;
}

static uint32_t consequence(void)
{
    if (!virtq_pending(&blk_queue)) {
        return 0;
    }
    return status != 0 ? MAY_ERROR : MAY_DO;
}

const struct hostile_target hostile_blk = {
    .name = "blk",
    .attacks = attacks,
    .attack_count = sizeof(attacks) / sizeof(attacks[0]),
    .start = start,
    .consequence = consequence,
    .works = works,
};
