/* SPDX-License-Identifier: Apache-2.0 */
/* A live migration as the coordinator sees it: what both ends report, and what is made of
 * it when one of them, or both, are lost in the middle. */
#include "tests/unit/ha/ha_sim.h"

#include "ha/ha_drain.h"
#include "ha/ha_move.h"

static uint32_t source, dest, third;
static struct uuid dest_instance;

static void tell(uint32_t from, enum ha_vm_outcome outcome, uint64_t epoch,
                 const char *text)
{
    struct ha_vm_report r = {.vm = vm_at(third)->uuid,
                             .attempt = sim[dest].last_attempt,
                             .outcome = outcome,
                             .epoch = epoch};

    r.instance = from == dest ? dest_instance : vm_at(third)->instance;
    if (outcome == HA_OUTCOME_MOVE_OFFER) {
        r.offer = (struct ha_move_end){.key = {(uint8_t)from}, .port = (uint16_t)from};
        strcpy(r.offer.address, "10.0.0.1");
    }
    strcpy(r.text, text);
    ha_agent_vm_report(&sim[from].agent, &r, now_ns);
    settle();
}

/* A process of the destination, as its agent publishes it. */
static void local_at(uint32_t id, enum ha_local_state state, uint64_t epoch, bool gone)
{
    struct ha_local_vm local = {.vm = vm_at(third)->uuid,
                                .instance =
                                    id == dest ? dest_instance : vm_at(third)->instance,
                                .attempt = vm_at(third)->attempt,
                                .epoch = epoch,
                                .state = state};

    ha_agent_local_vm(&sim[id].agent, &local, gone);
}

/* web1 runs at `source` under epoch 1 and is migrated to `dest`; both have been told. */
static void begin(void)
{
    char body[64];

    run_web1();
    source = vm_at(1)->owner;
    dest = source % NODES + 1;
    third = dest % NODES + 1;
    dest_instance = sim_uuid(NULL);
    snprintf(body, sizeof body, "node=%s\nverify=true\n", sim[dest].agent.self.name);
    op_at(third, "vm migrate", "web1", body);
    ck_assert_uint_eq(sim[third].result.exit_code, 0);
    ck_assert_int_eq(vm_at(third)->state, HA_VM_MIGRATING);
    ck_assert_uint_eq(sim[source].moves, 1);
    ck_assert_uint_eq(sim[dest].moves, 1);
    ck_assert_uint_eq(sim[third].moves, 0);
    ck_assert(sim[dest].move.verify);
    local_at(source, HA_LOCAL_STARTING, 1, false);
    local_at(dest, HA_LOCAL_STARTING, 0, false);
}

static void offer(void)
{
    tell(source, HA_OUTCOME_MOVE_OFFER, 1, "");
    tell(dest, HA_OUTCOME_MOVE_OFFER, 0, "");
    ck_assert_uint_eq(sim[source].move.dest.key[0], dest);
    ck_assert_uint_eq(sim[dest].move.source.key[0], source);
    ck_assert_uint_eq(sim[source].move.dest.port, dest);
    ck_assert(uuid_equal(sim[source].move.instance, dest_instance));
}

static void view_without(uint64_t seq, uint32_t lost)
{
    uint32_t left[2];
    unsigned n = 0;

    for (uint32_t id = 1; id <= NODES; id++) {
        if (id != lost) {
            left[n++] = id;
        }
    }
    sim[lost].agent.view.agreed = false;
    form(seq, 2, left);
    settle();
}

static void fenced(uint32_t id)
{
    struct ha_fence_report off = {.target = id,
                                  .result = HA_FENCE_OK,
                                  .incarnation = vm_at(third)->owner_incarnation};
    const struct ha_node *node = ha_state_node(&sim[third].agent.state, id);

    off.uid = node->fence_uid;
    off.incarnation = node->incarnation;
    strcpy(off.detail, "confirmed");
    ha_agent_fence_report(&sim[node->fence_executor].agent, &off, now_ns);
    settle();
}

static void goes_on_there(void)
{
    ck_assert_int_eq(vm_at(third)->state, HA_VM_RUNNING);
    ck_assert_uint_eq(vm_at(third)->owner, dest);
    ck_assert_uint_eq(vm_at(third)->epoch, 2);
    ck_assert(uuid_equal(vm_at(third)->instance, dest_instance));
    ck_assert_uint_eq(vm_at(third)->move.to, 0);
    ck_assert(!vm_at(third)->last_failed);
}

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

START_TEST(killed_in_the_middle)
{
    struct ha_op kill = {.uid = sim_uuid(NULL), .flags = HA_OP_KILL, .body = ""};

    begin();
    offer();
    strcpy(kill.verb, "vm stop");
    strcpy(kill.object, "web1");
    strcpy(kill.actor, "root");
    ha_agent_op(&sim[third].agent, &kill, now_ns);
    settle();
    ck_assert(sim[source].move.called_off);
    ck_assert_uint_eq(sim[source].stops, 0);
    tell(dest, HA_OUTCOME_RUNNING, 2, ""); /* too late: it had the claim */
    ck_assert_uint_eq(vm_at(third)->owner, dest);
    ck_assert_int_eq(vm_at(third)->state, HA_VM_STOPPING);
    ck_assert_uint_eq(sim[dest].stops, 1);
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

START_TEST(both_ends_are_lost)
{
    begin();
    offer();
    sim[source].agent.view.agreed = false;
    sim[dest].agent.view.agreed = false;
    /* The third is alone: no quorum, nothing happens. */
    form(8, 1, &third);
    settle();
    tick_for(5 * NSEC_PER_SEC);
    ck_assert_uint_eq(sim[third].starts + sim[third].fences, 0);
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

START_TEST(home_again)
{
    char name[NODE_NAME_MAX + 1];

    run_web1();
    source = vm_at(1)->owner;
    dest_instance = sim_uuid(NULL);
    strcpy(name, sim[source].agent.self.name);
    op_at(1, "node maintenance", name, "on");
    dest = vm_at(1)->move.to;
    third = 6 - source - dest;
    offer();
    tell(source, HA_OUTCOME_RUNNING, 1, "not migrated: no memory"); /* tried again */
    ck_assert_int_eq(vm_at(1)->state, HA_VM_RUNNING);
    tick_for(HA_MOVE_RETRY_NS - NSEC_PER_SEC);
    ck_assert_int_eq(vm_at(1)->state, HA_VM_RUNNING);
    tick_for(3 * NSEC_PER_SEC);
    ck_assert_int_eq(vm_at(1)->state, HA_VM_MIGRATING);
    dest = vm_at(1)->move.to;
    third = 6 - source - dest;
    offer();
    tell(dest, HA_OUTCOME_RUNNING, 2, "");
    op_at(1, "node maintenance", name, "off");
    ck_assert_int_eq(vm_at(1)->state, HA_VM_MIGRATING);
    ck_assert_uint_eq(vm_at(1)->move.to, source);
}
END_TEST

/* Two at a time, the important ones first; all of them in the end. */
START_TEST(two_at_a_time)
{
    uint32_t owner = 0;
    unsigned moving = 0;

    for (unsigned i = 0; i < 4; i++) {
        struct ha_local_vm local = {.epoch = 1, .state = HA_LOCAL_RUNNING};
        struct ha_vm_report r = {.outcome = HA_OUTCOME_RUNNING, .epoch = 1};
        char yaml[256], name[16];
        const struct ha_vm *vm;

        snprintf(name, sizeof name, "vm%u", i);
        snprintf(yaml, sizeof yaml,
                 "name: vm%u\nmemory: 32MiB\nmachine: lockstep\n"
                 "boot: {firmware: /srv/rom}\nha: {priority: %u}\n",
                 i, 3 - i);
        op_at(1, "vm apply", "", yaml);
        ck_assert_uint_eq(sim[1].result.exit_code, 0);
        op_at(1, "vm start", name, "n1");
        ck_assert_uint_eq(sim[1].result.exit_code, 0);
        vm = ha_state_vm_by_name(&sim[1].agent.state, name);
        owner = vm->owner;
        r.vm = local.vm = vm->uuid;
        r.attempt = local.attempt = vm->attempt;
        r.instance = local.instance = sim_uuid(NULL);
        ha_agent_local_vm(&sim[owner].agent, &local, false);
        ha_agent_vm_report(&sim[owner].agent, &r, now_ns);
        settle();
    }
    op_at(2, "node maintenance", sim[owner].agent.self.name, "on");
    for (unsigned i = 0; i < 4; i++) {
        char name[16];
        const struct ha_vm *vm;

        snprintf(name, sizeof name, "vm%u", i);
        vm = ha_state_vm_by_name(&sim[1].agent.state, name);
        moving += vm->state == HA_VM_MIGRATING;
        ck_assert_int_eq(vm->state, i >= 2 ? HA_VM_MIGRATING : HA_VM_RUNNING);
    }
    ck_assert_uint_eq(moving, HA_MOVES_PER_NODE);
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
    tcase_add_test(tc, the_destination_speaks_first);
    tcase_add_test(tc, the_destination_has_nothing);
    tcase_add_test(tc, the_destination_ended_unheard);
    tcase_add_test(tc, the_source_lost_the_race_to_the_dead);
    tcase_add_test(tc, the_source_takes_it_back);
    tcase_add_test(tc, gone_at_the_source);
    tcase_add_test(tc, both_ends_are_lost);
    tcase_add_test(tc, failed_with_the_claim);
    tcase_add_test(tc, an_agent_forgot);
    tcase_add_test(tc, a_destination_that_forgot);
    tcase_add_test(tc, there_and_back);
    tcase_add_test(tc, home_again);
    tcase_add_test(tc, two_at_a_time);
    suite_add_tcase(s, tc);
    return s;
}

UNIT_MAIN(suite)
