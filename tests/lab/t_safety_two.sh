#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Safety, five nodes: two nodes with VMs are lost at once; both are fenced, both VMs move, and a third VM's node does not
# notice. And: the node that executes a fence request is lost itself.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/vm.sh"
. "$(dirname "$0")/safety.sh"
# shellcheck disable=SC2034 # read by safety.sh
ALL=(n1 n2 n3 n4 n5)
# shellcheck disable=SC2034
VMS=2

# A second guest, that nobody watches from outside
second_vm() {
    local shared
    shared=$(vm_shared "$L")
    mkdir -p "$shared/web2"
    truncate -s 64M "$shared/web2/disk0.img"
    cat >"$shared/web2.yaml" <<YAML
name: web2
memory: 32MiB
machine: lockstep
boot: {firmware: /srv/gemel/pulse.rom, cmdline: "ip=10.77.200.2 rate=20"}
disks: [{path: disk0.img, serial: web2}]
nics: [{mac: "52:54:00:77:c8:02"}]
ha: {start_timeout: 20s, stop_timeout: 10s, anti_affinity: [web1]}
YAML
    gemel_at "$L" n1 vm apply -f /srv/gemel/web2.yaml && gemel_at "$L" n1 vm start web2 --timeout 30s
}

owner2() {
    local node
    for node in $(nodes_on); do
        if gemel_at "$L" "$node" status --json |
            jq -re 'select(.quorate) | .vms[] | select(.name == "web2" and .state == "running").node'; then
            return
        fi
    done
    return 1
}

both_moved() { # FROM1 FROM2
    local a b
    a=$(vm_owner) && b=$(owner2) && not equal "$a" "$1" && not equal "$b" "$2"
}

case_two_lost() {
    local a b how
    a=$(vm_owner)
    b=$(owner2)
    check "two lost $1: the VMs are apart" not equal "$a" "$b"
    rnd 0 1
    how=$R
    rnd_sleep 0 500
    if [ "$how" = 0 ]; then
        check "two lost $1: power of $a off" lab "$L" power "$a" off
        rnd_sleep 0 700
        check "two lost $1: and of $b" lab "$L" power "$b" off
    else
        check "two lost $1: $a is cut off" lab "$L" link "$a" down
        rnd_sleep 0 700
        check "two lost $1: and $b" lab "$L" link "$b" down
    fi
    check "two lost $1: both VMs run elsewhere" wait_for 60 both_moved "$a" "$b"
    check "two lost $1: $a is off" power_is "$L" "$a" off
    check "two lost $1: $b is off" power_is "$L" "$b" off
    check "two lost $1: it answers" wait_for 20 answers_again "$L"
}

executor_of() { # ASKED TARGET
    gemel_at "$L" "$1" status --json | jq -re ".proofs[] | select(.node == \"$2\").executor | select(. != \"\")"
}

case_executor_lost() {
    local a other executor
    a=$(vm_owner)
    other=$(a_node_but "$a" "$(owner2)")
    lab "$L" bmc "$a" hang
    check "executor lost $1: $a is cut off" lab "$L" link "$a" down
    check "executor lost $1: somebody fences it" wait_for 30 executor_of "$other" "$a"
    executor=$(executor_of "$other" "$a")
    rnd_sleep 0 1500
    check "executor lost $1: $executor loses its power" lab "$L" power "$executor" off
    lab "$L" bmc "$a" ok
    check "executor lost $1: the VM runs elsewhere" wait_for 60 moved_1 "$a"
    check "executor lost $1: $a is off" power_is "$L" "$a" off
    check "executor lost $1: web2 runs" wait_for 60 owner2
    check "executor lost $1: it answers" wait_for 20 answers_again "$L"
}

moved_1() {
    local a
    a=$(vm_owner) && not equal "$a" "$1"
}

safety_begin
check "a second VM" second_vm
for name in ${CASES:-two_lost executor_lost}; do
    run_case "$name" 1
done
safety_end
