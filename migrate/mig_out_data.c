/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The data threads of a source: one a stream, each sends the pages that are its own,
 * round by round: taken from the bitmap, protected in the dirty log, classified, framed,
 * sent.
 */
#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "base/loop.h"
#include "migrate/mig_out_priv.h"
#include "migrate/mig_zero.h"

/* The cap of the operator: waits until the bucket allows more. */
void mig_out_wait_for_cap(struct out *o)
{
    uint64_t at_ns;

    if (o->policy.conf.cap_bps == 0) {
        return;
    }
    pthread_mutex_lock(&o->lock);
    while (!o->over && !mig_policy_may_send(&o->policy, loop_now_ns(), &at_ns)) {
        struct timespec until = {.tv_sec = (time_t)(at_ns / NSEC_PER_SEC),
                                 .tv_nsec = (long)(at_ns % NSEC_PER_SEC)};

        (void)pthread_cond_timedwait(&o->cond, &o->lock, &until);
    }
    pthread_mutex_unlock(&o->lock);
}

size_t mig_out_payload(struct out_data *d)
{
    size_t count = mig_ram_iov(&d->ram, d->out->t->ram.host, d->iov + 1);

    if (d->zstd != NULL && count > 0 && mig_squeeze_wants(&d->squeeze)) {
        uint64_t raw = d->ram.raw_pages * MIG_PAGE, began_ns = loop_now_ns();
        const uint8_t *data;
        uint32_t len = mig_zstd_pack(d->zstd, d->iov + 1, count, &data);

        mig_squeeze_packed(&d->squeeze, raw, len != 0 ? len : raw,
                           loop_now_ns() - began_ns);
        if (len != 0) {
            d->ram.packed = len;
            d->iov[1] =
                (struct iovec){.iov_base = (void *)(uintptr_t)data, .iov_len = len};
            count = 1;
        }
    }
    return count;
}

void mig_out_count(struct out *o, uint64_t len)
{
    o->bytes += len;
    if (o->policy.conf.cap_bps != 0) {
        pthread_mutex_lock(&o->lock);
        mig_policy_charge(&o->policy, loop_now_ns(), len);
        pthread_mutex_unlock(&o->lock);
    }
}

bool mig_out_frame(struct out_data *d, struct mig_conn *conn, size_t count,
                   uint64_t began_ns, struct vmm_error *err)
{
    struct out *o = d->out;
    size_t len;

    d->ram.has_crc = false;
    len = mig_ram_encode(&d->ram, d->head);
    d->iov[0] = (struct iovec){.iov_base = d->head, .iov_len = len};
    if (mig_conn_send(conn, MIG_FRAME_RAM, 1, MIG_SEND_BARE, d->iov, count + 1, err) <
        0) {
        return false;
    }
    len += mig_ram_payload(&d->ram);
    if (d->zstd != NULL) {
        uint64_t now_ns = loop_now_ns();

        mig_squeeze_sent(&d->squeeze, now_ns, len, now_ns - began_ns);
    }
    o->page_bytes += d->ram.raw_pages * MIG_PAGE;
    d->frames++;
    d->pages += d->ram.pages;
    o->pages += d->ram.pages;
    o->frames++;
    mig_out_count(o, len);
    return true;
}

/* Sends the frame that is built; its runs go back into the bitmap if that fails. */
static bool send_frame(struct out_data *d, struct vmm_error *err)
{
    struct out *o = d->out;
    uint64_t began_ns;
    size_t count;

    if (d->ram.run_count == 0) {
        return true;
    }
    count = mig_out_payload(d);
    began_ns = loop_now_ns();
    mig_out_wait_for_cap(o);
    if (mig_out_frame(d, o->t->streams.conn[1 + d->index], count, began_ns, err)) {
        return true;
    }
    for (uint32_t i = 0; i < d->ram.run_count; i++) {
        mig_bitmap_set(&o->bitmap, d->ram.run[i].first, d->ram.run[i].count);
    }
    return false;
}

/* In the first round: pages that do not exist are not looked at, which would make them.
 */
static void add_run(struct out_data *d, const struct mig_run *run)
{
    struct out *o = d->out;
    uint64_t at = run->first, end = run->first + run->count;

    while (at < end) {
        struct mig_run part = {.first = at, .count = end - at};
        bool exists = true;

        if (o->first) {
            part.count = mig_first_part(&d->seen, &o->t->ram, at, end, &exists);
        }
        if (exists) {
            mig_zero_classify(&d->ram, o->t->ram.host, &part);
        } else {
            mig_ram_add(&d->ram, MIG_RAM_ZERO, at, (uint32_t)part.count);
        }
        at += part.count;
    }
}

/* Sends what there is, and begins with the next frame. */
static bool next_frame(struct out_data *d, struct vmm_error *err)
{
    bool sent = send_frame(d, err);

    mig_ram_begin(&d->ram, d->out->round);
    return sent;
}

/* The first pages of a block are about to be read. Protected as a whole: one ioctl, one
 * flush of the guest's TLB. Those not read yet are read later, so that nothing is lost. A
 * frame that has a good part of a block ends with it: the destination then has whole
 * blocks, which it makes in one piece. */
static bool enter_block(struct out_data *d, uint64_t block, struct vmm_error *err)
{
    struct out *o = d->out;
    uint64_t first = block * MIG_BLOCK_PAGES, left = o->t->ram.page_count - first;

    if (d->ram.raw_pages >= MIG_BLOCK_MANY && !next_frame(d, err)) {
        return false;
    }
    if (engine_dirty_protect(o->t->conf.engine, first,
                             left < MIG_BLOCK_PAGES ? left : MIG_BLOCK_PAGES) < 0) {
        (void)vmm_fail(err, -EIO, "KVM's dirty log cannot be cleared");
        return false;
    }
    mig_first_protected(&d->seen, first);
    return true;
}

static bool send_pages(struct out_data *d, struct vmm_error *err)
{
    struct out *o = d->out;
    struct mig_cursor cursor = mig_cursor_make(d->index, o->data_count);
    uint64_t block = UINT64_MAX;
    struct mig_run run;

    d->seen = (struct mig_first){0};
    mig_ram_begin(&d->ram, o->round);
    for (;;) {
        uint32_t room = mig_ram_room(&d->ram);

        if (room == 0) {
            if (!next_frame(d, err)) {
                return false;
            }
            continue;
        }
        if (mig_stop_raised(&o->t->stop) || o->cut ||
            mig_bitmap_take(&o->bitmap, &cursor, &run, 1, room) == 0) {
            return send_frame(d, err);
        }
        /* Taken, protected, read: in this order nothing is lost. */
        if (run.first / MIG_BLOCK_PAGES != block) {
            block = run.first / MIG_BLOCK_PAGES;
            if (!enter_block(d, block, err)) {
                mig_bitmap_give_back(&o->bitmap, &run, 1);
                return false;
            }
        }
        add_run(d, &run);
    }
}

static bool end_round(struct out_data *d, struct vmm_error *err)
{
    struct out *o = d->out;
    struct mig_round_end end = {
        .round = o->round, .frames = d->frames, .pages = d->pages};
    uint8_t body[MIG_ROUND_END_LEN];
    struct iovec iov = {.iov_base = body, .iov_len = sizeof body};

    mig_round_end_encode(&end, body);
    return mig_conn_send(o->t->streams.conn[1 + d->index], MIG_FRAME_ROUND_END, 1, 0,
                         &iov, 1, err) == 0;
}

/* A data thread: a round each time one begins. */
static void data_main(void *data)
{
    struct out_data *d = data;
    struct out *o = d->out;
    struct vmm_error err = {""};

    pthread_mutex_lock(&o->lock);
    for (;;) {
        while (d->round_seen == o->round && !o->over && (!o->serving || d->served)) {
            pthread_cond_wait(&o->cond, &o->lock);
        }
        if (o->over) {
            break;
        }
        if (d->round_seen == o->round) {
            pthread_mutex_unlock(&o->lock);
            if (!mig_out_holes_push(d, &err)) {
                mig_note_post(o->t, MIG_SRC_LOST, MIG_END_LOST, err.text);
            }
            pthread_mutex_lock(&o->lock);
            d->served = true;
            continue;
        }
        d->round_seen = o->round;
        pthread_mutex_unlock(&o->lock);
        d->frames = d->pages = 0;
        if (!mig_out_disks_send(d, &err) || !send_pages(d, &err) || !end_round(d, &err)) {
            mig_note_post(o->t, MIG_SRC_LOST, MIG_END_LOST, err.text);
        }
        pthread_mutex_lock(&o->lock);
        if (--o->active == 0) {
            mig_note_post(o->t, MIG_NOTE_ROUND_DONE, MIG_OK, NULL);
        }
    }
    pthread_mutex_unlock(&o->lock);
}

void mig_out_round_begin(struct out *o, bool last)
{
    pthread_mutex_lock(&o->lock);
    o->first = o->round == 0;
    o->round++;
    o->last = last;
    o->active = o->data_count;
    o->round_began_ns = loop_now_ns();
    o->counted_bytes = o->page_bytes;
    o->counted_ns = o->round_began_ns;
    pthread_cond_broadcast(&o->cond);
    pthread_mutex_unlock(&o->lock);
}

bool mig_out_data_start(struct out *o)
{
    unsigned count = o->t->streams.count - 1;

    for (unsigned i = 0; i < count; i++) {
        o->data[i] = calloc(1, sizeof *o->data[i]);
        if (o->data[i] == NULL) {
            return false;
        }
        o->data[i]->out = o;
        o->data[i]->index = i;
        mig_squeeze_init(&o->data[i]->squeeze, loop_now_ns());
    }
    o->data_count = count;
    for (unsigned i = 0; i < count; i++) {
        mig_pool_run(o->t->pool, MIG_THREAD_DATA0 + i, data_main, o->data[i]);
    }
    return true;
}

void mig_out_compress(struct out *o)
{
    for (unsigned i = 0; i < o->data_count; i++) {
        if ((o->features & MIG_FEATURE_ZSTD) != 0) {
            o->data[i]->zstd = mig_zstd_new(); /* without memory for it: without it */
        }
    }
}

void mig_out_data_free(struct out_data *d)
{
    if (d != NULL) {
        mig_zstd_free(d->zstd);
        free(d->piece);
        free(d);
    }
}
