/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/os.h"
#include "base/uuid.h"
#include "tests/unit/unit.h"

static const int no_stdio[3] = {-1, -1, -1};

static void wait_end(const struct os_child *child)
{
    struct pollfd p = {.fd = child->pidfd, .events = POLLIN};

    ck_assert_int_eq(poll(&p, 1, 20000), 1);
}

/* Runs a shell command and returns its output, which is shorter than the pipe. */
static const char *output_of(const char *command, const int *pass_fds,
                             size_t pass_fd_count)
{
    static char buf[8192];
    const char *const argv[] = {"sh", "-c", command, NULL};
    struct os_child child;
    size_t len = 0;
    ssize_t n;
    int fds[2], status;

    ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
    ck_assert_int_eq(os_spawn(argv, NULL, (const int[3]){-1, fds[1], fds[1]}, pass_fds,
                              pass_fd_count, &child),
                     0);
    close(fds[1]);
    while ((n = read(fds[0], buf + len, sizeof buf - 1 - len)) > 0) {
        len += (size_t)n;
    }
    buf[len] = '\0';
    close(fds[0]);
    wait_end(&child);
    ck_assert_int_eq(os_child_reap(&child, &status), 0);
    ck_assert_int_eq(status, 0);
    os_child_close(&child);
    return buf;
}

START_TEST(only_the_fds_that_were_passed_stay_open)
{
    int a = fcntl(0, F_DUPFD, 20), b = fcntl(0, F_DUPFD, 40), c = fcntl(0, F_DUPFD, 300);
    int pass[2] = {b, a}; /* not in order */

    ck_assert_int_ge(a, 20);
    fcntl(b, F_SETFD, FD_CLOEXEC); /* passing lifts it in the child only */
    /* 3 is the directory that the shell itself reads. */
    ck_assert_str_eq(output_of("cd /proc/self/fd && echo *", NULL, 0), "0 1 2 3\n");
    ck_assert_str_eq(output_of("cd /proc/self/fd && echo *", pass, 2), "0 1 2 20 3 40\n");
    ck_assert_int_eq(fcntl(b, F_GETFD), FD_CLOEXEC);
    close(a);
    close(b);
    close(c);
}
END_TEST

START_TEST(stdio_may_come_in_any_order)
{
    const char *const argv[] = {"sh", "-c", "read x; echo out-$x; echo err >&2", NULL};
    int in[2], out[2], err[2], status;
    struct os_child child;
    char buf[32];

    ck_assert_int_eq(pipe2(in, O_CLOEXEC) | pipe2(out, O_CLOEXEC) | pipe2(err, O_CLOEXEC),
                     0);
    /* Sources on the very numbers they must not overwrite: 2 is to be stdin, 0 stdout, 1
     * stderr. */
    ck_assert_int_ge(dup2(in[0], 2), 0);
    ck_assert_int_ge(dup2(out[1], 0), 0);
    ck_assert_int_ge(dup2(err[1], 1), 0);
    ck_assert_int_eq(os_spawn(argv, NULL, (const int[3]){2, 0, 1}, NULL, 0, &child), 0);
    ck_assert_int_eq(write(in[1], "hello\n", 6), 6);
    wait_end(&child);
    ck_assert_int_eq(os_child_reap(&child, &status), 0);
    ck_assert_int_eq(status, 0);
    ck_assert_int_eq(read(out[0], buf, sizeof buf), 10);
    ck_assert_mem_eq(buf, "out-hello\n", 10);
    ck_assert_int_eq(read(err[0], buf, sizeof buf), 4);
    os_child_close(&child);
}
END_TEST

START_TEST(signals_start_from_zero)
{
    sigset_t set;
    const char *status;

    sigfillset(&set);
    sigprocmask(SIG_SETMASK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGTERM, SIG_IGN);
    status = output_of("grep -E '^Sig(Blk|Ign)' /proc/self/status", NULL, 0);
    ck_assert_ptr_nonnull(strstr(status, "SigBlk:\t0000000000000000"));
    ck_assert_ptr_nonnull(strstr(status, "SigIgn:\t0000000000000000"));
    sigemptyset(&set);
    sigprocmask(SIG_SETMASK, &set, NULL);
}
END_TEST

START_TEST(a_new_session_and_the_given_environment)
{
    static const char *const env[] = {"ONLY=this", NULL};
    const char *const argv[] = {"/usr/bin/env", NULL};
    struct os_child child;
    char buf[64];
    int fds[2], pid, pgrp, session;
    ssize_t n;

    /* pid, group and session of the shell itself (fields 1, 5, 6) are one. */
    ck_assert_int_eq(
        sscanf(output_of("read a b c d e f g < /proc/$$/stat; echo $a $e $f", NULL, 0),
               "%d %d %d", &pid, &pgrp, &session),
        3);
    ck_assert_int_eq(pid, pgrp);
    ck_assert_int_eq(pid, session);

    ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
    ck_assert_int_eq(os_spawn(argv, env, (const int[3]){-1, fds[1], -1}, NULL, 0, &child),
                     0);
    close(fds[1]);
    wait_end(&child);
    n = read(fds[0], buf, sizeof buf);
    ck_assert_int_eq(n, 10);
    ck_assert_mem_eq(buf, "ONLY=this\n", 10);
    ck_assert_int_eq(os_child_reap(&child, NULL), 0);
    os_child_close(&child);
    close(fds[0]);
}
END_TEST

START_TEST(a_failed_exec_leaves_nothing)
{
    const char *const none[] = {"/no/such/program", NULL}, *const dir[] = {"/tmp", NULL};
    const char *const nothing[] = {NULL}, *const good[] = {"true", NULL};
    struct os_child child = {.pid = 42};
    int bad[] = {5, 5}, low[] = {2};

    ck_assert_int_eq(os_spawn(none, NULL, no_stdio, NULL, 0, &child), -ENOENT);
    ck_assert_int_eq(os_spawn(dir, NULL, no_stdio, NULL, 0, &child), -EACCES);
    ck_assert_int_eq(os_spawn(nothing, NULL, no_stdio, NULL, 0, &child), -EINVAL);
    ck_assert_int_eq(os_spawn(good, NULL, no_stdio, low, 1, &child), -EINVAL);
    ck_assert_int_eq(os_spawn(good, NULL, no_stdio, bad, 2, &child), -EINVAL);
    bad[0] = 777; /* not open */
    ck_assert_int_eq(os_spawn(good, NULL, no_stdio, bad, 1, &child), -EBADF);
    ck_assert_int_eq(child.pid, 42);
    ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1);
    ck_assert_int_eq(errno, ECHILD);
}
END_TEST

START_TEST(the_status_is_that_of_waitpid)
{
    const char *const seven[] = {"sh", "-c", "exit 7", NULL};
    const char *const killed[] = {"sh", "-c", "kill -9 $$", NULL};
    const char *const sleeper[] = {"sleep", "1000", NULL};
    struct os_child child;
    int status;

    ck_assert_int_eq(os_spawn(seven, NULL, no_stdio, NULL, 0, &child), 0);
    wait_end(&child);
    ck_assert_int_eq(os_child_reap(&child, &status), 0);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 7);
    os_child_close(&child);

    ck_assert_int_eq(os_spawn(killed, NULL, no_stdio, NULL, 0, &child), 0);
    wait_end(&child);
    ck_assert_int_eq(os_child_reap(&child, &status), 0);
    ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    ck_assert_int_eq(os_child_kill_group(&child, SIGKILL),
                     -ESRCH); /* the number is free now */
    os_child_close(&child);

    ck_assert_int_eq(os_spawn(sleeper, NULL, no_stdio, NULL, 0, &child), 0);
    ck_assert_int_eq(os_child_reap(&child, &status), -EAGAIN);
    ck_assert_int_eq(os_child_kill_group(&child, SIGTERM), 0);
    wait_end(&child);
    ck_assert_int_eq(os_child_reap(&child, &status), 0);
    os_child_close(&child);
    os_child_close(&child); /* twice is fine */
}
END_TEST

/* The whole group goes, also what the child started and left behind: its pipe end closes.
 */
START_TEST(a_group_dies_together)
{
    const char *const argv[] = {"sh", "-c", "sleep 1000 & sleep 1000 & echo up", NULL};
    struct os_child child;
    char buf[8];
    int fds[2];

    ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
    ck_assert_int_eq(
        os_spawn(argv, NULL, (const int[3]){-1, fds[1], -1}, NULL, 0, &child), 0);
    close(fds[1]);
    ck_assert_int_eq(read(fds[0], buf, sizeof buf), 3);
    wait_end(
        &child); /* the leader has ended, is not reaped: its group is still its own */
    ck_assert_int_eq(os_child_kill_group(&child, SIGKILL), 0);
    ck_assert_int_eq(read(fds[0], buf, sizeof buf), 0);
    ck_assert_int_eq(os_child_reap(&child, NULL), 0);
    os_child_close(&child);
    close(fds[0]);
}
END_TEST

START_TEST(a_process_is_found_again_by_pid_and_start)
{
    const char *const argv[] = {"sleep", "1000", NULL};
    struct os_child child, again, wrong = {.pid = 42};
    pid_t pid;

    ck_assert_int_eq(os_spawn(argv, NULL, no_stdio, NULL, 0, &child), 0);
    pid = child.pid;
    ck_assert_uint_ne(child.start_time, 0);
    ck_assert_int_eq(os_child_reopen(pid, child.start_time, &again), 0);
    ck_assert_int_eq(os_child_reopen(pid, child.start_time + 1, &wrong), -ESRCH);
    ck_assert_int_eq(os_child_reopen(pid, 0, &wrong), -EINVAL);
    ck_assert_int_eq(os_child_reopen(-1, 1, &wrong), -EINVAL);
    ck_assert_int_eq(os_child_reopen(1, 1, &wrong), -EINVAL);
    ck_assert_int_eq(wrong.pid, 42);
    ck_assert_int_eq(os_child_kill_group(&again, SIGKILL), 0);
    wait_end(&again);
    ck_assert_int_eq(os_child_reap(&child, NULL), 0);
    ck_assert_int_eq(os_child_kill_group(&again, SIGKILL),
                     -ESRCH); /* reaped by the other */
    ck_assert_int_eq(os_child_reopen(pid, child.start_time, &wrong), -ESRCH);
    ck_assert_uint_eq(os_proc_start_time(pid), 0);
    os_child_close(&child);
    os_child_close(&again);
}
END_TEST

static pid_t clone_with_pid(pid_t pid)
{
    struct clone_args args = {
        .exit_signal = SIGCHLD, .set_tid = (uint64_t)(uintptr_t)&pid, .set_tid_size = 1};

    return (pid_t)syscall(SYS_clone3, &args, sizeof args);
}

/* A real reuse needs CAP_CHECKPOINT_RESTORE; without it only a wrong start time can be
 * tried, above. */
START_TEST(a_reused_pid_is_another_process)
{
    const char *const argv[] = {"true", NULL};
    struct os_child child, wrong = {.pid = 42};
    uint64_t old_start;
    pid_t pid, reused;

    ck_assert_int_eq(os_spawn(argv, NULL, no_stdio, NULL, 0, &child), 0);
    pid = child.pid;
    old_start = child.start_time;
    wait_end(&child);
    ck_assert_int_eq(os_child_reap(&child, NULL), 0);
    os_child_close(&child);
    usleep(50000); /* start times count in hundredths of a second */
    reused = clone_with_pid(pid);
    if (reused == 0) {
        pause();
        _exit(0);
    }
    if (reused < 0) {
        return; /* not permitted, or taken meanwhile */
    }
    ck_assert_int_eq(reused, pid);
    ck_assert_int_eq(os_child_reopen(pid, old_start, &wrong), -ESRCH);
    ck_assert_int_eq(wrong.pid, 42);
    kill(reused, SIGKILL);
    waitpid(reused, NULL, 0);
}
END_TEST

START_TEST(a_process_of_others_can_be_watched_not_reaped)
{
    struct os_child parent;
    pid_t pid = getppid();

    if (pid <= 1) {
        return;
    }
    ck_assert_int_eq(os_child_reopen(pid, os_proc_start_time(pid), &parent), 0);
    ck_assert_int_eq(os_child_reap(&parent, NULL), -ECHILD);
    os_child_close(&parent);
}
END_TEST

START_TEST(a_name_with_brackets_does_not_confuse)
{
    const char *const argv[] = {
        "sh", "-c", "printf '%s' ') R 1 2 (' > /proc/$$/comm; echo; read x", NULL};
    char path[64], name[32] = "";
    struct os_child child;
    int in[2], out[2];

    ck_assert_int_eq(pipe2(in, O_CLOEXEC) | pipe2(out, O_CLOEXEC), 0);
    ck_assert_int_eq(
        os_spawn(argv, NULL, (const int[3]){in[0], out[1], -1}, NULL, 0, &child), 0);
    ck_assert_int_eq(read(out[0], name, 1), 1);
    snprintf(path, sizeof path, "/proc/%d/comm", (int)child.pid);
    ck_assert_int_eq(os_file_read(path, name, sizeof name - 1, NULL), 0);
    ck_assert_str_eq(name, ") R 1 2 (\n");
    ck_assert_uint_eq(os_proc_start_time(child.pid), child.start_time);
    ck_assert_int_eq(os_child_kill_group(&child, SIGKILL), 0);
    wait_end(&child);
    ck_assert_int_eq(os_child_reap(&child, NULL), 0);
    os_child_close(&child);
}
END_TEST

START_TEST(a_boot_has_one_id)
{
    struct uuid id = os_boot_id();

    ck_assert(!uuid_is_none(id));
    ck_assert(uuid_equal(id, os_boot_id()));
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("os_proc");
    TCase *tc = tcase_create("os_proc");

    tcase_set_timeout(tc, 30);
    tcase_add_test(tc, only_the_fds_that_were_passed_stay_open);
    tcase_add_test(tc, stdio_may_come_in_any_order);
    tcase_add_test(tc, signals_start_from_zero);
    tcase_add_test(tc, a_new_session_and_the_given_environment);
    tcase_add_test(tc, a_failed_exec_leaves_nothing);
    tcase_add_test(tc, the_status_is_that_of_waitpid);
    tcase_add_test(tc, a_group_dies_together);
    tcase_add_test(tc, a_process_is_found_again_by_pid_and_start);
    tcase_add_test(tc, a_reused_pid_is_another_process);
    tcase_add_test(tc, a_process_of_others_can_be_watched_not_reaped);
    tcase_add_test(tc, a_name_with_brackets_does_not_confuse);
    tcase_add_test(tc, a_boot_has_one_id);
    suite_add_tcase(s, tc);
    return s;
}

UNIT_MAIN(suite)
