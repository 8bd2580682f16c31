#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Suspend on one node and resume on another; what may go wrong between; snapshots, revert, clone.
# shellcheck disable=SC1091 # the library is found at run time
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/vm.sh"
lab_begin
[ -c /dev/kvm ] || { echo "1..0 # SKIP no /dev/kvm"; exit 0; }
L=su
shared=$(vm_shared $L)
dir=$shared/web1

field() { # NODE FIELD: of web1, as NODE's records say
    gemel_at $L "$1" vm show web1 --json | jq -r ".$2"
}

says() { # TEXT COMMAND...: it prints this, whatever its exit code
    local wanted=$1 out
    shift
    out=$("$@" 2>&1)
    [[ $out = *"$wanted"* ]] || { echo "says: $out"; return 1; }
}

node_is() { # ASKED NODE STATE...: one of these
    local state
    state=$(gemel_at $L "$1" node list --json | jq -r ".nodes[] | select(.name == \"$2\").state")
    [[ " ${*:3} " = *" $state "* ]] || { echo "is $state"; return 1; }
}

rests_or_runs() { # ASKED-NODE
    [[ $(vm_state $L "$1") = running || $(vm_state $L "$1") = suspended ]]
}

one_vmm() {
    local node count=0
    for node in n1 n2 n3; do
        count=$((count + $(lab $L exec $node -- sh -c 'grep -lx gemel-vmm /proc/[0-9]*/comm 2>/dev/null | wc -l')))
    done
    equal "$count" 1
}

writes_on() {
    local before
    before=$(md5sum <"$dir/disk0.img")
    sleep 0.5
    not equal "$(md5sum <"$dir/disk0.img")" "$before"
}

sent_by_guest() { # NODE: frames
    lab $L exec "$1" -- sh -c 'cat /sys/class/net/gm*/statistics/rx_packets'
}

answers_on() { # NODE: more than its announcements
    local before
    before=$(sent_by_guest "$1") && sleep 0.5 && [ $(($(sent_by_guest "$1") - before)) -gt 10 ]
}

nothing_left() { # of orders that were interrupted
    equal "$(find "$shared" -name '*.tmp' -o -name '*.deleted' -o -name '*.revert.*' | sort | xargs)" ""
}

apply_memory() { # SIZE
    sed -i "s/^memory: .*/memory: $1/" "$shared/web1.yaml"
    gemel_at $L n1 vm apply -f /srv/gemel/web1.yaml
}

epoch_above() { # NODE EPOCH: it runs under a later one
    vm_is $L "$1" running && [ "$(field "$1" epoch)" -gt "$2" ]
}

check "three nodes with agents" lab $L up
check "the VM is defined" vm_define $L
check_rc 4 "a stopped VM is not suspended" gemel_at $L n1 vm suspend web1
check_rc 4 "nor resumed" gemel_at $L n1 vm resume web1
check_rc 3 "no such VM" gemel_at $L n1 vm suspend nosuch
check "the VM starts on n1" gemel_at $L n2 vm start web1 --node n1 --timeout 30s
check "the guest answers" witness_begin $L
sleep 1
check "dry run" says "dry run" gemel_at $L n2 vm suspend web1 --dry-run
check "it runs" vm_runs_on $L n1 n1

check "suspend" gemel_at $L n2 vm suspend web1 --timeout 30s
check "suspended, on no node" vm_is $L n3 suspended
check "its state is there" test -s "$dir/suspend.gms"
check "released with a digest" test -e "$dir/owner.1.released"
check "suspended already: done" gemel_at $L n1 vm suspend web1
check_rc 4 "a suspended VM is not stopped" gemel_at $L n1 vm stop web1
check "its claim is shown as released" says ": released" field n3 claim
check "its node may die" lab $L power n1 off
check "the others notice" wait_for 20 node_is n2 n1 lost fenced down
check "it stays suspended" vm_is $L n2 suspended
check "its claim was released, whoever is dead" says ": released" field n2 claim
# n2 cannot, n3 could: with --node it is not tried there.
bridge_of_n2() { # FROM TO
    lab $L exec n2 -- sh -c "ip link set $1 down && ip link set $1 name $2 && ip link set $2 up"
}
check "n2 loses its bridge" bridge_of_n2 br0 away0
check "resume on n2: not there, so not at all" says "web1: not resumed on n2: bridge br0: No such device" \
    gemel_at $L n3 vm resume web1 --node n2 --timeout 30s
check_rc 1 "that is a failure" gemel_at $L n3 vm resume web1 --node n2 --timeout 30s
check "it is suspended still" vm_is $L n3 suspended
check "wanted so" equal "$(field n2 desired)" suspended
check "on no node" equal "$(field n2 node)" ""
check "with its claim released" says ": released" field n2 claim
check "n2 has its bridge again" bridge_of_n2 away0 br0
check "resume on n2" gemel_at $L n3 vm resume web1 --node n2 --timeout 30s
check "it runs on n2" vm_runs_on $L n3 n2
check "the guest answers again" wait_for 20 answers_on n2
check "the state is gone" wait_for 5 test ! -e "$dir/suspend.gms"
check "power on" lab $L power n1 on
check "n1 is a member again" wait_for 40 gemel_at $L n1 status

# A damaged state
check "suspend again" gemel_at $L n2 vm suspend web1 --timeout 30s
cp "$dir/suspend.gms" "$shared/good.gms"
printf 'X' | dd of="$dir/suspend.gms" bs=1 seek=5000 conv=notrunc status=none
sum=$(md5sum <"$dir/suspend.gms")
check_rc 1 "a damaged state is not resumed" gemel_at $L n1 vm resume web1 --timeout 20s
check "it is suspended still" vm_is $L n1 suspended
check "the record says why" says "suspend.gms" field n3 last
check "the file is as it was" equal "$(md5sum <"$dir/suspend.gms")" "$sum"
rm "$dir/suspend.gms"
check_rc 1 "nor one that is not there" gemel_at $L n1 vm start web1 --timeout 20s
cp "$shared/good.gms" "$dir/suspend.gms"
check "the right one is resumed, by start" gemel_at $L n1 vm start web1 --node n1 --timeout 30s
check "the guest answers again" wait_for 20 answers_on n1
epoch=$(field n2 epoch)
check "after it, a crash is a boot" lab $L kill n1 gemel-vmm
check "restarted" wait_for 20 epoch_above n2 "$epoch"
check "the guest answers again" wait_for 20 answers_on "$(vm_node $L n2)"


# What fails before the state is written: the VM runs on
mkdir "$dir/suspend.gms.tmp"
check_rc 1 "suspend fails: its file cannot be made" gemel_at $L n2 vm suspend web1 --timeout 20s
check "the VM runs on" vm_is $L n2 running
check "and the record says why" says "not suspended" field n3 last
rmdir "$dir/suspend.gms.tmp"

# The disk fills up in the middle of the state
node=$(vm_node $L n2)
lab $L disk "$node" room 48
check_rc 1 "suspend fails: the disk is full" gemel_at $L n2 vm suspend web1 --timeout 20s
check "the record names the file and says why" says "web1/suspend.gms.tmp: No space left on device" field n2 last
check "the VM runs on" wait_for 10 vm_is $L n2 running
check_rc 1 "a snapshot fails, too" gemel_at $L n2 vm snapshot web1 --name full --timeout 20s
check "the VM runs on" wait_for 10 vm_is $L n2 running
check "and the guest" wait_for 20 answers_on "$node"
check "half a state is not left behind" test ! -e "$dir/suspend.gms.tmp" -a ! -e "$dir/suspend.gms"
check "nor half a snapshot" not says full gemel_at $L n2 vm snapshots web1
lab $L heal
check "with room again: suspend" gemel_at $L n2 vm suspend web1 --timeout 30s
check "and resume" gemel_at $L n2 vm resume web1 --timeout 30s
check "the guest answers again" wait_for 20 answers_on "$(vm_node $L n2)"

# The agent dies in the middle: the VM runs on or is suspended, and is one
for order in suspend:0 suspend:0.05 suspend:0.15 snapshot:0.05 snapshot:0.15; do
    node=$(vm_node $L n2)
    delay=${order#*:}
    # what a node that is gone would leave, too
    mkdir -p "$dir/snapshots/.half@n9.tmp" && touch "$dir/snapshots/.half@n9.tmp/disk0.img"
    lab $L disk "$node" delay 30
    gemel_at $L n2 vm "${order%:*}" web1 --no-wait >/dev/null
    sleep "$delay"
    check "agent killed ${delay}s after the order to ${order%:*}" lab $L kill "$node" gemeld
    lab $L disk "$node" delay 0
    check "it runs or is suspended" wait_for 30 rests_or_runs "$(another "$node")"
    check "resumed, or runs already" gemel_at $L "$(another "$node")" vm start web1 --timeout 40s
    check "one VMM" wait_for 10 one_vmm
    check "nothing half done is left" wait_for 20 nothing_left
done

check "snapshot of the running VM" gemel_at $L n2 vm snapshot web1 --name one --timeout 30s
check "it runs on" vm_is $L n2 running
check "listed, with its state" says "with state" gemel_at $L n1 vm snapshots web1
check_rc 1 "the name is taken" gemel_at $L n2 vm snapshot web1 --name one --timeout 30s
check "it runs on" wait_for 10 vm_is $L n2 running
check "still writing" wait_for 10 writes_on
check "the VM is stopped" gemel_at $L n1 vm stop web1 --timeout 30s
check "no oracle complains" witness_end $L
check "every acknowledged record is on the disk" disk_is_whole $L

# Back in time: no witness watches that
md5=$(md5sum <"$dir/disk0.img")
check "snapshot of the stopped VM" gemel_at $L n2 vm snapshot web1 --name off
check_rc 3 "revert to what is not there" gemel_at $L n1 vm revert web1 nosuch --yes
check "a snapshot says what its state is of" grep -qx "memory: 32MiB" "$dir/snapshots/one/snapshot.yaml"
check "and which cards it knows" grep -qx "nics: $VM_MAC" "$dir/snapshots/one/snapshot.yaml"
check "another definition" apply_memory 64MiB
check_rc 4 "its state would not fit: not reverted" gemel_at $L n1 vm revert web1 one --yes --timeout 40s
check "every difference is named" says "memory 32MiB, now 64MiB; apply" gemel_at $L n1 vm revert web1 one --yes
check "the disk is as it was" equal "$(md5sum <"$dir/disk0.img")" "$md5"
check "and the VM" vm_is $L n1 stopped
check "the definition of the snapshot" apply_memory 32MiB
check "dry run of a revert" says "dry run" gemel_at $L n1 vm revert web1 one --yes --dry-run
check "revert to the running state" gemel_at $L n1 vm revert web1 one --yes --timeout 40s
check "it runs" vm_is $L n3 running
check "from an older disk" not equal "$(md5sum <"$dir/disk0.img")" "$md5"
check "and writes" wait_for 10 writes_on
check "nothing half done is left" wait_for 20 nothing_left
check "revert of the running VM to the stopped one" gemel_at $L n3 vm revert web1 off --yes --timeout 40s
check "stopped" vm_is $L n1 stopped
check "with that disk" equal "$(md5sum <"$dir/disk0.img")" "$md5"
check "clone" gemel_at $L n2 vm clone web1 web2
check "clone of a snapshot" gemel_at $L n2 vm clone web1 web3 --snapshot off
check "the clone's disk" cmp "$dir/disk0.img" "$shared/web2/disk0.img"
check_rc 4 "the name is taken" gemel_at $L n2 vm clone web1 web2
check "the clone boots" gemel_at $L n1 vm start web2 --timeout 30s
check "with another MAC" not says "$VM_MAC" gemel_at $L n1 vm show web2 --yaml
check_rc 4 "a running VM is not cloned" gemel_at $L n1 vm clone web2 web4
check "delete a snapshot" gemel_at $L n1 vm snapshot-delete web1 one
check_rc 3 "once" gemel_at $L n1 vm snapshot-delete web1 one
check "kill the clone" gemel_at $L n1 vm kill web2
check "down leaves nothing" lab $L down
tap_end
