#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# shellcheck disable=SC2154 # builddir is of lib.sh
# Many migrations of a writing guest, every one compared, with the gap that an outside witness saw at each; then a node with many
# VMs is emptied. MOVES=N (100), VMS=N (20); without LAB_LONG ten and four.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/vm.sh"
lab_begin
[ -c /dev/kvm ] || { echo "1..0 # SKIP no /dev/kvm"; exit 0; }
L=mm
MOVES=${MOVES:-$([ "$LAB_LONG" = 0 ] && echo 10 || echo 100)}
VMS=${VMS:-$([ "$LAB_LONG" = 0 ] && echo 4 || echo 20)}
VM_KNOBS="dirty=2000:16 filled"
WITNESS_GAP_MS=60 WITNESS_OUTAGE_MS=12

check "three nodes with agents" lab $L up
check "the VM is defined" vm_define $L
check "the VM starts" gemel_at $L n2 vm start web1 --node n1 --timeout 30s
check "the guest answers" witness_begin $L
sleep 0.5
moves() {
    local i to=n2
    for i in $(seq "$MOVES"); do
        python3 -c 'import time; print(time.clock_gettime_ns(time.CLOCK_MONOTONIC), end=" ")' >>"$LAB_SCRATCH/moves"
        gemel_at $L n3 vm migrate web1 $to --verify --timeout 60s >"$LAB_SCRATCH/move.out" 2>&1 || {
            cat "$LAB_SCRATCH/move.out"
            return 1
        }
        grep -q 'memory compared' "$LAB_SCRATCH/move.out" || return 1
        python3 -c 'import time; print(time.clock_gettime_ns(time.CLOCK_MONOTONIC))' >>"$LAB_SCRATCH/moves"
        to=$([ $to = n2 ] && echo n1 || echo n2)
        sleep 0.3
    done
}
check "$MOVES migrations, each compared" moves
check "no oracle complains" witness_end $L
check "every acknowledged record is on the disk" disk_is_whole $L
gaps() { # the longest gap that touches each move
    python3 - "$LAB_SCRATCH/moves" "$LAB_SCRATCH/$L-witness.json" <<'PY'
import json, sys
witness = json.load(open(sys.argv[2]))
gaps = [(witness["start_ns"] + (o["from_ms"]) * 1e6, o["ms"]) for o in witness["outages"]]
seen = []
for line in open(sys.argv[1]):
    begin, end = map(int, line.split())
    seen.append(max([ms for at, ms in gaps if at < end and at + ms * 1e6 > begin] or [0]))
seen.sort()
at = lambda q: seen[min(len(seen) - 1, int(q * len(seen)))]
print(f"# moves={len(seen)} gap_ms min={seen[0]} median={at(0.5)} p99={at(0.99)} max={seen[-1]} "
      f"lost={witness['lost_acked_writes']} acked={witness['max_acked']} (a question every 10 ms)")
PY
}
gaps
check "the VM stops" gemel_at $L n1 vm stop web1 --timeout 30s

define() { # I
    local shared
    shared=$(vm_shared $L)
    mkdir -p "$shared/d$1"
    truncate -s 1M "$shared/d$1/disk0.img"
    cat >"$shared/d$1.yaml" <<YAML
name: d$1
memory: 32MiB
machine: lockstep
boot: {firmware: /srv/gemel/pulse.rom, cmdline: "ip=10.77.201.$1 rate=2 dirty=100:8 filled"}
disks: [{path: disk0.img}]
nics: [{mac: "52:54:00:77:c9:$(printf %02x "$1")"}]
YAML
    gemel_at $L n1 vm apply -f "/srv/gemel/d$1.yaml" >/dev/null && gemel_at $L n1 vm start "d$1" --node n1 --timeout 60s
}
define_all() {
    local i
    for i in $(seq "$VMS"); do define "$i" || return 1; done
}
check "$VMS VMs run on n1" define_all
begun=$(date +%s%N)
check "n1 is emptied" gemel_at $L n3 node maintenance n1 on --timeout 300s
took=$((($(date +%s%N) - begun) / 1000000))
is_empty() { equal "$(lab $L exec n1 -- pgrep -c -x gemel-vmm)" 0; }
check "nothing is left on n1" wait_for 5 is_empty
all_run() { equal "$(gemel_at $L n2 vm list --json | jq '[.vms[] | select(.state == "running")] | length')" "$VMS"; }
check "all of them run" all_run
stops() { # from FROZEN at n1 to RUNNING elsewhere, by the logs of both gemel-vmm
    local i from to
    for i in $(seq "$VMS"); do
        from=$(grep -h 'state=frozen' "$LAB_SCRATCH/$L/nodes/n1/log/gemel/d$i/vmm.log" | tail -n 1 | awk '{print $3}')
        to=$(grep -h 'state=running' "$LAB_SCRATCH/$L/nodes/"n[23]"/log/gemel/d$i/vmm.log" | tail -n 1 | awk '{print $3}')
        echo "$(date -d "$to" +%s%3N) $(date -d "$from" +%s%3N)"
    done | awk '{print $1 - $2}' | sort -n
}
stops >"$LAB_SCRATCH/stops"
note "emptied in $took ms, $VMS VMs; frozen to running, ms: min $(head -n 1 "$LAB_SCRATCH/stops")," \
    "median $(sed -n "$((VMS / 2 + 1))p" "$LAB_SCRATCH/stops"), max $(tail -n 1 "$LAB_SCRATCH/stops")"
check "maintenance is over" gemel_at $L n3 node maintenance n1 off
all_home() { equal "$(gemel_at $L n2 vm list --json | jq '[.vms[] | select(.state == "running" and .node == "n1")] | length')" "$VMS"; }
check "all of them come home" wait_for 120 all_home
check "down leaves nothing" lab $L down
tap_end
