#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# shellcheck disable=SC2154 # builddir is of lib.sh
# A running VM moves between nodes: the witness sees one copy at a time, every record, and how long it stood still. Then what may
# go wrong on the way.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/vm.sh"
lab_begin
[ -c /dev/kvm ] || { echo "1..0 # SKIP no /dev/kvm"; exit 0; }
L=mv
VM_KNOBS="dirty=200:16 filled" # something to move
WITNESS_GAP_MS=100 # it comes back to a node sooner than in a second

check "three nodes with agents" lab $L up
check "the VM is defined" vm_define $L
check "the VM starts" gemel_at $L n2 vm start web1 --node n1 --timeout 30s
check "the guest answers" witness_begin $L

# Who runs it, as every node says
agreed_on() {
    local node
    for node in n1 n2 n3; do
        vm_runs_on $L "$node" "$1" || return 1
    done
}
processes() { lab $L exec "$1" -- pgrep -c -x gemel-vmm; }
nothing_left() { equal "$(processes "$1")" 0; }

for to in n2 n3 n1; do
    from=$(vm_node $L n1)
    acked=$(vm_acked $L)
    check "it moves from $from to $to" gemel_at $L n3 vm migrate web1 $to --verify --timeout 60s
    check "all agree on $to" wait_for 5 agreed_on $to
    check "the guest goes on" wait_for 20 goes_on $L "$acked"
    check "nothing is left on $from" wait_for 5 nothing_left "$from"
done
check "placement finds a node" gemel_at $L n2 vm migrate web1 --verify --timeout 60s
check "not the same" test "$(vm_node $L n1)" != n1
here=$(vm_node $L n1)

# There and back at once: what it left behind may still be on its way out.
for _ in 1 2 3; do
    check "it moves to n1" gemel_at $L n2 vm migrate web1 n1 --timeout 15s
    check "to n2" gemel_at $L n2 vm migrate web1 n2 --timeout 15s
    check "and back at once" gemel_at $L n2 vm migrate web1 n1 --timeout 15s
done
here=n1
# Its own end is heard, not that of the waiting.
says_over() { not gemel_at $L n2 vm migrate web1 n3 --rate 1MiB --no-compress --timeout 2s >"$LAB_SCRATCH/out" 2>&1 && grep -q 'not migrated' "$LAB_SCRATCH/out"; }
check "the time for it is over, and it says so" says_over
check_rc 2 "a downtime that nobody can keep" gemel_at $L n2 vm migrate web1 n3 --downtime 5ms

check_rc 3 "to a node that is not there" gemel_at $L n1 vm migrate web1 n9
check_rc 2 "an option with a bad value" gemel_at $L n1 vm migrate web1 --downtime tomorrow
check_rc 4 "nothing to cancel" gemel_at $L n1 vm migrate web1 --cancel
check "it is there already" gemel_at $L n1 vm migrate web1 "$here"

# It is called off while its memory is copied: it never stood still.
check "a slow one begins" gemel_at $L n2 vm migrate web1 --rate 4MiB --no-compress --no-wait
sleep 1
check "it is called off" gemel_at $L n3 vm migrate web1 --cancel --timeout 20s
check "it is where it was" wait_for 5 agreed_on "$here"
check "and nowhere else" equal "$(for n in n1 n2 n3; do processes $n; done | awk "{ n += \$1 } END { print n }")" 1

# A link that is slow carries compressed pages: 16 MiB at 2 MiB/s would take 8 s.
log_of() { tail -n 40 "$LAB_SCRATCH/$L/nodes/$1/log/gemel/web1/vmm.log" | grep 'memory compared' | tail -n 1; }
was_compressed() { log_of "$1" | grep -q 'compressed from'; }
acked=$(vm_acked $L)
to=$([ "$here" = n3 ] && echo n2 || echo n3)
check "a slow link" gemel_at $L n1 vm migrate web1 $to --rate 2MiB --verify --timeout 6s
check "carries compressed pages, and all of them are right" was_compressed "$here"
check "the guest goes on" wait_for 20 goes_on $L "$acked"
check "not if it is told not to" gemel_at $L n1 vm migrate web1 "$here" --rate 8MiB --no-compress --verify --timeout 30s
check "then they go as they are" not was_compressed $to
check "and all of them are right" test -n "$(log_of $to)"

# What is defined anew waits for its next start. Until then it moves with what it has: other disks for the same memory would be the
# end of its data.
swap_disk() { sed "s/disk0.img/$1/" "$(vm_shared $L)/web1.yaml" >"$(vm_shared $L)/other.yaml" && gemel_at $L n1 vm apply -f /srv/gemel/other.yaml; }
other=$(vm_shared $L)/web1/other.img
waits() { gemel_at $L n3 vm show web1 --json | jq -r .pending | grep -q 'disk0.img.*other.img'; }
has_disk() { gemel_at $L n3 vm show web1 --json | jq -r .disks | grep -q "$1"; }
is_empty() { cmp -s -n 67108864 /dev/zero "$other"; }
truncate -s 64M "$other"
large() { # too large to be kept beside the one that runs
    { cat "$(vm_shared $L)/other.yaml" && yes '# more'; } | head -c 49100 >"$(vm_shared $L)/large.yaml"
    gemel_at $L n1 vm apply -f /srv/gemel/large.yaml
}
refused() { rc_is 4 gemel_at $L n2 vm migrate web1 --timeout 20s >"$LAB_SCRATCH/out" 2>&1 && grep -q 'definition was changed.*other.img' "$LAB_SCRATCH/out"; }
sed "s/disk0.img/other.img/" "$(vm_shared $L)/web1.yaml" >"$(vm_shared $L)/other.yaml"
check "another one, in a large definition" large
check "it does not move: who would know its disk" refused
lab $L kill "$here" gemeld
check "it is found again" wait_for 20 agreed_on "$here"
check "nor after its agent was restarted" refused
check "as it was" swap_disk disk0.img
check "another disk is defined" swap_disk other.img
to=$(another "$here")
acked=$(vm_acked $L)
check "it moves with the one it has" gemel_at $L n2 vm migrate web1 "$to" --verify --timeout 60s
check "the guest goes on" wait_for 20 goes_on $L "$acked"
check "that is shown" has_disk disk0.img
check "the other one still waits" waits
lab $L kill "$to" gemeld
check "it is found again" wait_for 20 agreed_on "$to"
check "also by an agent that was restarted" waits
acked=$(vm_acked $L)
check "it is upgraded with the one it has" gemel_at $L n2 vm upgrade web1 --timeout 60s
check "and moves back with it" gemel_at $L n2 vm migrate web1 "$here" --verify --timeout 60s
check "the guest goes on" wait_for 20 goes_on $L "$acked"

# Maintenance: it leaves, nothing comes, it comes back; all with the disk that it has.
in_maintenance() { equal "$(gemel_at $L n1 node list --json | jq -r ".nodes[] | select(.name == \"$1\").state")" maintenance; }
is_home() { vm_runs_on $L n2 "$here"; }
check "maintenance of $here" gemel_at $L n1 node maintenance "$here" on --timeout 60s
check "is seen" in_maintenance "$here"
check "nothing is left on $here" wait_for 5 nothing_left "$here"
there=$(vm_node $L n1)
acked=$(vm_acked $L)
check "the guest goes on" wait_for 20 goes_on $L "$acked"
check_rc 4 "it does not go back" gemel_at $L n1 vm migrate web1 "$here"
check "maintenance is over when it is home, from $there" gemel_at $L n1 node maintenance "$here" off --timeout 20s
check "it is" is_home
check "the other disk still waits" waits
check "and nobody has written to it" is_empty
check_rc 2 "on or off" gemel_at $L n1 node maintenance "$here" maybe

check "the VM stops" gemel_at $L n1 vm stop web1 --timeout 30s
check_rc 4 "a stopped one is not migrated" gemel_at $L n1 vm migrate web1
check "no oracle complains" witness_end $L
check "every acknowledged record is on the disk" disk_is_whole $L
jq -c '{verdict, max_acked, outage_ms, outages}' "$LAB_SCRATCH/$L-witness.json" 2>/dev/null | sed 's/^/# /'

check "the next start" gemel_at $L n2 vm start web1 --timeout 30s
check "is with the other disk" has_disk other.img
check "nothing waits" not waits
check "and it writes to that" wait_for 20 not is_empty
check "it stops" gemel_at $L n1 vm stop web1 --timeout 30s
check "down leaves nothing" lab $L down
tap_end
