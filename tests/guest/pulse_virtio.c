/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/guest/pulse_virtio.h"

#include "tests/guest/pulse_hw.h"

#define SLOT_BASE           0xfeb00000u
#define SLOT_STRIDE         512u
#define SLOTS_MAX           24 /* microvm has 8 or 24; the lockstep machine 8 */
#define MAGIC               0x74726976u

#define REG_MAGIC           0x000
#define REG_VERSION         0x004
#define REG_DEVICE_ID       0x008
#define REG_DEVICE_FEATURES 0x010
#define REG_DEVICE_SELECT   0x014
#define REG_DRIVER_FEATURES 0x020
#define REG_DRIVER_SELECT   0x024
#define REG_QUEUE_SELECT    0x030
#define REG_QUEUE_SIZE_MAX  0x034
#define REG_QUEUE_SIZE      0x038
#define REG_QUEUE_READY     0x044
#define REG_NOTIFY          0x050
#define REG_IRQ_STATUS      0x060
#define REG_IRQ_ACK         0x064
#define REG_QUEUE_DESC      0x080
#define REG_QUEUE_DRIVER    0x090
#define REG_QUEUE_DEVICE    0x0a0

#define UNCLAIMED_MAX       100

static uint32_t unclaimed;

struct virtio_device virtio_devices[VIRTIO_DEVICES_MAX];
uint32_t virtio_device_count;

void hw_pm_irq(void);
void pulse_irq(uint32_t irq);

/* Slots are used from 0 up without a gap by Gemel; QEMU has all of them there, the empty
 * ones with id 0. */
void virtio_probe(void)
{
    for (uint32_t slot = 0; slot < SLOTS_MAX; slot++) {
        uint32_t base = SLOT_BASE + slot * SLOT_STRIDE;
        uint32_t id;

        if (mmio_read32(base + REG_MAGIC) != MAGIC) {
            break;
        }
        id = mmio_read32(base + REG_DEVICE_ID);
        if (id != 0 && virtio_device_count < VIRTIO_DEVICES_MAX) {
            virtio_devices[virtio_device_count++] =
                (struct virtio_device){.base = base, .id = id};
        }
    }
}

struct virtio_device *virtio_find(uint32_t id, uint32_t nth)
{
    for (uint32_t i = 0; i < virtio_device_count; i++) {
        if (virtio_devices[i].id == id && nth-- == 0) {
            return &virtio_devices[i];
        }
    }
    return NULL;
}

/*
 * Which line a slot has differs between machines: a device whose line is not known is
 * asked at every interrupt. When two came at once a wrong line may be learnt; then nobody
 * owns up to the right one, and all are asked again. The lines are level triggered:
 * acknowledge the device before the 8259.
 */
static bool acknowledge(uint32_t irq, bool ask_all)
{
    bool any = false;

    for (uint32_t i = 0; i < virtio_device_count; i++) {
        struct virtio_device *device = &virtio_devices[i];

        if (device->irq == irq || device->irq == 0 || ask_all) {
            uint32_t status = mmio_read32(device->base + REG_IRQ_STATUS);

            if (status != 0) {
                device->irq = irq;
                mmio_write32(device->base + REG_IRQ_ACK, status);
                any = true;
            }
        }
    }
    return any;
}

/*
 * A line that stays up although no device has anything (QEMU 7.2's broken devices leave
 * theirs so until reset) must not keep us from all work: it is masked until a device is
 * started again. Meanwhile the timer's wake-ups do.
 */
void pulse_irq(uint32_t irq)
{
    pulse_wakes++;
    if (acknowledge(irq, false) || acknowledge(irq, true)) {
        unclaimed = 0;
    } else if (irq != 9 && ++unclaimed == UNCLAIMED_MAX) {
        hw_pic_mask(irq);
    }
    if (irq == 9) {
        hw_pm_irq();
    }
    if (irq == 7) {
        out8(0x20, 0x0b); /* spurious unless in service */
        if ((in8(0x20) & 0x80) == 0) {
            return;
        }
    }
    if (irq == 15) {
        out8(0xa0, 0x0b);
        if ((in8(0xa0) & 0x80) == 0) {
            out8(0x20, 0x20); /* the cascade was real */
            return;
        }
    }
    if (irq >= 8) {
        out8(0xa0, 0x20);
    }
    out8(0x20, 0x20);
}

static bool refuse(const struct virtio_device *device, const char *why)
{
    line_text("pulse: virtio device at ");
    line_hex(device->base);
    line_text(": ");
    line_text(why);
    line_end();
    return false;
}

void virtio_reset(struct virtio_device *device)
{
    mmio_write32(device->base + VIRTIO_REG_STATUS, 0);
    /* A device may take its time (it drains requests): wait for it, but not for ever. */
    for (uint32_t tries = 0;
         mmio_read32(device->base + VIRTIO_REG_STATUS) != 0 && tries < 100000; tries++) {
    }
}

bool virtio_start(struct virtio_device *device, uint32_t wanted_low, uint32_t *ret_low)
{
    uint32_t base = device->base, low;

    if (mmio_read32(base + REG_VERSION) != 2) {
        return refuse(
            device,
            "legacy transport; QEMU needs -global virtio-mmio.force-legacy=false");
    }
    virtio_reset(device);
    if (unclaimed >= UNCLAIMED_MAX) {
        unclaimed = 0;
        hw_pic_unmask();
    }
    mmio_write32(base + VIRTIO_REG_STATUS, 1);
    mmio_write32(base + VIRTIO_REG_STATUS, 3);
    mmio_write32(base + REG_DEVICE_SELECT, 1);
    if ((mmio_read32(base + REG_DEVICE_FEATURES) & 1) == 0) {
        return refuse(device, "does not offer VERSION_1");
    }
    mmio_write32(base + REG_DEVICE_SELECT, 0);
    low = mmio_read32(base + REG_DEVICE_FEATURES) & wanted_low;
    mmio_write32(base + REG_DRIVER_SELECT, 0);
    mmio_write32(base + REG_DRIVER_FEATURES, low);
    mmio_write32(base + REG_DRIVER_SELECT, 1);
    mmio_write32(base + REG_DRIVER_FEATURES, 1);
    mmio_write32(base + VIRTIO_REG_STATUS, 0x0b);
    if ((mmio_read32(base + VIRTIO_REG_STATUS) & 8) == 0) {
        return refuse(device, "refused the features");
    }
    *ret_low = low;
    return true;
}

static void write_address(uint32_t reg, const volatile void *at)
{
    mmio_write32(reg, (uint32_t)(uintptr_t)at);
    mmio_write32(reg + 4, 0);
}

bool virtio_queue_start(struct virtio_device *device, struct virtq *queue, uint16_t index)
{
    uint32_t base = device->base;

    mmio_write32(base + REG_QUEUE_SELECT, index);
    if (mmio_read32(base + REG_QUEUE_SIZE_MAX) < VQ_SIZE) {
        return refuse(device, "has a queue that is too small");
    }
    fill64(queue, 0, sizeof(*queue) / 8);
    queue->index = index;
    queue->notify_reg = base + REG_NOTIFY;
    mmio_write32(base + REG_QUEUE_SIZE, VQ_SIZE);
    write_address(base + REG_QUEUE_DESC, queue->desc);
    write_address(base + REG_QUEUE_DRIVER, &queue->avail);
    write_address(base + REG_QUEUE_DEVICE, &queue->used);
    mmio_write32(base + REG_QUEUE_READY, 1);
    return true;
}

void virtio_driver_ok(struct virtio_device *device)
{
    mmio_write32(device->base + VIRTIO_REG_STATUS, VIRTIO_STATUS_DRIVER_OK);
}
