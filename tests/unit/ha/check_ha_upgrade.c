/* SPDX-License-Identifier: Apache-2.0 */
/* A live upgrade, as the coordinator sees it: a migration whose two ends are the owner.
 */
#include "tests/unit/ha/move_sim.h"

/* The same of a live upgrade: which of the two, is said. */
static void local_of(struct uuid instance, enum ha_local_state state, uint64_t epoch,
                     bool gone)
{
    struct ha_local_vm local = {.vm = vm_at(third)->uuid,
                                .instance = instance,
                                .attempt = vm_at(third)->attempt,
                                .epoch = epoch,
                                .state = state};

    ha_agent_local_vm(&sim[source].agent, &local, gone);
}

static void begin_upgrade(void)
{
    run_web1();
    source = dest = vm_at(1)->owner;
    third = source % NODES + 1;
    dest_instance = sim_uuid(NULL);
    op_at(third, "vm upgrade", "web1", "verify=true\n");
    ck_assert_uint_eq(sim[third].result.exit_code, 0);
    ck_assert_int_eq(vm_at(third)->state, HA_VM_MIGRATING);
    ck_assert(ha_vm_upgrading(vm_at(third)));
    ck_assert_uint_eq(sim[source].moves, 1);
    ck_assert(sim[source].move.verify);
    ck_assert_uint_eq(sim[third].moves, 0);
    local_of(vm_at(third)->instance, HA_LOCAL_STARTING, 1, false);
}

static void tell_as(struct uuid instance, enum ha_vm_outcome outcome, uint64_t epoch,
                    const char *text)
{
    struct ha_vm_report r = {.vm = vm_at(third)->uuid,
                             .attempt = sim[source].last_attempt,
                             .instance = instance,
                             .outcome = outcome,
                             .epoch = epoch};

    strcpy(r.text, text);
    ha_agent_vm_report(&sim[source].agent, &r, now_ns);
    settle();
}

static void is_upgraded(void)
{
    const struct ha_vm *vm = vm_at(third);

    ck_assert_int_eq(vm->state, HA_VM_RUNNING);
    ck_assert_uint_eq(vm->owner, source);
    ck_assert_uint_eq(vm->epoch, 2);
    ck_assert(uuid_equal(vm->instance, dest_instance));
    ck_assert(!ha_vm_upgrading(vm));
    ck_assert_uint_eq(vm->move.to, 0);
    ck_assert(!vm->last_failed);
    ck_assert_ptr_nonnull(strstr(vm->last, "upgraded on "));
    ck_assert_uint_eq(sim[source].discards, 0);
    expect_equal_states();
}

START_TEST(it_is_upgraded)
{
    begin_upgrade();
    op_at(third, "vm upgrade", "web1", "");
    ck_assert_uint_eq(sim[third].result.exit_code, 4); /* under way */
    op_at(third, "vm migrate", "web1", "");
    ck_assert_uint_eq(sim[third].result.exit_code, 4);
    local_of(dest_instance, HA_LOCAL_RUNNING, 2, false);
    tell_as(dest_instance, HA_OUTCOME_RUNNING, 2, "stood still for about 9 ms");
    is_upgraded();
    ck_assert_ptr_nonnull(strstr(vm_at(third)->last, "about 9 ms"));
    op_at(third, "vm upgrade", "web1", "colour=red\n");
    ck_assert_uint_eq(sim[third].result.exit_code, 2);
}
END_TEST

START_TEST(an_upgrade_that_fails_changes_nothing)
{
    struct uuid old;

    begin_upgrade();
    old = vm_at(third)->instance;
    tell_as(old, HA_OUTCOME_RUNNING, 1, "not upgraded: no memory");
    ck_assert_int_eq(vm_at(third)->state, HA_VM_RUNNING);
    ck_assert_uint_eq(vm_at(third)->epoch, 1);
    ck_assert(uuid_equal(vm_at(third)->instance, old));
    ck_assert(vm_at(third)->last_failed);
    ck_assert_str_eq(vm_at(third)->last, "not upgraded: no memory");
    ck_assert(!ha_vm_upgrading(vm_at(third)));
    expect_equal_states();
}
END_TEST

/* It had the claim when it ended: a start like after any other end, on the same node. */
START_TEST(an_upgrade_that_ends_it_is_a_restart)
{
    unsigned starts;

    begin_upgrade();
    starts = sim[source].starts;
    local_of(dest_instance, HA_LOCAL_STARTING, 2, false);
    local_of(dest_instance, HA_LOCAL_STARTING, 2, true);
    tell_as(dest_instance, HA_OUTCOME_ENDED, 2, "gemel-vmm was killed by signal 9");
    ck_assert(!ha_vm_upgrading(vm_at(third)));
    ck_assert(vm_at(third)->last_failed);
    for (unsigned i = 0; i < 40 && vm_at(third)->state != HA_VM_STARTING; i++) {
        tick_for(NSEC_PER_SEC);
    }
    ck_assert_int_eq(vm_at(third)->state, HA_VM_STARTING);
    ck_assert_uint_eq(vm_at(third)->owner, source);
    ck_assert_uint_eq(sim[source].starts, starts + 1);
}
END_TEST

/* That it was done was not heard, for the ring broke: the summary says it. */
START_TEST(an_upgrade_whose_word_was_lost)
{
    begin_upgrade();
    view_without(2, source);
    local_of(dest_instance, HA_LOCAL_RUNNING, 2, false);
    form(3, 3, (uint32_t[]){1, 2, 3});
    settle();
    is_upgraded();
}
END_TEST

/* Its agent was restarted: the VM runs as before, and is so described. */
START_TEST(an_upgrade_that_was_forgotten)
{
    struct uuid old;

    begin_upgrade();
    old = vm_at(third)->instance;
    view_without(2, source);
    local_of(old, HA_LOCAL_RUNNING, 1, false);
    form(3, 3, (uint32_t[]){1, 2, 3});
    settle();
    ck_assert_int_eq(vm_at(third)->state, HA_VM_RUNNING);
    ck_assert_uint_eq(vm_at(third)->epoch, 1);
    ck_assert(!ha_vm_upgrading(vm_at(third)));
    ck_assert_str_eq(vm_at(third)->last, "not upgraded: its agent was interrupted");
}
END_TEST

/* The memory is one, whichever of the two processes has it. */
START_TEST(an_upgrade_needs_no_second_memory)
{
    static const char big[] = "name: %s\nmemory: %uMiB\nmachine: lockstep\n"
                              "boot: {firmware: /srv/rom}\n";
    char yaml[256];

    snprintf(yaml, sizeof yaml, big, "b1", 640);
    op_at(1, "vm apply", "", yaml);
    op_at(1, "vm start", "b1", sim[1].agent.self.name);
    runs_at(1, "b1");
    snprintf(yaml, sizeof yaml, big, "b2", 256);
    op_at(1, "vm apply", "", yaml);
    op_at(1, "vm upgrade", "b1", "");
    ck_assert(ha_vm_upgrading(named("b1")));
    op_at(1, "vm start", "b2", sim[1].agent.self.name);
    ck_assert_uint_eq(sim[1].result.exit_code, 0);
}
END_TEST

/* Its node dies: no second node has to be proven dead. */
START_TEST(upgraded_on_a_node_that_dies)
{
    begin_upgrade();
    view_without(2, source);
    tick_for(NSEC_PER_SEC);
    ck_assert_int_eq(vm_at(third)->state, HA_VM_UNKNOWN);
    ck_assert_ptr_null(strstr(vm_at(third)->reason, "both")); /* it is one node */
    fenced(source);
    tick_for(NSEC_PER_SEC);
    ck_assert_int_eq(vm_at(third)->state, HA_VM_STARTING);
    ck_assert_uint_ne(vm_at(third)->owner, source);
    ck_assert_uint_eq(vm_at(third)->move.to, 0);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("ha_upgrade");
    TCase *tc = tcase_create("upgrade");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, it_is_upgraded);
    tcase_add_test(tc, an_upgrade_that_fails_changes_nothing);
    tcase_add_test(tc, an_upgrade_that_ends_it_is_a_restart);
    tcase_add_test(tc, an_upgrade_whose_word_was_lost);
    tcase_add_test(tc, an_upgrade_that_was_forgotten);
    tcase_add_test(tc, upgraded_on_a_node_that_dies);
    tcase_add_test(tc, an_upgrade_needs_no_second_memory);
    suite_add_tcase(s, tc);
    return s;
}

UNIT_MAIN(suite)
