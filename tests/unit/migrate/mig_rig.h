/* SPDX-License-Identifier: Apache-2.0 */
/* The two ends of a transfer in one process: [0] is the source, [1] the destination. */
#pragma once

#include <pthread.h>

#include "migrate/mig_conn_priv.h"
#include "migrate/mig_listen.h"
#include "tests/unit/unit.h"

enum rig_kind {
    RIG_PLAIN,
    RIG_CRC,
    RIG_TLS,
    RIG_TCP = 8 /* besides: not a socketpair */
};

/* Types of the tests. */
#define RIG_SMALL    16 /* up to 64 bytes */
#define RIG_BIG      17 /* anything */
#define RIG_PART     18 /* exactly 40 bytes, versions 2 to 3 */
#define RIG_OPTIONAL 0x8020

struct rig {
    struct mig_stop stop[2];
    struct mig_key *key[2];
    struct mig_conn_conf conf[2];
    int fd[2]; /* the conns' */
    struct mig_conn *conn[2];
};

void rig_sockets(unsigned kind, int fd[2]);
/* Keys and confs, no connection. */
void rig_prepare(struct rig *rig, unsigned kind);
/* A connection that is up. */
void rig_open(struct rig *rig, unsigned kind);
void rig_connect(struct rig *rig, unsigned kind);
/* Both handshakes to their end: what each said. */
void rig_shake(struct rig *rig, int result[2], struct vmm_error err[2]);
void rig_close(struct rig *rig);

void rig_send(struct rig *rig, int end, uint16_t type, const void *body, size_t len);
/* Demands a frame of this type and body. */
void rig_expect(struct rig *rig, int end, uint16_t type, const void *body, size_t len);
/* Writes everything; the socket may be non-blocking. */
void rig_write(int fd, const void *bytes, size_t len);
/* Milliseconds of a call. */
double rig_ms_since(uint64_t start_ns);
