/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Switching a node on. One process group per power-on, led by the *keeper*, which has the
 * node's mount, network, UTS and IPC namespaces and three children: labfs for the shared
 * directory, labfs for the node's own state, and the node's PID 1 in a PID namespace of
 * its own. SIGKILL to the group is the power cut; nothing survives it, because every
 * namespace is held by these processes only.
 */
#pragma once

#include "lab/lab_conf.h"

/* Ends of socket pairs (lab_ipc) that the node's processes get. */
struct lab_node_fds {
    int keeper; /* keeper -> supervisor: "ports", then "up INIT_PID"; or "failed REASON"
                 */
    int init; /* init <-> supervisor: "daemon NAME PID STATE"; "start NAME", "stop NAME",
                 "halt" */
    int labfs_shared; /* supervisor -> labfs: see labfs.h */
    int labfs_state;
};

/* The keeper: forked by the supervisor, never returns. `node` from 1. */
_Noreturn void lab_node_keeper(const struct lab *lab, unsigned node,
                               const struct lab_node_fds *fds);
/* PID 1 of a node: mounts nothing, starts and supervises the daemons as their systemd
 * units would. */
int lab_init_main(int argc, char *argv[]);
