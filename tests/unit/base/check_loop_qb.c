/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/loop.h"
#include "base/units.h"
#include "tests/unit/unit.h"

static struct loop *loop;

static void setup(void)
{
    ck_assert_int_eq(loop_new(&loop), 0);
}

static void teardown(void)
{
    loop_free(loop);
    loop = NULL;
}

static void stop(void *data)
{
    if (data != NULL) {
        *(uint64_t *)data = loop_now_ns();
    }
    loop_stop(loop);
}

static void count(void *data)
{
    ++*(int *)data;
}

static loop_timer add(uint64_t delay_ns, loop_timer_fn fn, void *data)
{
    loop_timer timer = 0;

    ck_assert_int_eq(loop_timer_add(loop, delay_ns, fn, data, &timer), 0);
    ck_assert_uint_ne(timer, 0);
    return timer;
}

START_TEST(a_timer_is_never_early)
{
    uint64_t start = loop_now_ns(), end = 0;

    add(20 * NSEC_PER_MSEC, stop, &end);
    loop_run(loop);
    ck_assert_uint_ge(end - start, 20 * NSEC_PER_MSEC);
    /* Generous, for loaded machines; an idle loop takes 20.1 ms, a libqb job would
     * take 50. */
    ck_assert_uint_le(end - start, 2 * NSEC_PER_SEC);
}
END_TEST

START_TEST(a_cancelled_timer_does_not_fire)
{
    int fired = 0;
    loop_timer timer = add(NSEC_PER_MSEC, count, &fired);

    loop_timer_del(loop, &timer);
    ck_assert_uint_eq(timer, 0);
    loop_timer_del(loop, &timer); /* none: nothing happens */
    add(10 * NSEC_PER_MSEC, stop, NULL);
    loop_run(loop);
    ck_assert_int_eq(fired, 0);
}
END_TEST

START_TEST(a_stale_handle_cancels_nothing)
{
    int fired = 0;
    loop_timer first = add(0, stop, NULL), stale = first, reuse;

    loop_run(loop);
    /* The slot is free and taken again; the old handle must not reach the new timer. */
    reuse = add(NSEC_PER_MSEC, count, &fired);
    ck_assert_uint_eq(reuse & UINT32_MAX, first & UINT32_MAX);
    ck_assert_uint_ne(reuse, first);
    loop_timer_del(loop, &stale);
    stale = UINT64_MAX; /* a handle that never was */
    loop_timer_del(loop, &stale);
    add(10 * NSEC_PER_MSEC, stop, NULL);
    loop_run(loop);
    ck_assert_int_eq(fired, 1);
}
END_TEST

static loop_timer victim[2];

static void cancel_other(void *data)
{
    int *fired = data;

    ++*fired;
    loop_timer_del(loop, &victim[0]);
    loop_timer_del(loop, &victim[1]);
}

/* Both are due in the same turn; the first to run takes the other back. */
START_TEST(a_timer_that_is_due_can_still_be_cancelled)
{
    int fired = 0;

    victim[0] = add(NSEC_PER_MSEC, cancel_other, &fired);
    victim[1] = add(NSEC_PER_MSEC, cancel_other, &fired);
    usleep(3000);
    add(20 * NSEC_PER_MSEC, stop, NULL);
    loop_run(loop);
    ck_assert_int_eq(fired, 1);
}
END_TEST

#define STEPS 60

static int last_step;

static void in_order(void *data)
{
    int step = *(int *)data;

    ck_assert_int_eq(step, last_step + 1);
    last_step = step;
    if (step == STEPS) {
        loop_stop(loop);
    }
}

/* The latest is added first, with others that are cancelled again in between. */
START_TEST(timers_fire_in_order)
{
    static int step[STEPS];
    uint64_t start = loop_now_ns();
    loop_timer noise[STEPS];
    int fired = 0;

    last_step = 0;
    srandom((unsigned)_i);
    for (int i = 0; i < STEPS; i++) {
        noise[i] =
            add(NSEC_PER_SEC + (uint64_t)random() % (200 * NSEC_PER_MSEC), count, &fired);
    }
    for (int i = STEPS - 1; i >= 0; i--) {
        uint64_t due_ns = start + (uint64_t)(i + 30) * 3 * NSEC_PER_MSEC,
                 now_ns = loop_now_ns();

        step[i] = i + 1;
        add(due_ns > now_ns ? due_ns - now_ns : 0, in_order, &step[i]);
        loop_timer_del(loop, &noise[random() % STEPS]);
    }
    loop_run(loop);
    ck_assert_int_eq(last_step, STEPS);
    ck_assert_int_eq(fired, 0);
}
END_TEST

START_TEST(a_delay_without_end_is_no_overflow)
{
    int fired = 0;

    add(UINT64_MAX, count, &fired);
    add(5 * NSEC_PER_MSEC, stop, NULL);
    loop_run(loop);
    ck_assert_int_eq(fired, 0);
}
END_TEST

struct chain {
    int left;
};

static void chain_step(void *data)
{
    struct chain *c = data;

    if (--c->left == 0) {
        loop_stop(loop);
    } else {
        add(0, chain_step, c);
    }
}

START_TEST(timers_may_be_added_by_timers)
{
    struct chain c = {1000};

    add(0, chain_step, &c);
    loop_run(loop);
    ck_assert_int_eq(c.left, 0);
}
END_TEST

START_TEST(many_timers_some_cancelled)
{
    static int fired[500];
    loop_timer timer[500];

    srandom((unsigned)_i);
    for (int i = 0; i < 500; i++) {
        fired[i] = 0;
        timer[i] = add((uint64_t)(random() % 20) * NSEC_PER_MSEC, count, &fired[i]);
    }
    for (int i = 0; i < 500; i += 3) {
        loop_timer_del(loop, &timer[i]);
    }
    add(60 * NSEC_PER_MSEC, stop, NULL);
    loop_run(loop);
    for (int i = 0; i < 500; i++) {
        ck_assert_int_eq(fired[i], i % 3 == 0 ? 0 : 1);
    }
}
END_TEST

START_TEST(timers_are_limited)
{
    loop_timer timer = 0;
    unsigned added = 0;
    int r;

    do {
        r = loop_timer_add(loop, NSEC_PER_SEC, count, NULL, &timer);
        added += r == 0;
    } while (r == 0);
    ck_assert_int_eq(r, -ENOMEM);
    ck_assert_uint_eq(added, LOOP_TIMERS_MAX);
    loop_timer_del(loop, &timer);
    ck_assert_int_eq(loop_timer_add(loop, NSEC_PER_SEC, count, NULL, &timer), 0);
}
END_TEST

struct reader {
    int calls, result, last_revents;
    uint64_t got;
    int other_fd; /* removed by the handler, -1 none */
};

static int on_readable(int fd, int revents, void *data)
{
    struct reader *r = data;
    uint64_t value = 0;

    r->calls++;
    r->last_revents = revents;
    if (read(fd, &value, sizeof value) == sizeof value) {
        r->got += value;
    }
    if (r->other_fd >= 0) {
        ck_assert_int_eq(loop_fd_del(loop, r->other_fd), 0);
        r->other_fd = -1;
    }
    return r->result;
}

START_TEST(an_fd_is_watched_until_it_says_no)
{
    struct reader r = {.result = 0, .other_fd = -1};
    int fd = eventfd(5, EFD_NONBLOCK | EFD_CLOEXEC);

    ck_assert_int_eq(loop_fd_add(loop, fd, POLLIN, on_readable, &r), 0);
    add(5 * NSEC_PER_MSEC, stop, NULL);
    loop_run(loop);
    ck_assert_int_eq(r.calls, 1);
    ck_assert_uint_eq(r.got, 5);
    ck_assert_int_eq(r.last_revents & POLLIN, POLLIN);

    r.result = -1; /* removed after the next call */
    eventfd_write(fd, 1);
    add(5 * NSEC_PER_MSEC, stop, NULL);
    loop_run(loop);
    ck_assert_int_eq(r.calls, 2);
    eventfd_write(fd, 1);
    add(5 * NSEC_PER_MSEC, stop, NULL);
    loop_run(loop);
    ck_assert_int_eq(r.calls, 2);
    close(fd);
}
END_TEST

START_TEST(events_can_be_changed)
{
    struct reader r = {.result = 0, .other_fd = -1};
    int fd = eventfd(1, EFD_NONBLOCK | EFD_CLOEXEC);

    ck_assert_int_eq(loop_fd_add(loop, fd, 0, on_readable, &r), 0);
    add(5 * NSEC_PER_MSEC, stop, NULL);
    loop_run(loop);
    ck_assert_int_eq(r.calls, 0);
    ck_assert_int_eq(loop_fd_mod(loop, fd, POLLIN, on_readable, &r), 0);
    add(5 * NSEC_PER_MSEC, stop, NULL);
    loop_run(loop);
    ck_assert_int_eq(r.calls, 1);
    ck_assert_int_eq(loop_fd_del(loop, fd), 0);
    ck_assert_int_lt(loop_fd_del(loop, fd), 0);
    close(fd);
}
END_TEST

/* Both are readable in one turn; whichever runs first removes the other, whose handler
 * must not run any more. */
START_TEST(an_fd_removed_by_another_is_not_called)
{
    int a = eventfd(1, EFD_NONBLOCK | EFD_CLOEXEC),
        b = eventfd(1, EFD_NONBLOCK | EFD_CLOEXEC);
    struct reader ra = {.other_fd = b}, rb = {.other_fd = a};

    ck_assert_int_eq(loop_fd_add(loop, a, POLLIN, on_readable, &ra), 0);
    ck_assert_int_eq(loop_fd_add(loop, b, POLLIN, on_readable, &rb), 0);
    add(5 * NSEC_PER_MSEC, stop, NULL);
    loop_run(loop);
    ck_assert_int_eq(ra.calls + rb.calls, 1);
    close(a);
    close(b);
}
END_TEST

static void *write_later(void *data)
{
    usleep(5000);
    eventfd_write(*(int *)data, 1);
    return NULL;
}

static int stop_on_event(int fd, int revents, void *data)
{
    (void)fd;
    (void)revents;
    stop(data);
    return -1;
}

START_TEST(another_thread_hands_over_by_eventfd)
{
    uint64_t start = loop_now_ns(), end = 0;
    int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    pthread_t thread;

    ck_assert_int_eq(loop_fd_add(loop, fd, POLLIN, stop_on_event, &end), 0);
    ck_assert_int_eq(pthread_create(&thread, NULL, write_later, &fd), 0);
    loop_run(loop);
    pthread_join(thread, NULL);
    ck_assert_uint_ge(end - start, 5 * NSEC_PER_MSEC);
    ck_assert_uint_le(end - start, 2 * NSEC_PER_SEC);
    close(fd);
}
END_TEST

static void on_signal(int signo, void *data)
{
    *(int *)data = signo;
    loop_stop(loop);
}

static void raise_usr1(void *data)
{
    (void)data;
    raise(SIGUSR1);
}

START_TEST(signals_arrive_on_the_loop)
{
    int seen = 0;

    ck_assert_int_eq(loop_signal_add(loop, SIGUSR1, on_signal, &seen), 0);
    add(NSEC_PER_MSEC, raise_usr1, NULL);
    loop_run(loop);
    ck_assert_int_eq(seen, SIGUSR1);
}
END_TEST

START_TEST(freeing_is_forgiving)
{
    loop_free(NULL);
    add(NSEC_PER_SEC, count, NULL); /* armed when the fixture frees the loop */
    ck_assert_ptr_nonnull(loop_qb(loop));
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("loop_qb");
    TCase *tc = tcase_create("loop_qb");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 30);
    tcase_add_test(tc, a_timer_is_never_early);
    tcase_add_test(tc, a_cancelled_timer_does_not_fire);
    tcase_add_test(tc, a_stale_handle_cancels_nothing);
    tcase_add_test(tc, a_timer_that_is_due_can_still_be_cancelled);
    tcase_add_test(tc, timers_may_be_added_by_timers);
    tcase_add_loop_test(tc, timers_fire_in_order, 0, 5);
    tcase_add_test(tc, a_delay_without_end_is_no_overflow);
    tcase_add_loop_test(tc, many_timers_some_cancelled, 0, 3);
    tcase_add_test(tc, timers_are_limited);
    tcase_add_test(tc, an_fd_is_watched_until_it_says_no);
    tcase_add_test(tc, events_can_be_changed);
    tcase_add_test(tc, an_fd_removed_by_another_is_not_called);
    tcase_add_test(tc, another_thread_hands_over_by_eventfd);
    tcase_add_test(tc, signals_arrive_on_the_loop);
    tcase_add_test(tc, freeing_is_forgiving);
    suite_add_tcase(s, tc);
    return s;
}

UNIT_MAIN(suite)
