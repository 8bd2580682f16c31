#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The oracles against real machines: one gemel-vmm passes, a hand-over passes with its outage, and two copies on purpose
# must be found out, on the taps and on the disk. Root and /dev/kvm. TAP. usage: two_copies.sh [BUILDDIR]
set -u
build=$(realpath "${1:-${builddir:-.}}")
vmm=$build/gemel-vmm
witness=$build/tests/guest/witness
rom=$build/tests/guest/pulse.rom
mac=52:54:00:67:00:01
ip=10.77.0.2

skip() {
    echo "1..0 # SKIP $*"
    exit 0
}
[ "$(id -u)" = 0 ] || skip "needs root for namespaces and taps"
[ -w /dev/kvm ] || skip "no /dev/kvm"
[ -w /dev/net/tun ] || skip "no /dev/net/tun"
command -v ip >/dev/null || skip "iproute2 is not installed: run ci/deps"
for f in "$vmm" "$witness" "$rom"; do
    [ -e "$f" ] || { echo "Bail out! $f is not built"; exit 1; }
done

dir=$(mktemp -d "${TMPDIR:-/tmp}/gemel-copies.XXXXXX") || exit 1
hub=gm-hub-$$ nodes=("gm-a-$$" "gm-b-$$")
declare -A vm_pid=()
count=0 failures=0 witness_pid=

cleanup() {
    trap - EXIT
    local p ns
    for p in "${vm_pid[@]}" $witness_pid; do
        kill -KILL "$p" 2>/dev/null
    done
    wait 2>/dev/null
    for ns in "$hub" "${nodes[@]}"; do
        ip netns del "$ns" 2>/dev/null
    done
    rm -rf "$dir"
}
trap cleanup EXIT
trap 'exit 130' INT TERM HUP

# A hub with a bridge, where the witness asks; two nodes, each with a bridge that joins its uplink and its tap.
network() {
    local ns n=0
    ip netns add "$hub" && ip -n "$hub" link set lo up && ip -n "$hub" link add br0 type bridge forward_delay 0 &&
        ip -n "$hub" link set br0 up && ip -n "$hub" addr add 10.77.0.1/24 dev br0 || return 1
    for ns in "${nodes[@]}"; do
        n=$((n + 1))
        ip netns add "$ns" && ip -n "$hub" link add "port$n" type veth peer name uplink netns "$ns" &&
            ip -n "$hub" link set "port$n" master br0 up && ip -n "$ns" link add br0 type bridge forward_delay 0 &&
            ip -n "$ns" link set br0 up && ip -n "$ns" link set uplink master br0 up &&
            ip -n "$ns" tuntap add tap0 mode tap && ip -n "$ns" link set tap0 master br0 up || return 1
    done
}

# vm_start NODE DISK
vm_start() {
    ip netns exec "${nodes[$1]}" "$vmm" --name "copy$1" --uuid 67656d65-6c00-4000-8000-000000000001 --machine lockstep \
        --memory 32M --firmware "$rom" --append "ip=$ip rate=20" --disk "path=$2,serial=pulse" \
        --nic "tap=tap0,mac=$mac" --console-log "$dir/console$1.log" --exit-file "$dir/exit$1" \
        --log "$dir/vmm$1.log" --run &
    vm_pid[$1]=$!
}

vm_kill() {
    kill -KILL "${vm_pid[$1]}"
    wait "${vm_pid[$1]}" 2>/dev/null
    unset "vm_pid[$1]"
}

new_disk() {
    rm -f "$1" && truncate -s 4M "$1"
}

watch_start() { # SECONDS
    ip netns exec "$hub" "$witness" --target "$ip" --from br0 --mac "$mac" --seconds "$1" --events \
        --tap "tap*@/run/netns/${nodes[0]}" --tap "tap*@/run/netns/${nodes[1]}" >"$dir/report" 2>"$dir/events" &
    witness_pid=$!
}

watch_end() { # sets $status
    wait "$witness_pid"
    status=$?
    witness_pid=
}

field() { # NAME: a number or word of the report
    sed -n "s/.*\"$1\":\"\{0,1\}\([^,\"}]*\).*/\1/p" "$dir/report" | head -1
}

result() { # NAME PROBLEM
    count=$((count + 1))
    if [ -z "$2" ]; then
        echo "ok $count - $1"
        return
    fi
    failures=$((failures + 1))
    echo "not ok $count - $1"
    echo "# $2"
    sed 's/^/# /' "$dir/report" "$dir/events" "$dir"/vmm*.log 2>/dev/null | tail -30
}

answering() { # waits until the guest's console shows records
    local i
    for i in $(seq 100); do
        grep -q '^seq=' "$dir/console$1.log" 2>/dev/null && return 0
        sleep 0.05
    done
    return 1
}

one_copy() {
    new_disk "$dir/disk"
    watch_start 3
    vm_start 0 "$dir/disk"
    watch_end
    vm_kill 0
    problem=
    [ "$status" = 0 ] || problem="the witness says $(field verdict) (exit $status) of one sound copy"
    [ "$(field answers)" -gt 100 ] || problem="only $(field answers) answers in 3 s"
    result "one copy passes" "$problem"
    echo "# answers $(field answers), outage_ms $(field outage_ms), rtt $(grep -o '"rtt_us":{[^}]*}' "$dir/report")"
    "$witness" check-disk "$dir/disk" --acked "$(field max_acked)" --console "$dir/console0.log" >"$dir/report" 2>&1
    status=$?
    problem=
    [ "$status" = 0 ] || problem="check-disk exit $status"
    result "its disk holds what it acknowledged" "$problem"
}

hand_over() {
    new_disk "$dir/disk"
    rm -f "$dir"/console?.log
    vm_start 0 "$dir/disk"
    answering 0 || result "the guest answers" "nothing on the console"
    watch_start 4
    sleep 1
    vm_kill 0
    sleep 0.5
    vm_start 1 "$dir/disk"
    watch_end
    vm_kill 1
    problem=
    [ "$status" = 0 ] || problem="the witness says $(field verdict) (exit $status) of a sound hand-over"
    grep -q '"boot_changed":true' "$dir/report" || problem="the hand-over was not seen as an outage"
    result "a hand-over passes" "$problem"
    echo "# killed, started elsewhere 500 ms later: outage_ms $(field outage_ms)"
}

two_copies() {
    new_disk "$dir/disk"
    new_disk "$dir/disk2"
    rm -f "$dir"/console?.log
    vm_start 0 "$dir/disk"
    answering 0 || result "the guest answers" "nothing on the console"
    watch_start 3
    sleep 1
    vm_start 1 "$dir/disk2"
    watch_end
    vm_kill 0
    vm_kill 1
    problem=
    [ "$status" = 1 ] || problem="two live copies were not found: exit $status"
    [ "$(field dual_live)" = 1 ] || problem="two live copies were not found: dual_live $(field dual_live)"
    result "two live copies are found" "$problem"
    echo "# overlaps $(field dual_overlaps), lost_acked_writes $(field lost_acked_writes)"
}

lost_write() {
    local acked
    new_disk "$dir/disk"
    rm -f "$dir"/console?.log
    vm_start 0 "$dir/disk"
    answering 0 || result "the guest answers" "nothing on the console"
    watch_start 2
    watch_end
    vm_kill 0
    acked=$(field max_acked)
    problem=
    # A storage that acknowledged a write and lost it: the last acknowledged slot as it was before.
    dd if=/dev/zero of="$dir/disk" bs=4096 count=1 seek=$((acked - 1)) conv=notrunc 2>/dev/null
    "$witness" check-disk "$dir/disk" --acked "$acked" >"$dir/report" 2>&1
    status=$?
    [ "$status" = 1 ] || problem="check-disk exit $status"
    [ "$(field lost_acked_writes)" = 1 ] || problem="lost_acked_writes $(field lost_acked_writes), not 1"
    result "a lost acknowledged write is found" "$problem"
}

network || { echo "Bail out! the network namespaces cannot be made"; exit 1; }
one_copy
hand_over
two_copies
lost_write
echo "1..$count"
[ "$failures" = 0 ]
