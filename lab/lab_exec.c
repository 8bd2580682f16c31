/* SPDX-License-Identifier: Apache-2.0 */
#include "lab/lab_exec.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lab/lab_ipc.h"
#include "lab/lab_util.h"

#define CANNOT_RUN 125

static volatile sig_atomic_t child_pid;

/* What we are told, the command in the node is told. */
static void forward(int signo)
{
    if (child_pid > 0) {
        kill((pid_t)child_pid, signo);
    }
}

_Noreturn static void in_node(const char *const argv[], int out)
{
    struct lab_path path = lab_search_path();

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    setenv("PATH", path.s, 1);
    if (out >= 0) {
        int null = open("/dev/null", O_RDWR | O_CLOEXEC);
        dup2(null, 0);
        dup2(out, 1);
        dup2(null, 2);
    }
    execvp(argv[0], (char *const *)argv);
    fprintf(stderr, "gemel-lab: %s: %s\n", argv[0], strerror(errno));
    _exit(errno == ENOENT ? 127 : 126);
}

/* setns changes this process: so it is done in a child, whose own child runs the command.
 */
static int enter(int pidfd, const char *const argv[], int out)
{
    int status;

    char *cwd = getcwd(NULL, 0);
    if (setns(pidfd, CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWPID | CLONE_NEWUTS |
                         CLONE_NEWIPC) < 0) {
        lab_error("entering the node: %s", strerror(errno));
        return CANNOT_RUN;
    }
    /* The machine's directories are the node's too, but for a few. */
    if (cwd == NULL || chdir(cwd) < 0) {
        (void)!chdir("/");
    }
    free(cwd);
    pid_t pid = fork();
    if (pid == 0) {
        in_node(argv, out);
    }
    if (pid < 0) {
        return CANNOT_RUN;
    }
    child_pid = pid;
    while (waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR) {
            return CANNOT_RUN;
        }
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int wait_for(pid_t pid)
{
    int status;

    while (waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR) {
            return CANNOT_RUN;
        }
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : CANNOT_RUN;
}

int lab_exec(const char *dir, const char *node, const char *const argv[], char *output,
             size_t cap)
{
    const char *const request[] = {"pidfd", node, NULL};
    int out[2] = {-1, -1}, pidfd = -1, r;
    char text[512] = "";
    size_t len = 0;

    r = lab_ipc_call(dir, request, text, sizeof text, &pidfd);
    if (r != 0 || pidfd < 0) {
        if (output == NULL) {
            lab_error("exec: %s", text[0] != '\0' ? text
                                  : r < 0         ? strerror(-r)
                                                  : "no such node");
        }
        return CANNOT_RUN;
    }
    if (output != NULL && pipe2(out, O_CLOEXEC) < 0) {
        close(pidfd);
        return CANNOT_RUN;
    }
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        static const int signals[] = {SIGTERM, SIGHUP, SIGUSR1, SIGUSR2, SIGCONT};
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++) {
            signal(signals[i], forward);
        }
        _exit(enter(pidfd, argv, out[1]));
    }
    close(pidfd);
    if (output != NULL) {
        ssize_t n;
        close(out[1]);
        while (len + 1 < cap && (n = read(out[0], output + len, cap - 1 - len)) > 0) {
            len += (size_t)n;
        }
        output[len] = '\0';
        close(out[0]);
        return pid < 0 ? CANNOT_RUN : wait_for(pid);
    }
    if (pid < 0) {
        return CANNOT_RUN;
    }
    child_pid = pid;
    signal(SIGTERM, forward);
    signal(SIGINT,
           SIG_IGN); /* the terminal tells the command itself; its exit code is ours */
    return wait_for(pid);
}
