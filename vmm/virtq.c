/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/virtq.h"

#include <string.h>

#include "base/le.h"

#define DESC_LEN         16
#define AVAIL_IDX        2
#define AVAIL_RING       4
#define USED_IDX         2
#define USED_RING        4
#define USED_ELEM_LEN    8
#define AVAIL_NO_IRQ     1
#define DESC_KNOWN_FLAGS (VIRTQ_DESC_NEXT | VIRTQ_DESC_WRITE)

struct guest_desc { /* as it lies in guest memory */
    struct le64 addr;
    struct le32 len;
    struct le16 flags, next;
};
struct guest_used_elem {
    struct le32 id, len;
};

_Static_assert(sizeof(struct guest_desc) == DESC_LEN, "VIRTIO 1.2, 2.7.5");
_Static_assert(sizeof(struct guest_used_elem) == USED_ELEM_LEN, "VIRTIO 1.2, 2.7.8");

static struct gpa at(uint64_t base, uint64_t offset)
{
    return (struct gpa){base +
                        offset}; /* enable() has checked that the rings do not wrap */
}

void virtq_reset(struct virtq *q, uint16_t size_max)
{
    memset(q, 0, sizeof *q);
    q->size_max = size_max;
    q->size = size_max; /* what a driver gets that never writes QueueNum */
}

static bool config_ok(const struct virtq *q)
{
    return q->size > 0 && q->size <= q->size_max && (q->size & (q->size - 1)) == 0 &&
           q->desc % 16 == 0 && q->avail % 2 == 0 && q->used % 4 == 0;
}

bool virtq_enable(struct virtq *q, struct gmem *gm)
{
    q->ready =
        config_ok(q) &&
        gmem_check(gm, (struct gpa){q->desc}, q->size * DESC_LEN, false) &&
        gmem_check(gm, (struct gpa){q->avail}, AVAIL_RING + 2 * q->size + 2, false) &&
        gmem_check(gm, (struct gpa){q->used}, USED_RING + USED_ELEM_LEN * q->size + 2,
                   true);
    return q->ready;
}

bool virtq_is_in_flight(const struct virtq *q, uint32_t head)
{
    return head < VIRTQ_SIZE_MAX && (q->in_flight[head / 64] >> (head % 64) & 1) != 0;
}

unsigned virtq_in_flight_count(const struct virtq *q)
{
    unsigned count = 0;

    for (unsigned head = 0; head < VIRTQ_SIZE_MAX; head++) {
        count += virtq_is_in_flight(q, head);
    }
    return count;
}

static void set_in_flight(struct virtq *q, uint16_t head, bool value)
{
    uint64_t bit = UINT64_C(1) << (head % 64);

    if (value) {
        q->in_flight[head / 64] |= bit;
    } else {
        q->in_flight[head / 64] &= ~bit;
    }
}

/* Adds one descriptor to the chain; false when it may not be there. */
static bool chain_add(const struct gmem *gm, const struct guest_desc *desc,
                      struct virtq_chain *chain)
{
    struct virtq_seg seg = {.addr = {le64_get(desc->addr)}, .len = le32_get(desc->len)};
    bool writable = (le16_get(desc->flags) & VIRTQ_DESC_WRITE) != 0;
    uint32_t *total = writable ? &chain->writable_len : &chain->readable_len;

    if (!writable && chain->writable_count > 0) { /* 2.7.4.2: readable ones come first */
        return false;
    }
    if (seg.len == 0 || !gmem_check(gm, seg.addr, seg.len, writable) ||
        __builtin_add_overflow(*total, seg.len, total)) {
        return false;
    }
    chain->seg[chain->readable_count + chain->writable_count] = seg;
    if (writable) {
        chain->writable_count++;
    } else {
        chain->readable_count++;
    }
    return true;
}

/* Each descriptor is copied once; a chain longer than the queue is a loop. */
static bool walk(const struct virtq *q, const struct gmem *gm, uint16_t head,
                 struct virtq_chain *chain)
{
    uint32_t index = head;

    chain->head = head;
    chain->readable_count = chain->writable_count = 0;
    chain->readable_len = chain->writable_len = 0;
    for (uint32_t ttl = q->size; ttl > 0; ttl--) {
        struct guest_desc desc;

        if (!gmem_read(gm, at(q->desc, index * DESC_LEN), &desc, sizeof desc) ||
            (le16_get(desc.flags) & ~DESC_KNOWN_FLAGS) != 0 ||
            !chain_add(gm, &desc, chain)) {
            return false;
        }
        if ((le16_get(desc.flags) & VIRTQ_DESC_NEXT) == 0) {
            return true;
        }
        index = le16_get(desc.next);
        if (index >= q->size) {
            return false;
        }
    }
    return false;
}

enum virtq_status virtq_pop(struct virtq *q, struct gmem *gm,
                            struct virtq_chain *ret_chain)
{
    struct le16 head;
    uint16_t avail_idx;

    if (!q->ready) {
        return VIRTQ_EMPTY;
    }
    if (!gmem_load16(gm, at(q->avail, AVAIL_IDX), &avail_idx)) {
        return VIRTQ_BROKEN;
    }
    if (avail_idx == q->last_avail) {
        return VIRTQ_EMPTY;
    }
    if ((uint16_t)(avail_idx - q->last_avail) > q->size) {
        return VIRTQ_BROKEN;
    }
    if (!gmem_read(gm, at(q->avail, AVAIL_RING + 2 * (q->last_avail & (q->size - 1))),
                   &head, sizeof head) ||
        le16_get(head) >= q->size || virtq_is_in_flight(q, le16_get(head)) ||
        !walk(q, gm, le16_get(head), ret_chain)) {
        return VIRTQ_BROKEN;
    }
    q->last_avail++;
    set_in_flight(q, ret_chain->head, true);
    return VIRTQ_CHAIN;
}

void virtq_unpop(struct virtq *q, const struct virtq_chain *chain)
{
    q->last_avail--;
    set_in_flight(q, chain->head, false);
}

bool virtq_fill(struct virtq *q, struct gmem *gm, uint16_t i, uint16_t head,
                uint32_t written_len)
{
    struct guest_used_elem elem = {.id = le32_make(head), .len = le32_make(written_len)};
    uint32_t at_idx = (uint16_t)(q->used_idx + i) & (q->size - 1);

    set_in_flight(q, head, false);
    return gmem_write(gm, at(q->used, USED_RING + USED_ELEM_LEN * at_idx), &elem,
                      sizeof elem);
}

bool virtq_publish(struct virtq *q, struct gmem *gm, uint16_t count)
{
    q->used_idx = (uint16_t)(q->used_idx + count);
    return gmem_store16(gm, at(q->used, USED_IDX), q->used_idx);
}

bool virtq_push(struct virtq *q, struct gmem *gm, uint16_t head, uint32_t written_len)
{
    return virtq_fill(q, gm, 0, head, written_len) && virtq_publish(q, gm, 1);
}

bool virtq_wants_interrupt(struct virtq *q, struct gmem *gm, bool event_idx)
{
    uint16_t before = q->signalled_used, now = q->used_idx, used_event, flags;
    bool first = !q->signalled_valid;

    /* Publish, then look at what the driver wants; it does the reverse (2.7.7.2 and
     * 2.7.10.1). Without this the CPU may look first, and the interrupt is lost. */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    q->signalled_used = now;
    q->signalled_valid = true;
    if (!event_idx) {
        return !gmem_load16(gm, at(q->avail, 0), &flags) || (flags & AVAIL_NO_IRQ) == 0;
    }
    if (first || !gmem_load16(gm, at(q->avail, AVAIL_RING + 2 * q->size), &used_event)) {
        return true;
    }
    /* 2.7.7.2: the event lies in (before, now]; all in wrapping u16 */
    return (uint16_t)(now - used_event - 1) < (uint16_t)(now - before);
}

bool virtq_rearm(struct virtq *q, struct gmem *gm, bool event_idx)
{
    uint16_t avail_idx;

    if (!q->ready) {
        return false;
    }
    if (event_idx) {
        gmem_store16(gm, at(q->used, USED_RING + USED_ELEM_LEN * q->size), q->last_avail);
        __atomic_thread_fence(
            __ATOMIC_SEQ_CST); /* publish, then look: the driver does the reverse */
    }
    return gmem_load16(gm, at(q->avail, AVAIL_IDX), &avail_idx) &&
           avail_idx != q->last_avail;
}

/* Walks the parts of [offset, offset + len) through the segments. */
static bool copy_segs(struct gmem *gm, const struct virtq_seg *seg, unsigned seg_count,
                      uint32_t offset, uint8_t *buf, uint32_t len, bool to_guest)
{
    for (unsigned i = 0; i < seg_count && len > 0; i++) {
        uint32_t part;
        struct gpa addr;
        bool ok;

        if (offset >= seg[i].len) {
            offset -= seg[i].len;
            continue;
        }
        part = seg[i].len - offset < len ? seg[i].len - offset : len;
        addr = (struct gpa){seg[i].addr.v + offset};
        ok = to_guest ? gmem_write(gm, addr, buf, part) : gmem_read(gm, addr, buf, part);
        if (!ok) {
            return false;
        }
        buf += part;
        len -= part;
        offset = 0;
    }
    return len == 0;
}

bool virtq_copy_from(const struct gmem *gm, const struct virtq_seg *seg,
                     unsigned seg_count, uint32_t offset, void *dst, uint32_t len)
{
    return copy_segs((struct gmem *)(uintptr_t)gm, seg, seg_count, offset, dst, len,
                     false);
}

bool virtq_copy_to(struct gmem *gm, const struct virtq_seg *seg, unsigned seg_count,
                   uint32_t offset, const void *src, uint32_t len)
{
    return copy_segs(gm, seg, seg_count, offset, (uint8_t *)(uintptr_t)src, len, true);
}

void virtq_xfer(struct virtq *q, struct state_io *io)
{
    state_u32(io, &q->size);
    state_bool(io, &q->ready);
    state_u64(io, &q->desc);
    state_u64(io, &q->avail);
    state_u64(io, &q->used);
    state_u16(io, &q->last_avail);
    state_u16(io, &q->used_idx);
    state_u16(io, &q->signalled_used);
    state_bool(io, &q->signalled_valid);
    for (unsigned i = 0; i < VIRTQ_SIZE_MAX / 64; i++) {
        state_u64(io, &q->in_flight[i]);
    }
    if (q->ready && !config_ok(q)) {
        state_refuse(io, "queue");
        q->ready = false;
    }
    for (unsigned head = 0; head < VIRTQ_SIZE_MAX; head++) {
        if (virtq_is_in_flight(q, head) && (!q->ready || head >= q->size)) {
            state_refuse(io, "in_flight");
            break;
        }
    }
}
