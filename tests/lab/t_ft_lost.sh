#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# shellcheck disable=SC2154 # builddir is of lib.sh
# A twin takes the claim and its node dies before anybody has heard that it runs: the primary may not go on, and the VM does not stay down.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/vm.sh"
lab_begin
[ -c /dev/kvm ] || { echo "1..0 # SKIP no /dev/kvm"; exit 0; }
L=ftlost
WITNESS_GAP_MS=100
WITNESS_OUTAGE_MS=30000
WITNESS_NO_STORAGE=1
DISK=/var/lib/gemel/web1.img

twin_is_on() { equal "$(show "$1" .twin.node)" "$2"; }
processes() { lab $L exec "$1" -- pgrep -c -x gemel-vmm; }

# On NODE: its agent and its gemel-vmm are killed as soon as there is one claim more, before they can say so.
die_at_claim() {
    lab $L exec "$1" -- python3 -c '
import os, signal, subprocess, sys, time
claims = lambda: len([n for n in os.listdir("/srv/gemel/web1") if n.startswith("owner.")])
pids = [int(pid) for name in ("gemeld", "gemel-vmm") for pid in subprocess.check_output(["pgrep", "-x", name]).split()]
before, end = claims(), time.monotonic() + 20
print("waits", flush=True)
while claims() == before:
    if time.monotonic() > end:
        sys.exit("no claim came")
for pid in pids:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass # with the one before
print("claim", flush=True)'
}

check "three nodes with agents" lab $L up
check "the VM is defined" define_mirrored
lab $L exec n1 -- sh -c "truncate -s 64M $DISK && sync $DISK /var/lib/gemel"
check "it starts" gemel_at $L n2 vm start web1 --node n1 --timeout 30s
check "the guest answers" witness_begin $L
check "it gets a twin" gemel_at $L n3 vm protect web1 --on n2 --timeout 60s
sleep 1
acked=$(vm_acked $L)
epoch=$(show n3 .epoch)
die_at_claim n2 >"$LAB_SCRATCH/die" &
dies=$!
wait_for 10 grep -q waits "$LAB_SCRATCH/die"
gemel_at $L n3 vm switchover web1 --timeout 5s >"$LAB_SCRATCH/over" 2>&1 &
over=$!
wait $dies
check "its twin takes the claim, and dies" grep -q claim "$LAB_SCRATCH/die"
check "with its node" lab $L power n2 off
wait $over
note "it was faster than that once in a while: epoch $(show n3 .epoch), $epoch before"
check "the primary is over" wait_for 20 not processes n1
check "the twin's node is off, for sure" wait_for 30 says 'n2.*off' gemel_at $L n3 status
check "who has the copy that counts is told" wait_for 30 explains n3 "in sync only on n2"
check "that node is back" lab $L power n2 on
check "all see it" wait_for 30 together $L
check "it runs there" wait_for 60 vm_runs_on $L n3 n2
guest_goes_on "$acked"
check "it gets its next twin" gemel_at $L n3 vm protect web1 --on n1 --timeout 60s

# What a process that was stopped finds in its socket: its twin was silent, and is heard again, in one moment; then that is dead.
check "its twin is on n1" wait_for 5 twin_is_on n3 n1
sleep 1
acked=$(vm_acked $L)
check "the twin's corosync hangs" lab $L pause n1 corosync
check "the primary's gemel-vmm is stopped" lab $L pause n2 gemel-vmm
sleep 1
check "the twin's node loses its power" lab $L power n1 off
check "the primary goes on" lab $L resume n2 gemel-vmm
guest_goes_on "$acked"
check "n1 is back" lab $L power n1 on
check "all see it" wait_for 30 together $L
check "no oracle complains" witness_end $L
check "every acknowledged record is on the disk of that copy" \
    "$builddir/tests/guest/witness" check-disk "$LAB_SCRATCH/$L/nodes/n2/gemel/web1.img" --acked "$(witness_value $L .max_acked)"
check "down leaves nothing" lab $L down
tap_end
