/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/dev_vballoon.h"

#include <string.h>

#include "base/le.h"

#define CONFIG_LEN    8 /* num_pages, actual */
#define CONFIG_ACTUAL 4
#define PFN_LEN       4
#define STAT_LEN      10

struct guest_stat {
    struct le16 tag;
    struct le64 value;
} __attribute__((packed));

_Static_assert(sizeof(struct guest_stat) == STAT_LEN, "VIRTIO 1.2, 5.5.6.3");

static void vballoon_config(const void *dev, uint8_t *buf)
{
    const struct vballoon *balloon = dev;
    const struct le32 target = le32_make(balloon->target),
                      actual = le32_make(balloon->actual);

    memcpy(buf, &target, sizeof target);
    memcpy(buf + CONFIG_ACTUAL, &actual, sizeof actual);
}

static void vballoon_config_write(void *dev, uint32_t offset, unsigned len,
                                  uint32_t value, struct effects *fx)
{
    struct vballoon *balloon = dev;

    (void)fx;
    if (offset == CONFIG_ACTUAL && len == 4) { /* the driver's word, for reports only */
        balloon->actual = value;
    }
}

static bool next_chain(struct vballoon *balloon, struct gmem *gm, unsigned queue,
                       struct virtq_chain *ret_chain, struct effects *fx)
{
    struct virtq *q = &balloon->virtio.queue[queue];

    while (virtio_running(&balloon->virtio)) {
        switch (virtq_pop(q, gm, ret_chain)) {
        case VIRTQ_CHAIN:
            return true;
        case VIRTQ_BROKEN:
            virtio_broken(&balloon->virtio, fx);
            return false;
        case VIRTQ_EMPTY:
            if (!virtq_rearm(q, gm, virtio_has(&balloon->virtio, VIRTIO_F_EVENT_IDX))) {
                return false;
            }
        }
    }
    return false;
}

static void push(struct vballoon *balloon, struct gmem *gm, unsigned queue, uint16_t head,
                 struct effects *fx)
{
    if (!virtq_push(&balloon->virtio.queue[queue], gm, head, 0)) {
        virtio_broken(&balloon->virtio, fx);
        return;
    }
    virtio_signal(&balloon->virtio, gm, queue, fx);
}

/* Pages --------------------------------------------------------------------------- */

/* A page that is no RAM is the driver's mistake and nobody's loss. Neighbours become one
 * range. False: no room for another one. */
static bool give_back(struct gmem *gm, uint32_t pfn, struct effects *fx)
{
    uint64_t addr = (uint64_t)pfn << VBALLOON_PAGE_SHIFT;
    struct gpa_range *last = fx->range_count > 0 ? &fx->range[fx->range_count - 1] : NULL;

    if (!gmem_check(gm, (struct gpa){addr}, GMEM_PAGE_SIZE, true)) {
        return true;
    }
    if (last != NULL && last->base.v + last->len == addr &&
        gmem_check(gm, last->base, last->len + GMEM_PAGE_SIZE, true)) {
        last->len += GMEM_PAGE_SIZE;
        return true;
    }
    if (last != NULL && last->base.v == addr + GMEM_PAGE_SIZE &&
        gmem_check(gm, (struct gpa){addr}, last->len + GMEM_PAGE_SIZE, true)) {
        last->base.v = addr; /* Linux takes them from the top */
        last->len += GMEM_PAGE_SIZE;
        return true;
    }
    if (fx->range_count == EFFECT_RANGES_MAX) {
        return false;
    }
    fx->range[fx->range_count++] = (struct gpa_range){{addr}, GMEM_PAGE_SIZE};
    return true;
}

/* False: the effects are full, the rest comes later. */
static bool inflate_chain(struct vballoon *balloon, struct gmem *gm,
                          const struct virtq_chain *chain, struct effects *fx)
{
    while (balloon->pfn_done < chain->readable_len / PFN_LEN) {
        struct le32 pfn;

        if (!virtq_copy_from(gm, chain->seg, chain->readable_count,
                             balloon->pfn_done * PFN_LEN, &pfn, sizeof pfn)) {
            virtio_broken(&balloon->virtio, fx);
            return true;
        }
        if (!give_back(gm, le32_get(pfn), fx)) {
            return false;
        }
        balloon->pfn_done++;
    }
    balloon->pfn_done = 0;
    return true;
}

static void inflate(struct vballoon *balloon, struct gmem *gm, struct effects *fx)
{
    struct virtq_chain chain;

    while (next_chain(balloon, gm, VBALLOON_INFLATE, &chain, fx)) {
        if (chain.readable_len > VBALLOON_PFNS_MAX * PFN_LEN) {
            virtio_broken(&balloon->virtio, fx);
            return;
        }
        if (!inflate_chain(balloon, gm, &chain, fx)) {
            virtq_unpop(&balloon->virtio.queue[VBALLOON_INFLATE], &chain);
            fx->again = true;
            return;
        }
        push(balloon, gm, VBALLOON_INFLATE, chain.head, fx);
    }
}

static void deflate(struct vballoon *balloon, struct gmem *gm, struct effects *fx)
{
    struct virtq_chain chain;

    while (next_chain(balloon, gm, VBALLOON_DEFLATE, &chain, fx)) {
        push(balloon, gm, VBALLOON_DEFLATE, chain.head, fx);
    }
}

/* Statistics ---------------------------------------------------------------------- */

static void stats_read(struct vballoon *balloon, struct gmem *gm,
                       const struct virtq_chain *chain)
{
    unsigned pairs = chain->readable_len / STAT_LEN;

    for (unsigned i = 0; i < pairs && i < VBALLOON_STATS_PAIRS; i++) {
        struct guest_stat stat;

        if (!virtq_copy_from(gm, chain->seg, chain->readable_count, i * STAT_LEN, &stat,
                             sizeof stat)) {
            return;
        }
        if (le16_get(stat.tag) < VBALLOON_STATS) {
            balloon->stat[le16_get(stat.tag)] = le64_get(stat.value);
        }
    }
}

/* The newest buffer is kept; a driver that gives more than one gets the others back. */
static void stats_take(struct vballoon *balloon, struct gmem *gm, struct effects *fx)
{
    struct virtq_chain chain;

    while (next_chain(balloon, gm, VBALLOON_STATS_QUEUE, &chain, fx)) {
        stats_read(balloon, gm, &chain);
        if (balloon->stats_held) {
            push(balloon, gm, VBALLOON_STATS_QUEUE, balloon->stats_head, fx);
        }
        balloon->stats_head = chain.head;
        balloon->stats_held = true;
    }
}

static void stats_ask(struct vballoon *balloon, struct gmem *gm, struct effects *fx)
{
    if (!virtio_running(&balloon->virtio) ||
        !virtio_has(&balloon->virtio, VBALLOON_F_STATS)) {
        return;
    }
    if (!balloon->stats_held) {
        stats_take(balloon, gm, fx); /* Linux rings for the first one before DRIVER_OK */
    }
    if (balloon->stats_held) {
        balloon->stats_held = false;
        push(balloon, gm, VBALLOON_STATS_QUEUE, balloon->stats_head, fx);
    }
}

/* Device -------------------------------------------------------------------------- */

static void vballoon_notify(void *dev, struct gmem *gm, unsigned queue,
                            struct effects *fx)
{
    struct vballoon *balloon = dev;

    if (queue == VBALLOON_INFLATE) {
        inflate(balloon, gm, fx);
    } else if (queue == VBALLOON_DEFLATE) {
        deflate(balloon, gm, fx);
    } else if (virtio_has(&balloon->virtio, VBALLOON_F_STATS)) {
        stats_take(balloon, gm, fx);
    }
}

static void vballoon_resume(void *dev, struct gmem *gm, struct effects *fx)
{
    inflate(dev, gm, fx);
}

static void vballoon_input(void *dev, struct gmem *gm, const struct dev_input *in,
                           struct effects *fx)
{
    struct vballoon *balloon = dev;

    if (in->type == INPUT_BALLOON_POLL) {
        stats_ask(balloon, gm, fx);
    } else if (in->type == INPUT_BALLOON) {
        uint32_t target =
            in->value < balloon->pages_max ? (uint32_t)in->value : balloon->pages_max;

        if (target != balloon->target) {
            balloon->target = target;
            virtio_config_changed(&balloon->virtio, fx);
        }
    }
}

static void forget_stats(struct vballoon *balloon)
{
    for (unsigned i = 0; i < VBALLOON_STATS; i++) {
        balloon->stat[i] = VBALLOON_STAT_UNKNOWN;
    }
}

/* The target is the operator's and stays; a new driver starts with an empty balloon. */
static void vballoon_driver_reset(void *dev, struct effects *fx)
{
    struct vballoon *balloon = dev;

    (void)fx;
    balloon->actual = 0;
    balloon->pfn_done = 0;
    balloon->stats_held = false;
    balloon->stats_head = 0;
    forget_stats(balloon);
}

static const struct virtio_class vballoon_virtio = {
    .device_id = VIRTIO_ID_BALLOON,
    .queue_count = 3,
    .queue_size_max = VBALLOON_QUEUE_SIZE,
    .config_len = CONFIG_LEN,
    .config = vballoon_config,
    .config_write = vballoon_config_write,
    .notify = vballoon_notify,
    .reset = vballoon_driver_reset,
};

void vballoon_init(struct vballoon *balloon, uint64_t ram_len)
{
    uint64_t pages = ram_len >> VBALLOON_PAGE_SHIFT;

    memset(balloon, 0, sizeof *balloon);
    virtio_init(&balloon->virtio, &vballoon_virtio,
                VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX | VBALLOON_F_STATS |
                    VBALLOON_F_DEFLATE);
    balloon->pages_max = pages < UINT32_MAX ? (uint32_t)pages : UINT32_MAX;
    forget_stats(balloon);
}

static void vballoon_reset(void *dev, struct effects *fx)
{
    virtio_reset(dev, fx);
    vballoon_driver_reset(dev, fx);
}

static bool held_ok(const struct vballoon *balloon)
{
    const struct virtq *q = &balloon->virtio.queue[VBALLOON_STATS_QUEUE];
    unsigned pages = virtq_in_flight_count(&balloon->virtio.queue[VBALLOON_INFLATE]) +
                     virtq_in_flight_count(&balloon->virtio.queue[VBALLOON_DEFLATE]);

    if (balloon->stats_held && !virtq_is_in_flight(q, balloon->stats_head)) {
        return false;
    }
    return (balloon->virtio.status & VIRTIO_STATUS_NEEDS_RESET) != 0 ||
           (pages == 0 && virtq_in_flight_count(q) == balloon->stats_held);
}

static int vballoon_xfer(void *dev, struct state_io *io)
{
    struct vballoon *balloon = dev;

    virtio_xfer(&balloon->virtio, io);
    state_u32(io, &balloon->target);
    state_u32(io, &balloon->actual);
    state_u32(io, &balloon->pfn_done);
    state_bool(io, &balloon->stats_held);
    state_u16(io, &balloon->stats_head);
    for (unsigned i = 0; i < VBALLOON_STATS; i++) {
        state_u64(io, &balloon->stat[i]);
    }
    if (balloon->target > balloon->pages_max || balloon->pfn_done > VBALLOON_PFNS_MAX) {
        state_refuse(io, "target");
    }
    if (!held_ok(balloon)) {
        state_refuse(io, "in_flight");
        balloon->stats_held = false;
    }
    return state_end(io);
}

const struct dev_class dev_vballoon_class = {
    .name = "vballoon",
    .version = 1,
    .min_reader = 1,
    .state_size = sizeof(struct vballoon),
    .reset = vballoon_reset,
    .input = vballoon_input,
    .resume = vballoon_resume,
    .xfer = vballoon_xfer,
};
