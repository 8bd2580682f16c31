/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/e820.h"

#include "vmm/board.h"

#define LOCKSTEP_RAM_MAX UINT64_C(0xC0000000) /* as VM_RAM_MAX of vmm/vm */
#define LOW_RAM_END      UINT64_C(0xA0000)
#define BIOS_BASE        UINT64_C(0xE0000)
#define ONE_MIB          UINT64_C(0x100000)
#define KVM_PAGES        4 /* identity map and TSS */
#define APIC_PAGE        UINT64_C(0x1000)

struct map {
    struct e820_entry *entry;
    unsigned count;
};

static void add(struct map *map, uint64_t base, uint64_t end, uint32_t type)
{
    if (base < end) {
        map->entry[map->count++] =
            (struct e820_entry){.base = base, .len = end - base, .type = type};
    }
}

uint64_t e820_ram_low_len(enum machine_type type, uint64_t ram_len)
{
    uint64_t max = type == MACHINE_STANDARD ? BOARD_RAM_LOW_END : LOCKSTEP_RAM_MAX;

    return ram_len < max ? ram_len : max;
}

unsigned e820_build(enum machine_type type, uint64_t ram_len, bool for_firmware,
                    struct e820_entry entry[E820_ENTRIES_MAX])
{
    uint64_t low = e820_ram_low_len(type, ram_len);
    struct map map = {.entry = entry};

    if (for_firmware) {
        add(&map, 0, low, E820_RAM);
    } else {
        add(&map, 0, low < LOW_RAM_END ? low : LOW_RAM_END, E820_RAM);
        add(&map, BIOS_BASE, ONE_MIB, E820_RESERVED); /* the ACPI tables */
        add(&map, ONE_MIB, low, E820_RAM);
    }
    if (type == MACHINE_STANDARD) {
        add(&map, BOARD_ECAM_BASE, BOARD_ECAM_BASE + BOARD_ECAM_LEN, E820_RESERVED);
        add(&map, BOARD_IOAPIC_BASE, BOARD_IOAPIC_BASE + APIC_PAGE, E820_RESERVED);
        add(&map, BOARD_LAPIC_BASE, BOARD_LAPIC_BASE + APIC_PAGE, E820_RESERVED);
    }
    add(&map, BOARD_KVM_IDMAP_BASE, BOARD_KVM_IDMAP_BASE + KVM_PAGES * GMEM_PAGE_SIZE,
        E820_RESERVED);
    if (ram_len > low) {
        add(&map, BOARD_RAM_HIGH_BASE, BOARD_RAM_HIGH_BASE + (ram_len - low), E820_RAM);
    }
    return map.count;
}
