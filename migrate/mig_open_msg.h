/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The first frame of every connection, from the source: to which transfer it belongs and
 * which of its streams it is. And the destination's answer, on stream 0, once all are
 * there. Little endian, fixed lengths. Pure.
 *
 *   OPEN    u32 version_min, version_max (of the stream)  uuid  token[16]
 *           u16 index, count  u32 reserved (0)
 *   ANSWER  u32 version (chosen; 0: refused)  u32 reserved (0)  u16 length and text why
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/units.h"
#include "migrate/mig_key.h"

#define MIG_STREAM_VERSION     1
#define MIG_STREAM_VERSION_MIN 1
#define MIG_OPEN_STREAMS_MAX   17 /* stream 0 and 16 of data */
#define MIG_OPEN_LEN           48
#define MIG_ANSWER_TEXT_MAX    255
#define MIG_ANSWER_LEN_MIN     10
#define MIG_ANSWER_LEN_MAX     (MIG_ANSWER_LEN_MIN + MIG_ANSWER_TEXT_MAX)

struct mig_open_msg {
    uint32_t version_min, version_max;
    struct uuid transfer;
    struct mig_token token;
    uint16_t index, count; /* count: all streams, also stream 0 */
};

struct mig_answer_msg {
    uint32_t version;
    char text[MIG_ANSWER_TEXT_MAX + 1];
};

enum mig_open_reason {
    MIG_OPEN_OK = 0,
    MIG_OPEN_BAD_FORM,     /* length, reserved fields, index or count out of range */
    MIG_OPEN_BAD_TRANSFER, /* another transfer, or not its token */
    MIG_OPEN_BAD_COUNT,    /* a number of streams that is not the one agreed on */
    MIG_OPEN_TAKEN,        /* this stream is there already: a replay */
    MIG_OPEN_BAD_VERSION,  /* no version in common */
};

void mig_open_encode(const struct mig_open_msg *msg, uint8_t body[static MIG_OPEN_LEN]);
bool mig_open_decode(const void *body, size_t len, struct mig_open_msg *ret_msg);
/* Length of the body; at most MIG_ANSWER_LEN_MAX. */
size_t mig_answer_encode(const struct mig_answer_msg *msg, uint8_t *body);
bool mig_answer_decode(const void *body, size_t len, struct mig_answer_msg *ret_msg);

/* The streams of a transfer as they come in. */
struct mig_roll {
    struct uuid transfer;
    struct mig_token token;
    uint16_t count;   /* 0: the first one says it */
    uint32_t joined;  /* bit i: stream i is there */
    uint32_t version; /* chosen; 0 before the first */
};

/* Whether `msg` may join, and if so marks it. The token is compared in constant time. */
enum mig_open_reason mig_roll_join(struct mig_roll *roll, const struct mig_open_msg *msg);
bool mig_roll_complete(const struct mig_roll *roll);
const char *mig_open_reason_str(enum mig_open_reason reason);
