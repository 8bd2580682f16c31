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
    uint64_t holes_ns;   /* as silence_ns, while a guest runs whose memory still comes */
};
#define MIG_TIMES_DEFAULT                                                                \
    {                                                                                    \
        .handshake_ns = MIG_HANDSHAKE_MS * NSEC_PER_MSEC,                                \
        .silence_ns = 5 * NSEC_PER_SEC, .handover_ns = 5 * NSEC_PER_SEC,                 \
        .holes_ns = MIG_HOLES_SILENCE_MS * NSEC_PER_MSEC,                                \
    }

/* What a machine wants done, in the order of the bits. */
struct mig_acts {
    uint32_t bits;      /* MIG_SRC_DO_* or MIG_DST_DO_* */
    enum mig_code code; /* of an end, or of a refusal: for Abort, the agent, the log */
    char text[MIG_TEXT_MAX + 1];
    uint64_t epoch; /* of DO_RUN */
};

/* What came. */
struct mig_input {
    unsigned event; /* enum mig_src_event or mig_dst_event */
    uint64_t now_ns;
    uint64_t epoch;     /* with the agent's THAW and START */
    enum mig_code code; /* with events that end it: why; MIG_OK: the event's own */
    const char *text;   /* the same for people; NULL: the code's */
};

/* What a code means, as a sentence. */
const char *mig_code_text(enum mig_code code);

/* For mig_src.c and mig_dst.c ------------------------------------------------------- */
/* A cell of a table state x event. All zero: nothing happens. */
struct mig_cell {
    uint32_t bits;
    uint8_t next; /* state + 1; 0: stays */
};
/* "-> failed: thaw, abort"; `state` and `verb` name them. Length; "" for an empty one. */
size_t mig_cell_print(const struct mig_cell *cell, const char *const *state,
                      const char *const *verb, char *buf, size_t cap);
/* Code and text of an end: the input's, else the event's. */
void mig_acts_end(struct mig_acts *acts, const struct mig_input *in, enum mig_code code);
/* Keeps the earliest deadline: `at_ns` (UINT64_MAX: none) with its event. */
struct mig_deadline {
    uint64_t at_ns;
    unsigned event;
};
void mig_deadline_add(struct mig_deadline *deadline, uint64_t from_ns, uint64_t after_ns,
                      unsigned event);
