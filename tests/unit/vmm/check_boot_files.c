/* SPDX-License-Identifier: Apache-2.0 */
/* Kernel and initrd as files: what is said about those that cannot be used, and the
 * registers at the entry. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "tests/unit/scratch.h"
#include "tests/unit/unit.h"
#include "tests/unit/vmm/boot_rig.h"
#include "vmm/boot_files.h"
#include "vmm/vcpu_boot.h"

static struct boot_rig rig;
static uint8_t file[BOOT_RIG_FILE_MAX];
static size_t file_len;
static struct vmm_error err;
static struct boot_entry entry;
static const struct acpi_conf acpi = {.cpu_count = 1, .ram_len = BOOT_RIG_RAM};

static void setup(void)
{
    boot_rig_init(&rig);
    scratch_setup();
    file_len = boot_rig_bzimage(file, 0x8000);
    memset(&err, 0, sizeof err);
}

static void teardown(void)
{
    scratch_teardown();
    boot_rig_free(&rig);
}

static const char *put(const char *name, const void *bytes, size_t len)
{
    const char *path = scratch_path(name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, bytes, len), (ssize_t)len);
    close(fd);
    return path;
}

static int load(const char *kernel, const char *initrd, const char *cmdline)
{
    struct boot_files *files;
    int r = boot_files_open(kernel, initrd, &files, &err);

    if (r == 0) {
        r = boot_files_load(files, &acpi, cmdline, &rig.gm, &entry, &err);
        boot_files_close(files);
    }
    return r;
}

static void says(const char *text)
{
    ck_assert_msg(strstr(err.text, text) != NULL, "'%s' is not in: %s", text, err.text);
}

START_TEST(kernel_and_initrd)
{
    ck_assert_int_eq(
        load(put("vmlinuz", file, file_len), put("initrd", file, 5000), "quiet"), 0);
    ck_assert_int_eq(entry.mode, BOOT_LONG64);
    ck_assert_mem_eq(rig.ram + 0x200000, file + 4 * 512, 0x8000);
    ck_assert_mem_eq(rig.ram + BOOT_RIG_RAM - 8192, file, 5000);
    ck_assert_mem_eq(rig.ram + 0xE0000, "RSD PTR ", 8);
    ck_assert_int_eq(load(scratch_path("vmlinuz"), NULL, NULL), 0);
    ck_assert_int_eq(load(scratch_path("vmlinuz"), "", NULL), 0);
}
END_TEST

START_TEST(files_that_cannot_be_used)
{
    char kernel[512], none[512];

    strcpy(kernel, put("vmlinuz", file, file_len));
    strcpy(none, scratch_path("none"));
    ck_assert_int_eq(load(none, NULL, NULL), -ENOENT);
    says("cannot open kernel /");
    says("No such file or directory; check boot.kernel");
    ck_assert_int_eq(load(kernel, none, NULL), -ENOENT);
    says("check boot.initrd");
    ck_assert_int_lt(load("/dev/null", NULL, NULL), 0);
    says("is not a regular file");
    ck_assert_int_eq(mkfifo(none, 0600), 0);
    ck_assert_int_lt(load(none, NULL, NULL), 0); /* and does not wait */
    says("is not a regular file");
    ck_assert_int_eq(load(put("empty", "", 0), NULL, NULL), -EFBIG);
    says("has 0 bytes");
    ck_assert_int_eq(load(put("text", "#!/bin/sh\nexit 0\n", 17), NULL, NULL), -ENOEXEC);
    says("/text: setup_header lies past the end of the file");
    ck_assert_int_eq(load(put("cut", file, file_len - 1), NULL, NULL), -ENOEXEC);
    says("/cut: setup_header.syssize says that the file is longer");
    ck_assert_int_eq(truncate(put("huge", "x", 1), (off_t)BOOT_RIG_RAM), 0);
    ck_assert_int_eq(load(kernel, scratch_path("huge"), NULL), -EFBIG);
    says("initrd /");
    says("/huge: size does not fit");
    says("give the VM more memory (0x800000, limit 0x300000)");
    memset(file, 'x', 300);
    file[300] = '\0';
    ck_assert_int_eq(load(kernel, NULL, (const char *)file), -EFBIG);
    says("kernel command line: length is more than this kernel takes; shorten it (0x12c, "
         "limit 0xff)");
}
END_TEST

/* The file is the one that was opened, whatever happens to its name; cut while it is open
 * it is an error, not a SIGBUS. */
START_TEST(files_that_change)
{
    const char *kernel = put("vmlinuz", file, file_len);
    struct boot_files *files;

    ck_assert_int_eq(boot_files_open(kernel, NULL, &files, &err), 0);
    ck_assert_int_eq(rename(put("new", "junk", 4), kernel), 0);
    ck_assert_int_eq(boot_files_load(files, &acpi, NULL, &rig.gm, &entry, &err), 0);
    boot_files_close(files);
    kernel = put("vmlinuz", file, file_len);
    ck_assert_int_eq(boot_files_open(kernel, NULL, &files, &err), 0);
    ck_assert_int_eq(truncate(kernel, 4096), 0);
    ck_assert_int_eq(boot_files_load(files, &acpi, NULL, &rig.gm, &entry, &err), -EIO);
    says("protected-mode code cannot be read");
    boot_files_close(files);
    boot_files_close(NULL);
}
END_TEST

START_TEST(registers_at_the_entry)
{
    struct boot_entry e = {.mode = BOOT_LONG64,
                           .rip = 0x1000200,
                           .rsi = 0x2000,
                           .cr3 = 0x4000,
                           .gdt = 0x1000,
                           .gdt_limit = 47};
    struct kvm_regs regs = {.rax = 7, .rflags = 0x202};
    struct kvm_sregs sregs = {.cr8 = 3, .apic_base = 0}, untouched = sregs;

    vcpu_boot_fill(&e, &regs, &sregs);
    ck_assert_uint_eq(regs.rip, 0x1000200);
    ck_assert_uint_eq(regs.rsi, 0x2000);
    ck_assert_uint_eq(regs.rax, 0);
    ck_assert_uint_eq(regs.rflags, 2); /* interrupts off */
    ck_assert_uint_eq(sregs.cr0, 0x80000011);
    ck_assert_uint_eq(sregs.cr4, 0x20);
    ck_assert_uint_eq(sregs.efer, 0x500);
    ck_assert(sregs.cs.l && !sregs.cs.db && sregs.cs.selector == BOOT_SELECTOR_CODE);
    ck_assert(sregs.ss.db && sregs.ss.selector == BOOT_SELECTOR_DATA);
    ck_assert_uint_eq(sregs.gdt.base, 0x1000);
    ck_assert_uint_eq(sregs.cr8, 3);
    e.mode = BOOT_PVH32;
    e.rbx = 0x2000;
    vcpu_boot_fill(&e, &regs, &sregs);
    ck_assert_uint_eq(regs.rbx, 0x2000);
    ck_assert_uint_eq(sregs.cr0, 0x11);
    ck_assert_uint_eq(sregs.cr4 | sregs.efer, 0);
    ck_assert(!sregs.cs.l && sregs.cs.db && sregs.cs.limit == UINT32_MAX);
    e.mode = BOOT_RESET_VECTOR;
    sregs = untouched;
    vcpu_boot_fill(&e, &regs, &sregs);
    ck_assert_mem_eq(&sregs, &untouched, sizeof sregs);
}
END_TEST

static Suite *files_suite(void)
{
    Suite *suite = suite_create("boot_files");
    TCase *tc = tcase_create("boot_files");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, kernel_and_initrd);
    tcase_add_test(tc, files_that_cannot_be_used);
    tcase_add_test(tc, files_that_change);
    tcase_add_test(tc, registers_at_the_entry);
    suite_add_tcase(suite, tc);
    return suite;
}

UNIT_MAIN(files_suite)
