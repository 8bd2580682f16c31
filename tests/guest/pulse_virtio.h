/* SPDX-License-Identifier: Apache-2.0 */
/* pulse: virtio 1.x over MMIO (virtio 1.2, 4.2): slots, features, split virtqueues
 * without event index or indirection. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define VIRTIO_ID_NET           1
#define VIRTIO_ID_BLK           2
#define VIRTIO_DEVICES_MAX      8
#define VIRTIO_STATUS_DRIVER_OK 0x0f /* with acknowledge, driver and features-ok */
#define VIRTIO_NEEDS_RESET      0x40
#define VIRTIO_REG_STATUS       0x070
#define VIRTIO_REG_CONFIG       0x100

#define VQ_SIZE                 16 /* power of two */
#define VQ_NEXT                 1
#define VQ_WRITE                2

struct virtq_desc {
    uint64_t addr;
    uint32_t len;
    uint16_t flags, next;
};

struct virtq {
    struct virtq_desc desc[VQ_SIZE] __attribute__((aligned(16)));
    struct {
        uint16_t flags, idx, ring[VQ_SIZE], used_event;
    } avail __attribute__((aligned(4)));
    struct {
        uint16_t flags, idx;
        struct {
            uint32_t id, len;
        } ring[VQ_SIZE];
        uint16_t avail_event;
    } used __attribute__((aligned(4)));
    uint32_t notify_reg; /* address */
    uint16_t index, avail_idx, used_seen;
};

struct virtio_device {
    uint32_t base;
    uint32_t id;
    uint32_t irq; /* learnt at the first interrupt; 0 until then */
};

extern struct virtio_device virtio_devices[VIRTIO_DEVICES_MAX];
extern uint32_t virtio_device_count;

static inline uint32_t mmio_read32(uint32_t address)
{
    return *(volatile uint32_t *)(uint64_t)address;
}

static inline uint8_t mmio_read8(uint32_t address)
{
    return *(volatile uint8_t *)(uint64_t)address;
}

static inline void mmio_write32(uint32_t address, uint32_t value)
{
    *(volatile uint32_t *)(uint64_t)address = value;
}

void virtio_probe(void);
/* The `nth` device with this id, or NULL. */
struct virtio_device *virtio_find(uint32_t id, uint32_t nth);
/*
 * Reset, negotiate VERSION_1 and those of wanted_low that are offered; a message on the
 * console and false if the device is legacy, refuses, or has a queue too small. The
 * queues follow, then virtio_driver_ok().
 */
bool virtio_start(struct virtio_device *device, uint32_t wanted_low, uint32_t *ret_low);
bool virtio_queue_start(struct virtio_device *device, struct virtq *queue,
                        uint16_t index);
void virtio_driver_ok(struct virtio_device *device);
void virtio_reset(struct virtio_device *device);

/* Makes the chain that starts at `head` available; the device is told by virtq_notify().
 */
static inline void virtq_push(struct virtq *queue, uint16_t head)
{
    queue->avail.ring[queue->avail_idx % VQ_SIZE] = head;
    queue->avail_idx++;
    __asm__ volatile("" : : : "memory");
    *(volatile uint16_t *)&queue->avail.idx = queue->avail_idx;
}

static inline void virtq_notify(struct virtq *queue)
{
    mmio_write32(queue->notify_reg, queue->index);
}

static inline bool virtq_pending(const struct virtq *queue)
{
    return *(const volatile uint16_t *)&queue->used.idx != queue->used_seen;
}

/* Called when virtq_pending(). */
static inline uint32_t virtq_pop(struct virtq *queue, uint32_t *ret_len)
{
    uint16_t at = queue->used_seen++ % VQ_SIZE;

    __asm__ volatile("" : : : "memory");
    *ret_len = queue->used.ring[at].len;
    return queue->used.ring[at].id;
}
