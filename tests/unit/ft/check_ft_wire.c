/* SPDX-License-Identifier: Apache-2.0 */
/* Frames of the channel of a protected VM: their bytes for ever, and what is not one. */
#include <stdlib.h>
#include <string.h>

#include "ft/ft_wire.h"
#include "tests/unit/golden.h"
#include "tests/unit/unit.h"

static const struct ft_log_head head = {.released = 0x0102030405060708,
                                        .now_ns = 0x1112131415161718,
                                        .exits = 0x2122232425262728};
static const struct ft_ack ack = {.received = 1,
                                  .replayed = UINT64_MAX,
                                  .verified = 0x0100000000000000,
                                  .flushed = 4,
                                  .barrier = 0x8000000000000005};

/* One of each that version 1 had, as tests/golden/wire/v1/ft_wire.bin. */
static size_t write_all(uint8_t *buf)
{
    size_t len = 0;

    ft_log_head_put(&head, buf);
    len += FT_LOG_HEAD_LEN;
    ft_ack_put(&ack, buf + len);
    len += FT_ACK_LEN;
    for (unsigned kind = 1; kind <= FT_WORD_DIVERGED; kind++, len += FT_WORD_LEN) {
        ft_word_put(&(struct ft_word){(enum ft_word_kind)kind, 7, 0xA0 + kind},
                    buf + len);
    }
    return len;
}

START_TEST(golden)
{
    uint8_t buf[FT_LOG_HEAD_LEN + FT_ACK_LEN + FT_WORD_KINDS * FT_WORD_LEN];
    size_t len, got = write_all(buf);
    unsigned char *want = golden_load("wire/v1/ft_wire.bin", &len);

    ck_assert_uint_eq(got, len);
    ck_assert_mem_eq(buf, want, len);
    free(want);
}
END_TEST

START_TEST(what_is_read_is_what_was_written)
{
    uint8_t body[FT_ACK_LEN];
    struct ft_log_head h;
    struct ft_ack a;
    struct ft_word w;

    ft_log_head_put(&head, body);
    ft_log_head_get(body, &h);
    ck_assert_mem_eq(&h, &head, sizeof h);
    ft_ack_put(&ack, body);
    ck_assert(ft_ack_get(body, sizeof body, &a));
    ck_assert_mem_eq(&a, &ack, sizeof a);
    for (unsigned kind = 1; kind < FT_WORD_KINDS; kind++) {
        ft_word_put(&(struct ft_word){(enum ft_word_kind)kind, UINT64_MAX, kind}, body);
        ck_assert(ft_word_get(body, FT_WORD_LEN, &w));
        ck_assert_uint_eq(w.kind, kind);
        ck_assert_uint_eq(w.epoch, UINT64_MAX);
        ck_assert_uint_eq(w.number, kind);
    }
}
END_TEST

/* Exact memory, so that ASan sees a read past its end. */
static bool word_of(const uint8_t *body, size_t len)
{
    uint8_t *copy = malloc(len + (len == 0));
    struct ft_word w;
    bool good;

    memcpy(copy, body, len);
    good = ft_word_get(copy, len, &w);
    free(copy);
    return good;
}

static bool ack_of(const uint8_t *body, size_t len)
{
    uint8_t *copy = malloc(len + (len == 0));
    struct ft_ack a;
    bool good;

    memcpy(copy, body, len);
    good = ft_ack_get(copy, len, &a);
    free(copy);
    return good;
}

START_TEST(lengths_and_kinds)
{
    uint8_t body[FT_ACK_LEN + 8] = {0};

    ft_word_put(&(struct ft_word){FT_WORD_END, 1, 2}, body);
    for (size_t len = 0; len < sizeof body; len++) {
        ck_assert_int_eq(word_of(body, len), len == FT_WORD_LEN);
        ck_assert_int_eq(ack_of(body, len), len == FT_ACK_LEN);
    }
    for (unsigned kind = 0; kind < 256; kind++) {
        body[0] = (uint8_t)kind;
        ck_assert_int_eq(word_of(body, FT_WORD_LEN), kind > 0 && kind < FT_WORD_KINDS);
    }
    body[0] = FT_WORD_END;
    for (unsigned i = 1; i < 8; i++) { /* kind is 4 bytes; 4 more are 0 */
        body[i] = 1;
        ck_assert(!word_of(body, FT_WORD_LEN));
        body[i] = 0;
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("ft_wire");
    TCase *tc = tcase_create("wire");

    tcase_add_test(tc, golden);
    tcase_add_test(tc, what_is_read_is_what_was_written);
    tcase_add_test(tc, lengths_and_kinds);
    suite_add_tcase(s, tc);
    return s;
}

UNIT_MAIN(suite)
