/* SPDX-License-Identifier: Apache-2.0 */
/* The vCPU thread: the only one that touches the vCPU, the machine, guest memory and the
 * disks. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/bug.h"
#include "base/loop.h"
#include "base/os.h"
#include "vmm/engine_priv.h"
#include "vmm/engine_state.h"
#include "vmm/net_tap.h"
#include "vmm/priority.h"
#include "vmm/sandbox.h"

#define ENTROPY_BATCH 16 /* buffers of the guest's rng in one turn */
/* Triple faults so close together are not reboots. */
#define TRIPLE_FAULTS_MAX       5
#define TRIPLE_FAULTS_WINDOW_NS (10 * NSEC_PER_SEC)

/* Inputs
 * ------------------------------------------------------------------------------------ */

void engine_take_queue(struct engine *e)
{
    struct queued_input *item;

    while ((item = input_queue_pop(&e->inputs))) {
        (void)machine_input(e->machine, item->dev_index, &item->in);
        free(item);
    }
}

bool engine_keys_wanted(struct engine *e)
{
    return !byte_ring_empty(&e->serial_in) && machine_serial_room(e->machine) > 0;
}

void engine_take_keys(struct engine *e)
{
    uint8_t keys[SERIAL_RX_MAX];
    uint32_t room = machine_serial_room(e->machine);
    struct dev_input in = {.type = INPUT_SERIAL_RX, .data = keys};

    in.len = (uint32_t)byte_ring_get(&e->serial_in, keys,
                                     room < sizeof keys ? room : sizeof keys);
    if (in.len > 0) {
        (void)machine_input(e->machine, MACHINE_DEV_SERIAL, &in);
        engine_tell_loop(e);
    }
}

/* At most a few buffers at a time: a guest that wants no end of it gets the rest in the
 * next turn. */
void engine_give_entropy(struct engine *e)
{
    uint8_t bytes[ENTROPY_MAX];

    for (unsigned i = 0; i < ENTROPY_BATCH && e->entropy_wanted > 0; i++) {
        struct dev_input in = {.type = INPUT_ENTROPY, .data = bytes};
        ssize_t n = getrandom(bytes, e->entropy_wanted, 0);

        if (n <= 0) {
            return; /* interrupted: asked for still */
        }
        in.len = (uint32_t)n;
        e->entropy_wanted = 0;
        (void)machine_input(e->machine, machine_extra_dev(e->machine, MACHINE_EXTRA_RNG),
                            &in);
    }
    explicit_bzero(bytes, sizeof bytes);
}

/* Everything that waits for this thread, at an instruction boundary. False: the guest's
 * run is over. */
static bool take_inputs(struct engine *e)
{
    enum vcpu_event event = vcpu_settle(&e->vcpu);

    if (event != VCPU_KICKED && !engine_handle_event(e, event)) {
        return false;
    }
    (void)disks_reap(e->disks, engine_on_blk_done, e);
    engine_take_queue(e);
    engine_take_keys(e);
    machine_wake(e->machine, engine_machine_now_ns(e));
    return true;
}

/* Running
 * ----------------------------------------------------------------------------------- */

bool engine_end_run(struct engine *e, enum run_end end, const char *reason)
{
    (void)engine_step(e, RUN_EV_END, 0, end, reason);
    return false;
}

bool engine_reset_guest(struct engine *e)
{
    struct vmm_error err;
    enum vcpu_event event = vcpu_settle(&e->vcpu);

    if (event == VCPU_FAILED) {
        return engine_end_run(e, RUN_END_CRASH, e->vcpu.fault.text);
    }
    /* Old writes must not land after what the guest writes in its next life. */
    engine_drain_disks(e);
    engine_reset_begins(e);
    e->halted = false;
    machine_reset(e->machine);
    vm_rom_recopy(&e->vm);
    if (vcpu_reset(&e->vcpu, &err) < 0 || engine_boot_load(e, &err) < 0) {
        return engine_end_run(e, RUN_END_HOST, err.text);
    }
    return true;
}

bool engine_triple_fault(struct engine *e)
{
    uint64_t now = loop_now_ns();

    if (e->conf.crash_on_triple_fault) {
        return engine_end_run(e, RUN_END_CRASH,
                              "the guest's processor shut down (triple fault)");
    }
    if (now - e->triple_fault_since_ns > TRIPLE_FAULTS_WINDOW_NS) {
        e->triple_fault_since_ns = now;
        e->triple_faults = 0;
    }
    if (++e->triple_faults > TRIPLE_FAULTS_MAX) {
        return engine_end_run(
            e, RUN_END_CRASH,
            "the guest's processor shut down (triple fault) again and again");
    }
    atomic_store(&e->reset_why, "its processor shut down (triple fault)");
    e->reset_wanted = true;
    return true;
}

void engine_reset_begins(struct engine *e)
{
    const char *why = NULL;

    (void)atomic_compare_exchange_strong(&e->reset_why, &why,
                                         e->reset_wanted ? "it asked for it"
                                                         : "an operator asked for it");
    e->reset_wanted = false;
    atomic_store(&e->reset_request, false);
    engine_tell_loop(e);
}

/* True: go on. */
bool engine_handle_event(struct engine *e, enum vcpu_event event)
{
    switch (event) {
    case VCPU_HALT:
        e->halted = true;
        return true;
    case VCPU_TRIPLE_FAULT:
        return engine_triple_fault(e);
    case VCPU_FAILED:
        return engine_end_run(e, RUN_END_CRASH, e->vcpu.fault.text);
    case VCPU_DEBUG:
        return engine_end_run(e, RUN_END_HOST, "unexpected debug exit from KVM");
    case VCPU_IO:
    case VCPU_KICKED:
    case VCPU_IRQ_WINDOW:
        break;
    }
    return true;
}

/* Checked before each entry: a thread that was stopped past its lease must not run one
 * more instruction. */
bool engine_may_run(struct engine *e)
{
    uint64_t deadline;

    if (atomic_load(&e->state) != RUN_RUNNING) {
        return false;
    }
    deadline = atomic_load(&e->lease_deadline_ns);
    if (deadline != 0 && loop_now_ns() >= deadline) {
        pthread_mutex_lock(&e->lock);
        if (run_lease_check(&e->run, loop_now_ns())) {
            engine_publish(e);
        }
        pthread_mutex_unlock(&e->lock);
        return atomic_load(&e->state) == RUN_RUNNING;
    }
    return true;
}

unsigned engine_throttle_share(void *engine)
{
    struct engine *e = engine;
    unsigned permille = atomic_load_explicit(&e->throttle_permille, memory_order_relaxed);

    /* Before the lease's deadline is looked at, which is done before each entry. */
    return permille > 0 && atomic_load(&e->state) == RUN_RUNNING &&
                   (!e->smp || atomic_load(&e->gate))
               ? permille
               : 0;
}

bool engine_inputs_due(struct engine *e)
{
    bool due = atomic_exchange(&e->kicked, false);

    return due || disks_reapable(e->disks) || engine_keys_wanted(e) ||
           machine_next_wake_ns(e->machine) <= engine_machine_now_ns(e);
}

/* One turn: at most one entry into the guest. False: the run is over or interrupted. */
static bool run_once(struct engine *e)
{
    throttle_turn(&e->throttle, engine_throttle_share, e);
    vcpu_kick_clear(&e->vcpu);
    if (!engine_may_run(e)) {
        return false;
    }
    engine_unsent_turn(e);
    engine_hold_turn(e);
    (void)disks_push(e->disks);
    if (e->shutdown_wanted && !engine_epoch_holds(e)) {
        return engine_end_run(e, RUN_END_SHUTDOWN, "the guest powered off");
    }
    if (e->reset_wanted || atomic_load(&e->reset_request)) {
        return engine_reset_guest(e);
    }
    if (e->shutdown_wanted && !engine_epoch_due(e)) {
        atomic_store(&e->kicked, false);
        engine_wait(e, engine_machine_now_ns(e) + ENGINE_OFF_NS);
        return true;
    }
    if (engine_epoch_due(e)) {
        uint64_t since_ns = loop_now_ns();
        enum vcpu_event event = vcpu_settle(&e->vcpu);

        if (event != VCPU_KICKED && !engine_handle_event(e, event)) {
            return false;
        }
        engine_epoch_take(e, since_ns);
        while (engine_epoch_stands(e) && engine_may_run(e)) {
            atomic_store(&e->kicked, false);
            engine_wait(e, engine_machine_now_ns(e) + ENGINE_OFF_NS);
        }
        return true;
    }
    if (engine_inputs_due(e)) {
        return take_inputs(
            e); /* and once more from the top: it cleared what a kick had set */
    }
    if (engine_epoch_full(e)) {
        engine_wait(e, engine_machine_now_ns(e) + ENGINE_OFF_NS);
        return true;
    }
    if (vcpu_offer_interrupt(&e->vcpu)) {
        e->halted = false;
    }
    if (e->vcpu.fault.text[0]) {
        return engine_end_run(e, RUN_END_HOST, e->vcpu.fault.text);
    }
    if (e->halted) {
        engine_wait(e, machine_next_wake_ns(e->machine));
        return true;
    }
    engine_arm_wake(e, machine_next_wake_ns(e->machine));
    return engine_handle_event(e, vcpu_enter(&e->vcpu));
}

void engine_set_carrier(struct engine *e, bool up)
{
    for (unsigned i = 0; i < e->conf.nic_count; i++) {
        (void)net_tap_carrier(e->conf.nic[i].fd[0], up);
    }
}

static uint64_t current_epoch(struct engine *e)
{
    uint64_t epoch;

    pthread_mutex_lock(&e->lock);
    epoch = e->run.epoch;
    pthread_mutex_unlock(&e->lock);
    return epoch;
}

bool engine_epoch_is_new(struct engine *e)
{
    return !e->epoch_told_any || current_epoch(e) != e->epoch_told;
}

void engine_tell_epoch(struct engine *e)
{
    uint64_t epoch = current_epoch(e);

    if (!e->epoch_told_any || epoch != e->epoch_told) {
        struct dev_input in = {.type = INPUT_EPOCH, .value = epoch};

        (void)machine_input(e->machine, MACHINE_DEV_FWCFG, &in);
        e->epoch_told = epoch;
        e->epoch_told_any = true;
    }
}

void engine_run_begins(struct engine *e)
{
    engine_clock_start(e);
    engine_retry_held(e);
    engine_set_carrier(e, true);
}

void engine_run_ends(struct engine *e)
{
    engine_clock_stop(e);
    engine_set_carrier(e, false);
}

/* From RUNNING until some other state: entered, and left, at an instruction boundary. */
static void run_guest(struct engine *e)
{
    enum vcpu_event event;

    engine_run_begins(e);
    engine_tell_epoch(e);
    while (run_once(e)) {
    }
    event = vcpu_settle(&e->vcpu);
    (void)engine_handle_event(e, event);
    engine_run_ends(e);
}

static void run_lockstep(struct engine *e)
{
    if (e->tape && e->tape_follows) {
        engine_tape_live(e);
    }
    if (e->tape) {
        engine_tape_run(e);
    } else {
        run_guest(e);
    }
}

/* What the guest begins with: a saved state, a kernel, or what firmware makes of it.
 * False: the run has ended. */
static bool prepare_guest(struct engine *e)
{
    enum engine_ram_place place;
    struct vmm_error err;
    bool receiving;
    int fd, r;

    pthread_mutex_lock(&e->lock);
    fd = e->restore_fd;
    e->restore_fd = -1;
    place = e->restore_place;
    receiving = e->receiving;
    pthread_mutex_unlock(&e->lock);
    if (e->tape && !e->tape_attached &&
        (receiving || fd >= 0 || engine_state_decoded(e))) {
        r = vmm_fail(&err, -EINVAL,
                     "a VM that goes on from a saved state cannot be recorded or "
                     "replayed: a recording begins with a boot");
    } else if (engine_state_decoded(e)) {
        r = vm_ram_take(&e->vm, &err); /* what KVM then writes to it, it may */
        r = r < 0 ? r : engine_state_apply(e, &err);
        engine_state_forget(e);
    } else if (receiving) {
        r = vmm_fail(&err, -EINVAL,
                     "this VM waits for what it goes on from; nothing has come");
    } else if (fd >= 0) {
        r = engine_state_load(e, fd, e->restore_name, place, &err);
    } else {
        r = engine_boot_load(e, &err);
    }
    if (fd >= 0) {
        close(fd);
    }
    return r == 0 || engine_end_run(e, RUN_END_HOST, err.text);
}

/* R1: only now, with a claim behind it, are the disks used. */
void engine_open_disks(struct engine *e)
{
    struct vmm_error err;

    bool replay = e->conf.tape && e->conf.tape->replay;

    e->starts = true;
    for (unsigned i = 0; i < e->conf.disk_count && !replay; i++) {
        if (engine_open_disk(e, i, &err) < 0) {
            (void)engine_end_run(e, RUN_END_HOST, err.text);
            return;
        }
    }
    e->starts = false;
    if (!prepare_guest(e)) {
        return;
    }
    if (!replay) {
        engine_set_rtc(e);
    }
    (void)engine_step(e, RUN_EV_STARTED, 0, RUN_END_NONE, NULL);
}

bool engine_follow_prepare(struct engine *e, uint32_t mirror)
{
    struct vmm_error err;

    for (unsigned i = 0; i < e->conf.disk_count; i++) {
        if ((mirror >> i & 1) != 0 && engine_open_disk(e, i, &err) < 0) {
            return engine_end_run(e, RUN_END_HOST, err.text);
        }
    }
    return prepare_guest(e);
}

static bool thread_setup(struct engine *e, struct vmm_error *err)
{
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID,
                             .sigev_signo = VCPU_KICK_SIGNAL};
    sigset_t kick;

    event._sigev_un._tid = (pid_t)syscall(SYS_gettid);
    vcpu_kick_arm(&e->vcpu);
    sigemptyset(&kick);
    sigaddset(&kick, VCPU_KICK_SIGNAL);
    pthread_sigmask(SIG_UNBLOCK, &kick, NULL);
    (void)prctl(PR_SET_NAME, "vcpu0");
    (void)prctl(PR_SET_TIMERSLACK, 1UL); /* guest timers to the microsecond, not to 50 */
    if (timer_create(CLOCK_MONOTONIC, &event, &e->wake_timer) < 0) {
        vmm_fail(err, -errno, "cannot make a timer: %s", strerror(errno));
        return false;
    }
    e->wake_timer_up = true;
    (void)throttle_setup(&e->throttle, VCPU_KICK_SIGNAL);
    priority_usual();
    sandbox_thread(SANDBOX_VCPU); /* last: what stands above needs more */
    return true;
}

void engine_follow_state(struct engine *e, void (*run)(struct engine *e))
{
    int state;

    while ((state = atomic_load(&e->state)) != RUN_ENDED) {
        atomic_store(&e->kicked, false);
        if (state != atomic_load(&e->state)) {
            continue; /* changed before the flag was cleared */
        }
        switch (state) {
        case RUN_STARTING:
            engine_idle_work(e); /* a check that was asked for before */
            engine_open_disks(e);
            break;
        case RUN_RUNNING:
            engine_idle_work(e); /* what was asked for before the THAW comes first */
            if ((!e->tape_follows || engine_shared_open(e)) &&
                (!e->epoch_follows || engine_epoch_live(e)) && engine_reconnect(e)) {
                run(e);
            }
            break;
        case RUN_FOLLOWING:
            if (e->tape) {
                engine_tape_follow(e);
            } else {
                engine_wait(e, UINT64_MAX);
            }
            break;
        case RUN_FREEZING:
        case RUN_ENDING:
            engine_settle_disks(e, state);
            if (state == RUN_ENDING && e->run.end != RUN_END_HOST) {
                engine_hold_write(e);
            }
            (void)engine_step(e, RUN_EV_DRAINED, 0, RUN_END_NONE, NULL);
            break;
        default:
            engine_idle_work(e);
            engine_wait(e, UINT64_MAX);
            (void)disks_reap(e->disks, engine_on_blk_done,
                             e); /* a connection that ends */
            break;
        }
    }
    engine_idle_over(e);
}

void *engine_vcpu_main(void *data)
{
    struct engine *e = data;
    struct vmm_error err;

    if (!thread_setup(e, &err)) {
        (void)engine_end_run(e, RUN_END_HOST, err.text);
    }
    engine_follow_state(e, run_lockstep);
    if (e->tape) {
        engine_tape_finish(e);
    }
    if (e->wake_timer_up) {
        timer_delete(e->wake_timer);
    }
    throttle_close(&e->throttle);
    return NULL;
}
