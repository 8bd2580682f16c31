/* SPDX-License-Identifier: Apache-2.0 */
/* Both agents of a VM that holds writes, on real claims in a directory: the owner's says
 * what its VMM holds, the old host's says that nothing is left there. */
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

#define OLD 1
#define NEW 2

static const struct uuid old_id = {{2}}, new_id = {{3}};

static void link_claim(uint64_t epoch, bool displaced)
{
    struct claim c = {.vm = vm_id,
                      .epoch = epoch,
                      .attempt = {{(uint8_t)epoch}},
                      .node_name = "n",
                      .owner = {.node_id = displaced ? NEW : OLD,
                                .inc = inc,
                                .instance = displaced ? new_id : old_id}};
    enum claim_outcome outcome;
    char text[REASON_LEN_MAX + 1];

    if (displaced) {
        c.unexcluded_count = 1;
        c.unexcluded[0] = (struct claim_displaced){{OLD, inc, old_id}, 1};
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
    ck_assert_ptr_nonnull(mkdtemp(temp_path(root, "ha-vmmhold")));
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
    record.owner = NEW;
    record.owner_incarnation = inc;
    record.instance = new_id;
    record.epoch = 2;
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

static bool acknowledged(void)
{
    struct claim_found found;
    struct claim_halt halts[CLAIM_UNEXCLUDED_MAX];
    char text[REASON_LEN_MAX + 1];

    ck_assert_int_eq(claim_store_read(dir, vm_id, &found, text, sizeof text), 0);
    return found.have_claim && claim_store_gave_up(dir, &found.claim, halts) == 1;
}

static void is_held(void)
{
    record.held = (struct ha_held){OLD, inc, new_id};
}

static struct ha_local *owner(void)
{
    struct ha_local *l = ha_local_new(vmm, vm_id, "web1");

    ck_assert_ptr_nonnull(l);
    snprintf(l->dir, sizeof l->dir, "%s", dir);
    l->instance = new_id;
    l->epoch = 2;
    l->conf = NULL;
    l->claim_won = true;
    l->phase = LOCAL_RUNNING;
    l->disk_count = 1;
    l->disk[0] = conf.disk[0];
    return l;
}

START_TEST(the_old_host_acknowledges)
{
    link_claim(1, false);
    link_claim(2, true);
    agent_of(OLD);
    is_held();
    ha_vmm_twin(vmm, &record);
    ha_vmm_twin(vmm, &record); /* one at a time */
    run_ms(300);
    ck_assert(acknowledged());
    ck_assert_uint_eq(reports, 0); /* the owner says it */
    record.state = HA_VM_FAILED;   /* who held is gone: nobody else would */
    ha_vmm_twin(vmm, &record);
    run_ms(300);
    ck_assert_uint_eq(reports, 1);
    ck_assert_int_eq(told.outcome, HA_OUTCOME_EXCLUDED);
    ck_assert_mem_eq(&told.instance, &new_id, sizeof new_id);
}
END_TEST

/* A storage that does not answer is asked again. */
START_TEST(until_it_works)
{
    char away[sizeof dir + 8];

    link_claim(1, false);
    link_claim(2, true);
    snprintf(away, sizeof away, "%s.away", dir);
    ck_assert_int_eq(rename(dir, away), 0);
    ck_assert_int_eq(symlink("web1", dir), 0); /* ELOOP */
    agent_of(OLD);
    is_held();
    ha_vmm_twin(vmm, &record);
    run_ms(300);
    ck_assert_int_eq(unlink(dir), 0);
    ck_assert_int_eq(rename(away, dir), 0);
    ck_assert(!acknowledged());
    run_ms(1500);
    ck_assert(acknowledged());
}
END_TEST

/* What a process left behind that did not end by itself takes its time; by the disks it
 * had, not by those that are defined now. */
START_TEST(after_storage_settle)
{
    struct ha_local *l;

    link_claim(1, false);
    link_claim(2, true);
    agent_of(OLD);
    l = owner();
    l->instance = old_id;
    l->claim_won = false;
    conf.disk_count = 0;
    settle_ns = 600 * NSEC_PER_MSEC;
    is_held();
    ha_local_gone(l); /* and looks at the record by itself */
    run_ms(300);
    ck_assert(!acknowledged());
    run_ms(1500);
    ck_assert(acknowledged());
}
END_TEST

/* The release of a claim lets anybody start it. */
static void released_after_ms(uint64_t ms, bool ended_well)
{
    struct ha_local *l;
    struct claim_found found;
    char text[REASON_LEN_MAX + 1];

    link_claim(1, false);
    agent_of(OLD);
    l = owner();
    l->instance = old_id;
    l->epoch = 1;
    l->entered = true;
    l->ended_well = ended_well;
    snprintf(l->disk[0].path, sizeof l->disk[0].path, "nbd://10.0.0.9/z");
    settle_ns = 600 * NSEC_PER_MSEC;
    ha_local_gone(l);
    run_ms(300);
    ck_assert_int_eq(claim_store_read(dir, vm_id, &found, text, sizeof text), 0);
    ck_assert(found.have_release == (ms < 300));
    run_ms(1500);
    ck_assert_int_eq(claim_store_read(dir, vm_id, &found, text, sizeof text), 0);
    ck_assert(found.have_release);
}

START_TEST(a_release_waits_as_well)
{
    released_after_ms(600, false);
}
END_TEST

START_TEST(not_after_an_end_of_its_own)
{
    released_after_ms(0, true);
}
END_TEST

START_TEST(what_still_runs_is_not_acknowledged)
{
    struct ha_local *l;

    link_claim(1, false);
    link_claim(2, true);
    agent_of(OLD);
    l = owner();
    l->instance = old_id;
    is_held();
    ha_vmm_twin(vmm, &record);
    run_ms(300);
    ck_assert(!acknowledged());
}
END_TEST

START_TEST(the_owner_says_that_it_holds)
{
    Gemel__VmmReport m = GEMEL__VMM_REPORT__INIT;
    struct ha_local *l;
    int fd[2];
    char buf[64];

    link_claim(1, false);
    link_claim(2, true);
    agent_of(NEW);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd), 0);
    l = owner();
    is_held(); /* before its VMM has spoken nobody knows better */
    ha_vmm_twin(vmm, &record);
    run_ms(200);
    ck_assert_uint_eq(reports, 0);
    memset(&record.held, 0, sizeof record.held);
    m.ft_held = 1;
    ha_vmmhold_report(l, &m);
    run_ms(300);
    ck_assert_uint_eq(reports, 1);
    ck_assert_int_eq(told.outcome, HA_OUTCOME_HOLDS);
    ck_assert_uint_eq(told.held.node_id, OLD);
    is_held();
    run_ms(1200);
    ck_assert_uint_eq(reports, 1); /* it is known */
    l->fd = fd[0];
    ck_assert_int_lt(read(fd[1], buf, sizeof buf), 0);
    ck_assert_int_eq(
        claim_store_release(
            dir, &(struct claim_release){.vm = vm_id, .epoch = 1, .instance = old_id},
            &(enum claim_outcome){0}, (char[256]){0}, 256),
        0);
    run_ms(700);
    ck_assert_int_gt(read(fd[1], buf, sizeof buf), 0); /* FT_EXCLUDED */
    l->fd = -1;
    m.ft_held = 0;
    ha_vmmhold_report(l, &m);
    run_ms(100);
    ck_assert_int_eq(told.outcome, HA_OUTCOME_EXCLUDED);
    close(fd[0]);
    close(fd[1]);
}
END_TEST

static pthread_mutex_t hung = PTHREAD_MUTEX_INITIALIZER;
static unsigned through;

static void hangs(void *data)
{
    (void)data;
    pthread_mutex_lock(&hung);
    pthread_mutex_unlock(&hung);
}

static void nothing(void *data)
{
    (void)data;
}

static void is_through(void *data)
{
    (void)data;
    through++;
}

/* Storage that hangs holds up its own VMs alone. */
START_TEST(disks_that_hang_hold_up_no_others)
{
    agent_of(NEW);
    pthread_mutex_lock(&hung);
    for (uint64_t key = 1; key <= 10; key++) {
        ck_assert_int_eq(worker_submit(vmm->disk_worker, key, hangs, is_through, vmm), 0);
    }
    ck_assert_int_eq(worker_submit(vmm->disk_worker, 99, nothing, is_through, vmm), 0);
    ck_assert_int_eq(worker_submit(vmm->disk_worker, 1, nothing, is_through, vmm), 0);
    run_ms(200);
    ck_assert_uint_eq(through, 1);
    pthread_mutex_unlock(&hung);
    run_ms(200);
    ck_assert_uint_eq(through, 12);
}
END_TEST

/* Fails with: a key of each instance. */
START_TEST(a_vm_that_is_started_again_and_again_hangs_once)
{
    struct ha_local first = {.id = 5, .vm = vm_id}, later = first, other = first;

    later.id = 6;
    other.vm = old_id;
    agent_of(NEW);
    pthread_mutex_lock(&hung);
    for (unsigned i = 0; i < 100; i++) {
        later.id++;
        ck_assert_uint_eq(ha_local_open_key(&first), ha_local_open_key(&later));
        ck_assert_int_eq(worker_submit(vmm->disk_worker, ha_local_open_key(&later), hangs,
                                       is_through, vmm),
                         0);
    }
    ck_assert_int_eq(worker_submit(vmm->disk_worker, ha_local_open_key(&other), nothing,
                                   is_through, vmm),
                     0);
    run_ms(200);
    ck_assert_uint_eq(through, 1);
    pthread_mutex_unlock(&hung);
    run_ms(300);
    ck_assert_uint_eq(through, 101);
}
END_TEST

static void restarted(bool won)
{
    const struct ha_twin t = {.to = NEW, .to_incarnation = inc, .instance = new_id};
    struct ha_local *l;

    link_claim(1, false);
    if (won) {
        link_claim(2, true);
    }
    agent_of(NEW);
    l = owner();
    l->claim_won = false;
    l->disk_count = 0;
    ck_assert_ptr_nonnull(ha_vmmtwin_new(l, &t, true));
    l->twin->step = TWIN_ON;
    l->twin->inherited = true;
    record.twin.to = 0; /* given up meanwhile */
    ha_vmmsec_told(l, &record);
    run_ms(300);
}

/* The claim was won by an agent that could not say so any more. */
START_TEST(a_claim_of_before_the_restart_counts)
{
    restarted(true);
    ck_assert_ptr_nonnull(vmm->head);
    ck_assert(vmm->head->claim_won);
    ck_assert_int_eq(vmm->head->twin->step, TWIN_LIVE);
    ck_assert_uint_eq(reports, 0);
}
END_TEST

START_TEST(without_one_it_ends)
{
    restarted(false);
    ck_assert_ptr_null(vmm->head);
    ck_assert_int_eq(told.outcome, HA_OUTCOME_START_FAILED);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("ha_vmmhold");
    TCase *tc = tcase_create("ha_vmmhold");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, the_old_host_acknowledges);
    tcase_add_test(tc, until_it_works);
    tcase_add_test(tc, after_storage_settle);
    tcase_add_test(tc, a_release_waits_as_well);
    tcase_add_test(tc, not_after_an_end_of_its_own);
    tcase_add_test(tc, what_still_runs_is_not_acknowledged);
    tcase_add_test(tc, the_owner_says_that_it_holds);
    tcase_add_test(tc, disks_that_hang_hold_up_no_others);
    tcase_add_test(tc, a_vm_that_is_started_again_and_again_hangs_once);
    tcase_add_test(tc, a_claim_of_before_the_restart_counts);
    tcase_add_test(tc, without_one_it_ends);
    suite_add_tcase(s, tc);
    return s;
}

UNIT_MAIN(suite)
