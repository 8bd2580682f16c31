/* SPDX-License-Identifier: Apache-2.0 */
#include "ha/ha_times.h"

#include "base/units.h"

#define QUIET_NS_MIN (250 * NSEC_PER_MSEC)

uint64_t ha_times_quiet_ns(uint32_t token_ms)
{
    uint64_t half_ns = (uint64_t)token_ms * NSEC_PER_MSEC / 2;

    return half_ns > QUIET_NS_MIN ? half_ns : QUIET_NS_MIN;
}

bool ha_times_derive(const struct ha_times_in *in, struct ha_times *ret_times)
{
    struct ha_times t = {0};
    uint64_t token_ms = in->token_ms;

    if (token_ms < 50 || token_ms > 60000 || in->node_count == 0) {
        return false;
    }
    /* corosync.conf(5): the coefficient counts from the third node on; consensus is 1.2 x
     * token. */
    if (in->node_count > 2) {
        token_ms += (uint64_t)in->token_coefficient_ms * (in->node_count - 2);
    }
    t.ring_ns = token_ms * NSEC_PER_MSEC * 22 / 10;
    t.summary_ns = 2 * NSEC_PER_SEC;
    t.report_grace_ns = 10 * NSEC_PER_SEC;
    t.agent_away_ns = 10 * NSEC_PER_SEC;
    t.fence_retry_ns = in->fence_retry_ms * NSEC_PER_MSEC;
    t.fence_total_ns = (uint64_t)in->fence_timeout_ms * NSEC_PER_MSEC * 3;
    t.lease_ns = t.ring_ns * 2 > 2 * NSEC_PER_SEC ? t.ring_ns * 2 : 2 * NSEC_PER_SEC;
    t.lease_renew_ns = t.lease_ns / 4;
    t.race_delay_ns = 2 * NSEC_PER_SEC;
    t.tick_ns = 100 * NSEC_PER_MSEC;

    if (2 * t.lease_ns < 3 * t.ring_ns || t.lease_renew_ns * 3 >= t.lease_ns ||
        t.tick_ns >= t.lease_renew_ns) {
        return false;
    }
    *ret_times = t;
    return true;
}
