/* SPDX-License-Identifier: Apache-2.0 */
/* Inside gemel-fenced: shared by fencing/fenced*.c only. */
#pragma once

#include <stdint.h>

#include "base/limits.h"
#include "base/loop.h"
#include "base/proto_ctl.h"
#include "fencing/fence_exec.h"
#include "fencing/fence_record.h"
#include "fencing/fence_req.h"
#include "fencing/fenced.h"

/* A configuration, kept as long as a request uses it. */
struct fenced_snapshot {
    unsigned refs;
    struct conf_cluster conf;
};

enum fenced_leg_state {
    FENCED_LEG_IDLE = 0,
    FENCED_LEG_WAITING, /* another request has the device */
    FENCED_LEG_RUNNING,
};

/* One device within one request; the same index as in fence_req. */
struct fenced_leg {
    struct fenced_request *request;
    const struct conf_fence_device *device; /* in the snapshot */
    enum fenced_leg_state state;
    struct fence_act act;    /* WAITING, RUNNING */
    struct fence_exec *exec; /* RUNNING */
    uint64_t begin_ns;       /* RUNNING */
    struct fence_exec *warm; /* status agent, started while the action runs, held until
                                its reading is due */
    char detail[REASON_LEN_MAX + 1]; /* of the latest run */
};

struct fenced_request {
    bool used;
    struct fenced *fenced;
    struct fence_record record;
    struct fence_req req;
    struct fenced_snapshot *snapshot;
    struct fenced_leg leg[FENCE_LEGS_MAX];
    loop_timer timer;
    uint64_t clients; /* bit per slot of fenced->client: who gets reports */
};

/* An agent of a settled request, killed but not gone yet: its device is not free before.
 */
struct fenced_dying {
    struct fenced *fenced;
    const struct fence_exec *exec; /* NULL: free slot */
    char device[NODE_NAME_MAX + 1];
};

#define FENCED_DYING_MAX 64

/* An agent held for the `off` that probably follows a suspicion, or for its reading. */
struct fenced_ready {
    struct fenced *fenced;
    struct fence_exec *exec;                   /* NULL: free slot */
    char device[NODE_NAME_MAX + 1], agent[64]; /* as in conf_fence_device */
    loop_timer timer;                          /* nobody wanted it */
};

#define FENCED_READY_MAX 16

struct fenced_client {
    int fd; /* -1: free */
    bool hello;
    char node[NODE_NAME_MAX + 1]; /* the agent's own, from its hello */
    loop_timer timer;             /* until hello */
    struct fenced *fenced;
};

struct fenced {
    struct loop *loop;
    struct fence_runner *runner;
    struct fenced_snapshot *snapshot; /* NULL: not configured */
    bool levels_parallel;
    char state_dir[PATH_LEN_MAX];
    char secrets_dir[PATH_LEN_MAX];
    char socket_path[PATH_LEN_MAX];
    int lock_fd, listen_fd;
    uint64_t order_last;
    loop_timer report_timer;
    loop_timer dispatch_timer; /* a reading that is in an action's way has had its time */
    bool dispatching;
    struct fenced_dying dying[FENCED_DYING_MAX];
    struct fenced_ready ready[FENCED_READY_MAX];
    struct fenced_client client[CTL_CLIENTS_MAX];
    struct fenced_request request[FENCE_REQUESTS_MAX];
};

/* fenced_conf.c */
/* 0, or -EINVAL with *ret_error. *ret_warning (may be empty): accepted, but a person
 * should look. */
int fenced_configure(struct fenced *fenced, const char *yaml,
                     struct conf_error *ret_error, char ret_warning[REASON_LEN_MAX + 1]);
void fenced_snapshot_unref(struct fenced_snapshot *snapshot);

/* fenced_run.c: requests */
struct fenced_request *fenced_request_find(struct fenced *fenced, struct uuid uid);
/* A free slot, made by forgetting an old settled request where needed; NULL: all are in
 * flight. */
struct fenced_request *fenced_request_new(struct fenced *fenced);
/* record is filled in; begins it. Reports go to request->clients. */
void fenced_request_begin(struct fenced_request *request, bool read_only);
void fenced_request_cancel(struct fenced_request *request);
/* Brings record.elapsed_ms, attempts, detail up to date. */
void fenced_request_describe(struct fenced_request *request);
void fenced_request_drop(struct fenced_request *request);
void fenced_ready_free(struct fenced *fenced);

/* fenced_ctl.c: clients */
void fenced_report(struct fenced_request *request);
int fenced_listen(struct fenced *fenced);
void fenced_clients_close(struct fenced *fenced);
