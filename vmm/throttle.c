/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/throttle.h"

#include <errno.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/loop.h"
#include "base/units.h"

#define PERIOD_NS    (10 * NSEC_PER_MSEC) /* a slice and its sleep */
#define SLICE_MIN_NS (NSEC_PER_MSEC / 5)  /* so that exits do not cost more than it */
#define SLEEP_MAX_NS (50 * NSEC_PER_MSEC) /* after a slice that nobody ended in time */
#define PIECE_NS     (NSEC_PER_MSEC / 2)

uint64_t throttle_slice_ns(unsigned permille)
{
    uint64_t slice = PERIOD_NS * (1000 - permille) / 1000;

    return slice > SLICE_MIN_NS ? slice : SLICE_MIN_NS;
}

uint64_t throttle_sleep_ns(unsigned permille, uint64_t used_ns)
{
    uint64_t sleep = used_ns * permille / (1000 - permille);

    return sleep < SLEEP_MAX_NS ? sleep : SLEEP_MAX_NS;
}

int throttle_setup(struct throttle *t, int signal)
{
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = signal};

    event._sigev_un._tid = (pid_t)syscall(SYS_gettid);
    t->up = timer_create(CLOCK_MONOTONIC, &event, &t->timer) == 0;
    return t->up ? 0 : -errno;
}

void throttle_close(struct throttle *t)
{
    if (t->up) {
        timer_delete(t->timer);
    }
    t->up = false;
}

static uint64_t cpu_now_ns(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * NSEC_PER_SEC + (uint64_t)now.tv_nsec;
}

/* 0: not at all. */
static void arm(struct throttle *t, uint64_t in_ns)
{
    struct itimerspec when = {.it_value = {.tv_nsec = (long)in_ns}};

    t->fires_ns = loop_now_ns() + in_ns;
    (void)timer_settime(t->timer, 0, &when, NULL);
}

static void begin_slice(struct throttle *t, unsigned permille)
{
    t->on = true;
    t->cpu_ns = cpu_now_ns();
    arm(t, throttle_slice_ns(permille));
}

/* In pieces: a kick between the look and the sleep would be lost. */
static void sleep_for(uint64_t ns, unsigned (*share)(void *ctx), void *ctx)
{
    uint64_t end = loop_now_ns() + ns, now;

    while (share(ctx) > 0 && (now = loop_now_ns()) < end) {
        uint64_t left = end - now;
        struct timespec piece = {.tv_nsec = (long)(left < PIECE_NS ? left : PIECE_NS)};

        (void)clock_nanosleep(CLOCK_MONOTONIC, 0, &piece, NULL);
    }
}

void throttle_turn(struct throttle *t, unsigned (*share)(void *ctx), void *ctx)
{
    unsigned permille = share(ctx);
    uint64_t slice, used;

    if (permille == 0) {
        if (t->on) {
            arm(t, 0);
        }
        t->on = false;
        return;
    }
    if (!t->up) {
        return;
    }
    if (!t->on) {
        begin_slice(t, permille);
        return;
    }
    slice = throttle_slice_ns(permille);
    used = cpu_now_ns() - t->cpu_ns;
    if (used >= slice) {
        sleep_for(throttle_sleep_ns(permille, used), share, ctx);
        begin_slice(t, permille);
    } else if (loop_now_ns() >= t->fires_ns) {
        arm(t, slice - used > SLICE_MIN_NS ? slice - used : SLICE_MIN_NS);
    }
}
