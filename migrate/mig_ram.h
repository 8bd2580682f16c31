/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bodies of RAM and ROUND_END frames.
 *
 *   RAM: u16 flags  u16 runs (1..512)  u32 payload bytes  u32 round  u32 payload crc
 *        then `runs` times { u64 first page | kind << 60,  u32 pages,  u32 reserved (0) }
 *        then the payload: the pages of the RAW runs, in order; with MIG_RAM_F_ZSTD as
 * one zstd frame that is shorter than they are ROUND_END: u32 round  u32 reserved (0) u64
 * RAM frames  u64 pages   of this stream
 *
 * Runs are in ascending order, do not overlap, and each lies in one 2 MiB block of the
 * frame's stream. The frame header's body_crc is the crc32c of the head (all before the
 * payload) only; the payload has its own, if MIG_RAM_F_CRC says so (plaintext). The head
 * is written by writev in front of the pages, which come straight from guest memory, and
 * the payload is read by readv straight into it. Pure.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "migrate/mig_bitmap.h"
#include "migrate/mig_wire.h"

#define MIG_RAM_RUNS_MAX  512u /* with the head one writev (IOV_MAX 1024) */
#define MIG_RAM_PAGES_MAX 512u /* RAW pages of a frame: 2 MiB */
#define MIG_RAM_FIXED_LEN 16u
#define MIG_RAM_RUN_LEN   16u
#define MIG_RAM_HEAD_MAX  (MIG_RAM_FIXED_LEN + MIG_RAM_RUNS_MAX * MIG_RAM_RUN_LEN)
#define MIG_RAM_BODY_MAX  (MIG_RAM_HEAD_MAX + MIG_RAM_PAGES_MAX * (uint32_t)MIG_PAGE)
#define MIG_ROUND_END_LEN 24u

#define MIG_RAM_F_CRC     UINT16_C(1)
#define MIG_RAM_F_ZSTD    UINT16_C(2)

enum mig_ram_kind {
    MIG_RAM_RAW = 0,
    MIG_RAM_ZERO = 1,    /* all bytes zero */
    MIG_RAM_DISCARD = 2, /* the guest does without; reads as zero, and may be freed */
};

struct mig_ram_run {
    uint64_t first;
    uint32_t count; /* pages */
    enum mig_ram_kind kind;
};

/* A frame being built, or one that was received. */
struct mig_ram {
    uint32_t round;
    bool has_crc;
    uint32_t crc; /* of the payload */
    uint32_t run_count;
    uint32_t raw_pages; /* payload: so many pages */
    uint32_t packed;    /* payload bytes, compressed; 0: it is the pages as they are */
    uint64_t pages;     /* of all kinds */
    struct mig_ram_run run[MIG_RAM_RUNS_MAX];
};

/* RAM of this VM, as it is mapped, and which blocks belong on this stream. */
struct mig_ram_conf {
    uint64_t page_count;
    unsigned stream, n_streams;
    bool discard; /* was negotiated */
    bool crc;     /* was negotiated: frames must have it */
    bool zstd;    /* was negotiated */
};

/* Building ------------------------------------------------------------------------- */
void mig_ram_begin(struct mig_ram *ram, uint32_t round);
/* Pages that fit for certain, whatever kinds they turn out to be; 0: send it. */
uint32_t mig_ram_room(const struct mig_ram *ram);
/* Appends; behind all that is there, within one block, within mig_ram_room. Joins
 * neighbours of one kind. */
void mig_ram_add(struct mig_ram *ram, enum mig_ram_kind kind, uint64_t first,
                 uint32_t count);
/* Writes the head; ram->has_crc, crc and packed are set by the caller before. Its length;
 * the body is that and mig_ram_payload. */
size_t mig_ram_encode(const struct mig_ram *ram, uint8_t head[static MIG_RAM_HEAD_MAX]);
/* Bytes behind the head. */
uint32_t mig_ram_payload(const struct mig_ram *ram);
/* The RAW runs in order, to write from or read into; `base` is the mapping of RAM. How
 * many. */
size_t mig_ram_iov(const struct mig_ram *ram, uint8_t *base,
                   struct iovec iov[static MIG_RAM_RUNS_MAX]);

/* Receiving ------------------------------------------------------------------------ */
enum mig_ram_reason {
    MIG_RAM_OK = 0,
    MIG_RAM_SHORT,     /* less than the head says */
    MIG_RAM_BAD_FLAGS, /* unknown, or not as negotiated */
    MIG_RAM_BAD_COUNT, /* no run, or too many */
    MIG_RAM_BAD_RESERVED,
    MIG_RAM_BAD_KIND,
    MIG_RAM_BAD_RANGE,  /* empty, beyond RAM, or across a block */
    MIG_RAM_BAD_ORDER,  /* not ascending: overlaps */
    MIG_RAM_BAD_STREAM, /* a block of another stream */
    MIG_RAM_BAD_SUM,    /* payload or body length disagree with the runs */
};

/*
 * Length of the head of a body of `body_len` bytes, from its first MIG_RAM_FIXED_LEN:
 * read so much, then decode, then read the payload. 0: it is no RAM frame
 * (*ret_reason).
 */
size_t mig_ram_head_len(const uint8_t fixed[static MIG_RAM_FIXED_LEN], uint64_t body_len,
                        enum mig_ram_reason *ret_reason);
/* `head`: exactly mig_ram_head_len bytes, every one hostile. *ret means something
 * only with MIG_RAM_OK. */
enum mig_ram_reason mig_ram_decode(const struct mig_ram_conf *conf, const uint8_t *head,
                                   size_t len, uint64_t body_len, struct mig_ram *ret);
const char *mig_ram_reason_str(enum mig_ram_reason reason);

struct mig_round_end {
    uint32_t round;
    uint64_t frames, pages; /* of this stream, in this round */
};
void mig_round_end_encode(const struct mig_round_end *end,
                          uint8_t body[static MIG_ROUND_END_LEN]);
bool mig_round_end_decode(const void *body, size_t len, struct mig_round_end *ret);
