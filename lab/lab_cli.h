/* SPDX-License-Identifier: Apache-2.0 */
/* The command gemel-lab: a table of verbs. Exit codes as gemel: 0 done, 1 failed, 2
 * usage, 3 not found, 5 timed out, 7 no lab. */
#pragma once

int lab_main(int argc, char *argv[]);
