/* SPDX-License-Identifier: Apache-2.0 */
#include "fencing/fence_exec.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/os.h"

/* After SIGTERM, before SIGKILL: an agent may log out of a device that allows one
 * session. */
#define TERM_GRACE_MS 500
/* After SIGKILL, before we report without having seen it end (state D). */
#define KILL_WAIT_MS 2000
/* How often the rest of an ended agent's group is looked at until all of it is gone. */
#define REST_POLL_MS 2
/* For an agent that is dropped while we end or fail ourselves. */
#define ABANDON_WAIT_MS 200
/* What is read of an ended agent's pipe: an escaped descendant could write for ever. */
#define DRAIN_BYTES_MAX (256 * 1024)
/* Descendants that left the group are looked for until none is found, at most so often.
 */
#define STRAY_SWEEPS_MAX 100
#define STRAY_SWEEP_MS   20

enum exec_state {
    EXEC_HELD = 1, /* waits for its parameters */
    EXEC_RUNNING,
    EXEC_TERMED, /* its time is over, SIGTERM sent */
    EXEC_KILLED, /* SIGKILL sent */
    EXEC_REST,   /* ended and reaped; what it left in its group is still dying */
    EXEC_LOST,   /* reported, but the kernel still has it: freed when it ends */
};

struct fence_exec {
    struct fence_runner *runner;
    struct fence_exec *next;
    enum fence_action action;
    enum exec_state state;
    enum fence_end end;
    fence_exec_fn fn;
    void *data;
    struct os_child child;
    pid_t group;             /* its process group; outlives the agent until it is empty */
    int status;              /* as of waitpid, in EXEC_REST */
    int stdin_fd, output_fd; /* -1: closed */
    loop_timer timer;
    uint64_t begin_ns;
    uint64_t rest_until_ns;
    uint32_t timeout_ms;
    uint64_t output_bytes;
    size_t output_len;
    char output[FENCE_OUTPUT_MAX];
    char
        secret[FENCE_SECRET_LEN_MAX + 1]; /* for scrubbing the output; wiped at the end */
    size_t secret_len;
};

struct fence_runner {
    struct loop *loop;
    char agents_dir[PATH_LEN_MAX];
    char secrets_dir[PATH_LEN_MAX];
    struct fence_exec *list;
    loop_timer stray_timer;
    unsigned stray_sweeps;
};

static void stray_sweep(void *data);

__attribute__((format(printf, 2, 3))) static void set_error(struct fence_error *ret_error,
                                                            const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(ret_error->text, sizeof(ret_error->text), format, args);
    va_end(args);
}

/* Secrets
 * --------------------------------------------------------------------------------------------------------
 */

static int secret_file_check(const struct stat *dir, const struct stat *file,
                             const char *path, struct fence_error *ret_error)
{
    if (dir->st_uid != geteuid() || (dir->st_mode & 022) != 0) {
        set_error(
            ret_error,
            "secret %s: others can write its directory; chown root and chmod 0700 it",
            path);
        return -EPERM;
    }
    if (!S_ISREG(file->st_mode)) {
        set_error(ret_error,
                  "secret %s: not a regular file; write key=value lines into one", path);
        return -EPERM;
    }
    if (file->st_uid != geteuid()) {
        set_error(ret_error, "secret %s: belongs to uid %u; chown it to root", path,
                  (unsigned)file->st_uid);
        return -EPERM;
    }
    if ((file->st_mode & 07177) != 0) {
        set_error(ret_error,
                  "secret %s: mode %04o lets others read it; chmod 0600 it, and change "
                  "the password",
                  path, (unsigned)file->st_mode & 07777);
        return -EPERM;
    }
    if (file->st_size > FENCE_SECRET_LEN_MAX) {
        set_error(ret_error, "secret %s: longer than %d bytes", path,
                  FENCE_SECRET_LEN_MAX);
        return -EFBIG;
    }
    return 0;
}

static int secret_load(int fd, const char *name, char *buf, size_t *ret_len,
                       struct fence_error *ret_error)
{
    size_t len = 0;
    ssize_t n;

    while (len < FENCE_SECRET_LEN_MAX) {
        n = read(fd, buf + len, FENCE_SECRET_LEN_MAX - len);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            set_error(ret_error, "secret of fence device '%s': cannot read it: %s", name,
                      strerror(errno));
            return -EIO;
        }
        if (n == 0) {
            break;
        }
        len += (size_t)n;
    }
    buf[len] = '\0';
    *ret_len = len;
    return fence_secret_check(name, buf, len, ret_error);
}

int fence_secret_read(const char *secrets_dir, const char *name, char *buf,
                      size_t *ret_len, struct fence_error *ret_error)
{
    char path[PATH_LEN_MAX + NODE_NAME_MAX + 16];
    struct stat dir, file;
    int dir_fd = -1, fd = -1, r;

    snprintf(path, sizeof(path), "%s/%s.secret", secrets_dir, name);
    dir_fd = open(secrets_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir_fd >= 0) {
        /* NONBLOCK: a FIFO there must not hang us before it is refused. */
        fd = openat(dir_fd, path + strlen(secrets_dir) + 1,
                    O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    }
    if (fd < 0) {
        if (errno == ENOENT) { /* a device may need none */
            *ret_len = 0;
            r = 0;
            goto out;
        }
        r = -errno;
        set_error(
            ret_error,
            "secret %s: cannot open it: %s; make it a regular file of root, mode 0600",
            path, strerror(errno));
        goto out;
    }
    if (fstat(dir_fd, &dir) < 0 || fstat(fd, &file) < 0) {
        r = -errno;
        set_error(ret_error, "secret %s: %s", path, strerror(errno));
        goto out;
    }
    r = secret_file_check(&dir, &file, path, ret_error);
    if (r < 0) {
        goto out;
    }
    r = secret_load(fd, name, buf, ret_len, ret_error);
out:
    if (fd >= 0) {
        close(fd);
    }
    if (dir_fd >= 0) {
        close(dir_fd);
    }
    return r;
}

/* Input
 * ----------------------------------------------------------------------------------------------------------
 */

static void fd_close(int *fd)
{
    if (*fd >= 0) {
        close(*fd);
        *fd = -1;
    }
}

/* The pipe holds 64 KiB and our text is a quarter of that: a short write means that
 * something is badly wrong. */
static int input_write(struct fence_exec *exec, const char *buf, size_t len,
                       struct fence_error *ret_error)
{
    ssize_t n = write(exec->stdin_fd, buf, len);

    if (n == (ssize_t)len) {
        return 0;
    }
    set_error(ret_error, "the agent does not take its parameters: %s",
              n < 0 ? strerror(errno) : "its input pipe is full");
    return n < 0 && errno == EPIPE ? -ESRCH : -EIO;
}

static int input_rest(struct fence_exec *exec, const struct conf_fence_device *device,
                      struct fence_error *ret_error)
{
    char buf[FENCE_INPUT_LEN_MAX];
    size_t len;
    int r;

    len = fence_input_tail(device, exec->action, exec->secret, exec->secret_len, buf,
                           sizeof(buf));
    if (len == 0 && device->param_count > 0) {
        set_error(ret_error, "fence device '%s': its parameters are too long",
                  device->name);
        r = -E2BIG;
        goto out;
    }
    r = len > 0 ? input_write(exec, buf, len, ret_error) : 0;
out:
    explicit_bzero(buf, sizeof(buf));
    return r;
}

/* Output
 * ---------------------------------------------------------------------------------------------------------
 */

/* Keeps the beginning, counts the rest. Returns false at the end of the output. */
static bool output_take(struct fence_exec *exec, size_t bytes_max)
{
    char discard[16384];

    for (size_t taken = 0; taken < bytes_max;) {
        size_t room = sizeof(exec->output) - exec->output_len;
        ssize_t n = room > 0
                        ? read(exec->output_fd, exec->output + exec->output_len, room)
                        : read(exec->output_fd, discard, sizeof(discard));

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return n < 0 && errno == EAGAIN;
        }
        exec->output_len += room > 0 ? (size_t)n : 0;
        exec->output_bytes += (size_t)n;
        taken += (size_t)n;
    }
    return true;
}

static int output_ready(int fd, int revents, void *data)
{
    struct fence_exec *exec = data;

    (void)fd;
    (void)revents;
    /* A bounded piece at a time: a flood from one agent must not starve the others. */
    if (output_take(exec, 65536)) {
        return 0;
    }
    loop_fd_del(exec->runner->loop, exec->output_fd);
    fd_close(&exec->output_fd);
    return 0;
}

/* Life
 * -----------------------------------------------------------------------------------------------------------
 */

static void exec_unlink(struct fence_exec *exec)
{
    for (struct fence_exec **p = &exec->runner->list; *p != NULL; p = &(*p)->next) {
        if (*p == exec) {
            *p = exec->next;
            return;
        }
    }
}

static void exec_free(struct fence_exec *exec)
{
    struct loop *loop = exec->runner->loop;

    exec_unlink(exec);
    loop_timer_del(loop, &exec->timer);
    if (exec->output_fd >= 0) {
        loop_fd_del(loop, exec->output_fd);
    }
    if (exec->child.pidfd >= 0) {
        loop_fd_del(loop, exec->child.pidfd);
    }
    fd_close(&exec->output_fd);
    fd_close(&exec->stdin_fd);
    os_child_close(&exec->child);
    explicit_bzero(exec->secret, sizeof(exec->secret));
    explicit_bzero(exec->output, sizeof(exec->output)); /* an agent may have printed it */
    free(exec);
}

static void exec_report(struct fence_exec *exec, int code, const char *detail)
{
    struct fence_run_result result = {
        .end = exec->end,
        .code = code,
        .elapsed_ms = (uint32_t)((loop_now_ns() - exec->begin_ns) / NSEC_PER_MSEC),
        .output_bytes = exec->output_bytes,
    };
    bool cut = exec->output_bytes > exec->output_len;
    size_t len;

    if (detail != NULL) {
        snprintf(result.detail, sizeof(result.detail), "%s", detail);
    } else {
        len = fence_scrub(exec->output, exec->output_len, exec->secret, exec->secret_len);
        fence_output_line(exec->output, len, cut, result.detail, sizeof(result.detail));
    }
    if (exec->fn != NULL) {
        exec->fn(exec, &result, exec->data);
    }
}

static void stray_look(struct fence_runner *runner)
{
    runner->stray_sweeps = 0;
    if (runner->stray_timer == 0) {
        stray_sweep(runner);
    }
}

static void exec_finish(struct fence_exec *exec)
{
    struct fence_runner *runner = exec->runner;
    int code =
        WIFEXITED(exec->status) ? WEXITSTATUS(exec->status) : WTERMSIG(exec->status);
    bool lost = exec->state == EXEC_LOST;

    if (exec->output_fd >= 0) {
        output_take(exec, DRAIN_BYTES_MAX);
    }
    if (exec->end == 0) {
        exec->end = WIFEXITED(exec->status) ? FENCE_END_EXITED : FENCE_END_SIGNALLED;
    }
    if (!lost) {
        exec_report(exec, code, NULL);
    }
    exec_free(exec);
    stray_look(runner);
}

/*
 * Is anything left of the group, all of which has been sent SIGKILL? We are the reaper of
 * what the agent left behind, so all of it becomes our child; the group's number is not
 * given to others while it has a member.
 */
static bool group_empty(pid_t group)
{
    pid_t pid;

    do {
        pid = waitpid(-group, NULL, WNOHANG);
    } while (pid > 0);
    return pid < 0 && errno == ECHILD && kill(-group, 0) < 0 && errno == ESRCH;
}

/*
 * An action is over when nothing of it can reach the device any more: a process that was
 * killed in a system call is still inside it. Only then may the device's next action
 * begin.
 */
static void exec_rest(void *data)
{
    struct fence_exec *exec = data;

    exec->timer = 0;
    if (!group_empty(exec->group) && loop_now_ns() < exec->rest_until_ns &&
        loop_timer_add(exec->runner->loop, REST_POLL_MS * NSEC_PER_MSEC, exec_rest, exec,
                       &exec->timer) == 0) {
        return;
    }
    exec_finish(exec);
}

static int exec_ended(int fd, int revents, void *data)
{
    struct fence_exec *exec = data;

    (void)fd;
    (void)revents;
    /* Before it is reaped its pid still names the group: whatever it left behind goes
     * now. */
    os_child_kill_group(&exec->child, SIGKILL);
    if (os_child_reap(&exec->child, &exec->status) == -EAGAIN) {
        return 0;
    }
    loop_fd_del(exec->runner->loop, exec->child.pidfd);
    os_child_close(&exec->child);
    loop_timer_del(exec->runner->loop, &exec->timer);
    if (exec->state == EXEC_LOST) {
        exec_finish(exec);
        return 0;
    }
    exec->state = EXEC_REST;
    exec->rest_until_ns = loop_now_ns() + KILL_WAIT_MS * NSEC_PER_MSEC;
    exec_rest(exec);
    return 0;
}

static void exec_timer(void *data);

static void exec_arm(struct fence_exec *exec, uint32_t ms)
{
    struct loop *loop = exec->runner->loop;

    loop_timer_del(loop, &exec->timer);
    /* Without a timer it could hang for ever: then it is not allowed to run at all. */
    if (loop_timer_add(loop, ms * NSEC_PER_MSEC, exec_timer, exec, &exec->timer) < 0) {
        exec->end = FENCE_END_TIMEOUT;
        os_child_kill_group(&exec->child, SIGKILL);
    }
}

static void exec_timer(void *data)
{
    struct fence_exec *exec = data;

    exec->timer = 0;
    switch (exec->state) {
    case EXEC_RUNNING:
        exec->end = FENCE_END_TIMEOUT;
        exec->state = EXEC_TERMED;
        os_child_kill_group(&exec->child, SIGTERM);
        exec_arm(exec, TERM_GRACE_MS);
        break;
    case EXEC_TERMED:
        exec->state = EXEC_KILLED;
        os_child_kill_group(&exec->child, SIGKILL);
        exec_arm(exec, KILL_WAIT_MS);
        break;
    case EXEC_KILLED:
        exec->state = EXEC_LOST;
        exec_report(exec, 0, "the agent cannot be killed: it waits in the kernel");
        break;
    case EXEC_HELD:
    case EXEC_REST:
    case EXEC_LOST:
        break;
    }
}

static void exec_go(struct fence_exec *exec, uint32_t timeout_ms, fence_exec_fn fn,
                    void *data)
{
    fd_close(&exec->stdin_fd);
    exec->state = EXEC_RUNNING;
    exec->fn = fn;
    exec->data = data;
    exec->begin_ns = loop_now_ns();
    exec->timeout_ms = timeout_ms;
    exec_arm(exec, timeout_ms);
}

/* Start
 * ----------------------------------------------------------------------------------------------------------
 */

static int agent_path(const struct fence_runner *runner,
                      const struct conf_fence_device *device, char *path, size_t cap,
                      struct fence_error *ret_error)
{
    struct stat st;

    snprintf(path, cap, "%s/%s", runner->agents_dir, device->agent);
    if (stat(path, &st) < 0) {
        int error = errno;

        set_error(ret_error,
                  "fence device '%s': no agent %s: %s; install the package fence-agents, "
                  "or correct 'agent'",
                  device->name, path, strerror(error));
        return -error;
    }
    /* It is about to be run as root, with a password. */
    if (!S_ISREG(st.st_mode) || (st.st_mode & 022) != 0 ||
        (st.st_uid != 0 && st.st_uid != geteuid())) {
        set_error(ret_error,
                  "fence device '%s': agent %s is refused: not a regular file that only "
                  "root can write",
                  device->name, path);
        return -EPERM;
    }
    return 0;
}

static int exec_spawn(struct fence_exec *exec, const char *path, const char *agent,
                      struct fence_error *ret_error)
{
    static const char *const env[] = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin",
                                      "LC_ALL=C",
                                      "LANG=C",
                                      "HOME=/",
                                      "PYTHONNOUSERSITE=1",
                                      "PYTHONDONTWRITEBYTECODE=1",
                                      "PYTHONWARNINGS=ignore",
                                      NULL};
    const char *const argv[] = {path, NULL};
    int in[2] = {-1, -1}, out[2] = {-1, -1}, r;

    if (pipe2(in, O_CLOEXEC) < 0 || pipe2(out, O_CLOEXEC) < 0 ||
        fcntl(in[1], F_SETFL, O_NONBLOCK) < 0 || fcntl(out[0], F_SETFL, O_NONBLOCK) < 0) {
        r = -errno;
        goto out;
    }
    r = os_spawn(argv, env, (const int[3]){in[0], out[1], out[1]}, NULL, 0, &exec->child);
    if (r < 0) {
        goto out;
    }
    exec->group = exec->child.pid;
    exec->stdin_fd = in[1];
    exec->output_fd = out[0];
    in[1] = out[0] = -1;
out:
    fd_close(&in[0]);
    fd_close(&in[1]);
    fd_close(&out[0]);
    fd_close(&out[1]);
    if (r < 0) {
        set_error(ret_error, "fence agent %s: cannot be started: %s", agent,
                  strerror(-r));
    }
    return r;
}

/* The process, if there is one, goes; nobody is called. One that hangs in the kernel is
 * not waited for. */
static void exec_abandon(struct fence_exec *exec)
{
    if (exec->child.pid > 0) {
        struct pollfd ended = {.fd = exec->child.pidfd, .events = POLLIN};

        os_child_kill_group(&exec->child, SIGKILL);
        poll(&ended, 1, ABANDON_WAIT_MS);
        os_child_reap(&exec->child, NULL);
    }
    exec_free(exec);
}

int fence_exec_start(struct fence_runner *runner, const struct conf_fence_device *device,
                     enum fence_action action, bool held, uint32_t timeout_ms,
                     fence_exec_fn fn, void *data, struct fence_exec **ret_exec,
                     struct fence_error *ret_error)
{
    char path[PATH_LEN_MAX + 80], head[NODE_NAME_MAX + 64];
    struct fence_exec *exec;
    size_t len;
    int r;

    r = fence_device_check(device, ret_error);
    if (r < 0) {
        return r;
    }
    r = agent_path(runner, device, path, sizeof(path), ret_error);
    if (r < 0) {
        return r;
    }
    exec = calloc(1, sizeof(*exec));
    if (exec == NULL) {
        set_error(ret_error, "out of memory");
        return -ENOMEM;
    }
    *exec = (struct fence_exec){.runner = runner,
                                .next = runner->list,
                                .action = action,
                                .state = EXEC_HELD,
                                .fn = fn,
                                .data = data,
                                .child = {.pidfd = -1},
                                .stdin_fd = -1,
                                .output_fd = -1,
                                .begin_ns = loop_now_ns()};
    runner->list = exec;
    /* The secret is read before anything runs: a refused one must not cost a process. */
    r = held ? 0
             : fence_secret_read(runner->secrets_dir, device->name, exec->secret,
                                 &exec->secret_len, ret_error);
    if (r < 0) {
        goto fail;
    }
    r = exec_spawn(exec, path, device->agent, ret_error);
    if (r < 0) {
        goto fail;
    }
    len = fence_input_head(device, action, head, sizeof(head));
    r = input_write(exec, head, len, ret_error);
    if (r == 0 && !held) {
        r = input_rest(exec, device, ret_error);
    }
    if (r == -ESRCH) {
        r = 0; /* ended without reading: its exit code says why */
    }
    if (r < 0) {
        goto fail;
    }
    r = loop_fd_add(runner->loop, exec->output_fd, POLLIN, output_ready, exec);
    if (r == 0) {
        r = loop_fd_add(runner->loop, exec->child.pidfd, POLLIN, exec_ended, exec);
    }
    if (r < 0) {
        set_error(ret_error, "cannot watch the agent: %s", strerror(-r));
        goto fail;
    }
    if (!held) {
        exec_go(exec, timeout_ms, fn, data);
    }
    *ret_exec = exec;
    return 0;
fail:
    exec_abandon(exec);
    return r;
}

int fence_exec_release(struct fence_exec *exec, const struct conf_fence_device *device,
                       enum fence_action action, uint32_t timeout_ms, fence_exec_fn fn,
                       void *data, struct fence_error *ret_error)
{
    char head[NODE_NAME_MAX + 64];
    int r;

    r = fence_secret_read(exec->runner->secrets_dir, device->name, exec->secret,
                          &exec->secret_len, ret_error);
    if (r < 0) {
        return r;
    }
    if (action != exec->action) {
        exec->action = action;
        r = input_write(exec, head, fence_input_head(device, action, head, sizeof(head)),
                        ret_error);
        if (r < 0) {
            return r;
        }
    }
    r = input_rest(exec, device, ret_error);
    if (r < 0) {
        return r;
    }
    exec_go(exec, timeout_ms, fn, data);
    return 0;
}

void fence_exec_watch(struct fence_exec *exec, fence_exec_fn fn, void *data)
{
    exec->fn = fn;
    exec->data = data;
}

void fence_exec_kill(struct fence_exec *exec, fence_exec_fn fn, void *data)
{
    exec->fn = fn;
    exec->data = data;
    if (exec->end == 0) {
        exec->end = FENCE_END_PREEMPTED;
    }
    if (exec->state >= EXEC_KILLED) {
        return;
    }
    exec->state = EXEC_KILLED;
    /* First the signal, then the end of its input. */
    os_child_kill_group(&exec->child, SIGKILL);
    fd_close(&exec->stdin_fd);
    exec_arm(exec, KILL_WAIT_MS);
}

/* Descendants that left
 * ------------------------------------------------------------------------------------------
 */

static bool pid_is_agent(const struct fence_runner *runner, pid_t pid)
{
    for (const struct fence_exec *e = runner->list; e != NULL; e = e->next) {
        if (e->child.pid == pid) {
            return true;
        }
    }
    return false;
}

/* As many of our children as fit; a number that was cut off is another process's and must
 * not stay. */
static int children_read(char *text, size_t cap)
{
    char path[64];
    ssize_t n;
    int fd;

    snprintf(path, sizeof(path), "/proc/self/task/%d/children", (int)getpid());
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    n = read(fd, text, cap - 1);
    close(fd);
    if (n < 0) {
        return -EIO;
    }
    while (n > 0 && text[n - 1] != ' ') {
        n--;
    }
    text[n] = '\0';
    return 0;
}

/*
 * We are their reaper (PR_SET_CHILD_SUBREAPER), so what left an agent's group shows up as
 * our own child once its parent is gone. Nothing else of this process has children.
 */
static void stray_sweep(void *data)
{
    struct fence_runner *runner = data;
    char text[8192];
    bool found = false;

    runner->stray_timer = 0;
    if (children_read(text, sizeof(text)) < 0) {
        return;
    }
    for (char *p = text, *end; *p != '\0'; p = end) {
        pid_t pid = (pid_t)strtol(p, &end, 10);

        if (end == p) {
            break;
        }
        if (pid > 1 && !pid_is_agent(runner, pid)) {
            found = true;
            kill(pid, SIGKILL);
            waitpid(pid, NULL, WNOHANG);
        }
    }
    if (found && runner->stray_sweeps++ < STRAY_SWEEPS_MAX) {
        loop_timer_add(runner->loop, STRAY_SWEEP_MS * NSEC_PER_MSEC, stray_sweep, runner,
                       &runner->stray_timer);
    }
}

int fence_runner_new(struct loop *loop, const char *agents_dir, const char *secrets_dir,
                     struct fence_runner **ret_runner)
{
    struct fence_runner *runner;

    if (strlen(agents_dir) >= PATH_LEN_MAX || strlen(secrets_dir) >= PATH_LEN_MAX) {
        return -ENAMETOOLONG;
    }
    if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0) {
        return -errno;
    }
    runner = calloc(1, sizeof(*runner));
    if (runner == NULL) {
        return -ENOMEM;
    }
    runner->loop = loop;
    snprintf(runner->agents_dir, sizeof(runner->agents_dir), "%s", agents_dir);
    snprintf(runner->secrets_dir, sizeof(runner->secrets_dir), "%s", secrets_dir);
    *ret_runner = runner;
    return 0;
}

void fence_runner_free(struct fence_runner *runner)
{
    if (runner == NULL) {
        return;
    }
    loop_timer_del(runner->loop, &runner->stray_timer);
    while (runner->list != NULL) {
        exec_abandon(runner->list);
    }
    free(runner);
}
