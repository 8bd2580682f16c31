/* SPDX-License-Identifier: Apache-2.0 */
/* The data streams of a destination: pages, read straight into guest memory, and the ends
 * of rounds. One thread each. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/loop.h"
#include "migrate/mig_in_priv.h"
#include "migrate/mig_zstd.h"

/* 2 MiB page by page takes about 1.3 ms. */
#define BLOCK_SLOW_NS     (5 * NSEC_PER_MSEC / 2)
#define BLOCKS_TRIED_MIN  16
#define BLOCKS_FAILED_MAX 8

bool mig_in_bad_frame(struct in_data *d, const char *why, struct vmm_error *err)
{
    (void)vmm_fail(err, -EPROTO, "stream %u: %s", d->index + 1, why);
    return false;
}

/* Memory begins as zeros: only what has held something else is written over. */
static void zero_run(struct in *in, const struct mig_ram_run *run)
{
    uint64_t at = run->first, end = run->first + run->count;
    struct mig_run filled;

    while (at < end && mig_bitmap_next(&in->filled, at, end - at, &filled) &&
           filled.first < end) {
        uint64_t count =
            filled.first + filled.count < end ? filled.count : end - filled.first;

        engine_ram_zero(&in->t->ram, filled.first, count);
        mig_bitmap_clear(&in->filled, filled.first, count);
        at = filled.first + count;
    }
}

/* Not where the host has no memory in such pieces, or has to move others for each. */
static bool blocks_pay(const struct in *in)
{
    unsigned tried = in->made + in->failed;

    return in->failed < BLOCKS_FAILED_MAX &&
           (tried < BLOCKS_TRIED_MIN || in->made_ns / tried < BLOCK_SLOW_NS);
}

/* A frame that has many pages of a block: the block is made in one piece. */
static void make_block(struct in *in, uint64_t block, uint32_t pages)
{
    uint64_t began;
    int r;

    if (pages < MIG_BLOCK_MANY || !blocks_pay(in) || mig_bitmap_test(&in->whole, block) ||
        mig_bitmap_test(&in->filled, block * MIG_BLOCK_PAGES)) {
        return;
    }
    began = loop_now_ns();
    r = engine_ram_populate_block(&in->t->ram, block * MIG_BLOCK_PAGES);
    if (r == 0) {
        mig_bitmap_set(&in->whole, block, 1);
        in->made++;
    } else {
        in->failed++;
    }
    in->made_ns += loop_now_ns() - began;
}

static void make_blocks(struct in_data *d)
{
    uint64_t block = UINT64_MAX;
    uint32_t pages = 0;

    for (uint32_t i = 0; i < d->ram.run_count; i++) {
        const struct mig_ram_run *run = &d->ram.run[i];

        if (run->first / MIG_BLOCK_PAGES != block) {
            make_block(d->in, block, pages);
            block = run->first / MIG_BLOCK_PAGES;
            pages = 0;
        }
        pages += run->kind == MIG_RAM_RAW ? run->count : 0;
    }
    make_block(d->in, block, pages);
}

/* Pages that come for the first time are made in one go, not one fault after the other.
 */
static bool fill_run(struct in *in, const struct mig_ram_run *run, struct vmm_error *err)
{
    if (!mig_bitmap_test(&in->filled, run->first) &&
        !mig_bitmap_test(&in->whole, run->first / MIG_BLOCK_PAGES)) {
        int r =
            engine_ram_populate(&in->t->ram, run->first, run->count, &in->t->cancelled);

        if (r < 0) {
            (void)vmm_fail(err, r, "no memory for the guest's pages: %s", strerror(-r));
            return false;
        }
    }
    mig_bitmap_set(&in->filled, run->first, run->count);
    return true;
}

static bool take_runs(struct in_data *d, struct vmm_error *err)
{
    make_blocks(d);
    for (uint32_t i = 0; i < d->ram.run_count; i++) {
        const struct mig_ram_run *run = &d->ram.run[i];

        if (run->kind != MIG_RAM_RAW) {
            zero_run(d->in, run);
        } else if (!fill_run(d->in, run, err)) {
            return false;
        }
    }
    return true;
}

/* Compressed pages, into what d->iov says. */
bool mig_in_packed(struct in_data *d, struct mig_conn *conn, size_t runs,
                   struct vmm_error *err)
{
    struct iovec room = {.iov_len = d->ram.packed};
    const char *why;

    d->zstd = d->zstd != NULL ? d->zstd : mig_zstd_new();
    if (d->zstd == NULL) {
        (void)vmm_fail(err, -ENOMEM, "no memory to unpack the guest's pages");
        return false;
    }
    room.iov_base = mig_zstd_room(d->zstd);
    if (mig_conn_recv_body(conn, &room, 1, err) < 0) {
        return false;
    }
    why = mig_zstd_unpack(d->zstd, d->ram.packed, d->iov, runs);
    return why == NULL || mig_in_bad_frame(d, why, err);
}

bool mig_in_ram_head(struct in_data *d, struct mig_conn *conn,
                     const struct mig_ram_conf *conf, uint32_t body_len,
                     struct vmm_error *err)
{
    struct iovec head = {.iov_base = d->head, .iov_len = MIG_RAM_FIXED_LEN};
    enum mig_ram_reason reason = MIG_RAM_OK;
    size_t len;

    if (mig_conn_recv_body(conn, &head, 1, err) < 0) {
        return false;
    }
    len = mig_ram_head_len(d->head, body_len, &reason);
    if (len == 0) {
        return mig_in_bad_frame(d, mig_ram_reason_str(reason), err);
    }
    head = (struct iovec){.iov_base = d->head + MIG_RAM_FIXED_LEN,
                          .iov_len = len - MIG_RAM_FIXED_LEN};
    if (mig_conn_recv_body(conn, &head, 1, err) < 0) {
        return false;
    }
    reason = mig_ram_decode(conf, d->head, len, body_len, &d->ram);
    return reason == MIG_RAM_OK || mig_in_bad_frame(d, mig_ram_reason_str(reason), err);
}

/* Counted before its pages are written: what has been checked does not change. */
bool mig_in_admit(struct in_data *d, uint32_t round, uint64_t pages,
                  struct vmm_error *err)
{
    bool sealed, other = round != d->round + 1;

    pthread_mutex_lock(&d->in->lock);
    sealed = d->in->sealed;
    if (!sealed && !other) {
        d->round_frames++;
        d->round_pages += pages;
    }
    pthread_mutex_unlock(&d->in->lock);
    if (sealed || other) {
        return mig_in_bad_frame(
            d, sealed ? "a page after the last round" : "a page of another round", err);
    }
    return true;
}

static bool take_ram(struct in_data *d, uint32_t body_len, struct vmm_error *err)
{
    struct in *in = d->in;
    struct mig_conn *conn = in->t->streams.conn[1 + d->index];
    struct mig_ram_conf conf = {.page_count = in->t->ram.page_count,
                                .stream = d->index,
                                .n_streams = in->data_count,
                                .discard = (in->ack.features & MIG_FEATURE_DISCARD) != 0,
                                .zstd = (in->ack.features & MIG_FEATURE_ZSTD) != 0};
    size_t runs;

    if (!mig_in_ram_head(d, conn, &conf, body_len, err) ||
        !mig_in_admit(d, d->ram.round, d->ram.pages, err) || !take_runs(d, err)) {
        return false;
    }
    runs = mig_ram_iov(&d->ram, in->t->ram.host, d->iov);
    if (d->ram.packed != 0) {
        if (!mig_in_packed(d, conn, runs, err)) {
            return false;
        }
    } else if (runs > 0 && mig_conn_recv_body(conn, d->iov, runs, err) < 0) {
        return false;
    }
    in->pages += d->ram.pages;
    in->bytes += body_len;
    in->heard_ns = loop_now_ns();
    return true;
}

static bool take_round_end(struct in_data *d, struct vmm_error *err)
{
    struct in *in = d->in;
    uint8_t body[MIG_ROUND_END_LEN];
    struct iovec iov = {.iov_base = body, .iov_len = sizeof body};
    struct mig_round_end end;
    bool sealed;

    if (mig_conn_recv_body(in->t->streams.conn[1 + d->index], &iov, 1, err) < 0) {
        return false;
    }
    if (!mig_round_end_decode(body, sizeof body, &end) || end.round != d->round + 1 ||
        end.frames != d->round_frames || end.pages != d->round_pages) {
        return mig_in_bad_frame(d, "a round ended with other counts than came", err);
    }
    if (!mig_in_disks_sync(d, err)) {
        return false;
    }
    pthread_mutex_lock(&in->lock);
    sealed = in->sealed;
    if (!sealed) {
        d->round = end.round;
        d->frames += d->round_frames;
        d->pages += d->round_pages;
        d->round_frames = d->round_pages = 0;
    }
    pthread_mutex_unlock(&in->lock);
    if (sealed) {
        return mig_in_bad_frame(d, "a round after the last", err);
    }
    mig_note_post(in->t, MIG_NOTE_ROUND_END, MIG_OK, NULL);
    return true;
}

void mig_in_post_end(struct in *in, bool lost, const struct vmm_error *err)
{
    mig_note_post(in->t, lost ? MIG_DST_LOST : MIG_DST_BAD_PEER,
                  lost ? MIG_END_LOST : MIG_END_PROTOCOL, err->text);
}

void mig_in_data_main(void *data)
{
    struct in_data *d = data;
    struct mig_conn *conn = d->in->t->streams.conn[1 + d->index];
    struct vmm_error err = {""};
    struct mig_conn_head head;
    bool good = true;
    int r = 0;

    while (good && (r = mig_conn_recv_known(conn, &head, &err)) == 0) {
        if (head.type == MIG_FRAME_RAM && d->in->t->ram.kept) {
            good = mig_in_bad_frame(d, "a page of memory that is here already", &err);
        } else if (head.type == MIG_FRAME_RAM && d->in->holes.on) {
            good = mig_in_holes_pages(d, conn, false, head.body_len, &err);
        } else if (head.type == MIG_FRAME_RAM) {
            good = take_ram(d, head.body_len, &err);
        } else if (head.type == MIG_FRAME_DISK) {
            good = mig_in_disk(d, conn, head.body_len, &err);
        } else if (head.type == MIG_FRAME_ROUND_END) {
            good = take_round_end(d, &err);
        } else {
            good =
                mig_in_bad_frame(d, "a message that belongs on the control stream", &err);
        }
    }
    mig_in_post_end(d->in, good && r != -EPROTO, &err);
}
