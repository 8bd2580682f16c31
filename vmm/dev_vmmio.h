/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The virtio-mmio transport, version 2 (VIRTIO 1.2, 4.2), around a virtio device: part of
 * that device's state, called from its dev_class. Rules: features are frozen by
 * FEATURES_OK, a queue's configuration while it is ready, queues at DRIVER_OK; what a
 * driver may not do sets NEEDS_RESET or is ignored, and only a reset (status 0) leads out
 * of NEEDS_RESET.
 */
#pragma once

#include "vmm/dev.h"
#include "vmm/virtq.h"

#define VMMIO_QUEUES_MAX          2
#define VMMIO_CONFIG_MAX          64

#define VIRTIO_ID_NET             1
#define VIRTIO_ID_BLK             2

#define VIRTIO_F_EVENT_IDX        (UINT64_C(1) << 29)
#define VIRTIO_F_VERSION_1        (UINT64_C(1) << 32)

#define VIRTIO_STATUS_ACKNOWLEDGE 0x01
#define VIRTIO_STATUS_DRIVER      0x02
#define VIRTIO_STATUS_DRIVER_OK   0x04
#define VIRTIO_STATUS_FEATURES_OK 0x08
#define VIRTIO_STATUS_NEEDS_RESET 0x40
#define VIRTIO_STATUS_FAILED      0x80

#define VIRTIO_IRQ_USED           0x1
#define VIRTIO_IRQ_CONFIG         0x2

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

struct virtio_class {
    uint32_t device_id;
    unsigned queue_count;
    uint16_t queue_size_max;
    uint32_t config_len; /* <= VMMIO_CONFIG_MAX */
    void (*config)(const void *dev,
                   uint8_t *buf); /* all config_len bytes; there are no writable fields */
    void (*notify)(void *dev, struct gmem *gm, unsigned queue, struct effects *fx);
    void (*reset)(void *dev,
                  struct effects *fx); /* driver's reset, after the queues have been */
};

struct vmmio {
    /* From the configuration */
    const struct virtio_class *class;
    uint64_t offered;
    /* State */
    uint32_t device_features_sel, driver_features_sel, queue_sel;
    uint64_t driver_features;
    uint8_t status, interrupt_status;
    uint32_t config_generation;
    struct virtq queue[VMMIO_QUEUES_MAX];
};

void vmmio_init(struct vmmio *vm, const struct virtio_class *class, uint64_t offered);
/* Power-on state; the device's own reset callback is not called. */
void vmmio_reset(struct vmmio *vm, struct effects *fx);
uint64_t vmmio_read(struct vmmio *vm, const void *dev, uint64_t offset, unsigned len);
void vmmio_write(struct vmmio *vm, void *dev, struct gmem *gm, uint64_t offset,
                 unsigned len, uint64_t value, struct effects *fx);

/* DRIVER_OK and nothing wrong: only then may a device touch its queues. */
bool vmmio_running(const struct vmmio *vm);
bool vmmio_has(const struct vmmio *vm, uint64_t feature); /* negotiated */
void vmmio_broken(struct vmmio *vm, struct effects *fx);  /* NEEDS_RESET */
void vmmio_config_changed(struct vmmio *vm, struct effects *fx);
/* Raises the used-buffer interrupt if the driver wants one for what was pushed. */
void vmmio_signal(struct vmmio *vm, struct gmem *gm, unsigned queue, struct effects *fx);
void vmmio_xfer(struct vmmio *vm, struct state_io *io);
