/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Corosync as the agent sees it: one CPG group, quorum and its ring ids, and knet's link
 * state as an early suspicion. Loop thread only. A queue sends: TRY_AGAIN (flow control,
 * every sync phase) is retried from a timer, never waited for.
 */
#pragma once

#include "base/loop.h"
#include "ha/ha_view.h"

struct ha_corosync;

struct ha_corosync_ops {
    void (*view)(void *ctx, const struct ha_view *view);
    void (*deliver)(void *ctx, uint32_t nodeid, const void *buf, size_t len);
    /* A link to the node went down (up = false) before the ring noticed, or is back. */
    void (*suspect)(void *ctx, uint32_t nodeid, bool up);
    /* The daemon is gone: there is no quorum now. Connecting is retried every 200 ms. */
    void (*lost)(void *ctx);
    void (*connected)(void *ctx, uint32_t nodeid);
};

int ha_corosync_new(struct loop *loop, const struct ha_corosync_ops *ops, void *ctx,
                    struct ha_corosync **ret_corosync);
void ha_corosync_free(struct ha_corosync *corosync);
/* Queues one message; -ENOBUFS when the queue is full (1,024 messages: the ring is
 * stuck). */
int ha_corosync_mcast(struct ha_corosync *corosync, const void *frame, size_t len);
