/* SPDX-License-Identifier: Apache-2.0 */
/* Running a command in a node, or in the hub (node name "hub": the lab's switch, where
 * witnesses stand). */
#pragma once

#include <stddef.h>

/*
 * Runs argv in every namespace of the node and waits. Returns its exit code, 128 +
 * signal, 125 when it could not be run there (said on stderr unless `output`). With
 * `output` not NULL: stdout goes there, stderr nowhere.
 */
int lab_exec(const char *dir, const char *node, const char *const argv[], char *output,
             size_t cap);
