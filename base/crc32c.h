/* SPDX-License-Identifier: Apache-2.0 */
/* CRC-32C (Castagnoli, RFC 3720 B.4): crc32c(0, "123456789", 9) == 0xE3069283. Pure. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Continues `crc` (0 to begin) over `len` bytes. */
uint32_t crc32c(uint32_t crc, const void *buf, size_t len);
/* The same, by tables only. */
uint32_t crc32c_table(uint32_t crc, const void *buf, size_t len);
