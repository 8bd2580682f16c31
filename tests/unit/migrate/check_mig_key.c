/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/mig_key.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/migrate/mig_rig.h"

START_TEST(keys_and_tokens_differ)
{
    struct mig_key *a, *b;
    struct mig_token s = mig_token_new(), t = mig_token_new();
    struct mig_fingerprint f, g;
    struct vmm_error err;

    ck_assert_int_eq(mig_key_new(&a, &err), 0);
    ck_assert_int_eq(mig_key_new(&b, &err), 0);
    f = mig_key_fingerprint(a);
    g = mig_key_fingerprint(b);
    ck_assert_mem_ne(&f, &g, sizeof f);
    g = mig_key_fingerprint(a);
    ck_assert_mem_eq(&f, &g, sizeof f);
    ck_assert_mem_ne(&s, &t, sizeof s);
    mig_key_free(a);
    mig_key_free(b);
    mig_key_free(NULL);
}
END_TEST

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
/* What a thread of a transfer may call: migrate/README.md. */
static const int calls[] = {
    SYS_read,          SYS_readv,      SYS_sendmsg, SYS_sendto, SYS_poll,
    SYS_shutdown,      SYS_close,      SYS_futex,   SYS_mmap,   SYS_munmap,
    SYS_mremap,        SYS_mprotect,   SYS_madvise, SYS_brk,    SYS_getrandom,
    SYS_clock_gettime, SYS_exit_group, SYS_write,   SYS_getpid, SYS_getrusage,
};
#define CALLS (sizeof calls / sizeof calls[0])

static void only_these(void)
{
    struct sock_filter f[2 * CALLS + 4];
    struct sock_fprog prog = {.filter = f};
    unsigned short n = 0;

    f[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
                                          offsetof(struct seccomp_data, nr));
    for (size_t i = 0; i < CALLS; i++) {
        f[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K,
                                              (unsigned)calls[i], 0, 1);
        f[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    }
    f[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
    prog.len = n;
    ck_assert_int_eq(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    ck_assert_int_eq(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog), 0);
}

/* The work of a transfer's thread, from the keys on. */
static void *keys_and_streams(void *arg)
{
    static uint8_t body[100000];
    const int *fd = arg;
    static struct rig rig;
    struct vmm_error err, errs[2];
    int result[2];

    rig_prepare(&rig, RIG_TLS); /* for its eventfds */
    only_these();
    for (int i = 0; i < 2; i++) {
        mig_key_free(rig.key[i]);
        ck_assert_int_eq(mig_key_new(&rig.key[i], &err), 0);
        rig.conf[i].key = rig.key[i];
    }
    for (int i = 0; i < 2; i++) {
        rig.conf[i].peer = mig_key_fingerprint(rig.key[!i]);
        ck_assert_int_eq(mig_conn_new(fd[i], &rig.conf[i], "stream", &rig.conn[i], &err),
                         0);
    }
    rig_shake(&rig, result, errs);
    rig_send(&rig, 0, RIG_BIG, body, sizeof body);
    rig_expect(&rig, 1, RIG_BIG, body, sizeof body);
    (void)mig_token_new();
    ck_assert_int_eq(mig_conn_send_end(rig.conn[0], &err), 0);
    rig_close(&rig);
    _exit(42);
}

/* As gemel-vmm does it: everything that opens files before the sandbox, keys and TLS
 * after it. */
START_TEST(nothing_is_opened_after_the_start)
{
    struct vmm_error err;
    pthread_t thread;
    int fd[2], status;
    pid_t child;

    ck_assert_int_eq(mig_key_init(&err), 0);
    child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        rig_sockets(RIG_TLS | (_i == 1 ? RIG_TCP : 0), fd);
        pthread_create(&thread, NULL, keys_and_streams, fd);
        pthread_join(thread, NULL);
        _exit(1);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 42, "status 0x%x%s",
                  (unsigned)status,
                  WIFSIGNALED(status) && WTERMSIG(status) == 31
                      ? ": a system call that is not in the list"
                      : "");
}
END_TEST
#endif

START_TEST(init_works)
{
    struct vmm_error err = {""};
    int r = mig_key_init(&err);

    ck_assert_msg(r == 0, "%s", err.text);
    ck_assert_int_eq(mig_key_init(&err), 0);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("mig_key");
    TCase *t = tcase_create("all");

    tcase_add_test(t, keys_and_tokens_differ);
    tcase_add_test(t, init_works);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    tcase_add_loop_test(t, nothing_is_opened_after_the_start, 0, 2);
#endif
    suite_add_tcase(s, t);
    return s;
}

UNIT_MAIN(suite)
