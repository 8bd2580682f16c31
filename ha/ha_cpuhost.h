/* SPDX-License-Identifier: Apache-2.0 */
/* This node's CPU model, and what its KVM can, from its gemel-vmm: only that one asks
 * KVM. */
#pragma once

#include <stddef.h>

#include "base/cpu_model.h"

/* Runs `vmm_path --cpu-model` and waits for it, a few seconds at most: once, at the
 * agent's start. 0 or -errno with a text. */
int ha_cpuhost_read(const char *vmm_path, struct cpu_model *ret_model, char *why,
                    size_t why_cap);
/* The same of `vmm_path --kvm-can`: bits of enum kvm_can. */
int ha_cpuhost_kvm(const char *vmm_path, uint32_t *ret_can, char *why, size_t why_cap);
