/* SPDX-License-Identifier: Apache-2.0 */
/* What an operator reads who moves VMs: refusals with what to do, what of a definition is
 * pending, why a drain does not go on, what a migration was. */
#include "tests/unit/ha/ha_sim.h"

#include "ha/ha_drain.h"
#include "ha/ha_drain_tell.h"
#include "ha/ha_moved.h"
#include "ha/ha_pending.h"

static const struct ha_vm *named(const char *name)
{
    return ha_state_vm_by_name(&sim[1].agent.state, name);
}

static void reports(uint32_t from, const char *name, enum ha_vm_outcome outcome,
                    uint64_t epoch, const char *text)
{
    const struct ha_vm *vm = named(name);
    struct ha_vm_report r = {.vm = vm->uuid,
                             .attempt = vm->attempt,
                             .instance = vm->instance,
                             .outcome = outcome,
                             .epoch = epoch};

    strcpy(r.text, text);
    ha_agent_vm_report(&sim[from].agent, &r, now_ns);
    settle();
}

static void apply(const char *name, const char *memory, const char *more)
{
    char yaml[256];

    snprintf(yaml, sizeof yaml,
             "name: %s\nmemory: %s\nmachine: lockstep\nboot: {firmware: /srv/rom}\n%s",
             name, memory, more);
    op_at(1, "vm apply", "", yaml);
}

static void run_at(uint32_t node, const char *name, const char *more)
{
    apply(name, "32MiB", more);
    ck_assert_uint_eq(sim[1].result.exit_code, 0);
    op_at(1, "vm start", name, sim[node].agent.self.name);
    ck_assert_uint_eq(sim[1].result.exit_code, 0);
    reports(node, name, HA_OUTCOME_RUNNING, named(name)->epoch + 1, "");
    ck_assert_int_eq(named(name)->state, HA_VM_RUNNING);
}

static void stop(const char *name)
{
    op_at(1, "vm stop", name, "");
    reports(named(name)->owner, name, HA_OUTCOME_STOPPED, named(name)->epoch, "");
    ck_assert_int_eq(named(name)->state, HA_VM_STOPPED);
}

static void maintenance(uint32_t node, const char *on_off)
{
    op_at(1, "node maintenance", sim[node].agent.self.name, on_off);
    ck_assert_uint_eq(sim[1].result.exit_code, 0);
}

/* The last answer has this exit code, and says this. */
static void answered(uint32_t exit_code, const char *words)
{
    ck_assert_msg(sim[1].result.exit_code == exit_code &&
                      strstr(sim[1].result.text, words) != NULL,
                  "exit %u: %s", sim[1].result.exit_code, sim[1].result.text);
}

static void dry_run(const char *verb, const char *object, const char *body)
{
    struct ha_op op = {
        .flags = HA_OP_DRY_RUN, .body = body, .body_len = (uint32_t)strlen(body)};

    op.uid = sim_uuid(NULL);
    strcpy(op.verb, verb);
    strcpy(op.object, object);
    strcpy(op.actor, "root");
    ha_agent_op(&sim[1].agent, &op, now_ns);
    settle();
}

static bool stuck(const char *name, char *why)
{
    uint32_t participant[NODES_MAX];
    static struct ha_place place;
    struct ha_policy_in in;

    ha_place_now(&sim[1].agent, now_ns, &in, participant, &place);
    return ha_drain_stuck(&place, named(name), why);
}

/* Definitions
 * ---------------------------------------------------------------------------------- */

START_TEST(a_changed_definition_is_pending_until_it_is_taken_back)
{
    char what[REASON_LEN_MAX + 1];

    run_at(1, "e1", "");
    ck_assert_ptr_null(named("e1")->runs);
    ck_assert(!ha_pending(named("e1"), what, sizeof what));
    apply("e1", "64MiB", "");
    answered(0, "from the next start hold: memory: 32MiB -> 64MiB");
    ck_assert_ptr_nonnull(named("e1")->runs_conf);
    ck_assert(ha_pending(named("e1"), what, sizeof what));
    ck_assert_str_eq(what, "memory: 32MiB -> 64MiB");
    dry_run("vm migrate", "e1", "node=n2\n");
    answered(0, "e1: migrating from n1 to n2 (32 MiB of memory"); /* what it runs with */
    apply("e1", "48MiB", ""); /* as it was started, still */
    ck_assert(ha_pending(named("e1"), what, sizeof what));
    ck_assert_str_eq(what, "memory: 32MiB -> 48MiB");
    apply("e1", "32MiB", "");
    ck_assert(!ha_pending(named("e1"), what, sizeof what));
    ck_assert_ptr_null(named("e1")->runs);
    dry_run("vm migrate", "e1", "node=n2\n");
    answered(0, "e1: migrating from n1 to n2 (32 MiB of memory");
    ck_assert_int_eq(named("e1")->state, HA_VM_RUNNING);
    expect_equal_states();
}
END_TEST

START_TEST(what_is_no_machine_holds_at_once)
{
    char what[REASON_LEN_MAX + 1];

    run_at(1, "e1", "");
    apply("e1", "32MiB", "ha: {priority: 1}\n");
    ck_assert(!ha_pending(named("e1"), what, sizeof what));
    op_at(1, "vm migrate", "e1", "node=n2\n");
    answered(0, "migrating from n1 to n2");
}
END_TEST

/* What the destination is made of: above all, the disks that it runs with. */
START_TEST(the_machine_that_runs_goes_on)
{
    struct conf_vm conf;
    struct ha_vm vm;

    run_at(1, "e1", "disks: [{path: old.img, serial: d}]\nha: {priority: 3}\n");
    apply("e1", "64MiB",
          "disks: [{path: new.img, serial: d}, {path: two.img, serial: e}]\n"
          "ha: {priority: 1}\n");
    answered(0, "from the next start hold");
    ck_assert(ha_pending_goes_on(named("e1"), &conf));
    ck_assert_uint_eq(conf.memory_bytes, 32u << 20);
    ck_assert_uint_eq(conf.disk_count, 1);
    ck_assert_str_eq(conf.disk[0].path, "old.img");
    ck_assert_uint_eq(conf.priority, 1); /* holds at once */
    ck_assert_str_eq(conf.name, "e1");
    vm = *named("e1");
    vm.runs_conf = NULL; /* this version cannot read it: never made of the other one */
    ck_assert(!ha_pending_goes_on(&vm, &conf));
    vm.runs = NULL;
    ck_assert(ha_pending_goes_on(&vm, &conf));
    ck_assert_str_eq(conf.disk[0].path, "new.img");
    vm.conf = NULL;
    ck_assert(!ha_pending_goes_on(&vm, &conf));
}
END_TEST

/* It moves with what it runs with, wherever that fits; what was applied since waits. */
START_TEST(what_is_pending_moves_along)
{
    char what[REASON_LEN_MAX + 1];

    run_at(1, "e1", "");
    apply("e1", "2GiB", ""); /* more than any node here has */
    op_at(1, "vm migrate", "e1", "node=n2\n");
    answered(0, "migrating from n1 to n2 (32 MiB of memory");
    ck_assert_ptr_nonnull(named("e1")->runs_conf);
    apply("e1", "48MiB", ""); /* not while it moves: both ends read the same */
    ck_assert_uint_ne(sim[1].result.exit_code, 0);
    reports(2, "e1", HA_OUTCOME_RUNNING, named("e1")->epoch + 1, "");
    ck_assert_uint_eq(named("e1")->owner, 2);
    ck_assert_int_eq(named("e1")->state, HA_VM_RUNNING);
    ck_assert(ha_pending(named("e1"), what, sizeof what));
    ck_assert_str_eq(what, "memory: 32MiB -> 2GiB");
    op_at(1, "vm upgrade", "e1", "");
    ck_assert_uint_eq(sim[1].result.exit_code, 0);
    ck_assert_ptr_nonnull(named("e1")->runs_conf);
    reports(2, "e1", HA_OUTCOME_RUNNING, named("e1")->epoch, "not upgraded: a test");
    ck_assert(ha_pending(named("e1"), what, sizeof what));
    stop("e1");
    ck_assert(!ha_pending(named("e1"), what, sizeof what));
    ck_assert_uint_eq(named("e1")->conf->memory_bytes, 2ull << 30);
    expect_equal_states();
}
END_TEST

START_TEST(a_start_takes_the_definition)
{
    run_at(1, "e1", "");
    apply("e1", "64MiB", "");
    ck_assert_ptr_nonnull(named("e1")->runs);
    stop("e1");
    ck_assert_ptr_null(named("e1")->runs);
    ck_assert_ptr_null(named("e1")->runs_conf);
    apply("e1", "32MiB", ""); /* at rest: nothing is pending */
    ck_assert_ptr_null(named("e1")->runs);
    /* One that failed starts anew, by what is defined now. */
    run_at(1, "e2", "");
    apply("e2", "64MiB", "");
    reports(1, "e2", HA_OUTCOME_ENDED, named("e2")->epoch, "killed");
    ck_assert_int_eq(named("e2")->state, HA_VM_STARTING);
    ck_assert_ptr_null(named("e2")->runs);
    expect_equal_states();
}
END_TEST

/* Both definitions and all that is in a record, there and back. */
START_TEST(what_runs_is_on_record)
{
    static uint8_t body[HA_ITEM_MAX];
    struct ha_state copy;
    size_t len;

    run_at(1, "e1", "");
    apply("e1", "64MiB", "");
    len = ha_item_put_vm(named("e1"), body, sizeof body);
    ck_assert_uint_gt(len, 0);
    ha_state_init(&copy, &mem);
    ck_assert_int_eq(ha_state_apply(&copy, HA_ITEM_VM, body, len, 1, now_ns), 0);
    ck_assert_str_eq(copy.vm[0]->runs, named("e1")->runs);
    ck_assert_uint_eq(copy.vm[0]->runs_conf->memory_bytes, 32u << 20);
    ck_assert_uint_eq(copy.vm[0]->conf->memory_bytes, 64u << 20);
    for (size_t cut = 1; cut < len; cut++) { /* torn anywhere: refused, nothing leaks */
        struct ha_state torn;

        ha_state_init(&torn, &mem);
        (void)ha_state_apply(&torn, HA_ITEM_VM, body, cut, 1, now_ns);
        ha_state_clear(&torn);
    }
    ha_state_clear(&copy);
}
END_TEST

/* Refusals
 * -------------------------------------------------------------------------------------
 */

START_TEST(a_migrating_vm_says_how_to_give_it_up)
{
    static const char *const verb[] = {"vm start",    "vm retry",  "vm stop",
                                       "vm suspend",  "vm resume", "vm delete",
                                       "vm snapshot", "vm revert", "vm migrate"};

    run_at(1, "e1", "");
    op_at(1, "vm migrate", "e1", "node=n2\n");
    for (unsigned i = 0; i < ARRAY_SIZE(verb); i++) {
        bool snapshot =
            strcmp(verb[i], "vm snapshot") == 0 || strcmp(verb[i], "vm revert") == 0;

        op_at(1, verb[i], "e1", snapshot ? "before" : "");
        answered(4, "e1: is being migrated from n1 to n2");
        answered(4, "gemel vm migrate e1 --cancel");
        ck_assert_int_eq(named("e1")->state, HA_VM_MIGRATING);
    }
    apply("e1", "64MiB", "");
    answered(4, "gemel vm migrate e1 --cancel");
    op_at(1, "vm migrate", "e1", "cancel=true\n");
    answered(0, "cancelled");
    op_at(1, "vm retry", "e1", "");
    answered(4, "is being given up");
}
END_TEST

START_TEST(a_node_that_cannot_says_why)
{
    run_at(1, "e1", "");
    maintenance(2, "on");
    op_at(1, "vm migrate", "e1", "node=n2\n");
    answered(4, "n2 is in maintenance");
    dry_run("vm migrate", "e1", "node=n2\n");
    answered(4, "n2 is in maintenance");
    maintenance(3, "on");
    op_at(1, "vm migrate", "e1", "");
    answered(4, "no other node can take it: n2 is in maintenance; n3 is in maintenance");
    op_at(1, "vm start", "e1", "n2");
    answered(4, "to move it to n2: gemel vm migrate e1 n2");
    dry_run("vm migrate", "nosuch", "");
    answered(3, "no VM is named");
    stop("e1");
    dry_run("vm migrate", "e1", "");
    answered(4, "only a running VM can be migrated");
    op_at(1, "vm start", "e1", "n2");
    answered(4, "n2 is in maintenance");
}
END_TEST

START_TEST(bad_values_name_the_range)
{
    run_at(1, "e1", "");
    op_at(1, "vm migrate", "e1", "downtime=5ms\n");
    answered(2, "--downtime: 5ms will not do; would do: from 21ms to 1m (default 300ms)");
    op_at(1, "vm migrate", "e1", "rate=1B\n");
    answered(2, "64KiB per second or more (default: no limit)");
    op_at(1, "vm migrate", "e1", "max-slowdown=91\n");
    answered(2, "percent from 0 to 90 (default 0)");
}
END_TEST

START_TEST(against_anti_affinity_by_force_only)
{
    run_at(1, "e1", "ha: {anti_affinity: [e2]}\n");
    run_at(2, "e2", "");
    op_at(1, "vm migrate", "e1", "node=n2\n");
    answered(4, "n2 has e2, with which it must not share a node (anti_affinity); all the "
                "same: --force");
    stop("e2");
    op_at(1, "vm start", "e2", "n1");
    answered(4, "n1 has e1");
    op_at(1, "vm start", "e2", "n2");
    answered(0, "");
    reports(2, "e2", HA_OUTCOME_RUNNING, named("e2")->epoch + 1, "");
    op_at(1, "vm migrate", "e1", "node=n2\nforce=true\n");
    answered(0, "migrating from n1 to n2");
}
END_TEST

/* Where it failed, one that it must not meet has come meanwhile. */
START_TEST(a_restart_in_place_looks_who_is_there)
{
    run_at(1, "e1", "ha: {anti_affinity: [e2]}\n");
    run_at(2, "e2", "");
    op_at(1, "vm migrate", "e2", "node=n1\nforce=true\n");
    reports(1, "e2", HA_OUTCOME_RUNNING, named("e2")->epoch + 1, "");
    ck_assert_uint_eq(named("e2")->owner, 1);
    reports(1, "e1", HA_OUTCOME_ENDED, named("e1")->epoch, "killed");
    ck_assert_int_eq(named("e1")->state, HA_VM_STARTING);
    ck_assert_uint_ne(named("e1")->owner, 1);
}
END_TEST

/* Maintenance
 * ---------------------------------------------------------------------------------- */

START_TEST(a_drain_that_cannot_go_on_says_why)
{
    char why[REASON_LEN_MAX + 1], text[REASON_LEN_MAX * 2];
    struct ha_drain_left left;

    run_at(1, "e1", "");
    ck_assert(!stuck("e1", why));
    maintenance(2, "on");
    maintenance(3, "on");
    maintenance(1, "on");
    ck_assert(stuck("e1", why));
    ck_assert_str_eq(why, "no other node takes it: n2 is in maintenance; n3 is in "
                          "maintenance");
    ha_drain_problem(&sim[1].agent.state, named("e1"), why, text, sizeof text);
    ck_assert_ptr_nonnull(strstr(text, "e1 cannot leave n1"));
    ck_assert_ptr_nonnull(strstr(text, "gemel vm stop e1"));
    ha_drain_leaving(&sim[1].agent.state, 1, &left);
    ck_assert_uint_eq(left.count, 1);
    ck_assert_str_eq(left.names, "e1");
    maintenance(1, "off");
    ck_assert(!stuck("e1", why));
    ck_assert_ptr_null(strstr(named("e1")->reason, "cannot leave"));
    ck_assert_ptr_nonnull(strstr(named("e1")->reason, "the maintenance of n1 is over"));
}
END_TEST

START_TEST(a_dry_run_of_a_drain_says_who_goes_where)
{
    run_at(1, "e1", "ha: {anti_affinity: [e3, e4]}\n");
    run_at(1, "e2", "");
    run_at(2, "e3", "");
    run_at(3, "e4", "");
    dry_run("node maintenance", "n1", "on");
    answered(0, "its VMs leave: e1 cannot: n2 has e3");
    answered(0, "; e2 to n");
    ck_assert(!ha_state_node(&sim[1].agent.state, 1)->maintenance);
    apply("e2", "2GiB", ""); /* it moves as it runs */
    dry_run("node maintenance", "n1", "on");
    answered(0, "; e2 to n");
}
END_TEST

/* What was said of an earlier migration of it is none of this one. */
START_TEST(progress_is_of_this_migration)
{
    struct ha_move_progress p = {.percent = 99, .round = 3};

    run_at(1, "e1", "");
    op_at(1, "vm migrate", "e1", "node=n2\n");
    ha_agent_progress(&sim[1].agent, named("e1")->uuid, &p);
    settle();
    ck_assert_ptr_nonnull(ha_agent_progress_of(&sim[3].agent, named("e1")->uuid, now_ns));
    tick_for(NSEC_PER_SEC / 10);
    reports(2, "e1", HA_OUTCOME_RUNNING, named("e1")->epoch + 1, "");
    op_at(1, "vm migrate", "e1", "node=n1\n");
    ck_assert_int_eq(named("e1")->state, HA_VM_MIGRATING);
    ck_assert_ptr_null(ha_agent_progress_of(&sim[3].agent, named("e1")->uuid, now_ns));
}
END_TEST

START_TEST(a_pending_definition_does_not_hold_up_a_drain)
{
    char why[REASON_LEN_MAX + 1], what[REASON_LEN_MAX + 1];
    uint32_t there;

    run_at(1, "e1", "");
    apply("e1", "2GiB", ""); /* more than any node here has */
    dry_run("node maintenance", "n1", "on");
    answered(0, "e1 to n");
    maintenance(1, "on");
    ck_assert_int_eq(named("e1")->state, HA_VM_MIGRATING);
    there = named("e1")->move.to;
    reports(there, "e1", HA_OUTCOME_RUNNING, named("e1")->epoch + 1, "");
    ck_assert(ha_pending(named("e1"), what, sizeof what));
    ck_assert_uint_eq(named("e1")->home, 1);
    maintenance(1, "off");
    ck_assert(!stuck("e1", why));
    ck_assert_uint_eq(named("e1")->move.to, 1);
    reports(1, "e1", HA_OUTCOME_RUNNING, named("e1")->epoch + 1, "");
    ck_assert_uint_eq(named("e1")->owner, 1);
    ck_assert_str_eq(what, "memory: 32MiB -> 2GiB");
    ck_assert(ha_pending(named("e1"), what, sizeof what));
}
END_TEST

START_TEST(a_move_that_fails_says_so_and_the_return_is_counted)
{
    char why[REASON_LEN_MAX + 1];
    struct ha_drain_left left;
    uint32_t there;

    run_at(1, "e1", "");
    maintenance(1, "on");
    ck_assert_int_eq(named("e1")->state, HA_VM_MIGRATING);
    reports(1, "e1", HA_OUTCOME_RUNNING, named("e1")->epoch, "not migrated: no memory");
    ck_assert(stuck("e1", why));
    ck_assert_str_eq(why, "its last try: not migrated: no memory");
    tick_for(2 * HA_MOVE_RETRY_NS);
    ck_assert_int_eq(named("e1")->state, HA_VM_MIGRATING);
    there = named("e1")->move.to;
    reports(there, "e1", HA_OUTCOME_RUNNING, named("e1")->epoch + 1, "");
    ha_drain_leaving(&sim[1].agent.state, 1, &left);
    ck_assert_uint_eq(left.count, 0);
    ha_drain_returning(&sim[1].agent.state, 1, &left);
    ck_assert_uint_eq(left.count, 1);
    maintenance(1, "off");
    ha_drain_returning(&sim[1].agent.state, 1, &left);
    ck_assert_uint_eq(left.count, 1); /* on its way */
    ck_assert_uint_eq(named("e1")->move.to, 1);
    reports(1, "e1", HA_OUTCOME_RUNNING, named("e1")->epoch + 1, "");
    ha_drain_returning(&sim[1].agent.state, 1, &left);
    ck_assert_uint_eq(left.count, 0);
}
END_TEST

START_TEST(home_that_cannot_take_it_says_why)
{
    char why[REASON_LEN_MAX + 1];
    uint32_t there;

    run_at(1, "e1", "ha: {anti_affinity: [e2]}\n");
    maintenance(1, "on");
    there = named("e1")->move.to;
    reports(there, "e1", HA_OUTCOME_RUNNING, named("e1")->epoch + 1, "");
    maintenance(1, "off");
    reports(there, "e1", HA_OUTCOME_RUNNING, named("e1")->epoch, "not migrated: no");
    run_at(1, "e2", "");
    ck_assert(stuck("e1", why));
    ck_assert_ptr_nonnull(strstr(why, "n1 has e2, with which it must not share a node"));
}
END_TEST

START_TEST(what_it_was_is_read_back)
{
    struct ha_moved m;

    ck_assert(
        ha_moved_read("migrated from n1 to n2: 16 MiB in 3 rounds and 211 ms, memory "
                      "compared; stood still for about 22 ms",
                      &m));
    ck_assert_str_eq(m.from, "n1");
    ck_assert_str_eq(m.to, "n2");
    ck_assert_uint_eq(m.bytes, 16u << 20);
    ck_assert_uint_eq(m.rounds, 3);
    ck_assert_uint_eq(m.total_ms, 211);
    ck_assert_uint_eq(m.downtime_ms, 22);
    ck_assert(m.verified);
    ck_assert(
        ha_moved_read("migrated from a to b: 0 MiB in 1 rounds and 9 ms; stood still "
                      "for about 1 ms",
                      &m));
    ck_assert(!m.verified);
    ck_assert(!ha_moved_read("migrated from n1 to n2", &m));
    ck_assert(!ha_moved_read("not migrated: out of time", &m));
    ck_assert(!ha_moved_read("migrated from n1 to n2: x MiB in 1 rounds and 9 ms", &m));
    ck_assert(
        !ha_moved_read("migrated from n1 to n2: 1 MiB in 1 rounds and 9 ms; stood", &m));
    ck_assert(!ha_moved_read("", &m));
}
END_TEST

START_TEST(how_far_it_is)
{
    struct ha_move_progress p = {
        .percent = 42, .round = 1, .bps = 310u << 20, .eta_ms = 3100};
    char text[256];

    run_at(1, "e1", "");
    op_at(1, "vm migrate", "e1", "node=n2\n");
    ha_moving_text(&sim[1].agent.state, named("e1"), NULL, text, sizeof text);
    ck_assert_str_eq(text, "n1 -> n2");
    ha_moving_text(&sim[1].agent.state, named("e1"), &p, text, sizeof text);
    ck_assert_str_eq(text, "n1 -> n2, round 1, 310 MiB/s, about 4 s left");
    p.round = 2;
    p.dirty_bps = 700 << 10;
    p.throttle = 250;
    p.eta_ms = UINT64_MAX;
    ha_moving_text(&sim[1].agent.state, named("e1"), &p, text, sizeof text);
    ck_assert_str_eq(text, "n1 -> n2, round 2, 310 MiB/s, dirty 700 KiB/s, vCPUs held "
                           "back 25 %, does not converge yet");
    p = (struct ha_move_progress){.round = 1, .eta_ms = UINT64_MAX}; /* first words */
    ha_moving_text(&sim[1].agent.state, named("e1"), &p, text, sizeof text);
    ck_assert_str_eq(text, "n1 -> n2, round 1");
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("ha_tell");
    TCase *tc = tcase_create("tell");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, a_changed_definition_is_pending_until_it_is_taken_back);
    tcase_add_test(tc, what_is_no_machine_holds_at_once);
    tcase_add_test(tc, a_start_takes_the_definition);
    tcase_add_test(tc, the_machine_that_runs_goes_on);
    tcase_add_test(tc, what_is_pending_moves_along);
    tcase_add_test(tc, what_runs_is_on_record);
    tcase_add_test(tc, a_migrating_vm_says_how_to_give_it_up);
    tcase_add_test(tc, a_node_that_cannot_says_why);
    tcase_add_test(tc, bad_values_name_the_range);
    tcase_add_test(tc, against_anti_affinity_by_force_only);
    tcase_add_test(tc, a_restart_in_place_looks_who_is_there);
    tcase_add_test(tc, a_drain_that_cannot_go_on_says_why);
    tcase_add_test(tc, a_dry_run_of_a_drain_says_who_goes_where);
    tcase_add_test(tc, progress_is_of_this_migration);
    tcase_add_test(tc, a_pending_definition_does_not_hold_up_a_drain);
    tcase_add_test(tc, a_move_that_fails_says_so_and_the_return_is_counted);
    tcase_add_test(tc, home_that_cannot_take_it_says_why);
    tcase_add_test(tc, what_it_was_is_read_back);
    tcase_add_test(tc, how_far_it_is);
    suite_add_tcase(s, tc);
    return s;
}

UNIT_MAIN(suite)
