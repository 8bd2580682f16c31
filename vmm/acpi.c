/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/acpi.h"

#include <string.h>

#include "base/bug.h"
#include "base/le.h"
#include "vmm/acpi_dsdt.h"
#include "vmm/board.h"
#include "vmm/dev_pm.h"

#define HEADER_LEN    36
#define CHECKSUM_AT   9
#define TABLE_ALIGN   64 /* what the FACS needs, for all */
#define GAS_LEN       12
#define GAS_IO        1

#define FADT_LEN      276 /* ACPI 6.0 */
#define FADT_REVISION 6
#define FADT_MINOR    0
#define FADT_FLAGS                                                                       \
    0x00000565 /* WBINVD, C1, no sleep button, no RTC wake, 32-bit timer, reset          \
                */
#define BOOT_ARCH_LEGACY 0x0001 /* devices on an ISA bus */
#define BOOT_ARCH_NO_VGA 0x0004
#define BOOT_ARCH_NO_MSI 0x0008
#define LATENCY_NO_C2    0x0FFF
#define RTC_CENTURY      0x32
#define RESET_VALUE      0x06 /* system reset (vmm/dev_reset) */

#define MADT_PCAT        1 /* there is an 8259 pair too */
#define MADT_LEVEL_HIGH  0x000D
#define MADT_ALL_CPUS    0xFF

/* Signatures as integers would hide their order; they are four characters. */
struct builder {
    struct acpi_tables *t;
    struct bytes_wr wr;
    const struct acpi_conf *conf;
    uint32_t base;
};

static uint8_t checksum(const uint8_t *bytes, size_t len)
{
    uint8_t sum = 0;

    for (size_t i = 0; i < len; i++) {
        sum = (uint8_t)(sum + bytes[i]);
    }
    return (uint8_t)-sum;
}

static void fill(struct bytes_wr *wr, size_t len)
{
    while (len-- > 0) {
        bytes_wr_u8(wr, 0);
    }
}

/* Starts a table: aligned, with the header that all but the FACS have (5.2.6). */
static uint32_t table_begin(struct builder *b, const char *signature, uint8_t revision)
{
    uint32_t at;

    while (b->wr.pos % TABLE_ALIGN != 0) {
        bytes_wr_u8(&b->wr, 0);
    }
    at = (uint32_t)b->wr.pos;
    bytes_wr_copy(&b->wr, signature, 4);
    bytes_wr_u32(&b->wr, 0); /* length and checksum come at the end */
    bytes_wr_u8(&b->wr, revision);
    bytes_wr_u8(&b->wr, 0);
    bytes_wr_copy(&b->wr, "GEMEL ", 6);
    bytes_wr_copy(&b->wr, b->conf->type == MACHINE_STANDARD ? "STANDARD" : "LOCKSTEP", 8);
    bytes_wr_u32(&b->wr, 1);
    bytes_wr_copy(&b->wr, "GEML", 4);
    bytes_wr_u32(&b->wr, 1);
    return at;
}

static void table_note(struct builder *b, uint32_t at, bool no_checksum)
{
    BUG_ON(b->t->table_count == ACPI_TABLES_COUNT_MAX);
    b->t->table[b->t->table_count++] = (struct acpi_table){
        .at = at, .len = (uint32_t)b->wr.pos - at, .no_checksum = no_checksum};
}

static void table_end(struct builder *b, uint32_t at)
{
    uint32_t len = (uint32_t)b->wr.pos - at;
    uint8_t *table = b->t->bytes + at;

    BUG_ON(b->wr.failed); /* ACPI_TABLES_MAX holds the largest machine */
    memcpy(table + 4, &(struct le32){len}, 4);
    table[CHECKSUM_AT] = checksum(table, len);
    table_note(b, at, false);
}

/* Where a table is, for the loader of firmware to correct. 0 stays 0. */
static void pointer(struct builder *b, uint32_t to, uint8_t width)
{
    BUG_ON(b->t->pointer_count == ACPI_POINTERS_MAX);
    b->t->pointer[b->t->pointer_count++] =
        (struct acpi_pointer){.at = (uint32_t)b->wr.pos, .width = width};
    if (width == 8) {
        bytes_wr_u64(&b->wr, b->base + to);
    } else {
        bytes_wr_u32(&b->wr, b->base + to);
    }
}

/* Generic address of a port (5.2.3.2); access size as its width. */
static void gas_io(struct builder *b, uint8_t bits, uint16_t port)
{
    bytes_wr_u8(&b->wr, GAS_IO);
    bytes_wr_u8(&b->wr, bits);
    bytes_wr_u8(&b->wr, 0);
    bytes_wr_u8(&b->wr, bits == 8 ? 1 : bits == 16 ? 2 : 3);
    bytes_wr_u64(&b->wr, port);
}

static uint32_t build_dsdt(struct builder *b)
{
    uint32_t at = table_begin(b, "DSDT", 2); /* 2: integers of 64 bits */
    struct aml a = {.wr = b->wr};

    acpi_dsdt_body(&a, b->conf);
    b->wr = a.wr;
    table_end(b, at);
    return at;
}

static uint32_t build_facs(struct builder *b)
{
    uint32_t at;

    while (b->wr.pos % TABLE_ALIGN != 0) {
        bytes_wr_u8(&b->wr, 0);
    }
    at = (uint32_t)b->wr.pos;
    bytes_wr_copy(&b->wr, "FACS", 4);
    bytes_wr_u32(&b->wr, 64);
    fill(&b->wr, 24); /* no signature of hardware, no waking, lock free */
    bytes_wr_u8(&b->wr, 2);
    fill(&b->wr, 31);
    table_note(b, at, true);
    return at;
}

/* Ports, lengths and latencies of 5.2.9, offsets 46 to 108. */
static void fadt_fixed(struct builder *b)
{
    bool standard = b->conf->type == MACHINE_STANDARD;

    bytes_wr_u16(&b->wr, BOARD_SCI_IRQ);
    fill(&b->wr, 8); /* no SMI: ACPI is always on */
    bytes_wr_u32(&b->wr, BOARD_PM_PORT + PM_OFFSET_STATUS);
    bytes_wr_u32(&b->wr, 0);
    bytes_wr_u32(&b->wr, BOARD_PM_PORT + PM_OFFSET_CONTROL);
    fill(&b->wr, 8); /* PM1b, PM2 */
    bytes_wr_u32(&b->wr, BOARD_PM_PORT + PM_OFFSET_TIMER);
    fill(&b->wr, 8); /* no general purpose events */
    bytes_wr_u8(&b->wr, 4);
    bytes_wr_u8(&b->wr, 2);
    bytes_wr_u8(&b->wr, 0);
    bytes_wr_u8(&b->wr, 4);
    fill(&b->wr, 4);
    bytes_wr_u16(&b->wr, LATENCY_NO_C2);
    bytes_wr_u16(&b->wr, LATENCY_NO_C2);
    fill(&b->wr, 8); /* cache flush, duty cycle, alarm days */
    bytes_wr_u8(&b->wr, RTC_CENTURY);
    bytes_wr_u16(&b->wr,
                 BOOT_ARCH_LEGACY | BOOT_ARCH_NO_VGA | (standard ? 0 : BOOT_ARCH_NO_MSI));
    bytes_wr_u8(&b->wr, 0);
}

static uint32_t build_fadt(struct builder *b, uint32_t facs, uint32_t dsdt)
{
    uint32_t at = table_begin(b, "FACP", FADT_REVISION);

    pointer(b, facs, 4);
    pointer(b, dsdt, 4); /* SeaBIOS reads this one */
    bytes_wr_u8(&b->wr, 0);
    bytes_wr_u8(&b->wr, 0); /* no preferred profile */
    fadt_fixed(b);
    bytes_wr_u32(&b->wr, FADT_FLAGS);
    gas_io(b, 8, BOARD_RESET_PORT);
    bytes_wr_u8(&b->wr, RESET_VALUE);
    bytes_wr_u16(&b->wr, 0);
    bytes_wr_u8(&b->wr, FADT_MINOR);
    bytes_wr_u64(&b->wr, 0); /* the FACS has one pointer, or the other */
    pointer(b, dsdt, 8);
    gas_io(b, 32, BOARD_PM_PORT + PM_OFFSET_STATUS);
    fill(&b->wr, GAS_LEN);
    gas_io(b, 16, BOARD_PM_PORT + PM_OFFSET_CONTROL);
    fill(&b->wr, 2 * GAS_LEN);
    gas_io(b, 32, BOARD_PM_PORT + PM_OFFSET_TIMER);
    fill(&b->wr, 2 * GAS_LEN); /* GPE0, GPE1 */
    fill(&b->wr, 2 * GAS_LEN); /* sleep registers are for hardware-reduced machines */
    bytes_wr_u64(&b->wr, 0);   /* hypervisor vendor */
    BUG_ON(b->wr.pos - at != FADT_LEN);
    table_end(b, at);
    return at;
}

static void madt_override(struct builder *b, uint8_t irq, uint32_t gsi, uint16_t flags)
{
    bytes_wr_u8(&b->wr, 2);
    bytes_wr_u8(&b->wr, 10);
    bytes_wr_u8(&b->wr, 0); /* ISA */
    bytes_wr_u8(&b->wr, irq);
    bytes_wr_u32(&b->wr, gsi);
    bytes_wr_u16(&b->wr, flags);
}

static uint32_t build_madt(struct builder *b)
{
    uint32_t at = table_begin(b, "APIC", 4);

    bytes_wr_u32(&b->wr, (uint32_t)BOARD_LAPIC_BASE);
    bytes_wr_u32(&b->wr, MADT_PCAT);
    for (unsigned i = 0; i < b->conf->cpu_count; i++) {
        bytes_wr_u8(&b->wr, 0); /* local APIC */
        bytes_wr_u8(&b->wr, 8);
        bytes_wr_u8(&b->wr, (uint8_t)i);
        bytes_wr_u8(&b->wr, (uint8_t)i);
        bytes_wr_u32(&b->wr, 1); /* enabled */
    }
    bytes_wr_u8(&b->wr, 1); /* I/O APIC */
    bytes_wr_u8(&b->wr, 12);
    bytes_wr_u16(&b->wr, 0);
    bytes_wr_u32(&b->wr, (uint32_t)BOARD_IOAPIC_BASE);
    bytes_wr_u32(&b->wr, 0);
    madt_override(b, 0, 2, 0); /* the PIT, as KVM wires it */
    madt_override(b, BOARD_SCI_IRQ, BOARD_SCI_IRQ, MADT_LEVEL_HIGH);
    bytes_wr_u8(&b->wr, 4); /* NMI at LINT1 */
    bytes_wr_u8(&b->wr, 6);
    bytes_wr_u8(&b->wr, MADT_ALL_CPUS);
    bytes_wr_u16(&b->wr, 0);
    bytes_wr_u8(&b->wr, 1);
    table_end(b, at);
    return at;
}

static uint32_t build_mcfg(struct builder *b)
{
    uint32_t at = table_begin(b, "MCFG", 1);

    bytes_wr_u64(&b->wr, 0);
    bytes_wr_u64(&b->wr, BOARD_ECAM_BASE);
    bytes_wr_u16(&b->wr, 0);
    bytes_wr_u8(&b->wr, 0);
    bytes_wr_u8(&b->wr, 0xFF);
    bytes_wr_u32(&b->wr, 0);
    table_end(b, at);
    return at;
}

static uint32_t build_root(struct builder *b, const char *signature, uint8_t width,
                           const uint32_t *entry, unsigned count)
{
    uint32_t at = table_begin(b, signature, 1);

    for (unsigned i = 0; i < count; i++) {
        pointer(b, entry[i], width);
    }
    table_end(b, at);
    return at;
}

/* Not in the tables: it lies where a kernel or firmware looks for it (5.2.5.3). */
static void build_rsdp(struct builder *b, uint32_t rsdt, uint32_t xsdt)
{
    struct bytes_wr wr = bytes_wr_make(b->t->rsdp, ACPI_RSDP_LEN);

    bytes_wr_copy(&wr, "RSD PTR ", 8);
    bytes_wr_u8(&wr, 0);
    bytes_wr_copy(&wr, "GEMEL ", 6);
    bytes_wr_u8(&wr, 2);
    bytes_wr_u32(&wr, b->base + rsdt);
    bytes_wr_u32(&wr, ACPI_RSDP_LEN);
    bytes_wr_u64(&wr, b->base + xsdt);
    fill(&wr, 4);
    b->t->rsdp[8] = checksum(b->t->rsdp, 20);
    b->t->rsdp[32] = checksum(b->t->rsdp, ACPI_RSDP_LEN);
}

void acpi_build(const struct acpi_conf *conf, uint32_t base, struct acpi_tables *ret)
{
    struct builder b = {.t = ret, .conf = conf, .base = base};
    uint32_t dsdt, facs, root[3], rsdt, xsdt;
    unsigned count = 0;

    memset(ret, 0, sizeof *ret);
    b.wr = bytes_wr_make(ret->bytes, sizeof ret->bytes);
    dsdt = build_dsdt(&b);
    facs = build_facs(&b);
    root[count++] = build_fadt(&b, facs, dsdt);
    if (conf->type == MACHINE_STANDARD) {
        root[count++] = build_madt(&b);
        root[count++] = build_mcfg(&b);
    }
    rsdt = build_root(&b, "RSDT", 4, root, count);
    xsdt = build_root(&b, "XSDT", 8, root, count);
    BUG_ON(b.wr.failed);
    ret->len = (uint32_t)b.wr.pos;
    build_rsdp(&b, rsdt, xsdt);
}

bool acpi_place(const struct acpi_conf *conf, struct gmem *gm, struct gpa *ret_rsdp)
{
    struct acpi_tables t;

    acpi_build(conf, ACPI_TABLES_GPA, &t);
    if (!gmem_write(gm, (struct gpa){ACPI_TABLES_GPA}, t.bytes, t.len) ||
        !gmem_write(gm, (struct gpa){ACPI_RSDP_GPA}, t.rsdp, sizeof t.rsdp)) {
        return false;
    }
    ret_rsdp->v = ACPI_RSDP_GPA;
    return true;
}
