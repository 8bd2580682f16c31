/* SPDX-License-Identifier: Apache-2.0 */
/* Disks, on the thread that owns them: what comes for them, what they answer, and what
 * becomes of a request that failed. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "vmm/engine_priv.h"

/* Files and connections
 * ------------------------------------------------------------------------- */

/* A start that is frozen is finished first. */
bool engine_waits_no_more(void *engine)
{
    struct engine *e = engine;
    int state = atomic_load(&e->state);

    return state == RUN_ENDING || (state == RUN_FREEZING && !e->starts);
}

/* What came for the disk, -1: nothing; it is for the newest claim. */
static int disk_fd_take(struct engine *e, unsigned i)
{
    int fd;

    pthread_mutex_lock(&e->lock);
    fd = e->disk_fd[i];
    e->disk_fd[i] = -1;
    e->disk[i].epoch = e->run.epoch;
    pthread_mutex_unlock(&e->lock);
    return fd;
}

int engine_open_disk(struct engine *e, unsigned i, struct vmm_error *err)
{
    const struct engine_disk_conf *d = &e->conf.disk[i];
    int fd;

    fd = disk_fd_take(e, i);
    if (fd >= 0 || disks_asks_again(e->disks, i)) {
        return disks_take(e->disks, i, fd, &e->disk[i], err);
    }
    if (e->conf.disks_by_path) {
        int r = disks_file(d->kind, d->path, d->read_only, &fd, err);

        return r < 0 ? r : disks_take(e->disks, i, fd, &e->disk[i], err);
    }
    if (e->tape_follows || e->epoch_follows) {
        return vmm_fail(err, -ENODATA, "disk %s: nothing came to open it with", d->path);
    }
    return vmm_fail(err, -ENODATA,
                    "disk %s did not come with START; this gemel-vmm opens none by "
                    "itself: restart the agent, it is older",
                    d->path);
}

/* True: it has its connection, or the guest is to hear that it has none. */
static bool reconnect_disk(struct engine *e, unsigned i)
{
    const struct engine_disk_conf *conf = &e->conf.disk[i];
    const char *lost = disks_lost(e->disks, i);
    char reason[REASON_LEN_MAX + 1];
    struct vmm_error err = {""};
    int fd = disk_fd_take(e, i), r = -ENOTCONN;

    if (!lost && (fd < 0 || !disks_outdated(e->disks, i, &e->disk[i]))) {
        if (fd >= 0) {
            close(fd);
        }
        return true;
    }
    if (fd < 0 && e->conf.disks_by_path && !disks_asks_again(e->disks, i)) {
        (void)disks_file(conf->kind, conf->path, conf->read_only, &fd, &err);
    }
    if (fd >= 0 || disks_asks_again(e->disks, i)) {
        r = disks_take(e->disks, i, fd, &e->disk[i], &err);
    }
    if (r == -EINTR) {
        return false;
    }
    if (r == -ESHUTDOWN) { /* a later owner has it: nothing to try again */
        return engine_end_run(e, RUN_END_HOST, err.text);
    }
    if (r == 0 || !lost) {
        return true;
    }
    if (conf->on_error != ENGINE_DISK_PAUSE) {
        return true;
    }
    if (!err.text[0]) {
        (void)vmm_fail(&err, -ENOTCONN, "disk %s: %s", conf->path, lost);
    }
    snprintf(reason, sizeof reason, "%.200s; the VM is paused, thaw tries again",
             err.text);
    (void)engine_step(e, RUN_EV_FREEZE, 0, RUN_END_NONE, reason);
    return false;
}

bool engine_reconnect(struct engine *e)
{
    bool good = true;

    for (unsigned i = 0; i < e->conf.disk_count; i++) {
        /* It writes: not past a lease. */
        good = engine_may_run(e) && reconnect_disk(e, i) && good;
    }
    return good;
}

/* Answers
 * ------------------------------------------------------------------------------------ */

/* Trouble that somebody could do something about; others are the guest's mistakes. */
static bool is_trouble(uint32_t status)
{
    return status == EIO || status == ENOSPC || status == EDQUOT || status == ENODEV ||
           status == ENXIO;
}

/* True: the request is kept, the guest does not hear of it now. */
static bool disk_trouble(struct engine *e, unsigned disk,
                         const struct blk_request *request, uint32_t status)
{
    const struct engine_disk_conf *conf = &e->conf.disk[disk];
    char reason[REASON_LEN_MAX + 1];
    const char *lost = disks_lost(e->disks, disk);
    bool again = request->op == REQUEST_FLUSH ? disks_may_flush_again(e->disks, disk)
                                              : !disks_latched(e->disks, disk);
    bool pause =
        conf->on_error == ENGINE_DISK_PAUSE && again && e->held_count < ENGINE_HELD_MAX;
    /* What was held is answered already: nothing is the guest's mistake any more. */
    bool ours = request->slot == DISK_HOLD_SLOT;

    if ((!is_trouble(status) && !ours) ||
        (!pause && conf->on_error != ENGINE_DISK_STOP)) {
        return false;
    }
    snprintf(reason, sizeof reason, "disk %.100s: %.90s%s", conf->path,
             lost ? lost : strerror((int)status),
             pause ? "; the VM is paused, thaw tries again" : "");
    if (!pause) {
        return engine_end_run(e, RUN_END_HOST, reason);
    }
    e->held[e->held_count].disk = disk;
    e->held[e->held_count++].request = *request;
    (void)engine_step(e, RUN_EV_FREEZE, 0, RUN_END_NONE, reason);
    return true;
}

void engine_retry_held(struct engine *e)
{
    for (unsigned i = 0; i < e->held_count; i++) {
        disks_submit(e->disks, e->held[i].disk, &e->held[i].request);
    }
    e->held_count = 0;
}

void engine_on_blk_done(void *ctx, unsigned disk, const struct blk_request *request,
                        uint32_t status, const uint8_t *data, uint32_t len)
{
    struct engine *e = ctx;
    struct dev_input in = {.type = INPUT_BLK_DONE,
                           .slot = request->slot,
                           .generation = request->generation,
                           .status = status,
                           .data = data,
                           .len = len};

    if (e->tape && (atomic_load(&e->state) == RUN_FOLLOWING || engine_repair_writes(e))) {
        engine_tape_mirrored(e, disk, request, status);
        return;
    }
    if (request->slot == DISK_HOLD_SLOT && request->op == REQUEST_DISCARD) {
        disks_hold_drop(e->disks, disk, request); /* advice, which may be ignored */
        return;
    }
    if (status != 0 && disk_trouble(e, disk, request, status)) {
        return;
    }
    if (request->slot == DISK_HOLD_SLOT) {
        disks_hold_failed(e->disks, disk, request);
        return;
    }
    if (e->tape && engine_tape_keep(e, disk, request, &in)) {
        return;
    }
    (void)machine_input(e->machine, machine_disk_dev(e->machine, disk), &in);
}

/* Until nothing is under way or (`only`) the state is another. */
static void drain_while(struct engine *e, int state, bool only)
{
    (void)disks_reap(e->disks, engine_on_blk_done, e);
    while (disks_in_flight(e->disks) > 0) {
        atomic_store(&e->kicked, false);
        if (only && atomic_load(&e->state) != state) {
            return;
        }
        engine_wait(e, UINT64_MAX);
        (void)disks_reap(e->disks, engine_on_blk_done, e);
    }
}

void engine_drain_disks(struct engine *e)
{
    drain_while(e, 0, false);
}

void engine_settle_disks(struct engine *e, int state)
{
    disks_sync(e->disks);
    drain_while(e, state, true);
    if (state == RUN_FREEZING && atomic_load(&e->state) == state) {
        disks_flush(e->disks);
        drain_while(e, state, true);
    }
}
