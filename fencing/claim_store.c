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
#include <sys/stat.h>
#include <unistd.h>

#include "base/os.h"
#include "base/uuid.h"

#define READ_BACK_TRIES   3
#define TEMP_PREFIX       ".claim-"
#define TEMP_KEPT_SECONDS (24 * 60 * 60)

static const struct claim_store_ops real_ops = {.link = link, .sync = fsync};

/* Reading ---------------------------------------------------------------------------- */

enum name_kind { NAME_OTHER = 0, NAME_CLAIM, NAME_RELEASE, NAME_GARBAGE };

/* owner.N or owner.N.released exactly: no sign, no leading zero, nothing else behind. */
static enum name_kind parse_name(const char *name, uint64_t *ret_epoch)
{
    char *end;

    if (strncmp(name, "owner.", 6) != 0) {
        return NAME_OTHER;
    }
    if (name[6] < '1' || name[6] > '9') {
        return NAME_GARBAGE;
    }
    errno = 0;
    *ret_epoch = strtoull(name + 6, &end, 10);
    if (errno != 0 || *ret_epoch == UINT64_MAX) {
        return NAME_GARBAGE;
    }
    if (*end == '\0') {
        return NAME_CLAIM;
    }
    return strcmp(end, ".released") == 0 ? NAME_RELEASE : NAME_GARBAGE;
}

/* The highest epoch with a claim, 0 if none. -EBADMSG: a name that cannot be trusted. */
static int scan(const char *dir, uint64_t *ret_epoch, char *text, size_t cap)
{
    uint64_t highest = 0, released = 0, epoch = 0;
    struct dirent *entry;
    DIR *d = opendir(dir);
    int r = 0;

    if (d == NULL) {
        r = -errno;
        snprintf(text, cap, "%s: %s; is the VM's directory there and mounted?", dir,
                 strerror(-r));
        return r;
    }
    for (errno = 0; r == 0 && (entry = readdir(d)) != NULL; errno = 0) {
        switch (parse_name(entry->d_name, &epoch)) {
        case NAME_CLAIM:
            highest = epoch > highest ? epoch : highest;
            break;
        case NAME_RELEASE:
            released = epoch > released ? epoch : released;
            break;
        case NAME_GARBAGE:
            snprintf(text, cap,
                     "%s/%s: not the name of a claim or a release; nothing starts before "
                     "an operator has looked at it",
                     dir, entry->d_name);
            r = -EBADMSG;
            break;
        case NAME_OTHER:
            break;
        }
    }
    if (r == 0 && errno != 0) {
        r = -errno;
        snprintf(text, cap, "%s: cannot be listed: %s", dir, strerror(-r));
    }
    closedir(d);
    /* A release is made after its claim was durable: the claim was removed. */
    if (r == 0 && released > highest) {
        snprintf(text, cap,
                 "%s/owner.%" PRIu64 ".released: its claim owner.%" PRIu64
                 " is missing; nothing starts before an operator has looked at it",
                 dir, released, released);
        r = -EBADMSG;
    }
    if (r == 0) {
        *ret_epoch = highest;
    }
    return r;
}

/* A whole regular file of at most `cap` bytes. Never waits for a FIFO, never follows a
 * link. */
static int read_file(const char *path, void *buf, size_t cap, size_t *ret_len, char *text,
                     size_t text_cap)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    struct stat st;
    size_t len = 0;
    int r = 0;

    if (fd < 0) {
        r = -errno;
        snprintf(text, text_cap, "%s: %s", path, strerror(-r));
        /* A symbolic link, socket or the like under this name is garbage, not absence. */
        return r == -ELOOP || r == -ENXIO ? -EBADMSG : r;
    }
    if (fstat(fd, &st) < 0) {
        r = -errno;
    } else if (!S_ISREG(st.st_mode)) {
        snprintf(text, text_cap, "%s: not a regular file", path);
        r = -EBADMSG;
        goto out;
    }
    while (r == 0 && len < cap) {
        ssize_t n = read(fd, (char *)buf + len, cap - len);

        if (n == 0) {
            break;
        }
        if (n > 0) {
            len += (size_t)n;
        } else if (errno != EINTR) {
            r = -errno;
        }
    }
    if (r < 0) {
        snprintf(text, text_cap, "%s: %s", path, strerror(-r));
    } else {
        *ret_len = len;
    }
out:
    close(fd);
    return r;
}

static int refuse(const char *path, enum claim_decode_reason reason, char *text,
                  size_t cap)
{
    snprintf(text, cap, "%s: %s; nothing starts before an operator has looked at it",
             path, claim_decode_reason_str(reason));
    return -EBADMSG;
}

/* -ENOENT, -EBADMSG or another -errno; text says which file and why. */
static int read_claim(const char *dir, struct uuid vm, uint64_t epoch,
                      struct claim *ret_claim, char *text, size_t cap)
{
    uint8_t buf[CLAIM_ENCODED_MAX + 1]; /* one more, to see what is too long */
    enum claim_decode_reason reason;
    char path[PATH_MAX];
    size_t len = 0;
    int r;

    snprintf(path, sizeof path, "%s/owner.%" PRIu64, dir, epoch);
    r = read_file(path, buf, sizeof buf, &len, text, cap);
    if (r < 0) {
        return r;
    }
    reason = claim_decode(buf, len, vm, epoch, ret_claim);
    return reason == CLAIM_DECODE_OK ? 0 : refuse(path, reason, text, cap);
}

static int read_release(const char *dir, struct uuid vm, uint64_t epoch,
                        struct claim_release *ret_release, char *text, size_t cap)
{
    uint8_t buf[CLAIM_ENCODED_MAX + 1];
    enum claim_decode_reason reason;
    char path[PATH_MAX];
    size_t len = 0;
    int r;

    snprintf(path, sizeof path, "%s/owner.%" PRIu64 ".released", dir, epoch);
    r = read_file(path, buf, sizeof buf, &len, text, cap);
    if (r < 0) {
        return r;
    }
    reason = claim_release_decode(buf, len, vm, epoch, ret_release);
    return reason == CLAIM_DECODE_OK ? 0 : refuse(path, reason, text, cap);
}

int claim_store_read(const char *dir, struct uuid vm, struct claim_found *ret_found,
                     char *text, size_t cap)
{
    struct claim_found found = {0};
    uint64_t epoch = 0;
    int r;

    text[0] = '\0';
    r = scan(dir, &epoch, text, cap);
    if (r < 0) {
        return r;
    }
    if (epoch != 0) {
        r = read_claim(dir, vm, epoch, &found.claim, text, cap);
        if (r == -ENOENT) {
            return -EAGAIN; /* listed a moment ago: a stale listing, or somebody removes
                               claims */
        }
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

uint32_t claim_store_gave_up(const char *dir, const struct claim *claim,
                             struct claim_halt ret[static CLAIM_UNEXCLUDED_MAX])
{
    char text[REASON_LEN_MAX + 1];
    struct claim_release release;
    uint32_t count = 0;

    for (uint32_t i = 0; i < claim->unexcluded_count; i++) {
        const struct claim_displaced *d = &claim->unexcluded[i];

        if (read_release(dir, claim->vm, d->epoch, &release, text, sizeof text) == 0 &&
            uuid_equal(release.instance, d->who.instance)) {
            ret[count++] = (struct claim_halt){.vm = claim->vm,
                                               .epoch = d->epoch,
                                               .instance = d->who.instance,
                                               .kind = CLAIM_HALT_GONE};
        }
    }
    return count;
}

/* 0: no claim in the directory is of `vm`; -EBADMSG: one is, or cannot be read. */
static int none_is_of(const char *dir, struct uuid vm, char *text, size_t cap)
{
    static const struct uuid anyone;
    struct dirent *entry;
    DIR *d = opendir(dir);
    int r = d == NULL ? -errno : 0;

    for (errno = 0; r == 0 && (entry = readdir(d)) != NULL; errno = 0) {
        struct claim claim;
        uint64_t epoch;

        if (parse_name(entry->d_name, &epoch) != NAME_CLAIM) {
            continue;
        }
        r = read_claim(dir, anyone, epoch, &claim, text, cap);
        if (r == 0 && uuid_equal(claim.vm, vm)) {
            snprintf(
                text, cap,
                "%s/%s: of this VM, and a later claim of another one; nothing starts "
                "before an operator has looked at it",
                dir, entry->d_name);
            r = -EBADMSG;
        }
    }
    if (r == 0 && errno != 0) {
        r = -errno;
    }
    if (r < 0 && text[0] == '\0') {
        snprintf(text, cap, "%s: cannot be listed: %s", dir, strerror(-r));
    }
    if (d != NULL) {
        closedir(d);
    }
    return r;
}

int claim_store_former(const char *dir, struct uuid vm, struct claim_found *ret_found,
                       char *text, size_t cap)
{
    static const struct uuid anyone;
    struct claim_found found;
    int r = claim_store_read(dir, anyone, &found, text, cap);

    if (r == 0 && !found.have_claim) {
        snprintf(text, cap, "%s: no claim", dir);
        return -ENOENT;
    }
    if (r == 0) {
        r = none_is_of(dir, vm, text, cap);
    }
    if (r == 0) { /* once more, so that its release is its own */
        r = claim_store_read(dir, found.claim.vm, &found, text, cap);
    }
    if (r == 0) {
        *ret_found = found;
    }
    return r;
}

/* Making ----------------------------------------------------------------------------- */

/* Attempts that crashed leave their temporary files; by the server's clock alone, of
 * which ours is a sample. */
static void remove_stale_temps(const char *dir, const char *own_temp)
{
    struct stat own, st;
    struct dirent *entry;
    char path[PATH_MAX];
    DIR *d;

    if (lstat(own_temp, &own) < 0) {
        return;
    }
    d = opendir(dir);
    if (d == NULL) {
        return;
    }
    while ((entry = readdir(d)) != NULL) {
        if (strncmp(entry->d_name, TEMP_PREFIX, strlen(TEMP_PREFIX)) != 0) {
            continue;
        }
        snprintf(path, sizeof path, "%s/%s", dir, entry->d_name);
        if (lstat(path, &st) == 0 && S_ISREG(st.st_mode) &&
            st.st_mtime < own.st_mtime - TEMP_KEPT_SECONDS) {
            (void)unlink(path);
        }
    }
    closedir(d);
}

/*
 * A fresh, synced temporary file with these bytes, linked to `name`. What link(2) says is
 * only good for a message: the caller reads back.
 */
static void link_bytes(const struct claim_store_ops *ops, const char *dir,
                       const char *name, const void *bytes, size_t len, char *text,
                       size_t cap)
{
    char temp[PATH_MAX], path[PATH_MAX], id[UUID_STR_LEN + 1];
    int fd, r;

    uuid_format(uuid_random(), id);
    snprintf(temp, sizeof temp, "%s/" TEMP_PREFIX "%s", dir, id);
    snprintf(path, sizeof path, "%s/%s", dir, name);
    fd = open(temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        snprintf(text, cap, "%s: %s", temp, strerror(errno));
        return;
    }
    r = os_write_all(fd, bytes, len);
    if (r == 0 && ops->sync(fd) < 0) {
        r = -errno;
    }
    if (close(fd) < 0 && r == 0) {
        r = -errno; /* NFS reports a failed write here */
    }
    /* Never linked unless every byte is durable: a torn claim would block the VM. */
    if (r == 0 && ops->link(temp, path) < 0) {
        r = -errno;
    }
    if (r < 0) {
        snprintf(text, cap, "%s: %s", path, strerror(-r));
    }
    remove_stale_temps(dir, temp);
    (void)unlink(temp);
}

/* What was read back has to survive a power loss of the server before anybody acts on it.
 */
static int sync_dir(const struct claim_store_ops *ops, const char *dir, char *text,
                    size_t cap)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int r = fd < 0 ? -errno : 0;

    if (r == 0 && ops->sync(fd) < 0) {
        r = -errno;
    }
    if (fd >= 0) {
        close(fd);
    }
    if (r < 0) {
        snprintf(text, cap, "%s: fsync of the directory: %s", dir, strerror(-r));
    }
    return r;
}

int claim_store_link_with(const struct claim_store_ops *ops, const char *dir,
                          const struct claim *claim, enum claim_outcome *ret_outcome,
                          char *text, size_t cap)
{
    uint8_t buf[CLAIM_ENCODED_MAX];
    char name[40], why_not_read[PATH_MAX + 128];
    enum claim_outcome outcome;
    struct claim back;
    size_t len;
    int r = -EAGAIN;

    ops = ops ? ops : &real_ops;
    text[0] = '\0';
    len = claim_encode(claim, buf, sizeof buf);
    if (len == 0) {
        snprintf(text, cap, "%s: the claim is not valid", dir);
        return -EINVAL;
    }
    snprintf(name, sizeof name, "owner.%" PRIu64, claim->epoch);
    for (int i = 0; i < READ_BACK_TRIES; i++) {
        link_bytes(ops, dir, name, buf, len, text, cap);
        r = read_claim(dir, claim->vm, claim->epoch, &back, why_not_read,
                       sizeof why_not_read);
        if (r != -ENOENT) {
            break;
        }
    }
    if (r < 0) {
        /* Not there after all: what the link said is the better reason. */
        if (r != -ENOENT || text[0] == '\0') {
            snprintf(text, cap, "%s", why_not_read);
        }
        return r;
    }
    outcome = claim_outcome_of(claim, &back);
    if (outcome == CLAIM_OUTCOME_WON) {
        r = sync_dir(ops, dir, text, cap);
        if (r < 0) {
            return r;
        }
    }
    text[0] = '\0';
    *ret_outcome = outcome;
    return 0;
}

static bool release_equal(const struct claim_release *a, const struct claim_release *b)
{
    return uuid_equal(a->instance, b->instance) && uuid_equal(a->to, b->to) &&
           a->suspended == b->suspended &&
           memcmp(a->digest, b->digest, sizeof a->digest) == 0;
}

int claim_store_release_with(const struct claim_store_ops *ops, const char *dir,
                             const struct claim_release *release,
                             enum claim_outcome *ret_outcome, char *text, size_t cap)
{
    uint8_t buf[CLAIM_ENCODED_MAX];
    char name[56], why_not_read[PATH_MAX + 128];
    struct claim_release back;
    size_t len;
    int r = -EAGAIN;

    ops = ops ? ops : &real_ops;
    text[0] = '\0';
    len = claim_release_encode(release, buf, sizeof buf);
    if (len == 0) {
        snprintf(text, cap, "%s: the release is not valid", dir);
        return -EINVAL;
    }
    snprintf(name, sizeof name, "owner.%" PRIu64 ".released", release->epoch);
    for (int i = 0; i < READ_BACK_TRIES; i++) {
        link_bytes(ops, dir, name, buf, len, text, cap);
        r = read_release(dir, release->vm, release->epoch, &back, why_not_read,
                         sizeof why_not_read);
        if (r != -ENOENT) {
            break;
        }
    }
    if (r < 0) {
        if (r != -ENOENT || text[0] == '\0') {
            snprintf(text, cap, "%s", why_not_read);
        }
        return r;
    }
    r = sync_dir(ops, dir, text, cap);
    if (r < 0) {
        return r;
    }
    text[0] = '\0';
    *ret_outcome = release_equal(release, &back) ? CLAIM_OUTCOME_WON : CLAIM_OUTCOME_LOST;
    return 0;
}

int claim_store_link(const char *dir, const struct claim *claim,
                     enum claim_outcome *ret_outcome, char *text, size_t cap)
{
    return claim_store_link_with(NULL, dir, claim, ret_outcome, text, cap);
}

int claim_store_release(const char *dir, const struct claim_release *release,
                        enum claim_outcome *ret_outcome, char *text, size_t cap)
{
    return claim_store_release_with(NULL, dir, release, ret_outcome, text, cap);
}
