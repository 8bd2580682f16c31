/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the files of the engine: vmm/engine.c (any thread), vmm/engine_vcpu.c (the
 * vCPU thread of lockstep), vmm/engine_smp.c (I/O thread and vCPU threads of standard)
 * and what they do in common. Nobody else includes this. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "vmm/dirty_log.h"
#include "vmm/disks.h"
#include "vmm/engine.h"
#include "vmm/input_queue.h"
#include "vmm/irqchip.h"
#include "vmm/machine.h"
#include "vmm/throttle.h"
#include "vmm/vcpu.h"
#include "vmm/vm.h"

#define ENGINE_NOTICES_MAX   32
#define ENGINE_DOORBELLS_MAX 256
#define ENGINE_MSIS_MAX      16
/* As many as the disks can have under way (vmm/dev_vblk). */
#define ENGINE_HELD_MAX (VM_DISKS_MAX * 32)
/* The kernel had no memory for a disk request. */
#define ENGINE_PUSH_AGAIN_NS (5 * NSEC_PER_MSEC)
/* A guest that is off, and whose last words wait for its twin: looked at so often. */
#define ENGINE_OFF_NS (2 * NSEC_PER_MSEC)

enum engine_work { WORK_NONE = 0, WORK_SAVE, WORK_CHECK };

struct engine_decoded;
struct tape_run;
struct epoch_run;

struct engine_cpu {
    struct engine *engine;
    unsigned id;
    struct vcpu vcpu;
    struct throttle throttle;
    pthread_t thread;
    bool thread_up;
};

struct engine_msi {
    uint64_t address;
    uint32_t data;
};

struct engine_doorbell {
    unsigned dev_index, queue;
    int fd;  /* eventfd */
    bool on; /* KVM rings it */
};

struct engine {
    struct engine_conf conf;
    bool smp; /* machine standard */

    /* Under lock. `state` and `lease_deadline_ns` mirror run for the vCPU thread's check
     * before each entry. */
    pthread_mutex_t lock;
    struct run_ctl run;
    struct engine_status notice[ENGINE_NOTICES_MAX];
    unsigned notice_head, notice_count;
    uint64_t change;
    int disk_fd[VM_DISKS_MAX]; /* came for START or THAW; -1: none */
    _Atomic int state;
    _Atomic uint64_t lease_deadline_ns;

    /* What the thread that owns the machine is asked to do while the guest stands still;
     * under lock. */
    struct {
        enum engine_work kind;
        bool waited; /* by a thread; else the loop thread is told */
        bool done;
        int fd;
        enum engine_ram_place place;
        char name[PATH_LEN_MAX];
        struct engine_saved out;
    } work;
    pthread_cond_t change_cond; /* of run.state or work.done */
    int state_fd;               /* memfd */
    int restore_fd;             /* under lock; -1: an ordinary boot */
    enum engine_ram_place restore_place;
    char restore_name[PATH_LEN_MAX];
    bool saved_valid;
    struct engine_saved saved;
    struct engine_decoded *decoded; /* engine_state.c; the owner's of the machine */

    _Atomic bool given_away; /* engine_give_away */
    bool receiving;          /* under lock: no boot, memory comes from another host */
    pthread_mutex_t dirty_lock;
    struct dirty_log dirty; /* under dirty_lock, but for dirty_log_protect */

    /* Wakes. */
    int event_fd;         /* to the loop thread */
    int wake_fd;          /* to the vCPU thread when it waits */
    int lease_fd;         /* timerfd */
    _Atomic bool kicked;  /* something for the vCPU thread to look at */
    _Atomic bool waiting; /* the vCPU thread is in, or about to enter, ppoll */
    _Atomic unsigned throttle_permille;
    _Atomic bool closing;
    _Atomic bool reset_request;
    _Atomic(const char *) reset_why; /* of the last reset, told to the loop thread once */
    bool vcpu_thread_up, lease_thread_up;
    pthread_t vcpu_thread, lease_thread;

    /* Between the threads. */
    struct input_queue inputs;
    struct byte_ring serial_out, debug_out, serial_in, port_out;
    _Atomic uint32_t guest_event[GUEST_EVENT_COUNT]; /* how often, not yet taken */
    _Atomic bool port_open;                          /* by somebody in the guest */
    struct machine_balloon balloon; /* under lock: what the guest said last */
    _Atomic uint64_t guest_ns;      /* time in RUNNING, up to the last stop */
    _Atomic uint64_t
        guest_since_ns; /* while it runs: CLOCK_MONOTONIC minus that time; else 0 */

    /* The vCPU thread's. */
    struct vm vm;
    struct vcpu vcpu;
    struct machine *machine;
    void *machine_memory;
    size_t machine_len;
    struct disks *disks;
    struct boot_files *boot; /* NULL: firmware boots */
    struct disk_desc disk[VM_DISKS_MAX];
    /* Requests that failed where the policy is PAUSE, in that order, until the next
     * THAW. The machine believes that they are under way. */
    struct {
        unsigned disk;
        struct blk_request request;
    } held[ENGINE_HELD_MAX];
    unsigned held_count;
    /* Outputs of a protected VM that may not leave yet, in their order; the machine
     * believes that they are under way. Machine standard: under machine_lock. */
    struct {
        unsigned disk;
        uint64_t number;
        struct blk_request request;
    } unsent[ENGINE_HELD_MAX];
    unsigned unsent_count;
    _Atomic uint32_t hold_wanted;      /* disks that are held from go-live on */
    _Atomic bool killed;               /* somebody does not wait for what is held */
    bool starts;                       /* START's disks are being opened; the owner's */
    uint32_t twin_open;                /* a twin's disks that are open; the owner's */
    uint64_t ask_told_ns;              /* that one of them is waited for */
    char ask_text[REASON_LEN_MAX + 1]; /* why; empty: told. Under lock */
    uint32_t held_told;                /* the loop thread knows of; the owner's */
    bool halted, started;
    _Atomic bool reset_wanted, shutdown_wanted;
    _Atomic uint32_t entropy_wanted; /* by the guest's rng */
    uint64_t epoch_told;             /* to the guest */
    bool epoch_told_any;
    bool clock_running;
    uint64_t clock_offset_ns; /* machine time = CLOCK_MONOTONIC - offset while it runs */
    uint64_t clock_stopped_ns;
    struct tape_run *tape;                /* NULL: none (conf.tape, engine_tape_attach) */
    struct tape_run *tape_over;           /* the one before it */
    struct epoch_run *epoch, *epoch_over; /* the same for checkpoints */
    bool epoch_follows, epoch_state_given;
    bool tape_attached, tape_follows;
    bool syncs_regs;          /* KVM can */
    _Atomic bool dirty_stale; /* nobody needs the log: to be switched off */
    _Atomic bool tape_logs;   /* the dirty log is its: nobody else ends it */
    struct throttle throttle;
    timer_t wake_timer;
    bool wake_timer_up;
    uint64_t wake_armed_ns; /* machine time; 0: not armed */
    unsigned triple_faults;
    uint64_t triple_fault_since_ns;

    /* Machine standard. The machine, the doorbells and io_until_ns are under
     * machine_lock, gate_* under gate_lock; the rest is the I/O thread's. */
    struct engine_cpu *cpu;
    unsigned cpu_count;         /* that exist */
    struct cpu_model cpu_model; /* that the guest sees */
    pthread_mutex_t machine_lock, gate_lock;
    pthread_cond_t gate_cond;
    _Atomic bool gate; /* vCPUs may be in the guest */
    uint64_t gate_generation;
    unsigned gate_parked;
    struct engine_doorbell doorbell[ENGINE_DOORBELLS_MAX];
    unsigned doorbell_count;
    int epoll_fd, io_timer_fd;
    uint64_t io_until_ns;    /* machine time at which the I/O thread wakes by itself */
    uint64_t timer_armed_ns; /* of io_timer_fd */
    /* Messages of one turn of the I/O thread, sent at its end. */
    struct engine_msi msi[ENGINE_MSIS_MAX];
    unsigned msi_count;
    bool msi_defer;
    struct irqchip_state *reset_irqchip;
    struct kvm_clock_data kvm_clock;
    bool kvm_clock_known;
    uint64_t wall_stopped_ns; /* CLOCK_REALTIME when the guest stopped; 0: not known */
};

extern const struct vcpu_bus engine_bus;
extern const struct machine_ops engine_machine_ops;

void *engine_vcpu_main(void *engine);

/* engine_smp.c. 0 or -errno with a text; 0 or an errno. */
int engine_smp_open(struct engine *e, struct vmm_error *err);
int engine_smp_start(struct engine *e, const pthread_attr_t *attr);
void engine_smp_join(struct engine *e);
void engine_smp_close(struct engine *e);
void engine_smp_kick(struct engine *e);
void engine_smp_kick_cpus(struct engine *e);
/* Before any vCPU ran: the guest sees this model. 0, or -EOPNOTSUPP: the host cannot; the
 * text says what it lacks. */
int engine_smp_set_model(struct engine *e, const struct cpu_model *model,
                         struct vmm_error *err);
uint64_t engine_smp_exits(const struct engine *e);
void *engine_io_main(void *engine);
void *engine_cpu_main(void *engine_cpu);
void engine_op_gsi(void *ctx, unsigned gsi, bool level);
void engine_op_msi(void *ctx, uint64_t address, uint32_t data);
void engine_op_doorbell(void *ctx, unsigned dev_index, unsigned queue, uint64_t address,
                        bool on);

/* engine_clock.c, on the thread that owns the machine. */
uint64_t engine_machine_now_ns(const struct engine *e);
void engine_clock_start(struct engine *e);
void engine_clock_stop(struct engine *e);
/* The RTC shows the host's time of day. */
void engine_set_rtc(struct engine *e);
/* Until a kick, a disk completion, or machine time `until_ns` (UINT64_MAX: no limit). */
void engine_wait(struct engine *e, uint64_t until_ns);
/* Wakes the vCPU thread out of the guest at machine time `at_ns` (UINT64_MAX: never). */
void engine_arm_wake(struct engine *e, uint64_t at_ns);

/* engine_vcpu.c: what both kinds of engine do, on the thread that owns the disks. */
void engine_tell_epoch(struct engine *e);
bool engine_epoch_is_new(struct engine *e);
/* The run's beginning and end, around whatever loop enters the guest. */
void engine_run_begins(struct engine *e);
void engine_run_ends(struct engine *e);
bool engine_reset_guest(struct engine *e);
bool engine_handle_event(struct engine *e, enum vcpu_event event);
/* Anything that take_inputs would find. Takes the kick. */
bool engine_inputs_due(struct engine *e);

/* engine_tape.c: with conf.tape set. */
extern const struct vcpu_bus engine_tape_bus;
extern const struct machine_ops engine_tape_machine_ops;
/* Before the machine is made, and when the VM is whole. */
int engine_tape_open(struct engine *e, struct vmm_error *err);
int engine_tape_begin(struct engine *e, struct vmm_error *err);
void engine_tape_close(struct engine *e);
void engine_tape_run(struct engine *e); /* for engine_follow_state */
/* FOLLOWING, until some other state; then, RUNNING: without a tape from now on. */
void engine_tape_follow(struct engine *e);
void engine_tape_live(struct engine *e);
/* The state that came, and mirrored disks. False: the run has ended. */
bool engine_follow_prepare(struct engine *e, uint32_t mirror);
/* What the disks answer is of a twin's repair, whatever the state. */
bool engine_repair_writes(const struct engine *e);
/* A mirrored disk of a twin has answered. */
void engine_tape_mirrored(struct engine *e, unsigned disk,
                          const struct blk_request *request, uint32_t status);
/* The VM has ended; before its vCPU is closed. */
void engine_tape_finish(struct engine *e);
/* A disk answered where the guest is at no position: kept until it is. */
bool engine_tape_keep(struct engine *e, unsigned disk, const struct blk_request *request,
                      const struct dev_input *in);
/* Before the machine is looked at from outside: what waits for a position is applied. */
void engine_tape_stand(struct engine *e);
/* engine_epoch.c: the machine's owner; take while the guest stands still. */
bool engine_epoch_due(struct engine *e);
void engine_epoch_take(struct engine *e, uint64_t since_ns);
/* The guest is not to go on yet after the last checkpoint. */
bool engine_epoch_stands(struct engine *e);
/* It is not to go on before the next checkpoint. */
bool engine_epoch_full(struct engine *e);
/* A guest that is off is not to end yet: one more checkpoint, and what it said leaves. */
bool engine_epoch_holds(struct engine *e);
uint64_t engine_epoch_released(struct engine *e); /* see engine_epoch_ops */
bool engine_epoch_live(struct engine *e);         /* false: the run has ended */
void engine_epoch_close(struct engine *e);
/* Begins a log of what is written to from now on; `scratch` as for engine_dirty_collect.
 * 0 or -errno with a text. */
int engine_dirty_from_here(struct engine *e, uint64_t *scratch, struct vmm_error *err);
/* engine_work.c: what may be asked for while nothing runs; its end. */
void engine_idle_work(struct engine *e);
void engine_idle_over(struct engine *e);
void engine_open_disks(struct engine *e);
/* vmm/engine_shared.c: disks that both sides of a protected VM share. */
void engine_unsent_add(struct engine *e, unsigned disk, const struct blk_request *request,
                       uint64_t number);
/* Sends what may leave by now. Under machine_lock. */
void engine_unsent_turn(struct engine *e);
/* Go-live, before the machine asks again for what it waits for: files that came with the
 * claim. Those of `mask` that are not open yet. False: call again, if the state is still
 * the same. */
bool engine_open_twin(struct engine *e, uint32_t mask);
bool engine_shared_open(struct engine *e);
/* The same: writes that are held, and what is inherited. False: the run has ended. */
bool engine_shared_hold(struct engine *e);
/* The guest has ended, and nobody else has what it wrote: until its old host is known to
 * write no more and all is written, or somebody kills the VM. */
void engine_hold_write(struct engine *e);
/* While the guest may run: what was held and need not be any more. */
void engine_hold_turn(struct engine *e);
/* engine_blk.c, on the thread that owns the disks: the file that came for it. -EINTR: the
 * VM is to freeze or to end, and does not wait for a server. */
int engine_open_disk(struct engine *e, unsigned disk, struct vmm_error *err);
bool engine_waits_no_more(void *engine); /* disk_desc.stop */
/* Connections that came with THAW; false: the VM freezes again, a disk that it waits
 * for is still away. */
bool engine_reconnect(struct engine *e);
/* Until nothing is under way: answers of the disks only, nothing new may start. */
void engine_drain_disks(struct engine *e);
/* For FREEZING and ENDING, while the state is that: everything was answered; what a
 * frozen VM was told is written is durable, too: it may go on elsewhere. */
void engine_settle_disks(struct engine *e, int state);
/* Before the guest runs on. */
void engine_retry_held(struct engine *e);
void engine_on_blk_done(void *ctx, unsigned disk, const struct blk_request *request,
                        uint32_t status, const uint8_t *data, uint32_t len);

void engine_set_carrier(struct engine *e, bool up);
/* The whole life of the thread that owns the disks: what each state asks for, until
 * ENDED. `run` runs the guest, from RUNNING until some other state. */
void engine_follow_state(struct engine *e, void (*run)(struct engine *e));
void engine_take_queue(struct engine *e);
bool engine_keys_wanted(struct engine *e);
void engine_take_keys(struct engine *e);
void engine_give_entropy(struct engine *e);
/* Any vCPU thread: state and lease allow one more entry into the guest. */
bool engine_may_run(struct engine *e);
/* throttle_turn's `share`, of a struct engine: 0 when the guest must not run. */
unsigned engine_throttle_share(void *engine);
bool engine_triple_fault(struct engine *e);
/* The reset that was wanted is being done: who wanted it is left for engine_take_reset.
 */
void engine_reset_begins(struct engine *e);
/* False, always. */
bool engine_end_run(struct engine *e, enum run_end end, const char *reason);
/* Under lock: publishes what run says now. */
void engine_publish(struct engine *e);
/* Takes the lock. */
enum run_answer engine_step(struct engine *e, enum run_event event, uint64_t epoch,
                            enum run_end end, const char *reason);
/* Kernel and initrd (vmm/engine_boot.c); nothing happens with firmware. */
int engine_boot_open(struct engine *e, struct vmm_error *err);
int engine_boot_load(struct engine *e, struct vmm_error *err);
void engine_kick(struct engine *e);
void engine_wake(struct engine *e); /* the vCPU thread, where it waits */
void engine_tell_loop(struct engine *e);
