/* SPDX-License-Identifier: Apache-2.0 */
#include "lab/lab_super.h"

#include <errno.h>
#include <fcntl.h>
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
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lab/lab_ipc.h"
#include "lab/lab_super_priv.h"

void lab_super_event(struct super *s, const char *what, unsigned node, const char *detail)
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

/* ---- events ---- */

static void keeper_says(struct super *s, unsigned i)
{
    struct node *n = &s->node[i];
    char buf[1024];
    int init;

    ssize_t len = lab_ipc_recv(n->keeper_fd, buf, sizeof buf, NULL);
    if (len <= 0) {
        lab_close(&n->keeper_fd); /* its end is noticed by reap_all */
        return;
    }
    if (strcmp(buf, "ports") == 0) {
        s->fault.dark[i] = false;
        lab_super_apply_faults(s);
    } else if (sscanf(buf, "up %d", &init) == 1) {
        n->init = init;
        n->power = POWER_ON;
        lab_super_event(s, "up", i + 1, "");
        lab_super_answer_waiter(s, i, 0, "");
        if (s->fault.storage_cut[i]) {
            lab_super_labfs_tell(s, i, "hang 1");
        }
        if (s->fault.link[i] == LAB_LINK_DOWN) {
            lab_super_carrier(i + 1, false);
        }
    } else {
        lab_error("%s", buf);
        lab_super_answer_waiter(s, i, 1, buf);
    }
}

static void init_says(struct super *s, unsigned i)
{
    struct node *n = &s->node[i];
    char buf[256], name[64], old[64];

    ssize_t len = lab_ipc_recv(n->init_fd, buf, sizeof buf, NULL);
    if (len <= 0) {
        lab_close(&n->init_fd);
        return;
    }
    if (sscanf(buf, "daemon %63s", name) != 1) {
        return;
    }
    lab_super_event(s, "daemon", i + 1, buf + 7);
    for (size_t d = 0; d < LAB_DAEMONS_MAX; d++) {
        if (n->daemon[d][0] == '\0' ||
            (sscanf(n->daemon[d], "%63s", old) == 1 && strcmp(old, name) == 0)) {
            snprintf(n->daemon[d], sizeof n->daemon[d], "%.127s", buf + 7);
            return;
        }
    }
}

static void accept_client(struct super *s)
{
    int fd = accept4(s->listen_fd, NULL, NULL, SOCK_CLOEXEC);

    for (size_t k = 0; fd >= 0 && k < LAB_CLIENTS_MAX; k++) {
        if (s->client[k] < 0) {
            s->client[k] = fd;
            return;
        }
    }
    lab_close(&fd);
}

/* The command that started us went away before the lab was complete: there is to be no
 * lab. */
static void lifeline_says(struct super *s)
{
    char c = 0;

    if (read(s->lifeline, &c, 1) != 1 || c != 's') {
        _exit(1);
    }
    lab_close(&s->lifeline);
}

static void serve(struct super *s)
{
    struct pollfd fds[3 + LAB_CLIENTS_MAX + 2 * LAB_NODES_MAX];
    struct signalfd_siginfo info;

    for (;;) {
        size_t count = 0;
        fds[count++] = (struct pollfd){.fd = s->listen_fd, .events = POLLIN};
        fds[count++] = (struct pollfd){.fd = s->signal_fd, .events = POLLIN};
        fds[count++] = (struct pollfd){.fd = s->lifeline, .events = POLLIN};
        for (size_t k = 0; k < LAB_CLIENTS_MAX; k++) {
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
            const struct pollfd *keeper = &fds[3 + LAB_CLIENTS_MAX + 2 * i],
                                *init = keeper + 1;
            if (keeper->fd >= 0 && keeper->fd == s->node[i].keeper_fd &&
                keeper->revents != 0) {
                keeper_says(s, i);
            }
            if (init->fd >= 0 && init->fd == s->node[i].init_fd && init->revents != 0) {
                init_says(s, i);
            }
        }
        lab_super_reap(s);
        lab_super_notice_halted(s);
        for (size_t k = 0; k < LAB_CLIENTS_MAX; k++) {
            if (s->client[k] >= 0 && fds[3 + k].fd == s->client[k] &&
                fds[3 + k].revents != 0) {
                lab_super_request(s, &s->client[k]);
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
    for (size_t k = 0; k < LAB_CLIENTS_MAX; k++) {
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
    r = r < 0 ? r : lab_super_apply_faults(&s);
    for (unsigned i = 0; r == 0 && i < lab->node_count; i++) {
        r = lab_super_bmc_start(&s, i);
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
