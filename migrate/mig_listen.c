/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/mig_listen.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bug.h"
#include "base/loop.h"
#include "base/text.h"
#include "migrate/mig_listen_priv.h"

/* A process that is short of memory or of file descriptors tries again. */
#define SHORTAGE_MS 50

const struct mig_conn_rule mig_stranger_rule[1] = {
    {MIG_TYPE_OPEN, 1, 1, MIG_OPEN_LEN, MIG_OPEN_LEN}};

struct listener {
    int fd;
    const struct mig_join_conf *conf;
    struct mig_roll roll;
    struct mig_streams *streams;
    struct mig_listen_counts *counts;
    uint64_t until_ns, short_until_ns;
    struct mig_stranger stranger[MIG_LISTEN_PENDING];
};

static int handshake_ms(const struct listener *l)
{
    return l->conf->handshake_ms > 0 ? l->conf->handshake_ms : MIG_CONN_HANDSHAKE_MS;
}

/* Strangers -------------------------------------------------------------------------- */

static int count_refusal(enum mig_open_reason reason, struct mig_stranger *s,
                         struct mig_listen_counts *counts)
{
    struct vmm_error ignored;
    struct mig_answer_msg answer = {.version = 0};
    uint8_t body[MIG_ANSWER_LEN_MAX];
    struct iovec v = {body, 0};

    counts->token += reason == MIG_OPEN_BAD_TRANSFER || reason == MIG_OPEN_BAD_COUNT;
    counts->replayed += reason == MIG_OPEN_TAKEN;
    counts->rubbish += reason == MIG_OPEN_BAD_FORM || reason == MIG_OPEN_BAD_VERSION;
    snprintf(counts->last, sizeof counts->last, "%.150s: it shows %s",
             mig_conn_name(s->conn), mig_open_reason_str(reason));
    if (reason == MIG_OPEN_BAD_VERSION || reason == MIG_OPEN_BAD_COUNT) {
        /* It knows the token: it may know why. A few bytes: they fit the socket. */
        (void)text_copy(answer.text, sizeof answer.text, mig_open_reason_str(reason));
        v.iov_len = mig_answer_encode(&answer, body);
        (void)mig_conn_send(s->conn, MIG_TYPE_ANSWER, 1, 0, &v, 1, &ignored);
        (void)mig_conn_send_end(s->conn, &ignored);
    }
    return -EACCES;
}

int mig_stranger_step(struct mig_stranger *stranger, struct mig_roll *roll,
                      struct mig_listen_counts *counts)
{
    struct mig_conn_head head;
    struct mig_open_msg msg;
    struct vmm_error err;
    enum mig_open_reason reason;
    int r = mig_conn_step_handshake(stranger->conn, &stranger->events, &err);

    if (r == -EAGAIN) {
        return r;
    }
    if (r < 0) {
        counts->refused++;
        (void)text_copy(counts->last, sizeof counts->last, err.text);
        return r;
    }
    r = mig_conn_step_frame(stranger->conn, &head, stranger->body, sizeof stranger->body,
                            &err);
    stranger->events = POLLIN;
    if (r == -EAGAIN) {
        return r;
    }
    if (r < 0) {
        counts->rubbish++;
        (void)text_copy(counts->last, sizeof counts->last, err.text);
        return r;
    }
    reason = mig_open_decode(stranger->body, sizeof stranger->body, &msg)
                 ? mig_roll_join(roll, &msg)
                 : MIG_OPEN_BAD_FORM;
    if (reason != MIG_OPEN_OK) {
        return count_refusal(reason, stranger, counts);
    }
    stranger->index = msg.index;
    return 0;
}

static void drop(struct mig_stranger *s)
{
    mig_conn_free(s->conn);
    s->conn = NULL;
}

static void name_stream(struct mig_conn *conn, const struct mig_join_conf *conf,
                        unsigned index)
{
    char name[128];

    snprintf(name, sizeof name, "%s: stream %u (%s)", conf->name, index,
             index == 0 ? "control" : "data");
    mig_conn_rename(conn, name);
}

static void step(struct listener *l, struct mig_stranger *s)
{
    int r = mig_stranger_step(s, &l->roll, l->counts);

    if (r == -EAGAIN) {
        return;
    }
    if (r < 0) {
        drop(s);
        return;
    }
    mig_conn_expect(s->conn, NULL, 0);
    name_stream(s->conn, l->conf, s->index);
    BUG_ON(l->streams->conn[s->index] != NULL);
    l->streams->conn[s->index] = s->conn;
    s->conn = NULL;
}

/* Accepting -------------------------------------------------------------------------- */

static struct mig_stranger *oldest(struct listener *l)
{
    struct mig_stranger *best = &l->stranger[0];

    for (unsigned i = 1; i < MIG_LISTEN_PENDING; i++) {
        if (l->stranger[i].since_ns < best->since_ns) {
            best = &l->stranger[i];
        }
    }
    return best;
}

/* A free place; or that of the oldest, which has had its time. NULL: they all have to
 * wait, in the kernel's queue, until *ret_ns. */
static struct mig_stranger *place(struct listener *l, uint64_t now, uint64_t *ret_ns)
{
    struct mig_stranger *s;

    for (unsigned i = 0; i < MIG_LISTEN_PENDING; i++) {
        if (!l->stranger[i].conn) {
            return &l->stranger[i];
        }
    }
    s = oldest(l);
    *ret_ns = s->since_ns + MIG_LISTEN_GRACE_MS * NSEC_PER_MSEC;
    return now >= *ret_ns ? s : NULL;
}

static int accept_one(struct listener *l, struct mig_stranger *s, uint64_t now,
                      struct vmm_error *err)
{
    char name[128];
    int fd = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    if (fd < 0) {
        /* Among them what accept(2) tells of a connection that is gone already. */
        bool shortage =
            errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM;

        l->short_until_ns = shortage ? now + SHORTAGE_MS * NSEC_PER_MSEC : 0;
        if (errno == EBADF || errno == EINVAL || errno == ENOTSOCK) {
            return vmm_fail(err, -errno, "%s: the socket for incoming streams: %s",
                            l->conf->name, strerror(errno));
        }
        return -EAGAIN;
    }
    if (s->conn) {
        drop(s);
        l->counts->crowded++;
    }
    l->counts->accepted++;
    snprintf(name, sizeof name, "%s: incoming connection %u", l->conf->name,
             l->counts->accepted);
    if (mig_conn_new(fd, l->conf->conn, name, &s->conn, NULL) < 0) {
        s->conn = NULL;
        return -EAGAIN;
    }
    mig_conn_expect(s->conn, mig_stranger_rule, 1);
    s->since_ns = now;
    s->events = POLLIN;
    return 0;
}

/* All that is there, as far as there is room. */
static int accept_all(struct listener *l, uint64_t now, struct vmm_error *err)
{
    struct mig_stranger *s;
    uint64_t wait_ns;
    int r = 0;

    for (unsigned i = 0; r == 0 && i < MIG_LISTEN_PENDING; i++) {
        s = place(l, now, &wait_ns);
        if (!s) {
            return 0;
        }
        r = accept_one(l, s, now, err);
        if (r == 0) {
            step(l, s);
        }
    }
    return r == -EAGAIN ? 0 : r;
}

/* Waiting ---------------------------------------------------------------------------- */

static void earlier(uint64_t *ns, uint64_t other)
{
    *ns = other < *ns ? other : *ns;
}

/* Drops who had its time; returns when the next one has. */
static uint64_t expire(struct listener *l, uint64_t now)
{
    uint64_t next = l->until_ns, place_ns;

    for (unsigned i = 0; i < MIG_LISTEN_PENDING; i++) {
        struct mig_stranger *s = &l->stranger[i];
        uint64_t end = s->since_ns + (uint64_t)handshake_ms(l) * NSEC_PER_MSEC;

        if (s->conn && now >= end) {
            l->counts->silent++;
            snprintf(l->counts->last, sizeof l->counts->last,
                     "%.150s: it did not say who it is within %d ms",
                     mig_conn_name(s->conn), handshake_ms(l));
            drop(s);
        } else if (s->conn) {
            earlier(&next, end);
        }
    }
    if (!place(l, now, &place_ns)) {
        earlier(&next, place_ns);
    }
    if (l->short_until_ns > now) {
        earlier(&next, l->short_until_ns);
    }
    return next;
}

static bool may_accept(struct listener *l, uint64_t now)
{
    uint64_t unused;

    return l->short_until_ns <= now && place(l, now, &unused) != NULL;
}

static void report(const struct listener *l, char *text, size_t cap)
{
    const struct mig_listen_counts *c = l->counts;

    snprintf(text, cap, "%d of %d streams, %u connections%s%.200s",
             __builtin_popcount(l->roll.joined), l->roll.count, c->accepted,
             c->last[0] != '\0' ? "; the last that was dropped: " : "", c->last);
}

/* What poll looks at: strangers, streams that are there, new ones, the stop. */
struct watch {
    struct pollfd stranger[MIG_LISTEN_PENDING];
    struct pollfd stream[MIG_OPEN_STREAMS_MAX];
    struct pollfd fd, stop;
};

static void fill_watch(struct listener *l, uint64_t now, struct watch *w)
{
    for (unsigned i = 0; i < MIG_LISTEN_PENDING; i++) {
        const struct mig_stranger *s = &l->stranger[i];

        w->stranger[i] = (struct pollfd){.fd = s->conn ? mig_conn_fd(s->conn) : -1,
                                         .events = s->events};
    }
    for (unsigned i = 0; i < MIG_OPEN_STREAMS_MAX; i++) {
        const struct mig_conn *conn = l->streams->conn[i];

        w->stream[i] =
            (struct pollfd){.fd = conn ? mig_conn_fd(conn) : -1, .events = POLLRDHUP};
    }
    w->fd = (struct pollfd){.fd = may_accept(l, now) ? l->fd : -1, .events = POLLIN};
    w->stop = (struct pollfd){.fd = l->conf->conn->stop->fd, .events = POLLIN};
}

static int look(struct listener *l, const struct watch *w, struct vmm_error *err)
{
    for (unsigned i = 0; i < MIG_OPEN_STREAMS_MAX; i++) {
        if (w->stream[i].revents != 0) {
            return vmm_fail(err, -ECONNRESET,
                            "%s: the source closed before all streams were there",
                            mig_conn_name(l->streams->conn[i]));
        }
    }
    for (unsigned i = 0; i < MIG_LISTEN_PENDING; i++) {
        if (w->stranger[i].fd >= 0 && w->stranger[i].revents != 0) {
            step(l, &l->stranger[i]);
        }
    }
    return w->fd.revents != 0 ? accept_all(l, loop_now_ns(), err) : 0;
}

static int turn(struct listener *l, struct vmm_error *err)
{
    uint64_t now = loop_now_ns(), next = expire(l, now);
    char text[300];
    struct watch w;
    int n;

    if (mig_stop_raised(l->conf->conn->stop)) {
        return vmm_fail(err, -ECANCELED, "%s: waiting for its streams: aborted",
                        l->conf->name);
    }
    if (now >= l->until_ns) {
        report(l, text, sizeof text);
        return vmm_fail(
            err, -ETIMEDOUT, "%s: its streams did not come within %d ms (%s)%s",
            l->conf->name, l->conf->timeout_ms, text,
            l->counts->accepted > 0 ? "" : ": are the migration addresses reachable?");
    }
    fill_watch(l, now, &w);
    n = poll((struct pollfd *)&w, sizeof w / sizeof(struct pollfd),
             (int)((next - now) / NSEC_PER_MSEC) + 1);
    if (n < 0 && errno != EINTR) {
        return vmm_fail(err, -errno, "%s: waiting for its streams: %s", l->conf->name,
                        strerror(errno));
    }
    return n > 0 ? look(l, &w, err) : 0;
}

static int answer(const struct listener *l, struct vmm_error *err)
{
    struct mig_answer_msg msg = {.version = l->roll.version};
    uint8_t body[MIG_ANSWER_LEN_MAX];
    struct iovec v = {body, mig_answer_encode(&msg, body)};

    return mig_conn_send(l->streams->conn[0], MIG_TYPE_ANSWER, 1, 0, &v, 1, err);
}

int mig_listen(int listen_fd, const struct mig_join_conf *conf,
               struct mig_streams *ret_streams, struct mig_listen_counts *ret_counts,
               struct vmm_error *err)
{
    struct mig_streams streams = {.count = 0};
    struct listener l = {.fd = listen_fd,
                         .conf = conf,
                         .roll = {.transfer = conf->transfer,
                                  .token = conf->token,
                                  .count = (uint16_t)conf->count},
                         .streams = &streams,
                         .counts = ret_counts,
                         .until_ns =
                             loop_now_ns() + (uint64_t)conf->timeout_ms * NSEC_PER_MSEC};
    int r = 0;

    BUG_ON(conf->count > MIG_OPEN_STREAMS_MAX || !conf->conn->server);
    *ret_counts = (struct mig_listen_counts){.accepted = 0};
    while (r == 0 && !mig_roll_complete(&l.roll)) {
        r = turn(&l, err);
    }
    close(listen_fd);
    for (unsigned i = 0; i < MIG_LISTEN_PENDING; i++) {
        drop(&l.stranger[i]);
    }
    streams.count = l.roll.count;
    streams.version = l.roll.version;
    r = r < 0 ? r : answer(&l, err);
    if (r < 0) {
        mig_streams_close(&streams);
        return r;
    }
    *ret_streams = streams;
    return 0;
}

void mig_streams_close(struct mig_streams *streams)
{
    for (unsigned i = 0; i < MIG_OPEN_STREAMS_MAX; i++) {
        mig_conn_free(streams->conn[i]);
        streams->conn[i] = NULL;
    }
    streams->count = 0;
}
