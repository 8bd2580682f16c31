/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/net_tap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "vmm/dev.h"

/* Offloads begin switched off: no driver has asked for them yet. 0 or -errno. */
static int set_header(int fd)
{
    int len = NET_HEADER_LEN;

    if (ioctl(fd, TUNSETVNETHDRSZ, &len) < 0) {
        return -errno;
    }
    return net_tap_offload(fd, 0);
}

/* One queue of a tap that exists. */
static int open_queue(const char *name, bool offloads, bool many, int *ret_fd,
                      struct vmm_error *err)
{
    struct ifreq ifr = {.ifr_flags =
                            (short)(IFF_TAP | IFF_NO_PI | (offloads ? IFF_VNET_HDR : 0) |
                                    (many ? IFF_MULTI_QUEUE : 0))};
    int fd, r;

    memcpy(ifr.ifr_name, name, strlen(name));
    fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        return vmm_fail(err, -errno, "cannot open /dev/net/tun: %s; load the module tun",
                        strerror(errno));
    }
    if (ioctl(fd, TUNSETIFF, &ifr) < 0) {
        r = -errno;
        close(fd);
        if (r == -EBUSY) {
            return vmm_fail(err, r, "tap %s is in use by another process", name);
        }
        return vmm_fail(err, r, "cannot attach to %s: %s; it must be a tap device %s",
                        name, strerror(-r),
                        many ? "with multi_queue (ip tuntap add ... multi_queue)"
                             : "without multi_queue");
    }
    r = offloads ? set_header(fd) : 0;
    if (r < 0) {
        close(fd);
        return vmm_fail(err, r, "cannot set up offloads of %s: %s", name, strerror(-r));
    }
    *ret_fd = fd;
    return 0;
}

int net_tap_open(const char *name, bool offloads, unsigned queue_count, int *ret_fd,
                 struct vmm_error *err)
{
    unsigned opened = 0;
    int r = 0;

    if (strlen(name) == 0 || strlen(name) >= IFNAMSIZ) {
        return vmm_fail(err, -EINVAL, "tap %s: an interface name has 1 to %d characters",
                        name, IFNAMSIZ - 1);
    }
    if (if_nametoindex(name) == 0) {
        return vmm_fail(
            err, -ENODEV,
            "tap %s does not exist in this network namespace; make it with: ip tuntap "
            "add dev %s mode tap",
            name, name);
    }
    while (r == 0 && opened < queue_count) {
        r = open_queue(name, offloads, queue_count > 1, &ret_fd[opened], err);
        opened += r == 0;
    }
    while (r < 0 && opened > 0) {
        close(ret_fd[--opened]);
    }
    return r;
}

int net_tap_adopt(int fd, bool *offloads, struct vmm_error *err)
{
    struct ifreq ifr = {0};
    bool header;
    int flags, r;

    if (ioctl(fd, TUNGETIFF, &ifr) < 0) {
        return vmm_fail(err, -errno, "fd %d is not an attached tap device: %s", fd,
                        strerror(errno));
    }
    header = (ifr.ifr_flags & IFF_VNET_HDR) != 0;
    if ((ifr.ifr_flags & (IFF_TAP | IFF_NO_PI)) != (IFF_TAP | IFF_NO_PI) ||
        (header && !*offloads)) {
        return vmm_fail(
            err, -EINVAL,
            "fd %d (%s) must be a tap with IFF_NO_PI, and without IFF_VNET_HDR on "
            "machine lockstep",
            fd, ifr.ifr_name);
    }
    r = header ? set_header(fd) : 0;
    if (r < 0) {
        return vmm_fail(err, r, "fd %d (%s): cannot set up offloads: %s", fd,
                        ifr.ifr_name, strerror(-r));
    }
    *offloads = header;
    flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ||
        fcntl(fd, F_SETFD, FD_CLOEXEC) < 0) {
        return vmm_fail(err, -errno, "fd %d: cannot set flags: %s", fd, strerror(errno));
    }
    return 0;
}

int net_tap_offload(int fd, unsigned offload)
{
    unsigned flags = ((offload & NET_OFFLOAD_CSUM) != 0 ? TUN_F_CSUM : 0) |
                     ((offload & NET_OFFLOAD_TSO4) != 0 ? TUN_F_TSO4 : 0) |
                     ((offload & NET_OFFLOAD_TSO6) != 0 ? TUN_F_TSO6 : 0);

    return ioctl(fd, TUNSETOFFLOAD, (unsigned long)flags) < 0 ? -errno : 0;
}

int net_tap_carrier(int fd, bool up)
{
    int value = up;

    return ioctl(fd, TUNSETCARRIER, &value) < 0 ? -errno : 0;
}

ssize_t net_tap_read(int fd, void *buf, size_t cap)
{
    ssize_t n;

    do {
        n = read(fd, buf, cap);
    } while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

int net_tap_write(int fd, const void *frame, size_t len)
{
    ssize_t n;

    do {
        n = write(fd, frame, len);
    } while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : 0;
}
