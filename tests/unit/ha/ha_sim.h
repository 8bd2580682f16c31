/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whole agent cores on a simulated total order: every message is delivered to every
 * member of its view in one order, views change under test control, persistence is
 * immediate or withheld. Nothing of Corosync, disks or VMMs is needed.
 */
#pragma once

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/uuid.h"
#include "cluster-conf/conf_load.h"
#include "ha/ha_agent.h"
#include "tests/unit/unit.h"

#define NODES     3 /* of every test; grow() adds the rest */
#define SIM_NODES 5
#define BUS_MAX   4096

struct message {
    uint32_t from;
    size_t len;
    uint8_t *bytes;
};

struct sim_node {
    struct ha_agent agent;
    bool up, persist_held;
    struct ha_state log; /* what a restart would read */
    uint64_t held_version;
    unsigned leases;
    uint64_t lease_from_ns;
    unsigned told, told_paused; /* events */
    unsigned starts, stops, saves, moves, twins, fences, discards, reincarnated;
    struct ha_twin twin; /* as told last */
    enum ha_vm_state twin_state;
    struct ha_twin_look look; /* the last one of `looks` */
    unsigned looks;
    unsigned dead_holders;
    struct uuid last_attempt;
    struct ha_move move; /* as it was told last */
    enum ha_vm_state move_state;
    char last_vm[VM_NAME_MAX + 1];
    struct ha_op_result result;
    bool have_result;
};

static struct sim_node sim[SIM_NODES + 1]; /* by node id */
static struct message bus[BUS_MAX];
static unsigned bus_head, bus_tail;
static uint64_t now_ns;
static uint32_t uuid_seed;

static struct sim_node *self_of(void *ctx)
{
    return ctx;
}

static inline void sim_mcast(void *ctx, const void *frame, size_t len)
{
    struct message *m = &bus[bus_tail++ % BUS_MAX];

    ck_assert_uint_lt(bus_tail - bus_head, BUS_MAX);
    m->from = self_of(ctx)->agent.self.nodeid;
    m->len = len;
    m->bytes = malloc(len);
    memcpy(m->bytes, frame, len);
}

static inline void sim_persist(void *ctx, enum ha_item_kind kind, const void *body,
                               size_t len, uint64_t version)
{
    /* What is logged can be read again: else the node would lose its memory with the next
     * start. */
    ck_assert_int_eq(ha_state_apply(&self_of(ctx)->log, kind, body, len, version, now_ns),
                     0);
    self_of(ctx)->held_version = version;
}

static inline void sim_persist_all(void *ctx)
{
    static uint8_t body[HA_ITEM_MAX];
    const struct ha_state *state = &self_of(ctx)->agent.state;
    enum ha_item_kind kind;
    unsigned cursor = 0;
    size_t len;

    ha_state_clear(&self_of(ctx)->log);
    while (ha_state_next_item(state, &cursor, &kind, body, sizeof body, &len)) {
        ck_assert_int_eq(
            ha_state_apply(&self_of(ctx)->log, kind, body, len, state->version, now_ns),
            0);
    }
    self_of(ctx)->held_version = self_of(ctx)->agent.state.version;
}

static inline void sim_vm_start(void *ctx, const struct ha_vm *vm)
{
    self_of(ctx)->starts++;
    self_of(ctx)->last_attempt = vm->attempt;
    snprintf(self_of(ctx)->last_vm, sizeof self_of(ctx)->last_vm, "%s", vm->name);
}

static inline void sim_vm_stop(void *ctx, const struct ha_vm *vm)
{
    self_of(ctx)->stops++;
    self_of(ctx)->last_attempt = vm->attempt;
}

static inline void sim_vm_save(void *ctx, const struct ha_vm *vm)
{
    self_of(ctx)->saves++;
    self_of(ctx)->last_attempt = vm->attempt;
}

static inline void sim_vm_move(void *ctx, const struct ha_vm *vm)
{
    self_of(ctx)->moves++;
    self_of(ctx)->last_attempt = vm->attempt;
    self_of(ctx)->move = vm->move;
    self_of(ctx)->move_state = vm->state;
}

static inline void sim_vm_twin(void *ctx, const struct ha_vm *vm)
{
    self_of(ctx)->twins++;
    self_of(ctx)->twin = vm->twin;
    self_of(ctx)->twin_state = vm->state;
}

static inline void sim_twin_look(void *ctx, const struct ha_twin_look *look)
{
    self_of(ctx)->looks++;
    self_of(ctx)->look = *look;
}

static inline void sim_holder_dead(void *ctx, struct uuid vm, const char *node)
{
    (void)vm;
    (void)node;
    self_of(ctx)->dead_holders++;
}

static inline void sim_discard(void *ctx, struct uuid vm, const char *why)
{
    (void)vm;
    (void)why;
    self_of(ctx)->discards++;
}

static inline void sim_fence(void *ctx, const struct ha_node *node)
{
    (void)node;
    self_of(ctx)->fences++;
}

static inline void sim_ignore_node(void *ctx, const struct ha_node *node)
{
    (void)ctx;
    (void)node;
}

static inline void sim_reincarnate(void *ctx)
{
    self_of(ctx)->reincarnated++;
}

static inline void sim_op_done(void *ctx, const struct ha_op_result *result)
{
    self_of(ctx)->result = *result;
    self_of(ctx)->have_result = true;
}

static inline void sim_lease(void *ctx, uint64_t from_ns)
{
    self_of(ctx)->leases++;
    self_of(ctx)->lease_from_ns = from_ns;
}

static inline void sim_event(void *ctx, uint64_t version, const char *text)
{
    struct sim_node *n = self_of(ctx);

    (void)version;
    n->told_paused += strstr(text, "web1: paused: ") != NULL;
    n->told += text[0] != '\0';
}

static inline void sim_trace(void *ctx, const char *text)
{
    (void)ctx;
    (void)text;
}

static inline struct uuid sim_uuid(void *ctx)
{
    struct uuid u = {{0}};

    (void)ctx;
    uuid_seed++;
    memcpy(u.b, &uuid_seed, sizeof uuid_seed);
    u.b[15] = 1;
    return u;
}

static inline bool parse_vm(const char *yaml, size_t len, struct conf_vm *ret)
{
    struct conf_error error;

    return conf_vm_load(yaml, len, NULL, ret, &error) == 0;
}

static inline bool parse_cluster(const char *yaml, size_t len, struct conf_cluster *ret)
{
    struct conf_error error;

    return conf_cluster_load(yaml, len, NULL, ret, &error) == 0;
}

static inline bool check_vm(void *ctx, const struct ha_state *state, const char *yaml,
                            size_t len, struct conf_vm *ret, char *text, size_t cap)
{
    struct conf_error error;

    (void)ctx;
    (void)state;
    if (conf_vm_load(yaml, len, NULL, ret, &error) < 0) {
        snprintf(text, cap, "%s", error.text);
        return false;
    }
    return true;
}

static inline bool check_cluster(void *ctx, const char *yaml, size_t len,
                                 struct conf_cluster *ret, char *text, size_t cap)
{
    struct conf_error error;

    (void)ctx;
    if (conf_cluster_load(yaml, len, NULL, ret, &error) < 0) {
        snprintf(text, cap, "%s", error.text);
        return false;
    }
    return true;
}

static const struct ha_mem mem = {
    .alloc = malloc, .free = free, .parse_vm = parse_vm, .parse_cluster = parse_cluster};
static const struct ha_agent_ops ops = {
    .mcast = sim_mcast,
    .persist = sim_persist,
    .persist_all = sim_persist_all,
    .vm_start = sim_vm_start,
    .vm_stop = sim_vm_stop,
    .vm_save = sim_vm_save,
    .vm_move = sim_vm_move,
    .vm_twin = sim_vm_twin,
    .twin_look = sim_twin_look,
    .vm_holder_dead = sim_holder_dead,
    .vm_discard = sim_discard,
    .fence_off = sim_fence,
    .fence_cancel = sim_ignore_node,
    .fence_on = sim_ignore_node,
    .reincarnate = sim_reincarnate,
    .op_done = sim_op_done,
    .event = sim_event,
    .trace = sim_trace,
    .lease_renewed = sim_lease,
    .new_uuid = sim_uuid,
    .check_vm = check_vm,
    .check_cluster = check_cluster,
};

static const char cluster_yaml[] =
    "cluster:\n  name: t\n  nodes:\n"
    "    - {name: n1, id: 1, addr: 10.0.0.1}\n    - {name: n2, id: 2, addr: 10.0.0.2}\n"
    "    - {name: n3, id: 3, addr: 10.0.0.3}\n  token: 1000ms\n"
    "storage:\n  type: local-lab\n  settle: 0ms\n";
static const char cluster5_yaml[] =
    "cluster:\n  name: t\n  nodes:\n"
    "    - {name: n1, id: 1, addr: 10.0.0.1}\n    - {name: n2, id: 2, addr: 10.0.0.2}\n"
    "    - {name: n3, id: 3, addr: 10.0.0.3}\n    - {name: n4, id: 4, addr: 10.0.0.4}\n"
    "    - {name: n5, id: 5, addr: 10.0.0.5}\n  token: 1000ms\n"
    "storage:\n  type: local-lab\n  settle: 0ms\n";
static const char vm_yaml[] = "name: web1\nmemory: 32MiB\nmachine: lockstep\n"
                              "boot: {firmware: /x.rom}\ndisks: [{path: disk0.img}]\n";

static inline void boot(uint32_t id, uint8_t boot_number)
{
    struct ha_agent_self self = {.nodeid = id, .memory_bytes = 1ull << 30};
    struct sim_node *n = &sim[id];
    struct cpu_model_error why;

    if (n->up) {
        ha_agent_free(&n->agent);
        ha_state_clear(&n->log);
    }
    memset(n, 0, sizeof *n);
    ha_state_init(&n->log, &mem);
    snprintf(self.name, sizeof self.name, "n%u", id);
    self.incarnation.boot_id.b[0] = (uint8_t)id;
    self.incarnation.boot_id.b[1] = boot_number;
    self.incarnation.join = 1;
    self.cpu_known = id != 2; /* one that cannot tell */
    ck_assert(cpu_model_parse(id == 3 ? "vendor=X features=fpu,avx,avx2"
                                      : "vendor=X features=fpu,avx",
                              &self.cpu, &why));
    ha_agent_init(&n->agent, &self, &mem, &ops, n);
    n->up = true;
}

static inline bool in_view_of(uint32_t a, uint32_t b)
{
    return ha_view_has(&sim[a].agent.view, b) &&
           ha_ring_equal(sim[a].agent.view.ring, sim[b].agent.view.ring);
}

static inline void flush_persisted(void)
{
    for (uint32_t id = 1; id <= SIM_NODES; id++) {
        if (sim[id].up && !sim[id].persist_held && sim[id].held_version != 0) {
            uint64_t version = sim[id].held_version;

            sim[id].held_version = 0;
            ha_agent_persisted(&sim[id].agent, version, now_ns);
        }
    }
}

/* Until nothing moves any more. */
static inline void settle(void)
{
    do {
        while (bus_head != bus_tail) {
            struct message m = bus[bus_head++ % BUS_MAX];

            for (uint32_t id = 1; id <= SIM_NODES; id++) {
                if (sim[id].up && in_view_of(m.from, id)) {
                    ha_agent_deliver(&sim[id].agent, m.from, m.bytes, m.len, now_ns);
                }
            }
            free(m.bytes);
        }
        flush_persisted();
    } while (bus_head != bus_tail);
}

static inline void drop_bus(void)
{
    while (bus_head != bus_tail) {
        free(bus[bus_head++ % BUS_MAX].bytes);
    }
}

static inline void form(uint64_t seq, unsigned count, const uint32_t *members)
{
    struct ha_view view;

    memset(&view, 0, sizeof view);
    view.agreed = true;
    view.votes_needed = sim[SIM_NODES].up ? SIM_NODES / 2 + 1 : NODES / 2 + 1;
    view.quorate = count >= view.votes_needed;
    view.ring = (struct ha_ring){members[0], seq};
    for (unsigned i = 0; i < count; i++) {
        view.member[view.member_count++] = members[i];
    }
    for (unsigned i = 0; i < count; i++) {
        ha_agent_view(&sim[members[i]].agent, &view, now_ns);
    }
}

static inline void view_without(uint64_t seq, uint32_t lost)
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

/* Asked for, and not delivered yet */
static inline void op_send(uint32_t id, const char *verb, const char *object,
                           const char *body)
{
    struct ha_op op = {
        .uid = sim_uuid(NULL), .body = body, .body_len = (uint32_t)strlen(body)};

    snprintf(op.verb, sizeof op.verb, "%s", verb);
    snprintf(op.object, sizeof op.object, "%s", object);
    snprintf(op.actor, sizeof op.actor, "root");
    snprintf(op.reason, sizeof op.reason, "test");
    sim[id].have_result = false;
    ha_agent_op(&sim[id].agent, &op, now_ns);
}

static inline void op_at(uint32_t id, const char *verb, const char *object,
                         const char *body)
{
    op_send(id, verb, object, body);
    settle();
}

static const uint32_t all[] = {1, 2, 3}, rest[] = {2, 3};

static inline void setup(void)
{
    now_ns = 1000 * NSEC_PER_SEC;
    bus_head = bus_tail = 0;
    for (uint32_t id = 1; id <= NODES; id++) {
        boot(id, 1);
    }
    form(4, 3, all);
    settle();
    op_at(1, "cluster apply", "", cluster_yaml);
    ck_assert(sim[1].have_result);
    ck_assert_uint_eq(sim[1].result.exit_code, 0);
}

/* To SIM_NODES nodes, all of them in the view. */
static inline void grow(uint64_t seq)
{
    static const uint32_t five[] = {1, 2, 3, 4, 5};

    op_at(1, "cluster apply", "", cluster5_yaml);
    ck_assert_uint_eq(sim[1].result.exit_code, 0);
    for (uint32_t id = NODES + 1; id <= SIM_NODES; id++) {
        boot(id, 1);
    }
    form(seq, SIM_NODES, five);
    settle();
}

static inline void teardown(void)
{
    drop_bus();
    for (uint32_t id = 1; id <= SIM_NODES; id++) {
        if (sim[id].up) {
            ha_agent_free(&sim[id].agent);
            ha_state_clear(&sim[id].log);
            sim[id].up = false;
        }
    }
}

static const struct ha_vm *vm_at(uint32_t id)
{
    return ha_state_vm_by_name(&sim[id].agent.state, "web1");
}

static inline void run_web1(void)
{
    struct ha_local_vm local = {.epoch = 1, .state = HA_LOCAL_RUNNING};
    struct ha_vm_report report = {.outcome = HA_OUTCOME_RUNNING, .epoch = 1};
    uint32_t owner;

    op_at(2, "vm apply", "", vm_yaml);
    ck_assert_uint_eq(sim[2].result.exit_code, 0);
    op_at(3, "vm start", "web1", "");
    owner = vm_at(1)->owner;
    ck_assert_uint_ne(owner, 0);
    ck_assert_int_eq(vm_at(1)->state, HA_VM_STARTING);
    ck_assert_uint_eq(sim[owner].starts, 1);
    report.vm = local.vm = vm_at(1)->uuid;
    report.attempt = local.attempt = sim[owner].last_attempt;
    report.instance = local.instance = sim_uuid(NULL);
    ha_agent_local_vm(&sim[owner].agent, &local, false);
    ha_agent_vm_report(&sim[owner].agent, &report, now_ns);
    settle();
    ck_assert_int_eq(vm_at(2)->state, HA_VM_RUNNING);
}

static inline void expect_equal_states(void)
{
    static uint8_t a[HA_ITEM_MAX], b[HA_ITEM_MAX];
    unsigned cursor_a = 0, cursor_b = 0;
    enum ha_item_kind kind_a, kind_b;
    size_t len_a, len_b;

    while (ha_state_next_item(&sim[1].agent.state, &cursor_a, &kind_a, a, sizeof a,
                              &len_a)) {
        ck_assert(ha_state_next_item(&sim[2].agent.state, &cursor_b, &kind_b, b, sizeof b,
                                     &len_b));
        ck_assert_int_eq(kind_a, kind_b);
        ck_assert_uint_eq(len_a, len_b);
        ck_assert_mem_eq(a, b, len_a);
    }
}

static inline void tick_for(uint64_t ns)
{
    for (uint64_t end_ns = now_ns + ns; now_ns < end_ns;) {
        now_ns += 100 * NSEC_PER_MSEC;
        for (uint32_t id = 1; id <= SIM_NODES; id++) {
            if (sim[id].up) {
                ha_agent_tick(&sim[id].agent, now_ns);
            }
        }
        settle();
    }
}
