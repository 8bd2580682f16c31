/* SPDX-License-Identifier: Apache-2.0 */
/* The loop of a recorded or replayed VM, with a KVM of our own making and a tape that
 * notes what it is told. Real guests: tests/kvm/run_replay.sh. */
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/loop.h"
#include "base/units.h"
#include "tests/unit/temp_path.h"
#include "tests/unit/unit.h"
#include "tests/unit/vmm/fake_kvm.h"
#include "vmm/engine.h"

#define NOTES_MAX 512

/* What the vCPU thread told, as lines. */
static struct {
    char text[NOTES_MAX][64];
    _Atomic unsigned count;
} told;

static struct engine *engine;
static struct vmm_error err;
static char rom_path[TEMP_PATH_MAX];
static unsigned script_at;
static bool refuse_exit;

__attribute__((format(printf, 1, 2))) static void tell(const char *format, ...)
{
    unsigned n = atomic_load(&told.count);
    va_list args;

    if (n < NOTES_MAX) {
        va_start(args, format);
        vsnprintf(told.text[n], sizeof told.text[0], format, args);
        va_end(args);
        atomic_store(&told.count, n + 1);
    }
}

static bool t_exit(void *ctx, const struct tape_exit *x)
{
    (void)ctx;
    tell("exit %u kind %d%s", (unsigned)x->number, x->kind, x->boundary ? "" : " mid");
    return !refuse_exit;
}

static bool t_output(void *ctx, uint64_t position, const struct tape_out *out)
{
    (void)ctx;
    tell("output at %u kind %d", (unsigned)position, out->kind);
    return true;
}

static bool t_inject(void *ctx, uint64_t position, uint8_t vector)
{
    (void)ctx;
    tell("inject at %u vector %u", (unsigned)position, vector);
    return true;
}

static bool t_clock(void *ctx, uint64_t position, uint64_t *now_ns)
{
    (void)ctx, (void)now_ns;
    tell("clock at %u", (unsigned)position);
    return true;
}

static bool t_end(void *ctx, uint64_t position)
{
    (void)ctx;
    tell("end at %u", (unsigned)position);
    return true;
}

static void t_trouble(void *ctx, uint64_t position, const char *what)
{
    (void)ctx;
    tell("trouble at %u: %s", (unsigned)position, what);
}

static void t_verdict(void *ctx, struct tape_verdict *ret)
{
    (void)ctx;
    *ret = (struct tape_verdict){.good = false, .text = "the tape said stop"};
}

static void t_input(void *ctx, uint64_t position, unsigned dev_index,
                    const struct dev_input *in)
{
    (void)ctx;
    tell("input at %u device %u type %d", (unsigned)position, dev_index, in->type);
}

static void t_control(void *ctx, uint64_t position, enum tape_control what)
{
    (void)ctx;
    tell("control at %u: %d", (unsigned)position, what);
}

static void t_pages(void *ctx, uint64_t position, uint64_t first, uint64_t count,
                    const uint8_t *bytes)
{
    (void)ctx, (void)first, (void)count, (void)bytes;
    tell("pages at %u", (unsigned)position);
}

static void t_state(void *ctx, uint64_t position, const uint8_t *bytes, size_t len)
{
    (void)ctx, (void)bytes;
    tell("state at %u%s", (unsigned)position, len > 100 ? "" : ": too short");
}

/* Replay: an input at 0, then the guest runs. */
static enum tape_next t_next(void *ctx, uint64_t position, struct tape_item *ret)
{
    (void)ctx;
    if (script_at++ == 0) {
        ret->dev_index = MACHINE_DEV_FWCFG;
        ret->in = (struct dev_input){.type = INPUT_EPOCH, .value = 5};
        return TAPE_NEXT_INPUT;
    }
    tell("next at %u", (unsigned)position);
    return TAPE_NEXT_RUN;
}

static const struct engine_tape_ops ops = {
    .exit = t_exit,
    .output = t_output,
    .inject = t_inject,
    .clock = t_clock,
    .end = t_end,
    .trouble = t_trouble,
    .verdict = t_verdict,
    .input = t_input,
    .control = t_control,
    .pages = t_pages,
    .state = t_state,
    .next = t_next,
};
static struct engine_tape tape;

static void begin(bool replay)
{
    struct engine_conf conf = {.kvm = &fake_kvm,
                               .kvm_path = "fake",
                               .rom_path = rom_path,
                               .ram_len = 1 << 20,
                               .tape = &tape};
    int fd = mkstemp(temp_path(rom_path, "rom"));

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(ftruncate(fd, 4096), 0);
    close(fd);
    fake_kvm_reset();
    atomic_store(&told.count, 0);
    script_at = 0;
    refuse_exit = false;
    tape = (struct engine_tape){.ops = &ops, .replay = replay, .exit_gap_ms = 20};
    ck_assert_msg(engine_open(&conf, &engine, &err) == 0, "%s", err.text);
    ck_assert_msg(engine_go(engine, &err) == 0, "%s", err.text);
}

static void end(void)
{
    engine_close(engine);
    unlink(rom_path);
}

static void setup(void)
{
    begin(false);
}

static void sleep_ms(unsigned ms)
{
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};

    while (nanosleep(&t, &t) < 0) {
    }
}

/* The place of the first note from `from` on that begins so; waits up to 5 s. */
static unsigned note(const char *text, unsigned from)
{
    uint64_t until = loop_now_ns() + 5 * NSEC_PER_SEC;

    do {
        unsigned n = atomic_load(&told.count);

        for (unsigned i = from; i < n; i++) {
            if (strncmp(told.text[i], text, strlen(text)) == 0) {
                return i;
            }
        }
        sleep_ms(5);
    } while (loop_now_ns() < until);
    for (unsigned i = 0; i < atomic_load(&told.count); i++) {
        printf("# %s\n", told.text[i]);
    }
    ck_abort_msg("nobody was told '%s'", text);
    return 0;
}

static bool wait_for(enum run_state state, struct engine_status *ret)
{
    uint64_t until = loop_now_ns() + 5 * NSEC_PER_SEC;

    while (loop_now_ns() < until) {
        struct pollfd p = {.fd = engine_event_fd(engine), .events = POLLIN};

        (void)poll(&p, 1, 100);
        engine_event_clear(engine);
        while (engine_take_notice(engine, ret)) {
            if (ret->state == state) {
                return true;
            }
        }
    }
    return false;
}

static void type_key(void)
{
    (void)byte_ring_put(engine_serial_in(engine), "k", 1);
    engine_serial_in_ready(engine);
}

/* The clock and the epoch come before the first entry; a key at the position of the HLT
 * in which it was waited for. */
START_TEST(inputs_have_positions)
{
    unsigned at;

    ck_assert_int_eq(engine_start(engine, 3, "test"), RUN_DONE);
    ck_assert_uint_lt(note("input at 0 device 3 type 6", 0),  /* RTC base */
                      note("input at 0 device 7 type 8", 0)); /* epoch */
    at = note("output at 1 kind 4", 0);
    ck_assert_uint_eq(note("exit 1 kind 2", 0), at + 1);
    at = note("exit 2 kind 7", at);
    type_key();
    (void)note("input at 2 device 4 type 2", at);
    end();
}
END_TEST

/* No exit comes: after 20 ms the guest is stopped where it is, and that is a position.
 * (The 8254's ticks may have led to some before.) */
START_TEST(a_guest_without_exits_gets_a_barrier)
{
    char text[32];
    unsigned at, position = 0;

    atomic_store(&fake_guest.computes, true);
    ck_assert_int_eq(engine_start(engine, 3, "test"), RUN_DONE);
    at = note("exit 1 kind 2", 0);
    type_key();
    at = note("exit 2 kind 9", at);
    for (unsigned i = at; position == 0; i++) {
        (void)note("", i); /* waits for it */
        if (strstr(told.text[i], "device 4 type 2") != NULL) {
            ck_assert_int_eq(sscanf(told.text[i], "input at %u", &position), 1);
            at = i;
        }
    }
    snprintf(text, sizeof text, "state at %u", position);
    ck_assert_uint_lt(note(text, 0), at);
    snprintf(text, sizeof text, "exit %u kind 9", position);
    ck_assert_uint_lt(note(text, 0), at);
    end();
}
END_TEST

/* A freeze in the middle of nowhere is no position and nothing is told; the new epoch
 * that ends it is an input, so that comes at a barrier before the guest runs on. */
START_TEST(a_freeze_only_stands)
{
    struct engine_status s;
    unsigned at, runs;

    atomic_store(&fake_guest.computes, true);
    ck_assert_int_eq(engine_start(engine, 3, "test"), RUN_DONE);
    at = note("exit 1 kind 2", 0);
    ck_assert_int_eq(engine_freeze(engine, "test"), RUN_DONE);
    ck_assert(wait_for(RUN_FROZEN, &s));
    ck_assert_uint_eq(atomic_load(&told.count), at + 1);
    runs = atomic_load(&fake_guest.runs);
    ck_assert_int_eq(engine_thaw(engine, 4, "test"), RUN_DONE);
    at = note("exit 2 kind 9", at);
    ck_assert_uint_eq(note("input at 2 device 7 type 8", 0), at + 1);
    for (int i = 0; i < 500 && atomic_load(&fake_guest.runs) < runs + 2; i++) {
        sleep_ms(10);
    }
    ck_assert_uint_ge(atomic_load(&fake_guest.runs), runs + 2);
    end();
}
END_TEST

START_TEST(resets_are_told)
{
    unsigned at;

    atomic_store(&fake_guest.computes, true);
    ck_assert_int_eq(engine_start(engine, 3, "test"), RUN_DONE);
    at = note("exit 1 kind 2", 0);
    ck_assert(engine_reset(engine)); /* an operator's: at a barrier */
    at = note("exit 2 kind 9", at);
    (void)note("control at 2: 1", at);
    end();
}
END_TEST

/* Killed where no position is: a barrier makes one, and the end is told there. */
START_TEST(the_end_is_at_a_position)
{
    struct engine_status s;
    unsigned at;

    atomic_store(&fake_guest.computes, true);
    ck_assert_int_eq(engine_start(engine, 3, "test"), RUN_DONE);
    at = note("exit 1 kind 2", 0);
    ck_assert_int_eq(engine_end(engine, RUN_END_KILLED, "test"), RUN_DONE);
    ck_assert(wait_for(RUN_ENDED, &s));
    at = note("exit 2 kind 9", at);
    at = note("state at 2", at);
    ck_assert_uint_eq(note("end at 2", at), at + 1);
    end();
}
END_TEST

START_TEST(a_replay_takes_what_the_tape_has)
{
    unsigned at;

    begin(true);
    ck_assert_int_eq(engine_start(engine, 3, "test"), RUN_DONE);
    at = note("exit 1 kind 2", 0);
    for (unsigned i = 0; i < at; i++) { /* nothing is an input but what the tape gave */
        ck_assert_msg(strncmp(told.text[i], "input", 5) != 0, "%s", told.text[i]);
    }
    type_key();
    (void)engine_power_button(engine);
    (void)note("exit 2 kind 7", at); /* asleep, and the tape says run */
    at = note("trouble at 2: the recording goes on, here the guest sleeps", at);
    end();
    for (unsigned i = 0; i < atomic_load(&told.count); i++) {
        ck_assert(strncmp(told.text[i], "end", 3) != 0);
    }
    ck_assert_uint_gt(at, 0);
}
END_TEST

START_TEST(a_difference_ends_the_replay)
{
    struct engine_status s;

    begin(true);
    refuse_exit = true;
    ck_assert_int_eq(engine_start(engine, 3, "test"), RUN_DONE);
    ck_assert(wait_for(RUN_ENDED, &s));
    ck_assert_int_eq(s.end, RUN_END_HOST);
    ck_assert_str_eq(s.reason, "the tape said stop");
    ck_assert_uint_eq(note("exit 1", 0) + 1, atomic_load(&told.count));
    end();
}
END_TEST

START_TEST(standard_has_no_tape)
{
    struct engine_conf conf = {.machine = MACHINE_STANDARD,
                               .kvm = &fake_kvm,
                               .kvm_path = "fake",
                               .ram_len = 1 << 20,
                               .tape = &tape};

    ck_assert_int_eq(engine_open(&conf, &engine, &err), -EINVAL);
    ck_assert_ptr_nonnull(strstr(err.text, "use machine lockstep"));
}
END_TEST

static Suite *engine_tape_suite(void)
{
    Suite *suite = suite_create("engine_tape");
    TCase *record = tcase_create("record"), *replay = tcase_create("replay");

    tcase_set_timeout(record, 60);
    tcase_set_timeout(replay, 60);
    tcase_add_checked_fixture(record, setup, NULL);
    tcase_add_test(record, inputs_have_positions);
    tcase_add_test(record, a_guest_without_exits_gets_a_barrier);
    tcase_add_test(record, a_freeze_only_stands);
    tcase_add_test(record, resets_are_told);
    tcase_add_test(record, the_end_is_at_a_position);
    tcase_add_test(replay, a_replay_takes_what_the_tape_has);
    tcase_add_test(replay, a_difference_ends_the_replay);
    tcase_add_test(replay, standard_has_no_tape);
    suite_add_tcase(suite, record);
    suite_add_tcase(suite, replay);
    return suite;
}

UNIT_MAIN(engine_tape_suite)
