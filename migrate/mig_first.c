/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/mig_first.h"

#include "base/bug.h"

void mig_first_protected(struct mig_first *seen, uint64_t page)
{
    if (page < seen->begin) {
        seen->end = 0; /* ask again. What existed exists, or is read as zeros */
    }
}

uint64_t mig_first_part(struct mig_first *seen, const struct engine_ram *ram, uint64_t at,
                        uint64_t end, bool *ret_exists)
{
    uint64_t limit;

    BUG_ON(at >= end);
    if (at >= seen->end) {
        seen->begin = at;
        if (!engine_ram_data(ram, &seen->begin, &seen->end)) {
            seen->begin = seen->end = UINT64_MAX;
        }
    }
    *ret_exists = at >= seen->begin;
    limit = *ret_exists ? seen->end : seen->begin;
    return (limit < end ? limit : end) - at;
}
