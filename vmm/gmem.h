/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest memory as a type (design 4.7): the only place where a guest-physical address
 * becomes a host pointer. The whole range must lie in one RAM region; ROM can be read,
 * not written. Every write marks the dirty bitmap, so that migration and FT see host-side
 * writes. MMIO is unreachable from here: no device can be re-entered by DMA. Pure: the
 * host pointers come from the caller. Owned by the vCPU thread while it runs, by the loop
 * thread while frozen.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/limits.h"
#include "base/units.h"

#define GMEM_PAGE_SHIFT 12
#define GMEM_PAGE_SIZE  (UINT64_C(1) << GMEM_PAGE_SHIFT)

struct gmem_region {
    struct gpa base;
    uint64_t len; /* multiple of the page size */
    uint8_t *host;
    bool rom;
    uint64_t *dirty; /* one bit per page, or NULL: not tracked; see gmem_track */
};

struct gmem {
    struct gmem_region region[GMEM_REGIONS_MAX];
    unsigned region_count;
};

/* 0, -EINVAL (empty, unaligned, overlapping, overflow), -ENOSPC. */
int gmem_add(struct gmem *gm, struct gpa base, uint64_t len, uint8_t *host, bool rom,
             uint64_t *dirty);
/* Host memory must be aligned as the guest sees it (page aligned). Zero bytes always
 * succeed. Copies exactly len bytes; false (nothing copied) when any byte lies outside
 * one region or, writing, in ROM. */
bool gmem_read(const struct gmem *gm, struct gpa addr, void *dst, size_t len);
bool gmem_write(struct gmem *gm, struct gpa addr, const void *src, size_t len);
/* One naturally aligned access with acquire / release order, for ring indexes. */
bool gmem_load16(const struct gmem *gm, struct gpa addr, uint16_t *ret_value);
bool gmem_store16(struct gmem *gm, struct gpa addr, uint16_t value);
/* For iovecs of bulk data only, checked whole. NULL when out of range. `writable` marks
 * the range dirty; the log may be read before the bytes are written, so whoever writes
 * marks it once more with gmem_mark_dirty when they are. */
uint8_t *gmem_slice(struct gmem *gm, struct gpa addr, size_t len, bool writable);
/* Whether gmem_read (writable: gmem_write) of this range would succeed; touches nothing.
 * False for zero bytes. */
bool gmem_check(const struct gmem *gm, struct gpa addr, size_t len, bool writable);
/* Marks a range dirty that was written through a slice. */
void gmem_mark_dirty(struct gmem *gm, struct gpa addr, size_t len);
/* Writes to RAM region `index` are marked in `dirty` from now on (NULL: no more), by
 * whatever thread. A write that is under way is missed, unless every thread of the
 * process executes a full barrier before its page is read (vmm/dirty_log). */
void gmem_track(struct gmem *gm, unsigned index, uint64_t *dirty);
