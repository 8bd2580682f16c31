/* SPDX-License-Identifier: Apache-2.0 */
/* gemel-vmm --probe: what this host's KVM can do, found out by running tiny guests. */
#pragma once

#include <stdbool.h>

/* Prints; returns the process's exit code. */
/* Prints the host's CPU model (base/cpu_model), one line. An exit code. */
int gemel_vmm_cpu_model(const char *kvm_path);
/* Prints what its KVM can (base/kvm_can), one line. An exit code. */
int gemel_vmm_kvm_can(const char *kvm_path);
int gemel_vmm_probe(const char *kvm_path, bool json);
