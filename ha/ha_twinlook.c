/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `gemel vm protect --dry-run`: what only the two nodes themselves can see, and would
 * else show when it is tried. The VM's own node says how large its mirrored disks are,
 * and whether the others can be reached from elsewhere at all; then the twin's node looks
 * at the places of its copies. Both are made of the record alone, and change nothing.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ha/ha_pending.h"
#include "ha/ha_text.h"
#include "ha/ha_twincopy.h"
#include "ha/ha_vmmtwin_priv.h"

struct look_job {
    struct ha_vmm *vmm;
    struct ha_twin_look look; /* as it came; then the answer */
    char own[PATH_LEN_MAX * 2];
    unsigned count;
    struct conf_disk disk[VM_DISKS_MAX];
    char path[VM_DISKS_MAX][PATH_LEN_MAX * 3];
};

static void add(struct look_job *job, const char *why)
{
    ha_text_add(job->look.text, sizeof job->look.text,
                job->look.text[0] != '\0' ? "; " : "");
    ha_text_add(job->look.text, sizeof job->look.text, why);
}

static void cannot(struct look_job *job, unsigned i, const char *what, int error)
{
    char why[REASON_LEN_MAX + 1];

    ha_text_set(why, sizeof why, "its disk ", job->path[i], what, strerror(error), NULL);
    add(job, why);
}

/* The VM's own node. */
static void size_work(void *data)
{
    struct look_job *job = data;
    char why[REASON_LEN_MAX + 1];

    for (unsigned i = 0; i < job->count; i++) {
        const struct conf_disk *d = &job->disk[i];
        int r = d->mirrored ? ha_twincopy_measure(job->path[i], &job->look.disk[i]) : 0;

        if (r < 0) {
            cannot(job, i, " cannot be looked at: ", -r);
        } else if ((d->mirrored && ha_twincopy_known(job->own, job->path[i], why) < 0) ||
                   ha_twincopy_is_own(d, job->path[i], why)) {
            add(job, why);
        }
    }
}

/* The twin's. */
static void find_work(void *data)
{
    struct look_job *job = data;
    char why[REASON_LEN_MAX + 1];

    for (unsigned i = 0; i < job->count; i++) {
        if (conf_disk_is_nbd(&job->disk[i])) {
            continue;
        }
        if (job->disk[i].mirrored) {
            int known = ha_twincopy_known(job->own, job->path[i], why);
            const struct ha_twincopy copy = {.path = job->path[i],
                                             .bytes = job->look.disk[i].bytes,
                                             .used = job->look.disk[i].used,
                                             .known = known > 0};

            /* Its own node has said why it has no size. */
            if (copy.bytes != 0 && (known < 0 || !ha_twincopy_look(&copy, why))) {
                add(job, why);
            }
        } else if (access(job->path[i], R_OK) < 0) {
            cannot(job, i, " is not to be had here: ", errno);
        }
    }
    memset(job->look.disk, 0, sizeof job->look.disk);
}

static void look_done(void *data)
{
    struct look_job *job = data;

    job->vmm->ops->twin_looked(job->vmm->ctx, &job->look);
    free(job);
}

static struct look_job *job_of(struct ha_vmm *vmm, const struct ha_vm *vm,
                               const struct ha_twin_look *look)
{
    struct look_job *job = calloc(1, sizeof *job);
    struct conf_vm conf;

    if (job == NULL || !ha_pending_goes_on(vm, &conf)) {
        free(job);
        return NULL;
    }
    job->vmm = vmm;
    job->look = *look;
    job->look.text[0] = '\0';
    ha_vmmtwin_own_path(vmm, vm->uuid, job->own, sizeof job->own);
    job->count = conf.disk_count;
    memcpy(job->disk, conf.disk, sizeof job->disk);
    for (unsigned i = 0; i < job->count; i++) {
        bool absolute = conf.disk[i].path[0] == '/' || conf_disk_is_nbd(&conf.disk[i]);

        ha_text_set(job->path[i], sizeof job->path[i], absolute ? "" : vmm->node.vmroot,
                    absolute ? "" : "/", absolute ? "" : vm->name, absolute ? "" : "/",
                    conf.disk[i].path, NULL);
    }
    return job;
}

void ha_vmm_twin_look(struct ha_vmm *vmm, const struct ha_vm *vm,
                      const struct ha_twin_look *look)
{
    bool sizes = look->step == HA_TWIN_LOOK_ASK && vm->owner == vmm->self.nodeid;
    bool find = look->step == HA_TWIN_LOOK_SIZES && look->to == vmm->self.nodeid;
    struct look_job *job = sizes || find ? job_of(vmm, vm, look) : NULL;

    if (job == NULL) {
        return; /* who asked does not wait for ever */
    }
    job->look.step = sizes ? HA_TWIN_LOOK_SIZES : HA_TWIN_LOOK_FOUND;
    if (find && ha_local_find(vmm, vm->uuid) != NULL) {
        add(job, "an earlier instance of it is still here");
    }
    if (worker_submit(vmm->disk_worker, 0, sizes ? size_work : find_work, look_done,
                      job) < 0) {
        free(job);
    }
}
