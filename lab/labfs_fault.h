/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The faults of one labfs: slow, failing, full or unreachable storage, and writes that
 * reach the disk early. Set by control messages (labfs.h), asked by its operations. Any
 * thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* Starts the thread that obeys control_fd. 0 or -errno. */
int labfs_fault_start(int control_fd);
/* Storage out of reach: every operation waits, as on a hard mount. */
void labfs_fault_wait(void);
/* Before each operation on data; -EIO if that is the fault of the day. */
int labfs_fault_before_data(bool slow);
/* Some of what was written reaches the disk early and in any order, as from a page cache.
 */
bool labfs_fault_written_early(void);
/* A disk that fills up. */
bool labfs_fault_room_is_limited(void);
bool labfs_fault_take_room(int64_t bytes);
