#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# shellcheck disable=SC2154 # builddir is of lib.sh
# Copies of mirrored disks after an end in order: both count, and hold all that was written; whichever is started, the other one counts no more.
# And an operator's word that takes a copy which does not count, with all that stands in its way.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/vm.sh"
lab_begin
[ -c /dev/kvm ] || { echo "1..0 # SKIP no /dev/kvm"; exit 0; }
L=ftcopies
WITNESS_GAP_MS=100
WITNESS_NO_STORAGE=1 # its disks are not on the shared storage
DISK=/var/lib/gemel/web1.img

counts() { # ASKED "n1 n2"
    equal "$(show "$1" '[.copies[] | select(.counts).node] | join(" ")')" "$2"
}
holds() { # NODE ACKED: every record up to it is on that node's disk, as it would be after a power cut
    "$builddir/tests/guest/witness" check-disk "$LAB_SCRATCH/$L/nodes/$1/gemel/web1.img" --acked "$2" >"$LAB_SCRATCH/disk.json" ||
        { cat "$LAB_SCRATCH/disk.json"; return 1; }
}
alike() { cmp "$LAB_SCRATCH/$L/nodes/$1/gemel/web1.img" "$LAB_SCRATCH/$L/nodes/$2/gemel/web1.img"; }
starts_on() { # ASKED NODE OPTION...
    local asked=$1 node=$2
    shift 2
    gemel_at $L "$asked" vm start web1 --timeout 40s "$@" && wait_for 5 vm_runs_on $L "$asked" "$node"
}
typed() { # TEXT COMMAND...: with that as answer
    local text=$1
    shift
    "$@" <<<"$text"
}
cut() { # NODE ASKED: its power; the others have noticed, so that what is ordered then is not lost with the ring
    lab $L power "$1" off && wait_for 30 members_are $L "$2" 2 && wait_for 20 gemel_at $L "$2" vm list
    sleep 1
}
back() { # NODE
    check "$1 is back" lab $L power "$1" on
    check "all see it" wait_for 30 together $L
}

check "three nodes with agents" lab $L up
check "the VM is defined" define_mirrored
lab $L exec n1 -- sh -c "truncate -s 64M $DISK && sync $DISK /var/lib/gemel" # a power cut takes a name that is not synced
check "it starts" starts_on n2 n1 --node n1
check "the guest answers" witness_begin $L
check "its copy counts" wait_for 5 counts n3 n1
check "it is protected" gemel_at $L n3 vm protect web1 --on n2 --timeout 60s
check "its twin's copy counts as well" wait_for 5 counts n3 "n1 n2"
check "which vm show says in words" says 'count: n1, n2; do not count: n3' gemel_at $L n3 vm show web1

# An end in order.
acked=$(vm_acked $L)
guest_goes_on "$acked"
check "it stops" gemel_at $L n3 vm stop web1 --timeout 30s
acked=$(vm_acked $L)
check "both copies count" counts n3 "n1 n2"
check "nothing is told of a lost twin" not sh -c "$LAB_BIN --dir $LAB_SCRATCH/$L exec n3 -- $builddir/gemel events | grep 'twin is lost'"
check "they are alike" wait_for 5 alike n1 n2
check "the power of the twin's node is cut, too" cut n2 n3
back n2
check "what was acknowledged is durable there" holds n2 "$acked"
check "the power of the node where it ran is cut" cut n1 n3
check "it starts on the other one" starts_on n3 n2
guest_goes_on "$acked"
check "only that copy counts now" wait_for 5 counts n3 n2
back n1

# Whoever is started alone is ahead of the other one.
check "it stops" gemel_at $L n3 vm stop web1 --timeout 30s
acked=$(vm_acked $L)
check "only that copy counts still" counts n3 n2
check "not where its copy is old; how, is said" says 'vm start web1 --node n1 --accept-copy' gemel_at $L n3 vm start web1 --node n1
check "by itself it starts where it counts" starts_on n3 n2
guest_goes_on "$acked"

# Checkpoints: what the guest wrote last goes with one epoch more.
check "protected by checkpoints" gemel_at $L n3 vm protect web1 --on n3 --mode checkpoint --timeout 60s
acked=$(vm_acked $L)
guest_goes_on "$acked"
check "it stops" gemel_at $L n1 vm stop web1 --timeout 30s
acked=$(vm_acked $L)
check "it starts at once on its twin's node" starts_on n1 n3 --node n3
guest_goes_on "$acked"
check "only that copy counts now" wait_for 5 counts n1 n3

# The same once more, and both are looked at.
check "protected by checkpoints" gemel_at $L n3 vm protect web1 --on n2 --mode checkpoint --timeout 60s
acked=$(vm_acked $L)
guest_goes_on "$acked"
check "it stops" gemel_at $L n1 vm stop web1 --timeout 30s
acked=$(vm_acked $L)
check "both copies count" counts n1 "n2 n3"
check "they are alike" wait_for 5 alike n2 n3
check "it starts where it was" starts_on n1 n3 --node n3
guest_goes_on "$acked"
check "only that copy counts" wait_for 5 counts n1 n3

# Killed: in lockstep every FLUSH that was answered is on both; in checkpoint mode the twin's may lack the last.
check "protected in lockstep" gemel_at $L n1 vm protect web1 --on n2 --mode lockstep --timeout 60s
acked=$(vm_acked $L)
guest_goes_on "$acked"
check "it is killed" gemel_at $L n1 vm kill web1 --yes --timeout 30s
acked=$(vm_acked $L)
check "both copies count" counts n1 "n2 n3"
check "it starts on its twin's node" starts_on n1 n2 --node n2
guest_goes_on "$acked"
check "protected by checkpoints" gemel_at $L n1 vm protect web1 --on n3 --mode checkpoint --timeout 60s
acked=$(vm_acked $L)
guest_goes_on "$acked"
check "it is killed" gemel_at $L n1 vm kill web1 --yes --timeout 30s
check "only its own copy counts" counts n1 n2
check "it starts there" starts_on n1 n2
guest_goes_on "$(vm_acked $L)"

# The twin hangs while it stops: nobody says that its copy has all of it.
check "protected once more" gemel_at $L n1 vm protect web1 --on n3 --timeout 60s
acked=$(vm_acked $L)
guest_goes_on "$acked"
check "its twin hangs" lab $L exec n3 -- pkill -STOP -x gemel-vmm
check "it stops" gemel_at $L n1 vm stop web1 --timeout 30s
check "only its own copy counts" counts n1 n2
check "nothing is left of its twin" wait_for 10 not lab $L exec n3 -- pgrep -x gemel-vmm
check "it starts where its copy counts" starts_on n1 n2
guest_goes_on "$(vm_acked $L)"

# The twin's node is lost before.
check "protected once more" gemel_at $L n1 vm protect web1 --on n3 --timeout 60s
check "the power of the twin's node is cut" cut n3 n1
check "its VM goes on without it" wait_for 20 counts n1 n2
check "it stops" gemel_at $L n1 vm stop web1 --timeout 40s
check "only its own copy counts" counts n1 n2
back n3
check "no oracle complains" witness_end $L
note "$(jq -c '{verdict, lost_acked_writes, dual_live, max_acked}' "$LAB_SCRATCH/$L-witness.json")"

# The override. n2 has the copy that counts, n1 and n3 have old ones.
check "a copy to be taken is that of a node" says 'needs --node' gemel_at $L n1 vm start web1 --accept-copy --yes
check_rc 4 "it is not taken without the name" typed no gemel_at $L n1 vm start web1 --node n1 --accept-copy
check "what may be lost is said" says 'is lost for good' typed no gemel_at $L n1 vm start web1 --node n1 --accept-copy
lab $L exec n1 -- mv $DISK $DISK.away
check "not where there is none" says 'is not on this node' gemel_at $L n1 vm start web1 --node n1 --accept-copy --yes --timeout 30s
check "it rests" vm_is $L n1 stopped
check "and counts where it did" counts n1 n2
lab $L exec n1 -- mv $DISK.away $DISK
check_rc 4 "without the word not" gemel_at $L n1 vm start web1 --node n1
check "with it, it starts there" typed web1 starts_on n3 n1 --node n1 --accept-copy
check "only that copy counts from now on" wait_for 5 counts n3 n1
check "who did it is on record" says 'started by .*starting on n1 from its copy' gemel_at $L n3 events

# Its node is lost, and nobody knows whether it is off.
check "the BMC of n1 hangs" lab $L bmc n1 hang
check "n1 is cut off" lab $L partition n1 / n2,n3
check "what runs there is not known" wait_for 20 vm_is $L n3 unknown
check "not while it may still run there: which node, and what to do" \
    says 'may still run on n1.*node confirm-off n1' gemel_at $L n3 vm start web1 --node n2 --accept-copy --yes
check_rc 4 "it is refused" gemel_at $L n3 vm start web1 --node n2 --accept-copy --yes
check "the power of n1 is off" lab $L power n1 off
check "an operator says so" gemel_at $L n3 node confirm-off n1 --reason 'pulled' --yes
check "by itself it starts nowhere" explains n3 'in sync only on n1'
check "explain has the command" explains n3 'vm start web1 --node NODE --accept-copy'
check "with the word it starts" starts_on n3 n2 --node n2 --accept-copy --yes
check "only that copy counts" wait_for 5 counts n3 n2
check "the BMC works" lab $L bmc n1 ok
check "the network is whole" lab $L heal
back n1
check "it still runs there" vm_runs_on $L n1 n2
check "a VM without a twin is told to be one" says 'has no twin' gemel_at $L n1 vm unprotect web1
check "it stops" gemel_at $L n1 vm stop web1 --timeout 30s
check "down leaves nothing" lab $L down
tap_end
