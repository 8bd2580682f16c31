/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bytes.h"

#include <string.h>

#include "tests/unit/unit.h"

START_TEST(every_type_goes_round)
{
    uint8_t buf[64], copy[3] = {0};
    char text[8];
    struct bytes_wr wr = bytes_wr_make(buf, sizeof buf);
    struct bytes_rd rd;

    bytes_wr_u8(&wr, 0xfe);
    bytes_wr_u16(&wr, 0x1234);
    bytes_wr_u32(&wr, 0x89abcdef);
    bytes_wr_u64(&wr, UINT64_C(0xfedcba9876543210));
    bytes_wr_copy(&wr, "xyz", 3);
    bytes_wr_str(&wr, "gemel");
    ck_assert(!wr.failed);
    ck_assert_uint_eq(wr.pos, 1 + 2 + 4 + 8 + 3 + 2 + 5);
    ck_assert_mem_eq(buf + 1, "\x34\x12\xef\xcd\xab\x89",
                     6); /* little endian on the wire */

    rd = bytes_rd_make(buf, wr.pos);
    ck_assert_uint_eq(bytes_rd_u8(&rd), 0xfe);
    ck_assert_uint_eq(bytes_rd_u16(&rd), 0x1234);
    ck_assert_uint_eq(bytes_rd_u32(&rd), 0x89abcdef);
    ck_assert_uint_eq(bytes_rd_u64(&rd), UINT64_C(0xfedcba9876543210));
    bytes_rd_copy(&rd, copy, sizeof copy);
    ck_assert_mem_eq(copy, "xyz", 3);
    ck_assert(!bytes_rd_done(&rd));
    bytes_rd_str(&rd, text, sizeof text);
    ck_assert_str_eq(text, "gemel");
    ck_assert(bytes_rd_done(&rd));
}
END_TEST

START_TEST(a_read_past_the_end_fails_for_good)
{
    static const uint8_t buf[3] = {1, 2, 3};
    uint8_t copy[4] = {9, 9, 9, 9};
    struct bytes_rd rd = bytes_rd_make(buf, sizeof buf);

    ck_assert_uint_eq(bytes_rd_u32(&rd), 0);
    ck_assert(rd.failed);
    ck_assert_uint_eq(bytes_rd_u8(&rd), 0); /* although one byte is there */
    ck_assert_ptr_null(bytes_rd_view(&rd, 0));
    bytes_rd_copy(&rd, copy, sizeof copy);
    ck_assert_mem_eq(copy, "\0\0\0\0", 4);
    ck_assert_uint_eq(bytes_rd_left(&rd), 0);
    ck_assert(!bytes_rd_done(&rd));
}
END_TEST

START_TEST(a_huge_length_does_not_wrap)
{
    uint8_t buf[4] = {0};
    struct bytes_rd rd = bytes_rd_make(buf, sizeof buf);
    struct bytes_wr wr = bytes_wr_make(buf, sizeof buf);

    bytes_rd_u8(&rd);
    ck_assert_ptr_null(bytes_rd_view(&rd, SIZE_MAX));
    ck_assert(rd.failed);
    bytes_wr_u8(&wr, 1);
    bytes_wr_copy(&wr, buf, SIZE_MAX);
    ck_assert(wr.failed);
    ck_assert_uint_eq(wr.pos, 1);
}
END_TEST

START_TEST(a_write_past_the_end_writes_nothing)
{
    uint8_t buf[4] = {7, 7, 7, 7};
    struct bytes_wr wr = bytes_wr_make(buf, 3);

    bytes_wr_u16(&wr, 0x0101);
    bytes_wr_u16(&wr, 0x0202);
    ck_assert(wr.failed);
    ck_assert_uint_eq(wr.pos, 2);
    ck_assert_mem_eq(buf, "\1\1\7\7", 4);
    bytes_wr_u8(&wr, 3);
    ck_assert_mem_eq(buf, "\1\1\7\7", 4);
}
END_TEST

static bool str_fails(const char *raw, size_t len, size_t cap)
{
    char text[8];
    struct bytes_rd rd = bytes_rd_make(raw, len);

    bytes_rd_str(&rd, text, cap);
    ck_assert(cap == 0 || !rd.failed || text[0] == '\0');
    return rd.failed;
}

START_TEST(strings_are_bounded_and_clean)
{
    char longer[UINT16_MAX + 2];
    uint8_t buf[8];
    struct bytes_wr wr = bytes_wr_make(buf, sizeof buf);

    ck_assert(!str_fails("\3\0abc", 5, 4));
    ck_assert(!str_fails("\0\0", 2, 1));
    ck_assert(str_fails("\3\0abc", 5, 3));  /* no room for the NUL */
    ck_assert(str_fails("\3\0ab", 4, 8));   /* shorter than it says */
    ck_assert(str_fails("\3\0a\0c", 5, 8)); /* embedded NUL */
    ck_assert(str_fails("\xff\xff"
                        "abc",
                        5, 8)); /* far longer than it is */
    ck_assert(str_fails("\0\0", 2, 0));
    ck_assert(str_fails("\0", 1, 8));

    memset(longer, 'x', sizeof longer);
    longer[sizeof longer - 1] = '\0';
    bytes_wr_str(&wr, longer);
    ck_assert(wr.failed);
    ck_assert_uint_eq(wr.pos, 0);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("bytes");
    TCase *tc = tcase_create("bytes");

    tcase_add_test(tc, every_type_goes_round);
    tcase_add_test(tc, a_read_past_the_end_fails_for_good);
    tcase_add_test(tc, a_huge_length_does_not_wrap);
    tcase_add_test(tc, a_write_past_the_end_writes_nothing);
    tcase_add_test(tc, strings_are_bounded_and_clean);
    suite_add_tcase(s, tc);
    return s;
}

UNIT_MAIN(suite)
