/* SPDX-License-Identifier: Apache-2.0 */
/* What a gemel-vmm is given, because in its sandbox it takes nothing by itself: a user of
 * its own, a directory for its logs, its disks. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/nbd_uri.h"
#include "ha/ha_snapshot.h"
#include "ha/ha_storage.h"
#include "ha/ha_text.h"
#include "ha/ha_vmm_priv.h"

/* The user
 * ------------------------------------------------------------------------------------ */

static bool uid_taken(const struct ha_vmm *vmm, uint32_t uid)
{
    for (const struct ha_local *l = vmm->head; l != NULL; l = l->next) {
        if (l->uid == uid || l->storage_uid == uid) {
            return true;
        }
    }
    return false;
}

uint32_t ha_vmmfiles_uid(const struct ha_vmm *vmm)
{
    uint32_t uid = vmm->node.vm_uid_base;

    if (vmm->node.insecure_lab || geteuid() != 0) {
        return 0;
    }
    while (uid_taken(vmm, uid)) {
        uid++; /* at most as many as there are VMs here */
    }
    return uid;
}

/* Logs
 * ------------------------------------------------------------------------------------ */

/* What an earlier instance left, under another user, is the VM's again. Nothing but plain
 * files of one name: the directory was in the hands of a VMM. */
static int hand_over_files(int dir_fd, uint32_t uid)
{
    int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    struct dirent *entry;
    int r = 0;

    if (dir == NULL) {
        r = -errno;
        if (fd >= 0) {
            close(fd);
        }
        return r;
    }
    while ((entry = readdir(dir)) != NULL) {
        struct stat st;

        if (fstatat(dir_fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
            S_ISREG(st.st_mode) && st.st_nlink == 1 && st.st_uid != uid &&
            fchownat(dir_fd, entry->d_name, uid, uid, AT_SYMLINK_NOFOLLOW) < 0) {
            r = -errno;
        }
    }
    closedir(dir);
    return r;
}

static int make_log_dir(const char *path, uint32_t uid)
{
    struct stat st;
    int fd, r = 0;

    if (mkdir(path, 0750) < 0 && errno != EEXIST) {
        return -errno;
    }
    if (uid == 0) {
        return 0;
    }
    fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0) {
        r = -errno;
        goto out;
    }
    if (st.st_uid != uid && fchown(fd, uid, uid) < 0) {
        r = -errno;
    }
    if (r == 0) {
        r = hand_over_files(fd, uid);
    }
out:
    if (fd >= 0) {
        close(fd);
    }
    return r;
}

int ha_vmmfiles_logs(struct ha_local *l, char *why)
{
    int r;

    snprintf(l->log_dir, sizeof l->log_dir, "%s/%s", l->vmm->node.log_dir, l->name);
    r = make_log_dir(l->log_dir, l->uid);
    if (r < 0) {
        ha_text_set(why, REASON_LEN_MAX + 1, "its directory for logs, ", l->log_dir, ": ",
                    strerror(-r), NULL);
    }
    return r;
}

/* Disks
 * ------------------------------------------------------------------------------------ */

struct disk_job {
    struct ha_vmm *vmm;
    uint64_t local_id;
    unsigned count, opened;
    struct {
        char path[PATH_LEN_MAX * 3];
        bool read_only, nbd, image, skip;
        int fd;
    } disk[VM_DISKS_MAX];
    struct ha_snapshot revert; /* one that was interrupted: dir and disks; no dir: thaw */
    char why[REASON_LEN_MAX + 1];
};

/* The job's why. 0 or -errno. */
static int connect_disk(struct disk_job *job, const char *text, int *ret_fd)
{
    struct nbd_uri uri;
    const char *why = nbd_uri_parse(text, &uri);
    int r = why != NULL ? -EINVAL : nbd_uri_connect(&uri, NBD_CONNECT_MS, ret_fd);

    if (r < 0) {
        ha_text_set(job->why, sizeof job->why, "cannot connect disk ", text, ": ",
                    why != NULL ? why : strerror(-r), NULL);
    }
    return r;
}

static void open_work(void *data)
{
    struct disk_job *job = data;

    if (job->revert.dir[0] != '\0') {
        if (ha_snapshot_settle(&job->revert, job->why) < 0) {
            return;
        }
        ha_snapshot_drop_copies(&job->revert);
    }
    for (unsigned i = 0; i < job->count; i++) {
        int flags = job->disk[i].read_only ? O_RDONLY : O_RDWR;

        job->disk[i].fd = -1;
        if (job->disk[i].skip) {
            job->opened++;
            continue;
        }
        if (job->disk[i].nbd) {
            if (connect_disk(job, job->disk[i].path, &job->disk[i].fd) < 0) {
                return;
            }
            job->opened++;
            continue;
        }
        job->disk[i].fd = open(job->disk[i].path, flags | O_CLOEXEC);
        if (job->disk[i].fd < 0) {
            ha_text_set(job->why, sizeof job->why, "cannot open disk ", job->disk[i].path,
                        job->disk[i].read_only ? " for reading: " : " for writing: ",
                        strerror(errno), NULL);
            return;
        }
        job->opened++;
    }
}

/* Images of qcow2 disks become connections to the daemon that serves them. 0 or -errno,
 * with the job's why. */
static int serve_images(struct disk_job *job, struct ha_local *l)
{
    int image[VM_DISKS_MAX], r = 0;
    bool any = false;

    for (unsigned i = 0; i < job->count; i++) {
        image[i] = job->disk[i].image ? job->disk[i].fd : -1;
        any = any || job->disk[i].image;
    }
    if (any && !ha_storage_up(l)) {
        r = ha_storage_spawn(l, image, job->why);
    }
    for (unsigned i = 0; r == 0 && i < job->count; i++) {
        if (!job->disk[i].image) {
            continue;
        }
        if (job->disk[i].fd >= 0) {
            close(job->disk[i].fd);
            job->disk[i].fd = -1;
        }
        r = ha_storage_connect(l, &job->disk[i].fd);
        if (r < 0) {
            ha_text_set(job->why, sizeof job->why,
                        "cannot reach the qemu-storage-daemon "
                        "of disk ",
                        job->disk[i].path, ": ", strerror(-r), NULL);
        }
    }
    return r;
}

static void send_disks(struct disk_job *job, struct ha_local *l)
{
    bool good = job->opened == job->count && serve_images(job, l) == 0;
    int fds[VM_DISKS_MAX];

    for (unsigned i = 0; i < job->count; i++) {
        fds[i] = job->disk[i].fd;
    }
    if (good) {
        ha_vmmlink_start(l, fds, job->count);
    } else if (l->thawing) {
        log_warn("vm %s: %s", l->name, job->why);
        ha_vmmlink_start(l, NULL, 0);
    } else {
        ha_local_fail(l, job->why);
    }
}

static void open_done(void *data)
{
    struct disk_job *job = data;
    struct ha_local *l = ha_local_by_id(job->vmm, job->local_id);

    if (l != NULL && !l->stopping && !l->ended && l->phase == LOCAL_STARTING) {
        send_disks(job, l);
    }
    for (unsigned i = 0; i < job->count; i++) {
        if (job->disk[i].fd >= 0) {
            close(job->disk[i].fd); /* the VMM has its own; ours would outlive it */
        }
    }
    free(job);
}

bool ha_vmmfiles_connects(const struct ha_local *l)
{
    for (unsigned i = 0; i < l->disk_count; i++) {
        if (conf_disk_is_nbd(&l->disk[i])) {
            return true;
        }
    }
    return ha_storage_wanted(l);
}

/* The disks that a revert may have been replacing when its agent was killed. */
static void look_for_revert(const struct ha_local *l, struct ha_snapshot *ret_revert)
{
    struct ha_vmdir_disks *disks = &ret_revert->disks;

    ha_text_set(ret_revert->dir, sizeof ret_revert->dir, l->dir, NULL);
    for (unsigned i = 0; i < l->disk_count; i++) {
        if (!l->disk[i].read_only && l->disk[i].path[0] != '/' &&
            !conf_disk_is_nbd(&l->disk[i])) {
            ha_text_set(disks->path[disks->count++], sizeof disks->path[0],
                        l->disk[i].path, NULL);
        }
    }
}

int ha_vmmfiles_start(struct ha_local *l)
{
    struct disk_job *job = calloc(1, sizeof *job);
    int r;

    if (job == NULL) {
        return -ENOMEM;
    }
    job->vmm = l->vmm;
    job->local_id = l->id;
    job->count = l->disk_count;
    if (!l->thawing) {
        look_for_revert(l, &job->revert);
    }
    for (unsigned i = 0; i < job->count; i++) {
        ha_local_disk_path(l, &l->disk[i], job->disk[i].path, sizeof job->disk[i].path);
        job->disk[i].fd = -1;
        job->disk[i].read_only = l->disk[i].read_only;
        job->disk[i].nbd = conf_disk_is_nbd(&l->disk[i]);
        job->disk[i].image = l->disk[i].format == CONF_DISK_QCOW2;
        job->disk[i].skip = job->disk[i].image && ha_storage_up(l);
    }
    r = worker_submit(l->vmm->disk_worker, ha_local_open_key(l), open_work, open_done,
                      job);
    if (r < 0) {
        free(job);
    }
    return r;
}
