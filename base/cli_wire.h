/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How `gemel` and `gemeld` speak over libqb IPC: QB_IPC_SOCKET, each message is libqb's
 * header and then one datagram of base/proto_ctl (u8 kind, protobuf): CTL_CLI_REQUEST one
 * way, CTL_CLI_REPLY the other, zero or more with final = false before the one with final
 * = true. One request at a time per connection. A document longer than one message comes
 * in parts: the `json` of all replies is joined.
 *
 * libqb reads `size` and `id` itself: both ends need the header, and an id of at least
 * QB_IPC_MSG_USER_START.
 */
#pragma once

#include <errno.h>
#include <qb/qbipc_common.h>
#include <string.h>

#include "base/proto_ctl.h"

#define CLI_WIRE_SERVICE "gemeld" /* libqb service name */
#define CLI_WIRE_SERVICE_ENV                                                             \
    "GEMEL_SERVICE" /* another one: several agents on one machine */
#define CLI_WIRE_ID      (QB_IPC_MSG_USER_START + 1)
#define CLI_WIRE_MSG_MAX (sizeof(struct qb_ipc_response_header) + CTL_MSG_MAX)

/* A request in `buf` (aligned to 8, CLI_WIRE_MSG_MAX bytes): its length, or 0 if it does
 * not fit. */
static inline size_t cli_wire_pack_request(const Gemel__CliRequest *request, void *buf)
{
    struct qb_ipc_request_header *header = buf;
    size_t len = ctl_pack(CTL_CLI_REQUEST, request, header + 1, CTL_MSG_MAX);

    if (len == 0) {
        return 0;
    }
    *header = (struct qb_ipc_request_header){.id = CLI_WIRE_ID,
                                             .size = (int32_t)(sizeof *header + len)};
    return sizeof *header + len;
}

static inline size_t cli_wire_pack_reply(const Gemel__CliReply *reply, void *buf)
{
    struct qb_ipc_response_header *header = buf;
    size_t len = ctl_pack(CTL_CLI_REPLY, reply, header + 1, CTL_MSG_MAX);

    if (len == 0) {
        return 0;
    }
    *header = (struct qb_ipc_response_header){
        .id = CLI_WIRE_ID, .size = (int32_t)(sizeof *header + len), .error = 0};
    return sizeof *header + len;
}

/* 0 and *ret_msg (free with ctl_msg_free), or -EBADMSG. `len` is what was received, not
 * what the header says. */
static inline int cli_wire_unpack_request(const void *buf, size_t len,
                                          struct ctl_msg *ret_msg)
{
    const struct qb_ipc_request_header *header = buf;

    if (len <= sizeof *header ||
        ctl_unpack(header + 1, len - sizeof *header, ret_msg) != CTL_OK) {
        return -EBADMSG;
    }
    if (ret_msg->kind != CTL_CLI_REQUEST) {
        ctl_msg_free(ret_msg);
        return -EBADMSG;
    }
    return 0;
}

static inline int cli_wire_unpack_reply(const void *buf, size_t len,
                                        struct ctl_msg *ret_msg)
{
    const struct qb_ipc_response_header *header = buf;

    if (len <= sizeof *header ||
        ctl_unpack(header + 1, len - sizeof *header, ret_msg) != CTL_OK) {
        return -EBADMSG;
    }
    if (ret_msg->kind != CTL_CLI_REPLY) {
        ctl_msg_free(ret_msg);
        return -EBADMSG;
    }
    return 0;
}
