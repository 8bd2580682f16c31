/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Talks to a gemel-vmm as an agent would, for tests: vmmtalk SOCKET JOIN START_NS
 * COMMAND... start N | thaw N | freeze | kill | powerdown | reset | status | lease MS |
 * balloon BYTES | lease-from MS AGO_MS sends the request, prints the reply wait STATE MS
 * until a report says STATE (created, running, frozen, stopped, failed) closed MS until
 * the VMM closes the connection sleep MS           reads (and prints) nothing meanwhile
 *   disk FILE, disk-ro FILE, disk-nbd URI   opens it; START or THAW takes along what was
 *                      opened so far
 *   restore FILE       opens it; the next START is to go on from it
 *   save FILE          sends SAVE with this new file
 *   nohello            before all others: does not send the Hello
 * Each report is one line: seq ok state epoch io exits error reason. Exit: 0 all as
 * asked, 1 refused or timed out.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/loop.h"
#include "base/nbd_uri.h"
#include "base/os.h"
#include "base/proto_ctl.h"
#include "base/units.h"
#include "base/version.h"

static const char *const state_name[] = {"invalid", "created", "running", "freezing",
                                         "frozen",  "stopped", "failed"};
static int fd;
static uint64_t next_seq = 1, sent_ns;
static bool quiet;
static int disk_fd[CTL_FDS_MAX];
static unsigned disk_count;
static uint64_t balloon_bytes;
static int restore_fd = -1;
static char *state_path; /* of the next START or SAVE */

__attribute__((noreturn)) static void die(const char *what)
{
    printf("vmmtalk: %s\n", what);
    exit(EXIT_FAILURE);
}

/* One message within the time; false: closed. Reports are printed and given back. */
static bool receive(uint64_t until_ns, struct ctl_msg *msg)
{
    for (;;) {
        enum ctl_reason reason = CTL_OK;
        uint64_t now = loop_now_ns();
        struct pollfd p = {.fd = fd, .events = POLLIN};
        int r = ctl_recv(fd, msg, &reason);

        if (r == 0) {
            break;
        }
        if (r == -ECONNRESET || r == -EPIPE) {
            return false;
        }
        if (r != -EAGAIN) {
            die(reason ? ctl_reason_str(reason) : strerror(-r));
        }
        if (now >= until_ns) {
            die("timed out");
        }
        (void)poll(&p, 1, (int)((until_ns - now) / NSEC_PER_MSEC) + 1);
    }
    if (msg->kind == CTL_VMM_REPORT && !quiet) {
        const Gemel__VmmReport *rp = msg->vmm_report;

        if (rp->seq != 0 && rp->seq + 1 == next_seq) {
            printf("took_us=%llu ", (unsigned long long)(loop_now_ns() - sent_ns) / 1000);
        }
        printf("seq=%llu ok=%d state=%s epoch=%llu io=%u exits=%llu end=%d "
               "disk_failed=%d agent=%s balloon=%llu/%llu free=%llu "
               "guest_ms=%llu saved=%llu guest_event=%d guest_event_count=%llu "
               "error='%s' reason='%s'\n",
               (unsigned long long)rp->seq, rp->ok,
               (unsigned)rp->state < ARRAY_SIZE(state_name) ? state_name[rp->state] : "?",
               (unsigned long long)rp->epoch, rp->io_in_flight,
               (unsigned long long)rp->exits, (int)rp->exit_reason, rp->disk_failed,
               rp->guest_agent, (unsigned long long)rp->balloon_actual,
               (unsigned long long)rp->balloon_target, (unsigned long long)rp->guest_free,
               (unsigned long long)(rp->guest_ns / NSEC_PER_MSEC),
               (unsigned long long)rp->saved_bytes, (int)rp->guest_event,
               (unsigned long long)rp->guest_event_count, rp->error, rp->reason);
        fflush(stdout);
    }
    return true;
}

static void hello(uint64_t join, uint64_t start_ns)
{
    static uint8_t boot_id[16] = {1};
    Gemel__Hello h = GEMEL__HELLO__INIT;
    struct ctl_msg msg;

    h.version = PROTO_CTL_VERSION;
    h.version_min = PROTO_CTL_VERSION_MIN;
    h.program = (char *)"vmmtalk";
    h.node = (char *)"test";
    h.boot_id = (ProtobufCBinaryData){16, boot_id};
    h.join_counter = join;
    h.agent_start_ns = start_ns;
    if (ctl_send(fd, CTL_HELLO, &h) < 0) {
        die("cannot send Hello");
    }
    do {
        if (!receive(loop_now_ns() + 5 * NSEC_PER_SEC, &msg)) {
            die("closed in the handshake");
        }
        if (msg.kind == CTL_VMM_REPORT && !msg.vmm_report->ok) {
            die("refused");
        }
    } while (msg.kind != CTL_HELLO);
    printf("hello from %s version %u\n", msg.hello->program, msg.hello->version);
    ctl_msg_free(&msg);
}

/* Takes the file of a SAVE. */
static bool request_with(Gemel__VmmRequest__Kind kind, uint64_t epoch, uint32_t lease_ms,
                         uint64_t lease_from_ns, int save_fd)
{
    Gemel__VmmRequest rq = GEMEL__VMM_REQUEST__INIT;
    struct ctl_msg msg;
    int files[CTL_FDS_MAX + 1];
    size_t file_count = 0;

    sent_ns = loop_now_ns();
    rq.kind = kind;
    rq.seq = next_seq++;
    rq.epoch = epoch;
    rq.lease_ms = lease_ms;
    rq.lease_from_ns = lease_from_ns;
    rq.balloon_bytes = balloon_bytes;
    rq.reason = (char *)"vmmtalk";
    if (kind == GEMEL__VMM_REQUEST__KIND__START ||
        (kind == GEMEL__VMM_REQUEST__KIND__THAW && disk_count > 0)) {
        rq.disk_count = disk_count;
        file_count = disk_count;
        memcpy(files, disk_fd, disk_count * sizeof files[0]);
        disk_count = 0;
        rq.restore = restore_fd >= 0;
        if (rq.restore) {
            files[file_count++] = restore_fd;
        }
        restore_fd = -1;
        rq.state_path = state_path;
    } else if (save_fd >= 0) {
        files[file_count++] = save_fd;
        rq.state_path = state_path;
    }
    if (ctl_send_fds(fd, CTL_VMM_REQUEST, &rq, files, file_count) < 0) {
        die("cannot send the request");
    }
    while (file_count > 0) {
        close(files[--file_count]);
    }
    for (;;) {
        bool mine, ok;

        if (!receive(loop_now_ns() + 60 * NSEC_PER_SEC, &msg)) {
            die("closed while waiting for the reply");
        }
        mine = msg.kind == CTL_VMM_REPORT && msg.vmm_report->seq == rq.seq;
        ok = mine && msg.vmm_report->ok;
        ctl_msg_free(&msg);
        if (mine) {
            return ok;
        }
    }
}

static bool request(Gemel__VmmRequest__Kind kind, uint64_t epoch, uint32_t lease_ms,
                    uint64_t lease_from_ns)
{
    return request_with(kind, epoch, lease_ms, lease_from_ns, -1);
}

static bool wait_state(const char *name, uint64_t timeout_ms)
{
    uint64_t until = loop_now_ns() + timeout_ms * NSEC_PER_MSEC;
    struct ctl_msg msg;

    while (receive(until, &msg)) {
        bool there = msg.kind == CTL_VMM_REPORT &&
                     (unsigned)msg.vmm_report->state < ARRAY_SIZE(state_name) &&
                     strcmp(state_name[msg.vmm_report->state], name) == 0;

        ctl_msg_free(&msg);
        if (there) {
            return true;
        }
    }
    die("closed while waiting for a state");
}

/* Freezes and thaws; what it took is printed once. */
static bool storm(uint64_t epoch, uint64_t count)
{
    uint64_t worst_us = 0, sum_us = 0;

    quiet = true;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t us;

        if (!request(GEMEL__VMM_REQUEST__KIND__FREEZE, 0, 0, 0)) {
            return false;
        }
        us = (loop_now_ns() - sent_ns) / NSEC_PER_USEC;
        sum_us += us;
        worst_us = us > worst_us ? us : worst_us;
        if (!request(GEMEL__VMM_REQUEST__KIND__THAW, epoch + i, 0, 0)) {
            return false;
        }
    }
    quiet = false;
    printf("storm count=%llu mean_us=%llu worst_us=%llu\n", (unsigned long long)count,
           (unsigned long long)(sum_us / (count ? count : 1)),
           (unsigned long long)worst_us);
    return true;
}

static bool wait_closed(uint64_t timeout_ms)
{
    uint64_t until = loop_now_ns() + timeout_ms * NSEC_PER_MSEC;
    struct ctl_msg msg;

    while (receive(until, &msg)) {
        ctl_msg_free(&msg);
    }
    printf("closed\n");
    return true;
}

static uint64_t number(char **argv, int *i)
{
    if (!argv[*i + 1]) {
        die("a number is missing");
    }
    return strtoull(argv[++*i], NULL, 10);
}

static bool open_disk(const char *path, int mode)
{
    if (!path || disk_count == CTL_FDS_MAX) {
        die("disk: no file, or too many");
    }
    disk_fd[disk_count] = open(path, mode | O_CLOEXEC);
    if (disk_fd[disk_count] < 0) {
        die(strerror(errno));
    }
    disk_count++;
    return true;
}

static bool connect_disk(const char *text)
{
    struct nbd_uri uri;
    const char *why = text ? nbd_uri_parse(text, &uri) : "no URI";
    int r;

    if (why || disk_count == CTL_FDS_MAX) {
        die(why ? why : "disk-nbd: too many");
    }
    r = nbd_uri_connect(&uri, 5000, &disk_fd[disk_count]);
    if (r < 0) {
        die(strerror(-r));
    }
    disk_count++;
    return true;
}

static bool open_restore(char *path)
{
    state_path = path;
    restore_fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (restore_fd < 0) {
        die("restore: cannot open the file");
    }
    return true;
}

static bool save(char *path)
{
    int file = path ? open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600) : -1;

    state_path = path;
    if (file < 0) {
        die("save: cannot make the file");
    }
    return request_with(GEMEL__VMM_REQUEST__KIND__SAVE, 0, 0, 0, file);
}

static bool run(char **argv, int *i)
{
    static const struct {
        const char *name;
        Gemel__VmmRequest__Kind kind;
        bool epoch;
    } plain[] = {
        {"start", GEMEL__VMM_REQUEST__KIND__START, true},
        {"thaw", GEMEL__VMM_REQUEST__KIND__THAW, true},
        {"freeze", GEMEL__VMM_REQUEST__KIND__FREEZE, false},
        {"kill", GEMEL__VMM_REQUEST__KIND__KILL, false},
        {"powerdown", GEMEL__VMM_REQUEST__KIND__POWERDOWN, false},
        {"reset", GEMEL__VMM_REQUEST__KIND__RESET, false},
        {"status", GEMEL__VMM_REQUEST__KIND__STATUS, false},
    };
    const char *cmd = argv[*i];

    for (size_t k = 0; k < ARRAY_SIZE(plain); k++) {
        if (strcmp(cmd, plain[k].name) == 0) {
            return request(plain[k].kind, plain[k].epoch ? number(argv, i) : 0, 0, 0);
        }
    }
    if (strcmp(cmd, "disk") == 0 || strcmp(cmd, "disk-ro") == 0) {
        return open_disk(argv[++*i], cmd[4] ? O_RDONLY : O_RDWR);
    }
    if (strcmp(cmd, "disk-nbd") == 0) {
        return connect_disk(argv[++*i]);
    }
    if (strcmp(cmd, "restore") == 0) {
        return open_restore(argv[++*i]);
    }
    if (strcmp(cmd, "save") == 0) {
        return save(argv[++*i]);
    }
    if (strcmp(cmd, "lease") == 0) {
        return request(GEMEL__VMM_REQUEST__KIND__LEASE, 0, (uint32_t)number(argv, i), 0);
    }
    if (strcmp(cmd, "balloon") == 0) {
        balloon_bytes = number(argv, i);
        return request(GEMEL__VMM_REQUEST__KIND__BALLOON, 0, 0, 0);
    }
    if (strcmp(cmd, "lease-from") == 0) {
        uint32_t ms = (uint32_t)number(argv, i);
        uint64_t ago_ms = number(argv, i);

        return request(GEMEL__VMM_REQUEST__KIND__LEASE, 0, ms,
                       loop_now_ns() - ago_ms * NSEC_PER_MSEC);
    }
    if (strcmp(cmd, "storm") == 0) {
        uint64_t epoch = number(argv, i);

        return storm(epoch, number(argv, i));
    }
    if (strcmp(cmd, "wait") == 0 && argv[*i + 1]) {
        const char *name = argv[++*i];

        return wait_state(name, number(argv, i));
    }
    if (strcmp(cmd, "closed") == 0) {
        return wait_closed(number(argv, i));
    }
    if (strcmp(cmd, "sleep") == 0) {
        uint64_t ms = number(argv, i);
        struct timespec t = {(time_t)(ms / 1000), (long)(ms % 1000 * NSEC_PER_MSEC)};

        nanosleep(&t, NULL);
        return true;
    }
    die("unknown command");
}

int main(int argc, char **argv)
{
    int i = 4, r;

    if (argc < 4) {
        die("usage: vmmtalk SOCKET JOIN START_NS COMMAND...");
    }
    r = os_unix_connect(argv[1], &fd);
    /* A socket has its name before anybody listens. */
    for (int k = 0; r == -ECONNREFUSED && k < 50; k++) {
        nanosleep(&(struct timespec){.tv_nsec = 10 * 1000000}, NULL);
        r = os_unix_connect(argv[1], &fd);
    }
    if (r < 0) {
        die(strerror(-r));
    }
    if (argc > 4 && strcmp(argv[4], "nohello") == 0) {
        i++;
    } else {
        hello(strtoull(argv[2], NULL, 10), strtoull(argv[3], NULL, 10));
    }
    for (; i < argc; i++) {
        if (!run(argv, &i)) {
            close(fd);
            return EXIT_FAILURE;
        }
    }
    close(fd);
    return EXIT_SUCCESS;
}
