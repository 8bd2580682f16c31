/* SPDX-License-Identifier: Apache-2.0 */
/* A gemel-vmm process: its taps, its control socket, its command line, and the
 * conversation. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/sockios.h>

#include "base/limits.h"
#include "base/log.h"
#include "base/uuid.h"
#include "base/version.h"
#include "ha/ha_text.h"
#include "ha/ha_vmm_priv.h"

#define ARGV_MAX 96
/* What may be locked besides guest memory: rings, registered buffers. */
#define MEMLOCK_EXTRA_BYTES (64 * 1024 * 1024)
#define RECONNECT_NS        (20 * NSEC_PER_MSEC)

static void connect_timer_fn(void *data);

/* Taps
 * -------------------------------------------------------------------------------------------
 */

static int bridge_add(const char *bridge, const char *tap, char *why)
{
    struct ifreq ifr = {0};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), r = 0;

    if (fd < 0) {
        return -errno;
    }
    ifr.ifr_ifindex = (int)if_nametoindex(tap);
    ha_text_set(ifr.ifr_name, sizeof ifr.ifr_name, bridge, NULL);
    if (ioctl(fd, SIOCBRADDIF, &ifr) < 0) {
        r = -errno;
        ha_text_set(why, REASON_LEN_MAX + 1, "bridge ", bridge, ": ", strerror(-r),
                    "; make it, or name another under nics: bridge:", NULL);
    }
    memset(&ifr, 0, sizeof ifr);
    ha_text_set(ifr.ifr_name, sizeof ifr.ifr_name, tap, NULL);
    if (r == 0 && (ioctl(fd, SIOCGIFFLAGS, &ifr) < 0 ||
                   (ifr.ifr_flags |= IFF_UP, ioctl(fd, SIOCSIFFLAGS, &ifr) < 0))) {
        r = -errno;
        ha_text_set(why, REASON_LEN_MAX + 1, "tap ", tap, ": ", strerror(-r), NULL);
    }
    close(fd);
    return r;
}

static int mtu_set(const char *tap, uint16_t mtu)
{
    struct ifreq ifr = {.ifr_mtu = mtu};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), r;

    if (fd < 0) {
        return -errno;
    }
    ha_text_set(ifr.ifr_name, sizeof ifr.ifr_name, tap, NULL);
    r = ioctl(fd, SIOCSIFMTU, &ifr) < 0 ? -errno : 0;
    close(fd);
    return r;
}

void ha_vmmlink_tap_name(const struct ha_local *l, unsigned index, char name[IFNAMSIZ])
{
    snprintf(name, IFNAMSIZ, "gm%02x%02x%02x%02x.%hhu", l->instance.b[0],
             l->instance.b[1], l->instance.b[2], l->instance.b[3], (uint8_t)index);
}

/* A tap of this VM's own name on the bridge; it disappears with the last holder of its
 * fd: the VMM. */
static int tap_make(struct ha_local *l, unsigned index, bool first, int *ret_fd,
                    char *why)
{
    const struct conf_nic *nic = &l->conf->nic[index];
    const char *bridge = nic->bridge[0] != '\0' ? nic->bridge : l->vmm->node.bridge;
    /* machine standard has offloads */
    int header = l->conf->machine == CONF_MACHINE_STANDARD ? IFF_VNET_HDR : 0;
    int many = nic->queues > 1 ? IFF_MULTI_QUEUE : 0;
    struct ifreq ifr = {.ifr_flags = (short)(IFF_TAP | IFF_NO_PI | header | many)};
    int fd, r;

    if (nic->vlan != 0) {
        ha_text_set(
            why, REASON_LEN_MAX + 1,
            "nics: vlan: not supported by this version; use a bridge of that VLAN", NULL);
        return -EOPNOTSUPP;
    }
    ha_vmmlink_tap_name(l, index, ifr.ifr_name);
    fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 || ioctl(fd, TUNSETIFF, &ifr) < 0) {
        r = -errno;
        ha_text_set(why, REASON_LEN_MAX + 1, "cannot make a tap: ", strerror(-r), NULL);
        goto out;
    }
    if (first && nic->mtu != 0) {
        (void)mtu_set(ifr.ifr_name, nic->mtu);
    }
    r = first ? bridge_add(bridge, ifr.ifr_name, why) : 0;
    if (r < 0) {
        goto out;
    }
    *ret_fd = fd;
    return 0;
out:
    if (fd >= 0) {
        close(fd);
    }
    return r;
}

static unsigned queues_of(const struct conf_nic *nic)
{
    return nic->queues > 1 ? nic->queues : 1;
}

/* One fd for each queue of each nic, in that order; *ret_count also after a failure. */
static int taps_make(struct ha_local *l, int taps[CONF_NIC_QUEUES_MAX],
                     unsigned *ret_count, char *why)
{
    int r = 0;

    *ret_count = 0;
    for (unsigned i = 0; i < l->conf->nic_count; i++) {
        for (unsigned q = 0; r == 0 && q < queues_of(&l->conf->nic[i]); q++) {
            r = tap_make(l, i, q == 0, &taps[*ret_count], why);
            *ret_count += r == 0;
        }
    }
    return r;
}

/* The first of each nic, to announce it; the VMM has all of them. */
static void keep_taps(struct ha_local *l, const int *taps, unsigned count)
{
    unsigned next = 0;

    for (unsigned i = 0; i < l->conf->nic_count && next < count; i++) {
        l->tap_fd[l->tap_count++] = taps[next++];
        for (unsigned q = 1; q < queues_of(&l->conf->nic[i]) && next < count; q++) {
            close(taps[next++]);
        }
    }
}

/* Command line
 * ---------------------------------------------------------------------------------------
 */

struct command {
    const char *argv[ARGV_MAX];
    unsigned argc;
    char text[32 * 1024]; /* the arguments' bytes */
    size_t used;
};

static void arg(struct command *c, const char *s)
{
    size_t len = strlen(s) + 1;

    if (c->argc + 1 >= ARGV_MAX || c->used + len > sizeof c->text) {
        c->argc = ARGV_MAX; /* checked once, at the end */
        return;
    }
    memcpy(c->text + c->used, s, len);
    c->argv[c->argc++] = c->text + c->used;
    c->used += len;
}

__attribute__((format(printf, 3, 4))) static void
option(struct command *c, const char *name, const char *format, ...)
{
    char value[2048];
    va_list args;

    va_start(args, format);
    vsnprintf(value, sizeof value, format, args);
    va_end(args);
    arg(c, name);
    arg(c, value);
}

static void path_option(struct command *c, struct ha_local *l, const char *name,
                        const char *path, const char *rest)
{
    if (path[0] == '/') {
        option(c, name, "%s%s", path, rest);
    } else {
        option(c, name, "%s/%s%s", l->dir, path, rest);
    }
}

/* Appends ",NAME=VALUE" for each that is not 0. */
static void put_limits(char *value, size_t cap, const char *bytes_name, uint64_t bytes,
                       const char *count_name, uint32_t count)
{
    size_t used = strlen(value);

    if (bytes != 0) {
        snprintf(value + used, cap - used, ",%s=%" PRIu64, bytes_name, bytes);
        used = strlen(value);
    }
    if (count != 0) {
        snprintf(value + used, cap - used, ",%s=%" PRIu32, count_name, count);
    }
}

static void put_disks(struct command *c, struct ha_local *l)
{
    for (unsigned i = 0; i < l->conf->disk_count; i++) {
        const struct conf_disk *disk = &l->conf->disk[i];
        char path[PATH_LEN_MAX * 3], value[PATH_LEN_MAX * 4];

        ha_local_disk_path(l, disk, path, sizeof path);
        snprintf(value, sizeof value, "%s=%s%s%s%s",
                 conf_disk_is_nbd(disk)            ? "nbd"
                 : disk->format == CONF_DISK_QCOW2 ? "qcow2"
                                                   : "path",
                 path, disk->serial[0] != '\0' ? ",serial=" : "", disk->serial,
                 disk->read_only ? ",readonly" : "");
        if (disk->exclusion == CONF_EXCLUDE_BY_EPOCH) {
            size_t used = strlen(value);

            snprintf(value + used, sizeof value - used, ",epoch");
        }
        put_limits(value, sizeof value, "bps", disk->bps, "iops", disk->iops);
        if (disk->on_error == CONF_DISK_PAUSE || disk->on_error == CONF_DISK_STOP) {
            size_t used = strlen(value);

            snprintf(value + used, sizeof value - used, ",on-error=%s",
                     disk->on_error == CONF_DISK_PAUSE ? "pause" : "stop");
        }
        arg(c, "--disk");
        arg(c, value);
    }
}

static void put_nics(struct command *c, struct ha_local *l, const int *taps)
{
    for (unsigned i = 0; i < l->conf->nic_count; i++) {
        const struct conf_nic *nic = &l->conf->nic[i];
        const uint8_t *m = nic->mac;
        char value[256];

        snprintf(value, sizeof value, "mac=%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1],
                 m[2], m[3], m[4], m[5]);
        for (unsigned q = 0; q < queues_of(nic); q++, taps++) {
            size_t used = strlen(value);

            snprintf(value + used, sizeof value - used, ",fd=%d", *taps);
        }
        put_limits(value, sizeof value, "bps", nic->bps, "pps", nic->pps);
        arg(c, "--nic");
        arg(c, value);
    }
}

static void put_boot(struct command *c, struct ha_local *l)
{
    if (l->conf->firmware[0] != '\0') {
        path_option(c, l, "--firmware", l->conf->firmware, "");
    }
    if (l->conf->kernel[0] != '\0') {
        path_option(c, l, "--kernel", l->conf->kernel, "");
    }
    if (l->conf->initrd[0] != '\0') {
        path_option(c, l, "--initrd", l->conf->initrd, "");
    }
}

static bool takes_holes(const struct ha_local *l)
{
    return l->moving != NULL && l->moving->incoming && l->moving->move.postcopy;
}

static bool build(struct command *c, struct ha_local *l, const char *cpu, int listen_fd,
                  const int *taps, int uffd, int memory_fd)
{
    char id[UUID_STR_LEN + 1];

    c->argc = 0;
    c->used = 0;
    arg(c, l->vmm->node.vmm_path);
    option(c, "--name", "%s", l->name);
    uuid_format(l->vm, id);
    option(c, "--uuid", "%s", id);
    uuid_format(l->instance, id);
    option(c, "--instance", "%s", id);
    if (l->conf->machine == CONF_MACHINE_STANDARD) {
        option(c, "--machine", "standard");
        option(c, "--cpus", "%u", l->conf->cpus);
        arg(c, "--cpu");
        arg(c, cpu);
    } else {
        option(c, "--machine", "lockstep");
    }
    option(c, "--memory", "%" PRIu64 "K", l->conf->memory_bytes >> 10);
    if (l->conf->hugepages) {
        arg(c, "--hugepages");
    }
    put_boot(c, l);
    if (l->conf->cmdline[0] != '\0') {
        option(c, "--append", "%s", l->conf->cmdline);
    }
    put_disks(c, l);
    put_nics(c, l, taps);
    option(c, "--console-log", "%s/console.log", l->log_dir);
    option(c, "--console", "%s", l->console_path);
    option(c, "--control-fd", "%d", listen_fd);
    option(c, "--exit-file", "%s", l->exit_path);
    option(c, "--log", "%s/vmm.log", l->log_dir);
    if (l->uid != 0) {
        option(c, "--uid", "%u", (unsigned)l->uid);
    }
    if (takes_holes(l)) {
        arg(c, "--post-copy");
    }
    if (uffd >= 0) {
        option(c, "--uffd-fd", "%d", uffd);
    }
    if (memory_fd >= 0) {
        option(c, "--memory-fd", "%d", memory_fd);
    }
    if (l->vmm->node.insecure_lab) {
        arg(c, "--insecure-lab");
    } else if (l->uid != 0) {
        option(c, "--memlock", "%" PRIu64 "K",
               (l->conf->memory_bytes + MEMLOCK_EXTRA_BYTES) >> 10);
    }
    if (c->argc >= ARGV_MAX) {
        return false;
    }
    c->argv[c->argc] = NULL;
    return true;
}

int ha_vmmlink_spawn(struct ha_local *l, char *why)
{
    int taps[CONF_NIC_QUEUES_MAX], pass[CONF_NIC_QUEUES_MAX + 3], listen_fd = -1,
                                                                  uffd = -1, r;
    int memory_fd = l->moving != NULL ? l->moving->memory_fd : -1;
    static const int stdio[3] = {-1, -1, -1};
    const char *cpu = l->conf->cpu[0] != '\0' ? l->conf->cpu : "host";
    struct command *c = calloc(1, sizeof *c);
    unsigned tap_count = 0, pass_count = 0;

    if (c == NULL) {
        return -ENOMEM;
    }
    if (strcmp(cpu, "host") != 0) {
        cpu = l->vmm->ops->cpu_model(l->vmm->ctx, cpu);
    }
    if (cpu == NULL) {
        ha_text_set(why, REASON_LEN_MAX + 1, "CPU model ", l->conf->cpu,
                    " is not in the cluster definition (cpu_models)", NULL);
        free(c);
        return -ENOENT;
    }
    (void)unlink(l->exit_path);
    r = ha_vmmfiles_logs(l, why);
    if (r < 0) {
        goto out;
    }
    r = os_unix_listen(l->socket_path, 0600, &listen_fd);
    if (r < 0) {
        ha_text_set(why, REASON_LEN_MAX + 1, l->socket_path, ": ", strerror(-r), NULL);
        goto out;
    }
    pass[pass_count++] = listen_fd;
    r = taps_make(l, taps, &tap_count, why);
    if (r < 0) {
        goto out;
    }
    for (unsigned i = 0; i < tap_count; i++) {
        pass[pass_count++] = taps[i];
    }
    if (takes_holes(l)) { /* without the device, root's VMM asks the kernel */
        uffd = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
    }
    if (uffd >= 0) {
        pass[pass_count++] = uffd;
    }
    if (memory_fd >= 0) {
        pass[pass_count++] = memory_fd;
    }
    if (!build(c, l, cpu, listen_fd, taps, uffd, memory_fd)) {
        ha_text_set(why, REASON_LEN_MAX + 1, "its command line is too long", NULL);
        r = -E2BIG;
        goto out;
    }
    r = os_spawn(c->argv, NULL, stdio, pass, pass_count, &l->child);
    if (r < 0) {
        ha_text_set(why, REASON_LEN_MAX + 1, l->vmm->node.vmm_path, ": ", strerror(-r),
                    NULL);
        l->child.pidfd = -1;
    }
out:
    keep_taps(l, taps, tap_count);
    if (r < 0) {
        ha_announce_end(l);
    }
    if (listen_fd >= 0) {
        close(listen_fd);
    }
    if (uffd >= 0) {
        close(uffd);
    }
    if (memory_fd >= 0) {
        close(memory_fd);
        l->moving->memory_fd = -1;
    }
    free(c);
    return r;
}

/* Conversation
 * ------------------------------------------------------------------------------------------
 */

void ha_vmmlink_close(struct ha_local *l)
{
    if (l->fd >= 0) {
        loop_fd_del(l->vmm->loop, l->fd);
        close(l->fd);
        l->fd = -1;
    }
    l->linked = l->freezing = false;
    ha_vmmsave_lost(l);
    loop_timer_del(l->vmm->loop, &l->connect_timer);
}

static void try_again(struct ha_local *l)
{
    ha_vmmlink_close(l);
    loop_timer_add(l->vmm->loop, RECONNECT_NS, connect_timer_fn, l, &l->connect_timer);
}

static void send_files(struct ha_local *l, Gemel__VmmRequest *m, const int *fds,
                       size_t fd_count)
{
    if (l->fd < 0) {
        return;
    }
    m->seq = ++l->seq;
    m->epoch = l->epoch;
    if (ctl_send_fds(l->fd, CTL_VMM_REQUEST, m, fds, fd_count) < 0) {
        try_again(l);
    }
}

static void send_request(struct ha_local *l, Gemel__VmmRequest *m)
{
    send_files(l, m, NULL, 0);
}

/* What an administrator would call an open file; empty: not known. Plain ASCII, as a
 * message wants it. */
static char *path_of_fd(int fd, char ret_path[PATH_LEN_MAX])
{
    char link[32];
    ssize_t len;

    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    len = readlink(link, ret_path, PATH_LEN_MAX - 1);
    ret_path[len < 0 ? 0 : len] = '\0';
    for (char *p = ret_path; *p != '\0'; p++) {
        if (*p < ' ' || *p > '~') {
            *p = '?';
        }
    }
    return ret_path;
}

void ha_vmmlink_start(struct ha_local *l, const int *disk_fds, unsigned count)
{
    Gemel__VmmRequest m = GEMEL__VMM_REQUEST__INIT;
    char path[PATH_LEN_MAX];
    int fds[VM_DISKS_MAX + 1];

    m.kind =
        l->thawing ? GEMEL__VMM_REQUEST__KIND__THAW : GEMEL__VMM_REQUEST__KIND__START;
    m.disk_count = count;
    m.restore = l->resume && !l->thawing;
    if (count > 0) {
        memcpy(fds, disk_fds, count * sizeof fds[0]);
    }
    if (m.restore) {
        fds[count++] = l->state_fd;
        m.state_path = path_of_fd(l->state_fd, path);
    }
    send_files(l, &m, fds, count);
    if (!l->thawing) {
        l->start_seq = l->seq;
    }
}

void ha_vmmlink_save(struct ha_local *l, int fd)
{
    Gemel__VmmRequest m = GEMEL__VMM_REQUEST__INIT;
    char path[PATH_LEN_MAX];

    m.kind = GEMEL__VMM_REQUEST__KIND__SAVE;
    m.state_path = path_of_fd(fd, path);
    l->save_seq = l->seq + 1;
    send_files(l, &m, &fd, 1);
}

void ha_vmmlink_send(struct ha_local *l, Gemel__VmmRequest *m, const int *fds,
                     size_t count)
{
    send_files(l, m, fds, count);
}

void ha_vmmlink_request(struct ha_local *l, Gemel__VmmRequest__Kind kind)
{
    Gemel__VmmRequest m = GEMEL__VMM_REQUEST__INIT;

    m.kind = kind;
    send_request(l, &m);
}

void ha_vmmlink_lease(struct ha_local *l, uint32_t lease_ms, uint64_t from_ns)
{
    Gemel__VmmRequest m = GEMEL__VMM_REQUEST__INIT;

    m.kind = GEMEL__VMM_REQUEST__KIND__LEASE;
    m.lease_ms = lease_ms;
    m.lease_from_ns = from_ns;
    send_request(l, &m);
}

void ha_vmmlink_balloon(struct ha_local *l, uint64_t bytes)
{
    Gemel__VmmRequest m = GEMEL__VMM_REQUEST__INIT;

    m.kind = GEMEL__VMM_REQUEST__KIND__BALLOON;
    m.balloon_bytes = bytes;
    send_request(l, &m);
}

static void on_state(struct ha_local *l, const Gemel__VmmReport *m)
{
    switch (m->state) {
    case GEMEL__VMM_STATE__VMM_STATE_RUNNING:
        if (l->adopted) {
            l->adopted = false;
            l->epoch = m->epoch;
            ha_local_found(l);
        } else if (l->phase == LOCAL_STARTING && l->entered && m->epoch == l->epoch) {
            ha_local_running(l);
        }
        break;
    case GEMEL__VMM_STATE__VMM_STATE_FROZEN:
        l->adopted = false;
        if (l->task != LOCAL_TASK_NONE) {
            ha_vmmsave_frozen(l);
        } else if (l->twin != NULL) {
            ha_vmmtwin_frozen(l, m->reason);
            break; /* it stands because of its twin, which is told apart below */
        } else if (l->phase == LOCAL_RUNNING) {
            ha_local_frozen(l, m->reason);
        }
        break;
    case GEMEL__VMM_STATE__VMM_STATE_CREATED:
        if (l->adopted) {
            l->adopted = false;
            l->phase = LOCAL_STARTING;
            ha_local_fail(l, "the agent was restarted in the middle of its start");
        }
        break;
    case GEMEL__VMM_STATE__VMM_STATE_FAILED:
    case GEMEL__VMM_STATE__VMM_STATE_STOPPED:
        if (m->reason != NULL && m->reason[0] != '\0' && l->outcome_text[0] == '\0') {
            ha_text_set(l->outcome_text, sizeof l->outcome_text, m->reason, NULL);
        }
        break;
    case GEMEL__VMM_STATE__VMM_STATE_INVALID:
    case GEMEL__VMM_STATE__VMM_STATE_FREEZING:
    default:
        break;
    }
}

/* An agent that was restarted tells the last one again: its events began anew. */
static void on_guest_event(struct ha_local *l, const Gemel__VmmReport *m)
{
    static const char *const text[] = {
        [GEMEL__GUEST_EVENT__GUEST_PANICKED] = "guest panicked",
        [GEMEL__GUEST_EVENT__GUEST_CRASH_KERNEL] = "guest panicked, its crash kernel "
                                                   "runs",
        [GEMEL__GUEST_EVENT__GUEST_WATCHDOG] = "watchdog expired",
    };

    if (m->guest_event_count == l->guest_event_count ||
        (size_t)m->guest_event >= ARRAY_SIZE(text) || text[m->guest_event] == NULL) {
        return;
    }
    l->guest_event = text[m->guest_event];
    l->guest_event_count = m->guest_event_count;
    l->guest_event_ms = m->guest_event_ms;
    l->vmm->ops->step(l->vmm->ctx, l->name, l->guest_event);
}

static void on_report(struct ha_local *l, const Gemel__VmmReport *m)
{
    if (l->superseded) {
        return;
    }
    if (m->instance.len == sizeof l->instance.b &&
        memcmp(m->instance.data, l->instance.b, sizeof l->instance.b) != 0) {
        log_err("vm %s: another instance answers on its control socket", l->name);
        ha_vmmlink_close(l);
        return;
    }
    snprintf(l->guest_agent, sizeof l->guest_agent, "%s",
             m->guest_agent != NULL ? m->guest_agent : "");
    on_guest_event(l, m);
    l->filling = l->filling || m->mig_state == GEMEL__MIG_STATE__MIG_FILLING;
    l->balloon = m->balloon;
    l->balloon_target = m->balloon_target;
    l->balloon_actual = m->balloon_actual;
    if (m->seq != 0 && m->seq == l->save_seq) {
        ha_vmmsave_saved(l, m->ok ? NULL : m->error);
        return;
    }
    if (m->seq != 0 && !m->ok && l->moving != NULL && m->seq == l->moving->seq) {
        ha_vmmmove_report(l, m);
        return;
    }
    if (l->twin != NULL && !m->ok && m->seq != 0) {
        ha_vmmtwin_report(l, m);
        return;
    }
    if (m->seq != 0 && !m->ok) {
        log_warn("vm %s: refused: %s", l->name, m->error);
        if (m->seq == l->start_seq && l->phase == LOCAL_STARTING) {
            l->refused = true;
            l->resume_refused = l->resume;
        }
        if (l->phase == LOCAL_STARTING) {
            ha_local_fail(l, m->error);
            return;
        }
    }
    on_state(l, m);
    ha_vmmhold_report(l, m);
    if (l->twin != NULL) {
        ha_vmmtwin_report(l, m);
    } else if (m->mig_state != GEMEL__MIG_STATE__MIG_NONE) {
        ha_vmmmove_report(l, m);
    }
}

static int hear_one(struct ha_local *l)
{
    enum ctl_reason reason;
    int fds[CTL_FDS_MAX];
    struct ctl_msg msg;
    size_t count = 0;
    int r;

    if (l->came_fd >= 0) {
        close(l->came_fd); /* nobody wanted it */
    }
    l->came_fd = -1;
    r = ctl_recv_fds(l->fd, &msg, &reason, fds, &count);
    while (count > (r == 0 ? 1 : 0)) {
        close(fds[--count]);
    }
    if (r < 0) {
        return r;
    }
    l->came_fd = count > 0 ? fds[0] : -1;
    if (msg.kind == CTL_HELLO) {
        ha_text_set(l->version, sizeof l->version, msg.hello->build, NULL);
        ha_local_linked(l);
        if (l->adopted) {
            ha_vmmlink_request(l, GEMEL__VMM_REQUEST__KIND__STATUS);
        }
    } else if (msg.kind == CTL_VMM_REPORT) {
        on_report(l, msg.vmm_report);
    }
    ctl_msg_free(&msg);
    return 0;
}

void ha_vmmlink_hear(struct ha_local *l)
{
    while (l->fd >= 0 && hear_one(l) == 0) {
    }
}

static int on_fd(int fd, int revents, void *data)
{
    struct ha_local *l = data;
    int r;

    (void)fd;
    (void)revents;
    r = hear_one(l);
    if (r < 0 && r != -EAGAIN) {
        if (r != -ECONNRESET) {
            log_warn("vm %s: control socket: %s", l->name, strerror(-r));
        }
        try_again(l);
    }
    return 0;
}

static void connect_timer_fn(void *data)
{
    struct ha_local *l = data;

    l->connect_timer = 0;
    ha_vmmlink_connect(l);
}

void ha_vmmlink_connect(struct ha_local *l)
{
    Gemel__Hello hello = GEMEL__HELLO__INIT;

    if (os_unix_connect(l->socket_path, &l->fd) < 0) {
        l->fd = -1;
        try_again(l); /* the process' end shows at its pidfd, a silent one at the start's
                         timer */
        return;
    }
    hello.version = PROTO_CTL_VERSION;
    hello.version_min = PROTO_CTL_VERSION_MIN;
    hello.program = (char *)"gemeld";
    hello.node = l->vmm->self.name;
    hello.boot_id.data = l->vmm->self.incarnation.boot_id.b;
    hello.boot_id.len = sizeof l->vmm->self.incarnation.boot_id.b;
    hello.join_counter = l->vmm->self.incarnation.join;
    hello.agent_start_ns = l->vmm->agent_start_ns;
    if (ctl_send(l->fd, CTL_HELLO, &hello) < 0 ||
        loop_fd_add(l->vmm->loop, l->fd, POLLIN, on_fd, l) < 0) {
        close(l->fd);
        l->fd = -1;
        try_again(l);
    }
}
