/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/mig_ram.h"

#include <stdlib.h>
#include <string.h>

#include "tests/unit/golden.h"
#include "tests/unit/migrate/mig_rand.h"
#include "tests/unit/unit.h"

static const struct mig_ram_conf one = {
    .page_count = 4096, .stream = 0, .n_streams = 1, .discard = true};
static struct mig_ram frame, got;
static uint8_t head[MIG_RAM_HEAD_MAX];

/* Three runs with a page count that ends in the middle of the last block. */
static size_t example(void)
{
    mig_ram_begin(&frame, 7);
    mig_ram_add(&frame, MIG_RAM_RAW, 3, 2);
    mig_ram_add(&frame, MIG_RAM_ZERO, 5, 507);
    mig_ram_add(&frame, MIG_RAM_DISCARD, 600, 1);
    mig_ram_add(&frame, MIG_RAM_RAW, 4095, 1);
    frame.has_crc = false;
    return mig_ram_encode(&frame, head);
}
#define EXAMPLE_BODY(len) ((len) + 3 * MIG_PAGE)

static void put(size_t at, unsigned len, uint64_t value)
{
    for (unsigned i = 0; i < len; i++) {
        head[at + i] = (uint8_t)(value >> 8 * i);
    }
}

static enum mig_ram_reason decode(const struct mig_ram_conf *conf, size_t len,
                                  uint64_t body_len)
{
    enum mig_ram_reason reason;
    uint8_t *copy = malloc(len); /* so that ASan sees a read too far */

    memcpy(copy, head, len);
    reason = mig_ram_decode(conf, copy, len, body_len, &got);
    free(copy);
    return reason;
}

static void expect_same(void)
{
    ck_assert_uint_eq(got.round, frame.round);
    ck_assert_uint_eq(got.run_count, frame.run_count);
    ck_assert_uint_eq(got.raw_pages, frame.raw_pages);
    ck_assert_uint_eq(got.pages, frame.pages);
    ck_assert_int_eq(got.has_crc, frame.has_crc);
    for (uint32_t i = 0; i < frame.run_count; i++) {
        ck_assert_uint_eq(got.run[i].first, frame.run[i].first);
        ck_assert_uint_eq(got.run[i].count, frame.run[i].count);
        ck_assert_int_eq(got.run[i].kind, frame.run[i].kind);
    }
}

START_TEST(a_frame_goes_round)
{
    size_t len = example();
    enum mig_ram_reason reason;

    ck_assert_uint_eq(len, 16 + 4 * 16);
    ck_assert_uint_eq(mig_ram_head_len(head, EXAMPLE_BODY(len), &reason), len);
    ck_assert_int_eq(decode(&one, len, EXAMPLE_BODY(len)), MIG_RAM_OK);
    expect_same();
    ck_assert_uint_eq(got.pages, 2 + 507 + 1 + 1);
}
END_TEST

/* tests/golden/wire/v1/mig_ram.bin: this head, written once. */
START_TEST(golden_bytes)
{
    size_t len = example(), golden_len;
    unsigned char *golden = golden_load("wire/v1/mig_ram.bin", &golden_len);

    ck_assert_uint_eq(golden_len, len);
    ck_assert_mem_eq(golden, head, len);
    ck_assert_int_eq(mig_ram_decode(&one, golden, golden_len, EXAMPLE_BODY(len), &got),
                     MIG_RAM_OK);
    expect_same();
    free(golden);
}
END_TEST

START_TEST(neighbours_are_joined_within_a_block)
{
    mig_ram_begin(&frame, 1);
    mig_ram_add(&frame, MIG_RAM_ZERO, 510, 1);
    mig_ram_add(&frame, MIG_RAM_ZERO, 511, 1);
    mig_ram_add(&frame, MIG_RAM_ZERO, 512, 1);
    mig_ram_add(&frame, MIG_RAM_RAW, 513, 1);
    ck_assert_uint_eq(frame.run_count, 3);
    ck_assert_uint_eq(frame.run[0].count, 2);
    ck_assert_uint_eq(mig_ram_room(&frame), MIG_RAM_RUNS_MAX - 3);
}
END_TEST

START_TEST(a_full_frame_is_one_writev)
{
    struct mig_ram_conf conf = one;
    static struct iovec iov[MIG_RAM_RUNS_MAX];
    uint64_t page = 0;
    size_t len;

    conf.page_count = 1 << 20;
    mig_ram_begin(&frame, 1);
    while (mig_ram_room(&frame) > 0) {
        mig_ram_add(&frame, MIG_RAM_RAW, page, 1);
        page += 2;
    }
    ck_assert_uint_eq(frame.run_count, MIG_RAM_RUNS_MAX);
    ck_assert_uint_eq(frame.raw_pages, MIG_RAM_PAGES_MAX);
    ck_assert_uint_eq(mig_ram_iov(&frame, NULL, iov), MIG_RAM_RUNS_MAX);
    len = mig_ram_encode(&frame, head);
    ck_assert_uint_eq(len, MIG_RAM_HEAD_MAX);
    ck_assert_int_eq(decode(&conf, len, MIG_RAM_BODY_MAX), MIG_RAM_OK);
    expect_same();
}
END_TEST

START_TEST(iovecs_lie_in_ram)
{
    static uint8_t base[1];
    struct iovec iov[MIG_RAM_RUNS_MAX];

    (void)example();
    ck_assert_uint_eq(mig_ram_iov(&frame, base, iov), 2);
    ck_assert_ptr_eq(iov[0].iov_base, base + 3 * MIG_PAGE);
    ck_assert_uint_eq(iov[0].iov_len, 2 * MIG_PAGE);
    ck_assert_ptr_eq(iov[1].iov_base, base + 4095 * MIG_PAGE);
    ck_assert_uint_eq(iov[1].iov_len, MIG_PAGE);
}
END_TEST

/* One field wrong, each: the reason names it. Offsets in the head of example(). */
START_TEST(hostile_heads_are_refused)
{
    static const struct {
        size_t at;
        unsigned len;
        uint64_t value;
        enum mig_ram_reason reason;
    } bad[] = {
        {0, 2, 2, MIG_RAM_BAD_FLAGS},
        {0, 2, 1, MIG_RAM_BAD_FLAGS},  /* a crc that was not agreed on */
        {12, 4, 1, MIG_RAM_BAD_FLAGS}, /* a crc without the flag */
        {2, 2, 0, MIG_RAM_BAD_COUNT},
        {2, 2, 513, MIG_RAM_BAD_COUNT},
        {2, 2, 3, MIG_RAM_SHORT}, /* the head is not as long as it was read */
        {2, 2, 5, MIG_RAM_SHORT},
        {4, 4, 2 * MIG_PAGE, MIG_RAM_BAD_SUM},
        {4, 4, 0, MIG_RAM_BAD_SUM},
        {4, 4, UINT32_MAX, MIG_RAM_BAD_SUM},
        {16, 8, UINT64_C(3) << 60 | 3, MIG_RAM_BAD_KIND},
        {16, 8, UINT64_C(15) << 60 | 3, MIG_RAM_BAD_KIND},
        {16, 8, 4096, MIG_RAM_BAD_RANGE},
        {16, 8, (UINT64_C(1) << 60) - 1, MIG_RAM_BAD_RANGE},
        {24, 4, 0, MIG_RAM_BAD_RANGE},
        {24, 4, 510, MIG_RAM_BAD_RANGE}, /* across the block */
        {24, 4, UINT32_MAX, MIG_RAM_BAD_RANGE},
        {24, 4, 3, MIG_RAM_BAD_ORDER}, /* overlaps the second */
        {16, 8, 700, MIG_RAM_BAD_ORDER},
        {28, 4, 1, MIG_RAM_BAD_RESERVED},
        {24, 4, 1, MIG_RAM_BAD_SUM},
        {32, 8, 5, MIG_RAM_BAD_SUM}, /* RAW pages that the payload has not */
        {64, 8, 4094, MIG_RAM_OK},
        {72, 4, 2, MIG_RAM_BAD_RANGE}, /* beyond the end */
    };

    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        size_t len = example();
        enum mig_ram_reason reason;

        put(bad[i].at, bad[i].len, bad[i].value);
        reason = decode(&one, len, EXAMPLE_BODY(len));
        ck_assert_msg(reason == bad[i].reason, "case %u: %s, not %s", i,
                      mig_ram_reason_str(reason), mig_ram_reason_str(bad[i].reason));
    }
}
END_TEST

START_TEST(lengths_must_agree)
{
    size_t len = example();
    enum mig_ram_reason reason;

    ck_assert_int_eq(decode(&one, len, EXAMPLE_BODY(len) - 1), MIG_RAM_BAD_SUM);
    ck_assert_int_eq(decode(&one, len, EXAMPLE_BODY(len) + 1), MIG_RAM_BAD_SUM);
    ck_assert_int_eq(decode(&one, len, len), MIG_RAM_BAD_SUM);
    ck_assert_uint_eq(mig_ram_head_len(head, len - 1, &reason), 0);
    ck_assert_int_eq(reason, MIG_RAM_SHORT);
    for (size_t cut = 0; cut < len; cut++) {
        ck_assert_int_eq(decode(&one, cut, EXAMPLE_BODY(len)), MIG_RAM_SHORT);
    }
}
END_TEST

START_TEST(ram_may_end_within_a_block)
{
    struct mig_ram_conf conf = one;
    size_t len;

    conf.page_count = 4000;
    for (uint32_t count = 1; count <= 20; count++) {
        mig_ram_begin(&frame, 1);
        mig_ram_add(&frame, MIG_RAM_ZERO, 3990, count);
        len = mig_ram_encode(&frame, head);
        ck_assert_int_eq(decode(&conf, len, len),
                         count <= 10 ? MIG_RAM_OK : MIG_RAM_BAD_RANGE);
    }
}
END_TEST

START_TEST(no_more_than_two_mib_of_payload)
{
    uint64_t body_len;
    size_t len;

    mig_ram_begin(&frame, 1);
    mig_ram_add(&frame, MIG_RAM_RAW, 0, 512);
    mig_ram_add(&frame, MIG_RAM_ZERO, 512, 1);
    len = mig_ram_encode(&frame, head);
    body_len = len + 512 * MIG_PAGE;
    ck_assert_int_eq(decode(&one, len, body_len), MIG_RAM_OK);
    put(32, 8, 512); /* the ZERO page becomes RAW, and its bytes come too */
    put(4, 4, 513 * MIG_PAGE);
    ck_assert_int_eq(decode(&one, len, body_len + MIG_PAGE), MIG_RAM_BAD_SUM);
}
END_TEST

START_TEST(only_what_was_agreed_on)
{
    struct mig_ram_conf conf = one;
    size_t len = example();

    conf.discard = false;
    ck_assert_int_eq(decode(&conf, len, EXAMPLE_BODY(len)), MIG_RAM_BAD_KIND);
    conf = one;
    conf.crc = true;
    ck_assert_int_eq(decode(&conf, len, EXAMPLE_BODY(len)), MIG_RAM_BAD_FLAGS);
    frame.has_crc = true;
    frame.crc = 0x12345678;
    len = mig_ram_encode(&frame, head);
    ck_assert_int_eq(decode(&conf, len, EXAMPLE_BODY(len)), MIG_RAM_OK);
    ck_assert_uint_eq(got.crc, 0x12345678);
}
END_TEST

START_TEST(a_page_keeps_to_its_stream)
{
    struct mig_ram_conf conf = one;

    conf.n_streams = 4;
    for (uint64_t page = 0; page < 4096; page += MIG_BLOCK_PAGES) {
        size_t len;

        mig_ram_begin(&frame, 1);
        mig_ram_add(&frame, MIG_RAM_ZERO, page, 1);
        len = mig_ram_encode(&frame, head);
        for (conf.stream = 0; conf.stream < 4; conf.stream++) {
            ck_assert_int_eq(decode(&conf, len, len),
                             conf.stream == mig_stream_of(page, 4) ? MIG_RAM_OK
                                                                   : MIG_RAM_BAD_STREAM);
        }
    }
}
END_TEST

/* What a decoder accepts obeys every rule, whatever bytes came. */
START_TEST(accepted_frames_are_safe)
{
    uint64_t seed = 6;
    unsigned accepted = 0;

    for (int i = 0; i < 200000; i++) {
        size_t len = example();
        uint64_t behind = 0, raw = 0;

        for (uint64_t n = mig_rand_below(&seed, 3); n > 0; n--) {
            head[mig_rand_below(&seed, len)] ^= (uint8_t)(1u << mig_rand_below(&seed, 8));
        }
        if (decode(&one, len, EXAMPLE_BODY(len)) != MIG_RAM_OK) {
            continue;
        }
        accepted++;
        for (uint32_t r = 0; r < got.run_count; r++) {
            ck_assert_uint_ge(got.run[r].first, behind);
            behind = got.run[r].first + got.run[r].count;
            ck_assert_uint_le(behind, one.page_count);
            raw += got.run[r].kind == MIG_RAM_RAW ? got.run[r].count : 0;
        }
        ck_assert_uint_eq(raw, 3);
    }
    ck_assert_uint_gt(accepted, 1000);
}
END_TEST

START_TEST(compressed_payloads_are_shorter)
{
    struct mig_ram_conf conf = one;
    size_t len = example();

    conf.zstd = true;
    frame.packed = 1000;
    ck_assert_uint_eq(mig_ram_encode(&frame, head), len);
    ck_assert_uint_eq(mig_ram_payload(&frame), 1000);
    ck_assert_int_eq(decode(&conf, len, len + 1000), MIG_RAM_OK);
    expect_same();
    ck_assert_uint_eq(got.packed, 1000);
    ck_assert_int_eq(decode(&conf, len, len + 999), MIG_RAM_BAD_SUM);
    ck_assert_int_eq(decode(&one, len, len + 1000), MIG_RAM_BAD_FLAGS);
    put(4, 4, 3 * MIG_PAGE); /* as long as the pages */
    ck_assert_int_eq(decode(&conf, len, EXAMPLE_BODY(len)), MIG_RAM_BAD_SUM);
    put(4, 4, 0);
    ck_assert_int_eq(decode(&conf, len, len), MIG_RAM_BAD_SUM);
    len = example();
    ck_assert_int_eq(decode(&conf, len, EXAMPLE_BODY(len)), MIG_RAM_OK);
    ck_assert_uint_eq(got.packed, 0);
}
END_TEST

START_TEST(round_ends_go_round)
{
    struct mig_round_end end = {
        .round = 9, .frames = 1u << 20, .pages = UINT64_C(5) << 33};
    struct mig_round_end back;
    uint8_t body[MIG_ROUND_END_LEN + 1] = {0};

    mig_round_end_encode(&end, body);
    ck_assert(mig_round_end_decode(body, MIG_ROUND_END_LEN, &back));
    ck_assert_uint_eq(back.round, 9);
    ck_assert_uint_eq(back.frames, end.frames);
    ck_assert_uint_eq(back.pages, end.pages);
    ck_assert(!mig_round_end_decode(body, MIG_ROUND_END_LEN - 1, &back));
    ck_assert(!mig_round_end_decode(body, MIG_ROUND_END_LEN + 1, &back));
    body[4] = 1;
    ck_assert(!mig_round_end_decode(body, MIG_ROUND_END_LEN, &back));
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("mig_ram");
    TCase *tc = tcase_create("ram");

    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, a_frame_goes_round);
    tcase_add_test(tc, golden_bytes);
    tcase_add_test(tc, neighbours_are_joined_within_a_block);
    tcase_add_test(tc, a_full_frame_is_one_writev);
    tcase_add_test(tc, iovecs_lie_in_ram);
    tcase_add_test(tc, hostile_heads_are_refused);
    tcase_add_test(tc, lengths_must_agree);
    tcase_add_test(tc, ram_may_end_within_a_block);
    tcase_add_test(tc, no_more_than_two_mib_of_payload);
    tcase_add_test(tc, only_what_was_agreed_on);
    tcase_add_test(tc, a_page_keeps_to_its_stream);
    tcase_add_test(tc, accepted_frames_are_safe);
    tcase_add_test(tc, compressed_payloads_are_shorter);
    tcase_add_test(tc, round_ends_go_round);
    suite_add_tcase(s, tc);
    return s;
}

UNIT_MAIN(suite)
