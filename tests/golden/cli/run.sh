#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Transcripts of the command line: NAME.test holds "$ command" lines, each with what it prints (both streams) and
# "[exit N]". This runs the commands and compares. UPDATE=1 writes what they print now. Lines without $ before the
# first command are comment. Commands run in this directory; `gemel` is the one that was built, $T an empty directory.
set -u
here=$(cd "$(dirname "$0")" && pwd)
built=${builddir:?run by make check, or set builddir}
work=$(mktemp -d)
agent=
cleanup() {
    if [ -n "$agent" ]; then
        kill "$agent" 2>/dev/null
        wait "$agent" 2>/dev/null
    fi
    rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 1' INT TERM HUP

# The real server behind canned answers. Its stdin is a pipe that we hold: it ends with us.
export GEMEL_SERVICE="gemel-test-$$"
mkdir "$work/answers"
cp "$here"/replies/* "$work/answers/"
echo "{\"socket\":\"$work/answers/console.sock\"}" >"$work/answers/vm_console.json"
# A list far too long for one message: 10,000 VMs.
awk 'BEGIN { for (i = 0; i < 10000; i++) {
    printf "%s{\"name\":\"vm%04d\",\"desired\":\"running\",\"state\":\"running\",\"node\":\"n1\",\"epoch\":1,\"since_ms\":1000,\"reason\":\"\303\244\303\244\"}", \
        (i == 0 ? "{\"vms\":[" : ","), i } print "]}" }' >"$work/answers/vm_list.json"
mkfifo "$work/hold" "$work/ready"
"$built/tests/fake/fake_gemeld" "$GEMEL_SERVICE" "$work/answers" <"$work/hold" >"$work/ready" 2>"$work/agent.log" &
agent=$!
exec 3>"$work/hold"
read -r _ <"$work/ready" || { echo "Bail out! the fake agent did not start: $(cat "$work/agent.log")"; exit 1; }

export PATH="$built:$PATH" TZ=UTC LC_ALL=C TERM=dumb
unset NO_COLOR
cd "$here" || exit 1
tests=(*.test)
echo "1..${#tests[@]}"
n=0
failed=0
for test in "${tests[@]}"; do
    n=$((n + 1))
    export T="$work/t$n"
    mkdir "$T"
    rm -f "$work/answers/requests"
    export REQUESTS="$work/answers/requests"
    grep -v '^\$ ' "$test" | sed '/^$/q' | grep '^#' >"$work/have"
    commands=0
    while IFS= read -r line; do
        commands=$((commands + 1))
        printf '\n$ %s\n' "$line" >>"$work/have"
        bash -c "$line" >"$work/out" 2>&1 3>&- </dev/null
        code=$?
        sed "s#$T#\$T#g" "$work/out" >>"$work/have"
        echo "[exit $code]" >>"$work/have"
    done < <(sed -n 's/^\$ //p' "$test")
    if [ -n "${UPDATE:-}" ]; then
        cp "$work/have" "$test"
    fi
    if [ "$commands" -gt 0 ] && diff -u "$test" "$work/have" >"$work/diff"; then
        echo "ok $n - ${test%.test}, $commands commands"
    else
        echo "not ok $n - ${test%.test}"
        sed 's/^/# /' "$work/diff"
        failed=1
    fi
done
exit $failed
