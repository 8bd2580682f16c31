/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A snapshot takes the place of the VM's disks and its suspended state. For each NAME of
 * them: NAME.revert.tmp is the copy of the snapshot's, NAME.revert.old a second name
 * (link) of what lay there. The empty file revert.done says that every NAME is the
 * snapshot's, so that the old ones may go; without it they are what counts.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/os.h"
#include "ha/ha_path.h"
#include "ha/ha_snapshot.h"
#include "ha/ha_text.h"

#define REVERT_TMP  ".revert.tmp"
#define REVERT_OLD  ".revert.old"
#define REVERT_DONE "revert.done"

/* The disks, then the state. NULL: no more. */
static const char *name_at(const struct ha_snapshot *s, unsigned i)
{
    return i < s->disks.count    ? s->disks.path[i]
           : i == s->disks.count ? VMDIR_STATE
                                 : NULL;
}

/* The directory that holds it is synced. */
static int sync_dir_of(struct path p)
{
    *strrchr(p.s, '/') = '\0';
    return os_dir_fsync(p.s);
}

void ha_snapshot_drop_copies(const struct ha_snapshot *s)
{
    const char *name;

    for (unsigned i = 0; (name = name_at(s, i)) != NULL; i++) {
        (void)unlink(path_of("%s/%s" REVERT_TMP, s->dir, name).s);
    }
}

/* Copies
 * ----------------------------------------------------------------------------------- */

static int copy_state_back(const struct ha_snapshot *s,
                           const struct ha_snapshot_info *info, const atomic_bool *cancel,
                           char *why)
{
    struct path from = path_of("%s/snapshots/%s/state.gms", s->dir, s->id),
                to = path_of("%s/" VMDIR_STATE REVERT_TMP, s->dir);
    uint8_t digest[CLAIM_DIGEST_LEN];
    int fd, r = ha_vmdir_copy(from.s, to.s, cancel, why);

    if (r < 0) {
        return r;
    }
    fd = open(to.s, O_RDONLY | O_CLOEXEC);
    r = fd < 0 ? -errno : ha_vmdir_digest(fd, digest);
    if (fd >= 0) {
        close(fd);
    }
    if (r < 0) {
        return complain(why, to.s, r);
    }
    if (memcmp(digest, info->digest, sizeof digest) != 0) {
        ha_text_set(why, REASON_LEN_MAX + 1, from.s,
                    ": is damaged: it is not what snapshot.yaml says", NULL);
        return -EBADMSG;
    }
    return 0;
}

int ha_snapshot_copy_back(const struct ha_snapshot *s, struct ha_snapshot_info *ret_info,
                          const atomic_bool *cancel, char *why)
{
    int r = ha_snapshot_settle(s, why);

    ha_snapshot_drop_copies(s); /* of an attempt that was interrupted */
    if (r == 0) {
        r = ha_snapshot_check(s, why);
    }
    if (r == 0) {
        r = ha_snapshot_read(s, ret_info, why);
    }
    for (unsigned i = 0; r == 0 && i < s->disks.count; i++) {
        char copy[PATH_LEN_MAX * 3 + 4];

        ha_vmdir_flat_name(s->disks.path[i], copy, sizeof copy);
        r = ha_vmdir_copy(path_of("%s/snapshots/%s/%s", s->dir, s->id, copy).s,
                          path_of("%s/%s" REVERT_TMP, s->dir, s->disks.path[i]).s, cancel,
                          why);
    }
    if (r == 0 && ret_info->state) {
        r = copy_state_back(s, ret_info, cancel, why);
    }
    if (r < 0) {
        ha_snapshot_drop_copies(s);
    }
    return r;
}

/* Renames
 * ---------------------------------------------------------------------------------- */

/* Not there: nothing to keep. */
static int keep_old(const struct ha_snapshot *s, const char *name, char *why)
{
    struct path old = path_of("%s/%s" REVERT_OLD, s->dir, name);
    int r = 0;

    if (link(path_of("%s/%s", s->dir, name).s, old.s) < 0) {
        r = errno == ENOENT ? 0 : -errno;
    } else {
        r = sync_dir_of(old);
    }
    return r < 0 ? complain(why, old.s, r) : 0;
}

static int put_new(const struct ha_snapshot *s, const char *name, char *why)
{
    struct path to = path_of("%s/%s", s->dir, name);
    int r = 0;

    if (rename(path_of("%s/%s" REVERT_TMP, s->dir, name).s, to.s) < 0) {
        r = -errno;
    } else {
        r = sync_dir_of(to);
    }
    return r < 0 ? complain(why, to.s, r) : 0;
}

static int mark_done(const struct ha_snapshot *s, char *why)
{
    struct path done = path_of("%s/" REVERT_DONE, s->dir);
    int r = os_file_replace(done.s, "", 0, 0600);

    return r < 0 ? complain(why, done.s, r) : 0;
}

static int put_old_back(const struct ha_snapshot *s, const char *name, char *why)
{
    struct path old = path_of("%s/%s" REVERT_OLD, s->dir, name),
                to = path_of("%s/%s", s->dir, name);
    int r = 0;

    if (rename(old.s, to.s) < 0) {
        if (errno == ENOENT) {
            return 0;
        }
        r = -errno;
    } else {
        (void)unlink(old.s); /* two names of one file: then a rename does nothing */
        r = sync_dir_of(to);
    }
    return r < 0 ? complain(why, to.s, r) : 0;
}

static int drop_old(const struct ha_snapshot *s, const char *name, char *why)
{
    struct path old = path_of("%s/%s" REVERT_OLD, s->dir, name);
    int r = unlink(old.s) < 0 && errno != ENOENT ? -errno : 0;

    return r < 0 ? complain(why, old.s, r) : 0;
}

bool ha_snapshot_torn(const struct ha_snapshot *s)
{
    const char *name;

    for (unsigned i = 0; (name = name_at(s, i)) != NULL; i++) {
        if (access(path_of("%s/%s" REVERT_OLD, s->dir, name).s, F_OK) == 0) {
            return access(path_of("%s/" REVERT_DONE, s->dir).s, F_OK) < 0;
        }
    }
    return false;
}

int ha_snapshot_settle(const struct ha_snapshot *s, char *why)
{
    struct path mark = path_of("%s/" REVERT_DONE, s->dir);
    bool done = access(mark.s, F_OK) == 0;
    const char *name;
    int r = 0;

    for (unsigned i = 0; r == 0 && (name = name_at(s, i)) != NULL; i++) {
        r = done ? drop_old(s, name, why) : put_old_back(s, name, why);
    }
    if (r == 0 && done) {
        r = os_dir_fsync(s->dir); /* the mark goes last */
        if (r == 0 && unlink(mark.s) < 0) {
            r = -errno;
        }
        if (r < 0) {
            r = complain(why, mark.s, r);
        }
    }
    return r;
}

int ha_snapshot_put_back(const struct ha_snapshot *s, const struct ha_snapshot_info *info,
                         bool *ret_undone, char *why)
{
    unsigned count = s->disks.count + (info->state ? 1 : 0);
    char more[REASON_LEN_MAX + 1];
    int r = 0;

    *ret_undone = false;
    for (unsigned i = 0; r == 0 && i < count; i++) {
        r = keep_old(s, name_at(s, i), why);
    }
    for (unsigned i = 0; r == 0 && i < count; i++) {
        r = put_new(s, name_at(s, i), why);
    }
    if (r == 0) {
        r = mark_done(s, why);
    }
    if (r < 0) {
        struct path mark = path_of("%s/" REVERT_DONE, s->dir);

        (void)unlink(mark.s); /* it may be there without being synced */
        *ret_undone = access(mark.s, F_OK) < 0 && ha_snapshot_settle(s, more) == 0;
        ha_snapshot_drop_copies(s);
        return r;
    }
    (void)ha_snapshot_settle(s, more); /* what it cannot delete now, the next one will */
    return 0;
}
