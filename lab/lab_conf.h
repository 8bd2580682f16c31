/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a lab looks like: names, addresses, and the text of every file and command that
 * follows from them.
 *
 * Each lab has its own network namespace ("hub") with three bridges; addresses are the
 * same in every lab, nothing of them is visible outside. Node i (from 1) has in its own
 * namespace eth0  10.78.0.i     cluster network   hub port cl-ni on br-cl bmc0  10.79.0.i
 * management        hub port bmc-ni on br-bmc; BMC of node i: 10.79.0.(100+i), on the
 * bridge itself br0   10.77.i.1/16  VM network        vm0 in br0, hub port vm-ni on
 * br-vm; the hub (witness): 10.77.0.1
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "lab/lab_fault.h"
#include "lab/lab_util.h"

#define LAB_BMC_PORT     623
#define LAB_BMC_USER     "admin"
#define LAB_BMC_PASSWORD "lab-secret"

struct lab {
    char prefix[24];
    char dir[PATH_LEN_MAX]; /* absolute, without symbolic links */
    unsigned node_count;
    unsigned token_ms, coefficient_ms;
    bool agents;
    bool dir_created; /* by us: removed by down */
    /* Of the running lab: the supervisor, PID 1 of the lab's PID namespace. Killing it
     * ends everything. */
    pid_t pid;
    uint64_t start_time;
    char boot_id[40]; /* of this machine when it was started */
};

/* D/lab.json. Written before anything is created; load returns -ENOENT when there is no
 * lab. */
int lab_save(const struct lab *lab);
int lab_load(const char *dir, struct lab *ret_lab);

/* Makes D/nodes, D/bmc, D/shared, D/log and all configuration. Writes the file that
 * failed into *ret_path. */
int lab_write_tree(const struct lab *lab, struct lab_path *ret_path);

/* ip -batch: the hub's bridges; a node's devices (run in the node's namespace, hub = PID
 * 1); its hub ports. */
void lab_ip_hub(const struct lab *lab, struct lab_text *text);
void lab_ip_node(const struct lab *lab, unsigned node, struct lab_text *text);
void lab_ip_ports(unsigned node, struct lab_text *text);
/* The whole ruleset, replacing the one before in one transaction. */
void lab_nft(const struct lab_fault *fault, struct lab_text *text);
