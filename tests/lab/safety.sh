# SPDX-License-Identifier: Apache-2.0
# What the safety cases share. Sourced after lib.sh and vm.sh. A case is a function CASE_name RUN that does its
# harm and leaves nodes to be healed; run_case begins a witness for each run, brings everything back, and judges.
# SEED=N repeats the random moments, N=N sets the runs of each case (LAB_LONG=1: 10).
# shellcheck shell=bash disable=SC2154,SC2120 # set by lib.sh; a_node_but may be called without a node

ALL=(n1 n2 n3)
SEED=${SEED:-$(($(date +%s%N) / 1000 % 1000000))}
RANDOM=$SEED
L=${L:-sf}
OUTAGES=() CASE_VIOLATIONS=0

# rnd LOW HIGH: sets R (no subshell, which would have random numbers of its own)
rnd() {
    R=$(($1 + (RANDOM * 32768 + RANDOM) % ($2 - $1 + 1)))
}

# rnd_sleep LOW HIGH: ms
rnd_sleep() {
    rnd "$1" "$2"
    sleep "$(printf '%d.%03d' $((R / 1000)) $((R % 1000)))"
}

runs_of() { # DEFAULT
    if [ "$LAB_LONG" != 0 ]; then
        echo "${N:-10}"
    else
        echo "${N:-$1}"
    fi
}

# safety_begin [HA-YAML]: lab, patient cluster definition, VM running
safety_begin() {
    lab_begin
    [ -c /dev/kvm ] || {
        echo "1..0 # SKIP no /dev/kvm"
        exit 0
    }
    note "seed $SEED"
    check "${#ALL[@]} nodes with agents" lab "$L" up --nodes "${#ALL[@]}" || safety_abandon
    check "the fence budget is for many nodes" budget_apply || safety_abandon
    check "the VM is defined" vm_define "$L" "$@" || safety_abandon
    check "the VM starts" gemel_at "$L" n2 vm start web1 --timeout 30s || safety_abandon
}

safety_abandon() {
    tap_end
    exit 1
}

safety_end() {
    local keep=()
    [ "$tap_failed" = 0 ] || [ -z "${LAB_LOGS:-}" ] || keep=(--save-logs "$LAB_LOGS/$(basename "$0" .sh)")
    check "down leaves nothing" lab "$L" down "${keep[@]}"
    tap_end
}

# budget_apply [TIMEOUT]: many nodes are switched off within ten minutes here, and a device that hangs is not waited
# for long
budget_apply() {
    sed -e "s/^  budget: .*/  budget: 32\n  retry: 500ms/" -e 's/^\( *\)agent: fence_ipmilan$/&\n\1timeout: '"${1:-4s}"/ \
        "$LAB_SCRATCH/$L/nodes/n1/etc/gemel/cluster.yaml" >"$(vm_shared "$L")/cluster.yaml"
    # a view may change right now: then the answer is "look whether it happened, and try again"
    wait_for 20 budget_applied
}

budget_applied() {
    gemel_at "$L" "$(a_node_but)" cluster apply -f /srv/gemel/cluster.yaml
}

nodes_on() {
    lab_json "$L" '.nodes[] | select(.power == "on").name'
}

# A node that is on and not NODE...
a_node_but() {
    local node
    for node in $(nodes_on); do
        [[ " $* " = *" $node "* ]] || {
            echo "$node"
            return
        }
    done
}

# vmms NODE: how many gemel-vmm processes live there, stopped ones included
vmms() {
    # shellcheck disable=SC2016
    lab "$L" exec "$1" -- sh -c 'grep -lx gemel-vmm /proc/[0-9]*/comm 2>/dev/null | wc -l'
}

vmm_total() {
    local node count=0
    for node in $(nodes_on); do
        count=$((count + $(vmms "$node")))
    done
    echo "$count"
}

# The VM's process on NODE: its pid there
vmm_pid() {
    # shellcheck disable=SC2016
    lab "$L" exec "$1" -- sh -c 'for c in /proc/[0-9]*/comm; do
        if [ "$(cat "$c" 2>/dev/null)" = gemel-vmm ]; then p=${c%/comm}; echo "${p#/proc/}"; fi; done' | head -n 1
}

vm_epoch() { # ASKED-NODE
    gemel_at "$L" "$1" vm list --json | jq -r '.vms[] | select(.name == "web1").epoch'
}

# The node that has the VM, as any node that is on and quorate knows it
vm_owner() {
    local node
    for node in $(nodes_on); do
        if timeout 5 "$LAB_BIN" --dir "$LAB_SCRATCH/$L" exec "$node" -- "$builddir/gemel" status --json 2>/dev/null |
            jq -re 'select(.quorate) | .vms[] | select(.name == "web1" and .state == "running").node'; then
            return
        fi
    done
    return 1
}

node_state() { # ASKED-NODE NODE
    gemel_at "$L" "$1" status --json | jq -r ".nodes[] | select(.name == \"$2\").state"
}

# Everything as it was: power, links, BMCs, processes
everything_back() {
    local node
    lab "$L" heal
    for node in "${ALL[@]}"; do
        lab "$L" bmc "$node" ok
        if [ "$(lab_json "$L" ".nodes[] | select(.name == \"$node\").power")" != on ]; then
            lab "$L" power "$node" on
        else
            lab "$L" resume "$node"
            lab "$L" daemon "$node" start corosync
            lab "$L" daemon "$node" start gemel-fenced
            lab "$L" daemon "$node" start gemeld
        fi >/dev/null 2>&1
    done
}

healthy() {
    local node
    for node in "${ALL[@]}"; do
        timeout 10 "$LAB_BIN" --dir "$LAB_SCRATCH/$L" exec "$node" -- "$builddir/gemel" status || return 1
    done
}

# A fenced node may be switched on only when nobody shoots at it any more: so it is tried until it holds.
recovered() { # SECONDS
    local end=$((SECONDS + $1))
    while :; do
        everything_back >/dev/null 2>&1
        if wait_for 10 healthy >/dev/null; then
            return 0
        fi
        if [ "$SECONDS" -gt "$end" ]; then
            echo "not healthy after $1 s:"
            lab "$L" status
            healthy
            return 1
        fi
    done
}

VMS=1

once() {
    equal "$(vmm_total)" "$VMS"
}

# How long the guest was silent, and how many violations the witness counted
judge() { # CASE RUN
    local outage violations
    outage=$(witness_value "$L" '[.outages[].ms] | max // 0 | floor')
    violations=$(witness_value "$L" \
        '[.dual_overlaps, .old_epoch_frames, .lost_acked_writes, .old_epoch_writes, .writer_overlaps, .two_boots_answered]
         | map(. // 0) | add')
    echo "# case=$1 run=$2 outage_ms=${outage:-none} violations=${violations:-none}"
    OUTAGES+=("${outage:-0}")
    JUDGED=${violations:-1}
    CASE_VIOLATIONS=$((CASE_VIOLATIONS + JUDGED))
}

# run_case NAME DEFAULT-RUNS [MAX_OUTAGE_MS]
run_case() {
    local name=$1 count run begun=$SECONDS max=${3:-}
    count=$(runs_of "$2")
    OUTAGES=() CASE_VIOLATIONS=0
    for run in $(seq "$count"); do
        if ! check "$name $run: the guest answers" witness_begin "$L"; then
            check "$name $run: everything is back" recovered 120
            continue
        fi
        "case_$name" "$run"
        check "$name $run: everything is back" recovered 120
        check "$name $run: it runs once" wait_for 10 once
        sleep 0.3
        check "$name $run: no oracle complains" witness_end "$L"
        judge "$name" "$run" # not through check: it would count in a subshell
        check "$name $run: no violation" [ "$JUDGED" = 0 ]
        check "$name $run: every acknowledged record is on the disk" disk_is_whole "$L"
        [ -z "$max" ] || check "$name $run: no outage above $max ms" [ "${OUTAGES[-1]:-999999}" -le "$max" ]
    done
    mapfile -t OUTAGES < <(printf '%s\n' "${OUTAGES[@]}" | sort -n)
    note "case=$name runs=${#OUTAGES[@]} violations=$CASE_VIOLATIONS outage_min_ms=${OUTAGES[0]:-}" \
        "outage_median_ms=${OUTAGES[$((${#OUTAGES[@]} / 2))]:-} outage_max_ms=${OUTAGES[-1]:-}" \
        "seconds=$((SECONDS - begun)) seed=$SEED"
}

synced_at() {
    gemel_at "$L" "$1" status --json | jq -e 'select(.quorate and .phase == "synced")'
}
