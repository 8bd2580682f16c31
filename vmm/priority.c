/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/priority.h"

#include <sched.h>
#include <string.h>

#include "base/log.h"

#define LOWEST 1

void priority_soon(void)
{
    const struct sched_param param = {.sched_priority = LOWEST};
    int r = pthread_setschedparam(pthread_self(), SCHED_RR, &param);

    if (r != 0) {
        log_debug("no real-time priority for heartbeats: %s", strerror(r));
    }
}

void priority_usual(void)
{
    const struct sched_param param = {.sched_priority = 0};

    (void)pthread_setschedparam(pthread_self(), SCHED_OTHER, &param);
}

void priority_mutex_init(pthread_mutex_t *lock)
{
    pthread_mutexattr_t attr;

    pthread_mutexattr_init(&attr);
    pthread_mutexattr_setprotocol(&attr, PTHREAD_PRIO_INHERIT);
    pthread_mutex_init(lock, &attr);
    pthread_mutexattr_destroy(&attr);
}
