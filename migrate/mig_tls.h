/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A TLS 1.3 session over a non-blocking socket, whose peer shows the one key that was
 * published (RFC 7250, raw public keys). Nothing here waits. gnutls sees two buffers in
 * place of the socket, so that its calls are short and 16 KiB records go to the kernel
 * many at a time. migrate/mig_conn, mig_key and their tests only.
 *
 * One thread may read while another one writes: gnutls is entered under a lock.
 */
#pragma once

#include <gnutls/gnutls.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "migrate/mig_key.h"
#include "vmm/vmm_error.h"

#define MIG_TLS_RECORD 16384 /* plaintext bytes of a record, at most (RFC 8446, 5.1) */

struct mig_tls;

gnutls_certificate_credentials_t mig_key_credentials(const struct mig_key *key);
/* What judges the peer's key, for all sessions with these credentials. */
void mig_tls_set_verify(gnutls_certificate_credentials_t credentials);
/* A handshake and some bytes with itself. */
int mig_tls_rehearse(const struct mig_key *key, struct vmm_error *err);

/* `fd` stays the caller's. The destination is the server. The client's order of ciphers
 * is what counts. */
int mig_tls_new(int fd, const struct mig_key *key, const struct mig_fingerprint *peer,
                bool server, bool chacha_first, struct mig_tls **ret_tls);
void mig_tls_free(struct mig_tls *tls);
/* 0: done. -EAGAIN: when the socket is ready for *ret_events (poll bits). -EACCES: not
 * the peer. Else a failure; mig_tls_why says what. */
int mig_tls_handshake(struct mig_tls *tls, short *ret_events);
/* At most a record: bytes taken, or -EAGAIN (socket not writable), or -errno. They are
 * sent when the buffer is full, and by mig_tls_flush. */
ssize_t mig_tls_write(struct mig_tls *tls, const void *bytes, size_t len);
int mig_tls_flush(struct mig_tls *tls); /* 0, -EAGAIN, -errno */
/* Bytes; 0: the peer said that it is the end; -EAGAIN, -errno. */
ssize_t mig_tls_read(struct mig_tls *tls, void *bytes, size_t len);
/* Queues the end of what is sent: to be flushed. */
int mig_tls_end(struct mig_tls *tls);
/* Of the last failure in the calling thread's direction, or "". */
const char *mig_tls_why_read(const struct mig_tls *tls);
const char *mig_tls_why_write(const struct mig_tls *tls);
void mig_tls_describe(const struct mig_tls *tls, char *text, size_t cap);
