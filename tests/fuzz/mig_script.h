/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The source of a migration as a script that a fuzzer may write, and people can read.
 * Each line is eight bytes: what, the connection, five values, and one that is not looked
 * at (a newline in the seeds). A value is byte ^ '0': "0" is 0, "9" is 9. Lines:
 *
 *   #NfpV....  the first one: N + 1 data streams (N & 3); f: 1 post-copy, 2 verify,
 *              4 no zstd, 8 disk 0 is mirrored; p: bytes per write * 16, 0: as they come
 *   Ccidtv     connect, and OPEN: index + i, count + d, token ^ t, version + v
 *   Hcncmfv    Hello of the same VM: n streams, c vCPUs, m pages more; features ^ f, its
 *              uuid ^ v
 *   S          its state                         Y  lets the destination answer first
 *   Rcrl       Round r further than the next; l: the last
 *   Pckffnn    remembers a run of kind k: first page ff, nn + 1 pages (low byte first)
 *   Fcfbr      RAM of those runs: f: 1 zstd, 2 a crc; b fills the pages; round + r
 *   Ickbgnd    DISK: run of kind k (2: zeros) from granule g on, n + 1 granules of bytes
 * b, disk d Ecrfp      ROUND_END: round, frames and pages more than it is Vcbnd Verify
 * from block b on, n blocks (0: all); d: of disk d - 1, all of it L          the
 * remembered runs are the missing pages Ncrfpms    Finish: rounds, frames, pages, missing
 * and state bytes more than it is Acc        Abort with that code              D  the
 * last frame of it again Xcttn      a frame of type tt whose body is the next n lines
 * (&63) Bc..n      the next n lines, as they are Uckoov     changes the next frame: see
 * enum mig_twist Zck        closes; k: only to send           W  lets the destination
 * come to rest G          START, when it is ready           K  the agent cancels O the VM
 * ends                       T..pp  somebody touches page pp
 *
 * What is not twisted is right: checksums, numbers, counts, hashes. The frames are made
 * by the encoders that a source uses. Not thread-safe.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "migrate/mig_listen.h"
#include "migrate/mig_ram.h"
#include "migrate/mig_types.h"
#include "vmm/engine_ram.h"

#define MIG_SCRIPT_LINE   8u
#define MIG_SCRIPT_CONNS  8u /* more than a destination takes */
#define MIG_SCRIPT_TWISTS 4u

enum mig_twist {
    MIG_TWIST_BODY = 0, /* xor v at byte oo of the body (modulo), under its checksum */
    MIG_TWIST_WIRE,     /* the same of the whole frame, behind its checksums */
    MIG_TWIST_SHORT,    /* the body ends at byte oo */
    MIG_TWIST_CUT,      /* the frame ends at byte oo: what follows slips into it */
    MIG_TWIST_TYPE,     /* another type: v + 16 * 256 * (oo & 8) */
    MIG_TWIST_SEQ,      /* number + v */
    MIG_TWIST_VERSION,  /* version ^ v, bit 7: ^ MIG_CONN_NO_CRC */
    MIG_TWIST_GROW,     /* oo & 255 bytes v more in the body */
    MIG_TWISTS,
};

struct mig_script_line {
    uint8_t op, conn;
    uint8_t v[5];
};

/* What a run of it needs from outside. */
struct mig_script_env {
    struct mig_open_msg open; /* of stream 0 */
    struct mig_hello hello;
    const uint8_t *state;
    uint32_t state_len;
    uint64_t page_count;
    /* The source's memory as the frames so far describe it, for Verify. */
    const struct engine_ram *(*memory)(void *ctx);
    /* And disk 0: a sum of all of it. */
    uint64_t (*disk_sum)(void *ctx);
    /* Frame bytes for a connection. */
    void (*put)(void *ctx, unsigned conn, const uint8_t *bytes, size_t len);
    /* All other lines. */
    void (*act)(void *ctx, const struct mig_script_line *line);
    void *ctx;
};

/* The first line. */
struct mig_script_setup {
    unsigned streams; /* of data */
    bool postcopy, verify, no_zstd, disk;
    size_t piece;
};
struct mig_script_setup mig_script_setup(const uint8_t *bytes, size_t len);
void mig_script_run(const struct mig_script_env *env, const uint8_t *bytes, size_t len);
/* Whether the one under way had a line that an honest source has not. */
bool mig_script_is_twisted(void);
/* The bytes of page `page` that F fills with `fill`; 0: zeros. */
void mig_script_page(uint64_t page, uint8_t fill, uint8_t *bytes);
