/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by vmm/boot_linux.c, boot_bzimage.c and boot_pvh.c. Nobody else includes this.
 */
#pragma once

#include "base/le.h"
#include "vmm/boot_linux.h"

#define BOOT_GDT_GPA     UINT64_C(0x1000)
#define BOOT_PARAMS_GPA  UINT64_C(0x2000)
#define BOOT_CMDLINE_GPA UINT64_C(0x3000)
#define BOOT_PML4_GPA    UINT64_C(0x4000)
#define BOOT_KERNEL_MIN  UINT64_C(0x100000)

#define BOOT_CMDLINE_MAX 4095 /* bytes in its page, without the NUL */

struct boot {
    struct gmem *gm;
    const struct boot_conf *conf;
    struct boot_problem *problem;
    uint64_t ram_end;    /* of RAM below 4 GiB */
    uint64_t kernel_end; /* first byte that the kernel does not need while it starts */
    struct gpa initrd;
    uint64_t initrd_len;
};

int boot_fail(const struct boot *b, int error, enum boot_subject subject,
              const char *field, const char *text);
int boot_fail_numbers(const struct boot *b, int error, enum boot_subject subject,
                      const char *field, const char *text, uint64_t is, uint64_t limit);
/* From a place in the kernel's file. -ENOEXEC naming `field` when the file ends before.
 */
int boot_read(const struct boot *b, uint64_t offset, void *dst, size_t len,
              const char *field);
/* As high as it can lie below `top` and the end of RAM. */
int boot_place_initrd(struct boot *b, uint64_t top);
/* At BOOT_CMDLINE_GPA; at most `max` bytes without the NUL. */
int boot_place_cmdline(const struct boot *b, uint64_t max);
/* GDT with a code segment of 64 or 32 bits. */
void boot_place_gdt(const struct boot *b, struct boot_entry *entry);

int boot_bzimage(struct boot *b, struct boot_entry *entry);
int boot_pvh(struct boot *b, struct boot_entry *entry);
