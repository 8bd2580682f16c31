/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One KVM virtual machine without vCPUs: its fds, its RAM (memfd, guard pages around it)
 * and its boot ROM. The ROM is mapped read-only to end at 4 GiB; its last 128 KiB also
 * lie, writable, at 0xE0000 (where firmware runs from), and are copied there again at
 * each reset. Owned by whoever made it; guest memory itself by the vCPU thread while it
 * runs.
 */
#pragma once

#include "vmm/gmem.h"
#include "vmm/kvm_ops.h"
#include "vmm/vmm_error.h"

#define VM_RAM_MIN (UINT64_C(1) << 20)
/* Below the devices; `standard` has the rest of its RAM from 4 GiB on. */
#define VM_RAM_LOW_LOCKSTEP UINT64_C(0xC0000000)
#define VM_RAM_LOW_STANDARD UINT64_C(0x80000000)
#define VM_RAM_HIGH_BASE    (UINT64_C(1) << 32)
#define VM_RAM_MAX          (UINT64_C(1) << 44)
#define VM_ROM_MAX                                                                       \
    (UINT64_C(16) << 20) /* stays above the MMIO windows and KVM's own pages */
#define VM_ROM_LOW_BASE UINT64_C(0xE0000)
#define VM_ROM_LOW_LEN  UINT64_C(0x20000)
#define VM_ROM_TOP      (UINT64_C(1) << 32)

enum vm_slot { VM_SLOT_RAM = 0, VM_SLOT_ROM, VM_SLOT_RAM_HIGH };

struct vm_conf {
    const char *kvm_path; /* "/dev/kvm" */
    bool standard;        /* in-kernel interrupt controllers; RAM above 4 GiB */
    uint64_t ram_len;     /* multiple of the page size */
    bool huge;            /* RAM in huge pages of 2 MiB, and a multiple of that */
    bool ram_given;       /* RAM is this memfd, with what is in it; vm_open takes it */
    int ram_fd;
    const char *rom_path; /* NULL: none (tests bring their own bytes) */
    const uint8_t *rom;   /* used when rom_path is NULL */
    size_t rom_len;       /* 0 as well: no ROM, a kernel is loaded directly */
};

struct vm {
    const struct kvm_ops *ops;
    int sys_fd, vm_fd, ram_fd;
    int run_size;
    bool huge;                        /* RAM is in huge pages */
    bool ram_kept;                    /* RAM came with its contents, of another process */
    bool dirty_manual, dirty_all_set; /* vmm/dirty_log: what KVM of this host does */
    uint8_t *ram, *rom;
    uint64_t ram_len; /* all of it; `ram` holds the low part and then the high one */
    uint64_t rom_len; /* in whole pages; 0: none */
    struct gmem gmem;
};

/* 0 or -errno with `err` filled. On failure nothing is left behind. */
int vm_open(const struct kvm_ops *ops, const struct vm_conf *conf, struct vm *ret_vm,
            struct vmm_error *err);
void vm_close(struct vm *vm);
/* RAM that was given is another process's until its VM is this one's: it is mapped to be
 * read only, and nothing writes to it, before this. 0 or -errno with `err`. */
int vm_ram_take(struct vm *vm, struct vmm_error *err);
/* RAM below the devices of a machine with so much of it. */
uint64_t vm_ram_low(bool standard, uint64_t ram_len);
/* The guest does without these whole pages of RAM: they read as zeros from now on, and
 * the host may have them (not those of a VM in huge pages). */
void vm_ram_discard(struct vm *vm, struct gpa base, uint64_t len);
/* Puts the pristine ROM copy back at 0xE0000 (system reset). */
void vm_rom_recopy(struct vm *vm);
/* All of RAM as zeros again, as a saved state wants it before anything has run. */
void vm_rom_low_clear(struct vm *vm);
