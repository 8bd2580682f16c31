#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# shellcheck disable=SC2154 # builddir is of lib.sh
# What t_ft_shared.sh leaves out: a definition that is changed while a VM is protected, a twin that is killed while its writes are held,
# a plain NBD server, servers that do not let the twin in for a while, and such that go away and come back.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/vm.sh"
. "$(dirname "$0")/ft_shared.sh"
lab_begin
[ -c /dev/kvm ] || { echo "1..0 # SKIP no /dev/kvm"; exit 0; }
L=ftm
# Where its primary runs, and where its twin is to be; $third is the other one.
pair() {
    primary=$(vm_node $L n1)
    twin=$(another "$primary")
    third=$(another "$primary" "$twin")
    protect "$twin"
    acked=$(vm_acked $L)
    guest_goes_on "$acked"
    before=$(seen)
}
back() { # NODE: its power
    check "the node is back" lab $L power "$1" on
    check "all see it" wait_for 30 together $L
}
cut() { # the power of its primary's node, whose BMC does not answer
    lab $L bmc "$primary" hang
    check "the power of its node is cut" lab $L power "$primary" off
}
kill_vmm() { lab $L exec "$1" -- pkill -KILL -x gemel-vmm; }
vmm_of() { lab $L exec "$1" -- pgrep -x gemel-vmm; } # NODE: its pid

check "three nodes with agents" lab $L up
check "the VM is defined" shared_define '{path: disk0.img, serial: web1}'
check "it starts" gemel_at $L n2 vm start web1 --node n1 --timeout 30s
check "the guest answers" witness_begin $L

# A definition that is changed counts from its next start on: what its old owner could write to is what it had.
pair
truncate -s 1M "$(vm_shared $L)/web1/disk1.img"
check "its definition is changed" shared_define '{path: disk0.img, serial: web1}, {path: disk1.img, serial: second}'
check "its gemel-vmm is killed" kill_vmm "$primary"
check "its twin goes on" wait_for 20 vm_runs_on $L "$third" "$twin"
check "its writes are let go" wait_for 10 let_go "$third"
acked=$(vm_acked $L)
guest_goes_on "$acked"
check "nobody was switched off" equal "$(lab_json $L '[.nodes[] | select(.power != "on")] | length')" 0
check "the definition is as before" shared_define '{path: disk0.img, serial: web1}'

# A twin is killed while its writes are held: what it held nobody was told of.
pair
cut
check "its twin goes on" wait_for 20 vm_runs_on $L "$third" "$twin"
check "its writes are held" wait_for 5 holds "$third" "its writes to disk0 are held until $primary is fenced"
acked=$(vm_acked $L)
check "the twin is killed as well" kill_vmm "$twin"
sleep 2
check "it is not started: the old node may still write" not goes_on $L "$acked"
lab $L bmc "$primary" ok
check "the old node is off: it starts" wait_for 40 goes_on $L "$acked"
note "holding twin killed, outages: $(outages "$before")"
back "$primary"
check "it stops" gemel_at $L n2 vm stop web1 --timeout 30s
check "no oracle complains" witness_end $L
note "$(jq -c '{verdict, lost_acked_writes, dual_live, max_acked, outage_ms}' "$LAB_SCRATCH/$L-witness.json")"
check "every acknowledged record is on the disk" disk_is_whole $L

if ! command -v nbdkit >/dev/null; then
    note "no nbdkit here"
    check "down leaves nothing" lab $L down
    tap_end
    exit
fi
WITNESS_NO_STORAGE=1
nbd_up() { # OPTION...
    rm -f "$LAB_SCRATCH/nbd.pid"
    lab $L exec hub -- nbdkit -f -P "$LAB_SCRATCH/nbd.pid" -i $NBD -p 10809 "$@" 2>>"$LAB_SCRATCH/nbd.log" &
    nbd_exec=$!
    check "an NBD server" wait_for 5 lab $L exec hub -- python3 -c "import socket; socket.create_connection(('$NBD', 10809))"
}
nbd_signal() { lab $L exec hub -- kill -"$1" "$(cat "$LAB_SCRATCH/nbd.pid")"; } # its own pid, of the hub
nbd_down() {
    nbd_signal KILL
    wait $nbd_exec 2>/dev/null
}
nbd_starts() { # DISK-YAML
    rm -f "$LAB_SCRATCH/$L-witness".*
    check "the VM is defined on it" shared_define "$1"
    check "it starts" gemel_at $L n2 vm start web1 --node n1 --timeout 30s
    check "the guest answers" witness_begin $L
}
nbd_ends() {
    check "it stops" gemel_at $L n2 vm stop web1 --timeout 30s
    check "no oracle complains" witness_end $L
    note "$(jq -c '{verdict, lost_acked_writes, dual_live, max_acked, outage_ms}' "$LAB_SCRATCH/$L-witness.json")"
    nbd_down
    check "every acknowledged record is on the disk" "$builddir/tests/guest/witness" check-disk "$LAB_SCRATCH/nbd.img" \
        --acked "$(witness_value $L .max_acked)"
}

# A plain server excludes nobody: writes are held, as those to a file.
cp "$(vm_shared $L)/web1/disk0.img" "$LAB_SCRATCH/nbd.img"
nbd_up file "$LAB_SCRATCH/nbd.img"
nbd_starts "{path: 'nbd://$NBD:10809/web1', serial: web1}"
pair
cut
check "its twin goes on" wait_for 20 vm_runs_on $L "$third" "$twin"
check "its writes are held" wait_for 5 holds "$third" "its writes to * are held until $primary is fenced"
acked=$(vm_acked $L)
sleep 1
check "and nothing is acknowledged" not goes_on $L "$acked"
lab $L bmc "$primary" ok
check "it is off: they are let go" wait_for 40 let_go "$third"
guest_goes_on "$acked"
note "plain NBD + fence 1 s late, outages: $(outages "$before")"
back "$primary"
nbd_ends

# The filter: an old owner's write is under way for longer than the server waits for it. The twin is refused, asks again, and is let in.
mkdir "$LAB_SCRATCH/epochs"
touch "$LAB_SCRATCH/epochs/gemel-epochs"
epochs=(--filter="$FILTER" --filter=pause file "$LAB_SCRATCH/nbd.img" epochs="$LAB_SCRATCH/epochs" epoch-export=web1 epoch-drain-ms=300
    pause-control="$LAB_SCRATCH/pause.sock")
pause() { # p or r: the answer is a capital
    python3 - "$LAB_SCRATCH/pause.sock" "$1" <<'PY'
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.sendall(sys.argv[2].encode())
sys.exit(s.recv(1) != sys.argv[2].upper().encode())
PY
}
cp "$(vm_shared $L)/web1/disk0.img" "$LAB_SCRATCH/nbd.img"
nbd_up "${epochs[@]}"
nbd_starts "{path: 'nbd://$NBD:10809/web1', exclusion: epoch, serial: web1}"
pair
check "what the server carries out takes long" pause p
sleep 0.3
acked=$(vm_acked $L)
cut
check "the server does not let the twin in" wait_for 20 grep -q 'web1: .*still under way' "$LAB_SCRATCH/nbd.log"
sleep 2
check "it waits" not goes_on $L "$acked"
check "the old requests are over" pause r
guest_goes_on "$acked"
check "on the twin's node" vm_runs_on $L "$third" "$twin"
check "nothing is held" holds "$third" null
note "refused for some 3 s, outages: $(outages "$before")"
lab $L bmc "$primary" ok
back "$primary"

# It ends, as a service that is restarted, under a VM whose twin follows: that is paused, goes on without its twin, and gets the next one.
pair
acked=$(vm_acked $L)
nbd_signal TERM
wait $nbd_exec 2>/dev/null
check "its server ends in order" not grep -q BUG "$LAB_SCRATCH/nbd.log"
check "the VM is paused" wait_for 20 vm_is $L "$third" paused
sleep 2
rm -f "$LAB_SCRATCH/pause.sock"
nbd_up "${epochs[@]}"
guest_goes_on "$acked"
check "where it was" wait_for 30 vm_runs_on $L "$third" "$primary"
note "server restarted under a protected VM, outages: $(outages "$before")"

# It is not there at all, then it is: the agent connects when it can.
pair
nbd_down
cut
acked=$(vm_acked $L)
sleep 3
rm -f "$LAB_SCRATCH/pause.sock"
nbd_up "${epochs[@]}"
guest_goes_on "$acked"
check "on the twin's node" vm_runs_on $L "$third" "$twin"
note "server away for 3 s, outages: $(outages "$before")"
lab $L bmc "$primary" ok
back "$primary"

# It takes the connection and says nothing, and dies so: the twin, which waits for it with the only memory, gets another connection.
pair
process=$(vmm_of "$twin")
nbd_signal STOP
cut
acked=$(vm_acked $L)
sleep 3
nbd_down
check "the twin waits" wait_for 10 vm_is $L "$third" paused
sleep 1 # it is thawed meanwhile, and there is nobody to connect to
rm -f "$LAB_SCRATCH/pause.sock"
nbd_up "${epochs[@]}"
guest_goes_on "$acked"
check "on the twin's node" wait_for 20 vm_runs_on $L "$third" "$twin"
check "with the memory that it had" equal "$(vmm_of "$twin")" "$process"
note "server silent for 3 s, then gone, outages: $(outages "$before")"
lab $L bmc "$primary" ok
back "$primary"
nbd_ends
check "down leaves nothing" lab $L down
tap_end
