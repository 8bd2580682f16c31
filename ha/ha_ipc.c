/* SPDX-License-Identifier: Apache-2.0 */
/* The CLI's end in the agent: libqb IPC, the peer's uid and gid checked, one request at a
 * time per connection. */
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <qb/qbdefs.h>
#include <qb/qbipcs.h>
#include <qb/qbloop.h>

#include "base/cli_send.h"
#include "base/cli_wire.h"
#include "base/log.h"
#include "base/os.h"
#include "base/uuid.h"
#include "cluster-conf/conf_load.h"
#include "cluster-conf/conf_scalar.h"
#include "ha/ha_copies.h"
#include "ha/ha_daemon.h"
#include "ha/ha_text.h"

enum {
    EXIT_DONE = 0,
    EXIT_FAILED = 1,
    EXIT_USAGE = 2,
    EXIT_NOT_FOUND = 3,
    EXIT_REFUSED = 4,
    EXIT_TIMED_OUT = 5,
    EXIT_NO_QUORUM = 6,
    EXIT_NOT_PERMITTED = 8
};

#define TELL_NS (500 * NSEC_PER_MSEC)
/* A migration that is given up at its timeout says so itself, before the client is told
 * that it goes on. */
#define MIGRATE_END_NS (1500 * NSEC_PER_MSEC)

/* What an accepted change leads to, and so what --wait waits for. */
enum goal {
    GOAL_NONE = 0,
    GOAL_VM_RUNNING,
    GOAL_VM_STOPPED,
    GOAL_VM_GONE,
    GOAL_VM_SUSPENDED,
    GOAL_VM_SNAPSHOT,
    GOAL_VM_REVERTED,
    GOAL_VM_MIGRATED,
    GOAL_VM_STAYS, /* a migration is given up */
    GOAL_DRAINED,
    GOAL_FENCED,
    GOAL_ALL_STOPPED
};

struct waiting {
    qb_ipcs_connection_t *connection; /* NULL: free */
    struct uuid op;
    bool accepted; /* by the coordinator and a majority's disks */
    bool wait;
    bool dry_run;
    enum goal goal;
    char object[VM_NAME_MAX + 1];
    uint64_t deadline_ns;
    uint64_t since_version;
    struct uuid thaw; /* the attempt to thaw a paused VM; none: it is not about one */
    uint64_t told_ns; /* progress */
    struct ha_copies *undo; /* a clone whose definition is being applied; NULL */
    char text[512];
};

struct ha_ipc {
    struct ha_daemon *daemon;
    qb_ipcs_service_t *service;
    gid_t group;
    struct waiting waiting[CTL_CLIENTS_MAX];
    unsigned clients;
    struct cli_sender *sender;
};

static struct ha_ipc *the_ipc; /* libqb's accept callback brings no context */

static void reply(struct ha_ipc *ipc, qb_ipcs_connection_t *c, uint32_t exit_code,
                  const char *text, const char *json)
{
    if (cli_sender_finish(ipc->sender, c, exit_code, text, json) < 0) {
        log_debug("cli: the client is gone before its answer");
    }
}

static void reply_doc(struct ha_ipc *ipc, qb_ipcs_connection_t *c, char *json,
                      const char *what, const char *name)
{
    char text[256];

    if (json == NULL) {
        ha_text_set(text, sizeof text, "no ", what, " is named ", name, NULL);
        reply(ipc, c, EXIT_NOT_FOUND, text, NULL);
    } else {
        reply(ipc, c, EXIT_DONE, "", json);
    }
    free(json);
}

static const char *option(const Gemel__CliRequest *rq, const char *key)
{
    size_t len = strlen(key);

    for (size_t i = 0; i < rq->n_options; i++) {
        if (strncmp(rq->options[i], key, len) == 0 && rq->options[i][len] == '=') {
            return rq->options[i] + len + 1;
        }
    }
    return NULL;
}

/* Reading
 * --------------------------------------------------------------------------------------------
 */

static void read_status(struct ha_ipc *ipc, qb_ipcs_connection_t *c)
{
    struct ha_daemon *d = ipc->daemon;
    uint32_t code = !d->agent.view.quorate ? EXIT_NO_QUORUM
                    : ha_json_healthy(d)   ? EXIT_DONE
                                           : EXIT_FAILED;
    char *json = ha_json_status(d);

    /* The CLI renders the document and derives its exit code from it. */
    (void)code;
    reply(ipc, c, EXIT_DONE, "", json);
    free(json);
}

static void read_console(struct ha_ipc *ipc, qb_ipcs_connection_t *c, const char *name)
{
    struct ha_daemon *d = ipc->daemon;
    const struct ha_vm *vm = ha_state_vm_by_name(&d->agent.state, name);
    char path[PATH_LEN_MAX * 2], json[PATH_LEN_MAX * 2 + 32], text[256];

    if (vm == NULL) {
        ha_text_set(text, sizeof text, "no VM is named ", name, NULL);
        reply(ipc, c, EXIT_NOT_FOUND, text, NULL);
    } else if (d->vmm == NULL || !ha_vmm_console(d->vmm, vm->uuid, path, sizeof path)) {
        const struct ha_node *owner = ha_state_node(&d->agent.state, vm->owner);

        ha_text_set(text, sizeof text, name, " does not run on this node; it is ",
                    ha_vm_state_str(vm->state), owner != NULL ? " on " : "",
                    owner != NULL ? owner->name : "", NULL);
        reply(ipc, c, EXIT_FAILED, text, NULL);
    } else {
        snprintf(json, sizeof json, "{\"socket\":\"%s\"}", path);
        reply(ipc, c, EXIT_DONE, "", json);
    }
}

/* No record of it: a VM that starts again has all its memory. */
static void balloon(struct ha_ipc *ipc, qb_ipcs_connection_t *c, const char *name,
                    const char *size)
{
    struct ha_daemon *d = ipc->daemon;
    const struct ha_vm *vm = ha_state_vm_by_name(&d->agent.state, name);
    const struct ha_node *owner;
    const char *why;
    uint64_t bytes;
    char text[256];

    if (vm == NULL) {
        ha_text_set(text, sizeof text, "no VM is named ", name, NULL);
        reply(ipc, c, EXIT_NOT_FOUND, text, NULL);
        return;
    }
    if (size == NULL || conf_scalar_size(size, &bytes) != CONF_SCALAR_OK) {
        ha_text_set(text, sizeof text, name, ": balloon: ", size != NULL ? size : "",
                    " is not a size; write for example 512MiB, or 0B", NULL);
        reply(ipc, c, EXIT_USAGE, text, NULL);
        return;
    }
    why =
        d->vmm != NULL ? ha_vmm_balloon_set(d->vmm, vm->uuid, bytes) : "no VM runs here";
    owner = ha_state_node(&d->agent.state, vm->owner);
    if (why != NULL) {
        ha_text_set(text, sizeof text, name, ": balloon: ", why, "; it is ",
                    ha_vm_state_str(vm->state), owner != NULL ? " on " : "",
                    owner != NULL ? owner->name : "", NULL);
        reply(ipc, c, EXIT_REFUSED, text, NULL);
        return;
    }
    ha_text_set(text, sizeof text, name, ": asked to do without ", size,
                "; gemel vm show tells how far it is", NULL);
    reply(ipc, c, EXIT_DONE, text, NULL);
}

static bool read_verb(struct ha_ipc *ipc, qb_ipcs_connection_t *c,
                      const Gemel__CliRequest *rq)
{
    struct ha_daemon *d = ipc->daemon;
    const char *since = option(rq, "since"), *after = option(rq, "after");

    if (strcmp(rq->verb, "status") == 0) {
        read_status(ipc, c);
    } else if (strcmp(rq->verb, "node list") == 0) {
        reply_doc(ipc, c, ha_json_nodes(d), "node", "");
    } else if (strcmp(rq->verb, "vm list") == 0) {
        reply_doc(ipc, c, ha_json_vms(d), "VM", "");
    } else if (strcmp(rq->verb, "vm show") == 0) {
        reply_doc(ipc, c, ha_json_vm(d, rq->object), "VM", rq->object);
    } else if (strcmp(rq->verb, "events") == 0) {
        reply_doc(ipc, c,
                  ha_json_events(d, since != NULL ? strtoull(since, NULL, 10) : 0,
                                 after != NULL ? strtoull(after, NULL, 10) : 0),
                  "", "");
    } else if (strcmp(rq->verb, "explain") == 0) {
        reply_doc(ipc, c, ha_json_explain(d, rq->object), "VM or node", rq->object);
    } else if (strcmp(rq->verb, "cluster cpu-baseline") == 0) {
        reply_doc(ipc, c, ha_json_cpu(d), "", "");
    } else if (strcmp(rq->verb, "cluster show") == 0) {
        reply_doc(ipc, c, ha_json_cluster(d), "cluster definition",
                  "yet: gemel cluster apply");
    } else if (strcmp(rq->verb, "vm balloon") == 0) {
        balloon(ipc, c, rq->object, option(rq, "size"));
    } else if (strcmp(rq->verb, "vm console") == 0) {
        read_console(ipc, c, rq->object);
    } else {
        return false;
    }
    return true;
}

/* Changing
 * ----------------------------------------------------------------------------------------------
 */

static const struct {
    const char *verb, *op;
    uint32_t flags;
    enum goal goal;
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

static void done(struct ha_ipc *ipc, struct waiting *w, uint32_t exit_code,
                 const char *text);

/* A definition's files lie on shared storage. A hard mount that hangs may hold a worker
 * thread, never the agent's loop. */
struct files_job {
    struct ha_ipc *ipc;
    struct ha_op op;
    char *body;
    char vmroot[PATH_LEN_MAX];
    struct conf_error error;
    int r;
};

static void files_work(void *data)
{
    struct files_job *job = data;
    struct conf_vm *conf = malloc(sizeof *conf);

    if (conf == NULL) {
        ha_text_set(job->error.text, sizeof job->error.text, "out of memory", NULL);
        job->r = -ENOMEM;
        return;
    }
    job->r =
        conf_vm_load(job->body, job->op.body_len, "VM definition", conf, &job->error);
    if (job->r == 0) {
        job->r = conf_vm_check_files(conf, job->vmroot, &job->error);
        if (job->r < 0) {
            conf_error_locate_in(&job->error, job->body, job->op.body_len,
                                 "VM definition");
        }
    }
    free(conf);
}

static void files_done(void *data)
{
    struct files_job *job = data;
    struct ha_op_result result = {.uid = job->op.uid, .exit_code = EXIT_FAILED};

    if (job->r < 0) {
        ha_text_set(result.text, sizeof result.text, job->error.text, NULL);
        ha_ipc_op_done(job->ipc, &result);
    } else {
        job->op.body = job->body;
        ha_agent_op(&job->ipc->daemon->agent, &job->op, loop_now_ns());
    }
    free(job->body);
    free(job);
}

static void check_files_first(struct ha_ipc *ipc, struct waiting *w,
                              const struct ha_op *op)
{
    struct files_job *job = calloc(1, sizeof *job);

    if (job != NULL) {
        job->ipc = ipc;
        job->op = *op;
        job->body = strdup(op->body);
        ha_text_set(job->vmroot, sizeof job->vmroot, ipc->daemon->node.vmroot, NULL);
    }
    if (job == NULL || job->body == NULL ||
        worker_submit(ipc->daemon->worker, 0, files_work, files_done, job) < 0) {
        free(job != NULL ? job->body : NULL);
        free(job);
        done(ipc, w, EXIT_FAILED, "out of memory");
    }
}

/* Verbs that begin, or are done, on the shared file system: at the node that was asked.
 */
struct copies_job {
    struct ha_ipc *ipc;
    struct ha_op op;
    char snapshot[SNAPSHOT_ID_MAX + 1];
    struct ha_copies copies;
};

static void copies_work(void *data)
{
    ha_copies_work(&((struct copies_job *)data)->copies);
}

static struct waiting *find_waiting(struct ha_ipc *ipc, struct uuid op)
{
    for (unsigned i = 0; i < ARRAY_SIZE(ipc->waiting); i++) {
        if (ipc->waiting[i].connection != NULL && uuid_equal(ipc->waiting[i].op, op)) {
            return &ipc->waiting[i];
        }
    }
    return NULL;
}

static void undo_done(void *data)
{
    free(data);
}

/* The definition was not taken: nor is the directory kept. */
static void undo(struct ha_ipc *ipc, struct ha_copies *copies)
{
    if (worker_submit(ipc->daemon->worker, 0, ha_copies_undo, undo_done, copies) < 0) {
        free(copies);
    }
}

static void copies_are_the_answer(struct copies_job *job)
{
    const struct ha_copies *c = &job->copies;
    struct waiting *w = find_waiting(job->ipc, job->op.uid);
    qb_ipcs_connection_t *connection;

    if (w == NULL) {
        return; /* nobody waits for it any more */
    }
    if (c->kind != HA_COPIES_LIST || c->exit_code != EXIT_DONE) {
        done(job->ipc, w, c->exit_code, c->text);
        return;
    }
    connection = w->connection;
    w->connection = NULL;
    reply(job->ipc, connection, EXIT_DONE, "", c->body);
    qb_ipcs_connection_unref(connection);
}

static void copies_done(void *data)
{
    struct copies_job *job = data;
    struct ha_copies *c = &job->copies;
    struct waiting *w = find_waiting(job->ipc, job->op.uid);
    bool op_follows = c->exit_code == EXIT_DONE &&
                      (c->kind == HA_COPIES_CHECK || c->kind == HA_COPIES_CLONE) &&
                      !(c->kind == HA_COPIES_CLONE && c->dry_run);

    if (!op_follows) {
        copies_are_the_answer(job);
    } else {
        if (c->kind == HA_COPIES_CLONE && w != NULL) {
            w->undo = malloc(sizeof *w->undo);
            if (w->undo != NULL) {
                *w->undo = *c;
                w->undo->body = NULL;
            }
        }
        job->op.body = c->kind == HA_COPIES_CLONE ? c->body : job->snapshot;
        job->op.body_len = (uint32_t)strlen(job->op.body);
        ha_agent_op(&job->ipc->daemon->agent, &job->op, loop_now_ns());
    }
    free(c->body);
    free(job);
}

static enum ha_copies_kind copies_kind(const Gemel__CliRequest *rq,
                                       const struct ha_vm *vm)
{
    if (strcmp(rq->verb, "vm snapshots") == 0) {
        return HA_COPIES_LIST;
    }
    if (strcmp(rq->verb, "vm snapshot-delete") == 0) {
        return HA_COPIES_DELETE;
    }
    if (strcmp(rq->verb, "vm revert") == 0) {
        return HA_COPIES_CHECK;
    }
    if (strcmp(rq->verb, "vm clone") == 0) {
        return HA_COPIES_CLONE;
    }
    if (strcmp(rq->verb, "vm snapshot") == 0 && vm != NULL && ha_vm_rests(vm)) {
        return HA_COPIES_SNAPSHOT;
    }
    return HA_COPIES_NONE;
}

/* The name that a snapshot gets, or is called by. */
static bool snapshot_name(const Gemel__CliRequest *rq, char *ret_id)
{
    const char *name = option(rq, "snapshot");
    time_t now = (time_t)(os_wall_ns() / NSEC_PER_SEC);
    struct tm tm;

    if (name == NULL && strcmp(rq->verb, "vm snapshot") == 0) {
        strftime(ret_id, SNAPSHOT_ID_MAX + 1, "%Y%m%d-%H%M%S", gmtime_r(&now, &tm));
        return true;
    }
    ret_id[0] = '\0';
    if (name == NULL) {
        return strcmp(rq->verb, "vm clone") == 0 || strcmp(rq->verb, "vm snapshots") == 0;
    }
    if (strlen(name) > SNAPSHOT_ID_MAX || !conf_name_ok(name) || name[0] == '.') {
        return false;
    }
    ha_text_set(ret_id, SNAPSHOT_ID_MAX + 1, name, NULL);
    return true;
}

/* 0, or the exit code of the refusal. */
static uint32_t copies_prepare(struct ha_ipc *ipc, const Gemel__CliRequest *rq,
                               const struct ha_vm *vm, struct copies_job *job, char *text,
                               size_t cap)
{
    const char *clone = option(rq, "to");
    struct ha_copies *c = &job->copies;
    const struct ha_node *owner;

    if (!snapshot_name(rq, job->snapshot)) {
        ha_text_set(text, cap, rq->verb,
                    ": a snapshot's name is 1 to 63 letters, digits, '.', '_' and '-'",
                    NULL);
        return EXIT_USAGE;
    }
    if (vm == NULL || vm->conf == NULL) {
        ha_text_set(text, cap, vm == NULL ? "no VM is named " : "unreadable definition: ",
                    rq->object, "; see gemel vm list", NULL);
        return vm == NULL ? EXIT_NOT_FOUND : EXIT_FAILED;
    }
    owner = ha_state_node(&ipc->daemon->agent.state, vm->owner);
    if (c->kind == HA_COPIES_DELETE && vm->task != HA_TASK_NONE &&
        strcmp(vm->snapshot, job->snapshot) == 0) {
        ha_text_set(text, cap, vm->name, ": snapshot ", job->snapshot, " is in use",
                    NULL);
        return EXIT_REFUSED;
    }
    if (c->kind == HA_COPIES_CLONE &&
        (clone == NULL || !conf_name_ok(clone) || strlen(clone) > VM_NAME_MAX ||
         ha_state_vm_by_name(&ipc->daemon->agent.state, clone) != NULL)) {
        ha_text_set(text, cap, vm->name, ": not cloned: ", clone != NULL ? clone : "\"\"",
                    " is not a name for a VM, or that of another one", NULL);
        return EXIT_REFUSED;
    }
    if (vm->state == HA_VM_RUNNING && owner != NULL &&
        ha_view_has(&ipc->daemon->agent.view, vm->owner)) {
        ha_text_set(c->runs_on, sizeof c->runs_on, owner->name, NULL);
    }
    c->vm = vm->uuid;
    c->conf = *vm->conf;
    ha_text_set(c->conf.name, sizeof c->conf.name, vm->name, NULL);
    ha_text_set(c->vmroot, sizeof c->vmroot, ipc->daemon->node.vmroot, NULL);
    ha_text_set(c->snapshot.dir, sizeof c->snapshot.dir, c->vmroot, "/", vm->name, NULL);
    ha_text_set(c->snapshot.id, sizeof c->snapshot.id, job->snapshot, NULL);
    ha_text_set(c->snapshot.node, sizeof c->snapshot.node, ipc->daemon->node.name, NULL);
    if (c->kind == HA_COPIES_CHECK || c->kind == HA_COPIES_SNAPSHOT) {
        ha_fit_of_conf(&c->conf, ha_daemon_cpu_model(ipc->daemon, c->conf.cpu),
                       &c->snapshot.fit);
    }
    ha_text_set(c->clone, sizeof c->clone, clone != NULL ? clone : "", NULL);
    return EXIT_DONE;
}

/* True: it is done here, or begins here. */
static bool on_directories(struct ha_ipc *ipc, struct waiting *w,
                           const Gemel__CliRequest *rq, struct ha_op *op)
{
    const struct ha_vm *vm = ha_state_vm_by_name(&ipc->daemon->agent.state, rq->object);
    enum ha_copies_kind kind = copies_kind(rq, vm);
    struct copies_job *job;
    char text[512];
    uint32_t exit_code;

    if (kind == HA_COPIES_NONE && strcmp(rq->verb, "vm snapshot") != 0) {
        return false;
    }
    job = calloc(1, sizeof *job);
    if (job == NULL) {
        done(ipc, w, EXIT_FAILED, "out of memory");
        return true;
    }
    job->ipc = ipc;
    job->op = *op;
    job->copies.kind = kind;
    job->copies.dry_run = rq->dry_run;
    exit_code = copies_prepare(ipc, rq, vm, job, text, sizeof text);
    if (exit_code != EXIT_DONE) {
        free(job);
        done(ipc, w, exit_code, text);
        return true;
    }
    if (kind == HA_COPIES_NONE) { /* a running VM: its owner takes the snapshot */
        job->op.body = job->snapshot;
        job->op.body_len = (uint32_t)strlen(job->snapshot);
        ha_agent_op(&ipc->daemon->agent, &job->op, loop_now_ns());
        free(job);
    } else if (worker_submit(ipc->daemon->worker,
                             kind == HA_COPIES_LIST || kind == HA_COPIES_CHECK
                                 ? 0
                                 : HA_DAEMON_WRITERS_KEY,
                             copies_work, copies_done, job) < 0) {
        free(job);
        done(ipc, w, EXIT_FAILED, "out of memory");
    }
    return true;
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
    struct waiting *w = NULL;
    char options[1024];

    for (unsigned i = 0; w == NULL && i < ARRAY_SIZE(ipc->waiting); i++) {
        w = ipc->waiting[i].connection == NULL ? &ipc->waiting[i] : NULL;
    }
    if (w == NULL) {
        reply(ipc, c, EXIT_FAILED, "too many requests wait at this node; try again",
              NULL);
        return;
    }
    if (!d->agent_up) {
        reply(ipc, c, EXIT_NO_QUORUM,
              "Corosync does not answer on this node: systemctl status corosync", NULL);
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
        op.body = option(rq, "node") != NULL ? option(rq, "node") : "";
        op.flags |= option(rq, "discard-state") != NULL ? HA_OP_DISCARD : 0;
    }
    if (strcmp(op.verb, "node maintenance") == 0) {
        op.body = option(rq, "maintenance") != NULL ? option(rq, "maintenance") : "";
    }
    if (strcmp(op.verb, "vm migrate") == 0) {
        op.body = join_options(rq, options, sizeof options);
    }
    op.body_len = (uint32_t)strlen(op.body);
    *w = (struct waiting){
        .connection = c,
        .op = op.uid,
        .wait = rq->wait && !rq->dry_run,
        .dry_run = rq->dry_run,
        .goal = change_table[index].goal,
        .deadline_ns = loop_now_ns() + rq->timeout_ms * NSEC_PER_MSEC,
        .since_version = d->agent.state.version,
    };
    if (w->goal == GOAL_VM_MIGRATED && option(rq, "cancel") != NULL) {
        w->goal = GOAL_VM_STAYS;
    } else if (w->goal == GOAL_VM_MIGRATED) {
        w->deadline_ns += MIGRATE_END_NS;
    }
    ha_text_set(w->object, sizeof w->object, rq->object, NULL);
    qb_ipcs_connection_ref(c);
    if (on_directories(ipc, w, rq, &op)) {
        return;
    }
    if (strcmp(op.verb, "vm apply") == 0) {
        check_files_first(ipc, w, &op);
    } else {
        ha_agent_op(&d->agent, &op, loop_now_ns());
    }
}

static void done(struct ha_ipc *ipc, struct waiting *w, uint32_t exit_code,
                 const char *text)
{
    qb_ipcs_connection_t *c = w->connection;

    w->connection = NULL;
    reply(ipc, c, exit_code, text,
          exit_code != EXIT_DONE ? NULL
          : w->dry_run           ? "{\"changed\":false}"
                                 : "{\"changed\":true}");
    qb_ipcs_connection_unref(c);
}

static void note_thaw(struct ha_ipc *ipc, struct waiting *w)
{
    const struct ha_vm *vm = ha_state_vm_by_name(&ipc->daemon->agent.state, w->object);

    if (w->goal == GOAL_VM_RUNNING && vm != NULL && ha_vm_paused(vm)) {
        w->thaw = vm->attempt;
    }
}

void ha_ipc_op_done(struct ha_ipc *ipc, const struct ha_op_result *result)
{
    for (unsigned i = 0; i < ARRAY_SIZE(ipc->waiting); i++) {
        struct waiting *w = &ipc->waiting[i];

        if (w->connection == NULL || !uuid_equal(w->op, result->uid)) {
            continue;
        }
        if (w->undo != NULL) {
            if (result->exit_code != EXIT_DONE) {
                undo(ipc, w->undo);
            } else {
                free(w->undo);
            }
            w->undo = NULL;
        }
        if (result->exit_code != EXIT_DONE || !w->wait || w->goal == GOAL_NONE ||
            (w->goal == GOAL_VM_MIGRATED && result->version == 0)) {
            done(ipc, w, result->exit_code, result->text);
            return;
        }
        w->accepted = true;
        note_thaw(ipc, w);
        ha_text_set(w->text, sizeof w->text, result->text, NULL);
    }
}

/* It rests, and is wanted so: the order ended, or another one came. */
static bool gave_up_start(struct ha_ipc *ipc, struct waiting *w, const struct ha_vm *vm)
{
    bool suspended = vm->state == HA_VM_SUSPENDED && vm->desired == HA_DESIRED_SUSPENDED;
    bool said = strncmp(vm->reason, "not ", 4) == 0;
    char text[512];

    if (!suspended && (vm->state != HA_VM_STOPPED || vm->desired != HA_DESIRED_STOPPED)) {
        return false;
    }
    ha_text_set(text, sizeof text, vm->name, ": ",
                said        ? ""
                : suspended ? "not resumed: "
                            : "not started: ",
                vm->reason, NULL);
    done(ipc, w, EXIT_FAILED, text);
    return true;
}

/* True: reached or failed for good, and answered. */
static bool vm_goal(struct ha_ipc *ipc, struct waiting *w)
{
    struct ha_state *s = &ipc->daemon->agent.state;
    const struct ha_vm *vm = ha_state_vm_by_name(s, w->object);
    char text[512];

    if (vm == NULL) {
        ha_text_set(text, sizeof text, w->object,
                    w->goal == GOAL_VM_GONE ? ": deleted" : ": was deleted", NULL);
        done(ipc, w, w->goal == GOAL_VM_GONE ? EXIT_DONE : EXIT_NOT_FOUND, text);
        return true;
    }
    if (w->goal == GOAL_VM_RUNNING && vm->state == HA_VM_RUNNING) {
        const struct ha_node *owner = ha_state_node(s, vm->owner);

        ha_text_set(text, sizeof text, vm->name, ": running on ",
                    owner != NULL ? owner->name : "?", NULL);
        done(ipc, w, EXIT_DONE, text);
        return true;
    }
    if (w->goal == GOAL_VM_RUNNING && vm->version > w->since_version &&
        (vm->state == HA_VM_HELD || (vm->state == HA_VM_FAILED && vm->failures >= 2))) {
        ha_text_set(text, sizeof text, vm->name, ": not started: ", vm->reason, NULL);
        done(ipc, w, EXIT_FAILED, text);
        return true;
    }
    if (!uuid_is_none(w->thaw) && ha_vm_paused(vm) && !uuid_equal(w->thaw, vm->attempt)) {
        ha_text_set(text, sizeof text, vm->name, ": still ", vm->reason, NULL);
        done(ipc, w, EXIT_FAILED, text);
        return true;
    }
    if (w->goal == GOAL_VM_RUNNING && vm->version > w->since_version &&
        gave_up_start(ipc, w, vm)) {
        return true;
    }
    if (w->goal == GOAL_VM_STOPPED && vm->state == HA_VM_STOPPED) {
        ha_text_set(text, sizeof text, vm->name, ": stopped: ", vm->reason, NULL);
        done(ipc, w, EXIT_DONE, text);
        return true;
    }
    return false;
}

/* What ends with a word in the record: vm->last. */
static bool task_goal(struct ha_ipc *ipc, struct waiting *w)
{
    const struct ha_vm *vm = ha_state_vm_by_name(&ipc->daemon->agent.state, w->object);
    bool ended, good;
    char text[512];

    if (vm == NULL) {
        return vm_goal(ipc, w);
    }
    if (w->goal == GOAL_VM_MIGRATED || w->goal == GOAL_VM_STAYS) {
        ended = vm->move.to == 0;
        good = ended && vm->last_failed == (w->goal == GOAL_VM_STAYS);
    } else if (w->goal == GOAL_VM_SUSPENDED) {
        good = vm->state == HA_VM_SUSPENDED;
        ended = good || vm->desired != HA_DESIRED_SUSPENDED ||
                vm->state == HA_VM_STOPPED || vm->state == HA_VM_HELD;
    } else {
        ended =
            vm->task != (w->goal == GOAL_VM_SNAPSHOT ? HA_TASK_SNAPSHOT : HA_TASK_REVERT);
        good = ended && !vm->last_failed;
        ended =
            ended && (!good || vm->state == HA_VM_RUNNING || ha_vm_rests(vm)) &&
            !(good && vm->state == HA_VM_SUSPENDED && vm->desired == HA_DESIRED_RUNNING);
        good = good && vm->state != HA_VM_FAILED && vm->state != HA_VM_HELD;
    }
    if (!ended) {
        return false;
    }
    ha_text_set(text, sizeof text, vm->name, ": ",
                vm->last[0] != '\0' ? vm->last : vm->reason, NULL);
    done(ipc, w, good ? EXIT_DONE : EXIT_FAILED, text);
    return true;
}

static bool fence_goal(struct ha_ipc *ipc, struct waiting *w)
{
    const struct ha_node *node =
        ha_state_node_by_name(&ipc->daemon->agent.state, w->object);
    char text[512];

    if (node == NULL || node->version <= w->since_version ||
        node->fence == HA_FENCE_PENDING) {
        return false;
    }
    ha_text_set(text, sizeof text, node->name,
                node->fence == HA_FENCE_OK ? ": off: " : ": not fenced: ",
                node->fence_detail, NULL);
    done(ipc, w, node->fence == HA_FENCE_OK ? EXIT_DONE : EXIT_FAILED, text);
    return true;
}

#define LEFT_NAMED_MAX 4u
#define LEFT_TEXT_MAX  (LEFT_NAMED_MAX * (VM_NAME_MAX + 2) + 32)

/* What still runs there: how many VMs, and in `names` what they are called. */
static unsigned drain_left(struct ha_ipc *ipc, uint32_t nodeid, char *names, size_t cap)
{
    const struct ha_state *s = &ipc->daemon->agent.state;
    unsigned left = 0;

    names[0] = '\0';
    for (unsigned i = 0; i < s->vm_count; i++) {
        const struct ha_vm *vm = s->vm[i];

        if (vm->owner != nodeid || ha_vm_rests(vm)) {
            continue;
        }
        if (left < LEFT_NAMED_MAX) {
            ha_text_add(names, cap, left > 0 ? ", " : "");
            ha_text_add(names, cap, vm->name);
        }
        left++;
    }
    if (left > LEFT_NAMED_MAX) {
        ha_text_add(names, cap, " and ");
        ha_text_add_u64(names, cap, left - LEFT_NAMED_MAX);
        ha_text_add(names, cap, " more");
    }
    return left;
}

/* Why the first of them is there still. */
static const char *drain_why(struct ha_ipc *ipc, uint32_t nodeid)
{
    const struct ha_state *s = &ipc->daemon->agent.state;

    for (unsigned i = 0; i < s->vm_count; i++) {
        if (s->vm[i]->owner == nodeid && !ha_vm_rests(s->vm[i])) {
            return s->vm[i]->reason;
        }
    }
    return "";
}

/* A VM is on its way there since before the maintenance: it arrives, and leaves. */
static bool one_comes(struct ha_ipc *ipc, uint32_t nodeid)
{
    const struct ha_state *s = &ipc->daemon->agent.state;

    for (unsigned i = 0; i < s->vm_count; i++) {
        if (s->vm[i]->move.to == nodeid) {
            return true;
        }
    }
    return false;
}

static bool drain_goal(struct ha_ipc *ipc, struct waiting *w)
{
    const struct ha_node *node =
        ha_state_node_by_name(&ipc->daemon->agent.state, w->object);
    char text[512];

    if (node == NULL ||
        (node->maintenance && (one_comes(ipc, node->nodeid) ||
                               drain_left(ipc, node->nodeid, text, sizeof text) > 0))) {
        return false;
    }
    ha_text_set(text, sizeof text, w->object,
                node->maintenance ? ": in maintenance; nothing runs there"
                                  : ": maintenance is over; its VMs come back",
                NULL);
    done(ipc, w, EXIT_DONE, text);
    return true;
}

static bool all_stopped(struct ha_ipc *ipc, struct waiting *w)
{
    const struct ha_state *s = &ipc->daemon->agent.state;

    for (unsigned i = 0; i < s->vm_count; i++) {
        if (s->vm[i]->state != HA_VM_STOPPED && s->vm[i]->state != HA_VM_SUSPENDED) {
            return false;
        }
    }
    done(ipc, w, EXIT_DONE, "cluster stop: every VM is stopped and released");
    return true;
}

/* Who has not left yet, and why. */
static void drain_text(struct ha_ipc *ipc, struct waiting *w, char *text, size_t cap)
{
    const struct ha_node *node =
        ha_state_node_by_name(&ipc->daemon->agent.state, w->object);
    char names[LEFT_TEXT_MAX] = "";
    unsigned left = node != NULL ? drain_left(ipc, node->nodeid, names, sizeof names) : 0;

    if (left == 0) {
        ha_text_set(text, cap, w->object,
                    ": in maintenance, but a VM is on its way there; it goes on", NULL);
        return;
    }
    ha_text_set(text, cap, w->object, ": in maintenance, but ", NULL);
    ha_text_add_u64(text, cap, left);
    ha_text_add(text, cap, left == 1 ? " VM has not left: " : " VMs have not left: ");
    ha_text_add(text, cap, names);
    ha_text_add(text, cap, left == 1 ? ": " : "; the first: ");
    ha_text_add(text, cap, node != NULL ? drain_why(ipc, node->nodeid) : "");
    ha_text_add(text, cap, "; it goes on");
}

static void timed_out(struct ha_ipc *ipc, struct waiting *w)
{
    const struct ha_vm *vm =
        w->goal == GOAL_VM_RUNNING
            ? ha_state_vm_by_name(&ipc->daemon->agent.state, w->object)
            : NULL;
    char text[512];

    if (!w->accepted) {
        ha_text_set(text, sizeof text, w->object,
                    ": no majority has said in time that it is accepted; it may still "
                    "be done: gemel status",
                    NULL);
    } else if (w->goal == GOAL_DRAINED) {
        drain_text(ipc, w, text, sizeof text);
    } else {
        ha_text_set(text, sizeof text, w->object, ": accepted, but not done in time",
                    vm != NULL ? ": " : "", vm != NULL ? vm->reason : "",
                    "; it goes on: gemel explain ", w->object, NULL);
    }
    done(ipc, w, EXIT_TIMED_OUT, text);
}

static void add_rate(char *text, size_t cap, const char *what, uint64_t bps)
{
    ha_text_add(text, cap, what);
    ha_text_add_u64(text, cap, bps >> 20);
    ha_text_add(text, cap, " MiB/s");
}

/* "42 % web1: n1 -> n2, round 3, 310 MiB/s, dirty 12 MiB/s, about 4 s left" */
static void move_text(struct ha_ipc *ipc, const struct ha_vm *vm, char *text, size_t cap)
{
    struct ha_daemon *d = ipc->daemon;
    const struct ha_move_progress *p =
        ha_agent_progress_of(&d->agent, vm->uuid, loop_now_ns());
    const struct ha_node *from = ha_state_node(&d->agent.state, vm->owner);
    const struct ha_node *to = ha_state_node(&d->agent.state, vm->move.to);

    text[0] = '\0';
    ha_text_add_u64(text, cap, p != NULL ? p->percent : 0);
    ha_text_add(text, cap, " % ");
    ha_text_add(text, cap, vm->name);
    ha_text_add(text, cap, ": ");
    ha_text_add(text, cap, from != NULL ? from->name : "?");
    ha_text_add(text, cap, " -> ");
    ha_text_add(text, cap, to != NULL ? to->name : "?");
    if (p == NULL) {
        return;
    }
    ha_text_add(text, cap, ", round ");
    ha_text_add_u64(text, cap, p->round);
    add_rate(text, cap, ", ", p->bps);
    add_rate(text, cap, ", dirty ", p->dirty_bps);
    if (p->throttle > 0) {
        ha_text_add(text, cap, ", vCPUs held back ");
        ha_text_add_u64(text, cap, p->throttle / 10);
        ha_text_add(text, cap, " %");
    }
    if (p->eta_ms == UINT64_MAX) {
        ha_text_add(text, cap, ", does not converge yet");
    } else {
        ha_text_add(text, cap, ", about ");
        ha_text_add_u64(text, cap, (p->eta_ms + 999) / 1000);
        ha_text_add(text, cap, " s left");
    }
}

/* Of a node that is being emptied: how many are left, and the one that moves. */
static void drain_progress(struct ha_ipc *ipc, struct waiting *w, char *text, size_t cap)
{
    const struct ha_state *s = &ipc->daemon->agent.state;
    const struct ha_node *node = ha_state_node_by_name(s, w->object);
    char names[LEFT_TEXT_MAX];

    ha_text_set(text, cap, "0 % ", NULL);
    if (node == NULL) {
        text[0] = '\0';
        return;
    }
    for (unsigned i = 0; i < s->vm_count; i++) {
        if (s->vm[i]->move.to != 0 && s->vm[i]->owner == node->nodeid) {
            move_text(ipc, s->vm[i], text, cap);
            break;
        }
    }
    ha_text_add(text, cap, strcmp(text, "0 % ") != 0 ? "; " : "");
    ha_text_add_u64(text, cap, drain_left(ipc, node->nodeid, names, sizeof names));
    ha_text_add(text, cap, " left on ");
    ha_text_add(text, cap, w->object);
}

static void tell_progress(struct ha_ipc *ipc, struct waiting *w, uint64_t now_ns)
{
    const struct ha_vm *vm = ha_state_vm_by_name(&ipc->daemon->agent.state, w->object);
    char text[512] = "";

    if (now_ns - w->told_ns < TELL_NS) {
        return;
    }
    w->told_ns = now_ns;
    if (w->goal == GOAL_DRAINED) {
        drain_progress(ipc, w, text, sizeof text);
    } else if (w->goal == GOAL_VM_MIGRATED && vm != NULL && vm->move.to != 0) {
        move_text(ipc, vm, text, sizeof text);
    }
    if (text[0] != '\0') {
        cli_sender_progress(ipc->sender, w->connection, text);
    }
}

void ha_ipc_look(struct ha_ipc *ipc)
{
    uint64_t now_ns = loop_now_ns();

    for (unsigned i = 0; i < ARRAY_SIZE(ipc->waiting); i++) {
        struct waiting *w = &ipc->waiting[i];
        bool answered = false;

        if (w->connection == NULL) {
            continue;
        }
        if (w->accepted) {
            switch (w->goal) {
            case GOAL_FENCED:
                answered = fence_goal(ipc, w);
                break;
            case GOAL_DRAINED:
                answered = drain_goal(ipc, w);
                break;
            case GOAL_ALL_STOPPED:
                answered = all_stopped(ipc, w);
                break;
            case GOAL_VM_RUNNING:
            case GOAL_VM_STOPPED:
            case GOAL_VM_GONE:
                answered = vm_goal(ipc, w);
                break;
            case GOAL_VM_SUSPENDED:
            case GOAL_VM_SNAPSHOT:
            case GOAL_VM_REVERTED:
            case GOAL_VM_MIGRATED:
            case GOAL_VM_STAYS:
                answered = task_goal(ipc, w);
                break;
            case GOAL_NONE:
            default:
                break;
            }
        }
        if (!answered && now_ns >= w->deadline_ns) {
            timed_out(ipc, w);
        } else if (!answered && w->accepted) {
            tell_progress(ipc, w, now_ns);
        }
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
        reply(ipc, c, EXIT_USAGE,
              "the request cannot be read; gemel and gemeld may be of different versions",
              NULL);
        return 0;
    }
    if (!read_verb(ipc, c, msg.cli_request)) {
        for (unsigned i = 0; i < ARRAY_SIZE(change_table); i++) {
            if (strcmp(change_table[i].verb, msg.cli_request->verb) == 0) {
                change(ipc, c, msg.cli_request, i);
                known = true;
            }
        }
        if (!known) {
            ha_text_set(text, sizeof text, "this agent does not know `",
                        msg.cli_request->verb, "`", NULL);
            reply(ipc, c, EXIT_USAGE, text, NULL);
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
