#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The command line against the real thing: what `cluster init` writes starts a real Corosync, a real gemeld answers, and
# every bad definition is refused with file, line and remedy, changing nothing. One node in namespaces of its own; all
# of it ends with the first process in there.
# shellcheck disable=SC1091 # the library is found at run time
# shellcheck source=tests/lab/lib.sh
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"

if [ -z "${CLI_TEST_INSIDE:-}" ]; then
    lab_begin
    builddir=$(cd "$builddir" && pwd) || exit 1
    export builddir CLI_TEST_INSIDE=1
    unshare --net --mount --pid --fork --kill-child --mount-proc bash "$here/$(basename "$0")"
    exit
fi

mount --make-rprivate / || exit 1
T=$LAB_SCRATCH # never over /tmp: what is tested may have been built there
for dir in /dev/shm /run /var/lib/corosync "$T"; do
    mount -t tmpfs tmpfs "$dir" || { echo "Bail out! cannot mount a tmpfs on $dir"; exit 1; }
done
ip link set lo up
cd "$T" || exit 1
mkdir root state run log
PATH="$builddir:$PATH"

cat >cluster.yaml <<E
cluster:
  name: solo
  nodes: [{name: n1, id: 1, addr: 127.0.0.1}]
  insecure_lab: true
E
cat >node.yaml <<E
node: {name: n1, vmroot: $T/root, state_dir: $T/state, run_dir: $T/run, log_dir: $T/log, memory: 128MiB}
E
# vm NAME MEMORY MAC [LINE]: a definition in NAME.yaml, and its disk
vm() {
    mkdir -p "root/$1"
    truncate -s 1M "root/$1/disk0.img"
    cat >"$1.yaml" <<E
name: $1
memory: $2
boot: {firmware: /etc/passwd}
disks:
  - {path: disk0.img}
nics:
  - {mac: "$3"}
E
    [ $# -lt 4 ] || echo "$4" >>"$1.yaml"
}

records() {
    gemel vm list --json | jq -c '[.vms[] | del(.since_ms)]'
    gemel vm show web1 --yaml
}

# refused WANTED FILE: vm apply of FILE fails with this message, and nothing has changed
refused() {
    local before after out rc=0
    before=$(records)
    out=$(gemel vm apply -f "$2" 2>&1) || rc=$?
    after=$(records)
    equal "$after" "$before" || return 1
    equal "$rc" 1 || return 1
    case $out in
    *"$1"*) ;;
    *)
        echo "says: $out"
        echo "not:  $1"
        return 1
        ;;
    esac
}

status_rc() {
    rc_is "$1" timeout 10 gemel status
}

# typed TEXT COMMAND...: with TEXT on its standard input
typed() {
    local text=$1
    shift
    printf '%s' "$text" | "$@"
}

shows() {
    local wanted=$1
    shift
    "$@" 2>&1 | grep -F -- "$wanted"
}

check_rc 7 "no agent: exit 7" gemel status
check "cluster init" gemel cluster init -f cluster.yaml --node n1 --dir "$T/etc"
corosync -f -c "$T/etc/corosync/corosync.conf" >corosync.log 2>&1 &
corosync=$!
check "Corosync takes what was written, and is quorate" wait_for 20 shows "Quorate:          Yes" corosync-quorumtool -s
gemeld --config node.yaml >gemeld.log 2>&1 &
gemeld=$!
check "the agent answers: degraded, no definition yet" wait_for 20 status_rc 1
check_rc 3 "no cluster definition to show" gemel cluster show
check "cluster apply" gemel cluster apply -f cluster.yaml
gemel cluster show --yaml >shown.yaml
check "cluster show gives it back" diff cluster.yaml shown.yaml
check "cluster apply again" gemel cluster apply -f cluster.yaml
check "node list shows the node and its memory" shows 128MiB gemel node list

vm web1 64MiB 52:54:00:00:00:01
check "dry run" gemel vm apply -f web1.yaml --dry-run
check_rc 3 "a dry run defines nothing" gemel vm show web1
check "vm apply" gemel vm apply -f web1.yaml
gemel vm show web1 --yaml >shown.yaml
check "vm show gives it back" diff web1.yaml shown.yaml
check "defined, and not started" shows stopped gemel vm list

sed 's/memory/memroy/' web1.yaml >bad.yaml
check "unknown key" refused "bad.yaml:2: memroy: unknown key; did you mean memory?" bad.yaml
sed 's/64MiB/[1]/' web1.yaml >bad.yaml
check "wrong type" refused "bad.yaml:2: memory: is a list where a size is expected; write for example 512MiB" bad.yaml
sed '2a cpus: 0' web1.yaml >bad.yaml
check "no vCPU" refused "bad.yaml:3: cpus: 0 is out of range; write something from 1 to 64" bad.yaml
sed 's/64MiB/64MiBx/' web1.yaml >bad.yaml
check "trailing junk" refused "bad.yaml:2: memory: 64MiBx has an unknown unit" bad.yaml
sed 's/disk0/disk9/' web1.yaml >bad.yaml
check "missing disk" refused "bad.yaml:5: disks[0].path: $T/root/web1/disk9.img does not exist; create it" bad.yaml
sed 's/64MiB/256MiB/' web1.yaml >bad.yaml
check "memory beyond the node" refused \
    "bad.yaml:2: memory: 256MiB is more than any node has for VMs; write at most 128MiB (n1)" bad.yaml
vm web2 64MiB 52:54:00:00:00:01
check "duplicate MAC" refused \
    "web2.yaml:7: nics[0].mac: 52:54:00:00:00:01 is also used by VM web1; write another one" web2.yaml
vm web1 64MiB 52:54:00:00:00:01 "uuid: 00000000-0000-4000-8000-000000000001"
check "duplicate name" refused "web1.yaml:1: name: web1 is the name of another VM, with uuid" web1.yaml
vm web2 64MiB 52:54:00:00:00:02 "ha: {restart: {max: 1, max: 2}}"
check "duplicate key" refused "web2.yaml:8: max: is written twice" web2.yaml
check "a cluster is no VM" refused "cluster.yaml defines a cluster; gemel cluster apply takes it" cluster.yaml

# Every verb of the command is one of the agent: none is answered with "wrong usage" (exit 2).
knows_every_verb() {
    local verb rc failed=0
    for verb in "node fence" "node confirm-off" "vm show" "vm start" "vm stop" "vm kill" "vm delete" "vm console" \
        "vm retry" "vm suspend" "vm resume" "vm snapshot" "vm snapshots" "explain"; do
        rc=0
        # shellcheck disable=SC2086 # two words
        gemel $verb nosuch --yes --reason test --timeout 3s || rc=$?
        [ "$rc" = 3 ] || { echo "$verb of what is not there: exit $rc, not 3"; failed=1; }
    done
    for verb in "vm revert" "vm clone" "vm snapshot-delete" "vm balloon"; do
        rc=0
        # shellcheck disable=SC2086
        gemel $verb nosuch other --yes --timeout 3s || rc=$?
        [ "$rc" = 3 ] || { echo "$verb of what is not there: exit $rc, not 3"; failed=1; }
    done
    for verb in "status" "cluster show" "node list" "vm list" "events"; do
        rc=0
        # shellcheck disable=SC2086
        gemel $verb --timeout 3s || rc=$?
        [ "$rc" != 2 ] || { echo "$verb: exit 2"; failed=1; }
    done
    [ "$failed" = 0 ]
}
check "the agent knows every verb" knows_every_verb
check_rc 3 "no such VM" gemel vm start nosuch
check_rc 3 "no such node" gemel node fence nosuch --yes
check_rc 3 "nothing to explain" gemel explain nosuch
check "explain" shows "web1" gemel explain web1
check "the definition is in the events" shows "web1" gemel events
check_rc 4 "delete is not done without the name" typed "" gemel vm delete web1
check_rc 4 "nor with another one" typed "web2" gemel vm delete web1
check "it is still there" gemel vm show web1
check "delete with the name" typed "web1" gemel vm delete web1
check_rc 3 "now it is gone" gemel vm show web1

# CPU models: what this node has is a baseline of one node; a VM with more than that is not placed.
gemel cluster cpu-baseline >baseline.txt
check "the node's CPU model is known" shows "# n1 loses" cat baseline.txt
{
    cat cluster.yaml
    grep -v '^#' baseline.txt
    echo '    - name: rich'
    grep -m 1 '      model:' baseline.txt | sed 's/features=/features=amx_tile,keylocker,/'
} >models.yaml
check "the baseline can be named in the cluster definition" gemel cluster apply -f models.yaml
cpu_vm() { # NAME MODEL MAC
    vm "$1" 32MiB "$3" "machine: standard
cpu: $2"
    gemel vm apply -f "$1.yaml" && gemel vm start "$1" --timeout 3s
    gemel vm list | grep -F "$1"
}
says() {
    local wanted=$1
    shift
    "$@" >said 2>&1
    grep -F -- "$wanted" said || { cat said; return 1; }
}
check "a model that no node has: what is missing is said" \
    says "no node can take it: CPU model rich: n1 lacks keylocker, amx_tile" cpu_vm web3 rich 52:54:00:00:00:03
check_rc 4 "and nobody waits for it" gemel vm start web3 --timeout 60s
vm web4 32MiB 52:54:00:00:00:04 "machine: standard
cpu: baselin"
misspelt="web4.yaml:9: cpu: CPU model baselin is not in the cluster definition (cpu_models); did you mean baseline?"
check "a model that the cluster does not define: config check, in any order" says "$misspelt" \
    gemel config check web4.yaml models.yaml
check_rc 1 "is an error" gemel config check models.yaml web4.yaml
check "without the cluster it cannot be known" gemel config check web4.yaml
check "vm apply refuses it" says "$misspelt" gemel vm apply -f web4.yaml
check_rc 3 "and defines nothing" gemel vm show web4
# A model that is taken out of the cluster definition afterwards.
check "a model that is dropped later" gemel cluster apply -f cluster.yaml
check "start says so at once" says "CPU model rich is not in the cluster definition (cpu_models)" \
    timeout 10 gemel vm start web3
check_rc 4 "as a refusal" gemel vm start web3
check "and is back" gemel cluster apply -f models.yaml
check "--node says it too" says "n1 cannot be CPU model rich: lacks keylocker, amx_tile" gemel vm start web3 --node n1
# And a nic with two queue pairs: one tap on its bridge, two open files, both the VMM's.
ip link add br0 type bridge && ip link set br0 up
vm web5 32MiB 52:54:00:00:00:05 "machine: standard
cpu: baseline"
sed -i 's/{mac: "52:54:00:00:00:05"}/{mac: "52:54:00:00:00:05", bridge: br0, queues: 2}/; s#/etc/passwd#'"$builddir/tests/kvm/beat.rom"'#' web5.yaml
check "the baseline, and a nic with two queues" gemel vm apply -f web5.yaml
check "start where the node has the model" gemel vm start web5 --timeout 20s
check "both queues of its tap are open" shows "numqueues 2 " ip -d link show master br0
check "the balloon is asked for" gemel vm balloon web5 8MiB
check "and shown" wait_for 5 shows "balloon_target_mib: 8" gemel vm show web5
check_rc 4 "not for all its memory" gemel vm balloon web5 32MiB
check_rc 4 "nor of a VM that does not run" gemel vm balloon web3 8MiB
check_rc 2 "nor without a unit" gemel vm balloon web5 8
# One that waits says what for: there is no memory for it beside the other.
vm web6 112MiB 52:54:00:00:00:06
check "one that waits for memory" gemel vm apply -f web6.yaml
no_room="no node can take it: it needs 112 MiB, the most free is 96 MiB"
check "says so when the time is over" says "$no_room" gemel vm start web6 --timeout 2s
check "and on Ctrl-C" says "web6: $no_room" timeout -s INT 2 gemel vm start web6
check "not wanted any more" gemel vm stop web6 --timeout 5s
check "a running VM is not cloned, and that is said" says "web5: runs on n1; clone a snapshot of it, or stop it first" \
    gemel vm clone web5 web7
# It stood still for a snapshot, and nobody was away.
thaw_events() {
    gemel events | grep -F "web5: starting: " | tail -n 1 | tee thawed
    grep -F "snapshot s1" thawed | grep -F "thawing by the next claim" && ! grep -F "quorate view" thawed
}
check "a snapshot of a running VM" gemel vm snapshot web5 --name s1 --timeout 60s
check "its event says what froze it" thaw_events
check "killed" gemel vm kill web5 --timeout 20s
# JSON: no node is "", not a name that is none; a claim that was given back is nobody's.
vm_json() {
    gemel vm show "$1" --json | jq -re "$2"
}
check "a VM without a node has none" equal "$(gemel vm list --json | jq -c '[.vms[] | select(.state == "stopped").node] | unique')" '[""]'
check "shown as -" shows "node:        -" gemel vm show web5
check "its claim is released" equal "$(vm_json web5 '.claim | sub("[0-9]+"; "N")')" "owner.N: released"
check "never claimed: no claim" equal "$(vm_json web6 .claim)" ""
# This node has no such bridge: with --node the order ends with the node's own words, and the VM where it was.
vm web8 32MiB 52:54:00:00:00:08
sed -i 's/{mac: "52:54:00:00:00:08"}/{mac: "52:54:00:00:00:08", bridge: nosuch0}/' web8.yaml
check "one that cannot start" gemel vm apply -f web8.yaml
check "--node: there or not at all" says "web8: not started on n1: bridge nosuch0: No such device" timeout 60 gemel vm start web8 --node n1
check_rc 1 "that is a failure" timeout 60 gemel vm start web8 --node n1
check "it is stopped, and not tried again" equal "$(vm_json web8 '.state + " " + .desired')" "stopped stopped"

kill -STOP "$gemeld"
check_rc 7 "an agent that hangs: exit 7, not for ever" timeout 20 gemel status
kill -CONT "$gemeld"
check "it answers again" wait_for 20 status_rc 1
kill "$corosync"
wait "$corosync"
check "without Corosync: no quorum, exit 6" wait_for 20 status_rc 6
kill "$gemeld"
wait "$gemeld"
check_rc 7 "without the agent: exit 7" gemel status
if [ "${tap_failed:?}" -gt 0 ]; then
    tail -n 20 gemeld.log corosync.log | sed 's/^/# /'
fi
tap_end
