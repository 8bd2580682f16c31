/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PID 1 of a node. Starts what the systemd units would: corosync (Type=notify, not
 * restarted, as Debian's unit), then gemel-fenced and gemeld (restarted 200 ms after a
 * failure, not after a clean exit; gemeld is killed when it has not said WATCHDOG=1 for
 * WatchdogSec=). Nothing here knows what the daemons do.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lab/lab_ipc.h"
#include "lab/lab_node.h"
#include "lab/lab_util.h"

#define NOTIFY_SOCKET   "/run/gemel-lab-notify"
#define RESTART_MS      200
#define STOP_TIMEOUT_MS 10000
#define WATCHDOG_NS     UINT64_C(10000000000)
#define WATCHDOG_LOOK_NS                                                                 \
    UINT64_C(1000000000) /* a longer sleep: this process was stopped, too */

enum state { STOPPED, STARTING, RUNNING, WAITING, STOPPING };

static const char *const state_names[] = {
    [STOPPED] = "stopped",    [STARTING] = "starting", [RUNNING] = "running",
    [WAITING] = "restarting", [STOPPING] = "stopping",
};

struct daemon {
    const char *name;
    const char *after; /* started once this one is running */
    bool notify;       /* running when it says READY=1 */
    bool restart;      /* on failure */
    bool watchdog;     /* from its first WATCHDOG=1 on */
    const char *args[4];
    /* run time */
    bool wanted;
    enum state state;
    pid_t pid;
    uint64_t due_ns;   /* WAITING: start then; STOPPING: SIGKILL then */
    uint64_t alive_ns; /* it said so; 0: not yet */
};

static struct daemon daemons[] = {
    {.name = "corosync", .notify = true, .args = {"-f"}, .wanted = true},
    {.name = "gemel-fenced",
     .after = "corosync",
     .restart = true,
     .args = {"--foreground"}},
    {.name = "gemeld", .after = "gemel-fenced", .restart = true, .watchdog = true},
};
#define DAEMON_COUNT (sizeof daemons / sizeof daemons[0])

static int control_fd;
static bool halting;

static struct daemon *find(const char *name)
{
    for (size_t i = 0; i < DAEMON_COUNT; i++) {
        if (strcmp(daemons[i].name, name) == 0) {
            return &daemons[i];
        }
    }
    return NULL;
}

static void set_state(struct daemon *d, enum state state, const char *why)
{
    struct lab_text text = {0};

    d->state = state;
    lab_text_add(&text, "daemon %s %d %s %s", d->name, (int)d->pid, state_names[state],
                 why);
    printf("%llu %s\n", (unsigned long long)(lab_now_ns() / 1000000), text.buf);
    fflush(stdout);
    lab_ipc_send(control_fd, text.buf, text.len, -1);
    lab_text_free(&text);
}

_Noreturn static void become(const struct daemon *d)
{
    struct lab_path program = lab_find_program(d->name),
                    log = lab_path("/var/log/%s.out", d->name);
    const char *argv[6] = {d->name};
    sigset_t none;

    for (size_t i = 0; i < 4 && d->args[i] != NULL; i++) {
        argv[i + 1] = d->args[i];
    }
    setsid();
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    int in = open("/dev/null", O_RDONLY),
        out = open(log.s, O_WRONLY | O_CREAT | O_APPEND, 0644);
    dup2(in, 0);
    dup2(out, 1);
    dup2(out, 2);
    if (d->notify || d->watchdog) {
        setenv("NOTIFY_SOCKET", NOTIFY_SOCKET, 1);
    }
    if (d->watchdog) {
        setenv("WATCHDOG_USEC", "10000000", 1);
    }
    execvp(program.s[0] != '\0' ? program.s : d->name, (char *const *)argv);
    fprintf(stderr, "%s: %s\n", d->name, strerror(errno));
    _exit(127);
}

static void start(struct daemon *d)
{
    d->alive_ns = 0;
    d->pid = fork();
    if (d->pid == 0) {
        become(d);
    }
    if (d->pid < 0) {
        d->pid = 0;
        d->due_ns = lab_now_ns() + RESTART_MS * UINT64_C(1000000);
        set_state(d, WAITING, "fork failed");
        return;
    }
    set_state(d, d->notify ? STARTING : RUNNING, "started");
}

static void stop(struct daemon *d)
{
    d->wanted = false;
    if (d->state == STARTING || d->state == RUNNING) {
        kill(d->pid, SIGTERM);
        d->due_ns = lab_now_ns() + STOP_TIMEOUT_MS * UINT64_C(1000000);
        set_state(d, STOPPING, "SIGTERM sent");
    } else if (d->state == WAITING) {
        set_state(d, STOPPED, "not restarted");
    }
}

static void ended(struct daemon *d, int status)
{
    bool failed = !WIFEXITED(status) || WEXITSTATUS(status) != 0;
    struct lab_path why =
        lab_path("%s %d", WIFEXITED(status) ? "exit" : "signal",
                 WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));

    d->pid = 0;
    if (failed && d->restart && d->wanted && !halting) {
        d->due_ns = lab_now_ns() + RESTART_MS * UINT64_C(1000000);
        set_state(d, WAITING, why.s);
    } else {
        d->wanted = false;
        set_state(d, STOPPED, why.s);
    }
}

static void reap(void)
{
    int status;
    pid_t pid;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        for (size_t i = 0; i < DAEMON_COUNT; i++) {
            if (daemons[i].pid == pid) {
                ended(&daemons[i], status);
            }
        }
    }
}

/* READY=1 from a daemon of Type=notify; from whom does not matter, there is one. */
static void notified(int fd)
{
    char buf[512];

    ssize_t n = recv(fd, buf, sizeof buf - 1, MSG_DONTWAIT);
    if (n <= 0) {
        return;
    }
    buf[n] = '\0';
    for (size_t i = 0; i < DAEMON_COUNT; i++) {
        if (daemons[i].watchdog && strstr(buf, "WATCHDOG=1") != NULL) {
            daemons[i].alive_ns = lab_now_ns();
        }
    }
    if (strstr(buf, "READY=1") == NULL) {
        return;
    }
    for (size_t i = 0; i < DAEMON_COUNT; i++) {
        if (daemons[i].notify && daemons[i].state == STARTING) {
            set_state(&daemons[i], RUNNING, "ready");
        }
    }
}

/* "start NAME", "stop NAME", "halt"; false when the supervisor is gone. */
static bool command(void)
{
    char buf[256], verb[16], name[64] = "";

    ssize_t n = lab_ipc_recv(control_fd, buf, sizeof buf, NULL);
    if (n <= 0) {
        return n == -EAGAIN;
    }
    if (sscanf(buf, "%15s %63s", verb, name) < 1) {
        return true;
    }
    struct daemon *d = find(name);
    if (strcmp(verb, "start") == 0 && d != NULL) {
        d->wanted = true;
    } else if (strcmp(verb, "stop") == 0 && d != NULL) {
        stop(d);
    } else if (strcmp(verb, "halt") == 0) {
        halting = true;
    }
    return true;
}

static void watch(struct daemon *d, uint64_t now, uint64_t *next)
{
    static uint64_t last_ns;
    bool paused = now - last_ns > 3 * WATCHDOG_LOOK_NS;

    last_ns = now;
    if (d->state != RUNNING || d->alive_ns == 0) {
        return;
    }
    if (paused) {
        d->alive_ns = now;
    } else if (now - d->alive_ns > WATCHDOG_NS) {
        printf("%llu daemon %s %d: watchdog\n", (unsigned long long)(now / 1000000),
               d->name, (int)d->pid);
        kill(d->pid, SIGKILL);
        d->alive_ns = now;
    }
    if (now + WATCHDOG_LOOK_NS < *next) {
        *next = now + WATCHDOG_LOOK_NS;
    }
}

/* One round of decisions; returns how long to sleep at most, in ms, -1 without end. */
static int advance(void)
{
    uint64_t now = lab_now_ns(), next = UINT64_MAX;
    bool all_stopped = true;

    for (size_t i = 0; i < DAEMON_COUNT; i++) {
        /* The last started is the first stopped. */
        struct daemon *d = &daemons[halting ? DAEMON_COUNT - 1 - i : i];
        if (halting && d->state != STOPPED && all_stopped) {
            stop(d);
        }
        if (!halting && d->wanted &&
            (d->state == STOPPED || (d->state == WAITING && now >= d->due_ns))) {
            struct daemon *after = d->after != NULL ? find(d->after) : NULL;
            if (after == NULL || after->state == RUNNING) {
                start(d);
            }
        }
        if (d->state == STOPPING && now >= d->due_ns) {
            kill(d->pid, SIGKILL);
            d->due_ns = UINT64_MAX;
        }
        if (d->watchdog) {
            watch(d, now, &next);
        }
        if ((d->state == WAITING || d->state == STOPPING) && d->due_ns < next &&
            d->due_ns > now) {
            next = d->due_ns;
        }
        all_stopped = all_stopped && d->state == STOPPED;
    }
    if (halting && all_stopped) {
        exit(0);
    }
    return next == UINT64_MAX ? -1 : (int)((next - now) / 1000000 + 1);
}

static int notify_socket(void)
{
    struct sockaddr_un sun = {.sun_family = AF_UNIX, .sun_path = NOTIFY_SOCKET};

    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&sun, sizeof sun) < 0) {
        perror("notify socket");
        exit(1);
    }
    return fd;
}

int lab_init_main(int argc, char *argv[])
{
    struct lab_path path = lab_search_path();
    sigset_t set;

    unsigned fd = 0;
    if (argc != 3 || getpid() != 1 || !lab_number(argv[1], 3, 1024, &fd)) {
        lab_error("_init is what gemel-lab starts as PID 1 of a node");
        return 2;
    }
    control_fd = (int)fd;
    fcntl(control_fd, F_SETFD, FD_CLOEXEC);
    prctl(PR_SET_NAME, "gemel-labinit");
    umask(022);
    int out = open("/var/log/gemel-labinit.log",
                   O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    dup2(out, 1);
    dup2(out, 2);
    setenv("PATH", path.s, 1);
    for (size_t i = 1; i < DAEMON_COUNT; i++) {
        daemons[i].wanted = strcmp(argv[2], "1") == 0;
    }
    mkdir("/run/gemel", 0755); /* RuntimeDirectory= */
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_BLOCK, &set, NULL);
    struct pollfd fds[] = {
        {.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK), .events = POLLIN},
        {.fd = notify_socket(), .events = POLLIN},
        {.fd = control_fd, .events = POLLIN},
    };
    for (;;) {
        struct signalfd_siginfo info;
        if (poll(fds, 3, advance()) < 0 && errno != EINTR) {
            return 1;
        }
        while (read(fds[0].fd, &info, sizeof info) == (ssize_t)sizeof info) {
            halting = halting || info.ssi_signo == SIGTERM;
        }
        reap();
        if (fds[1].revents != 0) {
            notified(fds[1].fd);
        }
        if (fds[2].revents != 0 && !command()) {
            return 1; /* without its supervisor a node has no power */
        }
    }
}
