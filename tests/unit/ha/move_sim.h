/* SPDX-License-Identifier: Apache-2.0 */
/* One VM that moves between nodes of ha_sim.h, as both ends report it; and several that
 * run. */
#pragma once

#include "ha/ha_move.h"
#include "tests/unit/ha/ha_sim.h"

static uint32_t source, dest, third;
static struct uuid dest_instance;

static inline void tell(uint32_t from, enum ha_vm_outcome outcome, uint64_t epoch,
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
static inline void local_at(uint32_t id, enum ha_local_state state, uint64_t epoch,
                            bool gone)
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
static inline void begin(void)
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

static inline void offer(void)
{
    tell(source, HA_OUTCOME_MOVE_OFFER, 1, "");
    tell(dest, HA_OUTCOME_MOVE_OFFER, 0, "");
    ck_assert_uint_eq(sim[source].move.dest.key[0], dest);
    ck_assert_uint_eq(sim[dest].move.source.key[0], source);
    ck_assert_uint_eq(sim[source].move.dest.port, dest);
    ck_assert(uuid_equal(sim[source].move.instance, dest_instance));
}

static inline void fenced(uint32_t id)
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

static inline void goes_on_there(void)
{
    ck_assert_int_eq(vm_at(third)->state, HA_VM_RUNNING);
    ck_assert_uint_eq(vm_at(third)->owner, dest);
    ck_assert_uint_eq(vm_at(third)->epoch, 2);
    ck_assert(uuid_equal(vm_at(third)->instance, dest_instance));
    ck_assert_uint_eq(vm_at(third)->move.to, 0);
    ck_assert(!vm_at(third)->last_failed);
}

static inline const struct ha_vm *named(const char *name)
{
    return ha_state_vm_by_name(&sim[1].agent.state, name);
}

static inline void reports(uint32_t from, const char *name, enum ha_vm_outcome outcome,
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
static inline void runs_at(uint32_t node, const char *name)
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
