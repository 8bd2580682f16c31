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

/* web1 runs at `source` under epoch 1 and is migrated to `dest`; both have been told. */
static void begin(void)
{
    char body[64];

    run_web1();
    source = vm_at(1)->owner;
    dest = source % NODES + 1;
    third = dest % NODES + 1;
    dest_instance = sim_uuid(NULL);
    snprintf(body, sizeof body, "node=%s\nverify=true\nno-compress=true\n",
             sim[dest].agent.self.name);
    op_at(third, "vm migrate", "web1", body);
    ck_assert_uint_eq(sim[third].result.exit_code, 0);
    ck_assert_int_eq(vm_at(third)->state, HA_VM_MIGRATING);
    ck_assert_uint_eq(sim[source].moves, 1);
    ck_assert_uint_eq(sim[dest].moves, 1);
    ck_assert_uint_eq(sim[third].moves, 0);
    ck_assert(sim[dest].move.verify);
    ck_assert(sim[dest].move.no_compress);
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

static void kill_it(void)
{
    struct ha_op kill = {.uid = sim_uuid(NULL), .flags = HA_OP_KILL, .body = ""};

    strcpy(kill.verb, "vm stop");
    strcpy(kill.object, "web1");
    strcpy(kill.actor, "root");
    ha_agent_op(&sim[third].agent, &kill, now_ns);
    settle();
}

START_TEST(killed_in_the_middle)
{
    begin();
    offer();
    kill_it();
    ck_assert(sim[source].move.called_off);
    ck_assert_uint_eq(sim[source].stops, 0);
    tell(dest, HA_OUTCOME_RUNNING, 2, ""); /* too late: it had the claim */
    ck_assert_uint_eq(vm_at(third)->owner, dest);
    ck_assert_int_eq(vm_at(third)->state, HA_VM_STOPPING);
    ck_assert_uint_eq(sim[dest].stops, 1);
}
END_TEST

/* Killed while the claim changes hands: who has it speaks first, and if it ended before
 * it ran (post-copy: its source is gone), that is the end. */
START_TEST(killed_between_the_claims)
{
    begin();
    offer();
    kill_it();
    tell(source, HA_OUTCOME_MOVED, 1, "the destination has its claim");
    tick_for(2 * NSEC_PER_SEC);
    ck_assert_int_eq(vm_at(third)->state, HA_VM_UNKNOWN);
    ck_assert_uint_eq(sim[source].stops, 0); /* it may owe memory */
    if (_i == 0) {
        tell(dest, HA_OUTCOME_ENDED, 2, "the source was lost");
    } else if (_i == 1) {
        tell(dest, HA_OUTCOME_MOVE_FAILED, 0, "no");
    } else {
        tell(dest, HA_OUTCOME_RUNNING, 2, "");
        ck_assert_int_eq(vm_at(third)->state, HA_VM_STOPPING);
        ck_assert_uint_eq(sim[dest].stops, 1);
        tell(dest, HA_OUTCOME_STOPPED, 2, "killed as told");
    }
    tick_for(2 * NSEC_PER_SEC);
    ck_assert_int_eq(vm_at(third)->state, HA_VM_STOPPED);
    ck_assert_uint_eq(vm_at(third)->move.to, 0);
    ck_assert_uint_eq(sim[1].starts + sim[2].starts + sim[3].starts, 1);
    expect_equal_states();
}
END_TEST

/* The record did not wait for it: a later claim's end is heard all the same. */
START_TEST(an_end_with_a_later_claim_counts)
{
    run_web1();
    source = vm_at(1)->owner;
    dest = source % NODES + 1;
    third = dest % NODES + 1;
    kill_it();
    ck_assert_int_eq(vm_at(third)->state, HA_VM_STOPPING);
    tell(dest, HA_OUTCOME_ENDED, 2, "the source was lost");
    ck_assert_int_eq(vm_at(third)->state, HA_VM_STOPPED);
    ck_assert_uint_eq(vm_at(third)->owner, dest);
    expect_equal_states();
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

/* The rest has a quorum: it starts the VM when both are proven dead, not before. */
START_TEST(both_ends_are_lost)
{
    uint32_t left[SIM_NODES];
    unsigned n = 0, starts = 0;

    begin();
    offer();
    grow(8);
    ck_assert_int_eq(vm_at(third)->state, HA_VM_MIGRATING);
    for (uint32_t id = 1; id <= SIM_NODES; id++) {
        if (id != source && id != dest) {
            left[n++] = id;
        }
        sim[id].starts = 0;
    }
    sim[source].agent.view.agreed = false;
    sim[dest].agent.view.agreed = false;
    form(9, n, left);
    settle();
    tick_for(5 * NSEC_PER_SEC);
    ck_assert_int_eq(vm_at(third)->state, HA_VM_UNKNOWN);
    for (unsigned i = 0; i < 2; i++) {
        uint32_t lost = i == 0 ? dest : source; /* whose death is asked for first */

        ck_assert_int_eq(ha_state_node(&sim[third].agent.state, lost)->fence,
                         HA_FENCE_PENDING);
        fenced(lost);
        tick_for(5 * NSEC_PER_SEC);
        starts = 0;
        for (unsigned k = 0; k < n; k++) {
            starts += sim[left[k]].starts;
        }
        ck_assert_uint_eq(starts, i);
    }
    ck_assert_int_eq(vm_at(third)->state, HA_VM_STARTING);
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

/* The destination ended, the source went on; that it said so was lost with the ring. */
START_TEST(a_lost_word_of_the_source)
{
    begin();
    offer();
    local_at(dest, HA_LOCAL_STARTING, 0, true);
    local_at(source, _i == 0 ? HA_LOCAL_RUNNING : HA_LOCAL_FROZEN, 2, false);
    form(8, 3, all);
    settle();
    ck_assert_int_ne(vm_at(third)->state, HA_VM_MIGRATING);
    ck_assert_uint_eq(vm_at(third)->owner, source);
    ck_assert_uint_eq(vm_at(third)->epoch, 2);
    ck_assert_uint_eq(vm_at(third)->move.to, 0);
    ck_assert(vm_at(third)->last_failed);
}
END_TEST

/* The destination makes what is defined: that does not change under way. */
START_TEST(its_definition_stays)
{
    char text[512];

    begin();
    snprintf(text, sizeof text, "%s# changed\n", vm_yaml);
    op_at(third, "vm apply", "", text);
    ck_assert_uint_eq(sim[third].result.exit_code, 4);
    ck_assert_ptr_nonnull(strstr(sim[third].result.text, "is being migrated"));
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

/* Many VMs
 * -------------------------------------------------------------------------------------
 */

static const struct ha_vm *named(const char *name)
{
    return ha_state_vm_by_name(&sim[1].agent.state, name);
}

static void reports(uint32_t from, const char *name, enum ha_vm_outcome outcome,
                    struct uuid instance, uint64_t epoch, const char *text)
{
    const struct ha_vm *vm = named(name);
    struct ha_vm_report r = {.vm = vm->uuid,
                             .attempt = vm->attempt,
                             .instance = instance,
                             .outcome = outcome,
                             .epoch = epoch};

    strcpy(r.text, text);
    ha_agent_vm_report(&sim[from].agent, &r, now_ns);
    settle();
}

/* Where it is wanted (started or moved to), it runs, under the next claim; it is left
 * nowhere else. */
static void runs_at(uint32_t node, const char *name)
{
    struct ha_local_vm local = {.vm = named(name)->uuid,
                                .instance = sim_uuid(NULL),
                                .attempt = named(name)->attempt,
                                .epoch = named(name)->epoch + 1,
                                .state = HA_LOCAL_RUNNING};

    for (uint32_t id = 1; id <= SIM_NODES; id++) {
        struct ha_local_vm old = local;

        if (sim[id].up && id != node) {
            ha_agent_local_vm(&sim[id].agent, &old, true);
        }
    }
    ha_agent_local_vm(&sim[node].agent, &local, false);
    reports(node, name, HA_OUTCOME_RUNNING, local.instance, local.epoch, "");
    ck_assert_int_eq(named(name)->state, HA_VM_RUNNING);
    ck_assert_uint_eq(named(name)->owner, node);
}

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

/* A drain
 * --------------------------------------------------------------------------------------
 */

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

/* A live upgrade: both ends are the owner
 * ---------------------------------------------------- */

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
    Suite *s = suite_create("ha_move");
    TCase *tc = tcase_create("move");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, it_moves);
    tcase_add_test(tc, what_cannot_be_is_refused);
    tcase_add_test(tc, a_destination_that_fails_calls_it_off);
    tcase_add_test(tc, a_cancelled_one_stays);
    tcase_add_test(tc, killed_in_the_middle);
    tcase_add_loop_test(tc, killed_between_the_claims, 0, 3);
    tcase_add_test(tc, an_end_with_a_later_claim_counts);
    tcase_add_test(tc, the_destination_speaks_first);
    tcase_add_test(tc, the_destination_has_nothing);
    tcase_add_test(tc, the_destination_ended_unheard);
    tcase_add_test(tc, the_source_lost_the_race_to_the_dead);
    tcase_add_test(tc, the_source_takes_it_back);
    tcase_add_test(tc, gone_at_the_source);
    tcase_add_test(tc, both_ends_are_lost);
    tcase_add_test(tc, failed_with_the_claim);
    tcase_add_test(tc, an_agent_forgot);
    tcase_add_loop_test(tc, a_lost_word_of_the_source, 0, 2);
    tcase_add_test(tc, its_definition_stays);
    tcase_add_test(tc, a_destination_that_forgot);
    tcase_add_test(tc, there_and_back);
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
