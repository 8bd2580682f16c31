/* SPDX-License-Identifier: Apache-2.0 */
#include "base/state_io.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "tests/unit/golden.h"
#include "tests/unit/unit.h"

/* A device of this test, as real ones are: one field list for both directions. */
struct toy {
    bool on;
    uint8_t index;
    uint16_t divisor;
    uint32_t count;
    uint64_t next_ns;
    uint8_t ram[5];
};

static int toy_xfer(struct toy *toy, struct state_io *io)
{
    state_bool(io, &toy->on);
    state_u8(io, &toy->index);
    state_u16(io, &toy->divisor);
    state_u32(io, &toy->count);
    state_u64(io, &toy->next_ns);
    state_bytes(io, toy->ram, sizeof toy->ram);
    if (io->mode == STATE_LOAD && toy->index > 127) {
        state_refuse(io, "index");
    }
    return state_end(io);
}

#define TOY_LEN (1 + 1 + 2 + 4 + 8 + 5)

static const struct toy sample = {
    true, 100, 0x1234, 0x89abcdef, UINT64_C(0xfedcba9876543210), "rams"};
static const struct toy second = {false, 0, 1, 2, 3, {4, 5, 6, 7, 8}};

static size_t save_two(void *buf, size_t cap, enum state_error *ret_error)
{
    struct toy a = sample, b = second;
    struct state_io io;
    size_t len;

    state_save_init(&io, buf, cap);
    state_section_begin(&io, "toy", 0, 2, 1);
    toy_xfer(&a, &io);
    state_section_end(&io);
    state_section_begin(&io, "toy", 1, 1, 1);
    toy_xfer(&b, &io);
    state_section_end(&io);
    len = state_save_finish(&io);
    *ret_error = io.error;
    return len;
}

/* Loads as a machine does: known names only, each version accepted. Never more than two
 * sections. */
static enum state_error load_two(const uint8_t *stream, size_t len, struct toy toy[2])
{
    uint8_t *copy = malloc(len > 0 ? len : 1);
    struct state_io io;
    unsigned seen = 0;

    ck_assert_ptr_nonnull(copy);
    memcpy(copy, stream, len);
    state_load_init(&io, copy, len);
    while (state_section_next(&io)) {
        if (strcmp(io.section.name, "toy") != 0 || io.section.instance != seen ||
            seen == 2) {
            state_fail(&io, STATE_UNKNOWN);
            break;
        }
        if (!state_section_accept(&io, 2) || toy_xfer(&toy[seen], &io) < 0) {
            break;
        }
        seen++;
    }
    if (seen < 2) {
        state_fail(&io, STATE_MISSING);
    }
    ck_assert(!state_section_next(&io) || io.error == STATE_OK);
    free(copy);
    return io.error;
}

static void assert_toy_eq(const struct toy *a, const struct toy *b)
{
    ck_assert(a->on == b->on);
    ck_assert_uint_eq(a->index, b->index);
    ck_assert_uint_eq(a->divisor, b->divisor);
    ck_assert_uint_eq(a->count, b->count);
    ck_assert_uint_eq(a->next_ns, b->next_ns);
    ck_assert_mem_eq(a->ram, b->ram, sizeof a->ram);
}

START_TEST(state_goes_round)
{
    uint8_t buf[256];
    struct toy got[2] = {{0}};
    enum state_error error;
    size_t len = save_two(buf, sizeof buf, &error);

    ck_assert_int_eq(error, STATE_OK);
    ck_assert_int_eq(load_two(buf, len, got), STATE_OK);
    assert_toy_eq(&got[0], &sample);
    assert_toy_eq(&got[1], &second);
}
END_TEST

START_TEST(golden_state_of_version_1_stays_readable)
{
    struct toy got[2] = {{0}};
    enum state_error error;
    uint8_t buf[256];
    size_t len, again;
    uint8_t *golden = golden_load("wire/v1/state.bin", &len);

    ck_assert_int_eq(load_two(golden, len, got), STATE_OK);
    assert_toy_eq(&got[0], &sample);
    assert_toy_eq(&got[1], &second);
    again = save_two(buf, sizeof buf, &error);
    ck_assert_uint_eq(again, len);
    ck_assert_mem_eq(buf, golden, len);
    free(golden);
}
END_TEST

START_TEST(every_truncation_is_refused)
{
    size_t len;
    uint8_t *golden = golden_load("wire/v1/state.bin", &len);
    struct toy got[2];

    for (size_t cut = 0; cut < len; cut++) {
        ck_assert_int_eq(load_two(golden, cut, got), STATE_TRUNCATED);
    }
    free(golden);
}
END_TEST

START_TEST(every_single_bit_flip_is_refused)
{
    size_t len;
    uint8_t *golden = golden_load("wire/v1/state.bin", &len);
    struct toy got[2];

    for (size_t bit = 0; bit < len * 8; bit++) {
        golden[bit / 8] ^= (uint8_t)(1u << bit % 8);
        ck_assert_msg(load_two(golden, len, got) != STATE_OK, "bit %zu was not noticed",
                      bit);
        golden[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    free(golden);
}
END_TEST

START_TEST(every_too_small_buffer_is_refused)
{
    uint8_t buf[256];
    enum state_error error;
    size_t len = save_two(buf, sizeof buf, &error);

    for (size_t cap = 0; cap < len; cap++) {
        uint8_t *exact = malloc(cap > 0 ? cap : 1);

        ck_assert_uint_eq(save_two(exact, cap, &error), 0);
        ck_assert_int_eq(error, STATE_NO_SPACE);
        free(exact);
    }
    ck_assert_uint_eq(save_two(buf, len, &error), len);
}
END_TEST

/* A hostile writer: sections with right checksums and any content. */
struct forge {
    uint8_t buf[512];
    struct bytes_wr wr;
};

static void forge_begin(struct forge *f)
{
    f->wr = bytes_wr_make(f->buf, sizeof f->buf);
    bytes_wr_copy(&f->wr, "GMST\1\0\0\0", 8);
}

static void forge_section(struct forge *f, const char *name, unsigned version,
                          unsigned min_reader, unsigned reserved, uint32_t length,
                          const void *body, size_t body_len)
{
    size_t start = f->wr.pos;
    uint32_t crc;

    bytes_wr_u8(&f->wr, (uint8_t)strlen(name));
    bytes_wr_copy(&f->wr, name, strlen(name));
    bytes_wr_u16(&f->wr, 0);
    bytes_wr_u16(&f->wr, (uint16_t)version);
    bytes_wr_u16(&f->wr, (uint16_t)min_reader);
    bytes_wr_u16(&f->wr, (uint16_t)reserved);
    bytes_wr_u32(&f->wr, length);
    crc = crc32c(0, f->buf + start, f->wr.pos - start);
    bytes_wr_u32(&f->wr, crc32c(crc, body, body_len));
    bytes_wr_copy(&f->wr, body, body_len);
    ck_assert(!f->wr.failed);
}

static enum state_error first_error(const struct forge *f, uint16_t reader_version)
{
    struct toy toy = {0};
    struct state_io io;

    state_load_init(&io, f->buf, f->wr.pos);
    while (state_section_next(&io) && state_section_accept(&io, reader_version) &&
           toy_xfer(&toy, &io) == 0) {
    }
    return io.error;
}

static enum state_error error_of(const char *name, unsigned version, unsigned min_reader,
                                 unsigned reserved, uint32_t length, const void *body,
                                 size_t body_len)
{
    struct forge f;

    forge_begin(&f);
    forge_section(&f, name, version, min_reader, reserved, length, body, body_len);
    forge_section(&f, "", 0, 0, 0, 0, "", 0);
    return first_error(&f, 1);
}

START_TEST(hostile_sections_are_refused)
{
    uint8_t body[TOY_LEN + 3] = {0};
    static const char name32[] = "abcdefghijklmnopqrstuvwxyzabcdef";

    ck_assert_int_eq(error_of("toy", 1, 1, 0, TOY_LEN, body, TOY_LEN), STATE_OK);
    ck_assert_int_eq(error_of("toy", 1, 1, 0, TOY_LEN + 3, body, TOY_LEN + 3),
                     STATE_BAD_LENGTH);
    ck_assert_int_eq(error_of("toy", 1, 1, 0, TOY_LEN - 1, body, TOY_LEN - 1),
                     STATE_BAD_LENGTH);
    ck_assert_int_eq(error_of("toy", 1, 1, 0, 0, body, 0), STATE_BAD_LENGTH);
    ck_assert_int_eq(error_of("toy", 1, 1, 0, UINT32_MAX, body, TOY_LEN),
                     STATE_BAD_LENGTH);
    ck_assert_int_eq(error_of("toy", 1, 1, 0, STATE_SECTION_LEN_MAX, body, TOY_LEN),
                     STATE_TRUNCATED);
    ck_assert_int_eq(error_of("toy", 1, 1, 1, TOY_LEN, body, TOY_LEN), STATE_BAD_VALUE);
    ck_assert_int_eq(error_of("toy", 0, 0, 0, TOY_LEN, body, TOY_LEN), STATE_BAD_VALUE);
    ck_assert_int_eq(error_of("toy", 1, 2, 0, TOY_LEN, body, TOY_LEN), STATE_BAD_VALUE);
    ck_assert_int_eq(error_of("toy", 2, 2, 0, TOY_LEN, body, TOY_LEN), STATE_TOO_NEW);
    ck_assert_int_eq(error_of("to\ny", 1, 1, 0, TOY_LEN, body, TOY_LEN), STATE_BAD_VALUE);
    ck_assert_int_eq(error_of("TOY", 1, 1, 0, TOY_LEN, body, TOY_LEN), STATE_BAD_VALUE);
    ck_assert_int_eq(error_of(name32, 1, 1, 0, TOY_LEN, body, TOY_LEN), STATE_BAD_LENGTH);
    body[0] = 2; /* a bool */
    ck_assert_int_eq(error_of("toy", 1, 1, 0, TOY_LEN, body, TOY_LEN), STATE_BAD_VALUE);
}
END_TEST

START_TEST(a_later_writer_may_append_fields)
{
    uint8_t body[TOY_LEN + 3] = {0};
    struct forge f;

    ck_assert_int_eq(error_of("toy", 3, 1, 0, TOY_LEN + 3, body, sizeof body), STATE_OK);
    ck_assert_int_eq(error_of("toy", 3, 2, 0, TOY_LEN + 3, body, sizeof body),
                     STATE_TOO_NEW);
    /* The reader's own version has nothing to append. */
    forge_begin(&f);
    forge_section(&f, "toy", 3, 1, 0, TOY_LEN + 3, body, sizeof body);
    ck_assert_int_eq(first_error(&f, 3), STATE_BAD_LENGTH);
}
END_TEST

START_TEST(the_end_is_the_end)
{
    uint8_t buf[256];
    struct toy got[2];
    enum state_error error;
    size_t len = save_two(buf, sizeof buf, &error);
    struct state_io io;
    struct forge f;

    buf[len] = 0;
    ck_assert_int_eq(load_two(buf, len + 1, got), STATE_BAD_LENGTH);
    forge_begin(&f);
    forge_section(&f, "", 1, 1, 0, 0, "", 0);
    ck_assert_int_eq(first_error(&f, 1), STATE_BAD_VALUE);
    forge_begin(&f);
    forge_section(&f, "", 0, 0, 0, 0, "", 0);
    state_load_init(&io, f.buf, f.wr.pos);
    ck_assert(!state_section_next(&io));
    ck_assert(!state_section_next(&io)); /* again, without reading past it */
    ck_assert_int_eq(io.error, STATE_OK);
}
END_TEST

START_TEST(stream_headers)
{
    static const struct {
        const char *bytes;
        enum state_error error;
    } table[] = {
        {"GMST\1\0\0\0", STATE_OK},        {"GMSU\1\0\0\0", STATE_BAD_MAGIC},
        {"GMST\0\0\0\0", STATE_BAD_MAGIC}, {"GMST\2\0\0\0", STATE_TOO_NEW},
        {"GMST\1\0\1\0", STATE_BAD_MAGIC},
    };

    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct state_io io;

        state_load_init(&io, table[i].bytes, 8);
        ck_assert_int_eq(io.error, table[i].error);
    }
}
END_TEST

START_TEST(after_an_error_fields_stay_alone)
{
    struct forge f;
    struct state_io io;
    uint32_t v = 77;
    bool b = true;
    uint8_t raw[4] = "abc";

    forge_begin(&f);
    forge_section(&f, "toy", 1, 1, 0, 2, "\0\0", 2);
    state_load_init(&io, f.buf, f.wr.pos);
    ck_assert(state_section_next(&io));
    state_u32(&io, &v); /* two bytes are there */
    ck_assert_uint_eq(v, 77);
    state_bool(&io, &b);
    ck_assert(b);
    state_bytes(&io, raw, 2);
    ck_assert_mem_eq(raw, "abc", 4);
    ck_assert_int_eq(state_end(&io), -EBADMSG);
    ck_assert(!state_section_next(&io));
    state_refuse(&io, "late"); /* the first error stays */
    ck_assert_int_eq(io.error, STATE_BAD_LENGTH);
    ck_assert_ptr_null(io.refused_field);
}
END_TEST

START_TEST(a_refused_field_is_named)
{
    uint8_t body[TOY_LEN] = {0, 128};
    struct toy toy = {0};
    struct state_io io;
    struct forge f;

    forge_begin(&f);
    forge_section(&f, "toy", 1, 1, 0, TOY_LEN, body, TOY_LEN);
    state_load_init(&io, f.buf, f.wr.pos);
    ck_assert(state_section_next(&io));
    ck_assert_int_eq(toy_xfer(&toy, &io), -EBADMSG);
    ck_assert_int_eq(io.error, STATE_BAD_VALUE);
    ck_assert_str_eq(io.refused_field, "index");
}
END_TEST

START_TEST(too_many_sections_are_refused)
{
    size_t cap = (STATE_SECTIONS_MAX + 2) * 32;
    uint8_t *buf = malloc(cap);
    struct state_io io;
    unsigned opened = 0;

    state_save_init(&io, buf, cap);
    for (unsigned i = 0; i < STATE_SECTIONS_MAX; i++) {
        state_section_begin(&io, "x", (uint16_t)i, 1, 1);
        state_section_end(&io);
    }
    state_section_begin(&io, "x", 0, 1, 1);
    state_section_end(&io);
    ck_assert_int_eq(io.error, STATE_BAD_LENGTH);
    /* The bytes are there all the same: a writer of another version could send them. */
    state_load_init(&io, buf, io.wr.pos);
    while (state_section_next(&io)) {
        opened++;
    }
    ck_assert_uint_eq(opened, STATE_SECTIONS_MAX);
    ck_assert_int_eq(io.error, STATE_BAD_LENGTH);
    free(buf);
}
END_TEST

START_TEST(a_name_we_could_not_read_is_a_bug)
{
    uint8_t buf[64];
    struct state_io io;

    state_save_init(&io, buf, sizeof buf);
    state_section_begin(&io, "No Good", 0, 1, 1);
}
END_TEST

START_TEST(errors_have_texts)
{
    for (int error = STATE_OK; error <= STATE_NO_SPACE; error++) {
        ck_assert_str_ne(state_error_str((enum state_error)error), "unknown error");
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("state_io");
    TCase *tc = tcase_create("state_io");

    tcase_add_test(tc, state_goes_round);
    tcase_add_test(tc, golden_state_of_version_1_stays_readable);
    tcase_add_test(tc, every_truncation_is_refused);
    tcase_add_test(tc, every_single_bit_flip_is_refused);
    tcase_add_test(tc, every_too_small_buffer_is_refused);
    tcase_add_test(tc, hostile_sections_are_refused);
    tcase_add_test(tc, a_later_writer_may_append_fields);
    tcase_add_test(tc, the_end_is_the_end);
    tcase_add_test(tc, stream_headers);
    tcase_add_test(tc, after_an_error_fields_stay_alone);
    tcase_add_test(tc, a_refused_field_is_named);
    tcase_add_test(tc, too_many_sections_are_refused);
    tcase_add_test_raise_signal(tc, a_name_we_could_not_read_is_a_bug, SIGABRT);
    tcase_add_test(tc, errors_have_texts);
    suite_add_tcase(s, tc);
    return s;
}

UNIT_MAIN(suite)
