/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Post-copy: which pages are still at the source when the guest goes on at the
 * destination, a bit per page of all of RAM, in MISSING frames on the control stream,
 * before Finish. Little endian:
 *
 *   u64 first page (a multiple of 64)  u32 words (1..8192)  u32 reserved (0)
 *   u64 words: bit p % 64 of word p / 64 is page first + p
 *
 * From page 0 on, each goes on where the one before ended; the last ends with RAM. Pure.
 */
#pragma once

#include "migrate/mig_bitmap.h"

#define MIG_HOLES_WORDS_MAX 8192u /* 2 GiB of RAM */
#define MIG_HOLES_FIXED_LEN 16u
#define MIG_HOLES_LEN_MAX   (MIG_HOLES_FIXED_LEN + MIG_HOLES_WORDS_MAX * 8u)

/* The frame that begins with page *at, which moves behind it. Its length; 0: RAM is over.
 */
size_t mig_holes_encode(const struct mig_bitmap *bm, uint64_t *at,
                        uint8_t body[static MIG_HOLES_LEN_MAX]);

enum mig_holes_reason {
    MIG_HOLES_OK = 0,
    MIG_HOLES_BAD_LENGTH,   /* not what its count says */
    MIG_HOLES_BAD_COUNT,    /* no word, too many, or beyond RAM */
    MIG_HOLES_BAD_RESERVED, /* not 0 */
    MIG_HOLES_BAD_ORDER,    /* not where the one before ended */
    MIG_HOLES_BAD_PAGE,     /* a page behind the end of RAM */
};

/* Sets the bits of a hostile body in `bm`; it begins at page *at, which moves behind it
 * only with MIG_HOLES_OK. Nothing is set otherwise. */
enum mig_holes_reason mig_holes_decode(const void *body, size_t len, uint64_t *at,
                                       struct mig_bitmap *bm);
const char *mig_holes_reason_str(enum mig_holes_reason reason);
