/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel's KVM. The only file that calls a KVM ioctl. */
#include "vmm/kvm_ops.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

static int call(int fd, unsigned long request, unsigned long arg)
{
    int r = ioctl(fd, request, arg);

    return r < 0 ? -errno : r;
}

static int call_ptr(int fd, unsigned long request, const void *arg)
{
    return call(fd, request, (unsigned long)arg);
}

static int sys_open(const char *path)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);

    return fd < 0 ? -errno : fd;
}

static int sys_api_version(int sys)
{
    return call(sys, KVM_GET_API_VERSION, 0);
}

static int sys_run_size(int sys)
{
    return call(sys, KVM_GET_VCPU_MMAP_SIZE, 0);
}

static int sys_cpuid(int sys, struct kvm_cpuid2 *cpuid)
{
    return call_ptr(sys, KVM_GET_SUPPORTED_CPUID, cpuid);
}

static int sys_create_vm(int sys)
{
    return call(sys, KVM_CREATE_VM, 0);
}

static int check(int fd, int capability)
{
    return call(fd, KVM_CHECK_EXTENSION, (unsigned long)capability);
}

static int vm_enable(int vm, const struct kvm_enable_cap *cap)
{
    return call_ptr(vm, KVM_ENABLE_CAP, cap);
}

static int vm_memory(int vm, const struct kvm_userspace_memory_region *region)
{
    return call_ptr(vm, KVM_SET_USER_MEMORY_REGION, region);
}

static int vm_dirty_log(int vm, const struct kvm_dirty_log *log)
{
    return call_ptr(vm, KVM_GET_DIRTY_LOG, log);
}

static int vm_clear_dirty_log(int vm, const struct kvm_clear_dirty_log *log)
{
    return call_ptr(vm, KVM_CLEAR_DIRTY_LOG, log);
}

static int vm_tss(int vm, uint64_t gpa)
{
    return call(vm, KVM_SET_TSS_ADDR, gpa);
}

static int vm_identity_map(int vm, uint64_t gpa)
{
    return call_ptr(vm, KVM_SET_IDENTITY_MAP_ADDR, &gpa);
}

static int vm_msr_filter(int vm, const struct kvm_msr_filter *filter)
{
    return call_ptr(vm, KVM_X86_SET_MSR_FILTER, filter);
}

static int vm_create_vcpu(int vm, unsigned id)
{
    return call(vm, KVM_CREATE_VCPU, id);
}

static int vm_create_irqchip(int vm)
{
    return call(vm, KVM_CREATE_IRQCHIP, 0);
}

static int vm_create_pit(int vm, const struct kvm_pit_config *conf)
{
    return call_ptr(vm, KVM_CREATE_PIT2, conf);
}

static int vm_get_irqchip(int vm, struct kvm_irqchip *chip)
{
    return call_ptr(vm, KVM_GET_IRQCHIP, chip);
}

static int vm_set_irqchip(int vm, const struct kvm_irqchip *chip)
{
    return call_ptr(vm, KVM_SET_IRQCHIP, chip);
}

static int vm_get_pit(int vm, struct kvm_pit_state2 *pit)
{
    return call_ptr(vm, KVM_GET_PIT2, pit);
}

static int vm_set_pit(int vm, const struct kvm_pit_state2 *pit)
{
    return call_ptr(vm, KVM_SET_PIT2, pit);
}

static int vm_get_clock(int vm, struct kvm_clock_data *clock)
{
    return call_ptr(vm, KVM_GET_CLOCK, clock);
}

static int vm_set_clock(int vm, const struct kvm_clock_data *clock)
{
    return call_ptr(vm, KVM_SET_CLOCK, clock);
}

static int vm_irq_line(int vm, unsigned gsi, bool level)
{
    struct kvm_irq_level line = {.irq = gsi, .level = level};

    return call_ptr(vm, KVM_IRQ_LINE, &line);
}

static int vm_signal_msi(int vm, uint64_t address, uint32_t data)
{
    struct kvm_msi msi = {.address_lo = (uint32_t)address,
                          .address_hi = (uint32_t)(address >> 32),
                          .data = data};

    return call_ptr(vm, KVM_SIGNAL_MSI, &msi);
}

static int vm_ioeventfd(int vm, const struct kvm_ioeventfd *conf)
{
    return call_ptr(vm, KVM_IOEVENTFD, conf);
}

static int vcpu_map(int vcpu, size_t len, struct kvm_run **ret_run)
{
    void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);

    if (p == MAP_FAILED) {
        return -errno;
    }
    *ret_run = p;
    return 0;
}

static void vcpu_unmap(struct kvm_run *run, size_t len)
{
    munmap(run, len);
}

static int vcpu_run(int vcpu)
{
    return call(vcpu, KVM_RUN, 0);
}

static int vcpu_interrupt(int vcpu, uint8_t vector)
{
    struct kvm_interrupt irq = {.irq = vector};

    return call_ptr(vcpu, KVM_INTERRUPT, &irq);
}

static int vcpu_set_cpuid(int vcpu, const struct kvm_cpuid2 *cpuid)
{
    return call_ptr(vcpu, KVM_SET_CPUID2, cpuid);
}

static const struct {
    unsigned long get, set;
} part_request[KVM_PART_COUNT] = {
    [KVM_PART_REGS] = {KVM_GET_REGS, KVM_SET_REGS},
    [KVM_PART_SREGS] = {KVM_GET_SREGS, KVM_SET_SREGS},
    [KVM_PART_DEBUGREGS] = {KVM_GET_DEBUGREGS, KVM_SET_DEBUGREGS},
    [KVM_PART_EVENTS] = {KVM_GET_VCPU_EVENTS, KVM_SET_VCPU_EVENTS},
    [KVM_PART_MP_STATE] = {KVM_GET_MP_STATE, KVM_SET_MP_STATE},
    [KVM_PART_XSAVE] = {KVM_GET_XSAVE, KVM_SET_XSAVE},
    [KVM_PART_XCRS] = {KVM_GET_XCRS, KVM_SET_XCRS},
    [KVM_PART_MSRS] = {KVM_GET_MSRS, KVM_SET_MSRS},
    [KVM_PART_LAPIC] = {KVM_GET_LAPIC, KVM_SET_LAPIC},
};

static int vcpu_get(int vcpu, enum kvm_part part, void *state)
{
    return call_ptr(vcpu, part_request[part].get, state);
}

static int vcpu_set(int vcpu, enum kvm_part part, const void *state)
{
    return call_ptr(vcpu, part_request[part].set, state);
}

static int vcpu_tsc_khz(int vcpu)
{
    return call(vcpu, KVM_GET_TSC_KHZ, 0);
}

static int vcpu_clock_ctrl(int vcpu)
{
    return call(vcpu, KVM_KVMCLOCK_CTRL, 0);
}

static int vcpu_debug(int vcpu, const struct kvm_guest_debug *debug)
{
    return call_ptr(vcpu, KVM_SET_GUEST_DEBUG, debug);
}

static void close_fd(int fd)
{
    if (fd >= 0) {
        close(fd);
    }
}

const struct kvm_ops kvm_linux = {
    .sys_open = sys_open,
    .sys_api_version = sys_api_version,
    .sys_run_size = sys_run_size,
    .sys_cpuid = sys_cpuid,
    .sys_create_vm = sys_create_vm,
    .check = check,
    .vm_enable = vm_enable,
    .vm_memory = vm_memory,
    .vm_dirty_log = vm_dirty_log,
    .vm_clear_dirty_log = vm_clear_dirty_log,
    .vm_tss = vm_tss,
    .vm_identity_map = vm_identity_map,
    .vm_msr_filter = vm_msr_filter,
    .vm_create_vcpu = vm_create_vcpu,
    .vm_create_irqchip = vm_create_irqchip,
    .vm_create_pit = vm_create_pit,
    .vm_get_irqchip = vm_get_irqchip,
    .vm_set_irqchip = vm_set_irqchip,
    .vm_get_pit = vm_get_pit,
    .vm_set_pit = vm_set_pit,
    .vm_get_clock = vm_get_clock,
    .vm_set_clock = vm_set_clock,
    .vm_irq_line = vm_irq_line,
    .vm_signal_msi = vm_signal_msi,
    .vm_ioeventfd = vm_ioeventfd,
    .vcpu_map = vcpu_map,
    .vcpu_unmap = vcpu_unmap,
    .vcpu_run = vcpu_run,
    .vcpu_interrupt = vcpu_interrupt,
    .vcpu_set_cpuid = vcpu_set_cpuid,
    .vcpu_get = vcpu_get,
    .vcpu_set = vcpu_set,
    .vcpu_tsc_khz = vcpu_tsc_khz,
    .vcpu_clock_ctrl = vcpu_clock_ctrl,
    .vcpu_debug = vcpu_debug,
    .close = close_fd,
};
