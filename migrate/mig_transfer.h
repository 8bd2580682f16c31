/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One gemel-vmm's end of live migrations, for its main(): it is told what the agent
 * wants, and tells how it goes. A source may try several times, one after the other; a
 * destination serves one transfer. The work is done by threads of its own (mig_pool),
 * along the state machines mig_src and mig_dst; functions here are for the loop thread
 * and do not wait.
 *
 * Until RELEASED the source's guest runs, or stands FROZEN for the agent to thaw it by
 * the next claim; this code never lets a frozen guest run on by itself (design 5, R1).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/units.h"
#include "migrate/mig_key.h"
#include "vmm/engine.h"

struct mig_transfer;

struct mig_transfer_conf {
    struct engine *engine;
    struct uuid vm;
    const char *vm_name;
    const char *build;
    /* Post-copy, destination: a userfaultfd (vmm/uffd), which it takes; or -1 and why
     * there is none. */
    int uffd;
    const char *no_uffd;
};

#define MIG_TRANSFER_STREAMS_MAX 5 /* control and four of data */

struct mig_params {
    struct uuid transfer;
    struct mig_token token;
    bool plaintext;              /* insecure_lab: no TLS */
    struct mig_fingerprint peer; /* else: of its key */
    bool verify;
    bool no_compress;
    bool postcopy;        /* rather than give up */
    uint32_t timeout_ms;  /* of all of it; 0: none */
    uint32_t downtime_ms; /* 0: the default */
    uint32_t slowdown;    /* percent */
    uint64_t rate_bps;    /* 0: no limit */
    bool memory_there;    /* source: the destination has its memory (mig_memfd.h) */
    /* Mirrored disks: the destination's copies get what the source's disks have. Bit i:
     * disk i, if it may be written to. Destination: its copies, in the order of the bits,
     * and the transfer after which they were equal last, and were written to by nobody
     * but this source's twin (none: not known). */
    uint32_t mirror;
    unsigned copy_count;
    int copy[VM_DISKS_MAX];
    struct uuid copy_base;
};

enum mig_phase {
    MIG_PHASE_NONE = 0,
    MIG_PHASE_PREPARED,
    MIG_PHASE_CONNECTING,
    MIG_PHASE_COPYING,
    MIG_PHASE_READY, /* source: frozen, all sent and accepted. Destination: START may come
                      */
    MIG_PHASE_RELEASED,
    MIG_PHASE_FAILED,  /* text */
    MIG_PHASE_FILLING, /* destination, post-copy: it runs, and its memory still comes */
    MIG_PHASE_SERVING, /* source, post-copy: it runs there, and pages go */
    MIG_PHASE_DONE,    /* post-copy: all of it is there */
};

struct mig_status {
    enum mig_phase phase;
    uint64_t change;                   /* grows with each phase */
    char text[256];                    /* FAILED: why; READY: what was done, for people */
    uint32_t percent, round, throttle; /* throttle: permille */
    uint64_t bps, dirty_bps, sent;     /* bytes */
    uint64_t disk_sent;                /* of them: contents of mirrored disks */
    uint64_t eta_ms;                   /* UINT64_MAX: does not converge as things are */
    uint64_t missing, faults; /* post-copy: bytes that are not there; waits for some */
    uint64_t frozen_ms; /* READY: how long the guest has stood still, as this end knows */
};

/* Before the sandbox. */
int mig_transfer_new(const struct mig_transfer_conf *conf, struct mig_transfer **ret_t,
                     struct vmm_error *err);
/* Behind it, before the loop thread gives up what it does not need: makes the threads. */
int mig_transfer_go(struct mig_transfer *t, struct vmm_error *err);
/* Ends what is under way; NULL is fine. Before engine_close. */
void mig_transfer_free(struct mig_transfer *t);

/* A new key for the transfer to come. */
int mig_transfer_prepare(struct mig_transfer *t, struct mig_fingerprint *ret_key,
                         struct mig_token *ret_token, struct vmm_error *err);
/* The key that was made last; NULL: none. It stays until the next one is made. */
const struct mig_key *mig_transfer_key(const struct mig_transfer *t);
/* Takes the connected sockets, stream 0 first, in any case. */
int mig_transfer_out(struct mig_transfer *t, const int *fds, unsigned count,
                     const struct mig_params *params, struct vmm_error *err);
/* Takes the listening socket and the copies in any case. */
int mig_transfer_in(struct mig_transfer *t, int listen_fd,
                    const struct mig_params *params, struct vmm_error *err);
/* The agent is about to submit the release; RELEASED or FAILED follows. */
void mig_transfer_releasing(struct mig_transfer *t);
void mig_transfer_cancel(struct mig_transfer *t);
/* The engine changed its state. */
void mig_transfer_engine(struct mig_transfer *t, const struct engine_status *status);
void mig_transfer_guest_reset(struct mig_transfer *t);

/* Readable when the status has changed; mig_transfer_clear before looking. */
int mig_transfer_fd(const struct mig_transfer *t);
void mig_transfer_clear(struct mig_transfer *t);
/* Post-copy: a guest whose memory is not all here. Nothing may let it go on without: the
 * process has to end. */
bool mig_transfer_has_holes(struct mig_transfer *t);
void mig_transfer_status(struct mig_transfer *t, struct mig_status *ret_status);
