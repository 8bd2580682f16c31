/* SPDX-License-Identifier: Apache-2.0 */
/* Between mig_transfer.c (the loop thread's side) and the threads of mig_out.c and
 * mig_in.c. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "migrate/mig_act.h"
#include "migrate/mig_conn.h"
#include "migrate/mig_fit.h"
#include "migrate/mig_listen.h"
#include "migrate/mig_msg.h"
#include "migrate/mig_pool.h"
#include "migrate/mig_transfer.h"
#include "migrate/mig_types.h"
#include "vmm/engine_ram.h"

/* Threads of the pool. */
enum { MIG_THREAD_CONTROL = 0, MIG_THREAD_HEAR, MIG_THREAD_FAULT, MIG_THREAD_DATA0 };
#define MIG_DATA_MAX  (MIG_TRANSFER_STREAMS_MAX - 1)

#define MIG_NOTES_MAX 64

/* What has happened, for the control thread: an event of the state machine, or one of its
 * own beyond those. */
struct mig_note {
    unsigned event;
    enum mig_code code;
    uint64_t epoch;
    char text[MIG_TEXT_MAX + 1];
};

struct mig_transfer {
    struct mig_transfer_conf conf;
    struct mig_pool *pool;
    int event_fd;
    struct mig_key *key;
    struct mig_token token;

    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t cond;
    struct mig_note note[MIG_NOTES_MAX];
    unsigned note_head, note_count;
    struct mig_status status;
    bool busy, incoming, closing;
    bool ending; /* busy only for a moment more: it is over */

    /* Of the transfer under way, its threads'. */
    struct mig_params params;
    int fd[MIG_TRANSFER_STREAMS_MAX];
    unsigned fd_count;
    struct mig_stop stop;
    struct mig_conn_conf conn;
    struct mig_streams streams;
    struct engine_ram ram;
    _Atomic bool cancelled;    /* what waits for the host gives up */
    pthread_mutex_t send_lock; /* of the control stream: mig_send_msg */
    int uffd;                  /* destination, post-copy; -1: it cannot */
};

/* Any thread. Dropped when there are far too many. */
void mig_note_post(struct mig_transfer *t, unsigned event, enum mig_code code,
                   const char *text);
void mig_note_post_epoch(struct mig_transfer *t, unsigned event, uint64_t epoch);
/* The next one; false: `until_ns` has come (UINT64_MAX: never). */
bool mig_note_wait(struct mig_transfer *t, uint64_t until_ns, struct mig_note *ret_note);
/* The control thread. */
void mig_tell(struct mig_transfer *t, enum mig_phase phase, const char *text);
void mig_tell_ready(struct mig_transfer *t, const char *text, uint64_t frozen_ms);
/* Post-copy: bytes that are not there yet, and how often somebody waited for some. */
void mig_tell_missing(struct mig_transfer *t, uint64_t bytes, uint64_t faults);
void mig_tell_progress(struct mig_transfer *t, const struct mig_status *progress);

/* Sends a control message; false: the connection is of no more use. Any thread; frames
 * of another kind only the control thread of a source sends on that stream. */
bool mig_send_msg(struct mig_transfer *t, const struct mig_msg *msg,
                  struct vmm_error *err);

/* Tells the other end how it ended; nothing if there are no streams, or they are broken.
 */
void mig_send_abort(struct mig_transfer *t, const struct mig_acts *acts);

/* This VM, as Hello tells it and as the destination compares. */
void mig_describe(const struct mig_transfer *t, struct mig_hello *ret_hello);
/* What Hello is compared with, and what that points to. */
struct mig_local {
    struct mig_here here;
    struct cpu_model cpu;
    struct mig_device device[MIG_DEVICES_MAX];
    struct mig_here_disk disk[VM_DISKS_MAX];
    struct mig_nic nic[VM_NICS_MAX];
};
/* All of them, as far as the text goes. */
void mig_blockers_text(const struct mig_hello_ack *ack, char *text, size_t cap);
void mig_describe_here(const struct mig_transfer *t, struct mig_local *ret_local);

/* The control thread: the transfer is over; its threads have ended. */
void mig_transfer_ending(struct mig_transfer *t);
void mig_transfer_ended(struct mig_transfer *t);

void mig_out_main(void *transfer); /* MIG_THREAD_CONTROL */
void mig_in_main(void *transfer);
