/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Network disks: the NBD protocol by libnbd's asynchronous calls. Beside vmm/blk_uring,
 * with the same rules; vmm/disks puts the two behind one door. Everything but
 * blk_nbd_in_flight and blk_nbd_flush_failed belongs to the thread that owns the disks,
 * which waits on blk_nbd_poll_fd.
 *
 * A connection that breaks fails what is under way with EIO, and every later request,
 * until somebody brings a new one (blk_nbd_take, with THAW). With `keep`, what was
 * written and not flushed is remembered and written again first (vmm/blk_kept), so a
 * FLUSH that the break interrupted may be sent again. Where that is not so, it has
 * failed, and a failed FLUSH is latched, as for raw disks.
 *
 * A request that goes `through` is durable at the server when it is answered: by FUA, or,
 * where there is none, by a FLUSH that it shares with others.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "vmm/blk_uring.h"
#include "vmm/dev.h"
#include "vmm/vmm_error.h"

struct blk_nbd;

struct blk_nbd_disk_conf {
    const char *name;        /* for messages; must outlive the disk */
    const char *export_name; /* the same */
    bool read_only, keep;
    bool by_epoch;    /* the server keeps owners apart: see blk_nbd_conn.h */
    uint64_t epoch;   /* by_epoch: of the claim under which it connects */
    uint64_t sectors; /* that the guest was told; another size is refused */
    /* Asked while blk_nbd_take waits: true ends that with -EINTR. NULL: never. */
    bool (*stop)(void *ctx);
    void *stop_ctx;
};

/* Loads libnbd. */
int blk_nbd_open(struct blk_nbd **ret_blk, struct vmm_error *err);
void blk_nbd_close(struct blk_nbd *blk); /* NULL is fine; drops what is under way */

/* `fd`: a connected stream socket, taken in any case. Waits for the handshake, and for
 * what was kept to be written again. A disk that is connected keeps its connection, but
 * for one of a later epoch. -ESHUTDOWN: a later owner has the disk, for good. */
int blk_nbd_take(struct blk_nbd *blk, unsigned disk, int fd,
                 const struct blk_nbd_disk_conf *conf, struct vmm_error *err);

/* blk_nbd_take said -EAGAIN or -EINTR: without an fd (-1) it asks again, or waits on. */
bool blk_nbd_asks_again(const struct blk_nbd *blk, unsigned disk);

void blk_nbd_submit(struct blk_nbd *blk, unsigned disk, const struct blk_request *rq);
/* Sends what was submitted. */
void blk_nbd_push(struct blk_nbd *blk);
bool blk_nbd_unpushed(const struct blk_nbd *blk);
/* Looks at the sockets and calls `done` for each finished request. */
unsigned blk_nbd_reap(struct blk_nbd *blk, blk_done_fn done, void *ctx);
/* Something is answered that nothing on a socket tells of. */
bool blk_nbd_reapable(const struct blk_nbd *blk);
/* Somebody else wrote here before, and what was not flushed may be lost with the server
 * without anybody to write it again: until a FLUSH, which is asked for now, is answered,
 * a break is a failed FLUSH. */
void blk_nbd_inherit(struct blk_nbd *blk, unsigned disk);
/* Asks every server to make durable what it has answered; counts as under way. */
void blk_nbd_sync(struct blk_nbd *blk);

unsigned blk_nbd_in_flight(const struct blk_nbd *blk);
bool blk_nbd_flush_failed(const struct blk_nbd *blk);
int blk_nbd_poll_fd(const struct blk_nbd *blk); /* readable: reap */
/* It has a connection, of an epoch before this one. */
bool blk_nbd_outdated(const struct blk_nbd *blk, unsigned disk, uint64_t epoch);
/* Why the disk is without a connection; NULL: it has one. */
const char *blk_nbd_lost(const struct blk_nbd *blk, unsigned disk);
/* A FLUSH of it has failed: no thaw helps. */
bool blk_nbd_latched(const struct blk_nbd *blk, unsigned disk);
void blk_nbd_latch(struct blk_nbd *blk, unsigned disk); /* as if one had */
/* This FLUSH may be sent again once there is a connection. */
bool blk_nbd_may_flush_again(const struct blk_nbd *blk, unsigned disk);
