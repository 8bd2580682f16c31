/* SPDX-License-Identifier: Apache-2.0 */
/* gemeld: the agent of one node. Ending it leaves the VMs running; the next one finds
 * them again. */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"
#include "base/os.h"
#include "cluster-conf/conf_load.h"
#include "config.h"
#include "ha/ha_daemon.h"

static void usage(FILE *out)
{
    fprintf(out, "usage: gemeld [--config /etc/gemel/node.yaml] [--log FILE] [--debug]\n"
                 "The Gemel agent of this node. It runs in the foreground; SIGTERM ends "
                 "it and leaves VMs running.\n");
}

static void on_signal(int signo, void *data)
{
    log_info("signal %d: ending; VMs go on", signo);
    loop_stop(data);
}

/* gemel-vmm of this installation: beside this program, else in PATH. */
static void default_vmm_path(struct conf_node *node)
{
    char self[PATH_LEN_MAX];
    ssize_t len;
    char *slash;

    if (node->vmm_path[0] != '\0') {
        return;
    }
    len = readlink("/proc/self/exe", self, sizeof self - 16);
    if (len > 0) {
        self[len] = '\0';
        slash = strrchr(self, '/');
        if (slash != NULL) {
            snprintf(slash, sizeof self - (size_t)(slash - self), "/gemel-vmm");
            if (access(self, X_OK) == 0) {
                snprintf(node->vmm_path, sizeof node->vmm_path, "%s", self);
                return;
            }
        }
    }
    snprintf(node->vmm_path, sizeof node->vmm_path, "gemel-vmm");
}

static int load_node(const char *path, struct conf_node *ret_node)
{
    static char yaml[DEFINITION_MAX + 1];
    struct conf_error error;
    size_t len;
    int r = os_file_read(path, yaml, DEFINITION_MAX, &len);

    if (r < 0) {
        fprintf(stderr, "gemeld: %s: %s; `gemel cluster init` writes one\n", path,
                strerror(-r));
        return r;
    }
    r = conf_node_load(yaml, len, path, ret_node, &error);
    if (r < 0) {
        fprintf(stderr, "gemeld: %s\n", error.text);
        return r;
    }
    default_vmm_path(ret_node);
    return 0;
}

/* sd_notify(3): the supervisor ends an agent whose loop does not turn any more (hung in a
 * system call, stopped): it is in the group, so the others would wait for its answers. */
struct alive {
    struct loop *loop;
    uint64_t every_ns;
    int fd;
    struct sockaddr_un to;
    socklen_t to_len;
};

static void say_alive(void *data)
{
    static const char text[] = "WATCHDOG=1";
    struct alive *alive = data;
    loop_timer timer;

    (void)sendto(alive->fd, text, sizeof text - 1, MSG_DONTWAIT | MSG_NOSIGNAL,
                 (struct sockaddr *)&alive->to, alive->to_len);
    loop_timer_add(alive->loop, alive->every_ns, say_alive, alive, &timer);
}

static void alive_begin(struct alive *alive, struct loop *loop)
{
    const char *path = getenv("NOTIFY_SOCKET"), *usec = getenv("WATCHDOG_USEC");
    uint64_t within_ns = usec != NULL ? strtoull(usec, NULL, 10) * 1000 : 0;
    size_t len = path != NULL ? strlen(path) : 0;

    if (len == 0 || len >= sizeof alive->to.sun_path || within_ns == 0) {
        return;
    }
    alive->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (alive->fd < 0) {
        return;
    }
    alive->loop = loop;
    alive->every_ns = within_ns / 4;
    alive->to.sun_family = AF_UNIX;
    memcpy(alive->to.sun_path, path, len);
    if (path[0] == '@') {
        alive->to.sun_path[0] = '\0';
    }
    alive->to_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
    say_alive(alive);
}

static int run(const struct conf_node *node)
{
    struct alive alive = {.fd = -1};
    struct ha_daemon *daemon = NULL;
    struct loop *loop = NULL;
    int r;

    r = loop_new(&loop);
    if (r < 0) {
        goto out;
    }
    signal(SIGPIPE, SIG_IGN);
    loop_signal_add(loop, SIGTERM, on_signal, loop);
    loop_signal_add(loop, SIGINT, on_signal, loop);
    r = ha_daemon_new(loop, node, &daemon);
    if (r < 0) {
        log_err("cannot start: %s", strerror(-r));
        goto out;
    }
    log_info("gemeld %s on %s", PACKAGE_VERSION, node->name);
    alive_begin(&alive, loop);
    loop_run(loop);
    r = daemon->failed ? -ESTALE : 0; /* failed: the supervisor starts it again */
out:
    ha_daemon_free(daemon);
    loop_free(loop);
    if (alive.fd >= 0) {
        close(alive.fd);
    }
    return r;
}

int main(int argc, char *argv[])
{
    static const struct option options[] = {{"config", required_argument, NULL, 'c'},
                                            {"log", required_argument, NULL, 'l'},
                                            {"debug", no_argument, NULL, 'd'},
                                            {"foreground", no_argument, NULL, 'f'},
                                            {"version", no_argument, NULL, 'V'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    const char *config = "/etc/gemel/node.yaml", *log_path = NULL;
    static struct conf_node node;
    int c, level = LOG_INFO, r;

    while ((c = getopt_long(argc, argv, "c:l:dfVh", options, NULL)) != -1) {
        switch (c) {
        case 'c':
            config = optarg;
            break;
        case 'l':
            log_path = optarg;
            break;
        case 'd':
            level = LOG_DEBUG;
            break;
        case 'f':
            break;
        case 'V':
            printf("gemeld %s\n", PACKAGE_VERSION);
            return 0;
        case 'h':
            usage(stdout);
            return 0;
        default:
            usage(stderr);
            return 2;
        }
    }
    if (load_node(config, &node) < 0) {
        return 1;
    }
    r = log_open("gemeld", log_path, level);
    if (r < 0) {
        fprintf(stderr, "gemeld: log: %s\n", strerror(-r));
        return 1;
    }
    /* An agent that is paged out while its node is starved would look dead. */
    if (mlockall(MCL_CURRENT | MCL_FUTURE) < 0) {
        log_debug("mlockall: %s", strerror(errno));
    }
    r = run(&node);
    log_close();
    return r < 0 ? 1 : 0;
}
