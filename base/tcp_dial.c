/* SPDX-License-Identifier: Apache-2.0 */
#include "base/tcp_dial.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/bug.h"

struct tcp_dial {
    struct loop *loop;
    tcp_dial_fn fn;
    void *data;
    loop_timer timer;
    size_t count, connected;
    int fd[TCP_DIAL_MAX];
    bool watched[TCP_DIAL_MAX];
};

static void unwatch(struct tcp_dial *d)
{
    loop_timer_del(d->loop, &d->timer);
    for (size_t i = 0; i < d->count; i++) {
        if (d->watched[i]) {
            (void)loop_fd_del(d->loop, d->fd[i]);
        }
    }
}

static void close_all(struct tcp_dial *d)
{
    for (size_t i = 0; i < d->count; i++) {
        close(d->fd[i]);
    }
}

static void finish(struct tcp_dial *d, int error)
{
    unwatch(d);
    if (error < 0) {
        close_all(d);
    }
    d->fn(error, error < 0 ? NULL : d->fd, error < 0 ? 0 : d->count, d->data);
    free(d);
}

static void on_timeout(void *data)
{
    struct tcp_dial *d = data;

    d->timer = 0;
    finish(d, -ETIMEDOUT);
}

static int on_ready(int fd, int revents, void *data)
{
    struct tcp_dial *d = data;
    int r = os_tcp_connected(fd);

    (void)revents;
    if (r < 0) {
        finish(d, r);
        return 0;
    }
    for (size_t i = 0; i < d->count; i++) {
        if (d->fd[i] == fd) {
            (void)loop_fd_del(d->loop, fd);
            d->watched[i] = false;
            d->connected++;
        }
    }
    if (d->connected == d->count) {
        finish(d, 0);
    }
    return 0;
}

static int add(struct tcp_dial *d, const char *address, uint16_t port,
               const struct os_tcp_opts *opts)
{
    int fd, r = os_tcp_connect(address, port, opts, &fd);

    if (r < 0) {
        return r;
    }
    d->fd[d->count] = fd;
    r = loop_fd_add(d->loop, fd, POLLOUT, on_ready, d);
    d->watched[d->count] = r == 0;
    d->count++;
    return r;
}

int tcp_dial_start(struct loop *loop, const char *address, uint16_t port, size_t count,
                   const struct os_tcp_opts *opts, int timeout_ms, tcp_dial_fn fn,
                   void *data, struct tcp_dial **ret_dial)
{
    struct tcp_dial *d = calloc(1, sizeof *d);
    int r = 0;

    BUG_ON(count < 1 || count > TCP_DIAL_MAX);
    if (!d) {
        return -ENOMEM;
    }
    d->loop = loop;
    d->fn = fn;
    d->data = data;
    while (r == 0 && d->count < count) {
        r = add(d, address, port, opts);
    }
    if (r == 0) {
        r = loop_timer_add(loop, (uint64_t)timeout_ms * NSEC_PER_MSEC, on_timeout, d,
                           &d->timer);
    }
    if (r < 0) {
        unwatch(d);
        close_all(d);
        free(d);
        return r;
    }
    *ret_dial = d;
    return 0;
}

void tcp_dial_cancel(struct tcp_dial *dial)
{
    if (dial) {
        unwatch(dial);
        close_all(dial);
        free(dial);
    }
}
