/* SPDX-License-Identifier: Apache-2.0 */
/* Kernels made of nothing, for the tests of the loaders and their fuzz targets. */
#pragma once

#include "vmm/boot_linux.h"

#define BOOT_RIG_RAM (UINT64_C(8) << 20)

struct boot_rig {
    struct gmem gm;
    uint8_t *ram;
    uint64_t dirty[BOOT_RIG_RAM / 4096 / 64];
};

struct boot_bytes {
    const uint8_t *bytes;
    uint64_t len;
    uint64_t fails_at; /* reads that reach this offset fail */
};

void boot_rig_init(struct boot_rig *rig);
void boot_rig_free(struct boot_rig *rig);
/* The source of those bytes; panics when it is asked for what lies outside of them. */
struct boot_source boot_rig_source(struct boot_bytes *bytes);

/* A bzImage of 3 setup sectors and `code_len` bytes (multiple of 16) of code: bytes
 * used. */
#define BOOT_RIG_FILE_MAX 65536
size_t boot_rig_bzimage(uint8_t file[BOOT_RIG_FILE_MAX], uint32_t code_len);
/* An ELF with a note and two segments. */
size_t boot_rig_elf(uint8_t file[BOOT_RIG_FILE_MAX]);
