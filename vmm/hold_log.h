/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes of one disk that the guest was told are done and the disk was not given: in
 * their order, until they may be written out (design 7.5). What the disk says to a read
 * meanwhile is patched with them. Pure; the memory is the caller's.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/dev.h"

#define HOLD_UNDER_WAY 16 /* that are being written out at one time */

struct hold_op {
    uint64_t sector;
    uint32_t len; /* bytes */
    uint8_t op;   /* enum request_op: WRITE, DISCARD, WRITE_ZEROES */
    bool sent, done;
    size_t at; /* WRITE: of its bytes */
};

struct hold_log {
    uint8_t *bytes; /* aligned as a disk past the page cache wants it */
    struct hold_op *op;
    size_t cap, used;
    unsigned op_cap, count;
    unsigned first, next; /* all before `first` are done, from `next` on none is sent */
    unsigned sent;        /* that are under way */
};

void hold_log_init(struct hold_log *log, uint8_t *bytes, size_t cap, struct hold_op *op,
                   unsigned op_cap);
/* A WRITE, DISCARD or WRITE_ZEROES, whose bytes are copied. False: there is no room. */
bool hold_log_add(struct hold_log *log, const struct blk_request *request);
/* Some of these bytes are in the log. */
bool hold_log_covers(const struct hold_log *log, uint64_t sector, uint32_t len);
/* `buf` has what the disk says of these sectors: with what was written since, in order;
 * discarded ones are zeroes. */
void hold_log_patch(const struct hold_log *log, uint64_t sector, uint8_t *buf,
                    uint32_t len);
/* The next one to be written out, in their order; one that overlaps another that is under
 * way waits for it. ret->generation names it. False: none now. */
bool hold_log_next(struct hold_log *log, struct blk_request *ret);
/* That one is on the disk, or lost. Its bytes, of a WRITE. */
uint32_t hold_log_done(struct hold_log *log, unsigned generation);
/* All were written out. */
bool hold_log_over(const struct hold_log *log);
