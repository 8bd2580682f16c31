#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# shellcheck disable=SC2154 # builddir is of lib.sh
# A VM on a qcow2 image, then on a network disk: it survives its node's power-off, its agent's and its server's end; the image holds
# every record.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/vm.sh"
lab_begin
[ -c /dev/kvm ] || { echo "1..0 # SKIP no /dev/kvm"; exit 0; }
for program in qemu-storage-daemon qemu-img qemu-nbd; do
    command -v $program >/dev/null || { echo "1..0 # SKIP $program is not installed (ci/deps)"; exit 0; }
done
L=dk
WITNESS_GAP_MS=100 # it may be back on a node sooner than in a second
image() { echo "$(vm_shared $L)/web1/disk0.qcow2"; }

# The pid of web1's storage daemon on a node; of its gemel-vmm; of the agent
daemon_on() { lab $L exec "$1" -- pgrep -x qemu-storage-da; }
elsewhere() { # THAN: it runs on another node
    local now
    now=$(vm_node $L "$(another "$1")")
    vm_is $L "$(another "$1")" running && [ -n "$now" ] && [ "$now" != "$1" ]
}
another_daemon() { daemon_is_up "$1" && not equal "$(daemon_on "$1")" "$2"; }
copy_is_whole() { qemu-img check -q "$(vm_shared $L)"/web1/snapshots/*/disk0.qcow2; }
daemon_is_up() { [ -n "$(daemon_on "$1")" ]; }
daemon_is_gone() { [ -z "$(daemon_on "$1")" ]; }
unprivileged() { # neither root nor able to become it
    local status
    status=$(lab $L exec "$1" -- cat "/proc/$(daemon_on "$1")/status")
    grep -q '^Uid:.1[89]' <<<"$status" && grep -q '^CapBnd:.0*$' <<<"$status" && grep -q '^NoNewPrivs:.1$' <<<"$status"
}

check "three nodes with agents" lab $L up
mkdir -p "$(vm_shared $L)/web1"
qemu-img create -q -f qcow2 "$(image)" 64M
sed_define() { # vm_define with a qcow2 disk
    truncate -s 512 "$(vm_shared $L)/web1/disk0.img"
    vm_define $L >/dev/null
    sed -i 's/path: disk0.img/path: disk0.qcow2, format: qcow2, on_error: pause/' "$(vm_shared $L)/web1.yaml"
    gemel_at $L n1 vm apply -f /srv/gemel/web1.yaml
}
check "the VM is defined" sed_define
check "the VM starts" gemel_at $L n2 vm start web1 --timeout 30s
check "the guest answers" witness_begin $L
node=$(vm_node $L n1)
check "its storage daemon runs" daemon_is_up "$node"
check "without privileges" unprivileged "$node"

check "power off" lab $L power "$node" off
acked=$(vm_acked $L)
check "the guest goes on" wait_for 30 goes_on $L "$acked"
check "elsewhere" wait_for 30 elsewhere "$node"
dead=$node
node=$(vm_node $L "$(another "$node")")
check "with a storage daemon there" daemon_is_up "$node"
device_worked() { gemel_at $L "$node" status --json | jq -e ".nodes[] | select(.name == \"$dead\") | .fence == \"ok\"" >/dev/null; }
check "the dead node's fence device is told to have worked" device_worked
check "power on" lab $L power "$dead" on
check "the node is a member again" wait_for 40 gemel_at $L "$dead" status

before=$(daemon_on "$node")
check "the agent is killed" lab $L exec "$node" -- pkill -KILL -x gemeld
check "it comes back" wait_for 20 vm_runs_on $L "$node" "$node"
check "the daemon is the same" equal "$(daemon_on "$node")" "$before"
check "the VM is stopped by its power button" gemel_at $L "$node" vm stop web1 --timeout 30s
check "the daemon is gone with it" daemon_is_gone "$node"

tells_what_is_missing() {
    gemel_at $L "$node" events --json | jq -r '.events[].text' | grep -q 'web1: .*there is no qemu-storage-daemon on this node; install'
}
check "a node without the program" lab $L exec "$node" -- mount --bind /dev/null "$(command -v qemu-storage-daemon)"
gemel_at $L "$node" vm start web1 --node "$node" --timeout 30s >/dev/null 2>&1
check "says what is missing" wait_for 10 tells_what_is_missing
check "there or not at all" wait_for 10 vm_is $L "$node" stopped
check "without --node it starts" gemel_at $L "$node" vm start web1 --timeout 60s
check "on another" wait_for 30 elsewhere "$node"
lab $L exec "$node" -- umount "$(command -v qemu-storage-daemon)"
check "stop" gemel_at $L "$node" vm stop web1 --timeout 30s
acked=$(vm_acked $L)
check "the VM starts again" gemel_at $L "$node" vm start web1 --timeout 30s
check "the guest goes on" wait_for 30 goes_on $L "$acked"
node=$(vm_node $L "$node")
before=$(daemon_on "$node")
check "its storage daemon is killed" lab $L exec "$node" -- pkill -KILL -x qemu-storage-da
acked=$(vm_acked $L)
check "another one" wait_for 30 another_daemon "$node" "$before"
check "with which the guest goes on" wait_for 30 goes_on $L "$acked"
check "on the same node" wait_for 30 vm_runs_on $L "$node" "$node"

to=$(another "$node" "$dead")
acked=$(vm_acked $L)
check "it moves to $to while it runs" gemel_at $L "$node" vm migrate web1 "$to" --verify --timeout 60s
check "with a storage daemon there" daemon_is_up "$to"
check "and none here" wait_for 10 daemon_is_gone "$node"
node=$to
check "the guest goes on" wait_for 30 goes_on $L "$acked"
check "a snapshot is taken while it runs" gemel_at $L "$node" vm snapshot web1 --timeout 60s
check "the copy is whole" copy_is_whole
check "and the VM goes on" wait_for 30 vm_runs_on $L "$node" "$node"
check "with a new daemon" wait_for 10 daemon_is_up "$node"
check "suspend" gemel_at $L "$node" vm suspend web1 --timeout 60s
check "the daemon is gone" daemon_is_gone "$node"
acked=$(vm_acked $L)
check "resume, on another node" gemel_at $L "$node" vm resume web1 --node "$dead" --timeout 60s
node=$dead
check "the guest goes on there" wait_for 30 goes_on $L "$acked"

check "gemel-vmm is killed" lab $L exec "$node" -- pkill -KILL -x gemel-vmm
acked=$(vm_acked $L)
check "the VM runs again" wait_for 30 goes_on $L "$acked"
node=$(vm_node $L "$node")
check "the VM is killed" gemel_at $L "$node" vm kill web1 --yes --timeout 30s
check "no daemon is left" daemon_is_gone "$node"
check "the image is whole" qemu-img check -q "$(image)"
check "it converts" qemu-img convert -O raw "$(image)" "$LAB_SCRATCH/nbd.img"

# The same records go on on a network disk, outside of the nodes.
serve() { # its pid is $server
    "$LAB_BIN" --dir "$LAB_SCRATCH/$L" exec hub -- qemu-nbd --persistent --shared=8 --format=raw --bind=10.77.0.1 --port=10809 \
        "$LAB_SCRATCH/nbd.img" 2>>"$LAB_SCRATCH/nbd.log" &
    server=$!
    wait_for 5 lab $L exec hub -- python3 -c 'import socket; socket.create_connection(("10.77.0.1", 10809))' || cat "$LAB_SCRATCH/nbd.log"
}
serve_not() {
    [ -z "$server" ] || kill -KILL "$server"
    wait 2>/dev/null "$server"
    server=
}
server=
trap 'serve_not; lab_cleanup' EXIT
on_network() {
    sed -i 's|path: .*, on_error|path: "nbd://10.77.0.1:10809/", on_error|' "$(vm_shared $L)/web1.yaml"
    gemel_at $L n1 vm apply -f /srv/gemel/web1.yaml
}
names_it() { gemel_at $L n1 vm show web1 --json | jq -e '.disks == "nbd://10.77.0.1:10809/ (NBD)"'; }
serve
check "a network disk instead" on_network
check "vm show names it" names_it
acked=$(vm_acked $L)
check "the VM starts on it" gemel_at $L n1 vm start web1 --timeout 30s
check "the guest goes on" wait_for 30 goes_on $L "$acked"
node=$(vm_node $L n1)
off=$node
check "power off" lab $L power "$off" off
acked=$(vm_acked $L)
check "the guest goes on" wait_for 30 goes_on $L "$acked"
check "elsewhere" wait_for 30 elsewhere "$off"
node=$(vm_node $L "$(another "$off")")
third=$(printf 'n%s\n' 1 2 3 | grep -vx -e "$node" -e "$off")
# It says that it is paused, on which disk, since when, when it is tried again, and how to go on at once.
paused() { gemel_at $L "$1" vm show web1 --json | jq -es 'length == 1 and .[0].state == "paused" and .[0].paused_disk == "nbd://10.77.0.1:10809/"
    and (.[0].paused_error | startswith("connection lost")) and .[0].try_now == "gemel vm retry web1" and .[0].since_ms >= 2000'; }
next_try() { gemel_at $L "$node" vm show web1 | grep -E '^next try: +in [0-9]'; }
status_says() { gemel_at $L "$1" status | grep 'web1 is paused: disk nbd://10.77.0.1:10809/: connection lost.*gemel vm retry web1'; }
explain_says() { gemel_at $L "$node" explain web1 | grep -A3 'paused for [0-9]* ms' | grep 'at once: gemel vm retry web1'; }
last_event() { gemel_at $L "$node" events --json | jq '.events[-1].n'; }
since_event() { gemel_at $L "$node" events --json | jq -r ".events[] | select(.n > $1 and .object == \"web1\").text"; }
of_the_pause() { # EVENT: after it, one pause, one retry of ours, one end of it
    equal "$(since_event "$1" | sed 's/: .*nbd.*/: paused/; s/ by .*//; s/: running: /: /')" \
        "$(printf 'web1: paused\nweb1: paused, tried again\nweb1: paused, tried again\nweb1: goes on after a pause')"
}
pid=$(lab $L exec "$node" -- pgrep -x gemel-vmm)
before=$(last_event)
serve_not
check "it is paused" wait_for 10 paused "$node"
check "another node says so too" paused "$third"
check "and when it is tried next" wait_for 5 next_try
check "status says it" status_says "$node"
check "so does status elsewhere" status_says "$third"
check "explain says it" explain_says
check_rc 1 "a retry without the server" gemel_at $L "$node" vm retry web1 --timeout 30s
sleep 9
check "it is still paused" paused "$node"
acked=$(vm_acked $L)
serve
begun=$(date +%s%N)
check "a retry with it" gemel_at $L "$third" vm retry web1 --timeout 30s
check "does not wait" test $((($(date +%s%N) - begun) / 1000000)) -lt 4000
check "the server was away, and the VM goes on" wait_for 40 goes_on $L "$acked"
check "on its node" wait_for 30 vm_runs_on $L "$node" "$node"
check "one event when it pauses, one when it goes on" of_the_pause "$before"
check "it was the same process all the time" equal "$(lab $L exec "$node" -- pgrep -x gemel-vmm)" "$pid"
check_rc 1 "no snapshot of a network disk" gemel_at $L "$node" vm snapshot web1 --timeout 30s
to=$(another "$node" "$off")
acked=$(vm_acked $L)
check "it moves to $to while it runs" gemel_at $L "$node" vm migrate web1 "$to" --verify --timeout 60s
node=$to
check "the guest goes on" wait_for 30 goes_on $L "$acked"
check "suspend" gemel_at $L "$node" vm suspend web1 --timeout 60s
acked=$(vm_acked $L)
check "resume" gemel_at $L "$node" vm resume web1 --timeout 60s
check "the guest goes on" wait_for 30 goes_on $L "$acked"
check "the VM is stopped" gemel_at $L "$node" vm stop web1 --timeout 30s
check "no oracle complains" witness_end $L
serve_not
check "every acknowledged record is on it" "$builddir/tests/guest/witness" check-disk "$LAB_SCRATCH/nbd.img" \
    --acked "$(witness_value $L .max_acked)"
check "down leaves nothing" lab $L down
tap_end
