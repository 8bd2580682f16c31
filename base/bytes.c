/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bytes.h"

#include <string.h>

struct bytes_rd bytes_rd_make(const void *buf, size_t len)
{
    return (struct bytes_rd){.buf = buf, .len = len};
}

const uint8_t *bytes_rd_view(struct bytes_rd *rd, size_t len)
{
    const uint8_t *view;

    if (rd->failed || len > rd->len - rd->pos) {
        rd->failed = true;
        return NULL;
    }
    view = rd->buf + rd->pos;
    rd->pos += len;
    return view;
}

/* Little endian, whatever the host: every fixed-width read goes through here. */
static uint64_t rd_le(struct bytes_rd *rd, size_t len)
{
    const uint8_t *p = bytes_rd_view(rd, len);
    uint64_t v = 0;

    if (p != NULL) {
        for (size_t i = len; i > 0; i--) {
            v = v << 8 | p[i - 1];
        }
    }
    return v;
}

uint8_t bytes_rd_u8(struct bytes_rd *rd)
{
    return (uint8_t)rd_le(rd, 1);
}

uint16_t bytes_rd_u16(struct bytes_rd *rd)
{
    return (uint16_t)rd_le(rd, 2);
}

uint32_t bytes_rd_u32(struct bytes_rd *rd)
{
    return (uint32_t)rd_le(rd, 4);
}

uint64_t bytes_rd_u64(struct bytes_rd *rd)
{
    return rd_le(rd, 8);
}

void bytes_rd_copy(struct bytes_rd *rd, void *dst, size_t len)
{
    const uint8_t *p = bytes_rd_view(rd, len);

    if (p == NULL) {
        memset(
            dst, 0,
            len); /* as the other readers: a failed read gives zero, never old memory */
    } else if (len > 0) {
        memcpy(dst, p, len);
    }
}

void bytes_rd_str(struct bytes_rd *rd, char *dst, size_t cap)
{
    size_t len = bytes_rd_u16(rd);
    const uint8_t *p = bytes_rd_view(rd, len);

    if (cap > 0) {
        dst[0] = '\0';
    }
    if (p == NULL) {
        return;
    }
    if (len >= cap || memchr(p, 0, len) != NULL) {
        rd->failed = true;
        return;
    }
    memcpy(dst, p, len);
    dst[len] = '\0';
}

size_t bytes_rd_left(const struct bytes_rd *rd)
{
    return rd->failed ? 0 : rd->len - rd->pos;
}

bool bytes_rd_done(const struct bytes_rd *rd)
{
    return !rd->failed && rd->pos == rd->len;
}

struct bytes_wr bytes_wr_make(void *buf, size_t cap)
{
    return (struct bytes_wr){.buf = buf, .cap = cap};
}

void bytes_wr_copy(struct bytes_wr *wr, const void *src, size_t len)
{
    if (wr->failed || len > wr->cap - wr->pos) {
        wr->failed = true;
        return;
    }
    if (len > 0) {
        memcpy(wr->buf + wr->pos, src, len);
        wr->pos += len;
    }
}

static void wr_le(struct bytes_wr *wr, uint64_t v, size_t len)
{
    uint8_t raw[8];

    for (size_t i = 0; i < len; i++) {
        raw[i] = (uint8_t)(v >> (8 * i));
    }
    bytes_wr_copy(wr, raw, len);
}

void bytes_wr_u8(struct bytes_wr *wr, uint8_t v)
{
    wr_le(wr, v, 1);
}

void bytes_wr_u16(struct bytes_wr *wr, uint16_t v)
{
    wr_le(wr, v, 2);
}

void bytes_wr_u32(struct bytes_wr *wr, uint32_t v)
{
    wr_le(wr, v, 4);
}

void bytes_wr_u64(struct bytes_wr *wr, uint64_t v)
{
    wr_le(wr, v, 8);
}

void bytes_wr_str(struct bytes_wr *wr, const char *s)
{
    size_t len = strlen(s);

    if (len > UINT16_MAX) {
        wr->failed = true;
        return;
    }
    bytes_wr_u16(wr, (uint16_t)len);
    bytes_wr_copy(wr, s, len);
}

struct uuid bytes_rd_uuid(struct bytes_rd *rd)
{
    struct uuid uuid = {{0}};

    bytes_rd_copy(rd, uuid.b, sizeof uuid.b);
    return uuid;
}

void bytes_wr_uuid(struct bytes_wr *wr, struct uuid uuid)
{
    bytes_wr_copy(wr, uuid.b, sizeof uuid.b);
}
