/* SPDX-License-Identifier: Apache-2.0 */
#include "base/elf_build_id.h"

#include <elf.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/unit.h"

static const uint8_t id[20] = {0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0, 1,  2,
                               3,    4,    5,    6,    7,    8,    9,    10,   11, 12};
#define ID_TEXT "123456789abcdef00102030405060708090a0b0c"

struct file {
    Elf64_Ehdr head;
    Elf64_Phdr part[2];
    struct {
        Elf64_Nhdr head;
        char owner[4];
        uint32_t version[4];
    } abi;
    struct {
        Elf64_Nhdr head;
        char owner[4];
        uint8_t value[20];
    } build;
};

static struct file made(void)
{
    struct file f = {
        .head = {.e_phoff = sizeof f.head, .e_phentsize = sizeof f.part[0], .e_phnum = 2},
        .part = {{.p_type = PT_LOAD, .p_filesz = sizeof f},
                 {.p_type = PT_NOTE,
                  .p_offset = offsetof(struct file, abi),
                  .p_filesz = sizeof f.abi + sizeof f.build}},
        .abi = {{4, 16, NT_GNU_ABI_TAG}, "GNU", {0}},
        .build = {{4, sizeof id, NT_GNU_BUILD_ID}, "GNU", {0}},
    };

    memcpy(f.head.e_ident, ELFMAG, SELFMAG);
    f.head.e_ident[EI_CLASS] = ELFCLASS64;
    f.head.e_ident[EI_DATA] = ELFDATA2LSB;
    memcpy(f.build.value, id, sizeof id);
    return f;
}

static bool finds(const struct file *f, size_t len, char text[BUILD_ID_LEN + 1])
{
    return elf_build_id((const uint8_t *)f, len, text);
}

START_TEST(it_is_found_behind_other_notes)
{
    struct file f = made();
    char text[BUILD_ID_LEN + 1];

    ck_assert(finds(&f, sizeof f, text));
    ck_assert_str_eq(text, ID_TEXT);
    f.build.head.n_type = NT_GNU_GOLD_VERSION;
    ck_assert(!finds(&f, sizeof f, text));
}
END_TEST

START_TEST(a_file_that_is_cut_or_lies_has_none)
{
    struct file f;
    char text[BUILD_ID_LEN + 1];

    f = made();
    for (size_t len = 0; len < offsetof(struct file, build) + sizeof f.build; len++) {
        ck_assert_msg(!finds(&f, len, text), "found in %zu bytes", len);
    }
    f = made();
    f.head.e_phoff = UINT64_MAX - 8;
    ck_assert(!finds(&f, sizeof f, text));
    f = made();
    f.part[1].p_offset = UINT64_MAX;
    ck_assert(!finds(&f, sizeof f, text));
    f = made();
    f.part[1].p_filesz = UINT64_MAX;
    ck_assert(!finds(&f, sizeof f, text));
    f = made();
    f.abi.head.n_namesz = UINT32_MAX;
    ck_assert(!finds(&f, sizeof f, text));
    f = made();
    f.build.head.n_descsz = UINT32_MAX - 2;
    ck_assert(!finds(&f, sizeof f, text));
    f = made();
    f.head.e_ident[EI_CLASS] = ELFCLASS32;
    ck_assert(!finds(&f, sizeof f, text));
}
END_TEST

/* The linker was told to, and what it writes is near the beginning. */
START_TEST(this_program_has_one)
{
    static uint8_t head[BUILD_ID_HEAD];
    int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    char text[BUILD_ID_LEN + 1];
    ssize_t len;

    ck_assert_int_ge(fd, 0);
    len = read(fd, head, sizeof head);
    close(fd);
    ck_assert_int_gt(len, 0);
    ck_assert(elf_build_id(head, (size_t)len, text));
    ck_assert_uint_eq(strlen(text), BUILD_ID_LEN);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("elf_build_id");
    TCase *tc = tcase_create("elf_build_id");

    tcase_add_test(tc, it_is_found_behind_other_notes);
    tcase_add_test(tc, a_file_that_is_cut_or_lies_has_none);
    tcase_add_test(tc, this_program_has_one);
    suite_add_tcase(s, tc);
    return s;
}

UNIT_MAIN(suite)
