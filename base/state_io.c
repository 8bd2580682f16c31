/* SPDX-License-Identifier: Apache-2.0 */
#include "base/state_io.h"

#include <errno.h>
#include <string.h>

#include "base/bug.h"
#include "base/crc32c.h"
#include "base/version.h"

#define STREAM_MAGIC      UINT32_C(0x54534d47) /* "GMST" */
#define STREAM_HEADER_LEN 8
/* After the name: instance, version, min_reader, reserved, length; then the crc. */
#define SECTION_FIXED_LEN (4 * 2 + 4)
#define CRC_LEN           4

void state_fail(struct state_io *io, enum state_error error)
{
    if (io->error == STATE_OK) {
        io->error = error;
    }
}

/* Save ------------------------------------------------------------------------------- */
void state_save_init(struct state_io *io, void *buf, size_t cap)
{
    *io = (struct state_io){.mode = STATE_SAVE, .wr = bytes_wr_make(buf, cap)};
    bytes_wr_u32(&io->wr, STREAM_MAGIC);
    bytes_wr_u16(&io->wr, STATE_STREAM_VERSION);
    bytes_wr_u16(&io->wr, 0);
}

static bool name_char_ok(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' ||
           c == '.';
}

static void write_section_header(struct state_io *io, const char *name, size_t name_len)
{
    io->section_start = io->wr.pos;
    bytes_wr_u8(&io->wr, (uint8_t)name_len);
    bytes_wr_copy(&io->wr, name, name_len);
    bytes_wr_u16(&io->wr, io->section.instance);
    bytes_wr_u16(&io->wr, io->section.version);
    bytes_wr_u16(&io->wr, io->section.min_reader);
    bytes_wr_u16(&io->wr, 0);
    bytes_wr_u32(&io->wr, 0); /* length and crc: filled in by close_section */
    bytes_wr_u32(&io->wr, 0);
    io->section_open = true;
}

void state_section_begin(struct state_io *io, const char *name, uint16_t instance,
                         uint16_t version, uint16_t min_reader)
{
    size_t name_len = strlen(name);

    BUG_ON(io->mode != STATE_SAVE);
    BUG_ON(io->section_open);
    BUG_ON(name_len == 0 || name_len > STATE_NAME_MAX);
    BUG_ON(version == 0 || min_reader == 0 || min_reader > version);
    for (size_t i = 0; i < name_len; i++) {
        BUG_ON(!name_char_ok(name[i]));
    }
    io->section = (struct state_section){
        .instance = instance, .version = version, .min_reader = min_reader};
    memcpy(io->section.name, name, name_len);
    write_section_header(io, name, name_len);
}

static void close_section(struct state_io *io)
{
    uint8_t *header = io->wr.buf + io->section_start;
    size_t covered, body_len;
    struct bytes_wr patch;
    uint32_t crc;

    io->section_open = false;
    if (io->wr.failed) {
        state_fail(io, STATE_NO_SPACE);
        return;
    }
    covered = 1 + (size_t)header[0] + SECTION_FIXED_LEN;
    body_len = io->wr.pos - io->section_start - covered - CRC_LEN;
    if (body_len > STATE_SECTION_LEN_MAX) {
        state_fail(io, STATE_BAD_LENGTH);
        return;
    }
    patch = bytes_wr_make(header + covered - 4, 4 + CRC_LEN);
    bytes_wr_u32(&patch, (uint32_t)body_len);
    crc = crc32c(0, header, covered);
    bytes_wr_u32(&patch, crc32c(crc, header + covered + CRC_LEN, body_len));
}

void state_section_end(struct state_io *io)
{
    BUG_ON(io->mode != STATE_SAVE);
    BUG_ON(!io->section_open);
    close_section(io);
    if (++io->section_count > STATE_SECTIONS_MAX) {
        state_fail(io, STATE_BAD_LENGTH);
    }
}

size_t state_save_finish(struct state_io *io)
{
    BUG_ON(io->mode != STATE_SAVE);
    BUG_ON(io->section_open);
    io->section = (struct state_section){0};
    write_section_header(io, "", 0);
    close_section(io);
    return io->error == STATE_OK ? io->wr.pos : 0;
}

/* Load ------------------------------------------------------------------------------- */
void state_load_init(struct state_io *io, const void *buf, size_t len)
{
    struct bytes_rd rd = bytes_rd_make(buf, len);
    uint32_t magic = bytes_rd_u32(&rd);
    uint16_t version = bytes_rd_u16(&rd);
    uint16_t reserved = bytes_rd_u16(&rd);

    *io = (struct state_io){.mode = STATE_LOAD,
                            .stream = buf,
                            .stream_len = len,
                            .stream_pos = STREAM_HEADER_LEN};
    if (rd.failed) {
        state_fail(io, STATE_TRUNCATED);
    } else if (magic != STREAM_MAGIC || version == 0 || reserved != 0) {
        state_fail(io, STATE_BAD_MAGIC);
    } else if (version > STATE_STREAM_VERSION) {
        state_fail(io, STATE_TOO_NEW);
    }
}

static bool section_name_ok(const char *name, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (!name_char_ok(name[i])) {
            return false;
        }
    }
    return true;
}

/* Reads and judges one header at `rd`; the body is what follows, *ret_len bytes. */
static enum state_error read_section_header(struct bytes_rd *rd,
                                            struct state_section *ret_section,
                                            size_t *ret_len)
{
    struct state_section s = {0};
    size_t start = rd->pos, covered, name_len, body_len;
    uint16_t reserved;
    uint32_t crc;

    name_len = bytes_rd_u8(rd);
    if (name_len > STATE_NAME_MAX) {
        return STATE_BAD_LENGTH;
    }
    bytes_rd_copy(rd, s.name, name_len);
    s.instance = bytes_rd_u16(rd);
    s.version = bytes_rd_u16(rd);
    s.min_reader = bytes_rd_u16(rd);
    reserved = bytes_rd_u16(rd);
    body_len = bytes_rd_u32(rd);
    covered = rd->pos - start;
    crc = bytes_rd_u32(rd);
    if (rd->failed) {
        return STATE_TRUNCATED;
    }
    /* Capped before it is compared with what is there, so that nobody ever waits for 4
     * GiB. */
    if (body_len > STATE_SECTION_LEN_MAX) {
        return STATE_BAD_LENGTH;
    }
    if (body_len > bytes_rd_left(rd)) {
        return STATE_TRUNCATED;
    }
    if (crc32c(crc32c(0, rd->buf + start, covered), rd->buf + rd->pos, body_len) != crc) {
        return STATE_BAD_CRC;
    }
    if (reserved != 0 || !section_name_ok(s.name, name_len)) {
        return STATE_BAD_VALUE;
    }
    if (name_len == 0) {
        if (s.instance != 0 || s.version != 0 || s.min_reader != 0 || body_len != 0) {
            return STATE_BAD_VALUE;
        }
    } else if (s.version == 0 || s.min_reader == 0 || s.min_reader > s.version) {
        return STATE_BAD_VALUE;
    }
    *ret_section = s;
    *ret_len = body_len;
    return STATE_OK;
}

bool state_section_next(struct state_io *io)
{
    struct bytes_rd rd;
    enum state_error error;
    size_t body_len;

    BUG_ON(io->mode != STATE_LOAD);
    if (io->ended || (io->section_open && state_end(io) < 0) || io->error != STATE_OK) {
        return false;
    }
    io->section_open = false;
    io->reader_version = 0;
    rd = bytes_rd_make(io->stream, io->stream_len);
    rd.pos = io->stream_pos;
    error = read_section_header(&rd, &io->section, &body_len);
    if (error != STATE_OK) {
        state_fail(io, error);
        return false;
    }
    io->rd = bytes_rd_make(io->stream + rd.pos, body_len);
    io->stream_pos = rd.pos + body_len;
    if (io->section.name[0] == '\0') {
        io->ended = true;
        if (io->stream_pos != io->stream_len) {
            state_fail(io, STATE_BAD_LENGTH);
        }
        return false;
    }
    if (++io->section_count > STATE_SECTIONS_MAX) {
        state_fail(io, STATE_BAD_LENGTH);
        return false;
    }
    io->section_open = true;
    return true;
}

bool state_section_accept(struct state_io *io, uint16_t reader_version)
{
    BUG_ON(io->mode != STATE_LOAD);
    BUG_ON(reader_version == 0);
    io->reader_version = reader_version;
    if (io->section.min_reader > reader_version) {
        state_fail(io, STATE_TOO_NEW);
    }
    return io->error == STATE_OK;
}

/* Fields ----------------------------------------------------------------------------- */
/* Where a load finds the next `len` bytes; NULL after any error, and then the field is
 * left alone. */
static const uint8_t *load_view(struct state_io *io, size_t len)
{
    const uint8_t *p = NULL;

    if (io->error == STATE_OK) {
        p = bytes_rd_view(&io->rd, len);
        if (p == NULL) {
            state_fail(io, STATE_BAD_LENGTH);
        }
    }
    return p;
}

static uint64_t state_le(struct state_io *io, uint64_t v, size_t len)
{
    uint8_t raw[8];
    const uint8_t *p;

    if (io->mode == STATE_SAVE) {
        for (size_t i = 0; i < len; i++) {
            raw[i] = (uint8_t)(v >> (8 * i));
        }
        bytes_wr_copy(&io->wr, raw, len);
        return v;
    }
    p = load_view(io, len);
    if (p != NULL) {
        v = 0;
        for (size_t i = len; i > 0; i--) {
            v = v << 8 | p[i - 1];
        }
    }
    return v;
}

void state_bool(struct state_io *io, bool *v)
{
    const uint8_t *p;

    if (io->mode == STATE_SAVE) {
        bytes_wr_u8(&io->wr, *v);
        return;
    }
    p = load_view(io, 1);
    if (p != NULL && *p > 1) {
        state_fail(io, STATE_BAD_VALUE);
    } else if (p != NULL) {
        *v = *p == 1;
    }
}

void state_u8(struct state_io *io, uint8_t *v)
{
    *v = (uint8_t)state_le(io, *v, 1);
}

void state_u16(struct state_io *io, uint16_t *v)
{
    *v = (uint16_t)state_le(io, *v, 2);
}

void state_u32(struct state_io *io, uint32_t *v)
{
    *v = (uint32_t)state_le(io, *v, 4);
}

void state_u64(struct state_io *io, uint64_t *v)
{
    *v = state_le(io, *v, 8);
}

void state_bytes(struct state_io *io, void *p, size_t len)
{
    const uint8_t *src;

    if (io->mode == STATE_SAVE) {
        bytes_wr_copy(&io->wr, p, len);
        return;
    }
    src = load_view(io, len);
    if (src != NULL && len > 0) {
        memcpy(p, src, len);
    }
}

void state_refuse(struct state_io *io, const char *field)
{
    if (io->error == STATE_OK) {
        io->refused_field = field;
    }
    state_fail(io, STATE_BAD_VALUE);
}

int state_end(struct state_io *io)
{
    bool may_skip = io->reader_version != 0 && io->section.version > io->reader_version;

    if (io->mode == STATE_SAVE) {
        if (io->wr.failed) {
            state_fail(io, STATE_NO_SPACE);
        }
    } else if (bytes_rd_left(&io->rd) > 0 && !may_skip) {
        state_fail(io, STATE_BAD_LENGTH);
    }
    return io->error == STATE_OK ? 0 : -EBADMSG;
}

const char *state_error_str(enum state_error error)
{
    switch (error) {
    case STATE_OK:
        return "ok";
    case STATE_TRUNCATED:
        return "the state ends too early";
    case STATE_BAD_MAGIC:
        return "this is not a Gemel state stream";
    case STATE_BAD_CRC:
        return "checksum differs: the state is damaged";
    case STATE_TOO_NEW:
        return "written by a later version that this one cannot read";
    case STATE_UNKNOWN:
        return "a section that this version does not know";
    case STATE_MISSING:
        return "a section is missing";
    case STATE_BAD_LENGTH:
        return "length and content disagree";
    case STATE_BAD_VALUE:
        return "a value that cannot be";
    case STATE_NO_SPACE:
        return "the buffer is too small for the state";
    }
    return "unknown error";
}
