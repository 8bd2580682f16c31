/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Real-time priority for threads that have little to do and tell others that this VM is
 * there: heartbeats of a twin, the lease. Among fifteen busy ones on two processors a
 * thread that sleeps for 10 ms wakes up to 150 ms late, with any nice value (a session
 * or a cgroup is scheduled as one), and 0.3 ms late with SCHED_RR. As Corosync does.
 *
 * The first thread takes it before privileges are dropped; the threads that it makes
 * begin with it, and all but those give it back, the first one, too.
 */
#pragma once

#include <pthread.h>

/* This thread, and those that it makes. If that may not be, all goes on without. */
void priority_soon(void);
/* This thread has no priority. */
void priority_usual(void);
/* A lock that such threads share with others, who have their priority while they hold it.
 */
void priority_mutex_init(pthread_mutex_t *lock);
