/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What KVM holds of a VM, as sections of the one encoder (design 4.3): "vcpu" per vCPU,
 * "irqchip" and "clock" of a standard machine. Fields are the kernel's own (api.rst),
 * each by itself, so that a section does not depend on how a header lays out a struct. A
 * load checks what KVM would not (which MSRs may be set at all) and touches no KVM. Pure.
 */
#pragma once

#include "base/state_io.h"
#include "vmm/irqchip.h"
#include "vmm/vcpu.h"

#define CPU_SECTION_VERSION     1
#define IRQCHIP_SECTION_VERSION 1
#define CLOCK_SECTION_VERSION   2 /* 2: wall_ns */
#define CPU_SECTION_MAX         (8 * 1024)
#define IRQCHIP_SECTION_MAX     (4 * 1024)

struct vm_clock_state {
    uint64_t machine_ns; /* machine time, which stands still while nothing runs */
    uint64_t kvm_ns;     /* kvm-clock; 0 on lockstep */
    bool halted;         /* lockstep: the vCPU waits for an interrupt */
    uint64_t wall_ns;    /* standard: the time of day when it stopped; 0: not known */
};

/* For comparing: which parts of XSAVE (XSTATE_BV) KVM calls in use, though they are as
 * they began, depends on what else its processor did; what is not in use has that content
 * in KVM's bytes. x87, SSE and all that XCR0 has is called in use. */
void cpu_state_canonical(struct vcpu_state *state);
/* Inside an open section. 0 or -EBADMSG with io->error and io->refused_field. */
int cpu_state_xfer(struct vcpu_state *state, bool standard, struct state_io *io);
int irqchip_state_xfer(struct irqchip_state *state, struct state_io *io);
int clock_state_xfer(struct vm_clock_state *state, struct state_io *io);
