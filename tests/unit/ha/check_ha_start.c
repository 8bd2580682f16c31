/* SPDX-License-Identifier: Apache-2.0 */
/* What the coordinator makes of one VM's starts, stops, suspends and pauses. */
#include "tests/unit/ha/ha_sim.h"

/* Stopped, and wanted again before it had ended: its end is not the last word. */
START_TEST(started_again_while_it_stops)
{
    struct ha_vm_report ended = {
        .outcome = HA_OUTCOME_ENDED, .epoch = 1, .guest_shutdown = true};
    uint32_t owner;

    run_web1();
    owner = vm_at(1)->owner;
    op_at(2, "vm stop", "web1", "");
    ck_assert_int_eq(vm_at(1)->state, HA_VM_STOPPING);
    op_at(2, "vm start", "web1", "");
    ck_assert_uint_eq(sim[2].result.exit_code, 0);
    ended.vm = vm_at(1)->uuid;
    ended.attempt = vm_at(1)->attempt;
    ended.instance = vm_at(1)->instance;
    ha_agent_local_vm(&sim[owner].agent, &(struct ha_local_vm){.vm = ended.vm}, true);
    ha_agent_vm_report(&sim[owner].agent, &ended, now_ns);
    settle();
    tick_for(5 * NSEC_PER_SEC);
    ck_assert_int_eq(vm_at(1)->desired, HA_DESIRED_RUNNING);
    ck_assert_int_eq(vm_at(1)->state, HA_VM_STARTING);
}
END_TEST

static uint32_t suspend_web1(struct ha_vm_report *ret_report)
{
    uint32_t owner;

    run_web1();
    owner = vm_at(1)->owner;
    op_at(2, "vm suspend", "web1", "");
    ck_assert_uint_eq(sim[2].result.exit_code, 0);
    ck_assert_int_eq(vm_at(1)->state, HA_VM_SUSPENDING);
    ck_assert_uint_eq(sim[owner].saves, 1);
    *ret_report = (struct ha_vm_report){.vm = vm_at(1)->uuid,
                                        .attempt = sim[owner].last_attempt,
                                        .instance = vm_at(1)->instance,
                                        .epoch = 1};
    return owner;
}

START_TEST(suspended_stays_so_until_it_is_resumed)
{
    struct ha_vm_report report;
    uint32_t owner;

    op_at(2, "vm suspend", "web1", "");
    ck_assert_uint_eq(sim[2].result.exit_code, 3);
    owner = suspend_web1(&report);
    op_at(2, "vm stop", "web1", "");
    ck_assert_uint_eq(sim[2].result.exit_code, 4); /* under way */
    report.outcome = HA_OUTCOME_SUSPENDED;
    ha_agent_local_vm(&sim[owner].agent, &(struct ha_local_vm){.vm = report.vm}, true);
    ha_agent_vm_report(&sim[owner].agent, &report, now_ns);
    settle();
    ck_assert_int_eq(vm_at(3)->state, HA_VM_SUSPENDED);
    form(8, 2, rest); /* without its last owner */
    settle();
    tick_for(30 * NSEC_PER_SEC);
    ck_assert_int_eq(vm_at(2)->state, HA_VM_SUSPENDED);
    ck_assert_uint_eq(sim[2].fences + sim[3].fences, 0);
    op_at(2, "vm resume", "web1", "");
    ck_assert_int_eq(vm_at(2)->state, HA_VM_STARTING);
    report.attempt = sim[vm_at(2)->owner].last_attempt;
    report.outcome = HA_OUTCOME_NOT_RESUMED;
    strcpy(report.text, "suspend.gms is damaged");
    ha_agent_vm_report(&sim[vm_at(2)->owner].agent, &report, now_ns);
    settle();
    tick_for(30 * NSEC_PER_SEC);
    ck_assert_int_eq(vm_at(2)->state, HA_VM_SUSPENDED);
    ck_assert(vm_at(2)->last_failed);
    ck_assert_str_eq(vm_at(2)->last, "suspend.gms is damaged");
}
END_TEST

START_TEST(a_suspend_that_fails_thaws)
{
    struct ha_vm_report report;
    uint32_t owner = suspend_web1(&report);
    unsigned starts = sim[owner].starts;

    report.outcome = HA_OUTCOME_FROZEN;
    strcpy(report.text, "not suspended: disk full");
    ha_agent_vm_report(&sim[owner].agent, &report, now_ns);
    settle();
    ck_assert_int_eq(vm_at(1)->state, HA_VM_STARTING);
    ck_assert_int_eq(vm_at(1)->desired, HA_DESIRED_RUNNING);
    ck_assert_uint_eq(vm_at(1)->owner, owner);
    ck_assert_uint_eq(sim[owner].starts, starts + 1);
    ck_assert(vm_at(1)->last_failed);
    ck_assert_str_eq(vm_at(1)->last, "not suspended: disk full");
}
END_TEST

/* However long its disk is away: no stop, no other node, one event. */
START_TEST(a_paused_vm_is_neither_hung_nor_late)
{
    struct ha_vm_report report = {.outcome = HA_OUTCOME_FROZEN, .epoch = 1};
    uint64_t since_ns = 0;
    unsigned starts, told;
    uint32_t owner;

    run_web1();
    owner = vm_at(1)->owner;
    report.vm = vm_at(1)->uuid;
    report.instance = vm_at(1)->instance;
    starts = sim[owner].starts;
    told = sim[owner].told;
    strcpy(report.text, "paused: disk a: connection lost");
    for (unsigned i = 0; i < 4; i++) {
        report.attempt = sim[owner].last_attempt;
        ha_agent_vm_report(&sim[owner].agent, &report, now_ns);
        settle();
        tick_for(100 * NSEC_PER_SEC);
        ck_assert(ha_vm_paused(vm_at(1)));
        ck_assert_uint_eq(vm_at(1)->owner, owner);
        ck_assert_uint_eq(sim[owner].starts, starts + i + 1); /* thaws */
        ck_assert_uint_eq(sim[owner].stops, 0);
        ck_assert(i == 0 || since_ns == vm_at(1)->changed_ns);
        since_ns = vm_at(1)->changed_ns;
    }
    ck_assert_uint_eq(sim[owner].told_paused, 1);
    ck_assert_uint_eq(sim[owner].told, told + 1);

    op_at(3, "vm retry", "web1", "");
    ck_assert_uint_eq(sim[3].result.exit_code, 0);
    ck_assert_uint_eq(sim[owner].starts, starts + 5);
    ck_assert(ha_vm_paused(vm_at(1)));
    op_at(3, "vm resume", "web1", "");
    ck_assert_uint_eq(sim[owner].starts, starts + 6);

    report.outcome = HA_OUTCOME_RUNNING;
    report.attempt = sim[owner].last_attempt;
    strcpy(report.text, "goes on after a pause");
    ha_agent_vm_report(&sim[owner].agent, &report, now_ns);
    settle();
    ck_assert_int_eq(vm_at(1)->state, HA_VM_RUNNING);
    ck_assert(!ha_vm_paused(vm_at(1)));
    ck_assert_uint_eq(sim[owner].told, told + 4);
}
END_TEST

/* The node that was told to start web1 says how that ended. */
static void tell(enum ha_vm_outcome outcome, const char *text)
{
    const struct ha_vm *vm = vm_at(2);
    struct ha_vm_report report = {.vm = vm->uuid,
                                  .attempt = sim[vm->owner].last_attempt,
                                  .instance = vm->instance,
                                  .outcome = outcome,
                                  .epoch = vm->epoch + 1};

    strcpy(report.text, text);
    ha_agent_vm_report(&sim[vm->owner].agent, &report, now_ns);
    settle();
    tick_for(30 * NSEC_PER_SEC);
}

/* --node: there, or not at all. */
START_TEST(a_start_with_a_node_is_tried_nowhere_else)
{
    op_at(2, "vm apply", "", vm_yaml);
    op_at(2, "vm start", "web1", "n2");
    ck_assert_uint_eq(vm_at(3)->owner, 2);
    ck_assert_int_eq(vm_at(3)->back_to, HA_VM_STOPPED);
    tell(HA_OUTCOME_START_FAILED, "host-error: no firmware");
    ck_assert_int_eq(vm_at(3)->state, HA_VM_STOPPED);
    ck_assert_int_eq(vm_at(3)->desired, HA_DESIRED_STOPPED);
    ck_assert_str_eq(vm_at(3)->reason, "not started on n2: host-error: no firmware");
    ck_assert_uint_eq(sim[1].starts + sim[3].starts, 0);
    expect_equal_states();
    /* Without it: elsewhere. */
    op_at(2, "vm start", "web1", "");
    tell(HA_OUTCOME_START_FAILED, "host-error: no firmware");
    ck_assert_int_eq(vm_at(3)->state, HA_VM_STARTING);
    ck_assert_uint_eq(sim[1].starts + sim[2].starts + sim[3].starts, 3);
}
END_TEST

START_TEST(a_start_with_a_node_that_takes_too_long_is_over)
{
    op_at(2, "vm apply", "", vm_yaml);
    op_at(2, "vm start", "web1", "n2");
    tick_for(300 * NSEC_PER_SEC);
    ck_assert_int_eq(vm_at(3)->state, HA_VM_STOPPING);
    tell(HA_OUTCOME_STOPPED, "killed");
    ck_assert_int_eq(vm_at(3)->state, HA_VM_STOPPED);
    ck_assert_int_eq(vm_at(3)->desired, HA_DESIRED_STOPPED);
    ck_assert_str_eq(vm_at(3)->reason,
                     "not started on n2: did not start within start_timeout: stopped");
    ck_assert_uint_eq(sim[1].starts + sim[3].starts, 0);
}
END_TEST

/* Nor is it when that node dies before it runs; once it ran, it is protected as ever. */
START_TEST(a_start_with_a_node_that_dies)
{
    static const uint32_t left[] = {1, 3};

    for (int ran = 0; ran < 2; ran++) {
        op_at(1, "vm apply", "", vm_yaml);
        op_at(1, "vm start", "web1", "n2");
        if (ran) {
            tell(HA_OUTCOME_RUNNING, "");
            ck_assert_int_eq(vm_at(1)->back_to, HA_VM_INVALID);
        }
        form(8, 2, left);
        settle();
        op_at(1, "node confirm-off", "n2", "");
        ck_assert_uint_eq(sim[1].result.exit_code, 0);
        tick_for(30 * NSEC_PER_SEC);
        ck_assert_int_eq(vm_at(1)->state, ran ? HA_VM_STARTING : HA_VM_STOPPED);
        ck_assert_int_eq(vm_at(1)->desired,
                         ran ? HA_DESIRED_RUNNING : HA_DESIRED_STOPPED);
        ck_assert_uint_eq(sim[1].starts + sim[3].starts, (unsigned)ran);
        teardown();
        setup();
    }
}
END_TEST

START_TEST(a_resume_with_a_node_is_tried_nowhere_else)
{
    struct ha_vm_report report;
    uint32_t owner = suspend_web1(&report);
    unsigned starts;

    report.outcome = HA_OUTCOME_SUSPENDED;
    ha_agent_local_vm(&sim[owner].agent, &(struct ha_local_vm){.vm = report.vm}, true);
    ha_agent_vm_report(&sim[owner].agent, &report, now_ns);
    settle();
    op_at(2, "vm resume", "web1", "n3");
    starts = sim[1].starts + sim[2].starts;
    tell(HA_OUTCOME_START_FAILED, "host-error: no CPU");
    ck_assert_int_eq(vm_at(1)->state, HA_VM_SUSPENDED);
    ck_assert_int_eq(vm_at(1)->desired, HA_DESIRED_SUSPENDED);
    ck_assert_str_eq(vm_at(1)->last, "not resumed on n3: host-error: no CPU");
    ck_assert(vm_at(1)->last_failed);
    ck_assert_uint_eq(sim[1].starts + sim[2].starts, starts);
    /* The guest was entered: what it was suspended to may be used up. */
    op_at(2, "vm resume", "web1", "n3");
    tell(HA_OUTCOME_ENDED, "it crashed");
    ck_assert_int_eq(vm_at(1)->state, HA_VM_STOPPED);
    ck_assert_uint_eq(sim[1].starts + sim[2].starts, starts);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("ha_start");
    TCase *tc = tcase_create("cluster");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, suspended_stays_so_until_it_is_resumed);
    tcase_add_test(tc, a_suspend_that_fails_thaws);
    tcase_add_test(tc, a_paused_vm_is_neither_hung_nor_late);
    tcase_add_test(tc, a_start_with_a_node_is_tried_nowhere_else);
    tcase_add_test(tc, a_start_with_a_node_that_takes_too_long_is_over);
    tcase_add_test(tc, a_start_with_a_node_that_dies);
    tcase_add_test(tc, a_resume_with_a_node_is_tried_nowhere_else);
    tcase_add_test(tc, started_again_while_it_stops);
    suite_add_tcase(s, tc);
    return s;
}

UNIT_MAIN(suite)
