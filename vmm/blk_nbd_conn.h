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
    bool can_trim, can_zero, can_flush;
};

/* How an export is asked for. With `by_epoch` the server has to be one that lets in the
 * newest epoch only (storage/README.md). */
struct blk_nbd_ask {
    const char *export_name;
    const char *name; /* of the disk, for messages */
    bool read_only, by_epoch;
    uint64_t epoch; /* by_epoch: on whose behalf */
};

/* Size of an export without entering it (NBD_OPT_INFO): nothing is opened. */
int blk_nbd_look(const char *uri, bool read_only, bool by_epoch,
                 struct blk_nbd_traits *ret_traits, struct vmm_error *err);
/* Handshake over `fd`, which is taken. -ESHUTDOWN: a later epoch is there, for good.
 * -EAGAIN: the server does not let this epoch in yet; is *io_nbd not NULL then, calling
 * again with it (and no fd, -1) asks again over the same connection. *io_nbd is NULL the
 * first time. */
int blk_nbd_greet(int fd, const struct blk_nbd_ask *ask, struct nbd_handle **io_nbd,
                  struct blk_nbd_traits *ret_traits, struct vmm_error *err);
/* Waits until `*done` or the connection is dead: 0, -ETIMEDOUT, -ENOTCONN. */
int blk_nbd_wait(struct nbd_handle *nbd, const bool *done, int timeout_ms);
