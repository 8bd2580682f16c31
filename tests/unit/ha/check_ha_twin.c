/* SPDX-License-Identifier: Apache-2.0 */
/* A protected VM as the coordinator sees it: what both sides report, and what is made of
 * it when one of them, or both, are lost. */
#include "tests/unit/ha/ha_sim.h"

#include "ha/ha_twin.h"

static const char ft_yaml[] =
    "name: web1\nmemory: 32MiB\nmachine: lockstep\nboot: {firmware: /x.rom}\n"
    "disks: [{path: /l/x.img, mirrored: true}]\n";
static const char auto_yaml[] =
    "name: web1\nmemory: 32MiB\nmachine: lockstep\nboot: {firmware: /x.rom}\n"
    "disks: [{path: /l/x.img, mirrored: true}]\nft: {mode: auto, on: [n3]}\n";

static uint32_t primary, twin, third;
static struct uuid twin_instance, id;

static void tell(uint32_t from, enum ha_vm_outcome outcome, uint64_t epoch,
                 const char *text)
{
    struct ha_vm_report r = {
        .vm = vm_at(third)->uuid, .attempt = id, .outcome = outcome, .epoch = epoch};

    r.instance = from == twin ? twin_instance : vm_at(third)->instance;
    if (outcome == HA_OUTCOME_TWIN_OFFER) {
        r.offer = (struct ha_move_end){.key = {(uint8_t)from}, .port = (uint16_t)from};
        strcpy(r.offer.address, "10.0.0.1");
    }
    strcpy(r.text, text);
    ha_agent_vm_report(&sim[from].agent, &r, now_ns);
    settle();
}

static void local_at(uint32_t node, enum ha_local_state state, uint64_t epoch, bool gone)
{
    struct ha_local_vm local = {.vm = vm_at(third)->uuid,
                                .instance =
                                    node == twin ? twin_instance : vm_at(third)->instance,
                                .attempt = vm_at(third)->attempt,
                                .epoch = epoch,
                                .state = state};

    ha_agent_local_vm(&sim[node].agent, &local, gone);
}

static void view_without(uint64_t seq, uint32_t lost)
{
    uint32_t left[2];
    unsigned n = 0;

    for (uint32_t node = 1; node <= NODES; node++) {
        if (node != lost) {
            left[n++] = node;
        }
    }
    sim[lost].agent.view.agreed = false;
    form(seq, 2, left);
    settle();
}

static void pass(uint64_t ns)
{
    now_ns += ns;
    for (uint32_t node = 1; node <= NODES; node++) {
        ha_agent_tick(&sim[node].agent, now_ns);
    }
    settle();
}

/* web1 runs at `primary` under epoch 1, as it is defined. */
static void runs(const char *yaml)
{
    struct ha_vm_report r = {.outcome = HA_OUTCOME_RUNNING, .epoch = 1};

    op_at(1, "vm apply", "web1", yaml);
    ck_assert_uint_eq(sim[1].result.exit_code, 0);
    op_at(1, "vm start", "web1", "n1");
    primary = vm_at(1)->owner;
    ck_assert_uint_eq(primary, 1);
    twin = 2;
    third = 3;
    r.vm = vm_at(1)->uuid;
    r.attempt = vm_at(1)->attempt;
    r.instance = sim_uuid(NULL);
    ha_agent_vm_report(&sim[primary].agent, &r, now_ns);
    settle();
    ck_assert_int_eq(vm_at(1)->state, HA_VM_RUNNING);
    ck_assert_uint_eq(vm_at(1)->mirror[0], primary);
    local_at(primary, HA_LOCAL_RUNNING, 1, false);
}

static void syncs(void)
{
    id = vm_at(third)->twin.id;
    twin_instance = sim_uuid(NULL);
    local_at(twin, HA_LOCAL_STARTING, 0, false);
    tell(primary, HA_OUTCOME_TWIN_OFFER, 1, "");
    tell(twin, HA_OUTCOME_TWIN_OFFER, 0, "");
    ck_assert_uint_eq(sim[primary].twin.dest.port, twin);
    ck_assert_uint_eq(sim[twin].twin.source.key[0], primary);
    ck_assert(!ha_vm_protected(vm_at(third)));
}

static void follows(void)
{
    tell(primary, HA_OUTCOME_TWIN_COPIED, 1, "");
    ck_assert_int_eq(sim[twin].twin.step, HA_TWIN_COPIED);
    tell(twin, HA_OUTCOME_TWIN_FOLLOWS, 0, "");
    ck_assert_int_eq(sim[primary].twin.step, HA_TWIN_FOLLOWS);
    tell(primary, HA_OUTCOME_TWIN_ON, 2, "");
    local_at(primary, HA_LOCAL_RUNNING, 2, false);
    ck_assert(ha_vm_protected(vm_at(third)));
    ck_assert_uint_eq(vm_at(third)->epoch, 2);
    ck_assert_uint_eq(vm_at(third)->mirror[1], twin);
}

static void protect(void)
{
    runs(ft_yaml);
    op_at(third, "vm protect", "web1", "node=n2\ncommit=received\n");
    ck_assert_uint_eq(sim[third].result.exit_code, 0);
    ck_assert_int_eq(vm_at(third)->state, HA_VM_RUNNING);
    ck_assert_uint_eq(vm_at(third)->twin.commit, CONF_FT_RECEIVED);
    ck_assert_uint_eq(sim[third].twins, 0);
    ck_assert_uint_ge(sim[primary].twins, 1);
    ck_assert_uint_ge(sim[twin].twins, 1);
    syncs();
    follows();
}

static void goes_live(void)
{
    tell(twin, HA_OUTCOME_RUNNING, 3, "");
    ck_assert_int_eq(vm_at(third)->state, HA_VM_RUNNING);
    ck_assert_uint_eq(vm_at(third)->owner, twin);
    ck_assert_uint_eq(vm_at(third)->epoch, 3);
    ck_assert(!uuid_equal(vm_at(third)->twin.id, id));
    ck_assert_uint_eq(vm_at(third)->mirror[0], twin);
    ck_assert_uint_eq(vm_at(third)->mirror[1], 0);
}

static unsigned starts(void)
{
    return sim[1].starts + sim[2].starts + sim[3].starts;
}

static unsigned fences(void)
{
    return sim[1].fences + sim[2].fences + sim[3].fences;
}

/* What is refused, and with which words. */
static void refused(const char *verb, const char *body, const char *why)
{
    op_at(third, verb, "web1", body);
    ck_assert_uint_eq(sim[third].result.exit_code, 4);
    ck_assert_msg(strstr(sim[third].result.text, why) != NULL, "%s: %s", verb,
                  sim[third].result.text);
}

START_TEST(what_cannot_be_is_refused)
{
    run_web1();
    primary = vm_at(1)->owner;
    third = primary % NODES + 1;
    refused("vm protect", "", "a disk of it is shared");
    refused("vm switchover", "", "has no twin");
    teardown();
    setup();
    runs(ft_yaml);
    refused("vm protect", "node=n1\n", "die together");
    refused("vm migrate", "node=n2\n", "mirrored");
    op_at(third, "vm protect", "web1", "node=n9\n");
    ck_assert_uint_eq(sim[third].result.exit_code, 3);
    op_at(third, "vm protect", "web1", "commit=later\n");
    ck_assert_uint_eq(sim[third].result.exit_code, 2);
    op_at(1, "node maintenance", "n2", "on");
    refused("vm protect", "node=n2\n", "is in maintenance");
    op_at(1, "node maintenance", "n3", "on");
    refused("vm protect", "", "n2 is in maintenance; n3 is in maintenance");
}
END_TEST

START_TEST(protected_it_stays_where_it_is)
{
    protect();
    refused("vm migrate", "node=n3\n", "is protected, and its twin is on n2");
    refused("vm suspend", "", "gemel vm unprotect web1");
    refused("vm snapshot", "s1", "is protected");
    refused("vm revert", "s1", "is protected");
    op_at(third, "vm protect", "web1", "");
    ck_assert_uint_eq(sim[third].result.exit_code, 0);
}
END_TEST

START_TEST(the_twin_goes_live)
{
    unsigned before;

    protect();
    before = starts();
    goes_live(); /* before the ring has noticed anything */
    view_without(8, primary);
    ck_assert_uint_eq(vm_at(third)->owner, twin);
    ck_assert_int_eq(vm_at(third)->state, HA_VM_RUNNING);
    ck_assert_uint_eq(starts(), before);
    ck_assert_uint_eq(fences(), 0);
}
END_TEST

/* Its report came while there was no view: its summary says it. */
START_TEST(the_twin_went_live_unheard)
{
    protect();
    local_at(twin, HA_LOCAL_RUNNING, 3, false);
    view_without(8, primary);
    ck_assert_uint_eq(vm_at(third)->owner, twin);
    ck_assert_uint_eq(vm_at(third)->epoch, 3);
    ck_assert_uint_eq(vm_at(third)->twin.to, 0);
    ck_assert_uint_eq(vm_at(third)->mirror[0], twin);
    ck_assert(strstr(vm_at(third)->reason, "its twin on n2 went live") != NULL);
}
END_TEST

/* It is its twin's matter first; then it is anybody's, by a proof. */
START_TEST(a_twin_that_does_not_come)
{
    unsigned before;

    protect();
    before = starts();
    view_without(8, primary);
    ck_assert_int_eq(vm_at(third)->state, HA_VM_UNKNOWN);
    ck_assert_int_eq(sim[twin].twin_state, HA_VM_UNKNOWN); /* told: not waited for */
    pass(HA_TWIN_WAIT_NS - NSEC_PER_SEC);
    ck_assert_uint_eq(fences(), 0);
    pass(2 * NSEC_PER_SEC);
    ck_assert_uint_eq(fences(), 1);
    ck_assert_uint_eq(starts(), before);
}
END_TEST

START_TEST(both_are_lost)
{
    protect();
    local_at(twin, HA_LOCAL_STARTING, 0, true);
    view_without(8, primary);
    /* The twin's process is gone: nobody to wait for. */
    ck_assert_uint_eq(vm_at(third)->twin.to, 0);
    ck_assert_int_eq(vm_at(third)->state, HA_VM_UNKNOWN);
    ck_assert_uint_eq(fences(), 1);
}
END_TEST

START_TEST(its_process_is_killed)
{
    unsigned before;

    protect();
    before = starts();
    tell(primary, HA_OUTCOME_ENDED, 2, "killed by signal 9");
    ck_assert_int_eq(vm_at(third)->state, HA_VM_UNKNOWN);
    ck_assert_uint_eq(starts(), before); /* not in place */
    goes_live();
    ck_assert_uint_eq(starts(), before);
}
END_TEST

START_TEST(its_process_is_killed_and_no_twin_comes)
{
    protect();
    tell(primary, HA_OUTCOME_ENDED, 2, "killed by signal 9");
    pass(HA_TWIN_WAIT_NS + NSEC_PER_SEC);
    ck_assert_int_eq(vm_at(third)->state, HA_VM_STARTING);
    ck_assert_uint_eq(vm_at(third)->twin.to, 0);
}
END_TEST

START_TEST(it_goes_on_alone)
{
    protect();
    view_without(8, twin);
    ck_assert(ha_vm_protected(vm_at(third))); /* its VMM decides */
    tell(primary, HA_OUTCOME_TWIN_OFF, 3, "its twin is not heard");
    ck_assert_uint_eq(vm_at(third)->twin.to, 0);
    ck_assert_uint_eq(vm_at(third)->epoch, 3);
    ck_assert_uint_eq(vm_at(third)->owner, primary);
    ck_assert_uint_eq(vm_at(third)->mirror[1], 0);
}
END_TEST

START_TEST(a_sync_that_fails_changes_nothing)
{
    runs(ft_yaml);
    op_at(third, "vm protect", "web1", "node=n2\n");
    syncs();
    tell(twin, HA_OUTCOME_START_FAILED, 0, "no memory");
    ck_assert_uint_eq(vm_at(third)->twin.to, 0);
    ck_assert(vm_at(third)->last_failed);
    ck_assert_int_eq(vm_at(third)->state, HA_VM_RUNNING);
    op_at(third, "vm protect", "web1", "node=n2\n");
    syncs();
    view_without(8, twin);
    ck_assert_uint_eq(vm_at(third)->twin.to, 0);
}
END_TEST

START_TEST(unprotected)
{
    protect();
    op_at(third, "vm unprotect", "web1", "");
    ck_assert(sim[primary].twin.ending);
    tell(primary, HA_OUTCOME_TWIN_OFF, 3, "as it was asked for");
    ck_assert_uint_eq(vm_at(third)->twin.to, 0);
    ck_assert(!vm_at(third)->last_failed);
    ck_assert(vm_at(third)->twin_off);
}
END_TEST

START_TEST(switched_over)
{
    protect();
    op_at(third, "vm switchover", "web1", "");
    ck_assert(sim[primary].twin.switchover);
    goes_live();
    ck_assert(strstr(vm_at(third)->reason, "has taken over from n1") != NULL);
}
END_TEST

/* ft: of the definition. */
START_TEST(by_its_definition)
{
    runs(auto_yaml);
    ck_assert_uint_eq(vm_at(1)->twin.to, 3); /* on: [n3] */
    twin = 3;
    third = 2;
    syncs();
    follows();
    goes_live();
    ck_assert_uint_ne(vm_at(1)->twin.to, 3);
    ck_assert_uint_ne(vm_at(1)->twin.to, 0); /* another one at once */
}
END_TEST

START_TEST(tried_again_less_and_less_often)
{
    runs(auto_yaml);
    twin = 3;
    third = 2;
    syncs();
    tell(twin, HA_OUTCOME_TWIN_OFF, 0, "no");
    ck_assert_uint_eq(vm_at(1)->twin.to, 0);
    ck_assert_uint_eq(vm_at(1)->twin_tries, 1);
    pass(NSEC_PER_SEC);
    ck_assert_uint_eq(vm_at(1)->twin.to, 0);
    pass(2 * NSEC_PER_SEC);
    ck_assert_uint_eq(vm_at(1)->twin.to, 2); /* the other one first */
    op_at(1, "vm unprotect", "web1", "");
    id = vm_at(1)->twin.id;
    tell(primary, HA_OUTCOME_TWIN_OFF, 1, "as it was asked for");
    pass(600 * NSEC_PER_SEC);
    ck_assert_uint_eq(vm_at(1)->twin.to, 0);
}
END_TEST

START_TEST(maintenance)
{
    protect();
    op_at(third, "node maintenance", "n2", "on");
    ck_assert(sim[primary].twin.ending);
    tell(primary, HA_OUTCOME_TWIN_OFF, 3, "as it was asked for");
    op_at(third, "node maintenance", "n2", "off");
    op_at(third, "vm protect", "web1", "node=n2\n");
    syncs();
    tell(primary, HA_OUTCOME_TWIN_ON, 4, "");
    op_at(third, "node maintenance", "n1", "on");
    ck_assert(sim[primary].twin.switchover);
}
END_TEST

/* A cold start only where the disks hold. */
START_TEST(its_disks_decide_where)
{
    struct ha_vm vm;
    char why[REASON_LEN_MAX + 1];
    uint32_t participant[NODES_MAX];
    struct ha_policy_in in;
    struct ha_place place;

    protect();
    ha_place_now(&sim[1].agent, now_ns, &in, participant, &place);
    vm = *vm_at(1);
    ck_assert(ha_place_may(&place, &vm, 1));
    ck_assert(ha_place_may(&place, &vm, 2));
    ck_assert(!ha_place_may(&place, &vm, 3));
    ck_assert_int_eq(ha_place_why(&place, &vm, 3, why), HA_PLACE_MIRROR);
    ck_assert(ha_twin_fits(&place, &vm, 3, why));
    ck_assert(!ha_twin_fits(&place, &vm, 1, why));
}
END_TEST

/* The record holds all of it. */
START_TEST(kept)
{
    uint8_t buf[HA_ITEM_MAX];
    struct ha_state state;
    struct ha_vm *vm;
    size_t len;

    protect();
    vm = (struct ha_vm *)vm_at(1);
    vm->twin_off = true;
    vm->twin_tries = 7;
    vm->twin_avoid = 3;
    vm->twin.switchover = true;
    len = ha_item_put_vm(vm, buf, sizeof buf);
    ha_state_init(&state, &mem);
    ck_assert_int_eq(ha_state_apply(&state, HA_ITEM_VM, buf, len, 1, now_ns), 0);
    ck_assert_mem_eq(&state.vm[0]->twin, &vm->twin, sizeof vm->twin);
    ck_assert(state.vm[0]->twin_off);
    ck_assert_uint_eq(state.vm[0]->twin_tries, 7);
    ck_assert_uint_eq(state.vm[0]->twin_avoid, 3);
    ck_assert_mem_eq(state.vm[0]->mirror, vm->mirror, sizeof vm->mirror);
    ha_state_clear(&state);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("ha_twin");
    TCase *tc = tcase_create("ha_twin");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, what_cannot_be_is_refused);
    tcase_add_test(tc, protected_it_stays_where_it_is);
    tcase_add_test(tc, the_twin_goes_live);
    tcase_add_test(tc, the_twin_went_live_unheard);
    tcase_add_test(tc, a_twin_that_does_not_come);
    tcase_add_test(tc, both_are_lost);
    tcase_add_test(tc, its_process_is_killed);
    tcase_add_test(tc, its_process_is_killed_and_no_twin_comes);
    tcase_add_test(tc, it_goes_on_alone);
    tcase_add_test(tc, a_sync_that_fails_changes_nothing);
    tcase_add_test(tc, unprotected);
    tcase_add_test(tc, switched_over);
    tcase_add_test(tc, by_its_definition);
    tcase_add_test(tc, tried_again_less_and_less_often);
    tcase_add_test(tc, maintenance);
    tcase_add_test(tc, its_disks_decide_where);
    tcase_add_test(tc, kept);
    suite_add_tcase(s, tc);
    return s;
}

UNIT_MAIN(suite)
