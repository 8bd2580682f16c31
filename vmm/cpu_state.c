/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/cpu_state.h"

#include <string.h>

#include "base/units.h"
#include "vmm/msr_table.h"

#define XSTATE_BV_AT  512         /* Intel SDM 1, 13.4.2 */
#define XSTATE_LEGACY UINT64_C(3) /* x87 and SSE, which FXSAVE has, too */

#define FIELD8(v)     state_u8(io, &(v))
#define FIELD16(v)    state_u16(io, &(v))
#define FIELD32(v)    field32(io, &(v))
#define FIELD64(v)    field64(io, &(v))

/* The kernel's types are unsigned long long, ours unsigned long. */
static void field64(struct state_io *io, __u64 *v)
{
    uint64_t copy = *v;

    state_u64(io, &copy);
    *v = copy;
}

static void field32(struct state_io *io, __u32 *v)
{
    uint32_t copy = *v;

    state_u32(io, &copy);
    *v = copy;
}

static void regs_xfer(struct kvm_regs *r, struct state_io *io)
{
    __u64 *const field[] = {&r->rax, &r->rbx, &r->rcx, &r->rdx, &r->rsi, &r->rdi,
                            &r->rsp, &r->rbp, &r->r8,  &r->r9,  &r->r10, &r->r11,
                            &r->r12, &r->r13, &r->r14, &r->r15, &r->rip, &r->rflags};

    for (size_t i = 0; i < ARRAY_SIZE(field); i++) {
        field64(io, field[i]);
    }
}

static void segment_xfer(struct kvm_segment *s, struct state_io *io)
{
    FIELD64(s->base);
    FIELD32(s->limit);
    FIELD16(s->selector);
    FIELD8(s->type);
    FIELD8(s->present);
    FIELD8(s->dpl);
    FIELD8(s->db);
    FIELD8(s->s);
    FIELD8(s->l);
    FIELD8(s->g);
    FIELD8(s->avl);
    FIELD8(s->unusable);
}

static void sregs_xfer(struct kvm_sregs *s, struct state_io *io)
{
    struct kvm_segment *const segment[] = {&s->cs, &s->ds, &s->es, &s->fs,
                                           &s->gs, &s->ss, &s->tr, &s->ldt};
    struct kvm_dtable *const table[] = {&s->gdt, &s->idt};
    __u64 *const field[] = {&s->cr0, &s->cr2,  &s->cr3,      &s->cr4,
                            &s->cr8, &s->efer, &s->apic_base};

    for (size_t i = 0; i < ARRAY_SIZE(segment); i++) {
        segment_xfer(segment[i], io);
    }
    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        FIELD64(table[i]->base);
        FIELD16(table[i]->limit);
    }
    for (size_t i = 0; i < ARRAY_SIZE(field); i++) {
        field64(io, field[i]);
    }
    for (size_t i = 0; i < ARRAY_SIZE(s->interrupt_bitmap); i++) {
        FIELD64(s->interrupt_bitmap[i]);
    }
}

static void xcrs_xfer(struct kvm_xcrs *x, struct state_io *io)
{
    FIELD32(x->nr_xcrs);
    if (x->nr_xcrs > KVM_MAX_XCRS) {
        state_refuse(io, "xcrs");
        x->nr_xcrs = 0;
    }
    for (uint32_t i = 0; i < x->nr_xcrs; i++) {
        FIELD32(x->xcrs[i].xcr);
        FIELD64(x->xcrs[i].value);
    }
}

void cpu_state_canonical(struct vcpu_state *state)
{
    uint64_t in_use;

    memcpy(&in_use, state->xsave + XSTATE_BV_AT, sizeof in_use);
    in_use |= XSTATE_LEGACY;
    for (uint32_t i = 0; i < state->xcrs.nr_xcrs && i < KVM_MAX_XCRS; i++) {
        in_use |= state->xcrs.xcrs[i].xcr == 0 ? state->xcrs.xcrs[i].value : 0;
    }
    memcpy(state->xsave + XSTATE_BV_AT, &in_use, sizeof in_use);
}

static void debugregs_xfer(struct kvm_debugregs *d, struct state_io *io)
{
    for (size_t i = 0; i < ARRAY_SIZE(d->db); i++) {
        FIELD64(d->db[i]);
    }
    FIELD64(d->dr6);
    FIELD64(d->dr7);
}

static void events_xfer(struct kvm_vcpu_events *e, struct state_io *io)
{
    __u8 *const field[] = {
        &e->exception.injected,   &e->exception.nr,         &e->exception.has_error_code,
        &e->exception.pending,    &e->interrupt.injected,   &e->interrupt.nr,
        &e->interrupt.soft,       &e->interrupt.shadow,     &e->nmi.injected,
        &e->nmi.pending,          &e->nmi.masked,           &e->smi.smm,
        &e->smi.pending,          &e->smi.smm_inside_nmi,   &e->smi.latched_init,
        &e->triple_fault.pending, &e->exception_has_payload};

    for (size_t i = 0; i < ARRAY_SIZE(field); i++) {
        state_u8(io, field[i]);
    }
    FIELD32(e->exception.error_code);
    FIELD32(e->sipi_vector);
    FIELD32(e->flags);
    FIELD64(e->exception_payload);
}

/* An MSR that this build never saves may not be set by a file either: some of them reach
 * out of the guest. */
static void msrs_xfer(struct vcpu_state *state, bool standard, struct state_io *io)
{
    struct kvm_msrs *list = &state->msrs.list;

    FIELD32(list->nmsrs);
    if (list->nmsrs > VCPU_MSRS_MAX) {
        state_refuse(io, "msr_count");
        list->nmsrs = 0;
    }
    for (uint32_t i = 0; i < list->nmsrs; i++) {
        FIELD32(list->entries[i].index);
        FIELD64(list->entries[i].data);
        if (!msr_known(list->entries[i].index, standard)) {
            state_refuse(io, "msr_index");
        }
    }
}

int cpu_state_xfer(struct vcpu_state *state, bool standard, struct state_io *io)
{
    uint32_t must = VCPU_PARTS_ALWAYS | (standard ? VCPU_PARTS_STANDARD : 0);

    FIELD32(state->parts);
    if ((state->parts & must) != must ||
        (state->parts & ~(must | VCPU_PARTS_MAYBE)) != 0) {
        state_refuse(io, "parts");
    }
    FIELD32(state->mp.mp_state);
    sregs_xfer(&state->sregs, io);
    regs_xfer(&state->regs, io);
    xcrs_xfer(&state->xcrs, io);
    state_bytes(io, state->xsave, sizeof state->xsave);
    debugregs_xfer(&state->debugregs, io);
    msrs_xfer(state, standard, io);
    events_xfer(&state->events, io);
    if (standard) {
        state_bytes(io, state->lapic.regs, sizeof state->lapic.regs);
        FIELD64(state->tsc);
    }
    return state_end(io);
}

static void pit_xfer(struct kvm_pit_state2 *pit, struct state_io *io)
{
    for (size_t i = 0; i < ARRAY_SIZE(pit->channels); i++) {
        struct kvm_pit_channel_state *c = &pit->channels[i];
        uint64_t loaded = (uint64_t)c->count_load_time;

        FIELD32(c->count);
        FIELD16(c->latched_count);
        FIELD8(c->count_latched);
        FIELD8(c->status_latched);
        FIELD8(c->status);
        FIELD8(c->read_state);
        FIELD8(c->write_state);
        FIELD8(c->write_latch);
        FIELD8(c->rw_mode);
        FIELD8(c->mode);
        FIELD8(c->bcd);
        FIELD8(c->gate);
        state_u64(io, &loaded);
        c->count_load_time = (int64_t)loaded;
    }
    FIELD32(pit->flags);
}

int irqchip_state_xfer(struct irqchip_state *state, struct state_io *io)
{
    for (unsigned i = 0; i < IRQCHIP_PARTS; i++) {
        state->chip[i].chip_id = i;
        state_bytes(io, state->chip[i].chip.dummy, sizeof state->chip[i].chip.dummy);
    }
    pit_xfer(&state->pit, io);
    return state_end(io);
}

int clock_state_xfer(struct vm_clock_state *state, struct state_io *io)
{
    state_u64(io, &state->machine_ns);
    state_u64(io, &state->kvm_ns);
    state_bool(io, &state->halted);
    if (io->mode == STATE_SAVE || io->section.version >= 2) {
        state_u64(io, &state->wall_ns);
    }
    if (state->machine_ns > INT64_MAX || state->kvm_ns > INT64_MAX ||
        state->wall_ns > INT64_MAX) {
        state_refuse(io, "clock");
    }
    return state_end(io);
}
