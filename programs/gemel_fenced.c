/* SPDX-License-Identifier: Apache-2.0 */
/* gemel-fenced: runs fence agents for the node's agent. The only program that holds fence
 * secrets. */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/loop.h"
#include "fencing/fenced.h"

enum { EXIT_USAGE = 2 };

static const char usage[] =
    "usage: gemel-fenced [options]\n"
    "Runs fence agents on behalf of gemeld and confirms their result by a second "
    "reading.\n"
    "  --socket PATH      control socket (default /run/gemel/fenced.sock)\n"
    "  --secrets DIR      NAME.secret per device, root, 0600 (default /etc/gemel/fence)\n"
    "  --state DIR        intents and results (default /var/lib/gemel/fenced)\n"
    "  --agents DIR       where the fence agents are (default /usr/sbin)\n"
    "  --parallel-levels  try all fence levels of a node at once, not in order\n"
    "  --log FILE         log file, rotated (default: standard error)\n"
    "  --debug            log more\n"
    "  --foreground       do not go to the background\n"
    "  -h, --help         this text\n";

struct settings {
    struct fenced_options options;
    const char *log_path;
    bool foreground, debug;
};

/* 0: go on; 1: help was printed; -1: wrong usage. */
static int parse(int argc, char *argv[], struct settings *ret_settings)
{
    static const struct option table[] = {
        {"socket", required_argument, NULL, 's'},
        {"secrets", required_argument, NULL, 'k'},
        {"state", required_argument, NULL, 'd'},
        {"agents", required_argument, NULL, 'a'},
        {"log", required_argument, NULL, 'l'},
        {"foreground", no_argument, NULL, 'f'},
        {"parallel-levels", no_argument, NULL, 'p'},
        {"debug", no_argument, NULL, 'v'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    struct settings s = {.options = {.socket_path = "/run/gemel/fenced.sock",
                                     .secrets_dir = "/etc/gemel/fence",
                                     .state_dir = "/var/lib/gemel/fenced",
                                     .agents_dir = "/usr/sbin"}};
    int c;

    while ((c = getopt_long(argc, argv, "h", table, NULL)) != -1) {
        switch (c) {
        case 's':
            s.options.socket_path = optarg;
            break;
        case 'k':
            s.options.secrets_dir = optarg;
            break;
        case 'd':
            s.options.state_dir = optarg;
            break;
        case 'a':
            s.options.agents_dir = optarg;
            break;
        case 'l':
            s.log_path = optarg;
            break;
        case 'f':
            s.foreground = true;
            break;
        case 'p':
            s.options.levels_parallel = true;
            break;
        case 'v':
            s.debug = true;
            break;
        case 'h':
            fputs(usage, stdout);
            return 1;
        default:
            fputs("Try gemel-fenced --help\n", stderr);
            return -1;
        }
    }
    if (optind < argc) {
        fprintf(stderr,
                "gemel-fenced: unexpected argument '%s'; try gemel-fenced --help\n",
                argv[optind]);
        return -1;
    }
    *ret_settings = s;
    return 0;
}

/* Secrets pass through this process and its children: no core dumps, no reading of our
 * memory, no files for others. */
static void close_up(void)
{
    struct rlimit none = {0, 0};

    umask(077);
    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    setrlimit(RLIMIT_CORE, &none);
}

static void on_stop(int signo, void *data)
{
    (void)signo;
    loop_stop(data);
}

int main(int argc, char *argv[])
{
    struct fenced *fenced = NULL;
    struct loop *loop = NULL;
    struct settings s;
    int r = parse(argc, argv, &s);

    if (r != 0) {
        return r < 0 ? EXIT_USAGE : EXIT_SUCCESS;
    }
    close_up();
    if (!s.foreground && daemon(1, s.log_path == NULL) < 0) {
        fprintf(stderr, "gemel-fenced: cannot go to the background: %s\n",
                strerror(errno));
        return EXIT_FAILURE;
    }
    r = log_open("gemel-fenced", s.log_path, s.debug ? LOG_DEBUG : LOG_INFO);
    if (r < 0) {
        fprintf(stderr, "gemel-fenced: cannot log to %s: %s\n", s.log_path, strerror(-r));
        return EXIT_FAILURE;
    }
    r = loop_new(&loop);
    if (r == 0) {
        r = loop_signal_add(loop, SIGTERM, on_stop, loop);
    }
    if (r == 0) {
        r = loop_signal_add(loop, SIGINT, on_stop, loop);
    }
    if (r == 0) {
        r = fenced_new(loop, &s.options, &fenced);
    }
    if (r < 0) {
        log_err("gemel-fenced cannot start: %s", strerror(-r));
        goto out;
    }
    log_info("gemel-fenced ready: socket=%s state=%s", s.options.socket_path,
             s.options.state_dir);
    loop_run(loop);
    log_info("gemel-fenced stops");
out:
    fenced_free(fenced);
    loop_free(loop);
    log_close();
    return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
