/* SPDX-License-Identifier: Apache-2.0 */
/* What gemel-lab asks of the supervisor: one request, one answer. */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lab/lab_ipc.h"
#include "lab/lab_super_priv.h"

#define ARG_LEN_MAX 128

/* ---- faults ---- */

int lab_super_apply_faults(struct super *s)
{
    static const char *const argv[] = {"nft", "-f", "-", NULL};
    struct lab_text text = {0};
    char *output = NULL;

    lab_nft(&s->fault, &text);
    int r = lab_run(argv, text.buf, &output);
    if (r != 0) {
        lab_error("nft refused the lab's rules (%d): %s", r,
                  output != NULL ? output : "");
    }
    free(output);
    lab_text_free(&text);
    return r == 0 ? 0 : -EIO;
}

void lab_super_labfs_tell(struct super *s, unsigned i, const char *text)
{
    for (size_t k = 0; k < 2; k++) {
        if (s->node[i].labfs_fd[k] >= 0) {
            lab_ipc_send(s->node[i].labfs_fd[k], text, strlen(text), -1);
        }
    }
}

int lab_super_carrier(unsigned node, bool up)
{
    struct lab_path port = lab_path("cl-n%u", node);
    const char *const argv[] = {"ip", "link", "set", port.s, up ? "up" : "down", NULL};

    return lab_run(argv, NULL, NULL) == 0 ? 0 : -EIO;
}

static void verb_link(struct super *s, unsigned i, const char *what, struct answer *a)
{
    enum lab_link old = s->fault.link[i];

    enum lab_fault_reason reason = lab_fault_link(what, &s->fault.link[i]);
    if (reason != LAB_FAULT_OK) {
        a->code = 2;
        lab_text_add(&a->text, "link: %s is %s", what, lab_fault_reason_str(reason));
        return;
    }
    int r = lab_super_apply_faults(s);
    if (s->node[i].power != POWER_OFF &&
        (old == LAB_LINK_DOWN) != (s->fault.link[i] == LAB_LINK_DOWN)) {
        r = lab_super_carrier(i + 1, old == LAB_LINK_DOWN);
    }
    a->code = r < 0;
    lab_super_event(s, "link", i + 1, what);
}

/* partition [--vm] [--bmc] [--storage] n1 / n2,n3 */
static void verb_partition(struct super *s, int argc, const char *argv[],
                           struct answer *a)
{
    unsigned group[LAB_NODES_MAX];
    struct lab_text text = {0};
    bool vm = false, bmc = false, storage = false;

    lab_text_add(&text, "%s", "");
    for (int k = 0; k < argc; k++) {
        vm = vm || strcmp(argv[k], "--vm") == 0;
        bmc = bmc || strcmp(argv[k], "--bmc") == 0;
        storage = storage || strcmp(argv[k], "--storage") == 0;
        if (argv[k][0] != '-') {
            lab_text_add(&text, "%s ", argv[k]);
        }
    }
    enum lab_fault_reason reason = lab_fault_groups(text.buf, s->lab->node_count, group);
    if (reason != LAB_FAULT_OK) {
        a->code = 2;
        lab_text_add(&a->text, "partition %s: %s", text.buf,
                     lab_fault_reason_str(reason));
        goto out;
    }
    lab_fault_cut_groups(s->fault.cut, group);
    if (vm) {
        lab_fault_cut_groups(s->fault.vm_cut, group);
    }
    if (bmc) {
        lab_fault_cut_groups(s->fault.bmc_cut, group);
    }
    a->code = lab_super_apply_faults(s) < 0;
    for (unsigned i = 0; storage && i < s->lab->node_count; i++) {
        /* Storage has no side of its own: the group that is named first is the one that
         * loses it. */
        if (group[i] == 1) {
            s->fault.storage_cut[i] = true;
            lab_super_labfs_tell(s, i, "hang 1");
        }
    }
    lab_super_event(s, "partition", 0, text.buf);
out:
    lab_text_free(&text);
}

static void verb_heal(struct super *s, struct answer *a)
{
    for (unsigned i = 0; i < s->lab->node_count; i++) {
        if (s->fault.link[i] == LAB_LINK_DOWN && s->node[i].power != POWER_OFF) {
            lab_super_carrier(i + 1, true);
        }
        lab_super_labfs_tell(s, i, "heal");
    }
    lab_fault_heal(&s->fault);
    a->code = lab_super_apply_faults(s) < 0;
    lab_super_event(s, "heal", 0, "");
}

/* ---- processes of a node ---- */

/* The pids (in our namespace) of every process in the node's PID namespace whose program
 * is `name` (NULL: all). */
static size_t node_pids(const struct node *n, const char *name, pid_t *pids, size_t cap)
{
    struct lab_path path = lab_path("/proc/%d/ns/pid", (int)n->init);
    struct stat own, st;
    struct dirent *entry;
    size_t count = 0;

    if (n->power != POWER_ON || stat(path.s, &own) < 0) {
        return 0;
    }
    DIR *d = opendir("/proc");
    while (d != NULL && (entry = readdir(d)) != NULL && count < cap) {
        char exe[PATH_LEN_MAX];
        unsigned pid;
        if (!lab_number(entry->d_name, 1, INT_MAX, &pid)) {
            continue;
        }
        path = lab_path("/proc/%s/ns/pid", entry->d_name);
        if (stat(path.s, &st) < 0 || st.st_ino != own.st_ino) {
            continue;
        }
        path = lab_path("/proc/%s/exe", entry->d_name);
        ssize_t len = readlink(path.s, exe, sizeof exe - 1);
        exe[len > 0 ? len : 0] = '\0';
        const char *base = strrchr(exe, '/');
        if (name == NULL || (base != NULL && strcmp(base + 1, name) == 0)) {
            pids[count++] = (pid_t)pid;
        }
    }
    if (d != NULL) {
        closedir(d);
    }
    return count;
}

static size_t signal_node(const struct node *n, const char *name, int signo)
{
    pid_t pids[1024];
    size_t count = node_pids(n, name, pids, sizeof pids / sizeof pids[0]);

    for (size_t k = 0; k < count; k++) {
        kill(pids[k], signo);
    }
    return count;
}

static void verb_signal(struct super *s, unsigned i, int signo, int argc,
                        const char *argv[], struct answer *a)
{
    const char *name = argc > 0 ? argv[0] : NULL;

    size_t count = signal_node(&s->node[i], name, signo);
    if (count == 0) {
        a->code = 1;
        lab_text_add(&a->text, "n%u: %s%s is not running", i + 1,
                     name != NULL ? name : "it",
                     s->node[i].power != POWER_ON ? ": the node is off, or it" : "");
        return;
    }
    /* A process that was made while we were stopping the others is stopped in the next
     * round. */
    for (int round = 0; signo == SIGSTOP && name == NULL && round < 3; round++) {
        count = signal_node(&s->node[i], NULL, SIGSTOP);
    }
    if (name == NULL) {
        s->node[i].paused = signo == SIGSTOP;
    }
    lab_super_event(s,
                    signo == SIGSTOP   ? "pause"
                    : signo == SIGCONT ? "resume"
                                       : "kill",
                    i + 1, name != NULL ? name : "all");
}

/* ---- requests ---- */

static void verb_status(struct super *s, struct answer *a)
{
    struct lab_text *t = &a->text;

    lab_text_add(t, "{\"prefix\":\"%s\",\"dir\":\"%s\",\"agents\":%s,\"nodes\":[",
                 s->lab->prefix, s->lab->dir, s->lab->agents ? "true" : "false");
    for (unsigned i = 0; i < s->lab->node_count; i++) {
        const struct node *n = &s->node[i];
        char boot_id[64] = "";
        struct lab_path path = lab_path("%s/nodes/n%u/boot_id", s->lab->dir, i + 1);
        if (lab_read_file(path.s, boot_id, sizeof boot_id) > 0) {
            boot_id[strcspn(boot_id, "\n")] = '\0';
        }
        lab_text_add(t,
                     "%s{\"name\":\"n%u\",\"power\":\"%s\",\"paused\":%s,\"boots\":%u,"
                     "\"boot_id\":\"%s\","
                     "\"link\":\"%s\",\"bmc\":\"%s\",\"storage\":\"%s\",\"cut_from\":[",
                     i > 0 ? "," : "", i + 1, lab_super_power_str(n->power),
                     n->paused ? "true" : "false", n->boots,
                     n->power == POWER_OFF ? "" : boot_id, lab_link_str(s->fault.link[i]),
                     lab_super_bmc_str(n->mode), s->fault.storage_cut[i] ? "cut" : "ok");
        bool first = true;
        for (unsigned k = 0; k < s->lab->node_count; k++) {
            if (s->fault.cut[k][i]) {
                lab_text_add(t, "%s\"n%u\"", first ? "" : ",", k + 1);
                first = false;
            }
        }
        lab_text_add(t, "],\"daemons\":[");
        for (size_t d = 0; d < LAB_DAEMONS_MAX && n->daemon[d][0] != '\0'; d++) {
            char name[64] = "", state[32] = "", why[64] = "";
            int pid = 0;
            sscanf(n->daemon[d], "%63s %d %31s %63[^\n\"\\]", name, &pid, state, why);
            lab_text_add(t,
                         "%s{\"name\":\"%s\",\"pid\":%d,\"state\":\"%s\",\"why\":\"%s\"}",
                         d > 0 ? "," : "", name, pid, state, why);
        }
        lab_text_add(t, "]}");
    }
    lab_text_add(t, "]}");
}

static void verb_pidfd(struct super *s, const char *node, struct answer *a)
{
    int i = lab_fault_node(s->lab->node_count, node, strlen(node));
    pid_t pid = strcmp(node, "hub") == 0                 ? 1
                : i >= 0 && s->node[i].power == POWER_ON ? s->node[i].init
                                                         : 0;

    if (pid == 0) {
        a->code = 1;
        lab_text_add(&a->text,
                     i < 0 ? "there is no node %s in this lab"
                           : "%s is off; switch it on with: gemel-lab power %s on",
                     node, node);
        return;
    }
    a->fd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (a->fd < 0) {
        a->code = 1;
        lab_text_add(&a->text, "%s: %s", node, strerror(errno));
    }
}

static void node_verb(struct super *s, unsigned i, int argc, const char *argv[],
                      int client, struct answer *a)
{
    const char *verb = argv[0];
    int more = argc - 2;

    if (strcmp(verb, "pause") == 0) {
        verb_signal(s, i, SIGSTOP, more, argv + 2, a);
    } else if (strcmp(verb, "resume") == 0) {
        verb_signal(s, i, SIGCONT, more, argv + 2, a);
    } else if (more < 1) {
        a->code = 2;
        lab_text_add(&a->text, "%s: an argument is missing; see gemel-lab -h", verb);
    } else if (strcmp(verb, "power") == 0) {
        lab_super_verb_power(s, i, argv[2], client, a);
    } else if (strcmp(verb, "bmc") == 0) {
        lab_super_verb_bmc(s, i, more, argv + 2, a);
    } else if (strcmp(verb, "bmc-chassis") == 0) {
        lab_super_verb_chassis(s, i, more, argv + 2, a);
    } else if (strcmp(verb, "kill") == 0) {
        verb_signal(s, i, SIGKILL, more, argv + 2, a);
    } else if (strcmp(verb, "link") == 0) {
        verb_link(s, i, argv[2], a);
    } else if (strcmp(verb, "disk") == 0) {
        struct lab_path text = lab_path("%.40s %.40s", argv[2], more > 1 ? argv[3] : "");
        lab_super_labfs_tell(s, i, text.s);
        lab_super_event(s, "disk", i + 1, text.s);
    } else if (strcmp(verb, "daemon") == 0 && more >= 2 && s->node[i].power == POWER_ON) {
        struct lab_path text = lab_path("%.40s %.60s", argv[2], argv[3]);
        a->code = lab_ipc_send(s->node[i].init_fd, text.s, strlen(text.s), -1) < 0;
    } else {
        a->code = 2;
        lab_text_add(&a->text, "%s: not possible now, or unknown; see gemel-lab -h",
                     verb);
    }
}

static void dispatch(struct super *s, int argc, const char *argv[], int client,
                     struct answer *a)
{
    if (strcmp(argv[0], "status") == 0) {
        verb_status(s, a);
    } else if (strcmp(argv[0], "partition") == 0) {
        verb_partition(s, argc - 1, argv + 1, a);
    } else if (strcmp(argv[0], "heal") == 0) {
        verb_heal(s, a);
    } else if (strcmp(argv[0], "pidfd") == 0 && argc == 2) {
        verb_pidfd(s, argv[1], a);
    } else {
        int i =
            argc < 2 ? -1 : lab_fault_node(s->lab->node_count, argv[1], strlen(argv[1]));
        if (i < 0) {
            a->code = 3;
            lab_text_add(&a->text, "%s: there is no node %s in this lab", argv[0],
                         argc < 2 ? "" : argv[1]);
            return;
        }
        node_verb(s, (unsigned)i, argc, argv, client, a);
    }
}

void lab_super_request(struct super *s, int *slot)
{
    char buf[LAB_IPC_MAX];
    const char *argv[LAB_ARGS_MAX];
    struct answer a = {.fd = -1};

    ssize_t n = lab_ipc_recv(*slot, buf, sizeof buf, NULL);
    int argc = n > 0 ? lab_ipc_args(buf, (size_t)n, argv) : -1;
    for (int k = 0; k < argc; k++) {
        argc = strlen(argv[k]) > ARG_LEN_MAX ? -1 : argc;
    }
    if (argc < 1) {
        for (unsigned i = 0; i < s->lab->node_count; i++) {
            if (s->node[i].waiter == *slot) {
                s->node[i].waiter = -1;
            }
        }
        lab_close(slot);
        return;
    }
    dispatch(s, argc, argv, *slot, &a);
    if (!a.later) {
        struct lab_text reply = {0};
        lab_text_add(&reply, "%d\n%s", a.code, a.text.buf != NULL ? a.text.buf : "");
        lab_ipc_send(*slot, reply.buf,
                     reply.len < LAB_IPC_MAX ? reply.len : LAB_IPC_MAX - 1, a.fd);
        lab_text_free(&reply);
    }
    lab_close(&a.fd);
    lab_text_free(&a.text);
}
