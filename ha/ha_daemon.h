/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gemeld: the agent core (ha_agent) with its shells: Corosync, record log, gemel-fenced,
 * local VMs, CLI. One loop thread.
 */
#pragma once

#include "base/loop.h"
#include "base/worker.h"
#include "ha/ha_agent.h"
#include "ha/ha_corosync.h"
#include "ha/ha_fencelink.h"
#include "ha/ha_store.h"
#include "ha/ha_vmm.h"

struct ha_event {
    uint64_t n;   /* counts what this agent saw: for `events --follow` */
    uint64_t seq; /* version of the update: the same on every node. 0: seen by this node
                     only */
    uint64_t mono_ns; /* CLOCK_MONOTONIC here */
    uint64_t wall_ns; /* for people */
    char text[REASON_LEN_MAX + 1];
};

/* A status reading that said "off" before the view was made: sent once there is a term to
 * send it in. */
struct ha_early_proof {
    bool have;
    struct ha_fence_report report;
};

struct ha_ipc;

struct ha_daemon {
    struct loop *loop;
    struct conf_node node;
    struct ha_mem mem;
    struct ha_agent agent;
    bool agent_up; /* Corosync told the node id; everything below exists */
    struct ha_corosync *corosync;
    struct ha_store *store;
    struct ha_fencelink *fencelink;
    struct ha_vmm *vmm;
    struct ha_ipc *ipc;
    struct worker *worker; /* looks at files on shared storage, which may hang */
    bool fenced_connected;
    bool store_failed;
    uint64_t store_retry_ns;
    bool reincarnating,
        failed; /* the loop was stopped for the supervisor to start anew */
    uint64_t start_ns;
    loop_timer tick_timer;
    uint64_t not_quorate_since_ns; /* 0: quorate */
    bool isolated;
    bool suspected[NODES_MAX]; /* by index in agent.state.node */
    struct ha_early_proof early[NODES_MAX];
    char fence_progress[NODES_MAX][REASON_LEN_MAX + 1];
    uint64_t events_seen;
    unsigned event_next, event_count;
    struct ha_event event[EVENTS_KEPT];
    char conf_text[512]; /* of the last refused definition */
};

int ha_daemon_new(struct loop *loop, const struct conf_node *node,
                  struct ha_daemon **ret_daemon);
void ha_daemon_free(struct ha_daemon *daemon);
/* Counts up whenever the shared state or a local VM changed: ha_ipc looks at its waiting
 * requests again. */
void ha_daemon_event(struct ha_daemon *daemon, uint64_t seq, const char *text);

/* Key of jobs of `worker` that write copies on shared storage: they run one at a time, so
 * that what else this node has there under way was left by an agent that is no more. */
#define HA_DAEMON_WRITERS_KEY 1
/* Text of a CPU model of the cluster definition; NULL: there is none of this name. */
const char *ha_daemon_cpu_model(const struct ha_daemon *daemon, const char *name);

/* ha_json.c: the documents of the CLI (json-c), to be freed with free(). NULL: not found.
 */
char *ha_json_status(struct ha_daemon *daemon);
char *ha_json_vm(struct ha_daemon *daemon, const char *name);
char *ha_json_nodes(struct ha_daemon *daemon);
char *ha_json_vms(struct ha_daemon *daemon);
char *ha_json_cpu(struct ha_daemon *daemon);
/* since: only of later versions (0: all); after: only later ones of this agent's own
 * count. */
char *ha_json_events(struct ha_daemon *daemon, uint64_t since, uint64_t after);
char *ha_json_explain(struct ha_daemon *daemon, const char *name);
char *ha_json_cluster(struct ha_daemon *daemon);
/* The document of an order that was carried out. */
char *ha_json_changed(bool changed, const char *text);
/* That of a migration that ended well, as its record has it. */
char *ha_json_moved(const struct ha_vm *vm);
/* True when nothing is wrong that somebody should look at. */
bool ha_json_healthy(struct ha_daemon *daemon);

/* ha_ipc.c */
int ha_ipc_new(struct ha_daemon *daemon, struct ha_ipc **ret_ipc);
void ha_ipc_free(struct ha_ipc *ipc);
void ha_ipc_op_done(struct ha_ipc *ipc, const struct ha_op_result *result);
/* Something changed, or time passed: answers what can be answered. */
void ha_ipc_look(struct ha_ipc *ipc);
/* A step of a look at what a twin would meet (ha_twinlook.c): perhaps one of ours. */
void ha_ipc_twin_look(struct ha_ipc *ipc, const struct ha_twin_look *look);
