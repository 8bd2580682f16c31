/* SPDX-License-Identifier: Apache-2.0 */
/* A VM that runs at its destination while a part of its memory is still at its source:
 * what the record says of it, what is refused meanwhile, and how that ends. */
#include "tests/unit/ha/ha_sim.h"

#include "ha/ha_drain.h"
#include "ha/ha_move.h"

static uint32_t source, dest, third;
static struct uuid dest_instance;

static void tell(uint32_t from, enum ha_vm_outcome outcome, uint64_t epoch, bool filling,
                 const char *text)
{
    struct ha_vm_report r = {.vm = vm_at(third)->uuid,
                             .attempt = sim[dest].last_attempt,
                             .instance = dest_instance,
                             .outcome = outcome,
                             .epoch = epoch,
                             .filling = filling};

    snprintf(r.text, sizeof r.text, "%s", text);
    ha_agent_vm_report(&sim[from].agent, &r, now_ns);
    settle();
}

static uint32_t migrate(const char *options, const char *reason)
{
    struct ha_op op = {.uid = sim_uuid(NULL), .verb = "vm migrate", .object = "web1"};
    char body[128];

    snprintf(body, sizeof body, "node=%s\n%s", sim[dest].agent.self.name, options);
    op.body = body;
    op.body_len = (uint32_t)strlen(body);
    snprintf(op.actor, sizeof op.actor, "root");
    snprintf(op.reason, sizeof op.reason, "%s", reason);
    ha_agent_op(&sim[third].agent, &op, now_ns);
    settle();
    return sim[third].result.exit_code;
}

static void run(void)
{
    run_web1();
    source = vm_at(1)->owner;
    dest = source % NODES + 1;
    third = dest % NODES + 1;
    dest_instance = sim_uuid(NULL);
}

/* It runs at `dest`, with memory at `source`. */
static void runs_with_holes(void)
{
    run();
    ck_assert_uint_eq(migrate("allow-postcopy=true\n", "why not"), 0);
    ck_assert(sim[source].move.postcopy);
    ck_assert(sim[dest].move.postcopy);
    tell(dest, HA_OUTCOME_RUNNING, 2, true, "stood still for about 20 ms");
    ck_assert_int_eq(vm_at(third)->state, HA_VM_RUNNING);
    ck_assert_uint_eq(vm_at(third)->owner, dest);
    ck_assert_uint_eq(vm_at(third)->memory_from, source);
    ck_assert_ptr_nonnull(strstr(vm_at(third)->reason, "still coming from n"));
    expect_equal_states(); /* so it is in the record that is replicated */
}

START_TEST(it_is_asked_for)
{
    run();
    ck_assert_uint_eq(migrate("allow-postcopy=true\n", ""), 4); /* web1 is protected */
    ck_assert_ptr_nonnull(strstr(sim[third].result.text, "--reason"));
    ck_assert_uint_eq(migrate("allow-postcopy=true\nverify=true\n", "x"), 2);
    ck_assert_int_eq(vm_at(third)->state, HA_VM_RUNNING);
    ck_assert_uint_eq(sim[source].moves + sim[dest].moves, 0);
    ck_assert_uint_eq(migrate("", ""), 0); /* without it no reason is needed */
    ck_assert(!sim[source].move.postcopy);
}
END_TEST

START_TEST(all_of_it_comes)
{
    runs_with_holes();
    op_at(third, "vm migrate", "web1", "");
    ck_assert_uint_eq(sim[third].result.exit_code, 4);
    ck_assert_ptr_nonnull(strstr(sim[third].result.text, "memory"));
    op_at(third, "vm suspend", "web1", "");
    ck_assert_uint_eq(sim[third].result.exit_code, 4);
    tell(dest, HA_OUTCOME_RUNNING, 2, true, "again"); /* an agent that was restarted */
    ck_assert_uint_eq(vm_at(third)->memory_from, source);
    tell(dest, HA_OUTCOME_RUNNING, 2, false, "the last 15 MiB came");
    ck_assert_uint_eq(vm_at(third)->memory_from, 0);
    ck_assert(!vm_at(third)->last_failed);
    ck_assert_ptr_nonnull(strstr(vm_at(third)->last, "stood still for about 20 ms"));
    ck_assert_ptr_nonnull(strstr(vm_at(third)->last, "the last 15 MiB came"));
    ck_assert_ptr_null(strstr(vm_at(third)->reason, "still coming"));
    op_at(third, "vm migrate", "web1", "");
    ck_assert_uint_eq(sim[third].result.exit_code, 0);
    expect_equal_states();
}
END_TEST

/* A crash like any other, and the migration's end says so. */
START_TEST(it_is_lost_with_its_source)
{
    runs_with_holes();
    tell(dest, HA_OUTCOME_ENDED, 2, true, "post-copy: the source was lost");
    ck_assert_uint_eq(vm_at(third)->memory_from, 0);
    ck_assert(vm_at(third)->last_failed);
    ck_assert_ptr_nonnull(strstr(vm_at(third)->last, "the source was lost"));
    ck_assert(vm_at(third)->state == HA_VM_FAILED ||
              vm_at(third)->state == HA_VM_STARTING);
    tick_for(5 * NSEC_PER_SEC);
    ck_assert_int_eq(vm_at(third)->state, HA_VM_STARTING);
    ck_assert_uint_eq(vm_at(third)->memory_from, 0);
    expect_equal_states();
}
END_TEST

/* Its node has left: that alone is silence. Proven dead, it is told where the VM runs. */
START_TEST(a_dead_holder_is_told)
{
    struct ha_fence_report off = {.result = HA_FENCE_OK, .suspicion = true};
    struct ha_local_vm local = {.epoch = 2, .state = HA_LOCAL_RUNNING};
    uint32_t left[2];

    runs_with_holes();
    local.vm = vm_at(dest)->uuid;
    local.attempt = sim[dest].last_attempt;
    local.instance = dest_instance;
    ha_agent_local_vm(&sim[dest].agent, &local, false);
    left[0] = dest < third ? dest : third;
    left[1] = dest < third ? third : dest;
    form(8, 2, left);
    settle();
    tick_for(5 * NSEC_PER_SEC);
    ck_assert_uint_eq(vm_at(third)->memory_from, source);
    ck_assert_uint_eq(sim[dest].dead_holders, 0);
    ck_assert_uint_eq(sim[dest].fences + sim[third].fences, 0); /* no reason to shoot */
    off.target = source;
    off.incarnation = sim[source].agent.self.incarnation;
    ha_agent_fence_report(&sim[third].agent, &off, now_ns);
    settle();
    ck_assert_uint_gt(sim[dest].dead_holders, 0);
    ck_assert_uint_eq(sim[third].dead_holders, 0);
    ck_assert_int_eq(vm_at(third)->state, HA_VM_RUNNING); /* until it has ended there */
}
END_TEST

/* Of an instance that ended before: it changes nothing. */
START_TEST(a_late_word_is_no_news)
{
    runs_with_holes();
    dest_instance = sim_uuid(NULL);
    tell(dest, HA_OUTCOME_RUNNING, 2, false, "late");
    ck_assert_uint_eq(vm_at(third)->memory_from, source);
}
END_TEST

/* Maintenance of the node to which it went: it waits for its memory. */
START_TEST(it_is_not_drained_meanwhile)
{
    unsigned moves;

    runs_with_holes();
    moves = sim[dest].moves;
    op_at(third, "node maintenance", sim[dest].agent.self.name, "on");
    ck_assert_uint_eq(sim[third].result.exit_code, 0);
    tick_for(2 * NSEC_PER_SEC);
    ck_assert_int_eq(vm_at(third)->state, HA_VM_RUNNING);
    ck_assert_uint_eq(sim[dest].moves, moves);
    tell(dest, HA_OUTCOME_RUNNING, 2, false, "all here");
    tick_for(2 * NSEC_PER_SEC);
    ck_assert_int_eq(vm_at(third)->state, HA_VM_MIGRATING);
    ck_assert(!vm_at(third)->move.postcopy); /* nobody asked for that */
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("ha_postcopy");
    TCase *tc = tcase_create("postcopy");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, it_is_asked_for);
    tcase_add_test(tc, all_of_it_comes);
    tcase_add_test(tc, it_is_lost_with_its_source);
    tcase_add_test(tc, a_dead_holder_is_told);
    tcase_add_test(tc, a_late_word_is_no_news);
    tcase_add_test(tc, it_is_not_drained_meanwhile);
    suite_add_tcase(s, tc);
    return s;
}

UNIT_MAIN(suite)
