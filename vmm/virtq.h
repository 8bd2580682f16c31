/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A split virtqueue, device side (VIRTIO 1.2, 2.7). No indirect descriptors; EVENT_IDX
 * where negotiated. Everything in guest memory is hostile: it is read once into local
 * copies, walks end after queue-size steps, and anything impossible makes the queue
 * "broken", which its device answers with NEEDS_RESET. Private shadows (last_avail,
 * used_idx) are never read back.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/state_io.h"
#include "vmm/gmem.h"

#define VIRTQ_DESC_NEXT     1
#define VIRTQ_DESC_WRITE    2
#define VIRTQ_DESC_INDIRECT 4

struct virtq {
    uint16_t size_max; /* offered */
    /* Set by the driver, frozen while ready */
    uint32_t size;
    bool ready;
    uint64_t desc, avail, used;
    /* Ours */
    uint16_t last_avail, used_idx;
    uint16_t signalled_used; /* used_idx at the last look at used_event */
    bool signalled_valid;
    uint64_t in_flight[VIRTQ_SIZE_MAX / 64]; /* heads popped and not pushed */
};

struct virtq_seg {
    struct gpa addr;
    uint32_t len;
};

/* One popped chain: readable segments, then writable ones. All were in RAM (writable ones
 * not in ROM) when popped. */
struct virtq_chain {
    uint16_t head;
    uint16_t readable_count, writable_count;
    uint32_t readable_len, writable_len;
    struct virtq_seg seg[VIRTQ_SIZE_MAX];
};

enum virtq_status { VIRTQ_EMPTY = 0, VIRTQ_CHAIN, VIRTQ_BROKEN };

void virtq_reset(struct virtq *q, uint16_t size_max);
/* Takes the configuration into use: false (still not ready) when it cannot work. */
bool virtq_enable(struct virtq *q, struct gmem *gm);
/* VIRTQ_CHAIN: *ret_chain is valid, and its head in flight until it is pushed or
 * unpopped. */
enum virtq_status virtq_pop(struct virtq *q, struct gmem *gm,
                            struct virtq_chain *ret_chain);
/* Gives the last popped chain back, to be popped again; of several, the last one first.
 */
void virtq_unpop(struct virtq *q, const struct virtq_chain *chain);
/* Publishes a used element; false: the ring is no longer writable (broken). */
bool virtq_push(struct virtq *q, struct gmem *gm, uint16_t head, uint32_t written_len);
/* Several at once, of which the driver must see all or none: fill i = 0, 1, ... then
 * publish the count. Between the two nothing else is pushed. */
bool virtq_fill(struct virtq *q, struct gmem *gm, uint16_t i, uint16_t head,
                uint32_t written_len);
bool virtq_publish(struct virtq *q, struct gmem *gm, uint16_t count);
/* After pushes: whether the driver wants an interrupt for them. True when in doubt. */
bool virtq_wants_interrupt(struct virtq *q, struct gmem *gm, bool event_idx);
/* Asks for a notification at the next chain; true when more chains are there already
 * (look again). */
bool virtq_rearm(struct virtq *q, struct gmem *gm, bool event_idx);
bool virtq_is_in_flight(const struct virtq *q, uint32_t head);
unsigned virtq_in_flight_count(const struct virtq *q);

/* Byte `offset` onwards of a side of a chain, to and from a buffer; false when the chain
 * is shorter. */
bool virtq_copy_from(const struct gmem *gm, const struct virtq_seg *seg,
                     unsigned seg_count, uint32_t offset, void *dst, uint32_t len);
bool virtq_copy_to(struct gmem *gm, const struct virtq_seg *seg, unsigned seg_count,
                   uint32_t offset, const void *src, uint32_t len);

void virtq_xfer(struct virtq *q, struct state_io *io);
