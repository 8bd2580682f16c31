/* SPDX-License-Identifier: Apache-2.0 */
/* Paths of a VM's files, and what went wrong with one: for the shell of snapshots. */
#pragma once

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/limits.h"
#include "ha/ha_text.h"

struct path {
    char s[PATH_LEN_MAX * 5];
};

__attribute__((format(printf, 1, 2))) static inline struct path
path_of(const char *format, ...)
{
    struct path p;
    va_list args;

    va_start(args, format);
    vsnprintf(p.s, sizeof p.s, format, args);
    va_end(args);
    return p;
}

/* `why` has REASON_LEN_MAX + 1 bytes. r, a -errno. */
static inline int complain(char *why, const char *path, int r)
{
    ha_text_set(why, REASON_LEN_MAX + 1, path, ": ", strerror(-r), NULL);
    return r;
}
