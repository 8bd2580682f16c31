/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The disks of one VM, each on the back end that it needs: raw files and block devices
 * (vmm/blk_uring), network disks (vmm/blk_nbd; a qcow2 image is one, behind a
 * qemu-storage-daemon that somebody else runs). Requests, answers and threads are as in
 * vmm/blk_uring.h.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/limits.h"
#include "vmm/blk_uring.h"
#include "vmm/dev.h"
#include "vmm/disk_hold.h"
#include "vmm/disk_marks.h"
#include "vmm/vmm_error.h"

enum disk_kind {
    DISK_RAW = 0, /* path is a file or block device */
    DISK_NBD,     /* path is an NBD URI (base/nbd_uri.h) */
    DISK_QCOW2,   /* path is an image; what comes for it is a socket to an NBD server */
};

#define DISK_QCOW2_EXPORT "disk" /* and its number: the name at that server */

struct disk_desc {
    enum disk_kind kind;
    const char *path; /* must outlive the disks */
    bool read_only;
    bool keep; /* connections may be replaced: see blk_nbd.h */
    struct blk_disk_info info;
    char export_name[256]; /* of DISK_NBD, by disks_look */
    bool by_epoch;         /* DISK_NBD: the server keeps owners apart (blk_nbd_conn.h) */
    uint64_t epoch;        /* of the newest claim: before disks_take */
    /* Asked while disks_take waits for a server: true ends that, -EINTR. NULL: never. */
    bool (*stop)(void *ctx);
    void *stop_ctx;
};

struct disks;

int disks_open(struct disks **ret_disks, struct vmm_error *err);
void disks_close(struct disks *disks); /* NULL is fine */

/* Size and identity, without opening the data; fills `desc`. Before the sandbox. */
int disks_look(struct disks *disks, unsigned disk, struct disk_desc *desc,
               struct vmm_error *err);
/* A disk as START wants it: a file, or a connected socket. */
int disks_file(enum disk_kind kind, const char *path, bool read_only, int *ret_fd,
               struct vmm_error *err);
/* `fd` is taken in any case. A second time only for a disk that disks_lost or
 * disks_outdated tells of. -ESHUTDOWN: a later owner has the disk, for good. */
int disks_take(struct disks *disks, unsigned disk, int fd, const struct disk_desc *desc,
               struct vmm_error *err);

/* disks_take said -EAGAIN (its server does not let us in yet) or -EINTR: without a file
 * (-1) it is asked again, or waited for, over the same connection. */
bool disks_asks_again(const struct disks *disks, unsigned disk);

void disks_submit(struct disks *disks, unsigned disk, const struct blk_request *request);
bool disks_push(struct disks *disks);
bool disks_unpushed(const struct disks *disks);
unsigned disks_reap(struct disks *disks, blk_done_fn done, void *ctx);
bool disks_reapable(const struct disks *disks);
/* What poll said of disks_poll_fd: reap soon. */
void disks_woken(struct disks *disks);
/* Network disks: makes durable what was answered, before somebody else reads it. */
void disks_sync(struct disks *disks);
/* Every disk: what was answered becomes durable. Counts as under way until it is. */
void disks_flush(struct disks *disks);
unsigned disks_in_flight(const struct disks *disks);
/* The first disk that has not answered; VM_DISKS_MAX: none, or a network disk. Any
 * thread. */
unsigned disks_waited_for(const struct disks *disks);
bool disks_flush_failed(const struct disks *disks);
int disks_poll_fd(const struct disks *disks);
/* For another thread than the owner: pollable, tells that the owner should reap. */
int disks_event_fd(const struct disks *disks);
void disks_event_clear(struct disks *disks);
/* Why it is without a connection; NULL: it has one, or is no network disk. */
const char *disks_lost(const struct disks *disks, unsigned disk);
/* Its connection is of an epoch before that of `desc`. */
bool disks_outdated(const struct disks *disks, unsigned disk,
                    const struct disk_desc *desc);
/* A FLUSH of it has failed: what it refuses since then is not to be tried again. */
bool disks_latched(const struct disks *disks, unsigned disk);
/* Of a raw disk that may be written to; NULL: of another. */
struct disk_marks *disks_marks(const struct disks *disks, unsigned disk);
/* Of a raw disk: its file, which stays theirs; -1: not open yet. */
int disks_fd(const struct disks *disks, unsigned disk);
bool disks_may_flush_again(const struct disks *disks, unsigned disk);

/* A twin that went live: what its old primary wrote to this disk and did not flush is the
 * guest's (blk_nbd_inherit; what goes to raw ones is durable when it is answered). */
void disks_inherit(struct disks *disks, unsigned disk);
/* A twin that went live (vmm/disk_hold.h). Before any request of it: writes of this disk
 * are held from now on. */
int disks_hold(struct disks *disks, unsigned disk, const struct disk_desc *desc,
               struct vmm_error *err);
/* Any thread: which disks are free now, a bit each, as disks_hold_turn is to see next. 0:
 * none is. */
void disks_excluded(struct disks *disks, uint32_t mask);
/* While the guest may run. */
void disks_hold_turn(struct disks *disks);
/* Any thread: disks that are held, and bytes that they were not given. */
uint32_t disks_held(const struct disks *disks, uint64_t *ret_bytes);
/* A request that was held (slot DISK_HOLD_SLOT) failed, which matters to nobody. */
void disks_hold_drop(struct disks *disks, unsigned disk,
                     const struct blk_request *request);
/* A request that was held (slot DISK_HOLD_SLOT) failed, and is not tried again: writes
 * and flushes of that disk fail from now on. */
void disks_hold_failed(struct disks *disks, unsigned disk,
                       const struct blk_request *request);
