/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Raw disks (files and block devices) on one io_uring per VM. Submitted and reaped on the
 * vCPU thread only.
 *
 * R1: a disk is looked at (size, identity) when the VMM is made, and opened for reading
 * or writing only at START, by whoever gives that order (a VMM in its sandbox opens
 * nothing); a file that was replaced or resized in between is refused.
 * O_DIRECT where the file system can, through aligned bounce buffers. FLUSH is FSYNC with
 * DATASYNC, and covers every write completed before it was submitted. A failed one is
 * latched: the kernel has dropped the dirty pages and a later fsync would lie, so writes
 * and flushes of that disk fail until the VM is restarted.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "vmm/dev.h"
#include "vmm/vmm_error.h"

struct blk_uring;

struct blk_disk_info {
    uint64_t sectors; /* of 512 bytes */
    uint64_t dev, ino, rdev;
};

/* Answers: status 0 or an errno; data: what a read brought, gone when the call returns.
 */
typedef void (*blk_done_fn)(void *ctx, unsigned disk, const struct blk_request *request,
                            uint32_t status, const uint8_t *data, uint32_t len);

int blk_uring_open(struct blk_uring **ret_blk, struct vmm_error *err);
/* Waits for what is under way; NULL is fine. */
void blk_uring_close(struct blk_uring *blk);

/* Size and identity without opening the data: 0 or -errno with a text. */
int blk_disk_look(const char *path, bool read_only, struct blk_disk_info *ret_info,
                  struct vmm_error *err);
/* Opens a disk for blk_disk_take. */
int blk_disk_file(const char *path, bool read_only, int *ret_fd, struct vmm_error *err);
/* At START. `fd` is the disk, open, and taken in any case; `path` is for messages; `info`
 * is what blk_disk_look said. */
int blk_disk_take(struct blk_uring *blk, unsigned disk, int fd, const char *path,
                  bool read_only, const struct blk_disk_info *info,
                  struct vmm_error *err);
/* Both. */
int blk_disk_open(struct blk_uring *blk, unsigned disk, const char *path, bool read_only,
                  const struct blk_disk_info *info, struct vmm_error *err);

/* Never fails: an impossible request is answered with EIO at the next reap. */
void blk_submit(struct blk_uring *blk, unsigned disk, const struct blk_request *request);
/* Asks every disk that was written to since its last FLUSH to make that durable, as
 * requests under way that nobody is told of. One that fails is latched as others are. */
void blk_flush(struct blk_uring *blk);
/* Hands what was submitted to the kernel, with one call for all; before waiting and
 * before the guest runs on. False: the kernel is short of memory and did not take all of
 * it; call again soon. */
bool blk_push(struct blk_uring *blk);
/* Something was submitted and not handed to the kernel yet. */
bool blk_unpushed(const struct blk_uring *blk);
/* Calls `done` for each finished request; returns how many. */
unsigned blk_reap(struct blk_uring *blk, blk_done_fn done, void *ctx);
/* There is something to reap: a look at shared memory, no system call. */
bool blk_reapable(const struct blk_uring *blk);
unsigned blk_in_flight(const struct blk_uring *blk);                     /* any thread */
unsigned blk_disk_in_flight(const struct blk_uring *blk, unsigned disk); /* any thread */
bool blk_flush_failed(const struct blk_uring *blk);                      /* any thread */
bool blk_disk_latched(const struct blk_uring *blk, unsigned disk);
/* As if a FLUSH of it had failed. */
void blk_disk_latch(struct blk_uring *blk, unsigned disk);
int blk_ring_fd(
    const struct blk_uring *blk); /* pollable: readable when there is something to reap */
int blk_event_fd(const struct blk_uring *
                     blk); /* eventfd, counts completions that came from another thread */
/* True if all disks are read and written past the page cache. */
bool blk_is_direct(const struct blk_uring *blk, unsigned disk);
