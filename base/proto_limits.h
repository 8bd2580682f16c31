/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Unpacking of protobuf messages with the limits that libprotobuf-c lacks: an allocator
 * with a budget, a bound on unknown fields. Limits of single fields are the caller's. In
 * the io library.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include <protobuf-c/protobuf-c.h>

enum proto_reason { PROTO_OK = 0, PROTO_MALFORMED, PROTO_OVER_BUDGET };

/* `len` was compared with its limit before. *ret_message: free with proto_free. */
enum proto_reason proto_unpack(const ProtobufCMessageDescriptor *descriptor,
                               const void *buf, size_t len,
                               ProtobufCMessage **ret_message);
void proto_free(ProtobufCMessage *message); /* NULL is fine */
/* Are the fields that this build does not know few, and well formed? proto_unpack asks it
 * of the message itself; its caller of inner ones. */
enum proto_reason proto_unknown_ok(const ProtobufCMessage *message);
