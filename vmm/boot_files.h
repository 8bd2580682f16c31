/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel and initrd of a VM that boots without firmware: opened once, when the VM is
 * made (a package that replaces them later does not change a running VM), and read into
 * guest memory at start and at each system reset. Errors name the file and what is wrong
 * in it. Owned by the engine; used on its vCPU thread.
 */
#pragma once

#include "vmm/acpi.h"
#include "vmm/boot_linux.h"
#include "vmm/vmm_error.h"

#define BOOT_KERNEL_LEN_MAX (UINT64_C(256) << 20)
#define BOOT_INITRD_LEN_MAX (UINT64_C(2) << 30)

struct boot_files;

/* 0 or -errno. `initrd` may be NULL or empty. */
int boot_files_open(const char *kernel, const char *initrd, struct boot_files **ret_files,
                    struct vmm_error *err);
void boot_files_close(struct boot_files *files);
/* Puts kernel, initrd, command line and ACPI tables into guest memory. 0 or -errno. */
int boot_files_load(const struct boot_files *files, const struct acpi_conf *acpi,
                    const char *cmdline, struct gmem *gm, struct boot_entry *ret_entry,
                    struct vmm_error *err);
