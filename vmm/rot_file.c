/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/rot_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/os.h"
#include "vmm/sandbox.h"

static int reopen(struct rot_file *f)
{
    struct stat st;
    int r;

    /* O_NONBLOCK: a pipe whose reader sleeps must not stop us; files ignore it. */
    sandbox_files_begin();
    f->fd = open(f->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK, 0640);
    r = f->fd < 0 ? -errno : 0;
    sandbox_files_end();
    if (r < 0) {
        return r;
    }
    f->len = fstat(f->fd, &st) == 0 && S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0;
    return 0;
}

int rot_file_open(struct rot_file *f, const char *path, uint64_t len_max,
                  struct vmm_error *err)
{
    int r;

    *f = (struct rot_file){.fd = -1, .len_max = len_max};
    if (strlen(path) >= sizeof f->path) {
        return vmm_fail(err, -ENAMETOOLONG,
                        "log file %s: the path is longer than %zu bytes", path,
                        sizeof f->path - 1);
    }
    memcpy(f->path, path, strlen(path) + 1);
    r = reopen(f);
    return r < 0 ? vmm_fail(err, r, "cannot open %s for writing: %s", path, strerror(-r))
                 : 0;
}

void rot_file_close(struct rot_file *f)
{
    if (f->fd >= 0) {
        close(f->fd);
    }
    f->fd = -1;
}

/* x.log, 2 -> x-2.log; without the ending: x-2. */
static void kept_name(const struct rot_file *f, unsigned n, char name[PATH_LEN_MAX + 16])
{
    size_t len = strlen(f->path);
    bool dotted = len > 4 && strcmp(f->path + len - 4, ".log") == 0;

    snprintf(name, PATH_LEN_MAX + 16, "%.*s-%u%s", (int)(dotted ? len - 4 : len), f->path,
             n, dotted ? ".log" : "");
}

static int rotate(struct rot_file *f)
{
    char from[PATH_LEN_MAX + 16], to[PATH_LEN_MAX + 16];

    for (unsigned n = LOG_FILES_KEPT; n > 1; n--) {
        kept_name(f, n - 1, from);
        kept_name(f, n, to);
        if (rename(from, to) < 0 && errno != ENOENT) {
            return -errno;
        }
    }
    kept_name(f, 1, to);
    if (rename(f->path, to) < 0) {
        return -errno;
    }
    close(f->fd);
    return reopen(f);
}

int rot_file_write(struct rot_file *f, const void *bytes, size_t len)
{
    int r = 0;

    if (f->fd < 0) {
        r = reopen(f);
    } else if (f->len_max > 0 && f->len > 0 && f->len + len > f->len_max) {
        r = rotate(f);
        if (r == -ENOENT || r == -EACCES || r == -EROFS) {
            /* What a guest can make grow needs an end. */
            r = ftruncate(f->fd, 0) < 0 ? -errno : 0;
            f->len = r < 0 ? f->len : 0;
        } /* other failures pass: the old file grows on, the bytes matter more */
    }
    if (f->fd >= 0) {
        int w = os_write_all(f->fd, bytes, len);

        r = w < 0 ? w : r;
        f->len += w < 0 ? 0 : len;
    }
    if (r < 0 && f->failing) {
        return 0;
    }
    f->failing = r < 0;
    return r;
}
