/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Planned maintenance as people hear of it: which VMs still run on a node that is
 * emptied, which have not come home after it, and why. Pure.
 */
#pragma once

#include "ha/ha_place.h"

/* Counts VMs that run on a node, or are on their way home to it; the first few by name.
 */
struct ha_drain_left {
    unsigned count;
    char names[320];
};
/* maintenance on: what is not gone yet. */
void ha_drain_leaving(const struct ha_state *state, uint32_t nodeid,
                      struct ha_drain_left *ret);
/* off: what left it for maintenance and is not back yet. */
void ha_drain_returning(const struct ha_state *state, uint32_t nodeid,
                        struct ha_drain_left *ret);

/* True: the VM is on a node in maintenance, or away from home, and does not move, for a
 * reason that may last: `why`, "no other node takes it: ...". It is tried again. */
bool ha_drain_stuck(const struct ha_place *place, const struct ha_vm *vm,
                    char why[static REASON_LEN_MAX + 1]);
/* "web1 cannot leave n1: ...; what helps". */
void ha_drain_problem(const struct ha_state *state, const struct ha_vm *vm,
                      const char *why, char *text, size_t cap);
