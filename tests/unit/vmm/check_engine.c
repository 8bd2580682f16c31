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
#include "tests/unit/unit.h"
#include "vmm/engine.h"

#define RUN_LEN     (2 * 4096)
#define DATA_OFFSET 4096

/* The guest: writes 'G' to the debug port, then halts for ever or computes for ever. */
static struct {
    _Atomic unsigned runs; /* entries into the guest */
    _Atomic bool computes;
    _Atomic uint32_t fail; /* an exit reason to end with */
    struct kvm_run *run;
    bool greeted;
} guest;

static int f_open(const char *path)
{
    (void)path;
    return open("/dev/null", O_RDWR | O_CLOEXEC);
}

static int f_api(int fd)
{
    (void)fd;
    return KVM_API_VERSION;
}

static int f_run_size(int fd)
{
    (void)fd;
    return RUN_LEN;
}

static int f_cpuid(int fd, struct kvm_cpuid2 *cpuid)
{
    (void)fd;
    cpuid->nent = 0;
    return 0;
}

static int f_create_vm(int fd)
{
    (void)fd;
    return f_open("");
}

static int f_check(int fd, int cap)
{
    (void)fd, (void)cap;
    return 1;
}

static int f_enable(int fd, const struct kvm_enable_cap *cap)
{
    (void)fd, (void)cap;
    return 0;
}

static int f_memory(int fd, const struct kvm_userspace_memory_region *region)
{
    (void)fd, (void)region;
    return 0;
}

static int f_gpa(int fd, uint64_t gpa)
{
    (void)fd, (void)gpa;
    return 0;
}

static int f_filter(int fd, const struct kvm_msr_filter *filter)
{
    (void)fd, (void)filter;
    return 0;
}

static int f_create_vcpu(int fd, unsigned id)
{
    (void)fd, (void)id;
    return f_open("");
}

static int f_map(int fd, size_t len, struct kvm_run **ret_run)
{
    (void)fd;
    guest.run = calloc(1, len);
    *ret_run = guest.run;
    return 0;
}

static void f_unmap(struct kvm_run *run, size_t len)
{
    (void)len;
    free(run);
}

static bool kicked(void)
{
    return __atomic_load_n(&guest.run->immediate_exit, __ATOMIC_SEQ_CST);
}

static int f_run(int fd)
{
    static const struct timespec ms = {.tv_nsec = 1000000};
    struct kvm_run *run = guest.run;

    (void)fd;
    if (kicked()) {
        return -EINTR;
    }
    atomic_fetch_add(&guest.runs, 1);
    if (!guest.greeted) {
        guest.greeted = true;
        run->exit_reason = KVM_EXIT_IO;
        run->io.direction = KVM_EXIT_IO_OUT;
        run->io.port = 0x402;
        run->io.size = run->io.count = 1;
        run->io.data_offset = DATA_OFFSET;
        ((uint8_t *)run)[DATA_OFFSET] = 'G';
        return 0;
    }
    if (atomic_load(&guest.fail)) {
        run->exit_reason = atomic_load(&guest.fail);
        return 0;
    }
    while (atomic_load(&guest.computes)) {
        if (kicked()) {
            return -EINTR;
        }
        nanosleep(&ms, NULL);
    }
    run->exit_reason = KVM_EXIT_HLT;
    run->ready_for_interrupt_injection = 0;
    return 0;
}

static int f_interrupt(int fd, uint8_t vector)
{
    (void)fd, (void)vector;
    return 0;
}

static int f_set_cpuid(int fd, const struct kvm_cpuid2 *cpuid)
{
    (void)fd, (void)cpuid;
    return 0;
}

static int f_get(int fd, enum kvm_part part, void *state)
{
    (void)fd, (void)state;
    return part == KVM_PART_MSRS ? 1 : 0;
}

static int f_set(int fd, enum kvm_part part, const void *state)
{
    (void)fd;
    return part == KVM_PART_MSRS ? (int)((const struct kvm_msrs *)state)->nmsrs : 0;
}

static void f_close(int fd)
{
    if (fd >= 0) {
        close(fd);
    }
}

static const struct kvm_ops fake_kvm = {
    .sys_open = f_open,
    .sys_api_version = f_api,
    .sys_run_size = f_run_size,
    .sys_cpuid = f_cpuid,
    .sys_create_vm = f_create_vm,
    .check = f_check,
    .vm_enable = f_enable,
    .vm_memory = f_memory,
    .vm_tss = f_gpa,
    .vm_identity_map = f_gpa,
    .vm_msr_filter = f_filter,
    .vm_create_vcpu = f_create_vcpu,
    .vcpu_map = f_map,
    .vcpu_unmap = f_unmap,
    .vcpu_run = f_run,
    .vcpu_interrupt = f_interrupt,
    .vcpu_set_cpuid = f_set_cpuid,
    .vcpu_get = f_get,
    .vcpu_set = f_set,
    .close = f_close,
};

static struct engine *engine;
static struct vmm_error err;
static char rom_path[] = "/tmp/gemel-check-engine-rom.XXXXXX";
static char disk_path[] = "/tmp/gemel-check-engine-disk.XXXXXX";

static void make_file(char *path, off_t len)
{
    int fd;

    memcpy(path + strlen(path) - 6, "XXXXXX", 6);
    fd = mkstemp(path);
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

    memset(&guest, 0, sizeof guest);
    make_file(rom_path, 4096);
    make_file(disk_path, 1 << 20);
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
    ck_assert_uint_eq(atomic_load(&guest.runs), 0);
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

    atomic_store(&guest.computes, true);
    start(1);
    ck_assert_int_eq(engine_freeze(engine, "test"), RUN_DONE);
    ck_assert(wait_for(RUN_FROZEN));
    runs = atomic_load(&guest.runs);
    ck_assert_int_eq(engine_thaw(engine, 1, "test"), RUN_OLD_EPOCH);
    sleep_ms(50);
    ck_assert_uint_eq(atomic_load(&guest.runs), runs);
    ck_assert_int_eq(engine_thaw(engine, 2, "test"), RUN_DONE);
    ck_assert(wait_for(RUN_RUNNING));
    for (int i = 0; i < 500 && atomic_load(&guest.runs) == runs; i++) {
        sleep_ms(10);
    }
    ck_assert_uint_gt(atomic_load(&guest.runs), runs);
}
END_TEST

START_TEST(lease_freezes_a_computing_guest)
{
    uint64_t begin = loop_now_ns(), took_ms;

    atomic_store(&guest.computes, true);
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

    atomic_store(&guest.fail, KVM_EXIT_FAIL_ENTRY);
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

    atomic_store(&guest.fail, KVM_EXIT_SHUTDOWN);
    ck_assert_int_eq(engine_start(engine, 1, "test"), RUN_DONE);
    ck_assert(wait_for(RUN_ENDED));
    engine_status(engine, &s);
    ck_assert_int_eq(s.end, RUN_END_CRASH);
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
    ck_assert_uint_eq(atomic_load(&guest.runs), 0);
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
        atomic_store(&guest.computes, i % 2);
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
