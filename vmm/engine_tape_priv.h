/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by vmm/engine_tape.c (the loop) and vmm/engine_tape_state.c (barriers). */
#pragma once

#include "base/limits.h"
#include "vmm/engine_priv.h"
#include "vmm/engine_tape.h"

struct kept_answer {
    unsigned disk;
    uint32_t slot;
    bool flush;          /* of a disk with a mirror: the twin has a say */
    struct dev_input in; /* data is ours */
};

#define TAPE_SLOTS_MAX 64 /* of a disk (vmm/dev_vblk) */
#define CPU_SECTION    "vcpu"

struct tape_run {
    const struct engine_tape *tape;
    uint64_t exits;   /* the position, when at_position */
    bool counted;     /* what KVM_RUN returned with has its number */
    bool at_position; /* the guest was not entered since */
    bool stopped;     /* the tape has said so */
    bool broken;      /* the vCPU is of no use any more */
    bool clock_asked; /* the input that comes is the clock that was just told */
    bool left;        /* replay: of this position the interrupt was injected */
    bool fresh;       /* it runs on, perhaps at another epoch */
    bool begun;
    bool standing;   /* may_leave said no: nothing comes at this position */
    bool mending;    /* twin: what its disks answer is of a repair */
    uint32_t mended; /* then: the first error, an errno */
    bool mirror_busy[VM_DISKS_MAX][TAPE_SLOTS_MAX]; /* twin: its own copy is at it */
    uint64_t over_ns; /* machine time from which on what waits gets a barrier */
    unsigned tries;   /* since then: where the vCPU took no interrupt */
    struct tape_exit x;
    uint8_t data[FT_EXIT_DATA];
    struct kept_answer kept[VM_DISKS_MAX * 32];
    unsigned kept_count;
    uint64_t *dirty;              /* a bit per page of RAM, whole words */
    uint8_t *state, *other_state; /* FT_STATE_MAX each */
};

/* Calls of the tape's functions. */
#define TAPE_CALL(t, name, ...) (t)->tape->ops->name((t)->tape->ctx, __VA_ARGS__)

/* General registers into t->x. */
void tape_take_regs(struct engine *e);
void tape_trouble(struct engine *e, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
bool tape_tell_exit(struct engine *e);

void tape_sync_regs(struct engine *e);
/* 0 or -errno with a text; the VM runs by `tape` from the next entry on. */
int tape_new(struct engine *e, const struct engine_tape *tape, struct vmm_error *err);
/* The vCPU thread, at an instruction boundary: without a tape from now on. */
void tape_off(struct engine *e);
void tape_free(struct tape_run *t); /* NULL is fine */
void tape_give_kept(struct engine *e);
/* Replay: in single steps from here (vmm/engine_steps.c), and told. */
void tape_step(struct engine *e, uint64_t steps);
/* Replay: one turn. False: it is over. */
bool tape_replay_turn(struct engine *e);

/* Recording: the guest stands between two exits; that becomes a position. */
void tape_barrier(struct engine *e);
/* Both sides: this is the position of a barrier. */
void tape_at_barrier(struct engine *e);
/* Devices and the vCPU into FT_STATE_MAX bytes; the length, 0 after trouble. */
size_t tape_save(struct engine *e, uint8_t *buf);
/* Recording: registers and devices as they are at `position`. False: trouble was told. */
bool tape_save_state(struct engine *e, uint64_t position);
/* Replay. */
void tape_take_pages(struct engine *e, const struct tape_item *item);
/* Compares devices; at a barrier (`load`) takes the registers, else compares them, too.
 */
void tape_take_state(struct engine *e, const struct tape_item *item, bool load);
