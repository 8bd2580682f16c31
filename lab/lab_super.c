/* SPDX-License-Identifier: Apache-2.0 */
#include "lab/lab_super.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lab/lab_ipc.h"
#include "lab/lab_node.h"

#define CLIENTS_MAX  64
#define POWER_OFF_MS 10000
#define DAEMONS_MAX  8
#define FDS_MAX      256 /* more than CLIENTS_MAX, five per node and a few */
#define ARG_LEN_MAX  128

enum power { POWER_OFF, POWER_BOOTING, POWER_ON };
enum bmc_mode { BMC_OK, BMC_HANG, BMC_LIE, BMC_SLOW, BMC_FAIL, BMC_DEAF };

static const char *const power_names[] = {
    [POWER_OFF] = "off", [POWER_BOOTING] = "booting", [POWER_ON] = "on"};
static const char *const bmc_names[] = {
    [BMC_OK] = "ok",     [BMC_HANG] = "hang", [BMC_LIE] = "lie",
    [BMC_SLOW] = "slow", [BMC_FAIL] = "fail", [BMC_DEAF] = "deaf",
};

struct node {
    enum power power;
    pid_t keeper, init;     /* the keeper leads the process group */
    int keeper_fd, init_fd; /* -1 when off */
    int labfs_fd[2];
    int waiter; /* client that waits for the end of booting, -1 */
    bool paused;
    unsigned boots;
    char daemon[DAEMONS_MAX][128]; /* "NAME PID STATE WHY" as labinit reported last */
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
    int client[CLIENTS_MAX]; /* -1: free */
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
static void event(struct super *s, const char *what, unsigned node, const char *detail)
{
    struct lab_text line = {0};

    lab_text_add(&line, "{\"t_ns\":%llu,\"event\":\"%s\",\"node\":\"n%u\",\"detail\":\"",
                 (unsigned long long)lab_now_ns(), what, node);
    for (const char *p = detail; *p != '\0'; p++) {
        if ((unsigned char)*p >= ' ' && *p != '"' && *p != '\\') {
            lab_text_add(&line, "%c", *p);
        }
    }
    lab_text_add(&line, "\"}\n");
    (void)!write(s->events_fd, line.buf, line.len);
    lab_text_free(&line);
}

static int apply_faults(struct super *s)
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

static void close_fd(int *fd)
{
    if (*fd >= 0) {
        close(*fd);
        *fd = -1;
    }
}

/* ---- power ---- */

static void node_is_off(struct super *s, unsigned i, const char *why)
{
    struct node *n = &s->node[i];

    close_fd(&n->keeper_fd);
    close_fd(&n->init_fd);
    close_fd(&n->labfs_fd[0]);
    close_fd(&n->labfs_fd[1]);
    n->power = POWER_OFF;
    n->keeper = n->init = 0;
    n->paused = false;
    memset(n->daemon, 0, sizeof n->daemon);
    event(s, "off", i + 1, why);
}

static void answer_waiter(struct super *s, unsigned i, int code, const char *text)
{
    struct lab_path reply = lab_path("%d\n%.400s", code, text);

    if (s->node[i].waiter >= 0) {
        lab_ipc_send(s->node[i].waiter, reply.s, strlen(reply.s), -1);
        s->node[i].waiter = -1; /* the client's fd is closed with its slot */
    }
}

static void reap_all(struct super *s);

/*
 * The power cut. First nothing of the node reaches anybody any more, then everything in
 * it is killed: no FIN, no RST, no farewell of any daemon; what labfs holds is gone with
 * it. Returns when the last process is gone, so that "off" is the truth.
 */
static int power_off(struct super *s, unsigned i)
{
    struct node *n = &s->node[i];
    uint64_t begin = lab_now_ns();

    if (n->power == POWER_OFF) {
        return 0;
    }
    event(s, "power-cut", i + 1, "");
    s->fault.dark[i] = true;
    int r = apply_faults(s);
    if (r < 0) {
        return r;
    }
    uint64_t silent = lab_now_ns();
    pid_t group = n->keeper;
    kill(-group, SIGKILL);
    while (kill(-group, 0) == 0 || errno != ESRCH) {
        reap_all(s);
        if (lab_now_ns() - begin > POWER_OFF_MS * UINT64_C(1000000)) {
            return -ETIMEDOUT;
        }
        usleep(300);
    }
    struct lab_path why =
        lab_path("power cut, silent after %.1f ms, dead after %.1f ms",
                 (double)(silent - begin) / 1e6, (double)(lab_now_ns() - begin) / 1e6);
    answer_waiter(s, i, 1, "the power was cut while it was being switched on");
    node_is_off(s, i, why.s);
    return 0;
}

/* A node's processes are forked without exec: what is the supervisor's is closed by hand.
 */
static void keep_only(const struct lab_node_fds *fds)
{
    for (int fd = 3; fd < FDS_MAX; fd++) {
        if (fd != fds->keeper && fd != fds->init && fd != fds->labfs_shared &&
            fd != fds->labfs_state) {
            close(fd);
        }
    }
}

static int power_on(struct super *s, unsigned i)
{
    struct node *n = &s->node[i];
    int pair[4][2] = {{-1, -1}, {-1, -1}, {-1, -1}, {-1, -1}}, r = 0;

    if (n->power != POWER_OFF) {
        return 0;
    }
    for (size_t k = 0; r == 0 && k < 4; k++) {
        r = lab_ipc_pair(pair[k]);
    }
    pid_t pid = r == 0 ? fork() : -1;
    if (pid == 0) {
        struct lab_node_fds fds = {pair[0][1], pair[1][1], pair[2][1], pair[3][1]};
        sigset_t none;
        setpgid(0, 0);
        keep_only(&fds);
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        lab_node_keeper(s->lab, i + 1, &fds);
    }
    if (r == 0 && pid < 0) {
        r = -errno;
    }
    for (size_t k = 0; k < 4; k++) {
        close_fd(&pair[k][1]);
        if (r < 0) {
            close_fd(&pair[k][0]);
        }
    }
    if (r < 0) {
        return r;
    }
    setpgid(pid, pid);
    n->keeper = pid;
    n->keeper_fd = pair[0][0];
    n->init_fd = pair[1][0];
    n->labfs_fd[0] = pair[2][0];
    n->labfs_fd[1] = pair[3][0];
    n->power = POWER_BOOTING;
    n->boots++;
    event(s, "power-on", i + 1, "");
    return 0;
}

/* ---- BMCs ---- */

static int bmc_start(struct super *s, unsigned i)
{
    struct lab_path dir = lab_path("%s/nodes/n%u/bmc", s->lab->dir, i + 1);
    struct lab_path lan = lab_path("%s/lan.conf", dir.s),
                    emu = lab_path("%s/bmc.emu", dir.s);
    struct lab_path state = lab_path("%s/state", dir.s),
                    log = lab_path("%s/ipmi_sim.log", dir.s);
    const char *const argv[] = {"ipmi_sim", "-c",    lan.s, "-f", emu.s,
                                "-s",       state.s, "-n",  NULL};
    struct node *n = &s->node[i];

    int r = lab_mkdir_p(state.s, 0700);
    if (r < 0) {
        return r;
    }
    n->bmc = fork();
    if (n->bmc == 0) {
        sigset_t none;
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        setpgid(0, 0);
        int in = open("/dev/null", O_RDWR),
            out = open(log.s, O_WRONLY | O_CREAT | O_APPEND, 0644);
        dup2(in, 0);
        dup2(out, 1);
        dup2(out, 2);
        execvp(argv[0], (char *const *)argv);
        fprintf(stderr, "ipmi_sim: %s; install the package openipmi\n", strerror(errno));
        _exit(127);
    }
    return n->bmc < 0 ? -errno : 0;
}

static bool power_reads(const struct node *n)
{
    if (n->mode == BMC_LIE && n->lie_power >= 0) {
        return n->lie_power == 1;
    }
    return n->power != POWER_OFF;
}

/*
 * What ipmi_sim's chassis script asks: "get KEY..." or "set KEY VALUE...". The pause of a
 * slow BMC and the failure of a broken one happen in the script itself, which asks for
 * the mode first.
 */
static void verb_chassis(struct super *s, unsigned i, int argc, const char *argv[],
                         struct answer *a)
{
    struct node *n = &s->node[i];
    int r = 0;

    if (strcmp(argv[0], "mode") == 0) {
        lab_text_add(&a->text, "%s %u", bmc_names[n->mode], n->slow_ms);
        return;
    }
    if (strcmp(argv[0], "get") == 0) {
        for (int k = 1; k < argc; k++) {
            if (strcmp(argv[k], "power") == 0) {
                lab_text_add(&a->text, "power:%d\n", power_reads(n) ? 1 : 0);
            } else if (strcmp(argv[k], "boot") == 0) {
                lab_text_add(&a->text, "boot:default\n");
            } else {
                a->code = 1;
                lab_text_add(&a->text, "Invalid parameter: %s\n", argv[k]);
            }
        }
        return;
    }
    for (int k = 1; strcmp(argv[0], "set") == 0 && k + 1 < argc; k += 2) {
        bool on = strcmp(argv[k + 1], "0") != 0;
        struct lab_path what =
            lab_path("%s=%s%s", argv[k], argv[k + 1],
                     n->mode == BMC_LIE || n->mode == BMC_DEAF ? " (not done)" : "");
        event(s, "bmc-set", i + 1, what.s);
        if (n->mode == BMC_LIE) {
            n->lie_power = strcmp(argv[k], "power") == 0 ? on : n->lie_power;
        } else if (n->mode == BMC_DEAF) {
            continue;
        } else if (strcmp(argv[k], "power") == 0) {
            r = on ? power_on(s, i) : power_off(s, i);
        } else if (strcmp(argv[k], "reset") == 0 && n->power != POWER_OFF) {
            r = power_off(s, i);
            r = r < 0 ? r : power_on(s, i);
        } else if (strcmp(argv[k], "shutdown") == 0 && n->power == POWER_ON) {
            r = lab_ipc_send(n->init_fd, "halt", 4, -1);
        }
        a->code = r < 0 ? 1 : a->code;
    }
}

static void verb_bmc(struct super *s, unsigned i, int argc, const char *argv[],
                     struct answer *a)
{
    struct node *n = &s->node[i];

    for (unsigned m = 0; m < sizeof bmc_names / sizeof bmc_names[0]; m++) {
        if (strcmp(argv[0], bmc_names[m]) != 0) {
            continue;
        }
        unsigned slow_ms = 8000;
        if (argc > 1 && !lab_number(argv[1], 1, 600000, &slow_ms)) {
            a->code = 2;
            lab_text_add(&a->text, "bmc: %s is not a number of ms", argv[1]);
            return;
        }
        n->slow_ms = slow_ms;
        n->mode = (enum bmc_mode)m;
        n->lie_power = -1;
        if (n->bmc > 0) {
            kill(n->bmc, n->mode == BMC_HANG ? SIGSTOP : SIGCONT);
        }
        event(s, "bmc-mode", i + 1, argv[0]);
        return;
    }
    a->code = 2;
    lab_text_add(&a->text, "bmc: %s is not one of ok, hang, lie, deaf, slow, fail",
                 argv[0]);
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
    event(s,
          signo == SIGSTOP   ? "pause"
          : signo == SIGCONT ? "resume"
                             : "kill",
          i + 1, name != NULL ? name : "all");
}

/* ---- faults ---- */

static void labfs_tell(struct super *s, unsigned i, const char *text)
{
    for (size_t k = 0; k < 2; k++) {
        if (s->node[i].labfs_fd[k] >= 0) {
            lab_ipc_send(s->node[i].labfs_fd[k], text, strlen(text), -1);
        }
    }
}

/* Carrier of the node's cluster cable. */
static int carrier(unsigned node, bool up)
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
    int r = apply_faults(s);
    if (s->node[i].power != POWER_OFF &&
        (old == LAB_LINK_DOWN) != (s->fault.link[i] == LAB_LINK_DOWN)) {
        r = carrier(i + 1, old == LAB_LINK_DOWN);
    }
    a->code = r < 0;
    event(s, "link", i + 1, what);
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
    a->code = apply_faults(s) < 0;
    for (unsigned i = 0; storage && i < s->lab->node_count; i++) {
        /* Storage has no side of its own: the group that is named first is the one that
         * loses it. */
        if (group[i] == 1) {
            s->fault.storage_cut[i] = true;
            labfs_tell(s, i, "hang 1");
        }
    }
    event(s, "partition", 0, text.buf);
out:
    lab_text_free(&text);
}

static void verb_heal(struct super *s, struct answer *a)
{
    for (unsigned i = 0; i < s->lab->node_count; i++) {
        if (s->fault.link[i] == LAB_LINK_DOWN && s->node[i].power != POWER_OFF) {
            carrier(i + 1, true);
        }
        labfs_tell(s, i, "heal");
    }
    lab_fault_heal(&s->fault);
    a->code = apply_faults(s) < 0;
    event(s, "heal", 0, "");
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
                     i > 0 ? "," : "", i + 1, power_names[n->power],
                     n->paused ? "true" : "false", n->boots,
                     n->power == POWER_OFF ? "" : boot_id, lab_link_str(s->fault.link[i]),
                     bmc_names[n->mode], s->fault.storage_cut[i] ? "cut" : "ok");
        bool first = true;
        for (unsigned k = 0; k < s->lab->node_count; k++) {
            if (s->fault.cut[k][i]) {
                lab_text_add(t, "%s\"n%u\"", first ? "" : ",", k + 1);
                first = false;
            }
        }
        lab_text_add(t, "],\"daemons\":[");
        for (size_t d = 0; d < DAEMONS_MAX && n->daemon[d][0] != '\0'; d++) {
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

static void verb_power(struct super *s, unsigned i, const char *what, int client,
                       struct answer *a)
{
    int r = 0;

    if (strcmp(what, "off") == 0) {
        r = power_off(s, i);
    } else if (strcmp(what, "halt") == 0) {
        r = s->node[i].power == POWER_ON ? lab_ipc_send(s->node[i].init_fd, "halt", 4, -1)
                                         : 0;
    } else if (strcmp(what, "on") == 0) {
        r = power_on(s, i);
        if (r == 0 && s->node[i].power == POWER_BOOTING && s->node[i].waiter < 0) {
            s->node[i].waiter = client;
            a->later = true;
        }
    } else {
        a->code = 2;
        lab_text_add(&a->text, "power: %s is not one of on, off, halt", what);
    }
    if (r < 0) {
        a->code = 1;
        lab_text_add(&a->text, "power n%u %s: %s", i + 1, what, strerror(-r));
    }
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
        verb_power(s, i, argv[2], client, a);
    } else if (strcmp(verb, "bmc") == 0) {
        verb_bmc(s, i, more, argv + 2, a);
    } else if (strcmp(verb, "bmc-chassis") == 0) {
        verb_chassis(s, i, more, argv + 2, a);
    } else if (strcmp(verb, "kill") == 0) {
        verb_signal(s, i, SIGKILL, more, argv + 2, a);
    } else if (strcmp(verb, "link") == 0) {
        verb_link(s, i, argv[2], a);
    } else if (strcmp(verb, "disk") == 0) {
        struct lab_path text = lab_path("%.40s %.40s", argv[2], more > 1 ? argv[3] : "");
        labfs_tell(s, i, text.s);
        event(s, "disk", i + 1, text.s);
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

static void client_request(struct super *s, int *slot)
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
        close_fd(slot);
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
    close_fd(&a.fd);
    lab_text_free(&a.text);
}

/* ---- events ---- */

static void keeper_says(struct super *s, unsigned i)
{
    struct node *n = &s->node[i];
    char buf[1024];
    int init;

    ssize_t len = lab_ipc_recv(n->keeper_fd, buf, sizeof buf, NULL);
    if (len <= 0) {
        close_fd(&n->keeper_fd); /* its end is noticed by reap_all */
        return;
    }
    if (strcmp(buf, "ports") == 0) {
        s->fault.dark[i] = false;
        apply_faults(s);
    } else if (sscanf(buf, "up %d", &init) == 1) {
        n->init = init;
        n->power = POWER_ON;
        event(s, "up", i + 1, "");
        answer_waiter(s, i, 0, "");
        if (s->fault.storage_cut[i]) {
            labfs_tell(s, i, "hang 1");
        }
        if (s->fault.link[i] == LAB_LINK_DOWN) {
            carrier(i + 1, false);
        }
    } else {
        lab_error("%s", buf);
        answer_waiter(s, i, 1, buf);
    }
}

static void init_says(struct super *s, unsigned i)
{
    struct node *n = &s->node[i];
    char buf[256], name[64], old[64];

    ssize_t len = lab_ipc_recv(n->init_fd, buf, sizeof buf, NULL);
    if (len <= 0) {
        close_fd(&n->init_fd);
        return;
    }
    if (sscanf(buf, "daemon %63s", name) != 1) {
        return;
    }
    event(s, "daemon", i + 1, buf + 7);
    for (size_t d = 0; d < DAEMONS_MAX; d++) {
        if (n->daemon[d][0] == '\0' ||
            (sscanf(n->daemon[d], "%63s", old) == 1 && strcmp(old, name) == 0)) {
            snprintf(n->daemon[d], sizeof n->daemon[d], "%.127s", buf + 7);
            return;
        }
    }
}

static void reap_all(struct super *s)
{
    int status;
    pid_t pid;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        for (unsigned i = 0; i < s->lab->node_count; i++) {
            struct node *n = &s->node[i];
            if (n->bmc == pid) {
                n->bmc = 0;
                event(s, "bmc-ended", i + 1, "ipmi_sim ended; see bmc/ipmi_sim.log");
            }
        }
    }
}

/* A node whose process group is gone without our doing has halted, or failed. */
static void notice_halted(struct super *s)
{
    for (unsigned i = 0; i < s->lab->node_count; i++) {
        struct node *n = &s->node[i];
        if (n->power == POWER_OFF || (kill(-n->keeper, 0) == 0 || errno != ESRCH)) {
            continue;
        }
        answer_waiter(s, i, 1, "its keeper ended; see gemel-lab logs");
        node_is_off(s, i, "halted");
    }
}

static void accept_client(struct super *s)
{
    int fd = accept4(s->listen_fd, NULL, NULL, SOCK_CLOEXEC);

    for (size_t k = 0; fd >= 0 && k < CLIENTS_MAX; k++) {
        if (s->client[k] < 0) {
            s->client[k] = fd;
            return;
        }
    }
    close_fd(&fd);
}

/* The command that started us went away before the lab was complete: there is to be no
 * lab. */
static void lifeline_says(struct super *s)
{
    char c = 0;

    if (read(s->lifeline, &c, 1) != 1 || c != 's') {
        _exit(1);
    }
    close_fd(&s->lifeline);
}

static void serve(struct super *s)
{
    struct pollfd fds[3 + CLIENTS_MAX + 2 * LAB_NODES_MAX];
    struct signalfd_siginfo info;

    for (;;) {
        size_t count = 0;
        fds[count++] = (struct pollfd){.fd = s->listen_fd, .events = POLLIN};
        fds[count++] = (struct pollfd){.fd = s->signal_fd, .events = POLLIN};
        fds[count++] = (struct pollfd){.fd = s->lifeline, .events = POLLIN};
        for (size_t k = 0; k < CLIENTS_MAX; k++) {
            fds[count++] = (struct pollfd){.fd = s->client[k], .events = POLLIN};
        }
        for (unsigned i = 0; i < LAB_NODES_MAX; i++) {
            fds[count++] = (struct pollfd){.fd = s->node[i].keeper_fd, .events = POLLIN};
            fds[count++] = (struct pollfd){.fd = s->node[i].init_fd, .events = POLLIN};
        }
        if (poll(fds, count, -1) < 0) {
            continue;
        }
        while (read(s->signal_fd, &info, sizeof info) == (ssize_t)sizeof info) {
        }
        for (unsigned i = 0; i < LAB_NODES_MAX; i++) {
            const struct pollfd *keeper = &fds[3 + CLIENTS_MAX + 2 * i],
                                *init = keeper + 1;
            if (keeper->fd >= 0 && keeper->fd == s->node[i].keeper_fd &&
                keeper->revents != 0) {
                keeper_says(s, i);
            }
            if (init->fd >= 0 && init->fd == s->node[i].init_fd && init->revents != 0) {
                init_says(s, i);
            }
        }
        reap_all(s);
        notice_halted(s);
        for (size_t k = 0; k < CLIENTS_MAX; k++) {
            if (s->client[k] >= 0 && fds[3 + k].fd == s->client[k] &&
                fds[3 + k].revents != 0) {
                client_request(s, &s->client[k]);
            }
        }
        if (fds[0].revents != 0) {
            accept_client(s);
        }
        if (s->lifeline >= 0 && fds[2].revents != 0) {
            lifeline_says(s);
        }
    }
}

/* ---- start ---- */

static int hub_network(const struct lab *lab)
{
    static const char *const argv[] = {"ip", "-batch", "-", NULL};
    struct lab_text batch = {0};
    char *output = NULL;

    int fd = open("/proc/sys/net/ipv6/conf/default/disable_ipv6", O_WRONLY | O_CLOEXEC);
    if (fd >= 0) {
        (void)!write(fd, "1", 1);
        close(fd);
    }
    lab_ip_hub(lab, &batch);
    int r = lab_run(argv, batch.buf, &output);
    if (r != 0) {
        lab_error("the lab's bridges could not be made: ip -batch: %s",
                  output != NULL ? output : "");
    }
    free(output);
    lab_text_free(&batch);
    return r == 0 ? 0 : -EIO;
}

_Noreturn static void supervise(const struct lab *lab, int lifeline)
{
    static struct super s;
    struct lab_path log = lab_path("%s/log/supervisor.log", lab->dir);
    struct lab_path events = lab_path("%s/log/events.jsonl", lab->dir);
    sigset_t set;
    char c;

    if (read(lifeline, &c, 1) != 1 || c != 'g') {
        _exit(1);
    }
    prctl(PR_SET_NAME, "gemel-labd");
    /* up's handlers are not for us nor for what we fork. */
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    signal(SIGHUP, SIG_DFL);
    signal(SIGPIPE, SIG_IGN);
    s = (struct super){
        .lab = lab, .lifeline = lifeline, .fault.node_count = lab->node_count};
    for (size_t k = 0; k < CLIENTS_MAX; k++) {
        s.client[k] = -1;
    }
    for (unsigned i = 0; i < LAB_NODES_MAX; i++) {
        struct node *n = &s.node[i];
        n->keeper_fd = n->init_fd = n->labfs_fd[0] = n->labfs_fd[1] = n->waiter =
            n->lie_power = -1;
        n->slow_ms = 8000;
    }
    int in = open("/dev/null", O_RDWR | O_CLOEXEC);
    int out = open(log.s, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    s.events_fd = open(events.s, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    dup2(in, 0);
    dup2(out, 1);
    dup2(out, 2);
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, NULL);
    s.signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0 ||
        mount("proc", "/proc", "proc", 0, NULL) < 0) {
        lab_error("mounting the lab's /proc: %s", strerror(errno));
        _exit(1);
    }
    int r = hub_network(lab);
    r = r < 0 ? r : apply_faults(&s);
    for (unsigned i = 0; r == 0 && i < lab->node_count; i++) {
        r = bmc_start(&s, i);
    }
    r = r < 0 ? r : lab_ipc_listen(lab->dir, &s.listen_fd);
    if (r < 0) {
        lab_error("the lab's supervisor could not start: %s", strerror(-r));
        _exit(1);
    }
    /* Only now does up go on. */
    (void)!write(lifeline, "r", 1);
    serve(&s);
    _exit(1);
}

int lab_super_start(struct lab *lab, int not_for_it, int *ret_lifeline)
{
    int pair[2], r;
    pid_t pid = 0;

    r = lab_ipc_pair(pair);
    if (r < 0) {
        return r;
    }
    pid_t starter = fork();
    if (starter == 0) {
        close(pair[0]);
        close(not_for_it);
        setsid();
        r = unshare(CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC) < 0 ? -errno
                                                                                  : 0;
        pid = r < 0 ? r : fork();
        if (pid == 0) {
            supervise(lab, pair[1]);
        }
        lab_ipc_send(pair[1], &pid, sizeof pid, -1);
        _exit(0);
    }
    close(pair[1]);
    if (starter < 0) {
        r = -errno;
        close(pair[0]);
        return r;
    }
    char buf[16];
    ssize_t n = lab_ipc_recv(pair[0], buf, sizeof buf, NULL);
    waitpid(starter, NULL, 0);
    if (n == (ssize_t)sizeof pid) {
        memcpy(&pid, buf, sizeof pid);
    }
    if (n != (ssize_t)sizeof pid || pid <= 0) {
        close(pair[0]);
        return pid < 0 ? (int)pid : -EIO;
    }
    lab->pid = pid;
    lab->start_time = lab_start_time(pid);
    *ret_lifeline = pair[0];
    return 0;
}

int lab_super_go(int lifeline)
{
    char c = 0;

    int r = lab_ipc_send(lifeline, "g", 1, -1);
    if (r == 0 && (read(lifeline, &c, 1) != 1 || c != 'r')) {
        r = -EIO;
    }
    return r;
}

int lab_super_settle(int lifeline)
{
    return lab_ipc_send(lifeline, "s", 1, -1);
}

int lab_super_kill(const struct lab *lab)
{
    char boot_id[64];

    if (lab->pid <= 0) {
        return 0;
    }
    int fd = (int)syscall(SYS_pidfd_open, lab->pid, 0);
    if (fd < 0) {
        return errno == ESRCH ? 0 : -errno;
    }
    ssize_t n = lab_read_file("/proc/sys/kernel/random/boot_id", boot_id, sizeof boot_id);
    if (n < 0 || strncmp(boot_id, lab->boot_id, 36) != 0 ||
        lab_start_time(lab->pid) != lab->start_time) {
        close(fd);
        return 0; /* the pid belongs to somebody else now */
    }
    /* PID 1 of the namespace ends only after everything in it has. */
    struct pollfd p = {.fd = fd, .events = POLLIN};
    int r = syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0) < 0 && errno != ESRCH
                ? -errno
                : 0;
    if (r == 0) {
        r = poll(&p, 1, 30000) == 1 ? 0 : -ETIMEDOUT;
    }
    close(fd);
    return r;
}
