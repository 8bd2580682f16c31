/* SPDX-License-Identifier: Apache-2.0 */
/* The io_uring of vmm/blk_uring in the hands of somebody else: seccomp does not see what
 * goes through it, so the ring itself must refuse. Driven through its shared memory, as
 * code that took the process over would. */
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/units.h"
#include "tests/unit/temp_path.h"
#include "tests/unit/unit.h"
#include "vmm/blk_uring.h"

static struct blk_uring *blk;
static struct vmm_error err;
static char path[TEMP_PATH_MAX];
static struct io_uring_params params;
static uint8_t *sq, *cq;
static struct io_uring_sqe *sqes;

static uint32_t *at(uint8_t *ring, uint32_t offset)
{
    return (uint32_t *)(void *)(ring + offset);
}

static void *map(uint64_t what, size_t len)
{
    void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, blk_ring_fd(blk),
                   (off_t)what);

    ck_assert_ptr_ne(p, MAP_FAILED);
    return p;
}

static void setup(void)
{
    struct blk_disk_info info;
    int fd;

    fd = mkstemp(temp_path(path, "walls"));
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(ftruncate(fd, 1 << 20), 0);
    close(fd);
    ck_assert_int_eq(blk_disk_look(path, false, &info, &err), 0);
    ck_assert_msg(blk_uring_open(&blk, &err) == 0, "%s", err.text);
    ck_assert_int_eq(blk_disk_open(blk, 0, path, false, &info, &err), 0);
    /* Where things lie in a ring of that size: another one tells. */
    memset(&params, 0, sizeof params);
    fd = (int)syscall(SYS_io_uring_setup, 128, &params);
    ck_assert_int_ge(fd, 0);
    close(fd);
    sq = map(IORING_OFF_SQ_RING, params.sq_off.array + params.sq_entries * 4);
    cq = map(IORING_OFF_CQ_RING,
             params.cq_off.cqes + params.cq_entries * sizeof(struct io_uring_cqe));
    sqes = map(IORING_OFF_SQES, params.sq_entries * sizeof *sqes);
}

static void teardown(void)
{
    blk_uring_close(blk);
    unlink(path);
}

/* Submits one entry and gives what the ring answers. */
static int submit(const struct io_uring_sqe *sqe)
{
    uint32_t mask = *at(sq, params.sq_off.ring_mask);
    uint32_t tail = *at(sq, params.sq_off.tail), head;
    const struct io_uring_cqe *done;
    int res;

    sqes[tail & mask] = *sqe;
    at(sq, params.sq_off.array)[tail & mask] = tail & mask;
    __atomic_store_n(at(sq, params.sq_off.tail), tail + 1, __ATOMIC_RELEASE);
    ck_assert_int_eq((int)syscall(SYS_io_uring_enter, blk_ring_fd(blk), 1, 1,
                                  IORING_ENTER_GETEVENTS, NULL, 0),
                     1);
    head = *at(cq, params.cq_off.head);
    done = (const struct io_uring_cqe *)(const void *)(cq + params.cq_off.cqes);
    res = done[head & *at(cq, params.cq_off.ring_mask)].res;
    __atomic_store_n(at(cq, params.cq_off.head), head + 1, __ATOMIC_RELEASE);
    return res;
}

START_TEST(its_own_disk_works)
{
    uint8_t buf[4096] __attribute__((aligned(4096)));
    struct io_uring_sqe sqe = {.opcode = IORING_OP_READ,
                               .flags = IOSQE_FIXED_FILE,
                               .fd = 0,
                               .addr = (uint64_t)(uintptr_t)buf,
                               .len = sizeof buf};

    ck_assert_int_eq(submit(&sqe), sizeof buf); /* so the others can tell something */
}
END_TEST

START_TEST(nothing_else_does)
{
    static const char file[] = "/etc/passwd";

    for (unsigned op = 0; op < 64; op++) {
        struct io_uring_sqe sqe = {.opcode = (uint8_t)op,
                                   .flags = IOSQE_FIXED_FILE,
                                   .fd = 0,
                                   .addr = (uint64_t)(uintptr_t)file};
        bool listed = op == IORING_OP_READ || op == IORING_OP_WRITE ||
                      op == IORING_OP_FSYNC || op == IORING_OP_FALLOCATE;
        int res;

        if (listed) {
            continue;
        }
        res = submit(&sqe);
        ck_assert_msg(res == -EACCES || res == -EINVAL, "op %u: %d", op, res);
        sqe.flags = 0;
        sqe.fd = AT_FDCWD;
        res = submit(&sqe);
        ck_assert_msg(res == -EACCES || res == -EINVAL, "op %u: %d", op, res);
    }
}
END_TEST

START_TEST(names_and_connections)
{
    struct io_uring_sqe open_it = {.opcode = IORING_OP_OPENAT,
                                   .fd = AT_FDCWD,
                                   .addr = (uint64_t)(uintptr_t) "/etc/passwd"};
    struct io_uring_sqe connect_it = {.opcode = IORING_OP_CONNECT, .fd = 0};

    ck_assert_int_eq(submit(&open_it), -EACCES);
    ck_assert_int_eq(submit(&connect_it), -EACCES);
}
END_TEST

/* Files of this process that are not disks: its control socket, its taps, KVM. */
START_TEST(only_registered_files)
{
    uint8_t buf[512];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct io_uring_sqe sqe = {.opcode = IORING_OP_READ,
                               .fd = fd,
                               .addr = (uint64_t)(uintptr_t)buf,
                               .len = sizeof buf};

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(submit(&sqe), -EACCES);
    sqe.opcode = IORING_OP_FSYNC;
    ck_assert_int_eq(submit(&sqe), -EACCES);
    close(fd);
}
END_TEST

START_TEST(not_configured_anew)
{
    static const unsigned ops[] = {
        IORING_REGISTER_BUFFERS,   IORING_UNREGISTER_FILES,     IORING_REGISTER_FILES,
        IORING_REGISTER_EVENTFD,   IORING_REGISTER_PERSONALITY, IORING_REGISTER_PROBE,
        IORING_UNREGISTER_EVENTFD, IORING_REGISTER_RESTRICTIONS};

    for (size_t i = 0; i < ARRAY_SIZE(ops); i++) {
        long r = syscall(SYS_io_uring_register, blk_ring_fd(blk), ops[i], NULL, 0);

        ck_assert_msg(r < 0 && (errno == EACCES || errno == EBADFD || errno == EINVAL),
                      "register %u: %ld", ops[i], r);
    }
}
END_TEST

/* A disk comes open: what it is, is looked at. */
START_TEST(disks_that_come_open)
{
    static const struct {
        int flags;
        bool read_only;
        int r;
    } row[] = {{O_RDWR, false, 0},           {O_RDWR, true, 0},
               {O_RDONLY, true, 0},          {O_RDONLY, false, -EBADF},
               {O_WRONLY, false, -EBADF},    {O_PATH, true, -EBADF},
               {O_RDWR | O_APPEND, false, 0}};
    struct blk_disk_info info;

    ck_assert_int_eq(blk_disk_look(path, false, &info, &err), 0);
    for (size_t i = 0; i < ARRAY_SIZE(row); i++) {
        struct blk_uring *other;
        int fd = open(path, row[i].flags | O_CLOEXEC), r;

        ck_assert_int_ge(fd, 0);
        ck_assert_int_eq(blk_uring_open(&other, &err), 0);
        r = blk_disk_take(other, 0, fd, path, row[i].read_only, &info, &err);
        ck_assert_msg(r == row[i].r, "row %zu: %d %s", i, r, err.text);
        if (r == 0) {
            ck_assert_int_eq(fcntl(fd, F_GETFL) & O_APPEND, 0);
        } else {
            ck_assert_ptr_nonnull(strstr(err.text, "not open for"));
            ck_assert_int_lt(fcntl(fd, F_GETFD), 0); /* closed, whatever happens */
        }
        blk_uring_close(other);
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("blk_walls");
    TCase *t = tcase_create("ring");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, its_own_disk_works);
    tcase_add_test(t, nothing_else_does);
    tcase_add_test(t, names_and_connections);
    tcase_add_test(t, only_registered_files);
    tcase_add_test(t, not_configured_anew);
    tcase_add_test(t, disks_that_come_open);
    suite_add_tcase(s, t);
    return s;
}

UNIT_MAIN(suite)
