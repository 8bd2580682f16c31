/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-balloon: target, pages given back in ranges, statistics on request, wrong
 * chains, save and load. */
#include "vmm/dev_vballoon.h"

#include <stdlib.h>
#include <string.h>

#include "tests/unit/unit.h"
#include "tests/unit/vmm/machine_rig.h"

#define LIST 0x4000 /* page numbers */
#define CONF 0x100

static struct rig rig;
static struct rig_ring ring[3];

static void start(void)
{
    rig_virtio_start(&rig, 0, VIRTIO_F_VERSION_1 | VBALLOON_F_STATS | VBALLOON_F_DEFLATE,
                     ring, 3, 0x1000);
}

static void setup(void)
{
    const struct machine_conf conf = {.type = MACHINE_STANDARD,
                                      .ram_len = RIG_RAM_LEN,
                                      .extras = 1u << MACHINE_EXTRA_BALLOON};

    rig_init(&rig, &conf);
    start();
}

static void teardown(void)
{
    rig_free(&rig);
}

static void input(enum input_type type, uint64_t value)
{
    struct dev_input in = {.type = type, .value = value};

    ck_assert_int_eq(
        machine_input(rig.m, machine_extra_dev(rig.m, MACHINE_EXTRA_BALLOON), &in), 0);
}

static bool broken(void)
{
    return (rig_vreg_in(&rig, 0, VMMIO_STATUS) & VIRTIO_STATUS_NEEDS_RESET) != 0;
}

static void offer(unsigned queue, uint16_t head, uint64_t addr, uint32_t len,
                  uint16_t flags)
{
    rig_desc(&rig, &ring[queue], head, addr, len, flags, 0);
    rig_offer(&rig, &ring[queue], head);
    rig_notify(&rig, &ring[queue]);
}

static bool used(unsigned queue)
{
    uint32_t id, len;

    return rig_used(&rig, &ring[queue], &id, &len);
}

static void inflate(const uint32_t *pfn, unsigned count)
{
    memcpy(rig.ram + LIST, pfn, count * sizeof *pfn);
    offer(VBALLOON_INFLATE, 0, LIST, count * 4, 0);
    ck_assert(used(VBALLOON_INFLATE));
}

START_TEST(target_and_actual)
{
    ck_assert_uint_eq(rig_vreg_in(&rig, 0, VMMIO_DEVICE_ID), VIRTIO_ID_BALLOON);
    ck_assert_uint_eq(rig_vreg_in(&rig, 0, CONF), 0);
    input(INPUT_BALLOON, 5);
    ck_assert_uint_eq(rig_vreg_in(&rig, 0, CONF), 5);
    ck_assert_uint_eq(rig_vreg_in(&rig, 0, VMMIO_INTERRUPT_STATUS), VIRTIO_IRQ_CONFIG);
    input(INPUT_BALLOON, UINT64_MAX); /* never more than there is */
    ck_assert_uint_eq(rig_vreg_in(&rig, 0, CONF), RIG_RAM_LEN / 4096);
    for (unsigned offset = 0; offset < 0x100; offset += 4) {
        rig_vreg_out(&rig, 0, CONF + offset, 3); /* only `actual` is the driver's */
    }
    ck_assert_uint_eq(rig_vreg_in(&rig, 0, CONF), RIG_RAM_LEN / 4096);
    ck_assert_uint_eq(rig_vreg_in(&rig, 0, CONF + 4), 3);
    ck_assert_uint_eq(rig_vreg_in(&rig, 0, CONF + 8), 0);
    machine_reset(rig.m);
    ck_assert_uint_eq(rig_vreg_in(&rig, 0, CONF), RIG_RAM_LEN / 4096); /* stays */
    ck_assert_uint_eq(rig_vreg_in(&rig, 0, CONF + 4), 0);
}
END_TEST

START_TEST(pages_become_ranges)
{
    const uint32_t down[] = {13, 12, 11}, up[] = {8, 9, 13}, wild[] = {16, 0xFFFFFFFF, 9};

    memset(rig.ram + 0x8000, 0xAA, 0x6000);
    inflate(down, 3);
    ck_assert_uint_eq(rig.range_count, 1);
    ck_assert_uint_eq(rig.range.base.v, 11 * 4096);
    ck_assert_uint_eq(rig.range.len, 3 * 4096);
    ck_assert_uint_eq(rig.ram[0xB000], 0);
    ck_assert_uint_eq(rig.ram[0xA000], 0xAA);
    inflate(up, 3);
    ck_assert_uint_eq(rig.range_count, 3);
    ck_assert_uint_eq(rig.range_bytes, 6 * 4096);
    inflate(wild, 3); /* what is no RAM is skipped */
    ck_assert_uint_eq(rig.range_count, 4);
    ck_assert_uint_eq(rig.dirty[0] >> 8 & 0x3F, 0x3B);
    ck_assert(!broken());
    offer(VBALLOON_DEFLATE, 0, LIST, 12, 0);
    ck_assert(used(VBALLOON_DEFLATE));
    ck_assert_uint_eq(rig.range_count, 4);
}
END_TEST

START_TEST(more_ranges_than_fit)
{
    uint32_t pfn[256];

    for (unsigned i = 0; i < 256; i++) {
        pfn[i] = i % 2 ? 15 : 13; /* no neighbours */
    }
    inflate(pfn, 256);
    ck_assert_uint_eq(rig.range_count, 256);
}
END_TEST

static void stat(unsigned i, uint16_t tag, uint64_t value)
{
    memcpy(rig.ram + LIST + 10 * i, &tag, 2);
    memcpy(rig.ram + LIST + 10 * i + 2, &value, 8);
}

START_TEST(statistics)
{
    struct machine_balloon b;

    ck_assert(machine_balloon(rig.m, &b));
    ck_assert_uint_eq(b.free, MACHINE_STAT_UNKNOWN);
    input(INPUT_BALLOON_POLL, 0); /* nothing is held yet */
    stat(0, VBALLOON_MEMORY_FREE, 1234);
    stat(1, VBALLOON_MEMORY_TOTAL, 5678);
    stat(2, 999, 1); /* unknown tags are for others */
    offer(VBALLOON_STATS_QUEUE, 0, LIST, 30, 0);
    ck_assert(!used(VBALLOON_STATS_QUEUE)); /* held */
    ck_assert(machine_balloon(rig.m, &b));
    ck_assert_uint_eq(b.free, 1234);
    ck_assert_uint_eq(b.total, 5678);
    input(INPUT_BALLOON_POLL, 0);
    ck_assert(used(VBALLOON_STATS_QUEUE));
    input(INPUT_BALLOON_POLL, 0);
    ck_assert(!used(VBALLOON_STATS_QUEUE));
    stat(0, VBALLOON_MEMORY_FREE, 4321);
    offer(VBALLOON_STATS_QUEUE, 0, LIST, 15, 0); /* a whole one and a half */
    offer(VBALLOON_STATS_QUEUE, 1, LIST, 10,
          0); /* a second buffer: the first goes back */
    ck_assert(used(VBALLOON_STATS_QUEUE));
    ck_assert(machine_balloon(rig.m, &b));
    ck_assert_uint_eq(b.free, 4321);
    ck_assert_uint_eq(b.total, 5678);
    ck_assert(!broken());
}
END_TEST

/* As Linux does it: the first buffer is there, and its doorbell over, before DRIVER_OK.
 */
START_TEST(first_statistics_without_a_doorbell)
{
    struct machine_balloon b;

    stat(0, VBALLOON_MEMORY_FREE, 55);
    rig_desc(&rig, &ring[VBALLOON_STATS_QUEUE], 0, LIST, 10, 0, 0);
    rig_offer(&rig, &ring[VBALLOON_STATS_QUEUE], 0);
    input(INPUT_BALLOON_POLL, 0);
    ck_assert(used(VBALLOON_STATS_QUEUE)); /* read, and asked for anew */
    ck_assert(machine_balloon(rig.m, &b));
    ck_assert_uint_eq(b.free, 55);
}
END_TEST

START_TEST(wrong_chains)
{
    static const struct {
        unsigned queue;
        uint64_t addr;
        uint32_t len;
        uint16_t flags;
    } wrong[] = {
        {VBALLOON_INFLATE, LIST, VBALLOON_PFNS_MAX * 4 + 4, 0},
        {VBALLOON_INFLATE, LIST, 0, 0},
        {VBALLOON_INFLATE, RIG_RAM_LEN, 4, 0},
        {VBALLOON_DEFLATE, LIST, 4, 1},
        {VBALLOON_DEFLATE, LIST, 4, 4},
        {VBALLOON_STATS_QUEUE, UINT64_MAX - 2, 10, 0},
    };

    offer(wrong[_i].queue, 0, wrong[_i].addr, wrong[_i].len, wrong[_i].flags);
    ck_assert(broken());
    input(INPUT_BALLOON_POLL, 0);
    input(INPUT_BALLOON, 1);
    start();
    ck_assert(!broken());
}
END_TEST

START_TEST(save_load_save)
{
    uint8_t *first, *second;
    size_t len, again;
    struct state_io io;

    input(INPUT_BALLOON, 7);
    rig_vreg_out(&rig, 0, CONF + 4, 6);
    stat(0, VBALLOON_MEMORY_FREE, 99);
    offer(VBALLOON_STATS_QUEUE, 0, LIST, 10, 0);
    len = rig_save(&rig, &first);
    rig_renew(&rig);
    ck_assert_int_eq(rig_load(&rig, first, len, &io), 0);
    again = rig_save(&rig, &second);
    ck_assert_uint_eq(again, len);
    ck_assert_mem_eq(first, second, len);
    ck_assert_uint_eq(rig_vreg_in(&rig, 0, CONF), 7);
    input(INPUT_BALLOON_POLL, 0); /* the held buffer came along */
    ck_assert(used(VBALLOON_STATS_QUEUE));
    free(first);
    free(second);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("vballoon");
    TCase *t = tcase_create("vballoon");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, target_and_actual);
    tcase_add_test(t, pages_become_ranges);
    tcase_add_test(t, more_ranges_than_fit);
    tcase_add_test(t, statistics);
    tcase_add_test(t, first_statistics_without_a_doorbell);
    tcase_add_loop_test(t, wrong_chains, 0, 6);
    tcase_add_test(t, save_load_save);
    suite_add_tcase(s, t);
    return s;
}

UNIT_MAIN(suite)
