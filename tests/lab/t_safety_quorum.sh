#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Safety (issue 2): a second node is lost during recovery; all nodes go down and come back in any order with one missing;
# the record log of a node, or of two, is cut at any byte.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/vm.sh"
. "$(dirname "$0")/safety.sh"

no_quorum_at() {
    rc_is 6 gemel_at "$L" "$1" status
}

# Without quorum nothing that did not run before may run, for this long
starts_nothing() { # SECONDS NODE COUNT
    local end=$((SECONDS + $1))
    while [ "$SECONDS" -lt "$end" ]; do
        equal "$(vmms "$2")" "$3" || return 1
        sleep 0.2
    done
}

case_second_node_lost() {
    local owner second survivor back
    owner=$(vm_owner)
    second=$(a_node_but "$owner")
    survivor=$(a_node_but "$owner" "$second")
    rnd 0 1
    [ "$R" = 0 ] || {
        back=$second second=$survivor survivor=$back
    }
    check "second lost $1: $owner loses its power" lab "$L" power "$owner" off
    rnd_sleep 0 1200
    check "second lost $1: and $second" lab "$L" power "$second" off
    check "second lost $1: $survivor says no quorum" wait_for 30 no_quorum_at "$survivor"
    check "second lost $1: and starts nothing" starts_nothing 6 "$survivor" 0
    check "second lost $1: an order is refused" rc_is 6 gemel_at "$L" "$survivor" vm start web1 --timeout 5s
    rnd 0 1
    back=$owner
    [ "$R" = 0 ] || back=$second
    check "second lost $1: $back is on again" lab "$L" power "$back" on
    check "second lost $1: the VM runs" wait_for 60 vm_owner
    check "second lost $1: it answers" wait_for 20 answers_again "$L"
}

# Later: the VM runs already where the survivor is, or is being started there. It goes on (isolation: run), alone.
case_second_node_lost_late() {
    local owner second survivor
    owner=$(vm_owner)
    check "second lost late $1: $owner loses its power" lab "$L" power "$owner" off
    rnd_sleep 1800 4500
    second=$(a_node_but "$owner")
    survivor=$(a_node_but "$owner" "$second")
    check "second lost late $1: and $second" lab "$L" power "$second" off
    check "second lost late $1: $survivor says no quorum" wait_for 30 no_quorum_at "$survivor"
    starts_nothing 3 "$survivor" "$(vmms "$survivor")"
    check "second lost late $1: and starts nothing" [ $? = 0 ]
    check "second lost late $1: $second is on again" lab "$L" power "$second" on
    check "second lost late $1: the VM runs" wait_for 60 vm_owner
    sleep 1
}

shuffled() {
    local i a
    ORDER=(n1 n2 n3)
    for i in 2 1; do
        rnd 0 $i
        a=${ORDER[$i]} ORDER[$i]=${ORDER[$R]} ORDER[$R]=$a
    done
}

case_cold_start() {
    local node
    shuffled
    for node in "${ORDER[@]}"; do
        rnd_sleep 0 400
        check "cold start $1: power of $node off" lab "$L" power "$node" off
    done
    sleep 1
    shuffled
    note "cold start $1: ${ORDER[0]}, ${ORDER[1]}; ${ORDER[2]} is missing"
    for node in "${ORDER[0]}" "${ORDER[1]}"; do
        check "cold start $1: power of $node on" lab "$L" power "$node" on
        rnd_sleep 0 1500
    done
    check "cold start $1: the VM runs" wait_for 90 vm_owner
    check "cold start $1: not where the missing one is" not equal "$(vm_owner)" "${ORDER[2]}"
    check "cold start $1: it answers" wait_for 20 answers_again "$L"
}

# cut_log NODE: its record log loses its end, from any byte on
cut_log() {
    local log len
    log=$LAB_SCRATCH/$L/nodes/$1/gemel/records.log
    len=$(stat -c %s "$log") || return 1
    rnd 0 $((len - 1))
    # as the header says, which may lag behind by the last append (doc/decisions.md)
    durable=$(od -A n -t u8 -j 8 -N 8 "$log" | tr -d ' ')
    cut=$R
    torn_before=$(torn_count "$1")
    note "record log of $1: cut at byte $R of $len, durable $durable"
    truncate -s "$R" "$log"
}

version_at() {
    gemel_at "$L" "$1" status --json | jq -r .version
}

same_version() {
    equal "$(version_at "$1")" "$(version_at "$2")"
}

torn_count() {
    grep -c 'records.log: torn' "$LAB_SCRATCH/$L/nodes/$1/log/gemeld.out"
}

# A cut behind the durable length looks like an append that the power cut: that end is dropped, the state comes from the others.
said_torn() {
    [ "$cut" -ge "$durable" ] || [ "$(torn_count "$1")" -gt "$torn_before" ]
}

case_log_cut() {
    local node other
    rnd 1 3
    node=n$R
    check "log cut $1: power of $node off" lab "$L" power "$node" off
    check "log cut $1: the VM runs" wait_for 60 vm_owner
    cut_log "$node"
    check "log cut $1: power of $node on" lab "$L" power "$node" on
    check "log cut $1: it is a member again" wait_for 60 gemel_at "$L" "$node" status
    check "log cut $1: it knows that it has lost its memory" said_torn "$node"
    other=$(a_node_but "$node")
    check "log cut $1: it has the state of the others" wait_for 10 same_version "$node" "$other"
    check "log cut $1: the VM among it" equal "$(gemel_at "$L" "$node" vm list --json | jq -r '.vms[].name')" web1
    sleep 1
}

waits_for_state() {
    gemel_at "$L" "$1" status --json | jq -e '.problems[] | select(contains("too few nodes still have"))'
}

# A majority without memory must not outvote the one that remembers, nor start anything by itself
case_two_logs_cut() {
    local keeper node
    keeper=$(vm_owner)
    for node in n1 n2 n3; do
        [ "$node" = "$keeper" ] || check "two logs cut $1: power of $node off" lab "$L" power "$node" off
    done
    for node in n1 n2 n3; do
        [ "$node" = "$keeper" ] || {
            cut_log "$node"
            check "two logs cut $1: power of $node on" lab "$L" power "$node" on
        }
    done
    check "two logs cut $1: they wait for more who remember" wait_for 60 waits_for_state "$keeper"
    check "two logs cut $1: the VM lives on" starts_nothing 2 "$keeper" 1
    check "two logs cut $1: an operator accepts what $keeper has" gemel_at "$L" "$keeper" cluster recover --yes
    check "two logs cut $1: healthy" wait_for 60 healthy
    check "two logs cut $1: the VM was not moved" equal "$(vm_owner)" "$keeper"
}

safety_begin
for name in ${CASES:-second_node_lost second_node_lost_late cold_start log_cut two_logs_cut}; do
    run_case "$name" 1
done
safety_end
