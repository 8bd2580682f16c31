/* SPDX-License-Identifier: Apache-2.0 */
/* fw_cfg's etc/table-loader: commands by which firmware puts the tables into memory,
 * adds to each pointer the address of what it points into, and corrects the checksums.
 * The format is QEMU's (hw/acpi/bios-linker-loader.c). */
#include <string.h>

#include "base/bug.h"
#include "base/bytes.h"
#include "vmm/acpi.h"

#define COMMAND_ALLOCATE     1
#define COMMAND_ADD_POINTER  2
#define COMMAND_ADD_CHECKSUM 3
#define ZONE_HIGH            1
#define ZONE_FSEG            2 /* 0xE0000..0xFFFFF, where the RSDP is looked for */
#define FILE_NAME_LEN        56
#define TABLES_ALIGN         64
#define RSDP_ALIGN           16

struct script {
    uint8_t *buf;
    uint32_t len;
};

/* A fresh command of zeros, with its number. */
static struct bytes_wr command(struct script *s, uint32_t number)
{
    struct bytes_wr wr;

    BUG_ON(s->len + ACPI_LOADER_ENTRY_LEN > ACPI_LOADER_MAX);
    memset(s->buf + s->len, 0, ACPI_LOADER_ENTRY_LEN);
    wr = bytes_wr_make(s->buf + s->len, ACPI_LOADER_ENTRY_LEN);
    bytes_wr_u32(&wr, number);
    s->len += ACPI_LOADER_ENTRY_LEN;
    return wr;
}

static void put_file(struct bytes_wr *wr, const char *name)
{
    uint8_t field[FILE_NAME_LEN] = {0};

    memcpy(field, name, strlen(name));
    bytes_wr_copy(wr, field, sizeof field);
}

static void allocate(struct script *s, const char *file, uint32_t align, uint8_t zone)
{
    struct bytes_wr wr = command(s, COMMAND_ALLOCATE);

    put_file(&wr, file);
    bytes_wr_u32(&wr, align);
    bytes_wr_u8(&wr, zone);
}

static void add_pointer(struct script *s, const char *file, uint32_t at, uint8_t width)
{
    struct bytes_wr wr = command(s, COMMAND_ADD_POINTER);

    put_file(&wr, file);
    put_file(&wr, ACPI_FILE_TABLES);
    bytes_wr_u32(&wr, at);
    bytes_wr_u8(&wr, width);
}

static void add_checksum(struct script *s, const char *file, uint32_t at, uint32_t start,
                         uint32_t len)
{
    struct bytes_wr wr = command(s, COMMAND_ADD_CHECKSUM);

    put_file(&wr, file);
    bytes_wr_u32(&wr, at);
    bytes_wr_u32(&wr, start);
    bytes_wr_u32(&wr, len);
}

uint32_t acpi_loader_build(const struct acpi_tables *tables, uint8_t buf[ACPI_LOADER_MAX])
{
    struct script s = {.buf = buf};

    allocate(&s, ACPI_FILE_RSDP, RSDP_ALIGN, ZONE_FSEG);
    allocate(&s, ACPI_FILE_TABLES, TABLES_ALIGN, ZONE_HIGH);
    for (unsigned i = 0; i < tables->pointer_count; i++) {
        add_pointer(&s, ACPI_FILE_TABLES, tables->pointer[i].at,
                    tables->pointer[i].width);
    }
    for (unsigned i = 0; i < tables->table_count; i++) {
        const struct acpi_table *t = &tables->table[i];

        if (!t->no_checksum) {
            add_checksum(&s, ACPI_FILE_TABLES, t->at + 9, t->at, t->len);
        }
    }
    add_pointer(&s, ACPI_FILE_RSDP, 16, 4); /* RSDT */
    add_pointer(&s, ACPI_FILE_RSDP, 24, 8); /* XSDT */
    add_checksum(&s, ACPI_FILE_RSDP, 8, 0, 20);
    add_checksum(&s, ACPI_FILE_RSDP, 32, 0, ACPI_RSDP_LEN);
    return s.len;
}
