#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lab/lib.sh"
. "$here/../lab/vm.sh"
. "$here/../lab/safety.sh"
. "$here/mutant.sh"
L=mu

# The VM's node is cut off from the ring and its BMC hangs: there is no proof of its death. Whoever does not wait for one
# starts a second copy beside the first: two writers on one disk.
mutant_begin
must "the VM starts" gemel_at $L n2 vm start web1 --timeout 30s
must "the guest answers" witness_begin $L
node=$(vm_owner)
other=$(a_node_but "$node")
must "its BMC hangs" lab $L bmc "$node" hang
must "its node is cut off" lab $L link "$node" down
must "the others have noticed" wait_for 30 not members_are $L "$other" 3
for _ in $(seq 40); do
    [ "$(vmm_total)" = 1 ] || break
    sleep 0.25
done
sleep 2 # both write
must "the first copy lives" equal "$(vmms "$node")" 1
oracle "there is one VMM" equal "$(vmm_total)" 1
oracle_witness "one writer, one epoch at a time"
mutant_end
