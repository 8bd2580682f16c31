/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checkpoint mode: are pages copied ahead, while the guest still runs? Pure; no time is
 * looked at. An epoch is about to end; how many pages are written to and not copied is
 * known (KVM's log is looked at), then asked: copy them now, or stop the guest?
 *
 *     n = harvest; while (ft_ahead_next(a, n) == FT_AHEAD_COPY) { copy; n = harvest; }
 *     stop the guest; copy the rest; ft_ahead_stopped(a, all pages, copied while it
 * stood)
 *
 * A pass is tried again while the rest is at most half of what the last one copied. After
 * an epoch in which less than half of the pages needed no copy while the guest stood,
 * epochs are stopped at once as if there were no passes: 1, then 2, 4 ... FT_AHEAD_REST.
 */
#pragma once

#include <stdint.h>

#define FT_AHEAD_PASSES 4u
#define FT_AHEAD_REST   64u /* epochs */
/* Fewer pages are not worth a pass: to copy them takes as long as to stop the guest
 * (doc/decisions.md, "Checkpoints: copied ahead"). */
#define FT_AHEAD_PAGES 512u

enum ft_ahead_do { FT_AHEAD_STOP = 0, FT_AHEAD_COPY };

/* Begins with zeros. */
struct ft_ahead {
    uint32_t passes; /* of this epoch */
    uint32_t rest;   /* epochs that are stopped at once, from now on */
    uint32_t backoff;
    uint64_t copied; /* by the last pass */
};

enum ft_ahead_do ft_ahead_next(struct ft_ahead *a, uint64_t pages);
void ft_ahead_stopped(struct ft_ahead *a, uint64_t pages, uint64_t stood);
