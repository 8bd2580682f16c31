/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Record and replay of a VM of `machine: lockstep`: the hooks. Whoever keeps the log
 * (ft/) fills in a struct engine_tape and gives it to engine_open, or, for a VM that runs
 * already, to engine_tape_attach; the vCPU thread then runs the loop of
 * vmm/engine_tape.c. All functions are called on the vCPU thread, while the guest stands
 * still.
 *
 * A position is the number of exits since the beginning. Inputs, interrupts and resets
 * come at positions only, when the instruction that led to the exit is finished.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/dev.h"
#include "vmm/vmm_error.h"

/* RAX RBX RCX RDX RSI RDI RSP RBP R8-R15 RIP RFLAGS, as in struct kvm_regs. */
#define TAPE_REGS       18
#define TAPE_REG_RIP    16
#define TAPE_REG_RFLAGS 17
#define TAPE_RFLAGS_RF  (UINT64_C(1) << 16) /* never in reg[]: hosts differ */

enum tape_exit_kind {
    TAPE_EXIT_NONE = 0,
    TAPE_EXIT_IN, /* address: port */
    TAPE_EXIT_OUT,
    TAPE_EXIT_READ, /* address: guest-physical */
    TAPE_EXIT_WRITE,
    TAPE_EXIT_RDMSR, /* address: MSR; data: value (8), then 1 if it was refused */
    TAPE_EXIT_WRMSR,
    TAPE_EXIT_HALT,
    TAPE_EXIT_SHUTDOWN, /* triple fault */
    TAPE_EXIT_BARRIER,  /* none came for too long: the VM was stopped where it was */
    TAPE_EXIT_KINDS,
};

extern const char *const tape_reg_name[TAPE_REGS];

struct tape_exit {
    uint64_t number;
    enum tape_exit_kind kind;
    uint64_t address;
    uint32_t size; /* bytes of one element */
    uint32_t len;  /* of all */
    const uint8_t *data;
    bool boundary; /* false: another exit of the same instruction follows; reg is 0 */
    uint64_t reg[TAPE_REGS];
};

enum tape_output {
    TAPE_OUT_FRAME = 1, /* unit: nic */
    TAPE_OUT_DISK,      /* unit: disk; a write or a flush */
    TAPE_OUT_SERIAL,
    TAPE_OUT_DEBUG,
    TAPE_OUT_KINDS,
};

struct tape_out {
    enum tape_output kind;
    unsigned unit, queue;
    uint32_t op;     /* disk: enum request_op */
    uint32_t slot;   /* disk: of the request */
    uint64_t sector; /* disk */
    const uint8_t *data;
    uint32_t len;
    uint32_t size; /* disk: bytes that it is about, also without data (a discard) */
};

enum tape_control { TAPE_CONTROL_RESET = 1, TAPE_CONTROLS };

/* What a replay has to do at a position. */
enum tape_next {
    TAPE_NEXT_RUN = 0, /* enter the guest: the next exit is to come */
    TAPE_NEXT_STEP,    /* the same, for `steps` instructions at most; then it is over */
    TAPE_NEXT_INPUT,
    TAPE_NEXT_CONTROL,
    TAPE_NEXT_PAGES, /* of a barrier: page numbers as in vmm/state_stream */
    TAPE_NEXT_STATE, /* position + 1: of a barrier, to be taken; else to be compared */
    TAPE_NEXT_END,   /* the recording ends here, whole */
    TAPE_NEXT_WAIT,  /* that is not known yet: engine_poke, then again */
    TAPE_NEXT_STOP,  /* verdict says why */
};

struct tape_item {
    uint64_t position;
    unsigned dev_index; /* INPUT */
    struct dev_input in;
    enum tape_control control;
    uint64_t page; /* PAGES */
    uint32_t page_count;
    const uint8_t *bytes; /* PAGES (NULL: zeros), STATE */
    size_t len;           /* STATE */
    uint64_t steps;       /* STEP */
};

struct tape_verdict {
    bool good;
    char text[REASON_LEN_MAX + 1];
};

struct engine_tape_ops {
    /* Both sides. False: the run is over, verdict says why. */
    bool (*exit)(void *ctx, const struct tape_exit *x);
    bool (*output)(void *ctx, uint64_t position, const struct tape_out *out);
    bool (*inject)(void *ctx, uint64_t position, uint8_t vector);
    /* What a device reads while an exit is served. Recording: *now_ns is kept; replay:
     * it is answered. */
    bool (*clock)(void *ctx, uint64_t position, uint64_t *now_ns);
    /* The VM is over, or (replay) TAPE_NEXT_END came. */
    bool (*end)(void *ctx, uint64_t position);
    /* Recording: it cannot go on; the VM does. Replay: here is a difference. */
    void (*trouble)(void *ctx, uint64_t position, const char *what);
    void (*verdict)(void *ctx, struct tape_verdict *ret);
    /* Recording. */
    void (*input)(void *ctx, uint64_t position, unsigned dev_index,
                  const struct dev_input *in);
    void (*control)(void *ctx, uint64_t position, enum tape_control what);
    void (*pages)(void *ctx, uint64_t position, uint64_t first, uint64_t count,
                  const uint8_t *bytes);
    void (*state)(void *ctx, uint64_t position, const uint8_t *bytes, size_t len);
    /* Replay. What *ret points to is valid until the next call. */
    enum tape_next (*next)(void *ctx, uint64_t position, struct tape_item *ret);
    /* After TAPE_NEXT_STEP: so many were done (fewer: the next exit came), registers. */
    void (*stepped)(void *ctx, uint64_t position, uint64_t done,
                    const uint64_t reg[TAPE_REGS]);

    /* Those of a VM that has a twin (engine_tape_attach); else NULL. Recording: all of
     * this position was told; may the guest go on? If not: engine_poke, then again. */
    bool (*may_leave)(void *ctx, uint64_t position);
    /* Recording: the guest is off; has all that it said left? */
    bool (*may_end)(void *ctx);
    /* A position is wanted soon, whatever the guest does. Replay: where it stands is one;
     * it is not to be gone on from. */
    bool (*wants_position)(void *ctx);
    /* Replay: the output that was just told, of a mirrored disk: may its own copy have
     * it? */
    bool (*may_write)(void *ctx, unsigned disk);
    /* Recording: the output that was just told, of this disk, is not to reach it before
     * `released` has come to the number that this returns; 0: it may at once.
     * engine_nudge when `released` has. */
    uint64_t (*holds)(void *ctx, unsigned disk);
    uint64_t (*released)(void *ctx);
    /* Recording: may the guest hear that this flush is done? If not: engine_kick. */
    bool (*may_answer)(void *ctx, unsigned disk, uint32_t slot);
    /* Recording: from now on the guest runs without a tape; `released` follows. */
    bool (*over)(void *ctx);
    /* Replay: this disk's own copy has it, or (status, an errno) has not. */
    void (*mirrored)(void *ctx, unsigned disk, uint32_t slot, uint32_t op,
                     uint32_t status);
    /* Replay, engine_live: machine time that the guest goes on from; then what is to
     * leave. */
    uint64_t (*live_ns)(void *ctx);
    void (*live)(void *ctx);
};

struct engine_tape {
    const struct engine_tape_ops *ops;
    void *ctx;
    bool replay;
    bool twin;       /* of a session: see engine_tape_attach */
    uint32_t mirror; /* twin: bit i: disk i is written to by both sides, each its own */
    uint32_t exit_gap_ms; /* without an exit, and something waits: a barrier */
};

#define TAPE_EXIT_GAP_MS 20

/* A barrier between both sides of a twin (vmm/engine_repair.c): for the functions above,
 * at a position. Recording: may_leave. Replay: next. */
struct engine;

#define TAPE_HALTED   1u /* the vCPU waits for an interrupt */
#define TAPE_RESETS   2u /* the guest asked for a reset, or a power-off: comes next */
#define TAPE_OFF      4u
#define TAPE_FLAG_MAX 7u

/* ORs the pages that were written to since the last call (or engine_tape_attach) into
 * `bitmap`: a bit per page, whole 64-bit words. What is written from now on is in the
 * next call. False: KVM does not tell; trouble was told. */
bool engine_repair_dirty(struct engine *e, uint64_t *bitmap);
/* Devices, then the vCPU, and TAPE_* flags; the bytes are there until the next call.
 * Length, 0: trouble was told. */
size_t engine_repair_save(struct engine *e, const uint8_t **ret_bytes,
                          uint32_t *ret_flags);
/* General registers in the bytes of engine_repair_save, for people. False: none. */
bool engine_repair_regs(struct engine *e, const uint8_t *bytes, size_t len,
                        uint64_t *ret_reg);
/* For people: the first section of the two states, and where in it, that is not the same.
 */
void engine_repair_differs(const uint8_t *there, size_t there_len, const uint8_t *here,
                           size_t here_len, char *text, size_t cap);
/* Replay: nothing of its disks is under way behind it. */
void engine_repair_drain(struct engine *e);
/* Replay, drained: writes to its own copy of a disk and waits. 0, or an errno. */
uint32_t engine_repair_write(struct engine *e, const struct tape_out *out);
/* Replay, after engine_repair_load: the bytes of a write that the guest waits for, if it
 * still does; its own may have been others. */
void engine_repair_bytes(struct engine *e, const struct tape_out *out);
/* Before: those of all writes are taken from memory anew. */
void engine_repair_forget(struct engine *e);
/* Replay, when memory is right: devices, vCPU and position are the other side's.
 * `bytes` NULL: only the position. 0 or -errno with a text: the VM is of no use then. */
int engine_repair_load(struct engine *e, const uint8_t *bytes, size_t len, uint32_t flags,
                       uint64_t position, struct vmm_error *err);
