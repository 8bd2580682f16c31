/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/mig_open_msg.h"

#include <string.h>

#include "tests/unit/unit.h"

static struct mig_open_msg sample(void)
{
    struct mig_open_msg m = {.version_min = 1, .version_max = 1, .index = 2, .count = 3};

    memset(&m.transfer, 0x11, sizeof m.transfer);
    memset(&m.token, 0x22, sizeof m.token);
    return m;
}

static struct mig_roll roll_for(const struct mig_open_msg *m)
{
    return (struct mig_roll){.transfer = m->transfer, .token = m->token};
}

START_TEST(open_is_what_it_was)
{
    struct mig_open_msg m = sample(), back;
    uint8_t body[MIG_OPEN_LEN + 1];

    mig_open_encode(&m, body);
    ck_assert(mig_open_decode(body, MIG_OPEN_LEN, &back));
    ck_assert_mem_eq(&back, &m, sizeof m);
    for (size_t len = 0; len <= sizeof body; len++) {
        ck_assert_int_eq(mig_open_decode(body, len, &back), len == MIG_OPEN_LEN);
    }
}
END_TEST

/* The bytes, so that the next version knows what this one sends. */
START_TEST(open_has_these_bytes)
{
    static const uint8_t tail[8] = {2, 0, 3, 0, 0, 0, 0, 0};
    static const uint8_t head[8] = {1, 0, 0, 0, 1, 0, 0, 0};
    struct mig_open_msg m = sample();
    uint8_t body[MIG_OPEN_LEN];

    mig_open_encode(&m, body);
    ck_assert_mem_eq(body, head, 8);
    ck_assert_mem_eq(body + 8, &m.transfer, 16);
    ck_assert_mem_eq(body + 24, &m.token, 16);
    ck_assert_mem_eq(body + 40, tail, 8);
}
END_TEST

START_TEST(open_that_says_nothing_sensible)
{
    struct mig_open_msg bad[] = {sample(), sample(), sample(), sample(), sample()}, back;
    uint8_t body[MIG_OPEN_LEN];

    bad[0].index = 3;
    bad[1].count = 0;
    bad[2].count = MIG_OPEN_STREAMS_MAX + 1;
    bad[3].version_min = 0;
    bad[4].version_min = 2;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        mig_open_encode(&bad[i], body);
        ck_assert(!mig_open_decode(body, sizeof body, &back));
    }
    bad[0] = sample();
    mig_open_encode(&bad[0], body);
    body[MIG_OPEN_LEN - 1] = 1; /* reserved */
    ck_assert(!mig_open_decode(body, sizeof body, &back));
}
END_TEST

START_TEST(answers)
{
    struct mig_answer_msg m = {.version = 1}, back;
    uint8_t body[MIG_ANSWER_LEN_MAX];
    size_t len = mig_answer_encode(&m, body);

    ck_assert_uint_eq(len, MIG_ANSWER_LEN_MIN);
    ck_assert(mig_answer_decode(body, len, &back));
    ck_assert_uint_eq(back.version, 1);
    ck_assert_str_eq(back.text, "");
    m.version = 0;
    memset(m.text, 'x', MIG_ANSWER_TEXT_MAX);
    len = mig_answer_encode(&m, body);
    ck_assert_uint_eq(len, MIG_ANSWER_LEN_MAX);
    ck_assert(mig_answer_decode(body, len, &back));
    ck_assert_str_eq(back.text, m.text);
    ck_assert(!mig_answer_decode(body, len - 1, &back));
    strcpy(m.text, "a\033[2Jb\n");
    len = mig_answer_encode(&m, body);
    ck_assert(mig_answer_decode(body, len, &back));
    ck_assert_str_eq(back.text, "a?[2Jb?");
    body[4] = 1;
    ck_assert(!mig_answer_decode(body, len, &back));
}
END_TEST

START_TEST(each_stream_joins_once)
{
    struct mig_open_msg m = sample();
    struct mig_roll roll = roll_for(&m);
    static const uint16_t order[3] = {1, 0, 2};

    for (int i = 0; i < 3; i++) {
        ck_assert(!mig_roll_complete(&roll));
        m.index = order[i];
        ck_assert_int_eq(mig_roll_join(&roll, &m), MIG_OPEN_OK);
        ck_assert_int_eq(mig_roll_join(&roll, &m), MIG_OPEN_TAKEN);
    }
    ck_assert(mig_roll_complete(&roll));
    ck_assert_uint_eq(roll.version, 1);
}
END_TEST

START_TEST(no_byte_of_the_secret_may_differ)
{
    for (int i = 0; i < 16; i++) {
        struct mig_open_msg m = sample();
        struct mig_roll roll = roll_for(&m);

        m.token.b[i] ^= 0x80;
        ck_assert_int_eq(mig_roll_join(&roll, &m), MIG_OPEN_BAD_TRANSFER);
        m.token.b[i] ^= 0x80;
        m.transfer.b[i] ^= 1;
        ck_assert_int_eq(mig_roll_join(&roll, &m), MIG_OPEN_BAD_TRANSFER);
        ck_assert_uint_eq(roll.joined, 0);
        ck_assert_uint_eq(roll.count, 0); /* a stranger says nothing that counts */
    }
}
END_TEST

START_TEST(count_and_version_have_to_agree)
{
    struct mig_open_msg m = sample();
    struct mig_roll roll = roll_for(&m);

    ck_assert_int_eq(mig_roll_join(&roll, &m), MIG_OPEN_OK);
    m.index = 0;
    m.count = 4;
    ck_assert_int_eq(mig_roll_join(&roll, &m), MIG_OPEN_BAD_COUNT);
    m.count = 3;
    m.version_min = m.version_max = MIG_STREAM_VERSION + 1;
    ck_assert_int_eq(mig_roll_join(&roll, &m), MIG_OPEN_BAD_VERSION);
    m.version_min = MIG_STREAM_VERSION_MIN; /* a newer source that still knows ours */
    ck_assert_int_eq(mig_roll_join(&roll, &m), MIG_OPEN_OK);
    ck_assert_uint_eq(roll.version, MIG_STREAM_VERSION);
    m = sample();
    m.index = m.count = MIG_OPEN_STREAMS_MAX;
    ck_assert_int_eq(mig_roll_join(&roll, &m), MIG_OPEN_BAD_FORM);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("mig_open_msg");
    TCase *t = tcase_create("all");

    tcase_add_test(t, open_is_what_it_was);
    tcase_add_test(t, open_has_these_bytes);
    tcase_add_test(t, open_that_says_nothing_sensible);
    tcase_add_test(t, answers);
    tcase_add_test(t, each_stream_joins_once);
    tcase_add_test(t, no_byte_of_the_secret_may_differ);
    tcase_add_test(t, count_and_version_have_to_agree);
    suite_add_tcase(s, t);
    return s;
}

UNIT_MAIN(suite)
