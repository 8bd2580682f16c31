#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# shellcheck disable=SC2154 # builddir is of lib.sh
# A protected VM: its twin goes on when its node loses its power, it goes on when its twin's node does; agents that are killed; a
# switchover; what is refused.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/vm.sh"
lab_begin
[ -c /dev/kvm ] || { echo "1..0 # SKIP no /dev/kvm"; exit 0; }
L=ft
WITNESS_GAP_MS=100
WITNESS_NO_STORAGE=1 # its disks are not on the shared storage; they are looked at in the end
FT_SUSPECT=${FT_SUSPECT:-300ms} # a test machine is busy: a false suspicion is no failure, but it is not what is tested here
DISK=/var/lib/gemel/web1.img

ft_define() { # FT-YAML [DISK-YAML]
    local shared
    shared=$(vm_shared $L)
    mkdir -p "$shared/web1"
    cp "$builddir/tests/guest/pulse.rom" "$shared/pulse.rom"
    cat >"$shared/web1.yaml" <<YAML
name: web1
memory: 32MiB
machine: lockstep
boot: {firmware: /srv/gemel/pulse.rom, cmdline: "ip=$VM_IP rate=20"}
disks: [${2:-{path: $DISK, serial: web1, mirrored: true\}}]
nics: [{mac: "$VM_MAC"}]
ha: {start_timeout: 20s, stop_timeout: 10s}
ft: $1
YAML
    gemel_at $L n1 vm apply -f /srv/gemel/web1.yaml
}
protected_by() { # ASKED TWIN
    equal "$(show "$1" .protected)" true && equal "$(show "$1" .twin.node)" "$2"
}
unprotected() { equal "$(show "$1" .protected)" false && equal "$(show "$1" .twin)" null; }
processes() { lab $L exec "$1" -- pgrep -c -x gemel-vmm; }
has_none() { equal "$(processes "$1")" 0; }
has_one_at_most() { [ "$(processes "$1")" -le 1 ]; }

check "three nodes with agents" lab $L up
check "a twin of a VM whose disk is qcow2 is refused by line" says 'web1.yaml:5: disks\[0\].format: is qcow2' \
    ft_define '{mode: auto}' '{path: disk0.img, format: qcow2}'
check "and lockstep of machine standard" says 'ft.mode: is for machine: lockstep' \
    sh -c "sed -e 's/lockstep/standard/' -e 's/disks:.*/disks: []/' -e 's/mode: auto/mode: lockstep/' $(vm_shared $L)/web1.yaml >$(vm_shared $L)/s.yaml; $LAB_BIN --dir $LAB_SCRATCH/$L exec n1 -- $builddir/gemel vm apply -f /srv/gemel/s.yaml"
check "mirrored wants a path of its own" says 'disks\[0\].mirrored: needs a raw file' ft_define '{mode: "off"}' '{path: disk0.img, mirrored: true}'
check "the VM is defined" ft_define "{suspect: $FT_SUSPECT}"
check "where its disk is not, it does not start" not gemel_at $L n2 vm start web1 --node n2 --timeout 30s
lab $L exec n1 -- truncate -s 64M $DISK
lab $L exec n1 -- sh -c "head -c 8000000 /dev/urandom | dd of=$DISK bs=1M seek=40 conv=notrunc status=none" # the guest does not come so far
check_rc 4 "a stopped VM gets no twin" gemel_at $L n1 vm protect web1
check "it starts where it is" gemel_at $L n2 vm start web1 --node n1 --timeout 30s
check "the guest answers" witness_begin $L

check_rc 4 "not on its own node" gemel_at $L n2 vm protect web1 --on n1
check_rc 3 "nor on one that is not there" gemel_at $L n2 vm protect web1 --on n9
check_rc 2 "nor by a rule that is not there" gemel_at $L n2 vm protect web1 --commit tomorrow
check_rc 4 "it has no twin that could take over" gemel_at $L n2 vm switchover web1
check "a dry run names the node" says 'dry run.*gets a twin on n' gemel_at $L n2 vm protect web1 --dry-run
check "and changes nothing" unprotected n2
lab $L pause n2 gemeld
check "a node that does not answer is named" says 'gets a twin on n2, in lockstep; not looked at: what only n2 can see' gemel_at $L n3 vm protect web1 --on n2 --dry-run
lab $L resume n2 gemeld
check_rc 4 "mirrored disks do not migrate" gemel_at $L n2 vm migrate web1 n2

lab $L exec n2 -- sh -c "mkdir $DISK.d && mount -t tmpfs -o size=4M full $DISK.d && touch $DISK $DISK.d/disk && mount --bind $DISK.d/disk $DISK"
dry() { # TEXT: of a dry run, which is refused and begins nothing
    check_rc 4 "its dry run is refused" gemel_at $L n3 vm protect web1 --on n2 --dry-run
    check "and says so" says "would get no twin on n2: n2: .*$1" gemel_at $L n3 vm protect web1 --on n2 --dry-run
}
dry 'no room for the copy of .*: it needs [0-9]* MiB more'
check "not where there is no room for its disk" says 'no room for the copy of .*: it needs [0-9]* MiB more' gemel_at $L n3 vm protect web1 --on n2 --timeout 60s
lab $L exec n2 -- sh -c "umount $DISK; umount $DISK.d; rm $DISK; rmdir $DISK.d"
check "nothing is left of its twin" wait_for 5 has_none n2
lab $L exec n2 -- mkdir $DISK
dry 'is a directory here'
lab $L exec n2 -- sh -c "rmdir $DISK; echo precious >$DISK"
dry 'was never a copy of this VM'
check "nor over a file that somebody else made" says 'was never a copy of this VM' gemel_at $L n3 vm protect web1 --on n2 --timeout 60s
check "which is as it was" equal "$(lab $L exec n2 -- cat $DISK)" precious
lab $L exec n2 -- rm $DISK
check "nothing is left of its twin" wait_for 5 has_none n2
# A block device: one with data may be somebody's, one that is blank is not, nor one that was a copy before.
head -c 4096 /dev/urandom >"$LAB_SCRATCH/block"
truncate -s 64M "$LAB_SCRATCH/block"
LOOP=$(losetup -f --show "$LAB_SCRATCH/block")
trap 'losetup -d "$LOOP"; lab_cleanup' EXIT
cp "$LAB_SCRATCH/block" "$LAB_SCRATCH/block.was"
lab $L exec n2 -- sh -c "touch $DISK && mount --bind $LOOP $DISK"
dry "block device $DISK has data"
check "nor over a block device with data on it" says "block device $DISK has data, and was never a copy" gemel_at $L n3 vm protect web1 --on n2 --timeout 60s
check "which is as it was" cmp "$LOOP" "$LAB_SCRATCH/block.was"
check "nothing is left of its twin" wait_for 5 has_none n2
check "it is emptied, as the message says" blkdiscard -z "$LOOP"
check "and is taken" gemel_at $L n3 vm protect web1 --on n2 --timeout 60s
check "the disk is whole there" cmp -i 40M -n 8000000 "$LOOP" <(lab $L exec n1 -- cat $DISK)
check "unprotected" gemel_at $L n2 vm unprotect web1 --timeout 20s
check "nothing is left of its twin" wait_for 5 has_none n2
check "it is known from then on" gemel_at $L n3 vm protect web1 --on n2 --timeout 60s
check "unprotected" gemel_at $L n2 vm unprotect web1 --timeout 20s
check "nothing is left of its twin" wait_for 5 has_none n2
check "its device is free" wait_for 10 lab $L exec n2 -- umount $DISK
lab $L exec n2 -- rm $DISK
check "it is protected" gemel_at $L n3 vm protect web1 --on n2 --timeout 60s
check "as every node says" wait_for 5 protected_by n3 n2
check "and explain" explains n1 'its twin follows in lockstep on n2'
check "again is no change" gemel_at $L n3 vm protect web1
check_rc 4 "it is not migrated" gemel_at $L n1 vm migrate web1 n3
check_rc 4 "nor suspended" gemel_at $L n1 vm suspend web1
acked=$(vm_acked $L)
guest_goes_on "$acked"

# Its twin's gemel-vmm is killed: why is what the twin's node knows, whoever speaks first.
acked=$(vm_acked $L)
check "its twin's gemel-vmm is killed" lab $L exec n2 -- pkill -KILL -x gemel-vmm
check "it goes on without" wait_for 10 unprotected n3
killed() { show n3 .last | grep 'n2: gemel-vmm was killed by signal 9$'; }
check "and the signal is the reason" wait_for 5 killed
guest_goes_on "$acked"
check "protected again" gemel_at $L n3 vm protect web1 --on n2 --timeout 60s

# ft: that is defined anew waits for the next twin.
check "another ft:, which waits, as vm apply says" says 'ft.suspect: .* -> 5s: holds from its next twin on' ft_define '{suspect: 5s}'
check "and vm show" says 'gemel vm unprotect web1, then gemel vm protect' show n3 .pending_ft
check "and explain" explains n1 'its definition was changed since it has this twin: ft.suspect'
check "as it was made, again" ft_define "{suspect: $FT_SUSPECT}"
check "nothing waits" equal "$(show n3 .pending_ft)" null

check "unprotected" gemel_at $L n2 vm unprotect web1 --timeout 20s
check "as every node says" wait_for 5 unprotected n3
check "nothing is left of its twin" wait_for 5 has_none n2
acked=$(vm_acked $L)
guest_goes_on "$acked"

# Copies of its disks: of what a node has, only what was written since goes there; else all of it, 8 MB.
sent_kib() { show n3 .last | sed -n 's/.* \([0-9]*\) KiB of its disks were sent.*/\1/p'; }
sent() { # LESS|MORE: than 6 MiB, by the last protection
    local kib
    kib=$(sent_kib)
    [ -n "$kib" ] || return 1
    echo "# $kib KiB of its disks were sent"
    if [ "$1" = LESS ]; then [ "$kib" -lt 6144 ]; else [ "$kib" -ge 6144 ]; fi
}
there() { lab $L exec "$1" -- cmp -s -i 40M -n 8000000 $DISK "$LAB_SCRATCH/data"; }
lab $L exec n1 -- dd if=$DISK of="$LAB_SCRATCH/data" bs=1M count=64 status=none
copies_to() { # NODE LESS|MORE
    check "protected by $1 once more" gemel_at $L n3 vm protect web1 --on "$1" --timeout 60s
    check "what has gone there of its disk: $2" sent "$2"
    check "its disk is whole there" there "$1"
    check "unprotected" gemel_at $L n2 vm unprotect web1 --timeout 20s
    check "nothing is left of its twin" wait_for 5 has_none "$1"
    sleep 1 # its agent looks at the file when the process is gone; who writes before that writes while it is in use
}
copies_to n2 LESS
lab $L exec n2 -- sh -c "head -c 67108864 /dev/urandom >$DISK.new && mv $DISK.new $DISK"
copies_to n2 MORE # a file that was replaced is no copy
lab $L exec n2 -- sh -c "head -c 100000 /dev/urandom | dd of=$DISK bs=1M seek=43 conv=notrunc,fsync status=none" # labfs has times of what is synced
copies_to n2 MORE # nor one that somebody wrote to
lab $L exec n2 -- rm $DISK
copies_to n2 MORE # nor one that is made anew, perhaps in the same inode
copies_to n3 MORE
lab $L exec n2 -- sh -c "head -c 100000 /dev/urandom | dd of=$DISK bs=1M seek=43 conv=notrunc status=none"

# Switchover. Where the copy is of before, it is not trusted.
check "protected again" gemel_at $L n3 vm protect web1 --on n2 --timeout 60s
check "all of it has gone there" sent MORE
check "its disk is whole there" there n2
acked=$(vm_acked $L)
check "its twin takes over, and it is said that it has none then" says 'has taken over from n1.*without a twin from now on' gemel_at $L n3 vm switchover web1 --timeout 30s
check "and runs it" wait_for 5 vm_runs_on $L n1 n2
guest_goes_on "$acked"
check "nothing is left on n1" wait_for 10 has_none n1

# Agents of both sides are killed, and find what they had.
check "protected by n1" gemel_at $L n3 vm protect web1 --on n1 --timeout 60s
lab $L kill n1 gemeld
lab $L kill n2 gemeld
check "they are back" wait_for 20 protected_by n1 n1
sleep 1
check "it still has its twin" protected_by n3 n1
acked=$(vm_acked $L)
guest_goes_on "$acked"

# The twin's node loses its power: it goes on by itself.
acked=$(vm_acked $L)
check "the power of the twin's node is cut" lab $L power n1 off
check "it goes on alone" wait_for 20 unprotected n3
check "on its node" vm_runs_on $L n3 n2
guest_goes_on "$acked"
check "the node is back" lab $L power n1 on
check "all see it" wait_for 30 together $L

# The node of the VM loses its power, after the definition has asked for a twin.
check "its definition asks for a twin" ft_define "{mode: auto, suspect: $FT_SUSPECT, on: [n3]}"
check "which it gets" wait_for 30 protected_by n1 n3
lab $L kill n3 gemeld
check "the twin's agent is killed, and finds it" wait_for 20 together $L
sleep 1
check "it still is the twin" protected_by n1 n3
acked=$(vm_acked $L)
before=$(grep -c 'answers again' "$LAB_SCRATCH/$L-witness.err")
says_first() { gemel_at $L n3 explain web1 | grep -q 'why: its twin on this node has taken over' && vm_runs_on $L n3 n3; }
check "the power of its node is cut" lab $L power n2 off
check "the twin's node says so before the ring has noticed" wait_for 5 says_first
check "the twin goes on" wait_for 20 vm_runs_on $L n1 n3
guest_goes_on "$acked"
note "outages since: $(tail -n +$((before + 1)) "$LAB_SCRATCH/$L-witness.err" | grep 'answers again' | sed 's/.*after //; s/,.*//' | tr '\n' ' ')"
check "and it gets another twin" wait_for 60 protected_by n1 n1
epoch=$(show n1 .epoch)
lab $L exec n3 -- timeout 20 python3 -c 'import socket
print("listens", flush=True)
print(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x8035)).recv(64)[6:12].hex(":"), flush=True)' >"$LAB_SCRATCH/$L-rarp" &
rarp=$!
wait_for 10 grep -q listens "$LAB_SCRATCH/$L-rarp"
sleep 1
lab $L kill n3 gemeld
check "its agent is killed, and finds the twin that went live" wait_for 20 protected_by n3 n1
wait $rarp
check "and announces it: the one before may not have come to it" equal "$(tail -n 1 "$LAB_SCRATCH/$L-rarp")" "$VM_MAC"
sleep 1
check "whose guest went on" equal "$(show n1 .epoch)" "$epoch"
check "the node is back" lab $L power n2 on
check "all see it" wait_for 30 together $L

# Its gemel-vmm is killed: the twin goes on, and nobody starts it a second time.
here=$(vm_node $L n1)
acked=$(vm_acked $L)
check "its gemel-vmm is killed" lab $L exec "$here" -- pkill -KILL -x gemel-vmm
check "the twin goes on" wait_for 20 vm_runs_on $L n1 n1
guest_goes_on "$acked"
check "and it gets another twin" wait_for 60 protected_by n1 n3

# The cluster network breaks. Who is cut off notices that nobody answers, and the other side goes on: with the VM, or with its twin.
here=$(vm_node $L n1)
twin=$(show n1 .twin.node)
third=$(another "$here" "$twin")
acked=$(vm_acked $L)
check "the twin's node is cut off" lab $L partition "$twin" / "$here,$third"
check "the VM goes on without it" wait_for 20 unprotected "$here"
check "where it was" vm_runs_on $L "$third" "$here"
guest_goes_on "$acked"
check "the network is whole" lab $L heal
check "all see each other" wait_for 30 together $L
check "and it gets another twin" wait_for 60 eval '[ "$(show n1 .protected)" = true ]'
acked=$(vm_acked $L)
twin=$(show "$here" .twin.node)
third=$(another "$here" "$twin")
check "the VM's node is cut off" lab $L partition "$here" / "$twin,$third"
check "its twin goes on" wait_for 20 vm_runs_on $L "$third" "$twin"
guest_goes_on "$acked"
check "the network is whole" lab $L heal
check "all see each other" wait_for 30 together $L
check "what was cut off is gone" wait_for 20 has_one_at_most "$here"
check "and it gets another twin" wait_for 60 eval '[ "$(show n1 .protected)" = true ]'

# Maintenance of its node: the twin takes over.
here=$(vm_node $L n1)
check "maintenance of $here" gemel_at $L n2 node maintenance "$here" on --timeout 60s
check "nothing is left there" wait_for 10 has_none "$here"
check "it runs elsewhere" test "$(vm_node $L n2)" != "$here"
check "maintenance is over" gemel_at $L n2 node maintenance "$here" off --timeout 60s

# Checkpoints instead of lockstep.
check "unprotected, for another mode" gemel_at $L n2 vm unprotect web1 --timeout 20s
check_rc 2 "no mode of that name" gemel_at $L n2 vm protect web1 --mode sometimes
check_rc 4 "checkpoints have a rule of their own" gemel_at $L n2 vm protect web1 --mode checkpoint --commit received
check "protected by checkpoints" gemel_at $L n2 vm protect web1 --mode checkpoint --timeout 60s
check "as explain says" wait_for 5 explains n1 'checkpoints of it go to its twin'
acked=$(vm_acked $L)
twin=$(show n1 .twin.node)
check "its twin takes over, and it is said that it has none then" says 'has taken over from n1.*without a twin for some seconds' gemel_at $L n3 vm switchover web1 --timeout 30s
check "and runs it" wait_for 5 vm_runs_on $L n1 "$twin"
guest_goes_on "$acked"
check "it has no twin by itself" gemel_at $L n2 vm unprotect web1 --timeout 20s
check "protected by checkpoints again" gemel_at $L n2 vm protect web1 --mode checkpoint --timeout 60s
here=$(vm_node $L n1)
twin=$(show "$here" .twin.node)
acked=$(vm_acked $L)
check "the power of its node is cut" lab $L power "$here" off
check "its twin goes on" wait_for 20 vm_runs_on $L "$twin" "$twin"
guest_goes_on "$acked"
check "the node is back" lab $L power "$here" on
check "all see it" wait_for 30 together $L

check "unprotected, whatever its definition says" gemel_at $L n2 vm unprotect web1 --timeout 20s
check "it stops" gemel_at $L n1 vm stop web1 --timeout 30s
check "no oracle complains" witness_end $L
note "$(jq -c '{verdict, lost_acked_writes, dual_live, max_acked, outage_ms}' "$LAB_SCRATCH/$L-witness.json")"
newest() { # every acknowledged record is on each copy that counts
    local node nodes
    nodes=$(show n1 '.copies[] | select(.counts).node')
    [ -n "$nodes" ] || { echo "no copy counts"; return 1; }
    for node in $nodes; do
        "$builddir/tests/guest/witness" check-disk "$LAB_SCRATCH/$L/nodes/$node/gemel/web1.img" --acked "$(witness_value $L .max_acked)" || return 1
    done
}
check "every acknowledged record is on the disks that count" newest
check "down leaves nothing" lab $L down
tap_end
