/* SPDX-License-Identifier: Apache-2.0 */
/*
 * main() of a unit test program: UNIT_MAIN(suite_fn), where suite_fn() makes the Suite.
 * TAP on stdout for `make check`; exits 0 only when every test ran and passed. CK_FORK=no
 * for gdb, CK_RUN_CASE=name for one case.
 */
#pragma once

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

static inline int unit_main(Suite *suite)
{
    SRunner *runner = srunner_create(suite);
    int run, failed;

    srunner_set_tap(runner, "-");
    srunner_run_all(runner, CK_SILENT);
    run = srunner_ntests_run(runner);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    if (run == 0) {
        printf("Bail out! no test ran: a suite without tests proves nothing\n");
    }
    return run > 0 && failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

#define UNIT_MAIN(suite_fn)                                                              \
    int main(void)                                                                       \
    {                                                                                    \
        return unit_main(suite_fn());                                                    \
    }
