/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The walls around a gemel-vmm: it is full of what guests say, so it gets nothing that it
 * does not need. A user of its own without any capability, no way to gain one, an empty
 * read-only root, no network, and a list of system calls per thread; whatever is not on
 * the list kills the process. Files, taps and sockets are opened before, or passed in.
 *
 * io_uring is not seen by seccomp: its walls are in blk_uring.c. Nothing here can be
 * undone. One per process.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "vmm/syscall_filter.h"
#include "vmm/vmm_error.h"

#define SANDBOX_DIRS_MAX 4

struct sandbox_conf {
    bool change_user; /* to uid and gid, which wants root */
    uid_t uid;
    gid_t gid;
    uint64_t memlock_bytes; /* RLIMIT_MEMLOCK; UINT64_MAX: as it is */
    /* Directories that stay reachable under the same name, if this user may: of the log
     * files, for their rotation. Absolute; NULL ends. */
    const char *dir[SANDBOX_DIRS_MAX];
};

/* While there is one thread, and everything is open. 0, or -errno with what this host
 * does not allow. */
int sandbox_enter(const struct sandbox_conf *conf, struct vmm_error *err);
/* The calling thread will need no other system calls than those of its kind; the first
 * line of a thread that sandbox_enter came before. Does nothing if it did not. */
void sandbox_thread(enum sandbox_thread kind);
bool sandbox_entered(void);
/* Log files are opened with the rights of that user, between begin and end: what a
 * captured process of this user has put into its directories leads to nothing that it
 * could not reach by itself. Without such a user, and inside, both do nothing. */
void sandbox_files_as(uid_t uid, gid_t gid);
void sandbox_files_begin(void);
void sandbox_files_end(void);
