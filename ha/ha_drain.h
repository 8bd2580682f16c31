/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Planned maintenance: which VM leaves a node next, or goes home, by live migration. A
 * pure function of the state, the view and the time, as all decisions (ha_policy.h).
 * Important VMs first; at most HA_MOVES_PER_NODE at a time into or out of a node; one
 * that failed is tried again after HA_MOVE_RETRY_NS, with another node if there is one.
 */
#pragma once

#include "ha/ha_place.h"

/* Begins the reason of a VM that does not leave its node in maintenance. */
#define HA_CANNOT_LEAVE   "cannot leave "

#define HA_MOVES_PER_NODE 2u
#define HA_MOVE_RETRY_NS  (10 * NSEC_PER_SEC)

enum ha_drain_verdict {
    HA_DRAIN_STAY = 0, /* nothing wants it to move */
    HA_DRAIN_LATER,    /* when others are done, or it is tried again (*due_ns) */
    HA_DRAIN_NOWHERE,  /* why */
    HA_DRAIN_MOVE,     /* to */
};

struct ha_drain {
    unsigned moves[NODES_MAX]; /* by index of place->node: under way */
};

void ha_drain_init(struct ha_drain *drain, const struct ha_place *place);
/* One VM that runs at a node that is there. MOVE is counted, and its place taken. */
enum ha_drain_verdict ha_drain_vm(struct ha_drain *drain, struct ha_place *place,
                                  const struct ha_vm *vm, uint32_t *ret_to,
                                  char why[static REASON_LEN_MAX + 1],
                                  uint64_t *ret_due_ns);
/* For every record before it is told to the others: `home` is kept while a VM moves, and
 * while it runs where a move for maintenance brought it; `runs`, while it runs as it did.
 * `starts_anew`: it is started now, by its definition. */
void ha_drain_forget(struct ha_vm *vm, bool starts_anew);
