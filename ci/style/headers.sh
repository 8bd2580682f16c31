#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Every header compiles alone, and twice.
. "${srcdir:-.}/ci/style/lib.sh"
cd "$srcdir" || exit 1
CC=${CC:-gcc}
packages='libqb libprotobuf-c liburing yaml-0.1 json-c fuse3 libcpg check'
# One by one: asked for all of them, pkg-config says nothing when one is missing.
flags=$(for p in $packages; do pkg-config --cflags "$p" 2>/dev/null; done)

compile_alone() {
    # shellcheck disable=SC2086 # CC and flags are lists of words
    printf '#include "%s"\n#include "%s"\n' "$1" "$1" |
        $CC -std=gnu17 -D_GNU_SOURCE -Wall -Wextra -Werror $flags -I. -I"$builddir" -fsyntax-only -x c - 2>&1
}

tracked '*.h' | sed 's|/[^/]*$||' | sort -u >"$scratch/dirs"
while read -r dir; do
    : >"$scratch/bad"
    for header in $(tracked "$dir/*.h" | grep "^$dir/[^/]*\$"); do
        if ! grep -q '^#pragma once' "$header"; then
            echo "$header has no #pragma once" >>"$scratch/bad"
        fi
        if ! compile_alone "$header" >"$scratch/out"; then
            echo "$header does not compile alone:" >>"$scratch/bad"
            head -n 5 "$scratch/out" >>"$scratch/bad"
        fi
    done
    tap_result "headers of $dir/ compile alone" "$scratch/bad"
done <"$scratch/dirs"
tap_end
