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
    uint32_t index, generation;
    bool armed;
    size_t heap_at; /* while armed */
    uint64_t due_ns, order;
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

/*
 * Timers stand in a heap of our own with one libqb timer for the earliest: libqb looks
 * through all of its timers for each new one (43 us at 8,000, 1.5 ms at 60,000).
 */
struct loop {
    qb_loop_t *qb;
    struct timer_slot **slot; /* slot_cap of both */
    struct timer_slot **heap; /* by due_ns, then in the order in which they were added */
    size_t slot_count, slot_cap, heap_len;
    struct timer_slot *free_slot;
    uint64_t next_order;
    qb_loop_timer_handle qb_timer; /* 0: none */
    uint64_t qb_due_ns;
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
    if (loop->qb_timer != 0) {
        qb_loop_timer_del(loop->qb, loop->qb_timer);
    }
    qb_loop_destroy(loop->qb);
    for (size_t i = 0; i < loop->slot_count; i++) {
        free(loop->slot[i]);
    }
    free(loop->slot);
    free(loop->heap);
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
static bool heap_before(const struct timer_slot *a, const struct timer_slot *b)
{
    return a->due_ns != b->due_ns ? a->due_ns < b->due_ns : a->order < b->order;
}

static void heap_put(struct loop *loop, size_t at, struct timer_slot *s)
{
    loop->heap[at] = s;
    s->heap_at = at;
}

/* Puts `s` where it belongs, beginning at a place that is free. */
static void heap_settle(struct loop *loop, size_t at, struct timer_slot *s)
{
    while (at > 0 && heap_before(s, loop->heap[(at - 1) / 2])) {
        heap_put(loop, at, loop->heap[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    for (;;) {
        size_t child = 2 * at + 1;

        if (child + 1 < loop->heap_len &&
            heap_before(loop->heap[child + 1], loop->heap[child])) {
            child++;
        }
        if (child >= loop->heap_len || !heap_before(loop->heap[child], s)) {
            break;
        }
        heap_put(loop, at, loop->heap[child]);
        at = child;
    }
    heap_put(loop, at, s);
}

static int grow(struct loop *loop)
{
    size_t cap = loop->slot_cap == 0 ? 32 : loop->slot_cap * 2;
    struct timer_slot **slot, **heap;

    slot = reallocarray(loop->slot, cap, sizeof *slot);
    if (slot == NULL) {
        return -ENOMEM;
    }
    loop->slot = slot;
    heap = reallocarray(loop->heap, cap, sizeof *heap);
    if (heap == NULL) {
        return -ENOMEM; /* the larger slot[] does no harm */
    }
    loop->heap = heap;
    loop->slot_cap = cap;
    return 0;
}

static struct timer_slot *slot_take(struct loop *loop)
{
    struct timer_slot *s = loop->free_slot;

    if (s != NULL) {
        loop->free_slot = s->next_free;
        return s;
    }
    if (loop->slot_count == LOOP_TIMERS_MAX ||
        (loop->slot_count == loop->slot_cap && grow(loop) < 0)) {
        return NULL;
    }
    s = calloc(1, sizeof *s);
    if (s != NULL) {
        s->index = (uint32_t)loop->slot_count;
        loop->slot[loop->slot_count++] = s;
    }
    return s;
}

/* Out of the heap, and free for the next one. */
static void slot_disarm(struct loop *loop, struct timer_slot *s)
{
    struct timer_slot *last = loop->heap[--loop->heap_len];

    if (last != s) {
        heap_settle(loop, s->heap_at, last);
    }
    s->armed = false;
    s->generation++;
    s->next_free = loop->free_slot;
    loop->free_slot = s;
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

static void timers_due(void *data);

/* Has libqb wake us for the earliest timer. It may wake us for nothing after a
 * cancellation; never too late. */
static int wake_for_earliest(struct loop *loop)
{
    uint64_t due_ns, now_ns;

    if (loop->heap_len == 0) {
        return 0;
    }
    due_ns = loop->heap[0]->due_ns;
    if (loop->qb_timer != 0) {
        if (loop->qb_due_ns <= due_ns) {
            return 0;
        }
        qb_loop_timer_del(loop->qb, loop->qb_timer);
        loop->qb_timer = 0;
    }
    now_ns = loop_now_ns();
    loop->qb_due_ns = due_ns;
    return qb_loop_timer_add(loop->qb, QB_LOOP_HIGH,
                             due_ns > now_ns ? due_ns - now_ns : 0, loop, timers_due,
                             &loop->qb_timer);
}

/* Runs what was due when it was called; what the handlers add has its turn after the fds
 * had theirs. */
static void timers_due(void *data)
{
    struct loop *loop = data;
    uint64_t now_ns = loop_now_ns(), order_end = loop->next_order;
    int r;

    loop->qb_timer = 0;
    while (loop->heap_len > 0) {
        struct timer_slot *s = loop->heap[0];
        loop_timer_fn fn = s->fn;
        void *fn_data = s->data;

        if (s->due_ns > now_ns || s->order >= order_end) {
            break;
        }
        slot_disarm(loop,
                    s); /* before the call, which may add timers and cancel this one */
        fn(fn_data);
    }
    r = wake_for_earliest(loop);
    BUG_ON(r <
           0); /* no memory for one timer: better a restart than a program without time */
}

int loop_timer_add(struct loop *loop, uint64_t delay_ns, loop_timer_fn fn, void *data,
                   loop_timer *ret_timer)
{
    struct timer_slot *s = slot_take(loop);
    int r;

    if (s == NULL) {
        return -ENOMEM;
    }
    if (__builtin_add_overflow(loop_now_ns(), delay_ns, &s->due_ns)) {
        s->due_ns = UINT64_MAX;
    }
    s->order = loop->next_order++;
    s->fn = fn;
    s->data = data;
    s->armed = true;
    heap_settle(loop, loop->heap_len++, s);
    r = wake_for_earliest(loop);
    if (r < 0) {
        slot_disarm(loop, s);
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
        slot_disarm(loop, s);
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
