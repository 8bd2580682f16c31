/* SPDX-License-Identifier: Apache-2.0 */
/*
 * QEMU's fw_cfg (QEMU docs/specs/fw_cfg): how firmware and guests learn about the board.
 * Selector 0x510, data 0x511; DMA by the physical address, big endian, of a descriptor
 * written to 0x514 (high half) and 0x518 (low half, which starts it). Everything is
 * read-only. SeaBIOS takes the memory map, the number of processors and the ACPI tables
 * from here; pulse its command line and epoch. The same ROM works in QEMU with
 * -fw_cfg name=opt/gemel/cmdline,string=...
 */
#pragma once

#include "vmm/acpi.h"
#include "vmm/dev.h"
#include "vmm/e820.h"

#define FWCFG_OFFSET_SELECT 0
#define FWCFG_OFFSET_DATA   1
#define FWCFG_OFFSET_DMA    4
#define FWCFG_DMA_RANGE_LEN 8

#define FWCFG_KEY_SIGNATURE 0x00 /* "QEMU" */
#define FWCFG_KEY_ID        0x01 /* u32: 1 port interface, 2 DMA */
#define FWCFG_KEY_RAM_SIZE  0x03 /* u64, bytes */
#define FWCFG_KEY_NOGRAPHIC 0x04 /* u16: 1 */
#define FWCFG_KEY_NB_CPUS   0x05 /* u16 */
#define FWCFG_KEY_MAX_CPUS  0x0F /* u16 */
#define FWCFG_KEY_DIR                                                                    \
    0x19 /* u32 BE count, then {u32 BE size, u16 BE key, u16 0, char name[56]} each */
#define FWCFG_KEY_FILE0         0x20
#define FWCFG_KEY_IRQ0_OVERRIDE 0x8002 /* u8: 1 where IRQ 0 is GSI 2 */

#define FWCFG_FILE_CMDLINE      "opt/gemel/cmdline" /* text, no NUL at its end */
#define FWCFG_FILE_EPOCH        "opt/gemel/epoch"   /* u64 LE, 0 until INPUT_EPOCH */
#define FWCFG_NAME_LEN          56

enum fwcfg_file { /* file i has key FWCFG_KEY_FILE0 + i */
                  FWCFG_CMDLINE = 0,
                  FWCFG_EPOCH,
                  FWCFG_E820,
                  FWCFG_ACPI_TABLES,
                  FWCFG_ACPI_RSDP,
                  FWCFG_ACPI_LOADER,
                  FWCFG_BOOT_MENU,
                  FWCFG_BOOT_FAIL_WAIT,
                  FWCFG_SERCON_PORT,
                  FWCFG_FILES,
};

/* The descriptor: u32 control, u32 length, u64 address, all big endian. */
#define FWCFG_DMA_LEN    16
#define FWCFG_DMA_ERROR  0x01
#define FWCFG_DMA_READ   0x02
#define FWCFG_DMA_SKIP   0x04
#define FWCFG_DMA_SELECT 0x08 /* key in the upper 16 bits */
#define FWCFG_DMA_WRITE  0x10
#define FWCFG_DMA_MAX    (1u << 20) /* bytes at once; more is an error */

struct dev_fwcfg {
    /* From the configuration */
    uint8_t ram_size[8], cpu_count[2], irq0_override;
    uint8_t dir[4 + FWCFG_FILES * (8 + FWCFG_NAME_LEN)];
    uint8_t e820[E820_ENTRIES_MAX * E820_ENTRY_LEN];
    uint8_t acpi_tables[ACPI_TABLES_MAX], acpi_rsdp[ACPI_RSDP_LEN];
    uint8_t acpi_loader[ACPI_LOADER_MAX];
    uint8_t boot_menu[2], boot_fail_wait[4], sercon_port[2];
    uint32_t file_len[FWCFG_FILES]; /* the command line's is state */
    /* State */
    uint16_t key;
    uint32_t pos;      /* next byte of the selected item */
    uint32_t dma_high; /* of the next descriptor's address */
    uint8_t epoch[8];
    char cmdline[GUEST_CMDLINE_MAX]; /* saved: what the guest was started with holds until
                                        it ends */
};

extern const struct dev_class dev_fwcfg_class;

/* -EINVAL: the command line is longer than GUEST_CMDLINE_MAX. NULL: empty. */
int dev_fwcfg_init(struct dev_fwcfg *fw, const struct acpi_conf *conf,
                   const char *cmdline);
