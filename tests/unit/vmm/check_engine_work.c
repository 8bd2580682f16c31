/* SPDX-License-Identifier: Apache-2.0 */
/* vmm/engine_work: a state without RAM is saved, checked and gone on from in two steps;
 * a freeze waits for what was written to be durable, and can be taken back until then. */
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "base/units.h"
#include "tests/unit/unit.h"
#include "tests/unit/vmm/engine_rig.h"
#include "vmm/blk_uring.h"
#include "vmm/engine_ram.h"

static const unsigned machine_cpus[] = {0, 1, 4};

/* A disk that does not answer
 * -------------------------------------------------------------------------------- */

static _Atomic bool hung;
static _Atomic unsigned flushes;

unsigned __real_blk_in_flight(const struct blk_uring *blk);
unsigned __wrap_blk_in_flight(const struct blk_uring *blk);
unsigned __wrap_blk_disk_in_flight(const struct blk_uring *blk, unsigned disk);
void __real_blk_flush(struct blk_uring *blk);
void __wrap_blk_flush(struct blk_uring *blk);

unsigned __wrap_blk_in_flight(const struct blk_uring *blk)
{
    return __real_blk_in_flight(blk) + (atomic_load(&hung) ? 1 : 0);
}

unsigned __wrap_blk_disk_in_flight(const struct blk_uring *blk, unsigned disk)
{
    (void)blk;
    return disk == 0 && atomic_load(&hung) ? 1 : 0;
}

void __wrap_blk_flush(struct blk_uring *blk)
{
    atomic_fetch_add(&flushes, 1);
    __real_blk_flush(blk);
}

static void setup(void)
{
    er_setup();
    atomic_store(&hung, false);
    atomic_store(&flushes, 0);
    atomic_store(&fake_guest.computes, true);
}

static void teardown(void)
{
    atomic_store(&hung, false);
    if (er.e) {
        engine_serial_in_ready(er.e); /* a kick */
    }
    er_teardown();
}

/* Without RAM
 * ------------------------------------------------------------------------------------ */

/* Frozen after it ran a little, with registers and memory that no reset gives. */
static void frozen_vm(unsigned cpus)
{
    er_go(cpus, ENGINE_RIG_RAM);
    er_start(1);
    ck_assert(er_runs_grow(1));
    er_freeze();
    fake_kvm_scramble(cpus + 1);
    memset(fake_vm.ram + 0x7000, 0x77, 0x1000);
}

static uint8_t *state_of(unsigned cpus, enum engine_ram_place place, size_t *ret_len)
{
    struct engine_saved saved;
    uint8_t *bytes;
    int fd;

    frozen_vm(cpus);
    fd = engine_state_fd(er.e);
    ck_assert_int_eq(engine_save_wait(er.e, fd, "apart", place, &saved), 0);
    bytes = er_read(fd, ret_len);
    ck_assert_uint_eq(saved.bytes, *ret_len);
    return bytes;
}

static int check_bytes(const uint8_t *bytes, size_t len, enum engine_ram_place place)
{
    int fd = engine_state_fd(er.e);

    ck_assert_int_eq(ftruncate(fd, 0), 0);
    ck_assert_int_eq(pwrite(fd, bytes, len, 0), (ssize_t)len);
    return engine_state_check(er.e, fd, "apart", place, &er.err);
}

/* What a migration does: RAM first, then the state, checked, then START. */
START_TEST(two_steps)
{
    unsigned cpus = machine_cpus[_i];
    struct fake_vm *before = malloc(sizeof *before);
    struct engine_ram ram;
    size_t len;
    uint8_t *bytes = state_of(cpus, ENGINE_RAM_APART, &len);
    unsigned runs;

    ck_assert_uint_lt(len, 256 * 1024);
    memcpy(before, &fake_vm, sizeof fake_vm);
    er_close();
    er_go(cpus, ENGINE_RIG_RAM);
    engine_ram(er.e, &ram);
    ck_assert_int_eq(engine_receive(er.e, &er.err), 0);
    memset(ram.host + 0x7000, 0x77, 0x1000);
    runs = atomic_load(&fake_guest.runs);
    ck_assert_msg(check_bytes(bytes, len, ENGINE_RAM_APART) == 0, "%s", er.err.text);
    ck_assert_msg(check_bytes(bytes, len, ENGINE_RAM_APART) == 0, "twice: %s",
                  er.err.text);
    ck_assert_uint_eq(atomic_load(&fake_guest.inside), 0);
    ck_assert_uint_ge(runs + 2, atomic_load(&fake_guest.runs)); /* looked, not ran */
    for (unsigned i = 0; i < fake_vm.vcpu_count; i++) { /* a START sets all again */
        fake_vm.vcpu[i].state.regs.rip = 0;
    }
    er_start(9);
    for (unsigned i = 0; i < fake_vm.vcpu_count; i++) {
        ck_assert_mem_eq(&before->vcpu[i].state.regs, &fake_vm.vcpu[i].state.regs,
                         sizeof(struct kvm_regs));
    }
    ck_assert_uint_eq(ram.host[0x7FFF], 0x77);
    ck_assert(er_runs_grow(runs));
    er_freeze();
    free(before);
    free(bytes);
}
END_TEST

/* Each kind says what it is, and is refused as the other. */
START_TEST(one_is_not_the_other)
{
    unsigned cpus = machine_cpus[_i];
    size_t apart_len, whole_len;
    uint8_t *apart = state_of(cpus, ENGINE_RAM_APART, &apart_len), *whole;
    struct engine_status s;

    er_close();
    whole = state_of(cpus, ENGINE_RAM_IN_STATE, &whole_len);
    ck_assert_uint_gt(whole_len, apart_len);
    er_close();
    er_go(cpus, ENGINE_RIG_RAM);
    ck_assert_int_eq(check_bytes(whole, whole_len, ENGINE_RAM_APART), -EBADMSG);
    ck_assert_ptr_nonnull(strstr(er.err.text, "here already"));
    ck_assert_int_eq(check_bytes(apart, apart_len, ENGINE_RAM_IN_STATE), -EBADMSG);
    ck_assert_ptr_nonnull(strstr(er.err.text, "without the VM's memory"));
    engine_restore(er.e, er_file(apart, apart_len), "test.gms", ENGINE_RAM_IN_STATE);
    ck_assert_int_eq(engine_start(er.e, 9, "test"), RUN_DONE);
    ck_assert(er_wait(RUN_ENDED));
    engine_status(er.e, &s);
    ck_assert_ptr_nonnull(strstr(s.reason, "without the VM's memory"));
    er_close();
    er_go(cpus, ENGINE_RIG_RAM); /* as a live upgrade does it: memory is there */
    engine_restore(er.e, er_file(apart, apart_len), "test.gms", ENGINE_RAM_APART);
    er_start(9);
    free(apart);
    free(whole);
}
END_TEST

/* Not one byte may be missing or different; a VM that refused does not start. */
START_TEST(damaged)
{
    size_t len;
    uint8_t *bytes = state_of(_i ? 1 : 0, ENGINE_RAM_APART, &len);

    er_close();
    er_go(_i ? 1 : 0, ENGINE_RIG_RAM);
    ck_assert_int_eq(engine_receive(er.e, &er.err), 0);
    for (size_t at = 0; at < len; at += 509) {
        ck_assert_int_lt(check_bytes(bytes, at, ENGINE_RAM_APART), 0);
        bytes[at] ^= 0x10;
        ck_assert_int_lt(check_bytes(bytes, len, ENGINE_RAM_APART), 0);
        ck_assert_ptr_nonnull(strstr(er.err.text, "refused"));
        bytes[at] ^= 0x10;
    }
    ck_assert_int_eq(engine_start(er.e, 9, "test"), RUN_DONE);
    ck_assert(er_wait(RUN_ENDED));
    free(bytes);
}
END_TEST

/* What KVM does not take is known before anybody relies on it. */
START_TEST(kvm_refuses)
{
    size_t len;
    uint8_t *bytes = state_of(_i ? 1 : 0, ENGINE_RAM_APART, &len);

    er_close();
    er_go(_i ? 1 : 0, ENGINE_RIG_RAM);
    fake_vm.refuse_part = KVM_PART_SREGS;
    ck_assert_int_lt(check_bytes(bytes, len, ENGINE_RAM_APART), 0);
    ck_assert_ptr_nonnull(strstr(er.err.text, "refused"));
    fake_vm.refuse_part = -1;
    ck_assert_int_eq(check_bytes(bytes, len, ENGINE_RAM_APART), 0);
    free(bytes);
}
END_TEST

START_TEST(only_then)
{
    struct engine_saved saved;
    int fd;

    er_go(0, ENGINE_RIG_RAM);
    fd = engine_state_fd(er.e);
    ck_assert_int_eq(engine_save_wait(er.e, fd, "x", ENGINE_RAM_APART, &saved), -EINVAL);
    ck_assert_int_lt(engine_state_check(er.e, fd, "x", ENGINE_RAM_APART, &er.err), 0);
    er_start(1);
    ck_assert_int_eq(engine_save_wait(er.e, fd, "x", ENGINE_RAM_APART, &saved), -EINVAL);
    ck_assert_int_eq(engine_state_check(er.e, fd, "x", ENGINE_RAM_APART, &er.err),
                     -EINVAL);
    ck_assert_ptr_nonnull(strstr(er.err.text, "has not run"));
}
END_TEST

static _Atomic bool asking;

static void *asks(void *arg)
{
    struct engine_saved saved;
    int *r = arg;

    while (atomic_load(&asking)) {
        *r = engine_save_wait(er.e, engine_state_fd(er.e), "x", ENGINE_RAM_APART, &saved);
        ck_assert(*r == 0 || *r == -EINVAL || *r == -EINTR);
    }
    return NULL;
}

/* Whoever waits is answered, whatever the VM does meanwhile. */
START_TEST(answered_at_the_end)
{
    pthread_t thread;
    int r = 0;

    for (int i = 0; i < 20; i++) {
        er_go(_i ? 2 : 0, ENGINE_RIG_RAM);
        er_start(1);
        er_freeze();
        atomic_store(&asking, true);
        ck_assert_int_eq(pthread_create(&thread, NULL, asks, &r), 0);
        er_sleep_ms((unsigned)i % 3);
        ck_assert_int_eq(engine_end(er.e, RUN_END_KILLED, "test"), RUN_DONE);
        ck_assert(er_wait(RUN_ENDED));
        atomic_store(&asking, false);
        pthread_join(thread, NULL);
        er_close();
    }
}
END_TEST

/* Freezing
 * ------------------------------------------------------------------------------------ */

START_TEST(freeze_flushes)
{
    er_go(machine_cpus[_i], ENGINE_RIG_RAM);
    er_start(1);
    ck_assert_uint_eq(atomic_load(&flushes), 0);
    ck_assert_int_eq(engine_freeze_try(er.e, "test"), RUN_DONE);
    ck_assert_int_eq(engine_freeze_wait(er.e, 5000, &er.err), 0);
    ck_assert_uint_eq(atomic_load(&flushes), 1);
    ck_assert_int_eq(engine_freeze_undo(er.e, "test"), RUN_BAD_STATE); /* too late */
    ck_assert_int_eq(engine_thaw(er.e, 1, "test"), RUN_OLD_EPOCH);
    ck_assert_int_eq(engine_thaw(er.e, 2, "test"), RUN_DONE);
    ck_assert(er_wait(RUN_RUNNING));
    ck_assert_int_eq(engine_freeze_wait(er.e, 10, &er.err), -EINVAL);
}
END_TEST

START_TEST(hung_disk)
{
    struct engine_status s;
    unsigned runs;

    er_go(machine_cpus[_i], ENGINE_RIG_RAM);
    er_start(7);
    atomic_store(&hung, true);
    ck_assert_int_eq(engine_freeze_try(er.e, "test"), RUN_DONE);
    ck_assert_int_eq(engine_freeze_wait(er.e, 30, &er.err), -ETIMEDOUT);
    ck_assert_msg(strstr(er.err.text, er.disk_path) != NULL, "%s", er.err.text);
    ck_assert_uint_eq(atomic_load(&fake_guest.inside), 0);
    runs = atomic_load(&fake_guest.runs);
    ck_assert_int_eq(engine_freeze_undo(er.e, "its disk does not answer"), RUN_DONE);
    ck_assert(er_runs_grow(runs));
    engine_status(er.e, &s);
    ck_assert_int_eq(s.state, RUN_RUNNING);
    ck_assert_uint_eq(s.epoch, 7);
    atomic_store(&hung, false);
    er_freeze();
}
END_TEST

/* Somebody who may rely on it has asked as well: it stays. */
START_TEST(hung_disk_and_a_real_freeze)
{
    er_go(machine_cpus[_i], ENGINE_RIG_RAM);
    er_start(1);
    atomic_store(&hung, true);
    ck_assert_int_eq(engine_freeze_try(er.e, "test"), RUN_DONE);
    ck_assert_int_eq(engine_freeze(er.e, "the agent"), RUN_ALREADY);
    ck_assert_int_eq(engine_freeze_undo(er.e, "test"), RUN_BAD_STATE);
    atomic_store(&hung, false);
    engine_serial_in_ready(er.e);
    ck_assert_int_eq(engine_freeze_wait(er.e, 5000, &er.err), 0);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("engine_work");
    TCase *t = tcase_create("work");
    int n = ARRAY_SIZE(machine_cpus);

    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_loop_test(t, two_steps, 0, n);
    tcase_add_loop_test(t, one_is_not_the_other, 0, n);
    tcase_add_loop_test(t, damaged, 0, 2);
    tcase_add_loop_test(t, kvm_refuses, 0, 2);
    tcase_add_test(t, only_then);
    tcase_add_loop_test(t, answered_at_the_end, 0, 2);
    tcase_add_loop_test(t, freeze_flushes, 0, n);
    tcase_add_loop_test(t, hung_disk, 0, n);
    tcase_add_loop_test(t, hung_disk_and_a_real_freeze, 0, n);
    suite_add_tcase(s, t);
    return s;
}

UNIT_MAIN(suite)
