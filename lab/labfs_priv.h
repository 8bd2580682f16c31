/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Between labfs.c (its start, its loop), labfs_inode.c (the table of files), labfs_data.c
 * (what is in them) and labfs_names.c (what they are called). Any thread of the loop.
 */
#pragma once

#define FUSE_USE_VERSION FUSE_MAKE_VERSION(3, 12)

#include <fuse_lowlevel.h>
#include <pthread.h>
#include <sys/stat.h>

#include "lab/lab_util.h"
#include "lab/labfs.h"
#include "lab/labfs_dirty.h"
#include "lab/labfs_undo.h"

struct inode {
    struct inode *next; /* in its bucket */
    dev_t dev;
    ino_t ino;
    int fd;           /* O_PATH: keeps the number from being used again */
    uint64_t lookups; /* the kernel's references; under table_lock */
    /* where it was seen last, below the root; under table_lock */
    char path[PATH_LEN_MAX];
    pthread_mutex_t lock; /* for what follows */
    struct labfs_dirty dirty;
    int rw_fd; /* backing file, -1 until needed */
};

struct labfs {
    const struct labfs_config *config;
    int proc_fd; /* /proc/self/fd of our own PID namespace: the node mounts another /proc
                    over it */
    int log_fd;
    struct labfs_undo undo;
};
extern struct labfs labfs;
extern const struct labfs_memory labfs_heap;

/* The table. */
void labfs_inode_root(int source_fd, ino_t ino);
struct inode *labfs_inode_of(fuse_ino_t ino);
/* The inode of a name, with one more lookup; takes over nothing on failure. */
int labfs_inode_lookup(struct inode *parent, const char *name,
                       struct fuse_entry_param *e);
void labfs_inode_forget(struct inode *inode, uint64_t count);
void labfs_inode_each(void (*fn)(struct inode *inode));
/* Attributes as this node sees them: with what it has not made durable. */
int labfs_inode_attributes(struct inode *inode, struct stat *st);
/* A name below /proc/self/fd for openat(proc_fd, ...): the file itself, whatever its name
 * is now. */
struct lab_path labfs_inode_fd_name(const struct inode *inode);
/* The fd of its backing file, or -errno. Under the inode's lock. */
int labfs_inode_backing(struct inode *inode);
/* Where it was seen last. */
void labfs_inode_path(const struct inode *inode, char path[static PATH_LEN_MAX]);
/* The path below the root, for a note; -ENAMETOOLONG when it is too long for one. */
int labfs_inode_below(const struct inode *parent, const char *name,
                      char path[static PATH_LEN_MAX]);

/* Data: fills in its operations. */
void labfs_data_ops(struct fuse_lowlevel_ops *ops);
int labfs_data_open(struct inode *inode, struct fuse_file_info *fi);
int labfs_data_truncate(struct inode *inode, uint64_t size);
/* Makes all of it durable. */
void labfs_data_write_all(void);

/* Names and directories. */
void labfs_names_ops(struct fuse_lowlevel_ops *ops);
