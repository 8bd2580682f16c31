/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/hold_log.h"

#include <string.h>

#include "base/bug.h"

#define SECTOR_LEN 512u

void hold_log_init(struct hold_log *log, uint8_t *bytes, size_t cap, struct hold_op *op,
                   unsigned op_cap)
{
    *log = (struct hold_log){.bytes = bytes, .cap = cap, .op = op, .op_cap = op_cap};
}

bool hold_log_add(struct hold_log *log, const struct blk_request *request)
{
    size_t len = request->op == REQUEST_WRITE ? request->len : 0;

    if (log->count == log->op_cap || len > log->cap - log->used) {
        return false;
    }
    log->op[log->count++] = (struct hold_op){.sector = request->sector,
                                             .len = request->len,
                                             .op = (uint8_t)request->op,
                                             .at = log->used};
    if (len > 0) {
        memcpy(log->bytes + log->used, request->data, len);
    }
    log->used += len;
    return true;
}

/* The sectors that both have. False: none. */
static bool common(const struct hold_op *op, uint64_t sector, uint32_t len,
                   uint64_t *ret_begin, uint64_t *ret_end)
{
    uint64_t end = sector + len / SECTOR_LEN, op_end = op->sector + op->len / SECTOR_LEN;

    *ret_begin = op->sector > sector ? op->sector : sector;
    *ret_end = op_end < end ? op_end : end;
    return *ret_begin < *ret_end;
}

bool hold_log_covers(const struct hold_log *log, uint64_t sector, uint32_t len)
{
    uint64_t begin, end;
    unsigned i = 0;

    while (i < log->count && !common(&log->op[i], sector, len, &begin, &end)) {
        i++;
    }
    return i < log->count;
}

void hold_log_patch(const struct hold_log *log, uint64_t sector, uint8_t *buf,
                    uint32_t len)
{
    for (unsigned i = 0; i < log->count; i++) {
        const struct hold_op *op = &log->op[i];
        uint64_t begin, end;

        if (common(op, sector, len, &begin, &end)) {
            uint8_t *to = buf + (begin - sector) * SECTOR_LEN;
            size_t n = (size_t)(end - begin) * SECTOR_LEN;

            if (op->op == REQUEST_WRITE) {
                memcpy(to, log->bytes + op->at + (begin - op->sector) * SECTOR_LEN, n);
            } else {
                memset(to, 0, n);
            }
        }
    }
}

/* With one that is under way. */
static bool must_wait(const struct hold_log *log, const struct hold_op *op)
{
    uint64_t begin, end;

    for (unsigned i = log->first; i < log->next; i++) {
        const struct hold_op *other = &log->op[i];

        if (!other->done && common(other, op->sector, op->len, &begin, &end)) {
            return true;
        }
    }
    return false;
}

bool hold_log_next(struct hold_log *log, struct blk_request *ret)
{
    struct hold_op *op = &log->op[log->next];

    if (log->next == log->count || log->sent == HOLD_UNDER_WAY || must_wait(log, op)) {
        return false;
    }
    *ret = (struct blk_request){.op = (enum request_op)op->op,
                                .generation = log->next,
                                .sector = op->sector,
                                .len = op->len,
                                .data =
                                    op->op == REQUEST_WRITE ? log->bytes + op->at : NULL};
    op->sent = true;
    log->sent++;
    log->next++;
    return true;
}

uint32_t hold_log_done(struct hold_log *log, unsigned generation)
{
    struct hold_op *op = &log->op[generation];

    BUG_ON(generation >= log->next || !op->sent || op->done);
    op->done = true;
    log->sent--;
    while (log->first < log->next && log->op[log->first].done) {
        log->first++;
    }
    return op->op == REQUEST_WRITE ? op->len : 0;
}

bool hold_log_over(const struct hold_log *log)
{
    return log->first == log->count;
}
