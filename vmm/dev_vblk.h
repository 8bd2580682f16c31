/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-blk (VIRTIO 1.2, 5.2) for machines whose device work happens at positions
 * (design 7.4): writes are copied out of guest memory when the driver notifies, reads are
 * copied in when their completion is applied, so nothing outside ever touches guest
 * memory. A request lives in a slot; (slot, generation) names it to the back end, never
 * the guest's head or a pointer.
 *
 * Rules: requests that overlap one in flight wait for it (a write with anything), in
 * order of arrival, so the outcome does not depend on the back end's scheduling. A
 * driver's reset does not wait: requests under way become orphans, whose answers go
 * nowhere but which still hold overlapping newer ones back. A failed flush is latched for
 * the life of the disk: what it lost cannot be made durable by a later one. Without
 * VIRTIO_BLK_F_FLUSH every write is flushed before it completes.
 *
 * Several queues (machine standard) share the slots; requests of all of them are ordered
 * by arrival.
 */
#pragma once

#include "vmm/dev_virtio.h"
#include "vmm/rate.h"

#define VBLK_SLOTS    32
#define VBLK_SEG_SIZE 4096 /* size_max */
#define VBLK_SEG_MAX  (BLK_REQUEST_MAX / VBLK_SEG_SIZE)
#define VBLK_SEGS_KEPT                                                                   \
    (VBLK_SEG_MAX + 2) /* a header and a status that share a segment with data */
#define VBLK_SERIAL_LEN 20
#define VBLK_QUEUE_SIZE 128
#define VBLK_QUEUES_MAX 8
/* Of one DISCARD or WRITE_ZEROES; nothing is copied for them. */
#define VBLK_RANGE_MAX (64 * 1024 * 1024)
#define VBLK_SAVED_MAX (4096 + VBLK_SLOTS * (64 + 12 * VBLK_SEGS_KEPT))

enum vblk_slot_state {
    VBLK_FREE = 0,
    VBLK_WAITING,   /* behind an overlapping one */
    VBLK_SUBMITTED, /* the back end has it */
    VBLK_ORPHAN,    /* the same, but the driver has reset the device since */
};

struct vblk_slot {
    uint8_t state; /* enum vblk_slot_state */
    uint8_t op;    /* enum request_op as the guest asked */
    bool flushing; /* a write that is on disk but not yet flushed (no F_FLUSH) */
    bool has_data; /* writes: vblk.data holds the bytes; not saved, false after a load */
    uint8_t queue;
    uint16_t head;
    uint32_t generation; /* counts this slot's submissions */
    uint64_t order;      /* of arrival */
    uint64_t sector;
    uint32_t len;
    uint64_t status_addr;
    uint32_t skip; /* bytes of the first segment before the data */
    uint8_t seg_count;
    struct virtq_seg seg[VBLK_SEGS_KEPT];
};

struct vblk_conf {
    uint64_t sectors; /* of 512 bytes */
    bool read_only;
    const char *serial;                   /* at most VBLK_SERIAL_LEN bytes are used */
    uint64_t bytes_per_s, requests_per_s; /* 0: no limit */
    unsigned queue_count; /* 0: the device of lockstep: one queue, no DISCARD */
};

struct vblk {
    struct virtio virtio; /* first: dev_virtio.h */
    /* From the configuration */
    uint64_t sectors;
    bool read_only;
    char serial[VBLK_SERIAL_LEN];
    /* State */
    bool flush_failed;
    uint64_t next_order;
    uint64_t now_ns; /* with limits: of the last INPUT_CLOCK */
    struct rate bytes, requests;
    uint32_t pushed; /* queues with new used buffers; 0 between calls */
    struct vblk_slot slot[VBLK_SLOTS];
    /* Bytes of writes, one BLK_REQUEST_MAX for each slot from the first page boundary on,
     * so that a back end past the page cache needs no copy of its own. Only what is in
     * use is ever touched. */
    uint8_t data[VBLK_SLOTS * BLK_REQUEST_MAX + GMEM_PAGE_SIZE];
};

extern const struct dev_class dev_vblk_class;

void vblk_init(struct vblk *blk, const struct vblk_conf *conf);
/* Requests not answered yet, orphans included. */
unsigned vblk_in_flight(const struct vblk *blk);
/* Go-live: what the back end had is submitted again in order, under the generations it
 * has. Orphaned writes whose bytes did not come with the state are forgotten: nobody was
 * told that they were done. */
void vblk_reissue(struct vblk *blk, struct gmem *gm, struct effects *fx);
/* See machine_disks_forget, machine_disk_bytes. */
void vblk_forget(struct vblk *blk);
void vblk_bytes(struct vblk *blk, const struct blk_request *request);
