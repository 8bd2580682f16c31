/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The memory map that a guest is told: which addresses are RAM and which it must leave
 * alone (ACPI 6.4, 15.1, "Address Range Types"; 1 RAM, 2 reserved). Pure.
 */
#pragma once

#include <stdint.h>

#include "vmm/machine.h"

#define E820_ENTRIES_MAX 12
#define E820_ENTRY_LEN   20 /* u64 base, u64 length, u32 type, little endian */

#define E820_RAM         1
#define E820_RESERVED    2

struct e820_entry {
    uint64_t base, len;
    uint32_t type;
};

/* Bytes of RAM below 4 GiB, from address 0. */
uint64_t e820_ram_low_len(enum machine_type type, uint64_t ram_len);
/*
 * Fills `entry` in ascending order and returns the count. `for_firmware`: the map of a
 * board whose firmware adds what is its own below 1 MiB (SeaBIOS does); else the final
 * one, as a directly booted kernel needs it: no RAM from 640 KiB to 1 MiB.
 */
unsigned e820_build(enum machine_type type, uint64_t ram_len, bool for_firmware,
                    struct e820_entry entry[E820_ENTRIES_MAX]);
