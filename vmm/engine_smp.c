/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine of `machine: standard`: a thread per vCPU, and an I/O thread that has what
 * the vCPU thread of lockstep has besides its vCPU: states, disks, timers, inputs.
 *
 * The machine is a plain value, so whoever calls it holds machine_lock: a vCPU thread for
 * the access that it exited for, the I/O thread for inputs. Interrupts leave the machine
 * through its ops straight into KVM. Doorbells are ioeventfds that the I/O thread waits
 * for, so a busy queue costs its vCPU no exit to us.
 *
 * The gate: vCPUs are in the guest only while it is open. The I/O thread shuts it (and
 * waits until every vCPU thread has finished its instruction and parked) before anything
 * that needs the guest to stand still. A vCPU checks state and lease itself before each
 * entry, so a freeze does not depend on the I/O thread being on time.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/bug.h"
#include "base/loop.h"
#include "base/os.h"
#include "vmm/engine_priv.h"
#include "vmm/net_tap.h"
#include "vmm/priority.h"
#include "vmm/sandbox.h"

#define EPOLL_EVENTS_MAX 16
#define DOORBELL_LEN     2 /* VIRTIO 1.2, 4.1.5.2: a queue's number, 16 bits */
#define MMIO_NOTIFY_LEN  4

/* What epoll tells us besides doorbells, which are their index. */
enum { WAKE_KICK = ENGINE_DOORBELLS_MAX, WAKE_DISK, WAKE_TIMER };

static void lock_machine(struct engine *e)
{
    pthread_mutex_lock(&e->machine_lock);
}

static void unlock_machine(struct engine *e)
{
    pthread_mutex_unlock(&e->machine_lock);
}

static void wake_io(struct engine *e)
{
    uint64_t one = 1;

    (void)!write(e->wake_fd, &one, sizeof one);
}

void engine_smp_kick_cpus(struct engine *e)
{
    for (unsigned i = 0; i < e->cpu_count; i++) {
        struct engine_cpu *c = &e->cpu[i];

        if (c->thread_up && !pthread_equal(c->thread, pthread_self())) {
            (void)pthread_kill(c->thread, VCPU_KICK_SIGNAL);
        }
    }
}

void engine_smp_kick(struct engine *e)
{
    wake_io(e);
    if (atomic_load(&e->state) != RUN_RUNNING) {
        engine_smp_kick_cpus(e);
    }
}

uint64_t engine_smp_exits(const struct engine *e)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < e->cpu_count; i++) {
        sum += __atomic_load_n(&e->cpu[i].vcpu.exits_seen, __ATOMIC_RELAXED);
    }
    return sum;
}

/* What the machine wants of KVM (under machine_lock)
 * ----------------------------------------------------------------------------- */

void engine_op_gsi(void *ctx, unsigned gsi, bool level)
{
    struct engine *e = ctx;

    (void)e->vm.ops->vm_irq_line(e->vm.vm_fd, gsi, level);
}

static void send_msi(struct engine *e, const struct engine_msi *msi)
{
    /* 0: a masked local APIC swallowed it; errors: an address that is no APIC's. Both are
     * the guest's own doing. */
    (void)e->vm.ops->vm_signal_msi(e->vm.vm_fd, msi->address, msi->data);
}

/* A vCPU that wakes up at the first of many completions takes the processor that the
 * others, and the requests that follow them, wait for: the I/O thread tells it once, when
 * its work is done. */
void engine_op_msi(void *ctx, uint64_t address, uint32_t data)
{
    struct engine *e = ctx;
    const struct engine_msi msi = {.address = address, .data = data};

    for (unsigned i = 0; i < e->msi_count; i++) {
        if (e->msi[i].address == address && e->msi[i].data == data) {
            return;
        }
    }
    if (e->msi_defer && e->msi_count < ENGINE_MSIS_MAX) {
        e->msi[e->msi_count++] = msi;
    } else {
        send_msi(e, &msi);
    }
}

static void send_deferred(struct engine *e)
{
    for (unsigned i = 0; i < e->msi_count; i++) {
        send_msi(e, &e->msi[i]);
    }
    e->msi_count = 0;
    e->msi_defer = false;
}

static struct engine_doorbell *doorbell_of(struct engine *e, unsigned dev_index,
                                           unsigned queue)
{
    struct engine_doorbell *d;
    /* Each ring is an edge: the count need not be read. */
    struct epoll_event event = {.events = EPOLLIN | EPOLLET};

    for (unsigned i = 0; i < e->doorbell_count; i++) {
        d = &e->doorbell[i];
        if (d->dev_index == dev_index && d->queue == queue) {
            return d;
        }
    }
    if (e->doorbell_count == ENGINE_DOORBELLS_MAX) {
        return NULL;
    }
    d = &e->doorbell[e->doorbell_count];
    d->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (d->fd < 0) {
        return NULL;
    }
    event.data.u64 = e->doorbell_count;
    if (epoll_ctl(e->epoll_fd, EPOLL_CTL_ADD, d->fd, &event) < 0) {
        close(d->fd);
        return NULL;
    }
    d->dev_index = dev_index;
    d->queue = queue;
    e->doorbell_count++;
    return d;
}

/* Without an ioeventfd (no fd left, another one at that address) the write exits to us
 * and the machine does the same work there: slower, not wrong. */
void engine_op_doorbell(void *ctx, unsigned dev_index, unsigned queue, uint64_t address,
                        bool on)
{
    struct engine *e = ctx;
    struct engine_doorbell *d = doorbell_of(e, dev_index, queue);
    struct kvm_ioeventfd conf = {.addr = address, .len = DOORBELL_LEN};

    if (d == NULL || on == d->on) {
        return;
    }
    if (e->conf.transport == MACHINE_TRANSPORT_MMIO) { /* one register for all queues */
        conf.len = MMIO_NOTIFY_LEN;
        conf.datamatch = queue;
        conf.flags = KVM_IOEVENTFD_FLAG_DATAMATCH;
    }
    conf.fd = d->fd;
    conf.flags |= on ? 0 : KVM_IOEVENTFD_FLAG_DEASSIGN;
    if (e->vm.ops->vm_ioeventfd(e->vm.vm_fd, &conf) == 0) {
        d->on = on;
    }
}

/* Accesses of the vCPUs
 * --------------------------------------------------------------------------------- */

/* The I/O thread sleeps until the earliest wake-up that it knew of. */
static void access_done(struct engine *e)
{
    bool wake = disks_unpushed(e->disks) || e->entropy_wanted > 0 || e->reset_wanted ||
                e->shutdown_wanted || machine_next_wake_ns(e->machine) < e->io_until_ns;

    unlock_machine(e);
    if (wake) {
        wake_io(e);
    }
}

static void smp_pio(void *ctx, uint16_t port, bool is_write, unsigned size, void *data)
{
    struct engine *e = ctx;

    lock_machine(e);
    machine_pio(e->machine, port, is_write, size, data);
    access_done(e);
}

static void smp_mmio(void *ctx, struct gpa addr, bool is_write, unsigned len, void *data)
{
    struct engine *e = ctx;

    lock_machine(e);
    machine_mmio(e->machine, addr, is_write, len, data);
    access_done(e);
}

static const struct vcpu_bus smp_bus = {.pio = smp_pio, .mmio = smp_mmio};

/* The gate
 * ------------------------------------------------------------------------------- */

static void gate_open(struct engine *e)
{
    pthread_mutex_lock(&e->gate_lock);
    e->gate_parked = 0;
    e->gate_generation++;
    atomic_store(&e->gate, true);
    pthread_cond_broadcast(&e->gate_cond);
    pthread_mutex_unlock(&e->gate_lock);
}

/* Returns with every vCPU at an instruction boundary, its thread parked. */
static void gate_shut(struct engine *e)
{
    pthread_mutex_lock(&e->gate_lock);
    atomic_store(&e->gate, false);
    engine_smp_kick_cpus(e);
    while (e->gate_parked < e->cpu_count) {
        pthread_cond_wait(&e->gate_cond, &e->gate_lock);
    }
    pthread_mutex_unlock(&e->gate_lock);
}

/* Waits for a gate that opened after generation `*last`. False: the engine closes. */
static bool gate_wait(struct engine *e, uint64_t *last)
{
    bool go;

    pthread_mutex_lock(&e->gate_lock);
    while (e->gate_generation == *last && !atomic_load(&e->closing)) {
        pthread_cond_wait(&e->gate_cond, &e->gate_lock);
    }
    *last = e->gate_generation;
    go = !atomic_load(&e->closing);
    pthread_mutex_unlock(&e->gate_lock);
    return go;
}

static void gate_park(struct engine *e)
{
    pthread_mutex_lock(&e->gate_lock);
    e->gate_parked++;
    pthread_cond_broadcast(&e->gate_cond);
    pthread_mutex_unlock(&e->gate_lock);
}

/* vCPU threads
 * --------------------------------------------------------------------------------- */

/* False: this vCPU does not go on before the gate opens again. */
static bool cpu_event(struct engine_cpu *c, enum vcpu_event event)
{
    struct engine *e = c->engine;

    switch (event) {
    case VCPU_TRIPLE_FAULT:
        lock_machine(e);
        (void)engine_triple_fault(e);
        unlock_machine(e);
        wake_io(e);
        return false;
    case VCPU_FAILED:
        return engine_end_run(e, RUN_END_CRASH, c->vcpu.fault.text);
    case VCPU_DEBUG:
        return engine_end_run(e, RUN_END_HOST, "unexpected debug exit from KVM");
    case VCPU_HALT: /* not with in-kernel interrupt controllers */
    case VCPU_IO:
    case VCPU_KICKED:
    case VCPU_IRQ_WINDOW:
        break;
    }
    return true;
}

static bool cpu_may_enter(struct engine *e)
{
    return atomic_load(&e->gate) && !e->reset_wanted && !e->shutdown_wanted &&
           engine_may_run(e);
}

static void cpu_run(struct engine_cpu *c)
{
    bool go_on = true;

    while (go_on) {
        throttle_turn(&c->throttle, engine_throttle_share, c->engine);
        /* Clear, then look: a kick after the look is seen by KVM_RUN. */
        vcpu_kick_clear(&c->vcpu);
        if (!cpu_may_enter(c->engine)) {
            break;
        }
        go_on = cpu_event(c, vcpu_enter(&c->vcpu));
    }
    if (c->vcpu.fault.text[0] == '\0') {
        (void)cpu_event(c, vcpu_settle(&c->vcpu));
    }
}

void *engine_cpu_main(void *data)
{
    struct engine_cpu *c = data;
    uint64_t generation = 0;
    sigset_t kick;
    char name[16];

    snprintf(name, sizeof name, "vcpu%u", c->id);
    (void)prctl(PR_SET_NAME, name);
    vcpu_kick_arm(&c->vcpu);
    (void)throttle_setup(&c->throttle, VCPU_KICK_SIGNAL);
    sigemptyset(&kick);
    sigaddset(&kick, VCPU_KICK_SIGNAL);
    pthread_sigmask(SIG_UNBLOCK, &kick, NULL);
    priority_usual();
    sandbox_thread(SANDBOX_VCPU);
    while (gate_wait(c->engine, &generation)) {
        cpu_run(c);
        gate_park(c->engine);
    }
    throttle_close(&c->throttle);
    return NULL;
}

/* The I/O thread
 * --------------------------------------------------------------------------------- */

static void kvm_clock_stop(struct engine *e)
{
    e->wall_stopped_ns = os_wall_ns();
    e->kvm_clock_known = e->vm.ops->vm_get_clock(e->vm.vm_fd, &e->kvm_clock) >= 0;
}

/* How long the guest stood still, on this host or between two. A wall clock that was set
 * back counts as no time. */
static uint64_t stood_still_ns(const struct engine *e)
{
    uint64_t now = os_wall_ns();

    return e->wall_stopped_ns != 0 && now > e->wall_stopped_ns ? now - e->wall_stopped_ns
                                                               : 0;
}

/* Devices' time stood still; the guest's own clock goes on as if it had not, so that its
 * time of day is right (doc/decisions.md). */
static void kvm_clock_start(struct engine *e)
{
    struct kvm_clock_data clock = {.clock = e->kvm_clock.clock + stood_still_ns(e)};

    if (!e->kvm_clock_known) {
        return;
    }
    engine_set_rtc(e);
    (void)e->vm.ops->vm_set_clock(e->vm.vm_fd, &clock);
    for (unsigned i = 0; i < e->cpu_count; i++) {
        (void)e->vm.ops->vcpu_clock_ctrl(e->cpu[i].vcpu.fd); /* no guest clock: fails */
    }
}

static bool smp_reset(struct engine *e)
{
    struct vmm_error err;

    gate_shut(e);
    engine_drain_disks(e);
    engine_reset_begins(e);
    machine_reset(e->machine);
    vm_rom_recopy(&e->vm);
    if (irqchip_load(&e->vm, e->reset_irqchip, &err) < 0) {
        return engine_end_run(e, RUN_END_HOST, err.text);
    }
    for (unsigned i = 0; i < e->cpu_count; i++) {
        if (vcpu_reset(&e->cpu[i].vcpu, &err) < 0) {
            return engine_end_run(e, RUN_END_HOST, err.text);
        }
    }
    if (engine_boot_load(e, &err) < 0) {
        return engine_end_run(e, RUN_END_HOST, err.text);
    }
    gate_open(e);
    return true;
}

static void doorbell_rang(struct engine *e, const struct engine_doorbell *d)
{
    struct dev_input in = {.type = INPUT_NOTIFY, .value = d->queue};

    (void)machine_input(e->machine, d->dev_index, &in);
}

static void arm_timer(struct engine *e, uint64_t until_ns)
{
    struct itimerspec when = {0};

    if (until_ns == e->timer_armed_ns) {
        return;
    }
    e->timer_armed_ns = until_ns;
    if (until_ns != UINT64_MAX) {
        uint64_t mono = until_ns + e->clock_offset_ns;

        when.it_value.tv_sec = (time_t)(mono / NSEC_PER_SEC);
        when.it_value.tv_nsec = (long)(mono % NSEC_PER_SEC);
    }
    (void)timerfd_settime(e->io_timer_fd, TFD_TIMER_ABSTIME, &when, NULL);
}

/* Sleeps until there is something to do, and notes which doorbells rang. */
static int io_wait(struct engine *e, struct epoll_event *events)
{
    int n = epoll_wait(
        e->epoll_fd, events, EPOLL_EVENTS_MAX,
        disks_reapable(e->disks) || engine_keys_wanted(e) || e->entropy_wanted > 0 ? 0
                                                                                   : -1);
    uint64_t count;

    for (int i = 0; i < n; i++) {
        if (events[i].data.u64 == WAKE_KICK) {
            (void)!read(e->wake_fd, &count, sizeof count);
        } else if (events[i].data.u64 == WAKE_TIMER) {
            (void)!read(e->io_timer_fd, &count, sizeof count);
            e->timer_armed_ns = UINT64_MAX;
        }
    }
    return n < 0 ? 0 : n;
}

/* Everything that waits for the machine; under machine_lock. */
static void io_work(struct engine *e, const struct epoll_event *events, int n)
{
    lock_machine(e);
    e->msi_defer = true;
    for (int i = 0; i < n; i++) {
        if (events[i].data.u64 < e->doorbell_count) {
            doorbell_rang(e, &e->doorbell[events[i].data.u64]);
        }
    }
    (void)disks_reap(e->disks, engine_on_blk_done, e);
    engine_take_queue(e);
    engine_take_keys(e);
    engine_give_entropy(e);
    machine_wake(e->machine, engine_machine_now_ns(e));
    e->io_until_ns = machine_next_wake_ns(e->machine);
    engine_unsent_turn(e);
    engine_hold_turn(e);
    if (!disks_push(e->disks)) {
        uint64_t again = engine_machine_now_ns(e) + ENGINE_PUSH_AGAIN_NS;

        e->io_until_ns = again < e->io_until_ns ? again : e->io_until_ns;
    }
    send_deferred(e);
    arm_timer(e, e->io_until_ns);
    unlock_machine(e);
}

/* Failed requests are tried again, queues are looked at. The network may have forgotten
 * this guest, or not know it yet: it was frozen, or comes from somewhere else. A guest
 * that has not booted yet does not hear of it. */
static void go_again(struct engine *e)
{
    lock_machine(e);
    engine_retry_held(e);
    /* A doorbell that rang when the guest was stopped, here or where it comes from, was
     * not heard. */
    for (unsigned i = 0; i < e->doorbell_count; i++) {
        doorbell_rang(e, &e->doorbell[i]);
    }
    for (unsigned i = 0; i < e->conf.nic_count; i++) {
        if (e->conf.nic[i].offloads) {
            (void)net_tap_offload(e->conf.nic[i].fd[0],
                                  machine_net_offload(e->machine, i));
            (void)machine_input(e->machine, machine_nic_dev(e->machine, i),
                                &(struct dev_input){.type = INPUT_ANNOUNCE});
        }
    }
    unlock_machine(e);
}

/* The guest stands still for a moment; nobody else is told. */
static void checkpoint(struct engine *e)
{
    uint64_t since_ns = loop_now_ns();

    gate_shut(e);
    kvm_clock_stop(e);
    lock_machine(e);
    engine_epoch_take(e, since_ns);
    unlock_machine(e);
    while (engine_epoch_stands(e) && engine_may_run(e)) {
        engine_wait(e, engine_machine_now_ns(e) + ENGINE_OFF_NS);
    }
    gate_open(e);
}

/* True: the guest stands until the next checkpoint. */
static bool stands_full(struct engine *e)
{
    bool full = engine_epoch_full(e);

    if (full && atomic_load(&e->gate)) {
        gate_shut(e);
    } else if (!full && !atomic_load(&e->gate)) {
        gate_open(e);
    }
    return full;
}

/* From RUNNING until some other state. */
static void smp_run(struct engine *e)
{
    struct epoll_event events[EPOLL_EVENTS_MAX];
    bool full;
    int n = 0;

    engine_clock_start(e);
    kvm_clock_start(e);
    e->timer_armed_ns = 0;           /* the offset has changed */
    e->entropy_wanted = ENTROPY_MAX; /* a restored guest may have asked before */
    atomic_store(&e->port_open, machine_port_open(e->machine));
    go_again(e);
    engine_tell_loop(e);
    engine_tell_epoch(e);
    engine_set_carrier(e, true);
    gate_open(e);
    while (engine_may_run(e)) {
        if (e->shutdown_wanted && !engine_epoch_holds(e)) {
            (void)engine_end_run(e, RUN_END_SHUTDOWN, "the guest powered off");
            break;
        }
        if ((e->reset_wanted || atomic_load(&e->reset_request)) && !smp_reset(e)) {
            break;
        }
        if (engine_epoch_due(e)) {
            checkpoint(e);
        }
        full = stands_full(e);
        io_work(e, events, n);
        if (e->shutdown_wanted || full) {
            engine_wait(e, engine_machine_now_ns(e) + ENGINE_OFF_NS);
            n = 0;
        } else {
            n = io_wait(e, events);
        }
    }
    gate_shut(e);
    kvm_clock_stop(e);
    engine_clock_stop(e);
    engine_set_carrier(e, false);
}

static bool io_setup(struct engine *e)
{
    struct epoll_event event = {.events = EPOLLIN};

    (void)prctl(PR_SET_NAME, "io");
    (void)prctl(PR_SET_TIMERSLACK, 1UL);
    event.data.u64 = WAKE_KICK;
    if (epoll_ctl(e->epoll_fd, EPOLL_CTL_ADD, e->wake_fd, &event) < 0) {
        return false;
    }
    event.data.u64 = WAKE_DISK;
    if (epoll_ctl(e->epoll_fd, EPOLL_CTL_ADD, disks_poll_fd(e->disks), &event) < 0) {
        return false;
    }
    event.data.u64 = WAKE_TIMER;
    return epoll_ctl(e->epoll_fd, EPOLL_CTL_ADD, e->io_timer_fd, &event) == 0;
}

void *engine_io_main(void *data)
{
    struct engine *e = data;

    if (!io_setup(e)) {
        (void)engine_end_run(e, RUN_END_HOST,
                             "the I/O thread cannot wait for its events");
    }
    priority_usual();
    sandbox_thread(SANDBOX_IO);
    engine_follow_state(e, smp_run);
    return NULL;
}

/* Making
 * ----------------------------------------------------------------------------------- */

int engine_smp_set_model(struct engine *e, const struct cpu_model *model,
                         struct vmm_error *err)
{
    struct cpu_model host;
    char missing[VMM_ERROR_MAX - 64];
    int r = 0;

    vcpu_host_model(&e->cpu[0].vcpu, &host);
    if (cpu_model_missing(model, &host, missing, sizeof missing) != 0) {
        return vmm_fail(err, -EOPNOTSUPP,
                        "this host cannot run its CPU model; it lacks: %s", missing);
    }
    for (unsigned i = 0; r == 0 && i < e->cpu_count; i++) {
        r = vcpu_set_model(&e->cpu[i].vcpu, model, err);
    }
    if (r == 0) {
        e->cpu_model = *model;
    }
    return r;
}

int engine_smp_open(struct engine *e, struct vmm_error *err)
{
    struct cpu_model host;
    int r = 0;

    e->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    e->io_timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    e->reset_irqchip = calloc(1, sizeof *e->reset_irqchip);
    e->cpu = calloc(e->conf.cpu_count, sizeof *e->cpu);
    if (e->epoll_fd < 0 || e->io_timer_fd < 0 || !e->reset_irqchip || !e->cpu) {
        return vmm_fail(err, -ENOMEM, "no memory or file descriptors for %u vCPUs",
                        e->conf.cpu_count);
    }
    for (unsigned i = 0; r == 0 && i < e->conf.cpu_count; i++) {
        struct engine_cpu *c = &e->cpu[i];

        c->engine = e;
        c->id = i;
        r = vcpu_open_standard(&e->vm, i, e->conf.cpu_count, &smp_bus, e, &c->vcpu, err);
        if (r == 0) {
            e->cpu_count++;
        }
    }
    if (r == 0) {
        vcpu_host_model(&e->cpu[0].vcpu, &host);
        r = engine_smp_set_model(e, e->conf.cpu ? e->conf.cpu : &host, err);
    }
    return r < 0 ? r : irqchip_save(&e->vm, e->reset_irqchip, err);
}

int engine_smp_start(struct engine *e, const pthread_attr_t *attr)
{
    int r = 0;

    for (unsigned i = 0; r == 0 && i < e->cpu_count; i++) {
        r = pthread_create(&e->cpu[i].thread, attr, engine_cpu_main, &e->cpu[i]);
        e->cpu[i].thread_up = r == 0;
    }
    return r;
}

void engine_smp_join(struct engine *e)
{
    pthread_mutex_lock(&e->gate_lock);
    pthread_cond_broadcast(&e->gate_cond); /* `closing` is set */
    pthread_mutex_unlock(&e->gate_lock);
    for (unsigned i = 0; i < e->cpu_count; i++) {
        if (e->cpu[i].thread_up) {
            pthread_join(e->cpu[i].thread, NULL);
        }
    }
}

void engine_smp_close(struct engine *e)
{
    for (unsigned i = 0; i < e->cpu_count; i++) {
        vcpu_close(&e->cpu[i].vcpu);
    }
    for (unsigned i = 0; i < e->doorbell_count; i++) {
        close(e->doorbell[i].fd);
    }
    if (e->epoll_fd >= 0) {
        close(e->epoll_fd);
    }
    if (e->io_timer_fd >= 0) {
        close(e->io_timer_fd);
    }
    free(e->reset_irqchip);
    free(e->cpu);
}
