#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Each tests/golden/policy/NAME/view gives exactly NAME/expect (diff -u). UPDATE=1 writes them anew: read the diff before you commit it.
# Run by make check.
srcdir=${srcdir:-.}
builddir=${builddir:-.}
n=0
bad=0
for dir in "$srcdir"/tests/golden/policy/*/; do
    name=$(basename "$dir")
    n=$((n + 1))
    got=$("$builddir/tests/golden/policy_run" <"$dir/view" 2>&1)
    [ -z "${UPDATE:-}" ] || printf '%s\n' "$got" >"$dir/expect"
    if printf '%s\n' "$got" | diff -u "$dir/expect" - >/dev/null; then
        echo "ok $n - $name"
    else
        bad=$((bad + 1))
        echo "not ok $n - $name"
        printf '%s\n' "$got" | diff -u "$dir/expect" - | sed 's/^/# /'
    fi
done
echo "1..$n"
[ "$n" -gt 0 ] && [ "$bad" = 0 ]
