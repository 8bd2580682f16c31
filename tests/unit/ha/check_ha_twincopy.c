/* SPDX-License-Identifier: Apache-2.0 */
/* What is at the path of a twin's copy. Block devices are loop devices: root only, and
 * left out where there are none. */
#include "tests/unit/scratch.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "ha/ha_twincopy.h"

#define MIB (UINT64_C(1) << 20)

static char why[REASON_LEN_MAX + 1];

static bool look(const char *path, uint64_t bytes, uint64_t used, bool known)
{
    const struct ha_twincopy copy = {
        .path = path, .bytes = bytes, .used = used, .known = known};

    why[0] = '\0';
    return ha_twincopy_look(&copy, why);
}

static void refused(const char *path, uint64_t bytes, bool known, const char *text)
{
    ck_assert(!look(path, bytes, 0, known));
    ck_assert_msg(strstr(why, text) != NULL, "%s", why);
    ck_assert_ptr_nonnull(strstr(why, path));
}

static void make_file(const char *path, uint64_t bytes)
{
    int fd = open(path, O_CREAT | O_RDWR, 0600);

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(ftruncate(fd, (off_t)bytes), 0);
    close(fd);
}

static void put(const char *path, uint64_t at, char byte)
{
    int fd = open(path, O_WRONLY);

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(pwrite(fd, &byte, 1, (off_t)at), 1);
    ck_assert_int_eq(fsync(fd), 0);
    close(fd);
}

START_TEST(files)
{
    const char *path = scratch_path("disk");
    struct stat st;

    ck_assert_msg(look(path, 64 * MIB, 64 * MIB, false), "%s", why);
    ck_assert_int_lt(stat(path, &st), 0); /* looking makes nothing */
    make_file(path, 32 * MIB);
    ck_assert_msg(look(path, 64 * MIB, 0, false), "%s", why); /* nothing in it */
    put(path, 5 * MIB, 'x');
    refused(path, 64 * MIB, false, "was never a copy of this VM's disk");
    ck_assert_msg(look(path, 64 * MIB, 0, true), "%s", why);
    refused(scratch_path("no/such/disk"), MIB, false, "No such file");
    refused(scratch_dir, MIB, true, "is a directory here");
    refused("/dev/null", MIB, true, "is no file here");
}
END_TEST

START_TEST(room)
{
    const char *path = scratch_path("disk");

    ck_assert(!look(path, UINT64_C(1) << 60, UINT64_C(1) << 60, false));
    ck_assert_ptr_nonnull(strstr(why, "no room for the copy of "));
    ck_assert_ptr_nonnull(strstr(why, "it needs 1099511627776 MiB more"));
    ck_assert_msg(look(path, UINT64_C(1) << 60, 0, false), "%s", why); /* a sparse one */
    make_file(path, MIB);
    ck_assert(!look(path, UINT64_C(1) << 60, UINT64_C(1) << 60, true));
}
END_TEST

static int known(const char *own, const char *path)
{
    return ha_twincopy_known(own, path, why);
}

START_TEST(known_paths)
{
    const char *own = scratch_path("copies/1.own");

    ck_assert_int_eq(known(own, "/a"), 0);
    ck_assert_int_eq(ha_twincopy_note(own, "/a/b", why), 0);
    ck_assert_int_eq(ha_twincopy_note(own, "/a/b", why), 0);
    ck_assert_int_eq(ha_twincopy_note(own, "/c", why), 0);
    ck_assert_int_eq(known(own, "/a/b"), 1);
    ck_assert_int_eq(known(own, "/c"), 1);
    ck_assert_int_eq(known(own, "/a"), 0);
    ck_assert_int_eq(known(own, "/a/b/c"), 0);
    ck_assert_int_eq(known(own, ""), 0);
}
END_TEST

static void write_list(const char *own, const char *text, size_t len)
{
    int fd = open(own, O_CREAT | O_TRUNC | O_WRONLY, 0600);

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, text, len), (ssize_t)len);
    close(fd);
}

static void list_is_refused(const char *own, int r, const char *text)
{
    struct stat st, now;

    ck_assert_int_eq(stat(own, &st), 0);
    for (unsigned i = 0; i < 2; i++) {
        why[0] = '\0';
        ck_assert_int_eq(i == 0 ? known(own, "/a") : ha_twincopy_note(own, "/a", why), r);
        ck_assert_msg(strstr(why, text) != NULL, "%s", why);
        ck_assert_ptr_nonnull(strstr(why, own));
    }
    ck_assert_int_eq(stat(own, &now), 0);
    ck_assert_int_eq(st.st_size, now.st_size);
}

/* Somebody edited it: it is the list that is named, not a disk. */
START_TEST(spoilt_list)
{
    const char *own = scratch_path("1.own");
    static char large[20000];

    memset(large, '/', sizeof large);
    write_list(own, large, sizeof large);
    list_is_refused(own, -EFBIG, "it is too large; write it anew");
    write_list(own, "/b\0/c\n", 7);
    list_is_refused(own, -EBADMSG, "it has lines that are no paths; write it anew");
    write_list(own, "/b\nc\n", 5);
    list_is_refused(own, -EBADMSG, "it has lines that are no paths");
    list_is_refused(scratch_dir, -EISDIR, "Is a directory");
    write_list(own, large, 16383);
    ck_assert_int_eq(known(own, "/a"), 0);
    ck_assert_int_eq(ha_twincopy_note(own, "/a", why), -ENOSPC);
    ck_assert_ptr_nonnull(strstr(why, "it is full; write it anew"));
    write_list(own, "/b", 2); /* an editor that ends no line */
    ck_assert_int_eq(ha_twincopy_note(own, "/a", why), 0);
    ck_assert_int_eq(known(own, "/a"), 1);
    ck_assert_int_eq(known(own, "/b"), 1);
    ck_assert_int_lt(ha_twincopy_note("/proc/no/1.own", "/a", why), 0);
    ck_assert_ptr_nonnull(strstr(why, "cannot be written: "));
}
END_TEST

/* -1: none can be had here. It detaches itself with the last close. */
static int loop_on(const char *file, char path[static 64])
{
    int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC), fd = -1, back;
    struct loop_config config = {.info = {.lo_flags = LO_FLAGS_AUTOCLEAR}};

    for (int i = 0; control >= 0 && fd < 0 && i < 8; i++) {
        int number = ioctl(control, LOOP_CTL_GET_FREE);

        snprintf(path, 64, "/dev/loop%d", number);
        fd = number < 0 ? -1 : open(path, O_RDWR | O_CLOEXEC);
        back = open(file, O_RDWR | O_CLOEXEC);
        config.fd = (__u32)back;
        if (fd >= 0 && ioctl(fd, LOOP_CONFIGURE, &config) < 0) {
            close(fd);
            fd = -1; /* somebody was faster */
        }
        close(back);
    }
    if (control >= 0) {
        close(control);
    }
    return fd;
}

START_TEST(devices)
{
    const uint64_t bytes = 32 * MIB;
    char path[64];
    int fd, excl;

    make_file(scratch_path("back"), bytes);
    fd = loop_on(scratch_path("back"), path);
    if (fd < 0) {
        fprintf(stderr, "# no loop device here: not tried\n");
        return;
    }
    ck_assert_msg(look(path, bytes, bytes, false), "%s", why); /* blank */
    refused(path, bytes + MIB, true,
            "has 33554432 bytes here, and on its own node 34603");
    refused(path, bytes - MIB, true, "a device of the same size");

    put(path, bytes - 1, 'x'); /* the last byte is looked at, too */
    refused(path, bytes, false, "empty it (blkdiscard -z)");
    ck_assert_msg(look(path, bytes, bytes, true), "%s", why);
    put(path, bytes - 1, '\0');
    ck_assert_msg(look(path, bytes, bytes, false), "%s", why);
    put(path, 0, 'x');
    refused(path, bytes, false, "was never a copy of this VM's disk");
    put(path, 0, '\0');

    excl = open(path, O_RDONLY | O_EXCL | O_CLOEXEC); /* as one that is mounted */
    ck_assert_int_ge(excl, 0);
    refused(path, bytes, true, "is in use here");
    close(excl);
    ck_assert_msg(look(path, bytes, bytes, false), "%s", why);
    close(fd);
}
END_TEST

static Suite *twincopy_suite(void)
{
    Suite *s = suite_create("ha/twincopy");
    TCase *tc = tcase_create("paths");

    tcase_add_checked_fixture(tc, scratch_setup, scratch_teardown);
    tcase_add_test(tc, files);
    tcase_add_test(tc, room);
    tcase_add_test(tc, known_paths);
    tcase_add_test(tc, spoilt_list);
    tcase_add_test(tc, devices);
    suite_add_tcase(s, tc);
    return s;
}

UNIT_MAIN(twincopy_suite)
