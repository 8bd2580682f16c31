/* SPDX-License-Identifier: Apache-2.0 */
#include "base/frame.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "tests/unit/golden.h"
#include "tests/unit/unit.h"

#define MAGIC    UINT32_C(0x4c4d4547) /* "GEML": of this test only */
#define BODY_MAX 1024

/* What tests/golden/wire/v1/frame.bin holds; see the README there. */
static const char golden_body[] = "the quick brown twin";

static enum frame_reason check_exact(const uint8_t *bytes, size_t len,
                                     struct frame *ret_frame)
{
    uint8_t *copy = malloc(len > 0 ? len : 1);
    enum frame_reason reason;

    ck_assert_ptr_nonnull(copy);
    memcpy(copy, bytes, len);
    reason = frame_check(copy, len, MAGIC, BODY_MAX, ret_frame);
    free(copy);
    return reason;
}

START_TEST(random_frames_go_round)
{
    uint8_t body[BODY_MAX], buf[FRAME_HEADER_LEN + BODY_MAX + 8];

    srandom((unsigned)_i);
    for (int round = 0; round < 100; round++) {
        struct frame in = {.type = (uint16_t)(1 + random() % 0x7fff),
                           .version = (uint16_t)(1 + random() % 0xffff),
                           .seq = (uint64_t)random() << 33 ^ (uint64_t)random(),
                           .body = body,
                           .body_len = (uint32_t)(random() % (BODY_MAX + 1))};
        struct frame out;
        size_t len;

        for (uint32_t i = 0; i < in.body_len; i++) {
            body[i] = (uint8_t)random();
        }
        len = frame_encode(&in, MAGIC, buf, sizeof buf);
        ck_assert_uint_eq(len, FRAME_HEADER_LEN + in.body_len);
        /* More bytes behind it are the next frame's. */
        ck_assert_int_eq(frame_check(buf, sizeof buf, MAGIC, BODY_MAX, &out), FRAME_OK);
        ck_assert_uint_eq(out.type, in.type);
        ck_assert_uint_eq(out.version, in.version);
        ck_assert_uint_eq(out.seq, in.seq);
        ck_assert_uint_eq(out.body_len, in.body_len);
        ck_assert(out.body_len == 0 || memcmp(out.body, body, in.body_len) == 0);
        ck_assert_ptr_eq(out.body, buf + FRAME_HEADER_LEN);
    }
}
END_TEST

START_TEST(a_body_may_lie_in_place)
{
    uint8_t buf[FRAME_HEADER_LEN + 5];
    struct frame in = {
        .type = 7, .version = 1, .body = buf + FRAME_HEADER_LEN, .body_len = 5};
    struct frame out;

    memcpy(buf + FRAME_HEADER_LEN, "12345", 5);
    ck_assert_uint_eq(frame_encode(&in, MAGIC, buf, sizeof buf), sizeof buf);
    ck_assert_int_eq(check_exact(buf, sizeof buf, &out), FRAME_OK);
    ck_assert_mem_eq(buf + FRAME_HEADER_LEN, "12345", 5);
    ck_assert_uint_eq(frame_encode(&in, MAGIC, buf, sizeof buf - 1), 0);
    ck_assert_uint_eq(frame_encode(&in, MAGIC, buf, 0), 0);
}
END_TEST

START_TEST(golden_frame_of_version_1_stays_readable)
{
    struct frame f,
        again = {.type = 0x8042, .version = 1, .seq = UINT64_C(0x0123456789abcdef)};
    uint8_t buf[128];
    size_t len;
    uint8_t *golden = golden_load("wire/v1/frame.bin", &len);

    ck_assert_int_eq(frame_check(golden, len, MAGIC, BODY_MAX, &f), FRAME_OK);
    ck_assert_uint_eq(f.type, 0x42 | FRAME_TYPE_OPTIONAL);
    ck_assert_uint_eq(f.version, 1);
    ck_assert_uint_eq(f.seq, UINT64_C(0x0123456789abcdef));
    ck_assert_uint_eq(f.body_len, strlen(golden_body));
    ck_assert_mem_eq(f.body, golden_body, f.body_len);

    again.body = (const uint8_t *)golden_body;
    again.body_len = (uint32_t)strlen(golden_body);
    ck_assert_uint_eq(frame_encode(&again, MAGIC, buf, sizeof buf), len);
    ck_assert_mem_eq(buf, golden, len);
    free(golden);
}
END_TEST

START_TEST(every_truncation_asks_for_more)
{
    size_t len;
    uint8_t *golden = golden_load("wire/v1/frame.bin", &len);
    struct frame f = {.type = 99};

    for (size_t cut = 0; cut < len; cut++) {
        ck_assert_int_eq(check_exact(golden, cut, &f), FRAME_NEED_MORE);
        ck_assert_uint_eq(f.type, 99); /* written only on success */
    }
    ck_assert_int_eq(check_exact(golden, len, &f), FRAME_OK);
    free(golden);
}
END_TEST

START_TEST(every_single_bit_flip_is_refused)
{
    size_t len;
    uint8_t *golden = golden_load("wire/v1/frame.bin", &len);

    for (size_t bit = 0; bit < len * 8; bit++) {
        struct frame f;
        enum frame_reason reason;

        golden[bit / 8] ^= (uint8_t)(1u << bit % 8);
        reason = check_exact(golden, len, &f);
        /* A broken length must not make a stream reader wait: the header's crc says so
         * first. */
        ck_assert_msg(reason != FRAME_OK && reason != FRAME_NEED_MORE, "bit %zu: %s", bit,
                      frame_reason_str(reason));
        golden[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    free(golden);
}
END_TEST

/* A header with one field changed and its crc made right again: only the meaning is
 * wrong. */
static enum frame_reason reason_with(size_t at, const void *bytes, size_t count)
{
    uint8_t buf[FRAME_HEADER_LEN + 4];
    struct frame f = {
        .type = 1, .version = 1, .body = (const uint8_t *)"body", .body_len = 4};
    struct bytes_wr crc = bytes_wr_make(buf + FRAME_HEADER_LEN - 4, 4);

    ck_assert_uint_eq(frame_encode(&f, MAGIC, buf, sizeof buf), sizeof buf);
    memcpy(buf + at, bytes, count);
    bytes_wr_u32(&crc, crc32c(0, buf, FRAME_HEADER_LEN - 4));
    return check_exact(buf, sizeof buf, &f);
}

START_TEST(each_reason_is_named)
{
    ck_assert_int_eq(reason_with(0, "", 0), FRAME_OK);
    ck_assert_int_eq(reason_with(0, "XXXX", 4), FRAME_BAD_MAGIC);
    ck_assert_int_eq(reason_with(4, "\0\0", 2), FRAME_BAD_TYPE);
    ck_assert_int_eq(reason_with(4, "\0\x80", 2), FRAME_BAD_TYPE);
    ck_assert_int_eq(reason_with(6, "\0\0", 2), FRAME_BAD_VERSION);
    ck_assert_int_eq(reason_with(16, "\1\4\0\0", 4), FRAME_TOO_LONG); /* BODY_MAX + 1 */
    ck_assert_int_eq(reason_with(16, "\xff\xff\xff\xff", 4), FRAME_TOO_LONG);
    ck_assert_int_eq(reason_with(16, "\5\0\0\0", 4), FRAME_NEED_MORE);
    ck_assert_int_eq(reason_with(16, "\3\0\0\0", 4), FRAME_BAD_BODY_CRC);
    ck_assert_int_eq(reason_with(20, "\1\0\0\0", 4), FRAME_BAD_RESERVED);
    for (int reason = FRAME_OK; reason <= FRAME_BAD_BODY_CRC; reason++) {
        ck_assert_str_ne(frame_reason_str((enum frame_reason)reason), "unknown reason");
    }
    ck_assert_str_eq(frame_reason_str((enum frame_reason)99), "unknown reason");
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("frame");
    TCase *tc = tcase_create("frame");

    tcase_add_loop_test(tc, random_frames_go_round, 0, 20);
    tcase_add_test(tc, a_body_may_lie_in_place);
    tcase_add_test(tc, golden_frame_of_version_1_stays_readable);
    tcase_add_test(tc, every_truncation_asks_for_more);
    tcase_add_test(tc, every_single_bit_flip_is_refused);
    tcase_add_test(tc, each_reason_is_named);
    suite_add_tcase(s, tc);
    return s;
}

UNIT_MAIN(suite)
