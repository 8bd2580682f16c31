/* SPDX-License-Identifier: Apache-2.0 */
/* Guest memory and the bus: address arithmetic against a model in 128-bit numbers. */
#include <errno.h>
#include <string.h>

#include "tests/unit/unit.h"
#include "vmm/bus.h"
#include "vmm/gmem.h"

typedef unsigned __int128 u128;

static uint8_t low[0x4000] __attribute__((aligned(4096)));
static uint8_t rom[0x2000] __attribute__((aligned(4096)));
static uint64_t dirty[1];

#define ROM_BASE UINT64_C(0xFFFFE000)

static struct gmem make(void)
{
    struct gmem gm = {0};

    memset(low, 0x11, sizeof low);
    memset(rom, 0x22, sizeof rom);
    dirty[0] = 0;
    ck_assert_int_eq(gmem_add(&gm, (struct gpa){0}, sizeof low, low, false, dirty), 0);
    ck_assert_int_eq(gmem_add(&gm, (struct gpa){ROM_BASE}, sizeof rom, rom, true, NULL),
                     0);
    return gm;
}

START_TEST(address_ranges)
{
    static const uint64_t near[] = {
        0, 0x1000, 0x4000, ROM_BASE, ROM_BASE + 0x2000, UINT64_MAX};
    static const size_t lens[] = {1,      2,      16,     0xFFF, 0x1000,
                                  0x2000, 0x2001, 0x4000, 0x4001};
    struct gmem gm = make();
    static uint8_t buf[0x8000];

    for (size_t n = 0; n < 6; n++) {
        for (int d = -20; d <= 20; d++) {
            for (size_t l = 0; l < 9; l++) {
                uint64_t addr = near[n] + (uint64_t)d;
                u128 end = (u128)addr + lens[l];
                bool in_ram = end <= sizeof low;
                bool in_rom = addr >= ROM_BASE && end <= (u128)ROM_BASE + sizeof rom;
                struct gpa gpa = {addr};

                ck_assert_int_eq(gmem_read(&gm, gpa, buf, lens[l]), in_ram || in_rom);
                ck_assert_int_eq(gmem_write(&gm, gpa, buf, lens[l]), in_ram);
                ck_assert_int_eq(gmem_check(&gm, gpa, lens[l], false), in_ram || in_rom);
                ck_assert_int_eq(gmem_check(&gm, gpa, lens[l], true), in_ram);
                ck_assert_int_eq(gmem_slice(&gm, gpa, lens[l], true) != NULL, in_ram);
                ck_assert_int_eq(gmem_slice(&gm, gpa, lens[l], false) != NULL,
                                 in_ram || in_rom);
            }
        }
    }
    ck_assert(gmem_read(&gm, (struct gpa){UINT64_MAX}, buf, 0));
    ck_assert(gmem_slice(&gm, (struct gpa){0}, 0, false) == NULL);
    ck_assert(!gmem_read(&gm, (struct gpa){0x10}, buf, SIZE_MAX));
}
END_TEST

START_TEST(dirty_pages)
{
    struct gmem gm = make();
    uint8_t byte = 7;
    static uint8_t page[0x1001];
    uint16_t v;

    ck_assert(gmem_write(&gm, (struct gpa){0x1FFF}, &byte, 1));
    ck_assert_uint_eq(dirty[0], 2);
    ck_assert(gmem_write(&gm, (struct gpa){0x2FFF}, page, sizeof page)); /* three pages */
    ck_assert_uint_eq(dirty[0], 2 | 4 | 8);
    dirty[0] = 0;
    ck_assert(gmem_slice(&gm, (struct gpa){0}, 16, false) != NULL);
    ck_assert(gmem_load16(&gm, (struct gpa){0}, &v));
    ck_assert(gmem_read(&gm, (struct gpa){0}, page, 16));
    ck_assert_uint_eq(dirty[0], 0);
    ck_assert(gmem_store16(&gm, (struct gpa){0x3FFE}, 0xABCD));
    ck_assert_uint_eq(dirty[0], 8);
    gmem_mark_dirty(&gm, (struct gpa){0xFFF}, 2);
    ck_assert_uint_eq(dirty[0], 8 | 3);
    gmem_mark_dirty(&gm, (struct gpa){0x3FFF}, 2); /* not wholly RAM: ignored */
    ck_assert(!gmem_store16(&gm, (struct gpa){0x3FFF}, 1));
    ck_assert(!gmem_store16(&gm, (struct gpa){0x11}, 1)); /* unaligned */
    ck_assert(!gmem_load16(&gm, (struct gpa){0x11}, &v));
    ck_assert(!gmem_store16(&gm, (struct gpa){ROM_BASE}, 1));
}
END_TEST

START_TEST(refused_regions)
{
    struct gmem gm = make();

    ck_assert_int_eq(gmem_add(&gm, (struct gpa){0x8000}, 0, low, false, NULL), -EINVAL);
    ck_assert_int_eq(gmem_add(&gm, (struct gpa){0x8000}, 0x1000, NULL, false, NULL),
                     -EINVAL);
    ck_assert_int_eq(gmem_add(&gm, (struct gpa){0x8001}, 0x1000, low, false, NULL),
                     -EINVAL);
    ck_assert_int_eq(gmem_add(&gm, (struct gpa){0x8000}, 0x1001, low, false, NULL),
                     -EINVAL);
    ck_assert_int_eq(gmem_add(&gm, (struct gpa){0x3000}, 0x1000, low, false, NULL),
                     -EINVAL);
    ck_assert_int_eq(
        gmem_add(&gm, (struct gpa){UINT64_MAX - 0xFFF}, 0x1000, low, false, NULL),
        -EINVAL);
    for (uint64_t i = gm.region_count; i < GMEM_REGIONS_MAX; i++) {
        ck_assert_int_eq(
            gmem_add(&gm, (struct gpa){0x10000 * i}, 0x1000, low, false, NULL), 0);
    }
    ck_assert_int_eq(gmem_add(&gm, (struct gpa){0x1000000}, 0x1000, low, false, NULL),
                     -ENOSPC);
}
END_TEST

START_TEST(bus_lookup)
{
    struct bus bus = {0};
    static const struct bus_range ranges[] = {
        {.base = 0x3F8, .len = 8, .dev_index = 1},
        {.base = 0x20, .len = 2, .dev_index = 2},
        {.base = 0x400, .len = 1, .dev_index = 3},
        {.base = 0x22, .len = 2, .dev_index = 4},
        {.base = UINT64_MAX - 8, .len = 8, .dev_index = 5},
    };

    ck_assert(bus_find(&bus, 0, 1) == NULL);
    for (size_t i = 0; i < 5; i++) {
        ck_assert_int_eq(bus_add(&bus, &ranges[i]), 0);
        ck_assert_int_eq(bus_add(&bus, &ranges[i]), -EEXIST);
    }
    for (uint64_t addr = 0; addr < 0x500; addr++) {
        for (unsigned len = 1; len <= 8; len *= 2) {
            const struct bus_range *found = bus_find(&bus, addr, len), *expected = NULL;

            for (size_t i = 0; i < 5; i++) {
                if (addr >= ranges[i].base &&
                    addr + len <= ranges[i].base + ranges[i].len) {
                    expected = &ranges[i];
                }
            }
            ck_assert_int_eq(found != NULL, expected != NULL);
            ck_assert(found == NULL || found->dev_index == expected->dev_index);
        }
    }
    ck_assert(bus_find(&bus, UINT64_MAX - 8, 8) != NULL);
    ck_assert(bus_find(&bus, UINT64_MAX - 7, 8) == NULL);
    ck_assert(bus_find(&bus, UINT64_MAX, 1) == NULL);
    ck_assert_int_eq(bus_add(&bus, &(struct bus_range){.base = 0x3FF, .len = 1}),
                     -EEXIST);
    ck_assert_int_eq(bus_add(&bus, &(struct bus_range){.base = 5, .len = 0}), -EINVAL);
    ck_assert_int_eq(bus_add(&bus, &(struct bus_range){.base = UINT64_MAX, .len = 2}),
                     -EINVAL);
    for (unsigned i = bus.range_count; i < BUS_RANGES_MAX; i++) {
        ck_assert_int_eq(bus_add(&bus, &(struct bus_range){.base = 0x1000 + i, .len = 1}),
                         0);
    }
    ck_assert_int_eq(bus_add(&bus, &(struct bus_range){.base = 0x10, .len = 1}), -ENOSPC);
}
END_TEST

static Suite *gmem_suite(void)
{
    Suite *suite = suite_create("gmem");
    TCase *tc = tcase_create("gmem");

    tcase_add_test(tc, address_ranges);
    tcase_add_test(tc, dirty_pages);
    tcase_add_test(tc, refused_regions);
    tcase_add_test(tc, bus_lookup);
    suite_add_tcase(suite, tc);
    return suite;
}

UNIT_MAIN(gmem_suite)
