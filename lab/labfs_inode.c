/* SPDX-License-Identifier: Apache-2.0 */
/* The table of files that the kernel, or what is not durable, still refers to. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lab/labfs_priv.h"

#define BUCKETS 1024

const struct labfs_memory labfs_heap = {malloc, free};

static struct inode *bucket[BUCKETS];
static struct inode root;
static pthread_mutex_t table_lock = PTHREAD_MUTEX_INITIALIZER;

void labfs_inode_root(int source_fd, ino_t ino)
{
    root.fd = source_fd;
    root.rw_fd = -1;
    root.ino = ino;
    pthread_mutex_init(&root.lock, NULL);
}

struct inode *labfs_inode_of(fuse_ino_t ino)
{
    return ino == FUSE_ROOT_ID ? &root : (struct inode *)(uintptr_t)ino;
}

struct lab_path labfs_inode_fd_name(const struct inode *inode)
{
    return lab_path("%d", inode->fd);
}

int labfs_inode_backing(struct inode *inode)
{
    if (inode->rw_fd < 0) {
        struct lab_path name = labfs_inode_fd_name(inode);
        inode->rw_fd = openat(labfs.proc_fd, name.s, O_RDWR | O_CLOEXEC);
        if (inode->rw_fd < 0) {
            return -errno;
        }
    }
    return inode->rw_fd;
}

static void inode_free(struct inode *inode)
{
    labfs_dirty_clear(&inode->dirty, &labfs_heap);
    close(inode->fd);
    if (inode->rw_fd >= 0) {
        close(inode->rw_fd);
    }
    pthread_mutex_destroy(&inode->lock);
    free(inode);
}

int labfs_inode_attributes(struct inode *inode, struct stat *st)
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

/* Under table_lock. */
static bool join(const struct inode *parent, const char *name,
                 char path[static PATH_LEN_MAX])
{
    int n = snprintf(path, PATH_LEN_MAX, "%s%s%s", parent->path,
                     parent->path[0] != '\0' ? "/" : "", name);

    return n >= 0 && n < PATH_LEN_MAX;
}

static void set_path(struct inode *inode, const struct inode *parent, const char *name)
{
    char path[PATH_LEN_MAX];

    if (join(parent, name, path)) {
        memcpy(inode->path, path, sizeof path);
    }
}

int labfs_inode_below(const struct inode *parent, const char *name,
                      char path[static PATH_LEN_MAX])
{
    pthread_mutex_lock(&table_lock);
    bool fits = join(parent, name, path);
    pthread_mutex_unlock(&table_lock);
    return fits ? 0 : -ENAMETOOLONG;
}

void labfs_inode_path(const struct inode *inode, char path[static PATH_LEN_MAX])
{
    pthread_mutex_lock(&table_lock);
    memcpy(path, inode->path, PATH_LEN_MAX);
    pthread_mutex_unlock(&table_lock);
}

int labfs_inode_lookup(struct inode *parent, const char *name, struct fuse_entry_param *e)
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
    pthread_mutex_lock(&table_lock);
    struct inode **slot = &bucket[e->attr.st_ino % BUCKETS];
    for (inode = *slot; inode != NULL; inode = inode->next) {
        if (inode->ino == e->attr.st_ino && inode->dev == e->attr.st_dev) {
            break;
        }
    }
    if (inode != NULL) {
        close(fd);
    } else {
        inode = calloc(1, sizeof *inode);
        if (inode == NULL) {
            pthread_mutex_unlock(&table_lock);
            close(fd);
            return -ENOMEM;
        }
        inode->dev = e->attr.st_dev;
        inode->ino = e->attr.st_ino;
        inode->fd = fd;
        inode->rw_fd = -1;
        pthread_mutex_init(&inode->lock, NULL);
        inode->next = *slot;
        *slot = inode;
    }
    inode->lookups++;
    set_path(inode, parent, name);
    pthread_mutex_unlock(&table_lock);
    e->ino = (uintptr_t)inode;
    return labfs_inode_attributes(inode, &e->attr);
}

/* Not durable data stays, whoever forgets the file, as in a page cache; that of a removed
 * file goes with it. */
void labfs_inode_forget(struct inode *inode, uint64_t count)
{
    struct stat st;

    if (inode == &root) {
        return;
    }
    pthread_mutex_lock(&table_lock);
    inode->lookups -= count < inode->lookups ? count : inode->lookups;
    if (inode->lookups == 0 &&
        (!labfs_dirty_any(&inode->dirty) ||
         (fstatat(inode->fd, "", &st, AT_EMPTY_PATH) == 0 && st.st_nlink == 0))) {
        struct inode **link = &bucket[inode->ino % BUCKETS];
        while (*link != NULL && *link != inode) {
            link = &(*link)->next;
        }
        if (*link != NULL) {
            *link = inode->next;
        }
        inode_free(inode);
    }
    pthread_mutex_unlock(&table_lock);
}

void labfs_inode_each(void (*fn)(struct inode *inode))
{
    for (size_t i = 0; i < BUCKETS; i++) {
        for (struct inode *inode = bucket[i]; inode != NULL; inode = inode->next) {
            fn(inode);
        }
    }
}
