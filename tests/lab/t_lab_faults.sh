#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The faults that gemel-lab makes are the faults it says.
# shellcheck disable=SC2016,SC1091 # what stands in single quotes is for eval, or for a shell in a node
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/lib.sh"

lab_begin

# reaches FROM ADDRESS
reaches() {
    lab a exec "$1" -- ping -q -n -c 1 -W 1 "$2" >/dev/null
}

check "up" lab a up --no-agents || {
    tap_end
    exit 1
}

check_rc 2 "a partition with an unknown node is refused" lab a partition n1 / n9
check_rc 2 "a partition with one group is refused" lab a partition n1,n2
check_rc 2 "a node in two groups is refused" lab a partition n1 / n1,n2
check_rc 3 "an unknown node is refused" lab a power n7 off
check "nothing was cut by that" eval 'reaches n1 10.78.0.2 && members_are a n1 3'

check "partition n1 / n2,n3" lab a partition n1 / n2,n3
check "n1 reaches nobody" not reaches n1 10.78.0.2
check "n2 reaches n3" reaches n2 10.78.0.3
check "the management network is whole" fence a n2 1 status
check "the VM network is whole" reaches n1 10.77.2.1
check "n2 and n3 keep quorum" eval 'wait_for 10 members_are a n2 2 && quorate_is a n2 Yes'
check "n1 has none" wait_for 10 quorate_is a n1 No
check "a sender is told nothing" eval \
    'lab a exec n1 -- bash -c "echo x >/dev/udp/10.78.0.2/9; echo x >/dev/udp/10.78.0.2/9"'
check "heal" lab a heal
check "together again" wait_for 20 together a

check "partition with --vm, --bmc and --storage" lab a partition --vm --bmc --storage n1 / n2,n3
check "n1's VMs are cut off" not reaches n1 10.77.2.1
check "n2 reaches n3's VMs" reaches n2 10.77.3.1
check_rc 1 "n1's BMC is out of n2's reach" fence a n2 1 status power_timeout=2 login_timeout=2 shell_timeout=2
check "n3's BMC is not" fence a n2 3 status
lab a exec n1 -- sh -c 'echo x >/srv/gemel/hang; sync /srv/gemel/hang; touch /run/done' &
hung=$!
sleep 1
check "n1's storage is out of reach" rc_is 1 lab a exec n1 -- test -e /run/done
check "n2's storage is not" lab a exec n2 -- sh -c 'echo y >/srv/gemel/y && sync /srv/gemel/y'
lab a heal
wait "$hung"
check "after heal it goes on" eval 'lab a exec n1 -- test -e /run/done && equal "$(lab a exec n2 -- cat /srv/gemel/hang)" x'
check "together again" wait_for 20 together a

# udp_between FROM TO: does a datagram arrive on the cluster network?
udp_between() {
    local receiver='import socket; s = socket.socket(type=socket.SOCK_DGRAM); s.bind(("", 7001)); s.settimeout(6)
print("ready", flush=True); s.recv(9)' pid
    lab a exec "$2" -- python3 -c "$receiver" >"$LAB_SCRATCH/udp" 2>/dev/null &
    pid=$!
    wait_for 5 grep -q ready "$LAB_SCRATCH/udp"
    lab a exec "$1" -- bash -c "for i in 1 2 3 4 5; do echo here >/dev/udp/10.78.0.${2#n}/7001; sleep 0.2; done"
    wait "$pid"
}

check "link oneway-in" lab a link n1 oneway-in
check "nobody hears it" eval 'wait_for 10 members_are a n2 2'
check "it hears" udp_between n2 n1
check "it is not heard" not udp_between n1 n2
lab a heal
check "together again" wait_for 20 together a
check "link oneway-out" lab a link n1 oneway-out
check "it is out" wait_for 10 members_are a n2 2
check "it does not hear" not udp_between n2 n1
check "it is heard" udp_between n1 n2
lab a heal
check "together again" wait_for 20 together a
check "link down" lab a link n1 down
check "it has no carrier" equal "$(lab a exec n1 -- cat /sys/class/net/eth0/carrier)" 0
check "it is out" wait_for 10 members_are a n2 2
lab a power n1 off
lab a power n1 on
check "no carrier after a power cycle either" equal "$(lab a exec n1 -- cat /sys/class/net/eth0/carrier)" 0
check "link up" lab a link n1 up
check "together again" wait_for 20 together a

stopped() {
    # every process but labfs, which stands for hardware
    # shellcheck disable=SC2016
    equal "$(lab a exec hub -- sh -c 'for p in /proc/[0-9]*; do
        [ "$(readlink $p/ns/pid)" = "$1" ] && awk "/^State/ { print \$2 }" $p/status; done | sort -u | tr -d "\n"' sh "$ns")" "$1"
}
ns=$(lab a exec n3 -- readlink /proc/self/ns/pid)
check "pause" lab a pause n3
check "every process of the node is stopped" stopped "T"
check "status says so" equal "$(lab_json a '.nodes[2].paused')" true
check "the others see it go" wait_for 10 members_are a n1 2
check "resume" lab a resume n3
check "it joins again" wait_for 20 together a
check "pause one program" lab a pause n3 corosync
check "the others see it go" wait_for 10 members_are a n1 2
check "the node itself is alive" lab a exec n3 -- true
check "resume one program" lab a resume n3 corosync
check "it joins again" wait_for 20 together a
check_rc 1 "pausing what does not run is refused" lab a pause n3 gemeld
check "a paused node can be powered off" eval 'lab a pause n3 && lab a power n3 off && lab a power n3 on'
check "it joins again" wait_for 20 together a
check "kill corosync" lab a kill n3 corosync
check "it is gone" wait_for 5 eval '[ "$(lab_json a ".nodes[2].daemons[0].state")" = stopped ]'
check "daemon start" lab a daemon n3 start corosync
check "it joins again" wait_for 20 together a

check_rc 2 "an unknown BMC mode is refused" lab a bmc n2 tired
lab a bmc n2 fail
check_rc 1 "a failing BMC: off fails" fence a n1 2 off
check "and the node lives" equal "$(lab_json a '.nodes[1].power')" on
lab a bmc n2 lie
check "a lying BMC: off succeeds" fence a n1 2 off
check_rc 2 "and reads off" fence a n1 2 status
check "and the node lives" eval '[ "$(lab_json a ".nodes[1].power")" = on ] && lab a exec n2 -- true'
lab a bmc n2 deaf
check_rc 1 "a deaf BMC: off does not come true" fence a n1 2 off power_timeout=2
check "its readings are true" fence a n1 2 status
lab a bmc n2 hang
check_rc 1 "a hung BMC: off fails" fence a n1 2 off power_timeout=2 login_timeout=2 shell_timeout=2
lab a bmc n2 ok
check "a BMC that is well again says on" fence a n1 2 status
lab a bmc n2 slow 3000
check "a slow BMC: the node goes off in the end" eval 'fence a n1 2 off power_timeout=40 >/dev/null;
    wait_for 40 power_is a n2 off'
lab a bmc n2 ok
lab a power n2 on
check "it joins again" wait_for 20 together a

lab a disk n2 eio 1
check_rc 1 "disk eio: a write or its fsync fails" lab a exec n2 -- sh -c 'echo x >/srv/gemel/eio && sync /srv/gemel/eio'
lab a disk n2 eio 0
check "and no longer" lab a exec n2 -- sh -c 'echo x >/srv/gemel/eio && sync /srv/gemel/eio'
lab a disk n2 delay 200
begin=$(now_ms)
lab a exec n2 -- sh -c 'echo x >/srv/gemel/slow && sync /srv/gemel/slow'
check "disk delay" test $(($(now_ms) - begin)) -ge 400
lab a heal

check "halt is orderly: what was not fsynced is kept" eval 'lab a exec n2 -- sh -c "echo kept >/var/lib/gemel/kept" &&
    lab a power n2 halt && wait_for 20 power_is a n2 off && lab a power n2 on &&
    equal "$(sleep 1; lab a exec n2 -- cat /var/lib/gemel/kept)" kept'
check "down with a paused node" eval 'lab a pause n1 && lab a down'
tap_end
