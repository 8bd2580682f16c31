/* SPDX-License-Identifier: Apache-2.0 */
#include "ft/ft_alike.h"

enum ft_alike_step ft_alike_next(struct ft_alike *a, bool mirrored, bool can,
                                 uint64_t newest)
{
    if (!mirrored || a->done) {
        return FT_ALIKE_MAY_END;
    }
    if (a->number != 0 || !can) {
        return FT_ALIKE_WAIT;
    }
    a->number = newest + 1;
    return FT_ALIKE_BEGIN;
}

void ft_alike_acked(struct ft_alike *a, uint64_t number)
{
    a->done = a->done || (a->number != 0 && number >= a->number);
}
