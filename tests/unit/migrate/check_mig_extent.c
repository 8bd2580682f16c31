/* SPDX-License-Identifier: Apache-2.0 */
/* What a disk's copy holds: holes stay holes, zeros become them, and sums do not tell
 * the difference. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "migrate/mig_extent.h"
#include "migrate/mig_verify.h"
#include "migrate/mig_wire.h"
#include "tests/unit/unit.h"

#define LEN (MIG_BLOCK_BYTES + 1536)

static int file(void)
{
    int fd = memfd_create("disk", MFD_CLOEXEC);

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(ftruncate(fd, LEN), 0);
    return fd;
}

static uint64_t used(int fd)
{
    struct stat st;

    ck_assert_int_eq(fstat(fd, &st), 0);
    return (uint64_t)st.st_blocks * 512;
}

START_TEST(where_data_is)
{
    int fd = file();
    uint64_t begin, end;

    mig_extent_data(fd, 0, LEN, &begin, &end);
    ck_assert(begin == LEN && end == LEN);
    ck_assert_int_eq(mig_extent_write(fd, "x", 1, 20000), 0);
    mig_extent_data(fd, 0, LEN, &begin, &end);
    ck_assert(begin == 16384 && end == 20480);
    mig_extent_data(fd, 0, 16384, &begin, &end);
    ck_assert(begin == 16384 && end == 16384);
    mig_extent_data(fd, 20000, 20001, &begin, &end);
    ck_assert(begin == 20000 && end == 20001);
    mig_extent_data(fd, 20480, LEN, &begin, &end);
    ck_assert(begin == LEN && end == LEN);
    close(fd);
    mig_extent_data(fd, 5, 9, &begin, &end); /* one that cannot tell */
    ck_assert(begin == 5 && end == 9);
}
END_TEST

START_TEST(zeros_are_holes)
{
    uint8_t *buffer = mig_extent_buffer(MIG_BLOCK_BYTES);
    int fd = file();

    memset(buffer, 7, MIG_BLOCK_BYTES);
    ck_assert_int_eq(mig_extent_zero(fd, LEN, 0), 0);
    ck_assert_uint_eq(used(fd), 0);
    ck_assert_int_eq(mig_extent_write(fd, buffer, 65536 * 3, 65536), 0);
    ck_assert_int_eq(mig_extent_zero(fd, 65536, 65536 * 2), 0);
    ck_assert_uint_eq(used(fd), 65536 * 2);
    ck_assert_int_eq(mig_extent_read(fd, buffer, 65536 * 3, 65536), 0);
    for (unsigned i = 0; i < 65536 * 3; i++) {
        ck_assert_int_eq(buffer[i], i / 65536 == 1 ? 0 : 7);
    }
    ck_assert_int_eq(mig_extent_read(fd, buffer, 1024, LEN - 512), -ENODATA);
    close(fd);
    ck_assert_int_eq(mig_extent_zero(fd, 512, 0), -EBADF);
    ck_assert_int_eq(mig_extent_write(fd, buffer, 512, 0), -EBADF);
    free(buffer);
}
END_TEST

START_TEST(sums_of_blocks)
{
    static const uint8_t zeros[65536];
    uint8_t *buffer = mig_extent_buffer(MIG_BLOCK_BYTES);
    int a = file(), b = file();
    uint64_t x, y;

    ck_assert_uint_eq(mig_verify_disk_blocks(LEN), 2);
    ck_assert_int_eq(mig_extent_write(a, zeros, sizeof zeros, 65536), 0);
    for (uint64_t block = 0; block < 2; block++) { /* zeros, or a hole */
        ck_assert_int_eq(mig_verify_disk(a, LEN, block, buffer, &x), 0);
        ck_assert_int_eq(mig_verify_disk(b, LEN, block, buffer, &y), 0);
        ck_assert_uint_eq(x, y);
    }
    for (uint64_t at = 0; at < LEN; at += LEN - 1) { /* the first byte, the last */
        uint64_t block = at / MIG_BLOCK_BYTES;

        ck_assert_int_eq(mig_extent_write(a, "x", 1, at), 0);
        ck_assert_int_eq(mig_verify_disk(a, LEN, block, buffer, &x), 0);
        ck_assert_int_eq(mig_verify_disk(b, LEN, block, buffer, &y), 0);
        ck_assert_uint_ne(x, y);
        ck_assert_int_eq(mig_extent_write(b, "x", 1, at), 0);
        ck_assert_int_eq(mig_verify_disk(b, LEN, block, buffer, &y), 0);
        ck_assert_uint_eq(x, y);
    }
    close(a);
    close(b);
    free(buffer);
}
END_TEST

static Suite *extent_suite(void)
{
    Suite *suite = suite_create("mig_extent");
    TCase *tc = tcase_create("mig_extent");

    tcase_add_test(tc, where_data_is);
    tcase_add_test(tc, zeros_are_holes);
    tcase_add_test(tc, sums_of_blocks);
    suite_add_tcase(suite, tc);
    return suite;
}

UNIT_MAIN(extent_suite)
