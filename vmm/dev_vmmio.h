/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The virtio-mmio transport, version 2 (VIRTIO 1.2, 4.2): 512 bytes of registers over a
 * struct virtio. Its interrupt is one level: any bit of the interrupt status.
 */
#pragma once

#include "vmm/dev_virtio.h"

/* Register offsets, for drivers in tests. */
enum vmmio_reg {
    VMMIO_MAGIC = 0x000,
    VMMIO_VERSION = 0x004,
    VMMIO_DEVICE_ID = 0x008,
    VMMIO_VENDOR_ID = 0x00c,
    VMMIO_DEVICE_FEATURES = 0x010,
    VMMIO_DEVICE_FEATURES_SEL = 0x014,
    VMMIO_DRIVER_FEATURES = 0x020,
    VMMIO_DRIVER_FEATURES_SEL = 0x024,
    VMMIO_QUEUE_SEL = 0x030,
    VMMIO_QUEUE_NUM_MAX = 0x034,
    VMMIO_QUEUE_NUM = 0x038,
    VMMIO_QUEUE_READY = 0x044,
    VMMIO_QUEUE_NOTIFY = 0x050,
    VMMIO_INTERRUPT_STATUS = 0x060,
    VMMIO_INTERRUPT_ACK = 0x064,
    VMMIO_STATUS = 0x070,
    VMMIO_QUEUE_DESC_LOW = 0x080,
    VMMIO_QUEUE_DESC_HIGH = 0x084,
    VMMIO_QUEUE_AVAIL_LOW = 0x090,
    VMMIO_QUEUE_AVAIL_HIGH = 0x094,
    VMMIO_QUEUE_USED_LOW = 0x0a0,
    VMMIO_QUEUE_USED_HIGH = 0x0a4,
    VMMIO_SHM_LEN_LOW = 0x0b0,
    VMMIO_SHM_BASE_HIGH = 0x0bc,
    VMMIO_CONFIG_GENERATION = 0x0fc,
    VMMIO_CONFIG = 0x100,
};

struct vmmio {
    uint32_t device_features_sel, driver_features_sel, queue_sel;
};

void vmmio_reset(struct vmmio *vm);
uint64_t vmmio_read(const struct vmmio *vm, struct virtio *v, uint64_t offset,
                    unsigned len);
void vmmio_write(struct vmmio *vm, struct virtio *v, struct gmem *gm, uint64_t offset,
                 unsigned len, uint64_t value, struct effects *fx);
int vmmio_xfer(void *vmmio, struct state_io *io); /* a section of its own */
