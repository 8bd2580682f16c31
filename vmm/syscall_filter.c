/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/syscall_filter.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/fs.h>
#include <linux/if_tun.h>
#include <linux/io_uring.h>
#include <linux/kvm.h>
#include <linux/seccomp.h>
#include <linux/userfaultfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "base/bug.h"
#include "base/units.h"

#define BIT(thread) (1u << (thread))
#define LOOP        BIT(SANDBOX_LOOP)
#define VCPU        BIT(SANDBOX_VCPU)
#define IO          BIT(SANDBOX_IO)
#define LEASE       BIT(SANDBOX_LEASE)
#define TRANSFER    BIT(SANDBOX_TRANSFER)
#define WORK        (VCPU | IO)
#define ANY         (LOOP | VCPU | IO | LEASE | TRANSFER)

/* Values of one argument that let a call through. */
struct value {
    uint32_t value;
    unsigned threads;
};

/* Arguments that the kernel itself takes as 32 bits (ioctl's request, fcntl's command,
 * io_uring_register's opcode) are compared as such: it never sees the upper half. */
static const struct value ioctl_requests[] = {
    {KVM_RUN, VCPU},
    {KVM_INTERRUPT, VCPU},
    /* interrupts of devices, and where they go */
    {KVM_SIGNAL_MSI, WORK},
    {KVM_IRQ_LINE, WORK},
    {KVM_SET_GSI_ROUTING, WORK},
    {KVM_IRQFD, WORK},
    {KVM_IOEVENTFD, WORK},
    /* state, at a reset and when it is saved: with several vCPUs the I/O thread does that
     */
    {KVM_SET_CPUID2, WORK}, /* of a saved VM, before it runs */
    {KVM_GET_REGS, WORK},
    {KVM_SET_REGS, WORK},
    {KVM_GET_SREGS, WORK},
    {KVM_SET_SREGS, WORK},
    {KVM_GET_DEBUGREGS, WORK},
    {KVM_SET_DEBUGREGS, WORK},
    {KVM_GET_VCPU_EVENTS, WORK},
    {KVM_SET_VCPU_EVENTS, WORK},
    {KVM_GET_MP_STATE, WORK},
    {KVM_SET_MP_STATE, WORK},
    {KVM_GET_XSAVE, WORK},
    {KVM_SET_XSAVE, WORK},
    {KVM_GET_XCRS, WORK},
    {KVM_SET_XCRS, WORK},
    {KVM_GET_MSRS, WORK},
    {KVM_SET_MSRS, WORK},
    {KVM_GET_LAPIC, WORK},
    {KVM_SET_LAPIC, WORK},
    {KVM_GET_IRQCHIP, WORK},
    {KVM_SET_IRQCHIP, WORK},
    {KVM_GET_PIT2, WORK},
    {KVM_SET_PIT2, WORK},
    {KVM_GET_CLOCK, WORK},
    {KVM_SET_CLOCK, WORK},
    {KVM_KVMCLOCK_CTRL, WORK},
    {KVM_GET_TSC_KHZ, WORK},
    {KVM_SET_TSC_KHZ, WORK},
    {KVM_NMI, WORK},
    {KVM_SET_GUEST_DEBUG, WORK},
    /* which pages the guest writes to; the third only switches the log on and off */
    {KVM_GET_DIRTY_LOG, TRANSFER | WORK}, /* WORK: barriers, checkpoints */
    {KVM_CLEAR_DIRTY_LOG, TRANSFER | WORK},
    {KVM_SET_USER_MEMORY_REGION, TRANSFER},
    /* post-copy (vmm/uffd) */
    {UFFDIO_COPY, TRANSFER},
    {UFFDIO_ZEROPAGE, TRANSFER},
    {UFFDIO_WAKE, TRANSFER},
    {UFFDIO_REGISTER, TRANSFER},
    {UFFDIO_UNREGISTER, TRANSFER},
    /* disks and taps */
    {BLKGETSIZE64, WORK},
    {TUNSETCARRIER, WORK | LOOP},
    {TUNSETOFFLOAD, WORK},
};

static const struct value fcntl_commands[] = {
    {F_GETFL, LOOP | WORK | TRANSFER},
    {F_SETFL, LOOP | WORK | TRANSFER},
    {F_GETFD, LOOP | WORK},
    {F_SETFD, LOOP | WORK},
    {F_DUPFD_CLOEXEC, LOOP}, /* a twin's disks: its session writes to them, too */
};

/* Disks come after the ring was closed for everything else: see restrict_ring of
 * blk_uring.c, which says the same once more. */
static const struct value ring_registers[] = {{IORING_REGISTER_FILES_UPDATE, WORK}};

enum test {
    ALWAYS = 0,
    ONE_OF,  /* argument `arg` is one of `values` */
    WITHOUT, /* argument `arg` has none of `bits` */
    SELF,    /* argument 0 is this process */
    NO_PTR,  /* argument `arg` is NULL */
    FAILS,   /* with the error `bits`: libraries ask, and go on without */
};

struct rule {
    uint32_t nr;
    unsigned threads;
    enum test test;
    unsigned arg;
    uint32_t bits;
    const struct value *values;
    size_t count;
};

#define CALL(name, who)                                                                  \
    {                                                                                    \
        .nr = SYS_##name, .threads = (who)                                               \
    }
#define CALL_SELF(name, who)                                                             \
    {                                                                                    \
        .nr = SYS_##name, .threads = (who), .test = SELF                                 \
    }
#define CALL_FAILS(name, who, error)                                                     \
    {                                                                                    \
        .nr = SYS_##name, .threads = (who), .test = FAILS, .bits = (error)               \
    }
#define CALL_NO_PTR(name, who, n)                                                        \
    {                                                                                    \
        .nr = SYS_##name, .threads = (who), .test = NO_PTR, .arg = (n)                   \
    }
#define CALL_WITHOUT(name, who, n, no)                                                   \
    {                                                                                    \
        .nr = SYS_##name, .threads = (who), .test = WITHOUT, .arg = (n), .bits = (no)    \
    }
#define CALL_ONE_OF(name, who, n, list)                                                  \
    {                                                                                    \
        .nr = SYS_##name, .threads = (who), .test = ONE_OF, .arg = (n),                  \
        .values = (list), .count = ARRAY_SIZE(list)                                      \
    }

/* The table. What comes most often stands first. */
static const struct rule rules[] = {
    CALL_ONE_OF(ioctl, LOOP | WORK | TRANSFER, 1, ioctl_requests),
    CALL(io_uring_enter, LOOP | WORK),
    CALL(read, ANY),
    CALL(write, ANY),
    CALL(futex, ANY),
    CALL(ppoll, LOOP | WORK | TRANSFER),
    CALL(timer_settime, VCPU),
    CALL(timer_delete, VCPU),
    CALL(readv, LOOP | IO | TRANSFER),
    CALL(writev, LOOP | WORK | TRANSFER),
    CALL(epoll_wait, LOOP | IO),
    CALL(epoll_ctl, LOOP | WORK),
    CALL(eventfd2, WORK), /* doorbells */
    CALL(poll, LOOP | WORK | TRANSFER),
    /* signals and threads: nothing is made, only ended */
    CALL(rt_sigreturn, ANY),
    CALL(rt_sigprocmask, ANY),
    CALL(rt_sigaction, LOOP),
    CALL_SELF(tgkill, ANY),
    CALL(restart_syscall, ANY),
    CALL(getpid, ANY),
    CALL(gettid, ANY),
    CALL(geteuid, LOOP),
    CALL_NO_PTR(prlimit64, LOOP, 2), /* libqb asks how many files there may be */
    CALL(sched_yield, ANY),
    CALL(sched_getaffinity, ANY), /* malloc, for its arenas */
    CALL(exit, ANY),
    CALL(exit_group, ANY),
    /* time, where the vDSO cannot tell it */
    CALL(clock_gettime, ANY),
    CALL(clock_nanosleep, LOOP | WORK | TRANSFER),
    CALL(timerfd_settime, LOOP | IO),
    /* memory: none of it can become code */
    CALL_WITHOUT(mmap, ANY, 2, PROT_EXEC),
    CALL_WITHOUT(mprotect, ANY, 2, PROT_EXEC),
    CALL(munmap, ANY),
    CALL(mremap, ANY),
    CALL(madvise, ANY),
    CALL(brk, ANY),
    CALL(getrandom, ANY),
    /* files that are open */
    CALL(close, ANY),
    CALL_ONE_OF(fcntl, LOOP | WORK | TRANSFER, 1, fcntl_commands),
    CALL(fstat, LOOP | WORK | TRANSFER),
    CALL(newfstatat, LOOP | WORK | TRANSFER), /* fstat of newer libcs */
    CALL(pread64, WORK | TRANSFER),
    CALL(pwrite64, WORK | TRANSFER),
    CALL(lseek, LOOP | WORK | TRANSFER),
    CALL(fsync, LOOP | WORK), /* a saved VM */
    CALL(fdatasync, LOOP | TRANSFER),
    CALL(ftruncate, LOOP | TRANSFER),
    CALL(fallocate, TRANSFER), /* holes of a mirrored disk's copy */
    CALL_ONE_OF(io_uring_register, WORK, 1, ring_registers),
    /* rotation of logs: there is nothing else in this root */
    CALL(openat, LOOP),
    CALL_FAILS(openat, WORK | LEASE | TRANSFER, ENOENT), /* malloc: the overcommit mode */
    CALL(rename, LOOP),
    /* control socket and console: who connected */
    CALL(accept4, LOOP | TRANSFER),
    CALL(recvfrom, LOOP),
    CALL(recvmsg, LOOP | TRANSFER),
    CALL(sendto, LOOP),
    CALL(sendmsg, LOOP | TRANSFER),
    /* network disks, migration: sockets that came connected, so no address */
    CALL_NO_PTR(recvfrom, WORK | TRANSFER, 4),
    CALL_NO_PTR(sendto, WORK | TRANSFER, 4),
    CALL(getsockopt, LOOP | TRANSFER),
    CALL(shutdown, LOOP | TRANSFER),
    CALL(membarrier, TRANSFER), /* dirty_log_begin */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    /* What their runtimes need; such a build is for tests. Not what a search for leaks
     * needs: that is for runs without a sandbox. */
    CALL(sigaltstack, ANY),
    CALL(prctl, ANY),
    CALL(readlink, ANY),
    CALL(getrusage, ANY),
    CALL(rt_sigaction, ANY),
#endif
};

struct maker {
    struct sock_filter *program;
    size_t len, cap;
};

static void put(struct maker *m, struct sock_filter instruction)
{
    BUG_ON(m->len == m->cap);
    m->program[m->len++] = instruction;
}

static void load(struct maker *m, size_t offset)
{
    put(m, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset));
}

static void give(struct maker *m, uint32_t action)
{
    put(m, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, action));
}

/* If what was loaded is `value`, lets the call through. */
static void allow_if(struct maker *m, uint32_t value)
{
    put(m, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1));
    give(m, SECCOMP_RET_ALLOW);
}

static size_t arg_offset(unsigned arg)
{
    return offsetof(struct seccomp_data, args) + arg * sizeof(uint64_t); /* lower half */
}

static void put_rule(struct maker *m, const struct rule *r, enum sandbox_thread thread,
                     uint32_t self)
{
    size_t jump = m->len;

    /* Past this rule, if it is another call; how far is known at its end. */
    put(m, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, r->nr, 0, 0));
    switch (r->test) {
    case ALWAYS:
        give(m, SECCOMP_RET_ALLOW);
        break;
    case ONE_OF:
        load(m, arg_offset(r->arg));
        for (size_t i = 0; i < r->count; i++) {
            if (r->values[i].threads & BIT(thread)) {
                allow_if(m, r->values[i].value);
            }
        }
        give(m, SECCOMP_RET_KILL_PROCESS);
        break;
    case WITHOUT:
        load(m, arg_offset(r->arg));
        put(m, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, r->bits, 1, 0));
        give(m, SECCOMP_RET_ALLOW);
        give(m, SECCOMP_RET_KILL_PROCESS);
        break;
    case NO_PTR:
        load(m, arg_offset(r->arg));
        put(m, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 3));
        load(m, arg_offset(r->arg) + sizeof(uint32_t));
        allow_if(m, 0);
        give(m, SECCOMP_RET_KILL_PROCESS);
        break;
    case FAILS:
        give(m, SECCOMP_RET_ERRNO | r->bits);
        break;
    case SELF:
        load(m, arg_offset(0));
        allow_if(m, self);
        give(m, SECCOMP_RET_KILL_PROCESS);
        break;
    }
    BUG_ON(m->len - jump - 1 > UINT8_MAX);
    m->program[jump].jf = (uint8_t)(m->len - jump - 1);
}

size_t syscall_filter_make(enum sandbox_thread thread, uint32_t self,
                           struct sock_filter *program, size_t cap)
{
    struct maker m = {.program = program, .cap = cap};

    load(&m, offsetof(struct seccomp_data, arch));
    put(&m,
        (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0));
    give(&m, SECCOMP_RET_KILL_PROCESS);
    /* Each rule ends the program or leaves the number loaded. */
    load(&m, offsetof(struct seccomp_data, nr));
    for (size_t i = 0; i < ARRAY_SIZE(rules); i++) {
        if (rules[i].threads & BIT(thread)) {
            put_rule(&m, &rules[i], thread, self);
        }
    }
    give(&m, SECCOMP_RET_KILL_PROCESS);
    return m.len;
}
