/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checkpoints of a VM that runs, for its twin (ft/README.md, "Checkpoint mode"): any
 * machine. The guest runs for an epoch; then it stands still while what it wrote to and
 * its state are told, and runs on. What it sends out is told, and does not leave by
 * itself. The twin's guest is not entered before it goes live.
 *
 * Functions of struct engine_epoch_ops are called on the thread that owns the machine;
 * `output` and `write` also on a vCPU's, one at a time.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/engine_tape.h"

struct engine;
struct vmm_error;

struct engine_epoch_ops {
    /* Should the guest stand still now? engine_poke when that may have changed. */
    bool (*due)(void *ctx);
    /* It does, since `since_ns` of CLOCK_MONOTONIC: a bit per page of RAM that was
     * written to since the last time, whole words; its state as engine_save has it
     * without RAM. NULL: it could not be told, `why` says why. */
    void (*take)(void *ctx, uint64_t since_ns, const uint64_t *dirty,
                 const uint8_t *state, size_t len, const char *why);
    /* A frame, console bytes. */
    void (*output)(void *ctx, const struct tape_out *out);
    /* A disk is written to, flushed, or parts of it are discarded; by now, or soon. */
    void (*write)(void *ctx, unsigned disk, const struct blk_request *request);
    /* As those of struct engine_tape_ops; `holds` after `write`. */
    uint64_t (*holds)(void *ctx, unsigned disk);
    uint64_t (*released)(void *ctx);
    /* After `take`: the guest does not go on yet. engine_nudge when it may. */
    bool (*stands)(void *ctx);
    /* More was written to disks than is kept: the guest stands until the next `take`.
     * engine_nudge when this has changed. Looked at before each entry into the guest. */
    bool (*full)(void *ctx);
    /* The guest is off; has all that it said left? */
    bool (*may_end)(void *ctx);
    /* From now on the VM runs without a twin. */
    bool (*over)(void *ctx);
    /* The twin, live: its state is loaded, it runs next. */
    void (*live)(void *ctx);
};

struct engine_epoch {
    const struct engine_epoch_ops *ops;
    void *ctx;
    bool twin;
};

/* FROZEN: the primary, which goes on by THAW. CREATED, with a state that
 * engine_state_check took: the twin, which goes on by engine_follow and engine_live. As
 * engine_tape_attach. */
int engine_epoch_attach(struct engine *e, const struct engine_epoch *epoch,
                        struct vmm_error *err);
/* The primary, while the guest runs, one thread, not while it is `due`: as
 * engine_dirty_collect and _protect, for pages that are copied ahead; what is written to
 * from their protection on is told by `take`. What was collected and is not protected may
 * be told again. -EINVAL: there are no checkpoints (any more). */
int engine_epoch_harvest(struct engine *e, uint64_t *bitmap, uint64_t *ret_pages);
int engine_epoch_protect(struct engine *e, uint64_t first, uint64_t count);
/* The twin, before engine_live: it goes on from this state (as `take` had it) instead of
 * the one that it was created with. RAM is the caller's to write to. 0 or -errno. */
int engine_epoch_state(struct engine *e, const uint8_t *state, size_t len,
                       struct vmm_error *err);
