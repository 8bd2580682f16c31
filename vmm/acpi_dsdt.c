/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/acpi_dsdt.h"

#include "base/units.h"
#include "vmm/board.h"
#include "vmm/dev_pm.h"

#define PCI_DEVICES 32
#define PCI_PINS    4

/* Slot numbers as two decimal digits: VR00, VR01 ... */
static void slot_name(char name[5], unsigned slot)
{
    name[0] = 'V';
    name[1] = 'R';
    name[2] = (char)('0' + slot / 10 % 10);
    name[3] = (char)('0' + slot % 10);
    name[4] = '\0';
}

unsigned acpi_vmmio_gsi(enum machine_type type, unsigned slot)
{
    return type == MACHINE_STANDARD ? BOARD_VIRTIO_GSI(slot)
                                    : BOARD_LOCKSTEP_VIRTIO_IRQ(slot);
}

static void virtio_device(struct aml *a, const struct acpi_conf *conf, unsigned slot)
{
    char name[5];
    size_t device, res;

    slot_name(name, slot);
    device = aml_device(a, name);
    aml_name_str(a, "_HID", "LNRO0005");
    aml_name_int(a, "_UID", slot);
    aml_name_int(a, "_CCA", 1);
    res = aml_resources(a, "_CRS");
    aml_res_mem32(a, (uint32_t)(BOARD_VIRTIO_BASE + slot * BOARD_VIRTIO_STRIDE),
                  (uint32_t)BOARD_VIRTIO_STRIDE);
    aml_res_gsi(a, acpi_vmmio_gsi(conf->type, slot));
    aml_resources_end(a, res);
    aml_end(a, device);
}

/* A device of the ISA bus: up to three port ranges and one line (negative: none). */
struct isa_device {
    const char *name, *id;
    struct {
        uint16_t base;
        uint8_t len;
    } io[3];
    int irq;
};

static const struct isa_device isa_devices[] = {
    {"COM1", "PNP0501", {{BOARD_SERIAL_PORT, 8}}, BOARD_SERIAL_IRQ},
    {"RTC0", "PNP0B00", {{BOARD_RTC_PORT, 2}}, BOARD_RTC_IRQ},
    {"PIC0", "PNP0000", {{0x20, 2}, {0xA0, 2}, {0x4D0, 2}}, 2},
    {"TIM0", "PNP0100", {{0x40, 4}}, 0},
    /* Ports that no driver may take: power management, debug port, fw_cfg. */
    {"PRT0",
     "PNP0C02",
     {{BOARD_PM_PORT, PM_RANGE_LEN}, {BOARD_DEBUG_PORT, 1}, {BOARD_FWCFG_PORT, 12}},
     -1},
};

static void isa_device(struct aml *a, const struct isa_device *dev)
{
    size_t device = aml_device(a, dev->name), res;

    aml_name_eisa(a, "_HID", dev->id);
    aml_name_int(a, "_UID", 1);
    res = aml_resources(a, "_CRS");
    for (size_t i = 0; i < ARRAY_SIZE(dev->io); i++) {
        if (dev->io[i].len > 0) {
            aml_res_io(a, dev->io[i].base, dev->io[i].len);
        }
    }
    if (dev->irq >= 0) {
        aml_res_irq(a, (unsigned)dev->irq);
    }
    aml_resources_end(a, res);
    aml_end(a, device);
}

static void pvpanic(struct aml *a)
{
    size_t device = aml_device(a, "PEVT"), res;

    aml_name_str(a, "_HID", "QEMU0001");
    res = aml_resources(a, "_CRS");
    aml_res_io(a, BOARD_PVPANIC_PORT, 1);
    aml_resources_end(a, res);
    aml_end(a, device);
}

/* The configuration space window belongs to the board, not to the bridge's windows (PCI
 * firmware specification 4.1.2). */
static void ecam(struct aml *a)
{
    size_t device = aml_device(a, "ECAM"), res;

    aml_name_eisa(a, "_HID", "PNP0C02");
    aml_name_int(a, "_UID", 2);
    res = aml_resources(a, "_CRS");
    aml_res_mem32(a, (uint32_t)BOARD_ECAM_BASE, (uint32_t)BOARD_ECAM_LEN);
    aml_resources_end(a, res);
    aml_end(a, device);
}

/* All pins of a device have one GSI: no links to set. */
static void pci_routing(struct aml *a)
{
    size_t table;

    aml_name(a, "_PRT");
    table = aml_package(a, PCI_DEVICES * PCI_PINS);
    for (unsigned d = 0; d < PCI_DEVICES; d++) {
        for (unsigned pin = 0; pin < PCI_PINS; pin++) {
            size_t entry = aml_package(a, 4);

            aml_int(a, (d << 16) | 0xFFFF);
            aml_int(a, pin);
            aml_int(a, 0);
            aml_int(a, BOARD_PCI_GSI(d));
            aml_end(a, entry);
        }
    }
    aml_end(a, table);
}

/*
 * Method(_OSC, 4): the OS may have everything it asks for, of which there is nothing:
 *     CreateDWordField(Arg3, 0, CDW1)
 *     If (Arg0 != PCI's UUID) { CDW1 |= 4 }        unrecognized UUID
 *     Return (Arg3)
 */
static void pci_osc(struct aml *a)
{
    /* 33DB4D5B-1FF7-401C-9657-7441C03DD766 as ToUUID lays it out */
    static const uint8_t uuid[16] = {0x5B, 0x4D, 0xDB, 0x33, 0xF7, 0x1F, 0x1C, 0x40,
                                     0x96, 0x57, 0x74, 0x41, 0xC0, 0x3D, 0xD7, 0x66};
    static const uint8_t field[] = {0x8A, 0x6B, 0x00, 'C', 'D', 'W', '1'};
    static const uint8_t unequal[] = {0x92, 0x93, 0x68}; /* LNot(LEqual(Arg0, */
    static const uint8_t uuid_head[] = {0x11, 0x13, 0x0A, 0x10};
    static const uint8_t or_4[] = {0x7D, 'C', 'D', 'W', '1', 0x0A,
                                   0x04, 'C', 'D', 'W', '1'};
    static const uint8_t give_back[] = {0xA4, 0x6B};
    size_t method = aml_method(a, "_OSC", 4), block;

    aml_bytes(a, field, sizeof field);
    bytes_wr_u8(&a->wr, 0xA0); /* If */
    block = a->wr.pos;
    aml_bytes(a, unequal, sizeof unequal);
    aml_bytes(a, uuid_head, sizeof uuid_head);
    aml_bytes(a, uuid, sizeof uuid);
    aml_bytes(a, or_4, sizeof or_4);
    aml_end(a, block);
    aml_bytes(a, give_back, sizeof give_back);
    aml_end(a, method);
}

static void pci_bridge(struct aml *a)
{
    size_t device = aml_device(a, "PCI0"), res;

    aml_name_eisa(a, "_HID", "PNP0A08");
    aml_name_eisa(a, "_CID", "PNP0A03");
    aml_name_int(a, "_SEG", 0);
    aml_name_int(a, "_BBN", 0);
    aml_name_int(a, "_UID", 0);
    aml_name_int(a, "_CCA", 1);
    res = aml_resources(a, "_CRS");
    aml_res_bus_window(a, 0, 0xFF);
    aml_res_io(a, BOARD_PCI_PORT, 8);
    aml_res_io_window(a, 0, BOARD_PCI_PORT - 1);
    aml_res_io_window(a, BOARD_PCI_PORT + 8, 0xFFFF);
    aml_res_mem_window(a, (uint32_t)BOARD_PCI_MMIO_BASE,
                       (uint32_t)(BOARD_PCI_MMIO_END - 1));
    aml_resources_end(a, res);
    pci_routing(a);
    pci_osc(a);
    aml_end(a, device);
}

static void s5(struct aml *a)
{
    size_t package;

    aml_name(a, "_S5_");
    package = aml_package(a, 4);
    for (unsigned i = 0; i < 4; i++) {
        aml_int(a, i < 2 ? PM_SLP_TYP_S5 : 0);
    }
    aml_end(a, package);
}

void acpi_dsdt_body(struct aml *a, const struct acpi_conf *conf)
{
    bool standard = conf->type == MACHINE_STANDARD;
    size_t scope;

    if (!standard || conf->transport == MACHINE_TRANSPORT_MMIO) {
        scope = aml_scope(a, "\\_SB_");
        for (unsigned i = 0; i < conf->virtio_count; i++) {
            virtio_device(a, conf, i);
        }
        aml_end(a, scope);
    }
    scope = aml_scope(a, "\\_SB_");
    for (size_t i = 0; i < ARRAY_SIZE(isa_devices); i++) {
        isa_device(a, &isa_devices[i]);
    }
    if (standard) {
        pvpanic(a);
        ecam(a);
        pci_bridge(a);
    }
    aml_end(a, scope);
    s5(a);
}
