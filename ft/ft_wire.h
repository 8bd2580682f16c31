/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames of the channel between the two sides of a protected VM (ft/README.md, "The
 * channel"): bodies of base/frame frames over migrate/mig_conn. Little endian, fixed
 * fields. Every byte that comes is hostile. Pure.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ft/ft_commit.h"

enum ft_frame {
    FT_FRAME_LOG = 48, /* primary: u64 released, now_ns, exits; then whole records */
    FT_FRAME_ACK,      /* secondary: struct ft_ack */
    FT_FRAME_WORD,     /* either: struct ft_word */
    FT_FRAME_HASHES,   /* secondary, at a barrier: struct ft_hashes */
};

#define FT_LOG_HEAD_LEN 24u
#define FT_ACK_LEN      40u
#define FT_WORD_LEN     24u
#define FT_LOG_BODY_MAX (2u << 20) /* of one LOG frame */

struct ft_log_head {
    uint64_t released; /* ordinal of the newest output that has left */
    uint64_t now_ns;   /* machine time of the primary */
    uint64_t exits;    /* position up to which all records are here or were before */
};

enum ft_word_kind {
    FT_WORD_START = 1, /* primary: epoch names both; the log begins */
    FT_WORD_TAKEOVER,  /* primary: its last word, it stands: claim */
    FT_WORD_END,       /* primary: no twin is needed any more */
    FT_WORD_READY,     /* secondary: memory, state and disks of position 0 are here */
    FT_WORD_DIVERGED,  /* secondary: it went another way; number: the last equal exit */
    FT_WORD_KINDS,
};

struct ft_word {
    enum ft_word_kind kind;
    uint64_t epoch, number;
};

void ft_log_head_put(const struct ft_log_head *head,
                     uint8_t body[static FT_LOG_HEAD_LEN]);
void ft_log_head_get(const uint8_t body[static FT_LOG_HEAD_LEN],
                     struct ft_log_head *ret_head);
void ft_ack_put(const struct ft_ack *ack, uint8_t body[static FT_ACK_LEN]);
bool ft_ack_get(const void *body, size_t len, struct ft_ack *ret_ack);
void ft_word_put(const struct ft_word *word, uint8_t body[static FT_WORD_LEN]);
bool ft_word_get(const void *body, size_t len, struct ft_word *ret_word);
