/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What orders left unfinished when their agent was killed: in a VM's directory
 * suspend.gms.tmp, *.revert.tmp, snapshots/.ID@NODE.tmp, snapshots/.ID@NODE.deleted; in
 * vmroot .NAME@NODE.clone.tmp. NODE is who writes, or wrote, it; no name holds a '@'.
 * Blocking: worker threads only.
 */
#pragma once

#include "base/units.h"

/*
 * By the agent under whose claim (of `instance`, not released) the VM is now: all but
 * what is being deleted. Whoever else writes there had seen an earlier, released claim,
 * and finds before the end that this one has ended its order. Does nothing if the claim
 * is not that one any more. It must not write there itself meanwhile.
 */
void ha_leftovers_owned(const char *dir, struct uuid vm, struct uuid instance);
/* In snapshots/ of any VM: this node's own. Its agent must have no order on directories
 * under way. */
void ha_leftovers_node(const char *dir, const char *node);
/* This node's clones, likewise. */
void ha_leftovers_clones(const char *vmroot, const char *node);
