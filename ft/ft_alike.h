/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The end in order of a protected VM with mirrored disks: the guest is off, and its
 * process does not end before the twin's copies have, durable, all that this side's have.
 * That is a barrier (lockstep) or an epoch (checkpoint mode) more, begun when nothing
 * comes any more; `number` is that one's. Pure; under the session's lock.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct ft_alike {
    uint64_t number; /* of the barrier or epoch that brings it; 0: not asked for yet */
    bool done;
};

enum ft_alike_step {
    FT_ALIKE_MAY_END = 0,
    FT_ALIKE_BEGIN, /* `number` was set: begin it */
    FT_ALIKE_WAIT,  /* for the twin; or until there is none any more */
};

/* The guest is off. `mirrored`: there are disks of which each side has a copy; `can`: a
 * barrier or epoch can begin now; `newest`: number of the last one that began. */
enum ft_alike_step ft_alike_next(struct ft_alike *a, bool mirrored, bool can,
                                 uint64_t newest);
/* The twin acknowledged `number`, and all before it. */
void ft_alike_acked(struct ft_alike *a, uint64_t number);
