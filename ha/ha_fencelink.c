/* SPDX-License-Identifier: Apache-2.0 */
#include "ha/ha_fencelink.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/os.h"
#include "base/proto_ctl.h"
#include "base/uuid.h"
#include "base/version.h"
#include "ha/ha_text.h"

#define RECONNECT_NS (300 * NSEC_PER_MSEC)

struct request {
    bool used;
    Gemel__FenceRequest__Kind kind;
    struct uuid uid;
    uint32_t target;
    char node[NODE_NAME_MAX + 1];
    struct incarnation incarnation;
    uint32_t timeout_ms;
};

struct ha_fencelink {
    struct loop *loop;
    const struct ha_fencelink_ops *ops;
    void *ctx;
    struct ha_agent_self self;
    char path[PATH_LEN_MAX];
    char *config;
    int fd;
    bool complained;
    loop_timer connect_timer;
    struct request request[FENCE_REQUESTS_MAX];
};

static void connect_timer_fn(void *data);

static void hang_up(struct ha_fencelink *link)
{
    if (link->fd >= 0) {
        loop_fd_del(link->loop, link->fd);
        close(link->fd);
        link->fd = -1;
        link->ops->connected(link->ctx, false);
    }
    if (link->connect_timer == 0) {
        loop_timer_add(link->loop, RECONNECT_NS, connect_timer_fn, link,
                       &link->connect_timer);
    }
}

static void send_request(struct ha_fencelink *link, const struct request *rq,
                         const char *config)
{
    Gemel__FenceRequest m = GEMEL__FENCE_REQUEST__INIT;

    if (link->fd < 0) {
        return;
    }
    m.kind = rq->kind;
    m.uid.data = (uint8_t *)rq->uid.b;
    m.uid.len = sizeof rq->uid.b;
    m.node = (char *)rq->node;
    m.boot_id.data = (uint8_t *)rq->incarnation.boot_id.b;
    m.boot_id.len = sizeof rq->incarnation.boot_id.b;
    m.join_counter = rq->incarnation.join;
    m.timeout_ms = rq->timeout_ms;
    if (config != NULL) {
        m.config = (char *)config;
    }
    if (ctl_send(link->fd, CTL_FENCE_REQUEST, &m) < 0) {
        hang_up(link);
    }
}

static struct request *find(struct ha_fencelink *link, struct uuid uid)
{
    for (unsigned i = 0; i < ARRAY_SIZE(link->request); i++) {
        if (link->request[i].used && uuid_equal(link->request[i].uid, uid)) {
            return &link->request[i];
        }
    }
    return NULL;
}

static void send_config(struct ha_fencelink *link)
{
    struct request rq = {.kind = GEMEL__FENCE_REQUEST__KIND__CONFIG,
                         .uid = uuid_random()};

    if (link->config != NULL) {
        send_request(link, &rq, link->config);
    }
}

static void on_report(struct ha_fencelink *link, const Gemel__FenceReport *m)
{
    struct ha_fence_report report = {0};
    struct request *rq;

    if (m->uid.len != sizeof report.uid.b) {
        return;
    }
    memcpy(report.uid.b, m->uid.data, sizeof report.uid.b);
    rq = find(link, report.uid);
    if (rq == NULL) {
        return;
    }
    ha_text_set(report.detail, sizeof report.detail, m->device,
                m->device != NULL && m->device[0] != '\0' ? ": " : "", m->detail, NULL);
    if (m->result == GEMEL__FENCE_RESULT__FENCE_PENDING) {
        link->ops->progress(link->ctx, rq->target, report.detail);
        return;
    }
    report.target = rq->target;
    report.incarnation = rq->incarnation;
    report.suspicion = rq->kind == GEMEL__FENCE_REQUEST__KIND__STATUS;
    report.result =
        m->result == GEMEL__FENCE_RESULT__FENCE_OK ? HA_FENCE_OK : HA_FENCE_FAILED;
    if (rq->kind == GEMEL__FENCE_REQUEST__KIND__CANCEL && report.result != HA_FENCE_OK) {
        report.result = HA_FENCE_NONE;
    }
    log_info("fence %s: result=%s detail=\"%s\" elapsed_ms=%u", rq->node,
             report.result == HA_FENCE_OK ? "ok" : "not-ok", report.detail,
             m->elapsed_ms);
    rq->used = false;
    if (rq->kind != GEMEL__FENCE_REQUEST__KIND__ON &&
        !(report.suspicion && report.result != HA_FENCE_OK)) {
        link->ops->report(link->ctx, &report);
    }
}

static int on_fd(int fd, int revents, void *data)
{
    struct ha_fencelink *link = data;
    struct ctl_msg msg;
    enum ctl_reason reason;
    int r;

    (void)revents;
    r = ctl_recv(fd, &msg, &reason);
    if (r == -EAGAIN) {
        return 0;
    }
    if (r < 0) {
        log_warn("gemel-fenced: connection lost (%s); trying again", strerror(-r));
        hang_up(link);
        return 0;
    }
    if (msg.kind == CTL_FENCE_REPORT) {
        on_report(link, msg.fence_report);
    }
    ctl_msg_free(&msg);
    return 0;
}

static void connect_timer_fn(void *data)
{
    struct ha_fencelink *link = data;
    Gemel__Hello hello = GEMEL__HELLO__INIT;
    int r;

    link->connect_timer = 0;
    r = os_unix_connect(link->path, &link->fd);
    if (r < 0) {
        if (!link->complained) {
            log_warn(
                "gemel-fenced: %s: %s; no node can be fenced from here until it runs",
                link->path, strerror(-r));
            link->complained = true;
        }
        link->fd = -1;
        hang_up(link);
        return;
    }
    link->complained = false;
    hello.version = PROTO_CTL_VERSION;
    hello.version_min = PROTO_CTL_VERSION_MIN;
    hello.program = (char *)"gemeld";
    hello.node = link->self.name;
    hello.boot_id.data = link->self.incarnation.boot_id.b;
    hello.boot_id.len = sizeof link->self.incarnation.boot_id.b;
    hello.join_counter = link->self.incarnation.join;
    if (ctl_send(link->fd, CTL_HELLO, &hello) < 0 ||
        loop_fd_add(link->loop, link->fd, POLLIN, on_fd, link) < 0) {
        close(link->fd);
        link->fd = -1;
        hang_up(link);
        return;
    }
    log_info("gemel-fenced: connected");
    link->ops->connected(link->ctx, true);
    send_config(link);
    for (unsigned i = 0; i < ARRAY_SIZE(link->request); i++) {
        if (link->request[i].used) {
            send_request(link, &link->request[i], NULL);
        }
    }
}

static struct request *remember(struct ha_fencelink *link, Gemel__FenceRequest__Kind kind,
                                const struct ha_node *node, struct uuid uid,
                                uint32_t timeout_ms)
{
    struct request *rq = find(link, uid);

    for (unsigned i = 0; rq == NULL && i < ARRAY_SIZE(link->request); i++) {
        rq = link->request[i].used ? NULL : &link->request[i];
    }
    if (rq == NULL) {
        log_err("fence %s: too many requests under way (%u)", node->name,
                FENCE_REQUESTS_MAX);
        return NULL;
    }
    *rq = (struct request){.used = true,
                           .kind = kind,
                           .uid = uid,
                           .target = node->nodeid,
                           .timeout_ms = timeout_ms,
                           .incarnation = node->incarnation};
    ha_text_set(rq->node, sizeof rq->node, node->name, NULL);
    return rq;
}

void ha_fencelink_off(struct ha_fencelink *link, const struct ha_node *node,
                      uint32_t timeout_ms)
{
    struct request *rq = remember(link, GEMEL__FENCE_REQUEST__KIND__OFF, node,
                                  node->fence_uid, timeout_ms);

    if (rq != NULL) {
        rq->incarnation = node->fence_incarnation;
        log_info("fence %s: off asked of gemel-fenced", node->name);
        send_request(link, rq, NULL);
    }
}

void ha_fencelink_cancel(struct ha_fencelink *link, const struct ha_node *node)
{
    struct request *rq =
        remember(link, GEMEL__FENCE_REQUEST__KIND__CANCEL, node, node->fence_uid, 0);

    if (rq != NULL) {
        rq->incarnation = node->fence_incarnation;
        send_request(link, rq, NULL);
    }
}

void ha_fencelink_on(struct ha_fencelink *link, const struct ha_node *node,
                     struct uuid uid)
{
    struct request *rq = remember(link, GEMEL__FENCE_REQUEST__KIND__ON, node, uid, 30000);

    if (rq != NULL) {
        send_request(link, rq, NULL);
    }
}

void ha_fencelink_status(struct ha_fencelink *link, const struct ha_node *node,
                         struct uuid uid)
{
    struct request *rq =
        remember(link, GEMEL__FENCE_REQUEST__KIND__STATUS, node, uid, 5000);

    if (rq != NULL) {
        log_info("fence %s: suspected; power state asked", node->name);
        send_request(link, rq, NULL);
    }
}

void ha_fencelink_config(struct ha_fencelink *link, const char *yaml)
{
    free(link->config);
    link->config = strdup(yaml);
    send_config(link);
}

int ha_fencelink_new(struct loop *loop, const char *socket_path,
                     const struct ha_agent_self *self, const struct ha_fencelink_ops *ops,
                     void *ctx, struct ha_fencelink **ret_link)
{
    struct ha_fencelink *link = calloc(1, sizeof *link);

    if (link == NULL) {
        return -ENOMEM;
    }
    link->loop = loop;
    link->ops = ops;
    link->ctx = ctx;
    link->self = *self;
    link->fd = -1;
    snprintf(link->path, sizeof link->path, "%s", socket_path);
    *ret_link = link;
    return loop_timer_add(loop, 0, connect_timer_fn, link, &link->connect_timer);
}

void ha_fencelink_free(struct ha_fencelink *link)
{
    if (link == NULL) {
        return;
    }
    if (link->fd >= 0) {
        loop_fd_del(link->loop, link->fd);
        close(link->fd);
    }
    loop_timer_del(link->loop, &link->connect_timer);
    free(link->config);
    free(link);
}
