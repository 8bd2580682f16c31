/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The registers that a vCPU must have at the entry of a kernel (vmm/boot_linux), on top
 * of its reset state. The first is arithmetic only; the second sets them in KVM. Used by
 * vmm/engine_boot.
 */
#pragma once

#include "vmm/boot_linux.h"
#include "vmm/vcpu.h"

/* In: the reset state. Nothing happens for BOOT_RESET_VECTOR. */
void vcpu_boot_fill(const struct boot_entry *entry, struct kvm_regs *regs,
                    struct kvm_sregs *sregs);
/* After vcpu_reset. 0 or -errno. */
int vcpu_boot_set(struct vcpu *v, const struct boot_entry *entry, struct vmm_error *err);
