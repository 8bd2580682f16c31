/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A migration in words: how far it is; and what it was, read back from the sentence with
 * which it ended (`last` of a VM's record): the two gemel-vmm and the agents make that of
 * what they measured, and it is all that is kept. Pure.
 */
#pragma once

#include "ha/ha_state.h"

struct ha_moved {
    char from[NODE_NAME_MAX + 1], to[NODE_NAME_MAX + 1];
    uint64_t bytes; /* sent; whole MiB */
    uint64_t rounds, total_ms, downtime_ms;
    bool verified; /* all memory was compared */
};

/* "migrated from n1 to n2: 32 MiB in 3 rounds and 120 ms, memory compared; stood still
 * for about 22 ms". False: it is another sentence (it failed; or it is of an agent that
 * says less). */
bool ha_moved_read(const char *last, struct ha_moved *ret);

/* Of a VM that is being migrated: "n1 -> n2, round 3, 310 MiB/s, dirty 12 MiB/s, about 4
 * s left". progress NULL: nothing was heard of it yet. */
void ha_moving_text(const struct ha_state *state, const struct ha_vm *vm,
                    const struct ha_move_progress *progress, char *text, size_t cap);
