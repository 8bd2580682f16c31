/* SPDX-License-Identifier: Apache-2.0 */
/* vmm/hold_log against an array of sectors: whatever overlaps whatever, a read sees the
 * newest; what is written out, in whatever order the disk does it, is that in the end. */
#include "vmm/hold_log.h"

#include <stdlib.h>
#include <string.h>

#include "tests/unit/unit.h"

#define SECTORS 48u
#define LEN     512u
#define OPS     64u
#define BYTES   (96u * LEN)
#define SEEDS   3000u
#define LEN_MAX 9u /* sectors of one request */

static uint32_t rng;

static uint32_t below(uint32_t n)
{
    rng = rng * 1664525u + 1013904223u;
    return (rng >> 8) % n;
}

static struct hold_log hold;
static struct hold_op op[OPS];
static uint8_t arena[BYTES], disk[SECTORS * LEN], want[SECTORS * LEN];

/* What the disk has under way. */
static struct {
    struct blk_request rq;
    bool applied;
} way[HOLD_UNDER_WAY];
static unsigned way_count, waited;

static void apply(uint8_t *to, const struct blk_request *rq)
{
    if (rq->op == REQUEST_WRITE) {
        memcpy(to + rq->sector * LEN, rq->data, rq->len);
    } else {
        memset(to + rq->sector * LEN, 0, rq->len);
    }
}

static void setup_run(uint32_t seed)
{
    rng = seed * 2654435761u + 1;
    hold_log_init(&hold, arena, sizeof arena, op, OPS);
    for (size_t i = 0; i < sizeof disk; i++) {
        disk[i] = (uint8_t)below(256);
    }
    memcpy(want, disk, sizeof want);
    way_count = 0;
}

static bool write_some(void)
{
    static const enum request_op ops[] = {REQUEST_WRITE, REQUEST_WRITE, REQUEST_WRITE,
                                          REQUEST_DISCARD, REQUEST_WRITE_ZEROES};
    uint8_t bytes[LEN_MAX * LEN];
    struct blk_request rq = {.op = ops[below(5)], .data = bytes};

    rq.len = (1 + below(LEN_MAX)) * LEN;
    rq.sector = below(SECTORS + 1 - rq.len / LEN);
    for (uint32_t i = 0; i < rq.len; i++) {
        bytes[i] = (uint8_t)below(256);
    }
    if (!hold_log_add(&hold, &rq)) {
        ck_assert(hold.count == OPS ||
                  (rq.op == REQUEST_WRITE && hold.used + rq.len > BYTES));
        return false;
    }
    memset(want + rq.sector * LEN, 0, rq.len);
    apply(want, &rq);
    memset(bytes, 0xee, sizeof bytes); /* it has its own copy */
    return true;
}

static void read_some(void)
{
    uint32_t count = 1 + below(LEN_MAX), sector = below(SECTORS + 1 - count);
    uint8_t buf[LEN_MAX * LEN + 1];

    memcpy(buf, disk + sector * LEN, count * LEN);
    buf[count * LEN] = 0x77;
    hold_log_patch(&hold, sector, buf, count * LEN);
    ck_assert_mem_eq(buf, want + sector * LEN, count * LEN);
    ck_assert_uint_eq(buf[count * LEN], 0x77);
    if (!hold_log_covers(&hold, sector, count * LEN)) {
        ck_assert_mem_eq(disk + sector * LEN, want + sector * LEN, count * LEN);
    }
}

static bool overlap(const struct blk_request *a, const struct blk_request *b)
{
    return a->sector < b->sector + b->len / LEN && b->sector < a->sector + a->len / LEN;
}

static void send_some(void)
{
    struct blk_request rq;

    while (below(4) != 0) {
        if (!hold_log_next(&hold, &rq)) {
            waited += hold.next < hold.count;
            return;
        }
        ck_assert_uint_lt(way_count, HOLD_UNDER_WAY);
        for (unsigned i = 0; i < way_count; i++) {
            ck_assert(!overlap(&rq, &way[i].rq));
        }
        way[way_count].rq = rq;
        way[way_count++].applied = false;
    }
}

static void disk_works(void)
{
    if (way_count > 0) {
        unsigned i = below(way_count);

        if (!way[i].applied) {
            apply(disk, &way[i].rq);
            way[i].applied = true;
        } else {
            (void)hold_log_done(&hold, way[i].rq.generation);
            way[i] = way[--way_count];
        }
    }
}

START_TEST(reads_see_the_newest_and_all_is_written_out)
{
    for (uint32_t seed = 0; seed < SEEDS; seed++) {
        unsigned steps = 0;

        setup_run(seed);
        for (unsigned i = below(120); i > 0; i--) {
            (void)write_some();
            read_some();
        }
        while (!hold_log_over(&hold)) {
            ck_assert_msg(steps++ < 100000, "seed %u does not end", seed);
            send_some();
            disk_works();
            read_some();
        }
        ck_assert_mem_eq(disk, want, sizeof disk);
        ck_assert_uint_eq(way_count, 0);
    }
    ck_assert_uint_gt(waited, 0);
}
END_TEST

START_TEST(order_of_what_overlaps)
{
    uint8_t a[LEN], b[LEN];
    struct blk_request rq = {.op = REQUEST_WRITE, .sector = 3, .len = LEN, .data = a};
    struct blk_request got;

    setup_run(1);
    memset(a, 1, sizeof a);
    memset(b, 2, sizeof b);
    ck_assert(hold_log_add(&hold, &rq));
    rq.data = b;
    ck_assert(hold_log_add(&hold, &rq));
    ck_assert(hold_log_next(&hold, &got));
    ck_assert_mem_eq(got.data, a, LEN);
    ck_assert_uint_eq(got.generation, 0);
    ck_assert(!hold_log_next(&hold, &got)); /* not before the first is done */
    ck_assert_uint_eq(hold_log_done(&hold, 0), LEN);
    ck_assert(hold_log_next(&hold, &got));
    ck_assert_mem_eq(got.data, b, LEN);
    ck_assert(!hold_log_over(&hold));
    ck_assert_uint_eq(hold_log_done(&hold, 1), LEN);
    ck_assert(hold_log_over(&hold));
}
END_TEST

START_TEST(room)
{
    static uint8_t bytes[BYTES];
    struct blk_request rq = {.op = REQUEST_WRITE, .len = BYTES, .data = bytes};

    setup_run(1);
    ck_assert(hold_log_add(&hold, &rq));
    rq.len = LEN;
    ck_assert(!hold_log_add(&hold, &rq));
    rq.op = REQUEST_DISCARD; /* needs no bytes */
    for (unsigned i = 1; i < OPS; i++) {
        ck_assert(hold_log_add(&hold, &rq));
    }
    ck_assert(!hold_log_add(&hold, &rq));
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("hold_log");
    TCase *tc = tcase_create("hold_log");

    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, reads_see_the_newest_and_all_is_written_out);
    tcase_add_test(tc, order_of_what_overlaps);
    tcase_add_test(tc, room);
    suite_add_tcase(s, tc);
    return s;
}

UNIT_MAIN(suite)
