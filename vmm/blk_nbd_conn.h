/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connection to an NBD server, up to the point where requests can be sent: what the
 * server offers is looked at, and refused with a sentence if a disk cannot stand on it.
 * Everything waits with a deadline. vmm/blk_nbd.c and its tests only.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "vmm/blk_nbd_lib.h"
#include "vmm/vmm_error.h"

#define BLK_NBD_GREET_MS 6000 /* a server that does not finish the handshake */

/* What an export is, as far as a disk cares. */
struct blk_nbd_traits {
    uint64_t sectors;   /* of 512 bytes */
    uint32_t chunk_len; /* bytes of one command, at most */
    bool can_trim, can_zero, can_flush, can_fua;
};

/* Asked while something is waited for, 20 times a second: true ends the wait. */
struct blk_nbd_stop {
    bool (*asked)(void *ctx); /* NULL: never */
    void *ctx;
};

/* How an export is asked for. With `by_epoch` the server has to be one that lets in the
 * newest epoch only (storage/README.md). */
struct blk_nbd_ask {
    const char *export_name;
    const char *name; /* of the disk, for messages */
    bool read_only, by_epoch;
    uint64_t epoch; /* by_epoch: on whose behalf */
    struct blk_nbd_stop stop;
};

/* A handshake, perhaps in the middle of a question that the server has not answered. */
struct blk_nbd_greeting;

/* Size of an export without entering it (NBD_OPT_INFO): nothing is opened. */
int blk_nbd_look(const char *uri, bool read_only, bool by_epoch,
                 struct blk_nbd_traits *ret_traits, struct vmm_error *err);
/* Handshake over `fd`, which is taken. -ESHUTDOWN: a later epoch is there, for good.
 * -EAGAIN: the server does not let this epoch in yet. -EINTR: the wait was stopped. Is
 * *io_greeting not NULL after these two, calling again with it (and no fd, -1) asks
 * again, or waits on, over the same connection. It is NULL the first time. */
int blk_nbd_greet(int fd, const struct blk_nbd_ask *ask,
                  struct blk_nbd_greeting **io_greeting, struct nbd_handle **ret_nbd,
                  struct blk_nbd_traits *ret_traits, struct vmm_error *err);
void blk_nbd_greeting_free(struct blk_nbd_greeting *greeting); /* NULL is fine */
/* Waits until `*done` or the connection is dead: 0, -ETIMEDOUT, -ENOTCONN, -EINTR. */
int blk_nbd_wait(struct nbd_handle *nbd, const bool *done, int timeout_ms,
                 const struct blk_nbd_stop *stop);
