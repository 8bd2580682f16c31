/* SPDX-License-Identifier: Apache-2.0 */
/* Verify mode: a hash of each 2 MiB block of RAM, made at both ends of memory that stands
 * still. Finds mistakes, not attackers. */
#pragma once

#include <stdint.h>

#include "vmm/engine_ram.h"

/* The pages that exist, as found last: to look for them in each block anew would take
 * longer than all else. Begins with zeros. */
struct mig_verify_seen {
    uint64_t begin, end;
};
/* Of block `block`, shorter at the end of RAM; blocks in ascending order with the same
 * `seen`. Pages that do not exist count as zeros and are not made. */
uint64_t mig_verify_hash(const struct engine_ram *ram, struct mig_verify_seen *seen,
                         uint64_t block);
/* Of a disk, per 2 MiB, shorter at its end; zeros are as if they were not there, too.
 * `buffer`: 2 MiB, aligned to 4096. 0 or -errno. */
uint64_t mig_verify_disk_blocks(uint64_t bytes);
int mig_verify_disk(int fd, uint64_t bytes, uint64_t block, uint8_t *buffer,
                    uint64_t *ret_hash);
