/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/mig_pipe.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "base/bug.h"
#include "base/loop.h"
#include "base/units.h"

void mig_parts_set(struct mig_parts *parts, const struct iovec *first,
                   const struct iovec *iov, size_t iov_count)
{
    size_t n = 0;

    BUG_ON(iov_count > MIG_PIPE_IOV_MAX - 1);
    parts->at = parts->left = 0;
    if (first) {
        parts->iov[n++] = *first;
        parts->left += first->iov_len;
    }
    for (size_t i = 0; i < iov_count; i++) {
        if (iov[i].iov_len > 0) {
            parts->iov[n++] = iov[i];
            parts->left += iov[i].iov_len;
        }
    }
    parts->count = n;
}

static void advance(struct mig_parts *parts, size_t n)
{
    BUG_ON(n > parts->left);
    parts->left -= n;
    while (n > 0) {
        struct iovec *v = &parts->iov[parts->at];
        size_t some = n < v->iov_len ? n : v->iov_len;

        v->iov_base = (char *)v->iov_base + some;
        v->iov_len -= some;
        n -= some;
        if (v->iov_len == 0) {
            parts->at++;
        }
    }
}

static int fail(const struct mig_pipe *pipe, int error, const char *doing,
                const char *why, struct vmm_error *err)
{
    return vmm_fail(err, error, "%s: %s: %s", pipe->name, doing,
                    why[0] != '\0' ? why : strerror(-error));
}

/* What makes a whole record: a long part where it lies, short ones put together. */
static size_t next_record(struct mig_pipe *pipe, const struct mig_parts *parts,
                          const void **ret_bytes)
{
    const struct iovec *v = &parts->iov[parts->at];
    size_t len = 0;

    if (v->iov_len >= MIG_TLS_RECORD || v->iov_len == parts->left) {
        *ret_bytes = v->iov_base;
        return v->iov_len;
    }
    for (size_t i = parts->at; i < parts->count && len < MIG_TLS_RECORD; i++) {
        size_t room = MIG_TLS_RECORD - len;
        size_t some = parts->iov[i].iov_len < room ? parts->iov[i].iov_len : room;

        memcpy(pipe->record + len, parts->iov[i].iov_base, some);
        len += some;
    }
    *ret_bytes = pipe->record;
    return len;
}

ssize_t mig_pipe_write(struct mig_pipe *pipe, struct mig_parts *parts,
                       struct vmm_error *err)
{
    struct msghdr msg = {.msg_iov = parts->iov + parts->at,
                         .msg_iovlen = parts->count - parts->at};
    const void *bytes;
    size_t len;
    ssize_t n;

    if (pipe->tls) {
        len = next_record(pipe, parts, &bytes);
        n = mig_tls_write(pipe->tls, bytes, len);
    } else {
        do {
            n = sendmsg(pipe->fd, &msg, MSG_NOSIGNAL);
        } while (n < 0 && errno == EINTR);
        n = n < 0 ? -errno : n;
    }
    if (n > 0) {
        advance(parts, (size_t)n);
    } else if (n < 0 && n != -EAGAIN) {
        return fail(pipe, (int)n, "sending",
                    pipe->tls ? mig_tls_why_write(pipe->tls) : "", err);
    }
    return n;
}

ssize_t mig_pipe_read(struct mig_pipe *pipe, struct mig_parts *parts,
                      struct vmm_error *err)
{
    const struct iovec *v = &parts->iov[parts->at];
    ssize_t n;

    if (pipe->tls) {
        n = mig_tls_read(pipe->tls, v->iov_base, v->iov_len);
    } else {
        do {
            n = readv(pipe->fd, v, (int)(parts->count - parts->at));
        } while (n < 0 && errno == EINTR);
        n = n < 0 ? -errno : n;
    }
    if (n > 0) {
        advance(parts, (size_t)n);
    } else if (n < 0 && n != -EAGAIN) {
        return fail(pipe, (int)n, "receiving",
                    pipe->tls ? mig_tls_why_read(pipe->tls) : "", err);
    }
    return n;
}

int mig_pipe_flush(struct mig_pipe *pipe, struct vmm_error *err)
{
    int r = pipe->tls ? mig_tls_flush(pipe->tls) : 0;

    return r < 0 && r != -EAGAIN ? fail(pipe, r, "sending", "", err) : r;
}

int mig_pipe_end(struct mig_pipe *pipe, struct vmm_error *err)
{
    int r = pipe->tls ? mig_tls_end(pipe->tls) : 0;

    if (r < 0) {
        return fail(pipe, r, "ending", mig_tls_why_write(pipe->tls), err);
    }
    return 0;
}

static int poll_timeout(uint64_t until_ns, uint64_t now)
{
    uint64_t ms = (until_ns - now + NSEC_PER_MSEC - 1) / NSEC_PER_MSEC;

    return until_ns == UINT64_MAX ? -1 : ms > INT32_MAX ? INT32_MAX : (int)ms;
}

int mig_pipe_wait(struct mig_pipe *pipe, short events, uint64_t until_ns,
                  const char *doing, struct vmm_error *err)
{
    struct pollfd p[2] = {{.fd = pipe->fd, .events = events},
                          {.fd = pipe->stop->fd, .events = POLLIN}};
    uint64_t now;
    int n;

    for (;;) {
        if (mig_stop_raised(pipe->stop)) {
            return fail(pipe, -ECANCELED, doing, "the transfer was aborted", err);
        }
        now = until_ns == UINT64_MAX ? 0 : loop_now_ns();
        if (now >= until_ns) {
            return fail(pipe, -ETIMEDOUT, doing, "nothing moved in the time given", err);
        }
        n = poll(p, 2, poll_timeout(until_ns, now));
        if (n < 0 && errno != EINTR) {
            return fail(pipe, -errno, doing, "", err);
        }
        if (n > 0 && p[0].revents != 0) {
            return 0; /* POLLERR, POLLHUP: the call that follows says why */
        }
    }
}
