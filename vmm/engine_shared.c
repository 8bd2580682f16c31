/* SPDX-License-Identifier: Apache-2.0 */
/* Disks that both sides of a protected VM share (ft/README.md, "Disks"): what the primary
 * writes waits here until it may leave; the twin gets them with its claim, and may have
 * to hold its writes. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/bug.h"
#include "base/loop.h"
#include "vmm/engine_tape_priv.h"

#define ASK_AGAIN_NS (250 * NSEC_PER_MSEC)
#define ASK_TELL_NS  (10 * NSEC_PER_SEC)

/* The primary
 * ------------------------------------------------------------------------------- */

void engine_unsent_add(struct engine *e, unsigned disk, const struct blk_request *request,
                       uint64_t number)
{
    BUG_ON(e->unsent_count == ENGINE_HELD_MAX); /* each has a slot of its device */
    e->unsent[e->unsent_count].disk = disk;
    e->unsent[e->unsent_count].number = number;
    e->unsent[e->unsent_count].request = *request;
    /* The guest goes on elsewhere when this host dies, and takes for written what it was
     * told is written, flushed or not. */
    e->unsent[e->unsent_count++].request.through = true;
}

static uint64_t released(struct engine *e)
{
    const struct engine_tape *tape = e->tape ? e->tape->tape : NULL;

    if (tape && tape->ops->released) {
        return tape->ops->released(tape->ctx);
    }
    return e->epoch ? engine_epoch_released(e) : UINT64_MAX;
}

/* A FLUSH writes nothing that the guest was not told is written: it only keeps its place.
 */
static bool may_leave(const struct engine *e, unsigned at, uint64_t number)
{
    return e->unsent[at].number <= number || e->unsent[at].request.op == REQUEST_FLUSH;
}

void engine_unsent_turn(struct engine *e)
{
    unsigned count = 0;
    uint64_t number;

    if (e->unsent_count == 0) {
        return;
    }
    number = released(e);
    while (count < e->unsent_count && may_leave(e, count, number)) {
        engine_machine_ops.blk_submit(e, e->unsent[count].disk,
                                      &e->unsent[count].request);
        count++;
    }
    e->unsent_count -= count;
    memmove(e->unsent, e->unsent + count, e->unsent_count * sizeof e->unsent[0]);
}

/* The twin: any thread
 * ----------------------------------------------------------------------------- */

/* Under lock. */
static void drop(struct engine *e, uint32_t mask)
{
    for (unsigned i = 0; i < VM_DISKS_MAX; i++) {
        if ((mask >> i & 1) != 0 && e->disk_fd[i] >= 0) {
            close(e->disk_fd[i]);
            e->disk_fd[i] = -1;
        }
    }
}

int engine_twin_disks(struct engine *e, uint32_t mask, const int *fd, unsigned count,
                      struct vmm_error *err)
{
    unsigned wanted, at = 0;
    enum run_state state;
    bool fits;

    mask &= (UINT32_C(1) << e->conf.disk_count) - 1;
    wanted = (unsigned)__builtin_popcount(mask);
    pthread_mutex_lock(&e->lock);
    state = e->run.state;
    fits =
        count == wanted && (count == 0 || state == RUN_CREATED || state == RUN_FOLLOWING);
    if (fits) {
        drop(e, mask);
    }
    for (unsigned i = 0; fits && i < e->conf.disk_count; i++) {
        if ((mask >> i & 1) != 0) {
            e->disk_fd[i] = fd[at++];
        }
    }
    pthread_mutex_unlock(&e->lock);
    for (unsigned i = 0; !fits && i < count; i++) {
        close(fd[i]);
    }
    return fits ? 0
           : count != wanted
               ? vmm_fail(err, -EINVAL, "it came with %u disks, and %u are wanted", count,
                          wanted)
               : vmm_fail(err, -EINVAL, "the VM is %s and takes no disks",
                          run_state_str(state));
}

void engine_twin_disks_drop(struct engine *e, uint32_t mask)
{
    pthread_mutex_lock(&e->lock);
    drop(e, mask);
    pthread_mutex_unlock(&e->lock);
}

void engine_hold(struct engine *e, uint32_t mask)
{
    disks_excluded(e->disks, 0);
    atomic_store(&e->hold_wanted, mask & engine_disks_written(e));
}

void engine_excluded(struct engine *e, uint32_t mask)
{
    if (mask != 0) {
        disks_excluded(e->disks, mask);
        engine_kick(e);
    }
}

uint32_t engine_held(const struct engine *e, uint64_t *ret_bytes)
{
    uint32_t wanted = atomic_load(&e->hold_wanted); /* first: it moves over there */

    return wanted | disks_held(e->disks, ret_bytes);
}

/* The twin: the thread that owns the disks
 * ------------------------------------------------------- */

/* What another connection may mend, or a THAW that brings what did not come. */
static bool passes(const struct engine *e, unsigned disk, int error)
{
    return error == -ENODATA ||
           (e->conf.disk[disk].kind != DISK_RAW &&
            (error == -EAGAIN || error == -ETIMEDOUT || error == -ENOTCONN));
}

/* A disk that is not to be had yet ends nothing: this is the only memory. With a
 * connection its server is asked again; without one the VM waits, frozen, for a THAW that
 * brings another. */
static bool not_yet(struct engine *e, unsigned disk, int error, const char *why)
{
    char reason[REASON_LEN_MAX + 1];

    if (!passes(e, disk, error)) {
        return engine_end_run(e, RUN_END_HOST, why);
    }
    if (!disks_asks_again(e->disks, disk)) {
        snprintf(reason, sizeof reason, "%.200s; the VM is paused, thaw tries again",
                 why);
        (void)engine_step(e, RUN_EV_FREEZE, 0, RUN_END_NONE, reason);
        return false;
    }
    if (loop_now_ns() >= e->ask_told_ns + ASK_TELL_NS || e->ask_told_ns == 0) {
        e->ask_told_ns = loop_now_ns();
        pthread_mutex_lock(&e->lock); /* it is logged elsewhere: not by this thread */
        snprintf(e->ask_text, sizeof e->ask_text, "%.*s", REASON_LEN_MAX, why);
        pthread_mutex_unlock(&e->lock);
        engine_tell_loop(e);
    }
    engine_wait(e, engine_machine_now_ns(e) + ASK_AGAIN_NS);
    return false;
}

bool engine_twin_waits(struct engine *e, char *text, size_t cap)
{
    bool any;

    pthread_mutex_lock(&e->lock);
    any = e->ask_text[0] != '\0';
    snprintf(text, cap, "%s", e->ask_text);
    e->ask_text[0] = '\0';
    pthread_mutex_unlock(&e->lock);
    return any;
}

bool engine_open_twin(struct engine *e, uint32_t mask)
{
    struct vmm_error err;

    for (unsigned i = 0; i < e->conf.disk_count; i++) {
        if ((mask & ~e->twin_open) >> i & 1) {
            int r = engine_open_disk(e, i, &err);

            if (r < 0) {
                return r != -EINTR && not_yet(e, i, r, err.text);
            }
            e->twin_open |= UINT32_C(1) << i;
        }
    }
    return true;
}

bool engine_shared_open(struct engine *e)
{
    return engine_open_twin(e, ~e->tape->tape->mirror);
}

bool engine_shared_hold(struct engine *e)
{
    uint32_t mask = atomic_load(&e->hold_wanted);
    struct vmm_error err;

    for (unsigned i = 0; i < e->conf.disk_count; i++) {
        if ((mask >> i & 1) != 0 && disks_hold(e->disks, i, &e->disk[i], &err) < 0) {
            return engine_end_run(e, RUN_END_HOST, err.text);
        }
        disks_inherit(e->disks, i);
    }
    atomic_store(&e->hold_wanted, 0);
    return true;
}

void engine_hold_turn(struct engine *e)
{
    uint64_t bytes;
    uint32_t held;

    disks_hold_turn(e->disks);
    held = disks_held(e->disks, &bytes);
    if (held != e->held_told) {
        e->held_told = held;
        engine_tell_loop(e);
    }
}

void engine_hold_write(struct engine *e)
{
    uint64_t bytes;
    bool any = false;

    while (!atomic_load(&e->killed) && engine_held(e, &bytes) != 0) {
        any = true;
        atomic_store(&e->kicked, false);
        engine_hold_turn(e);
        if (!atomic_load(&e->killed) && engine_held(e, &bytes) != 0) {
            engine_wait(e, UINT64_MAX);
        }
        (void)disks_reap(e->disks, engine_on_blk_done, e);
    }
    if (any && !atomic_load(&e->killed)) {
        disks_flush(e->disks);
        engine_drain_disks(e);
    }
}
