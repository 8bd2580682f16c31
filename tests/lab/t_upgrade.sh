#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# shellcheck disable=SC2154 # builddir is of lib.sh
# A running VM goes on in the gemel-vmm that is installed now, on its node: a witness sees how long it stood still and that no
# acknowledged record is lost; nothing is left of what it ran in. Twenty times in a row, beside everything else that may be done to it.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/vm.sh"
lab_begin
[ -c /dev/kvm ] || { echo "1..0 # SKIP no /dev/kvm"; exit 0; }
L=ug
VM_KNOBS="dirty=200:16 filled" # memory that is looked at
VM_RATE=50
WITNESS_GAP_MS=100 WITNESS_OUTAGE_MS=5
TIMES=${TIMES:-20}

check "three nodes with agents" lab $L up
check "the VM is defined" vm_define $L
check "the VM starts" gemel_at $L n2 vm start web1 --node n1 --timeout 30s
check "the guest answers" witness_begin $L

show() { gemel_at $L n1 vm show web1 --json | jq -r "$1"; }
epoch() { gemel_at $L n2 vm list --json | jq -r '.vms[] | select(.name == "web1").epoch'; }
processes() { lab $L exec "$1" -- pgrep -c -x gemel-vmm; }
# One process, and the files of one instance (json, sock, console, exit; qcow2 would have one more)
one_is_left() { equal "$(processes n1)" 1 && equal "$(lab $L exec n1 -- ls /run/gemel/vm | wc -l)" 4; }
taps() { lab $L exec n1 -- ip -br link show type tun | wc -l; }
stood_still() { # the words of an upgrade, with its figures
    gemel_at $L n3 vm upgrade web1 "$@" >"$LAB_SCRATCH/out" && grep -q 'upgraded on n1: 32 MiB of memory handed over.*stood still for about [0-9]* ms' "$LAB_SCRATCH/out"
}

equal_show() { equal "$(show "$1")" "$2"; }
check "it runs what is installed" equal "$(show .vmm_build)" "$(show .vmm_installed_build)"
check "it says so" equal "$(show .vmm_upgrade)" ""
check "the build is the program's" equal "$(show .vmm_build)" "$(readelf -n "$builddir/gemel-vmm" | awk '/Build ID/ { print $3 }')"

before=$(epoch)
check "it is upgraded" stood_still
check "each upgrade is a claim" equal "$(epoch)" $((before + 1))
check "nothing is left" wait_for 5 one_is_left
for i in $(seq 2 "$TIMES"); do
    acked=$(vm_acked $L)
    verify=()
    [ $((i % 2)) = 1 ] || verify=(--verify)
    check "upgrade $i" stood_still "${verify[@]}"
    [ ${#verify[@]} = 0 ] || check "its memory was compared" grep -q 'memory compared' "$LAB_SCRATCH/out"
    check "the guest goes on" wait_for 20 goes_on $L "$acked"
done
check "nothing is left of all these" wait_for 5 one_is_left
check "one tap" equal "$(taps)" 1
check "$TIMES claims" equal "$(epoch)" $((before + TIMES))
check "no oracle complains" witness_end $L
check "every acknowledged record is on the disk" disk_is_whole $L
note "the witness: $(jq -c '{outages: [.outages[].ms] | length, longest_ms: ([.outages[].ms] | max), lost_acked_writes}' "$LAB_SCRATCH/$L-witness.json")"

# Another gemel-vmm is installed: its build id differs, all else is the same.
check "the guest answers" witness_begin $L
other=$(vm_shared $L)/gemel-vmm
install_other() {
    cp "$builddir/gemel-vmm" "$other" && python3 - "$other" <<'PY'
import sys
name = sys.argv[1]
data = open(name, "rb").read()
at = data.index(b"\x04\0\0\0\x14\0\0\0\x03\0\0\0GNU\0") + 16
open(name, "wb").write(data[:at] + b"\xab" * 20 + data[at + 20:])
PY
    for node in n1 n2 n3; do
        grep -q vmm_path "$LAB_SCRATCH/$L/nodes/$node/etc/gemel/node.yaml" ||
            echo "  vmm_path: /srv/gemel/gemel-vmm" >>"$LAB_SCRATCH/$L/nodes/$node/etc/gemel/node.yaml"
        lab $L kill $node gemeld
    done
}
found_again() { equal "$(gemel_at $L n1 vm list --json | jq -r '.vms[0] | .state + .node')" runningn1; }
check "another one is installed" install_other
check "the VM is found again" wait_for 20 found_again
check "it is seen" wait_for 5 equal_show .vmm_installed_build abababababababababababababababababababab
check "how to upgrade it" equal "$(show .vmm_upgrade)" "another one is installed: gemel vm upgrade web1"
check "its node counts it" equal "$(gemel_at $L n1 node list --json | jq -r '.nodes[0].vms_outdated')" 1
check "it is upgraded to that" stood_still --verify
check "it runs in that" equal "$(show .vmm_build)" abababababababababababababababababababab
check "nothing more to do" equal "$(show .vmm_upgrade)" ""
check "the console is where it is now" lab $L exec n1 -- test -S "$(gemel_at $L n1 vm console web1 --json | jq -r .socket)"

# A definition that was changed holds from the next start: not from here.
sed 's/32MiB/48MiB/' "$(vm_shared $L)/web1.yaml" >"$(vm_shared $L)/other.yaml"
check "another memory size is defined" gemel_at $L n1 vm apply -f /srv/gemel/other.yaml
check "it is upgraded as it runs" stood_still
check "the old size is back" gemel_at $L n1 vm apply -f /srv/gemel/web1.yaml

# One that cannot run: the VM stays as it is.
printf '#!/bin/sh\nexit 1\n' >"$other.bad" && chmod +x "$other.bad"
broken() { mv "$other" "$other.good" && mv "$other.bad" "$other"; }
stays() { not gemel_at $L n2 vm upgrade web1 --timeout 20s >"$LAB_SCRATCH/out" 2>&1 && grep -q "not upgraded: $1" "$LAB_SCRATCH/out"; }
before=$(epoch)
check "what is installed is broken" broken
check "it is not upgraded" stays 'gemel-vmm ended'
check "it runs on, under its claim" equal "$(epoch)" "$before"
check "and in what it ran" equal "$(show .vmm_build)" abababababababababababababababababababab
mv "$other.good" "$other"
check "it is tried again, and done" stood_still

# It moves, and is upgraded there; and back
check "it moves to n2" gemel_at $L n3 vm migrate web1 n2 --timeout 30s
check "it is upgraded there" gemel_at $L n3 vm upgrade web1 --verify
check "and back" gemel_at $L n3 vm migrate web1 n1 --timeout 30s
acked=$(vm_acked $L)
check "the guest goes on" wait_for 20 goes_on $L "$acked"

# --no-wait, suspend and resume after it, what is refused
want=$(($(epoch) + 1))
equal_epoch() { equal "$(epoch)" "$want"; }
check "it is ordered" gemel_at $L n2 vm upgrade web1 --no-wait
check "it is done" wait_for 10 equal_epoch
check_rc 3 "a VM that is not there" gemel_at $L n1 vm upgrade web9
check_rc 2 "an option of migrations" gemel_at $L n1 vm upgrade web1 --downtime 5ms
check "it is suspended" gemel_at $L n1 vm suspend web1 --timeout 30s
check_rc 4 "a suspended one is not upgraded" gemel_at $L n1 vm upgrade web1
check "it goes on" gemel_at $L n1 vm resume web1 --timeout 30s
acked=$(vm_acked $L)
check "the guest goes on" wait_for 20 goes_on $L "$acked"
check "the VM stops" gemel_at $L n1 vm stop web1 --timeout 30s
check_rc 4 "a stopped one is not upgraded" gemel_at $L n1 vm upgrade web1
check "no oracle complains" witness_end $L
check "every acknowledged record is on the disk" disk_is_whole $L

# A qcow2 image: its daemon ends before the release, and the new instance has its own.
equal_daemons() { equal "$(daemons)" 1; }
daemons() { lab $L exec n1 -- pgrep -c qemu-storage; }
last_seq() { tail -n 1 "$LAB_SCRATCH/$L/nodes/n1/log/gemel/web1/console.log" | sed -n 's/^seq=\([0-9]*\) .*/\1/p'; }
further() { [ "$(last_seq)" -gt "$1" ]; }
if command -v qemu-img >/dev/null && command -v qemu-storage-daemon >/dev/null; then
    qemu-img create -q -f qcow2 "$(vm_shared $L)/web1/disk0.qcow2" 64M
    sed 's/disk0.img/disk0.qcow2, format: qcow2/' "$(vm_shared $L)/web1.yaml" >"$(vm_shared $L)/other.yaml"
    check "its disk is an image now" gemel_at $L n1 vm apply -f /srv/gemel/other.yaml
    check "the VM starts" gemel_at $L n1 vm start web1 --node n1 --timeout 30s
    for _ in 1 2; do
        seq=$(last_seq)
        check "it is upgraded" stood_still --verify
        check "it goes on" wait_for 20 further "${seq:-0}"
    done
    check "one daemon is left" wait_for 5 equal_daemons
    check "the VM stops" gemel_at $L n1 vm stop web1 --timeout 30s
    check "the image is sound" qemu-img check -q "$(vm_shared $L)/web1/disk0.qcow2"
else
    note "without qcow2: no qemu-img or no qemu-storage-daemon"
fi
check "down leaves nothing" lab $L down
tap_end
