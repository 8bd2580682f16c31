/* SPDX-License-Identifier: Apache-2.0 */
/* acpi_run CASE: the ACPI tables of a board as text. acpi_run CASE FILE: its DSDT as AML.
 * Cases are listed below; acpi_run alone prints their names. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/acpi.h"

static const struct {
    const char *name;
    struct acpi_conf conf;
} cases[] = {
    {"lockstep",
     {.type = MACHINE_LOCKSTEP, .cpu_count = 1, .virtio_count = 4, .ram_len = 1 << 28}},
    {"lockstep-bare", {.type = MACHINE_LOCKSTEP, .cpu_count = 1, .ram_len = 1 << 28}},
    {"standard-pci",
     {.type = MACHINE_STANDARD,
      .transport = MACHINE_TRANSPORT_PCI,
      .cpu_count = 4,
      .virtio_count = 4,
      .ram_len = 1 << 28}},
    {"standard-mmio",
     {.type = MACHINE_STANDARD,
      .transport = MACHINE_TRANSPORT_MMIO,
      .cpu_count = 2,
      .virtio_count = 9,
      .ram_len = 1 << 28}},
};

static struct acpi_tables tables;

static void dump(const uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        printf("%s%02x", i % 16 == 0 ? "\n  " : " ", bytes[i]);
    }
    printf("\n");
}

static int write_dsdt(const char *path)
{
    FILE *f = fopen(path, "wb");

    if (!f) {
        perror(path);
        return EXIT_FAILURE;
    }
    fwrite(tables.bytes + tables.table[0].at, 1, tables.table[0].len, f);
    return fclose(f) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

int main(int argc, char **argv)
{
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        if (argc < 2) {
            printf("%s\n", cases[i].name);
            continue;
        }
        if (strcmp(argv[1], cases[i].name) != 0) {
            continue;
        }
        acpi_build(&cases[i].conf, ACPI_TABLES_GPA, &tables);
        if (argc > 2) {
            return write_dsdt(argv[2]);
        }
        printf("RSDP");
        dump(tables.rsdp, sizeof tables.rsdp);
        for (unsigned t = 0; t < tables.table_count; t++) {
            const struct acpi_table *table = &tables.table[t];

            printf("%.4s at %#x", (const char *)tables.bytes + table->at, table->at);
            dump(tables.bytes + table->at, table->len);
        }
        return EXIT_SUCCESS;
    }
    return argc < 2 ? EXIT_SUCCESS : EXIT_FAILURE;
}
