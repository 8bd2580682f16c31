/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The event loop of every program, behind a struct of functions so that cores run in the
 * simulator and tests. The real one (base/loop_qb.c) is libqb's; only that file includes
 * qbloop.h. One thread owns a loop; other threads hand over through an eventfd added with
 * fd_add. libqb jobs are not offered: they run 50 ms late on an idle loop.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct loop;
typedef uint64_t
    loop_timer; /* 0: none. Carries a generation: cancelling a stale one does nothing */

/* events and revents are poll(2) bits. Return < 0 to be removed, if the fd is closed,
 * too: libqb leaves an open one in its epoll set and warns for ever. Else loop_fd_del. */
typedef int (*loop_fd_fn)(int fd, int revents, void *data);
typedef void (*loop_timer_fn)(void *data);
typedef void (*loop_signal_fn)(int signo, void *data);

/* All return 0 or -errno unless said otherwise. */
int loop_new(struct loop **ret_loop);
void loop_free(struct loop *loop); /* NULL is fine */
void loop_run(struct loop *loop);
void loop_stop(struct loop *loop);
int loop_fd_add(struct loop *loop, int fd, int events, loop_fd_fn fn, void *data);
int loop_fd_mod(struct loop *loop, int fd, int events, loop_fd_fn fn, void *data);
int loop_fd_del(struct loop *loop, int fd);
/* One shot, `delay_ns` from now. */
int loop_timer_add(struct loop *loop, uint64_t delay_ns, loop_timer_fn fn, void *data,
                   loop_timer *ret_timer);
void loop_timer_del(struct loop *loop, loop_timer *timer); /* sets it to 0 */
int loop_signal_add(struct loop *loop, int signo, loop_signal_fn fn, void *data);
/* CLOCK_MONOTONIC in ns: the only clock for decisions. */
uint64_t loop_now_ns(void);
/* The libqb loop behind it, for qb_ipcs and the Corosync fds. */
struct qb_loop *loop_qb(struct loop *loop);
