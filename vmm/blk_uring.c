/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/blk_uring.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/fs.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/bug.h"
#include "base/limits.h"
#include "base/units.h"
#include "vmm/blk_request.h"

#define RING_ENTRIES 128
#define SECTOR_LEN   BLK_SECTOR_LEN
#define DIRECT_ALIGN                                                                     \
    4096u /* of memory; enough for every file system that has O_DIRECT                   \
           */

struct disk {
    int fd; /* -1: not opened yet */
    bool read_only, direct;
    bool device; /* a block device; else a file, whose extents may be cached as well */
    uint64_t sectors;
    bool flush_failed;
    uint64_t written,
        flushed;      /* requests that changed it; how many of them are durable */
    bool flush_asked; /* by blk_flush, under way */
    _Atomic unsigned in_flight;
};

/* One request under way. */
/* No worker thread for so many attempts is an error for the guest. */
#define CANCELED_MAX 100

struct job {
    struct job *next; /* in the list of those that never reached the ring */
    unsigned disk;
    struct blk_request request;
    uint8_t *buffer;   /* what the kernel reads or writes */
    bool bounce;       /* buffer is ours */
    uint32_t done;     /* bytes of a transfer that came in pieces */
    uint32_t canceled; /* times that the kernel gave it up */
    uint32_t status;   /* set before it goes to the answered list */
    bool through;      /* synced before it is answered; RWF_DSYNC is ignored by FUSE */
    bool syncing;      /* the second half of that */
    bool internal;     /* of blk_flush: nobody is told */
    uint64_t covers;   /* FLUSH: what of `written` it makes durable */
};

struct blk_uring {
    struct io_uring ring;
    int event_fd;
    struct disk disk[VM_DISKS_MAX];
    struct job *answered; /* finished without the ring */
    _Atomic unsigned in_flight;
    _Atomic bool flush_failed;
};

/* liburing 2.3 declares functions for these two and does not export them. */
static int ring_register(struct io_uring *ring, unsigned what, const void *arg,
                         unsigned count)
{
    return syscall(SYS_io_uring_register, ring->ring_fd, what, arg, count) < 0 ? -errno
                                                                               : 0;
}

/* The ring can do what a disk needs, on the disks' files, and nothing else: whoever takes
 * over this process gets no way around its system call filter from it. */
static int restrict_ring(struct io_uring *ring)
{
    static const uint8_t ops[] = {IORING_OP_READ, IORING_OP_WRITE, IORING_OP_FSYNC,
                                  IORING_OP_FALLOCATE};
    struct io_uring_restriction rule[ARRAY_SIZE(ops) + 2] = {{0}};
    unsigned n = 0;
    int r;

    for (size_t i = 0; i < ARRAY_SIZE(ops); i++) {
        rule[n].opcode = IORING_RESTRICTION_SQE_OP;
        rule[n++].sqe_op = ops[i];
    }
    rule[n].opcode = IORING_RESTRICTION_SQE_FLAGS_REQUIRED;
    rule[n++].sqe_flags = IOSQE_FIXED_FILE;
    rule[n].opcode = IORING_RESTRICTION_REGISTER_OP;
    rule[n++].register_op = IORING_REGISTER_FILES_UPDATE;
    r = ring_register(ring, IORING_REGISTER_RESTRICTIONS, rule, n);
    return r < 0 ? r : ring_register(ring, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
}

static int make_ring(struct blk_uring *blk, struct vmm_error *err)
{
    int none[VM_DISKS_MAX];
    int r;

    r = io_uring_queue_init(RING_ENTRIES, &blk->ring, IORING_SETUP_R_DISABLED);
    if (r < 0) {
        return vmm_fail(
            err, r,
            "io_uring is not available: %s; check /proc/sys/kernel/io_uring_disabled "
            "and the memlock limit",
            strerror(-r));
    }
    for (unsigned i = 0; i < VM_DISKS_MAX; i++) {
        none[i] = -1; /* filled at START */
    }
    r = io_uring_register_files(&blk->ring, none, VM_DISKS_MAX);
    if (r >= 0) {
        r = io_uring_register_eventfd_async(&blk->ring, blk->event_fd);
    }
    if (r >= 0) {
        r = restrict_ring(&blk->ring);
    }
    if (r < 0) {
        io_uring_queue_exit(&blk->ring);
        return vmm_fail(err, r,
                        "cannot set up io_uring: %s; Linux 5.10 or later is needed",
                        strerror(-r));
    }
    return 0;
}

int blk_uring_open(struct blk_uring **ret_blk, struct vmm_error *err)
{
    struct blk_uring *blk = calloc(1, sizeof *blk);
    int r;

    if (!blk) {
        return vmm_fail(err, -ENOMEM, "no memory for the disk back end");
    }
    for (unsigned i = 0; i < VM_DISKS_MAX; i++) {
        blk->disk[i].fd = -1;
    }
    blk->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (blk->event_fd < 0) {
        r = vmm_fail(err, -errno, "cannot make an eventfd: %s", strerror(errno));
        goto out_free;
    }
    r = make_ring(blk, err);
    if (r < 0) {
        goto out_close;
    }
    *ret_blk = blk;
    return 0;
out_close:
    close(blk->event_fd);
out_free:
    free(blk);
    return r;
}

static void ignore_answer(void *ctx, unsigned disk, const struct blk_request *request,
                          uint32_t status, const uint8_t *data, uint32_t len)
{
    (void)ctx, (void)disk, (void)request, (void)status, (void)data, (void)len;
}

void blk_uring_close(struct blk_uring *blk)
{
    if (!blk) {
        return;
    }
    while (blk_in_flight(blk) > 0) {
        struct io_uring_cqe *cqe;

        (void)blk_push(blk);
        if (!blk->answered && io_uring_wait_cqe(&blk->ring, &cqe) < 0) {
            continue;
        }
        (void)blk_reap(blk, ignore_answer, NULL);
    }
    io_uring_queue_exit(&blk->ring);
    close(blk->event_fd);
    for (unsigned i = 0; i < VM_DISKS_MAX; i++) {
        if (blk->disk[i].fd >= 0) {
            close(blk->disk[i].fd);
        }
    }
    free(blk);
}

/* Disks
 * ----------------------------------------------------------------------------------- */

/* Size of a block device without opening it: sysfs counts in sectors of 512 bytes. */
static int device_sectors(dev_t rdev, uint64_t *ret_sectors)
{
    char path[64], text[32] = "";
    unsigned long long v;
    ssize_t n;
    int fd;

    snprintf(path, sizeof path, "/sys/dev/block/%u:%u/size", major(rdev), minor(rdev));
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n <= 0 || sscanf(text, "%llu", &v) != 1) {
        return -EIO;
    }
    *ret_sectors = v;
    return 0;
}

/* sysfs cannot be seen from within the sandbox. */
static int open_device_sectors(int fd, uint64_t *ret_sectors)
{
    uint64_t bytes;

    if (ioctl(fd, BLKGETSIZE64, &bytes) < 0) {
        return -errno;
    }
    *ret_sectors = bytes / SECTOR_LEN;
    return 0;
}

/* fd -1: not open. */
static int info_of(const char *path, int fd, const struct stat *st,
                   struct blk_disk_info *ret_info, struct vmm_error *err)
{
    struct blk_disk_info info = {.dev = st->st_dev,
                                 .ino = st->st_ino,
                                 .rdev = S_ISBLK(st->st_mode) ? st->st_rdev : 0};
    int r;

    if (S_ISBLK(st->st_mode)) {
        r = fd < 0 ? device_sectors(st->st_rdev, &info.sectors)
                   : open_device_sectors(fd, &info.sectors);
        if (r < 0) {
            return vmm_fail(err, r,
                            "disk %s: cannot read the size of this block device: %s",
                            path, strerror(-r));
        }
    } else if (S_ISREG(st->st_mode)) {
        if (st->st_size % SECTOR_LEN) {
            return vmm_fail(
                err, -EINVAL,
                "disk %s: its size, %lld bytes, is not a multiple of 512; it is not a "
                "raw image, or it was cut short (truncate -s %%512 %s rounds it up)",
                path, (long long)st->st_size, path);
        }
        info.sectors = (uint64_t)st->st_size / SECTOR_LEN;
    } else {
        return vmm_fail(err, -EINVAL, "disk %s is neither a file nor a block device",
                        path);
    }
    if (info.sectors == 0) {
        return vmm_fail(err, -EINVAL,
                        "disk %s is empty; make it with: truncate -s SIZE %s", path,
                        path);
    }
    *ret_info = info;
    return 0;
}

int blk_disk_look(const char *path, bool read_only, struct blk_disk_info *ret_info,
                  struct vmm_error *err)
{
    struct stat st;

    if (stat(path, &st) < 0) {
        return vmm_fail(err, -errno,
                        "disk %s: %s; check that its file system is mounted here", path,
                        strerror(errno));
    }
    if (access(path, read_only ? R_OK : R_OK | W_OK) < 0) {
        return vmm_fail(err, -errno, "disk %s: this user may not %s it: %s", path,
                        read_only ? "read" : "write", strerror(errno));
    }
    return info_of(path, -1, &st, ret_info, err);
}

/* Some file systems take the flag and refuse each transfer, or want more than 512 bytes:
 * try one read. */
static bool direct_works(int fd)
{
    void *p = NULL;
    bool works;

    if (posix_memalign(&p, DIRECT_ALIGN, DIRECT_ALIGN) != 0) {
        return false;
    }
    works = pread(fd, p, SECTOR_LEN, 0) == SECTOR_LEN;
    free(p);
    return works;
}

int blk_disk_file(const char *path, bool read_only, int *ret_fd, struct vmm_error *err)
{
    int fd = open(path, (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC);

    if (fd < 0) {
        return vmm_fail(err, -errno, "cannot open disk %s for %s: %s", path,
                        read_only ? "reading" : "writing", strerror(errno));
    }
    *ret_fd = fd;
    return 0;
}

/* Past the page cache if that works, and with no other flag (an O_APPEND would move every
 * write). 0 or -errno. */
static int set_direct(int fd, bool *ret_direct)
{
    *ret_direct = fcntl(fd, F_SETFL, O_DIRECT) == 0 && direct_works(fd);
    return *ret_direct || fcntl(fd, F_SETFL, 0) == 0 ? 0 : -errno;
}

static int check_same(const char *path, const struct blk_disk_info *then,
                      const struct blk_disk_info *now, struct vmm_error *err)
{
    if (now->dev == then->dev && now->ino == then->ino && now->rdev == then->rdev &&
        now->sectors == then->sectors) {
        return 0;
    }
    return vmm_fail(
        err, -ESTALE,
        "disk %s was replaced or resized after this VMM was made (%llu sectors then, "
        "%llu now); start the VM again",
        path, (unsigned long long)then->sectors, (unsigned long long)now->sectors);
}

int blk_disk_take(struct blk_uring *blk, unsigned disk, int fd, const char *path,
                  bool read_only, const struct blk_disk_info *info, struct vmm_error *err)
{
    struct blk_disk_info now;
    struct stat st;
    bool direct;
    int mode, r;

    BUG_ON(disk >= VM_DISKS_MAX || blk->disk[disk].fd >= 0);
    mode = fcntl(fd, F_GETFL);
    if (mode < 0 || (mode & O_PATH) || fstat(fd, &st) < 0 ||
        ((mode & O_ACCMODE) != O_RDWR && (!read_only || (mode & O_ACCMODE)))) {
        r = vmm_fail(err, -EBADF, "disk %s came as a file that is not open for %s", path,
                     read_only ? "reading" : "reading and writing");
        goto out;
    }
    r = info_of(path, fd, &st, &now, err);
    if (r >= 0) {
        r = check_same(path, info, &now, err);
    }
    if (r < 0) {
        goto out;
    }
    r = set_direct(fd, &direct);
    if (r >= 0) {
        r = io_uring_register_files_update(&blk->ring, disk, &fd, 1);
    }
    if (r < 0) {
        vmm_fail(err, r, "cannot hand disk %s to io_uring: %s", path, strerror(-r));
        goto out;
    }
    blk->disk[disk].fd = fd;
    blk->disk[disk].read_only = read_only;
    blk->disk[disk].direct = direct;
    blk->disk[disk].device = now.rdev != 0;
    blk->disk[disk].sectors = now.sectors;
    return 0;
out:
    close(fd);
    return r;
}

int blk_disk_open(struct blk_uring *blk, unsigned disk, const char *path, bool read_only,
                  const struct blk_disk_info *info, struct vmm_error *err)
{
    int fd = -1, r;

    r = blk_disk_file(path, read_only, &fd, err);
    return r < 0 ? r : blk_disk_take(blk, disk, fd, path, read_only, info, err);
}

/* Requests
 * ----------------------------------------------------------------------------------- */

static void answer_later(struct blk_uring *blk, struct job *job, uint32_t status)
{
    job->status = status;
    job->next = blk->answered;
    blk->answered = job;
}

static uint32_t check_request(const struct disk *d, const struct blk_request *rq)
{
    return blk_request_check(rq,
                             &(struct blk_request_limits){d->fd >= 0, d->read_only,
                                                          d->flush_failed, d->sectors});
}

/* Finds or makes memory that the kernel can use. 0 or an errno. */
static uint32_t get_buffer(struct job *job, const struct disk *d)
{
    const struct blk_request *rq = &job->request;
    void *p = NULL;

    if (rq->op == REQUEST_WRITE &&
        (!d->direct || (uintptr_t)rq->data % SECTOR_LEN == 0)) {
        /* io_uring does not write through this pointer for a write. */
        job->buffer = (uint8_t *)(uintptr_t)rq->data;
        return 0;
    }
    if (rq->op == REQUEST_READ && rq->room &&
        (!d->direct || (uintptr_t)rq->room % SECTOR_LEN == 0)) {
        job->buffer = rq->room;
        return 0;
    }
    if (posix_memalign(&p, DIRECT_ALIGN, rq->len) != 0) {
        return ENOMEM;
    }
    job->buffer = p;
    job->bounce = true;
    if (rq->op == REQUEST_WRITE) {
        memcpy(p, rq->data, rq->len);
    }
    return 0;
}

static struct io_uring_sqe *get_sqe(struct blk_uring *blk)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&blk->ring);

    if (!sqe) {
        (void)io_uring_submit(&blk->ring);
        sqe = io_uring_get_sqe(&blk->ring);
    }
    return sqe;
}

static void prepare(struct io_uring_sqe *sqe, const struct job *job)
{
    int fd = (int)job->disk; /* index of the registered file */
    const struct blk_request *rq = &job->request;
    uint64_t offset = rq->sector * SECTOR_LEN + job->done;
    uint32_t len = rq->len - job->done;

    switch (job->syncing ? REQUEST_FLUSH : rq->op) {
    case REQUEST_READ:
        io_uring_prep_read(sqe, fd, job->buffer + job->done, len, offset);
        break;
    case REQUEST_WRITE:
        io_uring_prep_write(sqe, fd, job->buffer + job->done, len, offset);
        break;
    case REQUEST_DISCARD:
    case REQUEST_WRITE_ZEROES:
        /* Both as a hole: it reads as zeroes, and tmpfs has no ZERO_RANGE. */
        io_uring_prep_fallocate(sqe, fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                (off_t)offset, (off_t)len);
        break;
    case REQUEST_FLUSH:
        io_uring_prep_fsync(sqe, fd, IORING_FSYNC_DATASYNC);
        break;
    }
}

static void send_job(struct blk_uring *blk, struct job *job)
{
    struct io_uring_sqe *sqe = get_sqe(blk);

    if (!sqe) {
        answer_later(blk, job, EAGAIN);
        return;
    }
    prepare(sqe, job);
    io_uring_sqe_set_flags(sqe, IOSQE_FIXED_FILE);
    io_uring_sqe_set_data(sqe, job);
}

bool blk_push(struct blk_uring *blk)
{
    if (io_uring_sq_ready(&blk->ring) > 0) {
        (void)io_uring_submit(&blk->ring);
    }
    return io_uring_sq_ready(&blk->ring) == 0;
}

bool blk_unpushed(const struct blk_uring *blk)
{
    return blk->answered || io_uring_sq_ready(&blk->ring) > 0;
}

static bool op_known(enum request_op op)
{
    return op >= REQUEST_READ && op <= REQUEST_WRITE_ZEROES;
}

static struct job *new_job(struct blk_uring *blk, unsigned disk,
                           const struct blk_request *request)
{
    struct job *job = calloc(1, sizeof *job);

    BUG_ON(!job); /* 100 bytes: an answer could not be remembered without them */
    job->disk = disk;
    job->request = *request;
    job->covers = blk->disk[disk].written;
    job->through = request->through && request->op != REQUEST_FLUSH &&
                   !(blk->disk[disk].device && blk->disk[disk].direct);
    atomic_fetch_add(&blk->in_flight, 1);
    atomic_fetch_add(&blk->disk[disk].in_flight, 1);
    return job;
}

void blk_flush(struct blk_uring *blk)
{
    for (unsigned i = 0; i < VM_DISKS_MAX; i++) {
        struct disk *d = &blk->disk[i];

        if (d->fd >= 0 && d->written != d->flushed && !d->flush_asked &&
            !d->flush_failed) {
            struct job *job = new_job(blk, i, &(struct blk_request){.op = REQUEST_FLUSH});

            job->internal = d->flush_asked = true;
            send_job(blk, job);
        }
    }
}

void blk_submit(struct blk_uring *blk, unsigned disk, const struct blk_request *request)
{
    struct job *job;
    uint32_t status;

    BUG_ON(disk >= VM_DISKS_MAX || !op_known(request->op));
    job = new_job(blk, disk, request);
    status = check_request(&blk->disk[disk], request);
    if (status == 0 && (request->op == REQUEST_READ || request->op == REQUEST_WRITE)) {
        status = get_buffer(job, &blk->disk[disk]);
    }
#ifdef MUT_FLUSH_NO_SYNC
    if (status == 0 && request->op == REQUEST_FLUSH) {
        answer_later(blk, job, 0);
        return;
    }
#endif
    if (status != 0) {
        answer_later(blk, job, status);
        return;
    }
    send_job(blk, job);
}

static void finish(struct blk_uring *blk, struct job *job, uint32_t status,
                   blk_done_fn done, void *ctx)
{
    const struct blk_request *rq = &job->request;
    bool read_ok = status == 0 && rq->op == REQUEST_READ;
    struct disk *d = &blk->disk[job->disk];

    if (rq->op == REQUEST_FLUSH && status != 0) {
        blk_disk_latch(blk, job->disk);
    } else if (rq->op == REQUEST_FLUSH) {
        d->flushed = job->covers > d->flushed ? job->covers : d->flushed;
    } else if (rq->op != REQUEST_READ) {
        d->written++; /* failed ones too: a part may have been done */
    }
    if (rq->op == REQUEST_DISCARD && status == EOPNOTSUPP) {
        status = 0; /* advice that this file system does not take */
    }
    atomic_fetch_sub(&blk->in_flight, 1);
    atomic_fetch_sub(&d->in_flight, 1);
    if (job->internal) {
        d->flush_asked = false;
    } else {
        done(ctx, job->disk, rq, status, read_ok ? job->buffer : NULL,
             read_ok ? rq->len : 0);
    }
    if (job->bounce) {
        free(job->buffer);
    }
    free(job);
}

/* True: its second half is under way. */
static bool sync_too(struct blk_uring *blk, struct job *job)
{
    if (!job->through || job->syncing) {
        return false;
    }
    job->syncing = true;
    send_job(blk, job);
    return true;
}

/* The ring answered `res`: true if the job is done, false if the rest of it was sent
 * again. */
static bool take_result(struct blk_uring *blk, struct job *job, int res,
                        uint32_t *ret_status)
{
    bool transfer = job->request.op == REQUEST_READ || job->request.op == REQUEST_WRITE;

    /* Nobody here cancels: the kernel did, because it could not make a worker thread
     * while our kick signals were pending (io-wq gives up after a few attempts). */
    if (res == -EINTR || res == -EAGAIN ||
        (res == -ECANCELED && job->canceled++ < CANCELED_MAX)) {
        send_job(blk, job);
        return false;
    }
    if (job->syncing && res < 0) {
        blk_disk_latch(blk, job->disk);
    }
    if (res < 0 || !transfer || job->syncing) {
        *ret_status = res < 0 ? (uint32_t)-res : 0;
        return res < 0 || !sync_too(blk, job);
    }
    if (res == 0) {
        *ret_status = EIO; /* the file became shorter than the disk */
        return true;
    }
    job->done += (uint32_t)res;
    if (job->done < job->request.len) {
        send_job(blk, job);
        return false;
    }
    *ret_status = 0;
    return !sync_too(blk, job);
}

unsigned blk_reap(struct blk_uring *blk, blk_done_fn done, void *ctx)
{
    struct io_uring_cqe *cqe;
    unsigned count = 0;

    while (io_uring_peek_cqe(&blk->ring, &cqe) == 0) {
        struct job *job = io_uring_cqe_get_data(cqe);
        int res = cqe->res;
        uint32_t status = 0;

        io_uring_cqe_seen(&blk->ring, cqe);
        if (take_result(blk, job, res, &status)) {
            finish(blk, job, status, done, ctx);
            count++;
        }
    }
    while (blk->answered) {
        struct job *job = blk->answered;

        blk->answered = job->next;
        finish(blk, job, job->status, done, ctx);
        count++;
    }
    return count;
}

bool blk_reapable(const struct blk_uring *blk)
{
    return blk->answered || io_uring_cq_ready(&blk->ring) > 0;
}

unsigned blk_in_flight(const struct blk_uring *blk)
{
    return atomic_load(&blk->in_flight);
}

unsigned blk_disk_in_flight(const struct blk_uring *blk, unsigned disk)
{
    return atomic_load(&blk->disk[disk].in_flight);
}

bool blk_flush_failed(const struct blk_uring *blk)
{
    return atomic_load(&blk->flush_failed);
}

void blk_disk_latch(struct blk_uring *blk, unsigned disk)
{
    blk->disk[disk].flush_failed = true;
    atomic_store(&blk->flush_failed, true);
}

bool blk_disk_latched(const struct blk_uring *blk, unsigned disk)
{
    return blk->disk[disk].flush_failed;
}

int blk_ring_fd(const struct blk_uring *blk)
{
    return blk->ring.ring_fd;
}

int blk_event_fd(const struct blk_uring *blk)
{
    return blk->event_fd;
}

bool blk_is_direct(const struct blk_uring *blk, unsigned disk)
{
    return blk->disk[disk].direct;
}
