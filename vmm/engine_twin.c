/* SPDX-License-Identifier: Apache-2.0 */
/* A VM with a twin: how a tape comes to a VM that runs already, and how it goes; the loop
 * of the side that follows, and its going live (ft/README.md). */
#include <errno.h>
#include <string.h>

#include "base/bug.h"
#include "base/loop.h"
#include "vmm/engine_ram.h"
#include "vmm/engine_tape_priv.h"

/* What both sides have the same of is not to be logged. */
int engine_dirty_from_here(struct engine *e, uint64_t *scratch, struct vmm_error *err)
{
    uint64_t pages;
    int r = engine_dirty_begin(e, DIRTY_AUTO, err);

    e->tape_logs = r == 0 || r == -EBUSY; /* the migration's that brought the twin */
    if (e->tape_logs) {
        r = engine_dirty_collect(e, scratch, &pages);
        r = r < 0 ? r : engine_dirty_protect(e, 0, e->conf.ram_len / GMEM_PAGE_SIZE);
    }
    return r < 0 ? vmm_fail(err, r, "KVM does not log which pages are written to: %s",
                            strerror(-r))
                 : 0;
}

static int log_from_here(struct engine *e, struct vmm_error *err)
{
    size_t words = e->conf.ram_len / GMEM_PAGE_SIZE / 64 + 1;
    int r = engine_dirty_from_here(e, e->tape->dirty, err);

    memset(e->tape->dirty, 0, words * sizeof *e->tape->dirty);
    return r;
}

int engine_tape_attach(struct engine *e, const struct engine_tape *tape,
                       struct vmm_error *err)
{
    enum run_state state = tape->replay ? RUN_CREATED : RUN_FROZEN;
    int r = 0;

    pthread_mutex_lock(&e->lock);
    if (e->smp) {
        r = vmm_fail(err, -EINVAL, "machine standard cannot be followed exit by exit");
    } else if (e->tape || e->epoch) {
        r = vmm_fail(err, -EBUSY, "this VM is recorded, or has a twin, already");
    } else if (e->run.state != state) {
        r = vmm_fail(err, -EINVAL, "the VM is %s, not %s", run_state_str(e->run.state),
                     run_state_str(state));
    } else {
        tape_free(e->tape_over);
        e->tape_over = NULL;
        r = tape_new(e, tape, err);
    }
    if (r == 0) {
        r = log_from_here(e, err);
    }
    if (r == 0) {
        e->tape_attached = true;
        e->tape_follows = tape->replay;
        machine_set_ops(e->machine, &engine_tape_machine_ops);
        e->vcpu.bus = &engine_tape_bus;
        tape_sync_regs(e);
    } else if (e->tape && e->tape->tape == tape) {
        engine_tape_close(e);
    }
    pthread_mutex_unlock(&e->lock);
    return r;
}

void tape_off(struct engine *e)
{
    tape_give_kept(e);
    e->dirty_stale = e->tape_logs; /* this thread may not switch the log off */
    e->tape_logs = false;
    machine_set_ops(e->machine, &engine_machine_ops);
    e->vcpu.bus = &engine_bus;
    e->vcpu.run->kvm_valid_regs = 0;
    e->tape_attached = e->tape_follows = false;
    e->tape_over = e->tape; /* its memory goes when another comes: not by this thread */
    e->tape = NULL;
    engine_unsent_turn(e);
}

void engine_poke(struct engine *e)
{
    atomic_store(&e->kicked, true);
    if (e->smp || atomic_load(&e->waiting)) {
        engine_wake(e);
    }
}

void engine_nudge(struct engine *e)
{
    engine_kick(e);
}

void engine_put_out(struct engine *e, const struct tape_out *out)
{
    switch (out->kind) {
    case TAPE_OUT_FRAME:
        engine_machine_ops.net_send(e, out->unit, out->queue, out->data, out->len);
        break;
    case TAPE_OUT_SERIAL:
        engine_machine_ops.serial_out(e, out->data, out->len);
        break;
    case TAPE_OUT_DEBUG:
        engine_machine_ops.debug_out(e, out->data, out->len);
        break;
    case TAPE_OUT_DISK:
    case TAPE_OUT_KINDS:
        break;
    }
}

void engine_said(struct engine *e, struct engine_said *ret_said)
{
    ret_said->serial = byte_ring_total(&e->serial_out);
    ret_said->debug = byte_ring_total(&e->debug_out);
}

bool engine_said_is_out(struct engine *e, const struct engine_said *said)
{
    return byte_ring_reached(&e->serial_out, said->serial) &&
           byte_ring_reached(&e->debug_out, said->debug);
}

/* The twin
 * ---------------------------------------------------------------------------------- */

void engine_tape_mirrored(struct engine *e, unsigned disk,
                          const struct blk_request *request, uint32_t status)
{
    struct tape_run *t = e->tape;

    if (t->mending) {
        t->mended = t->mended != 0 ? t->mended : status;
        return;
    }
    t->mirror_busy[disk][request->slot] = false;
    TAPE_CALL(t, mirrored, disk, request->slot, request->op, status);
}

static bool begin(struct engine *e)
{
    struct tape_run *t = e->tape;

    if (t->begun) {
        return true;
    }
    t->begun = true;
    if (!engine_follow_prepare(e, t->tape->mirror)) {
        return false;
    }
    if (vcpu_refresh(&e->vcpu) != VCPU_KICKED) {
        return engine_end_run(e, RUN_END_HOST, "the vCPU that came cannot be entered");
    }
    return true;
}

void engine_tape_follow(struct engine *e)
{
    bool on = begin(e);

    while (on && atomic_load(&e->state) == RUN_FOLLOWING) {
        vcpu_kick_clear(&e->vcpu);
        atomic_store(&e->kicked, false);
        (void)disks_push(e->disks);
        (void)disks_reap(e->disks, engine_on_blk_done, e);
        on = tape_replay_turn(e);
    }
}

/* What a disk was asked for and has not answered is asked for again, of a disk that has
 * nothing else under way; the old primary may have been faster with some of it. */
void engine_tape_live(struct engine *e)
{
    const struct engine_tape *tape = e->tape->tape;

    BUG_ON(!e->tape->at_position);
    engine_drain_disks(e);
    e->clock_stopped_ns = tape->ops->live_ns(tape->ctx);
    tape->ops->live(tape->ctx);
    e->held_count = 0; /* what the drain brought: the machine asks for all of it below */
    tape_off(e);
    if (!engine_shared_hold(e)) {
        return;
    }
    machine_reissue(e->machine);
}

enum run_answer engine_follow(struct engine *e, const char *reason)
{
    return e->tape_follows || e->epoch_follows
               ? engine_step(e, RUN_EV_FOLLOW, 0, RUN_END_NONE, reason)
               : RUN_BAD_STATE;
}

enum run_answer engine_live(struct engine *e, uint64_t epoch, const char *reason)
{
    return engine_step(e, RUN_EV_LIVE, epoch, RUN_END_NONE, reason);
}
