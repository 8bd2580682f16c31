/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A vCPU that gets less of its processor: its thread sleeps a share of the time that it
 * would compute, in slices of some ms, so that a guest cannot dirty its memory faster
 * than it can be sent. Measured in CPU time of the thread: an idle vCPU is not slowed
 * down. Everything but throttle_share runs on the vCPU's own thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#define THROTTLE_MAX 990 /* permille: a guest that stands still looks dead */

struct throttle {
    timer_t timer; /* ends a slice with the signal that kicks this vCPU */
    bool up, on;
    uint64_t cpu_ns;   /* CPU time at which the slice began */
    uint64_t fires_ns; /* CLOCK_MONOTONIC */
};

/* Before the thread enters its sandbox. 0 or -errno. */
int throttle_setup(struct throttle *t, int signal);
/* Before each entry into the guest; sleeps what is due. Asks `share` (permille; 0: off)
 * every 0.5 ms whether it is still so: 0 ends the sleep, as a state in which the guest
 * may not run must. */
void throttle_turn(struct throttle *t, unsigned (*share)(void *ctx), void *ctx);
void throttle_close(struct throttle *t);
/* How long a slice computes, and how long to sleep after `used_ns` of CPU time. Pure. */
uint64_t throttle_slice_ns(unsigned permille);
uint64_t throttle_sleep_ns(unsigned permille, uint64_t used_ns);
