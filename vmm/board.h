/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where things are on the boards of `machine: lockstep` and `machine: standard` (design
 * 6): guest-physical addresses, ports and global interrupt numbers. Devices, ACPI tables,
 * memory map and loaders take them from here, so that what the tables promise is what the
 * bus answers to. Constants only; anyone in vmm/ may include this.
 */
#pragma once

#include <stdint.h>

/* RAM: below these addresses, the rest from 4 GiB (standard). */
#define BOARD_LOCKSTEP_RAM_MAX     UINT64_C(0xC0000000)
#define BOARD_STANDARD_RAM_LOW_MAX UINT64_C(0x80000000)
#define BOARD_RAM_HIGH_BASE        UINT64_C(0x100000000)

/* MMIO */
#define BOARD_ECAM_BASE        UINT64_C(0xB0000000) /* PCI configuration space */
#define BOARD_ECAM_LEN         UINT64_C(0x10000000)
#define BOARD_PCI_MMIO_BASE    UINT64_C(0xC0000000)
#define BOARD_PCI_MMIO_LEN     UINT64_C(0x3EB00000)
#define BOARD_VMMIO_BASE       UINT64_C(0xFEB00000) /* virtio-mmio slot i at + i * stride */
#define BOARD_VMMIO_STRIDE     UINT64_C(512)
#define BOARD_IOAPIC_BASE      UINT64_C(0xFEC00000)
#define BOARD_LAPIC_BASE       UINT64_C(0xFEE00000)
#define BOARD_KVM_IDENTITY_GPA UINT64_C(0xFEFFC000) /* KVM's own page, and 3 of its TSS  \
                                                     */
#define BOARD_KVM_TSS_GPA UINT64_C(0xFEFFD000)

/* Ports */
#define BOARD_SERIAL_PORT  0x3F8
#define BOARD_DEBUG_PORT   0x402
#define BOARD_PVPANIC_PORT 0x505
#define BOARD_FWCFG_PORT   0x510
#define BOARD_PM_PORT      0x600
#define BOARD_RTC_PORT     0x70
#define BOARD_RESET_PORT   0xCF9
#define BOARD_PCI_PORT     0xCF8

/* Interrupts (GSI; lockstep: lines of the 8259 pair) */
#define BOARD_SERIAL_GSI 4
#define BOARD_RTC_GSI    8
#define BOARD_SCI_GSI    9
