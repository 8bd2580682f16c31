/* SPDX-License-Identifier: Apache-2.0 */
#include "ft/ft_pages.h"

#include <stdlib.h>
#include <string.h>

#include "tests/unit/unit.h"

#define RAM_PAGES 4096u
#define ROOM      (FT_HEADER_LEN + FT_BODY_MAX)

static uint8_t *bytes, *room;
static struct mig_ram *ram;
static struct ft_record record;

static void setup(void)
{
    bytes = malloc(FT_PAGES_MAX * MIG_PAGE);
    room = malloc(ROOM);
    ram = malloc(sizeof *ram);
    ck_assert(bytes != NULL && room != NULL && ram != NULL);
    for (size_t i = 0; i < FT_PAGES_MAX * MIG_PAGE; i++) {
        bytes[i] = (uint8_t)(i * 31 + i / MIG_PAGE);
    }
}

static void teardown(void)
{
    free(bytes);
    free(room);
    free(ram);
}

static void read_back(struct bytes_wr *wr)
{
    size_t len = ft_finish(wr, 1);

    ck_assert_uint_gt(len, 0);
    ck_assert_int_eq(ft_check(room, len, &record), FT_OK);
    ck_assert_int_eq(record.type, FT_PAGES);
}

static void put(uint64_t first, uint64_t count, const uint8_t *from)
{
    struct bytes_wr wr;

    ft_begin(&wr, room, ROOM, FT_PAGES, 0, 5, 0);
    ft_pages_put(&wr, ram, first, count, from);
    read_back(&wr);
}

/* One run, one kind, one block of 512 pages, and 48 of those that have bytes. */
START_TEST(what_a_record_takes)
{
    ck_assert_uint_eq(ft_pages_fit(0, 1, false), 1);
    ck_assert_uint_eq(ft_pages_fit(0, 47, false), 47);
    ck_assert_uint_eq(ft_pages_fit(0, 49, false), 48);
    ck_assert_uint_eq(ft_pages_fit(510, 49, false), 2);
    ck_assert_uint_eq(ft_pages_fit(512, 49, false), 48);
    ck_assert_uint_eq(ft_pages_fit(0, 10000, true), 512);
    ck_assert_uint_eq(ft_pages_fit(1023, 10000, true), 1);
    ck_assert_uint_eq(ft_pages_fit(1000, 3, true), 3);
}
END_TEST

START_TEST(pages_come_back)
{
    const uint8_t *at;

    put(464, FT_PAGES_MAX, bytes);
    ck_assert_int_eq(ft_pages_get(&record, RAM_PAGES, ram, &at), FT_OK);
    ck_assert_uint_eq(ram->run_count, 1);
    ck_assert_uint_eq(ram->run[0].first, 464);
    ck_assert_uint_eq(ram->run[0].count, FT_PAGES_MAX);
    ck_assert_int_eq(ram->run[0].kind, MIG_RAM_RAW);
    ck_assert_mem_eq(at, bytes, FT_PAGES_MAX * MIG_PAGE);

    put(512, 512, NULL);
    ck_assert_int_eq(ft_pages_get(&record, RAM_PAGES, ram, &at), FT_OK);
    ck_assert_int_eq(ram->run[0].kind, MIG_RAM_ZERO);
    ck_assert_uint_eq(ram->run[0].count, 512);
}
END_TEST

/* Gathered page by page, it is the same record. */
START_TEST(a_head_and_its_pages)
{
    uint8_t *whole = malloc(ROOM);
    struct bytes_wr wr;
    size_t len;

    ck_assert_ptr_nonnull(whole);
    put(7, 3, bytes);
    len = record.len;
    memcpy(whole, room, len);
    ft_begin(&wr, room, ROOM, FT_PAGES, 0, 5, 0);
    ft_pages_put_head(&wr, ram, 7, 3, false);
    for (unsigned i = 0; i < 3; i++) {
        bytes_wr_copy(&wr, bytes + i * MIG_PAGE, MIG_PAGE);
    }
    read_back(&wr);
    ck_assert_uint_eq(record.len, len);
    ck_assert_mem_eq(room, whole, len);
    free(whole);
}
END_TEST

START_TEST(what_is_no_pages)
{
    const uint8_t *at;
    size_t len;

    put(4090, 6, bytes);
    ck_assert_int_eq(ft_pages_get(&record, 4096, ram, &at), FT_OK);
    ck_assert_int_eq(ft_pages_get(&record, 4095, ram, &at), FT_BAD_BODY); /* beyond RAM */
    len = record.body_len;
    for (record.body_len = 0; record.body_len < len; record.body_len += 7) {
        ck_assert_int_eq(ft_pages_get(&record, 4096, ram, &at), FT_BAD_BODY);
    }
    record.body_len = len - 1;
    ck_assert_int_eq(ft_pages_get(&record, 4096, ram, &at), FT_BAD_BODY);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("ft_pages");
    TCase *tc = tcase_create("pages");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, what_a_record_takes);
    tcase_add_test(tc, pages_come_back);
    tcase_add_test(tc, a_head_and_its_pages);
    tcase_add_test(tc, what_is_no_pages);
    suite_add_tcase(s, tc);
    return s;
}

UNIT_MAIN(suite)
