#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The lab itself: a cluster comes up, a power cut is one, nothing is left.
# shellcheck disable=SC2016,SC1091 # what stands in single quotes is for eval, or for a shell in a node
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/lib.sh"

lab_begin

host_links() {
    ip -br link | awk '{ print $1 }' | sort
}

# Namespaces of every process of a lab, but the machine's own: the hub sees exactly the lab's processes.
lab_namespaces() {
    # shellcheck disable=SC2016 # for the shell in the hub
    lab "$1" exec hub -- sh -c 'readlink /proc/[0-9]*/ns/* 2>/dev/null' | sort -u |
        grep -vxFf <(readlink /proc/self/ns/*)
}

ticks() { awk '{ print int($1 * 100) }' /proc/uptime; } # as in /proc/PID/stat

# none_in FILE [TICKS]: no process of this machine that began before is in one of the namespaces of the file. One that began later is
# another lab's, beside this one: their numbers are used again.
none_in() {
    local pid
    # shellcheck disable=SC2013 # words
    ! for pid in $(awk -v before="${2:-1e18}" '{ pid = $1; sub(/.*\) /, ""); if ($20 + 0 < before + 0) print pid }' /proc/[0-9]*/stat 2>/dev/null); do
        readlink "/proc/$pid"/ns/* 2>/dev/null
    done | grep -xFf "$1"
}

no_mounts_below() {
    ! grep -F " $1" /proc/self/mounts
}

write_files() {
    # synced: fsynced; lost: not; both: first half fsynced, then changed
    # shellcheck disable=SC2016
    lab a exec n1 -- sh -c '
        cd "$1" || exit 1
        echo synced >synced && sync synced || exit 1
        echo first >both && sync both && sync . || exit 1
        echo second >both; echo lost >lost
        [ "$(cat both)" = second ] && [ "$(cat lost)" = lost ]' sh "$1"
}

links_before=$(host_links)
begin=$(now_ms)
check "up: three nodes are quorate" lab a up --no-agents || {
    tap_end
    exit 1
}
up_ms=$(($(now_ms) - begin))
note "up_ms=$up_ms"
check "up takes less than 15 s" test "$up_ms" -lt 15000
check_rc 1 "a second up in the same directory is refused" lab a up --no-agents
check "every node sees three" together a
check_rc 7 "exec passes the exit code on" lab a exec n1 -- sh -c 'exit 7'
check "each node has its own host name" equal "$(lab a exec n2 -- hostname)" n2
boot1=$(lab a exec n1 -- cat /proc/sys/kernel/random/boot_id)
check "a node's boot id is its own" eval '[ "$boot1" != "$(cat /proc/sys/kernel/random/boot_id)" ] &&
    [ "$boot1" != "$(lab a exec n2 -- cat /proc/sys/kernel/random/boot_id)" ]'
check "corosync encrypts" eval 'lab a exec n1 -- corosync-cmapctl totem.crypto_cipher | grep -q aes256'
check "a node sees only its own processes" equal \
    "$(lab a exec n1 -- sh -c 'set -- /proc/[0-9]*; echo $#')" 3 # labinit, corosync, this sh

check "the BMC says on" eval 'fence a n2 1 status'
check "write and fsync: shared directory" write_files /srv/gemel
check "write and fsync: the node's own state" write_files /var/lib/gemel
check "another node sees what is durable, and only that" equal \
    "$(lab a exec n2 -- sh -c 'cd /srv/gemel; cat synced both lost')" "$(printf 'synced\nfirst')"

# A connection into the node that is cut off: its other end is to hear silence, neither FIN nor RST.
server='import socket; s = socket.create_server(("", 7777)); c, _ = s.accept(); c.recv(1)'
lab a exec n2 -- timeout 60 python3 -c "$server" &
server_pid=$!
wait_for 5 lab a exec n2 -- sh -c 'ss -Hltn "sport = :7777" | grep -q 7777' || true
lab a exec n1 -- bash -c 'exec 9<>/dev/tcp/10.78.0.2/7777; sleep 60' 2>/dev/null &
established() {
    lab a exec n2 -- ss -Htn state established '( sport = :7777 )' | grep -q 7777
}
check "a connection between two nodes" wait_for 5 established

begin=$(now_ms)
check "power off" lab a power n1 off
off_ms=$(($(now_ms) - begin))
note "power_off_ms=$off_ms (as the command), $(jq -r 'select(.event=="off").detail' "$LAB_SCRATCH/a/log/events.jsonl" | tail -1) (as the switch)"
check "the other end of its connection is told nothing" established
check_rc 125 "exec in a node that is off is refused" lab a exec n1 -- true
check_rc 2 "the BMC of a node without power says off" fence a n2 1 status
check "corosync sees that it is gone" eval 'wait_for 10 members_are a n2 2 && wait_for 10 members_are a n3 2'
check "fence off, off already" fence a n2 1 off

check "power on" lab a power n1 on
check "nor does the old connection say goodbye when the node is back" established
kill "$server_pid"
check "it has a new boot id" not equal "$(lab a exec n1 -- cat /proc/sys/kernel/random/boot_id)" "$boot1"
for dir in /srv/gemel /var/lib/gemel; do
    check "what was fsynced is there, the rest is not: $dir" equal \
        "$(lab a exec n1 -- sh -c 'cd "$1"; cat synced both lost 2>/dev/null' sh "$dir")" "$(printf 'synced\nfirst')"
done
check "it joins again" wait_for 20 together a

begin=$(now_ms)
check "fence_ipmilan off from another node succeeds" fence a n3 1 off
note "fence_ms=$(($(now_ms) - begin)) (fence_ipmilan, power_wait=0)"
check "and the node is off" equal "$(lab_json a '.nodes[0].power')" off
check "fence_ipmilan on switches it on" fence a n3 1 on
check "it joins again" wait_for 20 together a

check "a second lab at the same time" lab b up --no-agents --nodes 2 --profile fast
check "two nodes with two_node" eval 'members_are b n1 2 && lab b exec n1 -- corosync-quorumtool -s | grep -q 2Node'
check "the labs do not see each other" eval 'together a && together b'
lab_namespaces a >"$LAB_SCRATCH/ns"
lab_namespaces b >>"$LAB_SCRATCH/ns"
pids="$(jq .pid "$LAB_SCRATCH/a/lab.json") $(jq .pid "$LAB_SCRATCH/b/lab.json")"
check "the labs' namespaces were found" test "$(wc -l <"$LAB_SCRATCH/ns")" -ge 25
check "and have processes in them" not none_in "$LAB_SCRATCH/ns"

begin=$(now_ms)
check "down" lab a down
note "down_ms=$(($(now_ms) - begin))"
check "the other lab lives" members_are b n1 2
check "down, the other" lab b down
check "no process is in a namespace of theirs" wait_for 10 none_in "$LAB_SCRATCH/ns" "$(ticks)"
for pid in $pids; do
    check "their supervisor $pid is gone" wait_for 30 test ! -e "/proc/$pid"
done
check "no mount" no_mounts_below "$LAB_SCRATCH"
check "no link" equal "$(host_links)" "$links_before"
check "no file" equal "$(ls -A "$LAB_SCRATCH")" ns
check_rc 7 "there is no lab any more" lab a status
rm -f "$LAB_SCRATCH/ns"

# Failure half-way: corosync cannot start; and an up that is interrupted.
mkdir "$LAB_SCRATCH/bin"
cp "$LAB_BIN" "$LAB_SCRATCH/bin/gemel-lab"
printf '#!/bin/sh\nexit 1\n' >"$LAB_SCRATCH/bin/corosync"
chmod +x "$LAB_SCRATCH/bin/corosync"
check_rc 5 "up fails when corosync does not start" env GEMEL_LAB_QUORUM_MS=2000 "$LAB_SCRATCH/bin/gemel-lab" \
    --dir "$LAB_SCRATCH/c" up --no-agents
check "and leaves nothing" eval '[ ! -e "$LAB_SCRATCH/c" ] && no_mounts_below "$LAB_SCRATCH/c"'
for signal in INT TERM KILL; do
    "$LAB_SCRATCH/bin/gemel-lab" --dir "$LAB_SCRATCH/c" up --no-agents >/dev/null 2>&1 &
    up=$!
    wait_for 10 test -e "$LAB_SCRATCH/c/nodes/n2/log/gemel-labinit.log" >/dev/null
    pid=$(jq .pid "$LAB_SCRATCH/c/lab.json")
    kill "-$signal" "$up"
    wait "$up" 2>/dev/null
    if [ "$signal" = KILL ]; then
        check "up killed: its processes end" wait_for 20 test ! -e "/proc/$pid"
        check "down removes what is left" lab c down
    else
        check "up stopped by SIG$signal: its processes end" wait_for 20 test ! -e "/proc/$pid"
    fi
    check "up stopped by SIG$signal leaves nothing" test ! -e "$LAB_SCRATCH/c"
done
rm -rf "${LAB_SCRATCH:?}/bin"

# The supervisor dies; and a record that names somebody else's process.
check "up" lab d up --no-agents --nodes 2
lab_namespaces d >"$LAB_SCRATCH/ns"
kill -KILL "$(jq .pid "$LAB_SCRATCH/d/lab.json")"
check "without its supervisor nothing of a lab lives" wait_for 10 none_in "$LAB_SCRATCH/ns" "$(ticks)"
check_rc 7 "and status says so" lab d status
sleep 300 &
other=$!
check "down" eval 'jq ".pid = $other" "$LAB_SCRATCH/d/lab.json" >"$LAB_SCRATCH/json" &&
    cp "$LAB_SCRATCH/json" "$LAB_SCRATCH/d/lab.json" && lab d down'
check "a process that only has the pid of the record is spared" kill -0 "$other"
kill "$other"
check "no file" test ! -e "$LAB_SCRATCH/d"
rm -f "$LAB_SCRATCH/ns" "$LAB_SCRATCH/json"
tap_end
