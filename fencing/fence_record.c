/* SPDX-License-Identifier: Apache-2.0 */
#include "fencing/fence_record.h"

#include <errno.h>

#include "base/bytes.h"
#include "base/frame.h"

#define MAGIC   UINT32_C(0x52464d47) /* "GMFR" */
#define TYPE    1
#define VERSION 1

size_t fence_record_encode(const struct fence_record *record, void *buf, size_t cap)
{
    uint8_t body[FENCE_RECORD_LEN_MAX];
    struct bytes_wr wr = bytes_wr_make(body, sizeof(body));
    struct frame frame = {
        .type = TYPE, .version = VERSION, .seq = record->order, .body = body};

    bytes_wr_copy(&wr, record->uid.b, sizeof(record->uid.b));
    bytes_wr_u8(&wr, (uint8_t)record->action);
    bytes_wr_u8(&wr, (uint8_t)record->result);
    bytes_wr_str(&wr, record->node);
    bytes_wr_copy(&wr, record->boot_id.b, sizeof(record->boot_id.b));
    bytes_wr_u64(&wr, record->join_counter);
    bytes_wr_u32(&wr, record->timeout_ms);
    bytes_wr_str(&wr, record->device);
    bytes_wr_str(&wr, record->detail);
    bytes_wr_u32(&wr, record->elapsed_ms);
    bytes_wr_u32(&wr, record->attempts);
    if (wr.failed) {
        return 0;
    }
    frame.body_len = (uint32_t)wr.pos;
    return frame_encode(&frame, MAGIC, buf, cap);
}

int fence_record_decode(const void *buf, size_t len, struct fence_record *ret_record)
{
    struct fence_record record = {0};
    struct bytes_rd rd;
    struct frame frame;

    if (frame_check(buf, len, MAGIC, FENCE_RECORD_LEN_MAX, &frame) != FRAME_OK ||
        frame.type != TYPE || frame.version != VERSION ||
        len != FRAME_HEADER_LEN + frame.body_len) {
        return -EBADMSG;
    }
    rd = bytes_rd_make(frame.body, frame.body_len);
    record.order = frame.seq;
    bytes_rd_copy(&rd, record.uid.b, sizeof(record.uid.b));
    record.action = (enum fence_action)bytes_rd_u8(&rd);
    record.result = (enum fence_result)bytes_rd_u8(&rd);
    bytes_rd_str(&rd, record.node, sizeof(record.node));
    bytes_rd_copy(&rd, record.boot_id.b, sizeof(record.boot_id.b));
    record.join_counter = bytes_rd_u64(&rd);
    record.timeout_ms = bytes_rd_u32(&rd);
    bytes_rd_str(&rd, record.device, sizeof(record.device));
    bytes_rd_str(&rd, record.detail, sizeof(record.detail));
    record.elapsed_ms = bytes_rd_u32(&rd);
    record.attempts = bytes_rd_u32(&rd);
    if (!bytes_rd_done(&rd) || record.node[0] == '\0' ||
        (record.action != FENCE_ACTION_OFF && record.action != FENCE_ACTION_ON) ||
        record.result < FENCE_RESULT_PENDING || record.result > FENCE_RESULT_UNKNOWN) {
        return -EBADMSG;
    }
    *ret_record = record;
    return 0;
}
