/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/dev_virtio.h"

#include <string.h>

#define STATUS_KNOWN                                                                     \
    (VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER | VIRTIO_STATUS_DRIVER_OK |        \
     VIRTIO_STATUS_FEATURES_OK | VIRTIO_STATUS_FAILED)

_Static_assert(VIRTIO_QUEUES_MAX < 31, "effects.queue_irq has a bit for each");

void virtio_init(struct virtio *v, const struct virtio_class *class, uint64_t offered)
{
    memset(v, 0, sizeof *v);
    v->class = class;
    v->offered = offered;
    v->queue_count = class->queue_count;
}

void virtio_reset(struct virtio *v, struct effects *fx)
{
    v->driver_features = 0;
    v->status = v->isr = 0;
    for (unsigned i = 0; i < v->queue_count; i++) {
        virtq_reset(&v->queue[i], v->class->queue_size_max);
    }
    fx->queue_irq = 0;
    effects_irq(fx, false);
}

bool virtio_running(const struct virtio *v)
{
    return !v->no_dma &&
           (v->status & (VIRTIO_STATUS_DRIVER_OK | VIRTIO_STATUS_NEEDS_RESET |
                         VIRTIO_STATUS_FAILED)) == VIRTIO_STATUS_DRIVER_OK;
}

bool virtio_has(const struct virtio *v, uint64_t feature)
{
    return (v->status & VIRTIO_STATUS_FEATURES_OK) != 0 &&
           (v->driver_features & feature) != 0;
}

static void raise_irq(struct virtio *v, uint8_t isr_bit, uint32_t queue_irq,
                      struct effects *fx)
{
    v->isr |= isr_bit;
    fx->queue_irq |= queue_irq;
    effects_irq(fx, true);
}

void virtio_broken(struct virtio *v, struct effects *fx)
{
    if ((v->status & VIRTIO_STATUS_NEEDS_RESET) != 0) {
        return;
    }
    v->status |= VIRTIO_STATUS_NEEDS_RESET;
    if ((v->status & VIRTIO_STATUS_DRIVER_OK) != 0) { /* 2.1.2 */
        raise_irq(v, VIRTIO_IRQ_CONFIG, EFFECT_IRQ_CONFIG, fx);
    }
}

void virtio_config_changed(struct virtio *v, struct effects *fx)
{
    v->config_generation++;
    if (virtio_running(v)) {
        raise_irq(v, VIRTIO_IRQ_CONFIG, EFFECT_IRQ_CONFIG, fx);
    }
}

void virtio_signal(struct virtio *v, struct gmem *gm, unsigned queue, struct effects *fx)
{
    if (virtq_wants_interrupt(&v->queue[queue], gm, virtio_has(v, VIRTIO_F_EVENT_IDX))) {
        raise_irq(v, VIRTIO_IRQ_USED, UINT32_C(1) << queue, fx);
    }
}

/* For transports ------------------------------------------------------------------- */

uint32_t virtio_features_word(uint64_t features, uint32_t sel)
{
    return sel < 2 ? (uint32_t)(features >> (32 * sel)) : 0;
}

void virtio_set_half(uint64_t *address, bool high, uint32_t value)
{
    unsigned shift = high ? 32 : 0;

    *address = (*address & ~((uint64_t)UINT32_MAX << shift)) | (uint64_t)value << shift;
}

void virtio_write_driver_features(struct virtio *v, uint32_t sel, uint32_t value)
{
    if ((v->status & VIRTIO_STATUS_FEATURES_OK) == 0 && sel < 2) {
        virtio_set_half(&v->driver_features, sel == 1, value);
    }
}

static bool features_acceptable(const struct virtio *v)
{
    return (v->driver_features & ~v->offered) == 0 &&
           (v->driver_features & VIRTIO_F_VERSION_1) != 0;
}

void virtio_write_status(struct virtio *v, uint8_t value, struct effects *fx)
{
    uint8_t added =
        value & STATUS_KNOWN & (uint8_t)~v->status; /* bits are cleared by reset only */

    if (value == 0) {
        virtio_reset(v, fx);
        v->class->reset(v, fx);
        return;
    }
    if ((added & VIRTIO_STATUS_FEATURES_OK) != 0 && !features_acceptable(v)) {
        added &= (uint8_t) ~(VIRTIO_STATUS_FEATURES_OK | VIRTIO_STATUS_DRIVER_OK);
    }
    if ((added & VIRTIO_STATUS_DRIVER_OK) != 0 &&
        ((v->status | added) & VIRTIO_STATUS_FEATURES_OK) == 0) {
        added &= (uint8_t)~VIRTIO_STATUS_DRIVER_OK;
    }
    v->status |= added;
    if ((added & VIRTIO_STATUS_DRIVER_OK) != 0 && v->class->started != NULL) {
        v->class->started(v, fx);
    }
}

struct virtq *virtio_queue(struct virtio *v, uint32_t index)
{
    return index < v->queue_count ? &v->queue[index] : NULL;
}

struct virtq *virtio_queue_to_configure(struct virtio *v, uint32_t index)
{
    struct virtq *q = virtio_queue(v, index);

    return q == NULL || q->ready || (v->status & VIRTIO_STATUS_DRIVER_OK) != 0 ? NULL : q;
}

void virtio_queue_enable(struct virtio *v, struct gmem *gm, struct virtq *q,
                         struct effects *fx)
{
    if (!virtq_enable(q, gm)) {
        virtio_broken(v, fx);
    }
}

void virtio_notify(struct virtio *v, struct gmem *gm, uint64_t queue, struct effects *fx)
{
    if (virtio_running(v) && queue < v->queue_count && v->queue[queue].ready) {
        v->class->notify(v, gm, (unsigned)queue, fx);
    }
}

void virtio_allow_dma(struct virtio *v, struct gmem *gm, bool allowed, struct effects *fx)
{
    bool was_running = virtio_running(v);

    if (v->no_dma == !allowed) {
        return;
    }
    v->no_dma = !allowed;
    if (was_running) {
        v->class->reset(v, fx); /* answers of a disk name nothing any more */
        virtio_broken(v, fx);
    }
    for (unsigned q = 0; allowed && q < v->queue_count; q++) {
        virtio_notify(v, gm, q, fx);
    }
}

uint64_t virtio_config_read(const struct virtio *v, uint64_t offset, unsigned len)
{
    uint8_t config[VIRTIO_CONFIG_MAX + 8] = {0};
    uint64_t value = 0;

    if (offset % len != 0 || offset >= v->class->config_len) {
        return 0;
    }
    v->class->config(v, config);
    memcpy(&value, config + offset, len); /* bytes past config_len are zeros */
    return value;
}

void virtio_config_write(struct virtio *v, uint64_t offset, unsigned len, uint64_t value,
                         struct effects *fx)
{
    if (v->class->config_write != NULL && len <= 4 && offset % len == 0 &&
        offset < v->class->config_len && len <= v->class->config_len - offset) {
        v->class->config_write(v, (uint32_t)offset, len, (uint32_t)value, fx);
    }
}

/* State ---------------------------------------------------------------------------- */

void virtio_xfer(struct virtio *v, struct state_io *io)
{
    uint64_t offered = v->offered;

    state_u64(io, &offered);
    state_u64(io, &v->driver_features);
    state_u8(io, &v->status);
    state_u8(io, &v->isr);
    state_u32(io, &v->config_generation);
    for (unsigned i = 0; i < v->queue_count; i++) {
        virtq_xfer(&v->queue[i], io);
    }
    if (offered != v->offered) { /* the driver may have seen the other set already */
        state_refuse(io, "features");
    }
    if ((v->status & ~(STATUS_KNOWN | VIRTIO_STATUS_NEEDS_RESET)) != 0 ||
        (virtio_has(v, UINT64_MAX) && !features_acceptable(v)) ||
        ((v->status & VIRTIO_STATUS_DRIVER_OK) != 0 &&
         (v->status & VIRTIO_STATUS_FEATURES_OK) == 0)) {
        state_refuse(io, "status");
    }
    if ((v->isr & ~(VIRTIO_IRQ_USED | VIRTIO_IRQ_CONFIG)) != 0) {
        state_refuse(io, "isr");
    }
}
