/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a guest did that an administrator should hear of: it panicked (pvpanic), or its
 * watchdog expired. How often it does so is the guest's choice, how often it is told
 * (logged, sent to the agent of the node) is not: each kind at once, then at most once in
 * GUEST_NEWS_NS; the last of each is never lost. A plain value of the loop thread; no
 * clock of its own.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define GUEST_NEWS_NS UINT64_C(10000000000)

enum guest_event {
    GUEST_EVENT_NONE = 0,
    GUEST_EVENT_PANIC,
    GUEST_EVENT_CRASH_LOADED, /* it panicked, and its crash kernel runs now */
    GUEST_EVENT_WATCHDOG,
    GUEST_EVENT_COUNT,
};

struct guest_news {
    struct {
        uint64_t happened, told; /* how often, in this process */
        uint64_t next_ns;        /* may be told from then on */
    } kind[GUEST_EVENT_COUNT];
    /* What was told last. */
    enum guest_event last;
    uint64_t last_ns; /* CLOCK_REALTIME, ns */
    uint64_t told;    /* pieces of news so far */
};

/* It happened so often since the last call. */
void guest_news_add(struct guest_news *n, enum guest_event event, uint32_t times);
/* The next piece of news, in the order of the enum, or NONE: ask again in *ret_wait_ns;
 * 0: not before the next guest_news_add. now_ns: monotonic; wall_ns: CLOCK_REALTIME.
 * *ret_times: how often it happened since it was told last. */
enum guest_event guest_news_take(struct guest_news *n, uint64_t now_ns, uint64_t wall_ns,
                                 uint64_t *ret_times, uint64_t *ret_wait_ns);

const char *guest_event_str(enum guest_event event);
