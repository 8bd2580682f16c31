/* SPDX-License-Identifier: Apache-2.0 */
/* vmm/engine with a KVM of our own making: its threads, requests and the lease, without
 * /dev/kvm (and under TSan). */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
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

static struct engine *engine;
static struct vmm_error err;
static char rom_path[TEMP_PATH_MAX], disk_path[TEMP_PATH_MAX];

static void make_file(char *path, const char *name, off_t len)
{
    int fd = mkstemp(temp_path(path, name));

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(ftruncate(fd, len), 0);
    close(fd);
}

/* As START of an agent brings it. */
static int give_disk(void)
{
    int fd = open(disk_path, O_RDWR | O_CLOEXEC);

    ck_assert_int_ge(fd, 0);
    engine_disks(engine, &fd, 1);
    return fd;
}

static void setup(void)
{
    struct engine_conf conf = {.kvm = &fake_kvm,
                               .kvm_path = "fake",
                               .rom_path = rom_path,
                               .ram_len = 1 << 20,
                               .disk_count = 1,
                               .debug_output = true};

    fake_kvm_reset();
    make_file(rom_path, "rom", 4096);
    make_file(disk_path, "disk", 1 << 20);
    memcpy(conf.disk[0].path, disk_path, sizeof disk_path);
    ck_assert_msg(engine_open(&conf, &engine, &err) == 0, "%s", err.text);
    ck_assert_msg(engine_go(engine, &err) == 0, "%s", err.text);
    give_disk();
}

static void teardown(void)
{
    engine_close(engine);
    unlink(rom_path);
    unlink(disk_path);
}

/* Waits for a notice of that state; false after 5 s. */
static bool wait_for(enum run_state state)
{
    uint64_t end = loop_now_ns() + 5 * NSEC_PER_SEC;

    while (loop_now_ns() < end) {
        struct pollfd p = {.fd = engine_event_fd(engine), .events = POLLIN};
        struct engine_status s;

        (void)poll(&p, 1, 100);
        engine_event_clear(engine);
        while (engine_take_notice(engine, &s)) {
            if (s.state == state) {
                return true;
            }
        }
    }
    return false;
}

static void sleep_ms(unsigned ms)
{
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};

    while (nanosleep(&t, &t) < 0) {
    }
}

static void start(uint64_t epoch)
{
    ck_assert_int_eq(engine_start(engine, epoch, "test"), RUN_DONE);
    ck_assert(wait_for(RUN_RUNNING));
}

START_TEST(nothing_runs_before_start)
{
    sleep_ms(50);
    ck_assert_uint_eq(atomic_load(&fake_guest.runs), 0);
    start(3);
    for (int i = 0; i < 500 && byte_ring_empty(engine_debug_ring(engine)); i++) {
        sleep_ms(10);
    }
    ck_assert(!byte_ring_empty(engine_debug_ring(engine)));
}
END_TEST

START_TEST(freeze_stops_and_thaw_goes_on)
{
    unsigned runs;

    atomic_store(&fake_guest.computes, true);
    start(1);
    ck_assert_int_eq(engine_freeze(engine, "test"), RUN_DONE);
    ck_assert(wait_for(RUN_FROZEN));
    runs = atomic_load(&fake_guest.runs);
    ck_assert_int_eq(engine_thaw(engine, 1, "test"), RUN_OLD_EPOCH);
    sleep_ms(50);
    ck_assert_uint_eq(atomic_load(&fake_guest.runs), runs);
    ck_assert_int_eq(engine_thaw(engine, 2, "test"), RUN_DONE);
    ck_assert(wait_for(RUN_RUNNING));
    for (int i = 0; i < 500 && atomic_load(&fake_guest.runs) == runs; i++) {
        sleep_ms(10);
    }
    ck_assert_uint_gt(atomic_load(&fake_guest.runs), runs);
}
END_TEST

START_TEST(lease_freezes_a_computing_guest)
{
    uint64_t begin = loop_now_ns(), took_ms;

    atomic_store(&fake_guest.computes, true);
    ck_assert(engine_lease(engine, 200, 0));
    start(1);
    ck_assert(wait_for(RUN_FROZEN));
    took_ms = (loop_now_ns() - begin) / NSEC_PER_MSEC;
    ck_assert_uint_ge(took_ms, 200);
    ck_assert_uint_lt(took_ms, 2000);
    ck_assert_int_eq(engine_thaw(engine, 2, "test"), RUN_LEASE_LOST);
}
END_TEST

START_TEST(a_halted_guest_ends_at_once)
{
    struct engine_status s;

    start(1);
    sleep_ms(50);
    ck_assert(engine_power_button(engine));
    ck_assert_int_eq(engine_end(engine, RUN_END_KILLED, "test"), RUN_DONE);
    ck_assert(wait_for(RUN_ENDED));
    engine_status(engine, &s);
    ck_assert_int_eq(s.end, RUN_END_KILLED);
    ck_assert(!engine_power_button(engine));
    ck_assert(!engine_reset(engine));
}
END_TEST

START_TEST(kvm_failure_is_a_crash_with_a_reason)
{
    struct engine_status s;

    atomic_store(&fake_guest.fail, KVM_EXIT_FAIL_ENTRY);
    ck_assert_int_eq(engine_start(engine, 1, "test"), RUN_DONE);
    ck_assert(wait_for(RUN_ENDED));
    engine_status(engine, &s);
    ck_assert_int_eq(s.end, RUN_END_CRASH);
    ck_assert_ptr_nonnull(strstr(s.reason, "refused to enter"));
}
END_TEST

START_TEST(triple_faults_end)
{
    struct engine_status s;

    atomic_store(&fake_guest.fail, KVM_EXIT_SHUTDOWN);
    ck_assert_int_eq(engine_start(engine, 1, "test"), RUN_DONE);
    ck_assert(wait_for(RUN_ENDED));
    engine_status(engine, &s);
    ck_assert_int_eq(s.end, RUN_END_CRASH);
    ck_assert_str_eq(engine_take_reset(engine), "its processor shut down (triple fault)");
    ck_assert_ptr_null(engine_take_reset(engine));
}
END_TEST

START_TEST(disk_that_changed_is_refused)
{
    struct engine_status s;

    ck_assert_int_eq(truncate(disk_path, 4096), 0);
    ck_assert_int_eq(engine_start(engine, 1, "test"), RUN_DONE);
    ck_assert(wait_for(RUN_ENDED));
    engine_status(engine, &s);
    ck_assert_int_eq(s.end, RUN_END_HOST);
    ck_assert_ptr_nonnull(strstr(s.reason, "replaced or resized"));
    ck_assert_uint_eq(atomic_load(&fake_guest.runs), 0);
}
END_TEST

static bool is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

/* R1: a disk is never open without a START that was obeyed. */
START_TEST(disks_are_closed_when_nobody_needs_them)
{
    int many[VM_DISKS_MAX], extra;

    for (unsigned i = 0; i < VM_DISKS_MAX; i++) {
        many[i] = open(disk_path, O_RDWR | O_CLOEXEC);
        ck_assert_int_ge(many[i], 0);
    }
    engine_disks(engine, many, VM_DISKS_MAX);
    ck_assert(is_open(many[0]));
    ck_assert(!is_open(many[1])); /* there is one disk */
    ck_assert(engine_lease(engine, 1, 0));
    usleep(5000);
    ck_assert_int_eq(engine_start(engine, 1, "test"), RUN_LEASE_LOST);
    ck_assert(!is_open(many[0]));
    (void)engine_lease(engine, 0, 0);
    give_disk();
    ck_assert_int_eq(engine_start(engine, 1, "test"), RUN_DONE);
    ck_assert(wait_for(RUN_RUNNING));
    extra = give_disk();
    ck_assert(!is_open(extra)); /* it has them */
}
END_TEST

START_TEST(start_without_its_disk_ends)
{
    struct engine_status s;

    engine_disks(engine, NULL, 0); /* takes the one of setup() back */
    ck_assert_int_eq(engine_start(engine, 1, "test"), RUN_DONE);
    ck_assert(wait_for(RUN_ENDED));
    engine_status(engine, &s);
    ck_assert_ptr_nonnull(strstr(s.reason, "did not come with START"));
}
END_TEST

/* Everything at once, many times: for the sanitizers, and no kick may be lost (a lost one
 * hangs wait_for). */
START_TEST(many_freezes)
{
    uint64_t epoch = 1;

    start(epoch);
    for (unsigned i = 0; i < 300; i++) {
        atomic_store(&fake_guest.computes, i % 2);
        (void)byte_ring_put(engine_serial_in(engine), "keys", 4);
        engine_serial_in_ready(engine);
        (void)engine_power_button(engine);
        (void)engine_reset(engine);
        ck_assert(engine_lease(engine, 10000, 0));
        ck_assert_int_eq(engine_freeze(engine, "test"), RUN_DONE);
        ck_assert(wait_for(RUN_FROZEN));
        ck_assert_int_eq(engine_thaw(engine, ++epoch, "test"), RUN_DONE);
        ck_assert(wait_for(RUN_RUNNING));
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("engine");
    TCase *t = tcase_create("engine");

    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, nothing_runs_before_start);
    tcase_add_test(t, freeze_stops_and_thaw_goes_on);
    tcase_add_test(t, lease_freezes_a_computing_guest);
    tcase_add_test(t, a_halted_guest_ends_at_once);
    tcase_add_test(t, kvm_failure_is_a_crash_with_a_reason);
    tcase_add_test(t, triple_faults_end);
    tcase_add_test(t, disk_that_changed_is_refused);
    tcase_add_test(t, disks_are_closed_when_nobody_needs_them);
    tcase_add_test(t, start_without_its_disk_ends);
    tcase_add_test(t, many_freezes);
    suite_add_tcase(s, t);
    return s;
}

UNIT_MAIN(suite)
