/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What was written to one file and is not durable yet: extents over the backing file, in
 * order, without overlap, and a pending size. Pure; memory comes from the caller. One
 * lock (the caller's) for each.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct labfs_extent {
    struct labfs_extent *next;
    uint64_t off;
    size_t len;
    uint8_t *data; /* into bytes */
    uint8_t bytes[];
};

struct labfs_memory {
    void *(*alloc)(size_t size); /* NULL when there is none */
    void (*release)(void *p);
};

struct labfs_dirty {
    struct labfs_extent *head, *tail;
    uint64_t bytes;    /* held in extents */
    bool cut;          /* truncated since it was last durable: */
    uint64_t base_len; /* then only so much of the backing file still counts */
    uint64_t size;     /* and this is the size */
};

/* All false when there is not enough memory; then nothing has changed but that older
 * bytes of the range may be gone. */
bool labfs_dirty_write(struct labfs_dirty *d, const struct labfs_memory *memory,
                       uint64_t off, const void *buf, size_t len);
/* Forgets a range (it was written to the backing file). */
bool labfs_dirty_drop(struct labfs_dirty *d, const struct labfs_memory *memory,
                      uint64_t off, uint64_t len);
bool labfs_dirty_truncate(struct labfs_dirty *d, const struct labfs_memory *memory,
                          uint64_t backing_size, uint64_t size);
uint64_t labfs_dirty_size(const struct labfs_dirty *d, uint64_t backing_size);
/* How much of [off, off + len) comes from the backing file at most (the rest reads as
 * zero). */
size_t labfs_dirty_base(const struct labfs_dirty *d, uint64_t off, size_t len);
/* Lays the extents over buf, which holds [off, off + len). */
void labfs_dirty_overlay(const struct labfs_dirty *d, uint64_t off, void *buf,
                         size_t len);
bool labfs_dirty_any(const struct labfs_dirty *d);
void labfs_dirty_clear(struct labfs_dirty *d, const struct labfs_memory *memory);
