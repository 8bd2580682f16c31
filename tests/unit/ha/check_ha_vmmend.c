/* SPDX-License-Identifier: Apache-2.0 */
/* How a VM with mirrored disks ends, on real claims in a directory: which copies they say
 * count. */
#include "tests/unit/ha/vmm_frame.h"
#include "tests/unit/temp_path.h"
#include "tests/unit/unit.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/loop.h"
#include "base/worker.h"
#include "fencing/claim_store.h"
#include "ha/ha_vmdir.h"
#include "ha/ha_vmm.h"
#include "ha/ha_vmmtwin_priv.h"

#define HERE  1
#define THERE 2

static const struct uuid own_id = {{2}}, twin_id = {{3}};

/* Of epoch 1: this node's, with a twin on node 2, or without. */
static void link_claim(bool twin)
{
    struct claim c = {.vm = vm_id,
                      .epoch = 1,
                      .attempt = {{1}},
                      .node_name = "n1",
                      .owner = {.node_id = HERE, .inc = inc, .instance = own_id},
                      .mirror_count = 1,
                      .mirror_nodes = {HERE}};
    enum claim_outcome outcome;
    char text[REASON_LEN_MAX + 1];

    if (twin) {
        c.twin = (struct claim_who){THERE, inc, twin_id};
        c.mirror_count = 2;
        c.mirror_nodes[1] = THERE;
    }
    ck_assert_int_eq(claim_store_link(dir, &c, &outcome, text, sizeof text), 0);
    ck_assert_int_eq(outcome, CLAIM_OUTCOME_WON);
}

static void agent_of(uint32_t node)
{
    static struct conf_node cn;
    struct ha_agent_self self = {.nodeid = node, .incarnation = inc};

    snprintf(cn.vmroot, sizeof cn.vmroot, "%s", root);
    snprintf(cn.run_dir, sizeof cn.run_dir, "%s", root);
    snprintf(self.name, sizeof self.name, "n%u", node);
    ck_assert_int_eq(ha_vmm_new(loop, &cn, &self, 0, &ops, NULL, &vmm), 0);
}

static void setup(void)
{
    ck_assert_ptr_nonnull(mkdtemp(temp_path(root, "ha-vmmend")));
    snprintf(dir, sizeof dir, "%s/web1", root);
    ck_assert_int_eq(mkdir(dir, 0700), 0);
    ck_assert_int_eq(loop_new(&loop), 0);
    memset(&record, 0, sizeof record);
    memset(&conf, 0, sizeof conf);
    memset(&told, 0, sizeof told);
    memset(&proofs, 0, sizeof proofs);
    reports = 0;
    settle_ns = 0;
    record.uuid = vm_id;
    snprintf(record.name, sizeof record.name, "web1");
    record.conf = &conf;
    record.state = HA_VM_RUNNING;
    record.owner = HERE;
    record.owner_incarnation = inc;
    record.instance = own_id;
    record.epoch = 1;
    conf.disk_count = 1;
    snprintf(conf.disk[0].path, sizeof conf.disk[0].path, "disk0.img");
}

static void teardown(void)
{
    ha_vmm_free(vmm);
    vmm = NULL;
    loop_free(loop);
    (void)ha_vmdir_remove(root);
}

static void stop_fn(void *data)
{
    loop_stop(data);
}

static void run_ms(uint64_t ms)
{
    loop_timer timer = 0;

    ck_assert_int_eq(loop_timer_add(loop, ms * NSEC_PER_MSEC, stop_fn, loop, &timer), 0);
    loop_run(loop);
}

/* The primary, whose process has just ended. */
static struct ha_local *primary(uint8_t commit)
{
    struct ha_twin with = {.to = THERE, .to_incarnation = inc, .commit = commit};
    struct ha_local *l = ha_local_new(vmm, vm_id, "web1");

    ck_assert_ptr_nonnull(l);
    snprintf(l->dir, sizeof l->dir, "%s", dir);
    l->instance = own_id;
    l->epoch = 1;
    l->claim_won = l->entered = l->stopping = true;
    l->outcome = HA_OUTCOME_STOPPED;
    l->phase = LOCAL_RUNNING;
    l->disk_count = 1;
    l->disk[0] = conf.disk[0];
    l->disk[0].mirrored = true;
    ck_assert_ptr_nonnull(ha_vmmtwin_new(l, &with, false));
    l->twin->step = TWIN_ON;
    return l;
}

/* Released, and the report says what the claims say. */
static void counts(uint64_t epoch, uint32_t first, uint32_t second)
{
    struct claim_found found;
    char text[REASON_LEN_MAX + 1];

    run_ms(400);
    ck_assert_int_eq(claim_store_read(dir, vm_id, &found, text, sizeof text), 0);
    ck_assert_uint_eq(found.claim.epoch, epoch);
    ck_assert(found.have_release);
    ck_assert_uint_eq(found.claim.mirror_count, second != 0 ? 2 : 1);
    ck_assert_uint_eq(found.claim.mirror_nodes[0], first);
    ck_assert_uint_eq(found.claim.mirror_nodes[1], second);
    ck_assert_uint_eq(reports, 1);
    ck_assert_int_eq(told.outcome, HA_OUTCOME_STOPPED);
    ck_assert_uint_eq(told.epoch, epoch);
    ck_assert_uint_eq(told.mirror[0], first);
    ck_assert_uint_eq(told.mirror[1], second);
}

/* Every FLUSH that was answered is on both, however it ended. */
START_TEST(in_lockstep_both_count)
{
    link_claim(true);
    agent_of(HERE);
    ha_local_gone(primary(CONF_FT_VERIFIED));
    counts(1, HERE, THERE);
}
END_TEST

START_TEST(by_checkpoints_both_count_after_an_end_in_order)
{
    struct ha_local *l;

    link_claim(true);
    agent_of(HERE);
    l = primary(CONF_FT_EPOCHS);
    l->alike = true;
    ha_local_gone(l);
    counts(1, HERE, THERE);
}
END_TEST

/* The twin may lack what was flushed last. */
START_TEST(by_checkpoints_one_counts_when_killed)
{
    link_claim(true);
    agent_of(HERE);
    ha_local_gone(primary(CONF_FT_EPOCHS));
    counts(2, HERE, 0);
}
END_TEST

/* It is not known what became of its twin. */
START_TEST(without_a_session_one_counts)
{
    struct ha_local *l;

    link_claim(true);
    agent_of(HERE);
    l = primary(CONF_FT_VERIFIED);
    l->alike = true;
    l->twin->step = TWIN_ARMED;
    ha_local_gone(l);
    counts(2, HERE, 0);
}
END_TEST

START_TEST(without_a_twin_one_counts)
{
    struct ha_local *l;

    link_claim(false);
    agent_of(HERE);
    l = primary(CONF_FT_VERIFIED);
    ha_vmmtwin_free(l);
    ha_local_gone(l);
    counts(1, HERE, 0);
}
END_TEST

/* A claim without its twin that an earlier try made, whose end was not heard. */
START_TEST(what_was_claimed_before_is_released)
{
    struct claim_found found;
    struct claim c;
    enum claim_outcome outcome;
    char text[REASON_LEN_MAX + 1];

    link_claim(true);
    ck_assert_int_eq(claim_store_read(dir, vm_id, &found, text, sizeof text), 0);
    c = found.claim;
    c.epoch = 2;
    c.attempt.b[0] = 2;
    memset(&c.twin, 0, sizeof c.twin);
    c.mirror_count = 1;
    c.mirror_nodes[1] = 0;
    ck_assert_int_eq(claim_store_link(dir, &c, &outcome, text, sizeof text), 0);
    agent_of(HERE);
    ha_local_gone(primary(CONF_FT_EPOCHS));
    counts(2, HERE, 0);
}
END_TEST

/* Its twin has the claim: nothing of this one counts, and nothing is said of copies. */
START_TEST(its_twin_was_faster)
{
    struct claim_found found;
    struct claim c;
    enum claim_outcome outcome;
    char text[REASON_LEN_MAX + 1];

    link_claim(true);
    ck_assert_int_eq(claim_store_read(dir, vm_id, &found, text, sizeof text), 0);
    c = found.claim;
    c.epoch = 2;
    c.attempt.b[0] = 2;
    c.owner = c.twin;
    memset(&c.twin, 0, sizeof c.twin);
    c.mirror_count = 1;
    c.mirror_nodes[0] = THERE;
    c.mirror_nodes[1] = 0;
    ck_assert_int_eq(claim_store_link(dir, &c, &outcome, text, sizeof text), 0);
    agent_of(HERE);
    ha_local_gone(primary(CONF_FT_EPOCHS));
    run_ms(400);
    ck_assert_int_eq(claim_store_read(dir, vm_id, &found, text, sizeof text), 0);
    ck_assert_uint_eq(found.claim.epoch, 2);
    ck_assert(!found.have_release);
    ck_assert_uint_eq(reports, 1);
    ck_assert_uint_eq(told.mirror[0], 0);
}
END_TEST

/* Its twin, on the other node; the record as when it is protected. */
static struct ha_local *its_twin(void)
{
    struct ha_local *l;

    link_claim(true);
    agent_of(THERE);
    record.twin = (struct ha_twin){
        .to = THERE, .to_incarnation = inc, .id = {{7}}, .step = HA_TWIN_ON};
    record.desired = HA_DESIRED_RUNNING;
    l = ha_local_new(vmm, vm_id, "web1");
    ck_assert_ptr_nonnull(l);
    snprintf(l->dir, sizeof l->dir, "%s", dir);
    l->instance = twin_id;
    l->attempt = record.twin.id;
    l->phase = LOCAL_STARTING;
    ck_assert_ptr_nonnull(ha_vmmtwin_new(l, &record.twin, true));
    l->twin->step = TWIN_ON;
    return l;
}

static bool follows(void)
{
    ha_vmm_twin(vmm, &record);
    run_ms(100);
    return ha_vmm_count(vmm) == 1;
}

/* It follows until its primary has ended. */
START_TEST(a_twin_stays_while_its_vm_stops)
{
    (void)its_twin();
    ck_assert(follows());
    record.desired = HA_DESIRED_STOPPED;
    ck_assert(follows());
    record.state = HA_VM_STOPPING;
    ck_assert(follows());
    ha_vmm_start(vmm, &record); /* nor is it taken for what is to be started */
    ck_assert_uint_eq(ha_local_find(vmm, vm_id)->attempt.b[0], 7);
    record.state = HA_VM_STOPPED;
    memset(&record.twin, 0, sizeof record.twin);
    ck_assert(!follows());
}
END_TEST

START_TEST(a_twin_ends_when_nobody_knows)
{
    (void)its_twin();
    record.desired = HA_DESIRED_STOPPED;
    record.state = HA_VM_UNKNOWN;
    ck_assert(!follows());
}
END_TEST

/* Who was to be stopped does not go live. */
START_TEST(a_twin_that_is_alone_while_its_vm_stops)
{
    Gemel__VmmReport r = GEMEL__VMM_REPORT__INIT;
    struct claim_found found;
    struct ha_local *l = its_twin();
    char text[REASON_LEN_MAX + 1];

    record.desired = HA_DESIRED_STOPPED;
    record.state = HA_VM_STOPPING;
    ck_assert(follows());
    snprintf(l->twin->state, sizeof l->twin->state, "drained");
    ha_vmmsec_session(l, &r);
    run_ms(300);
    ck_assert_uint_eq(ha_vmm_count(vmm), 0);
    ck_assert_int_eq(claim_store_read(dir, vm_id, &found, text, sizeof text), 0);
    ck_assert_uint_eq(found.claim.epoch, 1);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("ha_vmmend");
    TCase *tc = tcase_create("copies");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, in_lockstep_both_count);
    tcase_add_test(tc, by_checkpoints_both_count_after_an_end_in_order);
    tcase_add_test(tc, by_checkpoints_one_counts_when_killed);
    tcase_add_test(tc, without_a_session_one_counts);
    tcase_add_test(tc, without_a_twin_one_counts);
    tcase_add_test(tc, what_was_claimed_before_is_released);
    tcase_add_test(tc, its_twin_was_faster);
    tcase_add_test(tc, a_twin_stays_while_its_vm_stops);
    tcase_add_test(tc, a_twin_ends_when_nobody_knows);
    tcase_add_test(tc, a_twin_that_is_alone_while_its_vm_stops);
    suite_add_tcase(s, tc);
    return s;
}

UNIT_MAIN(suite)
