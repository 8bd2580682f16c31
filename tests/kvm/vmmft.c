/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Plays the agents of both nodes of a protected VM, and the store of claims, for tests
 * and the bench: from the gemel-vmm that runs at one control socket and the one (CREATED)
 * at another.
 *
 *     vmmft PRIMARY TWIN [--plain] [--commit received|verified|hybrid] [--suspect MS]
 *           [--disk [FILE:]FILE | --shared FILE]... [--hold MS] [--for SECONDS]
 *           [--switchover] [--reset] [--powerdown]
 *           [--checkpoint] [--winner primary|twin] [--link COMMAND] [--live COMMAND]
 *           [--barrier MS] [--diverge-max COUNT] [--base FILE] [--base-out FILE]
 *           [--rate BYTES] [--no-verify]
 *
 * --live: run when the twin is live, as an agent announces the guest then.
 * --switchover, --reset, --powerdown: asked for after a second.
 * --disk: the twin's own copies, in order (A:B: B is the twin's), which get what the
 * primary's have along with its memory. --shared: this disk is both sides'; the twin gets
 * it with its claim, and must hold its writes for MS (--hold) from then on. --base FILE:
 * the transfer after which the copies were equal last, which a --base-out of an earlier
 * run has written (as an agent keeps it): only what was written since is sent. --rate: of
 * that copy, per second. --no-verify: nothing of it is compared. Whoever asks first for
 * the next claim gets it, or the one of --winner, when it asks. --link: a command of sh
 * that carries the channel's bytes between its descriptors 3 (the primary) and 4 (the
 * twin), as tests/kvm/ftlink.py. One JSON line per change of either side's state: {"ms",
 * "who",
 * "state", "text"}, and each second one with the counters of the primary. Ends when one
 * of the two runs alone, or after --for (15 s); last line {"end":
 * "alone"|"live"|"both"|"none", ...}: then the other side has been ended, and the one
 * that runs goes on. Exit: 0, if one runs.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/loop.h"
#include "base/nbd_uri.h"
#include "base/os.h"
#include "base/uuid.h"
#include "tests/kvm/vmmpair.h"

#define READY_NS (60 * NSEC_PER_SEC)

static struct {
    bool plain, no_verify, switchover, reset, powerdown, checkpoint;
    uint32_t commit, suspect_ms, seconds, barrier_ms, diverge_max, hold_ms;
    uint64_t rate;
    const char *winner, *link, *live, *base, *base_out;
    int disk[VM_DISKS_MAX];
    const char *shared[VM_DISKS_MAX]; /* NULL: the twin has its own copy */
    unsigned disk_count;
} opt = {.commit = 1, .seconds = 15};

static uint64_t began_ns, epoch, on_ns, change_ns, was_change;

static int open_disk(const char *path, int flags)
{
    struct nbd_uri uri;
    int fd, r;

    if (strncmp(path, "nbd", 3) == 0 && nbd_uri_parse(path, &uri) == NULL) {
        r = nbd_uri_connect(&uri, 5000, &fd);
        if (r < 0) {
            pair_die(path, strerror(-r));
        }
        return fd;
    }
    fd = open(path, flags | O_CLOEXEC);
    if (fd < 0) {
        pair_die(path, strerror(errno));
    }
    return fd;
}

static void add_disk(char *text)
{
    char *colon = strchr(text, ':');

    if (opt.disk_count == VM_DISKS_MAX) {
        pair_die(text, "too many disks");
    }
    if (colon != NULL) {
        *colon = '\0';
    }
    opt.disk[opt.disk_count++] = open_disk(colon != NULL ? colon + 1 : text, O_RDWR);
}

static void add_shared(char *path)
{
    if (opt.disk_count == VM_DISKS_MAX) {
        pair_die(path, "too many disks");
    }
    opt.disk[opt.disk_count] = -1;
    opt.shared[opt.disk_count++] = path;
}

static uint32_t shared_mask(void)
{
    uint32_t mask = 0;

    for (unsigned i = 0; i < opt.disk_count; i++) {
        mask |= opt.shared[i] != NULL ? UINT32_C(1) << i : 0;
    }
    return mask;
}

/* Where there is none, or nonsense, none is known. */
static bool read_base(struct uuid *ret_base)
{
    char text[UUID_STR_LEN + 1] = "";
    FILE *f = fopen(opt.base, "re");
    bool good =
        f != NULL && fgets(text, sizeof text, f) != NULL && uuid_parse(text, ret_base);

    if (f != NULL) {
        fclose(f);
    }
    return good;
}

static void write_base(struct uuid transfer)
{
    char text[UUID_STR_LEN + 1];
    FILE *f = fopen(opt.base_out, "we");

    uuid_format(transfer, text);
    if (f == NULL || fprintf(f, "%s\n", text) < 0 || fclose(f) != 0) {
        pair_die(opt.base_out, strerror(errno));
    }
}

static void take_commit(char *text)
{
    opt.commit = strcmp(text, "received") == 0 ? 0 : strcmp(text, "hybrid") == 0 ? 2 : 1;
}

static void parse(int argc, char **argv)
{
    static const struct pair_option options[] = {
        {"plain", PAIR_FLAG, .to = &opt.plain},
        {"switchover", PAIR_FLAG, .to = &opt.switchover},
        {"checkpoint", PAIR_FLAG, .to = &opt.checkpoint},
        {"reset", PAIR_FLAG, .to = &opt.reset},
        {"powerdown", PAIR_FLAG, .to = &opt.powerdown},
        {"no-verify", PAIR_FLAG, .to = &opt.no_verify},
        {"suspect", PAIR_U32, .to = &opt.suspect_ms},
        {"for", PAIR_U32, .to = &opt.seconds},
        {"hold", PAIR_U32, .to = &opt.hold_ms},
        {"barrier", PAIR_U32, .to = &opt.barrier_ms},
        {"diverge-max", PAIR_U32, .to = &opt.diverge_max},
        {"rate", PAIR_U64, .to = &opt.rate},
        {"winner", PAIR_TEXT, .to = &opt.winner},
        {"live", PAIR_TEXT, .to = &opt.live},
        {"link", PAIR_TEXT, .to = &opt.link},
        {"base", PAIR_TEXT, .to = &opt.base},
        {"base-out", PAIR_TEXT, .to = &opt.base_out},
        {"commit", PAIR_CALL, .take = take_commit},
        {"disk", PAIR_CALL, .take = add_disk},
        {"shared", PAIR_CALL, .take = add_shared},
    };

    pair_options(argc, argv, options, ARRAY_SIZE(options));
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
    rq->mig_verify = !opt.no_verify;
    rq->ft_mode = opt.checkpoint;
    rq->ft_commit = opt.commit;
    rq->ft_suspect_ms = opt.suspect_ms;
    rq->ft_barrier_ms = opt.barrier_ms;
    rq->ft_diverge_max = opt.diverge_max;
    rq->ft_mirror = ((1u << opt.disk_count) - 1) & ~shared_mask();
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

/* The twin's own ones. */
static unsigned own_disks(int fds[VM_DISKS_MAX])
{
    unsigned count = 0;

    for (unsigned i = 0; i < opt.disk_count; i++) {
        if (opt.shared[i] == NULL) {
            fds[count++] = opt.disk[i];
        }
    }
    return count;
}

static void copy_memory(struct pair_end *primary, struct pair_end *twin,
                        struct uuid *transfer)
{
    Gemel__VmmRequest in = GEMEL__VMM_REQUEST__INIT, out = GEMEL__VMM_REQUEST__INIT;
    uint64_t end = loop_now_ns() + READY_NS;
    int fds[1 + VM_DISKS_MAX], fd[2];
    struct uuid base;

    pair_prepare(primary, false);
    pair_prepare(twin, false);
    while (!primary->have_key || !twin->have_key) {
        pair_wait(primary, twin);
    }
    connect_both(&fds[0], fd, 2);
    fill(&in, GEMEL__VMM_REQUEST__KIND__MIGRATE_IN, primary, transfer, twin);
    fill(&out, GEMEL__VMM_REQUEST__KIND__MIGRATE_OUT, twin, transfer, twin);
    out.mig_rate = opt.rate;
    in.disk_count = own_disks(fds + 1);
    if (opt.base != NULL && read_base(&base)) {
        in.mig_copy_base = (ProtobufCBinaryData){sizeof base.b, base.b};
    }
    pair_ask(twin, &in, fds, 1 + in.disk_count);
    pair_ask(primary, &out, fd, 2);
    close(fds[0]);
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

static void order(struct pair_end *e, Gemel__VmmRequest__Kind kind, uint64_t at_epoch)
{
    Gemel__VmmRequest rq = GEMEL__VMM_REQUEST__INIT;

    if (!e->gone) {
        rq.kind = kind;
        rq.epoch = at_epoch;
        pair_ask(e, &rq, NULL, 0);
    }
}

/* A process between the two: it gets the twin's connection and one end of a new one, the
 * primary the other end. */
static void link_between(int *fd)
{
    int to_twin = *fd, listen_fd, to_primary;

    connect_both(&listen_fd, fd, 1);
    to_primary = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);
    close(listen_fd);
    if (to_primary < 0) {
        pair_die("127.0.0.1", strerror(errno));
    }
    if (fork() == 0) {
        int a = fcntl(to_primary, F_DUPFD_CLOEXEC, 10);
        int b = fcntl(to_twin, F_DUPFD_CLOEXEC, 10);

        (void)dup2(a, 3);
        (void)dup2(b, 4);
        execl("/bin/sh", "sh", "-c", opt.link, (char *)NULL);
        _exit(127);
    }
    close(to_primary);
    close(to_twin);
}

static void join(struct pair_end *primary, struct pair_end *twin, struct uuid *transfer)
{
    Gemel__VmmRequest follow = GEMEL__VMM_REQUEST__INIT;
    Gemel__VmmRequest protect = GEMEL__VMM_REQUEST__INIT;
    int fds[1 + VM_DISKS_MAX], fd;
    unsigned count;

    connect_both(&fds[0], &fd, 1);
    if (opt.link != NULL) {
        link_between(&fd);
    }
    count = 1 + own_disks(fds + 1);
    fill(&follow, GEMEL__VMM_REQUEST__KIND__FT_FOLLOW, primary, transfer, twin);
    fill(&protect, GEMEL__VMM_REQUEST__KIND__FT_PROTECT, twin, transfer, twin);
    follow.disk_count = count - 1;
    pair_ask(twin, &follow, fds, count);
    pair_ask(primary, &protect, &fd, 1);
    close(fds[0]);
    close(fd);
}

static bool is(const struct pair_end *e, const char *state)
{
    return strcmp(e->ft_state, state) == 0;
}

/* Not by an earlier session, which may have left it so. */
static bool is_alone(const struct pair_end *primary)
{
    return is(primary, "alone") && primary->ft_change != was_change;
}

static void tell(const struct pair_end *e, uint64_t *told)
{
    if (*told != e->ft_change) {
        *told = e->ft_change;
        printf("{\"ms\":%.2f,\"who\":\"%s\",\"state\":\"%s\",\"reason\":%u,"
               "\"text\":\"%s\"}\n",
               pair_ms(loop_now_ns() - began_ns), e->name, e->ft_state, e->ft_reason,
               e->ft_text);
    }
}

static void counters(struct pair_end *primary)
{
    printf(
        "{\"ms\":%.2f,\"exits\":%llu,\"replayed\":%llu,\"outputs\":%llu,"
        "\"released\":%llu,\"log_bytes\":%llu,\"diverged\":%llu,\"lag_us\":%llu,"
        "\"checkpoints\":%llu,\"pages\":%llu,\"stood\":%llu,\"pause_us\":%llu,\"ack_us\":"
        "%llu,"
        "\"diverged_output\":%llu,\"diverged_data\":%llu,\"barriers\":%llu,"
        "\"repairs\":%llu,\"repair_pages\":%llu,\"repair_states\":%llu,"
        "\"repair_outputs\":%llu,\"hashed_pages\":%llu,\"barrier_us\":%llu,"
        "\"barrier_max_us\":%llu}\n",
        pair_ms(loop_now_ns() - began_ns), (unsigned long long)primary->ft_exits,
        (unsigned long long)primary->ft_replayed, (unsigned long long)primary->ft_outputs,
        (unsigned long long)primary->ft_released,
        (unsigned long long)primary->ft_log_bytes,
        (unsigned long long)primary->ft_diverged, (unsigned long long)primary->ft_lag_us,
        (unsigned long long)primary->ft_checkpoints,
        (unsigned long long)primary->ft_pages,
        (unsigned long long)primary->ft_stood_pages,
        (unsigned long long)primary->ft_pause_us, (unsigned long long)primary->ft_ack_us,
        (unsigned long long)primary->ft_diverged_output,
        (unsigned long long)primary->ft_diverged_data,
        (unsigned long long)primary->ft_barriers, (unsigned long long)primary->ft_repairs,
        (unsigned long long)primary->ft_repair_pages,
        (unsigned long long)primary->ft_repair_states,
        (unsigned long long)primary->ft_repair_outputs,
        (unsigned long long)primary->ft_hashed_pages,
        (unsigned long long)primary->ft_barrier_us,
        (unsigned long long)primary->ft_barrier_max_us);
}

static bool may_win(const char *who)
{
    return opt.winner == NULL || strcmp(opt.winner, who) == 0;
}

/* The disks that both share are opened now, not before. */
static void claim_won(struct pair_end *twin)
{
    Gemel__VmmRequest rq = GEMEL__VMM_REQUEST__INIT;
    int fds[VM_DISKS_MAX];
    unsigned count = 0;

    for (unsigned i = 0; i < opt.disk_count; i++) {
        if (opt.shared[i] != NULL) {
            fds[count++] = open_disk(opt.shared[i], O_RDWR);
        }
    }
    rq.kind = GEMEL__VMM_REQUEST__KIND__FT_CLAIM_WON;
    rq.epoch = ++epoch;
    rq.disk_count = count;
    rq.ft_hold = opt.hold_ms > 0 ? shared_mask() : 0;
    pair_ask(twin, &rq, fds, count);
    while (count > 0) {
        close(fds[--count]);
    }
}

static void told_held(const struct pair_end *twin, const char *what)
{
    printf("{\"ms\":%.2f,\"hold\":\"%s\",\"held\":%u,\"held_bytes\":%llu}\n",
           pair_ms(loop_now_ns() - began_ns), what, twin->ft_held,
           (unsigned long long)twin->ft_held_bytes);
}

/* The twin runs; what the old host still writes is excluded after opt.hold_ms. */
static void exclude(struct pair_end *primary, struct pair_end *twin)
{
    uint64_t end_ns = change_ns + opt.hold_ms * NSEC_PER_MSEC;
    Gemel__VmmRequest rq = GEMEL__VMM_REQUEST__INIT;

    told_held(twin, "begins");
    while (loop_now_ns() < end_ns && !twin->gone) {
        pair_simple(twin, GEMEL__VMM_REQUEST__KIND__STATUS);
        (void)usleep(20000);
        pair_hear(primary);
        pair_hear(twin);
    }
    told_held(twin, "excluded");
    rq.kind = GEMEL__VMM_REQUEST__KIND__FT_EXCLUDED;
    rq.ft_hold = shared_mask();
    for (unsigned i = 0; i < 500 && twin->ft_held != 0 && !twin->gone; i++) {
        pair_ask(twin, &rq, NULL, 0); /* it may be asked more than once */
        (void)usleep(20000);
        pair_hear(twin);
    }
    told_held(twin, "over");
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
    if (is_alone(primary) && primary->state == GEMEL__VMM_STATE__VMM_STATE_FROZEN) {
        *decided = true; /* its twin was lost before it was one */
        order(primary, GEMEL__VMM_REQUEST__KIND__THAW, ++epoch);
    }
    if (drained && may_win("twin") &&
        (opt.winner != NULL || primary->gone || !is(primary, "hold"))) {
        *decided = true;
        change_ns = loop_now_ns();
        order(primary, GEMEL__VMM_REQUEST__KIND__FT_CLAIM_LOST, epoch + 1);
        claim_won(twin);
    } else if ((is(primary, "hold") || is(primary, "hold-barrier")) &&
               may_win("primary")) {
        *decided = true;
        change_ns = loop_now_ns();
        order(twin, GEMEL__VMM_REQUEST__KIND__FT_END, 0);
        order(primary, GEMEL__VMM_REQUEST__KIND__FT_ALONE_WON, ++epoch);
    }
}

/* When it has run for a second with its twin. */
static void ask_once(struct pair_end *primary)
{
    if (opt.switchover) {
        order(primary, GEMEL__VMM_REQUEST__KIND__FT_SWITCHOVER, 0);
    }
    if (opt.reset) {
        pair_simple(primary, GEMEL__VMM_REQUEST__KIND__RESET);
    }
    if (opt.powerdown) {
        pair_simple(primary, GEMEL__VMM_REQUEST__KIND__POWERDOWN);
    }
}

int main(int argc, char **argv)
{
    struct pair_end primary = {.name = "primary", .memory_fd = -1, .forgives = true};
    struct pair_end twin = {.name = "twin", .memory_fd = -1, .forgives = true};
    uint64_t told[2] = {0, 0}, next_ns, end_ns;
    struct uuid transfer = uuid_random();
    bool decided = false, asked = false;
    const char *end = "both";

    parse(argc, argv);
    setlinebuf(stdout);
    began_ns = loop_now_ns();
    pair_connect(&primary, argv[optind]);
    pair_connect(&twin, argv[optind + 1]);
    copy_memory(&primary, &twin, &transfer);
    if (opt.base_out != NULL) {
        write_base(transfer);
    }
    printf("{\"ms\":%.2f,\"copied\":true,\"bytes\":%llu,\"disk_bytes\":%llu,"
           "\"rounds\":%u,\"frozen_ms\":%llu}\n",
           pair_ms(loop_now_ns() - began_ns), (unsigned long long)primary.sent,
           (unsigned long long)primary.disk_sent, primary.round,
           (unsigned long long)primary.frozen_ms);
    epoch = primary.epoch;
    primary.may_go = twin.may_go = true;
    was_change = primary.ft_change;
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
            if (opt.live != NULL && system(opt.live) != 0) {
                pair_die(opt.live, "failed");
            }
            order(&primary, GEMEL__VMM_REQUEST__KIND__FT_WINNER_RUNS, epoch);
            if (opt.hold_ms > 0) {
                exclude(&primary, &twin);
            }
            break;
        }
        if (is_alone(&primary) && primary.state == GEMEL__VMM_STATE__VMM_STATE_RUNNING) {
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
        if (!asked && is(&primary, "on") && loop_now_ns() > on_ns + NSEC_PER_SEC) {
            asked = true;
            ask_once(&primary);
        }
    }
    printf("{\"end\":\"%s\",\"epoch\":%llu,\"exits\":%llu,\"outputs\":%llu,"
           "\"log_bytes\":%llu,\"twin_diverged\":%llu,\"twin_diverged_output\":%llu,"
           "\"claim_to_run_ms\":%.2f}\n",
           end, (unsigned long long)epoch, (unsigned long long)primary.ft_exits,
           (unsigned long long)primary.ft_outputs,
           (unsigned long long)primary.ft_log_bytes, (unsigned long long)twin.ft_diverged,
           (unsigned long long)twin.ft_diverged_output,
           change_ns != 0 ? pair_ms(loop_now_ns() - change_ns) : 0.0);
    return strcmp(end, "none") == 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
