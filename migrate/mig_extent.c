/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/mig_extent.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <unistd.h>

#define ALIGN     4096u
#define ZEROS_LEN 65536u

void *mig_extent_buffer(size_t len)
{
    void *p = NULL;

    return posix_memalign(&p, ALIGN, len) == 0 ? p : NULL;
}

void mig_extent_data(int fd, uint64_t at, uint64_t end, uint64_t *ret_begin,
                     uint64_t *ret_end)
{
    off_t data = lseek(fd, (off_t)at, SEEK_DATA), hole;

    *ret_begin = at;
    *ret_end = end;
    if (data < 0) {
        *ret_begin = errno == ENXIO ? end : at;
        return;
    }
    if ((uint64_t)data >= end) {
        *ret_begin = end;
        return;
    }
    *ret_begin = (uint64_t)data;
    hole = lseek(fd, data, SEEK_HOLE);
    if (hole > data && (uint64_t)hole < end) {
        *ret_end = (uint64_t)hole;
    }
}

int mig_extent_read(int fd, void *buf, uint64_t len, uint64_t at)
{
    uint8_t *p = buf;

    while (len > 0) {
        ssize_t n = pread(fd, p, len, (off_t)at);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return n < 0 ? -errno : -ENODATA;
        }
        p += n;
        at += (uint64_t)n;
        len -= (uint64_t)n;
    }
    return 0;
}

int mig_extent_write(int fd, const void *buf, uint64_t len, uint64_t at)
{
    const uint8_t *p = buf;

    while (len > 0) {
        ssize_t n = pwrite(fd, p, len, (off_t)at);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return n < 0 ? -errno : -ENOSPC;
        }
        p += n;
        at += (uint64_t)n;
        len -= (uint64_t)n;
    }
    return 0;
}

static int write_zeros(int fd, uint64_t len, uint64_t at)
{
    static const uint8_t zeros[ZEROS_LEN];
    int r = 0;

    for (uint64_t n; r == 0 && len > 0; len -= n, at += n) {
        n = len < ZEROS_LEN ? len : ZEROS_LEN;
        r = mig_extent_write(fd, zeros, n, at);
    }
    return r;
}

int mig_extent_zero(int fd, uint64_t len, uint64_t at)
{
    uint64_t end = at + len, begin, stop;
    int r = 0;

    for (; r == 0 && at < end; at = stop) {
        mig_extent_data(fd, at, end, &begin, &stop);
        if (begin >= stop) {
            break;
        }
        if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)begin,
                      (off_t)(stop - begin)) < 0) {
            r = write_zeros(fd, stop - begin, begin);
        }
    }
    return r;
}

int mig_extent_size(int fd, uint64_t *ret_bytes)
{
    off_t end = lseek(fd, 0, SEEK_END);

    if (end < 0) {
        return -errno;
    }
    *ret_bytes = (uint64_t)end;
    return 0;
}
