/* SPDX-License-Identifier: Apache-2.0 */
/*
 * userfaultfd(2) over the guest's memory, for post-copy: whoever touches a page that is
 * not there (a vCPU, a device, the kernel in a system call) waits until it is put there.
 * Linux 4.11 for memory of a memfd. Opened before the sandbox; the rest is for threads of
 * kind SANDBOX_TRANSFER. To close or unregister it lets everybody go on who waits, with
 * pages of zeros: only when nothing is missing, or nothing will run.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "vmm/vmm_error.h"

/* `device`: /dev/userfaultfd (Linux 6.1), or -1: the system call, which wants
 * CAP_SYS_PTRACE or vm.unprivileged_userfaultfd=1, for the kernel's own accesses wait as
 * well. 0, or -errno with a text. */
int uffd_open(int device, int *ret_fd, struct vmm_error *err);
/* `at` and `len` are multiples of a page, and memory of one memfd. 0 or -errno. */
int uffd_register(int fd, void *at, uint64_t len);
int uffd_unregister(int fd, void *at, uint64_t len);
/* Puts what `from` holds there in one piece, and wakes who waits. 0; -EEXIST: a page of
 * it is there already, and what comes before it was done; -errno. */
int uffd_copy(int fd, void *at, const void *from, uint64_t len);
int uffd_zero(int fd, void *at, uint64_t len);
int uffd_wake(int fd, void *at, uint64_t len);
/* Addresses that somebody waits for, up to `max`: how many, 0: none now, or -errno. */
int uffd_read(int fd, uint64_t *ret_address, unsigned max);
