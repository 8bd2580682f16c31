/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/guest/pulse_blk.h"

#include "tests/guest/pulse_hw.h"
#include "tests/guest/record.h"

#define FEATURE_FLUSH (1u << 9)

enum append_state { APPEND_IDLE, APPEND_WRITING, APPEND_FLUSHING, APPEND_RETRY };

struct blk blk;
struct virtq blk_queue;

static struct {
    uint32_t type, reserved;
    uint64_t sector;
} request;
static volatile uint8_t request_status;
static enum append_state state;
static uint32_t retry_at_tick, flush_offered;
static uint8_t slot_bytes[RECORD_SLOT_BYTES]
    __attribute__((aligned(4096), section(".bss.noinit")));

/* One request at a time, in descriptors 0 to 2. */
void blk_submit(enum blk_op op, uint64_t sector, void *data, uint32_t len)
{
    uint16_t status_desc = len > 0 ? 2 : 1;

    request.type = op;
    request.sector = sector;
    request_status = 0xff;
    blk_queue.desc[0] =
        (struct virtq_desc){(uintptr_t)&request, sizeof(request), VQ_NEXT, 1};
    if (len > 0) {
        blk_queue.desc[1] =
            (struct virtq_desc){(uintptr_t)data, len,
                                (uint16_t)(VQ_NEXT | (op == BLK_READ ? VQ_WRITE : 0)), 2};
    }
    blk_queue.desc[status_desc] =
        (struct virtq_desc){(uintptr_t)&request_status, 1, VQ_WRITE, 0};
    virtq_push(&blk_queue, 0);
    virtq_notify(&blk_queue);
}

uint8_t blk_wait(uint32_t ticks_max)
{
    uint32_t start = pulse_ticks, len;

    for (;;) {
        uint32_t wakes = pulse_wakes;

        if (virtq_pending(&blk_queue)) {
            virtq_pop(&blk_queue, &len);
            return request_status;
        }
        if (pulse_ticks - start > ticks_max) {
            return 0xff;
        }
        hw_idle(wakes);
    }
}

bool blk_device_start(void)
{
    if (!virtio_start(blk.device, FEATURE_FLUSH, &flush_offered) ||
        !virtio_queue_start(blk.device, &blk_queue, 0)) {
        return false;
    }
    virtio_driver_ok(blk.device);
    return true;
}

/* Reads one slot, its first sector or all of it, patiently: a disk may be held back for
 * seconds at a failover. */
static void read_slot(uint64_t slot, uint32_t len)
{
    for (;;) {
        uint8_t status;

        blk_submit(BLK_READ, slot * RECORD_SLOT_SECTORS, slot_bytes, len);
        status = blk_wait(UINT32_MAX);
        if (status == 0) {
            return;
        }
        line_text("pulse: disk read error slot=");
        line_u64(slot);
        line_text(" status=");
        line_u64(status);
        line_end();
        serial_drain();
        for (uint32_t start = pulse_ticks; pulse_ticks - start < pulse_hz / 10 + 1;) {
            hw_idle(pulse_wakes);
        }
    }
}

/* seq of the record in a slot, 0 if there is none that is valid and belongs there. */
static uint64_t slot_seq(uint64_t slot, uint32_t len)
{
    const struct record_header *header = (const struct record_header *)slot_bytes;

    read_slot(slot, len);
    if (record_header_check(header) != RECORD_OK ||
        (header->seq - 1) % blk.slots != slot) {
        return 0;
    }
    if (len == RECORD_SLOT_BYTES && !record_body_ok(header)) {
        return 0;
    }
    return header->seq;
}

/*
 * Slots 0..k hold the newest lap of the ring, the others the lap before or nothing: a
 * binary search for k. The newest record may be torn (only that one: each is flushed
 * before the next), then the one before it counts.
 */
static uint64_t find_newest(bool *ret_torn)
{
    uint64_t first = slot_seq(0, 512), low = 0, high = blk.slots, newest;

    *ret_torn = false;
    if (first == 0) {
        /* Empty, or slot 0 was being rewritten at a lap's start: then the last slot holds
         * the newest. */
        newest = slot_seq(blk.slots - 1, 512);
        if (newest == 0 && slot_seq(1, 512) != 0) {
            *ret_torn = true; /* not possible on a sound disk; the witness will say what
                                 is missing */
            newest = 1;
        }
        return newest;
    }
    while (high - low > 1) {
        uint64_t middle = low + (high - low) / 2;

        if (slot_seq(middle, 512) == first + middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    newest = first + low;
    if (slot_seq(low, RECORD_SLOT_BYTES) == 0) {
        *ret_torn = true;
        newest--;
    }
    return newest;
}

static uint32_t mix32(uint32_t x)
{
    x ^= x >> 16;
    x *= 0x85ebca6bu;
    x ^= x >> 13;
    x *= 0xc2b2ae35u;
    return x ^ x >> 16;
}

bool blk_init(void)
{
    uint64_t sectors;
    bool torn;

    blk.device = virtio_find(VIRTIO_ID_BLK, 0);
    if (blk.device == NULL || !blk_device_start()) {
        blk.device = NULL;
        return false;
    }
    sectors = mmio_read32(blk.device->base + VIRTIO_REG_CONFIG) |
              (uint64_t)mmio_read32(blk.device->base + VIRTIO_REG_CONFIG + 4) << 32;
    blk.slots = sectors / RECORD_SLOT_SECTORS;
    if (blk.slots < 2) {
        line_text("pulse: disk too small, needs 8 KiB");
        line_end();
        blk.device = NULL;
        return false;
    }
    blk.acked_seq = find_newest(&torn);
    blk.boot =
        mix32(hw_entropy() ^ mix32((uint32_t)blk.epoch ^ (uint32_t)blk.acked_seq << 8));
    line_text("pulse: disk slots=");
    line_u64(blk.slots);
    line_text(" newest=");
    line_u64(blk.acked_seq);
    line_text(torn ? " torn=1" : " torn=0");
    line_text(flush_offered != 0 ? " flush=1" : " flush=0");
    line_end();
    return true;
}

static void append_start(void)
{
    struct record_header *header = (struct record_header *)slot_bytes;
    uint64_t seq = blk.acked_seq + 1;

    header->magic = RECORD_MAGIC;
    header->len = blk.record_bytes;
    header->seq = seq;
    header->epoch = blk.epoch;
    header->boot = blk.boot;
    header->crc = record_header_crc(header);
    fill64(header + 1, record_body_word(header),
           (blk.record_bytes - sizeof(*header)) / 8);
    state = APPEND_WRITING;
    blk_submit(BLK_WRITE, (seq - 1) % blk.slots * RECORD_SLOT_SECTORS, slot_bytes,
               blk.record_bytes);
}

/* The record is not reported; the same one is tried again. */
static void append_failed(uint8_t status)
{
    blk.errors++;
    line_text(state == APPEND_WRITING ? "pulse: disk write error seq="
                                      : "pulse: disk flush error seq=");
    line_u64(blk.acked_seq + 1);
    line_text(" status=");
    line_u64(status);
    line_end();
    state = APPEND_RETRY;
    retry_at_tick = pulse_ticks + pulse_hz / 10 + 1;
}

static void append_done(void)
{
    state = APPEND_IDLE;
    blk.acked_seq++;
    blk.done++;
    if (blk.quiet) {
        return;
    }
    line_text("seq=");
    line_u64(blk.acked_seq);
    line_text(" epoch=");
    line_u64(blk.epoch);
    line_end();
}

bool blk_busy(void)
{
    return state == APPEND_WRITING || state == APPEND_FLUSHING;
}

bool blk_step(void)
{
    uint32_t len;

    if (blk_busy()) {
        if (!virtq_pending(&blk_queue)) {
            return false;
        }
        virtq_pop(&blk_queue, &len);
        if (request_status != 0) {
            append_failed(request_status);
        } else if (state == APPEND_WRITING && flush_offered != 0) {
            state = APPEND_FLUSHING;
            blk_submit(BLK_FLUSH, 0, NULL, 0);
        } else {
            append_done();
        }
        return true;
    }
    if (state == APPEND_RETRY) {
        if ((int32_t)(pulse_ticks - retry_at_tick) < 0) {
            return false;
        }
        append_start();
        return true;
    }
    if (blk.device == NULL || blk.wanted == 0) {
        return false;
    }
    blk.wanted--;
    append_start();
    return true;
}
