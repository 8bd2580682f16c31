#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lab/lib.sh"
. "$here/../lab/vm.sh"
. "$here/../lab/safety.sh"
. "$here/mutant.sh"
L=mu

# All nodes lose their power right after a change was acknowledged: it is on the disks of a majority, or the operator was
# told a lie.
mutant_begin
must "the definition is there" equal "$(gemel_at $L n3 vm list --json | jq -r '.vms[].name')" web1
for node in n1 n2 n3; do
    must "power of $node off" lab $L power "$node" off
done
for node in n1 n2 n3; do
    must "power of $node on" lab $L power "$node" on
done
for node in n1 n2 n3; do
    must "$node has a quorate cluster" wait_for 60 synced_at "$node"
done
for node in n1 n2 n3; do
    oracle "$node still has what was acknowledged" equal "$(gemel_at $L "$node" vm list --json | jq -r '.vms[].name')" web1
done
mutant_end
