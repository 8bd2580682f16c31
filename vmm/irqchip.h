/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The in-kernel interrupt controllers of `machine: standard` (8259 pair, IOAPIC) and its
 * 8254. The local APICs are part of their vCPUs. Whoever owns the VM calls these, with no
 * vCPU in the guest.
 */
#pragma once

#include "vmm/vm.h"

#define IRQCHIP_PARTS 3 /* master and slave 8259, IOAPIC */

struct irqchip_state {
    struct kvm_irqchip chip[IRQCHIP_PARTS];
    struct kvm_pit_state2 pit;
};

/* Before the first vCPU is made. 0 or -errno. */
int irqchip_open(struct vm *vm, struct vmm_error *err);
int irqchip_save(const struct vm *vm, struct irqchip_state *ret_state,
                 struct vmm_error *err);
int irqchip_load(const struct vm *vm, const struct irqchip_state *state,
                 struct vmm_error *err);
