/* SPDX-License-Identifier: Apache-2.0 */
/* vmm/engine_smp with 4 vCPUs that are threads only: whatever is asked of it, in whatever
 * order, none waits for ever, and nobody is in the guest when it must not be. Under TSan
 * too. */
#include <string.h>

#include "base/loop.h"
#include "base/units.h"
#include "tests/unit/unit.h"
#include "tests/unit/vmm/engine_rig.h"
#include "vmm/board.h"
#include "vmm/dev_vpci.h"
#include "vmm/engine_priv.h"

#define CPUS 4

static void setup(void)
{
    er_setup();
    er_go(CPUS, ENGINE_RIG_RAM);
}

static void all_inside(void)
{
    for (int i = 0; i < 1000 && atomic_load(&fake_guest.inside) < CPUS; i++) {
        er_sleep_ms(2);
    }
    ck_assert_uint_eq(atomic_load(&fake_guest.inside), CPUS);
}

static void stands_still(void)
{
    unsigned runs = atomic_load(&fake_guest.runs);

    ck_assert_uint_eq(atomic_load(&fake_guest.inside), 0);
    er_sleep_ms(30);
    ck_assert_uint_eq(atomic_load(&fake_guest.runs), runs);
}

START_TEST(nothing_runs_before_start)
{
    er_sleep_ms(30);
    ck_assert_uint_eq(atomic_load(&fake_guest.runs), 0);
    er_start(1);
    all_inside();
}
END_TEST

START_TEST(freeze_stops_all)
{
    unsigned runs;

    er_start(1);
    all_inside();
    er_freeze();
    stands_still();
    ck_assert_int_eq(engine_thaw(er.e, 1, "test"), RUN_OLD_EPOCH);
    stands_still();
    runs = atomic_load(&fake_guest.runs);
    ck_assert_int_eq(engine_thaw(er.e, 2, "test"), RUN_DONE);
    ck_assert(er_wait(RUN_RUNNING));
    ck_assert(er_runs_grow(runs));
    all_inside();
}
END_TEST

/* The guest's own clock goes on while it stands still, by as much as the host's did. */
START_TEST(clock_goes_on)
{
    const uint64_t ms = NSEC_PER_SEC / 1000;
    uint64_t before;
    unsigned runs;

    atomic_store(&fake_guest.computes, true);
    er_go(2, ENGINE_RIG_RAM);
    er_start(1);
    ck_assert(er_runs_grow(1));
    er_freeze();
    before = fake_vm.clock.clock;
    runs = atomic_load(&fake_guest.runs);
    er_sleep_ms(300);
    ck_assert_int_eq(engine_thaw(er.e, 2, "test"), RUN_DONE);
    ck_assert(er_runs_grow(runs));
    er_freeze();
    ck_assert_uint_ge(fake_vm.clock.clock - before, 299 * ms);
    ck_assert_uint_lt(fake_vm.clock.clock - before, 20000 * ms);
}
END_TEST

START_TEST(lease_freezes_all)
{
    uint64_t begin = loop_now_ns(), took_ms;

    ck_assert(engine_lease(er.e, 200, 0));
    er_start(1);
    ck_assert(er_wait(RUN_FROZEN));
    took_ms = (loop_now_ns() - begin) / NSEC_PER_MSEC;
    ck_assert_uint_ge(took_ms, 200);
    ck_assert_uint_lt(took_ms, 2000);
    stands_still();
    ck_assert_int_eq(engine_thaw(er.e, 2, "test"), RUN_LEASE_LOST);
}
END_TEST

/* Renewed in time it goes on, through thousands of exits. */
START_TEST(renewed_leases_keep_it_running)
{
    atomic_store(&fake_guest.chatters, true);
    ck_assert(engine_lease(er.e, 1000, 0));
    er_start(1);
    for (int i = 0; i < 30; i++) {
        struct engine_status s;

        er_sleep_ms(10);
        ck_assert(engine_lease(er.e, 1000, 0));
        engine_status(er.e, &s);
        ck_assert_int_eq(s.state, RUN_RUNNING);
    }
}
END_TEST

START_TEST(many_freezes)
{
    uint64_t epoch = 1;

    er_start(epoch);
    for (unsigned i = 0; i < 200; i++) {
        atomic_store(&fake_guest.chatters, i % 3 == 0);
        atomic_store(&fake_guest.wants_reset, i % 5 == 0);
        (void)byte_ring_put(engine_serial_in(er.e), "keys", 4);
        engine_serial_in_ready(er.e);
        (void)engine_power_button(er.e);
        if (i % 2) {
            (void)engine_reset(er.e);
        }
        ck_assert(engine_lease(er.e, 10000, 0));
        er_freeze();
        ck_assert_uint_eq(atomic_load(&fake_guest.inside), 0);
        ck_assert_int_eq(engine_thaw(er.e, ++epoch, "test"), RUN_DONE);
        ck_assert(er_wait(RUN_RUNNING));
    }
}
END_TEST

/* Queues
 * ------------------------------------------------------------------------------------ */

#define DESC  0x10000u
#define AVAIL 0x11000u
#define USED  0x12000u
#define DATA  0x13000u

static void mmio(uint64_t addr, unsigned len, uint64_t value)
{
    machine_mmio(er.e->machine, (struct gpa){addr}, true, len, &value);
}

static void put(unsigned at, uint64_t value, unsigned len)
{
    memcpy(fake_vm.ram + at, &value, len);
}

/* The disk's queue with one request for its name, of which no doorbell tells. */
static void ask_quietly(void)
{
    static const struct {
        unsigned reg, len;
        uint32_t value;
    } set[] = {{VPCI_STATUS, 1, 0},
               {VPCI_STATUS, 1, 3},
               {VPCI_DRIVER_FEATURE_SELECT, 4, 1},
               {VPCI_DRIVER_FEATURE, 4, 1},
               {VPCI_STATUS, 1, 11},
               {VPCI_QUEUE_SIZE, 2, 4},
               {VPCI_QUEUE_DESC, 4, DESC},
               {VPCI_QUEUE_DRIVER, 4, AVAIL},
               {VPCI_QUEUE_DEVICE, 4, USED},
               {VPCI_QUEUE_ENABLE, 2, 1},
               {VPCI_STATUS, 1, 15}};

    mmio(BOARD_ECAM_BASE + (BOARD_PCI_VIRTIO_DEV(0) << 15) + 4, 2, 6);
    for (size_t i = 0; i < ARRAY_SIZE(set); i++) {
        mmio(BOARD_PCI_VIRTIO_BAR4(0) + set[i].reg, set[i].len, set[i].value);
    }
    put(DATA, 8, 8); /* GET_ID */
    put(DESC, DATA, 8);
    put(DESC + 8, 16 | UINT64_C(1) << 32 | UINT64_C(1) << 48, 8);
    put(DESC + 16, DATA + 64, 8);
    put(DESC + 24, 21 | UINT64_C(2) << 32, 8);
    put(AVAIL + 2, 1, 2);
}

static uint16_t used_count(void)
{
    uint16_t count;

    memcpy(&count, fake_vm.ram + USED + 2, 2);
    return count;
}

/* A doorbell that rang when the vCPUs were stopped already, here or on the host that the
 * VM comes from, was heard by nobody. */
START_TEST(queues_are_looked_at_when_it_runs_on)
{
    er_close();
    er.transport = MACHINE_TRANSPORT_PCI;
    er_go(CPUS, ENGINE_RIG_RAM);
    er_start(1);
    er_freeze();
    ask_quietly();
    er_sleep_ms(20);
    ck_assert_uint_eq(used_count(), 0);
    ck_assert_int_eq(engine_thaw(er.e, 2, "test"), RUN_DONE);
    for (int i = 0; i < 1000 && used_count() == 0; i++) {
        er_sleep_ms(2);
    }
    ck_assert_uint_eq(used_count(), 1);
}
END_TEST

/* A reset asked for by any vCPU, by the operator, by both at once. */
START_TEST(many_resets)
{
    er_start(1);
    fake_kvm_scramble(7);
    for (unsigned i = 0; i < 100; i++) {
        atomic_store(&fake_guest.wants_reset, true);
        if (i % 2) {
            ck_assert(engine_reset(er.e));
        }
        for (int k = 0; k < 1000 && atomic_load(&fake_guest.wants_reset); k++) {
            er_sleep_ms(1);
        }
        ck_assert(!atomic_load(&fake_guest.wants_reset));
    }
    all_inside();
    er_freeze();
    for (unsigned i = 0; i < CPUS; i++) { /* as made, which here is zeros */
        ck_assert_uint_eq(fake_vm.vcpu[i].state.regs.rax, 0);
        ck_assert_uint_eq(fake_vm.irqchip.chip[2].chip.dummy[i], 0);
    }
}
END_TEST

/* XSS of a guest without XSAVES, Linux 6.12 and later. */
START_TEST(an_msr_that_can_only_be_read)
{
    er_close();
    fake_host.no_msr = 0xDA0;
    er_go(CPUS, ENGINE_RIG_RAM);
    er_start(1);
    ck_assert(engine_reset(er.e));
    for (int k = 0; k < 1000 && !engine_take_reset(er.e); k++) {
        er_sleep_ms(1);
    }
    all_inside();
    fake_host.no_msr = 0;
}
END_TEST

START_TEST(killed_at_any_time)
{
    for (unsigned i = 0; i < 30; i++) {
        struct engine_status s;

        atomic_store(&fake_guest.chatters, i % 2);
        er_start(1);
        if (i % 3 == 0) {
            (void)engine_reset(er.e);
        }
        if (i % 4 == 0) {
            (void)engine_freeze(er.e, "test");
        }
        ck_assert_int_eq(engine_end(er.e, RUN_END_KILLED, "test"), RUN_DONE);
        ck_assert(er_wait(RUN_ENDED));
        ck_assert_uint_eq(atomic_load(&fake_guest.inside), 0);
        engine_status(er.e, &s);
        ck_assert_int_eq(s.end, RUN_END_KILLED);
        er_close();
        er_go(1 + i % CPUS, ENGINE_RIG_RAM);
    }
}
END_TEST

START_TEST(one_that_fails_ends_all)
{
    struct engine_status s;

    er_start(1);
    all_inside();
    atomic_store(&fake_guest.fail, KVM_EXIT_FAIL_ENTRY);
    atomic_store(&fake_guest.wants_reset, true); /* makes one come round */
    atomic_store(&fake_guest.chatters, true);
    ck_assert(er_wait(RUN_ENDED));
    engine_status(er.e, &s);
    ck_assert_int_eq(s.end, RUN_END_CRASH);
    ck_assert_ptr_nonnull(strstr(s.reason, "refused to enter"));
    ck_assert_uint_eq(atomic_load(&fake_guest.inside), 0);
}
END_TEST

START_TEST(triple_faults_end)
{
    struct engine_status s;

    atomic_store(&fake_guest.fail, KVM_EXIT_SHUTDOWN);
    ck_assert_int_eq(engine_start(er.e, 1, "test"), RUN_DONE);
    ck_assert(er_wait(RUN_ENDED));
    engine_status(er.e, &s);
    ck_assert_int_eq(s.end, RUN_END_CRASH);
    ck_assert_str_eq(engine_take_reset(er.e), "its processor shut down (triple fault)");
    ck_assert_ptr_null(engine_take_reset(er.e));
}
END_TEST

START_TEST(sixty_four)
{
    er_close();
    er_go(ENGINE_CPUS_MAX, ENGINE_RIG_RAM);
    er_start(1);
    for (uint64_t epoch = 2; epoch < 20; epoch++) {
        er_freeze();
        ck_assert_uint_eq(atomic_load(&fake_guest.inside), 0);
        ck_assert_int_eq(engine_thaw(er.e, epoch, "test"), RUN_DONE);
        ck_assert(er_wait(RUN_RUNNING));
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("engine_smp");
    TCase *t = tcase_create("engine_smp");

    tcase_set_timeout(t, 60); /* what hangs fails */
    tcase_add_checked_fixture(t, setup, er_teardown);
    tcase_add_test(t, nothing_runs_before_start);
    tcase_add_test(t, freeze_stops_all);
    tcase_add_test(t, clock_goes_on);
    tcase_add_test(t, lease_freezes_all);
    tcase_add_test(t, renewed_leases_keep_it_running);
    tcase_add_test(t, many_freezes);
    tcase_add_test(t, queues_are_looked_at_when_it_runs_on);
    tcase_add_test(t, many_resets);
    tcase_add_test(t, an_msr_that_can_only_be_read);
    tcase_add_test(t, killed_at_any_time);
    tcase_add_test(t, one_that_fails_ends_all);
    tcase_add_test(t, triple_faults_end);
    tcase_add_test(t, sixty_four);
    suite_add_tcase(s, t);
    return s;
}

UNIT_MAIN(suite)
