/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/dev_vmmio.h"

#include <string.h>

#define MAGIC     0x74726976 /* "virt" */
#define VERSION   2
#define VENDOR_ID 0x4c454d47 /* "GMEL" */

void vmmio_reset(struct vmmio *vm)
{
    memset(vm, 0, sizeof *vm);
}

static uint32_t read_register(const struct vmmio *vm, struct virtio *v, uint64_t offset)
{
    const struct virtq *q = virtio_queue(v, vm->queue_sel);

    switch (offset) {
    case VMMIO_MAGIC:
        return MAGIC;
    case VMMIO_VERSION:
        return VERSION;
    case VMMIO_DEVICE_ID:
        return v->class->device_id;
    case VMMIO_VENDOR_ID:
        return VENDOR_ID;
    case VMMIO_DEVICE_FEATURES:
        return virtio_features_word(v->offered, vm->device_features_sel);
    case VMMIO_QUEUE_NUM_MAX:
        return q != NULL ? q->size_max : 0;
    case VMMIO_QUEUE_READY:
        return q != NULL && q->ready;
    case VMMIO_INTERRUPT_STATUS:
        return v->isr;
    case VMMIO_STATUS:
        return v->status;
    case VMMIO_CONFIG_GENERATION:
        return v->config_generation;
    default:
        /* No shared memory region exists: length and base read as all ones (4.2.2). */
        return offset >= VMMIO_SHM_LEN_LOW && offset <= VMMIO_SHM_BASE_HIGH ? UINT32_MAX
                                                                            : 0;
    }
}

uint64_t vmmio_read(const struct vmmio *vm, struct virtio *v, uint64_t offset,
                    unsigned len)
{
    if (offset >= VMMIO_CONFIG) {
        return virtio_config_read(v, offset - VMMIO_CONFIG, len);
    }
    if (len != 4 || offset % 4 != 0) {
        return 0;
    }
    return read_register(vm, v, offset);
}

static void write_status(struct vmmio *vm, struct virtio *v, uint8_t value,
                         struct effects *fx)
{
    virtio_write_status(v, value, fx);
    if (value == 0) {
        vmmio_reset(vm);
    }
}

static void write_queue_ready(struct virtio *v, struct gmem *gm, uint32_t index,
                              bool ready, struct effects *fx)
{
    struct virtq *q = virtio_queue(v, index);

    if (q == NULL || (v->status & VIRTIO_STATUS_DRIVER_OK) != 0) {
        return;
    }
    if (ready && !q->ready) {
        virtio_queue_enable(v, gm, q, fx);
    } else if (!ready) {
        q->ready = false;
    }
}

static void write_queue_config(const struct vmmio *vm, struct virtio *v, uint64_t offset,
                               uint32_t value)
{
    struct virtq *q = virtio_queue_to_configure(v, vm->queue_sel);

    if (q == NULL) {
        return;
    }
    switch (offset) {
    case VMMIO_QUEUE_NUM:
        q->size = value;
        break;
    case VMMIO_QUEUE_DESC_LOW:
    case VMMIO_QUEUE_DESC_HIGH:
        virtio_set_half(&q->desc, offset == VMMIO_QUEUE_DESC_HIGH, value);
        break;
    case VMMIO_QUEUE_AVAIL_LOW:
    case VMMIO_QUEUE_AVAIL_HIGH:
        virtio_set_half(&q->avail, offset == VMMIO_QUEUE_AVAIL_HIGH, value);
        break;
    case VMMIO_QUEUE_USED_LOW:
    case VMMIO_QUEUE_USED_HIGH:
        virtio_set_half(&q->used, offset == VMMIO_QUEUE_USED_HIGH, value);
        break;
    default:
        break;
    }
}

static void write_register(struct vmmio *vm, struct virtio *v, struct gmem *gm,
                           uint64_t offset, uint32_t value, struct effects *fx)
{
    switch (offset) {
    case VMMIO_DEVICE_FEATURES_SEL:
        vm->device_features_sel = value;
        break;
    case VMMIO_DRIVER_FEATURES:
        virtio_write_driver_features(v, vm->driver_features_sel, value);
        break;
    case VMMIO_DRIVER_FEATURES_SEL:
        vm->driver_features_sel = value;
        break;
    case VMMIO_QUEUE_SEL:
        vm->queue_sel = value;
        break;
    case VMMIO_QUEUE_READY:
        write_queue_ready(v, gm, vm->queue_sel, (value & 1) != 0, fx);
        break;
    case VMMIO_QUEUE_NOTIFY:
        virtio_notify(v, gm, value, fx);
        break;
    case VMMIO_INTERRUPT_ACK:
        v->isr &= (uint8_t)~value;
        effects_irq(fx, v->isr != 0);
        break;
    case VMMIO_STATUS:
        write_status(vm, v, (uint8_t)value, fx);
        break;
    default:
        write_queue_config(vm, v, offset, value);
        break;
    }
}

void vmmio_write(struct vmmio *vm, struct virtio *v, struct gmem *gm, uint64_t offset,
                 unsigned len, uint64_t value, struct effects *fx)
{
    if (offset >= VMMIO_CONFIG) {
        virtio_config_write(v, offset - VMMIO_CONFIG, len, value, fx);
    } else if (len == 4 && offset % 4 == 0) {
        write_register(vm, v, gm, offset, (uint32_t)value, fx);
    }
}

int vmmio_xfer(void *vmmio, struct state_io *io)
{
    struct vmmio *vm = vmmio;

    state_u32(io, &vm->device_features_sel);
    state_u32(io, &vm->driver_features_sel);
    state_u32(io, &vm->queue_sel);
    return state_end(io);
}
