/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bug.h"

#include <signal.h>

#include "tests/unit/unit.h"

START_TEST(a_false_condition_does_nothing)
{
    int evaluated = 0;

    BUG_ON(evaluated++ != 0);
    ck_assert_int_eq(evaluated, 1); /* once */
}
END_TEST

START_TEST(a_true_condition_aborts_in_every_build)
{
    BUG_ON(true);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("bug");
    TCase *tc = tcase_create("bug");

    tcase_add_test(tc, a_false_condition_does_nothing);
    tcase_add_test_raise_signal(tc, a_true_condition_aborts_in_every_build, SIGABRT);
    suite_add_tcase(s, tc);
    return s;
}

UNIT_MAIN(suite)
