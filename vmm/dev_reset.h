/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reset control: port 0xCF9 (Intel ICH9 datasheet 13.7.5) and the keyboard controller's
 * pulse command 0xFE at port 0x64. There is no 8042 behind 0x64: it reads as all ones.
 */
#pragma once

#include "vmm/dev.h"

#define RESET_OFFSET_CF9 0
#define RESET_OFFSET_KBD 1

struct dev_reset {
    uint8_t control; /* SYS_RST, FULL_RST as last written */
};

extern const struct dev_class dev_reset_class;
