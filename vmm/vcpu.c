/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/vcpu.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bug.h"
#include "vmm/cpuid_model.h"
#include "vmm/cpuid_standard.h"
#include "vmm/msr_table.h"

/* Ranges of the filter; bits are filled from msr_guest. */
static const struct {
    uint32_t base, count;
} filter_range[] = {{0xFE, 0x202}, {0xC0000080, 0x83}};

/* MSRs that kernels touch on the way up and that mean nothing here: read as 0, writes
 * ignored. */
static const uint32_t msr_read_zero[] = {
    0x17,       /* platform id */
    0x1B,       /* APIC base: there is none */
    0x8B,       /* microcode revision */
    0x1A0,      /* misc enable */
    0xC0010010, /* SYSCFG */
    0xC0010015, /* HWCR */
    0xC001001F, /* NB_CFG */
    0xC0011029, /* DE_CFG */
};

static __thread struct kvm_run *kick_run;

static void on_kick(int signo)
{
    (void)signo;
    if (kick_run) {
        __atomic_store_n(&kick_run->immediate_exit, 1, __ATOMIC_SEQ_CST);
    }
}

int vcpu_kick_setup(void)
{
    struct sigaction action = {.sa_handler = on_kick}; /* no SA_RESTART: waits end too */

    sigemptyset(&action.sa_mask);
    return sigaction(VCPU_KICK_SIGNAL, &action, NULL) < 0 ? -errno : 0;
}

void vcpu_kick_arm(struct vcpu *v)
{
    kick_run = v->run;
}

void vcpu_kick_clear(struct vcpu *v)
{
    __atomic_store_n(&v->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
}

static int give_cpuid(struct vcpu *v, const union cpuid_table *table,
                      struct vmm_error *err)
{
    int r = v->ops->vcpu_set_cpuid(v->fd, &table->list);

    return r < 0 ? vmm_fail(err, r, "KVM refused the CPUID table of machine %s: %s",
                            v->standard ? "standard" : "lockstep", strerror(-r))
                 : 0;
}

static int set_cpuid(struct vcpu *v, int sys_fd,
                     const struct cpuid_standard_conf *standard, struct vmm_error *err)
{
    union cpuid_table table = {.list.nent = CPUID_ENTRIES_MAX};
    int r;

    r = v->ops->sys_cpuid(sys_fd, &table.list);
    if (r < 0) {
        return vmm_fail(err, r, "KVM does not say which CPUID leaves it supports: %s",
                        strerror(-r));
    }
    if (standard) {
        cpuid_standard_make(&table, standard);
        *v->host = table;
    } else {
        cpuid_lockstep_filter(&table);
    }
    return give_cpuid(v, &table, err);
}

static void allow(uint8_t *bitmap, uint32_t bit)
{
    bitmap[bit / 8] |= (uint8_t)(1u << (bit % 8));
}

static int set_msr_filter(struct vcpu *v, int vm_fd, struct vmm_error *err)
{
    uint8_t bits[ARRAY_SIZE(filter_range)][(0x202 + 7) / 8] = {{0}};
    struct kvm_msr_filter filter = {.flags = KVM_MSR_FILTER_DEFAULT_DENY};
    struct kvm_enable_cap cap = {.cap = KVM_CAP_X86_USER_SPACE_MSR,
                                 .args = {KVM_MSR_EXIT_REASON_FILTER}};
    int r;

    for (size_t i = 0; i < ARRAY_SIZE(filter_range); i++) {
        for (size_t k = 0; k < msr_guest_count; k++) {
            uint32_t bit = msr_guest[k] - filter_range[i].base;

            if (msr_guest[k] >= filter_range[i].base && bit < filter_range[i].count) {
                allow(bits[i], bit);
            }
        }
        filter.ranges[i] = (struct kvm_msr_filter_range){
            .flags = KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE,
            .base = filter_range[i].base,
            .nmsrs = filter_range[i].count,
            .bitmap = bits[i],
        };
    }
    r = v->ops->vm_enable(vm_fd, &cap);
    if (r >= 0) {
        r = v->ops->vm_msr_filter(vm_fd, &filter);
    }
    if (r < 0) {
        return vmm_fail(err, r,
                        "KVM of this host cannot filter MSRs (%s); machine lockstep "
                        "needs Linux 5.10 or later",
                        strerror(-r));
    }
    return 0;
}

/* The MSR at this place of the tables, those of standard after those of both machines. */
static uint32_t msr_at(size_t place)
{
    return place < msr_guest_count ? msr_guest[place]
                                   : msr_standard[place - msr_guest_count];
}

static size_t msr_places(const struct vcpu *v)
{
    return msr_guest_count + (v->standard ? msr_standard_count : 0);
}

static int msr_transfer(struct vcpu *v, uint32_t index, __u64 *value, bool save)
{
    union {
        struct kvm_msrs list;
        uint8_t room[sizeof(struct kvm_msrs) + sizeof(struct kvm_msr_entry)];
    } one = {.list.nmsrs = 1};
    int r;

    one.list.entries[0].index = index;
    one.list.entries[0].data = *value;
    r = save ? v->ops->vcpu_get(v->fd, KVM_PART_MSRS, &one)
             : v->ops->vcpu_set(v->fd, KVM_PART_MSRS, &one);
    if (save && r == 1) {
        *value = one.list.entries[0].data;
    }
    return r == 1 ? 0 : r < 0 ? r : -EINVAL;
}

/* Which MSRs are a part of this vCPU: those that KVM lets us read and takes back. Some it
 * lets us read only (XSS of a guest without XSAVES, Linux 6.12 and later): they keep
 * their reset value by themselves. Of a vCPU in its reset state. */
static void learn_msrs(struct vcpu *v)
{
    for (size_t i = 0; i < msr_places(v); i++) {
        __u64 value = 0;

        v->msr_kept[i] = msr_known(msr_at(i), true) &&
                         msr_transfer(v, msr_at(i), &value, true) == 0 &&
                         msr_transfer(v, msr_at(i), &value, false) == 0;
    }
}

static void get_msrs(struct vcpu *v, struct vcpu_state *state)
{
    struct kvm_msrs *list = &state->msrs.list;

    list->nmsrs = 0;
    for (size_t i = 0; i < msr_places(v); i++) {
        struct kvm_msr_entry *entry = &list->entries[list->nmsrs];

        if (v->msr_kept[i] && msr_transfer(v, msr_at(i), &entry->data, true) == 0) {
            entry->index = msr_at(i);
            list->nmsrs++;
        }
    }
}

static bool is_kept(const struct vcpu *v, uint32_t index)
{
    for (size_t i = 0; i < msr_places(v); i++) {
        if (msr_at(i) == index) {
            return v->msr_kept[i];
        }
    }
    return false;
}

/* A state of another host may hold an MSR that is none here: fine as long as it is 0. */
static int set_msrs(struct vcpu *v, const struct kvm_msrs *list, struct vmm_error *err)
{
    for (uint32_t i = 0; i < list->nmsrs; i++) {
        __u64 value = list->entries[i].data;
        int r;

        if (value == 0 && !is_kept(v, list->entries[i].index)) {
            continue;
        }
        r = msr_transfer(v, list->entries[i].index, &value, false);
        if (r < 0) {
            return vmm_fail(err, r, "KVM refused the value of MSR %#x",
                            list->entries[i].index);
        }
    }
    return 0;
}

/* The parts with one struct each, in the order in which they are set: multiprocessing
 * state first (it may touch others), special registers before registers, events last,
 * because the others clear them. */
static const struct {
    enum kvm_part part;
    size_t offset;
    const char *name;
} state_part[] = {
    {KVM_PART_MP_STATE, offsetof(struct vcpu_state, mp), "multiprocessing state"},
    {KVM_PART_SREGS, offsetof(struct vcpu_state, sregs), "special registers"},
    {KVM_PART_REGS, offsetof(struct vcpu_state, regs), "registers"},
    {KVM_PART_XCRS, offsetof(struct vcpu_state, xcrs), "extended control registers"},
    {KVM_PART_XSAVE, offsetof(struct vcpu_state, xsave), "FPU state"},
    {KVM_PART_DEBUGREGS, offsetof(struct vcpu_state, debugregs), "debug registers"},
    {KVM_PART_LAPIC, offsetof(struct vcpu_state, lapic), "local APIC"},
    {KVM_PART_MSRS, offsetof(struct vcpu_state, msrs), "MSRs"},
    {KVM_PART_EVENTS, offsetof(struct vcpu_state, events), "pending events"},
};

int vcpu_load_tsc(struct vcpu *v, const struct vcpu_state *state, struct vmm_error *err)
{
    __u64 tsc = state->tsc;
    int r = msr_transfer(v, MSR_TSC, &tsc, false);

    if (r < 0) {
        return vmm_fail(err, r, "cannot set the TSC of a vCPU: %s", strerror(-r));
    }
    for (uint32_t i = 0; i < state->msrs.list.nmsrs; i++) {
        __u64 deadline = state->msrs.list.entries[i].data;

        if (state->msrs.list.entries[i].index == MSR_TSC_DEADLINE) {
            r = msr_transfer(v, MSR_TSC_DEADLINE, &deadline, false);
        }
    }
    return r < 0 ? vmm_fail(err, r, "cannot set the timer of a vCPU: %s", strerror(-r))
                 : 0;
}

int vcpu_save(struct vcpu *v, struct vcpu_state *ret_state, struct vmm_error *err)
{
    BUG_ON(v->unsettled);
    ret_state->parts = 0;
    for (size_t i = 0; i < ARRAY_SIZE(state_part); i++) {
        uint32_t bit = VCPU_PART(state_part[i].part);
        int r;

        if (bit == VCPU_PARTS_STANDARD && !v->standard) {
            continue;
        }
        if (state_part[i].part == KVM_PART_MSRS) {
            get_msrs(v, ret_state);
            ret_state->parts |= bit;
            continue;
        }
        r = v->ops->vcpu_get(v->fd, state_part[i].part,
                             (char *)ret_state + state_part[i].offset);
        if (r < 0 && (bit & VCPU_PARTS_MAYBE) == 0) {
            return vmm_fail(err, r, "cannot read the %s of the vCPU: %s",
                            state_part[i].name, strerror(-r));
        }
        ret_state->parts |= r < 0 ? 0 : bit;
    }
    ret_state->tsc = 0;
    return v->standard ? msr_transfer(v, MSR_TSC, &ret_state->tsc, true) : 0;
}

int vcpu_load(struct vcpu *v, const struct vcpu_state *state, struct vmm_error *err)
{
    for (size_t i = 0; i < ARRAY_SIZE(state_part); i++) {
        int r;

        if ((state->parts & VCPU_PART(state_part[i].part)) == 0) {
            continue;
        }
        if (state_part[i].part == KVM_PART_MSRS) {
            r = set_msrs(v, &state->msrs.list, err);
            if (r < 0) {
                return r;
            }
            continue;
        }
        r = v->ops->vcpu_set(v->fd, state_part[i].part,
                             (const char *)state + state_part[i].offset);
        if (r < 0) {
            return vmm_fail(err, r, "cannot set the %s of the vCPU: %s",
                            state_part[i].name, strerror(-r));
        }
    }
    v->unsettled = false;
    return 0;
}

int vcpu_reset(struct vcpu *v, struct vmm_error *err)
{
    v->run->request_interrupt_window = 0;
    return vcpu_load(v, v->reset_state, err);
}

/* The vCPU with its run page and CPUID table, its state as KVM made it kept for resets.
 */
static int make_vcpu(struct vcpu *v, struct vm *vm, unsigned id,
                     struct cpuid_standard_conf *standard, struct vmm_error *err)
{
    int r;

    v->reset_state = calloc(1, sizeof *v->reset_state);
    v->host = standard ? calloc(1, sizeof *v->host) : NULL;
    if (!v->reset_state || (standard && !v->host)) {
        return vmm_fail(err, -ENOMEM, "no memory for the vCPU");
    }
    v->fd = v->ops->vm_create_vcpu(vm->vm_fd, id);
    if (v->fd < 0) {
        return vmm_fail(err, v->fd, "KVM cannot create a vCPU, number %u: %s", id,
                        strerror(-v->fd));
    }
    v->run_len = (size_t)vm->run_size;
    r = v->ops->vcpu_map(v->fd, v->run_len, &v->run);
    if (r < 0) {
        return vmm_fail(err, r, "cannot map the vCPU's run page: %s", strerror(-r));
    }
    if (standard) {
        int khz = v->ops->vcpu_tsc_khz(v->fd);

        standard->tsc_khz = khz > 0 ? (uint32_t)khz : 0;
    }
    r = set_cpuid(v, vm->sys_fd, standard, err);
    if (r < 0) {
        return r;
    }
    learn_msrs(v);
    return vcpu_save(v, v->reset_state, err);
}

void vcpu_host_model(const struct vcpu *v, struct cpu_model *ret_model)
{
    cpuid_model_get(v->host, v->host_arch_caps, ret_model);
}

int vcpu_set_model(struct vcpu *v, const struct cpu_model *model, struct vmm_error *err)
{
    union cpuid_table table = *v->host;
    int r;

    cpuid_model_set(&table, model);
    r = give_cpuid(v, &table, err);
    if (r == 0 && cpu_model_has(model, "arch_capabilities")) {
        __u64 caps = cpuid_model_arch_caps(model, v->host_arch_caps);

        r = msr_transfer(v, MSR_ARCH_CAPABILITIES, &caps, false);
        if (r < 0) {
            return vmm_fail(err, r, "KVM refused %#llx for IA32_ARCH_CAPABILITIES: %s",
                            (unsigned long long)caps, strerror(-r));
        }
    }
    if (r < 0) {
        return r;
    }
    learn_msrs(v);
    return vcpu_save(v, v->reset_state, err);
}

size_t vcpu_cpuid(const struct vcpu *v, int sys_fd, void *buf, size_t cap)
{
    union cpuid_table table = {.list.nent = CPUID_ENTRIES_MAX};
    size_t len;

    if (v->ops->sys_cpuid(sys_fd, &table.list) < 0) {
        return 0;
    }
    cpuid_lockstep_filter(&table);
    len = table.list.nent * sizeof table.list.entries[0];
    if (len > cap) {
        return 0;
    }
    memcpy(buf, table.list.entries, len);
    return len;
}

int vcpu_open(struct vm *vm, const struct vcpu_bus *bus, void *bus_ctx,
              struct vcpu *ret_vcpu, struct vmm_error *err)
{
    struct vcpu v = {.ops = vm->ops, .fd = -1, .bus = bus, .bus_ctx = bus_ctx};
    int r;

    r = set_msr_filter(&v, vm->vm_fd, err);
    if (r == 0) {
        r = make_vcpu(&v, vm, 0, NULL, err);
    }
    if (r == 0) {
        /* No local APIC: KVM shows the CPUID bit for as long as the base register enables
         * it. */
        v.reset_state->sregs.apic_base = 0;
        r = vcpu_reset(&v, err);
    }
    if (r < 0) {
        vcpu_close(&v);
        return r;
    }
    *ret_vcpu = v;
    return 0;
}

/* 0 where KVM has no such MSR. */
static uint64_t host_arch_caps(struct vcpu *v)
{
    __u64 caps = 0;

    return msr_transfer(v, MSR_ARCH_CAPABILITIES, &caps, true) == 0 ? caps : 0;
}

int vcpu_open_standard(struct vm *vm, unsigned id, unsigned count,
                       const struct vcpu_bus *bus, void *bus_ctx, struct vcpu *ret_vcpu,
                       struct vmm_error *err)
{
    struct vcpu v = {
        .ops = vm->ops, .fd = -1, .standard = true, .bus = bus, .bus_ctx = bus_ctx};
    struct cpuid_standard_conf conf = {
        .id = id,
        .count = count,
        .tsc_deadline = vm->ops->check(vm->vm_fd, KVM_CAP_TSC_DEADLINE_TIMER) > 0,
    };
    int r;

    r = make_vcpu(&v, vm, id, &conf, err);
    if (r < 0) {
        vcpu_close(&v);
        return r;
    }
    v.host_arch_caps = host_arch_caps(&v);
    *ret_vcpu = v;
    return 0;
}

int vcpu_host_probe(const struct kvm_ops *ops, const char *kvm_path,
                    struct cpu_model *ret_model, struct vmm_error *err)
{
    const struct vm_conf conf = {
        .kvm_path = kvm_path, .standard = true, .ram_len = VM_RAM_MIN};
    static const struct vcpu_bus no_bus;
    struct vm vm;
    struct vcpu v;
    int r = vm_open(ops, &conf, &vm, err);

    if (r < 0) {
        return r;
    }
    r = vcpu_open_standard(&vm, 0, 1, &no_bus, NULL, &v, err);
    if (r == 0) {
        vcpu_host_model(&v, ret_model);
        vcpu_close(&v);
    }
    vm_close(&vm);
    return r;
}

void vcpu_close(struct vcpu *v)
{
    if (!v || !v->ops) {
        return;
    }
    if (v->run) {
        v->ops->vcpu_unmap(v->run, v->run_len);
    }
    v->ops->close(v->fd);
    free(v->reset_state);
    free(v->host);
    *v = (struct vcpu){.fd = -1};
}

bool vcpu_ready(const struct vcpu *v)
{
    return v->run->ready_for_interrupt_injection != 0;
}

int vcpu_inject(struct vcpu *v, uint8_t *ret_vector)
{
    int r;

    if (!v->bus->irq_pending(v->bus_ctx) || !vcpu_ready(v)) {
        return 0;
    }
    *ret_vector = v->bus->irq_ack(v->bus_ctx);
    r = v->ops->vcpu_interrupt(v->fd, *ret_vector);
    if (r < 0) {
        /* Only possible if KVM's own word, ready_for_interrupt_injection, was wrong. */
        vmm_fail(&v->fault, r, "KVM refused interrupt %u although it was ready: %s",
                 *ret_vector, strerror(-r));
        return -1;
    }
    v->stats.injected++;
    v->run->ready_for_interrupt_injection = 0;
    return 1;
}

bool vcpu_offer_interrupt(struct vcpu *v)
{
    uint8_t vector;
    bool injected = vcpu_inject(v, &vector) > 0;

    v->run->request_interrupt_window = v->bus->irq_pending(v->bus_ctx);
    return injected;
}

static enum vcpu_event fail(struct vcpu *v, const char *what, unsigned long long code)
{
    struct kvm_regs regs = {0};

    (void)v->ops->vcpu_get(v->fd, KVM_PART_REGS, &regs);
    vmm_fail(&v->fault, -EIO, "%s (%#llx) at rip %#llx", what, code,
             (unsigned long long)regs.rip);
    return VCPU_FAILED;
}

static enum vcpu_event exit_io(struct vcpu *v)
{
    struct kvm_run *run = v->run;
    uint64_t len = (uint64_t)run->io.size * run->io.count;
    uint8_t *data = (uint8_t *)run + run->io.data_offset;

    if (run->io.data_offset > v->run_len || len > v->run_len - run->io.data_offset) {
        return fail(v, "KVM reported a port access outside its run page",
                    run->io.data_offset);
    }
    /* String instructions: the elements in order, as the bus would see them. */
    for (uint32_t i = 0; i < run->io.count; i++) {
        v->bus->pio(v->bus_ctx, run->io.port, run->io.direction == KVM_EXIT_IO_OUT,
                    run->io.size, data + (size_t)i * run->io.size);
    }
    v->stats.pio++;
    v->unsettled = true;
    return VCPU_IO;
}

static enum vcpu_event exit_mmio(struct vcpu *v)
{
    struct kvm_run *run = v->run;

    if (run->mmio.len == 0 || run->mmio.len > sizeof run->mmio.data) {
        return fail(v, "KVM reported an MMIO access of a strange length", run->mmio.len);
    }
    v->bus->mmio(v->bus_ctx, (struct gpa){run->mmio.phys_addr}, run->mmio.is_write != 0,
                 run->mmio.len, run->mmio.data);
    v->stats.mmio++;
    v->unsettled = true;
    return VCPU_IO;
}

static enum vcpu_event exit_msr(struct vcpu *v, bool is_write)
{
    struct kvm_run *run = v->run;

    run->msr.error = 1; /* #GP, as on a processor without that MSR */
    for (size_t i = 0; i < ARRAY_SIZE(msr_read_zero); i++) {
        if (run->msr.index == msr_read_zero[i]) {
            run->msr.error = 0;
            if (!is_write) {
                run->msr.data = 0;
            }
        }
    }
    v->stats.msr_denied += run->msr.error;
    v->unsettled = true;
    return VCPU_IO;
}

static enum vcpu_event exit_internal(struct vcpu *v)
{
    const struct kvm_run *run = v->run;
    struct kvm_regs regs = {0};
    char bytes[3 * 15 + 1] = "";

    (void)v->ops->vcpu_get(v->fd, KVM_PART_REGS, &regs);
    if (run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION &&
        run->emulation_failure.ndata >= 1 &&
        (run->emulation_failure.flags &
         KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES)) {
        unsigned count = run->emulation_failure.insn_size;

        for (unsigned i = 0; i < count && i < 15; i++) {
            snprintf(bytes + 3 * (size_t)i, 4, " %02x",
                     run->emulation_failure.insn_bytes[i]);
        }
    }
    vmm_fail(&v->fault, -EIO, "KVM internal error %u%s at rip %#llx%s%s",
             run->internal.suberror,
             run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION
                 ? " (instruction not emulated)"
                 : "",
             (unsigned long long)regs.rip, *bytes ? ", instruction bytes:" : "", bytes);
    return VCPU_FAILED;
}

enum vcpu_event vcpu_decode(struct vcpu *v, int r)
{
    const struct kvm_run *run = v->run;

    v->unsettled = false;
    if (r == -EINTR || r == -EAGAIN) {
        v->stats.kicked++;
        return VCPU_KICKED;
    }
    if (r < 0) {
        vmm_fail(&v->fault, r, "KVM_RUN failed: %s", strerror(-r));
        return VCPU_FAILED;
    }
    v->stats.exits++;
    __atomic_store_n(&v->exits_seen, v->stats.exits, __ATOMIC_RELAXED);
    switch (run->exit_reason) {
    case KVM_EXIT_IO:
        return exit_io(v);
    case KVM_EXIT_MMIO:
        return exit_mmio(v);
    case KVM_EXIT_HLT:
        v->stats.hlt++;
        return VCPU_HALT;
    case KVM_EXIT_INTR:
        v->stats.kicked++;
        return VCPU_KICKED;
    case KVM_EXIT_IRQ_WINDOW_OPEN:
        v->stats.irq_window++;
        return VCPU_IRQ_WINDOW;
    case KVM_EXIT_X86_RDMSR:
        return exit_msr(v, false);
    case KVM_EXIT_X86_WRMSR:
        return exit_msr(v, true);
    case KVM_EXIT_SHUTDOWN:
        return VCPU_TRIPLE_FAULT;
    case KVM_EXIT_DEBUG:
        return VCPU_DEBUG;
    case KVM_EXIT_FAIL_ENTRY:
        return fail(v, "the processor refused to enter the guest: hardware reason",
                    run->fail_entry.hardware_entry_failure_reason);
    case KVM_EXIT_INTERNAL_ERROR:
        return exit_internal(v);
    default:
        return fail(v, "KVM exit that this machine does not know", run->exit_reason);
    }
}

enum vcpu_event vcpu_enter(struct vcpu *v)
{
    return vcpu_decode(v, v->ops->vcpu_run(v->fd));
}

enum vcpu_event vcpu_settle(struct vcpu *v)
{
    enum vcpu_event event = VCPU_KICKED;

    while (v->unsettled) {
        __atomic_store_n(&v->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
        event = vcpu_enter(v);
    }
    return event;
}

enum vcpu_event vcpu_refresh(struct vcpu *v)
{
    v->unsettled = true;
    return vcpu_settle(v);
}
