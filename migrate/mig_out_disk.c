/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The mirrored disks of a source: which granules are still to be sent, and the sending.
 * A granule is taken out of the list, then read, then sent: a write that the reading did
 * not see is marked when it is answered (vmm/disk_marks.h), and comes with a later round.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/loop.h"
#include "base/uuid.h"
#include "migrate/mig_extent.h"
#include "migrate/mig_out_priv.h"

#define TAKE_MAX 1024u /* granules that are taken at a time: for the progress */

static struct mig_bitmap *todo_of(struct out *o, unsigned disk)
{
    return &o->disk[disk].todo;
}

static bool begin_disk(struct out *o, unsigned i, const struct uuid *base)
{
    struct engine *engine = o->t->conf.engine;
    struct out_disk *d = &o->disk[i];
    uint64_t granules, *words;

    d->fd = engine_disk_marked(engine, i) ? engine_disk_file(engine, i) : -1;
    if (d->fd < 0) {
        (void)vmm_fail(&o->err, -EINVAL,
                       "disk %u cannot be mirrored: only raw files and devices can", i);
        return false;
    }
    d->bytes = o->mirror[i].sectors * 512;
    granules = disk_marks_granules(o->mirror[i].sectors);
    words = calloc(mig_bitmap_words(granules), sizeof *words);
    if (words == NULL) {
        (void)vmm_fail(&o->err, -ENOMEM, "no memory for the list of what disk %u has", i);
        return false;
    }
    /* In this order: what is written meanwhile is fresh, and may be in both. */
    (void)engine_disk_collect(engine, i, words);
    mig_bitmap_init(&d->todo, words, granules);
    if (!engine_disk_since(engine, i, base, words)) {
        mig_bitmap_set_all(&d->todo);
    }
    return true;
}

bool mig_out_disks_begin(struct out *o)
{
    struct uuid base = {{0}};

    (void)(o->ack.copy_base[0] != '\0' && uuid_parse(o->ack.copy_base, &base));
    for (unsigned i = 0; i < VM_DISKS_MAX; i++) {
        if (o->mirror[i].mirrored && !begin_disk(o, i, &base)) {
            return false;
        }
        o->disks += o->mirror[i].mirrored;
    }
    return true;
}

uint64_t mig_out_disks_left(const struct out *o)
{
    uint64_t granules = 0;

    for (unsigned i = 0; i < VM_DISKS_MAX; i++) {
        if (o->disk[i].todo.word != NULL) {
            granules += mig_bitmap_count(&o->disk[i].todo);
        }
    }
    return granules * DISK_GRANULE;
}

uint64_t mig_out_disks_collect(struct out *o)
{
    uint64_t granules = 0;

    for (unsigned i = 0; i < VM_DISKS_MAX; i++) {
        if (o->disk[i].todo.word != NULL) {
            granules += engine_disk_collect(o->t->conf.engine, i, todo_of(o, i)->word);
        }
    }
    return granules * DISK_GRANULE;
}

void mig_out_disks_equal(struct out *o)
{
    for (unsigned i = 0; i < VM_DISKS_MAX; i++) {
        if (o->disk[i].todo.word != NULL) {
            engine_disk_rebase(o->t->conf.engine, i, &o->t->params.transfer);
        }
    }
}

void mig_out_disks_free(struct out *o)
{
    for (unsigned i = 0; i < VM_DISKS_MAX; i++) {
        free(o->disk[i].todo.word);
        o->disk[i].todo.word = NULL;
    }
}

/* Sending
 * -------------------------------------------------------------------------------------
 */

static bool send_run(struct out_data *d, const struct mig_disk_run *run,
                     const uint8_t *bytes, struct vmm_error *err)
{
    struct out *o = d->out;
    uint8_t head[MIG_DISK_HEAD_LEN];
    size_t raw = run->kind == MIG_DISK_RAW ? (size_t)run->len : 0;
    struct iovec iov[2] = {{.iov_base = head, .iov_len = sizeof head},
                           {.iov_base = (void *)(uintptr_t)bytes, .iov_len = raw}};

    mig_disk_encode(run, head);
    mig_out_wait_for_cap(o);
    if (mig_conn_send(o->t->streams.conn[1 + d->index], MIG_FRAME_DISK, 1, 0, iov,
                      raw > 0 ? 2 : 1, err) < 0) {
        return false;
    }
    d->frames++;
    o->frames++;
    o->page_bytes += raw;
    o->disk_bytes += raw;
    mig_out_count(o, sizeof head + raw);
    return true;
}

static bool all_zero(const uint8_t *bytes, uint64_t len)
{
    return len == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, len - 1) == 0);
}

/* A piece that was read: what is zeros goes as such. */
static bool send_piece(struct out_data *d, unsigned disk, uint64_t at, uint64_t len,
                       struct vmm_error *err)
{
    struct mig_disk_run run = {.disk = disk, .round = d->out->round, .offset = at};

    for (uint64_t done = 0; done < len; done += run.len) {
        uint64_t n = len - done < DISK_GRANULE ? len - done : DISK_GRANULE;
        bool zero = all_zero(d->piece + done, n);

        run.kind = zero ? MIG_DISK_ZERO : MIG_DISK_RAW;
        run.offset = at + done;
        run.len = n;
        while (done + run.len < len) {
            n = len - done - run.len < DISK_GRANULE ? len - done - run.len : DISK_GRANULE;
            if (all_zero(d->piece + done + run.len, n) != zero) {
                break;
            }
            run.len += n;
        }
        if (!send_run(d, &run, d->piece + done, err)) {
            return false;
        }
    }
    return true;
}

static bool read_piece(struct out_data *d, unsigned disk, uint64_t at, uint64_t len,
                       struct vmm_error *err)
{
    int r;

    d->piece = d->piece != NULL ? d->piece : mig_extent_buffer(MIG_DISK_RAW_MAX);
    r = d->piece == NULL ? -ENOMEM
                         : mig_extent_read(d->out->disk[disk].fd, d->piece, len, at);
    if (r < 0) {
        (void)vmm_fail(err, r, "disk %u cannot be read for its copy: %s", disk,
                       strerror(-r));
        mig_note_post(d->out->t, MIG_SRC_HOST_ERROR, MIG_END_HOST, err->text);
    }
    return r == 0;
}

/* Granules first..end - 1 of the list, without those that are holes in the file. */
static bool send_granules(struct out_data *d, unsigned disk, uint64_t first, uint64_t end,
                          struct vmm_error *err)
{
    const struct out_disk *k = &d->out->disk[disk];
    uint64_t at = first * DISK_GRANULE, stop = end * DISK_GRANULE, data, data_end;

    stop = stop < k->bytes ? stop : k->bytes;
    while (at < stop) {
        uint64_t len = stop - at < MIG_DISK_RAW_MAX ? stop - at : MIG_DISK_RAW_MAX;

        if (mig_stop_raised(&d->out->t->stop)) {
            return true; /* nobody waits for the rest */
        }
        mig_extent_data(k->fd, at, stop, &data, &data_end);
        if (data < stop) {
            data -= data % DISK_GRANULE;
        }
        if (data > at) {
            struct mig_disk_run hole = {.disk = disk,
                                        .kind = MIG_DISK_ZERO,
                                        .round = d->out->round,
                                        .offset = at,
                                        .len = data - at};

            if (!send_run(d, &hole, NULL, err)) {
                return false;
            }
            at = data;
            continue;
        }
        data_end += DISK_GRANULE - 1;
        data_end -= data_end % DISK_GRANULE;
        len = data_end - at < len ? data_end - at : len;
        if (!read_piece(d, disk, at, len, err) || !send_piece(d, disk, at, len, err)) {
            return false;
        }
        at += len;
    }
    return true;
}

bool mig_out_disks_send(struct out_data *d, struct vmm_error *err)
{
    struct out *o = d->out;

    for (unsigned i = d->index; i < VM_DISKS_MAX; i += o->data_count) {
        struct mig_bitmap *todo = todo_of(o, i);
        struct mig_run run = {0};

        while (todo->word != NULL &&
               mig_bitmap_next(todo, run.first + run.count, TAKE_MAX, &run)) {
            mig_bitmap_clear(todo, run.first, run.count);
            if (!send_granules(d, i, run.first, run.first + run.count, err)) {
                return false;
            }
        }
    }
    return true;
}
