/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/dev_vblk.h"

#include <errno.h>
#include <string.h>

#include "base/le.h"

#define BLK_F_SIZE_MAX (UINT64_C(1) << 1)
#define BLK_F_SEG_MAX  (UINT64_C(1) << 2)
#define BLK_F_RO       (UINT64_C(1) << 5)
#define BLK_F_BLK_SIZE (UINT64_C(1) << 6)
#define BLK_F_FLUSH    (UINT64_C(1) << 9)
#define BLK_F_MQ       (UINT64_C(1) << 12)
#define BLK_F_DISCARD  (UINT64_C(1) << 13)
#define BLK_F_ZEROES   (UINT64_C(1) << 14)

#define BLK_T_IN       0
#define BLK_T_OUT      1
#define BLK_T_FLUSH    4
#define BLK_T_GET_ID   8
#define BLK_T_DISCARD  11
#define BLK_T_ZEROES   13
#define BLK_S_OK       0
#define BLK_S_IOERR    1
#define BLK_S_UNSUPP   2

#define SECTOR_LEN     512
#define CONFIG_LEN     60
#define CONFIG_LEN_ONE 24 /* capacity to blk_size: with one queue and no ranges */
#define RANGE_ALIGN    8  /* sectors; a hint */
#define RANGE_UNMAP    1  /* flag of WRITE_ZEROES */
#define STATUS_LEN     1

struct guest_blk_header {
    struct le32 type, reserved;
    struct le64 sector;
};

struct guest_blk_range { /* data of DISCARD and WRITE_ZEROES */
    struct le64 sector;
    struct le32 sector_count, flags;
};

struct guest_blk_config {
    struct le64 capacity;
    struct le32 size_max, seg_max, geometry, blk_size, topology[2];
    uint8_t writeback, unused0;
    struct le16 num_queues;
    struct le32 max_discard_sectors, max_discard_seg, discard_sector_alignment;
    struct le32 max_write_zeroes_sectors, max_write_zeroes_seg;
    uint8_t write_zeroes_may_unmap, unused1[3];
};

_Static_assert(sizeof(struct guest_blk_header) == 16, "VIRTIO 1.2, 5.2.6");
_Static_assert(sizeof(struct guest_blk_range) == 16, "VIRTIO 1.2, 5.2.6");
_Static_assert(sizeof(struct guest_blk_config) >= CONFIG_LEN, "VIRTIO 1.2, 5.2.4");
_Static_assert(VBLK_QUEUES_MAX <= VIRTIO_QUEUES_MAX, "queues of one device");
_Static_assert(VBLK_SLOTS <= EFFECT_REQUESTS_MAX, "one call can submit every slot");

static void vblk_config(const void *dev, uint8_t *buf)
{
    const struct vblk *blk = dev;
    const struct guest_blk_config config = {
        .capacity = le64_make(blk->sectors),
        .size_max = le32_make(VBLK_SEG_SIZE),
        .seg_max = le32_make(VBLK_SEG_MAX),
        .blk_size = le32_make(SECTOR_LEN),
        .num_queues = le16_make((uint16_t)blk->virtio.queue_count),
        .max_discard_sectors = le32_make(VBLK_RANGE_MAX / SECTOR_LEN),
        .max_discard_seg = le32_make(1),
        .discard_sector_alignment = le32_make(RANGE_ALIGN),
        .max_write_zeroes_sectors = le32_make(VBLK_RANGE_MAX / SECTOR_LEN),
        .max_write_zeroes_seg = le32_make(1),
        .write_zeroes_may_unmap = 1,
    };

    memcpy(buf, &config, blk->virtio.class->config_len);
}

unsigned vblk_in_flight(const struct vblk *blk)
{
    unsigned count = 0;

    for (unsigned i = 0; i < VBLK_SLOTS; i++) {
        count += blk->slot[i].state != VBLK_FREE;
    }
    return count;
}

/* Submission ---------------------------------------------------------------------- */

static bool is_transfer(const struct vblk_slot *slot)
{
    return slot->op == REQUEST_READ || slot->op == REQUEST_WRITE;
}

static bool is_range(const struct vblk_slot *slot)
{
    return slot->op == REQUEST_DISCARD || slot->op == REQUEST_WRITE_ZEROES;
}

/* Its contents are promised to be on disk: what must be flushed without F_FLUSH. */
static bool is_write(const struct vblk_slot *slot)
{
    return slot->op == REQUEST_WRITE || slot->op == REQUEST_WRITE_ZEROES;
}

static bool conflicts(const struct vblk_slot *a, const struct vblk_slot *b)
{
    return a->op != REQUEST_FLUSH && b->op != REQUEST_FLUSH &&
           (a->op != REQUEST_READ || b->op != REQUEST_READ) &&
           a->sector < b->sector + b->len / SECTOR_LEN &&
           b->sector < a->sector + a->len / SECTOR_LEN;
}

static bool must_wait(const struct vblk *blk, const struct vblk_slot *slot)
{
    for (unsigned i = 0; i < VBLK_SLOTS; i++) {
        const struct vblk_slot *other = &blk->slot[i];

        if (other->state != VBLK_FREE && other->order < slot->order &&
            conflicts(slot, other)) {
            return true;
        }
    }
    return false;
}

static uint8_t *slot_data(struct vblk *blk, unsigned index)
{
    uintptr_t mask = GMEM_PAGE_SIZE - 1, gap = -(uintptr_t)blk->data & mask;

    return blk->data + gap + (size_t)index * BLK_REQUEST_MAX;
}

static void emit(struct vblk *blk, unsigned index, struct effects *fx)
{
    const struct vblk_slot *slot = &blk->slot[index];
    bool has_bytes = slot->op == REQUEST_WRITE && !slot->flushing;

    fx->request[fx->request_count++] = (struct blk_request){
        .op = slot->flushing ? REQUEST_FLUSH : (enum request_op)slot->op,
        .slot = index,
        .generation = slot->generation,
        .sector = slot->flushing ? 0 : slot->sector,
        .len = slot->flushing ? 0 : slot->len,
        .data = has_bytes ? slot_data(blk, index) : NULL,
        .room = slot->op == REQUEST_READ ? slot_data(blk, index) : NULL,
    };
}

static void submit(struct vblk *blk, unsigned index, struct effects *fx)
{
    blk->slot[index].state = VBLK_SUBMITTED;
    blk->slot[index].generation++;
    emit(blk, index, fx);
}

/* The live slot in `state` that arrived first after `order`, or VBLK_SLOTS. */
static unsigned next_in_order(const struct vblk *blk, unsigned states, uint64_t order)
{
    unsigned best = VBLK_SLOTS;

    for (unsigned i = 0; i < VBLK_SLOTS; i++) {
        const struct vblk_slot *slot = &blk->slot[i];

        if ((states & (1u << slot->state)) != 0 && slot->order >= order &&
            (best == VBLK_SLOTS || slot->order < blk->slot[best].order)) {
            best = i;
        }
    }
    return best;
}

/* Answers to the driver ----------------------------------------------------------- */

static void answer(struct vblk *blk, struct gmem *gm, unsigned queue, uint16_t head,
                   uint64_t status_addr, uint8_t status, uint32_t written_len,
                   struct effects *fx)
{
    struct virtq *q = &blk->virtio.queue[queue];

    blk->pushed |= UINT32_C(1) << queue;
    if (!gmem_write(gm, (struct gpa){status_addr}, &status, STATUS_LEN) ||
        !virtq_push(q, gm, head, written_len + STATUS_LEN)) {
        virtio_broken(&blk->virtio, fx);
    }
}

static void finish(struct vblk *blk, struct gmem *gm, struct vblk_slot *slot,
                   uint8_t status, uint32_t written_len, struct effects *fx)
{
    bool orphan = slot->state == VBLK_ORPHAN;

    slot->state = VBLK_FREE;
    if (!orphan) {
        answer(blk, gm, slot->queue, slot->head, slot->status_addr, status, written_len,
               fx);
    }
}

/* Requests ------------------------------------------------------------------------ */

/* A request as the driver wrote it, in our memory; the data is still where the segments
 * say. */
struct parsed {
    uint8_t queue;
    uint16_t head;
    uint32_t type;
    uint64_t sector;
    uint64_t status_addr;
    const struct virtq_seg *seg; /* the side of the chain that holds the data */
    unsigned seg_count;
    uint32_t skip, len; /* of the data within that side */
};

/* False: there is no way to answer this one. */
static bool parse(const struct gmem *gm, const struct virtq_chain *chain, unsigned queue,
                  struct parsed *ret)
{
    const struct virtq_seg *writable = chain->seg + chain->readable_count, *last;
    struct guest_blk_header header;

    if (chain->writable_count == 0 ||
        !virtq_copy_from(gm, chain->seg, chain->readable_count, 0, &header,
                         sizeof header)) {
        return false;
    }
    last = writable + chain->writable_count - 1;
    *ret = (struct parsed){
        .queue = (uint8_t)queue,
        .head = chain->head,
        .type = le32_get(header.type),
        .sector = le64_get(header.sector),
        .status_addr = last->addr.v + last->len - STATUS_LEN,
    };
    if (ret->type == BLK_T_OUT || ret->type == BLK_T_DISCARD ||
        ret->type == BLK_T_ZEROES) {
        ret->seg = chain->seg;
        ret->seg_count = chain->readable_count;
        ret->skip = sizeof header;
        ret->len = chain->readable_len - (uint32_t)sizeof header;
    } else {
        ret->seg = writable;
        ret->seg_count = chain->writable_count;
        ret->len = chain->writable_len - STATUS_LEN;
    }
    return true;
}

static bool range_ok(const struct vblk *blk, const struct parsed *req, uint32_t len_max)
{
    uint64_t end;

    return req->len > 0 && req->len % SECTOR_LEN == 0 && req->len <= len_max &&
           !__builtin_add_overflow(req->sector, req->len / SECTOR_LEN, &end) &&
           end <= blk->sectors;
}

/* Keeps only the segments with data in them; false when there are more than a driver may
 * use. */
static bool keep_segments(struct vblk_slot *slot, const struct parsed *req)
{
    uint32_t skip = req->skip, left = req->len;

    slot->seg_count = 0;
    slot->skip = 0;
    for (unsigned i = 0; i < req->seg_count && left > 0; i++) {
        uint32_t part;

        if (skip >= req->seg[i].len) {
            skip -= req->seg[i].len;
            continue;
        }
        if (slot->seg_count == VBLK_SEGS_KEPT) {
            return false;
        }
        if (slot->seg_count == 0) {
            slot->skip = skip;
        }
        part = req->seg[i].len - skip < left ? req->seg[i].len - skip : left;
        slot->seg[slot->seg_count++] = req->seg[i];
        left -= part;
        skip = 0;
    }
    return left == 0;
}

static unsigned free_slot(const struct vblk *blk)
{
    unsigned i = 0;

    while (i < VBLK_SLOTS && blk->slot[i].state != VBLK_FREE) {
        i++;
    }
    return i;
}

static bool is_limited(const struct vblk *blk)
{
    return blk->bytes.per_s != 0 || blk->requests.per_s != 0;
}

static void submit_waiting(struct vblk *blk, struct gmem *gm, struct effects *fx);

static void answer_now(struct vblk *blk, struct gmem *gm, const struct parsed *req,
                       uint8_t status, uint32_t written_len, struct effects *fx)
{
    answer(blk, gm, req->queue, req->head, req->status_addr, status, written_len, fx);
}

/* Takes a checked request into a slot and submits it unless it must wait. */
static void accept(struct vblk *blk, struct gmem *gm, const struct parsed *req,
                   enum request_op op, struct effects *fx)
{
    unsigned index = free_slot(blk);
    struct vblk_slot *slot = &blk->slot[index];
    bool ok = true;

    slot->op = (uint8_t)op;
    slot->flushing = false;
    slot->has_data = false;
    slot->queue = req->queue;
    slot->head = req->head;
    slot->sector = op == REQUEST_FLUSH ? 0 : req->sector;
    slot->len = op == REQUEST_FLUSH ? 0 : req->len;
    slot->status_addr = req->status_addr;
    slot->seg_count = 0;
    slot->skip = 0;
    if (is_transfer(slot)) {
        ok = keep_segments(slot, req);
    }
    if (ok && op == REQUEST_WRITE) {
        ok = slot->has_data = virtq_copy_from(gm, slot->seg, slot->seg_count, slot->skip,
                                              slot_data(blk, index), slot->len);
    }
    if (!ok) {
        answer_now(blk, gm, req, BLK_S_IOERR, 0, fx);
        return;
    }
    slot->order = blk->next_order++;
    slot->state = VBLK_WAITING;
    if (is_limited(blk)) {
        submit_waiting(blk, gm, fx);
    } else if (!must_wait(blk, slot)) {
        submit(blk, index, fx);
    }
}

static void answer_id(struct vblk *blk, struct gmem *gm, const struct parsed *req,
                      struct effects *fx)
{
    uint32_t len = req->len < VBLK_SERIAL_LEN ? req->len : VBLK_SERIAL_LEN;
    bool ok = virtq_copy_to(gm, req->seg, req->seg_count, 0, blk->serial, len);

    answer_now(blk, gm, req, ok ? BLK_S_OK : BLK_S_IOERR, ok ? len : 0, fx);
}

/* DISCARD and WRITE_ZEROES: where and how much is their data. */
static void dispatch_range(struct vblk *blk, struct gmem *gm, const struct parsed *req,
                           enum request_op op, struct effects *fx)
{
    struct parsed range = *req;
    struct guest_blk_range guest;
    uint64_t len;

    if (req->len != sizeof guest || blk->read_only ||
        !virtq_copy_from(gm, req->seg, req->seg_count, req->skip, &guest, sizeof guest)) {
        answer_now(blk, gm, req, BLK_S_IOERR, 0, fx);
        return;
    }
    if ((le32_get(guest.flags) & ~(op == REQUEST_DISCARD ? 0u : RANGE_UNMAP)) != 0) {
        answer_now(blk, gm, req, BLK_S_UNSUPP, 0, fx);
        return;
    }
    len = (uint64_t)le32_get(guest.sector_count) * SECTOR_LEN;
    range.sector = le64_get(guest.sector);
    range.len = len <= VBLK_RANGE_MAX ? (uint32_t)len : 0;
    if (range_ok(blk, &range, VBLK_RANGE_MAX)) {
        accept(blk, gm, &range, op, fx);
    } else {
        answer_now(blk, gm, req, BLK_S_IOERR, 0, fx);
    }
}

static void dispatch(struct vblk *blk, struct gmem *gm, const struct parsed *req,
                     struct effects *fx)
{
    switch (req->type) {
    case BLK_T_IN:
        if (range_ok(blk, req, BLK_REQUEST_MAX)) {
            accept(blk, gm, req, REQUEST_READ, fx);
            return;
        }
        break;
    case BLK_T_OUT:
        if (range_ok(blk, req, BLK_REQUEST_MAX) && !blk->read_only) {
            accept(blk, gm, req, REQUEST_WRITE, fx);
            return;
        }
        break;
    case BLK_T_FLUSH:
        if (!blk->flush_failed) {
            accept(blk, gm, req, REQUEST_FLUSH, fx);
            return;
        }
        break;
    case BLK_T_GET_ID:
        answer_id(blk, gm, req, fx);
        return;
    case BLK_T_DISCARD:
        if (virtio_has(&blk->virtio, BLK_F_DISCARD)) {
            dispatch_range(blk, gm, req, REQUEST_DISCARD, fx);
            return;
        }
        answer_now(blk, gm, req, BLK_S_UNSUPP, 0, fx);
        return;
    case BLK_T_ZEROES:
        if (virtio_has(&blk->virtio, BLK_F_ZEROES)) {
            dispatch_range(blk, gm, req, REQUEST_WRITE_ZEROES, fx);
            return;
        }
        answer_now(blk, gm, req, BLK_S_UNSUPP, 0, fx);
        return;
    default:
        answer_now(blk, gm, req, BLK_S_UNSUPP, 0, fx);
        return;
    }
    answer_now(blk, gm, req, BLK_S_IOERR, 0, fx);
}

/* At most a queue full per call. Chains that find no free slot stay in the ring until one
 * becomes free. */
static void process_queue(struct vblk *blk, struct gmem *gm, unsigned queue,
                          struct effects *fx)
{
    struct virtq *q = &blk->virtio.queue[queue];
    struct virtq_chain chain;
    struct parsed req;

    for (unsigned i = 0; i < VBLK_QUEUE_SIZE && virtio_running(&blk->virtio); i++) {
        enum virtq_status status;

        if (free_slot(blk) == VBLK_SLOTS) {
            break;
        }
        status = virtq_pop(q, gm, &chain);
        if (status == VIRTQ_EMPTY &&
            !virtq_rearm(q, gm, virtio_has(&blk->virtio, VIRTIO_F_EVENT_IDX))) {
            break;
        }
        if (status == VIRTQ_BROKEN ||
            (status == VIRTQ_CHAIN && !parse(gm, &chain, queue, &req))) {
            virtio_broken(&blk->virtio, fx);
            break;
        }
        if (status == VIRTQ_CHAIN) {
            dispatch(blk, gm, &req, fx);
        }
    }
}

/* Interrupts for what was answered. */
static void signal_pushed(struct vblk *blk, struct gmem *gm, struct effects *fx)
{
    for (unsigned queue = 0; queue < blk->virtio.queue_count; queue++) {
        if ((blk->pushed >> queue & 1) != 0) {
            virtio_signal(&blk->virtio, gm, queue, fx);
        }
    }
    blk->pushed = 0;
}

static void vblk_notify(void *dev, struct gmem *gm, unsigned queue, struct effects *fx)
{
    process_queue(dev, gm, queue, fx);
    signal_pushed(dev, gm, fx);
}

/* Completion ---------------------------------------------------------------------- */

/* The bytes of a write that came with a state lie where they always did: a driver leaves
 * the pages of a request alone until it is answered (VIRTIO 1.2, 2.7.13.3). */
static bool ensure_data(struct vblk *blk, const struct gmem *gm, unsigned index)
{
    struct vblk_slot *slot = &blk->slot[index];

    if (slot->op == REQUEST_WRITE && !slot->flushing && !slot->has_data) {
        slot->has_data = virtq_copy_from(gm, slot->seg, slot->seg_count, slot->skip,
                                         slot_data(blk, index), slot->len);
        return slot->has_data;
    }
    return true;
}

/* What a request costs; nothing is transferred for a range. False: not now, and the
 * device will be woken when it may go. */
static bool afford(struct vblk *blk, const struct vblk_slot *slot, struct effects *fx)
{
    uint64_t bytes_at = rate_ready_at(&blk->bytes),
             requests_at = rate_ready_at(&blk->requests);

    if (!rate_ready(&blk->bytes, blk->now_ns) ||
        !rate_ready(&blk->requests, blk->now_ns)) {
        effects_wake(fx, bytes_at > requests_at ? bytes_at : requests_at);
        return false;
    }
    rate_charge(&blk->bytes, blk->now_ns, is_transfer(slot) ? slot->len : 0);
    rate_charge(&blk->requests, blk->now_ns, 1);
    return true;
}

/* A request that the limit holds back holds back all later ones: else a stream of small
 * ones would starve it. */
static void submit_waiting(struct vblk *blk, struct gmem *gm, struct effects *fx)
{
    uint64_t order = 0;
    unsigned index;

    while ((index = next_in_order(blk, 1u << VBLK_WAITING, order)) < VBLK_SLOTS) {
        struct vblk_slot *slot = &blk->slot[index];

        order = slot->order + 1;
        if (must_wait(blk, slot)) {
            continue;
        }
        if (!afford(blk, slot, fx)) {
            break;
        }
        if (ensure_data(blk, gm, index)) {
            submit(blk, index, fx);
        } else {
            finish(blk, gm, slot, BLK_S_IOERR, 0, fx);
        }
    }
}

/* UNSUPP: the driver writes its zeroes itself then. */
static uint8_t failure(const struct vblk_slot *slot, uint32_t status)
{
    return slot->op == REQUEST_WRITE_ZEROES && !slot->flushing && status == EOPNOTSUPP
               ? BLK_S_UNSUPP
               : BLK_S_IOERR;
}

/* What the driver is told; a write without F_FLUSH goes into its second half instead
 * (false: not finished). */
static bool complete(struct vblk *blk, struct gmem *gm, unsigned index,
                     const struct dev_input *in, struct effects *fx)
{
    struct vblk_slot *slot = &blk->slot[index];
    bool ok = in->status == 0, was_flush = slot->op == REQUEST_FLUSH || slot->flushing;
    uint32_t written = 0;

    if (was_flush) {
        blk->flush_failed |= !ok;
        ok = !blk->flush_failed; /* the back end may tell only one of two flushes */
    } else if (slot->op == REQUEST_READ && slot->state != VBLK_ORPHAN) {
        ok = ok && in->len == slot->len &&
             virtq_copy_to(gm, slot->seg, slot->seg_count, slot->skip, in->data, in->len);
        written = ok ? slot->len : 0;
    } else if (is_write(slot) && ok && slot->state != VBLK_ORPHAN &&
               !virtio_has(&blk->virtio, BLK_F_FLUSH)) {
        slot->flushing = true;
        if (!blk->flush_failed) {
            submit(blk, index, fx);
            return false;
        }
        ok = false;
    }
    finish(blk, gm, slot, ok ? BLK_S_OK : failure(slot, in->status), written, fx);
    return true;
}

static void vblk_input(void *dev, struct gmem *gm, const struct dev_input *in,
                       struct effects *fx)
{
    struct vblk *blk = dev;
    const struct vblk_slot *slot;
    unsigned first;

    if (in->type == INPUT_CLOCK) {
        blk->now_ns = in->now_ns;
        submit_waiting(blk, gm, fx);
        signal_pushed(blk, gm, fx);
        return;
    }
    if (in->type != INPUT_BLK_DONE || in->slot >= VBLK_SLOTS) {
        return;
    }
    slot = &blk->slot[in->slot];
    if ((slot->state != VBLK_SUBMITTED && slot->state != VBLK_ORPHAN) ||
        slot->generation != in->generation) {
        return; /* late or doubled: it names nothing any more */
    }
    first = slot->queue;
    if (!complete(blk, gm, in->slot, in, fx)) {
        return;
    }
    submit_waiting(blk, gm, fx);
    signal_pushed(blk, gm, fx);
    for (unsigned i = 0; i < blk->virtio.queue_count; i++) { /* a slot is free */
        unsigned queue = (first + i) % blk->virtio.queue_count;

        if (blk->virtio.queue[queue].ready) {
            process_queue(blk, gm, queue, fx);
        }
    }
    signal_pushed(blk, gm, fx);
}

void vblk_reissue(struct vblk *blk, struct gmem *gm, struct effects *fx)
{
    unsigned states = 1u << VBLK_SUBMITTED | 1u << VBLK_ORPHAN, index;
    uint64_t order = 0;

    while ((index = next_in_order(blk, states, order)) < VBLK_SLOTS) {
        struct vblk_slot *slot = &blk->slot[index];

        order = slot->order + 1;
        if (slot->state == VBLK_ORPHAN && slot->op == REQUEST_WRITE && !slot->has_data) {
            slot->state = VBLK_FREE;
        } else if (ensure_data(blk, gm, index)) {
            emit(blk, index, fx);
        } else {
            finish(blk, gm, slot, BLK_S_IOERR, 0, fx);
        }
    }
    submit_waiting(blk, gm, fx);
    signal_pushed(blk, gm, fx);
}

void vblk_forget(struct vblk *blk)
{
    for (unsigned i = 0; i < VBLK_SLOTS; i++) {
        blk->slot[i].has_data = false;
    }
}

void vblk_bytes(struct vblk *blk, const struct blk_request *request)
{
    struct vblk_slot *slot =
        request->slot < VBLK_SLOTS ? &blk->slot[request->slot] : NULL;

    if (slot != NULL && (slot->state == VBLK_SUBMITTED || slot->state == VBLK_ORPHAN) &&
        slot->op == REQUEST_WRITE && request->op == REQUEST_WRITE &&
        slot->sector == request->sector && slot->len == request->len &&
        request->data != NULL) {
        memcpy(slot_data(blk, request->slot), request->data, slot->len);
        slot->has_data = true;
    }
}

/* Device -------------------------------------------------------------------------- */

static void vblk_driver_reset(void *dev, struct effects *fx)
{
    struct vblk *blk = dev;

    (void)fx;
    for (unsigned i = 0; i < VBLK_SLOTS; i++) {
        struct vblk_slot *slot = &blk->slot[i];

        if (slot->state == VBLK_WAITING) {
            slot->state = VBLK_FREE;
        } else if (slot->state == VBLK_SUBMITTED) {
            slot->state = VBLK_ORPHAN;
        }
    }
}

static const struct virtio_class vblk_virtio = {
    .device_id = VIRTIO_ID_BLK,
    .queue_count = 1,
    .queue_size_max = VBLK_QUEUE_SIZE,
    .config_len = CONFIG_LEN_ONE,
    .config = vblk_config,
    .notify = vblk_notify,
    .reset = vblk_driver_reset,
};

static const struct virtio_class vblk_virtio_standard = {
    .device_id = VIRTIO_ID_BLK,
    .queue_count = VBLK_QUEUES_MAX,
    .queue_size_max = VBLK_QUEUE_SIZE,
    .config_len = CONFIG_LEN,
    .config = vblk_config,
    .notify = vblk_notify,
    .reset = vblk_driver_reset,
};

void vblk_init(struct vblk *blk, const struct vblk_conf *conf)
{
    bool standard = conf->queue_count > 0;
    uint64_t features = VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX | BLK_F_SIZE_MAX |
                        BLK_F_SEG_MAX | BLK_F_BLK_SIZE | BLK_F_FLUSH |
                        (conf->read_only ? BLK_F_RO : 0);

    if (standard) {
        features |= BLK_F_MQ | (conf->read_only ? 0 : BLK_F_DISCARD | BLK_F_ZEROES);
    }
    memset(blk, 0, offsetof(struct vblk, data));
    virtio_init(&blk->virtio, standard ? &vblk_virtio_standard : &vblk_virtio, features);
    if (standard) {
        blk->virtio.queue_count =
            conf->queue_count < VBLK_QUEUES_MAX ? conf->queue_count : VBLK_QUEUES_MAX;
    }
    blk->bytes = rate_make(conf->bytes_per_s);
    blk->requests = rate_make(conf->requests_per_s);
    blk->sectors = conf->sectors;
    blk->read_only = conf->read_only;
    memcpy(blk->serial, conf->serial, strnlen(conf->serial, VBLK_SERIAL_LEN));
}

static void vblk_reset(void *dev, struct effects *fx)
{
    struct vblk *blk = dev;

    virtio_reset(&blk->virtio, fx);
    vblk_driver_reset(blk, fx);
}

/* A slot that complete() and vblk_reissue() can live with. */
static bool slot_ok(const struct vblk *blk, const struct vblk_slot *slot)
{
    struct parsed req = {.sector = slot->sector, .len = slot->len};
    uint64_t seg_len = 0;
    bool live = slot->state == VBLK_WAITING || slot->state == VBLK_SUBMITTED;

    if (slot->state > VBLK_ORPHAN || slot->seg_count > VBLK_SEGS_KEPT ||
        slot->order >= blk->next_order || slot->queue >= blk->virtio.queue_count ||
        (live && !virtq_is_in_flight(&blk->virtio.queue[slot->queue], slot->head))) {
        return false;
    }
    if (slot->op == REQUEST_FLUSH) {
        return !slot->flushing && slot->len == 0;
    }
    for (unsigned i = 0; i < slot->seg_count; i++) {
        seg_len += slot->seg[i].len;
    }
    if ((slot->flushing && !is_write(slot)) ||
        (slot->op != REQUEST_READ && blk->read_only)) {
        return false;
    }
    if (is_range(slot)) {
        return slot->seg_count == 0 && range_ok(blk, &req, VBLK_RANGE_MAX);
    }
    return is_transfer(slot) && range_ok(blk, &req, BLK_REQUEST_MAX) &&
           slot->skip <= seg_len && seg_len - slot->skip >= slot->len;
}

static void slot_xfer(struct vblk *blk, struct vblk_slot *slot, struct state_io *io)
{
    state_u8(io, &slot->state);
    state_u32(io, &slot->generation);
    if (slot->state == VBLK_FREE) {
        return;
    }
    state_u8(io, &slot->op);
    state_bool(io, &slot->flushing);
    state_u8(io, &slot->queue);
    state_u16(io, &slot->head);
    state_u64(io, &slot->order);
    state_u64(io, &slot->sector);
    state_u32(io, &slot->len);
    state_u64(io, &slot->status_addr);
    state_u32(io, &slot->skip);
    state_u8(io, &slot->seg_count);
    for (unsigned i = 0; i < slot->seg_count && i < VBLK_SEGS_KEPT; i++) {
        state_u64(io, &slot->seg[i].addr.v);
        state_u32(io, &slot->seg[i].len);
    }
    if (io->mode == STATE_LOAD) {
        slot->has_data = false;
    }
    if (!slot_ok(blk, slot)) {
        state_refuse(io, "slot");
        slot->state = VBLK_FREE;
    }
}

/* Every head in flight belongs to exactly one live slot, every order to one slot. */
static bool slots_agree(const struct vblk *blk)
{
    unsigned live = 0, in_flight = 0;

    for (unsigned i = 0; i < VBLK_SLOTS; i++) {
        const struct vblk_slot *a = &blk->slot[i];

        if (a->state == VBLK_FREE) {
            continue;
        }
        live += a->state != VBLK_ORPHAN;
        for (unsigned j = 0; j < i; j++) {
            const struct vblk_slot *b = &blk->slot[j];

            if (b->state != VBLK_FREE &&
                (a->order == b->order ||
                 (a->queue == b->queue && a->head == b->head && a->state != VBLK_ORPHAN &&
                  b->state != VBLK_ORPHAN))) {
                return false;
            }
        }
    }
    /* A device that broke in the middle of a chain keeps that chain's head. */
    for (unsigned i = 0; i < blk->virtio.queue_count; i++) {
        in_flight += virtq_in_flight_count(&blk->virtio.queue[i]);
    }
    return live == in_flight || (blk->virtio.status & VIRTIO_STATUS_NEEDS_RESET) != 0;
}

static int vblk_xfer(void *dev, struct state_io *io)
{
    struct vblk *blk = dev;
    uint64_t sectors = blk->sectors;

    state_u64(io, &sectors);
    if (sectors != blk->sectors) {
        state_refuse(io, "sectors");
    }
    virtio_xfer(&blk->virtio, io);
    state_bool(io, &blk->flush_failed);
    state_u64(io, &blk->next_order);
    state_u64(io, &blk->now_ns);
    rate_xfer(&blk->bytes, io);
    rate_xfer(&blk->requests, io);
    for (unsigned i = 0; i < VBLK_SLOTS; i++) {
        slot_xfer(blk, &blk->slot[i], io);
    }
    if (!slots_agree(blk)) {
        state_refuse(io, "slots");
    }
    return state_end(io);
}

const struct dev_class dev_vblk_class = {
    .name = "vblk",
    .version = 1,
    .min_reader = 1,
    .state_size = sizeof(struct vblk),
    .reset = vblk_reset,
    .input = vblk_input,
    .xfer = vblk_xfer,
};
