/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A twin that went live, and disks that the host of its old primary may still write to:
 * the guest runs, but until those writes are excluded (design 7.5, ft/README.md) its own
 * are kept in memory. They are answered at once; reads go to the disk and are patched
 * with them (vmm/hold_log); a FLUSH waits, as does a write for which there is no room.
 * Then all is written out in order, and what waited is sent.
 *
 * Used by vmm/disks.c, on the thread that owns the disks, but for what says otherwise.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/limits.h"
#include "vmm/blk_uring.h"
#include "vmm/dev.h"
#include "vmm/vmm_error.h"

/* Of a request that nobody but this module waits for. */
#define DISK_HOLD_SLOT  UINT32_MAX
#define DISK_HOLD_SLOTS 64 /* of a disk (vmm/dev_vblk has 32) */

struct disk_hold;

struct disk_holds {
    struct disk_hold *of[VM_DISKS_MAX];
    struct {
        unsigned disk;
        uint32_t status;
        struct blk_request request;
    } answered[VM_DISKS_MAX * DISK_HOLD_SLOTS];
    _Atomic unsigned answered_count; /* any thread may look */
    _Atomic uint32_t mask;           /* the same: disks that are held */
    _Atomic uint64_t bytes;          /* of what is not written out */
    _Atomic uint32_t excluded;       /* any thread: disks that may be written to */
    uint8_t *scratch;
};

typedef void (*disk_submit_fn)(void *ctx, unsigned disk, const struct blk_request *rq);

/* From now on, before any request; the disk is open. */
int disk_hold_begin(struct disk_holds *h, unsigned disk, uint64_t sectors,
                    struct vmm_error *err);
/* True: it is answered later, from here; the disk does not get it now. */
bool disk_hold_takes(struct disk_holds *h, unsigned disk, const struct blk_request *rq);
/* While the guest may run: whatever may be sent to disks that are free now. */
void disk_hold_turn(struct disk_holds *h, disk_submit_fn submit, void *ctx);
/* Answers that wait; how many. */
unsigned disk_hold_reap(struct disk_holds *h, blk_done_fn done, void *ctx);
/* The disk has answered. True: nobody else waits for that. A read's data may be
 * replaced, until the next call. One of ours that failed is not over before
 * disk_hold_drop: it may be sent again. */
bool disk_hold_done(struct disk_holds *h, unsigned disk, const struct blk_request *rq,
                    uint32_t status, const uint8_t **data);
/* That one is lost. */
void disk_hold_drop(struct disk_holds *h, unsigned disk, const struct blk_request *rq);
void disk_hold_free(struct disk_holds *h);
