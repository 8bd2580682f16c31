/* SPDX-License-Identifier: Apache-2.0 */
/* The CLI's end in the agent: libqb IPC, the peer's uid and gid checked, one request at a
 * time per connection. */
#include "ha/ha_ipc_priv.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>

#include <qb/qbloop.h>

#include "base/log.h"
#include "ha/ha_text.h"

/* A migration that is given up at its timeout says so itself, before the client is told
 * that it goes on. */
#define MIGRATE_END_NS (1500 * NSEC_PER_MSEC)

/* For two nodes that look at their disks: the more is not known, and said to be. */
#define LOOK_NS (5 * NSEC_PER_SEC)

static struct ha_ipc *the_ipc; /* libqb's accept callback brings no context */

void ha_ipc_reply(struct ha_ipc *ipc, qb_ipcs_connection_t *c, uint32_t exit_code,
                  const char *text, const char *json)
{
    if (cli_sender_finish(ipc->sender, c, exit_code, text, json) < 0) {
        log_debug("cli: the client is gone before its answer");
    }
}

void ha_ipc_reply_doc(struct ha_ipc *ipc, qb_ipcs_connection_t *c, char *json,
                      const char *what, const char *name)
{
    char text[256];

    if (json == NULL) {
        ha_text_set(text, sizeof text, "no ", what, " is named ", name, NULL);
        ha_ipc_reply(ipc, c, EXIT_NOT_FOUND, text, NULL);
    } else {
        ha_ipc_reply(ipc, c, EXIT_DONE, "", json);
    }
    free(json);
}

const char *ha_ipc_option(const Gemel__CliRequest *rq, const char *key)
{
    size_t len = strlen(key);

    for (size_t i = 0; i < rq->n_options; i++) {
        if (strncmp(rq->options[i], key, len) == 0 && rq->options[i][len] == '=') {
            return rq->options[i] + len + 1;
        }
    }
    return NULL;
}

/* Changing
 * ----------------------------------------------------------------------------------------------
 */

static const struct {
    const char *verb, *op;
    uint32_t flags;
    enum ha_ipc_goal goal;
} change_table[] = {
    {"cluster apply", "cluster apply", 0, GOAL_NONE},
    {"cluster stop", "cluster stop", 0, GOAL_ALL_STOPPED},
    {"cluster recover", "cluster recover", 0, GOAL_NONE},
    {"vm apply", "vm apply", 0, GOAL_NONE},
    {"vm start", "vm start", 0, GOAL_VM_RUNNING},
    {"vm retry", "vm retry", 0, GOAL_VM_RUNNING},
    {"vm stop", "vm stop", 0, GOAL_VM_STOPPED},
    {"vm kill", "vm stop", HA_OP_KILL, GOAL_VM_STOPPED},
    {"vm delete", "vm delete", 0, GOAL_VM_GONE},
    {"vm suspend", "vm suspend", 0, GOAL_VM_SUSPENDED},
    {"vm resume", "vm resume", 0, GOAL_VM_RUNNING},
    {"vm migrate", "vm migrate", 0, GOAL_VM_MIGRATED},
    {"vm upgrade", "vm upgrade", 0, GOAL_VM_MIGRATED},
    {"vm protect", "vm protect", 0, GOAL_VM_PROTECTED},
    {"vm unprotect", "vm unprotect", 0, GOAL_VM_UNPROTECTED},
    {"vm switchover", "vm switchover", 0, GOAL_VM_SWITCHED},
    {"vm snapshots", "vm snapshots", 0, GOAL_NONE},
    {"vm snapshot", "vm snapshot", 0, GOAL_VM_SNAPSHOT},
    {"vm snapshot-delete", "vm snapshot-delete", 0, GOAL_NONE},
    {"vm revert", "vm revert", 0, GOAL_VM_REVERTED},
    {"vm clone", "vm apply", 0, GOAL_NONE},
    {"node fence", "node fence", 0, GOAL_FENCED},
    {"node maintenance", "node maintenance", 0, GOAL_DRAINED},
    {"node confirm-off", "node confirm-off", 0, GOAL_NONE},
};

static void actor_of(qb_ipcs_connection_t *c, char *text, size_t cap)
{
    uid_t uid = (uid_t)(uintptr_t)qb_ipcs_context_get(c);
    struct passwd *pw = getpwuid(uid);

    ha_text_set(text, cap, pw != NULL ? pw->pw_name : "uid ", NULL);
    if (pw == NULL) {
        ha_text_add_u64(text, cap, uid);
    }
}

/* A line each, as ha_op_move reads them. */
static const char *join_options(const Gemel__CliRequest *rq, char *text, size_t cap)
{
    text[0] = '\0';
    for (size_t i = 0; i < rq->n_options; i++) {
        ha_text_add(text, cap, rq->options[i]);
        ha_text_add(text, cap, "\n");
    }
    return text;
}

static void change(struct ha_ipc *ipc, qb_ipcs_connection_t *c,
                   const Gemel__CliRequest *rq, unsigned index)
{
    struct ha_daemon *d = ipc->daemon;
    struct ha_op op = {.uid = uuid_random(), .flags = change_table[index].flags};
    struct ha_ipc_waiting *w = NULL;
    char options[1024];

    for (unsigned i = 0; w == NULL && i < ARRAY_SIZE(ipc->waiting); i++) {
        w = ipc->waiting[i].connection == NULL ? &ipc->waiting[i] : NULL;
    }
    if (w == NULL) {
        ha_ipc_reply(ipc, c, EXIT_FAILED,
                     "too many requests wait at this node; try again", NULL);
        return;
    }
    if (!d->agent_up) {
        ha_ipc_reply(ipc, c, EXIT_NO_QUORUM,
                     "Corosync does not answer on this node: systemctl status corosync",
                     NULL);
        return;
    }
    if (rq->dry_run) {
        op.flags |= HA_OP_DRY_RUN;
    }
    ha_text_set(op.verb, sizeof op.verb, change_table[index].op, NULL);
    ha_text_set(op.object, sizeof op.object, rq->object, NULL);
    ha_text_set(op.reason, sizeof op.reason, rq->reason, NULL);
    actor_of(c, op.actor, sizeof op.actor);
    op.body = rq->body;
    if (strcmp(op.verb, "vm start") == 0 || strcmp(op.verb, "vm resume") == 0) {
        op.body = ha_ipc_option(rq, "node") != NULL ? ha_ipc_option(rq, "node") : "";
        op.flags |= ha_ipc_option(rq, "discard-state") != NULL ? HA_OP_DISCARD : 0;
        op.flags |= ha_ipc_option(rq, "force") != NULL ? HA_OP_FORCE : 0;
        op.flags |= ha_ipc_option(rq, "accept-copy") != NULL ? HA_OP_ACCEPT : 0;
    }
    if (strcmp(op.verb, "node maintenance") == 0) {
        op.body = ha_ipc_option(rq, "maintenance") != NULL
                      ? ha_ipc_option(rq, "maintenance")
                      : "";
    }
    if (strcmp(op.verb, "vm migrate") == 0 || strcmp(op.verb, "vm upgrade") == 0 ||
        strcmp(op.verb, "vm protect") == 0) {
        op.body = join_options(rq, options, sizeof options);
    }
    op.body_len = (uint32_t)strlen(op.body);
    *w = (struct ha_ipc_waiting){
        .connection = c,
        .op = op.uid,
        .wait = rq->wait && !rq->dry_run,
        .dry_run = rq->dry_run,
        .goal = change_table[index].goal,
        .on = strcmp(op.body, "on") == 0,
        .deadline_ns = loop_now_ns() + rq->timeout_ms * NSEC_PER_MSEC,
        .since_version = d->agent.state.version,
    };
    if (w->goal == GOAL_VM_MIGRATED && ha_ipc_option(rq, "cancel") != NULL) {
        w->goal = GOAL_VM_STAYS;
    } else if (w->goal == GOAL_VM_MIGRATED) {
        w->deadline_ns += MIGRATE_END_NS;
    }
    ha_text_set(w->object, sizeof w->object, rq->object, NULL);
    if (w->goal == GOAL_VM_SWITCHED || w->goal == GOAL_VM_UNPROTECTED) {
        const struct ha_vm *vm = ha_state_vm_by_name(&d->agent.state, rq->object);

        w->since_owner = vm != NULL ? vm->owner : 0;
        w->had_none = vm != NULL && vm->twin.to == 0;
    }
    qb_ipcs_connection_ref(c);
    if (ha_ipc_on_directories(ipc, w, rq, &op)) {
        return;
    }
    if (strcmp(op.verb, "vm apply") == 0) {
        ha_ipc_check_files(ipc, w, &op);
    } else {
        ha_agent_op(&d->agent, &op, loop_now_ns());
    }
}

void ha_ipc_done_doc(struct ha_ipc *ipc, struct ha_ipc_waiting *w, uint32_t exit_code,
                     const char *text, const char *json)
{
    qb_ipcs_connection_t *c = w->connection;
    char *doc = NULL;

    if (exit_code == EXIT_DONE && json == NULL) {
        doc = ha_json_changed(!w->dry_run && !w->unchanged, text);
        json = doc;
    }
    w->connection = NULL;
    ha_ipc_reply(ipc, c, exit_code, text, exit_code == EXIT_DONE ? json : NULL);
    qb_ipcs_connection_unref(c);
    free(doc);
}

void ha_ipc_done(struct ha_ipc *ipc, struct ha_ipc_waiting *w, uint32_t exit_code,
                 const char *text)
{
    ha_ipc_done_doc(ipc, w, exit_code, text, NULL);
}

static void note_thaw(struct ha_ipc *ipc, struct ha_ipc_waiting *w)
{
    const struct ha_vm *vm = ha_state_vm_by_name(&ipc->daemon->agent.state, w->object);

    if (w->goal == GOAL_VM_RUNNING && vm != NULL && ha_vm_paused(vm)) {
        w->thaw = vm->attempt;
    }
}

void ha_ipc_op_done(struct ha_ipc *ipc, const struct ha_op_result *result)
{
    for (unsigned i = 0; i < ARRAY_SIZE(ipc->waiting); i++) {
        struct ha_ipc_waiting *w = &ipc->waiting[i];

        if (w->connection == NULL || !uuid_equal(w->op, result->uid)) {
            continue;
        }
        if (w->undo != NULL) {
            if (result->exit_code != EXIT_DONE) {
                ha_ipc_undo(ipc, w->undo);
            } else {
                free(w->undo);
            }
            w->undo = NULL;
        }
        w->unchanged = result->version == 0;
        if (result->exit_code == EXIT_DONE && w->look_to != 0) {
            w->goal = GOAL_TWIN_LOOKED;
            w->deadline_ns = loop_now_ns() + LOOK_NS;
            w->accepted = true;
            ha_text_set(w->text, sizeof w->text, result->text, NULL);
            ha_ipc_look(ipc);
            return;
        }
        if (result->exit_code != EXIT_DONE || !w->wait || w->goal == GOAL_NONE ||
            ((w->goal == GOAL_VM_MIGRATED || w->goal == GOAL_VM_PROTECTED) &&
             result->version == 0)) {
            ha_ipc_done(ipc, w, result->exit_code, result->text);
            return;
        }
        w->accepted = true;
        note_thaw(ipc, w);
        ha_text_set(w->text, sizeof w->text, result->text, NULL);
    }
}

/* libqb
 * ---------------------------------------------------------------------------------------------------
 */

static bool in_group(uid_t uid, gid_t gid, gid_t group)
{
    gid_t groups[64];
    int count = (int)ARRAY_SIZE(groups);
    struct passwd *pw;

    if (group == (gid_t)-1) {
        return false;
    }
    if (gid == group) {
        return true;
    }
    pw = getpwuid(uid);
    if (pw == NULL || getgrouplist(pw->pw_name, pw->pw_gid, groups, &count) < 0) {
        return false;
    }
    for (int i = 0; i < count; i++) {
        if (groups[i] == group) {
            return true;
        }
    }
    return false;
}

static int32_t on_accept(qb_ipcs_connection_t *c, uid_t uid, gid_t gid)
{
    struct ha_ipc *ipc = the_ipc;

    if (uid != 0 && !in_group(uid, gid, ipc->group)) {
        return -EACCES;
    }
    if (ipc->clients >= CTL_CLIENTS_MAX) {
        return -EAGAIN;
    }
    qb_ipcs_connection_auth_set(c, uid, gid, 0600);
    qb_ipcs_context_set(c, (void *)(uintptr_t)uid);
    return 0;
}

static void on_created(qb_ipcs_connection_t *c)
{
    (void)c;
    the_ipc->clients++;
}

static int32_t on_message(qb_ipcs_connection_t *c, void *data, size_t size)
{
    struct ha_ipc *ipc = the_ipc;
    struct ctl_msg msg;
    bool known = false;
    char text[128];

    if (cli_wire_unpack_request(data, size, &msg) < 0) {
        ha_ipc_reply(
            ipc, c, EXIT_USAGE,
            "the request cannot be read; gemel and gemeld may be of different versions",
            NULL);
        return 0;
    }
    if (!ha_ipc_read(ipc, c, msg.cli_request)) {
        for (unsigned i = 0; i < ARRAY_SIZE(change_table); i++) {
            if (strcmp(change_table[i].verb, msg.cli_request->verb) == 0) {
                change(ipc, c, msg.cli_request, i);
                known = true;
            }
        }
        if (!known) {
            ha_text_set(text, sizeof text, "this agent does not know `",
                        msg.cli_request->verb, "`", NULL);
            ha_ipc_reply(ipc, c, EXIT_USAGE, text, NULL);
        }
    }
    ctl_msg_free(&msg);
    return 0;
}

static int32_t on_closed(qb_ipcs_connection_t *c)
{
    struct ha_ipc *ipc = the_ipc;

    for (unsigned i = 0; i < ARRAY_SIZE(ipc->waiting); i++) {
        if (ipc->waiting[i].connection == c) {
            ipc->waiting[i].connection =
                NULL; /* the change goes on; nobody waits for it here */
            free(ipc->waiting[i].undo);
            ipc->waiting[i].undo = NULL;
            qb_ipcs_connection_unref(c);
        }
    }
    cli_sender_drop(ipc->sender, c);
    ipc->clients--;
    return 0;
}

static void on_destroyed(qb_ipcs_connection_t *c)
{
    (void)c;
}

static int32_t poll_add(enum qb_loop_priority p, int32_t fd, int32_t events, void *data,
                        qb_ipcs_dispatch_fn_t fn)
{
    return qb_loop_poll_add(loop_qb(the_ipc->daemon->loop), p, fd, events, data, fn);
}

static int32_t poll_mod(enum qb_loop_priority p, int32_t fd, int32_t events, void *data,
                        qb_ipcs_dispatch_fn_t fn)
{
    return qb_loop_poll_mod(loop_qb(the_ipc->daemon->loop), p, fd, events, data, fn);
}

static int32_t poll_del(int32_t fd)
{
    return qb_loop_poll_del(loop_qb(the_ipc->daemon->loop), fd);
}

static int32_t job_add(enum qb_loop_priority p, void *data, qb_loop_job_dispatch_fn fn)
{
    /* libqb's own housekeeping after a disconnect: late is fine. */
    return qb_loop_job_add(loop_qb(the_ipc->daemon->loop), p, data, fn);
}

int ha_ipc_new(struct ha_daemon *daemon, struct ha_ipc **ret_ipc)
{
    static struct qb_ipcs_service_handlers handlers = {
        .connection_accept = on_accept,
        .connection_created = on_created,
        .msg_process = on_message,
        .connection_closed = on_closed,
        .connection_destroyed = on_destroyed,
    };
    static struct qb_ipcs_poll_handlers poll_handlers = {.job_add = job_add,
                                                         .dispatch_add = poll_add,
                                                         .dispatch_mod = poll_mod,
                                                         .dispatch_del = poll_del};
    struct ha_ipc *ipc = calloc(1, sizeof *ipc);
    struct group *gr = getgrnam(daemon->node.group);
    int r;

    if (ipc == NULL) {
        return -ENOMEM;
    }
    r = cli_sender_new(daemon->loop, &ipc->sender);
    if (r < 0) {
        free(ipc);
        return r;
    }
    ipc->daemon = daemon;
    ipc->group = gr != NULL ? gr->gr_gid : (gid_t)-1;
    the_ipc = ipc;
    ipc->service = qb_ipcs_create(CLI_WIRE_SERVICE, 0, QB_IPC_SOCKET, &handlers);
    if (ipc->service == NULL) {
        cli_sender_free(ipc->sender);
        free(ipc);
        return -ENOMEM;
    }
    qb_ipcs_enforce_buffer_size(ipc->service, CLI_WIRE_MSG_MAX);
    qb_ipcs_poll_handlers_set(ipc->service, &poll_handlers);
    r = qb_ipcs_run(ipc->service);
    if (r < 0) {
        cli_sender_free(ipc->sender);
        free(ipc);
        return r;
    }
    *ret_ipc = ipc;
    return 0;
}

void ha_ipc_free(struct ha_ipc *ipc)
{
    if (ipc == NULL) {
        return;
    }
    qb_ipcs_destroy(ipc->service);
    cli_sender_free(ipc->sender);
    free(ipc);
}
