/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/mig_listen.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/frame.h"
#include "base/loop.h"
#include "base/os.h"
#include "tests/unit/migrate/mig_rig.h"

#define STREAMS 5

static const struct os_tcp_opts opts = {.lost_ms = 10000};
static const unsigned kinds[] = {RIG_PLAIN, RIG_TLS};
#define KINDS (sizeof kinds / sizeof kinds[0])

static struct rig rig;
static struct mig_join_conf conf[2];
static uint16_t port;

/* A destination that listens in a thread of its own. */
static struct {
    pthread_t thread;
    int fd, r;
    struct mig_streams streams;
    struct mig_listen_counts counts;
    struct vmm_error err;
} dest;

static void *listen_thread(void *arg)
{
    (void)arg;
    dest.r = mig_listen(dest.fd, &conf[1], &dest.streams, &dest.counts, &dest.err);
    return NULL;
}

static void begin(unsigned kind, int timeout_ms)
{
    rig_prepare(&rig, kind);
    for (int i = 0; i < 2; i++) {
        conf[i] = (struct mig_join_conf){.conn = &rig.conf[i],
                                         .name = i == 0 ? "source" : "destination",
                                         .count = STREAMS,
                                         .timeout_ms = timeout_ms,
                                         .handshake_ms = 1000};
        memset(&conf[i].transfer, 7, sizeof conf[i].transfer);
    }
    conf[0].token = conf[1].token = mig_token_new();
    memset(&dest.streams, 0, sizeof dest.streams);
    ck_assert_int_eq(os_tcp_listen("127.0.0.1", 0, 0, 64, &opts, &dest.fd, &port), 0);
}

static void go(void)
{
    ck_assert_int_eq(pthread_create(&dest.thread, NULL, listen_thread, NULL), 0);
}

static void end(struct mig_streams *source)
{
    mig_streams_close(source);
    mig_streams_close(&dest.streams);
    rig_close(&rig);
}

static int dial(void)
{
    int fd;

    ck_assert_int_eq(os_tcp_connect("127.0.0.1", port, &opts, &fd), 0);
    ck_assert_int_eq(os_tcp_wait(fd, 1000), 0);
    return fd;
}

static int open_all(struct mig_streams *streams, struct vmm_error *err)
{
    int fd[MIG_OPEN_STREAMS_MAX];

    for (unsigned i = 0; i < conf[0].count; i++) {
        fd[i] = dial();
    }
    memset(streams, 0, sizeof *streams);
    return mig_open(fd, &conf[0], streams, err);
}

/* Every stream is the one it says it is. */
static void talk(struct mig_streams *source)
{
    ck_assert_uint_eq(source->count, conf[0].count);
    ck_assert_uint_eq(dest.streams.count, conf[0].count);
    for (unsigned i = 0; i < conf[0].count; i++) {
        char text[16];

        snprintf(text, sizeof text, "stream %u", i);
        rig.conn[0] = source->conn[i];
        rig.conn[1] = dest.streams.conn[i];
        rig_send(&rig, 0, RIG_SMALL, text, strlen(text));
        rig_expect(&rig, 1, RIG_SMALL, text, strlen(text));
        if (i == 0) {
            rig_send(&rig, 1, RIG_SMALL, "well", 4);
            rig_expect(&rig, 0, RIG_SMALL, "well", 4);
        }
        ck_assert_ptr_nonnull(strstr(mig_conn_name(dest.streams.conn[i]), text));
    }
    rig.conn[0] = rig.conn[1] = NULL;
}

static void join(struct mig_streams *source)
{
    struct vmm_error err = {""};
    int r = open_all(source, &err);

    pthread_join(dest.thread, NULL);
    ck_assert_msg(r == 0, "source: %d %s", r, err.text);
    ck_assert_msg(dest.r == 0, "destination: %d %s", dest.r, dest.err.text);
}

START_TEST(all_streams_come_together)
{
    struct mig_streams source;

    begin(kinds[_i], 3000);
    conf[1].count = 0; /* as the source says */
    go();
    join(&source);
    talk(&source);
    ck_assert_uint_eq(dest.counts.accepted, STREAMS);
    /* Nobody listens any more. */
    {
        int fd;

        ck_assert_int_eq(os_tcp_connect("127.0.0.1", port, &opts, &fd), 0);
        ck_assert_int_eq(os_tcp_wait(fd, 1000), -ECONNREFUSED);
        close(fd);
    }
    end(&source);
}
END_TEST

START_TEST(one_stream_is_enough)
{
    struct mig_streams source;

    begin(kinds[_i], 3000);
    conf[0].count = conf[1].count = 1;
    go();
    join(&source);
    talk(&source);
    end(&source);
}
END_TEST

/* Strangers -------------------------------------------------------------------------- */

/* An OPEN with a conn of its own: what becomes of it is for the caller. */
static struct mig_conn *stranger_open(const struct mig_conn_conf *c,
                                      struct mig_token token, uint16_t index,
                                      uint16_t count, uint32_t version)
{
    struct mig_open_msg msg = {.version_min = version,
                               .version_max = version,
                               .transfer = conf[0].transfer,
                               .token = token,
                               .index = index,
                               .count = count};
    uint8_t body[MIG_OPEN_LEN];
    struct iovec v = {body, sizeof body};
    struct mig_conn *conn;
    struct vmm_error err = {""};

    mig_open_encode(&msg, body);
    ck_assert_int_eq(mig_conn_new(dial(), c, "stranger", &conn, &err), 0);
    ck_assert_msg(mig_conn_handshake(conn, 1000, &err) == 0, "%s", err.text);
    ck_assert_int_eq(mig_conn_send(conn, MIG_TYPE_OPEN, 1, 0, &v, 1, &err), 0);
    return conn;
}

/* The destination has let go of it. */
static void is_dropped(struct mig_conn *conn)
{
    struct mig_conn_head head;
    struct vmm_error err;
    int r = mig_conn_recv_head(conn, 2000, &head, &err);

    ck_assert_msg(r == -ECONNRESET || r == -ENODATA || r == -EPIPE, "%d %s", r, err.text);
    mig_conn_free(conn);
}

/* The same, with a word why: it knew the token. */
static void is_told(struct mig_conn *conn, const char *why)
{
    static const struct mig_conn_rule rule = {MIG_TYPE_ANSWER, 1, 1, MIG_ANSWER_LEN_MIN,
                                              MIG_ANSWER_LEN_MAX};
    uint8_t body[MIG_ANSWER_LEN_MAX];
    struct iovec v = {body, 0};
    struct mig_answer_msg answer;
    struct mig_conn_head head;
    struct vmm_error err;

    mig_conn_expect(conn, &rule, 1);
    ck_assert_int_eq(mig_conn_recv_head(conn, 1000, &head, &err), 0);
    v.iov_len = head.body_len;
    ck_assert_int_eq(mig_conn_recv_body(conn, &v, 1, &err), 0);
    ck_assert(mig_answer_decode(body, head.body_len, &answer));
    ck_assert_uint_eq(answer.version, 0);
    ck_assert_str_eq(answer.text, why);
    is_dropped(conn);
}

static void is_closed(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    char buf[256];

    ck_assert_int_eq(poll(&p, 1, 2000), 1);
    while (recv(fd, buf, sizeof buf, MSG_DONTWAIT) > 0) {
        ck_assert_int_eq(poll(&p, 1, 2000), 1); /* an alert, and then the end */
    }
    close(fd);
}

START_TEST(strangers_do_not_disturb)
{
    static const uint8_t rubbish[4000] = "GET / HTTP/1.1\r\n\r\n";
    struct mig_streams source;
    struct mig_token wrong = mig_token_new();
    int silent[8], loud;

    begin(kinds[_i], 5000);
    go();
    for (int i = 0; i < 8; i++) {
        silent[i] = dial();
    }
    loud = dial();
    rig_write(loud, rubbish, sizeof rubbish);
    is_closed(loud);
    is_dropped(stranger_open(&rig.conf[0], wrong, 0, STREAMS, 1));
    is_told(stranger_open(&rig.conf[0], conf[0].token, 0, STREAMS, 99),
            "no version of the stream that both sides know");
    is_told(stranger_open(&rig.conf[0], conf[0].token, 0, STREAMS + 1, 1),
            "another number of streams than was agreed on");
    is_dropped(stranger_open(&rig.conf[0], conf[0].token, 7, STREAMS, 1));
    join(&source);
    talk(&source);
    for (int i = 0; i < 8; i++) {
        is_closed(silent[i]);
    }
    ck_assert_uint_eq(dest.counts.token, 2);
    ck_assert_uint_eq(dest.counts.rubbish + dest.counts.refused, 3);
    ck_assert_uint_eq(dest.counts.accepted, 8 + 5 + STREAMS);
    end(&source);
}
END_TEST

START_TEST(a_stranger_with_a_key_of_his_own)
{
    struct mig_conn_conf other;
    struct mig_streams source;
    struct mig_key *key;
    struct mig_conn *conn;
    struct mig_conn_head head;
    struct vmm_error err = {""};

    begin(RIG_TLS, 5000);
    go();
    ck_assert_int_eq(mig_key_new(&key, &err), 0);
    other = rig.conf[0];
    other.key = key;
    ck_assert_int_eq(mig_conn_new(dial(), &other, "stranger", &conn, &err), 0);
    (void)mig_conn_handshake(conn, 1000, &err);
    ck_assert_int_eq(mig_conn_recv_head(conn, 1000, &head, &err), -ECONNRESET);
    mig_conn_free(conn);
    join(&source);
    talk(&source);
    ck_assert_uint_eq(dest.counts.refused, 1);
    ck_assert_ptr_nonnull(strstr(dest.counts.last, "fingerprint"));
    mig_key_free(key);
    end(&source);
}
END_TEST

START_TEST(a_stream_that_is_there_is_not_replaced)
{
    struct mig_conn *first;
    struct mig_conn_head head;
    struct vmm_error err;

    begin(kinds[_i], 600);
    go();
    first = stranger_open(&rig.conf[0], conf[0].token, 3, STREAMS, 1);
    (void)poll(NULL, 0, 50); /* it is in by now */
    is_dropped(stranger_open(&rig.conf[0], conf[0].token, 3, STREAMS, 1));
    /* The first one is not touched: it is only with the deadline that it ends. */
    ck_assert_int_eq(mig_conn_recv_head(first, 100, &head, &err), -ETIMEDOUT);
    pthread_join(dest.thread, NULL);
    ck_assert_int_eq(dest.r, -ETIMEDOUT);
    ck_assert_uint_eq(dest.counts.replayed, 1);
    ck_assert_ptr_nonnull(strstr(dest.err.text, "1 of 5 streams, 2 connections"));
    mig_conn_free(first);
    rig_close(&rig);
}
END_TEST

START_TEST(a_crowd_leaves_room)
{
    struct mig_streams source;
    int fd[MIG_LISTEN_PENDING + 20];

    begin(kinds[_i], 8000);
    conf[1].handshake_ms = 5000;
    conf[0].handshake_ms = 5000;
    go();
    for (size_t i = 0; i < sizeof fd / sizeof fd[0]; i++) {
        fd[i] = dial();
    }
    join(&source);
    talk(&source);
    ck_assert_uint_ge(dest.counts.crowded, 20);
    for (size_t i = 0; i < sizeof fd / sizeof fd[0]; i++) {
        close(fd[i]);
    }
    end(&source);
}
END_TEST

/* A byte now and then is no sign of life. */
START_TEST(a_slow_one_is_dropped_in_time)
{
    static const uint8_t hello[64] = {0x16, 3, 1,
                                      2,    0, 1}; /* the start of a ClientHello */
    uint8_t head[FRAME_HEADER_LEN];
    struct frame f = {.type = MIG_TYPE_OPEN, .version = 0x8001, .seq = 1, .body_len = 48};
    const uint8_t *bytes = kinds[_i] == RIG_TLS ? hello : head;
    uint64_t start = loop_now_ns();
    struct pollfd p = {.events = POLLIN};

    frame_header(&f, MIG_CONN_MAGIC, 0, head);
    begin(kinds[_i], 1500);
    conf[1].handshake_ms = 300;
    go();
    p.fd = dial();
    for (int i = 0; i < 30 && poll(&p, 1, 50) == 0; i++) {
        rig_write(p.fd, bytes + i, 1);
    }
    ck_assert_double_ge(rig_ms_since(start), 290);
    ck_assert_double_le(rig_ms_since(start), 1200);
    mig_stop_raise(&rig.stop[1]);
    pthread_join(dest.thread, NULL);
    ck_assert_int_eq(dest.r, -ECANCELED);
    ck_assert_uint_eq(dest.counts.silent, 1);
    close(p.fd);
    rig_close(&rig);
}
END_TEST

/* When it does not come about -------------------------------------------------------- */

START_TEST(the_source_learns_that_it_is_refused)
{
    struct mig_streams source;
    struct vmm_error err;
    uint64_t start;

    begin(kinds[_i], 5000);
    conf[0].token = mig_token_new();
    go();
    start = loop_now_ns();
    ck_assert_int_lt(open_all(&source, &err), 0);
    ck_assert_double_le(rig_ms_since(start), 2000);
    ck_assert_ptr_nonnull(strstr(err.text, "the destination does not take it"));
    mig_stop_raise(&rig.stop[1]);
    pthread_join(dest.thread, NULL);
    ck_assert_int_eq(dest.r, -ECANCELED);
    ck_assert_uint_ge(dest.counts.token, 1);
    rig_close(&rig);
}
END_TEST

START_TEST(a_source_that_dies_half_way_is_noticed)
{
    struct mig_conn *conn;
    uint64_t start;

    begin(kinds[_i], 5000);
    go();
    conn = stranger_open(&rig.conf[0], conf[0].token, 0, STREAMS, 1);
    (void)poll(NULL, 0, 50);
    start = loop_now_ns();
    mig_conn_free(conn);
    pthread_join(dest.thread, NULL);
    ck_assert_double_le(rig_ms_since(start), 1000);
    ck_assert_int_eq(dest.r, -ECONNRESET);
    ck_assert_str_eq(dest.err.text, "destination: stream 0 (control): the source closed "
                                    "before all streams were there");
    rig_close(&rig);
}
END_TEST

START_TEST(a_destination_that_never_answers)
{
    struct mig_streams source;
    struct vmm_error err;

    begin(RIG_PLAIN, 200);
    ck_assert_int_eq(open_all(&source, &err), -ETIMEDOUT); /* nobody accepts */
    ck_assert_str_eq(err.text,
                     "source: the destination did not answer within 200 ms: not "
                     "all streams came to it");
    close(dest.fd);
    rig_close(&rig);
}
END_TEST

static void *abort_soon(void *arg)
{
    (void)poll(NULL, 0, 50);
    mig_stop_raise(arg);
    return NULL;
}

START_TEST(an_abort_ends_the_waiting_of_both)
{
    struct mig_streams source;
    struct vmm_error err;
    pthread_t thread;
    uint64_t start = loop_now_ns();

    begin(kinds[_i], 5000);
    pthread_create(&thread, NULL, abort_soon, &rig.stop[0]);
    ck_assert_int_eq(open_all(&source, &err), -ECANCELED);
    pthread_join(thread, NULL);
    conf[1].token = mig_token_new(); /* what the source has sent is not for this one */
    go();
    mig_stop_raise(&rig.stop[1]);
    pthread_join(dest.thread, NULL);
    ck_assert_int_eq(dest.r, -ECANCELED);
    ck_assert_double_le(rig_ms_since(start), 2000);
    rig_close(&rig);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("mig_listen");
    TCase *t = tcase_create("all");

    tcase_add_loop_test(t, all_streams_come_together, 0, KINDS);
    tcase_add_loop_test(t, one_stream_is_enough, 0, KINDS);
    tcase_add_loop_test(t, strangers_do_not_disturb, 0, KINDS);
    tcase_add_test(t, a_stranger_with_a_key_of_his_own);
    tcase_add_loop_test(t, a_stream_that_is_there_is_not_replaced, 0, KINDS);
    tcase_add_loop_test(t, a_crowd_leaves_room, 0, KINDS);
    tcase_add_loop_test(t, a_slow_one_is_dropped_in_time, 0, KINDS);
    tcase_add_loop_test(t, the_source_learns_that_it_is_refused, 0, KINDS);
    tcase_add_loop_test(t, a_source_that_dies_half_way_is_noticed, 0, KINDS);
    tcase_add_test(t, a_destination_that_never_answers);
    tcase_add_loop_test(t, an_abort_ends_the_waiting_of_both, 0, KINDS);
    tcase_set_timeout(t, 20);
    suite_add_tcase(s, t);
    return s;
}

UNIT_MAIN(suite)
