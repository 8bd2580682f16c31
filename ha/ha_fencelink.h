/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent's connection to gemel-fenced. Requests are kept until they are settled and
 * sent again after a reconnect: they are keyed by uid, so a duplicate has no second
 * effect. Loop thread only.
 */
#pragma once

#include "base/loop.h"
#include "ha/ha_agent.h"

struct ha_fencelink;

struct ha_fencelink_ops {
    /* A final result: result OK, FAILED or (cancelled) NONE. */
    void (*report)(void *ctx, const struct ha_fence_report *report);
    /* Still under way; for `status`. */
    void (*progress)(void *ctx, uint32_t target, const char *detail);
    void (*connected)(void *ctx, bool connected);
};

int ha_fencelink_new(struct loop *loop, const char *socket_path,
                     const struct ha_agent_self *self, const struct ha_fencelink_ops *ops,
                     void *ctx, struct ha_fencelink **ret_link);
void ha_fencelink_free(struct ha_fencelink *link);
/* The cluster definition: devices and levels. Secrets are read by fenced itself. */
void ha_fencelink_config(struct ha_fencelink *link, const char *yaml);
void ha_fencelink_off(struct ha_fencelink *link, const struct ha_node *node,
                      uint32_t timeout_ms);
void ha_fencelink_cancel(struct ha_fencelink *link, const struct ha_node *node);
void ha_fencelink_on(struct ha_fencelink *link, const struct ha_node *node,
                     struct uuid uid);
/* One reading of the power state; an `off` is reported as a suspicion's proof about this
 * incarnation. */
void ha_fencelink_status(struct ha_fencelink *link, const struct ha_node *node,
                         struct uuid uid);
