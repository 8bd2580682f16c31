/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bug.h"
#include "base/limits.h"
#include "base/os.h"
#include "base/uuid.h"

/* What the child needs, all made before fork: between fork and exec only
 * async-signal-safe calls are allowed. */
struct spawn_plan {
    const char *const *argv;
    char *const *env;
    int stdio[3];
    int keep[SPAWN_FDS_MAX]; /* ascending, all above 2 */
    size_t keep_count;
    int error_fd; /* close-on-exec: closing tells the parent that exec succeeded, an int
                     that it failed */
};

static int compare_ints(const void *a, const void *b)
{
    int x = *(const int *)a, y = *(const int *)b;

    return (x > y) - (x < y);
}

static _Noreturn void child_fail(const struct spawn_plan *plan)
{
    int error = errno;
    ssize_t n = write(plan->error_fd, &error, sizeof error);

    _exit(n == sizeof error ? 127 : 126);
}

/*
 * By system call: libc refuses to touch its own two signals, and some parents (make)
 * leave them ignored. Zeroes are the kernel's struct sigaction with SIG_DFL; signals that
 * cannot be set fail, as they should.
 */
static void child_reset_signals(void)
{
    static const uint64_t dfl[4];
    sigset_t none;

    for (int signo = 1; signo < NSIG; signo++) {
        syscall(SYS_rt_sigaction, signo, dfl, NULL, 8);
    }
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

/* First all sources above 2 and away from each other, then onto 0, 1, 2: no order of
 * stdio[] can overwrite another. */
static void child_stdio(const struct spawn_plan *plan)
{
    int source[3];

    for (int i = 0; i < 3; i++) {
        int fd = plan->stdio[i];

        if (fd < 0) {
            fd = open("/dev/null", O_RDWR | O_CLOEXEC);
            if (fd < 0) {
                child_fail(plan);
            }
        }
        source[i] = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        if (source[i] < 0) {
            child_fail(plan);
        }
    }
    for (int i = 0; i < 3; i++) {
        if (dup2(source[i], i) < 0) {
            child_fail(plan);
        }
    }
}

/* Everything above 2 is closed but for the kept fds and the error pipe, which exec
 * closes. */
static void child_close_others(const struct spawn_plan *plan)
{
    unsigned from = 3;
    bool error_seen = false;

    for (size_t i = 0; i <= plan->keep_count; i++) {
        int next = i < plan->keep_count ? plan->keep[i] : -1;

        if (!error_seen && (next < 0 || plan->error_fd < next)) {
            next = plan->error_fd;
            error_seen = true;
            i--; /* keep[i] comes after it */
        } else if (next < 0) {
            break;
        } else if (fcntl(next, F_SETFD, 0) < 0) {
            child_fail(plan);
        }
        if ((unsigned)next > from && close_range(from, (unsigned)next - 1, 0) < 0) {
            child_fail(plan);
        }
        from = (unsigned)next + 1;
    }
    if (close_range(from, ~0U, 0) < 0) {
        child_fail(plan);
    }
}

static _Noreturn void child_run(const struct spawn_plan *plan)
{
    if (setsid() < 0) {
        child_fail(plan);
    }
    child_stdio(plan);
    child_close_others(plan);
    child_reset_signals();
    execvpe(plan->argv[0], (char *const *)plan->argv, plan->env);
    child_fail(plan);
}

/* 0 when the child has exec'ed, else what failed in it. */
static int wait_for_exec(int fd)
{
    int error;
    ssize_t n;

    do {
        n = read(fd, &error, sizeof error);
    } while (n < 0 && errno == EINTR);
    if (n < 0) {
        return -errno;
    }
    return n == sizeof error ? -error : 0;
}

static int make_plan(const char *const argv[], const char *const env[],
                     const int stdio[3], const int *pass_fds, size_t pass_fd_count,
                     struct spawn_plan *ret_plan)
{
    struct spawn_plan plan = {.argv = argv, .keep_count = pass_fd_count, .error_fd = -1};

    if (argv[0] == NULL || pass_fd_count > SPAWN_FDS_MAX) {
        return -EINVAL;
    }
    for (size_t i = 0; i < pass_fd_count; i++) {
        if (pass_fds[i] <= 2) {
            return -EINVAL; /* stdio[] says what those are */
        }
        plan.keep[i] = pass_fds[i];
    }
    qsort(plan.keep, plan.keep_count, sizeof plan.keep[0], compare_ints);
    for (size_t i = 1; i < plan.keep_count; i++) {
        if (plan.keep[i] == plan.keep[i - 1]) {
            return -EINVAL;
        }
    }
    plan.env = env != NULL ? (char *const *)env : environ;
    memcpy(plan.stdio, stdio, sizeof plan.stdio);
    *ret_plan = plan;
    return 0;
}

/* All signals are blocked across fork, so that no handler of ours ever runs in the child.
 */
static pid_t fork_blocked(const struct spawn_plan *plan)
{
    sigset_t all, old;
    pid_t pid;
    int error;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    pid = fork();
    if (pid == 0) {
        child_run(plan);
    }
    error = errno;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return pid < 0 ? -error : pid;
}

int os_spawn(const char *const argv[], const char *const env[], const int stdio[3],
             const int *pass_fds, size_t pass_fd_count, struct os_child *ret_child)
{
    struct os_child child = {.pidfd = -1};
    struct spawn_plan plan;
    int pipe_fd[2], r;

    r = make_plan(argv, env, stdio, pass_fds, pass_fd_count, &plan);
    if (r < 0) {
        return r;
    }
    if (pipe2(pipe_fd, O_CLOEXEC) < 0) {
        return -errno;
    }
    plan.error_fd = pipe_fd[1];
    child.pid = fork_blocked(&plan);
    close(pipe_fd[1]);
    if (child.pid < 0) {
        r = child.pid;
        goto out;
    }
    /* The child cannot be reaped before we do it, so its pid is still its own here. */
    child.start_time = os_proc_start_time(child.pid);
    child.pidfd = pidfd_open(child.pid, 0);
    r = child.pidfd < 0 ? -errno : wait_for_exec(pipe_fd[0]);
    if (r < 0) {
        kill(child.pid, SIGKILL);
        waitpid(child.pid, NULL, 0);
        os_child_close(&child);
        goto out;
    }
    *ret_child = child;
    r = 0;
out:
    close(pipe_fd[0]);
    return r;
}

uint64_t os_proc_start_time(pid_t pid)
{
    char path[32], text[1024];
    unsigned long long start = 0;
    char *p;

    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    if (os_file_read(path, text, sizeof text - 1, NULL) < 0) {
        return 0;
    }
    /* Field 2 is the program's name in brackets, and may hold brackets and spaces: count
     * from the last bracket. */
    p = strrchr(text, ')');
    if (p == NULL) {
        return 0;
    }
    for (int field = 2; field < 22; field++) {
        p = strchr(p + 1, ' ');
        if (p == NULL) {
            return 0;
        }
    }
    return sscanf(p, "%llu", &start) == 1 ? start : 0;
}

int os_child_reopen(pid_t pid, uint64_t start_time, struct os_child *ret_child)
{
    struct os_child child = {.pid = pid, .start_time = start_time};

    if (pid <= 1 || start_time == 0) {
        return -EINVAL;
    }
    child.pidfd = pidfd_open(pid, 0);
    if (child.pidfd < 0) {
        return -errno;
    }
    /* Read after the pidfd is open: if the time is right now, the pidfd is of that very
     * process. */
    if (os_proc_start_time(pid) != start_time) {
        os_child_close(&child);
        return -ESRCH;
    }
    *ret_child = child;
    return 0;
}

int os_child_kill_group(const struct os_child *child, int signo)
{
    if (child->pid <= 1 || child->pidfd < 0) {
        return -ESRCH; /* never kill(-1) or kill(0) */
    }
    /* Succeeds for a living process and for one not yet reaped: until then pid and group
     * cannot belong to others. */
    if (pidfd_send_signal(child->pidfd, 0, NULL, 0) < 0) {
        return -errno;
    }
    return kill(-child->pid, signo) < 0 ? -errno : 0;
}

int os_child_reap(struct os_child *child, int *ret_status)
{
    siginfo_t info = {0};
    int status;

    if (waitid(P_PIDFD, (id_t)child->pidfd, &info, WEXITED | WNOHANG) < 0) {
        return -errno;
    }
    if (info.si_pid == 0) {
        return -EAGAIN;
    }
    switch (info.si_code) {
    case CLD_EXITED:
        status = (info.si_status & 0xff) << 8;
        break;
    case CLD_DUMPED:
        status = info.si_status | 0x80;
        break;
    default:
        status = info.si_status;
        break;
    }
    child->pid = 0; /* the number may be reused from now on */
    if (ret_status != NULL) {
        *ret_status = status;
    }
    return 0;
}

void os_child_close(struct os_child *child)
{
    if (child->pidfd >= 0) {
        close(child->pidfd);
    }
    *child = (struct os_child){.pidfd = -1};
}

struct uuid os_boot_id(void)
{
    struct uuid id = {{0}};
    char text[64];
    size_t len;

    if (os_file_read("/proc/sys/kernel/random/boot_id", text, sizeof text - 1, &len) ==
        0) {
        if (len > 0 && text[len - 1] == '\n') {
            text[len - 1] = '\0';
        }
        uuid_parse(text, &id);
    }
    /* Without a boot id no incarnation can be told from another: nothing above could be
     * right. */
    BUG_ON(uuid_is_none(id));
    return id;
}

struct uuid uuid_random(void)
{
    struct uuid u;
    size_t got = 0;

    while (got < sizeof u.b) {
        ssize_t n = getrandom(u.b + got, sizeof u.b - got, 0);

        BUG_ON(n < 0 && errno != EINTR);
        got += n > 0 ? (size_t)n : 0;
    }
    u.b[6] = (uint8_t)((u.b[6] & 0x0f) | 0x40); /* RFC 4122 4.4 */
    u.b[8] = (uint8_t)((u.b[8] & 0x3f) | 0x80);
    return u;
}
