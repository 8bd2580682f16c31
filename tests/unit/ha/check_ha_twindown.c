/* SPDX-License-Identifier: Apache-2.0 */
/* A twin that goes another way too often: who steps down to checkpoint mode, who does
 * not, and the way back. */
#include "tests/unit/ha/twin_sim.h"

static const char lockstep_yaml[] =
    "name: web1\nmemory: 32MiB\nmachine: lockstep\nboot: {firmware: /x.rom}\n"
    "disks: [{path: /l/x.img, mirrored: true}]\nft: {mode: lockstep}\n";
static const char other_yaml[] =
    "name: web1\nmemory: 32MiB\nmachine: lockstep\nboot: {firmware: /x.rom}\n"
    "disks: [{path: /l/x.img, mirrored: true}]\nft: {mode: auto, on: [n2]}\n";

#define DAY_MS UINT64_C(86400000)

/* Its session has ended, and that was why. */
static void diverges(uint64_t epoch, uint64_t at_ms)
{
    struct ha_vm_report r = {.vm = vm_at(1)->uuid,
                             .attempt = id,
                             .instance = vm_at(1)->instance,
                             .outcome = HA_OUTCOME_TWIN_OFF,
                             .epoch = epoch,
                             .diverged_ms = at_ms,
                             .text = "the twin went another way 4 times"};

    ha_agent_vm_report(&sim[primary].agent, &r, now_ns);
    settle();
}

/* By its definition; n3 is its first choice. */
static void protect_by(const char *yaml)
{
    runs(yaml);
    pass(5 * NSEC_PER_SEC);
    twin = vm_at(1)->twin.to;
    third = twin == 3 ? 2 : 3;
    ck_assert_uint_eq(vm_at(1)->twin.commit, CONF_FT_VERIFIED);
    syncs();
    follows();
}

static const struct ha_vm *web1(void)
{
    return vm_at(1);
}

START_TEST(auto_steps_down_at_once)
{
    protect_by(auto_yaml);
    diverges(3, DAY_MS);
    ck_assert(web1()->diverged.down);
    ck_assert_uint_eq(web1()->diverged.count, 1);
    ck_assert_uint_eq(web1()->diverged.at_ms, DAY_MS);
    ck_assert(strstr(web1()->diverged.why, "another way 4 times") != NULL);
    /* No time has passed. */
    ck_assert_uint_ne(web1()->twin.to, 0);
    ck_assert_uint_eq(web1()->twin.commit, CONF_FT_EPOCHS);
    ck_assert(!web1()->twin_at_once);
    ck_assert_uint_eq(web1()->owner, primary);
    ck_assert_uint_eq(web1()->epoch, 3);
    ck_assert(sim[third].told > 0);
}
END_TEST

/* The twin's end is heard of first, and says nothing of that. */
START_TEST(also_when_the_twin_is_heard_first)
{
    protect_by(auto_yaml);
    tell(twin, HA_OUTCOME_ENDED, 0, "the session is over");
    ck_assert_uint_eq(web1()->twin.to, 0);
    ck_assert(!web1()->diverged.down);
    diverges(3, DAY_MS);
    ck_assert(web1()->diverged.down);
    ck_assert_uint_eq(web1()->epoch, 3);
    ck_assert_uint_ne(web1()->twin.to, 0);
    ck_assert_uint_eq(web1()->twin.commit, CONF_FT_EPOCHS);
    /* Said again, it is no second time. */
    diverges(3, DAY_MS);
    ck_assert_uint_eq(web1()->diverged.count, 1);
}
END_TEST

/* What is lost otherwise is waited for, as ever, and steps nothing down. */
START_TEST(not_for_other_losses)
{
    protect_by(auto_yaml);
    tell(primary, HA_OUTCOME_TWIN_OFF, 3, "its twin is not heard");
    ck_assert(!web1()->diverged.down);
    ck_assert_uint_eq(web1()->twin.to, 0);
    pass(5 * NSEC_PER_SEC);
    ck_assert_uint_eq(web1()->twin.commit, CONF_FT_VERIFIED);
}
END_TEST

START_TEST(it_stays_down)
{
    protect_by(auto_yaml);
    diverges(3, DAY_MS);
    twin = web1()->twin.to;
    third = twin == 3 ? 2 : 3;
    syncs();
    tell(twin, HA_OUTCOME_TWIN_FOLLOWS, 0, "");
    tell(primary, HA_OUTCOME_TWIN_ON, 4, "");
    ck_assert(ha_vm_protected(web1()));
    tell(primary, HA_OUTCOME_TWIN_OFF, 5, "its twin is not heard");
    pass(5 * NSEC_PER_SEC);
    ck_assert_uint_ne(web1()->twin.to, 0);
    ck_assert_uint_eq(web1()->twin.commit, CONF_FT_EPOCHS);
}
END_TEST

/* It is alone, and tried less and less often. */
START_TEST(lockstep_insists)
{
    protect_by(lockstep_yaml);
    diverges(3, DAY_MS);
    ck_assert(!web1()->diverged.down);
    ck_assert_uint_eq(web1()->twin.to, 0);
    ck_assert(strstr(web1()->reason, "ft.mode is lockstep") != NULL);
    pass(3 * NSEC_PER_SEC); /* 2 s */
    ck_assert_uint_eq(web1()->twin.commit, CONF_FT_VERIFIED);
    ck_assert_uint_ne(web1()->twin.to, 0);
    twin = web1()->twin.to;
    third = twin == 3 ? 2 : 3;
    syncs();
    tell(primary, HA_OUTCOME_TWIN_ON, 4, "");
    diverges(5, DAY_MS + 1000);
    ck_assert_uint_eq(web1()->diverged.row, 2);
    pass(3 * NSEC_PER_SEC);
    ck_assert_uint_eq(web1()->twin.to, 0);
    pass(2 * NSEC_PER_SEC); /* 4 s */
    ck_assert_uint_ne(web1()->twin.to, 0);
    twin = web1()->twin.to;
    third = twin == 3 ? 2 : 3;
    syncs();
    tell(primary, HA_OUTCOME_TWIN_ON, 6, "");
    diverges(7, 2 * DAY_MS);
    ck_assert_uint_eq(web1()->diverged.row, 1); /* that is long ago */
    ck_assert_uint_eq(web1()->diverged.count, 3);
}
END_TEST

START_TEST(an_operator_steps_up)
{
    protect_by(auto_yaml);
    diverges(3, DAY_MS);
    twin = web1()->twin.to;
    third = twin == 3 ? 2 : 3;
    syncs();
    tell(primary, HA_OUTCOME_TWIN_ON, 4, "");
    op_at(third, "vm protect", "web1", "");
    ck_assert_uint_eq(sim[third].result.exit_code, 0);
    ck_assert(!sim[primary].twin.ending);
    op_at(third, "vm protect", "web1", "mode=lockstep\n");
    ck_assert_uint_eq(sim[third].result.exit_code, 0);
    ck_assert(sim[primary].twin.ending);
    ck_assert(!web1()->diverged.down);
    ck_assert_uint_eq(web1()->diverged.count, 1);
    tell(primary, HA_OUTCOME_TWIN_OFF, 5, "as it was asked for");
    ck_assert_uint_ne(web1()->twin.to, 0);
    ck_assert_uint_eq(web1()->twin.commit, CONF_FT_VERIFIED);
}
END_TEST

/* In lockstep, or where the definition would not follow, it is not changed by the way. */
START_TEST(other_changes_are_refused)
{
    protect_by(auto_yaml);
    refused("vm protect", "mode=checkpoint\n", "gemel vm unprotect");
    op_at(third, "vm protect", "web1", "mode=lockstep\n");
    ck_assert_uint_eq(sim[third].result.exit_code, 0);
    ck_assert(!sim[primary].twin.ending);
}
END_TEST

START_TEST(another_definition_steps_up)
{
    protect_by(auto_yaml);
    diverges(3, DAY_MS);
    op_at(third, "vm apply", "web1", other_yaml);
    ck_assert_uint_eq(sim[third].result.exit_code, 0);
    ck_assert(!web1()->diverged.down);
    ck_assert_uint_eq(web1()->diverged.count, 1);
    ck_assert_uint_eq(ha_twin_rule(web1()), CONF_FT_VERIFIED);
}
END_TEST

/* Nothing but an operator protects it: it is alone then, and what is asked for next is
 * told apart by the mode. */
START_TEST(without_a_policy)
{
    protect();
    diverges(3, DAY_MS);
    pass(600 * NSEC_PER_SEC);
    ck_assert_uint_eq(web1()->twin.to, 0);
    op_at(third, "vm protect", "web1", "");
    ck_assert_uint_eq(web1()->twin.commit, CONF_FT_EPOCHS);
    ck_assert(strstr(sim[third].result.text, "in checkpoint mode") != NULL);
    id = web1()->twin.id;
    tell(primary, HA_OUTCOME_TWIN_OFF, 3, "no");
    op_at(third, "vm protect", "web1", "mode=lockstep\n");
    ck_assert_uint_eq(web1()->twin.commit, CONF_FT_VERIFIED);
    ck_assert(!web1()->diverged.down);
}
END_TEST

START_TEST(why_which_mode)
{
    char why[REASON_LEN_MAX + 1];

    protect_by(auto_yaml);
    ha_twin_rule_why(web1(), why);
    ck_assert_str_eq(why, "in lockstep, because its machine can");
    diverges(3, DAY_MS);
    ha_twin_rule_why(web1(), why);
    ck_assert_str_eq(why,
                     "in checkpoint mode, because its twin went another way too often");
}
END_TEST

START_TEST(kept_in_the_record)
{
    uint8_t buf[HA_ITEM_MAX];
    struct ha_state state;
    struct ha_vm *vm;
    size_t len;

    protect_by(auto_yaml);
    diverges(3, DAY_MS);
    vm = (struct ha_vm *)web1();
    vm->twin_at_once = true;
    len = ha_item_put_vm(vm, buf, sizeof buf);
    ha_state_init(&state, &mem);
    ck_assert_int_eq(ha_state_apply(&state, HA_ITEM_VM, buf, len, 1, now_ns), 0);
    ck_assert(state.vm[0]->twin_at_once);
    ck_assert(state.vm[0]->diverged.down);
    ck_assert_uint_eq(state.vm[0]->diverged.count, 1);
    ck_assert_uint_eq(state.vm[0]->diverged.row, 1);
    ck_assert_uint_eq(state.vm[0]->diverged.at_ms, DAY_MS);
    ck_assert_str_eq(state.vm[0]->diverged.why, vm->diverged.why);
    ha_state_clear(&state);
    vm->diverged.row = 2; /* more in a row than there were */
    len = ha_item_put_vm(vm, buf, sizeof buf);
    ck_assert_int_ne(ha_state_apply(&state, HA_ITEM_VM, buf, len, 1, now_ns), 0);
    ha_state_clear(&state);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("ha_twindown");
    TCase *tc = tcase_create("ha_twindown");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, auto_steps_down_at_once);
    tcase_add_test(tc, also_when_the_twin_is_heard_first);
    tcase_add_test(tc, not_for_other_losses);
    tcase_add_test(tc, it_stays_down);
    tcase_add_test(tc, lockstep_insists);
    tcase_add_test(tc, an_operator_steps_up);
    tcase_add_test(tc, other_changes_are_refused);
    tcase_add_test(tc, another_definition_steps_up);
    tcase_add_test(tc, without_a_policy);
    tcase_add_test(tc, why_which_mode);
    tcase_add_test(tc, kept_in_the_record);
    suite_add_tcase(s, tc);
    return s;
}

UNIT_MAIN(suite)
