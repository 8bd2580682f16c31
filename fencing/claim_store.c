/* SPDX-License-Identifier: Apache-2.0 */
#include "fencing/claim_store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/os.h"
#include "base/uuid.h"

#define READ_BACK_TRIES 3

/* owner.N exactly: no sign, no leading zero, nothing behind. 0: not a claim's name. */
static uint64_t epoch_of_name(const char *name)
{
    char *end;
    uint64_t epoch;

    if (strncmp(name, "owner.", 6) != 0 || name[6] < '1' || name[6] > '9') {
        return 0;
    }
    errno = 0;
    epoch = strtoull(name + 6, &end, 10);
    return errno == 0 && *end == '\0' ? epoch : 0;
}

static int highest_epoch(const char *dir, uint64_t *ret_epoch)
{
    struct dirent *entry;
    uint64_t highest = 0;
    DIR *d = opendir(dir);
    int r;

    if (d == NULL) {
        return -errno;
    }
    errno = 0;
    while ((entry = readdir(d)) != NULL) {
        uint64_t epoch = epoch_of_name(entry->d_name);

        highest = epoch > highest ? epoch : highest;
    }
    r = errno == 0 ? 0 : -errno;
    closedir(d);
    if (r == 0) {
        *ret_epoch = highest;
    }
    return r;
}

/* -ENOENT, -EBADMSG (text says why) or another -errno. */
static int read_claim(const char *dir, struct uuid vm, uint64_t epoch,
                      struct claim *ret_claim, char *text, size_t cap)
{
    uint8_t buf[CLAIM_ENCODED_MAX + 1];
    enum claim_decode_reason reason;
    char path[PATH_MAX];
    size_t len;
    int r;

    snprintf(path, sizeof path, "%s/owner.%" PRIu64, dir, epoch);
    r = os_file_read(path, buf, CLAIM_ENCODED_MAX, &len);
    if (r < 0) {
        snprintf(text, cap, "%s: %s", path, strerror(-r));
        return r;
    }
    reason = claim_decode(buf, len, vm, epoch, ret_claim);
    if (reason != CLAIM_DECODE_OK) {
        snprintf(text, cap, "%s: %s; nothing starts before an operator has looked at it",
                 path, claim_decode_reason_str(reason));
        return -EBADMSG;
    }
    return 0;
}

static int read_release(const char *dir, struct uuid vm, uint64_t epoch,
                        struct claim_release *ret_release, char *text, size_t cap)
{
    uint8_t buf[CLAIM_ENCODED_MAX + 1];
    enum claim_decode_reason reason;
    char path[PATH_MAX];
    size_t len;
    int r;

    snprintf(path, sizeof path, "%s/owner.%" PRIu64 ".released", dir, epoch);
    r = os_file_read(path, buf, CLAIM_ENCODED_MAX, &len);
    if (r < 0) {
        snprintf(text, cap, "%s: %s", path, strerror(-r));
        return r;
    }
    reason = claim_release_decode(buf, len, vm, epoch, ret_release);
    if (reason != CLAIM_DECODE_OK) {
        snprintf(text, cap, "%s: %s", path, claim_decode_reason_str(reason));
        return -EBADMSG;
    }
    return 0;
}

int claim_store_read(const char *dir, struct uuid vm, struct claim_found *ret_found,
                     char *text, size_t cap)
{
    struct claim_found found = {0};
    uint64_t epoch = 0;
    int r;

    text[0] = '\0';
    r = highest_epoch(dir, &epoch);
    if (r < 0) {
        snprintf(text, cap, "%s: %s", dir, strerror(-r));
        return r;
    }
    if (epoch != 0) {
        r = read_claim(dir, vm, epoch, &found.claim, text, cap);
        if (r < 0) {
            return r;
        }
        found.have_claim = true;
        r = read_release(dir, vm, epoch, &found.release, text, cap);
        if (r < 0 && r != -ENOENT) {
            return r;
        }
        found.have_release = r == 0;
    }
    text[0] = '\0';
    *ret_found = found;
    return 0;
}

/* A fresh, synced temporary file with these bytes, linked to `name`; what link(2)
 * returned does not matter. */
static int link_bytes(const char *dir, const char *name, const void *bytes, size_t len,
                      char *text, size_t cap)
{
    char temp[PATH_MAX], path[PATH_MAX], id[UUID_STR_LEN + 1];
    int fd, r;

    uuid_format(uuid_random(), id);
    snprintf(temp, sizeof temp, "%s/.claim-%s", dir, id);
    snprintf(path, sizeof path, "%s/%s", dir, name);
    fd = open(temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        r = -errno;
        snprintf(text, cap, "%s: %s", temp, strerror(-r));
        return r;
    }
    r = os_write_all(fd, bytes, len);
    if (r == 0 && fsync(fd) < 0) {
        r = -errno;
    }
    close(fd);
    if (r == 0 && link(temp, path) < 0 && errno != EEXIST) {
        r = -errno;
    }
    if (r < 0) {
        snprintf(text, cap, "%s: %s", path, strerror(-r));
    }
    (void)unlink(temp);
    if (r == 0) {
        r = os_dir_fsync(dir);
    }
    return r;
}

int claim_store_link(const char *dir, const struct claim *claim,
                     enum claim_outcome *ret_outcome, char *text, size_t cap)
{
    uint8_t buf[CLAIM_ENCODED_MAX];
    struct claim back;
    char name[40];
    size_t len;
    int r;

    text[0] = '\0';
    len = claim_encode(claim, buf, sizeof buf);
    if (len == 0) {
        snprintf(text, cap, "%s: the claim is not valid", dir);
        return -EINVAL;
    }
    snprintf(name, sizeof name, "owner.%" PRIu64, claim->epoch);
    (void)link_bytes(dir, name, buf, len, text, cap);
    for (int i = 0; i < READ_BACK_TRIES; i++) {
        r = read_claim(dir, claim->vm, claim->epoch, &back, text, cap);
        if (r == 0) {
            *ret_outcome = claim_outcome_of(claim, &back);
            return 0;
        }
        if (r != -ENOENT) {
            return r;
        }
        (void)link_bytes(dir, name, buf, len, text, cap);
    }
    return r;
}

int claim_store_release(const char *dir, const struct claim_release *release,
                        enum claim_outcome *ret_outcome, char *text, size_t cap)
{
    uint8_t buf[CLAIM_ENCODED_MAX];
    struct claim_release back;
    char name[56];
    size_t len;
    int r;

    text[0] = '\0';
    len = claim_release_encode(release, buf, sizeof buf);
    if (len == 0) {
        snprintf(text, cap, "%s: the release is not valid", dir);
        return -EINVAL;
    }
    snprintf(name, sizeof name, "owner.%" PRIu64 ".released", release->epoch);
    for (int i = 0; i < READ_BACK_TRIES; i++) {
        (void)link_bytes(dir, name, buf, len, text, cap);
        r = read_release(dir, release->vm, release->epoch, &back, text, cap);
        if (r == 0) {
            *ret_outcome = uuid_equal(back.instance, release->instance) &&
                                   uuid_equal(back.to, release->to)
                               ? CLAIM_OUTCOME_WON
                               : CLAIM_OUTCOME_LOST;
            return 0;
        }
        if (r != -ENOENT) {
            return r;
        }
    }
    return r;
}
