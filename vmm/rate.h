/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A rate limit: so many units (bytes, requests, packets) per second, with RATE_BURST_NS
 * worth of them at once after a pause. It is a token bucket in the form of the generic
 * cell rate algorithm (ITU-T I.371): all it keeps is when the units granted so far will
 * have been earned. A grant may be larger than the burst; the next one waits longer then.
 * Pure: time comes from INPUT_CLOCK.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/state_io.h"

#define RATE_BURST_NS UINT64_C(100000000)
#define RATE_COST_MAX (UINT64_C(1) << 30)

struct rate {
    uint64_t per_s; /* from the configuration; 0: no limit */
    uint64_t earned_ns;
};

static inline struct rate rate_make(uint64_t per_s)
{
    return (struct rate){.per_s = per_s};
}

/* May something go now? */
bool rate_ready(const struct rate *rate, uint64_t now_ns);
/* When it may, if nothing else goes before; 0 without a limit. */
uint64_t rate_ready_at(const struct rate *rate);
/* It goes: cost is cut at RATE_COST_MAX. */
void rate_charge(struct rate *rate, uint64_t now_ns, uint64_t cost);
void rate_xfer(struct rate *rate, struct state_io *io);
