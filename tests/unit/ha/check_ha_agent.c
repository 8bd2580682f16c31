/* SPDX-License-Identifier: Apache-2.0 */
/* Views, terms, records and decisions of whole agent cores (ha_sim.h). */
#include "tests/unit/ha/ha_sim.h"

START_TEST(three_agents_agree)
{
    run_web1();
    ck_assert_uint_eq(sim[1].agent.state.version, sim[3].agent.state.version);
    expect_equal_states();
}
END_TEST

/* The nodes say what processor they have in each view, so every coordinator knows. */
START_TEST(a_cpu_model_chooses_the_node)
{
    char yaml[1024];

    snprintf(yaml, sizeof yaml, "%s", cluster_yaml);
    snprintf(strstr(yaml, "storage:"), 512,
             "  cpu_models: [{name: rich, model: \"vendor=X features=fpu,avx2\"}]\n"
             "storage:\n  type: local-lab\n  settle: 0ms\n");
    op_at(1, "cluster apply", "", yaml);
    ck_assert_msg(sim[1].result.exit_code == 0, "%s", sim[1].result.text);
    op_at(2, "vm apply", "",
          "name: web1\nmemory: 32MiB\nmachine: standard\ncpu: rich\n"
          "boot: {firmware: /x.rom}\n");
    op_at(1, "vm start", "web1", "");
    ck_assert_uint_eq(vm_at(1)->owner, 3);
    /* Without that node, and with another coordinator: nobody. */
    op_at(2, "vm apply", "",
          "name: web2\nmemory: 32MiB\nmachine: standard\ncpu: rich\n"
          "boot: {firmware: /x.rom}\n");
    form(8, 2, all);
    settle();
    op_at(2, "vm start", "web2", "");
    ck_assert_int_eq(ha_state_vm_by_name(&sim[2].agent.state, "web2")->state,
                     HA_VM_STOPPED);
    ck_assert_ptr_nonnull(
        strstr(ha_state_vm_by_name(&sim[2].agent.state, "web2")->reason,
               "CPU model rich: n1 lacks avx2; n2 has not told its CPU model"));
}
END_TEST

/* What no node will ever run is refused at once; one that has not told its processor
 * might. */
START_TEST(a_start_that_could_never_be_is_refused)
{
    static const char yaml[] = "name: web1\nmemory: %s\nmachine: standard\ncpu: %s\n"
                               "boot: {firmware: /x.rom}\n";
    struct cpu_model host;
    char text[512];

    snprintf(text, sizeof text, yaml, "32MiB", "nosuch");
    op_at(2, "vm apply", "", text); /* its agent does not check: here only the start */
    op_at(3, "vm start", "web1", "");
    ck_assert_uint_eq(sim[3].result.exit_code, 4);
    ck_assert_str_eq(sim[3].result.text, "web1: CPU model nosuch is not in the cluster "
                                         "definition (cpu_models)");
    ck_assert_int_eq(vm_at(1)->desired, HA_DESIRED_STOPPED);
    snprintf(text, sizeof text, yaml, "2GiB", "host");
    op_at(2, "vm apply", "", text);
    op_at(3, "vm start", "web1", "");
    ck_assert_uint_eq(sim[3].result.exit_code, 4);
    ck_assert_str_eq(sim[3].result.text,
                     "web1: no node can take it: n1 has only 1024 MiB for VMs; n2 has "
                     "only 1024 MiB for VMs; n3 has only 1024 MiB for VMs");
    snprintf(text, sizeof text, "%s", cluster_yaml);
    snprintf(strstr(text, "storage:"), 200,
             "  cpu_models: [{name: rich, model: \"vendor=X features=fpu,avx512f\"}]\n"
             "storage:\n  type: local-lab\n  settle: 0ms\n");
    op_at(1, "cluster apply", "", text);
    ck_assert_msg(sim[1].result.exit_code == 0, "%s", sim[1].result.text);
    snprintf(text, sizeof text, yaml, "32MiB", "rich");
    op_at(2, "vm apply", "", text);
    host = *ha_cpus_get(&sim[1].agent.cpus, 1);
    ha_cpus_put(&sim[1].agent.cpus, 2, &host);
    op_at(3, "vm start", "web1", "");
    ck_assert_uint_eq(sim[3].result.exit_code, 4);
    ck_assert_str_eq(sim[3].result.text,
                     "web1: no node can take it: CPU model rich: n1 lacks avx512f; n2 "
                     "lacks avx512f; n3 lacks avx512f");
    ha_cpus_drop(&sim[1].agent.cpus, 2);
    op_at(3, "vm start", "web1", "");
    ck_assert_uint_eq(sim[3].result.exit_code, 0);
}
END_TEST

START_TEST(nothing_starts_before_a_proof)
{
    struct ha_fence_report off = {.result = HA_FENCE_OK};
    uint32_t survivor;

    run_web1();
    ck_assert_uint_eq(vm_at(1)->owner, 1);
    form(8, 2, rest);
    settle();
    ck_assert_int_eq(vm_at(2)->state, HA_VM_UNKNOWN);
    ck_assert_uint_eq(sim[2].fences + sim[3].fences, 1);
    ck_assert_uint_eq(sim[2].starts + sim[3].starts, 0);
    survivor = sim[2].fences != 0 ? 2 : 3;
    for (int i = 0; i < 100; i++) {
        now_ns += NSEC_PER_SEC;
        ha_agent_tick(&sim[2].agent, now_ns);
        ha_agent_tick(&sim[3].agent, now_ns);
        settle();
    }
    ck_assert_uint_eq(sim[2].starts + sim[3].starts, 0);
    off.uid = ha_state_node(&sim[2].agent.state, 1)->fence_uid;
    off.target = 1;
    off.incarnation = sim[1].agent.self.incarnation;
    ha_agent_fence_report(&sim[survivor].agent, &off, now_ns);
    settle();
    ck_assert_uint_eq(sim[2].starts + sim[3].starts, 1);
    ck_assert_int_eq(vm_at(2)->state, HA_VM_STARTING);
}
END_TEST

START_TEST(a_fence_waits_for_a_majority_of_disks)
{
    run_web1();
    sim[3].persist_held = true;
    form(8, 2, rest);
    settle();
    ck_assert_uint_eq(sim[2].fences, 0);
    sim[3].persist_held = false;
    settle();
    ck_assert_uint_eq(sim[2].fences, 1);
}
END_TEST

START_TEST(an_answer_waits_for_a_majority_of_disks)
{
    sim[2].persist_held = sim[3].persist_held = true;
    op_at(1, "vm apply", "", vm_yaml);
    ck_assert(!sim[1].have_result);
    sim[3].persist_held = false;
    settle();
    ck_assert(sim[1].have_result);
}
END_TEST

/* A node cut off alone delivers its own messages to itself, and its old ones may be
 * delivered after it is back. */
START_TEST(a_message_of_an_old_ring_changes_nothing)
{
    struct message kept[8];
    unsigned count = 0;
    uint64_t version, dropped;

    run_web1();
    /* The coordinator speaks, but the ring breaks before anybody hears it. */
    {
        struct ha_op op = {.uid = sim_uuid(NULL), .body = "", .body_len = 0};

        snprintf(op.verb, sizeof op.verb, "vm stop");
        snprintf(op.object, sizeof op.object, "web1");
        snprintf(op.actor, sizeof op.actor, "root");
        ha_agent_op(&sim[1].agent, &op, now_ns);
    }
    while (bus_head != bus_tail) {
        struct message m = bus[bus_head++ % BUS_MAX];

        ha_agent_deliver(&sim[1].agent, m.from, m.bytes, m.len, now_ns);
        ck_assert_uint_lt(count, 8);
        kept[count++] = m;
    }
    drop_bus();
    form(12, 3, all);
    settle();
    version = sim[2].agent.state.version;
    dropped = sim[2].agent.count.dropped_ring;
    for (unsigned i = 0; i < count; i++) {
        ha_agent_deliver(&sim[2].agent, 1, kept[i].bytes, kept[i].len, now_ns);
        free(kept[i].bytes);
    }
    settle();
    ck_assert_uint_gt(sim[2].agent.count.dropped_ring, dropped);
    ck_assert_uint_eq(sim[2].agent.state.version, version);
}
END_TEST

START_TEST(an_amnesiac_node_receives_the_state)
{
    run_web1();
    boot(3, 2); /* its log is gone, too */
    form(16, 3, all);
    settle();
    ck_assert_int_eq(sim[3].agent.phase, HA_PHASE_SYNCED);
    ck_assert_ptr_nonnull(vm_at(3));
    ck_assert_int_eq(vm_at(3)->state, HA_VM_RUNNING);
}
END_TEST

START_TEST(a_blank_majority_waits)
{
    run_web1();
    boot(2, 2);
    boot(3, 2);
    form(16, 3, all);
    settle();
    ck_assert_int_ne(sim[1].agent.phase, HA_PHASE_SYNCED);
    ck_assert_ptr_null(vm_at(2));
    op_at(1, "cluster recover", "", "");
    ck_assert_int_eq(sim[2].agent.phase, HA_PHASE_SYNCED);
    ck_assert_ptr_nonnull(vm_at(2));
}
END_TEST

START_TEST(no_quorum_starts_nothing)
{
    static const uint32_t alone[] = {2};

    run_web1();
    form(20, 1, alone);
    settle();
    op_at(2, "vm start", "web1", "");
    ck_assert_uint_eq(sim[2].result.exit_code, 6);
    ck_assert_uint_eq(sim[2].starts, 0);
}
END_TEST

START_TEST(a_killed_vm_is_restarted_in_place)
{
    struct ha_vm_report ended = {.outcome = HA_OUTCOME_ENDED, .epoch = 1};
    uint32_t owner;

    run_web1();
    owner = vm_at(1)->owner;
    ended.vm = vm_at(1)->uuid;
    ended.attempt = vm_at(1)->attempt;
    ended.instance = vm_at(1)->instance;
    snprintf(ended.text, sizeof ended.text, "killed");
    ha_agent_local_vm(&sim[owner].agent, &(struct ha_local_vm){.vm = ended.vm}, true);
    ha_agent_vm_report(&sim[owner].agent, &ended, now_ns);
    settle();
    ck_assert_uint_eq(sim[owner].starts, 2);
    ck_assert_uint_eq(vm_at(1)->owner, owner);
}
END_TEST

START_TEST(the_incumbent_stays_and_terms_grow)
{
    uint64_t term;

    run_web1();
    form(8, 2, rest);
    settle();
    term = sim[2].agent.state.term;
    ck_assert_uint_eq(sim[2].agent.sync.coordinator, 2);
    boot(1, 2);
    form(12, 3, all);
    settle();
    ck_assert_uint_eq(sim[1].agent.sync.coordinator, 2);
    ck_assert_uint_gt(sim[1].agent.state.term, term);
    ck_assert_int_eq(sim[1].agent.phase, HA_PHASE_SYNCED);
    /* Its reboot is the proof: the VM starts again. */
    ck_assert_int_eq(vm_at(2)->state, HA_VM_STARTING);
}
END_TEST

START_TEST(a_node_that_was_only_cut_off_keeps_its_vm)
{
    static const uint32_t alone[] = {1};

    run_web1();
    form(8, 2, rest);
    form(9, 1, alone);
    settle();
    ck_assert_int_eq(vm_at(2)->state, HA_VM_UNKNOWN);
    form(12, 3, all);
    settle();
    ck_assert_int_eq(vm_at(2)->state, HA_VM_RUNNING);
    ck_assert_uint_eq(vm_at(2)->owner, 1);
    ck_assert_uint_eq(sim[1].discards, 0);
}
END_TEST

static void form_away(uint64_t seq, uint32_t away)
{
    struct ha_view view;

    memset(&view, 0, sizeof view);
    view.agreed = view.quorate = true;
    view.ring = (struct ha_ring){1, seq};
    view.votes_needed = 2;
    for (uint32_t id = 1; id <= NODES; id++) {
        if (id == away) {
            view.away[view.away_count++] = id;
        } else {
            view.member[view.member_count++] = id;
        }
    }
    for (uint32_t id = 1; id <= NODES; id++) {
        if (id != away) {
            ha_agent_view(&sim[id].agent, &view, now_ns);
        }
    }
}

/* R8: an agent that is restarted takes nobody's VM down; one that stays away does. */
START_TEST(an_agent_may_be_away_for_a_while)
{
    run_web1();
    ck_assert_uint_eq(vm_at(2)->owner, 1);
    form_away(4, 1); /* the ring stays, only the group changes */
    settle();
    ck_assert_int_eq(sim[2].agent.phase, HA_PHASE_SYNCED);
    tick_for(5 * NSEC_PER_SEC);
    ck_assert_int_eq(vm_at(2)->state, HA_VM_RUNNING);
    ck_assert_uint_eq(sim[2].fences + sim[3].fences, 0);
    form(4, 3, all);
    settle();
    tick_for(20 * NSEC_PER_SEC);
    ck_assert_int_eq(vm_at(2)->state, HA_VM_RUNNING);
    ck_assert_uint_eq(sim[2].fences + sim[3].fences, 0);

    form_away(4, 1);
    settle();
    tick_for(11 * NSEC_PER_SEC);
    ck_assert_int_eq(vm_at(2)->state, HA_VM_UNKNOWN);
    ck_assert_uint_eq(sim[2].fences + sim[3].fences, 1);
    ck_assert_uint_eq(sim[2].starts + sim[3].starts, 0);
}
END_TEST

/* A proof was wrong (an operator's word, a lying device): the node is back, the same. */
START_TEST(a_node_held_for_dead_begins_a_new_life)
{
    static const uint32_t alone[] = {1};

    run_web1();
    form(8, 2, rest);
    form(9, 1, alone);
    settle();
    op_at(2, "node confirm-off", "n1", "");
    ck_assert_uint_eq(sim[2].result.exit_code, 0);
    ck_assert_uint_eq(sim[2].starts + sim[3].starts, 1);
    form(12, 3, all);
    settle();
    ck_assert_uint_ge(sim[1].discards, 1);
    ck_assert_uint_eq(sim[1].reincarnated, 1);
    ck_assert_uint_eq(sim[2].reincarnated + sim[3].reincarnated, 0);
}
END_TEST

/* Nothing is placed on such a node: the proof would be there before it is needed. */
START_TEST(nothing_is_placed_on_a_node_held_for_dead)
{
    static const uint32_t alone[] = {1};

    op_at(2, "vm apply", "", vm_yaml);
    form(8, 2, rest);
    form(9, 1, alone);
    settle();
    op_at(2, "node confirm-off", "n1", "");
    form(12, 3, all);
    settle();
    op_at(2, "vm start", "web1", "");
    ck_assert_int_eq(vm_at(2)->state, HA_VM_STARTING);
    ck_assert_uint_ne(vm_at(2)->owner, 1);
}
END_TEST

/* The VM went elsewhere while its first node was away, and only a state transfer tells.
 */
START_TEST(a_copy_that_was_superseded_is_discarded)
{
    struct ha_vm_report running = {.outcome = HA_OUTCOME_RUNNING, .epoch = 2};
    struct ha_fence_report off = {.result = HA_FENCE_OK};
    static const uint32_t alone[] = {1};
    uint32_t next;

    run_web1();
    form(8, 2, rest);
    form(9, 1, alone);
    settle();
    off.uid = ha_state_node(&sim[2].agent.state, 1)->fence_uid;
    off.target = 1;
    off.incarnation = sim[1].agent.self.incarnation;
    ha_agent_fence_report(&sim[sim[2].fences != 0 ? 2 : 3].agent, &off, now_ns);
    settle();
    next = vm_at(2)->owner;
    ck_assert_uint_ne(next, 1);
    running.vm = vm_at(2)->uuid;
    running.attempt = sim[next].last_attempt;
    running.instance = sim_uuid(NULL);
    ha_agent_vm_report(&sim[next].agent, &running, now_ns);
    settle();
    ck_assert_int_eq(vm_at(2)->state, HA_VM_RUNNING);
    ck_assert_uint_eq(sim[1].discards, 0);
    form(12, 3, all);
    settle();
    ck_assert_uint_ge(sim[1].discards, 1);
    ck_assert_uint_eq(vm_at(1)->owner, next);
}
END_TEST

/* An agent that was restarted in the middle of a start learns late that it failed. */
START_TEST(a_start_that_failed_is_believed_late)
{
    struct ha_vm_report failed = {.outcome = HA_OUTCOME_START_FAILED};

    run_web1();
    failed.vm = vm_at(2)->uuid;
    failed.attempt = vm_at(2)->attempt;
    ha_agent_vm_report(&sim[1].agent, &failed, now_ns);
    settle();
    ck_assert_int_eq(vm_at(2)->state, HA_VM_STARTING);
    ck_assert_uint_ne(vm_at(2)->owner, 1);
}
END_TEST

/* The updates of an operator's change are lost with the view, their answer is not: the
 * next term's items get the same versions, and are not what was asked for. */
START_TEST(a_change_lost_with_the_view_is_not_acknowledged)
{
    struct ha_op op = {.uid = sim_uuid(NULL), .body = vm_yaml};

    op.body_len = sizeof vm_yaml - 1;
    snprintf(op.verb, sizeof op.verb, "vm apply");
    snprintf(op.actor, sizeof op.actor, "root");
    sim[3].have_result = false;
    ha_agent_op(&sim[3].agent, &op, now_ns);
    /* The coordinator answers; the group changes under its update. */
    ck_assert_uint_eq(bus_tail - bus_head, 1);
    {
        struct message m = bus[bus_head++ % BUS_MAX];

        for (uint32_t id = 1; id <= NODES; id++) {
            ha_agent_deliver(&sim[id].agent, m.from, m.bytes, m.len, now_ns);
        }
        free(m.bytes);
    }
    ck_assert_uint_ge(bus_tail - bus_head, 2); /* update and answer */
    form_away(4, 2);
    settle();
    form(4, 3, all);
    settle();
    tick_for(3 * NSEC_PER_SEC);
    ck_assert_ptr_null(vm_at(1));
    ck_assert(sim[3].have_result);
    ck_assert_uint_ne(sim[3].result.exit_code, 0);
}
END_TEST

/* R6: it counts from when it was sent, needs a majority of this ring, and only while
 * somebody wants it. */
START_TEST(a_lease_is_a_fresh_majority)
{
    static const uint32_t alone[] = {1};
    uint64_t sent_ns;

    now_ns += 10 * NSEC_PER_SEC;
    ha_agent_tick(&sim[1].agent, now_ns);
    settle();
    ck_assert_uint_eq(sim[1].leases, 0);
    ha_agent_lease_want(&sim[1].agent, true);
    sent_ns = now_ns;
    ha_agent_tick(&sim[1].agent, now_ns);
    now_ns += NSEC_PER_SEC / 10;
    settle();
    ck_assert_uint_eq(sim[1].leases, 1);
    ck_assert_uint_eq(sim[1].lease_from_ns, sent_ns);
    ck_assert_uint_eq(sim[2].leases + sim[3].leases, 0);
    form(20, 1, alone);
    for (int i = 0; i < 20; i++) {
        now_ns += NSEC_PER_SEC;
        ha_agent_tick(&sim[1].agent, now_ns);
        settle();
    }
    ck_assert_uint_eq(sim[1].leases, 1);
}
END_TEST

/* Rubbish, truncated and flipped messages: dropped and counted. */
START_TEST(rubbish_is_dropped)
{
    struct ha_msg msg = {.type = HA_MSG_PERSISTED, .number = 1};
    static uint8_t frame[CPG_MSG_MAX];
    size_t len;

    msg.from.ring = sim[1].agent.view.ring;
    msg.from.nodeid = 2;
    len = ha_msg_encode(&msg, NULL, 1, frame, sizeof frame);
    ck_assert_uint_gt(len, 0);
    for (size_t cut = 0; cut < len; cut++) {
        ha_agent_deliver(&sim[1].agent, 2, frame, cut, now_ns);
    }
    for (size_t bit = 0; bit < len * 8; bit++) {
        frame[bit / 8] ^= (uint8_t)(1u << bit % 8);
        ha_agent_deliver(&sim[1].agent, 2, frame, len, now_ns);
        frame[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    ck_assert_uint_eq(sim[1].agent.count.dropped_malformed, len + len * 8);
    ha_agent_deliver(&sim[1].agent, 3, frame, len, now_ns); /* says it is node 2 */
    ck_assert_uint_eq(sim[1].agent.count.dropped_sender, 1);
}
END_TEST

/* Two changes of one VM at once: both hold, whatever is on the way when they arrive. */
START_TEST(changes_at_the_same_time_all_hold)
{
    static const char other_yaml[] =
        "name: web1\nmemory: 48MiB\nmachine: lockstep\n"
        "boot: {firmware: /x.rom}\ndisks: [{path: disk0.img}]\n";

    run_web1();
    op_send(2, "vm stop", "web1", "");
    op_send(3, "vm apply", "", other_yaml);
    settle();
    ck_assert(sim[2].have_result && sim[3].have_result);
    ck_assert_uint_eq(sim[2].result.exit_code, 0);
    ck_assert_uint_eq(sim[3].result.exit_code, 0);
    ck_assert_int_eq(vm_at(1)->desired, HA_DESIRED_STOPPED);
    ck_assert_str_eq(vm_at(1)->definition, other_yaml);
    expect_equal_states();
}
END_TEST

START_TEST(a_name_defined_twice_at_once_is_one_vm)
{
    op_send(2, "vm apply", "", vm_yaml);
    op_send(3, "vm apply", "", vm_yaml);
    op_send(3, "vm start", "web1", "");
    settle();
    ck_assert_uint_eq(sim[2].result.exit_code, 0);
    ck_assert_uint_eq(sim[3].result.exit_code, 0);
    ck_assert_uint_eq(sim[1].agent.state.vm_count, 1);
    ck_assert_int_eq(vm_at(1)->desired, HA_DESIRED_RUNNING);
    expect_equal_states();
}
END_TEST

/* A report that arrives while the change is on its way must not undo it. */
START_TEST(a_report_does_not_undo_a_change)
{
    struct ha_vm_report report = {.outcome = HA_OUTCOME_FROZEN, .epoch = 1};
    uint32_t owner;

    run_web1();
    owner = vm_at(1)->owner;
    report.vm = vm_at(1)->uuid;
    report.attempt = vm_at(1)->attempt;
    report.instance = vm_at(1)->instance;
    op_send(3, "vm stop", "web1", "");
    ha_agent_vm_report(&sim[owner].agent, &report, now_ns);
    settle();
    ck_assert(sim[3].have_result);
    ck_assert_uint_eq(sim[3].result.exit_code, 0);
    ck_assert_int_eq(vm_at(1)->desired, HA_DESIRED_STOPPED);
    expect_equal_states();
}
END_TEST

/* Refused by the state everywhere (two VMs with one uuid): not in anybody's log either,
 * as sim_persist asserts. */
START_TEST(a_refused_update_is_not_logged)
{
    char yaml[512], uuid[UUID_STR_LEN + 1];

    run_web1();
    uuid_format(vm_at(1)->uuid, uuid);
    snprintf(yaml, sizeof yaml,
             "name: web2\nuuid: %s\nmemory: 32MiB\nmachine: lockstep\n"
             "boot: {firmware: /x.rom}\ndisks: [{path: disk0.img}]\n",
             uuid);
    op_at(2, "vm apply", "", yaml);
    ck_assert_uint_eq(sim[1].agent.state.vm_count, 1);
    ck_assert_uint_eq(sim[1].log.version, sim[1].agent.state.version);
    op_at(2, "vm stop", "web1", "");
    ck_assert_int_eq(vm_at(3)->desired, HA_DESIRED_STOPPED);
    expect_equal_states();
}
END_TEST

/* A proposer that is cut off hears its own term, and decides in it; the others begin one
 * that never heard of it. What they acknowledged wins. */
START_TEST(a_term_that_only_its_proposer_heard_loses)
{
    static const uint32_t alone[] = {1};
    struct message m;

    op_at(3, "vm apply", "", vm_yaml);
    form(8, 3, all);
    while (bus_head != bus_tail && sim[1].agent.phase != HA_PHASE_SYNCED) {
        m = bus[bus_head++ % BUS_MAX];
        for (uint32_t id = 1; id <= NODES; id++) {
            if (id == 1 || sim[1].agent.sync_proposed_ns == 0) {
                ha_agent_deliver(&sim[id].agent, m.from, m.bytes, m.len, now_ns);
            }
        }
        free(m.bytes);
    }
    ck_assert_int_eq(sim[1].agent.phase, HA_PHASE_SYNCED);
    ck_assert_int_ne(sim[2].agent.phase, HA_PHASE_SYNCED);
    for (int i = 0; i < 20; i++) { /* it goes on deciding, heard by itself */
        op_send(1, "vm stop", "web1", "");
        while (bus_head != bus_tail) {
            m = bus[bus_head++ % BUS_MAX];
            ha_agent_deliver(&sim[1].agent, m.from, m.bytes, m.len, now_ns);
            free(m.bytes);
        }
    }
    form(12, 2, rest);
    form(13, 1, alone);
    settle();
    op_at(2, "vm start", "web1", "");
    ck_assert_uint_eq(sim[2].result.exit_code, 0);
    ck_assert_uint_lt(sim[2].agent.state.version, sim[1].agent.state.version);
    form(16, 3, all);
    settle();
    ck_assert_int_eq(vm_at(1)->desired, HA_DESIRED_RUNNING);
    ck_assert_int_eq(vm_at(2)->desired, HA_DESIRED_RUNNING);
    expect_equal_states();
}
END_TEST

/* Its agent is away, its Corosync answers: that node is not off. */
START_TEST(who_answers_is_not_confirmed_off)
{
    run_web1();
    form_away(4, 1);
    settle();
    op_at(2, "node confirm-off", "n1", "");
    ck_assert_uint_eq(sim[2].result.exit_code, 4);
    ck_assert_uint_eq(sim[2].starts + sim[3].starts, 0);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("ha_agent");
    TCase *tc = tcase_create("cluster");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, three_agents_agree);
    tcase_add_test(tc, a_cpu_model_chooses_the_node);
    tcase_add_test(tc, a_start_that_could_never_be_is_refused);
    tcase_add_test(tc, nothing_starts_before_a_proof);
    tcase_add_test(tc, a_fence_waits_for_a_majority_of_disks);
    tcase_add_test(tc, an_answer_waits_for_a_majority_of_disks);
    tcase_add_test(tc, a_message_of_an_old_ring_changes_nothing);
    tcase_add_test(tc, an_amnesiac_node_receives_the_state);
    tcase_add_test(tc, a_blank_majority_waits);
    tcase_add_test(tc, no_quorum_starts_nothing);
    tcase_add_test(tc, a_killed_vm_is_restarted_in_place);
    tcase_add_test(tc, the_incumbent_stays_and_terms_grow);
    tcase_add_test(tc, a_node_that_was_only_cut_off_keeps_its_vm);
    tcase_add_test(tc, an_agent_may_be_away_for_a_while);
    tcase_add_test(tc, a_node_held_for_dead_begins_a_new_life);
    tcase_add_test(tc, nothing_is_placed_on_a_node_held_for_dead);
    tcase_add_test(tc, a_copy_that_was_superseded_is_discarded);
    tcase_add_test(tc, a_start_that_failed_is_believed_late);
    tcase_add_test(tc, a_change_lost_with_the_view_is_not_acknowledged);
    tcase_add_test(tc, a_lease_is_a_fresh_majority);
    tcase_add_test(tc, rubbish_is_dropped);
    tcase_add_test(tc, changes_at_the_same_time_all_hold);
    tcase_add_test(tc, a_name_defined_twice_at_once_is_one_vm);
    tcase_add_test(tc, a_report_does_not_undo_a_change);
    tcase_add_test(tc, a_refused_update_is_not_logged);
    tcase_add_test(tc, a_term_that_only_its_proposer_heard_loses);
    tcase_add_test(tc, who_answers_is_not_confirmed_off);
    suite_add_tcase(s, tc);
    return s;
}

UNIT_MAIN(suite)
