/* SPDX-License-Identifier: Apache-2.0 */
/* One connection that is not known yet. mig_listen.c and the fuzz target of what a
 * stranger may send. */
#pragma once

#include "migrate/mig_conn_priv.h"
#include "migrate/mig_listen.h"

struct mig_stranger {
    struct mig_conn *conn; /* NULL: a free place */
    uint64_t since_ns;
    short events; /* what its socket has to be ready for */
    uint16_t index;
    uint8_t body[MIG_OPEN_LEN];
};

/* What may come from somebody who is not known: OPEN, and nothing else. */
extern const struct mig_conn_rule mig_stranger_rule[1];

/* Its next step: 0: it has joined as stranger->index; -EAGAIN: not yet; else it is to be
 * dropped, and was counted. */
int mig_stranger_step(struct mig_stranger *stranger, struct mig_roll *roll,
                      struct mig_listen_counts *counts);
