/* SPDX-License-Identifier: Apache-2.0 */
/* A live migration as the coordinator sees it: what both ends report, and what is made of
 * it when one of them, or both, are lost in the middle. */
#include "tests/unit/ha/move_sim.h"

START_TEST(it_moves)
{
    begin();
    op_at(third, "vm stop", "web1", "");
    ck_assert_uint_eq(sim[third].result.exit_code, 4); /* under way */
    op_at(third, "vm migrate", "web1", "");
    ck_assert_uint_eq(sim[third].result.exit_code, 4);
    offer();
    tell(dest, HA_OUTCOME_RUNNING, 2, "downtime 40 ms");
    goes_on_there();
    ck_assert_ptr_nonnull(strstr(vm_at(third)->last, "downtime 40 ms"));
    ck_assert_uint_eq(sim[source].discards, 1);
    ck_assert_uint_eq(sim[dest].discards, 0);
    expect_equal_states();
}
END_TEST

START_TEST(what_cannot_be_is_refused)
{
    op_at(1, "vm migrate", "web1", "");
    ck_assert_uint_eq(sim[1].result.exit_code, 3);
    run_web1();
    op_at(1, "vm migrate", "web1", "node=n9\n");
    ck_assert_uint_eq(sim[1].result.exit_code, 3);
    op_at(1, "vm migrate", "web1", "downtime=abc\n");
    ck_assert_uint_eq(sim[1].result.exit_code, 2);
    op_at(1, "vm migrate", "web1", "max-slowdown=91\n");
    ck_assert_uint_eq(sim[1].result.exit_code, 2);
    op_at(1, "vm migrate", "web1", "colour=red\n");
    ck_assert_uint_eq(sim[1].result.exit_code, 2);
    op_at(1, "vm migrate", "web1", "cancel=true\n");
    ck_assert_uint_eq(sim[1].result.exit_code, 4);
    ck_assert_int_eq(vm_at(1)->state, HA_VM_RUNNING);
    ck_assert_uint_eq(sim[1].moves + sim[2].moves + sim[3].moves, 0);
    op_at(1, "vm migrate", "web1", ""); /* placement chooses: not where it is */
    ck_assert_uint_eq(sim[1].result.exit_code, 0);
    ck_assert_uint_ne(vm_at(1)->move.to, vm_at(1)->owner);
}
END_TEST

START_TEST(a_destination_that_fails_calls_it_off)
{
    begin();
    offer();
    tell(dest, HA_OUTCOME_MOVE_FAILED, 0, "not enough memory");
    ck_assert_int_eq(vm_at(third)->state, HA_VM_MIGRATING);
    ck_assert(sim[source].move.called_off);
    tell(source, HA_OUTCOME_RUNNING, 1, "whatever");
    ck_assert_int_eq(vm_at(third)->state, HA_VM_RUNNING);
    ck_assert_uint_eq(vm_at(third)->owner, source);
    ck_assert_uint_eq(vm_at(third)->move.to, 0);
    ck_assert(vm_at(third)->last_failed);
    ck_assert_ptr_nonnull(strstr(vm_at(third)->last, "not enough memory"));
    ck_assert_uint_eq(sim[source].discards, 0);
}
END_TEST

START_TEST(a_cancelled_one_stays)
{
    begin();
    offer();
    op_at(third, "vm migrate", "web1", "cancel=true\n");
    ck_assert_uint_eq(sim[third].result.exit_code, 0);
    ck_assert(sim[source].move.called_off);
    ck_assert(sim[dest].move.called_off);
    tell(source, HA_OUTCOME_FROZEN, 1, "not migrated");    /* it was frozen by then */
    ck_assert_int_eq(vm_at(third)->state, HA_VM_STARTING); /* thaws by the next claim */
    ck_assert_uint_eq(vm_at(third)->owner, source);
    ck_assert_ptr_nonnull(strstr(vm_at(third)->last, "cancelled"));
}
END_TEST

static void kill_it(void)
{
    struct ha_op kill = {.uid = sim_uuid(NULL), .flags = HA_OP_KILL, .body = ""};

    strcpy(kill.verb, "vm stop");
    strcpy(kill.object, "web1");
    strcpy(kill.actor, "root");
    ha_agent_op(&sim[third].agent, &kill, now_ns);
    settle();
}

START_TEST(killed_in_the_middle)
{
    begin();
    offer();
    kill_it();
    ck_assert(sim[source].move.called_off);
    ck_assert_uint_eq(sim[source].stops, 0);
    tell(dest, HA_OUTCOME_RUNNING, 2, ""); /* too late: it had the claim */
    ck_assert_uint_eq(vm_at(third)->owner, dest);
    ck_assert_int_eq(vm_at(third)->state, HA_VM_STOPPING);
    ck_assert_uint_eq(sim[dest].stops, 1);
}
END_TEST

/* Killed while the claim changes hands: who has it speaks first, and if it ended before
 * it ran (post-copy: its source is gone), that is the end. */
START_TEST(killed_between_the_claims)
{
    begin();
    offer();
    kill_it();
    tell(source, HA_OUTCOME_MOVED, 1, "the destination has its claim");
    tick_for(2 * NSEC_PER_SEC);
    ck_assert_int_eq(vm_at(third)->state, HA_VM_UNKNOWN);
    ck_assert_uint_eq(sim[source].stops, 0); /* it may owe memory */
    if (_i == 0) {
        tell(dest, HA_OUTCOME_ENDED, 2, "the source was lost");
    } else if (_i == 1) {
        tell(dest, HA_OUTCOME_MOVE_FAILED, 0, "no");
    } else {
        tell(dest, HA_OUTCOME_RUNNING, 2, "");
        ck_assert_int_eq(vm_at(third)->state, HA_VM_STOPPING);
        ck_assert_uint_eq(sim[dest].stops, 1);
        tell(dest, HA_OUTCOME_STOPPED, 2, "killed as told");
    }
    tick_for(2 * NSEC_PER_SEC);
    ck_assert_int_eq(vm_at(third)->state, HA_VM_STOPPED);
    ck_assert_uint_eq(vm_at(third)->move.to, 0);
    ck_assert_uint_eq(sim[1].starts + sim[2].starts + sim[3].starts, 1);
    expect_equal_states();
}
END_TEST

/* The record did not wait for it: a later claim's end is heard all the same. */
START_TEST(an_end_with_a_later_claim_counts)
{
    run_web1();
    source = vm_at(1)->owner;
    dest = source % NODES + 1;
    third = dest % NODES + 1;
    kill_it();
    ck_assert_int_eq(vm_at(third)->state, HA_VM_STOPPING);
    tell(dest, HA_OUTCOME_ENDED, 2, "the source was lost");
    ck_assert_int_eq(vm_at(third)->state, HA_VM_STOPPED);
    ck_assert_uint_eq(vm_at(third)->owner, dest);
    expect_equal_states();
}
END_TEST

/* The source dies; the destination had all of it, and the claim. Nobody else starts it,
 * before or after the proof, until the destination has spoken. */
START_TEST(the_destination_speaks_first)
{
    begin();
    offer();
    view_without(8, source);
    tick_for(2 * NSEC_PER_SEC);
    ck_assert_int_eq(vm_at(third)->state, HA_VM_UNKNOWN);
    ck_assert_uint_eq(vm_at(third)->move.to, dest);
    ck_assert_int_eq(sim[dest].move_state, HA_VM_UNKNOWN); /* told to decide */
    ck_assert_uint_eq(sim[dest].starts + sim[third].starts, 0);
    tell(dest, HA_OUTCOME_RUNNING, 2, "");
    goes_on_there();
    tick_for(30 * NSEC_PER_SEC);
    ck_assert_uint_eq(sim[dest].starts + sim[third].starts, 0);
}
END_TEST

START_TEST(the_destination_has_nothing)
{
    begin();
    offer();
    view_without(8, source);
    tick_for(2 * NSEC_PER_SEC);
    tell(dest, HA_OUTCOME_MOVE_FAILED, 0, "its source left before all of it was here");
    local_at(dest, HA_LOCAL_STARTING, 0, true);
    tick_for(2 * NSEC_PER_SEC);
    ck_assert_int_eq(vm_at(third)->state, HA_VM_UNKNOWN);
    ck_assert_uint_eq(vm_at(third)->move.to, 0);
    ck_assert_uint_eq(sim[dest].fences + sim[third].fences, 1);
    fenced(source);
    ck_assert_int_eq(vm_at(third)->state, HA_VM_STARTING);
    ck_assert_uint_eq(sim[dest].starts + sim[third].starts, 1);
}
END_TEST

/* It ended there, and its report was lost with the view: the summary says it. */
START_TEST(the_destination_ended_unheard)
{
    begin();
    offer();
    local_at(dest, HA_LOCAL_STARTING, 0, true);
    view_without(8, source);
    ck_assert_uint_eq(vm_at(third)->move.to, 0);
    tick_for(2 * NSEC_PER_SEC);
    ck_assert_int_eq(vm_at(third)->state, HA_VM_UNKNOWN);
    fenced(source);
    ck_assert_int_eq(vm_at(third)->state, HA_VM_STARTING);
}
END_TEST

/* The destination is lost: the source is told, and may lose the race for the claim to a
 * dead destination. Then it is that one whose death must be proven. */
START_TEST(the_source_lost_the_race_to_the_dead)
{
    begin();
    offer();
    view_without(8, dest);
    tick_for(NSEC_PER_SEC);
    ck_assert_int_eq(vm_at(third)->state, HA_VM_MIGRATING);
    ck_assert(sim[source].move.called_off);
    tell(source, HA_OUTCOME_MOVED, 1, "the destination has its claim");
    ck_assert_int_eq(vm_at(third)->state, HA_VM_UNKNOWN);
    ck_assert_uint_eq(vm_at(third)->owner, dest);
    tick_for(2 * NSEC_PER_SEC);
    ck_assert_uint_eq(sim[source].fences + sim[third].fences, 1);
    fenced(dest);
    ck_assert_int_eq(vm_at(third)->state, HA_VM_STARTING);
}
END_TEST

START_TEST(the_source_takes_it_back)
{
    begin();
    offer();
    view_without(8, dest);
    tell(source, HA_OUTCOME_RUNNING, 2, "not migrated");
    ck_assert_int_eq(vm_at(third)->state, HA_VM_RUNNING);
    ck_assert_uint_eq(vm_at(third)->owner, source);
    ck_assert_uint_eq(vm_at(third)->epoch, 2);
    tick_for(30 * NSEC_PER_SEC);
    ck_assert_uint_eq(sim[source].fences + sim[third].fences, 0); /* nobody needs it */
}
END_TEST

/* Its process at the source is gone after the release: who has the claim, says so. */
START_TEST(gone_at_the_source)
{
    begin();
    offer();
    tell(source, HA_OUTCOME_MOVED, 1, "gemel-vmm was killed");
    ck_assert_int_eq(vm_at(third)->state, HA_VM_UNKNOWN);
    tick_for(5 * NSEC_PER_SEC);
    ck_assert_uint_eq(sim[third].starts + sim[dest].starts, 0);
    tell(dest, HA_OUTCOME_MOVE_FAILED, 0, "no");
    tick_for(5 * NSEC_PER_SEC);
    ck_assert_int_eq(vm_at(third)->state, HA_VM_STARTING); /* restarted */
}
END_TEST

/* The rest has a quorum: it starts the VM when both are proven dead, not before. */
START_TEST(both_ends_are_lost)
{
    uint32_t left[SIM_NODES];
    unsigned n = 0, starts = 0;

    begin();
    offer();
    grow(8);
    ck_assert_int_eq(vm_at(third)->state, HA_VM_MIGRATING);
    for (uint32_t id = 1; id <= SIM_NODES; id++) {
        if (id != source && id != dest) {
            left[n++] = id;
        }
        sim[id].starts = 0;
    }
    sim[source].agent.view.agreed = false;
    sim[dest].agent.view.agreed = false;
    form(9, n, left);
    settle();
    tick_for(5 * NSEC_PER_SEC);
    ck_assert_int_eq(vm_at(third)->state, HA_VM_UNKNOWN);
    for (unsigned i = 0; i < 2; i++) {
        uint32_t lost = i == 0 ? dest : source; /* whose death is asked for first */

        ck_assert_int_eq(ha_state_node(&sim[third].agent.state, lost)->fence,
                         HA_FENCE_PENDING);
        fenced(lost);
        tick_for(5 * NSEC_PER_SEC);
        starts = 0;
        for (unsigned k = 0; k < n; k++) {
            starts += sim[left[k]].starts;
        }
        ck_assert_uint_eq(starts, i);
    }
    ck_assert_int_eq(vm_at(third)->state, HA_VM_STARTING);
}
END_TEST

/* It took the claim and then failed: the source's memory is void. */
START_TEST(failed_with_the_claim)
{
    begin();
    offer();
    tell(dest, HA_OUTCOME_START_FAILED, 2, "disk is away");
    ck_assert_uint_ge(sim[source].discards, 1);
    ck_assert_uint_eq(vm_at(third)->move.to, 0);
    ck_assert(vm_at(third)->last_failed);
    tick_for(5 * NSEC_PER_SEC);
    ck_assert_int_eq(vm_at(third)->state, HA_VM_STARTING);
}
END_TEST

/* Agents that were restarted know nothing of it. */
START_TEST(an_agent_forgot)
{
    begin();
    offer();
    local_at(source, HA_LOCAL_RUNNING, 1, false);
    form(8, 3, all);
    settle();
    ck_assert_int_eq(vm_at(third)->state, HA_VM_RUNNING);
    ck_assert_uint_eq(vm_at(third)->owner, source);
    ck_assert_uint_eq(vm_at(third)->move.to, 0);
    ck_assert(vm_at(third)->last_failed);
    /* And if the destination had the claim after all: the record follows. */
    tell(dest, HA_OUTCOME_RUNNING, 2, "");
    ck_assert_uint_eq(vm_at(third)->owner, dest);
    ck_assert_int_eq(vm_at(third)->state, HA_VM_RUNNING);
    ck_assert_uint_eq(sim[source].discards, 1);
}
END_TEST

/* The destination ended, the source went on; that it said so was lost with the ring. */
START_TEST(a_lost_word_of_the_source)
{
    begin();
    offer();
    local_at(dest, HA_LOCAL_STARTING, 0, true);
    local_at(source, _i == 0 ? HA_LOCAL_RUNNING : HA_LOCAL_FROZEN, 2, false);
    form(8, 3, all);
    settle();
    ck_assert_int_ne(vm_at(third)->state, HA_VM_MIGRATING);
    ck_assert_uint_eq(vm_at(third)->owner, source);
    ck_assert_uint_eq(vm_at(third)->epoch, 2);
    ck_assert_uint_eq(vm_at(third)->move.to, 0);
    ck_assert(vm_at(third)->last_failed);
}
END_TEST

/* The destination makes what is defined: that does not change under way. */
START_TEST(its_definition_stays)
{
    char text[512];

    begin();
    snprintf(text, sizeof text, "%s# changed\n", vm_yaml);
    op_at(third, "vm apply", "", text);
    ck_assert_uint_eq(sim[third].result.exit_code, 4);
    ck_assert_ptr_nonnull(strstr(sim[third].result.text, "is being migrated"));
}
END_TEST

START_TEST(a_destination_that_forgot)
{
    begin();
    offer();
    local_at(dest, HA_LOCAL_STARTING, 0, true);
    form(8, 3, all);
    settle();
    ck_assert_int_eq(vm_at(third)->state, HA_VM_MIGRATING);
    ck_assert(sim[source].move.called_off);
}
END_TEST

/* A node is emptied for maintenance, and its VM comes back. */
START_TEST(there_and_back)
{
    char name[NODE_NAME_MAX + 1];

    run_web1();
    source = vm_at(1)->owner;
    dest_instance = sim_uuid(NULL);
    strcpy(name, sim[source].agent.self.name);
    op_at(1, "node maintenance", name, "perhaps");
    ck_assert_uint_eq(sim[1].result.exit_code, 2);
    op_at(1, "node maintenance", name, "on");
    ck_assert_uint_eq(sim[1].result.exit_code, 0);
    ck_assert_int_eq(vm_at(1)->state, HA_VM_MIGRATING);
    dest = vm_at(1)->move.to;
    ck_assert_uint_ne(dest, source);
    third = 6 - source - dest;
    offer();
    tell(dest, HA_OUTCOME_RUNNING, 2, "");
    ck_assert_uint_eq(vm_at(1)->owner, dest);
    ck_assert_uint_eq(vm_at(1)->home, source);
    tick_for(60 * NSEC_PER_SEC);
    ck_assert_int_eq(vm_at(1)->state, HA_VM_RUNNING); /* stays there */
    op_at(1, "vm migrate", "web1", "");
    ck_assert_uint_ne(vm_at(1)->move.to, source); /* nothing is placed on it */
    op_at(1, "vm migrate", "web1", "cancel=true\n");
    tell(dest, HA_OUTCOME_RUNNING, 2, "");
    ck_assert_uint_eq(vm_at(1)->home, 0); /* an operator's wish counts more */
    expect_equal_states();
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("ha_move");
    TCase *tc = tcase_create("move");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, it_moves);
    tcase_add_test(tc, what_cannot_be_is_refused);
    tcase_add_test(tc, a_destination_that_fails_calls_it_off);
    tcase_add_test(tc, a_cancelled_one_stays);
    tcase_add_test(tc, killed_in_the_middle);
    tcase_add_loop_test(tc, killed_between_the_claims, 0, 3);
    tcase_add_test(tc, an_end_with_a_later_claim_counts);
    tcase_add_test(tc, the_destination_speaks_first);
    tcase_add_test(tc, the_destination_has_nothing);
    tcase_add_test(tc, the_destination_ended_unheard);
    tcase_add_test(tc, the_source_lost_the_race_to_the_dead);
    tcase_add_test(tc, the_source_takes_it_back);
    tcase_add_test(tc, gone_at_the_source);
    tcase_add_test(tc, both_ends_are_lost);
    tcase_add_test(tc, failed_with_the_claim);
    tcase_add_test(tc, an_agent_forgot);
    tcase_add_loop_test(tc, a_lost_word_of_the_source, 0, 2);
    tcase_add_test(tc, its_definition_stays);
    tcase_add_test(tc, a_destination_that_forgot);
    tcase_add_test(tc, there_and_back);
    suite_add_tcase(s, tc);
    return s;
}

UNIT_MAIN(suite)
