/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the threads of a source share: mig_out.c (control and hearing) and mig_out_data.c.
 * Nobody else includes it. Between two rounds the data threads rest, and the control
 * thread alone has bitmap and dirty log.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "migrate/mig_bitmap.h"
#include "migrate/mig_policy.h"
#include "migrate/mig_ram.h"
#include "migrate/mig_squeeze.h"
#include "migrate/mig_src.h"
#include "migrate/mig_transfer_priv.h"
#include "migrate/mig_zstd.h"

/* Notes of the source, beyond those of mig_src. */
enum { MIG_NOTE_ROUND_DONE = MIG_SRC_EVENTS, MIG_NOTE_CAUGHT_UP };

struct out;

struct out_data {
    struct out *out;
    unsigned index; /* data stream, 0.. */
    uint32_t round_seen;
    uint64_t frames, pages; /* of this round */
    uint64_t data_begin, data_end;
    struct mig_ram ram;
    struct mig_squeeze squeeze;
    struct mig_zstd *zstd; /* NULL: nothing is compressed */
    struct iovec iov[MIG_RAM_RUNS_MAX + 1];
    uint8_t head[MIG_RAM_HEAD_MAX];
};

struct out {
    struct mig_transfer *t;
    struct mig_src src;
    struct mig_policy policy;
    struct mig_bitmap bitmap;
    uint64_t features;
    uint64_t began_ns, told_ns;
    uint64_t frozen_ns, stopped_ns, last_ns, state_ns; /* the parts of the downtime */
    char summary[MIG_TEXT_MAX + 1];
    struct vmm_error err;
    struct engine_saved saved; /* in engine_state_fd */
    bool tracking, hearing, freezing, predicts;
    struct mig_curve curve; /* how much it dirties in how long */
    uint64_t used_bytes;    /* of RAM: pages that exist */

    unsigned data_count;
    struct out_data *data[MIG_DATA_MAX];

    /* Under lock: the round under way. */
    pthread_mutex_t lock;
    pthread_cond_t cond;
    uint32_t round; /* 0: none was begun */
    bool last, first, over;
    unsigned active;
    uint64_t round_began_ns;
    _Atomic uint64_t bytes, pages, frames; /* all rounds; bytes of the streams */
    _Atomic uint64_t page_bytes; /* of guest memory: compressed ones count as they were */
    uint64_t counted_bytes, counted_ns; /* page bytes, for the bandwidth */

    struct mig_hello_ack ack; /* the hearing thread's, until its note */
    struct mig_stats stats;   /* under t->lock */
    bool behind; /* under t->lock: a round is over when the destination has its pages */
    _Atomic uint64_t heard_ns;
};

/* Starts a thread for each data stream; they rest until a round begins. False: no memory.
 */
bool mig_out_data_start(struct out *o);
/* A round: what the bitmap has is sent, then MIG_NOTE_ROUND_DONE is posted. Control
 * thread, while no round is under way. */
void mig_out_round_begin(struct out *o, bool last);
/* The destination takes compressed pages: they may be sent from the next round on. */
void mig_out_compress(struct out *o);
/* Its thread has ended, or never ran. Takes NULL. */
void mig_out_data_free(struct out_data *d);
