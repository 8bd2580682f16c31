/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/mig_conn.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bug.h"
#include "base/crc32c.h"
#include "base/frame.h"
#include "base/loop.h"
#include "base/text.h"
#include "base/units.h"
#include "migrate/mig_conn_priv.h"
#include "migrate/mig_pipe.h"

_Static_assert(MIG_CONN_IOV_MAX + 1 == MIG_PIPE_IOV_MAX, "a header before the parts");

#define COPY_SLICE (64 * 1024) /* of a copy with its checksum: stays in the cache */

struct sender {
    uint64_t seq;
    uint8_t head[FRAME_HEADER_LEN];
    uint8_t *copy; /* MIG_CONN_BODY_MAX, for MIG_SEND_LIVE with a checksum */
    struct mig_parts parts;
};

struct receiver {
    uint64_t seq;
    uint8_t head[FRAME_HEADER_LEN];
    size_t head_got;
    bool in_body; /* the head was judged */
    uint32_t body_left, crc, crc_wanted;
    bool has_crc;
    struct mig_conn_head frame;
    struct mig_parts parts;
};

struct mig_conn {
    struct mig_pipe pipe;
    const struct mig_conn_conf *conf;
    const struct mig_conn_rule *rules;
    size_t rule_count;
    bool strict; /* nothing that no rule knows, not even to be skipped */
    bool ready;  /* TLS is up, or there is none */
    char security[64];
    struct sender tx;   /* the sending thread's */
    struct receiver rx; /* the receiving thread's */
    _Atomic uint64_t sent, received;
};

static bool chacha_first(enum mig_cipher cipher)
{
    return cipher == MIG_CIPHER_CHACHA ||
           (cipher == MIG_CIPHER_CPU && !__builtin_cpu_supports("aes"));
}

int mig_conn_new(int fd, const struct mig_conn_conf *conf, const char *name,
                 struct mig_conn **ret_conn, struct vmm_error *err)
{
    struct mig_conn *c = calloc(1, sizeof *c);
    int r = c ? 0 : -ENOMEM;

    if (c) {
        c->pipe.fd = fd;
        c->pipe.stop = conf->stop;
        c->conf = conf;
        c->ready = conf->key == NULL;
        mig_conn_rename(c, name);
        mig_conn_expect(c, NULL, 0);
        (void)text_copy(c->security, sizeof c->security, "plain");
        if (conf->body_crc) {
            c->tx.copy = malloc(MIG_CONN_BODY_MAX);
            r = c->tx.copy ? 0 : -ENOMEM;
        }
        if (r == 0 && conf->key) {
            r = mig_tls_new(fd, conf->key, &conf->peer, conf->server,
                            chacha_first(conf->cipher), &c->pipe.tls);
        }
    }
    if (r < 0) {
        if (c) {
            mig_conn_free(c);
        } else {
            close(fd);
        }
        return vmm_fail(err, r, "%s: cannot be set up: %s", name, strerror(-r));
    }
    *ret_conn = c;
    return 0;
}

void mig_conn_free(struct mig_conn *conn)
{
    if (conn) {
        mig_tls_free(conn->pipe.tls);
        close(conn->pipe.fd);
        free(conn->tx.copy);
        free(conn);
    }
}

void mig_conn_rename(struct mig_conn *conn, const char *name)
{
    (void)text_copy(conn->pipe.name, sizeof conn->pipe.name, name);
}

const char *mig_conn_name(const struct mig_conn *conn)
{
    return conn->pipe.name;
}

int mig_conn_fd(const struct mig_conn *conn)
{
    return conn->pipe.fd;
}

const char *mig_conn_security(const struct mig_conn *conn)
{
    return conn->security;
}

void mig_conn_expect(struct mig_conn *conn, const struct mig_conn_rule *rules,
                     size_t rule_count)
{
    conn->rules = rules ? rules : conn->conf->rules;
    conn->rule_count = rules ? rule_count : conn->conf->rule_count;
    conn->strict = rules != NULL;
}

void mig_conn_abort(struct mig_conn *conn)
{
    mig_stop_raise(conn->conf->stop);
}

struct mig_conn_bytes mig_conn_bytes(const struct mig_conn *conn)
{
    return (struct mig_conn_bytes){.sent = conn->sent, .received = conn->received};
}

/* Handshake -------------------------------------------------------------------------- */

int mig_conn_step_handshake(struct mig_conn *conn, short *ret_events,
                            struct vmm_error *err)
{
    int r = conn->ready ? 0 : mig_tls_handshake(conn->pipe.tls, ret_events);

    if (r == -EACCES) {
        return vmm_fail(err, r,
                        "%s: the peer's key is not the one whose fingerprint was "
                        "published for this transfer: somebody else is there",
                        conn->pipe.name);
    }
    if (r < 0 && r != -EAGAIN) {
        const char *why = mig_tls_why_read(conn->pipe.tls);

        return vmm_fail(err, r, "%s: no TLS: %s", conn->pipe.name,
                        why[0] != '\0' ? why : strerror(-r));
    }
    if (r == 0 && !conn->ready) {
        conn->ready = true;
        mig_tls_describe(conn->pipe.tls, conn->security, sizeof conn->security);
    }
    return r;
}

/* When an operation that may wait for `ms` at a time gives up. */
static uint64_t until(int ms)
{
    return ms < 0 ? UINT64_MAX : loop_now_ns() + (uint64_t)ms * NSEC_PER_MSEC;
}

int mig_conn_handshake(struct mig_conn *conn, int timeout_ms, struct vmm_error *err)
{
    uint64_t until_ns = until(timeout_ms);
    short events;
    int r;

    for (;;) {
        r = mig_conn_step_handshake(conn, &events, err);
        if (r != -EAGAIN) {
            return r;
        }
        r = mig_pipe_wait(&conn->pipe, events, until_ns, "waiting for TLS", err);
        if (r < 0) {
            return r;
        }
    }
}

/* Sending ---------------------------------------------------------------------------- */

static uint32_t crc_of(const struct iovec *iov, size_t iov_count)
{
    uint32_t crc = 0;

    for (size_t i = 0; i < iov_count; i++) {
        crc = crc32c(crc, iov[i].iov_base, iov[i].iov_len);
    }
    return crc;
}

/* The body as it is now, with its checksum: each byte is read once. */
static uint32_t copy_with_crc(uint8_t *copy, const struct iovec *iov, size_t iov_count)
{
    uint32_t crc = 0;

    for (size_t i = 0; i < iov_count; i++) {
        const uint8_t *from = iov[i].iov_base;

        for (size_t done = 0; done < iov[i].iov_len;) {
            size_t left = iov[i].iov_len - done;
            size_t some = left < COPY_SLICE ? left : COPY_SLICE;

            memcpy(copy, from + done, some);
            crc = crc32c(crc, copy, some);
            copy += some;
            done += some;
        }
    }
    return crc;
}

static size_t total_of(const struct iovec *iov, size_t iov_count)
{
    size_t len = 0;

    BUG_ON(iov_count > MIG_CONN_IOV_MAX);
    for (size_t i = 0; i < iov_count; i++) {
        len += iov[i].iov_len;
    }
    return len;
}

static void make_frame(struct mig_conn *conn, uint16_t type, uint16_t version,
                       unsigned flags, const struct iovec *iov, size_t iov_count)
{
    size_t len = total_of(iov, iov_count);
    struct sender *tx = &conn->tx;
    struct frame f = {.type = type,
                      .version = version | MIG_CONN_NO_CRC,
                      .seq = ++tx->seq,
                      .body_len = (uint32_t)len};
    struct iovec head = {tx->head, sizeof tx->head}, copy = {tx->copy, len};
    uint32_t crc = 0;

    BUG_ON(len > MIG_CONN_BODY_MAX || version == 0 || (version & MIG_CONN_NO_CRC));
    if (conn->conf->body_crc && !(flags & MIG_SEND_BARE)) {
        f.version = version;
        if (flags & MIG_SEND_LIVE) {
            crc = copy_with_crc(tx->copy, iov, iov_count);
            iov = &copy;
            iov_count = 1;
        } else {
            crc = crc_of(iov, iov_count);
        }
    }
    frame_header(&f, MIG_CONN_MAGIC, crc, tx->head);
    mig_parts_set(&tx->parts, &head, iov, iov_count);
}

/* Everything in tx->parts, and what TLS held back. */
static int push(struct mig_conn *conn, struct vmm_error *err)
{
    struct mig_parts *parts = &conn->tx.parts;
    uint64_t until_ns = 0;
    ssize_t n;

    for (;;) {
        if (mig_stop_raised(conn->pipe.stop)) {
            return mig_pipe_wait(&conn->pipe, POLLOUT, 0, "sending", err);
        }
        n = parts->left > 0 ? mig_pipe_write(&conn->pipe, parts, err)
                            : mig_pipe_flush(&conn->pipe, err);
        if (n > 0) {
            conn->sent += (uint64_t)n;
            until_ns = 0;
            n = parts->left > 0 || conn->pipe.tls ? 1 : 0;
        }
        if (n == -EAGAIN) {
            until_ns = until_ns > 0 ? until_ns : until(conn->conf->silence_ms);
            n = mig_pipe_wait(&conn->pipe, POLLOUT, until_ns, "sending", err);
            n = n < 0 ? n : 1;
        }
        if (n <= 0) {
            return (int)n;
        }
    }
}

int mig_conn_send(struct mig_conn *conn, uint16_t type, uint16_t version, unsigned flags,
                  const struct iovec *iov, size_t iov_count, struct vmm_error *err)
{
    BUG_ON(!conn->ready);
    make_frame(conn, type, version, flags, iov, iov_count);
    return push(conn, err);
}

int mig_conn_send_end(struct mig_conn *conn, struct vmm_error *err)
{
    int r;

    BUG_ON(!conn->ready);
    mig_parts_set(&conn->tx.parts, NULL, NULL, 0);
    r = mig_pipe_end(&conn->pipe, err);
    r = r < 0 ? r : push(conn, err);
    if (r == 0 && shutdown(conn->pipe.fd, SHUT_WR) < 0) {
        return vmm_fail(err, -errno, "%s: ending: %s", conn->pipe.name, strerror(errno));
    }
    return r;
}

/* Receiving -------------------------------------------------------------------------- */

static int odd(const struct mig_conn *conn, struct vmm_error *err, const char *what)
{
    return vmm_fail(err, -EPROTO, "%s: what came is no frame of this protocol: %s",
                    conn->pipe.name, what);
}

static int judge_rule(struct mig_conn *conn, struct vmm_error *err)
{
    const struct mig_conn_head *h = &conn->rx.frame;

    for (size_t i = 0; i < conn->rule_count; i++) {
        const struct mig_conn_rule *rule = &conn->rules[i];

        if (rule->type != h->type) {
            continue;
        }
        if (h->version < rule->version_min || h->version > rule->version_max) {
            return vmm_fail(err, -EPROTO,
                            "%s: a frame of type %u has version %u: this side knows %u "
                            "to %u",
                            conn->pipe.name, h->type, h->version, rule->version_min,
                            rule->version_max);
        }
        if (h->body_len < rule->body_min || h->body_len > rule->body_max) {
            return vmm_fail(
                err, -EPROTO, "%s: a frame of type %u has %u bytes: %u to %u are allowed",
                conn->pipe.name, h->type, h->body_len, rule->body_min, rule->body_max);
        }
        return 0;
    }
    if (!conn->strict && (h->type & FRAME_TYPE_OPTIONAL) &&
        h->body_len <= MIG_CONN_OPTIONAL_MAX) {
        return 0;
    }
    return vmm_fail(err, -EPROTO, "%s: a frame of type %u may not come here",
                    conn->pipe.name, h->type);
}

static int judge_head(struct mig_conn *conn, struct vmm_error *err)
{
    struct receiver *rx = &conn->rx;
    struct frame f;
    uint32_t crc;
    enum frame_reason reason = frame_check_header(
        rx->head, sizeof rx->head, MIG_CONN_MAGIC, MIG_CONN_BODY_MAX, &f, &crc);

    if (reason != FRAME_OK) {
        return odd(conn, err, frame_reason_str(reason));
    }
    if (f.seq != rx->seq + 1) {
        return odd(conn, err, "a number that is not the next one");
    }
    rx->has_crc = !(f.version & MIG_CONN_NO_CRC);
    if (!rx->has_crc && crc != 0) {
        return odd(conn, err, "a checksum where there is none");
    }
    rx->frame = (struct mig_conn_head){.type = f.type,
                                       .version = f.version & (uint16_t)~MIG_CONN_NO_CRC,
                                       .body_len = f.body_len};
    if (rx->frame.version == 0) {
        return odd(conn, err, frame_reason_str(FRAME_BAD_VERSION));
    }
    rx->seq = f.seq;
    rx->crc = 0;
    rx->crc_wanted = crc;
    rx->body_left = f.body_len;
    return judge_rule(conn, err);
}

static int ended(const struct mig_conn *conn, struct vmm_error *err)
{
    if (!conn->rx.in_body && conn->rx.head_got == 0) {
        return vmm_fail(err, -ENODATA, "%s: the peer has closed", conn->pipe.name);
    }
    return vmm_fail(err, -ECONNRESET, "%s: the peer closed in the middle of a frame",
                    conn->pipe.name);
}

/* The bytes of rx->parts, as far as they are there: 0 all, -EAGAIN, or -errno. */
static int pull_some(struct mig_conn *conn, ssize_t *ret_n, struct vmm_error *err)
{
    ssize_t n = mig_pipe_read(&conn->pipe, &conn->rx.parts, err);

    *ret_n = n;
    if (n == 0) {
        return ended(conn, err);
    }
    if (n > 0) {
        conn->received += (uint64_t)n;
    }
    return n < 0 ? (int)n : 0;
}

static int step_head(struct mig_conn *conn, struct vmm_error *err)
{
    struct receiver *rx = &conn->rx;
    struct iovec rest;
    ssize_t n;
    int r;

    while (rx->head_got < sizeof rx->head) {
        rest = (struct iovec){rx->head + rx->head_got, sizeof rx->head - rx->head_got};
        mig_parts_set(&rx->parts, NULL, &rest, 1);
        r = pull_some(conn, &n, err);
        if (r < 0) {
            return r;
        }
        rx->head_got += (size_t)n;
    }
    r = judge_head(conn, err);
    if (r == 0) {
        rx->head_got = 0;
        rx->in_body = true;
    }
    return r;
}

/* The checksum goes over the parts as they fill up: `at` and `used` say up to where. */
struct summed {
    size_t at, used;
};

static void sum(struct receiver *rx, struct summed *s, const struct iovec *iov, size_t n)
{
    while (n > 0) {
        size_t left = iov[s->at].iov_len - s->used;
        size_t some = n < left ? n : left;

        rx->crc = crc32c(rx->crc, (const uint8_t *)iov[s->at].iov_base + s->used, some);
        s->used += some;
        n -= some;
        if (s->used == iov[s->at].iov_len) {
            s->at++;
            s->used = 0;
        }
    }
}

static int end_of_body(struct mig_conn *conn, struct vmm_error *err)
{
    struct receiver *rx = &conn->rx;

    if (rx->body_left > 0) {
        return 0;
    }
    rx->in_body = false;
    if (rx->has_crc && rx->crc != rx->crc_wanted) {
        return odd(conn, err, frame_reason_str(FRAME_BAD_BODY_CRC));
    }
    return 0;
}

static int wait_for_more(struct mig_conn *conn, uint64_t *until_ns, struct vmm_error *err)
{
    *until_ns = *until_ns > 0 ? *until_ns : until(conn->conf->silence_ms);
    return mig_pipe_wait(&conn->pipe, POLLIN, *until_ns, "receiving", err);
}

int mig_conn_recv_head(struct mig_conn *conn, int timeout_ms,
                       struct mig_conn_head *ret_head, struct vmm_error *err)
{
    struct receiver *rx = &conn->rx;
    uint64_t first_ns = 0, rest_ns = 0;
    int r;

    BUG_ON(!conn->ready || rx->body_left > 0);
    for (;;) {
        r = step_head(conn, err);
        if (r == -EAGAIN && rx->head_got == 0) {
            first_ns = first_ns > 0 ? first_ns : until(timeout_ms);
            r = mig_pipe_wait(&conn->pipe, POLLIN, first_ns, "waiting for a frame", err);
        } else if (r == -EAGAIN) {
            r = wait_for_more(conn, &rest_ns, err);
        } else if (r == 0) {
            *ret_head = rx->frame;
            return end_of_body(conn, err); /* of an empty one */
        }
        if (r < 0) {
            return r;
        }
    }
}

int mig_conn_recv_body(struct mig_conn *conn, const struct iovec *iov, size_t iov_count,
                       struct vmm_error *err)
{
    size_t len = total_of(iov, iov_count);
    struct receiver *rx = &conn->rx;
    struct summed s = {0, 0};
    uint64_t until_ns = 0;
    ssize_t n;
    int r;

    BUG_ON(!conn->ready || len > rx->body_left);
    mig_parts_set(&rx->parts, NULL, iov, iov_count);
    while (rx->parts.left > 0) {
        if (mig_stop_raised(conn->pipe.stop)) {
            return mig_pipe_wait(&conn->pipe, POLLIN, 0, "receiving", err);
        }
        r = pull_some(conn, &n, err);
        if (r == 0) {
            rx->body_left -= (uint32_t)n;
            until_ns = 0;
            if (rx->has_crc) {
                sum(rx, &s, iov, (size_t)n);
            }
        } else if (r == -EAGAIN) {
            r = wait_for_more(conn, &until_ns, err);
        }
        if (r < 0) {
            return r;
        }
    }
    return len > 0 ? end_of_body(conn, err) : 0;
}

uint32_t mig_conn_recv_left(const struct mig_conn *conn)
{
    return conn->rx.body_left;
}

int mig_conn_recv_skip(struct mig_conn *conn, struct vmm_error *err)
{
    uint8_t bytes[4096];
    int r = 0;

    while (r == 0 && conn->rx.body_left > 0) {
        uint32_t left = conn->rx.body_left;
        struct iovec v = {bytes, left < sizeof bytes ? left : sizeof bytes};

        r = mig_conn_recv_body(conn, &v, 1, err);
    }
    return r;
}

static bool is_known(const struct mig_conn *conn, uint16_t type)
{
    for (size_t i = 0; i < conn->rule_count; i++) {
        if (conn->rules[i].type == type) {
            return true;
        }
    }
    return false;
}

int mig_conn_recv_known(struct mig_conn *conn, struct mig_conn_head *ret_head,
                        struct vmm_error *err)
{
    int r;

    do {
        r = mig_conn_recv_head(conn, -1, ret_head, err);
        if (r < 0 || is_known(conn, ret_head->type)) {
            return r;
        }
        r = mig_conn_recv_skip(conn, err);
    } while (r == 0);
    return r;
}

int mig_conn_step_frame(struct mig_conn *conn, struct mig_conn_head *ret_head,
                        uint8_t *body, size_t cap, struct vmm_error *err)
{
    struct receiver *rx = &conn->rx;
    struct iovec rest;
    ssize_t n;
    int r = rx->in_body ? 0 : step_head(conn, err);

    if (r < 0) {
        return r;
    }
    BUG_ON(!conn->strict || rx->frame.body_len > cap); /* the rules see to it */
    while (rx->body_left > 0) {
        uint8_t *at = body + (rx->frame.body_len - rx->body_left);

        rest = (struct iovec){at, rx->body_left};
        mig_parts_set(&rx->parts, NULL, &rest, 1);
        r = pull_some(conn, &n, err);
        if (r < 0) {
            return r;
        }
        rx->crc = rx->has_crc ? crc32c(rx->crc, at, (size_t)n) : 0;
        rx->body_left -= (uint32_t)n;
    }
    r = end_of_body(conn, err);
    if (r == 0) {
        *ret_head = rx->frame;
    }
    return r;
}
