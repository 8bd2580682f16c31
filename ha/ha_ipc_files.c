/* SPDX-License-Identifier: Apache-2.0 */
/* Verbs that look at, or work on, the shared file system: off the loop's thread. */
#include "ha/ha_ipc_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/os.h"
#include "cluster-conf/conf_load.h"
#include "cluster-conf/conf_scalar.h"
#include "ha/ha_text.h"

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

void ha_ipc_check_files(struct ha_ipc *ipc, struct ha_ipc_waiting *w,
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
        ha_ipc_done(ipc, w, EXIT_FAILED, "out of memory");
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

static struct ha_ipc_waiting *find_waiting(struct ha_ipc *ipc, struct uuid op)
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
void ha_ipc_undo(struct ha_ipc *ipc, struct ha_copies *copies)
{
    if (worker_submit(ipc->daemon->worker, 0, ha_copies_undo, undo_done, copies) < 0) {
        free(copies);
    }
}

static void copies_are_the_answer(struct copies_job *job)
{
    const struct ha_copies *c = &job->copies;
    struct ha_ipc_waiting *w = find_waiting(job->ipc, job->op.uid);
    qb_ipcs_connection_t *connection;

    if (w == NULL) {
        return; /* nobody waits for it any more */
    }
    if (c->kind != HA_COPIES_LIST || c->exit_code != EXIT_DONE) {
        ha_ipc_done(job->ipc, w, c->exit_code, c->text);
        return;
    }
    connection = w->connection;
    w->connection = NULL;
    ha_ipc_reply(job->ipc, connection, EXIT_DONE, "", c->body);
    qb_ipcs_connection_unref(connection);
}

static void copies_done(void *data)
{
    struct copies_job *job = data;
    struct ha_copies *c = &job->copies;
    struct ha_ipc_waiting *w = find_waiting(job->ipc, job->op.uid);
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
    const char *name = ha_ipc_option(rq, "snapshot");
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
    const char *clone = ha_ipc_option(rq, "to");
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
bool ha_ipc_on_directories(struct ha_ipc *ipc, struct ha_ipc_waiting *w,
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
        ha_ipc_done(ipc, w, EXIT_FAILED, "out of memory");
        return true;
    }
    job->ipc = ipc;
    job->op = *op;
    job->copies.kind = kind;
    job->copies.dry_run = rq->dry_run;
    exit_code = copies_prepare(ipc, rq, vm, job, text, sizeof text);
    if (exit_code != EXIT_DONE) {
        free(job);
        ha_ipc_done(ipc, w, exit_code, text);
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
        ha_ipc_done(ipc, w, EXIT_FAILED, "out of memory");
    }
    return true;
}
