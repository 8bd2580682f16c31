/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checked byte cursors. An overrun sets `failed` and every later call does nothing (reads
 * give 0), so a codec checks once, at its end. Pure; anyone may include this.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/units.h"

struct bytes_rd {
    const uint8_t *buf;
    size_t len, pos;
    bool failed;
};

struct bytes_wr {
    uint8_t *buf;
    size_t cap, pos;
    bool failed;
};

struct bytes_rd bytes_rd_make(const void *buf, size_t len);
uint8_t bytes_rd_u8(struct bytes_rd *rd);
uint16_t bytes_rd_u16(struct bytes_rd *rd); /* little endian, as all below */
uint32_t bytes_rd_u32(struct bytes_rd *rd);
uint64_t bytes_rd_u64(struct bytes_rd *rd);
void bytes_rd_copy(struct bytes_rd *rd, void *dst, size_t len);
/* A view of the next `len` bytes, or NULL (and failed). */
const uint8_t *bytes_rd_view(struct bytes_rd *rd, size_t len);
/* A u16 length and that many bytes as a NUL-terminated string of at most cap - 1;
 * embedded NUL fails. */
void bytes_rd_str(struct bytes_rd *rd, char *dst, size_t cap);
struct uuid bytes_rd_uuid(struct bytes_rd *rd); /* 16 bytes; none after a failure */
size_t bytes_rd_left(const struct bytes_rd *rd);
/* True when nothing failed and nothing is left. */
bool bytes_rd_done(const struct bytes_rd *rd);

struct bytes_wr bytes_wr_make(void *buf, size_t cap);
void bytes_wr_u8(struct bytes_wr *wr, uint8_t v);
void bytes_wr_u16(struct bytes_wr *wr, uint16_t v);
void bytes_wr_u32(struct bytes_wr *wr, uint32_t v);
void bytes_wr_u64(struct bytes_wr *wr, uint64_t v);
void bytes_wr_copy(struct bytes_wr *wr, const void *src, size_t len);
void bytes_wr_str(struct bytes_wr *wr, const char *s);
void bytes_wr_uuid(struct bytes_wr *wr, struct uuid uuid);
