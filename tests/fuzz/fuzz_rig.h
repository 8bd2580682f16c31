/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the targets that run a whole machine share: one rig with a disk in slot 0 and a
 * nic in slot 1, and operations whose operands come from the input.
 */
#pragma once

#include "base/bytes.h"
#include "tests/fuzz/fuzz.h"
#include "tests/unit/vmm/machine_rig.h"

extern struct rig fuzz_rig;
extern struct rig_ring fuzz_ring[3]; /* blk, net rx, net tx */

void fuzz_store(struct bytes_rd *in); /* guest memory */
/* A whole disk request, a buffer for the nic: each part of which may be wrong. */
void fuzz_blk(struct bytes_rd *in);
void fuzz_net(struct bytes_rd *in);
void fuzz_input(struct bytes_rd *in); /* any input to any device */
/* The driver has got something back from this queue. */
bool fuzz_ring_used(const struct rig_ring *ring);
/* What was saved loads, and saves the same. */
void fuzz_save_load(void);
/* A damaged state is refused or leaves a machine for which all this still holds. */
void fuzz_load_damaged(struct bytes_rd *in);
