/* SPDX-License-Identifier: Apache-2.0 */
/* The power of a node, and its BMC, which says what it is and switches it. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lab/lab_ipc.h"
#include "lab/lab_node.h"
#include "lab/lab_super_priv.h"

#define POWER_OFF_MS 10000
#define FDS_MAX      256 /* more than LAB_CLIENTS_MAX, five per node and a few */

static const char *const power_names[] = {
    [POWER_OFF] = "off", [POWER_BOOTING] = "booting", [POWER_ON] = "on"};
static const char *const bmc_names[] = {
    [BMC_OK] = "ok",     [BMC_HANG] = "hang", [BMC_LIE] = "lie",
    [BMC_SLOW] = "slow", [BMC_FAIL] = "fail", [BMC_DEAF] = "deaf",
};

const char *lab_super_power_str(enum power power)
{
    return power_names[power];
}

const char *lab_super_bmc_str(enum bmc_mode mode)
{
    return bmc_names[mode];
}

static void node_is_off(struct super *s, unsigned i, const char *why)
{
    struct node *n = &s->node[i];

    lab_close(&n->keeper_fd);
    lab_close(&n->init_fd);
    lab_close(&n->labfs_fd[0]);
    lab_close(&n->labfs_fd[1]);
    n->power = POWER_OFF;
    n->keeper = n->init = 0;
    n->paused = false;
    memset(n->daemon, 0, sizeof n->daemon);
    lab_super_event(s, "off", i + 1, why);
}

void lab_super_answer_waiter(struct super *s, unsigned i, int code, const char *text)
{
    struct lab_path reply = lab_path("%d\n%.400s", code, text);

    if (s->node[i].waiter >= 0) {
        lab_ipc_send(s->node[i].waiter, reply.s, strlen(reply.s), -1);
        s->node[i].waiter = -1; /* the client's fd is closed with its slot */
    }
}

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
    lab_super_event(s, "power-cut", i + 1, "");
    s->fault.dark[i] = true;
    int r = lab_super_apply_faults(s);
    if (r < 0) {
        return r;
    }
    uint64_t silent = lab_now_ns();
    pid_t group = n->keeper;
    kill(-group, SIGKILL);
    while (kill(-group, 0) == 0 || errno != ESRCH) {
        lab_super_reap(s);
        if (lab_now_ns() - begin > POWER_OFF_MS * UINT64_C(1000000)) {
            return -ETIMEDOUT;
        }
        usleep(300);
    }
    struct lab_path why =
        lab_path("power cut, silent after %.1f ms, dead after %.1f ms",
                 (double)(silent - begin) / 1e6, (double)(lab_now_ns() - begin) / 1e6);
    lab_super_answer_waiter(s, i, 1, "the power was cut while it was being switched on");
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
        lab_close(&pair[k][1]);
        if (r < 0) {
            lab_close(&pair[k][0]);
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
    lab_super_event(s, "power-on", i + 1, "");
    return 0;
}

void lab_super_verb_power(struct super *s, unsigned i, const char *what, int client,
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

void lab_super_notice_halted(struct super *s)
{
    for (unsigned i = 0; i < s->lab->node_count; i++) {
        struct node *n = &s->node[i];
        if (n->power == POWER_OFF || (kill(-n->keeper, 0) == 0 || errno != ESRCH)) {
            continue;
        }
        lab_super_answer_waiter(s, i, 1, "its keeper ended; see gemel-lab logs");
        node_is_off(s, i, "halted");
    }
}

/* ---- BMCs ---- */

int lab_super_bmc_start(struct super *s, unsigned i)
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
void lab_super_verb_chassis(struct super *s, unsigned i, int argc, const char *argv[],
                            struct answer *a)
{
    struct node *n = &s->node[i];
    int r = 0;

    if (strcmp(argv[0], "mode") == 0) {
        lab_text_add(&a->text, "%s %u", lab_super_bmc_str(n->mode), n->slow_ms);
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
        lab_super_event(s, "bmc-set", i + 1, what.s);
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

void lab_super_verb_bmc(struct super *s, unsigned i, int argc, const char *argv[],
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
        lab_super_event(s, "bmc-mode", i + 1, argv[0]);
        return;
    }
    a->code = 2;
    lab_text_add(&a->text, "bmc: %s is not one of ok, hang, lie, deaf, slow, fail",
                 argv[0]);
}

void lab_super_reap(struct super *s)
{
    int status;
    pid_t pid;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        for (unsigned i = 0; i < s->lab->node_count; i++) {
            struct node *n = &s->node[i];
            if (n->bmc == pid) {
                n->bmc = 0;
                lab_super_event(s, "bmc-ended", i + 1,
                                "ipmi_sim ended; see bmc/ipmi_sim.log");
            }
        }
    }
}
