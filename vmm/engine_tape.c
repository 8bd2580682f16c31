/* SPDX-License-Identifier: Apache-2.0 */
/* The vCPU thread's loop when a VM is recorded or replayed (ft/README.md, "The loop of
 * both sides"). Nothing here runs without engine_conf.tape. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/bug.h"
#include "vmm/engine_ram.h"
#include "vmm/engine_tape_priv.h"

/* A guest that takes no interrupts now: looked at again after so long, twice as long, ...
 */
#define TRY_AGAIN_NS (NSEC_PER_MSEC / 4)
#define TRIES_MAX    6
#define STAND_NS     (10 * NSEC_PER_MSEC) /* who stands is asked for again after so long */

_Static_assert(sizeof(struct kvm_regs) == TAPE_REGS * sizeof(uint64_t),
               "reg[] is struct kvm_regs");

static struct tape_run *run_of(void *ctx)
{
    return ((struct engine *)ctx)->tape;
}

void tape_trouble(struct engine *e, const char *format, ...)
{
    char text[REASON_LEN_MAX + 1];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    TAPE_CALL(e->tape, trouble, e->tape->exits, text);
    e->tape->stopped |= e->tape->tape->replay && !e->tape->tape->twin;
}

/* The machine's side
 * ----------------------------------------------------------------------------- */

/* The first sign of an exit is the access that it asks for. */
static void exit_begins(struct tape_run *t)
{
    t->exits += !t->counted;
    t->counted = true;
}

static void tape_pio(void *ctx, uint16_t port, bool is_write, unsigned size, void *data)
{
    exit_begins(run_of(ctx));
    engine_bus.pio(ctx, port, is_write, size, data);
}

static void tape_mmio(void *ctx, struct gpa addr, bool is_write, unsigned len, void *data)
{
    exit_begins(run_of(ctx));
    engine_bus.mmio(ctx, addr, is_write, len, data);
}

static bool tape_irq_pending(void *ctx)
{
    return engine_bus.irq_pending(ctx);
}

static uint8_t tape_irq_ack(void *ctx)
{
    return engine_bus.irq_ack(ctx);
}

const struct vcpu_bus engine_tape_bus = {
    .pio = tape_pio,
    .mmio = tape_mmio,
    .irq_pending = tape_irq_pending,
    .irq_ack = tape_irq_ack,
};

static void output(struct tape_run *t, const struct tape_out *out)
{
    t->stopped |= !t->stopped && !TAPE_CALL(t, output, t->exits, out);
}

static void op_serial_out(void *ctx, const uint8_t *bytes, uint32_t len)
{
    output(run_of(ctx),
           &(struct tape_out){.kind = TAPE_OUT_SERIAL, .data = bytes, .len = len});
    if (!run_of(ctx)->tape->twin) {
        engine_machine_ops.serial_out(ctx, bytes, len);
    }
}

static void op_debug_out(void *ctx, const uint8_t *bytes, uint32_t len)
{
    output(run_of(ctx),
           &(struct tape_out){.kind = TAPE_OUT_DEBUG, .data = bytes, .len = len});
    if (!run_of(ctx)->tape->twin) {
        engine_machine_ops.debug_out(ctx, bytes, len);
    }
}

static void op_blk_submit(void *ctx, unsigned disk, const struct blk_request *request)
{
    struct tape_run *t = run_of(ctx);
    uint64_t number = 0;

    if (request->op != REQUEST_READ) {
        output(t, &(struct tape_out){.kind = TAPE_OUT_DISK,
                                     .unit = disk,
                                     .op = request->op,
                                     .slot = request->slot,
                                     .sector = request->sector,
                                     .data = request->data,
                                     .len = request->data ? request->len : 0,
                                     .size = request->len});
        number = t->tape->ops->holds ? TAPE_CALL(t, holds, disk) : 0;
    }
    if (number > 0) {
        engine_unsent_add(ctx, disk, request, number);
    } else if (!t->tape->replay) {
        engine_machine_ops.blk_submit(ctx, disk, request);
    } else if (request->op != REQUEST_READ && (t->tape->mirror >> disk & 1) != 0 &&
               TAPE_CALL(t, may_write, disk)) {
        BUG_ON(request->slot >= TAPE_SLOTS_MAX);
        t->mirror_busy[disk][request->slot] = true;
        engine_machine_ops.blk_submit(ctx, disk, request);
    }
}

static void op_net_send(void *ctx, unsigned nic, unsigned queue, const uint8_t *frame,
                        uint32_t len)
{
    struct tape_run *t = run_of(ctx);

    output(t, &(struct tape_out){.kind = TAPE_OUT_FRAME,
                                 .unit = nic,
                                 .queue = queue,
                                 .data = frame,
                                 .len = len});
    if (!t->tape->replay && !t->tape->twin) {
        engine_machine_ops.net_send(ctx, nic, queue, frame, len);
    }
}

static void op_reset(void *ctx)
{
    engine_machine_ops.reset(ctx);
}

static void op_shutdown(void *ctx)
{
    engine_machine_ops.shutdown(ctx);
}

/* Only an access leads here: what comes from outside brings its own time. */
static uint64_t op_clock(void *ctx)
{
    struct tape_run *t = run_of(ctx);
    uint64_t now_ns = t->tape->replay ? 0 : engine_machine_now_ns(ctx);

    t->stopped |= !t->stopped && !TAPE_CALL(t, clock, t->exits, &now_ns);
    t->clock_asked = true;
    return now_ns;
}

static void op_on_input(void *ctx, unsigned dev_index, const struct dev_input *in)
{
    struct tape_run *t = run_of(ctx);

    if (t->clock_asked) {
        t->clock_asked = false;
    } else if (!t->tape->replay) {
        TAPE_CALL(t, input, t->exits, dev_index, in);
    }
}

static void op_guest_event(void *ctx, enum machine_event event, uint32_t value)
{
    engine_machine_ops.guest_event(ctx, event, value);
}

const struct machine_ops engine_tape_machine_ops = {
    .serial_out = op_serial_out,
    .debug_out = op_debug_out,
    .blk_submit = op_blk_submit,
    .net_send = op_net_send,
    .reset = op_reset,
    .shutdown = op_shutdown,
    .clock = op_clock,
    .on_input = op_on_input,
    .guest_event = op_guest_event,
};

/* Exits
 * ----------------------------------------------------------------------------------- */

static bool is_exit(enum vcpu_event event)
{
    return event == VCPU_IO || event == VCPU_HALT || event == VCPU_TRIPLE_FAULT;
}

static void keep_data(struct tape_run *t, const void *data, size_t len)
{
    t->x.len = (uint32_t)(len < sizeof t->data ? len : sizeof t->data);
    memcpy(t->data, data, t->x.len);
    t->x.data = t->data;
}

/* What the run page says, before the next KVM_RUN overwrites it. */
static void keep_exit(struct engine *e)
{
    const struct kvm_run *run = e->vcpu.run;
    struct tape_run *t = e->tape;
    uint8_t msr[9];

    t->x = (struct tape_exit){.number = t->exits};
    switch (run->exit_reason) {
    case KVM_EXIT_IO:
        t->x.kind = run->io.direction == KVM_EXIT_IO_OUT ? TAPE_EXIT_OUT : TAPE_EXIT_IN;
        t->x.address = run->io.port;
        t->x.size = run->io.size;
        keep_data(t, (const uint8_t *)run + run->io.data_offset,
                  (size_t)run->io.size * run->io.count);
        break;
    case KVM_EXIT_MMIO:
        t->x.kind = run->mmio.is_write ? TAPE_EXIT_WRITE : TAPE_EXIT_READ;
        t->x.address = run->mmio.phys_addr;
        t->x.size = run->mmio.len;
        keep_data(t, run->mmio.data, run->mmio.len);
        break;
    case KVM_EXIT_X86_RDMSR:
    case KVM_EXIT_X86_WRMSR:
        t->x.kind =
            run->exit_reason == KVM_EXIT_X86_RDMSR ? TAPE_EXIT_RDMSR : TAPE_EXIT_WRMSR;
        t->x.address = run->msr.index;
        t->x.size = 8;
        memcpy(msr, &run->msr.data, 8);
        msr[8] = run->msr.error;
        keep_data(t, msr, sizeof msr);
        break;
    case KVM_EXIT_HLT:
        t->x.kind = TAPE_EXIT_HALT;
        break;
    default:
        t->x.kind = TAPE_EXIT_SHUTDOWN;
        break;
    }
}

void tape_take_regs(struct engine *e)
{
    struct tape_exit *x = &e->tape->x;

    x->boundary = true;
    if (e->vcpu.run->kvm_valid_regs & KVM_SYNC_X86_REGS) {
        memcpy(x->reg, &e->vcpu.run->s.regs.regs, sizeof x->reg);
    } else if (e->vcpu.ops->vcpu_get(e->vcpu.fd, KVM_PART_REGS, x->reg) < 0) {
        tape_trouble(e, "KVM does not tell the vCPU's registers");
    }
    x->reg[TAPE_REG_RFLAGS] &= ~TAPE_RFLAGS_RF;
}

bool tape_tell_exit(struct engine *e)
{
    struct tape_run *t = e->tape;

    t->stopped |= !t->stopped && !TAPE_CALL(t, exit, &t->x);
    return !t->stopped;
}

/* KVM_RUN with immediate_exit: finishes what the exit was about. */
static enum vcpu_event finish_exit(struct vcpu *v)
{
    __atomic_store_n(&v->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
    return vcpu_enter(v);
}

/* One KVM_RUN, and all exits of the instruction at which it came back. What was the last
 * one, VCPU_KICKED: none. */
static enum vcpu_event enter(struct engine *e)
{
    struct tape_run *t = e->tape;
    enum vcpu_event event, last = VCPU_KICKED;

    t->counted = false;
    event = vcpu_enter(&e->vcpu);
    while (is_exit(event)) {
        exit_begins(t);
        keep_exit(e);
        last = event;
        t->counted = false;
        event = finish_exit(&e->vcpu);
        t->at_position = event == VCPU_KICKED;
        if (t->at_position) {
            tape_take_regs(e);
        }
        (void)tape_tell_exit(e);
    }
    return event == VCPU_KICKED ? last : event;
}

/* Recording
 * --------------------------------------------------------------------------------- */

static bool may_answer(struct tape_run *t, const struct kept_answer *k)
{
    return !k->flush || !t->tape->ops->may_answer ||
           TAPE_CALL(t, may_answer, k->disk, k->slot);
}

bool engine_tape_keep(struct engine *e, unsigned disk, const struct blk_request *request,
                      const struct dev_input *in)
{
    struct tape_run *t = e->tape;
    struct kept_answer *kept = &t->kept[t->kept_count];
    uint8_t *copy = NULL;

    *kept = (struct kept_answer){.disk = disk,
                                 .slot = request->slot,
                                 .flush = request->op == REQUEST_FLUSH &&
                                          (t->tape->mirror >> disk & 1) != 0,
                                 .in = *in};
    if (t->tape->replay || (t->at_position && !t->standing && may_answer(t, kept))) {
        return t->tape->replay;
    }
    BUG_ON(t->kept_count + 1 >= ARRAY_SIZE(t->kept));
    if (in->len > 0) {
        copy = malloc(in->len);
        if (!copy) {
            return engine_end_run(e, RUN_END_HOST, "no memory for a disk's answer");
        }
        memcpy(copy, in->data, in->len);
    }
    kept->in.data = copy;
    t->kept_count++;
    return true;
}

static bool kept_due(struct tape_run *t)
{
    for (unsigned i = 0; i < t->kept_count; i++) {
        if (may_answer(t, &t->kept[i])) {
            return true;
        }
    }
    return false;
}

static void give(struct engine *e, bool all)
{
    struct tape_run *t = e->tape;
    unsigned left = 0;

    for (unsigned i = 0; i < t->kept_count; i++) {
        struct kept_answer k = t->kept[i];

        if (!all && !may_answer(t, &k)) {
            t->kept[left++] = k;
            continue;
        }
        (void)machine_input(e->machine, machine_disk_dev(e->machine, k.disk), &k.in);
        free((void *)(uintptr_t)k.in.data);
    }
    t->kept_count = left;
}

void tape_give_kept(struct engine *e)
{
    give(e, true);
}

void engine_tape_stand(struct engine *e)
{
    if (e->tape->tape->replay || e->tape->broken) {
        return;
    }
    if (!e->tape->at_position) {
        tape_barrier(e);
    }
    give(e, false);
}

/* Everything that waits for a position. */
static void take_inputs(struct engine *e)
{
    struct tape_run *t = e->tape;

    give(e, false);
    if (t->fresh) {
        engine_tell_epoch(e);
    }
    t->fresh = false;
    (void)disks_reap(e->disks, engine_on_blk_done, e);
    engine_take_queue(e);
    engine_take_keys(e);
    machine_wake(e->machine, engine_machine_now_ns(e));
}

/* Where the guest is at no position: a kick alone says nothing, and is left for the next
 * one. */
static bool input_waits(struct engine *e)
{
    struct tape_run *t = e->tape;

    return kept_due(t) || atomic_load(&e->reset_request) ||
           !input_queue_empty(&e->inputs) || disks_reapable(e->disks) ||
           engine_keys_wanted(e) ||
           machine_next_wake_ns(e->machine) <= engine_machine_now_ns(e);
}

static bool position_wanted(struct tape_run *t)
{
    return t->tape->ops->wants_position && t->tape->ops->wants_position(t->tape->ctx);
}

static bool something_waits(struct engine *e)
{
    return input_waits(e) || machine_irq_pending(e->machine) || position_wanted(e->tape);
}

static bool reset(struct engine *e)
{
    struct tape_run *t = e->tape;

    engine_drain_disks(e); /* what they answer comes before the reset */
    TAPE_CALL(t, control, t->exits, TAPE_CONTROL_RESET);
    if (!engine_reset_guest(e)) {
        return false;
    }
    return vcpu_refresh(&e->vcpu) == VCPU_KICKED;
}

/* True: the guest is to be entered. */
static bool leave_position(struct engine *e)
{
    struct tape_run *t = e->tape;
    uint8_t vector;
    int r = vcpu_inject(&e->vcpu, &vector);

    if (r < 0) {
        return engine_end_run(e, RUN_END_HOST, e->vcpu.fault.text);
    }
    if (r > 0) {
        e->halted = false;
        t->stopped |= !t->stopped && !TAPE_CALL(t, inject, t->exits, vector);
    }
    return !e->halted;
}

/* The end of a KVM_RUN. True: go on. */
static bool after(struct engine *e, enum vcpu_event event)
{
    if (event == VCPU_FAILED) {
        e->tape->broken = true;
    }
    if (event == VCPU_TRIPLE_FAULT && e->tape->tape->replay) {
        e->reset_wanted = !e->conf.crash_on_triple_fault;
        return true;
    }
    return engine_handle_event(e, event);
}

/* The tape has had enough. */
static bool stop(struct engine *e)
{
    struct tape_verdict verdict;

    e->tape->tape->ops->verdict(e->tape->tape->ctx, &verdict);
    return engine_end_run(e, verdict.good ? RUN_END_SHUTDOWN : RUN_END_HOST,
                          verdict.text);
}

/* Something waits, and the guest has come to no position, or to none where it takes
 * interrupts, for too long: a barrier, where it takes one. A guest that takes none now is
 * asked again soon, then more seldom; only what is not an interrupt does without. */
static bool gap_is_over(struct engine *e)
{
    struct tape_run *t = e->tape;
    uint64_t now = engine_machine_now_ns(e);

    if (t->at_position && !machine_irq_pending(e->machine)) {
        t->over_ns = now + t->tape->exit_gap_ms * NSEC_PER_MSEC;
        t->tries = 0;
    }
    if (t->at_position || now < t->over_ns || !something_waits(e)) {
        return false;
    }
    if (!vcpu_ready(&e->vcpu) &&
        (t->tries < TRIES_MAX || (!input_waits(e) && !position_wanted(t)))) {
        t->over_ns = now + (TRY_AGAIN_NS << t->tries);
        t->tries += t->tries < TRIES_MAX;
        return false;
    }
    t->over_ns = now + t->tape->exit_gap_ms * NSEC_PER_MSEC;
    return true;
}

/* The timer that ends KVM_RUN when the above may have come true. */
static void arm_gap(struct engine *e)
{
    uint64_t over = e->tape->over_ns;
    uint64_t wake = something_waits(e) ? over : machine_next_wake_ns(e->machine);

    engine_arm_wake(e, wake > over ? wake : over);
}

/* A guest with a twin, at a position: the log is full, or both stop here. */
static bool stands(struct tape_run *t)
{
    t->standing = t->tape->ops->may_leave && !TAPE_CALL(t, may_leave, t->exits);
    return t->standing;
}

static bool is_over(struct tape_run *t)
{
    return t->tape->ops->over && t->tape->ops->over(t->tape->ctx);
}

/* At a position. True: the guest may be entered. */
static bool at_position(struct engine *e)
{
    struct tape_run *t = e->tape;

    if (t->standing && stands(t)) {
        engine_wait(e, engine_machine_now_ns(e) + STAND_NS);
        return false;
    }
    if (e->shutdown_wanted && t->tape->ops->may_end &&
        !t->tape->ops->may_end(t->tape->ctx)) {
        (void)stands(t); /* what was made is told */
        engine_wait(e, engine_machine_now_ns(e) + STAND_NS);
        return false;
    }
    if (e->shutdown_wanted) {
        engine_unsent_turn(e);
        return engine_end_run(e, RUN_END_SHUTDOWN, "the guest powered off");
    }
    if (e->reset_wanted || atomic_load(&e->reset_request)) {
        (void)reset(e);
        return false;
    }
    if (engine_inputs_due(e) || t->fresh || kept_due(t)) {
        take_inputs(e);
        (void)disks_push(e->disks); /* a FLUSH that an answered write waits for */
        if (e->shutdown_wanted || e->reset_wanted) {
            return false;
        }
    }
    if (stands(t)) {
        return false;
    }
    if (!leave_position(e)) {
        engine_unsent_turn(e); /* the kick that told of it may have been taken above */
        engine_wait(e, machine_next_wake_ns(e->machine));
        return false;
    }
    return true;
}

/* What a recording does between two entries. */
static bool record_turn(struct engine *e)
{
    struct tape_run *t = e->tape;

    if (t->stopped) {
        return stop(e);
    }
    if (is_over(t)) {
        enum vcpu_event event = vcpu_settle(&e->vcpu);

        tape_off(e); /* the state is RUNNING still: another loop goes on */
        (void)engine_handle_event(e, event);
        return false;
    }
    if (t->at_position && !at_position(e)) {
        return true;
    }
    if (gap_is_over(e)) {
        tape_barrier(e);
        return true;
    }
    arm_gap(e);
    t->at_position = false;
    return after(e, enter(e));
}

/* Replay
 * ------------------------------------------------------------------------------------ */

/* False: stop. */
static bool take_item(struct engine *e, enum tape_next next, const struct tape_item *item)
{
    struct tape_run *t = e->tape;

    switch (next) {
    case TAPE_NEXT_INPUT:
        if (machine_input(e->machine, item->dev_index, &item->in) < 0) {
            tape_trouble(e, "recorded an input for device %u that this machine refuses",
                         item->dev_index);
        }
        break;
    case TAPE_NEXT_CONTROL:
        if (!engine_reset_guest(e) || vcpu_refresh(&e->vcpu) != VCPU_KICKED) {
            return false;
        }
        break;
    case TAPE_NEXT_PAGES:
        tape_take_pages(e, item);
        break;
    case TAPE_NEXT_STATE:
        tape_take_state(e, item, item->position != t->exits);
        if (item->position != t->exits) {
            tape_at_barrier(e);
        }
        break;
    case TAPE_NEXT_WAIT:
        engine_wait(e, UINT64_MAX);
        break;
    case TAPE_NEXT_END:
        (void)TAPE_CALL(t, end, t->exits);
        t->stopped = true;
        break;
    default:
        t->stopped = true;
        break;
    }
    return !t->stopped;
}

static bool is_barrier(const struct tape_run *t, enum tape_next next,
                       const struct tape_item *item)
{
    return (next == TAPE_NEXT_PAGES || next == TAPE_NEXT_STATE) &&
           item->position != t->exits;
}

/* A slot is used again only when its write is done here, too. */
static bool mirror_waits(const struct engine *e, enum tape_next next,
                         const struct tape_item *item)
{
    unsigned disk = item->dev_index - machine_disk_dev(e->machine, 0);

    return next == TAPE_NEXT_INPUT && item->in.type == INPUT_BLK_DONE &&
           disk < VM_DISKS_MAX && item->in.slot < TAPE_SLOTS_MAX &&
           e->tape->mirror_busy[disk][item->in.slot];
}

/* The records of this position, then the next exit. */
bool tape_replay_turn(struct engine *e)
{
    struct tape_run *t = e->tape;
    struct tape_item item;

    if (t->stopped) {
        return stop(e);
    }
    if (!t->at_position && position_wanted(t)) {
        /* It will not come to one by itself; all of it will be the other side's. */
        t->at_position = vcpu_settle(&e->vcpu) == VCPU_KICKED;
        t->exits += !t->at_position;
    }
    if (t->at_position) {
        enum tape_next next = TAPE_CALL(t, next, t->exits, &item);

        while (mirror_waits(e, next, &item)) {
            engine_wait(e, UINT64_MAX);
            atomic_store(&e->kicked, false);
            (void)disks_reap(e->disks, engine_on_blk_done, e);
            if (atomic_load(&e->state) != RUN_FOLLOWING) {
                return false; /* it ends: what is taken is not asked for again */
            }
        }
        if (is_barrier(t, next, &item) && !t->left) {
            /* The guest was entered before it: with the interrupt that waited. */
            t->left = true;
            (void)leave_position(e);
        }
        if (next != TAPE_NEXT_RUN && next != TAPE_NEXT_STEP) {
            (void)take_item(e, next, &item);
            return true;
        }
        if (e->shutdown_wanted || e->reset_wanted) {
            tape_trouble(e, "the recording goes on, here the guest %s",
                         e->shutdown_wanted ? "powers off" : "is reset");
            return true;
        }
        if (!leave_position(e)) {
            tape_trouble(e, "the recording goes on, here the guest sleeps and nothing "
                            "wakes it");
            return true;
        }
        if (next == TAPE_NEXT_STEP) {
            tape_step(e, item.steps);
            return true;
        }
    }
    t->at_position = false;
    return after(e, enter(e));
}

/* Life
 * --------------------------------------------------------------------------------------
 */

void engine_tape_run(struct engine *e)
{
    bool replay = e->tape->tape->replay, on = true;

    e->tape->begun = true;
    if (replay) {
        engine_clock_start(e);
    } else {
        engine_run_begins(e);
        e->tape->fresh = true;
        if (!e->tape->at_position && engine_epoch_is_new(e)) {
            tape_barrier(e); /* the guest must not be told the old one */
        }
    }
    while (on) {
        throttle_turn(&e->throttle, engine_throttle_share, e);
        vcpu_kick_clear(&e->vcpu);
        on = engine_may_run(e);
        if (on) {
            engine_unsent_turn(e);
            (void)disks_push(e->disks);
            on = replay ? tape_replay_turn(e) : record_turn(e);
        }
    }
    if (replay) {
        engine_clock_stop(e);
    } else {
        engine_run_ends(e);
    }
}

void engine_tape_finish(struct engine *e)
{
    struct tape_run *t = e->tape;

    if (t->tape->replay || t->tape->twin || t->broken || !t->begun) {
        return;
    }
    engine_tape_stand(e);
    if (tape_save_state(e, t->exits)) {
        (void)TAPE_CALL(t, end, t->exits);
    }
}

int tape_new(struct engine *e, const struct engine_tape *tape, struct vmm_error *err)
{
    size_t words = e->conf.ram_len / GMEM_PAGE_SIZE / 64 + 1;
    struct tape_run *t = calloc(1, sizeof *t);

    e->tape = t;
    if (t) {
        t->tape = tape;
        t->at_position = true;
        t->dirty = calloc(words, sizeof *t->dirty);
        t->state = malloc(FT_STATE_MAX);
        t->other_state = malloc(FT_STATE_MAX);
    }
    if (!t || !t->dirty || !t->state || !t->other_state) {
        engine_tape_close(e);
        return vmm_fail(err, -ENOMEM, "no memory for a recording");
    }
    return 0;
}

int engine_tape_open(struct engine *e, struct vmm_error *err)
{
    return tape_new(e, e->conf.tape, err);
}

void tape_sync_regs(struct engine *e)
{
    /* Each KVM_RUN leaves the general registers in the run page. */
    if (e->syncs_regs) {
        e->vcpu.run->kvm_valid_regs = KVM_SYNC_X86_REGS;
    }
}

int engine_tape_begin(struct engine *e, struct vmm_error *err)
{
    tape_sync_regs(e);
    return e->tape->tape->replay ? 0 : engine_dirty_begin(e, DIRTY_AUTO, err);
}

void tape_free(struct tape_run *t)
{
    for (unsigned i = 0; t && i < t->kept_count; i++) {
        free((void *)(uintptr_t)t->kept[i].in.data);
    }
    if (t) {
        free(t->dirty);
        free(t->state);
        free(t->other_state);
    }
    free(t);
}

void engine_tape_close(struct engine *e)
{
    tape_free(e->tape);
    tape_free(e->tape_over);
    e->tape = e->tape_over = NULL;
}
