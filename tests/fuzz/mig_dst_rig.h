/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A destination as gemel-vmm has it, for fuzz_mig_in: an engine whose KVM is fake_kvm, a
 * mig_transfer, a userfaultfd where the host gives one, and something to see around guest
 * memory. One at a time, used for many transfers.
 */
#pragma once

#include "migrate/mig_transfer_priv.h"

#define MIG_DST_RIG_RAM  (UINT64_C(5) << 20) /* bytes: two blocks and a half */
#define MIG_DST_RIG_DISK (1 << 20)           /* its disk */

struct mig_dst_rig {
    struct engine *engine;
    struct mig_transfer *t;
    struct engine_ram ram;
    bool postcopy;        /* the host has userfaultfd */
    const uint8_t *state; /* of such a VM that ran for a moment */
    uint32_t state_len;
};
extern struct mig_dst_rig dst;

/* Makes it, if it is not there. */
void mig_dst_rig_open(void);
/* After a transfer: nothing was left behind, open file or thread, and what lies around
 * guest memory is as it was. One whose engine has ended is closed. */
void mig_dst_rig_check(void);
/* A moment, or until the transfer has something to tell. */
void mig_dst_rig_nap(void);
