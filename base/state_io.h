/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one encoder of VM state (design 4.3): snapshot and suspend files, migration, FT
 * first sync and barrier. A device has one field list for both directions:
 *
 *     int rtc_xfer(void *dev, struct state_io *io)
 *     {
 *         state_u8(io, &rtc->index);
 *         state_bytes(io, rtc->cmos, sizeof rtc->cmos);
 *         return state_end(io);
 *     }
 *
 * Stream: u32 magic "GMST", u16 version, u16 reserved; then sections
 *   { u8 name_len, name, u16 instance, u16 version, u16 min_reader, u16 reserved (0),
 *     u32 length, u32 crc32c (from name_len to length, then body), body }
 * ended by a section of empty name, all zero but for its crc; nothing may follow it.
 * Names are made of a-z, 0-9 and "-_.". The reader treats every byte as hostile: errors
 * are sticky, never asserted. Pure.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/limits.h"

enum state_mode { STATE_SAVE = 1, STATE_LOAD };

enum state_error {
    STATE_OK = 0,
    STATE_TRUNCATED,
    STATE_BAD_MAGIC,
    STATE_BAD_CRC,
    STATE_TOO_NEW,    /* min_reader above what this build reads */
    STATE_UNKNOWN,    /* a section nobody here knows */
    STATE_MISSING,    /* a section that should be there */
    STATE_BAD_LENGTH, /* fields and length disagree */
    STATE_BAD_VALUE,  /* a field refused by the device (state_refuse) */
    STATE_NO_SPACE,   /* save buffer too small */
};

struct state_section {
    char name[STATE_NAME_MAX + 1];
    uint16_t instance;
    uint16_t version; /* of the writer: a loader reads fields of later versions only if
                         version says they are there */
    uint16_t min_reader;
};

struct state_io {
    enum state_mode mode;
    enum state_error error;
    struct state_section section; /* the open one */
    struct bytes_wr wr;           /* save: whole stream */
    struct bytes_rd rd;           /* load: body of the open section */
    size_t section_start;         /* save: where the open section begins */
    uint16_t reader_version;      /* load: given to state_section_accept, 0 before */
    unsigned section_count;       /* load: opened so far, at most STATE_SECTIONS_MAX */
    bool section_open, ended;
    const char *refused_field; /* load: named by state_refuse, for the message */
    /* load: the whole stream */
    const uint8_t *stream;
    size_t stream_len, stream_pos;
};

/* Save into `buf`. */
void state_save_init(struct state_io *io, void *buf, size_t cap);
void state_section_begin(struct state_io *io, const char *name, uint16_t instance,
                         uint16_t version, uint16_t min_reader);
void state_section_end(struct state_io *io);
/* Ends the stream; returns its length, 0 on error (io->error says which). */
size_t state_save_finish(struct state_io *io);

/* Load from `buf`: validates magic. */
void state_load_init(struct state_io *io, const void *buf, size_t len);
/* Opens the next section (crc checked); false at the end marker or on error (io->error).
 */
bool state_section_next(struct state_io *io);
/*
 * Says which version of the open section this build reads: STATE_TOO_NEW when its
 * min_reader is above that. A section of a later version that we may still read can have
 * fields at its end which we do not know: state_end skips them.
 */
bool state_section_accept(struct state_io *io, uint16_t reader_version);
/* Load: the caller's verdict on a section (STATE_UNKNOWN, STATE_MISSING). The first error
 * stays. */
void state_fail(struct state_io *io, enum state_error error);

/* Fields, both directions. After an error loads leave the field alone. */
void state_bool(struct state_io *io,
                bool *v); /* anything but 0 and 1 is STATE_BAD_VALUE */
void state_u8(struct state_io *io, uint8_t *v);
void state_u16(struct state_io *io, uint16_t *v);
void state_u32(struct state_io *io, uint32_t *v);
void state_u64(struct state_io *io, uint64_t *v);
void state_bytes(struct state_io *io, void *p, size_t len);
/* A load found a value that the device cannot have (index beyond a table, ...). */
void state_refuse(struct state_io *io, const char *field);
/* 0, or -EBADMSG when anything failed so far or, on load, the section has bytes left. */
int state_end(struct state_io *io);
const char *state_error_str(enum state_error error);
