/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The coordinator's part of a live migration. The record is MIGRATING, with `move`: both
 * ends offer what the other one must know, the record passes it on, and they go to work.
 * What they report ends it. Nothing here decides who runs: claims do (R4); the record
 * follows.
 *
 * As long as `move.to` is set and that node can be asked, nobody else starts the VM: the
 * destination says RUNNING or MOVE_FAILED first, whatever has become of the owner.
 *
 * A live upgrade is such a record whose `move.to` is the owner: one node has both ends
 * and speaks for them (ha_vmmupgrade.c), so nothing goes through the record but the
 * order.
 */
#pragma once

#include "ha/ha_agent.h"

/* A report of the owner, or of the destination, of a VM that has a `move`; `vm` is a copy
 * of its record. True: it was about the migration, and is done with. False: judge it as
 * at any other time, with `vm` as it is now. */
/* Post-copy: all of its memory is where it runs. False: that was known. */
bool ha_move_filled(struct ha_agent *agent, const struct ha_vm_report *report,
                    struct ha_vm *vm);
bool ha_move_report(struct ha_agent *agent, uint32_t from,
                    const struct ha_vm_report *report, struct ha_vm *vm);
/* A new term: an end that is gone, or has forgotten, ends it. True: the record was
 * changed. */
bool ha_move_review(struct ha_agent *agent, const struct ha_vm *record);
/* Ends it in the record; state and owner are the caller's business. */
void ha_move_over(struct ha_vm *vm, bool failed, const char *how);
