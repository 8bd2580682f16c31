/* SPDX-License-Identifier: Apache-2.0 */
/* Every cell of both tables: what it may do, and that ft/README.md says the same.
 * DOC_TABLES=1 prints the tables, for README.md. */
#include "ft/ft_primary.h"
#include "ft/ft_secondary.h"
#include "tests/unit/table_doc.h"

static struct ft_acts acts;

static bool is_word_of_agent(unsigned event)
{
    return event >= FT_PRI_TWIN_WON;
}

static bool stands(unsigned state)
{
    return state == FT_PRI_ARM || state == FT_PRI_BARRIER ||
           state == FT_PRI_HOLD_BARRIER || state == FT_PRI_SWITCHING ||
           state == FT_PRI_SWITCH || state == FT_PRI_LOST;
}

START_TEST(primary_every_cell)
{
    for (unsigned state = 0; state < FT_PRI_STATES; state++) {
        for (unsigned event = 0; event < FT_PRI_EVENTS; event++) {
            struct ft_primary p = {.state = (enum ft_primary_state)state, .epoch = 17};
            bool claimed = event == FT_PRI_TWIN_WON || event == FT_PRI_ALONE_WON;
            bool could = ft_primary_may_release(&p);

            ft_primary_step(&p, &(struct ft_input){.event = event, .epoch = 18}, &acts);
            /* All that is held leaves by a claim without a twin alone, and where that was
             * won the session is over. */
            ck_assert(((acts.bits & FT_PRI_DO_RELEASE) != 0) ==
                      (p.state == FT_PRI_ALONE && state >= FT_PRI_ARM &&
                       state <= FT_PRI_SWITCH && event == FT_PRI_ALONE_WON));
            /* Once another claim was seen nothing runs, and nothing leaves. */
            if (state == FT_PRI_LOST) {
                ck_assert(p.state == FT_PRI_LOST || p.state == FT_PRI_ENDED);
                ck_assert_uint_eq(acts.bits & (FT_PRI_DO_RUN | FT_PRI_DO_RELEASE), 0);
            }
            ck_assert(!ft_primary_may_release(&p) || could || event == FT_PRI_TWIN_WON);
            /* A guest that stands runs by a claim, or when the barrier is over. */
            if (stands(state) && (acts.bits & FT_PRI_DO_RUN) != 0) {
                ck_assert(claimed || event == FT_PRI_BARRIER_DONE);
            }
            /* Whoever goes to where it stands is stopped, but for who stands already. */
            if (stands(p.state) && !stands(state) && state != FT_PRI_SYNC &&
                (state == FT_PRI_ON || state == FT_PRI_HOLD)) {
                ck_assert((acts.bits & FT_PRI_DO_STOP) != 0);
            }
            ck_assert_uint_eq(p.epoch,
                              claimed && !(acts.bits & FT_PRI_DO_REFUSE) ? 18 : 17);
            /* The twin is told to end only by who has the claim. */
            if ((acts.bits & FT_PRI_DO_SEND_END) != 0) {
                ck_assert(event == FT_PRI_ALONE_WON || event == FT_PRI_END ||
                          event == FT_PRI_GUEST_OFF);
                ck_assert(state != FT_PRI_LOST &&
                          (state != FT_PRI_SWITCH || event == FT_PRI_ALONE_WON));
            }
            /* The agent always gets an answer, one. */
            ck_assert_int_eq(((acts.bits & FT_PRI_DO_ACCEPT) != 0) +
                                 ((acts.bits & FT_PRI_DO_REFUSE) != 0),
                             is_word_of_agent(event));
            if ((acts.bits & FT_PRI_DO_REFUSE) != 0) {
                ck_assert_uint_eq(acts.bits, FT_PRI_DO_REFUSE);
                ck_assert_uint_eq(p.state, state);
                ck_assert(acts.text[0] != '\0');
            }
            /* An end is told, with a reason. */
            if (p.state >= FT_PRI_ALONE && state < FT_PRI_ALONE) {
                ck_assert((acts.bits & FT_PRI_DO_TELL_END) != 0);
                ck_assert((acts.bits & FT_PRI_DO_CLOSE) != 0);
                ck_assert(acts.text[0] != '\0');
            }
        }
    }
}
END_TEST

static bool quiet(unsigned state)
{
    return state >= FT_SEC_QUIET && state <= FT_SEC_QUIET_DIVERGED;
}

START_TEST(secondary_every_cell)
{
    for (unsigned state = 0; state < FT_SEC_STATES; state++) {
        for (unsigned event = 0; event < FT_SEC_EVENTS; event++) {
            struct ft_secondary s = {.state = (enum ft_secondary_state)state,
                                     .epoch = 17};
            bool acked = ft_secondary_may_ack(&s), word, told;

            ft_secondary_step(&s, &(struct ft_input){.event = event, .epoch = 18}, &acts);
            told = state >= FT_SEC_DRAINED && state <= FT_SEC_QUIET_DIVERGED;
            word = event == FT_SEC_PEER_DEAD || event >= FT_SEC_GO_ON;
            /* Live by a claim alone, and only where nothing was acknowledged any more and
             * all that was is replayed. */
            ck_assert(((acts.bits & FT_SEC_DO_GO_LIVE) != 0) ==
                      (told && event == FT_SEC_CLAIM_WON));
            ck_assert((s.state == FT_SEC_LIVE) ==
                      (state == FT_SEC_LIVE || (acts.bits & FT_SEC_DO_GO_LIVE) != 0));
            /* Before the agent hears that it could take over, acknowledging ends. */
            if ((acts.bits & FT_SEC_DO_TELL_DRAINED) != 0) {
                ck_assert(!ft_secondary_may_ack(&s));
                ck_assert(!acked || (acts.bits & FT_SEC_DO_ACKS_OFF) != 0);
                ck_assert(acts.text[0] != '\0');
            }
            ck_assert(((acts.bits & FT_SEC_DO_ACKS_OFF) != 0) ==
                      (acked && quiet(s.state)));
            /* Once it was told, only the agent's word brings them back. */
            if (!acked && ft_secondary_may_ack(&s)) {
                ck_assert(state == FT_SEC_READY || event == FT_SEC_GO_ON ||
                          (state == FT_SEC_QUIET && event == FT_SEC_HEARD));
                ck_assert((acts.bits & FT_SEC_DO_ACKS_ON) != 0);
            }
            ck_assert_int_eq(((acts.bits & FT_SEC_DO_ACCEPT) != 0) +
                                 ((acts.bits & FT_SEC_DO_REFUSE) != 0),
                             word);
            if ((acts.bits & FT_SEC_DO_REFUSE) != 0) {
                ck_assert_uint_eq(acts.bits, FT_SEC_DO_REFUSE);
                ck_assert(acts.text[0] != '\0');
            }
            if (s.state == FT_SEC_GONE && state != FT_SEC_GONE) {
                ck_assert(state != FT_SEC_LIVE);
                ck_assert((acts.bits & FT_SEC_DO_DISCARD) != 0);
                ck_assert((acts.bits & FT_SEC_DO_TELL_END) != 0);
            }
        }
    }
}
END_TEST

START_TEST(claims_must_be_later)
{
    for (uint64_t epoch = 0; epoch <= 17; epoch++) {
        struct ft_primary p = {.state = FT_PRI_HOLD, .epoch = 17};
        struct ft_secondary s = {.state = FT_SEC_DRAINED, .epoch = 17};

        ft_primary_step(&p, &(struct ft_input){.event = FT_PRI_ALONE_WON, .epoch = epoch},
                        &acts);
        ck_assert_uint_eq(acts.bits, FT_PRI_DO_REFUSE);
        ck_assert_int_eq(p.state, FT_PRI_HOLD);
        ft_secondary_step(
            &s, &(struct ft_input){.event = FT_SEC_CLAIM_WON, .epoch = epoch}, &acts);
        ck_assert_uint_eq(acts.bits, FT_SEC_DO_REFUSE);
        ck_assert_int_eq(s.state, FT_SEC_DRAINED);
    }
}
END_TEST

START_TEST(a_broken_channel_has_no_way_back)
{
    struct ft_primary p = {.state = FT_PRI_ON, .epoch = 17};
    struct ft_secondary s = {.state = FT_SEC_REPLAY, .epoch = 17};

    ft_primary_step(&p, &(struct ft_input){.event = FT_PRI_BROKEN}, &acts);
    ft_primary_step(&p, &(struct ft_input){.event = FT_PRI_GO_ON}, &acts);
    ck_assert_uint_eq(acts.bits, FT_PRI_DO_REFUSE);
    ck_assert_int_eq(p.state, FT_PRI_HOLD);
    ft_primary_step(&p, &(struct ft_input){.event = FT_PRI_HEARD}, &acts);
    ck_assert_uint_eq(acts.bits, 0);
    ft_secondary_step(&s, &(struct ft_input){.event = FT_SEC_BROKEN}, &acts);
    ft_secondary_step(&s, &(struct ft_input){.event = FT_SEC_CAUGHT_UP}, &acts);
    ft_secondary_step(&s, &(struct ft_input){.event = FT_SEC_GO_ON}, &acts);
    ck_assert_uint_eq(acts.bits, FT_SEC_DO_REFUSE);
    ck_assert_int_eq(s.state, FT_SEC_DRAINED);
    ft_secondary_step(&s, &(struct ft_input){.event = FT_SEC_HEARD}, &acts);
    ck_assert_uint_eq(acts.bits, 0);
    /* Armed while the channel broke: it runs, held, and asks at once. */
    p = (struct ft_primary){.state = FT_PRI_ARM, .epoch = 17};
    ft_primary_step(&p, &(struct ft_input){.event = FT_PRI_BROKEN}, &acts);
    ft_primary_step(&p, &(struct ft_input){.event = FT_PRI_TWIN_WON, .epoch = 18}, &acts);
    ck_assert_int_eq(p.state, FT_PRI_HOLD);
    ck_assert((acts.bits & FT_PRI_DO_RUN) != 0);
    ck_assert((acts.bits & FT_PRI_DO_TELL_HOLD) != 0);
}
END_TEST

static const char *pri_state(unsigned s)
{
    return ft_primary_state_str((enum ft_primary_state)s);
}
static const char *pri_event(unsigned e)
{
    return ft_primary_event_str((enum ft_primary_event)e);
}
static size_t pri_cell(unsigned s, unsigned e, char *buf, size_t cap)
{
    return ft_primary_cell((enum ft_primary_state)s, (enum ft_primary_event)e, buf, cap);
}
static const char *sec_state(unsigned s)
{
    return ft_secondary_state_str((enum ft_secondary_state)s);
}
static const char *sec_event(unsigned e)
{
    return ft_secondary_event_str((enum ft_secondary_event)e);
}
static size_t sec_cell(unsigned s, unsigned e, char *buf, size_t cap)
{
    return ft_secondary_cell((enum ft_secondary_state)s, (enum ft_secondary_event)e, buf,
                             cap);
}

START_TEST(readme_has_the_tables)
{
    static const struct doc_machine pri = {FT_PRI_STATES, FT_PRI_EVENTS, pri_state,
                                           pri_event, pri_cell};
    static const struct doc_machine sec = {FT_SEC_STATES, FT_SEC_EVENTS, sec_state,
                                           sec_event, sec_cell};

    doc_expect("ft/README.md", _i == 0 ? "primary" : "secondary", _i == 0 ? &pri : &sec);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("ft_states");
    TCase *tc = tcase_create("states");

    tcase_add_test(tc, primary_every_cell);
    tcase_add_test(tc, secondary_every_cell);
    tcase_add_test(tc, claims_must_be_later);
    tcase_add_test(tc, a_broken_channel_has_no_way_back);
    tcase_add_loop_test(tc, readme_has_the_tables, 0, 2);
    suite_add_tcase(s, tc);
    return s;
}

UNIT_MAIN(suite)
