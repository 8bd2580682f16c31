#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The ACPI tables of each board are exactly tests/golden/acpi/NAME (diff -u), because a guest that was suspended goes on with
# those it saw. UPDATE=1 writes them anew: read the diff before you commit it. Where iasl is installed, it must also be
# able to disassemble each DSDT and to compile the result without an error. Run by make check.
srcdir=${srcdir:-.}
builddir=${builddir:-.}
run=$builddir/tests/golden/acpi_run
scratch=$(mktemp -d) || exit 1
trap 'rm -rf "$scratch"' EXIT
n=0
bad=0

result() { # NAME FILE: not ok when the file has something in it
    n=$((n + 1))
    if [ -s "$2" ]; then
        bad=$((bad + 1))
        echo "not ok $n - $1"
        sed 's/^/# /' "$2"
    else
        echo "ok $n - $1"
    fi
}

for name in $("$run"); do
    "$run" "$name" >"$scratch/got" 2>&1
    [ -z "${UPDATE:-}" ] || cp "$scratch/got" "$srcdir/tests/golden/acpi/$name"
    diff -u "$srcdir/tests/golden/acpi/$name" "$scratch/got" >"$scratch/diff" 2>&1
    result "$name" "$scratch/diff"
    if ! command -v iasl >/dev/null; then
        n=$((n + 1))
        echo "ok $n - DSDT of $name # SKIP iasl is not installed (acpica-tools, ci/deps)"
        continue
    fi
    : >"$scratch/wrong"
    (
        cd "$scratch" && rm -f dsdt.* && "$run" "$name" dsdt.aml && iasl -d dsdt.aml && iasl -p again dsdt.dsl
    ) >"$scratch/log" 2>&1 || echo "iasl refuses it" >"$scratch/wrong"
    grep -E "^(Error|Could not)|[1-9][0-9]* Errors|Unknown|Invalid" "$scratch/log" >>"$scratch/wrong"
    [ ! -s "$scratch/wrong" ] || cat "$scratch/log" >>"$scratch/wrong"
    result "DSDT of $name" "$scratch/wrong"
done
echo "1..$n"
[ "$n" -gt 0 ] && [ "$bad" = 0 ]
