/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/vm.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/dirty_log.h"
#include "vmm/huge_pages.h"
#include "vmm/irqchip.h"

/* KVM's own three TSS pages and identity map page on Intel hosts: where QEMU puts them,
 * just below the ROM window. */
#define IDENTITY_MAP_GPA UINT64_C(0xFEFFC000)
#define TSS_GPA          UINT64_C(0xFEFFD000)

/* Reserves len + two pages that fault, so that an overrun in this process ends here and
 * not in another mapping. RAM begins at a multiple of 2 MiB. Huge pages are set aside in
 * the host: without that, a page that is not there when it is touched ends the
 * process. */
static int map_guarded(int fd, uint64_t len, bool huge, int prot, uint8_t **ret_p)
{
    bool align = fd >= 0; /* RAM: where the kernel may map it in huge pages */
    size_t slack = align ? HUGE_PAGE_SIZE : GMEM_PAGE_SIZE;
    size_t whole = len + GMEM_PAGE_SIZE + slack;
    int flags = fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;
    uint8_t *p, *begin, *end;

    p = mmap(NULL, whole, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) {
        return -errno;
    }
    begin = p + slack - (align ? (uintptr_t)p % HUGE_PAGE_SIZE : 0);
    end = begin + len + GMEM_PAGE_SIZE;
    if (mmap(begin, len, prot, flags | MAP_FIXED | (huge ? 0 : MAP_NORESERVE), fd, 0) ==
        MAP_FAILED) {
        int r = -errno;

        munmap(p, whole);
        return r;
    }
    /* One page before and one behind it stay, as unmap_guarded expects. */
    if (begin - GMEM_PAGE_SIZE > p) {
        munmap(p, (size_t)(begin - GMEM_PAGE_SIZE - p));
    }
    if (end < p + whole) {
        munmap(end, (size_t)(p + whole - end));
    }
    *ret_p = begin;
    return 0;
}

static void unmap_guarded(uint8_t *p, uint64_t len)
{
    if (p) {
        munmap(p - GMEM_PAGE_SIZE, len + 2 * GMEM_PAGE_SIZE);
    }
}

uint64_t vm_ram_low(bool standard, uint64_t ram_len)
{
    uint64_t max = standard ? VM_RAM_LOW_STANDARD : VM_RAM_LOW_LOCKSTEP;

    return ram_len < max ? ram_len : max;
}

/* Whoever made it may not cut it under us, and it is of the kind that is configured. */
static int ram_check_given(const struct vm_conf *conf, struct vmm_error *err)
{
    int seals = fcntl(conf->ram_fd, F_GET_SEALS);
    struct stat st;

    if (seals < 0 || fstat(conf->ram_fd, &st) < 0 ||
        (seals & (F_SEAL_SHRINK | F_SEAL_GROW)) != (F_SEAL_SHRINK | F_SEAL_GROW)) {
        return vmm_fail(err, -EBADF,
                        "memory fd %d is not the sealed memory of another gemel-vmm",
                        conf->ram_fd);
    }
    if ((uint64_t)st.st_size != conf->ram_len ||
        (st.st_blksize == HUGE_PAGE_SIZE) != conf->huge) {
        return vmm_fail(err, -EINVAL,
                        "memory fd %d has %llu KiB in pages of %llu KiB; this VM has "
                        "%llu KiB%s",
                        conf->ram_fd, (unsigned long long)st.st_size >> 10,
                        (unsigned long long)st.st_blksize >> 10,
                        (unsigned long long)conf->ram_len >> 10,
                        conf->huge ? " in huge pages" : "");
    }
    return 0;
}

static int ram_make(struct vm *vm, const struct vm_conf *conf, struct vmm_error *err)
{
    uint64_t len = conf->ram_len;
    int r;

    vm->ram_fd =
        memfd_create("gemel-ram", MFD_CLOEXEC | MFD_ALLOW_SEALING |
                                      (conf->huge ? MFD_HUGETLB | MFD_HUGE_2MB : 0));
    if (vm->ram_fd < 0 || ftruncate(vm->ram_fd, (off_t)len) < 0) {
        r = -errno;
        if (conf->huge) {
            return huge_pages_fail(HUGE_PAGES_DIR, len, -r, err);
        }
        return vmm_fail(err, r, "cannot allocate %llu MiB of guest memory: %s",
                        (unsigned long long)(len >> 20), strerror(-r));
    }
    /* Nobody who is handed this fd later may shrink it under us: that would be a SIGBUS.
     */
    (void)fcntl(vm->ram_fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
    return 0;
}

static int ram_open(struct vm *vm, const struct vm_conf *conf, struct vmm_error *err)
{
    uint64_t len = conf->ram_len;
    uint64_t max = conf->standard ? VM_RAM_MAX : VM_RAM_LOW_LOCKSTEP;
    int r;

    if (len < VM_RAM_MIN || len > max || len % GMEM_PAGE_SIZE) {
        return vmm_fail(err, -EINVAL,
                        "memory of %llu bytes: must be between 1 MiB and %llu GiB, in "
                        "whole pages of 4 KiB",
                        (unsigned long long)len, (unsigned long long)(max >> 30));
    }
    if (conf->huge && len % HUGE_PAGE_SIZE != 0) {
        return vmm_fail(err, -EINVAL,
                        "memory of %llu KiB in huge pages: must be a multiple of 2 MiB",
                        (unsigned long long)(len >> 10));
    }
    r = conf->ram_given ? ram_check_given(conf, err) : ram_make(vm, conf, err);
    if (r < 0) {
        return r;
    }
    r = map_guarded(vm->ram_fd, len, conf->huge,
                    PROT_READ | (conf->ram_given ? 0 : PROT_WRITE), &vm->ram);
    if (r < 0 && conf->huge) {
        return huge_pages_fail(HUGE_PAGES_DIR, len, -r, err);
    }
    if (r < 0) {
        return vmm_fail(err, r, "cannot map %llu MiB of guest memory: %s",
                        (unsigned long long)(len >> 20), strerror(-r));
    }
    vm->ram_len = len;
    vm->huge = conf->huge;
    /* A core dump of the VMM is for its own state; guest memory would make it huge, and
     * it is the guest's. */
    (void)madvise(vm->ram, len, MADV_DONTDUMP);
    return 0;
}

/* Places `len` bytes so that they end at 4 GiB; what is left of the first page reads as
 * ones. */
static int rom_alloc(struct vm *vm, size_t len, const char *name, struct vmm_error *err,
                     uint8_t **ret_dst)
{
    uint64_t whole = (len + GMEM_PAGE_SIZE - 1) & ~(GMEM_PAGE_SIZE - 1);
    int r;

    if (len < 16 || whole > VM_ROM_MAX) {
        return vmm_fail(err, -EINVAL,
                        "firmware %s has %zu bytes: a ROM image has between 16 bytes and "
                        "16 MiB; name another file",
                        name, len);
    }
    r = map_guarded(-1, whole, false, PROT_READ | PROT_WRITE, &vm->rom);
    if (r < 0) {
        return vmm_fail(err, r, "cannot map the firmware: %s", strerror(-r));
    }
    vm->rom_len = whole;
    memset(vm->rom, 0xFF, whole - len);
    *ret_dst = vm->rom + (whole - len);
    return 0;
}

static int rom_load_file(struct vm *vm, const char *path, struct vmm_error *err)
{
    uint8_t *dst;
    size_t done = 0, len;
    struct stat st;
    int fd, r;

    fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO does not hold us */
    if (fd < 0 || fstat(fd, &st) < 0) {
        r = vmm_fail(err, -errno, "cannot open firmware %s: %s; check boot.firmware",
                     path, strerror(errno));
        goto out;
    }
    if (!S_ISREG(st.st_mode) || st.st_size < 0) {
        r = vmm_fail(err, -EINVAL,
                     "firmware %s is not a regular file; check boot.firmware", path);
        goto out;
    }
    len = (size_t)st.st_size;
    r = rom_alloc(vm, len, path, err, &dst);
    if (r < 0) {
        goto out;
    }
    while (done < len) {
        ssize_t n = read(fd, dst + done, len - done);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            r = vmm_fail(err, n < 0 ? -errno : -EIO, "cannot read firmware %s: %s", path,
                         n < 0 ? strerror(errno) : "it became shorter while it was read");
            goto out;
        }
        done += (size_t)n;
    }
    r = 0;
out:
    if (fd >= 0) {
        close(fd);
    }
    return r;
}

static int rom_open(struct vm *vm, const struct vm_conf *conf, struct vmm_error *err)
{
    uint8_t *dst;
    int r;

    if (conf->rom_path) {
        return rom_load_file(vm, conf->rom_path, err);
    }
    if (conf->rom_len == 0) {
        return 0;
    }
    r = rom_alloc(vm, conf->rom_len, "(built in)", err, &dst);
    if (r < 0) {
        return r;
    }
    memcpy(dst, conf->rom, conf->rom_len);
    return 0;
}

int vm_ram_take(struct vm *vm, struct vmm_error *err)
{
    if (vm->ram_kept && mprotect(vm->ram, vm->ram_len, PROT_READ | PROT_WRITE) < 0) {
        return vmm_fail(err, -errno, "guest memory cannot be made writable: %s",
                        strerror(errno));
    }
    return 0;
}

void vm_rom_low_clear(struct vm *vm)
{
    if (vm->rom_len > 0) {
        memset(vm->ram + VM_ROM_LOW_BASE, 0, VM_ROM_LOW_LEN);
    }
}

void vm_rom_recopy(struct vm *vm)
{
    uint64_t len = vm->rom_len < VM_ROM_LOW_LEN ? vm->rom_len : VM_ROM_LOW_LEN;

    if (len == 0) {
        return;
    }
    (void)gmem_write(&vm->gmem, (struct gpa){VM_ROM_LOW_BASE + VM_ROM_LOW_LEN - len},
                     vm->rom + vm->rom_len - len, len);
}

/* Of a huge page no part can be given back, and a whole one would lose its reservation:
 * the guest's next touch of it could end the VM. */
void vm_ram_discard(struct vm *vm, struct gpa base, uint64_t len)
{
    uint8_t *host = gmem_slice(&vm->gmem, base, len, true);

    if (host && (vm->huge || madvise(host, len, MADV_REMOVE) < 0)) {
        memset(host, 0, len);
    }
    gmem_mark_dirty(&vm->gmem, base, len);
}

static int add_slot(struct vm *vm, enum vm_slot slot, uint64_t base, uint64_t len,
                    uint8_t *host, bool rom, struct vmm_error *err)
{
    struct kvm_userspace_memory_region region = {
        .slot = slot,
        .flags = rom ? KVM_MEM_READONLY : 0,
        .guest_phys_addr = base,
        .memory_size = len,
        .userspace_addr = (uint64_t)(uintptr_t)host,
    };
    int r;

    r = gmem_add(&vm->gmem, (struct gpa){base}, len, host, rom, NULL);
    if (r < 0) {
        return vmm_fail(err, r, "memory map: region at %#llx does not fit: %s",
                        (unsigned long long)base, strerror(-r));
    }
    r = vm->ops->vm_memory(vm->vm_fd, &region);
    if (r < 0) {
        return vmm_fail(err, r, "KVM refused %s of %llu bytes at %#llx: %s",
                        rom ? "ROM" : "RAM", (unsigned long long)len,
                        (unsigned long long)base, strerror(-r));
    }
    return 0;
}

static int add_slots(struct vm *vm, bool standard, struct vmm_error *err)
{
    uint64_t low = vm_ram_low(standard, vm->ram_len);
    int r;

    r = add_slot(vm, VM_SLOT_RAM, 0, low, vm->ram, false, err);
    if (r == 0 && low < vm->ram_len) {
        r = add_slot(vm, VM_SLOT_RAM_HIGH, VM_RAM_HIGH_BASE, vm->ram_len - low,
                     vm->ram + low, false, err);
    }
    if (r == 0 && vm->rom_len > 0) {
        r = add_slot(vm, VM_SLOT_ROM, VM_ROM_TOP - vm->rom_len, vm->rom_len, vm->rom,
                     true, err);
    }
    return r;
}

static int kvm_open(struct vm *vm, const char *path, struct vmm_error *err)
{
    const struct kvm_ops *ops = vm->ops;
    int r;

    vm->sys_fd = ops->sys_open(path);
    if (vm->sys_fd < 0) {
        return vmm_fail(err, vm->sys_fd,
                        "cannot open %s: %s; the host needs KVM (modules kvm_intel or "
                        "kvm_amd) and this user access to it",
                        path, strerror(-vm->sys_fd));
    }
    r = ops->sys_api_version(vm->sys_fd);
    if (r != KVM_API_VERSION) {
        return vmm_fail(err, r < 0 ? r : -ENOTSUP,
                        "%s speaks KVM API version %d, Gemel needs %d", path, r,
                        KVM_API_VERSION);
    }
    vm->run_size = ops->sys_run_size(vm->sys_fd);
    if (vm->run_size < (int)sizeof(struct kvm_run)) {
        return vmm_fail(err, vm->run_size < 0 ? vm->run_size : -EPROTO,
                        "KVM offers a run page of %d bytes, %zu are needed", vm->run_size,
                        sizeof(struct kvm_run));
    }
    do {
        vm->vm_fd = ops->sys_create_vm(vm->sys_fd);
    } while (vm->vm_fd == -EINTR);
    if (vm->vm_fd < 0) {
        return vmm_fail(err, vm->vm_fd, "KVM cannot create a virtual machine: %s",
                        strerror(-vm->vm_fd));
    }
    if (ops->check(vm->vm_fd, KVM_CAP_READONLY_MEM) <= 0 ||
        ops->check(vm->vm_fd, KVM_CAP_IMMEDIATE_EXIT) <= 0 ||
        ops->check(vm->vm_fd, KVM_CAP_VCPU_EVENTS) <= 0) {
        return vmm_fail(err, -ENOTSUP,
                        "KVM of this host lacks read-only memory, immediate exit or vCPU "
                        "events; Linux 4.12 or later is needed");
    }
    if (ops->check(vm->vm_fd, KVM_CAP_PMU_CAPABILITY) & KVM_PMU_CAP_DISABLE) {
        struct kvm_enable_cap no_pmu = {.cap = KVM_CAP_PMU_CAPABILITY,
                                        .args = {KVM_PMU_CAP_DISABLE}};

        (void)ops->vm_enable(vm->vm_fd, &no_pmu); /* counters differ between twins */
    }
    dirty_log_offer(vm);
    /* Needed by Intel hosts only, harmless elsewhere; a host without them says so at the
     * first entry. */
    (void)ops->vm_identity_map(vm->vm_fd, IDENTITY_MAP_GPA);
    (void)ops->vm_tss(vm->vm_fd, TSS_GPA);
    return 0;
}

int vm_open(const struct kvm_ops *ops, const struct vm_conf *conf, struct vm *ret_vm,
            struct vmm_error *err)
{
    struct vm vm = {.ops = ops, .sys_fd = -1, .vm_fd = -1, .ram_fd = -1};
    int r;

    vm.ram_fd = conf->ram_given ? conf->ram_fd : -1;
    vm.ram_kept = conf->ram_given;
    r = kvm_open(&vm, conf->kvm_path, err);
    if (r < 0) {
        goto out;
    }
    r = ram_open(&vm, conf, err);
    if (r < 0) {
        goto out;
    }
    r = rom_open(&vm, conf, err);
    if (r < 0) {
        goto out;
    }
    r = add_slots(&vm, conf->standard, err);
    if (r < 0) {
        goto out;
    }
    r = conf->standard ? irqchip_open(&vm, err) : 0;
    if (r < 0) {
        goto out;
    }
    if (!vm.ram_kept) {
        vm_rom_recopy(&vm);
    }
    *ret_vm = vm;
    return 0;
out:
    vm_close(&vm);
    return r;
}

void vm_close(struct vm *vm)
{
    if (!vm || !vm->ops) {
        return;
    }
    vm->ops->close(vm->vm_fd);
    vm->ops->close(vm->sys_fd);
    unmap_guarded(vm->ram, vm->ram_len);
    unmap_guarded(vm->rom, vm->rom_len);
    if (vm->ram_fd >= 0) {
        close(vm->ram_fd);
    }
    *vm = (struct vm){.sys_fd = -1, .vm_fd = -1, .ram_fd = -1};
}
