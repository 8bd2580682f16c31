/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fake/fake_cli_server.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <qb/qbipcs.h>
#include <qb/qbloop.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cli_send.h"
#include "base/cli_wire.h"
#include "base/log.h"
#include "base/units.h"

#define GROUPS_MAX 256
#define ACTOR_MAX  64

struct client {
    uint64_t id; /* never used twice */
    qb_ipcs_connection_t *connection;
    struct cli_server *server;
    bool pending; /* a request waits for its final reply */
    void *kept;   /* a final reply that did not fit the socket */
    size_t kept_len;
    unsigned retries;
    loop_timer retry;
    struct client *next;
    char actor[ACTOR_MAX];
};

struct cli_server {
    struct loop *loop;
    qb_ipcs_service_t *service;
    struct client *clients;
    unsigned client_count;
    uint64_t next_id;
    char group[32];
    cli_server_request_fn fn;
    void *data;
    struct cli_sender *sender;
    void *buf;                /* CLI_WIRE_MSG_MAX bytes */
    char accepted[ACTOR_MAX]; /* who: libqb makes the connection right behind its
                                 acceptance */
};

/* libqb's poll handlers carry no context. */
static struct cli_server *the_server;

/* ---- libqb's view of the loop ---- */

static int32_t add_dispatch(enum qb_loop_priority priority, int32_t fd, int32_t events,
                            void *data, qb_ipcs_dispatch_fn_t fn)
{
    (void)priority; /* lower ones are served late, see base/loop_qb.c */
    return qb_loop_poll_add(loop_qb(the_server->loop), QB_LOOP_HIGH, fd, events, data,
                            fn);
}

static int32_t mod_dispatch(enum qb_loop_priority priority, int32_t fd, int32_t events,
                            void *data, qb_ipcs_dispatch_fn_t fn)
{
    (void)priority;
    return qb_loop_poll_mod(loop_qb(the_server->loop), QB_LOOP_HIGH, fd, events, data,
                            fn);
}

static int32_t del_dispatch(int32_t fd)
{
    return qb_loop_poll_del(loop_qb(the_server->loop), fd);
}

/* ---- who may ---- */

static bool is_member(uid_t uid, gid_t gid, const char *group_name)
{
    const struct group *group = group_name[0] != '\0' ? getgrnam(group_name) : NULL;
    gid_t wanted, groups[GROUPS_MAX];
    int count = GROUPS_MAX;
    const struct passwd *user;

    if (group == NULL) {
        return false;
    }
    wanted = group->gr_gid;
    if (gid == wanted) {
        return true;
    }
    user = getpwuid(uid);
    if (user == NULL || getgrouplist(user->pw_name, user->pw_gid, groups, &count) < 0) {
        return false;
    }
    for (int i = 0; i < count; i++) {
        if (groups[i] == wanted) {
            return true;
        }
    }
    return false;
}

static int32_t on_accept(qb_ipcs_connection_t *connection, uid_t uid, gid_t gid)
{
    const struct passwd *user;

    if (uid != 0 && uid != geteuid() && !is_member(uid, gid, the_server->group)) {
        log_warn("cli: uid=%u refused: not in group %s", (unsigned)uid,
                 the_server->group);
        return -EACCES;
    }
    if (the_server->client_count >= CTL_CLIENTS_MAX) {
        log_warn("cli: uid=%u refused: %d clients are connected", (unsigned)uid,
                 CTL_CLIENTS_MAX);
        return -EMFILE;
    }
    user = getpwuid(uid);
    snprintf(the_server->accepted, sizeof the_server->accepted, "%s(uid %u)",
             user != NULL ? user->pw_name : "?", (unsigned)uid);
    /* The connection's files belong to the client; else only root could open them. */
    qb_ipcs_connection_auth_set(connection, uid, gid, 0600);
    return 0;
}

/* ---- connections ---- */

static void on_created(qb_ipcs_connection_t *connection)
{
    struct client *client = calloc(1, sizeof *client);

    if (client != NULL) {
        client->id = ++the_server->next_id;
        client->connection = connection;
        client->server = the_server;
        memcpy(client->actor, the_server->accepted, sizeof client->actor);
        client->next = the_server->clients;
        the_server->clients = client;
        the_server->client_count++;
    }
    qb_ipcs_context_set(connection, client);
}

static int32_t on_closed(qb_ipcs_connection_t *connection)
{
    (void)connection;
    return 0;
}

static void on_destroyed(qb_ipcs_connection_t *connection)
{
    struct client *client = qb_ipcs_context_get(connection);

    for (struct client **p = &the_server->clients; *p != NULL; p = &(*p)->next) {
        if (*p == client) {
            *p = client->next;
            the_server->client_count--;
            cli_sender_drop(the_server->sender, connection);
            free(client);
            return;
        }
    }
}

static int32_t on_message(qb_ipcs_connection_t *connection, void *data, size_t size)
{
    struct client *client = qb_ipcs_context_get(connection);
    struct ctl_msg msg;
    char *claimed;

    if (client == NULL || client->pending) {
        qb_ipcs_disconnect(connection); /* one request at a time */
        return 0;
    }
    client->pending = true;
    if (cli_wire_unpack_request(data, size, &msg) < 0) {
        cli_server_finish(
            the_server, client->id, 1,
            "the request cannot be read; gemel and gemeld may be of different versions",
            NULL);
        return 0;
    }
    claimed =
        msg.cli_request->actor; /* whatever the client wrote there; the message owns it */
    msg.cli_request->actor = client->actor;
    the_server->fn(client->id, msg.cli_request, the_server->data);
    msg.cli_request->actor = claimed;
    ctl_msg_free(&msg);
    return 0;
}

static struct client *find_client(struct cli_server *server, uint64_t id)
{
    struct client *client = server->clients;

    while (client != NULL && client->id != id) {
        client = client->next;
    }
    return client;
}

/* ---- replies ---- */

int cli_server_reply(struct cli_server *server, uint64_t id, const Gemel__CliReply *reply)
{
    struct client *client = find_client(server, id);
    ssize_t sent;
    size_t len;

    if (client == NULL || !client->pending) {
        return -ESTALE;
    }
    if (reply->final) {
        client->pending = false;
        return cli_sender_finish(server->sender, client->connection, reply->exit_code,
                                 reply->text, reply->json);
    }
    len = cli_wire_pack_reply(reply, server->buf);
    if (len == 0) {
        return -EMSGSIZE;
    }
    sent = qb_ipcs_response_send(client->connection, server->buf, len);
    return sent < 0 ? (int)sent : 0;
}

int cli_server_finish(struct cli_server *server, uint64_t client, uint32_t exit_code,
                      const char *text, const char *json)
{
    Gemel__CliReply reply = GEMEL__CLI_REPLY__INIT;

    reply.final = true;
    reply.exit_code = exit_code;
    reply.text = (char *)(uintptr_t)text;
    if (json != NULL) {
        reply.json = (char *)(uintptr_t)json;
    }
    return cli_server_reply(server, client, &reply);
}

/* ---- life ---- */

int cli_server_new(struct loop *loop, const char *service, const char *group,
                   cli_server_request_fn fn, void *data, struct cli_server **ret_server)
{
    static struct qb_ipcs_service_handlers handlers = {
        .connection_accept = on_accept,
        .connection_created = on_created,
        .msg_process = on_message,
        .connection_closed = on_closed,
        .connection_destroyed = on_destroyed,
    };
    static struct qb_ipcs_poll_handlers poll_handlers = {
        .job_add = NULL, /* only for a connection_closed that wants to be called again */
        .dispatch_add = add_dispatch,
        .dispatch_mod = mod_dispatch,
        .dispatch_del = del_dispatch,
    };
    const char *env = getenv(CLI_WIRE_SERVICE_ENV);
    struct cli_server *server;
    int r = -ENOMEM;

    if (the_server != NULL) {
        return -EBUSY;
    }
    server = calloc(1, sizeof *server);
    if (server == NULL) {
        return -ENOMEM;
    }
    server->loop = loop;
    server->fn = fn;
    server->data = data;
    snprintf(server->group, sizeof server->group, "%s", group != NULL ? group : "");
    server->buf = aligned_alloc(8, (CLI_WIRE_MSG_MAX + 7) & ~(size_t)7);
    if (server->buf == NULL) {
        goto out;
    }
    r = cli_sender_new(loop, &server->sender);
    if (r < 0) {
        goto out;
    }
    the_server = server;
    server->service = qb_ipcs_create(service != NULL ? service
                                     : env != NULL   ? env
                                                     : CLI_WIRE_SERVICE,
                                     0, QB_IPC_SOCKET, &handlers);
    if (server->service == NULL) {
        r = errno != 0 ? -errno : -EIO;
        goto out;
    }
    qb_ipcs_enforce_buffer_size(server->service, CLI_WIRE_MSG_MAX);
    qb_ipcs_poll_handlers_set(server->service, &poll_handlers);
    r = qb_ipcs_run(server->service);
    if (r < 0) {
        server->service = NULL; /* a failed run drops the service */
        goto out;
    }
    *ret_server = server;
    server = NULL;
    r = 0;
out:
    cli_server_free(server);
    return r;
}

void cli_server_free(struct cli_server *server)
{
    if (server == NULL) {
        return;
    }
    if (server->service != NULL) {
        qb_ipcs_destroy(server->service);
    }
    while (server->clients != NULL) {
        struct client *client = server->clients;

        server->clients = client->next;
        free(client);
    }
    cli_sender_free(server->sender);
    free(server->buf);
    if (the_server == server) {
        the_server = NULL;
    }
    free(server);
}
