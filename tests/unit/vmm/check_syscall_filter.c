/* SPDX-License-Identifier: Apache-2.0 */
/* vmm/syscall_filter: read by a small interpreter for every number, and by the kernel for
 * what matters: a forbidden call kills, an allowed one works. */
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/io_uring.h>
#include <linux/kvm.h>
#include <linux/seccomp.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/units.h"
#include "tests/unit/unit.h"
#include "vmm/syscall_filter.h"

#define SELF        4711u
#define SYSCALL_MAX 600

static struct sock_filter program[SYSCALL_FILTER_MAX];
static size_t program_len;

/* What the kernel does with the instructions that the filter uses, and no others. */
static uint32_t judge(const struct seccomp_data *data)
{
    uint32_t a = 0;

    for (size_t pc = 0; pc < program_len; pc++) {
        const struct sock_filter *f = &program[pc];

        switch (f->code) {
        case BPF_LD | BPF_W | BPF_ABS:
            ck_assert_uint_le(f->k + 4, sizeof *data);
            memcpy(&a, (const char *)data + f->k, 4);
            break;
        case BPF_JMP | BPF_JEQ | BPF_K:
            pc += a == f->k ? f->jt : f->jf;
            break;
        case BPF_JMP | BPF_JSET | BPF_K:
            pc += a & f->k ? f->jt : f->jf;
            break;
        case BPF_RET | BPF_K:
            return f->k;
        default:
            ck_abort_msg("instruction %zu has code %#x", pc, f->code);
        }
    }
    ck_abort_msg("the program runs off its end");
}

static uint32_t verdict(int nr, unsigned arg, uint64_t value)
{
    struct seccomp_data data = {.nr = nr, .arch = AUDIT_ARCH_X86_64};

    data.args[arg] = value;
    return judge(&data);
}

static void make(int kind)
{
    program_len =
        syscall_filter_make((enum sandbox_thread)kind, SELF, program, SYSCALL_FILTER_MAX);
    ck_assert_uint_gt(program_len, 10);
}

/* Nobody may make a process, a file, a socket, a namespace, or code; nor look into
 * others. */
START_TEST(never)
{
    static const int calls[] = {
        SYS_execve,
        SYS_execveat,
        SYS_fork,
        SYS_vfork,
        SYS_ptrace,
        SYS_process_vm_readv,
        SYS_socket,
        SYS_socketpair,
        SYS_connect,
        SYS_bind,
        SYS_listen,
        SYS_mount,
        SYS_umount2,
        SYS_pivot_root,
        SYS_chroot,
        SYS_unshare,
        SYS_setns,
        SYS_setuid,
        SYS_setresuid,
        SYS_capset,
        SYS_seccomp,
        SYS_bpf,
        SYS_perf_event_open,
        SYS_userfaultfd,
        SYS_keyctl,
        SYS_add_key,
        SYS_init_module,
        SYS_kexec_load,
        SYS_open_by_handle_at,
        SYS_io_uring_setup,
        SYS_kill,
        SYS_tkill,
        SYS_pidfd_open,
        SYS_pidfd_getfd,
        SYS_memfd_create,
        SYS_creat,
        SYS_mkdir,
        SYS_mknod,
        SYS_link,
        SYS_symlink,
        SYS_unlink,
        SYS_chmod,
        SYS_chown,
        SYS_open_tree,
        SYS_move_mount,
        SYS_clone3,
        SYS_modify_ldt,
        SYS_process_madvise,
        SYS_pkey_mprotect,
        SYS_shmat,
        SYS_personality,
    };

    make(_i);
    for (size_t i = 0; i < ARRAY_SIZE(calls); i++) {
        ck_assert_msg(verdict(calls[i], 0, 0) == SECCOMP_RET_KILL_PROCESS, "call %d",
                      calls[i]);
    }
}
END_TEST

/* Whatever it is, it is let through, fails in one known way, or kills; and what is let
 * through is not much. */
START_TEST(every_number)
{
    unsigned allowed = 0;

    make(_i);
    for (int nr = 0; nr < SYSCALL_MAX; nr++) {
        struct seccomp_data other = {.nr = nr, .arch = AUDIT_ARCH_I386};
        uint32_t v = verdict(nr, 0, 0);

        ck_assert(v == SECCOMP_RET_ALLOW || v == SECCOMP_RET_KILL_PROCESS ||
                  (nr == SYS_openat && v == (SECCOMP_RET_ERRNO | ENOENT)));
        allowed += v == SECCOMP_RET_ALLOW;
        ck_assert_uint_eq(judge(&other), SECCOMP_RET_KILL_PROCESS);
        other.arch = AUDIT_ARCH_X86_64;
        other.nr = nr | 0x40000000; /* x32 */
        ck_assert_uint_eq(judge(&other), SECCOMP_RET_KILL_PROCESS);
    }
    ck_assert_uint_ge(allowed, 15);
    ck_assert_uint_le(allowed, 60);
}
END_TEST

START_TEST(arguments)
{
    const uint64_t above = UINT64_C(1) << 32;

    make(_i);
    ck_assert_uint_eq(verdict(SYS_mmap, 2, PROT_READ | PROT_WRITE), SECCOMP_RET_ALLOW);
    ck_assert_uint_eq(verdict(SYS_mmap, 2, PROT_READ | PROT_EXEC),
                      SECCOMP_RET_KILL_PROCESS);
    ck_assert_uint_eq(verdict(SYS_mprotect, 2, PROT_EXEC), SECCOMP_RET_KILL_PROCESS);
    ck_assert_uint_eq(verdict(SYS_tgkill, 0, SELF), SECCOMP_RET_ALLOW);
    ck_assert_uint_eq(verdict(SYS_tgkill, 0, 1), SECCOMP_RET_KILL_PROCESS);
    ck_assert_uint_eq(verdict(SYS_ioctl, 1, KVM_RUN),
                      _i == SANDBOX_VCPU ? SECCOMP_RET_ALLOW : SECCOMP_RET_KILL_PROCESS);
    ck_assert_uint_eq(verdict(SYS_ioctl, 1, KVM_CREATE_VM), SECCOMP_RET_KILL_PROCESS);
    ck_assert_uint_eq(verdict(SYS_ioctl, 1, KVM_SET_USER_MEMORY_REGION),
                      _i == SANDBOX_TRANSFER ? SECCOMP_RET_ALLOW
                                             : SECCOMP_RET_KILL_PROCESS);
    ck_assert_uint_eq(verdict(SYS_ioctl, 1, KVM_CLEAR_DIRTY_LOG),
                      _i == SANDBOX_TRANSFER || _i == SANDBOX_VCPU || _i == SANDBOX_IO
                          ? SECCOMP_RET_ALLOW
                          : SECCOMP_RET_KILL_PROCESS);
    ck_assert_uint_eq(verdict(SYS_ioctl, 1, UFFDIO_COPY), _i == SANDBOX_TRANSFER
                                                              ? SECCOMP_RET_ALLOW
                                                              : SECCOMP_RET_KILL_PROCESS);
    ck_assert_uint_eq(verdict(SYS_ioctl, 1, UFFDIO_WRITEPROTECT),
                      SECCOMP_RET_KILL_PROCESS);
    ck_assert_uint_eq(verdict(SYS_ioctl, 1, TIOCSTI), SECCOMP_RET_KILL_PROCESS);
    ck_assert_uint_eq(verdict(SYS_io_uring_register, 1, IORING_REGISTER_BUFFERS),
                      SECCOMP_RET_KILL_PROCESS);
    ck_assert_uint_eq(verdict(SYS_fcntl, 1, F_SETOWN), SECCOMP_RET_KILL_PROCESS);
    if (_i == SANDBOX_TRANSFER) { /* to whom a socket is connected is not its choice */
        ck_assert_uint_eq(verdict(SYS_sendto, 4, above), SECCOMP_RET_KILL_PROCESS);
        ck_assert_uint_eq(verdict(SYS_sendto, 4, 0), SECCOMP_RET_ALLOW);
    }
    if (_i == SANDBOX_LOOP) {
        ck_assert_uint_eq(verdict(SYS_prlimit64, 2, 0), SECCOMP_RET_ALLOW);
        ck_assert_uint_eq(verdict(SYS_prlimit64, 2, 1), SECCOMP_RET_KILL_PROCESS);
        ck_assert_uint_eq(verdict(SYS_prlimit64, 2, above), SECCOMP_RET_KILL_PROCESS);
    }
}
END_TEST

/* The kernel
 * ------------------------------------------------------------------------------------ */

enum act { ACT_WRITE, ACT_MAP, ACT_SOCKET, ACT_MAP_EXEC, ACT_OPEN, ACT_KVM, ACT_RAISE };

static void act(enum act what, int fd)
{
    switch (what) {
    case ACT_WRITE:
        _exit(write(fd, "x", 1) == 1 ? 0 : 1);
    case ACT_MAP:
        _exit(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) ==
              MAP_FAILED);
    case ACT_SOCKET:
        _exit((int)syscall(SYS_socket, 1, 1, 0) & 1);
    case ACT_MAP_EXEC:
        _exit(mmap(NULL, 4096, PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) ==
              MAP_FAILED);
    case ACT_OPEN:
        _exit(open("/", O_RDONLY) < 0 && errno == ENOENT ? 0 : 1);
    case ACT_KVM:
        _exit(ioctl(fd, KVM_RUN, 0) < 0 ? 0 : 1);
    case ACT_RAISE:
        _exit(syscall(SYS_tgkill, getpid(), (pid_t)syscall(SYS_gettid), 0) == 0 ? 0 : 1);
    }
}

/* Status of a child that does it behind the filter. */
static int behind(enum sandbox_thread kind, enum act what)
{
    struct rlimit no_core = {0, 0};
    int fd = open("/dev/null", O_RDWR | O_CLOEXEC), status;
    pid_t pid = fork();

    ck_assert_int_ge(fd, 0);
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        struct sock_fprog p = {.filter = program};

        p.len = (unsigned short)syscall_filter_make(kind, (uint32_t)getpid(), program,
                                                    SYSCALL_FILTER_MAX);
        (void)setrlimit(RLIMIT_CORE, &no_core);
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
            syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &p) != 0) {
            _exit(99);
        }
        act(what, fd);
    }
    close(fd);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    return status;
}

START_TEST(the_kernel_kills)
{
    static const struct {
        enum act what;
        bool dies[SANDBOX_THREAD_COUNT]; /* loop, vcpu, io, lease, transfer */
    } row[] = {
        {ACT_WRITE, {false, false, false, false, false}},
        {ACT_MAP, {false, false, false, false, false}},
        {ACT_RAISE, {false, false, false, false, false}},
        {ACT_SOCKET, {true, true, true, true, true}},
        {ACT_MAP_EXEC, {true, true, true, true, true}},
        {ACT_KVM, {true, false, true, true, true}},
    };

    for (size_t i = 0; i < ARRAY_SIZE(row); i++) {
        int status = behind((enum sandbox_thread)_i, row[i].what);

        if (row[i].dies[_i]) {
            ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS,
                          "row %zu: status %#x", i, status);
        } else {
            ck_assert_msg(status == 0, "row %zu: status %#x", i, status);
        }
    }
    if (_i != SANDBOX_LOOP) {
        ck_assert_int_eq(behind((enum sandbox_thread)_i, ACT_OPEN), 0);
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("syscall_filter");
    TCase *t = tcase_create("threads");

    tcase_add_loop_test(t, never, 0, SANDBOX_THREAD_COUNT);
    tcase_add_loop_test(t, every_number, 0, SANDBOX_THREAD_COUNT);
    tcase_add_loop_test(t, arguments, 0, SANDBOX_THREAD_COUNT);
    tcase_add_loop_test(t, the_kernel_kills, 0, SANDBOX_THREAD_COUNT);
    suite_add_tcase(s, t);
    return s;
}

UNIT_MAIN(suite)
