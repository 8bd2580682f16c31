/* SPDX-License-Identifier: Apache-2.0 */
/* vmm/state_stream: every reason for which a stream is refused, and random streams
 * against a model that only counts. */
#include <stdlib.h>
#include <string.h>

#include "base/units.h"
#include "tests/unit/unit.h"
#include "vmm/state_stream.h"

#define RAM_PAGES 1000

static struct state_stream_rd rd;
static struct state_ram_run run;
static uint8_t body[STATE_STREAM_RAM_HEAD + STATE_STREAM_RUN_PAGES * STATE_STREAM_PAGE];

static void setup(void)
{
    rd = (struct state_stream_rd){.ram_pages = RAM_PAGES};
}

static enum stream_error take(uint16_t type, size_t len)
{
    struct frame frame = {.type = type,
                          .version = STATE_STREAM_FORMAT,
                          .seq = rd.seq + 1,
                          .body = body,
                          .body_len = (uint32_t)len};

    return state_stream_take(&rd, &frame, &run);
}

static enum stream_error ram(uint64_t first, uint32_t count)
{
    state_stream_ram_head(body, first, count);
    return take(STATE_FRAME_RAM,
                STATE_STREAM_RAM_HEAD + (size_t)count * STATE_STREAM_PAGE);
}

static enum stream_error end(uint64_t frames, uint64_t pages)
{
    state_stream_end_body(body, frames, pages);
    return take(STATE_FRAME_END, STATE_STREAM_END_LEN);
}

static void begin(void)
{
    setup();
    ck_assert_int_eq(take(STATE_FRAME_HEAD, 5), STREAM_OK);
    ck_assert_int_eq(take(STATE_FRAME_STATE, 5), STREAM_OK);
}

START_TEST(a_stream)
{
    begin();
    ck_assert_int_eq(ram(0, 1), STREAM_OK);
    ck_assert_uint_eq(run.first_page, 0);
    ck_assert_uint_eq(run.page_count, 1);
    ck_assert_ptr_eq(run.data, body + STATE_STREAM_RAM_HEAD);
    ck_assert_int_eq(ram(RAM_PAGES - 256, 256), STREAM_OK);
    ck_assert_int_eq(ram(RAM_PAGES - 1, 1), STREAM_OK); /* once more: the later one */
    ck_assert_int_eq(take(FRAME_TYPE_OPTIONAL | 77, 9), STREAM_OK);
    ck_assert_uint_eq(run.page_count, 0);
    ck_assert_int_eq(state_stream_finish(&rd), STREAM_TRUNCATED);
    ck_assert_int_eq(end(3, 258), STREAM_OK);
    ck_assert_int_eq(state_stream_finish(&rd), STREAM_OK);
}
END_TEST

START_TEST(state_after_ram)
{
    ck_assert_int_eq(take(STATE_FRAME_HEAD, 5), STREAM_OK);
    ck_assert_int_eq(ram(3, 2), STREAM_OK);
    ck_assert_int_eq(take(STATE_FRAME_STATE, 5), STREAM_OK);
    ck_assert_int_eq(end(1, 2), STREAM_OK);
}
END_TEST

START_TEST(order)
{
    static const uint16_t not_first[] = {STATE_FRAME_STATE, STATE_FRAME_RAM,
                                         STATE_FRAME_END};

    for (size_t i = 0; i < ARRAY_SIZE(not_first); i++) {
        setup();
        ck_assert_int_eq(take(not_first[i], 16), STREAM_BAD_ORDER);
    }
    setup();
    ck_assert_int_eq(take(FRAME_TYPE_OPTIONAL | 77, 0), STREAM_UNKNOWN);
    begin();
    ck_assert_int_eq(take(STATE_FRAME_HEAD, 5), STREAM_BAD_ORDER);
    begin();
    ck_assert_int_eq(take(STATE_FRAME_STATE, 5), STREAM_BAD_ORDER);
    setup();
    ck_assert_int_eq(take(STATE_FRAME_HEAD, 5), STREAM_OK);
    ck_assert_int_eq(end(0, 0), STREAM_BAD_ORDER); /* no STATE yet */
    for (uint16_t type = STATE_FRAME_HEAD; type <= STATE_FRAME_END + 1; type++) {
        begin();
        ck_assert_int_eq(end(0, 0), STREAM_OK);
        ck_assert_int_eq(take(type, 16), STREAM_BAD_ORDER);
        ck_assert_int_eq(state_stream_finish(&rd), STREAM_BAD_ORDER);
    }
}
END_TEST

START_TEST(sequence)
{
    struct frame frame = {.type = STATE_FRAME_HEAD, .version = 1, .body = body};
    static const uint64_t wrong[] = {0, 2, UINT64_MAX};

    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
        setup();
        frame.seq = wrong[i];
        ck_assert_int_eq(state_stream_take(&rd, &frame, &run), STREAM_BAD_SEQ);
        frame.seq = 1; /* errors stay */
        ck_assert_int_eq(state_stream_take(&rd, &frame, &run), STREAM_BAD_SEQ);
        ck_assert_int_eq(state_stream_finish(&rd), STREAM_BAD_SEQ);
    }
}
END_TEST

START_TEST(later_versions)
{
    struct frame frame = {.type = STATE_FRAME_RAM,
                          .version = STATE_STREAM_FORMAT + 1,
                          .body = body,
                          .body_len = STATE_STREAM_RAM_HEAD + STATE_STREAM_PAGE};

    begin();
    frame.seq = rd.seq + 1;
    state_stream_ram_head(body, 0, 1);
    ck_assert_int_eq(state_stream_take(&rd, &frame, &run), STREAM_UNKNOWN);
    ck_assert_uint_eq(run.page_count, 0);
    begin();
    ck_assert_int_eq(take(STATE_FRAME_END + 1, 4), STREAM_UNKNOWN);
    begin();
    frame.type = FRAME_TYPE_OPTIONAL | 9;
    frame.seq = rd.seq + 1;
    ck_assert_int_eq(state_stream_take(&rd, &frame, &run), STREAM_OK);
}
END_TEST

START_TEST(pages)
{
    static const struct {
        uint64_t first;
        uint32_t count;
    } bad[] = {{RAM_PAGES, 1},  {RAM_PAGES - 1, 2},  {0, 0},
               {UINT64_MAX, 1}, {UINT64_MAX - 1, 2}, {UINT64_MAX - 255, 256},
               {1ull << 52, 1}, {1ull << 63, 256}};

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        begin();
        ck_assert_int_eq(ram(bad[i].first, bad[i].count), STREAM_BAD_RAM);
        ck_assert_uint_eq(run.page_count, 0);
        ck_assert_ptr_null(run.data);
    }
    begin(); /* more than a run may have */
    state_stream_ram_head(body, 0, STATE_STREAM_RUN_PAGES + 1);
    ck_assert_int_eq(
        take(STATE_FRAME_RAM, STATE_STREAM_RAM_HEAD + (STATE_STREAM_RUN_PAGES + 1) *
                                                          (size_t)STATE_STREAM_PAGE),
        STREAM_BAD_RAM);
    for (size_t len = 0; len <= STATE_STREAM_RAM_HEAD + STATE_STREAM_PAGE + 1; len++) {
        begin();
        state_stream_ram_head(body, 0, 1);
        ck_assert_int_eq(take(STATE_FRAME_RAM, len),
                         len == STATE_STREAM_RAM_HEAD + STATE_STREAM_PAGE
                             ? STREAM_OK
                             : STREAM_BAD_RAM);
    }
    begin();
    state_stream_ram_head(body, 0, 1);
    body[12] = 1; /* reserved */
    ck_assert_int_eq(take(STATE_FRAME_RAM, STATE_STREAM_RAM_HEAD + STATE_STREAM_PAGE),
                     STREAM_BAD_RAM);
    setup(); /* a VM without RAM takes no page */
    rd.ram_pages = 0;
    ck_assert_int_eq(take(STATE_FRAME_HEAD, 5), STREAM_OK);
    ck_assert_int_eq(ram(0, 1), STREAM_BAD_RAM);
}
END_TEST

START_TEST(counts)
{
    for (uint64_t frames = 0; frames < 4; frames++) {
        for (uint64_t count = 0; count < 6; count++) {
            begin();
            ck_assert_int_eq(ram(0, 1), STREAM_OK);
            ck_assert_int_eq(ram(5, 2), STREAM_OK);
            ck_assert_int_eq(end(frames, count),
                             frames == 2 && count == 3 ? STREAM_OK : STREAM_BAD_COUNT);
        }
    }
    for (size_t len = 0; len < 20; len++) {
        begin();
        state_stream_end_body(body, 0, 0);
        ck_assert_int_eq(take(STATE_FRAME_END, len),
                         len == STATE_STREAM_END_LEN ? STREAM_OK : STREAM_BAD_COUNT);
    }
}
END_TEST

START_TEST(every_error_has_a_text)
{
    for (int e = STREAM_OK; e <= STREAM_TRUNCATED; e++) {
        ck_assert_uint_gt(strlen(stream_error_str((enum stream_error)e)), 5);
    }
}
END_TEST

/* Random streams
 * ----------------------------------------------------------------------------------- */

struct model {
    bool head, state, end, failed;
    uint64_t frames, pages;
};

static uint64_t next(uint64_t *seed)
{
    *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return *seed >> 33;
}

/* Mostly right, so that long streams come about. */
static bool model_step(struct model *m, uint64_t *seed)
{
    bool ok = true, was_failed = m->failed;
    enum stream_error got;
    uint64_t kind = next(seed) % 40;

    if (kind == 0) {
        ok = !m->head;
        got = take(STATE_FRAME_HEAD, 3);
        m->head = true;
    } else if (kind == 1) {
        ok = m->head && !m->state && !m->end;
        got = take(STATE_FRAME_STATE, 3);
        m->state = true;
    } else if (kind == 2) {
        uint64_t lie = next(seed) % 4 == 0;

        ok = m->head && m->state && !m->end && !lie;
        got = end(m->frames, m->pages + lie);
        m->end = ok;
    } else if (kind == 3) {
        ok = m->head && !m->end;
        got = take(FRAME_TYPE_OPTIONAL | 5, 3);
    } else {
        uint64_t first = next(seed) % (RAM_PAGES + 2);
        uint32_t count = (uint32_t)(next(seed) % 5);

        count += count == 0 && next(seed) % 8 != 0;
        ok = m->head && !m->end && count > 0 && first + count <= RAM_PAGES;
        got = ram(first, count);
        m->frames++;
        m->pages += count;
    }
    m->failed |= !ok;
    ck_assert_msg((got == STREAM_OK) == !m->failed, "kind %d: %s", (int)kind,
                  stream_error_str(got));
    ck_assert(run.page_count == 0 || (got == STREAM_OK && kind > 3));
    return !was_failed && !m->failed;
}

START_TEST(random_streams)
{
    uint64_t seed = 42;
    unsigned whole = 0, long_ones = 0;

    for (int i = 0; i < 20000; i++) {
        struct model m = {0};
        unsigned steps = 0;

        setup();
        if (i % 8 != 0) {
            (void)take(STATE_FRAME_HEAD, 1);
            m.head = true;
        }
        while (model_step(&m, &seed) && !m.end) {
            steps++;
        }
        ck_assert((state_stream_finish(&rd) == STREAM_OK) == (m.end && !m.failed));
        whole += m.end && !m.failed;
        long_ones += steps > 20;
    }
    ck_assert_uint_gt(whole, 100);
    ck_assert_uint_gt(long_ones, 100);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("state_stream");
    TCase *t = tcase_create("state_stream");

    tcase_add_checked_fixture(t, setup, NULL);
    tcase_add_test(t, a_stream);
    tcase_add_test(t, state_after_ram);
    tcase_add_test(t, order);
    tcase_add_test(t, sequence);
    tcase_add_test(t, later_versions);
    tcase_add_test(t, pages);
    tcase_add_test(t, counts);
    tcase_add_test(t, every_error_has_a_text);
    tcase_add_test(t, random_streams);
    suite_add_tcase(s, t);
    return s;
}

UNIT_MAIN(suite)
