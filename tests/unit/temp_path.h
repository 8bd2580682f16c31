/* SPDX-License-Identifier: Apache-2.0 */
/* Where tests put what they need for a moment: TMPDIR, which `make check` gives to each
 * test for itself and looks at afterwards (tests/tidy). */
#pragma once

#include <stdio.h>
#include <stdlib.h>

#define TEMP_PATH_MAX 256

/* A template for mkstemp and mkdtemp. */
static inline char *temp_path(char ret_path[TEMP_PATH_MAX], const char *name)
{
    const char *dir = getenv("TMPDIR");

    snprintf(ret_path, TEMP_PATH_MAX, "%s/gemel-%s.XXXXXX", dir && *dir ? dir : "/tmp",
             name);
    return ret_path;
}
