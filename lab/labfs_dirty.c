/* SPDX-License-Identifier: Apache-2.0 */
#include "lab/labfs_dirty.h"

#include <string.h>

static uint64_t end_of(const struct labfs_extent *e)
{
    return e->off + e->len;
}

static struct labfs_extent *extent_new(const struct labfs_memory *memory, uint64_t off,
                                       const void *buf, size_t len)
{
    struct labfs_extent *e = memory->alloc(sizeof *e + len);

    if (e != NULL) {
        e->next = NULL;
        e->off = off;
        e->len = len;
        e->data = e->bytes;
        memcpy(e->bytes, buf, len);
    }
    return e;
}

static void find_tail(struct labfs_dirty *d)
{
    d->tail = d->head;
    while (d->tail != NULL && d->tail->next != NULL) {
        d->tail = d->tail->next;
    }
}

bool labfs_dirty_drop(struct labfs_dirty *d, const struct labfs_memory *memory,
                      uint64_t off, uint64_t len)
{
    uint64_t end = off + len < off ? UINT64_MAX : off + len;
    struct labfs_extent **link = &d->head;

    if (len == 0 || d->tail == NULL || off >= end_of(d->tail)) {
        return true;
    }
    while (*link != NULL && (*link)->off < end) {
        struct labfs_extent *e = *link;
        if (end_of(e) <= off) {
            link = &e->next;
            continue;
        }
        if (e->off < off && end_of(e) > end) {
            /* The range is inside: the part behind it becomes an extent of its own. */
            size_t skip = (size_t)(end - e->off);
            struct labfs_extent *behind =
                extent_new(memory, end, e->data + skip, e->len - skip);
            if (behind == NULL) {
                return false;
            }
            behind->next = e->next;
            e->next = behind;
            d->bytes -= end - off;
            e->len = (size_t)(off - e->off);
        } else if (e->off < off) {
            d->bytes -= end_of(e) - off;
            e->len = (size_t)(off - e->off);
            link = &e->next;
            continue;
        } else if (end_of(e) > end) {
            size_t skip = (size_t)(end - e->off);
            d->bytes -= skip;
            e->data += skip;
            e->off = end;
            e->len -= skip;
        } else {
            d->bytes -= e->len;
            *link = e->next;
            memory->release(e);
            continue;
        }
        break;
    }
    find_tail(d);
    return true;
}

bool labfs_dirty_write(struct labfs_dirty *d, const struct labfs_memory *memory,
                       uint64_t off, const void *buf, size_t len)
{
    struct labfs_extent **link = &d->head;

    if (len == 0) {
        return true;
    }
    struct labfs_extent *e = extent_new(memory, off, buf, len);
    if (e == NULL) {
        return false;
    }
    if (!labfs_dirty_drop(d, memory, off, len)) {
        memory->release(e);
        return false;
    }
    if (d->tail != NULL && d->tail->off < off) {
        link = &d->tail->next; /* appending is the common case */
    }
    while (*link != NULL && (*link)->off < off) {
        link = &(*link)->next;
    }
    e->next = *link;
    *link = e;
    if (e->next == NULL) {
        d->tail = e;
    }
    d->bytes += len;
    if (d->cut && off + len > d->size) {
        d->size = off + len;
    }
    return true;
}

uint64_t labfs_dirty_size(const struct labfs_dirty *d, uint64_t backing_size)
{
    if (d->cut) {
        return d->size;
    }
    return d->tail != NULL && end_of(d->tail) > backing_size ? end_of(d->tail)
                                                             : backing_size;
}

bool labfs_dirty_truncate(struct labfs_dirty *d, const struct labfs_memory *memory,
                          uint64_t backing_size, uint64_t size)
{
    if (!labfs_dirty_drop(d, memory, size, UINT64_MAX - size)) {
        return false;
    }
    uint64_t base = d->cut ? d->base_len : backing_size;
    d->base_len = base < size ? base : size;
    d->cut = true;
    d->size = size;
    return true;
}

size_t labfs_dirty_base(const struct labfs_dirty *d, uint64_t off, size_t len)
{
    if (!d->cut || off + len <= d->base_len) {
        return len;
    }
    return off >= d->base_len ? 0 : (size_t)(d->base_len - off);
}

void labfs_dirty_overlay(const struct labfs_dirty *d, uint64_t off, void *buf, size_t len)
{
    uint64_t end = off + len;

    for (const struct labfs_extent *e = d->head; e != NULL && e->off < end; e = e->next) {
        if (end_of(e) <= off) {
            continue;
        }
        uint64_t from = e->off > off ? e->off : off,
                 to = end_of(e) < end ? end_of(e) : end;
        memcpy((uint8_t *)buf + (from - off), e->data + (from - e->off),
               (size_t)(to - from));
    }
}

bool labfs_dirty_any(const struct labfs_dirty *d)
{
    return d->head != NULL || d->cut;
}

void labfs_dirty_clear(struct labfs_dirty *d, const struct labfs_memory *memory)
{
    while (d->head != NULL) {
        struct labfs_extent *e = d->head;
        d->head = e->next;
        memory->release(e);
    }
    *d = (struct labfs_dirty){0};
}
