/* SPDX-License-Identifier: Apache-2.0 */
/* gemel-vmm: one process per VM. This file ties the engine to the loop, the sockets and
 * the log files. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/loop.h"
#include "base/os.h"
#include "base/uuid.h"
#include "ft/ft_tape.h"
#include "programs/gemel_vmm_move.h"
#include "programs/gemel_vmm_opts.h"
#include "programs/gemel_vmm_probe.h"
#include "programs/gemel_vmm_walls.h"
#include "vmm/console.h"
#include "vmm/dev.h"
#include "vmm/disks.h"
#include "vmm/guest_agent.h"
#include "vmm/net_tap.h"
#include "vmm/priority.h"
#include "vmm/probe.h"
#include "vmm/rot_file.h"
#include "vmm/sandbox.h"
#include "vmm/uffd.h"
#include "vmm/vmm_ctl.h"

#define TAPE_LOOK_NS       NSEC_PER_SEC /* is it being recorded still? */
#define POWERDOWN_GRACE_NS (5 * NSEC_PER_SEC)
#define HOLES_GRACE_NS     (500 * NSEC_PER_MSEC)
#define NET_BATCH_MAX      64 /* frames taken from one tap before others get their turn */

struct program {
    struct vmm_opts opts;
    struct loop *loop;
    struct engine *engine;
    struct console *console;
    struct vmm_ctl *ctl;
    struct guest_agent *guest_agent;
    struct vmm_move move;
    struct vmm_twin twin;
    struct ft_tape *tape; /* record or replay; NULL: neither */
    bool ran, tape_good;
    loop_timer tape_timer;
    uint64_t balloon_told;  /* bytes */
    loop_timer guest_timer; /* asks the guest how it is */
    loop_timer news_timer;  /* 0: nothing waits to be told */
    struct guest_news guest_news;
    loop_timer event_timer; /* as news_timer */
    struct rot_file debug_log;
    int exit_fd;
    loop_timer kill_timer, holes_timer;
    struct vmm_error no_uffd; /* why there is none */
    bool kill_armed;
    struct engine_status last;
};

/* Guest output
 * ------------------------------------------------------------------------------ */

static void pump_debug(struct program *p)
{
    struct byte_ring *ring = engine_debug_ring(p->engine);
    struct debug_record record;
    char out[4096];
    size_t len = 0;

    while (byte_ring_get(ring, &record, sizeof record) == sizeof record) {
        if (p->opts.debug_stamps) {
            len += (size_t)snprintf(out + len, sizeof out - len, "%llu %02x\n",
                                    (unsigned long long)record.mono_ns, record.byte);
        } else {
            out[len++] = (char)record.byte;
        }
        if (len + 32 > sizeof out) {
            (void)rot_file_write(&p->debug_log, out, len);
            len = 0;
        }
    }
    if (len > 0 && rot_file_write(&p->debug_log, out, len) < 0) {
        log_warn("debug log: cannot write %s", p->opts.debug_log);
    }
    byte_ring_done(ring);
}

/* Who waits for a page that will not come, does not end by itself. */
static void on_holes_timer(void *data)
{
    struct program *p = data;

    p->holes_timer = 0;
    loop_stop(p->loop);
}

static void take_notices(struct program *p)
{
    const char *reset = engine_take_reset(p->engine);
    struct engine_status s;

    if (reset) {
        log_warn("vm %s: the guest was reset: %s", p->opts.name, reset);
        vmm_move_reset(&p->move);
    }

    while (engine_take_notice(p->engine, &s)) {
        p->last = s;
        log_info("vm %s: state=%s epoch=%llu io=%u%s%s", p->opts.name,
                 run_state_str(s.state), (unsigned long long)s.epoch, s.io_in_flight,
                 s.reason[0] ? " reason=" : "", s.reason);
        vmm_move_engine(&p->move, &s);
        vmm_twin_engine(&p->twin, &s);
        if (p->ctl) {
            vmm_ctl_notice(p->ctl, &s);
        }
        if (s.state == RUN_ENDED) {
            loop_stop(p->loop);
        } else if (s.state == RUN_ENDING && !p->holes_timer && vmm_move_holes(&p->move)) {
            (void)loop_timer_add(p->loop, HOLES_GRACE_NS, on_holes_timer, p,
                                 &p->holes_timer);
        }
    }
}

/* The guest's agent
 * ------------------------------------------------------------------------ */

static void port_send(void *ctx, const uint8_t *bytes, uint32_t len)
{
    struct program *p = ctx;

    (void)engine_port_send(p->engine, bytes, len);
}

static void on_news_timer(void *data);

/* A guest may open and close its port as often as it likes: not all of it is news. */
static void tell_agent_state(struct program *p)
{
    uint64_t wait_ns;

    if (guest_agent_news(p->guest_agent, loop_now_ns(), &wait_ns)) {
        log_info("vm %s: guest agent: %s", p->opts.name,
                 guest_agent_state_str(guest_agent_state(p->guest_agent)));
        if (p->ctl) {
            vmm_ctl_guest(p->ctl);
        }
    } else if (wait_ns > 0 && !p->news_timer) {
        (void)loop_timer_add(p->loop, wait_ns, on_news_timer, p, &p->news_timer);
    }
}

static void on_news_timer(void *data)
{
    struct program *p = data;

    p->news_timer = 0;
    tell_agent_state(p);
}

static void on_event_timer(void *data);

/* Panics and watchdog bites. What follows from them (a reset, or nothing) is not decided
 * here. */
static void tell_guest_events(struct program *p)
{
    uint64_t times, wait_ns;
    enum guest_event event;

    for (unsigned i = GUEST_EVENT_PANIC; i < GUEST_EVENT_COUNT; i++) {
        guest_news_add(&p->guest_news, (enum guest_event)i,
                       engine_take_guest_event(p->engine, (enum guest_event)i));
    }
    while ((event = guest_news_take(&p->guest_news, loop_now_ns(), os_wall_ns(), &times,
                                    &wait_ns)) != GUEST_EVENT_NONE) {
        log_warn("vm %s: %s (times: %llu)", p->opts.name, guest_event_str(event),
                 (unsigned long long)times);
        if (p->ctl) {
            vmm_ctl_guest(p->ctl);
        }
    }
    if (wait_ns > 0 && !p->event_timer) {
        (void)loop_timer_add(p->loop, wait_ns, on_event_timer, p, &p->event_timer);
    }
}

static void on_event_timer(void *data)
{
    struct program *p = data;

    p->event_timer = 0;
    tell_guest_events(p);
}

static void pump_port(struct program *p)
{
    uint8_t bytes[1024];
    size_t len;

    guest_agent_port(p->guest_agent, engine_port_open(p->engine));
    while ((len = byte_ring_get(engine_port_out(p->engine), bytes, sizeof bytes)) > 0) {
        guest_agent_take(p->guest_agent, bytes, len);
    }
    tell_agent_state(p);
}

/* The guest gives memory back bit by bit: the agent hears of it from time to time. */
static void tell_balloon(struct program *p)
{
    struct machine_balloon b;

    if (engine_balloon_read(p->engine, &b) && b.actual != p->balloon_told) {
        p->balloon_told = b.actual;
        if (p->ctl) {
            vmm_ctl_guest(p->ctl);
        }
    }
}

static void on_guest_timer(void *data)
{
    struct program *p = data;

    guest_agent_tick(p->guest_agent);
    pump_port(p); /* it may have stopped answering */
    (void)engine_balloon_poll(p->engine);
    tell_balloon(p);
    (void)loop_timer_add(p->loop, GUEST_AGENT_PERIOD_MS * NSEC_PER_MSEC, on_guest_timer,
                         p, &p->guest_timer);
}

static void take_saved(struct program *p)
{
    struct engine_saved saved;

    if (!engine_take_saved(p->engine, &saved)) {
        return;
    }
    if (saved.result < 0) {
        log_err("vm %s: %s", p->opts.name, saved.err.text);
    } else {
        log_info("vm %s: state saved, %llu bytes", p->opts.name,
                 (unsigned long long)saved.bytes);
    }
    if (p->ctl) {
        vmm_ctl_saved(p->ctl, &saved);
    }
}

static int on_engine_event(int fd, int revents, void *data)
{
    struct program *p = data;

    (void)fd, (void)revents;
    engine_event_clear(p->engine);
    console_pump(p->console);
    pump_port(p);
    if (p->opts.debug_log) {
        pump_debug(p);
    }
    tell_guest_events(p); /* before the end that may follow */
    vmm_twin_look(&p->twin);
    take_notices(p);
    take_saved(p);
    return 0;
}

static int on_disk_event(int fd, int revents, void *data)
{
    struct program *p = data;

    (void)fd, (void)revents;
    engine_disk_event(p->engine);
    return 0;
}

static void tap_frame(struct program *p, int fd, const uint8_t *frame, uint32_t len)
{
    const struct engine_conf *conf = &p->opts.engine;

    for (unsigned nic = 0; nic < conf->nic_count; nic++) {
        for (unsigned q = 0; q < conf->nic[nic].queue_count; q++) {
            if (engine_nic_fd(p->engine, nic, q) == fd) {
                engine_net_rx(p->engine, nic, q, frame, len);
            }
        }
    }
}

static int on_tap(int fd, int revents, void *data)
{
    static uint8_t frame[NET_HEADER_LEN + NET_FRAME_MAX];
    struct program *p = data;

    (void)revents;
    for (int i = 0; i < NET_BATCH_MAX; i++) {
        ssize_t n = net_tap_read(fd, frame, sizeof frame);

        if (n == -EAGAIN) {
            return 0;
        }
        if (n <= 0) {
            /* The interface is down or gone: it tells nothing more. EIO while down is
             * normal. */
            if (n == -EBADFD) {
                (void)loop_fd_del(p->loop, fd);
            }
            return 0;
        }
        tap_frame(p, fd, frame, (uint32_t)n);
    }
    return 0;
}

static void on_keys(void *data)
{
    struct program *p = data;

    engine_serial_in_ready(p->engine);
}

/* Signals
 * ----------------------------------------------------------------------------------- */

static void on_kill_timer(void *data)
{
    struct program *p = data;

    p->kill_timer = 0;
    (void)engine_end(p->engine, RUN_END_KILLED,
                     "it did not power off in 5 s after SIGTERM");
}

static void on_term(int signo, void *data)
{
    struct program *p = data;

    log_info("vm %s: signal %d: power button", p->opts.name, signo);
    if (p->kill_armed || !engine_power_button(p->engine)) {
        (void)engine_end(p->engine, RUN_END_KILLED, "SIGTERM");
        return;
    }
    (void)guest_agent_shutdown(p->guest_agent);
    p->kill_armed = loop_timer_add(p->loop, POWERDOWN_GRACE_NS, on_kill_timer, p,
                                   &p->kill_timer) == 0;
}

/* Record and replay
 * ------------------------------------------------------------------------- */

static void tell_tape(struct program *p)
{
    const char *trouble = p->tape ? ft_tape_trouble(p->tape) : NULL;

    if (trouble) {
        log_err("vm %s: %s", p->opts.name, trouble);
    }
}

static void on_tape_timer(void *data)
{
    struct program *p = data;

    tell_tape(p);
    (void)loop_timer_add(p->loop, TAPE_LOOK_NS, on_tape_timer, p, &p->tape_timer);
}

static bool is_same_file(const char *a, const char *b)
{
    struct stat sa, sb;

    if (!a || !b || stat(a, &sa) < 0) {
        return a && b && strcmp(a, b) == 0;
    }
    return stat(b, &sb) == 0 && sa.st_dev == sb.st_dev && sa.st_ino == sb.st_ino &&
           !S_ISCHR(sa.st_mode); /* /dev/null holds nothing */
}

/* An empty file is taken for a recording: not one that is something else here. */
static int check_recording(const struct vmm_opts *o, struct vmm_error *err)
{
    const struct {
        const char *path, *option;
    } other[] = {{o->engine.rom_path, "firmware"},  {o->engine.kernel_path, "kernel"},
                 {o->engine.initrd_path, "initrd"}, {o->restore_path, "restore"},
                 {o->console_log, "console-log"},   {o->debug_log, "debug-log"},
                 {o->exit_file, "exit-file"},       {o->log_path, "log"}};
    const char *which = NULL;

    for (size_t i = 0; i < ARRAY_SIZE(other); i++) {
        which = is_same_file(o->record_path, other[i].path) ? other[i].option : which;
    }
    for (unsigned i = 0; i < o->engine.disk_count; i++) {
        which = is_same_file(o->record_path, o->engine.disk[i].path) ? "disk" : which;
    }
    return which == NULL ? 0
                         : vmm_fail(err, -EINVAL,
                                    "--record %s is the file of --%s: give another name",
                                    o->record_path, which);
}

static int open_tape(struct program *p, struct vmm_error *err)
{
    const struct vmm_opts *o = &p->opts;
    int r = 0;

    if (o->record_path) {
        sandbox_files_begin(); /* a log like others */
        r = check_recording(o, err);
        if (r >= 0) {
            r = ft_tape_record(o->record_path, &p->tape, err);
        }
        sandbox_files_end();
    } else if (o->replay_path) {
        r = ft_tape_replay(o->replay_path, o->until, &p->tape, err);
    }
    if (r >= 0 && p->tape) {
        p->opts.engine.tape = ft_tape_hooks(p->tape);
    }
    return r;
}

/* Once the vCPU thread is gone. True: nothing is wrong with it. */
static bool close_tape(struct program *p)
{
    struct vmm_error err;
    bool good = true;

    if (!p->tape) {
        return true;
    }
    if (p->opts.replay_path) {
        good = ft_tape_print(p->tape, stdout, p->opts.json);
    } else if (ft_tape_end(p->tape, &err) < 0) {
        log_err("vm %s: %s", p->opts.name, err.text);
    }
    ft_tape_free(p->tape);
    p->tape = NULL;
    return good;
}

/* Life
 * --------------------------------------------------------------------------------------
 */

static int open_nics(struct vmm_opts *o, struct vmm_error *err)
{
    for (unsigned i = 0; i < o->engine.nic_count && o->replay_path; i++) {
        o->engine.nic[i].fd[0] = o->engine.nic[i].fd[0] > 0 ? o->engine.nic[i].fd[0] : -1;
    }
    if (o->replay_path) {
        return 0;
    }
    for (unsigned i = 0; i < o->engine.nic_count; i++) {
        struct engine_nic_conf *nic = &o->engine.nic[i];
        int r = 0;

        nic->offloads = o->engine.machine == MACHINE_STANDARD;
        if (o->nic_tap[i][0]) {
            r = net_tap_open(o->nic_tap[i], nic->offloads, nic->queue_count, nic->fd,
                             err);
        }
        for (unsigned q = 0; r == 0 && !o->nic_tap[i][0] && q < nic->queue_count; q++) {
            r = net_tap_adopt(nic->fd[q], &nic->offloads, err);
        }
        if (r == 0 && nic->queue_count > 1 && !nic->offloads) {
            r = vmm_fail(err, -EINVAL, "nic %u: several queues need IFF_VNET_HDR", i);
        }
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

static int watch(struct program *p, struct vmm_error *err)
{
    int r;

    r = loop_fd_add(p->loop, engine_event_fd(p->engine), POLLIN, on_engine_event, p);
    if (r >= 0 && engine_disk_fd(p->engine) >= 0) {
        r = loop_fd_add(p->loop, engine_disk_fd(p->engine), POLLIN, on_disk_event, p);
    }
    for (unsigned i = 0; i < p->opts.engine.nic_count && !p->opts.replay_path; i++) {
        for (unsigned q = 0; r >= 0 && q < p->opts.engine.nic[i].queue_count; q++) {
            r = loop_fd_add(p->loop, engine_nic_fd(p->engine, i, q), POLLIN, on_tap, p);
        }
    }
    if (r >= 0) {
        r = loop_signal_add(p->loop, SIGTERM, on_term, p);
    }
    if (r >= 0) {
        r = loop_signal_add(p->loop, SIGINT, on_term, p);
    }
    if (r >= 0 && p->opts.record_path) {
        r = loop_timer_add(p->loop, TAPE_LOOK_NS, on_tape_timer, p, &p->tape_timer);
    }
    if (r >= 0 && p->opts.engine.machine == MACHINE_STANDARD) {
        r = loop_timer_add(p->loop, GUEST_AGENT_PERIOD_MS * NSEC_PER_MSEC, on_guest_timer,
                           p, &p->guest_timer);
    }
    return r < 0 ? vmm_fail(err, r, "cannot set up the event loop: %s", strerror(-r)) : 0;
}

static int open_outputs(struct program *p, struct vmm_error *err)
{
    const struct vmm_opts *o = &p->opts;
    struct console_conf cc = {.log_path = o->console_log,
                              .socket_path = o->console_socket,
                              .out = engine_serial_out(p->engine),
                              .in = engine_serial_in(p->engine),
                              .in_ready = on_keys,
                              .ctx = p};
    int r;

    r = console_open(p->loop, &cc, &p->console, err);
    if (r >= 0 && o->debug_log) {
        r = rot_file_open(&p->debug_log, o->debug_log, LOG_FILE_BYTES_MAX, err);
    }
    return r;
}

/* Only for a migration to here that may need it; without, that is told to its source. */
static int open_uffd(struct program *p)
{
    int fd = -1;

    if (!p->opts.postcopy) {
        (void)vmm_fail(&p->no_uffd, -ENOENT, "its gemel-vmm was started without");
    } else if (uffd_open(p->opts.uffd_fd, &fd, &p->no_uffd) < 0) {
        log_warn("vm %s: post-copy: %s", p->opts.name, p->no_uffd.text);
    }
    return fd;
}

static int open_control(struct program *p, struct vmm_error *err)
{
    struct vmm_ctl_conf cc = {.listen_fd = p->opts.control_fd,
                              .vm = p->opts.uuid,
                              .instance = p->opts.instance,
                              .engine = p->engine,
                              .guest_agent = p->guest_agent,
                              .guest_news = &p->guest_news,
                              .move = vmm_move_hooks(&p->move)};
    int r;
    p->move.twin = &p->twin;

    if (p->opts.control_path) {
        r = os_unix_listen(p->opts.control_path, 0600, &cc.listen_fd);
        if (r < 0) {
            return vmm_fail(err, r, "cannot listen for the agent on %s: %s",
                            p->opts.control_path, strerror(-r));
        }
    }
    if (cc.listen_fd < 0) {
        return 0;
    }
    r = vmm_move_open(&p->move, p->loop,
                      &(struct mig_transfer_conf){.engine = p->engine,
                                                  .vm = p->opts.uuid,
                                                  .vm_name = p->opts.name,
                                                  .build = PACKAGE_VERSION,
                                                  .uffd = open_uffd(p),
                                                  .no_uffd = p->no_uffd.text},
                      err);
    if (r >= 0 && !p->tape) {
        r = vmm_twin_open(
            &p->twin, p->loop,
            &(struct ft_session_conf){.engine = p->engine, .vm_name = p->opts.name},
            p->move.transfer, err);
    }
    if (r >= 0) {
        r = vmm_ctl_open(p->loop, &cc, &p->ctl, err);
        p->move.ctl = p->twin.ctl = p->ctl;
    }
    return r;
}

/* Without an agent nobody hands the disks over. */
static int open_disks(struct program *p, struct vmm_error *err)
{
    const struct engine_conf *conf = &p->opts.engine;
    int fd[VM_DISKS_MAX];
    unsigned count = 0;
    int r = 0;

    for (; r >= 0 && count < conf->disk_count; count += r >= 0) {
        r = disks_file(conf->disk[count].kind, conf->disk[count].path,
                       conf->disk[count].read_only, &fd[count], err);
    }
    engine_disks(p->engine, fd, count);
    return r;
}

static int open_state(struct program *p, struct vmm_error *err)
{
    const char *path = p->opts.restore_path;
    int fd;

    if (!path) {
        return 0;
    }
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return vmm_fail(err, -errno, "cannot open the saved state %s: %s", path,
                        strerror(errno));
    }
    engine_restore(p->engine, fd, path, ENGINE_RAM_IN_STATE);
    return 0;
}

/* An agent has this from --kvm-can, once. */
static void warn_of_sse(const struct program *p)
{
    struct vmm_error ignored;

    if (p->opts.run && p->opts.engine.machine == MACHINE_STANDARD &&
        probe_sse(&kvm_linux, p->opts.engine.kvm_path, &ignored) == 0) {
        log_warn("machine: standard: this host lacks: " PROBE_SSE_TITLE
                 "; no stock kernel runs here (gemel-vmm --probe)");
    }
}

static int setup(struct program *p, struct vmm_error *err)
{
    int r;

    warn_of_sse(p);
    r = open_tape(p, err);
    if (r >= 0) {
        r = open_nics(&p->opts, err);
    }
    if (r >= 0) {
        r = engine_open(&p->opts.engine, &p->engine, err);
    }
    if (r >= 0 && p->tape) {
        r = ft_tape_begin(p->tape, p->engine, &p->opts.engine, err);
    }
    if (r >= 0) {
        r = loop_new(&p->loop);
    }
    if (r >= 0) {
        p->guest_agent = guest_agent_new(port_send, p);
        r = p->guest_agent ? 0 : vmm_fail(err, -ENOMEM, "no memory for the guest agent");
    }
    if (r >= 0) {
        r = open_outputs(p, err);
    }
    if (r >= 0) {
        r = open_control(p, err);
    }
    if (r >= 0) {
        r = watch(p, err);
    }
    if (r >= 0 && p->opts.run && !p->opts.replay_path) {
        r = open_disks(p, err);
    }
    if (r >= 0) {
        r = open_state(p, err);
    }
    priority_soon();
    if (r >= 0) {
        r = gemel_vmm_walls(&p->opts, err);
    }
    if (r >= 0 && p->tape) {
        r = ft_tape_go(p->tape, err);
    }
    if (r >= 0) {
        r = engine_go(p->engine, err);
    }
    if (r >= 0) {
        r = vmm_move_go(&p->move, err);
    }
    if (r >= 0) {
        r = vmm_twin_go(&p->twin, err);
    }
    priority_usual();
    sandbox_thread(SANDBOX_LOOP);
    return r;
}

static void json_string(char *dst, size_t cap, const char *text)
{
    size_t len = 0;

    for (; *text && len + 8 < cap; text++) {
        unsigned char c = (unsigned char)*text;

        if (c == '"' || c == '\\') {
            dst[len++] = '\\';
            dst[len++] = (char)c;
        } else if (c < 0x20) {
            len += (size_t)snprintf(dst + len, cap - len, "\\u%04x", c);
        } else {
            dst[len++] = (char)c;
        }
    }
    dst[len] = '\0';
}

static void write_exit_file(struct program *p, const char *reason, const char *text)
{
    char instance[UUID_STR_LEN + 1], quoted[2 * VMM_ERROR_MAX], line[3 * VMM_ERROR_MAX];
    int len, r;

    if (p->exit_fd < 0) {
        return;
    }
    uuid_format(p->opts.instance, instance);
    json_string(quoted, sizeof quoted, text);
    len =
        snprintf(line, sizeof line,
                 "{\"reason\":\"%s\",\"text\":\"%s\",\"epoch\":%llu,\"instance\":\"%s\","
                 "\"copies_alike\":%s}\n",
                 reason, quoted, (unsigned long long)p->last.epoch, instance,
                 vmm_twin_alike(&p->twin) ? "true" : "false");
    r = os_write_all(p->exit_fd, line, (size_t)len);
    if (r < 0 || fsync(p->exit_fd) < 0) {
        r = r < 0 ? r : -errno;
        log_err("cannot write exit file %s: %s", p->opts.exit_file, strerror(-r));
    }
}

static void teardown(struct program *p)
{
    if (p->engine && p->console) {
        console_pump(p->console);
        if (p->opts.debug_log) {
            pump_debug(p);
        }
    }
    vmm_twin_stop(&p->twin);
    vmm_move_close(&p->move);
    vmm_ctl_close(p->ctl);
    if (p->ctl && p->opts.control_path && !sandbox_entered()) {
        (void)unlink(p->opts.control_path);
    }
    console_close(p->console);
    rot_file_close(&p->debug_log);
    guest_agent_free(p->guest_agent);
    engine_close(p->engine);
    vmm_twin_close(&p->twin);
    p->tape_good = p->ran && close_tape(p); /* before SIGTERM kills again */
    loop_free(p->loop);
    if (p->exit_fd >= 0) {
        close(p->exit_fd);
    }
}

/* Once inside, nothing is made any more: who has not written it by the end was killed. */
static void open_exit_file(struct program *p)
{
    const char *path = p->opts.exit_file;

    if (!path) {
        return;
    }
    p->exit_fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0640);
    if (p->exit_fd < 0) {
        log_err("cannot make exit file %s: %s", path, strerror(errno));
    }
}

static int run(struct program *p)
{
    struct vmm_error err = {""};
    bool good;

    open_exit_file(p);
    if (setup(p, &err) < 0) {
        log_err("vm %s: %s", p->opts.name, err.text[0] ? err.text : "out of memory");
        write_exit_file(p, run_end_str(RUN_END_HOST), err.text);
        teardown(p);
        ft_tape_free(p->tape);
        return EXIT_FAILURE;
    }
    if (p->opts.run) {
        (void)engine_start(p->engine, 0, "--run");
    }
    loop_run(p->loop);
    p->ran = true;
    good = p->last.end == RUN_END_SHUTDOWN || p->last.end == RUN_END_KILLED;
    if (!good) {
        log_err("vm %s: %s: %s", p->opts.name, run_end_str(p->last.end), p->last.reason);
    }
    write_exit_file(p, run_end_str(p->last.end), p->last.reason);
    if (vmm_move_holes(&p->move)) {
        /* Threads that wait for its memory are not to go on, nor to be waited for. */
        console_pump(p->console);
        log_close();
        _exit(good ? EXIT_SUCCESS : EXIT_FAILURE);
    }
    teardown(p);
    good = p->tape_good && good;
    return good ? EXIT_SUCCESS : EXIT_FAILURE;
}

int main(int argc, char **argv)
{
    struct program p = {.debug_log.fd = -1, .exit_fd = -1};
    int code, r;

    if (vmm_opts_parse(argc, argv, &p.opts, &code) < 0) {
        return code;
    }
    p.opts.engine.kvm = &kvm_linux;
    p.opts.engine.debug_output = p.opts.debug_log != NULL;
    p.opts.engine.disks_by_path = p.opts.insecure_lab;
    p.opts.engine.cpu = p.opts.cpu_given ? &p.opts.cpu : NULL;
    if (p.opts.cpu_model) {
        return gemel_vmm_cpu_model(p.opts.engine.kvm_path);
    }
    if (p.opts.kvm_can) {
        return gemel_vmm_kvm_can(p.opts.engine.kvm_path);
    }
    if (p.opts.probe) {
        return gemel_vmm_probe(p.opts.engine.kvm_path, p.opts.json);
    }
    if (p.opts.user_given) {
        sandbox_files_as(p.opts.uid, p.opts.gid ? p.opts.gid : p.opts.uid);
    }
    sandbox_files_begin();
    r = log_open("gemel-vmm", p.opts.log_path, p.opts.verbose ? LOG_DEBUG : LOG_INFO);
    sandbox_files_end();
    if (r < 0) {
        fprintf(stderr, "gemel-vmm: cannot open log %s: %s\n", p.opts.log_path,
                strerror(-r));
        return EXIT_FAILURE;
    }
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ,
           SIG_IGN); /* a disk beyond this process's limit is an error for the guest */
    if (uuid_is_none(p.opts.instance)) {
        p.opts.instance = uuid_random();
    }
    code = run(&p);
    log_close();
    return code;
}
