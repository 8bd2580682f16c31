/* SPDX-License-Identifier: Apache-2.0 */
/* Names, attributes and directories: they reach the backing directory at once, and are
 * taken back after a power loss where labfs_undo says so. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "lab/labfs_fault.h"
#include "lab/labfs_priv.h"

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

    labfs_fault_wait();
    reply_entry(req, labfs_inode_lookup(labfs_inode_of(parent), name, &e), &e);
}

static void do_forget(fuse_req_t req, fuse_ino_t ino, uint64_t count)
{
    labfs_inode_forget(labfs_inode_of(ino), count);
    fuse_reply_none(req);
}

static void do_forget_multi(fuse_req_t req, size_t count,
                            struct fuse_forget_data *forgets)
{
    for (size_t i = 0; i < count; i++) {
        labfs_inode_forget(labfs_inode_of(forgets[i].ino), forgets[i].nlookup);
    }
    fuse_reply_none(req);
}

static void do_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct stat st;

    (void)fi;
    labfs_fault_wait();
    int r = labfs_inode_attributes(labfs_inode_of(ino), &st);
    if (r < 0) {
        fuse_reply_err(req, -r);
    } else {
        fuse_reply_attr(req, &st, 0);
    }
}

static void do_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set,
                       struct fuse_file_info *fi)
{
    struct inode *inode = labfs_inode_of(ino);
    struct lab_path name = labfs_inode_fd_name(inode);
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_nsec = UTIME_OMIT}};
    struct stat st;
    int r = 0;

    (void)fi;
    labfs_fault_wait();
    if ((to_set & FUSE_SET_ATTR_MODE) != 0 &&
        fchmodat(labfs.proc_fd, name.s, attr->st_mode, 0) < 0) {
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
        r = labfs_data_truncate(inode, (uint64_t)attr->st_size);
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
        r = utimensat(labfs.proc_fd, name.s, times, 0) < 0 ? -errno : 0;
    }
    r = r < 0 ? r : labfs_inode_attributes(inode, &st);
    if (r < 0) {
        fuse_reply_err(req, -r);
    } else {
        fuse_reply_attr(req, &st, 0);
    }
}

static void do_statfs(fuse_req_t req, fuse_ino_t ino)
{
    struct statvfs st;

    labfs_fault_wait();
    if (fstatvfs(labfs_inode_of(ino)->fd, &st) < 0) {
        fuse_reply_err(req, errno);
    } else {
        fuse_reply_statfs(req, &st);
    }
}

/*
 * A change of a name: noted first, taken from the notes if it fails. `begin` is one of
 * labfs_undo_create, _unlink.
 */
typedef int (*note_fn)(struct labfs_undo *undo, ino_t dir, const char *path,
                       unsigned long *ret_number);

static int name_begin(struct inode *parent, const char *name, note_fn fn,
                      unsigned long *ret_number)
{
    char path[PATH_LEN_MAX];

    int r = labfs_inode_below(parent, name, path);
    if (r < 0) {
        return r;
    }
    pthread_mutex_lock(&labfs.undo.lock);
    r = fn(&labfs.undo, parent->ino, path, ret_number);
    if (r < 0) {
        pthread_mutex_unlock(&labfs.undo.lock);
    }
    return r;
}

static int name_end(int r, unsigned long number)
{
    if (r < 0) {
        labfs_undo_cancel(&labfs.undo, number);
    }
    pthread_mutex_unlock(&labfs.undo.lock);
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

    labfs_fault_wait();
    int r = create_name(labfs_inode_of(parent), name, mode, fi->flags);
    r = r < 0 ? r : labfs_inode_lookup(labfs_inode_of(parent), name, &e);
    if (r == 0) {
        r = labfs_data_open(labfs_inode_of(e.ino), fi);
        if (r < 0) {
            labfs_inode_forget(labfs_inode_of(e.ino), 1);
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

    labfs_fault_wait();
    int r = name_begin(labfs_inode_of(parent), name, labfs_undo_create, &number);
    if (r == 0) {
        r = name_end(mknodat(labfs_inode_of(parent)->fd, name, mode, rdev) < 0 ? -errno
                                                                               : 0,
                     number);
    }
    reply_entry(req, r < 0 ? r : labfs_inode_lookup(labfs_inode_of(parent), name, &e),
                &e);
}

static void do_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
    struct fuse_entry_param e;
    unsigned long number;

    labfs_fault_wait();
    int r = name_begin(labfs_inode_of(parent), name, labfs_undo_create, &number);
    if (r == 0) {
        r = name_end(mkdirat(labfs_inode_of(parent)->fd, name, mode) < 0 ? -errno : 0,
                     number);
    }
    reply_entry(req, r < 0 ? r : labfs_inode_lookup(labfs_inode_of(parent), name, &e),
                &e);
}

static void do_symlink(fuse_req_t req, const char *target, fuse_ino_t parent,
                       const char *name)
{
    struct fuse_entry_param e;
    unsigned long number;

    labfs_fault_wait();
    int r = name_begin(labfs_inode_of(parent), name, labfs_undo_create, &number);
    if (r == 0) {
        r = name_end(symlinkat(target, labfs_inode_of(parent)->fd, name) < 0 ? -errno : 0,
                     number);
    }
    reply_entry(req, r < 0 ? r : labfs_inode_lookup(labfs_inode_of(parent), name, &e),
                &e);
}

static void do_readlink(fuse_req_t req, fuse_ino_t ino)
{
    char target[PATH_MAX];

    labfs_fault_wait();
    ssize_t n = readlinkat(labfs_inode_of(ino)->fd, "", target, sizeof target - 1);
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
    struct lab_path from = labfs_inode_fd_name(labfs_inode_of(ino));
    struct fuse_entry_param e;
    unsigned long number;

    labfs_fault_wait();
    int r = name_begin(labfs_inode_of(parent), name, labfs_undo_create, &number);
    if (r == 0) {
        r = linkat(labfs.proc_fd, from.s, labfs_inode_of(parent)->fd, name,
                   AT_SYMLINK_FOLLOW) < 0
                ? -errno
                : 0;
        r = name_end(r, number);
    }
    reply_entry(req, r < 0 ? r : labfs_inode_lookup(labfs_inode_of(parent), name, &e),
                &e);
}

static void do_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    unsigned long number;

    labfs_fault_wait();
    int r = name_begin(labfs_inode_of(parent), name, labfs_undo_unlink, &number);
    if (r == 0) {
        r = name_end(unlinkat(labfs_inode_of(parent)->fd, name, 0) < 0 ? -errno : 0,
                     number);
    }
    fuse_reply_err(req, -r);
}

/* That a directory is gone is durable at once. */
static void do_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    labfs_fault_wait();
    fuse_reply_err(
        req, unlinkat(labfs_inode_of(parent)->fd, name, AT_REMOVEDIR) < 0 ? errno : 0);
}

static void do_rename(fuse_req_t req, fuse_ino_t parent, const char *name,
                      fuse_ino_t new_parent, const char *new_name, unsigned flags)
{
    struct inode *from_dir = labfs_inode_of(parent), *to_dir = labfs_inode_of(new_parent);
    char from[PATH_LEN_MAX], to[PATH_LEN_MAX];
    unsigned long number = 0;

    labfs_fault_wait();
    int r = labfs_inode_below(from_dir, name, from);
    r = r < 0 ? r : labfs_inode_below(to_dir, new_name, to);
    if (r < 0) {
        fuse_reply_err(req, -r);
        return;
    }
    pthread_mutex_lock(&labfs.undo.lock);
    if ((flags & RENAME_EXCHANGE) == 0) {
        r = labfs_undo_rename(&labfs.undo, from_dir->ino, from, to_dir->ino, to, &number);
    }
    if (r == 0) {
        r = renameat2(from_dir->fd, name, to_dir->fd, new_name, flags) < 0 ? -errno : 0;
    }
    fuse_reply_err(req, -name_end(r, number));
}

/* ---- directories ---- */

struct dir {
    DIR *d;
    pthread_mutex_t lock;
};

static void do_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    labfs_fault_wait();
    int fd = openat(labfs_inode_of(ino)->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
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
    labfs_fault_wait();
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
    int r = labfs_fault_before_data(true);
    if (r == 0) {
        pthread_mutex_lock(&labfs.undo.lock);
        labfs_undo_commit(&labfs.undo, labfs_inode_of(ino)->ino);
        pthread_mutex_unlock(&labfs.undo.lock);
    }
    fuse_reply_err(req, -r);
}

void labfs_names_ops(struct fuse_lowlevel_ops *ops)
{
    ops->lookup = do_lookup;
    ops->forget = do_forget;
    ops->forget_multi = do_forget_multi;
    ops->getattr = do_getattr;
    ops->setattr = do_setattr;
    ops->readlink = do_readlink;
    ops->mknod = do_mknod;
    ops->mkdir = do_mkdir;
    ops->unlink = do_unlink;
    ops->rmdir = do_rmdir;
    ops->symlink = do_symlink;
    ops->rename = do_rename;
    ops->link = do_link;
    ops->create = do_create;
    ops->opendir = do_opendir;
    ops->readdir = do_readdir;
    ops->releasedir = do_releasedir;
    ops->fsyncdir = do_fsyncdir;
    ops->statfs = do_statfs;
}
