/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a guest of `machine: standard` may see of the processor: what KVM can give, less
 * what would tie the VM to this host or cannot be saved (nested virtualization, AMX, the
 * PMU), with the topology of this VM: one package, a core per vCPU, no SMT; the local
 * APIC's id is the vCPU's number. Leaf 0x40000010 tells the TSC's frequency, because a
 * guest that cannot calibrate it against a PIT hangs (notes on vmm-migrate, 0.5). Pure.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "vmm/cpuid_lockstep.h"

struct cpuid_standard_conf {
    unsigned id, count; /* this vCPU, all vCPUs */
    uint32_t tsc_khz;   /* 0: unknown, no leaf 0x40000010 */
    bool tsc_deadline;  /* KVM_CAP_TSC_DEADLINE_TIMER */
};

/* Changes, in place, what KVM_GET_SUPPORTED_CPUID gave. */
void cpuid_standard_make(union cpuid_table *table,
                         const struct cpuid_standard_conf *conf);
