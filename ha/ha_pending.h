/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A definition that was applied while its VM runs: what of it holds from the next start
 * only, and what of that stands in the way of a migration. The destination makes the
 * machine that the definition describes now; what would be another machine must not go on
 * with this one's memory: above all, other disks. Pure.
 */
#pragma once

#include "ha/ha_types.h"

/* True: `now` describes another machine than `runs`; text: how ("memory: 32MiB -> 64MiB;
 * ..."). */
bool ha_pending_machine(const struct conf_vm *runs, const struct conf_vm *now, char *text,
                        size_t cap);
/* True: something of the VM's definition is not in force yet; text: what, as above. That
 * which does not concern its machine (`ha`, above all) is in force at once. */
bool ha_pending(const struct ha_vm *vm, char *text, size_t cap);
/* The sentence with which a migration of such a VM is refused. */
void ha_pending_refusal(const char *name, const char *changes, char *text, size_t cap);
