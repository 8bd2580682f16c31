/* SPDX-License-Identifier: Apache-2.0 */
#include "base/qcow2_head.h"

#include <string.h>

#include "base/units.h"
#include "tests/unit/unit.h"

static uint8_t head[QCOW2_HEAD_LEN];

/* As qemu-img create -f qcow2 (7.2) writes it, 64 MiB. */
static void setup(void)
{
    static const uint8_t start[] = {'Q', 'F', 'I', 0xFB, 0, 0, 0, 3};

    memset(head, 0, sizeof head);
    memcpy(head, start, sizeof start);
    head[23] = 16;   /* cluster_bits */
    head[28] = 0x04; /* size, big-endian at 24 */
    head[103] = 104; /* header_length */
}

START_TEST(a_good_one)
{
    uint64_t bytes = 0;

    ck_assert_ptr_null(qcow2_head_check(head, sizeof head, &bytes));
    ck_assert_uint_eq(bytes, 64 << 20);
    head[7] = 2;
    ck_assert_ptr_null(qcow2_head_check(head, 72, &bytes));
}
END_TEST

static const struct {
    unsigned at;
    uint8_t value;
    const char *why;
} bad[] = {
    {0, 'X', "is not a qcow2 image"},
    {7, 1, "is of another version"},
    {7, 4, "is of another version"},
    {15, 1, "has a backing file"},
    {35, 1, "is encrypted"},
    {79, 2, "is marked as corrupt"},
    {79, 4, "has its data in another"},
    {28, 0, "has a virtual size"},
    {31, 1, "has a virtual size"},
    {24, 0x80, "has a virtual size"},
};

START_TEST(bad_ones)
{
    uint64_t bytes = 7;
    const char *why;

    head[bad[_i].at] = bad[_i].value;
    why = qcow2_head_check(head, sizeof head, &bytes);
    ck_assert_msg(why != NULL && strstr(why, bad[_i].why) != NULL, "%s", why);
    ck_assert_uint_eq(bytes, 7);
}
END_TEST

START_TEST(short_ones)
{
    uint64_t bytes = 7;

    for (size_t len = 0; len < sizeof head; len++) {
        ck_assert_ptr_nonnull(qcow2_head_check(head, len, &bytes));
    }
    ck_assert_uint_eq(bytes, 7);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("qcow2_head");
    TCase *t = tcase_create("qcow2_head");

    tcase_add_checked_fixture(t, setup, NULL);
    tcase_add_test(t, a_good_one);
    tcase_add_loop_test(t, bad_ones, 0, ARRAY_SIZE(bad));
    tcase_add_test(t, short_ones);
    suite_add_tcase(s, t);
    return s;
}

UNIT_MAIN(suite)
