/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One running VM: KVM, the machine, its back ends and the thread that drives them.
 *
 * Threads, lockstep. The vCPU thread owns vCPU, machine, guest memory and disks; nobody
 * else touches them. The loop thread (whoever calls these functions) asks for changes of
 * state, hands inputs over, and is told through engine_event_fd that there is output or a
 * notice. The lease thread freezes the guest when the lease runs out, whatever the loop
 * thread does; the vCPU thread checks the same deadline before each entry, so a process
 * that was stopped past it does not run on.
 *
 * Threads, standard: see vmm/engine_smp.c. The functions here are the same.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cpu_model.h"
#include "base/limits.h"
#include "vmm/byte_ring.h"
#include "vmm/disks.h"
#include "vmm/engine_tape.h"
#include "vmm/guest_news.h"
#include "vmm/kvm_ops.h"
#include "vmm/machine.h"
#include "vmm/run_state.h"
#include "vmm/vmm_error.h"

/* What a disk that says EIO or ENOSPC leads to. A failed FLUSH is never tried again (its
 * data is lost already): PAUSE reports it. */
enum engine_disk_policy {
    ENGINE_DISK_REPORT = 0, /* the guest hears of it */
    ENGINE_DISK_PAUSE,      /* the VM freezes; the request is tried again after a THAW */
    ENGINE_DISK_STOP,       /* the VM ends */
};

struct engine_disk_conf {
    enum disk_kind kind;
    char path[PATH_LEN_MAX]; /* or a URI: see disk_kind */
    char serial[21];
    bool read_only;
    bool by_epoch; /* DISK_NBD: the server keeps owners apart (storage/) */
    enum engine_disk_policy on_error;
    uint64_t bytes_per_s, requests_per_s; /* standard; 0: no limit */
};

/* Queues of all nics together: taps' open files, and what a saved state may hold. */
#define ENGINE_NIC_QUEUES_MAX 16
#define ENGINE_QUEUES_OF_NIC  8

struct engine_nic_conf {
    int fd[ENGINE_QUEUES_OF_NIC]; /* one per queue pair; the engine closes them */
    unsigned queue_count;         /* 0 and 1: one; more on standard with offloads */
    uint8_t mac[6];
    uint64_t bytes_per_s, packets_per_s; /* standard, each direction; 0: no limit */
    bool offloads;                       /* its tap has vnet headers (net_tap) */
};

#define ENGINE_CPUS_MAX 64

struct engine_conf {
    enum machine_type machine;
    enum machine_transport transport; /* of standard */
    unsigned cpu_count;               /* 0: 1; lockstep has one */
    const struct kvm_ops *kvm;
    const char *kvm_path;
    const char *rom_path;        /* firmware, or */
    const char *kernel_path;     /* a kernel booted without it, */
    const char *initrd_path;     /* with this, or NULL */
    const char *cmdline;         /* NULL: empty */
    const struct cpu_model *cpu; /* of standard; NULL: the host's */
    uint64_t ram_len;
    bool hugepages; /* for RAM; a multiple of 2 MiB then */
    bool ram_given; /* RAM is another instance's, with its contents: see engine_receive */
    int ram_fd;     /* its memfd; the engine takes it */
    unsigned disk_count, nic_count;
    struct engine_disk_conf disk[VM_DISKS_MAX];
    struct engine_nic_conf nic[VM_NICS_MAX];
    bool crash_on_triple_fault; /* else it is a reset, as on a PC */
    bool debug_output;          /* somebody reads engine_debug_ring */
    bool
        disks_by_path; /* no sandbox: START opens those that engine_disks did not bring */
    const struct engine_tape *tape; /* lockstep: record or replay; NULL: neither */
};

/* Where RAM is, when a VM's state is saved or loaded. */
enum engine_ram_place {
    ENGINE_RAM_IN_STATE = 0, /* in the file */
    ENGINE_RAM_APART,        /* comes, or came, another way; the file says so */
};

/* What engine_save led to. */
struct engine_saved {
    int result; /* 0 or -errno */
    uint64_t bytes;
    struct vmm_error err;
};

struct engine_status {
    uint64_t change; /* counts the changes of state: a notice newer than a request has a
                        greater one */
    enum run_state state;
    enum run_end end;
    uint64_t epoch;
    unsigned io_in_flight;
    uint64_t exits, guest_ns;
    bool disk_failed;
    uint64_t saved_bytes; /* filled in by who reports a save */
    char reason[REASON_LEN_MAX + 1];
};

/* A record in the ring of debug port output. */
struct debug_record {
    uint64_t mono_ns;
    uint8_t byte;
} __attribute__((packed));

struct engine;

/* Everything but opening the disks and running threads. 0 or -errno with a text. Takes
 * the nic fds in any case. */
int engine_open(const struct engine_conf *conf, struct engine **ret_engine,
                struct vmm_error *err);
/* Of a VM that is open, for who compares two hosts: the CPUID table of its vCPU, as KVM
 * takes it, into `buf`; its length, 0 if it does not fit. */
size_t engine_cpuid(struct engine *e, void *buf, size_t cap);
uint64_t engine_disk_sectors(const struct engine *e, unsigned disk);
/* Bit i: the guest may write to disk i. */
uint32_t engine_disks_written(const struct engine *e);
/* Starts the threads; the vCPU thread waits for START. Between the two the process enters
 * its sandbox. */
int engine_go(struct engine *e, struct vmm_error *err);
/* Ends the guest if need be, waits for the threads. NULL is fine. */
void engine_close(struct engine *e);

/* The disks, opened, in the order of the configuration, for the START or THAW that
 * follows; taken in any case. Not before the claim (R1). A THAW uses only those whose
 * connection was lost. */
void engine_disks(struct engine *e, const int *fd, unsigned count);
/* Requests; answers are about the request, the state follows by notice. */
enum run_answer engine_start(struct engine *e, uint64_t epoch, const char *reason);
enum run_answer engine_thaw(struct engine *e, uint64_t epoch, const char *reason);
/* FROZEN, and it runs elsewhere with a part of its memory still here: whatever epoch a
 * THAW may name, it never runs here again. Any thread. */
void engine_give_away(struct engine *e);
enum run_answer engine_freeze(struct engine *e, const char *reason);
enum run_answer engine_end(struct engine *e, enum run_end end, const char *reason);
/* A freeze that its asker may take back as long as it is not FROZEN (a disk that hangs,
 * or a FLUSH that does, holds FROZEN back): undo lets the guest run on, at the same
 * epoch. RUN_BAD_STATE: too late, or somebody else has asked for a freeze as well; then
 * only a THAW helps. */
enum run_answer engine_freeze_try(struct engine *e, const char *reason);
enum run_answer engine_freeze_undo(struct engine *e, const char *reason);
/* Any thread but the engine's own: waits until the VM is FROZEN. 0; -ETIMEDOUT with a
 * text that names the disk; -EINVAL: it is not freezing; -EIO: it is frozen, and a FLUSH
 * has failed (what was written before is not safe). */
int engine_freeze_wait(struct engine *e, uint32_t timeout_ms, struct vmm_error *err);
/* Every vCPU sleeps `permille` (at most THROTTLE_MAX) of the time that it would compute,
 * in slices of some ms; 0: none. Any thread. A freeze does not wait for a sleeper. */
void engine_throttle(struct engine *e, unsigned permille);
/* lease_ms 0: none. from_ns: CLOCK_MONOTONIC from which it counts, 0: now. False: already
 * over. */
bool engine_lease(struct engine *e, uint32_t lease_ms, uint64_t from_ns);
/* False: not running. */
bool engine_reset(struct engine *e);
bool engine_power_button(struct engine *e);

/* For the START that follows: a saved state to go on from instead of a boot. Takes the
 * fd. */
void engine_restore(struct engine *e, int fd, const char *name,
                    enum engine_ram_place place);
/*
 * A VM with a twin (ft/). Lockstep, without conf.tape. `tape` is what the guest's run is
 * told to, or taken from, from the next entry on; it outlives that. Outputs do not leave
 * by themselves then: engine_put_out. FROZEN: the primary, which goes on by THAW.
 * CREATED, with a state that engine_state_check took: the twin, which goes on by
 * engine_follow, and by engine_live when it has the claim and stands at a position. Not
 * for the vCPU thread. 0 or -errno with a text.
 */
int engine_tape_attach(struct engine *e, const struct engine_tape *tape,
                       struct vmm_error *err);
enum run_answer engine_follow(struct engine *e, const char *reason);
enum run_answer engine_live(struct engine *e, uint64_t epoch, const char *reason);
/*
 * Disks of a twin (vmm/engine_shared.c). Files for the disks of `mask`, in their order,
 * are taken in any case: CREATED, its own copies; FOLLOWING, with the claim (R1), those
 * that it shares, which are used from engine_live on. 0 or -errno with a text.
 */
int engine_twin_disks(struct engine *e, uint32_t mask, const int *fd, unsigned count,
                      struct vmm_error *err);
void engine_twin_disks_drop(struct engine *e, uint32_t mask);
/* Before engine_live: what the guest writes to these disks is kept in memory (see
 * vmm/disk_hold.h), until engine_excluded says that nobody else writes to them any more.
 */
void engine_hold(struct engine *e, uint32_t mask);
void engine_excluded(struct engine *e, uint32_t mask);
/* Loop thread: a twin that has its claim waits for a disk whose server does not let it in
 * yet, and asks again; once for each time that it is to be told. */
bool engine_twin_waits(struct engine *e, char *text, size_t cap);
/* Which are held now, and bytes that they were not given. */
uint32_t engine_held(const struct engine *e, uint64_t *ret_bytes);
/* Any thread: what the tape's functions were asked for last may have changed. Does not
 * interrupt the guest. */
void engine_poke(struct engine *e);
/* The same, and interrupts it. */
void engine_nudge(struct engine *e);
/* An output leaves. One thread at a time; no disks. */
void engine_put_out(struct engine *e, const struct tape_out *out);
/* Bytes of consoles wait for the loop thread: what was put out so far, and whether all of
 * it is in its files. Any thread. */
struct engine_said {
    size_t serial, debug;
};
void engine_said(struct engine *e, struct engine_said *ret_said);
bool engine_said_is_out(struct engine *e, const struct engine_said *said);

/* While FROZEN: writes the VM's state to `fd` (the engine closes it), synced; `name` is
 * for messages. engine_event_fd tells when engine_take_saved has the outcome. -EBUSY: one
 * is under way. -EINVAL: not frozen. */
int engine_save(struct engine *e, int fd, const char *name, enum engine_ram_place place);
bool engine_take_saved(struct engine *e, struct engine_saved *ret_saved);
/* The same for a thread that waits for it (any but the engine's own): `fd` stays the
 * caller's. 0 or -errno with a text; -EBUSY, -EINVAL as above. */
int engine_save_wait(struct engine *e, int fd, const char *name,
                     enum engine_ram_place place, struct engine_saved *ret_saved);
/* In CREATED, for a thread that waits for it: reads a state from `fd` (from its
 * beginning; it stays the caller's), looks at all of it, and has KVM take what is for
 * KVM. The START that follows goes on from it. 0 or -errno with a text: the VM is of no
 * use any more then. -EBUSY, -EINVAL as above. */
int engine_state_check(struct engine *e, int fd, const char *name,
                       enum engine_ram_place place, struct vmm_error *err);
/* A memfd for a state without RAM, made before the sandbox: the caller truncates it. */
int engine_state_fd(const struct engine *e);

void engine_status(struct engine *e, struct engine_status *ret_status);
/* The oldest change of state not yet taken; false when there is none. */
bool engine_take_notice(struct engine *e, struct engine_status *ret_status);
/* Why the guest was reset since the last call; NULL: it was not. */
const char *engine_take_reset(struct engine *e);
/* How often this happened in the guest since the last call. engine_event_fd tells of it.
 */
uint32_t engine_take_guest_event(struct engine *e, enum guest_event event);
/* Readable when there are notices, output, or room for console input. engine_event_clear
 * before looking. */
int engine_event_fd(const struct engine *e);
void engine_event_clear(struct engine *e);

/* Bytes out and in; the loop thread is reader of the first two and writer of the third.
 */
struct byte_ring *engine_serial_out(struct engine *e);
struct byte_ring *engine_debug_ring(struct engine *e); /* of struct debug_record */
struct byte_ring *engine_serial_in(struct engine *e);
void engine_serial_in_ready(struct engine *e);
/* The guest agent's port (machine standard): bytes from the guest, whether it has the
 * port open, bytes to it (at most PORT_RX_MAX; false: not taken). engine_event_fd tells
 * of the first two. */
struct byte_ring *engine_port_out(struct engine *e);
bool engine_port_open(const struct engine *e);
bool engine_port_send(struct engine *e, const uint8_t *bytes, uint32_t len);
/* How much memory the guest should do without; and a request for fresh statistics.
 * False: not running, or there is no balloon. */
bool engine_balloon(struct engine *e, uint64_t bytes);
bool engine_balloon_poll(struct engine *e);
/* As the guest last said it while it ran; false: there is no balloon. */
bool engine_balloon_read(struct engine *e, struct machine_balloon *ret_balloon);
/* A frame from the network; dropped when the guest does not run or has no room. */
void engine_net_rx(struct engine *e, unsigned nic, unsigned queue, const uint8_t *frame,
                   uint32_t len);
int engine_nic_fd(const struct engine *e, unsigned nic, unsigned queue);
/* Disk completions that came from another thread: poll it, and call engine_disk_event.
 * -1: the engine waits for them itself (standard). */
int engine_disk_fd(const struct engine *e);
void engine_disk_event(struct engine *e);
