#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# shellcheck disable=SC2154 # builddir is of lib.sh
# A live upgrade that is hit at a random moment by everything that can break: afterwards the VM runs once, goes on, and nothing is
# left but the one process and its files. Slow storage draws the steps out (the new process reads its firmware, the old one comes to
# rest, release, claim, start), so that each of them is hit; when it is hit is drawn from the time that an upgrade takes then.
#
# N=20 of them, drawn from SEED; CELLS="vmm_old:120 ..." names victims and moments (ms).
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/vm.sh"
. "$(dirname "$0")/safety.sh"
L=uf
WITNESS_GAP_MS=100
DELAY_MS=${DELAY_MS:-15} # of each operation of the node's storage
VICTIMS=(vmm_old vmm_new agent disk cancel hung_old hung_new vmm_both stop eio node cut)

epochs() { vm_epoch "$third"; }
upgrade() { gemel_at "$L" "$third" vm upgrade web1 --no-wait >/dev/null; }
is_over() { not vm_is "$L" "$third" upgrading; }

# The processes of the VM on the node: the one that was there before, and the other
pids() {
    # shellcheck disable=SC2016
    lab "$L" exec "$source" -- sh -c 'for c in /proc/[0-9]*/comm; do
        if [ "$(cat "$c" 2>/dev/null)" = gemel-vmm ]; then p=${c%/comm}; echo "${p#/proc/}"; fi; done'
}
signal_new() {
    local pid
    for pid in $(pids); do
        [ "$pid" = "$old" ] || lab "$L" exec "$source" -- kill "-$1" "$pid"
    done 2>/dev/null
    true # there may be none (yet, or any more)
}
signal_old() { lab "$L" exec "$source" -- kill "-$1" "$old" 2>/dev/null || true; }

strike() {
    case $1 in
    vmm_old) signal_old KILL ;;
    vmm_new) signal_new KILL ;;
    vmm_both) signal_new KILL && signal_old KILL ;;
    hung_old) signal_old STOP ;;
    hung_new) signal_new STOP ;;
    agent) lab "$L" kill "$source" gemeld ;;
    disk) lab "$L" disk "$source" hang 1 ;;
    eio) lab "$L" disk "$source" eio 1 ;;
    node) lab "$L" power "$source" off ;;
    cut) lab "$L" link "$source" down ;;
    cancel) gemel_at "$L" "$third" vm migrate web1 --cancel --no-wait >/dev/null || true ;;
    stop) gemel_at "$L" "$third" vm kill web1 --timeout 40s ;;
    esac
}

let_go() {
    lab "$L" disk "$source" hang 0
    lab "$L" disk "$source" eio 0
    lab "$L" disk "$source" delay 0
    lab "$L" link "$source" up
    lab "$L" resume "$source" gemeld
    lab "$L" resume "$source" gemel-vmm
}

how_it_stands() {
    { gemel_at "$L" "$third" events | tail -n 25; gemel_at "$L" "$third" explain web1; pids; } 2>&1 | sed 's/^/# /'
}

owned() { [ -n "$(vm_owner)" ]; }

case_cell() {
    local victim=${CELL%%:*} moment=${CELL#*:}
    source=$(vm_owner)
    third=$(a_node_but "$source")
    old=$(vmm_pid "$source")
    note "$CELL: on $source, watched from $third"
    lab "$L" disk "$source" delay "$DELAY_MS"
    check "$CELL: it is ordered" upgrade
    sleep "$(printf '%d.%03d' $((moment / 1000)) $((moment % 1000)))"
    check "$CELL: it strikes" strike "$victim"
    rnd_sleep 50 600
    [[ $victim != @(eio|disk) ]] || rnd_sleep 500 2000
    # The agents see to it themselves that a process which does not answer holds up nothing.
    [[ $victim != hung_* ]] || check "$CELL: it is over" wait_for 40 is_over || how_it_stands
    let_go >/dev/null 2>&1
    acked=$(vm_acked "$L")
    if [ "$victim" = stop ]; then
        check "$CELL: it is stopped" wait_for 30 vm_is "$L" "$third" stopped || how_it_stands
        check "$CELL: and starts again, elsewhere" gemel_at "$L" "$third" vm start web1 --node "$third" --timeout 30s || how_it_stands
        acked=$(vm_acked "$L")
    fi
    if [ "$victim" = eio ]; then # a FLUSH that failed stays failed
        check "$CELL: it runs somewhere" wait_for 60 vm_is "$L" "$third" running || how_it_stands
        check "$CELL: it is stopped" gemel_at "$L" "$third" vm kill web1 --timeout 30s || how_it_stands
        check "$CELL: and starts again" gemel_at "$L" "$third" vm start web1 --timeout 30s || how_it_stands
        acked=$(vm_acked "$L")
    fi
    check "$CELL: the guest goes on" wait_for 60 goes_on "$L" "$acked" || how_it_stands
    check "$CELL: somebody owns it" wait_for 30 owned
}

# Beside its disk and its claims (also one that an agent was about to make when it died) nothing is in the VM's directory, in run_dir nothing but the files of one instance.
no_debris() {
    local node files
    files=$(cd "$(vm_shared "$L")/web1" && find . -mindepth 1 ! -name disk0.img ! -name 'owner.*' ! -name '.claim-*')
    [ -z "$files" ] || { echo "left: $files" && return 1; }
    for node in "${ALL[@]}"; do
        files=$(lab "$L" exec "$node" -- ls /run/gemel/vm)
        [ "$(grep -c 'json$' <<<"$files")" = "$(vmms "$node")" ] &&
            [ "$(grep -c . <<<"$files")" -le $((4 * $(vmms "$node"))) ] || { echo "$node: $files" && return 1; }
    done
}

VM_KNOBS="dirty=200:16 filled" # what it finds there after an upgrade is looked at
VM_RATE=50
safety_begin
source=$(vm_owner)
third=$(a_node_but "$source")
lab "$L" disk "$source" delay "$DELAY_MS"
began=$(now_ms)
check "it is upgraded with slow storage" gemel_at "$L" n2 vm upgrade web1 --timeout 30s
took=$(($(now_ms) - began))
lab "$L" disk "$source" delay 0
note "with a delay of $DELAY_MS ms an upgrade takes $took ms"
if [ -z "${CELLS:-}" ]; then
    RANDOM=$SEED
    for i in $(seq "$(runs_of 6)"); do
        rnd 0 "$took"
        CELLS="${CELLS:-} ${VICTIMS[$(((i - 1 + SEED) % ${#VICTIMS[@]}))]}:$R"
    done
fi
for CELL in $CELLS; do
    N=1 run_case cell 1
    check "$CELL: nothing else is left" wait_for 10 no_debris
done
safety_end
