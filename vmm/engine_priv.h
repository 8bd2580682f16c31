/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by vmm/engine.c (any thread) and vmm/engine_vcpu.c (the vCPU thread). Nobody
 * else includes this. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "vmm/blk_uring.h"
#include "vmm/engine.h"
#include "vmm/input_queue.h"
#include "vmm/machine.h"
#include "vmm/vcpu.h"
#include "vmm/vm.h"

#define ENGINE_NOTICES_MAX 32

struct engine {
    struct engine_conf conf;

    /* Under lock. `state` and `lease_deadline_ns` mirror run for the vCPU thread's check
     * before each entry. */
    pthread_mutex_t lock;
    struct run_ctl run;
    struct engine_status notice[ENGINE_NOTICES_MAX];
    unsigned notice_head, notice_count;
    uint64_t change;
    _Atomic int state;
    _Atomic uint64_t lease_deadline_ns;

    /* Wakes. */
    int event_fd;         /* to the loop thread */
    int wake_fd;          /* to the vCPU thread when it waits */
    int lease_fd;         /* timerfd */
    _Atomic bool kicked;  /* something for the vCPU thread to look at */
    _Atomic bool waiting; /* the vCPU thread is in, or about to enter, ppoll */
    _Atomic bool closing;
    _Atomic bool reset_request;
    bool vcpu_thread_up, lease_thread_up;
    pthread_t vcpu_thread, lease_thread;

    /* Between the threads. */
    struct input_queue inputs;
    struct byte_ring serial_out, debug_out, serial_in;
    _Atomic uint64_t guest_ns; /* time in RUNNING, up to the last stop */
    _Atomic uint64_t
        guest_since_ns; /* while it runs: CLOCK_MONOTONIC minus that time; else 0 */

    /* The vCPU thread's. */
    struct vm vm;
    struct vcpu vcpu;
    struct machine *machine;
    void *machine_memory;
    size_t machine_len;
    struct blk_uring *blk;
    struct boot_files *boot; /* NULL: firmware boots */
    struct blk_disk_info disk_info[VM_DISKS_MAX];
    bool halted, reset_wanted, shutdown_wanted, started;
    uint64_t epoch_told; /* to the guest */
    bool epoch_told_any;
    bool clock_running;
    uint64_t clock_offset_ns; /* machine time = CLOCK_MONOTONIC - offset while it runs */
    uint64_t clock_stopped_ns;
    timer_t wake_timer;
    bool wake_timer_up;
    uint64_t wake_armed_ns; /* machine time; 0: not armed */
    unsigned triple_faults;
    uint64_t triple_fault_since_ns;
};

extern const struct vcpu_bus engine_bus;
extern const struct machine_ops engine_machine_ops;

void *engine_vcpu_main(void *engine);
/* Under lock: publishes what run says now. */
void engine_publish(struct engine *e);
/* Takes the lock. */
enum run_answer engine_step(struct engine *e, enum run_event event, uint64_t epoch,
                            enum run_end end, const char *reason);
/* Kernel and initrd (vmm/engine_boot.c); nothing happens with firmware. */
int engine_boot_open(struct engine *e, struct vmm_error *err);
int engine_boot_load(struct engine *e, struct vmm_error *err);
void engine_kick(struct engine *e);
void engine_tell_loop(struct engine *e);
