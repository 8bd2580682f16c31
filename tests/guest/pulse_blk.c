/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/guest/pulse_blk.h"

#include "tests/guest/pulse_hw.h"
#include "tests/guest/record.h"

#define FEATURE_FLUSH (1u << 9)
#define PROBES        5 /* of three descriptors each */

enum append_state { APPEND_IDLE, APPEND_WRITING, APPEND_FLUSHING, APPEND_RETRY };

struct blk blk;
struct virtq blk_queue;

struct blk_request {
    uint32_t type, reserved;
    uint64_t sector;
};

static struct blk_request request, probe_request[PROBES];
static volatile uint8_t request_status, probe_status[PROBES];
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

static void read_failed(uint64_t slot, uint8_t status)
{
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

/* Reads one slot, patiently. */
static void read_slot(uint64_t slot, uint32_t len)
{
    uint8_t status;

    for (;;) {
        blk_submit(BLK_READ, slot * RECORD_SLOT_SECTORS, slot_bytes, len);
        status = blk_wait(UINT32_MAX);
        if (status == 0) {
            return;
        }
        read_failed(slot, status);
    }
}

/* Reads the first sectors of the slots at the same time, one after the other into
 * slot_bytes. False: see the status. */
static bool probe_once(const uint64_t *slot, uint32_t count, uint32_t *ret_failed)
{
    uint32_t done = 0, len;

    for (uint32_t i = 0; i < count; i++) {
        struct virtq_desc *desc = &blk_queue.desc[3 * i];
        uint16_t head = (uint16_t)(3 * i);

        probe_request[i] =
            (struct blk_request){BLK_READ, 0, slot[i] * RECORD_SLOT_SECTORS};
        probe_status[i] = 0xff;
        desc[0] =
            (struct virtq_desc){(uintptr_t)&probe_request[i], sizeof(probe_request[i]),
                                VQ_NEXT, (uint16_t)(head + 1)};
        desc[1] = (struct virtq_desc){(uintptr_t)slot_bytes + 512 * i, 512,
                                      VQ_NEXT | VQ_WRITE, (uint16_t)(head + 2)};
        desc[2] = (struct virtq_desc){(uintptr_t)&probe_status[i], 1, VQ_WRITE, 0};
        virtq_push(&blk_queue, head);
    }
    virtq_notify(&blk_queue);
    while (done < count) {
        uint32_t wakes = pulse_wakes;

        if (virtq_pending(&blk_queue)) {
            virtq_pop(&blk_queue, &len);
            done++;
        } else {
            hw_idle(wakes);
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        if (probe_status[i] != 0) {
            *ret_failed = i;
            return false;
        }
    }
    return true;
}

/*
 * Up to PROBES slots: a start costs few round trips to the disk. Patiently: a disk may be
 * held back or fail for seconds at a failover, and without it pulse has nothing to say.
 */
static void probe(const uint64_t *slot, uint32_t count)
{
    uint32_t failed;

    while (!probe_once(slot, count, &failed)) {
        read_failed(slot[failed], probe_status[failed]);
    }
}

/* seq of the record that a probed header claims for its slot, 0 if none. The crc comes
 * later, for the newest only. */
static uint64_t probed_seq(uint32_t i, uint64_t slot)
{
    const struct record_header *header =
        (const struct record_header *)(slot_bytes + 512 * i);

    if (header->magic != RECORD_MAGIC || header->seq == 0 ||
        (header->seq - 1) % blk.slots != slot) {
        return 0;
    }
    return header->seq;
}

/* The whole record is there. */
static bool record_whole(uint64_t seq)
{
    const struct record_header *header = (const struct record_header *)slot_bytes;

    read_slot((seq - 1) % blk.slots, RECORD_SLOT_BYTES);
    return record_header_check(header) == RECORD_OK && header->seq == seq &&
           record_body_ok(header);
}

/*
 * Slots 0..k hold the newest lap of the ring, the others the lap before or nothing: k
 * lies in [low, high). Each round asks for PROBES points between.
 */
static uint64_t search(uint64_t first, uint64_t low, uint64_t high)
{
    while (high - low > 1) {
        uint64_t slot[PROBES], step = (high - low) / (PROBES + 1) + 1;
        uint32_t count = 0;

        for (uint64_t at = low + step; at < high && count < PROBES; at += step) {
            slot[count++] = at;
        }
        probe(slot, count);
        for (uint32_t i = 0; i < count; i++) {
            if (probed_seq(i, slot[i]) == first + slot[i]) {
                low = slot[i];
            } else {
                high = slot[i];
                break;
            }
        }
    }
    return first + low;
}

/*
 * The newest record may be torn (only that one: each is flushed before the next is
 * written), then the one before it counts. A record before that one that is damaged, too,
 * is beyond us: the witness will say what is missing.
 */
static uint64_t find_newest(bool *ret_torn)
{
    const uint64_t ends[3] = {0, 1, blk.slots - 1};
    uint64_t first, second, newest;

    *ret_torn = false;
    probe(ends, 3);
    first = probed_seq(0, 0);
    second = probed_seq(1, 1);
    newest = probed_seq(2, blk.slots - 1);
    if (first != 0) {
        newest = search(first, 0, blk.slots);
    } else if (second > newest) {
        *ret_torn = true; /* slot 0 was damaged later: not by a power cut */
        newest = search(second - 1, 1, blk.slots);
    } else {
        /* Torn at the start of a lap: the last slot is the newest. Or the disk is empty.
         */
        *ret_torn = newest != 0;
    }
    if (newest != 0 && !record_whole(newest)) {
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

    if (blk.epoch_selector != 0) {
        fw_cfg_read(blk.epoch_selector, &blk.epoch, sizeof(blk.epoch));
    }
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
        } else if (state == APPEND_WRITING && flush_offered != 0 && !blk.no_flush) {
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
