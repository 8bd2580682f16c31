#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# shellcheck disable=SC2154 # builddir is of lib.sh
# A protected VM whose disk both nodes reach. A file: its twin goes on at once, and what it writes is held until the old node is off, or
# its agent says that nothing is left there. NBD with the epoch filter: nothing waits, the server drops the old owner.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/vm.sh"
. "$(dirname "$0")/ft_shared.sh"
lab_begin
[ -c /dev/kvm ] || { echo "1..0 # SKIP no /dev/kvm"; exit 0; }
L=fts
check "three nodes with agents" lab $L up
check "a twin cannot have a qcow2 disk" says 'disks\[0\].format: is qcow2' sh -c "
    printf '%s\n' 'name: q' 'machine: lockstep' 'memory: 32MiB' 'boot: {firmware: /srv/gemel/pulse.rom}' 'disks: [{path: q.img, format: qcow2}]' \
        'ft: {mode: auto}' >$(vm_shared $L)/q.yaml; $LAB_BIN --dir $LAB_SCRATCH/$L exec n1 -- $builddir/gemel vm apply -f /srv/gemel/q.yaml"
lab $L exec n1 -- truncate -s 1M /var/lib/gemel/own.img
check "a VM on a file of one node" shared_define '{path: /var/lib/gemel/own.img}'
check "starts" gemel_at $L n2 vm start web1 --node n1 --timeout 30s
lab $L exec n2 -- truncate -s 1M /var/lib/gemel/own.img
check "but gets no twin" says 'own.img is a file of this node.*mirrored: true' gemel_at $L n3 vm protect web1 --on n2 --timeout 30s
check "it stops" gemel_at $L n2 vm stop web1 --timeout 30s
check "the VM is defined" shared_define '{path: disk0.img, serial: web1}'
check "it starts" gemel_at $L n2 vm start web1 --node n1 --timeout 30s
check "the guest answers" witness_begin $L

# Its node loses its power, and its BMC does not answer: the guest runs, its writes wait.
protect n2
acked=$(vm_acked $L)
guest_goes_on "$acked"
lab $L bmc n1 hang
before=$(seen)
check "the power of its node is cut" lab $L power n1 off
check "its twin goes on" wait_for 20 vm_runs_on $L n3 n2
check "its writes are held, as every node says" wait_for 5 holds n3 'its writes to disk0 are held until n1 is fenced'
check "and explain" explains n2 'it runs; its writes to disk0 are held until n1 is fenced'
check "and status" eval "gemel_at $L n2 status | grep -q 'web1 runs; its writes to disk0 are held until n1 is fenced'"
acked=$(vm_acked_now $L)
check_rc 4 "meanwhile it gets no twin" gemel_at $L n2 vm protect web1
check_rc 4 "nor is it migrated" gemel_at $L n2 vm migrate web1 n3
sleep 2
check "they are held still" holds n2 'its writes*' || gemel_at $L n2 events | tail -n 10 | sed 's/^/# /'
check "and nothing was acknowledged" stands $L "$acked"
lab $L kill n2 gemeld
check "its agent was killed, and is back" wait_for 20 holds n2 'its writes to disk0 are held until n1 is fenced'
sleep 1
check "they are held still" holds n2 'its writes*'
check "and nothing was acknowledged" stands $L "$acked"
lab $L bmc n1 ok
check "n1 is off: they are let go" wait_for 40 let_go n3
guest_goes_on "$acked"
note "shared file, fence 2 s late, outages: $(outages "$before")"
check "the node is back" lab $L power n1 on
check "all see it" wait_for 30 together $L

# Only its gemel-vmm dies: the word of its agent is enough, nobody is shot.
protect n1
acked=$(vm_acked $L)
guest_goes_on "$acked"
before=$(seen)
check "its gemel-vmm is killed" lab $L exec n2 -- pkill -KILL -x gemel-vmm
check "its twin goes on" wait_for 20 vm_runs_on $L n3 n1
check "its writes are let go" wait_for 10 let_go n3
acked=$(vm_acked $L)
guest_goes_on "$acked"
note "shared file, killed, outages: $(outages "$before")"
check "n2 was not switched off" equal "$(lab_json $L '.nodes[] | select(.name == "n2").power')" on

# The same, and its agent is killed with it: it looks at the record when it is back.
protect n2
acked=$(vm_acked $L)
guest_goes_on "$acked"
lab $L kill n1 gemeld
check "its gemel-vmm and its agent are killed" lab $L exec n1 -- pkill -KILL -x gemel-vmm
check "its twin goes on" wait_for 20 vm_runs_on $L n3 n2
check "its writes are let go" wait_for 20 let_go n3
acked=$(vm_acked $L)
guest_goes_on "$acked"
check "n1 was not switched off" equal "$(lab_json $L '.nodes[] | select(.name == "n1").power')" on

# Planned: the old side's agent says when all of it is out.
protect n3
acked=$(vm_acked $L)
before=$(seen)
check "its twin takes over" gemel_at $L n3 vm switchover web1 --timeout 30s
check "and runs it" wait_for 5 vm_runs_on $L n1 n3
check "its writes are let go" wait_for 10 let_go n2
guest_goes_on "$acked"
note "shared file, switchover, outages: $(outages "$before")"
protect n1
check "and back" gemel_at $L n3 vm switchover web1 --timeout 30s
check "its writes are let go" wait_for 10 let_go n2

# Power, with a fence that works.
protect n3
acked=$(vm_acked $L)
guest_goes_on "$acked"
before=$(seen)
check "the power of its node is cut" lab $L power n1 off
check "its twin goes on" wait_for 20 vm_runs_on $L n2 n3
check "its writes are let go" wait_for 40 let_go n2
acked=$(vm_acked $L)
guest_goes_on "$acked"
note "shared file + fence, outages: $(outages "$before")"
check "the node is back" lab $L power n1 on
check "all see it" wait_for 30 together $L

# Its node is cut off, and alive: what it writes late may still come, until it is off.
protect n1
acked=$(vm_acked $L)
guest_goes_on "$acked"
before=$(seen)
check "its node is cut off from the others" lab $L partition n3 / n1,n2
check "its twin goes on" wait_for 20 vm_runs_on $L n2 n1
check "its writes are let go" wait_for 40 let_go n2
acked=$(vm_acked $L)
guest_goes_on "$acked"
note "shared file, partition + fence, outages: $(outages "$before")"
check "when its node is off" equal "$(lab_json $L '.nodes[] | select(.name == "n3").power')" off
check "the network is whole" lab $L heal
check "the node is back" lab $L power n3 on
check "all see it" wait_for 30 together $L
check "it stops" gemel_at $L n2 vm stop web1 --timeout 30s
check "no oracle complains" witness_end $L
note "$(jq -c '{verdict, lost_acked_writes, dual_live, max_acked, outage_ms}' "$LAB_SCRATCH/$L-witness.json")"
check "every acknowledged record is on the disk" disk_is_whole $L

# NBD: the server keeps old owners away.
if command -v nbdkit >/dev/null; then
    mkdir "$LAB_SCRATCH/epochs"
    touch "$LAB_SCRATCH/epochs/gemel-epochs"
    cp "$(vm_shared $L)/web1/disk0.img" "$LAB_SCRATCH/nbd.img"
    # not through lab(): the pid must be nbdkit's own
    "$LAB_BIN" --dir "$LAB_SCRATCH/$L" exec hub -- nbdkit -f -i $NBD -p 10809 --filter="$FILTER" file "$LAB_SCRATCH/nbd.img" \
        epochs="$LAB_SCRATCH/epochs" epoch-export=web1 2>"$LAB_SCRATCH/nbd.log" &
    nbd_pid=$!
    check "an NBD server" wait_for 5 lab $L exec hub -- python3 -c "import socket; socket.create_connection(('$NBD', 10809))"
    check "the VM is defined on it" shared_define "{path: 'nbd://$NBD:10809/web1', exclusion: epoch, serial: web1}"
    rm -f "$LAB_SCRATCH/$L-witness".*
    WITNESS_NO_STORAGE=1
    check "it starts" gemel_at $L n2 vm start web1 --node n1 --timeout 30s
    check "as the server knows" eval '[ "$(cat "$LAB_SCRATCH/epochs/epoch-web1")" = "gemel-epoch $(show n1 .epoch)" ]'
    check "the guest answers" witness_begin $L
    acked=$(vm_acked $L)
    check "it migrates" gemel_at $L n1 vm migrate web1 n3 --timeout 60s
    guest_goes_on "$acked"
    acked=$(vm_acked $L)
    check "and back" gemel_at $L n1 vm migrate web1 n1 --timeout 60s
    guest_goes_on "$acked"
    acked=$(vm_acked $L)
    check "a new gemel-vmm takes over" gemel_at $L n1 vm upgrade web1 --timeout 60s
    guest_goes_on "$acked"
    check "it is suspended" gemel_at $L n1 vm suspend web1 --timeout 60s
    acked=$(vm_acked $L)
    check "and goes on" gemel_at $L n1 vm start web1 --node n1 --timeout 60s
    guest_goes_on "$acked"

    protect n2
    acked=$(vm_acked $L)
    guest_goes_on "$acked"
    before=$(seen)
    lab $L bmc n1 hang # there is no fence at all
    check "the power of its node is cut" lab $L power n1 off
    check "its twin goes on" wait_for 20 vm_runs_on $L n3 n2
    check "nothing is held" holds n3 null
    acked=$(vm_acked $L)
    guest_goes_on "$acked"
    note "shared NBD, power, outages: $(outages "$before")"
    lab $L bmc n1 ok
    check "the node is back" lab $L power n1 on
    check "all see it" wait_for 30 together $L

    # Cut off, and alive: the server refuses it, whatever it sends.
    protect n3
    acked=$(vm_acked $L)
    guest_goes_on "$acked"
    old=$(cut -d' ' -f2 "$LAB_SCRATCH/epochs/epoch-web1")
    before=$(seen)
    check "its node is cut off from the others" lab $L partition n2 / n1,n3
    check "its twin goes on" wait_for 20 vm_runs_on $L n1 n3
    acked=$(vm_acked $L)
    guest_goes_on "$acked"
    note "shared NBD, partition, outages: $(outages "$before")"
    check "the server is at a later epoch" eval '[ "$(cut -d" " -f2 "$LAB_SCRATCH/epochs/epoch-web1")" -gt '"$old"' ]'
    check "the old one is refused" not lab $L exec hub -- qemu-img info "nbd://$NBD:10809/web1@$old"
    check "as the server's log says" grep -q "web1: epoch $old is over: a later owner" "$LAB_SCRATCH/nbd.log"
    check "the network is whole" lab $L heal
    check "all see each other" wait_for 30 together $L
    check "what was cut off is gone" wait_for 20 has_none n2

    # Checkpoints.
    check "protected by checkpoints" gemel_at $L n1 vm protect web1 --mode checkpoint --on n1 --timeout 60s
    acked=$(vm_acked $L)
    guest_goes_on "$acked"
    before=$(seen)
    check "the power of its node is cut" lab $L power n3 off
    check "its twin goes on" wait_for 20 vm_runs_on $L n1 n1
    check "nothing is held" holds n1 null
    acked=$(vm_acked $L)
    guest_goes_on "$acked"
    note "shared NBD, checkpoints, power, outages: $(outages "$before")"
    check "the node is back" lab $L power n3 on
    check "all see it" wait_for 30 together $L

    # Without a twin: a cold start waits for the proof, and for nothing else.
    # not by <(...): the command runs in a node
    gemel_at $L n1 cluster show --yaml | sed 's/settle: .*/settle: 1m/' >"$(vm_shared $L)/settle.yaml"
    check "storage.settle is long" gemel_at $L n1 cluster apply -f /srv/gemel/settle.yaml
    acked=$(vm_acked $L)
    check "the power of its node is cut" lab $L power n1 off
    check "it starts anew, and does not wait for that" wait_for 20 vm_runs_on $L n2 n2
    guest_goes_on "$acked"
    check "the node is back" lab $L power n1 on
    check "all see it" wait_for 30 together $L
    check "it stops" gemel_at $L n2 vm stop web1 --timeout 30s
    check "no oracle complains" witness_end $L
    note "$(jq -c '{verdict, lost_acked_writes, dual_live, max_acked, outage_ms}' "$LAB_SCRATCH/$L-witness.json")"
    kill -KILL "$nbd_pid" # TERM waits for what a node without power was about to send
    wait "$nbd_pid" 2>/dev/null
    check "every acknowledged record is on the disk" "$builddir/tests/guest/witness" check-disk "$LAB_SCRATCH/nbd.img" \
        --acked "$(witness_value $L .max_acked)"
else
    note "no nbdkit here"
fi
check "down leaves nothing" lab $L down
tap_end
