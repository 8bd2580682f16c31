/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/gmem.h"

#include <errno.h>
#include <string.h>

static bool ranges_overlap(uint64_t a, uint64_t a_len, uint64_t b, uint64_t b_len)
{
    return a < b + b_len && b < a + a_len;
}

int gmem_add(struct gmem *gm, struct gpa base, uint64_t len, uint8_t *host, bool rom,
             uint64_t *dirty)
{
    uint64_t end;

    if (len == 0 || host == NULL || (base.v | len) % GMEM_PAGE_SIZE != 0 ||
        __builtin_add_overflow(base.v, len, &end)) {
        return -EINVAL;
    }
    for (unsigned i = 0; i < gm->region_count; i++) {
        if (ranges_overlap(base.v, len, gm->region[i].base.v, gm->region[i].len)) {
            return -EINVAL;
        }
    }
    if (gm->region_count == GMEM_REGIONS_MAX) {
        return -ENOSPC;
    }
    gm->region[gm->region_count++] = (struct gmem_region){
        .base = base,
        .len = len,
        .host = host,
        .rom = rom,
        .dirty = dirty,
    };
    return 0;
}

/* The region that holds every byte of the range, or NULL. The only bounds check there is.
 */
static const struct gmem_region *region_of(const struct gmem *gm, struct gpa addr,
                                           size_t len)
{
    uint64_t end;

    if (len == 0 || __builtin_add_overflow(addr.v, (uint64_t)len, &end)) {
        return NULL;
    }
    for (unsigned i = 0; i < gm->region_count; i++) {
        const struct gmem_region *region = &gm->region[i];

        if (addr.v >= region->base.v && end <= region->base.v + region->len) {
            return region;
        }
    }
    return NULL;
}

static uint8_t *host_of(const struct gmem_region *region, struct gpa addr)
{
    return region->host + (addr.v - region->base.v);
}

/* After the write: migration and FT harvest the bitmap from another thread, and read the
 * page when they have taken its bit. Not "if the bit is not set": the atomic OR is also
 * the barrier that lets nobody see the bit taken and the page as it was. */
static void mark_region(const struct gmem_region *region, struct gpa addr, size_t len)
{
    uint64_t first, last, *dirty;

    __atomic_signal_fence(__ATOMIC_SEQ_CST); /* the write, then the look at the pointer */
    dirty = __atomic_load_n(&region->dirty, __ATOMIC_ACQUIRE);
    if (dirty == NULL) {
        return;
    }
    first = (addr.v - region->base.v) >> GMEM_PAGE_SHIFT;
    last = (addr.v - region->base.v + len - 1) >> GMEM_PAGE_SHIFT;
    for (uint64_t page = first; page <= last; page++) {
        __atomic_fetch_or(&dirty[page / 64], UINT64_C(1) << (page % 64),
                          __ATOMIC_SEQ_CST);
    }
}

bool gmem_read(const struct gmem *gm, struct gpa addr, void *dst, size_t len)
{
    const struct gmem_region *region = region_of(gm, addr, len);

    if (region == NULL) {
        return len == 0;
    }
    memcpy(dst, host_of(region, addr), len);
    return true;
}

bool gmem_write(struct gmem *gm, struct gpa addr, const void *src, size_t len)
{
    const struct gmem_region *region = region_of(gm, addr, len);

    if (region == NULL) {
        return len == 0;
    }
    if (region->rom) {
        return false;
    }
    memcpy(host_of(region, addr), src, len);
    mark_region(region, addr, len);
    return true;
}

bool gmem_load16(const struct gmem *gm, struct gpa addr, uint16_t *ret_value)
{
    const struct gmem_region *region = region_of(gm, addr, sizeof(uint16_t));

    if (region == NULL || addr.v % sizeof(uint16_t) != 0) {
        return false;
    }
    *ret_value = __atomic_load_n((const uint16_t *)(const void *)host_of(region, addr),
                                 __ATOMIC_ACQUIRE);
    return true;
}

bool gmem_store16(struct gmem *gm, struct gpa addr, uint16_t value)
{
    const struct gmem_region *region = region_of(gm, addr, sizeof(uint16_t));

    if (region == NULL || region->rom || addr.v % sizeof(uint16_t) != 0) {
        return false;
    }
    __atomic_store_n((uint16_t *)(void *)host_of(region, addr), value, __ATOMIC_RELEASE);
    mark_region(region, addr, sizeof(uint16_t));
    return true;
}

uint8_t *gmem_slice(struct gmem *gm, struct gpa addr, size_t len, bool writable)
{
    const struct gmem_region *region = region_of(gm, addr, len);

    if (region == NULL || (writable && region->rom)) {
        return NULL;
    }
    if (writable) {
        mark_region(region, addr, len);
    }
    return host_of(region, addr);
}

bool gmem_check(const struct gmem *gm, struct gpa addr, size_t len, bool writable)
{
    const struct gmem_region *region = region_of(gm, addr, len);

    return region != NULL && !(writable && region->rom);
}

void gmem_mark_dirty(struct gmem *gm, struct gpa addr, size_t len)
{
    const struct gmem_region *region = region_of(gm, addr, len);

    if (region != NULL) {
        mark_region(region, addr, len);
    }
}

void gmem_track(struct gmem *gm, unsigned index, uint64_t *dirty)
{
    __atomic_store_n(&gm->region[index].dirty, dirty, __ATOMIC_SEQ_CST);
}
