/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/blk_kept.h"

#include <stdlib.h>
#include <string.h>

void blk_kept_add(struct blk_kept *kept, const struct blk_request *request)
{
    size_t len = request->op == REQUEST_WRITE ? request->len : 0;
    struct blk_kept_write *w = NULL;

    kept->seq++;
    if (kept->on && kept->bytes + len <= BLK_KEPT_MAX) {
        w = malloc(sizeof *w + len);
    }
    if (!w) {
        kept->forgotten_seq = kept->seq;
        return;
    }
    *w = (struct blk_kept_write){.seq = kept->seq, .request = *request};
    if (len > 0) {
        memcpy(w + 1, request->data, len);
    }
    w->request.data = (const uint8_t *)(w + 1);
    if (kept->tail) {
        kept->tail->next = w;
    } else {
        kept->head = w;
    }
    kept->tail = w;
    kept->bytes += sizeof *w + len;
}

uint64_t blk_kept_pass(struct blk_kept *kept)
{
    return ++kept->seq;
}

void blk_kept_inherit(struct blk_kept *kept)
{
    kept->forgotten_seq = ++kept->seq;
}

static void drop_first(struct blk_kept *kept)
{
    struct blk_kept_write *w = kept->head;

    kept->head = w->next;
    if (!kept->head) {
        kept->tail = NULL;
    }
    kept->bytes -= sizeof *w + (w->request.op == REQUEST_WRITE ? w->request.len : 0);
    free(w);
}

void blk_kept_flushed(struct blk_kept *kept, uint64_t seq)
{
    if (seq > kept->flushed_seq) {
        kept->flushed_seq = seq;
    }
    while (kept->head && kept->head->seq <= kept->flushed_seq) {
        drop_first(kept);
    }
}

bool blk_kept_missing(const struct blk_kept *kept)
{
    return kept->forgotten_seq > kept->flushed_seq;
}

bool blk_kept_unflushed(const struct blk_kept *kept)
{
    return kept->seq > kept->flushed_seq;
}

void blk_kept_free(struct blk_kept *kept)
{
    while (kept->head) {
        drop_first(kept);
    }
}
