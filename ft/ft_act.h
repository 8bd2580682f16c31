/* SPDX-License-Identifier: Apache-2.0 */
/* What the machines of both sides have in common: what comes in, what a step returns.
 * Pure. */
#pragma once

#include <stdint.h>

#include "base/limits.h"
#include "migrate/mig_act.h"

struct ft_input {
    unsigned event;   /* enum ft_primary_event or ft_secondary_event */
    uint64_t epoch;   /* with a claim that was won */
    const char *text; /* for people: why; NULL: the event's own words */
};

struct ft_acts {
    uint32_t bits;  /* FT_PRI_DO_* or FT_SEC_DO_*, to be done in the order of the bits */
    uint64_t epoch; /* of the claim under which the guest goes on */
    char text[REASON_LEN_MAX + 1]; /* of a word to the agent: why */
};
