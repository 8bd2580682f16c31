/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A recording written and replayed through the hooks, without a VM: what the loop of
 * vmm/engine_tape.c would call. The end, which looks at memory, is for tests/kvm.
 */
#include "ft/ft_tape.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ft/ft_log.h"
#include "ft/ft_sum.h"
#include "tests/unit/temp_path.h"
#include "tests/unit/unit.h"
#include "vmm/machine.h"

static char path[TEMP_PATH_MAX];
static const struct engine_tape *hooks;
static struct ft_tape *tape;

#define CALL(name, ...) hooks->ops->name(hooks->ctx, __VA_ARGS__)

static struct tape_exit out_exit(uint64_t number, uint8_t byte)
{
    static uint8_t data[256];

    data[byte] = byte;
    return (struct tape_exit){.number = number,
                              .kind = TAPE_EXIT_OUT,
                              .address = 0x3F8,
                              .size = 1,
                              .len = 1,
                              .data = &data[byte],
                              .boundary = true,
                              .reg = {number, 2, 3, [TAPE_REG_RIP] = 0x1000 + number}};
}

static const struct dev_input key = {
    .type = INPUT_SERIAL_RX, .data = (const uint8_t *)"k", .len = 1};
static const struct tape_out out = {
    .kind = TAPE_OUT_SERIAL, .data = (const uint8_t *)"a", .len = 1};
static uint8_t state[300 * 1024]; /* several records */

/* What both sides do: an input at 0, a clock, an output and an exit, an injection, an
 * exit in two pieces. */
static void record(void)
{
    struct vmm_error err;
    struct tape_exit x = out_exit(1, 'a'), y = out_exit(2, 'b'), z = out_exit(3, 'c');
    uint64_t now = 12345;

    ck_assert_int_eq(ft_tape_record(path, &tape, &err), 0);
    hooks = ft_tape_hooks(tape);
    ck_assert(!hooks->replay);
    ck_assert_int_eq(ft_tape_go(tape, &err), 0);
    CALL(input, 0, MACHINE_DEV_SERIAL, &key);
    ck_assert(CALL(clock, 1, &now));
    ck_assert(CALL(output, 1, &out));
    ck_assert(CALL(exit, &x));
    CALL(control, 1, TAPE_CONTROL_RESET);
    ck_assert(CALL(inject, 1, 0x20));
    y.boundary = false;
    memset(y.reg, 0, sizeof y.reg);
    ck_assert(CALL(exit, &y));
    ck_assert(CALL(exit, &z));
    for (size_t i = 0; i < sizeof state; i++) {
        state[i] = (uint8_t)(i * 7 >> 3);
    }
    CALL(state, 3, state, sizeof state);
    ck_assert_int_eq(ft_tape_end(tape, &err), 0);
    ft_tape_free(tape);
}

static void replay(uint64_t until)
{
    struct vmm_error err;

    ck_assert_int_eq(ft_tape_replay(path, (struct ft_pos){.exits = until}, &tape, &err),
                     0);
    hooks = ft_tape_hooks(tape);
    ck_assert(hooks->replay);
}

static enum tape_next next(uint64_t position, struct tape_item *ret)
{
    memset(ret, 0, sizeof *ret);
    return CALL(next, position, ret);
}

static void ends(bool good, const char *text)
{
    struct tape_verdict v;

    hooks->ops->verdict(hooks->ctx, &v);
    ck_assert_int_eq(v.good, good);
    ck_assert_msg(strstr(v.text, text) != NULL, "'%s' is not in '%s'", text, v.text);
    ft_tape_free(tape);
}

/* Up to the first exit, which is left to the caller. */
static void begin(uint64_t *ret_now)
{
    struct tape_item item;

    replay(UINT64_MAX);
    ck_assert_int_eq(next(0, &item), TAPE_NEXT_INPUT);
    ck_assert_uint_eq(item.dev_index, MACHINE_DEV_SERIAL);
    ck_assert_uint_eq(item.in.len, 1);
    ck_assert_uint_eq(item.in.data[0], 'k');
    ck_assert_int_eq(next(0, &item), TAPE_NEXT_RUN);
    ck_assert(CALL(clock, 1, ret_now));
}

START_TEST(what_was_recorded_comes_back)
{
    struct tape_exit x = out_exit(1, 'a'), y = out_exit(2, 'b'), z = out_exit(3, 'c');
    struct tape_item item;
    uint64_t now = 0;

    begin(&now);
    ck_assert_uint_eq(now, 12345);
    ck_assert(CALL(output, 1, &out));
    ck_assert(CALL(exit, &x));
    ck_assert_int_eq(next(1, &item), TAPE_NEXT_CONTROL);
    ck_assert_int_eq(item.control, TAPE_CONTROL_RESET);
    ck_assert_int_eq(next(1, &item), TAPE_NEXT_RUN);
    ck_assert(CALL(inject, 1, 0x20));
    y.boundary = false;
    memset(y.reg, 0, sizeof y.reg);
    ck_assert(CALL(exit, &y));
    ck_assert(CALL(exit, &z));
    ck_assert_int_eq(next(3, &item), TAPE_NEXT_STATE);
    ck_assert_uint_eq(item.position, 3);
    ck_assert_uint_eq(item.len, sizeof state);
    ck_assert_mem_eq(item.bytes, state, sizeof state);
    ck_assert_int_eq(next(3, &item), TAPE_NEXT_STOP); /* the end was not recorded */
    ends(false, "the recording ends at exit 3 (cut)");
}
END_TEST

START_TEST(differences_have_names)
{
    struct tape_exit x;
    struct tape_out other = out;
    uint64_t now;

    begin(&now);
    ck_assert(!CALL(clock, 1, &now));
    ends(false, "differs at exit 1: recorded an output (at exit 1), here a device reads");

    begin(&now);
    other.data = (const uint8_t *)"b";
    ck_assert(!CALL(output, 1, &other));
    ends(false, "output 1: recorded serial output of 1 bytes, here serial output of 1 "
                "bytes: not the same bytes");

    begin(&now);
    x = out_exit(1, 'a');
    ck_assert(!CALL(exit, &x));
    ends(false, "recorded an output (at exit 1), here OUT 0x3f8 size 1 data 61");

    begin(&now);
    ck_assert(CALL(output, 1, &out));
    x = out_exit(1, 'x');
    ck_assert(!CALL(exit, &x));
    ends(false, "recorded OUT 0x3f8 size 1 data 61 (rip 0x1001), here OUT 0x3f8 size 1 "
                "data 78");

    begin(&now);
    ck_assert(CALL(output, 1, &out));
    x = out_exit(1, 'a');
    x.reg[2] = 77;
    ck_assert(!CALL(exit, &x));
    ends(false, "recorded rcx 0x3, here 0x4d");
}
END_TEST

START_TEST(another_interrupt_is_noticed)
{
    struct tape_exit x, y = out_exit(2, 'b');
    struct tape_item item;
    uint64_t now;

    begin(&now);
    ck_assert(CALL(output, 1, &out));
    x = out_exit(1, 'a');
    ck_assert(CALL(exit, &x));
    ck_assert_int_eq(next(1, &item), TAPE_NEXT_CONTROL);
    ck_assert(CALL(inject, 1, 0x21));
    y.boundary = false;
    memset(y.reg, 0, sizeof y.reg);
    ck_assert(!CALL(exit, &y));
    ends(false, "another interrupt was injected");
}
END_TEST

START_TEST(until_stops)
{
    struct tape_item item;

    replay(0);
    ck_assert_int_eq(next(0, &item), TAPE_NEXT_STOP);
    ends(true, "stopped at exit 0, equal so far");
}
END_TEST

/* Cut anywhere: the records before are there, then it ends. */
START_TEST(a_torn_file_ends)
{
    struct stat st;
    int fd = open(path, O_RDWR | O_CLOEXEC);

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(fstat(fd, &st), 0);
    for (off_t len = st.st_size; len >= 0; len -= len > 2000 ? 997 : 7) {
        struct tape_item item;
        enum tape_next n = TAPE_NEXT_RUN;

        ck_assert_int_eq(ftruncate(fd, len), 0);
        replay(UINT64_MAX);
        for (unsigned i = 0; i < 20 && n != TAPE_NEXT_STOP; i++) {
            n = next(i / 5, &item);
        }
        ck_assert_int_eq(n == TAPE_NEXT_STOP || n == TAPE_NEXT_RUN, 1);
        ft_tape_free(tape);
    }
    close(fd);
}
END_TEST

START_TEST(what_cannot_be_opened_is_said)
{
    struct vmm_error err;

    ck_assert_int_eq(ft_tape_replay("/nothere", (struct ft_pos){.exits = 0}, &tape, &err),
                     -ENOENT);
    ck_assert_ptr_nonnull(strstr(err.text, "/nothere"));
    ck_assert_int_lt(ft_tape_record("/nothere/x", &tape, &err), 0);
    ck_assert_ptr_nonnull(strstr(err.text, "/nothere/x"));
}
END_TEST

/* Fails with: O_TRUNC. */
START_TEST(a_recording_is_not_written_over)
{
    struct vmm_error err;
    struct stat st, now;

    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_int_eq(ft_tape_record(path, &tape, &err), -EEXIST);
    ck_assert_ptr_nonnull(strstr(err.text, "is not written over: remove it"));
    ck_assert_int_eq(stat(path, &now), 0);
    ck_assert_int_eq(now.st_size, st.st_size);
}
END_TEST

START_TEST(a_block_device_is_not_written_over)
{
    static const char device[] = "/dev/loop0";
    struct vmm_error err;
    int fd = open(device, O_WRONLY | O_CLOEXEC);

    if (fd < 0) {
        return; /* there is none here */
    }
    close(fd);
    ck_assert_int_eq(ft_tape_record(device, &tape, &err), -EEXIST);
    ck_assert_ptr_nonnull(strstr(err.text, "is a block device"));
}
END_TEST

/* A directory; and a file whose first bytes are not to be had. */
START_TEST(what_cannot_be_read_is_said)
{
    static const struct {
        const char *path, *why;
    } bad[] = {{"/", "cannot be read at byte 0: Is a directory"},
               {"/proc/self/mem", "cannot be read at byte 0: Input/output error"}};

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        struct vmm_error err;
        struct tape_item item;

        ck_assert_int_eq(ft_tape_replay(bad[i].path, (struct ft_pos){.exits = UINT64_MAX},
                                        &tape, &err),
                         0);
        hooks = ft_tape_hooks(tape);
        ck_assert_int_eq(next(0, &item), TAPE_NEXT_STOP);
        ends(false, bad[i].why);
    }
}
END_TEST

/* A file that takes nothing (ENOSPC of /dev/full). */
START_TEST(a_full_disk_ends_the_recording)
{
    struct vmm_error err;
    struct tape_exit x = out_exit(1, 'a');
    const char *why = NULL;

    ck_assert_int_eq(ft_tape_record("/dev/full", &tape, &err), 0);
    hooks = ft_tape_hooks(tape);
    ck_assert_int_eq(ft_tape_go(tape, &err), 0);
    ck_assert(CALL(exit, &x));
    for (int i = 0; i < 500 && !why; i++) {
        usleep(10000);
        why = ft_tape_trouble(tape);
    }
    ck_assert_ptr_nonnull(why);
    ck_assert_ptr_nonnull(strstr(why, "No space left"));
    ck_assert_ptr_null(ft_tape_trouble(tape)); /* once */
    for (int i = 0; i < 200000; i++) { /* more than the ring holds: nobody waits */
        ck_assert(CALL(exit, &x));
    }
    ck_assert_int_eq(ft_tape_end(tape, &err), 0);
    ft_tape_free(tape);
}
END_TEST

START_TEST(sums)
{
    struct tape_exit x = out_exit(1, 'a'), y = x;
    struct tape_out other = out;
    struct ft_sum a = ft_output_sum(&out), b;

    /* XXH3 of nothing, from its specification's test vectors. */
    ck_assert_uint_eq(ft_sum64(0, "", 0), UINT64_C(0x2D06800538D394C2));
    ck_assert_uint_ne(ft_chain_exit(0, &x), ft_chain_exit(1, &x));
    y.reg[5]++;
    ck_assert_uint_ne(ft_chain_exit(0, &x), ft_chain_exit(0, &y));
    y = x;
    y.address++;
    ck_assert_uint_ne(ft_chain_exit(0, &x), ft_chain_exit(0, &y));
    other.unit = 1;
    b = ft_output_sum(&other);
    ck_assert_mem_ne(&a, &b, sizeof a);
}
END_TEST

static void setup(void)
{
    int fd = mkstemp(temp_path(path, "tape"));

    ck_assert_int_ge(fd, 0);
    close(fd);
    record();
}

static void teardown(void)
{
    unlink(path);
}

static Suite *ft_tape_suite(void)
{
    Suite *suite = suite_create("ft_tape");
    TCase *tc = tcase_create("ft_tape");

    tcase_set_timeout(tc, 60);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, what_was_recorded_comes_back);
    tcase_add_test(tc, differences_have_names);
    tcase_add_test(tc, another_interrupt_is_noticed);
    tcase_add_test(tc, until_stops);
    tcase_add_test(tc, a_torn_file_ends);
    tcase_add_test(tc, what_cannot_be_opened_is_said);
    tcase_add_test(tc, a_recording_is_not_written_over);
    tcase_add_test(tc, a_block_device_is_not_written_over);
    tcase_add_test(tc, what_cannot_be_read_is_said);
    tcase_add_test(tc, a_full_disk_ends_the_recording);
    tcase_add_test(tc, sums);
    suite_add_tcase(suite, tc);
    return suite;
}

UNIT_MAIN(ft_tape_suite)
