/* SPDX-License-Identifier: Apache-2.0 */
/* Loading kernels: where everything lands, and what is said about files that cannot be
 * used. */
#include <errno.h>
#include <string.h>

#include "tests/unit/unit.h"
#include "tests/unit/vmm/boot_rig.h"
#include "vmm/e820.h"

static struct boot_rig rig;
static uint8_t file[BOOT_RIG_FILE_MAX], initrd[8192];
static struct boot_bytes kernel_bytes, initrd_bytes;
static struct boot_source kernel, initrd_source;
static struct boot_conf conf;
static struct boot_entry entry;
static struct boot_problem problem;

static void setup(void)
{
    boot_rig_init(&rig);
    memset(initrd, 0x77, sizeof initrd);
    initrd_bytes = (struct boot_bytes){initrd, sizeof initrd, 0};
    initrd_source = boot_rig_source(&initrd_bytes);
    conf = (struct boot_conf){.ram_len = BOOT_RIG_RAM,
                              .cmdline = "console=ttyS0 a=b",
                              .kernel = &kernel,
                              .initrd = &initrd_source,
                              .rsdp = {0xE0000}};
}

static void teardown(void)
{
    boot_rig_free(&rig);
}

static int load(size_t len)
{
    kernel_bytes.bytes = file;
    kernel_bytes.len = len;
    kernel = boot_rig_source(&kernel_bytes);
    memset(&problem, 0, sizeof problem);
    return boot_linux_load(&rig.gm, &conf, &entry, &problem);
}

static uint64_t at(uint64_t gpa, unsigned len)
{
    uint64_t v = 0;

    memcpy(&v, rig.ram + gpa, len);
    return v;
}

static void refused(size_t len, enum boot_subject subject, const char *field)
{
    ck_assert_int_lt(load(len), 0);
    ck_assert_int_eq(problem.subject, subject);
    ck_assert_str_eq(problem.field, field);
    ck_assert_ptr_nonnull(problem.text);
}

START_TEST(bzimage_lands)
{
    size_t len = boot_rig_bzimage(file, 0x8000);
    uint64_t pd;

    ck_assert_int_eq(load(len), 0);
    ck_assert_int_eq(entry.mode, BOOT_LONG64);
    ck_assert_uint_eq(entry.rip, 0x200200);
    ck_assert_uint_eq(entry.rsi, 0x2000);
    ck_assert_mem_eq(rig.ram + 0x200000, file + 4 * 512, 0x8000);
    ck_assert_str_eq((char *)rig.ram + at(0x2228, 4), "console=ttyS0 a=b");
    ck_assert_uint_eq(at(0x2210, 1), 0xFF);
    ck_assert_uint_eq(at(0x2070, 8), 0xE0000);
    ck_assert_uint_eq(at(0x2218, 4), BOOT_RIG_RAM - sizeof initrd);
    ck_assert_uint_eq(at(0x221C, 4), sizeof initrd);
    ck_assert_mem_eq(rig.ram + BOOT_RIG_RAM - sizeof initrd, initrd, sizeof initrd);
    /* e820: RAM, hole, tables, RAM, KVM */
    ck_assert_uint_eq(at(0x21E8, 1), 4);
    ck_assert_uint_eq(at(0x22D0 + 8, 8), 0xA0000);
    ck_assert_uint_eq(at(0x22D0 + 2 * 20, 8), 0x100000);
    ck_assert_uint_eq(at(0x22D0 + 2 * 20 + 8, 8), BOOT_RIG_RAM - 0x100000);
    /* The page tables map any address below 4 GiB to itself. */
    for (uint64_t a = 0; a < UINT64_C(1) << 32; a += 0x3FE00000) {
        ck_assert_uint_eq(entry.cr3, 0x4000);
        pd = at(entry.cr3, 8) & ~UINT64_C(0xFFF);
        pd = at(pd + (a >> 30) * 8, 8) & ~UINT64_C(0xFFF);
        ck_assert_uint_eq(at(pd + (a >> 21 & 511) * 8, 8),
                          (a & ~UINT64_C(0x1FFFFF)) | 0x83);
    }
    ck_assert_uint_eq(at(entry.gdt + BOOT_SELECTOR_CODE, 8),
                      UINT64_C(0x00AF9B000000FFFF));
    ck_assert_uint_ge(entry.gdt_limit, BOOT_SELECTOR_TASK + 7);
}
END_TEST

START_TEST(bzimage_cut_anywhere)
{
    size_t len = boot_rig_bzimage(file, 0x4000);

    for (size_t cut = 0; cut < len; cut++) {
        ck_assert_int_eq(load(cut), -ENOEXEC);
        ck_assert_ptr_nonnull(problem.field);
    }
    ck_assert_int_eq(load(len), 0);
}
END_TEST

static const struct {
    unsigned offset, len;
    uint64_t value;
    const char *field;
} bad_header[] = {
    {0x202, 1, 'X', "setup_header.header"},
    {0x1FE, 2, 0, "setup_header.boot_flag"},
    {0x206, 2, 0x020B, "setup_header.version"},
    {0x236, 2, 0, "setup_header.xloadflags"},
    {0x211, 1, 0, "setup_header.loadflags"},
    {0x201, 1, 0x20, "setup_header.jump"},
    {0x1F4, 4, 0, "setup_header.syssize"},
    {0x1F4, 4, 0x20, "setup_header.syssize"},
    {0x1F4, 4, 0x5000, "setup_header.syssize"},
    {0x1F4, 4, UINT32_MAX, "setup_header.init_size"},
    {0x1F1, 1, 0xFF, "setup_header.syssize"},
    {0x258, 8, 0, "setup_header.pref_address"},
    {0x258, 8, UINT64_MAX, "setup_header.pref_address"},
    {0x258, 8, 0x7FFFFF, "setup_header.init_size"},
    {0x260, 4, 0x700000, "setup_header.init_size"},
    {0x260, 4, UINT32_MAX, "setup_header.init_size"},
};

START_TEST(bzimage_bad_fields)
{
    size_t len = boot_rig_bzimage(file, 0x8000);

    memcpy(file + bad_header[_i].offset, &bad_header[_i].value, bad_header[_i].len);
    refused(len, BOOT_KERNEL, bad_header[_i].field);
}
END_TEST

START_TEST(initrd_and_cmdline_limits)
{
    static char line[4200];
    size_t len = boot_rig_bzimage(file, 0x8000);
    uint32_t max = 0x500FFF;

    memset(line, 'x', sizeof line - 1);
    /* initrd_addr_max just above the kernel: fits to the byte, or not */
    memcpy(file + 0x22C, &max, 4);
    initrd_source.len = 0x1000;
    ck_assert_int_eq(load(len), 0);
    ck_assert_uint_eq(at(0x2218, 4), 0x500000);
    initrd_source.len = 0x1001;
    refused(len, BOOT_INITRD, "size");
    initrd_source.len = UINT64_MAX;
    refused(len, BOOT_INITRD, "size");
    initrd_source.len = BOOT_RIG_RAM;
    refused(len, BOOT_INITRD, "size");
    max = 0x100000;
    memcpy(file + 0x22C, &max, 4);
    initrd_source.len = 1;
    refused(len, BOOT_INITRD, "size");
    conf.initrd = NULL;
    conf.cmdline = line;
    line[255] = '\0';
    ck_assert_int_eq(load(len), 0);
    line[255] = 'x';
    refused(len, BOOT_CMDLINE, "length");
    max = UINT32_MAX;
    memcpy(file + 0x238, &max, 4);
    line[4095] = '\0';
    ck_assert_int_eq(load(len), 0);
    line[4095] = 'x';
    refused(len, BOOT_CMDLINE, "length");
    conf.cmdline = NULL;
    ck_assert_int_eq(load(len), 0);
    ck_assert_uint_eq(at(0x3000, 1), 0);
}
END_TEST

START_TEST(read_errors)
{
    size_t len = boot_rig_bzimage(file, 0x8000);

    for (uint64_t at_byte = 1; at_byte < len; at_byte += 97) {
        kernel_bytes.fails_at = at_byte;
        ck_assert_int_eq(load(len), -EIO);
    }
    kernel_bytes.fails_at = 0;
    initrd_bytes.fails_at = 100;
    ck_assert_int_eq(load(len), -EIO);
    ck_assert_int_eq(problem.subject, BOOT_INITRD);
    initrd_bytes.fails_at = 0;
    ck_assert_int_eq(load(len), 0);
}
END_TEST

START_TEST(memory_too_small)
{
    size_t len = boot_rig_bzimage(file, 0x8000);

    conf.ram_len = 0x100000;
    refused(len, BOOT_KERNEL, "size");
    conf.ram_len = 0x200000;
    refused(len, BOOT_KERNEL, "setup_header.init_size");
    conf.ram_len = BOOT_RIG_RAM * 2; /* more than there is */
    refused(len, BOOT_KERNEL, "size");
}
END_TEST

START_TEST(elf_lands)
{
    size_t len = boot_rig_elf(file);

    ck_assert_int_eq(load(len), 0);
    ck_assert_int_eq(entry.mode, BOOT_PVH32);
    ck_assert_uint_eq(entry.rip, 0x200010);
    ck_assert_uint_eq(entry.rbx, 0x2000);
    ck_assert_mem_eq(rig.ram + 0x200000, file + 0x1000, 0x800);
    ck_assert_uint_eq(at(0x200800, 8), 0); /* zeroed up to p_memsz */
    ck_assert_uint_eq(at(0x201FFF, 1), 0);
    ck_assert_uint_eq(at(0x202000, 1), 0xA5);
    ck_assert_mem_eq(rig.ram + 0x300000, file + 0x1800, 0x100);
    ck_assert_uint_eq(at(0x2000, 4), 0x336EC578);
    ck_assert_uint_eq(at(0x200C, 4), 1); /* one module */
    ck_assert_uint_eq(at(at(0x2010, 8), 8), BOOT_RIG_RAM - sizeof initrd);
    ck_assert_uint_eq(at(at(0x2010, 8) + 8, 8), sizeof initrd);
    ck_assert_str_eq((char *)rig.ram + at(0x2018, 8), "console=ttyS0 a=b");
    ck_assert_uint_eq(at(0x2020, 8), 0xE0000);
    ck_assert_uint_eq(at(0x2030, 4), 4);
    ck_assert_uint_eq(at(at(0x2028, 8) + 8, 8), 0xA0000);
    ck_assert_uint_eq(at(entry.gdt + BOOT_SELECTOR_CODE, 8),
                      UINT64_C(0x00CF9B000000FFFF));
}
END_TEST

START_TEST(elf_cut_anywhere)
{
    size_t len = boot_rig_elf(file);

    for (size_t cut = 0; cut < len; cut++) {
        ck_assert_int_eq(load(cut), -ENOEXEC);
        ck_assert_ptr_nonnull(problem.field);
    }
    ck_assert_int_eq(load(len), 0);
}
END_TEST

#define PH(n, member) (64 + 56 * (n) + (member))
static const struct {
    unsigned offset, len;
    uint64_t value;
    const char *field;
} bad_elf[] = {
    {4, 1, 1, "e_machine"},
    {18, 2, 3, "e_machine"},
    {16, 2, 1, "e_type"},
    {54, 2, 32, "e_phentsize"},
    {56, 2, 0, "e_phnum"},
    {56, 2, 65, "e_phnum"},
    {32, 8, UINT64_MAX, "program headers (e_phoff, e_phnum)"},
    {32, 8, UINT64_MAX - 60, "program headers (e_phoff, e_phnum)"},
    {PH(0, 24), 8, 0xFF000, "p_paddr"},
    {PH(0, 24), 8, BOOT_RIG_RAM - 0x1FFF, "p_paddr + p_memsz"},
    {PH(0, 24), 8, UINT64_MAX - 16, "p_paddr + p_memsz"},
    {PH(0, 40), 8, UINT64_MAX, "p_paddr + p_memsz"},
    {PH(0, 40), 8, 0x7FF, "p_filesz"},
    {PH(0, 8), 8, UINT64_MAX, "p_offset + p_filesz"},
    {PH(0, 8), 8, 0x1101, "p_offset + p_filesz"},
    {PH(1, 0), 4, 0, "XEN_ELFNOTE_PHYS32_ENTRY"},
    {PH(1, 8), 8, UINT64_MAX, "PT_NOTE p_offset + p_filesz"},
    {PH(1, 32), 8, 40, "PT_NOTE n_namesz + n_descsz"},
    {0x200, 4, UINT32_MAX, "PT_NOTE n_namesz + n_descsz"},
    {0x204, 4, UINT32_MAX, "PT_NOTE n_namesz + n_descsz"},
    {0x214 + 4, 4, 5, "XEN_ELFNOTE_PHYS32_ENTRY"},
    {0x200 + 36, 8, 0x100, "XEN_ELFNOTE_PHYS32_ENTRY"},
    {0x200 + 36, 8, 0x300100, "XEN_ELFNOTE_PHYS32_ENTRY"},
};

START_TEST(elf_bad_fields)
{
    size_t len = boot_rig_elf(file);

    memcpy(file + bad_elf[_i].offset, &bad_elf[_i].value, bad_elf[_i].len);
    refused(len, BOOT_KERNEL, bad_elf[_i].field);
}
END_TEST

/* A file without PT_LOAD, and a list of notes that never ends. */
START_TEST(elf_without_segments)
{
    size_t len = boot_rig_elf(file);
    uint64_t zero = 0, all = 0x1000;

    memcpy(file + PH(0, 40), &zero, 8);
    memcpy(file + PH(0, 0), &zero, 4);
    memcpy(file + PH(2, 0), &zero, 4);
    refused(len, BOOT_KERNEL, "PT_LOAD");
    len = boot_rig_elf(file);
    memset(file + 0x200, 0, 0xE00);
    memcpy(file + PH(1, 32), &all, 8);
    refused(len, BOOT_KERNEL, "XEN_ELFNOTE_PHYS32_ENTRY");
}
END_TEST

/* Ascending, without overlap, and with all of the RAM but the hole. */
START_TEST(memory_maps)
{
    static const uint64_t lens[] = {0x100000,   0x10000000, 0x7FFFF000, 0x80000000,
                                    0x80001000, 0xC0000000, 0x200000000};

    for (unsigned i = 0; i < ARRAY_SIZE(lens); i++) {
        for (unsigned k = 0; k < 4; k++) {
            enum machine_type type = k < 2 ? MACHINE_LOCKSTEP : MACHINE_STANDARD;
            struct e820_entry map[E820_ENTRIES_MAX];
            unsigned count = e820_build(type, lens[i], k % 2 == 1, map);
            uint64_t ram = 0, low = e820_ram_low_len(type, lens[i]);

            for (unsigned e = 0; e < count; e++) {
                ck_assert_uint_gt(map[e].len, 0);
                ck_assert(e == 0 || map[e].base >= map[e - 1].base + map[e - 1].len);
                ram += map[e].type == E820_RAM ? map[e].len : 0;
            }
            ck_assert_uint_eq(ram, lens[i] - (k % 2 == 1 ? 0 : 0x60000));
            ck_assert(type == MACHINE_LOCKSTEP || low <= 0x80000000);
        }
    }
}
END_TEST

static Suite *boot_suite(void)
{
    Suite *suite = suite_create("boot_linux");
    TCase *tc = tcase_create("boot_linux");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, bzimage_lands);
    tcase_add_test(tc, bzimage_cut_anywhere);
    tcase_add_loop_test(tc, bzimage_bad_fields, 0, ARRAY_SIZE(bad_header));
    tcase_add_test(tc, initrd_and_cmdline_limits);
    tcase_add_test(tc, read_errors);
    tcase_add_test(tc, memory_too_small);
    tcase_add_test(tc, elf_lands);
    tcase_add_test(tc, elf_cut_anywhere);
    tcase_add_loop_test(tc, elf_bad_fields, 0, ARRAY_SIZE(bad_elf));
    tcase_add_test(tc, elf_without_segments);
    tcase_add_test(tc, memory_maps);
    suite_add_tcase(suite, tc);
    return suite;
}

UNIT_MAIN(boot_suite)
