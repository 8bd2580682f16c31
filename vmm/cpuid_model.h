/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CPU models (base/cpu_model) and KVM's tables: which model a table is, and a table cut
 * down to a model. Comes after cpuid_standard, which hides what no guest may see and
 * writes the topology. Pure.
 */
#pragma once

#include "base/cpu_model.h"
#include "vmm/cpuid_lockstep.h"

#define MSR_ARCH_CAPABILITIES 0x10Au

/* The model of a table, and of MSR_ARCH_CAPABILITIES (0 where there is none). Bits that
 * the topology or the guest itself switches (HTT, CmpLegacy, OSXSAVE, OSPKE) are no part
 * of it. */
void cpuid_model_get(const union cpuid_table *table, uint64_t arch_caps,
                     struct cpu_model *ret_model);
/* Takes from the table what the model has not, leaves and XSAVE components that hang on
 * it included, and gives it the model's signature. Adds no feature. */
void cpuid_model_set(union cpuid_table *table, const struct cpu_model *model);
/* MSR_ARCH_CAPABILITIES of a guest with this model on a host whose value is `host`: flags
 * of flaws are those of either. */
uint64_t cpuid_model_arch_caps(const struct cpu_model *model, uint64_t host);
