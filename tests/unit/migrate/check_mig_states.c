/* SPDX-License-Identifier: Apache-2.0 */
/* Every cell of both tables: what it may do, and that migrate/README.md says the same.
 * DOC_TABLES=1 prints the tables, for README.md. */
#include <stdlib.h>
#include <string.h>

#include "migrate/mig_dst.h"
#include "migrate/mig_src.h"
#include "tests/unit/table_doc.h"

#define MS NSEC_PER_MSEC

static const struct mig_times times = MIG_TIMES_DEFAULT;
static struct mig_acts acts;

static struct mig_src src_at(enum mig_src_state state)
{
    struct mig_src src;

    mig_src_init(&src, &times, 17, 0);
    src.state = state;
    return src;
}

static struct mig_dst dst_at(enum mig_dst_state state)
{
    struct mig_dst dst;

    mig_dst_init(&dst, &times, 0);
    dst.state = state;
    return dst;
}

#define FOREACH_CELL(machine, state, event, states, events)                              \
    for (unsigned state = 0; state < states; state++)                                    \
        for (unsigned event = 0; event < events; event++)

static bool src_frozen_or_on_its_way(unsigned state)
{
    return state >= MIG_SRC_FREEZING && state <= MIG_SRC_STATE_SENT;
}

START_TEST(source_every_cell)
{
    FOREACH_CELL(src, state, event, MIG_SRC_STATES, MIG_SRC_EVENTS)
    {
        struct mig_src src = src_at((enum mig_src_state)state);
        struct mig_input in = {.event = event, .now_ns = 5, .epoch = 18};
        bool turn = state == MIG_SRC_READY || state == MIG_SRC_RELEASED;
        bool serves = state == MIG_SRC_SERVING;
        bool was_over = mig_src_over(&src);

        mig_src_step(&src, &in, &acts);
        /* The guest is entered under a new claim by THAW alone, and only where it may
         * have been given away. */
        ck_assert(((acts.bits & MIG_SRC_DO_RUN) != 0) == (turn && event == MIG_SRC_THAW));
        ck_assert_uint_eq(acts.epoch, (acts.bits & MIG_SRC_DO_RUN) != 0 ? 18 : 0);
        ck_assert_uint_eq(src.epoch, (acts.bits & MIG_SRC_DO_RUN) != 0 ? 18 : 17);
        /* Under the old claim never from READY on. */
        if ((acts.bits & MIG_SRC_DO_THAW) != 0) {
            ck_assert(src_frozen_or_on_its_way(state) || state == MIG_SRC_FAILED);
        }
        if (turn && event != MIG_SRC_THAW && event != MIG_SRC_END &&
            event != MIG_SRC_RELEASING) {
            ck_assert_uint_eq(src.state, state);
        }
        /* Whoever stops a guest that was or is being frozen lets it go on. */
        if (src.state == MIG_SRC_FAILED && src_frozen_or_on_its_way(state)) {
            ck_assert((acts.bits & MIG_SRC_DO_THAW) != 0);
            ck_assert((acts.bits & MIG_SRC_DO_ANNOUNCE) != 0);
        }
        /* It runs there: nothing but an end comes of it, and no guest here. */
        if (serves) {
            ck_assert(src.state == MIG_SRC_SERVING || src.state == MIG_SRC_DONE ||
                      src.state == MIG_SRC_ENDED);
            ck_assert_uint_eq(acts.bits & (MIG_SRC_DO_THAW | MIG_SRC_DO_RUN), 0);
            ck_assert(src.state == state || (acts.bits & MIG_SRC_DO_DISCARD) != 0);
        }
        /* An end is told, with a reason, once; nothing is left on. */
        if (!was_over && mig_src_over(&src)) {
            ck_assert((acts.bits & MIG_SRC_DO_TELL_END) != 0);
            ck_assert((acts.bits & MIG_SRC_DO_CLOSE) != 0);
            ck_assert((acts.bits & MIG_SRC_DO_UNTRACK) != 0 || state <= MIG_SRC_HELLO);
            ck_assert_str_eq(src.text, acts.text);
            ck_assert(acts.text[0] != '\0');
            ck_assert(acts.code >= MIG_END_BLOCKED || src.state == MIG_SRC_DONE);
        } else {
            ck_assert_uint_eq(acts.bits & MIG_SRC_DO_TELL_END, 0);
        }
        if (was_over) { /* only END leads on */
            ck_assert(src.state == state ||
                      (event == MIG_SRC_END && src.state == MIG_SRC_ENDED));
        }
        /* The agent always gets an answer, one. */
        ck_assert_int_eq(((acts.bits & MIG_SRC_DO_ACCEPT) != 0) +
                             ((acts.bits & MIG_SRC_DO_REFUSE) != 0),
                         event == MIG_SRC_CANCEL || event == MIG_SRC_RELEASING ||
                             event == MIG_SRC_THAW || event == MIG_SRC_END);
        if ((acts.bits & MIG_SRC_DO_REFUSE) != 0) {
            ck_assert(acts.text[0] != '\0');
            ck_assert_uint_eq(acts.bits, MIG_SRC_DO_REFUSE);
        }
        ck_assert_uint_eq(src.state_ns, src.state != state ? 5 : 0);
    }
}
END_TEST

START_TEST(source_thaw_needs_a_later_claim)
{
    for (uint64_t epoch = 0; epoch <= 17; epoch++) {
        struct mig_src src = src_at(MIG_SRC_RELEASED);

        mig_src_step(&src, &(struct mig_input){.event = MIG_SRC_THAW, .epoch = epoch},
                     &acts);
        ck_assert_int_eq(src.state, MIG_SRC_RELEASED);
        ck_assert_uint_eq(acts.bits, MIG_SRC_DO_REFUSE);
        ck_assert_ptr_nonnull(strstr(acts.text, "later claim"));
    }
}
END_TEST

/* Any time before READY: one event, and the transfer is over. */
START_TEST(source_can_be_cancelled_until_ready)
{
    for (unsigned state = 0; state < MIG_SRC_READY; state++) {
        struct mig_src src = src_at((enum mig_src_state)state);

        mig_src_step(&src, &(struct mig_input){.event = MIG_SRC_CANCEL}, &acts);
        ck_assert_int_eq(src.state, MIG_SRC_FAILED);
        ck_assert_int_eq(src.code, MIG_END_CANCELLED);
        ck_assert((acts.bits & MIG_SRC_DO_ACCEPT) != 0);
        ck_assert(((acts.bits & MIG_SRC_DO_SEND_ABORT) != 0) ==
                  (state != MIG_SRC_CONNECTING));
    }
}
END_TEST

START_TEST(destination_every_cell)
{
    FOREACH_CELL(dst, state, event, MIG_DST_STATES, MIG_DST_EVENTS)
    {
        struct mig_dst dst = dst_at((enum mig_dst_state)state);
        struct mig_input in = {.event = event, .now_ns = 5, .epoch = 18};

        mig_dst_step(&dst, &in, &acts);
        bool turn = state == MIG_DST_READY || state == MIG_DST_HOLES;
        bool ran = state == MIG_DST_FILLING || state == MIG_DST_RUNNING;
        bool runs = dst.state == MIG_DST_FILLING || dst.state == MIG_DST_RUNNING;

        ck_assert(((acts.bits & MIG_DST_DO_RUN) != 0) ==
                  (turn && event == MIG_DST_START));
        ck_assert((runs && !ran) == ((acts.bits & MIG_DST_DO_RUN) != 0));
        ck_assert_uint_eq(dst.epoch, (acts.bits & MIG_DST_DO_RUN) != 0 ? 18 : 0);
        /* It fails once, with a reason, and is gone. */
        ck_assert((dst.state == MIG_DST_FAILED && state != MIG_DST_FAILED) ==
                  ((acts.bits & MIG_DST_DO_DISCARD) != 0));
        if ((acts.bits & MIG_DST_DO_DISCARD) != 0) {
            ck_assert((acts.bits & MIG_DST_DO_TELL_END) != 0);
            ck_assert_int_ge(acts.code, MIG_END_BLOCKED);
            ck_assert_str_eq(acts.text, dst.text);
        }
        if (state == MIG_DST_READY) { /* a broken connection changes nothing */
            ck_assert(dst.state == MIG_DST_READY || event == MIG_DST_START ||
                      event == MIG_DST_CANCEL || event == MIG_DST_GOT_ABORT ||
                      event == MIG_DST_GUEST_OFF);
        }
        /* With memory at the source, its loss is the end, and nothing else goes on. */
        if (state == MIG_DST_HOLES || state == MIG_DST_FILLING) {
            ck_assert((dst.state == MIG_DST_FAILED) ==
                      (event == MIG_DST_LOST || event == MIG_DST_GOT_ABORT ||
                       event == MIG_DST_BAD_PEER || event == MIG_DST_HOST_ERROR ||
                       event == MIG_DST_GUEST_OFF ||
                       (event == MIG_DST_SILENT && state == MIG_DST_FILLING) ||
                       (event == MIG_DST_CANCEL && state == MIG_DST_HOLES)));
        }
        /* Whom nobody joined knows why at once, not when the time is over. */
        if (state == MIG_DST_LISTENING) {
            ck_assert((dst.state == MIG_DST_FAILED) ==
                      (event == MIG_DST_LOST || event == MIG_DST_BAD_PEER ||
                       event == MIG_DST_HOST_ERROR || event == MIG_DST_CANCEL ||
                       event == MIG_DST_GUEST_OFF || event == MIG_DST_TIME_OVER ||
                       event == MIG_DST_HANDSHAKE_OVER));
        }
        if (state == MIG_DST_RUNNING || state == MIG_DST_FAILED) {
            ck_assert_uint_eq(dst.state, state);
        }
        ck_assert_int_eq(((acts.bits & MIG_DST_DO_ACCEPT) != 0) +
                             ((acts.bits & MIG_DST_DO_REFUSE) != 0),
                         event == MIG_DST_START || event == MIG_DST_CANCEL);
        ck_assert((acts.bits & MIG_DST_DO_REFUSE) == 0 || acts.text[0] != '\0');
    }
}
END_TEST

START_TEST(destination_start_needs_a_claim)
{
    struct mig_dst dst = dst_at(MIG_DST_READY);

    mig_dst_step(&dst, &(struct mig_input){.event = MIG_DST_START}, &acts);
    ck_assert_int_eq(dst.state, MIG_DST_READY);
    ck_assert_uint_eq(acts.bits, MIG_DST_DO_REFUSE);
}
END_TEST

struct way {
    unsigned event;
    uint32_t bits;
};

static void src_goes(struct mig_src *src, const struct way *way, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        mig_src_step(src, &(struct mig_input){.event = way[i].event}, &acts);
        ck_assert_msg(acts.bits == way[i].bits, "step %zu: %x", i, acts.bits);
    }
}

static void dst_goes(struct mig_dst *dst, const struct way *way, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        mig_dst_step(dst, &(struct mig_input){.event = way[i].event, .epoch = 18}, &acts);
        ck_assert_msg(acts.bits == way[i].bits, "step %zu: %x", i, acts.bits);
    }
}

START_TEST(the_way_it_should_go)
{
    static const struct way way[] = {
        {MIG_SRC_CONNECTED, MIG_SRC_DO_SEND_HELLO},
        {MIG_SRC_ACK_OK, MIG_SRC_DO_TRACK},
        {MIG_SRC_ROUND_AGAIN, MIG_SRC_DO_NEXT_ROUND},
        {MIG_SRC_ROUND_SWITCH, MIG_SRC_DO_FREEZE},
        {MIG_SRC_FROZEN, MIG_SRC_DO_SEND_LAST},
        {MIG_SRC_LAST_SENT, MIG_SRC_DO_SEND_STATE},
        {MIG_SRC_GOT_READY, MIG_SRC_DO_TELL_READY},
        {MIG_SRC_RELEASING, MIG_SRC_DO_ACCEPT},
        {MIG_SRC_LOST, 0},
        {MIG_SRC_END, MIG_SRC_DO_CLOSE | MIG_SRC_DO_UNTRACK | MIG_SRC_DO_ACCEPT |
                          MIG_SRC_DO_TELL_END | MIG_SRC_DO_DISCARD},
    };
    static const struct way other[] = {
        {MIG_DST_CONNECTED, 0},
        {MIG_DST_HELLO_FITS, MIG_DST_DO_SEND_ACK | MIG_DST_DO_RECEIVE},
        {MIG_DST_GOT_FINISH, MIG_DST_DO_CHECK},
        {MIG_DST_CHECK_OK, MIG_DST_DO_TELL_READY | MIG_DST_DO_SEND_READY},
        {MIG_DST_LOST, 0},
        {MIG_DST_START,
         MIG_DST_DO_RUN | MIG_DST_DO_ANNOUNCE | MIG_DST_DO_CLOSE | MIG_DST_DO_ACCEPT},
    };
    struct mig_src src = src_at(MIG_SRC_CONNECTING);
    struct mig_dst dst = dst_at(MIG_DST_LISTENING);

    src_goes(&src, way, sizeof way / sizeof way[0]);
    ck_assert_int_eq(src.state, MIG_SRC_DONE);
    ck_assert_int_eq(src.code, MIG_OK);
    dst_goes(&dst, other, sizeof other / sizeof other[0]);
    ck_assert_int_eq(dst.state, MIG_DST_RUNNING);
}
END_TEST

/* Post-copy, both ends. */
START_TEST(the_way_with_holes)
{
    static const struct way way[] = {
        {MIG_SRC_ROUND_HOLES, MIG_SRC_DO_FREEZE},
        {MIG_SRC_FROZEN, MIG_SRC_DO_SEND_LAST},
        {MIG_SRC_LAST_SENT, MIG_SRC_DO_SEND_STATE},
        {MIG_SRC_GOT_READY, MIG_SRC_DO_TELL_READY},
        {MIG_SRC_RELEASING, MIG_SRC_DO_ACCEPT},
        {MIG_SRC_GOT_RUNS, MIG_SRC_DO_TELL_SERVING},
        {MIG_SRC_GOT_ALL, MIG_SRC_DO_CLOSE | MIG_SRC_DO_UNTRACK | MIG_SRC_DO_TELL_END |
                              MIG_SRC_DO_DISCARD},
    };
    static const struct way other[] = {
        {MIG_DST_CHECK_HOLES, MIG_DST_DO_TELL_READY | MIG_DST_DO_SEND_READY},
        {MIG_DST_START,
         MIG_DST_DO_RUN | MIG_DST_DO_ANNOUNCE | MIG_DST_DO_SEND_RUNS | MIG_DST_DO_ACCEPT},
        {MIG_DST_CANCEL, MIG_DST_DO_REFUSE},
        {MIG_DST_ALL_HERE, MIG_DST_DO_SEND_ALL | MIG_DST_DO_TELL_ALL | MIG_DST_DO_CLOSE},
    };
    struct mig_src src = src_at(MIG_SRC_PRECOPY);
    struct mig_dst dst = dst_at(MIG_DST_CHECKING);

    src_goes(&src, way, sizeof way / sizeof way[0]);
    ck_assert_int_eq(src.state, MIG_SRC_DONE);
    ck_assert_int_eq(src.code, MIG_OK);
    dst_goes(&dst, other, sizeof other / sizeof other[0]);
    ck_assert_int_eq(dst.state, MIG_DST_RUNNING);
}
END_TEST

/* What a source that owes nothing does with a lost connection, or with a Runs: nothing.
 */
START_TEST(only_who_owes_pages_is_told_that_the_other_is_lost)
{
    for (unsigned state = MIG_SRC_READY; state <= MIG_SRC_RELEASED; state++) {
        struct mig_src src = src_at((enum mig_src_state)state);

        mig_src_step(&src, &(struct mig_input){.event = MIG_SRC_LOST}, &acts);
        ck_assert_uint_eq(acts.bits, 0);
        mig_src_step(&src, &(struct mig_input){.event = MIG_SRC_GOT_RUNS}, &acts);
        ck_assert_uint_eq(acts.bits, 0);
        ck_assert_int_eq(src.state, state);
        src.holes = true;
        mig_src_step(&src, &(struct mig_input){.event = MIG_SRC_LOST}, &acts);
        ck_assert_uint_eq(acts.bits, MIG_SRC_DO_TELL_ABORT);
        ck_assert_int_eq(src.state, state);
    }
}
END_TEST

/* A reset makes every page new: pre-copy again, and what follows is another decision. */
START_TEST(a_reset_forgets_the_holes)
{
    struct mig_src src = src_at(MIG_SRC_PRECOPY);

    mig_src_step(&src, &(struct mig_input){.event = MIG_SRC_ROUND_HOLES}, &acts);
    ck_assert(src.holes);
    mig_src_step(&src, &(struct mig_input){.event = MIG_SRC_GUEST_RESET}, &acts);
    mig_src_step(&src, &(struct mig_input){.event = MIG_SRC_FROZEN}, &acts);
    ck_assert_int_eq(src.state, MIG_SRC_PRECOPY);
    ck_assert(!src.holes);
    mig_src_step(&src, &(struct mig_input){.event = MIG_SRC_ROUND_SWITCH}, &acts);
    ck_assert(!src.holes);
}
END_TEST

START_TEST(a_reset_while_freezing_goes_back_to_copying)
{
    struct mig_src src = src_at(MIG_SRC_FREEZING);

    mig_src_step(&src, &(struct mig_input){.event = MIG_SRC_GUEST_RESET}, &acts);
    ck_assert_int_eq(src.state, MIG_SRC_UNFREEZING);
    ck_assert_uint_eq(acts.bits, MIG_SRC_DO_MARK_ALL);
    mig_src_step(&src, &(struct mig_input){.event = MIG_SRC_FROZEN}, &acts);
    ck_assert_int_eq(src.state, MIG_SRC_PRECOPY);
    ck_assert_uint_eq(acts.bits,
                      MIG_SRC_DO_THAW | MIG_SRC_DO_ANNOUNCE | MIG_SRC_DO_NEXT_ROUND);
}
END_TEST

/* The source aborts after Ready only when it runs the guest itself. */
START_TEST(a_ready_destination_obeys_an_abort)
{
    struct mig_dst dst = dst_at(MIG_DST_READY);

    mig_dst_step(&dst, &(struct mig_input){.event = MIG_DST_GOT_ABORT}, &acts);
    ck_assert_int_eq(dst.state, MIG_DST_FAILED);
    ck_assert((acts.bits & MIG_DST_DO_DISCARD) != 0);
}
END_TEST

/* A text of the other side is kept; without one the code's own is. */
START_TEST(reasons_travel)
{
    struct mig_src src = src_at(MIG_SRC_PRECOPY);

    mig_src_step(&src,
                 &(struct mig_input){.event = MIG_SRC_GOT_ABORT,
                                     .code = MIG_END_VERIFY,
                                     .text = "block 7 differs"},
                 &acts);
    ck_assert_int_eq(src.code, MIG_END_VERIFY);
    ck_assert_str_eq(src.text, "block 7 differs");
    src = src_at(MIG_SRC_PRECOPY);
    mig_src_step(&src, &(struct mig_input){.event = MIG_SRC_GOT_ABORT}, &acts);
    ck_assert_int_eq(src.code, MIG_END_PEER);
    ck_assert_str_eq(src.text, mig_code_text(MIG_END_PEER));
}
END_TEST

START_TEST(every_code_has_a_name_and_every_end_a_text)
{
    unsigned names = 0;

    for (unsigned code = 0; code < 256; code++) {
        const char *name = mig_code_str((enum mig_code)code);

        if (name != NULL) {
            names++;
            ck_assert(code < MIG_END_BLOCKED ||
                      strcmp(mig_code_text((enum mig_code)code),
                             mig_code_text((enum mig_code)255)) != 0);
        }
        for (unsigned other = 0; name != NULL && other < code; other++) {
            const char *its = mig_code_str((enum mig_code)other);

            ck_assert(its == NULL || strcmp(its, name) != 0);
        }
    }
    ck_assert_uint_eq(names, 1 + 31 + 16);
}
END_TEST

START_TEST(deadlines)
{
    struct mig_times t = times;
    struct mig_src src;
    struct mig_dst dst;
    uint64_t next;

    t.timeout_ns = 60000 * MS;
    mig_src_init(&src, &t, 1, 100 * MS);
    ck_assert_int_eq(mig_src_due(&src, 5099 * MS, &next), MIG_SRC_EVENTS);
    ck_assert_uint_eq(next, 5100 * MS);
    ck_assert_int_eq(mig_src_due(&src, 5100 * MS, &next), MIG_SRC_HANDSHAKE_OVER);
    src.state = MIG_SRC_PRECOPY;
    mig_src_heard(&src, 7000 * MS);
    ck_assert_int_eq(mig_src_due(&src, 11999 * MS, &next), MIG_SRC_EVENTS);
    ck_assert_int_eq(mig_src_due(&src, 12000 * MS, &next), MIG_SRC_SILENT);
    mig_src_heard(&src, 60000 * MS);
    ck_assert_int_eq(mig_src_due(&src, 60100 * MS, &next), MIG_SRC_TIME_OVER);
    src.state = MIG_SRC_LAST;
    src.state_ns = 54000 * MS;
    ck_assert_int_eq(mig_src_due(&src, 59000 * MS, &next), MIG_SRC_HANDOVER_OVER);
    src.state = MIG_SRC_SERVING; /* 10 s from its begin, or from what was heard */
    src.state_ns = 80000 * MS;
    ck_assert_int_eq(mig_src_due(&src, 89999 * MS, &next), MIG_SRC_EVENTS);
    ck_assert_uint_eq(next, 90000 * MS);
    mig_src_heard(&src, 85000 * MS);
    ck_assert_int_eq(mig_src_due(&src, 95000 * MS, &next), MIG_SRC_SILENT);
    src.state = MIG_SRC_READY; /* no deadline of its own */
    ck_assert_int_eq(mig_src_due(&src, UINT64_MAX - 1, &next), MIG_SRC_EVENTS);
    ck_assert_uint_eq(next, UINT64_MAX);

    mig_dst_init(&dst, &t, 100 * MS);
    ck_assert_int_eq(mig_dst_due(&dst, 5100 * MS, &next), MIG_DST_HANDSHAKE_OVER);
    dst.state = MIG_DST_RECEIVING;
    mig_dst_heard(&dst, 7000 * MS);
    ck_assert_int_eq(mig_dst_due(&dst, 11999 * MS, &next), MIG_DST_EVENTS);
    ck_assert_uint_eq(next, 12000 * MS);
    ck_assert_int_eq(mig_dst_due(&dst, 12000 * MS, &next), MIG_DST_SILENT);
    dst.state = MIG_DST_CHECKING;
    dst.state_ns = 20000 * MS;
    ck_assert_int_eq(mig_dst_due(&dst, 25000 * MS, &next), MIG_DST_HANDOVER_OVER);
    ck_assert_int_eq(mig_dst_due(&dst, 60100 * MS, &next), MIG_DST_HANDOVER_OVER);
    dst.state = MIG_DST_READY;
    ck_assert_int_eq(mig_dst_due(&dst, UINT64_MAX - 1, &next), MIG_DST_EVENTS);
    dst.state = MIG_DST_HOLES;
    ck_assert_int_eq(mig_dst_due(&dst, UINT64_MAX - 1, &next), MIG_DST_EVENTS);
    dst.state = MIG_DST_FILLING;
    dst.state_ns = 80000 * MS;
    ck_assert_int_eq(mig_dst_due(&dst, 89999 * MS, &next), MIG_DST_EVENTS);
    ck_assert_int_eq(mig_dst_due(&dst, 90000 * MS, &next), MIG_DST_SILENT);
}
END_TEST

/* Tables in README.md ---------------------------------------------------------------- */
static const char *src_state(unsigned s)
{
    return mig_src_state_str((enum mig_src_state)s);
}
static const char *src_event(unsigned e)
{
    return mig_src_event_str((enum mig_src_event)e);
}
static size_t src_cell(unsigned s, unsigned e, char *buf, size_t cap)
{
    return mig_src_cell((enum mig_src_state)s, (enum mig_src_event)e, buf, cap);
}
static const char *dst_state(unsigned s)
{
    return mig_dst_state_str((enum mig_dst_state)s);
}
static const char *dst_event(unsigned e)
{
    return mig_dst_event_str((enum mig_dst_event)e);
}
static size_t dst_cell(unsigned s, unsigned e, char *buf, size_t cap)
{
    return mig_dst_cell((enum mig_dst_state)s, (enum mig_dst_event)e, buf, cap);
}

START_TEST(readme_has_the_tables)
{
    static const struct doc_machine src = {MIG_SRC_STATES, MIG_SRC_EVENTS, src_state,
                                           src_event, src_cell};
    static const struct doc_machine dst = {MIG_DST_STATES, MIG_DST_EVENTS, dst_state,
                                           dst_event, dst_cell};

    doc_expect("migrate/README.md", "source", &src);
    doc_expect("migrate/README.md", "destination", &dst);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("mig_states");
    TCase *tc = tcase_create("states");

    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, source_every_cell);
    tcase_add_test(tc, source_thaw_needs_a_later_claim);
    tcase_add_test(tc, source_can_be_cancelled_until_ready);
    tcase_add_test(tc, destination_every_cell);
    tcase_add_test(tc, destination_start_needs_a_claim);
    tcase_add_test(tc, the_way_it_should_go);
    tcase_add_test(tc, the_way_with_holes);
    tcase_add_test(tc, only_who_owes_pages_is_told_that_the_other_is_lost);
    tcase_add_test(tc, a_reset_forgets_the_holes);
    tcase_add_test(tc, a_reset_while_freezing_goes_back_to_copying);
    tcase_add_test(tc, a_ready_destination_obeys_an_abort);
    tcase_add_test(tc, reasons_travel);
    tcase_add_test(tc, every_code_has_a_name_and_every_end_a_text);
    tcase_add_test(tc, deadlines);
    tcase_add_test(tc, readme_has_the_tables);
    suite_add_tcase(s, tc);
    return s;
}

UNIT_MAIN(suite)
