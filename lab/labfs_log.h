/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The storage's own log of guest records (tests/guest/record.h), an oracle outside every
 * guest: one JSON line per record and event,
 * {"ev":"submit"|"durable","t_ns","node","vm","path","lba","len","epoch","seq","boot"}.
 * "submit": the node wrote it; "durable": it reached the backing store, where every node
 * sees it. Any thread.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Looks for records at every 512 bytes of what is written at `off` of the file `path`
 * (below the VM root). log_fd -1: no log. */
void labfs_log_write(int log_fd, const char *node, const char *event, const char *path,
                     uint64_t off, const void *buf, size_t len);
