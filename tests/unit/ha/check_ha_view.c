/* SPDX-License-Identifier: Apache-2.0 */
#include "ha/ha_view.h"
#include "tests/unit/unit.h"

static const uint32_t three[] = {3, 1, 2}, two[] = {2, 3};
static const struct ha_ring ring_a = {1, 8}, ring_b = {2, 12};

static void agree(struct ha_view_tracker *t, struct ha_ring ring, const uint32_t *nodes,
                  unsigned count)
{
    ha_view_group(t, nodes, count);
    ha_view_totem(t, ring, nodes, count);
    ha_view_nodelist(t, ring, nodes, count);
    ha_view_quorum(t, ring, true, 2);
}

START_TEST(nothing_is_agreed_before_all_spoke)
{
    struct ha_view_tracker t = {0};

    ha_view_group(&t, three, 3);
    ck_assert(!t.view.agreed);
    ha_view_totem(&t, ring_a, three, 3);
    ck_assert(!t.view.agreed);
    ha_view_nodelist(&t, ring_a, three, 3);
    ck_assert(!t.view.agreed);
    ck_assert(ha_view_quorum(&t, ring_a, true, 2));
    ck_assert(t.view.agreed && t.view.quorate);
    ck_assert_uint_eq(t.view.member_count, 3);
    ck_assert_uint_eq(t.view.member[0], 1);
    ck_assert_uint_eq(t.view.member[2], 3);
}
END_TEST

/* The same four stories of a new ring, in every order: never agreed on a mixture, agreed
 * at the end. */
START_TEST(every_order_of_the_stories)
{
    int order[4] = {_i / 64 % 4, _i / 16 % 4, _i / 4 % 4, _i % 4};
    struct ha_view_tracker t = {0};
    bool told[4] = {false};
    int count = 0;

    agree(&t, ring_a, three, 3);
    for (int i = 0; i < 4; i++) {
        switch (order[i]) {
        case 0:
            ha_view_group(&t, two, 2);
            break;
        case 1:
            ha_view_totem(&t, ring_b, two, 2);
            break;
        case 2:
            ha_view_nodelist(&t, ring_b, two, 2);
            break;
        default:
            ha_view_quorum(&t, ring_b, true, 2);
            break;
        }
        told[order[i]] = true;
        count = told[1] + told[2] + told[3];
        if (count == 1 || count == 2) {
            ck_assert(!t.view.agreed);
            ck_assert(!t.view.quorate);
        } else {
            ck_assert(t.view.agreed);
        }
    }
    if (count == 3) {
        ck_assert(ha_ring_equal(t.view.ring, ring_b));
        ck_assert(!ha_view_has(&t.view, 1));
    }
}
END_TEST

START_TEST(ghosts_fall_out)
{
    static const uint32_t with_ghost[] = {1, 2, 3, 7};
    struct ha_view_tracker t = {0};

    agree(&t, ring_a, three, 3);
    ha_view_group(&t, with_ghost, 4);
    ck_assert_uint_eq(t.view.member_count, 3);
    ck_assert(!ha_view_has(&t.view, 7));
}
END_TEST

START_TEST(losing_corosync_loses_quorum)
{
    struct ha_view_tracker t = {0};

    agree(&t, ring_a, three, 3);
    ck_assert(ha_view_lost(&t));
    ck_assert(!t.view.agreed && !t.view.quorate);
}
END_TEST

START_TEST(too_many_members_are_no_view)
{
    struct ha_view_tracker t = {0};
    uint32_t many[NODES_MAX + 1];

    for (uint32_t i = 0; i <= NODES_MAX; i++) {
        many[i] = i + 1;
    }
    agree(&t, ring_a, many, NODES_MAX + 1);
    ck_assert(!t.view.agreed && !t.view.quorate);
    agree(&t, ring_b, many, NODES_MAX);
    ck_assert(t.view.agreed);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("ha_view");
    TCase *tc = tcase_create("view");

    tcase_add_test(tc, nothing_is_agreed_before_all_spoke);
    tcase_add_loop_test(tc, every_order_of_the_stories, 0, 256);
    tcase_add_test(tc, ghosts_fall_out);
    tcase_add_test(tc, losing_corosync_loses_quorum);
    tcase_add_test(tc, too_many_members_are_no_view);
    suite_add_tcase(s, tc);
    return s;
}

UNIT_MAIN(suite)
