/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/vmm_ctl.h"

#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/log.h"
#include "base/os.h"
#include "base/proto_ctl.h"
#include "base/version.h"
#include "vmm/engine_ram.h"

#define PENDING_MAX 8  /* connections that have not said Hello */
#define BATCH_MAX   32 /* requests served before others get their turn */
/* Without an agent and without a START for so long, nobody knows of this process: its
 * starter died before it could write the pid down. */
#define ABANDONED_MS 30000

struct conn {
    struct vmm_ctl *ctl;
    struct conn *next;
    int fd;
    pid_t pid;
    bool hello_done;
    loop_timer handshake;
    struct waiting {
        uint64_t seq;   /* of the request; 0: none waits */
        uint64_t after; /* only changes later than this one answer it */
    } freeze, start;
    uint64_t save_seq; /* of the SAVE that waits; 0: none */
};

struct vmm_ctl {
    struct loop *loop;
    struct vmm_ctl_conf conf;
    struct conn *conns;
    unsigned conn_count;
    struct conn *agent; /* the one that is listened to */
    /* The newest incarnation ever seen. */
    bool any_agent;
    uint64_t join_counter, agent_start_ns;
    loop_timer abandoned;
};

static void conn_drop(struct conn *c, const char *why)
{
    struct vmm_ctl *ctl = c->ctl;

    for (struct conn **p = &ctl->conns; *p; p = &(*p)->next) {
        if (*p == c) {
            *p = c->next;
            break;
        }
    }
    ctl->conn_count--;
    if (ctl->agent == c) {
        ctl->agent = NULL;
    }
    log_info("control: connection of pid %d closed: %s", (int)c->pid, why);
    loop_timer_del(ctl->loop, &c->handshake);
    loop_fd_del(ctl->loop, c->fd);
    close(c->fd);
    free(c);
}

/* Reports
 * ----------------------------------------------------------------------------------- */

static Gemel__VmmState report_state(const struct engine_status *s)
{
    switch (s->state) {
    case RUN_RUNNING:
        return GEMEL__VMM_STATE__VMM_STATE_RUNNING;
    case RUN_FREEZING:
    case RUN_ENDING:
        return GEMEL__VMM_STATE__VMM_STATE_FREEZING;
    case RUN_FROZEN:
        return GEMEL__VMM_STATE__VMM_STATE_FROZEN;
    case RUN_ENDED:
        return s->end == RUN_END_SHUTDOWN || s->end == RUN_END_KILLED
                   ? GEMEL__VMM_STATE__VMM_STATE_STOPPED
                   : GEMEL__VMM_STATE__VMM_STATE_FAILED;
    case RUN_FOLLOWING:
        return GEMEL__VMM_STATE__VMM_STATE_FOLLOWING;
    default:
        return GEMEL__VMM_STATE__VMM_STATE_CREATED;
    }
}

static Gemel__ExitReason report_end(enum run_end end)
{
    static const Gemel__ExitReason reason[] = {
        [RUN_END_NONE] = GEMEL__EXIT_REASON__EXIT_NONE,
        [RUN_END_SHUTDOWN] = GEMEL__EXIT_REASON__EXIT_GUEST_SHUTDOWN,
        [RUN_END_KILLED] = GEMEL__EXIT_REASON__EXIT_KILLED,
        [RUN_END_CRASH] = GEMEL__EXIT_REASON__EXIT_GUEST_CRASH,
        [RUN_END_HOST] = GEMEL__EXIT_REASON__EXIT_HOST_ERROR,
    };

    return reason[end];
}

static Gemel__GuestEvent report_event(enum guest_event event)
{
    static const Gemel__GuestEvent kind[GUEST_EVENT_COUNT] = {
        [GUEST_EVENT_PANIC] = GEMEL__GUEST_EVENT__GUEST_PANICKED,
        [GUEST_EVENT_CRASH_LOADED] = GEMEL__GUEST_EVENT__GUEST_CRASH_KERNEL,
        [GUEST_EVENT_WATCHDOG] = GEMEL__GUEST_EVENT__GUEST_WATCHDOG,
    };

    return kind[event];
}

static void report_guest(const struct vmm_ctl *ctl, Gemel__VmmReport *report)
{
    const struct guest_news *news = ctl->conf.guest_news;
    struct machine_balloon b;

    if (news != NULL && news->told > 0) {
        report->guest_event = report_event(news->last);
        report->guest_event_count = news->told;
        report->guest_event_ms = news->last_ns / NSEC_PER_MSEC;
    }

    report->balloon = engine_balloon_read(ctl->conf.engine, &b);
    if (!report->balloon) {
        return; /* nor is there a port: lockstep */
    }
    report->balloon_target = b.target;
    report->balloon_actual = b.actual;
    report->guest_free = b.free;
    report->guest_available = b.available;
    report->guest_total = b.total;
    report->guest_agent =
        (char *)guest_agent_state_str(guest_agent_state(ctl->conf.guest_agent));
}

/* False: the connection is gone (an agent that does not read loses it, and comes back).
 * file: rides along; -1: none. */
static bool send_report_file(struct conn *c, const struct engine_status *s, uint64_t seq,
                             const char *error, int file)
{
    Gemel__VmmReport report = GEMEL__VMM_REPORT__INIT;
    struct engine_status copy = *s;
    int r;

    report.seq = seq;
    report.ok = error == NULL;
    report.error = (char *)(error ? error : "");
    report.vm = (ProtobufCBinaryData){.len = 16, .data = c->ctl->conf.vm.b};
    report.instance = (ProtobufCBinaryData){.len = 16, .data = c->ctl->conf.instance.b};
    report.epoch = s->epoch;
    report.state = report_state(s);
    if (c->ctl->conf.move.report) {
        c->ctl->conf.move.report(c->ctl->conf.move.ctx, &report);
    }
    report.exit_reason = report_end(s->end);
    report.reason = copy.reason;
    report.io_in_flight = s->io_in_flight;
    report.exits = s->exits;
    report.guest_ns = s->guest_ns;
    report.disk_failed = s->disk_failed;
    report.saved_bytes = s->saved_bytes;
    report_guest(c->ctl, &report);
    r = ctl_send_fds(c->fd, CTL_VMM_REPORT, &report, &file, file >= 0 ? 1 : 0);
    if (r < 0) {
        conn_drop(c, r == -EAGAIN ? "it does not read its reports" : strerror(-r));
        return false;
    }
    return true;
}

static bool send_report(struct conn *c, const struct engine_status *s, uint64_t seq,
                        const char *error)
{
    return send_report_file(c, s, seq, error, -1);
}

static bool send_reply(struct conn *c, uint64_t seq, const char *error)
{
    struct engine_status now;

    engine_status(c->ctl->conf.engine, &now);
    return send_report(c, &now, seq, error);
}

/* Sends the reply that waited, if any. False: the connection is gone. */
static bool settle(struct conn *c, struct waiting *w, const struct engine_status *s,
                   const char *error)
{
    uint64_t seq = w->seq;

    if (seq == 0 || s->change <= w->after) {
        return true;
    }
    w->seq = 0;
    return send_report(c, s, seq, error);
}

void vmm_ctl_notice(struct vmm_ctl *ctl, const struct engine_status *s)
{
    struct conn *c = ctl->agent;
    bool over = s->state == RUN_ENDING || s->state == RUN_ENDED;
    bool alive;

    if (!c) {
        return;
    }
    alive = send_report(c, s, 0, NULL);
    if (alive && (s->state == RUN_FROZEN || over)) {
        alive = settle(c, &c->freeze, s, over ? "the VM has ended" : NULL);
    }
    if (alive && s->state == RUN_RUNNING) {
        (void)settle(c, &c->start, s, NULL);
    } else if (alive && (over || s->state == RUN_FREEZING)) {
        (void)settle(c, &c->start, s, s->reason[0] ? s->reason : "the VM has ended");
    }
}

void vmm_ctl_moved(struct vmm_ctl *ctl)
{
    vmm_ctl_guest(ctl);
}

void vmm_ctl_guest(struct vmm_ctl *ctl)
{
    if (ctl->agent) {
        (void)send_reply(ctl->agent, 0, NULL);
    }
}

/* Requests
 * ---------------------------------------------------------------------------------- */

static const char *refusal(enum run_answer answer)
{
    return answer == RUN_DONE || answer == RUN_ALREADY ? NULL : run_answer_str(answer);
}

/* Both wait for a change that is newer than the request. Counted from before it: the
 * engine is another thread, and may be done (or have failed) when it is looked at again.
 */
static bool do_start(struct conn *c, const Gemel__VmmRequest *rq)
{
    struct engine_status before, now;
    enum run_answer answer;

    engine_status(c->ctl->conf.engine, &before);
    answer = engine_start(c->ctl->conf.engine, rq->epoch, rq->reason);
    engine_status(c->ctl->conf.engine, &now);
    if (refusal(answer) || now.state == RUN_RUNNING) {
        return send_report(c, &now, rq->seq, refusal(answer));
    }
    c->start =
        (struct waiting){rq->seq, before.change}; /* answered when the disks are open */
    return true;
}

static bool do_freeze(struct conn *c, const Gemel__VmmRequest *rq)
{
    struct engine_status before, now;
    enum run_answer answer;

    engine_status(c->ctl->conf.engine, &before);
    answer = engine_freeze(c->ctl->conf.engine, rq->reason);
    engine_status(c->ctl->conf.engine, &now);
    if (refusal(answer) || now.state == RUN_FROZEN) {
        return send_report(c, &now, rq->seq, refusal(answer));
    }
    c->freeze =
        (struct waiting){rq->seq, before.change}; /* answered when no I/O is in flight */
    return true;
}

/* What messages call the file of a state. */
static const char *state_name(const Gemel__VmmRequest *rq, const char *otherwise)
{
    return rq->state_path && rq->state_path[0] ? rq->state_path : otherwise;
}

/* Takes the file. */
static bool do_save(struct conn *c, const Gemel__VmmRequest *rq, int fd)
{
    uint64_t held;
    int r;

    if (engine_held(c->ctl->conf.engine, &held) != 0) {
        close(fd);
        return send_reply(c, rq->seq,
                          "its disks hold writes until its old host is known to write no "
                          "more; try again when that is over");
    }
    r = engine_save(c->ctl->conf.engine, fd, state_name(rq, "of SAVE"),
                    ENGINE_RAM_IN_STATE);
    if (r < 0) {
        return send_reply(c, rq->seq,
                          r == -EBUSY ? "a SAVE is under way already"
                                      : "only a frozen VM can be saved");
    }
    c->save_seq = rq->seq; /* answered when it is on disk */
    return true;
}

void vmm_ctl_saved(struct vmm_ctl *ctl, const struct engine_saved *saved)
{
    struct conn *c = ctl->agent;
    struct engine_status now;
    uint64_t seq;

    if (!c || c->save_seq == 0) {
        return;
    }
    seq = c->save_seq;

    c->save_seq = 0;
    engine_status(ctl->conf.engine, &now);
    now.saved_bytes = saved->bytes;
    (void)send_report(c, &now, seq, saved->result < 0 ? saved->err.text : NULL);
}

/* Both ways: a guest may listen to one of them only, and to be asked twice does no harm.
 */
static bool do_powerdown(struct conn *c, const Gemel__VmmRequest *rq)
{
    bool pressed = engine_power_button(c->ctl->conf.engine);

    (void)guest_agent_shutdown(c->ctl->conf.guest_agent);
    return send_reply(c, rq->seq, pressed ? NULL : "the VM is not running");
}

static bool do_request(struct conn *c, const Gemel__VmmRequest *rq)
{
    struct engine *e = c->ctl->conf.engine;

    switch (rq->kind) {
    case GEMEL__VMM_REQUEST__KIND__START:
        return do_start(c, rq);
    case GEMEL__VMM_REQUEST__KIND__FREEZE:
        return do_freeze(c, rq);
    case GEMEL__VMM_REQUEST__KIND__THAW:
        return send_reply(c, rq->seq, refusal(engine_thaw(e, rq->epoch, rq->reason)));
    case GEMEL__VMM_REQUEST__KIND__KILL:
        return send_reply(c, rq->seq, refusal(engine_end(e, RUN_END_KILLED, rq->reason)));
    case GEMEL__VMM_REQUEST__KIND__POWERDOWN:
        return do_powerdown(c, rq);
    case GEMEL__VMM_REQUEST__KIND__BALLOON:
        return send_reply(c, rq->seq,
                          engine_balloon(e, rq->balloon_bytes)
                              ? NULL
                              : "the VM is not running, or its machine has no balloon");
    case GEMEL__VMM_REQUEST__KIND__RESET:
        return send_reply(c, rq->seq, engine_reset(e) ? NULL : "the VM is not running");
    case GEMEL__VMM_REQUEST__KIND__LEASE:
        return send_reply(c, rq->seq,
                          engine_lease(e, rq->lease_ms, rq->lease_from_ns)
                              ? NULL
                              : "this lease was already over when it came");
    case GEMEL__VMM_REQUEST__KIND__SAVE:
        return send_reply(c, rq->seq, "SAVE came without a file to write to");
    case GEMEL__VMM_REQUEST__KIND__STATUS:
        return send_reply(c, rq->seq, NULL);
    default:
        return send_reply(c, rq->seq,
                          "unknown request; this gemel-vmm is older than the agent");
    }
}

/* Handshake
 * --------------------------------------------------------------------------------- */

static bool send_hello(struct conn *c)
{
    Gemel__Hello hello = GEMEL__HELLO__INIT;

    hello.version = PROTO_CTL_VERSION;
    hello.version_min = PROTO_CTL_VERSION_MIN;
    hello.features = FEATURE_NONE;
    hello.program = (char *)"gemel-vmm";
    hello.build = (char *)PACKAGE_VERSION;
    return ctl_send(c->fd, CTL_HELLO, &hello) >= 0;
}

/* An equal incarnation is the same agent on a new connection: the newest connection is
 * the one it uses. */
static bool is_older(const struct vmm_ctl *ctl, const Gemel__Hello *hello)
{
    if (!ctl->any_agent) {
        return false;
    }
    if (hello->join_counter != ctl->join_counter) {
        return hello->join_counter < ctl->join_counter;
    }
    return hello->agent_start_ns < ctl->agent_start_ns;
}

static bool do_hello(struct conn *c, const Gemel__Hello *hello)
{
    struct vmm_ctl *ctl = c->ctl;

    if (hello->version < PROTO_CTL_VERSION_MIN ||
        hello->version_min > PROTO_CTL_VERSION) {
        log_warn("control: pid %d speaks protocol %u (at least %u), this gemel-vmm %u "
                 "(at least %u)",
                 (int)c->pid, hello->version, hello->version_min, PROTO_CTL_VERSION,
                 PROTO_CTL_VERSION_MIN);
        (void)send_hello(c); /* so that the other side can say the same */
        conn_drop(c, "no common protocol version");
        return false;
    }
    if (is_older(ctl, hello)) {
        if (send_reply(c, 0, "a newer agent has been here; this one is history")) {
            conn_drop(c, "older incarnation of the agent");
        }
        return false;
    }
    loop_timer_del(ctl->loop, &c->handshake);
    if (ctl->agent) {
        conn_drop(ctl->agent, "a newer agent took over");
    }
    ctl->agent = c;
    ctl->any_agent = true;
    ctl->join_counter = hello->join_counter;
    ctl->agent_start_ns = hello->agent_start_ns;
    c->hello_done = true;
    log_info("control: agent of node %s, pid %d, join %llu",
             hello->node ? hello->node : "?", (int)c->pid,
             (unsigned long long)hello->join_counter);
    if (!send_hello(c)) {
        conn_drop(c, "cannot send");
        return false;
    }
    return send_reply(c, 0, NULL); /* what it has come to adopt */
}

static void close_all(const int *fds, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        close(fds[i]);
    }
}

static bool takes_files(const Gemel__VmmRequest *rq)
{
    return rq->kind == GEMEL__VMM_REQUEST__KIND__START ||
           rq->kind == GEMEL__VMM_REQUEST__KIND__THAW;
}

/* Files that came with START: the disks and, to go on from it, a saved state; with THAW:
 * new connections for disks that lost theirs. False: they
 * are not those that it announces (a boot instead of the restore that was asked for would
 * ruin what is on the disks). */
static bool take_files(struct conn *c, const Gemel__VmmRequest *rq, const int *fds,
                       size_t count)
{
    size_t disks = rq->disk_count;

    if (disks > count || count - disks != (rq->restore ? 1 : 0) ||
        (rq->restore && rq->kind != GEMEL__VMM_REQUEST__KIND__START)) {
        close_all(fds, count);
        return false;
    }
    if (disks > 0) {
        engine_disks(c->ctl->conf.engine, fds, (unsigned)disks);
    }
    if (rq->restore) {
        engine_restore(c->ctl->conf.engine, fds[disks], state_name(rq, "of START"),
                       ENGINE_RAM_IN_STATE);
    }
    return true;
}

static bool is_move(const Gemel__VmmRequest *rq)
{
    return rq->kind == GEMEL__VMM_REQUEST__KIND__MIGRATE_PREPARE ||
           rq->kind == GEMEL__VMM_REQUEST__KIND__MIGRATE_OUT ||
           rq->kind == GEMEL__VMM_REQUEST__KIND__MIGRATE_IN ||
           rq->kind == GEMEL__VMM_REQUEST__KIND__MIGRATE_RELEASING ||
           rq->kind == GEMEL__VMM_REQUEST__KIND__MIGRATE_CANCEL ||
           (rq->kind >= GEMEL__VMM_REQUEST__KIND__FT_PROTECT &&
            rq->kind <= GEMEL__VMM_REQUEST__KIND__FT_EXCLUDED);
}

/* Takes the files. */
static bool do_move(struct conn *c, const Gemel__VmmRequest *rq, const int *fds,
                    size_t count)
{
    const struct vmm_ctl_move *move = &c->ctl->conf.move;
    struct engine_status now;
    struct engine_ram ram;
    const char *error;

    if (!move->request) {
        close_all(fds, count);
        return send_reply(c, rq->seq, "this gemel-vmm does not migrate");
    }
    error = move->request(move->ctx, rq, fds, count);
    engine_status(c->ctl->conf.engine, &now);
    engine_ram(c->ctl->conf.engine, &ram);
    return send_report_file(c, &now, rq->seq, error,
                            rq->mig_memory && error == NULL &&
                                    rq->kind == GEMEL__VMM_REQUEST__KIND__MIGRATE_PREPARE
                                ? ram.fd
                                : -1);
}

/* Takes the files. */
static bool serve(struct conn *c, const struct ctl_msg *msg, const int *fds, size_t count)
{
    const Gemel__VmmRequest *rq =
        msg->kind == CTL_VMM_REQUEST && c->hello_done ? msg->vmm_request : NULL;

    if (rq && rq->kind == GEMEL__VMM_REQUEST__KIND__SAVE && count == 1) {
        return do_save(c, rq, fds[0]);
    }
    if (rq && is_move(rq)) {
        return do_move(c, rq, fds, count);
    }
    if (rq && takes_files(rq)) {
        if (!take_files(c, rq, fds, count)) {
            return send_reply(c, rq->seq, "it came with other files than it announces");
        }
    } else {
        close_all(fds, count);
    }
    if (msg->kind == CTL_HELLO && !c->hello_done) {
        return do_hello(c, msg->hello);
    }
    if (!c->hello_done) {
        conn_drop(c, "the first message was no Hello");
        return false;
    }
    if (msg->kind == CTL_VMM_REQUEST) {
        return do_request(c, msg->vmm_request);
    }
    return true; /* a kind of a later version, or not for us */
}

static int on_conn(int fd, int revents, void *data)
{
    struct conn *c = data;

    (void)fd, (void)revents;
    for (int i = 0; i < BATCH_MAX; i++) {
        enum ctl_reason reason = CTL_OK;
        struct ctl_msg msg;
        int fds[CTL_FDS_MAX];
        size_t fd_count;
        bool alive;
        int r = ctl_recv_fds(c->fd, &msg, &reason, fds, &fd_count);

        if (r < 0) {
            close_all(fds, fd_count);
        }
        if (r == -EAGAIN || r == -EINTR) {
            return 0;
        }
        if (r == -EBADMSG && reason == CTL_UNKNOWN_KIND && c->hello_done) {
            continue;
        }
        if (r == -EBADMSG && reason == CTL_BAD_FIELD && c->hello_done) {
            /* A request of a later version, perhaps: refused, not punished. */
            if (!send_reply(
                    c, 0,
                    "message refused: a field has a value that is not known here")) {
                return 0;
            }
            continue;
        }
        if (r < 0) {
            conn_drop(c, r == -EBADMSG ? ctl_reason_str(reason) : strerror(-r));
            return 0;
        }
        alive = serve(c, &msg, fds, fd_count);
        ctl_msg_free(&msg);
        if (!alive) {
            return 0;
        }
    }
    return 0;
}

static void on_abandoned(void *data)
{
    struct vmm_ctl *ctl = data;
    struct engine_status now;

    ctl->abandoned = 0;
    engine_status(ctl->conf.engine, &now);
    if (now.state != RUN_CREATED) {
        return; /* from now on the VM does not need an agent */
    }
    if (ctl->agent == NULL) {
        log_warn("control: no agent within %d s of the start; ending",
                 ABANDONED_MS / 1000);
        engine_end(ctl->conf.engine, RUN_END_KILLED, "no agent came to start it");
        return;
    }
    loop_timer_add(ctl->loop, ABANDONED_MS * NSEC_PER_MSEC, on_abandoned, ctl,
                   &ctl->abandoned);
}

static void on_handshake_timeout(void *data)
{
    conn_drop(data, "no Hello in time");
}

static int on_listen(int fd, int revents, void *data)
{
    struct vmm_ctl *ctl = data;
    struct os_peer peer;
    struct conn *c;
    int conn_fd;

    (void)revents;
    if (os_unix_accept(fd, &conn_fd) < 0) {
        return 0;
    }
    if (os_unix_peer(conn_fd, &peer) < 0 || (peer.uid != 0 && peer.uid != geteuid())) {
        log_warn("control: refused a connection: neither root nor uid %u",
                 (unsigned)geteuid());
        close(conn_fd);
        return 0;
    }
    c = ctl->conn_count < PENDING_MAX ? calloc(1, sizeof *c) : NULL;
    if (!c) {
        close(conn_fd);
        return 0;
    }
    *c = (struct conn){.ctl = ctl, .fd = conn_fd, .pid = peer.pid, .next = ctl->conns};
    ctl->conns = c;
    ctl->conn_count++;
    if (loop_fd_add(ctl->loop, conn_fd, POLLIN, on_conn, c) < 0 ||
        loop_timer_add(ctl->loop, CTL_HANDSHAKE_MS * NSEC_PER_MSEC, on_handshake_timeout,
                       c, &c->handshake) < 0) {
        conn_drop(c, "no room in the event loop");
    }
    return 0;
}

int vmm_ctl_open(struct loop *loop, const struct vmm_ctl_conf *conf,
                 struct vmm_ctl **ret_ctl, struct vmm_error *err)
{
    struct vmm_ctl *ctl;
    int type = 0, listening = 0, flags, r;
    socklen_t len = sizeof type;

    if (getsockopt(conf->listen_fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0 ||
        type != SOCK_SEQPACKET ||
        getsockopt(conf->listen_fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &len) < 0 ||
        !listening) {
        return vmm_fail(err, -ENOTSOCK,
                        "control fd %d is not a listening SOCK_SEQPACKET socket",
                        conf->listen_fd);
    }
    flags = fcntl(conf->listen_fd, F_GETFL);
    if (flags < 0 || fcntl(conf->listen_fd, F_SETFL, flags | O_NONBLOCK) < 0 ||
        fcntl(conf->listen_fd, F_SETFD, FD_CLOEXEC) < 0) {
        return vmm_fail(err, -errno, "control fd %d: %s", conf->listen_fd,
                        strerror(errno));
    }
    ctl = calloc(1, sizeof *ctl);
    if (!ctl) {
        return vmm_fail(err, -ENOMEM, "no memory for the control socket");
    }
    ctl->loop = loop;
    ctl->conf = *conf;
    r = loop_fd_add(loop, conf->listen_fd, POLLIN, on_listen, ctl);
    if (r == 0) {
        r = loop_timer_add(loop, ABANDONED_MS * NSEC_PER_MSEC, on_abandoned, ctl,
                           &ctl->abandoned);
    }
    if (r < 0) {
        loop_fd_del(loop, conf->listen_fd);
        free(ctl);
        return vmm_fail(err, r, "cannot watch the control socket: %s", strerror(-r));
    }
    *ret_ctl = ctl;
    return 0;
}

void vmm_ctl_close(struct vmm_ctl *ctl)
{
    if (!ctl) {
        return;
    }
    while (ctl->conns) {
        conn_drop(ctl->conns, "the VMM ends");
    }
    loop_timer_del(ctl->loop, &ctl->abandoned);
    loop_fd_del(ctl->loop, ctl->conf.listen_fd);
    close(ctl->conf.listen_fd);
    free(ctl);
}
