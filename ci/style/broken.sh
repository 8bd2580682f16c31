#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The style tests themselves: a small tree in which every rule is broken once; each script must say so, and pass when it is
# mended.
. "${srcdir:-.}/ci/style/lib.sh"
cd "$srcdir" || exit 1
CC=${CC:-gcc}
tree=$scratch/tree
mkdir -p "$tree/ci" "$tree/base" "$tree/vmm" "$tree/ha" "$scratch/build/.libs"
cp -r ci/style "$tree/ci/style"
cp .clang-format "$tree/"

# run NAME: the script's verdicts over the small tree
run() {
    (cd "$tree" && srcdir=$tree builddir=$scratch/build CC=$CC sh "ci/style/$1.sh")
}

# expect_broken NAME WHAT TEXT: the script must fail and name TEXT; expect_clean NAME: it must pass
expect_broken() {
    : >"$scratch/bad"
    if run "$1" >"$scratch/said" 2>&1; then
        echo "$1.sh passed" >"$scratch/bad"
    elif ! grep -q -- "$3" "$scratch/said"; then
        { echo "$1.sh failed, but did not say '$3':" && cat "$scratch/said"; } >"$scratch/bad"
    fi
    tap_result "$1.sh notices $2" "$scratch/bad"
}
expect_clean() {
    if run "$1" >"$scratch/said" 2>&1; then
        : >"$scratch/said"
    fi
    tap_result "$1.sh is content with clean code" "$scratch/said"
}

spdx='/* SPDX-License-Identifier: Apache-2.0 */'
source_file() {
    printf '%s\n' "$spdx" "$2" >"$tree/$1"
}

source_file base/good.h '#pragma once'
source_file vmm/good.c '#include "base/good.h"'
expect_clean layers
source_file base/up.c '#include "vmm/dev.h"'
expect_broken layers "an include that points up" 'base/up.c:2'
source_file base/up.c '#include <qb/qbloop.h>'
expect_broken layers "a header of the system out of place" 'use base/loop.h'
source_file base/up.c '#include "good.h"'
expect_broken layers "an include without its folder" 'write the path'
rm "$tree/base/up.c"
source_file ha/tower.c '#include "vmm/dev.h"'
expect_broken layers "an include across the towers" 'ha/tower.c:2'
rm "$tree/ha/tower.c"

expect_clean headers
source_file base/alone.h '#pragma once
size_t forgotten(void);'
expect_broken headers "a header that needs another" 'alone.h does not compile'
source_file base/alone.h 'typedef int once_only;'
expect_broken headers "a header without a guard" 'no #pragma once'
rm "$tree/base/alone.h"

if command -v clang-format >/dev/null; then
    expect_clean format
    source_file base/ugly.c 'int  x ;'
    expect_broken format "bad format" 'base/ugly.c'
    rm "$tree/base/ugly.c"
fi

expect_clean banned
while read -r call; do
    source_file base/call.c "void f(void) { $call; }"
    expect_broken banned "$call" 'base/call.c:2'
done <<'T'
strcpy(a, b)
strcat(a, b)
strncpy(a, b, 3)
sprintf(a, "x")
system("x")
popen("x", "r")
atoi(s)
time(NULL)
gettimeofday(&tv, NULL)
clock_gettime(CLOCK_REALTIME, &ts)
qb_loop_job_add(l, p, d, f)
assert(x)
T
source_file base/call.c '/* strcpy( in a comment */ const char *s = "system(";'
expect_clean banned
echo 'int x;' >"$tree/base/call.c"
expect_broken banned "a source without licence" 'has no SPDX'
source_file base/call.c 'const char *p = "/ho''me/somebody";'
expect_broken banned "a path of somebody's machine" 'base/call.c:2:'
rm "$tree/base/call.c"

# pure CODE: a core of this one function
core() {
    printf '%s\n' "$1" >"$scratch/core.c"
    rm -f "$scratch/build/.libs/libbase_core.a"
    $CC -c -w -o "$scratch/core.o" "$scratch/core.c" &&
        ar rc "$scratch/build/.libs/libbase_core.a" "$scratch/core.o"
}
echo 'noinst_LTLIBRARIES += libbase_core.la' >"$tree/base/folder.mk"
expect_broken purity "a core that was not built" 'is not built'
core '#include <string.h>
static const char *const names[] = {"a", "b"};
void base_panic(void);
int f(const char *s, int i) { if (i > 1) base_panic(); return strcmp(s, names[i]); }'
expect_clean purity
core '#include <stdlib.h>
void *f(void) { return malloc(3); }'
expect_broken purity "an allocation in a core" 'needs malloc'
core '#include <time.h>
int f(struct timespec *t) { return clock_gettime(CLOCK_MONOTONIC, t); }'
expect_broken purity "a clock in a core" 'needs clock_gettime'
core 'int f(void) { static int calls; return ++calls; }'
expect_broken purity "state in a core" 'has the variable calls'
tap_end
