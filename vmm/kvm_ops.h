/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every KVM ioctl that Gemel uses, behind one table: vmm/kvm_linux.c is the real one,
 * tests bring their own. All return
 * >= 0 or -errno (the kernel's), so that nobody above looks at errno. Names follow
 * Documentation/virt/kvm/api.rst.
 */
#pragma once

#include <linux/kvm.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Pieces of vCPU state that have a GET and a SET ioctl of the same shape. Saved states
 * name them by these numbers. */
enum kvm_part {
    KVM_PART_REGS = 0,  /* struct kvm_regs */
    KVM_PART_SREGS,     /* struct kvm_sregs */
    KVM_PART_DEBUGREGS, /* struct kvm_debugregs */
    KVM_PART_EVENTS,    /* struct kvm_vcpu_events */
    KVM_PART_MP_STATE,  /* struct kvm_mp_state */
    KVM_PART_XSAVE,     /* struct kvm_xsave, 4096 bytes */
    KVM_PART_XCRS,      /* struct kvm_xcrs */
    KVM_PART_MSRS,      /* struct kvm_msrs with entries; returns how many were done */
    KVM_PART_LAPIC,     /* struct kvm_lapic_state; in-kernel irqchip only */
    KVM_PART_COUNT,
};

struct kvm_ops {
    /* /dev/kvm */
    int (*sys_open)(const char *path);
    int (*sys_api_version)(int sys);
    int (*sys_run_size)(int sys);
    int (*sys_cpuid)(int sys, struct kvm_cpuid2 *cpuid);
    int (*sys_create_vm)(int sys);
    /* VM; check also takes the /dev/kvm fd */
    int (*check)(int fd, int capability);
    int (*vm_enable)(int vm, const struct kvm_enable_cap *cap);
    int (*vm_memory)(int vm, const struct kvm_userspace_memory_region *region);
    int (*vm_dirty_log)(int vm, const struct kvm_dirty_log *log);
    int (*vm_clear_dirty_log)(int vm, const struct kvm_clear_dirty_log *log);
    int (*vm_tss)(int vm, uint64_t gpa);
    int (*vm_identity_map)(int vm, uint64_t gpa);
    int (*vm_msr_filter)(int vm, const struct kvm_msr_filter *filter);
    int (*vm_create_vcpu)(int vm, unsigned id);
    /* In-kernel irqchip: 8259 pair, IOAPIC, local APICs, and the 8254 */
    int (*vm_create_irqchip)(int vm);
    int (*vm_create_pit)(int vm, const struct kvm_pit_config *conf);
    int (*vm_get_irqchip)(int vm, struct kvm_irqchip *chip); /* chip->chip_id: which */
    int (*vm_set_irqchip)(int vm, const struct kvm_irqchip *chip);
    int (*vm_get_pit)(int vm, struct kvm_pit_state2 *pit);
    int (*vm_set_pit)(int vm, const struct kvm_pit_state2 *pit);
    int (*vm_get_clock)(int vm, struct kvm_clock_data *clock);
    int (*vm_set_clock)(int vm, const struct kvm_clock_data *clock);
    int (*vm_irq_line)(int vm, unsigned gsi, bool level);
    int (*vm_signal_msi)(int vm, uint64_t address, uint32_t data);
    int (*vm_ioeventfd)(int vm, const struct kvm_ioeventfd *conf);
    /* vCPU */
    int (*vcpu_map)(int vcpu, size_t len, struct kvm_run **ret_run);
    void (*vcpu_unmap)(struct kvm_run *run, size_t len);
    int (*vcpu_run)(int vcpu);
    int (*vcpu_interrupt)(int vcpu, uint8_t vector);
    int (*vcpu_set_cpuid)(int vcpu, const struct kvm_cpuid2 *cpuid);
    int (*vcpu_get)(int vcpu, enum kvm_part part, void *state);
    int (*vcpu_set)(int vcpu, enum kvm_part part, const void *state);
    int (*vcpu_tsc_khz)(int vcpu);    /* 0: the kernel does not know */
    int (*vcpu_clock_ctrl)(int vcpu); /* tells a guest that it was paused */
    int (*vcpu_debug)(int vcpu, const struct kvm_guest_debug *debug);
    void (*close)(int fd);
};

extern const struct kvm_ops kvm_linux;
