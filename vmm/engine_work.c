/* SPDX-License-Identifier: Apache-2.0 */
/* What other threads ask of the one that owns the machine, while the guest stands still:
 * to save it, to look at a state that it is to go on from, to come to a stop. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/loop.h"
#include "vmm/engine_priv.h"
#include "vmm/engine_state.h"

int engine_state_fd(const struct engine *e)
{
    return e->state_fd;
}

/* Under lock. In which state this may be asked for. */
static bool work_fits(const struct engine *e, enum engine_work kind)
{
    return e->run.state == (kind == WORK_CHECK ? RUN_CREATED : RUN_FROZEN);
}

/* Under lock. */
static int work_ask(struct engine *e, enum engine_work kind, bool waited, int fd,
                    const char *name, enum engine_ram_place place)
{
    if (!work_fits(e, kind)) {
        return -EINVAL;
    }
    if (e->work.kind != WORK_NONE) {
        return -EBUSY;
    }
    e->work.kind = kind;
    e->work.waited = waited;
    e->work.done = false;
    e->work.fd = fd;
    e->work.place = place;
    snprintf(e->work.name, sizeof e->work.name, "%s", name);
    return 0;
}

int engine_save(struct engine *e, int fd, const char *name, enum engine_ram_place place)
{
    int r;

    pthread_mutex_lock(&e->lock);
    r = work_ask(e, WORK_SAVE, false, fd, name, place);
    if (r == 0) {
        e->saved_valid = false;
    }
    pthread_mutex_unlock(&e->lock);
    if (r < 0) {
        close(fd);
        return r;
    }
    engine_kick(e);
    return 0;
}

bool engine_take_saved(struct engine *e, struct engine_saved *ret_saved)
{
    bool valid;

    pthread_mutex_lock(&e->lock);
    valid = e->saved_valid;
    if (valid) {
        *ret_saved = e->saved;
        e->saved_valid = false;
    }
    pthread_mutex_unlock(&e->lock);
    return valid;
}

/* Asks, and waits for as long as it takes: the owner does nothing else. */
static int work_wait(struct engine *e, enum engine_work kind, int fd, const char *name,
                     enum engine_ram_place place, struct engine_saved *ret_out)
{
    int r;

    pthread_mutex_lock(&e->lock);
    r = work_ask(e, kind, true, fd, name, place);
    pthread_mutex_unlock(&e->lock);
    if (r < 0) {
        *ret_out = (struct engine_saved){.result = r};
        return vmm_fail(&ret_out->err, r, "%s",
                        r == -EBUSY ? "the VM's state is being saved or looked at already"
                        : kind == WORK_CHECK ? "only a VM that has not run takes a state"
                                             : "only a frozen VM can be saved");
    }
    engine_kick(e);
    pthread_mutex_lock(&e->lock);
    while (!e->work.done) {
        pthread_cond_wait(&e->change_cond, &e->lock);
    }
    *ret_out = e->work.out;
    e->work.kind = WORK_NONE;
    pthread_mutex_unlock(&e->lock);
    return ret_out->result;
}

int engine_save_wait(struct engine *e, int fd, const char *name,
                     enum engine_ram_place place, struct engine_saved *ret_saved)
{
    return work_wait(e, WORK_SAVE, fd, name, place, ret_saved);
}

int engine_state_check(struct engine *e, int fd, const char *name,
                       enum engine_ram_place place, struct vmm_error *err)
{
    struct engine_saved out;
    int r = work_wait(e, WORK_CHECK, fd, name, place, &out);

    if (r < 0) {
        *err = out.err;
    }
    return r;
}

void engine_restore(struct engine *e, int fd, const char *name,
                    enum engine_ram_place place)
{
    int old = fd;

    pthread_mutex_lock(&e->lock);
    if (e->run.state == RUN_CREATED) {
        old = e->restore_fd;
        e->restore_fd = fd;
        e->restore_place = place;
        snprintf(e->restore_name, sizeof e->restore_name, "%s", name);
    }
    pthread_mutex_unlock(&e->lock);
    if (old >= 0) {
        close(old);
    }
}

/* The owner's side
 * ---------------------------------------------------------------------------------- */

static void save(struct engine *e, struct engine_saved *out)
{
    if (e->held_count > 0) {
        out->result =
            vmm_fail(&out->err, -EBUSY,
                     "a request that disk %s failed waits to be tried again; thaw first",
                     e->conf.disk[e->held[0].disk].path);
        return;
    }
    if (e->tape) {
        engine_tape_stand(e);
    }
    out->result = engine_state_save(e, e->work.fd, e->work.name, e->work.place,
                                    &out->bytes, &out->err);
    if (out->result == 0 && fsync(e->work.fd) < 0) {
        out->result = vmm_fail(&out->err, -errno, "cannot sync %s: %s", e->work.name,
                               strerror(errno));
    }
}

/* KVM is asked now whether it takes this state: START, which sets all of it again, comes
 * when there is no way back. */
static void check(struct engine *e, struct engine_saved *out)
{
    if (lseek(e->work.fd, 0, SEEK_SET) < 0) {
        out->result = vmm_fail(&out->err, -errno, "cannot read %s: %s", e->work.name,
                               strerror(errno));
        return;
    }
    out->result =
        engine_state_decode(e, e->work.fd, e->work.name, e->work.place, &out->err);
    if (out->result == 0) {
        out->result = engine_state_apply(e, &out->err);
    }
    if (out->result < 0) {
        engine_state_forget(e);
    }
}

/* Under lock. */
static void work_done(struct engine *e, const struct engine_saved *out)
{
    if (e->work.waited) {
        e->work.out = *out;
        e->work.done = true;
        pthread_cond_broadcast(&e->change_cond);
        return;
    }
    close(e->work.fd);
    e->work.kind = WORK_NONE;
    e->saved = *out;
    e->saved_valid = true;
    engine_tell_loop(e);
}

/* Under lock. */
static bool work_waits(const struct engine *e)
{
    return e->work.kind != WORK_NONE && !e->work.done;
}

/* A THAW or START that comes now waits until this is done: nothing has run since it was
 * asked for. `work` changes only when it is NONE or done. */
void engine_idle_work(struct engine *e)
{
    struct engine_saved out = {0};
    bool any;

    pthread_mutex_lock(&e->lock);
    any = work_waits(e);
    pthread_mutex_unlock(&e->lock);
    if (!any) {
        return;
    }
    if (e->work.kind == WORK_SAVE) {
        save(e, &out);
    } else {
        check(e, &out);
    }
    pthread_mutex_lock(&e->lock);
    work_done(e, &out);
    pthread_mutex_unlock(&e->lock);
}

void engine_idle_over(struct engine *e)
{
    struct engine_saved out = {0};

    pthread_mutex_lock(&e->lock);
    if (work_waits(e)) {
        out.result = vmm_fail(&out.err, -EINTR, "the VM has ended");
        work_done(e, &out);
    }
    pthread_mutex_unlock(&e->lock);
}

/* Freezing
 * ------------------------------------------------------------------------------------ */

enum run_answer engine_freeze_try(struct engine *e, const char *reason)
{
    return engine_step(e, RUN_EV_FREEZE_TRY, 0, RUN_END_NONE, reason);
}

enum run_answer engine_freeze_undo(struct engine *e, const char *reason)
{
    return engine_step(e, RUN_EV_UNFREEZE, 0, RUN_END_NONE, reason);
}

static int tell_hung(const struct engine *e, uint32_t timeout_ms, struct vmm_error *err)
{
    unsigned disk = disks_waited_for(e->disks);

    return vmm_fail(err, -ETIMEDOUT,
                    "not frozen after %u ms: disk %s does not answer (%u requests under "
                    "way)",
                    timeout_ms,
                    disk < VM_DISKS_MAX ? e->conf.disk[disk].path : "(on the network)",
                    disks_in_flight(e->disks));
}

int engine_freeze_wait(struct engine *e, uint32_t timeout_ms, struct vmm_error *err)
{
    uint64_t end = loop_now_ns() + timeout_ms * NSEC_PER_MSEC;
    const struct timespec at = {.tv_sec = (time_t)(end / NSEC_PER_SEC),
                                .tv_nsec = (long)(end % NSEC_PER_SEC)};
    enum run_state state;
    int r = 0;

    pthread_mutex_lock(&e->lock);
    while (e->run.state == RUN_FREEZING && r == 0) {
        r = pthread_cond_timedwait(&e->change_cond, &e->lock, &at);
    }
    state = e->run.state;
    pthread_mutex_unlock(&e->lock);
    if (state == RUN_FREEZING) {
        return tell_hung(e, timeout_ms, err);
    }
    if (state != RUN_FROZEN) {
        return vmm_fail(err, -EINVAL, "the VM does not freeze, it is %s",
                        run_state_str(state));
    }
    return disks_flush_failed(e->disks)
               ? vmm_fail(err, -EIO, "a FLUSH of a disk has failed: its data is not safe")
               : 0;
}
