/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Plays the agents of both nodes of a protected VM, and the store of claims, for tests
 * and the bench: from the gemel-vmm that runs at one control socket and the one (CREATED)
 * at another.
 *
 *     vmmft PRIMARY TWIN [--plain] [--commit received|verified|hybrid] [--suspect MS]
 *           [--disk FILE]... [--from FILE]... [--for SECONDS] [--switchover] [--checkpoint]
 *
 * --disk: the twin's own copies, in order; --from: the primary's, which are copied to them while it stands still. Whoever asks first for the next claim gets it.
 * One JSON line per change of either side's state: {"ms", "who", "state", "text"}, and
 * each second one with the counters of the primary. Ends when one of the two runs alone,
 * or after --for (15 s); last line {"end": "alone"|"live"|"both"|"none", ...}: then the
 * other side has been ended, and the one that runs goes on. Exit: 0, if one runs.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/loop.h"
#include "base/os.h"
#include "base/text.h"
#include "base/uuid.h"
#include "tests/kvm/vmmpair.h"

#define READY_NS (60 * NSEC_PER_SEC)

static struct {
    bool plain, switchover, checkpoint;
    uint32_t commit, suspect_ms, seconds;
    int disk[VM_DISKS_MAX];
    int from[VM_DISKS_MAX];
    unsigned disk_count, from_count;
} opt = {.commit = 1, .seconds = 15};

static uint64_t began_ns, epoch, on_ns, change_ns;

static void parse(int argc, char **argv)
{
    static const struct option options[] = {{"plain", no_argument, NULL, 'p'},
                                            {"switchover", no_argument, NULL, 'w'},
                                            {"checkpoint", no_argument, NULL, 'k'},
                                            {"commit", required_argument, NULL, 'c'},
                                            {"suspect", required_argument, NULL, 's'},
                                            {"for", required_argument, NULL, 'f'},
                                            {"disk", required_argument, NULL, 'D'},
                                            {"from", required_argument, NULL, 'F'},
                                            {NULL, 0, NULL, 0}};
    uint64_t n = 0;
    int id;

    while ((id = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if ((id == 's' || id == 'f') && !text_u64(optarg, 1, 1000000, &n)) {
            pair_die(optarg, "is no number");
        }
        switch (id) {
        case 'p':
            opt.plain = true;
            break;
        case 'F':
            if (opt.from_count == VM_DISKS_MAX ||
                (opt.from[opt.from_count++] = open(optarg, O_RDONLY | O_CLOEXEC)) < 0) {
                pair_die(optarg, strerror(errno));
            }
            break;
        case 'k':
            opt.checkpoint = true;
            break;
        case 'w':
            opt.switchover = true;
            break;
        case 'c':
            opt.commit = strcmp(optarg, "received") == 0 ? 0
                         : strcmp(optarg, "hybrid") == 0 ? 2
                                                         : 1;
            break;
        case 's':
            opt.suspect_ms = (uint32_t)n;
            break;
        case 'f':
            opt.seconds = (uint32_t)n;
            break;
        case 'D':
            if (opt.disk_count == VM_DISKS_MAX ||
                (opt.disk[opt.disk_count++] = open(optarg, O_RDWR | O_CLOEXEC)) < 0) {
                pair_die(optarg, strerror(errno));
            }
            break;
        default:
            pair_die("vmmft", "an option is not known; see its first lines");
        }
    }
    if (optind + 2 != argc) {
        pair_die("vmmft", "PRIMARY and TWIN");
    }
}

static void fill(Gemel__VmmRequest *rq, Gemel__VmmRequest__Kind kind,
                 struct pair_end *peer, struct uuid *transfer, struct pair_end *twin)
{
    rq->kind = kind;
    rq->mig_transfer = (ProtobufCBinaryData){16, transfer->b};
    rq->mig_token = (ProtobufCBinaryData){16, twin->token};
    if (!opt.plain) {
        rq->mig_peer_key = (ProtobufCBinaryData){sizeof peer->key, peer->key};
    }
    rq->mig_verify = true;
    rq->ft_mode = opt.checkpoint;
    rq->ft_commit = opt.commit;
    rq->ft_suspect_ms = opt.suspect_ms;
    rq->ft_mirror = (1u << opt.disk_count) - 1;
}

/* A listener for the twin, `count` connections for the primary. */
static void connect_both(int *ret_listen, int *fd, unsigned count)
{
    const struct os_tcp_opts tcp = {.lost_ms = 5000};
    uint16_t port;
    int r = os_tcp_listen("127.0.0.1", 0, 0, 16, &tcp, ret_listen, &port);

    for (unsigned i = 0; r >= 0 && i < count; i++) {
        r = os_tcp_connect("127.0.0.1", port, &tcp, &fd[i]);
        r = r < 0 ? r : os_tcp_wait(fd[i], 5000);
    }
    if (r < 0) {
        pair_die("127.0.0.1", strerror(-r));
    }
}

static void copy_memory(struct pair_end *primary, struct pair_end *twin,
                        struct uuid *transfer)
{
    Gemel__VmmRequest in = GEMEL__VMM_REQUEST__INIT, out = GEMEL__VMM_REQUEST__INIT;
    uint64_t end = loop_now_ns() + READY_NS;
    int listen_fd, fd[2];

    pair_prepare(primary, false);
    pair_prepare(twin, false);
    while (!primary->have_key || !twin->have_key) {
        pair_wait(primary, twin);
    }
    connect_both(&listen_fd, fd, 2);
    fill(&in, GEMEL__VMM_REQUEST__KIND__MIGRATE_IN, primary, transfer, twin);
    fill(&out, GEMEL__VMM_REQUEST__KIND__MIGRATE_OUT, twin, transfer, twin);
    pair_ask(twin, &in, &listen_fd, 1);
    pair_ask(primary, &out, fd, 2);
    close(listen_fd);
    close(fd[0]);
    close(fd[1]);
    while (primary->move != GEMEL__MIG_STATE__MIG_READY ||
           twin->move != GEMEL__MIG_STATE__MIG_READY) {
        pair_wait(primary, twin);
        if (primary->move == GEMEL__MIG_STATE__MIG_FAILED) {
            pair_die("primary", primary->text);
        }
        if (twin->move == GEMEL__MIG_STATE__MIG_FAILED || loop_now_ns() > end) {
            pair_die("twin", twin->text);
        }
    }
}

/* The primary is frozen, its disks are flushed. */
static void copy_disks(void)
{
    static uint8_t part[1 << 20];

    for (unsigned i = 0; i < opt.from_count && i < opt.disk_count; i++) {
        off_t at = 0;
        ssize_t n;

        while ((n = pread(opt.from[i], part, sizeof part, at)) > 0) {
            if (pwrite(opt.disk[i], part, (size_t)n, at) != n) {
                pair_die("the twin's disk", strerror(errno));
            }
            at += n;
        }
        if (n < 0 || fdatasync(opt.disk[i]) < 0) {
            pair_die("a disk", strerror(errno));
        }
    }
}

static void order(struct pair_end *e, Gemel__VmmRequest__Kind kind, uint64_t at_epoch)
{
    Gemel__VmmRequest rq = GEMEL__VMM_REQUEST__INIT;

    if (!e->gone) {
        rq.kind = kind;
        rq.epoch = at_epoch;
        pair_ask(e, &rq, NULL, 0);
    }
}

static void join(struct pair_end *primary, struct pair_end *twin, struct uuid *transfer)
{
    Gemel__VmmRequest follow = GEMEL__VMM_REQUEST__INIT;
    Gemel__VmmRequest protect = GEMEL__VMM_REQUEST__INIT;
    int fds[1 + VM_DISKS_MAX], fd;

    connect_both(&fds[0], &fd, 1);
    memcpy(fds + 1, opt.disk, sizeof opt.disk);
    fill(&follow, GEMEL__VMM_REQUEST__KIND__FT_FOLLOW, primary, transfer, twin);
    fill(&protect, GEMEL__VMM_REQUEST__KIND__FT_PROTECT, twin, transfer, twin);
    follow.disk_count = opt.disk_count;
    pair_ask(twin, &follow, fds, 1 + opt.disk_count);
    pair_ask(primary, &protect, &fd, 1);
    close(fds[0]);
    close(fd);
}

static bool is(const struct pair_end *e, const char *state)
{
    return strcmp(e->ft_state, state) == 0;
}

static void tell(const struct pair_end *e, uint64_t *told)
{
    if (*told != e->ft_change) {
        *told = e->ft_change;
        printf("{\"ms\":%.2f,\"who\":\"%s\",\"state\":\"%s\",\"text\":\"%s\"}\n",
               pair_ms(loop_now_ns() - began_ns), e->name, e->ft_state, e->ft_text);
    }
}

static void counters(struct pair_end *primary)
{
    printf("{\"ms\":%.2f,\"exits\":%llu,\"replayed\":%llu,\"outputs\":%llu,"
           "\"released\":%llu,\"log_bytes\":%llu,\"diverged\":%llu,"
           "\"checkpoints\":%llu,\"pages\":%llu,\"pause_us\":%llu,\"ack_us\":%llu}\n",
           pair_ms(loop_now_ns() - began_ns), (unsigned long long)primary->ft_exits,
           (unsigned long long)primary->ft_replayed,
           (unsigned long long)primary->ft_outputs,
           (unsigned long long)primary->ft_released,
           (unsigned long long)primary->ft_log_bytes,
           (unsigned long long)primary->ft_diverged,
           (unsigned long long)primary->ft_checkpoints,
           (unsigned long long)primary->ft_pages,
           (unsigned long long)primary->ft_pause_us,
           (unsigned long long)primary->ft_ack_us);
}

/* Whoever asks first has the next claim. */
static void decide(struct pair_end *primary, struct pair_end *twin, bool *decided)
{
    bool drained = is(twin, "drained") || is(twin, "quiet-ready") ||
                   is(twin, "quiet-barrier") || is(twin, "quiet-diverged");

    if (is(primary, "arm") && on_ns == 0) {
        on_ns = loop_now_ns();
        order(primary, GEMEL__VMM_REQUEST__KIND__FT_TWIN_WON, ++epoch);
    }
    if (*decided) {
        return;
    }
    if (drained && (primary->gone || !is(primary, "hold"))) {
        *decided = true;
        change_ns = loop_now_ns();
        order(primary, GEMEL__VMM_REQUEST__KIND__FT_CLAIM_LOST, epoch + 1);
        order(twin, GEMEL__VMM_REQUEST__KIND__FT_CLAIM_WON, ++epoch);
    } else if (is(primary, "hold") || is(primary, "hold-barrier")) {
        *decided = true;
        change_ns = loop_now_ns();
        order(twin, GEMEL__VMM_REQUEST__KIND__FT_END, 0);
        order(primary, GEMEL__VMM_REQUEST__KIND__FT_ALONE_WON, ++epoch);
    }
}

int main(int argc, char **argv)
{
    struct pair_end primary = {.name = "primary", .memory_fd = -1, .forgives = true};
    struct pair_end twin = {.name = "twin", .memory_fd = -1, .forgives = true};
    uint64_t told[2] = {0, 0}, next_ns, end_ns;
    struct uuid transfer = uuid_random();
    bool decided = false, switched = false;
    const char *end = "both";

    parse(argc, argv);
    setlinebuf(stdout);
    began_ns = loop_now_ns();
    pair_connect(&primary, argv[optind]);
    pair_connect(&twin, argv[optind + 1]);
    copy_memory(&primary, &twin, &transfer);
    copy_disks();
    epoch = primary.epoch;
    primary.may_go = twin.may_go = true;
    join(&primary, &twin, &transfer);
    next_ns = loop_now_ns() + NSEC_PER_SEC;
    end_ns = loop_now_ns() + opt.seconds * NSEC_PER_SEC;
    while (loop_now_ns() < end_ns) {
        pair_wait(&primary, &twin);
        tell(&primary, &told[0]);
        tell(&twin, &told[1]);
        decide(&primary, &twin, &decided);
        if (is(&twin, "live") && twin.state == GEMEL__VMM_STATE__VMM_STATE_RUNNING) {
            end = "live";
            order(&primary, GEMEL__VMM_REQUEST__KIND__FT_WINNER_RUNS, epoch);
            break;
        }
        if (is(&primary, "alone") && primary.state == GEMEL__VMM_STATE__VMM_STATE_RUNNING) {
            end = "alone";
            break;
        }
        if (primary.gone && twin.gone) {
            end = "none";
            break;
        }
        if (loop_now_ns() >= next_ns) {
            next_ns += NSEC_PER_SEC;
            pair_simple(primary.gone ? &twin : &primary,
                        GEMEL__VMM_REQUEST__KIND__STATUS);
            counters(&primary);
        }
        if (opt.switchover && !switched && is(&primary, "on") &&
            loop_now_ns() > on_ns + NSEC_PER_SEC) {
            switched = true;
            order(&primary, GEMEL__VMM_REQUEST__KIND__FT_SWITCHOVER, 0);
        }
    }
    printf("{\"end\":\"%s\",\"epoch\":%llu,\"exits\":%llu,\"outputs\":%llu,"
           "\"log_bytes\":%llu,\"claim_to_run_ms\":%.2f}\n",
           end, (unsigned long long)epoch, (unsigned long long)primary.ft_exits,
           (unsigned long long)primary.ft_outputs,
           (unsigned long long)primary.ft_log_bytes,
           change_ns != 0 ? pair_ms(loop_now_ns() - change_ns) : 0.0);
    return strcmp(end, "none") == 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
