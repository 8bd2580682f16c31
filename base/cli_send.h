/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Answers of an agent to `gemel` that are longer than one message, or than the client's
 * socket holds at the moment: sent in parts, the rest from a timer. Any thread that owns
 * the loop; shells only.
 */
#pragma once

#include <stdint.h>

#include "base/loop.h"

struct qb_ipcs_connection;
struct cli_sender;

int cli_sender_new(struct loop *loop, struct cli_sender **ret_sender);
void cli_sender_free(struct cli_sender *sender); /* NULL is fine */

/*
 * The final answer to the request of this connection. text and json are copied; NULL is
 * "". Always accepted: an error is the client's going away (-errno, for the log). A
 * client that does not read for 10 s loses the rest.
 */
int cli_sender_finish(struct cli_sender *sender, struct qb_ipcs_connection *connection,
                      uint32_t exit_code, const char *text, const char *json);
/* A line of progress, before the answer; lost if the client does not keep up. */
void cli_sender_progress(struct cli_sender *sender, struct qb_ipcs_connection *connection,
                         const char *text);
/* Must be called when a connection is closed: what waits for it is dropped. */
void cli_sender_drop(struct cli_sender *sender, struct qb_ipcs_connection *connection);
