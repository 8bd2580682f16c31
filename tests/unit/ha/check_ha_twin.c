/* SPDX-License-Identifier: Apache-2.0 */
/* A protected VM as the coordinator sees it: what both sides report, and what is made of
 * it when one of them, or both, are lost. */
#include "ha/ha_pending.h"
#include "ha/ha_twinplace.h"
#include "tests/unit/ha/twin_sim.h"

/* One disk of its own on each node, one that both reach, one whose server keeps old
 * owners away. */
static const char shared_yaml[] =
    "name: web1\nmemory: 32MiB\nmachine: lockstep\nboot: {firmware: /x.rom}\n"
    "disks: [{path: /l/x.img, mirrored: true}, {path: y.img}, "
    "{path: 'nbd://10.0.0.9/z', exclusion: epoch}]\n";
static const char guarded_yaml[] =
    "name: web1\nmemory: 32MiB\nmachine: lockstep\nboot: {firmware: /x.rom}\n"
    "disks: [{path: /l/x.img, mirrored: true}, "
    "{path: 'nbd://10.0.0.9/z', exclusion: epoch}]\n";
static const char qcow2_yaml[] =
    "name: web1\nmemory: 32MiB\nmachine: lockstep\nboot: {firmware: /x.rom}\n"
    "disks: [{path: /l/x.img, mirrored: true}, {path: y.img, format: qcow2}]\n";

START_TEST(what_cannot_be_is_refused)
{
    runs(qcow2_yaml);
    refused("vm protect", "", "a disk of it is qcow2");
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

/* Its two nodes are asked what only they can see; nothing else is. */
START_TEST(a_dry_run_asks_both_nodes)
{
    struct ha_op op = {.uid = sim_uuid(NULL),
                       .verb = "vm protect",
                       .object = "web1",
                       .actor = "test",
                       .flags = HA_OP_DRY_RUN,
                       .body = "node=n2\n",
                       .body_len = 8};
    struct ha_twin_look answer;

    runs(ft_yaml);
    ha_agent_op(&sim[3].agent, &op, now_ns);
    settle();
    ck_assert_uint_eq(sim[3].result.exit_code, 0);
    ck_assert_uint_eq(vm_at(3)->twin.to, 0);
    for (uint32_t node = 1; node <= NODES; node++) {
        ck_assert_uint_eq(sim[node].looks, 1);
        ck_assert_uint_eq(sim[node].look.to, 2);
        ck_assert_int_eq(sim[node].look.step, HA_TWIN_LOOK_ASK);
        ck_assert(uuid_equal(sim[node].look.op, op.uid));
        ck_assert(uuid_equal(sim[node].look.vm, vm_at(3)->uuid));
    }
    answer = sim[2].look;
    answer.step = HA_TWIN_LOOK_FOUND;
    strcpy(answer.text, "no room");
    ha_agent_twin_look(&sim[2].agent, &answer);
    settle();
    ck_assert_uint_eq(sim[3].looks, 2);
    ck_assert_str_eq(sim[3].look.text, "no room");
    op_at(3, "vm protect", "web1", "node=n2\n");
    op.body = "node=n1\n"; /* refused already */
    ha_agent_op(&sim[3].agent, &op, now_ns);
    settle();
    ck_assert_uint_eq(sim[3].looks, 2);
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
    op_at(third, "vm protect", "web1", "node=n2\ncommit=received\nmode=lockstep\n");
    ck_assert_uint_eq(sim[third].result.exit_code, 0);
    refused("vm protect", "node=n3\n", "its twin on n2; for one on another node");
    refused("vm protect", "commit=verified\n", "its outputs leave by another rule");
    refused("vm protect", "mode=checkpoint\n", "in lockstep already");
}
END_TEST

START_TEST(the_twin_goes_live)
{
    unsigned before;

    protect();
    ck_assert_uint_eq(ha_twin_lives_here(&sim[twin].agent, vm_at(twin)), 0);
    local_at(twin, HA_LOCAL_STARTING, 3, false);
    ck_assert_uint_eq(ha_twin_lives_here(&sim[twin].agent, vm_at(twin)), 0);
    local_at(twin, HA_LOCAL_RUNNING, 3, false); /* nobody else knows it yet */
    ck_assert_uint_eq(ha_twin_lives_here(&sim[twin].agent, vm_at(twin)), 3);
    ck_assert_uint_eq(ha_twin_lives_here(&sim[primary].agent, vm_at(primary)), 0);
    ck_assert_uint_eq(ha_twin_lives_here(&sim[third].agent, vm_at(third)), 0);
    before = starts();
    goes_live(); /* before the ring has noticed anything */
    ck_assert_uint_eq(ha_twin_lives_here(&sim[twin].agent, vm_at(twin)), 0);
    view_without(8, primary);
    ck_assert_uint_eq(vm_at(third)->owner, twin);
    ck_assert_int_eq(vm_at(third)->state, HA_VM_RUNNING);
    ck_assert_uint_eq(starts(), before);
    ck_assert_uint_eq(fences(), 0);
}
END_TEST

/* Its writes wait for the proof that its old node is off: for that it is fenced. */
START_TEST(shared_disks_are_held)
{
    struct uuid owner_instance = {{0}};

    protect_as(shared_yaml);
    goes_live();
    owner_instance = vm_at(third)->instance;
    ck_assert(ha_vm_holds(vm_at(third)));
    ck_assert_uint_eq(vm_at(third)->held.node, primary);
    ck_assert_uint_eq(fences(), 0); /* its agent answers: it says what is there */
    refused("vm protect", "", "its writes are held");
    refused("vm migrate", "node=n3\n", "its writes are held");
    refused("vm suspend", "", "its writes are held");
    refused("vm stop", "", "to lose what is held: gemel vm kill web1");
    ck_assert_int_eq(vm_at(third)->desired, HA_DESIRED_RUNNING);
    view_without(8, primary);
    ck_assert_uint_eq(fences(), 1);
    tell(third, HA_OUTCOME_EXCLUDED, 3, ""); /* not its owner */
    ck_assert(ha_vm_holds(vm_at(third)));
    twin_instance = sim_uuid(NULL); /* not its instance */
    tell(twin, HA_OUTCOME_EXCLUDED, 3, "");
    ck_assert(ha_vm_holds(vm_at(third)));
    twin_instance = owner_instance;
    tell(twin, HA_OUTCOME_EXCLUDED, 3, "its old host writes no more");
    ck_assert(!ha_vm_holds(vm_at(third)));
    ck_assert_uint_eq(vm_at(third)->held.node, 0);
    ck_assert(strstr(vm_at(third)->reason, "held no more") != NULL);
}
END_TEST

static void holds(uint32_t from, uint32_t node)
{
    const struct ha_node *old = ha_state_node(&sim[third].agent.state, node);
    struct ha_vm_report r = {.vm = vm_at(third)->uuid,
                             .instance = twin_instance,
                             .outcome = HA_OUTCOME_HOLDS,
                             .epoch = 3,
                             .held = {.node_id = node}};

    r.held.inc = old != NULL ? old->incarnation : (struct incarnation){.join = 1};
    ha_agent_vm_report(&sim[from].agent, &r, now_ns);
    settle();
}

/* Its go-live took so long that the record had given its twin up. */
START_TEST(its_vmm_says_that_it_holds)
{
    protect_as(shared_yaml);
    tell(primary, HA_OUTCOME_ENDED, 2, "killed by signal 9");
    pass(HA_TWIN_WAIT_NS + NSEC_PER_SEC);
    ck_assert_int_eq(vm_at(third)->state, HA_VM_STARTING);
    ck_assert_uint_eq(vm_at(third)->twin.to, 0);
    tell(twin, HA_OUTCOME_RUNNING, 3, "");
    ck_assert_uint_eq(vm_at(third)->owner, twin);
    ck_assert(!ha_vm_holds(vm_at(third)));
    holds(third, primary); /* not its owner */
    holds(twin, 9);        /* no such node */
    ck_assert(!ha_vm_holds(vm_at(third)));
    holds(twin, primary);
    ck_assert(ha_vm_holds(vm_at(third)));
    ck_assert_uint_eq(vm_at(third)->held.node, primary);
    ck_assert(strstr(vm_at(third)->reason, "n1 may still write") != NULL);
    ck_assert_uint_eq(fences(), 0);
    view_without(8, primary);
    ck_assert_uint_eq(fences(), 1);
    tell(twin, HA_OUTCOME_EXCLUDED, 3, "");
    ck_assert_uint_eq(vm_at(third)->held.node, 0);
}
END_TEST

/* What it runs as counts, not what is defined since. */
START_TEST(a_definition_that_was_changed)
{
    protect_as(shared_yaml);
    op_at(third, "vm apply", "web1", guarded_yaml);
    ck_assert_uint_eq(sim[third].result.exit_code, 0);
    goes_live();
    ck_assert(ha_vm_holds(vm_at(third)));
}
END_TEST

/* Its old host's agent was away when the record said it: it is told with the state. */
START_TEST(an_agent_that_was_away_hears_of_it)
{
    unsigned before;

    protect_as(shared_yaml);
    view_without(8, primary);
    goes_live();
    ck_assert(ha_vm_holds(vm_at(third)));
    local_at(primary, HA_LOCAL_RUNNING, 2, true); /* its process ended meanwhile */
    before = sim[primary].twins;
    form(9, 3, all);
    settle();
    ck_assert_uint_gt(sim[primary].twins, before);
}
END_TEST

/* Held writes are gone with who held them; the disks are as before, for anybody, as soon
 * as the first host is off. */
START_TEST(it_dies_while_it_holds)
{
    struct ha_fence_report off = {.target = 1, .result = HA_FENCE_OK};
    struct ha_vm_report running = {.outcome = HA_OUTCOME_RUNNING, .epoch = 4};
    unsigned before;

    protect_as(shared_yaml);
    view_without(8, primary);
    goes_live();
    before = starts();
    tell(twin, HA_OUTCOME_ENDED, 3, "killed by signal 9");
    pass(60 * NSEC_PER_SEC);
    ck_assert_uint_eq(vm_at(third)->held.node, primary);
    ck_assert_uint_eq(fences(), 1);
    ck_assert_uint_eq(starts(), before); /* it would only fail */
    off.incarnation = vm_at(third)->held.incarnation;
    off.uid = ha_state_node(&sim[third].agent.state, primary)->fence_uid;
    ha_agent_fence_report(&sim[twin].agent, &off, now_ns);
    settle();
    ck_assert_int_eq(vm_at(third)->state, HA_VM_STARTING);
    ck_assert_uint_gt(starts(), before);
    running.vm = vm_at(third)->uuid;
    running.attempt = vm_at(third)->attempt;
    running.instance = sim_uuid(NULL);
    ha_agent_vm_report(&sim[vm_at(third)->owner].agent, &running, now_ns);
    settle();
    ck_assert_int_eq(vm_at(third)->state, HA_VM_RUNNING);
    ck_assert_uint_eq(vm_at(third)->held.node, 0);
}
END_TEST

/* The same, and its first host is there: its word ends it. */
START_TEST(it_dies_and_the_old_host_speaks)
{
    struct ha_vm_report r = {.outcome = HA_OUTCOME_EXCLUDED};

    protect_as(shared_yaml);
    goes_live();
    r.vm = vm_at(third)->uuid;
    r.instance = twin_instance;
    ha_agent_vm_report(&sim[primary].agent, &r, now_ns);
    settle();
    ck_assert(ha_vm_holds(vm_at(third))); /* its owner says when */
    tell(twin, HA_OUTCOME_ENDED, 3, "killed by signal 9");
    ck_assert_uint_eq(vm_at(third)->held.node, primary);
    ha_agent_vm_report(&sim[third].agent, &r, now_ns); /* not its old host */
    settle();
    ck_assert_uint_eq(vm_at(third)->held.node, primary);
    ha_agent_vm_report(&sim[primary].agent, &r, now_ns);
    settle();
    ck_assert_uint_eq(vm_at(third)->held.node, 0);
}
END_TEST

START_TEST(guarded_disks_are_not)
{
    protect_as(guarded_yaml);
    goes_live();
    ck_assert(!ha_vm_holds(vm_at(third)));
    view_without(8, primary);
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

/* It found its twin's claim, and is over; its twin died before it could say that it
 * runs. Nobody else has a claim before that node is dead. */
START_TEST(its_twin_has_the_claim_and_dies)
{
    unsigned before;

    protect();
    before = starts();
    view_without(8, twin);
    ck_assert_uint_eq(fences(), 0);
    tell(primary, HA_OUTCOME_ENDED, 2, "its twin has the VM: claim 3 is another's");
    ck_assert_int_eq(vm_at(third)->state, HA_VM_UNKNOWN);
    pass(NSEC_PER_SEC);
    ck_assert_uint_eq(fences(), 1);
    pass(HA_TWIN_WAIT_NS + NSEC_PER_SEC);
    ck_assert_int_eq(vm_at(third)->state, HA_VM_UNKNOWN);
    ck_assert_uint_eq(starts(), before);
    op_at(third, "node confirm-off", "n2", "");
    pass(NSEC_PER_SEC);
    ck_assert_int_eq(vm_at(third)->state, HA_VM_STARTING);
    ck_assert_uint_eq(starts(), before + 1);
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

/* Whoever is quicker: why it is gone is what its own node knows. */
START_TEST(its_twin_is_killed)
{
    static const char signal[] = "gemel-vmm was killed by signal 9";
    struct uuid before;

    protect();
    tell(twin, HA_OUTCOME_TWIN_OFF, 0, signal);
    ck_assert_uint_eq(vm_at(third)->twin.to, 0);
    ck_assert_str_eq(vm_at(third)->reason,
                     "its twin is lost: n2: gemel-vmm was killed by signal 9");
    tell(primary, HA_OUTCOME_TWIN_OFF, 3, "its stream is broken");
    ck_assert_uint_eq(vm_at(third)->epoch, 3);
    ck_assert_uint_eq(vm_at(third)->mirror[1], 0);
    ck_assert(strstr(vm_at(third)->reason, signal) != NULL);

    op_at(third, "vm protect", "web1", "node=n2\n");
    syncs();
    tell(twin, HA_OUTCOME_TWIN_FOLLOWS, 0, "");
    tell(primary, HA_OUTCOME_TWIN_ON, 4, "");
    tell(primary, HA_OUTCOME_TWIN_OFF, 5, "its stream is broken");
    ck_assert(strstr(vm_at(third)->reason, "stream is broken") != NULL);
    before = id;
    id = sim_uuid(NULL); /* of another protection */
    tell(twin, HA_OUTCOME_TWIN_OFF, 0, signal);
    id = before;
    tell(twin, HA_OUTCOME_START_FAILED, 0, "not wanted any more");
    ck_assert(strstr(vm_at(third)->reason, "stream is broken") != NULL);
    tell(twin, HA_OUTCOME_TWIN_OFF, 0, signal);
    ck_assert_str_eq(vm_at(third)->reason, "goes on without its twin: n2: gemel-vmm was "
                                           "killed by signal 9");
    ck_assert_str_eq(vm_at(third)->last, vm_at(third)->reason);
    ck_assert_int_eq(vm_at(third)->state, HA_VM_RUNNING);
    ck_assert_uint_eq(vm_at(third)->epoch, 5);
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
    ck_assert(strstr(vm_at(third)->last, "without a twin from now on: gemel vm protect "
                                         "web1") != NULL);
}
END_TEST

/* `ft:` that is applied while it has a twin waits for the next one, and that is told. */
START_TEST(ft_waits_for_the_next_twin)
{
    static const char off_yaml[] =
        "name: web1\nmemory: 32MiB\nmachine: lockstep\nboot: {firmware: /x.rom}\n"
        "disks: [{path: /l/x.img, mirrored: true}]\nft: {mode: 'off'}\n";
    static const char fast_yaml[] =
        "name: web1\nmemory: 32MiB\nmachine: lockstep\nboot: {firmware: /x.rom}\n"
        "disks: [{path: /l/x.img, mirrored: true}]\n"
        "ft: {mode: auto, on: [n3], suspect: 20ms}\n";
    uint8_t buf[HA_ITEM_MAX];
    struct ha_state copy;
    char text[512];
    size_t len;

    runs(auto_yaml);
    pass(5 * NSEC_PER_SEC);
    twin = 3;
    third = 2;
    syncs();
    follows();
    ck_assert(!ha_pending_ft(vm_at(1), vm_at(1)->conf, text, sizeof text));
    op_at(1, "vm apply", "web1", fast_yaml);
    ck_assert_msg(strstr(sim[1].result.text, "ft.suspect: 60ms -> 20ms: holds from its "
                                             "next twin on; to have that now: gemel vm "
                                             "unprotect web1, then gemel vm protect "
                                             "web1") != NULL,
                  "%s", sim[1].result.text);
    ck_assert(ha_pending_ft(vm_at(3), vm_at(3)->conf, text, sizeof text));
    op_at(third, "vm protect", "web1", "");
    ck_assert(strstr(sim[third].result.text, "is protected already") != NULL);
    ck_assert(strstr(sim[third].result.text, "holds from its next twin on") != NULL);

    /* It is kept in the record as it was when the twin was made. */
    op_at(1, "vm apply", "web1", off_yaml);
    ck_assert(strstr(sim[1].result.text, "ft.mode: auto -> off") != NULL);
    ck_assert(strstr(sim[1].result.text, "stays until gemel vm unprotect web1") != NULL);
    ha_state_init(&copy, &mem);
    len = ha_item_put_vm(vm_at(1), buf, sizeof buf);
    ck_assert_uint_gt(len, 0);
    ck_assert_int_eq(ha_state_apply(&copy, HA_ITEM_VM, buf, len, 1, now_ns), 0);
    ck_assert(ha_pending_ft(copy.vm[0], copy.vm[0]->conf, text, sizeof text));
    ck_assert_mem_eq(&copy.vm[0]->twin.ft, &vm_at(1)->twin.ft,
                     sizeof copy.vm[0]->twin.ft);
    buf[len - 5] = 9; /* more nodes than there can be: before "n3" and its length */
    ck_assert_int_lt(ha_state_apply(&copy, HA_ITEM_VM, buf, len, 2, now_ns), 0);
    ha_state_clear(&copy);

    op_at(1, "vm apply", "web1", auto_yaml); /* as its twin was made */
    ck_assert(strstr(sim[1].result.text, "next twin") == NULL);
    ck_assert(!vm_at(1)->twin.ft.kept);

    op_at(1, "vm apply", "web1", fast_yaml);
    ck_assert(vm_at(1)->twin.ft.kept);
    goes_live(); /* that is over */
    ck_assert(!ha_pending_ft(vm_at(1), vm_at(1)->conf, text, sizeof text));
    ck_assert(strstr(vm_at(1)->reason, "until the next one follows") != NULL);
}
END_TEST

/* ft: of the definition. */
START_TEST(by_its_definition)
{
    runs(auto_yaml);
    ck_assert_uint_eq(vm_at(1)->twin.to, 0); /* not while a ring may be forming */
    pass(5 * NSEC_PER_SEC);
    ck_assert_uint_eq(vm_at(1)->twin.to, 3); /* on: [n3] */
    twin = 3;
    third = 2;
    syncs();
    follows();
    goes_live();
    ck_assert_uint_eq(vm_at(1)->twin.to, 0);
    pass(5 * NSEC_PER_SEC);
    ck_assert_uint_ne(vm_at(1)->twin.to, 3);
    ck_assert_uint_ne(vm_at(1)->twin.to, 0); /* another one */
}
END_TEST

START_TEST(tried_again_less_and_less_often)
{
    runs(auto_yaml);
    pass(5 * NSEC_PER_SEC);
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

static void dies(struct ha_state *state, uint8_t life)
{
    struct proof proof = {.kind = PROOF_FENCED_OFF,
                          .node_id = 1,
                          .inc = {.boot_id = {{life, 1}}, .join = 1}};
    static uint8_t buf[HA_ITEM_MAX];
    size_t len = ha_item_put_proof(&proof, NULL, buf, sizeof buf);

    ck_assert_int_eq(ha_state_apply(state, HA_ITEM_PROOF, buf, len, 1, now_ns), 0);
}

static bool dead(const struct ha_state *state, uint8_t life)
{
    struct incarnation inc = {.boot_id = {{life, 1}}, .join = 1};
    struct proof_answer answer;

    return proof_is_dead(&state->proofs, 1, &inc, &answer);
}

/* Claims name earlier owners, and wait for their proofs, however often that node was
 * rebooted since. When there is no room, what a record names stays. */
START_TEST(proofs_stay)
{
    static uint8_t buf[HA_ITEM_MAX];
    static struct ha_state state;
    struct ha_vm vm = {.name = "a",
                       .state = HA_VM_RUNNING,
                       .desired = HA_DESIRED_RUNNING,
                       .uuid = {{1}}};
    size_t len;

    vm.held = (struct ha_held){1, {.boot_id = {{1, 1}}, .join = 1}, {{1}}};
    ha_state_init(&state, &mem);
    len = ha_item_put_vm(&vm, buf, sizeof buf);
    ck_assert_int_eq(ha_state_apply(&state, HA_ITEM_VM, buf, len, 1, now_ns), 0);
    for (unsigned life = 1; life <= 200; life++) {
        dies(&state, (uint8_t)life);
    }
    for (unsigned life = 1; life <= 200; life++) {
        ck_assert(dead(&state, (uint8_t)life));
    }
    state.proofs.cap = 200; /* no room */
    dies(&state, 201);
    dies(&state, 202);
    ck_assert(dead(&state, 201) && dead(&state, 202));
    ck_assert(dead(&state, 1)); /* its record names it */
    ck_assert(!dead(&state, 2) && !dead(&state, 3) && dead(&state, 4));
    ha_state_clear(&state);
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
    vm->held = (struct ha_held){
        .node = 2, .incarnation = vm->owner_incarnation, .instance = sim_uuid(NULL)};
    len = ha_item_put_vm(vm, buf, sizeof buf);
    ha_state_init(&state, &mem);
    ck_assert_int_eq(ha_state_apply(&state, HA_ITEM_VM, buf, len, 1, now_ns), 0);
    ck_assert_mem_eq(&state.vm[0]->twin, &vm->twin, sizeof vm->twin);
    ck_assert_mem_eq(&state.vm[0]->held, &vm->held, sizeof vm->held);
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
    tcase_add_test(tc, a_dry_run_asks_both_nodes);
    tcase_add_test(tc, protected_it_stays_where_it_is);
    tcase_add_test(tc, the_twin_goes_live);
    tcase_add_test(tc, shared_disks_are_held);
    tcase_add_test(tc, its_vmm_says_that_it_holds);
    tcase_add_test(tc, a_definition_that_was_changed);
    tcase_add_test(tc, an_agent_that_was_away_hears_of_it);
    tcase_add_test(tc, it_dies_while_it_holds);
    tcase_add_test(tc, it_dies_and_the_old_host_speaks);
    tcase_add_test(tc, guarded_disks_are_not);
    tcase_add_test(tc, the_twin_went_live_unheard);
    tcase_add_test(tc, a_twin_that_does_not_come);
    tcase_add_test(tc, both_are_lost);
    tcase_add_test(tc, its_process_is_killed);
    tcase_add_test(tc, its_process_is_killed_and_no_twin_comes);
    tcase_add_test(tc, its_twin_has_the_claim_and_dies);
    tcase_add_test(tc, it_goes_on_alone);
    tcase_add_test(tc, its_twin_is_killed);
    tcase_add_test(tc, a_sync_that_fails_changes_nothing);
    tcase_add_test(tc, unprotected);
    tcase_add_test(tc, switched_over);
    tcase_add_test(tc, ft_waits_for_the_next_twin);
    tcase_add_test(tc, by_its_definition);
    tcase_add_test(tc, tried_again_less_and_less_often);
    tcase_add_test(tc, maintenance);
    tcase_add_test(tc, its_disks_decide_where);
    tcase_add_test(tc, proofs_stay);
    tcase_add_test(tc, kept);
    suite_add_tcase(s, tc);
    return s;
}

UNIT_MAIN(suite)
