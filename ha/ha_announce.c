/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a VM is now: a guest that goes on elsewhere does not know that it has moved, and
 * bridges and switches go on sending to where they heard its address last. So a frame
 * goes out as if it were the guest's own: a RARP request (RFC 903), which names no IP
 * address and asks nobody anything. A few times, as the port may not forward yet, and not
 * before the guest runs: its VMM gives the tap a carrier then (a twin may have to wait
 * for its disks first).
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/log.h"
#include "base/text.h"
#include "ha/ha_vmm_priv.h"

#define FRAME_LEN       60
#define VNET_HEADER_MAX 64
#define ANNOUNCE_TIMES  5
#define ANNOUNCE_GAP_NS (50 * NSEC_PER_MSEC) /* doubled each time */
#define LOOK_NS         (2 * NSEC_PER_MSEC)  /* at a guest that is about to run */
#define LOOKS_SOON      100                  /* so often, then every LOOK_LATE_NS */
#define LOOK_LATE_NS    (50 * NSEC_PER_MSEC)

static void frame_of(const uint8_t mac[6], uint8_t frame[FRAME_LEN])
{
    static const uint8_t rarp[] = {0x80, 0x35,             /* EtherType */
                                   0,    1,    8, 0, 6, 4, /* Ethernet, IPv4 */
                                   0,    3};               /* request reverse */

    memset(frame, 0, FRAME_LEN);
    memset(frame, 0xff, 6);
    memcpy(frame + 6, mac, 6);
    memcpy(frame + 12, rarp, sizeof rarp);
    memcpy(frame + 22, mac, 6);
    memcpy(frame + 32, mac, 6);
}

/* A tap with offloads wants a header before each frame: of one that needs none of them.
 */
static ssize_t write_frame(int tap, const uint8_t frame[FRAME_LEN])
{
    uint8_t header[VNET_HEADER_MAX] = {0};
    struct iovec iov[] = {{.iov_base = header},
                          {.iov_base = (uint8_t *)frame, .iov_len = FRAME_LEN}};
    struct ifreq ifr = {.ifr_flags = 0};
    int len = 0;

    if (ioctl(tap, TUNGETIFF, &ifr) == 0 && (ifr.ifr_flags & IFF_VNET_HDR) != 0 &&
        ioctl(tap, TUNGETVNETHDRSZ, &len) == 0 && len > 0 && len <= VNET_HEADER_MAX) {
        iov[0].iov_len = (size_t)len;
    }
    return writev(tap, iov, 2);
}

/* Its VMM's own file, if it is the tap of that name; else -1. */
static int get_tap(const struct os_child *child, int number, const char *name)
{
    int fd = (int)syscall(SYS_pidfd_getfd, child->pidfd, number, 0);
    struct ifreq ifr = {.ifr_flags = 0};

    if (fd >= 0 && (ioctl(fd, TUNGETIFF, &ifr) < 0 || strcmp(ifr.ifr_name, name) != 0)) {
        close(fd);
        fd = -1;
    }
    return fd;
}

static int find_tap(const struct ha_local *l, const char *name)
{
    char path[64], link[PATH_MAX];
    struct dirent *entry;
    int fd = -1;
    DIR *dir;

    snprintf(path, sizeof path, "/proc/%d/fd", (int)l->child.pid);
    dir = opendir(path);
    while (dir != NULL && fd < 0 && (entry = readdir(dir)) != NULL) {
        ssize_t len = readlinkat(dirfd(dir), entry->d_name, link, sizeof link - 1);
        uint64_t number;

        link[len > 0 ? len : 0] = '\0';
        if (strcmp(link, "/dev/net/tun") == 0 &&
            text_u64(entry->d_name, 0, INT_MAX, &number)) {
            fd = get_tap(&l->child, (int)number, name);
        }
    }
    if (dir != NULL) {
        closedir(dir);
    }
    return fd;
}

/* An earlier agent made them, and they went with it; its VMM has them still. */
static void find_taps(struct ha_local *l)
{
    char name[IFNAMSIZ];

    while (l->conf != NULL && l->child.pidfd >= 0 && l->tap_count < l->conf->nic_count) {
        ha_vmmlink_tap_name(l, l->tap_count, name);
        l->tap_fd[l->tap_count] = find_tap(l, name);
        if (l->tap_fd[l->tap_count] < 0) {
            log_warn("vm %s: %s is not found: where it is now is not announced", l->name,
                     name);
            return;
        }
        l->tap_count++;
    }
}

/* Its taps have a carrier; also if nobody can tell. */
static bool is_heard(const struct ha_local *l)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct ifreq ifr = {.ifr_flags = 0};
    bool heard = fd < 0 || l->tap_count == 0 ||
                 ioctl(l->tap_fd[0], TUNGETIFF, &ifr) < 0 ||
                 ioctl(fd, SIOCGIFFLAGS, &ifr) < 0 || (ifr.ifr_flags & IFF_RUNNING) != 0;

    if (fd >= 0) {
        close(fd);
    }
    return heard;
}

static void announce_timer_fn(void *data)
{
    struct ha_local *l = data;
    uint8_t frame[FRAME_LEN];

    l->announce_timer = 0;
    if (!is_heard(l)) {
        l->announce_looks++;
        if (loop_timer_add(l->vmm->loop,
                           l->announce_looks < LOOKS_SOON ? LOOK_NS : LOOK_LATE_NS,
                           announce_timer_fn, l, &l->announce_timer) < 0) {
            ha_announce_end(l);
        }
        return;
    }
    for (unsigned i = 0; i < l->tap_count && l->conf != NULL; i++) {
        frame_of(l->conf->nic[i].mac, frame);
        if (write_frame(l->tap_fd[i], frame) < 0) {
            log_debug("vm %s: announcement: %s", l->name, strerror(errno));
        }
    }
    if (++l->announced == ANNOUNCE_TIMES ||
        loop_timer_add(l->vmm->loop, ANNOUNCE_GAP_NS << l->announced, announce_timer_fn,
                       l, &l->announce_timer) < 0) {
        ha_announce_end(l);
    }
}

void ha_announce_begin(struct ha_local *l)
{
    l->announced = l->announce_looks = 0;
    find_taps(l);
    announce_timer_fn(l);
}

void ha_announce_end(struct ha_local *l)
{
    loop_timer_del(l->vmm->loop, &l->announce_timer);
    for (unsigned i = 0; i < l->tap_count; i++) {
        close(l->tap_fd[i]);
    }
    l->tap_count = 0;
}
