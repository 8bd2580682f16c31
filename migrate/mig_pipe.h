/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bytes under the frames of a connection: plain, or in TLS. Steps that never wait,
 * and one place that does. Errors become sentences here. migrate/mig_conn.c and its
 * tests.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "migrate/mig_stop.h"
#include "migrate/mig_tls.h"

#define MIG_PIPE_NAME_MAX 160
#define MIG_PIPE_IOV_MAX  1001

struct mig_pipe {
    int fd;
    struct mig_tls *tls; /* NULL: plain */
    struct mig_stop *stop;
    char name[MIG_PIPE_NAME_MAX];
    unsigned char record[MIG_TLS_RECORD]; /* small parts on their way into TLS */
};

/* Parts of memory, and how far one is with them. */
struct mig_parts {
    size_t at, count;
    size_t left; /* bytes */
    struct iovec iov[MIG_PIPE_IOV_MAX];
};
void mig_parts_set(struct mig_parts *parts, const struct iovec *first, /* NULL: none */
                   const struct iovec *iov, size_t iov_count);

/* Some bytes on their way: how many, -EAGAIN, or -errno with *err. Reading, 0 is the end.
 */
ssize_t mig_pipe_write(struct mig_pipe *pipe, struct mig_parts *parts,
                       struct vmm_error *err);
ssize_t mig_pipe_read(struct mig_pipe *pipe, struct mig_parts *parts,
                      struct vmm_error *err);
/* What TLS still holds of what was written. */
int mig_pipe_flush(struct mig_pipe *pipe, struct vmm_error *err);
int mig_pipe_end(struct mig_pipe *pipe, struct vmm_error *err);

/* Until the socket is ready for `events`: 0. -ETIMEDOUT at `until_ns` (UINT64_MAX:
 * never), -ECANCELED; `doing` is for the sentence. */
int mig_pipe_wait(struct mig_pipe *pipe, short events, uint64_t until_ns,
                  const char *doing, struct vmm_error *err);
