/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which device answers at an address: a sorted table of ranges, one per address space
 * (ports, MMIO). Ranges never overlap, so a lookup has at most one answer. Pure; used by
 * vmm/machine.
 */
#pragma once

#include <stdint.h>

#include "base/limits.h"

struct bus_range {
    uint64_t base, len;
    uint32_t dev_offset; /* of the range's first byte within the device */
    uint8_t dev_index;
    uint8_t access_max; /* longer accesses are split into bytes (8-bit devices on an ISA
                           bus) */
};

struct bus {
    struct bus_range range[BUS_RANGES_MAX]; /* by base */
    unsigned range_count;
};

/* 0, -EINVAL (empty or wraps around), -EEXIST (overlaps another), -ENOSPC. */
int bus_add(struct bus *bus, const struct bus_range *range);
/* The range that holds all of [addr, addr + len), or NULL. */
const struct bus_range *bus_find(const struct bus *bus, uint64_t addr, unsigned len);
