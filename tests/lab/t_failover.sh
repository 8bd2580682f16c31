#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The main job: the VM's node loses its power, and the VM runs again on another node; then the node comes back.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/vm.sh"
lab_begin
[ -c /dev/kvm ] || { echo "1..0 # SKIP no /dev/kvm"; exit 0; }
L=fo

# An outage of a busy machine is one for the witness too: that the guest answers again does not say where.
runs_elsewhere() {
    [ "$(vm_node $L "$other")" != "$node" ] && vm_is $L "$other" running
}

check "three nodes with agents" lab $L up
check "the VM is defined" vm_define $L
check "the VM starts" gemel_at $L n2 vm start web1 --timeout 30s
check "the guest answers" witness_begin $L
for round in 1 2 $([ "$LAB_LONG" = 0 ] || seq 3 20); do
    node=$(vm_node $L n1)
    other=$(another "$node")
    sleep 0.$((RANDOM % 9))
    check "round $round: power off" lab $L power "$node" off
    check "round $round: the guest answers again" wait_for 30 answers_again $L "$round"
    check "round $round: it runs elsewhere" wait_for 10 runs_elsewhere
    check "round $round: not where it was" not equal "$(vm_node $L "$other")" "$node"
    check "round $round: power on" lab $L power "$node" on
    check "round $round: the node is a member again" wait_for 40 gemel_at $L "$node" status
done
check "the VM is stopped by its power button" gemel_at $L n1 vm stop web1 --timeout 30s
check "no oracle complains" witness_end $L
check "every acknowledged record is on the disk" disk_is_whole $L
note "outages: $(witness_value $L '[.outages[] | select(.open | not).ms | floor] | join(" ")') ms"
check "delete" gemel_at $L n3 vm delete web1 --yes
check "down leaves nothing" lab $L down
tap_end
