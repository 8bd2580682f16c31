/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names that are not durable yet, of a directory that one node has for itself. Names
 * change in the backing directory at once; beside it stands, for each change whose
 * directory was not fsynced since, how to take it back. A power cut leaves these notes;
 * the next labfs takes the changes back, newest first, before it serves.
 *
 * A note is a file N.note, and N.kept holds what a change removed. The note is written
 * before the change, so a note without its change must do no harm. Replacing a directory
 * by rename is not covered: that is durable at once. Any thread.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/limits.h"

struct labfs_note {
    struct labfs_note *next; /* newest first */
    unsigned long number;
    ino_t dir[2]; /* the directories it is in: fsync of either makes it durable */
};

struct labfs_undo {
    int root_fd; /* the backing directory; paths are below it */
    int note_fd; /* where the notes are; -1: every name is durable at once */
    unsigned long last;
    struct labfs_note *notes;
    pthread_mutex_t lock; /* held by the caller from before until after the change */
};

/* Takes back what an earlier life left. How many changes, or -errno. */
int labfs_undo_open(struct labfs_undo *undo, int root_fd, int note_fd);

/*
 * Before a change; `path` and `to` are below the root. *ret_number is for
 * labfs_undo_cancel if the change fails (0: nothing was noted). 0 or -errno: then the
 * change is not to be made.
 */
int labfs_undo_create(struct labfs_undo *undo, ino_t dir, const char *path,
                      unsigned long *ret_number);
int labfs_undo_unlink(struct labfs_undo *undo, ino_t dir, const char *path,
                      unsigned long *ret_number);
int labfs_undo_rename(struct labfs_undo *undo, ino_t from_dir, const char *from,
                      ino_t to_dir, const char *to, unsigned long *ret_number);
void labfs_undo_cancel(struct labfs_undo *undo, unsigned long number);
/* The directory was fsynced; 0: an orderly end, everything is durable. */
void labfs_undo_commit(struct labfs_undo *undo, ino_t dir);
