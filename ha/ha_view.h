/* SPDX-License-Identifier: Apache-2.0 */
/*
 * R0: when is a membership a view. Corosync tells three stories (CPG group and totem
 * membership, quorum nodelist, quorum decision) in no common order; between them quorum
 * is unknown and nothing is granted. CPG ghosts (members that are in no ring, fixed only
 * after 3.1.7) fall out by intersection. Pure.
 */
#pragma once

#include "ha/ha_types.h"

struct ha_view_tracker {
    bool have_group, have_totem, have_nodelist, have_quorum;
    unsigned group_count;
    uint32_t group[NODES_MAX * 2]; /* agents in the CPG group */
    struct ha_ring totem_ring, nodelist_ring, quorum_ring;
    unsigned totem_count, nodelist_count;
    uint32_t totem[NODES_MAX * 2], nodelist[NODES_MAX * 2];
    bool quorate;
    unsigned votes_needed;
    struct ha_view view; /* the last one computed */
};

/* Each returns true when `tracker->view` changed. Lists longer than the tracker holds are
 * cut (and the view not agreed). */
bool ha_view_group(struct ha_view_tracker *t, const uint32_t *nodeids, unsigned count);
bool ha_view_totem(struct ha_view_tracker *t, struct ha_ring ring,
                   const uint32_t *nodeids, unsigned count);
bool ha_view_nodelist(struct ha_view_tracker *t, struct ha_ring ring,
                      const uint32_t *nodeids, unsigned count);
bool ha_view_quorum(struct ha_view_tracker *t, struct ha_ring ring, bool quorate,
                    unsigned votes_needed);
/* Corosync is gone. */
bool ha_view_lost(struct ha_view_tracker *t);
