/* SPDX-License-Identifier: Apache-2.0 */
/* The part of base/nbd_uri.h that makes sockets. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/nbd_uri.h"

/* A host that lost its power says nothing: this long without an answer of its kernel ends
 * the connection. */
#define LOST_MS      30000
#define KEEP_IDLE_S  10
#define KEEP_INTVL_S 5
#define KEEP_COUNT   4

union address {
    struct sockaddr any;
    struct sockaddr_un un;
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
};

static socklen_t fill(const struct nbd_uri *uri, union address *a)
{
    memset(a, 0, sizeof *a);
    if (uri->is_unix) {
        a->un.sun_family = AF_UNIX;
        memcpy(a->un.sun_path, uri->path, sizeof uri->path);
        return sizeof a->un;
    }
    if (inet_pton(AF_INET, uri->address, &a->in.sin_addr) == 1) {
        a->in.sin_family = AF_INET;
        a->in.sin_port = htons(uri->port);
        return sizeof a->in;
    }
    if (inet_pton(AF_INET6, uri->address, &a->in6.sin6_addr) == 1) {
        a->in6.sin6_family = AF_INET6;
        a->in6.sin6_port = htons(uri->port);
        return sizeof a->in6;
    }
    return 0;
}

static int set(int fd, int level, int name, int value)
{
    return setsockopt(fd, level, name, &value, sizeof value) < 0 ? -errno : 0;
}

static int tune(int fd)
{
    int r = set(fd, IPPROTO_TCP, TCP_NODELAY, 1);

    r = r < 0 ? r : set(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    r = r < 0 ? r : set(fd, IPPROTO_TCP, TCP_KEEPIDLE, KEEP_IDLE_S);
    r = r < 0 ? r : set(fd, IPPROTO_TCP, TCP_KEEPINTVL, KEEP_INTVL_S);
    r = r < 0 ? r : set(fd, IPPROTO_TCP, TCP_KEEPCNT, KEEP_COUNT);
    return r < 0 ? r : set(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, LOST_MS);
}

/* connect(2) of a socket that does not block; a full backlog of a Unix socket (EAGAIN) is
 * an error like any other. */
static int connect_within(int fd, const union address *a, socklen_t len, int timeout_ms)
{
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    socklen_t size = sizeof(int);
    int error = 0, n;

    if (connect(fd, &a->any, len) == 0) {
        return 0;
    }
    if (errno != EINPROGRESS) {
        return -errno;
    }
    n = poll(&p, 1, timeout_ms);
    if (n <= 0) {
        return n == 0 ? -ETIMEDOUT : -errno;
    }
    return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0 ? -errno : -error;
}

int nbd_uri_connect(const struct nbd_uri *uri, int timeout_ms, int *ret_fd)
{
    union address a;
    socklen_t len = fill(uri, &a);
    int fd, r;

    if (len == 0) {
        return -EADDRNOTAVAIL;
    }
    fd = socket(a.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return -errno;
    }
    r = uri->is_unix ? 0 : tune(fd);
    if (r == 0) {
        r = connect_within(fd, &a, len, timeout_ms);
    }
    if (r < 0) {
        close(fd);
        return r;
    }
    *ret_fd = fd;
    return 0;
}
