/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes from one thread to another without either waiting: guest output on its way to
 * files and sockets, console input on its way back. One writer, one reader. What does not
 * fit is dropped and counted: a guest never waits for a log file.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct byte_ring {
    uint8_t *buf;
    size_t cap;                /* a power of two */
    _Atomic size_t head, tail; /* total bytes written, read */
    _Atomic size_t done;       /* of those read: are where they should go */
    _Atomic uint64_t dropped;
};

/* 0 or -ENOMEM. */
int byte_ring_init(struct byte_ring *ring, size_t cap);
void byte_ring_free(struct byte_ring *ring);
/* Writer. True if the ring was empty: the reader must be woken. */
bool byte_ring_put(struct byte_ring *ring, const void *bytes, size_t len);
size_t byte_ring_room(struct byte_ring *ring);
/* Reader. Copies at most cap bytes; returns how many. */
size_t byte_ring_get(struct byte_ring *ring, void *dst, size_t cap);
bool byte_ring_empty(struct byte_ring *ring);
/* Reader: what it has got so far is where it should go (in a file). */
void byte_ring_done(struct byte_ring *ring);
/* Any thread: bytes written so far; whether as many are where they should go. */
size_t byte_ring_total(struct byte_ring *ring);
bool byte_ring_reached(struct byte_ring *ring, size_t total);
