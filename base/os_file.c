/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/os.h"

int os_file_read(const char *path, void *buf, size_t cap, size_t *ret_len)
{
    char *text = buf;
    char extra;
    size_t len = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    int r;

    if (fd < 0) {
        return -errno;
    }
    for (;;) {
        /* One byte more than the cap is asked for, to tell "full" from "too long". */
        ssize_t n = len < cap ? read(fd, text + len, cap - len) : read(fd, &extra, 1);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            r = -errno;
            goto out;
        }
        if (n == 0) {
            break;
        }
        if (len == cap) {
            r = -EFBIG;
            goto out;
        }
        len += (size_t)n;
    }
    text[len] = '\0';
    if (ret_len != NULL) {
        *ret_len = len;
    }
    r = 0;
out:
    close(fd);
    return r;
}

int os_write_all(int fd, const void *buf, size_t len)
{
    const char *p = buf;

    while (len > 0) {
        ssize_t n = write(fd, p, len);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return -errno;
        }
        if (n == 0) {
            return -EIO;
        }
        p += n;
        len -= (size_t)n;
    }
    return 0;
}

int os_dir_fsync(const char *path_of_dir)
{
    int fd = open(path_of_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int r;

    if (fd < 0) {
        return -errno;
    }
    r = fsync(fd) < 0 ? -errno : 0;
    close(fd);
    return r;
}

/* The directory of `path`, "." when it names none. */
static int dir_of(const char *path, char *buf, size_t cap)
{
    const char *slash = strrchr(path, '/');
    size_t len = slash == NULL ? 0 : slash == path ? 1 : (size_t)(slash - path);

    if (slash == NULL) {
        path = ".";
        len = 1;
    }
    if (len >= cap) {
        return -ENAMETOOLONG;
    }
    memcpy(buf, path, len);
    buf[len] = '\0';
    return 0;
}

/*
 * The order is the point: content durable before the name points to it, name durable
 * before success is reported. A crash at any place leaves the old file or the new one,
 * whole, and at worst a stray temporary name.
 */
int os_file_replace(const char *path, const void *buf, size_t len, mode_t mode)
{
    char tmp[PATH_LEN_MAX + 16], dir[PATH_LEN_MAX];
    int fd = -1, r;

    r = dir_of(path, dir, sizeof dir);
    if (r < 0) {
        return r;
    }
    r = snprintf(tmp, sizeof tmp, "%s.new-XXXXXX", path);
    if (r < 0 || (size_t)r >= sizeof tmp) {
        return -ENAMETOOLONG;
    }
    fd = mkostemp(tmp, O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    r = os_write_all(fd, buf, len);
    if (r < 0) {
        goto out;
    }
    if (fchmod(fd, mode) < 0 || fsync(fd) < 0) {
        r = -errno;
        goto out;
    }
    if (rename(tmp, path) < 0) {
        r = -errno;
        goto out;
    }
    tmp[0] = '\0';
    r = os_dir_fsync(dir);
out:
    close(fd);
    if (tmp[0] != '\0') {
        unlink(tmp);
    }
    return r;
}

/* An existing directory is success; anything else in the way is -ENOTDIR. */
static int mkdir_one(const char *path, mode_t mode)
{
    struct stat st;

    if (mkdir(path, mode) == 0) {
        return 0;
    }
    if (errno != EEXIST) {
        return -errno;
    }
    if (stat(path, &st) < 0) {
        return -errno;
    }
    return S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
}

int os_mkdir_p(const char *path, mode_t mode)
{
    char part[PATH_LEN_MAX];
    size_t len = strlen(path);
    int r;

    if (len == 0) {
        return -ENOENT;
    }
    if (len >= sizeof part) {
        return -ENAMETOOLONG;
    }
    memcpy(part, path, len + 1);
    for (size_t i = 1; i < len; i++) {
        if (part[i] != '/') {
            continue;
        }
        part[i] = '\0';
        r = mkdir_one(part, mode);
        if (r < 0) {
            return r;
        }
        part[i] = '/';
    }
    return mkdir_one(part, mode);
}
