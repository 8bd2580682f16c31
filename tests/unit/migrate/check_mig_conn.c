/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/mig_conn.h"

#include <errno.h>
#include <gnutls/gnutls.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/frame.h"
#include "base/loop.h"
#include "migrate/mig_tls.h"
#include "tests/unit/migrate/mig_rig.h"

static const unsigned kinds[] = {RIG_PLAIN,         RIG_CRC,
                                 RIG_TLS,           RIG_PLAIN | RIG_TCP,
                                 RIG_CRC | RIG_TCP, RIG_TLS | RIG_TCP};
#define KINDS (sizeof kinds / sizeof kinds[0])
#define PAGE  4096

static struct rig rig;

static void fill(uint8_t *bytes, size_t len, uint64_t x)
{
    x = x * 2 + 1;
    for (size_t i = 0; i < len; i++) {
        x = x * UINT64_C(6364136223846793005) + 1442695040888963407;
        bytes[i] = (uint8_t)(x >> 56);
    }
}

/* Both ends send and receive at once ------------------------------------------------- */

#define ROUNDS 12

/* Lengths with all that is odd: nothing, less than a record, a bit more, two MiB. */
static const size_t lengths[ROUNDS] = {
    0, 1, 31, 4096, 16383, 16384, 16385, 1 << 20, 65537, PAGE * 512 + 5, 12, 3 << 20};

struct side {
    struct rig *rig;
    int end;
    bool failed;
    atomic_bool done;
};
#define SIDE(i)                                                                          \
    {                                                                                    \
        .rig = &rig, .end = (i)                                                          \
    }

/* The same cuts on no side: pages here, primes there. */
static size_t cut(uint8_t *bytes, size_t len, size_t piece, struct iovec *iov)
{
    size_t n = 0;

    for (size_t at = 0; at < len; at += piece) {
        iov[n++] = (struct iovec){bytes + at, len - at < piece ? len - at : piece};
    }
    return n;
}

static void *send_all(void *arg)
{
    struct side *s = arg;
    uint8_t *bytes = malloc(MIG_CONN_BODY_MAX);
    struct iovec iov[MIG_CONN_IOV_MAX];
    struct vmm_error err;

    for (unsigned i = 0; i < ROUNDS && !s->failed; i++) {
        size_t n = cut(bytes, lengths[i], i % 2 ? PAGE : 4099, iov);

        fill(bytes, lengths[i], i + 100u * (unsigned)s->end);
        s->failed = mig_conn_send(s->rig->conn[s->end], RIG_BIG, 1,
                                  i % 3 == 0 ? MIG_SEND_LIVE : 0, iov, n, &err) != 0;
    }
    free(bytes);
    s->done = true;
    return NULL;
}

/* In two helpings where it can be. */
static bool recv_one(struct side *s, unsigned i, uint8_t *got, const uint8_t *want)
{
    struct mig_conn *conn = s->rig->conn[s->end];
    struct iovec iov[MIG_CONN_IOV_MAX];
    size_t len = lengths[i], first = len / 3, n;
    struct mig_conn_head head;
    struct vmm_error err;

    if (mig_conn_recv_head(conn, 3000, &head, &err) != 0 || head.type != RIG_BIG ||
        head.version != 1 || head.body_len != len) {
        return false;
    }
    n = cut(got, first, 8191, iov);
    if (mig_conn_recv_body(conn, iov, n, &err) != 0 ||
        mig_conn_recv_left(conn) != len - first) {
        return false;
    }
    n = cut(got + first, len - first, 12289, iov);
    return mig_conn_recv_body(conn, iov, n, &err) == 0 && mig_conn_recv_left(conn) == 0 &&
           memcmp(got, want, len) == 0;
}

static void *recv_all(void *arg)
{
    struct side *s = arg;
    uint8_t *got = malloc(MIG_CONN_BODY_MAX), *want = malloc(MIG_CONN_BODY_MAX);

    for (unsigned i = 0; i < ROUNDS && !s->failed; i++) {
        fill(want, lengths[i], i + 100u * (unsigned)!s->end);
        s->failed = !recv_one(s, i, got, want);
    }
    free(got);
    free(want);
    s->done = true;
    return NULL;
}

START_TEST(both_ends_send_and_receive_at_once)
{
    struct side side[4] = {SIDE(0), SIDE(1), SIDE(0), SIDE(1)};
    struct mig_conn_bytes a, b;
    uint64_t total = ROUNDS * FRAME_HEADER_LEN;
    pthread_t thread[4];

    rig_open(&rig, kinds[_i]);
    for (int i = 0; i < 4; i++) {
        pthread_create(&thread[i], NULL, i < 2 ? send_all : recv_all, &side[i]);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(thread[i], NULL);
        ck_assert(!side[i].failed);
    }
    for (unsigned i = 0; i < ROUNDS; i++) {
        total += lengths[i];
    }
    a = mig_conn_bytes(rig.conn[0]);
    b = mig_conn_bytes(rig.conn[1]);
    ck_assert_uint_eq(a.sent, total);
    ck_assert_uint_eq(b.received, total);
    ck_assert_uint_eq(b.sent, total);
    ck_assert_uint_eq(a.received, total);
    ck_assert_str_eq(mig_conn_security(rig.conn[0]),
                     (kinds[_i] & 7) == RIG_TLS ? "TLS1.3 AES-128-GCM" : "plain");
    rig_close(&rig);
}
END_TEST

/* Interrupted all the time ----------------------------------------------------------- */

static atomic_bool stop;

static void on_signal(int signo)
{
    (void)signo;
}

static void *annoy(void *arg)
{
    pthread_t *victim = arg;
    struct timespec pause = {0, 100000};

    while (!stop) {
        pthread_kill(*victim, SIGUSR1);
        nanosleep(&pause, NULL);
    }
    return NULL;
}

START_TEST(signals_do_not_break_it)
{
    struct sigaction sa = {.sa_handler = on_signal}; /* no SA_RESTART */
    struct side side[2] = {SIDE(0), SIDE(1)};
    pthread_t thread[2], pest[2];

    sigaction(SIGUSR1, &sa, NULL);
    rig_open(&rig, kinds[_i]);
    stop = false;
    pthread_create(&thread[0], NULL, send_all, &side[0]);
    pthread_create(&thread[1], NULL, recv_all, &side[1]);
    for (int i = 0; i < 2; i++) {
        pthread_create(&pest[i], NULL, annoy, &thread[i]);
    }
    while (!side[0].done || !side[1].done) {
        (void)poll(NULL, 0, 1);
    }
    stop = true;
    for (int i = 0; i < 2; i++) {
        pthread_join(pest[i], NULL);
    }
    for (int i = 0; i < 2; i++) {
        pthread_join(thread[i], NULL);
        ck_assert(!side[i].failed);
    }
    rig_close(&rig);
}
END_TEST

/* Memory that changes while it is sent ----------------------------------------------- */

#define LIVE_LEN    (1 << 20)
#define LIVE_FRAMES 30

#ifndef __SANITIZE_THREAD__
static void *scribble(void *arg)
{
    volatile uint64_t *memory = arg;

    for (uint64_t i = 0; !stop; i++) {
        memory[i * 8 % (LIVE_LEN / 8)] = i;
    }
    return NULL;
}

static void *recv_live(void *arg)
{
    struct side *s = arg;
    uint8_t *got = malloc(LIVE_LEN);
    struct iovec v = {got, LIVE_LEN};
    struct mig_conn_head head;
    struct vmm_error err;

    for (int i = 0; i < LIVE_FRAMES && !s->failed; i++) {
        s->failed = mig_conn_recv_head(s->rig->conn[s->end], 2000, &head, &err) != 0 ||
                    mig_conn_recv_body(s->rig->conn[s->end], &v, 1, &err) != 0;
    }
    free(got);
    return NULL;
}

START_TEST(a_checksum_agrees_with_bytes_that_change)
{
    uint8_t *memory = calloc(1, LIVE_LEN);
    struct iovec v = {memory, LIVE_LEN};
    struct side side = SIDE(1);
    pthread_t writer, receiver;
    struct vmm_error err;

    rig_open(&rig, kinds[_i]);
    stop = false;
    pthread_create(&writer, NULL, scribble, memory);
    pthread_create(&receiver, NULL, recv_live, &side);
    for (int i = 0; i < LIVE_FRAMES; i++) {
        /* Every other one has none: then they need not agree. */
        (void)mig_conn_send(rig.conn[0], RIG_BIG, 1,
                            i % 2 ? MIG_SEND_LIVE : MIG_SEND_BARE, &v, 1, &err);
    }
    pthread_join(receiver, NULL);
    ck_assert(!side.failed);
    stop = true;
    pthread_join(writer, NULL);
    free(memory);
    rig_close(&rig);
}
END_TEST
#endif

/* What is no frame ------------------------------------------------------------------- */

/* The bytes of one frame as a plain conn sends it. */
static size_t frame_bytes(unsigned kind, uint16_t type, const void *body, size_t len,
                          uint8_t *bytes, size_t cap)
{
    size_t got = 0;
    ssize_t n;

    rig_open(&rig, kind);
    rig_send(&rig, 0, type, body, len);
    while ((n = recv(rig.fd[1], bytes + got, cap - got, MSG_DONTWAIT)) > 0) {
        got += (size_t)n;
    }
    rig_close(&rig);
    return got;
}

/* What a receiver says of these bytes and the end of the stream after them. */
static int verdict(const uint8_t *bytes, size_t len, struct vmm_error *err)
{
    uint8_t body[64];
    struct iovec v = {body, 0};
    struct mig_conn_head head;
    int r;

    rig_open(&rig, RIG_PLAIN);
    rig_write(rig.fd[0], bytes, len);
    shutdown(rig.fd[0], SHUT_WR);
    r = mig_conn_recv_head(rig.conn[1], 1000, &head, err);
    if (r == 0) {
        v.iov_len = head.body_len;
        r = mig_conn_recv_body(rig.conn[1], &v, 1, err);
    }
    rig_close(&rig);
    return r;
}

START_TEST(cut_at_every_byte)
{
    uint8_t bytes[128], body[24];
    struct vmm_error err;
    size_t len;

    fill(body, sizeof body, 7);
    len = frame_bytes(RIG_CRC, RIG_SMALL, body, sizeof body, bytes, sizeof bytes);
    ck_assert_uint_eq(len, FRAME_HEADER_LEN + sizeof body);
    for (size_t i = 0; i <= len; i++) {
        int want = i == 0 ? -ENODATA : i < len ? -ECONNRESET : 0;

        ck_assert_int_eq(verdict(bytes, i, &err), want);
        if (i > 0 && i < len) {
            ck_assert_str_eq(err.text,
                             "destination: the peer closed in the middle of a frame");
        }
    }
}
END_TEST

START_TEST(no_flipped_bit_gets_through)
{
    uint8_t bytes[128], body[24];
    struct vmm_error err;
    size_t len;

    fill(body, sizeof body, 8);
    len = frame_bytes(RIG_CRC, RIG_SMALL, body, sizeof body, bytes, sizeof bytes);
    for (size_t i = 0; i < len * 8; i++) {
        bytes[i / 8] ^= (uint8_t)(1u << i % 8);
        ck_assert_int_eq(verdict(bytes, len, &err), -EPROTO);
        bytes[i / 8] ^= (uint8_t)(1u << i % 8);
    }
    ck_assert_int_eq(verdict(bytes, len, &err), 0);
}
END_TEST

START_TEST(tls_that_is_tampered_with_ends)
{
    uint8_t body[64] = {0}, byte;
    struct mig_conn_head head;
    struct vmm_error err;
    int r;

    int wire[2];

    rig_open(&rig, RIG_TLS);
    rig_send(&rig, 0, RIG_SMALL, body, sizeof body);
    /* What the socket holds goes on by another one, with a bit changed. */
    rig_sockets(RIG_PLAIN, wire);
    for (int i = 0; (r = (int)recv(rig.fd[1], &byte, 1, MSG_DONTWAIT)) == 1; i++) {
        byte ^= i == 40;
        rig_write(wire[0], &byte, 1);
    }
    ck_assert_int_eq(dup2(wire[1], rig.fd[1]), rig.fd[1]);
    ck_assert_int_eq(mig_conn_recv_head(rig.conn[1], 1000, &head, &err), -EPROTO);
    close(wire[0]);
    close(wire[1]);
    rig_close(&rig);
}
END_TEST

/* As `verdict`, of a frame made by hand. */
static int verdict_of(uint16_t type, uint16_t version, uint64_t seq, uint32_t body_len,
                      uint32_t crc, struct vmm_error *err)
{
    uint8_t bytes[FRAME_HEADER_LEN + 128] = {0};
    struct frame f = {.type = type, .version = version, .seq = seq, .body_len = body_len};

    frame_header(&f, MIG_CONN_MAGIC, crc, bytes);
    return verdict(bytes, FRAME_HEADER_LEN + (body_len <= 64 ? body_len : 0), err);
}

START_TEST(rules_say_what_may_come)
{
    struct vmm_error err;

    ck_assert_int_eq(verdict_of(RIG_SMALL, 0x8001, 1, 64, 0, &err), 0);
    ck_assert_int_eq(verdict_of(RIG_SMALL, 0x8001, 1, 65, 0, &err), -EPROTO);
    ck_assert_str_eq(err.text, "destination: a frame of type 16 has 65 bytes: 0 to 64 "
                               "are allowed");
    ck_assert_int_eq(verdict_of(RIG_SMALL, 0x8002, 1, 4, 0, &err), -EPROTO);
    ck_assert_str_eq(err.text, "destination: a frame of type 16 has version 2: this side "
                               "knows 1 to 1");
    ck_assert_int_eq(verdict_of(99, 0x8001, 1, 4, 0, &err), -EPROTO);
    ck_assert_str_eq(err.text, "destination: a frame of type 99 may not come here");
    ck_assert_int_eq(verdict_of(RIG_PART, 0x8003, 1, 40, 0, &err), 0);
    ck_assert_int_eq(verdict_of(RIG_PART, 0x8003, 1, 39, 0, &err), -EPROTO);
    ck_assert_int_eq(verdict_of(RIG_PART, 0x8004, 1, 40, 0, &err), -EPROTO);
    /* A replayed or missing frame; version 0; a checksum and the word that there is none.
     */
    ck_assert_int_eq(verdict_of(RIG_SMALL, 0x8001, 2, 4, 0, &err), -EPROTO);
    ck_assert_int_eq(verdict_of(RIG_SMALL, 0x8001, 0, 4, 0, &err), -EPROTO);
    ck_assert_int_eq(verdict_of(RIG_SMALL, 0x8000, 1, 4, 0, &err), -EPROTO);
    ck_assert_int_eq(verdict_of(RIG_SMALL, 0x8001, 1, 4, 5, &err), -EPROTO);
    ck_assert_int_eq(verdict_of(RIG_BIG, 0x8001, 1, MIG_CONN_BODY_MAX + 1, 0, &err),
                     -EPROTO);
    ck_assert_int_eq(
        verdict_of(RIG_OPTIONAL, 0x8001, 1, MIG_CONN_OPTIONAL_MAX + 1, 0, &err), -EPROTO);
}
END_TEST

START_TEST(an_unknown_optional_frame_is_skipped)
{
    static uint8_t body[60000];
    struct mig_conn_head head;
    struct vmm_error err;

    rig_open(&rig, kinds[_i]);
    rig_send(&rig, 0, RIG_OPTIONAL, body, sizeof body);
    rig_send(&rig, 0, RIG_SMALL, "after", 5);
    ck_assert_int_eq(mig_conn_recv_head(rig.conn[1], 1000, &head, &err), 0);
    ck_assert_uint_eq(head.type, RIG_OPTIONAL);
    ck_assert_int_eq(mig_conn_recv_skip(rig.conn[1], &err), 0);
    rig_expect(&rig, 1, RIG_SMALL, "after", 5);
    rig_send(&rig, 0, RIG_OPTIONAL, body, sizeof body);
    rig_send(&rig, 0, RIG_OPTIONAL, body, 0);
    rig_send(&rig, 0, RIG_SMALL, "known", 5);
    ck_assert_int_eq(mig_conn_recv_known(rig.conn[1], &head, &err), 0);
    ck_assert_uint_eq(head.type, RIG_SMALL);
    ck_assert_uint_eq(head.body_len, 5);
    ck_assert_int_eq(mig_conn_recv_skip(rig.conn[1], &err), 0);
    rig_send(&rig, 0, RIG_OPTIONAL, body, sizeof body);
    ck_assert_int_eq(mig_conn_send_end(rig.conn[0], &err), 0);
    ck_assert_int_eq(mig_conn_recv_known(rig.conn[1], &head, &err), -ENODATA);
    rig_close(&rig);
}
END_TEST

/* Who the peer is -------------------------------------------------------------------- */

START_TEST(another_key_is_refused)
{
    struct vmm_error err[2] = {{""}, {""}};
    uint8_t byte = 0;
    struct iovec v = {&byte, 1};
    int result[2];

    rig_prepare(&rig, RIG_TLS);
    rig.conf[_i].peer.b[31] ^= 1;
    rig_connect(&rig, RIG_TLS);
    rig_shake(&rig, result, err);
    ck_assert_int_eq(result[_i], -EACCES);
    ck_assert_ptr_nonnull(strstr(err[_i].text, "not the one whose fingerprint"));
    if (_i == 0) {
        ck_assert_int_eq(result[1], -ECONNRESET);
        ck_assert_ptr_nonnull(strstr(err[1].text, "alert"));
    } else {
        /* The source is through before the destination has seen its key: it is told by an
         * alert, in place of the first frame. */
        struct mig_conn_head head;

        ck_assert_int_eq(result[0], 0);
        (void)mig_conn_send(rig.conn[0], RIG_SMALL, 1, 0, &v, 1, &err[0]);
        ck_assert_int_eq(mig_conn_recv_head(rig.conn[0], 1000, &head, &err[0]),
                         -ECONNRESET);
        ck_assert_ptr_nonnull(strstr(err[0].text, "alert"));
    }
    rig_close(&rig);
}
END_TEST

static int accept_any(gnutls_session_t session)
{
    (void)session;
    return 0;
}

/* A client of gnutls itself, with the source's key or none: what the destination says. */
static int meet(const char *priority, bool with_key, struct vmm_error *err)
{
    gnutls_certificate_credentials_t none, own;
    int fd, r = -EAGAIN, k = GNUTLS_E_AGAIN;
    gnutls_session_t s;
    short events;

    rig_prepare(&rig, RIG_TLS);
    rig_connect(&rig, RIG_TLS);
    own = mig_key_credentials(rig.key[0]);
    gnutls_certificate_set_verify_function(own, accept_any);
    ck_assert_int_eq(gnutls_certificate_allocate_credentials(&none), 0);
    fd = dup(rig.fd[0]);
    ck_assert_int_eq(
        gnutls_init(&s, GNUTLS_CLIENT | GNUTLS_NONBLOCK | GNUTLS_ENABLE_RAWPK), 0);
    ck_assert_int_eq(gnutls_priority_set_direct(s, priority, NULL), 0);
    ck_assert_int_eq(
        gnutls_credentials_set(s, GNUTLS_CRD_CERTIFICATE, with_key ? own : none), 0);
    gnutls_transport_set_int(s, fd);
    for (int i = 0; i < 20 && r == -EAGAIN; i++) {
        if (k < 0 && !gnutls_error_is_fatal(k)) {
            k = gnutls_handshake(s);
        }
        r = mig_conn_step_handshake(rig.conn[1], &events, err);
    }
    gnutls_deinit(s);
    gnutls_certificate_free_credentials(none);
    close(fd);
    rig_close(&rig);
    return r;
}

#define RAW ":-CTYPE-ALL:+CTYPE-CLI-RAWPK:+CTYPE-SRV-RAWPK"

START_TEST(only_tls_1_3_with_the_key)
{
    struct vmm_error err = {""};
    int r = meet("NORMAL:-VERS-ALL:+VERS-TLS1.3" RAW, true, &err);

    ck_assert_msg(r == 0, "TLS 1.3 with the key: %d %s", r, err.text);
    r = meet("NORMAL:-VERS-ALL:+VERS-TLS1.2" RAW, true, &err);
    ck_assert_msg(r == -EPROTO, "TLS 1.2: %d %s", r, err.text);
    ck_assert_ptr_nonnull(strstr(err.text, "no TLS"));
    r = meet("NORMAL:-VERS-ALL:+VERS-TLS1.3" RAW, false, &err);
    ck_assert_msg(r == -EPROTO || r == -EACCES, "no key: %d %s", r, err.text);
    r = meet("NORMAL:-VERS-ALL:+VERS-TLS1.3", false, &err); /* X.509 */
    ck_assert_msg(r == -EPROTO || r == -EACCES, "X.509: %d %s", r, err.text);
}
END_TEST

START_TEST(plain_and_tls_do_not_mix)
{
    struct vmm_error err[2];
    uint8_t body[40] = {0};
    int result[2];

    rig_prepare(&rig, RIG_TLS);
    rig.conf[_i].key = NULL; /* speaks plainly */
    rig_connect(&rig, RIG_TLS);
    rig_send(&rig, _i, RIG_SMALL, body, sizeof body);
    rig_shake(&rig, result, err);
    ck_assert_int_eq(result[!_i], -EPROTO);
    rig_close(&rig);
}
END_TEST

/* Ends, silence, abort --------------------------------------------------------------- */

START_TEST(an_end_is_said)
{
    struct mig_conn_head head;
    struct vmm_error err;

    rig_open(&rig, kinds[_i]);
    rig_send(&rig, 0, RIG_SMALL, "last", 4);
    ck_assert_int_eq(mig_conn_send_end(rig.conn[0], &err), 0);
    rig_expect(&rig, 1, RIG_SMALL, "last", 4);
    ck_assert_int_eq(mig_conn_recv_head(rig.conn[1], 1000, &head, &err), -ENODATA);
    /* The other direction still works. */
    rig_send(&rig, 1, RIG_SMALL, "bye", 3);
    rig_expect(&rig, 0, RIG_SMALL, "bye", 3);
    rig_close(&rig);
}
END_TEST

START_TEST(an_end_that_was_not_said_is_an_error_in_tls)
{
    struct mig_conn_head head;
    struct vmm_error err;

    rig_open(&rig, kinds[_i]);
    shutdown(rig.fd[0], SHUT_WR); /* what somebody on the wire could do */
    ck_assert_int_eq(mig_conn_recv_head(rig.conn[1], 1000, &head, &err),
                     (kinds[_i] & 7) == RIG_TLS ? -ECONNRESET : -ENODATA);
    rig_close(&rig);
}
END_TEST

START_TEST(a_peer_that_is_gone_is_no_signal)
{
    static uint8_t body[100000];
    struct iovec v = {body, sizeof body};
    struct vmm_error err;
    int r = 0;

    signal(SIGPIPE, SIG_DFL);
    rig_open(&rig, kinds[_i]);
    mig_conn_free(rig.conn[1]);
    rig.conn[1] = NULL;
    for (int i = 0; i < 100 && r == 0; i++) {
        r = mig_conn_send(rig.conn[0], RIG_BIG, 1, 0, &v, 1, &err);
    }
    ck_assert_msg(r == -EPIPE || r == -ECONNRESET, "%d", r);
    ck_assert_ptr_nonnull(strstr(err.text, "source: sending: "));
    rig_close(&rig);
}
END_TEST

START_TEST(a_peer_that_stops_reading_is_given_up)
{
    static uint8_t body[4 << 20];
    struct iovec v = {body, sizeof body};
    struct vmm_error err;
    uint64_t start;
    int r = 0;

    rig_prepare(&rig, kinds[_i]);
    rig.conf[0].silence_ms = 100;
    rig_connect(&rig, kinds[_i]);
    if ((kinds[_i] & 7) == RIG_TLS) {
        int result[2];
        struct vmm_error errs[2];

        rig_shake(&rig, result, errs);
    }
    do {
        start = loop_now_ns();
        r = mig_conn_send(rig.conn[0], RIG_BIG, 1, 0, &v, 1, &err);
    } while (r == 0);
    ck_assert_int_eq(r, -ETIMEDOUT);
    ck_assert_double_ge(rig_ms_since(start), 99);
    ck_assert_double_le(rig_ms_since(start), 1500);
    ck_assert_str_eq(err.text, "source: sending: nothing moved in the time given");
    rig_close(&rig);
}
END_TEST

START_TEST(a_silent_peer_is_given_up)
{
    static const uint8_t some[3] = {'G', 'M', 'M'};
    struct mig_conn_head head;
    struct vmm_error err;
    uint64_t start = loop_now_ns();

    rig_open(&rig, kinds[_i]);
    ck_assert_int_eq(mig_conn_recv_head(rig.conn[1], 50, &head, &err), -ETIMEDOUT);
    ck_assert_double_ge(rig_ms_since(start), 49);
    ck_assert_str_eq(err.text,
                     "destination: waiting for a frame: nothing moved in the time given");
    /* It may still come; and once it has begun, it has to go on. */
    rig_send(&rig, 0, RIG_SMALL, "late", 4);
    rig_expect(&rig, 1, RIG_SMALL, "late", 4);
    if ((kinds[_i] & 7) != RIG_TLS) {
        rig.conf[1].silence_ms = 50;
        rig_write(rig.fd[0], some, sizeof some);
        ck_assert_int_eq(mig_conn_recv_head(rig.conn[1], -1, &head, &err), -ETIMEDOUT);
    }
    rig_close(&rig);
}
END_TEST

START_TEST(a_handshake_has_its_time)
{
    struct vmm_error err;
    uint64_t start;

    rig_prepare(&rig, RIG_TLS);
    rig_connect(&rig, RIG_TLS);
    start = loop_now_ns();
    ck_assert_int_eq(mig_conn_handshake(rig.conn[_i], 50, &err), -ETIMEDOUT);
    ck_assert_double_le(rig_ms_since(start), 1000);
    rig_close(&rig);
}
END_TEST

static void *send_for_ever(void *arg)
{
    static uint8_t body[1 << 20];
    struct iovec v = {body, sizeof body};
    struct vmm_error err;
    static int r;

    (void)arg;
    do {
        r = mig_conn_send(rig.conn[0], RIG_BIG, 1, 0, &v, 1, &err);
    } while (r == 0);
    return &r;
}

static void *recv_for_ever(void *arg)
{
    struct mig_conn_head head;
    struct vmm_error err;
    static int r;

    (void)arg;
    r = mig_conn_recv_head(rig.conn[0], -1, &head, &err);
    return &r;
}

START_TEST(an_abort_wakes_everybody)
{
    pthread_t thread[2];
    uint64_t start;
    void *r;

    rig_open(&rig, kinds[_i]);
    pthread_create(&thread[0], NULL, send_for_ever, NULL);
    pthread_create(&thread[1], NULL, recv_for_ever, NULL);
    (void)poll(NULL, 0, 30); /* both wait by now, as a rule */
    start = loop_now_ns();
    mig_conn_abort(rig.conn[0]);
    for (int i = 0; i < 2; i++) {
        pthread_join(thread[i], &r);
        ck_assert_int_eq(*(int *)r, -ECANCELED);
    }
    ck_assert_double_le(rig_ms_since(start), 500);
    /* For good. */
    r = send_for_ever(NULL);
    ck_assert_int_eq(*(int *)r, -ECANCELED);
    rig_close(&rig);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("mig_conn");
    TCase *t = tcase_create("frames");

    tcase_add_loop_test(t, both_ends_send_and_receive_at_once, 0, KINDS);
    tcase_add_loop_test(t, signals_do_not_break_it, 0, KINDS);
#ifndef __SANITIZE_THREAD__ /* a race it is, and has to be */
    tcase_add_loop_test(t, a_checksum_agrees_with_bytes_that_change, 0, KINDS);
#endif
    tcase_add_test(t, cut_at_every_byte);
    tcase_add_test(t, no_flipped_bit_gets_through);
    tcase_add_test(t, tls_that_is_tampered_with_ends);
    tcase_add_test(t, rules_say_what_may_come);
    tcase_add_loop_test(t, an_unknown_optional_frame_is_skipped, 0, KINDS);
    tcase_set_timeout(t, 30);
    suite_add_tcase(s, t);

    t = tcase_create("peer");
    tcase_add_loop_test(t, another_key_is_refused, 0, 2);
    tcase_add_test(t, only_tls_1_3_with_the_key);
    tcase_add_loop_test(t, plain_and_tls_do_not_mix, 0, 2);
    suite_add_tcase(s, t);

    t = tcase_create("time");
    tcase_add_loop_test(t, an_end_is_said, 0, KINDS);
    tcase_add_loop_test(t, an_end_that_was_not_said_is_an_error_in_tls, 0, KINDS);
    tcase_add_loop_test(t, a_peer_that_is_gone_is_no_signal, 0, KINDS);
    tcase_add_loop_test(t, a_peer_that_stops_reading_is_given_up, 0, KINDS);
    tcase_add_loop_test(t, a_silent_peer_is_given_up, 0, KINDS);
    tcase_add_loop_test(t, a_handshake_has_its_time, 0, 2);
    tcase_add_loop_test(t, an_abort_wakes_everybody, 0, KINDS);
    tcase_set_timeout(t, 20);
    suite_add_tcase(s, t);
    return s;
}

UNIT_MAIN(suite)
