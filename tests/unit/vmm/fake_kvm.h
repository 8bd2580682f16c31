/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A KVM of our own making for the engine's tests: it keeps what it is given, and its
 * guest does what the test says. No /dev/kvm, and fit for TSan.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>

#include "base/cpu_model.h"
#include "vmm/cpuid_model.h"
#include "vmm/irqchip.h"
#include "vmm/vcpu.h"

#define FAKE_CPUS_MAX 64
#define FAKE_MSRS_MAX 96

/* The guest: vCPU 0 writes 'G' to the debug port, then each vCPU halts for ever, computes
 * for ever, or writes to ports. */
struct fake_guest {
    _Atomic unsigned runs; /* entries into the guest */
    _Atomic bool computes;
    _Atomic bool chatters;    /* an exit to us every now and then */
    _Atomic uint32_t fail;    /* an exit reason to end with */
    _Atomic bool wants_reset; /* the next vCPU that notices writes 6 to port 0xCF9 */
    _Atomic bool greeted;
    _Atomic unsigned inside; /* vCPUs in the guest right now */
};
extern struct fake_guest fake_guest;

/* What KVM says it supports. */
struct fake_host {
    struct cpu_model model;
    uint32_t no_msr; /* reads as 0 and cannot be set; 0: none */
};
extern struct fake_host fake_host;

struct fake_vcpu {
    int fd;
    struct kvm_run *run;
    struct vcpu_state state; /* but for msrs */
    struct kvm_msr_entry msr[FAKE_MSRS_MAX];
    unsigned msr_count;
    union cpuid_table cpuid; /* what the guest sees */
    /* Order in which things were set since fake_kvm_mark: 'A' + part, 'T' the TSC, 'D'
     * its deadline. */
    char order[256];
};

struct fake_vm {
    bool standard;
    uint8_t *ram;
    struct irqchip_state irqchip;
    struct kvm_clock_data clock;
    unsigned vcpu_count;
    struct fake_vcpu vcpu[FAKE_CPUS_MAX];
    unsigned ioeventfds;
    int refuse_part; /* SET of this part fails; -1: none */
    int no_part;     /* GET and SET of this part fail; -1: none */
};
/* The VM made last. */
extern struct fake_vm fake_vm;

extern const struct kvm_ops fake_kvm;

/* Before each test. */
void fake_kvm_reset(void);
/* Other registers, MSRs and interrupt controllers than a reset gives. */
void fake_kvm_scramble(uint64_t seed);
