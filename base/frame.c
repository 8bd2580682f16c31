/* SPDX-License-Identifier: Apache-2.0 */
#include "base/frame.h"

#include <string.h>

#include "base/bytes.h"
#include "base/crc32c.h"

/* Offset of header_crc, and so the length it covers. */
#define HEADER_CRC_AT (FRAME_HEADER_LEN - 4)

_Static_assert(4 + 2 + 2 + 8 + 4 + 4 + 4 + 4 == FRAME_HEADER_LEN, "frame header layout");

enum frame_reason frame_check_header(const void *buf, size_t len, uint32_t magic,
                                     uint32_t body_len_max, struct frame *ret_frame,
                                     uint32_t *ret_body_crc)
{
    struct bytes_rd rd = bytes_rd_make(buf, len);
    struct frame f = {.body = NULL};
    uint32_t reserved, body_crc, header_crc;

    /* The magic is judged as soon as it is there, so that a wrong peer is noticed at
     * once. */
    if (len >= 4 && bytes_rd_u32(&rd) != magic) {
        return FRAME_BAD_MAGIC;
    }
    if (len < FRAME_HEADER_LEN) {
        return FRAME_NEED_MORE;
    }
    f.type = bytes_rd_u16(&rd);
    f.version = bytes_rd_u16(&rd);
    f.seq = bytes_rd_u64(&rd);
    f.body_len = bytes_rd_u32(&rd);
    reserved = bytes_rd_u32(&rd);
    body_crc = bytes_rd_u32(&rd);
    header_crc = bytes_rd_u32(&rd);

    if (crc32c(0, buf, HEADER_CRC_AT) != header_crc) {
        return FRAME_BAD_HEADER_CRC;
    }
    if (f.version == 0) {
        return FRAME_BAD_VERSION;
    }
    if ((f.type & ~FRAME_TYPE_OPTIONAL) == 0) {
        return FRAME_BAD_TYPE;
    }
    if (f.body_len > body_len_max) {
        return FRAME_TOO_LONG;
    }
    if (reserved != 0) {
        return FRAME_BAD_RESERVED;
    }
    *ret_frame = f;
    *ret_body_crc = body_crc;
    return FRAME_OK;
}

enum frame_reason frame_check(const void *buf, size_t len, uint32_t magic,
                              uint32_t body_len_max, struct frame *ret_frame)
{
    enum frame_reason reason;
    struct frame f;
    uint32_t body_crc;

    reason = frame_check_header(buf, len, magic, body_len_max, &f, &body_crc);
    if (reason != FRAME_OK) {
        return reason;
    }
    if (len - FRAME_HEADER_LEN < f.body_len) {
        return FRAME_NEED_MORE;
    }
    f.body = (const uint8_t *)buf + FRAME_HEADER_LEN;
    if (crc32c(0, f.body, f.body_len) != body_crc) {
        return FRAME_BAD_BODY_CRC;
    }
    *ret_frame = f;
    return FRAME_OK;
}

uint32_t frame_body_len(const void *header)
{
    struct bytes_rd rd = bytes_rd_make(header, FRAME_HEADER_LEN);

    rd.pos = 4 + 2 + 2 + 8;
    return bytes_rd_u32(&rd);
}

void frame_header(const struct frame *frame, uint32_t magic, uint32_t body_crc,
                  uint8_t *header)
{
    struct bytes_wr wr = bytes_wr_make(header, FRAME_HEADER_LEN);

    bytes_wr_u32(&wr, magic);
    bytes_wr_u16(&wr, frame->type);
    bytes_wr_u16(&wr, frame->version);
    bytes_wr_u64(&wr, frame->seq);
    bytes_wr_u32(&wr, frame->body_len);
    bytes_wr_u32(&wr, 0);
    bytes_wr_u32(&wr, body_crc);
    bytes_wr_u32(&wr, crc32c(0, header, HEADER_CRC_AT));
}

size_t frame_encode(const struct frame *frame, uint32_t magic, void *buf, size_t cap)
{
    uint8_t *start = buf;

    if (cap < FRAME_HEADER_LEN || cap - FRAME_HEADER_LEN < frame->body_len) {
        return 0;
    }
    frame_header(frame, magic, crc32c(0, frame->body, frame->body_len), start);
    if (frame->body_len > 0 && frame->body != start + FRAME_HEADER_LEN) {
        memmove(start + FRAME_HEADER_LEN, frame->body, frame->body_len);
    }
    return FRAME_HEADER_LEN + (size_t)frame->body_len;
}

const char *frame_reason_str(enum frame_reason reason)
{
    switch (reason) {
    case FRAME_OK:
        return "ok";
    case FRAME_NEED_MORE:
        return "incomplete";
    case FRAME_BAD_MAGIC:
        return "wrong magic number";
    case FRAME_BAD_HEADER_CRC:
        return "header checksum differs";
    case FRAME_BAD_VERSION:
        return "version 0";
    case FRAME_BAD_TYPE:
        return "type 0";
    case FRAME_TOO_LONG:
        return "body longer than this channel allows";
    case FRAME_BAD_RESERVED:
        return "reserved field is not zero";
    case FRAME_BAD_BODY_CRC:
        return "body checksum differs";
    }
    return "unknown reason";
}
