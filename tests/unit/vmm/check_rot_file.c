/* SPDX-License-Identifier: Apache-2.0 */
/* vmm/rot_file: nothing is lost by rotation, six are kept, and a log that cannot be
 * written stops nobody. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/temp_path.h"
#include "tests/unit/unit.h"
#include "vmm/rot_file.h"

static char dir[TEMP_PATH_MAX];
static struct rot_file f;
static struct vmm_error err;

static void setup(void)
{
    ck_assert_ptr_nonnull(mkdtemp(temp_path(dir, "rot")));
    ck_assert_int_eq(chdir(dir), 0);
}

static void teardown(void)
{
    static const char *const names[] = {"x.log",   "x-1.log", "x-2.log", "x-3.log",
                                        "x-4.log", "x-5.log", "x-6.log", "x-7.log",
                                        "plain",   "plain-1"};

    rot_file_close(&f);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        (void)remove(names[i]);
    }
    ck_assert_int_eq(chdir("/"), 0);
    ck_assert_int_eq(rmdir(dir), 0); /* and nothing else was made */
}

static long size(const char *name)
{
    struct stat st;

    return stat(name, &st) == 0 ? (long)st.st_size : -1;
}

START_TEST(six_are_kept)
{
    ck_assert_int_eq(rot_file_open(&f, "x.log", 100, &err), 0);
    for (int i = 0; i < 100; i++) {
        char line[41];

        memset(line, 'a' + i % 26, 40);
        ck_assert_int_eq(rot_file_write(&f, line, 40), 0);
    }
    ck_assert_int_gt(size("x.log"), 0);
    for (int n = 1; n <= 6; n++) {
        char name[16];

        snprintf(name, sizeof name, "x-%d.log", n);
        ck_assert_int_eq(size(name), 80);
    }
    ck_assert_int_eq(size("x-7.log"), -1);
}
END_TEST

START_TEST(goes_on_where_it_was)
{
    ck_assert_int_eq(rot_file_open(&f, "x.log", 100, &err), 0);
    ck_assert_int_eq(rot_file_write(&f, "0123456789", 10), 0);
    rot_file_close(&f);
    ck_assert_int_eq(rot_file_open(&f, "x.log", 100, &err), 0);
    ck_assert_uint_eq(f.len, 10);
    ck_assert_int_eq(rot_file_write(&f, "0123456789", 10), 0);
    ck_assert_int_eq(size("x.log"), 20);
}
END_TEST

START_TEST(one_write_larger_than_the_limit)
{
    static char big[1000];

    ck_assert_int_eq(rot_file_open(&f, "plain", 100, &err), 0);
    ck_assert_int_eq(rot_file_write(&f, big, sizeof big), 0);
    ck_assert_int_eq(size("plain"), 1000);
    ck_assert_int_eq(rot_file_write(&f, big, 1), 0);
    ck_assert_int_eq(size("plain-1"), 1000);
    ck_assert_int_eq(size("plain"), 1);
}
END_TEST

START_TEST(failure_is_said_once)
{
    ck_assert_int_eq(rot_file_open(&f, "/dev/full", 0, &err), 0);
    ck_assert_int_lt(rot_file_write(&f, "x", 1), 0);
    ck_assert_int_eq(rot_file_write(&f, "x", 1), 0);
    rot_file_close(&f);
    ck_assert_int_lt(rot_file_open(&f, "/nowhere/x.log", 0, &err), 0);
    ck_assert_ptr_nonnull(strstr(err.text, "/nowhere/x.log"));
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("rot_file");
    TCase *t = tcase_create("rot_file");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, six_are_kept);
    tcase_add_test(t, goes_on_where_it_was);
    tcase_add_test(t, one_write_larger_than_the_limit);
    tcase_add_test(t, failure_is_said_once);
    suite_add_tcase(s, t);
    return s;
}

UNIT_MAIN(suite)
