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
    _Atomic bool burns;       /* and takes all of its processor for that */
    _Atomic uint64_t work;    /* done by all vCPUs */
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
    int dirty_caps;  /* KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 */
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

/* What KVM knows of a RAM slot that it logs. */
#define FAKE_LOG_PAGES 1024
struct fake_log {
    uint8_t *host;
    uint64_t page_count; /* 0: no such slot */
    bool on;
    uint64_t dirty[FAKE_LOG_PAGES / 64];
    bool is_protected[FAKE_LOG_PAGES];
};

struct fake_vm {
    struct fake_log log[3]; /* by enum vm_slot */
    uint64_t dirty_mode;    /* as it was enabled */
    unsigned log_gets, log_clears;
    int refuse_log; /* slot that cannot be logged; -1: none */
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

/* The guest writes two bytes: with KVM's log as it is, in one piece. */
void fake_guest_write(unsigned slot, uint64_t offset, uint16_t value);

/* Before each test. */
void fake_kvm_reset(void);
/* Other registers, MSRs and interrupt controllers than a reset gives. */
void fake_kvm_scramble(uint64_t seed);
