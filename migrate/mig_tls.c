/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/mig_tls.h"

#include <errno.h>
#include <gnutls/crypto.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bug.h"

/* NIST curve and AES-GCM first: they are allowed where FIPS 140 is asked for. */
#define PRIORITY(ciphers)                                                                \
    "NONE:+VERS-TLS1.3:" ciphers                                                         \
    ":+AEAD:+GROUP-SECP256R1:+GROUP-X25519:+SIGN-ECDSA-SECP256R1-SHA256:"                \
    "+CTYPE-CLI-RAWPK:+CTYPE-SRV-RAWPK:+COMP-NULL"

#define RECORD_EXTRA 512 /* what a record has around its plaintext, amply */
/* Measured: 64 KiB cost 6 % more CPU time per byte, 512 KiB no less
 * (tests/bench/mig_chan). */
#define BUF_LEN (256 * 1024)

struct buffer {
    size_t at, end; /* what is in it */
    bool eof;
    int error;
    char why[160];
    unsigned char bytes[BUF_LEN];
};

struct mig_tls {
    gnutls_session_t session;
    int fd;
    struct mig_fingerprint peer;
    bool wrong_peer, verified, done;
    /* Over every call of gnutls but the handshake's, and over `out`. */
    pthread_mutex_t lock;
    struct buffer in; /* the reading thread's */
    struct buffer out;
};

/* What gnutls calls instead of send and recv. It looks at errno; its own way of passing
 * one is shared by both directions. */
static ssize_t on_push(gnutls_transport_ptr_t ptr, const void *bytes, size_t len)
{
    struct mig_tls *tls = ptr;
    struct buffer *out = &tls->out;

    if (len > BUF_LEN - out->end) {
        errno = EAGAIN; /* the callers leave room for a record: only a handshake that is
                           longer than the buffer comes here */
        return -1;
    }
    memcpy(out->bytes + out->end, bytes, len);
    out->end += len;
    return (ssize_t)len;
}

static ssize_t on_pull(gnutls_transport_ptr_t ptr, void *bytes, size_t len)
{
    struct mig_tls *tls = ptr;
    struct buffer *in = &tls->in;
    size_t n = in->end - in->at;

    if (n == 0) {
        errno = EAGAIN;
        return in->eof ? 0 : -1;
    }
    n = n < len ? n : len;
    memcpy(bytes, in->bytes + in->at, n);
    in->at += n;
    return (ssize_t)n;
}

static int on_pull_timeout(gnutls_transport_ptr_t ptr, unsigned ms)
{
    struct mig_tls *tls = ptr;

    (void)ms;
    return tls->in.end > tls->in.at || tls->in.eof;
}

/* 0 when there is something, or the end. */
static int fill(struct mig_tls *tls)
{
    struct buffer *in = &tls->in;
    ssize_t n;

    if (in->end > in->at || in->eof) {
        return 0;
    }
    in->at = in->end = 0;
    do {
        n = read(tls->fd, in->bytes, BUF_LEN);
    } while (n < 0 && errno == EINTR);
    if (n < 0) {
        return -errno;
    }
    in->eof = n == 0;
    in->end = (size_t)n;
    return 0;
}

static int drain(struct mig_tls *tls)
{
    struct buffer *out = &tls->out;

    while (out->at < out->end) {
        ssize_t n = send(tls->fd, out->bytes + out->at, out->end - out->at, MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return -errno;
        }
        out->at += (size_t)n;
    }
    out->at = out->end = 0;
    return 0;
}

/* A code of gnutls as -errno, with words. */
static int judge(const struct mig_tls *tls, struct buffer *b, int code)
{
    switch (code) {
    case GNUTLS_E_FATAL_ALERT_RECEIVED:
        snprintf(b->why, sizeof b->why, "the peer refused: TLS alert \"%s\"",
                 gnutls_alert_get_name(gnutls_alert_get(tls->session)));
        return -ECONNRESET;
    case GNUTLS_E_PREMATURE_TERMINATION:
        snprintf(b->why, sizeof b->why, "the peer closed without the end of TLS");
        return -ECONNRESET;
    case GNUTLS_E_MEMORY_ERROR:
        snprintf(b->why, sizeof b->why, "out of memory");
        return -ENOMEM;
    default:
        snprintf(b->why, sizeof b->why, "TLS: %s", gnutls_strerror(code));
        return -EPROTO;
    }
}

/* Called in the handshake, when the peer's key is there; that it has the private half is
 * the handshake's own business. */
static int on_verify(gnutls_session_t session)
{
    struct mig_tls *tls = gnutls_session_get_ptr(session);
    struct mig_fingerprint shown;
    const gnutls_datum_t *list;
    unsigned count = 0;

    tls->wrong_peer = true;
    list = gnutls_certificate_get_peers(session, &count);
    if (gnutls_certificate_type_get2(session, GNUTLS_CTYPE_PEERS) != GNUTLS_CRT_RAWPK ||
        !list || count != 1 ||
        gnutls_hash_fast(GNUTLS_DIG_SHA256, list[0].data, list[0].size, shown.b) < 0 ||
        memcmp(&shown, &tls->peer, sizeof shown) != 0) {
        return GNUTLS_E_CERTIFICATE_ERROR;
    }
    tls->wrong_peer = false;
    tls->verified = true;
    return 0;
}

void mig_tls_set_verify(gnutls_certificate_credentials_t credentials)
{
    gnutls_certificate_set_verify_function(credentials, on_verify);
}

/* No tickets: nothing of the handshake comes after it. Raw keys have to be asked for. */
#define FLAGS (GNUTLS_NONBLOCK | GNUTLS_NO_TICKETS | GNUTLS_ENABLE_RAWPK)

static int set_up(struct mig_tls *tls, const struct mig_key *key, bool server,
                  bool chacha_first)
{
    static const char *const priority[2] = {
        PRIORITY("+AES-128-GCM:+AES-256-GCM:+CHACHA20-POLY1305"),
        PRIORITY("+CHACHA20-POLY1305:+AES-128-GCM:+AES-256-GCM")};
    gnutls_session_t s;
    int r = gnutls_init(&s, FLAGS | (server ? GNUTLS_SERVER : GNUTLS_CLIENT));

    if (r < 0) {
        return r;
    }
    tls->session = s;
    gnutls_session_set_ptr(s, tls);
    r = gnutls_priority_set_direct(s, priority[chacha_first], NULL);
    r = r < 0
            ? r
            : gnutls_credentials_set(s, GNUTLS_CRD_CERTIFICATE, mig_key_credentials(key));
    if (r < 0) {
        return r;
    }
    if (server) {
        gnutls_certificate_server_set_request(s, GNUTLS_CERT_REQUIRE);
    }
    gnutls_transport_set_ptr(s, tls);
    gnutls_transport_set_push_function(s, on_push);
    gnutls_transport_set_pull_function(s, on_pull);
    gnutls_transport_set_pull_timeout_function(s, on_pull_timeout);
    gnutls_handshake_set_timeout(s, GNUTLS_INDEFINITE_TIMEOUT); /* the caller's affair */
    return 0;
}

int mig_tls_new(int fd, const struct mig_key *key, const struct mig_fingerprint *peer,
                bool server, bool chacha_first, struct mig_tls **ret_tls)
{
    struct mig_tls *tls = malloc(sizeof *tls);
    int r;

    if (!tls) {
        return -ENOMEM;
    }
    memset(tls, 0, offsetof(struct mig_tls, in));
    memset(&tls->in, 0, offsetof(struct buffer, bytes));
    memset(&tls->out, 0, offsetof(struct buffer, bytes));
    tls->fd = fd;
    tls->peer = *peer;
    pthread_mutex_init(&tls->lock, NULL);
    r = set_up(tls, key, server, chacha_first);
    if (r < 0) {
        mig_tls_free(tls);
        return r == GNUTLS_E_MEMORY_ERROR ? -ENOMEM : -EIO;
    }
    *ret_tls = tls;
    return 0;
}

void mig_tls_free(struct mig_tls *tls)
{
    if (!tls) {
        return;
    }
    if (tls->session) {
        gnutls_deinit(tls->session);
    }
    pthread_mutex_destroy(&tls->lock);
    free(tls);
}

int mig_tls_handshake(struct mig_tls *tls, short *ret_events)
{
    int r, sent, filled = 0;

    do {
        r = tls->done ? 0 : gnutls_handshake(tls->session);
        if (r < 0 && gnutls_error_is_fatal(r)) {
            (void)gnutls_alert_send_appropriate(tls->session, r);
        }
        sent = drain(tls); /* also an alert, as far as it goes */
        if (r < 0 && gnutls_error_is_fatal(r)) {
            r = judge(tls, &tls->in, r);
            return tls->wrong_peer ? -EACCES : r;
        }
        tls->done = r == 0;
        if (sent < 0) {
            *ret_events = POLLOUT;
            return sent;
        }
        filled = tls->done ? 0 : fill(tls);
    } while (!tls->done && filled == 0);
    if (filled < 0) {
        *ret_events = POLLIN;
        return filled;
    }
    return tls->verified ? 0 : -EACCES;
}

ssize_t mig_tls_write(struct mig_tls *tls, const void *bytes, size_t len)
{
    ssize_t r;

    BUG_ON(len == 0);
    pthread_mutex_lock(&tls->lock);
    r = BUF_LEN - tls->out.end < MIG_TLS_RECORD + RECORD_EXTRA ? drain(tls) : 0;
    if (r == 0) {
        r = gnutls_record_send(tls->session, bytes,
                               len < MIG_TLS_RECORD ? len : MIG_TLS_RECORD);
        r = r < 0 ? judge(tls, &tls->out, (int)r) : r;
    }
    pthread_mutex_unlock(&tls->lock);
    return r;
}

int mig_tls_flush(struct mig_tls *tls)
{
    int r;

    pthread_mutex_lock(&tls->lock);
    r = drain(tls);
    pthread_mutex_unlock(&tls->lock);
    return r;
}

int mig_tls_end(struct mig_tls *tls)
{
    int r;

    pthread_mutex_lock(&tls->lock);
    r = drain(tls);
    if (r == 0) {
        r = gnutls_bye(tls->session, GNUTLS_SHUT_WR);
        r = r < 0 ? judge(tls, &tls->out, r) : 0;
    }
    pthread_mutex_unlock(&tls->lock);
    return r;
}

ssize_t mig_tls_read(struct mig_tls *tls, void *bytes, size_t len)
{
    ssize_t r;
    int filled;

    for (;;) {
        pthread_mutex_lock(&tls->lock);
        r = gnutls_record_recv(tls->session, bytes, len);
        if (r < 0 && gnutls_error_is_fatal((int)r)) {
            r = judge(tls, &tls->in, (int)r);
            pthread_mutex_unlock(&tls->lock);
            return r;
        }
        pthread_mutex_unlock(&tls->lock);
        if (r >= 0) {
            return r;
        }
        filled = fill(tls);
        if (filled < 0) {
            return filled;
        }
    }
}

const char *mig_tls_why_read(const struct mig_tls *tls)
{
    return tls->in.why;
}

const char *mig_tls_why_write(const struct mig_tls *tls)
{
    return tls->out.why;
}

void mig_tls_describe(const struct mig_tls *tls, char *text, size_t cap)
{
    snprintf(text, cap, "%s %s",
             gnutls_protocol_get_name(gnutls_protocol_get_version(tls->session)),
             gnutls_cipher_get_name(gnutls_cipher_get(tls->session)));
}

/* Both ends in one thread: each step of one gives the other something to do. */
static int rehearse(struct mig_tls *a, struct mig_tls *b)
{
    char bytes[64] = {0};
    short events;
    int r, s;

    for (int i = 0; i < 16; i++) {
        r = mig_tls_handshake(a, &events);
        s = mig_tls_handshake(b, &events);
        if (r == 0 && s == 0) {
            r = mig_tls_write(a, bytes, sizeof bytes) == sizeof bytes ? 0 : -EIO;
            r = r < 0 ? r : mig_tls_flush(a);
            return r < 0 || mig_tls_read(b, bytes, sizeof bytes) == sizeof bytes ? r
                                                                                 : -EIO;
        }
        if ((r < 0 && r != -EAGAIN) || (s < 0 && s != -EAGAIN)) {
            return r < 0 && r != -EAGAIN ? r : s;
        }
    }
    return -EIO;
}

int mig_tls_rehearse(const struct mig_key *key, struct vmm_error *err)
{
    struct mig_fingerprint own = mig_key_fingerprint(key);
    struct mig_tls *end[2] = {NULL, NULL};
    int fd[2], r;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fd) < 0) {
        return vmm_fail(err, -errno, "a pair of sockets: %s", strerror(errno));
    }
    r = mig_tls_new(fd[0], key, &own, false, false, &end[0]);
    r = r < 0 ? r : mig_tls_new(fd[1], key, &own, true, false, &end[1]);
    r = r < 0 ? r : rehearse(end[0], end[1]);
    if (r < 0) {
        r = vmm_fail(err, r, "TLS does not work on this host: %s%s%s", strerror(-r),
                     end[0] ? mig_tls_why_read(end[0]) : "",
                     end[1] ? mig_tls_why_read(end[1]) : "");
    }
    mig_tls_free(end[0]);
    mig_tls_free(end[1]);
    close(fd[0]);
    close(fd[1]);
    return r;
}
