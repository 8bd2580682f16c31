#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Each tests/golden/bench/NAME/runs gives exactly the figures NAME/expect (diff -u). UPDATE=1 writes them anew: read
# the diff before you commit it. Run by make check.
srcdir=${srcdir:-.}
n=0
bad=0
command -v jq >/dev/null || { echo "1..0 # SKIP jq is not installed (ci/deps)" && exit 0; }
for dir in "$srcdir"/tests/golden/bench/*/; do
    n=$((n + 1))
    got=$(jq -c -s --arg peer peer -f "$srcdir/tests/bench/failover.jq" "$dir/runs" 2>&1)
    [ -z "${UPDATE:-}" ] || printf '%s\n' "$got" >"$dir/expect"
    if printf '%s\n' "$got" | diff -u "$dir/expect" - >/dev/null; then
        echo "ok $n - $(basename "$dir")"
    else
        bad=$((bad + 1))
        echo "not ok $n - $(basename "$dir")"
        printf '%s\n' "$got" | diff -u "$dir/expect" - | sed 's/^/# /'
    fi
done
echo "1..$n"
[ "$n" -gt 0 ] && [ "$bad" = 0 ]
