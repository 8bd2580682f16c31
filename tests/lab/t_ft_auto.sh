#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# shellcheck disable=SC2154 # builddir is of lib.sh
# What a VM gets by itself (ft.mode: auto): a twin in another failure domain, in lockstep; and when that goes another way too often, one in
# checkpoint mode, without anybody's word, and without a restart. Back by an operator's word.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/vm.sh"
lab_begin
[ -c /dev/kvm ] || { echo "1..0 # SKIP no /dev/kvm"; exit 0; }
L=ftauto
WITNESS_GAP_MS=100
WITNESS_NO_STORAGE=1 # its disk is not on the shared storage
DISK=/var/lib/gemel/web1.img
PULSE_ELF=$builddir/tests/guest/pulse.elf

racks_apply() { # n1 and n2 in one rack
    sed -e '/name: n[12], id/s/}/, failure_domain: rack1}/' -e '/name: n3, id/s/}/, failure_domain: rack2}/' \
        "$LAB_SCRATCH/$L/nodes/n1/etc/gemel/cluster.yaml" >"$(vm_shared $L)/cluster.yaml"
    gemel_at $L n1 cluster apply -f /srv/gemel/cluster.yaml
}
define() { # FT-YAML
    mkdir -p "$(vm_shared $L)/web1"
    cp "$builddir/tests/guest/pulse.rom" "$(vm_shared $L)/pulse.rom"
    cat >"$(vm_shared $L)/web1.yaml" <<YAML
name: web1
memory: 32MiB
machine: lockstep
boot: {firmware: /srv/gemel/pulse.rom, cmdline: "ip=$VM_IP rate=20"}
disks: [{path: $DISK, serial: web1, mirrored: true}]
nics: [{mac: "$VM_MAC"}]
ha: {start_timeout: 20s, stop_timeout: 10s}
ft: $1
YAML
    gemel_at $L n1 vm apply -f /srv/gemel/web1.yaml
}
show() { gemel_at $L n1 vm show web1 --json | jq -r "$1"; } # n1 runs it
shows() { equal "$(show "$1")" "$2"; }
protected_as() { shows .protected true && shows .twin.mode "$1"; }
explains() { gemel_at $L n3 explain web1 | grep -q -- "$1"; }
# One byte of the twin's memory, which nobody logs: where its guest branches, so it goes another way.
twin_strays() {
    local node at
    node=$(show .twin.node)
    at=$((0x$(nm "$PULSE_ELF" | awk '$3 == "pulse_tick_to_debug" { print $1 }')))
    # shellcheck disable=SC2016 # for the node's shell
    lab $L exec "$node" -- bash -c '
        pid=$(pgrep -x gemel-vmm) || exit
        at=$((0x$(awk "/rw-s.*memfd:gemel-ram/ { sub(\"-.*\", \"\", \$1); print \$1; exit }" "/proc/$pid/maps") + $1))
        value=$(dd if="/proc/$pid/mem" bs=1 count=1 skip=$at iflag=skip_bytes 2>/dev/null | od -An -tu1)
        printf "$(printf "\\\\x%02x" $((value ^ 1)))" | dd of="/proc/$pid/mem" bs=1 seek=$at conv=notrunc 2>/dev/null' _ "$at"
}
diverged_more_than() { [ "$(show .twin.diverged)" -gt "$1" ] || has_stepped_down; }
has_stepped_down() { shows .diverged.sessions 1; }
# What is spoilt while the last repair is still under way may be made good by that: once more then.
strays_until() { # COMMAND...
    local try
    for try in 1 2 3 4 5; do
        twin_strays && wait_for 5 "$@" && return
        echo "try $try was not noticed"
    done
    return 1
}

check "three nodes with agents" lab $L up
check "two racks" racks_apply
check "the VM is defined" define '{mode: auto, suspect: 500ms, domains: require, on: [n2]}'
lab $L exec n1 -- truncate -s 64M $DISK
check "it starts" gemel_at $L n2 vm start web1 --node n1 --timeout 30s
check "the guest answers" witness_begin $L
check "it gets a twin" wait_for 30 protected_as lockstep
check "in the other rack" shows .twin.node n3
check "as it says" shows .twin.failure_domain rack2
check "and explain, and why it is in lockstep" eval 'explains "its twin is on n3: other domain: rack2" && explains "in lockstep, because its machine can"'
check "its twin's node is to be emptied" gemel_at $L n2 node maintenance n3 on --timeout 30s
check "explain says of each node why not" wait_for 10 eval 'explains "n2 is in failure domain rack1 like the VM" && explains "n3 is in maintenance"'
check "maintenance is over" gemel_at $L n2 node maintenance n3 off --timeout 30s
check "it gets a twin" wait_for 30 protected_as lockstep
check "unprotected" gemel_at $L n2 vm unprotect web1 --timeout 20s
check_rc 4 "not in its own rack" gemel_at $L n2 vm protect web1 --on n2
check "as is said" says 'n2 is in failure domain rack1 like the VM' gemel_at $L n2 vm protect web1 --on n2
check "protected again" gemel_at $L n2 vm protect web1 --timeout 60s
check "in the other rack" shows .twin.node n3

# Four times in ten minutes is one too many.
acked=$(vm_acked $L)
restarts=$(show .epoch)
for i in 0 1 2; do
    check "its twin goes another way, which is noticed ($i)" strays_until diverged_more_than "$i"
done
check "it is still in lockstep" protected_as lockstep
check "and once more" strays_until has_stepped_down
check "it steps down to checkpoints, by itself" wait_for 60 protected_as checkpoint
check "in the other rack" shows .twin.node n3
check "where it was, and it was never started again" eval 'vm_runs_on $L n2 n1 && [ "$(show .epoch)" -gt "$restarts" ]'
check "the guest goes on" wait_for 20 goes_on $L "$acked"
check "the record has it" eval 'shows .diverged.stepped_down true && shows .diverged.sessions 1'
check "explain says why" explains 'in checkpoint mode, because its twin went another way too often'
check "and how to go back" explains 'gemel vm protect web1 --mode lockstep'
check "an event tells" says 'steps down from lockstep to checkpoint mode: the twin went another way 4 times' gemel_at $L n2 events
note "unprotected for $(gemel_at $L n2 events --json | jq '[.events[] | select(.text | test("steps down|protected by checkpoints"))] | last.t_ms - .[0].t_ms') ms"

check "an operator goes back" gemel_at $L n2 vm protect web1 --mode lockstep --timeout 60s
check "to lockstep" wait_for 5 protected_as lockstep
check "which the record has" shows .diverged.stepped_down false
acked=$(vm_acked $L)
check "the guest goes on" wait_for 20 goes_on $L "$acked"

check "unprotected, whatever its definition says" gemel_at $L n2 vm unprotect web1 --timeout 20s
check "it stops" gemel_at $L n1 vm stop web1 --timeout 30s
check "no oracle complains" witness_end $L
note "$(jq -c '{verdict, lost_acked_writes, dual_live, max_acked, outage_ms}' "$LAB_SCRATCH/$L-witness.json")"
check "down leaves nothing" lab $L down
tap_end
