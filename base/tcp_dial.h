/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Several connections to one TCP address, made by the loop: nothing waits. All of them,
 * or an error. The loop's thread only. In libbase_io.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/loop.h"
#include "base/os.h"

#define TCP_DIAL_MAX 32

struct tcp_dial;

/* Once, never from within tcp_dial_start: 0 and `count` sockets, which are the callee's
 * from now on; or -errno (-ETIMEDOUT: not within the time) and none. */
typedef void (*tcp_dial_fn)(int error, const int *fds, size_t count, void *data);

/* 0, or -errno and no call of `fn`. */
int tcp_dial_start(struct loop *loop, const char *address, uint16_t port, size_t count,
                   const struct os_tcp_opts *opts, int timeout_ms, tcp_dial_fn fn,
                   void *data, struct tcp_dial **ret_dial);
/* Before `fn` was called: it never is. NULL is fine. After `fn` the object is gone. */
void tcp_dial_cancel(struct tcp_dial *dial);
