/* SPDX-License-Identifier: Apache-2.0 */
/* pulse: the disk. Finds the newest record, appends records one at a time, knows which is
 * the newest durable one. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "tests/guest/pulse_virtio.h"

enum blk_op { BLK_READ = 0, BLK_WRITE = 1, BLK_FLUSH = 4 };

struct blk {
    struct virtio_device *device; /* NULL: no disk */
    uint64_t slots;
    uint64_t epoch, acked_seq;
    uint32_t boot, record_bytes;
    uint16_t epoch_selector; /* fw_cfg: asked before each record, for a move gives a new
                                epoch; 0: none */
    uint64_t wanted; /* records that may be appended: the rate gives, an append takes */
    uint32_t done;   /* appended in this boot */
    uint32_t errors;
    bool quiet;    /* no line per record */
    bool no_flush; /* a lie for tests: reports before the data is durable */
};

extern struct blk blk;
extern struct virtq blk_queue;

/* Starts the device and looks for the newest record; false and a message if the disk
 * cannot be used. */
bool blk_init(void);
/* Moves the append in progress on, starts the next one if wanted. True if it did
 * something. */
bool blk_step(void);
bool blk_busy(void);

/* For the hostile tests: starts the device anew, and one read with a result. */
bool blk_device_start(void);
void blk_submit(enum blk_op op, uint64_t sector, void *data, uint32_t len);
/* 0 ok, 1 I/O error, 2 unsupported, 0xff nothing came within ticks_max. */
uint8_t blk_wait(uint32_t ticks_max);
