/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/irqchip.h"

#include <string.h>

static const char *const chip_name[IRQCHIP_PARTS] = {
    [KVM_IRQCHIP_PIC_MASTER] = "the first 8259",
    [KVM_IRQCHIP_PIC_SLAVE] = "the second 8259",
    [KVM_IRQCHIP_IOAPIC] = "the IOAPIC",
};

int irqchip_open(struct vm *vm, struct vmm_error *err)
{
    /* Port 0x61 is answered too: firmware waits for its bit 5 without a limit. */
    struct kvm_pit_config pit = {.flags = KVM_PIT_SPEAKER_DUMMY};
    int r;

    r = vm->ops->vm_create_irqchip(vm->vm_fd);
    if (r < 0) {
        return vmm_fail(err, r,
                        "KVM of this host has no interrupt controllers of its own (%s); "
                        "machine standard needs them, machine lockstep does not",
                        strerror(-r));
    }
    r = vm->ops->vm_create_pit(vm->vm_fd, &pit);
    if (r < 0) {
        return vmm_fail(err, r, "KVM cannot create the 8254: %s", strerror(-r));
    }
    return 0;
}

int irqchip_save(const struct vm *vm, struct irqchip_state *ret_state,
                 struct vmm_error *err)
{
    int r;

    memset(ret_state, 0, sizeof *ret_state);
    for (unsigned i = 0; i < IRQCHIP_PARTS; i++) {
        ret_state->chip[i].chip_id = i;
        r = vm->ops->vm_get_irqchip(vm->vm_fd, &ret_state->chip[i]);
        if (r < 0) {
            return vmm_fail(err, r, "cannot read the state of %s: %s", chip_name[i],
                            strerror(-r));
        }
    }
    r = vm->ops->vm_get_pit(vm->vm_fd, &ret_state->pit);
    return r < 0 ? vmm_fail(err, r, "cannot read the state of the 8254: %s", strerror(-r))
                 : 0;
}

int irqchip_load(const struct vm *vm, const struct irqchip_state *state,
                 struct vmm_error *err)
{
    int r;

    for (unsigned i = 0; i < IRQCHIP_PARTS; i++) {
        r = vm->ops->vm_set_irqchip(vm->vm_fd, &state->chip[i]);
        if (r < 0) {
            return vmm_fail(err, r, "cannot set the state of %s: %s", chip_name[i],
                            strerror(-r));
        }
    }
    r = vm->ops->vm_set_pit(vm->vm_fd, &state->pit);
    return r < 0 ? vmm_fail(err, r, "cannot set the state of the 8254: %s", strerror(-r))
                 : 0;
}
