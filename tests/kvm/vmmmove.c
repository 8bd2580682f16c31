/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Plays the agents of both nodes of a live migration, for tests and the bench: from the
 * gemel-vmm at one control socket to the one (CREATED) at another.
 *
 *     vmmmove SOURCE DEST [--plain] [--verify] [--streams N] [--downtime MS]
 *             [--slowdown PERCENT] [--rate BYTES] [--timeout MS] [--epoch N] [--disk
 * FILE]...
 *             [--address A] [--source-net FILE] [--dest-net FILE] [--no-compress]
 *             [--post-copy]
 *     vmmmove SOURCE DEST --upgrade [OPTIONS] -- GEMEL-VMM ARGUMENT...
 *
 * --upgrade: a live upgrade. The destination is started here, with the source's memory
 * (--memory-fd), and makes its control socket at DEST; it goes on when this program ends.
 *
 * The destination listens on A (127.0.0.1). The sockets are made in the network
 * namespaces of those files, if given. --epoch: of its START (the source's + 1). One
 * JSON line: pid (of --upgrade), total_ms (from the sockets to RUNNING there), ready_ms,
 * gap_ms (READY of the
 * source to RUNNING there), sent, rounds, text. Exit: 0 it runs there, and the source has
 * been killed, or has ended by itself when post-copy was done (then missing: bytes that
 * came after START, and filled_ms: until all were there); 1 it does not, and the source
 * runs or stands frozen.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/loop.h"
#include "base/os.h"
#include "base/text.h"
#include "base/uuid.h"
#include "tests/kvm/vmmpair.h"

#define STREAMS_MAX 4
#define WAIT_NS     (600 * NSEC_PER_SEC)

static struct {
    bool plain, verify, no_compress, post_copy, upgrade;
    char **command;
    uint32_t streams, downtime_ms, slowdown, timeout_ms;
    uint64_t rate, epoch;
    const char *address, *source_net, *dest_net;
    int disk[VM_DISKS_MAX];
    unsigned disk_count;
} opt = {.streams = 1, .address = "127.0.0.1"};

static void begin(struct pair_end *e, Gemel__VmmRequest__Kind kind, struct pair_end *peer,
                  uint8_t transfer[16], uint8_t token[16], const int *fds, size_t count)
{
    Gemel__VmmRequest rq = GEMEL__VMM_REQUEST__INIT;

    rq.kind = kind;
    rq.mig_transfer = (ProtobufCBinaryData){16, transfer};
    rq.mig_token = (ProtobufCBinaryData){16, token};
    if (!opt.plain) {
        rq.mig_peer_key = (ProtobufCBinaryData){sizeof peer->key, peer->key};
    }
    rq.mig_memory = opt.upgrade && kind == GEMEL__VMM_REQUEST__KIND__MIGRATE_OUT;
    rq.mig_verify = opt.verify;
    rq.mig_no_compress = opt.no_compress;
    rq.mig_postcopy = opt.post_copy;
    rq.mig_timeout_ms = opt.timeout_ms;
    rq.mig_downtime_ms = opt.downtime_ms;
    rq.mig_slowdown = opt.slowdown;
    rq.mig_rate = opt.rate;
    pair_ask(e, &rq, fds, count);
}

static void start(struct pair_end *e, uint64_t epoch)
{
    Gemel__VmmRequest rq = GEMEL__VMM_REQUEST__INIT;

    rq.kind = GEMEL__VMM_REQUEST__KIND__START;
    rq.epoch = epoch;
    rq.disk_count = opt.disk_count;
    pair_ask(e, &rq, opt.disk, opt.disk_count);
}

static void add_disk(char *path)
{
    if (opt.disk_count == VM_DISKS_MAX ||
        (opt.disk[opt.disk_count++] = open(path, O_RDWR | O_CLOEXEC)) < 0) {
        pair_die(path, strerror(errno));
    }
}

static void parse(int argc, char **argv)
{
    static const struct pair_option options[] = {
        {"plain", PAIR_FLAG, .to = &opt.plain},
        {"verify", PAIR_FLAG, .to = &opt.verify},
        {"no-compress", PAIR_FLAG, .to = &opt.no_compress},
        {"post-copy", PAIR_FLAG, .to = &opt.post_copy},
        {"upgrade", PAIR_FLAG, .to = &opt.upgrade},
        {"streams", PAIR_U32, .to = &opt.streams},
        {"downtime", PAIR_U32, .to = &opt.downtime_ms},
        {"slowdown", PAIR_U32, .to = &opt.slowdown},
        {"timeout", PAIR_U32, .to = &opt.timeout_ms},
        {"rate", PAIR_U64, .to = &opt.rate},
        {"epoch", PAIR_U64, .to = &opt.epoch},
        {"source-net", PAIR_TEXT, .to = &opt.source_net},
        {"dest-net", PAIR_TEXT, .to = &opt.dest_net},
        {"address", PAIR_TEXT, .to = &opt.address},
        {"disk", PAIR_CALL, .take = add_disk},
    };

    pair_options(argc, argv, options, ARRAY_SIZE(options));
    opt.command = opt.upgrade ? argv + optind + 2 : NULL;
    if ((opt.upgrade ? optind + 3 > argc : optind + 2 != argc) || opt.streams == 0 ||
        opt.streams > STREAMS_MAX) {
        pair_die("vmmmove", "SOURCE and DEST, and at most 4 data streams");
    }
}

/* Sockets to a listener of the destination. */
static void join(struct pair_end *source, struct pair_end *dest, uint8_t transfer[16])
{
    const struct os_tcp_opts tcp = {.lost_ms = opt.post_copy ? 10000 : 5000,
                                    .recv_buf = opt.post_copy ? 256 * 1024 : 0,
                                    .unsent = opt.post_copy ? 128 * 1024 : 0};
    int listen_fd, fd[STREAMS_MAX + 1], r;
    uint16_t port;

    pair_enter(opt.dest_net);
    r = os_tcp_listen(opt.address, 0, 0, 16, &tcp, &listen_fd, &port);
    if (r < 0) {
        pair_die(opt.address, strerror(-r));
    }
    pair_enter(opt.source_net);
    for (unsigned i = 0; i <= opt.streams; i++) {
        r = os_tcp_connect(opt.address, port, &tcp, &fd[i]);
        r = r < 0 ? r : os_tcp_wait(fd[i], 5000);
        if (r < 0) {
            pair_die(opt.address, strerror(-r));
        }
    }
    begin(dest, GEMEL__VMM_REQUEST__KIND__MIGRATE_IN, source, transfer, dest->token,
          &listen_fd, 1);
    begin(source, GEMEL__VMM_REQUEST__KIND__MIGRATE_OUT, dest, transfer, dest->token, fd,
          opt.streams + 1);
    close(listen_fd);
    for (unsigned i = 0; i <= opt.streams; i++) {
        close(fd[i]);
    }
}

/* The destination, with the memory that the source has handed over. */
static pid_t launch(struct pair_end *source, struct pair_end *dest, const char *path)
{
    static const int stdio[3] = {-1, -1, -1};
    const char *argv[96];
    struct os_child child;
    unsigned argc = 0;
    char number_text[16];
    int r;

    while (argc < 90 && opt.command[argc] != NULL) {
        argv[argc] = opt.command[argc];
        argc++;
    }
    snprintf(number_text, sizeof number_text, "%d", source->memory_fd);
    argv[argc++] = "--memory-fd";
    argv[argc++] = number_text;
    argv[argc] = NULL;
    r = os_spawn(argv, NULL, stdio, &source->memory_fd, 1, &child);
    if (r < 0) {
        pair_die(argv[0], strerror(-r));
    }
    close(source->memory_fd);
    for (int i = 0; i < 500 && os_unix_connect(path, &dest->fd) < 0; i++) {
        usleep(10000);
    }
    close(dest->fd);
    pair_connect(dest, path);
    return child.pid;
}

/* Post-copy: until all is there, and the source has ended. */
static void fill(struct pair_end *source, struct pair_end *dest, uint64_t until_ns)
{
    source->may_go = true;
    while (dest->move != GEMEL__MIG_STATE__MIG_DONE || !source->gone) {
        pair_wait(source, dest);
        if (loop_now_ns() > until_ns) {
            pair_die("vmmmove", "its memory did not come in time");
        }
        if (dest->move == GEMEL__MIG_STATE__MIG_FAILED) {
            pair_die("destination", dest->text);
        }
    }
}

int main(int argc, char **argv)
{
    struct pair_end source = {.name = "source", .memory_fd = -1};
    struct pair_end dest = {.name = "destination", .memory_fd = -1};
    pid_t pid = 0;
    uint64_t began, ready = 0, end, missing = 0, filled;
    bool releasing = false, started = false;
    struct uuid transfer = uuid_random();
    char text[512] = "";

    parse(argc, argv);
    pair_connect(&source, argv[optind]);
    end = loop_now_ns() + WAIT_NS;
    pair_prepare(&source, opt.upgrade);
    if (opt.upgrade) {
        while (!source.have_key && loop_now_ns() < end) {
            pair_wait(&source, &source);
        }
        if (source.memory_fd < 0) {
            pair_die("source", "does not hand its memory over");
        }
        pid = launch(&source, &dest, argv[optind + 1]);
    } else {
        pair_connect(&dest, argv[optind + 1]);
    }
    pair_prepare(&dest, false);
    while (!source.have_key || !dest.have_key) {
        pair_wait(&source, &dest);
    }
    began = loop_now_ns();
    join(&source, &dest, transfer.b);
    while (dest.state != GEMEL__VMM_STATE__VMM_STATE_RUNNING) {
        pair_wait(&source, &dest);
        if (loop_now_ns() > end) {
            pair_die("vmmmove", "timed out");
        }
        if (source.move == GEMEL__MIG_STATE__MIG_FAILED) {
            pair_die("source", source.text);
        }
        if (dest.move == GEMEL__MIG_STATE__MIG_FAILED && !started) {
            pair_die("destination", dest.text);
        }
        if (source.move == GEMEL__MIG_STATE__MIG_READY && !releasing) {
            releasing = true;
            ready = loop_now_ns();
            text_copy(text, sizeof text, source.text);
            pair_simple(&source, GEMEL__VMM_REQUEST__KIND__MIGRATE_RELEASING);
        }
        if (source.move == GEMEL__MIG_STATE__MIG_RELEASED &&
            dest.move == GEMEL__MIG_STATE__MIG_READY && !started) {
            started = true;
            missing = dest.missing;
            start(&dest, opt.epoch != 0 ? opt.epoch : source.epoch + 1);
        }
    }
    end = filled = loop_now_ns();
    if (missing > 0) {
        fill(&source, &dest, end + WAIT_NS);
        filled = loop_now_ns();
        text_copy(text, sizeof text, dest.text);
    } else {
        pair_simple(&source, GEMEL__VMM_REQUEST__KIND__KILL);
    }
    printf("{\"ok\":true,\"pid\":%d,\"total_ms\":%.2f,\"ready_ms\":%.2f,\"gap_ms\":%.2f,"
           "\"sent\":%llu,"
           "\"rounds\":%u,\"missing\":%llu,\"filled_ms\":%.2f,\"text\":\"%s\"}\n",
           (int)pid, pair_ms(end - began), pair_ms(ready - began), pair_ms(end - ready),
           (unsigned long long)source.sent, source.round, (unsigned long long)missing,
           pair_ms(filled - end), text);
    return EXIT_SUCCESS;
}
