/* SPDX-License-Identifier: Apache-2.0 */
/* vmm/sandbox, sandbox_root, landlock: what a process inside can still reach. As root
 * with another user, else in a user namespace; where neither may be made, nothing is
 * tested. */
#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/temp_path.h"
#include "tests/unit/unit.h"
#include "vmm/sandbox.h"

#define USER         1900000001u
#define NOT_POSSIBLE 77

static char dir[TEMP_PATH_MAX];
static uid_t user;

static void setup(void)
{
    user = geteuid() == 0 ? USER : geteuid();
    ck_assert_ptr_nonnull(mkdtemp(temp_path(dir, "box")));
    if (geteuid() == 0) {
        ck_assert_int_eq(chown(dir, user, user), 0);
    }
}

static void teardown(void)
{
    static const char *const names[] = {"x.log", "x-1.log", "link"};
    char path[TEMP_PATH_MAX + 64];

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        (void)unlink(path);
    }
    ck_assert_int_eq(rmdir(dir), 0);
}

static const char *in_dir(const char *name)
{
    static char path[2][TEMP_PATH_MAX + 64];
    static unsigned turn;

    turn ^= 1;
    snprintf(path[turn], sizeof path[0], "%s/%s", dir, name);
    return path[turn];
}

/* In the child: check ends it, with the line that failed. */
#define CHECK(condition)                                                                 \
    do {                                                                                 \
        if (!(condition)) {                                                              \
            fprintf(stderr, "line %d: %s (%s)\n", __LINE__, #condition,                  \
                    strerror(errno));                                                    \
            _exit(1);                                                                    \
        }                                                                                \
    } while (0)

static void enter(bool with_dir)
{
    struct sandbox_conf conf = {.change_user = geteuid() == 0,
                                .uid = user,
                                .gid = user,
                                .memlock_bytes = 4096,
                                .dir = {with_dir ? dir : NULL}};
    struct vmm_error err;

    if (!conf.change_user) {
        conf.gid = getegid();
    }
    if (sandbox_enter(&conf, &err) < 0) {
        fprintf(stderr, "%s\n", err.text);
        _exit(NOT_POSSIBLE);
    }
    CHECK(sandbox_entered());
}

static int outcome(void (*child)(void))
{
    pid_t pid = fork();
    int status;

    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        child();
        _exit(0);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    return status;
}

static void passes(void (*child)(void))
{
    int status = outcome(child);

    if (WIFEXITED(status) && WEXITSTATUS(status) == NOT_POSSIBLE && geteuid() != 0) {
        return; /* this user may not make namespaces */
    }
    ck_assert_msg(status == 0, "status %#x", status);
}

static void nothing_is_there(void)
{
    struct rlimit limit;
    struct stat st;

    enter(false);
    CHECK(getuid() == user && geteuid() == user);
    CHECK(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
    CHECK(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0);
    for (unsigned long cap = 0; cap < 40; cap++) {
        CHECK(prctl(PR_CAPBSET_READ, cap, 0, 0, 0) == 0);
    }
    CHECK(open("/etc/passwd", O_RDONLY) < 0 && errno == ENOENT);
    CHECK(open("/proc/self/status", O_RDONLY) < 0);
    CHECK(open("/dev/null", O_RDONLY) < 0);
    CHECK(open("/x", O_WRONLY | O_CREAT, 0600) < 0);
    CHECK(mkdir("/x", 0700) < 0);
    CHECK(access(dir, F_OK) < 0 && errno == ENOENT);
    CHECK(chdir("..") == 0 && stat("etc", &st) < 0);
    CHECK(getrlimit(RLIMIT_CORE, &limit) == 0 && limit.rlim_max == 0);
    CHECK(getrlimit(RLIMIT_MEMLOCK, &limit) == 0 && limit.rlim_max <= 4096);
    CHECK(setuid(0) < 0);
    CHECK(user != USER || kill(getppid(), 0) < 0); /* root's */
}

static void no_way_out(void)
{
    int fd = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    enter(false);
    /* An open directory of the host would be a way; gemel-vmm has none. From within there
     * is none to be had. */
    (void)close(fd);
    CHECK(chroot("..") < 0 && errno == EPERM);
    CHECK(syscall(SYS_mount, "x", "/", "tmpfs", 0, NULL) < 0);
    CHECK(syscall(SYS_unshare, 0x00020000) < 0); /* CLONE_NEWNS */
    CHECK(syscall(SYS_setns, 0, 0) < 0);
}

static void own_logs(void)
{
    int fd;

    enter(true);
    fd = open(in_dir("x.log"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
    CHECK(fd >= 0 && write(fd, "x", 1) == 1);
    CHECK(rename(in_dir("x.log"), in_dir("x-1.log")) == 0);
    close(fd);
    fd = open(in_dir("x.log"), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
    CHECK(fd >= 0);
    CHECK(open(in_dir("../../etc/passwd"), O_RDONLY) < 0);
    CHECK(open("/tmp/x", O_WRONLY | O_CREAT, 0600) < 0);
    if (syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION) >
        0) {
        CHECK(mkdir(in_dir("d"), 0700) < 0);
        CHECK(symlink("/etc/passwd", in_dir("link")) < 0);
        CHECK(open(dir, O_RDONLY | O_DIRECTORY) < 0);
    }
}

static void a_thread_without_walls_dies(void)
{
    enter(false);
    sandbox_thread(SANDBOX_LEASE);
    (void)syscall(SYS_socket, AF_INET, SOCK_STREAM, 0);
}

START_TEST(inside)
{
    passes(nothing_is_there);
    passes(no_way_out);
    passes(own_logs);
}
END_TEST

START_TEST(threads)
{
    int status = outcome(a_thread_without_walls_dies);

    if (geteuid() != 0 && WIFEXITED(status)) {
        return;
    }
    ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS, "status %#x",
                  status);
    sandbox_thread(SANDBOX_LEASE); /* nothing, without sandbox_enter */
    ck_assert_int_ge(open("/", O_RDONLY | O_CLOEXEC), 0);
}
END_TEST

/* A link that a captured process left in its log directory. */
static void follow(void)
{
    int fd;

    CHECK(symlink("/etc/passwd", in_dir("link")) == 0);
    sandbox_files_as(user, user);
    sandbox_files_begin();
    CHECK(open(in_dir("link"), O_WRONLY | O_APPEND | O_CLOEXEC) < 0 && errno == EACCES);
    fd = open(in_dir("x.log"), O_WRONLY | O_CREAT | O_CLOEXEC, 0640);
    CHECK(fd >= 0);
    sandbox_files_end();
    CHECK(open("/etc/passwd", O_WRONLY | O_APPEND | O_CLOEXEC) >= 0);
}

START_TEST(logs_are_opened_as_their_user)
{
    struct stat st;

    if (geteuid() != 0) {
        return;
    }
    passes(follow);
    ck_assert_int_eq(stat(in_dir("x.log"), &st), 0);
    ck_assert_uint_eq(st.st_uid, user);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("sandbox");
    TCase *t = tcase_create("process");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, inside);
    tcase_add_test(t, threads);
    tcase_add_test(t, logs_are_opened_as_their_user);
    suite_add_tcase(s, t);
    return s;
}

UNIT_MAIN(suite)
