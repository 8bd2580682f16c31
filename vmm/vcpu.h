/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One virtual processor of `machine: lockstep`: made without any in-kernel interrupt
 * controller, entered with KVM_RUN, its exits turned into calls on the machine.
 * Everything here runs on the vCPU's own thread, except vcpu_kick.
 *
 * An interrupt is injected only where KVM says it is ready for one
 * (run->ready_for_interrupt_injection), else the window is asked for. An I/O instruction
 * is finished only by the next KVM_RUN: vcpu_settle does that (a loop until EINTR: one
 * instruction can give several exits) and must come before anything else touches
 * registers or guest memory.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/cpu_model.h"
#include "base/units.h"
#include "vmm/kvm_ops.h"
#include "vmm/msr_table.h"
#include "vmm/vm.h"

/* The machine behind the exits. */
struct vcpu_bus {
    void (*pio)(void *ctx, uint16_t port, bool is_write, unsigned size, void *data);
    void (*mmio)(void *ctx, struct gpa addr, bool is_write, unsigned len, void *data);
    bool (*irq_pending)(void *ctx);
    uint8_t (*irq_ack)(void *ctx);
};

enum vcpu_event {
    VCPU_IO = 0, /* port, MMIO or MSR access carried out: instruction not finished yet */
    VCPU_HALT,   /* HLT: nothing runs until an interrupt is injected */
    VCPU_KICKED, /* a signal, or immediate_exit */
    VCPU_IRQ_WINDOW,   /* ready for an interrupt */
    VCPU_TRIPLE_FAULT, /* the processor shut down */
    VCPU_DEBUG,        /* single step or breakpoint */
    VCPU_FAILED,       /* `fault` says why; the vCPU is not entered again */
};

/* Parts of a state: what every host has, what only some have (one without AVX has no
 * XCRs), what only standard machines have. */
#define VCPU_PART(part) (UINT32_C(1) << (part))
#define VCPU_PARTS_ALWAYS                                                                \
    (VCPU_PART(KVM_PART_REGS) | VCPU_PART(KVM_PART_SREGS) | VCPU_PART(KVM_PART_MSRS) |   \
     VCPU_PART(KVM_PART_EVENTS))
#define VCPU_PARTS_MAYBE                                                                 \
    (VCPU_PART(KVM_PART_MP_STATE) | VCPU_PART(KVM_PART_XCRS) |                           \
     VCPU_PART(KVM_PART_XSAVE) | VCPU_PART(KVM_PART_DEBUGREGS))
#define VCPU_PARTS_STANDARD VCPU_PART(KVM_PART_LAPIC)

/* Everything that a vCPU is; vcpu_load knows the order in which it must be set. */
#define VCPU_MSRS_MAX MSR_TABLE_MAX
struct vcpu_state {
    uint32_t parts; /* VCPU_PART bits: what KVM gave, and must take back */
    struct kvm_mp_state mp;
    struct kvm_sregs sregs;
    struct kvm_regs regs;
    struct kvm_xcrs xcrs;
    uint8_t xsave[4096]
        __attribute__((aligned(64))); /* struct kvm_xsave without extensions */
    struct kvm_debugregs debugregs;
    struct kvm_vcpu_events events;
    struct kvm_lapic_state lapic; /* standard only */
    __u64 tsc;                    /* standard only; not set by a reset */
    union {
        struct kvm_msrs list;
        uint8_t
            room[sizeof(struct kvm_msrs) + VCPU_MSRS_MAX * sizeof(struct kvm_msr_entry)];
    } msrs;
};

struct vcpu_stats {
    uint64_t exits, pio, mmio, hlt, irq_window, injected, kicked, msr_denied;
};

struct vcpu {
    const struct kvm_ops *ops;
    int fd;
    bool standard; /* interrupts, HLT and most MSRs are the kernel's */
    struct kvm_run *run;
    size_t run_len;
    const struct vcpu_bus *bus;
    void *bus_ctx;
    bool unsettled;               /* the last exit's instruction is not finished */
    bool msr_kept[MSR_TABLE_MAX]; /* by place in the tables: KVM gives it, and takes it
                                     back */
    struct vcpu_state *reset_state;
    union cpuid_table *host; /* standard: what this host could show this vCPU */
    uint64_t host_arch_caps; /* MSR 0x10A as KVM gives it */
    struct vmm_error fault;
    struct vcpu_stats stats;
    uint64_t exits_seen; /* stats.exits for other threads: written with relaxed order */
};

/* 0 or -errno. Makes vCPU 0 of a lockstep `vm` with its CPUID table and MSR filter, in
 * its reset state. */
int vcpu_open(struct vm *vm, const struct vcpu_bus *bus, void *bus_ctx,
              struct vcpu *ret_vcpu, struct vmm_error *err);
/* vCPU `id` of the `count` of a standard `vm`: irq_pending and irq_ack of the bus are not
 * used. */
int vcpu_open_standard(struct vm *vm, unsigned id, unsigned count,
                       const struct vcpu_bus *bus, void *bus_ctx, struct vcpu *ret_vcpu,
                       struct vmm_error *err);
/* Standard: what this host can give a guest. */
void vcpu_host_model(const struct vcpu *v, struct cpu_model *ret_model);
/* The same, of a host without a VM: makes one and throws it away. 0 or -errno with a
 * text. */
int vcpu_host_probe(const struct kvm_ops *ops, const char *kvm_path,
                    struct cpu_model *ret_model, struct vmm_error *err);
/* Standard, before the vCPU ever ran: the guest sees this model, of which the host lacks
 * nothing (cpu_model_missing). Its reset state is that of such a processor. */
int vcpu_set_model(struct vcpu *v, const struct cpu_model *model, struct vmm_error *err);
/* Lockstep: the CPUID table that was given to KVM, as bytes; 0: no room, or KVM failed.
 */
size_t vcpu_cpuid(const struct vcpu *v, int sys_fd, void *buf, size_t cap);
void vcpu_close(struct vcpu *v);
/* Reset state: at the reset vector (standard: vCPUs but 0 wait for INIT). 0 or -errno. */
int vcpu_reset(struct vcpu *v, struct vmm_error *err);
int vcpu_save(struct vcpu *v, struct vcpu_state *ret_state, struct vmm_error *err);
int vcpu_load(struct vcpu *v, const struct vcpu_state *state, struct vmm_error *err);
/* Standard: the TSC as it was saved, and the timer that is set by it once more: KVM works
 * out when it fires from the TSC of the moment in which it is set. Apart from vcpu_load,
 * because a reset leaves the TSC alone. */
int vcpu_load_tsc(struct vcpu *v, const struct vcpu_state *state, struct vmm_error *err);

/* Lockstep, after vcpu_load from elsewhere: KVM says only at the end of a KVM_RUN whether
 * it is ready for an interrupt, and a vCPU that waits in HLT is not entered before one
 * came. Enters and leaves at once. Results as vcpu_settle. */
enum vcpu_event vcpu_refresh(struct vcpu *v);

/* Injects a pending interrupt if the processor is ready, else asks for the window. True
 * when one was injected. */
bool vcpu_offer_interrupt(struct vcpu *v);
/* The same without asking for a window: 1 injected (*ret_vector), 0 not now, -1 KVM
 * refused (`fault`). */
int vcpu_inject(struct vcpu *v, uint8_t *ret_vector);
/* True if an interrupt could be injected right now. */
bool vcpu_ready(const struct vcpu *v);
/* One KVM_RUN and what its exit asks for. */
enum vcpu_event vcpu_enter(struct vcpu *v);
/* Finishes a pending I/O instruction. VCPU_KICKED: now at an instruction boundary;
 * anything else as vcpu_enter. */
enum vcpu_event vcpu_settle(struct vcpu *v);
/* What the run page says after KVM_RUN returned r (0 or -errno); for tests and
 * vcpu_enter. */
enum vcpu_event vcpu_decode(struct vcpu *v, int r);

/* Kicking: the vCPU thread calls vcpu_kick_arm once; the handler of VCPU_KICK_SIGNAL sets
 * immediate_exit, so that a kick between the check of a flag and KVM_RUN is not lost.
 * vcpu_kick_clear comes before the flags are checked. */
#define VCPU_KICK_SIGNAL (SIGRTMIN + 1)
int vcpu_kick_setup(void); /* once per process: installs the handler */
void vcpu_kick_arm(struct vcpu *v);
void vcpu_kick_clear(struct vcpu *v);
