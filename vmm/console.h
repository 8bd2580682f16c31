/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The serial console's other end, on the loop thread: guest output to a rotated log file
 * and to whoever is attached to a Unix stream socket (one client at a time; it first gets
 * the last 64 KiB), and that client's keys back to the guest, no faster than the guest
 * takes them.
 */
#pragma once

#include "base/loop.h"
#include "vmm/byte_ring.h"
#include "vmm/vmm_error.h"

#define CONSOLE_REPLAY_LEN (64u * 1024)

struct console_conf {
    const char *log_path;        /* NULL: none */
    const char *socket_path;     /* NULL: none */
    struct byte_ring *out;       /* from the guest */
    struct byte_ring *in;        /* to the guest */
    void (*in_ready)(void *ctx); /* bytes were put into `in` */
    void *ctx;
};

struct console;

int console_open(struct loop *loop, const struct console_conf *conf,
                 struct console **ret_console, struct vmm_error *err);
void console_close(struct console *c);
/* Takes what is in `out`. Called when the engine says so. */
void console_pump(struct console *c);
/* The guest has taken bytes from `in`: there may be room for more keys. */
void console_in_room(struct console *c);
