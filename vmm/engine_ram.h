/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest memory as live migration sees it: where it lies, which pages were written to, and
 * that of a destination before it runs. The functions are for threads of kind
 * SANDBOX_TRANSFER, while the guest runs or stands still; engine_dirty_* may come from
 * several of them. RAM pages of 4 KiB are numbered as in vmm/state_stream, low part
 * first. See vmm/dirty_log.h for the order in which marks, protection and reads come.
 * When the VM is FROZEN, collect for the last time after engine_save_wait: should KVM
 * write to guest memory while it is asked for a vCPU's state, that is seen as well.
 */
#pragma once

#include "vmm/dirty_log.h"
#include "vmm/engine.h"

struct engine_ram {
    uint8_t *host; /* all of RAM, page `i` at host + i * 4096 */
    uint64_t len, page_count;
    int fd;    /* the file behind it (a memfd); not to be closed */
    bool huge; /* in huge pages of 2 MiB (hugetlb): no page goes back to the host */
    bool kept; /* it came with its contents, and cannot be written to before START */
};

void engine_ram(const struct engine *e, struct engine_ram *ret_ram);
/* Moves *begin to the first page at or after it that exists, *end to the first behind it
 * that does not (or the last page + 1). False: none is left. Pages that do not exist read
 * as zeros, and to look at them would allocate them: send them as discarded, after
 * engine_dirty_protect. */
bool engine_ram_data(const struct engine_ram *ram, uint64_t *begin, uint64_t *end);

/* Source. See dirty_log_begin, _collect, _protect, _end. The log ends with the engine. */
int engine_dirty_begin(struct engine *e, enum dirty_way way, struct vmm_error *err);
int engine_dirty_collect(struct engine *e, uint64_t *bitmap, uint64_t *ret_pages);
int engine_dirty_protect(struct engine *e, uint64_t first, uint64_t count);
void engine_dirty_end(struct engine *e);
/* Switches off a log that the vCPU thread has left behind. */
void engine_dirty_tidy(struct engine *e);

/* Destination. In CREATED: RAM is all zeros from now on and the caller's to fill (unless
 * it is kept), and a START succeeds only after engine_state_check. 0; -EINVAL with a
 * text: not CREATED. */
int engine_receive(struct engine *e, struct vmm_error *err);
/* Has these pages allocated, zeroed and mapped before they are written to, in pieces of
 * at most 8 MiB (some ms each), between which *cancel is looked at (NULL: not). In huge
 * pages where the host has them for shared memory (shmem_enabled: advise). 0, -ECANCELED,
 * or -ENOMEM; where the kernel cannot (before 5.14), 0: they come at the first touch. */
int engine_ram_populate(const struct engine_ram *ram, uint64_t first, uint64_t count,
                        const _Atomic bool *cancel);
/* Has the 2 MiB from page `first` on (a multiple of 512) in one huge page, ten times as
 * cheap as page by page (doc/bench.md); what is in them stays. 0 or -errno: then they are
 * as they were, and nothing is lost. Linux 6.1; no matter what shmem_enabled says. */
int engine_ram_populate_block(const struct engine_ram *ram, uint64_t first);
/* These pages read as zeros; their memory goes back to the host if it can. */
void engine_ram_zero(const struct engine_ram *ram, uint64_t first, uint64_t count);
