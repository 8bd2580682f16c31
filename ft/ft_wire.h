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
#include "ft/ft_log.h"

enum ft_frame {
    FT_FRAME_LOG = 48, /* primary: u64 released, now_ns, exits; then whole records */
    FT_FRAME_ACK,      /* secondary: struct ft_ack */
    FT_FRAME_WORD,     /* either: struct ft_word */
    FT_FRAME_HASHES,   /* secondary, at a barrier: struct ft_hashes */
};

#define FT_LOG_HEAD_LEN    24u
#define FT_ACK_LEN         40u
#define FT_WORD_LEN        24u
#define FT_LOG_BODY_MAX    (2u << 20) /* of one LOG frame */

#define FT_HASHES_HEAD_LEN 64u
#define FT_HASH_LEN        24u /* u64 page, 16 bytes of XXH3-128 */
#define FT_HASHES_MAX      32768u
#define FT_HASHES_LEN_MAX  (FT_HASHES_HEAD_LEN + FT_HASHES_MAX * FT_HASH_LEN)

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
    FT_WORD_OUTPUT,    /* secondary: this output (number) is another one; it goes on */
    FT_WORD_KINDS,
};

struct ft_word {
    enum ft_word_kind kind;
    uint64_t epoch, number;
};

/* A part of the pages that the secondary wrote to since the last barrier. All parts of
 * one answer are equal in the first five. */
struct ft_hashes {
    uint64_t barrier;
    uint64_t verified;   /* outputs up to this one are the same */
    uint64_t total;      /* pages */
    struct ft_sum state; /* of devices and vCPU, as a stream */
    bool diverged;       /* it stands elsewhere: the state is needed in any case */
    uint64_t first;      /* entries before this part */
    uint32_t count;
    const uint8_t *entries; /* count * FT_HASH_LEN, pages ascending */
};

struct ft_hash {
    uint64_t page;
    struct ft_sum sum;
};

/* The head only; the entries follow it on the wire. */
void ft_hashes_put(const struct ft_hashes *h, uint8_t body[static FT_HASHES_HEAD_LEN]);
void ft_hash_put(const struct ft_hash *hash, uint8_t entry[static FT_HASH_LEN]);
void ft_hash_get(const uint8_t entry[static FT_HASH_LEN], struct ft_hash *ret);
/* `page_count`: of the VM. *ret points into the body. */
bool ft_hashes_get(const void *body, size_t len, uint64_t page_count,
                   struct ft_hashes *ret);

void ft_log_head_put(const struct ft_log_head *head,
                     uint8_t body[static FT_LOG_HEAD_LEN]);
void ft_log_head_get(const uint8_t body[static FT_LOG_HEAD_LEN],
                     struct ft_log_head *ret_head);
void ft_ack_put(const struct ft_ack *ack, uint8_t body[static FT_ACK_LEN]);
bool ft_ack_get(const void *body, size_t len, struct ft_ack *ret_ack);
void ft_word_put(const struct ft_word *word, uint8_t body[static FT_WORD_LEN]);
bool ft_word_get(const void *body, size_t len, struct ft_word *ret_word);
