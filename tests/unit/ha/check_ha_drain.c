/* SPDX-License-Identifier: Apache-2.0 */
/* Many VMs: a node is emptied, they come home, and keep apart on their way. */
#include "tests/unit/ha/move_sim.h"

#include "ha/ha_drain.h"

static void not_moved(const char *name, const char *why)
{
    reports(named(name)->owner, name, HA_OUTCOME_RUNNING, named(name)->instance,
            named(name)->epoch, why);
    ck_assert_int_eq(named(name)->state, HA_VM_RUNNING);
}

static void run_at(uint32_t node, const char *name, const char *more)
{
    char yaml[256];

    snprintf(yaml, sizeof yaml,
             "name: %s\nmemory: 32MiB\nmachine: lockstep\n"
             "boot: {firmware: /srv/rom}\n%s",
             name, more);
    op_at(1, "vm apply", "", yaml);
    ck_assert_uint_eq(sim[1].result.exit_code, 0);
    op_at(1, "vm start", name, sim[node].agent.self.name);
    ck_assert_uint_eq(sim[1].result.exit_code, 0);
    runs_at(node, name);
}

static void maintenance(uint32_t node, const char *on_off)
{
    op_at(1, "node maintenance", sim[node].agent.self.name, on_off);
    ck_assert_uint_eq(sim[1].result.exit_code, 0);
}

static void expect_move(const char *name, uint32_t to)
{
    ck_assert_int_eq(named(name)->state, HA_VM_MIGRATING);
    ck_assert_uint_eq(named(name)->move.to, to);
}

static void expect_stays(const char *name, uint32_t node)
{
    tick_for(2 * HA_MOVE_RETRY_NS);
    ck_assert_int_eq(named(name)->state, HA_VM_RUNNING);
    ck_assert_uint_eq(named(name)->owner, node);
    ck_assert_uint_eq(named(name)->home, 0);
}

/* What could not take it is not tried again before the other one. */
START_TEST(home_again)
{
    uint32_t failed, to;

    run_at(2, "vm", "");
    maintenance(2, "on");
    failed = named("vm")->move.to;
    to = 4 - failed;
    not_moved("vm", "not migrated: no memory"); /* tried again */
    tick_for(HA_MOVE_RETRY_NS - NSEC_PER_SEC);
    ck_assert_int_eq(named("vm")->state, HA_VM_RUNNING);
    tick_for(3 * NSEC_PER_SEC);
    expect_move("vm", to);
    runs_at(to, "vm");
    ck_assert_uint_eq(named("vm")->home, 2);
    ck_assert_uint_eq(named("vm")->move_avoid, 0);
    expect_equal_states();
    maintenance(2, "off");
    expect_move("vm", 2);
    runs_at(2, "vm");
    expect_stays("vm", 2);
}
END_TEST

/* Every other one has its turn, those that are preferred first, before any has a second.
 */
START_TEST(each_has_its_turn)
{
    static const uint32_t turns[] = {4, 1, 3, 5, 4, 1};

    grow(8);
    run_at(2, "vm", "ha: {preferred_nodes: [n4]}\n");
    maintenance(2, "on");
    for (unsigned i = 0; i < ARRAY_SIZE(turns); i++) {
        expect_move("vm", turns[i]);
        not_moved("vm", "not migrated: n3: bridge br0: No such device");
        ck_assert_uint_eq(named("vm")->move_avoid, turns[i]);
        expect_equal_states();
        tick_for(HA_MOVE_RETRY_NS + NSEC_PER_SEC);
    }
}
END_TEST

/* It goes back to the one that failed, if no other fits. */
START_TEST(the_only_one_is_tried_again)
{
    run_at(2, "vm", "");
    maintenance(3, "on");
    maintenance(2, "on");
    expect_move("vm", 1);
    not_moved("vm", "not migrated: no memory");
    tick_for(HA_MOVE_RETRY_NS + NSEC_PER_SEC);
    expect_move("vm", 1);
}
END_TEST

/* Two at a time, the important ones first; all of them in the end, and back. */
START_TEST(two_at_a_time)
{
    static const char *const name[] = {"vm0", "vm1", "vm2", "vm3"};

    for (unsigned i = 0; i < ARRAY_SIZE(name); i++) {
        char more[32];

        snprintf(more, sizeof more, "ha: {priority: %u}\n", 3 - i);
        run_at(1, name[i], more);
    }
    maintenance(1, "on");
    for (unsigned done = 0; done < ARRAY_SIZE(name); done++) {
        unsigned moving = 0, next = ARRAY_SIZE(name) - 1 - done;

        for (unsigned i = 0; i < ARRAY_SIZE(name); i++) {
            moving += named(name[i])->state == HA_VM_MIGRATING;
        }
        ck_assert_uint_eq(moving, next > 0 ? HA_MOVES_PER_NODE : 1);
        ck_assert_int_eq(named(name[next])->state, HA_VM_MIGRATING);
        runs_at(named(name[next])->move.to, name[next]);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(name); i++) {
        ck_assert_uint_ne(named(name[i])->owner, 1);
        ck_assert_uint_eq(named(name[i])->home, 1);
    }
    maintenance(1, "off");
    for (unsigned done = 0; done < ARRAY_SIZE(name); done++) {
        expect_move(name[3 - done], 1);
        runs_at(1, name[3 - done]);
    }
}
END_TEST

/* Home
 * --------------------------------------------------------------------------------------
 */

/* An operator stopped it and started it elsewhere. */
START_TEST(a_start_gives_up_home)
{
    run_at(1, "vm", "");
    maintenance(1, "on");
    runs_at(named("vm")->move.to, "vm");
    ck_assert_uint_eq(named("vm")->home, 1);
    op_at(1, "vm stop", "vm", "");
    reports(named("vm")->owner, "vm", HA_OUTCOME_STOPPED, named("vm")->instance,
            named("vm")->epoch, "stopped");
    ck_assert_int_eq(named("vm")->state, HA_VM_STOPPED);
    ck_assert_uint_eq(named("vm")->home, 0);
    op_at(1, "vm start", "vm", "n3");
    runs_at(3, "vm");
    maintenance(1, "off");
    expect_stays("vm", 3);
}
END_TEST

/* It never left: that it goes on there is no home to come back to. */
START_TEST(a_drain_that_failed_leaves_no_home)
{
    run_at(1, "vm", "");
    maintenance(1, "on");
    ck_assert_uint_eq(named("vm")->home, 1);
    not_moved("vm", "not migrated: no memory");
    ck_assert_uint_eq(named("vm")->home, 0);
    maintenance(1, "off");
    expect_stays("vm", 1);
}
END_TEST

/* As before, but a later drain of where it came to fails: home is where it was. */
START_TEST(a_second_drain_keeps_home)
{
    run_at(1, "vm", "");
    maintenance(1, "on");
    dest = named("vm")->move.to;
    runs_at(dest, "vm");
    maintenance(dest, "on");
    expect_move("vm", 5 - dest);
    not_moved("vm", "not migrated: no memory");
    ck_assert_uint_eq(named("vm")->home, 1);
    maintenance(1, "off");
    tick_for(HA_MOVE_RETRY_NS + NSEC_PER_SEC);
    expect_move("vm", 1);
}
END_TEST

/* It ended, and is started where it came to. */
START_TEST(a_restart_gives_up_home)
{
    run_at(1, "vm", "");
    maintenance(1, "on");
    dest = named("vm")->move.to;
    runs_at(dest, "vm");
    reports(dest, "vm", HA_OUTCOME_ENDED, named("vm")->instance, named("vm")->epoch,
            "gemel-vmm was killed");
    tick_for(NSEC_PER_SEC);
    ck_assert_int_eq(named("vm")->state, HA_VM_STARTING);
    runs_at(named("vm")->owner, "vm");
    maintenance(1, "off");
    expect_stays("vm", named("vm")->owner);
}
END_TEST

/* It was frozen for a while: it is the same that moved. */
START_TEST(a_thaw_keeps_home)
{
    run_at(1, "vm", "");
    maintenance(1, "on");
    dest = named("vm")->move.to;
    runs_at(dest, "vm");
    reports(dest, "vm", HA_OUTCOME_FROZEN, named("vm")->instance, named("vm")->epoch,
            "isolated");
    ck_assert_int_eq(named("vm")->state, HA_VM_STARTING);
    runs_at(dest, "vm");
    ck_assert_uint_eq(named("vm")->home, 1);
    maintenance(1, "off");
    expect_move("vm", 1);
}
END_TEST

/* Its node loses power while it moves: it was started anew elsewhere, and stays there. */
START_TEST(a_lost_node_is_no_home)
{
    uint32_t owner;

    run_web1();
    source = vm_at(1)->owner;
    third = source % NODES + 1;
    dest_instance = sim_uuid(NULL);
    op_at(third, "node maintenance", sim[source].agent.self.name, "on");
    dest = vm_at(third)->move.to;
    third = 6 - source - dest;
    ck_assert_uint_eq(vm_at(third)->home, source);
    local_at(source, HA_LOCAL_STARTING, 1, false);
    local_at(dest, HA_LOCAL_STARTING, 0, false);
    offer();
    view_without(8, source);
    tick_for(2 * NSEC_PER_SEC);
    ck_assert_int_eq(vm_at(third)->state, HA_VM_UNKNOWN);
    tell(dest, HA_OUTCOME_MOVE_FAILED, 0, "its source left before all of it was here");
    local_at(dest, HA_LOCAL_STARTING, 0, true);
    tick_for(2 * NSEC_PER_SEC);
    fenced(source);
    ck_assert_int_eq(vm_at(third)->state, HA_VM_STARTING);
    owner = vm_at(third)->owner;
    ck_assert_uint_ne(owner, source);
    ck_assert_uint_eq(vm_at(third)->home, 0);
    op_at(third, "node maintenance", sim[source].agent.self.name, "off");
    ck_assert_uint_eq(vm_at(third)->home, 0);
}
END_TEST

/* Nor is what the node that it came to was to it, when that loses power in its turn. */
START_TEST(lost_where_it_came_to)
{
    run_web1();
    source = vm_at(1)->owner;
    dest_instance = sim_uuid(NULL);
    op_at(1, "node maintenance", sim[source].agent.self.name, "on");
    dest = vm_at(1)->move.to;
    third = 6 - source - dest;
    offer();
    tell(dest, HA_OUTCOME_RUNNING, 2, "");
    goes_on_there();
    ck_assert_uint_eq(vm_at(third)->home, source);
    view_without(8, dest);
    tick_for(2 * NSEC_PER_SEC);
    ck_assert_int_eq(vm_at(third)->state, HA_VM_UNKNOWN);
    ck_assert_uint_eq(vm_at(third)->home, source); /* it may be back, and run there */
    fenced(dest);
    ck_assert_int_eq(vm_at(third)->state, HA_VM_STARTING);
    ck_assert_uint_eq(vm_at(third)->owner, third);
    ck_assert_uint_eq(vm_at(third)->home, 0);
}
END_TEST

/* Its home is taken by one that it must not share a node with: it waits until that is
 * gone. */
START_TEST(home_is_checked)
{
    run_at(1, "e1", "ha: {anti_affinity: [e2]}\n");
    maintenance(1, "on");
    dest = named("e1")->move.to;
    runs_at(dest, "e1");
    maintenance(1, "off");
    expect_move("e1", 1);
    not_moved("e1", "not migrated: no memory");
    run_at(1, "e2", "");
    tick_for(2 * HA_MOVE_RETRY_NS);
    ck_assert_int_eq(named("e1")->state, HA_VM_RUNNING);
    ck_assert_uint_eq(named("e1")->home, 1);
    op_at(1, "vm stop", "e2", "");
    reports(1, "e2", HA_OUTCOME_STOPPED, named("e2")->instance, named("e2")->epoch, "");
    tick_for(NSEC_PER_SEC);
    expect_move("e1", 1);
}
END_TEST

/* Anti-affinity
 * -----------------------------------------------------------------------------
 */

/* One that is on its way to a node is there, for the other one. */
START_TEST(one_on_its_way_counts)
{
    run_at(1, "e1", "ha: {anti_affinity: [e2]}\n");
    run_at(2, "e2", "");
    op_at(1, "vm migrate", "e1", "node=n3\n");
    expect_move("e1", 3);
    maintenance(2, "on");
    ck_assert_int_eq(named("e2")->state, HA_VM_RUNNING);
    ck_assert_ptr_nonnull(
        strstr(named("e2")->reason, "must not share a node (anti_affinity)"));
    runs_at(3, "e1");
    tick_for(NSEC_PER_SEC);
    expect_move("e2", 1);
}
END_TEST

/* Both are decided at once: for the second, the first is there. */
START_TEST(one_that_is_just_given_counts)
{
    run_at(1, "e1", "ha: {anti_affinity: [e2]}\n");
    run_at(2, "e2", "");
    op_send(1, "node maintenance", "n1", "on");
    op_send(1, "node maintenance", "n2", "on");
    settle();
    ck_assert(named("e1")->move.to != named("e2")->move.to);
    ck_assert_uint_eq(named("e1")->move.to + named("e2")->move.to, 3);
}
END_TEST

/* So does its memory: the second waits for room. */
START_TEST(memory_on_its_way_counts)
{
    static const char big[] = "name: %s\nmemory: 640MiB\nmachine: lockstep\n"
                              "boot: {firmware: /srv/rom}\n";
    static const char *const name[] = {"b1", "b2"};
    char yaml[256];

    for (uint32_t i = 0; i < 2; i++) {
        snprintf(yaml, sizeof yaml, big, name[i]);
        op_at(1, "vm apply", "", yaml);
        op_at(1, "vm start", name[i], sim[i + 1].agent.self.name);
        ck_assert_uint_eq(sim[1].result.exit_code, 0);
        runs_at(i + 1, name[i]);
    }
    maintenance(1, "on");
    expect_move("b1", 3);
    maintenance(2, "on");
    ck_assert_int_eq(named("b2")->state, HA_VM_RUNNING);
    ck_assert_ptr_nonnull(strstr(named("b2")->reason, "640 MiB"));
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("ha_drain");
    TCase *tc = tcase_create("drain");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, home_again);
    tcase_add_test(tc, each_has_its_turn);
    tcase_add_test(tc, the_only_one_is_tried_again);
    tcase_add_test(tc, two_at_a_time);
    tcase_add_test(tc, a_start_gives_up_home);
    tcase_add_test(tc, a_drain_that_failed_leaves_no_home);
    tcase_add_test(tc, a_second_drain_keeps_home);
    tcase_add_test(tc, a_restart_gives_up_home);
    tcase_add_test(tc, a_thaw_keeps_home);
    tcase_add_test(tc, a_lost_node_is_no_home);
    tcase_add_test(tc, lost_where_it_came_to);
    tcase_add_test(tc, home_is_checked);
    tcase_add_test(tc, one_on_its_way_counts);
    tcase_add_test(tc, one_that_is_just_given_counts);
    tcase_add_test(tc, memory_on_its_way_counts);
    suite_add_tcase(s, tc);
    return s;
}

UNIT_MAIN(suite)
