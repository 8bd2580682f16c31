/* SPDX-License-Identifier: Apache-2.0 */
/* The watchdog, driven as drivers/watchdog/i6300esb.c does it and as it should not be. */
#include "vmm/dev_i6300esb.h"

#include <string.h>

#include "tests/unit/unit.h"
#include "tests/unit/vmm/machine_rig.h"

#define DEV  1 /* no virtio before it */
#define MSEC UINT64_C(1000000)
#define BAR  BOARD_PCI_WATCHDOG_BAR0

static struct rig rig;

static void setup(void)
{
    const struct machine_conf conf = {.type = MACHINE_STANDARD,
                                      .transport = MACHINE_TRANSPORT_PCI,
                                      .ram_len = RIG_RAM_LEN};

    rig_init(&rig, &conf);
}

static void teardown(void)
{
    rig_free(&rig);
}

static void unlock(void)
{
    rig_mmio_out(&rig, BAR + ESB_RELOAD, 2, ESB_UNLOCK1);
    rig_mmio_out(&rig, BAR + ESB_RELOAD, 2, ESB_UNLOCK2);
}

static void unlocked(unsigned reg, unsigned len, uint32_t value)
{
    unlock();
    rig_mmio_out(&rig, BAR + reg, len, value);
}

static void keepalive(void)
{
    unlocked(ESB_RELOAD, 2, ESB_RELOAD_NOW);
}

/* Both stages take `ticks`; of 32768 x 30 ns each. */
static void start(uint32_t ticks, unsigned lock)
{
    rig_pci_out(&rig, DEV, ESB_REG_CONFIG, 2, 0x0003);
    rig_pci_out(&rig, DEV, ESB_REG_LOCK, 1, 0);
    unlocked(ESB_TIMER1, 4, ticks);
    unlocked(ESB_TIMER2, 4, ticks);
    rig_pci_out(&rig, DEV, ESB_REG_LOCK, 1, ESB_LOCK_ENABLE | lock);
}

static uint64_t ticks_ns(uint64_t ticks)
{
    return (ticks << 15) * 30;
}

static bool timed_out(void)
{
    uint64_t value = rig_mmio_in(&rig, BAR + ESB_RELOAD, 2);

    ck_assert(value == 0 || value == 0x1200); /* the bit, and where Linux looks for it */
    return value != 0;
}

START_TEST(two_stages_then_reset)
{
    rig.now_ns = 5 * MSEC;
    start(512, 0);
    ck_assert_uint_eq(machine_next_wake_ns(rig.m), 5 * MSEC + ticks_ns(512));
    rig_clock(&rig, 5 * MSEC + ticks_ns(512) - 1);
    ck_assert_uint_eq(rig_mmio_in(&rig, BAR + ESB_INTERRUPT, 2), 0);
    rig_clock(&rig, 5 * MSEC + ticks_ns(512));
    ck_assert_uint_eq(rig_mmio_in(&rig, BAR + ESB_INTERRUPT, 2), 1);
    ck_assert_uint_eq(rig.resets, 0);
    rig_clock(&rig, 5 * MSEC + ticks_ns(1024) - 1);
    ck_assert_uint_eq(rig.resets, 0);
    rig_clock(&rig, 5 * MSEC + ticks_ns(1024));
    ck_assert_uint_eq(rig.resets, 1);
    ck_assert_uint_eq(rig.bites, 1);
    ck_assert_uint_eq(machine_next_wake_ns(rig.m), UINT64_MAX);
    machine_reset(rig.m);
    ck_assert(timed_out());
    machine_reset(rig.m);
    ck_assert(timed_out());
    rig_mmio_out(&rig, BAR + ESB_RELOAD, 2, ESB_TIMED_OUT); /* locked */
    ck_assert(timed_out());
    unlocked(ESB_RELOAD, 2, ESB_TIMED_OUT);
    ck_assert(!timed_out());
}
END_TEST

START_TEST(fed_in_time)
{
    start(100, 0);
    for (unsigned i = 1; i < 50; i++) {
        rig_clock(&rig, i * ticks_ns(150)); /* in the second stage */
        keepalive();
        ck_assert_uint_eq(machine_next_wake_ns(rig.m), i * ticks_ns(150) + ticks_ns(100));
    }
    ck_assert_uint_eq(rig.resets, 0);
    rig_pci_out(&rig, DEV, ESB_REG_LOCK, 1, 0);
    ck_assert_uint_eq(machine_next_wake_ns(rig.m), UINT64_MAX);
    keepalive(); /* does not start it */
    ck_assert_uint_eq(machine_next_wake_ns(rig.m), UINT64_MAX);
}
END_TEST

/* A host that stood still for an hour is not the guest's fault. */
START_TEST(late_wake_up_gives_a_whole_stage)
{
    start(100, 0);
    rig_clock(&rig, 3600 * 1000 * MSEC);
    ck_assert_uint_eq(rig.resets, 0);
    ck_assert_uint_eq(machine_next_wake_ns(rig.m), 3600 * 1000 * MSEC + ticks_ns(100));
}
END_TEST

START_TEST(locked_until_reset)
{
    start(100, ESB_LOCK_LOCKED);
    for (unsigned value = 0; value < 256; value++) {
        rig_pci_out(&rig, DEV, ESB_REG_LOCK, 1, value);
        rig_pci_out(&rig, DEV, ESB_REG_LOCK, 4, value);
        ck_assert_uint_eq(rig_pci_in(&rig, DEV, ESB_REG_LOCK, 1), 3);
    }
    machine_reset(rig.m);
    ck_assert_uint_eq(rig_pci_in(&rig, DEV, ESB_REG_LOCK, 1), 0);
    ck_assert_uint_eq(machine_next_wake_ns(rig.m), UINT64_MAX);
}
END_TEST

START_TEST(free_running_and_no_reset)
{
    rig_pci_out(&rig, DEV, ESB_REG_CONFIG, 2, ESB_CONFIG_NO_RST | ESB_CONFIG_FAST);
    unlocked(ESB_TIMER1, 4, 10);
    unlocked(ESB_TIMER2, 4, 20);
    rig_pci_out(&rig, DEV, ESB_REG_LOCK, 1, ESB_LOCK_ENABLE | ESB_LOCK_FREE);
    ck_assert_uint_eq(machine_next_wake_ns(rig.m), 10 * 32 * 30);
    for (unsigned i = 0; i < 10; i++) {
        uint64_t now = machine_next_wake_ns(rig.m);

        rig_clock(&rig, now);
        ck_assert_uint_eq(machine_next_wake_ns(rig.m) - now,
                          (i % 2 == 0 ? 20 : 10) * 32 * 30);
    }
    ck_assert_uint_eq(rig.resets, 0);
    ck_assert(!timed_out());
}
END_TEST

/* Timers take a value only right after the whole sequence. */
START_TEST(every_other_sequence_is_ignored)
{
    static const uint16_t word[] = {ESB_UNLOCK1, ESB_UNLOCK2, 0, 0x100, 0xFFFF};

    for (unsigned n = 0; n < 5 * 5 * 5; n++) {
        unsigned w[3] = {n % 5, n / 5 % 5, n / 25};

        machine_reset(rig.m);
        for (unsigned i = 0; i < 3; i++) {
            rig_mmio_out(&rig, BAR + ESB_RELOAD, 2, word[w[i]]);
        }
        rig_mmio_out(&rig, BAR + ESB_TIMER1, 4, 0x12345);
        ck_assert_uint_eq(rig_mmio_in(&rig, BAR + ESB_TIMER1, 4),
                          w[1] == 0 && w[2] == 1 ? 0x12345 : 0xFFFFF);
    }
    unlocked(ESB_TIMER1, 4, UINT32_MAX);
    ck_assert_uint_eq(rig_mmio_in(&rig, BAR + ESB_TIMER1, 4), 0xFFFFF);
    unlocked(ESB_TIMER1, 2, 5);
    ck_assert_uint_eq(rig_mmio_in(&rig, BAR + ESB_TIMER1, 4), 0xFFFFF);
}
END_TEST

static void save_load_save(void)
{
    uint8_t *first, *second;
    size_t len = rig_save(&rig, &first);
    struct state_io io;

    rig_renew(&rig);
    ck_assert_int_eq(rig_load(&rig, first, len, &io), 0);
    ck_assert_uint_eq(rig_save(&rig, &second), len);
    ck_assert_mem_eq(first, second, len);
    free(first);
    free(second);
}

START_TEST(every_register_and_state_comes_back)
{
    start(100, ESB_LOCK_FREE);
    for (unsigned offset = 0; offset < ESB_BAR_SIZE; offset++) {
        for (unsigned len = 1; len <= 8; len *= 2) {
            static const uint64_t value[] = {0, 1, 0x80, 0x86, 0x300, UINT64_MAX};

            for (size_t v = 0; v < ARRAY_SIZE(value); v++) {
                rig_mmio_out(&rig, BAR + offset, len, value[v]);
                rig_mmio_in(&rig, BAR + offset, len);
            }
        }
        rig_clock(&rig, rig.now_ns + ticks_ns(30));
        save_load_save();
    }
    unlock(); /* in the middle of the sequence, and running */
    save_load_save();
    rig_mmio_out(&rig, BAR + ESB_TIMER1, 4, 7);
    ck_assert_uint_eq(rig_mmio_in(&rig, BAR + ESB_TIMER1, 4), 7);
    start(100, 0);
    rig_clock(&rig, rig.now_ns + ticks_ns(110));
    save_load_save();
    rig.bites = 0;
    rig_clock(&rig, rig.now_ns + ticks_ns(100));
    ck_assert_uint_eq(rig.bites, 1);
}
END_TEST

static Suite *i6300esb_suite(void)
{
    Suite *suite = suite_create("i6300esb");
    TCase *tc = tcase_create("i6300esb");

    tcase_set_timeout(tc, 60);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, two_stages_then_reset);
    tcase_add_test(tc, fed_in_time);
    tcase_add_test(tc, late_wake_up_gives_a_whole_stage);
    tcase_add_test(tc, locked_until_reset);
    tcase_add_test(tc, free_running_and_no_reset);
    tcase_add_test(tc, every_other_sequence_is_ignored);
    tcase_add_test(tc, every_register_and_state_comes_back);
    suite_add_tcase(suite, tc);
    return suite;
}

UNIT_MAIN(i6300esb_suite)
