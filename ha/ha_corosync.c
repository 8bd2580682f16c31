/* SPDX-License-Identifier: Apache-2.0 */
#include "ha/ha_corosync.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#include <corosync/cmap.h>
#include <corosync/cpg.h>
#include <corosync/quorum.h>
#include <corosync/votequorum.h>

#include "base/log.h"
#include "ha/ha_link.h"
#include "ha/ha_times.h"

#define QUEUE_MAX       1024
#define RETRY_NS        (2 * NSEC_PER_MSEC)
#define RECONNECT_NS    (200 * NSEC_PER_MSEC)
#define SUSPECT_POLL_NS (50 * NSEC_PER_MSEC)
#define VERDICT_POLLS   4    /* knet itself looks every 200 ms */
#define TOKEN_MS        1000 /* when corosync does not say its own */

struct queued {
    size_t len;
    uint8_t bytes[];
};

struct ha_corosync {
    struct loop *loop;
    const struct ha_corosync_ops *ops;
    void *ctx;
    bool connected, send_failed;
    cpg_handle_t cpg;
    quorum_handle_t quorum;
    votequorum_handle_t votequorum;
    cmap_handle_t cmap;
    int cpg_fd, quorum_fd;
    uint32_t nodeid;
    loop_timer retry_timer, connect_timer, suspect_timer;
    struct queued *queue[QUEUE_MAX];
    unsigned queue_head, queue_count;
    struct ha_view_tracker tracker;
    uint64_t quiet_ns;
    unsigned link_count, polls;
    struct {
        uint32_t nodeid;
        char key[CMAP_KEYNAME_MAXLEN + 1], received_key[CMAP_KEYNAME_MAXLEN + 1];
        bool connected;
        struct ha_link link;
    } link[NODES_MAX];
};

static void connect_timer_fn(void *data);

static void queue_clear(struct ha_corosync *c)
{
    while (c->queue_count > 0) {
        free(c->queue[c->queue_head]);
        c->queue_head = (c->queue_head + 1) % QUEUE_MAX;
        c->queue_count--;
    }
}

static void disconnect(struct ha_corosync *c)
{
    if (c->cpg_fd >= 0) {
        loop_fd_del(c->loop, c->cpg_fd);
    }
    if (c->quorum_fd >= 0) {
        loop_fd_del(c->loop, c->quorum_fd);
    }
    if (c->cpg != 0) {
        cpg_finalize(c->cpg);
    }
    if (c->quorum != 0) {
        quorum_finalize(c->quorum);
    }
    if (c->votequorum != 0) {
        votequorum_finalize(c->votequorum);
    }
    if (c->cmap != 0) {
        cmap_finalize(c->cmap);
    }
    c->cpg = c->quorum = c->votequorum = c->cmap = 0;
    c->cpg_fd = c->quorum_fd = -1;
    c->link_count = 0;
    c->send_failed = false;
    loop_timer_del(c->loop, &c->retry_timer);
    loop_timer_del(c->loop, &c->suspect_timer);
    queue_clear(c);
}

static void lost(struct ha_corosync *c, const char *what)
{
    bool was = c->connected;

    c->connected = false;
    disconnect(c);
    if (was) {
        log_err("corosync: connection lost (%s); there is no quorum until it is back",
                what);
        ha_view_lost(&c->tracker);
        c->ops->lost(c->ctx);
    }
    if (c->connect_timer == 0) {
        loop_timer_add(c->loop, RECONNECT_NS, connect_timer_fn, c, &c->connect_timer);
    }
}

static void publish(struct ha_corosync *c, bool changed)
{
    if (changed) {
        c->ops->view(c->ctx, &c->tracker.view);
    }
}

/* CPG
 * ----------------------------------------------------------------------------------------
 */

static void on_deliver(cpg_handle_t handle, const struct cpg_name *group, uint32_t nodeid,
                       uint32_t pid, void *msg, size_t len)
{
    struct ha_corosync *c;

    (void)group;
    (void)pid;
    if (cpg_context_get(handle, (void **)&c) == CS_OK) {
        c->ops->deliver(c->ctx, nodeid, msg, len);
    }
}

static void on_confchg(cpg_handle_t handle, const struct cpg_name *group,
                       const struct cpg_address *members, size_t member_count,
                       const struct cpg_address *left, size_t left_count,
                       const struct cpg_address *joined, size_t joined_count)
{
    uint32_t nodeids[CPG_MEMBERS_MAX];
    struct ha_corosync *c;

    (void)group;
    (void)left;
    (void)left_count;
    (void)joined;
    (void)joined_count;
    if (cpg_context_get(handle, (void **)&c) != CS_OK) {
        return;
    }
    for (size_t i = 0; i < member_count && i < CPG_MEMBERS_MAX; i++) {
        nodeids[i] = members[i].nodeid;
    }
    publish(c, ha_view_group(&c->tracker, nodeids, (unsigned)member_count));
}

static void on_totem(cpg_handle_t handle, struct cpg_ring_id ring, uint32_t count,
                     const uint32_t *nodeids)
{
    struct ha_corosync *c;

    if (cpg_context_get(handle, (void **)&c) == CS_OK) {
        publish(c, ha_view_totem(&c->tracker, (struct ha_ring){ring.nodeid, ring.seq},
                                 nodeids, count));
    }
}

/* Quorum
 * ---------------------------------------------------------------------------------------
 */

static unsigned votes_needed(struct ha_corosync *c)
{
    struct votequorum_info info;

    if (votequorum_getinfo(c->votequorum, c->nodeid, &info) != CS_OK) {
        return NODES_MAX; /* not known: nothing counts as a majority */
    }
    return info.quorum;
}

static void on_quorum(quorum_handle_t handle, uint32_t quorate,
                      struct quorum_ring_id ring, uint32_t count, const uint32_t *nodeids)
{
    const void *context;
    struct ha_corosync *c;

    (void)count;
    (void)nodeids;
    if (quorum_context_get(handle, &context) != CS_OK) {
        return;
    }
    c = (struct ha_corosync *)context;
    publish(c, ha_view_quorum(&c->tracker, (struct ha_ring){ring.nodeid, ring.seq},
                              quorate != 0, votes_needed(c)));
}

static void on_nodelist(quorum_handle_t handle, struct quorum_ring_id ring,
                        uint32_t count, const uint32_t *nodeids, uint32_t joined_count,
                        const uint32_t *joined, uint32_t left_count, const uint32_t *left)
{
    const void *context;
    struct ha_corosync *c;

    (void)joined_count;
    (void)joined;
    (void)left_count;
    (void)left;
    if (quorum_context_get(handle, &context) == CS_OK) {
        c = (struct ha_corosync *)context;
        publish(c, ha_view_nodelist(&c->tracker, (struct ha_ring){ring.nodeid, ring.seq},
                                    nodeids, count));
    }
}

static int on_cpg_fd(int fd, int revents, void *data)
{
    struct ha_corosync *c = data;

    (void)fd;
    (void)revents;
    if (cpg_dispatch(c->cpg, CS_DISPATCH_ALL) != CS_OK) {
        lost(c, "cpg");
    }
    return 0;
}

static int on_quorum_fd(int fd, int revents, void *data)
{
    struct ha_corosync *c = data;

    (void)fd;
    (void)revents;
    if (quorum_dispatch(c->quorum, CS_DISPATCH_ALL) != CS_OK) {
        lost(c, "quorum");
    }
    return 0;
}

/* Suspicion: packets that come in, and knet's own view of its links
 * ----------------------------------------------------------- */

static void links_find(struct ha_corosync *c)
{
    cmap_iter_handle_t iter;
    char key[CMAP_KEYNAME_MAXLEN + 1];
    unsigned nodeid, link;

    c->link_count = 0;
    if (cmap_iter_init(c->cmap, "stats.knet.node", &iter) != CS_OK) {
        return;
    }
    while (c->link_count < NODES_MAX &&
           cmap_iter_next(c->cmap, iter, key, NULL, NULL) == CS_OK) {
        int end = 0;

        if (sscanf(key, "stats.knet.node%u.link%u.connected%n", &nodeid, &link, &end) ==
                2 &&
            end != 0 && key[end] == '\0' && link == 0 && nodeid != c->nodeid) {
            c->link[c->link_count].nodeid = nodeid;
            c->link[c->link_count].connected = false;
            c->link[c->link_count].link = (struct ha_link){0};
            snprintf(c->link[c->link_count].key, sizeof c->link[0].key, "%s", key);
            snprintf(c->link[c->link_count].received_key, sizeof c->link[0].received_key,
                     "stats.knet.node%u.link0.rx_total_packets", nodeid);
            c->link_count++;
        }
    }
    cmap_iter_finalize(c->cmap, iter);
}

static uint64_t quiet_ns_find(void)
{
    uint32_t token_ms = TOKEN_MS;
    cmap_handle_t conf;

    if (cmap_initialize(&conf) == CS_OK) {
        (void)cmap_get_uint32(conf, "runtime.config.totem.token", &token_ms);
        cmap_finalize(conf);
    }
    return ha_times_quiet_ns(token_ms);
}

static void suspect_timer_fn(void *data)
{
    struct ha_corosync *c = data;
    bool verdict_due = c->polls++ % VERDICT_POLLS == 0;

    c->suspect_timer = 0;
    for (unsigned i = 0; i < c->link_count; i++) {
        uint64_t received;
        uint8_t up;

        if (verdict_due && cmap_get_uint8(c->cmap, c->link[i].key, &up) == CS_OK) {
            c->link[i].connected = up != 0;
        }
        if (cmap_get_uint64(c->cmap, c->link[i].received_key, &received) == CS_OK &&
            ha_link_read(&c->link[i].link, c->link[i].connected, received, loop_now_ns(),
                         c->quiet_ns)) {
            c->ops->suspect(c->ctx, c->link[i].nodeid, c->link[i].link.up);
        }
    }
    /* Each reading is a question to corosync: with many nodes less often. */
    loop_timer_add(c->loop, SUSPECT_POLL_NS * (1 + c->link_count / 8), suspect_timer_fn,
                   c, &c->suspect_timer);
}

/* Connection
 * ----------------------------------------------------------------------------------- */

static int connect_cpg(struct ha_corosync *c)
{
    cpg_model_v1_data_t model = {
        .model = CPG_MODEL_V1,
        .cpg_deliver_fn = on_deliver,
        .cpg_confchg_fn = on_confchg,
        .cpg_totem_confchg_fn = on_totem,
        .flags = CPG_MODEL_V1_DELIVER_INITIAL_TOTEM_CONF,
    };
    struct cpg_name group = {.length = strlen(HA_GROUP_NAME)};

    memcpy(group.value, HA_GROUP_NAME, group.length);
    if (cpg_model_initialize(&c->cpg, CPG_MODEL_V1, (cpg_model_data_t *)&model, c) !=
        CS_OK) {
        c->cpg = 0;
        return -ECONNREFUSED;
    }
    if (cpg_local_get(c->cpg, &c->nodeid) != CS_OK ||
        cpg_fd_get(c->cpg, &c->cpg_fd) != CS_OK || cpg_join(c->cpg, &group) != CS_OK) {
        return -EAGAIN;
    }
    return loop_fd_add(c->loop, c->cpg_fd, POLLIN, on_cpg_fd, c);
}

static int connect_quorum(struct ha_corosync *c)
{
    quorum_model_v1_data_t model = {
        .model = QUORUM_MODEL_V1,
        .quorum_notify_fn = on_quorum,
        .nodelist_notify_fn = on_nodelist,
    };
    uint32_t type;

    if (votequorum_initialize(&c->votequorum, NULL) != CS_OK) {
        c->votequorum = 0;
        return -ECONNREFUSED;
    }
    if (quorum_model_initialize(&c->quorum, QUORUM_MODEL_V1,
                                (quorum_model_data_t *)&model, &type, c) != CS_OK) {
        c->quorum = 0;
        return -ECONNREFUSED;
    }
    if (quorum_fd_get(c->quorum, &c->quorum_fd) != CS_OK ||
        quorum_trackstart(c->quorum, CS_TRACK_CHANGES | CS_TRACK_CURRENT) != CS_OK) {
        return -EAGAIN;
    }
    return loop_fd_add(c->loop, c->quorum_fd, POLLIN, on_quorum_fd, c);
}

static void connect_timer_fn(void *data)
{
    struct ha_corosync *c = data;

    c->connect_timer = 0;
    memset(&c->tracker, 0, sizeof c->tracker);
    if (cmap_initialize_map(&c->cmap, CMAP_MAP_STATS) != CS_OK) {
        c->cmap = 0;
    }
    if (c->cmap == 0 || connect_cpg(c) < 0 || connect_quorum(c) < 0) {
        lost(c, "not reachable");
        return;
    }
    c->connected = true;
    log_info("corosync: connected as node %u", c->nodeid);
    links_find(c);
    c->quiet_ns = quiet_ns_find();
    c->polls = 0;
    loop_timer_add(c->loop, SUSPECT_POLL_NS, suspect_timer_fn, c, &c->suspect_timer);
    c->ops->connected(c->ctx, c->nodeid);
}

/* Sending
 * -------------------------------------------------------------------------------------
 */

static void send_timer_fn(void *data);

static void send_queue(struct ha_corosync *c)
{
    while (c->queue_count > 0) {
        struct queued *q = c->queue[c->queue_head];
        struct iovec iov = {q->bytes, q->len};
        cs_error_t e = cpg_mcast_joined(c->cpg, CPG_TYPE_AGREED, &iov, 1);

        if (e == CS_ERR_TRY_AGAIN) {
            if (c->retry_timer == 0) {
                loop_timer_add(c->loop, RETRY_NS, send_timer_fn, c, &c->retry_timer);
            }
            return;
        }
        if (e != CS_OK) {
            /* Perhaps inside a dispatch callback: the connection is taken down from a
             * timer. */
            c->send_failed = true;
            if (c->retry_timer == 0) {
                loop_timer_add(c->loop, 0, send_timer_fn, c, &c->retry_timer);
            }
            return;
        }
        free(q);
        c->queue_head = (c->queue_head + 1) % QUEUE_MAX;
        c->queue_count--;
    }
}

static void send_timer_fn(void *data)
{
    struct ha_corosync *c = data;

    c->retry_timer = 0;
    if (c->send_failed) {
        lost(c, "cpg send");
        return;
    }
    send_queue(c);
}

int ha_corosync_mcast(struct ha_corosync *c, const void *frame, size_t len)
{
    struct queued *q;

    if (!c->connected) {
        return -ENOTCONN;
    }
    if (c->queue_count == QUEUE_MAX) {
        return -ENOBUFS;
    }
    q = malloc(sizeof *q + len);
    if (q == NULL) {
        return -ENOMEM;
    }
    q->len = len;
    memcpy(q->bytes, frame, len);
    c->queue[(c->queue_head + c->queue_count++) % QUEUE_MAX] = q;
    if (c->queue_count == 1) {
        send_queue(c);
    }
    return 0;
}

int ha_corosync_new(struct loop *loop, const struct ha_corosync_ops *ops, void *ctx,
                    struct ha_corosync **ret_corosync)
{
    struct ha_corosync *c = calloc(1, sizeof *c);

    if (c == NULL) {
        return -ENOMEM;
    }
    c->loop = loop;
    c->ops = ops;
    c->ctx = ctx;
    c->cpg_fd = c->quorum_fd = -1;
    *ret_corosync = c;
    return loop_timer_add(loop, 0, connect_timer_fn, c, &c->connect_timer);
}

void ha_corosync_free(struct ha_corosync *c)
{
    if (c == NULL) {
        return;
    }
    disconnect(c);
    loop_timer_del(c->loop, &c->connect_timer);
    free(c);
}
