/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Gemel's own block path for tests/bench/blk_driver: a process with the real engine of
 * `machine: standard` (I/O thread, virtio-pci with MSI-X, blk_uring), sandboxed as
 * gemel-vmm is. Only KVM is not the kernel's: its one vCPU sets the disk up over PCI as a
 * guest's driver does and then sleeps, its ioeventfd is the driver's doorbell, and a
 * message of MSI-X becomes a write to the driver's eventfd, one system call as it would
 * be.
 */
#pragma once

#include "tests/bench/blk_driver.h"

/* Starts the process. Wants root (the driver takes the files it needs out of that
 * process). Ends the program with a message if that fails. */
void blk_engine_open(const char *disk_path, struct blkd *ret_driver);
/* Ends the process. */
void blk_engine_close(struct blkd *d);
