#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# shellcheck disable=SC2154 # builddir is of lib.sh
# What an operator reads who moves VMs: refusals and their exit codes, the result as JSON, what of a definition is pending, a drain
# that cannot go on, a migration that does not converge and the options that it names, a node that is lost on the way.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/vm.sh"
lab_begin
[ -c /dev/kvm ] || { echo "1..0 # SKIP no /dev/kvm"; exit 0; }
L=mt
VM_KNOBS="dirty=2000:16 filled"
OUT=$LAB_SCRATCH/out

check "three nodes with agents" lab $L up
check "the VM is defined" vm_define $L
check "the VM starts" gemel_at $L n2 vm start web1 --node n1 --timeout 30s

# says RC WORDS ARGUMENTS...: gemel on n3 ends with RC, and prints WORDS (an extended regular expression)
says() {
    local want=$1 words=$2 rc=0
    shift 2
    gemel_at $L n3 "$@" >"$OUT" 2>&1 || rc=$?
    [ "$rc" = "$want" ] && grep -Eq -- "$words" "$OUT" || {
        echo "exit $rc, not $want; or without: $words"
        cat "$OUT"
        return 1
    }
}
runs_at() { vm_runs_on $L n3 "$1"; }

# Before it is done
check "a dry run says from where to where" says 0 'migrating from n1 to n2 \(32 MiB' vm migrate web1 n2 --dry-run
check "and does nothing" runs_at n1
check "a downtime out of range names the range" says 2 '21ms to 1m \(default 300ms\)' vm migrate web1 --downtime 5ms
check "a slowdown" says 2 '0 to 90' vm migrate web1 --max-slowdown 30%
check "a rate" says 2 '64KiB or more' vm migrate web1 --rate 10
check "a timeout" says 2 '1ms to' vm migrate web1 --timeout 0s
check "help has the defaults" says 0 '21ms to 1m \(default' vm migrate -h

# The result
json_result() {
    gemel_at $L n3 vm migrate web1 n2 --verify --json --timeout 60s >"$OUT" 2>/dev/null || return 1
    jq -e '.changed and .from == "n1" and .to == "n2" and .bytes > 1000000 and .rounds >= 1 and .verified and
           .total_ms > 0 and .downtime_ms > 0 and .downtime_ms <= .total_ms + 1000' "$OUT"
}
check "the result as JSON" json_result
check "where it is already, nothing is changed" says 0 '"changed":false' vm migrate web1 n2 --json

# A definition that waits for the next start
sed 's/32MiB/48MiB/' "$(vm_shared $L)/web1.yaml" >"$(vm_shared $L)/other.yaml"
check "another size is defined" says 0 'from the next start hold: memory: 32MiB -> 48MiB' vm apply -f /srv/gemel/other.yaml
check "vm show marks it" says 0 '^pending: .*memory: 32MiB -> 48MiB' vm show web1
check "and has what runs" says 0 '^running as:' vm show web1
check "it would move as it runs" says 0 '32 MiB of memory' vm migrate web1 n3 --dry-run
check "a drain is not held up" says 0 'nothing runs there' node maintenance n2 on --timeout 60s
check "it has left" not runs_at n2
check "the change still waits" says 0 '^pending: .*memory: 32MiB -> 48MiB' vm show web1
check "as it runs, it is defined again" says 0 'definition changed' vm apply -f /srv/gemel/web1.yaml
check "nothing waits" not says 0 '^pending: ' vm show web1
check "maintenance off returns when it is home" says 0 'its VMs are back' node maintenance n2 off --timeout 60s
check "it is" runs_at n2

# No node is left
check "n1 in maintenance" says 0 'nothing runs there' node maintenance n1 on
check "n3 as well" says 0 'nothing runs there' node maintenance n3 on
check "n2 cannot be emptied" says 5 'no other node takes it: n1 is in maintenance; n3 is in maintenance' node maintenance n2 on --timeout 1s
check "status is degraded by it" says 1 'cannot leave n2' status
check "nowhere to go, with the reasons" says 4 'n1 is in maintenance; n3 is in maintenance' vm migrate web1
check "maintenance is over" says 0 'no VM was away' node maintenance n2 off
check "and status healthy" says 0 healthy status
# Who waits for a drain hears that somebody else has ended it.
gemel_at $L n3 node maintenance n2 on --timeout 30s >"$OUT.on" 2>&1 &
waits=$!
check "n2 is asked to empty itself" wait_for 5 grep -q '0 of 1' "$OUT.on"
check "and left alone" says 0 'maintenance is over' node maintenance n2 off
wait $waits
check "the first hears of it" equal $? 1
check "in words" grep -q 'maintenance was ended by somebody else' "$OUT.on"
check "n1 is back" says 0 'maintenance is over' node maintenance n1 off
check "n3 is back" says 0 'maintenance is over' node maintenance n3 off

# Verbs while it moves
check "a slow one begins" says 0 'migrating from n2 to n1' vm migrate web1 n1 --rate 1MiB --no-compress --no-wait
for verb in start retry stop suspend resume snapshot delete; do
    check "vm $verb while it moves: what to do" says 4 'being migrated from n2 to n1.*gemel vm migrate web1 --cancel' vm $verb web1 --yes
done
check "it is called off" says 0 cancelled vm migrate web1 --cancel --timeout 20s

# It does not converge, says what would do, and that does
check "too low a rate" says 1 'does not converge.*--rate gave .*would do: .*--downtime [0-9]+ms.*--rate [0-9]+MiB' vm migrate web1 n1 --rate 4MiB --no-compress --timeout 60s
few_lines() { [ "$(grep -c 'n2 -> n1' "$OUT")" -ge 2 ] && [ "$(grep -c 'n2 -> n1' "$OUT")" -le 13 ]; }
check "a line now and then into a pipe" few_lines
rate=$(grep -Eo -- '--rate [0-9]+MiB' "$OUT" | tail -n 1)
downtime=$(grep -Eo -- '--downtime [0-9]+ms' "$OUT" | tail -n 1)
sed 's/^/# /' "$OUT"
# shellcheck disable=SC2086 # two words
check "with $downtime it moves" says 0 'migrated from n2 to n1' vm migrate web1 n1 --rate 4MiB $downtime --no-compress --timeout 60s
check "and back" says 0 'migrated from n1 to n2' vm migrate web1 n2 --timeout 60s
# shellcheck disable=SC2086 # two words
check "with $rate it moves" says 0 'migrated from n2 to n1' vm migrate web1 n1 $rate --no-compress --timeout 60s

# Its node is lost on the way
lose_source() {
    gemel_at $L n3 vm migrate web1 n2 --rate 4MiB --no-compress --timeout 60s >"$OUT" 2>&1 &
    local pid=$! rc=0
    sleep 1
    lab $L power n1 off
    wait $pid || rc=$?
    sed 's/^/# /' "$OUT"
    [ "$rc" = 1 ] && grep -q 'not migrated: .*; HA \(restarts it: n1 is dead\|has restarted it on\)' "$OUT"
}
check "the waiting one hears that HA restarts it, and where" lose_source
check "it does" wait_for 20 vm_is $L n3 running
check "the VM stops" gemel_at $L n3 vm stop web1 --timeout 30s

# Deleted and defined again: the claims of the deleted one stand in the way only where it is not proven gone
check "it is deleted" gemel_at $L n3 vm delete web1 --yes
check "and defined again" gemel_at $L n3 vm apply -f /srv/gemel/web1.yaml
check "it starts" gemel_at $L n3 vm start web1 --timeout 20s
highest() { (cd "$(vm_shared $L)/web1" && printf '%s\n' owner.*) | sed -n 's/^owner\.\([0-9]*\)$/\1/p' | sort -n | tail -n 1; }
epoch() { gemel_at $L n3 vm show web1 --json | jq .epoch; }
check "in the same row of claims" equal "$(epoch)" "$(highest)"
cp -r "$(vm_shared $L)/web1" "$(vm_shared $L)/web2"
sed 's/name: web1/name: web2/; s/c8:01/c8:02/' "$(vm_shared $L)/web1.yaml" >"$(vm_shared $L)/web2.yaml"
check "a copy of its directory is defined" gemel_at $L n3 vm apply -f /srv/gemel/web2.yaml
check "and does not start, for the original is there" says 1 'of another VM.*that VM is defined: web1' vm start web2 --timeout 20s
check "not wanted any more" gemel_at $L n3 vm stop web2 --timeout 20s
check "the original is suspended" gemel_at $L n3 vm suspend web1 --timeout 30s
check "and deleted" gemel_at $L n3 vm delete web1 --yes
check "and defined again" gemel_at $L n3 vm apply -f /srv/gemel/web1.yaml
check "its state is not lost unasked" says 1 "deleted VM's.*suspended state would be lost" vm start web1 --timeout 20s
check "it is stopped" gemel_at $L n3 vm stop web1 --timeout 20s
check "asked, it boots" gemel_at $L n3 vm start web1 --discard-state --timeout 20s
check "the VM stops" gemel_at $L n3 vm stop web1 --timeout 30s
check "and starts, by its own claims" gemel_at $L n3 vm start web1 --timeout 20s
check "the VM stops" gemel_at $L n3 vm stop web1 --timeout 30s
# As if its release had failed: nothing proves that it is gone
check "it is deleted" gemel_at $L n3 vm delete web1 --yes
rm "$(vm_shared $L)/web1/owner.$(highest).released"
check "and defined again" gemel_at $L n3 vm apply -f /srv/gemel/web1.yaml
check "it does not start where the deleted one may run" says 1 "deleted VM's.*not proven dead" vm start web1 --timeout 20s
check "down leaves nothing" lab $L down
tap_end
