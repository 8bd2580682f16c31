/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a guest of `machine: lockstep` may see of the processor (design 6; notes on each
 * bit in the table): nothing whose value or behaviour depends on time, on the physical
 * CPU it runs on, or on KVM. Pure.
 */
#pragma once

#include <linux/kvm.h>

#define CPUID_ENTRIES_MAX 128

/* The kernel's header ends in an array without length; ours gives it room. */
#ifdef __clang__
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wgnu-variable-sized-type-not-at-end"
#endif
union cpuid_table {
    struct kvm_cpuid2 list;
    unsigned char room[sizeof(struct kvm_cpuid2) +
                       CPUID_ENTRIES_MAX * sizeof(struct kvm_cpuid_entry2)];
};
#ifdef __clang__
#pragma clang diagnostic pop
#endif

/* Filters, in place, what KVM_GET_SUPPORTED_CPUID gave. */
void cpuid_lockstep_filter(union cpuid_table *table);
