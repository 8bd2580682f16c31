/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/state_stream.h"

#include "base/bytes.h"

void state_stream_ram_head(uint8_t *head, uint64_t first_page, uint32_t page_count)
{
    struct bytes_wr wr = bytes_wr_make(head, STATE_STREAM_RAM_HEAD);

    bytes_wr_u64(&wr, first_page);
    bytes_wr_u32(&wr, page_count);
    bytes_wr_u32(&wr, 0);
}

void state_stream_end_body(uint8_t *body, uint64_t ram_frames, uint64_t pages)
{
    struct bytes_wr wr = bytes_wr_make(body, STATE_STREAM_END_LEN);

    bytes_wr_u64(&wr, ram_frames);
    bytes_wr_u64(&wr, pages);
}

static enum stream_error take_ram(struct state_stream_rd *rd, const struct frame *frame,
                                  struct state_ram_run *ret_run)
{
    struct bytes_rd body = bytes_rd_make(frame->body, frame->body_len);
    uint64_t first = bytes_rd_u64(&body);
    uint32_t count = bytes_rd_u32(&body);
    uint32_t reserved = bytes_rd_u32(&body);

    if (body.failed || reserved != 0 || count == 0 || count > STATE_STREAM_RUN_PAGES ||
        frame->body_len != STATE_STREAM_RAM_HEAD + (uint64_t)count * STATE_STREAM_PAGE ||
        first >= rd->ram_pages || count > rd->ram_pages - first) {
        return STREAM_BAD_RAM;
    }
    rd->ram_frames++;
    rd->pages += count;
    *ret_run = (struct state_ram_run){first, count, frame->body + STATE_STREAM_RAM_HEAD};
    return STREAM_OK;
}

static enum stream_error take_end(struct state_stream_rd *rd, const struct frame *frame)
{
    struct bytes_rd body = bytes_rd_make(frame->body, frame->body_len);
    uint64_t frames = bytes_rd_u64(&body), pages = bytes_rd_u64(&body);

    if (body.failed || frame->body_len != STATE_STREAM_END_LEN ||
        frames != rd->ram_frames || pages != rd->pages) {
        return STREAM_BAD_COUNT;
    }
    rd->end = true;
    return STREAM_OK;
}

static enum stream_error judge(struct state_stream_rd *rd, const struct frame *frame,
                               struct state_ram_run *ret_run)
{
    if (frame->seq != rd->seq + 1) {
        return STREAM_BAD_SEQ;
    }
    rd->seq++;
    if (rd->end) {
        return STREAM_BAD_ORDER;
    }
    if (frame->version > STATE_STREAM_FORMAT &&
        (frame->type & FRAME_TYPE_OPTIONAL) == 0) {
        return STREAM_UNKNOWN;
    }
    switch (frame->type) {
    case STATE_FRAME_HEAD:
        if (rd->head) {
            return STREAM_BAD_ORDER;
        }
        rd->head = true;
        return STREAM_OK;
    case STATE_FRAME_STATE:
        if (!rd->head || rd->state) {
            return STREAM_BAD_ORDER;
        }
        rd->state = true;
        return STREAM_OK;
    case STATE_FRAME_RAM:
        return rd->head ? take_ram(rd, frame, ret_run) : STREAM_BAD_ORDER;
    case STATE_FRAME_END:
        return rd->head && rd->state ? take_end(rd, frame) : STREAM_BAD_ORDER;
    default:
        return rd->head && (frame->type & FRAME_TYPE_OPTIONAL) != 0 ? STREAM_OK
                                                                    : STREAM_UNKNOWN;
    }
}

enum stream_error state_stream_take(struct state_stream_rd *rd, const struct frame *frame,
                                    struct state_ram_run *ret_run)
{
    *ret_run = (struct state_ram_run){0};
    if (rd->error == STREAM_OK) {
        rd->error = judge(rd, frame, ret_run);
    }
    return rd->error;
}

enum stream_error state_stream_finish(const struct state_stream_rd *rd)
{
    if (rd->error != STREAM_OK) {
        return rd->error;
    }
    return rd->end ? STREAM_OK : STREAM_TRUNCATED;
}

const char *stream_error_str(enum stream_error error)
{
    static const char *const text[] = {
        [STREAM_OK] = "no error",
        [STREAM_BAD_FRAME] = "damaged frame",
        [STREAM_BAD_SEQ] = "a frame is missing or comes twice",
        [STREAM_BAD_ORDER] = "a frame that may not come here",
        [STREAM_BAD_RAM] = "memory pages that this VM does not have",
        [STREAM_BAD_COUNT] = "memory pages are missing",
        [STREAM_UNKNOWN] = "written by a later version of Gemel",
        [STREAM_TRUNCATED] = "it ends too early",
    };

    return text[error];
}
