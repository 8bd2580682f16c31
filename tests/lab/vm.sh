# SPDX-License-Identifier: Apache-2.0
# builddir comes from lib.sh. A VM (pulse) in a lab, and the witness beside it. Sourced after lib.sh; every function takes the lab's name first.
# shellcheck shell=bash

VM_MAC=52:54:00:77:c8:01
VM_IP=10.77.200.1

# gemel_at LAB NODE ARGUMENTS...: the command line of that node
gemel_at() {
    local name=$1 node=$2
    shift 2
    lab "$name" exec "$node" -- "$builddir/gemel" "$@"
}

# together LAB: every node sees all of them, as in lib.sh, and every agent has the state: what is changed from now on is not refused
# ("not now: state exchange").
together() {
    every_node "$1" sees_all && every_node "$1" is_synced
}

is_synced() { # LAB NODE
    equal "$(gemel_at "$1" "$2" status --json | jq -r .phase)" synced
}

# vm_dir LAB: where its shared directory lies outside
vm_shared() {
    echo "$LAB_SCRATCH/$1/shared"
}

# vm_define LAB [HA-YAML]: web1, one disk, one card; records at 20 per second
vm_define() {
    local shared ha=${2:-'{start_timeout: 20s, stop_timeout: 10s}'}
    shared=$(vm_shared "$1")
    mkdir -p "$shared/web1"
    cp "$builddir/tests/guest/pulse.rom" "$shared/pulse.rom"
    [ -e "$shared/web1/disk0.img" ] || truncate -s 64M "$shared/web1/disk0.img"
    cat >"$shared/web1.yaml" <<YAML
name: web1
memory: 32MiB
machine: lockstep
boot: {firmware: /srv/gemel/pulse.rom, cmdline: "ip=$VM_IP rate=${VM_RATE:-20}${VM_KNOBS:+ $VM_KNOBS}"}
disks: [{path: disk0.img, serial: web1}]
nics: [{mac: "$VM_MAC"}]
ha: $ha
YAML
    gemel_at "$1" n1 vm apply -f /srv/gemel/web1.yaml
}

# vm_node LAB NODE: where NODE's records say web1 is; vm_state: its state
vm_node() {
    gemel_at "$1" "$2" vm list --json | jq -r '.vms[] | select(.name == "web1").node'
}

vm_state() {
    gemel_at "$1" "$2" vm list --json | jq -r '.vms[] | select(.name == "web1").state'
}

vm_is() { # LAB NODE STATE
    equal "$(vm_state "$1" "$2")" "$3"
}

vm_runs_on() { # LAB ASKED-NODE NODE
    vm_is "$1" "$2" running && equal "$(vm_node "$1" "$2")" "$3"
}

# another NODE...: the first of n1 n2 n3 that is not named
another() {
    local node
    for node in n1 n2 n3; do
        [[ " $* " = *" $node "* ]] || {
            echo "$node"
            return
        }
    done
}

# witness_begin LAB: starts asking, and waits for the first answer
witness_begin() {
    local out=$LAB_SCRATCH/$1-witness node taps=()
    for node in $(lab_json "$1" '.nodes[].name'); do
        taps+=(--tap "vm-$node")
    done
    # not through lab(): the pid must be the witness's own, so that it can be told to end
    [ -n "${WITNESS_NO_STORAGE:-}" ] || taps+=(--storage-log "$out.storage")
    "$LAB_BIN" --dir "$LAB_SCRATCH/$1" exec hub -- "$builddir/tests/guest/witness" --target "$VM_IP" --from br-vm --mac "$VM_MAC" \
        "${taps[@]}" --vm web1 --seconds "${WITNESS_SECONDS:-600}" --gap-ms "${WITNESS_GAP_MS:-1000}" --outage-ms "${WITNESS_OUTAGE_MS:-100}" \
        --events --progress "$out.progress" >"$out.json" 2>"$out.err" &
    echo $! >"$out.pid"
    wait_for 20 grep -q 'first answer' "$out.err"
}

# The guest answers again (for the Nth time) since witness_begin
answers_again() { # LAB [N]
    [ "$(grep -c 'answers again' "$LAB_SCRATCH/$1-witness.err")" -ge "${2:-1}" ]
}

# The highest record that the guest has acknowledged
vm_acked() { # LAB
    awk '{print $2}' "$LAB_SCRATCH/$1-witness.progress"
}

# The guest has written, and acknowledged, more records since. However short its absence was: answers_again counts outages, and less
# than 100 ms is none.
goes_on() { # LAB ACKED
    [ "$(vm_acked "$1")" -ge $(($2 + 5)) ]
}

# witness_end LAB: its verdict; the JSON is in $LAB_SCRATCH/LAB-witness.json
witness_end() {
    local out=$LAB_SCRATCH/$1-witness pid
    # a copy of a disk repeats records; no guest wrote it
    grep -v -e '"path":"[^"]*/snapshots/' -e '"path":"[^"]*/\.twin-' "$LAB_SCRATCH/$1/log/storage.jsonl" >"$out.storage"
    pid=$(cat "$out.pid")
    kill -TERM "$pid" 2>/dev/null
    for _ in $(seq 100); do
        [ -s "$out.json" ] && break
        sleep 0.1
    done
    [ -s "$out.json" ] && equal "$(jq -r .verdict "$out.json")" ok || {
        cat "$out.json"
        return 1
    }
}

# witness_value LAB FILTER
witness_value() {
    jq -r "$2" "$LAB_SCRATCH/$1-witness.json"
}

vm_answers() { # LAB MORE-THAN
    [ "$(awk '{print $1}' "$LAB_SCRATCH/$1-witness.progress")" -gt "$2" ]
}

# As vm_acked, of an answer that was given after this was called.
vm_acked_now() { # LAB
    wait_for 10 vm_answers "$1" "$(($(awk '{print $1}' "$LAB_SCRATCH/$1-witness.progress") + 1))" && vm_acked "$1"
}

# The guest answers still, and has acknowledged nothing more.
stands() { # LAB ACKED
    equal "$(vm_acked_now "$1")" "$2"
}

# Every acknowledged record is on the disk image
disk_is_whole() { # LAB
    "$builddir/tests/guest/witness" check-disk "$(vm_shared "$1")/web1/disk0.img" \
        --acked "$(witness_value "$1" .max_acked)"
}

# Of protected VMs, for the t_ft*.sh: web1 of the lab $L.
# shellcheck disable=SC2154
says() { # TEXT COMMAND...: it is refused with these words
    local text=$1
    shift
    "$@" >"$LAB_SCRATCH/out" 2>&1
    grep -q -- "$text" "$LAB_SCRATCH/out" || { cat "$LAB_SCRATCH/out"; return 1; }
}
# shellcheck disable=SC2086,SC2154
show() { gemel_at $L "$1" vm show web1 --json | jq -r "$2"; }
# shellcheck disable=SC2086,SC2154
explains() { gemel_at $L "$1" explain web1 | grep -q -- "$2"; }
# shellcheck disable=SC2086,SC2154
guest_goes_on() { # ACKED
    check "the guest goes on" wait_for 20 goes_on $L "$1" || gemel_at $L n3 events | tail -n 20 | sed 's/^/# /'
}

# web1 of the lab $L, on machine lockstep, with its mirrored disk at $DISK.
# shellcheck disable=SC2086,SC2154
define_mirrored() {
    mkdir -p "$(vm_shared $L)/web1"
    cp "$builddir/tests/guest/pulse.rom" "$(vm_shared $L)/pulse.rom"
    cat >"$(vm_shared $L)/web1.yaml" <<YAML
name: web1
memory: 32MiB
machine: lockstep
boot: {firmware: /srv/gemel/pulse.rom, cmdline: "ip=$VM_IP rate=20"}
disks: [{path: $DISK, serial: web1, mirrored: true}]
nics: [{mac: "$VM_MAC"}]
ha: {start_timeout: 20s, stop_timeout: 10s}
ft: {suspect: 300ms}
YAML
    gemel_at $L n1 vm apply -f /srv/gemel/web1.yaml
}
