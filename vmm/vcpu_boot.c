/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/vcpu_boot.h"

#include <string.h>

#define CR0_PE      0x00000001u
#define CR0_ET      0x00000010u
#define CR0_PG      0x80000000u
#define CR4_PAE     0x00000020u
#define EFER_LME    0x00000100u
#define EFER_LMA    0x00000400u
#define FLAGS_FIXED 0x2u

#define TYPE_CODE   0xB /* execute, read, accessed */
#define TYPE_DATA   0x3 /* read, write, accessed */
#define TYPE_TASK   0xB /* busy TSS */

static struct kvm_segment flat(uint16_t selector, uint8_t type, bool is_long)
{
    return (struct kvm_segment){
        .base = 0,
        .limit = UINT32_MAX,
        .selector = selector,
        .type = type,
        .present = 1,
        .s = 1,
        .db = is_long ? 0 : 1,
        .l = is_long ? 1 : 0,
        .g = 1,
    };
}

void vcpu_boot_fill(const struct boot_entry *entry, struct kvm_regs *regs,
                    struct kvm_sregs *sregs)
{
    bool is_long = entry->mode == BOOT_LONG64;
    struct kvm_segment data = flat(BOOT_SELECTOR_DATA, TYPE_DATA, false);

    if (entry->mode == BOOT_RESET_VECTOR) {
        return;
    }
    memset(regs, 0, sizeof *regs);
    regs->rip = entry->rip;
    regs->rsi = entry->rsi;
    regs->rbx = entry->rbx;
    regs->rflags = FLAGS_FIXED;
    sregs->cs = flat(BOOT_SELECTOR_CODE, TYPE_CODE, is_long);
    sregs->ds = sregs->es = sregs->fs = sregs->gs = sregs->ss = data;
    sregs->tr = (struct kvm_segment){
        .limit = 0x67, .selector = BOOT_SELECTOR_TASK, .type = TYPE_TASK, .present = 1};
    sregs->ldt = (struct kvm_segment){.unusable = 1};
    sregs->gdt.base = entry->gdt;
    sregs->gdt.limit = entry->gdt_limit;
    sregs->idt.base = 0;
    sregs->idt.limit = 0;
    sregs->cr0 = CR0_PE | CR0_ET | (is_long ? CR0_PG : 0);
    sregs->cr3 = entry->cr3;
    sregs->cr4 = is_long ? CR4_PAE : 0;
    sregs->efer = is_long ? EFER_LME | EFER_LMA : 0;
}

int vcpu_boot_set(struct vcpu *v, const struct boot_entry *entry, struct vmm_error *err)
{
    struct kvm_sregs sregs = v->reset_state->sregs;
    struct kvm_regs regs = v->reset_state->regs;
    int r;

    if (entry->mode == BOOT_RESET_VECTOR) {
        return 0;
    }
    vcpu_boot_fill(entry, &regs, &sregs);
    r = v->ops->vcpu_set(v->fd, KVM_PART_SREGS, &sregs);
    if (r >= 0) {
        r = v->ops->vcpu_set(v->fd, KVM_PART_REGS, &regs);
    }
    return r < 0 ? vmm_fail(err, r, "KVM refused the registers at the kernel's entry: %s",
                            strerror(-r))
                 : 0;
}
