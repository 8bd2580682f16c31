/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/uffd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00) /* Linux 6.1, linux/userfaultfd.h */
#endif
#define READ_MAX 64u

int uffd_open(int device, int *ret_fd, struct vmm_error *err)
{
    struct uffdio_api api = {.api = UFFD_API, .features = UFFD_FEATURE_MISSING_SHMEM};
    int flags = O_CLOEXEC | O_NONBLOCK, r;
    int fd = device >= 0 ? ioctl(device, USERFAULTFD_IOC_NEW, flags)
                         : (int)syscall(SYS_userfaultfd, flags);

    if (fd < 0) {
        return vmm_fail(err, -errno,
                        "no userfaultfd on this host (%s): it takes CONFIG_USERFAULTFD, "
                        "and /dev/userfaultfd, root, or vm.unprivileged_userfaultfd=1",
                        strerror(errno));
    }
    if (ioctl(fd, UFFDIO_API, &api) < 0) {
        r = -errno;
        close(fd);
        return vmm_fail(err, r,
                        "userfaultfd of this host does not work for shared memory: %s",
                        strerror(-r));
    }
    *ret_fd = fd;
    return 0;
}

int uffd_register(int fd, void *at, uint64_t len)
{
    struct uffdio_register arg = {.range = {(uintptr_t)at, len},
                                  .mode = UFFDIO_REGISTER_MODE_MISSING};
    uint64_t needs = UINT64_C(1) << _UFFDIO_COPY | UINT64_C(1) << _UFFDIO_ZEROPAGE |
                     UINT64_C(1) << _UFFDIO_WAKE;

    if (ioctl(fd, UFFDIO_REGISTER, &arg) < 0) {
        return -errno;
    }
    return (arg.ioctls & needs) == needs ? 0 : -EOPNOTSUPP;
}

int uffd_unregister(int fd, void *at, uint64_t len)
{
    struct uffdio_range arg = {(uintptr_t)at, len};

    return ioctl(fd, UFFDIO_UNREGISTER, &arg) < 0 ? -errno : 0;
}

int uffd_copy(int fd, void *at, const void *from, uint64_t len)
{
    struct uffdio_copy arg = {.dst = (uintptr_t)at, .src = (uintptr_t)from, .len = len};

    while (ioctl(fd, UFFDIO_COPY, &arg) < 0) {
        if (errno != EAGAIN) { /* the address space is being changed: again */
            return -errno;
        }
        if (arg.copy > 0) {
            arg.dst += (uint64_t)arg.copy;
            arg.src += (uint64_t)arg.copy;
            arg.len -= (uint64_t)arg.copy;
        }
        arg.copy = 0;
    }
    return 0;
}

int uffd_zero(int fd, void *at, uint64_t len)
{
    struct uffdio_zeropage arg = {.range = {(uintptr_t)at, len}};

    while (ioctl(fd, UFFDIO_ZEROPAGE, &arg) < 0) {
        if (errno != EAGAIN) {
            return -errno;
        }
        if (arg.zeropage > 0) {
            arg.range.start += (uint64_t)arg.zeropage;
            arg.range.len -= (uint64_t)arg.zeropage;
        }
        arg.zeropage = 0;
    }
    return 0;
}

int uffd_wake(int fd, void *at, uint64_t len)
{
    struct uffdio_range arg = {(uintptr_t)at, len};

    return ioctl(fd, UFFDIO_WAKE, &arg) < 0 ? -errno : 0;
}

int uffd_read(int fd, uint64_t *ret_address, unsigned max)
{
    struct uffd_msg msg[READ_MAX];
    unsigned count = 0;
    ssize_t n = read(fd, msg, (max < READ_MAX ? max : READ_MAX) * sizeof msg[0]);

    if (n < 0) {
        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    }
    for (size_t i = 0; i < (size_t)n / sizeof msg[0]; i++) {
        if (msg[i].event == UFFD_EVENT_PAGEFAULT) {
            ret_address[count++] = msg[i].arg.pagefault.address;
        }
    }
    return (int)count;
}
