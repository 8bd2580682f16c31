/* SPDX-License-Identifier: Apache-2.0 */
/* The source's part of migrate/mig_listen.h. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/bug.h"
#include "base/loop.h"
#include "migrate/mig_conn_priv.h"
#include "migrate/mig_listen.h"

static const struct mig_conn_rule answer_rule[1] = {
    {MIG_TYPE_ANSWER, 1, 1, MIG_ANSWER_LEN_MIN, MIG_ANSWER_LEN_MAX}};

struct opening {
    const struct mig_join_conf *conf;
    struct mig_streams streams;
    uint64_t until_ns;
    uint8_t body[MIG_OPEN_STREAMS_MAX][MIG_ANSWER_LEN_MAX];
};

static int left_ms(const struct opening *o)
{
    uint64_t now = loop_now_ns();

    return now >= o->until_ns ? 0 : (int)((o->until_ns - now) / NSEC_PER_MSEC) + 1;
}

static int open_one(struct opening *o, unsigned index, struct vmm_error *err)
{
    struct mig_open_msg msg = {.version_min = MIG_STREAM_VERSION_MIN,
                               .version_max = MIG_STREAM_VERSION,
                               .transfer = o->conf->transfer,
                               .token = o->conf->token,
                               .index = (uint16_t)index,
                               .count = (uint16_t)o->conf->count};
    struct mig_conn *conn = o->streams.conn[index];
    uint8_t body[MIG_OPEN_LEN];
    struct iovec v = {body, sizeof body};
    int most = o->conf->handshake_ms > 0 ? o->conf->handshake_ms : MIG_CONN_HANDSHAKE_MS;
    int ms = left_ms(o), r;

    mig_conn_expect(conn, answer_rule, 1);
    r = mig_conn_handshake(conn, ms < most ? ms : most, err);
    if (r < 0) {
        return r;
    }
    mig_open_encode(&msg, body);
    return mig_conn_send(conn, MIG_TYPE_OPEN, 1, 0, &v, 1, err);
}

/* Whatever comes on one of them: 0 is "not whole yet" without `answered`. */
static int take(struct opening *o, unsigned index, bool *answered, struct vmm_error *err)
{
    struct mig_conn *conn = o->streams.conn[index];
    struct mig_answer_msg msg;
    struct mig_conn_head head;
    struct vmm_error why;
    int r = mig_conn_step_frame(conn, &head, o->body[index], sizeof o->body[index], &why);

    if (r == -EAGAIN) {
        return 0;
    }
    if (r < 0) {
        return vmm_fail(err, r,
                        "%.200s; the destination does not take it: it waits for another "
                        "transfer, or its log says why",
                        why.text);
    }
    if (!mig_answer_decode(o->body[index], head.body_len, &msg) ||
        (msg.version != 0 && (index != 0 || msg.version < MIG_STREAM_VERSION_MIN ||
                              msg.version > MIG_STREAM_VERSION))) {
        return vmm_fail(err, -EPROTO, "%s: an answer that says nothing sensible",
                        mig_conn_name(conn));
    }
    if (msg.version == 0) {
        return vmm_fail(err, -EPROTO, "%s: the destination refused: %s",
                        mig_conn_name(conn), msg.text);
    }
    o->streams.version = msg.version;
    *answered = true;
    return 0;
}

static int turn(struct opening *o, bool *answered, struct vmm_error *err)
{
    const struct mig_stop *stop = o->conf->conn->stop;
    struct pollfd p[MIG_OPEN_STREAMS_MAX + 1];
    unsigned count = o->streams.count;
    int ms = left_ms(o), r = 0, n;

    if (mig_stop_raised(stop)) {
        return vmm_fail(err, -ECANCELED, "%s: opening its streams: aborted",
                        o->conf->name);
    }
    if (ms == 0) {
        return vmm_fail(err, -ETIMEDOUT,
                        "%s: the destination did not answer within %d ms: not all "
                        "streams came to it",
                        o->conf->name, o->conf->timeout_ms);
    }
    for (unsigned i = 0; i < count; i++) {
        p[i] = (struct pollfd){.fd = mig_conn_fd(o->streams.conn[i]), .events = POLLIN};
    }
    p[count] = (struct pollfd){.fd = stop->fd, .events = POLLIN};
    n = poll(p, count + 1, ms);
    if (n < 0 && errno != EINTR) {
        return vmm_fail(err, -errno, "%s: opening its streams: %s", o->conf->name,
                        strerror(errno));
    }
    for (unsigned i = 0; n > 0 && r == 0 && !*answered && i < count; i++) {
        r = p[i].revents != 0 ? take(o, i, answered, err) : 0;
    }
    return r;
}

static int set_up(struct opening *o, const int *fds, struct vmm_error *err)
{
    char name[128];
    int r = 0;

    for (unsigned i = 0; i < o->conf->count; i++) {
        snprintf(name, sizeof name, "%s: stream %u (%s)", o->conf->name, i,
                 i == 0 ? "control" : "data");
        if (r == 0) {
            r = mig_conn_new(fds[i], o->conf->conn, name, &o->streams.conn[i], err);
        } else {
            close(fds[i]);
        }
    }
    o->streams.count = o->conf->count;
    return r;
}

int mig_open(const int *fds, const struct mig_join_conf *conf,
             struct mig_streams *ret_streams, struct vmm_error *err)
{
    struct opening o = {.conf = conf,
                        .until_ns =
                            loop_now_ns() + (uint64_t)conf->timeout_ms * NSEC_PER_MSEC};
    bool answered = false;
    int r;

    BUG_ON(conf->count < 1 || conf->count > MIG_OPEN_STREAMS_MAX || conf->conn->server);
    r = set_up(&o, fds, err);
    for (unsigned i = 0; r == 0 && i < conf->count; i++) {
        r = open_one(&o, i, err);
    }
    while (r == 0 && !answered) {
        r = turn(&o, &answered, err);
    }
    if (r < 0) {
        mig_streams_close(&o.streams);
        return r;
    }
    for (unsigned i = 0; i < conf->count; i++) {
        mig_conn_expect(o.streams.conn[i], NULL, 0);
    }
    *ret_streams = o.streams;
    return 0;
}
