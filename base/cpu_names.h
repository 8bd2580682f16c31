/* SPDX-License-Identifier: Apache-2.0 */
/* Names of processor features, bit by bit: for base/cpu_model.c only. Places: Intel SDM
 * vol. 2, CPUID; AMD APM vol. 3, appendix E; Documentation/virt/kvm/x86/cpuid.rst. */
#pragma once

#include "base/cpu_model.h"

struct cpu_word_names {
    const char *place;
    const char *bit[32];
};

extern const struct cpu_word_names cpu_word_names[CPU_WORD_COUNT];
