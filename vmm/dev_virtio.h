/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a virtio device is whatever bus it sits on (VIRTIO 1.2, 2): features, status,
 * queues, interrupt status. A device embeds struct virtio as the *first* member of its
 * state, and its callbacks get that state; it knows no transport. A transport (dev_vmmio,
 * dev_vpci) is a register layer over this and keeps selectors and vectors of its own.
 *
 * Rules: features are frozen by FEATURES_OK, a queue's configuration while it is ready,
 * all queues at DRIVER_OK; what a driver may not do sets NEEDS_RESET or is ignored, and
 * only a reset (status 0) leads out of NEEDS_RESET.
 */
#pragma once

#include "vmm/dev.h"
#include "vmm/virtq.h"

#define VIRTIO_CONFIG_MAX         64

#define VIRTIO_ID_NET             1
#define VIRTIO_ID_BLK             2
#define VIRTIO_ID_CONSOLE         3
#define VIRTIO_ID_RNG             4
#define VIRTIO_ID_BALLOON         5

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

/* Callbacks get the device's state, which begins with its struct virtio. */
struct virtio_class {
    uint32_t device_id;
    unsigned queue_count; /* <= VIRTIO_QUEUES_MAX */
    uint16_t queue_size_max;
    uint32_t config_len; /* <= VIRTIO_CONFIG_MAX */
    /* Fills in all config_len bytes. */
    void (*config)(const void *dev, uint8_t *buf);
    /* An aligned write of 1, 2 or 4 bytes inside the configuration, in any status. NULL:
     * there are no writable fields. */
    void (*config_write)(void *dev, uint32_t offset, unsigned len, uint32_t value,
                         struct effects *fx);
    void (*notify)(void *dev, struct gmem *gm, unsigned queue, struct effects *fx);
    /* DRIVER_OK: features and queues are what they will be. May be NULL. */
    void (*started)(void *dev, struct effects *fx);
    /* The driver's reset, after the queues have been. */
    void (*reset)(void *dev, struct effects *fx);
};

struct virtio {
    /* From the configuration */
    const struct virtio_class *class;
    uint64_t offered;
    unsigned queue_count;
    bool no_dma; /* the transport's word: memory is out of reach. Not saved */
    /* State */
    uint64_t driver_features;
    uint8_t status, isr;
    uint32_t config_generation;
    struct virtq queue[VIRTIO_QUEUES_MAX];
};

/* For devices ---------------------------------------------------------------------- */

void virtio_init(struct virtio *v, const struct virtio_class *class, uint64_t offered);
/* Power-on state; the device's own reset callback is not called. */
void virtio_reset(struct virtio *v, struct effects *fx);
/* DRIVER_OK, memory in reach and nothing wrong: only then may a device touch its queues.
 */
bool virtio_running(const struct virtio *v);
bool virtio_has(const struct virtio *v, uint64_t feature); /* negotiated */
void virtio_broken(struct virtio *v, struct effects *fx);  /* NEEDS_RESET */
void virtio_config_changed(struct virtio *v, struct effects *fx);
/* Raises the used-buffer interrupt if the driver wants one for what was pushed. */
void virtio_signal(struct virtio *v, struct gmem *gm, unsigned queue, struct effects *fx);
/* Part of the device's own section, the same under every transport. */
void virtio_xfer(struct virtio *v, struct state_io *io);

/* For transports ------------------------------------------------------------------- */

/* A half of a set of 64 feature bits; halves other than 0 and 1 are empty. */
uint32_t virtio_features_word(uint64_t features, uint32_t sel);
void virtio_write_driver_features(struct virtio *v, uint32_t sel, uint32_t value);
/* The driver's reset when value is 0: selectors and vectors are the transport's to clear.
 */
void virtio_write_status(struct virtio *v, uint8_t value, struct effects *fx);
struct virtq *virtio_queue(struct virtio *v, uint32_t index); /* NULL: there is none */
/* The queue whose configuration the driver may change now, or NULL: not a queue, ready,
 * or DRIVER_OK (CVE-2026-5747's class). */
struct virtq *virtio_queue_to_configure(struct virtio *v, uint32_t index);
void virtio_queue_enable(struct virtio *v, struct gmem *gm, struct virtq *q,
                         struct effects *fx);
/* May the device reach memory? One that is running and may no more drops what is under
 * way and needs a reset, as with QEMU; one that waited for it looks at its queues. */
void virtio_allow_dma(struct virtio *v, struct gmem *gm, bool allowed,
                      struct effects *fx);
/* Replaces one half of an address. */
void virtio_set_half(uint64_t *address, bool high, uint32_t value);
/* A doorbell, from a register or as INPUT_NOTIFY; ignored unless the queue is in use. */
void virtio_notify(struct virtio *v, struct gmem *gm, uint64_t queue, struct effects *fx);
/* Aligned reads of 1, 2, 4 or 8 bytes; what lies outside reads 0. */
uint64_t virtio_config_read(const struct virtio *v, uint64_t offset, unsigned len);
void virtio_config_write(struct virtio *v, uint64_t offset, unsigned len, uint64_t value,
                         struct effects *fx);
