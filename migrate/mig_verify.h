/* SPDX-License-Identifier: Apache-2.0 */
/* Verify mode: a hash of each 2 MiB block of RAM, made at both ends of memory that stands
 * still. Finds mistakes, not attackers. */
#pragma once

#include <stdint.h>

#include "vmm/engine_ram.h"

/* Of block `block`, shorter at the end of RAM. Pages that do not exist count as zeros and
 * are not made. */
uint64_t mig_verify_hash(const struct engine_ram *ram, uint64_t block);
