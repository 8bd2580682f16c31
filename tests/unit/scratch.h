/* SPDX-License-Identifier: Apache-2.0 */
/* A temporary directory for a unit test, removed with everything in it. For fixtures that
 * run in the test's process. */
#pragma once

#include <check.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/unit/temp_path.h"

static char scratch_dir[TEMP_PATH_MAX];

static inline int scratch_remove_one(const char *path, const struct stat *st, int type,
                                     struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static inline void scratch_setup(void)
{
    ck_assert_ptr_nonnull(mkdtemp(temp_path(scratch_dir, "unit")));
}

static inline void scratch_teardown(void)
{
    nftw(scratch_dir, scratch_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* In a buffer of its own per call site pair: two results may be used at once. */
static inline const char *scratch_path(const char *name)
{
    static char path[4][TEMP_PATH_MAX + 64];
    static unsigned next;
    char *p = path[next++ % 4];

    snprintf(p, sizeof path[0], "%s/%s", scratch_dir, name);
    return p;
}
