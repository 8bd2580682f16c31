/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The promise that FT rests on: a machine is a function of its inputs and their
 * positions. A guest made of seeded random accesses (that depend on what it reads) runs
 * against a live machine whose inputs come at random; inputs and positions are recorded.
 * Replayed on a fresh machine, every step must give the same state bytes, effects and
 * guest memory. The same holds when the replaying machine is saved and loaded into
 * another in between. Negative controls: an input that is left out, altered or moved by
 * one step must be noticed.
 */
#include "tests/unit/vmm/machine_rig.h"

#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "tests/unit/unit.h"
#include "vmm/dev_vblk.h"

#define STEPS      1200
#define INPUTS_MAX 20000
#define DATA_ADDR  0x8000
#define BLK_RING   0x1000
#define NET_RING   0x2000
#define NO_INPUT   UINT32_MAX

struct recorded {
    uint32_t step;
    bool from_access; /* the clock that a device reads before an access */
    bool effective;   /* changed the state */
    unsigned dev_index;
    struct dev_input in; /* data is ours */
};

struct trace {
    struct recorded *input;
    uint32_t input_count;
    uint32_t digest[STEPS]; /* of state, effects and written memory after each step */
    uint8_t *final_state;
    size_t final_len;
};

struct run {
    struct rig rig;
    struct trace *trace;
    uint64_t guest_random, world_random;
    uint32_t step;
    bool replaying, clock_asked, from_world;
    uint32_t next_input; /* replay */
    int64_t diverged_at; /* replay: first step that differs, or -1 */
    struct rig_ring blk, net[2];
    uint16_t blk_head, net_head;
    unsigned blk_count;
    unsigned types_seen;
};

/* Recording and replaying --------------------------------------------------------- */

/* Devices that lockstep has not. */
#define INPUTS_OF_STANDARD                                                               \
    (1u << INPUT_ENTROPY | 1u << INPUT_ANNOUNCE | 1u << INPUT_PORT_RX |                  \
     1u << INPUT_BALLOON | 1u << INPUT_BALLOON_POLL)

static void record_input(struct rig *rig, unsigned dev_index, const struct dev_input *in)
{
    struct run *run = rig->user;
    struct trace *trace = run->trace;
    struct recorded *rec;

    if (run->replaying) {
        return;
    }
    ck_assert_uint_lt(trace->input_count, INPUTS_MAX);
    rec = &trace->input[trace->input_count++];
    *rec = (struct recorded){.step = run->step,
                             .from_access = run->clock_asked,
                             .dev_index = dev_index,
                             .in = *in};
    run->clock_asked = false;
    run->types_seen |= 1u << in->type;
    if (in->len > 0) {
        uint8_t *copy = malloc(in->len);

        memcpy(copy, in->data, in->len);
        rec->in.data = copy;
    }
}

static void diverge(struct run *run)
{
    if (run->diverged_at < 0) {
        run->diverged_at = run->step;
    }
}

static uint64_t answer_clock(struct rig *rig)
{
    struct run *run = rig->user;
    const struct recorded *rec = &run->trace->input[run->next_input];

    run->clock_asked = true;
    if (!run->replaying) {
        run->rig.now_ns += rig_random(&run->world_random) % 3000;
        return run->rig.now_ns;
    }
    if (run->next_input >= run->trace->input_count || !rec->from_access ||
        rec->step != run->step) {
        diverge(run);
        return 0;
    }
    run->next_input++;
    return rec->in.now_ns;
}

/* Marks whether the inputs since `first` have changed anything. */
static void judge_inputs(struct run *run, uint32_t first, uint32_t digest_before)
{
    bool effective = rig_digest(&run->rig) != digest_before;

    for (uint32_t i = first; i < run->trace->input_count; i++) {
        run->trace->input[i].effective =
            effective && run->trace->input_count - first == 1;
    }
}

/* The guest ----------------------------------------------------------------------- */

static uint64_t guest_pick(struct run *run, uint64_t bound)
{
    return rig_random(&run->guest_random) % bound;
}

/* What the guest has read decides what it does next: a wrong answer shows. */
static void guest_saw(struct run *run, uint64_t value)
{
    run->guest_random = run->guest_random * 31 + value;
}

static void guest_store(struct run *run, uint64_t addr, const void *data, size_t len)
{
    ck_assert(gmem_write(&run->rig.gm, (struct gpa){addr}, data, len));
}

static void guest_start_devices(struct run *run)
{
    struct rig_ring ring[2];

    rig_virtio_start(&run->rig, 0,
                     VIRTIO_F_VERSION_1 | (guest_pick(run, 2) ? 1u << 9 : 0), ring, 1,
                     BLK_RING);
    run->blk = ring[0];
    run->blk_head = 0;
    rig_virtio_start(&run->rig, 1, VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX | 1u << 16,
                     ring, 2, NET_RING);
    run->net[0] = ring[0];
    run->net[1] = ring[1];
    run->net_head = 0;
}

static void guest_blk_request(struct run *run)
{
    static const uint32_t types[] = {0, 0, 0, 1, 1, 1, 4, 8, 77};
    uint32_t type = types[guest_pick(run, ARRAY_SIZE(types))];
    uint64_t header[2] = {type,
                          guest_pick(run, 40)}; /* few sectors: overlaps are common */
    uint16_t head = run->blk_head;
    uint32_t len = 512u * (1 + (uint32_t)guest_pick(run, 3));
    /* Each head has eight buffers in turn: a request under way is left alone. */
    uint64_t data =
        DATA_ADDR + (head == 0 ? 0 : 0x4000) + run->blk_count++ / 2 % 8 * 0x800;
    uint16_t data_flags =
        type == 1 ? VIRTQ_DESC_NEXT : VIRTQ_DESC_NEXT | VIRTQ_DESC_WRITE;
    uint64_t fill = rig_random(&run->guest_random);

    if ((rig_vreg_in(&run->rig, 0, VMMIO_STATUS) & VIRTIO_STATUS_NEEDS_RESET) != 0) {
        guest_start_devices(run);
        return;
    }
    if (guest_pick(run, 40) == 0) {
        header[1] = UINT64_MAX - 1;
    }
    run->blk_head = head == 0 ? 3 : 0; /* two chains: sometimes a head is used twice */
    guest_store(run, 0x3000 + head * 64u, header, sizeof header);
    guest_store(run, data, &fill, sizeof fill);
    rig_desc(&run->rig, &run->blk, head, 0x3000 + head * 64u, 16, VIRTQ_DESC_NEXT,
             head + 1);
    rig_desc(&run->rig, &run->blk, head + 1u, data, len, data_flags, head + 2);
    rig_desc(&run->rig, &run->blk, head + 2u, 0x3000 + head * 64u + 32, 1,
             VIRTQ_DESC_WRITE, 0);
    rig_offer(&run->rig, &run->blk, head);
    rig_notify(&run->rig, &run->blk);
}

static void guest_net(struct run *run)
{
    uint16_t head = run->net_head++ % RIG_QUEUE_SIZE;

    if (guest_pick(run, 2) == 0) {
        rig_desc(&run->rig, &run->net[0], head, 0x4000 + head * 0x100u, 0x100,
                 VIRTQ_DESC_WRITE, 0);
        rig_offer(&run->rig, &run->net[0], head);
        rig_notify(&run->rig, &run->net[0]);
    } else {
        uint64_t bytes = rig_random(&run->guest_random);

        guest_store(run, 0x5000 + head * 0x100u, &bytes, sizeof bytes);
        rig_desc(&run->rig, &run->net[1], head, 0x5000 + head * 0x100u,
                 26 + (uint32_t)guest_pick(run, 60), 0, 0);
        rig_offer(&run->rig, &run->net[1], head);
        rig_notify(&run->rig, &run->net[1]);
    }
}

static void guest_interrupt(struct run *run)
{
    uint8_t vector;

    if (!machine_irq_pending(run->rig.m)) {
        return;
    }
    vector = machine_irq_ack(run->rig.m);
    guest_saw(run, vector);
    if (vector >= 0x28) {
        rig_out(&run->rig, 0xA0, 1, 0x20);
    }
    rig_out(&run->rig, 0x20, 1, 0x20);
    for (unsigned slot = 0; slot < 2; slot++) {
        uint32_t status = rig_vreg_in(&run->rig, slot, VMMIO_INTERRUPT_STATUS);

        guest_saw(run, status);
        rig_vreg_out(&run->rig, slot, VMMIO_INTERRUPT_ACK, status);
    }
    guest_saw(run, rig_in(&run->rig, 0x3FA, 1));
    rig_out(&run->rig, 0x70, 1, 0x0C);
    guest_saw(run, rig_in(&run->rig, 0x71, 1));
}

static void guest_port(struct run *run)
{
    static const uint16_t ports[] = {
        0x20,  0x21,  0xA0,  0xA1,  0x4D0, 0x40,  0x41,  0x42,  0x43,  0x61,  0x70,
        0x71,  0x3F8, 0x3F8, 0x3F9, 0x3FA, 0x3FB, 0x3FC, 0x3FD, 0x3FE, 0x3FF, 0x402,
        0x600, 0x602, 0x604, 0x608, 0x510, 0x511, 0xCF9, 0x64,  0x999};
    uint16_t port = ports[guest_pick(run, ARRAY_SIZE(ports))];
    unsigned len = port >= 0x600 ? 1u << guest_pick(run, 3) : 1;

    if (guest_pick(run, 2) == 0) {
        guest_saw(run, rig_in(&run->rig, port, len));
    } else if (port > 0x21 &&
               (port < 0xA0 || port > 0x4D0)) { /* the PIC stays as it is */
        rig_out(&run->rig, port, len, rig_random(&run->guest_random));
    }
}

static void guest_pit(struct run *run)
{
    uint64_t count = 60 + guest_pick(run, 4000);
    uint16_t port = (uint16_t)(0x40 + guest_pick(run, 3));

    switch (guest_pick(run, 4)) {
    case 0:
        rig_out(&run->rig, 0x43, 1, (port & 3u) << 6 | 0x30 | guest_pick(run, 6) << 1);
        rig_out(&run->rig, port, 1, count & 0xFF);
        rig_out(&run->rig, port, 1, count >> 8);
        break;
    case 1: /* latched now, read at some other time */
        rig_out(&run->rig, 0x43, 1, (port & 3u) << 6);
        break;
    case 2:
        rig_out(&run->rig, 0x43, 1, 0xC0 | guest_pick(run, 32) << 1);
        break;
    default:
        guest_saw(run, rig_in(&run->rig, port, 1));
        rig_out(&run->rig, 0x61, 1, guest_pick(run, 4));
        break;
    }
}

/* Any mode of the interrupt controllers, and sometimes back to sane ones. */
static void guest_pic(struct run *run)
{
    static const uint8_t words[] = {0x0A, 0x0B, 0x0C, 0x68, 0x48, 0x80, 0x00, 0xA0,
                                    0x20, 0xC3, 0xE5, 0x61, 0x11, 0x13, 0x10};
    uint16_t port = guest_pick(run, 2) ? 0x20 : 0xA0;

    switch (guest_pick(run, 5)) {
    case 0:
        rig_pic_init(&run->rig);
        break;
    case 1:
        rig_out(&run->rig, port + 1u, 1, guest_pick(run, 256) & guest_pick(run, 256));
        break;
    case 2:
        guest_saw(run, rig_in(&run->rig, port, 1));
        break;
    default:
        rig_out(&run->rig, port, 1, words[guest_pick(run, ARRAY_SIZE(words))]);
        break;
    }
}

static void guest_registers(struct run *run)
{
    unsigned slot = (unsigned)guest_pick(run, 2);

    switch (guest_pick(run, 4)) {
    case 0:
        guest_saw(run, rig_vreg_in(&run->rig, slot, VMMIO_CONFIG_GENERATION));
        break;
    case 1:
        guest_saw(run, rig_vreg_in(&run->rig, slot, (unsigned)guest_pick(run, 0x48) * 4));
        break;
    case 2: /* loopback: modem lines change, and are looked at some other time */
        rig_out(&run->rig, 0x3FC, 1, 0x10 | guest_pick(run, 16));
        break;
    default:
        guest_saw(run, rig_in(&run->rig, 0x3FE, 1));
        break;
    }
}

static void guest_step(struct run *run)
{
    uint64_t what = guest_pick(run, 100);

    if (run->step == 0) {
        rig_pic_init(&run->rig);
        guest_start_devices(run);
        rig_out(&run->rig, 0x3FC, 1, 0);
        rig_out(&run->rig, 0x3F9, 1, 0x0F);
    } else if (what < 25) {
        guest_blk_request(run);
    } else if (what < 40) {
        guest_net(run);
    } else if (what < 60) {
        guest_interrupt(run);
    } else if (what < 70) {
        guest_pit(run);
    } else if (what < 72) {
        guest_start_devices(run); /* a driver's reset with requests under way */
    } else if (what < 73 && run->step % 7 == 0) {
        machine_reset(run->rig.m);
        rig_pic_init(&run->rig);
        guest_start_devices(run);
    } else if (what < 80) {
        guest_pic(run);
    } else if (what < 84) {
        guest_registers(run);
    } else {
        guest_port(run);
    }
}

/* The world ----------------------------------------------------------------------- */

static void world_input(struct run *run)
{
    uint8_t bytes[80];
    uint64_t fill = rig_random(&run->world_random);
    uint32_t pick = (uint32_t)(rig_random(&run->world_random) % 8);
    struct dev_input in = {0};

    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = (uint8_t)(fill >> (i % 8 * 8));
    }
    switch (pick) {
    case 0:
        in = (struct dev_input){
            .type = INPUT_SERIAL_RX, .data = bytes, .len = 1 + fill % 20};
        machine_input(run->rig.m, MACHINE_DEV_SERIAL, &in);
        break;
    case 1:
        in = (struct dev_input){
            .type = INPUT_NET_RX, .data = bytes, .len = 14 + fill % 60};
        machine_input(run->rig.m, machine_nic_dev(run->rig.m, 0), &in);
        break;
    case 2:
        in = fill % 4 == 0
                 ? (struct dev_input){.type = INPUT_POWER_BUTTON}
                 : (struct dev_input){.type = INPUT_LINK, .value = fill % 8 != 1};
        machine_input(
            run->rig.m,
            in.type == INPUT_LINK ? machine_nic_dev(run->rig.m, 0) : MACHINE_DEV_PM, &in);
        break;
    case 3:
        run->rig.now_ns += fill % 2000000;
        machine_wake(run->rig.m, run->rig.now_ns);
        break;
    case 4:
        in = fill % 2 ? (struct dev_input){.type = INPUT_RTC_BASE,
                                           .now_ns = UINT64_C(1700000000000000000) +
                                                     fill % 1000000}
                      : (struct dev_input){.type = INPUT_EPOCH, .value = fill};
        machine_input(run->rig.m, fill % 2 ? MACHINE_DEV_RTC : MACHINE_DEV_FWCFG, &in);
        break;
    default:
        if (run->rig.pending_count > 0) {
            rig_blk_done(&run->rig, (unsigned)(fill % run->rig.pending_count),
                         fill % 23 == 0 ? 5 : 0);
        } else { /* a doorbell that rang late, or for a queue that nobody uses */
            in = (struct dev_input){.type = INPUT_NOTIFY, .value = fill % 3};
            machine_input(run->rig.m, MACHINE_DEV_VIRTIO0 + fill / 3 % 2, &in);
        }
        break;
    }
}

static void replay_inputs(struct run *run)
{
    const struct trace *trace = run->trace;

    while (run->next_input < trace->input_count &&
           trace->input[run->next_input].step == run->step &&
           !trace->input[run->next_input].from_access) {
        const struct recorded *rec = &trace->input[run->next_input++];

        if (machine_input(run->rig.m, rec->dev_index, &rec->in) != 0) {
            diverge(run);
        }
    }
}

/* Live inputs come before the guest's part of a step, as at a VM exit. */
static void live_inputs(struct run *run)
{
    if (run->step == 0 || rig_random(&run->world_random) % 2 == 0) {
        return;
    }
    for (uint64_t n = 1 + rig_random(&run->world_random) % 2; n > 0; n--) {
        uint32_t first = run->trace->input_count, before = rig_digest(&run->rig);

        world_input(run);
        judge_inputs(run, first, before);
    }
}

/* Comparing ----------------------------------------------------------------------- */

static uint32_t step_digest(struct run *run)
{
    uint32_t crc = rig_digest(&run->rig);

    crc = crc32c(crc, run->rig.log, run->rig.log_len);
    crc = crc32c(crc, &run->guest_random, sizeof run->guest_random);
    for (unsigned page = 0; page < RIG_RAM_LEN / GMEM_PAGE_SIZE; page++) {
        if ((run->rig.dirty[0] >> page & 1) != 0) {
            crc = crc32c(crc, run->rig.ram + page * GMEM_PAGE_SIZE, GMEM_PAGE_SIZE);
        }
    }
    run->rig.dirty[0] = 0;
    rig_log_clear(&run->rig);
    return crc;
}

/* The replaying machine moves into another: what is not in the state is lost here. */
static void move_machine(struct run *run)
{
    uint8_t *state, *again;
    size_t len = rig_save(&run->rig, &state), again_len;
    uint64_t wake_ns = machine_next_wake_ns(run->rig.m);
    bool irq = machine_irq_pending(run->rig.m);
    struct state_io io;

    rig_renew(&run->rig);
    ck_assert_msg(rig_load(&run->rig, state, len, &io) == 0, "load: %s in %s (%s)",
                  state_error_str(io.error), io.section.name, io.refused_field);
    ck_assert_uint_eq(machine_next_wake_ns(run->rig.m), wake_ns);
    ck_assert_int_eq(machine_irq_pending(run->rig.m), irq);
    again_len = rig_save(&run->rig, &again);
    ck_assert_uint_eq(len, again_len);
    ck_assert(memcmp(state, again, len) == 0);
    free(state);
    free(again);
}

static void run_begin(struct run *run, struct trace *trace, uint64_t seed, bool replaying)
{
    memset(run, 0, sizeof *run);
    rig_init(&run->rig, NULL);
    run->rig.user = run;
    run->rig.clock = answer_clock;
    run->rig.on_input = record_input;
    run->trace = trace;
    run->guest_random = seed;
    run->world_random = seed ^ 0x5EED;
    run->replaying = replaying;
    run->diverged_at = -1;
}

static void record(struct trace *trace, uint64_t seed, unsigned *ret_types)
{
    struct run *run = malloc(sizeof *run);

    memset(trace, 0, sizeof *trace);
    trace->input = calloc(INPUTS_MAX, sizeof *trace->input);
    run_begin(run, trace, seed, false);
    for (run->step = 0; run->step < STEPS; run->step++) {
        live_inputs(run);
        guest_step(run);
        trace->digest[run->step] = step_digest(run);
    }
    trace->final_len = rig_save(&run->rig, &trace->final_state);
    *ret_types |= run->types_seen;
    rig_free(&run->rig);
    free(run);
}

/* The first step that differs, or -1. move_every: steps between moves to another machine,
 * 0 for never. */
static int64_t replay(struct trace *trace, uint64_t seed, uint32_t move_every)
{
    struct run *run = malloc(sizeof *run);
    uint8_t *state;
    size_t len;
    int64_t diverged_at;

    run_begin(run, trace, seed, true);
    for (run->step = 0; run->step < STEPS && run->diverged_at < 0; run->step++) {
        if (move_every > 0 && run->step % move_every == move_every - 1) {
            move_machine(run);
        }
        replay_inputs(run);
        guest_step(run);
        run->rig.pending_count = 0; /* completions come from the trace */
        if (step_digest(run) != trace->digest[run->step]) {
            diverge(run);
        }
    }
    diverged_at = run->diverged_at;
    len = rig_save(&run->rig, &state);
    if (diverged_at < 0 &&
        (len != trace->final_len || memcmp(state, trace->final_state, len) != 0)) {
        diverged_at = STEPS;
    }
    free(state);
    rig_free(&run->rig);
    free(run);
    return diverged_at;
}

static void trace_free(struct trace *trace)
{
    for (uint32_t i = 0; i < trace->input_count; i++) {
        free((void *)(uintptr_t)trace->input[i].in.data);
    }
    free(trace->input);
    free(trace->final_state);
}

static struct trace trace;

START_TEST(replay_equals_recording)
{
    unsigned types = 0;

    for (uint64_t seed = 1; seed <= 12; seed++) {
        int64_t at;

        record(&trace, seed, &types);
        ck_assert_uint_gt(trace.input_count, 300);
        at = replay(&trace, seed, 0);
        ck_assert_msg(at < 0, "seed %lu: differs at step %ld", (unsigned long)seed,
                      (long)at);
        trace_free(&trace);
    }
    /* The schedule did reach every kind of input. */
    ck_assert_uint_eq(types, ((1u << INPUT_TYPE_COUNT) - 2) & ~INPUTS_OF_STANDARD);
}
END_TEST

START_TEST(replay_survives_moves)
{
    unsigned types = 0;

    for (uint64_t seed = 100; seed < 108; seed++) {
        int64_t at;

        record(&trace, seed, &types);
        at = replay(&trace, seed, seed == 100 ? 1 : 7);
        ck_assert_msg(at < 0, "seed %lu: differs at step %ld", (unsigned long)seed,
                      (long)at);
        trace_free(&trace);
    }
}
END_TEST

/* A clock is made up for when the guest's access reads the clock of the same device in
 * the same step. */
static bool made_up_for(uint32_t victim)
{
    const struct recorded *rec = &trace.input[victim];

    for (uint32_t i = victim + 1;
         i < trace.input_count && trace.input[i].step == rec->step; i++) {
        if (rec->in.type == INPUT_CLOCK && trace.input[i].in.type == INPUT_CLOCK &&
            trace.input[i].dev_index == rec->dev_index) {
            return true;
        }
    }
    return false;
}

static bool is_candidate(uint32_t i, bool (*accepts)(const struct recorded *rec))
{
    return trace.input[i].effective && accepts(&trace.input[i]) && !made_up_for(i);
}

/* The n-th input that changed the state when it was recorded and is of a kind that
 * `accepts` wants. */
static uint32_t effective_input(uint64_t n, bool (*accepts)(const struct recorded *rec))
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < trace.input_count; i++) {
        count += is_candidate(i, accepts);
    }
    if (count == 0) {
        return NO_INPUT;
    }
    n %= count;
    for (uint32_t i = 0;; i++) {
        if (is_candidate(i, accepts) && n-- == 0) {
            return i;
        }
    }
}

static bool any_input(const struct recorded *rec)
{
    (void)rec;
    return true;
}

static bool alterable(const struct recorded *rec)
{
    return rec->in.type == INPUT_SERIAL_RX || rec->in.type == INPUT_BLK_DONE ||
           rec->in.type == INPUT_CLOCK;
}

static void alter(struct dev_input *in)
{
    if (in->type == INPUT_SERIAL_RX) {
        in->len--; /* a flipped byte would not show where it found no room */
    } else if (in->type == INPUT_BLK_DONE) {
        in->generation++;
    } else {
        in->now_ns++;
    }
}

START_TEST(tampering_is_noticed)
{
    unsigned types = 0;
    uint64_t random = 4711;

    for (uint64_t seed = 200; seed < 203; seed++) {
        record(&trace, seed, &types);
        ck_assert_int_lt(replay(&trace, seed, 0), 0);
        for (unsigned i = 0; i < 30; i++) {
            uint32_t victim =
                effective_input(rig_random(&random), i % 3 == 1 ? alterable : any_input);
            struct recorded saved;
            int64_t at;

            ck_assert_uint_ne(victim, NO_INPUT);
            saved = trace.input[victim];
            if (i % 3 == 0) { /* drop */
                trace.input[victim].in = (struct dev_input){.type = INPUT_CLOCK};
                trace.input[victim].dev_index = MACHINE_DEV_DEBUG;
            } else if (i % 3 == 1) {
                alter(&trace.input[victim].in);
            } else { /* one step later: in front of the next step's inputs */
                if (victim + 1 < trace.input_count &&
                    trace.input[victim + 1].step <= trace.input[victim].step) {
                    continue; /* not the last of its step: the order would change, too */
                }
                trace.input[victim].step++;
            }
            at = replay(&trace, seed, 0);
            ck_assert_msg(
                at == saved.step, "seed %lu input %u (type %d): noticed at %ld, not %u",
                (unsigned long)seed, victim, saved.in.type, (long)at, saved.step);
            trace.input[victim] = saved;
        }
        ck_assert_int_lt(replay(&trace, seed, 0),
                         0); /* and the repaired trace is good again */
        trace_free(&trace);
    }
}
END_TEST

static Suite *replay_suite(void)
{
    Suite *suite = suite_create("replay");
    TCase *tc = tcase_create("replay");

    tcase_set_timeout(tc, 120);
    tcase_add_test(tc, replay_equals_recording);
    tcase_add_test(tc, replay_survives_moves);
    tcase_add_test(tc, tampering_is_noticed);
    suite_add_tcase(suite, tc);
    return suite;
}

UNIT_MAIN(replay_suite)
