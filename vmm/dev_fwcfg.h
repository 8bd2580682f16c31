/* SPDX-License-Identifier: Apache-2.0 */
/*
 * QEMU's fw_cfg by ports (QEMU docs/specs/fw_cfg: selector 0x510, data 0x511, no DMA):
 * how the guest's firmware learns its command line and the epoch it runs at. The same ROM
 * works in QEMU with -fw_cfg name=opt/gemel/cmdline,string=...
 */
#pragma once

#include "vmm/dev.h"

#define FWCFG_OFFSET_SELECT 0
#define FWCFG_OFFSET_DATA   1

#define FWCFG_KEY_SIGNATURE 0x00 /* "QEMU" */
#define FWCFG_KEY_ID        0x01 /* u32: 1, the port interface */
#define FWCFG_KEY_RAM_SIZE  0x03 /* u64, bytes */
#define FWCFG_KEY_NOGRAPHIC 0x04 /* u16: 1 */
#define FWCFG_KEY_NB_CPUS   0x05 /* u16: 1 */
#define FWCFG_KEY_MAX_CPUS  0x0F /* u16: 1 */
#define FWCFG_KEY_DIR                                                                    \
    0x19 /* u32 BE count, then {u32 BE size, u16 BE key, u16 0, char name[56]} each */
#define FWCFG_KEY_FILE0    0x20

#define FWCFG_FILE_CMDLINE "opt/gemel/cmdline" /* text, no NUL at its end */
#define FWCFG_FILE_EPOCH   "opt/gemel/epoch"   /* u64 LE, 0 until INPUT_EPOCH */
#define FWCFG_FILES        2
#define FWCFG_NAME_LEN     56

struct dev_fwcfg {
    /* From the configuration */
    uint8_t ram_size[8];
    uint8_t dir[4 + FWCFG_FILES * (8 + FWCFG_NAME_LEN)];
    /* State */
    uint16_t key;
    uint32_t pos; /* next byte of the selected item */
    uint8_t epoch[8];
    uint16_t cmdline_len; /* saved: what the guest was started with holds until it ends */
    char cmdline[GUEST_CMDLINE_MAX];
};

extern const struct dev_class dev_fwcfg_class;

/* -EINVAL: the command line is longer than GUEST_CMDLINE_MAX. NULL: empty. */
int dev_fwcfg_init(struct dev_fwcfg *fw, uint64_t ram_len, const char *cmdline);
