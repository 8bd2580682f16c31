/* SPDX-License-Identifier: Apache-2.0 */
#define FUSE_USE_VERSION FUSE_MAKE_VERSION(3, 12)

#include "lab/labfs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "lab/lab_ipc.h"
#include "lab/lab_util.h"
#include "lab/labfs_dirty.h"
#include "lab/labfs_log.h"
#include "lab/labfs_undo.h"

#define BUCKETS 1024
#define THREADS 16
#define DIRTY_BYTES_MAX                                                                  \
    (UINT64_C(256) << 20) /* of one file: then it is written, as a page cache would */

struct inode {
    struct inode *next; /* in its bucket */
    dev_t dev;
    ino_t ino;
    int fd;           /* O_PATH: keeps the number from being used again */
    uint64_t lookups; /* the kernel's references; under table_lock */
    char
        path[PATH_LEN_MAX]; /* where it was seen last, below the root; under table_lock */
    pthread_mutex_t lock;   /* for what follows */
    struct labfs_dirty dirty;
    int rw_fd; /* backing file, -1 until needed */
};

struct file {
    bool append, sync, readable, writable;
};

struct dir {
    DIR *d;
    pthread_mutex_t lock;
};

static struct {
    const struct labfs_config *config;
    struct inode *bucket[BUCKETS];
    struct inode root;
    pthread_mutex_t table_lock;
    int proc_fd; /* /proc/self/fd of our own PID namespace: the node mounts another /proc
                    over it */
    int log_fd;
    struct labfs_undo undo;
    /* faults */
    _Atomic unsigned delay_ms, writeback_percent;
    _Atomic bool eio;
    _Atomic int64_t room_bytes; /* that files may grow by; negative: no limit */
    pthread_mutex_t hang_lock;
    pthread_cond_t hang_end;
    bool hang;
    _Atomic uint32_t random;
} fs = {
    .table_lock = PTHREAD_MUTEX_INITIALIZER,
    .hang_lock = PTHREAD_MUTEX_INITIALIZER,
    .hang_end = PTHREAD_COND_INITIALIZER,
    .random = 1,
    .room_bytes = -1,
};

static const struct labfs_memory memory = {malloc, free};

/* ---- faults ---- */

/* Storage out of reach: every operation waits, as on a hard mount. */
static void wait_reachable(void)
{
    pthread_mutex_lock(&fs.hang_lock);
    while (fs.hang) {
        pthread_cond_wait(&fs.hang_end, &fs.hang_lock);
    }
    pthread_mutex_unlock(&fs.hang_lock);
}

/* Before each operation on data; -EIO if that is the fault of the day. */
static int before_data(bool slow)
{
    wait_reachable();
    unsigned ms = atomic_load(&fs.delay_ms);
    if (slow && ms > 0) {
        lab_sleep_ms(ms);
        wait_reachable();
    }
    return atomic_load(&fs.eio) ? -EIO : 0;
}

static void set_hang(bool hang)
{
    pthread_mutex_lock(&fs.hang_lock);
    fs.hang = hang;
    pthread_cond_broadcast(&fs.hang_end);
    pthread_mutex_unlock(&fs.hang_lock);
}

static void *control_thread(void *arg)
{
    char buf[128], verb[32];

    (void)arg;
    while (lab_ipc_recv(fs.config->control_fd, buf, sizeof buf, NULL) > 0) {
        unsigned value = 0;
        if (sscanf(buf, "%31s %u", verb, &value) < 1) {
            continue;
        }
        if (strcmp(verb, "delay") == 0) {
            atomic_store(&fs.delay_ms, value);
        } else if (strcmp(verb, "eio") == 0) {
            atomic_store(&fs.eio, value != 0);
        } else if (strcmp(verb, "writeback") == 0) {
            atomic_store(&fs.writeback_percent, value);
        } else if (strcmp(verb, "room") == 0) {
            atomic_store(&fs.room_bytes, (int64_t)value * 1024);
        } else if (strcmp(verb, "hang") == 0) {
            set_hang(value != 0);
        } else if (strcmp(verb, "heal") == 0) {
            atomic_store(&fs.delay_ms, 0);
            atomic_store(&fs.eio, false);
            atomic_store(&fs.writeback_percent, 0);
            atomic_store(&fs.room_bytes, -1);
            set_hang(false);
        }
    }
    return NULL;
}

/* Some of what was written reaches the disk early and in any order, as from a page cache.
 */
static bool written_early(void)
{
    unsigned percent = atomic_load(&fs.writeback_percent);

    if (percent == 0) {
        return false;
    }
    uint32_t x = atomic_fetch_add(&fs.random, UINT32_C(0x9e3779b9));
    x ^= x >> 16;
    x *= UINT32_C(0x7feb352d);
    x ^= x >> 15;
    return x % 100 < percent;
}

/* ---- inodes ---- */

static struct inode *inode_of(fuse_ino_t ino)
{
    return ino == FUSE_ROOT_ID ? &fs.root : (struct inode *)(uintptr_t)ino;
}

/* A name below /proc/self/fd for openat(proc_fd, ...): the file itself, whatever its name
 * is now. */
static struct lab_path self_fd(const struct inode *inode)
{
    return lab_path("%d", inode->fd);
}

static int backing(struct inode *inode)
{
    if (inode->rw_fd < 0) {
        struct lab_path name = self_fd(inode);
        inode->rw_fd = openat(fs.proc_fd, name.s, O_RDWR | O_CLOEXEC);
        if (inode->rw_fd < 0) {
            return -errno;
        }
    }
    return inode->rw_fd;
}

static void inode_free(struct inode *inode)
{
    labfs_dirty_clear(&inode->dirty, &memory);
    close(inode->fd);
    if (inode->rw_fd >= 0) {
        close(inode->rw_fd);
    }
    pthread_mutex_destroy(&inode->lock);
    free(inode);
}

/* Attributes as this node sees them: with what it has not made durable. */
static int attributes(struct inode *inode, struct stat *st)
{
    if (fstatat(inode->fd, "", st, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) < 0) {
        return -errno;
    }
    if (S_ISREG(st->st_mode)) {
        pthread_mutex_lock(&inode->lock);
        st->st_size = (off_t)labfs_dirty_size(&inode->dirty, (uint64_t)st->st_size);
        pthread_mutex_unlock(&inode->lock);
    }
    return 0;
}

static void set_path(struct inode *inode, const struct inode *parent, const char *name)
{
    char path[PATH_LEN_MAX];

    if ((size_t)snprintf(path, sizeof path, "%s%s%s", parent->path,
                         parent->path[0] != '\0' ? "/" : "", name) < sizeof path) {
        memcpy(inode->path, path, sizeof path);
    }
}

/* The inode of a name, with one more lookup; takes over nothing on failure. */
static int inode_lookup(struct inode *parent, const char *name,
                        struct fuse_entry_param *e)
{
    struct inode *inode;

    memset(e, 0, sizeof *e);
    int fd = openat(parent->fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    if (fstatat(fd, "", &e->attr, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) < 0) {
        int r = -errno;
        close(fd);
        return r;
    }
    pthread_mutex_lock(&fs.table_lock);
    struct inode **bucket = &fs.bucket[e->attr.st_ino % BUCKETS];
    for (inode = *bucket; inode != NULL; inode = inode->next) {
        if (inode->ino == e->attr.st_ino && inode->dev == e->attr.st_dev) {
            break;
        }
    }
    if (inode != NULL) {
        close(fd);
    } else {
        inode = calloc(1, sizeof *inode);
        if (inode == NULL) {
            pthread_mutex_unlock(&fs.table_lock);
            close(fd);
            return -ENOMEM;
        }
        inode->dev = e->attr.st_dev;
        inode->ino = e->attr.st_ino;
        inode->fd = fd;
        inode->rw_fd = -1;
        pthread_mutex_init(&inode->lock, NULL);
        inode->next = *bucket;
        *bucket = inode;
    }
    inode->lookups++;
    set_path(inode, parent, name);
    pthread_mutex_unlock(&fs.table_lock);
    e->ino = (uintptr_t)inode;
    return attributes(inode, &e->attr);
}

/* Not durable data stays, whoever forgets the file, as in a page cache; that of a removed
 * file goes with it. */
static void inode_forget(struct inode *inode, uint64_t count)
{
    struct stat st;

    if (inode == &fs.root) {
        return;
    }
    pthread_mutex_lock(&fs.table_lock);
    inode->lookups -= count < inode->lookups ? count : inode->lookups;
    if (inode->lookups == 0 &&
        (!labfs_dirty_any(&inode->dirty) ||
         (fstatat(inode->fd, "", &st, AT_EMPTY_PATH) == 0 && st.st_nlink == 0))) {
        struct inode **link = &fs.bucket[inode->ino % BUCKETS];
        while (*link != NULL && *link != inode) {
            link = &(*link)->next;
        }
        if (*link != NULL) {
            *link = inode->next;
        }
        inode_free(inode);
    }
    pthread_mutex_unlock(&fs.table_lock);
}

/* ---- data ---- */

static void log_records(struct inode *inode, const char *event, uint64_t off,
                        const void *buf, size_t len)
{
    char path[PATH_LEN_MAX];

    if (fs.log_fd < 0) {
        return;
    }
    pthread_mutex_lock(&fs.table_lock);
    memcpy(path, inode->path, sizeof path);
    pthread_mutex_unlock(&fs.table_lock);
    labfs_log_write(fs.log_fd, fs.config->node, event, path, off, buf, len);
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
    int fd = backing(inode);
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
    labfs_dirty_clear(d, &memory);
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
    int fd = backing(inode);
    if (fd < 0) {
        return fd;
    }
    if (!labfs_dirty_drop(&inode->dirty, &memory, off, len)) {
        return -ENOMEM;
    }
    return write_backing(inode, fd, off, buf, len);
}

/* Under the inode's lock: a disk that fills up, for files that become longer. */
static bool take_room(struct inode *inode, uint64_t end)
{
    int64_t room = atomic_load(&fs.room_bytes), grows;
    struct stat st;

    if (room < 0 || fstatat(inode->fd, "", &st, AT_EMPTY_PATH) < 0) {
        return true;
    }
    grows = (int64_t)(end - labfs_dirty_size(&inode->dirty, (uint64_t)st.st_size));
    if (grows <= 0) {
        return true;
    }
    while (room >= grows) {
        if (atomic_compare_exchange_weak(&fs.room_bytes, &room, room - grows)) {
            return true;
        }
    }
    return room < 0;
}

static void do_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t len,
                     off_t at, struct fuse_file_info *fi)
{
    const struct file *file = (const struct file *)(uintptr_t)fi->fh;
    struct inode *inode = inode_of(ino);
    uint64_t off = (uint64_t)at;
    struct stat st;

    int r = before_data(true);
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
    } else if (file->sync || written_early()) {
        r = write_through(inode, off, buf, len);
    } else {
        r = labfs_dirty_write(&inode->dirty, &memory, off, buf, len) ? 0 : -ENOMEM;
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
    struct inode *inode = inode_of(ino);
    uint64_t off = (uint64_t)at;
    struct stat st;

    (void)fi;
    int r = before_data(false);
    char *buf = r < 0 ? NULL : malloc(len > 0 ? len : 1);
    if (buf == NULL) {
        fuse_reply_err(req, r < 0 ? -r : ENOMEM);
        return;
    }
    pthread_mutex_lock(&inode->lock);
    int fd = backing(inode);
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
    struct inode *inode = inode_of(ino);

    (void)datasync;
    (void)fi;
    int r = before_data(true);
    if (r == 0) {
        pthread_mutex_lock(&inode->lock);
        r = make_durable(inode);
        pthread_mutex_unlock(&inode->lock);
    }
    fuse_reply_err(req, -r);
}

static int truncate_inode(struct inode *inode, uint64_t size)
{
    struct stat st;
    int r = 0;

    pthread_mutex_lock(&inode->lock);
    if (fstatat(inode->fd, "", &st, AT_EMPTY_PATH) < 0) {
        r = -errno;
    } else if (!labfs_dirty_truncate(&inode->dirty, &memory, (uint64_t)st.st_size,
                                     size)) {
        r = -ENOMEM;
    }
    pthread_mutex_unlock(&inode->lock);
    return r;
}

static void do_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len,
                         struct fuse_file_info *fi)
{
    struct inode *inode = inode_of(ino);
    struct stat st;

    (void)fi;
    int r = mode != 0 ? -EOPNOTSUPP : attributes(inode, &st);
    if (r == 0 && off + len > st.st_size) {
        r = truncate_inode(inode, (uint64_t)(off + len));
    }
    fuse_reply_err(req, -r);
}

/* ---- files ---- */

static int open_file(struct inode *inode, struct fuse_file_info *fi)
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
    int r = (fi->flags & O_TRUNC) != 0 ? truncate_inode(inode, 0) : 0;
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
    wait_reachable();
    int r = open_file(inode_of(ino), fi);
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

static void reply_entry(fuse_req_t req, int r, const struct fuse_entry_param *e)
{
    if (r < 0) {
        fuse_reply_err(req, -r);
    } else {
        fuse_reply_entry(req, e);
    }
}

static void do_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct fuse_entry_param e;

    wait_reachable();
    reply_entry(req, inode_lookup(inode_of(parent), name, &e), &e);
}

static void do_forget(fuse_req_t req, fuse_ino_t ino, uint64_t count)
{
    inode_forget(inode_of(ino), count);
    fuse_reply_none(req);
}

static void do_forget_multi(fuse_req_t req, size_t count,
                            struct fuse_forget_data *forgets)
{
    for (size_t i = 0; i < count; i++) {
        inode_forget(inode_of(forgets[i].ino), forgets[i].nlookup);
    }
    fuse_reply_none(req);
}

static void do_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct stat st;

    (void)fi;
    wait_reachable();
    int r = attributes(inode_of(ino), &st);
    if (r < 0) {
        fuse_reply_err(req, -r);
    } else {
        fuse_reply_attr(req, &st, 0);
    }
}

static void do_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set,
                       struct fuse_file_info *fi)
{
    struct inode *inode = inode_of(ino);
    struct lab_path name = self_fd(inode);
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_nsec = UTIME_OMIT}};
    struct stat st;
    int r = 0;

    (void)fi;
    wait_reachable();
    if ((to_set & FUSE_SET_ATTR_MODE) != 0 &&
        fchmodat(fs.proc_fd, name.s, attr->st_mode, 0) < 0) {
        r = -errno;
    }
    if (r == 0 && (to_set & (FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID)) != 0 &&
        fchownat(inode->fd, "",
                 (to_set & FUSE_SET_ATTR_UID) != 0 ? attr->st_uid : (uid_t)-1,
                 (to_set & FUSE_SET_ATTR_GID) != 0 ? attr->st_gid : (gid_t)-1,
                 AT_EMPTY_PATH) < 0) {
        r = -errno;
    }
    if (r == 0 && (to_set & FUSE_SET_ATTR_SIZE) != 0) {
        r = truncate_inode(inode, (uint64_t)attr->st_size);
    }
    if (r == 0 && (to_set & (FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_MTIME)) != 0) {
        if ((to_set & FUSE_SET_ATTR_ATIME) != 0) {
            times[0] = attr->st_atim;
            times[0].tv_nsec =
                (to_set & FUSE_SET_ATTR_ATIME_NOW) != 0 ? UTIME_NOW : times[0].tv_nsec;
        }
        if ((to_set & FUSE_SET_ATTR_MTIME) != 0) {
            times[1] = attr->st_mtim;
            times[1].tv_nsec =
                (to_set & FUSE_SET_ATTR_MTIME_NOW) != 0 ? UTIME_NOW : times[1].tv_nsec;
        }
        r = utimensat(fs.proc_fd, name.s, times, 0) < 0 ? -errno : 0;
    }
    r = r < 0 ? r : attributes(inode, &st);
    if (r < 0) {
        fuse_reply_err(req, -r);
    } else {
        fuse_reply_attr(req, &st, 0);
    }
}

/*
 * A change of a name: noted first, taken from the notes if it fails. `begin` is one of
 * labfs_undo_create, _unlink.
 */
typedef int (*note_fn)(struct labfs_undo *undo, ino_t dir, const char *path,
                       unsigned long *ret_number);

/* The path below the root, for a note; -ENAMETOOLONG when it is too long for one. */
static int below(struct inode *parent, const char *name, char path[static PATH_LEN_MAX])
{
    pthread_mutex_lock(&fs.table_lock);
    int n = snprintf(path, PATH_LEN_MAX, "%s%s%s", parent->path,
                     parent->path[0] != '\0' ? "/" : "", name);
    pthread_mutex_unlock(&fs.table_lock);
    return n < 0 || n >= PATH_LEN_MAX ? -ENAMETOOLONG : 0;
}

static int name_begin(struct inode *parent, const char *name, note_fn fn,
                      unsigned long *ret_number)
{
    char path[PATH_LEN_MAX];

    int r = below(parent, name, path);
    if (r < 0) {
        return r;
    }
    pthread_mutex_lock(&fs.undo.lock);
    r = fn(&fs.undo, parent->ino, path, ret_number);
    if (r < 0) {
        pthread_mutex_unlock(&fs.undo.lock);
    }
    return r;
}

static int name_end(int r, unsigned long number)
{
    if (r < 0) {
        labfs_undo_cancel(&fs.undo, number);
    }
    pthread_mutex_unlock(&fs.undo.lock);
    return r;
}

static int create_name(struct inode *parent, const char *name, mode_t mode, int flags)
{
    unsigned long number;

    int r = name_begin(parent, name, labfs_undo_create, &number);
    if (r < 0) {
        return r;
    }
    int fd = openat(parent->fd, name,
                    O_RDONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC | (flags & O_EXCL), mode);
    if (fd >= 0) {
        close(fd);
    }
    return name_end(fd < 0 ? -errno : 0, number);
}

static void do_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
                      struct fuse_file_info *fi)
{
    struct fuse_entry_param e;

    wait_reachable();
    int r = create_name(inode_of(parent), name, mode, fi->flags);
    r = r < 0 ? r : inode_lookup(inode_of(parent), name, &e);
    if (r == 0) {
        r = open_file(inode_of(e.ino), fi);
        if (r < 0) {
            inode_forget(inode_of(e.ino), 1);
        }
    }
    if (r < 0) {
        fuse_reply_err(req, -r);
    } else {
        fuse_reply_create(req, &e, fi);
    }
}

static void do_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
                     dev_t rdev)
{
    struct fuse_entry_param e;
    unsigned long number;

    wait_reachable();
    int r = name_begin(inode_of(parent), name, labfs_undo_create, &number);
    if (r == 0) {
        r = name_end(mknodat(inode_of(parent)->fd, name, mode, rdev) < 0 ? -errno : 0,
                     number);
    }
    reply_entry(req, r < 0 ? r : inode_lookup(inode_of(parent), name, &e), &e);
}

static void do_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
    struct fuse_entry_param e;
    unsigned long number;

    wait_reachable();
    int r = name_begin(inode_of(parent), name, labfs_undo_create, &number);
    if (r == 0) {
        r = name_end(mkdirat(inode_of(parent)->fd, name, mode) < 0 ? -errno : 0, number);
    }
    reply_entry(req, r < 0 ? r : inode_lookup(inode_of(parent), name, &e), &e);
}

static void do_symlink(fuse_req_t req, const char *target, fuse_ino_t parent,
                       const char *name)
{
    struct fuse_entry_param e;
    unsigned long number;

    wait_reachable();
    int r = name_begin(inode_of(parent), name, labfs_undo_create, &number);
    if (r == 0) {
        r = name_end(symlinkat(target, inode_of(parent)->fd, name) < 0 ? -errno : 0,
                     number);
    }
    reply_entry(req, r < 0 ? r : inode_lookup(inode_of(parent), name, &e), &e);
}

static void do_readlink(fuse_req_t req, fuse_ino_t ino)
{
    char target[PATH_MAX];

    wait_reachable();
    ssize_t n = readlinkat(inode_of(ino)->fd, "", target, sizeof target - 1);
    if (n < 0) {
        fuse_reply_err(req, errno);
        return;
    }
    target[n] = '\0';
    fuse_reply_readlink(req, target);
}

/* The one atomic operation between nodes: link(2) on the backing directory, EEXIST
 * included. */
static void do_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name)
{
    struct lab_path from = self_fd(inode_of(ino));
    struct fuse_entry_param e;
    unsigned long number;

    wait_reachable();
    int r = name_begin(inode_of(parent), name, labfs_undo_create, &number);
    if (r == 0) {
        r = linkat(fs.proc_fd, from.s, inode_of(parent)->fd, name, AT_SYMLINK_FOLLOW) < 0
                ? -errno
                : 0;
        r = name_end(r, number);
    }
    reply_entry(req, r < 0 ? r : inode_lookup(inode_of(parent), name, &e), &e);
}

static void do_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    unsigned long number;

    wait_reachable();
    int r = name_begin(inode_of(parent), name, labfs_undo_unlink, &number);
    if (r == 0) {
        r = name_end(unlinkat(inode_of(parent)->fd, name, 0) < 0 ? -errno : 0, number);
    }
    fuse_reply_err(req, -r);
}

/* That a directory is gone is durable at once. */
static void do_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    wait_reachable();
    fuse_reply_err(req,
                   unlinkat(inode_of(parent)->fd, name, AT_REMOVEDIR) < 0 ? errno : 0);
}

static void do_rename(fuse_req_t req, fuse_ino_t parent, const char *name,
                      fuse_ino_t new_parent, const char *new_name, unsigned flags)
{
    struct inode *from_dir = inode_of(parent), *to_dir = inode_of(new_parent);
    char from[PATH_LEN_MAX], to[PATH_LEN_MAX];
    unsigned long number = 0;

    wait_reachable();
    int r = below(from_dir, name, from);
    r = r < 0 ? r : below(to_dir, new_name, to);
    if (r < 0) {
        fuse_reply_err(req, -r);
        return;
    }
    pthread_mutex_lock(&fs.undo.lock);
    if ((flags & RENAME_EXCHANGE) == 0) {
        r = labfs_undo_rename(&fs.undo, from_dir->ino, from, to_dir->ino, to, &number);
    }
    if (r == 0) {
        r = renameat2(from_dir->fd, name, to_dir->fd, new_name, flags) < 0 ? -errno : 0;
    }
    fuse_reply_err(req, -name_end(r, number));
}

/* ---- directories ---- */

static void do_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    wait_reachable();
    int fd = openat(inode_of(ino)->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct dir *dir = fd < 0 ? NULL : calloc(1, sizeof *dir);
    if (dir == NULL || (dir->d = fdopendir(fd)) == NULL) {
        fuse_reply_err(req, fd < 0 ? errno : ENOMEM);
        free(dir);
        if (fd >= 0) {
            close(fd);
        }
        return;
    }
    pthread_mutex_init(&dir->lock, NULL);
    fi->fh = (uintptr_t)dir;
    fuse_reply_open(req, fi);
}

static void do_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
                       struct fuse_file_info *fi)
{
    struct dir *dir = (struct dir *)(uintptr_t)fi->fh;
    struct dirent *entry;
    size_t used = 0;

    (void)ino;
    wait_reachable();
    char *buf = malloc(size);
    if (buf == NULL) {
        fuse_reply_err(req, ENOMEM);
        return;
    }
    pthread_mutex_lock(&dir->lock);
    seekdir(dir->d, off);
    while ((entry = readdir(dir->d)) != NULL) {
        struct stat st = {.st_ino = entry->d_ino, .st_mode = (mode_t)entry->d_type << 12};
        size_t n = fuse_add_direntry(req, buf + used, size - used, entry->d_name, &st,
                                     telldir(dir->d));
        if (n > size - used) {
            break;
        }
        used += n;
    }
    pthread_mutex_unlock(&dir->lock);
    fuse_reply_buf(req, buf, used);
    free(buf);
}

static void do_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct dir *dir = (struct dir *)(uintptr_t)fi->fh;

    (void)ino;
    closedir(dir->d);
    pthread_mutex_destroy(&dir->lock);
    free(dir);
    fuse_reply_err(req, 0);
}

static void do_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync,
                        struct fuse_file_info *fi)
{
    (void)datasync;
    (void)fi;
    int r = before_data(true);
    if (r == 0) {
        pthread_mutex_lock(&fs.undo.lock);
        labfs_undo_commit(&fs.undo, inode_of(ino)->ino);
        pthread_mutex_unlock(&fs.undo.lock);
    }
    fuse_reply_err(req, -r);
}

static void do_statfs(fuse_req_t req, fuse_ino_t ino)
{
    struct statvfs st;

    wait_reachable();
    if (fstatvfs(inode_of(ino)->fd, &st) < 0) {
        fuse_reply_err(req, errno);
    } else {
        fuse_reply_statfs(req, &st);
    }
}

static const struct fuse_lowlevel_ops ops = {
    .lookup = do_lookup,
    .forget = do_forget,
    .forget_multi = do_forget_multi,
    .getattr = do_getattr,
    .setattr = do_setattr,
    .readlink = do_readlink,
    .mknod = do_mknod,
    .mkdir = do_mkdir,
    .unlink = do_unlink,
    .rmdir = do_rmdir,
    .symlink = do_symlink,
    .rename = do_rename,
    .link = do_link,
    .open = do_open,
    .create = do_create,
    .read = do_read,
    .write = do_write,
    .release = do_release,
    .fsync = do_fsync,
    .opendir = do_opendir,
    .readdir = do_readdir,
    .releasedir = do_releasedir,
    .fsyncdir = do_fsyncdir,
    .statfs = do_statfs,
    .fallocate = do_fallocate,
};

/* After an orderly end: what a system would write when it unmounts. */
static void write_all(void)
{
    for (size_t i = 0; i < BUCKETS; i++) {
        for (struct inode *inode = fs.bucket[i]; inode != NULL; inode = inode->next) {
            make_durable(inode);
        }
    }
    labfs_undo_commit(&fs.undo, 0);
}

static int serve(struct fuse_session *se)
{
    struct fuse_loop_config *loop = fuse_loop_cfg_create();
    sigset_t all, old;
    pthread_t thread;

    if (loop == NULL) {
        return 1;
    }
    /* SIGTERM is for the main thread: only there it ends the wait of the loop. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int error = pthread_create(&thread, NULL, control_thread, NULL);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (error != 0) {
        fuse_loop_cfg_destroy(loop);
        return 1;
    }
    pthread_detach(thread);
    fuse_loop_cfg_set_idle_threads(loop, THREADS);
    fuse_loop_cfg_set_max_threads(loop, THREADS);
    fuse_loop_cfg_set_clone_fd(loop, 0);
    (void)!write(fs.config->ready_fd, "r", 1);
    close(fs.config->ready_fd);
    int r = fuse_session_loop_mt(se, loop);
    fuse_loop_cfg_destroy(loop);
    return r == 0 || r == SIGTERM ? 0 : 1;
}

int labfs_main(const struct labfs_config *config)
{
    struct lab_path options =
        lab_path("fsname=labfs-%s,default_permissions,allow_other", config->name);
    char program[] = "gemel-labfs", flag[] = "-o";
    char *argv[] = {program, flag, options.s, NULL};
    struct fuse_args args = FUSE_ARGS_INIT(3, argv);
    struct stat root;
    int r = 1;

    if (fstat(config->source_fd, &root) < 0 ||
        labfs_undo_open(&fs.undo, config->source_fd, config->undo_fd) < 0) {
        return 1;
    }
    fs.config = config;
    fs.root.fd = config->source_fd;
    fs.root.rw_fd = -1;
    fs.root.ino = root.st_ino;
    fs.random = (uint32_t)lab_now_ns();
    pthread_mutex_init(&fs.root.lock, NULL);
    umask(0);
    fs.proc_fd = open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC);
    fs.log_fd =
        config->log_path != NULL
            ? open(config->log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644)
            : -1;
    struct fuse_session *se = fuse_session_new(&args, &ops, sizeof ops, NULL);
    if (se == NULL) {
        goto out;
    }
    if (fs.proc_fd >= 0 && fuse_set_signal_handlers(se) == 0 &&
        fuse_session_mount(se, config->mountpoint) == 0) {
        r = serve(se);
        write_all();
        fuse_session_unmount(se);
    }
    fuse_session_destroy(se);
out:
    fuse_opt_free_args(&args);
    return r;
}
