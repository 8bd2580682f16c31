/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Raw disks as a transfer sees them that copies them while the guest runs: where they
 * are, and which granules were written to (vmm/disk_marks.h). For threads of kind
 * SANDBOX_TRANSFER, once the VM was RUNNING; of one VM one thread at a time.
 */
#pragma once

#include "vmm/disk_marks.h"
#include "vmm/engine.h"

/* The disk, open, not to be closed; reads want buffers, offsets and lengths that O_DIRECT
 * takes. -1: it is not open, or not raw. */
int engine_disk_file(const struct engine *e, unsigned disk);
/* Whether its writes are marked: raw, and not read-only. */
bool engine_disk_marked(const struct engine *e, unsigned disk);
/* disk_marks_collect, _since, _rebase; only of one that is marked. */
uint64_t engine_disk_collect(struct engine *e, unsigned disk, uint64_t *bitmap);
bool engine_disk_since(const struct engine *e, unsigned disk, const struct uuid *base,
                       uint64_t *bitmap);
/* While the VM is FROZEN. */
void engine_disk_rebase(struct engine *e, unsigned disk, const struct uuid *base);
