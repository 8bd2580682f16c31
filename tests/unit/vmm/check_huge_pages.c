/* SPDX-License-Identifier: Apache-2.0 */
/* Guest memory in huge pages: what is said when there are none, and what is discarded. */
#include "vmm/huge_pages.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/scratch.h"
#include "tests/unit/unit.h"
#include "tests/unit/vmm/fake_kvm.h"
#include "vmm/vm.h"

#define MIB (UINT64_C(1) << 20)

static void put(const char *name, const char *text)
{
    char path[TEMP_PATH_MAX + 64];
    FILE *f;

    snprintf(path, sizeof path, "%s/%s", scratch_dir, name);
    f = fopen(path, "w");
    ck_assert_ptr_nonnull(f);
    ck_assert_int_ge(fputs(text, f), 0);
    ck_assert_int_eq(fclose(f), 0);
}

START_TEST(how_many_and_what_to_do)
{
    struct vmm_error err = {""};

    put("nr_hugepages", "10\n");
    put("free_hugepages", "7\n");
    put("resv_hugepages", "3\n");
    ck_assert_int_eq(huge_pages_fail(scratch_dir, 64 * MIB, ENOMEM, &err), -ENOMEM);
    ck_assert_str_eq(err.text,
                     "hugepages: 64 MiB of guest memory need 32 huge pages of 2 MiB, and "
                     "4 are free on this host; give it more with sysctl "
                     "vm.nr_hugepages=38");
    ck_assert_int_eq(huge_pages_fail(scratch_dir, 8 * MIB, EPERM, &err), -EPERM);
    ck_assert_str_eq(err.text, "hugepages: cannot map 4 huge pages of 2 MiB, though 4 "
                               "are free: Operation not permitted");
    ck_assert_int_eq(huge_pages_fail("/nothere", 8 * MIB, ENOSYS, &err), -ENOSYS);
    ck_assert_ptr_nonnull(strstr(err.text, "start the VM without them"));
}
END_TEST

static void open_vm(struct vm *vm)
{
    struct vm_conf conf = {.kvm_path = "/dev/kvm", .ram_len = 4 * MIB};
    struct vmm_error err = {""};

    ck_assert_msg(vm_open(&fake_kvm, &conf, vm, &err) == 0, "%s", err.text);
}

static bool is_hole(const struct vm *vm, off_t at)
{
    return lseek(vm->ram_fd, at, SEEK_DATA) != at;
}

/* Zeros in both cases; a hole only where the host can have the pages. */
START_TEST(discarded_pages_are_zeros)
{
    for (unsigned huge = 0; huge < 2; huge++) {
        uint8_t byte = 0xA5, got;
        struct vm vm;

        open_vm(&vm);
        vm.huge = huge != 0;
        for (uint64_t at = MIB; at < MIB + 4 * GMEM_PAGE_SIZE; at += GMEM_PAGE_SIZE) {
            ck_assert(gmem_write(&vm.gmem, (struct gpa){at}, &byte, 1));
        }
        vm_ram_discard(&vm, (struct gpa){MIB + GMEM_PAGE_SIZE}, 2 * GMEM_PAGE_SIZE);
        ck_assert_int_eq(is_hole(&vm, MIB + GMEM_PAGE_SIZE), !huge);
        for (unsigned i = 0; i < 4; i++) {
            ck_assert(
                gmem_read(&vm.gmem, (struct gpa){MIB + i * GMEM_PAGE_SIZE}, &got, 1));
            ck_assert_uint_eq(got, i == 0 || i == 3 ? byte : 0);
        }
        vm_close(&vm);
    }
}
END_TEST

START_TEST(whole_huge_pages_only)
{
    struct vm_conf conf = {.kvm_path = "/dev/kvm", .ram_len = 3 * MIB, .huge = true};
    struct vmm_error err = {""};
    struct vm vm;

    ck_assert_int_eq(vm_open(&fake_kvm, &conf, &vm, &err), -EINVAL);
    ck_assert_str_eq(err.text,
                     "memory of 3072 KiB in huge pages: must be a multiple of 2 MiB");
    conf.ram_len = UINT64_C(3) << 30; /* there, or the reason that it is not */
    if (vm_open(&fake_kvm, &conf, &vm, &err) == 0) {
        ck_assert_uint_eq((uintptr_t)vm.ram % HUGE_PAGE_SIZE, 0);
        vm_close(&vm);
    } else {
        ck_assert_ptr_nonnull(strstr(err.text, "huge"));
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("huge_pages");
    TCase *t = tcase_create("huge_pages");

    tcase_add_checked_fixture(t, scratch_setup, scratch_teardown);
    tcase_add_test(t, how_many_and_what_to_do);
    tcase_add_test(t, discarded_pages_are_zeros);
    tcase_add_test(t, whole_huge_pages_only);
    suite_add_tcase(s, t);
    return s;
}

UNIT_MAIN(suite)
