/* SPDX-License-Identifier: Apache-2.0 */
#include "base/tcp_dial.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/unit.h"

static const struct os_tcp_opts opts = {.lost_ms = 10000};
static struct loop *loop;
static int got_error, calls;
static size_t got_count;

static void on_done(int error, const int *fds, size_t count, void *data)
{
    ck_assert_ptr_eq(data, &loop);
    calls++;
    got_error = error;
    got_count = count;
    for (size_t i = 0; i < count; i++) {
        ck_assert_int_eq(os_tcp_connected(fds[i]), 0);
        ck_assert_int_eq(send(fds[i], "x", 1, MSG_NOSIGNAL), 1);
        close(fds[i]);
    }
    loop_stop(loop);
}

static void on_over(void *data)
{
    (void)data;
    loop_stop(loop);
}

static void run_for(uint64_t ms)
{
    loop_timer timer;

    ck_assert_int_eq(loop_timer_add(loop, ms * NSEC_PER_MSEC, on_over, NULL, &timer), 0);
    loop_run(loop);
    loop_timer_del(loop, &timer);
}

static int listener(int backlog, uint16_t *ret_port)
{
    int l;

    ck_assert_int_eq(os_tcp_listen("127.0.0.1", 0, 0, backlog, &opts, &l, ret_port), 0);
    return l;
}

static void setup(void)
{
    ck_assert_int_eq(loop_new(&loop), 0);
    calls = 0;
}

static void teardown(void)
{
    loop_free(loop);
}

START_TEST(all_of_them_connect)
{
    struct tcp_dial *d;
    uint16_t port;
    int l = listener(16, &port);

    ck_assert_int_eq(
        tcp_dial_start(loop, "127.0.0.1", port, 9, &opts, 2000, on_done, &loop, &d), 0);
    ck_assert_int_eq(calls, 0);
    run_for(3000);
    ck_assert_int_eq(calls, 1);
    ck_assert_int_eq(got_error, 0);
    ck_assert_uint_eq(got_count, 9);
    close(l);
}
END_TEST

START_TEST(nobody_listens)
{
    struct tcp_dial *d;
    uint16_t port;

    close(listener(1, &port));
    ck_assert_int_eq(
        tcp_dial_start(loop, "127.0.0.1", port, 3, &opts, 2000, on_done, &loop, &d), 0);
    run_for(3000);
    ck_assert_int_eq(calls, 1);
    ck_assert_int_eq(got_error, -ECONNREFUSED);
    ck_assert_uint_eq(got_count, 0);
    ck_assert_int_eq(
        tcp_dial_start(loop, "nowhere", port, 3, &opts, 2000, on_done, &loop, &d),
        -EADDRNOTAVAIL);
    ck_assert_int_eq(calls, 1);
}
END_TEST

/* A listener whose queue is full drops what asks to come in. */
START_TEST(some_of_them_is_not_enough)
{
    struct tcp_dial *d;
    uint16_t port;
    int l = listener(1, &port);

    ck_assert_int_eq(
        tcp_dial_start(loop, "127.0.0.1", port, 8, &opts, 100, on_done, &loop, &d), 0);
    run_for(3000);
    ck_assert_int_eq(calls, 1);
    ck_assert_int_eq(got_error, -ETIMEDOUT);
    close(l);
}
END_TEST

START_TEST(cancelled_is_cancelled)
{
    struct tcp_dial *d;
    uint16_t port;
    int l = listener(16, &port);

    ck_assert_int_eq(
        tcp_dial_start(loop, "127.0.0.1", port, 4, &opts, 50, on_done, &loop, &d), 0);
    tcp_dial_cancel(d);
    tcp_dial_cancel(NULL);
    run_for(120);
    ck_assert_int_eq(calls, 0);
    close(l);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("tcp_dial");
    TCase *t = tcase_create("all");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, all_of_them_connect);
    tcase_add_test(t, nobody_listens);
    tcase_add_test(t, some_of_them_is_not_enough);
    tcase_add_test(t, cancelled_is_cancelled);
    suite_add_tcase(s, t);
    return s;
}

UNIT_MAIN(suite)
