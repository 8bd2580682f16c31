/* SPDX-License-Identifier: Apache-2.0 */
#include "lab/lab_cli.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lab/lab_conf.h"
#include "lab/lab_exec.h"
#include "lab/lab_ipc.h"
#include "lab/lab_node.h"
#include "lab/lab_super.h"

#define QUORUM_TIMEOUT_MS 60000
#define AGENTS_TIMEOUT_MS 60000

enum exit_code {
    DONE = 0,
    FAILED = 1,
    USAGE = 2,
    NOT_FOUND = 3,
    TIMED_OUT = 5,
    NO_LAB = 7
};

struct options {
    struct lab_path dir;
    const char *prefix;
    unsigned nodes, token_ms, coefficient_ms;
    bool no_agents, keep, json;
    const char *save_logs;
};

struct verb {
    const char *name, *args, *help;
    int (*fn)(const struct options *o, int argc, char *argv[]);
    int argc_min;
};

static volatile sig_atomic_t interrupted;

static void interrupt(int signo)
{
    interrupted = signo;
}

/* ---- up ---- */

static int check_machine(void)
{
    static const struct {
        const char *path, *package;
    } needs[] = {
        {"/usr/sbin/corosync", "corosync"},
        {"/usr/bin/ipmi_sim", "openipmi"},
        {"/usr/sbin/nft", "nftables"},
        {"/usr/sbin/ip", "iproute2"},
        {"/dev/fuse", "fuse3"},
    };
    static const char *const also[] = {"/sbin/ip", "/bin/ip"};

    if (geteuid() != 0) {
        lab_error("up needs root: it makes namespaces, bridges and mounts");
        return FAILED;
    }
    for (size_t i = 0; i < sizeof needs / sizeof needs[0]; i++) {
        if (access(needs[i].path, F_OK) < 0 &&
            !(i == 3 && (access(also[0], F_OK) == 0 || access(also[1], F_OK) == 0))) {
            lab_error("%s is missing: run ci/deps, or install the package %s",
                      needs[i].path, needs[i].package);
            return FAILED;
        }
    }
    return DONE;
}

static bool running(const struct lab *lab)
{
    char boot_id[64];

    return lab->pid > 0 &&
           lab_read_file("/proc/sys/kernel/random/boot_id", boot_id, sizeof boot_id) >
               0 &&
           strncmp(boot_id, lab->boot_id, 36) == 0 &&
           lab_start_time(lab->pid) == lab->start_time;
}

/* What up makes in D, in the order in which down removes it; lab.json, the record of it,
 * goes last. */
static int remove_files(const struct lab *lab)
{
    static const char *const names[] = {"ctl.sock", "nodes",        "shared",
                                        "log",      "lab.json.tmp", "lab.json"};
    int r = 0;

    for (size_t i = 0; r == 0 && i < sizeof names / sizeof names[0]; i++) {
        struct lab_path path = lab_path("%s/%s", lab->dir, names[i]);
        r = lab_remove_tree(path.s);
        if (r < 0) {
            lab_error("%s could not be removed: %s", path.s, strerror(-r));
        }
    }
    if (r == 0 && lab->dir_created && rmdir(lab->dir) < 0 && errno != ENOENT) {
        lab_error("%s was made by up and is kept: %s", lab->dir, strerror(errno));
    }
    return r;
}

static int take_down(const struct lab *lab)
{
    int r = lab_super_kill(lab);

    if (r < 0) {
        lab_error("the lab's processes (pid %d) did not end: %s", (int)lab->pid,
                  strerror(-r));
        return FAILED;
    }
    return remove_files(lab) < 0 ? FAILED : DONE;
}

/* The path without symbolic links and dots; false if it is not there or too long. */
static bool absolute(const char *path, char out[static PATH_LEN_MAX])
{
    char *real = realpath(path, NULL);
    bool good =
        real != NULL && strlen(real) < PATH_LEN_MAX - 128; /* room for names below it */

    if (good) {
        memcpy(out, real, strlen(real) + 1);
    }
    free(real);
    return good;
}

/*
 * One up or down at a time in a directory: an fd that holds the lock, or -errno
 * (-EWOULDBLOCK after wait_ms).
 */
static int lock_dir(const char *dir, unsigned wait_ms)
{
    uint64_t end = lab_now_ns() + wait_ms * UINT64_C(1000000);
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    while (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0) {
        int r = -errno;
        if (r != -EWOULDBLOCK || lab_now_ns() > end) {
            close(fd);
            return r;
        }
        lab_sleep_ms(20);
    }
    return fd < 0 ? -errno : fd;
}

/* Claims D: makes it if need be, refuses one that holds something else's files. */
static int claim_dir(const struct options *o, struct lab *lab, int *ret_lock)
{
    static const char *const names[] = {"nodes", "shared", "log"};
    struct lab old;

    lab->dir_created = mkdir(o->dir.s, 0700) == 0;
    if (!lab->dir_created && errno != EEXIST) {
        lab_error("%s could not be made: %s", o->dir.s, strerror(errno));
        return FAILED;
    }
    if (!absolute(o->dir.s, lab->dir) || strpbrk(lab->dir, " \t\"'\\$") != NULL) {
        lab_error("%s cannot hold a lab: the path may not hold spaces or quotes",
                  o->dir.s);
        goto undo;
    }
    *ret_lock = lock_dir(lab->dir, 0);
    if (*ret_lock < 0) {
        lab_error("%s: %s; another up or down is at work there", lab->dir,
                  strerror(-*ret_lock));
        return FAILED;
    }
    int r = lab_load(lab->dir, &old);
    if (r == 0) {
        lab_error(
            "there is a %s lab in %s already; remove it with: gemel-lab --dir %s down",
            running(&old) ? "running" : "dead", lab->dir, lab->dir);
        return FAILED;
    }
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct lab_path path = lab_path("%s/%s", lab->dir, names[i]);
        if (access(path.s, F_OK) == 0) {
            lab_error("%s is there and is not of a lab; choose another --dir", path.s);
            return FAILED;
        }
    }
    return DONE;
undo:
    if (lab->dir_created) {
        rmdir(o->dir.s);
    }
    return FAILED;
}

/* True when corosync in this node says that it is quorate with every node. */
static bool quorate(const struct lab *lab, const char *node)
{
    static const char *const argv[] = {"corosync-quorumtool", "-s", NULL};
    char text[8192], nodes[32];

    int r = lab_exec(lab->dir, node, argv, text, sizeof text);
    const char *q = r <= 1 ? strstr(text, "Quorate:") : NULL, *n = strstr(text, "Nodes:");
    if (q == NULL || n == NULL) {
        return false;
    }
    snprintf(nodes, sizeof nodes, "%u", lab->node_count);
    q += strcspn(q, " ");
    n += strcspn(n, " ");
    q += strspn(q, " ");
    n += strspn(n, " ");
    return strncmp(q, "Yes", 3) == 0 && strncmp(n, nodes, strlen(nodes)) == 0 &&
           !isdigit((unsigned char)n[strlen(nodes)]);
}

static bool agents_ok(const struct lab *lab, const char *node)
{
    static const char *const argv[] = {"gemel", "status", NULL};
    char text[8192];

    return lab_exec(lab->dir, node, argv, text, sizeof text) == 0;
}

/* The definition of a new cluster, given to the agents by the first node that answers. */
static bool cluster_applied(const struct lab *lab, const char *node)
{
    static const char *const argv[] = {
        "gemel",     "cluster", "apply", "--yes",
        "--timeout", "10s",     "-f",    "/etc/gemel/cluster.yaml",
        NULL};
    char text[8192];

    return strcmp(node, "n1") != 0 ||
           lab_exec(lab->dir, node, argv, text, sizeof text) == 0;
}

static int wait_nodes(const struct lab *lab,
                      bool (*ready)(const struct lab *lab, const char *node),
                      unsigned timeout_ms, const char *what)
{
    uint64_t end = lab_now_ns() + timeout_ms * UINT64_C(1000000);
    unsigned i = 1;

    while (i <= lab->node_count) {
        struct lab_path node = lab_path("n%u", i);
        if (interrupted) {
            lab_error("interrupted");
            return FAILED;
        }
        if (ready(lab, node.s)) {
            i++;
        } else if (lab_now_ns() > end) {
            lab_error("n%u %s after %u s; its logs are in %s/nodes/n%u/log", i, what,
                      timeout_ms / 1000, lab->dir, i);
            return TIMED_OUT;
        } else {
            lab_sleep_ms(50);
        }
    }
    return DONE;
}

/* The end of a log on stderr, so that a failure is not removed together with its reason.
 */
static void show_tail(const char *path)
{
    static char buf[256 * 1024];

    ssize_t n = lab_read_file(path, buf, sizeof buf);
    if (n > 0) {
        const char *p = buf + (n > 1500 ? n - 1500 : 0);
        fprintf(stderr, "---- %s\n%s", path, p);
    }
}

/* Why up failed, as far as logs say it. */
static void show_logs(const struct lab *lab)
{
    static const char *const names[] = {"corosync.log", "corosync.out",
                                        "gemel-fenced.out", "gemeld.out"};
    static const char *const status[] = {"gemel", "status", NULL};
    struct lab_path log = lab_path("%s/log/supervisor.log", lab->dir);

    if (interrupted) {
        return;
    }
    show_tail(log.s);
    for (unsigned i = 1; i <= lab->node_count; i++) {
        struct lab_path node = lab_path("n%u", i);
        for (size_t k = 0; k < sizeof names / sizeof names[0]; k++) {
            log = lab_path("%s/nodes/n%u/log/%s", lab->dir, i, names[k]);
            show_tail(log.s);
        }
        if (lab->agents) {
            fprintf(stderr, "---- n%u: gemel status\n", i);
            int r = lab_exec(lab->dir, node.s, status, NULL, 0);
            fprintf(stderr, "---- n%u: its exit code is %d\n", i, r);
        }
    }
}

static int call_node(const char *dir, const char *verb, const char *node, const char *arg)
{
    const char *const args[] = {verb, node, arg, NULL};
    char text[2048] = "";

    int r = lab_ipc_call(dir, args, text, sizeof text, NULL);
    if (r != 0) {
        lab_error("%s", text[0] != '\0' ? text : strerror(r < 0 ? -r : EIO));
    }
    return r < 0 ? FAILED : r;
}

/* From the moment the supervisor is on record to the moment the cluster is quorate. */
static int bring_up(const struct lab *lab, int lifeline)
{
    struct lab_path path;

    int r = lab_write_tree(lab, &path);
    if (r < 0) {
        lab_error("%s: %s", path.s, strerror(-r));
        return FAILED;
    }
    r = lab_super_go(lifeline);
    if (r < 0) {
        lab_error("the lab's supervisor did not start");
        return FAILED;
    }
    for (unsigned i = 1; i <= lab->node_count; i++) {
        path = lab_path("n%u", i);
        r = call_node(lab->dir, "power", path.s, "on");
        if (r != 0) {
            return r;
        }
    }
    unsigned timeout_ms = QUORUM_TIMEOUT_MS;
    const char *env = getenv("GEMEL_LAB_QUORUM_MS");
    if (env != NULL && !lab_number(env, 1, 3600000, &timeout_ms)) {
        lab_error("GEMEL_LAB_QUORUM_MS=%s is not a number of ms", env);
        return USAGE;
    }
    r = wait_nodes(lab, quorate, timeout_ms, "is not quorate with all nodes");
    if (r == DONE && lab->agents) {
        r = wait_nodes(lab, cluster_applied, AGENTS_TIMEOUT_MS,
                       "does not accept the cluster definition");
    }
    if (r == DONE && lab->agents) {
        r = wait_nodes(lab, agents_ok, AGENTS_TIMEOUT_MS,
                       "does not report `gemel status` OK");
    }
    return r;
}

static bool agents_here(void)
{
    static const char *const programs[] = {"gemeld", "gemel-fenced", "gemel",
                                           "gemel-vmm"};

    for (size_t i = 0; i < sizeof programs / sizeof programs[0]; i++) {
        if (lab_find_program(programs[i]).s[0] == '\0') {
            fprintf(stderr,
                    "gemel-lab: %s is not next to gemel-lab: the lab runs without agents "
                    "(--no-agents)\n",
                    programs[i]);
            return false;
        }
    }
    return true;
}

static int verb_up(const struct options *o, int argc, char *argv[])
{
    struct lab lab = {.node_count = o->nodes,
                      .token_ms = o->token_ms,
                      .coefficient_ms = o->coefficient_ms};
    uint64_t begin = lab_now_ns();
    int lifeline = -1, lock = -1;

    (void)argc;
    (void)argv;
    int r = check_machine();
    r = r != DONE ? r : claim_dir(o, &lab, &lock);
    if (r != DONE) {
        return r;
    }
    snprintf(lab.prefix, sizeof lab.prefix, "%s", o->prefix);
    lab.agents = !o->no_agents && agents_here();
    if (lab_read_file("/proc/sys/kernel/random/boot_id", lab.boot_id, 37) < 0 ||
        lab_save(&lab) < 0) {
        lab_error("%s/lab.json could not be written: %s", lab.dir, strerror(errno));
        remove_files(&lab);
        return FAILED;
    }
    signal(SIGINT, interrupt);
    signal(SIGTERM, interrupt);
    signal(SIGHUP, interrupt);
    signal(SIGPIPE, SIG_IGN);
    r = lab_super_start(&lab, lock, &lifeline);
    if (r < 0) {
        lab_error("namespaces could not be made: %s", strerror(-r));
        remove_files(&lab);
        return FAILED;
    }
    r = lab_save(&lab) < 0 ? FAILED : bring_up(&lab, lifeline);
    if (r == DONE && !interrupted) {
        r = lab_super_settle(lifeline) < 0 ? FAILED : DONE;
    }
    if (r != DONE || interrupted) {
        show_logs(&lab);
        if (o->keep && !interrupted) {
            fprintf(stderr,
                    "gemel-lab: the lab is kept (--keep); end it with: gemel-lab --dir "
                    "%s down\n",
                    lab.dir);
            lab_super_settle(lifeline);
            return r;
        }
        take_down(&lab);
        return interrupted ? 128 + interrupted : r;
    }
    printf("lab %s: %u nodes quorate%s after %.2f s in %s\n", lab.prefix, lab.node_count,
           lab.agents ? ", agents OK," : "", (double)(lab_now_ns() - begin) / 1e9,
           lab.dir);
    return DONE;
}

/* ---- the other verbs ---- */

static int load(const struct options *o, struct lab *lab)
{
    char dir[PATH_LEN_MAX];

    if (!absolute(o->dir.s, dir) || lab_load(dir, lab) < 0) {
        lab_error("there is no lab in %s; make one with: gemel-lab --dir %s up", o->dir.s,
                  o->dir.s);
        return NO_LAB;
    }
    return DONE;
}

static int copy_logs(const struct lab *lab, const char *to)
{
    int r = lab_mkdir_p(to, 0755);

    for (unsigned i = 0; r == 0 && i <= lab->node_count; i++) {
        struct lab_path from = i == 0 ? lab_path("%s/log", lab->dir)
                                      : lab_path("%s/nodes/n%u/log", lab->dir, i);
        struct lab_path into =
            i == 0 ? lab_path("%s/lab", to) : lab_path("%s/n%u", to, i);
        const char *const argv[] = {"cp", "-rT", from.s, into.s, NULL};
        r = lab_run(argv, NULL, NULL) == 0 ? 0 : -EIO;
    }
    if (r < 0) {
        lab_error("the logs could not be copied to %s", to);
    }
    return r;
}

static int verb_down(const struct options *o, int argc, char *argv[])
{
    struct lab lab;

    (void)argc;
    (void)argv;
    signal(SIGINT, SIG_IGN); /* half removed is worse than waiting */
    int r = load(o, &lab);
    if (r != DONE) {
        return r;
    }
    int lock = lock_dir(lab.dir, 90000);
    if (lock < 0) {
        lab_error("%s: %s; another up or down is at work there", lab.dir,
                  strerror(-lock));
        return FAILED;
    }
    r = load(o, &lab); /* as the one before us left it */
    if (r != DONE) {
        return r;
    }
    if (o->save_logs != NULL && copy_logs(&lab, o->save_logs) < 0) {
        r = FAILED;
    }
    int taken = take_down(&lab);
    return taken != DONE ? taken : r;
}

/* One request, its text on stdout if good, on stderr if not. */
static int request(const struct options *o, const char *const args[])
{
    struct lab lab;
    char text[LAB_IPC_MAX] = "";

    int r = load(o, &lab);
    if (r != DONE) {
        return r;
    }
    r = lab_ipc_call(lab.dir, args, text, sizeof text, NULL);
    if (r < 0) {
        lab_error(
            "the lab in %s does not answer: %s; remove it with: gemel-lab --dir %s down",
            lab.dir, strerror(-r), lab.dir);
        return NO_LAB;
    }
    if (r != 0) {
        lab_error("%s", text);
    } else if (text[0] != '\0') {
        printf("%s%s", text, text[strlen(text) - 1] == '\n' ? "" : "\n");
    }
    return r;
}

/* argv[0] is the verb: passed to the supervisor as it is. */
static int verb_pass(const struct options *o, int argc, char *argv[])
{
    const char *args[LAB_ARGS_MAX];

    if (argc >= LAB_ARGS_MAX) {
        lab_error("%s: too many arguments", argv[0]);
        return USAGE;
    }
    for (int i = 0; i < argc; i++) {
        args[i] = argv[i];
    }
    args[argc] = NULL;
    return request(o, args);
}

static int verb_exec(const struct options *o, int argc, char *argv[])
{
    struct lab lab;
    int first = argc > 2 && strcmp(argv[2], "--") == 0 ? 3 : 2;

    if (first >= argc) {
        lab_error(
            "exec: which command? For example: gemel-lab exec n1 -- corosync-quorumtool");
        return USAGE;
    }
    int r = load(o, &lab);
    return r != DONE
               ? r
               : lab_exec(lab.dir, argv[1], (const char *const *)argv + first, NULL, 0);
}

static void print_status(json_object *o)
{
    json_object *nodes = json_object_object_get(o, "nodes");

    printf("%-5s %-8s %-6s %-12s %-5s %-8s %s\n", "NODE", "POWER", "BOOTS", "LINK", "BMC",
           "STORAGE", "DAEMONS");
    for (size_t i = 0; i < json_object_array_length(nodes); i++) {
        json_object *n = json_object_array_get_idx(nodes, i),
                    *daemons = json_object_object_get(n, "daemons");
        bool paused = json_object_get_boolean(json_object_object_get(n, "paused"));
        printf("%-5s %-8s %-6d %-12s %-5s %-8s",
               json_object_get_string(json_object_object_get(n, "name")),
               paused ? "paused"
                      : json_object_get_string(json_object_object_get(n, "power")),
               json_object_get_int(json_object_object_get(n, "boots")),
               json_object_get_string(json_object_object_get(n, "link")),
               json_object_get_string(json_object_object_get(n, "bmc")),
               json_object_get_string(json_object_object_get(n, "storage")));
        for (size_t d = 0; d < json_object_array_length(daemons); d++) {
            json_object *e = json_object_array_get_idx(daemons, d);
            printf(" %s:%s", json_object_get_string(json_object_object_get(e, "name")),
                   json_object_get_string(json_object_object_get(e, "state")));
        }
        printf("\n");
    }
}

static int verb_status(const struct options *o, int argc, char *argv[])
{
    static const char *const args[] = {"status", NULL};
    struct lab lab;
    char text[LAB_IPC_MAX] = "";

    (void)argc;
    (void)argv;
    if (o->json) {
        return request(o, args);
    }
    int r = load(o, &lab);
    if (r != DONE) {
        return r;
    }
    r = lab_ipc_call(lab.dir, args, text, sizeof text, NULL);
    json_object *status = r == 0 ? json_tokener_parse(text) : NULL;
    if (status == NULL) {
        lab_error(
            "the lab in %s does not answer; remove it with: gemel-lab --dir %s down",
            lab.dir, lab.dir);
        return NO_LAB;
    }
    printf("lab %s in %s\n", lab.prefix, lab.dir);
    print_status(status);
    json_object_put(status);
    return DONE;
}

static void cat_dir(const char *dir, const char *title)
{
    static char buf[1024 * 1024];
    struct dirent *entry;

    DIR *d = opendir(dir);
    while (d != NULL && (entry = readdir(d)) != NULL) {
        struct lab_path path = lab_path("%s/%s", dir, entry->d_name);
        struct stat st;
        if (lstat(path.s, &st) < 0 || !S_ISREG(st.st_mode) ||
            lab_read_file(path.s, buf, sizeof buf) <= 0) {
            continue;
        }
        printf("==== %s %s\n%s", title, entry->d_name, buf);
    }
    if (d != NULL) {
        closedir(d);
    }
}

static int verb_logs(const struct options *o, int argc, char *argv[])
{
    struct lab lab;

    int r = load(o, &lab);
    if (r != DONE) {
        return r;
    }
    int only = argc > 1 ? lab_fault_node(lab.node_count, argv[1], strlen(argv[1])) : -1;
    if (argc > 1 && only < 0) {
        lab_error("logs: there is no node %s in this lab", argv[1]);
        return NOT_FOUND;
    }
    struct lab_path dir = lab_path("%s/log", lab.dir);
    if (only < 0) {
        cat_dir(dir.s, "lab");
    }
    for (unsigned i = 0; i < lab.node_count; i++) {
        struct lab_path name = lab_path("n%u", i + 1);
        if (only < 0 || (unsigned)only == i) {
            dir = lab_path("%s/nodes/n%u/log", lab.dir, i + 1);
            cat_dir(dir.s, name.s);
            dir = lab_path("%s/nodes/n%u/bmc", lab.dir, i + 1);
            cat_dir(dir.s, name.s);
        }
    }
    return DONE;
}

/*
 * ipmi_sim's chassis script: "bmc-chassis NODE get power", "... set power 0". ipmi_sim
 * runs it again when its client asks again, so every action may come twice.
 */
static int verb_bmc_chassis(const struct options *o, int argc, char *argv[])
{
    const char *const mode_args[] = {"bmc-chassis", argc > 1 ? argv[1] : "", "mode",
                                     NULL};
    char text[256] = "", mode[16] = "";
    unsigned slow_ms = 0;

    int r = lab_ipc_call(o->dir.s, mode_args, text, sizeof text, NULL);
    if (r != 0 || sscanf(text, "%15s %u", mode, &slow_ms) != 2) {
        lab_error("bmc-chassis: %s", text);
        return FAILED;
    }
    if (strcmp(mode, "fail") == 0) {
        return FAILED;
    }
    if (strcmp(mode, "slow") == 0) {
        lab_sleep_ms(slow_ms);
    }
    return verb_pass(o, argc, argv);
}

static int verb_init(const struct options *o, int argc, char *argv[])
{
    (void)o;
    return lab_init_main(argc, argv);
}

static const struct verb verbs[] = {
    {"up",
     "[--nodes N] [--profile fast|default] [--token MS] [--coefficient MS] [--no-agents] "
     "[--keep]",
     "make a cluster; returns when every node is quorate (and its agent OK); on failure "
     "it is removed, but for --keep",
     verb_up, 0},
    {"down", "[--save-logs DIR]",
     "end it: no process, namespace, link, mount or file stays", verb_down, 0},
    {"status", "[--json]", "nodes, power, faults, daemons", verb_status, 0},
    {"exec", "NODE -- CMD...",
     "run a command in a node (or in 'hub', the switch); its exit code is ours",
     verb_exec, 2},
    {"power", "NODE on|off|halt",
     "off is a power cut: silence, then death, then loss of what was not fsynced; halt "
     "is orderly",
     verb_pass, 2},
    {"pause", "NODE [PROGRAM]", "SIGSTOP every process of the node, or of one program",
     verb_pass, 1},
    {"resume", "NODE [PROGRAM]", "SIGCONT", verb_pass, 1},
    {"kill", "NODE PROGRAM", "SIGKILL", verb_pass, 2},
    {"daemon", "NODE start|stop DAEMON",
     "as systemctl start and stop: corosync, gemel-fenced, gemeld", verb_pass, 3},
    {"partition", "[--vm] [--bmc] [--storage] n1 / n2,n3",
     "groups do not hear each other on the cluster network (and VM network, each other's "
     "BMCs; the first loses storage)",
     verb_pass, 1},
    {"link", "NODE up|down|oneway-in|oneway-out",
     "its cluster cable; down: no carrier; oneway-in: it only hears; oneway-out: it is "
     "only heard",
     verb_pass, 2},
    {"heal", "", "end every fault of links, partitions and disks", verb_pass, 0},
    {"disk", "NODE delay MS | eio 0|1 | hang 0|1 | room KIB | writeback PERCENT",
     "faults of the node's storage", verb_pass, 2},
    {"bmc", "NODE ok|hang|lie|deaf|slow [MS]|fail", "how the node's BMC behaves",
     verb_pass, 2},
    {"logs", "[NODE]", "print the logs", verb_logs, 0},
    {"bmc-chassis", NULL, NULL, verb_bmc_chassis, 2},
    {"_init", NULL, NULL, verb_init, 2},
};

static int usage(FILE *to)
{
    fprintf(to, "usage: gemel-lab [--dir DIR] [--prefix NAME] VERB ...\n"
                "A whole Gemel cluster on this machine, in namespaces of its own.\n"
                "DIR: where the lab lives; default $GEMEL_LAB_DIR, else "
                "/tmp/gemel-lab-NAME (NAME: gl)\n\n");
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++) {
        if (verbs[i].help != NULL) {
            fprintf(to, "  %s %s\n      %s\n", verbs[i].name, verbs[i].args,
                    verbs[i].help);
        }
    }
    return to == stdout ? DONE : USAGE;
}

static bool good_prefix(const char *s)
{
    size_t len = strlen(s);

    return len > 0 && len < 16 &&
           strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == len;
}

/* Takes one option with its value from argv[0..]; how many words it used, 0: not an
 * option, -1: bad. */
static int option(struct options *o, int argc, char *argv[])
{
    const char *value = argc > 1 ? argv[1] : "";
    bool good = true;

    if (strcmp(argv[0], "--no-agents") == 0) {
        o->no_agents = true;
        return 1;
    }
    if (strcmp(argv[0], "--keep") == 0) {
        o->keep = true;
        return 1;
    }
    if (strcmp(argv[0], "--json") == 0) {
        o->json = true;
        return 1;
    }
    if (strcmp(argv[0], "--dir") == 0 && value[0] != '\0') {
        o->dir = lab_path("%s", value);
    } else if (strcmp(argv[0], "--prefix") == 0) {
        o->prefix = value;
        good = good_prefix(value);
    } else if (strcmp(argv[0], "--nodes") == 0) {
        good = lab_number(value, 1, LAB_NODES_MAX, &o->nodes);
    } else if (strcmp(argv[0], "--token") == 0) {
        good = lab_number(value, 100, 60000, &o->token_ms);
    } else if (strcmp(argv[0], "--coefficient") == 0) {
        good = lab_number(value, 0, 10000, &o->coefficient_ms);
    } else if (strcmp(argv[0], "--save-logs") == 0 && value[0] != '\0') {
        o->save_logs = value;
    } else if (strcmp(argv[0], "--profile") == 0) {
        good = strcmp(value, "fast") == 0 || strcmp(value, "default") == 0;
        o->token_ms = strcmp(value, "fast") == 0 ? 300 : 1000;
        o->coefficient_ms = 0;
    } else {
        return 0;
    }
    if (!good) {
        lab_error("%s %s: not a value for it; see gemel-lab -h", argv[0], value);
        return -1;
    }
    return 2;
}

int lab_main(int argc, char *argv[])
{
    struct options o = {
        .prefix = "gl", .nodes = 3, .token_ms = 1000, .coefficient_ms = 0};
    const char *env = getenv("GEMEL_LAB_DIR");
    char **rest =
        calloc((size_t)argc + 1, sizeof *rest); /* lives as long as the program */
    int rest_count = 0;

    if (rest == NULL) {
        return FAILED;
    }
    for (int i = 1; i < argc;) {
        bool passed_on =
            rest_count > 0 && (strcmp(rest[0], "exec") == 0 || rest[0][0] == '_');
        if (!passed_on &&
            (strcmp(argv[i], "-h") == 0 || strcmp(argv[i], "--help") == 0)) {
            return usage(stdout);
        }
        int used = passed_on ? 0 : option(&o, argc - i, argv + i);
        if (used < 0) {
            return USAGE;
        }
        if (used == 0) {
            rest[rest_count++] = argv[i++];
        }
        i += used;
    }
    rest[rest_count] = NULL;
    if (o.dir.s[0] == '\0') {
        o.dir = env != NULL && env[0] != '\0' ? lab_path("%s", env)
                                              : lab_path("/tmp/gemel-lab-%s", o.prefix);
    }
    for (size_t i = 0; rest_count > 0 && i < sizeof verbs / sizeof verbs[0]; i++) {
        if (strcmp(rest[0], verbs[i].name) == 0) {
            if (rest_count - 1 < verbs[i].argc_min) {
                lab_error("%s: an argument is missing; see gemel-lab -h", rest[0]);
                return USAGE;
            }
            return verbs[i].fn(&o, rest_count, rest);
        }
    }
    if (rest_count > 0) {
        lab_error("there is no verb %s", rest[0]);
    }
    return usage(stderr);
}
