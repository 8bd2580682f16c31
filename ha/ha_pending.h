/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A definition that was applied while its VM runs: what of it holds from the next start
 * only. Until then it is the machine that it was started as, also where a migration takes
 * it: another machine must not go on with this one's memory, above all not with other
 * disks. Pure.
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
/* What its next instance is made of if it goes on there: the machine that runs, as the
 * record has it; the rest as it is defined now. False: one of them cannot be read here;
 * ret is not to be used. */
bool ha_pending_goes_on(const struct ha_vm *vm, struct conf_vm *ret);
/* `ft:` that is changed while a VM has a twin is for the next one: the record keeps what
 * was, from the first such change on. In a record whose definition goes from `old` to
 * `now`: */
void ha_pending_ft_changed(struct ha_vm *vm, const struct conf_vm *old,
                           const struct conf_vm *now);
/* True: if it were defined as `now`, something would wait for its next twin; text: what,
 * and what to do for it. */
bool ha_pending_ft(const struct ha_vm *vm, const struct conf_vm *now, char *text,
                   size_t cap);
/* The sentence with which a migration is refused whose record does not have what runs. */
void ha_pending_refusal(const char *changes, char *text, size_t cap);
