/* SPDX-License-Identifier: Apache-2.0 */
#include "ha/ha_vmdir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/crc32c.h"
#include "base/le.h"
#include "ha/ha_text.h"

#define BLOCK_BYTES (1024 * 1024)
#define STRIPES     4

static int complain(char *why, const char *path, const char *what, int error)
{
    ha_text_set(why, REASON_LEN_MAX + 1, path, ": ", what, strerror(error), NULL);
    return -error;
}

/* A whole block, but at the end of the file. */
static ssize_t read_block(int fd, uint8_t *block, uint64_t at)
{
    size_t have = 0;

    while (have < BLOCK_BYTES) {
        ssize_t n = pread(fd, block + have, BLOCK_BYTES - have, (off_t)(at + have));

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return -errno;
        }
        if (n == 0) {
            break;
        }
        have += (size_t)n;
    }
    return (ssize_t)have;
}

static void put_numbers(uint8_t *to, uint64_t len, const uint32_t crc[STRIPES])
{
    struct le64 l = le64_make(len);

    memcpy(to, &l, sizeof l);
    for (unsigned i = 0; i < STRIPES; i++) {
        struct le32 c = le32_make(crc[i]);

        memcpy(to + sizeof l + i * sizeof c, &c, sizeof c);
    }
}

int ha_vmdir_digest(int fd, uint8_t ret_digest[CLAIM_DIGEST_LEN])
{
    uint8_t *block = malloc(BLOCK_BYTES);
    uint32_t crc[STRIPES] = {0};
    uint64_t at = 0;
    ssize_t n;

    if (block == NULL) {
        return -ENOMEM;
    }
    while ((n = read_block(fd, block, at)) > 0) {
        unsigned stripe = at / BLOCK_BYTES % STRIPES;

        crc[stripe] = crc32c(crc[stripe], block, (size_t)n);
        at += (uint64_t)n;
    }
    free(block);
    if (n < 0) {
        return (int)n;
    }
    memset(ret_digest, 0, CLAIM_DIGEST_LEN);
    memcpy(ret_digest, "C1", 2);
    put_numbers(ret_digest + 8, at, crc);
    return 0;
}

bool ha_vmdir_disks_of(const struct conf_vm *conf, struct ha_vmdir_disks *ret_disks,
                       char *why)
{
    ret_disks->count = 0;
    for (unsigned i = 0; i < conf->disk_count; i++) {
        const struct conf_disk *disk = &conf->disk[i];

        if (disk->read_only) {
            continue;
        }
        if (conf_disk_is_nbd(disk)) {
            ha_text_set(why, REASON_LEN_MAX + 1, "its disk ", disk->path,
                        " is a network disk: its server can copy it, this agent cannot",
                        NULL);
            return false;
        }
        if (disk->path[0] == '/') {
            ha_text_set(why, REASON_LEN_MAX + 1, "its disk ", disk->path,
                        " lies outside of the VM's directory and cannot be copied with "
                        "it",
                        NULL);
            return false;
        }
        ha_text_set(ret_disks->path[ret_disks->count++], sizeof ret_disks->path[0],
                    disk->path, NULL);
    }
    return true;
}

void ha_vmdir_flat_name(const char *path, char *ret_name, unsigned cap)
{
    unsigned used = 0;

    for (; *path != '\0' && used + 4 < cap; path++) {
        if (*path == '/' || *path == '%') {
            snprintf(ret_name + used, cap - used, "%%%02X", (unsigned char)*path);
            used += 3;
        } else {
            ret_name[used++] = *path;
        }
    }
    ret_name[used] = '\0';
}

/* Copies
 * ----------------------------------------------------------------------------------- */

struct copy {
    int from, to;
    const atomic_bool *cancel;
    uint8_t *block; /* where the file system does not copy by itself */
    bool by_hand;
};

static int copy_by_hand(struct copy *c, uint64_t at, size_t len)
{
    ssize_t n = pread(c->from, c->block, len, (off_t)at);

    if (n <= 0) {
        return n < 0 ? -errno : -EIO; /* shorter than it was: somebody writes it */
    }
    for (ssize_t done = 0; done < n;) {
        ssize_t w = pwrite(c->to, c->block + done, (size_t)(n - done),
                           (off_t)(at + (size_t)done));

        if (w < 0) {
            return -errno;
        }
        done += w;
    }
    return (int)n;
}

static int copy_some(struct copy *c, uint64_t at, size_t len)
{
    off_t in = (off_t)at, out = (off_t)at;
    ssize_t n;

    if (!c->by_hand) {
        n = copy_file_range(c->from, &in, c->to, &out, len, 0);
        if (n > 0) {
            return (int)n;
        }
        if (n < 0 && (errno == ENOSPC || errno == EDQUOT || errno == EIO)) {
            return -errno;
        }
        c->by_hand = true;
    }
    return copy_by_hand(c, at, len);
}

static int copy_range(struct copy *c, uint64_t at, uint64_t end)
{
    while (at < end) {
        uint64_t len = end - at < BLOCK_BYTES ? end - at : BLOCK_BYTES;
        int n;

        if (c->cancel != NULL && atomic_load(c->cancel)) {
            return -ECANCELED;
        }
        n = copy_some(c, at, (size_t)len);
        if (n < 0) {
            return n;
        }
        at += (uint64_t)n;
    }
    return 0;
}

/* Data where the source has data, holes where it has holes. */
static int copy_sparse(struct copy *c, uint64_t size)
{
    uint64_t at = 0;
    int r = 0;

    if (ioctl(c->to, FICLONE, c->from) == 0) {
        return 0;
    }
    if (ftruncate(c->to, (off_t)size) < 0) {
        return -errno;
    }
    while (r == 0 && at < size) {
        off_t data = lseek(c->from, (off_t)at, SEEK_DATA), hole;

        if (data < 0 && errno == ENXIO) {
            break; /* a hole up to the end */
        }
        if (data < 0) {
            return copy_range(c, at, size); /* it knows no holes */
        }
        hole = lseek(c->from, data, SEEK_HOLE);
        hole = hole < 0 ? (off_t)size : hole;
        r = copy_range(c, (uint64_t)data, (uint64_t)hole < size ? (uint64_t)hole : size);
        at = (uint64_t)hole;
    }
    return r;
}

int ha_vmdir_copy(const char *from, const char *to, const atomic_bool *cancel, char *why)
{
    struct copy c = {
        .from = open(from, O_RDONLY | O_CLOEXEC), .to = -1, .cancel = cancel};
    struct stat st;
    int r;

    c.block = malloc(BLOCK_BYTES);
    if (c.from < 0 || fstat(c.from, &st) < 0) {
        r = complain(why, from, "", errno);
        goto out;
    }
    if (!S_ISREG(st.st_mode) || c.block == NULL) {
        r = complain(why, from, S_ISREG(st.st_mode) ? "" : "is no plain file: ",
                     c.block == NULL ? ENOMEM : EINVAL);
        goto out;
    }
    c.to = open(to, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, st.st_mode & 0777);
    if (c.to < 0) {
        r = complain(why, to, "", errno);
        goto out;
    }
    r = copy_sparse(&c, (uint64_t)st.st_size);
    if (r == 0 && fsync(c.to) < 0) {
        r = -errno;
    }
    if (close(c.to) < 0 && r == 0) {
        r = -errno; /* NFS reports a failed write here */
    }
    if (r < 0) {
        r = complain(why, to, "copy: ", -r);
        (void)unlink(to);
    }
out:
    free(c.block);
    if (c.from >= 0) {
        close(c.from);
    }
    return r;
}

#define REMOVE_DEPTH_MAX 16

static int remove_below(const char *path, unsigned depth)
{
    struct dirent *entry;
    DIR *dir = opendir(path);
    int r = 0;

    if (dir == NULL) {
        return errno == ENOENT ? 0 : -errno;
    }
    while ((entry = readdir(dir)) != NULL) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) {
            continue;
        }
        if (unlinkat(dirfd(dir), entry->d_name, 0) == 0 || errno == ENOENT) {
            continue;
        }
        if (errno == EISDIR && depth < REMOVE_DEPTH_MAX) {
            char below[PATH_LEN_MAX * 5];

            ha_text_set(below, sizeof below, path, "/", entry->d_name, NULL);
            r = remove_below(below, depth + 1);
        } else {
            r = -errno;
        }
    }
    closedir(dir);
    if (r == 0 && rmdir(path) < 0 && errno != ENOENT) {
        r = -errno;
    }
    return r;
}

int ha_vmdir_remove(const char *path)
{
    return remove_below(path, 0);
}
