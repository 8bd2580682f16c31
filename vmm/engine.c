/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/engine.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/bug.h"
#include "base/loop.h"
#include "vmm/boot_files.h"
#include "vmm/engine_priv.h"
#include "vmm/engine_state.h"
#include "vmm/net_tap.h"
#include "vmm/priority.h"
#include "vmm/sandbox.h"

#define SERIAL_OUT_RING (256u * 1024)
#define DEBUG_RING      (64u * 1024)
#define SERIAL_IN_RING  1024u
#define PORT_OUT_RING   (64u * 1024)
#define THREAD_STACK    (256u * 1024)

/* Waking
 * ------------------------------------------------------------------------------------ */

static void bump(int fd)
{
    uint64_t one = 1;

    (void)!write(fd, &one,
                 sizeof one); /* cannot fail but by overflow, which is readable too */
}

void engine_tell_loop(struct engine *e)
{
    bump(e->event_fd);
}

/* Sequentially consistent with engine_wait: either it sees `kicked`, or we see `waiting`.
 * A signal, in contrast, is seen by KVM_RUN however late it comes: its handler sets
 * immediate_exit. */
void engine_wake(struct engine *e)
{
    bump(e->wake_fd);
}

void engine_kick(struct engine *e)
{
    atomic_store(&e->kicked, true);
    if (e->smp) {
        engine_smp_kick(e);
        return;
    }
    if (atomic_load(&e->waiting)) {
        bump(e->wake_fd);
    } else if (e->vcpu_thread_up && !pthread_equal(pthread_self(), e->vcpu_thread)) {
        (void)pthread_kill(e->vcpu_thread, VCPU_KICK_SIGNAL);
    }
}

/* State
 * -------------------------------------------------------------------------------------
 */

static uint64_t guest_time_ns(const struct engine *e)
{
    uint64_t since = atomic_load(&e->guest_since_ns);

    return since ? loop_now_ns() - since : atomic_load(&e->guest_ns);
}

static void fill_status(struct engine *e, struct engine_status *status)
{
    *status = (struct engine_status){
        .change = e->change,
        .state = e->run.state,
        .end = e->run.end,
        .epoch = e->run.epoch,
        .io_in_flight = disks_in_flight(e->disks),
        .exits = e->smp ? engine_smp_exits(e)
                        : __atomic_load_n(&e->vcpu.exits_seen, __ATOMIC_RELAXED),
        .guest_ns = guest_time_ns(e),
        .disk_failed = disks_flush_failed(e->disks),
    };
    memcpy(status->reason, e->run.reason, sizeof status->reason);
}

void engine_publish(struct engine *e)
{
    unsigned at;

    atomic_store(&e->state, (int)e->run.state);
    atomic_store(&e->lease_deadline_ns, e->run.lease_deadline_ns);
    e->change++;
    if (e->notice_count == ENGINE_NOTICES_MAX) {
        e->notice_head = (e->notice_head + 1) % ENGINE_NOTICES_MAX;
        e->notice_count--; /* the oldest: nobody listens */
    }
    at = (e->notice_head + e->notice_count) % ENGINE_NOTICES_MAX;
    fill_status(e, &e->notice[at]);
    e->notice_count++;
    pthread_cond_broadcast(&e->change_cond);
    engine_tell_loop(e);
}

enum run_answer engine_step(struct engine *e, enum run_event event, uint64_t epoch,
                            enum run_end end, const char *reason)
{
    enum run_answer answer;
    enum run_state before;

    pthread_mutex_lock(&e->lock);
    before = e->run.state;
    answer = run_step(&e->run, event, epoch, end, reason, loop_now_ns());
    if (e->run.state != before) {
        engine_publish(e);
    }
    pthread_mutex_unlock(&e->lock);
    engine_kick(e);
    return answer;
}

/* Under lock. */
static void drop_disks(struct engine *e)
{
    for (unsigned i = 0; i < VM_DISKS_MAX; i++) {
        if (e->disk_fd[i] >= 0) {
            close(e->disk_fd[i]);
        }
        e->disk_fd[i] = -1;
    }
}

/* Under lock. */
static void drop_restore(struct engine *e)
{
    if (e->restore_fd >= 0) {
        close(e->restore_fd);
    }
    e->restore_fd = -1;
}

void engine_disks(struct engine *e, const int *fd, unsigned count)
{
    bool wanted;

    pthread_mutex_lock(&e->lock);
    wanted = e->run.state == RUN_CREATED || e->run.state == RUN_FROZEN;
    if (wanted) {
        drop_disks(e);
    }
    for (unsigned i = 0; i < count; i++) {
        if (wanted && i < e->conf.disk_count) {
            e->disk_fd[i] = fd[i];
        } else {
            close(fd[i]);
        }
    }
    pthread_mutex_unlock(&e->lock);
}

enum run_answer engine_start(struct engine *e, uint64_t epoch, const char *reason)
{
    enum run_answer answer = engine_step(e, RUN_EV_START, epoch, RUN_END_NONE, reason);

    pthread_mutex_lock(&e->lock);
    if (e->run.state == RUN_CREATED) {
        drop_disks(e); /* refused: nobody holds a claim for them */
        drop_restore(e);
    }
    pthread_mutex_unlock(&e->lock);
    return answer;
}

void engine_give_away(struct engine *e)
{
    atomic_store(&e->given_away, true);
}

enum run_answer engine_thaw(struct engine *e, uint64_t epoch, const char *reason)
{
    enum run_answer answer =
        atomic_load(&e->given_away)
            ? RUN_BAD_STATE
            : engine_step(e, RUN_EV_THAW, epoch, RUN_END_NONE, reason);

    if (answer != RUN_DONE) {
        pthread_mutex_lock(&e->lock);
        drop_disks(e);
        pthread_mutex_unlock(&e->lock);
    }
    return answer;
}

enum run_answer engine_freeze(struct engine *e, const char *reason)
{
    return engine_step(e, RUN_EV_FREEZE, 0, RUN_END_NONE, reason);
}

enum run_answer engine_end(struct engine *e, enum run_end end, const char *reason)
{
    if (end == RUN_END_KILLED) {
        atomic_store(&e->killed, true);
        engine_kick(e);
    }
    return engine_step(e, RUN_EV_END, 0, end, reason);
}

void engine_status(struct engine *e, struct engine_status *ret_status)
{
    pthread_mutex_lock(&e->lock);
    fill_status(e, ret_status);
    pthread_mutex_unlock(&e->lock);
}

const char *engine_take_reset(struct engine *e)
{
    return atomic_exchange(&e->reset_why, NULL);
}

uint32_t engine_take_guest_event(struct engine *e, enum guest_event event)
{
    return atomic_exchange(&e->guest_event[event], 0);
}

bool engine_take_notice(struct engine *e, struct engine_status *ret_status)
{
    bool any;

    pthread_mutex_lock(&e->lock);
    any = e->notice_count > 0;
    if (any) {
        *ret_status = e->notice[e->notice_head];
        e->notice_head = (e->notice_head + 1) % ENGINE_NOTICES_MAX;
        e->notice_count--;
    }
    pthread_mutex_unlock(&e->lock);
    return any;
}

int engine_event_fd(const struct engine *e)
{
    return e->event_fd;
}

void engine_event_clear(struct engine *e)
{
    uint64_t count;

    (void)!read(e->event_fd, &count, sizeof count);
}

/* Lease
 * -------------------------------------------------------------------------------------
 */

static void arm_lease(struct engine *e, uint64_t deadline_ns)
{
    struct itimerspec when = {
        .it_value = {.tv_sec = (time_t)(deadline_ns / NSEC_PER_SEC),
                     .tv_nsec = (long)(deadline_ns % NSEC_PER_SEC)}};

    BUG_ON(timerfd_settime(e->lease_fd, TFD_TIMER_ABSTIME, &when, NULL) < 0);
}

bool engine_lease(struct engine *e, uint32_t lease_ms, uint64_t from_ns)
{
    enum run_state before;
    bool in_time;

    pthread_mutex_lock(&e->lock);
    before = e->run.state;
    in_time = run_lease(&e->run, lease_ms, from_ns, loop_now_ns());
    atomic_store(&e->lease_deadline_ns, e->run.lease_deadline_ns);
    arm_lease(e, e->run.lease_deadline_ns);
    if (e->run.state != before) {
        engine_publish(e);
        engine_kick(e);
    }
    pthread_mutex_unlock(&e->lock);
    return in_time;
}

/* Its only work is to be on time: it waits for nobody but the clock and a lock held for
 * microseconds. */
static void *lease_main(void *data)
{
    struct engine *e = data;

    sandbox_thread(SANDBOX_LEASE);
    while (!atomic_load(&e->closing)) {
        uint64_t count;

        if (read(e->lease_fd, &count, sizeof count) < 0) {
            continue;
        }
        pthread_mutex_lock(&e->lock);
        if (run_lease_check(&e->run, loop_now_ns())) {
            engine_publish(e);
            engine_kick(e);
        }
        pthread_mutex_unlock(&e->lock);
    }
    return NULL;
}

void engine_throttle(struct engine *e, unsigned permille)
{
    atomic_store(&e->throttle_permille,
                 permille < THROTTLE_MAX ? permille : THROTTLE_MAX);
    if (e->smp) {
        engine_smp_kick_cpus(e); /* those that compute have to begin */
    } else {
        engine_kick(e);
    }
}

/* Inputs
 * ------------------------------------------------------------------------------------ */

static bool running(struct engine *e)
{
    return atomic_load(&e->state) == RUN_RUNNING;
}

bool engine_reset(struct engine *e)
{
    if (!running(e)) {
        return false;
    }
    atomic_store(&e->reset_request, true);
    engine_kick(e);
    return true;
}

static bool push(struct engine *e, unsigned dev_index, const struct dev_input *in)
{
    if (!running(e) || input_queue_push(&e->inputs, dev_index, in) < 0) {
        return false;
    }
    engine_kick(e);
    return true;
}

bool engine_power_button(struct engine *e)
{
    return push(e, MACHINE_DEV_PM, &(struct dev_input){.type = INPUT_POWER_BUTTON});
}

void engine_net_rx(struct engine *e, unsigned nic, unsigned queue, const uint8_t *frame,
                   uint32_t len)
{
    struct dev_input in = {
        .type = INPUT_NET_RX, .data = frame, .len = len, .value = queue};

    if (nic < e->conf.nic_count && len <= NET_HEADER_LEN + NET_FRAME_MAX) {
        (void)push(e, machine_nic_dev(e->machine, nic), &in);
    }
}

/* An extra that this machine lacks has a number that the queue's reader refuses. */
static bool push_extra(struct engine *e, enum machine_extra extra,
                       const struct dev_input *in)
{
    unsigned dev_index = machine_extra_dev(e->machine, extra);

    return dev_index < MACHINE_DEV_COUNT && push(e, dev_index, in);
}

bool engine_port_send(struct engine *e, const uint8_t *bytes, uint32_t len)
{
    struct dev_input in = {.type = INPUT_PORT_RX, .data = bytes, .len = len};

    return len <= PORT_RX_MAX && push_extra(e, MACHINE_EXTRA_CONSOLE, &in);
}

bool engine_port_open(const struct engine *e)
{
    return atomic_load(&e->port_open);
}

struct byte_ring *engine_port_out(struct engine *e)
{
    return &e->port_out;
}

bool engine_balloon(struct engine *e, uint64_t bytes)
{
    struct dev_input in = {.type = INPUT_BALLOON, .value = bytes / GMEM_PAGE_SIZE};

    return push_extra(e, MACHINE_EXTRA_BALLOON, &in);
}

bool engine_balloon_poll(struct engine *e)
{
    return push_extra(e, MACHINE_EXTRA_BALLOON,
                      &(struct dev_input){.type = INPUT_BALLOON_POLL});
}

/* machine_lock is never taken under lock: engine_triple_fault does it the other way. */
bool engine_balloon_read(struct engine *e, struct machine_balloon *ret_balloon)
{
    struct machine_balloon now;
    bool fresh = false;

    if (machine_extra_dev(e->machine, MACHINE_EXTRA_BALLOON) == MACHINE_DEV_COUNT) {
        return false;
    }
    if (running(e)) {
        pthread_mutex_lock(&e->machine_lock);
        fresh = machine_balloon(e->machine, &now);
        pthread_mutex_unlock(&e->machine_lock);
    }
    pthread_mutex_lock(&e->lock);
    if (fresh) {
        e->balloon = now;
    }
    *ret_balloon = e->balloon;
    pthread_mutex_unlock(&e->lock);
    return true;
}

struct byte_ring *engine_serial_out(struct engine *e)
{
    return &e->serial_out;
}

struct byte_ring *engine_debug_ring(struct engine *e)
{
    return &e->debug_out;
}

struct byte_ring *engine_serial_in(struct engine *e)
{
    return &e->serial_in;
}

void engine_serial_in_ready(struct engine *e)
{
    engine_kick(e);
}

int engine_nic_fd(const struct engine *e, unsigned nic, unsigned queue)
{
    return e->conf.nic[nic].fd[queue];
}

int engine_disk_fd(const struct engine *e)
{
    return e->smp ? -1 : disks_event_fd(e->disks);
}

void engine_disk_event(struct engine *e)
{
    disks_event_clear(e->disks);
    engine_kick(e);
}

/* Making
 * ------------------------------------------------------------------------------------ */

static int open_fds(struct engine *e, struct vmm_error *err)
{
    e->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    e->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    e->lease_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    e->state_fd = memfd_create("gemel-state", MFD_CLOEXEC);
    if (e->event_fd < 0 || e->wake_fd < 0 || e->lease_fd < 0 || e->state_fd < 0) {
        return vmm_fail(err, -errno, "cannot make an eventfd, timerfd or memfd: %s",
                        strerror(errno));
    }
    return 0;
}

static int make_machine(struct engine *e, struct vmm_error *err)
{
    struct machine_conf mc = {.type = e->conf.machine,
                              .transport = e->conf.transport,
                              .cpu_count = e->conf.cpu_count,
                              .ram_len = e->conf.ram_len,
                              .disk_count = e->conf.disk_count,
                              .nic_count = e->conf.nic_count,
                              .extras = e->smp ? MACHINE_EXTRAS_ALL : 0,
                              .cmdline = e->conf.cmdline};
    int r;

    for (unsigned i = 0; i < e->conf.disk_count; i++) {
        const struct engine_disk_conf *conf = &e->conf.disk[i];

        e->disk[i] = (struct disk_desc){.kind = conf->kind,
                                        .path = conf->path,
                                        .read_only = conf->read_only,
                                        .keep = conf->on_error == ENGINE_DISK_PAUSE,
                                        .by_epoch = conf->by_epoch,
                                        .stop = engine_waits_no_more,
                                        .stop_ctx = e};
        r = disks_look(e->disks, i, &e->disk[i], err);
        if (r < 0) {
            return r;
        }
        mc.disk[i].sectors = e->disk[i].info.sectors;
        mc.disk[i].read_only = e->conf.disk[i].read_only;
        mc.disk[i].bytes_per_s = e->conf.disk[i].bytes_per_s;
        mc.disk[i].requests_per_s = e->conf.disk[i].requests_per_s;
        memcpy(mc.disk[i].serial, e->conf.disk[i].serial, sizeof mc.disk[i].serial);
    }
    for (unsigned i = 0; i < e->conf.nic_count; i++) {
        memcpy(mc.nic[i].mac, e->conf.nic[i].mac, 6);
        mc.nic[i].offloads = e->conf.nic[i].offloads;
        mc.nic[i].queue_pairs = e->conf.nic[i].queue_count;
        mc.nic[i].bytes_per_s = e->conf.nic[i].bytes_per_s;
        mc.nic[i].packets_per_s = e->conf.nic[i].packets_per_s;
    }
    if (mc.cmdline && strlen(mc.cmdline) > GUEST_CMDLINE_MAX) {
        return vmm_fail(err, -EINVAL,
                        "the command line for the firmware has %zu bytes; fw_cfg's "
                        "opt/gemel/cmdline takes %d at most",
                        strlen(mc.cmdline), GUEST_CMDLINE_MAX);
    }
    /* Fresh pages: most of a machine is buffers that may never be touched. */
    e->machine_len = machine_size(&mc);
    e->machine_memory = mmap(NULL, e->machine_len, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (e->machine_memory == MAP_FAILED) {
        e->machine_memory = NULL;
        return vmm_fail(err, -ENOMEM, "no memory for the machine's devices");
    }
    r = machine_init(e->machine_memory, &mc, &e->vm.gmem,
                     e->conf.tape ? &engine_tape_machine_ops : &engine_machine_ops, e,
                     &e->machine);
    return r < 0 ? vmm_fail(err, r,
                            "machine %s cannot have %u disks and %u nics: %u devices "
                            "together at most",
                            e->smp ? "standard" : "lockstep", mc.disk_count, mc.nic_count,
                            MACHINE_VIRTIO_SLOTS)
                 : 0;
}

size_t engine_cpuid(struct engine *e, void *buf, size_t cap)
{
    return vcpu_cpuid(&e->vcpu, e->vm.sys_fd, buf, cap);
}

uint32_t engine_disks_written(const struct engine *e)
{
    uint32_t mask = 0;

    for (unsigned i = 0; i < e->conf.disk_count; i++) {
        mask |= (uint32_t)!e->conf.disk[i].read_only << i;
    }
    return mask;
}

uint64_t engine_disk_sectors(const struct engine *e, unsigned disk)
{
    return e->disk[disk].info.sectors;
}

int engine_go(struct engine *e, struct vmm_error *err)
{
    sigset_t all, old;
    pthread_attr_t attr;
    int r;

    /* Signals are the loop thread's; the vCPU thread opens the kick signal for itself. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, THREAD_STACK);
    r = pthread_create(&e->lease_thread, &attr, lease_main, e);
    e->lease_thread_up = r == 0;
    if (r == 0 && e->smp) {
        r = engine_smp_start(e, &attr);
    }
    if (r == 0) {
        r = pthread_create(&e->vcpu_thread, &attr,
                           e->smp ? engine_io_main : engine_vcpu_main, e);
        e->vcpu_thread_up = r == 0;
    }
    pthread_attr_destroy(&attr);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return r ? vmm_fail(err, -r, "cannot start a thread: %s", strerror(r)) : 0;
}

static int check_conf(const struct engine_conf *conf, struct vmm_error *err)
{
    if (conf->machine == MACHINE_LOCKSTEP && conf->cpu_count != 1) {
        return vmm_fail(err, -EINVAL, "machine lockstep has one vCPU, not %u",
                        conf->cpu_count);
    }
    if (conf->tape && conf->machine != MACHINE_LOCKSTEP) {
        return vmm_fail(err, -EINVAL,
                        "machine standard cannot be recorded or replayed: its interrupt "
                        "controllers and clocks are the kernel's; use machine lockstep");
    }
    if (conf->cpu_count > ENGINE_CPUS_MAX) {
        return vmm_fail(err, -EINVAL, "machine standard has at most %d vCPUs, not %u",
                        ENGINE_CPUS_MAX, conf->cpu_count);
    }
    return 0;
}

int engine_open(const struct engine_conf *conf, struct engine **ret_engine,
                struct vmm_error *err)
{
    struct engine *e = calloc(1, sizeof *e);
    pthread_condattr_t monotonic;
    int r;

    if (!e) {
        return vmm_fail(err, -ENOMEM, "no memory for the VM");
    }
    e->conf = *conf;
    e->conf.cpu_count = conf->cpu_count > 0 ? conf->cpu_count : 1;
    e->smp = conf->machine == MACHINE_STANDARD;
    e->receiving = conf->ram_given; /* it is not booted over */
    e->event_fd = e->wake_fd = e->lease_fd = e->epoll_fd = e->io_timer_fd = -1;
    e->work.fd = e->restore_fd = e->state_fd = -1;
    e->vm.vm_fd = e->vm.sys_fd = e->vcpu.fd = -1;
    for (unsigned i = 0; i < VM_DISKS_MAX; i++) {
        e->disk_fd[i] = -1;
    }
    priority_mutex_init(&e->lock);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&e->change_cond, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_mutex_init(&e->machine_lock, NULL);
    pthread_mutex_init(&e->dirty_lock, NULL);
    e->dirty.vm = &e->vm;
    pthread_mutex_init(&e->gate_lock, NULL);
    pthread_cond_init(&e->gate_cond, NULL);
    input_queue_init(&e->inputs);
    r = check_conf(&e->conf, err);
    if (r >= 0) {
        r = open_fds(e, err);
    }
    if (r >= 0 && (byte_ring_init(&e->serial_out, SERIAL_OUT_RING) < 0 ||
                   byte_ring_init(&e->debug_out, DEBUG_RING) < 0 ||
                   byte_ring_init(&e->serial_in, SERIAL_IN_RING) < 0 ||
                   byte_ring_init(&e->port_out, PORT_OUT_RING) < 0)) {
        r = vmm_fail(err, -ENOMEM, "no memory for console buffers");
    }
    if (r >= 0 && conf->tape) {
        r = engine_tape_open(e, err);
    }
    if (r >= 0) {
        r = vcpu_kick_setup();
    }
    if (r >= 0) {
        r = disks_open(&e->disks, err);
    }
    if (r >= 0) {
        struct vm_conf vc = {.kvm_path = conf->kvm_path,
                             .standard = e->smp,
                             .ram_len = conf->ram_len,
                             .huge = conf->hugepages,
                             .ram_given = conf->ram_given,
                             .ram_fd = conf->ram_fd,
                             .rom_path = conf->rom_path};

        r = vm_open(conf->kvm, &vc, &e->vm, err);
    }
    if (r >= 0) {
        r = make_machine(e, err);
    }
    if (r >= 0) {
        r = e->smp ? engine_smp_open(e, err)
                   : vcpu_open(&e->vm, conf->tape ? &engine_tape_bus : &engine_bus, e,
                               &e->vcpu, err);
    }
    if (r >= 0 && !e->smp) {
        int sync = e->vcpu.ops->check(e->vm.vm_fd, KVM_CAP_SYNC_REGS);

        e->syncs_regs = sync > 0 && (sync & KVM_SYNC_X86_REGS) != 0;
    }
    if (r >= 0) {
        r = engine_boot_open(e, err);
    }
    if (r >= 0 && conf->tape) {
        r = engine_tape_begin(e, err);
    }
    for (unsigned i = 0; r >= 0 && i < conf->nic_count; i++) {
        (void)net_tap_carrier(conf->nic[i].fd[0], false);
    }
    if (r < 0) {
        engine_close(e);
        return r;
    }
    *ret_engine = e;
    return 0;
}

void engine_close(struct engine *e)
{
    if (!e) {
        return;
    }
    if (e->vcpu_thread_up) {
        (void)engine_end(e, RUN_END_KILLED, "the VMM is closed");
        pthread_join(e->vcpu_thread, NULL);
    }
    atomic_store(&e->closing, true);
    engine_smp_join(e);
    if (e->lease_thread_up) {
        arm_lease(e, 1); /* long past: wakes it */
        pthread_join(e->lease_thread, NULL);
    }
    disks_close(e->disks);
    boot_files_close(e->boot);
    engine_tape_close(e);
    engine_epoch_close(e);
    vcpu_close(&e->vcpu);
    engine_smp_close(e);
    dirty_log_close(&e->dirty);
    vm_close(&e->vm);
    if (e->machine_memory) {
        munmap(e->machine_memory, e->machine_len);
    }
    for (unsigned i = 0; i < e->conf.nic_count; i++) {
        for (unsigned q = 0; q == 0 || q < e->conf.nic[i].queue_count; q++) {
            close(e->conf.nic[i].fd[q]);
        }
    }
    drop_disks(e);
    input_queue_free(&e->inputs);
    byte_ring_free(&e->serial_out);
    byte_ring_free(&e->debug_out);
    byte_ring_free(&e->serial_in);
    byte_ring_free(&e->port_out);
    if (e->state_fd >= 0) {
        close(e->state_fd);
    }
    engine_state_forget(e);
    drop_restore(e);
    close(e->event_fd);
    close(e->wake_fd);
    close(e->lease_fd);
    pthread_mutex_destroy(&e->lock);
    pthread_cond_destroy(&e->change_cond);
    pthread_mutex_destroy(&e->machine_lock);
    pthread_mutex_destroy(&e->dirty_lock);
    pthread_mutex_destroy(&e->gate_lock);
    pthread_cond_destroy(&e->gate_cond);
    free(e);
}
