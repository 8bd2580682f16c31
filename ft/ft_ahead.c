/* SPDX-License-Identifier: Apache-2.0 */
#include "ft/ft_ahead.h"

enum ft_ahead_do ft_ahead_next(struct ft_ahead *a, uint64_t pages)
{
    if (pages < FT_AHEAD_PAGES || a->rest > 0 || a->passes == FT_AHEAD_PASSES ||
        (a->passes > 0 && pages > a->copied / 2)) {
        return FT_AHEAD_STOP;
    }
    a->passes++;
    a->copied = pages;
    return FT_AHEAD_COPY;
}

void ft_ahead_stopped(struct ft_ahead *a, uint64_t pages, uint64_t stood)
{
    if (a->passes == 0) {
        a->rest -= a->rest > 0;
    } else if (stood > pages / 2) {
        a->backoff = a->backoff == 0                  ? 1
                     : a->backoff < FT_AHEAD_REST / 2 ? 2 * a->backoff
                                                      : FT_AHEAD_REST;
        a->rest = a->backoff;
    } else {
        a->backoff = 0;
    }
    a->passes = 0;
}
