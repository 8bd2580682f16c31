/* SPDX-License-Identifier: Apache-2.0 */
/* The CLI's end in the agent, shared by its files (ha_ipc*.c): who waits for what. */
#pragma once

#include <qb/qbdefs.h>
#include <qb/qbipcs.h>

#include "base/cli_send.h"
#include "base/cli_wire.h"
#include "base/uuid.h"
#include "ha/ha_copies.h"
#include "ha/ha_daemon.h"

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

/* What an accepted change leads to, and so what --wait waits for. */
enum ha_ipc_goal {
    GOAL_NONE = 0,
    GOAL_VM_RUNNING,
    GOAL_VM_STOPPED,
    GOAL_VM_GONE,
    GOAL_VM_SUSPENDED,
    GOAL_VM_SNAPSHOT,
    GOAL_VM_REVERTED,
    GOAL_VM_MIGRATED,
    GOAL_VM_PROTECTED,
    GOAL_VM_UNPROTECTED,
    GOAL_VM_SWITCHED,
    GOAL_TWIN_LOOKED, /* a dry run: the two nodes have looked */
    GOAL_VM_STAYS,    /* a migration is given up */
    GOAL_DRAINED,
    GOAL_FENCED,
    GOAL_ALL_STOPPED
};

struct ha_ipc_waiting {
    qb_ipcs_connection_t *connection; /* NULL: free */
    struct uuid op;
    bool accepted; /* by the coordinator and a majority's disks */
    bool wait;
    bool dry_run;
    bool unchanged; /* there was nothing to do */
    bool on;        /* GOAL_DRAINED: into maintenance, or out of it */
    enum ha_ipc_goal goal;
    char object[VM_NAME_MAX + 1];
    uint64_t deadline_ns;
    uint64_t since_version;
    uint32_t since_owner; /* GOAL_VM_SWITCHED: not there any more */
    bool had_none;        /* GOAL_VM_UNPROTECTED: no twin to begin with */
    struct uuid thaw;     /* the attempt to thaw a paused VM; none: it is not about one */
    uint64_t told_ns;     /* progress */
    uint64_t lost_ns;     /* when a migration ended with its VM nowhere; 0: it did not */
    unsigned drain_total, drain_percent; /* most that had to move; highest shown */
    /* GOAL_TWIN_LOOKED: where the twin would be (0: nobody was asked), who has answered,
     * and what stands in its way. */
    uint32_t look_to;
    bool look_sized, look_found;
    char look_text[1200];
    struct ha_copies *undo; /* a clone whose definition is being applied; NULL */
    char text[512];
};

struct ha_ipc {
    struct ha_daemon *daemon;
    qb_ipcs_service_t *service;
    gid_t group;
    struct ha_ipc_waiting waiting[CTL_CLIENTS_MAX];
    unsigned clients;
    struct cli_sender *sender;
};

/* ha_ipc.c: the answer to a request. */
void ha_ipc_reply(struct ha_ipc *ipc, qb_ipcs_connection_t *c, uint32_t exit_code,
                  const char *text, const char *json);
/* With this document, which is freed; NULL: there is no such object. */
void ha_ipc_reply_doc(struct ha_ipc *ipc, qb_ipcs_connection_t *c, char *json,
                      const char *what, const char *name);
/* The same to one that waits; it waits no longer. */
void ha_ipc_done(struct ha_ipc *ipc, struct ha_ipc_waiting *w, uint32_t exit_code,
                 const char *text);
/* With a document; NULL: none but what it changed. */
void ha_ipc_done_doc(struct ha_ipc *ipc, struct ha_ipc_waiting *w, uint32_t exit_code,
                     const char *text, const char *json);
/* Value of `key=value`; NULL: not given. */
const char *ha_ipc_option(const Gemel__CliRequest *rq, const char *key);

/* ha_ipc_read.c: answers a verb that changes no record; false: it is none. */
bool ha_ipc_read(struct ha_ipc *ipc, qb_ipcs_connection_t *c,
                 const Gemel__CliRequest *rq);

/* ha_ipc_files.c: what looks at shared storage, on a worker thread, before it goes to the
 * agent or instead of it. */
void ha_ipc_check_files(struct ha_ipc *ipc, struct ha_ipc_waiting *w,
                        const struct ha_op *op);
/* True: it is done here, or begins here. */
bool ha_ipc_on_directories(struct ha_ipc *ipc, struct ha_ipc_waiting *w,
                           const Gemel__CliRequest *rq, struct ha_op *op);
/* A clone's definition was not taken: nor is its directory kept. Takes `copies`. */
void ha_ipc_undo(struct ha_ipc *ipc, struct ha_copies *copies);

/* ha_ipc_move.c: what those hear who wait for a migration, or for a node to be emptied.
 * drain_goal is true when it is reached, and answered. */
bool ha_ipc_drain_goal(struct ha_ipc *ipc, struct ha_ipc_waiting *w);
void ha_ipc_drain_text(struct ha_ipc *ipc, struct ha_ipc_waiting *w, char *text,
                       size_t cap);
void ha_ipc_tell_progress(struct ha_ipc *ipc, struct ha_ipc_waiting *w, uint64_t now_ns);
