/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The frame: a 32-byte little-endian header and a body, the same on CPG messages,
 * migration and FT streams, and the agent's record log. The header has its own crc, so
 * that the length may be trusted before the body has arrived. Pure.
 *
 *   u32 magic  u16 type (bit 15: an unknown one may be ignored)  u16 version
 *   u64 seq    u32 body_len  u32 reserved (0)  u32 body_crc  u32 header_crc (of the 28
 * bytes before it)
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define FRAME_HEADER_LEN    32
#define FRAME_TYPE_OPTIONAL UINT16_C(0x8000)

enum frame_reason {
    FRAME_OK = 0,
    FRAME_NEED_MORE, /* not an error on a stream: the bytes so far are a prefix */
    FRAME_BAD_MAGIC,
    FRAME_BAD_HEADER_CRC,
    FRAME_BAD_VERSION, /* version 0 */
    FRAME_BAD_TYPE,    /* type 0 */
    FRAME_TOO_LONG,
    FRAME_BAD_RESERVED,
    FRAME_BAD_BODY_CRC,
};

struct frame {
    uint16_t type; /* with FRAME_TYPE_OPTIONAL if set */
    uint16_t version;
    uint64_t seq;
    const uint8_t *body; /* into the caller's buffer */
    uint32_t body_len;
};

/*
 * Validates the frame at the start of `buf`; `body_len_max` is the caller's cap for this
 * channel. FRAME_OK fills *ret_frame; the frame occupies FRAME_HEADER_LEN + body_len
 * bytes.
 */
enum frame_reason frame_check(const void *buf, size_t len, uint32_t magic,
                              uint32_t body_len_max, struct frame *ret_frame);
/*
 * The header alone (FRAME_HEADER_LEN bytes; less is FRAME_NEED_MORE), for a body that is
 * read to elsewhere: FRAME_OK fills *ret_frame but for `body`, and what the body's crc32c
 * has to be.
 */
enum frame_reason frame_check_header(const void *buf, size_t len, uint32_t magic,
                                     uint32_t body_len_max, struct frame *ret_frame,
                                     uint32_t *ret_body_crc);
/* Length of the body behind a whole header for which frame_check said FRAME_NEED_MORE. */
uint32_t frame_body_len(const void *header);
/* The header alone, for a body that lies elsewhere and has this crc32c. */
void frame_header(const struct frame *frame, uint32_t magic, uint32_t body_crc,
                  uint8_t *header);
/* Writes header and body; returns the total length, or 0 when `cap` is too small.
 * frame->body may already lie in place. */
size_t frame_encode(const struct frame *frame, uint32_t magic, void *buf, size_t cap);
const char *frame_reason_str(enum frame_reason reason);
