/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base/loop.h over libqb. Everything is queued at QB_LOOP_HIGH: libqb serves lower levels
 * only every second or third turn, and nothing here should wait for that.
 */
#include <errno.h>
#include <qb/qbloop.h>
#include <stdlib.h>
#include <time.h>

#include "base/bug.h"
#include "base/limits.h"
#include "base/loop.h"
#include "base/units.h"

/* A slot is reused; its generation counts the uses, so that an old handle never names a
 * new timer. */
struct timer_slot {
    struct loop *loop;
    uint32_t index, generation;
    bool armed;
    qb_loop_timer_handle qb;
    loop_timer_fn fn;
    void *data;
    struct timer_slot *next_free;
};

struct signal_slot {
    int signo;
    loop_signal_fn fn;
    void *data;
    qb_loop_signal_handle qb;
    struct signal_slot *next;
};

struct loop {
    qb_loop_t *qb;
    struct timer_slot **slot; /* pointers: libqb keeps the address of an armed slot */
    size_t slot_count, slot_cap;
    struct timer_slot *free_slot;
    struct signal_slot *signal;
};

int loop_new(struct loop **ret_loop)
{
    struct loop *loop = calloc(1, sizeof *loop);

    if (loop == NULL) {
        return -ENOMEM;
    }
    loop->qb = qb_loop_create();
    if (loop->qb == NULL) {
        free(loop);
        return -ENOMEM;
    }
    *ret_loop = loop;
    return 0;
}

void loop_free(struct loop *loop)
{
    if (loop == NULL) {
        return;
    }
    while (loop->signal != NULL) {
        struct signal_slot *s = loop->signal;

        loop->signal = s->next;
        qb_loop_signal_del(loop->qb, s->qb);
        free(s);
    }
    for (size_t i = 0; i < loop->slot_count; i++) {
        if (loop->slot[i]->armed) {
            qb_loop_timer_del(loop->qb, loop->slot[i]->qb);
        }
    }
    qb_loop_destroy(loop->qb);
    for (size_t i = 0; i < loop->slot_count; i++) {
        free(loop->slot[i]);
    }
    free(loop->slot);
    free(loop);
}

void loop_run(struct loop *loop)
{
    qb_loop_run(loop->qb);
}

void loop_stop(struct loop *loop)
{
    qb_loop_stop(loop->qb);
}

/* File descriptors ------------------------------------------------------------------- */
int loop_fd_add(struct loop *loop, int fd, int events, loop_fd_fn fn, void *data)
{
    return qb_loop_poll_add(loop->qb, QB_LOOP_HIGH, fd, events, data, fn);
}

int loop_fd_mod(struct loop *loop, int fd, int events, loop_fd_fn fn, void *data)
{
    return qb_loop_poll_mod(loop->qb, QB_LOOP_HIGH, fd, events, data, fn);
}

int loop_fd_del(struct loop *loop, int fd)
{
    return qb_loop_poll_del(loop->qb, fd);
}

/* Timers ----------------------------------------------------------------------------- */
static struct timer_slot *slot_take(struct loop *loop)
{
    struct timer_slot *s = loop->free_slot;

    if (s != NULL) {
        loop->free_slot = s->next_free;
        return s;
    }
    if (loop->slot_count == LOOP_TIMERS_MAX) {
        return NULL;
    }
    if (loop->slot_count == loop->slot_cap) {
        size_t cap = loop->slot_cap == 0 ? 32 : loop->slot_cap * 2;
        struct timer_slot **grown = reallocarray(loop->slot, cap, sizeof *grown);

        if (grown == NULL) {
            return NULL;
        }
        loop->slot = grown;
        loop->slot_cap = cap;
    }
    s = calloc(1, sizeof *s);
    if (s != NULL) {
        s->loop = loop;
        s->index = (uint32_t)loop->slot_count;
        loop->slot[loop->slot_count++] = s;
    }
    return s;
}

static void slot_give(struct timer_slot *s)
{
    s->armed = false;
    s->generation++;
    s->next_free = s->loop->free_slot;
    s->loop->free_slot = s;
}

/* Never 0: the index is stored plus one. */
static loop_timer slot_handle(const struct timer_slot *s)
{
    return (uint64_t)s->generation << 32 | (s->index + 1);
}

static struct timer_slot *slot_find(struct loop *loop, loop_timer timer)
{
    uint64_t index = timer & UINT32_MAX;
    struct timer_slot *s;

    if (index == 0 || index > loop->slot_count) {
        return NULL;
    }
    s = loop->slot[index - 1];
    return s->armed && s->generation == timer >> 32 ? s : NULL;
}

static void timer_fired(void *data)
{
    struct timer_slot *s = data;
    loop_timer_fn fn = s->fn;
    void *fn_data = s->data;

    BUG_ON(!s->armed);
    slot_give(s); /* before the call, which may add timers and cancel this one */
    fn(fn_data);
}

int loop_timer_add(struct loop *loop, uint64_t delay_ns, loop_timer_fn fn, void *data,
                   loop_timer *ret_timer)
{
    struct timer_slot *s = slot_take(loop);
    int r;

    if (s == NULL) {
        return -ENOMEM;
    }
    s->fn = fn;
    s->data = data;
    s->armed = true;
    r = qb_loop_timer_add(loop->qb, QB_LOOP_HIGH, delay_ns, s, timer_fired, &s->qb);
    if (r < 0) {
        slot_give(s);
        return r;
    }
    *ret_timer = slot_handle(s);
    return 0;
}

void loop_timer_del(struct loop *loop, loop_timer *timer)
{
    struct timer_slot *s = slot_find(loop, *timer);

    *timer = 0;
    if (s != NULL) {
        qb_loop_timer_del(loop->qb, s->qb);
        slot_give(s);
    }
}

/* Signals ---------------------------------------------------------------------------- */
static int32_t signal_seen(int32_t signo, void *data)
{
    struct signal_slot *s = data;

    s->fn(signo, s->data);
    return 0;
}

int loop_signal_add(struct loop *loop, int signo, loop_signal_fn fn, void *data)
{
    struct signal_slot *s = calloc(1, sizeof *s);
    int r;

    if (s == NULL) {
        return -ENOMEM;
    }
    *s = (struct signal_slot){.signo = signo, .fn = fn, .data = data};
    r = qb_loop_signal_add(loop->qb, QB_LOOP_HIGH, signo, s, signal_seen, &s->qb);
    if (r < 0) {
        free(s);
        return r;
    }
    s->next = loop->signal;
    loop->signal = s;
    return 0;
}

uint64_t loop_now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

struct qb_loop *loop_qb(struct loop *loop)
{
    return loop->qb;
}
