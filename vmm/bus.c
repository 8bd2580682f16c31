/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/bus.h"

#include <errno.h>
#include <stddef.h>

int bus_add(struct bus *bus, const struct bus_range *range)
{
    uint64_t end;
    unsigned at;

    if (range->len == 0 || __builtin_add_overflow(range->base, range->len, &end)) {
        return -EINVAL;
    }
    for (unsigned i = 0; i < bus->range_count; i++) {
        const struct bus_range *other = &bus->range[i];

        if (range->base < other->base + other->len && other->base < end) {
            return -EEXIST;
        }
    }
    if (bus->range_count == BUS_RANGES_MAX) {
        return -ENOSPC;
    }
    for (at = bus->range_count; at > 0 && bus->range[at - 1].base > range->base; at--) {
        bus->range[at] = bus->range[at - 1];
    }
    bus->range[at] = *range;
    bus->range_count++;
    return 0;
}

const struct bus_range *bus_find(const struct bus *bus, uint64_t addr, unsigned len)
{
    unsigned low = 0, high = bus->range_count;
    const struct bus_range *range;

    while (low < high) { /* the last range that begins at or before addr */
        unsigned mid = (low + high) / 2;

        if (bus->range[mid].base <= addr) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    if (low == 0) {
        return NULL;
    }
    range = &bus->range[low - 1];
    /* In offsets, so that nothing wraps at the top of the address space. */
    if (addr - range->base >= range->len || len > range->len - (addr - range->base)) {
        return NULL;
    }
    return range;
}
