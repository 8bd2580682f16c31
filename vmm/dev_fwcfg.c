/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/dev_fwcfg.h"

#include <errno.h>
#include <string.h>

#include "base/text.h"
#include "vmm/board.h"

#define ID_PORTS_DMA      3
#define BOOT_FAIL_WAIT_MS 10000 /* then SeaBIOS resets, and tries again */

static const uint8_t dma_signature[FWCFG_DMA_RANGE_LEN] = {'Q', 'E', 'M', 'U',
                                                           ' ', 'C', 'F', 'G'};

/* Where a file's bytes are; its length is in file_len. */
static const struct {
    const char *name;
    size_t offset;
} file_table[FWCFG_FILES] = {
    [FWCFG_CMDLINE] = {FWCFG_FILE_CMDLINE, offsetof(struct dev_fwcfg, cmdline)},
    [FWCFG_EPOCH] = {FWCFG_FILE_EPOCH, offsetof(struct dev_fwcfg, epoch)},
    [FWCFG_E820] = {"etc/e820", offsetof(struct dev_fwcfg, e820)},
    [FWCFG_ACPI_TABLES] = {ACPI_FILE_TABLES, offsetof(struct dev_fwcfg, acpi_tables)},
    [FWCFG_ACPI_RSDP] = {ACPI_FILE_RSDP, offsetof(struct dev_fwcfg, acpi_rsdp)},
    [FWCFG_ACPI_LOADER] = {ACPI_FILE_LOADER, offsetof(struct dev_fwcfg, acpi_loader)},
    [FWCFG_BOOT_MENU] = {"etc/show-boot-menu", offsetof(struct dev_fwcfg, boot_menu)},
    [FWCFG_BOOT_FAIL_WAIT] = {"etc/boot-fail-wait",
                              offsetof(struct dev_fwcfg, boot_fail_wait)},
    [FWCFG_SERCON_PORT] = {"etc/sercon-port", offsetof(struct dev_fwcfg, sercon_port)},
};

static void put_be32(uint8_t *p, uint32_t v)
{
    for (unsigned i = 0; i < 4; i++) {
        p[i] = (uint8_t)(v >> (24 - 8 * i));
    }
}

static uint32_t get_be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void put_le(uint8_t *p, unsigned len, uint64_t v)
{
    for (unsigned i = 0; i < len; i++) {
        p[i] = (uint8_t)(v >> (8 * i));
    }
}

static void dir_make(struct dev_fwcfg *fw)
{
    put_be32(fw->dir, FWCFG_FILES);
    for (uint32_t i = 0; i < FWCFG_FILES; i++) {
        uint8_t *entry = fw->dir + 4 + i * (8 + FWCFG_NAME_LEN);

        memset(entry, 0, 8 + FWCFG_NAME_LEN);
        put_be32(entry, fw->file_len[i]);
        put_be32(entry + 4, (FWCFG_KEY_FILE0 + i) << 16);
        text_copy((char *)entry + 8, FWCFG_NAME_LEN, file_table[i].name);
    }
}

static void e820_make(struct dev_fwcfg *fw, const struct acpi_conf *conf)
{
    struct e820_entry map[E820_ENTRIES_MAX];
    unsigned count = e820_build(conf->type, conf->ram_len, true, map);

    for (unsigned i = 0; i < count; i++) {
        uint8_t *p = fw->e820 + i * E820_ENTRY_LEN;

        put_le(p, 8, map[i].base);
        put_le(p + 8, 8, map[i].len);
        put_le(p + 16, 4, map[i].type);
    }
    fw->file_len[FWCFG_E820] = count * E820_ENTRY_LEN;
}

static void acpi_make(struct dev_fwcfg *fw, const struct acpi_conf *conf)
{
    struct acpi_tables tables;

    acpi_build(conf, 0, &tables);
    memcpy(fw->acpi_tables, tables.bytes, tables.len);
    memcpy(fw->acpi_rsdp, tables.rsdp, sizeof fw->acpi_rsdp);
    fw->file_len[FWCFG_ACPI_TABLES] = tables.len;
    fw->file_len[FWCFG_ACPI_RSDP] = sizeof fw->acpi_rsdp;
    fw->file_len[FWCFG_ACPI_LOADER] = acpi_loader_build(&tables, fw->acpi_loader);
}

int dev_fwcfg_init(struct dev_fwcfg *fw, const struct acpi_conf *conf,
                   const char *cmdline)
{
    size_t len = cmdline != NULL ? strnlen(cmdline, GUEST_CMDLINE_MAX + 1) : 0;

    if (len > GUEST_CMDLINE_MAX) {
        return -EINVAL;
    }
    memset(fw, 0, sizeof *fw);
    put_le(fw->ram_size, sizeof fw->ram_size, conf->ram_len);
    put_le(fw->cpu_count, sizeof fw->cpu_count, conf->cpu_count);
    fw->irq0_override = conf->type == MACHINE_STANDARD;
    if (len > 0) {
        memcpy(fw->cmdline, cmdline, len);
    }
    fw->file_len[FWCFG_CMDLINE] = (uint32_t)len;
    fw->file_len[FWCFG_EPOCH] = sizeof fw->epoch;
    e820_make(fw, conf);
    acpi_make(fw, conf);
    put_le(fw->boot_fail_wait, sizeof fw->boot_fail_wait, BOOT_FAIL_WAIT_MS);
    put_le(fw->sercon_port, sizeof fw->sercon_port, BOARD_SERIAL_PORT);
    fw->file_len[FWCFG_BOOT_MENU] = sizeof fw->boot_menu;
    fw->file_len[FWCFG_BOOT_FAIL_WAIT] = sizeof fw->boot_fail_wait;
    fw->file_len[FWCFG_SERCON_PORT] = sizeof fw->sercon_port;
    dir_make(fw);
    return 0;
}

/* The bytes behind a key; keys that do not exist are empty, and everything reads as zeros
 * past its end. */
static const uint8_t *item_of(const struct dev_fwcfg *fw, size_t *ret_len)
{
    static const uint8_t signature[4] = {'Q', 'E', 'M', 'U'}, one_u16[2] = {1, 0},
                         id[4] = {ID_PORTS_DMA, 0, 0, 0};
    unsigned file = (unsigned)fw->key - FWCFG_KEY_FILE0;

    if (file < FWCFG_FILES) {
        *ret_len = fw->file_len[file];
        return (const uint8_t *)fw + file_table[file].offset;
    }
    switch (fw->key) {
    case FWCFG_KEY_SIGNATURE:
        *ret_len = sizeof signature;
        return signature;
    case FWCFG_KEY_ID:
        *ret_len = sizeof id;
        return id;
    case FWCFG_KEY_RAM_SIZE:
        *ret_len = sizeof fw->ram_size;
        return fw->ram_size;
    case FWCFG_KEY_NOGRAPHIC:
        *ret_len = sizeof one_u16;
        return one_u16;
    case FWCFG_KEY_NB_CPUS:
    case FWCFG_KEY_MAX_CPUS:
        *ret_len = sizeof fw->cpu_count;
        return fw->cpu_count;
    case FWCFG_KEY_DIR:
        *ret_len = sizeof fw->dir;
        return fw->dir;
    case FWCFG_KEY_IRQ0_OVERRIDE:
        *ret_len = sizeof fw->irq0_override;
        return &fw->irq0_override;
    default:
        *ret_len = 0;
        return signature;
    }
}

/* DMA ----------------------------------------------------------------------------- */

static bool dma_read(struct dev_fwcfg *fw, struct gmem *gm, struct gpa to, uint32_t len)
{
    size_t item_len, part;
    const uint8_t *item = item_of(fw, &item_len);
    uint8_t *dst;

    if (len == 0) {
        return true;
    }
    dst = len <= FWCFG_DMA_MAX ? gmem_slice(gm, to, len, true) : NULL;
    if (dst == NULL) {
        return false;
    }
    part = fw->pos < item_len ? item_len - fw->pos : 0;
    part = part < len ? part : len;
    memcpy(dst, item + (part > 0 ? fw->pos : 0), part);
    memset(dst + part, 0, len - part);
    gmem_mark_dirty(gm, to, len);
    fw->pos += (uint32_t)part;
    return true;
}

/* Past the end is as good as at the end. */
static void dma_skip(struct dev_fwcfg *fw, uint32_t len)
{
    size_t item_len;

    (void)item_of(fw, &item_len);
    if (fw->pos >= item_len || len >= item_len - fw->pos) {
        fw->pos = (uint32_t)item_len;
    } else {
        fw->pos += len;
    }
}

/* The descriptor is copied before it is looked at; the answer is its control word, 0 when
 * all went well. One that is not in memory has no place for an answer. */
static void dma_run(struct dev_fwcfg *fw, struct gmem *gm, struct gpa at)
{
    uint8_t descriptor[FWCFG_DMA_LEN], answer[4];
    uint32_t control, len;
    struct gpa to;
    bool ok = true;

    if (!gmem_read(gm, at, descriptor, sizeof descriptor)) {
        return;
    }
    control = get_be32(descriptor);
    len = get_be32(descriptor + 4);
    to.v = (uint64_t)get_be32(descriptor + 8) << 32 | get_be32(descriptor + 12);
    if ((control & FWCFG_DMA_SELECT) != 0) {
        fw->key = (uint16_t)(control >> 16);
        fw->pos = 0;
    }
    if ((control & FWCFG_DMA_READ) != 0) {
        ok = dma_read(fw, gm, to, len);
    } else if ((control & FWCFG_DMA_WRITE) != 0) {
        ok = false;
    } else if ((control & FWCFG_DMA_SKIP) != 0) {
        dma_skip(fw, len);
    }
    put_be32(answer, ok ? 0 : FWCFG_DMA_ERROR);
    (void)gmem_write(gm, at, answer, sizeof answer);
}

static void dma_write(struct dev_fwcfg *fw, struct gmem *gm, uint64_t offset,
                      unsigned len, uint64_t value)
{
    uint32_t half = __builtin_bswap32((uint32_t)value);

    if (len != 4) {
        return;
    }
    if (offset == FWCFG_OFFSET_DMA) {
        fw->dma_high = half;
    } else if (offset == FWCFG_OFFSET_DMA + 4) {
        struct gpa at = {(uint64_t)fw->dma_high << 32 | half};

        fw->dma_high = 0;
        dma_run(fw, gm, at);
    }
}

/* Ports --------------------------------------------------------------------------- */

static void fwcfg_reset(void *dev, struct effects *fx)
{
    struct dev_fwcfg *fw = dev;

    (void)fx;
    fw->key = 0;
    fw->pos = 0;
    fw->dma_high = 0;
}

static uint64_t fwcfg_read(void *dev, struct gmem *gm, uint64_t offset, unsigned len,
                           struct effects *fx)
{
    struct dev_fwcfg *fw = dev;
    uint64_t value = 0;
    size_t item_len;
    const uint8_t *item;

    (void)gm;
    (void)fx;
    if (offset >= FWCFG_OFFSET_DMA) {
        for (unsigned i = 0; i < len; i++) {
            value |= (uint64_t)dma_signature[offset - FWCFG_OFFSET_DMA + i] << (8 * i);
        }
        return value;
    }
    if (offset != FWCFG_OFFSET_DATA || len != 1) {
        return UINT64_MAX;
    }
    item = item_of(fw, &item_len);
    return fw->pos < item_len ? item[fw->pos++] : 0;
}

static void fwcfg_write(void *dev, struct gmem *gm, uint64_t offset, unsigned len,
                        uint64_t value, struct effects *fx)
{
    struct dev_fwcfg *fw = dev;

    (void)fx;
    if (offset >= FWCFG_OFFSET_DMA) {
        dma_write(fw, gm, offset, len, value);
    } else if (offset == FWCFG_OFFSET_SELECT &&
               len == 2) { /* data is read-only, as in QEMU since 2.4 */
        fw->key = (uint16_t)value;
        fw->pos = 0;
    }
}

static void fwcfg_input(void *dev, struct gmem *gm, const struct dev_input *in,
                        struct effects *fx)
{
    struct dev_fwcfg *fw = dev;

    (void)gm;
    (void)fx;
    if (in->type == INPUT_EPOCH) {
        put_le(fw->epoch, sizeof fw->epoch, in->value);
    }
}

/* Version 2 adds dma_high. */
static int fwcfg_xfer(void *dev, struct state_io *io)
{
    struct dev_fwcfg *fw = dev;
    uint16_t cmdline_len = (uint16_t)fw->file_len[FWCFG_CMDLINE];

    state_u16(io, &fw->key);
    state_u32(io, &fw->pos);
    state_bytes(io, fw->epoch, sizeof fw->epoch);
    state_u16(io, &cmdline_len);
    if (cmdline_len > GUEST_CMDLINE_MAX) {
        state_refuse(io, "cmdline_len");
        return state_end(io);
    }
    fw->file_len[FWCFG_CMDLINE] = cmdline_len;
    state_bytes(io, fw->cmdline, cmdline_len);
    dir_make(fw);
    if (io->section.version >= 2) {
        state_u32(io, &fw->dma_high);
    } else {
        fw->dma_high = 0;
    }
    return state_end(io);
}

const struct dev_class dev_fwcfg_class = {
    .name = "fwcfg",
    .version = 2,
    .min_reader = 1,
    .state_size = sizeof(struct dev_fwcfg),
    .reset = fwcfg_reset,
    .read = fwcfg_read,
    .write = fwcfg_write,
    .input = fwcfg_input,
    .xfer = fwcfg_xfer,
};
