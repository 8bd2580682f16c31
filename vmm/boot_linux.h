/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Booting a kernel without firmware: a bzImage through its 64-bit entry (Linux
 * Documentation/arch/x86/boot.rst, protocol 2.12 or later) or an ELF file through its PVH
 * entry (Xen docs/misc/pvh.pandoc, XEN_ELFNOTE_PHYS32_ENTRY). Both are put into guest
 * memory with their initrd, command line, memory map and boot parameters; what the first
 * vCPU must start with is returned. Every byte of the files is hostile: a file that
 * cannot be used gives a problem that names its field. Pure: the files are read through
 * a callback. Used by vmm/boot_files, before a vCPU's first instruction.
 *
 * What lies below 1 MiB then (all of it is the kernel's to reuse but the last):
 *   0x1000 GDT   0x2000 zero page, or PVH start info   0x3000 command line
 *   0x4000 page tables: the first 4 GiB, identity       0xE0000 ACPI tables (vmm/acpi)
 */
#pragma once

#include "vmm/machine.h"

enum boot_mode {
    BOOT_RESET_VECTOR = 0, /* firmware: the processor's own reset state */
    BOOT_LONG64,           /* 64-bit mode, paging on, interrupts off */
    BOOT_PVH32,            /* 32-bit protected mode, paging off, interrupts off */
};

struct boot_entry {
    enum boot_mode mode;
    uint64_t rip, rsi, rbx;
    uint64_t cr3;
    uint64_t gdt;
    uint16_t gdt_limit;
};

#define BOOT_SELECTOR_CODE 0x10 /* in the GDT of either mode */
#define BOOT_SELECTOR_DATA 0x18
#define BOOT_SELECTOR_TASK 0x20

struct boot_source {
    void *ctx;
    uint64_t len;
    /* All of [offset, offset + len), which lies within the file; false: it could not be
     * read. */
    bool (*read)(void *ctx, uint64_t offset, void *dst, size_t len);
};

struct boot_conf {
    enum machine_type type;
    uint64_t ram_len;
    const char *cmdline; /* NULL: empty */
    const struct boot_source *kernel;
    const struct boot_source *initrd; /* NULL: none */
    struct gpa rsdp;                  /* 0: no ACPI */
};

enum boot_subject { BOOT_KERNEL = 1, BOOT_INITRD, BOOT_CMDLINE };

/* Why it cannot be booted; the shell makes a sentence of it. */
struct boot_problem {
    enum boot_subject subject;
    const char *field; /* "setup_header.version" */
    const char *text;  /* "is not there; ..." */
    bool has_numbers;
    uint64_t is, limit; /* what the field says, and what would have been right */
};

/* 0; -ENOEXEC (not a kernel that this loader knows), -EFBIG (does not fit), -EIO (cannot
 * be read), each with *ret_problem. Guest memory may then hold parts of it. */
int boot_linux_load(struct gmem *gm, const struct boot_conf *conf,
                    struct boot_entry *ret_entry, struct boot_problem *ret_problem);
