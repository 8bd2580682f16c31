/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which system calls a thread of gemel-vmm may make, as a seccomp program (seccomp(2),
 * SECCOMP_SET_MODE_FILTER). x86-64 only: the x32 and i386 entries kill, as does whatever
 * is not in the table of syscall_filter.c. A pure function of its arguments.
 */
#pragma once

#include <linux/filter.h>
#include <stddef.h>
#include <stdint.h>

#define SYSCALL_FILTER_MAX 512 /* instructions of one program */

/* What a thread of the VMM is there for. */
enum sandbox_thread {
    SANDBOX_LOOP = 0, /* control socket, console, taps, log files */
    SANDBOX_VCPU,     /* KVM, devices, disks */
    SANDBOX_IO,       /* devices and disks off the vCPUs, no KVM_RUN */
    SANDBOX_LEASE,    /* one timer */
    SANDBOX_TRANSFER, /* live migration: guest memory, its dirty log, sockets that came */
    SANDBOX_THREAD_COUNT,
};

/* `self` is this process's id: signals go to its own threads only. Returns the length;
 * `cap` of SYSCALL_FILTER_MAX always suffices. */
size_t syscall_filter_make(enum sandbox_thread thread, uint32_t self,
                           struct sock_filter *program, size_t cap);
