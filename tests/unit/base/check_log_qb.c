/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include <sys/stat.h>

#include "base/limits.h"
#include "base/log.h"
#include "base/os.h"
#include "tests/unit/scratch.h"
#include "tests/unit/unit.h"

static char text[8192];

static const char *read_log(const char *name)
{
    ck_assert_int_eq(os_file_read(scratch_path(name), text, sizeof text - 1, NULL), 0);
    return text;
}

static unsigned lines_of(const char *s)
{
    unsigned lines = 0;

    for (; *s != '\0'; s++) {
        lines += *s == '\n';
    }
    return lines;
}

START_TEST(lines_reach_the_file_by_level)
{
    ck_assert_int_eq(log_open("tester", scratch_path("x.log"), LOG_INFO), 0);
    log_info("vm=%s state=%d", "web1", 3);
    log_debug("not this one");
    log_err("but this");
    log_close();
    read_log("x.log");
    ck_assert_uint_eq(lines_of(text), 2);
    ck_assert_ptr_nonnull(strstr(text, "vm=web1 state=3\n"));
    ck_assert_ptr_nonnull(strstr(text, "tester"));
    ck_assert_ptr_null(strstr(text, "not this one"));
    ck_assert_ptr_nonnull(strstr(text, "err"));
    /* Opened again, it is continued. */
    ck_assert_int_eq(log_open("tester", scratch_path("x.log"), LOG_DEBUG), 0);
    log_debug("a third");
    log_close();
    ck_assert_uint_eq(lines_of(read_log("x.log")), 3);
}
END_TEST

START_TEST(nobody_can_forge_a_line)
{
    ck_assert_int_eq(log_open("tester", scratch_path("x.log"), LOG_INFO), 0);
    log_info("guest says %s", "hi\nemerg: all is lost\r\033[2J");
    log_info("%s", "%s%n%d"); /* a format in the text is only text */
    log_close();
    read_log("x.log");
    ck_assert_uint_eq(lines_of(text), 2);
    ck_assert_ptr_nonnull(strstr(text, "hi?emerg: all is lost??[2J\n"));
    ck_assert_ptr_nonnull(strstr(text, "%s%n%d\n"));
}
END_TEST

START_TEST(long_lines_are_cut_not_lost)
{
    static char longer[10000];

    memset(longer, 'x', sizeof longer - 1);
    ck_assert_int_eq(log_open("tester", scratch_path("x.log"), LOG_INFO), 0);
    log_info("%s", longer);
    log_info("next");
    log_close();
    read_log("x.log");
    ck_assert_uint_eq(lines_of(text), 2);
    ck_assert_uint_gt(strcspn(text, "\n"), 1500);
    ck_assert_ptr_nonnull(strstr(text, "next\n"));
}
END_TEST

static off_t size_of(const char *name)
{
    struct stat st;

    return stat(scratch_path(name), &st) == 0 ? st.st_size : -1;
}

/* Writes a mark, then fills the file over its limit. */
static void fill_one_file(int mark)
{
    static char filler[1800];

    memset(filler, 'f', sizeof filler - 1);
    log_info("mark %d", mark);
    for (int i = 0; i < LOG_FILE_BYTES_MAX / 1800; i++) {
        log_info("%s", filler);
    }
}

static bool holds_mark(const char *name, int mark)
{
    char want[32], line[4096];
    bool found = false;
    FILE *f = fopen(scratch_path(name), "r");

    ck_assert_ptr_nonnull(f);
    snprintf(want, sizeof want, "mark %d\n", mark);
    while (fgets(line, sizeof line, f) != NULL) {
        found = found || strstr(line, want) != NULL;
    }
    fclose(f);
    return found;
}

START_TEST(files_rotate_by_size)
{
    ck_assert_int_eq(log_open("tester", scratch_path("x.log"), LOG_INFO), 0);
    for (int mark = 0; mark < LOG_FILES_KEPT + 3; mark++) {
        fill_one_file(mark);
    }
    log_close();
    ck_assert_int_gt(size_of("x.log"), 0);
    ck_assert_int_eq(size_of("x-7.log"), -1);
    for (int n = 1; n <= LOG_FILES_KEPT; n++) {
        char name[16];

        snprintf(name, sizeof name, "x-%d.log", n);
        ck_assert_int_gt(size_of(name), LOG_FILE_BYTES_MAX / 2);
        ck_assert_int_le(size_of(name), LOG_FILE_BYTES_MAX);
        ck_assert_int_le(size_of("x.log"), LOG_FILE_BYTES_MAX);
    }
    /* The newest of the kept ones is x-1. */
    ck_assert(holds_mark("x-1.log", LOG_FILES_KEPT + 2) ||
              holds_mark("x.log", LOG_FILES_KEPT + 2));
    ck_assert(!holds_mark("x-6.log", LOG_FILES_KEPT + 2));
}
END_TEST

START_TEST(a_bad_place_is_reported)
{
    ck_assert_int_lt(log_open("tester", scratch_path("no/such/dir/x.log"), LOG_INFO), 0);
    log_debug("goes nowhere, and does not crash");
    log_close();
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("log_qb");
    TCase *tc = tcase_create("log_qb");

    tcase_add_checked_fixture(tc, scratch_setup, scratch_teardown);
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, lines_reach_the_file_by_level);
    tcase_add_test(tc, nobody_can_forge_a_line);
    tcase_add_test(tc, long_lines_are_cut_not_lost);
    tcase_add_test(tc, files_rotate_by_size);
    tcase_add_test(tc, a_bad_place_is_reported);
    suite_add_tcase(s, tc);
    return s;
}

UNIT_MAIN(suite)
