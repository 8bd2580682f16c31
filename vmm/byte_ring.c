/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/byte_ring.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bug.h"

int byte_ring_init(struct byte_ring *ring, size_t cap)
{
    BUG_ON(cap == 0 || (cap & (cap - 1)) != 0);
    *ring = (struct byte_ring){.cap = cap, .buf = malloc(cap)};
    return ring->buf ? 0 : -ENOMEM;
}

void byte_ring_free(struct byte_ring *ring)
{
    free(ring->buf);
    ring->buf = NULL;
}

size_t byte_ring_room(struct byte_ring *ring)
{
    return ring->cap - (atomic_load(&ring->head) - atomic_load(&ring->tail));
}

bool byte_ring_put(struct byte_ring *ring, const void *bytes, size_t len)
{
    size_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    size_t room = byte_ring_room(ring);
    size_t at = head & (ring->cap - 1), first;

    if (len > room) {
        atomic_fetch_add(&ring->dropped, len - room);
        len = room;
    }
    first = len < ring->cap - at ? len : ring->cap - at;
    memcpy(ring->buf + at, bytes, first);
    memcpy(ring->buf, (const uint8_t *)bytes + first, len - first);
    atomic_store(&ring->head, head + len);
    /* Sequentially consistent with the reader: it stores tail, then looks at head again
     * before it sleeps. */
    return len > 0 && atomic_load(&ring->tail) == head;
}

size_t byte_ring_get(struct byte_ring *ring, void *dst, size_t cap)
{
    size_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    size_t len = atomic_load(&ring->head) - tail;
    size_t at = tail & (ring->cap - 1), first;

    if (len > cap) {
        len = cap;
    }
    first = len < ring->cap - at ? len : ring->cap - at;
    memcpy(dst, ring->buf + at, first);
    memcpy((uint8_t *)dst + first, ring->buf, len - first);
    atomic_store(&ring->tail, tail + len);
    return len;
}

bool byte_ring_empty(struct byte_ring *ring)
{
    return atomic_load(&ring->head) == atomic_load(&ring->tail);
}

void byte_ring_done(struct byte_ring *ring)
{
    atomic_store(&ring->done, atomic_load_explicit(&ring->tail, memory_order_relaxed));
}

size_t byte_ring_total(struct byte_ring *ring)
{
    return atomic_load(&ring->head);
}

bool byte_ring_reached(struct byte_ring *ring, size_t total)
{
    return atomic_load(&ring->done) >= total;
}
