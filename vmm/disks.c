/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/disks.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bug.h"
#include "base/nbd_uri.h"
#include "base/qcow2_head.h"
#include "vmm/blk_nbd.h"
#include "vmm/blk_nbd_conn.h"

#define CONNECT_MS 5000

struct disks {
    struct blk_uring *uring;
    struct blk_nbd *nbd; /* NULL: no disk needs it; then the two below are -1 */
    bool on_nbd[VM_DISKS_MAX];
    struct disk_marks marks[VM_DISKS_MAX]; /* of raw ones; without words: none */
    int poll_fd;  /* epoll: the ring and the sockets, for the owner */
    int event_fd; /* epoll: the same, for somebody else, once for each event */
    bool woken;
    struct disk_holds holds;
};

int disks_open(struct disks **ret_disks, struct vmm_error *err)
{
    struct disks *disks = calloc(1, sizeof *disks);
    int r;

    if (!disks) {
        return vmm_fail(err, -ENOMEM, "no memory for the disks");
    }
    disks->poll_fd = disks->event_fd = -1;
    r = blk_uring_open(&disks->uring, err);
    if (r < 0) {
        free(disks);
        return r;
    }
    *ret_disks = disks;
    return 0;
}

void disks_close(struct disks *disks)
{
    if (!disks) {
        return;
    }
    blk_nbd_close(disks->nbd);
    blk_uring_close(disks->uring);
    disk_hold_free(&disks->holds);
    if (disks->poll_fd >= 0) {
        close(disks->poll_fd);
    }
    if (disks->event_fd >= 0) {
        close(disks->event_fd);
    }
    for (unsigned i = 0; i < VM_DISKS_MAX; i++) {
        free(disks->marks[i].fresh);
    }
    free(disks);
}

static int add_fd(int epoll_fd, int fd, uint32_t events)
{
    struct epoll_event event = {.events = events};

    return epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

/* With the first network disk. */
static int need_nbd(struct disks *disks, struct vmm_error *err)
{
    int r;

    if (disks->nbd) {
        return 0;
    }
    r = blk_nbd_open(&disks->nbd, err);
    if (r < 0) {
        return r;
    }
    disks->poll_fd = epoll_create1(EPOLL_CLOEXEC);
    disks->event_fd = epoll_create1(EPOLL_CLOEXEC);
    if (disks->poll_fd < 0 || disks->event_fd < 0) {
        return vmm_fail(err, -errno, "cannot make an epoll fd: %s", strerror(errno));
    }
    r = add_fd(disks->poll_fd, blk_ring_fd(disks->uring), EPOLLIN);
    r = r < 0 ? r : add_fd(disks->poll_fd, blk_nbd_poll_fd(disks->nbd), EPOLLIN);
    r = r < 0 ? r : add_fd(disks->event_fd, blk_event_fd(disks->uring), EPOLLIN);
    r = r < 0 ? r
              : add_fd(disks->event_fd, blk_nbd_poll_fd(disks->nbd), EPOLLIN | EPOLLET);
    return r < 0 ? vmm_fail(err, r, "cannot watch network disks: %s", strerror(-r)) : 0;
}

static int look_nbd(struct disk_desc *desc, struct vmm_error *err)
{
    struct blk_nbd_traits traits;
    struct nbd_uri uri;
    const char *why = nbd_uri_parse(desc->path, &uri);
    int r;

    if (why) {
        return vmm_fail(err, -EINVAL, "disk %s: %s", desc->path, why);
    }
    r = blk_nbd_look(desc->path, desc->read_only, desc->by_epoch, &traits, err);
    if (r < 0) {
        return r;
    }
    desc->info.sectors = traits.sectors;
    memcpy(desc->export_name, uri.export_name, sizeof desc->export_name);
    return 0;
}

static int look_qcow2(const char *path, uint64_t *ret_sectors, struct vmm_error *err)
{
    uint8_t head[QCOW2_HEAD_LEN];
    uint64_t bytes;
    const char *why;
    struct stat st;
    ssize_t n;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    if (fd < 0) {
        return vmm_fail(err, -errno,
                        "disk %s: %s; check that its file system is mounted here", path,
                        strerror(errno));
    }
    if (fstat(fd, &st) < 0 || !(S_ISREG(st.st_mode) || S_ISBLK(st.st_mode))) {
        close(fd);
        return vmm_fail(err, -EINVAL, "disk %s is neither a file nor a block device",
                        path);
    }
    n = pread(fd, head, sizeof head, 0);
    close(fd);
    if (n < 0) {
        return vmm_fail(err, -EIO, "disk %s: its header cannot be read", path);
    }
    why = qcow2_head_check(head, (size_t)n, &bytes);
    if (why) {
        return vmm_fail(err, -EINVAL, "disk %s %s", path, why);
    }
    *ret_sectors = bytes / 512;
    return 0;
}

/* A raw disk that may be written to has its writes marked: it may get a copy elsewhere
 * while it is used. Two bits for 64 KiB. */
static int make_marks(struct disks *disks, unsigned disk, const struct disk_desc *desc,
                      struct vmm_error *err)
{
    uint64_t sectors = desc->info.sectors;
    uint64_t *words = calloc(2 * disk_marks_words(sectors), sizeof *words);

    if (words == NULL) {
        return vmm_fail(err, -ENOMEM, "disk %s: no memory for the marks of its writes",
                        desc->path);
    }
    free(disks->marks[disk].fresh);
    disk_marks_init(&disks->marks[disk], words, sectors);
    return 0;
}

int disks_look(struct disks *disks, unsigned disk, struct disk_desc *desc,
               struct vmm_error *err)
{
    int r;

    BUG_ON(disk >= VM_DISKS_MAX);
    if (desc->kind == DISK_RAW) {
        r = blk_disk_look(desc->path, desc->read_only, &desc->info, err);
        return r < 0 || desc->read_only ? r : make_marks(disks, disk, desc, err);
    }
    r = need_nbd(disks, err);
    if (r < 0) {
        return r;
    }
    if (desc->kind == DISK_NBD) {
        return look_nbd(desc, err);
    }
    snprintf(desc->export_name, sizeof desc->export_name, "%s%u", DISK_QCOW2_EXPORT,
             disk);
    return look_qcow2(desc->path, &desc->info.sectors, err);
}

int disks_file(enum disk_kind kind, const char *path, bool read_only, int *ret_fd,
               struct vmm_error *err)
{
    struct nbd_uri uri;
    const char *why;
    int r;

    switch (kind) {
    case DISK_RAW:
        return blk_disk_file(path, read_only, ret_fd, err);
    case DISK_QCOW2:
        return vmm_fail(err, -EINVAL,
                        "disk %s: a qcow2 image needs a qemu-storage-daemon, which the "
                        "agent starts; by hand, start one and give --disk nbd=URI",
                        path);
    case DISK_NBD:
        break;
    }
    why = nbd_uri_parse(path, &uri);
    if (why) {
        return vmm_fail(err, -EINVAL, "disk %s: %s", path, why);
    }
    r = nbd_uri_connect(&uri, CONNECT_MS, ret_fd);
    return r < 0 ? vmm_fail(err, r, "disk %s: cannot connect: %s", path, strerror(-r))
                 : 0;
}

int disks_take(struct disks *disks, unsigned disk, int fd, const struct disk_desc *desc,
               struct vmm_error *err)
{
    struct blk_nbd_disk_conf conf = {.name = desc->path,
                                     .export_name = desc->export_name,
                                     .read_only = desc->read_only,
                                     .keep = desc->keep,
                                     .by_epoch = desc->by_epoch,
                                     .epoch = desc->epoch,
                                     .sectors = desc->info.sectors,
                                     .stop = desc->stop,
                                     .stop_ctx = desc->stop_ctx};

    BUG_ON(disk >= VM_DISKS_MAX);
    if (desc->kind == DISK_RAW) {
        return blk_disk_take(disks->uring, disk, fd, desc->path, desc->read_only,
                             &desc->info, err);
    }
    disks->on_nbd[disk] = true;
    return blk_nbd_take(disks->nbd, disk, fd, &conf, err);
}

bool disks_asks_again(const struct disks *disks, unsigned disk)
{
    return disks->nbd && blk_nbd_asks_again(disks->nbd, disk);
}

static void to_disk(void *ctx, unsigned disk, const struct blk_request *request)
{
    struct disks *disks = ctx;

    if (disks->on_nbd[disk]) {
        blk_nbd_submit(disks->nbd, disk, request);
    } else {
        blk_submit(disks->uring, disk, request);
    }
}

void disks_submit(struct disks *disks, unsigned disk, const struct blk_request *request)
{
    BUG_ON(disk >= VM_DISKS_MAX);
    if (!disk_hold_takes(&disks->holds, disk, request)) {
        to_disk(disks, disk, request);
    }
}

void disks_inherit(struct disks *disks, unsigned disk)
{
    if (disks->on_nbd[disk]) {
        blk_nbd_inherit(disks->nbd, disk);
    }
}

bool disks_push(struct disks *disks)
{
    if (disks->nbd) {
        blk_nbd_push(disks->nbd);
    }
    return blk_push(disks->uring);
}

bool disks_unpushed(const struct disks *disks)
{
    return atomic_load(&disks->holds.answered_count) > 0 || blk_unpushed(disks->uring) ||
           (disks->nbd && blk_nbd_unpushed(disks->nbd));
}

struct listener {
    struct disks *disks;
    blk_done_fn done;
    void *ctx;
};

/* Here, and nowhere else, a disk says that a write is done, or failed: a part of it may
 * be there. */
static void on_answer(void *ctx, unsigned disk, const struct blk_request *request,
                      uint32_t status, const uint8_t *data, uint32_t len)
{
    const struct listener *l = ctx;
    struct disk_marks *marks = disks_marks(l->disks, disk);

    if (marks && request->op != REQUEST_READ && request->op != REQUEST_FLUSH) {
        disk_marks_add(marks, request->sector, request->len);
    }
    if (!disk_hold_done(&l->disks->holds, disk, request, status, &data)) {
        l->done(l->ctx, disk, request, status, data, len);
    }
}

unsigned disks_reap(struct disks *disks, blk_done_fn done, void *ctx)
{
    struct listener l = {disks, done, ctx};
    unsigned count = disk_hold_reap(&disks->holds, done, ctx);

    disks->woken = false;
    return count + blk_reap(disks->uring, on_answer, &l) +
           (disks->nbd ? blk_nbd_reap(disks->nbd, on_answer, &l) : 0);
}

bool disks_reapable(const struct disks *disks)
{
    return disks->woken || atomic_load(&disks->holds.answered_count) > 0 ||
           blk_reapable(disks->uring) || (disks->nbd && blk_nbd_reapable(disks->nbd));
}

void disks_woken(struct disks *disks)
{
    disks->woken = disks->nbd != NULL;
}

void disks_sync(struct disks *disks)
{
    if (disks->nbd) {
        blk_nbd_sync(disks->nbd);
    }
}

void disks_flush(struct disks *disks)
{
    disks_sync(disks);
    blk_flush(disks->uring);
}

unsigned disks_waited_for(const struct disks *disks)
{
    unsigned i = 0;

    while (i < VM_DISKS_MAX && blk_disk_in_flight(disks->uring, i) == 0) {
        i++;
    }
    return i;
}

unsigned disks_in_flight(const struct disks *disks)
{
    return atomic_load(&disks->holds.answered_count) + blk_in_flight(disks->uring) +
           (disks->nbd ? blk_nbd_in_flight(disks->nbd) : 0);
}

bool disks_flush_failed(const struct disks *disks)
{
    return blk_flush_failed(disks->uring) ||
           (disks->nbd && blk_nbd_flush_failed(disks->nbd));
}

int disks_poll_fd(const struct disks *disks)
{
    return disks->nbd ? disks->poll_fd : blk_ring_fd(disks->uring);
}

int disks_event_fd(const struct disks *disks)
{
    return disks->nbd ? disks->event_fd : blk_event_fd(disks->uring);
}

void disks_event_clear(struct disks *disks)
{
    struct epoll_event events[2];
    uint64_t count;

    (void)!read(blk_event_fd(disks->uring), &count, sizeof count);
    if (disks->nbd) {
        (void)epoll_wait(disks->event_fd, events, 2, 0);
    }
}

const char *disks_lost(const struct disks *disks, unsigned disk)
{
    return disks->on_nbd[disk] ? blk_nbd_lost(disks->nbd, disk) : NULL;
}

bool disks_outdated(const struct disks *disks, unsigned disk,
                    const struct disk_desc *desc)
{
    return disks->on_nbd[disk] && blk_nbd_outdated(disks->nbd, disk, desc->epoch);
}

bool disks_latched(const struct disks *disks, unsigned disk)
{
    return disks->on_nbd[disk] ? blk_nbd_latched(disks->nbd, disk)
                               : blk_disk_latched(disks->uring, disk);
}

bool disks_may_flush_again(const struct disks *disks, unsigned disk)
{
    return disks->on_nbd[disk] && blk_nbd_may_flush_again(disks->nbd, disk);
}

struct disk_marks *disks_marks(const struct disks *disks, unsigned disk)
{
    struct disk_marks *marks = (struct disk_marks *)&disks->marks[disk];

    return marks->fresh ? marks : NULL;
}

int disks_fd(const struct disks *disks, unsigned disk)
{
    return disks->on_nbd[disk] ? -1 : blk_disk_fd(disks->uring, disk);
}

int disks_hold(struct disks *disks, unsigned disk, const struct disk_desc *desc,
               struct vmm_error *err)
{
    return disk_hold_begin(&disks->holds, disk, desc->info.sectors, err);
}

void disks_excluded(struct disks *disks, uint32_t mask)
{
    if (mask == 0) {
        atomic_store(&disks->holds.excluded, 0);
    } else {
        atomic_fetch_or(&disks->holds.excluded, mask);
    }
}

void disks_hold_turn(struct disks *disks)
{
    disk_hold_turn(&disks->holds, to_disk, disks);
}

uint32_t disks_held(const struct disks *disks, uint64_t *ret_bytes)
{
    *ret_bytes = atomic_load(&disks->holds.bytes);
    return atomic_load(&disks->holds.mask);
}

void disks_hold_drop(struct disks *disks, unsigned disk,
                     const struct blk_request *request)
{
    disk_hold_drop(&disks->holds, disk, request);
}

void disks_hold_failed(struct disks *disks, unsigned disk,
                       const struct blk_request *request)
{
    disk_hold_drop(&disks->holds, disk, request);
    if (disks->on_nbd[disk]) {
        blk_nbd_latch(disks->nbd, disk);
    } else {
        blk_disk_latch(disks->uring, disk);
    }
}
