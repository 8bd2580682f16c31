/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/os.h"
#include "tests/unit/scratch.h"
#include "tests/unit/unit.h"

START_TEST(connect_accept_and_know_each_other)
{
    struct os_peer peer;
    char buf[16];
    int l, c, s;

    ck_assert_int_eq(os_unix_listen(scratch_path("sock"), 0600, &l), 0);
    ck_assert_int_eq(os_unix_accept(l, &s), -EAGAIN);
    ck_assert_int_eq(os_unix_connect(scratch_path("sock"), &c), 0);
    ck_assert_int_eq(os_unix_accept(l, &s), 0);
    ck_assert_int_eq(fcntl(s, F_GETFD), FD_CLOEXEC);
    ck_assert_int_eq(fcntl(c, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
    ck_assert_int_eq(os_unix_peer(s, &peer), 0);
    ck_assert_int_eq(peer.pid, getpid());
    ck_assert_uint_eq(peer.uid, getuid());
    /* Messages keep their boundaries. */
    ck_assert_int_eq(send(c, "one", 3, 0), 3);
    ck_assert_int_eq(send(c, "three", 5, 0), 5);
    ck_assert_int_eq(recv(s, buf, sizeof buf, 0), 3);
    ck_assert_int_eq(recv(s, buf, sizeof buf, 0), 5);
    close(c);
    close(s);
    close(l);
}
END_TEST

START_TEST(only_a_stale_socket_is_removed)
{
    struct stat st;
    int l, again;

    ck_assert_int_eq(os_unix_listen(scratch_path("sock"), 0600, &l), 0);
    ck_assert_int_eq(os_unix_listen(scratch_path("sock"), 0600, &again), -EADDRINUSE);
    close(l); /* as a crash would leave it */
    ck_assert_int_eq(stat(scratch_path("sock"), &st), 0);
    ck_assert_int_eq(os_unix_listen(scratch_path("sock"), 0600, &again), 0);
    close(again);
    ck_assert_int_eq(os_file_replace(scratch_path("file"), "precious", 8, 0600), 0);
    ck_assert_int_eq(os_unix_listen(scratch_path("file"), 0600, &l), -EEXIST);
    ck_assert_int_eq(stat(scratch_path("file"), &st), 0);
    ck_assert_int_eq(st.st_size, 8);
}
END_TEST

START_TEST(the_mode_is_exact_whatever_the_umask)
{
    struct stat st;
    int l;

    umask(0);
    ck_assert_int_eq(os_unix_listen(scratch_path("a"), 0600, &l), 0);
    ck_assert_int_eq(stat(scratch_path("a"), &st), 0);
    ck_assert_uint_eq(st.st_mode & 0777, 0600);
    close(l);
    umask(0777);
    ck_assert_int_eq(os_unix_listen(scratch_path("b"), 0660, &l), 0);
    ck_assert_int_eq(stat(scratch_path("b"), &st), 0);
    ck_assert_uint_eq(st.st_mode & 0777, 0660);
    close(l);
}
END_TEST

START_TEST(bad_names_are_refused)
{
    char name[256];
    int fd = 42;

    memset(name, 'x', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    ck_assert_int_eq(os_unix_listen(name, 0600, &fd), -ENAMETOOLONG);
    ck_assert_int_eq(os_unix_connect(name, &fd), -ENAMETOOLONG);
    ck_assert_int_eq(os_unix_connect("", &fd), -EINVAL);
    ck_assert_int_eq(os_unix_connect(scratch_path("none"), &fd), -ENOENT);
    ck_assert_int_eq(os_unix_listen(scratch_path("no/dir/sock"), 0600, &fd), -ENOENT);
    ck_assert_int_eq(fd, 42);
}
END_TEST

START_TEST(streams_that_nobody_else_can_join)
{
    const char *path = scratch_path("move");
    int l, c[3], s[3], other;
    struct stat st;
    char buf[8];

    ck_assert_int_eq(os_unix_streams(path, &l, c, 3), 0);
    ck_assert_int_lt(stat(path, &st), 0);
    ck_assert_int_eq(os_unix_connect(path, &other), -ENOENT);
    for (unsigned i = 0; i < 3; i++) {
        ck_assert_int_eq(fcntl(c[i], F_GETFD), FD_CLOEXEC);
        ck_assert_int_eq(os_unix_accept(l, &s[i]), 0);
    }
    ck_assert_int_eq(os_unix_accept(l, &other), -EAGAIN);
    /* In the order in which they were made; bytes, not messages. */
    ck_assert_int_eq(send(c[1], "on", 2, 0), 2);
    ck_assert_int_eq(send(c[1], "e", 1, 0), 1);
    ck_assert_int_eq(recv(s[1], buf, sizeof buf, 0), 3);
    for (unsigned i = 0; i < 3; i++) {
        close(c[i]);
        close(s[i]);
    }
    close(l);
    ck_assert_int_eq(os_unix_streams(scratch_path("no/dir/move"), &l, c, 3), -ENOENT);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("os_sock");
    TCase *tc = tcase_create("os_sock");

    tcase_add_checked_fixture(tc, scratch_setup, scratch_teardown);
    tcase_add_test(tc, connect_accept_and_know_each_other);
    tcase_add_test(tc, only_a_stale_socket_is_removed);
    tcase_add_test(tc, the_mode_is_exact_whatever_the_umask);
    tcase_add_test(tc, bad_names_are_refused);
    tcase_add_test(tc, streams_that_nobody_else_can_join);
    suite_add_tcase(s, tc);
    return s;
}

UNIT_MAIN(suite)
