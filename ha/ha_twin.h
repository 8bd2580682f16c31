/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The coordinator's part of a protected VM (ft/README.md, design 5 R5). The record stays
 * RUNNING, with `twin`: both ends offer what the other one must know, the record passes
 * it on, and they go to work. Nothing here decides who runs: claims do; the record
 * follows.
 *
 * As long as a claim names a twin and its node can be asked, that is who goes on when the
 * owner is gone: HA_TWIN_WAIT_NS long nobody else starts the VM. Pure.
 */
#pragma once

#include "ha/ha_agent.h"
#include "ha/ha_place.h"

#define HA_TWIN_WAIT_NS (10 * NSEC_PER_SEC)
/* The twin's node is away as well: so long for the proof of its death. */
#define HA_TWIN_AWAY_NS (3 * HA_TWIN_WAIT_NS)

/* A report of the owner, or of the twin, of a VM that has one; `vm` is a copy of its
 * record. True: it was about that, and is done with. False: judge it as at any other
 * time, with `vm` as it is now. */
bool ha_twin_report(struct ha_agent *agent, uint32_t from,
                    const struct ha_vm_report *report, struct ha_vm *vm);
/* A new term: a side that is gone, or has forgotten, ends it. True: the record was
 * changed. */
bool ha_twin_review(struct ha_agent *agent, const struct ha_vm *record);

/* In a record that is about to be told: a new protection, its end. */
void ha_twin_begin(struct ha_agent *agent, struct ha_vm *vm, const struct ha_node *node,
                   uint8_t commit);
void ha_twin_over(struct ha_vm *vm, bool failed, const char *how);

/* It has the claim: the record's owner from now on. */
void ha_twin_went_live(struct ha_agent *agent, struct ha_vm *vm, struct uuid instance,
                       uint64_t epoch, const char *text);
/* This node's twin runs it by a claim that the record does not know yet, because the ring
 * has not noticed what happened: the epoch of that; 0: no. */
uint64_t ha_twin_lives_here(const struct ha_agent *agent, const struct ha_vm *vm);
/* Of mirrored disks: these nodes' copies have every completed FLUSH (0: none). */
void ha_twin_mirrors(struct ha_vm *vm, uint32_t first, uint32_t second);
void ha_twin_copies(struct ha_vm *vm, const uint32_t nodes[static CLAIM_MIRRORS_MAX]);

/* Whether the definition asks for a twin that it has not. */
bool ha_twin_wanted(const struct ha_vm *vm);
/* By which rule outputs of it leave, unless its operator says otherwise: enum
 * conf_ft_commit; CONF_FT_EPOCHS: checkpoint mode, for a machine that cannot be followed
 * in lockstep, or could not be. Its definition can be read. */
uint8_t ha_twin_rule(const struct ha_vm *vm);
/* Why it is that one, for people: "in checkpoint mode, because ...". */
void ha_twin_rule_why(const struct ha_vm *vm, char why[static REASON_LEN_MAX + 1]);
/* The next one is in lockstep again, if its definition lets it be. */
void ha_twin_step_up(struct ha_vm *vm);
/* NULL, or why it cannot have one, wherever. */
const char *ha_twin_cannot(const struct ha_vm *vm);
/* When the next try is due, on the clock of vm->twin_changed_ns. */
uint64_t ha_twin_due_ns(const struct ha_vm *vm, const struct ha_times *times);
