/* SPDX-License-Identifier: Apache-2.0 */
/* Copies of mirrored disks as the coordinator sees them: which count when a protected VM
 * is stopped, and an operator's word that takes another one. */
#include "tests/unit/ha/twin_sim.h"

static void op_flags(const char *verb, const char *body, uint32_t flags)
{
    struct ha_op op = {.uid = sim_uuid(NULL),
                       .body = body,
                       .body_len = (uint32_t)strlen(body),
                       .flags = flags};

    strcpy(op.verb, verb);
    strcpy(op.object, "web1");
    strcpy(op.actor, "root");
    ha_agent_op(&sim[third].agent, &op, now_ns);
    settle();
}

/* The owner's last word, with what its claims say of copies. */
static void ends(uint32_t from, enum ha_vm_outcome outcome, uint64_t epoch,
                 uint32_t first, uint32_t second)
{
    const struct ha_vm *vm = vm_at(third);
    struct ha_vm_report r = {.vm = vm->uuid,
                             .attempt = vm->attempt,
                             .instance = vm->instance,
                             .outcome = outcome,
                             .epoch = epoch,
                             .guest_shutdown = true,
                             .mirror = {first, second}};

    local_at(from, HA_LOCAL_RUNNING, epoch, true);
    ha_agent_vm_report(&sim[from].agent, &r, now_ns);
    settle();
}

static void counts(uint32_t first, uint32_t second)
{
    ck_assert_uint_eq(vm_at(third)->mirror[0], first);
    ck_assert_uint_eq(vm_at(third)->mirror[1], second);
    ck_assert_uint_eq(vm_at(third)->mirror[2], 0);
}

/* The twin stays in the record until its primary has ended. */
START_TEST(stopped_in_order)
{
    protect();
    op_at(third, "vm stop", "web1", "");
    ck_assert_int_eq(vm_at(third)->state, HA_VM_STOPPING);
    ck_assert_uint_eq(sim[twin].twin.to, twin);
    ck_assert(ha_vm_protected(vm_at(third)));
    ends(primary, HA_OUTCOME_STOPPED, 2, primary, twin);
    ck_assert_int_eq(vm_at(third)->state, HA_VM_STOPPED);
    ck_assert_uint_eq(vm_at(third)->twin.to, 0);
    counts(primary, twin);
    op_at(third, "vm start", "web1", "n2");
    ck_assert_int_eq(vm_at(third)->state, HA_VM_STARTING);
    ck_assert_uint_eq(vm_at(third)->owner, twin);
}
END_TEST

/* It hears the primary's end first. */
START_TEST(its_twin_is_faster)
{
    protect();
    op_at(third, "vm stop", "web1", "");
    tell(twin, HA_OUTCOME_START_FAILED, 0, "killed: the primary needs no twin any more");
    ck_assert_int_eq(vm_at(third)->state, HA_VM_STOPPING);
    ck_assert_uint_eq(vm_at(third)->twin.to, 0);
    ck_assert_ptr_null(strstr(vm_at(third)->reason, "lost"));
    ends(primary, HA_OUTCOME_STOPPED, 2, primary, twin);
    counts(primary, twin);
}
END_TEST

START_TEST(powered_off_by_its_guest)
{
    protect();
    ends(primary, HA_OUTCOME_ENDED, 2, primary, twin);
    ck_assert_int_eq(vm_at(third)->state, HA_VM_STOPPED);
    ck_assert_uint_eq(vm_at(third)->twin.to, 0);
    counts(primary, twin);
}
END_TEST

/* Its agent took a claim without the twin first. */
START_TEST(in_doubt_one_counts)
{
    protect();
    op_at(third, "vm stop", "web1", "");
    ends(primary, HA_OUTCOME_STOPPED, 3, primary, 0);
    ck_assert_int_eq(vm_at(third)->state, HA_VM_STOPPED);
    ck_assert_uint_eq(vm_at(third)->epoch, 3);
    counts(primary, 0);
    refused("vm start", "n2", "vm start web1 --node n2 --accept-copy");
    refused("vm start", "n2", "it is on n1");
}
END_TEST

/* An earlier epoch says nothing about copies any more. */
START_TEST(an_old_word_is_not_heard)
{
    struct ha_vm_report r = {.outcome = HA_OUTCOME_ENDED, .epoch = 1, .mirror = {2, 3}};

    protect();
    r.vm = vm_at(third)->uuid;
    r.instance = sim_uuid(NULL);
    ha_agent_vm_report(&sim[primary].agent, &r, now_ns);
    settle();
    counts(primary, twin);
}
END_TEST

/* Who is not wanted is not left to its twin. */
START_TEST(its_node_dies_while_it_stops)
{
    protect();
    op_at(third, "vm stop", "web1", "");
    view_without(8, primary);
    ck_assert_int_eq(vm_at(third)->state, HA_VM_UNKNOWN);
    ck_assert_uint_eq(fences(), 1); /* at once */
}
END_TEST

/* Stopped, and only n1's copy counts. */
static void rests_on_n1(void)
{
    protect();
    op_at(third, "vm stop", "web1", "");
    ends(primary, HA_OUTCOME_STOPPED, 3, primary, 0);
}

START_TEST(accepted)
{
    rests_on_n1();
    op_flags("vm start", "n2", HA_OP_ACCEPT);
    ck_assert_uint_eq(sim[third].result.exit_code, 0);
    ck_assert_int_eq(vm_at(third)->state, HA_VM_STARTING);
    ck_assert_uint_eq(vm_at(third)->owner, 2);
    ck_assert(vm_at(2)->accept_copy);
    ck_assert(strstr(vm_at(third)->reason, "--accept-copy") != NULL);
    counts(1, 0); /* until it has the claim */
    tell(2, HA_OUTCOME_START_FAILED, 0, "no");
    ck_assert(vm_at(2)->accept_copy); /* not its attempt */
    {
        struct ha_vm_report r = {.vm = vm_at(1)->uuid,
                                 .attempt = vm_at(1)->attempt,
                                 .outcome = HA_OUTCOME_RUNNING,
                                 .instance = sim_uuid(NULL),
                                 .epoch = 4};

        ha_agent_vm_report(&sim[2].agent, &r, now_ns);
        settle();
    }
    ck_assert_int_eq(vm_at(third)->state, HA_VM_RUNNING);
    ck_assert(!vm_at(third)->accept_copy);
    counts(2, 0);
}
END_TEST

/* What its claims say corrects the record; the word is gone with the try. */
START_TEST(accepted_and_failed)
{
    struct ha_vm_report r = {.outcome = HA_OUTCOME_START_FAILED, .mirror = {1}};

    rests_on_n1();
    op_flags("vm start", "n2", HA_OP_ACCEPT);
    r.vm = vm_at(2)->uuid;
    r.attempt = vm_at(2)->attempt;
    strcpy(r.text, "its mirrored disk is not on this node");
    ha_agent_vm_report(&sim[2].agent, &r, now_ns);
    settle();
    ck_assert_int_eq(vm_at(third)->state, HA_VM_STOPPED);
    ck_assert_int_eq(vm_at(third)->desired, HA_DESIRED_STOPPED);
    ck_assert(!vm_at(third)->accept_copy);
    counts(1, 0);
    refused("vm start", "n2", "--accept-copy");
}
END_TEST

START_TEST(what_is_not_accepted)
{
    static const char plain[] = "name: web1\nmemory: 32MiB\nmachine: lockstep\n"
                                "boot: {firmware: /x.rom}\n";

    rests_on_n1();
    op_flags("vm start", "", HA_OP_ACCEPT);
    ck_assert_uint_eq(sim[third].result.exit_code, 2);
    ck_assert(strstr(sim[third].result.text, "needs --node") != NULL);
    op_at(1, "node maintenance", "n2", "on");
    op_flags("vm start", "n2", HA_OP_ACCEPT); /* whatever else stands in its way does */
    ck_assert_uint_eq(sim[third].result.exit_code, 4);
    ck_assert(strstr(sim[third].result.text, "maintenance") != NULL);
    op_at(1, "vm apply", "web1", plain);
    op_flags("vm start", "n3", HA_OP_ACCEPT);
    ck_assert_uint_eq(sim[third].result.exit_code, 4);
    ck_assert(strstr(sim[third].result.text, "no mirrored disks") != NULL);
}
END_TEST

/* Nobody knows whether it still runs; then it is known that it does not. */
START_TEST(its_owner_is_not_proven_dead)
{
    struct ha_vm_report r = {.outcome = HA_OUTCOME_START_FAILED, .mirror = {1}};

    runs(ft_yaml);
    view_without(8, primary);
    ck_assert_int_eq(vm_at(third)->state, HA_VM_UNKNOWN);
    op_flags("vm start", "n2", HA_OP_ACCEPT);
    ck_assert_uint_eq(sim[third].result.exit_code, 4);
    ck_assert(strstr(sim[third].result.text, "may still run on n1") != NULL);
    ck_assert(strstr(sim[third].result.text, "node confirm-off n1") != NULL);
    ck_assert_int_eq(vm_at(third)->state, HA_VM_UNKNOWN);
    op_at(third, "node confirm-off", "n1", "");
    ck_assert_uint_eq(sim[third].result.exit_code, 0);
    ck_assert_int_eq(vm_at(third)->state, HA_VM_UNKNOWN);
    ck_assert(strstr(vm_at(third)->reason, "in sync only on n1") != NULL);
    op_flags("vm start", "n2", HA_OP_ACCEPT);
    ck_assert_uint_eq(sim[third].result.exit_code, 0);
    ck_assert_int_eq(vm_at(third)->state, HA_VM_STARTING);
    ck_assert_uint_eq(vm_at(third)->owner, 2);
    ck_assert(vm_at(third)->accept_copy);
    /* It was wanted running before, and still waits for the node that has all of it. */
    r.vm = vm_at(third)->uuid;
    r.attempt = vm_at(third)->attempt;
    strcpy(r.text, "there is no such file");
    ha_agent_vm_report(&sim[2].agent, &r, now_ns);
    settle();
    ck_assert(!vm_at(third)->accept_copy);
    ck_assert_int_eq(vm_at(third)->desired, HA_DESIRED_RUNNING);
    ck_assert_int_ne(vm_at(third)->state, HA_VM_STARTING);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("ha_copies");
    TCase *tc = tcase_create("copies");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, stopped_in_order);
    tcase_add_test(tc, its_twin_is_faster);
    tcase_add_test(tc, powered_off_by_its_guest);
    tcase_add_test(tc, in_doubt_one_counts);
    tcase_add_test(tc, an_old_word_is_not_heard);
    tcase_add_test(tc, its_node_dies_while_it_stops);
    tcase_add_test(tc, accepted);
    tcase_add_test(tc, accepted_and_failed);
    tcase_add_test(tc, what_is_not_accepted);
    tcase_add_test(tc, its_owner_is_not_proven_dead);
    suite_add_tcase(s, tc);
    return s;
}

UNIT_MAIN(suite)
