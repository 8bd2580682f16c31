/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The twin's own copies of mirrored disks. They must be what the primary has at position
 * 0. The primary's node writes them to files of the VM's directory, which both reach, the
 * twin's node takes them from there: once while the guest runs, and what differs then
 * once more while it stands. All of it is read for that, so large ones are refused.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/uuid.h"
#include "fencing/claim_store.h"
#include "ha/ha_text.h"
#include "ha/ha_vmmtwin_priv.h"

#define COPY_MAX   (UINT64_C(1) << 30) /* bytes in use, of all disks */
#define BLOCK_SIZE (1 << 20)
#define PIECE_SIZE 4096

struct disk_copy {
    char own[PATH_LEN_MAX * 3], staged[PATH_LEN_MAX * 3];
    bool mirrored, follows;
    int fd; /* twin: opened for its VMM; -1 */
};

struct disks_job {
    struct ha_vmm *vmm;
    uint64_t local_id;
    bool twin, first;
    char dir[PATH_LEN_MAX * 2];
    struct uuid vm;
    struct claim_found found;
    unsigned count;
    struct disk_copy disk[VM_DISKS_MAX];
    int r;
    char why[REASON_LEN_MAX + 1];
};

static void staged_path(const struct ha_local *l, unsigned index, char *ret, size_t cap)
{
    char id[UUID_STR_LEN + 1];

    uuid_format(l->twin->record.id, id);
    snprintf(ret, cap, "%s/.twin-%s.%u", l->dir, id, index);
}

void ha_vmmtwin_unstage(struct ha_local *l)
{
    char path[PATH_LEN_MAX * 3];

    for (unsigned i = 0; i < l->disk_count; i++) {
        if (l->disk[i].mirrored) {
            staged_path(l, i, path, sizeof path);
            (void)unlink(path);
        }
    }
}

/* A file that each node has under this name would be an old one on the twin's. */
static const char *not_shared(const struct ha_local *l,
                              char why[static REASON_LEN_MAX + 1])
{
    for (unsigned i = 0; i < l->disk_count; i++) {
        const struct conf_disk *d = &l->disk[i];
        struct stat st;

        if (d->path[0] == '/' && !d->mirrored && !d->read_only &&
            stat(d->path, &st) == 0 && S_ISREG(st.st_mode)) {
            ha_text_set(why, REASON_LEN_MAX + 1, "its disk ", d->path,
                        " is a file of this node, as far as anybody can tell: put it "
                        "into the VM's directory, or write mirrored: true",
                        NULL);
            return why;
        }
    }
    return NULL;
}

const char *ha_vmmtwin_cannot_copy(const struct ha_local *l,
                                   char why[static REASON_LEN_MAX + 1])
{
    uint64_t used = 0;

    for (unsigned i = 0; i < l->disk_count; i++) {
        struct stat st;

        if (l->disk[i].mirrored && stat(l->disk[i].path, &st) == 0) {
            used += S_ISREG(st.st_mode) ? (uint64_t)st.st_blocks * 512 : COPY_MAX + 1;
        }
    }
    if (used <= COPY_MAX) {
        return not_shared(l, why);
    }
    ha_text_set(why, REASON_LEN_MAX + 1,
                "its mirrored disks are copied while the guest stands still, which this "
                "version does for files with at most 1024 MiB in use; these are block "
                "devices, or have ",
                NULL);
    ha_text_add_u64(why, REASON_LEN_MAX + 1, used >> 20);
    ha_text_add(why, REASON_LEN_MAX + 1, " MiB");
    return why;
}

static int write_all(int fd, const char *data, size_t len, off_t at)
{
    while (len > 0) {
        ssize_t n = pwrite(fd, data, len, at);

        if (n < 0) {
            return -errno;
        }
        data += n;
        at += n;
        len -= (size_t)n;
    }
    return 0;
}

/* Only what differs is written: the second copy is short. */
static int copy_range(int from, int to, off_t at, off_t end, char *block)
{
    char *old = block + BLOCK_SIZE;
    int r = 0;

    while (r == 0 && at < end) {
        size_t want = end - at < BLOCK_SIZE ? (size_t)(end - at) : BLOCK_SIZE;
        ssize_t got = pread(from, block, want, at), had;

        if (got <= 0) {
            return got < 0 ? -errno : -EIO;
        }
        had = pread(to, old, (size_t)got, at);
        for (ssize_t i = 0; r == 0 && i < got; i += PIECE_SIZE) {
            size_t len = got - i < PIECE_SIZE ? (size_t)(got - i) : PIECE_SIZE;

            if (had != got || memcmp(block + i, old + i, len) != 0) {
                r = write_all(to, block + i, len, at + i);
            }
        }
        at += got;
    }
    return r;
}

/* Nothing but zeros there. */
static int clear_range(int to, off_t at, off_t end, char *block)
{
    int r = 0;

    while (r == 0 && at < end) {
        off_t data = lseek(to, at, SEEK_DATA), stop;

        if (data >= end || (data < 0 && errno == ENXIO)) {
            break;
        }
        stop = data < 0 ? -1 : lseek(to, data, SEEK_HOLE);
        data = data < 0 ? at : data;
        stop = stop < 0 || stop > end ? end : stop;
        memset(block, 0, BLOCK_SIZE);
        for (at = data; r == 0 && at < stop; at += BLOCK_SIZE) {
            r = write_all(to, block,
                          stop - at < BLOCK_SIZE ? (size_t)(stop - at) : BLOCK_SIZE, at);
        }
        at = stop;
    }
    return r;
}

/* Holes stay holes, where `to` had none yet. */
static int copy_data(int from, int to, char *block)
{
    struct stat st, had;
    off_t at = 0;
    int r = 0;

    if (fstat(from, &st) < 0 || fstat(to, &had) < 0 ||
        (st.st_size != had.st_size && ftruncate(to, st.st_size) < 0)) {
        return -errno;
    }
    while (r == 0 && at < st.st_size) {
        off_t data = lseek(from, at, SEEK_DATA), hole = st.st_size;

        if (data < 0 && errno == ENXIO) {
            data = st.st_size;
        } else if (data >= 0) {
            hole = lseek(from, data, SEEK_HOLE);
        }
        if (data < 0 || hole < 0) { /* this file system has no such thing */
            data = at;
            hole = st.st_size;
        }
        r = clear_range(to, at, data, block);
        r = r < 0 ? r : copy_range(from, to, data, hole, block);
        at = hole;
    }
    return r < 0 ? r : fsync(to) < 0 ? -errno : 0;
}

static int copy_file(const char *from_path, const char *to_path, char *block)
{
    int from = open(from_path, O_RDONLY | O_CLOEXEC), to, r;

    if (from < 0) {
        return -errno;
    }
    to = open(to_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    r = to < 0 ? -errno : 0;
    if (r == 0) { /* what the first copy has read of it, its VMM has written since */
        (void)posix_fadvise(from, 0, 0, POSIX_FADV_DONTNEED);
    }
    r = r < 0 ? r : copy_data(from, to, block);
    if (to >= 0) {
        close(to);
    }
    close(from);
    return r;
}

static void say_why(struct disks_job *job, const struct disk_copy *d)
{
    ha_text_set(job->why, sizeof job->why, "its disk ", d->own,
                job->twin ? " cannot be made here: " : " cannot be copied for the twin: ",
                strerror(-job->r), NULL);
}

static void copy_work(void *data)
{
    struct disks_job *job = data;
    char *block = malloc(2 * BLOCK_SIZE);

    job->r = block == NULL ? -ENOMEM : 0;
    for (unsigned i = 0; i < job->count && job->r == 0; i++) {
        struct disk_copy *d = &job->disk[i];
        const char *to = job->twin ? d->own : d->staged;

        if (d->mirrored) {
            job->r = copy_file(job->twin ? d->staged : d->own, to, block);
        }
        if (job->r == 0 && job->twin && !job->first && d->follows) {
            d->fd = open(d->own, (d->mirrored ? O_RDWR : O_RDONLY) | O_CLOEXEC);
            job->r = d->fd < 0 ? -errno : 0;
            (void)unlink(d->staged);
        }
        if (job->r < 0) {
            say_why(job, d);
        }
    }
    if (job->r == -ENOMEM && job->why[0] == '\0') {
        ha_text_set(job->why, sizeof job->why, "out of memory", NULL);
    }
    free(block);
}

static void job_end(struct disks_job *job, struct ha_local *l, const char *why)
{
    int fds[VM_DISKS_MAX];
    unsigned count = 0;

    for (unsigned i = 0; i < job->count; i++) {
        if (job->disk[i].fd >= 0 && (why != NULL || l == NULL)) {
            close(job->disk[i].fd);
        } else if (job->disk[i].fd >= 0) {
            fds[count++] = job->disk[i].fd;
        }
    }
    if (l != NULL) {
        ha_vmmtwin_disks(l, fds, why != NULL ? 0 : count, why);
    }
}

/* Also of one that is gone meanwhile: its claim, its end, wait for nothing of this. */
static struct ha_local *local_of(struct disks_job *job)
{
    struct ha_local *l = ha_local_by_id(job->vmm, job->local_id);

    if (l == NULL || l->twin == NULL) {
        return NULL;
    }
    l->twin->busy = false;
    return l->ended || l->stopping ? NULL : l;
}

static void copy_done(void *data)
{
    struct disks_job *job = data;

    job_end(job, local_of(job), job->r < 0 ? job->why : NULL);
    free(job);
}

static void look_work(void *data)
{
    struct disks_job *job = data;

    job->r = claim_store_read(job->dir, job->vm, &job->found, job->why, sizeof job->why);
}

/* R5: not while an earlier owner on this very node could still write to the same copy. */
static void look_done(void *data)
{
    struct disks_job *job = data;
    struct ha_local *l = local_of(job);
    struct claim_disk_verdict verdict = {.reason = CLAIM_DISK_OK};
    struct claim_halt gone[CLAIM_UNEXCLUDED_MAX];
    struct claim_evidence known;
    const char *why = NULL;

    if (l != NULL && job->r == 0 && job->found.have_claim &&
        (l->conf == NULL || conf_vm_has_mirrors(l->conf))) {
        known = ha_local_evidence(l);
        known.halts = gone;
        known.halt_count = ha_local_gone_here(l->vmm, &job->found.claim, gone);
        claim_may_open_mirror(&job->found.claim, l->vmm->self.nodeid, &known, &verdict);
    }
    if (job->r < 0) {
        why = job->why;
    } else if (verdict.reason != CLAIM_DISK_OK) {
        why = "an earlier owner on this node may still write to its copies of the disks; "
              "tried again later";
    }
    if (l != NULL && why == NULL) {
        l->twin->busy = true;
        if (worker_submit(job->vmm->disk_worker, job->local_id, copy_work, copy_done,
                          job) == 0) {
            return;
        }
        l->twin->busy = false;
        why = "out of memory";
    }
    job_end(job, l, why);
    free(job);
}

static void begin(struct ha_local *l, bool first)
{
    struct disks_job *job = calloc(1, sizeof *job);
    int r = -ENOMEM;

    if (job != NULL) {
        job->vmm = l->vmm;
        job->local_id = l->id;
        job->twin = l->twin->twin;
        job->first = first;
        job->vm = l->vm;
        job->count = l->disk_count;
        ha_text_set(job->dir, sizeof job->dir, l->dir, NULL);
        for (unsigned i = 0; i < job->count; i++) {
            struct disk_copy *d = &job->disk[i];

            ha_local_disk_path(l, &l->disk[i], d->own, sizeof d->own);
            staged_path(l, i, d->staged, sizeof d->staged);
            d->mirrored = l->disk[i].mirrored;
            d->follows = (ha_vmmtwin_mirrors(l) >> i & 1) != 0;
            d->fd = -1;
        }
        l->twin->busy = true;
        r = worker_submit(l->vmm->disk_worker, l->id, job->twin ? look_work : copy_work,
                          job->twin ? look_done : copy_done, job);
    }
    if (r < 0) {
        l->twin->busy = false;
        free(job);
        ha_vmmtwin_disks(l, NULL, 0, "out of memory");
    }
}

void ha_vmmtwin_copy(struct ha_local *l)
{
    begin(l, false);
}

void ha_vmmtwin_copy_first(struct ha_local *l)
{
    begin(l, true);
}
