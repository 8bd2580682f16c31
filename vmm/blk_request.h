/* SPDX-License-Identifier: Apache-2.0 */
/* What every disk back end asks of a request before it does anything: its numbers come
 * from the guest. */
#pragma once

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/dev.h"

#define BLK_SECTOR_LEN      512u
#define BLK_REQUEST_LEN_MAX (64u * 1024 * 1024)

struct blk_request_limits {
    bool open, read_only, flush_failed;
    uint64_t sectors;
};

/* 0, or the errno to answer with. */
static inline uint32_t blk_request_check(const struct blk_request *rq,
                                         const struct blk_request_limits *disk)
{
    bool writes = rq->op != REQUEST_READ && rq->op != REQUEST_FLUSH;

    if (!disk->open) {
        return ENXIO;
    }
    if (writes && disk->read_only) {
        return EROFS;
    }
    if (disk->flush_failed && rq->op != REQUEST_READ) {
        return EIO;
    }
    if (rq->op == REQUEST_FLUSH) {
        return 0;
    }
    if (rq->len == 0 || rq->len % BLK_SECTOR_LEN || rq->len > BLK_REQUEST_LEN_MAX ||
        rq->sector > disk->sectors ||
        rq->len / BLK_SECTOR_LEN > disk->sectors - rq->sector) {
        return EINVAL;
    }
    return 0;
}
