/* SPDX-License-Identifier: Apache-2.0 */
#include "lab/labfs_fault.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "lab/lab_ipc.h"
#include "lab/lab_util.h"

static struct {
    int control_fd;
    _Atomic unsigned delay_ms, writeback_percent;
    _Atomic bool eio;
    _Atomic int64_t room_bytes; /* that files may grow by; negative: no limit */
    pthread_mutex_t hang_lock;
    pthread_cond_t hang_end;
    bool hang;
    _Atomic uint32_t random;
} faults = {
    .hang_lock = PTHREAD_MUTEX_INITIALIZER,
    .hang_end = PTHREAD_COND_INITIALIZER,
    .random = 1,
    .room_bytes = -1,
};

void labfs_fault_wait(void)
{
    pthread_mutex_lock(&faults.hang_lock);
    while (faults.hang) {
        pthread_cond_wait(&faults.hang_end, &faults.hang_lock);
    }
    pthread_mutex_unlock(&faults.hang_lock);
}

int labfs_fault_before_data(bool slow)
{
    labfs_fault_wait();
    unsigned ms = atomic_load(&faults.delay_ms);
    if (slow && ms > 0) {
        lab_sleep_ms(ms);
        labfs_fault_wait();
    }
    return atomic_load(&faults.eio) ? -EIO : 0;
}

static void set_hang(bool hang)
{
    pthread_mutex_lock(&faults.hang_lock);
    faults.hang = hang;
    pthread_cond_broadcast(&faults.hang_end);
    pthread_mutex_unlock(&faults.hang_lock);
}

static void *control_thread(void *arg)
{
    char buf[128], verb[32];

    (void)arg;
    while (lab_ipc_recv(faults.control_fd, buf, sizeof buf, NULL) > 0) {
        unsigned value = 0;
        if (sscanf(buf, "%31s %u", verb, &value) < 1) {
            continue;
        }
        if (strcmp(verb, "delay") == 0) {
            atomic_store(&faults.delay_ms, value);
        } else if (strcmp(verb, "eio") == 0) {
            atomic_store(&faults.eio, value != 0);
        } else if (strcmp(verb, "writeback") == 0) {
            atomic_store(&faults.writeback_percent, value);
        } else if (strcmp(verb, "room") == 0) {
            atomic_store(&faults.room_bytes, (int64_t)value * 1024);
        } else if (strcmp(verb, "hang") == 0) {
            set_hang(value != 0);
        } else if (strcmp(verb, "heal") == 0) {
            atomic_store(&faults.delay_ms, 0);
            atomic_store(&faults.eio, false);
            atomic_store(&faults.writeback_percent, 0);
            atomic_store(&faults.room_bytes, -1);
            set_hang(false);
        }
    }
    return NULL;
}

int labfs_fault_start(int control_fd)
{
    sigset_t all, old;
    pthread_t thread;

    faults.control_fd = control_fd;
    faults.random = (uint32_t)lab_now_ns();
    /* SIGTERM is for the main thread: only there it ends the wait of the loop. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int error = pthread_create(&thread, NULL, control_thread, NULL);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (error == 0) {
        pthread_detach(thread);
    }
    return -error;
}

bool labfs_fault_written_early(void)
{
    unsigned percent = atomic_load(&faults.writeback_percent);

    if (percent == 0) {
        return false;
    }
    uint32_t x = atomic_fetch_add(&faults.random, UINT32_C(0x9e3779b9));
    x ^= x >> 16;
    x *= UINT32_C(0x7feb352d);
    x ^= x >> 15;
    return x % 100 < percent;
}

bool labfs_fault_room_is_limited(void)
{
    return atomic_load(&faults.room_bytes) >= 0;
}

bool labfs_fault_take_room(int64_t bytes)
{
    int64_t room = atomic_load(&faults.room_bytes);

    while (room >= bytes) {
        if (atomic_compare_exchange_weak(&faults.room_bytes, &room, room - bytes)) {
            return true;
        }
    }
    return room < 0;
}
