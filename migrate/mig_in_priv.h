/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the threads of a destination share: mig_in.c, mig_in_pages.c for the data streams,
 * mig_in_disk.c for disks, and mig_in_holes.c for post-copy. Nobody else includes it.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "migrate/mig_bitmap.h"
#include "migrate/mig_disk.h"
#include "migrate/mig_dst.h"
#include "migrate/mig_fit.h"
#include "migrate/mig_ram.h"
#include "migrate/mig_transfer_priv.h"

/* Notes of the destination, beyond those of mig_dst. */
enum { MIG_NOTE_HELLO = MIG_DST_EVENTS, MIG_NOTE_FINISH, MIG_NOTE_ROUND_END };

struct in;

struct in_data {
    struct in *in;
    unsigned index;
    /* Under lock: the round that ended last on this stream; all up to then; of the one
     * under way, frames also while they come. */
    uint32_t round;
    uint64_t frames, pages;
    uint64_t round_frames, round_pages;
    struct mig_ram ram;
    struct mig_zstd *zstd; /* when the first compressed frame comes */
    struct iovec iov[MIG_RAM_RUNS_MAX];
    uint8_t head[MIG_RAM_HEAD_MAX];
    uint8_t *bounce; /* post-copy: a frame's pages, before they are put in place */
    uint8_t *piece;  /* of a disk, when the first comes */
};

/* This node's copy of a mirrored disk: of the thread of its stream. */
struct in_copy {
    int fd;            /* the transfer's; -1: it is not mirrored */
    uint64_t bytes;    /* as Hello said, and as it has */
    uint64_t unsynced; /* written, not durable */
    uint64_t *hash;    /* under lock: of its blocks, as they come */
    uint64_t hash_count;
};

/* Post-copy: what is still at the source. */
struct in_holes {
    struct mig_bitmap missing;     /* no words: no list of them came */
    struct mig_bitmap unasked;     /* of those, what nobody has asked the source for */
    uint64_t at;                   /* the list has come up to this page */
    _Atomic bool on;               /* the userfaultfd watches: pages are put in place */
    _Atomic uint64_t left, faults; /* faults: pages that somebody waited for */
    _Atomic uint64_t asked_page, asked_ns; /* for the last of them, and since when */
    _Atomic uint64_t waited_ns, longest_ns;
    struct in_data *urgent;     /* of the control stream */
    uint64_t begun_ns, took_ns; /* the guest runs since; to make the holes */
    uint64_t rebuilt;           /* huge pages that could not be split */
};

struct in {
    struct mig_transfer *t;
    struct mig_dst dst;
    struct mig_bitmap filled;      /* pages that may hold something */
    struct mig_bitmap whole;       /* blocks that are there as a whole */
    _Atomic unsigned made, failed; /* blocks made in one piece, and not */
    _Atomic uint64_t made_ns;
    struct mig_hello hello;
    struct mig_local local;
    struct mig_hello_ack ack;
    struct mig_finish finish;
    bool have_finish, receiving, hearing;
    bool sealed;               /* under lock: no page comes any more, but for holes */
    bool finished;             /* the hearing thread: Finish came */
    _Atomic uint64_t features; /* that both ends use, once that is settled */
    uint64_t began_ns, told_ns, ready_ns;
    struct vmm_error err;
    unsigned data_count;
    struct in_data *data[MIG_DATA_MAX];
    pthread_mutex_t lock;
    _Atomic uint64_t bytes, pages, heard_ns;
    uint64_t state_bytes; /* under lock, as what follows */
    bool have_state;
    struct mig_round round; /* as the source told it */
    uint64_t last_ns;       /* when it said that the guest is frozen */
    uint64_t *hash;         /* of its blocks, as they come */
    uint64_t hash_count;
    uint64_t *mine; /* the same of what is here: the control thread's */
    struct in_holes holes;
    struct in_copy copy[VM_DISKS_MAX];
    struct mig_disk_conf disk_conf; /* but for the stream */
    _Atomic uint64_t disk_bytes;    /* of `bytes` */
};

/* Blocks of guest memory. */
uint64_t mig_in_block_count(const struct in *in);
/* The thread of a data stream (struct in_data). */
void mig_in_data_main(void *data);
/* A thread that reads is over: the connection is, or what came is not right. */
void mig_in_post_end(struct in *in, bool lost, const struct vmm_error *err);

/* A frame of this round, of so many pages, counted before anything of it is written. */
bool mig_in_admit(struct in_data *d, uint32_t round, uint64_t pages,
                  struct vmm_error *err);

/* Copies of mirrored disks (mig_in_disk.c) ----------------------------------------- */
/* When Hello fits. */
void mig_in_disks_begin(struct in *in);
/* Data threads: a DISK frame; a round has ended. */
bool mig_in_disk(struct in_data *d, struct mig_conn *conn, uint32_t body_len,
                 struct vmm_error *err);
bool mig_in_disks_sync(struct in_data *d, struct vmm_error *err);
/* Under lock: hashes of a disk's blocks. False: of blocks that do not exist, or twice. */
bool mig_in_disk_hashes(struct in *in, const struct mig_verify *verify);
/* The control thread, when all is here. */
bool mig_in_disk_differs(struct in *in, unsigned disk, char *text, size_t cap);
void mig_in_disks_free(struct in *in);

/* The head of a RAM frame, judged, into d->ram; its payload is next. */
bool mig_in_ram_head(struct in_data *d, struct mig_conn *conn,
                     const struct mig_ram_conf *conf, uint32_t body_len,
                     struct vmm_error *err);
/* Compressed pages, into the `runs` parts of d->iov. */
bool mig_in_packed(struct in_data *d, struct mig_conn *conn, size_t runs,
                   struct vmm_error *err);
/* For people: what was wrong on a data stream. False. */
bool mig_in_bad_frame(struct in_data *d, const char *why, struct vmm_error *err);

/* Post-copy (mig_in_holes.c) ------------------------------------------------------- */
/* The hearing thread: a MISSING frame. */
bool mig_in_holes_take(struct in *in, uint32_t body_len, struct vmm_error *err);
/* When everything else is here: takes stale pages away, and has the rest waited for. 0,
 * or -errno with a text. */
int mig_in_holes_begin(struct in *in);
/* A RAM frame that came after that: into their places. */
bool mig_in_holes_pages(struct in_data *d, struct mig_conn *conn, bool urgent,
                        uint32_t body_len, struct vmm_error *err);
/* What mig_dst wants done: it runs; all is here, and nobody is watched any more; that is
 * told; the source is lost. */
void mig_in_holes_runs(struct in *in, uint64_t epoch);
void mig_in_holes_end(struct in *in);
void mig_in_holes_tell(struct in *in);
void mig_in_holes_lost(struct in *in, const char *why);
void mig_in_holes_free(struct in *in);
