/* SPDX-License-Identifier: Apache-2.0 */
/* The marks of a disk's writes, against a model of bytes. */
#include <stdint.h>
#include <string.h>

#include "base/uuid.h"
#include "tests/unit/unit.h"
#include "vmm/disk_marks.h"

#define SECTORS  8999u /* 71 granules: two words, the last granule in part */
#define GRANULES 71u

static uint64_t words[8], seen[2];
static struct disk_marks m;

static void make(void)
{
    memset(words, 0, sizeof words);
    memset(seen, 0, sizeof seen);
    ck_assert_uint_eq(disk_marks_granules(SECTORS), GRANULES);
    ck_assert_uint_eq(disk_marks_words(SECTORS), 2);
    disk_marks_init(&m, words, SECTORS);
}

static bool has(unsigned granule)
{
    return (seen[granule / 64] >> granule % 64 & 1) != 0;
}

START_TEST(granules_of_a_write)
{
    static const struct {
        uint64_t sector, bytes;
        unsigned first, count;
    } write[] = {{0, 512, 0, 1},
                 {127, 512, 0, 1},
                 {127, 1024, 0, 2},
                 {128, 65536, 1, 1},
                 {128, 65537, 1, 2},
                 {63 * 128, 2 * 65536, 63, 2},
                 {SECTORS - 1, 512, 70, 1},
                 /* what a guest makes up */
                 {SECTORS - 1, UINT32_MAX, 70, 1},
                 {0, UINT32_MAX, 0, GRANULES},
                 {SECTORS + 128, 512, 0, 0},
                 {UINT64_MAX, 1024, 0, 0},
                 {UINT64_MAX - 1, UINT32_MAX, 0, 0},
                 {5, 0, 0, 0}};

    for (size_t i = 0; i < sizeof write / sizeof write[0]; i++) {
        make();
        disk_marks_add(&m, write[i].sector, write[i].bytes);
        ck_assert_uint_eq(disk_marks_collect(&m, seen), write[i].count);
        for (unsigned g = 0; g < 128; g++) {
            ck_assert_int_eq(has(g),
                             g >= write[i].first && g < write[i].first + write[i].count);
        }
        ck_assert_uint_eq(words[4] | words[5], 0);
    }
}
END_TEST

START_TEST(collecting_forgets)
{
    make();
    disk_marks_add(&m, 0, 512);
    seen[0] = 1u << 9; /* merged into what is there */
    ck_assert_uint_eq(disk_marks_collect(&m, seen), 1);
    ck_assert_uint_eq(seen[0], 1u << 9 | 1);
    seen[0] = 0;
    ck_assert_uint_eq(disk_marks_collect(&m, seen), 0);
    ck_assert_uint_eq(seen[0], 0);
}
END_TEST

START_TEST(a_base)
{
    struct uuid none = {{0}}, a = uuid_random(), b = uuid_random();

    make();
    disk_marks_add(&m, 0, 512); /* before it has one */
    ck_assert(!disk_marks_since(&m, &none, seen));
    ck_assert(!disk_marks_since(&m, &a, seen));
    disk_marks_rebase(&m, &a);
    ck_assert(disk_marks_since(&m, &a, seen));
    ck_assert_uint_eq(seen[0], 0);
    disk_marks_add(&m, 128 * 3, 512);
    ck_assert_uint_eq(disk_marks_collect(&m, seen), 2); /* collecting is another matter */
    seen[0] = 0;
    ck_assert(disk_marks_since(&m, &a, seen));
    ck_assert_uint_eq(seen[0], 1u << 3);
    ck_assert(disk_marks_since(&m, &a, seen)); /* it stays, until there is another one */
    ck_assert(!disk_marks_since(&m, &b, seen));
    disk_marks_rebase(&m, &b);
    seen[0] = 0;
    ck_assert(!disk_marks_since(&m, &a, seen));
    ck_assert(disk_marks_since(&m, &b, seen));
    ck_assert_uint_eq(seen[0], 0);
}
END_TEST

/* Random writes: each byte that was written to lies in a granule that was told. */
START_TEST(a_model)
{
    static uint8_t written[SECTORS];
    uint64_t x = 88172645463325252u;

    for (unsigned round = 0; round < 500; round++) {
        make();
        memset(written, 0, sizeof written);
        for (unsigned n = 0; n < 5; n++) {
            uint64_t sector, count;

            x ^= x << 13, x ^= x >> 7, x ^= x << 17;
            sector = x % SECTORS;
            count = 1 + x / SECTORS % 300;
            disk_marks_add(&m, sector, count * 512);
            for (uint64_t s = sector; s < sector + count && s < SECTORS; s++) {
                written[s] = 1;
            }
        }
        (void)disk_marks_collect(&m, seen);
        for (unsigned g = 0; g < GRANULES; g++) {
            bool any = memchr(written + g * 128, 1,
                              g == GRANULES - 1 ? SECTORS - g * 128 : 128) != NULL;

            ck_assert_int_eq(has(g), any);
        }
    }
}
END_TEST

static Suite *marks_suite(void)
{
    Suite *suite = suite_create("disk_marks");
    TCase *tc = tcase_create("disk_marks");

    tcase_add_test(tc, granules_of_a_write);
    tcase_add_test(tc, collecting_forgets);
    tcase_add_test(tc, a_base);
    tcase_add_test(tc, a_model);
    suite_add_tcase(suite, tc);
    return suite;
}

UNIT_MAIN(marks_suite)
