#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Safety (issue 2): the node is cut off and its BMC hangs, is deaf, slow, or fails. Nothing may start elsewhere until
# there is a proof: the BMC is well again, the node is back, or an operator's word. And: the node is back while a
# fence against it is in flight.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/vm.sh"
. "$(dirname "$0")/safety.sh"

# The VM is where it was, and only there, for this long
stays() { # SECONDS NODE
    local end=$((SECONDS + $1)) asked
    asked=$(a_node_but "$2")
    while [ "$SECONDS" -lt "$end" ]; do
        equal "$(vmms "$2")" 1 && equal "$(vmm_total)" 1 || return 1
        vm_is "$L" "$asked" running && {
            equal "$(vm_node "$L" "$asked")" "$2" || return 1
        }
        sleep 0.2
    done
}

unknown_at() { # ASKED
    vm_is "$L" "$1" unknown
}

# bmc_case WHAT NODE MODE [MS]: cut off behind a BMC that does not do its work
bmc_cut() {
    local what=$1 node=$2
    shift 2
    lab "$L" bmc "$node" "$@"
    rnd_sleep 0 800
    check "$what: $node is cut off" lab "$L" link "$node" down
    check "$what: its VM is held for unknown" wait_for 30 unknown_at "$(a_node_but "$node")"
    rnd 2 6
    check "$what: nothing starts elsewhere for $R s" stays "$R" "$node"
}

elsewhere() {
    local owner
    owner=$(vm_owner) && not equal "$owner" "$1"
}

# The BMC gets well: then the node is switched off, and the VM moves
case_bmc_hang() {
    local node
    node=$(vm_owner)
    bmc_cut "hang $1" "$node" hang
    lab "$L" bmc "$node" ok
    check "hang $1: the BMC is well, the VM runs elsewhere" wait_for 60 elsewhere "$node"
    check "hang $1: it answers" wait_for 20 answers_again "$L"
}

case_bmc_fail() {
    local node
    node=$(vm_owner)
    bmc_cut "fail $1" "$node" fail
    lab "$L" bmc "$node" ok
    check "fail $1: the BMC is well, the VM runs elsewhere" wait_for 60 elsewhere "$node"
    check "fail $1: it answers" wait_for 20 answers_again "$L"
}

# It says done, and the node lives. The node comes back, and nothing has happened to the VM.
case_bmc_deaf() {
    local node epoch
    node=$(vm_owner)
    epoch=$(vm_epoch "$node")
    bmc_cut "deaf $1" "$node" deaf
    lab "$L" heal
    check "deaf $1: the node is back with its VM" wait_for 60 vm_runs_on "$L" "$(a_node_but "$node")" "$node"
    check "deaf $1: under the same epoch" equal "$(vm_epoch "$node")" "$epoch"
}

# ipmi_sim serves nobody meanwhile, so the order is repeated and carried out several times
case_bmc_slow() {
    local node
    node=$(vm_owner)
    check "slow $1: a slow device is given time" budget_apply 20s
    rnd 1200 2500
    lab "$L" bmc "$node" slow "$R"
    rnd_sleep 0 800
    check "slow $1: $node is cut off" lab "$L" link "$node" down
    check "slow $1: the VM runs elsewhere" wait_for 90 elsewhere "$node"
    check "slow $1: $node was switched off before" power_is "$L" "$node" off
    check "slow $1: and the others are not waited for long" budget_apply
}

# The device never answers again; the node is really dead, and a person says so
case_confirm_off() {
    local node other
    node=$(vm_owner)
    other=$(a_node_but "$node")
    lab "$L" bmc "$node" hang
    rnd_sleep 0 800
    check "confirm-off $1: refused while $node answers" not gemel_at "$L" "$other" \
        node confirm-off "$node" --yes --reason "it burns"
    check "confirm-off $1: $node loses its power" lab "$L" power "$node" off
    check "confirm-off $1: its VM is held for unknown" wait_for 30 unknown_at "$other"
    rnd_sleep 500 2500
    check "confirm-off $1: nothing has started" equal "$(vmm_total)" 0
    check "confirm-off $1: an operator says that it is off" gemel_at "$L" "$other" \
        node confirm-off "$node" --yes --reason "it burns"
    check "confirm-off $1: the VM runs elsewhere" wait_for 30 elsewhere "$node"
    check "confirm-off $1: it answers" wait_for 20 answers_again "$L"
}

# Healed while the order is under way: switched off or not, it runs once and the node joins again
case_back_in_flight() {
    local node
    node=$(vm_owner)
    rnd 800 3000
    lab "$L" bmc "$node" slow "$R"
    check "back in flight $1: $node is cut off" lab "$L" link "$node" down
    check "back in flight $1: the order is given" wait_for 30 fence_under_way "$node"
    rnd_sleep 0 3000
    lab "$L" heal
    check "back in flight $1: the VM runs" wait_for 60 vm_owner
    sleep 2
}

# Powered off by the fence, switched on by somebody at once
case_on_after_off() {
    local node
    node=$(vm_owner)
    check "on after off $1: $node is cut off" lab "$L" link "$node" down
    check "on after off $1: it is switched off" wait_for 30 power_is "$L" "$node" off
    lab "$L" heal
    rnd_sleep 0 300
    check "on after off $1: and on again at once" lab "$L" power "$node" on
    check "on after off $1: the VM runs" wait_for 60 vm_owner
    check "on after off $1: it answers" wait_for 20 answers_again "$L"
}

wanted() { # ASKED WORD
    equal "$(gemel_at "$L" "$1" vm list --json | jq -r '.vms[] | select(.name == "web1").desired')" "$2"
}

# Stopped by an operator while nobody knows whether it runs: the wish holds when its node is back
case_stop_unknown() {
    local node other
    node=$(vm_owner)
    other=$(a_node_but "$node")
    bmc_cut "stop unknown $1" "$node" hang
    check "stop unknown $1: wanted stopped" gemel_at "$L" "$other" vm stop web1 --no-wait
    check "stop unknown $1: taken" wait_for 5 wanted "$other" stopped
    rnd_sleep 0 1500
    check "stop unknown $1: it is still held for unknown" vm_is "$L" "$other" unknown
    lab "$L" heal
    lab "$L" bmc "$node" ok
    check "stop unknown $1: it is stopped" wait_for 60 vm_is "$L" "$other" stopped
    check "stop unknown $1: nothing of it runs" wait_for 30 equal "$(vmm_total)" 0
    check "stop unknown $1: started again" gemel_at "$L" "$other" vm start web1 --timeout 60s
    check "stop unknown $1: it answers" wait_for 20 answers_again "$L"
}

fence_under_way() {
    gemel_at "$L" "$(a_node_but "$1")" status --json |
        jq -e ".nodes[] | select(.name == \"$1\" and .fence == \"pending\")"
}

safety_begin
for name in ${CASES:-bmc_hang bmc_fail bmc_deaf bmc_slow confirm_off back_in_flight on_after_off stop_unknown}; do
    run_case "$name" 1
done
safety_end
