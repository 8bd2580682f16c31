/* SPDX-License-Identifier: Apache-2.0 */
/* Little-endian integers on wire, disk and in guest memory: a type, so that host and disk
 * order cannot be mixed. */
#pragma once

#include <stdint.h>

struct le16 {
    uint16_t le;
};
struct le32 {
    uint32_t le;
};
struct le64 {
    uint64_t le;
};

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "Gemel runs on x86-64 hosts");

static inline uint16_t le16_get(struct le16 x)
{
    return x.le;
}

static inline uint32_t le32_get(struct le32 x)
{
    return x.le;
}

static inline uint64_t le64_get(struct le64 x)
{
    return x.le;
}

static inline struct le16 le16_make(uint16_t v)
{
    return (struct le16){v};
}

static inline struct le32 le32_make(uint32_t v)
{
    return (struct le32){v};
}

static inline struct le64 le64_make(uint64_t v)
{
    return (struct le64){v};
}
