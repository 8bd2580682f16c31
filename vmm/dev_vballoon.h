/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-balloon with statistics (VIRTIO 1.2, 5.5). Pages that the driver puts into the
 * balloon are given back to the host (effects.range) and read as zeros if the guest uses
 * them without asking; what it takes out again is simply used. The driver's buffer for
 * statistics is held until INPUT_BALLOON_POLL asks for fresh ones.
 */
#pragma once

#include "vmm/dev_virtio.h"

#define VBALLOON_QUEUE_SIZE   128
#define VBALLOON_PFNS_MAX     4096 /* of one chain */
#define VBALLOON_PAGE_SHIFT   12   /* 5.5.6: always */
#define VBALLOON_STATS        16   /* tags that we keep; 1.2 knows 10 */
#define VBALLOON_STATS_PAIRS  64   /* of one buffer: more is a driver that is wrong */
#define VBALLOON_SAVED_MAX    1536

#define VBALLOON_F_STATS      (UINT64_C(1) << 1)
#define VBALLOON_F_DEFLATE    (UINT64_C(1) << 2) /* on OOM */
#define VBALLOON_STAT_UNKNOWN UINT64_MAX

enum vballoon_queue { VBALLOON_INFLATE = 0, VBALLOON_DEFLATE, VBALLOON_STATS_QUEUE };

enum vballoon_stat { /* 5.5.6.3; bytes, or counts since boot */
                     VBALLOON_SWAP_IN = 0,
                     VBALLOON_SWAP_OUT,
                     VBALLOON_MAJOR_FAULTS,
                     VBALLOON_MINOR_FAULTS,
                     VBALLOON_MEMORY_FREE,
                     VBALLOON_MEMORY_TOTAL,
                     VBALLOON_MEMORY_AVAILABLE,
                     VBALLOON_DISK_CACHES,
};

struct vballoon {
    struct virtio virtio; /* first: dev_virtio.h */
    /* From the configuration */
    uint32_t pages_max;
    /* State */
    uint32_t target, actual; /* pages: what we want, what the driver says */
    bool stats_held;
    uint16_t stats_head;
    uint32_t pfn_done; /* page numbers of the chain at the head of the inflate queue */
    uint64_t stat[VBALLOON_STATS];
};

extern const struct dev_class dev_vballoon_class;

void vballoon_init(struct vballoon *balloon, uint64_t ram_len);
