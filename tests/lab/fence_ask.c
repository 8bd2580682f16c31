/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Asks a gemel-fenced and prints its reports, one line each. For tests and for people who
 * look for a fault. Exit: 0 ok, 1 failed, 2 usage, 3 unknown, 4 no connection.
 */
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/loop.h"
#include "base/os.h"
#include "base/proto_ctl.h"
#include "base/uuid.h"
#include "base/version.h"

enum { OK = 0, FAILED = 1, USAGE = 2, UNKNOWN = 3, NO_CONNECTION = 4 };

struct ask {
    const char *socket_path, *self, *config_path, *node;
    Gemel__FenceRequest__Kind kind;
    struct uuid uid, boot_id;
    uint32_t timeout_ms, wait_ms;
    bool no_wait;
};

static int kind_of(const char *word, Gemel__FenceRequest__Kind *ret_kind)
{
    char upper[16] = "";
    const ProtobufCEnumValue *value;

    for (size_t i = 0; i < sizeof(upper) - 1 && word[i] != '\0'; i++) {
        upper[i] = (char)(word[i] >= 'a' && word[i] <= 'z' ? word[i] - 32 : word[i]);
    }
    value = protobuf_c_enum_descriptor_get_value_by_name(
        &gemel__fence_request__kind__descriptor, upper);
    if (value == NULL || value->value == 0) {
        return -EINVAL;
    }
    *ret_kind = (Gemel__FenceRequest__Kind)value->value;
    return 0;
}

static int parse(int argc, char *argv[], struct ask *ask)
{
    static const struct option table[] = {
        {"socket", required_argument, NULL, 's'},
        {"uid", required_argument, NULL, 'u'},
        {"self", required_argument, NULL, 'n'},
        {"timeout", required_argument, NULL, 't'},
        {"config", required_argument, NULL, 'c'},
        {"wait", required_argument, NULL, 'w'},
        {"no-wait", no_argument, NULL, 'x'},
        {NULL, 0, NULL, 0},
    };
    int c;

    *ask = (struct ask){.self = "", .node = "", .uid = uuid_random(), .wait_ms = 120000};
    while ((c = getopt_long(argc, argv, "", table, NULL)) != -1) {
        switch (c) {
        case 's':
            ask->socket_path = optarg;
            break;
        case 'u':
            if (!uuid_parse(optarg, &ask->uid)) {
                return USAGE;
            }
            break;
        case 'n':
            ask->self = optarg;
            break;
        case 't':
            ask->timeout_ms = (uint32_t)strtoul(optarg, NULL, 10);
            break;
        case 'w':
            ask->wait_ms = (uint32_t)strtoul(optarg, NULL, 10);
            break;
        case 'c':
            ask->config_path = optarg;
            break;
        case 'x':
            ask->no_wait = true;
            break;
        default:
            return USAGE;
        }
    }
    if (ask->socket_path == NULL || optind >= argc ||
        kind_of(argv[optind], &ask->kind) < 0) {
        return USAGE;
    }
    if (optind + 1 < argc) {
        ask->node = argv[optind + 1];
    }
    return OK;
}

static int send_all(int fd, const struct ask *ask)
{
    static char config[DEFINITION_MAX + 1];
    Gemel__Hello hello = GEMEL__HELLO__INIT;
    Gemel__FenceRequest q = GEMEL__FENCE_REQUEST__INIT;
    struct uuid uid = ask->uid;
    int r;

    hello.version = PROTO_CTL_VERSION;
    hello.version_min = PROTO_CTL_VERSION_MIN;
    hello.program = (char *)"fence_ask";
    hello.node = (char *)ask->self;
    q.kind = ask->kind;
    q.uid.len = sizeof(uid.b);
    q.uid.data = uid.b;
    q.node = (char *)ask->node;
    q.timeout_ms = ask->timeout_ms;
    if (ask->config_path != NULL) {
        r = os_file_read(ask->config_path, config, DEFINITION_MAX, NULL);
        if (r < 0) {
            return r;
        }
        q.config = config;
    }
    r = ctl_send(fd, CTL_HELLO, &hello);
    return r < 0 ? r : ctl_send(fd, CTL_FENCE_REQUEST, &q);
}

/* -1: not final. */
static int print_report(const Gemel__FenceReport *m, const struct ask *ask)
{
    static const char *const word[] = {"invalid", "pending", "ok", "failed", "unknown"};
    static const int code[] = {UNKNOWN, -1, OK, FAILED, UNKNOWN};
    unsigned result = (unsigned)m->result < 5 ? (unsigned)m->result : 0;

    if (m->uid.len != 16 || memcmp(m->uid.data, ask->uid.b, 16) != 0) {
        return -1;
    }
    printf("%s device=%s elapsed_ms=%u attempts=%u detail=%s\n", word[result], m->device,
           m->elapsed_ms, m->attempts, m->detail);
    fflush(stdout);
    return code[result];
}

static int listen_for_it(int fd, const struct ask *ask)
{
    uint64_t end_ns = loop_now_ns() + ask->wait_ms * NSEC_PER_MSEC;

    for (;;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        enum ctl_reason reason;
        struct ctl_msg msg;
        int r, code = -1;

        if (loop_now_ns() >= end_ns ||
            poll(&p, 1, (int)((end_ns - loop_now_ns()) / NSEC_PER_MSEC) + 1) <= 0) {
            return UNKNOWN;
        }
        r = ctl_recv(fd, &msg, &reason);
        if (r == -EAGAIN) {
            continue;
        }
        if (r < 0) {
            fprintf(stderr, "fence_ask: connection: %s\n", strerror(-r));
            return NO_CONNECTION;
        }
        if (msg.kind == CTL_FENCE_REPORT) {
            code = print_report(msg.fence_report, ask);
        }
        ctl_msg_free(&msg);
        if (code >= 0) {
            return code;
        }
    }
}

int main(int argc, char *argv[])
{
    struct ask ask;
    int fd, r;

    if (parse(argc, argv, &ask) != OK) {
        fprintf(
            stderr,
            "usage: fence_ask --socket PATH [--uid UUID] [--self NODE] [--timeout MS] "
            "[--wait MS] [--no-wait] [--config FILE] "
            "status|off|on|monitor|cancel|query|config [NODE]\n");
        return USAGE;
    }
    r = os_unix_connect(ask.socket_path, &fd);
    if (r == 0) {
        r = send_all(fd, &ask);
    }
    if (r < 0) {
        fprintf(stderr, "fence_ask: %s: %s\n", ask.socket_path, strerror(-r));
        return NO_CONNECTION;
    }
    if (ask.no_wait) {
        usleep(
            20000); /* the request is in the socket; its first report is not waited for */
        close(fd);
        return OK;
    }
    r = listen_for_it(fd, &ask);
    close(fd);
    return r;
}
