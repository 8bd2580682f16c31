#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lab/lib.sh"
. "$here/../lab/vm.sh"
. "$here/../lab/safety.sh"
. "$here/mutant.sh"
L=mu

# The VM's node loses its power: what a FLUSH had promised is on the disk, or the guest was told a lie.
mutant_begin
must "the VM starts" gemel_at $L n2 vm start web1 --timeout 30s
must "the guest answers" witness_begin $L
for round in 1 2; do
    node=$(vm_owner)
    sleep 1 # some twenty records are acknowledged
    must "round $round: power off" lab $L power "$node" off
    must "round $round: the guest answers again" wait_for 40 answers_again $L "$round"
    must "round $round: power on" lab $L power "$node" on
    must "round $round: the node is a member again" wait_for 60 gemel_at $L "$node" status
done
oracle_witness "no acknowledged record was lost"
oracle "every acknowledged record is on the disk" disk_is_whole $L
mutant_end
