/* SPDX-License-Identifier: Apache-2.0 */
/* Reading and writing what a mirrored disk holds, for both ends of a transfer: files
 * (with holes) and block devices. Threads of kind SANDBOX_TRANSFER. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/vmm_error.h"

/* O_DIRECT takes buffers that begin at it. NULL: no memory; free() it. */
void *mig_extent_buffer(size_t len);
/* Where the file has data next: [*ret_begin, *ret_end) within [at, end); both are `end`
 * if there is none. A file that cannot tell has it everywhere. */
void mig_extent_data(int fd, uint64_t at, uint64_t end, uint64_t *ret_begin,
                     uint64_t *ret_end);
/* All of it: 0 or -errno. */
int mig_extent_read(int fd, void *buf, uint64_t len, uint64_t at);
int mig_extent_write(int fd, const void *buf, uint64_t len, uint64_t at);
/* It reads as zeros from now on. Holes stay holes, and what was written becomes one if
 * the file can. 0 or -errno. */
int mig_extent_zero(int fd, uint64_t len, uint64_t at);
/* Size in bytes: 0 or -errno. */
int mig_extent_size(int fd, uint64_t *ret_bytes);
