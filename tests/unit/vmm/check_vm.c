/* SPDX-License-Identifier: Apache-2.0 */
/* Guest memory that another process hands over: it is as it was, and nobody here writes
 * to it before it is taken. */
#include "vmm/vm.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/unit.h"
#include "tests/unit/vmm/fake_kvm.h"

#define LEN (UINT64_C(4) << 20)

static const uint8_t rom[4096] = {[0 ... 4095] = 0x90};

/* The old process: a VM with a ROM, whose guest has written. */
static void open_old(struct vm *vm)
{
    struct vm_conf conf = {
        .kvm_path = "/dev/kvm", .ram_len = LEN, .rom = rom, .rom_len = sizeof rom};
    struct vmm_error err = {""};

    ck_assert_msg(vm_open(&fake_kvm, &conf, vm, &err) == 0, "%s", err.text);
    ck_assert(!vm->ram_kept);
    memset(vm->ram + VM_ROM_LOW_BASE, 0x11, VM_ROM_LOW_LEN);
    vm->ram[0] = 0x22;
    vm->ram[LEN - 1] = 0x33;
}

static int open_new(int fd, uint64_t len, bool huge, struct vm *vm, struct vmm_error *err)
{
    struct vm_conf conf = {.kvm_path = "/dev/kvm",
                           .ram_len = len,
                           .huge = huge,
                           .ram_given = true,
                           .ram_fd = fd,
                           .rom = rom,
                           .rom_len = sizeof rom};

    return vm_open(&fake_kvm, &conf, vm, err);
}

/* What becomes of a process that writes there. */
static int end_of_writer(struct vm *vm)
{
    pid_t pid = fork();
    int status;

    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        signal(SIGSEGV, SIG_DFL);
        ((volatile uint8_t *)vm->ram)[GMEM_PAGE_SIZE] = 1;
        _exit(0);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

START_TEST(it_is_the_same_memory)
{
    struct vmm_error err = {""};
    struct vm old, new;
    uint64_t at;

    open_old(&old);
    ck_assert_msg(open_new(dup(old.ram_fd), LEN, false, &new, &err) == 0, "%s", err.text);
    ck_assert(new.ram_kept);
    ck_assert_uint_eq(new.ram[0], 0x22);
    ck_assert_uint_eq(new.ram[LEN - 1], 0x33);
    /* The ROM was not copied over what the guest has there. */
    for (at = 0; at < VM_ROM_LOW_LEN; at++) {
        ck_assert_uint_eq(old.ram[VM_ROM_LOW_BASE + at], 0x11);
    }
    old.ram[5] = 0x44;
    ck_assert_uint_eq(new.ram[5], 0x44);
    ck_assert_int_eq(end_of_writer(&new), SIGSEGV);
    ck_assert_uint_eq(old.ram[GMEM_PAGE_SIZE], 0);
    ck_assert_int_eq(vm_ram_take(&new, &err), 0);
    ck_assert_int_eq(end_of_writer(&new), 0);
    ck_assert_uint_eq(old.ram[GMEM_PAGE_SIZE], 1);
    vm_close(&old); /* and it stays when the old process ends */
    ck_assert_uint_eq(new.ram[0], 0x22);
    vm_close(&new);
}
END_TEST

START_TEST(memory_that_does_not_fit_is_refused)
{
    struct vmm_error err = {""};
    struct vm old, new;
    int fd;

    open_old(&old);
    ck_assert_int_eq(open_new(dup(old.ram_fd), 2 * LEN, false, &new, &err), -EINVAL);
    ck_assert_ptr_nonnull(strstr(err.text, "has 4096 KiB in pages of 4 KiB; this VM has "
                                           "8192 KiB"));
    ck_assert_int_eq(open_new(dup(old.ram_fd), LEN, true, &new, &err), -EINVAL);
    ck_assert_ptr_nonnull(strstr(err.text, "in huge pages"));
    vm_close(&old);
    fd = memfd_create("unsealed", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    ck_assert_int_eq(ftruncate(fd, (off_t)LEN), 0);
    ck_assert_int_eq(open_new(fd, LEN, false, &new, &err), -EBADF);
    ck_assert_ptr_nonnull(strstr(err.text, "sealed"));
    ck_assert_int_lt(fcntl(fd, F_GETFD), 0); /* taken in any case */
    ck_assert_int_eq(open_new(open("/dev/null", O_RDWR), LEN, false, &new, &err), -EBADF);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("vm");
    TCase *tc = tcase_create("vm");

    tcase_add_test(tc, it_is_the_same_memory);
    tcase_add_test(tc, memory_that_does_not_fit_is_refused);
    suite_add_tcase(s, tc);
    return s;
}

UNIT_MAIN(suite)
