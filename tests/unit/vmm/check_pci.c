/* SPDX-License-Identifier: Apache-2.0 */
/* Configuration space: who is on the bus, every register in every width by both ways,
 * BARs as kernels probe and move them. */
#include "tests/unit/vmm/machine_rig.h"

#include <string.h>

#include "tests/unit/unit.h"
#include "vmm/dev_i6300esb.h"

static struct rig rig;
static struct rig_ring ring[2];

static const struct machine_conf standard = {
    .type = MACHINE_STANDARD,
    .transport = MACHINE_TRANSPORT_PCI,
    .cpu_count = 2,
    .ram_len = RIG_RAM_LEN,
    .disk_count = 2,
    .nic_count = 1,
    .disk = {{.sectors = RIG_SECTORS}, {.sectors = RIG_SECTORS}},
    .nic = {{.mac = {2, 0, 0, 0, 0, 1}}},
};

#define WATCHDOG  4 /* after three virtio functions */
#define DEV_COUNT 5

static void setup(void)
{
    rig_init(&rig, &standard);
}

static void teardown(void)
{
    rig_free(&rig);
}

static uint32_t ports_in(unsigned bus_dev_func, unsigned reg, unsigned len)
{
    rig_out(&rig, 0xCF8, 4, UINT32_C(1) << 31 | bus_dev_func << 8 | (reg & 0xFC));
    return (uint32_t)rig_in(&rig, (uint16_t)(0xCFC + reg % 4), len);
}

static uint32_t ones(unsigned len)
{
    return len == 4 ? UINT32_MAX : (UINT32_C(1) << 8 * len) - 1;
}

START_TEST(who_is_there)
{
    static const uint32_t ids[DEV_COUNT] = {0x29C08086, 0x10421AF4, 0x10421AF4,
                                            0x10411AF4, 0x25AB8086};
    static const uint32_t classes[DEV_COUNT] = {0x06000000, 0x01000001, 0x01000001,
                                                0x02000001, 0x08800000};

    ck_assert_uint_eq(machine_watchdog_pci_dev(rig.m), WATCHDOG);
    for (unsigned bdf = 0; bdf < 0x10000; bdf++) {
        unsigned dev = bdf >> 3;
        uint32_t id = (bdf & 7) == 0 && dev < DEV_COUNT ? ids[dev] : UINT32_MAX;

        ck_assert_uint_eq(ports_in(bdf, 0, 4), id);
        ck_assert_uint_eq(rig_mmio_in(&rig, BOARD_ECAM_BASE + (bdf << 12), 4), id);
    }
    for (unsigned dev = 0; dev < DEV_COUNT; dev++) {
        ck_assert_uint_eq(rig_pci_in(&rig, dev, 8, 4), classes[dev]);
        ck_assert_uint_eq(rig_pci_in(&rig, dev, 0x0E, 1), 0); /* one function */
        ck_assert_uint_eq(rig_pci_in(&rig, dev, 0x3D, 1), dev > 0 && dev < WATCHDOG);
    }
    ck_assert_uint_eq(rig_pci_in(&rig, 0, PCI_HOST_REG_PCIEXBAR, 4), 0xB0000001);
}
END_TEST

START_TEST(address_port)
{
    rig_out(&rig, 0xCF8, 4, UINT32_MAX);
    ck_assert_uint_eq(rig_in(&rig, 0xCF8, 4), 0x80FFFFFC);
    rig_out(&rig, 0xCF8, 4, UINT32_C(1) << 31);
    rig_out(&rig, 0xCFB, 1, 1); /* as Linux looks for configuration type 2 */
    ck_assert_uint_eq(rig_in(&rig, 0xCF8, 4), UINT32_C(1) << 31);
    for (unsigned port = 0xCF8; port < 0xCFC; port++) {
        for (unsigned len = 1; len <= 2; len++) {
            if (port == 0xCF9 && len == 1) {
                continue;
            }
            rig_out(&rig, (uint16_t)port, len, 0);
            ck_assert_uint_eq(rig_in(&rig, (uint16_t)port, len), ones(len));
        }
    }
    ck_assert_uint_eq(rig_in(&rig, 0xCF8, 4), UINT32_C(1) << 31);
    ck_assert_uint_eq(rig_in(&rig, 0xCFC, 4), 0x29C08086);
    ck_assert_uint_eq(rig_in(&rig, 0xCFE, 2), 0x29C0);
    ck_assert_uint_eq(rig_in(&rig, 0xCFF, 1), 0x29);
    ck_assert_uint_eq(rig_in(&rig, 0xCFD, 2), 0xFFFF); /* not aligned */
    rig_out(&rig, 0xCF8, 4, 0);
    ck_assert_uint_eq(rig_in(&rig, 0xCFC, 4), UINT32_MAX);
    rig_out(&rig, 0xCFC, 4, 0);
}
END_TEST

START_TEST(reset_port_among_them)
{
    rig_out(&rig, 0xCF8, 4, UINT32_C(0x80000600)); /* no byte of this is a reset */
    ck_assert_uint_eq(rig.resets, 0);
    rig_out(&rig, 0xCF9, 1, 0x02);
    ck_assert_uint_eq(rig_in(&rig, 0xCF9, 1), 0x02);
    ck_assert_uint_eq(rig.resets, 0);
    rig_out(&rig, 0xCF9, 1, 0x06);
    ck_assert_uint_eq(rig.resets, 1);
    rig_out(&rig, 0x64, 1, 0xFE);
    ck_assert_uint_eq(rig.resets, 2);
}
END_TEST

/* What a guest may change, written down here a second time. */
static uint8_t may_change(unsigned dev, unsigned reg)
{
    unsigned window = rig_pci_cap(&rig, dev, PCI_CAP_VENDOR, VPCI_CAP_PCI);
    unsigned msix = rig_pci_cap(&rig, dev, PCI_CAP_MSIX, 0);
    bool is_virtio = dev > 0 && dev < WATCHDOG;

    if (reg == 0x04 || reg == 0x05) {
        return reg == 0x04 ? 0x47 : 0x05;
    }
    if (reg == 0x0C || reg == 0x3C) {
        return 0xFF;
    }
    if (dev == 0) {
        return reg >= 0x90 && reg <= 0x96 ? 0x33 : reg == 0x9D ? 0x7F : 0;
    }
    if (dev == WATCHDOG) {
        return reg >= 0x10 && reg < 0x14 ? (reg == 0x10 ? 0xF0 : 0xFF)
               : reg == 0x60             ? 0x27
               : reg == 0x68             ? 0x07
                                         : 0;
    }
    if (is_virtio && ((reg >= 0x14 && reg < 0x18) || (reg >= 0x20 && reg < 0x28))) {
        static const uint8_t bar1[4] = {0, 0xF0, 0xFF, 0xFF};
        static const uint8_t bar4[4] = {0, 0xC0, 0xFF, 0xFF};

        return reg < 0x18 ? bar1[reg - 0x14] : reg < 0x24 ? bar4[reg - 0x20] : 0xFF;
    }
    if (reg == window + 4 || (reg >= window + 8 && reg < window + 20)) {
        return 0xFF;
    }
    return reg == msix + 3 ? 0xC0 : 0;
}

static void snapshot(unsigned dev, uint8_t config[PCI_CONFIG_LEN])
{
    for (unsigned reg = 0; reg < PCI_CONFIG_LEN; reg++) {
        config[reg] = (uint8_t)rig_pci_in(&rig, dev, reg, 1);
    }
}

START_TEST(every_register_width_and_value)
{
    static const uint64_t values[] = {0, UINT64_MAX, UINT64_C(0x5A5AA5A55A5AA5A5),
                                      UINT64_C(0x0000000100000001)};

    for (unsigned dev = 0; dev < DEV_COUNT; dev++) {
        uint8_t before[PCI_CONFIG_LEN], after[PCI_CONFIG_LEN], mask[PCI_CONFIG_LEN];

        for (unsigned reg = 0; reg < PCI_CONFIG_LEN; reg++) {
            mask[reg] = may_change(dev, reg);
        }
        for (unsigned reg = 0; reg < 0x110; reg++) {
            for (unsigned len = 1; len <= 8; len *= 2) {
                for (size_t v = 0; v < ARRAY_SIZE(values); v++) {
                    bool real = len <= 4 && reg % len == 0 && reg + len <= PCI_CONFIG_LEN;
                    uint64_t at = BOARD_ECAM_BASE + (dev << 15) + reg;

                    snapshot(dev, before);
                    rig_mmio_out(&rig, at, len, values[v]);
                    snapshot(dev, after);
                    for (unsigned i = 0; i < PCI_CONFIG_LEN; i++) {
                        uint8_t wrote = (uint8_t)(values[v] >> 8 * ((i - reg) & 7));
                        bool hit = real && i >= reg && i < reg + len;
                        uint8_t want =
                            hit ? (before[i] & (uint8_t)~mask[i]) | (wrote & mask[i])
                                : before[i];
                        /* The watchdog locks itself; the window answers what it sees. */
                        if ((dev == WATCHDOG && i == ESB_REG_LOCK) ||
                            (mask[i] == 0xFF && i >= 0x40)) {
                            continue;
                        }
                        ck_assert_msg(after[i] == want, "dev %u reg %x len %u at %x", dev,
                                      reg, len, i);
                    }
                    ck_assert(real || len == 8 ||
                              rig_pci_in(&rig, dev, reg, len) == ones(len));
                    ck_assert(reg != 0 || rig_mmio_in(&rig, at, 8) == UINT64_MAX);
                }
            }
        }
    }
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

START_TEST(states_come_back)
{
    static const unsigned regs[] = {0x04, 0x0C, 0x14, 0x20, 0x24, 0x3C, 0x60, 0x90};

    for (unsigned dev = 0; dev < DEV_COUNT; dev++) {
        for (size_t r = 0; r < ARRAY_SIZE(regs); r++) {
            rig_pci_out(&rig, dev, regs[r], 4, 0xC1234567);
            save_load_save();
        }
    }
    machine_reset(rig.m);
    save_load_save();
}
END_TEST

/* Every byte of the functions' sections that a guest may not change is checked. */
START_TEST(other_functions_are_refused)
{
    static const struct machine_conf mmio = {
        .type = MACHINE_STANDARD, .ram_len = RIG_RAM_LEN, .cpu_count = 2};
    uint8_t *state;
    size_t len = rig_save(&rig, &state);
    struct state_io io;

    for (unsigned other = 0; other < 3; other++) {
        struct machine_conf conf = standard;

        conf.cpu_count += other == 1;
        conf.nic_count -= other == 2;
        rig_free(&rig);
        rig_init(&rig, other == 0 ? &mmio : &conf);
        ck_assert_int_ne(rig_load(&rig, state, len, &io), 0);
        ck_assert_str_eq(io.refused_field, other == 0   ? "machine"
                                           : other == 1 ? "cpu_count"
                                                        : "devices");
    }
    free(state);
}
END_TEST

START_TEST(foreign_config_space_is_refused)
{
    uint8_t buf[2048];
    struct state_io io;
    struct pci_func f, other;
    const struct pci_ident ident = {.vendor = 1, .device = 2, .class = 0x020000};
    size_t len;

    pci_func_init(&f, &ident);
    pci_func_add_bar(&f, 0, 4096, false, 0xC0000000);
    pci_func_reset(&f);
    for (unsigned i = 0; i < PCI_CONFIG_LEN; i++) {
        bool fine;

        other = f;
        other.config[i] ^= 0xFF;
        state_save_init(&io, buf, sizeof buf);
        state_section_begin(&io, "f", 0, 1, 1);
        pci_func_xfer(&other, &io);
        state_section_end(&io);
        len = state_save_finish(&io);
        other = f;
        state_load_init(&io, buf, len);
        ck_assert(state_section_next(&io) && state_section_accept(&io, 1));
        pci_func_xfer(&other, &io);
        fine = f.writable[i] == 0xFF;
        ck_assert_int_eq(state_end(&io) == 0, fine);
        ck_assert(fine || memcmp(&other, &f, sizeof f) == 0);
    }
}
END_TEST

/* BARs ------------------------------------------------------------------------------ */

/* Whether the registers of a virtio function answer at an address. */
static bool answers(uint64_t at)
{
    return rig_mmio_in(&rig, at + VPCI_NUM_QUEUES, 2) < 0xFF;
}

START_TEST(bars_after_reset)
{
    for (unsigned slot = 0; slot < 3; slot++) {
        unsigned dev = BOARD_PCI_VIRTIO_DEV(slot);

        ck_assert_uint_eq(rig_pci_bar(&rig, dev, 4), BOARD_PCI_VIRTIO_BAR4(slot));
        ck_assert_uint_eq(rig_pci_bar(&rig, dev, 1), BOARD_PCI_VIRTIO_BAR1(slot));
        ck_assert_uint_eq(rig_pci_in(&rig, dev, 4, 2), PCI_COMMAND_MEMORY);
        ck_assert(answers(BOARD_PCI_VIRTIO_BAR4(slot)));
    }
    ck_assert_uint_eq(rig_pci_bar(&rig, WATCHDOG, 0), BOARD_PCI_WATCHDOG_BAR0);
}
END_TEST

/* drivers/pci/probe.c: decoding off, all ones, read, write back. */
START_TEST(probed_as_linux_does)
{
    static const struct {
        unsigned dev, bar;
        uint64_t sizes;
    } bar[] = {{1, 0, 0},
               {1, 1, 0xFFFFF000},
               {1, 2, 0},
               {1, 3, 0},
               {1, 4, 0xFFFFFFFFFFFFC004},
               {4, 0, 0xFFFFFFF0},
               {4, 1, 0},
               {0, 0, 0}};

    for (size_t i = 0; i < ARRAY_SIZE(bar); i++) {
        unsigned reg = PCI_REG_BAR0 + 4 * bar[i].bar;
        bool is_64 = bar[i].sizes >> 32 != 0;
        uint32_t command = rig_pci_in(&rig, bar[i].dev, 4, 2), low, high;

        for (unsigned decode = 0; decode < 2; decode++) { /* SeaBIOS leaves it on */
            rig_pci_out(&rig, bar[i].dev, 4, 2,
                        decode ? command : command & ~PCI_COMMAND_MEMORY);
            low = rig_pci_in(&rig, bar[i].dev, reg, 4);
            high = rig_pci_in(&rig, bar[i].dev, reg + 4, 4);
            rig_pci_out(&rig, bar[i].dev, reg, 4, UINT32_MAX);
            ck_assert_uint_eq(rig_pci_in(&rig, bar[i].dev, reg, 4),
                              (uint32_t)bar[i].sizes);
            rig_pci_out(&rig, bar[i].dev, reg, 4, low);
            if (is_64) {
                rig_pci_out(&rig, bar[i].dev, reg + 4, 4, UINT32_MAX);
                ck_assert_uint_eq(rig_pci_in(&rig, bar[i].dev, reg + 4, 4), UINT32_MAX);
                rig_pci_out(&rig, bar[i].dev, reg + 4, 4, high);
            }
            rig_pci_out(&rig, bar[i].dev, 4, 2, command);
        }
    }
    rig_pci_out(&rig, 1, 0x30, 4, UINT32_MAX); /* no expansion ROM */
    ck_assert_uint_eq(rig_pci_in(&rig, 1, 0x30, 4), 0);
    ck_assert(answers(BOARD_PCI_VIRTIO_BAR4(0)));
}
END_TEST

static void move_bar4(unsigned dev, uint64_t to)
{
    rig_pci_out(&rig, dev, 0x20, 4, (uint32_t)to);
    rig_pci_out(&rig, dev, 0x24, 4, (uint32_t)(to >> 32));
}

START_TEST(moved)
{
    const uint64_t home = BOARD_PCI_VIRTIO_BAR4(0), far = UINT64_C(0x800000000),
                   next = BOARD_PCI_VIRTIO_BAR4(1);

    rig_virtio_start(&rig, 0, VIRTIO_F_VERSION_1, ring, 1, 0x1000);
    ck_assert_uint_eq(rig.doorbell[0][0], home + VPCI_NOTIFY);
    move_bar4(1, far);
    ck_assert(!answers(home) && answers(far));
    ck_assert_uint_eq(rig.doorbell[0][0], far + VPCI_NOTIFY);
    move_bar4(1, next); /* onto another: hidden behind none, or it behind us */
    ck_assert(answers(next));
    rig_pci_out(&rig, 2, 4, 2, 0); /* which goes away */
    ck_assert(answers(next));
    ck_assert_uint_eq(rig.doorbell[0][0], next + VPCI_NOTIFY);
    rig_pci_out(&rig, 2, 4, 2, PCI_COMMAND_MEMORY);
    move_bar4(2, home); /* they have changed places */
    ck_assert(answers(home) && answers(next));
    rig_pci_out(&rig, 1, 4, 2, 0);
    ck_assert(!answers(next));
    ck_assert_uint_eq(rig.doorbell[0][0], 0);
    rig_pci_out(&rig, 1, 4, 2, PCI_COMMAND_MEMORY);
    ck_assert_uint_eq(rig.doorbell[0][0], next + VPCI_NOTIFY);
    save_load_save();
    ck_assert_uint_eq(rig.doorbell[0][0], next + VPCI_NOTIFY); /* told on the new host */
    machine_reset(rig.m);
    ck_assert_uint_eq(rig.doorbell[0][0], 0);
    ck_assert(answers(home) && answers(next));
}
END_TEST

/* Two functions at one address: one answers, and has the only doorbell there. */
START_TEST(one_behind_the_other)
{
    const uint64_t home = BOARD_PCI_VIRTIO_BAR4(0), next = BOARD_PCI_VIRTIO_BAR4(1);

    rig_virtio_start(&rig, 0, VIRTIO_F_VERSION_1, ring, 1, 0x1000);
    rig_virtio_start(&rig, 1, VIRTIO_F_VERSION_1, ring + 1, 1, 0x2000);
    move_bar4(2, home);
    ck_assert_uint_eq(rig.doorbell[0][0], home + VPCI_NOTIFY);
    ck_assert_uint_eq(rig.doorbell[1][0], 0);
    move_bar4(1, next);
    ck_assert_uint_eq(rig.doorbell[0][0], next + VPCI_NOTIFY);
    ck_assert_uint_eq(rig.doorbell[1][0], home + VPCI_NOTIFY);
    move_bar4(2, next + 0x2000); /* not aligned: its low bits are not there */
    ck_assert_uint_eq(rig_pci_bar(&rig, 2, 4), next);
    ck_assert_uint_eq(rig.doorbell[0][0], next + VPCI_NOTIFY);
    ck_assert_uint_eq(rig.doorbell[1][0], 0);
}
END_TEST

START_TEST(moved_to_odd_places)
{
    static const uint64_t places[] = {
        0,
        BOARD_ECAM_BASE,
        BOARD_ECAM_BASE + BOARD_ECAM_LEN - 0x4000,
        0x4000,
        UINT64_MAX,
        0xFFFFC000,
        UINT64_C(0x7FFFFFFFFFFFC000),
    };

    for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
        move_bar4(1, places[i]);
        ck_assert(!answers(0));                                   /* not assigned */
        ck_assert_uint_eq(rig_pci_in(&rig, 1, 0, 4), 0x10421AF4); /* ECAM stays */
        rig_virtio_start(&rig, 0, VIRTIO_F_VERSION_1, ring, 1, 0x1000);
        save_load_save();
    }
    move_bar4(1, BOARD_PCI_VIRTIO_BAR4(0));
    ck_assert(answers(BOARD_PCI_VIRTIO_BAR4(0)));
}
END_TEST

/* All that a machine can have, all BARs mapped. */
START_TEST(full_house)
{
    struct machine_conf conf = standard;

    conf.disk_count = VM_DISKS_MAX;
    conf.nic_count = VM_NICS_MAX;
    for (unsigned i = 0; i < VM_DISKS_MAX; i++) {
        conf.disk[i].sectors = 8;
    }
    rig_free(&rig);
    rig_init(&rig, &conf);
    for (unsigned slot = 0; slot < conf.disk_count + conf.nic_count; slot++) {
        ck_assert(answers(BOARD_PCI_VIRTIO_BAR4(slot)));
        rig_virtio_start(&rig, slot, VIRTIO_F_VERSION_1, ring, 1, 0x1000);
        ck_assert_uint_ne(rig.doorbell[slot][0], 0);
    }
    ck_assert_uint_eq(rig_pci_in(&rig, 1 + conf.disk_count + conf.nic_count, 0, 4),
                      0x25AB8086);
    save_load_save();
}
END_TEST

START_TEST(odd_machines_are_refused)
{
    static const struct {
        unsigned type, transport, cpu_count;
        bool fine;
    } odd[] = {{0, 0, 0, true},  {0, 0, 1, true},  {0, 0, 2, false}, {0, 1, 1, false},
               {1, 0, 64, true}, {1, 1, 64, true}, {1, 2, 1, false}, {2, 0, 1, false}};
    void *memory = aligned_alloc(64, (machine_size(&standard) + 63) / 64 * 64);

    for (size_t i = 0; i < ARRAY_SIZE(odd); i++) {
        struct machine_conf conf = {.ram_len = RIG_RAM_LEN,
                                    .cpu_count = odd[i].cpu_count};
        struct machine *m;

        conf.type = (enum machine_type)odd[i].type;
        conf.transport = (enum machine_transport)odd[i].transport;
        ck_assert_int_eq(machine_init(memory, &conf, &rig.gm, rig_ops, &rig, &m) == 0,
                         odd[i].fine);
    }
    free(memory);
}
END_TEST

static Suite *pci_suite(void)
{
    Suite *suite = suite_create("pci");
    TCase *tc = tcase_create("pci");

    tcase_set_timeout(tc, 120);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, who_is_there);
    tcase_add_test(tc, address_port);
    tcase_add_test(tc, reset_port_among_them);
    tcase_add_test(tc, every_register_width_and_value);
    tcase_add_test(tc, states_come_back);
    tcase_add_test(tc, other_functions_are_refused);
    tcase_add_test(tc, foreign_config_space_is_refused);
    tcase_add_test(tc, bars_after_reset);
    tcase_add_test(tc, probed_as_linux_does);
    tcase_add_test(tc, moved);
    tcase_add_test(tc, one_behind_the_other);
    tcase_add_test(tc, moved_to_odd_places);
    tcase_add_test(tc, full_house);
    tcase_add_test(tc, odd_machines_are_refused);
    suite_add_tcase(suite, tc);
    return suite;
}

UNIT_MAIN(pci_suite)
