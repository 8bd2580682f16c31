/* SPDX-License-Identifier: Apache-2.0 */
/* The virtio-pci transport: capabilities, every register in every width and status,
 * interrupts by message and by pin, doorbells, the configuration window. */
#include "tests/unit/vmm/machine_rig.h"

#include <stdlib.h>
#include <string.h>

#include "tests/unit/unit.h"

#define BLK_FEATURES                                                                     \
    (VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX | 1u << 1 | 1u << 2 | 1u << 6 | 1u << 9 |   \
     7u << 12)
#define DEV  1
#define REGS BOARD_PCI_VIRTIO_BAR4(0)
#define MSIX BOARD_PCI_VIRTIO_BAR1(0)
#define GSI  17

static struct rig rig;
static struct rig_ring ring[2];

static void setup(void)
{
    const struct machine_conf conf = {
        .type = MACHINE_STANDARD,
        .transport = MACHINE_TRANSPORT_PCI,
        .cpu_count = 1, /* one queue of the disk for each */
        .ram_len = RIG_RAM_LEN,
        .disk_count = 1,
        .nic_count = 1,
        .disk = {{.sectors = RIG_SECTORS, .serial = "rig-disk-0"}},
        .nic = {{.mac = {2, 0, 0, 0, 0, 1}}},
    };

    rig_init(&rig, &conf);
}

static void teardown(void)
{
    rig_free(&rig);
}

static uint64_t in(unsigned reg, unsigned len)
{
    return rig_mmio_in(&rig, REGS + reg, len);
}

static void out(unsigned reg, unsigned len, uint64_t value)
{
    rig_mmio_out(&rig, REGS + reg, len, value);
}

/* Identity -------------------------------------------------------------------------- */

START_TEST(capabilities)
{
    static const uint32_t where[][3] = {{VPCI_CAP_COMMON, VPCI_COMMON, VPCI_COMMON_LEN},
                                        {VPCI_CAP_ISR, VPCI_ISR, 1},
                                        {VPCI_CAP_DEVICE, VPCI_DEVICE, 60},
                                        {VPCI_CAP_NOTIFY, VPCI_NOTIFY, 4}};

    for (size_t i = 0; i < ARRAY_SIZE(where); i++) {
        unsigned cap = rig_pci_cap(&rig, DEV, PCI_CAP_VENDOR, where[i][0]);

        ck_assert_uint_ge(cap, 0x40);
        ck_assert_uint_eq(rig_pci_in(&rig, DEV, cap + 2, 1), i == 3 ? 20 : 16);
        ck_assert_uint_eq(rig_pci_in(&rig, DEV, cap + 4, 1), 4);
        ck_assert_uint_eq(rig_pci_in(&rig, DEV, cap + 8, 4), where[i][1]);
        ck_assert_uint_eq(rig_pci_in(&rig, DEV, cap + 12, 4), where[i][2]);
    }
    ck_assert_uint_eq(
        rig_pci_in(&rig, DEV,
                   rig_pci_cap(&rig, DEV, PCI_CAP_VENDOR, VPCI_CAP_NOTIFY) + 16, 4),
        4);
    ck_assert_uint_ne(rig_pci_cap(&rig, DEV, PCI_CAP_VENDOR, VPCI_CAP_PCI), 0);
    ck_assert_uint_eq(
        rig_pci_in(&rig, DEV, rig_pci_cap(&rig, DEV, PCI_CAP_MSIX, 0) + 2, 2), 1);
    ck_assert_uint_eq(rig_pci_in(&rig, DEV, PCI_REG_STATUS, 2), PCI_STATUS_CAPS);
}
END_TEST

START_TEST(common_registers)
{
    ck_assert_uint_eq(in(VPCI_DEVICE_FEATURE, 4), (uint32_t)BLK_FEATURES);
    out(VPCI_DEVICE_FEATURE_SELECT, 4, 1);
    ck_assert_uint_eq(in(VPCI_DEVICE_FEATURE, 4), 1);
    out(VPCI_DEVICE_FEATURE_SELECT, 4, 2);
    ck_assert_uint_eq(in(VPCI_DEVICE_FEATURE, 4), 0);
    ck_assert_uint_eq(in(VPCI_NUM_QUEUES, 2), 1);
    ck_assert_uint_eq(in(VPCI_QUEUE_SIZE, 2), 128);
    ck_assert_uint_eq(in(VPCI_QUEUE_VECTOR, 2), VPCI_NO_VECTOR);
    ck_assert_uint_eq(in(VPCI_CONFIG_VECTOR, 2), VPCI_NO_VECTOR);
    out(VPCI_QUEUE_SELECT, 2, 1);
    ck_assert_uint_eq(in(VPCI_QUEUE_SIZE, 2), 0); /* there is none */
    out(VPCI_QUEUE_VECTOR, 2, 1);
    ck_assert_uint_eq(in(VPCI_QUEUE_VECTOR, 2), VPCI_NO_VECTOR);
    out(VPCI_QUEUE_SELECT, 2, 0xFFFF);
    ck_assert_uint_eq(in(VPCI_QUEUE_SIZE, 2), 0);
    out(VPCI_QUEUE_SIZE, 2, 8);
    out(VPCI_QUEUE_ENABLE, 2, 1);
    ck_assert_uint_eq(rig_mmio_in(&rig, BOARD_PCI_VIRTIO_BAR4(1) + VPCI_NUM_QUEUES, 2),
                      2);
}
END_TEST

START_TEST(vectors)
{
    static const unsigned regs[] = {VPCI_CONFIG_VECTOR, VPCI_QUEUE_VECTOR};

    for (size_t r = 0; r < ARRAY_SIZE(regs); r++) {
        for (unsigned vector = 0; vector < 0x10000; vector++) {
            out(regs[r], 2, vector);
            ck_assert_uint_eq(in(regs[r], 2), vector < 2 ? vector : VPCI_NO_VECTOR);
        }
        out(regs[r], 2, 1);
        out(VPCI_STATUS, 1, 0); /* a reset unmaps them */
        ck_assert_uint_eq(in(regs[r], 2), VPCI_NO_VECTOR);
    }
}
END_TEST

START_TEST(addresses_in_halves_and_whole)
{
    static const unsigned regs[] = {VPCI_QUEUE_DESC, VPCI_QUEUE_DRIVER,
                                    VPCI_QUEUE_DEVICE};

    for (size_t r = 0; r < ARRAY_SIZE(regs); r++) {
        out(regs[r], 8, UINT64_C(0x1122334455667788));
        ck_assert_uint_eq(in(regs[r], 8), UINT64_C(0x1122334455667788));
        out(regs[r], 4, 0xAABBCCDD);
        out(regs[r] + 4, 4, 0x99887766);
        ck_assert_uint_eq(in(regs[r], 4), 0xAABBCCDD);
        ck_assert_uint_eq(in(regs[r] + 4, 4), 0x99887766);
        out(regs[r], 2, 0); /* not a field */
        ck_assert_uint_eq(in(regs[r], 8), UINT64_C(0x99887766AABBCCDD));
    }
}
END_TEST

/* Every status, every register ------------------------------------------------------ */

/* Offset x width x value in a device that runs: nothing of the device's own section
 * changes but by the registers that are there for it. CVE-2026-5747's class. */
START_TEST(every_offset_and_width_of_a_running_device)
{
    static const uint64_t values[] = {0, 1, 0x5A, UINT64_MAX};
    uint64_t queue[4];

    rig_virtio_start(&rig, 0, BLK_FEATURES, ring, 1, 0x1000);
    for (unsigned i = 0; i < 4; i++) {
        queue[i] = in(VPCI_QUEUE_SIZE + i * 8, 8);
    }
    for (unsigned offset = 0; offset < VPCI_BAR_REGS_SIZE;
         offset += offset % 0x1000 < 0x80 || offset % 0x1000 > 0xFF0 ? 1 : 0x31) {
        for (unsigned len = 1; len <= 8; len *= 2) {
            for (size_t v = 0; v < ARRAY_SIZE(values); v++) {
                if ((offset == VPCI_STATUS && len == 1 && values[v] == 0) ||
                    (offset == VPCI_QUEUE_SELECT && len == 2)) {
                    continue;
                }
                out(offset, len, values[v]);
                in(offset, len);
                out(VPCI_QUEUE_SELECT, 2, 0);
                for (unsigned i = 0; i < 4; i++) {
                    uint64_t mask =
                        i == 0 ? ~(UINT64_C(0xFFFF) << 16) : UINT64_MAX; /* vector */

                    ck_assert_uint_eq(in(VPCI_QUEUE_SIZE + i * 8, 8) & mask,
                                      queue[i] & mask);
                }
                ck_assert_uint_eq(in(VPCI_STATUS, 1) & 0x4F, 0x0F);
                ck_assert_uint_eq(rig_pci_bar(&rig, DEV, 4), REGS);
            }
        }
    }
    ck_assert_uint_eq(in(VPCI_DEVICE, 8), RIG_SECTORS);
    ck_assert_uint_eq(in(VPCI_DEVICE + 20, 4), 512);
    ck_assert_uint_eq(in(VPCI_DEVICE + 24, 4), 0);
    ck_assert_uint_eq(in(VPCI_DEVICE + 0xFFC, 4), 0);
}
END_TEST

static void negotiate(uint64_t features)
{
    out(VPCI_STATUS, 1, 0);
    out(VPCI_STATUS, 1, 1);
    out(VPCI_STATUS, 1, 3);
    for (uint32_t half = 0; half < 2; half++) {
        out(VPCI_DRIVER_FEATURE_SELECT, 4, half);
        out(VPCI_DRIVER_FEATURE, 4, (uint32_t)(features >> 32 * half));
        ck_assert_uint_eq(in(VPCI_DRIVER_FEATURE, 4), (uint32_t)(features >> 32 * half));
    }
    out(VPCI_STATUS, 1, 0x0B);
}

START_TEST(features)
{
    for (unsigned bit = 0; bit < 64; bit++) {
        uint64_t feature = UINT64_C(1) << bit;
        bool ok = (feature & ~BLK_FEATURES) == 0;

        negotiate(VIRTIO_F_VERSION_1 | feature);
        ck_assert_uint_eq(in(VPCI_STATUS, 1), ok ? 0x0B : 0x03);
        negotiate(feature);
        ck_assert_uint_eq(in(VPCI_STATUS, 1),
                          feature == VIRTIO_F_VERSION_1 ? 0x0B : 0x03);
    }
}
END_TEST

/* A queue can be configured in every status without DRIVER_OK while it is not enabled,
 * and never otherwise. */
START_TEST(queues_by_status)
{
    static const struct {
        unsigned reg, len;
        uint64_t value;
    } write[] = {{VPCI_QUEUE_SIZE, 2, 16},      {VPCI_QUEUE_DESC, 4, 0x2000},
                 {VPCI_QUEUE_DESC + 4, 4, 1},   {VPCI_QUEUE_DRIVER, 4, 0x2000},
                 {VPCI_QUEUE_DRIVER + 4, 4, 1}, {VPCI_QUEUE_DEVICE, 4, 0x2000},
                 {VPCI_QUEUE_DEVICE + 4, 4, 1}, {VPCI_QUEUE_DESC, 8, 0x3000},
                 {VPCI_QUEUE_ENABLE, 2, 1}};

    for (unsigned status = 0; status < 256; status++) {
        for (unsigned enabled = 0; enabled < 2; enabled++) {
            for (size_t w = 0; w < ARRAY_SIZE(write); w++) {
                uint64_t before;
                bool frozen;

                negotiate(VIRTIO_F_VERSION_1);
                out(VPCI_QUEUE_SIZE, 2, 8);
                out(VPCI_QUEUE_DESC, 8, 0x1000);
                out(VPCI_QUEUE_DRIVER, 8, 0x1100);
                out(VPCI_QUEUE_DEVICE, 8, 0x1200);
                if (enabled) {
                    out(VPCI_QUEUE_ENABLE, 2, 1);
                }
                out(VPCI_STATUS, 1, status == 0 ? 1 : status);
                ck_assert_uint_eq(in(VPCI_QUEUE_ENABLE, 2), enabled);
                frozen = enabled || (in(VPCI_STATUS, 1) & 4) != 0;
                before = in(write[w].reg, write[w].len);
                out(write[w].reg, write[w].len, write[w].value);
                ck_assert_uint_eq(in(write[w].reg, write[w].len),
                                  frozen ? before : write[w].value);
                out(VPCI_QUEUE_ENABLE, 2, 0); /* not for drivers */
                ck_assert_uint_eq(in(VPCI_QUEUE_ENABLE, 2),
                                  enabled ||
                                      (!frozen && write[w].reg == VPCI_QUEUE_ENABLE));
            }
        }
    }
}
END_TEST

START_TEST(queues_that_cannot_work)
{
    static const uint16_t sizes[] = {0, 3, 129, 256, 0x8000, 0xFFFF};

    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        negotiate(VIRTIO_F_VERSION_1);
        out(VPCI_QUEUE_DESC, 8, 0x1000);
        out(VPCI_QUEUE_DRIVER, 8, 0x2000);
        out(VPCI_QUEUE_DEVICE, 8, 0x3000);
        out(VPCI_QUEUE_SIZE, 2, sizes[i]);
        out(VPCI_QUEUE_ENABLE, 2, 1);
        ck_assert_uint_eq(in(VPCI_QUEUE_ENABLE, 2), 0);
        ck_assert_uint_eq(in(VPCI_STATUS, 1), 0x4B);
        ck_assert_uint_eq(rig.doorbell[0][0], 0);
    }
    out(VPCI_STATUS, 1, 0);
    ck_assert_uint_eq(in(VPCI_STATUS, 1), 0);
}
END_TEST

/* Interrupts ------------------------------------------------------------------------ */

static void message_control(uint32_t value)
{
    rig_pci_out(&rig, DEV, rig_pci_cap(&rig, DEV, PCI_CAP_MSIX, 0) + 2, 2, value);
}

/* Vector v: address 0xFEE01000 + v * 0x1000, data 0x40 + v. */
static void vector_on(unsigned v, bool masked)
{
    rig_mmio_out(&rig, MSIX + v * 16, 4, 0xFEE01000 + v * 0x1000);
    rig_mmio_out(&rig, MSIX + v * 16 + 4, 4, 0);
    rig_mmio_out(&rig, MSIX + v * 16 + 8, 4, 0x40 + v);
    rig_mmio_out(&rig, MSIX + v * 16 + 12, 4, masked);
}

static void start(bool msix)
{
    rig_pci_out(&rig, DEV, PCI_REG_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    vector_on(0, false);
    vector_on(1, false);
    message_control(msix ? MSIX_CONTROL_ON : 0);
    rig_virtio_start(&rig, 0, VIRTIO_F_VERSION_1 | 1u << 9, ring, 1, 0x1000);
}

static void flush_request(bool by_input)
{
    uint64_t header[2] = {4, 0};

    gmem_write(&rig.gm, (struct gpa){0x3000}, header, sizeof header);
    rig_desc(&rig, &ring[0], 0, 0x3000, 16, 1, 1);
    rig_desc(&rig, &ring[0], 1, 0x4000, 1, 2, 0);
    rig_offer(&rig, &ring[0], 0);
    if (by_input) {
        machine_input(rig.m, machine_disk_dev(rig.m, 0),
                      &(struct dev_input){.type = INPUT_NOTIFY});
    } else {
        rig_notify(&rig, &ring[0]);
    }
    ck_assert_uint_eq(rig.pending_count, 1);
    rig_blk_done(&rig, 0, 0);
}

START_TEST(by_pin)
{
    start(false);
    flush_request(false);
    ck_assert(rig.gsi[GSI]);
    ck_assert_uint_eq(rig_pci_in(&rig, DEV, PCI_REG_STATUS, 2),
                      PCI_STATUS_CAPS | PCI_STATUS_INTX);
    ck_assert_uint_eq(in(VPCI_ISR, 1), VIRTIO_IRQ_USED); /* acknowledges */
    ck_assert(!rig.gsi[GSI]);
    ck_assert_uint_eq(in(VPCI_ISR, 1), 0);
    ck_assert_uint_eq(rig_pci_in(&rig, DEV, PCI_REG_STATUS, 2), PCI_STATUS_CAPS);
    rig_pci_out(&rig, DEV, PCI_REG_COMMAND, 2,
                PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_INTX_OFF);
    flush_request(true);
    ck_assert(!rig.gsi[GSI]);
    ck_assert_uint_eq(rig_pci_in(&rig, DEV, PCI_REG_STATUS, 2),
                      PCI_STATUS_CAPS | PCI_STATUS_INTX); /* seen by who polls */
    rig_pci_out(&rig, DEV, PCI_REG_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    ck_assert(rig.gsi[GSI]);
    out(VPCI_STATUS, 1, 0);
    ck_assert(!rig.gsi[GSI]);
    ck_assert_uint_eq(rig.msi_count, 0);
}
END_TEST

START_TEST(by_message)
{
    start(true);
    flush_request(false);
    ck_assert_uint_eq(rig.msi_count, 1);
    ck_assert_uint_eq(rig.msi_address, 0xFEE02000);
    ck_assert_uint_eq(rig.msi_data, 0x41);
    rig_offer(&rig, &ring[0], 99); /* breaks: a configuration interrupt */
    rig_notify(&rig, &ring[0]);
    ck_assert_uint_eq(rig.msi_count, 2);
    ck_assert_uint_eq(rig.msi_data, 0x40);
    ck_assert(!rig.gsi[GSI]);
    ck_assert_uint_eq(in(VPCI_ISR, 1), 0);
    message_control(0); /* and nothing of it comes out at the pin */
    ck_assert(!rig.gsi[GSI]);
}
END_TEST

START_TEST(masked_and_unmasked)
{
    start(true);
    vector_on(1, true);
    flush_request(false);
    flush_request(true);
    ck_assert_uint_eq(rig.msi_count, 0);
    ck_assert_uint_eq(rig_mmio_in(&rig, MSIX + MSIX_PBA_OFFSET, 8), 2);
    rig_mmio_out(&rig, MSIX + MSIX_PBA_OFFSET, 8, 0); /* read-only */
    ck_assert_uint_eq(rig_mmio_in(&rig, MSIX + MSIX_PBA_OFFSET, 8), 2);
    message_control(MSIX_CONTROL_ON | MSIX_CONTROL_MASK);
    vector_on(1, false);
    ck_assert_uint_eq(rig.msi_count, 0);
    message_control(MSIX_CONTROL_ON);
    ck_assert_uint_eq(rig.msi_count, 1);
    ck_assert_uint_eq(rig.msi_data, 0x41);
    ck_assert_uint_eq(rig_mmio_in(&rig, MSIX + MSIX_PBA_OFFSET, 8), 0);
    out(VPCI_QUEUE_VECTOR, 2, VPCI_NO_VECTOR);
    flush_request(false);
    ck_assert_uint_eq(rig.msi_count, 1);
    ck_assert_uint_eq(rig_mmio_in(&rig, MSIX + MSIX_PBA_OFFSET, 8), 0);
    out(VPCI_QUEUE_VECTOR, 2, 0); /* vectors may be shared */
    flush_request(false);
    ck_assert_uint_eq(rig.msi_data, 0x40);
    vector_on(0, true);
    flush_request(false);
    out(VPCI_STATUS, 1, 0); /* what a reset device wanted to say is gone */
    vector_on(0, false);
    ck_assert_uint_eq(rig.msi_count, 2);
}
END_TEST

static void master(bool on)
{
    rig_pci_out(&rig, DEV, PCI_REG_COMMAND, 2,
                PCI_COMMAND_MEMORY | (on ? PCI_COMMAND_MASTER : 0));
}

/* Sector 3 to 0x5000. */
static void read_request(void)
{
    uint64_t header[2] = {0, 3};

    gmem_write(&rig.gm, (struct gpa){0x3000}, header, sizeof header);
    rig_desc(&rig, &ring[0], 0, 0x3000, 16, 1, 1);
    rig_desc(&rig, &ring[0], 1, 0x5000, 512, 1 | 2, 2);
    rig_desc(&rig, &ring[0], 2, 0x4000, 1, 2, 0);
    rig_offer(&rig, &ring[0], 0);
    rig_notify(&rig, &ring[0]);
}

/* Who is no bus master any more writes nothing, whatever was under way, sends no message,
 * and needs a reset. */
START_TEST(no_master_no_dma)
{
    uint32_t id, len;
    uint8_t *state;
    struct state_io io;
    size_t state_len;

    start(true);
    read_request();
    ck_assert_uint_eq(rig.pending_count, 1);
    memset(rig.ram + 0x4000, 0xAA, 0x2000);
    master(false);
    rig_blk_done(&rig, 0, 0);
    read_request();
    ck_assert_uint_eq(rig.pending_count, 0);
    for (unsigned i = 0; i < 0x2000; i++) {
        ck_assert_uint_eq(rig.ram[0x4000 + i], 0xAA);
    }
    ck_assert(!rig_used(&rig, &ring[0], &id, &len));
    ck_assert_uint_eq(rig.msi_count, 0);
    ck_assert_uint_ne(in(VPCI_STATUS, 1) & VIRTIO_STATUS_NEEDS_RESET, 0);
    state_len = rig_save(&rig, &state);
    ck_assert_int_eq(rig_load(&rig, state, state_len, &io), 0);
    free(state);
    master(true);
    ck_assert_uint_eq(rig.msi_count, 1); /* what it had to say */
    rig_notify(&rig, &ring[0]);
    ck_assert_uint_eq(rig.pending_count, 0);
    start(true);
    read_request();
    rig_blk_done(&rig, 0, 0);
    ck_assert(rig_used(&rig, &ring[0], &id, &len));
    ck_assert_uint_eq(rig.ram[0x5000], 3);
}
END_TEST

/* A driver that starts a device before it makes it a master: its doorbell is heard then.
 * Also after a load in between. */
START_TEST(master_after_the_start)
{
    uint8_t *state;
    struct state_io io;
    size_t state_len;

    start(true);
    out(VPCI_STATUS, 1, 0);
    master(false);
    start(true);
    out(VPCI_STATUS, 1, 0);
    master(false);
    for (unsigned s = 0; s < 2; s++) { /* as start(), but for the master */
        ck_assert_uint_eq(in(VPCI_STATUS, 1), 0);
        out(VPCI_STATUS, 1, 3);
        out(VPCI_DRIVER_FEATURE_SELECT, 4, 1);
        out(VPCI_DRIVER_FEATURE, 4, 1);
        out(VPCI_STATUS, 1, 0x0B);
        out(VPCI_QUEUE_SELECT, 2, 0);
        out(VPCI_QUEUE_SIZE, 2, ring[0].size);
        out(VPCI_QUEUE_DESC, 4, ring[0].desc);
        out(VPCI_QUEUE_DRIVER, 4, ring[0].avail);
        out(VPCI_QUEUE_DEVICE, 4, ring[0].used);
        memset(rig.ram + ring[0].avail, 0, 4);
        ring[0].avail_idx = 0;
        out(VPCI_QUEUE_ENABLE, 2, 1);
        out(VPCI_STATUS, 1, 0x0F);
        read_request();
        ck_assert_uint_eq(rig.pending_count, 0);
        if (s == 1) {
            state_len = rig_save(&rig, &state);
            ck_assert_int_eq(rig_load(&rig, state, state_len, &io), 0);
            free(state);
            rig_notify(&rig, &ring[0]);
            ck_assert_uint_eq(rig.pending_count, 0);
        }
        master(true);
        ck_assert_uint_eq(rig.pending_count, 1);
        ck_assert_uint_eq(in(VPCI_STATUS, 1), 0x0F);
        rig_blk_done(&rig, 0, 0);
        out(VPCI_STATUS, 1, 0);
        master(false);
    }
}
END_TEST

START_TEST(net_has_its_own)
{
    uint8_t frame[60] = {0};
    struct dev_input rx = {.type = INPUT_NET_RX, .data = frame, .len = sizeof frame};
    struct dev_input link = {.type = INPUT_LINK, .value = 0};
    uint64_t bar1 = BOARD_PCI_VIRTIO_BAR1(1);

    rig_pci_out(&rig, 2, PCI_REG_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    rig_pci_out(&rig, 2, rig_pci_cap(&rig, 2, PCI_CAP_MSIX, 0) + 2, 2, MSIX_CONTROL_ON);
    for (unsigned v = 0; v < 3; v++) {
        rig_mmio_out(&rig, bar1 + v * 16, 4, 0xFEE00000);
        rig_mmio_out(&rig, bar1 + v * 16 + 8, 8, 0x70 + v); /* data and control */
    }
    rig_virtio_start(&rig, 1, VIRTIO_F_VERSION_1 | 1u << 16, ring, 2, 0x1000);
    ck_assert_uint_eq(rig.doorbell[1][0], BOARD_PCI_VIRTIO_BAR4(1) + VPCI_NOTIFY);
    ck_assert_uint_eq(rig.doorbell[1][1], BOARD_PCI_VIRTIO_BAR4(1) + VPCI_NOTIFY + 4);
    rig_desc(&rig, &ring[0], 0, 0x3000, 128, 2, 0);
    rig_offer(&rig, &ring[0], 0);
    ck_assert_int_eq(machine_input(rig.m, machine_nic_dev(rig.m, 0), &rx), 0);
    ck_assert_uint_eq(rig.msi_data, 0x71);
    rig_desc(&rig, &ring[1], 0, 0x4000, 72, 0, 0);
    rig_offer(&rig, &ring[1], 0);
    machine_input(rig.m, machine_nic_dev(rig.m, 0),
                  &(struct dev_input){.type = INPUT_NOTIFY, .value = 1});
    ck_assert_uint_eq(rig.frame_count, 1);
    ck_assert_uint_eq(rig.msi_data, 0x72);
    ck_assert_int_eq(machine_input(rig.m, machine_nic_dev(rig.m, 0), &link), 0);
    ck_assert_uint_eq(rig.msi_data, 0x70);
    ck_assert_uint_eq(rig.msi_count, 3);
    ck_assert_uint_eq(
        rig_mmio_in(&rig, BOARD_PCI_VIRTIO_BAR4(1) + VPCI_CONFIG_GENERATION, 1), 1);
}
END_TEST

/* Doorbells ------------------------------------------------------------------------- */

START_TEST(doorbells_that_mean_nothing)
{
    start(true);
    for (uint64_t queue = 1; queue < 300; queue++) { /* not this device's */
        machine_input(rig.m, machine_disk_dev(rig.m, 0),
                      &(struct dev_input){.type = INPUT_NOTIFY, .value = queue});
    }
    machine_input(rig.m, machine_disk_dev(rig.m, 0),
                  &(struct dev_input){.type = INPUT_NOTIFY, .value = UINT64_MAX});
    for (unsigned offset = 0; offset < 0x1000; offset++) { /* every address of the area */
        for (unsigned len = 1; len <= 8; len *= 2) {
            out(VPCI_NOTIFY + offset, len, 0);
        }
    }
    ck_assert_uint_eq(rig.submitted_count, 0);
    ck_assert_uint_eq(rig.doorbell[0][0], REGS + VPCI_NOTIFY);
    out(VPCI_STATUS, 1, 0);
    ck_assert_uint_eq(rig.doorbell[0][0], 0);
    machine_input(rig.m, machine_disk_dev(rig.m, 0),
                  &(struct dev_input){.type = INPUT_NOTIFY}); /* rang before, seen late */
    ck_assert_uint_eq(in(VPCI_STATUS, 1), 0);
}
END_TEST

/* The window in configuration space (4.1.4.9) --------------------------------------- */

static unsigned window(void)
{
    return rig_pci_cap(&rig, DEV, PCI_CAP_VENDOR, VPCI_CAP_PCI);
}

static void window_at(unsigned bar, uint32_t offset, uint32_t len)
{
    rig_pci_out(&rig, DEV, window() + 4, 1, bar);
    rig_pci_out(&rig, DEV, window() + 8, 4, offset);
    rig_pci_out(&rig, DEV, window() + 12, 4, len);
}

START_TEST(window_reaches_registers)
{
    rig_pci_out(&rig, DEV, PCI_REG_COMMAND, 2, 0); /* also while nothing is decoded */
    window_at(4, VPCI_NUM_QUEUES, 2);
    ck_assert_uint_eq(rig_pci_in(&rig, DEV, window() + 16, 2), 1);
    window_at(4, VPCI_DEVICE, 4);
    ck_assert_uint_eq(rig_pci_in(&rig, DEV, window() + 16, 4), RIG_SECTORS);
    window_at(4, VPCI_STATUS, 1);
    rig_pci_out(&rig, DEV, window() + 16, 1, 3);
    ck_assert_uint_eq(rig_pci_in(&rig, DEV, window() + 16, 1), 3);
    window_at(1, 8, 4);
    rig_pci_out(&rig, DEV, window() + 16, 4, 0x1234);
    rig_pci_out(&rig, DEV, PCI_REG_COMMAND, 2, PCI_COMMAND_MEMORY);
    ck_assert_uint_eq(in(VPCI_STATUS, 1), 3);
    ck_assert_uint_eq(rig_mmio_in(&rig, MSIX + 8, 4), 0x1234);
}
END_TEST

START_TEST(window_to_nowhere)
{
    static const uint32_t edges[] = {0,      1,      2,      3,          0xFFF,
                                     0x1000, 0x3FFC, 0x3FFF, 0x4000,     0x4001,
                                     0xFFFC, 0xFFFF, 65536,  UINT32_MAX, UINT32_MAX - 3};
    static const uint32_t lens[] = {0, 1, 2, 3, 4, 5, 8, 0x4000, UINT32_MAX};
    uint8_t *first, *second;

    start(true);
    for (unsigned bar = 0; bar < 6; bar++) { /* only BAR4 has this register */
        window_at(bar, VPCI_NUM_QUEUES, 2);
        rig_pci_out(&rig, DEV, window() + 16, 4, 0);
        ck_assert_uint_eq(rig_pci_in(&rig, DEV, window() + 16, 2), bar == 4);
    }
    for (unsigned bar = 0; bar < 256; bar += bar < 8 ? 1 : 31) {
        for (size_t o = 0; o < ARRAY_SIZE(edges); o++) {
            for (size_t l = 0; l < ARRAY_SIZE(lens); l++) {
                window_at(bar, edges[o], lens[l]);
                rig_pci_out(&rig, DEV, window() + 16, 4, UINT32_MAX);
                rig_pci_out(&rig, DEV, window() + 17, 1, 0);
                rig_pci_in(&rig, DEV, window() + 16, 4);
                rig_pci_in(&rig, DEV, window() + 18, 2);
                ck_assert_uint_eq(in(VPCI_STATUS, 1) & 0x0F, 0x0F);
            }
        }
    }
    ck_assert_uint_eq(rig_save(&rig, &first), rig_save(&rig, &second));
    free(first);
    free(second);
}
END_TEST

/* State ----------------------------------------------------------------------------- */

START_TEST(in_the_middle_of_everything)
{
    uint8_t *first, *second;
    struct state_io io;
    size_t len;

    start(true);
    vector_on(1, true);
    flush_request(false); /* pending behind a mask */
    out(VPCI_DEVICE_FEATURE_SELECT, 4, 1);
    out(VPCI_QUEUE_SELECT, 2, 77);
    len = rig_save(&rig, &first);
    rig_renew(&rig);
    rig.msi_count = 0;
    ck_assert_int_eq(rig_load(&rig, first, len, &io), 0);
    ck_assert_uint_eq(rig_save(&rig, &second), len);
    ck_assert_mem_eq(first, second, len);
    ck_assert_uint_eq(rig.msi_count, 0); /* a load itself says nothing */
    ck_assert_uint_eq(rig.doorbell[0][0], REGS + VPCI_NOTIFY);
    vector_on(1, false);
    ck_assert_uint_eq(rig.msi_count, 1);
    ck_assert_uint_eq(in(VPCI_QUEUE_SELECT, 2), 77);
    free(first);
    free(second);
}
END_TEST

START_TEST(levels_are_said_again)
{
    uint8_t *state;
    struct state_io io;
    size_t len;

    start(false);
    flush_request(false);
    len = rig_save(&rig, &state);
    rig_renew(&rig);
    ck_assert(!rig.gsi[GSI]);
    ck_assert_int_eq(rig_load(&rig, state, len, &io), 0);
    ck_assert(rig.gsi[GSI]);
    rig.gsi[GSI] = false; /* an interrupt controller that has lost it */
    machine_lines_again(rig.m);
    ck_assert(rig.gsi[GSI]);
    state[len / 2] ^= 1;
    ck_assert_int_ne(rig_load(&rig, state, len, &io), 0);
    ck_assert(!rig.gsi[GSI]); /* as from the shop */
    ck_assert_uint_eq(rig.doorbell[0][0], 0);
    free(state);
}
END_TEST

static Suite *vpci_suite(void)
{
    Suite *suite = suite_create("vpci");
    TCase *tc = tcase_create("vpci");

    tcase_set_timeout(tc, 120);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, capabilities);
    tcase_add_test(tc, common_registers);
    tcase_add_test(tc, vectors);
    tcase_add_test(tc, addresses_in_halves_and_whole);
    tcase_add_test(tc, every_offset_and_width_of_a_running_device);
    tcase_add_test(tc, features);
    tcase_add_test(tc, queues_by_status);
    tcase_add_test(tc, queues_that_cannot_work);
    tcase_add_test(tc, by_pin);
    tcase_add_test(tc, by_message);
    tcase_add_test(tc, masked_and_unmasked);
    tcase_add_test(tc, no_master_no_dma);
    tcase_add_test(tc, master_after_the_start);
    tcase_add_test(tc, net_has_its_own);
    tcase_add_test(tc, doorbells_that_mean_nothing);
    tcase_add_test(tc, window_reaches_registers);
    tcase_add_test(tc, window_to_nowhere);
    tcase_add_test(tc, in_the_middle_of_everything);
    tcase_add_test(tc, levels_are_said_again);
    suite_add_tcase(suite, tc);
    return suite;
}

UNIT_MAIN(vpci_suite)
