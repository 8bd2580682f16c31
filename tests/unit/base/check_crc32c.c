/* SPDX-License-Identifier: Apache-2.0 */
#include "base/crc32c.h"

#include <string.h>

#include "tests/unit/unit.h"

/* Bit by bit, from the definition: what the tables are checked against. */
static uint32_t reference(uint32_t crc, const uint8_t *p, size_t len)
{
    crc = ~crc;
    for (; len > 0; len--) {
        crc ^= *p++;
        for (int bit = 0; bit < 8; bit++) {
            crc = crc >> 1 ^ (crc & 1 ? UINT32_C(0x82F63B78) : 0);
        }
    }
    return ~crc;
}

START_TEST(vectors_of_rfc_3720)
{
    uint8_t buf[32];

    ck_assert_uint_eq(crc32c(0, "123456789", 9), 0xE3069283);
    memset(buf, 0, sizeof buf);
    ck_assert_uint_eq(crc32c(0, buf, sizeof buf), 0x8A9136AA);
    memset(buf, 0xff, sizeof buf);
    ck_assert_uint_eq(crc32c(0, buf, sizeof buf), 0x62A8AB43);
    for (unsigned i = 0; i < sizeof buf; i++) {
        buf[i] = (uint8_t)i;
    }
    ck_assert_uint_eq(crc32c(0, buf, sizeof buf), 0x46DD794E);
    for (unsigned i = 0; i < sizeof buf; i++) {
        buf[i] = (uint8_t)(31 - i);
    }
    ck_assert_uint_eq(crc32c(0, buf, sizeof buf), 0x113FDB5C);
    ck_assert_uint_eq(crc32c(0, NULL, 0), 0);
}
END_TEST

/* A start value of ~0 makes the running crc 0, so that byte n at place k picks exactly
 * table[7 - k][n]. */
START_TEST(every_table_entry)
{
    for (unsigned place = 0; place < 8; place++) {
        for (unsigned n = 0; n < 256; n++) {
            uint8_t buf[8] = {0};

            buf[place] = (uint8_t)n;
            ck_assert_uint_eq(crc32c_table(~0u, buf, 8), reference(~0u, buf, 8));
            ck_assert_uint_eq(crc32c(~0u, buf, 8), reference(~0u, buf, 8));
        }
    }
}
END_TEST

START_TEST(any_length_alignment_and_split)
{
    uint8_t buf[80];

    for (unsigned i = 0; i < sizeof buf; i++) {
        buf[i] = (uint8_t)(i * 37 + 11);
    }
    for (size_t start = 0; start < 8; start++) {
        for (size_t len = 0; len <= sizeof buf - start; len++) {
            uint32_t want = reference(0, buf + start, len);
            size_t split = len * 3 / 7;

            ck_assert_uint_eq(crc32c(0, buf + start, len), want);
            ck_assert_uint_eq(crc32c_table(0, buf + start, len), want);
            ck_assert_uint_eq(
                crc32c(crc32c(0, buf + start, split), buf + start + split, len - split),
                want);
        }
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("crc32c");
    TCase *tc = tcase_create("crc32c");

    tcase_add_test(tc, vectors_of_rfc_3720);
    tcase_add_test(tc, every_table_entry);
    tcase_add_test(tc, any_length_alignment_and_split);
    suite_add_tcase(s, tc);
    return s;
}

UNIT_MAIN(suite)
