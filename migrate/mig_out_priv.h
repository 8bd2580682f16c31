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
#include "migrate/mig_disk.h"
#include "migrate/mig_first.h"
#include "migrate/mig_policy.h"
#include "migrate/mig_ram.h"
#include "migrate/mig_squeeze.h"
#include "migrate/mig_src.h"
#include "migrate/mig_transfer_priv.h"
#include "migrate/mig_zstd.h"
#include "vmm/engine_disk.h"

/* Notes of the source, beyond those of mig_src. */
enum { MIG_NOTE_ROUND_DONE = MIG_SRC_EVENTS, MIG_NOTE_CAUGHT_UP, MIG_NOTE_WANT };

#define WANT_QUEUE 1024u /* pages that the destination waits for */

struct out;

struct out_data {
    struct out *out;
    unsigned index; /* data stream, 0.. */
    uint32_t round_seen;
    bool served;            /* post-copy: all of its pages */
    uint64_t frames, pages; /* of this round */
    struct mig_first seen;
    struct mig_ram ram;
    struct mig_squeeze squeeze;
    struct mig_zstd *zstd; /* NULL: nothing is compressed */
    struct iovec iov[MIG_RAM_RUNS_MAX + 1];
    uint8_t head[MIG_RAM_HEAD_MAX];
    uint8_t *piece; /* of a disk, when the first is read */
};

/* A mirrored disk. */
struct out_disk {
    int fd; /* the engine's */
    uint64_t bytes;
    struct mig_bitmap todo; /* granules to be sent; no words: it is not mirrored */
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
    bool serving;     /* post-copy: the data threads send what is owed */
    _Atomic bool cut; /* the round ends early: time is over, and post-copy follows */
    uint64_t want[WANT_QUEUE];
    unsigned want_head, want_count;
    unsigned active;
    uint64_t round_began_ns;
    _Atomic uint64_t bytes, pages, frames; /* all rounds; bytes of the streams */
    _Atomic uint64_t page_bytes; /* of guest memory: compressed ones count as they were */
    uint64_t counted_bytes, counted_ns; /* page bytes, for the bandwidth */

    struct mig_bitmap owed; /* post-copy: what goes after Ready; no words: it is none */
    struct out_data *urgent;

    struct mig_disk mirror[VM_DISKS_MAX]; /* as Hello had them */
    struct out_disk disk[VM_DISKS_MAX];
    unsigned disks;              /* how many of them are mirrored */
    _Atomic uint64_t disk_bytes; /* of them, sent */

    struct mig_hello_ack ack; /* the hearing thread's, until its note */
    struct mig_stats stats;   /* under t->lock */
    bool behind; /* under t->lock: a round is over when the destination has its pages */
    _Atomic uint64_t heard_ns;
};

/* Starts a thread for each data stream; they rest until a round begins. False: no memory.
 */
bool mig_out_data_start(struct out *o);
/* The cap of the operator: waits until it allows more, if there is one. */
void mig_out_wait_for_cap(struct out *o);
/* The payload of d->ram in d->iov from 1 on: the pages where they are, or compressed. How
 * many parts. */
size_t mig_out_payload(struct out_data *d);
/* So many bytes of a data stream went out. */
void mig_out_count(struct out *o, uint64_t len);
/* Sends the frame that d->ram and those parts are; `began_ns`: since when it wants to. */
bool mig_out_frame(struct out_data *d, struct mig_conn *conn, size_t count,
                   uint64_t began_ns, struct vmm_error *err);
/* A round: what the bitmap has is sent, then MIG_NOTE_ROUND_DONE is posted. Control
 * thread, while no round is under way. */
void mig_out_round_begin(struct out *o, bool last);
/* The destination takes compressed pages: they may be sent from the next round on. */
void mig_out_compress(struct out *o);
/* Its thread has ended, or never ran. Takes NULL. */
void mig_out_data_free(struct out_data *d);

/* Mirrored disks (mig_out_disk.c). Control thread: what is to be sent of them, by the
 * destination's answer; false: o->err says why not. Bytes that are left; that were
 * written to since the last collect. The destination's copies are equal, and the guest
 * stands. */
bool mig_out_disks_begin(struct out *o);
uint64_t mig_out_disks_left(const struct out *o);
uint64_t mig_out_disks_collect(struct out *o);
void mig_out_disks_equal(struct out *o);
void mig_out_disks_free(struct out *o);
/* Data threads: a round of those that travel on this stream. */
bool mig_out_disks_send(struct out_data *d, struct vmm_error *err);

/* Post-copy (mig_out_holes.c): what the bitmap has is owed from now on. False: no memory.
 */
bool mig_out_holes_begin(struct out *o);
bool mig_out_holes_tell(struct out *o); /* MISSING frames; false: the connection broke */
void mig_out_holes_serve(struct out *o);
bool mig_out_holes_push(struct out_data *d, struct vmm_error *err); /* data threads */
void mig_out_holes_wanted(struct out *o, const struct mig_want *want);
void mig_out_holes_answer(struct out *o);
void mig_out_holes_free(struct out *o);
