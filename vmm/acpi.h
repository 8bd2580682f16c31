/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ACPI tables of both machines (ACPI 6.4, chapter 5), built into a caller's buffer:
 * DSDT, FACS, FADT, MADT and MCFG (standard), RSDT, XSDT, and the RSDP apart from them.
 * The same tables go two ways: with a known address right into guest memory (a kernel
 * booted without firmware finds the RSDP in 0xE0000..0xFFFFF), or relative to 0 with a
 * loader script for firmware through fw_cfg. Pure; used by vmm/boot_files and
 * vmm/dev_fwcfg.
 *
 * lockstep is ACPI with a PIC: no MADT, not hardware-reduced (Linux would ignore PIC and
 * PIT then), interrupts of the DSDT are lines of the 8259 pair. standard has APICs.
 */
#pragma once

#include "vmm/machine.h"

#define ACPI_TABLES_MAX 16384
#define ACPI_RSDP_LEN   36

/* Where a directly booted kernel finds them. */
#define ACPI_RSDP_GPA   UINT64_C(0xE0000)
#define ACPI_TABLES_GPA UINT64_C(0xE0040)

struct acpi_conf {
    enum machine_type type;
    enum machine_transport transport;
    unsigned cpu_count;
    unsigned virtio_count; /* slots in use, from 0 */
    uint64_t ram_len;
};

#define ACPI_TABLES_COUNT_MAX 8
#define ACPI_POINTERS_MAX     20

/* A pointer within the tables that holds where another table is, of 4 or 8 bytes. */
struct acpi_pointer {
    uint32_t at;
    uint8_t width;
};

struct acpi_table {
    uint32_t at, len;
    bool no_checksum; /* FACS */
};

struct acpi_tables {
    uint8_t bytes[ACPI_TABLES_MAX];
    uint32_t len;
    uint8_t rsdp[ACPI_RSDP_LEN];
    struct acpi_table table[ACPI_TABLES_COUNT_MAX];
    unsigned table_count;
    struct acpi_pointer pointer[ACPI_POINTERS_MAX];
    unsigned pointer_count;
};

/* The tables as they are at `base` (64-byte aligned), checksums right. Always succeeds:
 * a configuration that machine_init takes fits. */
void acpi_build(const struct acpi_conf *conf, uint32_t base, struct acpi_tables *ret);
/* Into 0xE0000..0xFFFFF of guest memory; false: there is no writable memory. */
bool acpi_place(const struct acpi_conf *conf, struct gmem *gm, struct gpa *ret_rsdp);

/* fw_cfg's etc/table-loader for tables built at base 0 (QEMU hw/acpi/bios-linker-loader):
 * bytes used of `buf`. */
#define ACPI_LOADER_ENTRY_LEN 128
#define ACPI_LOADER_MAX                                                                  \
    (ACPI_LOADER_ENTRY_LEN * (2 + ACPI_POINTERS_MAX + 2 + ACPI_TABLES_COUNT_MAX + 2))
#define ACPI_FILE_RSDP   "etc/acpi/rsdp"
#define ACPI_FILE_TABLES "etc/acpi/tables"
#define ACPI_FILE_LOADER "etc/table-loader"
uint32_t acpi_loader_build(const struct acpi_tables *tables,
                           uint8_t buf[ACPI_LOADER_MAX]);
