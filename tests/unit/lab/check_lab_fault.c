/* SPDX-License-Identifier: Apache-2.0 */
#include "lab/lab_fault.h"

#include <string.h>

#include "tests/unit/unit.h"

START_TEST(nodes_are_named_n1_to_n5)
{
    ck_assert_int_eq(lab_fault_node(3, "n1", 2), 0);
    ck_assert_int_eq(lab_fault_node(3, "n3", 2), 2);
    ck_assert_int_eq(lab_fault_node(3, "n4", 2), -1);
    ck_assert_int_eq(lab_fault_node(3, "n0", 2), -1);
    ck_assert_int_eq(lab_fault_node(3, "m1", 2), -1);
    ck_assert_int_eq(lab_fault_node(3, "n11", 3), -1);
    ck_assert_int_eq(lab_fault_node(3, "", 0), -1);
}
END_TEST

START_TEST(groups_are_read)
{
    unsigned group[LAB_NODES_MAX];

    ck_assert_int_eq(lab_fault_groups("n1 / n2,n3", 3, group), LAB_FAULT_OK);
    ck_assert_uint_eq(group[0], 1);
    ck_assert_uint_eq(group[1], 2);
    ck_assert_uint_eq(group[2], 2);
    ck_assert_int_eq(lab_fault_groups("n3/n1/n5", 5, group), LAB_FAULT_OK);
    ck_assert_uint_eq(group[0], 2);
    ck_assert_uint_eq(group[1], 0);
    ck_assert_uint_eq(group[2], 1);
    ck_assert_uint_eq(group[4], 3);
}
END_TEST

static const struct {
    const char *text;
    enum lab_fault_reason reason;
} refused[] = {
    {"", LAB_FAULT_NO_GROUPS},
    {"n1", LAB_FAULT_NO_GROUPS},
    {"n1,n2,n3", LAB_FAULT_NO_GROUPS},
    {"/", LAB_FAULT_EMPTY_GROUP},
    {"n1 /", LAB_FAULT_EMPTY_GROUP},
    {"/ n1", LAB_FAULT_EMPTY_GROUP},
    {"n1 // n2", LAB_FAULT_EMPTY_GROUP},
    {"n1 / n4", LAB_FAULT_UNKNOWN_NODE},
    {"n1 / n2x", LAB_FAULT_UNKNOWN_NODE},
    {"n1 / n1", LAB_FAULT_TWICE},
    {"n1,n1 / n2", LAB_FAULT_TWICE},
};

START_TEST(bad_groups_change_nothing)
{
    unsigned group[LAB_NODES_MAX] = {7, 7, 7, 7, 7};

    ck_assert_int_eq(lab_fault_groups(refused[_i].text, 3, group), refused[_i].reason);
    for (unsigned i = 0; i < LAB_NODES_MAX; i++) {
        ck_assert_uint_eq(group[i], 7);
    }
}
END_TEST

START_TEST(groups_are_cut_both_ways)
{
    bool cut[LAB_NODES_MAX][LAB_NODES_MAX] = {{false}};
    unsigned group[LAB_NODES_MAX];

    ck_assert_int_eq(lab_fault_groups("n1 / n2,n3", 4, group), LAB_FAULT_OK);
    lab_fault_cut_groups(cut, group);
    ck_assert(cut[0][1] && cut[1][0] && cut[0][2] && cut[2][0]);
    ck_assert(!cut[1][2] && !cut[2][1] && !cut[0][0]);
    ck_assert(!cut[3][0] && !cut[0][3]);
}
END_TEST

START_TEST(healing_leaves_the_power)
{
    struct lab_fault fault = {.node_count = 3, .dark = {true}, .link = {LAB_LINK_DOWN}};

    fault.cut[0][1] = fault.vm_cut[0][1] = fault.bmc_cut[0][1] = fault.storage_cut[0] =
        true;
    lab_fault_heal(&fault);
    ck_assert(fault.dark[0] && fault.node_count == 3);
    ck_assert_int_eq(fault.link[0], LAB_LINK_UP);
    ck_assert(!fault.cut[0][1] && !fault.vm_cut[0][1] && !fault.bmc_cut[0][1] &&
              !fault.storage_cut[0]);
}
END_TEST

START_TEST(links_have_names)
{
    enum lab_link link = LAB_LINK_UP;

    for (enum lab_link want = LAB_LINK_UP; want <= LAB_LINK_ONEWAY_OUT; want++) {
        ck_assert_int_eq(lab_fault_link(lab_link_str(want), &link), LAB_FAULT_OK);
        ck_assert_int_eq(link, want);
    }
    ck_assert_int_eq(lab_fault_link("sideways", &link), LAB_FAULT_UNKNOWN_LINK);
    ck_assert_int_eq(link, LAB_LINK_ONEWAY_OUT);
    ck_assert_int_eq(lab_fault_link("oneway", &link), LAB_FAULT_OK);
    ck_assert_int_eq(link, LAB_LINK_ONEWAY_IN);
    ck_assert_str_eq(lab_fault_reason_str(LAB_FAULT_OK), "ok");
    ck_assert_str_eq(lab_fault_reason_str((enum lab_fault_reason)99), "unknown");
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("lab_fault");
    TCase *t = tcase_create("all");

    tcase_add_test(t, nodes_are_named_n1_to_n5);
    tcase_add_test(t, groups_are_read);
    tcase_add_loop_test(t, bad_groups_change_nothing, 0,
                        (int)(sizeof refused / sizeof refused[0]));
    tcase_add_test(t, groups_are_cut_both_ways);
    tcase_add_test(t, healing_leaves_the_power);
    tcase_add_test(t, links_have_names);
    suite_add_tcase(s, t);
    return s;
}

UNIT_MAIN(suite)
