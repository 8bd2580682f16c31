/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which packets the lab's switch drops, as plain values; how to name a partition. Pure:
 * the supervisor turns it into an nft ruleset. Nodes are numbered from 0 here, called n1,
 * n2, ... by people.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define LAB_NODES_MAX 5

enum lab_link {
    LAB_LINK_UP = 0,
    LAB_LINK_DOWN,       /* no carrier */
    LAB_LINK_ONEWAY_IN,  /* the node hears, nobody hears it */
    LAB_LINK_ONEWAY_OUT, /* the node is heard, and hears nobody */
};

struct lab_fault {
    unsigned node_count;
    bool dark[LAB_NODES_MAX]; /* powered off: nothing comes from any of its ports */
    enum lab_link link[LAB_NODES_MAX];
    bool cut[LAB_NODES_MAX][LAB_NODES_MAX];     /* cluster network, [from][to] */
    bool vm_cut[LAB_NODES_MAX][LAB_NODES_MAX];  /* VM network */
    bool bmc_cut[LAB_NODES_MAX][LAB_NODES_MAX]; /* [node][whose BMC it cannot reach] */
    bool storage_cut[LAB_NODES_MAX];
};

enum lab_fault_reason {
    LAB_FAULT_OK = 0,
    LAB_FAULT_NO_GROUPS, /* fewer than two groups */
    LAB_FAULT_EMPTY_GROUP,
    LAB_FAULT_UNKNOWN_NODE,
    LAB_FAULT_TWICE, /* a node in two groups */
    LAB_FAULT_UNKNOWN_LINK,
};
const char *lab_fault_reason_str(enum lab_fault_reason reason);

/* "n3" -> 2; -1 if there is no such node. */
int lab_fault_node(unsigned node_count, const char *name, size_t len);

/* "n1 / n2,n3": group[i] is 1, 2, ... or 0 for a node that is not named (it hears all).
 * Changed only on LAB_FAULT_OK. */
enum lab_fault_reason lab_fault_groups(const char *text, unsigned node_count,
                                       unsigned group[static LAB_NODES_MAX]);
/* Cuts every pair of different groups in `cut`, both ways; adds to what is cut already.
 */
void lab_fault_cut_groups(bool cut[static LAB_NODES_MAX][LAB_NODES_MAX],
                          const unsigned group[static LAB_NODES_MAX]);
/* "down", "up", "oneway-in" (also "oneway"), "oneway-out". */
enum lab_fault_reason lab_fault_link(const char *text, enum lab_link *ret_link);
const char *lab_link_str(enum lab_link link);
/* Ends every fault of networks and storage; power stays as it is. */
void lab_fault_heal(struct lab_fault *fault);
