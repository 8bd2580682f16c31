/* SPDX-License-Identifier: Apache-2.0 */
#include "base/proto_limits.h"

#include <stdlib.h>

#include "base/limits.h"

/* What an allocation costs beyond its size: malloc's header and rounding. */
#define ALLOC_OVERHEAD 32

struct budget {
    size_t left;
    bool exceeded;
};

static void *budget_alloc(void *data, size_t size)
{
    struct budget *b = data;

    if (size > b->left || size + ALLOC_OVERHEAD > b->left) {
        b->exceeded = true;
        return NULL;
    }
    b->left -= size + ALLOC_OVERHEAD;
    return malloc(size);
}

/* Nothing is given back: libprotobuf-c frees its scratch memory only at the end of an
 * unpack. */
static void budget_free(void *data, void *p)
{
    (void)data;
    free(p);
}

/* libprotobuf-c refuses field number 0, but not when it is written in two bytes (found by
 * fuzz_proto_ctl). */
enum proto_reason proto_unknown_ok(const ProtobufCMessage *message)
{
    if (message->n_unknown_fields > PROTO_UNKNOWN_MAX) {
        return PROTO_OVER_BUDGET;
    }
    for (unsigned i = 0; i < message->n_unknown_fields; i++) {
        if (message->unknown_fields[i].tag == 0) {
            return PROTO_MALFORMED;
        }
    }
    return PROTO_OK;
}

enum proto_reason proto_unpack(const ProtobufCMessageDescriptor *descriptor,
                               const void *buf, size_t len,
                               ProtobufCMessage **ret_message)
{
    struct budget budget = {.left = PROTO_BUDGET_FACTOR * len + PROTO_BUDGET_EXTRA};
    ProtobufCAllocator allocator = {budget_alloc, budget_free, &budget};
    ProtobufCMessage *message =
        protobuf_c_message_unpack(descriptor, &allocator, len, buf);
    enum proto_reason reason;

    if (message == NULL) {
        return budget.exceeded ? PROTO_OVER_BUDGET : PROTO_MALFORMED;
    }
    reason = proto_unknown_ok(message);
    if (reason != PROTO_OK) {
        proto_free(message);
        return reason;
    }
    *ret_message = message;
    return PROTO_OK;
}

void proto_free(ProtobufCMessage *message)
{
    if (message != NULL) { /* our allocator is malloc behind a counter */
        protobuf_c_message_free_unpacked(message, NULL);
    }
}
