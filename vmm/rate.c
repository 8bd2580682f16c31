/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/rate.h"

#include "base/units.h"

/* RATE_COST_MAX at one per second, and some machine time before it: 2^61 ns. */
_Static_assert(RATE_COST_MAX < UINT64_MAX / NSEC_PER_SEC / 8, "products fit");

bool rate_ready(const struct rate *rate, uint64_t now_ns)
{
    return rate_ready_at(rate) <= now_ns;
}

uint64_t rate_ready_at(const struct rate *rate)
{
    return rate->per_s == 0 || rate->earned_ns <= RATE_BURST_NS
               ? 0
               : rate->earned_ns - RATE_BURST_NS;
}

void rate_charge(struct rate *rate, uint64_t now_ns, uint64_t cost)
{
    uint64_t from = rate->earned_ns > now_ns ? rate->earned_ns : now_ns;

    if (rate->per_s == 0) {
        return;
    }
    cost = cost < RATE_COST_MAX ? cost : RATE_COST_MAX;
    if (__builtin_add_overflow(from, cost * NSEC_PER_SEC / rate->per_s,
                               &rate->earned_ns)) {
        rate->earned_ns = UINT64_MAX;
    }
}

void rate_xfer(struct rate *rate, struct state_io *io)
{
    state_u64(io, &rate->earned_ns);
}
