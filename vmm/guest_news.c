/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/guest_news.h"

void guest_news_add(struct guest_news *n, enum guest_event event, uint32_t times)
{
    n->kind[event].happened += times;
}

enum guest_event guest_news_take(struct guest_news *n, uint64_t now_ns, uint64_t wall_ns,
                                 uint64_t *ret_times, uint64_t *ret_wait_ns)
{
    uint64_t wait_ns = 0;

    for (unsigned i = GUEST_EVENT_PANIC; i < GUEST_EVENT_COUNT; i++) {
        uint64_t left_ns;

        if (n->kind[i].happened == n->kind[i].told) {
            continue;
        }
        if (now_ns >= n->kind[i].next_ns) {
            *ret_times = n->kind[i].happened - n->kind[i].told;
            *ret_wait_ns = 0;
            n->kind[i].told = n->kind[i].happened;
            n->kind[i].next_ns = now_ns + GUEST_NEWS_NS;
            n->last = (enum guest_event)i;
            n->last_ns = wall_ns;
            n->told++;
            return n->last;
        }
        left_ns = n->kind[i].next_ns - now_ns;
        wait_ns = wait_ns == 0 || left_ns < wait_ns ? left_ns : wait_ns;
    }
    *ret_wait_ns = wait_ns;
    return GUEST_EVENT_NONE;
}

const char *guest_event_str(enum guest_event event)
{
    static const char *const text[] = {
        [GUEST_EVENT_NONE] = "",
        [GUEST_EVENT_PANIC] = "guest panicked",
        [GUEST_EVENT_CRASH_LOADED] = "guest panicked, its crash kernel runs",
        [GUEST_EVENT_WATCHDOG] = "watchdog expired",
    };

    return text[event];
}
