/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The build id of a program: what the linker wrote of it (--build-id), the same in the
 * file and in /proc/PID/exe of who runs it, and another one for every other build. Pure.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BUILD_ID_LEN 40 /* in hex; a longer one is cut */
/* How much of the beginning of a file is looked at: its notes come first. */
#define BUILD_ID_HEAD 4096

/* From the first `len` bytes of a little-endian 64-bit ELF file (System V ABI, chapters 4
 * and 5; PT_NOTE, owner "GNU", type 3). False: there is none. */
bool elf_build_id(const uint8_t *head, size_t len, char ret_hex[BUILD_ID_LEN + 1]);
