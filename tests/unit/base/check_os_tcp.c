/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/os.h"
#include "tests/unit/unit.h"

static const char *const loopback[2] = {"127.0.0.1", "::1"};

static int option(int fd, int level, int name)
{
    socklen_t len = sizeof(int);
    int value = 0;

    ck_assert_int_eq(getsockopt(fd, level, name, &value, &len), 0);
    return value;
}

static void demand_tuned(int fd)
{
    ck_assert_int_eq(fcntl(fd, F_GETFD), FD_CLOEXEC);
    ck_assert_int_eq(fcntl(fd, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
    ck_assert_int_ne(option(fd, IPPROTO_TCP, TCP_NODELAY), 0);
    ck_assert_int_ne(option(fd, SOL_SOCKET, SO_KEEPALIVE), 0);
    ck_assert_int_eq(option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT), 9000);
    ck_assert_int_eq(option(fd, IPPROTO_TCP, TCP_KEEPIDLE), 3);
    ck_assert_int_eq(option(fd, IPPROTO_TCP, TCP_KEEPINTVL), 1);
}

START_TEST(both_ends_have_the_options)
{
    static const struct os_tcp_opts opts = {.lost_ms = 9000, .send_buf = 50000};
    struct pollfd p = {.events = POLLIN};
    uint16_t port;
    int l, c, s;

    ck_assert_int_eq(os_tcp_listen(loopback[_i], 0, 0, 4, &opts, &l, &port), 0);
    ck_assert_uint_ne(port, 0);
    ck_assert_int_eq(os_tcp_connect(loopback[_i], port, &opts, &c), 0);
    ck_assert_int_eq(os_tcp_wait(c, 1000), 0);
    p.fd = l;
    ck_assert_int_eq(poll(&p, 1, 1000), 1);
    s = accept4(l, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    demand_tuned(c);
    demand_tuned(s); /* from the listening socket */
    ck_assert_int_eq(option(s, SOL_SOCKET, SO_SNDBUF),
                     100000); /* the kernel doubles it */
    ck_assert_int_eq(send(c, "hello", 5, 0), 5);
    close(c);
    close(s);
    close(l);
}
END_TEST

START_TEST(ports_come_from_the_range)
{
    static const struct os_tcp_opts opts = {.lost_ms = 0};
    uint16_t first, port;
    int a, b, c;

    /* Two free ones, one after the other, as far as anybody can know. */
    ck_assert_int_eq(os_tcp_listen("127.0.0.1", 0, 0, 1, &opts, &a, &first), 0);
    ck_assert_uint_lt(first, 65000);
    ck_assert_int_eq(
        os_tcp_listen("127.0.0.1", first, (uint16_t)(first + 100), 1, &opts, &b, &port),
        0);
    ck_assert_uint_gt(port, first);
    ck_assert_uint_le(port, first + 100);
    ck_assert_int_eq(os_tcp_listen("127.0.0.1", first, first, 1, &opts, &c, &port),
                     -EADDRINUSE);
    close(a);
    ck_assert_int_eq(os_tcp_listen("127.0.0.1", first, first, 1, &opts, &c, &port), 0);
    ck_assert_uint_eq(port, first);
    close(b);
    close(c);
}
END_TEST

START_TEST(what_is_wrong_is_told)
{
    static const struct os_tcp_opts opts = {.lost_ms = 1000};
    uint16_t port;
    int l, c;

    ck_assert_int_eq(os_tcp_listen("localhost", 0, 0, 1, &opts, &l, &port),
                     -EADDRNOTAVAIL);
    ck_assert_int_eq(os_tcp_listen("192.0.2.1", 0, 0, 1, &opts, &l, &port),
                     -EADDRNOTAVAIL);
    ck_assert_int_eq(os_tcp_connect("node1", 1, &opts, &c), -EADDRNOTAVAIL);
    ck_assert_int_eq(os_tcp_listen("127.0.0.1", 0, 0, 1, &opts, &l, &port), 0);
    close(l);
    ck_assert_int_eq(os_tcp_connect("127.0.0.1", port, &opts, &c), 0);
    ck_assert_int_eq(os_tcp_wait(c, 1000), -ECONNREFUSED);
    close(c);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("os_tcp");
    TCase *t = tcase_create("all");

    tcase_add_loop_test(t, both_ends_have_the_options, 0, 2);
    tcase_add_test(t, ports_come_from_the_range);
    tcase_add_test(t, what_is_wrong_is_told);
    suite_add_tcase(s, t);
    return s;
}

UNIT_MAIN(suite)
