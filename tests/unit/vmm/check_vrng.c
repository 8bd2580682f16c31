/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-rng: what is asked for, what is filled, late and unasked entropy, wrong chains,
 * save and load. */
#include "vmm/dev_vrng.h"

#include <stdlib.h>
#include <string.h>

#include "tests/unit/unit.h"
#include "tests/unit/vmm/machine_rig.h"

#define BUFFERS 0x8000

static struct rig rig;
static struct rig_ring ring;
static const uint8_t noise[ENTROPY_MAX + 1] = {1, 2, 3, 4, 5, 6, 7, 8, 9};

static void setup(void)
{
    const struct machine_conf conf = {.type = MACHINE_STANDARD,
                                      .ram_len = RIG_RAM_LEN,
                                      .extras = 1u << MACHINE_EXTRA_RNG};

    rig_init(&rig, &conf);
    rig_virtio_start(&rig, 0, VIRTIO_F_VERSION_1, &ring, 1, 0x1000);
}

static void teardown(void)
{
    rig_free(&rig);
}

static int give(uint32_t len)
{
    return machine_input(
        rig.m, machine_extra_dev(rig.m, MACHINE_EXTRA_RNG),
        &(struct dev_input){.type = INPUT_ENTROPY, .data = noise, .len = len});
}

static void offer(uint16_t head, uint64_t addr, uint32_t len, uint16_t flags)
{
    rig_desc(&rig, &ring, head, addr, len, flags, 0);
    rig_offer(&rig, &ring, head);
}

static bool broken(void)
{
    return (rig_vreg_in(&rig, 0, VMMIO_STATUS) & VIRTIO_STATUS_NEEDS_RESET) != 0;
}

START_TEST(asks_and_fills)
{
    uint32_t id, len;

    ck_assert_uint_eq(rig_vreg_in(&rig, 0, VMMIO_DEVICE_ID), VIRTIO_ID_RNG);
    offer(3, BUFFERS, 64, 2);
    ck_assert_uint_eq(rig.entropy_wanted, 0);
    rig_notify(&rig, &ring);
    ck_assert_uint_eq(rig.entropy_wanted, 64);
    ck_assert_int_eq(give(64), 0);
    ck_assert(rig_used(&rig, &ring, &id, &len));
    ck_assert_uint_eq(id, 3);
    ck_assert_uint_eq(len, 64);
    ck_assert_mem_eq(rig.ram + BUFFERS, noise, 64);
    ck_assert_uint_eq(rig_vreg_in(&rig, 0, VMMIO_INTERRUPT_STATUS), VIRTIO_IRQ_USED);
}
END_TEST

START_TEST(large_and_small_buffers)
{
    uint32_t id, len;

    offer(0, BUFFERS, 4096, 2);
    offer(1, BUFFERS + 0x1000, 5, 2);
    rig_notify(&rig, &ring);
    ck_assert_uint_eq(rig.entropy_wanted, ENTROPY_MAX);
    rig.entropy_wanted = 0;
    ck_assert_int_eq(give(ENTROPY_MAX), 0);
    ck_assert(rig_used(&rig, &ring, &id, &len));
    ck_assert_uint_eq(len, ENTROPY_MAX);
    ck_assert_uint_eq(rig.entropy_wanted, 5); /* the next one, unasked */
    ck_assert_int_eq(give(ENTROPY_MAX), 0);   /* more than was asked for */
    ck_assert(rig_used(&rig, &ring, &id, &len));
    ck_assert_uint_eq(len, 5);
    ck_assert_uint_eq(rig.ram[BUFFERS + 0x1000 + 5], 0);
}
END_TEST

START_TEST(unasked_entropy_is_ignored)
{
    uint32_t id, len;

    ck_assert_int_eq(give(8), 0);
    ck_assert_int_eq(give(0), 0);
    ck_assert_int_eq(give(ENTROPY_MAX + 1), -22);
    ck_assert(!broken());
    offer(0, BUFFERS, 64, 2);
    rig_notify(&rig, &ring);
    rig_vreg_out(&rig, 0, VMMIO_STATUS, 0);
    ck_assert_int_eq(give(8), 0); /* after the driver's reset */
    ck_assert(!rig_used(&rig, &ring, &id, &len));
    ck_assert_uint_eq(rig.ram[BUFFERS], 0);
}
END_TEST

START_TEST(wrong_chains)
{
    static const struct {
        uint64_t addr;
        uint32_t len;
        uint16_t flags;
    } wrong[] = {
        {BUFFERS, 64, 0}, /* for reading */
        {BUFFERS, 0, 2},          {RIG_RAM_LEN - 32, 64, 2}, {UINT64_MAX - 8, 64, 2},
        {BUFFERS, UINT32_MAX, 2}, {BUFFERS, 64, 3}, /* a loop */
        {BUFFERS, 64, 2 | 4},                       /* indirect, not offered */
    };

    offer(0, wrong[_i].addr, wrong[_i].len, wrong[_i].flags);
    rig_notify(&rig, &ring);
    ck_assert(broken());
    ck_assert_uint_eq(rig.entropy_wanted, 0);
    ck_assert_int_eq(give(8), 0);
    rig_virtio_start(&rig, 0, VIRTIO_F_VERSION_1, &ring, 1, 0x1000);
    ck_assert(!broken());
    offer(0, BUFFERS, 8, 2); /* a chain that turns bad after it was looked at */
    rig_notify(&rig, &ring);
    rig_desc(&rig, &ring, 0, wrong[_i].addr, wrong[_i].len, wrong[_i].flags, 0);
    ck_assert_int_eq(give(8), 0);
    ck_assert(broken());
}
END_TEST

START_TEST(registers)
{
    for (unsigned offset = 0x100; offset < 0x200; offset += 4) { /* no configuration */
        rig_vreg_out(&rig, 0, offset, UINT32_MAX);
        ck_assert_uint_eq(rig_vreg_in(&rig, 0, offset), 0);
    }
    rig_vreg_out(&rig, 0, VMMIO_QUEUE_SEL, 1);
    ck_assert_uint_eq(rig_vreg_in(&rig, 0, VMMIO_QUEUE_NUM_MAX), 0);
}
END_TEST

START_TEST(no_capability_for_no_configuration)
{
    struct machine_conf conf = rig.conf;

    rig_free(&rig);
    conf.transport = MACHINE_TRANSPORT_PCI;
    rig_init(&rig, &conf);
    ck_assert_uint_eq(rig_pci_in(&rig, 1, 0, 4), 0x10441AF4);
    ck_assert_uint_eq(rig_pci_cap(&rig, 1, PCI_CAP_VENDOR, VPCI_CAP_DEVICE), 0);
    ck_assert_uint_ne(rig_pci_cap(&rig, 1, PCI_CAP_VENDOR, VPCI_CAP_COMMON), 0);
}
END_TEST

START_TEST(save_load_save)
{
    uint8_t *first, *second;
    size_t len, again;
    struct state_io io;
    uint32_t id, written;

    offer(2, BUFFERS, 32, 2);
    rig_notify(&rig, &ring);
    len = rig_save(&rig, &first);
    rig_renew(&rig);
    ck_assert_int_eq(rig_load(&rig, first, len, &io), 0);
    again = rig_save(&rig, &second);
    ck_assert_uint_eq(again, len);
    ck_assert_mem_eq(first, second, len);
    ck_assert_int_eq(give(32), 0); /* asked for before the save */
    ck_assert(rig_used(&rig, &ring, &id, &written));
    ck_assert_uint_eq(id, 2);
    free(first);
    free(second);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("vrng");
    TCase *t = tcase_create("vrng");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, asks_and_fills);
    tcase_add_test(t, large_and_small_buffers);
    tcase_add_test(t, unasked_entropy_is_ignored);
    tcase_add_loop_test(t, wrong_chains, 0, 7);
    tcase_add_test(t, registers);
    tcase_add_test(t, no_capability_for_no_configuration);
    tcase_add_test(t, save_load_save);
    suite_add_tcase(s, t);
    return s;
}

UNIT_MAIN(suite)
