# SPDX-License-Identifier: Apache-2.0
# Shared by the tests that need a lab (sourced, bash). A test calls lab_begin, then any of: lab, check, wait_for,
# and at its end tap_end. Every lab it made is taken down when it ends, however it ends.
# shellcheck shell=bash

builddir=${builddir:-${1:-.}}
LAB_BIN=${LAB_BIN:-$builddir/gemel-lab}
LAB_LONG=${LAB_LONG:-0}
tap_count=0
tap_failed=0

# lab NAME VERB...: gemel-lab on the lab of that name
lab() {
    local name=$1
    shift
    "$LAB_BIN" --dir "$LAB_SCRATCH/$name" --prefix "$name" "$@"
}

lab_cleanup() {
    local dir
    for dir in "$LAB_SCRATCH"/*/; do
        [ -e "$dir/lab.json" ] || continue
        if [ "$tap_failed" -gt 0 ] && [ -n "${LAB_LOGS:-}" ]; then
            "$LAB_BIN" --dir "$dir" down --save-logs "$LAB_LOGS/$(basename "$0" .sh)-$(basename "$dir")"
        else
            "$LAB_BIN" --dir "$dir" down
        fi
    done
    [ "${LAB_SCRATCH_OWN:-0}" = 0 ] || rm -rf "$LAB_SCRATCH"
}

# Skips the whole test where no lab can be; otherwise sets traps and the place for labs.
lab_begin() {
    local why=
    [ "$(id -u)" = 0 ] || why="needs root"
    [ -n "$why" ] || [ -x "$LAB_BIN" ] || why="$LAB_BIN is not built"
    [ -n "$why" ] || unshare --mount --net --pid --fork true 2>/dev/null || why="no namespaces on this machine"
    [ -n "$why" ] || [ -c /dev/fuse ] || why="no /dev/fuse"
    local program
    for program in corosync ipmi_sim nft ip fence_ipmilan jq python3; do
        [ -n "$why" ] || command -v "$program" >/dev/null || why="$program is not installed (ci/deps)"
    done
    if [ -n "$why" ]; then
        echo "1..0 # SKIP $why"
        exit 0
    fi
    if [ -z "${LAB_SCRATCH:-}" ]; then
        LAB_SCRATCH=$(mktemp -d "${TMPDIR:-/tmp}/gemel-lab-test.XXXXXX")
        LAB_SCRATCH_OWN=1
    fi
    export LAB_SCRATCH
    trap lab_cleanup EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
}

# check DESCRIPTION COMMAND...: one TAP line; what the command printed follows a failure
check() {
    local what=$1 out
    shift
    tap_count=$((tap_count + 1))
    if out=$("$@" 2>&1); then
        echo "ok $tap_count - $what"
        return 0
    fi
    tap_failed=$((tap_failed + 1))
    echo "not ok $tap_count - $what"
    printf '%s\n' "command: $*" "$out" | tail -n 20 | sed 's/^/# /'
    return 1
}

# check_rc RC DESCRIPTION COMMAND...: the command ends with this code
check_rc() {
    local want=$1 what=$2
    shift 2
    check "$what" rc_is "$want" "$@"
}

rc_is() {
    local want=$1 rc=0
    shift
    "$@" || rc=$?
    [ "$rc" = "$want" ] || {
        echo "exit code $rc, not $want"
        return 1
    }
}

# equal ACTUAL EXPECTED
equal() {
    [ "$1" = "$2" ] || {
        echo "is '$1', not '$2'"
        return 1
    }
}

not() {
    ! "$@"
}

# wait_for SECONDS COMMAND...: until it succeeds
wait_for() {
    local end=$(($(date +%s%N) + $1 * 1000000000))
    shift
    until "$@" >/dev/null 2>&1; do
        if [ "$(date +%s%N)" -gt "$end" ]; then
            echo "still failing: $*"
            "$@"
            return 1
        fi
        sleep 0.05
    done
}

# lab_json NAME FILTER: a value of gemel-lab status --json
lab_json() {
    lab "$1" status --json | jq -r "$2"
}

power_is() {
    equal "$(lab_json "$1" ".nodes[] | select(.name == \"$2\").power")" "$3"
}

# members NAME NODE: how many nodes NODE's corosync sees
members() {
    lab "$1" exec "$2" -- corosync-quorumtool -s 2>/dev/null | awk '/^Nodes:/ { print $2 }'
}

members_are() {
    equal "$(members "$1" "$2")" "$3"
}

# every_node NAME COMMAND...: COMMAND NAME NODE succeeds for every node of the lab
every_node() {
    local name=$1 node
    shift
    for node in $(seq -f n%.0f "$(jq .nodes "$LAB_SCRATCH/$name/lab.json")"); do
        "$@" "$name" "$node" || return 1
    done
}

sees_all() {
    members_are "$1" "$2" "$(jq .nodes "$LAB_SCRATCH/$1/lab.json")"
}

# together NAME: every node of the lab sees all of them
together() {
    every_node "$1" sees_all
}

quorate_is() {
    equal "$(lab "$1" exec "$2" -- corosync-quorumtool -s 2>/dev/null | awk '/^Quorate:/ { print $2 }')" "$3"
}

# fence NAME FROM TARGET_NUMBER ACTION [KEY=VALUE...]: the real agent, as gemel-fenced calls it
fence() {
    local name=$1 from=$2 target=$3 action=$4
    shift 4
    printf '%s\n' "action=$action" "ip=10.79.0.$((100 + target))" ipport=623 lanplus=1 username=admin \
        password=lab-secret cipher=3 power_wait=0 "$@" |
        lab "$name" exec "$from" -- fence_ipmilan
}

now_ms() {
    echo $(($(date +%s%N) / 1000000))
}

# note TEXT: a TAP comment (figures)
note() {
    echo "# $*"
}

tap_end() {
    echo "1..$tap_count"
    [ "$tap_failed" = 0 ]
}
