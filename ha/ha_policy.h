/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the coordinator wants next, as a pure function of the replicated state, the view
 * and the time: decide, then act (design 4.1). It proposes; safety is the claim's
 * business (fencing/claim). Every action carries its reason in words.
 */
#pragma once

#include "ha/ha_cpu.h"
#include "ha/ha_state.h"
#include "ha/ha_times.h"

struct ha_policy_in {
    const struct ha_state *state;
    const struct ha_view *view;
    /* Members that took part in this term's state exchange: only they are told anything.
     */
    unsigned participant_count;
    const uint32_t *participant;
    uint32_t self;
    const struct ha_cpus *cpus; /* NULL: no node has told */
    unsigned fence_budget_left; /* nodes that may still be fenced in this window */
    const struct ha_times *times;
    uint64_t now_ns;
};

enum ha_action_kind {
    HA_ACTION_VM = 1,   /* write vm[index] with the new state, owner, kill and reason */
    HA_ACTION_TWIN,     /* vm[index] gets a twin on `move_to` */
    HA_ACTION_TWIN_END, /* it goes on without it */
    HA_ACTION_TWIN_SWITCH,   /* the twin takes over */
    HA_ACTION_VM_GONE,       /* forget vm[index] */
    HA_ACTION_FENCE,         /* fence node[index], executed by `owner` */
    HA_ACTION_FENCE_CANCEL,  /* node[index] is back: its executor is to settle the request
                              */
    HA_ACTION_FENCE_SETTLED, /* node[index]: nothing is under way any more */
};

struct ha_action {
    enum ha_action_kind kind;
    unsigned index;
    enum ha_vm_state state;
    uint32_t owner;
    bool kill;
    bool new_attempt; /* the owner is to act: a fresh attempt uid */
    uint32_t move_to; /* MIGRATING */
    char reason[REASON_LEN_MAX + 1];
};

struct ha_plan {
    struct ha_action *action; /* of the caller */
    unsigned count, cap;
    bool more;            /* did not fit: call again after these are applied */
    uint64_t next_due_ns; /* something changes by time alone; UINT64_MAX: nothing */
};

void ha_policy_decide(const struct ha_policy_in *in, struct ha_plan *plan);

/* Pause before the next try after `failures` in a row: none after the first, then
 * doubling up to the definition's maximum. */
uint64_t ha_policy_backoff_ns(const struct conf_vm *conf, uint32_t failures);
