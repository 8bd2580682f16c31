/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/temp_path.h"
#include "tests/unit/unit.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fencing/claim_store.h"
#include "ha/ha_leftovers.h"
#include "ha/ha_vmdir.h"

static char dir[TEMP_PATH_MAX];

static const char *in_dir(const char *name)
{
    static char path[512];

    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

static void make_file(const char *name)
{
    int fd = open(in_dir(name), O_CREAT | O_RDWR, 0600);

    ck_assert_int_ge(fd, 0);
    close(fd);
}

/* A directory with a file in it. */
static void make_dir(const char *name)
{
    char file[128];

    ck_assert_int_eq(mkdir(in_dir(name), 0700), 0);
    snprintf(file, sizeof file, "%s/disk0.img", name);
    make_file(file);
}

static bool there(const char *name)
{
    return access(in_dir(name), F_OK) == 0;
}

static void setup(void)
{
    ck_assert_ptr_nonnull(mkdtemp(temp_path(dir, "ha-leftovers")));
    make_dir("snapshots");
}

static void teardown(void)
{
    (void)ha_vmdir_remove(dir);
}

START_TEST(they_go_with_the_claim)
{
    struct claim claim = {.vm = {{1}},
                          .epoch = 1,
                          .attempt = {{2}},
                          .owner = {.node_id = 1, .inc = {{{5}}, 1}, .instance = {{3}}},
                          .node_name = "n1"};
    enum claim_outcome outcome;
    char why[REASON_LEN_MAX + 1];

    make_dir("snapshots/.a@n1.tmp");
    make_dir("snapshots/.b@n2.tmp");
    make_dir("snapshots/.c.tmp"); /* of an older version */
    make_dir("snapshots/.d@n2.deleted");
    make_dir("snapshots/whole.tmp");
    make_file(VMDIR_STATE_TMP);
    make_file(VMDIR_STATE);
    make_file("disk0.img.revert.tmp");
    ha_leftovers_owned(dir, claim.vm, claim.owner.instance);
    ck_assert(there("snapshots/.a@n1.tmp")); /* there is no claim */
    ck_assert_msg(claim_store_link(dir, &claim, &outcome, why, sizeof why) == 0, "%s",
                  why);
    ha_leftovers_owned(dir, claim.vm, (struct uuid){{4}});
    ck_assert(there("snapshots/.a@n1.tmp")); /* it is another's */
    ha_leftovers_owned(dir, claim.vm, claim.owner.instance);
    ck_assert(!there("snapshots/.a@n1.tmp") && !there("snapshots/.b@n2.tmp"));
    ck_assert(!there("snapshots/.c.tmp") && !there(VMDIR_STATE_TMP));
    ck_assert(!there("disk0.img.revert.tmp"));
    ck_assert(there("snapshots/.d@n2.deleted") && there("snapshots/whole.tmp"));
    ck_assert(there(VMDIR_STATE) && there("owner.1"));
}
END_TEST

START_TEST(a_node_removes_its_own_alone)
{
    make_dir("snapshots/.a@n1.tmp");
    make_dir("snapshots/.b@xn1.tmp");
    make_dir("snapshots/.c@n1.deleted");
    make_dir("snapshots/.d@n2.deleted");
    make_dir(".web2@n1.clone.tmp");
    make_dir(".web2@n1.clone.tmp/sub");
    make_dir(".web2@n2.clone.tmp");
    ha_leftovers_node(dir, "n1");
    ck_assert(!there("snapshots/.a@n1.tmp") && there("snapshots/.b@xn1.tmp"));
    ck_assert(!there("snapshots/.c@n1.deleted") && there("snapshots/.d@n2.deleted"));
    ck_assert(there(".web2@n1.clone.tmp"));
    ha_leftovers_clones(dir, "n1");
    ck_assert(!there(".web2@n1.clone.tmp") && there(".web2@n2.clone.tmp"));
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("ha_leftovers");
    TCase *tc = tcase_create("leftovers");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, they_go_with_the_claim);
    tcase_add_test(tc, a_node_removes_its_own_alone);
    suite_add_tcase(s, tc);
    return s;
}

UNIT_MAIN(suite)
