/* SPDX-License-Identifier: Apache-2.0 */
/* Data and sizes of files: what is written stays here until it is made durable. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lab/labfs_fault.h"
#include "lab/labfs_log.h"
#include "lab/labfs_priv.h"

/* Of one file: then it is written, as a page cache would. */
#define DIRTY_BYTES_MAX (UINT64_C(256) << 20)

struct file {
    bool append, sync, readable, writable;
};

static void log_records(struct inode *inode, const char *event, uint64_t off,
                        const void *buf, size_t len)
{
    char path[PATH_LEN_MAX];

    if (labfs.log_fd < 0) {
        return;
    }
    labfs_inode_path(inode, path);
    labfs_log_write(labfs.log_fd, labfs.config->node, event, path, off, buf, len);
}

static int write_backing(struct inode *inode, int fd, uint64_t off, const uint8_t *buf,
                         size_t len)
{
    for (size_t done = 0; done < len;) {
        ssize_t n = pwrite(fd, buf + done, len - done, (off_t)(off + done));
        if (n < 0 && errno != EINTR) {
            return -errno;
        }
        done += n > 0 ? (size_t)n : 0;
    }
    log_records(inode, "durable", off, buf, len);
    return 0;
}

/* Under the inode's lock. On failure what is left stays dirty. */
static int make_durable(struct inode *inode)
{
    struct labfs_dirty *d = &inode->dirty;
    struct stat st;

    if (!labfs_dirty_any(d)) {
        return 0;
    }
    int fd = labfs_inode_backing(inode);
    if (fd < 0) {
        return fd;
    }
    if (d->cut && (fstat(fd, &st) < 0 || ((uint64_t)st.st_size > d->base_len &&
                                          ftruncate(fd, (off_t)d->base_len) < 0))) {
        return -errno;
    }
    for (const struct labfs_extent *e = d->head; e != NULL; e = e->next) {
        int r = write_backing(inode, fd, e->off, e->data, e->len);
        if (r < 0) {
            return r;
        }
    }
    if (d->cut && ftruncate(fd, (off_t)d->size) < 0) {
        return -errno;
    }
    labfs_dirty_clear(d, &labfs_heap);
    return 0;
}

static int write_through(struct inode *inode, uint64_t off, const void *buf, size_t len)
{
    if (inode->dirty.cut) {
        /* The order of truncations and writes matters: all of it goes. */
        int r = make_durable(inode);
        if (r < 0) {
            return r;
        }
    }
    int fd = labfs_inode_backing(inode);
    if (fd < 0) {
        return fd;
    }
    if (!labfs_dirty_drop(&inode->dirty, &labfs_heap, off, len)) {
        return -ENOMEM;
    }
    return write_backing(inode, fd, off, buf, len);
}

/* Under the inode's lock: a disk that fills up, for files that become longer. */
static bool take_room(const struct inode *inode, uint64_t end)
{
    struct stat st;
    int64_t grows;

    if (!labfs_fault_room_is_limited() ||
        fstatat(inode->fd, "", &st, AT_EMPTY_PATH) < 0) {
        return true;
    }
    grows = (int64_t)(end - labfs_dirty_size(&inode->dirty, (uint64_t)st.st_size));
    return grows <= 0 || labfs_fault_take_room(grows);
}

static void do_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t len,
                     off_t at, struct fuse_file_info *fi)
{
    const struct file *file = (const struct file *)(uintptr_t)fi->fh;
    struct inode *inode = labfs_inode_of(ino);
    uint64_t off = (uint64_t)at;
    struct stat st;

    int r = labfs_fault_before_data(true);
    if (r < 0) {
        fuse_reply_err(req, -r);
        return;
    }
    pthread_mutex_lock(&inode->lock);
    if (file->append && fstatat(inode->fd, "", &st, AT_EMPTY_PATH) == 0) {
        off = labfs_dirty_size(&inode->dirty, (uint64_t)st.st_size);
    }
    log_records(inode, "submit", off, buf, len);
    if (!take_room(inode, off + len)) {
        r = -ENOSPC;
    } else if (file->sync || labfs_fault_written_early()) {
        r = write_through(inode, off, buf, len);
    } else {
        r = labfs_dirty_write(&inode->dirty, &labfs_heap, off, buf, len) ? 0 : -ENOMEM;
        if (r == 0 && inode->dirty.bytes > DIRTY_BYTES_MAX) {
            r = make_durable(inode);
        }
    }
    pthread_mutex_unlock(&inode->lock);
    if (r < 0) {
        fuse_reply_err(req, -r);
    } else {
        fuse_reply_write(req, len);
    }
}

static void do_read(fuse_req_t req, fuse_ino_t ino, size_t len, off_t at,
                    struct fuse_file_info *fi)
{
    struct inode *inode = labfs_inode_of(ino);
    uint64_t off = (uint64_t)at;
    struct stat st;

    (void)fi;
    int r = labfs_fault_before_data(false);
    char *buf = r < 0 ? NULL : malloc(len > 0 ? len : 1);
    if (buf == NULL) {
        fuse_reply_err(req, r < 0 ? -r : ENOMEM);
        return;
    }
    pthread_mutex_lock(&inode->lock);
    int fd = labfs_inode_backing(inode);
    r = fd < 0 ? fd : fstat(fd, &st) < 0 ? -errno : 0;
    uint64_t size = r < 0 ? 0 : labfs_dirty_size(&inode->dirty, (uint64_t)st.st_size);
    len = off >= size ? 0 : off + len > size ? (size_t)(size - off) : len;
    size_t base = labfs_dirty_base(&inode->dirty, off, len), done = 0;
    while (r == 0 && done < base) {
        ssize_t n = pread(fd, buf + done, base - done, (off_t)(off + done));
        if (n == 0) {
            break;
        }
        if (n < 0 && errno != EINTR) {
            r = -errno;
        }
        done += n > 0 ? (size_t)n : 0;
    }
    if (r == 0) {
        memset(buf + done, 0, len - done);
        labfs_dirty_overlay(&inode->dirty, off, buf, len);
    }
    pthread_mutex_unlock(&inode->lock);
    if (r < 0) {
        fuse_reply_err(req, -r);
    } else {
        fuse_reply_buf(req, buf, len);
    }
    free(buf);
}

static void do_fsync(fuse_req_t req, fuse_ino_t ino, int datasync,
                     struct fuse_file_info *fi)
{
    struct inode *inode = labfs_inode_of(ino);

    (void)datasync;
    (void)fi;
    int r = labfs_fault_before_data(true);
    if (r == 0) {
        pthread_mutex_lock(&inode->lock);
        r = make_durable(inode);
        pthread_mutex_unlock(&inode->lock);
    }
    fuse_reply_err(req, -r);
}

int labfs_data_truncate(struct inode *inode, uint64_t size)
{
    struct stat st;
    int r = 0;

    pthread_mutex_lock(&inode->lock);
    if (fstatat(inode->fd, "", &st, AT_EMPTY_PATH) < 0) {
        r = -errno;
    } else if (!labfs_dirty_truncate(&inode->dirty, &labfs_heap, (uint64_t)st.st_size,
                                     size)) {
        r = -ENOMEM;
    }
    pthread_mutex_unlock(&inode->lock);
    return r;
}

static void do_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len,
                         struct fuse_file_info *fi)
{
    struct inode *inode = labfs_inode_of(ino);
    struct stat st;

    (void)fi;
    int r = mode != 0 ? -EOPNOTSUPP : labfs_inode_attributes(inode, &st);
    if (r == 0 && off + len > st.st_size) {
        r = labfs_data_truncate(inode, (uint64_t)(off + len));
    }
    fuse_reply_err(req, -r);
}

int labfs_data_open(struct inode *inode, struct fuse_file_info *fi)
{
    int access_mode = fi->flags & O_ACCMODE;

    struct file *file = calloc(1, sizeof *file);
    if (file == NULL) {
        return -ENOMEM;
    }
    file->append = (fi->flags & O_APPEND) != 0;
    file->sync = (fi->flags & (O_SYNC | O_DSYNC)) != 0;
    file->readable = access_mode != O_WRONLY;
    file->writable = access_mode != O_RDONLY;
    int r = (fi->flags & O_TRUNC) != 0 ? labfs_data_truncate(inode, 0) : 0;
    if (r < 0) {
        free(file);
        return r;
    }
    fi->fh = (uintptr_t)file;
    fi->direct_io =
        1; /* no second cache: what other nodes made durable is seen at once */
    return 0;
}

static void do_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    labfs_fault_wait();
    int r = labfs_data_open(labfs_inode_of(ino), fi);
    if (r < 0) {
        fuse_reply_err(req, -r);
    } else {
        fuse_reply_open(req, fi);
    }
}

static void do_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    (void)ino;
    free((void *)(uintptr_t)fi->fh);
    fuse_reply_err(req, 0);
}

static void write_one(struct inode *inode)
{
    make_durable(inode);
}

void labfs_data_write_all(void)
{
    labfs_inode_each(write_one);
}

void labfs_data_ops(struct fuse_lowlevel_ops *ops)
{
    ops->open = do_open;
    ops->read = do_read;
    ops->write = do_write;
    ops->fsync = do_fsync;
    ops->fallocate = do_fallocate;
    ops->release = do_release;
}
