/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/dev_vmmio.h"

#include <string.h>

#define MAGIC     0x74726976 /* "virt" */
#define VERSION   2
#define VENDOR_ID 0x4c454d47 /* "GMEL" */
#define STATUS_KNOWN                                                                     \
    (VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER | VIRTIO_STATUS_DRIVER_OK |        \
     VIRTIO_STATUS_FEATURES_OK | VIRTIO_STATUS_FAILED)

void vmmio_init(struct vmmio *vm, const struct virtio_class *class, uint64_t offered)
{
    memset(vm, 0, sizeof *vm);
    vm->class = class;
    vm->offered = offered;
}

void vmmio_reset(struct vmmio *vm, struct effects *fx)
{
    vm->device_features_sel = vm->driver_features_sel = vm->queue_sel = 0;
    vm->driver_features = 0;
    vm->status = vm->interrupt_status = 0;
    for (unsigned i = 0; i < vm->class->queue_count; i++) {
        virtq_reset(&vm->queue[i], vm->class->queue_size_max);
    }
    effects_irq(fx, false);
}

bool vmmio_running(const struct vmmio *vm)
{
    return (vm->status & (VIRTIO_STATUS_DRIVER_OK | VIRTIO_STATUS_NEEDS_RESET |
                          VIRTIO_STATUS_FAILED)) == VIRTIO_STATUS_DRIVER_OK;
}

bool vmmio_has(const struct vmmio *vm, uint64_t feature)
{
    return (vm->status & VIRTIO_STATUS_FEATURES_OK) != 0 &&
           (vm->driver_features & feature) != 0;
}

static void raise_irq(struct vmmio *vm, uint8_t bits, struct effects *fx)
{
    vm->interrupt_status |= bits;
    effects_irq(fx, vm->interrupt_status != 0);
}

void vmmio_broken(struct vmmio *vm, struct effects *fx)
{
    if ((vm->status & VIRTIO_STATUS_NEEDS_RESET) != 0) {
        return;
    }
    vm->status |= VIRTIO_STATUS_NEEDS_RESET;
    if ((vm->status & VIRTIO_STATUS_DRIVER_OK) != 0) { /* 2.1.2 */
        raise_irq(vm, VIRTIO_IRQ_CONFIG, fx);
    }
}

void vmmio_config_changed(struct vmmio *vm, struct effects *fx)
{
    vm->config_generation++;
    if (vmmio_running(vm)) {
        raise_irq(vm, VIRTIO_IRQ_CONFIG, fx);
    }
}

void vmmio_signal(struct vmmio *vm, struct gmem *gm, unsigned queue, struct effects *fx)
{
    if (virtq_wants_interrupt(&vm->queue[queue], gm, vmmio_has(vm, VIRTIO_F_EVENT_IDX))) {
        raise_irq(vm, VIRTIO_IRQ_USED, fx);
    }
}

static struct virtq *selected(struct vmmio *vm)
{
    return vm->queue_sel < vm->class->queue_count ? &vm->queue[vm->queue_sel] : NULL;
}

static uint32_t features_word(uint64_t features, uint32_t sel)
{
    return sel < 2 ? (uint32_t)(features >> (32 * sel)) : 0;
}

static uint64_t read_config(const struct vmmio *vm, const void *dev, uint64_t offset,
                            unsigned len)
{
    uint8_t config[VMMIO_CONFIG_MAX + 8] = {0};
    uint64_t value = 0;

    if (offset % len != 0 || offset >= vm->class->config_len) {
        return 0;
    }
    vm->class->config(dev, config);
    memcpy(&value, config + offset, len); /* bytes past config_len are zeros */
    return value;
}

static uint32_t read_register(struct vmmio *vm, uint64_t offset)
{
    const struct virtq *q = selected(vm);

    switch (offset) {
    case VMMIO_MAGIC:
        return MAGIC;
    case VMMIO_VERSION:
        return VERSION;
    case VMMIO_DEVICE_ID:
        return vm->class->device_id;
    case VMMIO_VENDOR_ID:
        return VENDOR_ID;
    case VMMIO_DEVICE_FEATURES:
        return features_word(vm->offered, vm->device_features_sel);
    case VMMIO_QUEUE_NUM_MAX:
        return q != NULL ? q->size_max : 0;
    case VMMIO_QUEUE_READY:
        return q != NULL && q->ready;
    case VMMIO_INTERRUPT_STATUS:
        return vm->interrupt_status;
    case VMMIO_STATUS:
        return vm->status;
    case VMMIO_CONFIG_GENERATION:
        return vm->config_generation;
    default:
        /* No shared memory region exists: length and base read as all ones (4.2.2). */
        return offset >= VMMIO_SHM_LEN_LOW && offset <= VMMIO_SHM_BASE_HIGH ? UINT32_MAX
                                                                            : 0;
    }
}

uint64_t vmmio_read(struct vmmio *vm, const void *dev, uint64_t offset, unsigned len)
{
    if (offset >= VMMIO_CONFIG) {
        return read_config(vm, dev, offset - VMMIO_CONFIG, len);
    }
    if (len != 4 || offset % 4 != 0) {
        return 0;
    }
    return read_register(vm, offset);
}

static void write_driver_features(struct vmmio *vm, uint32_t value)
{
    uint32_t shift = 32 * vm->driver_features_sel;

    if ((vm->status & VIRTIO_STATUS_FEATURES_OK) != 0 || vm->driver_features_sel > 1) {
        return;
    }
    vm->driver_features &= ~((uint64_t)UINT32_MAX << shift);
    vm->driver_features |= (uint64_t)value << shift;
}

static bool features_acceptable(const struct vmmio *vm)
{
    return (vm->driver_features & ~vm->offered) == 0 &&
           (vm->driver_features & VIRTIO_F_VERSION_1) != 0;
}

static void write_status(struct vmmio *vm, void *dev, uint8_t value, struct effects *fx)
{
    uint8_t added =
        value & STATUS_KNOWN & (uint8_t)~vm->status; /* bits are cleared by reset only */

    if (value == 0) {
        vmmio_reset(vm, fx);
        vm->class->reset(dev, fx);
        return;
    }
    if ((added & VIRTIO_STATUS_FEATURES_OK) != 0 && !features_acceptable(vm)) {
        added &= (uint8_t) ~(VIRTIO_STATUS_FEATURES_OK | VIRTIO_STATUS_DRIVER_OK);
    }
    if ((added & VIRTIO_STATUS_DRIVER_OK) != 0 &&
        ((vm->status | added) & VIRTIO_STATUS_FEATURES_OK) == 0) {
        added &= (uint8_t)~VIRTIO_STATUS_DRIVER_OK;
    }
    vm->status |= added;
}

static void write_queue_ready(struct vmmio *vm, struct gmem *gm, struct virtq *q,
                              bool ready, struct effects *fx)
{
    if (ready && !q->ready) {
        if (!virtq_enable(q, gm)) {
            vmmio_broken(vm, fx);
        }
    } else if (!ready) {
        q->ready = false;
    }
}

static void set_half(uint64_t *address, unsigned shift, uint32_t value)
{
    *address = (*address & ~((uint64_t)UINT32_MAX << shift)) | (uint64_t)value << shift;
}

/* Ignored while the queue is ready, and for good once the driver said DRIVER_OK. */
static void write_queue_config(struct vmmio *vm, struct gmem *gm, uint64_t offset,
                               uint32_t value, struct effects *fx)
{
    struct virtq *q = selected(vm);

    if (q == NULL || (vm->status & VIRTIO_STATUS_DRIVER_OK) != 0 ||
        (q->ready && offset != VMMIO_QUEUE_READY)) {
        return;
    }
    switch (offset) {
    case VMMIO_QUEUE_NUM:
        q->size = value;
        break;
    case VMMIO_QUEUE_READY:
        write_queue_ready(vm, gm, q, (value & 1) != 0, fx);
        break;
    case VMMIO_QUEUE_DESC_LOW:
    case VMMIO_QUEUE_DESC_HIGH:
        set_half(&q->desc, offset == VMMIO_QUEUE_DESC_HIGH ? 32 : 0, value);
        break;
    case VMMIO_QUEUE_AVAIL_LOW:
    case VMMIO_QUEUE_AVAIL_HIGH:
        set_half(&q->avail, offset == VMMIO_QUEUE_AVAIL_HIGH ? 32 : 0, value);
        break;
    case VMMIO_QUEUE_USED_LOW:
    case VMMIO_QUEUE_USED_HIGH:
        set_half(&q->used, offset == VMMIO_QUEUE_USED_HIGH ? 32 : 0, value);
        break;
    default:
        break;
    }
}

void vmmio_write(struct vmmio *vm, void *dev, struct gmem *gm, uint64_t offset,
                 unsigned len, uint64_t value64, struct effects *fx)
{
    uint32_t value = (uint32_t)value64;

    if (len != 4 || offset % 4 != 0 || offset >= VMMIO_CONFIG) {
        return;
    }
    switch (offset) {
    case VMMIO_DEVICE_FEATURES_SEL:
        vm->device_features_sel = value;
        break;
    case VMMIO_DRIVER_FEATURES:
        write_driver_features(vm, value);
        break;
    case VMMIO_DRIVER_FEATURES_SEL:
        vm->driver_features_sel = value;
        break;
    case VMMIO_QUEUE_SEL:
        vm->queue_sel = value;
        break;
    case VMMIO_QUEUE_NOTIFY:
        if (vmmio_running(vm) && value < vm->class->queue_count &&
            vm->queue[value].ready) {
            vm->class->notify(dev, gm, value, fx);
        }
        break;
    case VMMIO_INTERRUPT_ACK:
        vm->interrupt_status &= (uint8_t)~value;
        effects_irq(fx, vm->interrupt_status != 0);
        break;
    case VMMIO_STATUS:
        write_status(vm, dev, (uint8_t)value, fx);
        break;
    default:
        write_queue_config(vm, gm, offset, value, fx);
        break;
    }
}

void vmmio_xfer(struct vmmio *vm, struct state_io *io)
{
    uint64_t offered = vm->offered;

    state_u64(io, &offered);
    state_u32(io, &vm->device_features_sel);
    state_u32(io, &vm->driver_features_sel);
    state_u32(io, &vm->queue_sel);
    state_u64(io, &vm->driver_features);
    state_u8(io, &vm->status);
    state_u8(io, &vm->interrupt_status);
    state_u32(io, &vm->config_generation);
    for (unsigned i = 0; i < vm->class->queue_count; i++) {
        virtq_xfer(&vm->queue[i], io);
    }
    if (offered != vm->offered) { /* the driver may have seen the other set already */
        state_refuse(io, "features");
    }
    if ((vm->status & ~(STATUS_KNOWN | VIRTIO_STATUS_NEEDS_RESET)) != 0 ||
        (vmmio_has(vm, UINT64_MAX) && !features_acceptable(vm)) ||
        ((vm->status & VIRTIO_STATUS_DRIVER_OK) != 0 &&
         (vm->status & VIRTIO_STATUS_FEATURES_OK) == 0)) {
        state_refuse(io, "status");
    }
    if ((vm->interrupt_status & ~(VIRTIO_IRQ_USED | VIRTIO_IRQ_CONFIG)) != 0) {
        state_refuse(io, "interrupt_status");
    }
}
