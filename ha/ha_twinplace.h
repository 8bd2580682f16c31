/* SPDX-License-Identifier: Apache-2.0 */
/* Where the twin of a VM can be, and where it is best: never on the VM's own node, as for
 * a start of it else, in another failure domain (`ft.domains`), on a processor that can
 * go on with what the guest uses. Pure. */
#pragma once

#include "ha/ha_place.h"

/* False: `why` lists all that stands in the way, to be read behind the node's name. */
bool ha_twin_fits(const struct ha_place *place, const struct ha_vm *vm, uint32_t nodeid,
                  char why[static REASON_LEN_MAX + 1]);
/* The best node; 0: none, and why lists what is wrong with each of them. */
uint32_t ha_twin_choose(const struct ha_place *place, const struct ha_vm *vm,
                        char why[static REASON_LEN_MAX + 1]);

/* A node's failure domain; "": it has none, or is not in the cluster definition. */
const char *ha_twin_domain(const struct ha_state *state, uint32_t nodeid);
/* Both are in one, and not in the same. */
bool ha_twin_apart(const struct ha_state *state, uint32_t a, uint32_t b);
/* Of a VM with a twin, for people: "other domain: rack2", "same domain: rack1"; "": the
 * cluster has no failure domains. */
void ha_twin_apart_text(const struct ha_state *state, const struct ha_vm *vm,
                        char text[static REASON_LEN_MAX + 1]);
