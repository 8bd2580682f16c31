/* SPDX-License-Identifier: Apache-2.0 */
/* The socket of gemel-fenced: hello, requests in, reports out. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/os.h"
#include "base/uuid.h"
#include "base/version.h"
#include "fencing/fence_store.h"
#include "fencing/fenced_int.h"

#define MSGS_PER_TURN 16 /* of one client, before the others get theirs */

static const Gemel__FenceResult wire_result[] = {
    [FENCE_RESULT_NONE] = GEMEL__FENCE_RESULT__FENCE_PENDING,
    [FENCE_RESULT_PENDING] = GEMEL__FENCE_RESULT__FENCE_PENDING,
    [FENCE_RESULT_OK] = GEMEL__FENCE_RESULT__FENCE_OK,
    [FENCE_RESULT_FAILED] = GEMEL__FENCE_RESULT__FENCE_FAILED,
    [FENCE_RESULT_UNKNOWN] = GEMEL__FENCE_RESULT__FENCE_UNKNOWN,
};

static const Gemel__FenceRequest__Kind wire_kind[FENCE_ACTION_COUNT] = {
    [FENCE_ACTION_STATUS] = GEMEL__FENCE_REQUEST__KIND__STATUS,
    [FENCE_ACTION_OFF] = GEMEL__FENCE_REQUEST__KIND__OFF,
    [FENCE_ACTION_ON] = GEMEL__FENCE_REQUEST__KIND__ON,
    [FENCE_ACTION_MONITOR] = GEMEL__FENCE_REQUEST__KIND__MONITOR,
};

static uint64_t client_bit(const struct fenced_client *c)
{
    return UINT64_C(1) << (c - c->fenced->client);
}

static void client_close(struct fenced_client *c)
{
    struct fenced *f = c->fenced;

    for (size_t i = 0; i < FENCE_REQUESTS_MAX; i++) {
        f->request[i].clients &= ~client_bit(c);
    }
    loop_timer_del(f->loop, &c->timer);
    loop_fd_del(f->loop, c->fd);
    close(c->fd);
    c->fd = -1;
}

/* A client that does not read is dropped: it connects again and asks with QUERY. */
static void client_send(struct fenced_client *c, enum ctl_kind kind, const void *message)
{
    int r = ctl_send(c->fd, kind, message);

    if (r < 0) {
        log_warn("client %s: cannot send: %s; connection closed", c->node, strerror(-r));
        shutdown(c->fd, SHUT_RDWR); /* its event closes it: callers still hold it */
    }
}

/* Reports
 * --------------------------------------------------------------------------------------------------------
 */

static ProtobufCBinaryData id_bytes(struct uuid *id)
{
    return (ProtobufCBinaryData){.len = uuid_is_none(*id) ? 0 : sizeof(id->b),
                                 .data = id->b};
}

static struct uuid id_of(ProtobufCBinaryData bytes)
{
    struct uuid id = {{0}};

    if (bytes.len == sizeof(id.b)) {
        memcpy(id.b, bytes.data, sizeof(id.b));
    }
    return id;
}

static void report_to(struct fenced_request *r, struct fenced_client *c)
{
    struct fence_record *rec = &r->record;
    Gemel__FenceReport m = GEMEL__FENCE_REPORT__INIT;

    m.uid = id_bytes(&rec->uid);
    m.kind = wire_kind[rec->action];
    m.node = rec->node;
    m.boot_id = id_bytes(&rec->boot_id);
    m.join_counter = rec->join_counter;
    m.result = wire_result[rec->result];
    m.device = rec->device;
    m.detail = rec->detail;
    m.elapsed_ms = rec->elapsed_ms;
    m.attempts = rec->attempts;
    client_send(c, CTL_FENCE_REPORT, &m);
}

void fenced_report(struct fenced_request *r)
{
    struct fenced *f = r->fenced;

    for (size_t i = 0; i < CTL_CLIENTS_MAX; i++) {
        if ((r->clients & (UINT64_C(1) << i)) != 0 && f->client[i].fd >= 0) {
            report_to(r, &f->client[i]);
        }
    }
}

/* An answer that belongs to no request of ours. */
static void answer(struct fenced_client *c, const Gemel__FenceRequest *q,
                   Gemel__FenceResult result, const char *detail)
{
    Gemel__FenceReport m = GEMEL__FENCE_REPORT__INIT;

    m.uid = q->uid;
    m.kind = q->kind;
    m.node = q->node;
    m.boot_id = q->boot_id;
    m.join_counter = q->join_counter;
    m.result = result;
    m.detail = (char *)detail;
    client_send(c, CTL_FENCE_REPORT, &m);
}

/* Requests
 * -------------------------------------------------------------------------------------------------------
 */

static bool same_request(const struct fence_record *rec, const Gemel__FenceRequest *q)
{
    return wire_kind[rec->action] == q->kind && strcmp(rec->node, q->node) == 0 &&
           uuid_equal(rec->boot_id, id_of(q->boot_id)) &&
           rec->join_counter == q->join_counter;
}

/* Against orders that undo each other. NULL: none. */
static struct fenced_request *pending_on_node(struct fenced *f, const char *node,
                                              enum fence_action action)
{
    for (size_t i = 0; i < FENCE_REQUESTS_MAX; i++) {
        struct fenced_request *r = &f->request[i];

        if (r->used && r->record.result == FENCE_RESULT_PENDING &&
            r->record.action == action && strcmp(r->record.node, node) == 0) {
            return r;
        }
    }
    return NULL;
}

static const char *refusal(struct fenced_client *c, const Gemel__FenceRequest *q,
                           enum fence_action action)
{
    struct fenced *f = c->fenced;

    if (uuid_is_none(id_of(q->uid))) {
        return "refused: a request needs a uid of 16 bytes";
    }
    if (q->node[0] == '\0') {
        return "refused: no node named";
    }
    if (f->snapshot == NULL) {
        return "not configured yet: send the cluster definition first (CONFIG)";
    }
    /* Design R7: a node never fences itself; the proof would die with it. */
    if (action == FENCE_ACTION_OFF && strcmp(q->node, c->node) == 0) {
        return "refused: a node does not fence itself; another one must do it";
    }
    if (action == FENCE_ACTION_ON &&
        pending_on_node(f, q->node, FENCE_ACTION_OFF) != NULL) {
        return "refused: an OFF for this node is under way; wait for it or cancel it";
    }
    return NULL;
}

static void request_begin(struct fenced_client *c, const Gemel__FenceRequest *q,
                          enum fence_action action)
{
    struct fenced *f = c->fenced;
    struct fenced_request *r, *on;
    const char *why = refusal(c, q, action);

    if (why == NULL && (r = fenced_request_new(f)) == NULL) {
        why = "refused: too many requests under way; cancel some";
    }
    if (why != NULL) {
        answer(c, q, GEMEL__FENCE_RESULT__FENCE_UNKNOWN, why);
        return;
    }
    on = action == FENCE_ACTION_OFF ? pending_on_node(f, q->node, FENCE_ACTION_ON) : NULL;
    if (on != NULL) {
        fenced_request_cancel(on);
    }
    r->record.uid = id_of(q->uid);
    r->record.action = action;
    snprintf(r->record.node, sizeof(r->record.node), "%s", q->node);
    r->record.boot_id = id_of(q->boot_id);
    r->record.join_counter = q->join_counter;
    r->record.timeout_ms = q->timeout_ms;
    r->clients = client_bit(c);
    fenced_request_begin(r, false);
    if (r->record.result == FENCE_RESULT_PENDING) {
        fenced_request_describe(r);
        report_to(r, c);
    }
}

/* A uid seen before has no second effect: the state of the first is reported. */
static void request_act(struct fenced_client *c, const Gemel__FenceRequest *q,
                        enum fence_action action)
{
    struct fenced_request *r = fenced_request_find(c->fenced, id_of(q->uid));

    if (r == NULL) {
        request_begin(c, q, action);
    } else if (!same_request(&r->record, q)) {
        answer(c, q, GEMEL__FENCE_RESULT__FENCE_UNKNOWN,
               "refused: this uid belongs to another request; use a new one");
    } else {
        r->clients |= client_bit(c);
        fenced_request_describe(r);
        report_to(r, c);
    }
}

static void request_query(struct fenced_client *c, const Gemel__FenceRequest *q)
{
    struct fenced_request *r = fenced_request_find(c->fenced, id_of(q->uid));

    if (r == NULL) {
        answer(c, q, GEMEL__FENCE_RESULT__FENCE_UNKNOWN,
               "no request with this uid here; nothing is under way for it");
        return;
    }
    r->clients |= client_bit(c);
    if (q->kind == GEMEL__FENCE_REQUEST__KIND__CANCEL &&
        r->record.result == FENCE_RESULT_PENDING) {
        fenced_request_cancel(r); /* reports */
        return;
    }
    fenced_request_describe(r);
    report_to(r, c);
}

static void request_config(struct fenced_client *c, const Gemel__FenceRequest *q)
{
    struct fenced *f = c->fenced;
    char warning[REASON_LEN_MAX + 1];
    struct conf_error error;
    int r;

    if (fenced_configure(f, q->config, &error, warning) < 0) {
        log_err("configuration refused: %s", error.text);
        answer(c, q, GEMEL__FENCE_RESULT__FENCE_FAILED, error.text);
        return;
    }
    r = fence_store_put_config(f->state_dir, q->config, strlen(q->config));
    if (r < 0) {
        log_err("cannot keep the configuration in %s: %s; after a restart it must be "
                "sent again",
                f->state_dir, strerror(-r));
    }
    log_info("configured: cluster=%s devices=%u%s%s", f->snapshot->conf.name,
             f->snapshot->conf.device_count, warning[0] != '\0' ? "; warning: " : "",
             warning);
    answer(c, q, GEMEL__FENCE_RESULT__FENCE_OK, warning);
}

static void on_request(struct fenced_client *c, const Gemel__FenceRequest *q)
{
    switch (q->kind) {
    case GEMEL__FENCE_REQUEST__KIND__STATUS:
        request_act(c, q, FENCE_ACTION_STATUS);
        return;
    case GEMEL__FENCE_REQUEST__KIND__OFF:
        request_act(c, q, FENCE_ACTION_OFF);
        return;
    case GEMEL__FENCE_REQUEST__KIND__ON:
        request_act(c, q, FENCE_ACTION_ON);
        return;
    case GEMEL__FENCE_REQUEST__KIND__MONITOR:
        request_act(c, q, FENCE_ACTION_MONITOR);
        return;
    case GEMEL__FENCE_REQUEST__KIND__CANCEL:
    case GEMEL__FENCE_REQUEST__KIND__QUERY:
        request_query(c, q);
        return;
    case GEMEL__FENCE_REQUEST__KIND__CONFIG:
        request_config(c, q);
        return;
    default:
        answer(c, q, GEMEL__FENCE_RESULT__FENCE_UNKNOWN,
               "refused: unknown kind of request");
        return;
    }
}

/* Connections
 * ----------------------------------------------------------------------------------------------------
 */

static bool on_hello(struct fenced_client *c, const Gemel__Hello *hello)
{
    if (hello->version_min > PROTO_CTL_VERSION ||
        hello->version < PROTO_CTL_VERSION_MIN) {
        log_warn("client %s speaks versions %u to %u, this is %u: refused",
                 hello->program, hello->version_min, hello->version, PROTO_CTL_VERSION);
        return false;
    }
    loop_timer_del(c->fenced->loop, &c->timer);
    c->hello = true;
    snprintf(c->node, sizeof(c->node), "%s", hello->node);
    return true;
}

static bool on_message(struct fenced_client *c, const struct ctl_msg *msg)
{
    if (msg->kind == CTL_HELLO) {
        return on_hello(c, msg->hello);
    }
    if (!c->hello) {
        return false;
    }
    if (msg->kind == CTL_FENCE_REQUEST) {
        on_request(c, msg->fence_request);
    }
    return true; /* a kind meant for others, or of later versions, is ignored */
}

static int client_ready(int fd, int revents, void *data)
{
    struct fenced_client *c = data;
    enum ctl_reason reason = CTL_OK;
    struct ctl_msg msg;

    (void)revents;
    for (unsigned i = 0; i < MSGS_PER_TURN; i++) {
        bool good;
        int r = ctl_recv(fd, &msg, &reason);

        if (r == -EAGAIN) {
            return 0;
        }
        if (r == -EBADMSG && reason == CTL_UNKNOWN_KIND) {
            continue;
        }
        if (r < 0) {
            if (r == -EBADMSG) {
                log_warn("client %s: %s; connection closed", c->node,
                         ctl_reason_str(reason));
            }
            client_close(c);
            return 0;
        }
        good = on_message(c, &msg);
        ctl_msg_free(&msg);
        if (!good) {
            client_close(c);
            return 0;
        }
    }
    return 0;
}

static void client_late(void *data)
{
    struct fenced_client *c = data;

    c->timer = 0;
    log_warn("client said no hello in %d ms; connection closed", CTL_HANDSHAKE_MS);
    client_close(c);
}

static int client_add(struct fenced *f, int fd)
{
    Gemel__Hello hello = GEMEL__HELLO__INIT;
    struct fenced_client *c = NULL;
    int r;

    for (size_t i = 0; i < CTL_CLIENTS_MAX && c == NULL; i++) {
        c = f->client[i].fd < 0 ? &f->client[i] : NULL;
    }
    if (c == NULL) {
        return -EMFILE;
    }
    *c = (struct fenced_client){.fd = fd, .fenced = f};
    r = loop_timer_add(f->loop, CTL_HANDSHAKE_MS * NSEC_PER_MSEC, client_late, c,
                       &c->timer);
    if (r == 0) {
        r = loop_fd_add(f->loop, fd, POLLIN, client_ready, c);
    }
    if (r < 0) {
        loop_timer_del(f->loop, &c->timer);
        c->fd = -1;
        return r;
    }
    hello.version = PROTO_CTL_VERSION;
    hello.version_min = PROTO_CTL_VERSION_MIN;
    hello.features = FEATURE_NONE;
    hello.program = (char *)"gemel-fenced";
    client_send(c, CTL_HELLO, &hello);
    return 0;
}

static int listen_ready(int fd, int revents, void *data)
{
    struct fenced *f = data;
    struct os_peer peer;
    int client, r;

    (void)revents;
    client = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (client < 0) {
        return 0;
    }
    r = os_unix_peer(client, &peer);
    /* Root only; a fenced that runs as somebody else (a test) serves that user. */
    if (r == 0 && peer.uid != 0 && peer.uid != geteuid()) {
        log_warn("connection of uid %u pid %d refused: only root may fence",
                 (unsigned)peer.uid, (int)peer.pid);
        r = -EPERM;
    }
    if (r == 0) {
        r = client_add(f, client);
    }
    if (r < 0) {
        close(client);
    }
    return 0;
}

int fenced_listen(struct fenced *f)
{
    int r = os_unix_listen(f->socket_path, 0600, &f->listen_fd);

    if (r < 0) {
        f->listen_fd = -1;
        return r;
    }
    return loop_fd_add(f->loop, f->listen_fd, POLLIN, listen_ready, f);
}

void fenced_clients_close(struct fenced *f)
{
    for (size_t i = 0; i < CTL_CLIENTS_MAX; i++) {
        if (f->client[i].fd >= 0) {
            client_close(&f->client[i]);
        }
    }
    if (f->listen_fd >= 0) {
        loop_fd_del(f->loop, f->listen_fd);
        close(f->listen_fd);
        unlink(f->socket_path);
    }
}
