/* SPDX-License-Identifier: Apache-2.0 */
/* vmm/blk_uring on real files: what a guest asks for is done, or answered with an error;
 * never more than the disk. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/units.h"
#include "tests/unit/temp_path.h"
#include "tests/unit/unit.h"
#include "vmm/blk_uring.h"

#define SECTORS 2048u

static struct blk_uring *blk;
static struct vmm_error err;
static struct blk_disk_info info;
static char path[TEMP_PATH_MAX];

static struct {
    unsigned count;
    uint32_t status, len, slot;
    uint8_t data[8192];
} got;

static void on_done(void *ctx, unsigned disk, const struct blk_request *request,
                    uint32_t status, const uint8_t *data, uint32_t len)
{
    (void)ctx;
    ck_assert_uint_eq(disk, 0);
    got.count++;
    got.status = status;
    got.len = len;
    got.slot = request->slot;
    if (data && len <= sizeof got.data) {
        memcpy(got.data, data, len);
    }
}

static void wait_all(void)
{
    (void)blk_push(blk);
    while (blk_in_flight(blk) > 0) {
        struct pollfd p = {.fd = blk_ring_fd(blk), .events = POLLIN};

        if (!blk_reapable(blk)) {
            (void)poll(&p, 1, 1000);
        }
        (void)blk_reap(blk, on_done, NULL);
        (void)blk_push(blk);
    }
}

static uint32_t ask(enum request_op op, uint64_t sector, uint32_t len,
                    const uint8_t *data)
{
    struct blk_request rq = {
        .op = op, .slot = 7, .sector = sector, .len = len, .data = data};

    got.count = 0;
    blk_submit(blk, 0, &rq);
    wait_all();
    ck_assert_uint_eq(got.count, 1);
    ck_assert_uint_eq(got.slot, 7);
    return got.status;
}

static void make(void)
{
    int fd;

    fd = mkstemp(temp_path(path, "blk"));
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(ftruncate(fd, SECTORS * 512), 0);
    close(fd);
    ck_assert_int_eq(blk_disk_look(path, false, &info, &err), 0);
    ck_assert_msg(blk_uring_open(&blk, &err) == 0, "%s", err.text);
}

static void setup(void)
{
    make();
    ck_assert_msg(blk_disk_open(blk, 0, path, false, &info, &err) == 0, "%s", err.text);
}

static void teardown(void)
{
    blk_uring_close(blk);
    unlink(path);
}

START_TEST(write_flush_read)
{
    static uint8_t buf[8192 + 1];
    uint8_t *odd = buf + 1; /* O_DIRECT does not take this: it must be copied */

    for (unsigned i = 0; i < 8192; i++) {
        odd[i] = (uint8_t)(i * 7);
    }
    ck_assert_uint_eq(ask(REQUEST_WRITE, 3, 8192, odd), 0);
    ck_assert_uint_eq(ask(REQUEST_FLUSH, 0, 0, NULL), 0);
    ck_assert_uint_eq(ask(REQUEST_READ, 3, 8192, NULL), 0);
    ck_assert_uint_eq(got.len, 8192);
    ck_assert_mem_eq(got.data, odd, 8192);
    ck_assert_uint_eq(ask(REQUEST_WRITE_ZEROES, 4, 512, NULL), 0);
    ck_assert_uint_eq(ask(REQUEST_READ, 3, 1536, NULL), 0);
    ck_assert_mem_eq(got.data, odd, 512);
    ck_assert_uint_eq(got.data[512], 0);
    ck_assert_mem_eq(got.data + 1024, odd + 1024, 512);
    ck_assert_uint_eq(ask(REQUEST_DISCARD, 0, 1 << 19, NULL), 0);
}
END_TEST

/* Only what was written to, and not flushed since; nobody is told. */
START_TEST(flush_of_a_freeze)
{
    static uint8_t sector[512];

    blk_flush(blk);
    ck_assert_uint_eq(blk_in_flight(blk), 0);
    ck_assert_uint_eq(ask(REQUEST_READ, 0, 512, NULL), 0);
    blk_flush(blk);
    ck_assert_uint_eq(blk_in_flight(blk), 0);
    ck_assert_uint_eq(ask(REQUEST_WRITE, 0, 512, sector), 0);
    got.count = 0;
    blk_flush(blk);
    blk_flush(blk);
    ck_assert_uint_eq(blk_in_flight(blk), 1);
    ck_assert_uint_eq(blk_disk_in_flight(blk, 0), 1);
    wait_all();
    ck_assert_uint_eq(got.count, 0);
    ck_assert_uint_eq(blk_disk_in_flight(blk, 0), 0);
    blk_flush(blk);
    ck_assert_uint_eq(blk_in_flight(blk), 0);
    ck_assert_uint_eq(ask(REQUEST_WRITE_ZEROES, 0, 512, NULL), 0);
    ck_assert_uint_eq(ask(REQUEST_FLUSH, 0, 0, NULL), 0);
    blk_flush(blk);
    ck_assert_uint_eq(blk_in_flight(blk), 0);
    ck_assert(!blk_flush_failed(blk));
}
END_TEST

/* A FLUSH covers what was answered before it was asked for, and no more. */
START_TEST(flush_does_not_cover_later_writes)
{
    static uint8_t sector[512];
    struct blk_request flush = {.op = REQUEST_FLUSH},
                       write = {.op = REQUEST_WRITE, .len = 512, .data = sector};

    blk_submit(blk, 0, &write);
    blk_submit(blk, 0, &flush);
    wait_all();
    blk_flush(blk);
    ck_assert_uint_eq(blk_in_flight(blk), 1);
    wait_all();
}
END_TEST

/* What is read lands where the device has room for it, if O_DIRECT takes that place. */
START_TEST(read_into_room)
{
    static uint8_t pages[3 * 4096] __attribute__((aligned(4096)));
    struct blk_request rq = {.op = REQUEST_READ, .slot = 7, .sector = 8, .len = 4096};

    memset(pages, 0x5A, 4096);
    ck_assert_uint_eq(ask(REQUEST_WRITE, 8, 4096, pages), 0);
    for (unsigned odd = 0; odd < 2; odd++) {
        memset(pages, 0, sizeof pages);
        rq.room = pages + 4096 + odd;
        got.count = 0;
        blk_submit(blk, 0, &rq);
        wait_all();
        ck_assert_uint_eq(got.count, 1);
        ck_assert_uint_eq(got.len, 4096);
        ck_assert_uint_eq(got.data[0], 0x5A);
        ck_assert_uint_eq(got.data[4095], 0x5A);
        ck_assert_uint_eq(pages[4096 + 2048], odd && blk_is_direct(blk, 0) ? 0 : 0x5A);
        ck_assert_uint_eq(pages[4095], 0);
        ck_assert_uint_eq(pages[8192 + 1], 0);
    }
}
END_TEST

START_TEST(what_the_guest_must_not_do)
{
    static const uint8_t zero[4096];

    ck_assert_uint_eq(ask(REQUEST_READ, SECTORS, 512, NULL), EINVAL);
    ck_assert_uint_eq(ask(REQUEST_READ, SECTORS - 1, 1024, NULL), EINVAL);
    ck_assert_uint_eq(ask(REQUEST_WRITE, SECTORS - 1, 1024, zero), EINVAL);
    ck_assert_uint_eq(ask(REQUEST_WRITE, UINT64_MAX, 512, zero), EINVAL);
    ck_assert_uint_eq(ask(REQUEST_WRITE, UINT64_MAX / 512, 512, zero), EINVAL);
    ck_assert_uint_eq(ask(REQUEST_WRITE, 0, 100, zero), EINVAL);
    ck_assert_uint_eq(ask(REQUEST_READ, 0, 0, NULL), EINVAL);
    ck_assert_uint_eq(ask(REQUEST_READ, 0, UINT32_MAX & ~511u, NULL), EINVAL);
    ck_assert_uint_eq(ask(REQUEST_DISCARD, SECTORS - 1, 1024, NULL), EINVAL);
    ck_assert_uint_eq(ask(REQUEST_WRITE, SECTORS - 1, 512, zero), 0);
    ck_assert(!blk_flush_failed(blk));
}
END_TEST

START_TEST(not_opened_yet)
{
    static const uint8_t zero[512];
    struct blk_uring *first = blk;

    ck_assert_int_eq(blk_uring_open(&blk, &err), 0);
    ck_assert_uint_eq(ask(REQUEST_WRITE, 0, 512, zero), ENXIO);
    blk_uring_close(blk);
    blk = first;
}
END_TEST

START_TEST(read_only)
{
    static const uint8_t zero[512];
    struct blk_uring *first = blk;

    ck_assert_int_eq(blk_uring_open(&blk, &err), 0);
    ck_assert_int_eq(blk_disk_open(blk, 0, path, true, &info, &err), 0);
    ck_assert_uint_eq(ask(REQUEST_WRITE, 0, 512, zero), EROFS);
    ck_assert_uint_eq(ask(REQUEST_WRITE_ZEROES, 0, 512, NULL), EROFS);
    ck_assert_uint_eq(ask(REQUEST_READ, 0, 512, NULL), 0);
    blk_uring_close(blk);
    blk = first;
}
END_TEST

/* The file was cut under us: an error, not a hang and not made-up data. */
START_TEST(file_becomes_shorter)
{
    ck_assert_int_eq(truncate(path, 4096), 0);
    ck_assert_uint_eq(ask(REQUEST_READ, 64, 512, NULL), EIO);
    ck_assert_uint_eq(ask(REQUEST_READ, 0, 8192, NULL), EIO); /* half of it is there */
    ck_assert_uint_eq(ask(REQUEST_READ, 0, 4096, NULL), 0);
}
END_TEST

START_TEST(many_at_once)
{
    enum { N = 256 };
    static uint8_t out[N][512] __attribute__((aligned(512)));

    got.count = 0;
    for (uint32_t i = 0; i < N; i++) {
        struct blk_request rq = {
            .op = REQUEST_WRITE, .slot = i, .sector = i, .len = 512, .data = out[i]};

        memset(out[i], (int)i, 512);
        blk_submit(blk, 0, &rq);
    }
    ck_assert_uint_ge(blk_in_flight(blk), 1);
    wait_all();
    ck_assert_uint_eq(got.count, N);
    for (uint32_t i = 0; i < N; i++) {
        ck_assert_uint_eq(ask(REQUEST_READ, i, 512, NULL), 0);
        ck_assert_uint_eq(got.data[511], (uint8_t)i);
    }
}
END_TEST

START_TEST(look_refuses)
{
    struct blk_disk_info now;
    struct stat st;

    ck_assert_int_lt(blk_disk_look("/tmp/gemel-does-not-exist", false, &now, &err), 0);
    ck_assert_int_lt(blk_disk_look("/dev/null", false, &now, &err), 0);
    ck_assert_int_lt(blk_disk_look("/tmp", false, &now, &err), 0);
    ck_assert_int_eq(truncate(path, 1000), 0);
    ck_assert_int_eq(blk_disk_look(path, false, &now, &err), -EINVAL);
    ck_assert_ptr_nonnull(strstr(err.text, "multiple of 512"));
    ck_assert_int_eq(truncate(path, 0), 0);
    ck_assert_int_eq(blk_disk_look(path, false, &now, &err), -EINVAL);
    ck_assert_int_eq(stat(path, &st), 0);
}
END_TEST

START_TEST(open_refuses_another_file)
{
    struct blk_uring *second;
    char other[sizeof path + 8];
    int fd;

    ck_assert_int_eq(blk_uring_open(&second, &err), 0);
    snprintf(other, sizeof other, "%s.new", path);
    fd = open(other, O_RDWR | O_CREAT | O_EXCL, 0600);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(ftruncate(fd, SECTORS * 512), 0);
    close(fd);
    ck_assert_int_eq(rename(other, path), 0);
    ck_assert_int_eq(blk_disk_open(second, 0, path, false, &info, &err), -ESTALE);
    blk_uring_close(second);
}
END_TEST

/* Writes beyond the file size limit of this process fail with EFBIG: a stand-in for a
 * full or broken disk. */
START_TEST(write_errors_come_back)
{
    static const uint8_t zero[4096];
    struct rlimit limit = {.rlim_cur = 4096, .rlim_max = 4096};

    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(truncate(path, 4096), 0);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    ck_assert_uint_ne(ask(REQUEST_WRITE, 64, 4096, zero), 0);
    ck_assert(!blk_flush_failed(blk));
    ck_assert_uint_eq(ask(REQUEST_FLUSH, 0, 0, NULL), 0);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("blk_uring");
    TCase *t = tcase_create("files");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, write_flush_read);
    tcase_add_test(t, flush_of_a_freeze);
    tcase_add_test(t, flush_does_not_cover_later_writes);
    tcase_add_test(t, read_into_room);
    tcase_add_test(t, what_the_guest_must_not_do);
    tcase_add_test(t, not_opened_yet);
    tcase_add_test(t, read_only);
    tcase_add_test(t, file_becomes_shorter);
    tcase_add_test(t, many_at_once);
    tcase_add_test(t, look_refuses);
    tcase_add_test(t, open_refuses_another_file);
    tcase_add_test(t, write_errors_come_back);
    suite_add_tcase(s, t);
    return s;
}

UNIT_MAIN(suite)
