/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where things are on the boards: addresses, ports and interrupt lines that the devices
 * (vmm/machine), the tables a guest reads (vmm/acpi, vmm/boot_linux), the firmware and
 * the shell must agree on. Constants only; anyone may include this.
 */
#pragma once

#include <stdint.h>

/* Memory of `machine: standard`. `machine: lockstep` has one region from 0. */
#define BOARD_RAM_LOW_END    UINT64_C(0x80000000)
#define BOARD_RAM_HIGH_BASE  UINT64_C(0x100000000)
#define BOARD_ROM_END        UINT64_C(0x100000000)
#define BOARD_ROM_LOW_BASE   UINT64_C(0xE0000) /* copy of the ROM's end, writable */
#define BOARD_ROM_LOW_LEN    UINT64_C(0x20000)

#define BOARD_ECAM_BASE      UINT64_C(0xB0000000)
#define BOARD_ECAM_LEN       UINT64_C(0x10000000) /* 256 buses; bus 0 has functions */
#define BOARD_PCI_MMIO_BASE  UINT64_C(0xC0000000)
#define BOARD_PCI_MMIO_END   UINT64_C(0xFEB00000)
#define BOARD_VIRTIO_BASE    UINT64_C(0xFEB00000) /* virtio-mmio slots, both machines */
#define BOARD_VIRTIO_STRIDE  UINT64_C(512)
#define BOARD_VIRTIO_SLOTS   20
#define BOARD_IOAPIC_BASE    UINT64_C(0xFEC00000)
#define BOARD_LAPIC_BASE     UINT64_C(0xFEE00000)
#define BOARD_KVM_IDMAP_BASE UINT64_C(0xFEFFC000) /* one page */
#define BOARD_KVM_TSS_BASE   UINT64_C(0xFEFFD000) /* three pages */

/* Ports */
#define BOARD_RTC_PORT       0x70
#define BOARD_SERIAL_PORT    0x3F8
#define BOARD_DEBUG_PORT     0x402
#define BOARD_PVPANIC_PORT   0x505
#define BOARD_FWCFG_PORT     0x510
#define BOARD_FWCFG_DMA_PORT 0x514
#define BOARD_PM_PORT        0x600
#define BOARD_PCI_PORT       0xCF8 /* address 0xCF8, data 0xCFC; standard only */
#define BOARD_RESET_PORT     0xCF9 /* one byte */
#define BOARD_KBD_PORT       0x64

/* Interrupt lines: the 8259's inputs of lockstep, GSIs of standard */
#define BOARD_SERIAL_IRQ 4
#define BOARD_RTC_IRQ    8
#define BOARD_SCI_IRQ    9 /* level */
#define BOARD_GSI_COUNT  24
/* Lockstep: line of virtio-mmio slot i, level, shared: 5, 10 or 11. */
#define BOARD_LOCKSTEP_VIRTIO_IRQ(i) ((unsigned)(i) % 3 == 0 ? 5 : 9 + (unsigned)(i) % 3)
/* Standard: level, shared. virtio-mmio slot i, and INTx (any pin) of PCI device d. */
#define BOARD_VIRTIO_GSI(i) (16 + (unsigned)(i) % 8)
#define BOARD_PCI_GSI(d)    (16 + (unsigned)(d) % 4)

/* PCI bus 0 of standard: 00:00.0 host bridge, virtio slot i at device 1 + i (transport
 * pci), then the i6300esb watchdog. BARs as they are after a reset. */
#define BOARD_PCI_VIRTIO_DEV(i)  (1 + (unsigned)(i))
#define BOARD_PCI_BAR_STRIDE     UINT64_C(0x8000) /* of one function's BARs */
#define BOARD_PCI_VIRTIO_BAR4(i) (BOARD_PCI_MMIO_BASE + (i)*BOARD_PCI_BAR_STRIDE)
#define BOARD_PCI_VIRTIO_BAR1(i) (BOARD_PCI_VIRTIO_BAR4(i) + 0x4000)
#define BOARD_PCI_WATCHDOG_BAR0  (BOARD_PCI_MMIO_BASE + 0x100000)
