/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An engine around a real session (ft/ft_session*.c) that does what it is told and
 * remembers it: for the unit test and the fuzz target. Its guest is the caller, who calls
 * the session's ops. Instead of vmm/engine*.c: nothing else of these is linked.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/engine.h"
#include "vmm/engine_epoch.h"
#include "vmm/engine_ram.h"
#include "vmm/engine_tape.h"

#define FAKE_DIRTY     UINT64_C(5) /* pages that it wrote to, whenever it is asked */
#define FAKE_WROTE_MAX 8u

/* Zeros, but for the first group, is a new one. */
struct fake_engine {
    uint8_t *ram;
    uint64_t page_count;
    uint64_t disk_sectors;
    bool twin;           /* CREATED, else FROZEN; nothing leaves before it is live */
    bool console_stands; /* what it says is not in its files */

    _Atomic uint64_t guest_ns;
    _Atomic bool attached, live, ended;
    /* The session's lock: what left, bytes of all kinds one behind the other. */
    uint64_t put;
    uint8_t said[256];
    size_t said_len;
    /* The thread that calls ops: repairs. */
    struct tape_out wrote[FAKE_WROTE_MAX]; /* to its own disks, without data */
    uint8_t wrote_byte[FAKE_WROTE_MAX];    /* the first one */
    unsigned wrote_count;
    uint64_t position;
    uint8_t state[4096];
};

struct engine *fake_engine(struct fake_engine *f);
/* Bytes that are not there are found by ASan. */
void fake_touch(const uint8_t *bytes, size_t len);
