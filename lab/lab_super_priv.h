/* SPDX-License-Identifier: Apache-2.0 */
/* Between lab_super.c (its start, its loop), lab_super_power.c (power and BMCs) and
 * lab_super_verbs.c (requests, faults). One thread. */
#pragma once

#include "lab/lab_conf.h"
#include "lab/lab_fault.h"
#include "lab/lab_util.h"

#define LAB_CLIENTS_MAX 64
#define LAB_DAEMONS_MAX 8

enum power { POWER_OFF, POWER_BOOTING, POWER_ON };
enum bmc_mode { BMC_OK, BMC_HANG, BMC_LIE, BMC_SLOW, BMC_FAIL, BMC_DEAF };

struct node {
    enum power power;
    pid_t keeper, init;     /* the keeper leads the process group */
    int keeper_fd, init_fd; /* -1 when off */
    int labfs_fd[2];
    int waiter; /* client that waits for the end of booting, -1 */
    bool paused;
    unsigned boots;
    char daemon[LAB_DAEMONS_MAX][128]; /* "NAME PID STATE WHY" as labinit reported last */
    /* its BMC */
    pid_t bmc;
    enum bmc_mode mode;
    unsigned slow_ms;
    int lie_power; /* what a lying BMC says: -1 the truth so far, else 0 or 1 */
};

struct super {
    const struct lab *lab;
    struct node node[LAB_NODES_MAX];
    struct lab_fault fault;
    int listen_fd, signal_fd, lifeline;
    int client[LAB_CLIENTS_MAX]; /* -1: free */
    int events_fd;
};

/* What a verb answers: code for the exit status, text, an fd to pass. */
struct answer {
    int code;
    struct lab_text text;
    int fd;
    bool later; /* answered by somebody else, after an event */
};

/* One line of D/log/events.jsonl, with the clock that everything in the lab shares. */
void lab_super_event(struct super *s, const char *what, unsigned node,
                     const char *detail);
/* Puts s->fault into force. */
int lab_super_apply_faults(struct super *s);
/* A control message (labfs.h) to both of a node's. */
void lab_super_labfs_tell(struct super *s, unsigned i, const char *text);
/* Carrier of the node's cluster cable. */
int lab_super_carrier(unsigned node, bool up);
/* Reads a client's request and answers it; closes *slot when it has gone. */
void lab_super_request(struct super *s, int *slot);

const char *lab_super_power_str(enum power power);
const char *lab_super_bmc_str(enum bmc_mode mode);
int lab_super_bmc_start(struct super *s, unsigned i);
/* Tells who waits for the end of booting how it ended. */
void lab_super_answer_waiter(struct super *s, unsigned i, int code, const char *text);
/* A node whose process group is gone without our doing has halted, or failed. */
void lab_super_notice_halted(struct super *s);
void lab_super_reap(struct super *s);
void lab_super_verb_power(struct super *s, unsigned i, const char *what, int client,
                          struct answer *a);
void lab_super_verb_bmc(struct super *s, unsigned i, int argc, const char *argv[],
                        struct answer *a);
void lab_super_verb_chassis(struct super *s, unsigned i, int argc, const char *argv[],
                            struct answer *a);
