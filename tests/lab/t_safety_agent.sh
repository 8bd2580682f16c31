#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Safety (issue 2): gemeld killed at each record write and restarted, in each role: no VM notices, nothing acknowledged
# is lost. VMM killed: restarted in place under the next epoch; VMM stopped: nothing starts elsewhere. ha.isolation:
# freeze: frozen without quorum, thawed by the next claim, ended without another instruction if it was taken over.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/vm.sh"
. "$(dirname "$0")/safety.sh"

MISSED=300 # ms of silence that a restart of an agent may cost a VM: a witness notices 100, a loaded machine blinks

coordinator() {
    local node
    for node in $(nodes_on); do
        gemel_at "$L" "$node" status --json | jq -re '.coordinator | select(. != "unknown")' && return
    done
    return 1
}

# Records written without a pause at NODE: definition I of a second VM has n=I on its command line; what was
# acknowledged goes to a file
writer_begin() { # NODE
    local shared
    shared=$(vm_shared "$L")
    mkdir -p "$shared/w2"
    [ -e "$shared/w2/disk0.img" ] || truncate -s 1M "$shared/w2/disk0.img"
    touch "$LAB_SCRATCH/writing"
    : >"$LAB_SCRATCH/acked"
    while [ -e "$LAB_SCRATCH/writing" ]; do
        WROTE=$((${WROTE:-0} + 1))
        printf 'name: w2\nmemory: 16MiB\nmachine: lockstep\nboot: {firmware: /srv/gemel/pulse.rom, cmdline: "n=%d"}\n%s\n' \
            "$WROTE" 'disks: [{path: disk0.img}]' >"$shared/w2.yaml"
        if gemel_at "$L" "$1" vm apply -f /srv/gemel/w2.yaml --timeout 5s; then
            echo "$WROTE" >>"$LAB_SCRATCH/acked"
        fi
    done >/dev/null 2>&1 &
    WRITER=$!
}

writer_end() {
    rm -f "$LAB_SCRATCH/writing"
    wait "$WRITER"
    WROTE=$((${WROTE:-0} + 100000)) # the next writer begins above
}

# The last acknowledged definition, or a later one, is what every node has
acked_is_kept() {
    local acked node has
    acked=$(tail -n 1 "$LAB_SCRATCH/acked")
    [ -n "$acked" ] || {
        echo "nothing was acknowledged: the case saw nothing"
        return 1
    }
    for node in n1 n2 n3; do
        has=$(gemel_at "$L" "$node" vm show w2 --yaml | sed -n 's/.*"n=\([0-9]*\)".*/\1/p')
        [ "${has:-0}" -ge "$acked" ] || {
            echo "$node has definition ${has:-none}, acknowledged was $acked"
            return 1
        }
    done
}

# agent_killed WHAT VICTIM WRITER-NODE: three times in a row at random moments of a stream of record writes
agent_killed() {
    local what=$1 victim=$2 from=$3 epoch _
    epoch=$(vm_epoch "$victim")
    writer_begin "$from"
    for _ in 1 2 3; do
        rnd_sleep 100 1200
        check "$what: gemeld of $victim killed" lab "$L" kill "$victim" gemeld
        check "$what: it is back" wait_for 30 healthy
    done
    sleep 0.5
    writer_end
    check "$what: what was acknowledged is kept" acked_is_kept
    check "$what: the VM has the same epoch" equal "$(vm_epoch "$from")" "$epoch"
}

case_coordinator_killed() {
    local victim
    victim=$(coordinator)
    agent_killed "coordinator $1" "$victim" "$(a_node_but "$victim")"
}

case_owner_killed() {
    local victim
    victim=$(vm_owner)
    agent_killed "owner $1" "$victim" "$(a_node_but "$victim")"
}

case_other_killed() {
    local victim
    victim=$(a_node_but "$(vm_owner)" "$(coordinator)")
    agent_killed "other $1" "$victim" "$(a_node_but "$victim")"
}

elsewhere() {
    local owner
    owner=$(vm_owner) && not equal "$owner" "$1"
}

# An agent that stays away: nothing for a while, then its node counts as sick
case_agent_gone() {
    local node other epoch
    node=$(vm_owner)
    other=$(a_node_but "$node")
    epoch=$(vm_epoch "$other")
    check "agent gone $1: gemeld of $node stopped" lab "$L" daemon "$node" stop gemeld
    sleep 5
    check "agent gone $1: $node is not switched off" power_is "$L" "$node" on
    check "agent gone $1: the VM is where it was" vm_runs_on "$L" "$other" "$node"
    check "agent gone $1: under the same epoch" equal "$(vm_epoch "$other")" "$epoch"
    check "agent gone $1: after a while it runs elsewhere" wait_for 40 elsewhere "$node"
    check "agent gone $1: $node was switched off before" power_is "$L" "$node" off
    check "agent gone $1: it answers" wait_for 20 answers_again "$L"
}

stopped_everywhere() {
    vm_is "$L" "$1" stopped && equal "$(vmm_total)" 0
}

# In the middle of a start or of a stop: it ends up as wanted, once, and leaves no process behind
case_killed_in_start() {
    local victim=n1 other=n2 _ # all being equal, it starts on the lowest
    for _ in 1 2 3; do
        check "in start $1: the VM is stopped" gemel_at "$L" "$other" vm kill web1 --yes --timeout 30s
        victim=n1
        rnd 0 3
        [ "$R" != 0 ] || victim=$(coordinator)
        other=$(a_node_but "$victim")
        check "in start $1: told to start" gemel_at "$L" "$other" vm start web1 --no-wait
        rnd_sleep 0 200
        check "in start $1: gemeld of $victim killed" lab "$L" kill "$victim" gemeld
        check "in start $1: the VM runs" wait_for 60 vm_owner
        check "in start $1: healthy" wait_for 60 healthy
        check "in start $1: once" wait_for 10 once
    done
    sleep 0.5
}

case_killed_in_stop() {
    local victim other
    victim=$(vm_owner)
    other=$(a_node_but "$victim")
    check "in stop $1: told to stop" gemel_at "$L" "$other" vm stop web1 --no-wait
    rnd_sleep 0 150
    check "in stop $1: gemeld of $victim killed" lab "$L" kill "$victim" gemeld
    check "in stop $1: the VM is stopped" wait_for 90 stopped_everywhere "$other"
    check "in stop $1: healthy" wait_for 30 healthy
    check "in stop $1: started again" gemel_at "$L" "$other" vm start web1 --timeout 30s
    check "in stop $1: it answers" wait_for 20 answers_again "$L"
}

epoch_is() {
    equal "$(vm_epoch "$1")" "$2"
}

case_vmm_killed() {
    local node epoch
    node=$(vm_owner)
    epoch=$(vm_epoch "$node")
    check "VMM killed $1: it may fail often" vm_define "$L" \
        '{start_timeout: 20s, stop_timeout: 10s, restart: {max: 100, backoff: 0ms}}'
    rnd_sleep 0 700
    check "VMM killed $1: on $node" lab "$L" kill "$node" gemel-vmm
    # it may be back before the witness calls it an outage (100 ms)
    check "VMM killed $1: under the next epoch" wait_for 30 epoch_is "$node" $((epoch + 1))
    check "VMM killed $1: in place" wait_for 10 vm_runs_on "$L" "$node" "$node"
    sleep 0.5
}

runs_at_epoch() { # EPOCH
    local owner
    owner=$(vm_owner) && [ "$(vm_epoch "$owner")" -ge "$1" ]
}

# Killed in the middle of writing, and started elsewhere each time: what it wrote without a flush must not lie in a cache
# of its node and come out later, over what the next ones wrote
case_killed_moves() {
    local node epoch i
    check "moves $1: each failure moves it, and it writes without a pause" eval 'VM_RATE=500 vm_define "$L" \
        "{start_timeout: 20s, stop_timeout: 10s, restart: {max: 0, backoff: 0ms}}"'
    for i in 1 2 3 4 5 6; do
        node=$(vm_owner)
        epoch=$(vm_epoch "$node")
        rnd_sleep 1300 2100 # a return within a second would look like two at once to the witness
        check "moves $1: VMM on $node killed" lab "$L" kill "$node" gemel-vmm
        check "moves $1: it runs under a later epoch" wait_for 30 runs_at_epoch $((epoch + 1))
        check "moves $1: elsewhere" not equal "$(vm_owner)" "$node"
    done
    # no pause, though it has failed so often
    vm_define "$L" '{start_timeout: 20s, stop_timeout: 10s, restart: {max: 100, backoff: 0ms}}' >/dev/null
    check "moves $1: VMM killed, writing as before" lab "$L" kill "$(vm_owner)" gemel-vmm
    check "moves $1: it runs" wait_for 30 runs_at_epoch $((epoch + 2))
    sleep 1
}

case_vmm_stopped() {
    local node epoch
    node=$(vm_owner)
    epoch=$(vm_epoch "$node")
    rnd_sleep 0 700
    check "VMM stopped $1: on $node" lab "$L" pause "$node" gemel-vmm
    rnd_sleep 1500 5000
    check "VMM stopped $1: nothing started" equal "$(vmm_total)" 1
    check "VMM stopped $1: it is where it was" equal "$(vmms "$node")" 1
    check "VMM stopped $1: continued" lab "$L" resume "$node" gemel-vmm
    check "VMM stopped $1: it answers again" wait_for 10 answers_again "$L"
    check "VMM stopped $1: under the same epoch" equal "$(vm_epoch "$node")" "$epoch"
}

# The guest has stopped writing: its newest record on the disk does not change
silent() {
    local disk a b
    disk=$(vm_shared "$L")/web1/disk0.img
    a=$(cksum <"$disk")
    sleep 0.7
    b=$(cksum <"$disk")
    equal "$b" "$a"
}

freeze_cut() { # WHAT NODE
    lab "$L" bmc "$2" hang
    check "$1: isolation is freeze" vm_define "$L" '{start_timeout: 20s, stop_timeout: 10s, isolation: freeze}'
    rnd_sleep 0 500
    check "$1: $2 is cut off" lab "$L" link "$2" down
    check "$1: the guest is frozen" wait_for 20 silent
    check "$1: its VMM is there" equal "$(vmms "$2")" 1
}

case_frozen_and_thawed() {
    local node epoch instance
    node=$(vm_owner)
    instance=$(instance_of "$node")
    epoch=$(vm_epoch "$node")
    freeze_cut "thaw $1" "$node"
    lab "$L" heal
    check "thaw $1: it answers again" wait_for 60 answers_again "$L"
    check "thaw $1: where it was" wait_for 20 vm_runs_on "$L" "$(a_node_but "$node")" "$node"
    # more than one when the membership flaps as the cable comes back: each freeze is thawed by a claim of its own
    check "thaw $1: by a later claim" test "$(vm_epoch "$node")" -gt "$epoch"
    check "thaw $1: the same instance" equal "$(instance_of "$node")" "$instance"
}

instance_of() {
    gemel_at "$L" "$1" vm show web1 --json | jq -r .claim | sed 's/.*instance //'
}

gone_from() {
    equal "$(vmms "$1")" 0
}

# A BMC that says off and lies: what was frozen may be taken over even so, and must never go on
case_frozen_and_taken_over() {
    local node
    node=$(vm_owner)
    freeze_cut "taken over $1" "$node"
    lab "$L" bmc "$node" lie
    check "taken over $1: it answers again" wait_for 90 answers_again "$L"
    check "taken over $1: elsewhere" not equal "$(vm_owner)" "$node"
    check "taken over $1: the frozen one is still there" equal "$(vmms "$node")" 1
    rnd_sleep 200 1500
    lab "$L" heal
    check "taken over $1: the frozen one is ended" wait_for 30 gone_from "$node"
}

safety_begin
for name in ${CASES:-coordinator_killed owner_killed other_killed}; do
    run_case "$name" 1 "$MISSED"
done
for name in ${CASES2:-agent_gone killed_in_start killed_in_stop killed_moves vmm_killed vmm_stopped frozen_and_thawed frozen_and_taken_over}; do
    run_case "$name" 1
done
safety_end
