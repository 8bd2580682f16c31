#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# shellcheck disable=SC2154,SC2016 # builddir is of lib.sh; a variable of the inner shell
# What an administrator hears of a guest (it panicked), and of a node that has too few huge pages. The guest is tests/kvm/beat.S.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/vm.sh"
lab_begin
[ -c /dev/kvm ] || { echo "1..0 # SKIP no /dev/kvm"; exit 0; }
[ -e "$builddir/tests/kvm/beat.rom" ] || { echo "1..0 # SKIP tests/kvm/beat.rom is not built (make check-kvm)"; exit 0; }
L=gn
huge_nr=/proc/sys/vm/nr_hugepages
huge_taken=0
huge_give_back() {
    [ "$huge_taken" = 0 ] || echo $(($(cat "$huge_nr") - huge_taken)) >"$huge_nr"
    huge_taken=0
}
huge_take() { # PAGES
    local before
    before=$(cat "$huge_nr")
    huge_taken=$1
    echo $((before + $1)) >"$huge_nr"
    huge_taken=$(($(cat "$huge_nr") - before))
    [ "$huge_taken" = "$1" ]
}
trap 'lab_cleanup; huge_give_back' EXIT

define() { # HUGEPAGES
    cat >"$(vm_shared $L)/web1.yaml" <<YAML
name: web1
memory: 32MiB
hugepages: $1
machine: standard
boot: {firmware: /srv/gemel/beat.rom}
ha: {start_timeout: 20s, stop_timeout: 5s}
YAML
    gemel_at $L n1 vm apply -f /srv/gemel/web1.yaml
}
events() { gemel_at $L "$node" events --json | jq -r '.events[].text'; }
panic_told() { [ "$(events | grep -cx 'web1: guest panicked')" = "$1" ]; }
press() { # KEY: on the guest's console
    local path
    path=$(gemel_at $L "$node" vm console web1 --json | jq -r .socket)
    lab $L exec "$node" -- python3 -c 'import socket, sys, time
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
time.sleep(0.1)
s.sendall(sys.argv[2].encode())
time.sleep(0.3)' "$path" "$1"
}
shows_it() {
    gemel_at $L "$node" vm show web1 --json | jq -es --argjson now "$(date +%s%3N)" 'length == 1 and .[0].state == "running"
        and .[0].guest_event == "guest panicked" and (.[0].guest_event_t_ms - $now | fabs) < 60000'
}
text_says_when() { gemel_at $L "$node" vm show web1 | grep -A1 '^guest_event: *guest panicked' | grep -E '^  at: +20[0-9]+-[0-9]+-[0-9]+ [0-9:]+ '; }
too_few() {
    events | grep "web1: .*hugepages: 32 MiB of guest memory need 16 huge pages of 2 MiB, and [0-9]* are free on this host; .*sysctl vm.nr_hugepages="
}
in_huge_pages() { lab $L exec "$node" -- sh -c 'grep -A4 gemel-ram /proc/$(pgrep -x gemel-vmm)/smaps' | grep 'KernelPageSize: *2048 kB'; }

check "three nodes with agents" lab $L up
mkdir -p "$(vm_shared $L)/web1"
cp "$builddir/tests/kvm/beat.rom" "$(vm_shared $L)/beat.rom"
check "the VM is defined" define false
# Where KVM interprets guests, stock kernels do not run: that is said, not refused.
lacks=$("$builddir/gemel-vmm" --kvm-can | grep -cw not-sse)
start_says() { gemel_at $L n1 vm start web1 --timeout 30s >"$LAB_SCRATCH/said" && [ "$(grep -c 'running on .*, which lacks SSE instructions' "$LAB_SCRATCH/said")" = "$lacks" ]; }
check "the VM starts, and it is said whether SSE is lacking ($lacks)" start_says
node=$(vm_node $L n1)
same_word() { [ "$(gemel_at $L "$node" explain web1 | grep -c 'lacks SSE instructions, so no stock kernel')" = "$lacks" ]; }
check "as explain does" same_word
check "the panic key" press p
check "its panic is an event" wait_for 10 panic_told 1
check "vm show says it, with the time; it runs on" shows_it
check "as text, too" text_says_when
check "a log line" grep -rq 'web1: guest panicked' "$LAB_SCRATCH/$L"
press p
sleep 1
check "the next ones wait" panic_told 1
check "and are told" wait_for 15 panic_told 2
check "the VM is killed" gemel_at $L "$node" vm kill web1 --yes --timeout 30s

if [ "$(awk '/^HugePages_Free/ { print $2 }' /proc/meminfo)" = 0 ] && [ -w "$huge_nr" ]; then
    check "in huge pages" define true
    gemel_at $L "$node" vm start web1 --node "$node" --timeout 10s >/dev/null 2>&1
    check "a node without says how many it needs" wait_for 20 too_few
    if huge_take 16; then
        check "with them it starts" gemel_at $L "$node" vm start web1 --node "$node" --timeout 30s
        check "and runs" wait_for 10 vm_is $L "$node" running
        node=$(vm_node $L "$node")
        check "in huge pages" in_huge_pages
    fi
    check "the VM is killed" gemel_at $L "$node" vm kill web1 --yes --timeout 30s
fi
check "down leaves nothing" lab $L down
huge_give_back
tap_end
