#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# shellcheck disable=SC2154 # builddir is of lib.sh
# A migration that is hit at every step by everything that can break: afterwards the VM runs once, goes on, and nothing is left
# but the one process. Steps are held open from outside: the copy by a low --rate, the rest by a stopped agent or a disk that hangs.
#
#     copying    pages are being sent (the rate is low)
#     freezing   the source's storage hangs, so its disk does not come to rest
#     ready      frozen, all of it there; the source's agent is stopped, so nothing is released
#     release    the source's storage hangs in the release
#     claim      released; the destination's storage hangs in the claim
#     handed     released; the destination's agent is stopped, so nobody takes it
#
# Without LAB_LONG a sample, of SEED; CELLS="copying:vmm_source ..." names them.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/vm.sh"
. "$(dirname "$0")/safety.sh"
L=mf
WITNESS_GAP_MS=100 # it may be back on a node sooner than in a second
SAMPLE=${CELLS_SAMPLE:-4}
STEPS=(copying freezing ready release claim handed)
VICTIMS=(vmm_source vmm_dest agent_source agent_dest node_source node_dest cut_source cut_dest disk_source disk_dest cancel)
MORE_VICTIMS=(eio_source eio_dest hung_source hung_dest blip_source) # not drawn, but one of them each time

where() { lab_json "$L" ".nodes[] | select(.name == \"$1\").power"; }
is_migrating() { equal "$(vm_state "$L" "$third")" migrating; }

# begin_move STEP: from $source to $dest, seen by $third; returns when the step is held
begin_move() {
    gemel_at "$L" "$third" vm migrate web1 "$dest" --verify --rate 8MiB --no-compress --no-wait >/dev/null || return 1
    wait_for 10 is_migrating || return 1
    sleep 0.5 # both agents have done what comes before the first page
    case $1 in
    copying) ;;
    ready) lab "$L" pause "$source" gemeld && wait_for 30 is_frozen ;;
    handed) lab "$L" pause "$dest" gemeld && wait_for 30 is_released ;;
    freezing) lab "$L" disk "$source" hang 1 && sleep 3 ;;
    release)
        lab "$L" pause "$source" gemeld && wait_for 30 is_frozen && lab "$L" disk "$source" hang 1 &&
            lab "$L" resume "$source" gemeld && sleep 0.3
        ;;
    claim) lab "$L" disk "$dest" hang 1 && wait_for 30 is_released ;;
    esac
}

# How often VMs froze on NODE so far
freezes() { grep -c 'state=frozen' "$LAB_SCRATCH/$L/nodes/$1/log/gemel/web1/vmm.log" 2>/dev/null || true; }
is_frozen() { [ "$(freezes "$source")" -gt "$frozen" ]; }
is_released() {
    local dir last
    dir=$(vm_shared "$L")/web1
    last=$(cd "$dir" && printf '%s\n' owner.* | sed -n 's/^owner\.\([0-9]*\)$/\1/p' | sort -n | tail -n 1)
    [ -e "$dir/owner.$last.released" ]
}

let_go() {
    local node
    lab "$L" disk "$source" hang 0
    lab "$L" disk "$dest" hang 0
    lab "$L" disk "$source" eio 0
    lab "$L" disk "$dest" eio 0
    lab "$L" link "$source" up
    for node in "$source" "$dest"; do
        lab "$L" resume "$node" gemeld
        lab "$L" resume "$node" gemel-vmm
    done
}
is_over() { not is_migrating; }

# The view may change right now, as an agent that does not answer leaves it: then it says "try again". Or it is over.
call_off() { gemel_at "$L" "$third" vm migrate web1 --cancel --no-wait >/dev/null || not is_migrating; }

strike() {
    case $1 in
    vmm_source) lab "$L" kill "$source" gemel-vmm ;;
    vmm_dest) lab "$L" kill "$dest" gemel-vmm ;;
    agent_source) lab "$L" kill "$source" gemeld ;;
    agent_dest) lab "$L" kill "$dest" gemeld ;;
    node_source) lab "$L" power "$source" off ;;
    node_dest) lab "$L" power "$dest" off ;;
    cut_source) lab "$L" link "$source" down ;;
    cut_dest) lab "$L" link "$dest" down ;;
    disk_source) lab "$L" disk "$source" hang 1 ;;
    disk_dest) lab "$L" disk "$dest" hang 1 ;;
    cancel) wait_for 20 call_off ;;
    eio_source) lab "$L" disk "$source" eio 1 ;;
    eio_dest) lab "$L" disk "$dest" eio 1 ;;
    hung_source) lab "$L" pause "$source" gemel-vmm ;;
    hung_dest) lab "$L" pause "$dest" gemel-vmm ;;
    blip_source) # what the source says of its end is lost with the ring
        lab "$L" link "$source" oneway-in && sleep 0.1 && lab "$L" kill "$dest" gemel-vmm && sleep 0.9
        ;;
    esac
}

# cell RUN: of $CELL
case_cell() {
    local step=${CELL%%:*} victim=${CELL#*:}
    source=$(vm_owner)
    dest=$(a_node_but "$source")
    third=$(a_node_but "$source" "$dest")
    frozen=$(freezes "$source")
    note "$CELL: $source -> $dest, watched from $third"
    check "$CELL: it is under way" begin_move "$step"
    check "$CELL: it strikes" strike "$victim"
    rnd_sleep 50 600
    [[ $victim != eio_* ]] || rnd_sleep 500 3000
    # The agents see to it themselves that a process which does not answer holds up nothing.
    [[ $step:$victim != copying:hung_* ]] || check "$CELL: it is given up" wait_for 30 is_over
    let_go >/dev/null 2>&1
    [[ $victim != disk_* ]] || { rnd_sleep 500 3000 && let_go >/dev/null 2>&1; }
    acked=$(vm_acked "$L")
    if [[ $victim == eio_* ]]; then
        # A FLUSH that failed stays failed, as the guest was told: it is stopped, and starts again, on whatever node.
        check "$CELL: it runs somewhere" wait_for 60 vm_is "$L" "$third" running || how_it_stands
        check "$CELL: it is stopped" gemel_at "$L" "$third" vm kill web1 --timeout 30s || how_it_stands
        check "$CELL: and starts again" gemel_at "$L" "$third" vm start web1 --timeout 30s || how_it_stands
        acked=$(vm_acked "$L")
    fi
    check "$CELL: the guest goes on" wait_for 60 goes_on "$L" "$acked" || how_it_stands
    check "$CELL: somebody owns it" wait_for 30 owned
}

how_it_stands() {
    { gemel_at "$L" "$third" events | tail -n 25; gemel_at "$L" "$third" explain web1; } 2>&1 | sed 's/^/# /'
}

owned() { [ -n "$(vm_owner)" ]; }

all_cells() {
    local step victim
    for step in "${STEPS[@]}"; do
        for victim in "${VICTIMS[@]}" "${MORE_VICTIMS[@]}"; do
            echo "$step:$victim"
        done
    done
}

# A sample that has every step, then every victim, as far as it goes
sample() {
    local i
    rnd 0 $((${#MORE_VICTIMS[@]} - 1))
    echo "copying:${MORE_VICTIMS[$R]}"
    for i in $(seq 2 "$SAMPLE"); do
        rnd 0 $((${#VICTIMS[@]} - 1))
        echo "${STEPS[$(((i - 1 + SEED) % ${#STEPS[@]}))]}:${VICTIMS[$R]}"
    done
}

VM_KNOBS="dirty=200:16 filled" # something to copy, for two seconds
safety_begin
if [ -z "${CELLS:-}" ]; then
    if [ "$LAB_LONG" = 0 ]; then
        sample >"$LAB_SCRATCH/cells"
        note "$SAMPLE of $(all_cells | wc -l) cells"
    else
        all_cells >"$LAB_SCRATCH/cells"
    fi
    CELLS=$(cat "$LAB_SCRATCH/cells")
fi
# Beside its disk and its claims nothing is in the VM's directory; no node listens for a transfer.
no_debris() {
    local node files
    files=$(cd "$(vm_shared "$L")/web1" && find . -mindepth 1 ! -name disk0.img ! -name 'owner.*')
    [ -z "$files" ] || { echo "left: $files" && return 1; }
    for node in "${ALL[@]}"; do
        equal "$(lab "$L" exec "$node" -- ss -Hlnt 2>/dev/null | grep -c .)" "$listeners" || return 1
    done
}
listeners=$(lab "$L" exec n1 -- ss -Hlnt 2>/dev/null | grep -c .)
for CELL in $CELLS; do
    N=1 run_case cell 1
    check "$CELL: nothing else is left" no_debris
done
safety_end
