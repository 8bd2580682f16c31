/* SPDX-License-Identifier: Apache-2.0 */
#include "ha/ha_twincopy.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/os.h"
#include "ha/ha_text.h"

#define OWN_MAX 16384
#define WHY_CAP (REASON_LEN_MAX + 1)
/* Partition tables, file systems, volume managers, RAIDs and databases have something in
 * the first or the last of it; what has nothing there was never used, or was emptied. */
#define END_BYTES (UINT64_C(4) << 20)

/* Paths that are known
 * ------------------------------------------------------------------------------- */

static bool has_line(const char *text, const char *path)
{
    size_t len = strlen(path);

    for (const char *at = text; *at != '\0';) {
        size_t line = strcspn(at, "\n");

        if (line == len && strncmp(at, path, len) == 0) {
            return true;
        }
        at += line + (at[line] != '\0');
    }
    return false;
}

/* Lines that are absolute paths. */
static bool is_list(const char *text)
{
    bool good = true;

    while (good && *text != '\0') {
        good = *text == '/';
        text += strcspn(text, "\n");
        text += *text != '\0';
    }
    return good;
}

static int own_wrong(const char *own, int r, const char *what, char *ret_why)
{
    ha_text_set(ret_why, WHY_CAP, "the list of its copies on this node, ", own, ": ",
                what, "; write it anew: the path of each copy that is here, a line each",
                NULL);
    return r;
}

/* "": none yet. */
static int own_read(const char *own, char text[OWN_MAX], char *ret_why)
{
    size_t len = 0;
    int r = os_file_read(own, text, OWN_MAX - 1, &len);

    if (r < 0 && r != -ENOENT) {
        return own_wrong(own, r, r == -EFBIG ? "it is too large" : strerror(-r), ret_why);
    }
    text[r < 0 ? 0 : len] = '\0';
    return strlen(text) == (r < 0 ? 0 : len) && is_list(text)
               ? 0
               : own_wrong(own, -EBADMSG, "it has lines that are no paths", ret_why);
}

int ha_twincopy_known(const char *own, const char *path,
                      char why[static REASON_LEN_MAX + 1])
{
    char text[OWN_MAX];
    int r = own_read(own, text, why);

    return r < 0 ? r : has_line(text, path);
}

int ha_twincopy_note(const char *own, const char *path,
                     char why[static REASON_LEN_MAX + 1])
{
    char text[OWN_MAX], dir[PATH_LEN_MAX * 2];
    int r = own_read(own, text, why);
    size_t len;

    if (r < 0 || has_line(text, path)) {
        return r;
    }
    len = strlen(text);
    if (len + strlen(path) + 3 > OWN_MAX) {
        return own_wrong(own, -ENOSPC, "it is full", why);
    }
    snprintf(dir, sizeof dir, "%s", own);
    *strrchr(dir, '/') = '\0';
    r = os_mkdir_p(dir, 0700);
    if (r == 0) {
        ha_text_add(text, sizeof text, len > 0 && text[len - 1] != '\n' ? "\n" : "");
        ha_text_add(text, sizeof text, path);
        ha_text_add(text, sizeof text, "\n");
        r = os_file_replace(own, text, strlen(text), 0600);
    }
    if (r < 0) {
        ha_text_set(why, WHY_CAP, "the list of its copies on this node, ", own,
                    ", cannot be written: ", strerror(-r), NULL);
    }
    return r;
}

/* What is there
 * --------------------------------------------------------------------------------------
 */

/* 1: all of it is zero; 0: not; -errno: it cannot be read. */
static int is_zero(int fd, uint64_t from, uint64_t to)
{
    static const char zero[65536];
    char data[sizeof zero];

    while (from < to) {
        size_t want = to - from < sizeof data ? (size_t)(to - from) : sizeof data;
        ssize_t n = pread(fd, data, want, (off_t)from);

        if (n <= 0) {
            return n < 0 ? -errno : -EIO;
        }
        if (memcmp(data, zero, (size_t)n) != 0) {
            return 0;
        }
        from += (uint64_t)n;
    }
    return 1;
}

static int has_nothing(int fd, uint64_t bytes)
{
    uint64_t tail = bytes > END_BYTES ? bytes - END_BYTES : 0;
    int r = is_zero(fd, 0, bytes < END_BYTES ? bytes : END_BYTES);

    return r == 1 ? is_zero(fd, tail, bytes) : r;
}

static bool cannot(const struct ha_twincopy *copy, const char *what, int error,
                   char *ret_why)
{
    ha_text_set(ret_why, WHY_CAP, "its disk ", copy->path, what, strerror(error), NULL);
    return false;
}

static bool size_fits(const struct ha_twincopy *copy, uint64_t bytes, char *ret_why)
{
    if (bytes == copy->bytes) {
        return true;
    }
    ha_text_set(ret_why, WHY_CAP, "its disk ", copy->path, " has ", NULL);
    ha_text_add_u64(ret_why, WHY_CAP, bytes);
    ha_text_add(ret_why, WHY_CAP, " bytes here, and on its own node ");
    ha_text_add_u64(ret_why, WHY_CAP, copy->bytes);
    ha_text_add(ret_why, WHY_CAP, "; give it a device of the same size");
    return false;
}

static bool look_at_device(const struct ha_twincopy *copy, char *ret_why)
{
    /* O_EXCL: not one that this kernel has in use. */
    int fd = open(copy->path, O_RDONLY | O_EXCL | O_CLOEXEC), empty = 1;
    off_t bytes = -1;
    bool good;

    if (fd < 0 && errno == EBUSY) {
        ha_text_set(ret_why, WHY_CAP, "block device ", copy->path,
                    " is in use here (mounted, swap, or part of another device): free "
                    "it, or give the disk another path",
                    NULL);
        return false;
    }
    if (fd < 0) {
        return cannot(copy, " cannot be opened here: ", errno, ret_why);
    }
    bytes = lseek(fd, 0, SEEK_END);
    good = bytes >= 0 ? size_fits(copy, (uint64_t)bytes, ret_why)
                      : cannot(copy, " cannot be looked at: ", errno, ret_why);
    if (good && !copy->known) {
        empty = has_nothing(fd, (uint64_t)bytes);
    }
    close(fd);
    if (empty < 0) {
        return cannot(copy, " cannot be read here: ", -empty, ret_why);
    }
    if (empty == 0) {
        ha_text_set(ret_why, WHY_CAP, "block device ", copy->path,
                    " has data, and was never a copy of this VM's disk: it would be "
                    "written over; empty it (blkdiscard -z), or give the disk another "
                    "path",
                    NULL);
        return false;
    }
    return good;
}

static bool has_data(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    bool any = fd >= 0 && (lseek(fd, 0, SEEK_DATA) >= 0 || errno != ENXIO);

    if (fd >= 0) {
        close(fd);
    }
    return any;
}

static bool has_room(const struct ha_twincopy *copy, const struct statvfs *fs,
                     uint64_t had, char *ret_why)
{
    uint64_t room = (uint64_t)fs->f_bavail * fs->f_frsize;

    if (copy->used <= had || copy->used - had <= room) {
        return true;
    }
    ha_text_set(ret_why, WHY_CAP, "there is no room for the copy of ", copy->path,
                ": it needs ", NULL);
    ha_text_add_u64(ret_why, WHY_CAP, (copy->used - had) >> 20);
    ha_text_add(ret_why, WHY_CAP, " MiB more, and its file system has ");
    ha_text_add_u64(ret_why, WHY_CAP, room >> 20);
    ha_text_add(ret_why, WHY_CAP, " MiB");
    return false;
}

static bool look_at_file(const struct ha_twincopy *copy, const struct stat *st,
                         char *ret_why)
{
    struct statvfs fs;

    if (!copy->known && has_data(copy->path)) {
        ha_text_set(ret_why, WHY_CAP, copy->path,
                    " is there, and was never a copy of this VM's disk: it would be "
                    "written over; remove or rename it, then gemel vm protect again",
                    NULL);
        return false;
    }
    if (statvfs(copy->path, &fs) < 0) {
        return cannot(copy, " cannot be made here: ", errno, ret_why);
    }
    return has_room(copy, &fs, (uint64_t)st->st_blocks * 512, ret_why);
}

/* Nothing is there: its directory has to be. */
static bool look_at_dir(const struct ha_twincopy *copy, char *ret_why)
{
    char dir[PATH_LEN_MAX * 3];
    struct statvfs fs;
    char *slash;

    snprintf(dir, sizeof dir, "%s", copy->path);
    slash = strrchr(dir, '/');
    slash[slash == dir] = '\0';
    if (access(dir, W_OK | X_OK) < 0 || statvfs(dir, &fs) < 0) {
        return cannot(copy, " cannot be made here: ", errno, ret_why);
    }
    return has_room(copy, &fs, 0, ret_why);
}

bool ha_twincopy_look(const struct ha_twincopy *copy, char why[static REASON_LEN_MAX + 1])
{
    struct stat st;

    if (stat(copy->path, &st) < 0) {
        return errno == ENOENT ? look_at_dir(copy, why)
                               : cannot(copy, " cannot be looked at: ", errno, why);
    }
    if (S_ISBLK(st.st_mode)) {
        return look_at_device(copy, why);
    }
    if (S_ISREG(st.st_mode)) {
        return look_at_file(copy, &st, why);
    }
    ha_text_set(why, WHY_CAP, "its disk ", copy->path,
                S_ISDIR(st.st_mode) ? " is a directory here" : " is no file here",
                ": remove it, or give the disk another path", NULL);
    return false;
}

/* The primary's
 * ---------------------------------------------------------------------------------- */

int ha_twincopy_measure(const char *path, struct ha_twin_disk *ret_disk)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC), r = 0;
    struct stat st;
    off_t end;

    if (fd < 0) {
        return -errno;
    }
    end = fstat(fd, &st) < 0 ? -1 : lseek(fd, 0, SEEK_END);
    if (end < 0) {
        r = -errno;
    } else {
        ret_disk->bytes = (uint64_t)end;
        ret_disk->used =
            S_ISREG(st.st_mode) ? (uint64_t)st.st_blocks * 512 : (uint64_t)end;
    }
    close(fd);
    return r;
}

bool ha_twincopy_is_own(const struct conf_disk *disk, const char *path,
                        char why[static REASON_LEN_MAX + 1])
{
    struct stat st;

    if (disk->mirrored || disk->read_only || disk->path[0] != '/' ||
        stat(path, &st) < 0 || !S_ISREG(st.st_mode)) {
        return false;
    }
    ha_text_set(why, WHY_CAP, "its disk ", path,
                " is a file of this node, as far as anybody can tell: put it into the "
                "VM's directory, or write mirrored: true",
                NULL);
    return true;
}
