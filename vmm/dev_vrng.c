/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/dev_vrng.h"

#include <string.h>

/* Looks at the next buffer and asks for as much as it takes, or for a doorbell. */
static void ask(struct vrng *rng, struct gmem *gm, struct effects *fx)
{
    struct virtq *q = &rng->virtio.queue[0];
    bool event_idx = virtio_has(&rng->virtio, VIRTIO_F_EVENT_IDX);
    struct virtq_chain chain;

    while (virtio_running(&rng->virtio)) {
        switch (virtq_pop(q, gm, &chain)) {
        case VIRTQ_BROKEN:
            virtio_broken(&rng->virtio, fx);
            return;
        case VIRTQ_EMPTY:
            if (!virtq_rearm(q, gm, event_idx)) {
                return;
            }
            break;
        case VIRTQ_CHAIN:
            virtq_unpop(q, &chain);
            if (chain.writable_len == 0) { /* 5.4.6.1: buffers are for the device */
                virtio_broken(&rng->virtio, fx);
                return;
            }
            fx->entropy_wanted =
                chain.writable_len < ENTROPY_MAX ? chain.writable_len : ENTROPY_MAX;
            return;
        }
    }
}

static void vrng_notify(void *dev, struct gmem *gm, unsigned queue, struct effects *fx)
{
    (void)queue;
    ask(dev, gm, fx);
}

static void fill(struct vrng *rng, struct gmem *gm, const uint8_t *data, uint32_t len,
                 struct effects *fx)
{
    struct virtq *q = &rng->virtio.queue[0];
    struct virtq_chain chain;

    switch (virtq_pop(q, gm, &chain)) {
    case VIRTQ_EMPTY:
        return;
    case VIRTQ_BROKEN:
        virtio_broken(&rng->virtio, fx);
        return;
    case VIRTQ_CHAIN:
        break;
    }
    len = len < chain.writable_len ? len : chain.writable_len;
    if (len == 0 ||
        !virtq_copy_to(gm, chain.seg + chain.readable_count, chain.writable_count, 0,
                       data, len) ||
        !virtq_push(q, gm, chain.head, len)) {
        virtio_broken(&rng->virtio, fx);
        return;
    }
    virtio_signal(&rng->virtio, gm, 0, fx);
}

static void vrng_input(void *dev, struct gmem *gm, const struct dev_input *in,
                       struct effects *fx)
{
    struct vrng *rng = dev;

    if (in->type == INPUT_ENTROPY && in->len > 0 && virtio_running(&rng->virtio)) {
        fill(rng, gm, in->data, in->len, fx);
        ask(rng, gm, fx);
    }
}

static void vrng_driver_reset(void *dev, struct effects *fx)
{
    (void)dev;
    (void)fx;
}

static const struct virtio_class vrng_virtio = {
    .device_id = VIRTIO_ID_RNG,
    .queue_count = 1,
    .queue_size_max = VRNG_QUEUE_SIZE,
    .notify = vrng_notify,
    .reset = vrng_driver_reset,
};

void vrng_init(struct vrng *rng)
{
    memset(rng, 0, sizeof *rng);
    virtio_init(&rng->virtio, &vrng_virtio, VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX);
}

static void vrng_reset(void *dev, struct effects *fx)
{
    virtio_reset(dev, fx);
}

static int vrng_xfer(void *dev, struct state_io *io)
{
    struct vrng *rng = dev;

    virtio_xfer(&rng->virtio, io);
    if (virtq_in_flight_count(&rng->virtio.queue[0]) > 0 &&
        (rng->virtio.status & VIRTIO_STATUS_NEEDS_RESET) == 0) {
        state_refuse(io, "in_flight");
    }
    return state_end(io);
}

const struct dev_class dev_vrng_class = {
    .name = "vrng",
    .version = 1,
    .min_reader = 1,
    .state_size = sizeof(struct vrng),
    .reset = vrng_reset,
    .input = vrng_input,
    .xfer = vrng_xfer,
};
