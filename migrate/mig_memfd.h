/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Live upgrade: a transfer to another gemel-vmm of the same host. The agent asks the
 * source for the memfd behind guest memory and starts the destination with it
 * (--memory-fd), which maps it to be read only until its START (vm_ram_take). So there
 * are no pages to send: one round, empty, while the guest stands still; state, checks and
 * handover are those of every transfer. Both ends name the file by its inode, so that
 * neither takes another memory for the guest's.
 */
#pragma once

#include "migrate/mig_transfer_priv.h"

/* Inode of the file behind guest memory. 0: not known. */
uint64_t mig_memfd_id(const struct engine_ram *ram);
/* For people, at the READY of either end: "1024 MiB of memory handed over". */
int mig_memfd_text(const struct engine_ram *ram, char *text, size_t cap);
