/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/os.h"

/* Keepalive: the first question after a third of the time, then this often until it is
 * over. */
#define KEEP_COUNT 4

union address {
    struct sockaddr any;
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
};

static socklen_t make_address(const char *text, uint16_t port, union address *a)
{
    memset(a, 0, sizeof *a);
    if (inet_pton(AF_INET, text, &a->in.sin_addr) == 1) {
        a->in.sin_family = AF_INET;
        a->in.sin_port = htons(port);
        return sizeof a->in;
    }
    if (inet_pton(AF_INET6, text, &a->in6.sin6_addr) == 1) {
        a->in6.sin6_family = AF_INET6;
        a->in6.sin6_port = htons(port);
        return sizeof a->in6;
    }
    return 0;
}

static int set(int fd, int level, int name, int value)
{
    return setsockopt(fd, level, name, &value, sizeof value) < 0 ? -errno : 0;
}

static int at_least_1(int seconds)
{
    return seconds > 1 ? seconds : 1;
}

static int tune(int fd, const struct os_tcp_opts *opts)
{
    int idle_s = at_least_1(opts->lost_ms / 3000), r;

    r = set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    if (opts->lost_ms > 0) {
        int step_s = at_least_1((opts->lost_ms / 1000 - idle_s) / KEEP_COUNT);

        r = r < 0 ? r : set(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
        r = r < 0 ? r : set(fd, IPPROTO_TCP, TCP_KEEPIDLE, idle_s);
        r = r < 0 ? r : set(fd, IPPROTO_TCP, TCP_KEEPINTVL, step_s);
        r = r < 0 ? r : set(fd, IPPROTO_TCP, TCP_KEEPCNT, KEEP_COUNT);
        r = r < 0 ? r : set(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, opts->lost_ms);
    }
    if (opts->send_buf > 0) {
        r = r < 0 ? r : set(fd, SOL_SOCKET, SO_SNDBUF, opts->send_buf);
    }
    if (opts->unsent > 0) {
        r = r < 0 ? r : set(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, opts->unsent);
    }
    if (opts->recv_buf > 0) {
        r = r < 0 ? r : set(fd, SOL_SOCKET, SO_RCVBUF, opts->recv_buf);
    }
    return r;
}

static int make_socket(const union address *a, const struct os_tcp_opts *opts)
{
    int fd = socket(a->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int r;

    if (fd < 0) {
        return -errno;
    }
    r = tune(fd, opts);
    if (r < 0) {
        close(fd);
        return r;
    }
    return fd;
}

/* Bound and listening: another socket may listen on the same port until then. */
static int listen_on(int fd, union address *a, socklen_t len, int backlog,
                     uint16_t *ret_port)
{
    union address bound;
    socklen_t bound_len = sizeof bound;

    if (bind(fd, &a->any, len) < 0 || listen(fd, backlog) < 0 ||
        getsockname(fd, &bound.any, &bound_len) < 0) {
        return -errno;
    }
    *ret_port =
        ntohs(a->any.sa_family == AF_INET ? bound.in.sin_port : bound.in6.sin6_port);
    return 0;
}

int os_tcp_listen(const char *address, uint16_t port_min, uint16_t port_max, int backlog,
                  const struct os_tcp_opts *opts, int *ret_fd, uint16_t *ret_port)
{
    int fd, r = -EADDRINUSE;

    for (unsigned port = port_min; port <= port_max && r == -EADDRINUSE; port++) {
        union address a;
        socklen_t len = make_address(address, (uint16_t)port, &a);

        if (len == 0) {
            return -EADDRNOTAVAIL;
        }
        fd = make_socket(&a, opts);
        if (fd < 0) {
            return fd;
        }
        r = set(fd, SOL_SOCKET, SO_REUSEADDR, 1); /* connections of before linger */
        if (r == 0 && a.any.sa_family == AF_INET6) {
            r = set(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
        }
        r = r < 0 ? r : listen_on(fd, &a, len, backlog, ret_port);
        if (r == 0) {
            *ret_fd = fd;
            return 0;
        }
        close(fd);
    }
    return r;
}

int os_tcp_connect(const char *address, uint16_t port, const struct os_tcp_opts *opts,
                   int *ret_fd)
{
    union address a;
    socklen_t len = make_address(address, port, &a);
    int fd, r;

    if (len == 0) {
        return -EADDRNOTAVAIL;
    }
    fd = make_socket(&a, opts);
    if (fd < 0) {
        return fd;
    }
    if (connect(fd, &a.any, len) < 0 && errno != EINPROGRESS && errno != EINTR) {
        r = -errno;
        close(fd);
        return r;
    }
    *ret_fd = fd;
    return 0;
}

int os_tcp_connected(int fd)
{
    socklen_t size = sizeof(int);
    int error = 0;

    return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0 ? -errno : -error;
}

int os_tcp_wait(int fd, int timeout_ms)
{
    uint64_t until = loop_now_ns() + (uint64_t)timeout_ms * NSEC_PER_MSEC;
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    int n;

    do {
        uint64_t now = loop_now_ns();

        n = poll(&p, 1, now < until ? (int)((until - now) / NSEC_PER_MSEC) + 1 : 0);
    } while (n < 0 && errno == EINTR);
    if (n <= 0) {
        return n == 0 ? -ETIMEDOUT : -errno;
    }
    return os_tcp_connected(fd);
}

static bool same_host(const struct sockaddr *a, const union address *b)
{
    const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)a;
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)a;

    if (a == NULL || a->sa_family != b->any.sa_family) {
        return false;
    }
    return a->sa_family == AF_INET
               ? in->sin_addr.s_addr == b->in.sin_addr.s_addr
               : memcmp(&in6->sin6_addr, &b->in6.sin6_addr, sizeof in6->sin6_addr) == 0;
}

int os_net_carrier(const char *address)
{
    struct ifaddrs *all;
    union address want;
    int r = -ENODEV;

    if (make_address(address, 0, &want) == 0) {
        return -EINVAL;
    }
    if (getifaddrs(&all) < 0) {
        return -errno;
    }
    for (const struct ifaddrs *i = all; i != NULL && r == -ENODEV; i = i->ifa_next) {
        if (same_host(i->ifa_addr, &want)) {
            r = (i->ifa_flags & IFF_RUNNING) != 0;
        }
    }
    freeifaddrs(all);
    return r;
}
