/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a disk was told to write and was not told to FLUSH yet. Should the server die, it
 * may have lost all of that, although it answered each write: who connects again
 * writes it once more, in the same order, before anything else. One thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/dev.h"

#define BLK_KEPT_MAX   (16u * 1024 * 1024) /* bytes of one disk */
#define BLK_KEPT_FLUSH (4u * 1024 * 1024)  /* from here on a FLUSH is worth it */

struct blk_kept_write {
    struct blk_kept_write *next;
    uint64_t seq;
    struct blk_request request; /* data: behind this */
};

struct blk_kept {
    bool on; /* else nothing is kept: everything unflushed counts as forgotten */
    struct blk_kept_write *head, *tail;
    size_t bytes;
    uint64_t seq;           /* of the newest write that was answered */
    uint64_t flushed_seq;   /* everything up to it is durable */
    uint64_t forgotten_seq; /* of the newest write that could not be kept */
};

/* A write, discard or write-zeroes that the server has answered with success. */
void blk_kept_add(struct blk_kept *kept, const struct blk_request *request);
/* One that nobody is told of before a FLUSH has made it durable: its number. */
uint64_t blk_kept_pass(struct blk_kept *kept);
/* There may be unflushed writes of somebody before: they count as one that is forgotten.
 */
void blk_kept_inherit(struct blk_kept *kept);
/* A FLUSH that was sent when blk_kept.seq was `seq` has succeeded. */
void blk_kept_flushed(struct blk_kept *kept, uint64_t seq);
/* Answered writes that a server that dies may lose, and nobody could write again. */
bool blk_kept_missing(const struct blk_kept *kept);
bool blk_kept_unflushed(const struct blk_kept *kept);
void blk_kept_free(struct blk_kept *kept);
