/* SPDX-License-Identifier: Apache-2.0 */
/* What both state machines of a transfer have in common: deadlines, and what a step
 * returns. Pure. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "migrate/mig_types.h"

struct mig_times {
    uint64_t handshake_ns; /* until connected, and again until Hello is answered */
    uint64_t silence_ns;   /* nothing heard of the other side; 0: no limit */
    uint64_t
        handover_ns;     /* source, each: freeze, last round, Ready. Destination: check */
    uint64_t timeout_ns; /* the whole of it, up to Ready; 0: no limit */
};
#define MIG_TIMES_DEFAULT                                                                \
    {                                                                                    \
        .handshake_ns = MIG_HANDSHAKE_MS * NSEC_PER_MSEC,                                \
        .silence_ns = 5 * NSEC_PER_SEC, .handover_ns = 5 * NSEC_PER_SEC,                 \
    }

/* What a machine wants done, in the order of the bits. */
struct mig_acts {
    uint32_t bits;      /* MIG_SRC_DO_* or MIG_DST_DO_* */
    enum mig_code code; /* of an end: for Abort, the agent, the log */
    char text[MIG_TEXT_MAX + 1];
    uint64_t epoch; /* of DO_RUN */
};

/* What came. */
struct mig_input {
    unsigned event; /* enum mig_src_event or mig_dst_event */
    uint64_t now_ns;
    uint64_t epoch;     /* with the agent's THAW and START */
    enum mig_code code; /* with events that end it: why; MIG_OK: the event's own */
    const char *text;   /* the same for people; NULL: the event's own */
};
