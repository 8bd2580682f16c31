/* SPDX-License-Identifier: Apache-2.0 */
/* A VM and its twin on nodes of ha_sim.h: both sides report as they do when all is well.
 */
#pragma once

#include "ha/ha_twin.h"
#include "tests/unit/ha/ha_sim.h"

static const char ft_yaml[] __attribute__((unused)) =
    "name: web1\nmemory: 32MiB\nmachine: lockstep\nboot: {firmware: /x.rom}\n"
    "disks: [{path: /l/x.img, mirrored: true}]\n";
static const char auto_yaml[] __attribute__((unused)) =
    "name: web1\nmemory: 32MiB\nmachine: lockstep\nboot: {firmware: /x.rom}\n"
    "disks: [{path: /l/x.img, mirrored: true}]\nft: {mode: auto, on: [n3]}\n";

static uint32_t primary, twin, third;
static struct uuid twin_instance, id;

static inline void tell(uint32_t from, enum ha_vm_outcome outcome, uint64_t epoch,
                        const char *text)
{
    struct ha_vm_report r = {
        .vm = vm_at(third)->uuid, .attempt = id, .outcome = outcome, .epoch = epoch};

    r.instance = from == twin ? twin_instance : vm_at(third)->instance;
    if (outcome == HA_OUTCOME_TWIN_OFFER) {
        r.offer = (struct ha_move_end){.key = {(uint8_t)from}, .port = (uint16_t)from};
        strcpy(r.offer.address, "10.0.0.1");
        r.disk[1] =
            (struct ha_twin_disk){from == twin ? 0 : 4096, from == twin ? 0 : 512};
    }
    strcpy(r.text, text);
    ha_agent_vm_report(&sim[from].agent, &r, now_ns);
    settle();
}

static inline void local_at(uint32_t node, enum ha_local_state state, uint64_t epoch,
                            bool gone)
{
    struct ha_local_vm local = {.vm = vm_at(third)->uuid,
                                .instance =
                                    node == twin ? twin_instance : vm_at(third)->instance,
                                .attempt = vm_at(third)->attempt,
                                .epoch = epoch,
                                .state = state};

    ha_agent_local_vm(&sim[node].agent, &local, gone);
}

static inline void pass(uint64_t ns)
{
    now_ns += ns;
    for (uint32_t node = 1; node <= NODES; node++) {
        ha_agent_tick(&sim[node].agent, now_ns);
    }
    settle();
}

/* web1 runs at `primary` under epoch 1, as it is defined. */
static inline void runs(const char *yaml)
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

static inline void syncs(void)
{
    id = vm_at(third)->twin.id;
    twin_instance = sim_uuid(NULL);
    local_at(twin, HA_LOCAL_STARTING, 0, false);
    tell(primary, HA_OUTCOME_TWIN_OFFER, 1, "");
    tell(twin, HA_OUTCOME_TWIN_OFFER, 0, "");
    ck_assert_uint_eq(sim[primary].twin.dest.port, twin);
    ck_assert_uint_eq(sim[twin].twin.source.key[0], primary);
    ck_assert_uint_eq(sim[twin].twin.disk[0].bytes, 0);
    ck_assert_uint_eq(sim[twin].twin.disk[1].bytes, 4096);
    ck_assert_uint_eq(sim[twin].twin.disk[1].used, 512);
    ck_assert(!ha_vm_protected(vm_at(third)));
}

static inline void follows(void)
{
    tell(twin, HA_OUTCOME_TWIN_FOLLOWS, 0, "");
    ck_assert_int_eq(sim[primary].twin.step, HA_TWIN_FOLLOWS);
    tell(primary, HA_OUTCOME_TWIN_ON, 2, "");
    local_at(primary, HA_LOCAL_RUNNING, 2, false);
    tell(twin, HA_OUTCOME_TWIN_FOLLOWS, 0, ""); /* the primary waits for none */
    ck_assert(ha_vm_protected(vm_at(third)));
    ck_assert_uint_eq(vm_at(third)->epoch, 2);
    ck_assert_uint_eq(vm_at(third)->mirror[1], twin);
}

static inline void protect_as(const char *yaml)
{
    runs(yaml);
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

static inline void protect(void)
{
    protect_as(ft_yaml);
}

static inline void goes_live(void)
{
    tell(twin, HA_OUTCOME_RUNNING, 3, "");
    ck_assert_int_eq(vm_at(third)->state, HA_VM_RUNNING);
    ck_assert_uint_eq(vm_at(third)->owner, twin);
    ck_assert_uint_eq(vm_at(third)->epoch, 3);
    ck_assert(!uuid_equal(vm_at(third)->twin.id, id));
    ck_assert_uint_eq(vm_at(third)->mirror[0], twin);
    ck_assert_uint_eq(vm_at(third)->mirror[1], 0);
}

static inline unsigned starts(void)
{
    return sim[1].starts + sim[2].starts + sim[3].starts;
}

static inline unsigned fences(void)
{
    return sim[1].fences + sim[2].fences + sim[3].fences;
}

/* What is refused, and with which words. */
static inline void refused(const char *verb, const char *body, const char *why)
{
    op_at(third, verb, "web1", body);
    ck_assert_uint_eq(sim[third].result.exit_code, 4);
    ck_assert_msg(strstr(sim[third].result.text, why) != NULL, "%s: %s", verb,
                  sim[third].result.text);
}
