/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bodies of control frames: protobuf (migrate/proto_mig.proto) to and from the plain
 * values of migrate/mig_types. Limits before and while parsing: length, memory, unknown
 * fields, nesting of one level, text that is UTF-8 and fits, numbers and lists in range.
 * Packing refuses what unpacking would. Allocates while it works, keeps nothing.
 */
#pragma once

#include <stddef.h>
#include <sys/types.h>

#include "migrate/mig_types.h"

enum mig_msg_reason {
    MIG_MSG_OK = 0,
    MIG_MSG_TOO_LONG,
    MIG_MSG_UNKNOWN_KIND, /* of a later version: ignore it if its frame is optional */
    MIG_MSG_MALFORMED,
    MIG_MSG_OVER_BUDGET,
    MIG_MSG_BAD_FIELD, /* text, number, list or code out of range */
    MIG_MSG_NO_MEMORY,
};

/* Length of the body in `buf` (0: every value is its default), or -1: a value is out of
 * range, or it does not fit `cap` (MIG_CONTROL_MAX is enough for every valid message). */
ssize_t mig_msg_pack(const struct mig_msg *msg, void *buf, size_t cap);
/* `kind`: the frame's type - MIG_FRAME_CONTROL. *ret_msg is set only with MIG_MSG_OK. */
enum mig_msg_reason mig_msg_unpack(unsigned kind, const void *body, size_t len,
                                   struct mig_msg *ret_msg);
const char *mig_msg_reason_str(enum mig_msg_reason reason);
