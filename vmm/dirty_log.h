/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which pages of RAM were written to, by the guest (KVM's dirty log) and on its behalf by
 * this process (struct gmem's marks). RAM pages are numbered as in vmm/state_stream: low
 * part first. All functions but dirty_log_protect come from one thread at a time (or
 * under a lock); the guest and its devices run meanwhile.
 *
 * The order that loses nothing: take a page's mark, protect the page, read the page. What
 * is written after the read is in the next collect.
 *
 *     dirty_log_begin(log, DIRTY_AUTO, &err);    everything is to be sent
 *     round: dirty_log_collect(log, bitmap, &n);
 *            for each run of marked pages: clear its bits in the caller's bitmap,
 *                dirty_log_protect(log, first, count), read, send
 *     stop the guest; dirty_log_collect; read, send: exact
 *     dirty_log_end(log)
 *
 * KVM api.rst 4.8 KVM_GET_DIRTY_LOG, 4.117 KVM_CLEAR_DIRTY_LOG, 7.18
 * KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2: where the host has it, collect only reads, and
 * protect clears marks and makes pages read-only in the guest just before they are read,
 * so that what is written between the two is not sent twice. Elsewhere collect does both
 * and protect does nothing.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/vm.h"

enum dirty_way {
    DIRTY_AUTO = 0, /* what this host does best: the bitmap (doc/decisions.md) */
    DIRTY_BITMAP,
    DIRTY_RING, /* not built: -EOPNOTSUPP */
};

struct dirty_log {
    struct vm *vm;
    _Atomic bool on;
    uint64_t word_count; /* of each of the two */
    uint64_t *device;    /* marks of gmem */
    uint64_t *kvm;       /* manual protect: what KVM said, and was not protected yet */
};

/* Before vCPUs are made: asks KVM to leave the protecting to us, if it can. */
void dirty_log_offer(struct vm *vm);
/* Switches logging on. From now on nothing that is written is missed; what was there
 * before is the caller's to send (all of it). 0 or -errno with a text; -EBUSY: it is on.
 */
int dirty_log_begin(struct dirty_log *log, enum dirty_way way, struct vmm_error *err);
/* ORs what was written since the last collect into `bitmap` (a bit per RAM page, whole
 * 64-bit words). *ret_pages: how many bits that set. Pages that were reported before and
 * are not protected yet are reported again. 0 or -errno; -EINVAL: it is off. After an
 * error the bitmap may lack pages: begin anew. */
int dirty_log_collect(struct dirty_log *log, uint64_t *bitmap, uint64_t *ret_pages);
/* Before pages [first, first + count) are read, and after their marks were taken from the
 * caller's bitmap. Any thread; calls for the same 64 pages not at the same time, nor with
 * a collect. 0 or -errno: then the range must count as marked still. */
int dirty_log_protect(struct dirty_log *log, uint64_t first, uint64_t count);
/* Off; the guest's large mappings may come back. Also when it is off, or began badly. */
void dirty_log_end(struct dirty_log *log);
/* When no device runs any more. */
void dirty_log_close(struct dirty_log *log);
