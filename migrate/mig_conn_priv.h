/* SPDX-License-Identifier: Apache-2.0 */
/* A connection in steps that do not wait, for those who look after several at once:
 * mig_listen, mig_open, and the fuzz target of what a stranger may send. */
#pragma once

#include "migrate/mig_conn.h"

/* 0, -EAGAIN (until the socket is ready for *ret_events), or -errno with *err. */
int mig_conn_step_handshake(struct mig_conn *conn, short *ret_events,
                            struct vmm_error *err);
/* A whole frame into `body`, which holds `cap` bytes: the largest that the rules of
 * mig_conn_expect allow. */
int mig_conn_step_frame(struct mig_conn *conn, struct mig_conn_head *ret_head,
                        uint8_t *body, size_t cap, struct vmm_error *err);
/* What may come from now on, and nothing else; in the conf's rules (NULL) there is also
 * what is optional. */
void mig_conn_expect(struct mig_conn *conn, const struct mig_conn_rule *rules,
                     size_t rule_count);
