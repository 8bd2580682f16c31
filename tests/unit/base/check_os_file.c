/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>

#include <dirent.h>

#include "base/os.h"
#include "tests/unit/scratch.h"
#include "tests/unit/unit.h"

static unsigned entries_in_scratch(void)
{
    DIR *dir = opendir(scratch_dir);
    unsigned entries = 0;

    ck_assert_ptr_nonnull(dir);
    while (readdir(dir) != NULL) {
        entries++;
    }
    closedir(dir);
    return entries - 2; /* . and .. */
}

START_TEST(a_file_is_read_whole_or_not_at_all)
{
    char buf[8 + 1];
    size_t len = 99;

    ck_assert_int_eq(os_file_replace(scratch_path("f"), "12345678", 8, 0600), 0);
    ck_assert_int_eq(os_file_read(scratch_path("f"), buf, 8, &len), 0);
    ck_assert_uint_eq(len, 8);
    ck_assert_str_eq(buf, "12345678");
    len = 99;
    ck_assert_int_eq(os_file_read(scratch_path("f"), buf, 7, &len), -EFBIG);
    ck_assert_uint_eq(len, 99);
    ck_assert_int_eq(os_file_read(scratch_path("none"), buf, 8, &len), -ENOENT);
    ck_assert_int_eq(os_file_replace(scratch_path("f"), "", 0, 0600), 0);
    ck_assert_int_eq(os_file_read(scratch_path("f"), buf, 8, &len), 0);
    ck_assert_uint_eq(len, 0);
    ck_assert_int_lt(os_file_read(scratch_dir, buf, 8, &len), 0); /* a directory */
}
END_TEST

START_TEST(replace_sets_the_mode_and_leaves_nothing_else)
{
    struct stat st;

    umask(077);
    ck_assert_int_eq(os_file_replace(scratch_path("f"), "one", 3, 0644), 0);
    ck_assert_int_eq(stat(scratch_path("f"), &st), 0);
    ck_assert_uint_eq(st.st_mode & 0777, 0644);
    ck_assert_uint_eq(entries_in_scratch(), 1);
    ck_assert_int_eq(chdir(scratch_dir), 0);
    ck_assert_int_eq(os_file_replace("relative", "x", 1, 0600), 0);
    ck_assert_int_eq(stat(scratch_path("relative"), &st), 0);
    ck_assert_int_eq(os_file_replace(scratch_path("no/dir/f"), "x", 1, 0600), -ENOENT);
    ck_assert_int_eq(chdir("/"), 0);
}
END_TEST

/* A disk that is full in the middle of the write: the old content stays, and no temporary
 * file. */
START_TEST(a_failed_replace_changes_nothing)
{
    static char big[65536];
    struct rlimit limit = {4096, 4096};
    char buf[16];

    ck_assert_int_eq(os_file_replace(scratch_path("f"), "old", 3, 0600), 0);
    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    ck_assert_int_eq(os_file_replace(scratch_path("f"), big, sizeof big, 0600), -EFBIG);
    ck_assert_int_eq(os_file_read(scratch_path("f"), buf, sizeof buf - 1, NULL), 0);
    ck_assert_str_eq(buf, "old");
    ck_assert_uint_eq(entries_in_scratch(), 1);
}
END_TEST

static bool all_equal(const char *buf, size_t len)
{
    for (size_t i = 1; i < len; i++) {
        if (buf[i] != buf[0]) {
            return false;
        }
    }
    return true;
}

START_TEST(readers_never_see_a_mixture)
{
    enum { LEN = 20000 };
    static char buf[LEN + 1];
    char name[256];
    pid_t pid;

    snprintf(name, sizeof name, "%s", scratch_path("f"));
    memset(buf, 'a', LEN);
    ck_assert_int_eq(os_file_replace(name, buf, LEN, 0600), 0);
    pid = fork();
    if (pid == 0) {
        for (int i = 0;; i++) {
            memset(buf, 'a' + i % 26, LEN);
            if (os_file_replace(name, buf, LEN, 0600) < 0) {
                _exit(1);
            }
        }
    }
    for (int i = 0; i < 300; i++) {
        size_t len;

        ck_assert_int_eq(os_file_read(name, buf, LEN, &len), 0);
        ck_assert_uint_eq(len, LEN);
        ck_assert(all_equal(buf, LEN));
    }
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}
END_TEST

/* The letters of the calls that matter, in the order in which the child makes them. */
static char letter_of(long call)
{
    switch (call) {
    case SYS_write:
        return 'w';
    case SYS_fsync:
    case SYS_fdatasync:
        return 's';
    case SYS_rename:
    case SYS_renameat:
    case SYS_renameat2:
        return 'r';
    case SYS_unlink:
    case SYS_unlinkat:
        return 'u';
    default:
        return '\0';
    }
}

static void trace_calls(pid_t pid, char *calls, size_t cap)
{
    struct user_regs_struct regs;
    bool entering = true;
    size_t n = 0;
    int status;

    waitpid(pid, &status, 0); /* its SIGSTOP */
    ptrace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL);
    for (;;) {
        char letter;

        ptrace(PTRACE_SYSCALL, pid, 0, 0);
        if (waitpid(pid, &status, 0) < 0 || WIFEXITED(status) || WIFSIGNALED(status)) {
            break;
        }
        if (WSTOPSIG(status) != (SIGTRAP | 0x80)) {
            continue;
        }
        if (entering && ptrace(PTRACE_GETREGS, pid, 0, &regs) == 0) {
            letter = letter_of((long)regs.orig_rax);
            if (letter != '\0' && n + 1 < cap) {
                calls[n++] = letter;
            }
        }
        entering = !entering;
    }
    calls[n] = '\0';
}

/* What a power cut may do is decided by the order of these calls, so the order is the
 * test. */
START_TEST(content_then_name_then_directory)
{
    char name[256], calls[64];
    pid_t pid;

    snprintf(name, sizeof name, "%s", scratch_path("f"));
    pid = fork();
    if (pid == 0) {
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        raise(SIGSTOP);
        _exit(os_file_replace(name, "new", 3, 0600) < 0);
    }
    trace_calls(pid, calls, sizeof calls);
    ck_assert_str_eq(calls, "wsrs");
}
END_TEST

START_TEST(directories_are_made_with_their_parents)
{
    char deep[256];
    struct stat st;

    snprintf(deep, sizeof deep, "%s", scratch_path("a/b/c"));
    ck_assert_int_eq(os_mkdir_p(deep, 0700), 0);
    ck_assert_int_eq(stat(deep, &st), 0);
    ck_assert(S_ISDIR(st.st_mode));
    ck_assert_int_eq(os_mkdir_p(deep, 0700), 0);
    ck_assert_int_eq(os_dir_fsync(deep), 0);
    ck_assert_int_eq(os_file_replace(scratch_path("a/file"), "", 0, 0600), 0);
    ck_assert_int_eq(os_mkdir_p(scratch_path("a/file"), 0700), -ENOTDIR);
    ck_assert_int_eq(os_mkdir_p(scratch_path("a/file/d"), 0700), -ENOTDIR);
    ck_assert_int_eq(os_mkdir_p("", 0700), -ENOENT);
    ck_assert_int_eq(os_dir_fsync(scratch_path("none")), -ENOENT);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("os_file");
    TCase *tc = tcase_create("os_file");

    tcase_add_checked_fixture(tc, scratch_setup, scratch_teardown);
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, a_file_is_read_whole_or_not_at_all);
    tcase_add_test(tc, replace_sets_the_mode_and_leaves_nothing_else);
    tcase_add_test(tc, a_failed_replace_changes_nothing);
    tcase_add_test(tc, readers_never_see_a_mixture);
    tcase_add_test(tc, content_then_name_then_directory);
    tcase_add_test(tc, directories_are_made_with_their_parents);
    suite_add_tcase(s, tc);
    return s;
}

UNIT_MAIN(suite)
