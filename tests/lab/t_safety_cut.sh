#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Safety (issue 2): the VM's node is cut off while the VM lives, both ways and one way; the node is frozen and thawed;
# Corosync is stopped, continued, killed. Wherever the VM goes, it runs once and nothing acknowledged is lost.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/vm.sh"
. "$(dirname "$0")/safety.sh"

others() {
    local node list=
    for node in n1 n2 n3; do
        [ "$node" = "$1" ] || list=$list,$node
    done
    echo "${list#,}"
}

# The guest lived on until its node was switched off, and answers from elsewhere
moved_from() {
    local owner
    owner=$(vm_owner) && not equal "$owner" "$1"
}

cut() { # WHAT NODE COMMAND...
    local what=$1 node=$2
    shift 2
    rnd_sleep 0 1500
    check "$what: $node is cut off" "$@"
    check "$what: the VM runs elsewhere" wait_for 60 moved_from "$node"
    check "$what: $node was switched off before" power_is "$L" "$node" off
    check "$what: it answers" wait_for 20 answers_again "$L"
    sleep 1
}

case_cut_both_ways() {
    local node
    node=$(vm_owner)
    cut "cut both ways $1" "$node" lab "$L" partition --vm "$node" / "$(others "$node")"
}

case_link_down() {
    local node
    node=$(vm_owner)
    cut "link down $1" "$node" lab "$L" link "$node" down
}

case_oneway_in() {
    local node
    node=$(vm_owner)
    cut "only hears $1" "$node" lab "$L" link "$node" oneway-in
}

case_oneway_out() {
    local node
    node=$(vm_owner)
    cut "only heard $1" "$node" lab "$L" link "$node" oneway-out
}

# Frozen whole: shorter than the token, and longer; what is thawed must not go on where it was taken over.
case_frozen() {
    local node
    node=$(vm_owner)
    rnd_sleep 0 1000
    if [ "$LAB_LONG" != 0 ]; then
        rnd 1000 30000
    else
        rnd 1000 9000
    fi
    check "frozen $1: $node for $R ms" lab "$L" pause "$node"
    sleep "$(printf '%d.%03d' $((R / 1000)) $((R % 1000)))"
    lab "$L" resume "$node" >/dev/null 2>&1 # refused where it was switched off meanwhile
    check "frozen $1: the VM runs" wait_for 60 vm_owner
    sleep 1
}

case_corosync_stopped() {
    local node
    node=$(vm_owner)
    rnd_sleep 0 1000
    rnd 300 8000
    check "corosync stopped $1: on $node for $R ms" lab "$L" pause "$node" corosync
    sleep "$(printf '%d.%03d' $((R / 1000)) $((R % 1000)))"
    lab "$L" resume "$node" corosync >/dev/null 2>&1
    check "corosync stopped $1: the VM runs" wait_for 60 vm_owner
    sleep 1
}

# A clean end of Corosync is no clean end of the node: its VM lives, so it is switched off first
case_corosync_gone() {
    local node
    node=$(vm_owner)
    cut "corosync gone $1" "$node" lab "$L" daemon "$node" stop corosync
}

case_corosync_killed() {
    local node
    node=$(vm_owner)
    rnd_sleep 0 1000
    check "corosync killed $1: on $node" lab "$L" kill "$node" corosync
    check "corosync killed $1: the VM runs" wait_for 60 vm_owner
    sleep 1
}

# A node that suspects the others loses its Corosync: with the next one it must not suspect them for ever
case_suspicion_forgotten() {
    local node
    node=$(a_node_but "$(vm_owner)")
    check "suspicion forgotten $1: $node is cut off" lab "$L" link "$node" down
    check "suspicion forgotten $1: it suspects" wait_for 10 rc_is 1 suspects_nobody "$node"
    check "suspicion forgotten $1: its corosync is killed" lab "$L" kill "$node" corosync
    sleep 1
    check "suspicion forgotten $1: it hears again" lab "$L" link "$node" up
    check "suspicion forgotten $1: corosync is back" lab "$L" daemon "$node" start corosync
    check "suspicion forgotten $1: it suspects nobody" wait_for 30 healthy
}

suspects_nobody() {
    not grep -q suspect <(gemel_at "$L" "$1" status)
}

# An agent that hangs is in the group and answers nobody: its supervisor ends it, and no VM notices
case_agent_hung() {
    local node
    node=$(gemel_at "$L" "$(vm_owner)" status --json | jq -r .coordinator)
    check "agent hung $1: of the coordinator $node" lab "$L" pause "$node" gemeld
    check "agent hung $1: orders are taken again" wait_for 30 gemel_at "$L" "$(a_node_but "$node")" vm start web1 --timeout 2s
    check "agent hung $1: everything is healthy" wait_for 30 healthy
}

safety_begin
for name in ${CASES:-cut_both_ways link_down oneway_in oneway_out frozen corosync_stopped corosync_gone corosync_killed suspicion_forgotten agent_hung}; do
    run_case "$name" 1
done
safety_end
