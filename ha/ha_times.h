/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every time of the agent, derived in one place from few inputs (token, coefficient,
 * nodes, retry), with the inequalities checked. All in ns. Pure.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct ha_times_in {
    uint32_t token_ms, token_coefficient_ms;
    unsigned node_count;
    uint32_t fence_retry_ms;
    uint32_t fence_timeout_ms; /* of the slowest device */
};

struct ha_times {
    uint64_t ring_ns;    /* until a dead node has left the ring: 2.2 x effective token
                            (totem: token + 1.2 token) */
    uint64_t summary_ns; /* a member silent so long in the state exchange is left out */
    uint64_t
        report_grace_ns;    /* an owner that should act and says nothing: told to stop */
    uint64_t agent_away_ns; /* R8: an agent may be away so long before its node counts as
                               sick */
    uint64_t fence_retry_ns;
    uint64_t
        fence_total_ns; /* of one request: every level once, with its second reading */
    uint64_t lease_ns; /* R6: isolation lease; > 1.5 x ring, so that one dead node freezes
                          nobody else */
    uint64_t lease_renew_ns;
    uint64_t race_delay_ns; /* two nodes: the higher id waits so long before it shoots */
    uint64_t tick_ns;
};

/* False, with *ret_times untouched, when the inequalities cannot hold (token 0, ...). */
bool ha_times_derive(const struct ha_times_in *in, struct ha_times *ret_times);

/* A node that sent nothing for so long is suspected. Live nodes are heard from every 200
 * ms at least, whatever the token: knet pings, and its timer has that resolution. */
uint64_t ha_times_quiet_ns(uint32_t token_ms);
