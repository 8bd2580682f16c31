/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/engine_epoch.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bug.h"
#include "vmm/engine_priv.h"
#include "vmm/engine_ram.h"
#include "vmm/engine_state.h"

struct epoch_run {
    const struct engine_epoch *epoch;
    struct machine_ops ops; /* the plain ones, but for what goes out */
    uint64_t *dirty;        /* a bit per page of RAM, whole words */
    size_t words;
    uint8_t *state; /* FT_STATE_MAX */
};

static struct epoch_run *run_of(void *ctx)
{
    return ((struct engine *)ctx)->epoch;
}

#define EPOCH_CALL(r, name, ...) (r)->epoch->ops->name((r)->epoch->ctx, ##__VA_ARGS__)

/* What goes out
 * ----------------------------------------------------------------------------- */

static void op_serial_out(void *ctx, const uint8_t *bytes, uint32_t len)
{
    EPOCH_CALL(run_of(ctx), output,
               &(struct tape_out){.kind = TAPE_OUT_SERIAL, .data = bytes, .len = len});
}

static void op_debug_out(void *ctx, const uint8_t *bytes, uint32_t len)
{
    EPOCH_CALL(run_of(ctx), output,
               &(struct tape_out){.kind = TAPE_OUT_DEBUG, .data = bytes, .len = len});
}

static void op_net_send(void *ctx, unsigned nic, unsigned queue, const uint8_t *frame,
                        uint32_t len)
{
    EPOCH_CALL(run_of(ctx), output,
               &(struct tape_out){.kind = TAPE_OUT_FRAME,
                                  .unit = nic,
                                  .queue = queue,
                                  .data = frame,
                                  .len = len});
}

static void op_blk_submit(void *ctx, unsigned disk, const struct blk_request *request)
{
    uint64_t number = 0;

    if (request->op != REQUEST_READ) {
        EPOCH_CALL(run_of(ctx), write, disk, request);
        number = EPOCH_CALL(run_of(ctx), holds, disk);
    }
    if (number > 0) {
        engine_unsent_add(ctx, disk, request, number);
    } else {
        engine_machine_ops.blk_submit(ctx, disk, request);
    }
}

/* Coming and going
 * --------------------------------------------------------------------------- */

static void epoch_free(struct epoch_run *r)
{
    if (r) {
        free(r->dirty);
        free(r->state);
    }
    free(r);
}

void engine_epoch_close(struct engine *e)
{
    epoch_free(e->epoch);
    epoch_free(e->epoch_over);
    e->epoch = e->epoch_over = NULL;
}

static struct epoch_run *epoch_new(struct engine *e, const struct engine_epoch *epoch)
{
    struct epoch_run *r = calloc(1, sizeof *r);

    if (r) {
        r->epoch = epoch;
        r->ops = engine_machine_ops;
        r->ops.serial_out = op_serial_out;
        r->ops.debug_out = op_debug_out;
        r->ops.net_send = op_net_send;
        r->ops.blk_submit = op_blk_submit;
        r->words = e->conf.ram_len / GMEM_PAGE_SIZE / 64 + 1;
        r->dirty = calloc(r->words, sizeof *r->dirty);
        r->state = malloc(FT_STATE_MAX);
    }
    if (!r || !r->dirty || !r->state) {
        epoch_free(r);
        return NULL;
    }
    return r;
}

static int attach(struct engine *e, const struct engine_epoch *epoch,
                  struct vmm_error *err)
{
    enum run_state state = epoch->twin ? RUN_CREATED : RUN_FROZEN;
    struct epoch_run *r;

    if (e->tape || e->epoch) {
        return vmm_fail(err, -EBUSY, "this VM is recorded, or has a twin, already");
    }
    if (e->run.state != state) {
        return vmm_fail(err, -EINVAL, "the VM is %s, not %s", run_state_str(e->run.state),
                        run_state_str(state));
    }
    r = epoch_new(e, epoch);
    if (!r) {
        return vmm_fail(err, -ENOMEM, "no memory for checkpoints");
    }
    epoch_free(e->epoch_over);
    e->epoch_over = NULL;
    if (!epoch->twin) {
        int n = engine_dirty_from_here(e, r->dirty, err);

        if (n < 0) {
            epoch_free(r);
            return n;
        }
        memset(r->dirty, 0, r->words * sizeof *r->dirty);
        machine_set_ops(e->machine, &r->ops);
    }
    e->epoch = r;
    e->epoch_follows = epoch->twin;
    return 0;
}

int engine_epoch_attach(struct engine *e, const struct engine_epoch *epoch,
                        struct vmm_error *err)
{
    int r;

    pthread_mutex_lock(&e->lock);
    r = attach(e, epoch, err);
    pthread_mutex_unlock(&e->lock);
    return r;
}

/* The machine's owner. Its memory goes when another comes: not by this thread. */
static void epoch_off(struct engine *e)
{
    e->dirty_stale = e->tape_logs;
    e->tape_logs = false;
    machine_set_ops(e->machine, &engine_machine_ops);
    e->epoch_follows = false;
    e->epoch_over = e->epoch;
    e->epoch = NULL;
    engine_unsent_turn(e);
}

/* The primary
 * ------------------------------------------------------------------------------- */

bool engine_epoch_due(struct engine *e)
{
    struct epoch_run *r = e->epoch;

    return r && (EPOCH_CALL(r, over) || EPOCH_CALL(r, due));
}

bool engine_epoch_stands(struct engine *e)
{
    struct epoch_run *r = e->epoch;

    return r && !EPOCH_CALL(r, over) && EPOCH_CALL(r, stands);
}

bool engine_epoch_full(struct engine *e)
{
    struct epoch_run *r = e->epoch;

    return r && EPOCH_CALL(r, full);
}

bool engine_epoch_holds(struct engine *e)
{
    struct epoch_run *r = e->epoch;

    return r && !EPOCH_CALL(r, over) && (e->unsent_count > 0 || !EPOCH_CALL(r, may_end));
}

uint64_t engine_epoch_released(struct engine *e)
{
    return EPOCH_CALL(e->epoch, released);
}

static size_t state_of(struct engine *e, struct vmm_error *err)
{
    struct epoch_run *r = e->epoch;
    uint64_t bytes = 0;

    if (lseek(e->state_fd, 0, SEEK_SET) < 0 ||
        engine_state_save(e, e->state_fd, "of a checkpoint", ENGINE_RAM_APART, &bytes,
                          err) < 0) {
        return 0;
    }
    if (bytes > FT_STATE_MAX || lseek(e->state_fd, 0, SEEK_SET) < 0 ||
        read(e->state_fd, r->state, (size_t)bytes) != (ssize_t)bytes) {
        (void)vmm_fail(err, -EFBIG, "the VM's state of %llu bytes cannot be kept",
                       (unsigned long long)bytes);
        return 0;
    }
    return (size_t)bytes;
}

/* Whoever begins a log of its own does so under the same lock, when this one is over. */
int engine_epoch_harvest(struct engine *e, uint64_t *bitmap, uint64_t *ret_pages)
{
    int r = -EINVAL;

    pthread_mutex_lock(&e->dirty_lock);
    if (e->tape_logs) {
        r = dirty_log_collect(&e->dirty, bitmap, ret_pages);
    }
    pthread_mutex_unlock(&e->dirty_lock);
    return r;
}

int engine_epoch_protect(struct engine *e, uint64_t first, uint64_t count)
{
    int r = -EINVAL;

    pthread_mutex_lock(&e->dirty_lock);
    if (e->tape_logs) {
        r = dirty_log_protect(&e->dirty, first, count);
    }
    pthread_mutex_unlock(&e->dirty_lock);
    return r;
}

void engine_epoch_take(struct engine *e, uint64_t since_ns)
{
    struct epoch_run *r = e->epoch;
    struct vmm_error err = {""};
    uint64_t pages;
    size_t len;
    int n;

    if (EPOCH_CALL(r, over)) {
        epoch_off(e);
        return;
    }
    len = state_of(e, &err); /* before the pages: KVM may write some */
    memset(r->dirty, 0, r->words * sizeof *r->dirty);
    n = len > 0 ? engine_dirty_collect(e, r->dirty, &pages) : 0;
    /* At once: each call is a flush of the vCPUs' TLBs. */
    n = n < 0 ? n : engine_dirty_protect(e, 0, e->conf.ram_len / GMEM_PAGE_SIZE);
    if (n < 0) {
        (void)vmm_fail(&err, n, "KVM does not tell which pages were written to: %s",
                       strerror(-n));
        len = 0;
    }
    EPOCH_CALL(r, take, since_ns, r->dirty, r->state, len, len > 0 ? NULL : err.text);
}

/* The twin
 * ---------------------------------------------------------------------------------- */

int engine_epoch_state(struct engine *e, const uint8_t *state, size_t len,
                       struct vmm_error *err)
{
    int fd = e->state_fd;

    if (ftruncate(fd, 0) < 0 || pwrite(fd, state, len, 0) != (ssize_t)len) {
        return vmm_fail(err, -EIO, "cannot keep the state of a checkpoint");
    }
    e->epoch_state_given = true;
    return 0;
}

/* False: the run has ended. */
bool engine_epoch_live(struct engine *e)
{
    struct epoch_run *r = e->epoch;
    const struct engine_epoch *epoch = r->epoch;
    struct vmm_error err;
    int n = 0;

    if (!engine_open_twin(e, UINT32_MAX) || !engine_follow_prepare(e, 0)) {
        return false;
    }
    if (e->epoch_state_given) {
        n = lseek(e->state_fd, 0, SEEK_SET) < 0
                ? vmm_fail(&err, -errno, "%s", strerror(errno))
                : engine_state_load(e, e->state_fd, "of a checkpoint", ENGINE_RAM_APART,
                                    &err);
    }
    if (n < 0) {
        return engine_end_run(e, RUN_END_HOST, err.text);
    }
    epoch_off(e);
    /* A connection that was lost meanwhile, before anybody looks what it left. */
    if (!engine_reconnect(e) || !engine_shared_hold(e)) {
        return false;
    }
    machine_reissue(e->machine);
    epoch->ops->live(epoch->ctx);
    return true;
}
