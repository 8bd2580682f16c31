/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The output rule: which of the outputs that a primary holds may leave (ft/README.md,
 * "What is released when"). Outputs have ordinals from 1; they leave in that order. What
 * they are is the shell's business: here they are a cookie. Pure, no allocation; the
 * vCPU thread adds and the channel's thread acknowledges, under the shell's lock.
 *
 * A full list (FT_HELD_MAX) stops the vCPU until something has left.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define FT_HELD_MAX 4096u

enum ft_commit_rule { FT_COMMIT_RECEIVED = 0, FT_COMMIT_VERIFIED, FT_COMMIT_HYBRID };

/* What the secondary says; each number is the newest, and none ever falls. */
struct ft_ack {
    uint64_t received; /* sequence of the log, in its memory */
    uint64_t replayed; /* exits */
    uint64_t verified; /* output: it made the same one */
    uint64_t flushed;  /* output: a FLUSH of mirrored disks is durable there */
    uint64_t barrier;  /* number of the last one that was applied */
};

struct ft_held {
    uint64_t seq; /* of its OUTPUT record */
    uint64_t held_ns;
    uint64_t cookie;
    bool flush; /* the answer to a FLUSH of a mirrored disk */
};

struct ft_commit {
    enum ft_commit_rule rule;
    uint64_t lag_ns;     /* hybrid: verified at most so far behind */
    bool differs;        /* hybrid: something differed since the last barrier */
    uint64_t made, left; /* ordinals: of the newest output, of the newest that left */
    uint64_t sent_seq;   /* newest sequence that was written to the log */
    uint64_t sent_exits; /* position of the newest record */
    struct ft_ack ack;
    struct ft_held held[FT_HELD_MAX]; /* ordinal % FT_HELD_MAX */
};

void ft_commit_init(struct ft_commit *c, enum ft_commit_rule rule, uint64_t lag_ns);
bool ft_commit_full(const struct ft_commit *c);
/* A record went into the log. */
void ft_commit_logged(struct ft_commit *c, uint64_t seq, uint64_t exits);
/* The next output; its OUTPUT record is `seq`. Its ordinal. Not when full. */
uint64_t ft_commit_hold(struct ft_commit *c, uint64_t seq, uint64_t now_ns,
                        uint64_t cookie, bool flush);
/* False: it names what was never sent, or falls back: the secondary is broken. Nothing
 * has changed then. */
bool ft_commit_acked(struct ft_commit *c, const struct ft_ack *ack);
/* Hybrid: bytes of an output differed; until barrier_done only what is verified leaves.
 */
void ft_commit_differs(struct ft_commit *c);
void ft_commit_barrier_done(struct ft_commit *c);
/* The next output that may leave now; it counts as left. False: none. */
bool ft_commit_next(struct ft_commit *c, uint64_t now_ns, uint64_t *ret_cookie);
/* The same without a secondary: a claim without a twin was won. */
bool ft_commit_next_free(struct ft_commit *c, uint64_t *ret_cookie);
/* Age of the oldest output that is held, 0: none. */
uint64_t ft_commit_age_ns(const struct ft_commit *c, uint64_t now_ns);
