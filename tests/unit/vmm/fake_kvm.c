/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/vmm/fake_kvm.h"

#include "base/bug.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define RUN_LEN     (2 * 4096)
#define DATA_OFFSET 4096

struct fake_guest fake_guest;
struct fake_host fake_host;
struct fake_vm fake_vm;

void fake_kvm_reset(void)
{
    struct cpu_model_error why;

    BUG_ON(!cpu_model_parse("vendor=GenuineIntel family=6 model=85 stepping=7 level=13 "
                            "xlevel=2147483681 phys=46 linear=48 features=fpu,tsc,apic,"
                            "x2apic,hypervisor,xsave,avx,avx2,xsaves,lm,kvmclock2",
                            &fake_host.model, &why));
    memset(&fake_guest, 0, sizeof fake_guest);
    memset(&fake_vm, 0, sizeof fake_vm);
    fake_vm.refuse_part = fake_vm.no_part = fake_vm.refuse_log = -1;
    fake_host.dirty_caps =
        KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET;
}

static struct fake_vcpu *vcpu_of(int fd)
{
    for (unsigned i = 0; i < fake_vm.vcpu_count; i++) {
        if (fake_vm.vcpu[i].fd == fd) {
            return &fake_vm.vcpu[i];
        }
    }
    abort();
}

/* /dev/kvm and the VM
 * ----------------------------------------------------------------------------- */

static int f_open(const char *path)
{
    (void)path;
    return open("/dev/null", O_RDWR | O_CLOEXEC);
}

static int f_api(int fd)
{
    (void)fd;
    return KVM_API_VERSION;
}

static int f_run_size(int fd)
{
    (void)fd;
    return RUN_LEN;
}

/* A host as fake_host.model says. */
static int f_cpuid(int sys, struct kvm_cpuid2 *cpuid)
{
    static const struct {
        uint32_t function, index;
    } leaf[] = {{0, 0},          {1, 0},          {6, 0},          {7, 0},
                {7, 1},          {7, 2},          {0xB, 0},        {0xD, 0},
                {0xD, 1},        {0xD, 2},        {0x40000000, 0}, {0x40000001, 0},
                {0x80000000, 0}, {0x80000001, 0}, {0x80000007, 0}, {0x80000008, 0},
                {0x80000021, 0}};
    union cpuid_table all = {.list.nent = ARRAY_SIZE(leaf)};
    struct cpu_model *m = &fake_host.model;

    (void)sys;
    for (unsigned i = 0; i < ARRAY_SIZE(leaf); i++) {
        struct kvm_cpuid_entry2 *e = &all.list.entries[i];

        memset(e, 0, sizeof *e);
        e->function = leaf[i].function;
        e->index = leaf[i].index;
        e->eax = e->ebx = e->ecx = e->edx = UINT32_MAX;
        if (e->function == 0) {
            e->eax = m->level;
            memcpy(&e->ebx, m->vendor, 4);
            memcpy(&e->edx, m->vendor + 4, 4);
            memcpy(&e->ecx, m->vendor + 8, 4);
        } else if (e->function == 0x80000000) {
            e->eax = m->xlevel;
        }
    }
    cpuid_model_set(&all, m); /* cut down from everything */
    if (cpuid->nent < all.list.nent) {
        return -E2BIG;
    }
    cpuid->nent = all.list.nent;
    memcpy(cpuid->entries, all.list.entries, all.list.nent * sizeof all.list.entries[0]);
    return 0;
}

static int f_create_vm(int fd)
{
    int refuse = fake_vm.refuse_part, no = fake_vm.no_part, log = fake_vm.refuse_log;

    (void)fd;
    memset(&fake_vm, 0, sizeof fake_vm);
    fake_vm.refuse_part = refuse;
    fake_vm.no_part = no;
    fake_vm.refuse_log = log;
    return f_open("");
}

static int f_check(int fd, int cap)
{
    (void)fd;
    return cap == KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 ? fake_host.dirty_caps : 1;
}

static int f_enable(int fd, const struct kvm_enable_cap *cap)
{
    (void)fd;
    if (cap->cap == KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2) {
        fake_vm.dirty_mode = cap->args[0];
    }
    return 0;
}

/* The dirty log. The lock is KVM's mmu_lock and the flush of TLBs: a write of the guest
 * is before or after a change of what is protected, never in its middle. */
static pthread_mutex_t mmu_lock = PTHREAD_MUTEX_INITIALIZER;

static void protect_all(struct fake_log *log)
{
    memset(log->is_protected, true, sizeof log->is_protected);
}

static void set_log(struct fake_log *log, bool on)
{
    pthread_mutex_lock(&mmu_lock);
    log->on = on;
    memset(log->dirty, 0, sizeof log->dirty);
    memset(log->is_protected, false, sizeof log->is_protected);
    if (on && (fake_vm.dirty_mode & KVM_DIRTY_LOG_INITIALLY_SET) != 0) {
        for (uint64_t i = 0; i < log->page_count; i++) {
            log->dirty[i / 64] |= UINT64_C(1) << (i % 64);
        }
    } else if (on) {
        protect_all(log);
    }
    pthread_mutex_unlock(&mmu_lock);
}

static int f_dirty_log(int fd, const struct kvm_dirty_log *get)
{
    struct fake_log *log = &fake_vm.log[get->slot];

    (void)fd;
    if (!log->on) {
        return -ENOENT;
    }
    pthread_mutex_lock(&mmu_lock);
    fake_vm.log_gets++;
    memcpy(get->dirty_bitmap, log->dirty, (log->page_count + 63) / 64 * 8);
    if (fake_vm.dirty_mode == 0) {
        memset(log->dirty, 0, sizeof log->dirty);
        protect_all(log);
    }
    pthread_mutex_unlock(&mmu_lock);
    return 0;
}

static int f_clear_dirty_log(int fd, const struct kvm_clear_dirty_log *clear)
{
    struct fake_log *log = &fake_vm.log[clear->slot];
    uint64_t first = clear->first_page, count = clear->num_pages;
    const uint64_t *bits = clear->dirty_bitmap;

    (void)fd;
    if (!log->on || fake_vm.dirty_mode == 0 || first % 64 != 0 ||
        first > log->page_count || count > log->page_count - first ||
        (count < log->page_count - first && count % 64 != 0)) {
        return -EINVAL;
    }
    pthread_mutex_lock(&mmu_lock);
    fake_vm.log_clears++;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t page = first + i, bit = UINT64_C(1) << (page % 64);

        if ((bits[i / 64] >> (i % 64) & 1) != 0 && (log->dirty[page / 64] & bit) != 0) {
            log->dirty[page / 64] &= ~bit;
            log->is_protected[page] = true;
        }
    }
    pthread_mutex_unlock(&mmu_lock);
    return 0;
}

void fake_guest_write(unsigned slot, uint64_t offset, uint16_t value)
{
    struct fake_log *log = &fake_vm.log[slot];
    uint64_t page = offset / 4096;

    pthread_mutex_lock(&mmu_lock);
    if (log->on && log->is_protected[page]) {
        log->is_protected[page] = false;
        log->dirty[page / 64] |= UINT64_C(1) << (page % 64);
    }
    __atomic_store_n((uint16_t *)(void *)(log->host + offset), value, __ATOMIC_RELAXED);
    pthread_mutex_unlock(&mmu_lock);
}

static int f_memory(int fd, const struct kvm_userspace_memory_region *region)
{
    struct fake_log *log = &fake_vm.log[region->slot];
    bool on = (region->flags & KVM_MEM_LOG_DIRTY_PAGES) != 0;

    (void)fd;
    if (region->guest_phys_addr == 0) {
        fake_vm.ram = (uint8_t *)(uintptr_t)region->userspace_addr;
    }
    log->host = (uint8_t *)(uintptr_t)region->userspace_addr;
    log->page_count = region->memory_size / 4096;
    if (on &&
        (log->page_count > FAKE_LOG_PAGES || (int)region->slot == fake_vm.refuse_log)) {
        return -ENOMEM;
    }
    if (on != log->on) {
        set_log(log, on);
    }
    return 0;
}

static int f_gpa(int fd, uint64_t gpa)
{
    (void)fd, (void)gpa;
    return 0;
}

static int f_filter(int fd, const struct kvm_msr_filter *filter)
{
    (void)fd, (void)filter;
    return 0;
}

static int f_create_irqchip(int fd)
{
    (void)fd;
    fake_vm.standard = true;
    return 0;
}

static int f_create_pit(int fd, const struct kvm_pit_config *conf)
{
    (void)fd, (void)conf;
    return 0;
}

static int f_get_irqchip(int fd, struct kvm_irqchip *chip)
{
    (void)fd;
    memcpy(&chip->chip, &fake_vm.irqchip.chip[chip->chip_id].chip, sizeof chip->chip);
    return 0;
}

static int f_set_irqchip(int fd, const struct kvm_irqchip *chip)
{
    (void)fd;
    fake_vm.irqchip.chip[chip->chip_id] = *chip;
    return 0;
}

static int f_get_pit(int fd, struct kvm_pit_state2 *pit)
{
    (void)fd;
    *pit = fake_vm.irqchip.pit;
    return 0;
}

static int f_set_pit(int fd, const struct kvm_pit_state2 *pit)
{
    (void)fd;
    fake_vm.irqchip.pit = *pit;
    return 0;
}

static int f_get_clock(int fd, struct kvm_clock_data *clock)
{
    (void)fd;
    *clock = fake_vm.clock;
    return 0;
}

static int f_set_clock(int fd, const struct kvm_clock_data *clock)
{
    (void)fd;
    fake_vm.clock = *clock;
    return 0;
}

static int f_irq_line(int fd, unsigned gsi, bool level)
{
    (void)fd, (void)gsi, (void)level;
    return 0;
}

static int f_msi(int fd, uint64_t address, uint32_t data)
{
    (void)fd, (void)address, (void)data;
    return 1;
}

static int f_ioeventfd(int fd, const struct kvm_ioeventfd *conf)
{
    (void)fd, (void)conf;
    fake_vm.ioeventfds++;
    return 0;
}

/* vCPUs
 * ------------------------------------------------------------------------------------ */

static int f_create_vcpu(int fd, unsigned id)
{
    struct fake_vcpu *v = &fake_vm.vcpu[id];

    (void)fd;
    if (id != fake_vm.vcpu_count || id >= FAKE_CPUS_MAX) {
        return -EINVAL;
    }
    v->fd = f_open("");
    fake_vm.vcpu_count++;
    for (size_t i = 0; i < msr_guest_count + msr_standard_count; i++) {
        v->msr[v->msr_count++].index =
            i < msr_guest_count ? msr_guest[i] : msr_standard[i - msr_guest_count];
    }
    v->msr[v->msr_count++].index = MSR_TSC;
    return v->fd;
}

static int f_map(int fd, size_t len, struct kvm_run **ret_run)
{
    struct fake_vcpu *v = vcpu_of(fd);

    v->run = calloc(1, len);
    *ret_run = v->run;
    return 0;
}

static void f_unmap(struct kvm_run *run, size_t len)
{
    (void)len;
    free(run);
}

static bool kicked(const struct kvm_run *run)
{
    return __atomic_load_n(&run->immediate_exit, __ATOMIC_SEQ_CST);
}

static int port_write(struct kvm_run *run, uint16_t port, uint8_t value)
{
    run->exit_reason = KVM_EXIT_IO;
    run->io.direction = KVM_EXIT_IO_OUT;
    run->io.port = port;
    run->io.size = run->io.count = 1;
    run->io.data_offset = DATA_OFFSET;
    ((uint8_t *)run)[DATA_OFFSET] = value;
    return 0;
}

static int guest_run(struct kvm_run *run)
{
    static const struct timespec step = {.tv_nsec = 200000};

    if (!atomic_exchange(&fake_guest.greeted, true)) {
        return port_write(run, 0x402, 'G');
    }
    if (atomic_load(&fake_guest.fail)) {
        run->exit_reason = atomic_load(&fake_guest.fail);
        return 0;
    }
    if (atomic_exchange(&fake_guest.wants_reset, false)) {
        return port_write(run, 0xCF9, 6);
    }
    while (atomic_load(&fake_guest.computes) || fake_vm.standard) {
        if (kicked(run)) {
            return -EINTR;
        }
        if (atomic_load(&fake_guest.wants_reset)) {
            return guest_run(run);
        }
        if (atomic_load(&fake_guest.burns)) {
            atomic_fetch_add(&fake_guest.work, 1);
            continue;
        }
        nanosleep(&step, NULL);
        if (atomic_load(&fake_guest.chatters)) {
            return port_write(run, 0x402, '.');
        }
    }
    run->exit_reason = KVM_EXIT_HLT;
    run->ready_for_interrupt_injection = 0;
    return 0;
}

static int f_run(int fd)
{
    struct fake_vcpu *v = vcpu_of(fd);
    int r;

    if (kicked(v->run)) {
        v->run->ready_for_interrupt_injection = 1;
        return -EINTR;
    }
    atomic_fetch_add(&fake_guest.runs, 1);
    atomic_fetch_add(&fake_guest.inside, 1);
    r = guest_run(v->run);
    atomic_fetch_sub(&fake_guest.inside, 1);
    return r;
}

static int f_interrupt(int fd, uint8_t vector)
{
    (void)fd, (void)vector;
    return 0;
}

static int f_set_cpuid(int fd, const struct kvm_cpuid2 *cpuid)
{
    struct fake_vcpu *v = vcpu_of(fd);

    if (cpuid->nent > CPUID_ENTRIES_MAX) {
        return -E2BIG;
    }
    v->cpuid.list.nent = cpuid->nent;
    memcpy(v->cpuid.list.entries, cpuid->entries, cpuid->nent * sizeof cpuid->entries[0]);
    return 0;
}

/* What is behind a part; NULL: MSRs. */
static void *part_of(struct fake_vcpu *v, enum kvm_part part, size_t *ret_len)
{
    struct vcpu_state *s = &v->state;
    const struct {
        void *p;
        size_t len;
    } table[KVM_PART_COUNT] = {
        [KVM_PART_REGS] = {&s->regs, sizeof s->regs},
        [KVM_PART_SREGS] = {&s->sregs, sizeof s->sregs},
        [KVM_PART_DEBUGREGS] = {&s->debugregs, sizeof s->debugregs},
        [KVM_PART_EVENTS] = {&s->events, sizeof s->events},
        [KVM_PART_MP_STATE] = {&s->mp, sizeof s->mp},
        [KVM_PART_XSAVE] = {s->xsave, sizeof s->xsave},
        [KVM_PART_XCRS] = {&s->xcrs, sizeof s->xcrs},
        [KVM_PART_LAPIC] = {&s->lapic, sizeof s->lapic},
    };

    *ret_len = table[part].len;
    return table[part].p;
}

static struct kvm_msr_entry *msr_of(struct fake_vcpu *v, uint32_t index)
{
    for (unsigned i = 0; i < v->msr_count; i++) {
        if (v->msr[i].index == index) {
            return &v->msr[i];
        }
    }
    return NULL;
}

static void note(struct fake_vcpu *v, char what)
{
    size_t len = strlen(v->order);

    if (len + 1 < sizeof v->order) {
        v->order[len] = what;
    }
}

static int f_get(int fd, enum kvm_part part, void *state)
{
    struct fake_vcpu *v = vcpu_of(fd);
    struct kvm_msrs *list = state;
    size_t len;
    const void *from = part_of(v, part, &len);

    if ((int)part == fake_vm.no_part) {
        return -ENXIO;
    }
    if (from) {
        memcpy(state, from, len);
        return 0;
    }
    for (uint32_t i = 0; i < list->nmsrs; i++) {
        const struct kvm_msr_entry *m = msr_of(v, list->entries[i].index);

        if (!m) {
            return (int)i;
        }
        list->entries[i].data = m->data;
    }
    return (int)list->nmsrs;
}

static int set_msrs(struct fake_vcpu *v, const struct kvm_msrs *list)
{
    for (uint32_t i = 0; i < list->nmsrs; i++) {
        struct kvm_msr_entry *m = list->entries[i].index == fake_host.no_msr
                                      ? NULL
                                      : msr_of(v, list->entries[i].index);

        if (!m) {
            return (int)i;
        }
        m->data = list->entries[i].data;
        if (m->index == MSR_TSC || m->index == MSR_TSC_DEADLINE) {
            note(v, m->index == MSR_TSC ? 'T' : 'D');
        }
    }
    return (int)list->nmsrs;
}

static int f_set(int fd, enum kvm_part part, const void *state)
{
    struct fake_vcpu *v = vcpu_of(fd);
    size_t len;
    void *to = part_of(v, part, &len);

    if ((int)part == fake_vm.no_part || (int)part == fake_vm.refuse_part) {
        return -EINVAL;
    }
    if (!to) {
        return set_msrs(v, state);
    }
    memcpy(to, state, len);
    note(v, (char)('a' + (int)part));
    return 0;
}

static int f_tsc_khz(int fd)
{
    (void)fd;
    return 2000000;
}

static int f_clock_ctrl(int fd)
{
    (void)fd;
    return -EINVAL;
}

static void f_close(int fd)
{
    if (fd >= 0) {
        close(fd);
    }
}

const struct kvm_ops fake_kvm = {
    .sys_open = f_open,
    .sys_api_version = f_api,
    .sys_run_size = f_run_size,
    .sys_cpuid = f_cpuid,
    .sys_create_vm = f_create_vm,
    .check = f_check,
    .vm_enable = f_enable,
    .vm_memory = f_memory,
    .vm_dirty_log = f_dirty_log,
    .vm_clear_dirty_log = f_clear_dirty_log,
    .vm_tss = f_gpa,
    .vm_identity_map = f_gpa,
    .vm_msr_filter = f_filter,
    .vm_create_vcpu = f_create_vcpu,
    .vm_create_irqchip = f_create_irqchip,
    .vm_create_pit = f_create_pit,
    .vm_get_irqchip = f_get_irqchip,
    .vm_set_irqchip = f_set_irqchip,
    .vm_get_pit = f_get_pit,
    .vm_set_pit = f_set_pit,
    .vm_get_clock = f_get_clock,
    .vm_set_clock = f_set_clock,
    .vm_irq_line = f_irq_line,
    .vm_signal_msi = f_msi,
    .vm_ioeventfd = f_ioeventfd,
    .vcpu_map = f_map,
    .vcpu_unmap = f_unmap,
    .vcpu_run = f_run,
    .vcpu_interrupt = f_interrupt,
    .vcpu_set_cpuid = f_set_cpuid,
    .vcpu_get = f_get,
    .vcpu_set = f_set,
    .vcpu_tsc_khz = f_tsc_khz,
    .vcpu_clock_ctrl = f_clock_ctrl,
    .close = f_close,
};

/* Scrambling
 * --------------------------------------------------------------------------------- */

static uint64_t next(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

static void scramble(void *p, size_t len, uint64_t *seed)
{
    for (size_t i = 0; i < len; i++) {
        ((uint8_t *)p)[i] = (uint8_t)next(seed);
    }
}

/* Field by field where a struct has room that means nothing. */
static void scramble_vcpu(struct fake_vcpu *v, uint64_t *seed)
{
    struct kvm_sregs *s = &v->state.sregs;

    scramble(&v->state.regs, sizeof v->state.regs, seed);
    scramble(v->state.xsave, sizeof v->state.xsave, seed);
    scramble(v->state.lapic.regs, sizeof v->state.lapic.regs, seed);
    s->cr0 = next(seed);
    s->cr3 = next(seed);
    s->cs.base = next(seed);
    s->cs.limit = (uint32_t)next(seed);
    s->gdt.limit = (uint16_t)next(seed);
    s->efer = next(seed);
    s->interrupt_bitmap[3] = next(seed);
    v->state.mp.mp_state = (uint32_t)next(seed) % 4;
    v->state.xcrs.nr_xcrs = 1;
    v->state.xcrs.xcrs[0].value = next(seed);
    v->state.debugregs.dr7 = next(seed);
    v->state.events.flags = (uint32_t)next(seed);
    v->state.events.sipi_vector = (uint32_t)next(seed);
    for (unsigned i = 0; i < v->msr_count; i++) {
        v->msr[i].data = next(seed);
    }
}

void fake_kvm_scramble(uint64_t seed)
{
    for (unsigned i = 0; i < fake_vm.vcpu_count; i++) {
        scramble_vcpu(&fake_vm.vcpu[i], &seed);
    }
    for (unsigned i = 0; i < IRQCHIP_PARTS; i++) {
        scramble(fake_vm.irqchip.chip[i].chip.dummy,
                 sizeof fake_vm.irqchip.chip[i].chip.dummy, &seed);
        fake_vm.irqchip.chip[i].chip_id = i;
    }
    fake_vm.irqchip.pit.channels[0].count = (uint32_t)next(&seed);
    fake_vm.irqchip.pit.channels[2].count_load_time = (int64_t)next(&seed);
    fake_vm.irqchip.pit.flags = 1;
    fake_vm.clock.clock = next(&seed) >> 8;
}
