/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent's end of the command line, for fake_gemeld: a libqb IPC service on its loop.
 * Checks the peer's uid and gid, fills in the actor, and hands over one request at a time
 * per connection. The answer may come later, from anywhere on the loop thread; a client
 * that has gone by then is no error.
 */
#pragma once

#include <stdint.h>

#include "base/loop.h"
#include "base/proto_ctl.h"

struct cli_server;

/* `client` names the connection until the final reply; `request` lives during the call
 * only. */
typedef void (*cli_server_request_fn)(uint64_t client, const Gemel__CliRequest *request,
                                      void *data);

/*
 * service NULL: CLI_WIRE_SERVICE, or what $GEMEL_SERVICE says. Root and members of
 * `group` (NULL or unknown: nobody else) may connect. 0 or -errno. libqb keeps callbacks
 * per process: one server at a time (-EBUSY).
 */
int cli_server_new(struct loop *loop, const char *service, const char *group,
                   cli_server_request_fn fn, void *data, struct cli_server **ret_server);
void cli_server_free(struct cli_server *server); /* NULL is fine */

/*
 * Sends one reply; final = true ends the request (long documents go in parts,
 * base/cli_send). 0; -ESTALE: the client has gone; -EMSGSIZE or -EAGAIN: a reply that was
 * not final is lost.
 */
int cli_server_reply(struct cli_server *server, uint64_t client,
                     const Gemel__CliReply *reply);
/* The short form of a final reply. json may be NULL. */
int cli_server_finish(struct cli_server *server, uint64_t client, uint32_t exit_code,
                      const char *text, const char *json);
