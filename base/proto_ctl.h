/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Packing and unpacking of base/proto_ctl.proto with the limits that libprotobuf-c lacks:
 * byte cap, an allocator with a budget, a bound on unknown fields. One datagram = u8 kind
 * of message (enum ctl_kind), then the protobuf.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/limits.h"
#include "base/proto_ctl.pb-c.h"

enum ctl_kind {
    CTL_INVALID = 0,
    CTL_HELLO,
    CTL_VMM_REQUEST,
    CTL_VMM_REPORT,
    CTL_FENCE_REQUEST,
    CTL_FENCE_REPORT,
    CTL_CLI_REQUEST,
    CTL_CLI_REPLY,
    CTL_KIND_COUNT,
};

/* A decoded datagram; exactly the member of `kind` is set. Free with ctl_msg_free. */
struct ctl_msg {
    enum ctl_kind kind;
    union {
        ProtobufCMessage *any;
        Gemel__Hello *hello;
        Gemel__VmmRequest *vmm_request;
        Gemel__VmmReport *vmm_report;
        Gemel__FenceRequest *fence_request;
        Gemel__FenceReport *fence_report;
        Gemel__CliRequest *cli_request;
        Gemel__CliReply *cli_reply;
    };
};

enum ctl_reason {
    CTL_OK = 0,
    CTL_EMPTY,
    CTL_TOO_LONG,
    CTL_UNKNOWN_KIND, /* of a later version: answer or ignore, do not drop the connection
                       */
    CTL_MALFORMED,
    CTL_OVER_BUDGET,
    CTL_TOO_MANY_FDS,
    CTL_BAD_FIELD, /* an id that is not 16 bytes, a string over its limit, an enum out of
                      range */
};

/* Length written, or 0 if it does not fit `cap` (CTL_MSG_MAX always suffices for what
 * this build sends). */
size_t ctl_pack(enum ctl_kind kind, const void *message, void *buf, size_t cap);
enum ctl_reason ctl_unpack(const void *buf, size_t len, struct ctl_msg *ret_msg);
void ctl_msg_free(struct ctl_msg *msg);
/* Bytes of a field, if they are so many: an id, a key. False: none, or others. */
bool ctl_take_bytes(const ProtobufCBinaryData *field, void *to, size_t len);
const char *ctl_reason_str(enum ctl_reason reason);

/* On a SOCK_SEQPACKET fd; 0 or -errno (-EAGAIN: full or empty; -ECONNRESET: closed;
 * -EBADMSG: *ret_reason). */
int ctl_send(int fd, enum ctl_kind kind, const void *message);
int ctl_recv(int fd, struct ctl_msg *ret_msg, enum ctl_reason *ret_reason);
/* The same with open files riding along (SCM_RIGHTS; at most CTL_FDS_MAX). ctl_recv drops
 * such files unseen. The receiver gets them close-on-exec, also with a message that was
 * refused with -EBADMSG, and closes them; more than CTL_FDS_MAX are none, and -EBADMSG.
 */
int ctl_send_fds(int fd, enum ctl_kind kind, const void *message, const int *fds,
                 size_t fd_count);
int ctl_recv_fds(int fd, struct ctl_msg *ret_msg, enum ctl_reason *ret_reason,
                 int ret_fds[CTL_FDS_MAX], size_t *ret_fd_count);
