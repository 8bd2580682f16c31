/* SPDX-License-Identifier: Apache-2.0 */
/* Between ha_daemon.c (glue), ha_suspect.c (silent links, what fence devices say) and
 * ha_isolation.c (no quorum). */
#pragma once

#include "ha/ha_daemon.h"

/* An event that only this node saw. */
void ha_daemon_local_event(struct ha_daemon *d, const char *a, const char *b,
                           const char *c);

/* A link went down or came up: its node's power state may be asked. */
void ha_suspect_link(void *ctx, uint32_t nodeid, bool up);
/* A reading from before the view waits here until the node has left it. */
void ha_suspect_send_proofs(struct ha_daemon *d);
/* For the core: such a reading, taken out. */
bool ha_suspect_early_off(void *ctx, const struct ha_node *node,
                          struct ha_fence_report *ret_report);
extern const struct ha_fencelink_ops ha_suspect_fence_ops;

/* The lease is renewed only while a VM here depends on it: others run on when this node
 * is alone. */
void ha_isolation_want_lease(struct ha_daemon *d);
void ha_isolation_lease_renewed(void *ctx, uint64_t from_ns);
/* With each view and tick. */
void ha_isolation_watch(struct ha_daemon *d, uint64_t now_ns);
