/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Machine standard with its PCI bus, against a guest that writes configuration space,
 * BARs and MSI-X tables as it likes, a shell whose doorbells ring late, and damaged
 * states. The rig's ops check that doorbells come and go in pairs and never two at one
 * address. Whatever happens: no crash, lines that agree with the devices, and a state
 * that can be saved and loaded and gives the same bytes again.
 */
#include "tests/fuzz/fuzz_rig.h"

#include <string.h>

#define DEVS 5 /* host bridge, disk, nic, watchdog, nobody */

static const struct machine_conf standard = {
    .type = MACHINE_STANDARD,
    .transport = MACHINE_TRANSPORT_PCI,
    .cpu_count = 2,
    .ram_len = RIG_RAM_LEN,
    .disk_count = 1,
    .nic_count = 1,
    .disk = {{.sectors = RIG_SECTORS, .serial = "rig-disk-0"}},
    .nic = {{.mac = {2, 0, 0, 0, 0, 1}}},
};

/* Values that registers are sensitive to, or anything. */
static uint64_t value_of(struct bytes_rd *in)
{
    static const uint64_t values[] = {
        0,          1,          UINT32_MAX, UINT64_MAX, 0x0006,     0x0406,
        0x8000,     0xC000,     0xB0000000, 0xC0000000, 0xC0004000, 0xC0008000,
        0xFEB00000, 0xFFFFC000, 0x0B,       0x0F,
    };
    uint8_t which = bytes_rd_u8(in);

    return which < 0xC0 ? values[which % ARRAY_SIZE(values)] : bytes_rd_u32(in);
}

static void op_config(struct bytes_rd *in, bool write)
{
    uint8_t where = bytes_rd_u8(in);
    unsigned dev = where % DEVS, len = 1u << (where / DEVS % 3);
    unsigned reg = bytes_rd_u8(in);

    reg = where < 0xF0 ? reg & ~(len - 1) : reg;
    if (write) {
        rig_pci_out(&fuzz_rig, dev, reg, len, (uint32_t)value_of(in));
    } else {
        rig_pci_in(&fuzz_rig, dev, reg, len);
    }
}

static void op_port(struct bytes_rd *in, bool write)
{
    uint8_t where = bytes_rd_u8(in);
    uint16_t port = 0xCF8 + where % 8;
    unsigned len = 1u << (where / 8 % 3);

    if (where >= 0xF0) {
        port = where & 1 ? BOARD_PVPANIC_PORT : 0x64;
    }
    if (write) {
        rig_out(&fuzz_rig, port, len,
                port == 0xCF8 ? UINT32_C(1) << 31 | bytes_rd_u16(in) : value_of(in));
    } else {
        rig_in(&fuzz_rig, port, len);
    }
}

/* BARs where they should be after a reset, or where the function says they are. */
static void op_bar(struct bytes_rd *in, bool write)
{
    static const struct {
        unsigned dev, bar;
        uint64_t home;
        unsigned mask;
    } bars[] = {
        {1, 4, BOARD_PCI_VIRTIO_BAR4(0), 0x3FFF}, {1, 1, BOARD_PCI_VIRTIO_BAR1(0), 0xFFF},
        {2, 4, BOARD_PCI_VIRTIO_BAR4(1), 0x3FFF}, {2, 1, BOARD_PCI_VIRTIO_BAR1(1), 0xFFF},
        {3, 0, BOARD_PCI_WATCHDOG_BAR0, 0xF},
    };
    uint8_t where = bytes_rd_u8(in);
    size_t i = where % ARRAY_SIZE(bars);
    uint64_t base =
        where < 0xC0 ? bars[i].home : rig_pci_bar(&fuzz_rig, bars[i].dev, bars[i].bar);
    uint16_t offset = bytes_rd_u16(in);
    unsigned len = 1u << (offset >> 14);

    /* Most registers are at the beginning of an area. */
    offset &= (offset & 0x40) != 0 ? bars[i].mask : bars[i].mask & 0xF03F;
    if (write) {
        rig_mmio_out(&fuzz_rig, base + offset, len, value_of(in));
    } else {
        rig_mmio_in(&fuzz_rig, base + offset, len);
    }
}

static void op_driver(struct bytes_rd *in)
{
    uint8_t what = bytes_rd_u8(in);
    uint64_t features = VIRTIO_F_VERSION_1 | (what & 2 ? VIRTIO_F_EVENT_IDX : 0);
    unsigned slot = what & 1, dev = BOARD_PCI_VIRTIO_DEV(slot);

    if ((what & 4) != 0) { /* as a kernel would begin */
        rig_pci_out(&fuzz_rig, dev, PCI_REG_BAR0 + 16, 4,
                    (uint32_t)BOARD_PCI_VIRTIO_BAR4(slot));
        rig_pci_out(&fuzz_rig, dev, PCI_REG_BAR0 + 20, 4, 0);
        rig_pci_out(&fuzz_rig, dev, PCI_REG_COMMAND, 2,
                    PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
        rig_pci_out(&fuzz_rig, dev, rig_pci_cap(&fuzz_rig, dev, PCI_CAP_MSIX, 0) + 2, 2,
                    (what & 8) != 0 ? MSIX_CONTROL_ON : 0);
    }
    if (slot == 0) {
        rig_virtio_start(&fuzz_rig, 0, features | 1u << 9, fuzz_ring, 1, 0x1000);
    } else {
        rig_virtio_start(&fuzz_rig, 1, features | 1u << 16, fuzz_ring + 1, 2, 0x2000);
    }
}

static void op_doorbell(struct bytes_rd *in)
{
    uint8_t what = bytes_rd_u8(in);

    machine_input(fuzz_rig.m, MACHINE_DEV_VIRTIO0 + (what & 1),
                  &(struct dev_input){.type = INPUT_NOTIFY, .value = what >> 1 & 3});
}

static void op_done(struct bytes_rd *in)
{
    uint8_t which = bytes_rd_u8(in);

    if (fuzz_rig.pending_count > 0) {
        rig_blk_done(&fuzz_rig, which % fuzz_rig.pending_count, which >> 6 == 3 ? 5 : 0);
    }
}

static void op_time(struct bytes_rd *in)
{
    fuzz_rig.now_ns += (uint64_t)bytes_rd_u16(in) << (bytes_rd_u8(in) % 32);
    machine_wake(fuzz_rig.m, fuzz_rig.now_ns);
}

static void op_reset(struct bytes_rd *in)
{
    if ((bytes_rd_u8(in) & 1) != 0) {
        machine_reset(fuzz_rig.m);
    } else {
        fuzz_rig.pending_count = 0;
        machine_reissue(fuzz_rig.m);
    }
}

static void one_op(struct bytes_rd *in)
{
    uint8_t op = bytes_rd_u8(in);

    switch (op % 20) {
    case 0:
    case 1:
    case 2:
    case 3:
        op_config(in, true);
        break;
    case 4:
        op_config(in, false);
        break;
    case 5:
    case 6:
        op_port(in, op % 20 == 5);
        break;
    case 7:
    case 8:
    case 9:
        op_bar(in, true);
        break;
    case 10:
        op_bar(in, false);
        break;
    case 11:
        op_driver(in);
        break;
    case 12:
        fuzz_blk(in);
        break;
    case 13:
        fuzz_net(in);
        break;
    case 14:
        op_doorbell(in);
        break;
    case 15:
        op_done(in);
        break;
    case 16:
        op_time(in);
        break;
    case 17:
        fuzz_input(in);
        break;
    case 18:
        fuzz_save_load();
        break;
    default:
        if (op < 200) {
            fuzz_load_damaged(in);
        } else {
            op_reset(in);
        }
        break;
    }
}

/* The interrupt lines that the shell was told, against what the functions show. */
static void check_pins(void)
{
    for (unsigned dev = 1; dev <= 2; dev++) {
        uint32_t status = rig_pci_in(&fuzz_rig, dev, PCI_REG_STATUS, 2);
        uint32_t command = rig_pci_in(&fuzz_rig, dev, PCI_REG_COMMAND, 2);

        BUG_ON(
            fuzz_rig.gsi[BOARD_PCI_GSI(dev)] !=
            ((status & PCI_STATUS_INTX) != 0 && (command & PCI_COMMAND_INTX_OFF) == 0));
    }
}

enum { DISK_ASKED, DISK_ANSWERED, FRAME_OUT, MESSAGE, PIN, DOORBELL, MOVED, PANIC, BITE };
FUZZ_GOALS("disk request submitted", "disk request answered", "frame sent",
           "message signalled", "pin raised", "doorbell", "BAR moved", "pvpanic",
           "watchdog bites")

static bool any_doorbell(void)
{
    bool any = false;

    for (unsigned i = 0; i < MACHINE_VIRTIO_SLOTS * VIRTIO_QUEUES_MAX; i++) {
        any = any || (&fuzz_rig.doorbell[0][0])[i] != 0;
    }
    return any;
}

static void count_goals(void)
{
    uint64_t bar = rig_pci_bar(&fuzz_rig, 1, VPCI_BAR_REGS);

    fuzz_reach(DISK_ASKED, fuzz_rig.submitted_count > 0);
    fuzz_reach(DISK_ANSWERED, fuzz_ring_used(&fuzz_ring[0]));
    fuzz_reach(FRAME_OUT, fuzz_rig.frame_count > 0);
    fuzz_reach(MESSAGE, fuzz_rig.msi_count > 0);
    fuzz_reach(PIN, fuzz_rig.gsi[BOARD_PCI_GSI(1)] || fuzz_rig.gsi[BOARD_PCI_GSI(2)]);
    fuzz_reach(DOORBELL, any_doorbell());
    fuzz_reach(MOVED, bar != 0 && bar != BOARD_PCI_VIRTIO_BAR4(0));
    fuzz_reach(PANIC, fuzz_rig.panics > 0);
    fuzz_reach(BITE, fuzz_rig.bites > 0);
}

FUZZ_ONE(data, len)
{
    struct bytes_rd in = bytes_rd_make(data, len < 4096 ? len : 4096);

    if (fuzz_rig.m == NULL) {
        rig_init(&fuzz_rig, &standard);
        fuzz_rig.forgetful = true;
    }
    rig_restart(&fuzz_rig);
    memset(fuzz_ring, 0, sizeof fuzz_ring);
    while (bytes_rd_left(&in) > 0) {
        one_op(&in);
        check_pins();
    }
    count_goals();
    fuzz_save_load();
    BUG_ON(machine_io_in_flight(fuzz_rig.m) > 32);
    return 0;
}
