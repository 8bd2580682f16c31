/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mirrored disks of a protected VM. Their contents go from one gemel-vmm to the other,
 * with the memory (migrate/); here is what is around that. The primary's node says how
 * large they are. The twin's node makes files of that size, looks whether there is room,
 * and opens them; and it keeps on record after which protection they were equal to the
 * primary's last, so that a gemel-vmm that was that primary, and still is it, sends only
 * what it has written since (vmm/disk_marks.h). That record holds for these very files: a
 * file that was replaced is sent as a whole. Nobody but a gemel-vmm whose own protection
 * it was believes it, so an old one does no harm.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <json-c/json.h>

#include "base/log.h"
#include "base/os.h"
#include "base/uuid.h"
#include "fencing/claim_store.h"
#include "ha/ha_text.h"
#include "ha/ha_twincopy.h"
#include "ha/ha_vmmtwin_priv.h"

#define COPIES_DIR "copies"
#define RECORD_MAX 4096

struct disks_job {
    struct ha_vmm *vmm;
    uint64_t local_id;
    bool twin;
    char dir[PATH_LEN_MAX * 2], record[PATH_LEN_MAX * 2], own[PATH_LEN_MAX * 2];
    struct uuid vm, id;
    struct claim_found found;
    unsigned count;
    bool all_known;
    /* follows: the twin has it before the claim; else it is shared, and comes with it. */
    bool mirrored[VM_DISKS_MAX], follows[VM_DISKS_MAX];
    struct conf_disk conf[VM_DISKS_MAX];
    char path[VM_DISKS_MAX][PATH_LEN_MAX * 3];
    struct ha_twin_disk disk[VM_DISKS_MAX]; /* the primary's */
    struct ha_twin_copies copies;           /* the twin's */
    int r;
    char why[REASON_LEN_MAX + 1];
};

static void say_why(struct disks_job *job, unsigned i, const char *what, int r)
{
    ha_text_set(job->why, sizeof job->why, "its disk ", job->path[i], what, strerror(-r),
                NULL);
    job->r = r;
}

static bool may_be_copy(struct disks_job *job, unsigned i)
{
    struct ha_twincopy copy = {
        .path = job->path[i], .bytes = job->disk[i].bytes, .used = job->disk[i].used};
    /* What an agent before that list made is known by its record; only until there is
     * one. */
    int known = job->all_known ? 1 : ha_twincopy_known(job->own, job->path[i], job->why);

    copy.known = known > 0;
    if (known < 0 || !ha_twincopy_look(&copy, job->why)) {
        job->r = known < 0 ? known : -EEXIST;
        return false;
    }
    return true;
}

/* The primary
 * --------------------------------------------------------------------------------- */

static void measure_work(void *data)
{
    struct disks_job *job = data;

    for (unsigned i = 0; i < job->count && job->r == 0; i++) {
        int r = job->mirrored[i] ? ha_twincopy_measure(job->path[i], &job->disk[i]) : 0;

        if (r < 0) {
            say_why(job, i, " cannot be looked at: ", r);
        } else if (job->mirrored[i] &&
                   (r = ha_twincopy_note(job->own, job->path[i], job->why)) < 0) {
            job->r = r;
        } else if (ha_twincopy_is_own(&job->conf[i], job->path[i], job->why)) {
            job->r = -EINVAL;
        }
    }
}

/* The twin: its copies
 * --------------------------------------------------------------------------------- */

static void close_copies(struct ha_twin_copies *c)
{
    for (unsigned i = 0; i < VM_DISKS_MAX; i++) {
        if (c->fill_fd[i] >= 0) {
            close(c->fill_fd[i]);
        }
        if (c->follow_fd[i] >= 0) {
            close(c->follow_fd[i]);
        }
        c->fill_fd[i] = c->follow_fd[i] = -1;
    }
}

void ha_vmmtwin_close_copies(struct ha_twinning *t)
{
    close_copies(&t->copies);
}

/* ctime: whoever writes to a file, replaces or cuts it, changes that. A device has
 * nothing of the kind, and is none that is known. */
static struct ha_twin_copy copy_of(const struct stat *st)
{
    if (!S_ISREG(st->st_mode)) {
        return (struct ha_twin_copy){.dev = 0};
    }
    return (struct ha_twin_copy){.dev = st->st_dev,
                                 .ino = st->st_ino,
                                 .bytes = (uint64_t)st->st_size,
                                 .changed_ns =
                                     (uint64_t)st->st_ctim.tv_sec * NSEC_PER_SEC +
                                     (uint64_t)st->st_ctim.tv_nsec};
}

/* A file is given the size of the primary's. A block device is as it is. */
static bool give_size(struct disks_job *job, unsigned i, int fd,
                      struct ha_twin_copy *copy)
{
    struct stat st;

    if (fstat(fd, &st) < 0 ||
        (S_ISREG(st.st_mode) && (uint64_t)st.st_size != job->disk[i].bytes &&
         ftruncate(fd, (off_t)job->disk[i].bytes) < 0)) {
        say_why(job, i, " cannot be made here: ", -errno);
        return false;
    }
    *copy = copy_of(&st); /* before it was given its size */
    return true;
}

/* Its name is to be there after a power loss, too: the claim will count on this copy. */
static int keep_name(const char *path)
{
    char dir[PATH_LEN_MAX * 3];
    char *slash;

    snprintf(dir, sizeof dir, "%s", path);
    slash = strrchr(dir, '/');
    slash[slash == dir] = '\0';
    return os_dir_fsync(dir);
}

static bool open_copy(struct disks_job *job, unsigned i)
{
    struct ha_twin_copies *c = &job->copies;
    bool mirrored = job->mirrored[i];
    int r;

    if (mirrored && job->disk[i].bytes == 0) {
        ha_text_set(job->why, sizeof job->why, "its own node does not say how large ",
                    job->path[i], " is", NULL);
        job->r = -EINVAL;
        return false;
    }
    if (mirrored && !may_be_copy(job, i)) {
        return false;
    }
    if (mirrored) {
        c->fill_fd[i] = open(job->path[i], O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        if (c->fill_fd[i] < 0) {
            say_why(job, i, " cannot be made here: ", -errno);
            return false;
        }
        if (!give_size(job, i, c->fill_fd[i], &c->copy[i])) {
            return false;
        }
        r = keep_name(job->path[i]);
        if (r < 0) {
            say_why(job, i, " cannot be made here: ", r);
            return false;
        }
        job->r = ha_twincopy_note(job->own, job->path[i], job->why);
        if (job->r < 0) {
            return false;
        }
    }
    if (!job->follows[i]) {
        return true; /* it comes with the claim */
    }
    c->follow_fd[i] = open(job->path[i], (mirrored ? O_RDWR : O_RDONLY) | O_CLOEXEC);
    if (c->follow_fd[i] < 0) {
        say_why(job, i, " cannot be opened here: ", -errno);
        return false;
    }
    return true;
}

/* The record of what they are equal to
 * ------------------------------------------------------------------ */

static bool is_same(json_object *doc, const struct ha_twin_copy *copy)
{
    return ha_record_number(doc, "dev") == copy->dev &&
           ha_record_number(doc, "ino") == copy->ino &&
           ha_record_number(doc, "bytes") == copy->bytes &&
           ha_record_number(doc, "changed_ns") == copy->changed_ns;
}

/* None, unless it is of these very files, and nobody has written to them since. */
static struct uuid read_base(const struct disks_job *job)
{
    struct uuid id = {{0}}, none = {{0}};
    json_object *doc, *list = NULL;
    char text[RECORD_MAX];
    size_t len = 0;
    bool good;

    if (os_file_read(job->record, text, sizeof text - 1, &len) < 0) {
        return none;
    }
    text[len] = '\0';
    doc = json_tokener_parse(text);
    good = doc != NULL && ha_record_uuid(doc, "transfer", &id) &&
           json_object_object_get_ex(doc, "disks", &list) &&
           json_object_is_type(list, json_type_array) &&
           json_object_array_length(list) == job->count;
    for (unsigned i = 0; good && i < job->count; i++) {
        good = !job->mirrored[i] ||
               (job->copies.copy[i].dev != 0 &&
                is_same(json_object_array_get_idx(list, i), &job->copies.copy[i]));
    }
    json_object_put(doc);
    return good ? id : none;
}

static void write_work(void *data)
{
    struct disks_job *job = data;
    json_object *doc = json_object_new_object(), *list = json_object_new_array();
    char dir[PATH_LEN_MAX * 2];
    const char *text;

    for (unsigned i = 0; i < job->count; i++) {
        json_object *one = json_object_new_object();
        struct ha_twin_copy copy = {.dev = 0};
        struct stat st;

        if (job->mirrored[i] && stat(job->path[i], &st) == 0) {
            copy = copy_of(&st);
        }
        ha_record_put_number(one, "dev", copy.dev);
        ha_record_put_number(one, "ino", copy.ino);
        ha_record_put_number(one, "bytes", copy.bytes);
        ha_record_put_number(one, "changed_ns", copy.changed_ns);
        json_object_array_add(list, one);
    }
    ha_record_put_uuid(doc, "transfer", job->id);
    json_object_object_add(doc, "disks", list);
    text = json_object_to_json_string_ext(doc, JSON_C_TO_STRING_PLAIN);
    ha_text_set(dir, sizeof dir, job->vmm->node.state_dir, "/" COPIES_DIR, NULL);
    job->r = os_mkdir_p(dir, 0700);
    job->r = job->r < 0 ? job->r : os_file_replace(job->record, text, strlen(text), 0600);
    json_object_put(doc);
}

static void write_done(void *data)
{
    struct disks_job *job = data;

    struct ha_local *l = ha_local_by_id(job->vmm, job->local_id);

    if (job->r < 0) { /* the next protection sends all of them */
        log_warn("%s: %s", job->record, strerror(-job->r));
    }
    free(job);
    if (l != NULL) {
        ha_local_gone(l);
    }
}

/* Jobs
 * --------------------------------------------------------------------------------------
 */

static void copies_work(void *data)
{
    struct disks_job *job = data;
    bool good = true;

    job->all_known = access(job->own, F_OK) < 0 && access(job->record, F_OK) == 0;
    for (unsigned i = 0; i < job->count && good; i++) {
        good = open_copy(job, i);
    }
    if (good) {
        job->copies.base = read_base(job);
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

static void job_end(struct disks_job *job, struct ha_local *l, const char *why)
{
    if (l != NULL && why == NULL) {
        l->twin->copies = job->copies;
        memcpy(l->twin->disk, job->disk, sizeof job->disk);
    } else {
        close_copies(&job->copies);
    }
    if (l != NULL) {
        ha_vmmtwin_disks(l, why);
    }
    free(job);
}

static void job_done(void *data)
{
    struct disks_job *job = data;

    job_end(job, local_of(job), job->r < 0 ? job->why : NULL);
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
        if (worker_submit(job->vmm->disk_worker, job->local_id, copies_work, job_done,
                          job) == 0) {
            return;
        }
        l->twin->busy = false;
        why = "out of memory";
    }
    job_end(job, l, why);
}

void ha_vmmtwin_own_path(const struct ha_vmm *vmm, struct uuid vm, char *ret_path,
                         size_t cap)
{
    char text[UUID_STR_LEN + 1];

    uuid_format(vm, text);
    ha_text_set(ret_path, cap, vmm->node.state_dir, "/" COPIES_DIR "/", text, ".own",
                NULL);
}

static struct disks_job *job_of(struct ha_local *l)
{
    struct disks_job *job = calloc(1, sizeof *job);
    char vm[UUID_STR_LEN + 1];

    if (job == NULL) {
        return NULL;
    }
    job->vmm = l->vmm;
    job->local_id = l->id;
    job->twin = l->twin->twin;
    job->vm = l->vm;
    job->id = l->twin->record.id;
    job->count = l->disk_count;
    job->copies = l->twin->copies;
    ha_text_set(job->dir, sizeof job->dir, l->dir, NULL);
    uuid_format(l->vm, vm);
    ha_text_set(job->record, sizeof job->record, l->vmm->node.state_dir,
                "/" COPIES_DIR "/", vm, ".json", NULL);
    ha_vmmtwin_own_path(l->vmm, l->vm, job->own, sizeof job->own);
    for (unsigned i = 0; i < job->count; i++) {
        ha_local_disk_path(l, &l->disk[i], job->path[i], sizeof job->path[i]);
        job->mirrored[i] = l->disk[i].mirrored;
        job->follows[i] = (ha_vmmtwin_mirrors(l) >> i & 1) != 0;
        job->conf[i] = l->disk[i];
        job->disk[i] = job->twin ? l->twin->record.disk[i] : (struct ha_twin_disk){0};
    }
    return job;
}

void ha_vmmtwin_look_at_disks(struct ha_local *l)
{
    struct disks_job *job = job_of(l);

    l->twin->busy =
        job != NULL &&
        worker_submit(l->vmm->disk_worker, l->id, job->twin ? look_work : measure_work,
                      job->twin ? look_done : job_done, job) == 0;
    if (!l->twin->busy) {
        free(job);
        ha_vmmtwin_disks(l, "out of memory");
    }
}

bool ha_vmmtwin_ended(struct ha_local *l)
{
    struct disks_job *job;

    if (l->twin == NULL || !l->twin->twin || !l->twin->equal) {
        return false;
    }
    l->twin->equal = false;
    job = job_of(l);
    if (job == NULL ||
        worker_submit(l->vmm->disk_worker, l->id, write_work, write_done, job) < 0) {
        free(job);
        return false;
    }
    l->phase = LOCAL_ENDING;
    return true;
}
