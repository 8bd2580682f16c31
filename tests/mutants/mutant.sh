# SPDX-License-Identifier: Apache-2.0
# What the lab checks of mutants share. Sourced after lib.sh, vm.sh and safety.sh. `must` is what has to work before
# anything can be judged; only `oracle` kills a mutant (tests/mutants/run looks for its line).
# shellcheck shell=bash

must() {
    check "$@" || safety_abandon
}

oracle() {
    local what=$1
    shift
    check "oracle: $what" "$@"
}

# oracle_witness WHAT: a witness that was blind judges nothing
oracle_witness() {
    witness_end "$L" >/dev/null
    must "the witness saw enough to judge" not equal "$(witness_value "$L" .verdict)" blind
    oracle "$1" equal "$(witness_value "$L" .verdict)" ok
}

mutant_begin() {
    lab_begin
    [ -c /dev/kvm ] || {
        echo "1..0 # SKIP no /dev/kvm"
        exit 0
    }
    must "three nodes with agents" lab "$L" up
    must "the VM is defined" vm_define "$L"
}

mutant_end() {
    must "down leaves nothing" lab "$L" down
    tap_end
}
