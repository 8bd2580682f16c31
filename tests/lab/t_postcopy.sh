#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# shellcheck disable=SC2154 # builddir is of lib.sh
# A guest that writes faster than the link carries: with --allow-postcopy it goes on at the destination before its memory is there.
# Each page of the guest counts its own writes (pulse says MEMORY of one that is not as it was left), the witness sees who answers,
# and what was acknowledged. Then everything that may be lost while pages are still to come: the guest is lost with it, HA starts it
# again, once, and nothing is left over.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/vm.sh"
lab_begin
[ -c /dev/kvm ] || { echo "1..0 # SKIP no /dev/kvm"; exit 0; }
[ -c /dev/userfaultfd ] || [ "$(cat /proc/sys/vm/unprivileged_userfaultfd)" = 1 ] || { echo "1..0 # SKIP no userfaultfd"; exit 0; }
L=pc
VM_KNOBS="dirty=1000:16 filled" # 4 MiB/s
WITNESS_GAP_MS=100
WITNESS_OUTAGE_MS=500
PRECOPY="--timeout 2s --no-compress" # then it switches; the pages of this guest are nearly zeros
check "three nodes with agents" lab $L up
check "the VM is defined" vm_define $L '{start_timeout: 20s, stop_timeout: 10s}'
check "the VM starts" gemel_at $L n2 vm start web1 --node n1 --timeout 30s
check "the guest answers" witness_begin $L || { tap_end; exit 1; }

logs() { cat "$LAB_SCRATCH"/$L/nodes/n*/log/gemel/web1/$1; }
shows() { gemel_at $L n3 vm list --json | jq -r '.vms[] | select(.name == "web1") | '"$1"; }
processes() { # on nodes that are on
    local n=0 node count
    for node in n1 n2 n3; do
        count=$(lab $L exec $node -- pgrep -c -x gemel-vmm 2>/dev/null)
        n=$((n + ${count:-0}))
    done
    echo $n
}
equal_processes() { equal "$(processes)" "$1"; }
one_process() { equal_processes 1; }
memory_is_right() { not grep MEMORY <(logs console.log); }
filling() { equal "$(shows '.post_copy.from // ""')" "$1" && [ "$(shows '.post_copy.missing_bytes // 0')" -gt 0 ]; }
is_whole() { equal "$(shows '.post_copy // ""')" ""; }
runs_somewhere() { vm_is $L n3 running && is_whole; }

# From where it is to another one of n1 and n2
next_move() {
    source=$(vm_node $L n3)
    dest=n1
    [ "$source" != n1 ] || dest=n2
    acked=$(vm_acked $L)
}

# begin RATE: that; returns when it runs there and pages are to come. It takes MISSING / RATE from then on.
begin() {
    # shellcheck disable=SC2086
    gemel_at $L n3 vm migrate web1 $dest --allow-postcopy --yes --reason 'a test' --rate $1 $PRECOPY --no-wait && wait_for 20 filling $source
}

# What must be asked for, and what cannot be.
answer_no() { gemel_at $L n3 vm migrate web1 n2 "$@" </dev/null; }
check_rc 4 "without a confirmation nothing happens" answer_no --allow-postcopy --reason test
check_rc 4 "HA protects it: not without a reason" answer_no --allow-postcopy --yes
check_rc 2 "memory that is not there is not compared" answer_no --allow-postcopy --yes --reason test --verify
check "it runs where it was" vm_runs_on $L n3 n1

# It converges: no post-copy.
check "one that converges is copied as ever" gemel_at $L n3 vm migrate web1 n2 --allow-postcopy --yes --reason test --timeout 60s
check "without post-copy" not grep -q 'post-copy: the last' <(logs vmm.log)

next_move
check "it does not converge, and runs there all the same" begin 2MiB
check "on $dest" vm_runs_on $L n2 "$dest"
check "the guest goes on while its memory comes" wait_for 10 goes_on $L "$acked"
check_rc 4 "it is not migrated meanwhile" gemel_at $L n1 vm migrate web1 n3
check_rc 4 "nor suspended" gemel_at $L n1 vm suspend web1
check_rc 4 "and there is nothing to cancel" gemel_at $L n1 vm migrate web1 --cancel
check "all of it comes" wait_for 60 is_whole
check "it was a post-copy" grep -q 'post-copy: the last' <(gemel_at $L n2 vm show web1)
gemel_at $L n2 vm show web1 | grep -o 'stood still for about [0-9]* ms; post-copy.*' | sed 's/^/# /'
check "nothing is left on $source" wait_for 5 one_process
check "no page of the guest is another than it left" memory_is_right
check "no restart" vm_runs_on $L n2 "$dest"

# Who only asked for a moment longer gets it: TCP does not give up, nor do the two ends.
next_move
check "once more" begin 2MiB
check "the source stands still" lab $L pause "$source" gemel-vmm
sleep 3
check "and goes on" lab $L resume "$source" gemel-vmm
check "all of it comes" wait_for 60 is_whole
check "the guest goes on" wait_for 10 goes_on $L "$acked"

# An agent may be restarted at either end.
next_move
check "once more" begin 2MiB
check "the source's agent is restarted" lab $L kill "$source" gemeld
check "the destination's agent is restarted" lab $L kill "$dest" gemeld
check "its memory still comes" wait_for 4 filling "$source"
check "all of it comes" wait_for 60 is_whole
check "nothing is left on $source" wait_for 10 one_process
check "it runs at the destination" vm_runs_on $L n3 "$dest"
check "no page of the guest is another than it left" memory_is_right

# Pages that travel compressed: sooner than 14 MiB can be at 1 MiB/s.
next_move
PRECOPY="--timeout 1s"
check "compressed" begin 1MiB
check "all of it comes" wait_for 8 is_whole
PRECOPY="--timeout 2s --no-compress"
check "the guest goes on" wait_for 10 goes_on $L "$acked"
check "no page of the guest is another than it left" memory_is_right

# It may be stopped, and waits for what it needs for that.
next_move
check "once more" begin 2MiB
check "it is stopped meanwhile" gemel_at $L n2 vm stop web1 --timeout 30s
check "nothing of it is left" wait_for 5 equal_processes 0
check "it starts again" gemel_at $L n2 vm start web1 --node n1 --timeout 30s
check "the guest goes on" wait_for 20 goes_on $L "$acked"

# What is lost with its memory. Afterwards it runs once, from its disk.
LOST_WITHIN=60
lost_with() { # WHAT COMMAND...
    local what=$1
    shift
    next_move
    check "$what: pages are to come" begin 1MiB
    check "$what" "$@"
    check "$what: HA starts it again" wait_for $LOST_WITHIN runs_somewhere
    check "$what: the guest answers" wait_for 40 goes_on $L "$acked"
    check "$what: once" wait_for 30 one_process
}
reason_is() { gemel_at $L n3 events | grep -q "$1"; }
# shellcheck disable=SC2016 # when it is known
kill_source() { lab $L kill "$source" gemel-vmm; }
kill_dest() { lab $L kill "$dest" gemel-vmm; }
power_source() { lab $L power "$source" off; }
cut_dest() { lab $L link "$dest" down; }
lost_with "the source's process is killed" kill_source
check "and it is said why" reason_is 'post-copy: the source was lost while [0-9]* MiB'
lost_with "the destination's process is killed" kill_dest
hang_source() { lab $L pause "$source" gemel-vmm; }
lost_with "the source's process hangs" hang_source
LOST_WITHIN=8 # its fence device says that it is off: sooner than silence would (10 s)
lost_with "the source's node loses its power" power_source
LOST_WITHIN=60
check "and it is said how that is known" reason_is "post-copy: the source was lost.*: $source is proven dead"
check "it comes back" lab $L power "$source" on
check "all together" wait_for 60 together $L
lost_with "the destination is cut off" cut_dest
lab $L link "$dest" up
lab $L power "$dest" on >/dev/null 2>&1
check "all together again" wait_for 60 together $L

check "the VM stops" wait_for 60 gemel_at $L n1 vm stop web1 --timeout 30s
check "no page of the guest was another than it left" memory_is_right
check "no oracle complains" witness_end $L
check "every acknowledged record is on the disk" disk_is_whole $L
jq -c '{verdict, max_acked, outage_ms, outages}' "$LAB_SCRATCH/$L-witness.json" 2>/dev/null | sed 's/^/# /'
check "down leaves nothing" lab $L down
tap_end
