/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How the streams of a transfer come about. The destination takes connections from a
 * listening socket that its agent made, until stream 0 and all data streams are there;
 * anybody may connect to it, so that whoever is not the peer is dropped, counted, and
 * costs the peer nothing. The source opens the sockets that its agent has connected.
 *
 * Both wait: for a thread of the transfer. System calls: those of mig_conn, and accept4.
 */
#pragma once

#include <stdint.h>

#include "base/units.h"
#include "migrate/mig_conn.h"
#include "migrate/mig_open_msg.h"

#define MIG_LISTEN_PENDING  32  /* connections that are not known yet */
#define MIG_LISTEN_GRACE_MS 500 /* so long nobody is put out for a newer one */

struct mig_streams {
    unsigned count; /* conn[0] is control, the others are data */
    uint32_t version;
    struct mig_conn *conn[MIG_OPEN_STREAMS_MAX];
};

struct mig_join_conf {
    const struct mig_conn_conf *conn;
    struct uuid transfer;
    struct mig_token token;
    const char *name; /* of the VM, for messages */
    unsigned count;   /* streams in all; 0 at the destination: as the source says */
    int timeout_ms;   /* for all of it */
    int handshake_ms; /* for one connection to say who it is; 0: MIG_CONN_HANDSHAKE_MS */
};

/* What was dropped, and why: for the record. */
struct mig_listen_counts {
    uint32_t accepted;
    uint32_t silent;          /* did not finish within handshake_ms */
    uint32_t refused;         /* no TLS 1.3, or another key */
    uint32_t rubbish;         /* no OPEN */
    uint32_t token;           /* another transfer, a wrong token, a wrong count */
    uint32_t replayed;        /* a stream that was there already */
    uint32_t crowded;         /* put out because MIG_LISTEN_PENDING were waiting */
    char last[VMM_ERROR_MAX]; /* the last one's sentence */
};

/* Takes `listen_fd`, which is closed when this returns. */
int mig_listen(int listen_fd, const struct mig_join_conf *conf,
               struct mig_streams *ret_streams, struct mig_listen_counts *ret_counts,
               struct vmm_error *err);
/* Takes conf->count connected sockets, also on failure. Returns when the destination has
 * answered. */
int mig_open(const int *fds, const struct mig_join_conf *conf,
             struct mig_streams *ret_streams, struct vmm_error *err);
void mig_streams_close(struct mig_streams *streams);
