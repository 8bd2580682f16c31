/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One connection of a transfer: frames (base/frame) over a connected stream socket, plain
 * or in TLS 1.3 with the peer's key pinned. The bytes of a body go straight from and to
 * where the caller has them; only TLS copies (it has to), and a checksum over memory that
 * a guest is writing to (see MIG_SEND_LIVE).
 *
 * Threads: one may send while another one receives; mig_conn_abort and mig_conn_bytes are
 * for anybody. Calls wait (poll), with deadlines, and end at once when the transfer is
 * aborted. After an error the direction that had it is of no more use; what comes back is
 * -errno and a sentence: which stream, what, why.
 *
 *   -ECANCELED   the transfer was aborted
 *   -ETIMEDOUT   nothing moved for the time given
 *   -ENODATA     the peer has closed, between two frames
 *   -ECONNRESET, -EPIPE, ... what the network said; also an end in the middle of a frame
 *   -EPROTO      what came is no frame of this protocol, or out of order
 *   -EACCES      the peer is not the one whose key was published
 *
 * System calls: sendmsg, readv, poll, shutdown, close; with TLS sendto and read in place
 * of the first two.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "migrate/mig_key.h"
#include "migrate/mig_stop.h"
#include "vmm/vmm_error.h"

#define MIG_CONN_MAGIC UINT32_C(0x314d4d47) /* "GMM1" */
/* In a frame's version: its body has no crc32c (body_crc is 0). */
#define MIG_CONN_NO_CRC   UINT16_C(0x8000)
#define MIG_CONN_IOV_MAX  1000 /* parts of one body */
#define MIG_CONN_BODY_MAX (4 * 1024 * 1024)
#define MIG_CONN_OPTIONAL_MAX                                                            \
    (64 * 1024) /* body of an unknown frame that may be skipped */
#define MIG_CONN_HANDSHAKE_MS 5000
#define MIG_CONN_SILENCE_MS   10000

/* Types 1..15 are the channel's own; the stream's begin at 16. */
enum mig_conn_type { MIG_TYPE_OPEN = 1, MIG_TYPE_ANSWER = 2, MIG_TYPE_STREAM = 16 };

/* What may come: anything else is refused before a byte is allocated for it, but for
 * types with FRAME_TYPE_OPTIONAL that no rule knows: the caller skips them. */
struct mig_conn_rule {
    uint16_t type;
    uint16_t version_min, version_max;
    uint32_t body_min, body_max;
};

/* What the source offers first; both ends know both. AES without the processor's
 * instructions for it is slow: MIG_CIPHER_CPU looks. */
enum mig_cipher { MIG_CIPHER_CPU = 0, MIG_CIPHER_AES, MIG_CIPHER_CHACHA };

/* The same for all connections of a transfer; outlives them. */
struct mig_conn_conf {
    const struct mig_key *key; /* NULL: no TLS (insecure_lab) */
    struct mig_fingerprint peer;
    enum mig_cipher cipher;
    bool server;    /* takes connections: the destination */
    bool body_crc;  /* frames that are sent carry a crc32c of their body */
    int silence_ms; /* a send or a body that does not move for so long fails */
    struct mig_stop *stop;
    const struct mig_conn_rule *rules; /* besides OPEN and ANSWER */
    size_t rule_count;
};

struct mig_conn;

/* Takes `fd`, a connected socket that does not block, also on failure. `name` is for
 * messages, for example "stream 2 of the migration of web1"; it is copied. */
int mig_conn_new(int fd, const struct mig_conn_conf *conf, const char *name,
                 struct mig_conn **ret_conn, struct vmm_error *err);
/* Closes at once what is not closed; NULL is fine. No thread may be in a call. */
void mig_conn_free(struct mig_conn *conn);
void mig_conn_rename(struct mig_conn *conn, const char *name);
const char *mig_conn_name(const struct mig_conn *conn);
int mig_conn_fd(const struct mig_conn *conn); /* for poll only */
/* For the record: "plain", or what TLS agreed on, as "TLS1.3 AES-128-GCM". */
const char *mig_conn_security(const struct mig_conn *conn);

/* TLS, and nothing without it. Done before the first frame. */
int mig_conn_handshake(struct mig_conn *conn, int timeout_ms, struct vmm_error *err);

/*
 * One frame. MIG_SEND_LIVE: the bytes may change while they are sent (a running guest's
 * memory): with body_crc they then go through a copy, so that checksum and bytes agree.
 * MIG_SEND_BARE: no checksum of this body, whatever the conf says (pages:
 * doc/decisions.md). The sum of the parts is at most MIG_CONN_BODY_MAX; `iov` is not
 * changed.
 */
enum mig_conn_flags { MIG_SEND_LIVE = 1, MIG_SEND_BARE = 2 };
int mig_conn_send(struct mig_conn *conn, uint16_t type, uint16_t version, unsigned flags,
                  const struct iovec *iov, size_t iov_count, struct vmm_error *err);
/* Tells the peer that nothing follows (TLS close_notify, FIN): it gets -ENODATA. */
int mig_conn_send_end(struct mig_conn *conn, struct vmm_error *err);

struct mig_conn_head {
    uint16_t type, version; /* version without MIG_CONN_NO_CRC */
    uint32_t body_len;
};
/* The next frame's head, judged by the rules. Waits up to `timeout_ms` (-1: for ever) for
 * its first byte. */
int mig_conn_recv_head(struct mig_conn *conn, int timeout_ms,
                       struct mig_conn_head *ret_head, struct vmm_error *err);
/* The next bytes of the body, as many as the parts hold; may be called several times. The
 * body's checksum is judged with its last byte. More than is left is a programmer error.
 */
int mig_conn_recv_body(struct mig_conn *conn, const struct iovec *iov, size_t iov_count,
                       struct vmm_error *err);
/* Bytes of the body that have not been asked for. */
uint32_t mig_conn_recv_left(const struct mig_conn *conn);
/* Throws them away. */
int mig_conn_recv_skip(struct mig_conn *conn, struct vmm_error *err);

/* The head of the next frame that a rule knows, however long it takes; optional ones that
 * none knows are skipped. */
int mig_conn_recv_known(struct mig_conn *conn, struct mig_conn_head *ret_head,
                        struct vmm_error *err);

/* Raises the abort of its conf: all connections of the transfer. */
void mig_conn_abort(struct mig_conn *conn);

/* Bytes of frames that the kernel has taken and given so far. */
struct mig_conn_bytes {
    uint64_t sent, received;
};
struct mig_conn_bytes mig_conn_bytes(const struct mig_conn *conn);
