/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The copies of mirrored disks at a destination: the thread of a data stream writes what
 * comes for its disks, and makes it durable when a round ends, and before too much of it
 * waits in memory.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/loop.h"
#include "migrate/mig_extent.h"
#include "migrate/mig_in_priv.h"
#include "migrate/mig_verify.h"

#define SYNC_EVERY (UINT64_C(32) << 20)

static bool host_failed(struct in *in, unsigned disk, const char *what, int r,
                        struct vmm_error *err)
{
    (void)vmm_fail(err, r, "the copy of disk %u cannot be %s: %s", disk, what,
                   strerror(-r));
    mig_note_post(in->t, MIG_DST_HOST_ERROR, MIG_END_HOST, err->text);
    return false;
}

void mig_in_disks_begin(struct in *in)
{
    const struct mig_params *params = &in->t->params;
    unsigned next = 0;

    for (unsigned i = 0; i < VM_DISKS_MAX; i++) {
        bool mirrored = i < in->hello.disk_count && in->hello.disk[i].mirrored;

        in->copy[i].fd = mirrored ? params->copy[next++] : -1;
        in->copy[i].bytes = mirrored ? in->hello.disk[i].sectors * 512 : 0;
        in->disk_conf.bytes[i] = in->copy[i].bytes;
    }
}

static bool sync_disk(struct in_data *d, unsigned disk, struct vmm_error *err)
{
    struct in_copy *copy = &d->in->copy[disk];

    if (copy->unsynced > 0 && fdatasync(copy->fd) < 0) {
        return host_failed(d->in, disk, "made durable", -errno, err);
    }
    copy->unsynced = 0;
    return true;
}

bool mig_in_disks_sync(struct in_data *d, struct vmm_error *err)
{
    for (unsigned i = d->index; i < VM_DISKS_MAX; i += d->in->data_count) {
        if (!sync_disk(d, i, err)) {
            return false;
        }
    }
    return true;
}

static bool write_run(struct in_data *d, const struct mig_disk_run *run,
                      struct vmm_error *err)
{
    struct in_copy *copy = &d->in->copy[run->disk];
    int r = run->kind == MIG_DISK_RAW
                ? mig_extent_write(copy->fd, d->piece, run->len, run->offset)
                : mig_extent_zero(copy->fd, run->len, run->offset);

    if (r < 0) {
        return host_failed(d->in, run->disk, "written to", r, err);
    }
    copy->unsynced += run->kind == MIG_DISK_RAW ? run->len : 1;
    return copy->unsynced < SYNC_EVERY || sync_disk(d, run->disk, err);
}

bool mig_in_disk(struct in_data *d, struct mig_conn *conn, uint32_t body_len,
                 struct vmm_error *err)
{
    struct in *in = d->in;
    struct mig_disk_conf conf = in->disk_conf;
    uint8_t head[MIG_DISK_HEAD_LEN];
    struct iovec iov = {.iov_base = head, .iov_len = sizeof head};
    struct mig_disk_run run;
    enum mig_disk_reason reason;

    conf.stream = d->index;
    conf.n_streams = in->data_count;
    if (mig_conn_recv_body(conn, &iov, 1, err) < 0) {
        return false;
    }
    reason = mig_disk_decode(&conf, head, body_len, &run);
    if (reason != MIG_DISK_OK) {
        return mig_in_bad_frame(d, mig_disk_reason_str(reason), err);
    }
    d->piece = d->piece != NULL ? d->piece : mig_extent_buffer(MIG_DISK_RAW_MAX);
    if (d->piece == NULL) {
        return host_failed(in, run.disk, "received", -ENOMEM, err);
    }
    if (!mig_in_admit(d, run.round, 0, err)) {
        return false;
    }
    iov = (struct iovec){.iov_base = d->piece, .iov_len = (size_t)run.len};
    if (run.kind == MIG_DISK_RAW && mig_conn_recv_body(conn, &iov, 1, err) < 0) {
        return false;
    }
    in->bytes += body_len;
    in->disk_bytes += run.kind == MIG_DISK_RAW ? run.len : 0;
    in->heard_ns = loop_now_ns();
    return write_run(d, &run, err);
}

/* Verify
 * --------------------------------------------------------------------------------------
 */

bool mig_in_disk_hashes(struct in *in, const struct mig_verify *verify)
{
    struct in_copy *copy = &in->copy[verify->disk - 1];
    uint64_t blocks = mig_verify_disk_blocks(copy->bytes);

    if (copy->hash == NULL && blocks > 0) {
        copy->hash = calloc(blocks, sizeof *copy->hash);
    }
    if (copy->hash == NULL || verify->first_block != copy->hash_count ||
        verify->count > blocks - copy->hash_count) {
        return false;
    }
    memcpy(copy->hash + copy->hash_count, verify->hash,
           verify->count * sizeof verify->hash[0]);
    copy->hash_count += verify->count;
    return true;
}

bool mig_in_disk_differs(struct in *in, unsigned disk, char *text, size_t cap)
{
    struct in_copy *copy = &in->copy[disk];
    uint8_t *buffer = copy->hash_count > 0 ? mig_extent_buffer(MIG_BLOCK_BYTES) : NULL;
    uint64_t bad = 0, first = 0;

    for (uint64_t i = 0; i < copy->hash_count && !in->t->cancelled; i++) {
        uint64_t mine;

        if (buffer == NULL ||
            mig_verify_disk(copy->fd, copy->bytes, i, buffer, &mine) < 0 ||
            mine != copy->hash[i]) {
            first = bad++ == 0 ? i : first;
        }
    }
    free(buffer);
    if (bad > 0) {
        (void)snprintf(text, cap,
                       "disk %u differs in %llu of %llu blocks of 2 MiB, first in block "
                       "%llu",
                       disk, (unsigned long long)bad,
                       (unsigned long long)copy->hash_count, (unsigned long long)first);
    }
    return bad > 0;
}

void mig_in_disks_free(struct in *in)
{
    const struct mig_params *params = &in->t->params;

    for (unsigned i = 0; i < params->copy_count; i++) {
        close(params->copy[i]);
    }
    for (unsigned i = 0; i < VM_DISKS_MAX; i++) {
        free(in->copy[i].hash);
    }
}
