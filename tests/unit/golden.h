/* SPDX-License-Identifier: Apache-2.0 */
/* Golden bytes under tests/golden: written once, never changed, readable by every later
 * version. For unit tests. */
#pragma once

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

/* Reads $srcdir/tests/golden/NAME into memory of exactly its size, so that ASan sees a
 * read past its end. */
static inline unsigned char *golden_load(const char *name, size_t *ret_len)
{
    const char *srcdir = getenv("srcdir");
    char path[4096];
    unsigned char *buf;
    long len;
    FILE *f;

    snprintf(path, sizeof path, "%s/tests/golden/%s", srcdir != NULL ? srcdir : ".",
             name);
    f = fopen(path, "rb");
    ck_assert_msg(f != NULL, "cannot open %s: set srcdir to the top of the source tree",
                  path);
    ck_assert_int_eq(fseek(f, 0, SEEK_END), 0);
    len = ftell(f);
    ck_assert_int_gt(len, 0);
    rewind(f);
    buf = malloc((size_t)len);
    ck_assert_ptr_nonnull(buf);
    ck_assert_uint_eq(fread(buf, 1, (size_t)len, f), (size_t)len);
    fclose(f);
    *ret_len = (size_t)len;
    return buf;
}
