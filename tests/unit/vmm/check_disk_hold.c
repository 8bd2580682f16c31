/* SPDX-License-Identifier: Apache-2.0 */
/* vmm/disk_hold behind vmm/disks, on a real file: nothing reaches it before it is free,
 * reads see what was written, no FLUSH is answered; then the file has all of it, whatever
 * somebody else wrote there meanwhile. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "tests/unit/temp_path.h"
#include "tests/unit/unit.h"
#include "vmm/disks.h"

#define SECTORS 2048u
#define LEN     (SECTORS * 512u)
#define SLOTS   32u
#define REQ_MAX 16u /* sectors */

static struct disks *disks;
static struct vmm_error err;
static struct disk_desc desc = {.kind = DISK_RAW};
static char path[TEMP_PATH_MAX];
static uint8_t want[LEN], other[LEN];
static uint32_t rng;

static uint32_t below(uint32_t n)
{
    rng = rng * 1664525u + 1013904223u;
    return (rng >> 8) % n;
}

/* What the guest waits for. */
static struct {
    bool busy;
    struct blk_request rq;
    uint32_t status;
    uint8_t data[BLK_REQUEST_MAX];
} slot[SLOTS];
static unsigned answers, flushes, failures;

static bool conflicts(const struct blk_request *a, const struct blk_request *b)
{
    return a->op != REQUEST_FLUSH && b->op != REQUEST_FLUSH &&
           (a->op != REQUEST_READ || b->op != REQUEST_READ) &&
           a->sector < b->sector + b->len / 512 && b->sector < a->sector + a->len / 512;
}

static void on_done(void *ctx, unsigned disk, const struct blk_request *rq,
                    uint32_t status, const uint8_t *data, uint32_t len)
{
    (void)ctx;
    if (rq->slot == DISK_HOLD_SLOT) {
        failures++;
        disks_hold_failed(disks, disk, rq);
        return;
    }
    ck_assert_uint_lt(rq->slot, SLOTS);
    ck_assert(slot[rq->slot].busy);
    ck_assert_uint_eq(rq->generation, slot[rq->slot].rq.generation);
    slot[rq->slot].busy = false;
    slot[rq->slot].status = status;
    answers++;
    flushes += rq->op == REQUEST_FLUSH && status == 0;
    if (rq->op == REQUEST_WRITE_ZEROES && status == 0) { /* not while it is held */
        memset(want + rq->sector * 512, 0, rq->len);
    }
    if (rq->op == REQUEST_READ && status == 0) {
        ck_assert_uint_eq(len, rq->len);
        ck_assert_mem_eq(data, want + rq->sector * 512, len);
    }
}

static void turn(bool runs)
{
    struct pollfd p = {.fd = disks_poll_fd(disks), .events = POLLIN};

    if (runs) {
        disks_hold_turn(disks);
    }
    (void)disks_push(disks);
    if (!disks_reapable(disks) && disks_in_flight(disks) > 0) {
        (void)poll(&p, 1, 1000);
    }
    (void)disks_reap(disks, on_done, NULL);
}

static void settle(void)
{
    do {
        turn(false);
    } while (disks_in_flight(disks) > 0);
}

/* A slot for `rq`, once nothing that it overlaps is under way: as the device has it.
 * SLOTS: not now. */
static unsigned slot_for(const struct blk_request *rq)
{
    unsigned found = SLOTS;

    for (unsigned i = 0; i < SLOTS; i++) {
        if (slot[i].busy && conflicts(&slot[i].rq, rq)) {
            return SLOTS;
        }
        found = slot[i].busy ? found : i;
    }
    return found;
}

static bool ask(struct blk_request rq)
{
    unsigned i = slot_for(&rq);

    if (i == SLOTS) {
        return false;
    }
    rq.slot = i;
    rq.generation = slot[i].rq.generation + 1;
    if (rq.op == REQUEST_WRITE) {
        memcpy(slot[i].data, rq.data, rq.len);
        rq.data = slot[i].data;
    }
    slot[i].rq = rq;
    slot[i].busy = true;
    if (rq.op == REQUEST_WRITE) {
        memcpy(want + rq.sector * 512, rq.data, rq.len);
    } else if (rq.op == REQUEST_DISCARD) {
        memset(want + rq.sector * 512, 0, rq.len);
    }
    disks_submit(disks, 0, &rq);
    return true;
}

static void ask_something(void)
{
    static const enum request_op ops[] = {REQUEST_WRITE,        REQUEST_WRITE,
                                          REQUEST_READ,         REQUEST_READ,
                                          REQUEST_WRITE_ZEROES, REQUEST_DISCARD};
    static uint8_t bytes[REQ_MAX * 512];
    struct blk_request rq = {.op = ops[below(6)], .data = bytes};

    rq.len = (1 + below(REQ_MAX)) * 512;
    rq.sector = below(64); /* they shall meet */
    memset(bytes, (int)below(256), sizeof bytes);
    (void)ask(rq);
}

static void file_read(uint8_t *to)
{
    int fd = open(path, O_RDONLY);

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(pread(fd, to, LEN, 0), LEN);
    close(fd);
}

static void file_write(uint64_t sector, uint8_t byte)
{
    uint8_t bytes[512];
    int fd = open(path, O_WRONLY);

    memset(bytes, byte, sizeof bytes);
    ck_assert_int_eq(pwrite(fd, bytes, sizeof bytes, (off_t)(sector * 512)), 512);
    close(fd);
}

static void setup(void)
{
    int fd = mkstemp(temp_path(path, "hold"));

    ck_assert_int_ge(fd, 0);
    for (unsigned i = 0; i < LEN; i++) {
        want[i] = (uint8_t)(i * 31 >> 4);
    }
    ck_assert_int_eq(pwrite(fd, want, LEN, 0), LEN);
    close(fd);
    desc.path = path;
    ck_assert_msg(disks_open(&disks, &err) == 0, "%s", err.text);
    ck_assert_msg(disks_look(disks, 0, &desc, &err) == 0, "%s", err.text);
    ck_assert_int_eq(disks_file(DISK_RAW, path, false, &fd, &err), 0);
    ck_assert_msg(disks_take(disks, 0, fd, &desc, &err) == 0, "%s", err.text);
    ck_assert_int_eq(disks_hold(disks, 0, &desc, &err), 0);
}

static void teardown(void)
{
    disks_close(disks);
    unlink(path);
}

static uint32_t held(void)
{
    uint64_t bytes;
    uint32_t mask = disks_held(disks, &bytes);

    ck_assert(mask != 0 || bytes == 0);
    return mask;
}

START_TEST(held_then_written)
{
    struct blk_request flush = {.op = REQUEST_FLUSH};

    rng = (uint32_t)_i * 7919 + 1;
    file_read(other);
    for (unsigned i = 0; i < 300; i++) {
        ask_something();
        if (below(3) == 0) {
            turn(true); /* not free: nothing happens */
        }
    }
    ck_assert(ask(flush));
    settle();
    {
        static uint8_t now[LEN];

        file_read(now);
        ck_assert_mem_eq(now, other, LEN); /* not a byte */
    }
    ck_assert_uint_eq(flushes, 0);
    ck_assert_uint_eq(held(), 1);
    disks_excluded(disks, 1);
    for (unsigned i = 0; i < 300 || held() != 0 || flushes == 0; i++) {
        ck_assert_uint_lt(i, 100000);
        if (i < 300) {
            ask_something();
        }
        turn(true);
    }
    settle();
    file_read(other);
    ck_assert_mem_eq(other, want, LEN);
    ck_assert_uint_eq(failures, 0);
}
END_TEST

/* In each slot, alone. Fails with: a FLUSH that is answered where nothing waits. */
START_TEST(no_flush_is_answered_while_it_is_held)
{
    unsigned turns = 0;

    for (unsigned i = (unsigned)_i + 1; i < SLOTS; i++) { /* the last free one is taken */
        slot[i].busy = true;
    }
    ck_assert(ask((struct blk_request){.op = REQUEST_FLUSH}));
    ck_assert(slot[_i].busy);
    for (int i = 0; i < 20; i++) {
        turn(true);
    }
    ck_assert_uint_eq(answers, 0);
    disks_excluded(disks, 1);
    while (flushes == 0) {
        ck_assert_uint_lt(turns++, 100000);
        turn(true);
    }
    ck_assert_uint_eq(answers, 1);
}
END_TEST

START_TEST(late_write_of_somebody_else)
{
    static const uint8_t mine[512] = {1, 2, 3};

    ck_assert(ask((struct blk_request){
        .op = REQUEST_WRITE, .sector = 5, .len = 512, .data = mine}));
    settle();
    ck_assert_uint_eq(answers, 1); /* the guest goes on */
    file_write(5, 0xcc);
    ck_assert(ask((struct blk_request){.op = REQUEST_READ, .sector = 4, .len = 1536}));
    settle();
    ck_assert_uint_eq(answers, 2);
    disks_excluded(disks, 1);
    turn(true);
    settle();
    turn(true);
    ck_assert_uint_eq(held(), 0);
    file_read(other);
    ck_assert_mem_eq(other, want, LEN);
}
END_TEST

/* FROZEN: what is free is written when the guest runs again. */
START_TEST(frozen_meanwhile)
{
    static const uint8_t mine[512] = {9};

    ck_assert(ask((struct blk_request){
        .op = REQUEST_WRITE, .sector = 7, .len = 512, .data = mine}));
    ck_assert(ask((struct blk_request){.op = REQUEST_FLUSH}));
    settle();
    ck_assert_uint_eq(disks_in_flight(disks), 0);
    disks_excluded(disks, 1);
    disks_flush(disks);
    settle();
    file_read(other);
    ck_assert_uint_ne(other[7 * 512], 9);
    ck_assert_uint_eq(held(), 1);
    while (held() != 0 || flushes == 0) {
        turn(true);
    }
    file_read(other);
    ck_assert_uint_eq(other[7 * 512], 9);
}
END_TEST

/* More than fits: those wait, in order, and nothing is lost. */
START_TEST(full)
{
    static uint8_t big[BLK_REQUEST_MAX];
    unsigned sent = 0;

    for (unsigned i = 0; i < HOLD_BYTES_MAX / BLK_REQUEST_MAX + 4; i++) {
        memset(big, (int)i, sizeof big);
        while (!ask((struct blk_request){.op = REQUEST_WRITE,
                                         .sector = (i % 8) * (BLK_REQUEST_MAX / 512),
                                         .len = BLK_REQUEST_MAX,
                                         .data = big})) {
            settle();
        }
        sent++;
    }
    settle();
    ck_assert_uint_eq(answers, HOLD_BYTES_MAX / BLK_REQUEST_MAX);
    ck_assert_uint_eq(sent, answers + 4);
    disks_excluded(disks, 1);
    while (held() != 0 || answers < sent) {
        turn(true);
    }
    settle();
    file_read(other);
    ck_assert_mem_eq(other, want, LEN);
}
END_TEST

/* A disk that fails then: the guest was told that it is written, so no FLUSH succeeds. */
START_TEST(write_out_fails)
{
    static const uint8_t mine[512] = {9};
    struct rlimit limit = {.rlim_cur = 4096, .rlim_max = 4096};

    ck_assert(ask((struct blk_request){
        .op = REQUEST_WRITE, .sector = SECTORS - 1, .len = 512, .data = mine}));
    settle();
    (void)signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(truncate(path, 4096), 0);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    disks_excluded(disks, 1);
    while (held() != 0) {
        turn(true);
    }
    ck_assert_uint_eq(failures, 1);
    ck_assert(disks_latched(disks, 0));
    ck_assert(ask((struct blk_request){.op = REQUEST_FLUSH}));
    settle();
    ck_assert_uint_eq(flushes, 0);
    ck_assert_uint_eq(answers, 2);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("disk_hold");
    TCase *tc = tcase_create("file");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, held_then_written, 0, 8);
    tcase_add_loop_test(tc, no_flush_is_answered_while_it_is_held, 0, SLOTS);
    tcase_add_test(tc, late_write_of_somebody_else);
    tcase_add_test(tc, frozen_meanwhile);
    tcase_add_test(tc, full);
    tcase_add_test(tc, write_out_fails);
    suite_add_tcase(s, tc);
    return s;
}

UNIT_MAIN(suite)
