/* SPDX-License-Identifier: Apache-2.0 */
/* What the lab writes is what the product reads. */
#include "lab/lab_conf.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "cluster-conf/conf_load.h"
#include "tests/unit/scratch.h"
#include "tests/unit/unit.h"

static struct lab lab;
static char text[64 * 1024];

static void setup(void)
{
    struct lab_path path;

    scratch_setup();
    lab = (struct lab){.prefix = "unit",
                       .node_count = 3,
                       .token_ms = 300,
                       .agents = true,
                       .pid = 42,
                       .start_time = 4711};
    snprintf(lab.dir, sizeof lab.dir, "%s", scratch_dir);
    snprintf(lab.boot_id, sizeof lab.boot_id, "not-of-this-machine");
    ck_assert_int_eq(lab_write_tree(&lab, &path), 0);
}

static size_t slurp(const char *name)
{
    ssize_t n = lab_read_file(scratch_path(name), text, sizeof text);

    ck_assert_int_gt(n, 0);
    return (size_t)n;
}

START_TEST(lab_json_comes_back)
{
    struct lab loaded;

    ck_assert_int_eq(lab_load(scratch_dir, &loaded), -ENOENT);
    ck_assert_int_eq(lab_save(&lab), 0);
    ck_assert_int_eq(lab_load(scratch_dir, &loaded), 0);
    ck_assert_str_eq(loaded.prefix, lab.prefix);
    ck_assert_str_eq(loaded.dir, lab.dir);
    ck_assert_str_eq(loaded.boot_id, lab.boot_id);
    ck_assert_uint_eq(loaded.node_count, 3);
    ck_assert_int_eq(loaded.pid, 42);
    ck_assert_uint_eq(loaded.start_time, 4711);
    ck_assert(loaded.agents && !loaded.dir_created);
}
END_TEST

static const char *const damaged[] = {
    "",
    "{",
    "[]",
    "{}",
    "{\"version\":2,\"nodes\":3,\"prefix\":\"a\",\"boot_id\":\"b\"}",
    "{\"version\":1,\"nodes\":99,\"prefix\":\"a\",\"boot_id\":\"b\"}",
    "{\"version\":1,\"nodes\":3,\"prefix\":\"a-name-far-too-long-for-it\",\"boot_id\":1}",
    "{\"version\":1,\"nodes\":3,\"boot_id\":\"b\"}",
};

START_TEST(a_damaged_lab_json_is_refused)
{
    struct lab loaded;

    ck_assert_int_eq(lab_write_file(scratch_path("lab.json"), damaged[_i], 0600), 0);
    ck_assert_int_eq(lab_load(scratch_dir, &loaded), -EBADMSG);
}
END_TEST

START_TEST(the_cluster_definition_is_valid)
{
    static struct conf_cluster cluster;
    struct conf_error error = {.text = ""};
    size_t len = slurp("nodes/n2/etc/gemel/cluster.yaml");

    ck_assert_msg(conf_cluster_load(text, len, "cluster.yaml", &cluster, &error) == 0,
                  "%s", error.text);
    ck_assert_uint_eq(cluster.node_count, 3);
    ck_assert_uint_eq(cluster.token_ms, 300);
    ck_assert_uint_eq(cluster.token_coefficient_ms, 0);
    ck_assert_uint_eq(cluster.device_count, 3);
    ck_assert(cluster.crypto);
    ck_assert_str_eq(cluster.node[1].addr, "10.78.0.2");
    ck_assert_str_eq(cluster.device[1].agent, "fence_ipmilan");
    ck_assert_str_eq(cluster.device[1].node, "n2");
    /* The secret is in a file of its own that nobody else reads. */
    struct stat st;
    ck_assert_int_eq(stat(scratch_path("nodes/n2/etc/gemel/fence/bmc-n1.secret"), &st),
                     0);
    ck_assert_uint_eq(st.st_mode & 0777, 0600);
    ck_assert_ptr_null(strstr(text, LAB_BMC_PASSWORD));
}
END_TEST

START_TEST(the_node_definition_is_valid)
{
    struct conf_node node;
    struct conf_error error = {.text = ""};
    size_t len = slurp("nodes/n3/etc/gemel/node.yaml");

    ck_assert_msg(conf_node_load(text, len, "node.yaml", &node, &error) == 0, "%s",
                  error.text);
    ck_assert_str_eq(node.name, "n3");
    ck_assert_str_eq(node.vmroot, "/srv/gemel");
    ck_assert_str_eq(node.bridge, "br0");
}
END_TEST

START_TEST(corosync_conf_has_one_keyword_per_line)
{
    slurp("nodes/n1/etc/corosync/corosync.conf");
    ck_assert_ptr_nonnull(strstr(text, "\n    token: 300\n    token_coefficient: 0\n"));
    ck_assert_ptr_nonnull(strstr(text, "\n    crypto_cipher: aes256\n"));
    ck_assert_ptr_nonnull(strstr(text, "\n    sched_rr: no\n"));
    ck_assert_ptr_null(strstr(text, "two_node"));
    for (char *line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n")) {
        const char *bracket = strchr(line, '{');
        ck_assert_msg(bracket == NULL || bracket[1] == '\0', "%s", line);
    }
}
END_TEST

START_TEST(two_nodes_are_a_two_node_cluster)
{
    struct lab_path path;

    lab.node_count = 2;
    ck_assert_int_eq(lab_write_tree(&lab, &path), 0);
    slurp("nodes/n1/etc/corosync/corosync.conf");
    ck_assert_ptr_nonnull(strstr(text, "\n    two_node: 1\n"));
}
END_TEST

START_TEST(the_key_is_the_same_on_every_node)
{
    static char other[1024];

    slurp("nodes/n1/etc/corosync/authkey");
    ck_assert_int_gt(
        lab_read_file(scratch_path("nodes/n3/etc/corosync/authkey"), other, sizeof other),
        128);
    ck_assert_str_eq(text, other);
}
END_TEST

START_TEST(the_ruleset_drops_what_it_should)
{
    struct lab_fault fault = {
        .node_count = 3, .dark = {true}, .link = {[1] = LAB_LINK_ONEWAY_OUT}};
    struct lab_text rules = {0};

    fault.cut[0][2] = fault.vm_cut[2][0] = fault.bmc_cut[1][2] = true;
    lab_nft(&fault, &rules);
    ck_assert_ptr_nonnull(
        strstr(rules.buf, "iifname { \"cl-n1\", \"bmc-n1\", \"vm-n1\" } drop"));
    ck_assert_ptr_nonnull(strstr(rules.buf, "oifname \"cl-n2\" ether type != arp drop"));
    ck_assert_ptr_nonnull(strstr(rules.buf, "iifname \"cl-n1\" oifname \"cl-n3\" drop"));
    ck_assert_ptr_null(strstr(rules.buf, "iifname \"cl-n3\" oifname \"cl-n1\" drop"));
    ck_assert_ptr_nonnull(strstr(rules.buf, "iifname \"vm-n3\" oifname \"vm-n1\" drop"));
    ck_assert_ptr_nonnull(
        strstr(rules.buf, "iifname \"bmc-n2\" ip daddr 10.79.0.103 drop"));
    ck_assert_ptr_null(strstr(rules.buf, "hook output"));
    lab_text_free(&rules);
}
END_TEST

START_TEST(numbers_are_read_strictly)
{
    static const char *const bad[] = {
        "", " 1", "1 ", "-1", "+1", "0x1", "1e3", "99999999999999999999", "4", "11"};
    unsigned v = 77;

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ck_assert_msg(!lab_number(bad[i], 5, 10, &v), "%s", bad[i]);
    }
    ck_assert_uint_eq(v, 77);
    ck_assert(lab_number("5", 5, 10, &v) && v == 5 && lab_number("10", 5, 10, &v) &&
              v == 10);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("lab_conf");
    TCase *t = tcase_create("all");

    tcase_add_checked_fixture(t, setup, scratch_teardown);
    tcase_add_test(t, lab_json_comes_back);
    tcase_add_loop_test(t, a_damaged_lab_json_is_refused, 0,
                        (int)(sizeof damaged / sizeof damaged[0]));
    tcase_add_test(t, the_cluster_definition_is_valid);
    tcase_add_test(t, the_node_definition_is_valid);
    tcase_add_test(t, corosync_conf_has_one_keyword_per_line);
    tcase_add_test(t, two_nodes_are_a_two_node_cluster);
    tcase_add_test(t, the_key_is_the_same_on_every_node);
    tcase_add_test(t, the_ruleset_drops_what_it_should);
    tcase_add_test(t, numbers_are_read_strictly);
    suite_add_tcase(s, t);
    return s;
}

UNIT_MAIN(suite)
