/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the files that carry out an operator's change (ha_op.c, ha_op_apply.c,
 * ha_op_move.c, ha_op_start.c, ha_op_twin.c). */
#pragma once

#include "ha/ha_agent.h"
#include "ha/ha_place.h"

enum {
    EXIT_DONE = 0,
    EXIT_FAILED = 1,
    EXIT_USAGE = 2,
    EXIT_NOT_FOUND = 3,
    EXIT_REFUSED = 4
};

struct op_run {
    struct ha_agent *agent;
    const struct ha_op *op;
    struct ha_op_result result;
    uint64_t now_ns;
};

void ha_op_answer(struct op_run *run, uint32_t exit_code, const char *a, const char *b,
                  const char *c);
/* "WHAT by ACTOR: REASON" */
const char *ha_op_by(const struct op_run *run, char *text, size_t cap, const char *what);
void ha_op_emit_vm(struct op_run *run, const struct ha_vm *vm, const char *what);
/* NULL: answered. */
const struct ha_vm *ha_op_find_vm(struct op_run *run);
bool ha_op_dry_run(const struct op_run *run);
/* Answers that something is under way with it, and what to do. */
void ha_op_busy(struct op_run *run, const struct ha_vm *vm);
/* False: answered; only a running VM, with nothing else under way, can be `what`. */
bool ha_op_runs(struct op_run *run, const struct ha_vm *vm, const char *what);
/* The node that an operator named takes the VM. False: answered, with why not.
 * `force`: also against anti_affinity. */
bool ha_op_fits(struct op_run *run, const struct ha_place *place, const struct ha_vm *vm,
                const struct ha_node *node, bool force);

void ha_op_vm_start(struct op_run *run);
void ha_op_cluster_apply(struct op_run *run);
void ha_op_vm_apply(struct op_run *run);
void ha_op_vm_migrate(struct op_run *run);
void ha_op_vm_upgrade(struct op_run *run);
void ha_op_vm_protect(struct op_run *run);
void ha_op_vm_unprotect(struct op_run *run);
void ha_op_vm_switchover(struct op_run *run);
void ha_op_node_maintenance(struct op_run *run);
