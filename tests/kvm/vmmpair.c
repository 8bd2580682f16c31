/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/kvm/vmmpair.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bug.h"
#include "base/loop.h"
#include "base/os.h"
#include "base/text.h"
#include "base/version.h"

__attribute__((noreturn)) void pair_die(const char *who, const char *why)
{
    printf("{\"ok\":false,\"text\":\"%s: %s\"}\n", who, why);
    exit(EXIT_FAILURE);
}

static void take_twin(struct pair_end *e, const Gemel__VmmReport *r)
{
    const char *state = r->ft_state != NULL ? r->ft_state : "";

    e->ft_change += strcmp(state, e->ft_state) != 0;
    text_copy(e->ft_state, sizeof e->ft_state, state);
    text_copy(e->ft_text, sizeof e->ft_text, r->ft_text != NULL ? r->ft_text : "");
    e->ft_role = r->ft_role;
    e->ft_reason = r->ft_reason;
    e->ft_over = r->ft_over;
    e->ft_exits = r->ft_exits;
    e->ft_replayed = r->ft_replayed;
    e->ft_outputs = r->ft_outputs;
    e->ft_released = r->ft_released;
    e->ft_lag_us = r->ft_lag_us;
    e->ft_log_bytes = r->ft_log_bytes;
    e->ft_verified = r->ft_verified;
    e->ft_diverged = r->ft_diverged;
    e->ft_checkpoints = r->ft_checkpoints;
    e->ft_pages = r->ft_pages;
    e->ft_stood_pages = r->ft_stood_pages;
    e->ft_pause_us = r->ft_pause_us;
    e->ft_ack_us = r->ft_ack_us;
    e->ft_barriers = r->ft_barriers;
    e->ft_repairs = r->ft_repairs;
    e->ft_repair_pages = r->ft_repair_pages;
    e->ft_repair_states = r->ft_repair_states;
    e->ft_repair_outputs = r->ft_repair_outputs;
    e->ft_diverged_output = r->ft_diverged_output;
    e->ft_diverged_data = r->ft_diverged_data;
    e->ft_hashed_pages = r->ft_hashed_pages;
    e->ft_barrier_us = r->ft_barrier_us;
    e->ft_barrier_max_us = r->ft_barrier_max_us;
    e->ft_held = r->ft_held;
    e->ft_held_bytes = r->ft_held_bytes;
}

static void take_report(struct pair_end *e, const Gemel__VmmReport *r)
{
    e->state = r->state;
    e->epoch = r->epoch;
    e->move = r->mig_state;
    e->missing = r->mig_missing;
    e->frozen_ms = r->mig_frozen_ms;
    if (r->mig_key.len == sizeof e->key) {
        memcpy(e->key, r->mig_key.data, sizeof e->key);
        memcpy(e->token, r->mig_token.data, sizeof e->token);
        e->have_key = true;
    }
    if (r->mig_sent > 0) {
        e->sent = r->mig_sent;
        e->disk_sent = r->mig_disk_sent;
        e->round = r->mig_round;
    }
    text_copy(e->text, sizeof e->text, r->mig_text != NULL ? r->mig_text : "");
    take_twin(e, r);
    if (r->seq != 0 && !r->ok && !e->forgives) {
        pair_die(e->name, r->error);
    }
}

/* What has come, without waiting. */
void pair_hear(struct pair_end *e)
{
    while (!e->gone) {
        enum ctl_reason reason = CTL_OK;
        int fds[CTL_FDS_MAX];
        size_t count = 0;
        struct ctl_msg msg;
        int r = ctl_recv_fds(e->fd, &msg, &reason, fds, &count);

        if (count > 0) {
            e->memory_fd = fds[0];
        }
        if (r == -EAGAIN) {
            return;
        }
        if (r < 0 && e->may_go) {
            e->gone = true;
            close(e->fd);
            e->fd = -1;
            return;
        }
        if (r < 0) {
            pair_die(e->name, "closed its control socket");
        }
        if (msg.kind == CTL_VMM_REPORT) {
            take_report(e, msg.vmm_report);
        }
        ctl_msg_free(&msg);
    }
}

void pair_wait(struct pair_end *a, struct pair_end *b)
{
    struct pollfd p[2] = {{.fd = a->fd, .events = POLLIN},
                          {.fd = b->fd, .events = POLLIN}};

    if (poll(p, 2, 1000) < 0 && errno != EINTR) {
        pair_die("poll", strerror(errno));
    }
    pair_hear(a);
    pair_hear(b);
}

static uint64_t number(const char *text, uint64_t max)
{
    uint64_t n;

    if (!text_u64(text, 0, max, &n)) {
        pair_die(text, "is no number");
    }
    return n;
}

void pair_options(int argc, char **argv, const struct pair_option *table, size_t count)
{
    struct option longs[PAIR_OPTIONS_MAX + 1] = {{0}};
    int at;

    BUG_ON(count > PAIR_OPTIONS_MAX);
    for (size_t i = 0; i < count; i++) {
        longs[i] = (struct option){
            table[i].name, table[i].kind == PAIR_FLAG ? no_argument : required_argument,
            NULL, 0};
    }
    for (int r; (r = getopt_long(argc, argv, "", longs, &at)) != -1;) {
        const struct pair_option *option = &table[at];

        if (r != 0) {
            pair_die(argv[0], "an option is not known; see its first lines");
        }
        switch (option->kind) {
        case PAIR_FLAG:
            *(bool *)option->to = true;
            break;
        case PAIR_U32:
            *(uint32_t *)option->to = (uint32_t)number(optarg, UINT32_MAX);
            break;
        case PAIR_U64:
            *(uint64_t *)option->to = number(optarg, UINT64_MAX);
            break;
        case PAIR_TEXT:
            *(const char **)option->to = optarg;
            break;
        case PAIR_CALL:
        default:
            option->take(optarg);
            break;
        }
    }
}

void pair_connect(struct pair_end *e, const char *path)
{
    static uint8_t boot_id[16] = {1};
    Gemel__Hello h = GEMEL__HELLO__INIT;
    int r = os_unix_connect(path, &e->fd);

    if (r < 0) {
        pair_die(path, strerror(-r));
    }
    h.version = PROTO_CTL_VERSION;
    h.version_min = PROTO_CTL_VERSION_MIN;
    h.program = (char *)"vmmpair";
    h.node = (char *)"test";
    h.boot_id = (ProtobufCBinaryData){16, boot_id};
    h.join_counter = 1;
    h.agent_start_ns = loop_now_ns();
    if (ctl_send(e->fd, CTL_HELLO, &h) < 0) {
        pair_die(path, "cannot send Hello");
    }
}

void pair_ask(struct pair_end *e, Gemel__VmmRequest *rq, const int *fds, size_t count)
{
    rq->seq = ++e->seq;
    rq->reason = (char *)"vmmpair";
    if (ctl_send_fds(e->fd, CTL_VMM_REQUEST, rq, fds, count) < 0 && !e->may_go) {
        pair_die(e->name, "cannot be asked");
    }
}

void pair_simple(struct pair_end *e, Gemel__VmmRequest__Kind kind)
{
    Gemel__VmmRequest rq = GEMEL__VMM_REQUEST__INIT;

    rq.kind = kind;
    pair_ask(e, &rq, NULL, 0);
}

void pair_prepare(struct pair_end *e, bool memory)
{
    Gemel__VmmRequest rq = GEMEL__VMM_REQUEST__INIT;

    rq.kind = GEMEL__VMM_REQUEST__KIND__MIGRATE_PREPARE;
    rq.mig_memory = memory;
    pair_ask(e, &rq, NULL, 0);
}

/* A network namespace, or none. */
void pair_enter(const char *net)
{
    int fd;

    if (net == NULL) {
        return;
    }
    fd = open(net, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || setns(fd, CLONE_NEWNET) < 0) {
        pair_die(net, strerror(errno));
    }
    close(fd);
}

double pair_ms(uint64_t ns)
{
    return (double)ns / (double)NSEC_PER_MSEC;
}
