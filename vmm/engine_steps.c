/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The second back end of positions (ft/ft_pos.h): from an exit on, so many instructions
 * in single steps. What is one step, and what the guest sees of it, is as KVM has it.
 */
#include <errno.h>
#include <string.h>

#include "vmm/engine_priv.h"
#include "vmm/engine_tape_priv.h"

static bool set_steps(struct engine *e, bool on)
{
    struct kvm_guest_debug debug = {
        .control = on ? KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP : 0};

    if (e->vcpu.ops->vcpu_debug(e->vcpu.fd, &debug) < 0) {
        tape_trouble(e, "KVM does not step: %s", strerror(errno));
        return false;
    }
    return true;
}

void tape_step(struct engine *e, uint64_t steps)
{
    struct tape_run *t = e->tape;
    enum vcpu_event event = VCPU_KICKED;
    uint64_t at = t->exits, done = 0;

    t->stopped = true; /* it is looked at, and not gone on from */
    if (!set_steps(e, true)) {
        return;
    }
    while (done < steps && (event == VCPU_DEBUG || event == VCPU_KICKED) &&
           engine_may_run(e)) {
        vcpu_kick_clear(&e->vcpu);
        event = vcpu_enter(&e->vcpu);
        done += event == VCPU_DEBUG;
    }
    if (set_steps(e, false)) {
        tape_take_regs(e);
        TAPE_CALL(t, stepped, at, done, t->x.reg);
    }
}
