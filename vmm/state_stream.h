/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A whole VM as a stream of frames (base/frame): the suspend file, a snapshot's
 * state.gms, and later the migration stream.
 *
 *   HEAD   state_io stream with section "vm": which VM, which machine, how much RAM
 *   STATE  state_io stream with everything but RAM; once, anywhere between HEAD and END
 *   RAM    u64 first page, u32 pages (1..256), u32 reserved (0), the pages; pages are
 *          numbered through RAM as the VMM maps it, low part first. Pages that are all
 *          zero need not come: RAM of a reader begins as zeros.
 *   END    u64 number of RAM frames, u64 pages in them
 *
 * Frames are numbered from 1 without gaps. The reader treats every byte as hostile. Pure.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/frame.h"

#define STATE_STREAM_MAGIC     UINT32_C(0x31534d47) /* "GMS1" */
#define STATE_STREAM_FORMAT    1
#define STATE_STREAM_RUN_PAGES 256
#define STATE_STREAM_RAM_HEAD  16
#define STATE_STREAM_BODY_MAX  (4 * 1024 * 1024)
#define STATE_STREAM_PAGE      4096

enum state_frame {
    STATE_FRAME_HEAD = 1,
    STATE_FRAME_STATE,
    STATE_FRAME_RAM,
    STATE_FRAME_END
};

enum stream_error {
    STREAM_OK = 0,
    STREAM_BAD_FRAME, /* rd->frame_reason */
    STREAM_BAD_SEQ,
    STREAM_BAD_ORDER, /* a kind of frame that may not come here */
    STREAM_BAD_RAM,   /* pages outside RAM, or a length that disagrees */
    STREAM_BAD_COUNT, /* END counts other than what came */
    STREAM_UNKNOWN,   /* a kind or a version of frame that this build does not know */
    STREAM_TRUNCATED, /* no END */
};

struct state_stream_rd {
    uint64_t ram_pages; /* of this VM; set by the caller after HEAD */
    uint64_t seq, ram_frames, pages;
    bool head, state, end;
    enum stream_error error;
    enum frame_reason frame_reason;
};

/* What a RAM frame brought; `data` points into the frame. */
struct state_ram_run {
    uint64_t first_page;
    uint32_t page_count;
    const uint8_t *data;
};

/* Judges a complete, frame_check'ed frame. RAM: fills *ret_run. Errors are sticky. */
enum stream_error state_stream_take(struct state_stream_rd *rd, const struct frame *frame,
                                    struct state_ram_run *ret_run);
/* After the last byte: STREAM_OK only when END was there. */
enum stream_error state_stream_finish(const struct state_stream_rd *rd);
const char *stream_error_str(enum stream_error error);

/* Writes the 16 bytes in front of the pages of a RAM frame. */
void state_stream_ram_head(uint8_t *head, uint64_t first_page, uint32_t page_count);
#define STATE_STREAM_END_LEN 16
void state_stream_end_body(uint8_t *body, uint64_t ram_frames, uint64_t pages);
